//! What is made of damage and of crashes at the end of a log: what others leave there is mended by the next writer, and never
//! dropped silently. One test for each hole that is closed.

#![expect(clippy::disallowed_methods, reason = "another program changes the files")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use common::{active, all, event, types};
use keplordb_fold::{EventLog, EventReader, EventWriter, LockMode};
use tempfile::tempdir;

fn append_raw(dir: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().append(true).open(dir.join("app.jsonl")).unwrap();
    file.write_all(bytes).unwrap();
}

/// The contents of what was set aside.
fn set_aside(dir: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(dir.join("damaged")) else { return Vec::new() };
    entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// C2, at opening
#[test]
fn a_torn_tail_is_set_aside_when_the_log_is_opened() {
    let dir = tempdir().unwrap();
    EventWriter::open(dir.path()).unwrap().append(&event("a")).unwrap();
    append_raw(dir.path(), b"{\"type\":\"torn");
    let mut writer = EventWriter::open(dir.path()).unwrap();
    assert_eq!(active(&writer.reader()), ["a"]);
    writer.append(&event("b")).unwrap();
    assert_eq!(active(&writer.reader()), ["a", "b"]);
    assert_eq!(set_aside(dir.path()), [b"{\"type\":\"torn"]);
}

/// C2, before an append
#[test]
fn a_torn_tail_that_another_program_leaves_is_not_glued_to_the_next_event() {
    let dir = tempdir().unwrap();
    let mut writer = EventWriter::open(dir.path()).unwrap();
    for (tail, kept) in [("{\"type\":\"torn", 1), ("{\"type\":\"whole\",\"data\":null,\"ts\":1}", 2)] {
        append_raw(dir.path(), tail.as_bytes());
        let before = active(&writer.reader()).len();
        writer.append(&event("b")).unwrap();
        assert_eq!(active(&writer.reader()).len(), before + kept, "{tail}");
    }
    assert_eq!(active(&writer.reader()), ["b", "whole", "b"]);
    assert_eq!(set_aside(dir.path()), [b"{\"type\":\"torn"]);
}

/// C3
#[test]
fn a_torn_tail_does_not_get_into_the_archive() {
    let dir = tempdir().unwrap();
    let mut log = EventLog::builder(dir.path()).view("types", types).open().unwrap();
    log.append(&event("a")).unwrap();
    append_raw(dir.path(), b"{\"type\":\"torn");
    log.rotate().unwrap();
    log.append(&event("b")).unwrap();
    log.rotate().unwrap();
    log.append(&event("c")).unwrap();
    assert_eq!(all(&log.reader()), ["a", "b", "c"]);
    log.rebuild("types").unwrap();
    assert_eq!(*log.view::<Vec<String>>("types").unwrap(), ["a", "b", "c"]);
}

/// C4
#[test]
fn a_torn_archive_frame_is_set_aside_and_the_next_rotation_appends_behind_good_ones() {
    let dir = tempdir().unwrap();
    let archive = dir.path().join("archive.jsonl.zst");
    let mut log = EventLog::open(dir.path()).unwrap();
    for name in ["a", "b"] {
        log.append(&event(name)).unwrap();
        log.rotate().unwrap();
    }
    log.append(&event("c")).unwrap();
    drop(log);
    let whole = fs::read(&archive).unwrap();
    // What another program leaves that is stopped while it archives the log: a part of the frame, and the log as it was.
    let frame =
        &zstd::encode_all(&b"{\"type\":\"c\",\"data\":{\"key\":\"value\"},\"ts\":1000}\n"[..], 3).unwrap();
    for torn in 1..frame.len() {
        fs::write(&archive, [&whole[..], &frame[..torn]].concat()).unwrap();
        let mut log = EventLog::open(dir.path()).unwrap();
        assert_eq!(fs::read(&archive).unwrap(), whole);
        assert_eq!(all(&log.reader()), ["a", "b", "c"], "{torn}");
        assert!(set_aside(dir.path()).contains(&frame[..torn].to_vec()));
        if torn == frame.len() - 1 {
            log.rotate().unwrap();
            log.append(&event("d")).unwrap();
            assert_eq!(all(&log.reader()), ["a", "b", "c", "d"]);
        }
    }
}

/// C5
#[test]
fn a_view_that_is_absent_during_a_rotation_misses_nothing() {
    let dir = tempdir().unwrap();
    let with_view = || EventLog::builder(dir.path()).view("types", types).open().unwrap();
    let mut log = with_view();
    log.append(&event("a")).unwrap();
    log.refresh_all().unwrap();
    log.rotate().unwrap();
    drop(log);
    let mut log = EventLog::open(dir.path()).unwrap();
    for name in ["b", "c"] {
        log.append(&event(name)).unwrap();
        log.rotate().unwrap();
    }
    log.append(&event("d")).unwrap();
    drop(log);
    let mut log = with_view();
    log.refresh_all().unwrap();
    assert_eq!(*log.view::<Vec<String>>("types").unwrap(), ["a", "b", "c", "d"]);
}

/// C6
#[test]
fn a_snapshot_of_an_earlier_generation_is_not_taken_for_one_of_a_log_with_the_same_bytes() {
    let dir = tempdir().unwrap();
    let with_view = || EventLog::builder(dir.path()).view("types", types).open().unwrap();
    let mut log = with_view();
    for _ in 0..5 {
        log.append(&event("same")).unwrap();
    }
    log.refresh_all().unwrap();
    drop(log);
    let mut log = EventLog::open(dir.path()).unwrap();
    log.rotate().unwrap();
    for _ in 0..5 {
        log.append(&event("same")).unwrap();
    }
    drop(log);
    let mut log = with_view();
    log.refresh_all().unwrap();
    assert_eq!(log.view::<Vec<String>>("types").unwrap().len(), 10);
}

/// C8, C20
#[test]
fn what_others_append_around_a_rotation_is_folded_once() {
    let dir = tempdir().unwrap();
    let mut log =
        EventLog::builder(dir.path()).lock_mode(LockMode::None).view("types", types).open().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let appended = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut writer = EventWriter::open_with_lock(dir.path(), LockMode::None).unwrap();
            let mut appended = 0;
            // Not for ever, so that a failure of the other thread ends the test.
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && appended < 5_000 {
                writer.append(&event(&format!("other_{appended}"))).unwrap();
                appended += 1;
            }
            appended
        });
        for n in 0..30 {
            log.append(&event(&format!("own_{n}"))).unwrap();
            log.rotate().unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        other.join().unwrap()
    });
    log.refresh_all().unwrap();
    let found = log.view::<Vec<String>>("types").unwrap();
    assert_eq!(*found, all(&log.reader()));
    let of = |prefix: &str| found.iter().filter(|name| name.starts_with(prefix)).cloned().collect::<Vec<_>>();
    assert_eq!(of("own_"), (0..30).map(|n| format!("own_{n}")).collect::<Vec<_>>());
    assert_eq!(of("other_"), (0..appended).map(|n| format!("other_{n}")).collect::<Vec<_>>());
}

/// C12
#[test]
fn an_append_whose_rotation_fails_is_no_failed_append() {
    let dir = tempdir().unwrap();
    let mut log = EventLog::builder(dir.path()).max_log_size(1).view("types", types).open().unwrap();
    let blocked = dir.path().join("archive.jsonl.zst");
    fs::create_dir(&blocked).unwrap();
    log.append(&event("a")).unwrap();
    assert!(log.last_rotation_error().is_some());
    assert_eq!(fs::read_to_string(log.log_path()).unwrap().lines().count(), 1);
    fs::remove_dir(&blocked).unwrap();
    log.append(&event("b")).unwrap();
    assert!(log.last_rotation_error().is_none());
    assert_eq!(log.active_log_size().unwrap(), 0);
    assert_eq!(all(&log.reader()), ["a", "b"]);
}

/// The text of the table: a restored log counts again, because nothing says that it was archived.
#[test]
fn a_log_that_is_written_back_after_a_rotation_counts_twice() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("app.jsonl");
    let mut log = EventLog::builder(dir.path()).view("types", types).open().unwrap();
    for _ in 0..5 {
        log.append(&event("a")).unwrap();
    }
    let before = fs::read(&path).unwrap();
    log.rotate().unwrap();
    drop(log);
    fs::write(&path, before).unwrap();
    let mut log = EventLog::builder(dir.path()).view("types", types).open().unwrap();
    assert_eq!(all(&log.reader()).len(), 10);
    log.rebuild("types").unwrap();
    assert_eq!(log.view::<Vec<String>>("types").unwrap().len(), 10);
}

#[test]
fn a_log_of_nothing_but_a_torn_line_has_no_events() {
    let dir = tempdir().unwrap();
    drop(EventWriter::open(dir.path()).unwrap());
    append_raw(dir.path(), b"{\"type\":\"x\",\"data\":{}");
    let reader = EventReader::new(dir.path());
    assert_eq!(active(&reader).len(), 0);
    drop(EventWriter::open(dir.path()).unwrap());
    assert_eq!(active(&reader).len(), 0);
    assert_eq!(fs::read(dir.path().join("app.jsonl")).unwrap(), b"");
}

#[test]
fn a_batch_that_was_not_committed_is_nothing_to_readers_and_set_aside_by_the_next_writer() {
    let dir = tempdir().unwrap();
    let mut writer = EventWriter::open_with_lock(dir.path(), LockMode::None).unwrap();
    writer.append(&event("a")).unwrap();
    let batch = b"#\"type\":\"b\",\"data\":1,\"ts\":1}\n{\"type\":\"b\",\"data\":1,\"ts\":1}\n";
    append_raw(dir.path(), batch);
    assert_eq!(active(&writer.reader()), ["a"]);
    assert_eq!(all(&writer.reader()), ["a"]);
    writer.append(&event("c")).unwrap();
    assert_eq!(active(&writer.reader()), ["a", "c"]);
    assert_eq!(set_aside(dir.path()), [batch]);
}

/// Each try of a rotation reads all of the log, so that one that fails is not tried at every append.
#[test]
fn a_rotation_that_fails_waits_until_the_log_has_grown() {
    for is_shared in [false, true] {
        let dir = tempdir().unwrap();
        let mut log = Some(EventLog::builder(dir.path()).max_log_size(1_000).open().unwrap());
        let shared = is_shared.then(|| log.take().unwrap().share());
        let mut append = || match &shared {
            Some(shared) => drop(shared.append(&event("a")).unwrap()),
            None => drop(log.as_mut().unwrap().append(&event("a")).unwrap()),
        };
        let size = || fs::metadata(dir.path().join("app.jsonl")).unwrap().len();
        let blocked = dir.path().join("archive.jsonl.zst");
        fs::create_dir(&blocked).unwrap();
        while size() < 1_000 {
            append();
        }
        fs::remove_dir(&blocked).unwrap();
        let (failed_at, line) = (size(), size() / 22);
        append();
        append();
        assert_eq!(size(), failed_at + 2 * line, "no append failed, and none tried again");
        append();
        assert_eq!(size(), 0, "an eighth more");
        // Then it goes on as ever.
        for _ in 0..=(1_000 / line) {
            append();
        }
        assert_eq!(size(), 0);
        if let Some(shared) = &shared {
            assert!(shared.last_rotation_error().is_none());
        }
    }
}

/// Whoever appends gets his answer once; the panic does not come with every append.
#[test]
fn a_reducer_that_panics_in_a_rotation_is_not_called_at_every_append() {
    for is_shared in [false, true] {
        let dir = tempdir().unwrap();
        let reducer = |count: u64, _: &keplordb_fold::Event| {
            if count < 5 { count + 1 } else { panic!("as the test says") }
        };
        let builder = EventLog::builder(dir.path()).max_log_size(1_000).view("count", reducer);
        let mut log = Some(builder.open().unwrap());
        let shared = is_shared.then(|| log.take().unwrap().share());
        let mut append = || {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match &shared {
                Some(shared) => drop(shared.append(&event("a")).unwrap()),
                None => drop(log.as_mut().unwrap().append(&event("a")).unwrap()),
            }))
            .is_err()
        };
        let panicked = (0..100).filter(|_| append()).count();
        let reader = EventReader::new(dir.path());
        assert_eq!(reader.len().unwrap(), 100, "each is appended");
        let times = (100 * 46 - 1_000) / 125;
        assert!((2..=times).contains(&panicked), "{panicked} of at most {times}");
    }
}
