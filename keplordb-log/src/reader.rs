//! `Reader`: the entries of a log in the order of their times, forwards and backwards, while others write it.
//!
//! A reader takes no lock and tells nobody that it is there. What may happen beneath it, and how it notices:
//!
//! | what | how |
//! |---|---|
//! | the last segment grows | the next read at its end finds a frame |
//! | a frame is half written | its checksum does not hold yet; it is no frame until it does |
//! | the segment is closed, another follows | the closing frame; then the directory is listed |
//! | a writer's recovery replaces the last file | at the end of a file it is opened anew by its name |
//! | segments are removed before they were read | the next one's header says which entry came before it |
//! | bytes that were synced are damaged | no frame where a later header, or a later segment, proves that one was |

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keplordb_disk::{Disk, Watch};

use crate::entries::{self, Cursor};
use crate::error::{IoContext, LogError, Result};
use crate::frame::{BadFrame, HEADER_BYTES};
use crate::log::Log;
use crate::mark::Mark;
use crate::segment_file::{FIRST_FRAME, Found, FramePlace, SegmentFile};
use crate::timestamp::Timestamp;
use crate::view::{View, limit_bytes};
use crate::window::Window;

/// How long a reader that has looked for damage behind the end of the log does not do it again. The look reads what space is
/// filled ahead, some MiB, and lists the directory: too much for each entry that somebody waits for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a segment may vanish between listing and opening it, before that is an error.
const TRIES_MAX: usize = 100;

/// An entry, as long as the reader stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its time; no other entry of the log has it.
    pub time: Timestamp,
    /// What was written.
    pub bytes: &'a [u8],
    /// The start of its segment, which names the file.
    pub segment: Timestamp,
    /// Where in the file its frame begins, in bytes. All entries of a batch have the same.
    pub offset: u64,
}

impl Entry<'_> {
    /// A copy that keeps.
    pub fn to_owned(&self) -> OwnedEntry {
        OwnedEntry { time: self.time, bytes: self.bytes.to_vec() }
    }
}

/// An entry that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedEntry {
    /// Its time.
    pub time: Timestamp,
    /// What was written.
    pub bytes: Vec<u8>,
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The start of the segment.
    pub segment: Timestamp,
    /// Where in its file the frame begins, in bytes, that the next entry is or will be in.
    pub offset: u64,
    /// How many entries of that frame lie before the reader.
    pub entries: u32,
}

/// Reads a log from a place between two entries, on and back: [`Log::reader`](crate::Log::reader),
/// [`Log::from`](crate::Log::from), [`Log::newest`](crate::Log::newest).
///
/// Any number of readers work beside the writer, in the same or another process, without a lock, and never see half an
/// entry or half a batch. At the end they give `None`, and go on when there is more; [`wait`](Self::wait) says when.
///
/// What is read is *written*: it may not be durable yet, and a power cut may take it back. After a power cut, and until a
/// writer has opened the log, the end is what can be read without a break; a [`seek`](Self::seek) may lead behind such a
/// break, to entries that the writer's recovery will cut away.
///
/// After an error, other than [`LogError::Gap`] and [`LogError::Decode`], the reader stands where it stood, and the next
/// call tries again. To read on behind damage, `seek` a later time: that of a batch behind it leads there, whatever of a
/// batch or a segment is damaged; only in a segment that grows, if its time index has lost its end, too, not before a writer has
/// opened the log. A time that only the damaged part may have leads to the damage, so that nothing is missed
/// unseen.
///
/// Cost: one buffer of 512 KiB at most, more if a batch is longer; no allocation and a few nanoseconds an entry, a checksum
/// and a copy of each batch.
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    /// `None` as long as the log is empty.
    segment: Option<SegmentFile>,
    /// Where the next frame begins, behind `frame` if there is one.
    at: u64,
    /// The batch that the reader stands in or before; it is in memory.
    frame: Option<FramePlace>,
    /// The place in it.
    cursor: Cursor,
    /// The time of the entry before the reader, where it came by that.
    last: Option<Timestamp>,
    /// Earlier entries are passed over: those that were not yet written when this time was sought.
    not_before: Timestamp,
    /// For reading backwards: the places of frames before `at` or `frame`, and the cursors before each entry of `frame` and behind the last.
    frames_before: Vec<u64>,
    trail: Vec<Cursor>,
    /// When damage was last looked for behind the end.
    looked: Option<Instant>,
    /// It was not looked for the last time, because it had been shortly before.
    is_unsure: bool,
    watch: Option<(PathBuf, Box<dyn Watch>)>,
}

impl Reader {
    /// A reader that has looked at nothing yet.
    fn new(log: &Log) -> Self {
        Self {
            disk: Arc::clone(&log.options().disk),
            dir: log.path().into(),
            segment: None,
            at: FIRST_FRAME,
            frame: None,
            cursor: Cursor::new(Timestamp::MIN, 0),
            last: None,
            not_before: Timestamp::MIN,
            frames_before: Vec::new(),
            trail: Vec::new(),
            looked: None,
            is_unsure: false,
            watch: None,
        }
    }

    /// The next entry; `None` at the end, for now. Behind it afterwards.
    ///
    /// # Errors
    /// [`LogError::Gap`] once where segments were removed before they were read: the next call goes on behind them.
    /// [`LogError::Corrupt`], [`LogError::Truncated`] or [`LogError::Missing`] where damage keeps the reader from going on;
    /// `seek` a later time to do so. [`LogError::Io`], [`LogError::TooNew`].
    #[expect(
        clippy::should_implement_trait,
        reason = "an entry borrows the reader's buffer, which no iterator's item can"
    )]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let Some((time, range)) = self.step()? else { return Ok(None) };
        Ok(self.entry(time, range))
    }

    /// The entry before the reader; `None` at the beginning. Before it afterwards, so that `next` gives it again.
    ///
    /// Cost: per batch, its entries are walked over once, and 32 bytes of memory are used for each.
    ///
    /// # Errors
    /// As [`next`](Self::next), but never `Gap`: what was removed is before the beginning.
    pub fn back(&mut self) -> Result<Option<Entry<'_>>> {
        self.not_before = Timestamp::MIN;
        loop {
            if let Some(frame) = self.frame
                && let Some(before) = ((frame.entries - self.cursor.left()) as usize).checked_sub(1)
            {
                self.make_trail(&frame)?;
                self.cursor = self.trail.get(before).copied().unwrap_or(self.cursor);
                self.last = None;
                let mut cursor = self.cursor;
                let Some((time, range)) = self.look(&mut cursor)? else { return Ok(None) };
                return Ok(self.entry(time, range));
            }
            if !self.retreat()? {
                return Ok(None);
            }
        }
    }

    /// Goes before the first entry at or after `time`, also if it is yet to be written.
    ///
    /// Cost: lists the directory and opens a file; then about 20 reads of 32 bytes for a segment of 1 GiB, and one of about
    /// 64 KiB. Behind a damaged header what follows up to the next one is read. Where the segment's time index is missing or
    /// damaged, one look at each header of the segment, and at the end of a log that is being written all that space is filled
    /// ahead for, some MiB.
    ///
    /// # Errors
    /// As [`next`](Self::next), but not for damage that it does not need to read. The reader is at the beginning then.
    pub fn seek(&mut self, time: Timestamp) -> Result<()> {
        self.go_to(|view| {
            let before = view.segments.iter().rfind(|segment| segment.start <= time);
            before.or(view.segments.first()).map(|segment| segment.start)
        })?;
        self.not_before = time;
        let Some(segment) = &mut self.segment else { return Ok(()) };
        self.at = segment.frame_of(time)?;
        if let Found::Frame(frame) = segment.frame(self.at)? {
            self.enter(frame);
            let mut ahead = self.cursor;
            // What is malformed is for `next` to say.
            while let Ok(Some((passed, _))) = self.look(&mut ahead)
                && passed < time
            {
                self.cursor = ahead;
                self.last = Some(passed);
            }
        }
        Ok(())
    }

    /// Goes behind the last entry.
    ///
    /// Cost: that of [`seek`](Self::seek), and what space is filled ahead is read once, some MiB: entries may follow damage.
    ///
    /// # Errors
    /// As [`seek`](Self::seek), and for damage behind the last entry that can be reached.
    pub fn seek_end(&mut self) -> Result<()> {
        let sought = self.go_to_end();
        if sought.is_err() {
            self.leave();
        }
        sought
    }

    /// Waits until there is more to read, at most for `timeout`: `true` if [`next`](Self::next) has something now. Costs
    /// nothing meanwhile, and wakes by [`Disk::watch`]; where that cannot watch, it looks several times a second.
    ///
    /// # Errors
    /// As [`next`](Self::next), for which an error counts as said.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let until = Instant::now().checked_add(timeout);
        let mut is_woken = false;
        loop {
            // Before the look, so that nothing is written between the two unnoticed.
            self.make_watch()?;
            if self.has_next()? {
                return Ok(true);
            }
            if std::mem::take(&mut is_woken) && !self.has_segment()? {
                // The directory may have been removed and made again, and what is watched be the one that is gone.
                self.watch = None;
                continue;
            }
            let rest = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if rest.is_zero() {
                return Ok(false);
            }
            // What was not looked at, because it was so shortly before, is looked at once more.
            let rest = if self.is_unsure { rest.min(LOOK_EVERY) } else { rest };
            if let Some((dir, watch)) = &mut self.watch {
                is_woken = watch.wait(rest).at("watch", dir)?;
            }
        }
    }

    /// The log's directory.
    pub(crate) fn dir(&self) -> &Arc<Path> {
        &self.dir
    }

    /// What it has allocated for bytes and places of frames.
    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> usize {
        let window_bytes = self.segment.as_ref().map_or(0, |segment| segment.window.memory_bytes());
        window_bytes + self.frames_before.capacity() * size_of::<u64>()
    }

    /// Where the reader stands; `None` as long as the log is empty.
    pub fn position(&self) -> Option<Position> {
        let segment = self.segment.as_ref()?.header.start;
        let (offset, entries) = match &self.frame {
            Some(frame) if self.cursor.left() > 0 => (frame.offset, frame.entries - self.cursor.left()),
            _ => (self.at, 0),
        };
        Some(Position { segment, offset, entries })
    }

    /// Goes behind the next entry, and says its time and where it is in its payload.
    #[inline]
    fn step(&mut self) -> Result<Option<(Timestamp, Range<usize>)>> {
        loop {
            let mut cursor = self.cursor;
            match self.look(&mut cursor)? {
                Some((time, range)) => {
                    self.cursor = cursor;
                    self.last = Some(time);
                    if time >= self.not_before {
                        return Ok(Some((time, range)));
                    }
                }
                None if self.advance()? => {}
                None => return Ok(None),
            }
        }
    }

    /// Whether `next` has an entry, without going behind it.
    fn has_next(&mut self) -> Result<bool> {
        loop {
            let mut cursor = self.cursor;
            match self.look(&mut cursor)? {
                Some((time, _)) if time < self.not_before => {
                    self.cursor = cursor;
                    self.last = Some(time);
                }
                Some(_) => return Ok(true),
                None if self.advance()? => {}
                None => return Ok(false),
            }
        }
    }

    /// The entry behind a place in the present frame; `None` behind the last, and where there is no frame.
    #[inline]
    fn look(&self, cursor: &mut Cursor) -> Result<Option<(Timestamp, Range<usize>)>> {
        let (Some(segment), Some(frame)) = (&self.segment, &self.frame) else { return Ok(None) };
        let found = cursor.next(segment.payload(frame));
        found.map_err(|malformed| malformed.in_frame(&segment.path, frame.offset))
    }

    /// The entry at a place in the payload of the present frame.
    #[inline]
    fn entry(&self, time: Timestamp, range: Range<usize>) -> Option<Entry<'_>> {
        let (Some(segment), Some(frame)) = (&self.segment, &self.frame) else { return None };
        let start = frame.offset + (HEADER_BYTES + range.start) as u64;
        let bytes = segment.window.range(start, range.len());
        Some(Entry { time, bytes, segment: segment.header.start, offset: frame.offset })
    }

    /// Stands before the first frame of the segment that `choose` says.
    fn go_to(&mut self, choose: impl Fn(&View) -> Option<Timestamp>) -> Result<()> {
        let mut window = self.leave();
        self.not_before = Timestamp::MIN;
        for _ in 0..TRIES_MAX {
            let view = View::of(&*self.disk, &self.dir)?;
            let Some(start) = choose(&view) else { return Ok(()) };
            if let Some(segment) =
                SegmentFile::open(&self.disk, &self.dir, start, std::mem::take(&mut window))?
            {
                self.adopt(segment, &view);
                return Ok(());
            }
        }
        Err(self.unsteady())
    }

    /// Stands behind the last frame, where nothing proves that another was.
    fn go_to_end(&mut self) -> Result<()> {
        for _ in 0..TRIES_MAX {
            self.go_to(|view| view.segments.last().map(|segment| segment.start))?;
            let Some(segment) = &mut self.segment else { return Ok(()) };
            (self.at, self.last) = end_of(segment)?;
            let Found::Bad(bad) = segment.frame(self.at)? else { return Ok(()) };
            match self.judge(&bad) {
                Ok(false) => return Ok(()),
                // More was written meanwhile, or this segment was removed.
                Ok(true) | Err(LogError::Gap { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.unsteady())
    }

    /// Closes the segment; its memory is used for the next.
    fn leave(&mut self) -> Window {
        self.frame = None;
        self.frames_before.clear();
        self.trail.clear();
        self.last = None;
        self.looked = None;
        self.at = FIRST_FRAME;
        self.segment.take().map(SegmentFile::into_window).unwrap_or_default()
    }

    fn adopt(&mut self, mut segment: SegmentFile, view: &View) {
        view.place(&mut segment);
        self.segment = Some(segment);
    }

    /// Stands before the first entry of a frame that was just found.
    fn enter(&mut self, frame: FramePlace) {
        self.frame = Some(frame);
        self.at = frame.end;
        self.cursor = Cursor::new(frame.first, frame.entries);
        self.trail.clear();
        self.frames_before.clear();
    }

    /// Stands before the first entry of the next frame; `false` at the end, for now.
    fn advance(&mut self) -> Result<bool> {
        self.frame = None;
        self.trail.clear();
        self.frames_before.clear();
        loop {
            let Some(segment) = &mut self.segment else {
                if self.begin()? {
                    continue;
                }
                return Ok(false);
            };
            match segment.frame(self.at)? {
                Found::Frame(frame) => {
                    let is_first = self.at == FIRST_FRAME;
                    if is_first && frame.first != segment.header.start {
                        return Err(segment.corrupt(self.at, "the first entry is not of the segment's start"));
                    }
                    if self.last.is_some_and(|last| frame.first <= last) {
                        return Err(segment.corrupt(self.at, "a frame is not later than the one before it"));
                    }
                    self.enter(frame);
                    return Ok(true);
                }
                Found::Closed { last } => {
                    if self.last.is_some_and(|found| found != last) {
                        return Err(
                            segment.corrupt(self.at, "the closing frame has not the last entry's time")
                        );
                    }
                    if !self.go_on(Some(last))? {
                        return Ok(false);
                    }
                }
                Found::Limit => {
                    let mark = Mark::of_copy(&*self.disk, &self.dir)?;
                    segment.limit_bytes = limit_bytes(mark.as_ref(), segment.header.start);
                    if self.at >= segment.limit_bytes {
                        return Ok(false);
                    }
                }
                Found::Bad(bad) => {
                    if !self.judge(&bad)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Opens the first segment of a log that was empty until now.
    fn begin(&mut self) -> Result<bool> {
        let not_before = self.not_before;
        let went = self.go_to(|view| view.segments.first().map(|segment| segment.start));
        self.not_before = not_before;
        went?;
        let header = self.segment.as_ref().map(|segment| segment.header);
        if header.is_some() {
            // It may be of another directory of this name, made while the log was empty.
            self.watch = None;
        }
        // What was sought was not among what was removed, if that was earlier.
        if let Some(first) = header.filter(|first| first.before.is_some_and(|last| last >= not_before)) {
            return Err(LogError::Gap { after: None, before: first.start });
        }
        Ok(header.is_some())
    }

    /// No frame is where the reader stands: says whether to look again there (`true`), or that it is the end for now, or
    /// damage.
    fn judge(&mut self, bad: &BadFrame) -> Result<bool> {
        let Some(segment) = &mut self.segment else { return Ok(false) };
        let is_there = segment.renew()?;
        if is_there && !matches!(segment.frame(self.at)?, Found::Bad(_)) {
            return Ok(true);
        }
        // Behind the end lie zeros, as a rule. If so, and if damage was looked for a moment ago, that is the end.
        let is_blank = !segment.window.range(self.at, HEADER_BYTES).iter().any(|byte| *byte != 0);
        let has_looked = self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY);
        self.is_unsure = is_there && is_blank && has_looked;
        if self.is_unsure {
            return Ok(false);
        }

        let view = View::of(&*self.disk, &self.dir)?;
        view.place(segment);
        if !view.was_whole(segment, self.at, bad)? {
            let found_bytes = segment.file_bytes()?;
            if self.at > found_bytes {
                let file = segment.path.clone();
                return Err(LogError::Truncated { file, found_bytes, expected_bytes: self.at });
            }
            self.looked = Some(Instant::now());
            return Ok(false);
        }

        // What proves it was written after these bytes: what is read from now on is what they are.
        let is_there = segment.renew()?;
        match segment.frame(self.at)? {
            Found::Bad(bad) if is_there => Err(segment.corrupt(self.at, bad.what)),
            // The file that is open was replaced, went on and was removed, all since the last look.
            Found::Bad(_) => self.go_on(self.last),
            _ => Ok(true),
        }
    }

    /// Goes to the segment behind this one, which ends with the entry of `last`. `false` if there is none yet.
    fn go_on(&mut self, last: Option<Timestamp>) -> Result<bool> {
        let Some(segment) = &self.segment else { return Ok(false) };
        let (start, log) = (segment.header.start, segment.header.log);
        let mut was_listed = false;
        for _ in 0..TRIES_MAX {
            let view = View::of(&*self.disk, &self.dir)?;
            let Some(later) = view.after(start) else { return Ok(false) };
            let Some(next) = SegmentFile::open(&self.disk, &self.dir, later, Window::default())? else {
                continue;
            };
            if next.header.log != log {
                return Err(next.corrupt(24, "the segment is one of another log"));
            }
            let before = next.header.before;
            let follows = before.is_some() && before == last;
            if !follows && view.has(start) {
                // Segments are removed from the oldest on. So if this one is there, so is the next, unless one was removed
                // while the directory was being listed, which a second list shows.
                if was_listed {
                    return Err(LogError::Missing { dir: self.dir.to_path_buf(), before: later });
                }
                was_listed = true;
                continue;
            }
            let window = self.leave();
            self.adopt(SegmentFile { window, ..next }, &view);
            self.last = last;
            let was_sought = before.is_some_and(|before| before >= self.not_before);
            if follows || !was_sought {
                return Ok(true);
            }
            return Err(LogError::Gap { after: last, before: later });
        }
        Err(self.unsteady())
    }

    /// Stands behind the last entry of the frame before; `false` at the beginning.
    fn retreat(&mut self) -> Result<bool> {
        // What is in memory may change from here on.
        if let Some(frame) = self.frame.take() {
            self.at = frame.offset;
            self.trail.clear();
        }
        loop {
            let Some(segment) = &mut self.segment else { return Ok(false) };
            if self.frames_before.is_empty() {
                let end = segment.frames_before(self.at, &mut self.frames_before)?;
                if end < self.at {
                    // The headers do not lead to where the reader stands: one between is damaged.
                    self.frames_before.push(end);
                }
            }
            let Some(offset) = self.frames_before.last().copied() else {
                if self.go_back()? {
                    continue;
                }
                return Ok(false);
            };
            match segment.frame(offset)? {
                Found::Frame(frame) => {
                    self.frames_before.pop();
                    let frames_before = std::mem::take(&mut self.frames_before);
                    self.enter(frame);
                    self.frames_before = frames_before;
                    self.make_trail(&frame)?;
                    self.cursor = self.trail.last().copied().unwrap_or(self.cursor);
                    return Ok(true);
                }
                Found::Bad(bad) => {
                    let view = View::of(&*self.disk, &self.dir)?;
                    if view.was_whole(segment, offset, &bad)? {
                        // The file may be another now: where its frames are is to be found again.
                        self.frames_before.clear();
                        let is_there = segment.renew()?;
                        match segment.frame(offset)? {
                            Found::Bad(bad) if is_there => return Err(segment.corrupt(offset, bad.what)),
                            // What was removed is before the beginning.
                            Found::Bad(_) => return Ok(false),
                            _ => continue,
                        }
                    }
                    // Torn by a power cut that nobody has cleaned up after: neither it nor what is behind it is of the log.
                    self.frames_before.pop();
                    self.at = offset;
                }
                Found::Closed { .. } | Found::Limit => {
                    self.frames_before.pop();
                    self.at = offset;
                }
            }
        }
    }

    /// Goes to the end of the segment before this one; `false` if there is none.
    fn go_back(&mut self) -> Result<bool> {
        let Some(segment) = &self.segment else { return Ok(false) };
        let (start, number, log) = (segment.header.start, segment.header.number, segment.header.log);
        for _ in 0..TRIES_MAX {
            let view = View::of(&*self.disk, &self.dir)?;
            let Some(earlier) = view.before(start) else { return Ok(false) };
            let Some(mut before) = SegmentFile::open(&self.disk, &self.dir, earlier, Window::default())?
            else {
                continue;
            };
            if before.header.log != log {
                return Err(before.corrupt(24, "the segment is one of another log"));
            }
            if before.header.number.checked_add(1) != Some(number) {
                return Err(LogError::Missing { dir: self.dir.to_path_buf(), before: start });
            }
            let (end, _) = end_of(&mut before)?;
            match before.frame(end)? {
                Found::Closed { .. } => {}
                Found::Bad(bad) => return Err(before.corrupt(end, bad.what)),
                Found::Frame(_) | Found::Limit => {
                    return Err(before.corrupt(end, "the closing frame is missing"));
                }
            }
            self.leave();
            self.at = end;
            self.adopt(before, &view);
            return Ok(true);
        }
        Err(self.unsteady())
    }

    /// The cursors before each entry of the frame, and behind the last.
    fn make_trail(&mut self, frame: &FramePlace) -> Result<()> {
        if !self.trail.is_empty() {
            return Ok(());
        }
        let mut cursor = Cursor::new(frame.first, frame.entries);
        loop {
            self.trail.push(cursor);
            match self.look(&mut cursor) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.trail.clear();
                    return Err(error);
                }
            }
        }
    }

    /// Whether the directory has the segment that the reader is in.
    fn has_segment(&self) -> Result<bool> {
        let Some(segment) = &self.segment else { return Ok(false) };
        Ok(View::of(&*self.disk, &self.dir)?.has(segment.header.start))
    }

    /// Watches the directory, or the nearest above it as long as it is not there.
    fn make_watch(&mut self) -> Result<()> {
        // Once more after a directory above it is watched: it may have been made just before that, of which nobody tells.
        while self.watch_nearest()? {}
        Ok(())
    }

    /// Watches the nearest directory that is there; `false` if that is so already.
    fn watch_nearest(&mut self) -> Result<bool> {
        for dir in self.dir.ancestors() {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            if self.watch.as_ref().is_some_and(|(watched, _)| watched == dir) {
                return Ok(false);
            }
            match self.disk.watch(dir) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                watch => {
                    self.watch = Some((dir.to_owned(), watch.at("watch", dir)?));
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// That segments vanish as quickly as they are listed.
    fn unsteady(&self) -> LogError {
        let cause = std::io::Error::new(ErrorKind::NotFound, "segments vanish while they are opened");
        LogError::io("open", &self.dir, cause)
    }
}

/// Where the closing frame begins, or else where the last good frame ends; and the time of the last entry, if it can be read.
fn end_of(segment: &mut SegmentFile) -> Result<(u64, Option<Timestamp>)> {
    // It is found whatever is damaged before it.
    if let Some((end, last)) = segment.closing()? {
        return Ok((end, Some(last)));
    }
    let (last, end) = segment.last_frame()?;
    let Some(last) = last else { return Ok((end, None)) };
    Ok(match segment.frame(last)? {
        Found::Frame(frame) => {
            let entries = entries::entries(segment.payload(&frame), frame.first, frame.entries);
            (end, entries.flatten().last().map(|(time, _)| time))
        }
        Found::Bad(_) => (last, None),
        Found::Closed { .. } | Found::Limit => (end, None),
    })
}

impl Log {
    /// A reader before the first entry that is left. Cost: lists the directory and opens a file. Where that fails because the first
    /// segment is damaged, [`from`](Self::from) the start of a later one reads on behind it.
    ///
    /// # Errors
    /// As [`Reader::seek`].
    pub fn reader(&self) -> Result<Reader> {
        let mut reader = Reader::new(self);
        reader.go_to(|view| view.segments.first().map(|segment| segment.start))?;
        Ok(reader)
    }

    /// A reader before the first entry at or after `time`. Cost: that of [`Reader::seek`].
    ///
    /// # Errors
    /// As [`Reader::seek`].
    pub fn from(&self, time: Timestamp) -> Result<Reader> {
        let mut reader = Reader::new(self);
        reader.seek(time)?;
        Ok(reader)
    }

    /// A reader behind the last entry: for the newest ones by [`Reader::back`], and for what is yet to be written.
    ///
    /// # Errors
    /// As [`Reader::seek`].
    pub fn newest(&self) -> Result<Reader> {
        let mut reader = Reader::new(self);
        reader.seek_end()?;
        Ok(reader)
    }

    /// The last entry; `None` if there is none.
    ///
    /// # Errors
    /// As [`Reader::back`].
    pub fn last(&self) -> Result<Option<OwnedEntry>> {
        Ok(self.newest()?.back()?.map(|entry| entry.to_owned()))
    }
}
