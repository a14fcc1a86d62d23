//! What an entity is and was: its events in their order, and the state after them.

use keplordb::Store;
use serde_json::{Map, Value};

use crate::error::{Refused, Result};
use crate::fold::{Fold, Operation};
use crate::record::{Envelope, Event, OPAQUE};

/// An event of an entity, as it is kept.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EntityEvent {
    /// Its place in the log.
    pub sequence: u64,
    /// The id by which it is captured once.
    pub event_id: String,
    /// What was done.
    pub operation: Operation,
    /// When it happened, in milliseconds since the Unix epoch.
    pub event_time_ms: i64,
    /// When it came in, likewise.
    pub received_at_ms: i64,
    /// Who sent it.
    pub client: String,
    /// What it sets; `None` where its bytes are of no known kind.
    pub payload: Option<Map<String, Value>>,
    /// The source's own counter.
    pub source_version: Option<u64>,
}

impl EntityEvent {
    /// The order in which an entity's events are folded: by their time, then by the source's counter, then as they came in.
    pub(crate) fn order(&self) -> (i64, Option<u64>, u64) {
        (self.event_time_ms, self.source_version, self.sequence)
    }
}

/// The instant at which an entity is looked at: what was true at a time, by what was known at one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Instant {
    /// Events that happened later do not count; in milliseconds since the Unix epoch.
    pub as_of_ms: Option<i64>,
    /// Events that came in later do not count, likewise.
    pub known_at_ms: Option<i64>,
}

/// The events of an entity in the [order](EntityEvent::order) in which they are folded.
pub(crate) fn history(
    store: &Store<Event>,
    entity_type: &str,
    entity_id: &str,
    instant: Instant,
) -> Result<Vec<EntityEvent>> {
    let c = Event::cols();
    let rows = store.query(c.entity_type.eq(entity_type) & c.entity_id.eq(entity_id)).rows();
    let mut events = Vec::new();
    for row in rows.map_err(|error| Refused::from(&error))? {
        let damaged = |what: String| Refused::Failed { what: format!("event {}: {what}", row.sequence()) };
        let operation = Operation::of_status(row.status())
            .ok_or_else(|| damaged(format!("{} is no operation", row.status())))?;
        let envelope = Envelope::of_text(row.envelope()).map_err(|error| damaged(error.to_string()))?;
        let payload = if row.flags().has(OPAQUE) {
            None
        } else {
            Some(serde_json::from_str(row.payload()).map_err(|error| damaged(error.to_string()))?)
        };
        let event = EntityEvent {
            sequence: row.sequence(),
            event_id: row.id().to_owned(),
            operation,
            event_time_ms: row.ts_ns().div_euclid(1_000_000),
            received_at_ms: row.metric().div_euclid(1_000_000),
            client: row.client().to_owned(),
            payload,
            source_version: envelope.source_version,
        };
        let is_later =
            |time_ms: i64, limit_ms: Option<i64>| limit_ms.is_some_and(|limit_ms| time_ms > limit_ms);
        if !is_later(event.event_time_ms, instant.as_of_ms)
            && !is_later(event.received_at_ms, instant.known_at_ms)
        {
            events.push(event);
        }
    }
    events.sort_by_key(EntityEvent::order);
    Ok(events)
}

/// The entity after these events, which are in their order.
pub(crate) fn fold(events: &[EntityEvent]) -> Fold {
    let mut fold = Fold::default();
    for event in events {
        fold.apply(event.operation, event.payload.clone());
    }
    fold
}
