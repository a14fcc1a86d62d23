//! Quarantine: damaged files are set aside, so that the rest can be opened; nothing is deleted.
//!
//! Before the open looks at a directory as always, every checksum of its segments is read, and then *looking* itself is tried until
//! it finds nothing wrong: each file that it names is moved to `quarantine/`, or, a log, kept there whole while what can
//! still be read of it goes on under its name. The manifest follows each time. So whatever looking refuses is dealt with,
//! and what it accepts is opened as always.
//!
//! **A crash** leaves a directory whose manifest still lists what was set aside: an open with `Fail` says that a file is missing
//! or too short, one with `Quarantine` goes on.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::look::{Segments, look};
use super::orphan::{BEHIND_COPY, FORGOTTEN, Orphans, SET_ASIDE, UNREADABLE};
use crate::error::{DbError, IoContext, Result};
use crate::format::manifest::{ListedSegment, ListedWal, Manifest, OldFile};
use crate::format::segment::SegmentHeader;
use crate::schema::TableSchema;
use crate::storage::directory::{Directory, Kind, Listing};
use crate::storage::manifest::{self, ManifestFile};
use crate::storage::salvage::{Salvaged, salvage_tombstones, salvage_wal};
use crate::storage::segment_reader::{read_header, section_crc};

/// Times that one file is dealt with: a log is first replaced by what can be read of it, and then moved away.
const ATTEMPTS: u32 = 2;

/// A file that an open with [`OnCorruption::Quarantine`](crate::OnCorruption::Quarantine) found damaged or missing; or one that
/// any open found and the manifest is too old to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// The file, by the name that it had.
    pub file: PathBuf,
    /// Where it is now, whole as it was found; `None` if it was missing.
    pub moved_to: Option<PathBuf>,
    /// What was wrong with it, and what became of it.
    pub what: String,
    /// How many rows were lost with it at most, deleted ones included, where that is known. Deletes are no rows.
    pub rows_lost: Option<u64>,
    /// Between which times, in nanoseconds, the lost rows have theirs, where that is known.
    pub ts_ns: Option<RangeInclusive<i64>>,
    /// Between which sequences the lost rows have theirs, where that is known.
    pub sequences: Option<RangeInclusive<u64>>,
}

/// Sets aside whatever keeps the directory from being opened, and says what that was. A table whose columns are not the
/// `wanted` ones is left alone.
///
/// # Errors
/// What no setting aside can help: a newer format, a failing disk, a checkpoint that was cut short.
pub(super) fn set_damage_aside(
    files: &Segments<'_>,
    is_copy: bool,
    wanted: Option<&TableSchema>,
) -> Result<Vec<Quarantined>> {
    let mut ward = Ward::new(files.directory);
    loop {
        let listing = files.directory.list()?;
        let is_another = |stored: &Manifest| {
            wanted.is_some_and(|wanted| wanted.differences_from(&stored.schema).is_some())
        };
        if listing.is_new() || manifest::load(files.directory).is_ok_and(|stored| is_another(&stored)) {
            return Ok(ward.quarantined);
        }
        if ward.damaged_manifest(&listing)?
            || ward.orphans(&listing, is_copy)?
            || ward.damaged_segments(&listing)?
        {
            continue;
        }
        match look(files, &listing, is_copy) {
            Ok(_) => return Ok(ward.quarantined),
            Err(error) => ward.deal_with(&listing, error)?,
        }
    }
}

/// Sets aside what the manifest does not know and is no leftover, in an open of any kind: it is not damaged, but must not be lost.
pub(super) fn set_orphans_aside(
    directory: &Directory,
    orphans: &Orphans,
    is_copy: bool,
) -> Result<Vec<Quarantined>> {
    let mut ward = Ward::new(directory);
    ward.move_orphans(orphans, is_copy)?;
    Ok(ward.quarantined)
}

/// What was set aside so far.
struct Ward<'a> {
    directory: &'a Directory,
    /// Segments that have all their checksums.
    sound: HashSet<u64>,
    /// How often each file was dealt with.
    attempts: BTreeMap<PathBuf, u32>,
    quarantined: Vec<Quarantined>,
}

/// What was lost with a file.
#[derive(Default)]
struct Loss {
    rows: Option<u64>,
    ts_ns: Option<RangeInclusive<i64>>,
    sequences: Option<RangeInclusive<u64>>,
}

impl<'a> Ward<'a> {
    fn new(directory: &'a Directory) -> Self {
        Self { directory, sound: HashSet::new(), attempts: BTreeMap::new(), quarantined: Vec::new() }
    }

    /// Moves a manifest away that cannot be read: it is derived from the other files then, as a missing one is.
    fn damaged_manifest(&mut self, listing: &Listing) -> Result<bool> {
        if !listing.manifest {
            return Ok(false);
        }
        match manifest::load(self.directory) {
            Err(error @ DbError::Corrupt { .. }) => {
                let path = self.directory.manifest();
                let what = format!("{}; it is derived from the other files", what_of(&error));
                self.move_away(&path, what, Loss { rows: Some(0), ..Loss::default() })?;
                Ok(true)
            }
            loaded => loaded.map(|_| false),
        }
    }

    /// Moves orphans away, before the manifest is made to forget what is missing, by which they are told.
    fn orphans(&mut self, listing: &Listing, is_copy: bool) -> Result<bool> {
        let Some(manifest) = self.stored(listing)? else { return Ok(false) };
        let orphans = Orphans::find(self.directory, listing, &manifest).all_read()?;
        self.move_orphans(&orphans, is_copy)?;
        Ok(!orphans.is_empty())
    }

    fn move_orphans(&mut self, orphans: &Orphans, is_copy: bool) -> Result<()> {
        // The logs first: without a segment beside them they are leftovers. And a segment before the orphans that it was made of.
        for number in &orphans.tombstones {
            let path = self.directory.tombstones(*number);
            let what = if is_copy { BEHIND_COPY } else { FORGOTTEN };
            self.move_away(&path, what.to_owned(), Loss { rows: Some(0), ..Loss::default() })?;
        }
        for (number, header) in orphans.segments.iter().rev() {
            let path = self.directory.segment(*number);
            let (what, loss) = match header {
                // Its rows are none of the copy's.
                Some(_) if is_copy => (BEHIND_COPY, Loss { rows: Some(0), ..Loss::default() }),
                Some(header) => (SET_ASIDE, loss_of(header)),
                None => (UNREADABLE, Loss::default()),
            };
            self.move_away(&path, what.to_owned(), loss)?;
        }
        Ok(())
    }

    /// Moves away every segment of the table that lacks a checksum.
    fn damaged_segments(&mut self, listing: &Listing) -> Result<bool> {
        let stored = if listing.manifest { Some(manifest::load(self.directory)?) } else { None };
        let numbers: Vec<u64> = match &stored {
            Some(manifest) => manifest.segments.iter().map(|listed| listed.number).collect(),
            None => listing.segments.iter().map(|(number, _)| *number).collect(),
        };
        let mut is_any = false;
        for number in numbers {
            if !listing.has_segment(number) || self.sound.contains(&number) {
                continue;
            }
            match self.damage_of(number)? {
                None => {
                    self.sound.insert(number);
                }
                Some(what) => {
                    self.lose_segment(listing, number, what)?;
                    is_any = true;
                }
            }
        }
        Ok(is_any)
    }

    /// What is wrong with a segment by its checksums.
    fn damage_of(&self, number: u64) -> Result<Option<String>> {
        let (disk, path) = (self.directory.disk().as_ref(), self.directory.segment(number));
        let header = match read_header(disk, &path) {
            Ok(header) => header,
            Err(error @ (DbError::Corrupt { .. } | DbError::Truncated { .. })) => {
                return Ok(Some(what_of(&error)));
            }
            Err(error) => return Err(error),
        };
        let file = disk.open_read(&path).at("open", &path)?;
        for section in &header.sections {
            match section_crc(file.as_ref(), section.offset, section.bytes) {
                Ok(Some(crc)) if crc == section.crc => {}
                Ok(_) => return Ok(Some(section.wrong_checksum())),
                Err(error) if is_bad_sector(&error) => {
                    return Ok(Some(format!("the section {} cannot be read: {error}", section.name())));
                }
                Err(error) => return Err(DbError::io("read", &path, error)),
            }
        }
        Ok(None)
    }

    /// Does what can be done about what looking found; hands the error back where that is nothing.
    fn deal_with(&mut self, listing: &Listing, error: DbError) -> Result<()> {
        let (DbError::Corrupt { file, .. } | DbError::Truncated { file, .. } | DbError::Missing { file }) =
            &error
        else {
            return Err(error);
        };
        let file = file.clone();
        let attempts = self.attempts.entry(file.clone()).or_insert(0);
        *attempts += 1;
        if *attempts > ATTEMPTS {
            return Err(error);
        }
        let (is_first, is_missing) = (*attempts == 1, matches!(error, DbError::Missing { .. }));
        let what = what_of(&error);
        match self.directory.kind_of(&file) {
            Some(Kind::Segment(number)) => self.lose_segment(listing, number, what),
            Some(Kind::Wal(generation)) => self.lose_wal(generation, what, is_first && !is_missing),
            Some(Kind::Tombstones(number)) => {
                self.lose_tombstones(listing, number, &what, is_first && !is_missing)
            }
            // Tombstones alone are no table, and no other file says what the columns were.
            Some(Kind::Manifest) if is_missing && listing.wals.is_empty() && listing.segments.is_empty() => {
                for number in &listing.tombstones {
                    let path = self.directory.tombstones(*number);
                    let what = "no file with rows is left".to_owned();
                    self.move_away(&path, what, Loss { rows: Some(0), ..Loss::default() })?;
                }
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Moves a segment away, if it is there, and takes the files that it replaced, as far as these are still there.
    fn lose_segment(&mut self, listing: &Listing, number: u64, what: String) -> Result<()> {
        let path = self.directory.segment(number);
        let header = read_header(self.directory.disk().as_ref(), &path).ok();
        let mut loss = header.as_ref().map(loss_of).unwrap_or_default();
        let mut taken = Vec::new();
        let edited = self.edited_manifest(listing, |manifest| {
            manifest.segments.retain(|listed| listed.number != number);
            taken = take_replaced(manifest, listing, number);
        })?;
        let what = if taken.is_empty() {
            what
        } else {
            loss.rows = None;
            format!(
                "{what}; files that it had replaced are still there and are used again: {}",
                taken.join(", ")
            )
        };
        self.set_aside(listing.has_segment(number), &path, what, loss)?;
        self.replace_manifest(edited)
    }

    /// Keeps a damaged WAL whole and puts what can be read of it in its place; or, where that is nothing, does without it.
    fn lose_wal(&mut self, generation: u64, what: String, may_salvage: bool) -> Result<()> {
        let path = self.directory.wal(generation);
        let listing = self.directory.list()?;
        let bytes = if may_salvage { self.read(&path)? } else { None };
        let synced_bytes = self.stored(&listing)?.map_or(0, |manifest| {
            let listed = manifest.wals.iter().find(|listed| listed.generation == generation);
            listed.map_or(0, |listed| listed.synced_bytes)
        });
        let salvaged = bytes.as_ref().and_then(|bytes| salvage_wal(bytes, generation, synced_bytes));
        let salvaged = salvaged.filter(|salvaged| salvaged.rows_kept > 0);
        let edited = self.edited_manifest(&listing, |manifest| match &salvaged {
            Some(salvaged) => {
                let listed = manifest.wals.iter_mut().filter(|listed| listed.generation == generation);
                listed.for_each(|listed| listed.synced_bytes = salvaged.bytes.len() as u64);
            }
            None => manifest.wals.retain(|listed| listed.generation != generation),
        })?;
        match &salvaged {
            Some(salvaged) => {
                let loss =
                    Loss { rows: salvaged.rows_lost, ts_ns: None, sequences: salvaged.sequences.clone() };
                let what = format!("{what}; {} of its rows can be read and are kept", salvaged.rows_kept);
                self.replace_log(&path, bytes.as_deref().unwrap_or_default(), salvaged, what, loss)?;
            }
            None => self.set_aside(listing.has_wal(generation), &path, what, Loss::default())?,
        }
        self.replace_manifest(edited)
    }

    /// As [`lose_wal`](Self::lose_wal). With the log's frames deletes are lost, not rows.
    fn lose_tombstones(
        &mut self,
        listing: &Listing,
        number: u64,
        what: &str,
        may_salvage: bool,
    ) -> Result<()> {
        let path = self.directory.tombstones(number);
        let loss = Loss { rows: Some(0), ..Loss::default() };
        let bytes = if may_salvage { self.read(&path)? } else { None };
        if let Some(bytes) = bytes
            && let Some(salvaged) = salvage_tombstones(&bytes, number)
        {
            let edited = self.edited_manifest(listing, |manifest| {
                manifest.tombstone_bytes = salvaged.bytes.len() as u64;
            })?;
            let kept = salvaged.rows_kept;
            let what = format!("{what}; {kept} deletes can be read and are kept, rows of others may be back");
            self.replace_log(&path, &bytes, &salvaged, what, loss)?;
            return self.replace_manifest(edited);
        }
        let mut older = None;
        let edited = self.edited_manifest(listing, |manifest| {
            older = older_log(manifest, listing, number);
            (manifest.tombstone_log, manifest.tombstone_bytes) = (older.unwrap_or(0), 0);
            let is_older = |file: OldFile| older.is_some_and(|older| file == OldFile::Tombstones(older));
            manifest.replaced.retain(|replaced| !is_older(replaced.file));
        })?;
        let what = match older {
            Some(_) => format!("{what}; the log that it replaced is used again"),
            None => format!("{what}; deleted rows may be back"),
        };
        self.set_aside(listing.tombstones.contains(&number), &path, what, loss)?;
        self.replace_manifest(edited)
    }

    /// Moves a file away that is there; only reports one that is missing, and where it went if an earlier open that was cut
    /// short had moved it.
    fn set_aside(&mut self, is_there: bool, path: &Path, what: String, loss: Loss) -> Result<()> {
        if is_there {
            return self.move_away(path, what, loss);
        }
        let earlier = self.directory.quarantined(path, 0);
        let is_kept = self.directory.disk().bytes(&earlier).at("look at", &earlier)?.is_some();
        self.report(path, is_kept.then_some(earlier), what, loss);
        Ok(())
    }

    fn move_away(&mut self, path: &Path, what: String, loss: Loss) -> Result<()> {
        let target = self.free_name(path, None)?;
        let disk = self.directory.disk();
        disk.rename(path, &target).at("move to quarantine", path)?;
        self.sync_dirs(path)?;
        self.report(path, Some(target), what, loss);
        Ok(())
    }

    /// Puts a salvaged log in the place of a damaged one, which is kept whole.
    fn replace_log(
        &mut self,
        path: &Path,
        bytes: &[u8],
        salvaged: &Salvaged,
        what: String,
        loss: Loss,
    ) -> Result<()> {
        let target = self.free_name(path, Some(bytes))?;
        let disk = self.directory.disk();
        if disk.bytes(&target).at("look at", &target)?.is_none() {
            // A copy and no second name: bytes that were just read may be in the page cache only.
            self.directory.write_whole(&target, bytes)?;
        }
        self.directory.write_whole(path, &salvaged.bytes)?;
        self.report(path, Some(target), what, loss);
        Ok(())
    }

    /// A name in the quarantine that no file has, or the one of a file that has these bytes already.
    fn free_name(&self, path: &Path, bytes: Option<&[u8]>) -> Result<PathBuf> {
        let dir = self.directory.quarantine_dir();
        let disk = self.directory.disk();
        disk.create_dir(&dir).at("create", &dir)?;
        for number in 0.. {
            let name = self.directory.quarantined(path, number);
            let is_free = disk.bytes(&name).at("look at", &name)?.is_none();
            if is_free
                || bytes
                    .is_some_and(|bytes| self.read(&name).is_ok_and(|kept| kept.as_deref() == Some(bytes)))
            {
                return Ok(name);
            }
        }
        unreachable!("a directory has fewer files than there are numbers")
    }

    fn sync_dirs(&self, path: &Path) -> Result<()> {
        let quarantine = self.directory.quarantine_dir();
        for dir in [quarantine.as_path(), path.parent().unwrap_or(self.directory.root())] {
            self.directory.disk().sync_dir(dir).at("sync", dir)?;
        }
        Ok(())
    }

    fn report(&mut self, file: &Path, moved_to: Option<PathBuf>, what: String, loss: Loss) {
        tracing::warn!(file = %file.display(), ?moved_to, what, rows_lost = ?loss.rows, "a file was set aside");
        let Loss { rows: rows_lost, ts_ns, sequences } = loss;
        let file = file.to_owned();
        self.quarantined.push(Quarantined { file, moved_to, what, rows_lost, ts_ns, sequences });
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        match keplordb_disk::read_all(self.directory.disk().as_ref(), path, u64::MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).at("read", path),
        }
    }

    fn stored(&self, listing: &Listing) -> Result<Option<Manifest>> {
        if listing.manifest { manifest::load(self.directory).map(Some) } else { Ok(None) }
    }

    /// The manifest with a change; `None` where there is none, and it is derived from the files that are left.
    fn edited_manifest(
        &self,
        listing: &Listing,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<Option<Manifest>> {
        let mut stored = self.stored(listing)?;
        if let Some(manifest) = &mut stored {
            change(manifest);
        }
        Ok(stored)
    }

    fn replace_manifest(&self, edited: Option<Manifest>) -> Result<()> {
        match edited {
            Some(manifest) => ManifestFile::new(self.directory.clone()).replace(&manifest).map(drop),
            None => Ok(()),
        }
    }
}

/// What an error says, without the file, which is said beside it, and without advice.
fn what_of(error: &DbError) -> String {
    match error {
        DbError::Corrupt { offset, what, .. } => format!("damaged at byte {offset}: {what}"),
        DbError::Truncated { found_bytes, expected_bytes, .. } => {
            format!("{found_bytes} of at least {expected_bytes} bytes")
        }
        DbError::Missing { .. } => "missing".to_owned(),
        other => other.to_string(),
    }
}

/// What a read fails with where a device cannot give the bytes any more: EIO, which has no kind of its own.
fn is_bad_sector(error: &io::Error) -> bool {
    error.raw_os_error() == Some(5)
}

fn loss_of(header: &SegmentHeader) -> Loss {
    let facts = &header.facts;
    let has_rows = header.rows > 0;
    Loss {
        rows: Some(u64::from(header.rows)),
        ts_ns: has_rows.then_some(facts.ts_min..=facts.ts_max),
        sequences: has_rows.then_some(facts.sequence_min..=facts.sequence_max),
    }
}

/// Lists again what a lost segment had replaced and what is still there; returns their names.
fn take_replaced(manifest: &mut Manifest, listing: &Listing, number: u64) -> Vec<String> {
    let mut taken = Vec::new();
    let Manifest { replaced, segments, wals, .. } = manifest;
    replaced.retain(|old| {
        if old.by != Some(number) {
            return true;
        }
        match old.file {
            OldFile::Segment(source) => {
                let found = listing.segments.iter().find(|(number, _)| *number == source);
                let listed =
                    found.map(|(number, bytes)| ListedSegment { number: *number, file_bytes: *bytes });
                taken.extend(listed.is_some().then(|| format!("segment {source}")));
                segments.extend(listed);
                false
            }
            OldFile::Wal(generation) => {
                let is_there = listing.has_wal(generation);
                taken.extend(is_there.then(|| format!("generation {generation}")));
                wals.extend(is_there.then_some(ListedWal { generation, synced_bytes: 0 }));
                false
            }
            // Its `by` is a number of another kind.
            OldFile::Tombstones(_) => true,
        }
    });
    segments.sort_unstable_by_key(|listed| listed.number);
    wals.sort_unstable_by_key(|listed| listed.generation);
    taken
}

/// The tombstone log that another one replaced, if it is still there: it has all that the other began with.
fn older_log(manifest: &Manifest, listing: &Listing, number: u64) -> Option<u64> {
    manifest.replaced.iter().find_map(|old| match old.file {
        OldFile::Tombstones(older) if old.by == Some(number) && listing.tombstones.contains(&older) => {
            Some(older)
        }
        _ => None,
    })
}
