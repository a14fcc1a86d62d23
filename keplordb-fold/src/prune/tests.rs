//! Pruning: what stays keeps its numbers and places, whatever moment a crash comes at; and nothing goes that a view still needs.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use keplordb_disk::{Disk, MemoryDisk, SimDisk, read_all};
use serde_json::json;

use super::*;
use crate::event::Event;
use crate::options::SyncPolicy;
use crate::repair::repair_on;
use crate::test_disk::HookedDisk;
use crate::view_options::{Checkpoints, SnapshotPolicy, ViewOptions};

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

/// A log whose appends are synced when somebody asks for it.
fn open_unsynced(disk: &SimDisk) -> EventLog {
    let disk = Arc::new(disk.clone());
    let builder = EventLog::builder(DIR).disk(disk).sync_policy(SyncPolicy::OnDemand);
    builder.view("types", types).open().unwrap()
}

#[test]
fn a_power_cut_that_takes_folded_events_takes_no_pruned_state() {
    let (disk, mut names) = fixture();
    let disk = disk.power_cut(0);
    let mut log = open_unsynced(&disk);
    // Not synced when the log is pruned.
    for n in 9..12 {
        names.push(format!("e{n}"));
        log.append(&Event::new(&format!("e{n}"), json!(n))).unwrap();
    }
    let moments = Arc::new(Mutex::new(Vec::new()));
    let copies = Arc::clone(&moments);
    disk.after_each(move |_, copy| copies.lock().unwrap().push(copy));
    log.prune(5).unwrap();
    for n in 12..15 {
        names.push(format!("e{n}"));
        log.append(&Event::new(&format!("e{n}"), json!(n))).unwrap();
        log.refresh_all().unwrap();
    }
    log.rotate().unwrap();
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    let mut lengths = std::collections::BTreeSet::new();
    for (number, killed) in moments.iter().enumerate() {
        for seed in 0..24 {
            let mut log = open(&killed.power_cut(seed));
            let what = format!("operation {number}, seed {seed}");
            log.refresh_all().unwrap_or_else(|error| panic!("{what}: {error}"));
            let state = log.view::<Vec<String>>("types").unwrap().clone();
            let (first, left) = places(&log);
            assert!(state.len() >= 9 && state.iter().all(|name| names.contains(name)), "{what}");
            // What was pruned, and what is there; not what a power cut took.
            let there = left.into_iter().map(|(_, name)| name);
            let first = usize::try_from(first).unwrap();
            let expected: Vec<String> = names[..first].iter().cloned().chain(there).collect();
            assert_eq!(state, expected, "{what}");
            lengths.insert(state.len());
            log.append(&Event::new("x", json!(0))).unwrap();
            log.prune(100).unwrap();
            log.refresh_all().unwrap();
            assert_eq!(log.view::<Vec<String>>("types").unwrap().len(), expected.len() + 1, "{what}");
        }
    }
    assert!(lengths.contains(&12) && lengths.contains(&15), "{lengths:?}");
}

#[test]
fn a_snapshot_that_is_lost_is_no_state_that_is_lost() {
    let (disk, mut names) = fixture();
    open(&disk).prune(8).unwrap();
    let (snapshot, base) =
        (Path::new("app/views/types.snapshot.json"), Path::new("app/views/types.base.json"));
    for contents in [None, Some(&b"nothing that can be read"[..])] {
        let disk = disk.kill();
        disk.remove(snapshot).unwrap();
        if let Some(contents) = contents {
            snapshot::write(&disk, snapshot, contents).unwrap();
        }
        let mut log = open(&disk);
        log.append(&Event::new("e9", json!(9))).unwrap();
        log.refresh_all().unwrap();
        assert_eq!(log.view::<Vec<String>>("types").unwrap()[..9], names);
        assert_eq!(log.view::<Vec<String>>("types").unwrap().len(), 10);
    }
    // Another version of the reducer can use neither; and takes neither away.
    names.push("e9".to_owned());
    let before = [snapshot, base].map(|path| read_all(&disk, path, 10_000).unwrap());
    for manual in [SnapshotPolicy::EachRefresh, SnapshotPolicy::Manual] {
        for after_pruned in [false, true] {
            let disk = disk.kill();
            let mut options = ViewOptions::default().version(2).snapshots(manual);
            if after_pruned {
                options = options.begin_after_pruned();
            }
            let builder = EventLog::builder(DIR).disk(Arc::new(disk.clone()));
            let mut log = builder.view_with("types", options, types).open().unwrap();
            let refreshed = log.refresh_all();
            assert_eq!(refreshed.is_ok(), after_pruned);
            let rebuilt = log.rebuild("types");
            assert_eq!(rebuilt.is_ok(), after_pruned);
            drop(log);
            assert_eq!(read_all(&disk, base, 10_000).unwrap(), before[1]);
            if !after_pruned {
                assert_eq!(read_all(&disk, snapshot, 10_000).unwrap(), before[0]);
            }
            let mut log = open(&disk);
            log.append(&Event::new("e9", json!(9))).unwrap();
            log.refresh_all().unwrap();
            assert_eq!(log.view::<Vec<String>>("types").unwrap(), &names);
        }
    }
}

#[test]
fn a_snapshot_that_does_not_fit_the_log_replaces_no_base() {
    let (disk, names) = fixture();
    let mut log = open_unsynced(&disk);
    log.prune(2).unwrap();
    let durable = disk.power_cut(0);
    log.append(&Event::new("lost", json!(9))).unwrap();
    log.refresh_all().unwrap();
    let path = Path::new("app/views/types.snapshot.json");
    let ahead = read_all(&disk, path, 10_000).unwrap();
    snapshot::write(&durable, path, &ahead).unwrap();
    // Pruned by a log that does not have the view.
    let mut other = EventLog::builder(DIR).disk(Arc::new(durable.kill())).open().unwrap();
    let refused = other.prune(4).unwrap_err().to_string();
    assert!(refused.contains("types.snapshot.json"), "{refused}");
    let mut log = open(&durable);
    log.prune(4).unwrap();
    assert_eq!(log.view::<Vec<String>>("types").unwrap(), &names);
    // A base whose snapshot was removed still is a view's.
    durable.remove(path).unwrap();
    drop(log);
    let mut other = EventLog::builder(DIR).disk(Arc::new(durable.kill())).open().unwrap();
    other.append(&Event::new("e9", json!(9))).unwrap();
    other.rotate().unwrap();
    let refused = other.prune(100).unwrap_err().to_string();
    assert!(refused.contains("types.base.json"), "{refused}");
    assert_eq!(other.prune(8).unwrap().events, 4..8, "the base was written behind these");
}

#[test]
fn a_snapshot_that_is_not_durable_is_kept_by_its_base() {
    let (disk, names) = fixture();
    let disk = disk.power_cut(0);
    // As another process does, but for the last step.
    let path = Path::new("app/views/types.snapshot.json");
    let contents = read_all(&disk, path, 10_000).unwrap();
    let old = snapshot::encode(&vec!["e0"], &snapshot::Progress::default(), 0).unwrap();
    snapshot::write(&disk, path, &old).unwrap();
    put_in_place(&disk, path, |file| file.write_at(&contents, 0)).unwrap();
    let mut other = EventLog::builder(DIR).disk(Arc::new(disk.clone())).open().unwrap();
    other.prune(6).unwrap();
    for seed in 0..16 {
        let mut log = open(&disk.power_cut(seed));
        log.refresh_all().unwrap();
        assert_eq!(log.view::<Vec<String>>("types").unwrap(), &names, "seed {seed}");
    }
}

#[test]
fn a_state_that_cannot_be_read_back_is_all_that_is_kept_of_nothing() {
    let (disk, _) = fixture();
    let mean = |mean: f64, event: &Event| if event.event_type == "e8" { f64::NAN } else { mean };
    let builder = EventLog::builder(DIR).disk(Arc::new(disk.clone()));
    let mut log = builder.view("types", types).view("mean", mean).open().unwrap();
    let archive = || read_all(&disk, Path::new("app/archive.jsonl.zst"), 10_000).unwrap();
    let before = archive();
    let refused = log.prune(4).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    let text = refused.to_string();
    assert!(text.contains("mean.snapshot.json") && text.contains("finite"), "{text}");
    assert_eq!(archive(), before);
    assert_eq!(log.reader().history().present().unwrap().first_generation, 0);
}

#[test]
fn the_index_knows_what_stays_and_is_never_lost() {
    let (disk, names) = fixture();
    let disk = disk.kill();
    let mut log = open(&disk);
    let facts = |disk: &SimDisk| {
        let paths = crate::paths::Paths::new(Path::new(DIR));
        let entries = index::load(disk, &paths, 0).0;
        entries.iter().map(|entry| (entry.generation, entry.facts().unwrap())).collect::<Vec<_>>()
    };
    let before = facts(&disk);
    let moments = Arc::new(Mutex::new(Vec::new()));
    let copies = Arc::clone(&moments);
    disk.after_each(move |_, copy| copies.lock().unwrap().push(copy));
    // Never decoded again: that would fail.
    let archive = disk.open(Path::new("app/archive.jsonl.zst")).unwrap();
    let middle = archive.bytes().unwrap() - 12;
    let mut byte = [0];
    archive.read_at(&mut byte, middle).unwrap();
    archive.write_at(&[!byte[0]], middle).unwrap();
    log.prune(5).unwrap();
    assert_eq!(facts(&disk), before[2..]);
    assert_eq!(log.reader().len().unwrap(), 9);
    assert_eq!(disk.bytes(&Path::new(DIR).join("archive.index.former")).unwrap(), None);
    for killed in std::mem::take(&mut *moments.lock().unwrap()) {
        let disk = killed.kill();
        let mut log = open(&disk);
        log.rotate().unwrap();
        let known = facts(&disk);
        assert!(known[..known.len() - 1] == before[..] || known[..known.len() - 1] == before[2..]);
        assert_eq!(log.reader().len().unwrap(), names.len() as u64);
    }
}

#[test]
fn a_snapshot_of_events_that_a_crash_took_out_of_the_middle_makes_way_for_the_base() {
    let (disk, mut names) = fixture();
    open(&disk).prune(100).unwrap();
    let mut log = open_unsynced(&disk);
    for n in 9..12 {
        log.append(&Event::new(&format!("e{n}"), json!(n))).unwrap();
    }
    log.refresh_all().unwrap();
    let left = disk.kill();
    let begin = usize::try_from(places(&log).1[2].0.offset).unwrap();
    let path = Path::new("app/app.jsonl");
    let bytes = read_all(&left, path, 10_000).unwrap();
    assert!(bytes[begin..].starts_with(b"{\"type\":\"e10\""));
    left.open(path).unwrap().write_at(&[0; 6], begin as u64 + 9).unwrap();
    let mut log = open(&left);
    log.refresh_all().unwrap();
    names.extend(["e9", "e11"].map(str::to_owned));
    assert_eq!(log.view::<Vec<String>>("types").unwrap(), &names);
}

#[test]
fn a_view_that_began_behind_what_was_pruned_has_no_events_that_a_crash_took() {
    let (disk, names) = fixture();
    open(&disk).prune(4).unwrap();
    let with_new = |disk: &SimDisk| {
        let builder = EventLog::builder(DIR).disk(Arc::new(disk.clone())).sync_policy(SyncPolicy::OnDemand);
        let options = ViewOptions::default().begin_after_pruned();
        builder.view("types", types).view_with("new", options, types).open().unwrap()
    };
    let mut log = with_new(&disk);
    for n in 9..14 {
        log.append(&Event::new(&format!("e{n}"), json!(n))).unwrap();
    }
    log.refresh_all().unwrap();
    assert_eq!(disk.bytes(Path::new("app/views/new.base.json")).unwrap(), None);
    let snapshot = read_all(&disk, Path::new("app/views/new.snapshot.json"), 10_000).unwrap();
    let (mut holes, mut kept) = (0, 0);
    for seed in 0..200 {
        for repairs_first in [false, true] {
            let cut = disk.power_cut(seed);
            if repairs_first {
                repair_on(&(Arc::new(cut.clone()) as Arc<dyn Disk>), Path::new(DIR)).unwrap();
            }
            let mut log = with_new(&cut);
            log.refresh_all().unwrap();
            let (_, left) = places(&log);
            let left: Vec<String> = left.into_iter().map(|(_, name)| name).collect();
            let what = format!("seed {seed}, repaired: {repairs_first}");
            assert_eq!(log.view::<Vec<String>>("new").unwrap(), &left, "{what}");
            assert_eq!(
                log.view::<Vec<String>>("types").unwrap()[..],
                [&names[..4], &left].concat(),
                "{what}"
            );
            holes += u32::from(left.len() < 10 && left.last().is_some_and(|name| name == "e13"));
            let aside = cut.list(Path::new("app/damaged")).unwrap_or_default();
            let aside = aside.iter().find(|entry| entry.name.starts_with("new.snapshot.json"));
            if let Some(entry) = aside {
                let path = Path::new("app/damaged").join(&entry.name);
                assert_eq!(read_all(&cut, &path, 10_000).unwrap(), snapshot, "{what}");
                kept += 1;
            }
        }
    }
    assert!(holes > 20 && kept > 20, "{holes} {kept}");
}

#[test]
fn a_verify_beside_it_finds_no_damage() {
    let checkpoints = || ViewOptions::default().checkpoints(Checkpoints::every(1));
    let mut replaced = 0;
    for at in 1.. {
        let disk = MemoryDisk::default();
        let open = |disk: &MemoryDisk| {
            let builder = EventLog::builder(DIR).disk(Arc::new(disk.clone()));
            builder.view_with("types", checkpoints(), types).open().unwrap()
        };
        let mut log = open(&disk);
        for n in 0..9 {
            log.append(&Event::new(&format!("e{n}"), json!(n))).unwrap();
            if n % 2 == 1 {
                log.rotate().unwrap();
            }
        }
        log.refresh_all().unwrap();
        let (asked, log) = (AtomicU64::new(0), Mutex::new(log));
        let asked = Arc::new(asked);
        let questions = Arc::clone(&asked);
        let hooked = HookedDisk::new(disk.clone(), move |_| {
            if questions.fetch_add(1, Ordering::SeqCst) + 1 == at {
                log.lock().unwrap().prune(5).unwrap();
            }
        });
        let reader = EventReader::with_disk(Arc::new(hooked), Path::new(DIR));
        let verified = reader.verify().unwrap();
        assert!(verified.is_sound(), "question {at}: {:?}", verified.problems);
        assert!(verified.leftovers.is_empty(), "question {at}: {:?}", verified.leftovers);
        let (events, generations) = (verified.events, verified.generations);
        assert!([(9, 5), (5, 3)].contains(&(events, generations)), "question {at}: {verified:?}");
        replaced += u32::from(events == 5);
        if asked.load(Ordering::SeqCst) < at {
            assert_eq!(events, 9);
            break;
        }
    }
    assert!(replaced > 10, "{replaced}");
}
