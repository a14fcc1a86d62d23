//! What a log's directory says at one moment: which frames count, and which generation the active log is.
//!
//! A rotation moves a text from one file to another while others read. It cannot be seen half done here: the lengths of both
//! files and the journal are looked at until nothing changed in between.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keplordb_disk::Disk;
use parking_lot::Mutex;

use crate::catalog::{Catalog, Known};
use crate::error::{FoldError, at};
use crate::frames::Archive;
use crate::journal::Journal;
use crate::paths::Paths;
use crate::position::Position;

/// How often a directory is looked at that does not hold still, the first few times at once and then every millisecond. A
/// rotation changes it three times and waits for the disk in between.
const LOOKS_MAX: u32 = 2_000;
const LOOKS_AT_ONCE: u32 = 20;

/// What there is of a log's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Present {
    /// The first generation that was not pruned.
    pub(crate) first_generation: u64,
    /// The sequence of its first event.
    pub(crate) first_sequence: u64,
    /// The generation of the active log; all before it are in the archive.
    pub(crate) generation: u64,
    /// The length of the active log, with a torn tail and a batch that is not committed.
    pub(crate) log_bytes: u64,
    /// How much of the archive counts.
    pub(crate) archive_bytes: u64,
}

impl Present {
    /// Refuses a position that history has not come to.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn check_reached(&self, place: Position) -> io::Result<()> {
        let Position { generation, offset } = place;
        if (generation, offset) <= (self.generation, self.log_bytes) {
            return Ok(());
        }
        let value = format!("generation {generation} byte {offset}");
        let why = "the log has not come that far: take a position that was read from it";
        Err(FoldError::Invalid { what: "a position of the log", value, why }.into())
    }
}

/// What is present, and what it was seen by.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) present: Present,
    archive_file_bytes: u64,
    journal: Option<Journal>,
}

/// A directory, and what is known of its archive. A clone shares that.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    disk: Arc<dyn Disk>,
    paths: Arc<Paths>,
    catalog: Arc<Mutex<Catalog>>,
}

impl Directory {
    /// Touches nothing.
    pub(crate) fn new(disk: Arc<dyn Disk>, paths: Arc<Paths>) -> Self {
        Self { disk, paths, catalog: Arc::default() }
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn paths(&self) -> &Arc<Paths> {
        &self.paths
    }

    /// What is there. Five questions for lengths, as a rule; after a rotation the new frame's headers too.
    ///
    /// # Errors
    /// `NotFound` without an active log, `Damaged` if the files contradict each other.
    pub(crate) fn look(&self) -> io::Result<Look> {
        for n in 0..LOOKS_MAX {
            // The archive's length before the journal: a rotation that falls between journal and log then shows in the archive,
            // which is looked at again behind them.
            let archive = self.bytes(&self.paths.archive)?;
            let journal = Journal::read(&*self.disk, &self.paths)?;
            let log_bytes = self.bytes(&self.paths.log)?;
            let archive_after = self.bytes(&self.paths.archive)?;
            let journal_after = Journal::read(&*self.disk, &self.paths)?;
            let log_bytes =
                log_bytes.ok_or_else(|| at("find", &self.paths.log)(io::ErrorKind::NotFound.into()))?;
            let is_under_way = journal.as_ref().is_some_and(|journal| !journal.is_cut(log_bytes));
            // While the frame is being written the archive grows, which then does not matter.
            if journal == journal_after && (archive == archive_after || is_under_way) {
                let judged = self.judge(archive_after.unwrap_or(0), journal, log_bytes);
                // Pruning puts a shorter archive in its place, which contradicts the length of the one before.
                if judged.is_ok() || self.bytes(&self.paths.archive)? == archive_after {
                    return judged;
                }
            }
            if n >= LOOKS_AT_ONCE {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let source = io::Error::other("it changes without pause");
        Err(at("look at", &self.paths.dir)(source))
    }

    fn bytes(&self, path: &std::path::Path) -> io::Result<Option<u64>> {
        self.disk.bytes(path).map_err(at("look for", path))
    }

    /// Which bytes count, by the lengths of the files and the journal.
    fn judge(&self, archive_file_bytes: u64, journal: Option<Journal>, log_bytes: u64) -> io::Result<Look> {
        let damaged = |file: &std::path::Path, offset, what: String| {
            Err(FoldError::Damaged { file: file.to_owned(), offset, what }.into())
        };
        let (archive_bytes, generation) = match &journal {
            None => (archive_file_bytes, None),
            Some(journal) if archive_file_bytes < journal.archive_bytes => {
                let what = format!("it had {} bytes when the last rotation began", journal.archive_bytes);
                return damaged(&self.paths.archive, archive_file_bytes, what);
            }
            Some(journal) if journal.is_cut(log_bytes) => (archive_file_bytes, Some(journal.generation + 1)),
            Some(journal) => (journal.archive_bytes, Some(journal.generation)),
        };
        let mut catalog = self.catalog.lock();
        let behind = catalog.follow(&*self.disk, &self.paths, archive_file_bytes, archive_bytes)?;
        let present = Present {
            first_generation: catalog.pruned().generations,
            first_sequence: catalog.pruned().events,
            generation: behind,
            log_bytes,
            archive_bytes,
        };
        if let Some(generation) = generation.filter(|generation| *generation != present.generation) {
            let what = format!(
                "its rotation leads to generation {generation}, and the archive to {}: one of them, or {}, was changed since",
                present.generation,
                self.paths.log.display()
            );
            return damaged(&self.paths.journal, 0, what);
        }
        Ok(Look { present, archive_file_bytes, journal })
    }

    /// Whether the active log still is of the generation that it was when this was seen. What was read from it before this
    /// call then was of that generation. One question, as a rule; `false` may be wrong and asks to look again.
    pub(crate) fn holds(&self, look: &Look) -> io::Result<bool> {
        // A rotation lengthens the archive before it cuts the log. Where one was under way already, that has happened before.
        Ok(look.journal.is_none() && self.bytes(&self.paths.archive)?.unwrap_or(0) == look.archive_file_bytes)
    }

    /// The archive and its frames of the generations `first..end`, of which none was pruned and all are archived.
    ///
    /// # Errors
    /// `Pruned`, if that is no longer so.
    pub(crate) fn archived(&self, first: u64, end: u64) -> io::Result<(Archive, Vec<Known>)> {
        let catalog = self.catalog.lock();
        let pruned = catalog.pruned();
        let count = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX);
        match (catalog.archive(), catalog.frames_from(first).get(..count)) {
            (Some(archive), Some(frames)) if first >= pruned.generations => {
                Ok((archive.clone(), frames.to_vec()))
            }
            _ => Err(FoldError::Pruned { first: pruned.events }.into()),
        }
    }

    /// Where the last frame of the archive begins if the file ends within it. To be asked when no rotation is under way: then
    /// another program was stopped while it wrote the frame, and its text is in the active log.
    ///
    /// # Errors
    /// `Damaged` if that frame was whole once, or others begin behind it.
    pub(crate) fn torn_frame(&self) -> io::Result<Option<u64>> {
        let bytes = self.bytes(&self.paths.archive)?.unwrap_or(0);
        Catalog::default().walk_to(&*self.disk, &self.paths, bytes)
    }

    /// What is known of the archive, for as long as the lock is held.
    pub(crate) fn catalog(&self) -> parking_lot::MutexGuard<'_, Catalog> {
        self.catalog.lock()
    }
}
