//! Replicas: the copy is the source's durable beginning at every moment, whatever fails, and a log of its own when it is
//! taken over.

#[path = "common/hooked.rs"]
mod hooked;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hooked::HookedDisk;
use keplordb_disk::sim::{Fault, FaultKind};
use keplordb_disk::{Disk, SimDisk};
use keplordb_log::{Lag, Log, LogError, ManualClock, Options, Replica, SyncPolicy, Timestamp, Writer};
use proptest::prelude::*;

const SOURCE: &str = "commands";
const COPY: &str = "copy";

/// A log with small segments and a clock that stands, so that times are 1, 2, 3, …
fn log(disk: &SimDisk, dir: &str, sync: SyncPolicy) -> Log {
    let options = Options {
        max_segment_bytes: 700,
        sync,
        clock: Arc::new(ManualClock::new(Timestamp::from_ns(1))),
        disk: Arc::new(disk.clone()),
        ..Options::default()
    };
    Log::open_with(dir, options).unwrap()
}

/// All entries of a log.
fn entries(log: &Log) -> Vec<(i64, Vec<u8>)> {
    let mut reader = log.reader().unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        entries.push((entry.time.as_ns(), entry.bytes.to_vec()));
    }
    entries
}

/// What the files of the segments are.
fn segments(disk: &SimDisk, dir: &str) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(Path::new(dir)).unwrap().into_iter().map(|entry| entry.name);
    let segments = names.filter(|name| Path::new(name).extension() == Some("segment".as_ref()));
    segments
        .map(|name| {
            let bytes = keplordb_disk::read_all(disk, &Path::new(dir).join(&name), u64::MAX).unwrap();
            (name, bytes)
        })
        .collect()
}

fn write_batch(writer: &Writer, from: u8, count: u8) {
    let batch: Vec<Vec<u8>> = (from..from + count).map(|byte| vec![byte; usize::from(byte % 60)]).collect();
    writer.write_batch(&batch).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        count: u8,
    },
    Sync,
    Copy,
    /// Drops the replica and opens it again.
    Reopen,
    /// The machine of the copy loses power.
    CutCopy {
        seed: u64,
    },
    /// The machine of the source does.
    CutSource {
        seed: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..9_u8).prop_map(|count| Step::Write { count }),
        1 => Just(Step::Sync),
        3 => Just(Step::Copy),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(|seed| Step::CutCopy { seed: seed % 50 }),
        1 => any::<u64>().prop_map(|seed| Step::CutSource { seed: seed % 50 }),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// After every step the copy is the source's beginning, and after a last one its files are the source's.
    #[test]
    fn a_copy_is_always_a_beginning_of_its_source(steps in steps(), syncs: bool) {
        let sync = if syncs { SyncPolicy::Each } else { SyncPolicy::OnDemand };
        let (mut source_disk, mut copy_disk) = (SimDisk::default(), SimDisk::default());
        let (mut source, mut copy) = (log(&source_disk, SOURCE, sync), log(&copy_disk, COPY, sync));
        let mut writer = Some(source.writer().unwrap());
        let mut replica = Some(Replica::between(&source, &copy).unwrap());
        let mut next = 0_u8;
        for step in steps {
            match step {
                Step::Write { count } => {
                    write_batch(writer.as_ref().unwrap(), next % 200, count);
                    next = next.wrapping_add(count);
                }
                Step::Sync => writer.as_ref().unwrap().sync().unwrap(),
                Step::Copy => {
                    replica.as_mut().unwrap().step().unwrap();
                    prop_assert_eq!(entries(&copy), entries(&source));
                    prop_assert_eq!(replica.as_ref().unwrap().lag().unwrap(), Lag::default());
                }
                Step::Reopen => {
                    drop(replica.take());
                    replica = Some(Replica::between(&source, &copy).unwrap());
                }
                Step::CutCopy { seed } => {
                    let before = entries(&copy);
                    drop(replica.take());
                    copy_disk = copy_disk.power_cut(seed);
                    copy = log(&copy_disk, COPY, sync);
                    prop_assert_eq!(entries(&copy), before);
                    replica = Some(Replica::between(&source, &copy).unwrap());
                }
                Step::CutSource { seed } => {
                    // Before the writer is dropped: that would sync.
                    source_disk = source_disk.power_cut(seed);
                    drop((replica.take(), writer.take()));
                    source = log(&source_disk, SOURCE, sync);
                    writer = Some(source.writer().unwrap());
                    // Whatever was copied is still there, so this is no divergence.
                    replica = Some(Replica::between(&source, &copy).unwrap());
                }
            }
            let (copied, all) = (entries(&copy), entries(&source));
            prop_assert!(all.starts_with(&copied), "{:?} is no beginning of {:?}", copied, all);
        }
        writer.take().unwrap().close().unwrap();
        replica.as_mut().unwrap().step().unwrap();
        prop_assert_eq!(segments(&copy_disk, COPY), segments(&source_disk, SOURCE));
    }
}

/// A source of several segments, and its disk.
fn source() -> (SimDisk, Log) {
    let disk = SimDisk::default();
    let source = log(&disk, SOURCE, SyncPolicy::Each);
    let writer = source.writer().unwrap();
    for from in 0..12 {
        write_batch(&writer, from * 7 + 5, 6);
    }
    drop(writer);
    assert!(source.segments().unwrap().len() > 3);
    (disk, source)
}

#[test]
fn a_power_cut_of_the_copy_at_any_operation_leaves_a_beginning_that_goes_on() {
    let (_, source) = source();
    let all = entries(&source);
    let copy_disk = SimDisk::default();
    let moments = Arc::new(Mutex::new(Vec::new()));
    copy_disk.after_each({
        let moments = Arc::clone(&moments);
        move |_, disk| moments.lock().unwrap().push(disk)
    });
    let copy = log(&copy_disk, COPY, SyncPolicy::Each);
    Replica::between(&source, &copy).unwrap().step().unwrap();
    assert_eq!(entries(&copy), all);
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 20, "{} operations", moments.len());
    for (number, moment) in moments.iter().enumerate() {
        for seed in 0..8 {
            let disk = moment.power_cut(seed);
            let copy = log(&disk, COPY, SyncPolicy::Each);
            let beginning = entries(&copy);
            assert!(all.starts_with(&beginning), "operation {number}, seed {seed}: {beginning:?}");

            // A writer may take over what is there …
            let taken = log(&disk.power_cut(1), COPY, SyncPolicy::Each);
            let writer = taken.writer().unwrap();
            writer.write(b"taken over").unwrap();
            let kept: Vec<_> = entries(&taken).into_iter().map(|(_, bytes)| bytes).collect();
            let expected = beginning.iter().map(|(_, bytes)| bytes.clone());
            assert_eq!(kept, expected.chain([b"taken over".to_vec()]).collect::<Vec<_>>());

            // … and the replica goes on with it.
            let mut replica = Replica::between(&source, &copy).unwrap();
            replica.step().unwrap();
            assert_eq!(entries(&copy), all, "operation {number}, seed {seed}");
        }
    }
}

#[test]
fn a_failed_operation_of_the_copy_loses_nothing() {
    let (_, source) = source();
    let all = entries(&source);
    let operations = {
        let disk = SimDisk::default();
        Replica::between(&source, &log(&disk, COPY, SyncPolicy::Each)).unwrap().step().unwrap();
        disk.operations()
    };
    for number in 1..=operations {
        for kind in FaultKind::ALL {
            let disk = SimDisk::default();
            // A directory whose own name is in doubt is nobody's to mend.
            disk.create_dir(Path::new(COPY)).unwrap();
            let copy = log(&disk, COPY, SyncPolicy::Each);
            disk.fail(Fault { at: disk.operations() + number, kind, forever: false });
            let outcome = Replica::between(&source, &copy).and_then(|mut replica| replica.step());
            disk.heal();
            let beginning = entries(&copy);
            assert!(all.starts_with(&beginning), "operation {number}: {outcome:?}");
            let mut replica = Replica::between(&source, &copy).unwrap();
            replica.step().unwrap();
            drop(replica);
            let disk = disk.power_cut(0);
            assert!(entries(&log(&disk, COPY, SyncPolicy::Each)) == all, "operation {number}, {kind:?}");
        }
    }
}

#[test]
fn a_copy_does_not_run_ahead_of_what_the_source_has_on_disk() {
    let source_disk = SimDisk::default();
    let source = log(&source_disk, SOURCE, SyncPolicy::OnDemand);
    let writer = source.writer().unwrap();
    // The first batch of a segment is synced with it, the second is not.
    write_batch(&writer, 1, 5);
    write_batch(&writer, 6, 5);
    let copy_disk = SimDisk::default();
    let copy = log(&copy_disk, COPY, SyncPolicy::Each);
    let mut replica = Replica::between(&source, &copy).unwrap();
    assert_eq!(replica.step().unwrap().entries, 10);
    // Nothing that was not synced is left.
    let source = log(&source_disk.power_cut(0), SOURCE, SyncPolicy::OnDemand);
    assert_eq!(entries(&source), entries(&copy));
}

#[test]
fn what_is_no_copy_of_the_source_is_refused() {
    let (_, source) = source();
    let (_, other) = self::source();
    let disk = SimDisk::default();
    let copy = log(&disk, COPY, SyncPolicy::Each);
    Replica::between(&source, &copy).unwrap().step().unwrap();

    let error = Replica::between(&other, &copy).and_then(|mut replica| replica.step()).unwrap_err();
    assert!(matches!(error, LogError::Diverged { .. }), "{error}");

    let replica = Replica::between(&source, &copy).unwrap();
    let error = Replica::between(&source, &copy).unwrap_err();
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
    assert!(matches!(copy.writer().unwrap_err(), LogError::Locked { .. }));
    drop(replica);

    // A writer takes it over: it is a log of its own from now on.
    copy.writer().unwrap().write(b"mine").unwrap();
    let error = Replica::between(&source, &copy).unwrap_err();
    assert!(matches!(error, LogError::NotAReplica { .. }), "{error}");
}

#[test]
fn a_source_that_lost_what_was_copied_is_told() {
    let (source_disk, source) = source();
    let copy_disk = SimDisk::default();
    let copy = log(&copy_disk, COPY, SyncPolicy::Each);
    Replica::between(&source, &copy).unwrap().step().unwrap();
    let last = source.segments().unwrap().last().unwrap().start;
    let path = Path::new(SOURCE).join(last.to_string().replace(':', "_") + ".segment");
    let file = source_disk.open(&path).unwrap();
    let bytes = file.bytes().unwrap();

    // A byte that was copied has changed.
    file.write_at(&[0xEE; 4], bytes - 20).unwrap();
    let error = Replica::between(&source, &copy).unwrap_err();
    assert!(matches!(error, LogError::Diverged { .. }), "{error}");

    // The last frame is not there any more.
    file.truncate(bytes - 40).unwrap();
    let error = Replica::between(&source, &copy).unwrap_err();
    assert!(matches!(error, LogError::Diverged { .. }), "{error}");
}

#[test]
fn damage_at_the_source_is_told_and_not_copied() {
    let (source_disk, source) = source();
    let all = entries(&source);
    let first = source.segments().unwrap()[0].start;
    let path = Path::new(SOURCE).join(first.to_string().replace(':', "_") + ".segment");
    let file = source_disk.open(&path).unwrap();
    let at = file.bytes().unwrap() - 60;
    file.write_at(&[0xEE; 4], at).unwrap();
    let disk = SimDisk::default();
    let copy = log(&disk, COPY, SyncPolicy::Each);
    let mut replica = Replica::between(&source, &copy).unwrap();
    for _ in 0..2 {
        let error = replica.step().unwrap_err();
        assert!(matches!(&error, LogError::Corrupt { file, .. } if *file == path), "{error}");
    }
    let beginning = entries(&copy);
    assert!(all.starts_with(&beginning) && !beginning.is_empty());
}

#[test]
fn removals_are_told_where_they_were_not_copied_and_followed_where_asked() {
    let (_, source) = source();
    let starts: Vec<_> = source.segments().unwrap().iter().map(|segment| segment.start).collect();
    let disk = SimDisk::default();
    let copy = log(&disk, COPY, SyncPolicy::Each);
    let mut replica = Replica::between(&source, &copy).unwrap();
    replica.step().unwrap();
    let all = entries(&copy);

    source.remove_segment(starts[0]).unwrap();
    replica.step().unwrap();
    assert_eq!(entries(&copy), all);
    let mut replica = replica.follow_removals(true);
    replica.step().unwrap();
    assert_eq!(entries(&copy), entries(&source));
    drop(replica);

    // Another copy that had only begun.
    let (_, source) = self::source();
    let starts: Vec<_> = source.segments().unwrap().iter().map(|segment| segment.start).collect();
    let disk = SimDisk::default();
    let copy = log(&disk, COPY, SyncPolicy::Each);
    source.remove_segment(starts[0]).unwrap();
    let mut replica = Replica::between(&source, &copy).unwrap();
    replica.step().unwrap();
    assert_eq!(entries(&copy), entries(&source));
    let writer = source.writer().unwrap();
    for from in 0..12 {
        write_batch(&writer, from * 7 + 5, 6);
    }
    let now: Vec<_> = source.segments().unwrap().iter().map(|segment| segment.start).collect();
    for start in &now[..now.len() - 1] {
        source.remove_segment(*start).unwrap();
    }
    let error = replica.step().unwrap_err();
    assert!(matches!(error, LogError::Gap { .. }), "{error}");
}

#[test]
fn a_replica_waits_for_its_source() {
    let disk = SimDisk::default();
    let source = log(&disk, SOURCE, SyncPolicy::Each);
    let writer = source.writer().unwrap();
    write_batch(&writer, 1, 3);
    let copy_disk = SimDisk::default();
    let copy = log(&copy_disk, COPY, SyncPolicy::Each);
    let mut replica = Replica::between(&source, &copy).unwrap();
    assert!(replica.wait(Duration::ZERO).unwrap());
    replica.step().unwrap();
    assert!(!replica.wait(Duration::from_millis(20)).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(30));
            write_batch(&writer, 1, 3);
        });
        assert!(replica.wait(Duration::from_secs(30)).unwrap());
    });
    assert_eq!(replica.step().unwrap().entries, 3);
}

#[test]
fn a_replica_is_woken_by_a_source_directory_that_was_made_again() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join(SOURCE);
    let source = Log::open(&dir).unwrap();
    std::fs::create_dir(&dir).unwrap();
    let mut replica = Replica::new(&source, above.path().join(COPY)).unwrap();
    replica.step().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            std::fs::remove_dir(&dir).unwrap();
            std::fs::create_dir(&dir).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            source.writer().unwrap().write(b"first").unwrap();
        });
        // It looks once more at the end, so that only how long it took says whether it was woken.
        let (begun, timeout) = (Instant::now(), Duration::from_secs(10));
        assert!(replica.wait(timeout).unwrap() && begun.elapsed() < timeout);
    });
    assert_eq!(replica.step().unwrap().entries, 1);
}

#[test]
fn a_step_ends_though_the_source_goes_on() {
    let disk = SimDisk::default();
    let source = log(&disk, SOURCE, SyncPolicy::OnDemand);
    let writer = source.writer().unwrap();
    write_batch(&writer, 1, 3);
    let copy_disk = SimDisk::default();
    // The source grows by more with every operation of the copy than the copy gets.
    copy_disk.after_each(move |number, _| {
        for _ in 0..3 {
            write_batch(&writer, number.to_le_bytes()[0] % 50 + 1, 20);
        }
    });
    let copy = log(&copy_disk, COPY, SyncPolicy::Each);
    let mut replica = Replica::between(&source, &copy).unwrap();
    let before = source.segments().unwrap().iter().map(|segment| segment.entries).sum::<u64>();
    assert!(replica.step().unwrap().entries >= before);
    assert!(replica.lag().unwrap().entries > 0);
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
fn whenever_a_replica_copies_a_power_cut_of_the_source_leaves_what_it_has() {
    let disk = SimDisk::default();
    let seen = moments(&disk);
    let source = log(&disk, SOURCE, SyncPolicy::Each);
    let writer = source.writer().unwrap();
    for number in 0..6 {
        writer.write(&[number; 300]).unwrap();
    }
    for moment in seen.lock().unwrap().iter() {
        // The writer is killed, and a replica copies what is there.
        let moment = moment.kill();
        let copy_disk = SimDisk::default();
        let copy = log(&copy_disk, COPY, SyncPolicy::Each);
        let source = log(&moment, SOURCE, SyncPolicy::Each);
        Replica::between(&source, &copy).unwrap().step().unwrap();
        let copied = entries(&copy);
        for seed in 0..10 {
            let source = log(&moment.power_cut(seed), SOURCE, SyncPolicy::Each);
            source.writer().unwrap().write(b"later").unwrap();
            let left = entries(&source);
            assert!(left.starts_with(&copied), "seed {seed}: {} copied, {} left", copied.len(), left.len());
        }
    }
}

#[test]
fn a_source_that_was_put_back_and_went_on_is_told_by_the_next_step() {
    let disk = SimDisk::default();
    let source = log(&disk, SOURCE, SyncPolicy::Each);
    source.writer().unwrap().write(b"first").unwrap();
    let path = Path::new(SOURCE).join(&segments(&disk, SOURCE)[0].0);
    let backup = keplordb_disk::read_all(&disk, &path, u64::MAX).unwrap();
    source.writer().unwrap().write(b"lost").unwrap();
    let copy_disk = SimDisk::default();
    let copy = log(&copy_disk, COPY, SyncPolicy::Each);
    let mut replica = Replica::between(&source, &copy).unwrap();
    replica.step().unwrap();

    keplordb_disk::replace(&disk, &path, &backup).unwrap();
    for index in disk.list(Path::new(SOURCE)).unwrap().iter().filter(|entry| entry.name.contains(".index")) {
        disk.remove(&Path::new(SOURCE).join(&index.name)).unwrap();
    }
    let writer = source.writer().unwrap();
    writer.write(b"else").unwrap();
    writer.write(b"more").unwrap();
    let error = replica.step().unwrap_err();
    assert!(matches!(error, LogError::Diverged { .. }), "{error}");
}

#[test]
fn a_source_that_removed_what_was_copied_is_no_gap() {
    let disk = SimDisk::default();
    let source = log(&disk, SOURCE, SyncPolicy::Each);
    let writer = source.writer().unwrap();
    writer.write(&[1; 300]).unwrap();
    let copy_disk = SimDisk::default();
    let copy = log(&copy_disk, COPY, SyncPolicy::Each);
    let mut replica = Replica::between(&source, &copy).unwrap();
    replica.step().unwrap();
    // The segment is closed after it was copied, and goes.
    writer.write(&[2; 600]).unwrap();
    let segments = source.segments().unwrap();
    assert_eq!(segments.len(), 2);
    source.remove_segment(segments[0].start).unwrap();
    assert_eq!(replica.step().unwrap().entries, 1);
    assert_eq!(entries(&copy), [(1, vec![1; 300]), (2, vec![2; 600])]);
    let report = copy.verify().unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
    drop(replica);
    assert!(Replica::between(&source, &copy).unwrap().step().unwrap().entries == 0);
}

#[test]
fn removals_that_are_followed_leave_no_hole_after_a_power_cut() {
    let disk = SimDisk::default();
    let source = log(&disk, SOURCE, SyncPolicy::Each);
    let writer = source.writer().unwrap();
    for number in 0..6 {
        writer.write(&[number; 600]).unwrap();
    }
    let copy_disk = SimDisk::default();
    let copy = log(&copy_disk, COPY, SyncPolicy::Each);
    let mut replica = Replica::between(&source, &copy).unwrap().follow_removals(true);
    replica.step().unwrap();
    for segment in &source.segments().unwrap()[..4] {
        source.remove_segment(segment.start).unwrap();
    }
    let seen = moments(&copy_disk);
    replica.step().unwrap();
    let all: Vec<u8> = (0..6).collect();
    for moment in seen.lock().unwrap().iter() {
        for seed in 0..30 {
            let left = entries(&log(&moment.power_cut(seed), COPY, SyncPolicy::Each));
            let left: Vec<u8> = left.iter().map(|(_, bytes)| bytes[0]).collect();
            assert!(all.ends_with(&left) && left.len() >= 2, "seed {seed}: {left:?}");
        }
    }
    assert_eq!(entries(&copy).len(), 2);
}

#[test]
fn what_a_dead_writer_left_torn_is_nothing_to_copy() {
    let disk = SimDisk::default();
    let source = log(&disk, SOURCE, SyncPolicy::Each);
    let writer = source.writer().unwrap();
    writer.write(&[1; 100]).unwrap();
    writer.write(&[2; 100]).unwrap();
    let last = source.segments().unwrap()[0];
    let path = Path::new(SOURCE).join(&segments(&disk, SOURCE)[0].0);
    let disk = disk.kill();
    disk.open(&path).unwrap().write_at(&[0; 8], last.bytes - 16).unwrap();
    let source = log(&disk, SOURCE, SyncPolicy::Each);
    let copy_disk = SimDisk::default();
    let copy = log(&copy_disk, COPY, SyncPolicy::Each);
    let mut replica = Replica::between(&source, &copy).unwrap();
    assert_eq!(replica.step().unwrap().entries, 1);
    assert!(!replica.wait(Duration::from_millis(20)).unwrap());
}

#[test]
fn a_replica_waits_as_long_as_there_is_time() {
    let disk = SimDisk::default();
    let source = log(&disk, SOURCE, SyncPolicy::Each);
    source.writer().unwrap().write(b"entry").unwrap();
    let copy_disk = SimDisk::default();
    let mut replica = Replica::between(&source, &log(&copy_disk, COPY, SyncPolicy::Each)).unwrap();
    assert!(replica.wait(Duration::MAX).unwrap());
}

/// A source whose bytes are read while they are written: each read of the last segment's frames first sees the place of
/// one frame before it is written, and all later ones after it is synced.
#[test]
fn a_frame_that_is_read_while_it_is_written_is_no_damage() {
    let source_disk = SimDisk::default();
    let source = log(&source_disk, SOURCE, SyncPolicy::Each);
    let writer = source.writer().unwrap();
    writer.write(&[1; 40]).unwrap();
    let path = Path::new(SOURCE).join(&segments(&source_disk, SOURCE)[0].0);
    // Where one read sees zeros, `bytes` from `at` on.
    let hidden = Arc::new(Mutex::new(None));
    let disk = HookedDisk::new(source_disk.clone()).on_read({
        let hidden = Arc::clone(&hidden);
        move |read_path, read, offset| {
            let mut hidden = hidden.lock().unwrap();
            if let Some((at, bytes)) = *hidden
                && read_path == path
                && offset <= at
                && at + bytes <= offset + read.len() as u64
            {
                let from = usize::try_from(at - offset).unwrap();
                read[from..][..usize::try_from(bytes).unwrap()].fill(0);
                *hidden = None;
            }
        }
    });
    let options = Options { disk: Arc::new(disk), ..source.options().clone() };
    let torn_source = Log::open_with(SOURCE, options).unwrap();
    let copy_disk = SimDisk::default();
    let copy = log(&copy_disk, COPY, SyncPolicy::Each);
    let mut replica = Replica::between(&torn_source, &copy).unwrap();
    replica.step().unwrap();
    let at = source.segments().unwrap()[0].bytes;
    writer.write(&[2; 40]).unwrap();
    writer.write(&[3; 40]).unwrap();
    *hidden.lock().unwrap() = Some((at, 72));
    assert_eq!(replica.step().unwrap().entries, 2);
    assert!(hidden.lock().unwrap().is_none());
}
