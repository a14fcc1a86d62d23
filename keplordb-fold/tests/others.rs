//! Others at the same log at the worst moments: within an append, a batch, a rotation; file systems without locks; and readers at
//! every step of a batch.

mod common;
#[path = "common/meddling.rs"]
mod meddling;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{active, all, event, types};
use keplordb_fold::disk::sim::{Cut, Fate, OperationKind};
use keplordb_fold::disk::{Disk, MemoryDisk, SimDisk, read_all};
use keplordb_fold::{EventLog, FoldError, LockMode};
use meddling::MeddlingDisk;

fn append_raw(disk: &MemoryDisk, bytes: &[u8]) {
    disk.open_append("app/app.jsonl".as_ref()).unwrap().append(bytes).unwrap();
}

fn open(disk: impl Disk + 'static, mode: LockMode) -> std::io::Result<EventLog> {
    EventLog::builder("app").disk(Arc::new(disk)).lock_mode(mode).view("types", types).open()
}

/// C22
#[test]
fn a_file_system_without_locks_is_not_called_another_writer() {
    let disk = MeddlingDisk::new().without_locks();
    let error = open(disk.clone(), LockMode::Flock).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        !error.to_string().contains("another writer") && error.to_string().contains("app.jsonl"),
        "{error}"
    );
    let inner = error.get_ref().unwrap().downcast_ref::<FoldError>();
    assert!(matches!(inner, Some(FoldError::Io { step: "lock", .. })));
    let mut log = open(disk, LockMode::None).unwrap();
    log.append(&event("a")).unwrap();
    log.rotate().unwrap();
    assert_eq!(all(&log.reader()), ["a"]);
}

/// C2: between the look at the end and the write.
#[test]
fn an_event_is_not_glued_to_an_unfinished_line_that_comes_at_the_last_moment() {
    for (tail, kept) in
        [(&b"{\"type\":\"torn"[..], None), (br#"{"type":"whole","data":1,"ts":1}"#, Some("whole"))]
    {
        for batch in [false, true] {
            let times = Arc::new(AtomicUsize::new(0));
            let disk = MeddlingDisk::new().before_append({
                let times = Arc::clone(&times);
                move |disk| {
                    if times.fetch_add(1, Ordering::SeqCst) == 1 {
                        append_raw(disk, tail);
                    }
                }
            });
            let mut log = open(disk.clone(), LockMode::Flock).unwrap();
            let first = log.append(&event("a")).unwrap();
            let results = if batch {
                log.append_batch(&[event("b"), event("c")]).unwrap()
            } else {
                vec![log.append(&event("b")).unwrap()]
            };
            let mut expected = vec!["a"];
            expected.extend(kept);
            expected.extend(if batch { &["b", "c"][..] } else { &["b"] });
            assert_eq!(active(&log.reader()), expected);
            let moved = if kept.is_some() { tail.len() as u64 + 1 } else { 0 };
            assert_eq!(results[0].start_offset, first.end_offset + moved);
        }
    }
}

/// C20
#[test]
fn what_others_append_while_a_log_is_rotated_is_archived_or_stays() {
    // The archive is made, once; then the log is longer than what was read of it.
    let times = Arc::new(AtomicUsize::new(0));
    let disk = MeddlingDisk::new().before_create({
        let times = Arc::clone(&times);
        move |disk| {
            let is_rotating = matches!(disk.bytes("app/rotation.journal".as_ref()), Ok(Some(_)));
            if is_rotating && times.fetch_add(1, Ordering::SeqCst) == 0 {
                append_raw(disk, b"{\"type\":\"other\",\"data\":1,\"ts\":1}\n");
            }
        }
    });
    let mut log = open(disk.clone(), LockMode::Flock).unwrap();
    log.append(&event("a")).unwrap();
    log.rotate().unwrap();
    assert!(times.load(Ordering::SeqCst) > 0);
    assert_eq!(log.active_log_size().unwrap(), 0);
    assert_eq!(all(&log.reader()), ["a", "other"]);
    assert_eq!(*log.view::<Vec<String>>("types").unwrap(), ["a", "other"]);
    assert_eq!(disk.bytes("app/rotation.journal".as_ref()).unwrap(), None);
}

#[test]
fn a_rotation_gives_up_where_others_append_without_pause() {
    let disk = MeddlingDisk::new().before_create(|disk| {
        if matches!(disk.bytes("app/rotation.journal".as_ref()), Ok(Some(_))) {
            append_raw(disk, b"{\"type\":\"other\",\"data\":1,\"ts\":1}\n");
        }
    });
    let mut log = open(disk.clone(), LockMode::Flock).unwrap();
    log.append(&event("a")).unwrap();
    assert_eq!(log.rotate().unwrap_err().kind(), ErrorKind::ResourceBusy);
    assert!(!disk.list("app".as_ref()).unwrap().iter().any(|entry| entry.name.contains("archive.jsonl")));
    assert_eq!(disk.bytes("app/rotation.journal".as_ref()).unwrap(), None);
    log.append(&event("b")).unwrap();
    assert_eq!(all(&log.reader()), ["a", "other", "other", "other", "b"]);
}

#[test]
fn readers_see_all_of_a_batch_or_nothing_at_every_step() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone(), LockMode::Flock).unwrap();
    log.append(&event("a")).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    disk.after_each({
        let (reader, seen) = (log.reader(), Arc::clone(&seen));
        move |_, _| seen.lock().unwrap().push(all(&reader).len())
    });
    log.append_batch(&[event("b"), event("c"), event("d")]).unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, 1, 4, 4], "written, synced, committed, synced");
}

#[test]
fn whatever_a_power_cut_makes_of_a_commit_the_batch_is_whole_or_absent() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone(), LockMode::Flock).unwrap();
    log.append(&event("a")).unwrap();
    let copies = Arc::new(Mutex::new(Vec::new()));
    disk.after_each({
        let copies = Arc::clone(&copies);
        move |_, copy| copies.lock().unwrap().push(copy)
    });
    log.append_batch(&[event("b"), event("c"), event("d")]).unwrap();
    let committed = &copies.lock().unwrap()[2];
    let undecided = committed.undecided();
    assert_eq!(undecided.pieces.iter().map(|piece| piece.bytes).collect::<Vec<_>>(), [1]);
    for (fate, whole) in [
        (Fate::Absent, false),
        (Fate::Written, true),
        (Fate::Torn(0), false),
        (Fate::Zeros, true),
        (Fate::Garbage, true),
    ] {
        let image = committed.cut(&Cut { fates: vec![fate], names: vec![] });
        let found = all(&open(image, LockMode::Flock).unwrap().reader());
        let expected: &[&str] = if whole { &["a", "b", "c", "d"] } else { &["a"] };
        assert_eq!(found, expected, "{fate:?}");
    }
}

/// C10
#[test]
fn a_crash_between_archive_and_log_doubles_nothing() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone(), LockMode::Flock).unwrap();
    for name in ["a", "b", "c"] {
        log.append(&event(name)).unwrap();
    }
    let copies = Arc::new(Mutex::new(Vec::new()));
    disk.after_each({
        let copies = Arc::clone(&copies);
        move |_, copy| copies.lock().unwrap().push(copy)
    });
    log.rotate().unwrap();
    let mut between = 0;
    for copy in copies.lock().unwrap().iter() {
        let both = ["app/archive.jsonl.zst", "app/app.jsonl"].map(|file| copy.bytes(file.as_ref()).unwrap());
        between += usize::from(both.iter().all(|bytes| bytes.is_some_and(|bytes| bytes > 0)));
        let mut log = open(copy.kill(), LockMode::Flock).unwrap();
        log.rotate().unwrap();
        log.append(&event("d")).unwrap();
        log.rebuild("types").unwrap();
        assert_eq!(*log.view::<Vec<String>>("types").unwrap(), ["a", "b", "c", "d"]);
    }
    assert!(between >= 2, "the frame is there, written and synced, and the log too");
    let cut = disk.trace().iter().position(|operation| {
        operation.kind == OperationKind::Truncate { bytes: 0 } && operation.path.ends_with("app.jsonl")
    });
    let synced = disk.trace().iter().rposition(|operation| {
        operation.kind == OperationKind::Sync && operation.path.ends_with("archive.jsonl.zst")
    });
    assert!(synced < cut, "the log is cut when its text is safe");
}

#[test]
fn a_journal_that_comes_back_beside_a_log_that_has_grown_is_not_believed() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone(), LockMode::Flock).unwrap();
    for name in ["a", "b"] {
        log.append(&event(name)).unwrap();
    }
    let journal = Arc::new(Mutex::new(None));
    disk.after_each({
        let journal = Arc::clone(&journal);
        move |_, copy| {
            if let Ok(bytes) = read_all(&copy, "app/rotation.journal".as_ref(), 1000) {
                *journal.lock().unwrap() = Some(bytes);
            }
        }
    });
    log.rotate().unwrap();
    for name in ["c", "d", "e", "f"] {
        log.append(&event(name)).unwrap();
    }
    drop(log);
    // As after a sync of the directory that failed, and a power cut.
    let journal = journal.lock().unwrap().take().unwrap();
    let path = Path::new("app/rotation.journal");
    disk.create(path).unwrap().write_at(&journal, 0).unwrap();
    let log = open(disk.clone(), LockMode::Flock).unwrap();
    assert_eq!(all(&log.reader()), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(disk.bytes(path).unwrap(), None);
}
