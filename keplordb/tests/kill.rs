//! A child process appends and deletes in every sync mode, says over a pipe what was acknowledged, and is killed with
//! SIGKILL at a random moment; then the directory is opened and every thread's rows must be exactly those of the
//! operations it had acknowledged, or of one more (the one under way). So nothing acknowledged is lost or doubled, no
//! batch is half there, no deleted row is back and nothing is invented. The same directory goes on over the cycles, with
//! small logs, so that kills hit rotations and recoveries too.
//!
//! The child is this test binary, started again with [`DIR`] set. `KEPLORDB_KILL_CYCLES` sets the cycles of each mode.
#![expect(clippy::cast_possible_truncation, reason = "random numbers are cut to the width of their column")]
#![cfg(unix)]

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use keplordb::{Engine, EngineConfig, LogEvent, Options, QueryFilter, Sync};
use naive::random::{Random, Replay, number_of};

type Db = Engine<2, 1, 1>;
type Event = LogEvent<2, 1, 1>;

const CYCLES: u64 = 25;
/// A directory is given up after so many cycles: a check reads all its rows.
const CYCLES_OF_A_DIRECTORY: u64 = 25;
const THREADS: u64 = 2;
/// Every so many operations a thread deletes.
const DELETE_EVERY: u64 = 9;

/// Set in the child: the directory, the sync mode, and how many operations each thread has behind it.
const DIR: &str = "KEPLORDB_KILL_DIR";
const MODE: &str = "KEPLORDB_KILL_MODE";
const DONE: &str = "KEPLORDB_KILL_DONE";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Always,
    Every,
    Os,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Always, Self::Every, Self::Os];

    fn sync(self) -> Sync {
        match self {
            Self::Always => Sync::Always,
            Self::Every => Sync::Every { events: 64, bytes: 4096 },
            Self::Os => Sync::Os,
        }
    }
}

/// What a thread's operation with this number does.
enum Operation {
    Append(Vec<Event>),
    /// One id of the operation before, and one of an operation long ago.
    Delete([String; 2]),
}

fn id(thread: u64, number: u64, row: u64) -> String {
    format!("{thread}/{number}/{row}")
}

impl Operation {
    fn of(thread: u64, number: u64) -> Self {
        if number % DELETE_EVERY == DELETE_EVERY - 1 {
            let long_ago = (number - 1) / 2;
            return Self::Delete([id(thread, number - 1, 0), id(thread, long_ago, 0)]);
        }
        // Half of them are single events.
        let mut random = Random::new(thread << 32 | number);
        let rows = if random.percent(50) { 1 } else { 2 + random.below(30) as u64 };
        Self::Append((0..rows).map(|row| event(thread, number, row)).collect())
    }

    /// What it does to the ids that are there.
    fn apply(&self, ids: &mut BTreeSet<String>) {
        match self {
            Self::Append(events) => ids.extend(events.iter().map(|event| event.id.clone())),
            Self::Delete(deleted) => deleted.iter().for_each(|id| {
                ids.remove(id);
            }),
        }
    }
}

/// Everything of it follows from its id.
fn event(thread: u64, number: u64, row: u64) -> Event {
    let mut random = Random::new(thread << 48 | number << 16 | row);
    Event {
        id: id(thread, number, row),
        ts_ns: random.next() as i64,
        metric: random.next() as i64,
        counters: [random.next() as u32],
        dims: [format!("thread {thread}"), random.below(5).to_string()],
        labels: ["x".repeat(random.below(200))],
        ..Event::default()
    }
}

fn open(dir: &Path, sync: Sync, shards: usize) -> Db {
    let config = EngineConfig {
        data_dir: dir.to_owned(),
        wal_max_events: 150,
        wal_shard_count: shards,
        ..EngineConfig::default()
    };
    let options = Options::default().sync(sync).unlink_grace(Duration::from_millis(3));
    Db::open_with(config, options).unwrap_or_else(|error| panic!("open: {error}"))
}

/// One line to the parent: a single write, so that it is there whole or not at all, and before anything else is done.
fn tell(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(format!("{line}\n").as_bytes())
        .and_then(|()| stdout.flush())
        .expect("the parent listens");
}

/// The child: works until it is killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let mode = std::env::var(MODE).unwrap();
    let mode = *Mode::ALL.iter().find(|known| format!("{known:?}") == mode).unwrap();
    let done = std::env::var(DONE).unwrap();
    let db = open(Path::new(&dir), mode.sync(), 2);
    tell("ready");
    std::thread::scope(|scope| {
        for (thread, done) in (0..).zip(done.split(',')) {
            let (db, done) = (&db, done.parse::<u64>().unwrap());
            scope.spawn(move || {
                for number in done.. {
                    match Operation::of(thread, number) {
                        Operation::Append(events) => {
                            match &events[..] {
                                [event] => db.append(event).unwrap(),
                                events => db.append_batch(events).unwrap(),
                            }
                            .last
                        }
                        Operation::Delete(ids) => db.delete_events(&[&ids[0], &ids[1]]).unwrap() as u64,
                    };
                    tell(&format!("ack {thread} {number}"));
                }
            });
        }
    });
}

/// Starts the child and kills it after a while. How many operations of each thread were acknowledged.
fn run_and_kill(dir: &Path, mode: Mode, done: &[u64], random: &mut Random) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(MODE, format!("{mode:?}"))
        .env(DONE, done.iter().map(u64::to_string).collect::<Vec<_>>().join(","))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = String::new();
    // Most kills come while it writes, some while it opens.
    let await_ready = !random.percent(20);
    while await_ready && !lines.ends_with("ready\n") {
        if stdout.read_line(&mut lines).unwrap() == 0 {
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            panic!("the child ended by itself:\n{lines}\n{stderr}");
        }
    }
    std::thread::sleep(Duration::from_micros(2000 + random.below(38_000) as u64));
    // What fills the pipe meanwhile holds the child back, and is read below.
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(status.code(), None, "the child ended by itself: {status}\n{stderr}");

    stdout.read_to_string(&mut lines).unwrap();
    let mut acknowledged = done.to_vec();
    for line in lines.lines().filter_map(|line| line.strip_prefix("ack ")) {
        let (thread, number) = line.split_once(' ').unwrap();
        let (thread, number): (usize, u64) = (thread.parse().unwrap(), number.parse().unwrap());
        assert_eq!(number, acknowledged[thread], "operations of a thread follow each other");
        acknowledged[thread] = number + 1;
    }
    acknowledged
}

/// The ids that are there, sorted, each row checked against what its id says.
fn ids_of(db: &Db) -> Vec<String> {
    let rows = db.query_recent(&QueryFilter::default(), usize::MAX).unwrap();
    assert_eq!(db.total_events(), rows.len() as u64);
    let mut ids: Vec<String> = rows
        .into_iter()
        .map(|row| {
            let numbers: Vec<u64> = row.id.split('/').map(|number| number.parse().unwrap()).collect();
            let expected = event(numbers[0], numbers[1], numbers[2]);
            assert!(naive::same(&expected, &row), "{row:?} is not what was appended: {expected:?}");
            row.id
        })
        .collect();
    ids.sort_unstable();
    ids
}

/// The rows that a thread has made, and how many operations they come from.
#[derive(Default)]
struct Thread {
    ids: BTreeSet<String>,
    done: u64,
}

impl Thread {
    /// Goes on to what was acknowledged, and to the operation that was under way if that explains what is found.
    fn catch_up(&mut self, thread: u64, acknowledged: u64, found: &BTreeSet<String>) {
        while self.done < acknowledged {
            Operation::of(thread, self.done).apply(&mut self.ids);
            self.done += 1;
        }
        if self.ids == *found {
            return;
        }
        Operation::of(thread, self.done).apply(&mut self.ids);
        self.done += 1;
        let lost: Vec<_> = self.ids.difference(found).take(5).collect();
        let invented: Vec<_> = found.difference(&self.ids).take(5).collect();
        assert!(
            lost.is_empty() && invented.is_empty(),
            "thread {thread}, {acknowledged} operations acknowledged: lost {lost:?}, not to be there {invented:?}"
        );
    }
}

fn cycles(mode: Mode) {
    let cycles = number_of("KEPLORDB_KILL_CYCLES").unwrap_or(CYCLES);
    let (mut operations, mut rotations, mut replayed, mut torn) = (0, 0, 0, 0);
    let mut cycle = 0;
    while cycle < cycles {
        let temporary = tempfile::tempdir().unwrap();
        let dir: PathBuf = temporary.path().join("events");
        let mut threads: Vec<Thread> = (0..THREADS).map(|_| Thread::default()).collect();
        for _ in 0..CYCLES_OF_A_DIRECTORY.min(cycles - cycle) {
            cycle += 1;
            let _replay = Replay { variable: "cycle", seed: cycle };
            let mut random = Random::new(cycle);
            let done: Vec<u64> = threads.iter().map(|thread| thread.done).collect();
            let acknowledged = run_and_kill(&dir, mode, &done, &mut random);

            let first = open(&dir, mode.sync(), 1 + random.below(4));
            let report = first.open_report().clone();
            let ids = ids_of(&first);
            drop(first);
            let second = open(&dir, mode.sync(), 1 + random.below(4));
            assert_eq!(ids_of(&second), ids, "a second open gives the same");
            assert!(second.open_report().torn_tails.is_empty(), "{:?}", second.open_report());
            (rotations, replayed) = (second.segment_count(), replayed + report.replayed_rows);
            torn += report.torn_tails.len();

            assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "a row is there twice");
            for (number, thread) in (0..).zip(&mut threads) {
                let prefix = format!("{number}/");
                let found = ids.iter().filter(|id| id.starts_with(&prefix)).cloned().collect();
                thread.catch_up(number, acknowledged[number as usize], &found);
            }
        }
        operations += threads.iter().map(|thread| thread.done).sum::<u64>();
    }
    println!(
        "{mode:?}: {cycles} kills, {operations} operations, {rotations} segments at the end, {replayed} rows replayed, {torn} torn tails"
    );
    assert!(operations > cycles, "the child hardly worked: {operations} operations in {cycles} cycles");
    assert!(replayed > 0, "no kill left rows in a log");
    assert!(rotations > 0 || cycles < CYCLES, "no rotation was reached");
}

#[test]
fn every_acknowledged_event_survives_a_kill_when_each_append_syncs() {
    cycles(Mode::Always);
}

#[test]
fn every_acknowledged_event_survives_a_kill_when_some_appends_sync() {
    cycles(Mode::Every);
}

#[test]
fn every_acknowledged_event_survives_a_kill_when_no_append_syncs() {
    cycles(Mode::Os);
}
