//! The manifest's side of the state: what is live, which numbers come next, and how a change becomes the truth.
//!
//! Every change of the table goes through here under one lock: prepare new files, replace the manifest (the commit
//! point), swap the version that readers load, unlink what was replaced once nobody can be copying it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Core;
use super::shard::Active;
use super::unlink::{Replaced, UnlinkList};
use crate::config::Sync;
use crate::error::Result;
use crate::format::manifest::{ListedSegment, ListedWal, Manifest};
use crate::format::tombstones::Tombstone;
use crate::state::memtable::Memtable;
use crate::state::version::{MemtableEntry, Version};
use crate::storage::manifest::{ManifestFile, Room};
use crate::storage::tombstones::TombstoneLog;
use crate::storage::wal;
use keplordb_log::file::FrameFile;
use keplordb_log::syncer::Syncer;

/// What `Core::publish` guards.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) next_generation: u64,
    pub(crate) next_segment: u64,
    /// Every WAL whose rows are in no segment yet.
    pub(crate) wals: BTreeMap<u64, LiveWal>,
    pub(crate) manifest: ManifestFile,
    /// Logs that the open found and had no room to close. They take no rows.
    pub(crate) unclosed: Vec<Active>,
    /// Made with the first delete.
    pub(crate) tombstones: Option<TombstoneLog>,
    /// The number of the next one, above all that were ever given and are known of.
    pub(crate) next_tombstones: u64,
    /// Tombstones that are only in other logs than that one, which a manifest would forget: they go into it first.
    pub(crate) tombstones_apart: Vec<Tombstone>,
    /// Replaced files that are still there.
    pub(crate) unlink: UnlinkList,
    /// Segments that somebody is merging; and those that could not be read for it.
    pub(crate) claimed: BTreeSet<u64>,
}

/// How far a live WAL is known to be synced.
#[derive(Debug)]
pub(crate) enum LiveWal {
    /// It is or was written by this engine.
    Open(Arc<Syncer>),
    /// It was found, closed, when the engine was opened.
    Found { synced_bytes: u64 },
}

impl Publish {
    /// The number of a segment that is going to be written. One that is not used is no loss.
    pub(crate) fn give_segment_number(&mut self) -> u64 {
        self.next_segment += 1;
        self.next_segment - 1
    }
}

impl Core {
    /// Makes the next generation of a shard: its WAL file on disk, its memtable in the version.
    pub(crate) fn create_generation(&self, index: usize) -> Result<Active> {
        let mut publish = self.publish.lock();
        let generation = publish.next_generation;
        let shard = u32::try_from(index).expect("there are at most 64 shards");
        let wal = wal::create(&self.wal, generation, shard, self.source.schema())?;
        // Only now is the number used up: had `create` failed, the next attempt would replace what it left.
        publish.next_generation += 1;
        publish.wals.insert(generation, LiveWal::Open(Arc::clone(wal.syncer())));
        let memtable = Arc::new(self.memtable_of(generation, &wal));
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

    /// The memtable of a log. Where nothing is ever synced, rows count as on disk when they are in the log.
    pub(crate) fn memtable_of(&self, generation: u64, wal: &FrameFile) -> Memtable {
        let shape = self.source.schema().shape();
        match self.options.sync {
            Sync::Os => Memtable::new(generation, shape),
            Sync::Always | Sync::Every { .. } => {
                Memtable::of_log(generation, shape, wal.syncer().synced_below())
            }
        }
    }

    /// Writes into the manifest where this run's sequences begin, and that the table is being written: once, before the
    /// first byte of it is. Whoever writes to a log calls it under the lock that closing takes: a shard's, or `publish`.
    pub(crate) fn begin_writing(&self) -> Result<()> {
        if self.is_writing.load(Ordering::Acquire) {
            return Ok(());
        }
        self.begin_writing_under(&mut self.publish.lock())
    }

    /// As [`begin_writing`](Self::begin_writing), for who holds `publish`.
    pub(crate) fn begin_writing_under(&self, publish: &mut Publish) -> Result<()> {
        if self.is_writing.load(Ordering::Acquire) {
            return Ok(());
        }
        // A shard's next log may only follow a closed one.
        self.close_found_logs(publish)?;
        let version = Version::clone(&self.source.version());
        self.commit_version(publish, version, Vec::new())?;
        // Only now is a copy consistent in itself, as an original must be.
        let mut lock = self.lock.lock();
        if lock.is_copy() {
            self.wal.directory.adopt(&mut lock)?;
        }
        self.is_writing.store(true, Ordering::Release);
        Ok(())
    }

    /// Closes the logs that the open found and had no room to close.
    pub(crate) fn close_found_logs(&self, publish: &mut Publish) -> Result<()> {
        while let Some(active) = publish.unclosed.last_mut() {
            active.wal.seal(self.source.sequences().next())?;
            active.memtable.set_wal_bytes(active.wal.end());
            publish.unclosed.pop();
        }
        Ok(())
    }

    /// Makes `version` the truth: replaces the manifest by one that lists its segments and the WALs of its memtables, then
    /// shows it to readers. What it no longer needs is `replaced` and goes when its grace is over, what is due by now at
    /// once. On an error nothing has changed, or writing has stopped.
    pub(crate) fn commit_version(
        &self,
        publish: &mut Publish,
        version: Version,
        replaced: Vec<Replaced>,
    ) -> Result<()> {
        let live: Vec<u64> = version.memtables.iter().map(|entry| entry.memtable.generation()).collect();
        if let Some(log) = publish.tombstones.as_mut().filter(|_| !publish.tombstones_apart.is_empty()) {
            log.append(&publish.tombstones_apart)?;
            publish.tombstones_apart.clear();
        }
        let replaced_before = publish.unlink.len();
        publish.unlink.extend(replaced);
        let manifest = self.manifest_of(publish, &version, |generation| live.contains(&generation));
        let room = match publish.manifest.replace(&manifest) {
            Ok(room) => room,
            Err(error) => {
                publish.unlink.truncate(replaced_before);
                return Err(error);
            }
        };
        self.wal.syncs.fetch_add(2, Ordering::Relaxed);
        self.must_close.store(true, Ordering::Release);
        publish.wals.retain(|generation, _| live.contains(generation));
        publish.unclosed.retain(|active| live.contains(&active.memtable.generation()));
        self.source.show(version);
        match room {
            Room::Left => self.unlink_due(publish),
            Room::Full => self.free_replaced(publish),
        };
        Ok(())
    }

    /// The manifest of a version that is being written.
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
            next_sequence: self.source.sequences().next(),
            next_generation: publish.next_generation,
            next_segment: publish.next_segment,
            closed: false,
            tombstone_log: publish.tombstones.as_ref().map_or(0, TombstoneLog::number),
            tombstone_bytes: publish.tombstones.as_ref().map_or(0, TombstoneLog::synced_bytes),
            segments: version.segments.iter().map(listed).collect(),
            wals: wals
                .map(|(generation, wal)| ListedWal {
                    generation: *generation,
                    synced_bytes: wal.synced_bytes(),
                })
                .collect(),
            replaced: publish.unlink.listed(),
            dropped: version.dropped.to_vec(),
        }
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
