//! The fold: what an entity is after its events.
//!
//! A create replaces the state, an update merges its payload into it ([RFC 7396](https://www.rfc-editor.org/rfc/rfc7396)), a
//! delete ends it. An update of what is not there begins it, with only the fields that it has. Events are taken by their own time;
//! which of them came in when makes no difference, but for those of the same time.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is done to an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// Replaces its state.
    Create,
    /// Merges into its state.
    Update,
    /// Ends it.
    Delete,
}

impl Operation {
    /// As it is written: `CREATE`, `UPDATE`, `DELETE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// The status under which the log keeps it.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Create => 1,
            Self::Update => 2,
            Self::Delete => 3,
        }
    }

    pub(crate) fn of_status(status: u16) -> Option<Self> {
        [Self::Create, Self::Update, Self::Delete].into_iter().find(|operation| operation.status() == status)
    }
}

/// An entity while its events are taken one by one, in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fold {
    state: Option<Map<String, Value>>,
    version: u64,
}

impl Fold {
    /// Goes on from a state that is known.
    pub(crate) fn resume(state: Option<Map<String, Value>>, version: u64) -> Self {
        Self { state, version }
    }

    /// Takes the next event; `payload` is the object that it sets, and nothing where its bytes are not known.
    pub fn apply(&mut self, operation: Operation, payload: Option<Map<String, Value>>) {
        self.version += 1;
        match operation {
            Operation::Create => self.state = Some(merged(Map::new(), payload.unwrap_or_default())),
            Operation::Update => {
                let state = self.state.take().unwrap_or_default();
                self.state = Some(merged(state, payload.unwrap_or_default()));
            }
            Operation::Delete => self.state = None,
        }
    }

    /// What it is; `None` where it is deleted, or never was.
    pub fn state(&self) -> Option<&Map<String, Value>> {
        self.state.as_ref()
    }

    /// How many events were taken.
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// The merge patch of RFC 7396: objects merge, everything else replaces, and `null` removes.
fn merged(mut target: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(&key);
            }
            Value::Object(inner) => {
                let before = match target.remove(&key) {
                    Some(Value::Object(before)) => before,
                    _ => Map::new(),
                };
                target.insert(key, Value::Object(merged(before, inner)));
            }
            other => {
                target.insert(key, other);
            }
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("{value} is no object") };
        object
    }

    /// The examples of RFC 7396, appendix A, whose patch is an object.
    #[test]
    fn patches_merge_as_the_rfc_says() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (target, patch, wanted) in cases {
            assert_eq!(Value::Object(merged(object(target), object(patch))), wanted);
        }
    }

    #[test]
    fn a_delete_ends_what_was_and_an_update_begins_anew() {
        let mut fold = Fold::default();
        let steps = [
            (Operation::Update, json!({"plan": "free", "note": null}), Some(json!({"plan": "free"}))),
            (
                Operation::Create,
                json!({"name": "Ada", "plan": "team"}),
                Some(json!({"name": "Ada", "plan": "team"})),
            ),
            (Operation::Update, json!({"plan": null}), Some(json!({"name": "Ada"}))),
            (Operation::Delete, json!({}), None),
            (Operation::Delete, json!({}), None),
            (Operation::Update, json!({"plan": "free"}), Some(json!({"plan": "free"}))),
        ];
        for (version, (operation, payload, wanted)) in (1..).zip(steps) {
            fold.apply(operation, Some(object(payload)));
            assert_eq!((fold.version(), fold.state().cloned().map(Value::Object)), (version, wanted));
        }
    }
}
