//! `verify` beside a working engine: whatever appends, rotates, deletes and drops meanwhile, what is sound is never called
//! damaged, by the engine itself or by somebody who only sees the directory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keplordb::{Depth, Engine, EngineConfig, LogEvent, Options, verify_dir};

type Db = Engine<1, 0, 0>;

/// How long the two go on side by side.
const LASTS: Duration = Duration::from_secs(2);

fn event(number: u64) -> LogEvent<1, 0, 0> {
    LogEvent {
        id: format!("id-{number}"),
        ts_ns: number.cast_signed(),
        dims: [format!("user {}", number % 7)],
        ..LogEvent::default()
    }
}

/// Appends, rotates, deletes and drops old segments until it is told to stop.
fn work(db: &Db, stop: &AtomicBool, next: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let first = next.fetch_add(20, Ordering::Relaxed);
        let batch: Vec<_> = (first..first + 20).map(event).collect();
        db.append_batch(&batch).unwrap();
        if first.is_multiple_of(140) {
            db.delete_event(&format!("id-{}", first.saturating_sub(60))).unwrap();
        }
        if first.is_multiple_of(1000) {
            db.gc(first.saturating_sub(3000).cast_signed()).unwrap();
        }
    }
}

fn beside_work(grace: Duration, verify: impl Fn(&Db)) {
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig { wal_max_events: 150, wal_shard_count: 2, ..EngineConfig::in_dir(dir.path()) };
    let options = Options::default().sync(keplordb::Sync::Os).unlink_grace(grace);
    let db = Db::open_with(config, options).unwrap();
    let (stop, next) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| work(&db, &stop, &next));
        }
        let (begin, mut times) = (Instant::now(), 0);
        while begin.elapsed() < LASTS || times < 10 {
            verify(&db);
            times += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(next.load(Ordering::Relaxed) > 1000, "too little happened meanwhile");
}

#[test]
fn an_engine_that_verifies_itself_at_work_finds_nothing() {
    beside_work(Duration::ZERO, |db| {
        for depth in [Depth::Quick, Depth::Full] {
            let report = db.verify(depth);
            assert!(report.is_clean(), "{:#?}", report.problems);
        }
    });
}

#[test]
fn a_directory_verified_beside_its_engine_has_no_problems() {
    let grace = Duration::from_secs(60);
    beside_work(grace, |db| {
        let dir = format!("{db:?}");
        let dir = dir.split('"').nth(1).expect("an engine shows its directory");
        for depth in [Depth::Quick, Depth::Full] {
            let report = verify_dir(dir, &Options::default(), depth).unwrap();
            assert!(report.engine_at_work && report.is_clean(), "{:#?}", report.problems);
        }
    });
}
