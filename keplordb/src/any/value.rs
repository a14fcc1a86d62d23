//! A value of any column, at run time.

use std::borrow::Cow;
use std::fmt;

use crate::event::EventFlags;

/// A value of a column: a number or a text.
///
/// Every number of a table fits an `i64`; what a column holds of it is its [`Kind`](crate::any::Kind).
///
/// ```
/// use keplordb::any::Value;
///
/// assert_eq!(Value::from(1200_u32), Value::Int(1200));
/// assert_eq!(Value::from("alice").as_text(), Some("alice"));
/// assert_eq!(format!("{} {}", Value::Int(-5), Value::from("alice")), "-5 alice");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value<'a> {
    /// A number.
    Int(i64),
    /// A text.
    Text(Cow<'a, str>),
}

impl Value<'_> {
    /// The number; `None` for a text.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Text(_) => None,
        }
    }

    /// The text; `None` for a number.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Int(_) => None,
            Self::Text(text) => Some(text),
        }
    }

    /// The value for itself, copied where it was borrowed.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Int(number) => Value::Int(number),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(out),
            Self::Text(text) => text.fmt(out),
        }
    }
}

macro_rules! from_numbers {
    ($($number:ty),+) => {$(
        impl From<$number> for Value<'_> {
            fn from(number: $number) -> Self {
                Self::Int(i64::from(number))
            }
        }
    )+};
}
from_numbers!(i64, i32, u32, u16, u8);

impl From<EventFlags> for Value<'_> {
    fn from(flags: EventFlags) -> Self {
        Self::Int(i64::from(flags.0))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl<'a> From<Cow<'a, str>> for Value<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a Value<'_>> for Value<'a> {
    fn from(value: &'a Value<'_>) -> Self {
        match value {
            Value::Int(number) => Self::Int(*number),
            Value::Text(text) => Self::Text(Cow::Borrowed(text)),
        }
    }
}
