//! Syncs of one file, shared by all who wait for one.
//!
//! The first who comes leads: he notes how far the file is written, syncs without any lock, and wakes the others. Who
//! comes meanwhile waits; a sync that is under way when he comes began before his write and does not count for him, so
//! he may only ride on the next one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keplordb_disk::DiskFile;
use parking_lot::{Condvar, Mutex};

use super::poison::Poison;
use crate::error::{DbError, Result};

/// The sync side of a file that one writer appends to.
#[derive(Debug)]
pub(crate) struct Syncer {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    poison: Poison,
    /// Bytes that were written; set by the writer after each write returned.
    written: AtomicU64,
    /// Events that were written since the file was opened; set after `written`, so that whoever reads this first and
    /// `written` then has bytes for all the events.
    written_events: AtomicU64,
    /// Bytes that a completed sync covers: the watermark.
    durable: AtomicU64,
    /// Events that a completed sync covers.
    durable_events: AtomicU64,
    /// Whether somebody syncs at the moment.
    running: Mutex<bool>,
    done: Condvar,
    /// Syncs of the whole engine, for its statistics.
    syncs: Arc<AtomicU64>,
}

/// What a power cut could take of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsynced {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Syncer {
    /// For a file of which the first `durable` bytes are synced.
    pub(crate) fn new(
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        durable: u64,
        poison: Poison,
        syncs: Arc<AtomicU64>,
    ) -> Self {
        Self {
            path,
            file,
            poison,
            written: AtomicU64::new(durable),
            written_events: AtomicU64::new(0),
            durable: AtomicU64::new(durable),
            durable_events: AtomicU64::new(0),
            running: Mutex::new(false),
            done: Condvar::new(),
            syncs,
        }
    }

    /// The one writer says how far the file reaches, after its write returned, and how many events that added.
    pub(crate) fn wrote(&self, end: u64, events: u64) {
        self.written.store(end, Ordering::Release);
        self.written_events.fetch_add(events, Ordering::Release);
    }

    /// What was written and is not covered by a completed sync.
    pub(crate) fn unsynced(&self) -> Unsynced {
        let since = |written: &AtomicU64, durable: &AtomicU64| {
            written.load(Ordering::Relaxed).saturating_sub(durable.load(Ordering::Relaxed))
        };
        Unsynced {
            events: since(&self.written_events, &self.durable_events),
            bytes: since(&self.written, &self.durable),
        }
    }

    /// Bytes that a completed sync covers.
    pub(crate) fn durable_upto(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Returns when the first `end` bytes, which were written before, are on disk.
    pub(crate) fn sync_to(&self, end: u64) -> Result<()> {
        let mut running = self.running.lock();
        loop {
            if self.durable_upto() >= end {
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
        let covers_events = self.written_events.load(Ordering::Acquire);
        let covers = self.written.load(Ordering::Acquire);
        let outcome = self.file.sync();
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let outcome = match outcome {
            Ok(()) => {
                self.durable_events.fetch_max(covers_events, Ordering::AcqRel);
                self.durable.fetch_max(covers, Ordering::AcqRel);
                Ok(())
            }
            Err(source) => Err(self.poison.set(&DbError::io("sync", &self.path, source))),
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
        let syncer = Syncer::new("wal".into(), file.clone(), 0, Poison::default(), Arc::clone(&syncs));
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
                            syncer.wrote(*end, 1);
                            *end
                        };
                        syncer.sync_to(mine).unwrap();
                        assert!(
                            file.synced.load(Ordering::SeqCst) >= mine,
                            "returned before its bytes were synced"
                        );
                    }
                });
            }
        });
        assert_eq!(syncer.unsynced(), Unsynced { events: 0, bytes: 0 });
        let syncs = syncs.load(Ordering::Relaxed);
        assert!(syncs < (writers * appends) as u64 / 2, "{syncs} syncs for {} appends", writers * appends);
    }

    #[test]
    fn a_failed_sync_poisons_everyone() {
        let file = Arc::new(SlowFile { fails: true, ..SlowFile::default() });
        let poison = Poison::default();
        let syncer = Syncer::new("wal".into(), file, 0, poison.clone(), Arc::default());
        syncer.wrote(8, 1);
        let first = syncer.sync_to(8).unwrap_err();
        assert!(matches!(&first, DbError::Poisoned { first } if first.contains("bad sector")), "{first}");
        assert!(syncer.sync_to(8).is_err() && poison.check().is_err());
    }
}
