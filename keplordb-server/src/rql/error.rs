//! What is wrong with a query, and where: a byte of the text, or a path into the JSON.

use std::fmt;

use thiserror::Error;

/// Where in a query something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The offset of a byte in the text, from 0; always the first byte of a character, or the text's end.
    Byte(usize),
    /// A path into the JSON: `$` is the query, `$.where.and[1].op` the operator of the second condition.
    Path(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(offset) => write!(f, "at byte {offset}"),
            Self::Path(path) => write!(f, "at {path}"),
        }
    }
}

/// Why a text or JSON is no query.
///
/// ```
/// use keplordb_server::rql::{Place, Query};
///
/// let error = Query::parse("entity:users limit:ten").unwrap_err();
/// assert_eq!(error.place, Place::Byte(19));
/// assert_eq!(error.to_string(), r#"at byte 19: found "ten", expected a whole number from 0"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: found {found}, expected {expected}")]
#[non_exhaustive]
pub struct RqlError {
    /// Where.
    pub place: Place,
    /// What stands there, cut where it is long.
    pub found: String,
    /// What may stand there.
    pub expected: String,
}

impl RqlError {
    pub(super) fn byte(offset: usize, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { place: Place::Byte(offset), found: found.into(), expected: expected.into() }
    }

    pub(super) fn path(path: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { place: Place::Path(path.to_owned()), found: found.into(), expected: expected.into() }
    }
}

/// What the two parsers give.
pub(super) type Result<T> = std::result::Result<T, RqlError>;
