//! A directory that is a copy, by a replica or by a program like `cp`, and is written on: whatever sync fails on the way, what is
//! acknowledged afterwards stays, and what cannot be taken over stays as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::sim::{Fault, FaultKind};
use keplordb_disk::{Disk, SimDisk};
use keplordb_log::{Log, LogError, ManualClock, Options, Replica, SyncPolicy, Timestamp};

const SOURCE: &str = "commands";
const COPY: &str = "copy";

fn log(disk: &SimDisk, dir: &str) -> Log {
    let options = Options {
        max_segment_bytes: 700,
        sync: SyncPolicy::Each,
        clock: Arc::new(ManualClock::new(Timestamp::from_ns(1))),
        disk: Arc::new(disk.clone()),
        ..Options::default()
    };
    Log::open_with(dir, options).unwrap()
}

fn entries(log: &Log) -> Vec<Vec<u8>> {
    let (mut reader, mut entries) = (log.reader().unwrap(), Vec::new());
    while let Some(entry) = reader.next().unwrap() {
        entries.push(entry.bytes.to_vec());
    }
    entries
}

/// A source with entries of 50 bytes, and a replica's copy of it on another disk.
fn replicated(count: u8) -> (Log, SimDisk) {
    let source = log(&SimDisk::default(), SOURCE);
    let writer = source.writer().unwrap();
    for number in 0..count {
        writer.write(&[number; 50]).unwrap();
    }
    let disk = SimDisk::default();
    Replica::between(&source, &log(&disk, COPY)).unwrap().step().unwrap();
    (source, disk)
}

fn has(disk: &SimDisk, name: &str) -> bool {
    disk.list(Path::new(COPY)).unwrap().iter().any(|entry| entry.name == name)
}

/// The file of the last segment of the copy.
fn last_file(disk: &SimDisk) -> PathBuf {
    let mut names = disk.list(Path::new(COPY)).unwrap().into_iter().map(|entry| entry.name);
    Path::new(COPY).join(names.rfind(|name| name.contains(".segment")).unwrap())
}

#[test]
fn whatever_fails_in_a_takeover_no_mark_comes_back_and_takes_what_was_written_since() {
    let (_, copied) = replicated(10);
    let mut hit = 0;
    for kind in [FaultKind::SyncFails, FaultKind::Io, FaultKind::Full, FaultKind::Interrupted] {
        for at in 1..100 {
            let disk = copied.kill();
            disk.fail(Fault { at, kind, forever: false });
            let log_here = log(&disk, COPY);
            let writer = match log_here.writer() {
                Ok(writer) => writer,
                Err(_) => log_here.writer().unwrap_or_else(|error| panic!("{kind:?} at {at}: {error}")),
            };
            hit += disk.faults_hit();
            disk.heal();
            writer.write(b"acknowledged").unwrap();
            drop(writer);
            for seed in 0..20 {
                let image = disk.power_cut(seed);
                let log = log(&image, COPY);
                let what = format!("{kind:?} at {at}, seed {seed}");
                assert_eq!(entries(&log).len(), 11, "{what}, read");
                log.writer().unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(entries(&log).last().unwrap(), b"acknowledged", "{what}");
                assert!(!has(&image, "REPLICA"), "{what}");
            }
        }
    }
    assert!(hit > 60, "{hit} faults");
}

#[test]
fn an_ended_copy_is_no_replica() {
    let (source, disk) = replicated(3);
    // Its end was not removed: the disk failed just then.
    let removal = |disk: &SimDisk| {
        disk.trace()
            .iter()
            .find(|operation| operation.to_string().ends_with("remove copy/REPLICA"))
            .map(|operation| operation.number)
    };
    let clean = disk.kill();
    log(&clean, COPY).writer().unwrap();
    disk.fail(Fault {
        at: disk.operations() + removal(&clean).unwrap(),
        kind: FaultKind::Io,
        forever: false,
    });
    let copy = log(&disk, COPY);
    assert!(matches!(copy.writer(), Err(LogError::Io { op: "remove", .. })));
    assert!(has(&disk, "REPLICA"));
    assert!(matches!(Replica::between(&source, &copy), Err(LogError::NotAReplica { .. })));
    assert_eq!(entries(&copy).len(), 3);
    copy.writer().unwrap().write(b"goes on").unwrap();
    assert!(!has(&disk, "REPLICA"));
    assert_eq!(entries(&copy).len(), 4);
}

#[test]
fn a_copy_that_is_damaged_stays_a_copy() {
    let (source, disk) = replicated(5);
    let file = disk.open(&last_file(&disk)).unwrap();
    file.write_at(&[0xee], file.bytes().unwrap() - 20).unwrap();
    let copy = log(&disk, COPY);
    let refused = copy.writer().unwrap_err();
    // Also the last frame: all that the mark counts was synced.
    assert!(matches!(refused, LogError::Corrupt { .. }), "{refused}");
    assert!(has(&disk, "REPLICA"));
    assert!(matches!(Replica::between(&source, &copy), Err(LogError::Corrupt { .. })));
}

#[test]
fn a_copy_that_lost_its_marked_segment_says_so() {
    let (_, disk) = replicated(30);
    let (copy, lost) = (log(&disk, COPY), last_file(&disk));
    assert!(copy.verify().unwrap().is_sound());
    disk.remove(&lost).unwrap();
    let refused = copy.writer().unwrap_err();
    assert!(
        matches!(&refused, LogError::Truncated { file, found_bytes: 0, .. } if *file == lost),
        "{refused}"
    );
    let report = copy.verify().unwrap();
    assert!(report.damage.iter().any(|damage| damage.file == lost), "{report:?}");
    assert!(has(&disk, "REPLICA"));
}

/// A program that copies syncs nothing: what a writer acknowledges must not stand behind what a power cut takes.
#[test]
fn a_copied_directory_is_brought_to_disk_before_it_is_written() {
    let origin = SimDisk::default();
    let writer = log(&origin, SOURCE).writer().unwrap();
    for number in 0..30 {
        writer.write(&[number; 50]).unwrap();
    }
    // Its indexes say then that it is synced, which is not true of their copies.
    writer.close().unwrap();
    let disk = SimDisk::default();
    origin.write_out(&disk, Path::new("")).unwrap();
    assert_eq!(entries(&log(&disk.power_cut(0), SOURCE)).len(), 0);
    let copy = log(&disk, SOURCE);
    let writer = copy.writer().unwrap();
    assert!(writer.recovered().copied_bytes > 0);
    for number in 0..20 {
        writer.write(&[number; 50]).unwrap();
    }
    for seed in 0..10 {
        assert_eq!(entries(&log(&disk.power_cut(seed), SOURCE)).len(), 50, "seed {seed}");
    }
    writer.close().unwrap();
    // From now on it is no copy.
    assert_eq!(copy.writer().unwrap().recovered().copied_bytes, 0);
}
