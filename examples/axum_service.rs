//! A web service: events in and answers out over HTTP, with axum and tokio.
//!
//! ```text
//! POST /visits                          a batch, as a JSON array: stored whole and on disk when answered, or refused whole
//! GET  /visits?visitor=&before=&limit=  the newest visits, and where the next page begins
//! GET  /visits/{id}                     one visit
//! GET  /totals?visitor=&page=           count, bytes and time
//! ```
//!
//! Calls of the engine may wait for the disk, so each runs by `spawn_blocking`; a `Store` is a handle to be cloned into it. A
//! shutdown lets requests under way end, and closes the store.
//!
//! By itself the program serves on a free port of this machine, sends itself 600 made-up visits from four clients at once, asks
//! for them, shuts down, opens the directory again and compares every answer with a plain loop; the last line says how many
//! comparisons there were. With `--listen` it serves until Ctrl-C.
//!
//! ```text
//! cargo run --release --example axum_service
//! cargo run --release --example axum_service -- --listen 127.0.0.1:8080 --dir visits
//! ```

#![forbid(unsafe_code)]

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use axum::extract::{FromRef, Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fastrand::Rng;
use keplordb::{Cursor, DbError, Schema, Store};
use keplordb_examples::{Checks, human};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// A visit of a page; of the built-in columns, `latency_ms` is how long it took to answer.
#[derive(Schema)]
#[keplordb(id = 1)]
struct Visit {
    #[dim(bloom)]
    visitor: String,
    #[dim]
    page: String,
    #[counter]
    bytes: u32,
}

/// A visit as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireVisit {
    id: String,
    /// Nanoseconds since the Unix epoch.
    ts_ns: i64,
    visitor: String,
    page: String,
    bytes: u32,
    latency_ms: u32,
    status: u16,
}

/// The sequences that the visits of a batch got.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    first: u64,
    last: u64,
}

/// Newest first.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Page {
    visits: Vec<WireVisit>,
    /// The `before` of the next page; none after the last visit.
    next_before: Option<i64>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct VisitTotals {
    visits: u64,
    bytes: u64,
    latency_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageOf {
    visitor: Option<String>,
    before: Option<i64>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TotalsOf {
    visitor: Option<String>,
    page: Option<String>,
}

/// Visits on a page, unless the client asks for fewer.
const MAX_PAGE: usize = 100;

impl From<&WireVisit> for VisitBuilder {
    fn from(visit: &WireVisit) -> Self {
        let WireVisit { visitor, page, bytes, .. } = visit.clone();
        let event = Visit { visitor, page, bytes }.at(visit.ts_ns).id(&visit.id);
        event.latency_ms(visit.latency_ms).status(visit.status)
    }
}

impl From<VisitRow> for WireVisit {
    fn from(row: VisitRow) -> Self {
        Self {
            id: row.id().to_owned(),
            ts_ns: row.ts_ns(),
            visitor: row.visitor().to_owned(),
            page: row.page().to_owned(),
            bytes: row.bytes(),
            latency_ms: row.latency_ms(),
            status: row.status(),
        }
    }
}

// ---- the service ----

/// An answer that is none.
enum Refusal {
    Engine(DbError),
    NotFound(String),
    /// A call of the engine panicked.
    Broken,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Engine(error) => {
                let status = match error {
                    DbError::Invalid { .. } => StatusCode::BAD_REQUEST,
                    DbError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
                    // Nothing more can be written before an operator has looked.
                    DbError::Poisoned { .. } => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                (status, error.to_string())
            }
            Self::NotFound(id) => (StatusCode::NOT_FOUND, format!("there is no visit {id}")),
            Self::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "the request was not finished".to_owned()),
        };
        (status, Json(serde_json::json!({ "error": message }))).into_response()
    }
}

/// Calls the engine where waiting for the disk holds up no other request.
async fn blocking<T: Send + 'static>(
    store: Store<Visit>,
    call: impl FnOnce(&Store<Visit>) -> Result<T, DbError> + Send + 'static,
) -> Result<T, Refusal> {
    let called = tokio::task::spawn_blocking(move || call(&store)).await;
    called.map_err(|_| Refusal::Broken)?.map_err(Refusal::Engine)
}

/// What the service has of the store. A connection may keep it for a moment after it was answered, so whoever closes the store
/// waits until nobody is left who could send.
#[derive(Clone)]
struct Served {
    store: Store<Visit>,
    _in_use: mpsc::Sender<()>,
}

impl FromRef<Served> for Store<Visit> {
    fn from_ref(served: &Served) -> Self {
        served.store.clone()
    }
}

fn service(served: Served) -> Router {
    Router::new()
        .route("/visits", post(append).get(newest))
        .route("/visits/{id}", get(by_id))
        .route("/totals", get(totals))
        .with_state(served)
}

async fn append(
    State(store): State<Store<Visit>>,
    Json(visits): Json<Vec<WireVisit>>,
) -> Result<Json<Stored>, Refusal> {
    let appended = blocking(store, move |store| store.append_batch(&visits)).await?;
    Ok(Json(Stored { first: appended.first, last: appended.last }))
}

async fn newest(
    State(store): State<Store<Visit>>,
    Query(wanted): Query<PageOf>,
) -> Result<Json<Page>, Refusal> {
    let limit = wanted.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let rows = blocking(store, move |store| {
        let mut filter = Visit::filter();
        if let Some(visitor) = wanted.visitor {
            filter = filter.visitor(visitor);
        }
        if let Some(before) = wanted.before {
            filter = filter.cursor(Cursor(before));
        }
        store.query(filter).newest_first().limit(limit).rows()
    });
    let visits: Vec<WireVisit> = rows.await?.into_iter().map(WireVisit::from).collect();
    let next_before = visits.get(limit - 1).map(|last| last.ts_ns);
    Ok(Json(Page { visits, next_before }))
}

async fn by_id(
    State(store): State<Store<Visit>>,
    UrlPath(id): UrlPath<String>,
) -> Result<Json<WireVisit>, Refusal> {
    let wanted = id.clone();
    let found = blocking(store, move |store| store.get(&wanted)).await?;
    found.map(|row| Json(row.into())).ok_or(Refusal::NotFound(id))
}

async fn totals(
    State(store): State<Store<Visit>>,
    Query(wanted): Query<TotalsOf>,
) -> Result<Json<VisitTotals>, Refusal> {
    let totals = blocking(store, move |store| {
        let mut filter = Visit::filter();
        if let Some(visitor) = wanted.visitor {
            filter = filter.visitor(visitor);
        }
        if let Some(page) = wanted.page {
            filter = filter.page(page);
        }
        store.query(filter).totals()
    });
    let totals = totals.await?;
    Ok(Json(VisitTotals {
        visits: totals.event_count,
        bytes: totals.counters[0],
        latency_ms: totals.latency_ms,
    }))
}

/// Serves until `stop`, lets requests under way end, and closes the store: a failure to bring the last events to disk is
/// told here, and nowhere else.
async fn serve(
    listener: TcpListener,
    dir: PathBuf,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let store = tokio::task::spawn_blocking(move || Store::open(dir)).await??;
    let (in_use, mut used) = mpsc::channel(1);
    let served = Served { store: store.clone(), _in_use: in_use };
    axum::serve(listener, service(served)).with_graceful_shutdown(stop).await?;
    // Nothing is ever sent: it ends when the service and all its connections are gone. This is the last handle then.
    while used.recv().await.is_some() {}
    tokio::task::spawn_blocking(move || store.close()).await??;
    Ok(())
}

// ---- the program ----

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments()? {
        Some((address, dir)) => runtime.block_on(async {
            let listener =
                TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
            println!("serving {} on http://{}, until Ctrl-C", dir.display(), listener.local_addr()?);
            let stop = async {
                if let Err(error) = tokio::signal::ctrl_c().await {
                    eprintln!("cannot wait for Ctrl-C: {error}");
                }
            };
            serve(listener, dir, stop).await
        }),
        None => show_off(&runtime),
    }
}

/// The address and the directory, if the program is to serve.
fn arguments() -> Result<Option<(String, PathBuf)>> {
    let (mut address, mut dir) = (None, PathBuf::from("visits"));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--listen" => address = Some(value()?),
            "--dir" => dir = value()?.into(),
            _ => bail!("unknown argument {argument}; there are --listen ADDRESS and --dir DIRECTORY"),
        }
    }
    Ok(address.map(|address| (address, dir)))
}

const CLIENTS: usize = 4;
const VISITS: usize = 600;
const BATCH: usize = 25;
const PAGES: [&str; 3] = ["/", "/docs", "/download"];
const SEED: u64 = 37;
/// 2026-03-02, 00:00 UTC.
const MIDNIGHT_NS: i64 = 1_772_409_600_000_000_000;

/// Serves, asks, stops, and looks again.
fn show_off(runtime: &tokio::runtime::Runtime) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path().join("visits");
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let server = runtime.spawn(serve(listener, dir.clone(), async {
        // Also when the sender is gone: then nobody is left who would ask.
        let _ = stopped.await;
    }));

    let mut checks = Checks::default();
    let visits = some_visits(&mut Rng::with_seed(SEED));
    let asked = ask(address, &visits, &mut checks);
    drop(stop);
    runtime.block_on(server)??;
    asked?;
    look_again(&dir, &visits, &mut checks)?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

fn ask(address: SocketAddr, visits: &[WireVisit], checks: &mut Checks) -> Result<()> {
    // All clients at once; each waits until its batch is on disk. Batches that wait at the same time share a sync.
    let shares = visits.chunks(VISITS / CLIENTS);
    thread::scope(|scope| -> Result<()> {
        let send = |share: &[WireVisit]| share.chunks(BATCH).try_for_each(|batch| post_batch(address, batch));
        let clients: Vec<_> = shares.map(|share| scope.spawn(move || send(share))).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })?;
    println!("{CLIENTS} clients sent {} visits in batches of {BATCH}", visits.len());

    let all: VisitTotals = request(address, "GET", "/totals", "")?.json()?;
    println!("  {} visits, {} sent", all.visits, human::bytes(all.bytes));
    checks.equal("all visits", &all, &totals_of(visits.iter()))?;
    for page in PAGES {
        let of_page: VisitTotals = request(address, "GET", &format!("/totals?page={page}"), "")?.json()?;
        println!("  {page:<10} {:>4} visits", of_page.visits);
        checks.equal(
            "visits of a page",
            &of_page,
            &totals_of(visits.iter().filter(|visit| visit.page == page)),
        )?;
    }

    let visitor = &visits[0].visitor;
    let mut path = format!("/visits?visitor={visitor}&limit=7");
    let (mut history, mut pages) = (Vec::new(), 0);
    loop {
        let page: Page = request(address, "GET", &path, "")?.json()?;
        pages += 1;
        history.extend(page.visits);
        let Some(before) = page.next_before else { break };
        path = format!("/visits?visitor={visitor}&limit=7&before={before}");
    }
    println!("  {visitor} made {} visits, on {pages} pages of at most 7", history.len());
    let of_visitor = visits.iter().rev().filter(|visit| visit.visitor == *visitor);
    checks.equal("a visitor's history", &history, &of_visitor.cloned().collect())?;

    let found: WireVisit = request(address, "GET", &format!("/visits/{}", visits[99].id), "")?.json()?;
    checks.equal("a visit by its id", &found, &visits[99])?;
    ask_wrongly(address, visits, checks)
}

/// What is refused changes nothing.
fn ask_wrongly(address: SocketAddr, visits: &[WireVisit], checks: &mut Checks) -> Result<()> {
    println!("\nand what is refused");
    let too_long = WireVisit { visitor: "v".repeat(keplordb::MAX_KEY_BYTES + 1), ..visits[0].clone() };
    let batch = serde_json::to_string(&[visits[0].clone(), too_long])?;
    for (method, path, body, status) in [
        ("POST", "/visits", batch.as_str(), 400),
        ("POST", "/visits", "[{\"id\": 5}]", 422),
        ("GET", "/visits/visit-none", "", 404),
        ("GET", "/totals?vistor=ada", "", 400),
    ] {
        let answer = request(address, method, path, body)?;
        println!("  {method} {path}: {} {}", answer.status, answer.body);
        checks.equal("the status of a refusal", &answer.status, &status)?;
    }
    let all: VisitTotals = request(address, "GET", "/totals", "")?.json()?;
    checks.equal("visits after refusals", &all, &totals_of(visits.iter()))
}

/// The service has closed the store, so another program may open it, and finds all that was answered for.
fn look_again(dir: &Path, visits: &[WireVisit], checks: &mut Checks) -> Result<()> {
    let store = Store::<Visit>::open(dir)?;
    let stored = store.query(Visit::filter()).oldest_first().rows()?;
    println!("\nopened again: {} visits", stored.len());
    let stored: Vec<WireVisit> = stored.into_iter().map(WireVisit::from).collect();
    checks.equal("visits after the shutdown", &stored, &visits.to_vec())?;
    checks.equal("bytes that a crash would have torn", &store.open_report().torn_tails.len(), &0)
}

/// An HTTP answer.
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        ensure!(self.status == 200, "the service answers {}: {}", self.status, self.body);
        Ok(serde_json::from_str(&self.body)?)
    }
}

fn post_batch(address: SocketAddr, visits: &[WireVisit]) -> Result<()> {
    let stored: Stored = request(address, "POST", "/visits", &serde_json::to_string(visits)?)?.json()?;
    ensure!(stored.last - stored.first + 1 == visits.len() as u64, "the service stored {stored:?}");
    Ok(())
}

/// As little of HTTP as this program needs: a connection for each request, closed by the service.
fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<Answer> {
    let mut connection = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        connection,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    let status = head.split(' ').nth(1).context("an answer has a status")?.parse()?;
    Ok(Answer { status, body: body.to_owned() })
}

fn totals_of<'a>(visits: impl Iterator<Item = &'a WireVisit>) -> VisitTotals {
    visits.fold(VisitTotals::default(), |sums, visit| VisitTotals {
        visits: sums.visits + 1,
        bytes: sums.bytes + u64::from(visit.bytes),
        latency_ms: sums.latency_ms + u64::from(visit.latency_ms),
    })
}

/// In order of time.
fn some_visits(rng: &mut Rng) -> Vec<WireVisit> {
    (0..VISITS)
        .map(|n| WireVisit {
            id: format!("visit-{n:03}"),
            ts_ns: MIDNIGHT_NS + n as i64 * 1_000_000_000,
            visitor: format!("visitor-{:02}", rng.u32(..25)),
            page: PAGES[rng.usize(..PAGES.len())].to_owned(),
            bytes: rng.u32(200..90_000),
            latency_ms: rng.u32(1..300),
            status: 200,
        })
        .collect()
}
