//! Four writers and two readers at once, with deletes, flushes and gc between them. Each count that a reader sees lies
//! between what was acknowledged before its query began and what was begun before it ended, in whole batches; what a
//! thread appended it sees at once; and nobody waits for ever.
#![expect(clippy::cast_possible_truncation, reason = "counts of a test are small")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use keplordb::disk::{Disk, MemoryDisk, RealDisk};
use keplordb::{Engine, EngineConfig, LogEvent, Options, QueryFilter, Sync};

type Db = Engine<2, 1, 0>;
type Event = LogEvent<2, 1, 0>;

const WRITERS: u64 = 4;
const READERS: u64 = 2;
const BATCHES: u64 = 400;
const BATCH_ROWS: u64 = 7;
/// No step waits longer than this, or there is a deadlock.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows from this time on are counted; older ones belong to the threads that delete.
const COUNTED_NS: i64 = 1_000_000;

fn counted(writer: u64, batch: u64, row: u64) -> Event {
    Event {
        id: format!("{writer}/{batch}/{row}"),
        // Not in order, so that segments overlap in time.
        ts_ns: COUNTED_NS + ((batch * 7919 + row) % 5000) as i64,
        metric: 1,
        counters: [row as u32],
        dims: [format!("writer {writer}"), "counted".to_owned()],
        ..Event::default()
    }
}

fn passing(number: u64) -> Event {
    Event {
        id: format!("passing {number}"),
        ts_ns: (number % 1000) as i64,
        metric: 1_000_000,
        dims: [String::new(), "passing".to_owned()],
        ..Event::default()
    }
}

fn of(dim: usize, value: &str) -> QueryFilter<2> {
    let mut filter = QueryFilter::default();
    filter.dims[dim] = Some(value.to_owned());
    filter
}

/// The engine, and what all threads know of it.
struct Race<'a> {
    db: &'a Db,
    begun: AtomicU64,
    acknowledged: AtomicU64,
    done: AtomicBool,
    queries: AtomicU64,
}

impl Race<'_> {
    fn goes_on(&self) -> bool {
        !self.done.load(Ordering::SeqCst)
    }

    /// Asks for a count, which must lie within what could be there, in whole batches.
    fn count(&self, ask: impl FnOnce() -> u64) -> u64 {
        let before = self.acknowledged.load(Ordering::SeqCst);
        let count = ask();
        let after = self.begun.load(Ordering::SeqCst);
        assert!((before..=after).contains(&count), "{count} rows, acknowledged {before}, begun {after}");
        assert_eq!(count % BATCH_ROWS, 0, "part of a batch");
        count
    }

    fn read(&self) {
        let all = of(1, "counted");
        let mut last = 0;
        while self.goes_on() {
            let count = self.count(|| {
                let totals = self.db.aggregate(&all).unwrap();
                let batches = totals.event_count / BATCH_ROWS;
                assert_eq!(totals.metric, totals.event_count as i64, "count and sum of one moment");
                assert_eq!(totals.counters[0], batches * (0..BATCH_ROWS).sum::<u64>());
                totals.event_count
            });
            assert!(count >= last, "rows went away: {last}, then {count}");
            last = count;
            self.count(|| {
                let rows = self.db.query_recent(&all, usize::MAX).unwrap();
                assert!(rows.is_sorted_by(|newer, older| newer.ts_ns >= older.ts_ns));
                rows.len() as u64
            });
            self.count(|| {
                let days = self.db.query_rollups(0, 0, &[Some("counted")]).unwrap();
                days.iter().map(|(_, value)| value.event_count).sum()
            });
            self.queries.fetch_add(3, Ordering::Relaxed);
        }
    }

    fn write(&self, writer: u64) {
        let mine = of(0, &format!("writer {writer}"));
        for batch in 0..BATCHES {
            let events: Vec<Event> = (0..BATCH_ROWS).map(|row| counted(writer, batch, row)).collect();
            self.begun.fetch_add(BATCH_ROWS, Ordering::SeqCst);
            self.db.append_batch(&events).unwrap();
            self.acknowledged.fetch_add(BATCH_ROWS, Ordering::SeqCst);
            if batch.is_multiple_of(8) {
                let seen = self.db.aggregate(&mine).unwrap().event_count;
                assert_eq!(seen, (batch + 1) * BATCH_ROWS, "a thread sees what it appended");
                let last = events.last().unwrap();
                let found = self.db.get_event(&last.id).unwrap().expect("a thread finds what it appended");
                assert_eq!(found.counters, last.counters);
            }
        }
    }

    /// Appends rows that nobody counts, and deletes some of them.
    fn append_and_delete(&self) {
        let mut number = 0;
        while self.goes_on() {
            for row in 0..5 {
                self.db.append(&passing(number + row)).unwrap();
            }
            let ids: Vec<String> = (0..3).map(|row| passing(number + row).id).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            // gc may have been first.
            assert!(self.db.delete_events(&ids).unwrap() <= 3);
            assert!(ids.iter().all(|id| self.db.get_event(id).unwrap().is_none()), "a deleted row is seen");
            number += 5;
        }
    }

    fn again(&self, pause: Duration, act: impl Fn()) {
        while self.goes_on() {
            act();
            std::thread::sleep(pause);
        }
    }
}

/// Runs the threads on an engine and checks the end; returns when all are done.
fn run(db: &Db) {
    let race = Race {
        db,
        begun: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        done: AtomicBool::new(false),
        queries: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        let race = &race;
        for _ in 0..READERS {
            scope.spawn(|| race.read());
        }
        scope.spawn(|| race.append_and_delete());
        scope.spawn(|| {
            race.again(Duration::from_millis(3), || {
                db.flush().unwrap();
            });
        });
        scope.spawn(|| {
            race.again(Duration::from_millis(1), || {
                db.gc(COUNTED_NS).unwrap();
            });
        });
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || race.write(writer))).collect();
        // Also after a panic: the others must end for it to be seen.
        let outcomes: Vec<_> = writers.into_iter().map(ScopedJoinHandle::join).collect();
        race.done.store(true, Ordering::SeqCst);
        for outcome in outcomes {
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    assert!(race.queries.into_inner() > 8, "the readers hardly read");
    assert_eq!(db.aggregate(&of(1, "counted")).unwrap().event_count, WRITERS * BATCHES * BATCH_ROWS);
}

/// Runs the test body on a thread of its own and gives it a minute.
fn within_a_minute(body: impl FnOnce() + Send + 'static) {
    let (finished, waiting) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = finished.send(());
    });
    match waiting.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end within {PATIENCE:?}: a deadlock"),
        // A panic closes the channel and is passed on here.
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

fn open(disk: &Arc<dyn Disk>, dir: &Path, shards: usize, wal_max_events: u32) -> Db {
    let config = EngineConfig {
        data_dir: dir.to_owned(),
        wal_max_events,
        wal_shard_count: shards,
        rollup_dims: vec![1],
        mmap_cache_capacity: 2,
        ..EngineConfig::default()
    };
    let options =
        Options::default().disk(Arc::clone(disk)).sync(Sync::Os).unlink_grace(Duration::from_millis(5));
    Db::open_with(config, options).unwrap()
}

fn memory() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::default())
}

fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn run_on(disk: &Arc<dyn Disk>, dir: &Path, shards: usize, wal_max_events: u32) {
    let db = open(disk, dir, shards, wal_max_events);
    run(&db);
    let live = db.total_events();
    drop(db);
    let db = open(disk, dir, 2, wal_max_events);
    assert_eq!(db.total_events(), live, "after a reopen");
    assert_eq!(db.aggregate(&of(1, "counted")).unwrap().event_count, WRITERS * BATCHES * BATCH_ROWS);
}

#[test]
fn readers_see_whole_batches_between_acknowledged_and_begun() {
    within_a_minute(|| run_on(&memory(), Path::new("events"), 4, 300));
}

#[test]
fn one_shard_for_all_writers() {
    within_a_minute(|| run_on(&memory(), Path::new("events"), 1, 100_000));
}

#[test]
fn on_the_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    within_a_minute(move || run_on(&real(), &path, 4, 2000));
}

#[test]
fn durable_appends_of_many_threads_share_syncs() {
    within_a_minute(|| {
        let (threads, appends) = (8, 100);
        let dir = tempfile::tempdir().unwrap();
        let db = open(&real(), &dir.path().join("events"), 1, 100_000);
        db.append(&passing(0)).unwrap();
        let before = db.stats().syncs;
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let db = &db;
                scope.spawn(move || {
                    for append in 0..appends {
                        db.append_durable(&counted(thread, append, 0)).unwrap();
                    }
                });
            }
        });
        let syncs = db.stats().syncs - before;
        assert!(
            syncs < threads * appends,
            "{syncs} syncs for {} durable appends of {threads} threads",
            threads * appends
        );
        assert_eq!(db.total_events(), 1 + threads * appends);
    });
}
