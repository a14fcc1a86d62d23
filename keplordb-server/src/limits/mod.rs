//! What no client can exceed, whoever he is: connections, requests on one, the time of both, and the memory that they take while they
//! are read.
//!
//! Room is taken before anything is read into memory, and all at once, so that requests that were half read never wait for one another:
//! who finds none is told so and comes again.

mod metered;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use crate::auth::{Need, is_grpc, refusal};
use crate::http::Failure;
use crate::metrics::Metrics;
use crate::record::MAX_PAYLOAD_BYTES;
use metered::Metered;

/// Largest message that is taken, in bytes: a payload and what stands around it.
pub(crate) const MESSAGE_BYTES_MAX: usize = MAX_PAYLOAD_BYTES + (1 << 20);
/// Largest batch that is taken, likewise.
pub(crate) const BATCH_BYTES_MAX: usize = 32 << 20;
/// Largest body of a request of HTTP, likewise.
pub(crate) const BODY_BYTES_MAX: usize = 32 << 20;
/// Largest message of a method that needs no key, likewise: those ask for next to nothing.
const OPEN_BYTES_MAX: usize = 4 << 10;
/// Bytes of requests that are read at a time, of all clients: eight of the largest batches.
const READING_BYTES_MAX: usize = 256 << 20;

/// Connections at a time.
pub(crate) const CONNECTIONS_MAX: usize = 4096;
/// Connections beyond them that are told that there are as many as may be; whoever comes next waits.
pub(crate) const TOLD_MAX: usize = 64;
/// Streams on one connection of HTTP/2: requests that are under way, and subscriptions. The client waits with more.
pub(crate) const STREAMS_MAX: u32 = 256;
/// Bytes of a request's head.
pub(crate) const HEADER_BYTES_MAX: u32 = 16 << 10;

/// How long a request of HTTP may take; streams end with who asked.
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How long a method of gRPC may take until its answer begins.
const METHOD_MAX: Duration = Duration::from_secs(30);
/// How long a message of gRPC may be on its way, from its first byte to its last.
const MESSAGE_MAX: Duration = Duration::from_secs(30);

/// How long connections may stand still.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Until whoever connects has shaken hands, and then until he has asked for something.
    pub(crate) opening: Duration,
    /// Until the head of a request of HTTP/1 is there, from when the one before it was answered.
    pub(crate) head: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
    /// While an answer is not taken at all.
    pub(crate) taking: Duration,
    /// After which a connection of HTTP/2 is asked whether it lives.
    pub(crate) ping: Duration,
    /// How long it may take to say so.
    pub(crate) pong: Duration,
    /// While requests that are under way are answered, when the server stops.
    pub(crate) drain: Duration,
}

/// As servers have them.
pub(crate) const TIMES: Times = Times {
    opening: Duration::from_secs(10),
    head: Duration::from_secs(30),
    idle: Duration::from_mins(5),
    taking: Duration::from_secs(30),
    ping: Duration::from_secs(30),
    pong: Duration::from_secs(20),
    drain: Duration::from_secs(10),
};

/// The room for requests that are read. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Room that is taken until it is dropped.
pub(crate) struct Taken {
    bytes: usize,
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.metrics.reading_bytes.decrement(self.bytes as f64);
    }
}

impl Room {
    /// All of it.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { free: Arc::new(Semaphore::new(READING_BYTES_MAX)), metrics }
    }

    /// Takes room, or says that there is none now.
    fn take(&self, bytes: usize) -> Result<Taken, Status> {
        let full = || {
            let why = format!(
                "{READING_BYTES_MAX} bytes of requests are being read, which is as much as may be; try again a little later"
            );
            self.metrics.refused(Code::ResourceExhausted);
            let mut status = Status::resource_exhausted(why);
            status.metadata_mut().insert("retry-after", tonic::metadata::MetadataValue::from_static("1"));
            status
        };
        let permits = u32::try_from(bytes).map_err(|_| full())?;
        let permit = Arc::clone(&self.free).try_acquire_many_owned(permits).map_err(|_| full())?;
        self.metrics.reading_bytes.increment(bytes as f64);
        Ok(Taken { bytes, metrics: Arc::clone(&self.metrics), _permit: permit })
    }
}

/// Takes room for the body of a request of HTTP until it is answered: for what it says it has, or for as much as it may have.
pub(crate) async fn with_room(State(room): State<Room>, request: Request, next: Next) -> Response {
    // Whatever the method: what has a body has one that may be read.
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let said = request.headers().get(CONTENT_LENGTH).and_then(|said| said.to_str().ok()?.parse().ok());
    // A longer one is cut off where it is read, and not before: who is still sending does not hear what he is told.
    let bytes = said.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    let answered = match room.take(bytes) {
        Ok(_taken) => next.run(request).await,
        Err(full) => refusal(false, full),
    };
    // Where it is read neither the limit is known nor what to do.
    if answered.status() == StatusCode::PAYLOAD_TOO_LARGE { too_long() } else { answered }
}

fn too_long() -> Response {
    let why = format!(
        "the body has more than {BODY_BYTES_MAX} bytes, which is as many as may be; send it in parts"
    );
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "OUT_OF_RANGE", why).into_response()
}

/// Takes room for each message of a request of gRPC while it is read, and ends requests whose answer does not begin in time.
pub(crate) async fn of_methods(room: &Room, request: Request, next: Next) -> Response {
    if !is_grpc(request.headers()) {
        return next.run(request).await;
    }
    let is_open = request.extensions().get() == Some(&Need::Nothing);
    let most = if is_open { OPEN_BYTES_MAX } else { BATCH_BYTES_MAX };
    let request = request.map(|body| Body::new(Metered::new(body, room.clone(), most)));
    within(METHOD_MAX, true, next.run(request)).await
}

/// Ends requests of HTTP that take too long.
pub(crate) async fn within_time(request: Request, next: Next) -> Response {
    within(REQUEST_MAX, false, next.run(request)).await
}

async fn within(most: Duration, is_grpc: bool, answered: impl Future<Output = Response>) -> Response {
    tokio::time::timeout(most, answered).await.unwrap_or_else(|_| {
        let why = format!("the request took longer than {} s; send or ask for less", most.as_secs());
        refusal(is_grpc, Status::deadline_exceeded(why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_limits() {
        let document = include_str!("../../../docs/operations.md");
        let s = |time: Duration| format!("{} s", time.as_secs());
        let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
        for (what, most) in [
            ("connections", format!("{CONNECTIONS_MAX}, and {TOLD_MAX} that are told so")),
            ("a handshake; then the time until the first request", format!("{} each", s(TIMES.opening))),
            ("the time until the head of the next request, HTTP/1.1", s(TIMES.head)),
            ("a connection without requests, HTTP/2", s(TIMES.idle)),
            ("the same where no request was let in by a key", s(TIMES.opening)),
            (
                "a quiet connection, HTTP/2",
                format!("asked after {}, {} to answer", s(TIMES.ping), s(TIMES.pong)),
            ),
            ("an answer of which nothing is taken", s(TIMES.taking)),
            ("requests at a time on a connection", STREAMS_MAX.to_string()),
            ("the head of a request", format!("{} KiB", HEADER_BYTES_MAX >> 10)),
            ("a request, until its answer begins", s(REQUEST_MAX)),
            ("a message on a stream of gRPC, from its first byte to its last", s(MESSAGE_MAX)),
            ("requests that are under way when the server stops", s(TIMES.drain)),
            ("a message, a batch", format!("{}, {}", mib(MESSAGE_BYTES_MAX), mib(BATCH_BYTES_MAX))),
            ("a message where no key is needed", format!("{} KiB", OPEN_BYTES_MAX >> 10)),
            ("requests that are read at a time, of all clients", mib(READING_BYTES_MAX)),
        ] {
            let row = format!("| {what} | {most} |");
            assert!(document.contains(&row), "docs/operations.md must have this: {row}");
        }
        assert_eq!((REQUEST_MAX, BATCH_BYTES_MAX), (METHOD_MAX, BODY_BYTES_MAX), "they share a row");
    }

    #[test]
    fn room_is_given_back_and_more_than_there_is_is_refused() {
        let room = Room::new(Arc::new(Metrics::new()));
        let most = room.take(READING_BYTES_MAX).unwrap();
        assert_eq!(room.take(1).map(drop).unwrap_err().code(), Code::ResourceExhausted);
        drop(most);
        assert!(room.take(READING_BYTES_MAX).is_ok());
        assert!(room.take(usize::MAX).is_err());
    }
}
