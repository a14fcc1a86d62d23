//! One simulated file: what is seen, what is durable, and the changes between the two.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::SECTOR_BYTES;
use super::chance::Chance;
use super::cut::{Fate, Piece};
use crate::contents;

/// A file. Cloning is cheap: contents and pending bytes are shared until one side changes.
#[derive(Debug, Clone, Default)]
pub(super) struct SimFile {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// What was done since the last sync, oldest first; and, for ever, what a failed sync lost sight of.
    pending: Vec<Pending>,
    /// As long as a handle shares this, the file stays though it has no name.
    pub(super) open: Arc<()>,
}

#[derive(Debug, Clone)]
struct Pending {
    /// When it was done: `State::clock`.
    number: u64,
    change: Change,
}

#[derive(Debug, Clone)]
enum Change {
    Write {
        offset: usize,
        bytes: Arc<[u8]>,
        /// A failed sync left this page marked clean: no later sync writes it. Lies within one sector.
        lost: bool,
    },
    Truncate {
        bytes: usize,
    },
}

impl SimFile {
    /// A file as a power cut left it: all that is seen is durable.
    fn settled(contents: Arc<Vec<u8>>) -> Self {
        Self { live: Arc::clone(&contents), durable: contents, ..Self::default() }
    }

    /// The file after the process died: as it is, with no handle.
    pub(super) fn after_kill(&self) -> Self {
        Self { open: Arc::default(), ..self.clone() }
    }

    pub(super) fn live(&self) -> &Arc<Vec<u8>> {
        &self.live
    }

    /// How many changes a power cut could lose.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn write(&mut self, number: u64, source: &[u8], offset: u64) -> io::Result<()> {
        contents::write(Arc::make_mut(&mut self.live), source, offset)?;
        if !source.is_empty() {
            let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
            self.pending.push(Pending {
                number,
                change: Change::Write { offset, bytes: source.into(), lost: false },
            });
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, number: u64, bytes: u64) -> io::Result<()> {
        contents::resize(Arc::make_mut(&mut self.live), bytes)?;
        self.pending.push(Pending { number, change: Change::Truncate { bytes: self.live.len() } });
        Ok(())
    }

    /// All that is pending becomes durable, and the length; but not the bytes that an earlier, failed sync lost, unless
    /// a later write made their sector dirty again.
    pub(super) fn sync(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let dirty = self.dirty_sectors();
        let durable = Arc::make_mut(&mut self.durable);
        let mut still_lost: Vec<Pending> = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            match pending.change {
                Change::Write { offset, lost: true, .. } if !dirty.contains(&(offset / SECTOR_BYTES)) => {
                    still_lost.push(pending);
                }
                Change::Write { offset, ref bytes, .. } => overlay(durable, offset, bytes),
                Change::Truncate { bytes } => {
                    durable.resize(bytes, 0);
                    still_lost = still_lost.into_iter().filter_map(|lost| lost.cut(bytes)).collect();
                }
            }
        }
        // The length is not kept in the lost pages.
        durable.resize(self.live.len(), 0);
        self.pending = still_lost;
    }

    /// A sync failed: the pages count as clean from now on. Lengths are kept elsewhere and stay to be synced.
    pub(super) fn fail_sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match pending.change {
                Change::Write { offset, bytes, lost: false } => {
                    self.pending.extend(sectors(offset, &bytes).map(|(offset, piece)| Pending {
                        number: pending.number,
                        change: Change::Write { offset, bytes: piece.into(), lost: true },
                    }));
                }
                Change::Write { .. } | Change::Truncate { .. } => self.pending.push(pending),
            }
        }
    }

    /// What a power cut has to decide, oldest first; who calls knows the path.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.pending.iter().flat_map(|Pending { number, change }| {
            let piece = |offset: usize, bytes: &[u8]| Piece {
                path: None,
                moment: *number,
                offset: offset as u64,
                bytes: bytes.len(),
                is_zeros: !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0),
            };
            match change {
                Change::Write { offset, bytes, .. } => {
                    sectors(*offset, bytes).map(|(offset, bytes)| piece(offset, bytes)).collect()
                }
                Change::Truncate { bytes } => vec![piece(*bytes, &[])],
            }
        })
    }

    /// The file after a power cut; takes one fate for each of [`pieces`](Self::pieces). `number` is the file's.
    pub(super) fn after_cut(&self, number: u64, fates: &mut impl Iterator<Item = Fate>) -> Self {
        if self.pending.is_empty() {
            return Self::settled(Arc::clone(&self.durable));
        }
        let mut left = self.durable.to_vec();
        for Pending { change, .. } in &self.pending {
            match change {
                Change::Write { offset, bytes, .. } => {
                    for (offset, piece) in sectors(*offset, bytes) {
                        leave(&mut left, number, offset, piece, fates.next().unwrap_or(Fate::Absent));
                    }
                }
                Change::Truncate { bytes } => {
                    if fates.next().is_some_and(|fate| fate != Fate::Absent) {
                        left.resize(*bytes, 0);
                    }
                }
            }
        }
        Self::settled(Arc::new(left))
    }

    /// The sectors that the next sync writes; empty if nothing was ever lost, when nobody asks.
    fn dirty_sectors(&self) -> BTreeSet<usize> {
        let is_lost = |pending: &Pending| matches!(pending.change, Change::Write { lost: true, .. });
        if !self.pending.iter().any(is_lost) {
            return BTreeSet::new();
        }
        let writes = self.pending.iter().filter_map(|pending| match &pending.change {
            Change::Write { offset, bytes, lost: false } => Some((*offset, bytes)),
            Change::Write { .. } | Change::Truncate { .. } => None,
        });
        writes
            .flat_map(|(offset, bytes)| sectors(offset, bytes))
            .map(|(offset, _)| offset / SECTOR_BYTES)
            .collect()
    }
}

impl Pending {
    /// What remains of a lost piece when the file is cut.
    fn cut(mut self, file_bytes: usize) -> Option<Self> {
        if let Change::Write { offset, bytes, .. } = &mut self.change {
            let room = file_bytes.checked_sub(*offset).filter(|room| *room > 0)?;
            if let Some(rest) = bytes.get(..room) {
                *bytes = rest.into();
            }
        }
        Some(self)
    }
}

/// The pieces of a write that lie in one sector each, with their offsets in the file.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let head = bytes.len().min(SECTOR_BYTES - offset % SECTOR_BYTES);
    let (first, rest) = bytes.split_at(head);
    let rest = rest.chunks(SECTOR_BYTES).enumerate();
    std::iter::once((offset, first))
        .chain(rest.map(move |(index, piece)| (offset + head + index * SECTOR_BYTES, piece)))
}

/// Leaves of one piece what its fate says. The length grows unless the piece is absent.
fn leave(left: &mut Vec<u8>, file: u64, offset: usize, piece: &[u8], fate: Fate) {
    match fate {
        Fate::Absent => {}
        Fate::Written => overlay(left, offset, piece),
        Fate::Torn(bytes) => {
            let (new, _) = piece.split_at(piece.len().min(bytes.into()));
            left.resize(left.len().max(offset + piece.len()), 0);
            overlay(left, offset, new);
        }
        Fate::Zeros => overlay(left, offset, &vec![0; piece.len()]),
        Fate::Garbage => {
            let mut chance = Chance::new(file.rotate_left(32) ^ offset as u64);
            let garbage: Vec<u8> =
                std::iter::repeat_with(|| chance.next().to_le_bytes()).flatten().take(piece.len()).collect();
            overlay(left, offset, &garbage);
        }
    }
}

/// Writes what was written once already, so its length is known to fit.
fn overlay(contents: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    if let Some(range) = contents.get_mut(offset..end) {
        range.copy_from_slice(bytes);
    }
}
