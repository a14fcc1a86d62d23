//! A small store of every kind of file, and everything a stranger may do to one of them: cut it at every length, flip any
//! bit, overwrite any byte. Then open and every query give the right answer or a typed error that names a file of the
//! store: never a panic, never a wrong answer.
//!
//! "Right" has one exception that no reader can help: the newest bytes of a log that was not closed cleanly may be gone, as
//! after a crash. So the store is closed cleanly here, and the manifest says how long each log is. Where the manifest itself
//! is damaged and rebuilt, that knowledge is lost; it is only damaged alone.
#![expect(clippy::cast_possible_truncation, reason = "random numbers are cut to the width of their column")]

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keplordb::disk::MemoryDisk;
use keplordb::{
    Cursor, DbError, Engine, EngineConfig, EventFlags, EventRef, LogEvent, MapMode, Options, QueryFilter,
};
use naive::Naive;
use naive::files::{Files, disk_of, files_of};
use naive::random::{Random, Replay, number_of};

type Db = Engine<3, 1, 2>;
type Event = LogEvent<3, 1, 2>;
type Filter = QueryFilter<3>;

const DIR: &str = "events";
/// Flips of each file; `KEPLORDB_CORRUPT_FLIPS` sets another number.
const FLIPS: u64 = 250;

fn open(files: &Files, map_mode: MapMode) -> Result<Db, DbError> {
    open_on(disk_of(files), map_mode)
}

fn open_on(disk: Arc<MemoryDisk>, map_mode: MapMode) -> Result<Db, DbError> {
    let config = EngineConfig {
        data_dir: DIR.into(),
        bloom_dim: 0,
        rollup_dims: vec![1],
        mmap_cache_capacity: 1,
        ..EngineConfig::default()
    };
    // Without grace only files that are needed stay, so that damage of each must be seen.
    Db::open_with(config, Options::default().disk(disk).map_mode(map_mode).unlink_grace(Duration::ZERO))
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
        // Few values with sums, more with postings, and one a row.
        dims: [format!("user {}", random.below(120)), random.below(3).to_string(), format!("trace {number}")],
        labels: ["said ".repeat(random.below(60)), format!("{:x}", random.next())],
    }
}

/// A store with two segments, deletes in both, and a log: closed.
fn store() -> (Files, Naive<3, 1, 2>) {
    let mut random = Random::new(11);
    let disk = Arc::new(MemoryDisk::default());
    let db = open_on(Arc::clone(&disk), MapMode::Map).unwrap();
    let mut naive = Naive::default();
    for rows in [300, 40, 12] {
        let batch: Vec<Event> = (0..rows).map(|number| event(&mut random, number)).collect();
        naive.append(db.append_batch(&batch).unwrap().first, &batch);
        if rows > 12 {
            db.flush().unwrap();
        }
        let deleted = [batch[3].id.as_str(), batch[7].id.as_str()];
        assert_eq!(db.delete_events(&deleted).unwrap(), naive.delete(&deleted));
    }
    db.close().unwrap();
    (files_of(disk.as_ref(), Path::new(DIR)), naive)
}

/// Questions that touch every section of a segment between them.
struct Questions {
    filters: Vec<Filter>,
    ids: Vec<String>,
}

impl Questions {
    fn new(naive: &Naive<3, 1, 2>) -> Self {
        let dim = |dim: usize, value: &str| {
            let mut filter = Filter::default();
            filter.dims[dim] = Some(value.to_owned());
            filter
        };
        let known: Vec<&Event> = naive.events().step_by(60).collect();
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
        ];
        for event in &known {
            filters.extend((0..3).map(|place| dim(place, &event.dims[place])));
        }
        let mut ids: Vec<String> = known.iter().map(|event| event.id.clone()).collect();
        ids.push("0123456789ab".to_owned());
        Self { filters, ids }
    }

    /// Asks everything; the first error ends it, the first wrong answer panics.
    fn ask(&self, db: &Db, naive: &Naive<3, 1, 2>) -> Result<(), DbError> {
        assert_eq!(db.total_events(), naive.len() as u64, "total_events");
        let same = |rows: &[EventRef<3, 1, 2>], expected: &[&Event]| {
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

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    right: usize,
    refused: usize,
}

/// Opens and asks; right answers and typed errors are counted, anything else fails with what was done to the file.
fn judge(files: &Files, naive: &Naive<3, 1, 2>, questions: &Questions, done: &str, count: &mut Count) {
    let map_mode = if (count.right + count.refused).is_multiple_of(2) { MapMode::Map } else { MapMode::Read };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let db = open(files, map_mode)?;
        questions.ask(&db, naive)
    }));
    match outcome {
        Ok(Ok(())) => count.right += 1,
        Ok(Err(
            DbError::Corrupt { file, .. }
            | DbError::Truncated { file, .. }
            | DbError::TooNew { file, .. }
            | DbError::Missing { file },
        )) => {
            assert!(files.contains_key(&file), "{done}: the error names {}", file.display());
            count.refused += 1;
        }
        Ok(Err(error)) => panic!("{done}: {error:?}"),
        Err(panic) => {
            eprintln!("{done}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// All files of the store, of which there is one of each kind.
fn targets(files: &Files) -> Vec<PathBuf> {
    let kinds = ["MANIFEST", "tombstones.0000000000000001", ".kwal", ".kseg"];
    for kind in kinds {
        assert!(
            files.keys().any(|path| path.to_string_lossy().ends_with(kind)),
            "no {kind}: {:?}",
            files.keys()
        );
    }
    // The spare manifest means nothing before it takes the manifest's place.
    files.keys().filter(|path| !path.ends_with("MANIFEST.spare")).cloned().collect()
}

#[test]
fn the_undamaged_store_answers_right() {
    let (files, naive) = store();
    let questions = Questions::new(&naive);
    questions.ask(&open(&files, MapMode::Map).unwrap(), &naive).unwrap();
    assert!(naive.len() > 300 && questions.filters.len() > 20);
}

#[test]
fn a_file_cut_at_any_length_gives_an_error_or_the_right_answer() {
    let (files, naive) = store();
    let questions = Questions::new(&naive);
    for path in targets(&files) {
        let bytes = files[&path].clone();
        let mut count = Count::default();
        // Every length where that is quick; of large files, all near the ends and a sample between.
        let lengths = (0..bytes.len()).filter(|length| {
            bytes.len() < 3000 || *length < 600 || length + 300 > bytes.len() || length % 61 == 0
        });
        for length in lengths {
            let mut files = files.clone();
            files.insert(path.clone(), bytes[..length].to_vec());
            judge(
                &files,
                &naive,
                &questions,
                &format!("{} cut to {length} bytes", path.display()),
                &mut count,
            );
        }
        println!("{} ({} bytes) cut: {count:?}", path.display(), bytes.len());
        if !path.ends_with("MANIFEST") {
            assert_eq!(count.right, 0, "a cut of {} went unseen", path.display());
        }
    }
}

#[test]
fn a_flipped_or_overwritten_byte_gives_an_error_or_the_right_answer() {
    let (files, naive) = store();
    let questions = Questions::new(&naive);
    let flips = number_of("KEPLORDB_CORRUPT_FLIPS").unwrap_or(FLIPS);
    for (number, path) in targets(&files).into_iter().enumerate() {
        let mut count = Count::default();
        for flip in 0..flips {
            let seed = (number as u64) << 32 | flip;
            let _replay = Replay { variable: "the seed of Random in this test", seed };
            let mut random = Random::new(seed);
            let mut files = files.clone();
            let bytes = files.get_mut(&path).unwrap();
            let place = random.below(bytes.len());
            let before = bytes[place];
            bytes[place] = match random.below(10) {
                0 => 0,
                1 => 0xff,
                _ => before ^ 1 << random.below(8),
            };
            if bytes[place] == before {
                continue;
            }
            let done = format!("{} byte {place}: {before:#04x} became {:#04x}", path.display(), bytes[place]);
            judge(&files, &naive, &questions, &done, &mut count);
        }
        println!("{} ({} bytes) flipped: {count:?}", path.display(), files[&path].len());
        if path.ends_with("MANIFEST") {
            assert!(count.right > 0, "a damaged manifest is rebuilt");
        } else {
            assert!(count.refused > 0, "no damage of {} was seen", path.display());
        }
    }
}

#[test]
fn a_file_that_is_another_file_of_the_store_gives_an_error_or_the_right_answer() {
    let (files, naive) = store();
    let questions = Questions::new(&naive);
    let mut count = Count::default();
    for path in targets(&files) {
        for other in targets(&files) {
            if other != path {
                let mut files = files.clone();
                files.insert(path.clone(), files[&other].clone());
                judge(
                    &files,
                    &naive,
                    &questions,
                    &format!("{} is {}", path.display(), other.display()),
                    &mut count,
                );
            }
        }
    }
    println!("exchanged: {count:?}");
}

#[test]
fn garbage_gives_an_error_or_the_right_answer() {
    let (files, naive) = store();
    let questions = Questions::new(&naive);
    let mut count = Count::default();
    for path in targets(&files) {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let mut files = files.clone();
            let bytes = files.get_mut(&path).unwrap();
            let start = random.below(bytes.len());
            let end = (start + 1 + random.below(600)).min(bytes.len());
            let fill = random.below(3);
            for byte in &mut bytes[start..end] {
                *byte = [0, 0xff, random.next() as u8][fill];
            }
            let done = format!("{} bytes {start}..{end} of seed {seed}", path.display());
            judge(&files, &naive, &questions, &done, &mut count);
        }
    }
    println!("garbage: {count:?}");
    assert!(count.refused > count.right, "{count:?}");
}
