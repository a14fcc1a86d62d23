//! Appends beside a bare `write` and `fdatasync`: what is appended, who takes it, and the medians of one cell.
//!
//! A cell is a sync mode, a batch size and a number of writing threads. Those who take the appends have turns in short samples,
//! each in a new directory: what else the machine does falls on all of them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

mod grid;
mod log;

pub use grid::Grid;
pub use log::LOG;

use crate::machine::{bench_dir_in, settle};
use crate::workload::{Event, FRAMED_EVENT_BYTES};
use crate::writers::race;

/// Events and bytes after which `group` syncs: `EngineConfig`'s defaults.
pub const GROUP_EVENTS: u32 = 64;
/// Bytes after which it does.
pub const GROUP_BYTES: u64 = 256 << 10;

/// When an append is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SyncMode {
    /// Before it returns.
    Each,
    /// Once per 64 events or 256 KiB of a log, whichever comes first.
    Group,
    /// When the operating system pleases.
    None,
}

impl SyncMode {
    /// As the table and the JSON call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::Group => "group",
            Self::None => "none",
        }
    }
}

/// What a cell writes, whoever writes it.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// When an append is on disk.
    pub sync: SyncMode,
    /// Threads that append at once.
    pub threads: usize,
    /// Events per append.
    pub batch_events: usize,
    /// The events that are cycled through.
    pub events: &'a [Event],
    /// Bytes that bare files take theirs from.
    pub bytes: &'a [u8],
    /// Bytes of the frame that the engine writes for a batch; bare files write as many.
    pub frame_bytes: usize,
    /// Whether the engine keeps `EngineConfig`'s defaults and so rotates; it never does otherwise.
    pub rotates: bool,
}

impl<'a> Load<'a> {
    /// The events of a turn.
    pub fn batch(&self, turn: usize) -> &'a [Event] {
        let start = turn % (self.events.len() / self.batch_events) * self.batch_events;
        &self.events[start..start + self.batch_events]
    }

    /// As many entries of [`FRAMED_EVENT_BYTES`] bytes, for those who take bytes.
    pub fn entries(&self, turn: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let batch_bytes = self.batch_events * FRAMED_EVENT_BYTES;
        let start = turn % (self.bytes.len() / batch_bytes) * batch_bytes;
        self.bytes[start..start + batch_bytes].chunks_exact(FRAMED_EVENT_BYTES)
    }
}

/// One who takes appends, from several threads at once.
pub trait Target: Send + std::marker::Sync {
    /// Appends the batch of this turn.
    ///
    /// # Errors
    /// When it is not taken.
    fn append(&self, thread: usize, turn: usize) -> Result<()>;
    /// Syncs so far.
    fn syncs(&self) -> u64;
    /// Rotations so far, of who rotates.
    fn rotations(&self) -> usize {
        0
    }
}

/// Who is measured.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// As the table and the JSON call it.
    pub name: &'static str,
    /// Whether it can do what a cell asks for.
    pub can: fn(SyncMode, usize) -> bool,
    /// Opens it in an empty directory.
    pub open: for<'a> fn(&Path, Load<'a>) -> Result<Box<dyn Target + 'a>>,
}

/// One file behind a mutex.
pub const RAW: Kind =
    Kind { name: "raw", can: |_, _| true, open: |dir, load| Ok(Box::new(BareFiles::open(dir, load, 1)?)) };

/// One file per thread.
pub const RAW_SHARDED: Kind = Kind {
    name: "raw-sharded",
    can: |_, _| true,
    open: |dir, load| Ok(Box::new(BareFiles::open(dir, load, load.threads)?)),
};

/// One `write(2)` per batch, from memory that is ready, and `fdatasync(2)`: no checksum, no copy, no recovery.
struct BareFiles<'a> {
    files: Vec<Mutex<BareFile>>,
    syncs: AtomicU64,
    load: Load<'a>,
}

struct BareFile {
    file: File,
    unsynced_events: u64,
    unsynced_bytes: u64,
}

impl<'a> BareFiles<'a> {
    fn open(dir: &Path, load: Load<'a>, count: usize) -> Result<Self> {
        let open = |number| -> Result<_> {
            let path = dir.join(format!("{number}.log"));
            let file =
                OpenOptions::new().create_new(true).append(true).open(path).context("make a bare file")?;
            Ok(Mutex::new(BareFile { file, unsynced_events: 0, unsynced_bytes: 0 }))
        };
        let files = (0..count).map(open).collect::<Result<_>>()?;
        Ok(Self { files, syncs: AtomicU64::new(0), load })
    }
}

impl Target for BareFiles<'_> {
    fn append(&self, thread: usize, turn: usize) -> Result<()> {
        let Load { sync, batch_events, bytes, frame_bytes, .. } = self.load;
        let start = turn % (bytes.len() / frame_bytes) * frame_bytes;
        let mut guard = self.files[thread % self.files.len()].lock().expect("a writer panicked");
        let BareFile { file, unsynced_events, unsynced_bytes } = &mut *guard;
        file.write_all(&bytes[start..start + frame_bytes])?;
        *unsynced_events += batch_events as u64;
        *unsynced_bytes += frame_bytes as u64;
        let is_due = match sync {
            SyncMode::Each => true,
            SyncMode::Group => *unsynced_events >= u64::from(GROUP_EVENTS) || *unsynced_bytes >= GROUP_BYTES,
            SyncMode::None => false,
        };
        if is_due {
            (*unsynced_events, *unsynced_bytes) = (0, 0);
            file.sync_data()?;
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }
}

/// Medians of a cell for one kind.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Whose.
    pub kind: Kind,
    /// Median of the samples.
    pub events_per_s: f64,
    /// Of all calls of all samples.
    pub call_p50_us: f64,
    /// Of all calls of all samples.
    pub call_p99_us: f64,
    /// Of all samples together, as are the appends and rotations.
    pub syncs: u64,
    /// Calls.
    pub appends: usize,
    /// Rotations of the engine.
    pub rotations: usize,
}

/// What the samples of one kind gave.
#[derive(Default)]
struct Samples {
    events_per_s: Vec<f64>,
    call_ns: Vec<f64>,
    syncs: u64,
    rotations: usize,
}

/// Measures every kind that can do it `samples` times for `limit`, each in a new directory of `parent`. The kinds take turns,
/// in an order that shifts with every round.
///
/// # Errors
/// When a directory or what is in it cannot be made.
///
/// # Panics
/// When the disk does not take what is appended.
pub fn measure(
    kinds: &[Kind],
    load: Load<'_>,
    parent: &Path,
    samples: usize,
    limit: Duration,
) -> Result<Vec<Figures>> {
    let able = kinds.iter().filter(|kind| (kind.can)(load.sync, load.batch_events));
    let mut measured: Vec<_> = able.map(|kind| (*kind, Samples::default())).collect();
    for round in 0..samples {
        for turn in 0..measured.len() {
            let place = (turn + round) % measured.len();
            let (kind, samples) = &mut measured[place];
            sample(*kind, load, parent, limit, samples)?;
        }
    }
    let figures = measured.into_iter().map(|(kind, mut samples)| Figures {
        kind,
        events_per_s: percentile(&mut samples.events_per_s, 50),
        call_p50_us: percentile(&mut samples.call_ns, 50) / 1e3,
        call_p99_us: percentile(&mut samples.call_ns, 99) / 1e3,
        syncs: samples.syncs,
        appends: samples.call_ns.len(),
        rotations: samples.rotations,
    });
    Ok(figures.collect())
}

/// Appends to a new table or new files for `limit`, after one append per thread that is not timed: it may make files.
fn sample(kind: Kind, load: Load<'_>, parent: &Path, limit: Duration, samples: &mut Samples) -> Result<()> {
    let dir = bench_dir_in(Some(parent.as_os_str()))?;
    settle();
    let target = (kind.open)(dir.path(), load)?;
    let target = target.as_ref();
    let append = |thread, turn| target.append(thread, turn).expect("the disk takes what is appended");
    let (written, elapsed) = race(
        load.threads,
        |thread| append(thread, thread),
        |thread| {
            let syncs = target.syncs();
            // Only the pages that are used become memory; growing would be timed.
            let mut call_ns = Vec::with_capacity(4 << 20);
            let begin = Instant::now();
            let mut before = begin;
            let mut turn = thread;
            while before - begin < limit {
                append(thread, turn);
                let now = Instant::now();
                call_ns.push((now - before).as_nanos() as f64);
                before = now;
                turn += load.threads;
            }
            (syncs, call_ns)
        },
    );
    samples.syncs += target.syncs() - written.iter().map(|(syncs, _)| *syncs).min().unwrap_or(0);
    samples.rotations += target.rotations();
    let appends: usize = written.iter().map(|(_, call_ns)| call_ns.len()).sum();
    samples.events_per_s.push((appends * load.batch_events) as f64 / elapsed.as_secs_f64());
    samples.call_ns.extend(written.into_iter().flat_map(|(_, call_ns)| call_ns));
    Ok(())
}

/// By nearest rank.
fn percentile(samples: &mut [f64], percent: usize) -> f64 {
    let rank = (samples.len() * percent).div_ceil(100).max(1) - 1;
    *samples.select_nth_unstable_by(rank, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert!((percentile(&mut samples, 50) - 50.0).abs() < 1e-9);
        assert!((percentile(&mut samples, 99) - 99.0).abs() < 1e-9);
        assert!((percentile(&mut [3.0], 99) - 3.0).abs() < 1e-9);
        assert!((percentile(&mut [5.0, 1.0, 3.0], 50) - 3.0).abs() < 1e-9);
    }
}
