//! Numbers about an engine, each read at once.

use std::sync::atomic::Ordering;

use super::Core;
use crate::error::DbError;

/// A snapshot of an engine's numbers; O(shards), no I/O.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// Live rows.
    pub events: u64,
    /// Rows that are not yet in a segment.
    pub unsealed_rows: u64,
    /// Rows that are deleted, and still take space in a segment or log; compaction drops them.
    pub deleted_rows: u64,
    /// Tombstones in the log of deletes; those of rows that are gone go with a compaction.
    pub tombstones: u64,
    /// The time of the oldest event, in nanoseconds since the Unix epoch; a deleted one counts until compaction drops it. `None`
    /// when there is none.
    pub oldest_ts_ns: Option<i64>,
    /// The time of the newest event, likewise.
    pub newest_ts_ns: Option<i64>,
    /// Segments.
    pub segments: usize,
    /// Bytes of the segments' files.
    pub segment_bytes: u64,
    /// Bytes of the logs.
    pub wal_bytes: u64,
    /// Syncs since the engine was opened.
    pub syncs: u64,
    /// The last failure that no call returned: of a rotation that an append triggered, of a merge that a flush left out, of
    /// [`Maintenance`](crate::Maintenance). What failed is tried again.
    pub last_error: Option<DbError>,
}

impl Core {
    pub(crate) fn stats(&self) -> Stats {
        let version = self.source.version();
        let times = version.times();
        Stats {
            events: version.live_rows(),
            unsealed_rows: version.unsealed_rows(),
            deleted_rows: version.deleted_rows(),
            tombstones: self.tombstones.load(Ordering::Relaxed),
            oldest_ts_ns: times.map(|(oldest, _)| oldest),
            newest_ts_ns: times.map(|(_, newest)| newest),
            segments: version.segments.len(),
            segment_bytes: version.segment_bytes(),
            wal_bytes: version.wal_bytes(),
            syncs: self.wal.syncs.load(Ordering::Relaxed),
            last_error: self.last_error.lock().clone(),
        }
    }
}
