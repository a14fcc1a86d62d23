//! The manifest file: load it, and replace it in one step, which is the commit point of every change of the table, also on
//! a full disk.

use crate::error::{DbError, IoContext, Result};
use crate::format::manifest::Manifest;
use crate::storage::directory::Directory;

/// A manifest is a few bytes per segment and WAL; this bounds what a damaged length can make us allocate.
const MAX_MANIFEST_BYTES: u64 = 1 << 30;

/// The spare is this many times as long as the manifest: as the manifest grows, half of it must still do.
const SPARE_FACTOR: u64 = 4;

/// What replacing the manifest showed of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// There was space for it.
    Left,
    /// It went by the spare: whoever holds files that nobody needs gives them back now.
    Full,
}

/// Reads the manifest of a directory; [`DbError::Missing`] when there is none.
pub(crate) fn load(directory: &Directory) -> Result<Manifest> {
    let path = directory.manifest();
    let bytes = match keplordb_disk::read_all(directory.disk().as_ref(), &path, MAX_MANIFEST_BYTES) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DbError::Missing { file: path });
        }
        read => read.at("read", &path)?,
    };
    Manifest::decode(&bytes).map_err(|error| error.in_file(&path))
}

/// The manifest of an open engine, and its *spare*: a file whose blocks were written while there was space, so that the
/// manifest can be replaced on a full disk too, for `gc` to make room.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    directory: Directory,
    /// Length of the spare; 0 when there is none.
    spare_bytes: u64,
}

impl ManifestFile {
    /// Takes over the spare that an earlier run left.
    pub(crate) fn new(directory: Directory) -> Self {
        let spare_bytes = directory.disk().bytes(&directory.spare_manifest()).ok().flatten().unwrap_or(0);
        Self { directory, spare_bytes }
    }

    /// Replaces the manifest in one step. On return the new one is on disk; on an error the old one is, or writing has
    /// stopped.
    pub(crate) fn replace(&mut self, manifest: &Manifest) -> Result<Room> {
        let bytes = manifest.encode();
        let room = match self.directory.write_whole(&self.directory.manifest(), &bytes) {
            Err(full @ DbError::Full { .. }) => {
                self.replace_by_spare(&bytes).map_err(|error| error.unwrap_or(full))?;
                Room::Full
            }
            written => written.map(|()| Room::Left)?,
        };
        self.keep_spare(bytes.len() as u64);
        Ok(room)
    }

    /// Writes the spare anew if it is gone or short. Where it has just served, the old manifest's blocks and its own surplus
    /// are free for it: the disk may be as full the next time, and it is `gc` that must not fail then.
    fn keep_spare(&mut self, manifest_bytes: u64) {
        if self.spare_bytes >= manifest_bytes * SPARE_FACTOR / 2 {
            return;
        }
        for factor in [SPARE_FACTOR, 1] {
            let wanted = manifest_bytes * factor;
            if wanted <= self.spare_bytes {
                return;
            }
            let zeros = vec![0; usize::try_from(wanted).unwrap_or(0)];
            match self.directory.write_whole(&self.directory.spare_manifest(), &zeros) {
                Ok(()) => return self.spare_bytes = wanted,
                Err(DbError::Full { .. }) if factor > 1 => {}
                // Without a spare a full disk can only be helped from outside; that is no reason to fail now.
                Err(error) => {
                    let notices = self.directory.notices();
                    return notices.warn("the spare manifest could not be written", None, &error);
                }
            }
        }
    }

    /// Overwrites the spare, which needs no space, and renames it. `None`: the spare does not serve.
    fn replace_by_spare(&mut self, bytes: &[u8]) -> Result<(), Option<DbError>> {
        if (bytes.len() as u64) > self.spare_bytes {
            return Err(None);
        }
        let (spare, target) = (self.directory.spare_manifest(), self.directory.manifest());
        let disk = self.directory.disk();
        let renamed = disk.open(&spare).and_then(|file| {
            file.write_at(bytes, 0)?;
            file.truncate(bytes.len() as u64)?;
            file.sync()?;
            disk.rename(&spare, &target)
        });
        self.spare_bytes = 0;
        renamed.map_err(|_| None)?;
        let root = self.directory.root();
        let synced = disk.sync_dir(root).at("sync", root);
        synced.map_err(|error| Some(self.directory.poison().set(&error)))
    }
}
