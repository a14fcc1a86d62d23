//! The fault model of `SimDisk`, rule by rule: what a kill, a power cut, a full disk and a failed sync may leave, that they do
//! leave all of it for some seed, and that they never leave more.

use keplordb_disk::sim::{Cut, Fate, Fault, FaultKind, OperationKind, SECTOR_BYTES};
use keplordb_disk::{Disk, DiskFile, LockError, RealDisk, SimDisk, read_all, replace};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex};

const SEEDS: u64 = 2000;

fn root() -> &'static Path {
    Path::new(".")
}

/// A file with durable bytes and a durable name.
fn durable(disk: &SimDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(name.as_ref()).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(root()).unwrap();
    file
}

fn get(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    match read_all(disk, name.as_ref(), 1 << 30) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            None
        }
    }
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(root()).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// What the seeds leave of this disk, each outcome once.
fn outcomes<T: Ord>(disk: &SimDisk, mut look: impl FnMut(&SimDisk) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(|seed| look(&disk.power_cut(seed))).collect()
}

fn set<T: Ord, const N: usize>(items: [T; N]) -> BTreeSet<T> {
    BTreeSet::from(items)
}

/// What [`get`] answers for a file with these bytes.
#[expect(clippy::unnecessary_wraps, reason = "it is compared with the answer of `get`")]
fn some(name: &str) -> Option<Vec<u8>> {
    Some(name.as_bytes().to_vec())
}

#[test]
fn what_was_synced_survives_every_seed() {
    let disk = SimDisk::default();
    disk.create_dir("a/b".as_ref()).unwrap();
    let file = disk.create("a/b/file".as_ref()).unwrap();
    file.write_at(&[7; 3000], 0).unwrap();
    file.truncate(2500).unwrap();
    file.sync().unwrap();
    disk.sync_dir("a/b".as_ref()).unwrap();
    replace(&disk, "a/MANIFEST".as_ref(), b"one").unwrap();
    replace(&disk, "a/MANIFEST".as_ref(), b"two").unwrap();
    assert_eq!(disk.pending(), 0);
    let expected = set([(Some(vec![7; 2500]), some("two"))]);
    assert_eq!(outcomes(&disk, |after| (get(after, "a/b/file"), get(after, "a/MANIFEST"))), expected);
}

#[test]
fn seed_0_keeps_nothing_unsynced_and_seed_1_everything() {
    let disk = SimDisk::default();
    let file = durable(&disk, "kept", b"old");
    file.write_at(b"NEW and longer", 0).unwrap();
    disk.create("unsynced".as_ref()).unwrap().write_at(b"x", 0).unwrap();
    let (worst, best) = (disk.power_cut(0), disk.power_cut(1));
    assert_eq!((get(&worst, "kept"), get(&worst, "unsynced")), (some("old"), None));
    assert_eq!((get(&best, "kept"), get(&best, "unsynced")), (some("NEW and longer"), some("x")));
}

#[test]
fn one_seed_has_one_outcome_and_leaves_the_disk_alone() {
    let history = || {
        let disk = SimDisk::default();
        let file = durable(&disk, "file", &[1; 2000]);
        file.write_at(&[2; 5000], 700).unwrap();
        disk.rename("file".as_ref(), "renamed".as_ref()).unwrap();
        (disk, file)
    };
    let ((one, file), (two, _)) = (history(), history());
    let before = one.fingerprint();
    for seed in 0..100 {
        assert_eq!(one.power_cut(seed).fingerprint(), two.power_cut(seed).fingerprint());
        assert_eq!(one.power_cut(seed).pending(), 0, "what is left after a power cut is durable");
    }
    assert_eq!(one.fingerprint(), before);
    // The old disk goes on, unseen by the copies.
    let copy = one.power_cut(1);
    file.write_at(b"later", 0).unwrap();
    assert_ne!(copy.fingerprint(), one.fingerprint());
    copy.remove("renamed".as_ref()).unwrap();
    assert!(get(&one, "renamed").is_some());
}

#[test]
fn syncing_a_file_does_not_make_its_name_durable() {
    let disk = SimDisk::default();
    let file = disk.create("file".as_ref()).unwrap();
    file.write_at(b"bytes", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, |after| get(after, "file")), set([None, some("bytes")]));
}

#[test]
fn syncing_a_directory_does_not_make_bytes_durable() {
    let disk = SimDisk::default();
    disk.create("file".as_ref()).unwrap().write_at(b"b", 0).unwrap();
    disk.sync_dir(root()).unwrap();
    let left = outcomes(&disk, |after| get(after, "file").expect("the name is durable"));
    assert!(left.contains(&b""[..]) && left.contains(&b"b"[..]) && left.contains(&b"\0"[..]));
    assert!(left.iter().all(|bytes| bytes.len() <= 1));
}

#[test]
fn a_directory_is_found_only_after_its_parent_was_synced() {
    let disk = SimDisk::default();
    disk.create_dir("a".as_ref()).unwrap();
    let traced: Vec<_> = disk.trace().into_iter().map(|operation| operation.kind).collect();
    assert_eq!(traced, [OperationKind::SyncDir, OperationKind::MakeDir, OperationKind::SyncDir]);
    // Between the two a power cut may take the directory, and all that is durable below it.
    let disk = SimDisk::default();
    let copies = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&copies);
    disk.after_each(move |_, copy| sink.lock().unwrap().push(copy));
    disk.create_dir("a".as_ref()).unwrap();
    let made = copies.lock().unwrap()[1].clone();
    assert_eq!(outcomes(&made, names), set([vec![], vec!["a".to_owned()]]));
    let below = made.create("a/file".as_ref()).unwrap();
    below.sync().unwrap();
    made.sync_dir("a".as_ref()).unwrap();
    assert_eq!(outcomes(&made, |after| get(after, "a/file")), set([None, some("")]));
    // A second call, by the process that finds the directory there, makes good what the first did not finish.
    made.create_dir("a".as_ref()).unwrap();
    assert_eq!(outcomes(&made, |after| get(after, "a/file")), set([some("")]));
}

#[test]
fn a_rename_is_atomic_and_durable_only_after_its_directory_was_synced() {
    let disk = SimDisk::default();
    durable(&disk, "target", b"old");
    durable(&disk, "source", b"new");
    disk.rename("source".as_ref(), "target".as_ref()).unwrap();
    let look = |after: &SimDisk| (get(after, "source"), get(after, "target"));
    assert_eq!(outcomes(&disk, look), set([(some("new"), some("old")), (None, some("new"))]));
    disk.sync_dir(root()).unwrap();
    assert_eq!(outcomes(&disk, look), set([(None, some("new"))]));
}

#[test]
fn a_rename_between_directories_is_durable_with_the_target() {
    let disk = SimDisk::default();
    disk.create_dir("to".as_ref()).unwrap();
    durable(&disk, "file", b"x");
    disk.rename("file".as_ref(), "to/file".as_ref()).unwrap();
    let look = |after: &SimDisk| (get(after, "file"), get(after, "to/file"));
    let either = set([(some("x"), None), (None, some("x"))]);
    assert_eq!(outcomes(&disk, look), either);
    disk.sync_dir(root()).unwrap();
    assert_eq!(outcomes(&disk, look), either, "the source's directory is not enough");
    disk.sync_dir("to".as_ref()).unwrap();
    assert_eq!(outcomes(&disk, look), set([(None, some("x"))]));
}

#[test]
fn syncing_a_name_syncs_the_earlier_changes_it_rests_on() {
    let disk = SimDisk::default();
    disk.create_dir("to".as_ref()).unwrap();
    disk.create("file".as_ref()).unwrap();
    disk.rename("file".as_ref(), "to/file".as_ref()).unwrap();
    disk.create("unrelated".as_ref()).unwrap();
    disk.sync_dir("to".as_ref()).unwrap();
    // The file was made in a directory that was never synced; it must not come back there.
    let look = |after: &SimDisk| (names(after), get(after, "to/file"));
    let (with, without) = (vec!["to".to_owned(), "unrelated".to_owned()], vec!["to".to_owned()]);
    assert_eq!(outcomes(&disk, look), set([(with, some("")), (without, some(""))]));
}

#[test]
fn removed_names_return_until_the_directory_was_synced() {
    let disk = SimDisk::default();
    durable(&disk, "file", b"x");
    disk.remove("file".as_ref()).unwrap();
    assert_eq!(outcomes(&disk, |after| get(after, "file")), set([None, some("x")]));
    disk.sync_dir(root()).unwrap();
    assert_eq!(outcomes(&disk, |after| get(after, "file")), set([None]));
}

#[test]
fn links_are_names_like_others() {
    let disk = SimDisk::default();
    durable(&disk, "one", b"x");
    disk.link("one".as_ref(), "two".as_ref()).unwrap();
    let look = |after: &SimDisk| (get(after, "one"), get(after, "two"));
    assert_eq!(outcomes(&disk, look), set([(some("x"), None), (some("x"), some("x"))]));
    disk.sync_dir(root()).unwrap();
    // Still one file: what is written by one name is read by the other, after the power cut too.
    let after = disk.power_cut(0);
    after.open("two".as_ref()).unwrap().write_at(b"y", 0).unwrap();
    assert_eq!(look(&after), (some("y"), some("y")));
}

#[test]
fn of_several_changes_of_names_any_subset_survives() {
    let disk = SimDisk::default();
    for name in ["a", "b", "c"] {
        disk.create(name.as_ref()).unwrap();
    }
    assert_eq!(outcomes(&disk, names).len(), 8);
}

#[test]
fn a_later_change_of_a_name_never_survives_without_the_earlier() {
    let disk = SimDisk::default();
    durable(&disk, "wal", b"first");
    disk.rename("wal".as_ref(), "wal.rotating".as_ref()).unwrap();
    let second = disk.create("wal".as_ref()).unwrap();
    second.write_at(b"second", 0).unwrap();
    second.sync().unwrap();
    let left = outcomes(&disk, |after| (get(after, "wal"), get(after, "wal.rotating")));
    // Never the second without the first somewhere.
    assert_eq!(left, set([(some("first"), None), (None, some("first")), (some("second"), some("first"))]));
}

#[test]
fn each_sector_of_an_overwrite_is_old_new_torn_zero_or_garbage_by_itself() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", &[b'o'; 3 * SECTOR_BYTES]);
    file.write_at(&[b'n'; 2 * SECTOR_BYTES], 100).unwrap();
    // Written: the rest of the first sector, the whole second, the first 100 bytes of the third.
    let kind = |piece: &[u8]| {
        let new = piece.iter().take_while(|byte| **byte == b'n').count();
        match piece {
            _ if new == piece.len() => "new",
            _ if piece.iter().all(|byte| *byte == b'o') => "old",
            _ if piece.iter().all(|byte| *byte == 0) => "zeros",
            _ if piece[new..].iter().all(|byte| *byte == b'o') => "torn",
            _ => "garbage",
        }
    };
    let left = outcomes(&disk, |after| {
        let bytes = get(after, "file").unwrap();
        assert_eq!(bytes.len(), 3 * SECTOR_BYTES);
        // Powersafe overwrite: what the write did not cover is as it was.
        assert!(bytes[..100].iter().chain(&bytes[2 * SECTOR_BYTES + 100..]).all(|byte| *byte == b'o'));
        let (first, second) = (SECTOR_BYTES, 2 * SECTOR_BYTES);
        (kind(&bytes[100..first]), kind(&bytes[first..second]), kind(&bytes[second..second + 100]))
    });
    let kinds = ["garbage", "new", "old", "torn", "zeros"];
    for (number, seen) in [
        left.iter().map(|left| left.0).collect::<BTreeSet<_>>(),
        left.iter().map(|left| left.1).collect(),
        left.iter().map(|left| left.2).collect(),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(seen, BTreeSet::from(kinds), "sector {number}");
    }
    assert!(left.contains(&("old", "new", "old")) && left.contains(&("new", "old", "new")), "{left:?}");
    assert!(left.len() > 60, "only {} of 125 combinations", left.len());
}

#[test]
fn the_length_grows_with_any_piece_that_is_left() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", b"");
    file.write_at(&[b'n'; 3 * SECTOR_BYTES], 0).unwrap();
    let lengths = outcomes(&disk, |after| get(after, "file").unwrap().len());
    assert_eq!(lengths, set([0, SECTOR_BYTES, 2 * SECTOR_BYTES, 3 * SECTOR_BYTES]));
    // A hole: the last sector is there, the first is not and reads as zeros.
    let holes = outcomes(&disk, |after| {
        let bytes = get(after, "file").unwrap();
        bytes.len() == 3 * SECTOR_BYTES
            && bytes[..SECTOR_BYTES] == [0; SECTOR_BYTES]
            && bytes[2 * SECTOR_BYTES..] == [b'n'; SECTOR_BYTES]
    });
    assert!(holes.contains(&true));
}

#[test]
fn a_truncate_may_be_lost_while_a_later_write_is_kept() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", b"abcdef");
    file.truncate(2).unwrap();
    assert_eq!(
        outcomes(&disk, |after| get(after, "file").unwrap()),
        set([b"ab".to_vec(), b"abcdef".to_vec()])
    );
    file.write_at(b"X", 2).unwrap();
    let left = outcomes(&disk, |after| get(after, "file").unwrap());
    for expected in [&b"abcdef"[..], b"ab", b"abX", b"abXdef", b"ab\0"] {
        assert!(left.contains(expected), "{expected:?}");
    }
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, |after| get(after, "file").unwrap()), set([b"abX".to_vec()]));
}

#[test]
fn an_orderly_disk_is_among_the_seeds() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", b"");
    for piece in 0..6 {
        file.write_at(&[b'a' + piece; SECTOR_BYTES], u64::from(piece) * SECTOR_BYTES as u64).unwrap();
    }
    let full = get(&disk, "file").unwrap();
    let left = outcomes(&disk, |after| get(after, "file").unwrap());
    assert!((0..=6).all(|sectors| left.contains(&full[..sectors * SECTOR_BYTES])));
    // The same after a kill, whose copy begins to count anew.
    let left = outcomes(&disk.kill(), |after| get(after, "file").unwrap());
    assert!((0..=6).all(|sectors| left.contains(&full[..sectors * SECTOR_BYTES])));
}

#[test]
fn no_power_cut_makes_an_adopted_lock_file_a_copy() {
    let is_copy = |disk: &SimDisk| disk.lock("LOCK".as_ref()).unwrap().is_copy();
    let disk = SimDisk::default();
    let moments = Arc::new(Mutex::new(Vec::new()));
    let copies = Arc::clone(&moments);
    disk.after_each(move |_, copy| copies.lock().unwrap().push(copy));
    disk.lock("LOCK".as_ref()).unwrap().adopt().unwrap();
    disk.sync_dir("".as_ref()).unwrap();
    // Before, a copy or not: but never an error, and adopting works.
    for moment in moments.lock().unwrap().drain(..) {
        for seed in 0..50 {
            let after = moment.power_cut(seed);
            after.lock("LOCK".as_ref()).unwrap().adopt().unwrap();
            assert!(!is_copy(&after));
        }
    }
    // After it, none of the writes of process ids endangers the line above.
    (0..3).for_each(|_| drop(disk.lock("LOCK".as_ref()).unwrap()));
    for seed in 0..200 {
        assert!(!is_copy(&disk.power_cut(seed)) && !is_copy(&disk.kill().power_cut(seed)));
    }
}

#[test]
fn a_lock_file_that_could_not_be_adopted_stays_a_copy() {
    for kind in [FaultKind::Io, FaultKind::ShortWrite, FaultKind::SyncFails] {
        let disk = SimDisk::default();
        let mut lock = disk.lock("LOCK".as_ref()).unwrap();
        disk.fail(Fault { at: 0, kind, forever: false });
        assert!(lock.adopt().is_err() && lock.is_copy(), "{kind:?}");
        drop(lock);
        assert!(disk.lock("LOCK".as_ref()).unwrap().is_copy(), "{kind:?}: the next holder tries again");
        disk.lock("LOCK".as_ref()).unwrap().adopt().unwrap();
        disk.sync_dir("".as_ref()).unwrap();
        for seed in 0..50 {
            assert!(!disk.power_cut(seed).lock("LOCK".as_ref()).unwrap().is_copy(), "{kind:?}, seed {seed}");
        }
    }
}

#[test]
fn a_lock_is_taken_on_a_full_disk_and_adopted_when_there_is_room() {
    let disk = SimDisk::default();
    durable(&disk, "file", &[1; 100]);
    disk.create("LOCK".as_ref()).unwrap();
    disk.set_capacity_bytes(100);
    let mut lock = disk.lock("LOCK".as_ref()).unwrap();
    assert!(lock.is_copy());
    assert_eq!(lock.adopt().unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    disk.heal();
    lock.adopt().unwrap();
    drop(lock);
    assert!(!disk.lock("LOCK".as_ref()).unwrap().is_copy());
}

#[test]
fn a_kill_loses_nothing_and_makes_nothing_durable() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", b"old");
    let lock = disk.lock("LOCK".as_ref()).unwrap();
    file.write_at(b"new", 0).unwrap();
    disk.create("unsynced".as_ref()).unwrap();
    let killed = disk.kill();
    assert_eq!(killed.fingerprint(), disk.fingerprint());
    assert_eq!(killed.operations(), 0);
    assert_eq!(get(&killed.power_cut(0), "file"), some("old"), "a kill syncs nothing");
    assert_eq!(names(&killed.power_cut(0)), ["file"]);
    // The dead process's lock is free there, and still held here.
    assert!(killed.lock("LOCK".as_ref()).is_ok());
    assert!(matches!(disk.lock("LOCK".as_ref()), Err(LockError::Held { .. })));
    drop(lock);
    assert!(disk.lock("LOCK".as_ref()).is_ok());
    // A sync after the restart covers what the dead process wrote.
    killed.open("file".as_ref()).unwrap().sync().unwrap();
    assert_eq!(outcomes(&killed, |after| get(after, "file")), set([some("new")]));
}

#[test]
fn the_hook_sees_every_operation_and_the_trace_names_it() {
    let disk = SimDisk::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    disk.after_each(move |number, copy| sink.lock().unwrap().push((number, names(&copy))));
    replace(&disk, "M".as_ref(), b"1234").unwrap();
    let _ = disk.remove("nothing".as_ref());
    let trace: Vec<_> = disk.trace().iter().map(ToString::to_string).collect();
    let expected = [
        "1 create M.tmp",
        "2 write M.tmp: 4 bytes at 0",
        "3 sync M.tmp",
        "4 rename M.tmp to M",
        "5 sync directory .",
        "6 remove nothing (failed)",
    ];
    assert_eq!(trace, expected);
    assert_eq!(disk.operations(), 6);
    let names = ["M.tmp", "M.tmp", "M.tmp", "M", "M", "M"].map(|name| vec![name.to_owned()]);
    assert_eq!(*seen.lock().unwrap(), (1..).zip(names).collect::<Vec<_>>());
}

/// One operation of each sort, in order: create, write, overwrite, truncate up and down, sync, link, rename, remove,
/// sync directory.
fn all_sorts(disk: &SimDisk) -> Vec<io::Result<()>> {
    let created = disk.create("file".as_ref());
    let file = created.or_else(|_| disk.create("spare".as_ref())).unwrap();
    let name = |disk: &SimDisk| if disk.bytes("file".as_ref()).unwrap().is_some() { "file" } else { "spare" };
    vec![
        file.write_at(b"0123456789", 0),
        file.write_at(b"abc", 0),
        file.truncate(20),
        file.truncate(5),
        file.sync(),
        disk.link(name(disk).as_ref(), "link".as_ref()),
        disk.rename(name(disk).as_ref(), "renamed".as_ref()),
        disk.remove("renamed".as_ref()),
        disk.sync_dir(root()),
    ]
}

#[test]
fn a_fault_hits_exactly_the_operations_of_its_sort() {
    // Create is operation 1, so step k of the list is operation k + 2.
    let cases: [(FaultKind, &[usize], ErrorKind); 5] = [
        (FaultKind::Io, &[0, 1, 2, 3, 4, 5, 6, 7, 8], ErrorKind::Other),
        (FaultKind::Full, &[0, 2, 5], ErrorKind::StorageFull),
        (FaultKind::ShortWrite, &[0, 1], ErrorKind::StorageFull),
        (FaultKind::SyncFails, &[4, 8], ErrorKind::Other),
        (FaultKind::Interrupted, &[0, 1, 2, 3, 4, 5, 6, 7, 8], ErrorKind::Interrupted),
    ];
    for (kind, hit, error_kind) in cases {
        for step in 0..9 {
            let disk = SimDisk::default();
            disk.fail(Fault { at: step as u64 + 2, kind, forever: false });
            let results = all_sorts(&disk);
            // Not of its sort: the next one that is.
            let expected = hit.iter().find(|hit| **hit >= step);
            let first = results.iter().position(Result::is_err);
            assert_eq!(first, expected.copied(), "{kind:?} at step {step}");
            assert_eq!(disk.faults_hit(), u64::from(expected.is_some()));
            if let Some(first) = first {
                let error = results[first].as_ref().unwrap_err();
                assert_eq!(error.kind(), error_kind);
                assert!(error.to_string().ends_with(&format!("operation {}", first + 2)), "{error}");
                assert!(disk.trace()[first + 1].failed);
            }
        }
    }
}

#[test]
fn a_fault_for_ever_goes_on_until_healed() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", b"1234");
    disk.fail(Fault { at: disk.operations() + 2, kind: FaultKind::Full, forever: true });
    file.write_at(b"5", 4).unwrap();
    for _ in 0..3 {
        assert_eq!(file.write_at(b"67", 5).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(disk.create("new".as_ref()).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(disk.create_dir("dir".as_ref()).unwrap_err().kind(), ErrorKind::StorageFull);
        file.write_at(b"abcde", 0).unwrap();
    }
    assert_eq!((get(&disk, "file"), names(&disk)), (some("abcde"), vec!["file".to_owned()]));
    disk.heal();
    file.write_at(b"67", 5).unwrap();
    disk.create("new".as_ref()).unwrap();
    assert_eq!(disk.faults_hit(), 9);
}

#[test]
fn a_failed_operation_changes_nothing() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", b"1234");
    let before = disk.fingerprint();
    disk.fail(Fault { at: 0, kind: FaultKind::Io, forever: true });
    assert!(file.write_at(b"x", 0).is_err());
    assert!(file.truncate(0).is_err());
    assert!(disk.rename("file".as_ref(), "other".as_ref()).is_err());
    assert!(disk.link("file".as_ref(), "other".as_ref()).is_err());
    assert!(disk.remove("file".as_ref()).is_err());
    assert!(disk.create("other".as_ref()).is_err());
    assert!(disk.create_dir("other".as_ref()).is_err());
    assert!(matches!(disk.lock("LOCK".as_ref()), Err(LockError::Io(_))));
    assert_eq!(disk.fingerprint(), before);
    assert_eq!(disk.pending(), 0);
    disk.heal();
    assert!(disk.lock("LOCK".as_ref()).is_ok(), "a lock that failed is not held");
}

#[test]
fn a_short_write_leaves_a_prefix() {
    let mut lengths = BTreeSet::new();
    for skipped in 0..50 {
        let disk = SimDisk::default();
        let file = durable(&disk, "file", b"");
        for _ in 0..skipped {
            file.write_at(b"", 0).unwrap();
        }
        disk.fail(Fault { at: disk.operations() + 1, kind: FaultKind::ShortWrite, forever: false });
        assert_eq!(file.write_at(b"0123456789", 0).unwrap_err().kind(), ErrorKind::StorageFull);
        let left = get(&disk, "file").unwrap();
        assert!(b"0123456789".starts_with(&left) && left.len() < 10);
        lengths.insert(left.len());
        file.write_at(b"0123456789", 0).unwrap();
    }
    assert_eq!(lengths, (0..10).collect());
}

#[test]
fn after_a_failed_sync_the_next_one_succeeds_and_proves_nothing() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", &[b'o'; 2 * SECTOR_BYTES]);
    file.write_at(&[b'n'; 2 * SECTOR_BYTES], 0).unwrap();
    disk.fail(Fault { at: disk.operations() + 1, kind: FaultKind::SyncFails, forever: false });
    assert_eq!(file.sync().unwrap_err().to_string(), "simulated: input/output error at operation 6");
    file.sync().unwrap();
    assert_eq!(get(&disk, "file"), Some(vec![b'n'; 2 * SECTOR_BYTES]), "it still reads as written");
    assert_eq!(get(&disk.power_cut(0), "file"), Some(vec![b'o'; 2 * SECTOR_BYTES]));
    assert_eq!(get(&disk.power_cut(1), "file"), Some(vec![b'n'; 2 * SECTOR_BYTES]));
    assert_eq!(get(&disk.kill().power_cut(0), "file"), Some(vec![b'o'; 2 * SECTOR_BYTES]));
    // Only a new write to the same sector makes it dirty, and the sync of that writes the whole sector.
    file.write_at(b"!", 10).unwrap();
    file.sync().unwrap();
    let mut expected = [vec![b'n'; SECTOR_BYTES], vec![b'o'; SECTOR_BYTES]].concat();
    expected[10] = b'!';
    assert_eq!(get(&disk.power_cut(0), "file"), Some(expected));
}

#[test]
fn an_interrupted_sync_changes_nothing_and_a_repeated_one_counts() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", b"old");
    file.write_at(b"new", 0).unwrap();
    disk.create("other".as_ref()).unwrap();
    disk.fail(Fault { at: disk.operations() + 1, kind: FaultKind::Interrupted, forever: true });
    assert_eq!(file.sync().unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(disk.sync_dir(root()).unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!((get(&disk.power_cut(0), "file"), names(&disk.power_cut(0)).len()), (some("old"), 1));
    disk.heal();
    file.sync().unwrap();
    disk.sync_dir(root()).unwrap();
    assert_eq!((get(&disk.power_cut(0), "file"), names(&disk.power_cut(0)).len()), (some("new"), 2));
}

#[test]
fn a_cut_does_what_its_recipe_says_piece_by_piece() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", &[b'o'; 3 * SECTOR_BYTES]);
    let new = [b'n'; 2 * SECTOR_BYTES];
    file.write_at(&new, 100).unwrap();
    file.truncate(200).unwrap();
    disk.create("made".as_ref()).unwrap().write_at(&[0; 4], 0).unwrap();
    disk.rename("made".as_ref(), "renamed".as_ref()).unwrap();

    let undecided = disk.undecided();
    let pieces: Vec<_> = undecided.pieces.iter().map(ToString::to_string).collect();
    assert_eq!(
        pieces,
        ["file 100..512", "file 512..1024", "file 1024..1124", "file cut to 200", "renamed 0..4"]
    );
    assert_eq!(undecided.names, ["make made", "rename made to renamed"]);
    let zeros: Vec<_> = undecided.pieces.iter().map(|piece| piece.is_zeros).collect();
    assert_eq!(zeros, [false, false, false, false, true]);

    let left = |fates: &[Fate], names: &[bool]| disk.cut(&Cut { fates: fates.into(), names: names.into() });
    let mut expected = vec![b'o'; 3 * SECTOR_BYTES];
    expected[512..522].fill(b'n');
    expected[1024..1124].fill(0);
    let after = left(&[Fate::Absent, Fate::Torn(10), Fate::Zeros], &[]);
    assert_eq!(get(&after, "file"), Some(expected));
    let after = left(&[Fate::Written, Fate::Garbage, Fate::Absent, Fate::Written], &[]);
    assert_eq!(get(&after, "file"), Some([vec![b'o'; 100], vec![b'n'; 100]].concat()));
    // Names: what rests on a lost change is lost.
    assert_eq!(names(&left(&[], &[true, false])), ["file", "made"]);
    assert_eq!(names(&left(&[], &[false, true])), ["file"]);
    let after = left(&[Fate::Absent, Fate::Absent, Fate::Absent, Fate::Absent, Fate::Garbage], &[true, true]);
    assert_eq!(names(&after), ["file", "renamed"]);
    assert!(get(&after, "renamed").is_some_and(|bytes| bytes.len() == 4 && bytes != [0; 4]));
    // The recipes of the seeds are recipes.
    for seed in 0..100 {
        let drawn = disk.cut(&Cut::draw(seed, &undecided));
        assert_eq!(drawn.fingerprint(), disk.power_cut(seed).fingerprint());
    }
    assert_eq!(disk.cut(&Cut::everything(&undecided)).fingerprint(), disk.fingerprint());
}

#[test]
fn a_failed_sync_of_an_append_leaves_zeros_of_the_full_length() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", b"");
    file.write_at(b"0123456789", 0).unwrap();
    disk.fail(Fault { at: 0, kind: FaultKind::Io, forever: false });
    assert!(file.sync().is_err());
    assert_eq!(get(&disk.power_cut(0), "file"), some(""));
    file.sync().unwrap();
    assert_eq!(get(&disk.power_cut(0), "file"), Some(vec![0; 10]));
    // Cutting the file cuts what is lost with it.
    file.truncate(4).unwrap();
    file.sync().unwrap();
    let left = outcomes(&disk, |after| get(after, "file").unwrap());
    assert!(left.iter().all(|bytes| bytes.len() == 4));
    assert!(left.contains(&b"0123"[..]) && left.contains(&b"\0\0\0\0"[..]));
}

#[test]
fn after_a_failed_directory_sync_the_next_one_proves_nothing() {
    let disk = SimDisk::default();
    disk.create("file".as_ref()).unwrap();
    disk.fail(Fault { at: 0, kind: FaultKind::SyncFails, forever: false });
    assert!(disk.sync_dir(root()).is_err());
    disk.sync_dir(root()).unwrap();
    assert_eq!(outcomes(&disk, names), set([vec![], vec!["file".to_owned()]]));
}

#[test]
fn capacity_bounds_growth_and_nothing_else() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", b"0123456789");
    disk.set_capacity_bytes(12);
    assert_eq!(file.write_at(b"abcde", 10).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(get(&disk, "file"), some("0123456789ab"), "what fits was written");
    assert!(disk.create("other".as_ref()).is_err());
    assert!(file.truncate(13).is_err());
    file.write_at(b"XX", 0).unwrap();
    disk.rename("file".as_ref(), "renamed".as_ref()).unwrap();
    // A full disk can be locked and killed, and is still full then.
    let lock = disk.kill();
    assert!(lock.create("other".as_ref()).is_err());
    file.truncate(8).unwrap();
    disk.create("other".as_ref()).unwrap().write_at(b"abcd", 0).unwrap();
    // A removed file takes up space until its last handle is gone.
    disk.remove("renamed".as_ref()).unwrap();
    let other = disk.open("other".as_ref()).unwrap();
    assert!(other.write_at(b"x", 4).is_err());
    drop(file);
    other.write_at(b"efghijkl", 4).unwrap();
    assert!(other.write_at(b"m", 12).is_err());
}

#[test]
fn every_fault_at_every_step_of_a_replace_leaves_the_old_or_the_new() {
    for kind in FaultKind::ALL {
        let mut hits = 0;
        for at in 0..8 {
            for forever in [false, true] {
                let disk = SimDisk::default();
                durable(&disk, "M", b"old");
                disk.fail(Fault { at: disk.operations() + at, kind, forever });
                let result = replace(&disk, "M".as_ref(), b"new");
                hits += disk.faults_hit();
                assert_eq!(result.is_err(), disk.faults_hit() > 0);
                let left = outcomes(&disk.kill(), |after| get(after, "M"));
                let allowed =
                    if result.is_ok() { set([some("new")]) } else { set([some("old"), some("new")]) };
                assert!(left.is_subset(&allowed), "{kind:?} at {at}: {left:?}");
                disk.heal();
                replace(&disk, "M".as_ref(), b"next").unwrap();
                assert_eq!(names(&disk), ["M"]);
            }
        }
        assert!(hits > 0, "{kind:?} never hit");
    }
}

#[test]
fn every_power_cut_in_a_replace_leaves_the_old_or_the_new() {
    let disk = SimDisk::default();
    durable(&disk, "M", b"old");
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let sink = Arc::clone(&seen);
    disk.after_each(move |_, copy| sink.lock().unwrap().extend(outcomes(&copy, |after| get(after, "M"))));
    replace(&disk, "M".as_ref(), b"new").unwrap();
    assert_eq!(*seen.lock().unwrap(), set([some("old"), some("new")]));
    // The test of the test: without the sync of the bytes, a durable name leads to nothing.
    let careless = SimDisk::default();
    durable(&careless, "M", b"old");
    careless.create("M.tmp".as_ref()).unwrap().write_at(b"new", 0).unwrap();
    careless.rename("M.tmp".as_ref(), "M".as_ref()).unwrap();
    assert!(outcomes(&careless, |after| get(after, "M")).contains(&some("")));
}

#[test]
fn removed_files_are_forgotten_when_nothing_can_bring_them_back() {
    let disk = SimDisk::default();
    let file = durable(&disk, "file", b"x");
    disk.remove("file".as_ref()).unwrap();
    disk.sync_dir(root()).unwrap();
    let mut target = [0];
    assert_eq!(file.read_at(&mut target, 0).unwrap(), 1, "an open file stays");
    // Writing it on is possible and seen by no one else.
    file.write_at(b"y", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.pending(), 0);
    assert_eq!(names(&disk.power_cut(1)), [""; 0]);
    assert_eq!(format!("{disk:?}"), "SimDisk { files: 1, operations: 8, pending: 0, .. }");
    drop(file);
    disk.sync_dir(root()).unwrap();
    assert_eq!(format!("{disk:?}"), "SimDisk { files: 0, operations: 9, pending: 0, .. }");
}

#[test]
fn an_image_is_written_out_as_real_files() {
    let disk = SimDisk::default();
    disk.create_dir("a/b".as_ref()).unwrap();
    durable(&disk, "top", b"1");
    disk.create("a/b/deep".as_ref()).unwrap().write_at(b"22", 0).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("image");
    disk.write_out(&RealDisk, &target).unwrap();
    assert_eq!(read_all(&RealDisk, &target.join("top"), 10).unwrap(), b"1");
    assert_eq!(read_all(&RealDisk, &target.join("a/b/deep"), 10).unwrap(), b"22");
    assert!(disk.write_out(&RealDisk, &target).is_err(), "nothing is overwritten");
}

#[test]
fn an_append_is_a_write_at_the_end() {
    let disk = SimDisk::default();
    drop(durable(&disk, "file", b"old"));
    let appender = disk.open_append("file".as_ref()).unwrap();
    disk.fail(Fault { at: 0, kind: FaultKind::ShortWrite, forever: false });
    assert_eq!(appender.append(b" and longer").unwrap_err().kind(), ErrorKind::StorageFull);
    let end = disk.bytes("file".as_ref()).unwrap().unwrap();
    assert!((3..14).contains(&end), "{end}");
    assert_eq!(appender.append(b" new").unwrap(), end);
    let last = disk.trace().pop().unwrap();
    assert_eq!((last.kind, last.failed), (OperationKind::Write { offset: end, bytes: 4 }, false));
    assert_eq!(get(&disk.power_cut(0), "file"), some("old"));
    disk.open("file".as_ref()).unwrap().sync().unwrap();
    assert_eq!(disk.bytes("file".as_ref()).unwrap(), Some(end + 4));
    assert_eq!(disk.pending(), 0);
    // What is killed has its locks no more.
    let lock = disk.open_lock("file".as_ref()).unwrap();
    assert!(lock.try_lock().unwrap());
    assert!(disk.kill().open_lock("file".as_ref()).unwrap().try_lock().unwrap());
    assert!(!disk.open_lock("file".as_ref()).unwrap().try_lock().unwrap());
}
