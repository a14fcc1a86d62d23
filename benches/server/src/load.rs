//! A client that sends changes of users, one by one or in batches.

use anyhow::{Context as _, Result, ensure};
use keplordb_server::grpc::v1::ingest_service_client::IngestServiceClient;
use keplordb_server::grpc::v1::{IngestRecord, Operation};
use keplordb_server::grpc::v2::IngestBatchRequest;
use keplordb_server::grpc::v2::capture_service_client::CaptureServiceClient;
use tonic::transport::{Channel, Endpoint};

/// Users that a client changes in turns.
const USERS: u64 = 20_000;

/// A connection, and what it sends next.
#[derive(Debug)]
pub(crate) struct Sender {
    ingest: IngestServiceClient<Channel>,
    captures: CaptureServiceClient<Channel>,
    client: u64,
    sent: u64,
}

impl Sender {
    pub(crate) async fn connect(address: &str, client: u64) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        Ok(Self {
            ingest: IngestServiceClient::new(channel.clone()),
            captures: CaptureServiceClient::new(channel),
            client,
            sent: 0,
        })
    }

    /// Sends one event, and waits until it is on disk; gives its sequence.
    pub(crate) async fn event(&mut self) -> Result<u64> {
        let record = self.next();
        Ok(self.ingest.ingest(record).await?.into_inner().sequence)
    }

    /// Sends a batch, and waits until it is on disk; gives its last sequence.
    pub(crate) async fn batch(&mut self, records: usize) -> Result<u64> {
        let records: Vec<IngestRecord> = (0..records).map(|_| self.next()).collect();
        let count = records.len();
        let answer = self.captures.ingest_batch(IngestBatchRequest { records }).await?.into_inner();
        ensure!(answer.receipts.len() == count, "each record is acknowledged");
        Ok(answer.receipts.last().context("a batch has records")?.sequence)
    }

    /// The first round creates the users, later ones update them.
    fn next(&mut self) -> IngestRecord {
        let (user, round) = (self.sent % USERS, self.sent / USERS);
        self.sent += 1;
        let operation = if round == 0 { Operation::Create } else { Operation::Update };
        let payload = if round == 0 {
            format!(r#"{{"name":"Ada {user}","plan":"free","seats":1,"city":"London"}}"#)
        } else {
            format!(r#"{{"plan":"team","seats":{round}}}"#)
        };
        IngestRecord {
            entity_type: "User".to_owned(),
            entity_id: format!("user_{}_{user}", self.client),
            operation: operation.into(),
            payload: payload.into_bytes(),
            ..IngestRecord::default()
        }
    }
}
