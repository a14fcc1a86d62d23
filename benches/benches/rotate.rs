//! How long a rotation takes: the flush of one shard, whose rows become a segment.
//!
//! Appending them, opening and removing the table are outside the timing.

use std::time::Duration;

use anyhow::Result;
use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput};
use keplordb::{Engine, EngineConfig, Options, Sync};
use keplordb_benches::machine::{Sitting, bench_dir};
use keplordb_benches::mode::scale;
use keplordb_benches::workload::{Event, SEED, event};
use tempfile::TempDir;

/// Events per append while the shard is filled.
const BATCH_EVENTS: usize = 4096;

/// A table whose one shard holds rows, and the directory that goes with it.
struct Filled {
    engine: Engine<2, 1, 1>,
    _dir: TempDir,
}

impl Filled {
    fn new(events: &[Event]) -> Result<Self> {
        let dir = bench_dir()?;
        let config =
            EngineConfig { wal_shard_count: 1, wal_max_events: u32::MAX, ..EngineConfig::in_dir(dir.path()) };
        let options = Options::default().sync(Sync::Os).memtable_bytes(usize::MAX);
        let engine = Engine::open_with(config, options)?;
        for batch in events.chunks(BATCH_EVENTS) {
            engine.append_batch(batch)?;
        }
        // The rows are on disk, as those of a shard that fills up are but for the last few.
        engine.sync()?;
        Ok(Self { engine, _dir: dir })
    }
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let sitting = Sitting::measure(bench_dir()?.path())?;
    let events: Vec<_> = (0..scale(500_000, 5000)).map(|row| event(SEED, row)).collect();

    let mut group = criterion.benchmark_group("rotate");
    group.sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_millis(200));
    for (rows, samples, seconds) in [(1024, 30, 1), (events.len(), 10, 3)] {
        let filled = Filled::new(&events[..rows])?;
        let syncs_before = filled.engine.stats().syncs;
        assert_eq!(filled.engine.flush()?.rows, rows as u64);
        let syncs = filled.engine.stats().syncs - syncs_before;
        println!("rotation of {rows} rows: {syncs} syncs; {sitting}");
        drop(filled);

        group.sample_size(samples).measurement_time(Duration::from_secs(seconds));
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::new("rows", rows), |bencher| {
            bencher.iter_batched_ref(
                || Filled::new(&events[..rows]).expect("the table can be made"),
                |filled| filled.engine.flush().expect("the segment can be written"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
