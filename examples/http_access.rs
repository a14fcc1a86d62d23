//! An access log: "how many requests fail, which are slow, and what did this client do?"
//!
//! Appends three made-up days of a web service's requests (60,000, the same each time; written as they end, so not in
//! the order in which they began) to an `Engine` and prints: requests, bytes and the share of server errors, over all
//! and by route; the slowest of the newest 1,000 requests; one client's session, read page by page; and for each day
//! and route the requests and errors, from the rollups. It then deletes that client's requests: counts, sums and
//! rollups are those of the rest. Every answer is compared with a plain loop over the same requests; the last line says
//! how many comparisons there were.
//!
//! ```text
//! cargo run --release --example http_access
//! ```

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use fastrand::Rng;
use keplordb::{Cursor, Engine, EngineConfig, EventRef, LogEvent, Schema};
use keplordb_examples::{Checks, human};

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
    /// 1 for a server error, so that rollups know how many there were.
    #[counter]
    errors: u32,
    /// The path as it was asked for, with its query.
    #[label]
    path: String,
}

type AccessLog = Engine<3, 1, 1>;
/// A request on its way in.
type Sent = LogEvent<3, 1, 1>;
/// A request as the engine answers with it.
type Event = EventRef<3, 1, 1>;

/// Statuses of server errors; the end is exclusive.
const SERVER_ERRORS: std::ops::Range<u16> = 500..600;

/// Method, route, and how long it takes at least.
const ROUTES: [(&str, &str, u32); 4] =
    [("GET", "/", 2), ("GET", "/products/{id}", 8), ("POST", "/cart", 15), ("POST", "/checkout", 120)];

const CLIENTS: u32 = 900;
const REQUESTS_PER_DAY: i64 = 20_000;
const DAYS: i64 = 3;
/// 2026-03-02, 00:00 UTC.
const FIRST_MIDNIGHT_S: i64 = 1_772_409_600;
const DAY_S: i64 = 86_400;
const NS_PER_S: i64 = 1_000_000_000;
const NS_PER_MS: i64 = 1_000_000;
const SEED: u64 = 11;
const BATCH_REQUESTS: usize = 1_000;
/// Requests on one page of a session.
const PAGE: usize = 25;

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut log = three_days(&mut Rng::with_seed(SEED));
    let engine = open_and_fill(dir.path().join("access"), &log)?;

    let mut checks = Checks::default();
    show_errors(&engine, &log, &mut checks)?;
    show_slowest(&engine, &log, &mut checks)?;
    let client = busiest_client(&log);
    let session = show_session(&engine, &log, &client, &mut checks)?;
    show_days(&engine, &log, &mut checks)?;

    forget(&engine, &session, &mut checks)?;
    log.retain(|request| request.dims[2] != client);
    check_after_delete(&engine, &log, &client, &mut checks)?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

/// A segment per 10,000 requests; by default it would be one per 500,000, and all of these would still be in memory.
fn open_and_fill(dir: PathBuf, log: &[Sent]) -> Result<AccessLog> {
    let config = EngineConfig { wal_max_events: 10_000, ..Request::default_config(dir) };
    let engine = AccessLog::open(config)?;
    for batch in log.chunks(BATCH_REQUESTS) {
        engine.append_batch(batch)?;
    }
    Ok(engine)
}

fn show_errors(engine: &AccessLog, log: &[Sent], checks: &mut Checks) -> Result<()> {
    let all = engine.aggregate(&Request::filter().into_filter())?;
    let (requests, sent) = (human::count(all.event_count), human::bytes(all.metric.unsigned_abs()));
    println!("{requests} requests in {} segments, {sent} sent", engine.segment_count());
    checks.equal("requests", &all.event_count, &(log.len() as u64))?;
    checks.equal("bytes sent", &all.metric, &log.iter().map(|request| request.metric).sum())?;

    println!("\nroute                 requests   server errors     average    slowest");
    for (_, route, _) in ROUTES {
        let served = engine.aggregate(&Request::filter().route(route).into_filter())?;
        let failed = engine.aggregate(&Request::filter().route(route).status(SERVER_ERRORS).into_filter())?;
        let (requests, share) =
            (human::count(served.event_count), human::percent(failed.event_count, served.event_count));
        let average_ms = served.latency_ms / served.event_count.max(1);
        let slowest_ms = served.latency_ms_max.unwrap_or(0);
        println!("  {route:<18} {requests:>9} {share:>15} {average_ms:>8} ms {slowest_ms:>7} ms");

        let of_route: Vec<_> = log.iter().filter(|request| request.dims[1] == route).collect();
        let of_failed = of_route.iter().filter(|request| SERVER_ERRORS.contains(&request.status));
        checks.equal("requests of a route", &served.event_count, &(of_route.len() as u64))?;
        checks.equal("errors of a route", &failed.event_count, &(of_failed.count() as u64))?;
        let latency_ms = of_route.iter().map(|request| u64::from(request.latency_ms)).sum();
        checks.equal("latency of a route", &served.latency_ms, &latency_ms)?;
        let slowest = of_route.iter().map(|request| request.latency_ms).max();
        checks.equal("slowest of a route", &served.latency_ms_max, &slowest)?;
    }
    Ok(())
}

fn show_slowest(engine: &AccessLog, log: &[Sent], checks: &mut Checks) -> Result<()> {
    let newest = engine.query_recent(&Request::filter().into_filter(), 1_000)?;
    checks.equal("ids of the newest", &ids(&newest), &newest_ids(log.iter(), 1_000))?;

    let mut slowest = newest;
    slowest.sort_by_key(|request| Reverse(request.latency_ms));
    println!("\nthe slowest of the newest 1,000 requests");
    slowest.iter().take(5).for_each(show_request);
    Ok(())
}

/// Reads all of a client's requests, a page at a time from new to old: a page begins below the time of the last
/// request of the page before.
fn show_session(engine: &AccessLog, log: &[Sent], client: &str, checks: &mut Checks) -> Result<Vec<Event>> {
    let mut session: Vec<Event> = Vec::new();
    let mut pages = 0;
    loop {
        let filter = Request::filter().client(client);
        let below = session.last().map(|last| last.ts_ns);
        let filter = if let Some(ts_ns) = below { filter.cursor(Cursor(ts_ns)) } else { filter };
        let page = engine.query_recent(&filter.into_filter(), PAGE)?;
        if page.is_empty() {
            break;
        }
        pages += 1;
        session.extend(page);
    }
    println!("\n{client} made {} requests, {pages} pages of {PAGE}; the first of them", session.len());
    session.iter().rev().take(5).for_each(show_request);

    let of_client = log.iter().filter(|request| request.dims[2] == client);
    checks.equal("ids of the session", &ids(&session), &newest_ids(of_client, usize::MAX))?;
    Ok(session)
}

/// Requests, bytes and errors of a day (its UTC midnight, in epoch seconds) and route.
type Days = BTreeMap<(i64, String), (u64, i64, u64)>;

fn show_days(engine: &AccessLog, log: &[Sent], checks: &mut Checks) -> Result<()> {
    let days = days(engine)?;
    println!("\nby day and route      requests   server errors");
    for ((midnight_s, route), (requests, _, errors)) in &days {
        let day = 1 + (midnight_s - FIRST_MIDNIGHT_S) / DAY_S;
        println!("  day {day} {route:<15} {:>6} {errors:>15}", human::count(*requests));
    }
    checks.equal("rollups by day and route", &days, &days_of(log))
}

fn days(engine: &AccessLog) -> Result<Days> {
    let last_midnight_s = FIRST_MIDNIGHT_S + (DAYS - 1) * DAY_S;
    let mut days = Days::new();
    for (key, value) in engine.query_rollups(FIRST_MIDNIGHT_S, last_midnight_s, &[None])? {
        let [route] = <[String; 1]>::try_from(key.dims).map_err(|dims| anyhow!("a rollup of {dims:?}"))?;
        let [errors] = value.counters;
        days.insert((key.day, route), (value.event_count, value.metric, errors));
    }
    Ok(days)
}

fn days_of(log: &[Sent]) -> Days {
    let mut days = Days::new();
    for request in log {
        let midnight_s = (request.ts_ns / NS_PER_S).div_euclid(DAY_S) * DAY_S;
        let (requests, bytes, errors) = days.entry((midnight_s, request.dims[1].clone())).or_default();
        *requests += 1;
        *bytes += request.metric;
        *errors += u64::from(request.counters[0]);
    }
    days
}

/// The client wants to be forgotten.
fn forget(engine: &AccessLog, session: &[Event], checks: &mut Checks) -> Result<()> {
    let ids: Vec<&str> = session.iter().map(|request| request.id.as_str()).collect();
    let deleted = engine.delete_events(&ids)?;
    println!("\ndeleted {deleted} requests");
    checks.equal("deleted requests", &deleted, &session.len())
}

/// Sums and rollups are those of the requests that are left.
fn check_after_delete(engine: &AccessLog, log: &[Sent], client: &str, checks: &mut Checks) -> Result<()> {
    let of_client = engine.aggregate(&Request::filter().client(client).into_filter())?;
    let all = engine.aggregate(&Request::filter().into_filter())?;
    println!("{client} now has {} of {} requests", of_client.event_count, human::count(all.event_count));
    checks.equal("requests of a forgotten client", &of_client.event_count, &0)?;
    checks.equal("requests after the delete", &all.event_count, &(log.len() as u64))?;
    checks.equal("bytes after the delete", &all.metric, &log.iter().map(|request| request.metric).sum())?;
    checks.equal("rollups after the delete", &days(engine)?, &days_of(log))
}

fn show_request(request: &Event) {
    let Event { ts_ns, latency_ms, status, dims: [method, ..], labels: [path], .. } = request;
    let seconds = ts_ns / NS_PER_S - FIRST_MIDNIGHT_S;
    let (day, time) = (1 + seconds / DAY_S, seconds % DAY_S);
    let time = format!("{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60);
    println!("  day {day} {time}  {status}  {latency_ms:>5} ms  {method:<4} {path}");
}

fn ids(requests: &[Event]) -> Vec<String> {
    requests.iter().map(|request| request.id.clone()).collect()
}

/// No two requests began at the same nanosecond.
fn newest_ids<'a>(log: impl Iterator<Item = &'a Sent>, limit: usize) -> Vec<String> {
    let mut requests: Vec<_> = log.collect();
    requests.sort_by_key(|request| Reverse(request.ts_ns));
    requests.into_iter().take(limit).map(|request| request.id.clone()).collect()
}

/// The one with the most requests, the first of them by name.
fn busiest_client(log: &[Sent]) -> String {
    let mut requests: BTreeMap<&str, u32> = BTreeMap::new();
    for request in log {
        *requests.entry(&request.dims[2]).or_default() += 1;
    }
    let busiest = requests.into_iter().max_by_key(|(client, requests)| (*requests, Reverse(*client)));
    busiest.map(|(client, _)| client.to_owned()).unwrap_or_default()
}

/// In the order in which the requests ended.
fn three_days(rng: &mut Rng) -> Vec<Sent> {
    let step_ns = DAY_S * NS_PER_S / REQUESTS_PER_DAY;
    let begin_ns = FIRST_MIDNIGHT_S * NS_PER_S;
    let mut log: Vec<_> = (0..DAYS * REQUESTS_PER_DAY)
        .map(|n| a_request(rng, &format!("{n:06}"), begin_ns + n * step_ns))
        .collect();
    log.sort_by_key(|request| request.ts_ns + i64::from(request.latency_ms) * NS_PER_MS);
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
    let columns = Request {
        method: method.to_owned(),
        route: route.to_owned(),
        client: format!("client-{:03}", rng.u32(..CLIENTS)),
        errors: u32::from(SERVER_ERRORS.contains(&status)),
        path: route.replace("{id}", &rng.u32(1..5_000).to_string()),
    };
    let event = columns.at(ts_ns).id(id).metric(rng.i64(200..90_000)).status(status);
    event.latency_ms(first_byte_ms + rng.u32(..30)).latency_detail_ms(first_byte_ms).into_log_event()
}
