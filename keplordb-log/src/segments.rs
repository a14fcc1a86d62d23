//! The segments of a log: what there is, and removing the oldest.

use std::io::ErrorKind;

use crate::entries::Cursor;
use crate::error::{IoContext, LogError, Result};
use crate::header::{self, index_name, segment_name};
use crate::log::Log;
use crate::mark::Mark;
use crate::segment_file::{Found, SegmentFile};
use crate::timestamp::Timestamp;
use crate::window::Window;

/// A segment, as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its place among all segments that the log ever had; the first had 0.
    pub number: u64,
    /// Time of its first entry; its file is named by it.
    pub start: Timestamp,
    /// Time of its last entry. `None` only in a copy that has not yet got an entry of it.
    pub end: Option<Timestamp>,
    /// Its entries.
    pub entries: u64,
    /// Bytes of its header and frames, without what was written ahead.
    pub bytes: u64,
    /// Whether it is complete: all are but the last one.
    pub is_closed: bool,
}

impl Log {
    /// The segments that are there, oldest first.
    ///
    /// Cost: for each segment two files are opened and about 70 KiB read; where an index is missing or damaged, one look at
    /// each frame's header instead. Payloads are not checked.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] and [`LogError::TooNew`] for a header; [`LogError::Io`].
    pub fn segments(&self) -> Result<Vec<SegmentInfo>> {
        let mark = Mark::read(self.disk().as_ref(), self.path())?;
        let (mut segments, mut window) = (Vec::new(), Window::default());
        for listed in header::list(self.disk().as_ref(), self.path())? {
            let limit_bytes = match mark {
                Some(mark) if listed.start > mark.start => continue,
                Some(mark) if listed.start == mark.start => mark.bytes,
                _ => u64::MAX,
            };
            // One that was removed since it was listed is not there.
            let opened = SegmentFile::open(self.disk(), self.path(), listed.start, window)?;
            window = Window::default();
            if let Some(mut segment) = opened {
                segment.limit_bytes = limit_bytes;
                segments.push(segment.describe()?);
                window = segment.into_window();
            }
        }
        Ok(segments)
    }

    /// Removes the oldest segment, which starts at `start`; durable on return.
    ///
    /// Readers that have it open finish it. Only the oldest can be removed, since a hole between two others could not be
    /// told from a file that was lost; and not the last one, so that times go on increasing.
    ///
    /// # Errors
    /// [`LogError::NoSegment`], [`LogError::LastSegment`]; [`LogError::Invalid`] if older ones are there; [`LogError::Io`].
    pub fn remove_segment(&self, start: Timestamp) -> Result<()> {
        let (disk, dir) = (self.disk().as_ref(), self.path());
        let segments = header::list(disk, dir)?;
        let missing = || LogError::NoSegment { dir: dir.to_owned(), start };
        let place = segments.iter().position(|segment| segment.start == start).ok_or_else(missing)?;
        if place + 1 == segments.len() {
            return Err(LogError::LastSegment { start });
        }
        if let Some(oldest) = segments.first().filter(|_| place > 0) {
            let oldest = oldest.start;
            let why = format!("the segment of {start} is not the oldest; remove that of {oldest} first");
            return Err(LogError::Invalid { field: "start", why });
        }
        let path = dir.join(segment_name(start));
        match disk.remove(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
            removed => removed.at("remove", &path)?,
        }
        // If it stays, the next writer removes it.
        let _ = disk.remove(&dir.join(index_name(start)));
        // Before another is removed: a power cut must not bring this one back and take a later one.
        disk.sync_dir(dir).at("sync", dir)
    }
}

impl SegmentFile {
    fn describe(&mut self) -> Result<SegmentInfo> {
        let (number, start) = (self.header.number, self.header.start);
        let mut limit = u64::MAX;
        loop {
            let extent = self.extent(limit)?;
            let (entries, bytes) = (extent.entries, extent.end);
            let info = SegmentInfo { number, start, end: None, entries, bytes, is_closed: false };
            if let Some((closing, last)) = extent.closing {
                return Ok(SegmentInfo { end: Some(last), bytes: closing, is_closed: true, ..info });
            }
            let Some(last) = extent.last_frame else { return Ok(info) };
            if let Found::Frame(frame) = self.frame(last)? {
                let mut cursor = Cursor::new(frame.first, frame.entries);
                let mut end = None;
                let next = |cursor: &mut Cursor| cursor.next(self.payload(&frame));
                while let Some((time, _)) =
                    next(&mut cursor).map_err(|malformed| malformed.in_frame(&self.path, last))?
                {
                    end = Some(time);
                }
                return Ok(SegmentInfo { end, ..info });
            }
            // It is being written, or a crash has torn it.
            limit = last;
        }
    }
}
