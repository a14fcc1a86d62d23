//! Questions in SQL and in RQL: the answer flows as it is found, and ends with who asked.

use std::collections::HashSet;
use std::future::ready;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use datafusion::common::DataFusionError;
use futures::{Stream, StreamExt as _, stream};
use keplordb_sql::{Rows, SqlError};
use serde::Deserialize;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Failure, time_ms};
use super::outgoing::Outgoing;
use crate::auth::Caller;
use crate::capture::Capture;
use crate::entity::{Instant, LogInstant};
use crate::error::ServerError;
use crate::lake::OverlayError;
use crate::limits::{REQUEST_MAX, TIMES};
use crate::rql::Query as Rql;
use crate::sql::{Held, QueryError, RqlAnswer, Sql, SqlOptions};

/// Bytes of an answer that are made before the first of them goes out: what fails until then is an answer of its own, with its status
/// and its reason. They are as many as a browser's table may have.
const HELD_BYTES: usize = 4 << 20;
/// Pieces of an answer that wait for a reader who takes them slowly; each is made of one batch of rows.
const WAITING_PIECES: usize = 2;
/// Threads that read for questions, at most: their scans and what they fold of the log.
const READERS_MAX: usize = 64;
/// Questions that are answered at a time. An answer in SQL holds [`HELD_BYTES`] and, as they are written, [`WAITING_PIECES`] batches of
/// rows and one on either side of them; one in RQL counts with the memory of all questions until it has gone out.
const QUESTIONS_MAX: usize = 64;
/// How long the end of questions is waited for when the server ends.
const END_MAX: Duration = Duration::from_secs(5);

/// Who answers questions: threads of their own, so that however many there are and however much they compute, those that take events
/// are free for them.
#[derive(Debug, Clone)]
pub(crate) struct Questions {
    sql: Sql,
    handle: Handle,
    threads: Arc<Threads>,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct Threads(Mutex<Option<Runtime>>);

impl Threads {
    fn take(&self) -> Option<Runtime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // To wait here would be to wait on a thread of the server's.
        if let Some(threads) = self.take() {
            threads.shutdown_background();
        }
    }
}

impl Questions {
    pub(super) fn new(capture: Arc<Capture>) -> Result<Self, ServerError> {
        let failed = |what: String| ServerError::Questions { what };
        let options = SqlOptions::default().with_timeout(Some(REQUEST_MAX));
        let sql = Sql::of(capture, options).map_err(|error| failed(error.to_string()))?;
        let threads = Builder::new_multi_thread()
            .enable_time()
            .thread_name("keplordb-ask")
            .max_blocking_threads(READERS_MAX)
            .build()
            .map_err(|error| failed(format!("their threads cannot be started: {error}")))?;
        let handle = threads.handle().clone();
        let places = Arc::new(Semaphore::new(QUESTIONS_MAX));
        Ok(Self { sql, handle, threads: Arc::new(Threads(Mutex::new(Some(threads)))), places })
    }

    /// A place among those that are answered; it is free again when the answer has gone out, or nobody takes it.
    fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let why = format!("{QUESTIONS_MAX} questions are being answered; ask again when fewer are");
            Failure::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", why)
        })
    }

    /// Ends all questions, so that nobody reads the root any more.
    pub(crate) async fn end(self) {
        let Some(threads) = self.threads.take() else { return };
        let ended = tokio::task::spawn_blocking(move || threads.shutdown_timeout(END_MAX)).await;
        if let Err(error) = ended {
            tracing::warn!(%error, "the threads of questions did not end in good order");
        }
    }

    /// Does work on the threads of questions for as long as somebody waits for it.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut task = Wanted(self.handle.spawn(work));
        (&mut task.0)
            .await
            .unwrap_or_else(|error| Err(Failure::internal(format!("the question ended: {error}; ask again"))))
    }
}

/// Work that ends when nobody waits for it any more.
struct Wanted<T>(JoinHandle<T>);

impl<T> Drop for Wanted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is asked in SQL; the statement may be the body instead.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    q: Option<String>,
    #[serde(default)]
    format: Format,
    as_of: Option<String>,
    known_at: Option<String>,
    seq: Option<u64>,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// An array of an object for each row.
    #[default]
    Json,
    /// With the names of the columns in the first line.
    Csv,
    /// The streaming format of Arrow's IPC.
    Arrow,
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

impl Asked {
    fn instant(&self) -> Result<LogInstant, Failure> {
        let time =
            |field, text: &Option<String>| text.as_deref().map(|text| time_ms(field, text)).transpose();
        let instant =
            Instant { as_of_ms: time("as_of", &self.as_of)?, known_at_ms: time("known_at", &self.known_at)? };
        Ok(LogInstant { instant, sequence: self.seq })
    }
}

pub(super) async fn ask(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    Extension(questions): Extension<Questions>,
    Query(asked): Query<Asked>,
    body: String,
) -> Result<Response, Failure> {
    capture.counted(caller.check_all_types())?;
    let statement = one_of(asked.q.as_deref(), &body, "the statement")?.to_owned();
    let (instant, format) = (asked.instant()?, asked.format);
    let sql = questions.sql.clone();
    let place = questions.place()?;
    let begun = questions.apart(async move {
        let begun = Begun::of(&sql, &statement, instant, format).await?;
        Ok((begun, place))
    });
    let (begun, place) = begun.await?;
    let body = match begun {
        Begun::Whole(bytes) => return Ok(whole(format, bytes, place, None)),
        Begun::Part(part) => {
            let (encoder, rows) = *part;
            let (sender, pieces) = mpsc::channel(WAITING_PIECES);
            let (whole, is_whole) = oneshot::channel();
            // Of whichever of the two is there longer: the work, and its last pieces.
            let place = Arc::new(place);
            let held = Arc::clone(&place);
            drop(questions.handle.spawn(async move {
                let _place = place;
                if flow(encoder, rows, sender).await {
                    whole.send(()).ok();
                }
            }));
            Body::from_stream(Outgoing::new(whole_or_broken(pieces, is_whole), held, TIMES.taking))
        }
    };
    Ok(([(CONTENT_TYPE, format.content_type())], body).into_response())
}

/// An answer that is there, and gives its place and its memory back when it has gone out, or nobody takes it.
fn whole(format: Format, bytes: Bytes, place: OwnedSemaphorePermit, memory: Option<Held>) -> Response {
    let length = bytes.len();
    let pieces = Outgoing::new(stream::once(ready(Ok(bytes))), (place, memory), TIMES.taking);
    let kind = (CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    ([kind, (CONTENT_LENGTH, length.into())], Body::from_stream(pieces)).into_response()
}

/// The beginning of an answer.
enum Begun {
    Whole(Bytes),
    Part(Box<(Encoder, Rows)>),
}

impl Begun {
    async fn of(sql: &Sql, statement: &str, instant: LogInstant, format: Format) -> Result<Self, Failure> {
        let failed = |error: ArrowError| Failure::invalid(unwritten(&error));
        let mut rows = sql.ask(statement, instant).await?;
        let mut encoder = Encoder::new(format, &rows).map_err(failed)?;
        while encoder.bytes() < HELD_BYTES {
            let Some(batch) = rows.next().await.transpose().map_err(QueryError::from)? else {
                encoder.finish().map_err(failed)?;
                return Ok(Self::Whole(encoder.take()));
            };
            encoder.put(&batch).map_err(failed)?;
        }
        Ok(Self::Part(Box::new((encoder, rows))))
    }
}

/// Gives the rest of an answer as it is found, until its end or that of the connection; says whether it is whole.
async fn flow(mut encoder: Encoder, mut rows: Rows, sender: mpsc::Sender<Bytes>) -> bool {
    loop {
        // A reader who takes nothing keeps the rows, and the files that they are in, until he is given up.
        if sender.send(encoder.take()).await.is_err() {
            return false;
        }
        let next = tokio::select! {
            () = sender.closed() => return false,
            next = rows.next() => next,
        };
        let done = match next {
            None => {
                return encoder.finish().is_ok() && sender.send(encoder.take()).await.is_ok();
            }
            Some(Ok(batch)) => encoder.put(&batch).map_err(|error| Failure::invalid(unwritten(&error))),
            Some(Err(error)) => Err(QueryError::from(error).into()),
        };
        if let Err(failure) = done {
            // Its message may have values of events in it, which are not for the log.
            tracing::warn!(code = failure.code(), "an answer is broken off");
            return false;
        }
    }
}

/// The pieces of an answer, and an error at their end if they are not the whole: whoever reads it sees the connection break off, and
/// takes no part for the whole, whatever ended it.
fn whole_or_broken(
    pieces: mpsc::Receiver<Bytes>,
    is_whole: oneshot::Receiver<()>,
) -> impl Stream<Item = io::Result<Bytes>> {
    let broken = || io::Error::other("the answer is broken off, and not whole");
    let end = stream::once(is_whole).filter_map(move |whole| ready(whole.is_err().then(|| Err(broken()))));
    ReceiverStream::new(pieces).map(Ok).chain(end)
}

/// A text that is a parameter or the body.
fn one_of<'a>(parameter: Option<&'a str>, body: &'a str, what: &str) -> Result<&'a str, Failure> {
    match (parameter, body.trim()) {
        (Some(text), "") => Ok(text),
        (None, text) if !text.is_empty() => Ok(text),
        _ => Err(Failure::invalid(format!("send {what} as `q` or as the body, one of them"))),
    }
}

fn unwritten(error: &ArrowError) -> String {
    format!(
        "the answer cannot be written in this format: {error}; ask for another `format`, or for other columns"
    )
}

/// Where writers write, and from where it is taken while they go on.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Batches into the bytes of an answer.
struct Encoder {
    written: Shared,
    writer: Writer,
}

enum Writer {
    Json(arrow::json::Writer<Shared, arrow::json::writer::JsonArray>),
    Csv(Box<arrow::csv::Writer<Shared>>),
    Arrow(Box<arrow::ipc::writer::StreamWriter<Shared>>),
}

impl Encoder {
    fn new(format: Format, rows: &Rows) -> Result<Self, ArrowError> {
        let written = Shared::default();
        let out = written.clone();
        let writer = match format {
            Format::Json => {
                named_apart(rows.schema())?;
                Writer::Json(arrow::json::WriterBuilder::new().with_explicit_nulls(true).build(out))
            }
            Format::Csv => {
                let mut csv = arrow::csv::WriterBuilder::new().with_header(true).build(out);
                // An answer without rows has columns too.
                csv.write(&RecordBatch::new_empty(Arc::clone(rows.schema())))?;
                Writer::Csv(Box::new(csv))
            }
            Format::Arrow => {
                Writer::Arrow(Box::new(arrow::ipc::writer::StreamWriter::try_new(out, rows.schema())?))
            }
        };
        Ok(Self { written, writer })
    }

    fn put(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        match &mut self.writer {
            Writer::Json(writer) => writer.write(batch),
            Writer::Csv(writer) => writer.write(batch),
            Writer::Arrow(writer) => writer.write(batch),
        }
    }

    fn finish(&mut self) -> Result<(), ArrowError> {
        match &mut self.writer {
            Writer::Json(writer) => writer.finish(),
            Writer::Csv(_) => Ok(()),
            Writer::Arrow(writer) => writer.finish(),
        }
    }

    /// How much is written and not taken.
    fn bytes(&self) -> usize {
        self.written.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.written.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

/// An object has each name once; of columns of equal names all but one would be lost.
fn named_apart(schema: &Schema) -> Result<(), ArrowError> {
    let mut names = HashSet::new();
    match schema.fields().iter().find(|field| !names.insert(field.name())) {
        None => Ok(()),
        Some(field) => Err(ArrowError::SchemaError(format!(
            "two columns are called `{}`; give one another name by AS",
            field.name()
        ))),
    }
}

/// A query in RQL.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedRql {
    q: Option<String>,
}

pub(super) async fn rql(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    Extension(questions): Extension<Questions>,
    Query(asked): Query<AskedRql>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Failure> {
    capture.counted(caller.check_all_types())?;
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let text = one_of(asked.q.as_deref(), &body, "the query")?;
    let is_json =
        asked.q.is_none() && kind.split(';').next().unwrap_or_default().trim() == "application/json";
    answer(&questions, read(text, is_json)?, None).await
}

/// The query of a type's entities, in RQL.
pub(super) async fn entities(
    capture: &Capture,
    caller: &Caller,
    questions: &Questions,
    entity_type: &str,
    text: &str,
) -> Result<Response, Failure> {
    // What is included may be of any type.
    capture.counted(caller.check_all_types())?;
    answer(questions, read(text, false)?, Some(entity_type.to_owned())).await
}

/// Likewise what it finds.
pub(super) async fn found(
    capture: &Capture,
    caller: &Caller,
    questions: &Questions,
    entity_type: &str,
    query: Rql,
) -> Result<RqlAnswer, Failure> {
    capture.counted(caller.check_all_types())?;
    let (sql, _place) = (questions.sql.clone(), questions.place()?);
    let entity_type = entity_type.to_owned();
    questions.apart(async move { Ok(sql.rql(&query, Some(&entity_type)).await?) }).await
}

async fn answer(questions: &Questions, query: Rql, entity_type: Option<String>) -> Result<Response, Failure> {
    let (sql, place) = (questions.sql.clone(), questions.place()?);
    let written = questions.apart(async move {
        let (answer, memory) = sql.rql_held(&query, entity_type.as_deref()).await?;
        // Its text is beside it while it is written, and shorter as a rule than what it is made of.
        memory.resize(2 * memory.size())?;
        let written = serde_json::to_vec(&answer).map_err(|error| Failure::internal(error.to_string()))?;
        drop(answer);
        memory.resize(written.capacity())?;
        Ok((written, place, memory))
    });
    let (written, place, memory) = written.await?;
    Ok(whole(Format::Json, written.into(), place, Some(memory)))
}

fn read(text: &str, is_json: bool) -> Result<Rql, Failure> {
    let query = if is_json { Rql::parse_json(text) } else { Rql::parse(text) };
    query.map_err(|error| Failure::invalid(error.to_string()))
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let exhausted =
            |message: String| Self::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message);
        let too_slow = |message: String| Self::new(StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", message);
        match &error {
            QueryError::Refused(refused) => refused.clone().into(),
            QueryError::Overlay(inner) => match **inner {
                // To ask again would be in vain.
                OverlayError::Missing { .. }
                | OverlayError::Dropped { .. }
                | OverlayError::Unknown { .. } => Self::internal(error.to_string()),
                _ => exhausted(error.to_string()),
            },
            QueryError::TooSlow { .. } => too_slow(error.to_string()),
            QueryError::Server(_) | QueryError::State { .. } | QueryError::Ended { .. } => {
                Self::internal(error.to_string())
            }
            QueryError::Sql(inner) => match &**inner {
                SqlError::NotAQuery { statement, .. } => Self::invalid(format!(
                    "{statement} is refused: statements ask and change nothing; send events to POST /events"
                )),
                SqlError::Memory { .. } => exhausted(error.to_string()),
                SqlError::TooSlow { .. } => too_slow(error.to_string()),
                SqlError::Execution(failed) if !is_of_values(failed) => Self::internal(error.to_string()),
                _ => Self::invalid(error.to_string()),
            },
            _ => Self::invalid(error.to_string()),
        }
    }
}

/// Whether a query failed by values that it met, and not by what it reads.
fn is_of_values(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ArrowError(..) | DataFusionError::Execution(_))
}

#[cfg(test)]
mod tests {
    use super::super::outgoing::PIECE_BYTES;
    use super::*;
    use crate::fold::Operation;
    use crate::record::Record;

    #[tokio::test(flavor = "multi_thread")]
    async fn who_goes_away_ends_his_question() {
        let dir = tempfile::tempdir().unwrap();
        let questions = Questions::new(Arc::new(Capture::open(dir.path()).unwrap())).unwrap();
        let (held, is_dropped) = oneshot::channel::<()>();
        let asked = questions.apart(async move {
            let _held = held;
            std::future::pending::<Result<(), Failure>>().await
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), asked).await.is_err());
        let is_dropped = tokio::time::timeout(Duration::from_secs(10), is_dropped).await;
        assert!(is_dropped.expect("the work ends with who waited for it").is_err());
        questions.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn so_many_are_answered_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let questions = Questions::new(Arc::new(Capture::open(dir.path()).unwrap())).unwrap();
        let mut places: Vec<_> = (0..QUESTIONS_MAX).map(|_| questions.place().unwrap()).collect();
        assert_eq!(questions.place().unwrap_err().code(), "RESOURCE_EXHAUSTED");
        let query = || Rql::parse("entity:users").unwrap();
        assert_eq!(answer(&questions, query(), None).await.unwrap_err().code(), "RESOURCE_EXHAUSTED");
        places.pop();
        // What is answered is no `users`; its place is free again.
        for _ in 0..2 {
            assert_eq!(answer(&questions, query(), None).await.unwrap_err().code(), "INVALID_ARGUMENT");
        }
        questions.end().await;
    }

    #[tokio::test]
    async fn an_answer_has_its_place_until_it_has_gone_out() {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        let answer = whole(Format::Json, Bytes::from(vec![b'7'; PIECE_BYTES + 1]), place, None);
        assert_eq!(answer.headers()[CONTENT_LENGTH], (PIECE_BYTES + 1).to_string());
        let mut pieces = answer.into_body().into_data_stream();
        for length in [PIECE_BYTES, 1] {
            assert_eq!(pieces.next().await.unwrap().unwrap().len(), length);
            assert_eq!(places.available_permits(), 0);
        }
        assert!(pieces.next().await.is_none());
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn entities_count_until_they_have_gone_out() {
        let dir = tempfile::tempdir().unwrap();
        let capture = Arc::new(Capture::open(dir.path()).unwrap());
        let text = "x".repeat(PIECE_BYTES);
        for n in 0..4 {
            let record = Record::new("User", format!("u{n}"), Operation::Create);
            capture.capture(record.json(&serde_json::json!({"text": text}))).await.unwrap();
        }
        let questions = Questions::new(capture).unwrap();
        let session = questions.sql.session(LogInstant::default()).await.unwrap();
        let reserved = || session.context().runtime_env().memory_pool.reserved();
        let given = answer(&questions, Rql::parse("entity:users").unwrap(), None).await.unwrap();
        assert!(reserved() >= 4 * PIECE_BYTES, "{} bytes", reserved());
        let bytes = axum::body::to_bytes(given.into_body(), usize::MAX).await.unwrap();
        assert!(bytes.len() >= 4 * PIECE_BYTES);
        assert_eq!(reserved(), 0);
        questions.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_gives_its_place_back() {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        // Nobody asks for a piece, as over HTTP/2 while the client lets none come.
        let _answer = whole(Format::Json, Bytes::from(vec![b'7'; PIECE_BYTES + 1]), place, None);
        tokio::time::sleep(2 * TIMES.taking).await;
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_part_is_never_taken_for_the_whole() {
        for is_ended_well in [true, false] {
            let (sender, pieces) = mpsc::channel(9);
            let (whole, is_whole) = oneshot::channel();
            sender.send(Bytes::from_static(b"1,2\n")).await.unwrap();
            drop(sender);
            if is_ended_well {
                whole.send(()).unwrap();
            } else {
                drop(whole);
            }
            let read: Vec<_> = whole_or_broken(pieces, is_whole).collect().await;
            assert_eq!(read[0].as_ref().unwrap(), "1,2\n");
            assert_eq!(read.last().unwrap().is_ok(), is_ended_well, "{read:?}");
        }
    }
}
