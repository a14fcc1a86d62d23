//! Events: in as JSON, out as pages and streams.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::sse;
use axum::response::{Response, Sse};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};

use super::answer::{Failure, blocking, time_ms};
use super::read::{instant, source};
use crate::auth::Caller;
use crate::capture::Capture;
use crate::entity::{EntityEvent, Instant};
use crate::explorer::{self, Format, View, Wants};
use crate::fold::Operation;
use crate::ingest::Receipt;
use crate::log::Selection;
use crate::payload::ContentType;
use crate::record::Record;
use crate::subscribe::{News, Since};

/// The header by which a client says who it is, as in gRPC.
const CLIENT: &str = "reflog-client-id";
/// Events of a page where the request does not say how many, and the most.
const PAGE: (usize, usize) = (100, 1000);
/// How often a stream shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A record in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordJson {
    entity_type: String,
    entity_id: String,
    operation: Operation,
    #[serde(default)]
    payload: serde_json::Map<String, Value>,
    #[serde(default)]
    event_time: Option<Value>,
    #[serde(default)]
    event_id: String,
    expected_version: Option<u64>,
    source_version: Option<u64>,
    #[serde(default)]
    correlation_id: String,
    #[serde(default)]
    causation_id: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl RecordJson {
    fn into_record(self, client: &str) -> Result<Record, Failure> {
        let time_ms = match &self.event_time {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(time_ms("event_time", text)?),
            Some(other) => Some(time_ms("event_time", &other.to_string())?),
        };
        let of = |operation| time_ms.filter(|_| self.operation == operation);
        Ok(Record {
            created_at_ms: of(Operation::Create),
            updated_at_ms: of(Operation::Update),
            deleted_at_ms: of(Operation::Delete),
            entity_type: self.entity_type,
            entity_id: self.entity_id,
            operation: Some(self.operation),
            payload: Value::Object(self.payload).to_string().into_bytes(),
            content_type: ContentType::Json,
            event_id: self.event_id,
            expected_version: self.expected_version,
            source_version: self.source_version,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            metadata: self.metadata,
            client: client.to_owned(),
            ..Record::default()
        })
    }
}

/// What became of records: of one, or of each in their order.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Captured {
    One(Receipt),
    Many { receipts: Vec<Receipt> },
}

pub(super) async fn ingest(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Captured>, Failure> {
    let client = match headers.get(CLIENT).map(|client| client.to_str()) {
        None => "",
        Some(Ok(client)) => client,
        Some(Err(_)) => return Err(Failure::invalid(format!("{CLIENT}: it is no text of ASCII"))),
    };
    let client = caller.client(client);
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // A browser sends these two of a page of somebody else's only after it has asked, and is told no.
    let is_lines = match kind {
        "application/json" => false,
        "application/x-ndjson" => true,
        _ => {
            let why = format!("content-type is {kind:?}; send application/json or application/x-ndjson");
            return Err(Failure::invalid(why));
        }
    };
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let (records, is_one) = if is_lines {
        (lines_of(&body)?, false)
    } else if first == Some(&b'[') {
        (parse(&body)?, false)
    } else {
        (vec![parse::<RecordJson>(&body)?], true)
    };
    let mut sent = Vec::with_capacity(records.len());
    for (index, record) in records.into_iter().enumerate() {
        sent.push(record.into_record(&client).map_err(|failure| failure.of_record(index, is_one))?);
    }
    if is_one && let Some(record) = sent.pop() {
        capture.counted(caller.check_type(&record.entity_type))?;
        return Ok(Json(Captured::One(capture.capture(record).await?)));
    }
    capture.counted(caller.check_records(&sent))?;
    Ok(Json(Captured::Many { receipts: capture.capture_batch(sent).await? }))
}

fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::invalid(format!("the body is no record: {error}")))
}

fn lines_of(body: &[u8]) -> Result<Vec<RecordJson>, Failure> {
    let lines = (1..).zip(body.split(|byte| *byte == b'\n'));
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    let records = lines.map(|(number, line)| {
        let record = serde_json::from_slice(line);
        record.map_err(|error| Failure::invalid(format!("line {number} is no record: {error}")))
    });
    records.collect()
}

/// Which events are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    after: Option<u64>,
    since: Option<String>,
    #[serde(rename = "type")]
    entity_type: Option<String>,
    id: Option<String>,
    limit: Option<usize>,
    /// The last events before this one, and by an instant those that it sees: what a page shows.
    before: Option<u64>,
    as_of: Option<String>,
    known_at: Option<String>,
    #[serde(rename = "format")]
    _format: Option<Format>,
}

impl Asked {
    fn selection(&self) -> Selection {
        // A form has a field that nobody filled in as an empty text, which no type and no id is.
        let some = |text: &Option<String>| text.iter().filter(|text| !text.is_empty()).cloned().collect();
        Selection { entity_types: some(&self.entity_type), entity_ids: some(&self.id) }
    }
}

/// A page of events.
#[derive(Serialize)]
pub(super) struct Page {
    events: Vec<EntityEvent>,
    /// What to ask for next, as `after`; nothing where there was no event.
    next: Option<u64>,
}

pub(super) async fn list(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    wants: Wants,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let selection = asked.selection();
    // A page leaves out what is not the reader's; a program is told to ask for what is its own.
    if matches!(wants, Wants::Json) || !selection.entity_types.is_empty() {
        capture.counted(caller.check_selection(&selection))?;
    }
    let source = source(&capture, caller);
    blocking(move || {
        let (usual, most) = PAGE;
        let seen_at = instant(asked.as_of.as_deref(), asked.known_at.as_deref())?;
        let json = || {
            let limit = asked.limit.unwrap_or(usual).min(most);
            if asked.before.is_some() || seen_at != Instant::default() {
                let events = source.log.last_before(&selection, asked.before, seen_at, limit)?;
                let next = events.last().map(|event| event.sequence);
                return Ok(Page { events, next });
            }
            let after = match &asked.since {
                Some(since) => {
                    source.log.sequence_at(time_ms("since", since)?.saturating_sub(1))?.max(asked.after)
                }
                None => asked.after,
            };
            let events = source.log.events(&selection, after, limit)?;
            let next = events.last().map(|event| event.sequence);
            Ok(Page { events, next })
        };
        let page = |view: &View| {
            let asked =
                explorer::events::Asked { selection: &selection, before: asked.before, after: asked.after };
            explorer::events::page(view, &source, asked, seen_at)
        };
        wants.both(json, page)
    })
    .await
}

pub(super) async fn one(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    wants: Wants,
    Path(sequence): Path<u64>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let source = source(&capture, caller);
    let counting = Arc::clone(&capture);
    blocking(move || {
        instant(asked.as_of.as_deref(), asked.known_at.as_deref())?;
        let around = source.log.around(sequence)?;
        let Some(event) = around.iter().find(|event| event.sequence == sequence) else {
            let why = if source.log.gaps().iter().any(|gap| gap.first <= sequence && sequence <= gap.last) {
                format!("event {sequence} was dropped from the log, by its age or for want of room")
            } else {
                format!("there is no event {sequence}")
            };
            return Err(Failure::not_found(why));
        };
        counting.counted(source.caller.check_type(&event.entity_type))?;
        wants.both(|| Ok(event), |view| explorer::event::page(view, &source, event, &around))
    })
    .await
}

pub(super) async fn stream(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Failure> {
    // A browser that lost the connection says which event it had last.
    let had = headers.get("last-event-id").and_then(|had| had.to_str().ok()?.parse().ok());
    let since = match (had.or(asked.after), &asked.since) {
        (Some(sequence), _) => Since::After(sequence),
        (None, Some(since)) => Since::Received(time_ms("since", since)?),
        (None, None) => Since::Now,
    };
    let selection = asked.selection();
    capture.counted(caller.check_selection(&selection))?;
    let news = blocking(move || Ok(capture.subscribe(&selection, since, HEARTBEAT)?)).await?;
    let mut is_ended = false;
    let given = ReceiverStream::new(news).map_while(move |news| {
        if is_ended {
            return None;
        }
        // There is news every few seconds, so a key that is revoked ends the stream soon.
        let news = caller.check_still().and(news);
        is_ended = news.is_err();
        Some(Ok(match news {
            Ok(News::Event(event)) => {
                let told = sse::Event::default().id(event.sequence.to_string());
                told.json_data(&event)
                    .unwrap_or_else(|error| sse::Event::default().comment(error.to_string()))
            }
            // An id without data moves what a browser had last.
            Ok(News::Position(position)) => sse::Event::default().id(position.to_string()).event("position"),
            Err(refused) => sse::Event::default().event("end").data(refused.to_string()),
        }))
    });
    Ok(Sse::new(given))
}
