//! Putting a segment in the place of what has its rows: sealed memtables, other segments, or both.
//!
//! Steps 2 to 4 of a rotation, and the whole of a merge: write the segment, publish it by the manifest (the commit point), and
//! list what it replaced for unlinking. Deletes go on meanwhile; those of rows that are in the new segment are carried over when
//! it is published.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use roaring::{RoaringBitmap, RoaringTreemap};

use super::Core;
use super::claim::Sources;
use super::unlink::Replaced;
use crate::error::Result;
use crate::state::segment_rows::{Job, SegmentRows, encode};
use crate::state::version::{MemtableEntry, SegmentEntry, Version};
use crate::storage::segment_reader::Segment;
use keplordb_log::planted::{self, Bug};

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Done,
    /// One of the segments is gone by now, dropped by gc; nothing was changed.
    SourcesGone,
}

impl Core {
    /// Puts `rows`, which are those of `sealed` and of `sources`, in their place; without rows, nothing. On an error nothing has
    /// changed, or writing has stopped.
    pub(crate) fn put_segment(
        &self,
        sealed: &[MemtableEntry],
        sources: &Sources,
        rows: &SegmentRows,
    ) -> Result<Put> {
        let written = if rows.is_empty() { None } else { Some(self.write_segment(sealed, sources, rows)?) };
        let put = self.publish_segment(sealed, sources, rows, written.as_ref());
        if let Some(segment) = &written
            && !matches!(put, Ok(Put::Done))
            && !self.wal.directory.poison().is_set()
        {
            self.wal.directory.remove_leftover(segment.path());
        }
        put
    }

    fn publish_segment(
        &self,
        sealed: &[MemtableEntry],
        sources: &Sources,
        rows: &SegmentRows,
        written: Option<&Arc<Segment>>,
    ) -> Result<Put> {
        let mut publish = self.publish.lock();
        let mut version = Version::clone(&self.source.version());
        let is_source =
            |entry: &SegmentEntry| sources.segments.iter().any(|one| one.number == entry.segment.number());
        let (merged, mut segments): (Vec<_>, Vec<_>) = version.segments.into_iter().partition(is_source);
        if merged.len() < sources.segments.len() {
            return Ok(Put::SourcesGone);
        }
        let is_absorbed =
            |generation: u64| sealed.iter().any(|entry| entry.memtable.generation() == generation);
        let (absorbed, memtables): (Vec<_>, Vec<_>) =
            version.memtables.into_iter().partition(|entry| is_absorbed(entry.memtable.generation()));
        if let Some(segment) = written {
            let deleted = deleted_meanwhile(&absorbed, &merged, sources, rows);
            // Numbers are given before segments are written, which two may do at once.
            let place = segments.partition_point(|entry| entry.segment.number() < segment.number());
            segments.insert(place, SegmentEntry { segment: Arc::clone(segment), deleted });
        }
        if planted::is(Bug::SourcesKept) {
            segments.extend(merged.iter().cloned());
            segments.sort_by_key(|entry| entry.segment.number());
        }
        if planted::is(Bug::UnlinkedBeforePublished) {
            for entry in &absorbed {
                self.wal.directory.remove_leftover(&self.wal.directory.wal(entry.memtable.generation()));
            }
        }
        (version.segments, version.memtables) = (segments, memtables);
        let by = written.map(|segment| segment.number());
        let logs = absorbed.iter().map(|entry| Replaced::wal(entry.memtable.generation(), by));
        let merged = merged.into_iter().map(|entry| Replaced::segment(entry.segment, by));
        let replaced = logs.chain(merged).collect();
        self.commit_version(&mut publish, version, replaced)?;
        Ok(Put::Done)
    }

    fn write_segment(
        &self,
        sealed: &[MemtableEntry],
        sources: &Sources,
        rows: &SegmentRows,
    ) -> Result<Arc<Segment>> {
        let number = sources.number.unwrap_or_else(|| self.publish.lock().give_segment_number());
        let sealed = sealed.iter().map(|entry| entry.memtable.generation());
        let generations: BTreeSet<u64> = sealed.chain(sources.generations.iter().copied()).collect();
        let generations: Vec<u64> = generations.into_iter().collect();
        let supersedes: BTreeSet<u64> = sources.supersedes.iter().copied().collect();
        let mut supersedes: Vec<u64> = supersedes.into_iter().collect();
        if planted::is(Bug::SourcesNotSuperseded) {
            supersedes.clear();
        }
        let schema = self.source.schema();
        let job = Job {
            schema,
            generations: &generations,
            supersedes: &supersedes,
            bloom_dim: Some(self.config.bloom_dim).filter(|dim| *dim < schema.shape().dims),
            rollup_dims: &self.config.rollup_dims,
        };
        let path = self.wal.directory.segment(number);
        let bytes = encode(&job, rows);
        self.wal.directory.write_whole(&path, &bytes)?;
        self.wal.syncs.fetch_add(2, Ordering::Relaxed);
        // What could not be opened is in nobody's list, and a rebuilt manifest would count it.
        self.open_segment(number).inspect_err(|_| _ = self.wal.directory.remove_leftover(&path))
    }

    /// Opens a segment of this engine.
    pub(crate) fn open_segment(&self, number: u64) -> Result<Arc<Segment>> {
        Segment::open(&self.wal.directory, number, &self.segments, self.options.map_mode)
    }
}

/// Rows of the new segment that were deleted after they were gathered, as the entries that it replaces say now.
fn deleted_meanwhile(
    absorbed: &[MemtableEntry],
    merged: &[SegmentEntry],
    sources: &Sources,
    rows: &SegmentRows,
) -> Option<Arc<RoaringBitmap>> {
    let of_memtables = absorbed.iter().filter_map(|entry| entry.deleted.as_deref()).flatten();
    let of_segments = sources.segments.iter().flat_map(|source| {
        let now = merged.iter().find(|entry| entry.segment.number() == source.number);
        now.map(|now| source.deleted_since(now)).unwrap_or_default()
    });
    let deleted: RoaringTreemap = of_memtables.chain(of_segments).collect();
    if deleted.is_empty() {
        return None;
    }
    let found = rows.sequences().enumerate().filter(|(_, sequence)| deleted.contains(*sequence));
    let found: RoaringBitmap =
        found.map(|(row, _)| u32::try_from(row).expect("a segment has less than 2^32 rows")).collect();
    (!found.is_empty()).then(|| Arc::new(found))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keplordb_disk::{Disk, MemoryDisk};

    use super::*;
    use crate::config::{EngineConfig, Options};
    use crate::event::LogEvent;
    use crate::schema::TableSchema;
    use crate::storage::manifest;

    /// A merge is written after gc has dropped its source and the manifest has forgotten it, and is never published.
    #[test]
    fn a_manifest_that_forgets_a_source_knows_the_number_of_the_successor() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let open = || {
            let options = Options::default().disk(Arc::clone(&disk)).unlink_grace(Duration::ZERO);
            let schema = TableSchema::positional(0, 0, 0, 0);
            Core::open(EngineConfig::in_dir("events"), options, schema).unwrap()
        };
        let core = open();
        core.append([LogEvent::<0, 0, 0>::default()].iter().map(LogEvent::as_row), false).unwrap();
        core.flush().unwrap();
        let mut claim = core.claim(&mut core.publish.lock(), &core.source.version(), vec![1]);
        core.gc(i64::MAX).unwrap();
        let sources = claim.decode(usize::MAX).unwrap();
        let mut rows = SegmentRows::default();
        rows.merge(&sources.segments);
        let number = core.write_segment(&[], &sources, &rows).unwrap().number();
        let directory = core.wal.directory.clone();
        assert!(number < manifest::load(&directory).unwrap().next_segment, "{number}");
        drop(claim);
        drop(core);

        assert!(disk.bytes(&directory.segment(number)).unwrap().is_some());
        let core = open();
        assert_eq!(core.report().quarantined, []);
        assert_eq!(disk.bytes(&directory.segment(number)).unwrap(), None);
        assert!(core.source.version().segments.is_empty());
    }
}
