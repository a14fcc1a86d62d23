//! Every sequence of up to three operations of {append, batch, sync, rotate, delete, gc, compact, reopen}, and every crash of
//! each: most faults need no more than that.

use keplordb_sim::replay::{SEED, number};
use keplordb_sim::suite::{Count, Effort, simulate};
use keplordb_sim::workload::short;

/// A part of the sequences: one test for each core.
fn sequences(part: u64, parts: u64) {
    let only = number(SEED);
    let mut count = Count::default();
    let workloads = short();
    assert_eq!(workloads.len(), 8 + 8 * 8 + 8 * 8 * 8);
    for workload in workloads.iter().filter(|workload| workload.seed % parts == part) {
        if only.is_none_or(|seed| workload.seed == seed) {
            match simulate(workload, Effort::QUICK) {
                Ok(more) => count += more,
                Err(failure) => failure.report("--test short"),
            }
        }
    }
    println!("sequences {part} of {parts}: {count}");
    assert!(only.is_some() || count.images > 10_000 / parts, "too few images: {count}");
}

#[test]
fn every_crash_of_every_short_sequence_keeps_the_promises_a() {
    sequences(0, 2);
}

#[test]
fn every_crash_of_every_short_sequence_keeps_the_promises_b() {
    sequences(1, 2);
}
