//! Directories of earlier format versions open for ever, with all their answers.
//!
//! `tests/data/vN` is a table as the release wrote it that froze version N; it is copied, opened by this release, and every
//! value is compared with what the generator below says was appended. `write_the_fixture` made it, and is not run again
//! once a version is frozen.

#[expect(dead_code, reason = "it serves several tests, of which each uses a part")]
mod naive;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keplordb::aggregates::{count, distinct, max, min, quantile, sum};
use keplordb::disk::{Disk, MemoryDisk, RealDisk};
use keplordb::{AnyStore, Bucket, Depth, EngineConfig, EventFlags, Options, Reader, Schema, Store};
use naive::files::{Files, copy_of, disk_of, files_of};

/// A request, with a column of each kind and each way of storing it.
#[derive(Debug, Clone, PartialEq, Schema)]
#[keplordb(id = 7)]
struct Request {
    /// Few values: sums per value, bitmaps and lists.
    #[dim(bloom, rollup)]
    service: String,
    /// Many values: lists alone.
    #[dim]
    session: String,
    /// A value of its own for each row: neither.
    #[dim]
    trace: String,
    #[counter]
    bytes: u32,
    /// The same in every row.
    #[counter]
    replicas: u32,
    /// Packed: a small alphabet.
    #[label(index)]
    digest: String,
    /// Long, so compressed.
    #[label]
    body: String,
}

/// Rows of each of the segments, and rows that are in a log only.
const SEGMENTS: [u64; 2] = [1_300, 300];
const UNSEALED: u64 = 40;
const ROWS: u64 = SEGMENTS[0] + SEGMENTS[1] + UNSEALED;
const START_NS: i64 = 1_700_000_000_000_000_000;
/// Every so many rows were deleted.
const DELETED_EVERY: u64 = 97;

fn mix(row: u64, salt: u64) -> u64 {
    let z = (row * 31 + salt + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 20
}

fn small(row: u64, salt: u64, below: u64) -> u32 {
    u32::try_from(mix(row, salt) % below).unwrap()
}

fn pick<T: Copy>(choices: &[T], draw: u64) -> T {
    choices[usize::try_from(draw % choices.len() as u64).unwrap()]
}

fn request(row: u64) -> Request {
    let services = ["api", "billing", "", "größe", "search"];
    let rare = ["cron", "probe"];
    let service = if row % 60 == 59 { pick(&rare, row / 60) } else { pick(&services, mix(row, 1)) };
    Request {
        service: service.to_owned(),
        session: format!("session-{}", mix(row, 2) % 400),
        trace: format!("{:012x}", mix(row, 3)),
        bytes: if row == 5 { u32::MAX } else { small(row, 4, 70_000) },
        replicas: 3,
        digest: format!("{:016x}", mix(row, 5)),
        body: if row.is_multiple_of(3) {
            format!("{{\"row\": {row}}} ").repeat(30)
        } else {
            format!("ok {row}")
        },
    }
}

fn ts_ns(row: u64) -> i64 {
    // Three rows share each time, and all of them span two days.
    START_NS + i64::try_from(row / 3).unwrap() * 250_000_000_000
}

fn id(row: u64) -> String {
    format!("req-{row:05}")
}

fn metric(row: u64) -> i64 {
    if row == 7 { i64::MIN } else { i64::try_from(mix(row, 6)).unwrap() - (1 << 42) }
}

fn status(row: u64) -> u16 {
    pick(&[200, 200, 200, 404, 503], mix(row, 7))
}

fn latency_ms(row: u64) -> u32 {
    small(row, 8, 250)
}

fn flags(row: u64) -> u16 {
    u16::try_from(small(row, 9, 1 << 9)).unwrap()
}

fn is_deleted(row: u64) -> bool {
    row.is_multiple_of(DELETED_EVERY)
}

fn live() -> impl Iterator<Item = u64> {
    (0..ROWS).filter(|row| !is_deleted(*row))
}

fn builder(row: u64) -> RequestBuilder {
    let event = request(row).at(ts_ns(row)).id(id(row)).metric(metric(row)).status(status(row));
    event.latency_ms(latency_ms(row)).latency_detail_ms(latency_ms(row) / 2).flags(EventFlags(flags(row)))
}

const DIR: &str = "table";

fn config() -> EngineConfig {
    EngineConfig { data_dir: DIR.into(), ..Request::default_config(DIR.into()) }
}

fn options(disk: &Arc<MemoryDisk>) -> Options {
    let disk: Arc<dyn Disk> = disk.clone();
    Options::default().disk(disk)
}

/// The files of a version's fixture, as those of the directory [`DIR`].
fn fixture(version: &str) -> Files {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(version);
    let files = files_of(&RealDisk, &home);
    files
        .into_iter()
        .map(|(path, bytes)| (Path::new(DIR).join(path.strip_prefix(&home).unwrap()), bytes))
        .collect()
}

/// Writes the fixture of the present version. By hand, once, when a version is frozen:
/// `cargo test -p keplordb --test compat -- --ignored`.
#[test]
#[ignore = "writes the fixture of a version that is being frozen"]
fn write_the_fixture() {
    let disk = Arc::new(MemoryDisk::default());
    let options = options(&disk).unlink_grace(Duration::ZERO);
    let store = Store::<Request>::open_with(config(), options).unwrap();
    let mut first = 0;
    for rows in SEGMENTS {
        store.append_batch((first..first + rows).map(builder)).unwrap();
        store.flush().unwrap();
        first += rows;
    }
    for row in first..ROWS {
        store.append(builder(row)).unwrap();
    }
    let deleted: Vec<String> = (0..ROWS).filter(|row| is_deleted(*row)).map(id).collect();
    store.delete(&deleted.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    store.close().unwrap();

    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1");
    for (path, bytes) in files_of(disk.as_ref(), Path::new(DIR)) {
        naive::files::put(&RealDisk, &home.join(path.strip_prefix(DIR).unwrap()), &bytes);
    }
}

#[test]
fn a_directory_of_version_1_opens_with_all_its_answers() {
    let files = fixture("v1");
    assert!(!files.is_empty(), "the fixture is part of the sources");
    // As the directory that it was, and as a plain copy of it.
    for disk in [disk_of(&files), copy_of(&files)] {
        let store = Store::<Request>::open_with(config(), options(&disk)).unwrap();
        assert!(store.open_report().torn_tails.is_empty());
        assert!(store.verify(Depth::Full).is_clean(), "{:?}", store.verify(Depth::Full));
        check(&store);

        // And goes on as any other: what is written now stands beside what was written then.
        store.append(builder(ROWS)).unwrap();
        store.flush().unwrap();
        store.delete(&[&id(ROWS)]).unwrap();
        store.compact(keplordb::Budget::UNLIMITED).unwrap();
        check(&store);
        store.close().unwrap();
        check(&Store::<Request>::open_with(config(), options(&disk)).unwrap());
    }
}

#[test]
fn a_directory_of_version_1_is_read_beside_its_engine_and_without_its_type() {
    let disk = disk_of(&fixture("v1"));
    let reader = Reader::<Request>::open_with(config(), options(&disk)).unwrap();
    assert_eq!(reader.query(Request::filter()).rows().unwrap().len(), live().count());
    let store = AnyStore::open_with(config(), options(&disk)).unwrap();
    let names: Vec<_> = store.columns().iter().map(|column| column.name.clone()).collect();
    for name in ["service", "session", "trace", "bytes", "replicas", "digest", "body"] {
        assert!(names.iter().any(|known| known == name), "{name} of {names:?}");
    }
    assert_eq!(store.query().rows().unwrap().len(), live().count());
}

/// CRC-32 of every file of the fixtures. They are never written again: a release that needs other bytes has another version
/// and another fixture beside these.
const FROZEN: [(&str, u32); 12] = [
    ("v1/MANIFEST", 0x4a61_f1b3),
    ("v1/MANIFEST.spare", 0x23c7_4c18),
    ("v1/segments/0000000000000001.kseg", 0xdf6c_c5a5),
    ("v1/segments/0000000000000002.kseg", 0x14e0_993e),
    ("v1/tombstones.0000000000000001", 0x84d2_5046),
    ("v1/wal/0000000000000003.kwal", 0xc7d5_5b98),
    ("v1-blocks/MANIFEST", 0xbf62_055d),
    ("v1-blocks/MANIFEST.spare", 0x86f5_1892),
    ("v1-blocks/segments/0000000000000002.kseg", 0x9798_eb3b),
    ("v1-blocks/segments/0000000000000003.kseg", 0xe9fa_d05f),
    ("v1-blocks/tombstones.0000000000000001", 0xcc6d_a08e),
    ("v1-blocks/wal/0000000000000004.kwal", 0xfed9_f814),
];

#[test]
fn the_fixtures_are_those_that_were_frozen() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let found: BTreeMap<_, _> =
        files_of(&RealDisk, &home).into_iter().map(|(path, bytes)| (path, crc32fast::hash(&bytes))).collect();
    let frozen: BTreeMap<_, _> = FROZEN.iter().map(|(name, crc)| (home.join(name), *crc)).collect();
    assert_eq!(found, frozen);
}

/// Compares every value and every kind of question with the generator.
fn check(store: &Store<Request>) {
    let rows = store.query(Request::filter()).oldest_first().rows().unwrap();
    assert_eq!(rows.len(), live().count());
    for (found, row) in rows.into_iter().zip(live()) {
        assert_eq!(found.id(), id(row));
        let numbers =
            (found.ts_ns(), found.metric(), found.status(), found.latency_ms(), found.latency_detail_ms());
        let expected = (ts_ns(row), metric(row), status(row), latency_ms(row), latency_ms(row) / 2);
        assert_eq!(numbers, expected, "{row}");
        assert_eq!(found.flags(), EventFlags(flags(row)), "{row}");
        assert_eq!(Request::from(found), request(row), "{row}");
    }
    for row in [0, 1, 7, 1_299, 1_300, 1_599, 1_600, ROWS - 1] {
        let found = store.get(&id(row)).unwrap();
        assert_eq!(found.map(Request::from), (!is_deleted(row)).then(|| request(row)), "{row}");
    }

    let c = Request::cols();
    let by_digest = store.query(c.digest.eq(request(8).digest)).rows().unwrap();
    assert_eq!(by_digest.iter().map(|row| row.id().to_owned()).collect::<Vec<_>>(), [id(8)]);

    let mut expected: BTreeMap<String, (u64, i128, Vec<u32>, BTreeSet<String>)> = BTreeMap::new();
    for row in live() {
        let event = request(row);
        let group = expected.entry(event.service).or_default();
        group.0 += 1;
        group.1 += i128::from(event.bytes);
        group.2.push(latency_ms(row));
        group.3.insert(event.session);
    }
    let ask = (
        count(),
        sum(c.bytes),
        min(c.latency_ms),
        max(c.latency_ms),
        quantile(c.latency_ms, 0.9),
        distinct(c.session),
    );
    let groups = store.query(Request::filter()).group_by(c.service).select(ask).fetch().unwrap();
    assert_eq!(groups.len(), expected.len());
    for (group, (service, (events, bytes, mut latencies, sessions))) in groups.iter().zip(expected) {
        latencies.sort_unstable();
        let rank = (latencies.len() * 9).div_ceil(10) - 1;
        let (n, total, least, most, p90, different) = group.values();
        assert_eq!((group.key(), n, i128::from(total)), (&*service, events, bytes));
        assert_eq!((least, most), (latencies.first().copied(), latencies.last().copied()));
        assert_eq!(p90.map(|p90| (p90.value, p90.is_exact)), Some((latencies[rank], true)));
        assert_eq!(different, sessions.len() as u64);
    }

    let hours = store.query(Request::filter()).bucket(Bucket::hours(1)).select(count()).fetch().unwrap();
    let mut expected: BTreeMap<i64, u64> = BTreeMap::new();
    live().for_each(|row| *expected.entry(ts_ns(row).div_euclid(HOUR_NS) * HOUR_NS).or_default() += 1);
    let hours: BTreeMap<i64, u64> = hours.iter().map(|hour| (hour.bucket(), hour.values())).collect();
    assert_eq!(hours, expected);

    let days = store.rollups(0, i64::MAX, &[Some("api")]).unwrap();
    let of_api = live().filter(|row| request(*row).service == "api").count() as u64;
    assert!(days.len() > 1);
    assert_eq!(days.iter().map(|(_, day)| day.event_count).sum::<u64>(), of_api);
}

const HOUR_NS: i64 = 3_600_000_000_000;
