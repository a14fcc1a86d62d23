//! What of a directory counts: the segments that are listed and, in a copy, not behind its mark.

use std::path::Path;

use keplordb_disk::Disk;

use crate::error::Result;
use crate::frame::BadFrame;
use crate::header::{self, Listed};
use crate::mark::Mark;
use crate::segment_file::SegmentFile;
use crate::timestamp::Timestamp;

/// What a reader may see of a directory now.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) mark: Option<Mark>,
    /// Oldest first.
    pub(crate) segments: Vec<Listed>,
}

impl View {
    pub(crate) fn of(disk: &dyn Disk, dir: &Path) -> Result<Self> {
        // Before the list: what the mark counts is there before it does.
        let mark = Mark::of_copy(disk, dir)?;
        let mut segments = header::list(disk, dir)?;
        segments.retain(|segment| limit_bytes(mark.as_ref(), segment.start) > 0);
        Ok(Self { mark, segments })
    }

    pub(crate) fn has(&self, start: Timestamp) -> bool {
        self.segments.iter().any(|segment| segment.start == start)
    }

    pub(crate) fn after(&self, start: Timestamp) -> Option<Timestamp> {
        self.segments.iter().map(|segment| segment.start).find(|later| *later > start)
    }

    pub(crate) fn before(&self, start: Timestamp) -> Option<Timestamp> {
        self.segments.iter().map(|segment| segment.start).rfind(|earlier| *earlier < start)
    }

    /// Tells a segment that was opened what the directory says of it.
    pub(crate) fn place(&self, segment: &mut SegmentFile) {
        let start = segment.header.start;
        segment.limit_bytes = self.limit_bytes(start);
        segment.may_grow = self.after(start).is_none();
    }

    /// How many bytes of the segment that starts at `start` count.
    pub(crate) fn limit_bytes(&self, start: Timestamp) -> u64 {
        limit_bytes(self.mark.as_ref(), start)
    }

    /// Whether it is proved that what is bad at `offset` in a segment was whole once. If not, a power cut may have torn it.
    ///
    /// Cost: that of [`SegmentFile::is_covered`] for the last segment, none for others.
    pub(crate) fn was_whole(&self, segment: &mut SegmentFile, offset: u64, bad: &BadFrame) -> Result<bool> {
        let start = segment.header.start;
        let is_last = self.after(start).is_none();
        // All that counts in a copy is whole.
        let is_copied = self.mark.is_some() && offset < self.limit_bytes(start);
        Ok(!is_last || is_copied || segment.is_covered(offset, bad)?)
    }
}

/// How many bytes of the segment that starts at `start` count, by the mark of its directory.
pub(crate) fn limit_bytes(mark: Option<&Mark>, start: Timestamp) -> u64 {
    match mark {
        Some(mark) if mark.start == start => mark.bytes,
        Some(mark) if mark.start < start => 0,
        _ => u64::MAX,
    }
}
