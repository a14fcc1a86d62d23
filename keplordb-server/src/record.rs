//! A record on its way in, and the event that the log keeps of it.

use std::collections::BTreeMap;

use keplordb::{EventFlags, Schema};
use serde::{Deserialize, Serialize};

use crate::error::{Refused, Result};
use crate::fold::Operation;
use crate::name::{check_id, check_type};
use crate::payload::{self, ContentType, Payload};
use crate::schema;

/// Largest payload, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 8 << 20;
/// Most pairs of metadata, and the longest key and value, in bytes.
const MAX_METADATA: (usize, usize) = (64, 4096);
/// Nanoseconds of a millisecond.
const MS_NS: i64 = 1_000_000;

/// What the log keeps of an event. Its time is that at which it happened; `metric` is when it came in, in nanoseconds, which never
/// decreases along the sequence; `status` is the operation, `id` the id by which it is captured once.
#[derive(Schema)]
#[keplordb(id = 1)]
pub struct Event {
    /// See [`Record::entity_type`].
    #[dim(rollup)]
    pub entity_type: String,
    /// See [`Record::entity_id`].
    #[dim(bloom)]
    pub entity_id: String,
    /// Who sent it.
    #[dim]
    pub client: String,
    /// The version of the schema by which it was read; 0 where there was none.
    #[counter]
    pub schema_version: u32,
    /// The text of a JSON object; base64 where the payload's bytes are of no known kind.
    #[label]
    pub payload: String,
    /// What else came with it, as JSON; empty where nothing did.
    #[label]
    pub envelope: String,
}

/// The payload is base64.
pub(crate) const OPAQUE: EventFlags = EventFlags(1);

/// What a client sends about an event.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// A message of the schema; any name where there is none.
    pub entity_type: String,
    /// The key within the type.
    pub entity_id: String,
    /// What is done; there is none that is meant by leaving it out.
    pub operation: Option<Operation>,
    /// The entity, or what changes of it.
    pub payload: Vec<u8>,
    /// How it is written.
    pub content_type: ContentType,
    /// Fields of a protobuf payload that are set also where they have their default value.
    pub update_mask: Vec<String>,
    /// The id by which it is captured once; made where there is none.
    pub event_id: String,
    /// How many events of the entity there must be.
    pub expected_version: Option<u64>,
    /// When it was created, in milliseconds since the Unix epoch: the time of a create.
    pub created_at_ms: Option<i64>,
    /// Likewise of an update.
    pub updated_at_ms: Option<i64>,
    /// Likewise of a delete.
    pub deleted_at_ms: Option<i64>,
    /// When the client says that it was received, likewise; kept, and used for nothing.
    pub client_time_ms: Option<i64>,
    /// The source's own counter, by which events of the same time are ordered.
    pub source_version: Option<u64>,
    /// What belongs together.
    pub correlation_id: String,
    /// What it was caused by.
    pub causation_id: String,
    /// Anything else.
    pub metadata: BTreeMap<String, String>,
    /// Who sends it.
    pub client: String,
}

/// What else the log keeps of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Envelope {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) updated_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deleted_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_time_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_version: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) correlation_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) causation_id: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A record that was checked: what is missing is the moment at which it is taken.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) entity_type: String,
    pub(crate) entity_id: String,
    pub(crate) operation: Operation,
    pub(crate) event_id: String,
    pub(crate) expected_version: Option<u64>,
    /// By the record's own time; when it is received otherwise.
    pub(crate) event_time_ms: Option<i64>,
    client: String,
    schema_version: u32,
    payload: Payload,
    envelope: String,
}

impl Record {
    /// What is done to an entity; it sets nothing yet, and its time is when it comes in.
    pub fn new(entity_type: impl Into<String>, entity_id: impl Into<String>, operation: Operation) -> Self {
        let (entity_type, entity_id) = (entity_type.into(), entity_id.into());
        Self { entity_type, entity_id, operation: Some(operation), ..Self::default() }
    }

    /// Sets these fields; `payload` is a JSON object.
    #[must_use]
    pub fn json(mut self, payload: &serde_json::Value) -> Self {
        (self.payload, self.content_type) = (payload.to_string().into_bytes(), ContentType::Json);
        self
    }

    /// When it happened, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn at_ms(mut self, time_ms: i64) -> Self {
        match self.operation {
            Some(Operation::Create) => self.created_at_ms = Some(time_ms),
            Some(Operation::Update) => self.updated_at_ms = Some(time_ms),
            Some(Operation::Delete) => self.deleted_at_ms = Some(time_ms),
            None => {}
        }
        self
    }

    /// The id by which it is captured once.
    #[must_use]
    pub fn event_id(mut self, id: impl Into<String>) -> Self {
        self.event_id = id.into();
        self
    }

    /// Checks all that can be known without the log.
    pub(crate) fn check(self, schema: Option<&schema::Schema>) -> Result<Checked> {
        check_type(&self.entity_type)?;
        check_id("entity_id", &self.entity_id)?;
        for (field, id) in [
            ("event_id", &self.event_id),
            ("correlation_id", &self.correlation_id),
            ("causation_id", &self.causation_id),
            ("reflog-client-id", &self.client),
        ] {
            if !id.is_empty() {
                check_id(field, id)?;
            }
        }
        let operation = self.operation.ok_or_else(|| {
            Refused::invalid("operation", "it is not set; a record creates, updates or deletes an entity")
        })?;
        let (pairs_max, bytes_max) = MAX_METADATA;
        if self.metadata.len() > pairs_max
            || self.metadata.iter().any(|(key, value)| key.len().max(value.len()) > bytes_max)
        {
            let what = format!("at most {pairs_max} pairs of at most {bytes_max} bytes are possible");
            return Err(Refused::invalid("metadata", what));
        }
        if self.payload.len() > MAX_PAYLOAD_BYTES {
            let what =
                format!("it has {} bytes, at most {MAX_PAYLOAD_BYTES} are possible", self.payload.len());
            return Err(Refused::invalid("payload", what));
        }
        let entity = match schema {
            None => None,
            Some(schema) => Some(schema.get(&self.entity_type).ok_or_else(|| {
                let types = schema.types().collect::<Vec<_>>().join(", ");
                Refused::invalid(
                    "entity_type",
                    format!("the schema has no {}; it has {types}", self.entity_type),
                )
            })?),
        };
        let payload = payload::read(entity, self.content_type, &self.payload, &self.update_mask)?;
        let event_time_ms = match operation {
            Operation::Create => self.created_at_ms,
            Operation::Update => self.updated_at_ms,
            Operation::Delete => self.deleted_at_ms,
        };
        for (field, time_ms) in [
            ("created_at_utc", self.created_at_ms),
            ("updated_at_utc", self.updated_at_ms),
            ("deleted_at_utc", self.deleted_at_ms),
            ("received_at_utc", self.client_time_ms),
        ] {
            if time_ms.is_some_and(|time_ms| time_ms.checked_mul(MS_NS).is_none()) {
                return Err(Refused::invalid(
                    field,
                    "it is not between the years 1677 and 2262; it counts milliseconds",
                ));
            }
        }
        let envelope = Envelope {
            created_at_ms: self.created_at_ms,
            updated_at_ms: self.updated_at_ms,
            deleted_at_ms: self.deleted_at_ms,
            client_time_ms: self.client_time_ms,
            source_version: self.source_version,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            metadata: self.metadata,
        };
        Ok(Checked {
            entity_type: self.entity_type,
            entity_id: self.entity_id,
            operation,
            event_id: self.event_id,
            expected_version: self.expected_version,
            event_time_ms,
            client: self.client,
            schema_version: schema.map_or(0, schema::Schema::version),
            payload,
            envelope: envelope.to_text(),
        })
    }
}

impl Envelope {
    fn to_text(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }

    pub(crate) fn of_text(text: &str) -> std::result::Result<Self, serde_json::Error> {
        if text.is_empty() { Ok(Self::default()) } else { serde_json::from_str(text) }
    }
}

impl Checked {
    /// The type and the id of its entity.
    pub(crate) fn entity(&self) -> (String, String) {
        (self.entity_type.clone(), self.entity_id.clone())
    }

    /// Whether another one is of the same entity.
    pub(crate) fn is_of_entity_of(&self, other: &Self) -> bool {
        (&self.entity_type, &self.entity_id) == (&other.entity_type, &other.entity_id)
    }

    /// About what it takes in memory until it is written.
    pub(crate) fn bytes(&self) -> usize {
        const AROUND: usize = 256;
        let payload = match &self.payload {
            Payload::Json(text) | Payload::Opaque(text) => text.len(),
        };
        AROUND
            + self.entity_type.len()
            + self.entity_id.len()
            + self.event_id.len()
            + payload
            + self.envelope.len()
    }

    /// The event of a record that is taken now; `id` is its own, or one that was made. What it is received at never decreases, also
    /// where the clock does; both are in milliseconds since the Unix epoch.
    pub(crate) fn into_event(
        self,
        id: String,
        now_ms: i64,
        received_at_ms: i64,
    ) -> <Event as Schema>::Builder {
        let (payload, is_opaque) = match self.payload {
            Payload::Json(text) => (text, false),
            Payload::Opaque(text) => (text, true),
        };
        let flags = if is_opaque { OPAQUE } else { EventFlags(0) };
        let event_time_ms = self.event_time_ms.unwrap_or(now_ms);
        Event::new(event_time_ms.saturating_mul(MS_NS))
            .id(id)
            .metric(received_at_ms.saturating_mul(MS_NS))
            .status(self.operation.status())
            .flags(flags)
            .entity_type(self.entity_type)
            .entity_id(self.entity_id)
            .client(self.client)
            .schema_version(self.schema_version)
            .payload(payload)
            .envelope(self.envelope)
    }
}
