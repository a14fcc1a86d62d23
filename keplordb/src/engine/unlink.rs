//! Replaced files: what the table no longer needs stays for a while, and then goes in an order that no crash and no lost
//! manifest can turn into rows that come back.
//!
//! They stay for [`Options::unlink_grace`](crate::Options::unlink_grace), so that a plain copy of a live directory that takes
//! less finds each row in one place or another; on a full disk they go at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Core;
use super::publish::Publish;
use crate::error::{DbError, IoContext, Result};
use crate::format::manifest::{ListedReplaced, OldFile};
use crate::storage::directory::Directory;
use crate::storage::segment_reader::Segment;

/// A file that the manifest lists no more as part of the table.
#[derive(Debug)]
pub(crate) struct Replaced {
    at: Instant,
    file: ReplacedFile,
    /// The segment or tombstone log that has its rows now; `None` when they are deleted or were dropped by gc.
    by: Option<u64>,
}

#[derive(Debug)]
enum ReplacedFile {
    Wal(u64),
    /// Held, so that it is known whether a reader still holds it too.
    Segment(Arc<Segment>),
    Tombstones(u64),
}

impl Replaced {
    pub(crate) fn wal(generation: u64, by: Option<u64>) -> Self {
        Self { at: Instant::now(), file: ReplacedFile::Wal(generation), by }
    }

    pub(crate) fn segment(segment: Arc<Segment>, by: Option<u64>) -> Self {
        Self { at: Instant::now(), file: ReplacedFile::Segment(segment), by }
    }

    pub(crate) fn tombstones(number: u64, by: u64) -> Self {
        Self { at: Instant::now(), file: ReplacedFile::Tombstones(number), by: Some(by) }
    }

    /// One that an earlier run has left; its grace begins anew.
    pub(crate) fn found(
        listed: ListedReplaced,
        open: impl FnOnce(u64) -> Result<Arc<Segment>>,
    ) -> Result<Self> {
        let file = match listed.file {
            OldFile::Wal(generation) => ReplacedFile::Wal(generation),
            OldFile::Segment(number) => ReplacedFile::Segment(open(number)?),
            OldFile::Tombstones(number) => ReplacedFile::Tombstones(number),
        };
        Ok(Self { at: Instant::now(), file, by: listed.by })
    }

    fn name(&self) -> OldFile {
        match &self.file {
            ReplacedFile::Wal(generation) => OldFile::Wal(*generation),
            ReplacedFile::Segment(segment) => OldFile::Segment(segment.number()),
            ReplacedFile::Tombstones(number) => OldFile::Tombstones(*number),
        }
    }
}

/// The replaced files that are still there, in the order in which they were replaced.
#[derive(Debug, Default)]
pub(crate) struct UnlinkList(Vec<Replaced>);

impl UnlinkList {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn extend(&mut self, replaced: Vec<Replaced>) {
        self.0.extend(replaced);
    }

    /// Takes back what was added behind the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// As the manifest lists them.
    pub(crate) fn listed(&self) -> Vec<ListedReplaced> {
        let listed = self.0.iter().map(|replaced| ListedReplaced { file: replaced.name(), by: replaced.by });
        let mut listed: Vec<_> = listed.collect();
        listed.sort_unstable();
        listed
    }

    /// Whether the log of a generation is among them.
    pub(crate) fn has_wal(&self, generation: u64) -> bool {
        self.0.iter().any(|replaced| replaced.name() == OldFile::Wal(generation))
    }

    /// Whether a segment is among them.
    pub(crate) fn has_segment(&self, number: u64) -> bool {
        self.0.iter().any(|replaced| replaced.name() == OldFile::Segment(number))
    }

    /// Whether a segment or a log of events is among them.
    pub(crate) fn has_rows(&self) -> bool {
        self.0.iter().any(|replaced| !matches!(replaced.file, ReplacedFile::Tombstones(_)))
    }

    /// Unlinks what is due, durably. Logs go before segments, and a segment only when everything is gone whose rows it has
    /// taken over: else a manifest that had to be rebuilt would count these rows again. One that a reader holds stays.
    ///
    /// # Errors
    /// Of a failed sync; that a file cannot be removed is none, it stays listed.
    fn unlink(&mut self, directory: &Directory, is_due: impl Fn(Instant) -> bool) -> Result<Unlinked> {
        let mut unlinked = Unlinked::default();
        let wal_dir = directory.wal_dir();
        self.unlink_some(directory, &wal_dir, &mut unlinked, |_, replaced| {
            matches!(replaced.file, ReplacedFile::Wal(_)) && is_due(replaced.at)
        })?;
        let segment_dir = directory.segment_dir();
        let can_go = |list: &Self, replaced: &Replaced| match &replaced.file {
            ReplacedFile::Segment(segment) if is_due(replaced.at) => {
                let header = segment.header();
                Arc::strong_count(segment) == 1
                    && !header.generations.iter().any(|generation| list.has_wal(*generation))
                    && !header.supersedes.iter().any(|number| list.has_segment(*number))
            }
            _ => false,
        };
        // Sources before their results, which may themselves be sources: a round each.
        while self.unlink_some(directory, &segment_dir, &mut unlinked, can_go)? {}
        self.unlink_some(directory, directory.root(), &mut unlinked, |_, replaced| {
            matches!(replaced.file, ReplacedFile::Tombstones(_)) && is_due(replaced.at)
        })?;
        Ok(unlinked)
    }

    /// Unlinks those that are wanted, all in `dir`, and syncs it; whether any went.
    fn unlink_some(
        &mut self,
        directory: &Directory,
        dir: &std::path::Path,
        unlinked: &mut Unlinked,
        is_wanted: impl Fn(&Self, &Replaced) -> bool,
    ) -> Result<bool> {
        let wanted: BTreeSet<OldFile> =
            self.0.iter().filter(|replaced| is_wanted(self, replaced)).map(Replaced::name).collect();
        let before = self.0.len();
        let mut incomplete = BTreeSet::new();
        self.0.retain(|replaced| {
            let name = replaced.name();
            let goes = wanted.contains(&name) && directory.remove_leftover(&path_of(directory, name));
            if goes && !matches!(name, OldFile::Tombstones(_)) {
                incomplete.extend(replaced.by);
            }
            !goes
        });
        if self.0.len() == before {
            return Ok(false);
        }
        // The others that the same segment replaced can no longer stand in for it, in a copy that lacks it.
        for replaced in &mut self.0 {
            if !matches!(replaced.file, ReplacedFile::Tombstones(_))
                && replaced.by.is_some_and(|by| incomplete.contains(&by))
            {
                replaced.by = None;
            }
        }
        unlinked.files += (before - self.0.len()) as u64;
        unlinked.syncs += 1;
        // Whether a power cut would bring the names back is unknown after a failure, as with every sync.
        let synced = directory.disk().sync_dir(dir).at("sync", dir);
        synced.map(|()| true).map_err(|error| directory.poison().set(&error))
    }
}

/// What unlinking did.
#[derive(Debug, Clone, Copy, Default)]
struct Unlinked {
    files: u64,
    syncs: u64,
}

pub(crate) fn path_of(directory: &Directory, file: OldFile) -> std::path::PathBuf {
    match file {
        OldFile::Wal(generation) => directory.wal(generation),
        OldFile::Segment(number) => directory.segment(number),
        OldFile::Tombstones(number) => directory.tombstones(number),
    }
}

impl Core {
    /// Unlinks replaced files whose grace is over, and says how many.
    pub(crate) fn unlink_due(&self, publish: &mut Publish) -> u64 {
        let grace = self.options.unlink_grace;
        self.unlink(publish, |at| at.elapsed() >= grace)
    }

    /// Unlinks all replaced files, whatever their grace: the disk is full, and whoever comes next needs the room.
    pub(crate) fn free_replaced(&self, publish: &mut Publish) -> u64 {
        self.unlink(publish, |_| true)
    }

    fn unlink(&self, publish: &mut Publish, is_due: impl Fn(Instant) -> bool) -> u64 {
        if publish.unlink.len() == 0 || self.wal.directory.poison().is_set() {
            return 0;
        }
        match publish.unlink.unlink(&self.wal.directory, is_due) {
            Ok(unlinked) => {
                self.wal.syncs.fetch_add(unlinked.syncs, Ordering::Relaxed);
                unlinked.files
            }
            Err(error) => {
                self.note("replaced files could not be unlinked", error);
                0
            }
        }
    }

    /// Hands a result on. If it says that the disk is full, replaced files go first, so that trying again may find room.
    /// Its caller holds no lock later than `rotation`.
    pub(crate) fn freeing<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(DbError::Full { .. }) = &result {
            self.free_replaced(&mut self.publish.lock());
        }
        result
    }
}
