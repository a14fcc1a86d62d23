//! Follow: the table of a directory that an engine writes meanwhile, in this process or another one. Takes no lock, writes
//! nothing, and reads only what is new.
//!
//! **One pass** reads the manifest, opens what it names, reads the tombstones and the logs on from where they were, and
//! then reads the manifest again. While the manifest stays the same, no row moves from a log to a segment and no file that
//! counts goes; so a pass between two equal manifests has found each row once. Otherwise there is another pass, from
//! what is known by then: the writer has published meanwhile, which takes it longer than a pass takes. Two manifests of
//! different moments are never equal, because their next numbers or the files they list differ.
//!
//! **Order.** What is shown of an event comes with all that had been done when its append began.
//! - *Within a shard*: which logs there are is settled before any of them is read. A shard begins a log when the one before
//!   is closed; so all of a shard's logs but its last are then complete.
//! - *Between shards*: the logs are read one after the other, and while one is read an event may come to one that was read
//!   before, and be followed by another in one that is read after. So all are read twice, the second time up to the
//!   highest sequence that the first time found: what was done before that sequence was given is in a file by then.
//! - *Deletes* are read before the logs and looked at again behind them. If some came meanwhile, there is another pass.
//!   A writer that deletes without pause is not waited for more than [`ORDERED_PASSES`] times: then appends that came
//!   during the call may be seen without deletes that were made before them.
//!
//! **Damage.** A page that was read before the writer had written it looks like damage if what follows was read after. So a
//! bad frame below a watermark is read again a few times before it is believed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keplordb_disk::Disk;
use parking_lot::Mutex;

use super::delete::{bury_in_memtable, bury_in_segment};
use crate::config::{EngineConfig, MapMode, Options};
use crate::error::{DbError, IoContext, Result};
use crate::format::block::Block;
use crate::format::manifest::Manifest;
use crate::format::tombstones::{self, Tombstone};
use crate::format::wal::WalHeader;
use crate::read::source::Source;
use crate::schema::TableSchema;
use crate::state::memtable::Memtable;
use crate::state::sequences::Sequences;
use crate::state::version::{MemtableEntry, SegmentEntry, Version};
use crate::storage::directory::Directory;
use crate::storage::follow::{Continuity, FollowedLog};
use crate::storage::manifest;
use crate::storage::map_cache::MapCache;
use crate::storage::segment_reader::Segment;

/// Passes after which deletes that come meanwhile are no longer waited for.
const ORDERED_PASSES: u32 = 16;
/// How often something that looks damaged is read again, and how long to wait before: a writer writes a page in
/// microseconds, unless it has to wait for a processor.
const DAMAGED_PASSES: u32 = 6;
const DAMAGE_WAIT: Duration = Duration::from_millis(2);
/// Rows and bytes up to which blocks are merged.
const MERGED_ROWS: usize = 4096;
const MERGED_BYTES: usize = 1 << 20;

/// What [`refresh`](crate::Reader::refresh) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refreshed {
    /// Live rows that queries see from now on.
    pub events: u64,
    /// Whether they see anything else than before: rows, deletes, or the same rows in other files.
    pub changed: bool,
}

/// A table that somebody else writes.
#[derive(Debug)]
pub(crate) struct Follower {
    source: Source,
    directory: Directory,
    cache: Arc<MapCache>,
    map_mode: MapMode,
    /// Held during a refresh. Queries do not need it.
    known: Mutex<Known>,
}

/// What was read of the directory so far. Each part is whole for itself at any time, also after an error; together they
/// are shown when a pass has come to its end.
#[derive(Debug, Default)]
struct Known {
    /// Of which every file is open.
    manifest: Option<Manifest>,
    segments: BTreeMap<u64, SegmentEntry>,
    logs: BTreeMap<u64, Log>,
    tombstones: Option<Tombstones>,
    /// Whether any of this differs from what is shown.
    changed: bool,
}

/// The log of a generation and the rows in it.
#[derive(Debug)]
struct Log {
    file: FollowedLog,
    header: WalHeader,
    /// Shared with queries.
    blocks: Vec<Arc<Block>>,
    /// What came since and no query has seen.
    fresh: Vec<Block>,
    entry: MemtableEntry,
}

/// The tombstone log and all that is in it.
#[derive(Debug)]
struct Tombstones {
    file: FollowedLog,
    /// Times by sequence.
    rows: BTreeMap<u64, i64>,
    /// Those not yet buried in all segments and logs that were open when they came.
    unburied: Vec<Tombstone>,
}

impl Follower {
    /// Reads the table in `config.data_dir` for a caller that knows the columns `schema`.
    pub(crate) fn open(config: EngineConfig, options: Options, schema: TableSchema) -> Result<Self> {
        config.validate_for(&schema)?;
        options.validate()?;
        let follower = Self {
            source: Source::new(schema, config.rollup_dims, options.pool, Sequences::new(0, 0)),
            directory: Directory::new(options.disk, config.data_dir),
            cache: Arc::new(MapCache::new(config.mmap_cache_capacity)),
            map_mode: options.map_mode,
            known: Mutex::default(),
        };
        follower.refresh()?;
        Ok(follower)
    }

    /// Reads the table in `config.data_dir` with the columns that it has now.
    pub(crate) fn open_stored(config: EngineConfig, options: Options) -> Result<Self> {
        let directory = Directory::new(Arc::clone(&options.disk), config.data_dir.clone());
        let schema = manifest::load(&directory)?.schema;
        Self::open(config, options, schema)
    }

    /// What queries are put to.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Shows everything that was written before the call. On an error queries go on seeing what they saw.
    pub(crate) fn refresh(&self) -> Result<Refreshed> {
        let known = &mut *self.known.lock();
        let (mut unordered, mut damaged) = (0, 0);
        let mut manifest = manifest::load(&self.directory)?;
        loop {
            let pass = self.adopt(known, &manifest).and_then(|()| self.read_on(known, &manifest));
            let now = manifest::load(&self.directory)?;
            if now != manifest {
                // What was read may lack rows, and what failed may have been a file that is gone for good reason.
                manifest = now;
                continue;
            }
            match pass {
                Ok(is_ordered) if is_ordered || unordered == ORDERED_PASSES => break,
                Ok(_) => unordered += 1,
                Err(DbError::Corrupt { .. } | DbError::Truncated { .. }) if damaged < DAMAGED_PASSES => {
                    damaged += 1;
                    std::thread::sleep(DAMAGE_WAIT);
                }
                Err(error) => return Err(error),
            }
        }
        let changed = std::mem::take(&mut known.changed);
        if changed {
            let version = known.version();
            // Numbers whose rows are deleted, dropped or were never written count too: cursors of the writer may hold them.
            let below = version.numbers_below().max(manifest.next_sequence);
            self.source.show(version);
            self.source.sequences().shown_below(below);
        }
        Ok(Refreshed { events: self.source.version().live_rows(), changed })
    }

    /// Opens what a manifest names and closes what it no longer does.
    fn adopt(&self, known: &mut Known, manifest: &Manifest) -> Result<()> {
        if known.manifest.as_ref() == Some(manifest) {
            return Ok(());
        }
        if let Some(differences) = self.source.schema().differences_for_reading(&manifest.schema) {
            let dir = self.directory.root().to_owned();
            return Err(DbError::SchemaMismatch { dir, differences });
        }
        // Numbers are never given again; if they went back, the directory was made anew or restored from a copy.
        if known.manifest.as_ref().is_some_and(|known| manifest.is_older_than(known)) {
            *known = Known::default();
        }
        known.changed = true;
        let is_listed = |number: u64| manifest.segments.iter().any(|listed| listed.number == number);
        known.segments.retain(|number, _| is_listed(*number));
        known.logs.retain(|generation, _| manifest.may_have_wal(*generation));
        for listed in &manifest.segments {
            if known.segments.contains_key(&listed.number) {
                continue;
            }
            let segment = Segment::open(&self.directory, listed.number, &self.cache, self.map_mode)?;
            let file_bytes = segment.header().file_bytes;
            if file_bytes != listed.file_bytes {
                let what = format!("the manifest lists {} bytes, the header {file_bytes}", listed.file_bytes);
                return Err(DbError::corrupt(segment.path(), 0, what));
            }
            let mut entry = SegmentEntry { segment, deleted: None };
            if let Some(tombstones) = &known.tombstones {
                let facts = &entry.segment.header().facts;
                let deleted = tombstones.between(facts.sequence_min, facts.sequence_max);
                bury_in_segment(&mut entry, &deleted)?;
            }
            known.segments.insert(listed.number, entry);
        }
        known.manifest = Some(manifest.clone());
        Ok(())
    }

    /// Reads what came to the logs; `false` when a delete came meanwhile.
    fn read_on(&self, known: &mut Known, manifest: &Manifest) -> Result<bool> {
        self.read_tombstones(known, manifest)?;
        self.read_logs(known, manifest, u64::MAX)?;
        if known.changed {
            self.read_logs(known, manifest, known.newest_sequence())?;
        }
        match &known.tombstones {
            Some(tombstones) => tombstones.file.has_more(self.directory.disk().as_ref()).map(|more| !more),
            // The first one comes with a manifest.
            None => Ok(true),
        }
    }

    /// Reads the logs up to a sequence.
    fn read_logs(&self, known: &mut Known, manifest: &Manifest, last: u64) -> Result<()> {
        for (generation, synced_bytes) in self.generations(known, manifest)? {
            self.read_log(known, generation, synced_bytes, last)?;
        }
        known.check_order()
    }

    /// The generations that count, ascending, and how much of each is known to have been synced.
    ///
    /// Those younger than the manifest are made in the order of their numbers, and go only when a manifest has said so.
    fn generations(&self, known: &Known, manifest: &Manifest) -> Result<Vec<(u64, u64)>> {
        let mut found: Vec<_> =
            manifest.wals.iter().map(|listed| (listed.generation, listed.synced_bytes)).collect();
        let disk = self.directory.disk();
        for generation in manifest.next_generation.. {
            let path = self.directory.wal(generation);
            let is_there =
                known.logs.contains_key(&generation) || disk.bytes(&path).at("measure", &path)?.is_some();
            if !is_there {
                break;
            }
            if !known.segments.values().any(|entry| entry.segment.header().generations.contains(&generation))
            {
                found.push((generation, 0));
            }
        }
        Ok(found)
    }

    /// The tombstone log that counts, and how much of it is known to have been synced.
    fn tombstone_log(&self, manifest: &Manifest) -> Option<(PathBuf, u64)> {
        let number = manifest.tombstone_log;
        (number != 0).then(|| (self.directory.tombstones(number), manifest.tombstone_bytes))
    }

    fn read_tombstones(&self, known: &mut Known, manifest: &Manifest) -> Result<()> {
        let Some((path, synced_bytes)) = self.tombstone_log(manifest) else {
            known.forget_tombstones();
            return Ok(());
        };
        let disk = self.directory.disk().as_ref();
        let continuity = match &mut known.tombstones {
            Some(tombstones) if tombstones.file.path() == path => tombstones.advance(disk, synced_bytes)?,
            _ => Continuity::Broken,
        };
        if continuity == Continuity::Broken {
            known.forget_tombstones();
            let tombstones = known.tombstones.insert(Tombstones::open(disk, path)?);
            if tombstones.advance(disk, synced_bytes)? == Continuity::Broken {
                return Err(unsteady(&tombstones.file));
            }
        }
        known.bury()
    }

    fn read_log(&self, known: &mut Known, generation: u64, synced_bytes: u64, last: u64) -> Result<()> {
        let disk = self.directory.disk().as_ref();
        let open = || Log::open(disk, self.directory.wal(generation), generation);
        let log = match known.logs.entry(generation) {
            Entry::Occupied(log) => log.into_mut(),
            Entry::Vacant(place) => place.insert(open()?),
        };
        let mut advanced = log.advance(disk, synced_bytes, last);
        if matches!(advanced, Ok(Continuity::Broken)) {
            *log = open()?;
            known.changed = true;
            advanced = match log.advance(disk, synced_bytes, last) {
                Ok(Continuity::Broken) => Err(unsteady(&log.file)),
                advanced => advanced,
            };
        }
        // Also after an error: the frames before it were taken, and will not come again.
        if let Some(first) = log.show() {
            if let Some(tombstones) = &known.tombstones {
                bury_in_memtable(&mut log.entry, &tombstones.between(first, u64::MAX));
            }
            known.changed = true;
        }
        advanced.map(drop)
    }
}

impl Known {
    /// Marks the rows of new tombstones as deleted.
    fn bury(&mut self) -> Result<()> {
        let Some(tombstones) = self.tombstones.as_mut().filter(|known| !known.unburied.is_empty()) else {
            return Ok(());
        };
        for entry in self.segments.values_mut() {
            bury_in_segment(entry, &tombstones.unburied)?;
        }
        for log in self.logs.values_mut() {
            bury_in_memtable(&mut log.entry, &tombstones.unburied);
        }
        tombstones.unburied = Vec::new();
        self.changed = true;
        Ok(())
    }

    /// Takes back every delete: another log counts now, which says anew what is deleted.
    fn forget_tombstones(&mut self) {
        if self.tombstones.take().is_some() {
            self.segments.values_mut().for_each(|entry| entry.deleted = None);
            self.logs.values_mut().for_each(|log| log.entry.deleted = None);
            self.changed = true;
        }
    }

    /// A shard begins a log only when the one before is closed, so one that has lost its end was damaged.
    fn check_order(&self) -> Result<()> {
        let mut newest = BTreeMap::new();
        for (generation, log) in self.logs.iter().rev() {
            let later: &mut Option<u64> = newest.entry(log.header.shard).or_default();
            if let Some(later) = later
                && !log.file.is_closed()
            {
                let what = format!("its closing frame is gone, although generation {later} followed");
                return Err(DbError::corrupt(log.file.path(), log.file.end(), what));
            }
            if log.entry.memtable.rows() > 0 {
                *later = Some(*generation);
            }
        }
        Ok(())
    }

    /// The highest sequence of a row that is in a log; 0 without rows.
    fn newest_sequence(&self) -> u64 {
        let last = |log: &Log| log.blocks.last()?.sequence().last().copied();
        self.logs.values().filter_map(last).max().unwrap_or(0)
    }

    fn version(&self) -> Version {
        let with_rows = self.logs.values().filter(|log| log.entry.memtable.rows() > 0);
        let memtables = with_rows.map(|log| log.entry.clone()).collect();
        let mut version = Version::new(self.segments.values().cloned().collect(), memtables);
        version.dropped =
            self.manifest.iter().flat_map(|manifest| manifest.dropped.iter().copied()).collect();
        version
    }
}

impl Log {
    fn open(disk: &dyn Disk, path: PathBuf, generation: u64) -> Result<Self> {
        let decode = |bytes: &[u8]| {
            WalHeader::decode(bytes).map(|(header, end)| {
                let salt = header.salt;
                (header, salt, end)
            })
        };
        let (file, header) = FollowedLog::open(disk, path, decode)?;
        if header.generation != generation {
            let what =
                format!("the file's name says generation {generation}, its header {}", header.generation);
            return Err(DbError::corrupt(file.path(), 0, what));
        }
        let memtable = Arc::new(Memtable::new(generation, header.schema.shape()));
        let entry = MemtableEntry { memtable, sealed: false, deleted: None };
        Ok(Self { file, header, blocks: Vec::new(), fresh: Vec::new(), entry })
    }

    fn advance(&mut self, disk: &dyn Disk, synced_bytes: u64, last: u64) -> Result<Continuity> {
        let (shape, fresh) = (self.header.schema.shape(), &mut self.fresh);
        self.file.advance(disk, synced_bytes, last, &mut |frame| {
            let block = Block::decode(frame.payload, shape, frame.rows, frame.first)?;
            match fresh.last_mut().filter(|last| may_merge(last, &block)) {
                Some(last) => last.extend(&block),
                None => fresh.push(block),
            }
            Ok(())
        })
    }

    /// Puts what came where queries find it, and says with which sequence it begins.
    ///
    /// Blocks that queries have are never changed; a new one takes smaller ones up, so that few are left and each row is
    /// copied a few times at most.
    fn show(&mut self) -> Option<u64> {
        let first = self.fresh.first()?.sequence().first().copied();
        for mut block in self.fresh.drain(..) {
            while let Some(last) =
                self.blocks.pop_if(|last| last.rows() <= block.rows() && may_merge(last, &block))
            {
                let mut merged = Block::new(block.shape());
                merged.extend(&last);
                merged.extend(&block);
                block = merged;
            }
            self.blocks.push(Arc::new(block));
        }
        let (generation, shape) = (self.header.generation, self.header.schema.shape());
        let memtable = Memtable::of_blocks(generation, shape, self.blocks.clone(), self.file.end());
        self.entry.memtable = Arc::new(memtable);
        first
    }
}

impl Tombstones {
    fn open(disk: &dyn Disk, path: PathBuf) -> Result<Self> {
        let decode = |bytes: &[u8]| tombstones::decode_header(bytes).map(|(salt, end)| ((), salt, end));
        let (file, ()) = FollowedLog::open(disk, path, decode)?;
        Ok(Self { file, rows: BTreeMap::new(), unburied: Vec::new() })
    }

    fn advance(&mut self, disk: &dyn Disk, synced_bytes: u64) -> Result<Continuity> {
        let Self { file, rows, unburied } = self;
        let continuity = file.advance(disk, synced_bytes, u64::MAX, &mut |frame| {
            let before = unburied.len();
            tombstones::decode(frame.payload, frame.rows, unburied)?;
            let fresh = unburied.iter().skip(before);
            rows.extend(fresh.map(|tombstone| (tombstone.sequence, tombstone.ts_ns)));
            Ok(())
        })?;
        if file.is_closed() {
            return Err(DbError::corrupt(file.path(), file.end(), "a tombstone log has no closing frame"));
        }
        Ok(continuity)
    }

    /// Those of rows with these sequences, both ends included.
    fn between(&self, first: u64, last: u64) -> Vec<Tombstone> {
        let rows = self.rows.range(first..=last.max(first));
        rows.map(|(sequence, ts_ns)| Tombstone { ts_ns: *ts_ns, sequence: *sequence }).collect()
    }
}

fn may_merge(first: &Block, second: &Block) -> bool {
    first.rows() + second.rows() <= MERGED_ROWS
        && first.memory_bytes() + second.memory_bytes() <= MERGED_BYTES
}

/// Opened, and broken again before it was read.
fn unsteady(file: &FollowedLog) -> DbError {
    DbError::corrupt(file.path(), file.end(), "what was read is gone again each time")
}
