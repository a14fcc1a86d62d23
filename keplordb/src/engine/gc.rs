//! Forgetting: whole segments whose newest event is older than a cutoff.

use super::Core;
use crate::error::Result;
use crate::state::version::Version;

/// What [`gc`](crate::Engine::gc) removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GcStats {
    /// Segments.
    pub segments_deleted: u32,
    /// Bytes of their files.
    pub bytes_freed: u64,
    /// Live events in them.
    pub events_deleted: u64,
}

impl Core {
    /// Drops every segment whose newest event is before `cutoff_ts_ns`. The manifest forgets them first, so that no crash
    /// brings them back; then their files go.
    pub(crate) fn gc(&self, cutoff_ts_ns: i64) -> Result<GcStats> {
        let _told = self.wal.directory.notices().tell_at_end();
        let mut publish = self.publish.lock();
        let mut version = Version::clone(&self.source.version());
        let is_old =
            |entry: &crate::state::version::SegmentEntry| entry.segment.header().facts.ts_max < cutoff_ts_ns;
        let (old, kept): (Vec<_>, Vec<_>) = version.segments.into_iter().partition(is_old);
        if old.is_empty() {
            return Ok(GcStats::default());
        }
        version.segments = kept;
        // The logs that these segments absorbed may still be in their grace. They go first: a manifest that had to be
        // rebuilt could not tell them from logs that no segment has absorbed yet.
        let absorbed: Vec<_> = old.iter().flat_map(|entry| &entry.segment.header().generations).collect();
        let absorbed: Vec<_> =
            absorbed.into_iter().map(|generation| self.wal.directory.wal(*generation)).collect();
        publish.unlink.retain(|(_, path)| {
            let goes = absorbed.contains(path);
            if goes {
                self.wal.directory.remove_leftover(path);
            }
            !goes
        });
        self.commit_version(&mut publish, version)?;
        let mut stats = GcStats::default();
        for entry in &old {
            entry.segment.remove_when_unused();
            stats.segments_deleted += 1;
            stats.bytes_freed += entry.segment.header().file_bytes;
            stats.events_deleted += entry.live_rows();
        }
        Ok(stats)
    }
}
