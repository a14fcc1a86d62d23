//! Looking: reads everything, changes nothing, and says of what the table consists, or the first thing that is wrong.
//!
//! In an *original* everything that the manifest lists must be there and whole. A *copy* may have been taken file by file
//! while an engine wrote: what it holds is of different moments, each later than its beginning. There a file that was
//! made after its directory was listed is missing, and a log has holes where the copy came by before the bytes did. What
//! was synced before the copy began lies before all that, so it is found: in the files that a missing one replaced, and in
//! the logs up to their first hole. Whatever is missing or cut is reported.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::delete::{FIRST_TOMBSTONE_LOG, bury_in_segment};
use super::orphan::{AboveAside, Orphans};
use super::rebuild::rebuild;
use super::report::TornTail;
use crate::config::{EngineConfig, MapMode};
use crate::error::{DbError, Result};
use crate::format::manifest::{Manifest, OldFile};
use crate::schema::TableSchema;
use crate::state::sequences::RUN_GAP;
use crate::state::version::SegmentEntry;
use crate::storage::directory::{Directory, Listing};
use crate::storage::manifest;
use crate::storage::map_cache::MapCache;
use crate::storage::segment_reader::Segment;
use crate::storage::tombstones::{self, FoundTombstones};
use crate::storage::wal::{self, FoundWal, Known};
use keplordb_log::planted::{self, Bug};

/// The first sequence ever.
pub(super) const FIRST_SEQUENCE: u64 = 1;

/// All that looking found.
pub(super) struct Found {
    pub(super) manifest: Manifest,
    pub(super) rebuilt: Option<String>,
    pub(super) is_copy: bool,
    /// With their deleted rows.
    pub(super) segments: Vec<SegmentEntry>,
    /// Ascending by generation.
    pub(super) wals: Vec<FoundWal>,
    /// Of a copy: logs that were made after the copy had listed their directory.
    pub(super) missing_logs: Vec<PathBuf>,
    /// Ascending by number. The last one goes on; others are found only where the manifest is rebuilt.
    pub(super) tombstones: Vec<FoundTombstones>,
    pub(super) leftovers: Vec<PathBuf>,
    /// What is no leftover, though the manifest does not list it.
    pub(super) orphans: Orphans,
    pub(super) above_aside: AboveAside,
}

/// Whether a directory is the one that was written, or a copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Original,
    /// Taken after a clean close had written the manifest: what that lists is all there. What came later is as in a live copy.
    ClosedCopy,
    /// Taken at any time.
    LiveCopy,
}

impl Origin {
    /// What is known of a log that the manifest lists with so many bytes.
    fn known(self, listed_bytes: u64) -> Known {
        match self {
            Self::Original => Known::Original { synced_bytes: listed_bytes },
            Self::ClosedCopy => Known::Copied { whole_bytes: listed_bytes, listed_bytes },
            Self::LiveCopy => Known::Copied { whole_bytes: 0, listed_bytes },
        }
    }
}

/// Which files make up the table.
#[derive(Default)]
struct Parts {
    /// Number, and length where the manifest says it.
    segments: Vec<(u64, Option<u64>)>,
    wals: Vec<(u64, Known)>,
    /// Generations of a copy that are listed and not there, ascending.
    missing_wals: Vec<u64>,
    missing_logs: Vec<PathBuf>,
    tombstones: Vec<(u64, Known)>,
}

/// How to open segments.
pub(super) struct Segments<'a> {
    pub(super) directory: &'a Directory,
    pub(super) cache: &'a Arc<MapCache>,
    pub(super) mode: MapMode,
}

impl Segments<'_> {
    pub(super) fn open(&self, number: u64) -> Result<Arc<Segment>> {
        Segment::open(self.directory, number, self.cache, self.mode)
    }
}

/// Reads everything and changes nothing.
pub(super) fn look(files: &Segments<'_>, listing: &Listing, is_copy: bool) -> Result<Found> {
    let directory = files.directory;
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
            let origin = if is_copy { Origin::LiveCopy } else { Origin::Original };
            (rebuild(files, listing, origin.known(0))?, Some(error.to_string()))
        }
        Err(error) => return Err(error),
    };
    let origin = match (is_copy, manifest.closed) {
        (false, _) => Origin::Original,
        (true, true) => Origin::ClosedCopy,
        (true, false) => Origin::LiveCopy,
    };
    let mut parts = parts_of(&manifest, listing, origin, directory)?;
    check_missing(&parts, listing, directory)?;
    if rebuilt.is_some() {
        // Which one counted is unknown; a tombstone that was purged says nothing and harms nothing.
        parts.tombstones = listing.tombstones.iter().map(|number| (*number, origin.known(0))).collect();
    }

    let mut segments = Vec::with_capacity(parts.segments.len());
    for (number, listed_bytes) in &parts.segments {
        let segment = files.open(*number)?;
        let file_bytes = segment.header().file_bytes;
        if let Some(listed_bytes) = listed_bytes.filter(|listed| *listed != file_bytes) {
            let what = format!("the manifest lists {listed_bytes} bytes, the header {file_bytes}");
            return Err(DbError::corrupt(segment.path(), 0, what));
        }
        segments.push(SegmentEntry { segment, deleted: None });
    }
    let absorbed: HashSet<u64> =
        segments.iter().flat_map(|entry| entry.segment.header().generations.iter().copied()).collect();
    parts
        .wals
        .retain(|(generation, _)| *generation < manifest.next_generation || !absorbed.contains(generation));

    if planted::is(Bug::OldGenerationIgnored) {
        parts.wals.drain(..parts.wals.len().saturating_sub(1));
    }
    let disk = directory.disk().as_ref();
    let mut wals = Vec::with_capacity(parts.wals.len());
    for (generation, known) in &parts.wals {
        wals.push(wal::find(disk, &directory.wal(*generation), *generation, *known)?);
    }
    check_order(&mut wals, origin)?;
    let mut tombstones = Vec::new();
    for (number, known) in &parts.tombstones {
        tombstones.push(tombstones::find(disk, &directory.tombstones(*number), *number, *known)?);
    }
    // Here and not while mending, for it reads sections of segments, which may be damaged.
    for found in &tombstones {
        for entry in &mut segments {
            bury_in_segment(entry, &found.tombstones)?;
        }
    }
    // A manifest made of all segments knows them all.
    let orphans = match rebuilt {
        None => Orphans::find(directory, listing, &manifest).all_read()?,
        Some(_) => Orphans::default(),
    };
    let kept = orphans.files(directory);
    let mut leftovers = parts.leftovers(listing, directory);
    leftovers.retain(|leftover| !kept.iter().any(|(path, _)| path == leftover));
    let above_aside = AboveAside::find(directory, &orphans)?;
    Ok(Found {
        manifest,
        rebuilt,
        is_copy,
        segments,
        wals,
        missing_logs: parts.missing_logs,
        tombstones,
        leftovers,
        orphans,
        above_aside,
    })
}

/// Which files make up the table, by the manifest and by what is there.
fn parts_of(manifest: &Manifest, listing: &Listing, origin: Origin, directory: &Directory) -> Result<Parts> {
    let may_lack = origin == Origin::LiveCopy;
    let mut parts = Parts::default();
    let listed = manifest.segments.iter().map(|listed| (listed.number, Some(listed.file_bytes)));
    let mut wanted: Vec<_> = listed.collect();
    let mut seen = BTreeSet::new();
    while let Some((number, file_bytes)) = wanted.pop() {
        if !seen.insert(number) {
            continue;
        }
        // One that is missing where it may not be fails when it is opened.
        if listing.has_segment(number) || !may_lack {
            parts.segments.push((number, file_bytes));
            continue;
        }
        // Made after its directory was listed, so what it replaced was there then; or this copy lacks more than it may.
        let replaced = manifest.replaced.iter().filter(|replaced| replaced.by == Some(number));
        let before = wanted.len() + parts.wals.len();
        for replaced in replaced {
            match replaced.file {
                OldFile::Segment(source) => wanted.push((source, None)),
                OldFile::Wal(generation) => parts.wals.push((generation, origin.known(0))),
                // Their `by` is a number of another kind.
                OldFile::Tombstones(_) => {}
            }
        }
        if wanted.len() + parts.wals.len() == before {
            return Err(DbError::Missing { file: directory.segment(number) });
        }
    }
    parts.segments.sort_unstable();

    parts.wals.extend(manifest.wals.iter().map(|wal| (wal.generation, origin.known(wal.synced_bytes))));
    let is_listed = |generation: u64| manifest.wals.iter().any(|wal| wal.generation == generation);
    let younger = listing.wals.iter().filter(|(generation, _)| {
        *generation >= manifest.next_generation || planted::is(Bug::ReplayedTwice) && !is_listed(*generation)
    });
    parts.wals.extend(younger.map(|(generation, _)| (*generation, origin.known(0))));
    parts.wals.sort_by_key(|(generation, _)| *generation);
    if may_lack {
        // What such a log held was written after the copy had begun.
        let (there, missing) =
            parts.wals.into_iter().partition(|(generation, _)| listing.has_wal(*generation));
        parts.wals = there;
        parts.missing_wals = missing.into_iter().map(|(generation, _): (u64, Known)| generation).collect();
        parts.missing_logs = parts.missing_wals.iter().map(|generation| directory.wal(*generation)).collect();
    }

    let (mut log, mut bytes) = (manifest.tombstone_log, manifest.tombstone_bytes);
    while log != 0 && may_lack && !listing.tombstones.contains(&log) {
        // As with segments: the one that it replaced has all that was deleted before the copy began.
        let before = manifest.replaced.iter().find_map(|replaced| match replaced.file {
            OldFile::Tombstones(number) if replaced.by == Some(log) && number < log => Some(number),
            _ => None,
        });
        let missing = directory.tombstones(log);
        (log, bytes) = match before {
            Some(before) => (before, 0),
            // Before the first there was none: nothing was deleted when the copy began. Its number is above those that are set aside.
            None if log == FIRST_TOMBSTONE_LOG.max(AboveAside::of_quarantine(directory)?.tombstones) => {
                parts.missing_logs.push(missing);
                (0, 0)
            }
            None => return Err(DbError::Missing { file: missing }),
        };
    }
    if log != 0 {
        parts.tombstones.push((log, origin.known(bytes)));
    }
    Ok(parts)
}

/// A log that a copy lacks was made after `wal/` was listed, unless a younger one is there: generations are made one after the
/// other. Then it was unlinked before the copy came to it, which took longer than the grace and lacks events.
fn check_missing(parts: &Parts, listing: &Listing, directory: &Directory) -> Result<()> {
    let newest = listing.wals.last().map_or(0, |(generation, _)| *generation);
    match parts.missing_wals.first() {
        Some(oldest) if *oldest < newest => Err(DbError::Missing { file: directory.wal(*oldest) }),
        _ => Ok(()),
    }
}

/// A shard begins a generation only when the one before is closed and synced; so an older one that has lost its end was
/// damaged, however well the rest of it reads; or it was copied before the younger one was made.
fn check_order(wals: &mut [FoundWal], origin: Origin) -> Result<()> {
    for place in 0..wals.len() {
        let (earlier, later) = wals.split_at_mut(place + 1);
        let Some(wal) = earlier.last_mut().filter(|wal| !wal.is_closed()) else { continue };
        let followed = later.iter().find(|later| later.header.shard == wal.header.shard && later.rows() > 0);
        let Some(later) = followed else { continue };
        if origin == Origin::Original {
            let generation = later.header.generation;
            let what = format!("its closing frame is gone, although generation {generation} followed");
            return Err(DbError::corrupt(&wal.path, wal.end.at(), what));
        }
        wal.lost_bytes.get_or_insert(0);
    }
    Ok(())
}

impl Parts {
    /// What is there and belongs to nothing.
    fn leftovers(&self, listing: &Listing, directory: &Directory) -> Vec<PathBuf> {
        let mut leftovers = listing.temporary.clone();
        if listing.incomplete {
            leftovers.push(directory.incomplete());
        }
        let is_segment = |number: &u64| self.segments.binary_search_by_key(number, |part| part.0).is_ok();
        let segments = listing.segments.iter().filter(|(number, _)| !is_segment(number));
        leftovers.extend(segments.map(|(number, _)| directory.segment(*number)));
        let is_wal = |generation: &u64| self.wals.binary_search_by_key(generation, |part| part.0).is_ok();
        let wals = listing.wals.iter().filter(|(generation, _)| !is_wal(generation));
        leftovers.extend(wals.map(|(generation, _)| directory.wal(*generation)));
        let is_log = |number: u64| self.tombstones.iter().any(|(counted, _)| *counted == number);
        let logs = listing.tombstones.iter().filter(|number| !is_log(**number));
        leftovers.extend(logs.map(|number| directory.tombstones(*number)));
        leftovers
    }
}

impl Found {
    /// A directory in which nothing was ever stored.
    pub(super) fn nothing(directory: &Directory, schema: TableSchema, listing: Listing) -> Result<Self> {
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
            dropped: Vec::new(),
        };
        Ok(Self {
            manifest,
            rebuilt: None,
            is_copy: false,
            segments: Vec::new(),
            wals: Vec::new(),
            missing_logs: Vec::new(),
            tombstones: Vec::new(),
            leftovers: listing.temporary,
            orphans: Orphans::default(),
            above_aside: AboveAside::of_quarantine(directory)?,
        })
    }

    /// Segments go on as the newest one is made.
    pub(super) fn lay_out_as_stored(&self, config: &mut EngineConfig) {
        if let Some(newest) = self.segments.iter().max_by_key(|entry| entry.segment.number()) {
            let header = newest.segment.header();
            config.bloom_dim = header.bloom_dim.unwrap_or(EngineConfig::NO_BLOOM);
            config.rollup_dims.clone_from(&header.rollup_dims);
        }
    }

    pub(super) fn next_sequence(&self, is_new: bool) -> u64 {
        let segments = self.segments.iter().map(|entry| entry.segment.header().facts.sequence_max + 1);
        let wals = self.wals.iter().map(|wal| wal.next_sequence);
        let deleted = self.tombstones.iter().flat_map(|found| &found.tombstones).map(|row| row.sequence + 1);
        let next = segments
            .chain(wals)
            .chain(deleted)
            .fold(self.manifest.next_sequence, u64::max)
            .max(self.above_aside.sequence);
        if is_new { next } else { next + RUN_GAP }
    }

    pub(super) fn next_generation(&self) -> u64 {
        let wals = self.wals.iter().map(|wal| wal.header.generation + 1);
        wals.fold(self.manifest.next_generation, u64::max).max(self.above_aside.generation)
    }

    pub(super) fn next_segment(&self) -> u64 {
        let segments = self.segments.iter().map(|entry| entry.segment.number() + 1);
        segments.fold(self.manifest.next_segment, u64::max).max(self.above_aside.segment)
    }

    pub(super) fn next_tombstones(&self) -> u64 {
        let last = self.tombstones.iter().map(|log| log.number).fold(self.manifest.tombstone_log, u64::max);
        FIRST_TOMBSTONE_LOG.max(last + 1).max(self.above_aside.tombstones)
    }

    /// The ends of logs that a crash had torn, or that a copy does not have.
    pub(super) fn torn_tails(&self, directory: &Directory) -> Vec<TornTail> {
        let wals = self.wals.iter().filter_map(|wal| {
            let bytes = wal.lost_bytes?;
            Some(TornTail { file: wal.path.clone(), offset: wal.end.at(), bytes })
        });
        let logs = self.tombstones.iter().filter_map(|log| {
            let bytes = log.lost_bytes?;
            Some(TornTail { file: directory.tombstones(log.number), offset: log.end(), bytes })
        });
        wals.chain(logs).collect()
    }
}
