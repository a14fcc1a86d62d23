//! What a writer writes is what a plain `Vec` of times and bytes says, over random histories with rollovers, reopenings, kills
//! and clocks that go back; and each way to be refused has its error. The files are read back by a decoder of their own
//! (`common/naive.rs`), made from the description of the format.

#[path = "common/naive.rs"]
mod naive;

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use keplordb_disk::sim::{Fault, FaultKind, OperationKind};
use keplordb_disk::{Disk, MemoryDisk, SimDisk};
use keplordb_log::frame::{End, HEADER_BYTES, Header, payload_crc, write_header};
use keplordb_log::{
    Log, LogError, MAX_ENTRY_BYTES, ManualClock, Options, SegmentInfo, SyncPolicy, Timestamp, Writer,
};
use naive::Entry;
use proptest::collection::vec;
use proptest::prelude::*;

const DIR: &str = "log";

fn ns(ns: i64) -> Timestamp {
    Timestamp::from_ns(ns)
}

/// A log on a disk, with a clock that stands at 1000.
fn log_on(disk: impl Disk + 'static, mut options: Options) -> (Log, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(ns(1000)));
    options.disk = Arc::new(disk);
    options.clock = clock.clone();
    (Log::open_with(DIR, options).unwrap(), clock)
}

fn entries(disk: &dyn Disk) -> Vec<Entry> {
    naive::entries(disk, Path::new(DIR))
}

fn segments(disk: &dyn Disk) -> Vec<naive::Segment> {
    naive::segments(disk, Path::new(DIR))
}

/// How many whole slots the indexes of a log have.
fn slots(disk: &dyn Disk) -> usize {
    let entries = disk.list(Path::new(DIR)).unwrap();
    let indexes = entries.iter().filter(|entry| entry.name.strip_suffix(".index").is_some());
    indexes.map(|entry| (usize::try_from(entry.bytes).unwrap() - 32) / 32).sum()
}

/// The length of a frame with these entries, one nanosecond apart.
fn frame_bytes(lengths: &[usize]) -> usize {
    let lengths_bytes: usize = lengths.iter().map(|bytes| bytes + 1 + usize::from(*bytes > 127)).sum();
    (HEADER_BYTES + lengths_bytes + lengths.len() - 1).next_multiple_of(8)
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    WriteAt(i64, usize),
    Batch(Vec<usize>),
    BatchAt(Vec<(i64, usize)>),
    Clock(i64),
    Sync,
    Close,
    Drop,
    Kill,
}

fn any_step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![5 => 0..40_usize, 2 => 100..300_usize, 1 => 30_000..90_000_usize];
    prop_oneof![
        6 => bytes.clone().prop_map(Step::Write),
        2 => (-2..50_i64, bytes.clone()).prop_map(|(delta, bytes)| Step::WriteAt(delta, bytes)),
        4 => vec(bytes.clone(), 0..9).prop_map(Step::Batch),
        2 => vec((-1..1000_i64, bytes), 0..6).prop_map(Step::BatchAt),
        2 => (-100..10_000_i64).prop_map(Step::Clock),
        1 => Just(Step::Sync),
        1 => Just(Step::Close),
        1 => Just(Step::Drop),
        1 => Just(Step::Kill),
    ]
}

fn any_policy() -> impl Strategy<Value = SyncPolicy> {
    prop_oneof![
        Just(SyncPolicy::Each),
        (0..9_u64, 0..9000_u64).prop_map(|(entries, bytes)| SyncPolicy::Every { entries, bytes }),
        Just(SyncPolicy::OnDemand),
        Just(SyncPolicy::Never),
    ]
}

/// The log as a list, and a counter that makes each entry different.
#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    made: u64,
}

impl Model {
    /// Bytes that no other entry has, where there is room to be different.
    fn make(&mut self, bytes: usize) -> Vec<u8> {
        self.made += 1;
        self.made.to_le_bytes().into_iter().cycle().take(bytes).collect()
    }

    fn last(&self) -> Option<i64> {
        self.entries.last().map(|(time, _)| *time)
    }

    fn next(&self, clock: i64) -> i64 {
        self.last().map_or(clock, |last| clock.max(last + 1))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_log_is_the_list_of_its_entries(
        steps in vec(any_step(), 1..50),
        max_segment_bytes in prop_oneof![Just(1), 100..2000_u64, Just(200_000), Just(u64::MAX)],
        duration_ns in prop_oneof![1..3000_u64, Just(u64::MAX)],
        sync in any_policy(),
    ) {
        let max_segment_duration = Duration::from_nanos(duration_ns);
        let options = Options { max_segment_bytes, max_segment_duration, sync, ..Options::default() };
        let (mut disk, mut now, mut model) = (SimDisk::default(), 1000, Model::default());
        let (mut log, mut clock) = log_on(disk.clone(), options.clone());
        let mut writer = log.writer().unwrap();
        for step in steps {
            match step {
                Step::Write(bytes) => {
                    let (entry, time) = (model.make(bytes), model.next(now));
                    prop_assert_eq!(writer.write(&entry).unwrap(), ns(time));
                    model.entries.push((time, entry));
                }
                Step::WriteAt(delta, bytes) => {
                    let (entry, time) = (model.make(bytes), model.last().unwrap_or(now) + delta);
                    let written = writer.write_at(ns(time), &entry);
                    if model.last().is_some_and(|last| time <= last) {
                        let is_refused = matches!(written, Err(LogError::NotAfter { last }) if Some(last.as_ns()) == model.last());
                        prop_assert!(is_refused);
                    } else {
                        written.unwrap();
                        model.entries.push((time, entry));
                    }
                }
                Step::Batch(lengths) => {
                    let batch: Vec<Vec<u8>> = lengths.iter().map(|bytes| model.make(*bytes)).collect();
                    let first = model.next(now);
                    let times = writer.write_batch(&batch).unwrap();
                    let expected = (!batch.is_empty()).then(|| (ns(first), ns(first + batch.len() as i64 - 1)));
                    prop_assert_eq!(times, expected);
                    model.entries.extend((first..).zip(batch));
                }
                Step::BatchAt(steps) => {
                    let (mut time, mut batch) = (model.last().unwrap_or(now), Vec::new());
                    for (delta, bytes) in &steps {
                        time += delta;
                        batch.push((ns(time), model.make(*bytes)));
                    }
                    let written = writer.write_batch_at(&batch);
                    let is_first = model.entries.is_empty();
                    let increases = steps.iter().skip(usize::from(is_first)).all(|(delta, _)| *delta > 0);
                    if increases {
                        written.unwrap();
                        model.entries.extend(batch.into_iter().map(|(time, entry)| (time.as_ns(), entry)));
                    } else {
                        let is_refused = matches!(written, Err(LogError::NotAfter { .. }));
                        prop_assert!(is_refused);
                    }
                }
                Step::Clock(delta) => {
                    now += delta;
                    clock.set(ns(now));
                }
                Step::Sync => {
                    writer.sync().unwrap();
                    prop_assert_eq!(writer.stats().unsynced_entries, 0);
                    prop_assert_eq!(&entries(&disk.power_cut(0)), &model.entries);
                }
                Step::Close | Step::Drop | Step::Kill => {
                    match step {
                        Step::Close => writer.close().unwrap(),
                        Step::Drop => drop(writer),
                        _ => disk = disk.kill(),
                    }
                    prop_assert_eq!(&entries(&disk), &model.entries);
                    (log, clock) = log_on(disk.clone(), options.clone());
                    clock.set(ns(now));
                    writer = log.writer().unwrap();
                    prop_assert_eq!(writer.recovered().torn_bytes, 0);
                    // Whatever was in doubt has been put on disk.
                    prop_assert_eq!(&entries(&disk.power_cut(0)), &model.entries);
                }
            }
            prop_assert_eq!(writer.last_time().map(Timestamp::as_ns), model.last());
            check_policy(&writer, sync, &model);
        }
        check_segments(&log, &disk);
        let unsynced = writer.stats().unsynced_entries;
        let durable = entries(&disk.power_cut(0));
        prop_assert!(durable.len() + usize::try_from(unsynced).unwrap() >= model.entries.len());
        prop_assert_eq!(&durable[..], &model.entries[..durable.len()]);
        prop_assert_eq!(&entries(&disk), &model.entries);
        for segment in segments(&disk) {
            let last = segment.batches.last().unwrap().last().unwrap().0;
            prop_assert!(segment.batches.len() == 1 || segment.bytes_used() <= max_segment_bytes.saturating_add(32));
            let last_batch = segment.batches.last().unwrap()[0].0;
            prop_assert!(last_batch.abs_diff(segment.start) <= duration_ns, "{}", last);
        }
    }
}

/// What the log says of its segments is what is in their files.
fn check_segments(log: &Log, disk: &SimDisk) {
    let expected: Vec<SegmentInfo> = segments(disk)
        .iter()
        .map(|segment| SegmentInfo {
            number: segment.number,
            start: ns(segment.start),
            end: ns(segment.batches.last().unwrap().last().unwrap().0),
            entries: segment.batches.iter().map(|batch| batch.len() as u64).sum(),
            bytes: segment.bytes_used(),
            is_closed: matches!(segment.end, End::Closed { .. }),
            is_damaged: false,
        })
        .collect();
    assert_eq!(log.segments().unwrap(), expected);
    let stats = log.stats().unwrap();
    assert_eq!(stats.segments, expected.len() as u64);
    assert_eq!(stats.entries, entries(disk).len() as u64);
    assert_eq!(stats.bytes, expected.iter().map(|segment| segment.bytes).sum::<u64>());
    assert_eq!(stats.first, entries(disk).first().map(|entry| ns(entry.0)));
    assert_eq!(stats.last, entries(disk).last().map(|entry| ns(entry.0)));
    // The same without indexes.
    let disk = disk.kill();
    for entry in disk.list(Path::new(DIR)).unwrap() {
        if Path::new(&entry.name).extension().is_some_and(|extension| extension == "index") {
            disk.remove(&Path::new(DIR).join(entry.name)).unwrap();
        }
    }
    let (log, _) = log_on(disk, Options::default());
    assert_eq!(log.segments().unwrap(), expected);
}

impl naive::Segment {
    /// Bytes of header and frames.
    fn bytes_used(&self) -> u64 {
        self.end.at()
    }
}

/// What the policy promises about what a power cut could take.
fn check_policy(writer: &Writer, sync: SyncPolicy, model: &Model) {
    let stats = writer.stats();
    match sync {
        SyncPolicy::Each => assert_eq!((stats.unsynced_entries, stats.unsynced_bytes), (0, 0)),
        SyncPolicy::Every { entries, bytes } => {
            assert!(stats.unsynced_entries < entries.max(1) && stats.unsynced_bytes < bytes.max(1));
        }
        SyncPolicy::OnDemand | SyncPolicy::Never => {
            assert!(stats.unsynced_entries <= model.entries.len() as u64);
        }
    }
}

#[test]
fn a_segment_is_made_by_its_first_entry() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options::default());
    let writer = log.writer().unwrap();
    assert_eq!(writer.last_time(), None);
    assert_eq!(segments(&disk).len(), 0);
    writer.write(b"one").unwrap();
    assert_eq!(segments(&disk)[0].name, "1970-01-01T00_00_00.000001000Z.segment");
    writer.close().unwrap();
    // Trimmed: a header, a frame, and nothing else.
    assert_eq!(segments(&disk)[0].bytes, 64 + frame_bytes(&[3]) as u64);
}

#[test]
fn a_full_segment_is_closed_and_the_next_one_begun() {
    let disk = SimDisk::default();
    let frame = frame_bytes(&[10]) as u64;
    let (log, clock) =
        log_on(disk.clone(), Options { max_segment_bytes: 64 + 2 * frame, ..Options::default() });
    let writer = log.writer().unwrap();
    for time in [1000, 2000, 3000, 4000] {
        clock.set(ns(time));
        writer.write(&[7; 10]).unwrap();
    }
    // One frame that is longer than a segment gets one of its own.
    writer.write(&[8; 1000]).unwrap();
    writer.write(&[9; 10]).unwrap();
    let found = segments(&disk);
    let counts: Vec<_> = found.iter().map(|segment| (segment.start, segment.batches.len())).collect();
    assert_eq!(counts, [(1000, 2), (3000, 2), (4001, 1), (4002, 1)]);
    assert_eq!(writer.stats().rollovers, 3);
    assert_eq!(writer.stats().entries, 6);
    assert!(found[..3].iter().all(|segment| matches!(segment.end, End::Closed { .. })));
}

#[test]
fn a_segment_lasts_as_long_as_the_options_say() {
    let disk = SimDisk::default();
    let max_segment_duration = Duration::from_nanos(500);
    let (log, clock) = log_on(disk.clone(), Options { max_segment_duration, ..Options::default() });
    let writer = log.writer().unwrap();
    for time in [1000, 1500, 1501, 2001, 2002] {
        clock.set(ns(time));
        writer.write(b"x").unwrap();
    }
    let starts: Vec<_> = segments(&disk).iter().map(|segment| segment.start).collect();
    assert_eq!(starts, [1000, 1501, 2002]);
}

#[test]
fn an_index_has_a_slot_for_each_64_kib() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options { sync: SyncPolicy::OnDemand, ..Options::default() });
    let writer = log.writer().unwrap();
    let frame = frame_bytes(&[1000]);
    for _ in 0..1000 {
        writer.write(&[5; 1000]).unwrap();
    }
    let expected = 1000_usize.div_ceil((64_usize << 10).div_ceil(frame));
    assert_eq!(slots(&disk), expected);
    drop(writer);

    // Missing, cut or damaged, it is made again.
    let name = segments(&disk)[0].name.replace(".segment", ".index");
    let path = Path::new(DIR).join(name);
    let damages: [fn(&dyn Disk, &Path); 4] = [
        |disk, path| disk.remove(path).unwrap(),
        |disk, path| disk.open(path).unwrap().truncate(32 * 4 + 5).unwrap(),
        |disk, path| disk.open(path).unwrap().write_at(&[0xee; 40], 32 * 3).unwrap(),
        |disk, path| disk.open(path).unwrap().write_at(&[0xee; 4], 9).unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        damage(&disk, &path);
        log.writer().unwrap().close().unwrap();
        assert_eq!(slots(&disk), expected, "damage {number}");
        assert_eq!(entries(&disk).len(), 1000);
    }
}

#[test]
fn a_closed_log_opens_without_a_copy_and_a_killed_one_with_one() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options::default());
    let writer = log.writer().unwrap();
    for _ in 0..3 {
        writer.write(b"entry").unwrap();
    }
    writer.close().unwrap();
    let copies = |disk: &SimDisk| {
        let trace = disk.trace();
        let is_copy = |kind: &OperationKind| matches!(kind, OperationKind::Rename { .. });
        trace.iter().filter(|operation| is_copy(&operation.kind)).count()
    };
    let before = copies(&disk);
    let writer = log.writer().unwrap();
    assert_eq!((writer.recovered().copied_bytes, copies(&disk)), (0, before));
    writer.write(b"entry").unwrap();

    let killed = disk.kill();
    let (log, _) = log_on(killed.clone(), Options::default());
    let copied_bytes = 64 + 4 * frame_bytes(&[5]) as u64;
    assert_eq!(log.writer().unwrap().recovered().copied_bytes, copied_bytes);
    assert_eq!(copies(&killed), 1);
    // The copy proves it, so the next one need not.
    assert_eq!(log.writer().unwrap().recovered().copied_bytes, 0);
}

#[test]
fn times_go_on_when_the_clock_stands_or_goes_back_and_end_at_the_last_one() {
    let (log, clock) = log_on(MemoryDisk::default(), Options::default());
    let writer = log.writer().unwrap();
    assert_eq!(writer.write(b"a").unwrap(), ns(1000));
    assert_eq!(writer.write(b"b").unwrap(), ns(1001));
    clock.set(ns(-5));
    assert_eq!(writer.write_batch(["c", "d"]).unwrap(), Some((ns(1002), ns(1003))));
    drop(writer);
    let writer = log.writer().unwrap();
    assert_eq!(writer.write(b"e").unwrap(), ns(1004));

    clock.set(Timestamp::MAX);
    let exhausted = writer.write_batch(["f", "g"]);
    assert!(matches!(exhausted, Err(LogError::TimeExhausted)), "{exhausted:?}");
    assert_eq!(writer.write(b"h").unwrap(), Timestamp::MAX);
    for _ in 0..2 {
        assert!(matches!(writer.write(b"i"), Err(LogError::TimeExhausted)));
        assert!(matches!(
            writer.write_at(Timestamp::MAX, b"i"),
            Err(LogError::NotAfter { last: Timestamp::MAX })
        ));
    }
    assert_eq!(entries(log.options().disk.as_ref()).len(), 6);
}

#[test]
fn the_first_time_may_be_the_earliest() {
    let (log, _) = log_on(MemoryDisk::default(), Options { max_segment_bytes: 1, ..Options::default() });
    let writer = log.writer().unwrap();
    writer.write_at(Timestamp::MIN, b"a").unwrap();
    writer.write_batch_at(&[(ns(i64::MIN + 1), "b"), (Timestamp::MAX, "c")]).unwrap();
    drop(writer);
    assert_eq!(log.writer().unwrap().last_time(), Some(Timestamp::MAX));
    assert_eq!(segments(log.options().disk.as_ref()).len(), 2);
}

#[test]
fn what_is_too_long_is_refused_and_nothing_else_is() {
    let (log, _) = log_on(MemoryDisk::default(), Options::default());
    let writer = log.writer().unwrap();
    let bytes = vec![1; MAX_ENTRY_BYTES + 1];
    let limit = |refused: Result<_, LogError>| match refused {
        Err(LogError::TooLong { bytes: found_bytes, limit_bytes }) => {
            assert!(found_bytes > limit_bytes);
            limit_bytes
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(limit(writer.write(&bytes).map(drop)), MAX_ENTRY_BYTES as u64);
    assert_eq!(limit(writer.write_at(ns(5), &bytes)), MAX_ENTRY_BYTES as u64);
    assert_eq!(limit(writer.write_batch([&bytes[..1], &bytes]).map(drop)), MAX_ENTRY_BYTES as u64);
    // Each legal, together more than a frame may have.
    let (half, quarter) = (&bytes[..MAX_ENTRY_BYTES / 2], &bytes[..MAX_ENTRY_BYTES / 4]);
    assert_eq!(limit(writer.write_batch([half, half, quarter, b"x"]).map(drop)), 320 << 20);
    assert_eq!(segments(log.options().disk.as_ref()).len(), 0);
    writer.write(&bytes[1..]).unwrap();
    writer.write(b"").unwrap();
    let found = entries(log.options().disk.as_ref());
    assert!(found.len() == 2 && found[0].1 == bytes[1..] && found[1].1.is_empty());
}

#[test]
fn a_second_writer_of_the_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let writer = log.writer().unwrap();
    let refused = Log::open(dir.path()).unwrap().writer();
    assert!(
        matches!(&refused, Err(LogError::Locked { dir: named, pid: Some(pid) }) if named == dir.path() && *pid == std::process::id()),
        "{refused:?}"
    );
    drop(writer);
    log.writer().unwrap();
}

/// Runs only as the other process of the next test.
#[test]
fn another_process_holds_the_log() {
    let Some(dir) = std::env::var_os("KEPLORDB_LOG_HELD") else { return };
    let log = Log::open(dir).unwrap();
    let writer = log.writer().unwrap();
    writer.write(b"from the other process").unwrap();
    println!("held");
    std::io::stdout().flush().unwrap();
    // Until it is killed.
    std::thread::sleep(Duration::from_mins(1));
}

#[test]
fn a_second_writer_of_another_process_is_refused_until_that_dies() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["another_process_holds_the_log", "--exact", "--nocapture"])
        .env("KEPLORDB_LOG_HELD", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("held")));
    let log = Log::open(dir.path()).unwrap();
    let refused = log.writer();
    let pid = other.id();
    assert!(
        matches!(&refused, Err(LogError::Locked { pid: Some(found), .. }) if *found == pid),
        "{refused:?}"
    );

    other.kill().unwrap();
    other.wait().unwrap();
    let writer = log.writer().unwrap();
    assert!(writer.recovered().copied_bytes > 0 && writer.recovered().torn_bytes == 0);
    writer.write(b"from this one").unwrap();
    let found = naive::entries(&keplordb_disk::RealDisk, dir.path());
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].1, b"from the other process");
}

#[test]
fn a_failed_sync_stops_writing_and_reading_goes_on() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options::default());
    let writer = log.writer().unwrap();
    writer.write(b"one").unwrap();
    disk.fail(Fault { at: 1, kind: FaultKind::SyncFails, forever: false });
    let first = writer.write(b"two").unwrap_err();
    let LogError::Poisoned { first: cause } = &first else { panic!("{first}") };
    assert!(cause.contains("simulated") && first.to_string().contains("open another"), "{first}");
    assert!(matches!(writer.write(b"three"), Err(LogError::Poisoned { .. })));
    assert!(matches!(writer.sync(), Err(LogError::Poisoned { .. })));
    assert!(matches!(writer.close(), Err(LogError::Poisoned { .. })));
    // It was written, so it is read, and the next writer brings it to disk by a copy.
    let writer = log.writer().unwrap();
    assert!(writer.recovered().copied_bytes > 0);
    assert_eq!(entries(&disk.power_cut(0)).len(), 2);
    writer.write(b"four").unwrap();
    assert_eq!(entries(&disk.power_cut(0)).len(), 3);
}

#[test]
fn a_full_disk_takes_nothing_away_and_writing_goes_on_when_there_is_room() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options { max_segment_bytes: 3000, ..Options::default() });
    let writer = log.writer().unwrap();
    let (mut model, mut refused) = (Vec::new(), 0);
    disk.set_capacity_bytes(20_000);
    for number in 0..200_u16 {
        match writer.write(&[number.to_le_bytes()[0]; 150]) {
            Ok(time) => model.push((time.as_ns(), vec![number.to_le_bytes()[0]; 150])),
            Err(LogError::Full { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        assert_eq!(entries(&disk), model);
    }
    assert!(refused > 50 && model.len() > 50, "{refused} {}", model.len());
    disk.heal();
    let time = writer.write(b"room").unwrap();
    model.push((time.as_ns(), b"room".to_vec()));
    drop(writer);
    log.writer().unwrap();
    assert_eq!(entries(&disk), model);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let disk = keplordb_disk::RealDisk;
    disk.create(&file).unwrap();
    let log = Log::open(file.join("log")).unwrap();
    let refused = log.writer().unwrap_err();
    assert!(matches!(&refused, LogError::Io { op: "create", .. }), "{refused}");
}

#[test]
fn damage_in_the_last_segment_is_told_from_a_torn_end() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options::default());
    let writer = log.writer().unwrap();
    for _ in 0..4 {
        writer.write(b"entry").unwrap();
    }
    let path = Path::new(DIR).join(&segments(&disk)[0].name);
    let frame = frame_bytes(&[5]) as u64;
    let damage = |frame_number: u64| {
        let disk = disk.kill();
        disk.open(&path).unwrap().write_at(&[0xff], 64 + frame * frame_number + 33).unwrap();
        let (log, _) = log_on(disk.clone(), Options::default());
        (log.writer().map(|writer| *writer.recovered()), disk)
    };
    for synced in 0..3 {
        let (opened, _) = damage(synced);
        assert!(
            matches!(&opened, Err(LogError::Corrupt { file, offset, .. }) if *file == path && *offset == 64 + frame * synced),
            "{opened:?}"
        );
    }
    // Nothing says of the last one that it was synced.
    let (opened, cut) = damage(3);
    assert_eq!(opened.unwrap().torn_bytes, 32 + 6);
    assert_eq!(entries(&cut).len(), 3);

    // But a close does.
    writer.close().unwrap();
    let (opened, _) = damage(3);
    assert!(matches!(opened, Err(LogError::Corrupt { .. })), "{opened:?}");
    let cut = disk.kill();
    cut.open(&path).unwrap().truncate(64 + frame * 3).unwrap();
    let (log, _) = log_on(cut, Options::default());
    assert!(matches!(log.writer(), Err(LogError::Truncated { .. })));
}

#[test]
fn a_frame_that_is_being_written_does_not_count_yet() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options::default());
    let writer = log.writer().unwrap();
    for _ in 0..3 {
        writer.write(b"entry").unwrap();
    }
    let whole = log.segments().unwrap()[0];
    assert_eq!((whole.entries, whole.end), (3, ns(1002)));
    let path = Path::new(DIR).join(&segments(&disk)[0].name);
    // The header of the last frame is there, of its payload only some.
    disk.open(&path).unwrap().write_at(&[0; 3], whole.bytes - 6).unwrap();
    let found = log.segments().unwrap()[0];
    let bytes = whole.bytes - frame_bytes(&[5]) as u64;
    assert_eq!(found, SegmentInfo { entries: 2, end: ns(1001), bytes, ..whole });
}

#[test]
fn only_the_oldest_segment_is_removed_and_never_the_last() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options { max_segment_bytes: 1, ..Options::default() });
    assert!(matches!(log.remove_segment(ns(1)), Err(LogError::NoSegment { .. })));
    let writer = log.writer().unwrap();
    for _ in 0..3 {
        writer.write(b"entry").unwrap();
    }
    assert!(matches!(log.remove_segment(ns(1001)), Err(LogError::Invalid { field: "start", .. })));
    assert!(
        matches!(log.remove_segment(ns(1002)), Err(LogError::LastSegment { start }) if start == ns(1002))
    );
    assert!(
        matches!(log.remove_segment(ns(999)), Err(LogError::NoSegment { start, .. }) if start == ns(999))
    );
    assert_eq!(log.segments().unwrap().len(), 3);
    log.remove_segment(ns(1000)).unwrap();
    // Durable, with its index.
    let cut = disk.power_cut(0);
    assert_eq!(entries(&cut).len(), 2);
    assert_eq!(
        cut.list(Path::new(DIR)).unwrap().iter().filter(|entry| entry.name.contains("001000Z")).count(),
        0
    );
    log.remove_segment(ns(1001)).unwrap();
    assert!(matches!(log.remove_segment(ns(1002)), Err(LogError::LastSegment { .. })));
    // Writing goes on, and times too, after another opening.
    writer.write(b"entry").unwrap();
    drop(writer);
    assert_eq!(log.writer().unwrap().write(b"entry").unwrap(), ns(1004));
    let numbers: Vec<u64> = log.segments().unwrap().iter().map(|segment| segment.number).collect();
    assert_eq!(numbers, [2, 3, 4]);
}

/// The last slot's frame may have survived a crash that took one before it: a walk must not begin there.
#[test]
fn a_frame_that_was_torn_before_a_later_slot_is_where_the_log_ends() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options { sync: SyncPolicy::OnDemand, ..Options::default() });
    let writer = log.writer().unwrap();
    let frame = frame_bytes(&[1000]) as u64;
    for number in 0..400 {
        writer.write(&[number_byte(number); 1000]).unwrap();
        if number == 49 {
            writer.sync().unwrap();
        }
    }
    assert_eq!(slots(&disk), 7);
    // All of it is on disk but a byte of frame 150; slots 3 to 6 lead behind it.
    let image = disk.power_cut(1);
    let path = Path::new(DIR).join(&segments(&image)[0].name);
    let file = image.open(&path).unwrap();
    file.write_at(&[0xff], 64 + 150 * frame + 500).unwrap();
    file.sync().unwrap();
    let (log, _) = log_on(image.clone(), Options::default());
    let writer = log.writer().unwrap();
    assert_eq!(writer.recovered().torn_bytes, image_tail(250, frame));
    assert_eq!(entries(&image).len(), 150);
    // The slots behind it are gone for good: others will stand where they led to.
    assert_eq!((slots(&image), slots(&image.power_cut(0))), (3, 3));
    writer.write(&[1; 1000]).unwrap();
    assert_eq!(log.last().unwrap().unwrap().time, ns(1150));
    assert_eq!(log.segments().unwrap()[0].entries, 151);
}

fn number_byte(number: u32) -> u8 {
    number.to_le_bytes()[0] | 1
}

/// The length of so many frames, without the padding of the last.
fn image_tail(frames: u64, frame: u64) -> u64 {
    frames * frame - (frame - 32 - 1002)
}

/// Behind good checksums, too, a frame that is not later than what is before it is damage.
#[test]
fn a_forged_frame_of_an_earlier_time_is_refused() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options::default());
    log.writer().unwrap().write(b"entry").unwrap();
    let path = Path::new(DIR).join(&segments(&disk)[0].name);
    let bytes = keplordb_disk::read_all(&disk, &path, u64::MAX).unwrap();
    let salt = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    for (first, is_later) in [(1000, false), (999, false), (1001, true)] {
        let payload = [7, 1, 2, 3, 4, 5, 6, 7];
        let header = Header { payload_bytes: 8, rows: 1, first, durable_upto: 64 };
        let mut frame = [0; HEADER_BYTES];
        write_header(&mut frame, salt, payload_crc(&payload), &header);
        let disk = disk.kill();
        disk.open(&path).unwrap().write_at(&[&frame[..], &payload].concat(), bytes.len() as u64).unwrap();
        let (log, _) = log_on(disk, Options::default());
        let opened = log.writer();
        assert_eq!(opened.is_ok(), is_later, "{first}: {opened:?}");
        assert!(is_later || matches!(opened, Err(LogError::Corrupt { .. })));
    }
}

#[test]
fn a_segment_under_another_name_is_refused() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options::default());
    log.writer().unwrap().write(b"entry").unwrap();
    let path = Path::new(DIR).join(&segments(&disk)[0].name);
    disk.rename(&path, &Path::new(DIR).join("1970-01-01T00_00_00.000002000Z.segment")).unwrap();
    let refused = log.writer().unwrap_err();
    assert!(
        matches!(&refused, LogError::Corrupt { what, .. } if what.contains("its name says")),
        "{refused}"
    );
}

#[test]
fn leftovers_go_and_other_files_stay() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options::default());
    log.writer().unwrap().write(b"entry").unwrap();
    let other = "1971-01-01T00_00_00.000002000Z";
    for name in [
        format!("{other}.segment.tmp"),
        format!("{other}.index"),
        "REPLICA.tmp".to_owned(),
        "notes.txt".to_owned(),
        "x.tmp".to_owned(),
    ] {
        disk.create(&Path::new(DIR).join(name)).unwrap();
    }
    log.writer().unwrap();
    let names: Vec<_> = disk.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect();
    let own = "1970-01-01T00_00_00.000001000Z";
    assert_eq!(names, [&format!("{own}.index"), &format!("{own}.segment"), "LOCK", "notes.txt", "x.tmp"]);
}

#[test]
fn threads_share_a_writer_and_its_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let log =
        Log::open_with(dir.path(), Options { max_segment_bytes: 20_000, ..Options::default() }).unwrap();
    let writer = log.writer().unwrap();
    let (threads, batches) = (8_u8, 100);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let writer = &writer;
            scope.spawn(move || {
                let mut last = None;
                for number in 0..batches {
                    let batch = [[thread, number], [thread, number]];
                    let times = writer.write_batch(batch).unwrap().unwrap();
                    assert!(last < Some(times.0) && times.0 < times.1);
                    last = Some(times.1);
                }
            });
        }
    });
    let stats = writer.stats();
    assert_eq!(stats.entries, 2 * u64::from(threads) * u64::from(batches));
    assert_eq!((stats.unsynced_entries, stats.unsynced_bytes), (0, 0));
    assert!(stats.rollovers > 0 && stats.sync_time > Duration::ZERO);
    let found = naive::entries(&keplordb_disk::RealDisk, dir.path());
    for thread in 0..threads {
        let of_thread: Vec<u8> =
            found.iter().filter(|(_, entry)| entry[0] == thread).map(|(_, entry)| entry[1]).collect();
        let expected: Vec<u8> = (0..batches).flat_map(|number| [number, number]).collect();
        assert_eq!(of_thread, expected);
    }
}

#[test]
fn an_iterator_of_a_batch_may_write_to_another_log() {
    let (one, _) = log_on(MemoryDisk::default(), Options::default());
    let (other, _) = log_on(MemoryDisk::default(), Options::default());
    let (writer, inner) = (one.writer().unwrap(), other.writer().unwrap());
    let batch = (0..3).map(|number| {
        inner.write(format!("inner {number}").as_bytes()).unwrap();
        format!("outer {number}")
    });
    writer.write_batch(batch).unwrap();
    let texts = |log: &Log| -> Vec<String> {
        let found = entries(log.options().disk.as_ref());
        found.into_iter().map(|(_, entry)| String::from_utf8(entry).unwrap()).collect()
    };
    assert_eq!(texts(&one), ["outer 0", "outer 1", "outer 2"]);
    assert_eq!(texts(&other), ["inner 0", "inner 1", "inner 2"]);
}

#[test]
fn handles_may_be_sent_and_shared() {
    fn is<T: Send + Sync + Debug>() {}
    is::<Writer>();
    is::<Log>();
    is::<LogError>();
}

#[test]
fn the_segment_before_the_last_must_be_its_neighbour() {
    let disk = SimDisk::default();
    let (log, clock) = log_on(disk.clone(), Options { max_segment_bytes: 1, ..Options::default() });
    let writer = log.writer().unwrap();
    for time in [1000, 2000, 3000] {
        clock.set(ns(time));
        writer.write(b"entry").unwrap();
    }
    drop(writer);
    let path = |disk: &SimDisk, number: usize| Path::new(DIR).join(&segments(disk)[number].name);
    let (first, middle, last) = (path(&disk, 0), path(&disk, 1), path(&disk, 2));
    let open = |disk: &SimDisk| log_on(disk.clone(), Options::default()).0.writer().map(drop);

    let missing = disk.kill();
    missing.remove(&middle).unwrap();
    let opened = open(&missing);
    assert!(matches!(opened, Err(LogError::Missing { before, .. }) if before == ns(3000)), "{opened:?}");

    let unclosed = disk.kill();
    let file = unclosed.open(&middle).unwrap();
    file.truncate(file.bytes().unwrap() - 32).unwrap();
    let opened = open(&unclosed);
    assert!(matches!(&opened, Err(LogError::Corrupt { file, .. }) if *file == middle), "{opened:?}");

    // A segment of another log behind the last one.
    let foreign = disk.kill();
    let (other, other_clock) = log_on(SimDisk::default(), Options::default());
    other_clock.set(ns(4000));
    other.writer().unwrap().write(b"foreign").unwrap();
    let name = other
        .options()
        .disk
        .list(Path::new(DIR))
        .unwrap()
        .into_iter()
        .find(|entry| entry.name.contains("segment"));
    let target = Path::new(DIR).join(name.unwrap().name);
    let bytes = keplordb_disk::read_all(other.options().disk.as_ref(), &target, u64::MAX).unwrap();
    foreign.create(&target).unwrap().write_at(&bytes, 0).unwrap();
    let opened = open(&foreign);
    assert!(matches!(&opened, Err(LogError::Corrupt { file, .. }) if *file == target), "{opened:?}");

    // The oldest may be gone, and all but the last.
    disk.remove(&first).unwrap();
    open(&disk).unwrap();
    disk.remove(&middle).unwrap();
    open(&disk).unwrap();
    assert!(disk.bytes(&last).unwrap().is_some());
}

/// After a failed sync only a copy proves what is on disk. Where there is no room for one, nothing may be written behind.
#[test]
fn a_full_disk_keeps_a_writer_from_what_is_not_proved() {
    let disk = SimDisk::default();
    let (log, _) = log_on(disk.clone(), Options::default());
    let writer = log.writer().unwrap();
    for _ in 0..2 {
        writer.write(&[1; 3000]).unwrap();
    }
    disk.fail(Fault { at: disk.operations() + 1, kind: FaultKind::SyncFails, forever: false });
    assert!(matches!(writer.write(&[2; 3000]), Err(LogError::Poisoned { .. })));
    drop(writer);
    let used: u64 = disk.list(Path::new(DIR)).unwrap().iter().map(|entry| entry.bytes).sum();
    disk.set_capacity_bytes(used + 4000);
    let opened = log.writer();
    assert!(matches!(&opened, Err(LogError::Full { .. })), "{opened:?}");
    // Readers need none of it, and with room it opens.
    assert_eq!(log.stats().unwrap().entries, 3);
    disk.heal();
    let writer = log.writer().unwrap();
    assert!(writer.recovered().copied_bytes > 0);
    writer.write(&[3; 1500]).unwrap();
    for seed in 0..10 {
        assert_eq!(entries(&disk.power_cut(seed)).len(), 4);
    }
}

/// As a file with a hole: nobody may ask for so much memory, or look at each of so many slots.
#[test]
fn an_index_that_is_far_too_long_costs_nothing() {
    let (disk, dir) = (keplordb_disk::RealDisk, tempfile::tempdir().unwrap());
    let log = Log::open(dir.path()).unwrap();
    log.writer().unwrap().write(b"entry").unwrap();
    let names = disk.list(dir.path()).unwrap().into_iter().map(|entry| entry.name);
    let index = dir.path().join(names.into_iter().find(|name| name.contains(".index")).unwrap());
    disk.open(&index).unwrap().truncate(1 << 40).unwrap();
    log.writer().unwrap().write(b"entry").unwrap();
    assert_eq!(log.stats().unwrap().entries, 2);
    assert_eq!(disk.bytes(&index).unwrap(), Some(64));
}
