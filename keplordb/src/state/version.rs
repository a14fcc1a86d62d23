//! What readers see: one immutable list of segments and memtables with their deleted rows, and the view that a query
//! takes of it.

use std::sync::Arc;

use roaring::{RoaringBitmap, RoaringTreemap};

use super::memtable::{Memtable, MemtableBlocks};
use crate::format::manifest::Dropped;
use crate::storage::segment_reader::Segment;

/// A segment and its deleted rows.
#[derive(Debug, Clone)]
pub(crate) struct SegmentEntry {
    pub(crate) segment: Arc<Segment>,
    /// Row numbers; `None` when no row is deleted.
    pub(crate) deleted: Option<Arc<RoaringBitmap>>,
}

impl SegmentEntry {
    pub(crate) fn live_rows(&self) -> u64 {
        u64::from(self.segment.header().rows) - self.deleted.as_ref().map_or(0, |deleted| deleted.len())
    }

    pub(crate) fn is_deleted(&self, row: u32) -> bool {
        self.deleted.as_ref().is_some_and(|deleted| deleted.contains(row))
    }
}

/// A memtable and its deleted rows.
#[derive(Debug, Clone)]
pub(crate) struct MemtableEntry {
    pub(crate) memtable: Arc<Memtable>,
    /// Takes no more rows and waits to be written as a segment.
    pub(crate) sealed: bool,
    /// Sequences; `None` when no row is deleted.
    pub(crate) deleted: Option<Arc<RoaringTreemap>>,
}

/// One state of the engine; every change makes a new one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Version {
    /// In the order of their numbers.
    pub(crate) segments: Vec<SegmentEntry>,
    /// The active memtable of each shard that has one, and the sealed ones.
    pub(crate) memtables: Vec<MemtableEntry>,
    /// How often rows were deleted since the table was opened.
    pub(crate) deletes: u64,
    /// What gc has dropped since the table was made, ascending, at most [`DROPPED_RANGES`].
    pub(crate) dropped: Arc<[Dropped]>,
    /// What the segments have in all; counted when the version is shown.
    of_segments: Counts,
}

/// Ranges of dropped rows that are told apart; what is more is told together with its neighbour.
const DROPPED_RANGES: usize = 64;

/// What all segments of a version have together.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    live_rows: u64,
    deleted_rows: u64,
    file_bytes: u64,
    /// Smallest and largest; deleted rows count.
    times: Option<(i64, i64)>,
}

impl Version {
    /// Not yet [counted](Self::counted), which showing it does.
    pub(crate) fn new(segments: Vec<SegmentEntry>, memtables: Vec<MemtableEntry>) -> Self {
        Self { segments, memtables, ..Self::default() }
    }

    /// Counts what the segments have, so that nobody who asks later has to walk over them.
    pub(crate) fn counted(mut self) -> Self {
        let mut counts = Counts::default();
        for entry in self.segments.iter().filter(|entry| entry.segment.header().rows > 0) {
            let header = entry.segment.header();
            counts.live_rows += entry.live_rows();
            counts.deleted_rows += u64::from(header.rows) - entry.live_rows();
            counts.file_bytes += header.file_bytes;
            counts.times = widest(counts.times, Some((header.facts.ts_min, header.facts.ts_max)));
        }
        self.of_segments = counts;
        self
    }

    /// Says that rows were dropped. Of too many ranges, the two that are nearest to each other become one.
    pub(crate) fn drop_rows(&mut self, dropped: Dropped) {
        let mut ranges = self.dropped.to_vec();
        let place = ranges.partition_point(|known| *known < dropped);
        ranges.insert(place, dropped);
        while ranges.len() > DROPPED_RANGES {
            let gaps = ranges.windows(2).map(|pair| pair[1].first.saturating_sub(pair[0].last));
            let Some((nearest, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) else { break };
            let next = ranges.remove(nearest + 1);
            ranges[nearest] = ranges[nearest].with(next);
            ranges.sort_unstable();
        }
        self.dropped = ranges.into();
    }

    /// Deleted rows, counted now.
    pub(crate) fn counted_deletes(&self) -> u64 {
        let in_segments = self.segments.iter().filter_map(|entry| Some(entry.deleted.as_ref()?.len()));
        in_segments.sum::<u64>() + self.deleted_in_memtables()
    }

    /// Rows that are not deleted.
    pub(crate) fn live_rows(&self) -> u64 {
        self.of_segments.live_rows + self.unsealed_rows() - self.deleted_in_memtables()
    }

    /// Rows that are deleted, and still in a segment or log.
    pub(crate) fn deleted_rows(&self) -> u64 {
        self.of_segments.deleted_rows + self.deleted_in_memtables()
    }

    fn deleted_in_memtables(&self) -> u64 {
        self.memtables.iter().filter_map(|entry| Some(entry.deleted.as_ref()?.len())).sum()
    }

    /// Bytes of the segments' files.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.of_segments.file_bytes
    }

    /// Smallest and largest time of all rows, deleted ones too; `None` without rows.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        let memtables = self.memtables.iter().map(|entry| entry.memtable.times());
        memtables.fold(self.of_segments.times, widest)
    }

    /// Bytes of the logs whose rows are not yet in a segment.
    pub(crate) fn wal_bytes(&self) -> u64 {
        self.memtables.iter().map(|entry| entry.memtable.wal_bytes()).sum()
    }

    /// The number below which those of all its rows are.
    pub(crate) fn numbers_below(&self) -> u64 {
        let of_segments = self.segments.iter().map(|entry| entry.segment.header().facts.sequence_max + 1);
        let of_memtables = self.memtables.iter().map(|entry| entry.memtable.numbers_below());
        of_segments.chain(of_memtables).max().unwrap_or(0)
    }

    /// Rows that are not yet in a segment.
    pub(crate) fn unsealed_rows(&self) -> u64 {
        self.memtables.iter().map(|entry| entry.memtable.rows()).sum()
    }
}

/// The range that covers both.
fn widest(one: Option<(i64, i64)>, other: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}

/// What one query reads: a version, and the rows that its memtables had when the query began.
///
/// Every batch is in it whole or not at all, and whatever was acknowledged before it was taken is in it.
#[derive(Debug)]
pub(crate) struct View {
    version: Arc<Version>,
    memtables: Vec<MemtableView>,
    /// Every row that was ever appended with a number below is in it, unless it is deleted or was dropped.
    settled: u64,
}

/// The blocks of a memtable, and which of their rows are deleted.
#[derive(Debug)]
pub(crate) struct MemtableView {
    pub(crate) blocks: MemtableBlocks,
    /// Sequences.
    pub(crate) deleted: Option<Arc<RoaringTreemap>>,
    /// The number below which all rows are on disk.
    synced_below: u64,
}

impl MemtableView {
    /// Rows that are not deleted. Deleted ones are in the blocks, which are taken later.
    fn live_rows(&self) -> u64 {
        let rows: u64 = self.blocks.iter().map(|block| block.rows() as u64).sum();
        rows - self.deleted.as_ref().map_or(0, |deleted| deleted.len())
    }
}

impl View {
    /// `settled` was asked for before the version was loaded; the blocks are taken here, after it. So a row below it that
    /// was in a memtable of that moment is in one of this version, or in the segment that took its place.
    pub(crate) fn new(version: Arc<Version>, settled: u64) -> Self {
        let with_rows = version.memtables.iter().filter(|entry| entry.memtable.rows() > 0);
        let memtables = with_rows
            .map(|entry| MemtableView {
                blocks: entry.memtable.blocks(),
                deleted: entry.deleted.clone(),
                synced_below: entry.memtable.synced_below(),
            })
            .collect();
        Self { version, memtables, settled }
    }

    /// The view without rows with numbers from `below` on, which count as deleted in it; `None` where a segment has such rows.
    pub(crate) fn only_below(mut self, below: u64) -> Option<Self> {
        let mut with_rows = self.segments().iter().filter(|entry| entry.segment.header().rows > 0);
        if with_rows.any(|entry| entry.segment.header().facts.sequence_max >= below) {
            return None;
        }
        for memtable in &mut self.memtables {
            let later = memtable.blocks.iter().flat_map(|block| {
                // They ascend, as all sequences of a shard do.
                let sequences = block.sequence();
                &sequences[sequences.partition_point(|sequence| *sequence < below)..]
            });
            let mut later = later.copied().peekable();
            if later.peek().is_some() {
                let mut deleted = memtable.deleted.as_deref().cloned().unwrap_or_default();
                deleted.extend(later);
                memtable.deleted = Some(Arc::new(deleted));
            }
        }
        Some(self)
    }

    /// Rows that are not deleted.
    pub(crate) fn live_rows(&self) -> u64 {
        let in_memory = self.memtables.iter().map(MemtableView::live_rows);
        self.version.of_segments.live_rows + in_memory.sum::<u64>()
    }

    /// Whether a row is deleted.
    pub(crate) fn has_deletes(&self) -> bool {
        self.segments().iter().any(|entry| entry.deleted.is_some())
            || self.memtables.iter().any(|memtable| memtable.deleted.is_some())
    }

    /// Smallest and largest time of all rows, deleted ones too; `None` without rows.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        let blocks = self.memtables.iter().flat_map(|memtable| memtable.blocks.iter());
        let times = blocks.filter(|block| block.rows() > 0).map(|block| {
            let summary = block.summary();
            Some((summary.ts_min, summary.ts_max))
        });
        times.fold(self.version.of_segments.times, widest)
    }

    /// The number below which no row will come any more; in a table that another process writes, below which all are that were
    /// read of it, while an append that was under way may still add one.
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    /// The number below which no row will come any more and all rows are on disk.
    ///
    /// Rows of a log are written in the order of their numbers, so the first that is not on disk is the first that is not
    /// below the log's own number. One that is not in the blocks is not settled either.
    pub(crate) fn settled_and_synced(&self) -> u64 {
        let unsynced = self.memtables.iter().flat_map(|memtable| {
            memtable.blocks.iter().filter_map(|block| {
                let sequences = block.sequence();
                let synced = sequences.partition_point(|sequence| *sequence < memtable.synced_below);
                sequences.get(synced).copied()
            })
        });
        unsynced.fold(self.settled, u64::min)
    }

    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// The number below which those of all its rows are.
    pub(crate) fn numbers_below(&self) -> u64 {
        let of_segments = self.segments().iter().map(|entry| entry.segment.header().facts.sequence_max + 1);
        let blocks = self.memtables.iter().flat_map(|memtable| memtable.blocks.iter());
        let of_blocks = blocks.filter_map(|block| Some(block.sequence().last()? + 1));
        of_segments.chain(of_blocks).max().unwrap_or(0)
    }

    /// What was dropped so far.
    pub(crate) fn dropped(&self) -> &Arc<[Dropped]> {
        &self.version.dropped
    }

    pub(crate) fn segments(&self) -> &[SegmentEntry] {
        &self.version.segments
    }

    pub(crate) fn memtables(&self) -> &[MemtableView] {
        &self.memtables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_ranges_stay_few_and_lose_no_row() {
        let mut version = Version::default();
        let mut rows = 0;
        for turn in 0..1000_u64 {
            let first = 1 + turn * 7919 % 1000 * 10;
            version.drop_rows(Dropped { first, last: first + turn % 9, rows: 1 + turn % 3 });
            rows += 1 + turn % 3;
            assert!(version.dropped.is_sorted() && version.dropped.len() <= DROPPED_RANGES);
            assert_eq!(version.dropped.iter().map(|range| range.rows).sum::<u64>(), rows);
            let is_told = |range: &Dropped| range.first <= first && first + turn % 9 <= range.last;
            assert!(version.dropped.iter().any(is_told), "{first} of turn {turn}");
        }
    }
}
