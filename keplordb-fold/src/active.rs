//! The append side of the active log: what every write to it goes through, so that it always ends behind a whole line.
//!
//! An append is one write of whole lines at the end, wherever that is. It happens in a turn that is taken among all writers; if the
//! log is not as this writer left it, others were there, and its end is mended first. A write that failed is cut back; after a failed
//! sync nobody knows what is on the disk, and the writer refuses to go on.

use std::io;
use std::sync::Arc;

use keplordb_disk::{AppendFile, Disk, DiskFile, LockFile};

use crate::error::{FoldError, at};
use crate::history::History;
use crate::lines::UNCOMMITTED;
use crate::options::{LockMode, SyncPolicy};
use crate::paths::Paths;
use crate::recovery;
use crate::session::{Session, Unfinished};
use crate::tail::{Cause, Tail};
use crate::turn::{Turn, Turns, lock_log, make};

/// How often an append is tried that another program's unfinished line came before.
const GLUED_TRIES: usize = 3;

/// The session's mark is moved on when so much more is synced: what lies before it is never taken for what a crash left. It costs a sync.
/// In tests of this crate it is moved often.
const MARK_DISTANCE_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 4 << 20 };

/// The active log of one writer.
#[derive(Debug)]
pub(crate) struct Active {
    disk: Arc<dyn Disk>,
    paths: Arc<Paths>,
    /// What is known of the log's history, which readers share.
    history: History,
    mode: LockMode,
    policy: SyncPolicy,
    file: Arc<dyn DiskFile>,
    appender: Arc<dyn AppendFile>,
    turns: Turns,
    session: Session,
    in_session: bool,
    /// Where the mark of the session is.
    marked: u64,
    /// Where the log ended when this writer last looked, behind a newline.
    end: u64,
    /// Up to where it was when it was last synced.
    synced: u64,
    unsynced_events: u64,
    unsynced_bytes: u64,
    /// The archive's length at the last look: another tells that somebody rotated since.
    archive_bytes: Option<u64>,
    is_poisoned: bool,
    /// The last field, so that it is given back when all is done.
    _lock: Option<Arc<dyn LockFile>>,
}

impl Active {
    /// Opens the log for appending, making it and its directory where they are missing; locks it, ends a rotation that a crash
    /// interrupted, and mends its end.
    pub(crate) fn open(history: &History, mode: LockMode) -> io::Result<Self> {
        let (disk, paths) = (history.disk(), history.paths());
        disk.create_dir(&paths.views).map_err(at("create", &paths.views))?;
        make(disk.as_ref(), &paths.log)?;
        let lock = match mode {
            LockMode::Flock => Some(lock_log(disk.as_ref(), paths)?),
            LockMode::None => None,
        };
        let mut active = Self {
            disk: Arc::clone(disk),
            paths: Arc::clone(paths),
            history: history.clone(),
            mode,
            policy: SyncPolicy::default(),
            file: disk.open(&paths.log).map_err(at("open", &paths.log))?,
            appender: disk.open_append(&paths.log).map_err(at("open", &paths.log))?,
            turns: Turns::open(disk.as_ref(), paths, mode)?,
            session: Session::open(disk, paths)?,
            in_session: false,
            marked: 0,
            end: 0,
            synced: 0,
            unsynced_events: 0,
            unsynced_bytes: 0,
            archive_bytes: None,
            is_poisoned: false,
            _lock: lock,
        };
        let turn = active.turn()?;
        active.end_rotation()?;
        recovery::mend_archive(history)?;
        match active.session.unfinished()? {
            Some(Unfinished { from, is_doubtful }) => {
                // A rotation begins the session anew, so the log is shorter only if others cut it.
                let from = if from <= active.bytes()? { from } else { 0 };
                let forget = |damaged| recovery::forget_views(history, damaged);
                active.end = active.tail().mend_after(from, Cause::Crash, &forget)?;
                history.forget_counts();
                if is_doubtful {
                    active.tail().write_again(from)?;
                }
                active.file.sync().map_err(at("sync", &paths.log))?;
                // All of that is looked at, and durable.
                active.session.begin(active.end)?;
                (active.in_session, active.marked, active.synced) = (true, active.end, active.end);
            }
            None => active.end = active.tail().mend(u64::MAX, Cause::Others)?,
        }
        active.archive_bytes = active.archive_bytes()?;
        drop(turn);
        Ok(active)
    }

    pub(crate) fn set_policy(&mut self, policy: SyncPolicy) {
        self.policy = policy;
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn paths(&self) -> &Arc<Paths> {
        &self.paths
    }

    pub(crate) fn file(&self) -> &dyn DiskFile {
        self.file.as_ref()
    }

    /// The log's length, as it is now.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        self.file.bytes().map_err(at("read", &self.paths.log))
    }

    /// Where the log ended when this writer last had its turn.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Waits until no other writer is at it.
    pub(crate) fn turn(&self) -> io::Result<Turn> {
        self.turns.take()
    }

    /// Looks, in a turn, what became of the log since the last one, and mends it: then it [ends](Self::end) behind a newline, and
    /// no rotation is half done.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        self.check()?;
        let bytes = self.bytes()?;
        if bytes == self.end && (self.mode == LockMode::Flock || !self.is_rotated()?) {
            return Ok(());
        }
        // Others rotate too, and may have come to their end in the middle of it.
        self.end_rotation()?;
        // After another's rotation nothing here was looked at.
        let archive_bytes = self.archive_bytes()?;
        let is_same = archive_bytes == self.archive_bytes && bytes >= self.end;
        self.end = self.tail().mend(if is_same { self.end } else { 0 }, Cause::Others)?;
        self.archive_bytes = archive_bytes;
        Ok(())
    }

    /// Whether others rotated since the last look, or came to their end within a rotation.
    fn is_rotated(&self) -> io::Result<bool> {
        let journal = &self.paths.journal;
        Ok(self.archive_bytes()? != self.archive_bytes
            || self.disk.bytes(journal).map_err(at("look for", journal))?.is_some())
    }

    fn archive_bytes(&self) -> io::Result<Option<u64>> {
        let archive = &self.paths.archive;
        self.disk.bytes(archive).map_err(at("look for", archive))
    }

    /// Ends, in a turn, a rotation that did not come to its end. Returns whether it was forward.
    pub(crate) fn end_rotation(&self) -> io::Result<bool> {
        let is_cut = recovery::end_rotation(self.disk.as_ref(), &self.paths, self.file.as_ref())?;
        if is_cut {
            self.begin_anew()?;
        }
        Ok(is_cut)
    }

    /// Notes, where a writer is at work, that what is appended begins at 0 again.
    fn begin_anew(&self) -> io::Result<()> {
        match self.session.unfinished()? {
            Some(Unfinished { is_doubtful: true, .. }) => self.session.doubt(0),
            Some(_) => self.session.begin(0),
            None => Ok(()),
        }
    }

    /// Appends, in a turn, whole lines of so many events, and syncs them if the policy says so. Returns where they begin.
    pub(crate) fn append(&mut self, lines: &[u8], events: u64) -> io::Result<u64> {
        self.begin()?;
        let start = self.put(lines)?;
        self.count(events, lines)?;
        Ok(start)
    }

    /// As [`append`](Self::append), if the log ends there as this writer saw it, and no other program's line comes before these.
    /// Returns whether it did; if not, nothing was appended.
    pub(crate) fn append_at(&mut self, end: u64, lines: &[u8], events: u64) -> io::Result<bool> {
        self.begin()?;
        if self.end != end {
            return Ok(false);
        }
        let start = self.write(lines)?;
        if start != end {
            self.take_back(start, lines)?;
            return Ok(false);
        }
        self.end = start + lines.len() as u64;
        self.count(events, lines)?;
        Ok(true)
    }

    /// As [`append`](Self::append), so that after a crash all of the lines are there or none, and readers too see all or none.
    ///
    /// The first byte of the lines, a '{', is written as '#', which is the end of the log for whoever reads; setting it right is the
    /// commit. Where the policy has so much synced at once, the lines are before that too.
    pub(crate) fn append_batch(&mut self, mut lines: Vec<u8>, events: u64) -> io::Result<u64> {
        self.begin()?;
        let Some(first) = lines.first_mut() else { return Ok(self.end) };
        let begins_with = std::mem::replace(first, UNCOMMITTED);
        let start = self.put(&lines)?;
        if self.policy.is_due(events, lines.len() as u64) {
            self.sync_file()?;
        }
        self.synced = self.synced.min(start);
        if let Err(error) = self.file.write_at(&[begins_with], start) {
            // It may be there all the same.
            let mut found = [UNCOMMITTED];
            if let (Ok(1), Some(first)) = (self.file.read_at(&mut found, start), lines.first_mut())
                && found == [begins_with]
            {
                *first = begins_with;
            }
            self.take_back(start, &lines)?;
            return Err(at("commit a batch in", &self.paths.log)(error));
        }
        self.count(events, &lines)?;
        Ok(start)
    }

    /// Makes durable all that was appended.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.check()?;
        self.sync_file()
    }

    /// Empties the log, in a turn, durably.
    pub(crate) fn empty(&mut self) -> io::Result<()> {
        // Nothing comes between the look at its length, a moment ago, and the cut. Were the power to fail before the note, the log would
        // be shorter than what it says.
        let emptied = self.file.truncate(0).and_then(|()| self.file.sync()).and_then(|()| self.begin_anew());
        if emptied.is_err() {
            return Err(self.poison());
        }
        (self.end, self.synced, self.marked) = (0, 0, 0);
        // If it cannot be asked for, the next look is a longer one.
        self.archive_bytes = self.archive_bytes().ok().flatten();
        (self.unsynced_events, self.unsynced_bytes) = (0, 0);
        Ok(())
    }

    /// Refuses to go on: what is on the disk is not known.
    pub(crate) fn poison(&mut self) -> io::Error {
        if !self.is_poisoned {
            self.is_poisoned = true;
            // If even that fails, what the system shows may be what is not on the disk, as after every failed sync.
            let _ = self.session.doubt(self.synced.min(self.end));
        }
        FoldError::Poisoned { file: self.paths.log.clone() }.into()
    }

    fn check(&self) -> io::Result<()> {
        if self.is_poisoned {
            Err(FoldError::Poisoned { file: self.paths.log.clone() }.into())
        } else {
            Ok(())
        }
    }

    fn tail(&self) -> Tail<'_> {
        Tail { disk: self.disk.as_ref(), paths: &self.paths, file: self.file.as_ref() }
    }

    /// Looks, and notes that this writer is at work.
    fn begin(&mut self) -> io::Result<()> {
        self.look()?;
        // Where there may be others, one of them may have closed.
        let is_open = |active: &Self| active.session.unfinished().map(|from| from.is_some());
        if self.in_session && (self.mode == LockMode::Flock || is_open(self)?) {
            return Ok(());
        }
        if self.mode == LockMode::Flock || !is_open(self)? {
            // All before it counts as synced from now on.
            self.sync_file()?;
            self.session.begin(self.end)?;
        }
        (self.in_session, self.marked) = (true, self.end);
        Ok(())
    }

    /// Writes lines at the end, where they are lines: not behind the unfinished one of another program.
    fn put(&mut self, lines: &[u8]) -> io::Result<u64> {
        for _ in 0..GLUED_TRIES {
            let start = self.write(lines)?;
            let is_line = start == self.end || self.is_behind_newline(start)?;
            if is_line {
                self.end = start + lines.len() as u64;
                return Ok(start);
            }
            self.take_back(start, lines)?;
            self.look()?;
        }
        let busy =
            io::Error::new(io::ErrorKind::ResourceBusy, "another program writes unfinished lines there");
        Err(at("append to", &self.paths.log)(busy))
    }

    /// Writes lines at the end, wherever that is.
    fn write(&mut self, lines: &[u8]) -> io::Result<u64> {
        match self.appender.append(lines) {
            Ok(start) => Ok(start),
            Err(error) => {
                self.take_back(self.end, lines)?;
                Err(at("append to", &self.paths.log)(error))
            }
        }
    }

    /// Cuts off what was written from `start` on, a beginning of these lines, durably. Refuses to go on if that fails, or if
    /// others wrote there too.
    fn take_back(&mut self, start: u64, lines: &[u8]) -> io::Result<()> {
        // Readers may have counted them.
        self.history.forget_counts();
        let cut = |active: &Self| -> io::Result<()> {
            let bytes = active.file.bytes()?;
            if bytes <= start {
                return Ok(());
            }
            let written = usize::try_from(bytes - start).unwrap_or(usize::MAX);
            let mut found = vec![0; written.min(lines.len() + 1)];
            let read = active.file.read_at(&mut found, start)?;
            if !lines.starts_with(found.get(..read).unwrap_or_default()) {
                return Err(io::Error::other("others wrote there too"));
            }
            active.file.truncate(start)?;
            active.file.sync()
        };
        cut(self).map_err(|_| self.poison())?;
        self.end = self.end.min(start);
        Ok(())
    }

    fn is_behind_newline(&self, offset: u64) -> io::Result<bool> {
        let Some(before) = offset.checked_sub(1) else { return Ok(true) };
        let mut byte = [0];
        self.file.read_at(&mut byte, before).map_err(at("read", &self.paths.log))?;
        Ok(byte == *b"\n")
    }

    /// Counts what was appended, and syncs if the policy says so.
    fn count(&mut self, events: u64, lines: &[u8]) -> io::Result<()> {
        self.unsynced_events += events;
        self.unsynced_bytes += lines.len() as u64;
        if self.policy.is_due(self.unsynced_events, self.unsynced_bytes) {
            self.sync_file()?;
            self.advance_mark();
        }
        Ok(())
    }

    /// Moves the session's mark on, if it is time. Where there may be other writers it is theirs too, and stays.
    fn advance_mark(&mut self) {
        let is_time = self.end.saturating_sub(self.marked) >= MARK_DISTANCE_BYTES;
        if !is_time || !self.in_session || self.mode != LockMode::Flock {
            return;
        }
        match self.session.advance(self.end) {
            Ok(()) => self.marked = self.end,
            Err(error) => {
                // What was appended is durable. The next append begins a session, or fails by what this failed by.
                tracing::warn!(%error, "where the log is known to be synced was not noted");
                self.in_session = false;
            }
        }
    }

    fn sync_file(&mut self) -> io::Result<()> {
        if self.file.sync().is_err() {
            return Err(self.poison());
        }
        self.synced = self.end;
        (self.unsynced_events, self.unsynced_bytes) = (0, 0);
        Ok(())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.is_poisoned || !self.in_session {
            return;
        }
        let Ok(_turn) = self.turn() else { return };
        let is_synced = self.synced == self.end && self.unsynced_bytes == 0;
        if !is_synced && (self.policy == SyncPolicy::Never || self.sync_file().is_err()) {
            return;
        }
        // Others may be at work where nobody keeps them away, and whoever wants no lock may be at it beside one who has it. What
        // cannot be noted costs the next opening a look.
        if self.mode == LockMode::Flock && matches!(self.bytes(), Ok(bytes) if bytes == self.end) {
            let _ = self.session.end();
        }
    }
}

#[cfg(test)]
mod tests;
