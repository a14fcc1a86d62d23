//! How the directories of typed tables are called.

use std::collections::BTreeMap;

use crate::rql::plural;

/// The name of each type's directory: its plural, by which questions name the table too. Types that share a plural have their own names
/// behind it, all of them: which is which must not depend on the one that came first. No plural has a hyphen and no two types differ in
/// case only, so no two names are the same, also where a disk does not tell cases apart.
pub(super) fn names<'a>(types: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut by_plural: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for entity_type in types {
        by_plural.entry(plural(entity_type)).or_default().push(entity_type);
    }
    let mut names = BTreeMap::new();
    for (plural, types) in by_plural {
        for entity_type in &types {
            let name = match types.len() {
                1 => plural.clone(),
                _ => format!("{plural}-{}", entity_type.to_ascii_lowercase()),
            };
            names.insert((*entity_type).to_owned(), name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_share_a_plural_have_directories_of_their_own() {
        let types = ["User", "Box", "Boxe", "OrderItem", "order_item", "Users", "Userse"];
        let wanted = [
            ("Box", "boxes-box"),
            ("Boxe", "boxes-boxe"),
            ("OrderItem", "order_items-orderitem"),
            ("User", "users"),
            ("Users", "userses-users"),
            ("Userse", "userses-userse"),
            ("order_item", "order_items-order_item"),
        ];
        let found = names(types);
        let found: Vec<_> = found.iter().map(|(one, name)| (one.as_str(), name.as_str())).collect();
        assert_eq!(found, wanted);
        // Whatever their order is.
        let mut types = types;
        types.reverse();
        assert_eq!(
            names(types),
            names(["Box", "Boxe", "OrderItem", "User", "Users", "Userse", "order_item"])
        );
    }
}
