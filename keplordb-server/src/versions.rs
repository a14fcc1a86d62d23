//! The versions of an entity: what it was in which span of time, and in which span of time that was what was known.
//!
//! Two axes, as in Snodgrass, *Developing Time-Oriented Database Applications in SQL* (2000): a version is valid from the time of its
//! event to that of the next one, and known from when that came in to when something came in that changes it. Each arrival ends what
//! was known of the versions that it changes, and begins what is known now; nothing is ever changed in place. So of any instant on both
//! axes one version at most holds.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::entity::EntityEvent;
use crate::fold::{Fold, Operation};

/// A version of an entity, for a span on each axis; the ends do not belong to the spans, and `None` has not come yet.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Version {
    /// The event by which it began.
    pub sequence: u64,
    /// How many events there are up to it, in their order.
    pub version: u64,
    /// What that event did.
    pub operation: Operation,
    /// What the entity is; `None` where it is deleted.
    pub state: Option<Map<String, Value>>,
    /// The fields that differ from the version before, sorted.
    pub changed: Vec<String>,
    /// In milliseconds since the Unix epoch, as all of them.
    pub valid_from_ms: i64,
    /// See [`valid_from_ms`](Self::valid_from_ms).
    pub valid_to_ms: Option<i64>,
    /// See [`valid_from_ms`](Self::valid_from_ms).
    pub known_from_ms: i64,
    /// See [`valid_from_ms`](Self::valid_from_ms).
    pub known_to_ms: Option<i64>,
}

impl Version {
    /// Whether it is what was so at a time, by what was known at one.
    pub fn holds(&self, as_of_ms: i64, known_at_ms: i64) -> bool {
        let within = |at: i64, from: i64, to: Option<i64>| from <= at && to.is_none_or(|to| at < to);
        within(as_of_ms, self.valid_from_ms, self.valid_to_ms)
            && within(known_at_ms, self.known_from_ms, self.known_to_ms)
    }

    /// What it says, but for when that is known. Its number is part of that: what was said of it must hold by what was known then, so a
    /// late event ends all versions behind it, whatever their states.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let at = Self { known_from_ms: other.known_from_ms, known_to_ms: other.known_to_ms, ..self.clone() };
        at == *other
    }
}

/// All versions of an entity from its events, which may be in any order. Ones that were known for no time are left out: of events that
/// came in within the same millisecond, what was between them.
pub fn versions(mut events: Vec<EntityEvent>) -> Vec<Version> {
    events.sort_by_key(|event| event.sequence);
    let mut past = Vec::new();
    let mut arrived: Vec<EntityEvent> = Vec::new();
    let mut now: Vec<Version> = Vec::new();
    for event in events {
        let known_ms = event.received_at_ms;
        let place = arrived.partition_point(|other| other.order() < event.order());
        arrived.insert(place, event);
        let timeline = timeline(&arrived, known_ms);
        // What lies before the event and ends where it did stays known.
        let kept = now.iter().zip(&timeline).take_while(|(was, is)| was.says_the_same(is)).count();
        for mut ended in now.drain(kept..) {
            ended.known_to_ms = Some(known_ms);
            if ended.known_from_ms < known_ms {
                past.push(ended);
            }
        }
        now.extend(timeline.into_iter().skip(kept));
    }
    past.extend(now);
    past
}

/// The versions after these events, which are in their order, as known from a time on.
fn timeline(events: &[EntityEvent], known_from_ms: i64) -> Vec<Version> {
    let mut fold = Fold::default();
    let mut versions: Vec<Version> = Vec::with_capacity(events.len());
    for event in events {
        let before = fold.state().cloned();
        fold.apply(event.operation, event.payload.clone());
        if let Some(last) = versions.last_mut() {
            last.valid_to_ms = Some(event.event_time_ms);
        }
        versions.push(Version {
            sequence: event.sequence,
            version: fold.version(),
            operation: event.operation,
            state: fold.state().cloned(),
            changed: changed(before.as_ref(), fold.state()),
            valid_from_ms: event.event_time_ms,
            valid_to_ms: None,
            known_from_ms,
            known_to_ms: None,
        });
    }
    versions
}

/// The fields that two states do not have in common.
pub(crate) fn changed(
    before: Option<&Map<String, Value>>,
    after: Option<&Map<String, Value>>,
) -> Vec<String> {
    let empty = Map::new();
    let (before, after) = (before.unwrap_or(&empty), after.unwrap_or(&empty));
    let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
    let mut changed: Vec<String> = keys.filter(|key| before.get(*key) != after.get(*key)).cloned().collect();
    changed.sort_unstable();
    changed
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event(
        sequence: u64,
        (operation, time_ms, pause_ms, field): (u8, i64, i64, u8),
        received_ms: &mut i64,
    ) -> EntityEvent {
        *received_ms += pause_ms;
        let Value::Object(payload) =
            json!({format!("f{}", field % 3): if field > 6 { Value::Null } else { field.into() }})
        else {
            unreachable!("an object is written above")
        };
        let operations = [Operation::Create, Operation::Update, Operation::Update, Operation::Delete];
        EntityEvent {
            sequence,
            event_id: sequence.to_string(),
            entity_type: "User".to_owned(),
            entity_id: "user_1".to_owned(),
            operation: operations[usize::from(operation)],
            event_time_ms: time_ms,
            received_at_ms: *received_ms,
            client: String::new(),
            schema_version: 0,
            payload: Some(payload),
            source_version: None,
            correlation_id: String::new(),
            causation_id: String::new(),
        }
    }

    proptest! {
        /// Of every instant on both axes: what holds is the fold of the events that had happened and were known.
        #[test]
        fn what_holds_is_the_fold_of_what_had_happened_and_was_known(
            drawn in vec((0..4_u8, 0..8_i64, 0..3_i64, 0..9_u8), 0..9)
        ) {
            let mut received_ms = 0;
            let events: Vec<EntityEvent> =
                (1..).zip(drawn).map(|(sequence, drawn)| event(sequence, drawn, &mut received_ms)).collect();
            let versions = versions(events.clone());
            for known_ms in -1..=received_ms + 1 {
                for as_of_ms in -1..10 {
                    let mut counted: Vec<&EntityEvent> = events
                        .iter()
                        .filter(|event| event.event_time_ms <= as_of_ms && event.received_at_ms <= known_ms)
                        .collect();
                    counted.sort_by_key(|event| event.order());
                    let mut fold = Fold::default();
                    for event in counted {
                        fold.apply(event.operation, event.payload.clone());
                    }
                    let holding: Vec<_> =
                        versions.iter().filter(|version| version.holds(as_of_ms, known_ms)).collect();
                    prop_assert!(holding.len() <= 1, "{holding:?}");
                    let state = holding.first().and_then(|version| version.state.as_ref());
                    prop_assert_eq!(state, fold.state());
                    prop_assert_eq!(holding.first().map_or(0, |version| version.version), fold.version());
                }
            }
        }
    }
}
