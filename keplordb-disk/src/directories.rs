//! Making a directory durably, with its parents: the order of the steps, for every disk.

use std::io;
use std::path::Path;

/// The directory that holds this name; `.` for a bare name, the root for the root.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// What [`create_durably`] needs of a disk.
pub(crate) trait Directories {
    /// Whether there is a directory of that name; false, not an error, if there is nothing.
    fn is_dir(&self, path: &Path) -> io::Result<bool>;
    /// Makes one directory.
    fn make(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
}

/// Makes `dir` and its missing parents, from the top down, each made durable before the next is made.
pub(crate) fn create_durably(disk: &impl Directories, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut present = dir;
    while !disk.is_dir(present)? {
        missing.push(present);
        if parent_of(present) == present {
            break;
        }
        present = parent_of(present);
    }
    // Its name may have been made by a process that was killed before its sync, and would vanish in a power cut with all
    // that is put below it now. The directory above may not be ours to open, though; then it was not us who made it.
    if let Err(error) = disk.sync(parent_of(present)) {
        use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
        if !matches!(error.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported) {
            return Err(error);
        }
    }
    for dir in missing.into_iter().rev() {
        match disk.make(dir) {
            // Somebody else was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && disk.is_dir(dir)? => {}
            result => result?,
        }
        disk.sync(parent_of(dir))?;
    }
    Ok(())
}
