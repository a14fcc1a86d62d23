//! Random workloads by seed. `KEPLORDB_SIM_IMAGES` goes on with further seeds until so many different images were tried:
//! `KEPLORDB_SIM_IMAGES=1000000 cargo test --release -p keplordb-sim --test random -- --nocapture`

use std::time::Instant;

use keplordb_sim::replay::{SEED, number};
use keplordb_sim::suite::{Count, Effort, simulate};
use keplordb_sim::workload::random;

/// Operations of a workload.
const LENGTH: usize = 24;
/// Images of both halves without the variable.
const IMAGES: u64 = 16_000;

fn half(part: u64) {
    let only = number(SEED);
    let wanted = number("KEPLORDB_SIM_IMAGES").unwrap_or(IMAGES) / 2;
    let (mut count, began, mut told) = (Count::default(), Instant::now(), 0);
    for seed in (part..).step_by(2) {
        let seed = match only {
            Some(only) if only % 2 != part || count.workloads > 0 => break,
            Some(only) => only,
            None if count.images >= wanted => break,
            None => seed,
        };
        match simulate(&random(seed, LENGTH), Effort::QUICK) {
            Ok(more) => count += more,
            Err(failure) => failure.report("--test random"),
        }
        if count.images / 50_000 > told {
            told = count.images / 50_000;
            println!("{:.0} s: {count}", began.elapsed().as_secs_f64());
        }
    }
    println!("random workloads, half {part}: {count}, {:.0} s", began.elapsed().as_secs_f64());
}

#[test]
fn every_crash_of_random_workloads_keeps_the_promises_a() {
    half(0);
}

#[test]
fn every_crash_of_random_workloads_keeps_the_promises_b() {
    half(1);
}
