//! What a writer does where a crash or a failure would show only later: syncs that nobody asked for, and what is taken back. Each test
//! fails without one line of it.

use std::path::Path;

use keplordb_disk::{MemoryDisk, SimDisk, read_all};

use super::*;
use crate::reader::EventReader;
use crate::test_disk::HookedDisk;

const A: &[u8] = b"{\"type\":\"a\",\"data\":1,\"ts\":1}\n";
const B: &[u8] = b"{\"type\":\"b\",\"data\":1,\"ts\":1}\n";

fn history(disk: &(impl Disk + Clone + 'static)) -> History {
    EventReader::with_disk(Arc::new(disk.clone()), Path::new("app")).history().clone()
}

fn open(disk: &(impl Disk + Clone + 'static)) -> Active {
    Active::open(&history(disk), LockMode::Flock).unwrap()
}

fn log(disk: &dyn Disk) -> Vec<u8> {
    read_all(disk, Path::new("app/app.jsonl"), u64::MAX).unwrap()
}

/// What is read after a power cut, when a writer has opened the log.
fn after_cut(disk: &SimDisk, seed: u64) -> Vec<u8> {
    let left = disk.power_cut(seed);
    drop(open(&left));
    let text = log(&left);
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(crate::tail::is_event(line), "seed {seed}: {}", line.escape_ascii());
    }
    text
}

/// An empty log, all of which is durable.
fn durable() -> SimDisk {
    let disk = SimDisk::default();
    let mut active = open(&disk);
    active.append(A, 1).unwrap();
    drop(active);
    disk.power_cut(1)
}

/// A reader counts lines that are then taken back; others take their place.
#[test]
fn counts_of_what_is_taken_back_are_forgotten() {
    let disk = MemoryDisk::default();
    let mut active = open(&disk);
    active.append(A, 1).unwrap();
    let (end, refused) = (active.end(), [B, B, B].concat());
    active.file.write_at(&refused, end).unwrap();
    assert_eq!(active.history().end().unwrap().1, 4);
    active.take_back(end, &refused).unwrap();
    assert_eq!(log(&disk), A);
    let long = format!("{{\"type\":\"long\",\"data\":\"{}\",\"ts\":1}}\n", "x".repeat(200));
    active.append(long.as_bytes(), 1).unwrap();
    active.append(B, 1).unwrap();
    assert_eq!(active.history().end().unwrap().1, 3);
}

/// The write that commits says that it failed, and is there all the same.
#[test]
fn a_commit_that_failed_takes_the_whole_batch_back() {
    for is_written in [true, false] {
        let memory = MemoryDisk::default();
        let disk = HookedDisk::new(memory.clone(), |_| ()).failing_writes(move |path, source| {
            let is_commit = path.ends_with("app.jsonl") && source == b"{";
            is_commit.then_some(is_written)
        });
        let mut active = open(&disk);
        active.append(A, 1).unwrap();
        let error = active.append_batch([B, B].concat(), 2).unwrap_err();
        assert!(error.to_string().contains("commit a batch in"), "{error}");
        assert_eq!(log(&memory), A, "written: {is_written}");
        active.append(B, 1).unwrap();
        assert_eq!(log(&memory), [A, B].concat());
    }
}

/// What another program wrote before this writer came, and did not sync: what lies before a session's beginning is not looked at later.
#[test]
fn what_was_there_is_synced_before_a_session_begins() {
    let disk = durable();
    let file = disk.open(Path::new("app/app.jsonl")).unwrap();
    file.write_at(&[B, B].concat(), A.len() as u64).unwrap();
    let mut active = open(&disk);
    active.set_policy(SyncPolicy::OnDemand);
    active.append(A, 1).unwrap();
    for seed in 0..40 {
        let left = after_cut(&disk, seed);
        assert!(left.starts_with(&[A, B, B].concat()), "seed {seed}: {}", left.escape_ascii());
    }
}

/// A crash in a session left a hole; what mends it is noted as looked at, and a second crash must not bring it back.
#[test]
fn what_was_mended_behind_a_crash_is_synced() {
    let disk = durable();
    let mut active = open(&disk);
    active.append(&[B, B, B].concat(), 3).unwrap();
    let killed = disk.kill();
    let file = killed.open(Path::new("app/app.jsonl")).unwrap();
    let hole = A.len() as u64 + B.len() as u64;
    file.write_at(&[0; 12], hole).unwrap();
    file.sync().unwrap();
    let mut active = open(&killed);
    active.set_policy(SyncPolicy::OnDemand);
    assert_eq!(log(&killed), [A, B, &[b'\n'; 29][..], B].concat());
    for seed in 0..40 {
        assert_eq!(after_cut(&killed, seed), [A, B, &[b'\n'; 29][..], B].concat(), "seed {seed}");
    }
}

/// An append that was refused does not come back by a power cut.
#[test]
fn what_was_taken_back_stays_away() {
    let disk = durable();
    let mut active = open(&disk);
    active.append(B, 1).unwrap();
    active.file.write_at(B, active.end()).unwrap();
    active.take_back(active.end(), B).unwrap();
    for seed in 0..200 {
        assert_eq!(after_cut(&disk, seed), [A, B].concat(), "seed {seed}");
    }
}

/// Two faults at once: a byte of an event that was synced long ago, which looks like a batch that was being committed, and a torn end.
/// They take the line and the end, and nothing between.
#[test]
fn an_old_fault_and_a_torn_end_take_nothing_between() {
    let disk = durable();
    let mut active = open(&disk);
    for _ in 0..300 {
        active.append(B, 1).unwrap();
    }
    let (end, file) = (active.end(), disk.open(Path::new("app/app.jsonl")).unwrap());
    file.write_at(b"z", A.len() as u64).unwrap();
    file.write_at(&B[..9], end).unwrap();
    file.sync().unwrap();
    let left = disk.power_cut(0);
    drop(open(&left));
    let mut expected = [A, &B.repeat(300)].concat();
    expected[A.len()] = b'z';
    assert!(log(&left) == expected, "{} of {} bytes", log(&left).len(), expected.len());
}

/// The mark moves on while events come, and a power cut at any operation takes none that was acknowledged, and leaves no damage.
#[test]
fn every_moment_while_the_mark_moves_may_be_the_last() {
    let disk = durable();
    let moments = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let acknowledged = Arc::new(std::sync::atomic::AtomicUsize::new(A.len()));
    let mut active = open(&disk);
    let (copies, known) = (Arc::clone(&moments), Arc::clone(&acknowledged));
    disk.after_each(move |_, copy| {
        copies.lock().push((copy, known.load(std::sync::atomic::Ordering::Relaxed)));
    });
    for n in 0..60 {
        if n % 5 == 4 {
            active.append_batch(B.repeat(10), 10).unwrap();
        } else {
            active.append(B, 1).unwrap();
        }
        acknowledged.store(usize::try_from(active.end()).unwrap(), std::sync::atomic::Ordering::Relaxed);
    }
    let moved = disk.trace().iter().filter(|operation| operation.path.ends_with("app.session")).count();
    assert!(moved > 5, "{moved}");
    let all = [A, &B.repeat(168)].concat();
    let moments = std::mem::take(&mut *moments.lock());
    for (copy, acknowledged) in moments {
        for seed in 0..8 {
            let left = after_cut(&copy, seed);
            let events: Vec<u8> = left
                .split_inclusive(|byte| *byte == b'\n')
                .filter(|line| line.len() > 1)
                .flatten()
                .copied()
                .collect();
            assert!(
                events.len() >= acknowledged && all.starts_with(&events),
                "seed {seed}: {} bytes",
                events.len()
            );
        }
    }
}

/// What the mark could not be moved by costs no event.
#[test]
fn a_mark_that_could_not_be_moved_is_made_anew() {
    let memory = MemoryDisk::default();
    let writes = Arc::new(parking_lot::Mutex::new(0));
    let count = Arc::clone(&writes);
    let disk = HookedDisk::new(memory.clone(), |_| ()).failing_writes(move |path, _| {
        let mut writes = count.lock();
        *writes += usize::from(path.ends_with("app.session"));
        // The first begins the session.
        (path.ends_with("app.session") && *writes == 2).then_some(false)
    });
    let mut active = open(&disk);
    let mut appended = 0;
    while *writes.lock() < 2 {
        active.append(B, 1).unwrap();
        appended += 1;
    }
    // What the mark says now is not known, so there must be one before anything else is written.
    assert!(appended > 10 && !active.in_session);
    active.append(B, 1).unwrap();
    assert!(*writes.lock() == 3 && active.in_session);
    assert_eq!(log(&memory), B.repeat(appended + 1));
}
