//! What a log holds, in a few numbers.

use crate::error::Result;
use crate::log::Log;
use crate::timestamp::Timestamp;

/// What a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStats {
    /// Segments.
    pub segments: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of their headers and frames, without what is written ahead, and without indexes.
    pub bytes: u64,
    /// Time of the first entry that is there.
    pub first: Option<Timestamp>,
    /// Time of the last entry.
    pub last: Option<Timestamp>,
}

impl Log {
    /// What the log holds now. What a writer has done is told by [`Writer::stats`](crate::Writer::stats), whether all of it can
    /// be read by [`verify`](Self::verify).
    ///
    /// Cost and errors: those of [`segments`](Self::segments).
    ///
    /// # Errors
    /// As [`segments`](Self::segments).
    pub fn stats(&self) -> Result<LogStats> {
        let segments = self.segments()?;
        Ok(LogStats {
            segments: segments.len() as u64,
            entries: segments.iter().map(|segment| segment.entries).sum(),
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            first: segments.first().map(|segment| segment.start),
            last: segments.last().map(|segment| segment.end),
        })
    }
}
