//! All that a simulated disk holds: names and files, each as seen and as durable, and what a kill or a power cut leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Operation;
use super::cut::{self, Cut, Piece, Undecided};
use super::fault::{Demand, FaultKind, Plan};
use super::file::SimFile;
use super::fingerprint::Fingerprint;
use crate::names::{Change, Names, Node};

#[derive(Debug, Default)]
pub(super) struct State {
    /// The names as the program sees them.
    pub(super) live: Arc<Names<u64>>,
    /// The names as a power cut would leave them at worst.
    durable: Arc<Names<u64>>,
    /// What lies between the two, oldest first.
    pending: Vec<PendingName>,
    /// The directories in which the present operation changed names, for those who watch.
    pub(super) renamed_in: Vec<u64>,
    pub(super) files: BTreeMap<u64, SimFile>,
    pub(super) disk: DiskIdentity,
    /// The number of the newest file or directory.
    newest: u64,
    /// The clock when this copy was made.
    began: u64,
    pub(super) locked: BTreeSet<u64>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) plan: Plan,
    pub(super) trace: Vec<Operation>,
}

/// Tells disks apart, so that a file copied to another disk never has the identity that it had. What kills and power cuts
/// leave is the same disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct DiskIdentity(u64);

impl Default for DiskIdentity {
    fn default() -> Self {
        static NEWEST: AtomicU64 = AtomicU64::new(0);
        Self(NEWEST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl DiskIdentity {
    /// The identity of a file by its number on this disk.
    pub(super) fn identity_of(self, number: u64) -> u64 {
        self.0.rotate_left(32) ^ number
    }
}

#[derive(Debug, Clone)]
struct PendingName {
    change: Change<u64>,
    /// A failed sync of the directory left it marked clean: no later sync makes it durable by itself.
    lost: bool,
}

impl State {
    /// The number of the newest operation.
    pub(super) fn operations(&self) -> u64 {
        self.trace.len() as u64
    }

    /// A moment that is later with every operation, also over kills.
    pub(super) fn clock(&self) -> u64 {
        self.began + self.operations()
    }

    /// A number for a new file or directory.
    pub(super) fn number(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    /// Fails the present operation if the plan says so.
    pub(super) fn strike(&mut self, demand: Demand) -> io::Result<()> {
        let number = self.operations();
        if let Some(kind) = self.plan.strike(number, demand) {
            return Err(kind.error(number));
        }
        let full = self.capacity_bytes.is_some_and(|capacity_bytes| self.used_bytes() >= capacity_bytes);
        if demand == Demand::Names && full { Err(FaultKind::Full.error(number)) } else { Ok(()) }
    }

    /// By how many bytes files may still grow.
    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity_bytes
            .map_or(u64::MAX, |capacity_bytes| capacity_bytes.saturating_sub(self.used_bytes()))
    }

    /// The bytes of all files that have a name or are open.
    fn used_bytes(&self) -> u64 {
        let named: BTreeSet<u64> = self.live.files().copied().collect();
        let present =
            |(number, file): &(&u64, &SimFile)| named.contains(number) || Arc::strong_count(&file.open) > 1;
        self.files.iter().filter(present).map(|(_, file)| file.live().len() as u64).sum()
    }

    /// Makes a change of names: seen at once, durable later.
    pub(super) fn change(&mut self, change: Change<u64>) {
        Arc::make_mut(&mut self.live).apply(&change);
        self.renamed_in.extend(change.directories());
        self.pending.push(PendingName { change, lost: false });
    }

    /// Makes the changes in this directory durable, and with them the earlier ones that touch the same names.
    pub(super) fn sync_dir(&mut self, directory: u64) {
        let mut needed = BTreeSet::new();
        let mut synced = Vec::new();
        let mut rest = Vec::new();
        for pending in std::mem::take(&mut self.pending).into_iter().rev() {
            let asked = pending.change.slot().directory == directory && !pending.lost;
            if asked || pending.change.slots().any(|slot| needed.contains(slot)) {
                needed.extend(pending.change.slots().cloned());
                synced.push(pending.change);
            } else {
                rest.push(pending);
            }
        }
        rest.reverse();
        self.pending = rest;
        let durable = Arc::make_mut(&mut self.durable);
        for change in synced.iter().rev() {
            durable.apply(change);
        }
        self.drop_unreachable();
    }

    /// A sync of this directory failed: its changes count as clean from now on.
    pub(super) fn fail_sync_dir(&mut self, directory: u64) {
        for pending in &mut self.pending {
            pending.lost |= pending.change.slot().directory == directory;
        }
    }

    /// How many changes of names and files a power cut could lose.
    pub(super) fn pending(&self) -> usize {
        self.pending.len() + self.files.values().map(SimFile::pending).sum::<usize>()
    }

    /// The disk after the process died: all that was written stays, and stays unsynced.
    pub(super) fn after_kill(&self) -> Self {
        let files = self.files.iter().map(|(&number, file)| (number, file.after_kill()));
        let mut left = Self {
            live: Arc::clone(&self.live),
            durable: Arc::clone(&self.durable),
            pending: self.pending.clone(),
            files: files.collect(),
            disk: self.disk,
            newest: self.newest,
            began: self.clock(),
            capacity_bytes: self.capacity_bytes,
            ..Self::default()
        };
        left.drop_unreachable();
        left
    }

    /// What a power cut would have to decide now.
    pub(super) fn undecided(&self) -> Undecided {
        let mut paths = BTreeMap::new();
        for names in [&self.durable, &self.live] {
            names.walk(&mut |path, file| paths.extend(file.map(|number| (*number, path.to_owned()))));
        }
        let pieces = self.files.iter().flat_map(|(number, file)| {
            let path = paths.get(number);
            file.pieces().map(move |piece| Piece { path: path.cloned(), ..piece })
        });
        let names = self.pending.iter().map(|pending| pending.change.to_string());
        Undecided { pieces: pieces.collect(), names: names.collect() }
    }

    /// The disk after the power was cut: what was durable, and of the rest what is decided here.
    pub(super) fn after_cut(&self, cut: &Cut) -> Self {
        let mut names = Names::clone(&self.durable);
        let pending = self.pending.iter().map(|pending| &pending.change);
        for change in cut::survivors(pending, &cut.names) {
            names.apply(change);
        }
        names.drop_unreachable();
        let mut fates = cut.fates.iter().copied();
        // All of them, in order: each takes its fates, also one that has lost its name.
        let files = self.files.iter().map(|(number, file)| (*number, file.after_cut(*number, &mut fates)));
        let mut files: BTreeMap<u64, SimFile> = files.collect();
        let reachable: BTreeSet<u64> = names.files().copied().collect();
        files.retain(|number, _| reachable.contains(number));
        let names = Arc::new(names);
        Self {
            live: Arc::clone(&names),
            durable: names,
            files,
            disk: self.disk,
            newest: self.newest,
            began: self.clock(),
            capacity_bytes: self.capacity_bytes,
            ..Self::default()
        }
    }

    /// A hash of every path and all bytes that are seen.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut fingerprint = Fingerprint::default();
        self.live.walk(&mut |path, file| {
            fingerprint.add(path.as_os_str().as_encoded_bytes());
            match file {
                Some(number) => fingerprint.add(self.files.get(number).map_or(&[], |file| file.live())),
                None => fingerprint.add(b"/"),
            }
        });
        fingerprint.get()
    }

    /// Forgets files that have no handle and no name, not even one that a power cut could bring back.
    fn drop_unreachable(&mut self) {
        let mut reachable: BTreeSet<u64> = self.live.files().chain(self.durable.files()).copied().collect();
        reachable.extend(self.pending.iter().filter_map(|pending| match pending.change.node() {
            Node::File(number) => Some(*number),
            Node::Directory(_) => None,
        }));
        self.files.retain(|number, file| reachable.contains(number) || Arc::strong_count(&file.open) > 1);
    }
}
