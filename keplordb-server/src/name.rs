//! Which names of entity types and which ids of entities are taken.
//!
//! Type names become names of tables and files, so they are identifiers; ids never do, so they may hold any character that a
//! person can be shown.

use crate::error::{Refused, Result};

/// Longest name of a type, in bytes.
pub const MAX_TYPE_BYTES: usize = 63;
/// Longest id of an entity and of an event, in bytes.
pub const MAX_ID_BYTES: usize = 1024;

/// A letter, and then letters, digits and `_`.
pub(crate) fn check_type(name: &str) -> Result<()> {
    let mut chars = name.chars();
    let begins = chars.next().is_some_and(|first| first.is_ascii_alphabetic());
    if begins && name.len() <= MAX_TYPE_BYTES && chars.all(|next| next.is_ascii_alphanumeric() || next == '_')
    {
        return Ok(());
    }
    Err(Refused::invalid(
        "entity_type",
        format!("{} is no name of a type: a letter, then up to 62 letters, digits and _", shown(name)),
    ))
}

/// Any text that is not empty, not too long, and without control characters.
pub(crate) fn check_id(field: &'static str, id: &str) -> Result<()> {
    let why = if id.is_empty() {
        "it is empty".to_owned()
    } else if id.len() > MAX_ID_BYTES {
        format!("it has {} bytes, at most {MAX_ID_BYTES} are possible", id.len())
    } else if id.chars().any(char::is_control) {
        format!("{} has control characters", shown(id))
    } else {
        return Ok(());
    };
    Err(Refused::invalid(field, why))
}

/// A text as a message shows it: quoted, and cut where it is long.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 40;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_are_identifiers() {
        for name in ["User", "order_item", "A", "x9", &"T".repeat(MAX_TYPE_BYTES)] {
            assert!(check_type(name).is_ok(), "{name}");
        }
        for name in
            ["", "9a", "_a", "a-b", "a.b", "../a", "Ärger", "a\0", "a b", &"T".repeat(MAX_TYPE_BYTES + 1)]
        {
            assert!(check_type(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn ids_are_what_can_be_shown() {
        for id in [
            "user_123",
            "../../etc/passwd",
            "<script>alert(1)</script>",
            "🦀",
            "a/b c",
            &"x".repeat(MAX_ID_BYTES),
        ] {
            assert!(check_id("entity_id", id).is_ok(), "{id}");
        }
        for id in ["", "a\0b", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(MAX_ID_BYTES + 1)] {
            assert!(check_id("entity_id", id).is_err(), "{id:?}");
        }
    }
}
