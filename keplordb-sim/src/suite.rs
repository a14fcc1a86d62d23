//! The simulation of one workload: every moment, every image, judged and counted.

use std::collections::HashSet;
use std::fmt;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, PoisonError};

use keplordb::disk::SimDisk;

use crate::chance::Chance;
use crate::images::recipes;
use crate::ledger::Ledger;
use crate::oracle::{Case, Depth, Loss, Violation};
use crate::replay::{Failure, Recipe, number};
use crate::trial::{DIR, Effects, Moment, Trial, open};
use crate::workload::{Settings, Workload};

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Images that are drawn by chance at each moment, besides the systematic ones.
    pub random: usize,
    /// One of so many images is looked at in full.
    pub full_one_of: u64,
    /// The recovery of one of so many images is cut again at each of its operations.
    pub again_one_of: u64,
    /// One of so many moments is killed, opened and then cut.
    pub kill_one_of: u64,
}

impl Effort {
    /// For tests that run with every change.
    pub const QUICK: Self = Self { random: 4, full_one_of: 12, again_one_of: 96, kill_one_of: 4 };
}

/// What was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Workloads.
    pub workloads: u64,
    /// Operations of the disk.
    pub moments: u64,
    /// Different crash images, those inside recoveries and after kills among them.
    pub images: u64,
    /// Images that were equal to one that was tried.
    pub doubles: u64,
    /// Of the images, those of a crash inside a recovery.
    pub in_recovery: u64,
    /// Kills that were followed by a power cut.
    pub kills: u64,
    /// What the operations did.
    pub effects: Effects,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.workloads += other.workloads;
        self.moments += other.moments;
        self.images += other.images;
        self.doubles += other.doubles;
        self.in_recovery += other.in_recovery;
        self.kills += other.kills;
        self.effects += other.effects;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} workloads, {} operations of the disk, {} different crash images ({} of them inside a recovery), {} doubles \
             skipped, {} kills followed by a power cut",
            self.workloads, self.moments, self.images, self.in_recovery, self.doubles, self.kills
        )
    }
}

/// Lives through a workload and judges everything that a crash at any of its moments may leave.
///
/// # Errors
/// The first promise that was broken.
pub fn simulate(workload: &Workload, effort: Effort) -> Result<Count, Box<Failure>> {
    let alive =
        |violation| Box::new(Failure { workload: workload.clone(), recipe: None, violation, image: None });
    let run = crate::oracle::i9_no_panic(|| Trial::run(workload));
    let (trial, moments) = run.map_err(alive)?;
    let names = trial.names();
    let only = number(crate::replay::OP).filter(|_| number(crate::replay::SEED).is_some());
    // What was a sample is all of it when one moment is repeated: contents differ from run to run by the files' salts.
    let effort = match only {
        Some(_) => Effort { random: 64, full_one_of: 1, again_one_of: 1, kill_one_of: 1 },
        None => effort,
    };
    let mut judge = Judge {
        workload,
        settings: trial.settings,
        ledger: &trial.ledger,
        effort,
        seen: HashSet::new(),
        count: Count {
            workloads: 1,
            moments: moments.len() as u64,
            effects: trial.effects,
            ..Count::default()
        },
    };
    for moment in moments.iter().filter(|moment| only.is_none_or(|tick| moment.tick == tick)) {
        let after = names.get(&moment.tick).map_or("", String::as_str);
        judge.moment(moment, after)?;
    }
    Ok(judge.count)
}

struct Judge<'a> {
    workload: &'a Workload,
    settings: Settings,
    ledger: &'a Ledger,
    effort: Effort,
    /// Fingerprints of images, with the stage of the ledger.
    seen: HashSet<(u64, u64)>,
    count: Count,
}

impl Judge<'_> {
    fn case(&self, moment: &Moment, loss: Loss) -> Case<'_> {
        Case { ledger: self.ledger, moment: moment.tick, loss, settings: &self.settings }
    }

    fn is_due(fingerprint: u64, one_of: u64) -> bool {
        // A fingerprint is chance enough.
        one_of != 0 && (fingerprint >> 17).is_multiple_of(one_of)
    }

    fn failure(&self, violation: Violation, recipe: Recipe, image: SimDisk) -> Box<Failure> {
        let workload = self.workload.clone();
        Box::new(Failure { workload, recipe: Some(recipe), violation, image: Some(image) })
    }

    fn moment(&mut self, moment: &Moment, after: &str) -> Result<(), Box<Failure>> {
        let seed = self.workload.seed ^ moment.tick.rotate_left(40);
        for cut in recipes(&moment.disk, true, self.effort.random, seed) {
            let image = moment.disk.cut(&cut);
            self.image(moment, &image, || Recipe::new(moment.tick, after.to_owned(), &moment.disk, &cut))?;
        }
        if Self::is_due(Chance::new(seed).any(), self.effort.kill_one_of) {
            self.kill_then_cut(moment, after)?;
        }
        Ok(())
    }

    /// Judges one image, unless it was judged before, and now and then every crash inside its recovery.
    fn image(
        &mut self,
        moment: &Moment,
        image: &SimDisk,
        recipe: impl Fn() -> Recipe,
    ) -> Result<(), Box<Failure>> {
        let fingerprint = image.fingerprint();
        if !self.seen.insert((fingerprint, self.ledger.stage(moment.tick))) {
            self.count.doubles += 1;
            return Ok(());
        }
        self.count.images += 1;
        let depth =
            if Self::is_due(fingerprint, self.effort.full_one_of) { Depth::FULL } else { Depth::default() };
        let judged = self.case(moment, Loss::Power).judge(image, depth);
        let shown = judged.map_err(|violation| self.failure(violation, recipe(), image.clone()))?;
        if Self::is_due(fingerprint, self.effort.again_one_of) {
            self.i7_crash_inside_recovery(moment, image, &shown, recipe)?;
        }
        Ok(())
    }

    /// I7: the recovery of an image is cut at each of its operations. All of the image was durable, so the same rows must be
    /// found each time.
    fn i7_crash_inside_recovery(
        &mut self,
        moment: &Moment,
        image: &SimDisk,
        shown: &std::collections::BTreeSet<u64>,
        recipe: impl Fn() -> Recipe,
    ) -> Result<(), Box<Failure>> {
        for inner in recovery_moments(image, &self.settings, self.ledger.is_wide(moment.tick)) {
            for cut in recipes(&inner.disk, false, 2, inner.tick) {
                let again = inner.disk.cut(&cut);
                if !self.seen.insert((again.fingerprint(), self.ledger.stage(moment.tick))) {
                    self.count.doubles += 1;
                    continue;
                }
                self.count.images += 1;
                self.count.in_recovery += 1;
                let judged = self.case(moment, Loss::Power).judge(&again, Depth::default());
                let judged = judged.and_then(|found| {
                    let what = || format!("{shown:?} was found; after a crash inside the recovery {found:?}");
                    if found == *shown { Ok(()) } else { Err(Violation { invariant: "I7", what: what() }) }
                });
                judged.map_err(|violation| {
                    let then = Recipe::new(inner.tick, "of the recovery".into(), &inner.disk, &cut);
                    let recipe = Recipe { then: Some(Box::new(then)), ..recipe() };
                    self.failure(violation, recipe, again.clone())
                })?;
            }
        }
        Ok(())
    }

    /// The process is killed, the table opened, and then the power is cut: while it opens (I7), and after it has shown what
    /// is there (I12).
    fn kill_then_cut(&mut self, moment: &Moment, after: &str) -> Result<(), Box<Failure>> {
        self.count.kills += 1;
        let recipe =
            || Recipe { tick: moment.tick, after: after.to_owned(), cut: vec!["killed".into()], then: None };
        let judged = self.case(moment, Loss::Kill).judge(&moment.disk, Depth::FULL);
        judged.map_err(|violation| self.failure(violation, recipe(), moment.disk.clone()))?;
        for inner in recovery_moments(&moment.disk, &self.settings, self.ledger.is_wide(moment.tick)) {
            for cut in recipes(&inner.disk, false, 2, inner.tick) {
                let image = inner.disk.cut(&cut);
                self.image(moment, &image, || {
                    let then = Recipe::new(inner.tick, "of the recovery".into(), &inner.disk, &cut);
                    Recipe { then: Some(Box::new(then)), ..recipe() }
                })?;
            }
        }
        Ok(())
    }
}

/// The disk after each operation of the open of this one.
fn recovery_moments(disk: &SimDisk, settings: &Settings, is_wide: bool) -> Vec<Moment> {
    let disk = disk.kill();
    let moments = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&moments);
    disk.after_each(move |tick, disk| {
        sink.lock().unwrap_or_else(PoisonError::into_inner).push(Moment { tick, disk });
    });
    // Whether it succeeds was judged before.
    drop(open(&disk, DIR, settings, is_wide));
    std::mem::take(&mut *moments.lock().unwrap_or_else(PoisonError::into_inner))
}
