//! How fast batches are appended by one thread, with the defaults of `EngineConfig`.
//!
//! No rotation is inside the timing: a table is replaced before a shard is full. Making and removing tables is outside too, and so are
//! the first appends to each, which make the files of its logs.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use keplordb::{Engine, EngineConfig};

use super::measure::median;
use super::workload::{SmallEvent, small_event};
use super::{Figure, Progress, Unit};
use crate::interrupt;

/// Runs of which the figure is the median.
const RUNS: usize = 5;
/// Distinct events, which are appended again and again.
const POOL_EVENTS: u64 = 65_536;
/// Events of one run: less than fill a shard (500,000 rows), should all go to one.
const RUN_EVENTS: u64 = 393_216;
/// One by one they take long, and some thousands tell as much.
const SINGLE_EVENTS: u64 = 16_384;
/// Each is a sync.
const DURABLE_EVENTS: u64 = 512;
/// Batches that are not timed.
const WARM_BATCHES: usize = 4;

struct Load {
    name: &'static str,
    batch_events: usize,
    events: u64,
    is_durable: bool,
    readme: Option<f64>,
}

const LOADS: [Load; 4] = [
    Load {
        name: "durable, batches of 1",
        batch_events: 1,
        events: DURABLE_EVENTS,
        is_durable: true,
        readme: None,
    },
    Load { name: "batches of 1", batch_events: 1, events: SINGLE_EVENTS, is_durable: false, readme: None },
    Load {
        name: "batches of 1,024",
        batch_events: 1024,
        events: RUN_EVENTS,
        is_durable: false,
        readme: Some(2.9e6),
    },
    Load {
        name: "batches of 4,096",
        batch_events: 4096,
        events: RUN_EVENTS,
        is_durable: false,
        readme: Some(5.1e6),
    },
];

pub(super) fn measure(parent: &Path, events: u64, progress: &mut Progress) -> Result<Vec<Figure>> {
    let pool: Vec<_> = (0..POOL_EVENTS.min(events)).map(small_event).collect();
    let mut figures = Vec::with_capacity(LOADS.len());
    for load in &LOADS {
        let mut rates = Vec::with_capacity(RUNS);
        for run in 1..=RUNS {
            progress.tell(&format!("append, {}: run {run} of {RUNS}", load.name));
            let dir = parent.join("appends");
            rates.push(load.events_per_second(&dir, &pool, events)?);
            let failed = || format!("{} cannot be removed", dir.display());
            std::fs::remove_dir_all(&dir).with_context(failed)?;
        }
        let (name, readme) = (load.name, load.readme);
        let unit = Unit::EventsPerSecond;
        figures.push(Figure { group: "append", name, unit, median: median(&mut rates), readme });
    }
    Ok(figures)
}

impl Load {
    /// One run, on a new table.
    fn events_per_second(&self, dir: &Path, pool: &[SmallEvent], events: u64) -> Result<f64> {
        let engine: Engine<2, 1, 0> = Engine::open(EngineConfig::in_dir(dir))?;
        let batches = (self.events.min(events) / self.batch_events as u64).max(1);
        let mut windows = pool.chunks_exact(self.batch_events).cycle();
        let mut append = |batches: u64| -> Result<()> {
            for window in windows.by_ref().take(usize::try_from(batches)?) {
                interrupt::check()?;
                match window {
                    [event] if self.is_durable => engine.append_durable(event)?,
                    [event] => engine.append(event)?,
                    window => engine.append_batch(window)?,
                };
            }
            Ok(())
        };
        append(WARM_BATCHES as u64)?;
        let begin = Instant::now();
        append(batches)?;
        let elapsed = begin.elapsed();
        engine.close()?;
        Ok((batches * self.batch_events as u64) as f64 / elapsed.as_secs_f64())
    }
}
