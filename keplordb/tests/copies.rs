//! Plain copies of a live directory: file by file, in any order, while the engine writes. Each must open and show every row
//! that was synced when the copy began and not deleted since, none twice, none that was deleted before, each batch whole;
//! and what a copy may lack is damage in an original.
//!
//! Small histories are tried in all interleavings with all steps of a copy, on a disk in memory; large ones under load, by
//! threads on the disk of the machine. `KEPLORDB_COPIES` sets how many copies the latter takes.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keplordb::disk::{Disk, MemoryDisk, RealDisk, SimDisk, read_all};
use keplordb::{
    Budget, DbError, Depth, Engine, EngineConfig, LogEvent, OpenReport, Options, QueryFilter, Sync,
    verify_dir,
};
use naive::files::{Files, copy_of, disk_of, files_of, put};
use naive::random::Random;

type Db = Engine<1, 1, 1>;
type Event = LogEvent<1, 1, 1>;

const DIR: &str = "events";

fn config(dir: &Path) -> EngineConfig {
    EngineConfig {
        data_dir: dir.to_owned(),
        wal_max_events: 5,
        wal_shard_count: 2,
        ..EngineConfig::default()
    }
}

fn open_in(disk: &Arc<impl Disk + 'static>, dir: &Path, grace: Duration) -> Result<Db, DbError> {
    let options = Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>).unlink_grace(grace);
    Db::open_with(config(dir), options)
}

fn open(disk: &Arc<impl Disk + 'static>) -> Result<Db, DbError> {
    open_in(disk, Path::new(DIR), Duration::from_secs(3600))
}

fn event(id: &str, ts_ns: i64) -> Event {
    Event { id: id.to_owned(), ts_ns, metric: 1, dims: ["x".to_owned()], ..Event::default() }
}

fn append(db: &Db, ids: &[&str]) {
    let batch: Vec<Event> = ids.iter().map(|id| event(id, 1)).collect();
    db.append_batch(&batch).unwrap();
}

fn number(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

/// How often each id is shown; sums must agree.
#[track_caller]
fn ids_of(db: &Db) -> BTreeMap<String, usize> {
    let rows = db.query_recent(&QueryFilter::default(), usize::MAX).unwrap();
    assert_eq!(db.aggregate(&QueryFilter::default()).unwrap().event_count, rows.len() as u64);
    let mut ids = BTreeMap::new();
    for row in rows {
        *ids.entry(row.id).or_default() += 1;
    }
    ids
}

#[track_caller]
fn assert_ids(db: &Db, expected: &[&str]) {
    assert_eq!(ids_of(db), expected.iter().map(|id| ((*id).to_owned(), 1)).collect());
}

/// Opens a copy, looks at it, and sees that from then on it is an original that can be written.
#[track_caller]
fn open_copy(files: &Files, expected: &[&str]) -> OpenReport {
    let disk = copy_of(files);
    let db = open(&disk).unwrap();
    let report = db.open_report().clone();
    assert!(report.is_copy && !report.created, "{report:?}");
    assert_ids(&db, expected);
    drop(db);
    let db = open(&disk).unwrap();
    assert!(!db.open_report().is_copy);
    assert_eq!((&db.open_report().torn_tails[..], db.open_report().missing_logs.len()), (&[][..], 0));
    assert_eq!(db.open_report().quarantined, []);
    assert_ids(&db, expected);
    append(&db, &["later"]);
    db.flush().unwrap();
    drop(db);
    assert_ids(&open(&disk).unwrap(), &[expected, &["later"]].concat());
    report
}

/// The file whose path ends so, the newest of several.
fn newest(files: &Files, suffix: &str) -> PathBuf {
    files.keys().rfind(|path| path.to_string_lossy().ends_with(suffix)).unwrap().clone()
}

/// Where a text is in a file for the last time: long enough a text to be in no checksum.
fn place_of(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).rposition(|found| found == text.as_bytes()).unwrap()
}

fn is_below(path: &Path, folder: &str) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with(folder))
}

/// A table that is written while `between` runs: its files before and after.
fn written(between: impl FnOnce(&Db)) -> (Files, Files) {
    let disk = Arc::new(MemoryDisk::default());
    let db = open(&disk).unwrap();
    append(&db, &["a", "b"]);
    let before = files_of(disk.as_ref(), Path::new(DIR));
    between(&db);
    (before, files_of(disk.as_ref(), Path::new(DIR)))
}

/// `wal/` and `segments/` as they were before, the root as it is now: a copy that came to it last.
fn root_last((before, after): (Files, Files)) -> Files {
    let root = after.into_iter().filter(|(path, _)| path.parent() == Some(Path::new(DIR)));
    before.into_iter().filter(|(path, _)| path.parent() != Some(Path::new(DIR))).chain(root).collect()
}

#[test]
fn a_segment_made_after_its_folder_was_listed_is_found_in_the_logs_it_replaced() {
    let files = root_last(written(|db| assert_eq!(db.flush().unwrap().rows, 2)));
    let report = open_copy(&files, &["a", "b"]);
    assert_eq!((report.missing_logs.len(), report.replayed_rows), (0, 2));
    assert!(matches!(open(&disk_of(&files)), Err(DbError::Missing { file }) if is_below(&file, "segments")));

    // Of a second generation even the log is missing: nothing in it was synced when the copy began.
    let files = root_last(written(|db| {
        db.flush().unwrap();
        append(db, &["c"]);
        db.flush().unwrap();
    }));
    let report = open_copy(&files, &["a", "b"]);
    assert_eq!(report.missing_logs, [Path::new("events/wal/0000000000000002.kwal")]);
    // And where neither is, the copy took too long, or lost something.
    let mut files = files;
    files.retain(|path, _| !is_below(path, "wal"));
    let report = open(&copy_of(&files)).unwrap().open_report().clone();
    assert_eq!(report.missing_logs.len(), 2);
}

#[test]
fn a_segment_made_after_the_manifest_was_copied_is_set_aside_and_no_row_is_missed() {
    let (before, after) = written(|db| {
        // Of logs that the copy has, of one that it has not, and of both.
        db.flush().unwrap();
        for id in ["c", "d", "e", "f", "g", "h", "i", "j", "k", "l"] {
            append(db, &[id]);
            db.flush().unwrap();
        }
        db.delete_event("a").unwrap();
        db.compact(Budget::UNLIMITED).unwrap();
    });
    let late = after.into_iter().filter(|(path, _)| is_below(path, "segments") || !before.contains_key(path));
    let late = late.filter(|(path, _)| !is_below(path, "wal"));
    let files: Files = before.clone().into_iter().chain(late).collect();
    let problems = |disk: &Arc<MemoryDisk>, depth| {
        verify_dir(DIR, &Options::default().disk(disk.clone()), depth).unwrap().problems
    };
    for depth in [Depth::Quick, Depth::Full] {
        assert_eq!(problems(&copy_of(&files), depth), []);
        assert!(problems(&disk_of(&files), depth).len() > 5, "in an original that is an older manifest");
    }
    let report = open_copy(&files, &["a", "b"]);
    assert!(report.quarantined.len() > 5 && report.missing_logs.is_empty(), "{report:?}");
}

#[test]
fn a_segment_without_anything_that_it_replaced_is_missing_in_a_copy_too() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open_in(&disk, Path::new(DIR), Duration::ZERO).unwrap();
    append(&db, &["a"]);
    db.flush().unwrap();
    append(&db, &["b"]);
    db.flush().unwrap();
    let mut files = files_of(disk.as_ref(), Path::new(DIR));
    files.retain(|path, _| !is_below(path, "segments") && !is_below(path, "wal"));
    let refused = open(&copy_of(&files));
    assert!(matches!(refused, Err(DbError::Missing { file }) if is_below(&file, "segments")));
}

#[test]
fn a_log_made_after_its_folder_was_listed_is_reported() {
    let (_, after) = written(|db| {
        append(db, &["c", "d", "e", "f"]);
        append(db, &["g"]);
        db.delete_event("g").unwrap();
    });
    let mut files = after;
    let lost = newest(&files, ".kwal");
    files.remove(&lost);
    let report = open_copy(&files, &["a", "b", "c", "d", "e", "f"]);
    assert_eq!(report.missing_logs, std::slice::from_ref(&lost));
    assert!(matches!(open(&disk_of(&files)), Err(DbError::Missing { file }) if file == lost));
}

#[test]
fn a_log_ends_at_its_first_hole() {
    let (mut kept, mut frame) = (0, 0);
    let (_, after) = written(|db| {
        kept = number(db.total_bytes());
        append(db, &["c"]);
        frame = number(db.total_bytes()) - kept;
        append(db, &["d"]);
    });
    let log = newest(&after, ".kwal");
    // The copy read the first bytes before, the others after "c" and "d" were written; or it saw a part of a frame.
    for hole in [kept..kept + frame, kept + 8..kept + 40, kept + 32..kept + frame] {
        let mut files = after.clone();
        files.get_mut(&log).unwrap()[hole.clone()].fill(0);
        let report = open_copy(&files, &["a", "b"]);
        let [tail] = &report.torn_tails[..] else { panic!("{report:?}") };
        assert_eq!((&tail.file, number(tail.offset)), (&log, kept));
        // Zeros at its end are not counted.
        assert!((frame + 1..=2 * frame).contains(&number(tail.bytes)), "{tail:?}");
        match open(&disk_of(&files)) {
            Err(DbError::Corrupt { file, offset, .. }) => assert_eq!((&file, offset), (&log, tail.offset)),
            other => panic!("{hole:?}: {:?}", other.map(drop)),
        }
    }
}

#[test]
fn a_log_shorter_than_the_manifest_says_is_used_as_far_as_it_goes() {
    let (before, after) = written(|db| {
        append(db, &["c"]);
        db.delete_event("a").unwrap();
        append(db, &["d"]);
        db.delete_event("nobody").unwrap();
        // Writes the lengths into the manifest.
        db.gc(i64::MIN).unwrap();
        db.delete_event("b").unwrap();
    });
    // The manifest knows of "c", which the copy of the log does not have.
    let mut files = after.clone();
    let log = newest(&after, ".kwal");
    files.insert(log.clone(), before[&log].clone());
    let report = open_copy(&files, &[]);
    let [tail] = &report.torn_tails[..] else { panic!("{report:?}") };
    assert_eq!((&tail.file, tail.bytes), (&log, 0));
    assert!(matches!(open(&disk_of(&files)), Err(DbError::Corrupt { file, .. }) if file == log));
    let bytes = files.get_mut(&log).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.truncate(end.next_multiple_of(8));
    open_copy(&files, &[]);
    assert!(matches!(open(&disk_of(&files)), Err(DbError::Truncated { file, .. }) if file == log));
}

#[test]
fn deletes_are_heeded_up_to_the_first_hole() {
    let (_, after) = written(|db| {
        append(db, &["c"]);
        db.delete_event("a").unwrap();
        db.delete_event("b").unwrap();
        db.delete_event("c").unwrap();
    });
    let log = newest(&after, "tombstones.0000000000000001");
    let frame = 48;
    let second = after[&log].len() - 2 * frame;
    let mut holed = after.clone();
    holed.get_mut(&log).unwrap()[second..second + 20].fill(0);
    let mut cut = after.clone();
    cut.get_mut(&log).unwrap().truncate(second + 8);
    for (files, lost) in [(holed, frame + 1..=2 * frame), (cut, 1..=8)] {
        let report = open_copy(&files, &["b", "c"]);
        let [tail] = &report.torn_tails[..] else { panic!("{report:?}") };
        assert_eq!((&tail.file, number(tail.offset)), (&log, second));
        assert!(lost.contains(&number(tail.bytes)), "{tail:?}");
    }
}

#[test]
fn the_first_tombstone_log_may_be_younger_than_the_copy() {
    let (_, mut files) = written(|db| assert!(db.delete_event("a").unwrap()));
    let log = newest(&files, "tombstones.0000000000000001");
    files.remove(&log);
    let report = open_copy(&files, &["a", "b"]);
    assert_eq!(report.missing_logs, std::slice::from_ref(&log));
    assert!(matches!(open(&disk_of(&files)), Err(DbError::Missing { file }) if file == log));
}

/// Its number is above those of logs that were set aside.
#[test]
fn the_first_tombstone_log_beside_ones_that_are_set_aside_may_be_younger_than_the_copy() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open(&disk).unwrap();
    append(&db, &["a", "b"]);
    drop(db);
    let aside = Path::new(DIR).join("quarantine/tombstones.0000000000000007");
    disk.create_dir(aside.parent().unwrap()).unwrap();
    put(disk.as_ref(), &aside, b"of an earlier repair");
    let db = open(&disk).unwrap();
    assert!(db.delete_event("a").unwrap());
    let mut files = files_of(disk.as_ref(), Path::new(DIR));
    let log = newest(&files, "events/tombstones.0000000000000008");
    files.remove(&log);
    let report = open_copy(&files, &["a", "b"]);
    assert_eq!(report.missing_logs, [log]);
}

#[test]
fn a_log_that_was_copied_before_its_successor_was_made_needs_no_closing_frame() {
    let (before, after) = written(|db| {
        append(db, &["c", "d", "e"]);
        append(db, &["f"]);
    });
    // The rotation's manifest is not in the copy, the next log is.
    let mut files = before.clone();
    let younger = newest(&after, ".kwal");
    assert!(!before.contains_key(&younger));
    files.insert(younger, after[&newest(&after, ".kwal")].clone());
    let report = open_copy(&files, &["a", "b", "f"]);
    assert_eq!(report.torn_tails.len(), 1);
    assert!(
        matches!(open(&disk_of(&files)), Err(DbError::Corrupt { file, .. }) if file == newest(&before, ".kwal"))
    );
}

#[test]
fn a_row_is_not_taken_from_a_segment_and_its_log() {
    let (before, after) = written(|db| {
        append(db, &["c", "d", "e"]);
        db.flush().unwrap();
    });
    let all = ["a", "b", "c", "d", "e"];
    // Everything of both moments: the segment, and the log that it replaced in its unlink grace.
    let mut files = before.clone();
    files.extend(after.clone());
    open_copy(&files, &all);
    // An older manifest: the log counts and the segment does not.
    let manifest = newest(&before, "MANIFEST");
    files.insert(manifest.clone(), before[&manifest].clone());
    open_copy(&files, &all);
}

#[test]
fn a_copy_of_a_closed_directory_is_as_strict_as_an_original() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open(&disk).unwrap();
    append(&db, &["a", "b"]);
    db.flush().unwrap();
    append(&db, &["c"]);
    append(&db, &["d"]);
    db.delete_event("a").unwrap();
    db.close().unwrap();
    let files = files_of(disk.as_ref(), Path::new(DIR));
    assert!(open_copy(&files, &["b", "c", "d"]).torn_tails.is_empty());
    let needed = files.keys().filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        let is_listed = !name.ends_with("0000000000000001.kwal");
        !name.starts_with("MANIFEST") && is_listed
    });
    for path in needed {
        let mut lost = files.clone();
        lost.remove(path);
        assert!(matches!(open(&copy_of(&lost)), Err(DbError::Missing { file }) if &file == path), "{path:?}");
        let mut cut = files.clone();
        let bytes = cut.get_mut(path).unwrap();
        bytes.truncate(bytes.len() - 1);
        let refused = open(&copy_of(&cut));
        let is_named = matches!(
            &refused,
            Err(DbError::Truncated { file, .. } | DbError::Corrupt { file, .. }) if file == path
        );
        assert!(is_named, "{path:?}: {:?}", refused.map(drop));
    }
}

#[test]
fn what_is_written_after_a_closed_manifest_was_copied_may_have_holes() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open(&disk).unwrap();
    append(&db, &["the first"]);
    drop(db);
    let manifest = Path::new(DIR).join("MANIFEST");
    let closed = files_of(disk.as_ref(), Path::new(DIR))[&manifest].clone();
    let db = open(&disk).unwrap();
    append(&db, &["the second"]);
    append(&db, &["the third"]);
    let mut files = files_of(disk.as_ref(), Path::new(DIR));
    files.insert(manifest, closed);
    let log = newest(&files, ".kwal");
    let bytes = files.get_mut(&log).unwrap();
    let second = place_of(bytes, "the second");
    bytes[second] = 0;
    let report = open_copy(&files, &["the first"]);
    assert_eq!(report.torn_tails.len(), 1);
    // Below the length that the manifest gives, it is damage.
    let bytes = files.get_mut(&log).unwrap();
    let first = place_of(bytes, "the first");
    bytes[first] = 0;
    assert!(matches!(open(&copy_of(&files)), Err(DbError::Corrupt { file, .. }) if file == log));
}

#[test]
fn the_lock_file_tells_a_copy_from_the_original() {
    let disk = Arc::new(MemoryDisk::default());
    let lock = Path::new(DIR).join("LOCK");
    let is_copy = || {
        let db = open(&disk).unwrap();
        assert_eq!(ids_of(&db).len(), 1);
        db.open_report().is_copy
    };
    append(&open(&disk).unwrap(), &["a"]);
    assert!(!is_copy());
    // Moved as a whole: still the same file.
    disk.rename(Path::new(DIR), Path::new("elsewhere")).unwrap();
    disk.rename(Path::new("elsewhere"), Path::new(DIR)).unwrap();
    assert!(!is_copy());
    let text = read_all(disk.as_ref(), &lock, 100).unwrap();
    put(disk.as_ref(), &lock, &text);
    assert!(is_copy(), "the same bytes in another file");
    assert!(!is_copy());
    disk.remove(&lock).unwrap();
    assert!(is_copy() && !is_copy());
    put(disk.as_ref(), &lock, b"4711\n");
    assert!(is_copy() && !is_copy());
}

#[test]
fn a_checkpoint_is_an_original() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open(&disk).unwrap();
    append(&db, &["a"]);
    db.checkpoint("copy").unwrap();
    let copy = open_in(&disk, Path::new("copy"), Duration::ZERO).unwrap();
    assert!(!copy.open_report().is_copy);
    assert_ids(&copy, &["a"]);
}

#[test]
fn a_crash_while_a_copy_is_opened_is_harmless() {
    let (before, after) = written(|db| {
        append(db, &["c", "d", "e", "f"]);
        append(db, &["the hole"]);
        db.delete_event("b").unwrap();
        append(db, &["h"]);
    });
    // A segment that is missing, a log that is cut.
    let mut files = root_last((before, after.clone()));
    let log = newest(&after, ".kwal");
    files.insert(log.clone(), after[&log].clone());
    let bytes = files.get_mut(&log).unwrap();
    let hole = place_of(bytes, "the hole");
    bytes[hole] = 0;
    let expected = {
        let db = open(&copy_of(&files)).unwrap();
        assert_eq!(db.open_report().torn_tails.len(), 1, "{:?}", db.open_report());
        ids_of(&db)
    };
    assert_eq!(expected.keys().collect::<Vec<_>>(), ["a"]);

    let sim = Arc::new(SimDisk::default());
    for (path, bytes) in &files {
        put(sim.as_ref(), path, bytes);
    }
    // Who copied them need not have synced them: here he has, or a power cut before the open would take them.
    for path in files.keys() {
        sim.open(path).unwrap().sync().unwrap();
        sim.sync_dir(path.parent().unwrap()).unwrap();
    }
    let moments = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&moments);
    sim.after_each(move |_, copy| found.lock().unwrap().push(copy));
    let db = open(&sim).unwrap();
    append(&db, &["later"]);
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 10);
    for (number, moment) in moments.iter().enumerate() {
        for seed in 0..8 {
            let disk = Arc::new(moment.power_cut(seed));
            let db = open(&disk).unwrap_or_else(|error| panic!("moment {number}, seed {seed}: {error}"));
            let mut ids = ids_of(&db);
            ids.remove("later");
            assert_eq!(ids, expected, "moment {number}, seed {seed}");
        }
    }
    // What an opened copy shows is on disk, whether or not the copying program synced it.
    let unsynced = Arc::new(SimDisk::default());
    for (path, bytes) in &files {
        put(unsynced.as_ref(), path, bytes);
    }
    let _db = open(&unsynced).unwrap();
    for seed in 0..8 {
        assert_eq!(ids_of(&open(&Arc::new(unsynced.power_cut(seed))).unwrap()), expected, "seed {seed}");
    }
}

/// What a history does to the table between two steps of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Append,
    Batch,
    Delete,
    Flush,
    Gc,
    /// Merges and rewrites segments; purges tombstones where nothing that was replaced is left.
    Compact,
}

/// The state of a table by what its callers know.
#[derive(Debug, Default, Clone)]
struct Acknowledged {
    /// Every id that was ever submitted.
    all: BTreeSet<String>,
    deleted: BTreeSet<String>,
    dropped: BTreeSet<String>,
    batches: Vec<Vec<String>>,
}

impl Acknowledged {
    fn batch(&mut self, rows: usize) -> Vec<String> {
        let first = self.all.len();
        let ids: Vec<String> = (first..first + rows).map(|number| format!("{number:03}")).collect();
        self.all.extend(ids.iter().cloned());
        self.batches.push(ids.clone());
        ids
    }

    fn perform(&mut self, db: &Db, step: Step) {
        match step {
            Step::Append => append(db, &self.batch(1).iter().map(String::as_str).collect::<Vec<_>>()),
            Step::Batch => append(db, &self.batch(4).iter().map(String::as_str).collect::<Vec<_>>()),
            Step::Delete => {
                // One of the oldest that is left, in a segment as a rule, and one of the newest, in a log.
                let live: Vec<_> = self.all.difference(&self.deleted).cloned().collect();
                let (Some(old), Some(new)) = (live.get(1), live.last()) else { return };
                let chosen = [old.clone(), new.clone()];
                db.delete_events(&chosen.each_ref().map(String::as_str)).unwrap();
                self.deleted.extend(chosen);
            }
            Step::Flush => drop(db.flush().unwrap()),
            Step::Compact => {
                db.compact(Budget::UNLIMITED).unwrap();
            }
            Step::Gc => {
                let before: BTreeSet<String> = ids_of(db).into_keys().collect();
                db.gc(i64::MAX).unwrap();
                let after = ids_of(db);
                self.dropped.extend(before.into_iter().filter(|id| !after.contains_key(id)));
            }
        }
    }
}

/// The order in which a copying program goes through the directory.
#[derive(Debug, Clone, Copy)]
enum Order {
    ManifestFirst,
    FoldersFirst,
    FoldersReversed,
    /// Lists every folder at the beginning, copies the logs, then segments, then the rest.
    ListedAtOnce,
}

const ORDERS: [Order; 4] =
    [Order::ManifestFirst, Order::FoldersFirst, Order::FoldersReversed, Order::ListedAtOnce];

/// A copy of a directory in steps. `before_step` runs before each listing, and before each piece of each file.
struct Copying<'a> {
    source: &'a dyn Disk,
    target: &'a dyn Disk,
    from: &'a Path,
    to: &'a Path,
    /// How much of a file is read at first, and how much then at a time.
    pieces: (usize, usize),
    before_step: &'a mut dyn FnMut(),
}

impl Copying<'_> {
    fn run(&mut self, order: Order) {
        let root = self.list("");
        self.target.create_dir(self.to).unwrap();
        let is_manifest = |name: &String| name == "MANIFEST";
        let (manifest, others): (Vec<_>, Vec<_>) = root.into_iter().partition(is_manifest);
        match order {
            Order::ManifestFirst => {
                self.files("", &manifest);
                self.files("", &others);
                self.folder("segments");
                self.folder("wal");
            }
            Order::FoldersFirst => {
                self.folder("segments");
                self.folder("wal");
                self.files("", &others);
                self.files("", &manifest);
            }
            Order::FoldersReversed => {
                self.files("", &others);
                self.folder("wal");
                self.files("", &manifest);
                self.folder("segments");
            }
            Order::ListedAtOnce => {
                let wals = self.list("wal");
                let segments = self.list("segments");
                self.files("wal", &wals);
                self.files("segments", &segments);
                self.files("", &others);
                self.files("", &manifest);
            }
        }
    }

    fn folder(&mut self, folder: &str) {
        let names = self.list(folder);
        self.files(folder, &names);
    }

    /// The files of a folder.
    fn list(&mut self, folder: &str) -> Vec<String> {
        (self.before_step)();
        let entries = self.source.list(&self.from.join(folder)).unwrap();
        entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name).collect()
    }

    fn files(&mut self, folder: &str, names: &[String]) {
        self.target.create_dir(&self.to.join(folder)).unwrap();
        for name in names {
            (self.before_step)();
            let path = Path::new(folder).join(name);
            let source = match self.source.open_read(&self.from.join(&path)) {
                // What a copying program reports and passes over: its grace, or its use, was over. If it is needed all the
                // same, the copy will lack something.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                source => source.unwrap(),
            };
            let target = self.target.create(&self.to.join(&path)).unwrap();
            let (mut offset, mut piece) = (0, vec![0; self.pieces.0]);
            loop {
                let read = source.read_at(&mut piece, offset).unwrap();
                target.write_at(&piece[..read], offset).unwrap();
                offset += read as u64;
                if read < piece.len() {
                    break;
                }
                piece.resize(self.pieces.1, 0);
                (self.before_step)();
            }
        }
    }
}

/// What a copy shows must be possible, by what was known when it began and when it ended.
fn judge(copy: &BTreeMap<String, usize>, began: &Acknowledged, ended: &Acknowledged, what: &str) {
    for (id, count) in copy {
        assert_eq!(*count, 1, "{what}: {id} is there {count} times");
        assert!(ended.all.contains(id), "{what}: nobody wrote {id}");
        assert!(!began.deleted.contains(id) && !began.dropped.contains(id), "{what}: {id} is back");
    }
    for id in &began.all {
        let may_lack = ended.deleted.contains(id) || ended.dropped.contains(id);
        assert!(may_lack || copy.contains_key(id), "{what}: {id} is gone");
    }
    for batch in &ended.batches {
        let is_gone = |id: &&String| !ended.deleted.contains(*id) && !ended.dropped.contains(*id);
        let untouched: Vec<_> = batch.iter().filter(is_gone).collect();
        let there = untouched.iter().filter(|id| copy.contains_key(**id)).count();
        assert!(there == 0 || there == untouched.len(), "{what}: half of {batch:?}");
    }
}

/// What came of a copy.
struct Taken {
    /// How many steps it had.
    steps: usize,
    /// Whether it lacked anything.
    lacks: bool,
    /// Whether tombstones were purged meanwhile.
    purged: bool,
}

/// Takes a copy during which each step of the history happens before the copy's step of that number.
fn interleave(order: Order, history: &[(usize, Step)], prefix: &[Step]) -> Taken {
    let disk = Arc::new(MemoryDisk::default());
    let mut known = Acknowledged::default();
    // What the first of them replace is gone, so that tombstones can be purged; the last leave files in their grace.
    let (settled, last) = prefix.split_at(prefix.len() / 2);
    let db = open_in(&disk, Path::new(DIR), Duration::ZERO).unwrap();
    for step in settled {
        known.perform(&db, *step);
    }
    drop(db);
    let db = open(&disk).unwrap();
    for step in last {
        known.perform(&db, *step);
    }
    let began = known.clone();
    let target = Arc::new(MemoryDisk::default());
    let mut steps = 0;
    let mut rest = history.iter().peekable();
    let mut before_step = || {
        while let Some((_, step)) = rest.next_if(|(at, _)| *at <= steps) {
            known.perform(&db, *step);
        }
        steps += 1;
    };
    Copying {
        source: disk.as_ref(),
        target: target.as_ref(),
        from: Path::new(DIR),
        to: Path::new(DIR),
        pieces: (300, 1 << 20),
        before_step: &mut before_step,
    }
    .run(order);
    let what = format!("{order:?}, {history:?} after {prefix:?}");
    let copy = open(&target).unwrap_or_else(|error| panic!("{what}: {error}"));
    let report = copy.open_report();
    assert!(report.is_copy && report.manifest_rebuilt.is_none(), "{what}");
    let shown = ids_of(&copy);
    judge(&shown, &began, &known, &what);
    let lacks = !report.torn_tails.is_empty() || !report.missing_logs.is_empty();
    drop(copy);
    let again = open(&target).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert!(!again.open_report().is_copy && ids_of(&again) == shown, "{what}, again");
    let purged = disk.bytes(&Path::new(DIR).join("tombstones.0000000000000002")).unwrap().is_some();
    Taken { steps, lacks, purged }
}

#[test]
fn a_copy_opens_whatever_happens_between_any_two_of_its_steps() {
    use Step::{Append, Batch, Compact, Delete, Flush, Gc};
    // Tombstones that the first compaction purges.
    let purges_next = [Batch, Delete, Flush, Append, Append, Append];
    // The next segment completes a class, and is merged with the others.
    let merges_next = [[Append, Flush].repeat(7), vec![Append]].concat();
    let steps = [Append, Batch, Delete, Flush, Gc, Compact];
    let mut taken = Vec::new();
    let prefixes = [&purges_next[..], &merges_next[..]].into_iter().cycle();
    for (number, (order, prefix)) in ORDERS.into_iter().zip(prefixes).enumerate() {
        let count = interleave(order, &[], prefix).steps;
        for (place, first) in steps.into_iter().enumerate() {
            // Each pair with both beginnings, in one order each.
            for second in steps.into_iter().skip((number / 2 + place) % 2).step_by(2) {
                for at in 0..=count {
                    for then in (at..=count).step_by(2) {
                        taken.push(interleave(order, &[(at, first), (then, second)], prefix));
                    }
                }
            }
        }
        // Longer ones, a few of their interleavings.
        let mut random = Random::new(11);
        for _ in 0..500 {
            let length = 3 + random.below(6);
            let mut history: Vec<_> =
                (0..length).map(|_| (random.below(count + 1), *random.pick(&steps))).collect();
            history.sort_by_key(|(at, _)| *at);
            taken.push(interleave(order, &history, prefix));
        }
    }
    let count = |is_so: fn(&Taken) -> bool| taken.iter().filter(|taken| is_so(taken)).count();
    let (lacking, purged) = (count(|taken| taken.lacks), count(|taken| taken.purged));
    let what = format!("{} copies, {lacking} lacked something, {purged} met a purge", taken.len());
    assert!(taken.len() > 5_000 && lacking > 100 && purged > 100, "{what}");
}

/// Replaced files stay this long; a copy that took more than half of it proves nothing.
const GRACE: Duration = Duration::from_secs(4);
const COPIES: u64 = 30;
/// Rows older than this many are gone with the next gc.
const KEPT_ROWS: i64 = 2000;

/// What all threads of the load know.
#[derive(Debug, Default)]
struct Load {
    known: Mutex<Known>,
    clock: AtomicI64,
    stop: AtomicBool,
}

/// By id, what was asked for and what is certain.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Submitted, with its time.
    asked: BTreeMap<String, i64>,
    /// Appended, and on disk.
    synced: BTreeSet<String>,
    delete_asked: BTreeSet<String>,
    deleted: BTreeSet<String>,
    /// The highest cutoff that a gc was asked for.
    cutoff: i64,
}

impl Load {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// One thread of the load: appends single events and batches, deletes some of its own, flushes, drops old ones.
    fn run(&self, db: &Db, thread: u64) {
        let mut random = Random::new(thread);
        let mut mine = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let rows = if random.percent(70) { 1 } else { 2 + random.below(20) };
            let first = self.clock.load(Ordering::Relaxed);
            let batch: Vec<Event> = (0..rows)
                .map(|row| {
                    let ts_ns = self.clock.fetch_add(1, Ordering::Relaxed);
                    let mut event = event(&format!("{first} of {thread}.{row}"), ts_ns);
                    event.labels = ["x".repeat(random.below(300))];
                    event
                })
                .collect();
            self.known().asked.extend(batch.iter().map(|event| (event.id.clone(), event.ts_ns)));
            db.append_batch_durable(&batch).unwrap();
            self.known().synced.extend(batch.iter().map(|event| event.id.clone()));
            mine.extend(batch.into_iter().map(|event| event.id));
            if random.percent(5) {
                let chosen: Vec<String> = (0..3).map(|_| random.pick(&mine).clone()).collect();
                self.known().delete_asked.extend(chosen.iter().cloned());
                db.delete_events(&chosen.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
                self.known().deleted.extend(chosen);
            }
            if random.percent(1) {
                db.flush().unwrap();
            }
            if random.percent(1) {
                let cutoff = self.clock.load(Ordering::Relaxed) - KEPT_ROWS;
                let before = self.known().cutoff;
                self.known().cutoff = before.max(cutoff);
                db.gc(cutoff).unwrap();
            }
            if random.percent(1) {
                db.maintain(Budget::rows(5000)).unwrap();
            }
        }
    }
}

#[test]
fn copies_taken_under_load_open_with_everything_that_was_synced() {
    let copies = naive::random::number_of("KEPLORDB_COPIES").unwrap_or(COPIES);
    let place = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk);
    let dir = place.path().join("live");
    let open = |dir: &Path| {
        let config = EngineConfig {
            data_dir: dir.to_owned(),
            wal_max_events: 200,
            wal_shard_count: 3,
            ..EngineConfig::default()
        };
        let options = Options::default()
            .disk(Arc::clone(&disk) as Arc<dyn Disk>)
            .sync(Sync::Every { events: 10, bytes: 10_000 })
            .unlink_grace(GRACE);
        Db::open_with(config, options)
    };
    let db = open(&dir).unwrap();
    let load = Load::default();
    let (mut lacking, mut taken, mut tries, mut refused) = (0, 0, 0, 0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (db, load) = (&db, &load);
            scope.spawn(move || load.run(db, thread));
        }
        // A failed copy must not leave the load running for ever.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut random = Random::new(99);
            while taken < copies {
                tries += 1;
                assert!(tries < 4 * copies, "the machine is too slow for copies within the grace");
                let order = ORDERS[usize::try_from(tries).unwrap() % ORDERS.len()];
                let to = place.path().join(format!("copy {tries}"));
                let pieces = *random.pick(&[(4096, 4096), (512, 4096), (1 << 20, 1 << 20)]);
                let pause = Duration::from_micros(*random.pick(&[0, 0, 50, 300]));
                let began_at = Instant::now();
                let began = load.known().clone();
                let mut before_step = || {
                    if !pause.is_zero() && began_at.elapsed() < GRACE / 4 {
                        std::thread::sleep(pause);
                    }
                };
                Copying {
                    source: disk.as_ref(),
                    target: disk.as_ref(),
                    from: &dir,
                    to: &to,
                    pieces,
                    before_step: &mut before_step,
                }
                .run(order);
                let took = began_at.elapsed();
                let ended = load.known().clone();
                if took > GRACE / 2 {
                    continue;
                }
                let what = format!("copy {tries}, {order:?}, {pieces:?}, {took:?}");
                let copy = match open(&to) {
                    Ok(copy) => copy,
                    // A directory of a thousand names is read in pieces, and of two logs that are made meanwhile the listing may
                    // have the younger alone. Such a copy is refused, and nothing is lost; another one is made.
                    Err(DbError::Missing { file }) if file.extension() == Some("kwal".as_ref()) => {
                        refused += 1;
                        assert!(refused * 10 <= copies, "{what}: {} is missing, once more", file.display());
                        std::fs::remove_dir_all(&to).unwrap();
                        continue;
                    }
                    Err(error) => panic!("{what}: {error}"),
                };
                taken += 1;
                let report = copy.open_report();
                assert!(report.is_copy && report.manifest_rebuilt.is_none(), "{what}");
                lacking += usize::from(!report.torn_tails.is_empty() || !report.missing_logs.is_empty());
                judge_load(&ids_of(&copy), &began, &ended, &what);
                drop(copy);
                std::fs::remove_dir_all(&to).unwrap();
            }
        }));
        load.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(lacking > 0, "no copy met the engine at work");
    drop(db);
    assert_eq!(open(&dir).unwrap().open_report().manifest_rebuilt, None);
}

/// As [`judge`], by what the threads of a load knew.
fn judge_load(copy: &BTreeMap<String, usize>, began: &Known, ended: &Known, what: &str) {
    for (id, count) in copy {
        assert_eq!(*count, 1, "{what}: {id} is there {count} times");
        assert!(ended.asked.contains_key(id), "{what}: nobody wrote {id}");
        assert!(!began.deleted.contains(id), "{what}: {id} is back");
    }
    let may_lack = |id: &String| ended.delete_asked.contains(id) || ended.asked[id] < ended.cutoff;
    for id in &began.synced {
        assert!(may_lack(id) || copy.contains_key(id), "{what}: {id} is gone");
    }
    let mut batches: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for id in ended.asked.keys() {
        batches.entry(id.split('.').next().unwrap_or(id)).or_default().push(id);
    }
    for batch in batches.into_values().filter(|batch| !batch.iter().any(|id| may_lack(id))) {
        let there = batch.iter().filter(|id| copy.contains_key(**id)).count();
        assert!(there == 0 || there == batch.len(), "{what}: {there} of {batch:?}");
    }
}
