//! `EventWriter`: what an append answers and leaves, conditions, batches, locks and sync policies. One test for each rule.

#![expect(clippy::disallowed_methods, reason = "the files are looked at as another program would")]

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::sync::Arc;

use common::{active, all, event};
use keplordb_fold::disk::{Disk, SimDisk};
use keplordb_fold::{
    AppendConflict, AppendResult, ConditionalAppendError, Event, EventLog, EventReader, EventWriter,
    FoldError, LockMode, Position, SequencedAppendError, SyncPolicy, UniqueAppend, line_hash,
};
use serde_json::json;
use tempfile::{TempDir, tempdir};

fn writer() -> (TempDir, EventWriter) {
    let dir = tempdir().unwrap();
    let writer = EventWriter::open(dir.path()).unwrap();
    (dir, writer)
}

fn rotate(writer: &mut EventWriter) {
    let reader = writer.reader();
    writer.rotate(&reader, &mut HashMap::new()).unwrap();
}

fn conflict(result: Result<AppendResult, ConditionalAppendError>) -> AppendConflict {
    match result {
        Err(ConditionalAppendError::Conflict(conflict)) => conflict,
        other => panic!("{other:?}"),
    }
}

#[test]
fn opening_makes_the_directory_with_parents_and_keeps_paths_as_given() {
    let dir = tempdir().unwrap();
    let deep = dir.path().join("a/./b");
    let writer = EventWriter::open(&deep).unwrap();
    assert!(deep.join("views").is_dir() && deep.join("app.jsonl").is_file());
    assert!(!deep.join("archive.jsonl.zst").exists());
    assert_eq!(writer.dir(), deep);
    assert_eq!(writer.log_path(), deep.join("app.jsonl"));
    assert_eq!(writer.archive_path(), deep.join("archive.jsonl.zst"));
    assert_eq!(writer.views_dir(), deep.join("views"));
    assert_eq!(writer.active_log_size().unwrap(), 0);
    let shown = format!("{writer:?}");
    for field in ["EventWriter", "log_path", "archive_path", "views_dir", "max_log_size"] {
        assert!(shown.contains(field), "{shown}");
    }
}

#[test]
fn a_writer_may_be_sent_and_shared() {
    fn check<T: Send + Sync>() {}
    check::<EventWriter>();
}

#[test]
fn an_append_says_where_its_line_is() {
    let (dir, mut writer) = writer();
    let first = writer.append(&event("a")).unwrap();
    let line = br#"{"type":"a","data":{"key":"value"},"ts":1000}"#;
    let expected = AppendResult { start_offset: 0, end_offset: 46, line_hash: "37c4e30f3f71c780".into() };
    assert_eq!(first, expected);
    assert_eq!(line_hash(line), first.line_hash);
    let second = writer.append(&event("a")).unwrap();
    assert_eq!((second.start_offset, second.end_offset), (46, 92));
    assert_eq!(second.line_hash, first.line_hash);
    assert_eq!(writer.active_log_size().unwrap(), 92);
    let text = fs::read(dir.path().join("app.jsonl")).unwrap();
    assert_eq!(text, [&line[..], b"\n", line, b"\n"].concat());
    let (read, end, hash) = writer.reader().read_from(second.start_offset).unwrap().next().unwrap().unwrap();
    assert_eq!((read, end, hash), (event("a"), second.end_offset, second.line_hash));
}

#[test]
fn an_existing_log_is_continued() {
    let (dir, mut writer) = writer();
    let first = writer.append(&event("a")).unwrap();
    drop(writer);
    let mut writer = EventWriter::open(dir.path()).unwrap();
    assert_eq!(writer.append(&event("b")).unwrap().start_offset, first.end_offset);
    assert_eq!(active(&writer.reader()), ["a", "b"]);
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_dropped() {
    let (dir, mut writer) = writer();
    for _ in 0..2 {
        let error = EventWriter::open(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let text = error.to_string();
        assert!(text.contains("another writer holds the lock") && text.contains("app.jsonl"), "{text}");
        writer.append(&event("a")).unwrap();
        rotate(&mut writer);
    }
    drop(writer);
    EventWriter::open(dir.path()).unwrap();
}

#[test]
fn without_locks_any_number_write_and_no_event_is_lost() {
    let dir = tempdir().unwrap();
    let names: Vec<String> = (0..4).map(|n| format!("writer_{n}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let mut writer = EventWriter::open_with_lock(dir.path(), LockMode::None).unwrap();
            scope.spawn(move || {
                for n in 0..40 {
                    writer.append(&event(name)).unwrap();
                    if n % 10 == 9 {
                        rotate(&mut writer);
                    }
                    writer.append_batch(&[event(name), event(name)]).unwrap();
                }
            });
        }
    });
    let mut found = all(&EventReader::new(dir.path()));
    found.sort_unstable();
    let expected: Vec<&str> = names.iter().flat_map(|name| [name.as_str(); 120]).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_conditional_append_takes_the_state_it_names_and_no_other() {
    let (_dir, mut writer) = writer();
    let first = writer.append_if(&event("a"), 0, "whatever").unwrap();
    assert_eq!(first.start_offset, 0);
    let second = writer.append_if(&event("b"), first.end_offset, &first.line_hash).unwrap();

    let late = conflict(writer.append_if(&event("c"), 0, ""));
    let expected = AppendConflict {
        expected_offset: 0,
        actual_offset: second.end_offset,
        expected_hash: String::new(),
        actual_hash: None,
    };
    assert_eq!(late, expected);
    let text = ConditionalAppendError::Conflict(late).to_string();
    assert_eq!(
        text,
        "conditional append conflict: expected offset 0 (hash \"\"), actual offset 92 (hash None)"
    );

    let wrong = conflict(writer.append_if(&event("c"), second.end_offset, &first.line_hash));
    assert_eq!((wrong.actual_offset, wrong.actual_hash), (second.end_offset, Some(second.line_hash)));
    assert_eq!(writer.active_log_size().unwrap(), second.end_offset, "nothing is written on conflict");
}

/// C9
#[test]
fn a_conditional_append_goes_on_behind_a_long_line() {
    let (_dir, mut writer) = writer();
    let mut last = AppendResult { start_offset: 0, end_offset: 0, line_hash: String::new() };
    for length in [9_000, 100_000, 10] {
        let long = Event::new("long", json!("x".repeat(length)));
        last = writer.append_if(&long, last.end_offset, &last.line_hash).unwrap();
    }
}

/// C13
#[test]
fn a_version_outlives_the_rotation_behind_it() {
    let (dir, mut writer) = writer();
    let first = writer.append_if(&event("a"), 0, "").unwrap();
    rotate(&mut writer);
    let empty = conflict(writer.append_if(&event("b"), 0, ""));
    assert_eq!((empty.actual_offset, empty.actual_hash.as_ref()), (first.end_offset, Some(&first.line_hash)));
    conflict(writer.append_if(&event("b"), first.end_offset, "0000000000000000"));
    conflict(writer.append_if(&event("b"), first.end_offset + 1, &first.line_hash));
    let second = writer.append_if(&event("b"), empty.actual_offset, &empty.actual_hash.unwrap()).unwrap();
    assert_eq!(second.start_offset, 0);
    // What was appended since makes it old.
    conflict(writer.append_if(&event("c"), first.end_offset, "37c4e30f3f71c780"));
    rotate(&mut writer);
    drop(writer);
    // Another writer finds it in the archive.
    let mut writer = EventWriter::open(dir.path()).unwrap();
    conflict(writer.append_if(&event("c"), 0, ""));
    conflict(writer.append_if(&event("c"), first.end_offset, &first.line_hash));
    writer.append_if(&event("c"), second.end_offset, &second.line_hash).unwrap();
    assert_eq!(all(&writer.reader()), ["a", "b", "c"]);
}

#[test]
fn a_sequence_names_a_state_whatever_is_rotated() {
    let (dir, mut writer) = writer();
    for expected in 0..6 {
        let refused = writer.append_if_seq(&event("late"), expected + 1);
        let Err(SequencedAppendError::Conflict { expected: asked, actual }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((asked, actual), (expected + 1, expected));
        if expected == 2 {
            writer.append(&event("a")).unwrap();
        } else {
            writer.append_if_seq(&event("a"), expected).unwrap();
        }
        if expected == 3 {
            rotate(&mut writer);
        }
    }
    drop(writer);
    let mut writer = EventWriter::open(dir.path()).unwrap();
    // What others append counts too.
    fs::OpenOptions::new()
        .append(true)
        .open(dir.path().join("app.jsonl"))
        .unwrap()
        .write_all(b"\n{\"type\":\"by hand\",\"data\":null,\"ts\":1}\n")
        .unwrap();
    assert!(matches!(
        writer.append_if_seq(&event("b"), 6),
        Err(SequencedAppendError::Conflict { expected: 6, actual: 7 })
    ));
    writer.append_if_seq(&event("b"), 7).unwrap();
    assert_eq!(all(&writer.reader()), ["a", "a", "a", "a", "a", "a", "by hand", "b"]);
}

#[test]
fn an_event_is_appended_once_for_its_id_within_the_window() {
    let (dir, mut writer) = writer();
    let unique = |id: &str| event("unique").with_id(id);
    assert!(matches!(writer.append_unique(&unique("1")).unwrap(), UniqueAppend::Appended(_)));
    writer.append(&unique("2")).unwrap();
    rotate(&mut writer);
    let third = UniqueAppend::Duplicate { at: Position { generation: 0, offset: 0 } };
    assert_eq!(writer.append_unique(&unique("1")).unwrap(), third);
    assert!(matches!(writer.append_unique(&unique("2")).unwrap(), UniqueAppend::Duplicate { .. }));
    drop(writer);
    let mut writer = EventWriter::open(dir.path()).unwrap();
    assert_eq!(writer.append_unique(&unique("1")).unwrap(), third, "another writer knows it too");
    writer.set_unique_window(2);
    writer.append(&event("without id")).unwrap();
    assert!(matches!(writer.append_unique(&unique("2")).unwrap(), UniqueAppend::Duplicate { .. }));
    assert!(
        matches!(writer.append_unique(&unique("1")).unwrap(), UniqueAppend::Appended(_)),
        "out of the window"
    );
    assert!(matches!(writer.append_unique(&unique("2")).unwrap(), UniqueAppend::Appended(_)));
    assert!(matches!(writer.append_unique(&unique("1")).unwrap(), UniqueAppend::Duplicate { .. }));
    let error = writer.append_unique(&event("none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(all(&writer.reader()).len(), 5);
    // Somebody empties the log: the window is that of what is left.
    assert!(matches!(writer.append_unique(&unique("9")).unwrap(), UniqueAppend::Appended(_)));
    fs::OpenOptions::new().write(true).open(dir.path().join("app.jsonl")).unwrap().set_len(0).unwrap();
    assert!(matches!(writer.append_unique(&unique("9")).unwrap(), UniqueAppend::Appended(_)));
}

#[test]
fn a_line_that_is_no_event_takes_no_id() {
    let (dir, mut writer) = writer();
    let bytes = b"{\"id\":\"1\"}\n{\"type\":\"a\",\"data\":1,\"ts\":1,\"id\":\"2\",\"by\":\"\xff\"}\n";
    fs::write(dir.path().join("app.jsonl"), bytes).unwrap();
    for id in ["1", "2"] {
        let unique = event("unique").with_id(id);
        assert!(matches!(writer.append_unique(&unique).unwrap(), UniqueAppend::Appended(_)), "{id}");
        assert!(matches!(writer.append_unique(&unique).unwrap(), UniqueAppend::Duplicate { .. }), "{id}");
    }
}

#[test]
fn a_batch_stands_in_its_order_and_answers_for_each() {
    let (_dir, mut writer) = writer();
    assert_eq!(writer.append_batch(&[]).unwrap(), []);
    assert_eq!(writer.active_log_size().unwrap(), 0);
    let one = writer.append_batch(&[event("a")]).unwrap();
    let more = writer.append_batch(&[event("b"), event("cc"), event("d")]).unwrap();
    let results = [one, more].concat();
    let mut end = 0;
    for (item, result) in writer.reader().read_from(0).unwrap().zip(&results) {
        let (_, next, hash) = item.unwrap();
        assert_eq!((result.start_offset, result.end_offset, &result.line_hash), (end, next, &hash));
        end = next;
    }
    assert_eq!(active(&writer.reader()), ["a", "b", "cc", "d"]);
    let next = writer.append_if(&event("e"), results[3].end_offset, &results[3].line_hash).unwrap();
    assert_eq!(next.start_offset, results[3].end_offset);
}

#[test]
fn an_archive_appears_with_the_first_rotation_that_moves_something() {
    let (dir, mut writer) = writer();
    rotate(&mut writer);
    assert!(!writer.archive_path().exists());
    writer.append(&event("a")).unwrap();
    rotate(&mut writer);
    assert!(writer.archive_path().is_file());
    assert_eq!(writer.active_log_size().unwrap(), 0);
    let before = fs::read(writer.archive_path()).unwrap();
    rotate(&mut writer);
    assert_eq!(fs::read(writer.archive_path()).unwrap(), before);
    assert_eq!(writer.append(&event("b")).unwrap().start_offset, 0);
    assert!(!dir.path().join("rotation.journal").exists());
    assert_eq!(all(&writer.reader()), ["a", "b"]);
}

/// C21
#[test]
fn frames_say_their_length_and_have_a_checksum() {
    let (_dir, mut writer) = writer();
    for _ in 0..100 {
        writer.append(&event("a")).unwrap();
    }
    rotate(&mut writer);
    let archive = fs::read(writer.archive_path()).unwrap();
    assert_eq!(archive[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    assert!(archive[4] & 0x04 != 0, "a checksum");
    assert!(archive[4] >> 6 != 0 || archive[4] & 0x20 != 0, "the length of the text");
}

fn sim_log(disk: &SimDisk, policy: SyncPolicy) -> EventLog {
    EventLog::builder("app").disk(Arc::new(disk.clone())).sync_policy(policy).open().unwrap()
}

/// C14
#[test]
fn an_acknowledged_event_survives_the_worst_power_cut_with_the_names_of_its_files() {
    let disk = SimDisk::default();
    let mut log = sim_log(&disk, SyncPolicy::Each);
    log.append(&event("a")).unwrap();
    let count = |disk: SimDisk| all(&sim_log(&disk, SyncPolicy::Each).reader()).len();
    assert_eq!(count(disk.power_cut(0)), 1);
    log.rotate().unwrap();
    assert_eq!(count(disk.power_cut(0)), 1);
    log.append_batch(&[event("b"), event("c")]).unwrap();
    assert_eq!(count(disk.power_cut(0)), 3);
}

#[test]
fn a_policy_decides_what_a_power_cut_may_take() {
    for (policy, kept) in [
        (SyncPolicy::Each, [1, 2, 3, 4, 5]),
        (SyncPolicy::Every { events: 2, bytes: 1 << 20 }, [0, 2, 2, 4, 4]),
        (SyncPolicy::Every { events: 100, bytes: 100 }, [0, 0, 3, 3, 3]),
        (SyncPolicy::OnDemand, [0; 5]),
        (SyncPolicy::Never, [0; 5]),
    ] {
        let disk = SimDisk::default();
        let mut log = sim_log(&disk, policy);
        let left = |disk: SimDisk| {
            let bytes = disk.bytes("app/app.jsonl".as_ref()).unwrap().unwrap();
            usize::try_from(bytes / 46).unwrap()
        };
        for kept in kept {
            log.append(&event("a")).unwrap();
            assert_eq!(left(disk.power_cut(0)), kept, "{policy:?}");
            assert_eq!(
                all(&sim_log(&disk.kill(), policy).reader()),
                active(&log.reader()),
                "a kill takes nothing"
            );
        }
        let dropped = disk.kill();
        let mut other = sim_log(&dropped, policy);
        other.append(&event("a")).unwrap();
        drop(other);
        assert_eq!(
            left(dropped.power_cut(0)),
            if policy == SyncPolicy::Never { 5 } else { 6 },
            "{policy:?}, dropped"
        );
        log.sync().unwrap();
        assert_eq!(left(disk.power_cut(0)), 5, "{policy:?}, synced");
    }
}

#[test]
fn after_a_failed_sync_a_writer_takes_nothing_more() {
    use keplordb_fold::disk::sim::{Fault, FaultKind};
    let disk = SimDisk::default();
    let mut log = sim_log(&disk, SyncPolicy::Each);
    log.append(&event("a")).unwrap();
    disk.fail(Fault { at: 0, kind: FaultKind::SyncFails, forever: false });
    for _ in 0..2 {
        let error = log.append(&event("b")).unwrap_err();
        let inner = error.get_ref().unwrap().downcast_ref::<FoldError>();
        assert!(matches!(inner, Some(FoldError::Poisoned { .. })), "{error}");
        assert!(error.to_string().contains("open the log anew"), "{error}");
    }
    assert!(log.sync().is_err() && log.append_batch(&[event("c"), event("d")]).is_err());
    drop(log);
    let mut log = sim_log(&disk, SyncPolicy::Each);
    log.append(&event("e")).unwrap();
    assert_eq!(all(&log.reader()), ["a", "b", "e"]);
}

#[test]
fn a_full_disk_refuses_an_event_and_keeps_the_log() {
    let disk = SimDisk::default();
    let mut log = sim_log(&disk, SyncPolicy::Each);
    let small = log.append(&event("a")).unwrap();
    disk.set_capacity_bytes(1000);
    let error = log.append(&Event::new("large", json!("x".repeat(2000)))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(error.to_string().contains("app.jsonl"), "{error}");
    assert_eq!(log.active_log_size().unwrap(), small.end_offset);
    let error = log.append_batch(&[event("b"), Event::new("large", json!("x".repeat(2000)))]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    log.append(&event("b")).unwrap();
    assert_eq!(all(&log.reader()), ["a", "b"]);
}

/// What could not be read back is not accepted, and the log goes on.
#[test]
fn an_event_that_is_too_deep_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::open(dir.path()).unwrap();
    let deep = |levels| {
        (0..levels).fold(json!(1), |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({"in": inner}) })
    };
    writer.append(&Event::new("deep", deep(126)).with_meta(deep(126))).unwrap();
    let too_deep = [
        Event::new("data", deep(127)),
        Event::new("meta", json!(1)).with_meta(deep(127)),
        Event::new("far", deep(500)),
    ];
    for event in &too_deep {
        let refused = writer.append(event).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidData);
        assert!(refused.to_string().contains("126 levels"), "{refused}");
        assert!(writer.append_batch(&[Event::new("whole", json!(1)), event.clone()]).is_err());
    }
    writer.append(&Event::new("next", json!(1))).unwrap();
    assert_eq!(active(&writer.reader()), ["deep", "next"]);
    assert_eq!(writer.reader().read_from(0).unwrap().next().unwrap().unwrap().0.data, deep(126));
}
