//! A client that sends changes of users, one by one or in batches.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use keplordb_server::grpc::v1::{IngestRecord, IngestResponse, Operation};
use keplordb_server::grpc::v2::IngestBatchRequest;
use keplordb_server::grpc::v2::capture_service_client::CaptureServiceClient;
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// Bytes before a message of gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Users that a client changes in turns.
const USERS: u64 = 20_000;

/// A connection, and what it sends next.
#[derive(Debug)]
pub(crate) struct Sender {
    events: SendRequest<Bytes>,
    uri: String,
    captures: CaptureServiceClient<Channel>,
    client: u64,
    sent: u64,
}

impl Sender {
    pub(crate) async fn connect(address: &str, client: u64) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (events, connection) = h2::client::handshake(stream).await?;
        // It ends when the sender is dropped; what goes wrong is seen by who sends.
        tokio::spawn(connection);
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
        Ok(Self {
            events,
            uri: format!("http://{address}/reflog.v1.IngestService/Ingest"),
            captures: CaptureServiceClient::new(channel),
            client,
            sent: 0,
        })
    }

    /// Sends one event, and waits until it is on disk; gives its sequence.
    pub(crate) async fn event(&mut self) -> Result<u64> {
        let record = self.next();
        let request =
            Request::post(&self.uri).header("content-type", "application/grpc").header("te", "trailers");
        let mut ready = self.events.clone().ready().await?;
        let (answer, mut sent) = ready.send_request(request.body(())?, false)?;
        sent.send_data(framed(&record)?, true)?;
        let answer = answer.await?;
        let is_refused = answer.headers().contains_key("grpc-status");
        let mut body = answer.into_body();
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.data().await.transpose()? {
            body.flow_control().release_capacity(piece.len())?;
            bytes.put(piece);
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        if is_refused || trailers.get("grpc-status").is_none_or(|status| status != "0") {
            bail!("the event was refused: {trailers:?}");
        }
        let message = bytes.get(PREFIX_BYTES..).context("an answer has a message")?;
        Ok(IngestResponse::decode(message)?.sequence)
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

/// A message as gRPC sends it.
fn framed(record: &IngestRecord) -> Result<Bytes> {
    let length = record.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length)?);
    record.encode(&mut bytes)?;
    Ok(bytes.freeze())
}
