//! The file `REPLICA`: that a directory is a copy which a [`Replica`](crate::Replica) keeps, and how far it is one.
//!
//! # Layout
//!
//! Integers are little-endian. The file is replaced as a whole, so no crash tears it.
//!
//! ```text
//! offset   0            8           12      16      24         32      40      48      52      56
//!          ┌────────────┬───────────┬───────┬───────┬──────────┬───────┬───────┬───────┬───────┐
//!          │ "KEPLOGR"0 │ version   │ crc   │ log   │ number   │ start │ bytes │ ended │ zero  │
//!          │            │ u32 = 1   │ u32   │ u64   │ u64      │ i64   │ u64   │ u32   │ 4 × 0 │
//!          └────────────┴───────────┴───────┴───────┴──────────┴───────┴───────┴───────┴───────┘
//! crc      CRC-32 of the 56 bytes, with this field zero
//! log      the id of the log, as its segments say it
//! number   of the segment that is being copied
//! start    of that segment
//! bytes    of that segment that are whole frames and synced
//! ended    0, or 1 if the directory is no copy any more
//! ```
//!
//! It says: segments before `start` are whole; of the one at `start` the first `bytes` bytes count; nothing else does. What
//! the frames of the copy say about being synced is true of the source's disk alone.
//!
//! # The end of a copy
//!
//! A writer that takes a copy over replaces its mark by an ended one, durably, and then removes that. Removing alone would not
//! do: where the sync of the directory fails, nobody can tell whether the file is gone, and a power cut that brought the mark back
//! would take from the log what was written since. An ended mark that comes back takes nothing.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use keplordb_disk::Disk;

use crate::error::{IoContext, LogError, Result};
use crate::file::write_whole;
use crate::header::{self, index_name, segment_name};
use crate::poison::Poison;
use crate::timestamp::Timestamp;

/// The name of the file.
pub(crate) const NAME: &str = "REPLICA";
const MAGIC: [u8; 8] = *b"KEPLOGR\0";
const VERSION: u32 = 1;
const BYTES: usize = 56;
const CRC_AT: usize = 12;

/// How far a directory is a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The id of the log.
    pub(crate) log: u64,
    /// Number of the segment that is being copied.
    pub(crate) number: u64,
    /// Start of that segment; those before it are whole.
    pub(crate) start: Timestamp,
    /// Bytes of that segment that count.
    pub(crate) bytes: u64,
    /// The directory is no copy any more.
    pub(crate) is_ended: bool,
}

impl Mark {
    /// The mark of a directory that is a copy; `None` if it is none.
    pub(crate) fn of_copy(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>> {
        Ok(Self::read(disk, dir)?.filter(|mark| !mark.is_ended))
    }

    /// The mark of a directory, also an ended one; `None` if it has none.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>> {
        let file = path(dir);
        match keplordb_disk::read_all(disk, &file, BYTES as u64) {
            Ok(bytes) => Self::decode(&bytes, &file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                Err(LogError::corrupt(&file, BYTES as u64, "the file is too long"))
            }
            Err(error) => Err(LogError::io("read", &file, error)),
        }
    }

    /// Replaces the mark of a directory, durably.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path, poison: &Poison) -> Result<()> {
        Ok(write_whole(disk, &path(dir), &self.encode(), poison)?)
    }

    /// Makes the directory no copy any more, durably. It must be cut to what the mark says before.
    ///
    /// An ended mark is written again: the sync of its name may have failed when it was written first.
    pub(crate) fn end(&self, disk: &dyn Disk, dir: &Path, poison: &Poison) -> Result<()> {
        Self { is_ended: true, ..*self }.write(disk, dir, poison)?;
        remove(disk, &path(dir))?;
        disk.sync_dir(dir).at("sync", dir)
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.start.as_ns().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[48..52].copy_from_slice(&u32::from(self.is_ended).to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(found: &[u8], file: &Path) -> Result<Self> {
        let corrupt = |offset, what: &str| LogError::corrupt(file, offset, what);
        let Some(bytes) = found.first_chunk::<BYTES>() else {
            return Err(corrupt(found.len() as u64, "the file is too short"));
        };
        let mut bytes = *bytes;
        if !bytes.starts_with(&MAGIC) {
            return Err(corrupt(0, "no mark of a copy begins so"));
        }
        match u32::from_le_bytes(array(&bytes, 8)) {
            VERSION => {}
            0 => return Err(corrupt(8, "version 0 never was")),
            found => return Err(LogError::TooNew { file: file.to_owned(), found, max: VERSION }),
        }
        let stored_crc = u32::from_le_bytes(array(&bytes, CRC_AT));
        bytes[CRC_AT..CRC_AT + 4].fill(0);
        if crc32fast::hash(&bytes) != stored_crc {
            return Err(corrupt(CRC_AT as u64, "the checksum does not hold"));
        }
        let is_ended = match u64::from_le_bytes(array(&bytes, 48)) {
            0 => false,
            1 => true,
            _ => return Err(corrupt(48, "it is neither that of a copy nor ended")),
        };
        Ok(Self {
            is_ended,
            log: u64::from_le_bytes(array(&bytes, 16)),
            number: u64::from_le_bytes(array(&bytes, 24)),
            start: Timestamp::from_ns(i64::from_le_bytes(array(&bytes, 32))),
            bytes: u64::from_le_bytes(array(&bytes, 40)),
        })
    }
}

/// Cuts a copy to what its mark says: the marked segment to its length, and no later one.
///
/// # Errors
/// [`LogError::Truncated`] if the marked segment is shorter, or not there; nothing is changed then.
pub(crate) fn cut_to(disk: &dyn Disk, dir: &Path, mark: &Mark) -> Result<()> {
    let segments = header::list(disk, dir)?;
    let marked = segments.iter().find(|segment| segment.start == mark.start);
    let found_bytes = marked.map_or(0, |marked| marked.bytes);
    if found_bytes < mark.bytes {
        let (file, expected_bytes) = (dir.join(segment_name(mark.start)), mark.bytes);
        return Err(LogError::Truncated { file, found_bytes, expected_bytes });
    }
    for segment in segments {
        let path = dir.join(segment_name(segment.start));
        let is_marked = segment.start == mark.start;
        if segment.start > mark.start || (is_marked && mark.bytes == 0) {
            remove(disk, &path)?;
            remove(disk, &dir.join(index_name(segment.start)))?;
            disk.sync_dir(dir).at("sync", dir)?;
        } else if is_marked && segment.bytes > mark.bytes {
            let file = disk.open(&path).at("open", &path)?;
            file.truncate(mark.bytes).at("truncate", &path)?;
            file.sync().at("sync", &path)?;
        }
    }
    Ok(())
}

fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Removes a file, if it is there.
pub(crate) fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.at("remove", path),
    }
}

/// `N` of the mark's bytes, which are there: the places are those of the layout above.
fn array<const N: usize>(mark: &[u8; BYTES], at: usize) -> [u8; N] {
    mark.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use keplordb_disk::MemoryDisk;

    use super::*;

    const MARK: Mark =
        Mark { log: 7, number: 3, start: Timestamp::from_ns(-5), bytes: 1 << 40, is_ended: false };

    #[test]
    fn a_directory_has_the_mark_that_was_written_last() {
        let (disk, dir) = (MemoryDisk::default(), Path::new("copy"));
        assert_eq!(Mark::read(&disk, dir).unwrap(), None);
        disk.create_dir(dir).unwrap();
        for bytes in [0, 64, u64::MAX] {
            let mark = Mark { bytes, ..MARK };
            mark.write(&disk, dir, &Poison::default()).unwrap();
            assert_eq!(Mark::read(&disk, dir).unwrap(), Some(mark));
        }
        let ended = Mark { is_ended: true, ..MARK };
        ended.write(&disk, dir, &Poison::default()).unwrap();
        assert_eq!(Mark::read(&disk, dir).unwrap(), Some(ended));
        assert_eq!(Mark::of_copy(&disk, dir).unwrap(), None);
        ended.end(&disk, dir, &Poison::default()).unwrap();
        assert_eq!(Mark::read(&disk, dir).unwrap(), None);
    }

    #[test]
    fn no_byte_may_change_and_none_may_be_missing_or_too_many() {
        let (disk, dir) = (MemoryDisk::default(), Path::new("copy"));
        disk.create_dir(dir).unwrap();
        let file = disk.create(&path(dir)).unwrap();
        let write = |bytes: &[u8]| {
            file.truncate(0).unwrap();
            file.write_at(bytes, 0).unwrap();
            Mark::read(&disk, dir)
        };
        let bytes = MARK.encode();
        for at in 0..BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 0x41;
            let error = write(&damaged).unwrap_err();
            assert!(
                matches!(error, LogError::Corrupt { .. } | LogError::TooNew { .. }),
                "byte {at}: {error}"
            );
            assert!(write(&bytes[..at]).is_err(), "{at} bytes");
        }
        assert!(write(&[&bytes[..], &[0]].concat()).is_err());
        assert_eq!(write(&bytes).unwrap(), Some(MARK));
    }
}
