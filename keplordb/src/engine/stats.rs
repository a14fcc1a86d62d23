//! Numbers about an engine, each read at once.

use std::sync::atomic::Ordering;

use super::Core;
use crate::error::DbError;

/// A snapshot of an engine's numbers; O(segments + shards), no I/O.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// Live rows.
    pub events: u64,
    /// Rows that are not yet in a segment.
    pub unsealed_rows: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes of the segments' files.
    pub segment_bytes: u64,
    /// Bytes of the logs.
    pub wal_bytes: u64,
    /// Syncs since the engine was opened.
    pub syncs: u64,
    /// The last failure that no call returned: of a rotation that an append triggered. Its rows are in the log and are
    /// tried again.
    pub last_error: Option<DbError>,
}

impl Core {
    pub(crate) fn stats(&self) -> Stats {
        let version = self.source.version();
        Stats {
            events: version.live_rows(),
            unsealed_rows: version.unsealed_rows(),
            segments: version.segments.len(),
            segment_bytes: version.segment_bytes(),
            wal_bytes: version.wal_bytes(),
            syncs: self.wal.syncs.load(Ordering::Relaxed),
            last_error: self.last_error.lock().clone(),
        }
    }
}
