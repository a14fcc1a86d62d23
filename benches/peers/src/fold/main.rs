//! The fold beside eventfold 0.2.0: the same events, the same reducers, in turns, in one run.
//!
//! Every answer is compared before its time counts. Rates are medians of rounds in which the two take turns; targets are printed
//! beside the ratios.

mod measure;
mod workload;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use measure::{Line, Scale};

/// Appends, replays and refreshes of keplordb-fold beside eventfold
#[derive(Debug, Parser)]
struct Arguments {
    /// Events that are replayed
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Rounds per measurement; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds per sample of appends
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Where to write: a directory on the disk to measure [default: the temporary one]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Write all figures to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { events, rounds, seconds, directory, json } = Arguments::parse();
    let parent = directory.unwrap_or_else(std::env::temp_dir);
    let scale = Scale { events, rounds, seconds };
    println!("{events} events of {} bytes, {rounds} rounds", workload::mean_line_bytes());
    println!("{:<52} {:>12} {:>12} {:>7}  target", "", "ours", "eventfold", "ratio");
    let mut lines = Vec::new();
    for measurement in measure::ALL {
        for line in measurement(&parent, &scale)? {
            println!("{line}");
            lines.push(line);
        }
    }
    if let Some(path) = json {
        let lines: Vec<_> = lines.iter().map(Line::to_json).collect();
        let report = serde_json::json!({ "events": events, "rounds": rounds, "lines": lines });
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}
