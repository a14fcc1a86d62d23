//! Rotation: the rows of sealed generations become a segment, exactly once.
//!
//! The four steps of docs/durability.md: *seal* the generation, *write* the segment, *publish* it by the manifest (the
//! commit point), *unlink* the WAL. A crash before the third leaves the WALs, which are replayed; after it, the segment. Small
//! segments that are due are merged in the same write, so that an engine that flushes often does not drown in them.

use parking_lot::MutexGuard;

use super::Core;
use super::claim::{Claim, Sources, candidates};
use super::merge::{Candidate, run_around};
use super::put::Put;
use super::shard::Active;
use crate::config::MAX_MEMTABLE_BYTES;
use crate::error::Result;
use crate::state::segment_rows::{SegmentRows, groups};
use crate::state::version::{MemtableEntry, Version};

/// Bytes of the files that a rotation merges with its own rows, at most: who waits for it waits for them too.
const MERGE_FILE_BYTES: u64 = 64 << 20;

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
            self.freeing(self.write_sealed(&rotation, MAX_MEMTABLE_BYTES))?;
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
        self.freeing(self.write_sealed(&rotation, MAX_MEMTABLE_BYTES))
    }

    /// Rotates what an earlier rotation left behind: sealed generations, and full ones. Generations with a row older than
    /// `seal_before_ts_ns` too: retention drops whole segments, and a log that never fills would keep its oldest rows for ever.
    pub(crate) fn rotate_due(&self, seal_before_ts_ns: Option<i64>) -> Result<Flushed> {
        let rotation = self.rotation.lock();
        let is_old = |active: &Active| {
            let oldest = active.memtable.times().map(|(oldest, _)| oldest);
            oldest.zip(seal_before_ts_ns).is_some_and(|(oldest, before)| oldest < before)
        };
        let is_full =
            |active: &Active| active.is_full(self.config.wal_max_events, self.options.memtable_bytes);
        for index in 0..self.shards.len() {
            self.freeing(self.seal(index, |active| is_full(active) || is_old(active)))?;
        }
        self.freeing(self.write_sealed(&rotation, MAX_MEMTABLE_BYTES))
    }

    /// Step 1: the shard's generation takes no more rows; its file is closed and synced before the next one is begun.
    fn seal(&self, index: usize, is_due: impl FnOnce(&Active) -> bool) -> Result<bool> {
        let mut state = self.shards[index].state.lock();
        self.wal.directory.poison().check()?;
        let Some(active) = state.active.as_mut().filter(|active| is_due(active)) else {
            return Ok(false);
        };
        self.begin_writing()?;
        active.wal.seal(self.source.sequences().next())?;
        let generation = active.memtable.generation();
        active.memtable.set_wal_bytes(active.wal.end());
        let publish = self.publish.lock();
        let mut version = Version::clone(&self.source.version());
        for entry in &mut version.memtables {
            entry.sealed |= entry.memtable.generation() == generation;
        }
        self.source.show(version);
        state.active = None;
        drop((publish, state));
        self.source.sequences().tell();
        Ok(true)
    }

    /// Steps 2 to 4, for every sealed generation, also those that an earlier rotation failed to write: as one segment, or as
    /// several where one would be too large.
    fn write_sealed(&self, _rotation: &MutexGuard<'_, ()>, max_bytes: usize) -> Result<Flushed> {
        let sealed: Vec<MemtableEntry> =
            self.source.version().memtables.iter().filter(|entry| entry.sealed).cloned().collect();
        let mut flushed = Flushed::default();
        for group in groups(&sealed, max_bytes) {
            flushed.rows += self.write_group(group)?;
        }
        Ok(flushed)
    }

    /// One group, together with small segments beside it where they are due to be merged. That these cannot be is no reason
    /// not to write the group.
    fn write_group(&self, sealed: &[MemtableEntry]) -> Result<u64> {
        let rows = SegmentRows::gather(sealed);
        if let Some(mut claim) = self.claim_neighbours(&rows) {
            let limit_bytes = MAX_MEMTABLE_BYTES.saturating_sub(rows.memory_bytes());
            let merged = claim.decode(limit_bytes).and_then(|sources| {
                let mut merged = rows.clone();
                merged.merge(&sources.segments);
                self.put_segment(sealed, &sources, &merged)
            });
            match self.freeing(merged) {
                Ok(Put::Done) => return Ok(rows.len() as u64),
                Ok(Put::SourcesGone) => {}
                Err(error) => {
                    self.wal.directory.poison().check()?;
                    self.note(
                        "small segments could not be merged; the rows of the logs are written alone",
                        error,
                    );
                }
            }
        }
        self.put_segment(sealed, &Sources::default(), &rows)?;
        Ok(rows.len() as u64)
    }

    /// The segments that are merged with rows about to be written, if some are due.
    fn claim_neighbours(&self, rows: &SegmentRows) -> Option<Claim<'_>> {
        let live_rows = rows.len() as u64;
        let (ts_min, ts_max) = rows.times()?;
        if live_rows > self.options.merge_rows {
            return None;
        }
        let limits = self.merge_limits(self.options.merge_rows, MERGE_FILE_BYTES);
        let mut publish = self.publish.lock();
        let version = self.source.version();
        let mut sorted = candidates(&publish, &version);
        let new = Candidate { ts_min, number: publish.next_segment, ts_max, live_rows, file_bytes: 0 };
        let place = sorted.partition_point(|candidate| *candidate < new);
        sorted.insert(place, new);
        let run = run_around(&sorted, place, limits)?;
        let others = sorted.get(run)?.iter().map(|candidate| candidate.number);
        let others = others.filter(|number| *number != new.number).collect();
        Some(self.claim(&mut publish, &version, others))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keplordb_disk::{Disk, MemoryDisk};

    use crate::config::{EngineConfig, Options};
    use crate::engine::Core;
    use crate::event::LogEvent;
    use crate::schema::TableSchema;

    /// An engine with three sealed memtables of ten rows and one that still takes some, all of one size.
    fn with_sealed(disk: &Arc<dyn Disk>) -> Arc<Core> {
        let core = open(disk, "events");
        for _ in 0..3 {
            append_ten(&core);
            assert!(core.seal(0, |_| true).unwrap());
        }
        append_ten(&core);
        core
    }

    fn open(disk: &Arc<dyn Disk>, dir: &str) -> Arc<Core> {
        let config = EngineConfig { wal_shard_count: 1, ..EngineConfig::in_dir(dir) };
        let options = Options::default().disk(Arc::clone(disk));
        Core::open(config, options, TableSchema::positional(0, 0, 0, 0)).unwrap()
    }

    fn append_ten(core: &Core) {
        let events = vec![LogEvent::<0, 0, 0>::default(); 10];
        core.append(events.iter().map(LogEvent::as_row), false).unwrap();
    }

    fn memtable_bytes(core: &Core) -> usize {
        core.source.version().memtables[0].memtable.memory_bytes()
    }

    #[test]
    fn what_would_be_too_large_for_one_segment_becomes_several() {
        for (memtables, segments) in [(0, 3), (1, 3), (2, 2), (3, 1), (9, 1)] {
            let core = with_sealed(&(Arc::new(MemoryDisk::default()) as _));
            let limit = memtables * memtable_bytes(&core);
            let flushed = core.write_sealed(&core.rotation.lock(), limit).unwrap();
            let stats = core.stats();
            assert_eq!((flushed.rows, stats.segments, stats.events), (30, segments, 40), "{memtables}");
        }
    }

    #[test]
    fn a_checkpoint_of_more_than_one_segment_can_hold_writes_several() {
        for (memtables, segments) in [(1, 4), (2, 2), (9, 1)] {
            let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
            let core = with_sealed(&disk);
            core.checkpoint_in_groups("copy".as_ref(), memtables * memtable_bytes(&core)).unwrap();
            let copy = open(&disk, "copy");
            append_ten(&copy);
            copy.flush().unwrap();
            let stats = copy.stats();
            assert_eq!((stats.segments, stats.events), (segments + 1, 50), "{memtables}");
        }
    }
}
