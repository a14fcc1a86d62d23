//! Pruning: what stays keeps its numbers and places, whatever moment a crash comes at; and nothing goes that a view still needs.

use std::path::Path;
use std::sync::{Arc, Mutex};

use keplordb_disk::{Disk, MemoryDisk, SimDisk, read_all};
use serde_json::json;

use super::*;
use crate::event::Event;

const DIR: &str = "app";

fn types(mut types: Vec<String>, event: &Event) -> Vec<String> {
    types.push(event.event_type.clone());
    types
}

fn open(disk: &SimDisk) -> EventLog {
    EventLog::builder(DIR).disk(Arc::new(disk.clone())).view("types", types).open().unwrap()
}

/// Four archived generations of two events each, and one event in the active log.
fn fixture() -> (SimDisk, Vec<String>) {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    let mut names = Vec::new();
    for n in 0..9 {
        names.push(format!("e{n}"));
        log.append(&Event::new(&format!("e{n}"), json!(n))).unwrap();
        if n % 2 == 1 {
            log.rotate().unwrap();
        }
    }
    (disk, names)
}

/// The positions of all events by their sequences, from the first that is there.
fn places(log: &EventLog) -> (u64, Vec<(Position, String)>) {
    let reader = log.reader();
    let first = reader.history().present().unwrap().first_sequence;
    let names = log.read_full().unwrap().map(|item| item.unwrap().0.event_type);
    let place = |(n, name)| (reader.history().position_of(first + n).unwrap().unwrap(), name);
    (first, (0..).zip(names).map(place).collect())
}

#[test]
fn what_stays_keeps_its_numbers() {
    let (disk, names) = fixture();
    let mut log = open(&disk);
    let (_, before) = places(&log);
    for (prune, first) in [(0, 0), (1, 0), (2, 2), (5, 4), (8, 8), (100, 8)] {
        let mut exported = Vec::new();
        let copied = log.reader().export(prune, ExportFormat::Lines, &mut exported).unwrap();
        let pruned = log.prune(prune).unwrap();
        assert_eq!((&copied.events, &copied.generations), (&pruned.events, &pruned.generations));
        assert_eq!(
            exported.split_inclusive(|byte| *byte == b'\n').count() as u64,
            copied.events.end - copied.events.start
        );
        let left = places(&log);
        let kept = before[usize::try_from(first).unwrap()..].to_vec();
        assert_eq!(left, (first, kept), "below {prune}");
        // Also for who has looked at nothing before.
        assert_eq!(places(&open(&disk.kill())), left);
        let verified = log.reader().verify().unwrap();
        assert!(verified.is_sound(), "{:?}", verified.problems);
        assert_eq!(log.view::<Vec<String>>("types").unwrap(), &names);
    }
    log.append(&Event::new("e9", json!(9))).unwrap();
    log.rotate().unwrap();
    assert_eq!(places(&log).1.len(), 2);
    log.refresh_all().unwrap();
    assert_eq!(log.view::<Vec<String>>("types").unwrap().len(), 10);
}

#[test]
fn what_was_exported_is_a_log() {
    let (disk, names) = fixture();
    let log = open(&disk);
    let mut exported = Vec::new();
    let portion = log.reader().export(6, ExportFormat::Zstd, &mut exported).unwrap();
    assert_eq!((portion.events, portion.bytes), (0..6, exported.len() as u64));
    let target = MemoryDisk::default();
    target.create_dir(Path::new("x")).unwrap();
    target.create(Path::new("x/archive.jsonl.zst")).unwrap().write_at(&exported, 0).unwrap();
    target.create(Path::new("x/app.jsonl")).unwrap();
    let reader = EventReader::with_disk(Arc::new(target), Path::new("x"));
    let read: Vec<String> = reader.read_full().unwrap().map(|item| item.unwrap().0.event_type).collect();
    assert_eq!(read, names[..6]);
}

#[test]
fn a_view_that_is_behind_keeps_its_events() {
    let (disk, _) = fixture();
    let mut other = EventLog::builder(DIR).disk(Arc::new(disk.kill())).open().unwrap();
    let path = Path::new(DIR).join("views/other.snapshot.json");
    let archive = || read_all(&disk, &Path::new(DIR).join("archive.jsonl.zst"), 10_000).unwrap();
    let progress = |generation| snapshot::Progress {
        position: Position { generation, offset: 0 },
        sequence: generation * 2,
        ..snapshot::Progress::default()
    };
    for (contents, may) in [
        (snapshot::encode(&1, &progress(1), 0).unwrap(), 1),
        (snapshot::encode(&1, &progress(3), 0).unwrap(), 3),
        (b"nothing that can be read".to_vec(), 0),
    ] {
        for keep in 1..5 {
            let disk = disk.kill();
            snapshot::write(&disk, &path, &contents).unwrap();
            let before = archive();
            let pruned = open(&disk).prune(keep * 2);
            if keep <= may {
                assert_eq!(pruned.unwrap().generations, 0..keep);
            } else {
                let error = pruned.unwrap_err();
                let text = error.to_string();
                assert!(text.contains("other.snapshot.json") && text.contains("refresh"), "{text}");
                let after = read_all(&disk, &Path::new(DIR).join("archive.jsonl.zst"), 10_000).unwrap();
                assert_eq!(after, before);
            }
        }
    }
    assert_eq!(other.prune(4).unwrap().events, 0..4, "a log without views of its own may prune, too");
}

#[test]
fn a_crash_leaves_the_archive_as_before_or_as_after() {
    let (disk, names) = fixture();
    let disk = disk.power_cut(0);
    let mut log = open(&disk);
    let (_, before) = places(&log);
    let moments = Arc::new(Mutex::new(Vec::new()));
    let copies = Arc::clone(&moments);
    disk.after_each(move |number, copy| copies.lock().unwrap().push((number, copy)));
    log.prune(5).unwrap();
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 8, "{}", moments.len());
    let mut firsts = std::collections::BTreeSet::new();
    for (number, killed) in moments {
        for left in (0..16).map(|seed| killed.power_cut(seed)).chain([killed.kill()]) {
            let mut log = open(&left);
            let (first, found) = places(&log);
            assert!(first == 0 || first == 4, "operation {number}");
            assert_eq!(found, before[usize::try_from(first).unwrap()..], "operation {number}");
            let verified = log.reader().verify().unwrap();
            assert!(verified.is_sound(), "operation {number}: {:?}", verified.problems);
            log.refresh_all().unwrap();
            assert_eq!(log.view::<Vec<String>>("types").unwrap(), &names, "operation {number}");
            log.prune(5).unwrap();
            assert_eq!(places(&log).0, 4);
            firsts.insert(first);
        }
    }
    assert_eq!(firsts.len(), 2);
}

/// A log that had events is not one in which nothing ever was.
#[test]
fn a_log_that_was_pruned_to_nothing_is_not_taken_for_a_new_one() {
    let (disk, names) = fixture();
    let mut log = open(&disk);
    log.rotate().unwrap();
    log.prune(names.len() as u64).unwrap();
    drop(log);
    let mut log = open(&disk);
    assert_eq!(log.reader().first().unwrap().0, names.len() as u64);
    let event = Event::new("later", json!(1));
    for (offset, hash) in [(0, ""), (0, "whatever"), (50, "")] {
        match log.append_if(&event, offset, hash) {
            Err(crate::ConditionalAppendError::Conflict(conflict)) => {
                assert_eq!((conflict.expected_offset, conflict.actual_offset), (offset, 0));
                assert_eq!(conflict.actual_hash, None);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(log.active_log_size().unwrap(), 0);
    log.append_if_seq(&event, names.len() as u64).unwrap();
}
