//! Every byte of every file of a log is flipped, and every length of it cut, one at a time. Nothing panics; what is damaged is
//! told by file, or does not matter to the answers; what is read before the damage is right; and a file that may be missing may be damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk, MemoryDisk, read_all};
use keplordb_log::{Log, LogError, ManualClock, Options, Timestamp};

type Entries = Vec<(Timestamp, Vec<u8>)>;

const DIR: &str = "log";

fn log_on(disk: MemoryDisk) -> Log {
    let clock = Arc::new(ManualClock::new(Timestamp::from_ns(1000)));
    let options = Options { disk: Arc::new(disk), clock, max_segment_bytes: 300, ..Options::default() };
    Log::open_with(DIR, options).unwrap()
}

/// The files of a log that was closed: two segments, one of them sealed, and their indexes.
fn files() -> (Vec<(PathBuf, Vec<u8>)>, Entries) {
    let log = log_on(MemoryDisk::default());
    let writer = log.writer().unwrap();
    for number in 0..3_u8 {
        writer.write_batch([vec![number; 20], vec![number; usize::from(number)]]).unwrap();
    }
    for number in 10..13_u8 {
        writer.write_batch([vec![number; 30]]).unwrap();
    }
    writer.close().unwrap();
    assert_eq!(log.segments().unwrap().len(), 2);
    let disk = log.options().disk.as_ref();
    let names =
        disk.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).filter(|name| name != "LOCK");
    let files = names.map(|name| {
        let path = Path::new(DIR).join(name);
        let bytes = read_all(disk, &path, u64::MAX).unwrap();
        (path, bytes)
    });
    let files: Vec<_> = files.collect();
    assert_eq!(files.len(), 4);
    (files, read(&log).0)
}

/// A log with one of the files replaced.
fn with(files: &[(PathBuf, Vec<u8>)], replaced: &Path, bytes: &[u8]) -> Log {
    let disk = MemoryDisk::default();
    disk.create_dir(Path::new(DIR)).unwrap();
    for (path, whole) in files {
        let bytes = if path == replaced { bytes } else { whole };
        disk.create(path).unwrap().write_at(bytes, 0).unwrap();
    }
    log_on(disk)
}

/// What a reader gives, and how it ends.
fn read(log: &Log) -> (Entries, Option<LogError>) {
    let mut entries = Vec::new();
    let mut reader = match log.reader() {
        Ok(reader) => reader,
        Err(error) => return (entries, Some(error)),
    };
    loop {
        match reader.next() {
            Ok(Some(entry)) => entries.push((entry.time, entry.bytes.to_vec())),
            Ok(None) => return (entries, None),
            Err(error) => return (entries, Some(error)),
        }
    }
}

/// Whether an error says that this file is damaged.
fn tells(error: Option<&LogError>, path: &Path) -> bool {
    match error {
        Some(
            LogError::Corrupt { file, .. } | LogError::Truncated { file, .. } | LogError::TooNew { file, .. },
        ) => file == path,
        _ => false,
    }
}

/// All ways to look at a log must not panic; what they say is for others to check.
fn look(log: &Log) {
    let _ = (log.segments(), log.stats(), log.last(), log.newest().map(|mut reader| reader.back().is_ok()));
    let _ = log.from(Timestamp::from_ns(1004)).map(|mut reader| reader.next().is_ok());
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "index")
}

#[test]
fn every_flip_is_told_or_does_not_matter() {
    let (files, expected) = files();
    let last = &files.last().unwrap().0;
    for (path, whole) in &files {
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let what = format!("byte {at} of {} by {flip:x}", path.display());
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let log = with(&files, path, &bytes);
                look(&log);
                let (entries, error) = read(&log);
                if is_index(path) {
                    assert!(error.is_none() && entries == expected, "{what}: {error:?}");
                    assert!(log.verify().unwrap().is_sound(), "{what}");
                    let writer = log.writer().unwrap_or_else(|error| panic!("{what}: {error}"));
                    writer.write(b"goes on").unwrap();
                    assert_eq!(read(&log).0.len(), expected.len() + 1, "{what}");
                    continue;
                }
                assert!(expected.starts_with(&entries), "{what}");
                assert!(tells(error.as_ref(), path), "{what}: {error:?}");
                assert!(
                    log.verify().is_ok_and(|report| !report.is_sound() && report.damage[0].file == *path),
                    "{what}"
                );
                let opened = log.writer();
                // Of the segment before the last only its header and closing frame are looked at.
                if path == last || at < 64 || at >= whole.len() - 32 {
                    assert!(tells(opened.as_ref().err(), path), "{what}: {opened:?}");
                } else {
                    // What is sealed is not read again, and damage there hinders nobody from writing.
                    opened.unwrap().write(b"goes on").unwrap();
                }
            }
        }
    }
}

#[test]
fn every_cut_is_told_or_does_not_matter() {
    let (files, expected) = files();
    for (path, whole) in &files {
        for length in 0..whole.len() {
            let what = format!("{length} bytes of {}", path.display());
            let log = with(&files, path, &whole[..length]);
            look(&log);
            let (entries, error) = read(&log);
            if is_index(path) {
                assert!(error.is_none() && entries == expected, "{what}: {error:?}");
                assert!(log.writer().is_ok(), "{what}");
                continue;
            }
            assert!(expected.starts_with(&entries), "{what}");
            assert!(tells(error.as_ref(), path), "{what}: {error:?}");
            assert!(tells(log.writer().as_ref().err(), path), "{what}");
        }
    }
}

/// Without the index of a last segment nothing says that its last batches were synced: a cut is what a crash leaves.
#[test]
fn a_cut_that_a_crash_may_have_made_is_repaired() {
    let (mut files, expected) = files();
    let (path, whole) = files.pop().unwrap();
    files.retain(|(index, _)| *index != path.with_extension("index"));
    assert_eq!(files.len(), 2);
    files.push((path.clone(), whole.clone()));
    let (mut repaired, mut refused) = (0, 0);
    for length in 0..whole.len() {
        let log = with(&files, &path, &whole[..length]);
        match log.writer() {
            Ok(writer) => {
                repaired += 1;
                let (entries, error) = read(&log);
                assert!(error.is_none() && expected.starts_with(&entries), "{length} bytes: {error:?}");
                writer.write(b"goes on").unwrap();
                assert_eq!(read(&log).0.len(), entries.len() + 1);
            }
            // The header and the first batch were synced before the file got its name.
            Err(error) => {
                refused += 1;
                assert!(tells(Some(&error), &path) && length < 64 + 32 + 32, "{length} bytes: {error}");
            }
        }
    }
    assert!(repaired > 50 && refused > 90, "{repaired} repaired, {refused} refused");
}
