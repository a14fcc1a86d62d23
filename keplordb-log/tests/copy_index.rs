//! The time indexes of copies: a place in a copy is found as in its source, by reading little of it, whatever a crash or damage has
//! done to its indexes.

#[path = "common/hooked.rs"]
mod hooked;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hooked::HookedDisk;
use keplordb_disk::sim::{Fault, FaultKind};
use keplordb_disk::{Disk, SimDisk, read_all};
use keplordb_log::{Log, LogError, ManualClock, Options, Replica, SyncPolicy, Timestamp, Writer};
use proptest::prelude::*;
use proptest::sample::Index;

const SOURCE: &str = "commands";
const COPY: &str = "copy";
/// The length of an index's header.
const HEADER_BYTES: usize = 32;

type Entries = Vec<(i64, Vec<u8>)>;

/// A log with a clock that stands, so that times are 1, 2, 3, …
fn log(disk: &SimDisk, dir: &str, max_segment_bytes: u64) -> Log {
    log_on(Arc::new(disk.clone()), dir, max_segment_bytes)
}

fn log_on(disk: Arc<dyn Disk>, dir: &str, max_segment_bytes: u64) -> Log {
    let options = Options {
        max_segment_bytes,
        sync: SyncPolicy::Each,
        clock: Arc::new(ManualClock::new(Timestamp::from_ns(1))),
        disk,
        ..Options::default()
    };
    Log::open_with(dir, options).unwrap()
}

fn entries(log: &Log) -> Entries {
    let mut reader = log.reader().unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        entries.push((entry.time.as_ns(), entry.bytes.to_vec()));
    }
    entries
}

/// The files of a directory whose names end so, and what is in them.
fn files(disk: &SimDisk, dir: &str, suffix: &str) -> Vec<(PathBuf, Vec<u8>)> {
    // None, if there is no directory.
    let names = disk.list(Path::new(dir)).unwrap_or_default().into_iter().map(|entry| entry.name);
    let paths = names.filter(|name| name.ends_with(suffix)).map(|name| Path::new(dir).join(name));
    paths.map(|path| (path.clone(), read_all(disk, &path, u64::MAX).unwrap())).collect()
}

/// The slots of all indexes of a directory, by the names of their segments.
fn slots(disk: &SimDisk, dir: &str) -> Vec<(String, Vec<u8>)> {
    let files = files(disk, dir, ".index").into_iter();
    files
        .map(|(path, bytes)| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, bytes.get(HEADER_BYTES..).unwrap_or_default().to_vec())
        })
        .collect()
}

/// Whether each time is found where a walk over all entries finds it, and the segments are said to have what they have.
fn check_places(log: &Log, expected: &Entries, what: &str) {
    let Ok(mut reader) = log.reader() else { panic!("{what}") };
    for time in (0..expected.len() as i64 + 2).rev() {
        let found = expected.partition_point(|(before, _)| *before < time);
        reader.seek(Timestamp::from_ns(time)).unwrap_or_else(|error| panic!("{what}, {time}: {error}"));
        let next = reader.next().unwrap().map(|entry| (entry.time.as_ns(), entry.bytes.to_vec()));
        assert!(
            next.as_ref() == expected.get(found),
            "{what}: {time} leads to {:?}",
            next.map(|next| next.0)
        );
        reader.seek(Timestamp::from_ns(time)).unwrap();
        let back = reader.back().unwrap().map(|entry| (entry.time.as_ns(), entry.bytes.to_vec()));
        let before = found.checked_sub(1).map(|before| &expected[before]);
        assert!(back.as_ref() == before, "{what}: before {time} is {:?}", back.map(|back| back.0));
    }
    let stats = log.stats().unwrap();
    assert_eq!(stats.entries, expected.len() as u64, "{what}");
    assert_eq!(stats.last.map(Timestamp::as_ns), expected.last().map(|(time, _)| *time), "{what}");
}

/// Writes batches of two entries of so many bytes.
fn write(writer: &Writer, batches: std::ops::Range<u32>, bytes: usize) {
    for number in batches {
        writer.write_batch([vec![number.to_le_bytes()[0]; bytes], vec![7; bytes % 100]]).unwrap();
    }
}

/// A source of three segments of several slots each.
fn source() -> (SimDisk, Log) {
    let disk = SimDisk::default();
    let source = log(&disk, SOURCE, 260_000);
    write(&source.writer().unwrap(), 0..30, 25_000);
    assert_eq!(source.segments().unwrap().len(), 3);
    (disk, source)
}

#[test]
fn a_seek_in_a_copy_reads_the_index_and_a_few_frames() {
    let source_disk = SimDisk::default();
    let source = log(&source_disk, SOURCE, 6 << 20);
    let writer = source.writer().unwrap();
    for number in 0..90_u32 {
        writer.write_batch((0..100).map(|_| vec![number.to_le_bytes()[0]; 1000])).unwrap();
        writer.write(b"one").unwrap();
    }
    assert_eq!(source.segments().unwrap().len(), 2);
    let disk = SimDisk::default();
    Replica::between(&source, &log(&disk, COPY, 6 << 20)).unwrap().step().unwrap();

    let read_bytes = Arc::new(AtomicU64::new(0));
    let hooked = HookedDisk::new(disk.clone()).on_read({
        let read_bytes = Arc::clone(&read_bytes);
        move |_, read, _| {
            read_bytes.fetch_add(read.len() as u64, Ordering::Relaxed);
        }
    });
    let copy = log_on(Arc::new(hooked), COPY, 6 << 20);
    let most_of_seeks = || {
        let times = (0..9090).step_by(397).map(|time| Timestamp::from_ns(time + 1));
        let cost_of = |time| {
            read_bytes.store(0, Ordering::Relaxed);
            assert_eq!(copy.from(time).unwrap().next().unwrap().unwrap().time, time);
            read_bytes.load(Ordering::Relaxed)
        };
        times.map(cost_of).max().unwrap()
    };
    // 64 KiB between slots, two frames of 100 KB, and what a read brings more than was needed.
    let with_index = most_of_seeks();
    assert!(with_index < 500_000, "{with_index} bytes were read");
    for (path, _) in files(&disk, COPY, ".index") {
        disk.remove(&path).unwrap();
    }
    let without_index = most_of_seeks();
    assert!(without_index > 2 * with_index, "{without_index} bytes were read without an index");
}

/// Small frames: there it would be all of a segment.
#[test]
fn a_step_reads_of_the_copy_what_it_has_copied_and_no_more() {
    let source_disk = SimDisk::default();
    let source = log(&source_disk, SOURCE, 3 << 20);
    let writer = source.writer().unwrap();
    let disk = SimDisk::default();
    let read_bytes = Arc::new(AtomicU64::new(0));
    let hooked = HookedDisk::new(disk.clone()).on_read({
        let read_bytes = Arc::clone(&read_bytes);
        move |_, read, _| {
            read_bytes.fetch_add(read.len() as u64, Ordering::Relaxed);
        }
    });
    let copy = log_on(Arc::new(hooked), COPY, 3 << 20);
    let mut replica = Replica::between(&source, &copy).unwrap();
    for number in 0..40_u32 {
        for _ in 0..20 {
            writer.write_batch((0..50).map(|_| vec![number.to_le_bytes()[0]; 100])).unwrap();
        }
        read_bytes.store(0, Ordering::Relaxed);
        let copied = replica.step().unwrap();
        let read = read_bytes.load(Ordering::Relaxed);
        assert!(read < 2 * copied.bytes + 50_000, "{read} bytes were read for {}", copied.bytes);
    }
    assert_eq!(source.segments().unwrap().len(), 2);
    assert_eq!(slots(&disk, COPY), slots(&source_disk, SOURCE));
    // And where there is nothing to do, nothing is read but who has what.
    read_bytes.store(0, Ordering::Relaxed);
    replica.step().unwrap();
    assert!(read_bytes.load(Ordering::Relaxed) < 1000);
}

/// What becomes of the indexes of a copy.
#[derive(Debug, Clone)]
enum Step {
    Write {
        batches: u32,
        bytes: usize,
    },
    Copy,
    Reopen,
    CutCopy {
        seed: u64,
    },
    Remove {
        file: Index,
    },
    Cut {
        file: Index,
        length: Index,
    },
    Flip {
        file: Index,
        at: Index,
    },
    /// The index of one segment takes the place of another's.
    Swap {
        file: Index,
        other: Index,
    },
    RemoveOldest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1..6_u32, 1..40_000_usize).prop_map(|(batches, bytes)| Step::Write { batches, bytes }),
        4 => Just(Step::Copy),
        2 => Just(Step::Reopen),
        1 => (0..50_u64).prop_map(|seed| Step::CutCopy { seed }),
        1 => any::<Index>().prop_map(|file| Step::Remove { file }),
        1 => any::<[Index; 2]>().prop_map(|[file, length]| Step::Cut { file, length }),
        1 => any::<[Index; 2]>().prop_map(|[file, at]| Step::Flip { file, at }),
        1 => any::<[Index; 2]>().prop_map(|[file, other]| Step::Swap { file, other }),
        1 => Just(Step::RemoveOldest),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// After every step each time is found in the copy as in a list of what it has, and after a last one its indexes are those
    /// of the source.
    #[test]
    fn a_place_in_a_copy_is_that_in_its_source(steps in steps()) {
        let (source_disk, mut disk) = (SimDisk::default(), SimDisk::default());
        let (source, mut copy) = (log(&source_disk, SOURCE, 200_000), log(&disk, COPY, 200_000));
        let writer = source.writer().unwrap();
        let open = |copy: &Log| Replica::between(&source, copy).unwrap().follow_removals(true);
        let mut replica = Some(open(&copy));
        let (mut all, mut copied, mut removed) = (Vec::new(), 0, 0);
        for step in steps {
            let indexes = files(&disk, COPY, ".index");
            let damage = |file: &Index, bytes: &[u8]| {
                let file = disk.open(&indexes[file.index(indexes.len())].0).unwrap();
                file.truncate(0).unwrap();
                file.write_at(bytes, 0).unwrap();
            };
            match step {
                Step::Write { batches, bytes } => {
                    write(&writer, 0..batches, bytes);
                    all.extend(entries(&source).split_off(all.len() - removed));
                }
                Step::Copy => {
                    replica.as_mut().unwrap().step().unwrap();
                    copied = all.len();
                }
                Step::Reopen => {
                    drop(replica.take());
                    replica = Some(open(&copy));
                }
                Step::CutCopy { seed } => {
                    drop(replica.take());
                    disk = disk.power_cut(seed);
                    copy = log(&disk, COPY, 200_000);
                    check_places(&copy, &entries(&copy), "after a power cut");
                    replica = Some(open(&copy));
                }
                Step::RemoveOldest => {
                    let segments = source.segments().unwrap();
                    // Behind what was copied that would be a gap.
                    if copied == all.len() && segments.len() > 1 {
                        source.remove_segment(segments[0].start).unwrap();
                        removed += usize::try_from(segments[0].entries).unwrap();
                        replica.as_mut().unwrap().step().unwrap();
                    }
                }
                _ if indexes.is_empty() => {}
                Step::Remove { file } => disk.remove(&indexes[file.index(indexes.len())].0).unwrap(),
                Step::Cut { file, length } => {
                    let bytes = &indexes[file.index(indexes.len())].1;
                    damage(&file, &bytes[..length.index(bytes.len() + 1)]);
                }
                Step::Flip { file, at } => {
                    let mut bytes = indexes[file.index(indexes.len())].1.clone();
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] ^= 0x20;
                        damage(&file, &bytes);
                    }
                }
                Step::Swap { file, other } => damage(&file, &indexes[other.index(indexes.len())].1),
            }
            let has = entries(&copy);
            prop_assert_eq!(&has, &all[removed..copied.max(removed)]);
            let mut reader = copy.reader().unwrap();
            for time in (0..all.len() as i64 + 2).rev().step_by(3) {
                reader.seek(Timestamp::from_ns(time)).unwrap();
                let next = reader.next().unwrap().map(|entry| entry.time.as_ns());
                prop_assert_eq!(next, has.iter().map(|(time, _)| *time).find(|found| *found >= time), "{}", time);
            }
        }
        drop(replica);
        let mut replica = open(&copy);
        replica.step().unwrap();
        // What is damaged is cut off or made anew when the copy is opened, and then completed.
        prop_assert_eq!(slots(&disk, COPY), slots(&source_disk, SOURCE));
        check_times(&copy, &all[removed..]);
    }
}

fn check_times(copy: &Log, expected: &[(i64, Vec<u8>)]) {
    let mut reader = copy.reader().unwrap();
    for (time, bytes) in expected.iter().rev() {
        reader.seek(Timestamp::from_ns(*time)).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().bytes, bytes);
    }
}

/// Copies of the disk after each of its operations from now on.
fn moments(disk: &SimDisk) -> Arc<Mutex<Vec<SimDisk>>> {
    let moments = Arc::new(Mutex::new(Vec::new()));
    disk.after_each({
        let moments = Arc::clone(&moments);
        move |_, disk| moments.lock().unwrap().push(disk)
    });
    moments
}

#[test]
fn a_power_cut_at_any_operation_leaves_every_place_where_it_is() {
    let (source_disk, source) = source();
    let (all, expected) = (entries(&source), slots(&source_disk, SOURCE));
    let disk = SimDisk::default();
    let seen = moments(&disk);
    let copy = log(&disk, COPY, 260_000);
    let mut replica = Replica::between(&source, &copy).unwrap();
    replica.step().unwrap();
    drop(replica);
    assert_eq!(slots(&disk, COPY), expected);
    // Those of whole segments stay, whatever a power cut takes: they were synced.
    for seed in 0..20 {
        assert_eq!(slots(&disk.power_cut(seed), COPY)[..2], expected[..2], "seed {seed}");
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let mut behind = 0;
    for (number, moment) in seen.iter().enumerate() {
        for seed in 0..4 {
            let what = format!("operation {number}, seed {seed}");
            let disk = moment.power_cut(seed);
            let copy = log(&disk, COPY, 260_000);
            let has = entries(&copy);
            assert!(all.starts_with(&has), "{what}");
            check_places(&copy, &has, &what);
            behind += u64::from(slots(&disk, COPY).iter().any(|index| !expected.contains(index)));

            // A writer takes it over, with the indexes that are there …
            let taken = log(&disk.power_cut(seed + 1), COPY, 260_000);
            let writer = taken.writer().unwrap();
            let time = writer.write(b"taken over").unwrap();
            let mut has = has;
            has.push((time.as_ns(), b"taken over".to_vec()));
            if has.len() > 1 {
                check_places(&taken, &has, &what);
            }

            // … or the replica goes on, and completes them.
            let mut replica = Replica::between(&source, &copy).unwrap();
            replica.step().unwrap();
            assert_eq!(slots(&disk, COPY), expected, "{what}");
            check_places(&copy, &all, &what);
        }
    }
    assert!(behind > 5, "{behind} images with an index that is torn or behind");
}

#[test]
fn whatever_operation_fails_every_place_is_where_it_is() {
    let (source_disk, source) = source();
    let (all, expected) = (entries(&source), slots(&source_disk, SOURCE));
    let operations = {
        let disk = SimDisk::default();
        Replica::between(&source, &log(&disk, COPY, 260_000)).unwrap().step().unwrap();
        disk.operations()
    };
    let mut unharmed = 0;
    for number in 1..=operations {
        for kind in FaultKind::ALL {
            let disk = SimDisk::default();
            disk.create_dir(Path::new(COPY)).unwrap();
            let copy = log(&disk, COPY, 260_000);
            disk.fail(Fault { at: disk.operations() + number, kind, forever: false });
            let outcome = Replica::between(&source, &copy).and_then(|mut replica| replica.step());
            disk.heal();
            let has = entries(&copy);
            check_places(&copy, &has, &format!("operation {number}, {kind:?}"));
            // That an index cannot be written is no error, and nothing is missing for it.
            if outcome.is_ok() {
                assert!(has == all, "operation {number}, {kind:?}");
                unharmed += usize::from(slots(&disk, COPY) != expected);
            }
            let mut replica = Replica::between(&source, &copy).unwrap();
            replica.step().unwrap();
            assert_eq!(slots(&disk, COPY), expected, "operation {number}, {kind:?}");
        }
    }
    assert!(unharmed > 5, "{unharmed} copies without an index");
}

#[test]
fn a_copy_of_a_release_that_made_no_indexes_gets_them() {
    let (source_disk, source) = source();
    let disk = SimDisk::default();
    let copy = log(&disk, COPY, 260_000);
    Replica::between(&source, &copy).unwrap().step().unwrap();
    for (path, _) in files(&disk, COPY, ".index") {
        disk.remove(&path).unwrap();
    }
    // And one that was left when its segment was removed.
    let orphan = Path::new(COPY).join("1970-01-01T00_00_00.000000000Z.index");
    disk.create(&orphan).unwrap();
    check_places(&copy, &entries(&source), "without");
    let mut replica = Replica::between(&source, &copy).unwrap();
    assert_eq!(replica.step().unwrap().entries, 0);
    assert_eq!(slots(&disk, COPY), slots(&source_disk, SOURCE));
    drop(replica);

    // They stay when a writer takes it over: those of whole segments nobody would make again.
    let writer = copy.writer().unwrap();
    writer.write(&vec![1; 70_000]).unwrap();
    drop(writer);
    let (taken, expected) = (slots(&disk, COPY), slots(&source_disk, SOURCE));
    assert_eq!(taken[..2], expected[..2]);
    assert!(taken[2].1.starts_with(&expected[2].1));
    check_places(&copy, &entries(&copy), "taken over");
}

/// As a replica leaves it that ends while it makes the indexes of whole segments, or that lost power.
#[test]
fn indexes_that_are_behind_are_completed_when_a_writer_takes_the_copy_over() {
    let (source_disk, source) = source();
    let expected = slots(&source_disk, SOURCE);
    let copied = SimDisk::default();
    Replica::between(&source, &log(&copied, COPY, 260_000)).unwrap().step().unwrap();
    for number in [0, 1] {
        let (path, whole) = files(&copied, COPY, ".index").swap_remove(number);
        assert!(whole.len() > HEADER_BYTES + 3 * 32);
        for kept_bytes in [HEADER_BYTES, HEADER_BYTES + 32, HEADER_BYTES + 40, whole.len() - 32] {
            let disk = copied.kill();
            disk.open(&path).unwrap().truncate(kept_bytes as u64).unwrap();
            let copy = log(&disk, COPY, 260_000);
            let segments = copy.segments().unwrap();
            copy.writer().unwrap();
            assert_eq!(slots(&disk, COPY), expected, "{number}, {kept_bytes} bytes");
            assert_eq!(copy.segments().unwrap(), segments, "{number}, {kept_bytes} bytes");
        }
    }
}

/// A source's index says what is synced there. Put into the copy by another program, it must prove nothing.
#[test]
fn an_index_that_speaks_of_another_disk_is_not_taken_over() {
    let (source_disk, source) = source();
    let disk = SimDisk::default();
    let copy = log(&disk, COPY, 260_000);
    Replica::between(&source, &copy).unwrap().step().unwrap();
    write(&source.writer().unwrap(), 0..1, 1000);
    // As far as its source is synced now.
    let (path, bytes) = files(&source_disk, SOURCE, ".index").pop().unwrap();
    let (own, _) = files(&disk, COPY, ".index").pop().unwrap();
    assert_eq!(own.file_name(), path.file_name());
    disk.open(&own).unwrap().write_at(&bytes, 0).unwrap();
    let has = entries(&copy);
    assert!(has.len() < entries(&source).len());
    check_places(&copy, &has, "foreign");
    let writer = copy.writer().unwrap_or_else(|error| panic!("{error}"));
    writer.write(b"mine").unwrap();
    assert_eq!(entries(&copy).len(), has.len() + 1);
}

#[test]
fn removals_take_the_indexes_along() {
    let (_, source) = source();
    let disk = SimDisk::default();
    let copy = log(&disk, COPY, 260_000);
    let mut replica = Replica::between(&source, &copy).unwrap().follow_removals(true);
    replica.step().unwrap();
    source.remove_segment(source.segments().unwrap()[0].start).unwrap();
    let seen = moments(&disk);
    replica.step().unwrap();
    assert_eq!(files(&disk, COPY, ".index").len(), 2);
    check_times(&copy, &entries(&source));
    drop(replica);
    for moment in seen.lock().unwrap().iter() {
        for seed in 0..20 {
            let disk = moment.power_cut(seed);
            let copy = log(&disk, COPY, 260_000);
            let mut replica = Replica::between(&source, &copy).unwrap().follow_removals(true);
            replica.step().unwrap();
            assert_eq!(files(&disk, COPY, ".index").len(), 2, "seed {seed}");
        }
    }
}

#[test]
fn a_replica_that_diverged_leaves_the_indexes_as_they_were() {
    let (_, source) = source();
    let (_, other) = self::source();
    let disk = SimDisk::default();
    let copy = log(&disk, COPY, 260_000);
    Replica::between(&source, &copy).unwrap().step().unwrap();
    let (expected, has) = (slots(&disk, COPY), entries(&copy));
    let outcome = Replica::between(&other, &copy).and_then(|mut replica| replica.step());
    assert!(matches!(outcome, Err(LogError::Diverged { .. })), "{outcome:?}");
    assert_eq!(slots(&disk, COPY), expected);
    check_places(&copy, &has, "diverged");
}
