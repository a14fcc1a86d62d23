//! What segments a log has, and removing the oldest.

use std::io::ErrorKind;

use crate::entries::Cursor;
use crate::error::{IoContext, LogError, Result};
use crate::file::FileError;
use crate::header::{Listed, index_name, segment_name};
use crate::log::Log;
use crate::segment_file::{FIRST_FRAME, Found, FramePlace, SegmentFile};
use crate::timestamp::Timestamp;
use crate::view::View;
use crate::window::Window;

/// A segment of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Time of its first entry; the file's name says it too.
    pub start: Timestamp,
    /// Time of its last entry.
    pub end: Timestamp,
    /// Its entries.
    pub entries: u64,
    /// Bytes of its header and frames. The file of the last segment may be longer, by zeros written ahead.
    pub bytes: u64,
    /// 0 for the first segment that the log ever had, then one more each.
    pub number: u64,
    /// Whether it takes no more entries: the last one may be closed, the others are.
    pub is_closed: bool,
}

impl Log {
    /// The segments, oldest first; those that a writer or a replica is making meanwhile may be missing.
    ///
    /// Cost: each file is opened, searched in its index, and read from there on: 64 KiB and a frame at most. A segment
    /// without an index costs a look at each frame's header.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] for a damaged header, and what reading says. Frames are looked at only at a segment's end:
    /// [`verify`](Self::verify) looks at all.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>> {
        let (disk, dir) = (self.disk(), self.path());
        let view = View::of(disk.as_ref(), dir)?;
        let mut window = Window::default();
        let mut segments = Vec::with_capacity(view.segments.len());
        for listed in &view.segments {
            // One that was removed since it was listed is none.
            let Some(mut file) = SegmentFile::open(disk, dir, listed.start, std::mem::take(&mut window))?
            else {
                continue;
            };
            file.limit_bytes = view.limit_bytes(listed.start);
            segments.extend(file.info()?);
            window = file.into_window();
        }
        Ok(segments)
    }

    /// Removes the oldest segment, which must be the one that starts at `start`. A reader that has it open reads it to its end.
    /// On return it stays removed after a power cut.
    ///
    /// # Errors
    /// [`LogError::NoSegment`] if there is none that starts then, [`LogError::LastSegment`] if it is the last one,
    /// [`LogError::Invalid`] if there are older ones: without it nobody could tell that none is lost. What removing says. After a
    /// failed sync of the directory [`LogError::Poisoned`], until the log is opened again by [`open_with`](Self::open_with).
    pub fn remove_segment(&self, start: Timestamp) -> Result<()> {
        let (disk, dir) = (self.disk().as_ref(), self.path());
        let listed = View::of(disk, dir)?.segments;
        match listed.binary_search_by_key(&start, |segment: &Listed| segment.start) {
            Err(_) => return Err(LogError::NoSegment { dir: dir.to_owned(), start }),
            Ok(place) if place + 1 == listed.len() => return Err(LogError::LastSegment { start }),
            Ok(0) => {}
            Ok(place) => {
                let why =
                    format!("{place} segments are older than {start}, and only the oldest can be removed");
                return Err(LogError::Invalid { field: "start", why });
            }
        }
        // The name of the next segment may be in memory only: a power cut must not take that and this one.
        let sync =
            || disk.sync_dir(dir).map_err(|source| self.removals().set(FileError::io("sync", dir, source)));
        self.removals().check()?;
        sync()?;
        let path = dir.join(segment_name(start));
        match disk.remove(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(LogError::NoSegment { dir: dir.to_owned(), start });
            }
            removed => removed.at("remove", &path)?,
        }
        // An index without its segment is removed by the next writer.
        let _ = disk.remove(&dir.join(index_name(start)));
        // Before another is removed: a power cut must not bring this one back and take a later one.
        Ok(sync()?)
    }
}

impl SegmentFile {
    /// What the segment has; `None` if it has no whole frame, as one that is just being copied.
    fn info(&mut self) -> Result<Option<SegmentInfo>> {
        let slot = self.last_slot()?;
        let mut entries = slot.map_or(0, |slot| slot.entries);
        let mut at = slot.map_or(FIRST_FRAME, |slot| slot.offset);
        let mut last: Option<FramePlace> = None;
        let closed = loop {
            match self.frame(at)? {
                Found::Frame(place) => {
                    entries += u64::from(place.entries);
                    (last, at) = (Some(place), place.end);
                }
                Found::Closed { last } => break Some(last),
                Found::Limit | Found::Bad(_) => break None,
            }
        };
        let end = match (closed, last) {
            (Some(end), _) => end,
            (None, Some(place)) => self.last_time(&place)?,
            (None, None) => return Ok(None),
        };
        let bytes = at + if closed.is_some() { crate::frame::HEADER_BYTES as u64 } else { 0 };
        let (start, number) = (self.header.start, self.header.number);
        Ok(Some(SegmentInfo { start, end, entries, bytes, number, is_closed: closed.is_some() }))
    }

    /// Time of the last entry of a frame.
    fn last_time(&mut self, place: &FramePlace) -> Result<Timestamp> {
        // It may not be in memory any more.
        self.frame(place.offset)?;
        let mut cursor = Cursor::new(place.first, place.entries);
        let mut last = place.first;
        loop {
            match cursor.next(self.payload(place)) {
                Ok(Some((time, _))) => last = time,
                Ok(None) => return Ok(last),
                Err(malformed) => return Err(malformed.in_frame(&self.path, place.offset)),
            }
        }
    }
}
