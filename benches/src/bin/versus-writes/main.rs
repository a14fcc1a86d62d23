//! `versus-writes`: appends to the engine beside a bare `write` and `fdatasync` of as many bytes, in one run.
//!
//! A cell is a sync mode, a batch size and a number of writing threads; its figure is the median of some short samples,
//! each in a new directory. Only ratios of one run compare: disks and neighbours change from hour to hour.
//!
//! An event is a row of the workload with its label made longer, so that it takes 150 bytes of the log at 1,024 events a
//! batch. A frame adds 32 bytes and pads to 8, so a batch of one takes 184; bare files write exactly as many bytes as the
//! frame has, one `write` per batch, from memory that is ready.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use keplordb::disk::MemoryDisk;
use keplordb::{Engine, EngineConfig, Options, Sync};
use keplordb_benches::appends::{Grid, Kind, LOG, RAW, RAW_SHARDED, SyncMode};
use keplordb_benches::machine::{Sitting, bench_dir, bench_dir_in};
use keplordb_benches::workload::{self, Event, SEED};
use serde_json::json;
use target::ENGINE;

mod target;

/// Who is measured: the engine, the floor under it, and an entry log.
const KINDS: [Kind; 4] = [ENGINE, RAW, RAW_SHARDED, LOG];

/// Distinct events, which the writers cycle through.
const POOL_EVENTS: usize = 65_536;

/// Appends to the engine beside a bare `write` and `fdatasync` of as many bytes.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// When appends are on disk [default: each,group,none; with --sustained group]
    #[arg(long, value_enum, value_delimiter = ',')]
    sync: Vec<SyncMode>,
    /// Events per append [default: 1,64,1024,4096; with --sustained 1024,4096]
    #[arg(long, value_delimiter = ',')]
    batches: Vec<usize>,
    /// Threads that append at once
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    threads: Vec<usize>,
    /// Samples per cell; the median counts
    #[arg(long, default_value_t = 5)]
    samples: usize,
    /// Seconds per sample [default: 0.3; with --sustained 2]
    #[arg(long)]
    seconds: Option<f64>,
    /// Keep `EngineConfig`'s defaults, so that rotations are inside; without this none is
    #[arg(long)]
    sustained: bool,
    /// Where to write: a directory on the disk to measure [default: `KEPLORDB_BENCH_DIR`, or the temporary one]
    #[arg(long)]
    directory: Option<OsString>,
    /// Write all figures to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Arguments {
    fn with_defaults(mut self) -> Result<Self> {
        if self.sync.is_empty() {
            let all = [SyncMode::Each, SyncMode::Group, SyncMode::None];
            self.sync = if self.sustained { vec![SyncMode::Group] } else { all.to_vec() };
        }
        if self.batches.is_empty() {
            self.batches = if self.sustained { vec![1024, 4096] } else { vec![1, 64, 1024, 4096] };
        }
        ensure!(
            self.batches.iter().all(|batch| (1..=POOL_EVENTS).contains(batch)),
            "batches of 1 to {POOL_EVENTS}"
        );
        ensure!(self.threads.iter().all(|threads| *threads > 0), "at least one thread");
        ensure!(self.samples > 0, "at least one sample");
        Ok(self)
    }
}

/// Bytes of the frame that the engine writes for a batch: by how much its log grows with a second one.
fn frame_bytes(batch: &[Event]) -> Result<usize> {
    let config = EngineConfig { wal_shard_count: 1, ..EngineConfig::in_dir("table") };
    let options = Options::default().sync(Sync::Os).disk(Arc::new(MemoryDisk::default()));
    let engine = Engine::open_with(config, options)?;
    engine.append_batch(batch)?;
    let before = engine.stats().wal_bytes;
    engine.append_batch(batch)?;
    Ok(usize::try_from(engine.stats().wal_bytes - before)?)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse().with_defaults()?;
    let parent = match &arguments.directory {
        Some(directory) => bench_dir_in(Some(directory))?,
        None => bench_dir()?,
    };
    let limit = Duration::try_from_secs_f64(arguments.seconds.unwrap_or(if arguments.sustained {
        2.0
    } else {
        0.3
    }))?;
    let events: Vec<_> = (0..POOL_EVENTS as u64).map(|row| workload::framed_event(SEED, row)).collect();

    let sitting = Sitting::measure(parent.path())?;
    let event_bytes = frame_bytes(&events[..1024])? as f64 / 1024.0;
    println!("{sitting}, 200 times; an event takes {event_bytes:.1} B of the log at batch 1024");
    let rotations =
        if arguments.sustained { "EngineConfig's defaults: rotations are" } else { "no rotation is" };
    println!("{rotations} inside");
    let grid = Grid {
        sync: arguments.sync,
        batches: arguments.batches,
        threads: arguments.threads,
        samples: arguments.samples,
        limit,
        rotates: arguments.sustained,
    };
    let cells = grid.run(&KINDS, &events, frame_bytes, parent.path())?;
    if let Some(path) = &arguments.json {
        let report = json!({
            "workload": "keplor-llm",
            "file_system": sitting.file_system,
            "sync_median_us": sitting.sync_median.as_secs_f64() * 1e6,
            "event_bytes": event_bytes,
            "sustained": arguments.sustained,
            "samples": arguments.samples,
            "seconds": limit.as_secs_f64(),
            "cells": cells,
        });
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keplordb_benches::appends::{Load, measure};

    use super::*;

    #[test]
    fn a_frame_is_its_header_and_its_events() {
        let events: Vec<_> = (0..1024).map(|row| workload::framed_event(SEED, row)).collect();
        assert_eq!(
            frame_bytes(&events[..1]).unwrap(),
            (32 + workload::FRAMED_EVENT_BYTES).next_multiple_of(8)
        );
        assert_eq!(frame_bytes(&events).unwrap(), 32 + 1024 * workload::FRAMED_EVENT_BYTES);
    }

    /// Every kind in every mode, for an instant, with what it must have synced.
    #[test]
    fn every_cell_can_be_measured() {
        let events: Vec<_> = (0..256).map(|row| workload::framed_event(SEED, row)).collect();
        let parent = bench_dir().unwrap();
        for (sync, threads, batch_events) in
            [(SyncMode::Each, 1, 1), (SyncMode::Group, 2, 64), (SyncMode::None, 2, 1)]
        {
            let frame_bytes = frame_bytes(&events[..batch_events]).unwrap();
            let bytes = vec![1; 2 * frame_bytes];
            let load = Load {
                sync,
                threads,
                batch_events,
                events: &events,
                bytes: &bytes,
                frame_bytes,
                rotates: false,
            };
            let figures = measure(&KINDS, load, parent.path(), 1, Duration::from_millis(5)).unwrap();
            for figures in figures {
                assert!(
                    figures.events_per_s > 0.0 && figures.call_p50_us <= figures.call_p99_us,
                    "{figures:?}"
                );
                match sync {
                    SyncMode::Each => assert_eq!(figures.syncs, figures.appends as u64, "{figures:?}"),
                    // The files of two threads; the untimed appends may share a sync with the first timed ones.
                    SyncMode::Group => assert!(figures.syncs > 0, "{figures:?}"),
                    SyncMode::None => assert_eq!(figures.syncs, 0, "{figures:?}"),
                }
            }
        }
    }
}
