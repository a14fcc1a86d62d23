//! Bugs that were found once, each as a small test named by what holds now. Each was seen to fail with its line broken again.
#![expect(clippy::cast_possible_truncation, reason = "counts of a test are small")]

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use keplordb::disk::sim::{Fault, FaultKind, OperationKind};
use keplordb::disk::{Disk, MemoryDisk, SimDisk};
use keplordb::{DbError, Engine, EngineConfig, LogEvent, Options, QueryFilter};
use naive::crowded::CrowdedDisk;
use naive::files::{Files, disk_of, files_of, put};

type Db = Engine<1, 0, 1>;
type Event = LogEvent<1, 0, 1>;

const DIR: &str = "events";
/// Rows from which a rotation spreads over threads, with some to spare.
const LARGE_ROWS: usize = 40_000;

fn config() -> EngineConfig {
    EngineConfig { data_dir: DIR.into(), rollup_dims: vec![0], wal_shard_count: 1, ..EngineConfig::default() }
}

fn options(disk: &Arc<impl Disk + 'static>) -> Options {
    Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>).unlink_grace(Duration::ZERO)
}

fn open(disk: &Arc<impl Disk + 'static>) -> Result<Db, DbError> {
    Db::open_with(config(), options(disk))
}

fn event(id: &str, ts_ns: i64) -> Event {
    Event { id: id.to_owned(), ts_ns, metric: 1, dims: ["alice".to_owned()], ..Event::default() }
}

fn ids(db: &Db) -> Vec<String> {
    db.query_recent(&QueryFilter::default(), usize::MAX).unwrap().into_iter().map(|row| row.id).collect()
}

fn files(disk: &dyn Disk) -> Files {
    files_of(disk, Path::new(DIR))
}

/// Runs the body on a thread of its own and gives it a minute, for what hangs when it is wrong.
fn within_a_minute(body: impl FnOnce() + Send + 'static) {
    let (finished, waiting) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = finished.send(());
    });
    match waiting.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end within a minute: a deadlock"),
        // A panic closes the channel and is passed on here.
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

fn append_in_tasks<'s>(scope: &rayon::Scope<'s>, db: &'s Db, batch: &'s [Event]) {
    for _ in 0..24 {
        scope.spawn(move |_| {
            db.append_batch(batch).unwrap();
        });
        // A thread that is free again while another rotates would take a part of that.
        for _ in 0..30 {
            scope.spawn(move |_| std::thread::sleep(Duration::from_millis(1)));
        }
    }
}

/// A thread of a pool that waits for jobs takes up other jobs: one that appends must not need what the first one holds.
#[test]
fn appends_in_tasks_of_a_pool_rotate_without_a_deadlock() {
    within_a_minute(|| {
        // Ids take longest to encode, so that a thread that took them up is waited for.
        let text = |row: usize| format!("{:x}", row.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let batch: Vec<Event> = (0..LARGE_ROWS)
            .map(|row| Event { labels: [text(row)], ..event(&text(row).repeat(4), row as i64) })
            .collect();
        for own in [true, false] {
            let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
            let disk = Arc::new(MemoryDisk::default());
            let config = EngineConfig { wal_max_events: LARGE_ROWS as u32, wal_shard_count: 2, ..config() };
            let db = Db::open_with(config, options(&disk).pool(Arc::clone(&pool))).unwrap();
            if own {
                pool.in_place_scope(|scope| append_in_tasks(scope, &db, &batch));
            } else {
                rayon::in_place_scope(|scope| append_in_tasks(scope, &db, &batch));
            }
            assert_eq!((db.total_events(), db.wal_count()), (24 * LARGE_ROWS as u64, 0));
        }
    });
}

/// Not a test of its own: a process in which no thread can be started, because no stack could be as large as asked.
#[test]
#[ignore = "run by a_rotation_works_where_no_thread_can_be_started"]
fn without_threads() {
    assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "threads can be started");
    let db = open(&Arc::new(MemoryDisk::default())).unwrap();
    let batch: Vec<Event> = (0..LARGE_ROWS).map(|row| event("", row as i64)).collect();
    db.append_batch(&batch).unwrap();
    assert_eq!(db.flush().unwrap().rows, LARGE_ROWS as u64);
    assert_eq!(ids(&db).len(), LARGE_ROWS);
    let some = QueryFilter { from_ts_ns: Some(1), status_min: Some(0), ..QueryFilter::default() };
    assert_eq!(db.aggregate(&some).unwrap().event_count, LARGE_ROWS as u64 - 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_rotation_works_where_no_thread_can_be_started() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "without_threads", "--ignored", "--test-threads=1"])
        .env("RUST_MIN_STACK", (1_u64 << 60).to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

/// What a program does that keeps its log in the engine itself.
struct Diary {
    db: OnceLock<Db>,
    heard: AtomicU64,
}

struct Subscriber(Arc<Diary>);

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        let heard = self.0.heard.fetch_add(1, Ordering::Relaxed);
        if let Some(db) = self.0.db.get() {
            // Whether it can be written is not the question here; that the call comes back is.
            let _ = db.append(&event(&format!("heard {heard}"), 0));
            let _ = db.delete_event("unknown");
            let _ = db.flush();
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_subscriber_that_writes_into_the_engine_does_not_wait_for_itself() {
    within_a_minute(|| {
        let mut heard = 0;
        for kind in FaultKind::ALL {
            for (at, forever) in (1..60).flat_map(|at| [(at, false), (at, true)]) {
                let sim = Arc::new(SimDisk::default());
                let diary = Arc::new(Diary { db: OnceLock::new(), heard: AtomicU64::new(0) });
                tracing::subscriber::with_default(Subscriber(Arc::clone(&diary)), || {
                    let config = EngineConfig { wal_max_events: 3, ..config() };
                    let db = diary.db.get_or_init(|| Db::open_with(config, options(&sim)).unwrap());
                    sim.fail(Fault { at: sim.operations() + at, kind, forever });
                    for number in 0..5 {
                        let _ = db.append(&event(&number.to_string(), number));
                    }
                    let _ = db.delete_event("1");
                    let _ = db.flush();
                    let _ = db.gc(10);
                    let _ = db.checkpoint("copy");
                    let _ = db.sync();
                });
                heard += diary.heard.load(Ordering::Relaxed);
            }
        }
        assert!(heard > 100, "only {heard} events were logged");
    });
}

/// A directory of two segments whose times and sequences overlap: that of "a" and that of "b".
fn overlapping() -> Files {
    let memory: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let disk = Arc::new(CrowdedDisk::new(Arc::clone(&memory)));
    disk.set_crowded(true);
    // Each of two writers gets a shard of its own, and each shard becomes a segment.
    let config = EngineConfig { wal_max_events: 50, wal_shard_count: 2, ..config() };
    let db = Db::open_with(config, options(&disk).merge_rows(0)).unwrap();
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let db = &db;
            scope.spawn(move || {
                for number in 0..50 {
                    db.append(&event(&format!("{name}{number}"), number)).unwrap();
                }
            });
        }
    });
    db.flush().unwrap();
    drop(db);
    files(memory.as_ref())
}

#[test]
fn a_delete_whose_look_up_fails_deletes_nothing_and_writes_nothing() {
    let files = overlapping();
    let segments: Vec<&PathBuf> =
        files.keys().filter(|path| path.extension().is_some_and(|kind| kind == "kseg")).collect();
    assert!(segments.len() > 1, "one writer had both shards");
    let (mut refused, mut done) = (0, 0);
    for segment in segments {
        for place in (0..files[segment].len()).step_by(16) {
            let mut files = files.clone();
            files.get_mut(segment).unwrap()[place] ^= 1;
            // Of one id only the row's own segment has ids to read; the other one is asked for the row's place in it.
            for ids in [&["a7"][..], &["a7", "b20"]] {
                let disk = disk_of(&files);
                let Ok(db) = open(&disk) else { continue };
                match db.delete_events(ids) {
                    Ok(count) => {
                        assert_eq!((count, db.total_events()), (ids.len(), 100 - ids.len() as u64));
                        done += 1;
                    }
                    Err(error) => {
                        assert!(
                            matches!(&error, DbError::Corrupt { file, .. } if file == segment),
                            "{error}"
                        );
                        assert_eq!(db.total_events(), 100, "byte {place}");
                        assert!(self::files(disk.as_ref()) == files, "byte {place}: something was written");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 10 && done > 10, "{refused} refused, {done} done");
}

#[test]
fn on_a_nearly_full_disk_the_log_is_not_filled_ahead_and_frames_still_fit() {
    let sim = Arc::new(SimDisk::default());
    let db = open(&sim).unwrap();
    db.append(&event("first", 0)).unwrap();
    let used: usize = files(sim.as_ref()).values().map(Vec::len).sum();
    let room = 20_000;
    sim.set_capacity_bytes((used + room) as u64);
    let label = "x".repeat(1000);
    let (mut fitted, mut refills) = (0, 0);
    loop {
        let before = sim.operations();
        let event = Event { labels: [label.clone()], ..event("more", 1) };
        if let Err(error) = db.append_durable(&event) {
            assert!(matches!(error, DbError::Full { .. }), "{error}");
            break;
        }
        fitted += 1;
        // A frame is a write and a sync.
        refills += u64::from(sim.operations() - before > 2);
    }
    assert!(refills <= 1, "{refills} of {fitted} appends tried to fill the log ahead");
    let log_room = 64 << 10;
    let least = (log_room + room) / 1100 - 2;
    assert!(fitted >= least, "{fitted} frames of 1 KiB fitted, {least} should");
    assert_eq!(open(&Arc::new(sim.kill())).unwrap().total_events(), 1 + fitted as u64);
}

#[test]
fn a_checkpoint_into_a_directory_that_is_not_empty_is_refused_and_changes_nothing() {
    let disk = Arc::new(SimDisk::default());
    let db = open(&disk).unwrap();
    db.append(&event("a", 1)).unwrap();
    put(disk.as_ref(), Path::new("full/notes.txt"), b"somebody's");
    let before = (disk.fingerprint(), disk.operations());
    for target in ["full", DIR] {
        match db.checkpoint(target) {
            Err(DbError::Invalid { field, why }) => {
                assert_eq!((&*field, &*why), ("target_dir", &*format!("{target} is not empty")));
            }
            other => panic!("{other:?}"),
        }
        let writes = disk.trace().into_iter().skip(before.1 as usize);
        let changing: Vec<String> = writes
            .filter(|operation| operation.kind != OperationKind::SyncDir)
            .map(|operation| operation.to_string())
            .collect();
        assert_eq!((disk.fingerprint(), changing), (before.0, Vec::new()));
    }
    db.checkpoint("new").unwrap();
}

#[test]
fn more_rollup_values_than_rollup_dims_are_invalid() {
    let db = open(&Arc::new(MemoryDisk::default())).unwrap();
    db.append(&event("a", 0)).unwrap();
    for (surplus, wanted) in
        [(false, &[Some("alice")][..]), (true, &[None, None]), (true, &[None, Some("x")])]
    {
        match db.query_rollups(0, 0, wanted) {
            Ok(rows) => assert!(!surplus && rows.len() == 1, "{wanted:?}: {rows:?}"),
            Err(error) => {
                assert!(surplus, "{error}");
                assert_eq!(error.to_string(), "dims is not legal: 2 values for 1 rollup dims");
            }
        }
    }
}

#[test]
fn closing_a_poisoned_engine_says_so_and_dropping_it_is_quiet() {
    for is_closed in [true, false] {
        let sim = Arc::new(SimDisk::default());
        let db = open(&sim).unwrap();
        db.append(&event("a", 1)).unwrap();
        sim.fail(Fault { at: sim.operations() + 2, kind: FaultKind::SyncFails, forever: false });
        assert!(matches!(db.append(&event("b", 2)), Err(DbError::Poisoned { .. })));
        let before = sim.operations();
        if is_closed {
            assert!(matches!(db.close(), Err(DbError::Poisoned { .. })));
        } else {
            drop(db);
        }
        assert_eq!(sim.operations(), before, "nothing is written any more");
        assert!(open(&sim).unwrap().get_event("a").unwrap().is_some(), "the lock is given back");
    }
}

/// A tombstone names a row by time and sequence, and stays after its row is gone. Without the manifest nothing but the
/// tombstone says that the sequence was given.
#[test]
fn a_rebuilt_manifest_gives_no_sequence_again_that_a_tombstone_names() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open(&disk).unwrap();
    db.append(&event("a", 1)).unwrap();
    db.flush().unwrap();
    drop(db);
    let db = open(&disk).unwrap();
    let given = db.append(&event("b", 5)).unwrap().first;
    db.delete_event("b").unwrap();
    db.flush().unwrap();
    drop(db);
    disk.remove(&Path::new(DIR).join("MANIFEST")).unwrap();
    let db = open(&disk).unwrap();
    assert!(db.open_report().manifest_rebuilt.is_some());
    let next = db.append(&event("c", 5)).unwrap().first;
    assert!(next > given, "{next} after {given}");
    drop(db);
    assert_eq!(ids(&open(&disk).unwrap()), ["c", "a"]);
}

/// The first append of a run rewrites the manifest, on a full disk with the help of the spare; `gc` needs it after that.
#[test]
fn gc_makes_room_on_a_disk_that_was_full_when_the_table_was_opened() {
    for room in [0, 100, 300, 1000, 3000] {
        let sim = Arc::new(SimDisk::default());
        let db = open(&sim).unwrap();
        for number in 0..20 {
            db.append(&event(&format!("old {number}"), number)).unwrap();
            db.flush().unwrap();
        }
        drop(db);
        let used: usize = files(sim.as_ref()).values().map(Vec::len).sum();
        sim.set_capacity_bytes((used + 16 + room) as u64);
        let db = open(&sim).unwrap();
        while db.append(&event("new", 100)).is_ok() {}
        let gone = db.gc(50).unwrap_or_else(|error| panic!("{room} bytes of room: {error}"));
        assert_eq!(gone.events_deleted, 20);
        db.append(&event("after", 101)).unwrap();
    }
}

/// What a thread builds its first batch in had no column of ids for a table without any other column.
#[test]
fn a_table_without_columns_of_its_own_keeps_its_ids() {
    let disk: Arc<MemoryDisk> = Arc::default();
    let open = || {
        let config = EngineConfig { rollup_dims: Vec::new(), ..config() };
        Engine::<0, 0, 0>::open_with(config, options(&disk)).unwrap()
    };
    let db = open();
    // A new thread, which has built nothing yet.
    let event = LogEvent::<0, 0, 0> { id: "kept".to_owned(), ..LogEvent::default() };
    std::thread::scope(|scope| drop(scope.spawn(|| db.append(&event).unwrap())));
    assert!(db.get_event("kept").unwrap().is_some());
    drop(db);
    assert!(open().get_event("kept").unwrap().is_some());
}
