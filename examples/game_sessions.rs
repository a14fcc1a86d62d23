//! Game sessions: "who plays, how well does it run, and what was just played?"
//!
//! Four game servers, each a thread with a handle of the same store, append a made-up day of sessions (24,000, the same each
//! time) as these end, while a lobby reads the newest ones. Prints: players' sessions, time and scores; how well it ran in
//! each region; who left and why; then the feed of the newest sessions page by page by a cursor, and the history of one
//! player, on pages too. Every answer is compared with a plain loop over the same sessions; the last line says how many
//! comparisons there were.
//!
//! ```text
//! cargo run --release --example game_sessions
//! ```

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, anyhow};
use fastrand::Rng;
use keplordb::{Cursor, EngineConfig, EventFlags, Options, Schema, Store, Sync, Totals};
use keplordb_examples::{Checks, human};

/// A session, written when it ends; of the built-in columns:
/// - `ts_ns` is when it ended,
/// - `metric` the points, which may be lost as well as won,
/// - `latency_ms` the average ping, `latency_detail_ms` how long the player waited for the game,
/// - `status` how it ended,
/// - `flags` how it was played.
#[derive(Schema)]
#[keplordb(id = 1)]
struct Session {
    #[dim(bloom)]
    player: String,
    #[dim(rollup)]
    region: String,
    #[dim]
    map: String,
    #[counter]
    played_s: u32,
    #[counter]
    hits: u32,
}

const FINISHED: u16 = 0;
const LEFT: u16 = 1;
const DISCONNECTED: u16 = 2;

const RANKED: EventFlags = EventFlags(0b01);
const WITH_FRIENDS: EventFlags = EventFlags(0b10);

/// A region and its ping.
const REGIONS: [(&str, u32); 4] = [("eu", 22), ("na", 35), ("sa", 70), ("asia", 48)];
const MAPS: [&str; 4] = ["bridge", "canyon", "harbour", "mine"];
const PLAYERS: u32 = 1_500;

/// A server's sessions; each server is a region.
const SESSIONS_PER_SERVER: i64 = 6_000;
/// 2026-03-02, 00:00 UTC.
const MIDNIGHT_S: i64 = 1_772_409_600;
const DAY_S: i64 = 86_400;
const NS_PER_S: i64 = 1_000_000_000;
const SEED: u64 = 31;
/// Sessions that end at about the same time.
const BATCH_SESSIONS: usize = 50;
/// Sessions on one page.
const PAGE: usize = 20;
const FEED_PAGES: usize = 10;

/// A session as the game server knows it.
#[derive(Debug, Clone, PartialEq)]
struct Round {
    id: String,
    ts_ns: i64,
    player: String,
    region: &'static str,
    map: &'static str,
    played_s: u32,
    hits: u32,
    points: i64,
    ping_ms: u32,
    waited_ms: u32,
    status: u16,
    flags: EventFlags,
}

impl From<&Round> for SessionBuilder {
    fn from(played: &Round) -> Self {
        let columns = Session {
            player: played.player.clone(),
            region: played.region.to_owned(),
            map: played.map.to_owned(),
            played_s: played.played_s,
            hits: played.hits,
        };
        let event = columns.at(played.ts_ns).id(&played.id).metric(played.points).flags(played.flags);
        event.latency_ms(played.ping_ms).latency_detail_ms(played.waited_ms).status(played.status)
    }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path().join("sessions"))?;
    let mut checks = Checks::default();
    let mut sessions = play(&store, &mut checks)?;
    // No two sessions end at the same nanosecond.
    sessions.sort_by_key(|session| session.ts_ns);

    show_regions(&store, &sessions, &mut checks)?;
    show_endings(&store, &sessions, &mut checks)?;
    let player = show_players(&store, &sessions, &mut checks)?;
    show_feed(&store, &sessions, &mut checks)?;
    show_history(&store, &sessions, &player, &mut checks)?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

/// A power cut may take the last seconds of play, a killed process nothing. A segment per 5,000 sessions of a shard; by default it
/// would be one per 500,000, and all of these would still be in memory.
fn open(dir: PathBuf) -> Result<Store<Session>> {
    let config = EngineConfig { wal_max_events: 5_000, ..Session::default_config(dir) };
    Ok(Store::open_with(config, Options::default().sync(Sync::Every { events: 1_000, bytes: u64::MAX }))?)
}

/// All servers at once; each sees its sessions in the store as soon as they are appended.
fn play(store: &Store<Session>, checks: &mut Checks) -> Result<Vec<Round>> {
    let servers: Vec<_> = (0..REGIONS.len())
        .map(|server| {
            let store = store.clone();
            thread::spawn(move || -> Result<(Vec<Round>, Checks)> {
                let (mut checks, sessions) = (Checks::default(), a_day(server));
                for (number, batch) in sessions.chunks(BATCH_SESSIONS).enumerate() {
                    store.append_batch(batch)?;
                    if number % 20 == 0 {
                        let last = batch.last().context("a batch has sessions")?;
                        let in_lobby = store.query(Session::filter().region(last.region)).limit(1).rows()?;
                        let seen = in_lobby.first().map(SessionRow::id);
                        checks.equal(
                            "a session as soon as it is appended",
                            &seen,
                            &Some(last.id.as_str()),
                        )?;
                    }
                }
                Ok((sessions, checks))
            })
        })
        .collect();
    let mut sessions = Vec::new();
    let mut seen = 0;
    for server in servers {
        let (played, checks) = server.join().map_err(|_| anyhow!("a server panicked"))??;
        sessions.extend(played);
        seen += checks.passed();
    }
    let stats = store.stats();
    println!(
        "{} sessions of {} servers, {} segments; the lobby looked {seen} times",
        human::count(stats.events),
        REGIONS.len(),
        stats.segments
    );
    checks.equal("sessions", &stats.events, &(sessions.len() as u64))?;
    Ok(sessions)
}

fn show_regions(store: &Store<Session>, sessions: &[Round], checks: &mut Checks) -> Result<()> {
    println!("\nregion   sessions      played   ping: average, worst   waited");
    for (region, _) in REGIONS {
        let totals = store.query(Session::filter().region(region)).totals()?;
        let count = totals.event_count.max(1);
        println!(
            "  {region:<5} {:>9} {:>9} h {:>13} ms {:>5} ms {:>5} ms",
            human::count(totals.event_count),
            human::count(totals.counters[0] / 3_600),
            totals.latency_ms / count,
            totals.latency_ms_max.unwrap_or(0),
            totals.latency_detail_ms / count
        );
        let of_region: Vec<_> = sessions.iter().filter(|session| session.region == region).collect();
        check_sums("a region", &totals, of_region.iter().copied(), checks)?;
        let worst = of_region.iter().map(|session| session.ping_ms).max();
        checks.equal("worst ping of a region", &totals.latency_ms_max, &worst)?;
    }
    let midnight = store.rollups(MIDNIGHT_S, MIDNIGHT_S, &[])?;
    let by_region: BTreeMap<String, u64> =
        midnight.into_iter().map(|(key, value)| (key.dims.join(""), value.event_count)).collect();
    let mut right: BTreeMap<String, u64> = BTreeMap::new();
    for session in sessions {
        *right.entry(session.region.to_owned()).or_default() += 1;
    }
    checks.equal("the day's rollups by region", &by_region, &right)
}

fn show_endings(store: &Store<Session>, sessions: &[Round], checks: &mut Checks) -> Result<()> {
    println!("\nended by           sessions     ping");
    for (status, name) in [(FINISHED, "the end"), (LEFT, "leaving"), (DISCONNECTED, "the network")] {
        let totals = store.query(Session::filter().status(status..status + 1)).totals()?;
        let ping_ms = totals.latency_ms / totals.event_count.max(1);
        println!("  {name:<14} {:>10} {ping_ms:>5} ms", human::count(totals.event_count));
        check_sums("an ending", &totals, sessions.iter().filter(|session| session.status == status), checks)?;
    }
    Ok(())
}

/// Returns the player with the most sessions.
fn show_players(store: &Store<Session>, sessions: &[Round], checks: &mut Checks) -> Result<String> {
    let mut by_player: BTreeMap<&str, Vec<&Round>> = BTreeMap::new();
    for session in sessions {
        by_player.entry(&session.player).or_default().push(session);
    }
    let mut players = Vec::new();
    for (player, of_player) in by_player {
        let totals = store.query(Session::filter().player(player)).totals()?;
        check_sums("a player", &totals, of_player.into_iter(), checks)?;
        players.push((totals.event_count, player, totals));
    }
    players.sort_by_key(|(count, player, _)| (std::cmp::Reverse(*count), *player));
    println!("\nwho played most");
    for (count, player, totals) in players.iter().take(3) {
        let [played_s, hits] = totals.counters;
        let played = human::hours_minutes(i64::try_from(played_s / 60)?);
        println!("  {player}  {count:>3} sessions, {played} hours, {hits} hits, {:+} points", totals.metric);
    }
    players.first().map(|(_, player, _)| (*player).to_owned()).context("there are players")
}

/// The newest sessions of all: a page begins below the time of the last session of the page before, so it stays where it is
/// while new sessions come.
fn show_feed(store: &Store<Session>, sessions: &[Round], checks: &mut Checks) -> Result<()> {
    let first = pages(store, Session::filter, FEED_PAGES)?;
    println!("\nthe newest of {} pages of {PAGE}", first.len());
    first.iter().flatten().take(3).for_each(show);
    let right: Vec<&str> = sessions.iter().rev().take(FEED_PAGES * PAGE).map(|s| s.id.as_str()).collect();
    checks.equal("the feed", &ids(&first), &right)?;

    // Ended just now; the pages after the first are those they were.
    let last = sessions.last().context("there are sessions")?;
    let newer = Round { id: "session-new".to_owned(), ts_ns: last.ts_ns + 1, ..last.clone() };
    store.append(&newer)?;
    let cursor = Cursor(first.first().and_then(|page| page.last()).context("a page has sessions")?.ts_ns());
    let second = store.query(Session::filter().cursor(cursor)).limit(PAGE).rows()?;
    let newest = store.query(Session::filter()).limit(1).rows()?;
    checks.equal("the newest session", &newest.first().map(SessionRow::id), &Some("session-new"))?;
    checks.equal("the second page, after it", &ids(&[second]), &right[PAGE..2 * PAGE].to_vec())?;
    checks.equal("sessions taken back", &store.delete(&["session-new"])?, &1)
}

fn show_history(store: &Store<Session>, sessions: &[Round], player: &str, checks: &mut Checks) -> Result<()> {
    let history = pages(store, || Session::filter().player(player), usize::MAX)?;
    let ranked = history.iter().flatten().filter(|row| row.flags().has(RANKED)).count();
    println!("\n{player}: {} pages, {ranked} ranked sessions; the last of all", history.len());
    history.iter().flatten().take(3).for_each(show);
    let of_player = || sessions.iter().rev().filter(|session| session.player == player);
    checks.equal("a player's history", &ids(&history), &of_player().map(|s| s.id.as_str()).collect())?;
    checks.equal("ranked sessions", &ranked, &of_player().filter(|session| session.flags.has(RANKED)).count())
}

/// Up to so many pages, newest first; the last one may be short.
fn pages(
    store: &Store<Session>,
    filter: impl Fn() -> SessionFilter,
    limit: usize,
) -> Result<Vec<Vec<SessionRow>>> {
    let mut pages: Vec<Vec<SessionRow>> = Vec::new();
    while pages.len() < limit {
        let below = pages.last().and_then(|page| page.last()).map(SessionRow::ts_ns);
        let filter = below.map_or_else(&filter, |ts_ns| filter().cursor(Cursor(ts_ns)));
        let page = store.query(filter).newest_first().limit(PAGE).rows()?;
        if page.is_empty() {
            break;
        }
        pages.push(page);
    }
    Ok(pages)
}

fn ids(pages: &[Vec<SessionRow>]) -> Vec<&str> {
    pages.iter().flatten().map(SessionRow::id).collect()
}

fn show(row: &SessionRow) {
    let second = row.ts_ns() / NS_PER_S - MIDNIGHT_S;
    let time = format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60);
    let ranked = if row.flags().has(RANKED) { ", ranked" } else { "" };
    let friends = if row.flags().has(WITH_FRIENDS) { ", with friends" } else { "" };
    println!(
        "  {time}  {} on {}: {} s, {:+} points, ping {} ms{ranked}{friends}",
        row.player(),
        row.map(),
        row.played_s(),
        row.metric(),
        row.latency_ms()
    );
}

/// Compares count, points, counters and latencies with those of the sessions that the answer is about.
fn check_sums<'a>(
    question: &str,
    answer: &Totals<2>,
    sessions: impl Iterator<Item = &'a Round>,
    checks: &mut Checks,
) -> Result<()> {
    let (mut count, mut points, mut counters, mut ping_ms, mut waited_ms) = (0, 0, [0; 2], 0, 0);
    for session in sessions {
        count += 1;
        points += session.points;
        counters[0] += u64::from(session.played_s);
        counters[1] += u64::from(session.hits);
        ping_ms += u64::from(session.ping_ms);
        waited_ms += u64::from(session.waited_ms);
    }
    let answered =
        (answer.event_count, answer.metric, answer.counters, answer.latency_ms, answer.latency_detail_ms);
    checks.equal(question, &answered, &(count, points, counters, ping_ms, waited_ms))
}

/// A server's sessions in the order in which they end.
fn a_day(server: usize) -> Vec<Round> {
    let mut rng = Rng::with_seed(SEED + server as u64);
    let step_ns = DAY_S * NS_PER_S / SESSIONS_PER_SERVER;
    let begin_ns = MIDNIGHT_S * NS_PER_S + server as i64;
    (0..SESSIONS_PER_SERVER).map(|n| a_session(&mut rng, server, n, begin_ns + n * step_ns)).collect()
}

fn a_session(rng: &mut Rng, server: usize, number: i64, ts_ns: i64) -> Round {
    let (region, usual_ping_ms) = REGIONS[server];
    let status = match rng.u32(..50) {
        0 => DISCONNECTED,
        1..5 => LEFT,
        _ => FINISHED,
    };
    // Who is disconnected had a bad line before.
    let bad_line_ms = if status == DISCONNECTED { rng.u32(200..900) } else { 0 };
    let ranked = if rng.bool() { RANKED } else { EventFlags(0) };
    Round {
        id: format!("session-{region}-{number:04}"),
        ts_ns,
        // The smaller of two: some play more than others.
        player: format!("player-{:04}", rng.u32(..PLAYERS).min(rng.u32(..PLAYERS))),
        region,
        map: MAPS[rng.usize(..MAPS.len())],
        played_s: if status == FINISHED { rng.u32(300..2_400) } else { rng.u32(5..300) },
        hits: rng.u32(..60),
        points: rng.i64(-30..31),
        ping_ms: usual_ping_ms + rng.u32(..30) + bad_line_ms,
        waited_ms: rng.u32(500..20_000),
        status,
        flags: if rng.u32(..3) == 0 { ranked.with(WITH_FRIENDS) } else { ranked },
    }
}
