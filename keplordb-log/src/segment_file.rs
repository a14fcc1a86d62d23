//! One segment as a reader has it: open, read frame by frame, and judged where a frame is bad.
//!
//! It knows its own file and index, and no other segment: whether another follows, which makes a bad end damage, is for the
//! caller to say.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk, DiskFile};

use crate::error::{IoContext, LogError, Result};
use crate::frame::{BadFrame, HEADER_BYTES, Header, Salted};
use crate::header::{SEGMENT_HEADER_BYTES, SegmentHeader, read_header, segment_name};
use crate::index::Slot;
use crate::timestamp::Timestamp;
use crate::window::Window;

/// Bytes that are searched for a watermark, or for a header, at a time.
const SEARCH_BYTES: usize = 256 << 10;

/// An open segment.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) salted: Salted,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) window: Window,
    /// Bytes of the file that count: all, but in a copy that is still being made.
    pub(crate) limit_bytes: u64,
    /// Whether a writer may append to it: no other segment follows. Not known, so not said, of one that was just opened.
    pub(crate) may_grow: bool,
    /// The time index, made in memory because the file of it is of no use.
    pub(crate) slots: Option<MadeSlots>,
}

/// A time index that was made in memory.
#[derive(Debug)]
pub(crate) struct MadeSlots {
    /// Of frames behind damage, too.
    pub(crate) slots: Vec<Slot>,
    /// Where the first damaged header is. Slots behind it do not count the entries that it stands for.
    pub(crate) damaged_at: u64,
}

impl Default for MadeSlots {
    fn default() -> Self {
        Self { slots: Vec::new(), damaged_at: u64::MAX }
    }
}

/// The place of a batch in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FramePlace {
    pub(crate) offset: u64,
    /// Where the next frame begins.
    pub(crate) end: u64,
    pub(crate) payload_bytes: usize,
    pub(crate) entries: u32,
    /// Time of the first entry.
    pub(crate) first: Timestamp,
}

/// What is at a place where a frame should begin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    /// A batch. Its bytes are in memory until the next call.
    Frame(FramePlace),
    /// The closing frame, with the time of the segment's last entry.
    Closed { last: Timestamp },
    /// The end of what counts in a copy.
    Limit,
    /// No valid frame; what that means is not judged yet.
    Bad(BadFrame),
}

impl SegmentFile {
    /// Opens the segment that starts at `start`; `None` if there is none (any more). `window` is memory to use.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        start: Timestamp,
        mut window: Window,
    ) -> Result<Option<Self>> {
        let path = dir.join(segment_name(start));
        let Some((file, header)) = open_file(&**disk, &path, start)? else { return Ok(None) };
        window.clear();
        Ok(Some(Self {
            disk: Arc::clone(disk),
            path,
            header,
            salted: Salted::new(header.salt),
            file,
            window,
            limit_bytes: u64::MAX,
            may_grow: false,
            slots: None,
        }))
    }

    /// Opens the file anew, since a writer's recovery may have put another in its place, which begins with the same frames
    /// and gets all later ones. `false` if it is gone; the file that is open stays so.
    pub(crate) fn renew(&mut self) -> Result<bool> {
        let Some((file, header)) = open_file(&*self.disk, &self.path, self.header.start)? else {
            return Ok(false);
        };
        if header != self.header {
            let what = "another segment has taken the place of the one that was being read";
            return Err(LogError::corrupt(&self.path, 0, what));
        }
        self.file = file;
        self.window.clear();
        Ok(true)
    }

    /// What is at `offset`, where the header or a frame ends. Its checksums hold if it is a frame.
    pub(crate) fn frame(&mut self, offset: u64) -> Result<Found> {
        if offset >= self.limit_bytes {
            return Ok(Found::Limit);
        }
        if let Ok(found) = self.check(offset) {
            return Ok(found);
        }
        self.read(offset, HEADER_BYTES)?;
        let bad = match self.check(offset) {
            Ok(found) => return Ok(found),
            Err(bad) => bad,
        };
        // The header is whole, so its length is the writer's; whether the file has the bytes decides what is allocated.
        let frame_bytes = bad.later_bytes();
        let is_cut = bad.header.is_some() && self.window.from(offset).len() < usize_of(frame_bytes);
        if !is_cut || self.file_bytes()? < offset.saturating_add(frame_bytes) {
            return Ok(Found::Bad(bad));
        }
        self.read(offset, usize_of(frame_bytes))?;
        Ok(self.check(offset).unwrap_or_else(Found::Bad))
    }

    /// What is in memory at `offset`.
    fn check(&self, offset: u64) -> Result<Found, BadFrame> {
        let frame = self.salted.frame(self.window.from(offset), offset)?;
        let first = Timestamp::from_ns(frame.first as i64);
        if frame.rows == 0 {
            return Ok(Found::Closed { last: first });
        }
        let payload_bytes = frame.payload.len();
        let end = offset + ((HEADER_BYTES + payload_bytes) as u64).next_multiple_of(8);
        Ok(Found::Frame(FramePlace { offset, end, payload_bytes, entries: frame.rows, first }))
    }

    /// The payload of a frame that was found last.
    #[inline]
    pub(crate) fn payload(&self, place: &FramePlace) -> &[u8] {
        self.window.range(place.offset + HEADER_BYTES as u64, place.payload_bytes)
    }

    /// The header of the frame at `offset`, which may be a closing one; `None` if there is none. Its payload is not looked at.
    pub(crate) fn header_at(&mut self, offset: u64) -> Result<Option<Header>> {
        if offset >= self.limit_bytes {
            return Ok(None);
        }
        if let Some(header) = self.salted.header(self.window.from(offset), offset) {
            return Ok(Some(header));
        }
        self.read(offset, HEADER_BYTES)?;
        Ok(self.salted.header(self.window.from(offset), offset))
    }

    /// Whether it is proved that the bytes at `offset`, where `bad` is, were synced: they are the first frame's, without which no
    /// segment gets its name, or the index says so, or a frame that was written later. If so and if they are bad when they
    /// are read again, then they are damaged: before the proof was written, they were whole.
    ///
    /// Cost: reads all that follows. What is in memory is another part of the file then.
    pub(crate) fn is_covered(&mut self, offset: u64, bad: &BadFrame) -> Result<bool> {
        if self.is_noted(offset) {
            return Ok(true);
        }
        let mut at = offset.saturating_add(bad.later_bytes());
        loop {
            self.read(at, SEARCH_BYTES)?;
            let bytes = self.window.from(at);
            if self.salted.watermark_over(offset, bytes, at).is_some() {
                return Ok(true);
            }
            // A header may begin in the last bytes and end behind them.
            match bytes.len().checked_sub(HEADER_BYTES) {
                Some(searched_bytes) if searched_bytes > 0 => at += (searched_bytes as u64 / 8 + 1) * 8,
                _ => return Ok(false),
            }
        }
    }

    /// Where the next header begins behind a bad frame at `at`; `None` if none is found. From `end` on it is not looked for.
    ///
    /// Cost: reads what lies between, but for what is in memory.
    pub(crate) fn next_header(&mut self, at: u64, end: u64) -> Result<Option<u64>> {
        let mut at = at.saturating_add(8);
        loop {
            let bytes = self.window.from(at);
            // No header is all zeros, and space that was filled ahead is.
            let blank = bytes.as_chunks::<64>().0.iter().take_while(|chunk| **chunk == [0; 64]).count();
            let first = (blank * 64).saturating_sub(HEADER_BYTES);
            // A header may begin in the last bytes and end behind them.
            let searched_bytes = bytes.len().saturating_sub(HEADER_BYTES - 1).next_multiple_of(8);
            let found = (first..searched_bytes).step_by(8).find(|place| {
                let rest = bytes.get(*place..).unwrap_or_default();
                self.salted.header(rest, at + *place as u64).is_some()
            });
            if let Some(place) = found {
                return Ok(Some(at + place as u64));
            }
            at = at.saturating_add(searched_bytes as u64);
            if at >= end {
                return Ok(None);
            }
            self.read(at, usize_of(end - at).min(SEARCH_BYTES))?;
            if self.window.from(at).len() < HEADER_BYTES {
                return Ok(None);
            }
        }
    }

    /// Whether zeros are where a header could be at `at`, or nothing.
    pub(crate) fn is_blank(&mut self, at: u64) -> Result<bool> {
        self.read(at, HEADER_BYTES)?;
        Ok(self.window.from(at).iter().take(HEADER_BYTES).all(|byte| *byte == 0))
    }

    /// Whether it is known without a look at the file that the bytes at `offset` were synced: they are the first frame's, or the
    /// index says so.
    pub(crate) fn is_noted(&self, offset: u64) -> bool {
        offset == FIRST_FRAME || self.index_file().is_some_and(|index| offset < index.synced_bytes())
    }

    /// The present length of the file.
    pub(crate) fn file_bytes(&self) -> Result<u64> {
        self.file.bytes().at("measure", &self.path)
    }

    /// Brings bytes from `offset` on into memory.
    pub(crate) fn read(&mut self, offset: u64, needed_bytes: usize) -> Result<()> {
        self.window.read(&*self.file, offset, needed_bytes).at("read", &self.path)
    }

    /// That a frame, or something in it, is damaged.
    pub(crate) fn corrupt(&self, offset: u64, what: impl Into<String>) -> LogError {
        LogError::corrupt(&self.path, offset, what)
    }

    /// The memory, for another segment.
    pub(crate) fn into_window(self) -> Window {
        self.window
    }
}

/// Where the first frame of every segment begins.
pub(crate) const FIRST_FRAME: u64 = SEGMENT_HEADER_BYTES as u64;

/// Opens the file of the segment that starts at `start` and reads its header; `None` if it is not there.
fn open_file(
    disk: &dyn Disk,
    path: &Path,
    start: Timestamp,
) -> Result<Option<(Arc<dyn DiskFile>, SegmentHeader)>> {
    let file = match disk.open_read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.at("open", path)?,
    };
    let header = read_header(file.as_ref(), path, start)?;
    Ok(Some((file, header)))
}

/// A length that fits the memory, or the greatest there is.
pub(crate) fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
