//! Faults: which operation fails, and how.

use std::io;

/// A fault to be injected by [`SimDisk::fail`](super::SimDisk::fail).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The number of the operation that fails, as [`SimDisk::operations`](super::SimDisk::operations) counts them: the next
    /// one has the number `operations() + 1`. If that one is not of the sort that the kind can hit, the first later one
    /// that is.
    pub at: u64,
    /// What happens.
    pub kind: FaultKind,
    /// Whether it goes on happening to every later operation of the sort, until [`SimDisk::heal`](super::SimDisk::heal).
    pub forever: bool,
}

/// How an operation fails, and which ones can fail so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// No space (`StorageFull`). Hits what needs new space: create, create directory, link, a write or truncate that
    /// lengthens a file. Nothing is changed. Overwriting, cutting, removing, renaming and syncing go on working.
    Full,
    /// An input or output error (`Other`). Hits every mutating operation. Nothing is changed, except that a failed sync
    /// behaves as for [`SyncFails`](Self::SyncFails).
    Io,
    /// A short write: some prefix is written, then `StorageFull`. Hits any write, overwrites too.
    ShortWrite,
    /// `sync` or `sync_dir` fails with an input or output error. From then on what was to be synced counts as clean: a
    /// later sync succeeds without making it durable, and a power cut may lose it.
    SyncFails,
    /// A signal came in between (`Interrupted`). Hits every mutating operation; nothing is changed. [`RealDisk`](crate::RealDisk)
    /// repeats what it may and so never shows most of these, but other disks need not.
    Interrupted,
}

impl FaultKind {
    /// All kinds, for loops over them.
    pub const ALL: [Self; 5] = [Self::Full, Self::Io, Self::ShortWrite, Self::SyncFails, Self::Interrupted];

    /// The error that the caller sees.
    pub(super) fn error(self, number: u64) -> io::Error {
        let (kind, what) = match self {
            Self::Full | Self::ShortWrite => (io::ErrorKind::StorageFull, "no space left"),
            Self::Io | Self::SyncFails => (io::ErrorKind::Other, "input/output error"),
            Self::Interrupted => (io::ErrorKind::Interrupted, "interrupted"),
        };
        io::Error::new(kind, format!("simulated: {what} at operation {number}"))
    }
}

/// What an operation asks of the disk, which decides the faults that can hit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// New space for names.
    Names,
    /// A write, which makes its file longer or not.
    Write { grows: bool },
    /// A truncate that makes its file longer.
    Growth,
    /// A sync of a file or a directory.
    Sync,
    /// None of these.
    Nothing,
}

/// The faults still to come.
#[derive(Debug, Default)]
pub(super) struct Plan {
    faults: Vec<Fault>,
    hits: u64,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits
    }

    /// The fault that hits this operation, if one does.
    pub(super) fn strike(&mut self, number: u64, demand: Demand) -> Option<FaultKind> {
        let can_hit = |kind| match kind {
            FaultKind::Io | FaultKind::Interrupted => true,
            FaultKind::Full => {
                matches!(demand, Demand::Names | Demand::Growth | Demand::Write { grows: true })
            }
            FaultKind::ShortWrite => matches!(demand, Demand::Write { .. }),
            FaultKind::SyncFails => demand == Demand::Sync,
        };
        let index = self.faults.iter().position(|fault| number >= fault.at && can_hit(fault.kind))?;
        let fault = *self.faults.get(index)?;
        if !fault.forever {
            self.faults.remove(index);
        }
        self.hits += 1;
        Some(fault.kind)
    }
}
