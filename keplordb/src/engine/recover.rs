//! Open: find out what is there, and only when all of it makes sense change anything.
//!
//! *Looking* reads the manifest, every header and every WAL, and fails on the first thing that is wrong; a failed open has
//! changed no byte but the lock's. *Mending* then cuts torn tails, syncs what it is about to show, removes leftovers and
//! writes the manifest where it was missing, the schema has grown, or the directory is a copy, which is an original from
//! then on. A crash while mending leaves what looking accepts.
//!
//! A full disk keeps nobody from his events: what mending has no room to write waits until something else is to be written.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Core;
use super::delete::bury_in_memtable;
use super::look::{Found, Segments, look};
use super::publish::{LiveWal, Publish};
use super::quarantine::{set_damage_aside, set_orphans_aside};
use super::report::OpenReport;
use super::shard::{Active, Shard};
use super::unlink::{Replaced, UnlinkList, path_of};
use crate::config::{EngineConfig, OnCorruption, Options};
use crate::error::{DbError, IoContext, Result};
use crate::read::source::Source;
use crate::schema::TableSchema;
use crate::state::memtable::Memtable;
use crate::state::sequences::Sequences;
use crate::state::version::{MemtableEntry, Version};
use crate::storage::directory::Directory;
use crate::storage::manifest::ManifestFile;
use crate::storage::map_cache::MapCache;
use crate::storage::tombstones::{FoundTombstones, TombstoneLog};
use crate::storage::wal::{self, FoundWal, WalContext};
use keplordb_log::syncer::Reach;

impl Core {
    /// Opens or makes the table in `config.data_dir`.
    pub(crate) fn open(config: EngineConfig, options: Options, schema: TableSchema) -> Result<Arc<Self>> {
        schema.validate()?;
        check_rollup_dims(&config, &schema)?;
        Self::open_as(config, options, Some(schema))
    }

    /// Opens the table in `config.data_dir` with the columns that it has. What is stored beside them, the bloom filter and
    /// the rollups, goes on as in the newest segment; where there is none, as `config` says.
    pub(crate) fn open_stored(config: EngineConfig, options: Options) -> Result<Arc<Self>> {
        let directory = Directory::new(Arc::clone(&options.disk), config.data_dir.clone());
        // Before the lock, so that looking for a table in the wrong place leaves nothing there.
        if !directory.holds_table()? {
            return Err(DbError::Missing { file: directory.manifest() });
        }
        Self::open_as(config, options, None)
    }

    /// `wanted`: the program's columns; without them the stored ones.
    fn open_as(mut config: EngineConfig, options: Options, wanted: Option<TableSchema>) -> Result<Arc<Self>> {
        config.validate()?;
        options.validate()?;
        let directory = Directory::new(Arc::clone(&options.disk), config.data_dir.clone());
        directory.create_root()?;
        let lock = directory.lock()?;
        let cache = Arc::new(MapCache::new(config.mmap_cache_capacity));
        let files = Segments { directory: &directory, cache: &cache, mode: options.map_mode };
        let quarantined = match options.on_corruption {
            OnCorruption::Fail => Vec::new(),
            OnCorruption::Quarantine => set_damage_aside(&files, lock.is_copy(), wanted.as_ref())?,
        };
        let listing = directory.list()?;
        let is_new = listing.is_new();
        let found = match &wanted {
            Some(schema) if is_new => Found::nothing(&directory, schema.clone(), listing)?,
            None if is_new => return Err(DbError::Missing { file: directory.manifest() }),
            _ => look(&files, &listing, lock.is_copy())?,
        };
        let stored = &found.manifest.schema;
        let schema = if let Some(schema) = wanted {
            if let Some(differences) = schema.differences_from(stored) {
                return Err(DbError::SchemaMismatch { dir: config.data_dir, differences });
            }
            schema.adopt_names(stored)
        } else {
            found.lay_out_as_stored(&mut config);
            check_rollup_dims(&config, stored)?;
            stored.clone()
        };
        schema.validate()?;

        let wal = WalContext { directory, syncs: Arc::default() };
        let report = OpenReport {
            created: is_new,
            is_copy: found.is_copy,
            replayed_rows: found.wals.iter().map(FoundWal::rows).sum(),
            torn_tails: found.torn_tails(&wal.directory),
            missing_logs: found.missing_logs.clone(),
            leftovers_removed: 0,
            quarantined,
            manifest_rebuilt: found.rebuilt.clone(),
        };
        let publish = Publish {
            next_generation: found.next_generation(),
            next_segment: found.next_segment(),
            wals: BTreeMap::new(),
            manifest: ManifestFile::new(wal.directory.clone()),
            tombstones: None,
            next_tombstones: found.next_tombstones(),
            tombstones_apart: Vec::new(),
            unclosed: Vec::new(),
            unlink: UnlinkList::default(),
            claimed: BTreeSet::new(),
        };
        let mut core = Self {
            shards: (0..config.wal_shard_count).map(|_| Shard::default()).collect(),
            source: Source::new(
                schema,
                config.rollup_dims.clone(),
                options.pool.clone(),
                Sequences::new(found.next_sequence(is_new), config.wal_shard_count),
            ),
            config,
            options,
            wal,
            segments: cache,
            report,
            rotation: Mutex::new(()),
            compaction: Mutex::new(()),
            publish: Mutex::new(publish),
            tombstones: AtomicU64::new(0),
            last_error: Mutex::new(None),
            is_writing: AtomicBool::new(false),
            must_close: AtomicBool::new(false),
            lock: Mutex::new(lock),
        };
        core.mend(found, is_new)?;
        Ok(Arc::new(core))
    }

    /// Makes what was found fit to be written on, and shows it.
    fn mend(&mut self, found: Found, is_new: bool) -> Result<()> {
        let directory = self.wal.directory.clone();
        directory.create_folders()?;
        if !is_new && (!found.manifest.closed || found.is_copy) {
            // A killed process may have renamed a file and not synced its name; from here on rows rely on it. The root's names
            // were synced with the folders.
            for dir in [directory.wal_dir(), directory.segment_dir()] {
                directory.disk().sync_dir(&dir).at("sync", &dir)?;
            }
        }
        // Before any manifest is written that would say of their numbers that it knows them.
        self.report.quarantined.extend(set_orphans_aside(&directory, &found.orphans, found.is_copy)?);
        let leftovers = self.keep_replaced(&found);
        self.remove_leftovers(&leftovers)?;
        let mut version = Version::new(found.segments, Vec::new());
        version.dropped = found.manifest.dropped.into();
        let newest_of_shard: BTreeMap<u32, u64> =
            found.wals.iter().map(|wal| (wal.header.shard, wal.header.generation)).collect();
        for wal in found.wals {
            let is_newest = newest_of_shard.get(&wal.header.shard) == Some(&wal.header.generation);
            version.memtables.push(self.adopt(wal, is_newest)?);
        }
        for tombstones in &found.tombstones {
            version.memtables.iter_mut().for_each(|entry| bury_in_memtable(entry, &tombstones.tombstones));
        }
        self.publish.get_mut().tombstones = self.adopt_tombstones(&found.tombstones)?;
        if found.is_copy {
            make_copy_durable(&directory, &version, found.rebuilt.is_none())?;
        }
        self.source.show(version);
        if is_new
            || found.is_copy
            || found.rebuilt.is_some()
            || found.manifest.schema != *self.source.schema()
        {
            let written = self.begin_writing();
            match written {
                Err(full @ DbError::Full { .. }) if !is_new => {
                    self.note(
                        "the manifest could not be written and is tried again before anything else is",
                        full,
                    );
                }
                written => written?,
            }
        }
        // Only now: a close after a failed open would write down what was not yet found.
        if !found.manifest.closed || self.source.version().memtables.iter().any(|entry| entry.sealed) {
            self.must_close.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Replaced files that an earlier run has left stay for their grace, which begins anew: a copy of the directory may be
    /// under way. Returns the other leftovers.
    fn keep_replaced(&mut self, found: &Found) -> Vec<PathBuf> {
        let mut leftovers = found.leftovers.clone();
        if found.is_copy || self.options.unlink_grace.is_zero() {
            return leftovers;
        }
        let directory = &self.wal.directory;
        let mut kept = Vec::new();
        for listed in &found.manifest.replaced {
            let path = path_of(directory, listed.file);
            let Some(place) = leftovers.iter().position(|leftover| *leftover == path) else { continue };
            // One that cannot be opened serves no copy either.
            if let Ok(replaced) = Replaced::found(*listed, |number| self.open_segment(number)) {
                kept.push(replaced);
                leftovers.swap_remove(place);
            }
        }
        self.publish.get_mut().unlink.extend(kept);
        leftovers
    }

    /// Removes them durably, logs before segments: without a manifest a segment says which logs count no more.
    fn remove_leftovers(&mut self, leftovers: &[PathBuf]) -> Result<()> {
        let directory = self.wal.directory.clone();
        for dir in [directory.wal_dir(), directory.segment_dir(), directory.root().to_owned()] {
            let of_dir = leftovers.iter().filter(|leftover| leftover.parent() == Some(&dir));
            let removed = of_dir.filter(|leftover| directory.remove_leftover(leftover)).count();
            if removed > 0 {
                directory.disk().sync_dir(&dir).at("sync", &dir)?;
                self.report.leftovers_removed += removed as u64;
            }
        }
        Ok(())
    }

    /// Takes the last tombstone log over, and into it what only others have: a purge that a crash cut short leaves two.
    fn adopt_tombstones(&mut self, found: &[FoundTombstones]) -> Result<Option<TombstoneLog>> {
        let Some((last, others)) = found.split_last() else { return Ok(None) };
        let mut log = TombstoneLog::resume(&self.wal, last)?;
        let known: HashSet<_> = last.tombstones.iter().collect();
        let lacking: BTreeSet<_> = others.iter().flat_map(|found| &found.tombstones).collect();
        let lacking: Vec<_> = lacking.into_iter().filter(|row| !known.contains(row)).copied().collect();
        if !lacking.is_empty() {
            match log.append(&lacking) {
                // All of them are heeded now, and brought together before the next manifest is written.
                Err(full @ DbError::Full { .. }) => {
                    self.note("tombstones could not be brought together", full);
                    self.publish.get_mut().tombstones_apart = lacking;
                    return Ok(Some(log));
                }
                appended => appended?,
            }
        }
        self.tombstones.store(log.rows(), Ordering::Relaxed);
        for other in others {
            self.wal.directory.remove_leftover(&self.wal.directory.tombstones(other.number));
        }
        Ok(Some(log))
    }

    /// Takes a WAL over: a shard's newest one goes on taking rows where it can, every other one is closed.
    fn adopt(&mut self, mut found: FoundWal, is_newest: bool) -> Result<MemtableEntry> {
        found.repair(&self.wal.directory)?;
        let (generation, shape) = (found.header.generation, self.source.schema().shape());
        let end = found.end.at();
        let reach = Reach { bytes: end, below: found.next_sequence };
        let is_open = !found.is_closed();
        let wal =
            is_open.then(|| wal::resume(&self.wal, generation, found.header.salt, reach)).transpose()?;
        let memtable = Arc::new(match &wal {
            Some(wal) => self.memtable_of(generation, wal),
            None => Memtable::new(generation, shape),
        });
        memtable.set_wal_bytes(end);
        for block in std::mem::take(&mut found.blocks) {
            memtable.add(block);
        }
        let mut entry = MemtableEntry { memtable: Arc::clone(&memtable), sealed: true, deleted: None };
        let publish = self.publish.get_mut();
        let Some(wal) = wal else {
            publish.wals.insert(generation, LiveWal::Found { synced_bytes: end });
            return Ok(entry);
        };
        publish.wals.insert(generation, LiveWal::Open(Arc::clone(wal.syncer())));
        let active = Active { wal, memtable };
        let shard = self.shards.get_mut(found.header.shard as usize);
        if let Some(shard) = shard.filter(|_| is_newest && found.header.schema == *self.source.schema()) {
            entry.sealed = false;
            shard.state.get_mut().active = Some(active);
            return Ok(entry);
        }
        // Of a shard that there is no more, or with fewer columns than the table has now.
        publish.unclosed.push(active);
        match self.close_found_logs(&mut self.publish.lock()) {
            Err(full @ DbError::Full { .. }) => {
                self.note("a log could not be closed and is tried again before anything is appended", full);
            }
            closed => closed?,
        }
        Ok(entry)
    }
}

/// Syncs what of a copy was not written anew: whoever copied it need not have done so.
fn make_copy_durable(directory: &Directory, version: &Version, has_manifest: bool) -> Result<()> {
    let disk = directory.disk();
    let segments = version.segments.iter().map(|entry| entry.segment.path().to_owned());
    for path in segments.chain(has_manifest.then(|| directory.manifest())) {
        disk.open_read(&path).and_then(|file| file.sync()).at("sync", &path)?;
    }
    Ok(())
}

fn check_rollup_dims(config: &EngineConfig, schema: &TableSchema) -> Result<()> {
    let dims = schema.shape().dims;
    match config.rollup_dims.iter().find(|dim| **dim >= dims) {
        Some(dim) => Err(DbError::invalid("rollup_dims", format!("dim {dim} of a table with {dims}"))),
        None => Ok(()),
    }
}
