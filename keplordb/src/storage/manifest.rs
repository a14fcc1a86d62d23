//! The manifest file: load it, and replace it in one step, which is the commit point of every change of the table.

use crate::error::{DbError, IoContext, Result};
use crate::format::manifest::Manifest;
use crate::storage::directory::Directory;

/// A manifest is a few bytes per segment and WAL; this bounds what a damaged length can make us allocate.
const MAX_MANIFEST_BYTES: u64 = 1 << 30;

/// Reads the manifest of a directory that has one.
pub(crate) fn load(directory: &Directory) -> Result<Manifest> {
    let path = directory.manifest();
    let bytes =
        keplordb_disk::read_all(directory.disk().as_ref(), &path, MAX_MANIFEST_BYTES).at("read", &path)?;
    Manifest::decode(&bytes).map_err(|error| error.in_file(&path))
}

/// Replaces the manifest. On return the new one is on disk; on an error the old one is, or writing has stopped.
pub(crate) fn replace(directory: &Directory, manifest: &Manifest) -> Result<()> {
    let path = directory.manifest();
    directory.write_whole(&path, &manifest.encode())
}

/// Whether a load failed because the manifest's bytes are no good, so that it may be rebuilt from the other files.
pub(crate) fn is_damaged(error: &DbError) -> bool {
    matches!(error, DbError::Corrupt { .. })
}
