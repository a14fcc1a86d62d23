//! Peers and the engine side by side: each operation's ratio to the best peer, and the target.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
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
    peers: &BTreeMap<Operation, (f64, String)>,
) {
    let Some((best_us, peer)) = peers.get(&operation.of_peers()) else { return };
    let ratio = best_us / us;
    let (goal, verdict) =
        if target > 0.0 { (format!("{target}"), verdict(ratio >= target)) } else { (String::new(), "") };
    println!(
        "{name:<14}{:<32.31}{us:>12.2}{best_us:>12.1}  {peer:<12}{ratio:>10.1}{goal:>8}  {verdict}",
        operation.what()
    );
}

fn print_bytes(ours: &Value) -> Result<()> {
    let bytes = ours.as_array().and_then(|cells| cells.iter().find(|cell| cell["op"] == "bytes_per_event"));
    let bytes = bytes.context("no bytes per event in our figures")?;
    println!();
    for (what, max) in [("columns", COLUMNS_BYTES_MAX), ("indexes_and_sums", INDEXES_BYTES_MAX)] {
        let found = bytes[what].as_f64().with_context(|| format!("no bytes of {what}"))?;
        let verdict = verdict(found <= max);
        println!("bytes per event, {:<29}{found:>12.2}  at most {max}  {verdict}", what.replace('_', " "));
    }
    Ok(())
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// Our medians in microseconds.
fn medians(ours: &Value) -> Result<BTreeMap<Operation, f64>> {
    let cells = ours.as_array().context("our figures are an array")?;
    let median = |cell: &Value| Some((cell["op"].as_str()?.parse().ok()?, cell["median_us"].as_f64()?));
    Ok(cells.iter().filter_map(median).collect())
}

/// Of each operation the quickest peer's median in microseconds, and its name. Peers whose answer was wrong do not count.
fn best_peers(report: &Value) -> Result<BTreeMap<Operation, (f64, String)>> {
    let peers = report["peers"].as_object().context("the peers' figures have `peers`")?;
    let mut best: BTreeMap<Operation, (f64, String)> = BTreeMap::new();
    for (name, peer) in peers {
        for (operation, cell) in peer["operations"].as_object().into_iter().flatten() {
            let (Ok(operation), Some(us)) = (operation.parse(), cell["median_us"].as_f64()) else { continue };
            let is_best = best.get(&operation).is_none_or(|(best_us, _)| us < *best_us);
            if cell["agrees"] == true && is_best {
                best.insert(operation, (us, name.clone()));
            }
        }
    }
    ensure!(!best.is_empty(), "the peers' figures have no operation");
    Ok(best)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_best_peer_is_the_quickest_that_agrees() {
        let cell = |us: f64, agrees: bool| json!({"median_us": us, "agrees": agrees});
        let report = json!({"peers": {
            "wrong": {"operations": {"R0": cell(1.0, true), "R1": cell(1.0, false)}},
            "quick": {"operations": {"R1": cell(20.0, true), "R2": cell(9.0, true)}},
            "slow": {"operations": {"R1": cell(30.0, true), "R2": cell(8.0, true)}},
            "broken": {"error": "exit status 1"},
        }});
        let best = best_peers(&report).unwrap();
        assert_eq!(best[&Operation::R1], (20.0, "quick".to_owned()));
        assert_eq!(best[&Operation::R2], (8.0, "slow".to_owned()));
        assert_eq!(best.len(), 2);
        assert!(best_peers(&json!({"peers": {}})).is_err());
    }

    #[test]
    fn every_operation_has_a_target() {
        assert!(TARGETS.iter().map(|(operation, _)| *operation).eq(Operation::ALL));
    }
}
