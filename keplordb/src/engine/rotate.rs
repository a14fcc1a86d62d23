//! Rotation: the rows of sealed generations become a segment, exactly once.
//!
//! The four steps of docs/durability.md: *seal* the generation, *write* the segment, *publish* it by the manifest (the
//! commit point), *unlink* the WAL. A crash before the third leaves the WALs, which are replayed; after it, the segment.

use std::sync::Arc;

use parking_lot::MutexGuard;
use roaring::RoaringBitmap;

use super::Core;
use super::shard::Active;
use super::unlink::Replaced;
use crate::config::MAX_MEMTABLE_BYTES;
use crate::error::Result;
use crate::state::segment_rows::{Job, SegmentRows, encode};
use crate::state::version::{MemtableEntry, SegmentEntry, Version};
use crate::storage::segment_reader::Segment;

/// What [`flush`](crate::Engine::flush) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Rows that were moved from logs into a segment.
    pub rows: u64,
}

impl Core {
    /// Rotates a shard that an append found full. Only one rotation runs at a time; who comes second waits, and so the
    /// memory of rows that wait to be written stays bounded.
    pub(crate) fn rotate_full(&self, index: usize) -> Result<()> {
        let rotation = self.rotation.lock();
        let sealed = self
            .seal(index, |active| active.is_full(self.config.wal_max_events, self.options.memtable_bytes))?;
        if sealed {
            self.freeing(self.write_sealed(&rotation))?;
        }
        Ok(())
    }

    /// A barrier: all rows appended before the call are in segments when it returns.
    pub(crate) fn flush(&self) -> Result<Flushed> {
        let _told = self.wal.directory.notices().tell_at_end();
        if self.source.version().unsealed_rows() == 0 {
            return Ok(Flushed::default());
        }
        let rotation = self.rotation.lock();
        for index in 0..self.shards.len() {
            self.freeing(self.seal(index, |active| active.memtable.rows() > 0))?;
        }
        self.freeing(self.write_sealed(&rotation))
    }

    /// Step 1: the shard's generation takes no more rows; its file is closed and synced before the next one is begun.
    fn seal(&self, index: usize, is_due: impl FnOnce(&Active) -> bool) -> Result<bool> {
        let mut state = self.shards[index].state.lock();
        self.wal.directory.poison().check()?;
        let Some(active) = state.active.as_mut().filter(|active| is_due(active)) else {
            return Ok(false);
        };
        self.begin_writing()?;
        active.wal.seal(self.next_sequence.load(std::sync::atomic::Ordering::Relaxed))?;
        let generation = active.memtable.generation();
        active.memtable.set_wal_bytes(active.wal.end());
        let _publish = self.publish.lock();
        let mut version = Version::clone(&self.source.version());
        for entry in &mut version.memtables {
            entry.sealed |= entry.memtable.generation() == generation;
        }
        self.source.show(version);
        state.active = None;
        Ok(true)
    }

    /// Steps 2 to 4, for every sealed generation, also those that an earlier rotation failed to write: as one segment, or as
    /// several where one would be too large.
    fn write_sealed(&self, _rotation: &MutexGuard<'_, ()>) -> Result<Flushed> {
        let sealed: Vec<MemtableEntry> =
            self.source.version().memtables.iter().filter(|entry| entry.sealed).cloned().collect();
        let mut flushed = Flushed::default();
        let mut rest = &sealed[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|entry| {
                bytes += entry.memtable.memory_bytes();
                bytes <= MAX_MEMTABLE_BYTES
            });
            // One that is larger by its last batch still makes a segment.
            let (group, later) = rest.split_at(fits.count().max(1));
            flushed.rows += self.write_group(group)?;
            rest = later;
        }
        Ok(flushed)
    }

    fn write_group(&self, sealed: &[MemtableEntry]) -> Result<u64> {
        // Step 2. Rows that are deleted by now are left out.
        let rows = SegmentRows::gather(sealed);
        let written = if rows.is_empty() { None } else { Some(self.write_segment(sealed, &rows)?) };

        // Step 3, and of step 4 what is due by now.
        let mut publish = self.publish.lock();
        let mut version = Version::clone(&self.source.version());
        let is_absorbed =
            |generation: u64| sealed.iter().any(|entry| entry.memtable.generation() == generation);
        if let Some(segment) = &written {
            let deleted = deleted_meanwhile(&version, &is_absorbed, &rows);
            version.segments.push(SegmentEntry { segment: Arc::clone(segment), deleted });
        }
        version.memtables.retain(|entry| !is_absorbed(entry.memtable.generation()));
        let by = written.as_ref().map(|segment| segment.number());
        let replaced = sealed.iter().map(|entry| Replaced::wal(entry.memtable.generation(), by)).collect();
        if let Err(error) = self.commit_version(&mut publish, version, replaced) {
            if let Some(segment) = &written
                && !self.wal.directory.poison().is_set()
            {
                self.wal.directory.remove_leftover(segment.path());
            }
            return Err(error);
        }
        Ok(rows.len() as u64)
    }

    fn write_segment(&self, sealed: &[MemtableEntry], rows: &SegmentRows) -> Result<Arc<Segment>> {
        let number = {
            let mut publish = self.publish.lock();
            publish.next_segment += 1;
            publish.next_segment - 1
        };
        let generations: Vec<u64> = sealed.iter().map(|entry| entry.memtable.generation()).collect();
        let job = Job {
            schema: self.source.schema(),
            generations: &generations,
            bloom_dim: Some(self.config.bloom_dim).filter(|dim| *dim < self.source.schema().shape().dims),
            rollup_dims: &self.config.rollup_dims,
        };
        let path = self.wal.directory.segment(number);
        let bytes = encode(&job, rows);
        self.wal.directory.write_whole(&path, &bytes)?;
        self.wal.syncs.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
        self.open_segment(number)
    }

    /// Opens a segment of this engine.
    pub(crate) fn open_segment(&self, number: u64) -> Result<Arc<Segment>> {
        Segment::open(&self.wal.directory, number, &self.segments, self.options.map_mode)
    }
}

/// Rows of the new segment that were deleted after they were gathered.
fn deleted_meanwhile(
    version: &Version,
    is_absorbed: &impl Fn(u64) -> bool,
    rows: &SegmentRows,
) -> Option<Arc<RoaringBitmap>> {
    let absorbed = version.memtables.iter().filter(|entry| is_absorbed(entry.memtable.generation()));
    let deleted: Vec<_> = absorbed.filter_map(|entry| entry.deleted.as_ref()).collect();
    if deleted.is_empty() {
        return None;
    }
    let is_deleted = |sequence: u64| deleted.iter().any(|sequences| sequences.contains(sequence));
    let found = rows.sequences().enumerate().filter(|(_, sequence)| is_deleted(*sequence));
    let found: RoaringBitmap =
        found.map(|(row, _)| u32::try_from(row).expect("a segment has less than 2^32 rows")).collect();
    (!found.is_empty()).then(|| Arc::new(found))
}
