//! Upkeep: replaced files and their grace, merging, compaction, purging, retention and the guard that does them by itself.
//! Each test says its claim in its name; tables are made on disks in memory or simulated ones, and what is on them is looked
//! at as files.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use keplordb::disk::{Disk, SimDisk};
use keplordb::{DbError, Engine, EngineConfig, LogEvent, Options, QueryFilter};
use naive::files::files_of;

type Db = Engine<1, 1, 1>;
type Event = LogEvent<1, 1, 1>;

const DIR: &str = "events";
const HOUR: Duration = Duration::from_secs(3600);

fn config() -> EngineConfig {
    EngineConfig { data_dir: DIR.into(), schema_id: 3, rollup_dims: vec![0], ..EngineConfig::default() }
}

fn options(disk: &Arc<impl Disk + 'static>) -> Options {
    Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>)
}

fn event(id: &str, ts_ns: i64) -> Event {
    Event {
        id: id.to_owned(),
        ts_ns,
        metric: 1,
        dims: ["alice".to_owned()],
        labels: ["x".into()],
        ..Event::default()
    }
}

fn ids(db: &Db) -> Vec<String> {
    db.query_recent(&QueryFilter::default(), usize::MAX).unwrap().into_iter().map(|row| row.id).collect()
}

/// How many files there are with this ending.
fn count(disk: &Arc<impl Disk + 'static>, ending: &str) -> usize {
    let files = files_of(disk.as_ref(), Path::new(DIR));
    files.keys().filter(|path| path.to_string_lossy().ends_with(ending)).count()
}

#[test]
fn what_gc_drops_stays_for_the_grace_and_goes_with_the_next_publish() {
    let disk = Arc::new(SimDisk::default());
    let db = Db::open_with(config(), options(&disk).unlink_grace(Duration::from_millis(50))).unwrap();
    db.append(&event("old", 1)).unwrap();
    db.flush().unwrap();
    assert_eq!(db.gc(10).unwrap().segments_deleted, 1);
    assert_eq!((count(&disk, ".kseg"), db.total_events()), (1, 0), "a copy may be under way");
    sleep(Duration::from_millis(60));
    db.append(&event("new", 20)).unwrap();
    db.flush().unwrap();
    assert_eq!(count(&disk, ".kseg"), 1, "only the new one");
    assert_eq!(ids(&db), ["new"]);
    drop(db);
    let db = Db::open_with(config(), options(&disk)).unwrap();
    assert_eq!(ids(&db), ["new"]);
}

#[test]
fn a_full_disk_ends_the_grace() {
    for by_gc in [false, true] {
        let disk = Arc::new(SimDisk::default());
        let db = Db::open_with(config(), options(&disk).unlink_grace(HOUR)).unwrap();
        for (number, ts_ns) in [("a", 1), ("b", 2)] {
            let mut event = event(number, ts_ns);
            event.labels[0] = (0..40_000_u32).map(|at| char::from(b'!' + (at * at % 89) as u8)).collect();
            db.append(&event).unwrap();
            db.flush().unwrap();
        }
        assert_eq!((count(&disk, ".kseg"), count(&disk, ".kwal")), (2, 2), "the logs are in their grace");
        let used: usize = files_of(disk.as_ref(), Path::new(DIR)).values().map(Vec::len).sum();
        disk.set_capacity_bytes(used as u64);
        if by_gc {
            assert_eq!(db.gc(2).unwrap().segments_deleted, 1);
            assert_eq!((count(&disk, ".kseg"), count(&disk, ".kwal")), (1, 0));
        } else {
            assert!(matches!(db.append(&event("c", 3)), Err(DbError::Full { .. })));
            assert_eq!((count(&disk, ".kseg"), count(&disk, ".kwal")), (2, 0));
        }
        db.append(&event("c", 3)).unwrap();
        assert_eq!(ids(&db), if by_gc { vec!["c", "b"] } else { vec!["c", "b", "a"] });
    }
}

/// Every row with all its columns, and totals that must agree with them.
fn answers(db: &Db) -> String {
    let rows = db.query_recent(&QueryFilter::default(), usize::MAX).unwrap();
    let totals = db.aggregate(&QueryFilter::default()).unwrap();
    let rollups = db.query_rollups(i64::MIN, i64::MAX, &[]).unwrap();
    format!("{rows:?} {totals:?} {rollups:?} {}", db.total_events())
}

/// The same table as it is found with its manifest, and without it.
fn assert_same_after_reopen(disk: &Arc<SimDisk>, expected: &str, what: &str) {
    for without_manifest in [false, true] {
        let copy = Arc::new(disk.kill());
        if without_manifest {
            copy.remove(Path::new("events/MANIFEST")).unwrap();
        }
        let db = Db::open_with(config(), options(&copy)).unwrap();
        assert_eq!(answers(&db), expected, "{what}, without manifest: {without_manifest}");
        assert_eq!(db.open_report().manifest_rebuilt.is_some(), without_manifest);
    }
}

#[test]
fn small_segments_are_merged_by_whoever_flushes_and_no_row_is_lost_or_doubled() {
    for grace in [Duration::ZERO, HOUR] {
        let disk = Arc::new(SimDisk::default());
        let db = Db::open_with(config(), options(&disk).unlink_grace(grace)).unwrap();
        let (mut rows, mut most_syncs) = (0, 0);
        for flush in 0..200_i64 {
            for row in 0..=flush % 5 {
                // Late events come between those of other segments.
                let ts_ns = if flush % 7 == 6 { rows / 2 } else { rows };
                db.append(&event(&format!("{flush}-{row}"), ts_ns)).unwrap();
                rows += 1;
            }
            if flush % 10 == 9 {
                assert!(db.delete_event(&format!("{}-0", flush - 5)).unwrap());
            }
            let before = db.stats().syncs;
            db.flush().unwrap();
            most_syncs = most_syncs.max(db.stats().syncs - before);
            if flush % 20 == 0 {
                assert_same_after_reopen(&disk, &answers(&db), &format!("after flush {flush}, {grace:?}"));
            }
        }
        assert_eq!(db.total_events(), rows as u64 - 20);
        assert!(db.segment_count() <= 24, "{} segments", db.segment_count());
        assert!(most_syncs <= 7, "{most_syncs} syncs of one flush");
        assert!(db.stats().last_error.is_none());
        assert_same_after_reopen(&disk, &answers(&db), "at the end");
    }
}

#[test]
fn without_merging_every_flush_leaves_a_segment() {
    let disk = Arc::new(SimDisk::default());
    let db = Db::open_with(config(), options(&disk).merge_rows(0)).unwrap();
    for ts_ns in 0..30 {
        db.append(&event("a", ts_ns)).unwrap();
        db.flush().unwrap();
    }
    assert_eq!(db.segment_count(), 30);
}

#[test]
fn a_damaged_segment_is_not_merged_and_stops_no_flush() {
    let disk = Arc::new(SimDisk::default());
    let db = Db::open_with(config(), options(&disk).merge_rows(0)).unwrap();
    for ts_ns in 0..7 {
        db.append(&event(&format!("e{ts_ns}"), ts_ns)).unwrap();
        db.flush().unwrap();
    }
    drop(db);
    let damaged = Path::new("events/segments/0000000000000003.kseg");
    let end = disk.bytes(damaged).unwrap().unwrap();
    disk.open(damaged).unwrap().write_at(&[0xaa; 64], end / 2).unwrap();
    let db = Db::open_with(config(), options(&disk)).unwrap();
    for ts_ns in 7..10 {
        db.append(&event(&format!("e{ts_ns}"), ts_ns)).unwrap();
        db.flush().unwrap();
    }
    assert!(matches!(db.stats().last_error, Some(DbError::Corrupt { .. })));
    assert_eq!((db.total_events(), db.wal_count()), (10, 0));
    assert!((2..10).contains(&db.segment_count()), "the others are merged: {}", db.segment_count());
    assert!(disk.bytes(damaged).unwrap().is_some(), "what is damaged stays");
}
