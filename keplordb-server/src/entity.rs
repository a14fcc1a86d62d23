//! An event of an entity as it is kept, and the instant at which an entity is looked at.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Refused, Result};
use crate::fold::{Fold, Operation};
use crate::record::{Envelope, Event, OPAQUE};

/// A row of the log.
pub(crate) type Row = <Event as keplordb::Schema>::Row;

/// An event of an entity, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EntityEvent {
    /// Its place in the log.
    pub sequence: u64,
    /// The id by which it is captured once.
    pub event_id: String,
    /// The entity's type.
    pub entity_type: String,
    /// Its key within the type.
    pub entity_id: String,
    /// What was done.
    pub operation: Operation,
    /// When it happened, in milliseconds since the Unix epoch.
    pub event_time_ms: i64,
    /// When it came in, likewise.
    pub received_at_ms: i64,
    /// Who sent it.
    pub client: String,
    /// The version of the schema by which it was read; 0 where there was none.
    pub schema_version: u32,
    /// What it sets; `None` where its bytes are of no known kind.
    pub payload: Option<Map<String, Value>>,
    /// The source's own counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_version: Option<u64>,
    /// What belongs together.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub correlation_id: String,
    /// What it was caused by.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub causation_id: String,
}

impl EntityEvent {
    /// What a row of the log says.
    pub(crate) fn of_row(row: &Row) -> Result<Self> {
        let damaged = |what: String| Refused::Failed { what: format!("event {}: {what}", row.sequence()) };
        let operation = Operation::of_status(row.status())
            .ok_or_else(|| damaged(format!("{} is no operation", row.status())))?;
        let envelope = Envelope::of_text(row.envelope()).map_err(|error| damaged(error.to_string()))?;
        let payload = if row.flags().has(OPAQUE) {
            None
        } else {
            Some(serde_json::from_str(row.payload()).map_err(|error| damaged(error.to_string()))?)
        };
        Ok(Self {
            sequence: row.sequence(),
            event_id: row.id().to_owned(),
            entity_type: row.entity_type().to_owned(),
            entity_id: row.entity_id().to_owned(),
            operation,
            event_time_ms: row.ts_ns().div_euclid(1_000_000),
            received_at_ms: row.metric().div_euclid(1_000_000),
            client: row.client().to_owned(),
            schema_version: row.schema_version(),
            payload,
            source_version: envelope.source_version,
            correlation_id: envelope.correlation_id,
            causation_id: envelope.causation_id,
        })
    }

    /// The order in which an entity's events are folded: by their time, then by the source's counter, then as they came in.
    pub(crate) fn order(&self) -> (i64, Option<u64>, u64) {
        (self.event_time_ms, self.source_version, self.sequence)
    }
}

/// The instant at which an entity is looked at: what was true at a time, by what was known at one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Instant {
    /// Events that happened later do not count; in milliseconds since the Unix epoch.
    pub as_of_ms: Option<i64>,
    /// Events that came in later do not count, likewise.
    pub known_at_ms: Option<i64>,
}

impl Instant {
    /// Whether an event had happened and was known then.
    pub fn sees(self, event: &EntityEvent) -> bool {
        let within =
            |time_ms: i64, limit_ms: Option<i64>| limit_ms.is_none_or(|limit_ms| time_ms <= limit_ms);
        within(event.event_time_ms, self.as_of_ms) && within(event.received_at_ms, self.known_at_ms)
    }
}

/// The instant at which a table is looked at: an [`Instant`], of no more than the events up to a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogInstant {
    /// What was true at a time, by what was known at one.
    pub instant: Instant,
    /// The last event that counts.
    pub sequence: Option<u64>,
}

impl LogInstant {
    /// Whether it is that of everything that there is.
    pub fn is_now(&self) -> bool {
        *self == Self::default()
    }
}

impl From<Instant> for LogInstant {
    fn from(instant: Instant) -> Self {
        Self { instant, sequence: None }
    }
}

/// The entity after these events, which are in their order.
pub(crate) fn fold<'a>(events: impl IntoIterator<Item = &'a EntityEvent>) -> Fold {
    let mut fold = Fold::default();
    for event in events {
        fold.apply(event.operation, event.payload.clone());
    }
    fold
}
