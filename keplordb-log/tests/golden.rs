//! Does this release read what earlier ones wrote? `tests/data/v<N>` holds a log and a copy of it, written by a release of format
//! version N; their values are known here. The newest may be written anew by the ignored test, the others never.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk, MemoryDisk, RealDisk, read_all};
use keplordb_log::{Log, LogError, ManualClock, Options, Replica, SyncPolicy, Timestamp};

const VERSIONS: [&str; 1] = ["v1"];

/// The batches of every golden log: times and bytes.
fn batches() -> Vec<Vec<(Timestamp, Vec<u8>)>> {
    let at = |ns: i64| Timestamp::from_ns(1_767_225_599_123_456_789 + ns);
    vec![
        vec![(at(0), b"first".to_vec()), (at(1), Vec::new()), (at(2), vec![0x80; 200])],
        // Long enough that the frame behind it has a slot of its own.
        vec![(at(1 << 40), vec![b'k'; 70_000])],
        vec![(at((1 << 40) + 1), b"behind it".to_vec()), (at((1 << 40) + 300), b"300 ns".to_vec())],
        // The next segment.
        vec![(at(1 << 50), vec![b's'; 20_000])],
        vec![(at((1 << 50) + 5), b"last but one".to_vec()), (at((1 << 50) + 6), b"last".to_vec())],
    ]
}

fn options() -> Options {
    let clock = Arc::new(ManualClock::new(Timestamp::from_ns(0)));
    Options { max_segment_bytes: 80_000, sync: SyncPolicy::OnDemand, clock, ..Options::default() }
}

fn data(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(version)
}

/// The files of a golden directory, in memory, where they may be changed.
fn loaded(dir: &Path) -> MemoryDisk {
    let disk = MemoryDisk::default();
    disk.create_dir(Path::new("log")).unwrap();
    for entry in RealDisk.list(dir).unwrap() {
        let bytes = read_all(&RealDisk, &dir.join(&entry.name), u64::MAX).unwrap();
        disk.create(&Path::new("log").join(&entry.name)).unwrap().write_at(&bytes, 0).unwrap();
    }
    disk
}

fn log_on(disk: MemoryDisk) -> Log {
    Log::open_with("log", Options { disk: Arc::new(disk), ..options() }).unwrap()
}

fn read(log: &Log) -> Vec<(Timestamp, Vec<u8>)> {
    let (mut reader, mut entries) = (log.reader().unwrap(), Vec::new());
    while let Some(entry) = reader.next().unwrap() {
        entries.push((entry.time, entry.bytes.to_vec()));
    }
    entries
}

#[test]
fn a_golden_log_is_read_and_written_on() {
    let expected: Vec<_> = batches().into_iter().flatten().collect();
    for version in VERSIONS {
        for part in ["log", "copy"] {
            let log = log_on(loaded(&data(version).join(part)));
            assert_eq!(read(&log), expected, "{version}/{part}");
            assert!(log.verify().unwrap().is_sound());
            let segments = log.segments().unwrap();
            let counts: Vec<_> = segments.iter().map(|segment| (segment.number, segment.entries)).collect();
            assert_eq!(counts, [(0, 6), (1, 3)], "{version}/{part}");
            for (time, bytes) in &expected {
                let mut reader = log.from(*time).unwrap();
                let entry = reader.next().unwrap().unwrap();
                assert!(entry.time == *time && entry.bytes == bytes);
            }

            let writer = log.writer().unwrap();
            assert_eq!(writer.recovered().torn_bytes, 0, "{version}/{part}");
            // It was copied here, and nothing proves that what was written by the copying is on disk.
            assert!(writer.recovered().copied_bytes > 0, "{version}/{part}");
            let time = writer.write(b"by this release").unwrap();
            assert_eq!(Some(time), expected.last().map(|(last, _)| Timestamp::from_ns(last.as_ns() + 1)));
            writer.close().unwrap();
            assert_eq!(read(&log)[expected.len()..], [(time, b"by this release".to_vec())]);
        }
    }
}

#[test]
fn a_log_of_the_future_says_so() {
    let disk = loaded(&data("v1").join("log"));
    let name = disk
        .list(Path::new("log"))
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .rfind(|name| name.contains("segment"));
    let path = Path::new("log").join(name.unwrap());
    // The checksum of its header is about what it says, so not about one of version 1.
    let file = disk.open(&path).unwrap();
    file.write_at(&2_u32.to_le_bytes(), 8).unwrap();
    file.write_at(&[1], 56).unwrap();
    let log = log_on(disk);
    for error in [log.writer().err(), log.last().err()] {
        assert!(
            matches!(&error, Some(LogError::TooNew { found: 2, max: 1, file }) if *file == path),
            "{error:?}"
        );
    }
}

#[test]
#[ignore = "it writes the files of the newest version"]
fn write_the_newest() {
    let dir = data("v1");
    let log = Log::open_with(dir.join("log"), options()).unwrap();
    let writer = log.writer().unwrap();
    for batch in batches() {
        writer.write_batch_at(&batch).unwrap();
    }
    writer.close().unwrap();
    Replica::new(&log, dir.join("copy")).unwrap().step().unwrap();
    for part in ["log", "copy"] {
        RealDisk.remove(&dir.join(part).join("LOCK")).unwrap();
    }
}
