//! A copy of a log in another directory, on another file system perhaps: segments as they are, and the growing end.
//!
//! Only what is durable at the source is copied, so the copy never has what a power cut takes from its source. What was copied
//! is synced, and then the [mark](crate::mark) of the copy says so; whatever a crash leaves behind the mark is written anew.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keplordb_disk::{Disk, DiskFile, Lock, Watch};

use crate::error::{IoContext, LogError, Result};
use crate::file::FileError;
use crate::frame::{self, End, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use crate::header::{self, Listed, SEGMENT_HEADER_BYTES, SegmentHeader, index_name, segment_name};
use crate::log::Log;
use crate::mark::{Mark, cut_to, remove};
use crate::meter::LagMeter;
use crate::poison::Poison;
use crate::recover;
use crate::scan::scan;

/// Bytes that are copied at a time, unless a frame is longer.
const COPY_BYTES: u64 = 8 << 20;
/// The longest frame.
const FRAME_BYTES_MAX: u64 = HEADER_BYTES as u64 + MAX_PAYLOAD_BYTES as u64;
/// How much of the end of a copy is compared with its source when it is opened.
const SEAM_BYTES: u64 = 1 << 20;

/// Keeps a copy of a log, as far as it is asked to: it has no thread.
///
/// The source may be written by this or another process meanwhile, and need not be. The copy is locked; readers may read it.
/// It opens as a log like any other: a [`Reader`](crate::Reader) sees what is copied and synced, and a
/// [`Writer`](crate::Writer) takes it over: from then on it is a log of its own, and no replica goes on with it.
///
/// # Example
///
/// ```
/// use keplordb_log::{Log, Replica};
///
/// # let dir = tempfile::tempdir()?;
/// let commands = Log::open(dir.path().join("commands"))?;
/// let writer = commands.writer()?;
/// writer.write(b"deposit 100")?;
///
/// let mut replica = Replica::new(&commands, dir.path().join("copy"))?;
/// assert_eq!(replica.step()?.entries, 1);
///
/// writer.write(b"withdraw 30")?;
/// assert_eq!(replica.lag()?.entries, 1);
/// replica.step()?;
/// assert_eq!(replica.lag()?.entries, 0);
///
/// let copy = Log::open(dir.path().join("copy"))?;
/// assert_eq!(copy.last()?.unwrap().bytes, b"withdraw 30");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Replica {
    source: Log,
    target: Log,
    follow_removals: bool,
    /// How far the copy is synced; `None` until the source has a segment.
    mark: Option<Mark>,
    /// Entries of the marked segment that are copied.
    entries: u64,
    /// Whether the marked segment is copied to its closing frame.
    is_whole: bool,
    /// After a failed sync of the copy its bytes are in doubt until it is opened again.
    poison: Poison,
    buffer: Vec<u8>,
    watch: Option<Box<dyn Watch>>,
    meter: LagMeter,
    _lock: Lock,
}

/// What a [step](Replica::step) has copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Entries.
    pub entries: u64,
    /// Bytes of segments, headers and frames in them.
    pub bytes: u64,
}

/// What a source has and its copy has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Entries.
    pub entries: u64,
    /// Bytes of segments, headers and frames in them.
    pub bytes: u64,
}

impl Replica {
    /// Opens the copy of `source` in `target_dir`, or begins one there, on the source's disk.
    ///
    /// # Errors
    /// [`LogError::Locked`] if another replica or a writer has the directory, [`LogError::NotAReplica`] if it holds a log of
    /// its own, [`LogError::Diverged`] if it is no copy of this source, and what reading and writing say.
    pub fn new(source: &Log, target_dir: impl AsRef<Path>) -> Result<Self> {
        Self::between(source, &Log::open_with(target_dir, source.options().clone())?)
    }

    /// [`new`](Self::new) with a disk of the copy's own, as `target` has it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn between(source: &Log, target: &Log) -> Result<Self> {
        let (disk, dir) = (target.disk(), target.path());
        let lock = recover::lock(disk, dir)?;
        let mark = Mark::read(disk.as_ref(), dir)?;
        if mark.is_none() && !header::list(disk.as_ref(), dir)?.is_empty() {
            return Err(LogError::NotAReplica { dir: dir.to_owned() });
        }
        let mut replica = Self {
            source: source.clone(),
            target: target.clone(),
            follow_removals: false,
            mark,
            entries: 0,
            is_whole: false,
            poison: Poison::default(),
            buffer: Vec::new(),
            watch: None,
            meter: LagMeter::new(dir),
            _lock: lock,
        };
        if let Some(mark) = mark {
            replica.resume(mark)?;
        }
        Ok(replica)
    }

    /// Whether a step removes from the copy the segments that the source no longer has. They stay otherwise.
    #[must_use]
    pub fn follow_removals(mut self, follows: bool) -> Self {
        self.follow_removals = follows;
        self
    }

    /// Copies what the source has by now, and perhaps some of what is written meanwhile: on return it is durable in the copy.
    ///
    /// Cost: two syncs of the copy and one of the source for each 8 MiB; one small read where there is nothing to copy.
    ///
    /// # Errors
    /// [`LogError::Gap`] if segments were removed at the source before they were copied: begin a new copy, and keep segments
    /// longer there. [`LogError::Corrupt`] if the source is damaged; nothing damaged is copied. [`LogError::Diverged`] if
    /// the source is no longer what was copied. [`LogError::Poisoned`] after a failed sync of the copy: open it again. What
    /// reading and writing say otherwise; then the next step tries again.
    pub fn step(&mut self) -> Result<Copied> {
        let mut copied = Copied::default();
        // Beyond what there is now a source that is written all the time would never let it end.
        let goal = header::list(self.source.disk().as_ref(), self.source.path())?.last().copied();
        let is_there =
            |mark: Mark| goal.is_none_or(|goal| (mark.start, mark.bytes) >= (goal.start, goal.bytes));
        while !self.mark.is_some_and(is_there)
            && let Some(more) = self.copy_some()?
        {
            copied.entries += more.entries;
            copied.bytes += more.bytes;
        }
        if self.follow_removals {
            self.remove_what_is_gone()?;
        }
        Ok(copied)
    }

    /// Waits until the source has something to copy, at most for `timeout`, and says whether it has. It is woken by the
    /// file system; changes that another machine makes on a network file system may wake nobody.
    ///
    /// # Errors
    /// What watching and reading say.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let end = Instant::now() + timeout;
        let dir = self.source.path().to_owned();
        loop {
            // The watch is there before the look, so that nothing falls in between.
            if self.watch.is_none() {
                self.watch = match self.source.disk().watch(&dir) {
                    Err(error) if error.kind() == ErrorKind::NotFound => None,
                    watch => Some(watch.at("watch", &dir)?),
                };
            }
            if self.has_more()? {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match &mut self.watch {
                Some(watch) => drop(watch.wait(left).at("watch", &dir)?),
                // There is no directory to watch yet.
                None => std::thread::sleep(left.min(Duration::from_millis(100))),
            }
        }
    }

    /// What the source has and the copy has not.
    ///
    /// Cost: that of [`Log::segments`].
    ///
    /// # Errors
    /// What reading the source says.
    pub fn lag(&self) -> Result<Lag> {
        let mut lag = Lag::default();
        for segment in self.source.segments()? {
            let (entries, bytes) = match self.mark {
                Some(mark) if segment.start < mark.start => continue,
                Some(mark) if segment.start == mark.start => (self.entries, mark.bytes),
                _ => (0, 0),
            };
            lag.entries += segment.entries.saturating_sub(entries);
            lag.bytes += segment.bytes.saturating_sub(bytes);
        }
        self.meter.set(lag.entries, lag.bytes);
        Ok(lag)
    }

    /// The directory of the copy.
    pub fn target(&self) -> &Log {
        &self.target
    }

    /// Brings an existing copy to what its mark says, and holds its end against the source. The mark is written anew: the
    /// directory's sync may have failed when it was written last.
    fn resume(&mut self, mark: Mark) -> Result<()> {
        let (disk, dir) = (self.target.disk().as_ref(), self.target.path());
        cut_to(disk, dir, &mark)?;
        mark.write(disk, dir, &self.poison)?;
        if mark.bytes == 0 {
            return Ok(());
        }
        let path = dir.join(segment_name(mark.start));
        let file = disk.open_read(&path).at("open", &path)?;
        let header = read_header(file.as_ref(), &path, mark.bytes)?;
        belongs(&header, &mark).map_err(|what| LogError::corrupt(&path, 0, what))?;
        let mut entries = 0;
        let end =
            scan(file.as_ref(), &path, header.salt, SEGMENT_HEADER_BYTES as u64, mark.bytes, |frame| {
                entries += u64::from(frame.rows);
                Ok(())
            })?;
        if end.at() != mark.bytes {
            return Err(LogError::corrupt(&path, end.at(), "a frame that was copied and synced is damaged"));
        }
        self.entries = entries;
        self.is_whole = matches!(end, End::Closed { .. });
        self.hold_against_source(&mark, file.as_ref(), &path)
    }

    /// Whether the source still has the header and the last bytes of the copy's marked segment.
    fn hold_against_source(&self, mark: &Mark, copy: &dyn DiskFile, copy_path: &Path) -> Result<()> {
        let path = self.source.path().join(segment_name(mark.start));
        let file = match self.source.disk().open_read(&path) {
            // It was removed there; the next step tells whether anything of it is missing.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened.at("open", &path)?,
        };
        let seam = mark.bytes.saturating_sub(SEAM_BYTES).max(SEGMENT_HEADER_BYTES as u64);
        for (from, upto) in [(0, SEGMENT_HEADER_BYTES as u64), (seam, mark.bytes)] {
            let ours = read(copy, copy_path, from, upto)?;
            let theirs = read(file.as_ref(), &path, from, upto)?;
            let same = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
            if same < ours.len() {
                let what = format!("{} has other bytes there, or none", path.display());
                return Err(LogError::Diverged {
                    file: copy_path.to_owned(),
                    offset: from + same as u64,
                    what,
                });
            }
        }
        Ok(())
    }

    /// Copies some frames of one segment; `None` if there is nothing to copy.
    fn copy_some(&mut self) -> Result<Option<Copied>> {
        self.poison.check()?;
        loop {
            let listed = header::list(self.source.disk().as_ref(), self.source.path())?;
            let Some(mark) = self.next_segment(&listed)? else { return Ok(None) };
            let is_last = listed.last().is_some_and(|last| last.start <= mark.start);
            match self.copy_from(&mark, is_last) {
                // Removed since it was listed: the next look tells whether anything is missing.
                Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                copied => return copied,
            }
        }
    }

    /// The mark of the segment that is copied next: the present one, or the one behind it, whose mark is then written.
    fn next_segment(&mut self, listed: &[Listed]) -> Result<Option<Mark>> {
        let next = match self.mark {
            Some(mark) if !self.is_whole => {
                return match listed.binary_search_by_key(&mark.start, |segment| segment.start) {
                    Ok(_) => Ok(Some(mark)),
                    Err(place) => Err(self.gap(&mark, listed.get(place))),
                };
            }
            Some(mark) => listed.iter().find(|segment| segment.start > mark.start),
            None => listed.first(),
        };
        let Some(next) = next else { return Ok(None) };
        let path = self.source.path().join(segment_name(next.start));
        let file = self.source.disk().open_read(&path).at("open", &path)?;
        let header = read_header(file.as_ref(), &path, next.bytes)?;
        if let Some(mark) = self.mark {
            if header.log != mark.log {
                let what = format!("{} belongs to another log", path.display());
                let copy = self.target.path().join(segment_name(mark.start));
                return Err(LogError::Diverged { file: copy, offset: mark.bytes, what });
            }
            if header.number != mark.number + 1 {
                return Err(self.gap(&mark, Some(next)));
            }
        }
        let mark = Mark { log: header.log, number: header.number, start: next.start, bytes: 0 };
        self.put_mark(mark)?;
        (self.entries, self.is_whole) = (0, false);
        Ok(Some(mark))
    }

    /// What is missing between the copy's end and the source's next segment.
    fn gap(&self, mark: &Mark, next: Option<&Listed>) -> LogError {
        if let Some(next) = next {
            return LogError::Gap { after: Some(mark.start), before: next.start };
        }
        let what = format!("{} has no such segment", self.source.path().display());
        let file = self.target.path().join(segment_name(mark.start));
        LogError::Diverged { file, offset: 0, what }
    }

    /// Copies what the marked segment of the source has behind the mark, about [`COPY_BYTES`] of it.
    fn copy_from(&mut self, mark: &Mark, is_last: bool) -> Result<Option<Copied>> {
        let path = self.source.path().join(segment_name(mark.start));
        let file = self.source.disk().open_read(&path).at("open", &path)?;
        let file_bytes = file.bytes().at("measure", &path)?;
        let header = read_header(file.as_ref(), &path, file_bytes)?;
        belongs(&header, mark).map_err(|what| {
            let file = self.target.path().join(segment_name(mark.start));
            LogError::Diverged { file, offset: 0, what: format!("{}: {what}", path.display()) }
        })?;
        if file_bytes < mark.bytes {
            let what = format!("{} has only {file_bytes} bytes", path.display());
            let file = self.target.path().join(segment_name(mark.start));
            return Err(LogError::Diverged { file, offset: file_bytes, what });
        }
        let from = mark.bytes.max(SEGMENT_HEADER_BYTES as u64);
        let (end, entries) =
            read_frames(file.as_ref(), &path, header.salt, from, file_bytes, &mut self.buffer)?;
        if end.at() == from {
            // What was good before it has been copied.
            return match end {
                End::Corrupt { at, what, .. } => Err(LogError::corrupt(&path, at, what)),
                _ if !is_last => {
                    Err(LogError::corrupt(&path, from, "a segment that is not the last one has no end"))
                }
                _ => Ok(None),
            };
        }
        // What the last segment has may be in memory only; the others were synced before the next one was made.
        if is_last {
            file.sync().at("sync", &path)?;
        }
        let bytes = usize::try_from(end.at() - from).ok().and_then(|bytes| self.buffer.get(..bytes));
        self.write(mark, &header, from, bytes.unwrap_or_default())?;
        self.put_mark(Mark { bytes: end.at(), ..*mark })?;
        self.entries += entries;
        self.is_whole = matches!(end, End::Closed { .. });
        Ok(Some(Copied { entries, bytes: end.at() - mark.bytes }))
    }

    /// Writes frames into the copy's segment, which is made if these are its first, and syncs it.
    fn write(&self, mark: &Mark, header: &SegmentHeader, from: u64, frames: &[u8]) -> Result<()> {
        let (disk, dir) = (self.target.disk(), self.target.path());
        let path = dir.join(segment_name(mark.start));
        let is_new = mark.bytes == 0;
        let file =
            if is_new { create_anew(disk.as_ref(), &path) } else { disk.open(&path) }.at("open", &path)?;
        if is_new {
            file.write_at(&header.encode(), 0).at("write", &path)?;
        }
        file.write_at(frames, from).at("write", &path)?;
        let failed = |path: &Path, source| self.poison.set(FileError::io("sync", path, source));
        file.sync().map_err(|source| failed(&path, source))?;
        if is_new {
            disk.sync_dir(dir).map_err(|source| failed(dir, source))?;
        }
        Ok(())
    }

    fn put_mark(&mut self, mark: Mark) -> Result<()> {
        mark.write(self.target.disk().as_ref(), self.target.path(), &self.poison)?;
        self.mark = Some(mark);
        Ok(())
    }

    /// Whether the source has a frame behind the mark, or a segment behind the marked one.
    fn has_more(&self) -> Result<bool> {
        let disk = self.source.disk();
        let listed = header::list(disk.as_ref(), self.source.path())?;
        let Some(mark) = self.mark.filter(|_| !self.is_whole) else {
            let behind = |last: &Listed| self.mark.is_none_or(|mark| last.start > mark.start);
            return Ok(listed.last().is_some_and(behind));
        };
        if listed.last().is_some_and(|last| last.start > mark.start) {
            return Ok(true);
        }
        let path = self.source.path().join(segment_name(mark.start));
        let Ok(file) = disk.open_read(&path) else { return Ok(true) };
        let mut next = [0; HEADER_BYTES];
        let read = file.read_at(&mut next, mark.bytes.max(SEGMENT_HEADER_BYTES as u64)).at("read", &path)?;
        Ok(read == HEADER_BYTES && next != [0; HEADER_BYTES])
    }

    /// Removes the copy's segments that are older than all of the source's.
    fn remove_what_is_gone(&self) -> Result<()> {
        let Some(oldest) = header::list(self.source.disk().as_ref(), self.source.path())?.first().copied()
        else {
            return Ok(());
        };
        let (disk, dir) = (self.target.disk(), self.target.path());
        let kept = self.mark.map_or(oldest.start, |mark| mark.start.min(oldest.start));
        let mut removed = false;
        for segment in header::list(disk.as_ref(), dir)?.iter().take_while(|segment| segment.start < kept) {
            remove(disk.as_ref(), &dir.join(segment_name(segment.start)))?;
            remove(disk.as_ref(), &dir.join(index_name(segment.start)))?;
            removed = true;
        }
        if removed { disk.sync_dir(dir).at("sync", dir) } else { Ok(()) }
    }
}

/// Reads frames from `from` on into `buffer`, about [`COPY_BYTES`] or one if it is longer. Says where the last one ends, how the
/// file does if that is its end, and how many entries they have.
fn read_frames(
    file: &dyn DiskFile,
    path: &Path,
    salt: u64,
    from: u64,
    file_bytes: u64,
    buffer: &mut Vec<u8>,
) -> Result<(End, u64)> {
    let mut wanted = COPY_BYTES;
    loop {
        let upto = file_bytes.min(from.saturating_add(wanted));
        fill(buffer, file, path, from, upto)?;
        let mut walk = frame::walk_from(buffer, from, salt, 0);
        let entries = walk.by_ref().map(|frame| u64::from(frame.rows)).sum();
        let end = walk.end();
        // A piece may end inside a frame that is longer than the piece.
        if end.at() > from || upto == file_bytes || wanted >= FRAME_BYTES_MAX {
            return Ok((end, entries));
        }
        wanted = (wanted * 4).min(FRAME_BYTES_MAX);
    }
}

/// Reads a range of a file, or what there is of it, into the place of what `buffer` holds.
fn fill(buffer: &mut Vec<u8>, file: &dyn DiskFile, path: &Path, from: u64, upto: u64) -> Result<()> {
    let bytes = usize::try_from(upto.saturating_sub(from)).unwrap_or(usize::MAX);
    buffer.resize(bytes, 0);
    let read = file.read_at(buffer, from).at("read", path)?;
    buffer.truncate(read);
    Ok(())
}

fn read(file: &dyn DiskFile, path: &Path, from: u64, upto: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fill(&mut bytes, file, path, from, upto)?;
    Ok(bytes)
}

fn read_header(file: &dyn DiskFile, path: &Path, file_bytes: u64) -> Result<SegmentHeader> {
    let bytes = read(file, path, 0, file_bytes.min(SEGMENT_HEADER_BYTES as u64))?;
    SegmentHeader::decode(&bytes).map_err(|bad| bad.in_file(path))
}

/// Whether a segment is the one that a mark names.
fn belongs(header: &SegmentHeader, mark: &Mark) -> std::result::Result<(), &'static str> {
    if header.log != mark.log {
        Err("the segment belongs to another log")
    } else if (header.number, header.start) != (mark.number, mark.start) {
        Err("the segment is another one of its log")
    } else {
        Ok(())
    }
}

fn create_anew(disk: &dyn Disk, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
    match disk.create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            disk.remove(path)?;
            disk.create(path)
        }
        created => created,
    }
}
