//! The cells of a run: which there are, and how they are shown and stored.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Figures, Kind, Load, SyncMode, measure};
use crate::workload::Event;

/// Every combination of sync modes, batches and threads.
#[derive(Debug, Clone)]
pub struct Grid {
    /// When appends are on disk.
    pub sync: Vec<SyncMode>,
    /// Events per append.
    pub batches: Vec<usize>,
    /// Threads that append at once.
    pub threads: Vec<usize>,
    /// Samples per cell.
    pub samples: usize,
    /// How long each takes.
    pub limit: Duration,
    /// Whether the engine keeps `EngineConfig`'s defaults and so rotates.
    pub rotates: bool,
}

impl Grid {
    /// Measures and prints each cell, and returns them as JSON: figures by the names of `kinds`, with the rate of the first kind
    /// over theirs. `frame_bytes` says what a batch takes of the engine's log.
    ///
    /// # Errors
    /// When a directory or what is in it cannot be made.
    ///
    /// # Panics
    /// When the disk does not take what is appended.
    pub fn run(
        &self,
        kinds: &[Kind],
        events: &[Event],
        frame_bytes: impl Fn(&[Event]) -> Result<usize>,
        parent: &Path,
    ) -> Result<Vec<Value>> {
        // For each event a few more bytes than it takes, so that there are enough for the largest batch.
        let bytes: Vec<u8> =
            events.iter().flat_map(|event| event.labels[0].bytes().cycle().take(192)).collect();
        let mut cells = Vec::new();
        for &threads in &self.threads {
            for &sync in &self.sync {
                print_header(sync, threads);
                for &batch_events in &self.batches {
                    let frame_bytes = frame_bytes(&events[..batch_events])?;
                    let (rotates, bytes) = (self.rotates, bytes.as_slice());
                    let load = Load { sync, threads, batch_events, events, bytes, frame_bytes, rotates };
                    let figures = measure(kinds, load, parent, self.samples, self.limit)?;
                    print_rows(load, &figures);
                    cells.push(to_json(load, &figures));
                }
            }
        }
        Ok(cells)
    }
}

fn print_header(sync: SyncMode, threads: usize) {
    println!(
        "\nsync {}, {threads} thread(s); calls in us, syncs per 1,000 appends, the first one's rate over theirs",
        sync.name()
    );
    println!(
        "{:>6} {:<12}{:>14}{:>9}{:>10}{:>8}{:>7}",
        "batch", "", "events/s", "p50", "p99", "syncs", "ratio"
    );
}

fn print_rows(load: Load<'_>, figures: &[Figures]) {
    let ours = figures.first().map_or(0.0, |ours| ours.events_per_s);
    for figures in figures {
        let syncs = figures.syncs as f64 * 1000.0 / figures.appends as f64;
        print!(
            "{:>6} {:<12}{:>14}{:>9.1}{:>10.1}{syncs:>8.1}{:>7.2}",
            load.batch_events,
            figures.kind.name,
            thousands(figures.events_per_s),
            figures.call_p50_us,
            figures.call_p99_us,
            ours / figures.events_per_s
        );
        let rotations = figures.rotations;
        println!("{}", if rotations > 0 { format!("  {rotations} rotations") } else { String::new() });
    }
}

fn to_json(load: Load<'_>, figures: &[Figures]) -> Value {
    let first = figures.first().map(|first| (format!("{}_ratio", first.kind.name), first.events_per_s));
    let kinds = figures.iter().map(|figures| {
        let mut value = json!({
            "events_per_s": figures.events_per_s.round(),
            "call_p50_us": figures.call_p50_us,
            "call_p99_us": figures.call_p99_us,
            "appends": figures.appends,
            "syncs": figures.syncs,
            "rotations": figures.rotations,
        });
        if let Some((name, events_per_s)) = &first {
            value[name] = json!(events_per_s / figures.events_per_s);
        }
        (figures.kind.name.to_owned(), value)
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
}
