//! An event: one line of the log.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::parsed_value;

/// How many levels of arrays and objects an event's data may have: the parser reads 127, of which the line itself is one.
const LEVELS_MAX: usize = 126;

/// Why a line is no event that is not UTF-8.
pub(crate) const NO_TEXT: &str = "it is not UTF-8";

/// Something that happened: a line of the log.
///
/// On disk it is one compact JSON object in the order of these fields, of which the first is called `type`; `id`, `actor` and
/// `meta` are left out where there are none:
/// ```
/// use keplordb_fold::Event;
/// use serde_json::json;
///
/// let mut event = Event::new("order_placed", json!({"total": 99.99})).with_actor("user_42");
/// event.ts = 1_700_000_000;
/// let line = serde_json::to_string(&event)?;
/// assert_eq!(line, r#"{"type":"order_placed","data":{"total":99.99},"ts":1700000000,"actor":"user_42"}"#);
/// assert_eq!(serde_json::from_str::<Event>(&line)?, event);
/// # Ok::<(), serde_json::Error>(())
/// ```
/// What comes back is equal, but for `meta: Some(Value::Null)`, which comes back as `None`. Unknown keys are passed over.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Event {
    /// What happened: `todo_added`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The particulars: any JSON. Reducers give it meaning, the log has none for it: an object is an object whatever its keys are called,
    /// also where `serde_json`'s own values take some keys for something else.
    #[serde(deserialize_with = "parsed_value::value")]
    pub data: Value,
    /// When, in whole seconds since the Unix epoch.
    pub ts: u64,
    /// Which event this is, where its maker says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who made it happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Anything else that belongs to it: a request, a cause.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "parsed_value::option")]
    pub meta: Option<Value>,
}

impl Event {
    /// An event of now.
    ///
    /// # Panics
    /// If the clock stands before 1970.
    pub fn new(event_type: &str, data: Value) -> Self {
        let ts = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock stands after 1970").as_secs();
        Self { event_type: event_type.to_owned(), data, ts, id: None, actor: None, meta: None }
    }

    /// The event that a line is, by the rules that all have who read one. Only text is JSON: a parser of bytes does not look at those
    /// that it passes over, in the values of unknown keys.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn of_line(line: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_str(str::from_utf8(line).map_err(|_| serde_json::Error::custom(NO_TEXT))?)
    }

    /// Whether a parser could read it back.
    pub(crate) fn is_readable(&self) -> bool {
        fits(&self.data, LEVELS_MAX) && self.meta.as_ref().is_none_or(|meta| fits(meta, LEVELS_MAX))
    }

    /// The same with an id.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// The same with an actor.
    #[must_use]
    pub fn with_actor(self, actor: impl Into<String>) -> Self {
        Self { actor: Some(actor.into()), ..self }
    }

    /// The same with anything else that belongs to it.
    #[must_use]
    pub fn with_meta(self, meta: Value) -> Self {
        Self { meta: Some(meta), ..self }
    }
}

/// Whether a value has at most so many levels; looks no deeper.
fn fits(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return !value.is_array() && !value.is_object() };
    match value {
        Value::Array(values) => values.iter().all(|value| fits(value, below)),
        Value::Object(values) => values.values().all(|value| fits(value, below)),
        _ => true,
    }
}
