//! Reducers that need no program: they know events, and nothing of what those mean.

use std::str::FromStr;

use keplordb_fold::Event;
use serde_json::{Map, Value, json};

/// What the events are folded by.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reducer {
    /// All data, each merged into what was before (RFC 7396).
    Merge,
    /// The same for each value of a field.
    MergeBy(Field),
    /// The last event with each value of a field.
    LastBy(Field),
    /// How many events there are with each value of a field.
    CountBy(Field),
}

/// A place in an event: one of its keys, or a path into its data or meta.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    steps: Vec<String>,
}

impl FromStr for Reducer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, field) = text.split_once('=').map_or((text, None), |(name, field)| (name, Some(field)));
        match (name, field) {
            ("merge", None) => Ok(Self::Merge),
            ("merge-by", Some(field)) => field.parse().map(Self::MergeBy),
            ("last-by", Some(field)) => field.parse().map(Self::LastBy),
            ("count-by", Some(field)) => field.parse().map(Self::CountBy),
            _ => Err("a reducer is merge, merge-by=FIELD, last-by=FIELD or count-by=FIELD".to_owned()),
        }
    }
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let steps: Vec<String> = text.split('.').map(str::to_owned).collect();
        let is_whole = steps.iter().all(|step| !step.is_empty());
        match steps.first().map(String::as_str) {
            Some("type" | "ts" | "id" | "actor") if steps.len() == 1 => Ok(Self { steps }),
            Some("data" | "meta") if is_whole => Ok(Self { steps }),
            _ => Err(
                "a field is type, actor, id or ts, or a path in data or meta: data.user, data.order.items.0"
                    .to_owned(),
            ),
        }
    }
}

impl Field {
    /// The value of an event there, as a key: a text as it is, anything else as JSON; `None` where there is none.
    fn key(&self, event: &Event) -> Option<String> {
        let (first, rest) = self.steps.split_first()?;
        let root = match first.as_str() {
            "type" => return Some(event.event_type.clone()),
            "ts" => return Some(event.ts.to_string()),
            "id" => return event.id.clone(),
            "actor" => return event.actor.clone(),
            "meta" => event.meta.as_ref()?,
            _ => &event.data,
        };
        let found = rest.iter().try_fold(root, |value, step| match value {
            Value::Object(keys) => keys.get(step),
            Value::Array(values) => values.get(step.parse::<usize>().ok()?),
            _ => None,
        })?;
        Some(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
    }
}

/// What a reducer has come to.
#[derive(Debug)]
pub(super) struct Folded {
    reducer: Reducer,
    pub(super) state: Value,
    /// Events that were folded.
    pub(super) events: u64,
    /// Events that have nothing at the field.
    pub(super) without_field: u64,
}

impl Folded {
    /// Before the first event.
    pub(super) fn new(reducer: Reducer) -> Self {
        Self { reducer, state: Value::Object(Map::new()), events: 0, without_field: 0 }
    }

    pub(super) fn fold(&mut self, event: Event) {
        let field = match &self.reducer {
            Reducer::Merge => {
                merge(&mut self.state, event.data);
                self.events += 1;
                return;
            }
            Reducer::MergeBy(field) | Reducer::LastBy(field) | Reducer::CountBy(field) => field,
        };
        let (Some(key), Value::Object(states)) = (field.key(&event), &mut self.state) else {
            self.without_field += 1;
            return;
        };
        self.events += 1;
        let state = states.entry(key).or_insert(Value::Null);
        match &self.reducer {
            Reducer::CountBy(_) => *state = json!(state.as_u64().unwrap_or(0) + 1),
            Reducer::LastBy(_) => *state = json!(event),
            Reducer::Merge | Reducer::MergeBy(_) => merge(state, event.data),
        }
    }
}

/// RFC 7396: an object changes the keys that it has, and takes away those that are null in it; anything else takes the place of what
/// was there.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(keys) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            keys.remove(&key);
        } else {
            merge(keys.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of examples of RFC 7396, appendix A.
    #[test]
    fn merges_are_those_of_the_standard() {
        for (target, patch, right) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, right, "{target} with {patch}");
        }
    }

    #[test]
    fn fields_lead_to_values() {
        let event = Event { ts: 7, ..Event::new("added", json!({"user": "ada", "items": [{"n": 3}]})) };
        let key = |field: &str| field.parse::<Field>().unwrap().key(&event);
        let right = |text: &str| Some(text.to_owned());
        assert_eq!([key("type"), key("ts"), key("data.user")], [right("added"), right("7"), right("ada")]);
        assert_eq!(key("data.items.0.n"), right("3"));
        assert_eq!(key("data.items.0"), right(r#"{"n":3}"#));
        assert_eq!(
            [key("actor"), key("meta.a"), key("data.user.x"), key("data.items.9")],
            [None, None, None, None]
        );
        for text in ["", "user", "data.", "data..x", "type.x", ".data"] {
            assert!(text.parse::<Field>().unwrap_err().starts_with("a field is type"), "{text}");
        }
    }

    #[test]
    fn reducers_are_named_with_their_fields() {
        for text in ["merge=data.x", "merge-by", "count", "last-by=nothing", ""] {
            assert!(text.parse::<Reducer>().is_err(), "{text}");
        }
        let state = |reducer: &str| {
            let mut folded = Folded::new(reducer.parse().unwrap());
            for (actor, data) in
                [("ada", json!({"a": 1})), ("bob", json!({"a": 2})), ("ada", json!({"b": 3}))]
            {
                folded.fold(Event { ts: 5, ..Event::new("set", data).with_actor(actor) });
            }
            folded.state
        };
        assert_eq!(state("merge"), json!({"a": 2, "b": 3}));
        assert_eq!(state("merge-by=actor"), json!({"ada": {"a": 1, "b": 3}, "bob": {"a": 2}}));
        assert_eq!(state("count-by=actor"), json!({"ada": 2, "bob": 1}));
        assert_eq!(state("count-by=data.b"), json!({"3": 1}));
        let last = json!({"type": "set", "data": {"b": 3}, "ts": 5, "actor": "ada"});
        assert_eq!(state("last-by=type"), json!({"set": last}));
    }
}
