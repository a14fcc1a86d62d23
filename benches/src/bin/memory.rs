//! `memory`: what an idle engine costs, and the most memory that a process needs while it ingests, or while it scans.
//!
//! Each figure is taken in a process of its own, which this program starts: memory that was freed stays with a process,
//! so a second measurement in it would see less.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use keplordb::aggregates::sum;
use keplordb::disk::RealDisk;
use keplordb::{Engine, EngineConfig, Filter};
use keplordb_benches::calls::{self, LlmCall};
use keplordb_benches::machine::{
    bench_dir, bench_dir_in, file_system, free_bytes, resident_bytes, resident_bytes_max, resident_own_bytes,
};
use keplordb_benches::table::Size;
use keplordb_benches::workload::{self, SEED};
use keplordb_benches::writers::race;

/// Events per append.
const BATCH_EVENTS: usize = 1024;
/// What one event takes on disk for a while, generously: in its log, which stays for a minute after the rotation, and in
/// its segment.
const DISK_BYTES_PER_EVENT: u64 = 320;
const IDLE_TARGET_BYTES: u64 = 4 << 20;
/// Besides pages of mapped files.
const SCAN_TARGET_BYTES: u64 = 200 << 20;
/// Rows after which a scan looks at its memory.
const LOOK_ROWS: u64 = 50_000;
const INGEST_TARGET_BYTES: u64 = 1 << 30;

/// What an idle engine costs, and the most memory that a process needs while it ingests.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    load: Load,
    /// Where to write: a directory on a real disk [default: `KEPLORDB_BENCH_DIR`, or the temporary one]
    #[arg(long)]
    directory: Option<OsString>,
    #[command(subcommand)]
    measurement: Option<Measurement>,
}

#[derive(Debug, Args)]
struct Load {
    /// Events to ingest
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Threads that append at once
    #[arg(long, default_value_t = 4)]
    threads: usize,
}

/// What is measured instead; those that are hidden run in a process of their own and print numbers of bytes.
#[derive(Debug, Subcommand)]
enum Measurement {
    /// The most memory, pages of mapped files not counted, that scanning a table needs.
    Scan {
        /// Events
        #[arg(long, default_value_t = 10_000_000)]
        rows: u64,
        /// Segments, of equal size
        #[arg(long, default_value_t = 10)]
        segments: u64,
        /// Where tables are kept [default: one that goes with the run]
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// The same of the table in this directory.
    #[command(hide = true)]
    ScanTable { dir: PathBuf },
    /// What opening the table in this directory adds to the memory of a process.
    #[command(hide = true)]
    Idle { dir: PathBuf },
    /// The most memory that ingesting into this directory needs.
    #[command(hide = true)]
    Ingest {
        #[command(flatten)]
        load: Load,
        dir: PathBuf,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.measurement {
        Some(Measurement::Idle { dir }) => idle(dir),
        Some(Measurement::Ingest { load, dir }) => ingest(load, dir),
        Some(Measurement::Scan { rows, segments, directory }) => {
            scan(Size { rows: *rows, segments: *segments }, directory.as_deref())
        }
        Some(Measurement::ScanTable { dir }) => scan_table(dir),
        None => all(&arguments),
    }
}

fn all(arguments: &Arguments) -> Result<()> {
    let Load { rows, threads } = arguments.load;
    ensure!(threads > 0, "at least one thread");
    let parent = match &arguments.directory {
        Some(directory) => bench_dir_in(Some(directory))?,
        None => bench_dir()?,
    };
    let needed = rows.saturating_mul(DISK_BYTES_PER_EVENT);
    if let Some(free) = free_bytes(parent.path()) {
        ensure!(
            free >= needed,
            "{rows} events take up to {needed} bytes, {} has {free}",
            parent.path().display()
        );
    }
    println!("file system {}", file_system(parent.path()));
    let (empty, full) = (parent.path().join("empty"), parent.path().join("full"));

    report("idle engine, new table", &measure(&["idle"], &empty)?, Some(IDLE_TARGET_BYTES));
    let (rows_text, threads_text) = (rows.to_string(), threads.to_string());
    let peak = measure(&["ingest", "--rows", &rows_text, "--threads", &threads_text], &full)?;
    report(&format!("peak while ingesting {rows} events"), &peak, Some(INGEST_TARGET_BYTES));
    report(&format!("idle engine, {rows} events in segments"), &measure(&["idle"], &full)?, None);
    Ok(())
}

/// Runs a measurement in a process of its own and returns the numbers of bytes that it prints: all, and those of them that
/// are no pages of mapped files.
fn measure(arguments: &[&str], dir: &Path) -> Result<Vec<u64>> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(arguments).arg(dir).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", output.status);
    let numbers = String::from_utf8(output.stdout)?;
    numbers.split_whitespace().map(|number| number.parse().context("a measurement prints numbers")).collect()
}

fn report(what: &str, measured: &[u64], target_bytes: Option<u64>) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let bytes = measured.first().copied().unwrap_or(0);
    print!("{what:<45}{:>9.2} MiB", mib(bytes));
    if let Some(own) = measured.get(1) {
        print!(", {:.2} of it not pages of files", mib(*own));
    }
    if let Some(target_bytes) = target_bytes {
        let verdict = if bytes < target_bytes { "met" } else { "missed" };
        print!("; target under {:.0} MiB: {verdict}", mib(target_bytes));
    }
    println!();
}

fn idle(dir: &Path) -> Result<()> {
    let memory = || {
        resident_bytes().zip(resident_own_bytes()).context("this system does not tell a process its memory")
    };
    let (before, own_before) = memory()?;
    let engine = Engine::<2, 1, 1>::open(EngineConfig::in_dir(dir))?;
    let (after, own_after) = memory()?;
    println!("{} {}", after.saturating_sub(before), own_after.saturating_sub(own_before));
    drop(engine);
    Ok(())
}

/// Builds the table where it is not kept yet, and measures in a process that did not.
fn scan(size: Size, directory: Option<&Path>) -> Result<()> {
    let guard = bench_dir()?;
    let dir = directory.unwrap_or(guard.path()).join(size.directory_name());
    calls::build_once(size, &dir)?;
    let what = format!("peak while scanning {} events", size.rows);
    report(&what, &measure(&["scan-table"], &dir)?, Some(SCAN_TARGET_BYTES));
    Ok(())
}

/// Every event with all its columns in order, then groups and totals by looking at every row: the most that the process
/// had at a time beyond what it had before, without pages of files.
fn scan_table(dir: &Path) -> Result<()> {
    let own = || resident_own_bytes().context("this system does not tell a process its memory");
    let before = own()?;
    let store = calls::open(dir, Arc::new(RealDisk))?;
    let (mut rows, mut peak, mut text_bytes) = (0, before, 0);
    store.query(Filter::all()).oldest_first().scan(|row| {
        text_bytes += row.id()?.len() + row.label()?.len() + row.user().len() + row.model().len();
        rows += 1;
        if rows % LOOK_ROWS == 0 {
            peak = peak.max(own().unwrap_or(u64::MAX));
        }
        Ok(())
    })?;
    ensure!(
        rows == store.stats().events && text_bytes > 0,
        "{rows} events scanned of {}",
        store.stats().events
    );
    let c = LlmCall::cols();
    let totals = store.query(Filter::all()).by_scan().totals()?;
    let users =
        store.query(Filter::all()).by_scan().group_by((c.user, c.model)).select(sum(c.metric)).fetch()?;
    ensure!(totals.event_count == rows && !users.is_empty(), "not all was added up");
    peak = peak.max(own()?);
    println!("{}", peak - before);
    Ok(())
}

/// Each thread makes its events as it goes, every one with an id of its own.
fn ingest(load: &Load, dir: &Path) -> Result<()> {
    let Load { rows, threads } = *load;
    let engine = Engine::<2, 1, 1>::open(EngineConfig::in_dir(dir))?;
    let begin = Instant::now();
    let append = |thread: usize| -> Result<()> {
        for start in (0..rows).step_by(BATCH_EVENTS).skip(thread).step_by(threads) {
            let end = rows.min(start + BATCH_EVENTS as u64);
            let batch: Vec<_> = (start..end).map(|row| workload::event(SEED, row)).collect();
            engine.append_batch(&batch)?;
        }
        Ok(())
    };
    let (written, _) = race(threads, |_| (), append);
    written.into_iter().collect::<Result<()>>()?;
    let seconds = begin.elapsed().as_secs_f64();
    let peak = resident_bytes_max().context("this system does not tell a process its memory")?;
    let stats = engine.stats();
    ensure!(stats.events == rows && stats.last_error.is_none(), "not all was ingested: {stats:?}");
    eprintln!(
        "{rows} events by {threads} threads in {seconds:.1} s (making them included), {} segments, {} syncs",
        stats.segments, stats.syncs
    );
    println!("{peak}");
    // Rows in logs are read back into memory by an open; an idle engine is one whose rows are in segments.
    engine.flush()?;
    Ok(())
}
