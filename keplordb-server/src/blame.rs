//! Who set which field, and what differs between two states.
//!
//! A field is a path of keys to what is no object: objects merge, so each of their keys has its own history; lists are set as a whole.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::entity::EntityEvent;
use crate::fold::Operation;

/// A field of an entity, and the event that last set it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Blame {
    /// The keys that lead to it.
    pub path: Vec<String>,
    /// What it is.
    pub value: Value,
    /// What it was before, if it was anything since the entity was last created.
    pub previous: Option<Value>,
    /// The event that set it.
    pub sequence: u64,
    /// What that event did.
    pub operation: Operation,
    /// When it happened, in milliseconds since the Unix epoch.
    pub event_time_ms: i64,
    /// When it came in, likewise.
    pub received_at_ms: i64,
    /// Who sent it.
    pub client: String,
}

/// What differs between two states.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The keys that lead to the field.
    pub path: Vec<String>,
    /// What it was; `None` where it was not.
    pub before: Option<Value>,
    /// What it is; `None` where it is not.
    pub after: Option<Value>,
}

/// Of each field that is left after these events, which are in their order, the one that set it; sorted by path.
pub(crate) fn blame(events: &[EntityEvent]) -> Vec<Blame> {
    let mut fields = BTreeMap::new();
    for event in events {
        let patch = event.payload.as_ref();
        match event.operation {
            Operation::Delete => fields.clear(),
            Operation::Create => {
                let before = std::mem::take(&mut fields);
                set(&mut fields, &mut Vec::new(), patch, event);
                for (path, field) in &mut fields {
                    field.previous = before.get(path).map(|field| field.value.clone());
                }
            }
            Operation::Update => set(&mut fields, &mut Vec::new(), patch, event),
        }
    }
    fields.into_values().collect()
}

/// Sets what a merge patch gives below a path.
fn set(
    fields: &mut BTreeMap<Vec<String>, Blame>,
    path: &mut Vec<String>,
    given: Option<&Map<String, Value>>,
    event: &EntityEvent,
) {
    for (key, value) in given.into_iter().flatten() {
        path.push(key.clone());
        match value {
            Value::Null => drop(take_below(fields, path)),
            Value::Object(inner) => {
                // What was here and no object is replaced by one, which is a field while it is empty.
                let was = fields.remove(path);
                set(fields, path, Some(inner), event);
                if !has_below(fields, path) {
                    let empty = Value::Object(Map::new());
                    // An empty object that is merged into an empty one sets nothing.
                    let kept = was.filter(|was| was.value == empty);
                    fields.insert(path.clone(), kept.unwrap_or_else(|| field(path, empty, None, event)));
                }
            }
            value => {
                let previous = take_below(fields, path);
                fields.insert(path.clone(), field(path, value.clone(), previous, event));
            }
        }
        path.pop();
    }
}

fn field(path: &[String], value: Value, previous: Option<Value>, event: &EntityEvent) -> Blame {
    Blame {
        path: path.to_vec(),
        value,
        previous,
        sequence: event.sequence,
        operation: event.operation,
        event_time_ms: event.event_time_ms,
        received_at_ms: event.received_at_ms,
        client: event.client.clone(),
    }
}

fn has_below(fields: &BTreeMap<Vec<String>, Blame>, path: &[String]) -> bool {
    fields.range(path.to_vec()..).next().is_some_and(|(found, _)| found.starts_with(path))
}

/// Removes the field at a path, and all below it; gives the value of the one that was there.
fn take_below(fields: &mut BTreeMap<Vec<String>, Blame>, path: &[String]) -> Option<Value> {
    let below: Vec<_> = fields
        .range(path.to_vec()..)
        .map(|(found, _)| found)
        .take_while(|found| found.starts_with(path))
        .cloned()
        .collect();
    let mut previous = None;
    for found in below {
        let removed = fields.remove(&found);
        if found == path {
            previous = removed.map(|field| field.value);
        }
    }
    previous
}

/// The fields in which two states differ, sorted by path.
pub(crate) fn diff(before: Option<&Map<String, Value>>, after: Option<&Map<String, Value>>) -> Vec<Change> {
    let (mut was, mut is) = (BTreeMap::new(), BTreeMap::new());
    flatten(before, &mut Vec::new(), &mut was);
    flatten(after, &mut Vec::new(), &mut is);
    let mut changes: Vec<_> = was
        .iter()
        .filter(|(path, value)| is.get(*path) != Some(value))
        .map(|(path, value)| Change {
            path: path.clone(),
            before: Some((*value).clone()),
            after: is.get(path).map(|value| (*value).clone()),
        })
        .collect();
    changes.extend(is.iter().filter(|(path, _)| !was.contains_key(*path)).map(|(path, value)| Change {
        path: path.clone(),
        before: None,
        after: Some((*value).clone()),
    }));
    changes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    changes
}

/// The fields of a state: what is no object, and objects without keys.
fn flatten<'s>(
    state: Option<&'s Map<String, Value>>,
    path: &mut Vec<String>,
    fields: &mut BTreeMap<Vec<String>, &'s Value>,
) {
    for (key, value) in state.into_iter().flatten() {
        path.push(key.clone());
        match value {
            Value::Object(inner) if !inner.is_empty() => flatten(Some(inner), path, fields),
            value => drop(fields.insert(path.clone(), value)),
        }
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::entity::fold;

    fn event(sequence: u64, operation: Operation, payload: Value) -> EntityEvent {
        let Value::Object(payload) = payload else { panic!("{payload} is no object") };
        EntityEvent {
            sequence,
            event_id: sequence.to_string(),
            entity_type: "User".to_owned(),
            entity_id: "user_1".to_owned(),
            operation,
            event_time_ms: sequence as i64,
            received_at_ms: sequence as i64,
            client: String::new(),
            schema_version: 0,
            payload: Some(payload),
            source_version: None,
            correlation_id: String::new(),
            causation_id: String::new(),
        }
    }

    #[test]
    fn each_field_is_of_the_event_that_set_it() {
        let events = [
            event(
                1,
                Operation::Create,
                json!({"name": "Ada", "plan": "free", "address": {"city": "Oslo", "zip": "1"}}),
            ),
            event(2, Operation::Update, json!({"plan": "team", "address": {"city": "Bergen"}})),
            event(3, Operation::Update, json!({"plan": "team", "name": null, "tags": ["a"]})),
        ];
        let found: Vec<_> = blame(&events)
            .into_iter()
            .map(|field| (field.path.join("."), field.value, field.previous, field.sequence))
            .collect();
        let wanted = [
            ("address.city".to_owned(), json!("Bergen"), Some(json!("Oslo")), 2),
            ("address.zip".to_owned(), json!("1"), None, 1),
            ("plan".to_owned(), json!("team"), Some(json!("team")), 3),
            ("tags".to_owned(), json!(["a"]), None, 3),
        ];
        assert_eq!(found, wanted);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), (0..3_i32).prop_map(Value::from), Just(json!([1, null]))];
        leaf.prop_recursive(3, 12, 3, |inner| {
            vec(("[abc]", inner), 0..3).prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
        })
    }

    proptest! {
        /// What is blamed is what there is, and each field was set by an event after which it never changed.
        #[test]
        fn what_is_blamed_is_what_there_is(
            drawn in vec((0..5_u8, vec(("[abc]", value()), 0..4)), 0..8)
        ) {
            let events: Vec<_> = (1..)
                .zip(drawn)
                .map(|(sequence, (operation, pairs))| {
                    let operation = match operation {
                        0 => Operation::Create,
                        1 => Operation::Delete,
                        _ => Operation::Update,
                    };
                    event(sequence, operation, Value::Object(pairs.into_iter().collect()))
                })
                .collect();
            let state = fold(&events).state().cloned();
            let mut fields = BTreeMap::new();
            flatten(state.as_ref(), &mut Vec::new(), &mut fields);
            let blamed = blame(&events);
            let found: BTreeMap<_, _> = blamed.iter().map(|field| (field.path.clone(), &field.value)).collect();
            prop_assert_eq!(&found, &fields);
            for field in &blamed {
                for seen in 1..=events.len() {
                    let state = fold(&events[..seen]).state().cloned();
                    let mut then = BTreeMap::new();
                    flatten(state.as_ref(), &mut Vec::new(), &mut then);
                    if seen as u64 >= field.sequence {
                        prop_assert_eq!(then.get(&field.path), Some(&&field.value));
                    }
                }
            }
        }

        /// A diff leads from one state to the other, and of equal states there is none.
        #[test]
        fn a_diff_is_what_differs(a in vec(("[abc]", value()), 0..4), b in vec(("[abc]", value()), 0..4)) {
            let (a, b): (Map<_, _>, Map<_, _>) = (a.into_iter().collect(), b.into_iter().collect());
            let (mut was, mut is) = (BTreeMap::new(), BTreeMap::new());
            flatten(Some(&a), &mut Vec::new(), &mut was);
            flatten(Some(&b), &mut Vec::new(), &mut is);
            let mut led: BTreeMap<_, _> = was.iter().map(|(path, value)| (path.clone(), (*value).clone())).collect();
            for change in diff(Some(&a), Some(&b)) {
                prop_assert_eq!(led.remove(&change.path), change.before.clone());
                if let Some(after) = change.after {
                    led.insert(change.path, after);
                }
            }
            let is: BTreeMap<_, _> = is.into_iter().map(|(path, value)| (path, value.clone())).collect();
            prop_assert_eq!(led, is);
            prop_assert!(diff(Some(&a), Some(&a)).is_empty());
        }
    }
}
