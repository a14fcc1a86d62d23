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
use cell::Figures;
use clap::Parser;
use keplordb::disk::MemoryDisk;
use keplordb::{Engine, EngineConfig, Options, Sync};
use keplordb_benches::machine::{Sitting, bench_dir, bench_dir_in};
use keplordb_benches::workload::{self, Event, SEED};
use serde_json::{Value, json};
use target::{Load, SyncMode};

mod cell;
mod target;

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
    // For each event a few more bytes than it takes, so that there are enough for the largest batch.
    let bytes: Vec<u8> = events.iter().flat_map(|event| event.labels[0].bytes().cycle().take(192)).collect();

    let sitting = Sitting::measure(parent.path())?;
    let event_bytes = frame_bytes(&events[..1024])? as f64 / 1024.0;
    println!("{sitting}, 200 times; an event takes {event_bytes:.1} B of the log at batch 1024");
    let rotations =
        if arguments.sustained { "EngineConfig's defaults: rotations are" } else { "no rotation is" };
    println!("{rotations} inside");
    let mut cells = Vec::new();
    for &threads in &arguments.threads {
        for &sync in &arguments.sync {
            print_header(sync, threads);
            for &batch_events in &arguments.batches {
                let load = Load {
                    sync,
                    threads,
                    batch_events,
                    events: &events,
                    bytes: &bytes,
                    frame_bytes: frame_bytes(&events[..batch_events])?,
                    rotates: arguments.sustained,
                };
                let figures = cell::measure(load, parent.path(), arguments.samples, limit)?;
                print_row(load, &figures);
                cells.push(to_json(load, &figures));
            }
        }
    }
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

fn print_header(sync: SyncMode, threads: usize) {
    println!("\nsync {}, {threads} thread(s): events/s, call in us, syncs per 1000 appends", sync.name());
    print!("{:>6}{:>8}", "batch", "bytes");
    print!("{:>14}{:>9}{:>10}{:>8}{:>6}", "keplordb", "p50", "p99", "syncs", "rot");
    for name in ["raw", "raw-sharded"] {
        print!("{name:>14}{:>9}{:>10}{:>8}{:>8}", "p50", "p99", "syncs", "ratio");
    }
    println!();
}

/// The engine's figures, then those of each bare kind with the engine's rate over theirs.
fn print_row(load: Load<'_>, figures: &[Figures]) {
    print!("{:>6}{:>8}", load.batch_events, load.frame_bytes);
    let ours = figures.first().map_or(0.0, |ours| ours.events_per_s);
    for (place, figures) in figures.iter().enumerate() {
        let rate = thousands(figures.events_per_s);
        let syncs = figures.syncs as f64 * 1000.0 / figures.appends as f64;
        print!("{rate:>14}{:>9.1}{:>10.1}{syncs:>8.1}", figures.call_p50_us, figures.call_p99_us);
        match place {
            0 => print!("{:>6}", figures.rotations),
            _ => print!("{:>8.2}", ours / figures.events_per_s),
        }
    }
    println!();
}

fn to_json(load: Load<'_>, figures: &[Figures]) -> Value {
    let ours = figures.first().map_or(0.0, |ours| ours.events_per_s);
    let kinds = figures.iter().map(|figures| {
        let value = json!({
            "events_per_s": figures.events_per_s.round(),
            "call_p50_us": figures.call_p50_us,
            "call_p99_us": figures.call_p99_us,
            "appends": figures.appends,
            "syncs": figures.syncs,
            "rotations": figures.rotations,
            "keplordb_ratio": ours / figures.events_per_s,
        });
        (figures.kind.name().to_owned(), value)
    });
    let mut cell = json!({
        "sync": load.sync.name(),
        "threads": load.threads,
        "batch_events": load.batch_events,
        "frame_bytes": load.frame_bytes,
    });
    if let Some(cell) = cell.as_object_mut() {
        cell.extend(kinds);
    }
    cell
}

/// A rounded number with commas.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        assert_eq!([7.4, 999.6, 1_234_567.0].map(thousands), ["7", "1,000", "1,234,567"]);
    }

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
            let figures = cell::measure(load, parent.path(), 1, Duration::from_millis(5)).unwrap();
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
