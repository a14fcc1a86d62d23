//! A workload on a disk that fails once, or from some operation on for ever: each call succeeds or fails with a typed error,
//! what is shown is what the calls said, and when the fault is over the engine works on or opens again.

use keplordb::DbError;
use keplordb::disk::sim::{Fault, OperationKind};

use crate::oracle::{self, Case, Depth, Loss, Violation};
use crate::replay::{Failure, Recipe};
use crate::trial::Trial;
use crate::workload::{Op, Workload};

/// What came of one fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the fault hit an operation of the disk.
    pub was_hit: bool,
    /// Calls that failed.
    pub failed_calls: u32,
    /// Whether the engine stopped writing at any time.
    pub was_poisoned: bool,
}

/// Lives through a workload with this fault.
///
/// # Errors
/// The first promise that was broken.
pub fn strike(workload: &Workload, fault: Fault) -> Result<Outcome, Box<Failure>> {
    let mut outcome = Outcome::default();
    let mut at = (0, "the first open".to_owned());
    let lived = oracle::i9_no_panic(|| live(workload, fault, &mut outcome, &mut at));
    lived.map(|()| outcome).map_err(|violation| {
        let forever = if fault.forever { "from operation" } else { "once at operation" };
        let cut =
            vec![format!("{:?} {forever} {}", fault.kind, fault.at), format!("during or after {}", at.1)];
        let recipe = Recipe { tick: at.0, after: "with a fault".into(), cut, then: None };
        Box::new(Failure { workload: workload.clone(), recipe: Some(recipe), violation, image: None })
    })
}

fn live(
    workload: &Workload,
    fault: Fault,
    outcome: &mut Outcome,
    at: &mut (u64, String),
) -> Result<(), Violation> {
    let (mut trial, opened) = Trial::begin(workload.settings, Some(fault));
    check(opened, outcome)?;
    let mut was_cut = false;
    for (place, op) in workload.ops.iter().enumerate() {
        *at = (trial.tick(), format!("operation {place}, {op:?}"));
        let reopens = matches!(op, Op::Reopen | Op::Shards(_) | Op::Grow | Op::Kill | Op::LoseManifest);
        if trial.db().is_none() || reopens && is_in_doubt(&trial) {
            let opened = restart(&mut trial, outcome)?;
            // The restart itself may have been what the fault hit.
            if !opened && !fault.forever && !restart(&mut trial, outcome)? {
                return Err(Violation {
                    invariant: "I1",
                    what: "a fault that is over keeps it closed".into(),
                });
            }
        }
        check(trial.perform(*op)?, outcome)?;
        if let Some(db) = trial.db() {
            oracle::living(db, &trial.ledger, trial.tick())?;
        }
        if trial.faults_hit() > 0 && !was_cut {
            // At once: what comes later may write anew what is not on disk now.
            was_cut = true;
            cuts_keep_the_promises(&trial, Depth::default())?;
        }
    }
    *at = (trial.tick(), "the end".to_owned());
    outcome.was_hit |= trial.faults_hit() > 0;
    trial.heal();
    after_the_fault(&mut trial, outcome)
}

/// The fault is over: the engine works on, or has stopped for good and opens again.
fn after_the_fault(trial: &mut Trial, outcome: &mut Outcome) -> Result<(), Violation> {
    if trial.db().is_none() && !restart(trial, outcome)? {
        return Err(Violation { invariant: "I1", what: "it does not open on a healed disk".into() });
    }
    match trial.perform(Op::Durable)? {
        Ok(()) => {}
        Err(DbError::Poisoned { .. }) => {
            outcome.was_poisoned = true;
            if !matches!(trial.perform(Op::Durable)?, Err(DbError::Poisoned { .. })) {
                return Err(Violation { invariant: "I1", what: "it wrote on after a failed sync".into() });
            }
        }
        Err(error) => return Err(Violation::unexpected("append on a healed disk", &error)),
    }
    let moment = trial.tick();
    if let Some(db) = trial.db() {
        oracle::living(db, &trial.ledger, moment)?;
    }
    cuts_keep_the_promises(trial, Depth::FULL)?;
    if !is_in_doubt(trial) {
        let case = Case { ledger: &trial.ledger, moment, loss: Loss::Kill, settings: &trial.settings };
        case.judge(&trial.disk.kill(), Depth::FULL)?;
    }
    Ok(())
}

/// The power is cut now, in three ways.
fn cuts_keep_the_promises(trial: &Trial, depth: Depth) -> Result<(), Violation> {
    let (ledger, settings) = (&trial.ledger, &trial.settings);
    let case = Case { ledger, moment: trial.tick(), loss: Loss::Power, settings };
    (0..3).try_for_each(|seed| case.judge(&trial.disk.power_cut(seed), depth).map(drop))
}

/// Only errors of the disk may come through, each under its own name.
fn check(done: Result<(), DbError>, outcome: &mut Outcome) -> Result<bool, Violation> {
    match done {
        Ok(()) => Ok(true),
        Err(error @ (DbError::Full { .. } | DbError::Io { .. } | DbError::Poisoned { .. })) => {
            outcome.failed_calls += 1;
            outcome.was_poisoned |= matches!(error, DbError::Poisoned { .. });
            Ok(false)
        }
        Err(error) => Err(Violation::unexpected("a call on a failing disk", &error)),
    }
}

/// Whether a sync failed on this disk: what the page cache shows may then not be on it, whatever later syncs say.
fn is_in_doubt(trial: &Trial) -> bool {
    let is_sync = |kind: &OperationKind| matches!(kind, OperationKind::Sync | OperationKind::SyncDir);
    trial.disk.trace().iter().any(|operation| operation.failed && is_sync(&operation.kind))
}

/// Opens again; after a failed sync the machine is restarted first. Whether it opened.
fn restart(trial: &mut Trial, outcome: &mut Outcome) -> Result<bool, Violation> {
    if is_in_doubt(trial) {
        let seed = trial.tick();
        outcome.was_hit = true;
        trial.cut(seed);
    }
    let opened = trial.open();
    if opened.is_ok() {
        trial.settle()?;
    }
    check(opened, outcome)
}
