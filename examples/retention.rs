//! Log lines that are kept for 30 days: "what goes, when, and what stays?"
//!
//! Appends 90 made-up days of lines of five servers (27,000, the same each time but for the date: they end now), flushed
//! after each day. Prints what each step leaves: a table without upkeep keeps all; `maintain` drops what is older than 30 days; the
//! lines of a server that was sold are deleted, and compaction takes them out of the files; opened with a limit in bytes,
//! the table gives up its oldest days; and a guard on a thread of its own drops what arrives too old, without being asked.
//! After each step the lines that are left are compared with a plain loop; the last line says how many comparisons there
//! were.
//!
//! ```text
//! cargo run --release --example retention
//! ```

#![forbid(unsafe_code)]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use keplordb::{Budget, EngineConfig, Maintenance, Options, Retention, Schema, Store};
use keplordb_examples::{Checks, human};

/// A line; of the built-in columns, `id` is its number.
#[derive(Schema)]
#[keplordb(id = 1)]
struct Line {
    #[dim]
    server: String,
    #[dim]
    level: String,
    #[label]
    text: String,
}

const SERVERS: [&str; 5] = ["web-1", "web-2", "queue", "mail", "sold"];
const LEVELS: [&str; 3] = ["info", "warning", "error"];

const DAYS: usize = 90;
const LINES_PER_DAY: usize = 300;
const KEPT_DAYS: u32 = 30;
const DAY: Duration = Duration::from_secs(86_400);
const DAY_NS: i64 = 86_400_000_000_000;
const SEED: u64 = 41;
/// Longer than any machine needs for what a guard does at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A line as the server wrote it.
#[derive(Debug, Clone, PartialEq)]
struct Written {
    id: String,
    ts_ns: i64,
    server: &'static str,
    level: &'static str,
    text: String,
}

impl From<&Written> for LineBuilder {
    fn from(written: &Written) -> Self {
        let Written { server, level, text, .. } = written.clone();
        let columns = Line { server: server.to_owned(), level: level.to_owned(), text };
        columns.at(written.ts_ns).id(&written.id)
    }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path().join("lines");
    let now_ns = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let mut lines = the_last_days(&mut Rng::with_seed(SEED), now_ns);
    let mut checks = Checks::default();

    let by_age = Retention::default().max_age(DAY * KEPT_DAYS);
    let store = open(&dir, by_age)?;
    for day in lines.chunks(LINES_PER_DAY) {
        store.append_batch(day)?;
        // A segment goes as a whole, so none should span more time than a line may be kept too long. Small ones are merged, but
        // not to more than an eighth of the age.
        store.flush()?;
    }
    show("all that was written", &store);
    check_left(&store, &lines, &mut checks)?;

    forget_by_age(&store, &mut lines, now_ns, &mut checks)?;
    delete_a_server(&store, &mut lines, &mut checks)?;
    let limit = store.stats().segment_bytes / 2;
    store.close()?;

    let store = open(&dir, by_age.max_bytes(limit))?;
    forget_by_bytes(&store, &mut lines, limit, &mut checks)?;
    let guard = Maintenance::start(&store, Duration::from_millis(20))?;
    leave_it_to_the_guard(&store, &lines, now_ns, &mut checks)?;
    // The thread ends here; the store, whose handle it had, may then be closed.
    drop(guard);
    store.close()?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

fn open(dir: &Path, retention: Retention) -> Result<Store<Line>> {
    let config: EngineConfig = Line::default_config(dir.to_owned());
    Ok(Store::open_with(config, Options::default().retention(retention))?)
}

/// A segment goes when its newest line is too old.
fn forget_by_age(
    store: &Store<Line>,
    lines: &mut Vec<Written>,
    now_ns: i64,
    checks: &mut Checks,
) -> Result<()> {
    let done = store.maintain(Budget::UNLIMITED)?;
    let before = lines.len();
    let oldest_ns = store.stats().oldest_ts_ns.context("some lines are younger")?;
    lines.retain(|line| line.ts_ns >= oldest_ns);
    show(&format!("after {KEPT_DAYS} days"), store);
    checks.equal(
        "lines dropped for their age",
        &done.retention.events_deleted,
        &((before - lines.len()) as u64),
    )?;
    let kept_ns = DAY_NS * i64::from(KEPT_DAYS);
    checks.equal("all that is young enough is there", &(oldest_ns <= now_ns - kept_ns + DAY_NS), &true)?;
    checks.equal("an eighth too long at most", &(oldest_ns > now_ns - kept_ns - kept_ns / 8), &true)?;
    check_left(store, lines, checks)
}

/// A delete hides the lines at once; they leave the files with the next compaction.
fn delete_a_server(store: &Store<Line>, lines: &mut Vec<Written>, checks: &mut Checks) -> Result<()> {
    let rows = store.query(Line::filter().server("sold")).rows()?;
    let ids: Vec<&str> = rows.iter().map(LineRow::id).collect();
    let deleted = store.delete(&ids)?;
    lines.retain(|line| line.server != "sold");
    checks.equal("lines of the server that was sold", &deleted, &rows.len())?;
    check_left(store, lines, checks)?;

    let (before, done) = (store.stats(), store.maintain(Budget::UNLIMITED)?);
    let after = store.stats();
    show("without the server that was sold", store);
    checks.equal(
        "deleted lines in files",
        &(before.deleted_rows, after.deleted_rows),
        &(deleted as u64, 0),
    )?;
    checks.equal("lines taken out of files", &done.compacted.rows_purged, &(deleted as u64))?;
    checks.equal("smaller files", &(after.segment_bytes < before.segment_bytes), &true)?;
    check_left(store, lines, checks)
}

/// The oldest days go until the rest is small enough.
fn forget_by_bytes(
    store: &Store<Line>,
    lines: &mut Vec<Written>,
    limit: u64,
    checks: &mut Checks,
) -> Result<()> {
    let done = store.maintain(Budget::UNLIMITED)?;
    let before = lines.len();
    let stats = store.stats();
    let oldest_ns = stats.oldest_ts_ns.context("some lines fit")?;
    lines.retain(|line| line.ts_ns >= oldest_ns);
    show(&format!("in at most {}", human::bytes(limit)), store);
    checks.equal(
        "lines dropped for their bytes",
        &done.retention.events_deleted,
        &((before - lines.len()) as u64),
    )?;
    checks.equal("within the limit", &(stats.segment_bytes + stats.wal_bytes <= limit), &true)?;
    check_left(store, lines, checks)
}

/// A server that was cut off sends what is too old by now.
fn leave_it_to_the_guard(
    store: &Store<Line>,
    lines: &[Written],
    now_ns: i64,
    checks: &mut Checks,
) -> Result<()> {
    let late = (0..50).map(|n| Written {
        id: format!("late-{n}"),
        ts_ns: now_ns - 2 * DAY_NS * i64::from(KEPT_DAYS) + n,
        server: "mail",
        level: "info",
        text: "sent before the line was cut".to_owned(),
    });
    let late: Vec<Written> = late.collect();
    store.append_batch(&late)?;
    let begin = Instant::now();
    while store.get("late-0")?.is_some() {
        ensure!(begin.elapsed() < PATIENCE, "the guard does nothing: {:?}", store.stats().last_error);
        thread::sleep(Duration::from_millis(5));
    }
    show("after 50 lines that came too late", store);
    check_left(store, lines, checks)
}

fn show(step: &str, store: &Store<Line>) {
    let stats = store.stats();
    let (lines, bytes) = (human::count(stats.events), human::bytes(stats.segment_bytes));
    println!("{step:<36} {lines:>7} lines in {:>2} segments, {bytes:>8}", stats.segments);
}

/// All lines that are left, and how many of each level.
fn check_left(store: &Store<Line>, lines: &[Written], checks: &mut Checks) -> Result<()> {
    let rows = store.query(Line::filter()).oldest_first().rows()?;
    let left: Vec<(&str, &str, &str)> = rows.iter().map(|row| (row.id(), row.server(), row.text())).collect();
    let right = lines.iter().map(|line| (line.id.as_str(), line.server, line.text.as_str()));
    checks.equal("lines that are left", &left, &right.collect())?;
    for level in LEVELS {
        let of_level = store.query(Line::filter().level(level)).totals()?;
        let right = lines.iter().filter(|line| line.level == level).count();
        checks.equal("lines of a level", &of_level.event_count, &(right as u64))?;
    }
    Ok(())
}

/// In order of time, as many each day.
fn the_last_days(rng: &mut Rng, now_ns: i64) -> Vec<Written> {
    let step_ns = DAY_NS / LINES_PER_DAY as i64;
    let begin_ns = now_ns - DAYS as i64 * DAY_NS;
    (0..DAYS * LINES_PER_DAY).map(|n| a_line(rng, n, begin_ns + n as i64 * step_ns)).collect()
}

fn a_line(rng: &mut Rng, number: usize, ts_ns: i64) -> Written {
    // The larger of two: the server that was sold wrote most.
    let server = SERVERS[rng.usize(..SERVERS.len()).max(rng.usize(..SERVERS.len()))];
    let level = LEVELS[rng.usize(..LEVELS.len()).min(rng.usize(..LEVELS.len()))];
    let text = format!("request {:08x} took {} ms", rng.u32(..), rng.u32(1..900));
    Written { id: format!("line-{number:05}"), ts_ns, server, level, text }
}
