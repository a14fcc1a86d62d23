//! The files of a directory as a map, to be looked at, changed and put back: a disk in a state that no engine made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb::disk::{Disk, MemoryDisk, read_all};

/// Contents by path.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// All files below a directory, but the lock.
pub(crate) fn files_of(disk: &dyn Disk, dir: &Path) -> Files {
    let mut files = Files::new();
    for entry in disk.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            files.extend(files_of(disk, &path));
        } else if entry.name != "LOCK" {
            let bytes = read_all(disk, &path, u64::MAX).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

/// A disk in memory with these files, in directories that are the originals.
pub(crate) fn disk_of(files: &Files) -> Arc<MemoryDisk> {
    let disk = copy_of(files);
    for entry in disk.list(Path::new("")).unwrap() {
        disk.lock(&Path::new(&entry.name).join("LOCK")).unwrap().adopt().unwrap();
    }
    disk
}

/// A disk in memory with these files, in directories that somebody copied without their locks.
pub(crate) fn copy_of(files: &Files) -> Arc<MemoryDisk> {
    let disk = MemoryDisk::default();
    for (path, bytes) in files {
        put(&disk, path, bytes);
    }
    Arc::new(disk)
}

/// Writes a file as a stranger would: whatever was there before is gone.
pub(crate) fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    disk.create_dir(path.parent().unwrap()).unwrap();
    let _ = disk.remove(path);
    disk.create(path).unwrap().write_at(bytes, 0).unwrap();
}

/// The only file whose path ends so.
pub(crate) fn only(files: &Files, suffix: &str) -> PathBuf {
    let mut found = files.keys().filter(|path| path.to_string_lossy().ends_with(suffix));
    let path = found.next().unwrap_or_else(|| panic!("no {suffix} among {:?}", files.keys()));
    assert!(found.next().is_none(), "several {suffix} among {:?}", files.keys());
    path.clone()
}
