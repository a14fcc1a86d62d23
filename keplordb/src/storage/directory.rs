//! The names in an engine's directory, its lock, and what crashes leave behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk, Lock, LockError};

use super::notices::Notices;
use super::poison::Poison;
use crate::error::{DbError, IoContext, Result};
use crate::format::MAX_NUMBER;
use keplordb_log::file;

const LOCK: &str = "LOCK";
const MANIFEST: &str = "MANIFEST";
const SPARE_MANIFEST: &str = "MANIFEST.spare";
const TOMBSTONES_PREFIX: &str = "tombstones.";
/// Says that a checkpoint into this directory has begun; removed when it is complete.
const INCOMPLETE: &str = "INCOMPLETE";
/// Where damaged files are set aside.
const QUARANTINE_DIR: &str = "quarantine";
const WAL_DIR: &str = "wal";
const SEGMENT_DIR: &str = "segments";
const WAL_SUFFIX: &str = ".kwal";
const SEGMENT_SUFFIX: &str = ".kseg";
/// What a file is called until it is complete.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// An engine's directory on its disk.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    poison: Poison,
}

/// What a file of a directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest,
    Segment(u64),
    Wal(u64),
    Tombstones(u64),
}

/// The files of a directory, by what their names say.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) manifest: bool,
    pub(crate) incomplete: bool,
    /// Numbers, ascending.
    pub(crate) tombstones: Vec<u64>,
    /// (generation, bytes), ascending.
    pub(crate) wals: Vec<(u64, u64)>,
    /// (number, bytes), ascending.
    pub(crate) segments: Vec<(u64, u64)>,
    /// Files that were never completed.
    pub(crate) temporary: Vec<PathBuf>,
}

impl Listing {
    /// Whether nothing was ever stored here: a new directory, or one whose making was cut short.
    pub(crate) fn is_new(&self) -> bool {
        !self.manifest
            && !self.incomplete
            && self.tombstones.is_empty()
            && self.wals.is_empty()
            && self.segments.is_empty()
    }

    pub(crate) fn has_wal(&self, generation: u64) -> bool {
        self.wals.binary_search_by_key(&generation, |(found, _)| *found).is_ok()
    }

    pub(crate) fn has_segment(&self, number: u64) -> bool {
        self.segments.binary_search_by_key(&number, |(found, _)| *found).is_ok()
    }
}

impl Directory {
    pub(crate) fn new(disk: Arc<dyn Disk>, root: PathBuf) -> Self {
        Self { disk, root, poison: Poison::default() }
    }

    /// Set when a sync of anything in the directory has failed.
    pub(crate) fn poison(&self) -> &Poison {
        &self.poison
    }

    /// What an operator should hear of.
    pub(crate) fn notices(&self) -> &Notices {
        self.poison.notices()
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.root.join(MANIFEST)
    }

    pub(crate) fn spare_manifest(&self) -> PathBuf {
        self.root.join(SPARE_MANIFEST)
    }

    pub(crate) fn incomplete(&self) -> PathBuf {
        self.root.join(INCOMPLETE)
    }

    pub(crate) fn tombstones(&self, number: u64) -> PathBuf {
        self.root.join(format!("{TOMBSTONES_PREFIX}{number:016x}"))
    }

    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.root.join(WAL_DIR)
    }

    pub(crate) fn segment_dir(&self) -> PathBuf {
        self.root.join(SEGMENT_DIR)
    }

    pub(crate) fn wal(&self, generation: u64) -> PathBuf {
        self.wal_dir().join(format!("{generation:016x}{WAL_SUFFIX}"))
    }

    pub(crate) fn segment(&self, number: u64) -> PathBuf {
        self.segment_dir().join(format!("{number:016x}{SEGMENT_SUFFIX}"))
    }

    pub(crate) fn quarantine_dir(&self) -> PathBuf {
        self.root.join(QUARANTINE_DIR)
    }

    /// The name in the quarantine of a file with this path: its own, or with a number behind it.
    pub(crate) fn quarantined(&self, path: &Path, number: u32) -> PathBuf {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        self.quarantine_dir().join(name)
    }

    /// What a file of this directory is; `None` for one that holds no part of the table.
    pub(crate) fn kind_of(&self, path: &Path) -> Option<Kind> {
        let kind = kind_of_name(path.file_name()?.to_str()?)?;
        let expected = match kind {
            Kind::Manifest => self.manifest(),
            Kind::Segment(number) => self.segment(number),
            Kind::Wal(generation) => self.wal(generation),
            Kind::Tombstones(number) => self.tombstones(number),
        };
        (expected == path).then_some(kind)
    }

    /// Makes the directory, for the lock to have a place.
    pub(crate) fn create_root(&self) -> Result<()> {
        self.disk.create_dir(&self.root).at("create", &self.root)
    }

    /// Makes the folders inside, durably.
    pub(crate) fn create_folders(&self) -> Result<()> {
        for dir in [self.wal_dir(), self.segment_dir()] {
            self.disk.create_dir(&dir).at("create", &dir)?;
        }
        Ok(())
    }

    /// Takes the directory for this engine alone.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.root.join(LOCK);
        self.disk.lock(&path).map_err(|error| match error {
            LockError::Held { pid } => DbError::AlreadyOpen { dir: self.root.clone(), pid },
            LockError::Io(source) => DbError::io("lock", &path, source),
        })
    }

    /// Whether an engine has the directory open.
    pub(crate) fn is_locked(&self) -> Result<bool> {
        let path = self.root.join(LOCK);
        self.disk.is_locked(&path).at("look at", &path)
    }

    /// Whether the lock's file says that the directory is a copy of another one.
    pub(crate) fn is_copy(&self) -> Result<bool> {
        let path = self.root.join(LOCK);
        self.disk.is_copy(&path).at("look at", &path)
    }

    /// Makes the directory an original: from now on everything that the manifest lists must be there and whole.
    pub(crate) fn adopt(&self, lock: &mut Lock) -> Result<()> {
        lock.adopt().at("write", &self.root.join(LOCK))
    }

    /// Whether nothing but the lock is there.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        let entries = self.disk.list(&self.root).at("list", &self.root)?;
        Ok(entries.iter().all(|entry| entry.name == LOCK))
    }

    /// Whether anything of a table is there; without the directory, nothing is.
    pub(crate) fn holds_table(&self) -> Result<bool> {
        match self.disk.list(&self.root) {
            Ok(_) => Ok(!self.list()?.is_new()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(DbError::io("list", &self.root, error)),
        }
    }

    /// What is there now. Names that are not ours are left alone.
    pub(crate) fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for entry in self.disk.list(&self.root).at("list", &self.root)? {
            match entry.name.as_str() {
                MANIFEST => listing.manifest = true,
                INCOMPLETE => listing.incomplete = true,
                name if is_temporary(name) => listing.temporary.push(self.root.join(name)),
                name => listing.tombstones.extend(number_of_tombstones(name)),
            }
        }
        listing.tombstones.sort_unstable();
        for (dir, suffix, found) in [
            (self.wal_dir(), WAL_SUFFIX, &mut listing.wals),
            (self.segment_dir(), SEGMENT_SUFFIX, &mut listing.segments),
        ] {
            let entries = match self.disk.list(&dir) {
                Ok(entries) => entries,
                // A half-made directory.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(DbError::io("list", &dir, error)),
            };
            for entry in entries {
                if let Some(number) = number_of(&entry.name, suffix) {
                    found.push((number, entry.bytes));
                } else if let Some(complete) = entry.name.strip_suffix(TEMPORARY_SUFFIX)
                    && number_of(complete, suffix).is_some()
                {
                    listing.temporary.push(dir.join(&entry.name));
                }
            }
            found.sort_unstable();
        }
        Ok(listing)
    }

    /// Writes a file that is there whole or not at all: under a temporary name, synced, renamed, its directory synced.
    ///
    /// On an error the file is what it was, or, when only the sync of its name failed, writing has stopped.
    pub(crate) fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        Ok(file::write_whole(self.disk.as_ref(), path, bytes, self.poison.of_files())?)
    }

    /// Removes a file that nothing needs any more, and says whether it is gone. That it is not is no error: the next open
    /// finds it as a leftover.
    pub(crate) fn remove_leftover(&self, path: &Path) -> bool {
        match self.disk.remove(path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => {
                self.notices().warn("a leftover file could not be removed", Some(path), &error);
                false
            }
        }
    }
}

/// What a file with this name is, in the folder where it belongs.
pub(crate) fn kind_of_name(name: &str) -> Option<Kind> {
    match name {
        MANIFEST => Some(Kind::Manifest),
        name => number_of(name, SEGMENT_SUFFIX)
            .map(Kind::Segment)
            .or_else(|| number_of(name, WAL_SUFFIX).map(Kind::Wal))
            .or_else(|| number_of_tombstones(name).map(Kind::Tombstones)),
    }
}

/// What a file with this name is, or was before it was set aside: a number may then follow its name.
pub(crate) fn kind_of_former_name(name: &str) -> Option<Kind> {
    kind_of_name(name).or_else(|| {
        let (former, number) = name.rsplit_once('.')?;
        let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
        kind_of_name(former).filter(|_| is_number)
    })
}

/// Whether a name in the root is that of a file of ours that was never completed.
fn is_temporary(name: &str) -> bool {
    name.strip_suffix(TEMPORARY_SUFFIX).is_some_and(|complete| {
        [MANIFEST, SPARE_MANIFEST, INCOMPLETE].contains(&complete) || number_of_tombstones(complete).is_some()
    })
}

/// The number in a name like `000000000000001f.kwal`.
fn number_of(name: &str, suffix: &str) -> Option<u64> {
    number_in(name.strip_suffix(suffix)?)
}

/// The number in a name like `tombstones.0000000000000001`.
fn number_of_tombstones(name: &str) -> Option<u64> {
    number_in(name.strip_prefix(TOMBSTONES_PREFIX)?)
}

fn number_in(digits: &str) -> Option<u64> {
    let well_formed =
        digits.len() == 16 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let number = well_formed.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    number.filter(|number| *number <= MAX_NUMBER)
}

#[cfg(test)]
mod tests {
    use keplordb_disk::MemoryDisk;

    use super::*;

    #[test]
    fn names_are_recognised_and_foreign_ones_left_alone() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let directory = Directory::new(Arc::clone(&disk), "events".into());
        directory.create_root().unwrap();
        assert!(directory.list().unwrap().is_new(), "folders may be missing");
        directory.create_folders().unwrap();
        for path in [
            directory.wal(31),
            directory.wal(2),
            directory.segment(7),
            directory.manifest(),
            directory.tombstones(3),
            "events/MANIFEST.tmp".into(),
            "events/tombstones".into(),
            "events/tombstones.0000000000000004.tmp".into(),
            "events/segments/0000000000000008.kseg.tmp".into(),
            "events/segments/8.kseg".into(),
            "events/segments/notes.txt".into(),
            "events/wal/000000000000001F.kwal".into(),
        ] {
            disk.create(&path).unwrap();
        }
        let listing = directory.list().unwrap();
        assert_eq!(listing.wals, [(2, 0), (31, 0)]);
        assert_eq!(listing.segments, [(7, 0)]);
        assert_eq!(
            listing.temporary,
            [
                PathBuf::from("events/MANIFEST.tmp"),
                PathBuf::from("events/tombstones.0000000000000004.tmp"),
                PathBuf::from("events/segments/0000000000000008.kseg.tmp")
            ]
        );
        assert!(listing.manifest && listing.tombstones == [3]);
    }

    #[test]
    fn a_directory_has_one_holder() {
        let directory = Directory::new(Arc::new(MemoryDisk::default()), "events".into());
        directory.create_root().unwrap();
        let held = directory.lock().unwrap();
        assert!(matches!(directory.lock().unwrap_err(), DbError::AlreadyOpen { .. }));
        drop(held);
        assert!(directory.lock().is_ok());
    }
}
