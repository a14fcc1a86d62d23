//! Small files as a whole: read one, replace one atomically.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::directories::parent_of;
use crate::{Disk, DiskFile};

/// Reads a whole file of at most `limit_bytes`, through the file system (a bad sector is an error, never a signal).
///
/// Allocates the file's length once, so a length that lies costs nothing. If the file shrinks meanwhile, what was left of
/// it is returned; what it grows by is not.
///
/// # Errors
/// `FileTooLarge` if the file is longer than `limit_bytes`, `OutOfMemory`, else as [`Disk::open_read`] and
/// [`DiskFile::read_at`].
pub fn read_all(disk: &dyn Disk, path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let file = disk.open_read(path)?;
    let bytes = file.bytes()?;
    if bytes > limit_bytes {
        let message = format!("the file has {bytes} bytes, at most {limit_bytes} were expected");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let bytes = usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut contents = Vec::new();
    contents.try_reserve_exact(bytes)?;
    contents.resize(bytes, 0);
    let present = file.read_at(&mut contents, 0)?;
    contents.truncate(present);
    Ok(contents)
}

/// Replaces, or makes, a small file: after it returns, and after any later crash, the file has exactly these bytes; after
/// a crash during the call it has these or is what it was.
///
/// The steps: write `NAME.tmp` beside it (removing the leftover of an earlier crash), sync it, rename it over the file
/// (the commit point), sync the directory. Two callers at once on one path are the caller's mistake. Cost: two syncs.
///
/// # Errors
/// What a step says. Up to and including the rename the file is what it was, and `NAME.tmp` is removed if that is
/// possible. If the last step fails the file *reads* as replaced, but a power cut may bring the old one back: as after
/// every failed sync, the caller must stop trusting the disk.
///
/// # Panics
/// If the path has no file name.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    put_in_place(disk, path, |file| file.write_at(bytes, 0))?;
    disk.sync_dir(parent_of(path))
}

/// [`replace`] without its last step, by what `write` puts into the new file: for large files, and for callers that must tell a
/// failure before the rename, after which the file is what it was, from one of the sync of its directory, after which that
/// is unknown.
///
/// # Errors
/// What a step or `write` says; the file is then what it was, and `NAME.tmp` is removed if that is possible.
///
/// # Panics
/// If the path has no file name.
pub fn put_in_place(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary_of(path);
    let written = create_anew(disk, &temporary)
        .and_then(|file| {
            write(file.as_ref())?;
            file.sync()
        })
        .and_then(|()| disk.rename(&temporary, path));
    if written.is_err() {
        // So that it does not take up a full disk; if it stays, the next replace removes it.
        let _ = disk.remove(&temporary);
    }
    written
}

/// Creates the file, after removing what has its name.
fn create_anew(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    match disk.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(path)?;
            disk.create(path)
        }
        result => result,
    }
}

/// `dir/NAME.tmp` for `dir/NAME`.
fn temporary_of(path: &Path) -> PathBuf {
    assert!(
        path.file_name().is_some(),
        "only a path with a file name can be replaced, not {}",
        path.display()
    );
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    temporary.into()
}
