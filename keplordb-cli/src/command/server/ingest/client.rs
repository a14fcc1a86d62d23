//! A server as a client sees it: what it answers, and what to do then.

use std::error::Error;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use keplordb_server::Schema;
use keplordb_server::grpc::v1;
use keplordb_server::grpc::v1::ingest_service_client::IngestServiceClient;
use keplordb_server::grpc::v1::proto_service_client::ProtoServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

/// The header by which a client says who it is.
const CLIENT: &str = "reflog-client-id";

/// A connection. Clones share it.
#[derive(Clone)]
pub(super) struct Server {
    address: String,
    channel: Channel,
    ingest: IngestServiceClient<Channel>,
    who: Who,
}

/// Who sends, and how the server is known. It has secrets, so it cannot be printed.
#[derive(Clone)]
pub(super) struct Who {
    /// As he calls himself; a server with keys knows better.
    pub(super) client: Option<MetadataValue<Ascii>>,
    /// `Bearer KEY`, which nothing prints.
    pub(super) key: Option<MetadataValue<Ascii>>,
    /// Who vouches for the server's certificate, in PEM.
    pub(super) ca: Option<String>,
    /// The client's own certificate and its private key.
    pub(super) identity: Option<Identity>,
}

impl Who {
    /// What a request says of it.
    fn sign<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(client) = &self.client {
            request.metadata_mut().insert(CLIENT, client.clone());
        }
        if let Some(key) = &self.key {
            request.metadata_mut().insert("authorization", key.clone());
        }
        request
    }
}

/// What a server makes of an event.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is on disk.
    Taken(v1::IngestResponse),
    /// It never will be, as it is.
    Rejected(String),
    /// It may be taken later.
    Busy(String),
    /// Nothing more can be sent, and what became of this one is not known.
    Lost(String),
}

/// Whether what is sent to a host stays on this machine.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

impl Server {
    pub(super) async fn connect(address: &str, who: Who) -> Result<Self> {
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(address.clone());
        let endpoint =
            endpoint.with_context(|| format!("{address:?} is no address as http://127.0.0.1:50051"))?;
        let is_encrypted = endpoint.uri().scheme_str() == Some("https");
        if who.key.is_some() && !is_encrypted && !endpoint.uri().host().is_some_and(is_this_machine) {
            bail!(
                "{address} is not encrypted, and everybody between here and there could read the key; write https://"
            );
        }
        let endpoint = match (&who.ca, is_encrypted) {
            (Some(ca), true) => {
                let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
                if let Some(identity) = &who.identity {
                    tls = tls.identity(identity.clone());
                }
                endpoint.tls_config(tls)
            }
            (None, true) => bail!("{address}: who vouches for its certificate? give the file: --ca FILE"),
            (Some(_), false) => bail!("{address} is not encrypted, so --ca is for nothing; write https://"),
            (None, false) => Ok(endpoint),
        };
        let endpoint = endpoint.context("a certificate cannot be used")?;
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => {
                bail!(
                    "no server answers at {address}: {}; `keplor serve ROOT` starts one",
                    first_cause(&error)
                )
            }
        };
        let ingest = IngestServiceClient::new(channel.clone());
        Ok(Self { address, channel, ingest, who })
    }

    /// The types of the server's schema; none where it has no schema.
    pub(super) async fn types(&self) -> Result<Vec<String>> {
        let mut protos = ProtoServiceClient::new(self.channel.clone());
        let found = protos.get_protos(self.who.sign(v1::GetProtosRequest { version: None })).await;
        let text = match found {
            Ok(found) => found.into_inner().proto_content,
            Err(status) => bail!("{} does not tell its schema: {}", self.address, said(&status)),
        };
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let schema = Schema::compile(Path::new("the server's schema"), 1, &text)?;
        Ok(schema.types().map(str::to_owned).collect())
    }

    pub(super) async fn send(&self, record: v1::IngestRecord) -> Answer {
        match self.ingest.clone().ingest(self.who.sign(record)).await {
            Ok(response) => Answer::Taken(response.into_inner()),
            Err(status) => answer(&status),
        }
    }
}

fn answer(status: &Status) -> Answer {
    let said = said(status);
    // What the connection says, and not the server, says nothing of the event.
    if status.source().is_some() {
        return Answer::Lost(said);
    }
    match status.code() {
        Code::ResourceExhausted => Answer::Busy(said),
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::PermissionDenied => Answer::Rejected(said),
        // Without a key that is good no other event is taken either: among them `Unauthenticated`.
        _ => Answer::Lost(said),
    }
}

fn said(status: &Status) -> String {
    match status.source() {
        Some(source) => first_cause(source),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    }
}

/// What all that is said of an error comes from.
fn first_cause(error: &(dyn Error + 'static)) -> String {
    let mut first = error;
    while let Some(cause) = first.source() {
        first = cause;
    }
    first.to_string()
}
