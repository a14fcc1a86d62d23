//! The services of `reflog.v1`: what arrives becomes a record, and what became of it a response or a status. [`v1`] is the protocol, also
//! for clients in Rust.

use std::sync::Arc;

use tonic::{Code, Request, Response, Status};

use crate::capture::Capture;
use crate::error::Refused;
use crate::fold::Operation;
use crate::payload::ContentType;
use crate::record::Record;

#[allow(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "made from proto/capture.proto"
)]
pub mod v1 {
    tonic::include_proto!("reflog.v1");
}

/// The descriptors of the protocol, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/capture.binpb"));

/// The header by which a client says who it is.
const CLIENT: &str = "reflog-client-id";

/// All services over one way in.
#[derive(Debug, Clone)]
pub(crate) struct Services(pub(crate) Arc<Capture>);

#[tonic::async_trait]
impl v1::ingest_service_server::IngestService for Services {
    async fn ingest(
        &self,
        request: Request<v1::IngestRecord>,
    ) -> Result<Response<v1::IngestResponse>, Status> {
        let client = match request.metadata().get(CLIENT).map(|client| client.to_str()) {
            None => String::new(),
            Some(Ok(client)) => client.to_owned(),
            Some(Err(_)) => {
                return Err(Status::invalid_argument(format!("{CLIENT}: it is no text of ASCII")));
            }
        };
        let record = record_of(request.into_inner(), client)?;
        let receipt = self.0.capture(record).await?;
        Ok(Response::new(v1::IngestResponse {
            ok: true,
            message: if receipt.is_duplicate {
                "the event was there already".to_owned()
            } else {
                String::new()
            },
            sequence: receipt.sequence,
            segment: receipt.segments,
            event_id: receipt.event_id,
            duplicate: receipt.is_duplicate,
            durable_at: receipt.durable_at_ms,
        }))
    }
}

#[tonic::async_trait]
impl v1::health_service_server::HealthService for Services {
    async fn health_check(
        &self,
        _: Request<v1::HealthCheckRequest>,
    ) -> Result<Response<v1::HealthCheckResponse>, Status> {
        let (ok, message) = match self.0.health() {
            Ok(()) => (true, "events are taken".to_owned()),
            Err(refused) => (false, refused.to_string()),
        };
        Ok(Response::new(v1::HealthCheckResponse { ok, message }))
    }
}

#[tonic::async_trait]
impl v1::proto_service_server::ProtoService for Services {
    async fn get_protos(
        &self,
        request: Request<v1::GetProtosRequest>,
    ) -> Result<Response<v1::GetProtosResponse>, Status> {
        let schemas = self.0.schemas();
        let Some(asked) = request.into_inner().version else {
            let newest = schemas.newest().map(|schema| schema.text().to_owned());
            return Ok(Response::new(v1::GetProtosResponse { proto_content: newest.unwrap_or_default() }));
        };
        let found = asked.parse().ok().and_then(|version| schemas.version(version));
        let found = found.ok_or_else(|| {
            Status::not_found(format!("there is no version {asked:?}; there are {}", schemas.all().len()))
        })?;
        Ok(Response::new(v1::GetProtosResponse { proto_content: found.text().to_owned() }))
    }
}

fn record_of(record: v1::IngestRecord, client: String) -> Result<Record, Status> {
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
    Ok(Record {
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
        client,
    })
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let code = match &refused {
            Refused::Invalid { .. } => Code::InvalidArgument,
            Refused::Version { .. } => Code::FailedPrecondition,
            Refused::IdTaken { .. } => Code::AlreadyExists,
            Refused::Busy { .. } | Refused::Full { .. } => Code::ResourceExhausted,
            Refused::Stopping => Code::Unavailable,
            Refused::Failed { .. } => Code::Internal,
        };
        let mut status = Self::new(code, refused.to_string());
        if matches!(refused, Refused::Busy { .. } | Refused::Full { .. }) {
            status.metadata_mut().insert("retry-after", tonic::metadata::MetadataValue::from_static("1"));
        }
        status
    }
}
