//! The writer of a log: times, batches, group commit, rollover.
//!
//! A batch is encoded and its checksum made before the writer's lock is taken, in a buffer of the calling thread. Under the
//! lock it gets its time, and its frame is written in one call; whoever must wait for a sync waits without the lock, and
//! with all others who wait.

use std::cell::Cell;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keplordb_disk::Lock;
use parking_lot::{Mutex, MutexGuard};

use crate::entries::{FIRST, MAX_ENTRY_BYTES, put};
use crate::error::{LogError, Result};
use crate::file::{Payload, random_salt};
use crate::frame::{HEADER_BYTES, MAX_PAYLOAD_BYTES};
use crate::header::SegmentHeader;
use crate::log::Log;
use crate::meter::Meter;
use crate::options::SyncPolicy;
use crate::poison::Poison;
use crate::recover::{self, Opened, Recovered};
use crate::segment::{Files, Segment};
use crate::syncer::{Reach, Syncer};
use crate::timestamp::Timestamp;

/// How much memory a thread keeps for its next batch: that of the batches that are usual.
const KEPT_BYTES: usize = 4 << 20;

thread_local! {
    /// Room for a frame. Whoever uses it takes it and puts it back, so an iterator of a batch may write to another log.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Writes to a log: the only one in all processes, for any number of threads.
///
/// Entries get strictly increasing times. A batch is one frame: after a crash it is there whole or not at all. What was
/// written is visible to readers at once, and durable as the log's [`SyncPolicy`] says.
///
/// Dropping it gives the space back that was written ahead and frees the lock; [`close`](Self::close) also says whether that worked.
///
/// # After an error
/// - [`LogError::Full`], [`LogError::Io`]: the batch is not in the log; the writer goes on.
/// - [`LogError::Poisoned`]: a sync failed, so it is unknown what is on disk. The batch may be in the log or not. Nothing more is
///   written; reading goes on. Drop the writer and open another, which finds out.
///
/// # Cost
/// One `write`, and as the policy says a share of an `fdatasync`. No allocation once the thread's buffer has grown to its
/// batches (it keeps up to 4 MiB).
///
/// ```
/// use keplordb_log::Log;
///
/// # let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path().join("commands"))?;
/// let writer = log.writer()?;
/// let first = writer.write(b"create table")?;
/// let (_, last) = writer.write_batch(["insert 1", "insert 2"])?.unwrap();
/// assert!(first < last);
/// assert_eq!(writer.last_time(), Some(last));
/// writer.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer {
    log: Log,
    files: Files,
    tail: Mutex<Tail>,
    recovered: Recovered,
    meter: Meter,
    /// Freed last, when the files are closed.
    _lock: Lock,
}

/// Where the log ends.
#[derive(Debug)]
struct Tail {
    /// The log's id.
    log: u64,
    /// The number of the next segment.
    next_number: u64,
    /// Time of the last entry.
    last: Option<Timestamp>,
    /// The segment that takes frames; none before the first entry, and between a sealed segment and the next one.
    current: Option<Segment>,
    entries: u64,
    batches: u64,
    bytes: u64,
    rollovers: u64,
    /// Of segments that are sealed.
    sync_ns: u64,
}

/// What a writer has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriterStats {
    /// Entries written.
    pub entries: u64,
    /// Batches they came in; a single entry is one.
    pub batches: u64,
    /// Bytes of frames written.
    pub bytes: u64,
    /// Syncs of segments.
    pub syncs: u64,
    /// Time that these took.
    pub sync_time: Duration,
    /// Segments that were sealed because they were full.
    pub rollovers: u64,
    /// Entries that a power cut could take now.
    pub unsynced_entries: u64,
    /// Bytes of frames that a power cut could take now.
    pub unsynced_bytes: u64,
}

/// Which time a batch gets.
#[derive(Debug, Clone, Copy)]
enum Stamp {
    /// That of the clock, or the first one that is left.
    Clock,
    /// This one.
    At(Timestamp),
}

impl Log {
    /// The writer of this log; makes its directory if it is missing.
    ///
    /// What a crash left half-written at the end is cut off: [`Writer::recovered`] tells. Cost: a walk over the last segment from
    /// where it was last known to be synced; if the last writer was killed, or had [`SyncPolicy::Never`], or if the directory was copied,
    /// a copy of that segment, because nothing proves that its last bytes are on disk.
    ///
    /// # Errors
    /// [`LogError::Locked`] if there is a writer. [`LogError::Corrupt`], [`LogError::Truncated`] if the last segment is damaged where it
    /// was synced; nothing is changed then. [`LogError::TooNew`], [`LogError::Full`], [`LogError::Io`].
    pub fn writer(&self) -> Result<Writer> {
        let mut lock = recover::lock(self.disk(), self.path())?;
        let files = Files {
            disk: Arc::clone(&self.options().disk),
            dir: self.path().into(),
            poison: Poison::default(),
            syncs: Arc::default(),
        };
        let Opened { log, next_number, last, current, recovered } = recover::open(&files, &mut lock)?;
        let tail = Tail {
            log,
            next_number,
            last,
            current,
            entries: 0,
            batches: 0,
            bytes: 0,
            rollovers: 0,
            sync_ns: 0,
        };
        let meter = Meter::new(self.path());
        Ok(Writer { log: self.clone(), files, tail: Mutex::new(tail), recovered, meter, _lock: lock })
    }
}

impl Writer {
    /// Writes an entry and returns its time: that of the clock, or if the last entry is not earlier, the nanosecond after that.
    ///
    /// # Errors
    /// [`LogError::TooLong`] above [`MAX_ENTRY_BYTES`], [`LogError::TimeExhausted`], and as [said above](Self#after-an-error).
    pub fn write(&self, entry: &[u8]) -> Result<Timestamp> {
        let times = with_buffer(|buffer| {
            push(buffer, FIRST, entry)?;
            self.commit(buffer, 1, 0, Stamp::Clock)
        });
        times.map(|(first, _)| first)
    }

    /// Writes an entry with a time that the caller chooses.
    ///
    /// # Errors
    /// [`LogError::NotAfter`] unless `time` is later than the last entry's; else as [`write`](Self::write).
    pub fn write_at(&self, time: Timestamp, entry: &[u8]) -> Result<()> {
        with_buffer(|buffer| {
            push(buffer, FIRST, entry)?;
            self.commit(buffer, 1, 0, Stamp::At(time))
        })?;
        Ok(())
    }

    /// Writes entries as one batch, there whole or not at all, and returns the times of its first and last one; `None` if it is
    /// empty. The first has the time that [`write`](Self::write) would give it, each other that of the nanosecond after.
    ///
    /// # Errors
    /// As [`write`](Self::write), for the whole batch; [`LogError::TooLong`] also if all of it is longer than
    /// [`MAX_PAYLOAD_BYTES`].
    pub fn write_batch<I>(&self, entries: I) -> Result<Option<(Timestamp, Timestamp)>>
    where
        I: IntoIterator<Item: AsRef<[u8]>>,
    {
        with_buffer(|buffer| {
            let (mut count, mut delta) = (0_u32, FIRST);
            for entry in entries {
                push(buffer, delta, entry.as_ref())?;
                count += 1;
                delta = Some(1);
            }
            if count == 0 {
                return Ok(None);
            }
            self.commit(buffer, count, u64::from(count - 1), Stamp::Clock).map(Some)
        })
    }

    /// Writes entries with times that the caller chooses as one batch, there whole or not at all. An empty one does nothing.
    ///
    /// # Errors
    /// [`LogError::NotAfter`] unless each time is later than that of the entry before; else as [`write_batch`](Self::write_batch).
    pub fn write_batch_at<B: AsRef<[u8]>>(&self, entries: &[(Timestamp, B)]) -> Result<()> {
        let Some((first, _)) = entries.first() else { return Ok(()) };
        with_buffer(|buffer| {
            let (mut count, mut before) = (0_u32, None);
            for (time, entry) in entries {
                let delta = match before {
                    None => FIRST,
                    Some(last) if *time > last => Some(time.as_ns().abs_diff(last.as_ns())),
                    Some(last) => return Err(LogError::NotAfter { last }),
                };
                push(buffer, delta, entry.as_ref())?;
                count += 1;
                before = Some(*time);
            }
            let span_ns = before.map_or(0, |last| last.as_ns().abs_diff(first.as_ns()));
            self.commit(buffer, count, span_ns, Stamp::At(*first))
        })?;
        Ok(())
    }

    /// Makes durable what was written before the call, under every policy.
    ///
    /// # Errors
    /// [`LogError::Poisoned`] if this sync or an earlier one failed.
    pub fn sync(&self) -> Result<()> {
        let tail = self.tail()?;
        let Some(current) = &tail.current else { return Ok(()) };
        let (syncer, reach) = (Arc::clone(current.syncer()), current.reach());
        drop(tail);
        self.wait(&syncer, reach)
    }

    /// Waits until a file is on disk as far as `reach`.
    fn wait(&self, syncer: &Syncer, reach: Reach) -> Result<()> {
        let syncs = || self.files.syncs.load(Ordering::Relaxed);
        Ok(self.meter.waiting(|| syncer.sync_to(reach), syncs)?)
    }

    /// Time of the last entry of the log; `None` if it never had one.
    pub fn last_time(&self) -> Option<Timestamp> {
        self.tail.lock().last
    }

    /// The log that it writes.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What it found and repaired when it was opened.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// What it has done since then.
    pub fn stats(&self) -> WriterStats {
        let tail = self.tail.lock();
        let syncer = tail.current.as_ref().map(Segment::syncer);
        let unsynced = syncer.map(|syncer| syncer.unsynced());
        WriterStats {
            entries: tail.entries,
            batches: tail.batches,
            bytes: tail.bytes,
            syncs: self.files.syncs.load(Ordering::Relaxed),
            sync_time: Duration::from_nanos(tail.sync_ns + syncer.map_or(0, |syncer| syncer.sync_ns())),
            rollovers: tail.rollovers,
            unsynced_entries: unsynced.map_or(0, |unsynced| unsynced.rows),
            unsynced_bytes: unsynced.map_or(0, |unsynced| unsynced.bytes),
        }
    }

    /// Ends writing: gives the space back that was written ahead, syncs (but under [`SyncPolicy::Never`]), frees the lock. The
    /// next writer then need not ask what is on disk.
    ///
    /// # Errors
    /// [`LogError::Poisoned`], [`LogError::Io`]; the lock is freed all the same, and the next writer repairs what is left.
    pub fn close(self) -> Result<()> {
        self.end()
    }

    /// What closing and dropping have to do; the second time, nothing.
    fn end(&self) -> Result<()> {
        let mut tail = self.tail()?;
        let Some(mut current) = tail.current.take() else { return Ok(()) };
        match self.log.options().sync {
            SyncPolicy::Never => Ok(current.cut_fill()?),
            SyncPolicy::Each | SyncPolicy::Every { .. } | SyncPolicy::OnDemand => current.trim(),
        }
    }

    /// The tail, unless writing has stopped.
    fn tail(&self) -> Result<MutexGuard<'_, Tail>> {
        let tail = self.tail.lock();
        self.files.poison.check()?;
        Ok(tail)
    }

    /// Writes the batch whose payload is in `buffer`, behind room for a header, and returns its first and last times, which
    /// are `span_ns` apart.
    fn commit(
        &self,
        buffer: &mut Vec<u8>,
        entries: u32,
        span_ns: u64,
        stamp: Stamp,
    ) -> Result<(Timestamp, Timestamp)> {
        let payload = Payload::seal(buffer, entries)?;
        // Before the lock: a clock may be slow, or ask this writer something.
        let now = match stamp {
            Stamp::Clock => self.log.options().clock.now(),
            Stamp::At(time) => time,
        };
        let mut tail = self.tail()?;
        let first = match (stamp, tail.last) {
            (_, None) => now,
            (Stamp::Clock, Some(last)) => now.max(last.next().ok_or(LogError::TimeExhausted)?),
            (Stamp::At(time), Some(last)) if time > last => time,
            (Stamp::At(_), Some(last)) => return Err(LogError::NotAfter { last }),
        };
        let last = first.after_by_ns(span_ns).ok_or(LogError::TimeExhausted)?;
        self.append(&mut tail, buffer, &payload, first)?;
        tail.last = Some(last);
        tail.entries += u64::from(entries);
        tail.batches += 1;
        tail.bytes += buffer.len() as u64;
        self.meter.wrote(entries, buffer.len());
        let current = tail.current.as_ref().map(|current| (Arc::clone(current.syncer()), current.reach()));
        drop(tail);

        if let Some((syncer, reach)) = current {
            let is_due = match self.log.options().sync {
                SyncPolicy::Each => true,
                SyncPolicy::Every { entries, bytes } => {
                    let unsynced = syncer.unsynced();
                    unsynced.rows >= entries || unsynced.bytes >= bytes
                }
                SyncPolicy::OnDemand | SyncPolicy::Never => false,
            };
            if is_due {
                self.wait(&syncer, reach)?;
            }
        }
        Ok((first, last))
    }

    /// Writes a frame into the current segment, or the next one if that is full or there is none.
    fn append(&self, tail: &mut Tail, buffer: &mut [u8], payload: &Payload, first: Timestamp) -> Result<()> {
        let options = self.log.options();
        if let (Some(current), Some(last)) = (&mut tail.current, tail.last) {
            let is_full = current.bytes().saturating_add(buffer.len() as u64) > options.max_segment_bytes;
            if !is_full && first.since(current.header().start) <= options.max_segment_duration {
                current.append(buffer, payload, first)?;
                return Ok(());
            }
            current.seal(last)?;
            tail.sync_ns += current.syncer().sync_ns();
            tail.rollovers += 1;
            self.meter.rolled();
            tail.current = None;
        }
        let (number, before) = (tail.next_number, tail.last);
        let header = SegmentHeader { salt: random_salt(number), log: tail.log, number, start: first, before };
        tail.current = Some(Segment::create(&self.files, header, buffer, payload)?);
        tail.next_number += 1;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody is left to be told; the next writer repairs what is left.
        let _ = self.end();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("dir", &self.log.path())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Lends the thread's buffer, with room for a frame's header in it.
fn with_buffer<T>(write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // A thread that is ending has none any more.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    // Cuts it, or makes it as long; what stands in this room is written over.
    buffer.resize(HEADER_BYTES, 0);
    let written = write(&mut buffer);
    if buffer.capacity() <= KEPT_BYTES {
        let _ = BUFFER.try_with(|kept| kept.set(mem::take(&mut buffer)));
    }
    written
}

/// Appends an entry to the payload in a buffer.
fn push(buffer: &mut Vec<u8>, delta: Option<u64>, entry: &[u8]) -> Result<()> {
    /// The most that an entry's lengths and times take.
    const EXTRA_BYTES: usize = 10 + 5;
    if entry.len() > MAX_ENTRY_BYTES {
        return Err(LogError::TooLong { bytes: entry.len() as u64, limit_bytes: MAX_ENTRY_BYTES as u64 });
    }
    let most_bytes = buffer.len() - HEADER_BYTES + entry.len() + EXTRA_BYTES;
    if most_bytes > MAX_PAYLOAD_BYTES as usize {
        return Err(LogError::TooLong { bytes: most_bytes as u64, limit_bytes: MAX_PAYLOAD_BYTES.into() });
    }
    put(buffer, delta, entry);
    Ok(())
}
