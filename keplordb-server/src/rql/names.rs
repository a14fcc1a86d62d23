//! How queries and tables name entity types: by the type's name, or by its singular or plural in `snake_case`.

use thiserror::Error;

/// Why a name says no entity type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// No type has this name.
    #[error("{name:?} is no entity type; {}", known(types))]
    Unknown {
        /// The name.
        name: String,
        /// The names of all types.
        types: Vec<String>,
    },
    /// Several types have this name.
    #[error("{name:?} may be {}; write the type's name as the schema has it", candidates.join(" or "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The names of these types.
        candidates: Vec<String>,
    },
}

fn known(types: &[String]) -> String {
    if types.is_empty() { "there is none yet".to_owned() } else { format!("there are {}", types.join(", ")) }
}

/// The name of a type in `snake_case`.
///
/// ```
/// use keplordb_server::rql::singular;
///
/// assert_eq!(singular("OrderItem"), "order_item");
/// assert_eq!(singular("HTTPServer2"), "http_server2");
/// ```
pub fn singular(type_name: &str) -> String {
    let chars: Vec<char> = type_name.chars().collect();
    let mut name = String::with_capacity(type_name.len() + 4);
    for (index, next) in chars.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| chars[before]);
        let after = chars.get(index + 1);
        // A word begins at a capital after what is none, and at the last of several capitals where a word follows it.
        let begins = next.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_ascii_uppercase() && after.is_some_and(char::is_ascii_lowercase))
            });
        if begins {
            name.push('_');
        }
        name.push(next.to_ascii_lowercase());
    }
    name
}

/// The plural of a type's name in `snake_case`, by the three rules of regular English nouns; tables are named so.
///
/// ```
/// use keplordb_server::rql::plural;
///
/// assert_eq!(plural("OrderItem"), "order_items");
/// assert_eq!(plural("Category"), "categories");
/// assert_eq!(plural("Address"), "addresses");
/// assert_eq!(plural("Person"), "persons");
/// ```
pub fn plural(type_name: &str) -> String {
    let name = singular(type_name);
    if let Some(stem) = name.strip_suffix('y')
        && stem.ends_with(|last: char| last.is_ascii_alphabetic() && !"aeiou".contains(last))
    {
        return format!("{stem}ies");
    }
    if ["s", "x", "z", "ch", "sh"].iter().any(|ending| name.ends_with(ending)) {
        name + "es"
    } else {
        name + "s"
    }
}

/// The type that a name means: a type's name exactly as it is; else one whose name, singular or plural it is, in upper and lower
/// case alike.
///
/// # Errors
/// [`Unknown`](NameError::Unknown) and [`Ambiguous`](NameError::Ambiguous), which say what types there are.
///
/// ```
/// use keplordb_server::rql::resolve;
///
/// let types = ["OrderItem", "User"];
/// for name in ["OrderItem", "orderitem", "order_item", "Order_Items"] {
///     assert_eq!(resolve(name, types), Ok("OrderItem"));
/// }
/// assert_eq!(
///     resolve("orders", types).unwrap_err().to_string(),
///     r#""orders" is no entity type; there are OrderItem, User"#
/// );
/// ```
pub fn resolve<'a>(
    name: &str,
    types: impl IntoIterator<Item = &'a str>,
) -> std::result::Result<&'a str, NameError> {
    let types: Vec<&str> = types.into_iter().collect();
    if let Some(exact) = types.iter().find(|candidate| **candidate == name) {
        return Ok(exact);
    }
    let means = |candidate: &&&str| {
        name.eq_ignore_ascii_case(candidate)
            || name.eq_ignore_ascii_case(&singular(candidate))
            || name.eq_ignore_ascii_case(&plural(candidate))
    };
    let candidates: Vec<&str> = types.iter().filter(means).copied().collect();
    let owned = |names: &[&str]| names.iter().copied().map(str::to_owned).collect();
    match candidates.as_slice() {
        [one] => Ok(one),
        [] => Err(NameError::Unknown { name: name.to_owned(), types: owned(&types) }),
        several => Err(NameError::Ambiguous { name: name.to_owned(), candidates: owned(several) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_are_regular() {
        let cases = [
            ("User", "user", "users"),
            ("OrderItem", "order_item", "order_items"),
            ("Category", "category", "categories"),
            ("Address", "address", "addresses"),
            ("Person", "person", "persons"),
            ("Day", "day", "days"),
            ("Box", "box", "boxes"),
            ("Branch", "branch", "branches"),
            ("Dish", "dish", "dishes"),
            ("HTTPServer", "http_server", "http_servers"),
            ("UserID", "user_id", "user_ids"),
            ("Version2Item", "version2_item", "version2_items"),
            ("order_item", "order_item", "order_items"),
            ("Y", "y", "ys"),
            ("", "", "s"),
        ];
        for (name, one, many) in cases {
            assert_eq!((singular(name).as_str(), plural(name).as_str()), (one, many), "{name}");
        }
    }

    #[test]
    fn a_name_means_one_type_or_says_which() {
        let types = ["User", "Users", "Category"];
        assert_eq!(resolve("Users", types), Ok("Users"));
        assert_eq!(resolve("user", types), Ok("User"));
        assert_eq!(resolve("userses", types), Ok("Users"));
        assert_eq!(resolve("CATEGORIES", types), Ok("Category"));
        assert_eq!(
            resolve("users", types).unwrap_err().to_string(),
            r#""users" may be User or Users; write the type's name as the schema has it"#
        );
        assert_eq!(
            resolve("posts", []).unwrap_err().to_string(),
            r#""posts" is no entity type; there is none yet"#
        );
    }
}
