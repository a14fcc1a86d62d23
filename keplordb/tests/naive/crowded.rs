//! A disk on which writers meet: while it is crowded, a write to a log takes so long that threads which append at the same
//! time cannot all take the same shard. Otherwise it is the disk it wraps.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keplordb::disk::{Disk, DiskFile, Entry, Lock, LockError, Mapping, Watch};

/// Long enough for the other threads to come by, short enough for thousands of them.
const WRITE_TIME: Duration = Duration::from_micros(100);

/// Wraps a disk; clones share its mood.
#[derive(Debug, Clone)]
pub(crate) struct CrowdedDisk {
    disk: Arc<dyn Disk>,
    crowded: Arc<AtomicBool>,
}

impl CrowdedDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, crowded: Arc::default() }
    }

    pub(crate) fn set_crowded(&self, crowded: bool) {
        self.crowded.store(crowded, Ordering::Relaxed);
    }

    fn file(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if path.extension().is_some_and(|extension| extension == "kwal") {
            Arc::new(CrowdedFile { file, crowded: Arc::clone(&self.crowded) })
        } else {
            file
        }
    }
}

#[derive(Debug)]
struct CrowdedFile {
    file: Arc<dyn DiskFile>,
    crowded: Arc<AtomicBool>,
}

impl DiskFile for CrowdedFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(target, offset)
    }
    fn write_at(&self, source: &[u8], offset: u64) -> io::Result<()> {
        if self.crowded.load(Ordering::Relaxed) {
            std::thread::sleep(WRITE_TIME);
        }
        self.file.write_at(source, offset)
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Disk for CrowdedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
    fn bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        self.disk.bytes(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, self.disk.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, self.disk.open(path)?))
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_read(path)
    }
    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn keplordb::disk::AppendFile>> {
        self.disk.open_append(path)
    }
    fn open_lock(&self, path: &Path) -> io::Result<Arc<dyn keplordb::disk::LockFile>> {
        self.disk.open_lock(path)
    }
    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.disk.rename(source, target)
    }
    fn link(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.disk.link(source, target)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> Result<Lock, LockError> {
        self.disk.lock(path)
    }
    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_locked(path)
    }
    fn is_copy(&self, path: &Path) -> io::Result<bool> {
        self.disk.is_copy(path)
    }
    fn map(&self, path: &Path, bytes: u64) -> io::Result<Mapping> {
        self.disk.map(path, bytes)
    }
    fn watch(&self, dir: &Path) -> io::Result<Box<dyn Watch>> {
        self.disk.watch(dir)
    }
}
