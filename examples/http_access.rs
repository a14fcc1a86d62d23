//! An access log: "how many requests fail, which are slow, and what did this client do?"
//!
//! Appends three made-up days of a web service's requests (60,000, the same each time; written as they end, so not in
//! the order in which they began) to a `Store` and prints: requests and bytes; of each route the share of server errors and
//! how long it takes (median, 95 and 99 of a hundred); the worst hours and the clients that saw most errors in all; the newest
//! requests that took long although their route is a fast one; one client's session, read page by page; and for each day and
//! route the requests, errors and clients. It then deletes that client's requests: counts, sums and rollups are
//! those of the rest. Every answer is compared with a plain loop over the same requests; the last line says how many
//! comparisons there were.
//!
//! ```text
//! cargo run --release --example http_access
//! ```

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use fastrand::Rng;
use keplordb::aggregates::{Quantile, count, distinct, quantile, sum};
use keplordb::{Bucket, EngineConfig, Filter, Options, Schema, Store};
use keplordb_examples::{Checks, human, nearest_rank};

/// A request; of the built-in columns:
/// - `ts_ns` is when it began,
/// - `metric` the bytes that were sent,
/// - `latency_ms` how long it took, `latency_detail_ms` until its first byte,
/// - `status` the HTTP status.
#[derive(Schema)]
#[keplordb(id = 1)]
struct Request {
    #[dim]
    method: String,
    #[dim(rollup)]
    route: String,
    #[dim(bloom)]
    client: String,
    /// 1 for a server error, so that sums and rollups know how many there were.
    #[counter]
    errors: u32,
    /// The path as it was asked for, with its query.
    #[label]
    path: String,
}

type AccessLog = Store<Request>;

/// A request as the web service knows it.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    id: String,
    ts_ns: i64,
    method: String,
    route: String,
    client: String,
    path: String,
    bytes: i64,
    first_byte_ms: u32,
    took_ms: u32,
    status: u16,
}

impl Sent {
    fn is_error(&self) -> bool {
        SERVER_ERRORS.contains(&self.status)
    }

    fn hour_ns(&self) -> i64 {
        self.ts_ns.div_euclid(HOUR_NS) * HOUR_NS
    }

    fn midnight_ns(&self) -> i64 {
        self.ts_ns.div_euclid(DAY_NS) * DAY_NS
    }
}

impl From<&Sent> for RequestBuilder {
    fn from(sent: &Sent) -> Self {
        let Sent { method, route, client, path, .. } = sent.clone();
        Request { method, route, client, errors: u32::from(sent.is_error()), path }
            .at(sent.ts_ns)
            .id(&sent.id)
            .metric(sent.bytes)
            .latency_ms(sent.took_ms)
            .latency_detail_ms(sent.first_byte_ms)
            .status(sent.status)
    }
}

impl From<RequestRow> for Sent {
    fn from(row: RequestRow) -> Self {
        Self {
            id: row.id().to_owned(),
            ts_ns: row.ts_ns(),
            method: row.method().to_owned(),
            route: row.route().to_owned(),
            client: row.client().to_owned(),
            path: row.path().to_owned(),
            bytes: row.metric(),
            first_byte_ms: row.latency_detail_ms(),
            took_ms: row.latency_ms(),
            status: row.status(),
        }
    }
}

/// Statuses of server errors; the end is exclusive.
const SERVER_ERRORS: std::ops::Range<u16> = 500..600;
/// What takes longer has waited for something …
const SLOW_MS: u32 = 1_000;
/// … unless it is of a route that pays.
const CHECKOUT: &str = "/checkout";

/// Method, route, and how long it takes at least.
const ROUTES: [(&str, &str, u32); 4] =
    [("GET", "/", 2), ("GET", "/products/{id}", 8), ("POST", "/cart", 15), ("POST", CHECKOUT, 120)];

const CLIENTS: u32 = 900;
const REQUESTS_PER_DAY: i64 = 20_000;
const DAYS: i64 = 3;
/// 2026-03-02, 00:00 UTC.
const FIRST_MIDNIGHT_S: i64 = 1_772_409_600;
const FIRST_MIDNIGHT_NS: i64 = FIRST_MIDNIGHT_S * NS_PER_S;
const DAY_S: i64 = 86_400;
const DAY_NS: i64 = DAY_S * NS_PER_S;
const HOUR_NS: i64 = 3_600 * NS_PER_S;
const NS_PER_S: i64 = 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;
const SEED: u64 = 11;
const BATCH_REQUESTS: usize = 1_000;
/// Requests on one page of a session.
const PAGE: usize = 25;

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut log = three_days(&mut Rng::with_seed(SEED));
    let store = open_and_fill(dir.path().join("access"), &log)?;

    let mut checks = Checks::default();
    show_routes(&store, &log, &mut checks)?;
    show_errors(&store, &log, &mut checks)?;
    show_slow(&store, &log, &mut checks)?;
    let client = busiest_client(&store, &log, &mut checks)?;
    show_session(&store, &log, &client, &mut checks)?;
    show_days(&store, &log, &mut checks)?;

    forget(&store, &mut log, &client, &mut checks)?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

/// A segment per 10,000 requests; by default it would be one per 500,000, and all of these would still be in memory.
fn open_and_fill(dir: PathBuf, log: &[Sent]) -> Result<AccessLog> {
    let config = EngineConfig { wal_max_events: 10_000, ..Request::default_config(dir) };
    let store = AccessLog::open_with(config, Options::default())?;
    for batch in log.chunks(BATCH_REQUESTS) {
        store.append_batch(batch)?;
    }
    Ok(store)
}

/// What is told of a route: requests, errors, bytes, and how long it takes by percentile.
type OfRoute = (u64, u64, i64, [Option<Quantile<u32>>; 3]);

/// Per cent of the requests that took at most as long.
const PERCENTILES: [usize; 3] = [50, 95, 99];

fn show_routes(store: &AccessLog, log: &[Sent], checks: &mut Checks) -> Result<()> {
    let all = store.query(Filter::all()).totals()?;
    let (requests, sent) = (human::count(all.event_count), human::bytes(all.metric.unsigned_abs()));
    println!("{requests} requests in {} segments, {sent} sent", store.stats().segments);
    checks.equal("requests", &all.event_count, &(log.len() as u64))?;
    checks.equal("bytes sent", &all.metric, &log.iter().map(|request| request.bytes).sum())?;

    let c = Request::cols();
    let took = c.latency_ms;
    let percentiles = (quantile(took, 0.50), quantile(took, 0.95), quantile(took, 0.99));
    let routes = store
        .query(Filter::all())
        .group_by(c.route)
        .select((count(), sum(c.errors), sum(c.metric), percentiles.0, percentiles.1, percentiles.2))
        .top_by(ROUTES.len(), count())
        .fetch()?;
    println!("\nroute                 requests   server errors        p50        p95        p99");
    let mut answered: BTreeMap<&str, OfRoute> = BTreeMap::new();
    for route in &routes {
        let (requests, errors, bytes, p50, p95, p99) = route.values();
        let share = human::percent(errors, requests);
        print!("  {:<18} {:>9} {share:>15}", route.key(), human::count(requests));
        println!(" {:>7} ms {:>7} ms {:>7} ms", shown(p50), shown(p95), shown(p99));
        answered.insert(route.key(), (requests, errors, bytes, [p50, p95, p99]));
    }

    let mut right: BTreeMap<&str, OfRoute> = BTreeMap::new();
    for (_, route, _) in ROUTES {
        let of_route: Vec<_> = log.iter().filter(|request| request.route == route).collect();
        let errors = of_route.iter().filter(|request| request.is_error()).count();
        let bytes = of_route.iter().map(|request| request.bytes).sum();
        let mut took_ms: Vec<u32> = of_route.iter().map(|request| request.took_ms).collect();
        took_ms.sort_unstable();
        // Far fewer requests than would make the engine estimate.
        let exactly = |value| Quantile { value, is_exact: true };
        let percentiles = PERCENTILES.map(|percent| nearest_rank(&took_ms, percent).map(exactly));
        right.insert(route, (of_route.len() as u64, errors as u64, bytes, percentiles));
    }
    checks.equal("the routes", &answered, &right)
}

fn shown(quantile: Option<Quantile<u32>>) -> String {
    quantile.map_or_else(|| "-".to_owned(), |quantile| quantile.value.to_string())
}

fn show_errors(store: &AccessLog, log: &[Sent], checks: &mut Checks) -> Result<()> {
    let c = Request::cols();
    let errors = c.status.between(SERVER_ERRORS);
    let hours = store.query(&errors).bucket(Bucket::hours(1)).select(count()).top_by(3, count());
    println!("\nthe hours with most server errors");
    for hour in &hours.fetch()? {
        println!("  {}  {:>4}", time_of(hour.bucket()), hour.values());
    }
    println!("  answered by {}", hours.explain()?);
    let clients = store.query(&errors).values(c.client).limit(3)?;
    println!("who saw most of them");
    for (client, errors) in &clients {
        println!("  {client} {errors:>8}");
    }

    let of_hours = counted(log.iter().filter(|request| request.is_error()).map(Sent::hour_ns));
    let answered: Vec<_> = hours.fetch()?.iter().map(|hour| (hour.bucket(), hour.values())).collect();
    checks.equal("the worst hours", &answered, &of_hours[..3].to_vec())?;
    let of_clients = counted(log.iter().filter(|request| request.is_error()).map(|request| &request.client));
    let answered: Vec<_> = clients.iter().map(|(client, errors)| (client, *errors)).collect();
    checks.equal("who saw most errors", &answered, &of_clients[..3].to_vec())
}

/// How often each value occurs: the most frequent first, equally frequent ones in their own order.
fn counted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<(T, u64)> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    let mut counts: Vec<(T, u64)> = counts.into_iter().collect();
    // The sort is stable.
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts
}

fn show_slow(store: &AccessLog, log: &[Sent], checks: &mut Checks) -> Result<()> {
    let c = Request::cols();
    let slow = c.latency_ms.gt(SLOW_MS) & !c.route.eq(CHECKOUT) & c.path.ne("/");
    let newest = requests(store.query(slow).newest_first().limit(5).rows()?);
    println!("\nthe newest that took more than {SLOW_MS} ms, without {CHECKOUT} and the front page");
    newest.iter().for_each(show_request);

    let is_slow =
        |request: &&Sent| request.took_ms > SLOW_MS && request.route != CHECKOUT && request.path != "/";
    checks.equal("the newest slow requests", &newest, &newest_first(log.iter().filter(is_slow), 5))
}

/// The client with the most requests, the first of them by name.
fn busiest_client(store: &AccessLog, log: &[Sent], checks: &mut Checks) -> Result<String> {
    let busiest = store.values(Request::cols().client).limit(1)?;
    let right = counted(log.iter().map(|request| request.client.clone()));
    checks.equal("the busiest client", &busiest, &right[..1].to_vec())?;
    busiest.into_iter().next().map(|(client, _)| client).ok_or_else(|| anyhow!("there are no clients"))
}

/// Reads all of a client's requests, a page at a time from new to old, as a web page would that keeps the cursor in its link to the
/// next one.
fn show_session(store: &AccessLog, log: &[Sent], client: &str, checks: &mut Checks) -> Result<()> {
    let of_client = store.query(Request::cols().client.eq(client)).newest_first();
    let mut session: Vec<Sent> = Vec::new();
    let (mut pages, mut cursor) = (0, None);
    loop {
        let page = of_client.page(PAGE, cursor)?;
        pages += 1;
        session.extend(requests(page.rows));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    println!("\n{client} made {} requests, {pages} pages of {PAGE}; the first of them", session.len());
    session.iter().rev().take(5).for_each(show_request);

    let of_client = log.iter().filter(|request| request.client == client);
    checks.equal("the session", &session, &newest_first(of_client, usize::MAX))
}

/// Requests, bytes and errors of a day (its UTC midnight) and route.
type Days = BTreeMap<(i64, String), (u64, i64, u64)>;

fn show_days(store: &AccessLog, log: &[Sent], checks: &mut Checks) -> Result<()> {
    let c = Request::cols();
    let days = store
        .query(Filter::all())
        .group_by(c.route)
        .bucket(Bucket::days(1))
        .select((count(), sum(c.errors), distinct(c.client)))
        .fetch()?;
    println!("\nby route and day      requests   server errors    clients");
    let mut answered = BTreeMap::new();
    for day in &days {
        let (requests, errors, clients) = day.values();
        let number = 1 + (day.bucket() - FIRST_MIDNIGHT_NS) / DAY_NS;
        println!("  {:<15} day {number} {:>7} {errors:>15} {clients:>10}", day.key(), human::count(requests));
        answered.insert((day.bucket(), day.key()), (requests, errors, clients));
    }

    let mut clients: BTreeMap<(i64, &str), BTreeSet<&str>> = BTreeMap::new();
    for request in log {
        clients.entry((request.midnight_ns(), &request.route)).or_default().insert(&request.client);
    }
    let rolled_up = days_of(log);
    let of_day = |(midnight_ns, route): &(i64, String)| {
        let (requests, _, errors) = rolled_up[&(*midnight_ns, route.clone())];
        (requests, errors, clients[&(*midnight_ns, route.as_str())].len() as u64)
    };
    let right = rolled_up.keys().map(|day| ((day.0, day.1.as_str()), of_day(day))).collect();
    checks.equal("routes by day", &answered, &right)?;
    checks.equal("rollups by day and route", &rollups(store)?, &rolled_up)
}

/// What `#[dim(rollup)]` keeps ready for each day.
fn rollups(store: &AccessLog) -> Result<Days> {
    let last_midnight_s = FIRST_MIDNIGHT_S + (DAYS - 1) * DAY_S;
    let mut days = Days::new();
    for (key, value) in store.rollups(FIRST_MIDNIGHT_S, last_midnight_s, &[None])? {
        let [route] = <[String; 1]>::try_from(key.dims).map_err(|dims| anyhow!("a rollup of {dims:?}"))?;
        let [errors] = value.counters;
        days.insert((key.day * NS_PER_S, route), (value.event_count, value.metric, errors));
    }
    Ok(days)
}

fn days_of(log: &[Sent]) -> Days {
    let mut days = Days::new();
    for request in log {
        let day = (request.midnight_ns(), request.route.clone());
        let (requests, bytes, errors) = days.entry(day).or_default();
        *requests += 1;
        *bytes += request.bytes;
        *errors += u64::from(request.is_error());
    }
    days
}

/// The client wants to be forgotten; counts, sums and rollups are those of the requests that are left.
fn forget(store: &AccessLog, log: &mut Vec<Sent>, client: &str, checks: &mut Checks) -> Result<()> {
    let of_client = Request::cols().client.eq(client);
    let deleted = store.delete_where(&of_client)?;
    println!("\ndeleted {deleted} requests");
    let before = log.len();
    log.retain(|request| request.client != client);
    checks.equal("deleted requests", &deleted, &((before - log.len()) as u64))?;

    let left = store.query(of_client).totals()?.event_count;
    let all = store.query(Filter::all()).totals()?;
    println!("{client} now has {left} of {} requests", human::count(all.event_count));
    checks.equal("requests of a forgotten client", &left, &0)?;
    checks.equal("requests after the delete", &all.event_count, &(log.len() as u64))?;
    checks.equal("bytes after the delete", &all.metric, &log.iter().map(|request| request.bytes).sum())?;
    checks.equal("rollups after the delete", &rollups(store)?, &days_of(log))
}

fn show_request(request: &Sent) {
    let Sent { took_ms, status, method, path, .. } = request;
    println!("  {}  {status}  {took_ms:>5} ms  {method:<4} {path}", time_of(request.ts_ns));
}

/// Of a day of the log: `day 1 09:30:00`.
fn time_of(ts_ns: i64) -> String {
    let seconds = ts_ns / NS_PER_S - FIRST_MIDNIGHT_S;
    let (day, time) = (1 + seconds / DAY_S, seconds % DAY_S);
    format!("day {day} {:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60)
}

fn requests(rows: Vec<RequestRow>) -> Vec<Sent> {
    rows.into_iter().map(Sent::from).collect()
}

/// No two requests began at the same nanosecond.
fn newest_first<'a>(log: impl Iterator<Item = &'a Sent>, limit: usize) -> Vec<Sent> {
    let mut requests: Vec<_> = log.collect();
    requests.sort_by_key(|request| Reverse(request.ts_ns));
    requests.into_iter().take(limit).cloned().collect()
}

/// In the order in which the requests ended.
fn three_days(rng: &mut Rng) -> Vec<Sent> {
    let step_ns = DAY_NS / REQUESTS_PER_DAY;
    let mut log: Vec<_> = (0..DAYS * REQUESTS_PER_DAY)
        .map(|n| a_request(rng, &format!("{n:06}"), FIRST_MIDNIGHT_NS + n * step_ns))
        .collect();
    log.sort_by_key(|request| request.ts_ns + i64::from(request.took_ms) * NS_PER_MS);
    log
}

fn a_request(rng: &mut Rng, id: &str, ts_ns: i64) -> Sent {
    let (method, route, least_ms) = ROUTES[rng.usize(..ROUTES.len()).min(rng.usize(..ROUTES.len()))];
    let status = match rng.u32(..200) {
        0 => 503,
        1 => 500,
        2..6 => 404,
        _ => 200,
    };
    // One in a hundred waits for something.
    let waits_ms = if rng.u32(..100) == 0 { rng.u32(1_000..9_000) } else { 0 };
    let first_byte_ms = least_ms + rng.u32(..20) + waits_ms;
    Sent {
        id: id.to_owned(),
        ts_ns,
        method: method.to_owned(),
        route: route.to_owned(),
        client: format!("client-{:03}", rng.u32(..CLIENTS)),
        path: route.replace("{id}", &rng.u32(1..5_000).to_string()),
        bytes: rng.i64(200..90_000),
        first_byte_ms,
        took_ms: first_byte_ms + rng.u32(..30),
        status,
    }
}
