//! `EventWriter`: appends events, one by one or as a batch, on conditions or not, and rotates the log.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use keplordb_disk::{Disk, RealDisk};
use xxhash_rust::xxh64::xxh64;

use crate::active::Active;
use crate::ahead::LINE_BYTES_MAX;
use crate::append::{
    AppendConflict, AppendResult, ConditionalAppendError, SequencedAppendError, UniqueAppend, Version,
};
use crate::error::FoldError;
use crate::event::Event;
use crate::options::{LockMode, SyncPolicy};
use crate::paths::Paths;
use crate::position::Position;
use crate::reader::EventReader;
use crate::recovery;
use crate::rotation;
use crate::unique::Window;
use crate::view::ViewOps;

/// What came before an active log that is empty.
enum Before {
    /// Nothing ever did.
    Nothing,
    /// The log had this version before the rotation that emptied it.
    Archived(Version),
    /// All of it was pruned, and nobody can know a version of it.
    Pruned,
}

/// How many of the latest events [`append_unique`](EventWriter::append_unique) looks through unless told otherwise.
const UNIQUE_EVENTS: usize = 10_000;

/// A rotation that failed is tried again when the log has grown by its largest size divided by this.
const ROTATION_GROWTH: u64 = 8;

/// The appending side of a log.
///
/// With [`LockMode::Flock`], which is the default, it is the only one: it has an exclusive lock of `app.jsonl` until it is dropped.
/// Events are durable when an append returns, unless [`set_sync_policy`](Self::set_sync_policy) said otherwise.
///
/// Opening ends what a crash left half done: a rotation is finished or undone, a last line that lacks its newline gets it, and
/// what is no event is moved to `damaged/`.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use keplordb_fold::{Event, EventWriter};
/// use serde_json::json;
///
/// let mut writer = EventWriter::open(dir.path())?;
/// let result = writer.append(&Event::new("click", json!({"x": 3})))?;
/// assert_eq!(result.end_offset, writer.active_log_size()?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors of every append
/// - A full disk, or another failed write: nothing was appended, and the log is as it was.
/// - [`FoldError::Poisoned`]: a sync failed, or a failed write could not be taken back. The event may be in the log or not, and the writer
///   takes no others; opening the log anew finds out.
/// - `InvalidData`: the event cannot be JSON, has more than 126 levels of arrays and objects, or is over 1 GiB as a line.
pub struct EventWriter {
    active: Active,
    reader: EventReader,
    pub(crate) max_log_size: u64,
    /// From which length on an automatic rotation is tried again that failed.
    rotate_from: u64,
    /// What the log was before the last rotation.
    rotated: Option<Version>,
    unique: Window,
    /// Where the log ended when its events were last counted, and how many there were.
    counted: Option<(Position, u64)>,
}

impl EventWriter {
    /// Opens a log for appending, and makes it where there is none: the directory with its parents, `views/` and `app.jsonl`. Takes the
    /// lock: [`open_with_lock`](Self::open_with_lock) with [`LockMode::Flock`].
    ///
    /// # Errors
    /// As [`open_with_lock`](Self::open_with_lock).
    pub fn open(dir: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_with_lock(dir, LockMode::Flock)
    }

    /// As [`open`](Self::open), and says whether other writers are kept away.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{EventWriter, LockMode};
    ///
    /// let first = EventWriter::open(dir.path())?;
    /// let refused = EventWriter::open(dir.path()).unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
    /// drop(first);
    /// let _several = [0, 1].map(|_| EventWriter::open_with_lock(dir.path(), LockMode::None));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `AlreadyExists` with [`FoldError::Locked`] at once, if another writer has the lock, in this process too. `Unsupported` or another
    /// kind where the file system has no locks: [`LockMode::None`] does without. Else what a file operation says.
    pub fn open_with_lock(dir: impl AsRef<Path>, lock: LockMode) -> io::Result<Self> {
        Self::with_disk(Arc::new(RealDisk), dir.as_ref(), lock)
    }

    /// As [`open_with_lock`](Self::open_with_lock), on any disk.
    pub(crate) fn with_disk(disk: Arc<dyn Disk>, dir: &Path, lock: LockMode) -> io::Result<Self> {
        let reader = EventReader::with_disk(disk, dir);
        let active = Active::open(reader.history(), lock)?;
        let unique = Window::new(UNIQUE_EVENTS);
        Ok(Self { active, reader, max_log_size: 0, rotate_from: 0, rotated: None, unique, counted: None })
    }

    /// Says when appended events are synced; [`SyncPolicy::Each`] until then. What was appended before is synced by the next sync.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventWriter, SyncPolicy};
    /// use serde_json::json;
    ///
    /// let mut writer = EventWriter::open(dir.path())?;
    /// writer.set_sync_policy(SyncPolicy::OnDemand);
    /// for n in 0..1000 {
    ///     writer.append(&Event::new("imported", json!(n)))?;
    /// }
    /// writer.sync()?; // one sync for all
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_sync_policy(&mut self, policy: SyncPolicy) {
        self.active.set_policy(policy);
    }

    /// Says how many of the latest events [`append_unique`](Self::append_unique) looks through, 10,000 by default. It keeps their ids in
    /// memory.
    pub fn set_unique_window(&mut self, events: usize) {
        self.unique = Window::new(events);
    }

    /// Appends an event: one line, written at once. Durable when this returns, by default. Cost: one write and one sync.
    ///
    /// This writer never rotates by itself; an [`EventLog`](crate::EventLog) does.
    ///
    /// # Errors
    /// Those [of every append](Self#errors-of-every-append).
    pub fn append(&mut self, event: &Event) -> io::Result<AppendResult> {
        let line = to_line(event)?;
        let turn = self.active.turn()?;
        let start = self.active.append(&line, 1)?;
        drop(turn);
        Ok(result_of(&line, start))
    }

    /// Appends events so that all of them are in the log or none, whatever happens meanwhile: a crash, a full disk, or a reader that
    /// looks. They stand one behind the other. Durable when this returns, by default.
    ///
    /// Cost: two writes and two syncs for all together, of which the second commits. Where the [`SyncPolicy`] lets so
    /// much stay unsynced there is no sync in between: then all of them or none are there if the process is killed, and after a power cut whatever was not synced
    /// may be there in part.
    ///
    /// While it runs a program that reads the file by itself sees a line that begins with '#'; so it does after a crash, until a
    /// writer opens the log.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventWriter};
    /// use serde_json::json;
    ///
    /// let mut writer = EventWriter::open(dir.path())?;
    /// let transfer = [
    ///     Event::new("withdrawn", json!({"account": 1, "cents": 500})),
    ///     Event::new("deposited", json!({"account": 2, "cents": 500})),
    /// ];
    /// let results = writer.append_batch(&transfer)?;
    /// assert_eq!(results[1].start_offset, results[0].end_offset);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those [of every append](Self#errors-of-every-append), which hold for the whole batch.
    pub fn append_batch(&mut self, events: &[Event]) -> io::Result<Vec<AppendResult>> {
        let mut lines = Vec::new();
        let mut ends = Vec::with_capacity(events.len());
        for event in events {
            write_line(event, &mut lines)?;
            ends.push(lines.len());
        }
        let mut results = results_of(&lines, &ends);
        if let [event] = events {
            return Ok(vec![self.append(event)?]);
        }
        let turn = self.active.turn()?;
        let start = self.active.append_batch(lines, events.len() as u64)?;
        drop(turn);
        for result in &mut results {
            result.start_offset += start;
            result.end_offset += start;
        }
        Ok(results)
    }

    /// Appends lines of so many events, each for itself, with one write and at most one sync. Returns where they begin.
    pub(crate) fn append_lines(&mut self, lines: &[u8], events: u64) -> io::Result<u64> {
        let _turn = self.active.turn()?;
        self.active.append(lines, events)
    }

    /// Appends an event if the log is as the caller knows it: `expected_offset` bytes long, its last line having `expected_hash`. Those
    /// are the `end_offset` and the `line_hash` of what was appended last; 0 and any hash stand for a log in which nothing ever was.
    /// Where all that ever was has been pruned, nobody knows a version, and every one is a conflict.
    ///
    /// A rotation in between changes nothing: the version from before it counts as long as nothing was appended since. To name a state of
    /// the log by one number that no rotation changes, there is [`append_if_seq`](Self::append_if_seq).
    ///
    /// # Errors
    /// `Conflict` if something else was appended; nothing is written then. `Io` with those
    /// [of every append](Self#errors-of-every-append).
    pub fn append_if(
        &mut self,
        event: &Event,
        expected_offset: u64,
        expected_hash: &str,
    ) -> Result<AppendResult, ConditionalAppendError> {
        let line = to_line(event)?;
        let _turn = self.active.turn()?;
        let conflict = |actual_offset, actual_hash| {
            let expected_hash = expected_hash.to_owned();
            ConditionalAppendError::Conflict(AppendConflict {
                expected_offset,
                actual_offset,
                expected_hash,
                actual_hash,
            })
        };
        loop {
            self.active.look()?;
            let end = self.active.end();
            if end == 0 {
                let (is_expected, actual) = match self.before()? {
                    Before::Nothing => (expected_offset == 0, None),
                    Before::Pruned => (false, None),
                    Before::Archived(Version { end, hash }) => {
                        (end.offset == expected_offset && hash == expected_hash, Some((end.offset, hash)))
                    }
                };
                if !is_expected {
                    let (actual_offset, actual_hash) = actual.unzip();
                    return Err(conflict(actual_offset.unwrap_or(0), actual_hash));
                }
            } else if end != expected_offset {
                return Err(conflict(end, None));
            } else {
                let actual_hash = self.reader.read_line_hash_before(end)?.unwrap_or_default();
                if actual_hash != expected_hash {
                    return Err(conflict(end, Some(actual_hash)));
                }
            }
            // If not, another program's line came in between.
            if self.active.append_at(end, &line, 1)? {
                return Ok(result_of(&line, end));
            }
        }
    }

    /// Appends an event if there are exactly so many in the log, archived and pruned ones too: the sequence that it will have.
    ///
    /// Cost: as [`append`](Self::append), and counting the events that this writer has not counted, the first time all of the active log.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventWriter, SequencedAppendError};
    /// use serde_json::json;
    ///
    /// let mut writer = EventWriter::open(dir.path())?;
    /// writer.append_if_seq(&Event::new("opened", json!({})), 0)?;
    /// let refused = writer.append_if_seq(&Event::new("opened", json!({})), 0);
    /// assert!(matches!(refused, Err(SequencedAppendError::Conflict { expected: 0, actual: 1 })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Conflict` if there are more or fewer; nothing is written then. `Io` with those
    /// [of every append](Self#errors-of-every-append).
    pub fn append_if_seq(
        &mut self,
        event: &Event,
        expected: u64,
    ) -> Result<AppendResult, SequencedAppendError> {
        let line = to_line(event)?;
        let _turn = self.active.turn()?;
        loop {
            self.active.look()?;
            let history = self.reader.history();
            let end = Position { generation: history.present()?.generation, offset: self.active.end() };
            let actual = match self.counted {
                Some((counted, events)) if counted == end => events,
                _ => history.sequence_of(end)?,
            };
            self.counted = Some((end, actual));
            if actual != expected {
                return Err(SequencedAppendError::Conflict { expected, actual });
            }
            if self.active.append_at(end.offset, &line, 1)? {
                let result = result_of(&line, end.offset);
                self.counted = Some((Position { offset: result.end_offset, ..end }, actual + 1));
                return Ok(result);
            }
        }
    }

    /// Appends an event unless one with its id is among the latest in the log, archived ones too: so an append that may have
    /// happened can be tried again. How far it looks is [`set_unique_window`](Self::set_unique_window).
    ///
    /// Cost: as [`append`](Self::append), and reading what others appended since the last call; the first time the whole window.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventWriter, UniqueAppend};
    /// use serde_json::json;
    ///
    /// let mut writer = EventWriter::open(dir.path())?;
    /// let payment = Event::new("paid", json!({"cents": 500})).with_id("order-7");
    /// assert!(matches!(writer.append_unique(&payment)?, UniqueAppend::Appended(_)));
    /// assert!(matches!(writer.append_unique(&payment)?, UniqueAppend::Duplicate { .. }));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if the event has no id. Else those [of every append](Self#errors-of-every-append).
    pub fn append_unique(&mut self, event: &Event) -> io::Result<UniqueAppend> {
        let Some(id) = &event.id else {
            let why = "without one nobody can tell whether it is there";
            return Err(
                FoldError::Invalid { what: "the id of a unique event", value: String::new(), why }.into()
            );
        };
        let line = to_line(event)?;
        let _turn = self.active.turn()?;
        loop {
            self.active.look()?;
            let end = self.active.end();
            if let Some(at) = self.unique.find(self.reader.history(), id)? {
                return Ok(UniqueAppend::Duplicate { at });
            }
            if self.active.append_at(end, &line, 1)? {
                return Ok(UniqueAppend::Appended(result_of(&line, end)));
            }
        }
    }

    /// Makes durable all that was appended. With [`SyncPolicy::Each`] it is already.
    ///
    /// # Errors
    /// [`FoldError::Poisoned`] if it fails or an earlier one did.
    pub fn sync(&mut self) -> io::Result<()> {
        self.active.sync()
    }

    /// Moves the active log into the archive: one zstd frame, in which every event keeps its place in history. An empty log is left
    /// as it is.
    ///
    /// The views are refreshed before, and go on with the next generation; those that are not in the map miss nothing, they find the
    /// events in the archive. A crash at any moment leaves the log as before or as after: a journal tells the next writer, and
    /// readers meanwhile, which it is.
    ///
    /// Cost: reads and compresses the whole log, in memory; about eight syncs, and two for each view.
    ///
    /// # Errors
    /// What refreshing a view says, or a file operation: the log is as it was, unless it is [`FoldError::Poisoned`]. `ResourceBusy` if
    /// other programs append without pause. If a snapshot cannot be written the rotation is done all the same, and the snapshot from
    /// before it stays good.
    pub fn rotate(
        &mut self,
        reader: &EventReader,
        views: &mut HashMap<String, Box<dyn ViewOps>>,
    ) -> io::Result<()> {
        let (rotated, outcome) = rotation::rotate(&mut self.active, reader.history(), views);
        if rotated.is_some() {
            self.rotated = rotated;
            self.rotate_from = 0;
        }
        outcome
    }

    /// What came before a log that is empty.
    fn before(&mut self) -> io::Result<Before> {
        let history = self.reader.history();
        let present = history.present()?;
        let Some(generation) = present.generation.checked_sub(1) else { return Ok(Before::Nothing) };
        if let Some(rotated) = self.rotated.as_ref().filter(|rotated| rotated.end.generation == generation) {
            return Ok(Before::Archived(rotated.clone()));
        }
        if generation < present.first_generation {
            return Ok(Before::Pruned);
        }
        let end = Position { generation, offset: history.facts(generation)?.text_bytes };
        let version = Version { end, hash: history.hash_before(end)?.unwrap_or_default() };
        self.rotated = Some(version.clone());
        Ok(Before::Archived(version))
    }

    /// Whether the log has reached its largest size.
    pub(crate) fn is_large(&self) -> bool {
        self.max_log_size > 0 && self.active.end() >= self.max_log_size
    }

    /// Whether it has, and a rotation was not tried just before.
    pub(crate) fn is_to_be_rotated(&self) -> bool {
        self.is_large() && self.active.end() >= self.rotate_from
    }

    /// To be called before an automatic rotation: should it fail, or a reducer panic in it, the next one waits until the log has
    /// grown, since each try reads all of it.
    pub(crate) fn try_rotation(&mut self) {
        let growth = (self.max_log_size / ROTATION_GROWTH).max(1);
        self.rotate_from = self.active.end().saturating_add(growth);
    }

    /// Tells that it failed.
    pub(crate) fn tell_failed_rotation(&self, error: &io::Error) {
        tracing::warn!(
            dir = %self.dir().display(), %error, again_at_bytes = self.rotate_from,
            "the log was not rotated, which is tried again when it has grown"
        );
    }

    /// A reader of this log, which is cheap and may be moved to another thread.
    pub fn reader(&self) -> EventReader {
        self.reader.clone()
    }

    /// The directory, as it was given.
    pub fn dir(&self) -> &Path {
        &self.paths().dir
    }

    /// The active log: `app.jsonl` in the directory.
    pub fn log_path(&self) -> &Path {
        &self.paths().log
    }

    /// The archive: `archive.jsonl.zst` in the directory. There is none before the first rotation.
    pub fn archive_path(&self) -> &Path {
        &self.paths().archive
    }

    /// Where views keep their snapshots: `views` in the directory.
    pub fn views_dir(&self) -> &Path {
        &self.paths().views
    }

    /// The active log's length in bytes, as it is now.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn active_log_size(&self) -> io::Result<u64> {
        self.active.bytes()
    }

    /// Does something in a turn, when no rotation is half done.
    pub(crate) fn in_turn<T>(&mut self, work: impl FnOnce(&mut Active) -> io::Result<T>) -> io::Result<T> {
        let _turn = self.active.turn()?;
        self.active.look()?;
        let disk = Arc::clone(self.active.history().disk());
        recovery::end_rotation(disk.as_ref(), self.active.paths(), self.active.file())?;
        work(&mut self.active)
    }

    fn paths(&self) -> &Paths {
        self.active.paths()
    }
}

impl fmt::Debug for EventWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EventWriter")
            .field("log_path", &self.log_path())
            .field("archive_path", &self.archive_path())
            .field("views_dir", &self.views_dir())
            .field("max_log_size", &self.max_log_size)
            .finish_non_exhaustive()
    }
}

/// The line of an event, with its newline.
pub(crate) fn to_line(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(256);
    write_line(event, &mut line)?;
    Ok(line)
}

fn write_line(event: &Event, lines: &mut Vec<u8>) -> io::Result<()> {
    let refused = |why| {
        let value = event.event_type.clone();
        let refused = FoldError::Invalid { what: "an event to append", value, why };
        Err(io::Error::new(io::ErrorKind::InvalidData, refused))
    };
    if !event.is_readable() {
        return refused("it has more than 126 levels of arrays and objects, and could not be read back");
    }
    let begin = lines.len();
    serde_json::to_writer(&mut *lines, event)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    lines.push(b'\n');
    if lines.len() - begin > LINE_BYTES_MAX {
        return refused("its line has over 1 GiB, and could not be read back");
    }
    Ok(())
}

/// What the append of a line answers that begins there.
pub(crate) fn result_of(line: &[u8], start_offset: u64) -> AppendResult {
    let hash = xxh64(line.strip_suffix(b"\n").unwrap_or(line), 0);
    AppendResult {
        start_offset,
        end_offset: start_offset + line.len() as u64,
        line_hash: format!("{hash:016x}"),
    }
}

/// The same of several lines that end there, the first of which begins at 0.
fn results_of(lines: &[u8], ends: &[usize]) -> Vec<AppendResult> {
    let mut start = 0;
    ends.iter()
        .map(|&end| {
            let result = result_of(lines.get(start..end).unwrap_or_default(), start as u64);
            start = end;
            result
        })
        .collect()
}
