//! The rows of the three tables: `_events` as they came in, `_versions` on both axes of time, `_current` of what is live.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::{Arc, LazyLock, Once};

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::columns::{
    Columns, RowBytes, damaged, field, lists, names, numbers, optional, optional_bytes, optional_texts,
    optional_times, optional_unsigned, sequences, texts, time, times, unsigned,
};
use super::manifest::Table;
#[cfg(feature = "sql")]
use crate::entity::EntityEvent;
use crate::error::ServerError;
use crate::fold::Operation;
use crate::record::{Envelope, Event, OPAQUE};
use crate::versions::Version;

type Result<T> = std::result::Result<T, ServerError>;

/// A row of a table.
pub(super) trait Row: Sized + Clone {
    const TABLE: Table;
    /// Columns of which many files can be told not to have a value.
    const BLOOMS: &'static [&'static str];

    fn schema() -> SchemaRef;
    fn encode(rows: &[Self]) -> Vec<ArrayRef>;
    fn decode(columns: Columns<'_>) -> Result<Vec<Self>>;
    /// The order of rows in a file.
    fn compare(&self, other: &Self) -> Ordering;
    /// Of all its values; a file's sum of them does not depend on which rows are in which file.
    fn hash(&self) -> u128;
    fn entity_type(&self) -> &str;
    fn sequence(&self) -> u64;
    fn time_ms(&self) -> i64;
    /// About how much memory it takes.
    fn bytes(&self) -> usize;
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventRow {
    pub(super) sequence: u64,
    pub(super) event_id: String,
    pub(super) entity_type: String,
    pub(super) entity_id: String,
    pub(super) operation: Operation,
    pub(super) event_time_ms: i64,
    pub(super) received_at_ms: i64,
    pub(super) created_at_ms: Option<i64>,
    pub(super) updated_at_ms: Option<i64>,
    pub(super) deleted_at_ms: Option<i64>,
    pub(super) client_id: Option<String>,
    pub(super) schema_version: u32,
    /// JSON: an object; of bytes of no known kind, a text of them in base64.
    pub(super) payload: String,
    /// Bytes of no known kind.
    pub(super) payload_raw: Option<Vec<u8>>,
    pub(super) source_version: Option<u64>,
    pub(super) correlation_id: Option<String>,
    pub(super) causation_id: Option<String>,
    /// JSON.
    pub(super) metadata: Option<String>,
}

impl EventRow {
    /// The event as the log keeps it. One whose payload cannot be read counts as bytes of no known kind: it sets nothing, is there as
    /// it was sent, and keeps no other from being published.
    pub(super) fn of_log(row: &<Event as keplordb::Schema>::Row) -> Result<Self> {
        let unread = |what: String| ServerError::Event { sequence: row.sequence(), what };
        let operation = Operation::of_status(row.status())
            .ok_or_else(|| unread(format!("{} is no operation", row.status())))?;
        let envelope = Envelope::of_text(row.envelope()).unwrap_or_else(|error| {
            warn_once(row.sequence(), &error);
            Envelope::default()
        });
        let text = row.payload();
        let as_it_is = |error: &dyn std::error::Error| {
            warn_once(row.sequence(), error);
            text.as_bytes().to_vec()
        };
        let payload_raw = if row.flags().has(OPAQUE) {
            Some(BASE64_STANDARD.decode(text).unwrap_or_else(|error| as_it_is(&error)))
        } else {
            object_of(text).err().map(|error| as_it_is(&error))
        };
        let payload = match &payload_raw {
            Some(bytes) => Value::from(BASE64_STANDARD.encode(bytes)).to_string(),
            None => text.to_owned(),
        };
        let filled = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Self {
            sequence: row.sequence(),
            event_id: row.id().to_owned(),
            entity_type: row.entity_type().to_owned(),
            entity_id: row.entity_id().to_owned(),
            operation,
            event_time_ms: row.ts_ns().div_euclid(1_000_000),
            received_at_ms: row.metric().div_euclid(1_000_000),
            created_at_ms: envelope.created_at_ms,
            updated_at_ms: envelope.updated_at_ms,
            deleted_at_ms: envelope.deleted_at_ms,
            client_id: filled(row.client().to_owned()),
            schema_version: row.schema_version(),
            payload,
            payload_raw,
            source_version: envelope.source_version,
            correlation_id: filled(envelope.correlation_id),
            causation_id: filled(envelope.causation_id),
            metadata: (!envelope.metadata.is_empty())
                .then(|| {
                    envelope
                        .metadata
                        .into_iter()
                        .map(|(key, value)| (key, value.into()))
                        .collect::<Map<_, _>>()
                })
                .map(|metadata| Value::Object(metadata).to_string()),
        })
    }

    /// See [`EntityEvent::order`](crate::EntityEvent).
    pub(super) fn order(&self) -> (i64, Option<u64>, u64) {
        (self.event_time_ms, self.source_version, self.sequence)
    }

    /// What it sets; `None` where its bytes are of no known kind.
    pub(super) fn object(&self) -> Option<Map<String, Value>> {
        if self.payload_raw.is_some() { None } else { object_of(&self.payload).ok() }
    }
}

#[cfg(feature = "sql")]
impl From<EventRow> for EntityEvent {
    fn from(row: EventRow) -> Self {
        let payload = row.object();
        Self {
            sequence: row.sequence,
            event_id: row.event_id,
            entity_type: row.entity_type,
            entity_id: row.entity_id,
            operation: row.operation,
            event_time_ms: row.event_time_ms,
            received_at_ms: row.received_at_ms,
            client: row.client_id.unwrap_or_default(),
            schema_version: row.schema_version,
            payload,
            source_version: row.source_version,
            correlation_id: row.correlation_id.unwrap_or_default(),
            causation_id: row.causation_id.unwrap_or_default(),
        }
    }
}

fn object_of(text: &str) -> serde_json::Result<Map<String, Value>> {
    serde_json::from_str(text)
}

/// Says of the first event that it cannot be read; of many that would be all that is said.
fn warn_once(sequence: u64, error: &dyn std::error::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(sequence, %error, "an event cannot be read: it is published as it is and sets nothing; others like it are not told of");
    });
}

impl Row for EventRow {
    const TABLE: Table = Table::Events;
    const BLOOMS: &'static [&'static str] = &["entity_id", "event_id"];

    fn schema() -> SchemaRef {
        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
            Arc::new(Schema::new(vec![
                field("seq", DataType::Int64),
                field("event_id", DataType::Utf8),
                field("entity_type", DataType::Utf8),
                field("entity_id", DataType::Utf8),
                field("op", DataType::Utf8),
                field("event_time", time()),
                field("received_at", time()),
                optional("created_at", time()),
                optional("updated_at", time()),
                optional("deleted_at", time()),
                optional("client_id", DataType::Utf8),
                field("schema_version", DataType::Int32),
                field("payload", DataType::Utf8),
                optional("payload_raw", DataType::Binary),
                optional("source_version", unsigned()),
                optional("correlation_id", DataType::Utf8),
                optional("causation_id", DataType::Utf8),
                optional("metadata", DataType::Utf8),
            ]))
        });
        Arc::clone(&SCHEMA)
    }

    fn encode(rows: &[Self]) -> Vec<ArrayRef> {
        let rows = || rows.iter();
        vec![
            sequences(rows().map(|row| row.sequence)),
            texts(rows().map(|row| row.event_id.as_str())),
            texts(rows().map(|row| row.entity_type.as_str())),
            texts(rows().map(|row| row.entity_id.as_str())),
            texts(rows().map(|row| row.operation.as_str())),
            times(rows().map(|row| row.event_time_ms)),
            times(rows().map(|row| row.received_at_ms)),
            optional_times(rows().map(|row| row.created_at_ms)),
            optional_times(rows().map(|row| row.updated_at_ms)),
            optional_times(rows().map(|row| row.deleted_at_ms)),
            optional_texts(rows().map(|row| row.client_id.as_deref())),
            numbers(rows().map(|row| row.schema_version)),
            texts(rows().map(|row| row.payload.as_str())),
            optional_bytes(rows().map(|row| row.payload_raw.as_deref())),
            optional_unsigned(rows().map(|row| row.source_version)),
            optional_texts(rows().map(|row| row.correlation_id.as_deref())),
            optional_texts(rows().map(|row| row.causation_id.as_deref())),
            optional_texts(rows().map(|row| row.metadata.as_deref())),
        ]
    }

    fn decode(columns: Columns<'_>) -> Result<Vec<Self>> {
        let sequence = columns.sequence("seq")?;
        let event_id = columns.text("event_id")?;
        let entity_type = columns.text("entity_type")?;
        let entity_id = columns.text("entity_id")?;
        let operation = columns.text("op")?;
        let event_time = columns.time("event_time")?;
        let received_at = columns.time("received_at")?;
        let created_at = columns.optional_time("created_at")?;
        let updated_at = columns.optional_time("updated_at")?;
        let deleted_at = columns.optional_time("deleted_at")?;
        let client_id = columns.optional_text("client_id")?;
        let schema_version = columns.number("schema_version")?;
        let payload = columns.text("payload")?;
        let payload_raw = columns.optional_bytes("payload_raw")?;
        let source_version = columns.optional_unsigned("source_version")?;
        let correlation_id = columns.optional_text("correlation_id")?;
        let causation_id = columns.optional_text("causation_id")?;
        let metadata = columns.optional_text("metadata")?;
        let row = |row| {
            Ok(Self {
                sequence: sequence(row),
                event_id: event_id(row)?,
                entity_type: entity_type(row)?,
                entity_id: entity_id(row)?,
                operation: operation_of(columns.file, &operation(row)?)?,
                event_time_ms: event_time(row),
                received_at_ms: received_at(row),
                created_at_ms: created_at(row),
                updated_at_ms: updated_at(row),
                deleted_at_ms: deleted_at(row),
                client_id: client_id(row),
                schema_version: schema_version(row),
                payload: payload(row)?,
                payload_raw: payload_raw(row),
                source_version: source_version(row),
                correlation_id: correlation_id(row),
                causation_id: causation_id(row),
                metadata: metadata(row),
            })
        };
        (0..columns.batch.num_rows()).map(row).collect()
    }

    fn compare(&self, other: &Self) -> Ordering {
        let key = |row: &'_ Self| (row.event_time_ms, row.sequence);
        (&self.entity_type, &self.entity_id)
            .cmp(&(&other.entity_type, &other.entity_id))
            .then_with(|| key(self).cmp(&key(other)))
    }

    fn hash(&self) -> u128 {
        RowBytes::default()
            .number(self.sequence)
            .text(&self.event_id)
            .text(&self.entity_type)
            .text(&self.entity_id)
            .text(self.operation.as_str())
            .time(self.event_time_ms)
            .time(self.received_at_ms)
            .optional(self.created_at_ms, RowBytes::time)
            .optional(self.updated_at_ms, RowBytes::time)
            .optional(self.deleted_at_ms, RowBytes::time)
            .optional(self.client_id.as_deref(), RowBytes::text)
            .number(self.schema_version.into())
            .text(&self.payload)
            .optional(self.payload_raw.as_deref(), RowBytes::bytes)
            .optional(self.source_version, RowBytes::number)
            .optional(self.correlation_id.as_deref(), RowBytes::text)
            .optional(self.causation_id.as_deref(), RowBytes::text)
            .optional(self.metadata.as_deref(), RowBytes::text)
            .hash()
    }

    fn entity_type(&self) -> &str {
        &self.entity_type
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn time_ms(&self) -> i64 {
        self.event_time_ms
    }

    fn bytes(&self) -> usize {
        // What is not counted by itself is short.
        512 + self.payload.len()
            + self.payload_raw.as_ref().map_or(0, Vec::len)
            + self.metadata.as_ref().map_or(0, String::len)
    }
}

/// A version of an entity.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct VersionRow {
    pub(super) entity_type: String,
    pub(super) entity_id: String,
    pub(super) version: u64,
    pub(super) operation: Operation,
    /// JSON; `None` where it is deleted.
    pub(super) state: Option<String>,
    pub(super) changed: Vec<String>,
    pub(super) valid_from_ms: i64,
    pub(super) valid_to_ms: Option<i64>,
    pub(super) known_from_ms: i64,
    pub(super) known_to_ms: Option<i64>,
    /// The event by which it began, with its source's counter.
    pub(super) sequence: u64,
    pub(super) source_version: Option<u64>,
}

impl VersionRow {
    pub(super) fn of(event: &EventRow, version: Version) -> Self {
        Self {
            entity_type: event.entity_type.clone(),
            entity_id: event.entity_id.clone(),
            version: version.version,
            operation: version.operation,
            state: version.state.map(|state| Value::Object(state).to_string()),
            changed: version.changed,
            valid_from_ms: version.valid_from_ms,
            valid_to_ms: version.valid_to_ms,
            known_from_ms: version.known_from_ms,
            known_to_ms: version.known_to_ms,
            sequence: version.sequence,
            source_version: event.source_version,
        }
    }

    /// See [`EntityEvent::order`](crate::EntityEvent); of the event by which it began.
    pub(super) fn order(&self) -> (i64, Option<u64>, u64) {
        (self.valid_from_ms, self.source_version, self.sequence)
    }
}

impl Row for VersionRow {
    const TABLE: Table = Table::Versions;
    const BLOOMS: &'static [&'static str] = &["entity_id"];

    fn schema() -> SchemaRef {
        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
            Arc::new(Schema::new(vec![
                field("entity_type", DataType::Utf8),
                field("entity_id", DataType::Utf8),
                field("version", DataType::Int64),
                field("op", DataType::Utf8),
                optional("state", DataType::Utf8),
                field("changed", names()),
                field("valid_from", time()),
                optional("valid_to", time()),
                field("known_from", time()),
                optional("known_to", time()),
                field("seq", DataType::Int64),
                optional("source_version", unsigned()),
            ]))
        });
        Arc::clone(&SCHEMA)
    }

    fn encode(rows: &[Self]) -> Vec<ArrayRef> {
        let rows = || rows.iter();
        vec![
            texts(rows().map(|row| row.entity_type.as_str())),
            texts(rows().map(|row| row.entity_id.as_str())),
            sequences(rows().map(|row| row.version)),
            texts(rows().map(|row| row.operation.as_str())),
            optional_texts(rows().map(|row| row.state.as_deref())),
            lists(rows().map(|row| row.changed.as_slice())),
            times(rows().map(|row| row.valid_from_ms)),
            optional_times(rows().map(|row| row.valid_to_ms)),
            times(rows().map(|row| row.known_from_ms)),
            optional_times(rows().map(|row| row.known_to_ms)),
            sequences(rows().map(|row| row.sequence)),
            optional_unsigned(rows().map(|row| row.source_version)),
        ]
    }

    fn decode(columns: Columns<'_>) -> Result<Vec<Self>> {
        let entity_type = columns.text("entity_type")?;
        let entity_id = columns.text("entity_id")?;
        let version = columns.sequence("version")?;
        let operation = columns.text("op")?;
        let state = columns.optional_text("state")?;
        let changed = columns.list("changed")?;
        let valid_from = columns.time("valid_from")?;
        let valid_to = columns.optional_time("valid_to")?;
        let known_from = columns.time("known_from")?;
        let known_to = columns.optional_time("known_to")?;
        let sequence = columns.sequence("seq")?;
        let source_version = columns.optional_unsigned("source_version")?;
        let row = |row| {
            Ok(Self {
                entity_type: entity_type(row)?,
                entity_id: entity_id(row)?,
                version: version(row),
                operation: operation_of(columns.file, &operation(row)?)?,
                state: state(row),
                changed: changed(row)?,
                valid_from_ms: valid_from(row),
                valid_to_ms: valid_to(row),
                known_from_ms: known_from(row),
                known_to_ms: known_to(row),
                sequence: sequence(row),
                source_version: source_version(row),
            })
        };
        (0..columns.batch.num_rows()).map(row).collect()
    }

    fn compare(&self, other: &Self) -> Ordering {
        let times = |row: &Self| (row.known_from_ms, row.known_to_ms, row.valid_from_ms, row.sequence);
        (&self.entity_type, &self.entity_id)
            .cmp(&(&other.entity_type, &other.entity_id))
            .then_with(|| times(self).cmp(&times(other)))
            .then_with(|| (self.version, self.valid_to_ms).cmp(&(other.version, other.valid_to_ms)))
    }

    fn hash(&self) -> u128 {
        let mut bytes = RowBytes::default();
        bytes
            .text(&self.entity_type)
            .text(&self.entity_id)
            .number(self.version)
            .text(self.operation.as_str())
            .optional(self.state.as_deref(), RowBytes::text)
            .number(self.changed.len() as u64);
        for name in &self.changed {
            bytes.text(name);
        }
        bytes
            .time(self.valid_from_ms)
            .optional(self.valid_to_ms, RowBytes::time)
            .time(self.known_from_ms)
            .optional(self.known_to_ms, RowBytes::time)
            .number(self.sequence)
            .optional(self.source_version, RowBytes::number)
            .hash()
    }

    fn entity_type(&self) -> &str {
        &self.entity_type
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn time_ms(&self) -> i64 {
        self.valid_from_ms
    }

    fn bytes(&self) -> usize {
        512 + self.state.as_ref().map_or(0, String::len)
            + self.changed.iter().map(|name| name.len() + 24).sum::<usize>()
    }
}

/// An entity that is live.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CurrentRow {
    pub(super) entity_type: String,
    pub(super) entity_id: String,
    /// JSON.
    pub(super) state: String,
    pub(super) version: u64,
    /// Of the event by which it began: the first one, or the first after it was deleted.
    pub(super) created_at_ms: i64,
    /// Of the last event, in the order in which they are folded, as what follows.
    pub(super) updated_at_ms: i64,
    pub(super) received_at_ms: i64,
    /// Of the event by which it began.
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    pub(super) schema_version: u32,
}

#[cfg(test)]
impl CurrentRow {
    /// One of a first event, with all of its times at zero.
    pub(super) fn of_first(entity_type: &str, entity_id: String, state: String) -> Self {
        Self {
            entity_type: entity_type.to_owned(),
            entity_id,
            state,
            version: 1,
            created_at_ms: 0,
            updated_at_ms: 0,
            received_at_ms: 0,
            first_sequence: 1,
            last_sequence: 1,
            schema_version: 1,
        }
    }
}

impl Row for CurrentRow {
    const TABLE: Table = Table::Current;
    const BLOOMS: &'static [&'static str] = &["entity_id"];

    fn schema() -> SchemaRef {
        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
            Arc::new(Schema::new(vec![
                field("entity_type", DataType::Utf8),
                field("entity_id", DataType::Utf8),
                field("state", DataType::Utf8),
                field("version", DataType::Int64),
                field("created_at", time()),
                field("updated_at", time()),
                field("received_at", time()),
                field("first_seq", DataType::Int64),
                field("last_seq", DataType::Int64),
                field("schema_version", DataType::Int32),
            ]))
        });
        Arc::clone(&SCHEMA)
    }

    fn encode(rows: &[Self]) -> Vec<ArrayRef> {
        let rows = || rows.iter();
        vec![
            texts(rows().map(|row| row.entity_type.as_str())),
            texts(rows().map(|row| row.entity_id.as_str())),
            texts(rows().map(|row| row.state.as_str())),
            sequences(rows().map(|row| row.version)),
            times(rows().map(|row| row.created_at_ms)),
            times(rows().map(|row| row.updated_at_ms)),
            times(rows().map(|row| row.received_at_ms)),
            sequences(rows().map(|row| row.first_sequence)),
            sequences(rows().map(|row| row.last_sequence)),
            numbers(rows().map(|row| row.schema_version)),
        ]
    }

    fn decode(columns: Columns<'_>) -> Result<Vec<Self>> {
        let entity_type = columns.text("entity_type")?;
        let entity_id = columns.text("entity_id")?;
        let state = columns.text("state")?;
        let version = columns.sequence("version")?;
        let created_at = columns.time("created_at")?;
        let updated_at = columns.time("updated_at")?;
        let received_at = columns.time("received_at")?;
        let first_sequence = columns.sequence("first_seq")?;
        let last_sequence = columns.sequence("last_seq")?;
        let schema_version = columns.number("schema_version")?;
        let row = |row| {
            Ok(Self {
                entity_type: entity_type(row)?,
                entity_id: entity_id(row)?,
                state: state(row)?,
                version: version(row),
                created_at_ms: created_at(row),
                updated_at_ms: updated_at(row),
                received_at_ms: received_at(row),
                first_sequence: first_sequence(row),
                last_sequence: last_sequence(row),
                schema_version: schema_version(row),
            })
        };
        (0..columns.batch.num_rows()).map(row).collect()
    }

    fn compare(&self, other: &Self) -> Ordering {
        (&self.entity_type, &self.entity_id).cmp(&(&other.entity_type, &other.entity_id))
    }

    fn hash(&self) -> u128 {
        RowBytes::default()
            .text(&self.entity_type)
            .text(&self.entity_id)
            .text(&self.state)
            .number(self.version)
            .time(self.created_at_ms)
            .time(self.updated_at_ms)
            .time(self.received_at_ms)
            .number(self.first_sequence)
            .number(self.last_sequence)
            .number(self.schema_version.into())
            .hash()
    }

    fn entity_type(&self) -> &str {
        &self.entity_type
    }

    fn sequence(&self) -> u64 {
        self.last_sequence
    }

    fn time_ms(&self) -> i64 {
        self.updated_at_ms
    }

    fn bytes(&self) -> usize {
        512 + self.state.len()
    }
}

fn operation_of(file: &Path, text: &str) -> Result<Operation> {
    let all = [Operation::Create, Operation::Update, Operation::Delete];
    let found = all.into_iter().find(|operation| operation.as_str() == text);
    found.ok_or_else(|| damaged(file, &format!("{text:?} is no operation")))
}
