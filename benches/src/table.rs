//! A table of the workload's events, in segments, ready to be asked.

use std::sync::Arc;

use anyhow::Result;
use keplordb::disk::Disk;
use keplordb::{Engine, EngineConfig, Options, Sync};
use tempfile::TempDir;

use crate::machine::bench_dir;
use crate::workload::{self, SEED, USER};

/// Events per append while a table is filled.
pub(crate) const BATCH_ROWS: u64 = 4096;

/// How large a table is; its events are the first `rows` of the workload, from [`SEED`].
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Events.
    pub rows: u64,
    /// Segments of equal size, but for the last ones when it does not divide.
    pub segments: u64,
}

impl Size {
    /// Opens an engine on `disk` in `dir` and fills it with one flush a segment. It has one shard, so that a segment is a
    /// span of time, and rollups by user.
    ///
    /// # Errors
    /// What the engine says.
    pub fn build(self, dir: impl Into<std::path::PathBuf>, disk: Arc<dyn Disk>) -> Result<Engine<2, 1, 1>> {
        let config = EngineConfig {
            wal_max_events: u32::MAX,
            wal_shard_count: 1,
            rollup_dims: vec![USER],
            ..EngineConfig::in_dir(dir)
        };
        let options = Options::default().sync(Sync::Os).disk(disk).memtable_bytes(usize::MAX).merge_rows(0);
        let engine = Engine::open_with(config, options)?;
        let mut start = 0;
        for segment in 1..=self.segments {
            let end = self.rows * segment / self.segments;
            while start < end {
                let stop = end.min(start + BATCH_ROWS);
                let batch: Vec<_> = (start..stop).map(|row| workload::event(SEED, row)).collect();
                engine.append_batch(&batch)?;
                start = stop;
            }
            engine.flush()?;
        }
        Ok(engine)
    }
}

/// A table in a directory of its own, which goes with it.
#[derive(Debug)]
pub struct Table {
    /// Dropped before its directory is removed.
    pub engine: Engine<2, 1, 1>,
    _dir: TempDir,
}

impl Table {
    /// Builds a table on the disk that is measured.
    ///
    /// # Errors
    /// What the engine or the operating system says.
    pub fn on_disk(size: Size) -> Result<Self> {
        let dir = bench_dir()?;
        let engine = size.build(dir.path(), Arc::new(keplordb::disk::RealDisk))?;
        Ok(Self { engine, _dir: dir })
    }
}

#[cfg(test)]
mod tests {
    use keplordb::QueryFilter;
    use keplordb::disk::MemoryDisk;

    use super::*;

    #[test]
    fn a_table_has_its_rows_in_its_segments() {
        let size = Size { rows: 10_000, segments: 3 };
        let engine = size.build("table", Arc::new(MemoryDisk::default())).unwrap();
        assert_eq!((engine.segment_count(), engine.wal_count()), (3, 0));
        let totals = engine.aggregate(&QueryFilter::default()).unwrap();
        let found = (totals.event_count, totals.metric, totals.counters[0], totals.latency_ms);
        assert_eq!(found, workload::totals(SEED, size.rows, |_| true));
    }
}
