//! Readers beside a writer: in other threads and processes, while segments are rolled and removed, while writers are killed
//! and others recover, and on what power cuts leave. Every entry says its number, its place in its batch and its own bytes,
//! so half an entry, half a batch, one that comes twice and one that is skipped all show.

#[path = "common/hooked.rs"]
mod hooked;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hooked::HookedDisk;
use keplordb_disk::{Disk, DiskFile, Lock, LockError, Mapping, MemoryDisk, RealDisk, SimDisk, Watch};
use keplordb_log::{Entry, Log, LogError, Options, Reader, Retention, SyncPolicy, Timestamp, Writer};

/// Long enough for whatever comes at all.
const SOON: Duration = Duration::from_secs(60);

/// Entries are 10 ns apart.
fn time_of(number: u64) -> Timestamp {
    Timestamp::from_ns(1000 + number as i64 * 10)
}

fn bytes_of(number: u64, place: u32, of: u32) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(place.to_le_bytes());
    bytes.extend(of.to_le_bytes());
    let length = if number % 97 == 3 { 9000 } else { number * 37 % 300 };
    bytes.extend((0..length).map(|at| (number ^ at).to_le_bytes()[0]));
    bytes
}

/// Writes `count` entries as one batch, the first with this number.
fn write(writer: &Writer, number: u64, count: u32) -> Result<(), LogError> {
    let batch: Vec<_> = (0..count)
        .map(|place| (time_of(number + u64::from(place)), bytes_of(number + u64::from(place), place, count)))
        .collect();
    writer.write_batch_at(&batch)
}

/// The number of an entry, and its place in its batch of so many.
fn number_of(entry: &Entry<'_>) -> (u64, u32, u32) {
    let number = u64::from_le_bytes(*entry.bytes.first_chunk().unwrap());
    let place = u32::from_le_bytes(*entry.bytes[8..].first_chunk().unwrap());
    let of = u32::from_le_bytes(*entry.bytes[12..].first_chunk().unwrap());
    assert_eq!(entry.time, time_of(number));
    assert!(entry.bytes == bytes_of(number, place, of) && place < of, "entry {number}");
    (number, place, of)
}

/// Follows the numbers of what a reader gives.
#[derive(Debug, Default)]
struct Follower {
    /// The number that must come; any, before the first and behind a gap.
    next: Option<u64>,
    last: Option<Timestamp>,
    /// What is left of the present batch, and the place of its frame.
    batch: Option<(u32, u64)>,
    read: u64,
    gaps: u64,
}

impl Follower {
    fn take(&mut self, entry: &Entry<'_>) {
        let (number, place, of) = number_of(entry);
        assert!(self.next.is_none_or(|next| next == number), "{number} came for {:?}", self.next);
        let left = match self.batch {
            None => {
                assert_eq!(place, 0, "the beginning of batch {number} is missing");
                of
            }
            Some((left, offset)) => {
                assert_eq!(
                    (of - place, entry.offset),
                    (left, offset),
                    "another batch begins before the end of one"
                );
                left
            }
        };
        self.batch = (left > 1).then_some((left - 1, entry.offset));
        (self.next, self.last) = (Some(number + 1), Some(entry.time));
        self.read += 1;
    }

    /// Reads to the end; whether there was anything.
    fn follow(&mut self, reader: &mut Reader) -> bool {
        let read = self.read;
        loop {
            match reader.next() {
                Ok(Some(entry)) => self.take(&entry),
                Ok(None) => {
                    assert_eq!(self.batch, None, "half a batch");
                    return self.read > read;
                }
                Err(LogError::Gap { after, before }) => {
                    assert!(after == self.last || self.last.is_none(), "{after:?}, {:?}", self.last);
                    assert!(self.next.is_none_or(|next| before > time_of(next)), "nothing is missing");
                    (self.next, self.batch) = (None, None);
                    self.gaps += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A disk, and a directory on it that is this test's own.
fn places() -> Vec<(Arc<dyn Disk>, PathBuf, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    vec![
        (Arc::new(RealDisk), dir.path().join("log"), Some(dir)),
        (Arc::new(MemoryDisk::default()), "log".into(), None),
        (Arc::new(SimDisk::default()), "log".into(), None),
    ]
}

fn log(disk: &Arc<dyn Disk>, dir: &Path) -> Log {
    let options = Options {
        max_segment_bytes: 64 << 10,
        sync: SyncPolicy::Never,
        disk: Arc::clone(disk),
        ..Options::default()
    };
    Log::open_with(dir, options).unwrap()
}

#[test]
fn readers_beside_a_writer_that_rolls_and_forgets_miss_nothing_unsaid() {
    const ENTRIES: u64 = 20_000;
    for (disk, dir, _kept) in places() {
        let log = &log(&disk, &dir);
        let is_over = &AtomicBool::new(false);
        // A follower that waits, one that asks, one that sleeps so long that it falls behind.
        let followers = [Some(Duration::from_secs(1)), None, Some(Duration::ZERO)];
        thread::scope(|scope| {
            let followers = followers.map(|wait| {
                let mut reader = log.reader().unwrap();
                scope.spawn(move || {
                    let mut follower = Follower::default();
                    loop {
                        let was_over = is_over.load(Ordering::SeqCst);
                        if !follower.follow(&mut reader) && was_over {
                            return follower;
                        }
                        match wait {
                            Some(Duration::ZERO) => thread::sleep(Duration::from_millis(40)),
                            Some(wait) => match reader.wait(wait) {
                                Ok(_) => {}
                                // Said by the wait, so not again.
                                Err(LogError::Gap { .. }) => {
                                    let gaps = follower.gaps + 1;
                                    follower = Follower { next: None, gaps, ..follower };
                                }
                                Err(error) => panic!("{error}"),
                            },
                            None => thread::yield_now(),
                        }
                    }
                })
            });
            let seekers = scope.spawn(move || {
                let (mut seed, mut sought) = (7_u64, 0);
                // On a busy machine the writer may be through before one was found.
                while !is_over.load(Ordering::SeqCst) || sought == 0 {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let wanted = (seed >> 20) % ENTRIES;
                    let mut reader = log.from(time_of(wanted)).unwrap();
                    match reader.next() {
                        Ok(Some(entry)) => {
                            let (number, _, _) = number_of(&entry);
                            // Either that one, or it was removed, and this is the first that is left.
                            assert!(
                                number == wanted || number > wanted && entry.segment == entry.time,
                                "{number}, {wanted}"
                            );
                            sought += 1;
                        }
                        Ok(None) => {}
                        // It was not written yet when it was looked for, and is removed already.
                        Err(LogError::Gap { before, .. }) => assert!(before > time_of(wanted)),
                        Err(error) => panic!("{error}"),
                    }
                    let mut newest = log.newest().unwrap();
                    let mut expected = None;
                    while let Some(entry) = newest.back().unwrap() {
                        let (number, _, _) = number_of(&entry);
                        assert!(expected.is_none_or(|expected| expected == number));
                        expected = number.checked_sub(1);
                    }
                }
                sought
            });

            let writer = log.writer().unwrap();
            let (mut number, mut batches) = (0, 0_u64);
            while number < ENTRIES {
                batches += 1;
                let count = u32::try_from(1 + batches * batches % 40).unwrap();
                write(&writer, number, count).unwrap();
                number += u64::from(count);
                if batches.is_multiple_of(50) {
                    log.retain(&Retention { max_age: None, max_bytes: Some(400_000) }).unwrap();
                }
            }
            writer.close().unwrap();
            is_over.store(true, Ordering::SeqCst);
            for follower in followers {
                let follower = follower.join().unwrap();
                assert_eq!(follower.next, Some(number), "{follower:?}");
                assert!(follower.read == number || follower.gaps > 0, "{follower:?}");
            }
            assert!(seekers.join().unwrap() > 0);
        });
        assert!(log.segments().unwrap().len() > 2);
        assert!(log.verify().unwrap().is_sound());
    }
}

/// Where a child process of a test is to work.
const CHILD_DIR: &str = "KEPLORDB_LOG_READER_TEST";
const CHILD_ENTRIES: u64 = 20_000;

/// A process that runs one test, and is killed when this is dropped: also when the other test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn child(test: &str, dir: &Path) -> Running {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture", "--ignored"]).env(CHILD_DIR, dir).stdout(Stdio::null());
    Running(child.spawn().unwrap())
}

#[test]
#[ignore = "the process that another test starts"]
fn a_process_that_reads() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let mut reader = Log::open(dir).unwrap().reader().unwrap();
    let mut follower = Follower::default();
    while follower.next != Some(CHILD_ENTRIES) {
        assert!(reader.wait(SOON).unwrap(), "{follower:?}");
        follower.follow(&mut reader);
    }
    assert_eq!((follower.read, follower.gaps), (CHILD_ENTRIES, 0));
}

#[test]
fn another_process_reads_what_this_one_writes() {
    let dir = tempfile::tempdir().unwrap();
    // It waits for a directory that is not there yet.
    let dir = dir.path().join("a").join("log");
    let mut reader = child("a_process_that_reads", &dir);
    thread::sleep(Duration::from_millis(300));
    let writer = log(&(Arc::new(RealDisk) as Arc<dyn Disk>), &dir).writer().unwrap();
    for number in (0..CHILD_ENTRIES).step_by(10) {
        write(&writer, number, 10).unwrap();
        if number.is_multiple_of(1000) {
            thread::sleep(Duration::from_millis(2));
        }
    }
    assert!(reader.0.wait().unwrap().success());
}

#[test]
#[ignore = "the process that another test starts, and kills"]
fn a_process_that_writes() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let log = log(&(Arc::new(RealDisk) as Arc<dyn Disk>), Path::new(&dir));
    let last = log.last().unwrap().map(|last| u64::from_le_bytes(*last.bytes.first_chunk().unwrap()));
    let writer = log.writer().unwrap();
    let mut number = last.map_or(0, |last| last + 1);
    let until = Instant::now() + SOON;
    while Instant::now() < until {
        let count = u32::try_from(1 + number % 23).unwrap();
        write(&writer, number, count).unwrap();
        number += u64::from(count);
        thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_reader_goes_on_over_writers_that_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let log = log(&(Arc::new(RealDisk) as Arc<dyn Disk>), &dir);
    let mut reader = log.reader().unwrap();
    let mut follower = Follower::default();
    for round in 0..12_u64 {
        let writer = child("a_process_that_writes", &dir);
        let read = follower.read;
        let until = Instant::now() + SOON;
        // Until it has recovered what the last one left, and written some more.
        while follower.read < read + 50 + round * 40 {
            assert!(Instant::now() < until, "{follower:?}");
            reader.wait(Duration::from_millis(100)).unwrap();
            follower.follow(&mut reader);
        }
        drop(writer);
        follower.follow(&mut reader);
        assert_eq!(log.verify().unwrap().entries, follower.read);
    }
    assert_eq!((follower.gaps, follower.next), (0, Some(follower.read)));
}

#[test]
fn a_wait_ends_with_what_is_written() {
    for (disk, dir, _kept) in places() {
        let log = log(&disk, &dir);
        let mut reader = log.reader().unwrap();
        let begin = Instant::now();
        assert!(!reader.wait(Duration::from_millis(50)).unwrap());
        assert!(begin.elapsed() >= Duration::from_millis(50));
        let writer = &log.writer().unwrap();
        for number in 0..30 {
            thread::scope(|scope| {
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(number % 7));
                    // Some of them roll over.
                    let entry = vec![7; if number % 5 == 4 { 60_000 } else { 10 }];
                    writer.write_at(time_of(number), &entry).unwrap();
                });
                let begin = Instant::now();
                assert!(reader.wait(SOON).unwrap());
                // Far sooner than what is looked at now and then.
                assert!(begin.elapsed() < Duration::from_millis(700), "{:?}", begin.elapsed());
                assert!(reader.wait(Duration::ZERO).unwrap(), "it was not read yet");
                assert_eq!(reader.next().unwrap().unwrap().time, time_of(number));
                assert_eq!(reader.next().unwrap(), None);
            });
        }
        assert!(log.segments().unwrap().len() > 3);
        assert!(!reader.wait(Duration::from_millis(20)).unwrap());
    }
}

#[test]
fn a_reader_from_a_time_to_come_waits_for_that() {
    for (disk, dir, _kept) in places() {
        let log = log(&disk, &dir);
        let mut early = log.from(time_of(3)).unwrap();
        let writer = log.writer().unwrap();
        write(&writer, 0, 2).unwrap();
        let mut later = log.from(time_of(3)).unwrap();
        assert!(!early.wait(Duration::ZERO).unwrap() && !later.wait(Duration::ZERO).unwrap());
        write(&writer, 2, 3).unwrap();
        for reader in [&mut early, &mut later] {
            assert!(reader.wait(SOON).unwrap());
            assert_eq!(reader.next().unwrap().unwrap().time, time_of(3));
            // The position is a place like any other.
            assert_eq!(reader.back().unwrap().unwrap().time, time_of(3));
            assert_eq!(reader.back().unwrap().unwrap().time, time_of(2));
        }
    }
}

/// What power cuts leave, before any writer has repaired it: a reader gives what was acknowledged, in order and whole, and
/// exactly what the recovery then keeps; and the same reader goes on behind that.
#[test]
fn a_reader_of_a_crash_image_sees_what_recovery_keeps() {
    let disk = SimDisk::default();
    let moments = Arc::new(Mutex::new(Vec::new()));
    let acknowledged = Arc::new(Mutex::new(0_u64));
    let (copies, count) = (Arc::clone(&moments), Arc::clone(&acknowledged));
    disk.after_each(move |_, copy| copies.lock().unwrap().push((copy, *count.lock().unwrap())));
    let open = |disk: &SimDisk| {
        let options = Options {
            max_segment_bytes: 3000,
            sync: SyncPolicy::Every { entries: 5, bytes: 1 << 20 },
            disk: Arc::new(disk.clone()),
            ..Options::default()
        };
        Log::open_with("log", options).unwrap()
    };
    let writer = open(&disk).writer().unwrap();
    let mut number = 0;
    for count in [1, 1, 3, 2, 7, 1, 1, 1, 9, 2, 2, 6] {
        write(&writer, number, count).unwrap();
        number += u64::from(count);
        if writer.stats().unsynced_entries == 0 {
            *acknowledged.lock().unwrap() = number;
        }
    }
    drop(writer);
    disk.after_each(|_, _| {});

    let (mut images, mut torn) = (0, 0);
    for (copy, acknowledged) in moments.lock().unwrap().iter() {
        for seed in 0..12 {
            let after = copy.power_cut(seed);
            let log = open(&after);
            let mut reader = log.reader().unwrap();
            let mut follower = Follower::default();
            follower.follow(&mut reader);
            assert!(follower.read >= *acknowledged && follower.gaps == 0, "{follower:?} of {acknowledged}");
            let report = log.verify().unwrap();
            assert!(report.is_sound() && report.entries == follower.read, "{report:?}");

            let writer = log.writer().unwrap();
            torn += u64::from(writer.recovered().torn_bytes > 0);
            let kept = log.verify().unwrap().entries;
            assert_eq!(kept, follower.read);
            write(&writer, kept, 2).unwrap();
            follower.follow(&mut reader);
            assert_eq!(follower.next, Some(kept + 2));
            images += 1;
        }
    }
    assert!(images > 500 && torn > 20, "{images} images, {torn} torn");
}

/// The space that a writer has filled ahead is not searched for what may follow damage.
#[test]
fn a_seek_to_the_end_of_a_growing_segment_reads_little() {
    let (disk, dir) = (SimDisk::default(), Path::new("log"));
    let log_on = |disk: Arc<dyn Disk>| {
        let options = Options { sync: SyncPolicy::Never, disk, ..Options::default() };
        Log::open_with(dir, options).unwrap()
    };
    let log = log_on(Arc::new(disk.clone()));
    let writer = log.writer().unwrap();
    let file_bytes = || disk.list(dir).unwrap().iter().map(|entry| entry.bytes).max().unwrap();
    // Until it has filled 4 MiB ahead.
    let (mut before_bytes, mut times) = (u64::MAX, Vec::new());
    while file_bytes().saturating_sub(before_bytes) < 4 << 20 {
        before_bytes = file_bytes();
        times.push(writer.write(&[7; 1000]).unwrap());
    }
    let read_bytes = Arc::new(AtomicU64::new(0));
    let hooked = HookedDisk::new(disk.clone()).on_read({
        let read_bytes = Arc::clone(&read_bytes);
        move |_, read, _| {
            read_bytes.fetch_add(read.len() as u64, Ordering::Relaxed);
        }
    });
    let log = log_on(Arc::new(hooked));
    for time in times.iter().rev().step_by(3).take(100) {
        read_bytes.store(0, Ordering::Relaxed);
        assert_eq!(log.from(*time).unwrap().next().unwrap().unwrap().time, *time);
        let read_bytes = read_bytes.load(Ordering::Relaxed);
        assert!(read_bytes < 400_000, "{read_bytes} bytes");
    }
}

/// A disk on which somebody makes a directory just after it was found missing by who wanted to watch it.
#[derive(Debug)]
struct LateDisk {
    disk: MemoryDisk,
    dir: PathBuf,
}

impl Disk for LateDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<keplordb_disk::Entry>> {
        self.disk.list(dir)
    }
    fn bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        self.disk.bytes(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path)
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_read(path)
    }
    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn keplordb_disk::AppendFile>> {
        self.disk.open_append(path)
    }
    fn open_lock(&self, path: &Path) -> io::Result<Arc<dyn keplordb_disk::LockFile>> {
        self.disk.open_lock(path)
    }
    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.disk.rename(source, target)
    }
    fn link(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.disk.link(source, target)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> Result<Lock, LockError> {
        self.disk.lock(path)
    }
    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_locked(path)
    }
    fn is_copy(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_copy(path)
    }
    fn map(&self, path: &Path, bytes: u64) -> io::Result<Mapping> {
        self.disk.map(path, bytes)
    }
    fn watch(&self, dir: &Path) -> io::Result<Box<dyn Watch>> {
        let watch = self.disk.watch(dir);
        if watch.is_err() && dir == self.dir {
            self.disk.create_dir(dir)?;
        }
        watch
    }
}

/// Writes an entry while `reader` waits, which must notice it.
fn check_notices(reader: &mut Reader, before: impl FnOnce() + Send, write: impl FnOnce() + Send) {
    thread::scope(|scope| {
        // It looks once more at the end, so that only how long it took says whether it was woken.
        let (begun, timeout) = (Instant::now(), Duration::from_secs(10));
        let waiting = scope.spawn(move || reader.wait(timeout));
        thread::sleep(Duration::from_millis(200));
        before();
        thread::sleep(Duration::from_millis(200));
        write();
        assert!(waiting.join().unwrap().unwrap() && begun.elapsed() < timeout);
    });
}

#[test]
fn a_directory_that_is_made_while_it_is_looked_for_is_watched() {
    let (disk, above) = (MemoryDisk::default(), Path::new("above"));
    disk.create_dir(above).unwrap();
    let dir = above.join("log");
    let late: Arc<dyn Disk> = Arc::new(LateDisk { disk: disk.clone(), dir: dir.clone() });
    let mut reader = log(&late, &dir).reader().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(disk);
    // Made beside the log: the writer's own names must not be what wakes the reader.
    let made = above.join("made");
    let writer = log(&disk, &made).writer().unwrap();
    write(&writer, 0, 1).unwrap();
    let name = disk.list(&made).unwrap().into_iter().map(|entry| entry.name);
    let name = name.into_iter().find(|name| name.contains(".segment")).unwrap();
    check_notices(&mut reader, || {}, || disk.link(&made.join(&name), &dir.join(&name)).unwrap());
}

#[test]
fn a_directory_that_is_made_again_is_watched_again() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("log");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let log = log(&disk, &dir);
    disk.create_dir(&dir).unwrap();
    let mut reader = log.reader().unwrap();
    let again = || {
        std::fs::remove_dir(&dir).unwrap();
        disk.create_dir(&dir).unwrap();
    };
    let mut writer = None;
    check_notices(&mut reader, again, || write(writer.insert(log.writer().unwrap()), 0, 1).unwrap());
    assert!(reader.next().unwrap().is_some());
    // What was watched last is the directory that has the log.
    check_notices(&mut reader, || {}, || write(writer.as_ref().unwrap(), 1, 1).unwrap());
}
