//! A small store with files of every kind, and everything a stranger may do to one of them: cut it at every length, flip
//! bits, overwrite bytes. After each:
//! - an open and every query give the right answer or a typed error that names a file of the store: never a panic, never a
//!   wrong answer, never much memory; and an open that fails has written nothing;
//! - `verify` does not call the store sound unless it answers right;
//! - an open that sets damage aside succeeds and shows rows that are right, says what it lacks, and deletes nothing.
//!
//! "Right" has one exception that no reader can help: the newest bytes of a log that was not closed cleanly may be gone, as
//! after a crash; then a torn tail is reported. And a rebuilt manifest knows no lengths; it is only damaged alone here.
#![expect(clippy::cast_possible_truncation, reason = "random numbers are cut to the width of their column")]

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keplordb::disk::{Disk, MemoryDisk, SimDisk, read_all};
use keplordb::{
    Cursor, DbError, Depth, Engine, EngineConfig, EventFlags, EventRef, LogEvent, MapMode, OnCorruption,
    Options, QueryFilter, TableSchema, VerifyReport, verify_dir,
};
use naive::Naive;
use naive::files::{Files, disk_of, files_of, put};
use naive::random::{Random, Replay, number_of};

/// The table at first, and with the column that it gets later.
type Narrow = Engine<3, 1, 2>;
type Db = Engine<4, 1, 2>;
type Event = LogEvent<4, 1, 2>;
type Filter = QueryFilter<4>;

const DIR: &str = "events";
/// Flips of each kind of file and section; `KEPLORDB_CORRUPT_FLIPS` sets another number.
const FLIPS: u64 = 100;
/// What an open and its queries may hold at a time, besides 16 times the file that was damaged.
const MEMORY_BYTES: usize = 64 << 20;

/// Counts the bytes that each thread holds, and the most that it held.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(more: isize) {
    // Not while the thread's own storage is gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + more);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator with the arguments that it came with; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above; all memory came from the system's allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// What `run` returns, and the most bytes that it held beyond what was held before.
fn measured<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    MOST.set(before);
    let result = run();
    (result, (MOST.get() - before).max(0).cast_unsigned())
}

fn config() -> EngineConfig {
    EngineConfig {
        data_dir: DIR.into(),
        bloom_dim: 0,
        rollup_dims: vec![1],
        mmap_cache_capacity: 1,
        wal_shard_count: 1,
        ..EngineConfig::default()
    }
}

fn schema() -> TableSchema {
    TableSchema::new(0)
        .dim("user")
        .dim("plan")
        .dim("trace")
        .counter("tokens")
        .label("said")
        .indexed_label("key")
}

/// Without grace only files that are needed stay, so that damage of each must be seen.
fn options(disk: Arc<dyn Disk>) -> Options {
    Options::default().disk(disk).unlink_grace(Duration::ZERO)
}

fn open(disk: Arc<dyn Disk>, on_corruption: OnCorruption, map_mode: MapMode) -> Result<Db, DbError> {
    let options = options(disk).schema(schema().dim("region")).map_mode(map_mode);
    Db::open_with(config(), options.on_corruption(on_corruption))
}

fn event(random: &mut Random, number: usize) -> Event {
    Event {
        id: format!("{:012x}", random.next() >> 16),
        ts_ns: 1_700_000_000_000_000_000 + random.below(1000) as i64 * 1_000_000_000_000,
        metric: random.next() as i64 >> 40,
        counters: [random.next() as u32],
        latency_ms: random.below(500) as u32,
        latency_detail_ms: random.below(5) as u32,
        status: [200, 404, 500][random.below(3)],
        flags: EventFlags(random.next() as u16),
        // Few values with sums, more with postings, one a row, and the column that is younger.
        dims: [
            format!("user {}", random.below(120)),
            random.below(3).to_string(),
            format!("trace {number}"),
            String::new(),
        ],
        labels: ["said ".repeat(random.below(60)), format!("{:x}", random.next())],
    }
}

fn narrow(event: &Event) -> LogEvent<3, 1, 2> {
    let [user, plan, trace, _] = event.dims.clone();
    let Event { id, ts_ns, metric, counters, latency_ms, latency_detail_ms, status, flags, labels, .. } =
        event.clone();
    LogEvent {
        id,
        ts_ns,
        metric,
        counters,
        latency_ms,
        latency_detail_ms,
        status,
        flags,
        dims: [user, plan, trace],
        labels,
    }
}

/// A store and what it must answer.
struct Store {
    files: Files,
    live: Naive<4, 1, 2>,
    /// Deleted rows too, by id.
    ever: BTreeMap<String, Event>,
}

/// A store with segments of these rows, deletes in each, and two logs: one that is sealed, because the table got a column, and one in
/// use. Closed, or as it is in the middle of work.
fn store(segments: &[usize], log_rows: usize, closed: bool) -> Store {
    let mut random = Random::new(11);
    let disk = Arc::new(MemoryDisk::default());
    let (mut live, mut ever) = (Naive::default(), BTreeMap::new());
    let mut batch = |rows: usize, dim: &str| -> Vec<Event> {
        let mut batch: Vec<Event> = (0..rows).map(|number| event(&mut random, number)).collect();
        for event in &mut batch {
            dim.clone_into(&mut event.dims[3]);
        }
        ever.extend(batch.iter().map(|event| (event.id.clone(), event.clone())));
        batch
    };

    let db = Narrow::open_with(config(), options(disk.clone()).schema(schema())).unwrap();
    for (place, rows) in segments.iter().chain([&log_rows]).enumerate() {
        let batch = batch(*rows, "");
        for half in batch.chunks(rows.div_ceil(3)) {
            let narrow: Vec<_> = half.iter().map(narrow).collect();
            live.append(db.append_batch(&narrow).unwrap().first, half);
        }
        if place < segments.len() {
            db.flush().unwrap();
        }
        let deleted = [batch[3].id.as_str(), batch[7].id.as_str()];
        assert_eq!(db.delete_events(&deleted).unwrap(), live.delete(&deleted));
    }
    db.close().unwrap();

    let db = open(disk.clone(), OnCorruption::Fail, MapMode::Map).unwrap();
    let batch = batch(log_rows, "north");
    for half in batch.chunks(log_rows.div_ceil(4)) {
        live.append(db.append_batch(half).unwrap().first, half);
    }
    let files = if closed {
        db.close().unwrap();
        files_of(disk.as_ref(), Path::new(DIR))
    } else {
        files_of(disk.as_ref(), Path::new(DIR))
    };
    Store { files, live, ever }
}

/// Segments of several chunks, with every kind of section.
fn large() -> Store {
    store(&[300, 40], 12, true)
}

/// As small as can be, for every length of every file.
fn small() -> Store {
    store(&[10], 8, true)
}

/// Questions that touch every section of a segment between them.
struct Questions {
    filters: Vec<Filter>,
    ids: Vec<String>,
}

impl Questions {
    fn new(naive: &Naive<4, 1, 2>) -> Self {
        let dim = |dim: usize, value: &str| {
            let mut filter = Filter::default();
            filter.dims[dim] = Some(value.to_owned());
            filter
        };
        let step = naive.len().div_ceil(6);
        let known: Vec<&Event> = naive.events().step_by(step).collect();
        let mut filters = vec![
            Filter::default(),
            Filter { status_min: Some(400), status_max: Some(500), ..Filter::default() },
            Filter {
                cursor: Some(Cursor(known[2].ts_ns)),
                from_ts_ns: Some(known[4].ts_ns),
                ..Filter::default()
            },
            Filter { to_ts_ns: Some(known[1].ts_ns), ..dim(1, "2") },
            dim(0, "nobody"),
            dim(3, "north"),
        ];
        for event in &known {
            filters.extend((0..3).map(|place| dim(place, &event.dims[place])));
        }
        let mut ids: Vec<String> = known.iter().map(|event| event.id.clone()).collect();
        ids.push("0123456789ab".to_owned());
        Self { filters, ids }
    }

    /// Asks everything; the first error ends it, the first wrong answer panics.
    fn ask(&self, db: &Db, naive: &Naive<4, 1, 2>) -> Result<(), DbError> {
        assert_eq!(db.total_events(), naive.len() as u64, "total_events");
        let same = |rows: &[EventRef<4, 1, 2>], expected: &[&Event]| {
            rows.len() == expected.len()
                && rows.iter().zip(expected).all(|(row, event)| naive::same(event, row))
        };
        for filter in &self.filters {
            assert_eq!(db.aggregate(filter)?, naive.aggregate(filter), "aggregate {filter:?}");
            let rows = db.query_recent(filter, 50)?;
            assert!(same(&rows, &naive.recent(filter, 50)), "query_recent {filter:?}: {rows:?}");
        }
        for id in &self.ids {
            let found = db.get_event(id)?;
            assert!(same(found.as_slice(), naive.get(id).as_slice()), "get_event {id}: {found:?}");
        }
        for wanted in [None, Some("1")] {
            let rollups = db.query_rollups(i64::MIN, i64::MAX, &[wanted])?;
            assert_eq!(
                rollups,
                naive.rollups(&[1], i64::MIN, i64::MAX, &[wanted]),
                "query_rollups {wanted:?}"
            );
        }
        Ok(())
    }
}

/// A store, one of whose files is damaged again and again.
struct Trial {
    store: Store,
    questions: Questions,
    count: Count,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    right: usize,
    refused: usize,
    /// Opens by quarantine that showed fewer rows, and ones that showed deleted ones.
    fewer: usize,
    undeleted: usize,
}

impl Trial {
    fn new(store: Store) -> Self {
        let questions = Questions::new(&store.live);
        Self { store, questions, count: Count::default() }
    }

    /// Judges the store with another content of one file.
    fn judge(&mut self, path: &Path, bytes: Vec<u8>, done: &str) {
        let mut files = self.store.files.clone();
        let file_bytes = bytes.len().max(files[path].len());
        files.insert(path.to_owned(), bytes);
        let judged = catch_unwind(AssertUnwindSafe(|| self.judge_files(&files, path, file_bytes)));
        if let Err(panic) = judged {
            eprintln!("{done}");
            std::panic::resume_unwind(panic);
        }
    }

    fn judge_files(&mut self, files: &Files, path: &Path, file_bytes: usize) {
        let cases = self.count.right + self.count.refused;
        let map_mode = if cases.is_multiple_of(2) { MapMode::Map } else { MapMode::Read };
        let disk = disk_of(files);
        let verified = verify(&disk, Depth::Full);
        let (is_right, held_bytes) = measured(|| self.opens_right(&disk, files, map_mode));
        assert!(
            held_bytes <= MEMORY_BYTES + 16 * file_bytes,
            "{held_bytes} bytes were held for a file of {file_bytes}"
        );
        assert!(is_right || !verified.is_clean(), "verify calls it sound");
        if is_right {
            self.count.right += 1;
        } else {
            self.count.refused += 1;
        }
        self.set_aside(files, path, map_mode, is_right);
    }

    /// Whether an open and every question answer right; else the error is typed and nothing was written.
    fn opens_right(&self, disk: &Arc<MemoryDisk>, files: &Files, map_mode: MapMode) -> bool {
        let error = match open(disk.clone(), OnCorruption::Fail, map_mode) {
            Ok(db) => match self.questions.ask(&db, &self.store.live) {
                Ok(()) => return true,
                Err(error) => error,
            },
            Err(error) => {
                assert_eq!(&files_of(disk.as_ref(), Path::new(DIR)), files, "a failed open wrote something");
                error
            }
        };
        match &error {
            DbError::Corrupt { file, .. }
            | DbError::Truncated { file, .. }
            | DbError::TooNew { file, .. }
            | DbError::TooOld { file, .. }
            | DbError::Missing { file } => {
                assert!(files.contains_key(file), "the error names {}", file.display());
            }
            error => panic!("{error:?}"),
        }
        false
    }

    /// Opens with quarantine: whatever is shown is right, what is missing is said, and nothing is deleted.
    fn set_aside(&mut self, files: &Files, path: &Path, map_mode: MapMode, is_right: bool) {
        let disk = disk_of(files);
        let db = match open(disk.clone(), OnCorruption::Quarantine, map_mode) {
            Ok(db) => db,
            // Another version is not damage. A flip can make a file look like one.
            Err(DbError::TooNew { .. } | DbError::TooOld { .. }) => return,
            Err(error) => panic!("it does not open with quarantine: {error:?}"),
        };
        let report = db.open_report().clone();
        let shown = self.shown(&db);
        let is_undeleted = shown.iter().any(|id| self.store.live.get(id).is_none());
        let is_named = report.quarantined.iter().any(|found| found.file == path);
        if is_undeleted {
            self.count.undeleted += 1;
            let is_told = |what: &str| what.contains("may be back");
            assert!(
                report.quarantined.iter().any(|found| found.file == path && is_told(&found.what)),
                "deleted rows are back: {report:?}"
            );
        } else if shown.len() < self.store.live.len() {
            self.count.fewer += 1;
            assert!(is_named, "rows are missing: {report:?}");
        } else {
            self.questions.ask(&db, &self.store.live).unwrap();
        }
        assert!(is_right || is_named, "{report:?}");
        for found in &report.quarantined {
            let kept = found.moved_to.as_deref().map(|kept| read_all(disk.as_ref(), kept, u64::MAX).unwrap());
            assert_eq!(kept.as_ref(), files.get(&found.file), "{found:?} is not kept as it was");
        }

        // And it is whole from now on, for every open.
        db.close().unwrap();
        let left = verify(&disk, Depth::Full);
        assert!(left.is_clean(), "{left:#?}");
        let again = open(disk, OnCorruption::Fail, map_mode).unwrap();
        assert_eq!(self.shown(&again), shown);
        assert!(again.open_report().quarantined.is_empty());
    }

    /// The ids of all rows, each of which must be one that was appended.
    fn shown(&self, db: &Db) -> Vec<String> {
        let rows = db.query_recent(&Filter::default(), usize::MAX).unwrap();
        for row in &rows {
            let event = self.store.ever.get(&row.id);
            assert!(event.is_some_and(|event| naive::same(event, row)), "no such row was appended: {row:?}");
        }
        let mut ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        ids.sort();
        let shown = ids.len();
        ids.dedup();
        assert_eq!(
            (ids.len(), db.total_events()),
            (shown, shown as u64),
            "rows are there twice, or not counted"
        );
        assert_eq!(db.aggregate(&Filter::default()).unwrap().event_count, shown as u64);
        ids
    }

    /// Flips bits and overwrites bytes within a range of a file.
    fn flip(&mut self, path: &Path, range: Range<usize>, seed: u64) {
        for flip in 0..number_of("KEPLORDB_CORRUPT_FLIPS").unwrap_or(FLIPS) {
            let seed = seed << 32 | flip;
            let _replay = Replay { variable: "the seed of Random in this test", seed };
            let mut random = Random::new(seed);
            let mut bytes = self.store.files[path].clone();
            let place = range.start + random.below(range.len());
            let before = bytes[place];
            bytes[place] = match random.below(10) {
                0 if before != 0 => 0,
                1 if before != 0xff => 0xff,
                _ => before ^ 1 << random.below(8),
            };
            let done = format!("{} byte {place}: {before:#04x} became {:#04x}", path.display(), bytes[place]);
            self.judge(path, bytes, &done);
        }
    }

    /// The files whose names have this in them.
    fn files_named(&self, part: &str) -> Vec<PathBuf> {
        let named = self.store.files.keys().filter(|path| path.to_string_lossy().contains(part));
        let named: Vec<PathBuf> = named.cloned().collect();
        assert!(!named.is_empty(), "no {part}: {:?}", self.store.files.keys());
        named
    }
}

fn verify(disk: &Arc<MemoryDisk>, depth: Depth) -> VerifyReport {
    verify_dir(DIR, &Options::default().disk(disk.clone()), depth).unwrap()
}

/// The header of a segment file, and each kind of section with where it is: from docs/format.md alone.
fn parts_of(segment: &[u8]) -> Vec<(u8, Range<usize>)> {
    let u32_at = |at: usize| u32::from_le_bytes(*segment[at..].first_chunk().unwrap()) as usize;
    let u64_at = |at: usize| u64::from_le_bytes(*segment[at..].first_chunk().unwrap()) as usize;
    let header_bytes = u32_at(12);
    // The list of sections ends the header; it is where the first entry says that its section follows the header.
    let is_list = |at: &usize| {
        let end = at + 4 + 32 * u32_at(*at).min(1000);
        u32_at(*at) > 0 && end <= header_bytes && end + 64 > header_bytes && u64_at(at + 12) == header_bytes
    };
    let list = (72..header_bytes - 36).find(is_list).expect("a list of sections");
    let entries = (0..u32_at(list)).map(|number| list + 4 + 32 * number);
    let section = |at: usize| (segment[at], u64_at(at + 8)..u64_at(at + 8) + u64_at(at + 16));
    [(0, 0..header_bytes)].into_iter().chain(entries.map(section)).collect()
}

#[test]
fn the_undamaged_stores_answer_right() {
    for store in [large(), small()] {
        let trial = Trial::new(store);
        let disk = disk_of(&trial.store.files);
        let report = verify(&disk, Depth::Full);
        assert!(report.is_clean(), "{report:#?}");
        let db = open(disk.clone(), OnCorruption::Quarantine, MapMode::Map).unwrap();
        trial.questions.ask(&db, &trial.store.live).unwrap();
        assert!(db.open_report().quarantined.is_empty());
        assert!(disk.bytes(&Path::new(DIR).join("quarantine")).is_ok_and(|found| found.is_none()));
        trial.files_named("MANIFEST.spare");
        assert_eq!((trial.files_named(".kwal").len(), trial.files_named("tombstones").len()), (2, 1));
    }
}

#[test]
fn a_file_cut_at_any_length_gives_an_error_or_the_right_answer() {
    let mut trial = Trial::new(small());
    for path in trial.files_named("") {
        trial.count = Count::default();
        let bytes = trial.store.files[&path].clone();
        for length in 0..bytes.len() {
            trial.judge(
                &path,
                bytes[..length].to_vec(),
                &format!("{} cut to {length} bytes", path.display()),
            );
        }
        println!("{} ({} bytes) cut: {:?}", path.display(), bytes.len(), trial.count);
        if path.ends_with("MANIFEST") || path.ends_with("MANIFEST.spare") {
            assert_eq!(trial.count.refused, 0, "a manifest is rebuilt");
        } else {
            assert_eq!(trial.count.right, 0, "a cut of {} went unseen", path.display());
        }
    }
}

#[test]
fn a_flip_in_any_section_of_a_segment_is_an_error_or_harmless() {
    let mut trial = Trial::new(large());
    let mut kinds = BTreeMap::new();
    for path in trial.files_named(".kseg") {
        for (kind, range) in parts_of(&trial.store.files[&path]) {
            kinds.entry(kind).or_insert((path.clone(), range));
        }
    }
    // The header and fifteen kinds of sections.
    assert_eq!(kinds.keys().copied().collect::<Vec<u8>>(), (0..=15).collect::<Vec<u8>>());
    for (kind, (path, range)) in kinds {
        trial.count = Count::default();
        trial.flip(&path, range, u64::from(kind));
        println!("section of kind {kind} flipped: {:?}", trial.count);
        // No question reads the index of a label so far.
        assert!(kind == 13 || trial.count.refused > 90, "damage of kind {kind} was not seen");
        assert!(trial.count.fewer > 90, "damage of kind {kind} was not set aside");
    }
}

#[test]
fn a_flip_in_a_log_or_the_manifest_is_an_error_or_harmless() {
    let mut trial = Trial::new(large());
    for (number, path) in trial.files_named("").into_iter().enumerate() {
        if path.extension().is_some_and(|extension| extension == "kseg") {
            continue;
        }
        trial.count = Count::default();
        trial.flip(&path, 0..trial.store.files[&path].len(), 100 + number as u64);
        println!("{} flipped: {:?}", path.display(), trial.count);
        let count = trial.count;
        if path.ends_with("MANIFEST.spare") {
            assert_eq!(count.refused, 0, "the spare means nothing before it takes the manifest's place");
        } else if path.ends_with("MANIFEST") {
            assert!(count.right > 0 && count.fewer == 0, "a damaged manifest is rebuilt");
        } else if path.extension().is_some_and(|extension| extension == "kwal") {
            assert!(count.refused > 0 && count.fewer > 0 && count.undeleted == 0);
        } else {
            assert!(count.refused > 0 && count.undeleted > 0 && count.fewer == 0);
        }
    }
}

#[test]
fn a_flip_in_a_log_that_was_not_closed_loses_its_end_at_most() {
    let store = store(&[40], 12, false);
    let questions = Questions::new(&store.live);
    let mut count = Count::default();
    let logs =
        store.files.keys().filter(|path| path.extension().is_some_and(|extension| extension == "kwal"));
    for (number, path) in logs.enumerate() {
        let used = store.files[path].iter().rposition(|byte| *byte != 0).unwrap() + 40;
        for flip in 0..number_of("KEPLORDB_CORRUPT_FLIPS").unwrap_or(FLIPS) {
            let mut random = Random::new((number as u64) << 32 | flip);
            let mut files = store.files.clone();
            let bytes = files.get_mut(path).unwrap();
            let place = random.below(used.min(bytes.len()));
            bytes[place] ^= 1 << random.below(8);
            let done = format!("{} byte {place} of flip {flip}", path.display());
            let disk = disk_of(&files);
            let verified = verify(&disk, Depth::Full);
            let outcome = open(disk, OnCorruption::Fail, MapMode::Map);
            match outcome {
                Ok(db) if db.open_report().torn_tails.is_empty() => {
                    count.right += 1;
                    questions.ask(&db, &store.live).unwrap();
                }
                Ok(db) => {
                    // All rows are there where the flip is in the zeros behind them.
                    count.fewer += usize::from(db.total_events() < store.live.len() as u64);
                    assert!(!verified.is_clean(), "{done}");
                }
                Err(
                    DbError::Corrupt { file, .. }
                    | DbError::TooNew { file, .. }
                    | DbError::TooOld { file, .. },
                ) => {
                    count.refused += 1;
                    assert!(&file == path && !verified.is_clean(), "{done}: {}", file.display());
                }
                Err(error) => panic!("{done}: {error:?}"),
            }
            let db = match open(disk_of(&files), OnCorruption::Quarantine, MapMode::Map) {
                Err(DbError::TooNew { .. } | DbError::TooOld { .. }) => continue,
                db => db.unwrap(),
            };
            for row in db.query_recent(&Filter::default(), usize::MAX).unwrap() {
                assert!(
                    naive::same(&store.ever[&row.id], &row) && store.live.get(&row.id).is_some(),
                    "{done}"
                );
            }
        }
    }
    println!("logs that were not closed: {count:?}");
    assert!(count.refused > 0 && count.fewer > 0, "{count:?}");
}

#[test]
fn the_lock_file_may_hold_anything() {
    let store = large();
    let questions = Questions::new(&store.live);
    let lock = Path::new(DIR).join("LOCK");
    let intact = read_all(disk_of(&store.files).as_ref(), &lock, 1000).unwrap();
    let cuts = (0..intact.len()).map(|length| intact[..length].to_vec());
    let mut random = Random::new(5);
    let flips = (0..FLIPS).map(|_| {
        let mut bytes = intact.clone();
        let place = random.below(bytes.len());
        bytes[place] ^= 1 << random.below(8);
        bytes
    });
    for bytes in cuts.chain(flips.collect::<Vec<_>>()) {
        for on_corruption in [OnCorruption::Fail, OnCorruption::Quarantine] {
            let disk = disk_of(&store.files);
            // The same file, or it would be a copy whatever it says.
            let file = disk.open(&lock).unwrap();
            file.write_at(&bytes, 0).unwrap();
            file.truncate(bytes.len() as u64).unwrap();
            assert!(verify(&disk, Depth::Quick).is_clean());
            let db = open(disk, on_corruption, MapMode::Map).unwrap();
            questions.ask(&db, &store.live).unwrap();
            assert!(db.open_report().quarantined.is_empty());
        }
    }
}

#[test]
fn a_file_that_is_another_file_of_the_store_gives_an_error_or_the_right_answer() {
    let mut trial = Trial::new(large());
    for path in trial.files_named("") {
        for other in trial.files_named("") {
            if other != path {
                let bytes = trial.store.files[&other].clone();
                trial.judge(&path, bytes, &format!("{} is {}", path.display(), other.display()));
            }
        }
    }
    println!("exchanged: {:?}", trial.count);
}

#[test]
fn a_missing_file_gives_an_error_or_the_right_answer() {
    let store = large();
    for path in store.files.keys() {
        let mut files = store.files.clone();
        files.remove(path);
        let strict = open(disk_of(&files), OnCorruption::Fail, MapMode::Map);
        match strict {
            Ok(_) => assert!(path.to_string_lossy().contains("MANIFEST"), "{}", path.display()),
            Err(DbError::Missing { file }) => assert_eq!(&file, path),
            Err(error) => panic!("{}: {error:?}", path.display()),
        }
        let disk = disk_of(&files);
        let db = open(disk.clone(), OnCorruption::Quarantine, MapMode::Map).unwrap();
        let report = db.open_report().clone();
        for row in db.query_recent(&Filter::default(), usize::MAX).unwrap() {
            assert!(naive::same(&store.ever[&row.id], &row), "{}", path.display());
        }
        if !path.to_string_lossy().contains("MANIFEST") {
            assert_eq!((&report.quarantined[0].file, &report.quarantined[0].moved_to), (path, &None));
        }
        db.close().unwrap();
        assert!(open(disk, OnCorruption::Fail, MapMode::Map).is_ok());
    }
}

#[test]
fn garbage_gives_an_error_or_the_right_answer() {
    let mut trial = Trial::new(large());
    for path in trial.files_named("") {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let mut bytes = trial.store.files[&path].clone();
            let start = random.below(bytes.len());
            let end = (start + 1 + random.below(600)).min(bytes.len());
            let fill = random.below(3);
            for byte in &mut bytes[start..end] {
                *byte = [0, 0xff, random.next() as u8][fill];
            }
            trial.judge(&path, bytes, &format!("{} bytes {start}..{end} of seed {seed}", path.display()));
        }
    }
    println!("garbage: {:?}", trial.count);
    assert!(trial.count.refused > trial.count.right, "{:?}", trial.count);
}

#[test]
fn quarantine_says_what_was_lost_and_uses_what_is_left() {
    let trial = Trial::new(large());
    let mut files = trial.store.files.clone();
    let (segments, logs) = (trial.files_named(".kseg"), trial.files_named(".kwal"));
    let tombstones = trial.files_named("tombstones").remove(0);
    *files.get_mut(&segments[0]).unwrap().last_mut().unwrap() ^= 1;
    // The payload of one of four frames, which is not the last.
    let log = files.get_mut(&logs[1]).unwrap();
    let middle = log.len() * 45 / 100;
    log[middle] ^= 1;
    files.get_mut(&tombstones).unwrap()[70] ^= 1;

    let disk = disk_of(&files);
    put(
        disk.as_ref(),
        &Path::new(DIR).join("quarantine").join(segments[0].file_name().unwrap()),
        b"an older one",
    );
    let db = open(disk.clone(), OnCorruption::Quarantine, MapMode::Map).unwrap();
    let quarantined = &db.open_report().quarantined;
    let of = |path: &Path| quarantined.iter().find(|found| found.file == path).expect("it is reported");
    assert_eq!(quarantined.len(), 3, "{quarantined:#?}");
    let segment = of(&segments[0]);
    let moved_to = segment.moved_to.as_ref().unwrap();
    assert!(moved_to.to_string_lossy().ends_with(".kseg.1"), "{}", moved_to.display());
    assert_eq!((segment.rows_lost, segment.sequences.clone()), (Some(300), Some(1..=300)));
    let times = segment.ts_ns.clone().unwrap();
    assert!(times.start() < times.end() && *times.start() >= 1_700_000_000_000_000_000);
    let log = of(&logs[1]);
    assert_eq!((log.rows_lost, log.ts_ns.clone()), (Some(3), None), "{log:#?}");
    assert_eq!(log.sequences.as_ref().map(|lost| lost.end() - lost.start()), Some(2), "{log:#?}");
    assert!(log.what.contains("9 of its rows can be read and are kept"), "{}", log.what);
    let deletes = of(&tombstones);
    assert!(deletes.what.contains("4 deletes can be read and are kept"), "{}", deletes.what);

    // Nothing stands in the way of another one.
    let rows = db.total_events();
    db.append(&Event { id: "new".into(), ..Event::default() }).unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let db = open(disk, OnCorruption::Fail, MapMode::Map).unwrap();
    assert_eq!(db.total_events(), rows + 1);
}

/// A simulated disk that holds these files durably, in a directory that is the original.
fn durable(files: &Files) -> SimDisk {
    let disk = SimDisk::default();
    for (path, bytes) in files {
        put(&disk, path, bytes);
        disk.open(path).unwrap().sync().unwrap();
        disk.sync_dir(path.parent().unwrap()).unwrap();
    }
    disk.lock(&Path::new(DIR).join("LOCK")).unwrap().adopt().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk
}

#[test]
fn a_crash_while_files_are_set_aside_leaves_what_the_next_open_understands() {
    let trial = Trial::new(large());
    let damaged: Vec<PathBuf> = [".kseg", ".kwal", "tombstones", "MANIFEST"]
        .into_iter()
        .map(|part| trial.files_named(part).remove(0))
        .collect();
    // Each file for itself, and all of them but the manifest, which would be rebuilt with what the rest says.
    let cases = damaged.iter().map(|path| vec![path.clone()]).chain([damaged[..3].to_vec()]);
    for paths in cases {
        let mut files = trial.store.files.clone();
        for path in &paths {
            let bytes = files.get_mut(path).unwrap();
            let place = bytes.len() * 2 / 3;
            bytes[place] ^= 1;
        }
        let disk = durable(&files);
        let moments = Arc::new(Mutex::new(Vec::new()));
        let copies = Arc::clone(&moments);
        disk.after_each(move |_, copy| copies.lock().unwrap().push(copy));
        let db = open(Arc::new(disk), OnCorruption::Quarantine, MapMode::Map).unwrap();
        let expected = trial.shown(&db);
        let moments: Vec<SimDisk> = std::mem::take(&mut moments.lock().unwrap());
        assert!(moments.len() > 4, "{} operations", moments.len());
        for (operation, moment) in moments.iter().enumerate() {
            let crashed = [moment.kill()].into_iter().chain((0..6).map(|seed| moment.power_cut(seed)));
            for (seed, crashed) in crashed.enumerate() {
                let done = format!("{paths:?}, operation {operation}, crash {seed}");
                // Damage of a section shows when it is read.
                let strict = open(Arc::new(crashed.kill()), OnCorruption::Fail, MapMode::Map);
                let read = strict.and_then(|db| db.query_recent(&Filter::default(), usize::MAX).map(|_| db));
                match read {
                    Ok(db) => assert_eq!(trial.shown(&db), expected, "{done}"),
                    Err(DbError::Corrupt { .. } | DbError::Truncated { .. } | DbError::Missing { .. }) => {}
                    Err(error) => panic!("{done}: {error:?}"),
                }
                let db = open(Arc::new(crashed), OnCorruption::Quarantine, MapMode::Map);
                let db = db.unwrap_or_else(|error| panic!("{done}: {error:?}"));
                assert_eq!(trial.shown(&db), expected, "{done}");
            }
        }
    }
}

#[test]
fn rows_of_a_damaged_segment_are_taken_from_the_files_it_replaced() {
    let mut random = Random::new(3);
    let disk = Arc::new(MemoryDisk::default());
    let mut live = Naive::default();
    let graceful =
        options(disk.clone()).schema(schema().dim("region")).unlink_grace(Duration::from_secs(3600));
    let db = Db::open_with(config(), graceful).unwrap();
    let batch: Vec<Event> = (0..60).map(|number| event(&mut random, number)).collect();
    live.append(db.append_batch(&batch).unwrap().first, &batch);
    let deleted = [batch[3].id.as_str(), batch[7].id.as_str()];
    assert_eq!(db.delete_events(&deleted[..1]).unwrap(), live.delete(&deleted[..1]));
    db.flush().unwrap();
    assert_eq!(db.delete_events(&deleted[1..]).unwrap(), live.delete(&deleted[1..]));
    // As a crash would leave it: the log that the segment absorbed is still there.
    let mut files = files_of(disk.as_ref(), Path::new(DIR));
    let segment = naive::files::only(&files, ".kseg");
    *files.get_mut(&segment).unwrap().last_mut().unwrap() ^= 1;

    let disk = disk_of(&files);
    let db = open(disk.clone(), OnCorruption::Quarantine, MapMode::Map).unwrap();
    Questions::new(&live).ask(&db, &live).unwrap();
    let quarantined = &db.open_report().quarantined;
    assert_eq!((quarantined.len(), &quarantined[0].file), (1, &segment));
    assert!(quarantined[0].what.contains("used again: generation 1"), "{}", quarantined[0].what);
    db.close().unwrap();
    let db = open(disk.clone(), OnCorruption::Fail, MapMode::Map).unwrap();
    Questions::new(&live).ask(&db, &live).unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    assert!(verify(&disk, Depth::Full).is_clean());
}

#[test]
fn a_table_of_other_columns_is_not_quarantined() {
    let trial = Trial::new(large());
    let mut files = trial.store.files.clone();
    *files.get_mut(&trial.files_named(".kseg")[0]).unwrap().last_mut().unwrap() ^= 1;
    let disk = disk_of(&files);
    let options = options(disk.clone()).on_corruption(OnCorruption::Quarantine);
    let refused = Engine::<1, 1, 0>::open_with(config(), options);
    assert!(matches!(refused, Err(DbError::SchemaMismatch { .. } | DbError::Invalid { .. })), "{refused:?}");
    assert_eq!(files_of(disk.as_ref(), Path::new(DIR)), files);
}
