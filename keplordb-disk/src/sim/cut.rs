//! What a power cut leaves of changes that were not synced: what there is to decide, one decision for all of it, and how a
//! seed decides.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::chance::Chance;
use crate::names::{Change, Slot};

/// What becomes of one [`Piece`]. A truncate is lost if it is `Absent`, and done otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The old bytes stay.
    Absent,
    /// The new bytes.
    Written,
    /// So many of the new bytes, then the old ones.
    Torn(u16),
    /// Zeros.
    Zeros,
    /// Bytes that nobody wrote; always the same ones for the same place of the same file.
    Garbage,
}

/// A change of a file's bytes that a power cut treats for itself: the part of an unsynced write that lies in one sector, or an
/// unsynced truncate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// A name that the file has, as it is seen now or as it was when its name was last durable; none if it has no name.
    pub path: Option<PathBuf>,
    /// When it was made: later pieces have larger numbers, those of one operation the same.
    pub moment: u64,
    /// Where it begins; of a truncate, the new length.
    pub offset: u64,
    /// How many bytes it has; of a truncate, none.
    pub bytes: usize,
    /// Whether all of its bytes are zeros: a file filled ahead of need has many such pieces, all alike.
    pub is_zeros: bool,
}

/// All that a power cut would have to decide: [`SimDisk::undecided`](super::SimDisk::undecided).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undecided {
    /// Of each file in turn, oldest first.
    pub pieces: Vec<Piece>,
    /// The changes of names, oldest first, in words.
    pub names: Vec<String>,
}

/// One decision: the recipe of a crash image, for [`SimDisk::cut`](super::SimDisk::cut).
///
/// What it says nothing of is lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut {
    /// What becomes of each of [`Undecided::pieces`].
    pub fates: Vec<Fate>,
    /// Which of [`Undecided::names`] survive. One whose names an earlier, lost change concerns too is lost with it.
    pub names: Vec<bool>,
}

impl Cut {
    /// Nothing that is unsynced survives: the worst honest disk.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Everything survives, as if it had been synced: the best disk.
    pub fn everything(undecided: &Undecided) -> Self {
        Self { fates: vec![Fate::Written; undecided.pieces.len()], names: vec![true; undecided.names.len()] }
    }

    /// The decision that a seed stands for: 0 is [`nothing`](Self::nothing), 1 [`everything`](Self::everything); the
    /// others draw one of several rules for bytes and one for names.
    pub fn draw(seed: u64, undecided: &Undecided) -> Self {
        match seed {
            0 => Self::nothing(),
            1 => Self::everything(undecided),
            _ => {
                let mut chance = Chance::new(seed);
                let oldest = undecided.pieces.iter().map(|piece| piece.moment).min().unwrap_or(0);
                let newest = undecided.pieces.iter().map(|piece| piece.moment).max().unwrap_or(0);
                let names = NameRule::choose(undecided.names.len(), &mut chance);
                let names = (0..undecided.names.len()).map(|place| names.keeps(place, &mut chance)).collect();
                let rule = Rule::choose(oldest, newest, &mut chance);
                let fates = undecided.pieces.iter().map(|piece| rule.fate(piece, &mut chance)).collect();
                Self { fates, names }
            }
        }
    }
}

/// How a drawn power cut treats the bytes of files.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Nothing,
    Everything,
    /// All before this moment, nothing of later ones: a disk that keeps order.
    Before(u64),
    /// Each piece for itself, in sixteenths: written, and (of the others) damaged rather than absent.
    Each {
        written: u64,
        damaged: u64,
    },
}

impl Rule {
    fn choose(oldest: u64, newest: u64, chance: &mut Chance) -> Self {
        match chance.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Before(oldest + chance.below(newest - oldest + 2)),
            3 => Self::Each { written: 8, damaged: 0 },
            4 => Self::Each { written: 15, damaged: 8 },
            5 => Self::Each { written: 2, damaged: 4 },
            6 => Self::Each { written: 0, damaged: 8 },
            _ => Self::Each { written: 8, damaged: 8 },
        }
    }

    fn fate(self, piece: &Piece, chance: &mut Chance) -> Fate {
        match self {
            Self::Everything => Fate::Written,
            Self::Before(end) if piece.moment < end => Fate::Written,
            Self::Nothing | Self::Before(_) => Fate::Absent,
            Self::Each { written, damaged } => {
                if chance.below(16) < written {
                    Fate::Written
                } else if chance.below(16) < damaged {
                    match chance.below(3) {
                        0 => Fate::Torn(u16::try_from(chance.below_usize(piece.bytes)).unwrap_or(0)),
                        1 => Fate::Zeros,
                        _ => Fate::Garbage,
                    }
                } else {
                    Fate::Absent
                }
            }
        }
    }
}

/// How a drawn power cut treats names.
#[derive(Debug, Clone, Copy)]
enum NameRule {
    /// The first of the pending changes, so many: a journaling file system.
    First(usize),
    /// Each change for itself, in sixteenths: all that POSIX promises.
    Each { kept: u64 },
}

impl NameRule {
    fn choose(pending: usize, chance: &mut Chance) -> Self {
        match chance.below(8) {
            0 => Self::First(0),
            1 => Self::First(pending),
            2..=4 => Self::First(chance.below_usize(pending + 1)),
            5 => Self::Each { kept: 4 },
            6 => Self::Each { kept: 8 },
            _ => Self::Each { kept: 13 },
        }
    }

    fn keeps(self, place: usize, chance: &mut Chance) -> bool {
        match self {
            Self::First(kept) => place < kept,
            Self::Each { kept } => chance.below(16) < kept,
        }
    }
}

/// Of these changes those that survive, in order: the ones to be kept, but none without the earlier ones on the same names.
pub(super) fn survivors<'a, F>(
    pending: impl Iterator<Item = &'a Change<F>>,
    kept: &[bool],
) -> Vec<&'a Change<F>> {
    let mut lost: BTreeSet<&Slot> = BTreeSet::new();
    let mut survivors = Vec::new();
    for (place, change) in pending.enumerate() {
        let is_kept = kept.get(place).copied().unwrap_or(false);
        if is_kept && !change.slots().any(|slot| lost.contains(slot)) {
            survivors.push(change);
        } else {
            lost.extend(change.slots());
        }
    }
    survivors
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}", path.display())?,
            None => f.write_str("a file without a name")?,
        }
        match self.bytes {
            0 => write!(f, " cut to {}", self.offset),
            bytes => write!(f, " {}..{}", self.offset, self.offset + bytes as u64),
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("lost"),
            Self::Written => f.write_str("written"),
            Self::Torn(bytes) => write!(f, "torn after {bytes} bytes"),
            Self::Zeros => f.write_str("zeros"),
            Self::Garbage => f.write_str("garbage"),
        }
    }
}
