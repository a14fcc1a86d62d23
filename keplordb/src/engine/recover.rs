//! Open: find out what is there, and only when all of it makes sense change anything.
//!
//! *Looking* reads the manifest, every header and every WAL, and fails on the first thing that is wrong; a failed open has
//! changed no byte but the lock's. *Mending* then cuts torn tails, syncs what it is about to show, removes leftovers and
//! writes the manifest where it was missing or the schema has grown. A crash while mending leaves what looking accepts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keplordb_log::frame::End;
use parking_lot::Mutex;

use super::Core;
use super::delete::{bury_in_memtable, bury_in_segment};
use super::publish::{LiveWal, Publish};
use super::report::{OpenReport, TornTail};
use super::shard::{Active, Shard};
use super::unlink::UnlinkList;
use crate::config::{EngineConfig, Options};
use crate::error::{DbError, Result};
use crate::format::manifest::{ListedSegment, ListedWal, Manifest};
use crate::read::source::Source;
use crate::schema::TableSchema;
use crate::state::memtable::Memtable;
use crate::state::version::{MemtableEntry, SegmentEntry, Version};
use crate::storage::directory::{Directory, Listing};
use crate::storage::manifest::{self, ManifestFile};
use crate::storage::map_cache::MapCache;
use crate::storage::segment_reader::Segment;
use crate::storage::tombstones::{self, FoundTombstones, TombstoneLog};
use crate::storage::wal::{self, FoundWal, Wal, WalContext};

/// The first sequence ever.
const FIRST_SEQUENCE: u64 = 1;
/// What each run of an engine skips, so that no number that was lost with an unsynced tail is given again: a run would have
/// to lose more appends than this. The first append of a run writes its start into the manifest, or a run that lost all
/// its appends would leave no trace of the numbers they had.
const SEQUENCE_GAP: u64 = 1 << 32;

/// All that looking found.
struct Found {
    manifest: Manifest,
    rebuilt: Option<String>,
    /// With their deleted rows.
    segments: Vec<SegmentEntry>,
    /// Ascending by generation.
    wals: Vec<FoundWal>,
    /// Ascending by number. The last one goes on; others are found only where the manifest is rebuilt.
    tombstones: Vec<FoundTombstones>,
    leftovers: Vec<PathBuf>,
}

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
        let listing = directory.list()?;
        let is_new = listing.is_new();
        let found = match &wanted {
            Some(schema) if is_new => Found::nothing(schema.clone(), listing),
            None if is_new => return Err(DbError::Missing { file: directory.manifest() }),
            _ => look(&directory, &listing, &cache, &options)?,
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
            replayed_rows: found.wals.iter().map(FoundWal::rows).sum(),
            torn_tails: found.torn_tails(&wal.directory),
            leftovers_removed: 0,
            manifest_rebuilt: found.rebuilt.clone(),
        };
        let publish = Publish {
            next_generation: found.next_generation(),
            next_segment: found.next_segment(),
            wals: BTreeMap::new(),
            manifest: ManifestFile::new(wal.directory.clone()),
            tombstones: None,
            unlink: UnlinkList::default(),
            claimed: BTreeSet::new(),
        };
        let mut core = Self {
            shards: (0..config.wal_shard_count).map(|_| Shard::default()).collect(),
            source: Source::new(schema, config.rollup_dims.clone(), options.pool.clone()),
            config,
            options,
            wal,
            segments: cache,
            report,
            next_sequence: AtomicU64::new(found.next_sequence(is_new)),
            rotation: Mutex::new(()),
            publish: Mutex::new(publish),
            last_error: Mutex::new(None),
            is_writing: AtomicBool::new(false),
            must_close: AtomicBool::new(false),
            _lock: lock,
        };
        core.mend(found, is_new)?;
        Ok(Arc::new(core))
    }

    /// Makes what was found fit to be written on, and shows it.
    fn mend(&mut self, found: Found, is_new: bool) -> Result<()> {
        let directory = self.wal.directory.clone();
        directory.create_folders()?;
        for leftover in &found.leftovers {
            self.report.leftovers_removed += u64::from(directory.remove_leftover(leftover));
        }
        let mut version = Version { segments: found.segments, memtables: Vec::new() };
        let newest_of_shard: BTreeMap<u32, u64> =
            found.wals.iter().map(|wal| (wal.header.shard, wal.header.generation)).collect();
        for wal in found.wals {
            let is_newest = newest_of_shard.get(&wal.header.shard) == Some(&wal.header.generation);
            let entry = self.adopt(wal, is_newest)?;
            version.memtables.extend(entry);
        }
        for tombstones in &found.tombstones {
            version.memtables.iter_mut().for_each(|entry| bury_in_memtable(entry, &tombstones.tombstones));
        }
        self.publish.get_mut().tombstones = self.adopt_tombstones(&found.tombstones)?;
        self.source.show(version);
        if is_new || found.rebuilt.is_some() || found.manifest.schema != *self.source.schema() {
            let mut publish = self.publish.lock();
            let version = Version::clone(&self.source.version());
            self.commit_version(&mut publish, version, Vec::new())?;
        }
        // Only now: a close after a failed open would write down what was not yet found.
        if !found.manifest.closed || self.source.version().memtables.iter().any(|entry| entry.sealed) {
            self.must_close.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Takes the last tombstone log over, and into it what only others have: a purge that a crash cut short leaves two.
    fn adopt_tombstones(&self, found: &[FoundTombstones]) -> Result<Option<TombstoneLog>> {
        let Some((last, others)) = found.split_last() else { return Ok(None) };
        let mut log = TombstoneLog::resume(&self.wal, last)?;
        let known: HashSet<_> = last.tombstones.iter().collect();
        let lacking: BTreeSet<_> = others.iter().flat_map(|found| &found.tombstones).collect();
        let lacking: Vec<_> = lacking.into_iter().filter(|row| !known.contains(row)).copied().collect();
        if !lacking.is_empty() {
            log.append(&lacking)?;
        }
        for other in others {
            self.wal.directory.remove_leftover(&self.wal.directory.tombstones(other.number));
        }
        Ok(Some(log))
    }

    /// Takes a WAL over: a shard's newest one goes on taking rows where it can, every other one is sealed.
    fn adopt(&mut self, mut found: FoundWal, is_newest: bool) -> Result<Option<MemtableEntry>> {
        found.repair(&self.wal.directory)?;
        let generation = found.header.generation;
        let end = found.end.at();
        let memtable = Arc::new(Memtable::new(generation, self.source.schema().shape()));
        memtable.set_wal_bytes(end);
        for block in std::mem::take(&mut found.blocks) {
            memtable.add(block);
        }

        let live = if found.is_closed() {
            LiveWal::Found { synced_bytes: end }
        } else {
            let mut wal = Wal::resume(&self.wal, generation, found.header.salt, end)?;
            let live = LiveWal::Open(Arc::clone(wal.syncer()));
            let shard = self.shards.get_mut(found.header.shard as usize);
            match shard.filter(|_| is_newest && found.header.schema == *self.source.schema()) {
                Some(shard) => {
                    shard.state.get_mut().active = Some(Active { wal, memtable: Arc::clone(&memtable) });
                    self.publish.get_mut().wals.insert(generation, live);
                    return Ok(Some(MemtableEntry { memtable, sealed: false, deleted: None }));
                }
                // Of a shard that there is no more, or with fewer columns than the table has now.
                None => wal.seal(self.next_sequence.load(Ordering::Relaxed))?,
            }
            live
        };
        self.publish.get_mut().wals.insert(generation, live);
        Ok(Some(MemtableEntry { memtable, sealed: true, deleted: None }))
    }
}

impl Found {
    /// A directory in which nothing was ever stored.
    fn nothing(schema: TableSchema, listing: Listing) -> Self {
        let manifest = Manifest {
            schema,
            next_sequence: FIRST_SEQUENCE,
            next_generation: 1,
            next_segment: 1,
            closed: false,
            tombstone_log: 0,
            tombstone_bytes: 0,
            segments: Vec::new(),
            wals: Vec::new(),
            replaced: Vec::new(),
        };
        Self {
            manifest,
            rebuilt: None,
            segments: Vec::new(),
            wals: Vec::new(),
            tombstones: Vec::new(),
            leftovers: listing.temporary,
        }
    }

    /// Segments go on as the newest one is made.
    fn lay_out_as_stored(&self, config: &mut EngineConfig) {
        if let Some(newest) = self.segments.iter().max_by_key(|entry| entry.segment.number()) {
            let header = newest.segment.header();
            config.bloom_dim = header.bloom_dim.unwrap_or(EngineConfig::NO_BLOOM);
            config.rollup_dims.clone_from(&header.rollup_dims);
        }
    }

    fn next_sequence(&self, is_new: bool) -> u64 {
        let segments = self.segments.iter().map(|entry| entry.segment.header().facts.sequence_max + 1);
        let wals = self.wals.iter().map(|wal| wal.next_sequence);
        let deleted = self.tombstones.iter().flat_map(|found| &found.tombstones).map(|row| row.sequence + 1);
        let next = segments.chain(wals).chain(deleted).fold(self.manifest.next_sequence, u64::max);
        if is_new { next } else { next + SEQUENCE_GAP }
    }

    fn next_generation(&self) -> u64 {
        let wals = self.wals.iter().map(|wal| wal.header.generation + 1);
        wals.fold(self.manifest.next_generation, u64::max)
    }

    fn next_segment(&self) -> u64 {
        let segments = self.segments.iter().map(|entry| entry.segment.number() + 1);
        segments.fold(self.manifest.next_segment, u64::max)
    }

    fn torn_tails(&self, directory: &Directory) -> Vec<TornTail> {
        let torn = |wal: &FoundWal| match wal.end {
            End::Torn { at, bytes } => Some(TornTail { file: wal.path.clone(), offset: at, bytes }),
            _ => None,
        };
        let mut tails: Vec<_> = self.wals.iter().filter_map(torn).collect();
        for found in self.tombstones.iter().filter(|found| found.torn_bytes > 0) {
            let (offset, bytes) = (found.end(), found.torn_bytes);
            tails.push(TornTail { file: directory.tombstones(found.number), offset, bytes });
        }
        tails
    }
}

fn check_rollup_dims(config: &EngineConfig, schema: &TableSchema) -> Result<()> {
    let dims = schema.shape().dims;
    match config.rollup_dims.iter().find(|dim| **dim >= dims) {
        Some(dim) => Err(DbError::invalid("rollup_dims", format!("dim {dim} of a table with {dims}"))),
        None => Ok(()),
    }
}

/// Reads everything and changes nothing.
fn look(directory: &Directory, listing: &Listing, cache: &Arc<MapCache>, options: &Options) -> Result<Found> {
    let open = |number: u64| Segment::open(directory, number, cache, options.map_mode);
    let loaded = match (listing.manifest, listing.incomplete) {
        (true, _) => manifest::load(directory),
        (false, false) => Err(DbError::Missing { file: directory.manifest() }),
        (false, true) => {
            let what =
                "a checkpoint into this directory was cut short; remove the directory and make it again";
            return Err(DbError::corrupt(&directory.incomplete(), 0, what));
        }
    };
    let (manifest, rebuilt) = match loaded {
        Ok(manifest) => (manifest, None),
        Err(error @ (DbError::Missing { .. } | DbError::Corrupt { .. })) => {
            (rebuild(directory, listing, &open)?, Some(error.to_string()))
        }
        Err(error) => return Err(error),
    };
    let mut leftovers = listing.temporary.clone();
    if listing.incomplete {
        leftovers.push(directory.incomplete());
    }

    let mut segments = Vec::with_capacity(manifest.segments.len());
    for listed in &manifest.segments {
        let segment = open(listed.number)?;
        if segment.header().file_bytes != listed.file_bytes {
            let what = format!(
                "the manifest lists {} bytes, the header {}",
                listed.file_bytes,
                segment.header().file_bytes
            );
            return Err(DbError::corrupt(segment.path(), 0, what));
        }
        segments.push(SegmentEntry { segment, deleted: None });
    }
    let is_listed = |number: u64| manifest.segments.iter().any(|listed| listed.number == number);
    let unlisted = listing.segments.iter().filter(|(number, _)| !is_listed(*number));
    leftovers.extend(unlisted.map(|(number, _)| directory.segment(*number)));

    let mut wals = Vec::new();
    for listed in &manifest.wals {
        wals.push((listed.generation, listed.synced_bytes));
    }
    for (generation, _) in &listing.wals {
        if *generation >= manifest.next_generation {
            wals.push((*generation, 0));
        } else if !manifest.wals.iter().any(|listed| listed.generation == *generation) {
            leftovers.push(directory.wal(*generation));
        }
    }
    let disk = directory.disk().as_ref();
    let mut found = Vec::with_capacity(wals.len());
    for (generation, synced_bytes) in wals {
        found.push(wal::find(disk, &directory.wal(generation), generation, synced_bytes)?);
    }
    check_order(&found)?;

    let mut tombstones = Vec::new();
    if rebuilt.is_some() {
        // Which one counted is unknown; a tombstone that was purged says nothing and harms nothing.
        for number in &listing.tombstones {
            tombstones.push(tombstones::find(directory, *number, 0)?);
        }
    } else {
        if manifest.tombstone_log != 0 {
            tombstones.push(tombstones::find(directory, manifest.tombstone_log, manifest.tombstone_bytes)?);
        }
        let others = listing.tombstones.iter().filter(|number| **number != manifest.tombstone_log);
        leftovers.extend(others.map(|number| directory.tombstones(*number)));
    }
    // Here and not while mending, for it reads sections of segments, which may be damaged.
    for found in &tombstones {
        for entry in &mut segments {
            bury_in_segment(entry, &found.tombstones)?;
        }
    }
    Ok(Found { manifest, rebuilt, segments, wals: found, tombstones, leftovers })
}

/// A shard begins a generation only when the one before is closed and synced; so an older one that has lost its end was
/// damaged, however well the rest of it reads.
fn check_order(wals: &[FoundWal]) -> Result<()> {
    for (place, wal) in wals.iter().enumerate() {
        let followed = wals
            .iter()
            .skip(place + 1)
            .find(|later| later.header.shard == wal.header.shard && later.rows() > 0);
        if let Some(later) = followed.filter(|_| !wal.is_closed()) {
            let what = format!(
                "its closing frame is gone, although generation {} followed",
                later.header.generation
            );
            return Err(DbError::corrupt(&wal.path, wal.end.at(), what));
        }
    }
    Ok(())
}

/// The manifest that the other files imply: every segment that no other one supersedes, every WAL that no segment absorbed.
fn rebuild(
    directory: &Directory,
    listing: &Listing,
    open: &impl Fn(u64) -> Result<Arc<Segment>>,
) -> Result<Manifest> {
    let mut segments = Vec::new();
    for (number, _) in &listing.segments {
        segments.push(open(*number)?);
    }
    let superseded: Vec<u64> =
        segments.iter().flat_map(|segment| segment.header().supersedes.clone()).collect();
    let absorbed: Vec<u64> =
        segments.iter().flat_map(|segment| segment.header().generations.clone()).collect();
    segments.retain(|segment| !superseded.contains(&segment.number()));
    let generations = listing.wals.iter().map(|(generation, _)| *generation);
    let wals: Vec<u64> = generations.filter(|generation| !absorbed.contains(generation)).collect();

    let mut schemas: Vec<TableSchema> =
        segments.iter().map(|segment| segment.header().schema.clone()).collect();
    for generation in &wals {
        schemas.push(
            wal::find(directory.disk().as_ref(), &directory.wal(*generation), *generation, 0)?.header.schema,
        );
    }
    // Schemas only grow, so the one with most columns is the last.
    let width = |schema: &TableSchema| {
        let shape = schema.shape();
        (shape.dims + shape.counters + shape.labels, schema.is_named())
    };
    let schema = schemas
        .into_iter()
        .max_by_key(width)
        .ok_or_else(|| DbError::Missing { file: directory.manifest() })?;
    let last_generation =
        absorbed.iter().copied().chain(listing.wals.iter().map(|(generation, _)| *generation)).max();
    let last_segment =
        superseded.iter().copied().chain(listing.segments.iter().map(|(number, _)| *number)).max();
    Ok(Manifest {
        schema,
        next_sequence: FIRST_SEQUENCE,
        next_generation: last_generation.map_or(1, |last| last + 1),
        next_segment: last_segment.map_or(1, |last| last + 1),
        closed: false,
        tombstone_log: 0,
        tombstone_bytes: 0,
        replaced: Vec::new(),
        segments: segments
            .iter()
            .map(|segment| ListedSegment {
                number: segment.number(),
                file_bytes: segment.header().file_bytes,
            })
            .collect(),
        wals: wals.into_iter().map(|generation| ListedWal { generation, synced_bytes: 0 }).collect(),
    })
}
