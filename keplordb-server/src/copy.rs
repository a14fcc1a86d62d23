//! Copies of a root: one as it is, for a backup, and one as it was, to try something else from there.
//!
//! Only the log, the schemas and the keys are copied: the files for other programs are made from the log, and the copy makes its own. Segments are
//! shared by hard links where the disk has them. `_meta` takes its name last, so a copy that was cut off is no root.

use std::path::Path;

use keplordb::{Budget, Filter, Reader, Start, Store};
use keplordb_disk::{Disk as _, RealDisk};

use crate::capture::Capture;
use crate::error::ServerError;
use crate::keys;
use crate::layout;
use crate::record::Event;

type Result<T> = std::result::Result<T, ServerError>;

/// Events that are deleted in a copy at a time.
const STEP: u64 = 4_000_000;

impl Capture {
    /// Copies the root as it is now into an empty or missing directory, which is then a root of its own; gives how many events it has.
    /// The server goes on meanwhile.
    ///
    /// On the same disk the copy shares its segments with the root: it helps against mistakes, and against a broken disk when it is
    /// copied to another one.
    ///
    /// Cost: what is in no segment yet is written as one; of the others names only, where the disk has hard links.
    ///
    /// # Errors
    /// [`Db`](ServerError::Db) when the directory is not empty or cannot be written to; [`Io`](ServerError::Io) likewise. What was written
    /// until then is no root.
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<u64> {
        let target = target.as_ref();
        self.copy_log(target)?;
        self.copy_meta(target)?;
        let copy = Reader::<Event>::open(layout::segments(target))?;
        Ok(copy.query(Filter::all()).totals()?.event_count)
    }

    /// As [`backup`](Self::backup), of the log as it was when the event with the sequence `until` was its last one. Gives how many events
    /// it has.
    ///
    /// What came later is deleted in the copy: no answer has it, and its bytes are in segments that are shared until they are merged.
    /// That takes 16 bytes of memory for each event.
    ///
    /// # Errors
    /// As [`backup`](Self::backup).
    pub fn fork(&self, target: impl AsRef<Path>, until: u64) -> Result<u64> {
        let target = target.as_ref();
        self.copy_log(target)?;
        let copy = Store::<Event>::open(layout::segments(target))?;
        let c = Event::cols();
        let place = |sequence: u64| i64::try_from(sequence).unwrap_or(i64::MAX);
        let mut begin = until;
        let last = self.store().tail(Start::Now).position();
        while begin < last {
            let end = begin.saturating_add(STEP);
            copy.delete_where(c.sequence.gt(place(begin)) & c.sequence.le(place(end)))?;
            begin = end;
        }
        copy.compact(Budget::UNLIMITED)?;
        let events = copy.stats().events;
        copy.close()?;
        self.copy_meta(target)?;
        Ok(events)
    }

    fn copy_log(&self, target: &Path) -> Result<()> {
        let refused = |op, source| ServerError::Io { file: target.to_owned(), op, source };
        RealDisk.create_dir(target).map_err(|source| refused("creating", source))?;
        let entries = RealDisk.list(target).map_err(|source| refused("listing", source))?;
        if !entries.is_empty() {
            return Err(ServerError::NotEmpty { dir: target.to_owned() });
        }
        Ok(self.store().checkpoint(layout::segments(target))?)
    }

    /// The schemas after the log, of whose events each was read by one of them.
    fn copy_meta(&self, target: &Path) -> Result<()> {
        let draft = target.join("_meta.draft");
        let schemas = draft.join("schemas");
        let refused = |file: &Path, op| {
            let file = file.to_owned();
            move |source| ServerError::Io { file, op, source }
        };
        RealDisk.create_dir(&schemas).map_err(refused(&schemas, "creating"))?;
        self.schemas().write(&schemas)?;
        // Whoever needs a key here needs it there.
        keys::copy(self.root(), &draft)?;
        RealDisk.sync_dir(&draft).map_err(refused(&draft, "syncing"))?;
        let meta = layout::meta(target);
        RealDisk.rename(&draft, &meta).map_err(refused(&meta, "renaming"))?;
        RealDisk.sync_dir(target).map_err(refused(target, "syncing"))
    }
}
