//! The manifest's side of the state: what is live, which numbers come next, and how a change becomes the truth.
//!
//! Every change of the table goes through here under one lock: prepare new files, replace the manifest (the commit
//! point), swap the version that readers load, unlink what was replaced once nobody can be copying it any more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Core;
use super::shard::Active;
use crate::error::Result;
use crate::format::manifest::{ListedSegment, ListedWal, Manifest};
use crate::state::memtable::Memtable;
use crate::state::version::{MemtableEntry, Version};
use crate::storage::manifest::ManifestFile;
use crate::storage::syncer::Syncer;
use crate::storage::tombstones::TombstoneLog;
use crate::storage::wal::Wal;

/// What `Core::publish` guards.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) next_generation: u64,
    pub(crate) next_segment: u64,
    /// Every WAL whose rows are in no segment yet.
    pub(crate) wals: BTreeMap<u64, LiveWal>,
    pub(crate) manifest: ManifestFile,
    pub(crate) tombstones: TombstoneLog,
    /// Replaced files and when they were.
    pub(crate) unlink: Vec<(Instant, PathBuf)>,
}

/// How far a live WAL is known to be synced.
#[derive(Debug)]
pub(crate) enum LiveWal {
    /// It is or was written by this engine.
    Open(Arc<Syncer>),
    /// It was found, closed, when the engine was opened.
    Found { synced_bytes: u64 },
}

impl Core {
    /// Makes the next generation of a shard: its WAL file on disk, its memtable in the version.
    pub(crate) fn create_generation(&self, index: usize) -> Result<Active> {
        let mut publish = self.publish.lock();
        let generation = publish.next_generation;
        let shard = u32::try_from(index).expect("there are at most 64 shards");
        let wal = Wal::create(&self.wal, generation, shard, self.source.schema())?;
        // Only now is the number used up: had `create` failed, the next attempt would replace what it left.
        publish.next_generation += 1;
        publish.wals.insert(generation, LiveWal::Open(Arc::clone(wal.syncer())));
        let memtable = Arc::new(Memtable::new(generation, self.source.schema().shape()));
        memtable.set_wal_bytes(wal.end());
        let mut version = Version::clone(&self.source.version());
        version.memtables.push(MemtableEntry {
            memtable: Arc::clone(&memtable),
            sealed: false,
            deleted: None,
        });
        self.source.show(version);
        Ok(Active { wal, memtable })
    }

    /// Writes into the manifest where this run's sequences begin, once, before the first of them is given.
    pub(crate) fn reserve_sequences(&self) -> Result<()> {
        if self.reserved.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut publish = self.publish.lock();
        if !self.reserved.load(Ordering::Acquire) {
            let version = Version::clone(&self.source.version());
            self.commit_version(&mut publish, version)?;
            self.reserved.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Makes `version` the truth: replaces the manifest by one that lists its segments and the WALs of its memtables, then
    /// shows it to readers. On an error nothing has changed, or writing has stopped.
    pub(crate) fn commit_version(&self, publish: &mut Publish, version: Version) -> Result<()> {
        let live: Vec<u64> = version.memtables.iter().map(|entry| entry.memtable.generation()).collect();
        let manifest = self.manifest_of(publish, &version, |generation| live.contains(&generation));
        publish.manifest.replace(&manifest)?;
        self.wal.syncs.fetch_add(2, Ordering::Relaxed);
        publish.wals.retain(|generation, _| live.contains(generation));
        self.source.show(version);
        Ok(())
    }

    /// The manifest of a version.
    pub(crate) fn manifest_of(
        &self,
        publish: &Publish,
        version: &Version,
        is_live: impl Fn(u64) -> bool,
    ) -> Manifest {
        let listed = |entry: &crate::state::version::SegmentEntry| ListedSegment {
            number: entry.segment.number(),
            file_bytes: entry.segment.header().file_bytes,
        };
        let wals = publish.wals.iter().filter(|(generation, _)| is_live(**generation));
        Manifest {
            schema: self.source.schema().clone(),
            next_sequence: self.next_sequence.load(Ordering::Relaxed),
            next_generation: publish.next_generation,
            next_segment: publish.next_segment,
            tombstone_bytes: publish.tombstones.synced_bytes(),
            segments: version.segments.iter().map(listed).collect(),
            wals: wals
                .map(|(generation, wal)| ListedWal {
                    generation: *generation,
                    synced_bytes: wal.synced_bytes(),
                })
                .collect(),
        }
    }

    /// Unlinks replaced files whose grace is over.
    pub(crate) fn unlink_replaced(&self, publish: &mut Publish) {
        let grace = self.options.unlink_grace;
        publish.unlink.retain(|(replaced, path)| {
            let keep = replaced.elapsed() < grace;
            if !keep {
                self.wal.directory.remove_leftover(path);
            }
            keep
        });
    }
}

impl LiveWal {
    pub(crate) fn synced_bytes(&self) -> u64 {
        match self {
            Self::Open(syncer) => syncer.durable_upto(),
            Self::Found { synced_bytes } => *synced_bytes,
        }
    }
}
