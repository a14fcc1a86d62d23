//! `versus-log`: appends to an entry log beside okaywal, walrus-rust and commitlog, and beside a bare `write` and
//! `fdatasync`, in one run.
//!
//! All but the bare file take entries of 150 bytes from memory that is ready. Each is asked only for what it can do: okaywal
//! syncs every commit, walrus every batch, and commitlog nothing.
//!
//! `cargo run --release` in this folder; `--directory` names a directory on the disk to measure.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use keplordb_benches::appends::{Grid, LOG, RAW, SyncMode};
use keplordb_benches::machine::{Sitting, bench_dir_in};
use keplordb_benches::workload::{self, FRAMED_EVENT_BYTES, SEED};
use serde_json::json;

mod peers;

/// Distinct events, which the writers cycle through.
const POOL_EVENTS: u64 = 65_536;

/// Appends to an entry log beside other logs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// When appends are on disk
    #[arg(long, value_enum, value_delimiter = ',', default_value = "each,group,none")]
    sync: Vec<SyncMode>,
    /// Entries per append
    #[arg(long, value_delimiter = ',', default_value = "1,64,1024,4096")]
    batches: Vec<usize>,
    /// Threads that append at once
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    threads: Vec<usize>,
    /// Samples per cell; the median counts
    #[arg(long, default_value_t = 5)]
    samples: usize,
    /// Seconds per sample
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// Where to write: a directory on the disk to measure [default: the temporary one]
    #[arg(long)]
    directory: Option<OsString>,
    /// Write all figures to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let parent = bench_dir_in(arguments.directory.as_deref())?;
    peers::prepare(parent.path());
    let sitting = Sitting::measure(parent.path())?;
    println!("{sitting}, 200 times; entries of {FRAMED_EVENT_BYTES} B");
    let events: Vec<_> = (0..POOL_EVENTS).map(|row| workload::framed_event(SEED, row)).collect();
    let grid = Grid {
        sync: arguments.sync,
        batches: arguments.batches,
        threads: arguments.threads,
        samples: arguments.samples,
        limit: Duration::try_from_secs_f64(arguments.seconds)?,
        rotates: false,
    };
    let kinds = [LOG, RAW, peers::OKAYWAL, peers::WALRUS, peers::COMMITLOG];
    let cells =
        grid.run(&kinds, &events, |batch| Ok(32 + batch.len() * FRAMED_EVENT_BYTES), parent.path())?;
    if let Some(path) = &arguments.json {
        let report = json!({
            "file_system": sitting.file_system,
            "sync_median_us": sitting.sync_median.as_secs_f64() * 1e6,
            "entry_bytes": FRAMED_EVENT_BYTES,
            "samples": arguments.samples,
            "seconds": arguments.seconds,
            "cells": cells,
        });
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
