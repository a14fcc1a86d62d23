//! The test of the tests: each planted bug is caught by at least one of the suites, and without one they report nothing.
//!
//! `cargo test -p keplordb-sim --test planted -- --nocapture` prints by what each was caught.

use keplordb::disk::sim::{Fault, FaultKind};
use keplordb_log::planted::{Bug, with};
use keplordb_sim::damage::flip_each;
use keplordb_sim::faults::strike;
use keplordb_sim::replay::Failure;
use keplordb_sim::suite::{Effort, simulate};
use keplordb_sim::workload::{for_damage, for_faults, standard};

/// What was tried until something was reported.
#[derive(Debug, Default)]
struct Tried {
    flips: u64,
    faults: u64,
    workloads: u64,
    images: u64,
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { flips, faults, workloads, images } = self;
        write!(f, "{flips} flips, {faults} faults, {workloads} workloads, {images} crash images")
    }
}

/// A part of each suite, the quick ones first.
fn suites(tried: &mut Tried) -> Result<(), Box<Failure>> {
    for workload in for_damage() {
        tried.flips += flip_each(&workload, 150)?;
    }
    let trace = for_faults();
    for at in (1..400).step_by(5) {
        for kind in [FaultKind::ShortWrite, FaultKind::SyncFails] {
            tried.faults += 1;
            strike(&trace, Fault { at, kind, forever: false })?;
        }
    }
    // The first two settings of each script: those that sync every append.
    for workload in standard().iter().filter(|workload| workload.seed % 4 < 2) {
        tried.workloads += 1;
        tried.images += simulate(workload, Effort { random: 2, ..Effort::QUICK })?.images;
    }
    Ok(())
}

/// Every bug of this share is caught; says by what.
fn are_caught(share: usize, shares: usize) {
    let mut missed = Vec::new();
    for bug in Bug::ALL.into_iter().skip(share).step_by(shares) {
        let mut tried = Tried::default();
        match with(bug, || suites(&mut tried)) {
            Err(failure) => println!(
                "{bug:?}: caught by {} ({}) after {tried}",
                failure.violation.invariant, failure.workload.name
            ),
            Ok(()) => missed.push((bug, tried)),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn every_planted_bug_is_caught_a() {
    are_caught(0, 2);
}

#[test]
fn every_planted_bug_is_caught_b() {
    are_caught(1, 2);
}

#[test]
fn without_a_planted_bug_nothing_is_reported() {
    let mut tried = Tried::default();
    if let Err(failure) = suites(&mut tried) {
        panic!("{failure}");
    }
    println!("no bug: nothing reported after {tried}");
    assert!(tried.flips > 1_000 && tried.faults > 100 && tried.images > 20_000, "{tried}");
}
