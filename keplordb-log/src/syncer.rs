//! Syncs of one file, shared by all who wait for one.
//!
//! The first who comes leads: he notes how far the file is written, syncs without any lock, and wakes the others. Who
//! comes meanwhile waits; a sync that is under way when he comes began before his write and does not count for him, so
//! he may only ride on the next one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use keplordb_disk::DiskFile;
use parking_lot::{Condvar, Mutex};

use crate::file::FileError;
use crate::poison::Poison;

/// The sync side of a file that one writer appends to. Any number of threads may wait for its syncs.
#[derive(Debug)]
pub struct Syncer {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    poison: Poison,
    /// Bytes that were written; set by the writer after each write returned.
    written: AtomicU64,
    /// Rows that were written since the file was opened; set after `written`, so that whoever reads this first and
    /// `written` then has bytes for all the rows.
    written_rows: AtomicU64,
    /// Bytes that a completed sync covers: the watermark.
    durable: AtomicU64,
    /// Rows that a completed sync covers.
    durable_rows: AtomicU64,
    /// The number below which all rows of the file were written; set after `written`, as `written_rows` is.
    written_below: AtomicU64,
    /// The number below which a completed sync covers all rows of the file; shared with who shows them.
    synced_below: Arc<AtomicU64>,
    /// Whether somebody syncs at the moment.
    running: Mutex<bool>,
    done: Condvar,
    /// Syncs of all files that are counted together.
    syncs: Arc<AtomicU64>,
    /// What the syncs of this file have taken.
    sync_ns: AtomicU64,
}

/// How far a log reaches: its bytes, and the number below which all its rows are within these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Bytes of the file.
    pub bytes: u64,
    /// The number below which all rows are within these bytes.
    pub below: u64,
}

/// What a power cut could take of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsynced {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Syncer {
    /// For a file that is synced as far as `durable`. A failed sync sets `poison`; each one counts in `syncs`.
    pub fn new(
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        durable: Reach,
        poison: Poison,
        syncs: Arc<AtomicU64>,
    ) -> Self {
        Self {
            path,
            file,
            poison,
            written: AtomicU64::new(durable.bytes),
            written_rows: AtomicU64::new(0),
            durable: AtomicU64::new(durable.bytes),
            durable_rows: AtomicU64::new(0),
            written_below: AtomicU64::new(durable.below),
            synced_below: Arc::new(AtomicU64::new(durable.below)),
            running: Mutex::new(false),
            done: Condvar::new(),
            syncs,
            sync_ns: AtomicU64::new(0),
        }
    }

    /// The one writer says how far the file reaches, after its write returned, and how many rows that added.
    pub fn wrote(&self, reach: Reach, rows: u64) {
        self.written.store(reach.bytes, Ordering::Release);
        self.written_rows.fetch_add(rows, Ordering::Release);
        self.written_below.store(reach.below, Ordering::Release);
    }

    /// The number below which a completed sync covers all rows of the file; it grows with each sync that somebody waits for.
    pub fn synced_below(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.synced_below)
    }

    /// What was written and is not covered by a completed sync.
    pub fn unsynced(&self) -> Unsynced {
        let since = |written: &AtomicU64, durable: &AtomicU64| {
            written.load(Ordering::Relaxed).saturating_sub(durable.load(Ordering::Relaxed))
        };
        Unsynced {
            rows: since(&self.written_rows, &self.durable_rows),
            bytes: since(&self.written, &self.durable),
        }
    }

    /// Bytes that a completed sync covers.
    pub fn durable_upto(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Nanoseconds that the syncs of this file have taken together.
    pub fn sync_ns(&self) -> u64 {
        self.sync_ns.load(Ordering::Relaxed)
    }

    /// Returns when what reaches so far, which was written before, is on disk.
    ///
    /// # Errors
    /// [`FileError::Poisoned`] if this sync or an earlier one failed.
    pub fn sync_to(&self, reach: Reach) -> Result<(), FileError> {
        let mut running = self.running.lock();
        loop {
            if self.durable_upto() >= reach.bytes {
                // The sync that covered the bytes may have begun when they were written and `written_below` was not yet set.
                self.synced_below.fetch_max(reach.below, Ordering::SeqCst);
                return Ok(());
            }
            self.poison.check()?;
            if !*running {
                break;
            }
            self.done.wait(&mut running);
        }
        *running = true;
        drop(running);

        // Before the sync begins: what is written from now on is the next one's.
        let covers_below = self.written_below.load(Ordering::Acquire);
        let covers_rows = self.written_rows.load(Ordering::Acquire);
        let covers = self.written.load(Ordering::Acquire);
        let begun = Instant::now();
        let outcome = self.file.sync();
        self.sync_ns
            .fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let outcome = match outcome {
            Ok(()) => {
                self.durable_rows.fetch_max(covers_rows, Ordering::AcqRel);
                self.durable.fetch_max(covers, Ordering::AcqRel);
                self.synced_below.fetch_max(covers_below, Ordering::SeqCst);
                Ok(())
            }
            Err(source) => Err(self.poison.set(FileError::io("sync", &self.path, source))),
        };
        *self.running.lock() = false;
        self.done.notify_all();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Barrier;
    use std::time::Duration;

    use super::*;

    const NOTHING: Reach = Reach { bytes: 0, below: 0 };

    /// A file whose sync takes a while and remembers how far the file was written when it began.
    #[derive(Debug, Default)]
    struct SlowFile {
        written: AtomicU64,
        synced: AtomicU64,
        fails: bool,
    }

    impl DiskFile for SlowFile {
        fn bytes(&self) -> io::Result<u64> {
            Ok(self.written.load(Ordering::SeqCst))
        }
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn write_at(&self, source: &[u8], offset: u64) -> io::Result<()> {
            self.written.fetch_max(offset + source.len() as u64, Ordering::SeqCst);
            Ok(())
        }
        fn truncate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync(&self) -> io::Result<()> {
            let covers = self.written.load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_micros(200));
            if self.fails {
                return Err(io::Error::other("bad sector"));
            }
            self.synced.fetch_max(covers, Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn whoever_returns_is_on_disk_and_syncs_are_shared() {
        let file = Arc::new(SlowFile::default());
        let syncs = Arc::new(AtomicU64::new(0));
        let syncer = Syncer::new("wal".into(), file.clone(), NOTHING, Poison::default(), Arc::clone(&syncs));
        let (writers, appends) = (8, 200);
        let end = Mutex::new(0);
        let barrier = Barrier::new(writers);
        std::thread::scope(|scope| {
            for _ in 0..writers {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..appends {
                        let mine = {
                            let mut end = end.lock();
                            file.write_at(&[0; 8], *end).unwrap();
                            *end += 8;
                            let reach = Reach { bytes: *end, below: *end / 8 };
                            syncer.wrote(reach, 1);
                            reach
                        };
                        syncer.sync_to(mine).unwrap();
                        assert!(
                            file.synced.load(Ordering::SeqCst) >= mine.bytes,
                            "returned before its bytes were synced"
                        );
                        assert!(syncer.synced_below.load(Ordering::SeqCst) >= mine.below);
                    }
                });
            }
        });
        assert_eq!(syncer.unsynced(), Unsynced { rows: 0, bytes: 0 });
        let syncs = syncs.load(Ordering::Relaxed);
        assert!(syncs < (writers * appends) as u64 / 2, "{syncs} syncs for {} appends", writers * appends);
    }

    #[test]
    fn a_failed_sync_poisons_everyone() {
        let file = Arc::new(SlowFile { fails: true, ..SlowFile::default() });
        let poison = Poison::default();
        let syncer = Syncer::new("wal".into(), file, NOTHING, poison.clone(), Arc::default());
        let reach = Reach { bytes: 8, below: 1 };
        syncer.wrote(reach, 1);
        let first = syncer.sync_to(reach).unwrap_err();
        assert!(matches!(&first, FileError::Poisoned { first } if first.contains("bad sector")), "{first}");
        assert!(syncer.sync_to(reach).is_err() && poison.check().is_err());
        assert_eq!(syncer.synced_below.load(Ordering::SeqCst), 0);
    }
}
