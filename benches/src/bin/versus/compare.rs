//! Peers and the engine side by side: each operation's ratio to the best peer, and the target.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use keplordb_benches::figures::{self, best_peers, read_json};
use serde_json::Value;

use crate::operation::Operation;

/// How many times the best peer each operation is to be, at a million rows; owned rows.
const TARGETS: [(Operation, f64); 23] = [
    (Operation::R1, 500.0),
    (Operation::R2, 150.0),
    (Operation::R3, 80.0),
    (Operation::R4, 25.0),
    (Operation::R5, 300.0),
    (Operation::R6, 20.0),
    (Operation::R7, 600.0),
    (Operation::R8, 150.0),
    (Operation::R9m, 300.0),
    (Operation::R9h, 300.0),
    (Operation::R10, 8.0),
    (Operation::R10b, 30.0),
    (Operation::R11, 6.0),
    (Operation::R11b, 30.0),
    (Operation::R12, 8.0),
    (Operation::R13, 8.0),
    (Operation::R14, 4.0),
    (Operation::R15, 10.0),
    (Operation::R16, 15.0),
    (Operation::R17, 30.0),
    (Operation::R18, 3.0),
    (Operation::R19, 100.0),
    (Operation::R20, 100.0),
];
/// The same for R1 when every row is looked at.
const SCAN_TARGET: f64 = 3.0;
/// Operations that may take at most [`GROWTH_MAX`] times as long on ten times the rows.
const GROWING: [Operation; 6] =
    [Operation::R1, Operation::R2, Operation::R3, Operation::R5, Operation::R7, Operation::R9h];
const GROWTH_MAX: f64 = 1.5;
const COLUMNS_BYTES_MAX: f64 = 38.7;
const INDEXES_BYTES_MAX: f64 = 10.0;

/// Puts figures of one sitting side by side.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// What `versus --json` wrote
    ours: PathBuf,
    /// What `peers.py run --json` wrote, of as many rows
    #[arg(long)]
    peers: Option<PathBuf>,
    /// What `versus --scan --json` wrote, of as many rows
    #[arg(long)]
    scan: Option<PathBuf>,
    /// What `versus --json` wrote of ten times the rows
    #[arg(long)]
    larger: Option<PathBuf>,
}

impl Compare {
    /// Prints the tables for which there are files.
    pub(crate) fn run(&self) -> Result<()> {
        let ours = read_json(&self.ours)?;
        let ours_us = medians(&ours)?;
        if let Some(path) = &self.peers {
            let peers = best_peers(&read_json(path)?)?;
            println!(
                "{:<46}{:>12}{:>12}  {:<12}{:>10}{:>8}",
                "operation", "ours us", "best us", "peer", "ratio", "target"
            );
            for (operation, target) in TARGETS {
                let Some(us) = ours_us.get(&operation) else { continue };
                print_ratio(&operation.to_string(), operation, *us, target, &peers);
            }
            if let Some(scan) = &self.scan {
                let scan_us = medians(&read_json(scan)?)?;
                for (operation, us) in scan_us {
                    // Only of R1 a target is known; the others are shown.
                    let target = if operation == Operation::R1 { SCAN_TARGET } else { 0.0 };
                    print_ratio(&format!("{operation}, by scan"), operation, us, target, &peers);
                }
            }
        }
        if let Some(path) = &self.larger {
            let larger_us = medians(&read_json(path)?)?;
            println!("\n{:<46}{:>12}{:>12}{:>24}{:>8}", "operation", "us", "10 x rows", "times", "at most");
            for operation in GROWING {
                let (Some(us), Some(larger)) = (ours_us.get(&operation), larger_us.get(&operation)) else {
                    continue;
                };
                let times = larger / us;
                let verdict = verdict(times <= GROWTH_MAX);
                println!(
                    "{operation:<5}{:<41}{us:>12.2}{larger:>12.2}{times:>24.2}{GROWTH_MAX:>8}  {verdict}",
                    operation.what()
                );
            }
        }
        print_bytes(&ours)
    }
}

fn print_ratio(
    name: &str,
    operation: Operation,
    us: f64,
    target: f64,
    peers: &BTreeMap<String, (f64, String)>,
) {
    let Some((best_us, peer)) = peers.get(&operation.of_peers().to_string()) else { return };
    let ratio = best_us / us;
    let (goal, verdict) =
        if target > 0.0 { (format!("{target}"), verdict(ratio >= target)) } else { (String::new(), "") };
    println!(
        "{name:<14}{:<32.31}{us:>12.2}{best_us:>12.1}  {peer:<12}{ratio:>10.1}{goal:>8}  {verdict}",
        operation.what()
    );
}

fn print_bytes(ours: &Value) -> Result<()> {
    let (columns, indexes) = figures::bytes_per_event(ours)?;
    println!();
    for (what, found, max) in
        [("columns", columns, COLUMNS_BYTES_MAX), ("indexes and sums", indexes, INDEXES_BYTES_MAX)]
    {
        let verdict = verdict(found <= max);
        println!("bytes per event, {what:<29}{found:>12.2}  at most {max}  {verdict}");
    }
    Ok(())
}

/// Our medians in microseconds, of the operations that are known.
fn medians(ours: &Value) -> Result<BTreeMap<Operation, f64>> {
    let medians = figures::medians(ours)?.into_iter();
    Ok(medians.filter_map(|(operation, us)| Some((operation.parse().ok()?, us))).collect())
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_target() {
        assert!(TARGETS.iter().map(|(operation, _)| *operation).eq(Operation::ALL));
    }
}
