//! The workload's events by a type of their own, as a program would declare it, in an open store.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use keplordb::disk::{Disk, RealDisk};
use keplordb::{EngineConfig, Options, Schema, Store, Sync};
use tempfile::TempDir;

use crate::machine::{bench_dir, bench_dir_in};
use crate::table::{BATCH_ROWS, Size};
use crate::workload::{self, Event, SEED};

/// A call of a language model.
#[derive(Debug, Schema)]
#[keplordb(id = 42)]
pub struct LlmCall {
    /// Who called.
    #[dim(bloom)]
    pub user: String,
    /// What was called.
    #[dim]
    pub model: String,
    /// Tokens of the answer.
    #[counter]
    pub tokens: u32,
    /// A trace id.
    #[label(index)]
    pub label: String,
}

impl From<Event> for LlmCallBuilder {
    fn from(event: Event) -> Self {
        let Event { dims: [user, model], counters: [tokens], labels: [label], .. } = event;
        LlmCall { user, model, tokens, label }
            .at(event.ts_ns)
            .id(event.id)
            .metric(event.metric)
            .latency_ms(event.latency_ms)
            .latency_detail_ms(event.latency_detail_ms)
            .status(event.status)
            .flags(event.flags)
    }
}

/// Opens a store that rotates and merges only when it is told to, with one shard: then a segment is a span of time.
///
/// # Errors
/// What the engine says.
pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<Store<LlmCall>> {
    let config = EngineConfig {
        wal_max_events: u32::MAX,
        wal_shard_count: 1,
        ..LlmCall::default_config(dir.to_owned())
    };
    let options = Options::default().sync(Sync::Os).disk(disk).memtable_bytes(usize::MAX).merge_rows(0);
    Ok(Store::open_with(config, options)?)
}

/// Appends the events `rows` of the workload, from [`SEED`].
///
/// # Errors
/// What the engine says.
pub fn append(store: &Store<LlmCall>, rows: std::ops::Range<u64>) -> Result<()> {
    let mut start = rows.start;
    while start < rows.end {
        let stop = rows.end.min(start + BATCH_ROWS);
        store.append_batch((start..stop).map(|row| workload::event(SEED, row)))?;
        start = stop;
    }
    Ok(())
}

/// Makes a table in this directory if nothing is there: beside it and then moved, so that one that is there is whole.
///
/// # Errors
/// What the engine or the operating system says.
pub fn build_once(size: Size, dir: &Path) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let parent = dir.parent().context("a table is in a directory")?;
    std::fs::create_dir_all(parent)?;
    let partial = bench_dir_in(Some(parent.as_os_str()))?;
    let begin = Instant::now();
    let made = partial.path().join("table");
    size.build_calls(&made, Arc::new(RealDisk))?.close()?;
    std::fs::rename(&made, dir).with_context(|| format!("move the table to {}", dir.display()))?;
    eprintln!("{} rows built in {:.1} s", size.rows, begin.elapsed().as_secs_f64());
    Ok(())
}

impl Size {
    /// What the directory of such a table is called where tables are kept.
    pub fn directory_name(self) -> String {
        format!("keplor-llm-{}-{}", self.rows, self.segments)
    }

    /// Opens a store on `disk` in `dir`, which is new, and fills it with one flush a segment.
    ///
    /// # Errors
    /// What the engine says.
    pub fn build_calls(self, dir: &Path, disk: Arc<dyn Disk>) -> Result<Store<LlmCall>> {
        let store = open(dir, disk)?;
        for segment in 0..self.segments {
            append(&store, self.rows * segment / self.segments..self.rows * (segment + 1) / self.segments)?;
            store.flush()?;
        }
        Ok(store)
    }
}

/// A store in a directory of its own, which goes with it.
#[derive(Debug)]
pub struct Calls {
    /// Dropped before its directory is removed.
    pub store: Store<LlmCall>,
    _dir: TempDir,
}

impl Calls {
    /// Builds a store on the disk that is measured.
    ///
    /// # Errors
    /// What the engine or the operating system says.
    pub fn on_disk(size: Size) -> Result<Self> {
        let dir = bench_dir()?;
        let store = size.build_calls(dir.path(), Arc::new(RealDisk))?;
        Ok(Self { store, _dir: dir })
    }

    /// A store on the disk that is measured whose rows are all in memory and in its log, in none of the segments.
    ///
    /// # Errors
    /// What the engine or the operating system says.
    pub fn unsealed(rows: u64) -> Result<Self> {
        let dir = bench_dir()?;
        let store = open(dir.path(), Arc::new(RealDisk))?;
        append(&store, 0..rows)?;
        Ok(Self { store, _dir: dir })
    }
}

#[cfg(test)]
mod tests {
    use keplordb::Filter;
    use keplordb::disk::MemoryDisk;

    use super::*;

    #[test]
    fn a_store_has_the_events_of_the_workload_in_its_segments() {
        let size = Size { rows: 10_000, segments: 3 };
        let store = size.build_calls(Path::new("calls"), Arc::new(MemoryDisk::default())).unwrap();
        let stats = store.stats();
        assert_eq!((stats.events, stats.segments, stats.unsealed_rows), (10_000, 3, 0));
        let totals = store.query(Filter::all()).totals().unwrap();
        let found = (totals.event_count, totals.metric, totals.counters[0], totals.latency_ms);
        assert_eq!(found, workload::totals(SEED, size.rows, |_| true));

        let event = workload::event(SEED, 7000);
        let row = store.get(&event.id).unwrap().unwrap();
        assert_eq!((row.ts_ns(), row.user(), row.model()), (event.ts_ns, &*event.dims[0], &*event.dims[1]));
        assert_eq!(
            (row.tokens(), row.metric(), row.label()),
            (event.counters[0], event.metric, &*event.labels[0])
        );
        assert_eq!((row.latency_ms(), row.latency_detail_ms()), (event.latency_ms, event.latency_detail_ms));
        assert_eq!((row.status(), row.flags()), (event.status, event.flags));
    }
}
