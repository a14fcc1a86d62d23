//! What a power cut leaves of changes that were not synced: the fates, and the rules that choose them.

use std::collections::BTreeSet;
use std::ops::Range;

use super::chance::Chance;
use crate::names::{Change, Slot};

/// What becomes of one unsynced piece of a write, or of a truncate (which is absent, or else done).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The old bytes stay.
    Absent,
    /// The new bytes.
    Written,
    /// A prefix of the new bytes, then the old ones.
    Torn,
    /// Zeros.
    Zeros,
    /// Bytes that nobody wrote.
    Garbage,
}

/// How one power cut treats the bytes of files.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    Nothing,
    Everything,
    /// All up to this moment, nothing of later ones: a disk that keeps order.
    UpTo(u64),
    /// Each piece for itself, in sixteenths: written, and (of the others) damaged rather than absent.
    Each {
        written: u64,
        damaged: u64,
    },
}

impl Rule {
    /// Chooses a rule; what is unsynced was done at `moments`.
    fn choose(moments: Range<u64>, chance: &mut Chance) -> Self {
        match chance.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::UpTo(moments.start + chance.below(moments.end - moments.start)),
            3 => Self::Each { written: 8, damaged: 0 },
            4 => Self::Each { written: 15, damaged: 8 },
            5 => Self::Each { written: 2, damaged: 4 },
            6 => Self::Each { written: 0, damaged: 8 },
            _ => Self::Each { written: 8, damaged: 8 },
        }
    }

    /// The fate of one piece of what was done at this moment.
    pub(super) fn fate(self, moment: u64, chance: &mut Chance) -> Fate {
        match self {
            Self::Nothing => Fate::Absent,
            Self::Everything => Fate::Written,
            Self::UpTo(last) => {
                if moment <= last {
                    Fate::Written
                } else {
                    Fate::Absent
                }
            }
            Self::Each { written, damaged } => {
                if chance.below(16) < written {
                    Fate::Written
                } else if chance.below(16) < damaged {
                    [Fate::Torn, Fate::Zeros, Fate::Garbage]
                        .get(chance.below_usize(3))
                        .copied()
                        .unwrap_or(Fate::Torn)
                } else {
                    Fate::Absent
                }
            }
        }
    }
}

/// How one power cut treats names.
#[derive(Debug, Clone, Copy)]
pub(super) enum NameRule {
    Nothing,
    Everything,
    /// The first of the pending changes, as many as chance says: a journaling file system.
    Prefix,
    /// Each change for itself, in sixteenths, but none without the earlier ones on the same names: all that POSIX promises.
    Each {
        kept: u64,
    },
}

impl NameRule {
    fn choose(chance: &mut Chance) -> Self {
        match chance.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2..=4 => Self::Prefix,
            5 => Self::Each { kept: 4 },
            6 => Self::Each { kept: 8 },
            _ => Self::Each { kept: 13 },
        }
    }

    /// The changes that survive, in order.
    pub(super) fn survivors<'a, F>(
        self,
        pending: &[&'a Change<F>],
        chance: &mut Chance,
    ) -> Vec<&'a Change<F>> {
        let mut lost: BTreeSet<&Slot> = BTreeSet::new();
        let first = chance.below_usize(pending.len() + 1);
        let survives = |(index, change): (usize, &&'a Change<F>)| {
            let kept = match self {
                Self::Nothing => false,
                Self::Everything => true,
                Self::Prefix => index < first,
                Self::Each { kept } => {
                    chance.below(16) < kept && !change.slots().any(|slot| lost.contains(slot))
                }
            };
            if !kept {
                lost.extend(change.slots());
            }
            kept.then_some(*change)
        };
        pending.iter().enumerate().filter_map(survives).collect()
    }
}

/// The rules of the power cut that this seed stands for: 0 keeps nothing, 1 everything, the others are drawn.
/// What is unsynced was done at `moments`.
pub(super) fn rules(seed: u64, moments: Range<u64>, chance: &mut Chance) -> (NameRule, Rule) {
    match seed {
        0 => (NameRule::Nothing, Rule::Nothing),
        1 => (NameRule::Everything, Rule::Everything),
        _ => (NameRule::choose(chance), Rule::choose(moments, chance)),
    }
}
