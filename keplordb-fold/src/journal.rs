//! The rotation journal: there while a rotation runs, and after one that a crash ended.
//!
//! With the lengths of the two files that a rotation moves bytes between it tells, at any moment and after any crash, which of
//! them has the events: see [`Journal::is_cut`].

use std::io;

use keplordb_disk::{Disk, read_all, replace};
use serde::{Deserialize, Serialize};

use crate::checked::{NUMBER_MAX, seal, unseal};
use crate::error::{FoldError, at};
use crate::paths::Paths;

/// Limits what a damaged directory can make us read: the journal has some 150 bytes.
const JOURNAL_BYTES_MAX: u64 = 4 << 10;

/// What a rotation wrote down before it touched the archive.
///
/// On disk it is one [sealed](crate::checked) line. It is put in place by a rename, so that a crash leaves it whole or not at
/// all; one that is not whole is damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// The archive's length before the rotation.
    pub(crate) archive_bytes: u64,
    /// The active log's length, all of which becomes a frame.
    pub(crate) log_bytes: u64,
    /// [`line_hash`](crate::line_hash) of these bytes.
    pub(crate) log_hash: String,
    /// The generation that the active log is in, and the frame will have.
    pub(crate) generation: u64,
}

impl Journal {
    /// The journal of a rotation that is under way, if there is one.
    ///
    /// # Errors
    /// `Damaged` if it is not as it was written.
    pub(crate) fn read(disk: &dyn Disk, paths: &Paths) -> io::Result<Option<Self>> {
        let path = &paths.journal;
        // Most of the time there is none, and to ask for its length is cheaper than to open it.
        if disk.bytes(path).map_err(at("look for", path))?.is_none() {
            return Ok(None);
        }
        match read_all(disk, path, JOURNAL_BYTES_MAX) {
            Ok(bytes) => Self::parse(&bytes).map(Some).ok_or_else(|| {
                let what = "it does not say what the rotation that was under way did".to_owned();
                FoldError::Damaged { file: path.clone(), offset: 0, what }.into()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("read", path)(error)),
        }
    }

    /// The journal that these bytes are, if each is as it was written.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        // The newline is not part of what is sealed, but without it the line is not whole.
        let line = bytes.strip_suffix(b"\n")?;
        let journal: Self = serde_json::from_str(&unseal(line)?).ok()?;
        (journal.generation <= NUMBER_MAX).then_some(journal)
    }

    /// Makes it durable. After an error it may be there or not.
    pub(crate) fn write(&self, disk: &dyn Disk, paths: &Paths) -> io::Result<()> {
        let object = serde_json::to_string(self)?;
        replace(disk, &paths.journal, seal(&object).as_bytes()).map_err(at("write", &paths.journal))
    }

    /// Ends the rotation: durable on return.
    pub(crate) fn remove(disk: &dyn Disk, paths: &Paths) -> io::Result<()> {
        disk.remove(&paths.journal).map_err(at("remove", &paths.journal))?;
        disk.sync_dir(&paths.dir).map_err(at("sync", &paths.dir))
    }

    /// Whether the active log, now of this length, was cut after its text had gone to the archive.
    ///
    /// If so the whole archive counts and the log is of the next generation. If not only the first
    /// [`archive_bytes`](Self::archive_bytes) of the archive count, and all of the log is of this generation, also what was
    /// appended to it since.
    pub(crate) fn is_cut(&self, log_bytes: u64) -> bool {
        log_bytes < self.log_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keplordb_disk::{Disk, MemoryDisk};

    use super::*;

    #[test]
    fn it_is_read_back_or_refused() {
        let disk = MemoryDisk::default();
        let paths = Paths::new(Path::new("app"));
        disk.create_dir(&paths.dir).unwrap();
        assert_eq!(Journal::read(&disk, &paths).unwrap(), None);

        let journal = Journal { archive_bytes: 7, log_bytes: 9, log_hash: "00".into(), generation: 2 };
        journal.write(&disk, &paths).unwrap();
        assert_eq!(Journal::read(&disk, &paths).unwrap().as_ref(), Some(&journal));
        assert!(journal.is_cut(8) && !journal.is_cut(9) && !journal.is_cut(10));

        let bytes = read_all(&disk, &paths.journal, 1000).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(Journal::parse(&flipped), None, "byte {at}, bit {bit}");
            }
            assert_eq!(Journal::parse(&bytes[..at]), None, "cut at {at}");
        }
        let beyond = Journal { generation: u64::MAX, ..journal };
        assert_eq!(Journal::parse(seal(&serde_json::to_string(&beyond).unwrap()).as_bytes()), None);
        disk.open(&paths.journal).unwrap().truncate(3).unwrap();
        assert_eq!(Journal::read(&disk, &paths).unwrap_err().kind(), io::ErrorKind::InvalidData);

        Journal::remove(&disk, &paths).unwrap();
        assert_eq!(Journal::read(&disk, &paths).unwrap(), None);
    }
}
