//! An event as it is typed, or stands in a line, and the record that a server gets.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, bail};
use keplordb_log::Timestamp;
use keplordb_server::grpc::v1;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::command::server::name;

/// Nanoseconds of a millisecond.
const MS_NS: i128 = 1_000_000;

/// What is done to an entity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub(super) enum Operation {
    /// Replaces what it is
    Create,
    /// Changes the fields that the payload has
    #[default]
    Update,
    /// Ends it
    Delete,
}

/// What is said about an event, but for its entity.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(clippy::struct_field_names, reason = "an event's id is called so everywhere")]
pub(super) struct Event {
    pub(super) op: Operation,
    pub(super) payload: Map<String, Json>,
    /// In milliseconds since the Unix epoch.
    pub(super) at_ms: Option<i64>,
    pub(super) event_id: String,
    pub(super) expected_version: Option<u64>,
    pub(super) source_version: Option<u64>,
    pub(super) correlation_id: String,
    pub(super) causation_id: String,
    pub(super) metadata: HashMap<String, String>,
}

/// A line of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(rename = "type")]
    entity_type: Option<String>,
    id: String,
    op: String,
    payload: Option<Map<String, Json>>,
    at: Option<Json>,
    #[serde(default)]
    event_id: String,
    expected_version: Option<u64>,
    source_version: Option<u64>,
    #[serde(default)]
    correlation_id: String,
    #[serde(default)]
    causation_id: String,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

impl Event {
    /// The record of an entity.
    pub(super) fn record(self, entity_type: String, entity_id: String) -> v1::IngestRecord {
        let operation = match self.op {
            Operation::Create => v1::Operation::Create,
            Operation::Update => v1::Operation::Update,
            Operation::Delete => v1::Operation::Delete,
        };
        let at_of = |op: Operation| self.at_ms.filter(|_| self.op == op);
        v1::IngestRecord {
            entity_type,
            entity_id,
            operation: operation.into(),
            payload: Json::Object(self.payload).to_string().into_bytes(),
            created_at_utc: at_of(Operation::Create),
            updated_at_utc: at_of(Operation::Update),
            deleted_at_utc: at_of(Operation::Delete),
            event_id: self.event_id,
            expected_version: self.expected_version,
            content_type: v1::ContentType::Json.into(),
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            metadata: self.metadata,
            source_version: self.source_version,
            ..v1::IngestRecord::default()
        }
    }
}

/// A line as a record, which counts milliseconds, and the whole time that it gives.
#[derive(Debug)]
pub(in crate::command::server) struct OfLine {
    pub(in crate::command::server) record: v1::IngestRecord,
    /// In nanoseconds since the Unix epoch.
    pub(in crate::command::server) time_ns: Option<i128>,
}

/// What a line is; `types` are those of the server's schema, for lines that do not say their type.
pub(super) fn of_line(line: &[u8], types: &[String]) -> Result<OfLine> {
    let line: Line = serde_json::from_slice(line).context("it is no event")?;
    let (entity_type, id) = match line.entity_type {
        Some(entity_type) => (entity_type, line.id),
        None => name::resolve(&line.id, types)?,
    };
    let op = <Operation as clap::ValueEnum>::from_str(&line.op, true)
        .map_err(|_| anyhow!("op is CREATE, UPDATE or DELETE, not {:?}", line.op))?;
    let time_ns = match line.at {
        None => None,
        Some(Json::String(text)) => {
            let at = text.parse::<Timestamp>();
            let at = at.map_err(|_| anyhow!("at is no time as 2026-02-21T10:00:00Z: {text:?}"))?;
            Some(i128::from(at.as_ns()))
        }
        Some(Json::Number(number)) => {
            let at_ms = number.as_i64().with_context(|| format!("at is a whole number, not {number}"))?;
            Some(i128::from(at_ms) * MS_NS)
        }
        Some(other) => bail!("at is a time as \"2026-02-21T10:00:00Z\" or in milliseconds, not {other}"),
    };
    let event = Event {
        op,
        payload: line.payload.unwrap_or_default(),
        at_ms: time_ns.and_then(|time_ns| i64::try_from(time_ns.div_euclid(MS_NS)).ok()),
        event_id: line.event_id,
        expected_version: line.expected_version,
        source_version: line.source_version,
        correlation_id: line.correlation_id,
        causation_id: line.causation_id,
        metadata: line.metadata,
    };
    Ok(OfLine { record: event.record(entity_type, id), time_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_event_with_its_time_by_its_operation() {
        let of_line = |line: &str| of_line(line.as_bytes(), &["User".to_owned()]);
        let record = |line: &str| of_line(line).map(|of_line| of_line.record);
        let whole = record(
            r#"{"type":"User","id":"a_1","op":"delete","at":"1970-01-01T00:00:02Z","event_id":"e","metadata":{"k":"v"}}"#,
        )
        .unwrap();
        assert_eq!((whole.entity_type.as_str(), whole.entity_id.as_str()), ("User", "a_1"));
        assert_eq!(
            (whole.deleted_at_utc, whole.updated_at_utc, whole.event_id.as_str()),
            (Some(2000), None, "e")
        );
        assert_eq!((whole.payload.as_slice(), whole.metadata["k"].as_str()), (&b"{}"[..], "v"));
        let named = record(r#"{"id":"user_1","op":"UPDATE","payload":{"a":null},"at":-7}"#).unwrap();
        assert_eq!((named.entity_type.as_str(), named.entity_id.as_str()), ("User", "user_1"));
        assert_eq!((named.updated_at_utc, named.payload.as_slice()), (Some(-7), &br#"{"a":null}"#[..]));
        let at_ns = |at: &str| {
            of_line(&format!(r#"{{"id":"user_1","op":"UPDATE","at":{at}}}"#)).unwrap().time_ns.unwrap()
        };
        assert_eq!(at_ns(r#""1970-01-01T00:00:02.000000001Z""#), 2_000_000_001);
        assert_eq!((at_ns("-7"), at_ns("9223372036854775807") % MS_NS), (-7_000_000, 0));
        for (line, wrong) in [
            ("", "it is no event"),
            (r#"{"id":"user_1"}"#, "missing field `op`"),
            (r#"{"id":"user_1","op":"MERGE"}"#, "not \"MERGE\""),
            (r#"{"id":"user_1","op":"UPDATE","payload":[]}"#, "it is no event"),
            (r#"{"id":"user_1","op":"UPDATE","paylaod":{}}"#, "unknown field `paylaod`"),
            (r#"{"id":"x","op":"UPDATE"}"#, "write Type/id"),
            (r#"{"id":"user_1","op":"UPDATE","at":"yesterday"}"#, "no time"),
        ] {
            let error = format!("{:#}", record(line).unwrap_err());
            assert!(error.contains(wrong), "{line}: {error}");
        }
    }
}
