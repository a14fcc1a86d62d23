//! Open after anything: each state that a crash, a stranger or another program may leave has a named test. Directories are
//! made by an engine on a disk in memory, changed as files, and opened; what is damaged must be refused with its file and
//! place and without changing a byte, what a crash leaves must be mended, said in the report, and lose nothing.
#![expect(clippy::cast_possible_truncation, reason = "counts of a test are small")]

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use keplordb::disk::sim::{Fault, FaultKind};
use keplordb::disk::{Disk, MemoryDisk, RealDisk, SimDisk, read_all};
use keplordb::{
    Budget, DbError, Depth, Engine, EngineConfig, LogEvent, OnCorruption, OpenReport, Options, QueryFilter,
    Schema, Store, Sync, TableSchema, verify_dir,
};
use naive::crowded::CrowdedDisk;
use naive::files::{Files, disk_of, files_of, only, put};

type Db = Engine<1, 1, 1>;
type Event = LogEvent<1, 1, 1>;

const DIR: &str = "events";
const FIRST_WAL: &str = "events/wal/0000000000000001.kwal";
/// The name of a table's first tombstone log.
const TOMBSTONES: &str = "tombstones.0000000000000001";

fn config() -> EngineConfig {
    EngineConfig { data_dir: DIR.into(), schema_id: 3, rollup_dims: vec![0], ..EngineConfig::default() }
}

fn open_on(disk: &Arc<impl Disk + 'static>) -> Result<Db, DbError> {
    // Without grace only what is needed stays, so that each file that goes must be missed.
    let options = Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>).unlink_grace(Duration::ZERO);
    Db::open_with(config(), options)
}

/// Opens a disk with these files.
fn open_files(files: &Files) -> Result<Db, DbError> {
    open_on(&disk_of(files))
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

/// What must be the same however the directory came to be.
fn answers(db: &Db) -> String {
    let rows = db.query_recent(&QueryFilter::default(), usize::MAX).unwrap();
    let totals = db.aggregate(&QueryFilter::default()).unwrap();
    let rollups = db.query_rollups(i64::MIN, i64::MAX, &[]).unwrap();
    format!("{rows:?} {totals:?} {rollups:?} {}", db.total_events())
}

/// A directory with two segments, a log, and deletes in each of them.
fn fill(disk: &Arc<impl Disk + 'static>) -> Db {
    let db = open_on(disk).unwrap();
    for (round, name) in ["a", "b", "c"].into_iter().enumerate() {
        for number in 0..20 {
            db.append(&event(&format!("{name}{number}"), 100 * number + round as i64)).unwrap();
        }
        if name != "c" {
            db.flush().unwrap();
        }
    }
    assert_eq!(db.delete_events(&["a3", "b19", "c0"]).unwrap(), 3);
    db
}

/// [`fill`], closed cleanly.
fn closed() -> (Files, String) {
    let disk = Arc::new(MemoryDisk::default());
    let db = fill(&disk);
    let answers = answers(&db);
    db.close().unwrap();
    (files_of(disk.as_ref(), Path::new(DIR)), answers)
}

/// [`fill`], killed.
fn killed() -> (Files, String) {
    let sim = Arc::new(SimDisk::default());
    let db = fill(&sim);
    (files_of(&sim.kill(), Path::new(DIR)), answers(&db))
}

#[test]
fn a_second_open_says_which_process_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    for disk in [Arc::new(RealDisk) as Arc<dyn Disk>, Arc::new(MemoryDisk::default())] {
        let config = EngineConfig { data_dir: dir.path().join("events"), ..config() };
        let open = || Db::open_with(config.clone(), Options::default().disk(Arc::clone(&disk)));
        let first = open().unwrap();
        let error = open().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} is already open by process {}; one engine at a time may write a directory: close that one, or share it",
                config.data_dir.display(),
                std::process::id()
            )
        );
        assert!(matches!(error, DbError::AlreadyOpen { pid: Some(pid), .. } if pid == std::process::id()));
        drop(first);
        open().unwrap();
    }
}

#[test]
fn another_schema_is_refused_in_words() {
    let disk = Arc::new(MemoryDisk::default());
    let stored = TableSchema::new(3).dim("user").dim("model").counter("tokens").label("prompt");
    let differences = |schema: TableSchema| {
        fn open<const D: usize, const C: usize, const L: usize>(
            disk: &Arc<MemoryDisk>,
            schema: TableSchema,
        ) -> Result<u64, DbError> {
            let config =
                EngineConfig { schema_id: schema.id(), data_dir: DIR.into(), ..EngineConfig::default() };
            let options = Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>).schema(schema);
            Engine::<D, C, L>::open_with(config, options).map(|db| db.total_events())
        }
        let shape = (schema.dims().len(), schema.counters().len(), schema.labels().len());
        let opened = match shape {
            (2, 1, 1) => open::<2, 1, 1>(&disk, schema),
            (1, 1, 1) => open::<1, 1, 1>(&disk, schema),
            (2, 0, 0) => open::<2, 0, 0>(&disk, schema),
            other => panic!("{other:?}"),
        };
        match opened {
            Ok(_) => String::new(),
            Err(DbError::SchemaMismatch { dir, differences }) => {
                assert_eq!(dir, Path::new(DIR));
                differences
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(differences(stored.clone()), "");
    let before = files_of(disk.as_ref(), Path::new(DIR));
    let base = || TableSchema::new(3);
    for (schema, expected) in [
        (
            TableSchema::new(4).dim("user").dim("model").counter("tokens").label("prompt"),
            "schema id 4 instead of the stored 3",
        ),
        (
            base().dim("model").dim("user").counter("tokens").label("prompt"),
            "dim 0 is \"model\" instead of the stored \"user\"; dim 1 is \"user\" instead of the stored \"model\"",
        ),
        (
            base().dim("user").dim("model").counter("retries").label("prompt"),
            "counter 0 is \"retries\" instead of the stored \"tokens\"",
        ),
        (
            base().dim("user").counter("tokens").label("prompt"),
            "1 dim columns instead of at least the stored 2 (lacking: model)",
        ),
        (
            base().dim("user").dim("model"),
            "0 counter columns instead of at least the stored 1 (lacking: tokens); \
             0 label columns instead of at least the stored 1 (lacking: prompt)",
        ),
    ] {
        assert_eq!(differences(schema), expected);
    }
    assert_eq!(files_of(disk.as_ref(), Path::new(DIR)), before, "a refusal changes nothing");
}

mod old {
    /// The event type before it grew.
    #[derive(keplordb::Schema)]
    #[keplordb(id = 5)]
    pub(crate) struct Call {
        #[dim(rollup)]
        pub(crate) user: String,
        #[counter]
        pub(crate) tokens: u32,
        #[label]
        pub(crate) prompt: String,
    }
}

mod new {
    /// The event type with a column more in each role.
    #[derive(keplordb::Schema)]
    #[keplordb(id = 5)]
    pub(crate) struct Call {
        #[dim(rollup)]
        pub(crate) user: String,
        #[dim(rollup)]
        pub(crate) model: String,
        #[counter]
        pub(crate) tokens: u32,
        #[counter]
        pub(crate) retries: u32,
        #[label]
        pub(crate) prompt: String,
        #[label]
        pub(crate) answer: String,
    }
}

#[test]
fn rows_from_before_a_column_was_added_read_as_empty_and_zero() {
    fn open<S: Schema>(disk: &Arc<dyn Disk>) -> Result<Store<S>, DbError> {
        Store::open_with(S::default_config(DIR.into()), Options::default().disk(Arc::clone(disk)))
    }
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    {
        let store = open::<old::Call>(&disk).unwrap();
        store.append(old::Call::new(1).user("in a segment").tokens(10).prompt("p")).unwrap();
        store.flush().unwrap();
        store.append(old::Call::new(2).user("in a log").tokens(20).prompt("q")).unwrap();
    }
    for reopened in 0..3_u32 {
        let store = open::<new::Call>(&disk).unwrap();
        store
            .append(new::Call::new(3).user("new").model("opus").tokens(1).retries(7).prompt("r").answer("s"))
            .unwrap();
        let rows = store.query(new::Call::filter().model("")).oldest_first().rows().unwrap();
        let old: Vec<_> = rows
            .iter()
            .map(|row| (row.user(), row.model(), row.tokens(), row.retries(), row.prompt(), row.answer()))
            .collect();
        assert_eq!(old, [("in a segment", "", 10, 0, "p", ""), ("in a log", "", 20, 0, "q", "")]);
        let totals = store.query(new::Call::filter()).totals().unwrap();
        let fresh = u64::from(reopened) + 1;
        assert_eq!((totals.event_count, totals.counters), (2 + fresh, [30 + fresh, 7 * fresh]));
        assert_eq!((totals.counters_min, totals.counters_max), ([Some(1), Some(0)], [Some(20), Some(7)]));
        let rollups = store.rollups(0, 0, &[None, Some("")]).unwrap();
        assert_eq!(
            rollups.iter().map(|(key, _)| key.dims[0].as_str()).collect::<Vec<_>>(),
            ["in a log", "in a segment"]
        );
        if reopened == 1 {
            store.flush().unwrap();
        }
    }
    match open::<old::Call>(&disk) {
        Err(DbError::SchemaMismatch { differences, .. }) => assert_eq!(
            differences,
            "1 dim columns instead of at least the stored 2 (lacking: model); \
             1 counter columns instead of at least the stored 2 (lacking: retries); \
             1 label columns instead of at least the stored 2 (lacking: answer)"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clean_close_and_a_kill_open_alike() {
    let (files, expected) = closed();
    let db = open_files(&files).unwrap();
    assert_eq!(answers(&db), expected);
    let report = db.open_report();
    assert_eq!((report.created, report.replayed_rows, report.torn_tails.len()), (false, 20, 0), "{report:?}");

    let (files, expected) = killed();
    let disk = disk_of(&files);
    for _ in 0..3 {
        let db = open_on(&disk).unwrap();
        assert_eq!(answers(&db), expected);
        assert_eq!((db.open_report().torn_tails.len(), &db.open_report().manifest_rebuilt), (0, &None));
    }
}

/// The manifest, which the other files imply, and its spare, which means nothing before it takes the manifest's place.
fn is_manifest(path: &Path) -> bool {
    path.ends_with("MANIFEST") || path.ends_with("MANIFEST.spare")
}

#[test]
fn a_file_that_the_manifest_lists_and_that_is_gone_is_missing() {
    let (files, _) = closed();
    for lost in files.keys().filter(|path| !is_manifest(path)) {
        let mut files = files.clone();
        files.remove(lost);
        match open_files(&files) {
            Err(DbError::Missing { file }) => assert_eq!(&file, lost),
            other => panic!("{} is lost: {:?}", lost.display(), other.map(drop)),
        }
    }
}

#[test]
fn a_file_that_was_cut_after_a_clean_close_is_truncated_or_corrupt() {
    let (files, _) = closed();
    for (cut, bytes) in files.iter().filter(|(path, _)| !is_manifest(path)) {
        for length in [0, 7, 40, bytes.len() / 2, bytes.len() - 1] {
            let mut files = files.clone();
            files.insert(cut.clone(), bytes[..length].to_vec());
            match open_files(&files) {
                Err(DbError::Truncated { file, found_bytes, expected_bytes }) => {
                    assert_eq!((&file, found_bytes), (cut, length as u64));
                    assert!(expected_bytes > found_bytes && expected_bytes <= bytes.len() as u64);
                }
                Err(DbError::Corrupt { file, .. }) => assert_eq!(&file, cut),
                other => panic!("{} of {} bytes: {:?}", cut.display(), length, other.map(drop)),
            }
        }
    }
}

#[test]
fn damage_below_the_watermark_is_corrupt_with_file_and_offset() {
    let sim = Arc::new(SimDisk::default());
    let db = open_on(&sim).unwrap();
    let mut frames = Vec::new();
    for number in 0..4 {
        db.append(&event(&number.to_string(), number)).unwrap();
        frames.push(db.total_bytes());
    }
    let files = files_of(&sim.kill(), Path::new(DIR));
    // The first frame ends where the log ended after the first append; the frame behind says that it was synced.
    let first = frames[0] - (frames[1] - frames[0]);
    for (offset, frame) in
        [(first, first), (first + 20, first), (frames[0] - 9, first), (frames[0], frames[0])]
    {
        let mut files = files.clone();
        files.get_mut(Path::new(FIRST_WAL)).unwrap()[offset as usize] ^= 1;
        match open_files(&files) {
            Err(DbError::Corrupt { file, offset: found, what }) => {
                assert_eq!((file.as_path(), found), (Path::new(FIRST_WAL), frame), "{what}");
            }
            other => panic!("flip at {offset}: {:?}", other.map(drop)),
        }
    }
}

#[test]
fn a_torn_tail_is_cut_back_reported_and_written_on() {
    let sim = Arc::new(SimDisk::default());
    let options = Options::default().disk(Arc::clone(&sim) as Arc<dyn Disk>).sync(Sync::Os);
    let db = Db::open_with(config(), options).unwrap();
    db.append_durable(&event("kept", 1)).unwrap();
    let kept_bytes = db.total_bytes();
    db.append_batch(&[event("torn", 2), event("torn", 3)]).unwrap();
    let bytes = db.total_bytes();
    let files = files_of(&sim.kill(), Path::new(DIR));
    for (torn, bit) in [(kept_bytes, 1), (kept_bytes + 13, 1), (bytes - 9, 0x80), (kept_bytes + 40, 4)] {
        let mut files = files.clone();
        files.get_mut(Path::new(FIRST_WAL)).unwrap()[torn as usize] ^= bit;
        let disk = disk_of(&files);
        let db = open_on(&disk).unwrap();
        let [tail] = &db.open_report().torn_tails[..] else { panic!("{:?}", db.open_report()) };
        assert_eq!((tail.file.as_path(), tail.offset), (Path::new(FIRST_WAL), kept_bytes));
        // Zeros at its end cannot be told from space that was never written.
        assert!((1..=bytes - kept_bytes).contains(&tail.bytes), "{tail:?}");
        assert_eq!(ids(&db), ["kept"]);
        // What is written where it was survives, and nothing of it comes back.
        db.append(&event("after", 4)).unwrap();
        drop(db);
        let db = open_on(&disk).unwrap();
        assert_eq!(ids(&db), ["after", "kept"]);
        assert!(db.open_report().torn_tails.is_empty());
    }
    // Cut instead of damaged: at every length of the tail.
    for length in kept_bytes..bytes {
        let mut files = files.clone();
        files.get_mut(Path::new(FIRST_WAL)).unwrap().truncate(length as usize);
        let db = open_files(&files).unwrap();
        assert_eq!(ids(&db), ["kept"]);
        assert_eq!(db.open_report().torn_tails.len(), usize::from(length > kept_bytes), "{length}");
    }
}

#[test]
fn a_log_that_lost_its_closing_frame_is_corrupt_when_another_followed() {
    let (files, expected) = two_live_logs();
    assert_eq!(answers(&open_files(&files).unwrap()), expected);
    let mut files = files;
    let first = files.get_mut(Path::new(FIRST_WAL)).unwrap();
    first.truncate(first.len() - 32);
    match open_files(&files) {
        Err(DbError::Corrupt { file, .. } | DbError::Truncated { file, .. }) => {
            assert_eq!(file, Path::new(FIRST_WAL));
        }
        other => panic!("{:?}", other.map(drop)),
    }
}

/// A rotation that could not write its segment, rows that came after it, and a kill.
fn two_live_logs() -> (Files, String) {
    let sim = Arc::new(SimDisk::default());
    let config = EngineConfig { wal_max_events: 10, ..config() };
    let options = Options::default().disk(Arc::clone(&sim) as Arc<dyn Disk>);
    let db = Db::open_with(config, options).unwrap();
    for number in 0..9 {
        db.append(&event(&number.to_string(), number)).unwrap();
    }
    // Making the segment's file is the first operation of the rotation that needs a new name.
    let before = sim.operations();
    let full = Fault { at: before + 1, kind: FaultKind::Io, forever: false };
    let rotation = sim.kill();
    {
        // Find the operation on a copy.
        let rotation = Arc::new(rotation);
        let db = Db::open_with(
            EngineConfig { wal_max_events: 10, ..self::config() },
            Options::default().disk(Arc::clone(&rotation) as Arc<dyn Disk>),
        )
        .unwrap();
        let before_append = rotation.operations();
        db.append(&event("9", 9)).unwrap();
        let trace = rotation.trace();
        let create = trace.iter().find(|operation| {
            operation.number > before_append && operation.path.to_string_lossy().contains(".kseg")
        });
        let steps = create.expect("the rotation makes a segment").number - before_append;
        sim.fail(Fault { at: before + steps, ..full });
    }
    db.append(&event("9", 9)).unwrap();
    assert_eq!(sim.faults_hit(), 1);
    assert!(db.stats().last_error.is_some(), "a failed rotation is said in the statistics");
    assert_eq!((db.segment_count(), db.wal_count()), (0, 10));
    db.append(&event("10", 10)).unwrap();
    (files_of(&sim.kill(), Path::new(DIR)), answers(&db))
}

#[test]
fn two_live_logs_of_a_shard_are_both_replayed() {
    let (files, expected) = two_live_logs();
    assert_eq!(files.keys().filter(|path| path.extension().is_some_and(|end| end == "kwal")).count(), 2);
    let disk = disk_of(&files);
    let db = open_on(&disk).unwrap();
    assert_eq!((answers(&db), db.open_report().replayed_rows), (expected.clone(), 11));
    assert_eq!(db.flush().unwrap().rows, 11);
    assert_eq!(answers(&db), expected);
    drop(db);
    assert_eq!(answers(&open_on(&disk).unwrap()), expected);
}

#[test]
fn a_kill_at_any_moment_of_a_rotation_loses_and_doubles_nothing() {
    let sim = Arc::new(SimDisk::default());
    let db = fill(&sim);
    let expected = answers(&db);
    let moments = Arc::new(std::sync::Mutex::new(Vec::new()));
    let found = Arc::clone(&moments);
    sim.after_each(move |_, copy| found.lock().unwrap().push(Arc::new(copy)));
    db.flush().unwrap();
    drop(db);
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 5, "{} moments", moments.len());
    for (number, moment) in moments.iter().enumerate() {
        for disk in
            [Arc::clone(moment), Arc::new(moment.power_cut(0)), Arc::new(moment.power_cut(number as u64))]
        {
            let first = open_on(&disk).unwrap_or_else(|error| panic!("moment {number}: {error}"));
            assert!(first.open_report().quarantined.is_empty(), "moment {number}");
            assert_eq!(answers(&first), expected, "moment {number}");
            drop(first);
            assert_eq!(answers(&open_on(&disk).unwrap()), expected, "moment {number}, again");
        }
    }
}

#[test]
fn a_plain_copy_of_a_live_directory_opens_with_every_row_once() {
    // The copy reads file by file while a rotation happens between any two of them.
    let options = |sim: &Arc<SimDisk>| {
        Options::default().disk(Arc::clone(sim) as Arc<dyn Disk>).unlink_grace(Duration::from_secs(60))
    };
    let names = |sim: &SimDisk| files_of(sim, Path::new(DIR)).into_keys().collect::<Vec<PathBuf>>();
    let files_at_start = {
        let sim = Arc::new(SimDisk::default());
        let _db = fill(&sim);
        names(&sim).len()
    };
    for split in 0..=files_at_start {
        for manifest_first in [true, false] {
            let sim = Arc::new(SimDisk::default());
            let db = fill(&sim);
            let expected = answers(&db);
            let mut paths = names(&sim);
            paths.sort_by_key(|path| path.ends_with("MANIFEST") != manifest_first);
            let before = files_of(sim.as_ref(), Path::new(DIR));
            drop(db);
            let db = Db::open_with(config(), options(&sim)).unwrap();
            let before_rotation = files_of(sim.as_ref(), Path::new(DIR));
            assert_eq!(before.len(), before_rotation.len());
            db.flush().unwrap();
            let after = files_of(sim.as_ref(), Path::new(DIR));
            let mut copy = Files::new();
            for (number, path) in paths.iter().enumerate() {
                let source = if number < split { &before_rotation } else { &after };
                copy.extend(source.get(path).map(|bytes| (path.clone(), bytes.clone())));
            }
            // A copying program lists each directory when it comes to it: the new segment is seen or not.
            for with_segment in [false, true] {
                let mut copy = copy.clone();
                if with_segment || split < paths.len() {
                    copy.extend(
                        after
                            .iter()
                            .filter(|(path, _)| !paths.contains(path))
                            .map(|(p, b)| (p.clone(), b.clone())),
                    );
                }
                let opened =
                    open_files(&copy).unwrap_or_else(|error| panic!("{split} of {paths:?}: {error}"));
                assert_eq!(answers(&opened), expected, "{split} of {paths:?}");
            }
        }
    }
}

#[test]
fn a_lost_or_damaged_manifest_is_rebuilt_and_reported() {
    for (files, expected) in [closed(), killed()] {
        let manifest = only(&files, "MANIFEST");
        let mut lost = files.clone();
        lost.remove(&manifest);
        let mut flipped = files.clone();
        flipped.get_mut(&manifest).unwrap()[30] ^= 1;
        let mut cut = files.clone();
        cut.get_mut(&manifest).unwrap().truncate(20);
        let mut empty = files;
        empty.insert(manifest, Vec::new());
        for files in [lost, flipped, cut, empty] {
            let disk = disk_of(&files);
            let db = open_on(&disk).unwrap();
            let why = db.open_report().manifest_rebuilt.clone().expect("it is reported");
            assert!(why.contains("MANIFEST"), "{why}");
            assert_eq!(answers(&db), expected);
            db.append(&event("after", 9999)).unwrap();
            let expected = answers(&db);
            drop(db);
            let db = open_on(&disk).unwrap();
            assert_eq!(db.open_report().manifest_rebuilt, None);
            assert_eq!(answers(&db), expected);
        }
    }
}

#[test]
fn a_rebuilt_manifest_brings_back_nothing_that_gc_removed() {
    let sim = Arc::new(SimDisk::default());
    let db = open_on(&sim).unwrap();
    db.append(&event("old", 1)).unwrap();
    db.flush().unwrap();
    db.append(&event("new", 100)).unwrap();
    assert_eq!(db.gc(50).unwrap().events_deleted, 1);
    // Also if the names come back that a power cut can bring back.
    for after in [sim.kill(), sim.power_cut(0), sim.power_cut(1)] {
        let mut files = files_of(&after, Path::new(DIR));
        files.remove(&only(&files, "MANIFEST"));
        assert_eq!(ids(&open_files(&files).unwrap()), ["new"]);
    }
}

#[test]
fn a_newer_or_unsettled_format_is_not_damage() {
    let (files, _) = closed();
    for path in files.keys().filter(|path| !path.ends_with("MANIFEST.spare")) {
        let mut files = files.clone();
        files.get_mut(path).unwrap()[8] = 9;
        match open_files(&files) {
            Err(DbError::TooNew { file, found: 9, .. }) => assert_eq!(&file, path),
            other => panic!("{}: {:?}", path.display(), other.map(drop)),
        }
        files.get_mut(path).unwrap()[8] = 0;
        match open_files(&files) {
            Err(DbError::TooOld { file, found: 0, .. }) => assert_eq!(&file, path),
            other => panic!("{}: {:?}", path.display(), other.map(drop)),
        }
    }
}

#[test]
fn leftovers_of_a_crash_are_removed_and_strange_files_are_left_alone() {
    let (mut files, expected) = closed();
    let ours = [
        "events/MANIFEST.tmp",
        "events/tombstones.0000000000000001.tmp",
        "events/wal/00000000000000ff.kwal.tmp",
        "events/segments/00000000000000ff.kseg.tmp",
    ];
    let foreign = ["events/README", "events/segments/notes.txt", "events/wal/1.kwal"];
    for path in ours.iter().chain(&foreign) {
        files.insert(path.into(), b"half of something".to_vec());
    }
    // Replaced so long ago that the manifest lists it no more.
    let whole = files[Path::new("events/segments/0000000000000001.kseg")].clone();
    let replaced = "events/segments/0000000000000000.kseg";
    files.insert(replaced.into(), whole);
    let ours: Vec<&str> = ours.into_iter().chain([replaced]).collect();
    let disk = disk_of(&files);
    let db = open_on(&disk).unwrap();
    assert_eq!(db.open_report().leftovers_removed, ours.len() as u64);
    assert_eq!(answers(&db), expected);
    drop(db);
    let left = files_of(disk.as_ref(), Path::new(DIR));
    assert!(ours.iter().all(|path| !left.contains_key(Path::new(path))), "{:?}", left.keys());
    assert!(foreign.iter().all(|path| left.contains_key(Path::new(path))), "{:?}", left.keys());
}

/// A table of two segments beside the manifest of when it had one. A row of each was deleted after that.
fn with_an_older_manifest() -> Files {
    let disk = Arc::new(MemoryDisk::default());
    let append_ten = |name: &str| {
        let db = open_on(&disk).unwrap();
        for number in 0..10 {
            db.append(&event(&format!("{name}{number}"), number)).unwrap();
        }
        db.flush().unwrap();
        db
    };
    append_ten("a").close().unwrap();
    let older = files_of(disk.as_ref(), Path::new(DIR))[Path::new("events/MANIFEST")].clone();
    let db = append_ten("b");
    assert_eq!(db.delete_events(&["a3", "b3"]).unwrap(), 2);
    db.close().unwrap();
    let mut files = files_of(disk.as_ref(), Path::new(DIR));
    files.insert("events/MANIFEST".into(), older);
    files
}

#[test]
fn a_segment_that_an_older_manifest_does_not_know_is_set_aside_and_comes_back() {
    let second = PathBuf::from("events/segments/0000000000000002.kseg");
    let quarantine = Path::new("events/quarantine");
    let files = with_an_older_manifest();
    let verify = |disk: &Arc<MemoryDisk>, depth| {
        verify_dir(DIR, &Options::default().disk(disk.clone()), depth).unwrap().problems
    };
    for depth in [Depth::Quick, Depth::Full] {
        let problems = verify(&disk_of(&files), depth);
        assert_eq!((problems.len(), &problems[0].file, problems[0].offset), (2, &second, 0), "{problems:?}");
        assert_eq!(problems[1].file, Path::new(DIR).join(TOMBSTONES));
        assert!(problems[0].what.contains("take MANIFEST away and open with Quarantine"), "{problems:?}");
    }
    let open = |disk: &Arc<MemoryDisk>, on_corruption| {
        let options = Options::default().disk(disk.clone()).unlink_grace(Duration::ZERO);
        Db::open_with(config(), options.on_corruption(on_corruption)).unwrap()
    };
    let named = |db: &Db| {
        let mut ids = ids(db);
        ids.sort();
        ids
    };
    let ten = |name: &str| (0..10).map(|number| format!("{name}{number}")).collect::<Vec<_>>();
    for (on_corruption, is_written_on) in
        [OnCorruption::Fail, OnCorruption::Quarantine].into_iter().flat_map(|one| [(one, false), (one, true)])
    {
        let disk = disk_of(&files);
        let db = open(&disk, on_corruption);
        assert_eq!(named(&db), ten("a"));
        let report = db.open_report().clone();
        assert_eq!((report.leftovers_removed, report.quarantined.len()), (0, 2), "{report:?}");
        let aside = report.quarantined.iter().find(|aside| aside.file == second).unwrap();
        assert!(aside.what.contains("take MANIFEST away, copy the file back to where it was"), "{aside:?}");
        assert_eq!((aside.rows_lost, aside.ts_ns.clone()), (Some(10), Some(0..=9)));
        for aside in &report.quarantined {
            let kept = &files_of(disk.as_ref(), quarantine)[aside.moved_to.as_ref().unwrap()];
            assert_eq!(kept, &files[&aside.file]);
        }
        drop(db);
        for depth in [Depth::Quick, Depth::Full] {
            assert_eq!(verify(&disk, depth), []);
        }
        // What is written in between gets no number that is in use in the quarantine.
        let db = open(&disk, on_corruption);
        assert!(db.open_report().quarantined.is_empty());
        let mut expected = [ten("a"), ten("b")].concat();
        expected.retain(|id| id != "a3" && id != "b3");
        if is_written_on {
            db.append(&event("c", 5)).unwrap();
            db.flush().unwrap();
            db.append(&event("d", 6)).unwrap();
            expected.extend(["c".to_owned(), "d".to_owned()]);
        }
        db.close().unwrap();

        // The advice, to the letter.
        let db = put_back(&disk, &report);
        assert_eq!(named(&db), expected);
        db.close().unwrap();
        assert_eq!(verify(&disk, Depth::Full), []);
    }
}

/// Opens, and sets damage aside.
fn repair(disk: &Arc<MemoryDisk>) -> Result<Db, DbError> {
    let options = Options::default().disk(disk.clone()).unlink_grace(Duration::ZERO);
    Db::open_with(config(), options.on_corruption(OnCorruption::Quarantine))
}

/// Does what the report of files that were set aside says: copies them back, takes the manifest away, and opens.
fn put_back(disk: &Arc<MemoryDisk>, report: &OpenReport) -> Db {
    for aside in &report.quarantined {
        let Some(moved_to) = &aside.moved_to else { continue };
        assert_eq!(disk.bytes(&aside.file).unwrap(), None, "the name was given again: {aside:?}");
        copy(disk.as_ref(), moved_to, &aside.file);
    }
    disk.remove(Path::new("events/MANIFEST")).unwrap();
    let db = repair(disk).unwrap();
    assert!(db.open_report().quarantined.is_empty());
    db
}

fn copy(disk: &dyn Disk, from: &Path, to: &Path) {
    put(disk, to, &read_all(disk, from, u64::MAX).unwrap());
}

fn sorted_ids(db: &Db) -> Vec<String> {
    let mut ids = ids(db);
    ids.sort();
    ids
}

fn problems(disk: &Arc<MemoryDisk>) -> Vec<keplordb::Problem> {
    verify_dir(DIR, &Options::default().disk(disk.clone()), Depth::Full).unwrap().problems
}

/// Writes rows, deletes half of them, purges them and their tombstones, and deletes one more.
fn write_delete_and_purge(db: &Db, name: &str) {
    for number in 0..10 {
        db.append(&event(&format!("{name}{number}"), number)).unwrap();
    }
    db.flush().unwrap();
    let half: Vec<String> = (0..5).map(|number| format!("{name}{number}")).collect();
    assert_eq!(db.delete_events(&half.iter().map(String::as_str).collect::<Vec<_>>()).unwrap(), 5);
    let compacted = db.compact(Budget::UNLIMITED).unwrap();
    assert_eq!((compacted.rows_purged, compacted.tombstones_purged), (5, 5), "{compacted:?}");
    assert!(db.delete_event(&format!("{name}9")).unwrap());
}

#[test]
fn what_an_older_manifest_does_not_know_comes_back_beside_what_was_written_meanwhile() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open_on(&disk).unwrap();
    for number in 0..10 {
        db.append(&event(&format!("a{number}"), number)).unwrap();
    }
    db.flush().unwrap();
    assert!(db.delete_event("a3").unwrap());
    db.close().unwrap();
    let older = files_of(disk.as_ref(), Path::new(DIR))[Path::new("events/MANIFEST")].clone();
    let db = open_on(&disk).unwrap();
    write_delete_and_purge(&db, "b");
    db.close().unwrap();
    put(disk.as_ref(), Path::new("events/MANIFEST"), &older);

    let before = files_of(disk.as_ref(), Path::new(DIR));
    let refused = open_on(&disk);
    assert!(matches!(refused, Err(DbError::Missing { file }) if file.ends_with(TOMBSTONES)));
    assert_eq!(files_of(disk.as_ref(), Path::new(DIR)), before);
    let db = repair(&disk).unwrap();
    let report = db.open_report().clone();
    let moved: Vec<_> = report.quarantined.iter().filter(|aside| aside.moved_to.is_some()).collect();
    assert_eq!((moved.len(), report.quarantined.len()), (2, 3), "{report:?}");
    assert_eq!(sorted_ids(&db), (0..10).map(|number| format!("a{number}")).collect::<Vec<_>>());
    write_delete_and_purge(&db, "c");
    db.close().unwrap();

    let db = put_back(&disk, &report);
    let expected = [
        "a0", "a1", "a2", "a4", "a5", "a6", "a7", "a8", "a9", "b5", "b6", "b7", "b8", "c5", "c6", "c7", "c8",
    ];
    assert_eq!(sorted_ids(&db), expected);
    db.close().unwrap();
    // Nor is a sequence there twice.
    assert_eq!(problems(&disk), []);
    assert_eq!(sorted_ids(&open_on(&disk).unwrap()), expected);
}

/// As the advice goes wrong: the file is back in its place, and the wrong manifest still in its own.
#[test]
fn what_is_put_back_beside_the_wrong_manifest_is_still_in_the_quarantine() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open_on(&disk).unwrap();
    db.append(&event("a", 1)).unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let older = files_of(disk.as_ref(), Path::new(DIR))[Path::new("events/MANIFEST")].clone();
    let db = open_on(&disk).unwrap();
    db.append(&event("b", 2)).unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    put(disk.as_ref(), Path::new("events/MANIFEST"), &older);
    let db = open_on(&disk).unwrap();
    let report = db.open_report().clone();
    assert_eq!((report.quarantined.len(), sorted_ids(&db)), (1, vec!["a".to_owned()]));
    db.append(&event("c", 3)).unwrap();
    db.flush().unwrap();
    db.close().unwrap();

    let aside = &report.quarantined[0];
    copy(disk.as_ref(), aside.moved_to.as_ref().unwrap(), &aside.file);
    let db = open_on(&disk).unwrap();
    assert_eq!(sorted_ids(&db), ["a", "c"]);
    db.close().unwrap();
    if disk.bytes(&aside.file).unwrap().is_some() {
        disk.remove(&aside.file).unwrap();
    }
    assert_eq!(sorted_ids(&put_back(&disk, &report)), ["a", "b", "c"]);
}

#[test]
fn deletes_that_an_older_manifest_does_not_know_are_set_aside() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open_on(&disk).unwrap();
    for id in ["a", "b"] {
        db.append(&event(id, 1)).unwrap();
    }
    db.flush().unwrap();
    let older = files_of(disk.as_ref(), Path::new(DIR))[Path::new("events/MANIFEST")].clone();
    assert!(db.delete_event("a").unwrap());
    db.close().unwrap();
    put(disk.as_ref(), Path::new("events/MANIFEST"), &older);
    let [problem] = &problems(&disk)[..] else { panic!("{:?}", problems(&disk)) };
    assert!(
        problem.file.ends_with(TOMBSTONES) && problem.what.contains("what that says is deleted may be back")
    );
    let db = open_on(&disk).unwrap();
    let report = db.open_report().clone();
    assert_eq!((report.quarantined.len(), sorted_ids(&db)), (1, vec!["a".to_owned(), "b".to_owned()]));
    assert!(db.delete_event("b").unwrap());
    db.close().unwrap();
    assert_eq!(sorted_ids(&put_back(&disk, &report)), [""; 0]);
}

#[test]
fn a_damaged_segment_that_an_older_manifest_does_not_know_is_kept() {
    let mut files = with_an_older_manifest();
    let second = PathBuf::from("events/segments/0000000000000002.kseg");
    files.get_mut(&second).unwrap()[40] ^= 1;
    let disk = disk_of(&files);
    assert_eq!(problems(&disk)[0].file, second);
    let report = open_on(&disk).unwrap().open_report().clone();
    let aside = report.quarantined.iter().find(|aside| aside.file == second).unwrap();
    assert!(aside.what.contains("its header is damaged") && aside.rows_lost.is_none(), "{aside:?}");
    let kept = files_of(disk.as_ref(), Path::new("events/quarantine"));
    assert_eq!(kept[aside.moved_to.as_ref().unwrap()], files[&second]);
}

/// Its number may have been given before the older manifest was written.
#[test]
fn a_damaged_segment_that_is_not_listed_is_kept_whatever_its_number() {
    let (files, expected) = closed();
    for unlisted in ["events/segments/0000000000000000.kseg", "events/segments/00000000000000fe.kseg"] {
        for bytes in [&b"half of something"[..], b""] {
            let mut files = files.clone();
            files.insert(unlisted.into(), bytes.to_vec());
            let disk = disk_of(&files);
            let [problem] = &problems(&disk)[..] else { panic!("{:?}", problems(&disk)) };
            assert!(problem.file == Path::new(unlisted) && problem.what.contains("its header is damaged"));
            let db = open_on(&disk).unwrap();
            assert_eq!(answers(&db), expected);
            let report = db.open_report();
            let [aside] = &report.quarantined[..] else { panic!("{report:?}") };
            let kept = files_of(disk.as_ref(), Path::new("events/quarantine"));
            assert_eq!(kept[aside.moved_to.as_ref().unwrap()], bytes);
        }
    }
}

#[test]
fn verify_lists_each_file_that_the_manifest_should_list_or_that_cannot_be_read() {
    let mut files = with_an_older_manifest();
    let segment = |number: u64| PathBuf::from(format!("events/segments/{number:016x}.kseg"));
    for (number, version) in [(0xf0, 0), (0xfd, 9)] {
        let mut bytes = files[&segment(2)].clone();
        bytes[8] = version;
        files.insert(segment(number), bytes);
    }
    let disk = disk_of(&files);
    disk.create_dir(&segment(0xfe)).unwrap();
    let found = problems(&disk);
    let told: Vec<_> = found.iter().map(|problem| problem.file.clone()).collect();
    let log = Path::new(DIR).join(TOMBSTONES);
    assert_eq!(told, [segment(2), segment(0xf0), segment(0xfd), segment(0xfe), log], "{found:?}");
    for (place, keep) in [
        (1, "open the table with a release that reads it, or keep the file somewhere else"),
        (2, "open the table with a release that reads it, or keep the file somewhere else"),
        (3, "if the error stays, keep the file, or what can be read of it, somewhere else"),
    ] {
        let what = &found[place].what;
        assert!(
            what.contains("MANIFEST does not list it, and no open touches it") && what.contains(keep),
            "{what}"
        );
    }
    let before = files_of(disk.as_ref(), Path::new(DIR));
    for opened in [open_on(&disk), repair(&disk)] {
        let error = opened.map(drop).unwrap_err();
        assert!(matches!(&error, DbError::TooOld { file, .. } if *file == segment(0xf0)), "{error}");
        assert_eq!(files_of(disk.as_ref(), Path::new(DIR)), before);
    }
}

#[test]
fn rows_that_were_merged_before_a_segment_with_them_is_put_back_are_twice_and_verify_says_so() {
    let disk = Arc::new(MemoryDisk::default());
    let ten = |name: &str| (0..10).map(|number| format!("{name}{number}")).collect::<Vec<_>>();
    let merged = |db: &Db, name: &str| {
        for id in ten(name) {
            db.append(&event(&id, 1)).unwrap();
            db.flush().unwrap();
        }
        db.compact(Budget::UNLIMITED).unwrap();
    };
    let db = open_on(&disk).unwrap();
    db.append(&event("a", 1)).unwrap();
    db.flush().unwrap();
    let older = read_all(disk.as_ref(), Path::new("events/MANIFEST"), u64::MAX).unwrap();
    let first = PathBuf::from("events/segments/0000000000000001.kseg");
    let in_its_grace = read_all(disk.as_ref(), &first, u64::MAX).unwrap();
    merged(&db, "b");
    db.close().unwrap();
    // The merge has the rows of a segment that the older manifest lists and whose file is still there.
    put(disk.as_ref(), &first, &in_its_grace);
    put(disk.as_ref(), Path::new("events/MANIFEST"), &older);
    let db = open_on(&disk).unwrap();
    let report = db.open_report().clone();
    assert!(!report.quarantined.is_empty(), "{report:?}");
    assert_eq!(sorted_ids(&db), ["a"]);
    merged(&db, "c");
    db.close().unwrap();

    let db = put_back(&disk, &report);
    assert_eq!(sorted_ids(&db), [vec!["a".to_owned(); 2], ten("b"), ten("c")].concat());
    db.close().unwrap();
    let [problem] = &problems(&disk)[..] else { panic!("{:?}", problems(&disk)) };
    assert_eq!(problem.what, "1 of its rows have sequences that other rows have too");
    assert_eq!(verify_dir(DIR, &Options::default().disk(disk), Depth::Quick).unwrap().problems, []);
}

#[test]
fn a_file_that_the_manifest_does_not_list_and_that_cannot_be_read_fails_the_open() {
    let (files, expected) = closed();
    for unlisted in ["events/segments/0000000000000000.kseg", "events/segments/00000000000000fe.kseg"] {
        let disk = disk_of(&files);
        // Reading a directory as a file is an error of the operating system on every disk.
        disk.create_dir(Path::new(unlisted)).unwrap();
        for opened in [open_on(&disk), repair(&disk)] {
            let error = opened.map(drop).unwrap_err();
            assert!(matches!(&error, DbError::Io { file, .. } if file == Path::new(unlisted)), "{error}");
            assert!(error.to_string().contains("the table opens without it"), "{error}");
            assert_eq!(files_of(disk.as_ref(), Path::new(DIR)), files);
        }
        let [problem] = &problems(&disk)[..] else { panic!("{:?}", problems(&disk)) };
        assert_eq!(problem.file, Path::new(unlisted));
        assert!(problem.what.contains("MANIFEST does not list it"), "{problem:?}");
        disk.rename(Path::new(unlisted), Path::new("elsewhere")).unwrap();
        assert_eq!(answers(&open_on(&disk).unwrap()), expected);
    }
}

#[test]
fn a_crash_while_a_segment_is_set_aside_deletes_nothing() {
    let files = with_an_older_manifest();
    let second = &files[Path::new("events/segments/0000000000000002.kseg")];
    let sim = SimDisk::default();
    for (path, bytes) in &files {
        put(&sim, path, bytes);
        sim.open(path).unwrap().sync().unwrap();
        sim.sync_dir(path.parent().unwrap()).unwrap();
    }
    sim.lock(Path::new("events/LOCK")).unwrap().adopt().unwrap();
    sim.sync_dir(Path::new(DIR)).unwrap();
    let moments = Arc::new(std::sync::Mutex::new(Vec::new()));
    let found = Arc::clone(&moments);
    sim.after_each(move |_, copy| found.lock().unwrap().push(copy));
    drop(open_on(&Arc::new(sim)).unwrap());
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 4, "{} moments", moments.len());
    for (number, moment) in moments.iter().enumerate() {
        for crashed in [moment.kill()].into_iter().chain((0..6).map(|seed| moment.power_cut(seed))) {
            let disk = Arc::new(crashed);
            let db = open_on(&disk).unwrap();
            assert_eq!(db.total_events(), 10, "moment {number}");
            db.append(&event("later", 5)).unwrap();
            db.flush().unwrap();
            drop(db);
            let left = files_of(disk.as_ref(), Path::new("events/quarantine"));
            assert_eq!(left.values().filter(|bytes| *bytes == second).count(), 1, "moment {number}");
        }
    }
}

#[test]
fn a_half_made_directory_opens_as_new() {
    let made: [fn(&MemoryDisk); 4] = [
        |disk| disk.create_dir(Path::new(DIR)).unwrap(),
        |disk| disk.create_dir(Path::new("events/wal")).unwrap(),
        |disk| put(disk, Path::new("events/LOCK"), b"12345\n"),
        |disk| put(disk, Path::new("events/MANIFEST.tmp"), b"half"),
    ];
    for make in made {
        let disk = Arc::new(MemoryDisk::default());
        make(&disk);
        let db = open_on(&disk).unwrap();
        assert!(db.open_report().created);
        db.append(&event("a", 1)).unwrap();
        drop(db);
        assert_eq!(ids(&open_on(&disk).unwrap()), ["a"]);
    }
    // And so does each moment of making one.
    let sim = Arc::new(SimDisk::default());
    let moments = Arc::new(std::sync::Mutex::new(Vec::new()));
    let found = Arc::clone(&moments);
    sim.after_each(move |_, copy| found.lock().unwrap().push(copy));
    drop(open_on(&sim).unwrap());
    for moment in moments.lock().unwrap().iter() {
        for seed in 0..6 {
            let disk = Arc::new(moment.power_cut(seed));
            let db = open_on(&disk).unwrap();
            assert_eq!((db.total_events(), db.open_report().replayed_rows), (0, 0));
            db.append(&event("a", 1)).unwrap();
            drop(db);
            assert_eq!(ids(&open_on(&disk).unwrap()), ["a"]);
        }
    }
}

#[test]
fn a_failed_open_changes_no_byte() {
    type Damage = fn(&mut Files);
    fn first(files: &Files, suffix: &str) -> PathBuf {
        files.keys().find(|path| path.to_string_lossy().ends_with(suffix)).unwrap().clone()
    }
    let damages: [(&str, Damage); 8] = [
        ("a segment is gone", |files| drop(files.remove(&first(files, ".kseg")))),
        ("a log is gone", |files| drop(files.remove(&first(files, ".kwal")))),
        ("the deletes are gone", |files| drop(files.remove(&first(files, TOMBSTONES)))),
        ("a segment's header is damaged", |files| {
            files.get_mut(&first(files, ".kseg")).unwrap()[25] ^= 1;
        }),
        ("a log's header is damaged", |files| files.get_mut(&first(files, ".kwal")).unwrap()[25] ^= 1),
        ("a log is damaged in the middle", |files| {
            let log = files.get_mut(&first(files, ".kwal")).unwrap();
            let middle = log.len() / 3;
            log[middle] ^= 1;
        }),
        ("the deletes are damaged", |files| {
            let log = files.get_mut(&first(files, TOMBSTONES)).unwrap();
            let end = log.len() - 9;
            log[end] ^= 1;
        }),
        ("the manifest is newer", |files| files.get_mut(&first(files, "MANIFEST")).unwrap()[8] = 9),
    ];
    for (what, damage) in damages {
        let (mut files, _) = closed();
        // What a good open would clean up.
        files.insert("events/MANIFEST.tmp".into(), b"half".to_vec());
        files.insert("events/segments/00000000000000ff.kseg".into(), b"half".to_vec());
        damage(&mut files);
        let disk = disk_of(&files);
        for _ in 0..2 {
            let error = open_on(&disk).expect_err(what);
            assert!(!matches!(error, DbError::Io { .. }), "{what}: {error}");
            assert_eq!(files_of(disk.as_ref(), Path::new(DIR)), files, "{what}");
        }
    }
    // A schema that does not fit: refused before anything is mended.
    let (mut files, _) = killed();
    files.insert("events/MANIFEST.tmp".into(), b"half".to_vec());
    let disk = disk_of(&files);
    let options = Options::default().disk(Arc::clone(&disk) as Arc<dyn Disk>);
    let other = Db::open_with(EngineConfig { schema_id: 4, ..config() }, options);
    assert!(matches!(other, Err(DbError::SchemaMismatch { .. })), "{:?}", other.map(drop));
    assert_eq!(files_of(disk.as_ref(), Path::new(DIR)), files);
}

#[test]
fn rows_of_all_shards_come_back_whatever_the_shard_count() {
    let disk = CrowdedDisk::new(Arc::new(MemoryDisk::default()));
    let open = |shards: usize| {
        let config = EngineConfig { wal_shard_count: shards, ..config() };
        Db::open_with(config, Options::default().disk(Arc::new(disk.clone()))).unwrap()
    };
    let append = |db: &Db, round: i64| {
        disk.set_crowded(true);
        let barrier = Barrier::new(6);
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    for number in 0..5 {
                        let ts_ns = round * 100 + thread * 10 + number;
                        db.append(&event(&ts_ns.to_string(), ts_ns)).unwrap();
                    }
                });
            }
        });
        disk.set_crowded(false);
    };
    let logs = || files_of(&disk, Path::new("events/wal")).len();
    let db = open(6);
    append(&db, 0);
    assert!(logs() > 1, "all threads met in one shard");
    let mut expected = answers(&db);
    drop(db);
    for (round, shards) in (1..).zip([1, 8, 3, 64, 2]) {
        let db = open(shards);
        assert_eq!(answers(&db), expected, "{shards} shards");
        append(&db, round);
        expected = answers(&db);
    }
    let db = open(4);
    assert_eq!((answers(&db), db.total_events()), (expected, 180));
    db.flush().unwrap();
    drop(db);
    let db = Db::open_with(
        EngineConfig { wal_shard_count: 4, ..config() },
        Options::default().disk(Arc::new(disk.clone())).unlink_grace(Duration::ZERO),
    )
    .unwrap();
    assert_eq!(logs(), 0, "what a segment holds is a leftover");
    assert_eq!(db.open_report(), &{
        let mut report = OpenReport::default();
        report.leftovers_removed = db.open_report().leftovers_removed;
        report
    });
}

#[test]
fn oversized_strings_are_refused_and_leave_no_trace() {
    let disk = Arc::new(MemoryDisk::default());
    let db = open_on(&disk).unwrap();
    let before = files_of(disk.as_ref(), Path::new(DIR));
    let error = db.append(&event(&"x".repeat(70_000), 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "id is not legal: event 0 has 70000 bytes in column 0, at most 65536 are possible"
    );
    assert_eq!(files_of(disk.as_ref(), Path::new(DIR)), before);
}

#[test]
fn a_checkpoint_that_was_cut_short_does_not_open() {
    let mut refused = 0;
    for step in 1.. {
        let disk = Arc::new(SimDisk::default());
        let db = fill(&disk);
        let wanted = answers(&db);
        disk.fail(Fault { at: disk.operations() + step, kind: FaultKind::Io, forever: true });
        let is_complete = db.checkpoint("copy").is_ok();
        let copy = EngineConfig { data_dir: "copy".into(), ..config() };
        match Db::open_with(copy, Options::default().disk(Arc::new(disk.kill()))) {
            // The manifest is there, which is the last thing that a copy needs, or nothing is there yet.
            Ok(copy) => {
                assert!(answers(&copy) == wanted || !is_complete && copy.total_events() == 0, "step {step}");
            }
            Err(error) => {
                assert!(!is_complete && error.to_string().contains("cut short"), "step {step}: {error}");
                refused += 1;
            }
        }
        if is_complete {
            assert!(refused > 3, "the copy was never seen half-made");
            return;
        }
    }
}

#[test]
fn impossible_numbers_under_a_right_checksum_do_no_harm() {
    let (files, wanted) = closed();
    let manifest = only(&files, "MANIFEST");
    let mut refused = 0;
    for place in 24..files[&manifest].len() - 8 {
        let mut files = files.clone();
        let bytes = files.get_mut(&manifest).unwrap();
        bytes[place..place + 8].fill(0xff);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..16]);
        crc.update(&bytes[20..]);
        bytes[16..20].copy_from_slice(&crc.finalize().to_le_bytes());
        match open_files(&files) {
            Ok(db) => {
                assert_eq!(answers(&db), wanted, "byte {place}");
                db.append(&event("later", 5)).unwrap();
                db.flush().unwrap();
                assert!(db.get_event("later").unwrap().is_some(), "byte {place}");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "no number was ever refused");
}
