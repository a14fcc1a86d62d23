//! An error at every operation of a long trace, of every kind, once and for ever. `KEPLORDB_SIM_OP` repeats one operation.

use keplordb::disk::sim::{Fault, FaultKind};
use keplordb_sim::faults::strike;
use keplordb_sim::replay::{OP, number};
use keplordb_sim::trial::Trial;
use keplordb_sim::workload::for_faults;

fn every_operation_fails(kind: FaultKind) {
    let workload = for_faults();
    let (trial, _) = Trial::run(&workload).unwrap_or_else(|violation| panic!("without a fault: {violation}"));
    let operations = trial.tick();
    assert!(operations >= 300, "only {operations} operations");
    let (mut hits, mut failed, mut poisoned) = (0, 0, 0);
    let only = number(OP);
    for at in (1..=operations).filter(|at| only.is_none_or(|only| only == *at)) {
        for forever in [false, true] {
            match strike(&workload, Fault { at, kind, forever }) {
                Ok(outcome) => {
                    hits += u64::from(outcome.was_hit);
                    failed += u64::from(outcome.failed_calls > 0);
                    poisoned += u64::from(outcome.was_poisoned);
                    if kind == FaultKind::Full && !forever {
                        assert!(!outcome.was_poisoned, "lack of space at {at} is no reason to stop");
                    }
                }
                Err(failure) => failure.report("--test faults"),
            }
        }
    }
    println!(
        "{kind:?}: {operations} operations, {hits} faults hit, {failed} with a failed call, {poisoned} poisoned"
    );
    assert!(
        only.is_some() || hits > operations && failed > operations / 4,
        "{hits} hits, {failed} with a failed call"
    );
}

#[test]
fn a_full_disk_at_any_operation_breaks_no_promise() {
    every_operation_fails(FaultKind::Full);
}

#[test]
fn an_input_output_error_at_any_operation_breaks_no_promise() {
    every_operation_fails(FaultKind::Io);
}

#[test]
fn a_short_write_at_any_operation_breaks_no_promise() {
    every_operation_fails(FaultKind::ShortWrite);
}

#[test]
fn a_failed_sync_at_any_operation_breaks_no_promise() {
    every_operation_fails(FaultKind::SyncFails);
}

#[test]
fn an_interruption_at_any_operation_breaks_no_promise() {
    every_operation_fails(FaultKind::Interrupted);
}
