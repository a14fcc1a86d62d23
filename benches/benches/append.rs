//! How fast batches are appended: events of two dims and a counter, `EngineConfig`'s defaults.
//!
//! In the group `append` no rotation is inside the timing: an engine is replaced, untimed, before a shard is full. In the
//! group `append-sustained` each iteration fills every shard in use about twice, and all but the last rotations are
//! inside. The clock runs from the first writer's first append to the last writer's last; making, opening, closing and
//! removing the table are outside, and so are each writer's first appends, which make the files of the logs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use keplordb::disk::{Disk, MemoryDisk, RealDisk};
use keplordb::{Engine, EngineConfig, Options, Sync};
use keplordb_benches::machine::{Sitting, bench_dir, bench_dir_in, settle};
use keplordb_benches::mode::scale;
use keplordb_benches::workload::{SEED, SmallEvent, small_event};
use keplordb_benches::writers::race;

/// Distinct events, which the writers cycle through.
const POOL_EVENTS: usize = 65_536;
/// Events of one engine in the group without rotations: less than fill a shard (500,000 rows), should all go to one.
const UNROTATED_EVENTS: usize = 393_216;
/// Batches of each writer that are not timed.
const WARM_ROUNDS: usize = 4;
/// Events that fill a shard twice, in batches of 1,024.
const TWO_SHARDS_EVENTS: usize = 2 * 489 * 1024;

/// Who appends what to which disk.
#[derive(Clone, Copy)]
struct Load<'a> {
    pool: &'a [SmallEvent],
    disk: fn() -> Arc<dyn Disk>,
    threads: usize,
    batch_events: usize,
}

/// What was measured.
#[derive(Clone, Copy, Default)]
struct Measured {
    time: Duration,
    calls: u64,
    syncs: u64,
    rotations: usize,
}

fn real_disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn memory_disk() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::default())
}

impl Load<'_> {
    /// Events that all threads append in one round of one batch each.
    fn round_events(self) -> usize {
        self.threads * self.batch_events
    }

    /// Each thread appends `rounds` batches to a new table in `parent`.
    fn append(self, parent: &Path, rounds: usize) -> Result<Measured> {
        let dir = bench_dir_in(Some(parent.as_os_str()))?;
        let config = EngineConfig::in_dir(dir.path());
        let sync = Sync::Every { events: config.wal_sync_interval, bytes: config.wal_sync_bytes };
        let engine = Engine::open_with(config, Options::default().sync(sync).disk((self.disk)()))?;
        let windows = self.pool.len() / self.batch_events;
        let append = |turn: usize| {
            let start = turn % windows * self.batch_events;
            let appended = engine.append_batch(&self.pool[start..start + self.batch_events]);
            appended.expect("the disk of the bench takes what is appended");
        };
        let (syncs_before, time) = race(
            self.threads,
            |thread| (0..WARM_ROUNDS).for_each(|_| append(thread)),
            |thread| {
                let syncs = engine.stats().syncs;
                (0..rounds).for_each(|round| append(thread + round * self.threads));
                syncs
            },
        );
        let stats = engine.stats();
        assert!(stats.last_error.is_none(), "{:?}", stats.last_error);
        let syncs = stats.syncs - syncs_before.into_iter().min().unwrap_or(0);
        Ok(Measured { time, calls: (rounds * self.threads) as u64, syncs, rotations: stats.segments })
    }

    /// `rounds` rounds on as many new tables as it takes to have no rotation inside.
    fn append_unrotated(self, parent: &Path, rounds: u64) -> Result<Measured> {
        let most = (UNROTATED_EVENTS / self.round_events()) as u64;
        let mut sum = Measured::default();
        let mut left = rounds;
        while left > 0 {
            let some = left.min(most);
            sum.add(self.append(parent, usize::try_from(some)?)?);
            left -= some;
        }
        assert_eq!(sum.rotations, 0, "a table was too small for what was appended");
        Ok(sum)
    }
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.time += other.time;
        self.calls += other.calls;
        self.syncs += other.syncs;
        self.rotations += other.rotations;
    }

    fn report(self, name: &str, batch_events: usize) {
        if self.calls > 0 {
            println!(
                "{name}/{batch_events}: {} syncs and {} rotations in {} appends",
                self.syncs, self.rotations, self.calls
            );
        }
    }
}

fn without_rotation(criterion: &mut Criterion, loads: &[(&str, Load<'_>)], parent: &Path) {
    let mut group = criterion.benchmark_group("append");
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for (name, load) in loads {
        let mut sum = Measured::default();
        group.throughput(Throughput::Elements(load.round_events() as u64));
        group.bench_function(BenchmarkId::new(*name, load.batch_events), |bencher| {
            bencher.iter_custom(|rounds| {
                let measured = load.append_unrotated(parent, rounds).expect("the table can be made");
                sum.add(measured);
                measured.time
            });
        });
        sum.report(name, load.batch_events);
    }
}

/// Each load comes with the number of shards that it spreads over.
fn sustained(criterion: &mut Criterion, loads: &[(&str, usize, Load<'_>)], parent: &Path) {
    let mut group = criterion.benchmark_group("append-sustained");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(10));
    for (name, shards, load) in loads {
        let rounds = scale(shards * TWO_SHARDS_EVENTS / load.round_events(), 2);
        let mut sum = Measured::default();
        group.throughput(Throughput::Elements((rounds * load.round_events()) as u64));
        group.bench_function(BenchmarkId::new(*name, load.batch_events), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut measured = Measured::default();
                for _ in 0..iterations {
                    settle();
                    measured.add(load.append(parent, rounds).expect("the table can be made"));
                }
                sum.add(measured);
                measured.time
            });
        });
        sum.report(name, load.batch_events);
    }
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let parent = bench_dir()?;
    println!("{}; a sync every 64 events or 256 KiB of a shard", Sitting::measure(parent.path())?);
    let pool: Vec<_> = (0..POOL_EVENTS as u64).map(|row| small_event(SEED, row)).collect();
    let load = |disk, threads, batch_events| Load { pool: &pool, disk, threads, batch_events };
    let loads = [
        ("disk", load(real_disk, 1, 4096)),
        ("disk", load(real_disk, 1, 1024)),
        ("disk-8-threads", load(real_disk, 8, 1024)),
        ("memory", load(memory_disk, 1, 1024)),
    ];
    without_rotation(&mut criterion, &loads, parent.path());
    let shards = EngineConfig::default().wal_shard_count;
    let loads = [("disk", 1, load(real_disk, 1, 1024)), ("disk-8-threads", shards, load(real_disk, 8, 1024))];
    sustained(&mut criterion, &loads, parent.path());
    criterion.final_summary();
    Ok(())
}
