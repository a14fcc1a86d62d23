//! `keplor ingest`: events of entities to a server, one or a file of them.

mod client;
mod event;
mod lanes;
mod lines;

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keplordb_log::Timestamp;
use keplordb_server::grpc::v1;
use serde_json::{Map, Value as Json, json};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Identity;

use self::client::{Answer, Server, Who};
pub(super) use self::event::OfLine;
use self::event::{Event, Operation};
pub(super) use self::lines::{Lines, Next, read_line};
use super::name;
use crate::command::Done;
use crate::output::Output;
use crate::parse;

/// Send events of entities to a server
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).args(["entity", "file"]),
    after_help = "\
Examples:
  keplor ingest --entity User/user_123 --op CREATE --payload '{\"name\":\"Ada\",\"plan\":\"free\"}'
  keplor ingest --entity user_123 --op UPDATE --payload '{\"plan\":\"team\"}' --at 2026-02-01
  keplor ingest --file events.jsonl

CREATE replaces what the entity is, UPDATE changes the fields that the payload has (null removes one), DELETE ends it. An event is on
disk when it is acknowledged. Without --type it is what the name says (User/user_123, User:user_123), or the longest beginning before
a _, - or . that is a type of the server's schema: user_123 is a User there.

A file has an object of JSON a line:
  {\"type\":\"User\",\"id\":\"user_123\",\"op\":\"UPDATE\",\"payload\":{\"plan\":\"team\"},\"at\":\"2026-02-01T08:00:00Z\",\"event_id\":\"e-17\"}
Of them id and op must be there; others are expected_version, source_version, correlation_id, causation_id and metadata. `at` is a
time in RFC 3339 or in milliseconds since the Unix epoch. Events of one entity are sent in the order of their lines. A line that is
rejected is counted and written to a side file, and the exit status is 2. A file whose lines have event_ids can be sent again safely:
those that were there already are not captured twice."
)]
pub(crate) struct Ingest {
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051")]
    server: String,
    /// The entity's id; or its type and its id: `User/user_123`
    #[arg(long, value_name = "ID", requires = "op", help_heading = "One event")]
    entity: Option<String>,
    /// The entity's type
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "file", help_heading = "One event")]
    entity_type: Option<String>,
    /// What is done
    #[arg(long, value_enum, ignore_case = true, conflicts_with = "file", help_heading = "One event")]
    op: Option<Operation>,
    /// What it sets: an object of JSON
    #[arg(long, value_name = "JSON", conflicts_with_all = ["payload_file", "file"], help_heading = "One event")]
    payload: Option<String>,
    /// The payload from a file, or from standard input (-)
    #[arg(long, value_name = "FILE", conflicts_with = "file", help_heading = "One event")]
    payload_file: Option<PathBuf>,
    /// When it happened; by default, when it comes in: RFC 3339, a date (midnight in UTC), or how long ago (90s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse::time, conflicts_with = "file", help_heading = "One event")]
    at: Option<Timestamp>,
    /// The id by which it is captured once
    #[arg(long, value_name = "ID", conflicts_with = "file", help_heading = "One event")]
    event_id: Option<String>,
    /// How many events the entity must have; with another number nothing is captured
    #[arg(long, value_name = "N", conflicts_with = "file", help_heading = "One event")]
    expected_version: Option<u64>,
    /// The source's own counter, by which events of the same millisecond are ordered
    #[arg(long, value_name = "N", conflicts_with = "file", help_heading = "One event")]
    source_version: Option<u64>,
    /// A file of events, an object of JSON a line; - is standard input
    #[arg(long, value_name = "FILE", help_heading = "Many events")]
    file: Option<PathBuf>,
    /// How many events are under way at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Many events")]
    lanes: u16,
    /// Where rejected lines go, as CSV; by default beside the file: FILE.rejects.csv
    #[arg(long, value_name = "FILE", requires = "file", help_heading = "Many events")]
    rejects: Option<PathBuf>,
    /// Print the receipt of each event when it is acknowledged: line, sequence and event id, as JSON
    #[arg(long, requires = "file", conflicts_with = "json", help_heading = "Output")]
    receipts: bool,
    /// Who sends them
    #[arg(long, value_name = "NAME", value_parser = client_name)]
    client: Option<MetadataValue<Ascii>>,
    /// A file with the key, where the server asks for one; else it is taken from the environment, `KEPLOR_KEY`
    #[arg(long, value_name = "FILE", help_heading = "The server")]
    key_file: Option<PathBuf>,
    /// A file with the certificate that vouches for the server's, of https://: PEM
    #[arg(long, value_name = "FILE", help_heading = "The server")]
    ca: Option<PathBuf>,
    /// A file with a certificate of this client's, where the server asks for one, and those that vouch for it: PEM
    #[arg(long, value_name = "FILE", requires = "cert_key", help_heading = "The server")]
    cert: Option<PathBuf>,
    /// The private key of --cert: PEM
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "The server")]
    cert_key: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

fn client_name(text: &str) -> Result<MetadataValue<Ascii>, String> {
    text.parse().map_err(|_| "a client's name is text of ASCII".to_owned())
}

impl Ingest {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.context("the threads of a client cannot be started")?;
        let done = runtime.block_on(async {
            let server = Server::connect(&self.server, self.who()?).await?;
            match (&self.file, &self.entity, self.op) {
                (Some(file), _, _) => lanes::send(&self, file, &server, out).await,
                (None, Some(entity), Some(op)) => self.one(entity, op, &server, out).await,
                _ => bail!("give --entity and --op, or --file"),
            }
        });
        // Whoever reads standard input may wait for more of it for ever.
        runtime.shutdown_timeout(Duration::ZERO);
        done
    }

    /// A key never stands in the command, where everybody on this machine could read it.
    fn who(&self) -> Result<Who> {
        let read = |file: &PathBuf| {
            std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
        };
        let key = match &self.key_file {
            Some(file) => Some(read(file)?),
            None => std::env::var("KEPLOR_KEY").ok(),
        };
        let key = key.map(|key| format!("Bearer {}", key.trim()).parse::<MetadataValue<Ascii>>());
        let mut key = key.transpose().map_err(|_| anyhow::anyhow!("the key is no text of ASCII"))?;
        if let Some(key) = &mut key {
            key.set_sensitive(true);
        }
        let ca = self.ca.as_ref().map(read).transpose()?;
        let identity = match (&self.cert, &self.cert_key) {
            (Some(cert), Some(key)) => Some(Identity::from_pem(read(cert)?, read(key)?)),
            _ => None,
        };
        Ok(Who { client: self.client.clone(), key, ca, identity })
    }

    async fn one(&self, entity: &str, op: Operation, server: &Server, out: &mut Output) -> Result<Done> {
        let (entity_type, id) = match &self.entity_type {
            Some(entity_type) => (entity_type.clone(), entity.to_owned()),
            None => name::resolve(entity, &server.types().await?)?,
        };
        let event = Event {
            op,
            payload: self.payload()?,
            at_ms: self.at.map(super::ms),
            event_id: self.event_id.clone().unwrap_or_default(),
            expected_version: self.expected_version,
            source_version: self.source_version,
            ..Event::default()
        };
        let begun = Instant::now();
        let answer = server.send(event.record(entity_type, id)).await;
        let took = begun.elapsed();
        match answer {
            Answer::Taken(response) => {
                self.tell(&response, took, out)?;
                Ok(Done::Well)
            }
            Answer::Rejected(why) | Answer::Busy(why) => bail!("the event was not captured: {why}"),
            Answer::Lost(why) => bail!(
                "the server is lost: {why}; the event may have been captured, or not: send it again with the same --event-id to be sure"
            ),
        }
    }

    fn payload(&self) -> Result<Map<String, Json>> {
        let text = match (&self.payload, &self.payload_file) {
            (Some(text), _) => text.clone(),
            (None, Some(file)) if file.as_os_str() == "-" => {
                io::read_to_string(io::stdin().lock()).context("standard input cannot be read")?
            }
            (None, Some(file)) => {
                let mut text = String::new();
                let opened = std::fs::File::open(file);
                let read = opened.and_then(|mut opened| opened.read_to_string(&mut text));
                read.with_context(|| format!("{} cannot be read", file.display()))?;
                text
            }
            (None, None) => return Ok(Map::new()),
        };
        serde_json::from_str(&text).context("the payload is no object of JSON")
    }

    fn tell(&self, response: &v1::IngestResponse, took: Duration, out: &mut Output) -> Result<()> {
        let v1::IngestResponse { sequence, segment, event_id, duplicate, durable_at, .. } = response;
        if self.json {
            return out.json(&json!({
                "sequence": sequence,
                "segments": segment,
                "event_id": event_id,
                "duplicate": duplicate,
                "durable_at_ms": durable_at,
            }));
        }
        let ms = took.as_secs_f64() * 1000.0;
        out.line(&if *duplicate {
            format!("✓ Event {sequence} was there already ({ms:.1}ms)")
        } else {
            format!("✓ Event {sequence} committed to segment {segment} ({ms:.1}ms)")
        })
    }
}
