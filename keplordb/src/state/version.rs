//! What readers see: one immutable list of segments and memtables with their deleted rows, and the view that a query
//! takes of it.

use std::sync::Arc;

use roaring::{RoaringBitmap, RoaringTreemap};

use super::memtable::{Memtable, MemtableBlocks};
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
    /// What the segments have in all; counted when the version is shown.
    of_segments: Counts,
}

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
        Self { segments, memtables, of_segments: Counts::default() }
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
}

/// The blocks of a memtable, and which of their rows are deleted.
#[derive(Debug)]
pub(crate) struct MemtableView {
    pub(crate) blocks: MemtableBlocks,
    /// Sequences.
    pub(crate) deleted: Option<Arc<RoaringTreemap>>,
}

impl View {
    pub(crate) fn new(version: Arc<Version>) -> Self {
        let with_rows = version.memtables.iter().filter(|entry| entry.memtable.rows() > 0);
        let memtables = with_rows
            .map(|entry| MemtableView { blocks: entry.memtable.blocks(), deleted: entry.deleted.clone() })
            .collect();
        Self { version, memtables }
    }

    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    pub(crate) fn segments(&self) -> &[SegmentEntry] {
        &self.version.segments
    }

    pub(crate) fn memtables(&self) -> &[MemtableView] {
        &self.memtables
    }
}
