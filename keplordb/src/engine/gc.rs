//! Forgetting: whole segments whose newest event is older than a cutoff.

use super::Core;
use super::unlink::Replaced;
use crate::error::Result;
use crate::state::version::{SegmentEntry, Version};

/// What [`gc`](crate::Engine::gc) removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GcStats {
    /// Segments.
    pub segments_deleted: u32,
    /// Bytes of their files, which go when [`unlink_grace`](crate::Options::unlink_grace) is over; on a full disk at once.
    pub bytes_freed: u64,
    /// Live events in them.
    pub events_deleted: u64,
}

impl Core {
    /// Drops every segment whose newest event is before `cutoff_ts_ns`. The manifest forgets them first, so that no crash
    /// brings them back; their files go when their grace is over, on a full disk at once.
    pub(crate) fn gc(&self, cutoff_ts_ns: i64) -> Result<GcStats> {
        let _told = self.wal.directory.notices().tell_at_end();
        self.freeing(self.drop_segments(cutoff_ts_ns))
    }

    fn drop_segments(&self, cutoff_ts_ns: i64) -> Result<GcStats> {
        let mut publish = self.publish.lock();
        let mut version = Version::clone(&self.source.version());
        let is_old = |entry: &SegmentEntry| entry.segment.header().facts.ts_max < cutoff_ts_ns;
        let (old, kept): (Vec<_>, Vec<_>) = version.segments.into_iter().partition(is_old);
        if old.is_empty() {
            return Ok(GcStats::default());
        }
        version.segments = kept;
        let mut stats = GcStats::default();
        for entry in &old {
            stats.segments_deleted += 1;
            stats.bytes_freed += entry.segment.header().file_bytes;
            stats.events_deleted += entry.live_rows();
        }
        let replaced = old.into_iter().map(|entry| Replaced::segment(entry.segment, None)).collect();
        self.commit_version(&mut publish, version, replaced)?;
        Ok(stats)
    }
}
