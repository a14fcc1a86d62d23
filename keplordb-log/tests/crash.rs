//! Does a log survive a power cut at any moment? A workload of appends, rollovers, removals and reopenings runs on the
//! simulated disk; at every operation the power is cut in many ways, and cut again while the log is opened after that. Always:
//! what was durable as the policy says is there, nothing is invented, batches are whole, times increase, writing goes on.

#[path = "common/naive.rs"]
mod naive;

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use keplordb_disk::SimDisk;
use keplordb_disk::sim::{Fault, FaultKind};
use keplordb_log::frame::End;
use keplordb_log::{Log, LogError, ManualClock, Options, SyncPolicy, Timestamp, Writer};
use naive::Entry;

const DIR: &str = "log";
const POLICIES: [SyncPolicy; 4] =
    [SyncPolicy::Each, SyncPolicy::Every { entries: 5, bytes: 400 }, SyncPolicy::OnDemand, SyncPolicy::Never];

/// What the callers of a log know of it.
#[derive(Debug, Clone, Default)]
struct Known {
    /// All batches whose writing began, in their order.
    batches: Vec<Vec<Entry>>,
    /// How many of them are durable for sure.
    durable: usize,
    /// How many of the first ones have been removed for sure, and how many perhaps.
    removed: usize,
    removing: usize,
}

impl Known {
    /// Checks that `found` is what the callers may find.
    fn check(&self, found: &[Entry], what: &str) {
        let matches = |from: usize, to: usize| {
            let expected = self.batches.get(from..to).into_iter().flatten().flatten();
            expected.eq(found)
        };
        let (begins, ends) = (self.removed..=self.removing, self.durable..=self.batches.len());
        let fits = begins.clone().any(|from| ends.clone().any(|to| matches(from, to)));
        assert!(
            fits,
            "{what}: {found:?} is not from one of {begins:?} to one of {ends:?} of {:?}",
            self.batches
        );
    }
}

fn log_on(disk: &SimDisk, sync: SyncPolicy) -> Log {
    let clock = Arc::new(ManualClock::new(Timestamp::from_ns(1000)));
    let options =
        Options { sync, clock, disk: Arc::new(disk.clone()), max_segment_bytes: 700, ..Options::default() };
    Log::open_with(DIR, options).unwrap()
}

/// A log under test, and what its callers know.
struct Run {
    disk: SimDisk,
    log: Log,
    sync: SyncPolicy,
    known: Arc<Mutex<Known>>,
}

impl Run {
    fn new(disk: &SimDisk, sync: SyncPolicy) -> Self {
        Self { disk: disk.clone(), log: log_on(disk, sync), sync, known: Arc::default() }
    }

    /// Writes a batch; `false` if that failed.
    fn write(&self, writer: &Writer, lengths: &[u8]) -> Result<(), LogError> {
        let batch: Vec<Vec<u8>> = lengths.iter().map(|length| vec![*length; usize::from(*length)]).collect();
        let first = writer.last_time().map_or(1000, |last| last.as_ns().max(999) + 1);
        self.known.lock().unwrap().batches.push((first..).zip(batch.clone()).collect());
        writer.write_batch(&batch)?;
        self.note(writer);
        Ok(())
    }

    /// Notes what is durable now.
    fn note(&self, writer: &Writer) {
        let mut known = self.known.lock().unwrap();
        let mut unsynced = usize::try_from(writer.stats().unsynced_entries).unwrap();
        let mut durable = known.batches.len();
        while unsynced > 0 {
            durable -= 1;
            unsynced -= known.batches[durable].len();
        }
        assert!(self.sync != SyncPolicy::Each || durable == known.batches.len());
        known.durable = known.durable.max(durable);
    }

    fn remove_oldest(&self) -> Result<(), LogError> {
        let segments = naive::segments(&self.disk, Path::new(DIR));
        if segments.len() < 2 {
            return Ok(());
        }
        let batches = segments[0].batches.len();
        self.known.lock().unwrap().removing += batches;
        self.log.remove_segment(Timestamp::from_ns(segments[0].start))?;
        let mut known = self.known.lock().unwrap();
        known.removed = known.removing;
        Ok(())
    }

    /// The workload; ends at the first error.
    fn work(&self) -> Result<(), LogError> {
        let writer = self.log.writer()?;
        for lengths in [&[9][..], &[100, 0, 3], &[200]] {
            self.write(&writer, lengths)?;
        }
        writer.close()?;
        let writer = self.log.writer()?;
        self.note(&writer);
        for lengths in [&[50; 6][..], &[7], &[120, 130]] {
            self.write(&writer, lengths)?;
        }
        writer.sync()?;
        self.note(&writer);
        self.write(&writer, &[255, 254, 253, 252])?;
        self.write(&writer, &[11])?;
        self.remove_oldest()?;
        for number in 20..30 {
            self.write(&writer, &[number, 1])?;
        }
        self.remove_oldest()?;
        writer.close()
    }
}

/// Opens what a crash left, checks it, writes on, and checks that.
fn check_image(image: &SimDisk, sync: SyncPolicy, known: &Known, what: &str) {
    let log = log_on(image, sync);
    // Without a writer's repair, a reader must end where the order ends, without an error, and invent nothing.
    let mut reader = log.reader().unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut read = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(entry)) => read.push((entry.time.as_ns(), entry.bytes.to_vec())),
            Ok(None) => break,
            Err(error) => panic!("{what}, read: {error}"),
        }
    }
    known.check(&read, &format!("{what}, read"));

    let writer = log.writer().unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = naive::entries(image, Path::new(DIR));
    known.check(&found, what);
    // Nothing is left behind the end that could come back behind a shorter frame.
    let end = naive::segments(image, Path::new(DIR)).last().map(|segment| segment.end);
    assert!(matches!(end, None | Some(End::Clean { .. } | End::Closed { .. })), "{what}: {end:?}");
    assert_eq!(found, read, "{what}: what was read is what is kept");
    // What was found is durable before anything is written behind it. Only a segment whose removal was not acknowledged may
    // come back.
    let durable = naive::entries(&image.power_cut(0), Path::new(DIR));
    assert!(durable.ends_with(&found), "{what}");
    known.check(&durable, what);
    let time = writer.write(b"behind the crash").unwrap().as_ns();
    assert!(found.last().is_none_or(|(last, _)| time > *last));
    writer.close().unwrap();
    let mut expected = found;
    expected.push((time, b"behind the crash".to_vec()));
    let left = if sync == SyncPolicy::Never { image.clone() } else { image.power_cut(0) };
    let left = naive::entries(&left, Path::new(DIR));
    assert!(left.ends_with(&expected), "{what}");
    known.check(&left[..left.len() - 1], what);
}

#[test]
fn every_moment_of_a_workload_may_be_the_last() {
    POLICIES.into_iter().for_each(cut_at_every_moment);
}

fn cut_at_every_moment(sync: SyncPolicy) {
    let moments = Arc::new(Mutex::new(Vec::new()));
    let disk = SimDisk::default();
    let run = Run::new(&disk, sync);
    let (copies, known) = (Arc::clone(&moments), Arc::clone(&run.known));
    disk.after_each(move |number, copy| {
        copies.lock().unwrap().push((number, copy, known.lock().unwrap().clone()));
    });
    run.work().unwrap();
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 60, "{} moments", moments.len());

    let mut seen = HashSet::new();
    for (number, copy, known) in &moments {
        check_image(&copy.kill(), sync, known, &format!("{sync:?}, killed after {number}"));
        for seed in 0..12 {
            let image = copy.power_cut(seed);
            if !seen.insert((image.fingerprint(), known.durable, known.removed)) {
                continue;
            }
            let what = format!("{sync:?}, cut after {number} by {seed}");
            check_image(&image.kill(), sync, known, &what);
            if seed == 3 || seed == 5 {
                check_reopening(&image, sync, known, &what);
            }
        }
    }
    assert!(seen.len() > 150, "{} images", seen.len());
}

/// Cuts the power at each operation of opening an image.
fn check_reopening(image: &SimDisk, sync: SyncPolicy, known: &Known, what: &str) {
    let disk = image.kill();
    let moments = Arc::new(Mutex::new(Vec::new()));
    let copies = Arc::clone(&moments);
    disk.after_each(move |number, copy| copies.lock().unwrap().push((number, copy)));
    drop(log_on(&disk, sync).writer().unwrap_or_else(|error| panic!("{what}: {error}")));
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    for (number, copy) in moments {
        for seed in [0, 8] {
            check_image(
                &copy.power_cut(seed),
                sync,
                known,
                &format!("{what}, again after {number} by {seed}"),
            );
        }
    }
}

/// Each operation of the workload fails in each way: what was acknowledged stays, what was refused is not there, and only
/// what ended in doubt may be either.
#[test]
fn every_operation_may_fail() {
    POLICIES.into_iter().for_each(fail_every_operation);
}

fn fail_every_operation(sync: SyncPolicy) {
    let clean = SimDisk::default();
    Run::new(&clean, sync).work().unwrap();
    let (mut refused, mut poisoned) = (0, 0);
    for kind in FaultKind::ALL {
        for at in 1..=clean.operations() {
            for forever in [false, true] {
                let disk = SimDisk::default();
                disk.fail(Fault { at, kind, forever });
                let run = Run::new(&disk, sync);
                let worked = run.work();
                let what = format!("{sync:?}, {kind:?} at {at}, forever {forever}: {worked:?}");
                let mut known = run.known.lock().unwrap().clone();
                match &worked {
                    Ok(()) => {}
                    // A directory whose own name could not be synced cannot be told from one whose name was.
                    Err(LogError::Io { op: "create", .. }) => continue,
                    Err(LogError::Poisoned { .. }) => poisoned += 1,
                    Err(LogError::Full { .. } | LogError::Io { .. }) => {
                        refused += 1;
                        // The batch that was refused is not in the log, now or later. A removal may have come half-way.
                        let is_there = naive::entries(&disk, Path::new(DIR));
                        if known.removed == known.removing
                            && known.batches.iter().flatten().count()
                                > is_there.len() + known.removed_entries()
                        {
                            known.batches.pop();
                        }
                    }
                    Err(other) => panic!("{what}: {other}"),
                }
                disk.heal();
                check_image(&disk.kill(), sync, &known, &what);
                for seed in [0, 2, 5] {
                    check_image(&disk.power_cut(seed), sync, &known, &what);
                }
            }
        }
    }
    assert!(refused > 100 && poisoned > 100, "{refused} refused, {poisoned} poisoned");
}

impl Known {
    fn removed_entries(&self) -> usize {
        self.batches[..self.removed].iter().flatten().count()
    }
}

/// After a refusal the same writer goes on, and nothing that was refused comes back.
#[test]
fn a_writer_goes_on_after_each_failed_write() {
    for kind in [FaultKind::Full, FaultKind::Io, FaultKind::ShortWrite] {
        for at in 1..200 {
            let disk = SimDisk::default();
            let log = log_on(&disk, SyncPolicy::OnDemand);
            let writer = log.writer().unwrap();
            disk.fail(Fault { at: disk.operations() + at, kind, forever: false });
            let mut model = Vec::new();
            let mut is_stopped = false;
            for number in 0..40_u8 {
                let entry = vec![number; usize::from(number)];
                match writer.write(&entry) {
                    Ok(time) => model.push((time.as_ns(), entry)),
                    Err(LogError::Poisoned { .. }) => {
                        is_stopped = true;
                        break;
                    }
                    Err(LogError::Full { .. } | LogError::Io { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
                assert_eq!(naive::entries(&disk, Path::new(DIR)), model, "{kind:?} at {at}");
            }
            // The fault may have been kept for this one.
            if !is_stopped && writer.sync().is_ok() {
                assert_eq!(naive::entries(&disk.power_cut(0), Path::new(DIR)), model, "{kind:?} at {at}");
            }
        }
    }
}

#[test]
fn a_log_that_is_found_twice_is_the_same() {
    // Opening repairs once: the second opening changes nothing and cuts nothing.
    let disk = SimDisk::default();
    let run = Run::new(&disk, SyncPolicy::OnDemand);
    let writer = run.log.writer().unwrap();
    for number in 1..6 {
        run.write(&writer, &[number * 30]).unwrap();
    }
    let mut torn = 0;
    for seed in 0..100 {
        let image = disk.power_cut(seed);
        let first = *log_on(&image, SyncPolicy::Each).writer().unwrap().recovered();
        let found = naive::entries(&image, Path::new(DIR));
        let second = *log_on(&image, SyncPolicy::Each).writer().unwrap().recovered();
        assert_eq!((second.torn_bytes, second.copied_bytes), (0, 0), "seed {seed}: {first:?}");
        assert_eq!(naive::entries(&image, Path::new(DIR)), found);
        torn += u64::from(first.torn_bytes > 0);
    }
    assert!(torn > 20, "{torn} torn");
}

/// A test that no bug can fail tests nothing: each of these is one line in the files of frames, and is caught here.
#[cfg(feature = "planted")]
#[test]
fn planted_bugs_are_caught() {
    use keplordb_log::planted::{self, Bug};

    let is_caught = |bug, check: fn(SyncPolicy)| {
        let all = || POLICIES.into_iter().for_each(check);
        std::panic::catch_unwind(|| planted::with(bug, all)).is_err()
    };
    for bug in [Bug::NameNotSynced, Bug::TailNotSynced, Bug::PayloadUnchecked] {
        assert!(is_caught(bug, cut_at_every_moment), "{bug:?}");
    }
    for bug in [Bug::ShortWriteCounted, Bug::FailedSyncRetried] {
        assert!(is_caught(bug, fail_every_operation), "{bug:?}");
    }
}

/// Lets the threads of a test end, also when it fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Many threads share syncs: whatever returned before the power was cut is there, from every thread, through rollovers.
#[test]
fn what_returned_to_any_thread_is_there() {
    let disk = SimDisk::default();
    let log = log_on(&disk, SyncPolicy::Each);
    let writer = log.writer().unwrap();
    let (acked, is_over) = (Mutex::new(HashSet::new()), AtomicBool::new(false));
    let written = std::thread::scope(|scope| {
        let (writer, acked, is_over) = (&writer, &acked, &is_over);
        let workers = [0, 1, 2, 3, 4, 5_u8].map(|thread| {
            scope.spawn(move || {
                let mut count = 0_u16;
                while !is_over.load(Ordering::Relaxed) || count < 20 {
                    let [low, high] = count.to_le_bytes();
                    let time = writer.write(&[thread, low, high]).unwrap().as_ns();
                    acked.lock().unwrap().insert((time, vec![thread, low, high]));
                    count += 1;
                }
                usize::from(count)
            })
        });
        let stop = Stop(is_over);
        for seed in 0..30 {
            let before = acked.lock().unwrap().clone();
            let image = disk.power_cut(seed);
            drop(log_on(&image, SyncPolicy::Each).writer().unwrap());
            let found: HashSet<Entry> = naive::entries(&image, Path::new(DIR)).into_iter().collect();
            assert!(before.is_subset(&found), "seed {seed}: {:?}", before.difference(&found));
        }
        drop(stop);
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<usize>()
    });
    assert_eq!(naive::entries(&disk, Path::new(DIR)).len(), written);
    assert!(writer.stats().rollovers > 5);
}
