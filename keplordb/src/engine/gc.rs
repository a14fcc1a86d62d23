//! Forgetting: whole segments whose newest event is older than a cutoff, or that are too much.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Core;
use super::unlink::Replaced;
use crate::error::Result;
use crate::format::manifest::Dropped;
use crate::state::version::{SegmentEntry, Version};
use keplordb_log::planted::{self, Bug};

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
        self.freeing(self.drop_segments(|version| older_than(version, cutoff_ts_ns)))
    }

    /// Drops what the retention that the engine was opened with does not allow: what is older than the cutoff, then the oldest
    /// segments while there are too many bytes.
    pub(crate) fn retain(&self, cutoff_ts_ns: Option<i64>) -> Result<GcStats> {
        self.freeing(self.drop_segments(|version| {
            let mut goes = cutoff_ts_ns.map(|cutoff| older_than(version, cutoff)).unwrap_or_default();
            let Some(max_bytes) = self.options.retention.max_bytes else { return goes };
            let mut bytes = version.wal_bytes();
            let newest_first = |entry: &&SegmentEntry| Reverse((newest(entry), entry.segment.number()));
            let mut segments: Vec<_> = version.segments.iter().collect();
            segments.sort_unstable_by_key(newest_first);
            for entry in segments {
                bytes += entry.segment.header().file_bytes;
                if bytes > max_bytes {
                    goes.insert(entry.segment.number());
                }
            }
            goes
        }))
    }

    /// Drops the segments of these numbers, in one step.
    fn drop_segments(&self, choose: impl FnOnce(&Version) -> BTreeSet<u64>) -> Result<GcStats> {
        let mut publish = self.publish.lock();
        let mut version = Version::clone(&self.source.version());
        let goes = choose(&version);
        if goes.is_empty() {
            return Ok(GcStats::default());
        }
        let is_gone = |entry: &SegmentEntry| goes.contains(&entry.segment.number());
        let (gone, kept): (Vec<_>, Vec<_>) = version.segments.into_iter().partition(is_gone);
        version.segments = kept;
        let mut stats = GcStats::default();
        for entry in &gone {
            stats.segments_deleted += 1;
            stats.bytes_freed += entry.segment.header().file_bytes;
            stats.events_deleted += entry.live_rows();
            let facts = &entry.segment.header().facts;
            let (first, last) = (facts.sequence_min, facts.sequence_max);
            version.drop_rows(Dropped { first, last, rows: entry.live_rows() });
        }
        if planted::is(Bug::UnlinkedBeforeForgotten) {
            for entry in &gone {
                self.wal.directory.remove_leftover(entry.segment.path());
            }
        }
        let replaced = gone.into_iter().map(|entry| Replaced::segment(entry.segment, None)).collect();
        self.commit_version(&mut publish, version, replaced)?;
        Ok(stats)
    }
}

fn older_than(version: &Version, cutoff_ts_ns: i64) -> BTreeSet<u64> {
    let old = version.segments.iter().filter(|entry| newest(entry) < cutoff_ts_ns);
    old.map(|entry| entry.segment.number()).collect()
}

/// The time of a segment's newest event, deleted or not.
fn newest(entry: &SegmentEntry) -> i64 {
    entry.segment.header().facts.ts_max
}
