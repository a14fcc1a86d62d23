//! Which type and which id an entity's name means, where they are not given apart.

use anyhow::{Result, bail};

/// The type of this name as it is registered, if it is, in upper or lower case.
pub(super) fn registered<'t>(name: &str, types: &'t [String]) -> Option<&'t str> {
    let same = types.iter().find(|known| *known == name);
    same.or_else(|| types.iter().find(|known| known.eq_ignore_ascii_case(name))).map(String::as_str)
}

/// The type and the id of a name: `Type/id` and `Type:id` say both. Otherwise the type is the longest beginning before a `_`, `-` or
/// `.` that is one of the types in upper or lower case, and the id the whole name: `user_123` is that `User`. Where no types are
/// known, any that is said is one.
pub(super) fn resolve(name: &str, types: &[String]) -> Result<(String, String)> {
    if let Some((before, id)) = name.split_once(['/', ':'])
        && !id.is_empty()
    {
        if let Some(known) = registered(before, types) {
            return Ok((known.to_owned(), id.to_owned()));
        }
        if types.is_empty() && is_identifier(before) {
            return Ok((before.to_owned(), id.to_owned()));
        }
    }
    for (end, _) in name.rmatch_indices(['_', '-', '.']) {
        if let Some(known) = registered(&name[..end], types) {
            return Ok((known.to_owned(), name.to_owned()));
        }
    }
    if types.is_empty() {
        bail!(
            "of which type {name:?} is cannot be told, as no types are known: write Type/id, or give the type and the id apart"
        );
    }
    bail!(
        "{name:?} begins with none of the types that there are, {}: write Type/id, or give the type and the id apart",
        types.join(", ")
    )
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_type_or_begins_with_it() {
        let types = ["Order", "Order_item", "User"].map(str::to_owned);
        for (name, entity_type, id) in [
            ("User/user_1", "User", "user_1"),
            ("user:a/b", "User", "a/b"),
            ("user_123", "User", "user_123"),
            ("USER-1.x", "User", "USER-1.x"),
            ("order_item_7", "Order_item", "order_item_7"),
            ("order_9", "Order", "order_9"),
            ("order_9/line:2", "Order", "order_9/line:2"),
        ] {
            let right = (entity_type.to_owned(), id.to_owned());
            assert_eq!(resolve(name, &types).unwrap(), right, "{name}");
        }
        for name in ["users_1", "user", "User/", "_user", "Invoice/1"] {
            let error = resolve(name, &types).unwrap_err().to_string();
            assert!(error.contains("Order, Order_item, User"), "{error}");
        }
    }

    #[test]
    fn where_no_types_are_known_a_name_says_its_own() {
        assert_eq!(resolve("Thing/1", &[]).unwrap(), ("Thing".to_owned(), "1".to_owned()));
        for name in ["user_1", "a-b/1", "/1", "User/"] {
            assert!(resolve(name, &[]).unwrap_err().to_string().contains("no types are known"), "{name}");
        }
    }
}
