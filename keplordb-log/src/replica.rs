//! A copy of a log in another directory, on another file system perhaps: segments as they are, and the growing end.
//!
//! Only what is durable at the source is copied, so the copy never has what a power cut takes from its source. What was copied
//! is synced, and then the [mark](crate::mark) of the copy says so; whatever a crash leaves behind the mark is written anew.
//! The copy's [time indexes](crate::copy_index) follow the mark.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use keplordb_disk::{DiskFile, Lock, Watch};

use crate::copy_index::{CopyIndexes, STEP_BYTES};
use crate::entries;
use crate::error::{IoContext, LogError, Result};
use crate::file::FileError;
use crate::frame::{self, End, Frame, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use crate::header::{self, SegmentHeader, index_name, read_header, segment_name};
use crate::log::Log;
use crate::mark::{Mark, cut_to, remove};
use crate::meter::LagMeter;
use crate::poison::Poison;
use crate::recover;
use crate::segment_file::{FIRST_FRAME, Found, SegmentFile};
use crate::timestamp::Timestamp;
use crate::view::View;
use crate::window::Window;

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
    /// The segment that is being copied; `None` until the source has one.
    current: Option<Current>,
    indexes: CopyIndexes,
    /// After a failed sync of the copy its bytes are in doubt until it is opened again.
    poison: Poison,
    buffer: Vec<u8>,
    watch: Option<Box<dyn Watch>>,
    meter: LagMeter,
    _lock: Lock,
}

/// How far the last segment of the copy goes.
#[derive(Debug, Clone, Copy)]
struct Current {
    /// What is durable of it.
    mark: Mark,
    /// Entries that are copied.
    entries: u64,
    /// The last frame that is copied; `None` if none is.
    seam: Option<Seam>,
    /// Whether that is the closing frame.
    is_closed: bool,
}

/// The last frame of the copy, to know its source by.
#[derive(Debug, Clone, Copy)]
struct Seam {
    offset: u64,
    header: [u8; HEADER_BYTES],
    /// Time of the last entry that is copied.
    last: Timestamp,
}

impl Current {
    fn beginning(mark: Mark) -> Self {
        Self { mark, entries: 0, seam: None, is_closed: false }
    }
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
        let is_ended = mark.is_some_and(|mark| mark.is_ended);
        if is_ended || (mark.is_none() && !header::list(disk.as_ref(), dir)?.is_empty()) {
            return Err(LogError::NotAReplica { dir: dir.to_owned() });
        }
        let mut replica = Self {
            source: source.clone(),
            target: target.clone(),
            follow_removals: false,
            current: None,
            indexes: CopyIndexes::default(),
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
    /// Cost: three syncs of the copy and one of the source for each 8 MiB, and some more for a new segment. Where there is
    /// nothing to copy it reads what the source has written ahead, up to 4 MiB. Where time indexes of the copy are missing or
    /// behind, the headers of some 64 MiB of it are looked at besides.
    ///
    /// # Errors
    /// [`LogError::Gap`] if segments were removed at the source before they were copied: begin a new copy, and keep segments
    /// longer there. [`LogError::Corrupt`] if the source is damaged; nothing damaged is copied. [`LogError::Diverged`] if
    /// the source is no longer what was copied. [`LogError::Poisoned`] after a failed sync of the copy: open it again. What
    /// reading and writing say otherwise; then the next step tries again.
    pub fn step(&mut self) -> Result<Copied> {
        let (disk, dir) = (self.target.disk().as_ref(), self.target.path());
        // Before the next segment is begun: the index of the present one may be behind, as a crash has left it.
        if let Some(current) = self.current {
            self.indexes.grow(disk, dir, &current.mark);
        }
        self.indexes.mend(disk, dir, STEP_BYTES);
        self.copy()
    }

    /// Copies what the source has by now.
    fn copy(&mut self) -> Result<Copied> {
        let mut copied = Copied::default();
        // Beyond what there is now a source that is written all the time would never let it end.
        let goal = View::of(self.source.disk().as_ref(), self.source.path())?.segments.last().copied();
        let is_there =
            |mark: Mark| goal.is_none_or(|goal| (mark.start, mark.bytes) >= (goal.start, goal.bytes));
        while !self.current.is_some_and(|current| is_there(current.mark))
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
        // `None` is later than any instant there is.
        let end = Instant::now().checked_add(timeout);
        let dir = self.source.path().to_owned();
        let mut is_woken = false;
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
            if std::mem::take(&mut is_woken) && !self.source_has_current()? {
                // The directory may have been removed and made again, and what is watched be the one that is gone.
                self.watch = None;
                continue;
            }
            let left = end.map_or(timeout, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(false);
            }
            match &mut self.watch {
                Some(watch) => is_woken = watch.wait(left).at("watch", &dir)?,
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
            let (entries, bytes) = match self.current {
                Some(Current { mark, .. }) if segment.start < mark.start => continue,
                Some(Current { mark, entries, .. }) if segment.start == mark.start => (entries, mark.bytes),
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
        let listed = disk.list(dir).at("list", dir)?;
        let segments = header::segments_of(&listed);
        // Indexes of segments that were removed just when the power went.
        recover::remove_leftovers(disk, dir, &listed, &segments);
        let starts = segments.iter().map(|segment| segment.start);
        self.indexes = CopyIndexes::new(starts.filter(|start| *start < mark.start).collect());
        let mut current = Current::beginning(mark);
        if mark.bytes > 0 {
            let path = dir.join(segment_name(mark.start));
            let file = disk.open_read(&path).at("open", &path)?;
            let header = read_header(file.as_ref(), &path, mark.start)?;
            belongs(&header, &mark).map_err(|what| LogError::corrupt(&path, 0, what))?;
            let mut from = FIRST_FRAME;
            while from < mark.bytes {
                let read =
                    read_frames(file.as_ref(), &path, header.salt, from, mark.bytes, &mut self.buffer)?;
                if read.end.at() == from {
                    let what = "a frame that was copied and synced is damaged";
                    return Err(LogError::corrupt(&path, from, what));
                }
                current.entries += read.entries;
                current.seam = read.seam.or(current.seam);
                current.is_closed = matches!(read.end, End::Closed { .. });
                from = read.end.at();
            }
            self.hold_against_source(&mark, file.as_ref(), &path)?;
        }
        self.current = Some(current);
        Ok(())
    }

    /// Whether the source still has the header and the last bytes of the copy's marked segment.
    fn hold_against_source(&self, mark: &Mark, copy: &dyn DiskFile, copy_path: &Path) -> Result<()> {
        let path = self.source.path().join(segment_name(mark.start));
        let file = match self.source.disk().open_read(&path) {
            // It was removed there; the next step tells whether anything of it is missing.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened.at("open", &path)?,
        };
        let seam = mark.bytes.saturating_sub(SEAM_BYTES).max(FIRST_FRAME);
        for (from, upto) in [(0, FIRST_FRAME), (seam, mark.bytes)] {
            let ours = read(copy, copy_path, from, upto)?;
            let theirs = read(file.as_ref(), &path, from, upto)?;
            let same = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
            if same < ours.len() {
                let what = format!("{} has other bytes there, or none", path.display());
                return Err(self.diverged(mark, from + same as u64, what));
            }
        }
        Ok(())
    }

    /// Copies some frames of one segment; `None` if there is nothing to copy.
    fn copy_some(&mut self) -> Result<Option<Copied>> {
        self.poison.check()?;
        loop {
            let view = View::of(self.source.disk().as_ref(), self.source.path())?;
            let Some(current) = self.next_segment(&view)? else { return Ok(None) };
            match self.copy_from(current, &view) {
                // Removed since it was listed: the next look tells whether anything is missing.
                Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                copied => return copied,
            }
        }
    }

    /// The segment that is copied next: the present one, or the one behind it, whose mark is then written.
    fn next_segment(&mut self, view: &View) -> Result<Option<Current>> {
        let present = self.current;
        let start = match present {
            Some(current) if !current.is_closed && view.has(current.mark.start) => return Ok(present),
            Some(current) => view.after(current.mark.start),
            None => view.segments.first().map(|segment| segment.start),
        };
        let Some(start) = start else {
            return match present {
                // The source keeps its last segment, so it is not the one that was copied.
                Some(Current { mark, is_closed: false, .. }) => {
                    let what = format!("{} has no such segment", self.source.path().display());
                    Err(self.diverged(&mark, 0, what))
                }
                _ => Ok(None),
            };
        };
        let path = self.source.path().join(segment_name(start));
        let file = self.source.disk().open_read(&path).at("open", &path)?;
        let header = read_header(file.as_ref(), &path, start)?;
        if let Some(current) = present {
            self.follows(&current, &header, &path)?;
        }
        let mark = Mark { log: header.log, number: header.number, start, bytes: 0, is_ended: false };
        mark.write(self.target.disk().as_ref(), self.target.path(), &self.poison)?;
        self.current = Some(Current::beginning(mark));
        Ok(self.current)
    }

    /// Whether the source's segment with this header is what comes after all that is copied. Where only the closing frame of
    /// the present segment was not copied before the source removed it, the copy gets one of its own.
    fn follows(&mut self, current: &Current, header: &SegmentHeader, path: &Path) -> Result<()> {
        let mark = current.mark;
        if header.log != mark.log {
            return Err(self.diverged(
                &mark,
                mark.bytes,
                format!("{} belongs to another log", path.display()),
            ));
        }
        let last = current.seam.map(|seam| seam.last);
        if header.number != mark.number + 1 || (!current.is_closed && header.before != last) {
            return Err(LogError::Gap { after: last, before: header.start });
        }
        if header.before != last {
            let what = format!("{} follows an entry of another time", path.display());
            return Err(self.diverged(&mark, mark.bytes, what));
        }
        if let Some(last) = last.filter(|_| !current.is_closed) {
            let copy = self.target.path().join(segment_name(mark.start));
            let file = self.target.disk().open_read(&copy).at("open", &copy)?;
            let ours = read_header(file.as_ref(), &copy, mark.start)?;
            let closing = frame::closing(ours.salt, last.as_ns() as u64, mark.bytes);
            self.write(&mark, &ours, mark.bytes, &closing)?;
        }
        Ok(())
    }

    /// Copies what the present segment of the source has behind the mark, about [`COPY_BYTES`] of it.
    fn copy_from(&mut self, current: Current, view: &View) -> Result<Option<Copied>> {
        let mark = current.mark;
        let is_last = view.after(mark.start).is_none();
        let (disk, dir) = (self.source.disk().as_ref(), self.source.path());
        let path = dir.join(segment_name(mark.start));
        let file = disk.open_read(&path).at("open", &path)?;
        let file_bytes = file.bytes().at("measure", &path)?.min(view.limit_bytes(mark.start));
        let header = read_header(file.as_ref(), &path, mark.start)?;
        belongs(&header, &mark)
            .map_err(|what| self.diverged(&mark, 0, format!("{}: {what}", path.display())))?;
        if let Some(seam) = current.seam {
            let theirs = read(file.as_ref(), &path, seam.offset, seam.offset + HEADER_BYTES as u64)?;
            if theirs != seam.header || file_bytes < mark.bytes {
                let what = format!("{} no longer has the frame that was copied last", path.display());
                return Err(self.diverged(&mark, seam.offset, what));
            }
        }
        let from = mark.bytes.max(FIRST_FRAME);
        let mut read_on =
            || read_frames(file.as_ref(), &path, header.salt, from, file_bytes, &mut self.buffer);
        let mut read = read_on()?;
        if read.end.at() == from && read.end.is_damage() {
            // One read may see a place before it was written, and a later one after it was synced; another sees both.
            read = read_on()?;
        }
        let end = read.end.at();
        let Some(seam) = read.seam else {
            // What was good before it has been copied.
            return match read.end {
                End::Corrupt { at, what, .. } => Err(LogError::corrupt(&path, at, what)),
                _ if !is_last => {
                    Err(LogError::corrupt(&path, from, "a segment that is not the last one has no end"))
                }
                _ => Ok(None),
            };
        };
        // What the last segment has may be in memory only, and so may its name; the others were synced before the next was made.
        if is_last {
            file.sync().at("sync", &path)?;
            if mark.bytes == 0 {
                disk.sync_dir(dir).at("sync", dir)?;
            }
        }
        let bytes = usize::try_from(end - from).ok().and_then(|bytes| self.buffer.get(..bytes));
        self.write(&mark, &header, from, bytes.unwrap_or_default())?;
        let is_closed = matches!(read.end, End::Closed { .. });
        let copied = Copied { entries: read.entries, bytes: end - mark.bytes };
        let mark = Mark { bytes: end, ..mark };
        mark.write(self.target.disk().as_ref(), self.target.path(), &self.poison)?;
        let entries = current.entries + read.entries;
        self.current = Some(Current { mark, entries, seam: Some(seam), is_closed });
        self.indexes.grow(self.target.disk().as_ref(), self.target.path(), &mark);
        Ok(Some(copied))
    }

    /// Writes frames into the copy's segment, which is made if these are its first, and syncs it.
    fn write(&self, mark: &Mark, header: &SegmentHeader, from: u64, frames: &[u8]) -> Result<()> {
        let (disk, dir) = (self.target.disk(), self.target.path());
        let path = dir.join(segment_name(mark.start));
        let is_new = mark.bytes == 0;
        if is_new {
            // What a failed step has left.
            remove(disk.as_ref(), &path)?;
            remove(disk.as_ref(), &dir.join(index_name(mark.start)))?;
        }
        let file = if is_new { disk.create(&path) } else { disk.open(&path) }.at("open", &path)?;
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

    /// Whether the source has a whole frame behind the mark, or a segment behind the present one.
    fn has_more(&self) -> Result<bool> {
        let (disk, dir) = (self.source.disk(), self.source.path());
        let view = View::of(disk.as_ref(), dir)?;
        let Some(Current { mark, is_closed, .. }) = self.current else {
            return Ok(!view.segments.is_empty());
        };
        if view.after(mark.start).is_some() || is_closed {
            return Ok(view.after(mark.start).is_some());
        }
        let Some(mut segment) = SegmentFile::open(disk, dir, mark.start, Window::default())? else {
            // Removed since it was listed.
            return Ok(true);
        };
        view.place(&mut segment);
        let next = segment.frame(mark.bytes.max(FIRST_FRAME))?;
        Ok(matches!(next, Found::Frame(_) | Found::Closed { .. }))
    }

    /// Whether the source has the segment that is being copied.
    fn source_has_current(&self) -> Result<bool> {
        let Some(current) = self.current else { return Ok(false) };
        let view = View::of(self.source.disk().as_ref(), self.source.path())?;
        Ok(view.has(current.mark.start))
    }

    /// Removes the copy's segments that are older than all of the source's. Each removal is durable before the next: a power
    /// cut must not bring an older one back and take a newer one.
    fn remove_what_is_gone(&self) -> Result<()> {
        let source = View::of(self.source.disk().as_ref(), self.source.path())?;
        let Some(oldest) = source.segments.first() else { return Ok(()) };
        let (disk, dir) = (self.target.disk().as_ref(), self.target.path());
        let kept = self.current.map_or(oldest.start, |current| current.mark.start.min(oldest.start));
        for segment in View::of(disk, dir)?.segments.iter().take_while(|segment| segment.start < kept) {
            self.poison.check()?;
            remove(disk, &dir.join(segment_name(segment.start)))?;
            remove(disk, &dir.join(index_name(segment.start)))?;
            disk.sync_dir(dir).map_err(|source| self.poison.set(FileError::io("sync", dir, source)))?;
        }
        Ok(())
    }

    /// That the source is not what was copied, as the segment of `mark` shows.
    fn diverged(&self, mark: &Mark, offset: u64, what: String) -> LogError {
        LogError::Diverged { file: self.target.path().join(segment_name(mark.start)), offset, what }
    }
}

/// Frames that were read.
struct Read {
    /// Where the last one ends, and how the file does if that is its end.
    end: End,
    entries: u64,
    /// The last one; `None` if there is none.
    seam: Option<Seam>,
}

/// Reads frames from `from` on into `buffer`, about [`COPY_BYTES`] or one if it is longer, and checks them.
fn read_frames(
    file: &dyn DiskFile,
    path: &Path,
    salt: u64,
    from: u64,
    file_bytes: u64,
    buffer: &mut Vec<u8>,
) -> Result<Read> {
    let mut wanted = COPY_BYTES;
    loop {
        let upto = file_bytes.min(from.saturating_add(wanted));
        fill(buffer, file, path, from, upto)?;
        let mut walk = frame::walk_from(buffer, from, salt, 0);
        let (mut entries, mut last) = (0, None);
        for frame in walk.by_ref() {
            entries += u64::from(frame.rows);
            last = Some(frame);
        }
        let end = walk.end();
        // A piece may end inside a frame that is longer than the piece.
        if end.at() == from && upto < file_bytes && wanted < FRAME_BYTES_MAX {
            wanted = (wanted * 4).min(FRAME_BYTES_MAX);
            continue;
        }
        let last = match (end, last) {
            (End::Closed { at, first }, _) => {
                Some((at - HEADER_BYTES as u64, Timestamp::from_ns(first as i64)))
            }
            (_, Some(frame)) => Some((frame.offset, last_time(&frame, path)?)),
            (_, None) => None,
        };
        let seam = last.and_then(|(offset, last)| {
            let place = usize::try_from(offset - from).ok()?;
            Some(Seam { offset, header: *buffer.get(place..)?.first_chunk()?, last })
        });
        return Ok(Read { end, entries, seam });
    }
}

/// Time of the last entry of a frame.
fn last_time(frame: &Frame<'_>, path: &Path) -> Result<Timestamp> {
    let mut last = Timestamp::from_ns(frame.first as i64);
    for entry in entries::entries(frame.payload, last, frame.rows) {
        (last, _) = entry.map_err(|malformed| malformed.in_frame(path, frame.offset))?;
    }
    Ok(last)
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
