//! Upkeep: replaced files and their grace, merging, compaction, purging, retention and the guard that does them by itself.
//! Each test says its claim in its name; tables are made on disks in memory or simulated ones, and what is on them is looked
//! at as files.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keplordb::disk::sim::{Fault, FaultKind};
use keplordb::disk::{Disk, MemoryDisk, RealDisk, SimDisk};
use keplordb::{
    Budget, DbError, Engine, EngineConfig, LogEvent, Maintenance, MapMode, Options, QueryFilter, Retention,
    Sync,
};
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

/// A successor names all whose rows it has, not only its own sources: of several generations of merged files a slow copy may
/// have the oldest and the newest.
#[test]
fn without_a_manifest_any_files_that_were_replaced_may_be_lacking() {
    let disk = Arc::new(SimDisk::default());
    let db = Db::open_with(config(), options(&disk).unlink_grace(HOUR)).unwrap();
    for ts_ns in 0..70 {
        db.append(&event(&format!("e{ts_ns}"), ts_ns)).unwrap();
        db.flush().unwrap();
    }
    assert!(db.delete_event("e5").unwrap());
    let expected = answers(&db);
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "kseg");
    let segments = |disk: &SimDisk| {
        let files = files_of(disk, Path::new(DIR));
        files.into_keys().filter(is_segment).collect::<BTreeSet<PathBuf>>()
    };
    // An open without a grace removes what the manifest does not list.
    let opened = Arc::new(disk.kill());
    drop(Db::open_with(config(), options(&opened).unlink_grace(Duration::ZERO)).unwrap());
    let live = segments(&opened);
    let replaced: Vec<PathBuf> = segments(&disk).difference(&live).cloned().collect();
    assert!(replaced.len() > 60, "{} replaced", replaced.len());
    for lacking in 0..24 {
        let copy = Arc::new(disk.kill());
        copy.remove(Path::new("events/MANIFEST")).unwrap();
        for (place, path) in replaced.iter().enumerate() {
            // All of them, each half, thirds …: some of every depth of merging.
            if lacking == 0 || (place / lacking) % 2 == 0 {
                copy.remove(path).unwrap();
            }
        }
        let db = Db::open_with(config(), options(&copy)).unwrap();
        assert!(answers(&db) == expected, "pattern {lacking}: {} rows", db.total_events());
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

/// Appends events of these times, named by them, and flushes after each `rows` of them.
fn fill(db: &Db, times: std::ops::Range<i64>, rows: usize) {
    let times: Vec<i64> = times.collect();
    for times in times.chunks(rows) {
        let events: Vec<Event> = times.iter().map(|ts_ns| event(&format!("e{ts_ns}"), *ts_ns)).collect();
        db.append_batch(&events).unwrap();
        db.flush().unwrap();
    }
}

#[test]
fn compaction_keeps_to_its_budget_and_says_what_is_left() {
    for grace in [Duration::ZERO, HOUR] {
        let disk = Arc::new(SimDisk::default());
        let options = options(&disk).merge_rows(0).unlink_grace(grace);
        let db = Db::open_with(config(), options).unwrap();
        fill(&db, 0..1000, 10);
        let before = answers(&db);
        assert_eq!(db.segment_count(), 100);
        assert_eq!(db.compact(Budget::rows(0)).unwrap().rows_left, 1000);
        assert_eq!(db.segment_count(), 100, "no budget, no work");
        let mut calls = 0;
        loop {
            let done = db.compact(Budget::rows(300)).unwrap();
            assert!(done.rows_written <= 300, "{done:?}");
            assert_eq!(answers(&db), before);
            assert_same_after_reopen(&disk, &before, "between two calls");
            if done.rows_written == 0 {
                break;
            }
            calls += 1;
            assert!(calls < 20, "{done:?}");
        }
        // Steps of 300 rows, and then none that is due has so few.
        assert_eq!((calls, db.segment_count()), (4, 4));
        let done = db.compact(Budget::UNLIMITED).unwrap();
        assert_eq!((done.rows_written, done.rows_left, db.segment_count()), (1000, 0, 1));
        let left = db.compact(Budget::UNLIMITED).unwrap();
        assert_eq!((left.rows_written, left.rows_left), (0, 0), "done is done");
        assert!(db.segment_count() <= 7, "{} segments", db.segment_count());
        assert_eq!(
            count(&disk, ".kseg") == db.segment_count(),
            grace.is_zero(),
            "replaced files stay for the grace"
        );
    }
}

#[test]
fn what_is_deleted_goes_for_good_and_its_tombstones_too() {
    for grace in [Duration::ZERO, HOUR] {
        let disk = Arc::new(SimDisk::default());
        let options = || options(&disk).merge_rows(0).unlink_grace(grace);
        let db = Db::open_with(config(), options()).unwrap();
        fill(&db, 0..100, 10);
        // All rows of two segments, half of the rows of one, one row of another, and one that is only in a log.
        let mut ids: Vec<String> = (10..35).map(|number| format!("e{number}")).collect();
        ids.push("e77".to_owned());
        db.append(&event("in the log", 500)).unwrap();
        db.append(&event("stays", 501)).unwrap();
        ids.push("in the log".to_owned());
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert_eq!(db.delete_events(&ids).unwrap(), 27);
        let expected = answers(&db);
        assert_eq!((db.stats().tombstones, db.stats().deleted_rows), (27, 27));

        let done = db.compact(Budget::UNLIMITED).unwrap();
        assert_eq!((done.rows_purged, done.rows_left), (26, 0), "{done:?}");
        assert_eq!((answers(&db), db.stats().deleted_rows), (expected.clone(), 1), "the log is left alone");
        // While replaced files are there, what their tombstones say may be needed again.
        let purged = if grace.is_zero() { 26 } else { 0 };
        assert_eq!((done.tombstones_purged, db.stats().tombstones), (purged, 27 - purged));
        assert_same_after_reopen(&disk, &expected, "after a compaction");
        assert_eq!(count(&disk, "tombstones.0000000000000002") == 1, grace.is_zero());

        // The log that is new takes deletes; and a reopen ends nobody's grace.
        assert!(db.delete_event("e99").unwrap());
        let expected = answers(&db);
        assert_same_after_reopen(&disk, &expected, "after a delete");
        db.flush().unwrap();
        db.close().unwrap();
        let db = Db::open_with(config(), options()).unwrap();
        db.compact(Budget::UNLIMITED).unwrap();
        let left = if grace.is_zero() { 1 } else { 28 };
        assert_eq!((db.stats().tombstones, answers(&db)), (left, expected.clone()), "that of e99");
        assert_same_after_reopen(&disk, &expected, "at the end");
    }
}

/// Does something once, in the middle of a compaction: when the segment that it writes has its name and is not yet listed.
fn in_the_middle_of_a_write(
    disk: &Arc<SimDisk>,
    act: impl Fn() + Send + std::marker::Sync + 'static,
) -> Arc<AtomicBool> {
    let acted = Arc::new(AtomicBool::new(false));
    let (done, original) = (Arc::clone(&acted), SimDisk::clone(disk));
    disk.after_each(move |_, _| {
        let trace = original.trace();
        let is_named = trace
            .last()
            .is_some_and(|last| last.path.extension().is_some_and(|extension| extension == "kseg"));
        if is_named && !done.swap(true, Ordering::Relaxed) {
            act();
        }
    });
    acted
}

/// A table whose 20 segments are due to be merged, shared with a hook.
fn due() -> (Arc<SimDisk>, Arc<OnceLock<Db>>) {
    let disk = Arc::new(SimDisk::default());
    let options = options(&disk).merge_rows(0).unlink_grace(Duration::ZERO);
    let db = Db::open_with(config(), options).unwrap();
    fill(&db, 0..200, 10);
    (disk, Arc::new(OnceLock::from(db)))
}

#[test]
fn deletes_during_a_compaction_are_kept() {
    let (disk, db) = due();
    assert!(db.get().unwrap().delete_event("e3").unwrap());
    let of_hook = Arc::clone(&db);
    let acted = in_the_middle_of_a_write(&disk, move || {
        assert_eq!(of_hook.get().unwrap().delete_events(&["e7", "e120", "e3"]).unwrap(), 2);
    });
    let db = db.get().unwrap();
    let done = db.compact(Budget::UNLIMITED).unwrap();
    assert!(acted.load(Ordering::Relaxed) && done.segments_written > 0);
    let gone = |id: &String| ["e3", "e7", "e120"].contains(&id.as_str());
    assert!(!ids(db).iter().any(gone) && db.total_events() == 197);
    assert_eq!(db.aggregate(&QueryFilter::default()).unwrap().metric, 197);
    assert_same_after_reopen(&disk, &answers(db), "after it");
}

#[test]
fn a_gc_during_a_compaction_makes_it_give_its_result_up() {
    let (disk, db) = due();
    let of_hook = Arc::clone(&db);
    let acted = in_the_middle_of_a_write(&disk, move || {
        assert_eq!(of_hook.get().unwrap().gc(50).unwrap().segments_deleted, 5);
    });
    let db = db.get().unwrap();
    let done = db.compact(Budget::UNLIMITED).unwrap();
    assert!(acted.load(Ordering::Relaxed));
    assert_eq!((done.rows_written, done.segments_replaced), (150, 15), "what is left is compacted then");
    assert_eq!((db.total_events(), ids(db).len()), (150, 150));
    assert_eq!(count(&disk, ".kseg"), db.segment_count(), "the result that was given up is gone");
    assert_same_after_reopen(&disk, &answers(db), "after it");
}

#[test]
fn a_gc_during_a_flush_that_merges_takes_only_what_it_dropped() {
    let disk = Arc::new(SimDisk::default());
    let db = Db::open_with(config(), options(&disk).unlink_grace(Duration::ZERO)).unwrap();
    fill(&db, 0..7, 1);
    db.append(&event("new", 100)).unwrap();
    let db = Arc::new(OnceLock::from(db));
    let of_hook = Arc::clone(&db);
    let acted = in_the_middle_of_a_write(&disk, move || {
        assert_eq!(of_hook.get().unwrap().gc(50).unwrap().segments_deleted, 7);
    });
    let db = db.get().unwrap();
    assert_eq!(db.flush().unwrap().rows, 1);
    assert!(acted.load(Ordering::Relaxed));
    assert_eq!((ids(db), count(&disk, ".kseg")), (vec!["new".to_owned()], 1));
    assert_same_after_reopen(&disk, &answers(db), "after it");
}

#[test]
fn a_damaged_segment_is_named_once_and_the_others_are_compacted() {
    let (disk, db) = due();
    drop(db);
    let damaged = Path::new("events/segments/0000000000000003.kseg");
    let middle = disk.bytes(damaged).unwrap().unwrap() / 2;
    disk.open(damaged).unwrap().write_at(&[0xaa; 64], middle).unwrap();
    let db = Db::open_with(config(), options(&disk).merge_rows(0)).unwrap();
    let error = db.compact(Budget::UNLIMITED).unwrap_err();
    assert!(matches!(&error, DbError::Corrupt { file, .. } if file == damaged), "{error}");
    let done = db.compact(Budget::UNLIMITED).unwrap();
    assert!(done.segments_replaced >= 17 && done.rows_left == 0, "{done:?}");
    assert_eq!(db.total_events(), 200);
    assert!(disk.bytes(damaged).unwrap().is_some(), "what is damaged stays");
}

#[test]
fn a_compaction_that_fails_at_any_operation_changes_no_answer() {
    for kind in FaultKind::ALL {
        for after in 1.. {
            let (disk, db) = due();
            let db = Arc::into_inner(db).unwrap().into_inner().unwrap();
            assert_eq!(db.delete_events(&["e5", "e6", "e7"]).unwrap(), 3);
            let before = answers(&db);
            disk.fail(Fault { at: disk.operations() + after, kind, forever: false });
            let outcome = db.compact(Budget::UNLIMITED);
            let hit = disk.faults_hit() > 0;
            assert_eq!(answers(&db), before, "{kind:?} at {after}");
            disk.heal();
            assert_same_after_reopen(&disk, &before, &format!("{kind:?} at {after}"));
            for seed in 0..4 {
                let copy = Arc::new(disk.power_cut(seed));
                let db = Db::open_with(config(), options(&copy)).unwrap();
                assert_eq!(answers(&db), before, "{kind:?} at {after}, cut with {seed}");
            }
            if outcome.is_err() && db.sync().is_ok() {
                assert_eq!(db.compact(Budget::UNLIMITED).unwrap().rows_left, 0, "{kind:?} at {after}");
                assert_eq!(answers(&db), before);
            }
            if !hit {
                assert!(after > 5, "{kind:?}: nothing was tested");
                break;
            }
        }
    }
}

#[test]
fn readers_at_work_see_every_row_once_while_segments_are_merged_and_unlinked() {
    let dir = tempfile::tempdir().unwrap();
    for map_mode in [MapMode::Map, MapMode::Read] {
        // Hardly any segment stays mapped, so readers come back to files by name.
        let data_dir = dir.path().join(format!("{map_mode:?}"));
        let config = EngineConfig { data_dir, mmap_cache_capacity: 1, ..config() };
        let options = Options::default().sync(Sync::Os).map_mode(map_mode).unlink_grace(Duration::ZERO);
        let db = Db::open_with(config, options.disk(Arc::new(RealDisk))).unwrap();
        let (appended, done) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut asked = 0;
                    while !done.load(Ordering::Acquire) || asked == 0 {
                        asked += 1;
                        let least = appended.load(Ordering::Acquire);
                        let filter = QueryFilter { dims: [Some("alice".into())], ..QueryFilter::default() };
                        let rows = db.query_recent(&filter, usize::MAX).unwrap();
                        let mut times: Vec<i64> = rows.iter().map(|row| row.ts_ns).collect();
                        times.dedup();
                        assert_eq!(times.len(), rows.len(), "no row twice");
                        assert!(rows.len() as u64 >= least, "{} of {least} rows", rows.len());
                        let totals = db.aggregate(&filter).unwrap();
                        assert!(totals.event_count >= rows.len() as u64);
                    }
                });
            }
            for round in 0..15 {
                fill(&db, round * 20..(round + 1) * 20, 2);
                appended.store((round as u64 + 1) * 20, Ordering::Release);
                if round % 5 == 4 {
                    db.compact(Budget::UNLIMITED).unwrap();
                }
            }
            done.store(true, Ordering::Release);
        });
        assert_eq!((db.total_events(), db.stats().last_error.is_none()), (300, true));
        db.maintain(Budget::UNLIMITED).unwrap();
        let files = std::fs::read_dir(dir.path().join(format!("{map_mode:?}/segments"))).unwrap().count();
        assert_eq!(files, db.segment_count(), "what readers held goes with the next maintenance");
    }
}

#[test]
fn retention_drops_whole_segments_oldest_first() {
    let now_ns = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let hour_ns = 3_600_000_000_000;
    let disk = Arc::new(MemoryDisk::default());
    let by_age = Retention::default().max_age(HOUR);
    let db = Db::open_with(config(), options(&disk).merge_rows(0).retention(by_age)).unwrap();
    for (id, age_ns) in [("old", 3 * hour_ns), ("older", 5 * hour_ns), ("young", hour_ns / 2)] {
        db.append(&event(id, now_ns - age_ns)).unwrap();
        db.flush().unwrap();
    }
    // One whose rows are old and only in a log, as those of a table that nobody writes any more.
    db.append(&event("late", now_ns - 4 * hour_ns)).unwrap();
    assert_eq!(db.total_events(), 4, "only maintenance forgets");
    let done = db.maintain(Budget::UNLIMITED).unwrap();
    assert_eq!(
        (done.retention.segments_deleted, done.retention.events_deleted, done.rows_flushed),
        (3, 3, 1)
    );
    assert_eq!(ids(&db), ["young"]);
    drop(db);

    let by_bytes = |bytes| Retention::default().max_bytes(bytes);
    let db = Db::open_with(config(), options(&disk).merge_rows(0).retention(by_bytes(u64::MAX))).unwrap();
    for (id, ts_ns) in [("b", 2), ("a", 1), ("c", 3)] {
        db.append(&event(id, ts_ns)).unwrap();
        db.flush().unwrap();
    }
    assert_eq!(db.maintain(Budget::UNLIMITED).unwrap().retention.segments_deleted, 0);
    let bytes = db.total_bytes();
    drop(db);
    let db = Db::open_with(config(), options(&disk).merge_rows(0).retention(by_bytes(bytes - 1))).unwrap();
    assert_eq!(db.maintain(Budget::UNLIMITED).unwrap().retention.segments_deleted, 1);
    assert_eq!(ids(&db), ["young", "c", "b"]);
    assert!(db.total_bytes() < bytes);
}

/// Segments are dropped as a whole, so neither a log that never fills nor a merge may keep old rows with new ones.
#[test]
fn retention_is_not_thwarted_by_logs_that_never_fill_nor_by_merges() {
    let now_ns = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let minute_ns = 60_000_000_000;
    let disk = Arc::new(MemoryDisk::default());
    let by_age = Retention::default().max_age(HOUR);
    let db = Db::open_with(config(), options(&disk).retention(by_age)).unwrap();
    db.append(&event("now", now_ns)).unwrap();
    assert_eq!(db.maintain(Budget::UNLIMITED).unwrap().rows_flushed, 0, "it may go on filling its log");
    db.append(&event("a while ago", now_ns - 10 * minute_ns)).unwrap();
    assert_eq!(db.maintain(Budget::UNLIMITED).unwrap().rows_flushed, 2);
    drop(db);

    let disk = Arc::new(MemoryDisk::default());
    let db = Db::open_with(config(), options(&disk).merge_rows(0)).unwrap();
    fill(&db, 0..4000, 8);
    let bytes = db.stats().segment_bytes;
    drop(db);
    let by_bytes = Retention::default().max_bytes(bytes);
    let db = Db::open_with(config(), options(&disk).merge_rows(0).retention(by_bytes)).unwrap();
    db.maintain(Budget::UNLIMITED).unwrap();
    assert!((4..200).contains(&db.segment_count()), "{} segments", db.segment_count());
    drop(db);

    let day = |days: i64| days * 24 * 60 * minute_ns;
    let disk = Arc::new(MemoryDisk::default());
    let span = Duration::from_secs(2 * 24 * 3600);
    let db = Db::open_with(config(), options(&disk).merge_span(span)).unwrap();
    for days in 0..40 {
        let rows: Vec<Event> = (0..8).map(|row| event(&format!("{days}-{row}"), day(days) + row)).collect();
        db.append_batch(&rows).unwrap();
        db.flush().unwrap();
    }
    db.compact(Budget::UNLIMITED).unwrap();
    db.gc(day(20)).unwrap();
    let left = db.total_events();
    assert!((8 * 20..=8 * 22).contains(&left), "{left} rows outlived the cutoff by at most two days");
}

#[test]
fn maintenance_repeats_a_rotation_that_failed() {
    let disk = Arc::new(SimDisk::default());
    let config = EngineConfig { wal_max_events: 3, wal_shard_count: 1, ..config() };
    let db = Db::open_with(config, options(&disk)).unwrap();
    fill(&db, 0..1, 1);
    disk.fail(Fault { at: disk.operations() + 1, kind: FaultKind::Full, forever: true });
    disk.heal();
    db.append(&event("a", 1)).unwrap();
    db.append(&event("b", 2)).unwrap();
    // The log fits, for it was filled ahead; the segment does not.
    disk.fail(Fault { at: disk.operations() + 1, kind: FaultKind::Full, forever: true });
    db.append(&event("c", 3)).unwrap();
    assert_eq!(db.wal_count(), 3, "{:?}", db.stats());
    assert!(matches!(db.stats().last_error, Some(DbError::Full { .. })));
    assert!(matches!(db.maintain(Budget::UNLIMITED), Err(DbError::Full { .. })));
    disk.heal();
    assert_eq!(db.maintain(Budget::UNLIMITED).unwrap().rows_flushed, 3);
    assert_eq!((db.wal_count(), ids(&db).len()), (0, 4));
}

/// Waits until something holds, which another thread brings about.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_guard_syncs_idle_tails_compacts_and_ends_with_its_drop() {
    let disk = Arc::new(SimDisk::default());
    let options = || options(&disk).sync(Sync::Os).merge_rows(0).unlink_grace(Duration::ZERO);
    let db = Db::open_with(config(), options()).unwrap();
    fill(&db, 0..100, 10);
    db.append(&event("tail", 1000)).unwrap();
    let opened = |copy: SimDisk| ids(&Db::open_with(config(), self::options(&Arc::new(copy))).unwrap());
    assert_eq!(opened(disk.power_cut(0)).len(), 100, "nobody has synced the tail");
    let guard = Maintenance::start(&db, Duration::from_millis(2)).unwrap();
    wait_until("the tail is synced", || opened(disk.power_cut(0)).len() == 101);
    wait_until("segments are compacted", || db.segment_count() < 10);
    // Whichever goes last closes the table.
    drop(db);
    assert!(matches!(Db::open_with(config(), options()), Err(DbError::AlreadyOpen { .. })));
    drop(guard);
    let db = Db::open_with(config(), options()).unwrap();
    assert_eq!((ids(&db).len(), db.open_report().torn_tails.len()), (101, 0));

    // Not while it waits for hours either.
    let guard = Maintenance::start(&db, HOUR * 1000).unwrap();
    let begun = Instant::now();
    drop(guard);
    assert!(begun.elapsed() < Duration::from_secs(20));
    db.close().unwrap();
    Db::open_with(config(), options()).unwrap();
    let other = EngineConfig { data_dir: "other".into(), ..config() };
    let refused = Maintenance::start(&Db::open_with(other, options()).unwrap(), Duration::ZERO).unwrap_err();
    assert_eq!(refused.to_string(), "every is not legal: must be more than no time");
}

#[test]
fn what_fails_in_the_guard_is_said_and_tried_again() {
    let disk = Arc::new(SimDisk::default());
    // One shard, so that the append below cannot come to make a log, whose failure would not be final.
    let one_shard = EngineConfig { wal_shard_count: 1, ..config() };
    let db = Db::open_with(one_shard, options(&disk).merge_rows(0)).unwrap();
    fill(&db, 0..100, 10);
    disk.fail(Fault { at: disk.operations() + 1, kind: FaultKind::Full, forever: true });
    let guard = Maintenance::start(&db, Duration::from_millis(2)).unwrap();
    wait_until("the failure is said", || matches!(db.stats().last_error, Some(DbError::Full { .. })));
    disk.heal();
    wait_until("it is tried again", || db.segment_count() < 10);
    // A failed sync of a log ends it, and no wait for it hangs.
    db.append(&event("w", 1)).unwrap();
    disk.fail(Fault { at: disk.operations() + 1, kind: FaultKind::SyncFails, forever: true });
    assert!(db.append_durable(&event("x", 1)).is_err());
    wait_until("it says so", || matches!(db.stats().last_error, Some(DbError::Poisoned { .. })));
    drop(guard);
    assert_eq!(ids(&db).iter().filter(|id| id.starts_with('e')).count(), 100);
}

#[test]
fn stats_know_times_and_tombstones() {
    let disk = Arc::new(MemoryDisk::default());
    let db = Db::open_with(config(), options(&disk).merge_rows(0)).unwrap();
    let times = |db: &Db| (db.stats().oldest_ts_ns, db.stats().newest_ts_ns);
    assert_eq!((times(&db), db.stats().tombstones), ((None, None), 0));
    db.append(&event("a", 5)).unwrap();
    assert_eq!(times(&db), (Some(5), Some(5)));
    db.flush().unwrap();
    db.append(&event("b", i64::MIN)).unwrap();
    db.append(&event("c", 9)).unwrap();
    assert_eq!(times(&db), (Some(i64::MIN), Some(9)));
    assert_eq!(db.delete_events(&["a", "b"]).unwrap(), 2);
    assert_eq!((db.stats().tombstones, db.stats().deleted_rows, db.stats().events), (2, 2, 1));
    db.close().unwrap();
    let db = Db::open_with(config(), options(&disk).merge_rows(0)).unwrap();
    assert_eq!((times(&db), db.stats().tombstones), ((Some(i64::MIN), Some(9)), 2));
    db.flush().unwrap();
    db.compact(Budget::UNLIMITED).unwrap();
    assert_eq!((times(&db), db.stats().deleted_rows), ((Some(9), Some(9)), 0));
}
