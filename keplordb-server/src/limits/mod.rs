//! What no client can exceed, whoever he is: connections, requests on one, their time, and the memory that they take while they are
//! read.
//!
//! Room is taken before anything is read into memory, and all at once, so that requests that were half read never wait for one another:
//! who finds none is told so and comes again.

mod metered;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use crate::auth::{is_grpc, refusal};
use crate::metrics::Metrics;
use crate::record::MAX_PAYLOAD_BYTES;
use metered::Metered;

/// Largest message that is taken, in bytes: a payload and what stands around it.
pub(crate) const MESSAGE_BYTES_MAX: usize = MAX_PAYLOAD_BYTES + (1 << 20);
/// Largest batch that is taken, likewise.
pub(crate) const BATCH_BYTES_MAX: usize = 32 << 20;
/// Largest body of a request of HTTP, likewise.
pub(crate) const BODY_BYTES_MAX: usize = 32 << 20;
/// Bytes of requests that are read at a time, of all clients: eight of the largest batches.
const READING_BYTES_MAX: usize = 256 << 20;

/// Connections at a time; whoever comes next waits until one ends.
pub(crate) const CONNECTIONS_MAX: usize = 4096;
/// Streams on one connection of HTTP/2: requests that are under way, and subscriptions.
pub(crate) const STREAMS_MAX: u32 = 512;
/// Requests on one connection that are worked on at a time; subscriptions count until they begin.
pub(crate) const REQUESTS_MAX: usize = 256;
/// Bytes of a request's headers.
pub(crate) const HEADER_BYTES_MAX: u32 = 16 << 10;

/// How long who connects may take to say what he wants: a TLS handshake, and then the beginning of a request.
pub(crate) const OPENING_MAX: Duration = Duration::from_secs(10);
/// How often a quiet connection of HTTP/2 is asked whether it lives.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long it may take to say so.
pub(crate) const KEEP_ALIVE_ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long a method of gRPC may take until its answer begins.
const METHOD_MAX: Duration = Duration::from_secs(30);

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
            let why = "as much is being read as may be; try again a little later";
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
    if !matches!(*request.method(), Method::POST | Method::PUT) {
        return next.run(request).await;
    }
    let said = request.headers().get(CONTENT_LENGTH).and_then(|said| said.to_str().ok()?.parse().ok());
    // A longer one is refused when it is read; it is never in memory.
    let bytes = said.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    match room.take(bytes) {
        Ok(_taken) => next.run(request).await,
        Err(full) => refusal(false, full),
    }
}

/// Takes room for each message of a request of gRPC while it is read, and ends requests whose answer does not begin in time.
pub(crate) async fn of_methods(State(room): State<Room>, request: Request, next: Next) -> Response {
    if !is_grpc(request.headers()) {
        return next.run(request).await;
    }
    let request = request.map(|body| Body::new(Metered::new(body, room)));
    let answered = tokio::time::timeout(METHOD_MAX, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let why = format!("the request took longer than {} s; ask for less", METHOD_MAX.as_secs());
        refusal(true, Status::deadline_exceeded(why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
