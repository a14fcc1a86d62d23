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
use keplordb_fold::{
    ConditionalAppendError, EventLog, FoldError, LockMode, SequencedAppendError, SyncPolicy, UniqueAppend,
};
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

const OTHER: &[u8] = b"{\"type\":\"other\",\"data\":1,\"ts\":1}\n";

fn append_any(disk: &dyn Disk, bytes: &[u8]) {
    disk.open_append("app/app.jsonl".as_ref()).unwrap().append(bytes).unwrap();
}

fn text_of(disk: &dyn Disk, file: &str) -> String {
    String::from_utf8_lossy(&read_all(disk, file.as_ref(), u64::MAX).unwrap()).into_owned()
}

/// Does something once, behind the first operation after which `is_time`.
fn once_when(
    disk: &SimDisk,
    is_time: impl Fn(&SimDisk) -> bool + Send + Sync + 'static,
    work: impl Fn(&SimDisk) + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let times = Arc::new(AtomicUsize::new(0));
    let (counted, this) = (Arc::clone(&times), disk.clone());
    disk.after_each(move |_, _| {
        if is_time(&this) && counted.fetch_add(1, Ordering::SeqCst) == 0 {
            work(&this);
        }
    });
    times
}

#[test]
fn what_comes_between_a_condition_and_its_append_is_a_conflict() {
    for way in 0..3 {
        let times = Arc::new(AtomicUsize::new(0));
        let disk = MeddlingDisk::new().before_append({
            let times = Arc::clone(&times);
            move |disk| {
                if times.fetch_add(1, Ordering::SeqCst) == 1 {
                    append_raw(disk, OTHER);
                }
            }
        });
        let mut writer = open(disk, LockMode::None).unwrap();
        let first = writer.append(&event("a")).unwrap();
        let with_id = event("b").with_id("order-7");
        let expected = match way {
            0 => {
                let refused = writer.append_if(&event("b"), first.end_offset, &first.line_hash);
                assert!(matches!(refused, Err(ConditionalAppendError::Conflict(_))), "{refused:?}");
                &["a", "other"][..]
            }
            1 => {
                let refused = writer.append_if_seq(&event("b"), 1);
                assert!(
                    matches!(refused, Err(SequencedAppendError::Conflict { expected: 1, actual: 2 })),
                    "{refused:?}"
                );
                &["a", "other"]
            }
            _ => {
                assert!(matches!(writer.append_unique(&with_id).unwrap(), UniqueAppend::Appended(_)));
                assert!(matches!(writer.append_unique(&with_id).unwrap(), UniqueAppend::Duplicate { .. }));
                &["a", "other", "b"]
            }
        };
        assert_eq!(active(&writer.reader()), expected);
        writer.append(&event("c")).unwrap();
        assert_eq!(active(&writer.reader()), [expected, &["c"]].concat());
    }
}

/// The last look at the log's length is the last thing before the cut.
#[test]
fn an_event_that_comes_just_before_a_cut_is_not_cut() {
    let disk = SimDisk::default();
    open(disk.clone(), LockMode::Flock).unwrap().append(&event("a")).unwrap();
    let mut log = open(disk.clone(), LockMode::Flock).unwrap();
    log.append(&event("b")).unwrap();
    let times = once_when(
        &disk,
        |disk| text_of(disk, "app/app.session").starts_with("open 0 "),
        |disk| append_any(disk, OTHER),
    );
    log.rotate().unwrap();
    assert!(times.load(Ordering::SeqCst) > 0);
    assert_eq!(all(&log.reader()), ["a", "b", "other"]);
}

/// What is cut was looked at.
#[test]
fn an_event_that_comes_while_the_end_is_mended_is_not_cut() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone(), LockMode::Flock).unwrap();
    log.append(&event("a")).unwrap();
    append_any(&disk, b"{\"type\":\"torn");
    let times = once_when(
        &disk,
        |disk| disk.list("app/damaged".as_ref()).is_ok_and(|entries| !entries.is_empty()),
        |disk| append_any(disk, &[b"\n", OTHER].concat()),
    );
    log.append(&event("b")).unwrap();
    assert!(times.load(Ordering::SeqCst) > 0);
    let text = text_of(&disk, "app/app.jsonl");
    assert!(text.contains("\"other\"") && text.contains("\"b\""), "{text}");
}

#[test]
fn a_batch_that_died_behind_the_rotation_of_another_is_mended() {
    let disk = SimDisk::default();
    let mut first = open(disk.clone(), LockMode::None).unwrap();
    first.append(&event("a")).unwrap();
    let end = first.active_log_size().unwrap();
    let mut second = open(disk.clone(), LockMode::None).unwrap();
    second.rotate().unwrap();
    // It did not come to its commit; the log is longer than the first writer knew it, or just as long.
    let batch = [b"#", &OTHER[1..]].concat();
    let long = [&batch[..], &OTHER.repeat(4)].concat();
    let equal = [&batch[..], &vec![b'\n'; usize::try_from(end).unwrap() - batch.len()]].concat();
    for batch in [long, equal] {
        append_any(&disk, &batch);
        first.append(&event("b")).unwrap();
        assert_eq!(all(&first.reader()), ["a", "b"]);
        second.append(&event("c")).unwrap();
        assert_eq!(all(&first.reader()), ["a", "b", "c"]);
        drop(second);
        second = open(disk.clone(), LockMode::None).unwrap();
        assert_eq!(all(&first.reader()), ["a", "b", "c"]);
        return_to(&disk, end, &mut first);
    }
}

/// Brings the log back to one event in the archive and a writer that knows the log as `end` bytes long.
fn return_to(disk: &SimDisk, end: u64, first: &mut EventLog) {
    for name in ["archive.jsonl.zst", "archive.index"] {
        let _ = disk.remove(&Path::new("app").join(name));
    }
    disk.open("app/app.jsonl".as_ref()).unwrap().truncate(0).unwrap();
    *first = open(disk.clone(), LockMode::None).unwrap();
    first.append(&event("a")).unwrap();
    assert_eq!(first.active_log_size().unwrap(), end);
    open(disk.clone(), LockMode::None).unwrap().rotate().unwrap();
}

/// Killed between the cut and the journal's removal, while others are at work.
#[test]
fn a_journal_that_another_left_is_removed_before_the_next_append() {
    let disk = SimDisk::default();
    let mut first = open(disk.clone(), LockMode::None).unwrap();
    let mut second = open(disk.clone(), LockMode::None).unwrap();
    second.append(&event("a")).unwrap();
    let journal = Path::new("app/rotation.journal");
    let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
    disk.after_each({
        let (disk, kept) = (disk.clone(), Arc::clone(&kept));
        move |_, _| {
            if let Ok(bytes) = read_all(&disk, journal, 1 << 12) {
                *kept.lock().unwrap() = bytes;
            }
        }
    });
    second.rotate().unwrap();
    disk.after_each(|_, _| {});
    disk.create(journal).unwrap().write_at(&kept.lock().unwrap(), 0).unwrap();
    for n in 1..4 {
        first.append(&event("b")).unwrap();
        assert_eq!(all(&first.reader()), [&["a"][..], &["b"].repeat(n)].concat());
    }
}

/// The mark of where a crash may have damaged the log begins at 0 with each rotation, and where an opening has looked.
#[test]
fn the_mark_of_a_session_follows_what_is_known() {
    for mode in [LockMode::None, LockMode::Flock] {
        let disk = SimDisk::default();
        open(disk.clone(), LockMode::Flock).unwrap().append(&event("a")).unwrap();
        open(disk.clone(), mode).unwrap().append(&event("b")).unwrap();
        // As after a kill.
        let disk = {
            let mut log = open(disk.clone(), mode).unwrap();
            log.append(&event("c")).unwrap();
            disk.kill()
        };
        let mut log = open(disk.clone(), mode).unwrap();
        let mark = |what: &str| {
            let mark = text_of(&disk, "app/app.session");
            assert!(mark.starts_with(what), "{mark} is not {what}, {mode:?}");
        };
        mark(&format!("open {} ", log.active_log_size().unwrap()));
        log.rotate().unwrap();
        mark("open 0 ");
        log.append(&event("d")).unwrap();
        assert_eq!(all(&log.reader()), ["a", "b", "c", "d"]);
    }
}

#[test]
fn a_session_does_not_end_where_others_are_at_work() {
    let disk = SimDisk::default();
    let mut alone = open(disk.clone(), LockMode::Flock).unwrap();
    alone.append(&event("a")).unwrap();
    let mut other = EventLog::builder("app")
        .disk(Arc::new(disk.clone()))
        .lock_mode(LockMode::None)
        .sync_policy(SyncPolicy::OnDemand)
        .open()
        .unwrap();
    other.append(&event("b")).unwrap();
    drop(alone);
    assert!(text_of(&disk, "app/app.session").starts_with("open "));
    for seed in 0..16 {
        let image = disk.power_cut(seed);
        let log = open(image, LockMode::Flock).unwrap();
        let found = all(&log.reader());
        assert!(found == ["a"] || found == ["a", "b"], "{found:?}");
    }
}
