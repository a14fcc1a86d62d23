//! One cell of the table: samples of the engine and of the bare files in turns, and their medians.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use keplordb_benches::machine::{bench_dir_in, settle};
use keplordb_benches::writers::race;

use crate::target::{Kind, Load};

/// Medians of a cell for one kind.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    pub(crate) events_per_s: f64,
    /// Of all calls of all samples.
    pub(crate) call_p50_us: f64,
    pub(crate) call_p99_us: f64,
    /// Of all samples together, as are the appends and rotations.
    pub(crate) syncs: u64,
    pub(crate) appends: usize,
    pub(crate) rotations: usize,
}

/// What the samples of one kind gave.
#[derive(Default)]
struct Samples {
    events_per_s: Vec<f64>,
    call_ns: Vec<f64>,
    syncs: u64,
    rotations: usize,
}

/// Measures every kind `samples` times for `limit`. The kinds take turns, in an order that shifts with every round: what
/// else the machine does falls on all of them.
pub(crate) fn measure(
    load: Load<'_>,
    parent: &Path,
    samples: usize,
    limit: Duration,
) -> Result<Vec<Figures>> {
    let mut measured = Kind::ALL.map(|_| Samples::default());
    for round in 0..samples {
        for place in (0..Kind::ALL.len()).map(|turn| (turn + round) % Kind::ALL.len()) {
            sample(Kind::ALL[place], load, parent, limit, &mut measured[place])?;
        }
    }
    let figures = Kind::ALL.into_iter().zip(&mut measured).map(|(kind, samples)| Figures {
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
    let target = kind.open(dir.path(), load)?;
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
