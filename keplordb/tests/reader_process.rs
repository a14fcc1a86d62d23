//! A reader in this process beside a writer in another one, which is killed with SIGKILL and started again while the reader
//! lives on. Each of the writer's threads does operations whose effect follows from their numbers and says over a pipe
//! which of them were acknowledged; after every refresh the rows of each thread must be exactly those of its first
//! operations, up to one that is not older than any acknowledged when the refresh began. So no row is there twice, no batch
//! half, no acknowledged row missing, no deleted row back, and nothing out of order, whatever rotates, goes or dies meanwhile.
//!
//! The writer is this test binary, started again with [`DIR`] set. `KEPLORDB_READER_ROUNDS` sets how often it is killed.
#![expect(clippy::cast_possible_truncation, reason = "random numbers are cut to the width of their column")]
#![cfg(unix)]

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keplordb::disk::{Disk, MemoryDisk};
use keplordb::{Engine, EngineConfig, LogEvent, MapMode, Options, QueryFilter, RawReader, Sync, Totals};
use naive::random::{Random, number_of};

type Db = Engine<2, 1, 1>;
type Event = LogEvent<2, 1, 1>;
type Raw = RawReader<2, 1, 1>;

const ROUNDS: u64 = 5;
/// How long the writer lives in each round.
const ROUND: Duration = Duration::from_millis(250);

/// Set in the writer: the directory, the scenario, and how many operations each thread has behind it.
const DIR: &str = "KEPLORDB_READER_DIR";
const SCENARIO: &str = "KEPLORDB_READER_SCENARIO";
const DONE: &str = "KEPLORDB_READER_DONE";

#[derive(Debug, Clone, Copy)]
struct Scenario {
    name: &'static str,
    threads: u64,
    sync: Sync,
    unlink_grace: Duration,
    /// Operations of a thread between flushes; those of a single thread are gc of everything in turn.
    flush_every: u64,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "no_grace", threads: 3, sync: Sync::Os, unlink_grace: Duration::ZERO, flush_every: 50 },
    Scenario {
        name: "long_grace",
        threads: 3,
        sync: Sync::Os,
        unlink_grace: Duration::from_secs(60),
        flush_every: 50,
    },
    Scenario {
        name: "always",
        threads: 2,
        sync: Sync::Always,
        unlink_grace: Duration::from_millis(5),
        flush_every: 20,
    },
    Scenario { name: "forgetful", threads: 1, sync: Sync::Os, unlink_grace: Duration::ZERO, flush_every: 40 },
];

/// What a thread's operation with this number does.
enum Operation {
    Append(Vec<Event>),
    /// One id of the operation before, and one of an operation long ago.
    Delete([String; 2]),
    Flush,
    /// Flushes and forgets everything.
    Clear,
}

fn id(thread: u64, number: u64, row: u64) -> String {
    format!("{thread}/{number}/{row}")
}

impl Operation {
    fn of(scenario: &Scenario, thread: u64, number: u64) -> Self {
        if number % scenario.flush_every == scenario.flush_every - 1 {
            let is_clear =
                scenario.threads == 1 && number % (3 * scenario.flush_every) > 2 * scenario.flush_every;
            return if is_clear { Self::Clear } else { Self::Flush };
        }
        if number % 9 == 8 {
            let long_ago = (number - 1) / 2;
            return Self::Delete([id(thread, number - 1, 0), id(thread, long_ago, 0)]);
        }
        let mut random = Random::new(thread << 32 | number);
        let rows = match random.below(20) {
            0..=9 => 1,
            10..=18 => 2 + random.below(20) as u64,
            // Some take several pages, and a reader may come while they are written.
            _ => 300,
        };
        Self::Append((0..rows).map(|row| event(thread, number, row)).collect())
    }

    fn perform(&self, db: &Db) {
        match self {
            Self::Append(events) if events.len() == 1 => drop(db.append(&events[0]).unwrap()),
            Self::Append(events) => drop(db.append_batch(events).unwrap()),
            Self::Delete(ids) => drop(db.delete_events(&[&ids[0], &ids[1]]).unwrap()),
            Self::Flush => drop(db.flush().unwrap()),
            Self::Clear => {
                db.flush().unwrap();
                db.gc(i64::MAX).unwrap();
            }
        }
    }

    /// What it does to the ids that are there.
    fn apply(&self, ids: &mut BTreeSet<String>) {
        match self {
            Self::Append(events) => ids.extend(events.iter().map(|event| event.id.clone())),
            Self::Delete(deleted) => ids.retain(|id| !deleted.contains(id)),
            Self::Flush => {}
            Self::Clear => ids.clear(),
        }
    }
}

/// Everything of it follows from its id.
fn event(thread: u64, number: u64, row: u64) -> Event {
    let mut random = Random::new(thread << 48 | number << 16 | row);
    Event {
        id: id(thread, number, row),
        ts_ns: random.next() as i64 >> 1,
        metric: 7,
        counters: [random.next() as u32],
        dims: [format!("thread {thread}"), random.below(5).to_string()],
        labels: ["x".repeat(random.below(200))],
        ..Event::default()
    }
}

fn config(dir: &Path) -> EngineConfig {
    EngineConfig {
        data_dir: dir.to_owned(),
        wal_max_events: 300,
        wal_shard_count: 3,
        ..EngineConfig::default()
    }
}

/// One line to the parent: a single write, so that it is there whole or not at all, and before anything else is done.
fn tell(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(format!("{line}\n").as_bytes())
        .and_then(|()| stdout.flush())
        .expect("the parent listens");
}

/// The writer: works until it is killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let name = std::env::var(SCENARIO).unwrap();
    let scenario = SCENARIOS.iter().find(|known| known.name == name).unwrap();
    let options = Options::default().sync(scenario.sync).unlink_grace(scenario.unlink_grace);
    let db = Db::open_with(config(Path::new(&dir)), options).unwrap_or_else(|error| panic!("open: {error}"));
    tell("ready");
    let done = std::env::var(DONE).unwrap();
    std::thread::scope(|scope| {
        for (thread, done) in (0..).zip(done.split(',')) {
            let (db, done) = (&db, done.parse::<u64>().unwrap());
            scope.spawn(move || {
                for number in done.. {
                    Operation::of(scenario, thread, number).perform(db);
                    tell(&format!("ack {thread} {number}"));
                }
            });
        }
    });
}

/// A writer that runs, and what it has said so far.
struct Writer {
    child: Child,
    listener: std::thread::JoinHandle<()>,
    /// Operations acknowledged, by thread.
    acknowledged: Arc<Vec<AtomicU64>>,
}

impl Writer {
    fn start(dir: &Path, scenario: &Scenario, done: &[u64]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .env(SCENARIO, scenario.name)
            .env(DONE, done.iter().map(u64::to_string).collect::<Vec<_>>().join(","))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("ready\n") {
            line.clear();
            if stdout.read_line(&mut line).unwrap() == 0 {
                let mut stderr = String::new();
                child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
                panic!("the writer ended by itself: {stderr}");
            }
        }
        let acknowledged: Arc<Vec<_>> = Arc::new(done.iter().map(|done| AtomicU64::new(*done)).collect());
        let told = Arc::clone(&acknowledged);
        let listener = std::thread::spawn(move || {
            for line in stdout.lines() {
                let line = line.unwrap();
                let Some((thread, number)) = line.strip_prefix("ack ").and_then(|ack| ack.split_once(' '))
                else {
                    continue;
                };
                let (thread, number): (usize, u64) = (thread.parse().unwrap(), number.parse().unwrap());
                assert_eq!(told[thread].swap(number + 1, Ordering::SeqCst), number, "in order");
            }
        });
        Self { child, listener, acknowledged }
    }

    fn acknowledged(&self) -> Vec<u64> {
        self.acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }

    /// What was acknowledged in the end.
    fn kill(mut self) -> Vec<u64> {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(status.code(), None, "the writer ended by itself: {status}\n{stderr}");
        self.listener.join().unwrap();
        self.acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }
}

/// The rows of a thread after its first operations.
#[derive(Default)]
struct Thread {
    ids: BTreeSet<String>,
    done: u64,
}

impl Thread {
    fn advance(&mut self, scenario: &Scenario, thread: u64) {
        Operation::of(scenario, thread, self.done).apply(&mut self.ids);
        self.done += 1;
    }

    /// Goes on to the operation after which exactly `found` is there: at least to what was acknowledged, and to what the
    /// rows that are found say.
    fn catch_up(
        &mut self,
        scenario: &Scenario,
        thread: u64,
        acknowledged: u64,
        found: &BTreeSet<String>,
        what: &str,
    ) {
        let number = |id: &String| id.split('/').nth(1).unwrap().parse::<u64>().unwrap();
        let newest = found.iter().map(number).max().map_or(0, |newest| newest + 1);
        while self.done < acknowledged.max(newest) {
            self.advance(scenario, thread);
        }
        // Operations that left no row: deletes, flushes, and an append whose only row the next one deleted.
        for _ in 0..4 {
            if self.ids == *found {
                return;
            }
            self.advance(scenario, thread);
        }
        let missing: Vec<_> = self.ids.difference(found).take(5).collect();
        let too_many: Vec<_> = found.difference(&self.ids).take(5).collect();
        panic!(
            "{what}, thread {thread}, {} operations, {acknowledged} acknowledged: missing {missing:?}, too many {too_many:?}",
            self.done
        );
    }
}

/// The ids of each thread that a reader shows; each row checked against what its id says.
fn ids_of(reader: &Raw, threads: u64, what: &str) -> Vec<BTreeSet<String>> {
    let rows = reader.query_recent(&QueryFilter::default(), usize::MAX).unwrap();
    let mut ids: Vec<BTreeSet<String>> = (0..threads).map(|_| BTreeSet::new()).collect();
    let count = rows.len();
    for row in rows {
        let numbers: Vec<u64> = row.id.split('/').map(|number| number.parse().unwrap()).collect();
        let expected = event(numbers[0], numbers[1], numbers[2]);
        assert!(naive::same(&expected, &row), "{what}: {row:?} is not what was appended: {expected:?}");
        let thread = numbers[0] as usize;
        assert!(ids[thread].insert(row.id.clone()), "{what}: {} is there twice", row.id);
    }
    let totals: Totals<1> = reader.aggregate(&QueryFilter::default()).unwrap();
    assert_eq!((totals.event_count, totals.metric), (count as u64, 7 * count as i64), "{what}");
    ids
}

fn lives(name: &str) {
    let scenario = SCENARIOS.iter().find(|known| known.name == name).unwrap();
    let rounds = number_of("KEPLORDB_READER_ROUNDS").unwrap_or(ROUNDS);
    let temporary = tempfile::tempdir().unwrap();
    let dir: PathBuf = temporary.path().join("events");
    let mut threads: Vec<Thread> = (0..scenario.threads).map(|_| Thread::default()).collect();
    let mut reader: Option<Raw> = None;
    let (mut refreshes, mut changes, mut opens) = (0_u64, 0_u64, 0_u64);
    let options = || Options::default().map_mode(MapMode::Read);
    for round in 0..rounds {
        let done: Vec<u64> = threads.iter().map(|thread| thread.done).collect();
        let writer = Writer::start(&dir, scenario, &done);
        let reader = reader.get_or_insert_with(|| Raw::open_with(config(&dir), options()).unwrap());
        let started = Instant::now();
        while started.elapsed() < ROUND {
            let what = format!("{name}, round {round}, refresh {refreshes}");
            let acknowledged = writer.acknowledged();
            // Now and then a reader that knows nothing yet.
            let fresh = (refreshes % 7 == 6).then(|| {
                Raw::open_with(config(&dir), options()).unwrap_or_else(|error| panic!("{what}: {error}"))
            });
            opens += u64::from(fresh.is_some());
            let shown = reader.refresh().unwrap_or_else(|error| panic!("{what}: {error}"));
            let found = match ids_or_gone(reader, scenario.threads, &what) {
                Some(found) => found,
                // Without any grace a segment may go between a refresh and the query.
                None if scenario.unlink_grace < ROUND => continue,
                None => panic!("{what}: a segment went in its grace"),
            };
            assert_eq!(shown.events, found.iter().map(|ids| ids.len() as u64).sum::<u64>(), "{what}");
            let mut upto = Vec::new();
            for ((number, thread), ids) in (0..).zip(&mut threads).zip(&found) {
                thread.catch_up(scenario, number, acknowledged[number as usize], ids, &what);
                upto.push(thread.done);
            }
            if let Some(fresh) = fresh
                && let Some(found) = ids_or_gone(&fresh, scenario.threads, &what)
            {
                // It may have seen less than the one that was refreshed after it.
                for (number, ids) in (0..).zip(&found) {
                    let mut thread = Thread::default();
                    let what = format!("{what}, a fresh reader");
                    thread.catch_up(scenario, number, acknowledged[number as usize], ids, &what);
                    assert!(thread.done <= upto[number as usize], "{what}");
                }
            }
            refreshes += 1;
            changes += u64::from(shown.changed);
        }
        let acknowledged = writer.kill();
        let what = format!("{name}, round {round}, killed");
        reader.refresh().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!reader.refresh().unwrap().changed, "{what}: nobody writes");
        let found = ids_of(reader, scenario.threads, &what);
        for ((number, thread), ids) in (0..).zip(&mut threads).zip(&found) {
            thread.catch_up(scenario, number, acknowledged[number as usize], ids, &what);
            assert!(thread.done <= acknowledged[number as usize] + 1, "{what}: {} operations", thread.done);
        }
    }
    let operations: u64 = threads.iter().map(|thread| thread.done).sum();
    println!(
        "{name}: {operations} operations, {refreshes} refreshes, {changes} with something new, {opens} fresh readers"
    );
    assert!(operations > rounds && changes > rounds, "{operations} operations, {changes} changes");
}

/// `None` when a segment that no query had touched was gone.
fn ids_or_gone(reader: &Raw, threads: u64, what: &str) -> Option<Vec<BTreeSet<String>>> {
    match reader.query_recent(&QueryFilter::default(), usize::MAX) {
        Err(keplordb::DbError::Missing { .. }) => None,
        Err(error) => panic!("{what}: {error}"),
        // Read into memory now, as a whole.
        Ok(_) => Some(ids_of(reader, threads, what)),
    }
}

#[test]
fn beside_a_writer_that_unlinks_at_once_every_refresh_shows_a_state_that_was() {
    lives("no_grace");
}

#[test]
fn beside_a_writer_that_keeps_what_it_replaced_every_refresh_shows_a_state_that_was() {
    lives("long_grace");
}

#[test]
fn beside_a_writer_that_syncs_each_append_every_refresh_shows_a_state_that_was() {
    lives("always");
}

#[test]
fn beside_a_writer_that_forgets_everything_every_refresh_shows_a_state_that_was() {
    lives("forgetful");
}

/// Set in a process that measures itself, away from the other tests' memory.
const MEASURED: &str = "KEPLORDB_READER_MEASURED";

#[test]
#[cfg(target_os = "linux")]
fn a_reader_keeps_no_memory_of_what_is_gone() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "measured", "--nocapture", "--test-threads=1"])
        .env(MEASURED, "1")
        .output()
        .unwrap();
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.contains("measured"), "{printed}\n{errors}");
}

/// A hundred megabytes of rows come, are shown and go; the process stays as large as it was after a tenth of them.
#[test]
#[cfg(target_os = "linux")]
fn measured() {
    const ROUNDS: u64 = 400;
    if std::env::var(MEASURED).is_err() {
        return;
    }
    let resident_kb = || {
        let status = Path::new("/proc/self/status");
        let mut text = String::new();
        std::fs::OpenOptions::new().read(true).open(status).unwrap().read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<i64>().unwrap()
    };
    let disk = Arc::new(MemoryDisk::default());
    let options = || {
        let options = Options::default().disk(Arc::clone(&disk) as Arc<dyn Disk>);
        options.sync(Sync::Os).unlink_grace(Duration::ZERO).map_mode(MapMode::Read)
    };
    let db = Db::open_with(config(Path::new("events")), options()).unwrap();
    let reader = Raw::open_with(config(Path::new("events")), options()).unwrap();
    let (mut early_kb, mut rotations) = (0, 0);
    for round in 0..ROUNDS {
        for batch in 0..10 {
            let rows: Vec<Event> = (0..100)
                .map(|row| Event { labels: ["y".repeat(250)], ..event(0, round * 10 + batch, row) })
                .collect();
            db.append_batch(&rows).unwrap();
            db.delete_event(&rows[7].id).unwrap();
            let shown = reader.refresh().unwrap();
            assert_eq!(shown.events, db.total_events());
            let totals: Totals<1> = reader.aggregate(&QueryFilter::default()).unwrap();
            assert_eq!(totals.event_count, shown.events);
        }
        rotations += db.segment_count();
        if round % 8 == 7 {
            db.flush().unwrap();
            db.gc(i64::MAX).unwrap();
            assert_eq!(reader.refresh().unwrap().events, 0);
        }
        if round == ROUNDS / 10 {
            early_kb = resident_kb();
        }
    }
    let grown_kb = resident_kb() - early_kb;
    assert!(rotations as u64 > ROUNDS, "{rotations}");
    assert!(grown_kb < 6 << 10, "{grown_kb} kB more than the {early_kb} kB at first");
    println!("measured: {grown_kb} kB more than the {early_kb} kB at first");
}
