//! Connections: accepted, encrypted where the server has a certificate, spoken HTTP over, and ended when they stand still. They know
//! nothing of what is asked for.
//!
//! | what stands still | what ends it |
//! | --- | --- |
//! | a handshake of TLS | [`Times::opening`] |
//! | who connected and asks for nothing | [`Times::opening`], until the first request's head is there |
//! | a head of HTTP/1, and the pause between two of them | [`Times::head`] |
//! | a head of HTTP/2, or a connection of it without requests | [`Times::idle`]; and who does not answer pings goes sooner |
//! | a body | its request, which has its own time: `limits` |
//! | an answer that nobody takes | [`Times::taking`]; over HTTP/2 where nothing goes out at all, and of one of several who made it |
//!
//! A connection has its place from when it is accepted until it ends, so a handshake counts and keeps nobody else waiting. Who finds no place
//! is told so, in HTTP, on one of a few more. On a port with TLS there is nothing without.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::Version;
use axum::http::header::{CONNECTION, HeaderValue};
use http_body::{Frame, SizeHint};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use metrics::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tonic::{Code, Status};

use crate::auth::{LetIn, is_grpc, refusal};
use crate::limits::{self, TOLD_MAX, Times};
use crate::metrics::Metrics;
use crate::tls::Identity;

/// How long nothing is accepted after the system refused to, because it has no more files for instance.
const PAUSE: Duration = Duration::from_secs(1);

/// What is served on connections, and how.
#[derive(Clone)]
pub(crate) struct Served {
    /// What answers requests.
    pub(crate) router: Router,
    /// What connections are encrypted with.
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) times: Times,
    /// How many connections there may be at a time.
    pub(crate) most: usize,
}

/// Serves connections until `stop` is done; then no more are accepted, and it returns when those that there are have ended, or were cut
/// off after [`Times::drain`]. To drop it ends them at once.
pub(crate) async fn serve(listener: TcpListener, served: Served, stop: impl Future<Output = ()>) {
    let places = Places {
        free: Arc::new(Semaphore::new(served.most)),
        told: Arc::new(Semaphore::new(TOLD_MAX)),
        count: served.metrics.connections.clone(),
    };
    let full = Served { router: no_place(served.most, &served.metrics), ..served.clone() };
    let (stopping, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(error = error.to_string(), "a connection ended by a mistake of the server");
                }
                continue;
            }
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let served = if place.is_real { served.clone() } else { full.clone() };
                connections.spawn(connection(stream, served, place, stopped.clone()));
            }
            Err(error) if is_of_one(&error) => tracing::debug!(%error, "a connection ended before it began"),
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; see to the limit of open files");
                sleep(PAUSE).await;
            }
        }
    }
    // From here on nobody can connect.
    drop(listener);
    drop(stopping);
    let drained =
        timeout(served.times.drain, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        let seconds = served.times.drain.as_secs();
        tracing::warn!(seconds, "requests that took too long were cut off");
        connections.shutdown().await;
    }
}

/// Whether it concerns the connection that was to be accepted, and not the next one.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The places that connections have.
struct Places {
    free: Arc<Semaphore>,
    /// Those of connections that are told that there is none.
    told: Arc<Semaphore>,
    count: Gauge,
}

/// A place is looked for before there is a connection; when one gets free meanwhile, it is looked for again, since this is dropped and called
/// anew whenever a connection ends.
async fn accept(listener: &TcpListener, places: &Places) -> io::Result<(TcpStream, Place)> {
    let (permit, is_real) = match Arc::clone(&places.free).try_acquire_owned() {
        Ok(permit) => (permit, true),
        Err(_) => (Arc::clone(&places.told).acquire_owned().await.map_err(io::Error::other)?, false),
    };
    let (stream, _) = listener.accept().await?;
    Ok((stream, Place::new(permit, is_real, places.count.clone())))
}

/// The place of one connection.
struct Place {
    /// Whether what it asks for is answered.
    is_real: bool,
    count: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, is_real: bool, count: Gauge) -> Self {
        count.increment(1.0);
        Self { is_real, count, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count.decrement(1.0);
    }
}

/// What answers those who find no place.
fn no_place(most: usize, metrics: &Arc<Metrics>) -> Router {
    let metrics = Arc::clone(metrics);
    Router::new().fallback(async move |request: Request| {
        metrics.refused(Code::ResourceExhausted);
        let why = format!(
            "{most} connections are open, which is as many as may be; use fewer for longer, or try again later"
        );
        // In HTTP/2 there is no such header; there the connection ends soon.
        let is_of_http1 = request.version() < Version::HTTP_2;
        let mut response = refusal(is_grpc(request.headers()), Status::resource_exhausted(why));
        if is_of_http1 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    })
}

/// One connection, from its first byte to its last.
async fn connection(stream: TcpStream, served: Served, place: Place, mut stopped: watch::Receiver<()>) {
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "a connection ended before it began");
    }
    let wire: Box<dyn Wire> = match &served.identity {
        None => Box::new(stream),
        Some(identity) => {
            let handshake = timeout(served.times.opening, identity.acceptor().accept(stream));
            let shaken = tokio::select! {
                shaken = handshake => shaken,
                _ = stopped.changed() => return,
            };
            match shaken {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(error)) => {
                    return tracing::debug!(error = error.to_string(), "a TLS handshake failed");
                }
                Err(_) => return tracing::debug!("a TLS handshake took too long"),
            }
        }
    };
    speak(wire, served, place, stopped).await;
}

/// What bytes come and go by.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin> Wire for W {}

/// Speaks HTTP until the connection ends, or stands still.
async fn speak(wire: Box<dyn Wire>, served: Served, place: Place, mut stopped: watch::Receiver<()>) {
    let Served { router, times, .. } = served;
    let asked = Arc::new(Asked::default());
    let router = TowerToHyperService::new(router);
    let service = {
        let asked = Arc::clone(&asked);
        service_fn(move |request| {
            let under_way = asked.one_more();
            let asked = Arc::clone(&asked);
            let answered = router.call(request);
            async move {
                let response = answered.await?;
                if response.extensions().get::<LetIn>().is_some() {
                    asked.let_in();
                }
                Ok::<_, Infallible>(response.map(|body| Counted { body, _under_way: under_way }))
            }
        })
    };
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        // Without a timer no time of it counts.
        .timer(TokioTimer::new())
        .header_read_timeout(times.head)
        .max_buf_size(limits::HEADER_BYTES_MAX as usize);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(times.ping)
        .keep_alive_timeout(times.pong)
        .max_concurrent_streams(limits::STREAMS_MAX)
        .max_header_list_size(limits::HEADER_BYTES_MAX);
    let wire = TokioIo::new(Sent { wire, most: times.taking, stuck: None });
    let mut spoken = pin!(http.serve_connection(wire, service));
    let mut is_ending = false;
    // Who found no place is told so, and connects again: on this connection he would never hear anything else.
    let mut told = pin!(sleep(times.opening));
    loop {
        let idle = if is_ending { times.opening } else { times.idle };
        tokio::select! {
            ended = spoken.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error = error.to_string(), "a connection ended early");
                }
                break;
            }
            _ = stopped.changed(), if !is_ending => {}
            () = told.as_mut(), if !place.is_real => {
                if is_ending {
                    tracing::debug!("a connection that found no place, and was asked to end, is ended");
                    break;
                }
                told.as_mut().reset(Instant::now() + times.opening);
            }
            () = asked.quiet(times.opening, idle) => {
                if is_ending || !asked.is_any() {
                    tracing::debug!("a connection on which nobody asks for anything is ended");
                    break;
                }
            }
        }
        // What is under way is answered; who asks for more connects again.
        is_ending = true;
        asked.touch();
        spoken.as_mut().graceful_shutdown();
    }
    drop(place);
}

/// The requests of a connection.
struct Asked(Mutex<Requests>);

struct Requests {
    under_way: usize,
    /// Whether one was answered of somebody who may ask: whoever is refused, or asks only whether the server runs, holds a place no
    /// longer than one who says nothing.
    is_any: bool,
    /// When the last one ended, or the connection began.
    since: Instant,
}

impl Default for Asked {
    fn default() -> Self {
        Self(Mutex::new(Requests { under_way: 0, is_any: false, since: Instant::now() }))
    }
}

impl Asked {
    fn with<T>(&self, see: impl FnOnce(&mut Requests) -> T) -> T {
        see(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn one_more(self: &Arc<Self>) -> UnderWay {
        self.with(|requests| requests.under_way += 1);
        UnderWay(Arc::clone(self))
    }

    /// Notes that somebody was answered who may ask.
    fn let_in(&self) {
        self.with(|requests| requests.is_any = true);
    }

    /// Whether there was ever one of somebody who may ask.
    fn is_any(&self) -> bool {
        self.with(|requests| requests.is_any)
    }

    fn touch(&self) {
        self.with(|requests| requests.since = Instant::now());
    }

    /// Returns when none has been under way for too long: `opening` until there was any, and then `idle`.
    async fn quiet(&self, opening: Duration, idle: Duration) {
        loop {
            let left = self.with(|requests| {
                let most = if requests.is_any { idle } else { opening };
                if requests.under_way == 0 { most.saturating_sub(requests.since.elapsed()) } else { most }
            });
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

/// That a request is under way, until the last of its answer has been sent or nobody wants it any more.
struct UnderWay(Arc<Asked>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.with(|requests| {
            requests.under_way -= 1;
            requests.since = Instant::now();
        });
    }
}

/// The body of an answer.
struct Counted {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A wire that is an error when nobody takes what is sent.
struct Sent {
    wire: Box<dyn Wire>,
    most: Duration,
    /// Since when nothing was taken, as the time that is left.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Sent {
    fn in_time<T>(&mut self, context: &mut Context<'_>, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.stuck = None;
            return sent;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(self.most)));
        stuck.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Sent {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_read(context, buffer)
    }
}

impl AsyncWrite for Sent {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.wire).poll_write(context, bytes);
        this.in_time(context, sent)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.wire).poll_write_vectored(context, pieces);
        this.in_time(context, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.wire).poll_flush(context);
        this.in_time(context, sent)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.wire).poll_shutdown(context);
        this.in_time(context, sent)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::middleware::map_response;
    use axum::response::Response;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::*;

    /// Short enough for a test, and long enough for a busy machine.
    const SHORT: Duration = Duration::from_millis(400);
    /// By when a connection must have ended: long before anything that is not [`SHORT`].
    const ENDED: Duration = Duration::from_secs(8);
    const LONG: Duration = Duration::from_mins(1);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    fn times() -> Times {
        Times { opening: LONG, head: LONG, idle: LONG, taking: LONG, ping: LONG, pong: LONG, drain: LONG }
    }

    /// Serves `/`, and at `/much` and `/slow` what takes room and time, all of it to those who may ask, while `with` talks to it.
    async fn serving<F: Future<Output = ()>>(times: Times, most: usize, with: impl FnOnce(SocketAddr) -> F) {
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/much", get(async || vec![7; 64 << 20]))
            .route("/slow", get(async || sleep(SHORT).await))
            .layer(map_response(async |mut response: Response| {
                response.extensions_mut().insert(LetIn);
                response
            }))
            // What anybody may ask.
            .route("/open", get(async || "open"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Served { router, identity: None, metrics: Arc::new(Metrics::new()), times, most };
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(serve(listener, served, async { drop(stopped.await) }));
        with(address).await;
        stop.send(()).unwrap();
        timeout(ENDED, running).await.expect("the server stops").unwrap();
    }

    /// All that comes until the connection ends; fails when it does not.
    async fn rest(stream: &mut TcpStream) -> Vec<u8> {
        let mut all = Vec::new();
        let ended = timeout(ENDED, stream.read_to_end(&mut all)).await;
        // Whether it is closed or reset, it is over.
        drop(ended.expect("the connection ends"));
        all
    }

    async fn answered(stream: &mut TcpStream) {
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn who_asks_for_nothing_is_cut_off() {
        serving(Times { opening: SHORT, ..times() }, 9, async |address| {
            let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            for beginning in ["".as_bytes(), b"G", b"PRI * HTTP/2.0", &REQUEST[..REQUEST.len() - 1], settings]
            {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(beginning).await.unwrap();
                assert!(!rest(&mut stream).await.starts_with(b"HTTP/1.1 2"));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_head_that_comes_byte_by_byte_is_cut_off() {
        serving(Times { head: SHORT, ..times() }, 9, async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(REQUEST).await.unwrap();
            answered(&mut stream).await;
            let begun = Instant::now();
            let (mut read, mut write) = stream.split();
            let dripping = async {
                loop {
                    sleep(SHORT / 10).await;
                    if write.write_all(b"x").await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            let mut all = Vec::new();
            tokio::select! {
                _ = read.read_to_end(&mut all) => {}
                () = dripping => {}
                () = sleep(ENDED) => panic!("the connection stays"),
            }
            assert!(begun.elapsed() < ENDED);
        })
        .await;
    }

    #[tokio::test]
    async fn a_connection_without_requests_is_ended() {
        // The first one is how long whoever is told to go away may take.
        serving(Times { opening: SHORT, idle: SHORT, ..times() }, 9, async |address| {
            let mut http1 = TcpStream::connect(address).await.unwrap();
            http1.write_all(REQUEST).await.unwrap();
            answered(&mut http1).await;
            rest(&mut http1).await;
            // GET / with names of the static table alone.
            let mut http2 = TcpStream::connect(address).await.unwrap();
            http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
            http2.write_all(b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84").await.unwrap();
            let frames = rest(&mut http2).await;
            assert!(frames.windows(4).any(|bytes| bytes == b"here"), "it was answered: {frames:?}");
            assert!(
                frames.windows(4).any(|bytes| bytes == [8, 7, 0, 0]),
                "it is told to go away: {frames:?}"
            );
        })
        .await;
    }

    #[tokio::test]
    async fn who_asks_for_nothing_that_needs_a_key_is_cut_off_as_who_asks_for_nothing() {
        serving(Times { opening: SHORT, ..times() }, 9, async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /open HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            answered(&mut stream).await;
            rest(&mut stream).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(REQUEST).await.unwrap();
            answered(&mut stream).await;
            assert!(timeout(4 * SHORT, stream.read_to_end(&mut Vec::new())).await.is_err(), "it may stay");
        })
        .await;
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_is_cut_off() {
        serving(Times { taking: SHORT, ..times() }, 9, async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /much HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            sleep(4 * SHORT).await;
            let came = rest(&mut stream).await.len();
            assert!(came < 64 << 20, "{came} bytes came");
        })
        .await;
    }

    #[tokio::test]
    async fn a_request_that_lasts_is_answered_also_when_the_server_stops() {
        let times = Times { opening: SHORT / 4, head: SHORT / 4, idle: SHORT / 4, ..times() };
        let (sent, asked) = oneshot::channel();
        serving(times, 9, async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            sleep(SHORT / 8).await;
            sent.send(stream).unwrap();
        })
        .await;
        answered(&mut asked.await.unwrap()).await;
    }

    #[tokio::test]
    async fn a_request_that_lasts_too_long_is_cut_off_when_the_server_stops() {
        let (sent, asked) = oneshot::channel();
        serving(Times { drain: SHORT / 4, ..times() }, 9, async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            sleep(SHORT / 8).await;
            sent.send(stream).unwrap();
        })
        .await;
        assert!(rest(&mut asked.await.unwrap()).await.is_empty());
    }

    #[tokio::test]
    async fn who_finds_no_place_is_told_and_finds_one_later() {
        serving(times(), 2, async |address| {
            let mut held = Vec::new();
            for _ in 0..2 {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(REQUEST).await.unwrap();
                answered(&mut stream).await;
                held.push(stream);
            }
            let mut told = TcpStream::connect(address).await.unwrap();
            told.write_all(REQUEST).await.unwrap();
            let answer = String::from_utf8(rest(&mut told).await).unwrap();
            assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
            assert!(answer.contains("2 connections are open, which is as many as may be"), "{answer}");
            drop(held);
            for _ in 0.. {
                let mut again = TcpStream::connect(address).await.unwrap();
                again.write_all(REQUEST).await.unwrap();
                let mut answer = [0; 15];
                again.read_exact(&mut answer).await.unwrap();
                if &answer == b"HTTP/1.1 200 OK" {
                    break;
                }
                sleep(SHORT / 10).await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn who_finds_no_place_and_asks_on_and_on_is_sent_away() {
        serving(Times { opening: SHORT, ..times() }, 1, async |address| {
            let mut held = TcpStream::connect(address).await.unwrap();
            held.write_all(REQUEST).await.unwrap();
            answered(&mut held).await;
            let mut told = TcpStream::connect(address).await.unwrap();
            told.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
            let (mut read, mut write) = told.split();
            let asking = async {
                for stream in (1_u8..).step_by(2) {
                    let request = [0, 0, 3, 1, 5, 0, 0, 0, stream, 0x82, 0x86, 0x84];
                    if write.write_all(&request).await.is_err() {
                        break;
                    }
                    sleep(SHORT / 8).await;
                }
                std::future::pending::<()>().await;
            };
            let mut frames = Vec::new();
            tokio::select! {
                _ = read.read_to_end(&mut frames) => {}
                () = asking => {}
                () = sleep(ENDED) => panic!("the connection stays"),
            }
            assert!(frames.windows(8).any(|bytes| bytes == b"are open"), "it was told why: {frames:?}");
        })
        .await;
    }
}
