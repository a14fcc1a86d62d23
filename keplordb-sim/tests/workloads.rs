//! Workloads that together cover every operation of the engine, and every crash of each.

use keplordb_sim::replay::{SEED, number};
use keplordb_sim::suite::{Count, Effort, simulate};
use keplordb_sim::workload::standard;

/// Different crash images that both halves together must reach: fewer, and some workload no longer does what it did.
const IMAGES: u64 = 20_000;

/// Half of the workloads: each script under two of its four settings, one with a grace and one without.
fn half(settings: [u64; 2]) {
    let only = number(SEED);
    let mut count = Count::default();
    let workloads = standard();
    assert!(workloads.len() >= 50, "{} workloads", workloads.len());
    for workload in workloads.iter().filter(|workload| settings.contains(&(workload.seed % 4))) {
        if only.is_none_or(|seed| workload.seed == seed) {
            match simulate(workload, Effort::QUICK) {
                Ok(more) => count += more,
                Err(failure) => failure.report("--test workloads"),
            }
        }
    }
    println!("workloads under settings {settings:?}: {count}");
    assert!(only.is_some() || count.images >= IMAGES / 2, "too few images: {count}");
    // Only the third setting bounds what is kept.
    let is_retaining = settings.contains(&2);
    let is_complete = count.effects.is_complete(is_retaining);
    assert!(only.is_some() || is_complete, "some operation did nothing: {:?}", count.effects);
    assert!(only.is_some() || count.in_recovery > 500, "too few crashes inside a recovery: {count}");
}

#[test]
fn every_crash_of_every_workload_keeps_the_promises_a() {
    half([0, 3]);
}

#[test]
fn every_crash_of_every_workload_keeps_the_promises_b() {
    half([1, 2]);
}
