//! A directory of format version 1 with what only large and grown tables have, opened by this release with all its answers.
//!
//! `tests/data/v1-blocks` has a segment of three blocks of 65,536 rows, whose values have lists of every form and a bitmap;
//! a schema that grew; a segment that gc dropped; deleted rows; and a log whose engine was never closed. The generator
//! below says what was appended; `write_the_fixture` made the files, and is not run again once the version is frozen.

#[expect(dead_code, reason = "it serves several tests, of which each uses a part")]
mod naive;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keplordb::aggregates::{count, max, min, sum};
use keplordb::disk::{Disk, MemoryDisk, RealDisk};
use keplordb::{Depth, EngineConfig, Options, Schema, Store};
use naive::files::{Files, disk_of, files_of, put};

/// A reading as the first release of the program had it.
#[derive(Debug, Schema)]
#[keplordb(id = 9)]
struct Young {
    #[dim]
    sensor: String,
}

/// The same, grown by a column of each role.
#[derive(Debug, PartialEq, Schema)]
#[keplordb(id = 9)]
struct Reading {
    #[dim]
    sensor: String,
    #[dim]
    unit: String,
    #[counter]
    retries: u32,
    #[label(index)]
    note: String,
}

/// Rows that gc drops, rows of the large segment, rows of the grown schema in a segment, and in a log only.
const DROPPED: u32 = 50;
const LARGE: u32 = 140_000;
const GROWN: u32 = 300;
const UNSEALED: u32 = 40;
const START_NS: i64 = 1_700_000_000_000_000_000;
/// Deleted, of the grown rows, which alone have ids.
const DELETED: [u32; 2] = [LARGE + 7, LARGE + GROWN + 3];

/// Values with so few rows that each row is stored in full, with enough for lists by block, in one block only, at a block's
/// edge, and one that takes a bitmap in the midst of one that does so too.
fn sensor(row: u32) -> &'static str {
    match row {
        100 => "one",
        65_535 | 131_072 => "two",
        5 | 65_536 | 139_999 => "three",
        4 | 6 | 65_534 | 70_000 => "four",
        66_000..=66_004 => "five in a block",
        65_520..=65_532 | 65_540..=65_549 | 131_060..=131_070 => "edges",
        _ if row.is_multiple_of(230) => "in all blocks",
        20_000..90_000 => "many",
        _ => "most",
    }
}

fn reading(row: u32) -> Reading {
    let is_grown = row >= LARGE;
    Reading {
        sensor: sensor(row).to_owned(),
        unit: if is_grown { format!("unit {}", row % 3) } else { String::new() },
        retries: if is_grown { row % 7 } else { 0 },
        note: if is_grown { format!("note {row:06}") } else { String::new() },
    }
}

/// A nanosecond each, so that the files stay small.
fn ts_ns(row: u32) -> i64 {
    START_NS + i64::from(row)
}

fn id(row: u32) -> String {
    format!("{row:08}")
}

fn grown(row: u32) -> ReadingBuilder {
    reading(row).at(ts_ns(row)).id(id(row))
}

fn live() -> impl Iterator<Item = u32> {
    (0..LARGE + GROWN + UNSEALED).filter(|row| !DELETED.contains(row))
}

const DIR: &str = "table";

fn config() -> EngineConfig {
    EngineConfig { wal_shard_count: 1, wal_max_events: 2 * LARGE, ..EngineConfig::in_dir(DIR) }
}

fn options(disk: &Arc<MemoryDisk>) -> Options {
    let disk: Arc<dyn Disk> = disk.clone();
    Options::default().disk(disk)
}

/// Where the fixture stands among the sources.
fn home() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1-blocks")
}

/// By hand, once, when the version is frozen: `cargo test -p keplordb --test compat_blocks -- --ignored`.
#[test]
#[ignore = "writes the fixture of a version that is being frozen"]
fn write_the_fixture() {
    let disk = Arc::new(MemoryDisk::default());
    let young = Store::<Young>::open_with(config(), options(&disk).unlink_grace(Duration::ZERO)).unwrap();
    let event = |sensor: &str, ts_ns: i64| Young { sensor: sensor.to_owned() }.at(ts_ns).id("");
    young.append_batch((0..DROPPED).map(|row| event("gone", i64::from(row)))).unwrap();
    young.flush().unwrap();
    for batch in (0..LARGE).step_by(10_000) {
        young.append_batch((batch..batch + 10_000).map(|row| event(sensor(row), ts_ns(row)))).unwrap();
    }
    young.flush().unwrap();
    young.close().unwrap();

    let store = Store::<Reading>::open_with(config(), options(&disk).unlink_grace(Duration::ZERO)).unwrap();
    store.append_batch((LARGE..LARGE + GROWN).map(grown)).unwrap();
    store.flush().unwrap();
    store.append_batch((LARGE + GROWN..LARGE + GROWN + UNSEALED).map(grown)).unwrap();
    store.delete(&DELETED.map(id).each_ref().map(String::as_str)).unwrap();
    assert_eq!(store.gc(START_NS).unwrap().events_deleted, u64::from(DROPPED));
    // As a power cut would leave it: nothing is closed.
    for (path, bytes) in files_of(disk.as_ref(), Path::new(DIR)) {
        put(&RealDisk, &home().join(path.strip_prefix(DIR).unwrap()), &bytes);
    }
}

#[test]
fn a_large_and_grown_table_of_version_1_opens_with_all_its_answers() {
    let files = files_of(&RealDisk, &home());
    assert!(!files.is_empty(), "the fixture is part of the sources");
    let of_table = |(path, bytes): (std::path::PathBuf, Vec<u8>)| {
        (Path::new(DIR).join(path.strip_prefix(home()).unwrap()), bytes)
    };
    let disk = disk_of(&files.into_iter().map(of_table).collect::<Files>());
    let store = Store::<Reading>::open_with(config(), options(&disk)).unwrap();
    assert!(store.verify(Depth::Full).is_clean(), "{:?}", store.verify(Depth::Full));
    check(&store);

    // Once more with every row in one segment of today.
    store.compact(keplordb::Budget::UNLIMITED).unwrap();
    store.close().unwrap();
    check(&Store::<Reading>::open_with(config(), options(&disk)).unwrap());
}

fn check(store: &Store<Reading>) {
    let c = Reading::cols();
    let mut rows_by_sensor: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    live().for_each(|row| rows_by_sensor.entry(sensor(row)).or_default().push(row));
    assert_eq!(rows_by_sensor.len(), 9);
    for (sensor, rows) in &rows_by_sensor {
        let times: Vec<i64> = rows.iter().map(|row| ts_ns(*row)).collect();
        let found = store.query(c.sensor.eq(*sensor)).oldest_first().rows().unwrap();
        // Thousands of times would hide what is wrong.
        assert!(found.iter().map(ReadingRow::ts_ns).eq(times.iter().copied()), "rows of {sensor}");
        let newest = store.query(c.sensor.eq(*sensor)).limit(70).rows().unwrap();
        let expected: Vec<i64> = times.iter().rev().copied().take(70).collect();
        assert_eq!(newest.iter().map(ReadingRow::ts_ns).collect::<Vec<_>>(), expected, "{sensor}");
        // Ranges that begin or end at a block, and just beside.
        for (from, to) in [(0, 65_535), (65_535, 65_536), (65_536, 131_071), (131_072, LARGE + 400)] {
            let range = c.ts_ns.between(ts_ns(from)..=ts_ns(to));
            let found = store.query(c.sensor.eq(*sensor) & range).totals().unwrap().event_count;
            assert_eq!(found, rows.iter().filter(|row| (from..=to).contains(row)).count() as u64, "{sensor}");
        }
    }

    let ask = (count(), sum(c.retries), min(c.retries), max(c.retries));
    let groups = store.query(Reading::filter()).group_by(c.sensor).select(ask).fetch().unwrap();
    assert_eq!(groups.len(), rows_by_sensor.len());
    for (group, (sensor, rows)) in groups.iter().zip(&rows_by_sensor) {
        let retries = || rows.iter().map(|row| reading(*row).retries);
        let expected = (rows.len() as u64, retries().map(u64::from).sum(), retries().min(), retries().max());
        assert_eq!((group.key(), group.values()), (*sensor, expected));
    }

    for row in [LARGE, LARGE + 1, LARGE + GROWN - 1, LARGE + GROWN, LARGE + GROWN + UNSEALED - 1] {
        assert_eq!(store.get(&id(row)).unwrap().map(Reading::from), Some(reading(row)));
        let noted = store.query(c.note.eq(reading(row).note)).rows().unwrap();
        assert_eq!(noted.iter().map(|found| found.id().to_owned()).collect::<Vec<_>>(), [id(row)]);
    }
    for row in DELETED {
        assert!(store.get(&id(row)).unwrap().is_none());
    }
    let young = store.query(c.unit.eq("")).totals().unwrap();
    assert_eq!((young.event_count, young.counters), (u64::from(LARGE), [0]));
}
