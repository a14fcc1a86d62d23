//! The services of gRPC: what arrives becomes a record, and what became of it a response or a status. [`v1`] and [`v2`] are the
//! protocols, also for clients in Rust.

use std::sync::Arc;

use serde_json::Value;
use tonic::{Code, Request, Status};

use crate::auth::Caller;
use crate::capture::Capture;
use crate::entity::EntityEvent;
use crate::error::Refused;
use crate::fold::Operation;
use crate::ingest::Receipt;
use crate::payload::ContentType;
use crate::record::Record;

mod captures;
mod entities;
mod schemas;
mod v1_services;

#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "made from proto/capture.proto"
)]
pub mod v1 {
    tonic::include_proto!("reflog.v1");
}

#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "made from proto/capture_v2.proto"
)]
pub mod v2 {
    tonic::include_proto!("reflog.v2");
}

/// The descriptors of the protocol, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/capture.binpb"));

/// The header by which a client says who it is.
const CLIENT: &str = "reflog-client-id";

/// All services over one way in.
#[derive(Debug, Clone)]
pub(crate) struct Services(pub(crate) Arc<Capture>);

/// Who sends a request; the gate says so of each.
fn caller_of<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get().cloned();
    caller.ok_or_else(|| Status::internal("the request came past the gate"))
}

/// Whose events these are: of the key, and without one, of who the request says.
fn client_of<T>(request: &Request<T>, caller: &Caller) -> Result<String, Status> {
    match request.metadata().get(CLIENT).map(|client| client.to_str()) {
        None => Ok(caller.client("")),
        Some(Ok(client)) => Ok(caller.client(client)),
        Some(Err(_)) => Err(Status::invalid_argument(format!("{CLIENT}: it is no text of ASCII"))),
    }
}

fn response_of(receipt: Receipt) -> v1::IngestResponse {
    v1::IngestResponse {
        ok: true,
        message: if receipt.is_duplicate { "the event was there already".to_owned() } else { String::new() },
        sequence: receipt.sequence,
        segment: receipt.segments,
        event_id: receipt.event_id,
        duplicate: receipt.is_duplicate,
        durable_at: receipt.durable_at_ms,
    }
}

fn event_of(event: EntityEvent) -> v2::Event {
    v2::Event {
        sequence: event.sequence,
        event_id: event.event_id,
        entity_type: event.entity_type,
        entity_id: event.entity_id,
        operation: match event.operation {
            Operation::Create => v1::Operation::Create,
            Operation::Update => v1::Operation::Update,
            Operation::Delete => v1::Operation::Delete,
        }
        .into(),
        event_time: event.event_time_ms,
        received_at: event.received_at_ms,
        client_id: event.client,
        schema_version: event.schema_version,
        payload: event.payload.map(|payload| Value::Object(payload).to_string()),
        correlation_id: event.correlation_id,
        causation_id: event.causation_id,
        source_version: event.source_version,
    }
}

fn record_of(record: v1::IngestRecord, client: String) -> Record {
    Record { client, ..Record::from(record) }
}

/// All that the message says; who sends it is said by the request.
impl From<v1::IngestRecord> for Record {
    fn from(record: v1::IngestRecord) -> Self {
        let operation = match record.operation() {
            v1::Operation::Unspecified => None,
            v1::Operation::Create => Some(Operation::Create),
            v1::Operation::Update => Some(Operation::Update),
            v1::Operation::Delete => Some(Operation::Delete),
        };
        let content_type = match record.content_type() {
            v1::ContentType::Unspecified => ContentType::Unspecified,
            v1::ContentType::Protobuf => ContentType::Protobuf,
            v1::ContentType::Json => ContentType::Json,
        };
        Self {
            entity_type: record.entity_type,
            entity_id: record.entity_id,
            operation,
            payload: record.payload,
            content_type,
            update_mask: record.update_mask.map(|mask| mask.paths).unwrap_or_default(),
            event_id: record.event_id,
            expected_version: record.expected_version,
            created_at_ms: record.created_at_utc,
            updated_at_ms: record.updated_at_utc,
            deleted_at_ms: record.deleted_at_utc,
            // The field has no presence: 0 is what a client sends that says nothing.
            client_time_ms: Some(record.received_at_utc).filter(|time_ms| *time_ms != 0),
            source_version: record.source_version,
            correlation_id: record.correlation_id,
            causation_id: record.causation_id,
            metadata: record.metadata.into_iter().collect(),
            client: String::new(),
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let code = match refused.reason() {
            Refused::Invalid { .. } => Code::InvalidArgument,
            Refused::Version { .. } => Code::FailedPrecondition,
            Refused::IdTaken { .. } => Code::AlreadyExists,
            Refused::Denied { .. } => Code::PermissionDenied,
            Refused::Busy { .. }
            | Refused::Full { .. }
            | Refused::Subscribers { .. }
            | Refused::TooOften { .. } => Code::ResourceExhausted,
            Refused::Stopping => Code::Unavailable,
            Refused::Failed { .. } | Refused::InBatch { .. } => Code::Internal,
        };
        let mut status = Self::new(code, refused.to_string());
        if code == Code::ResourceExhausted {
            status.metadata_mut().insert("retry-after", tonic::metadata::MetadataValue::from_static("1"));
        }
        status
    }
}
