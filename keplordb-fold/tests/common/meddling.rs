//! A disk on which others are at work: something happens before each append and each truncation, and locks may not be there.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use keplordb_fold::disk::{
    AppendFile, Disk, DiskFile, Entry, Lock, LockError, LockFile, Mapping, MemoryDisk, Watch,
};

type Hook = Arc<dyn Fn(&MemoryDisk) + Send + Sync>;

/// The disk; a clone is the same one.
#[derive(Clone)]
pub(crate) struct MeddlingDisk {
    disk: MemoryDisk,
    before_append: Hook,
    before_create: Hook,
    has_locks: bool,
}

impl MeddlingDisk {
    pub(crate) fn new() -> Self {
        let disk = MemoryDisk::default();
        Self { disk, before_append: Arc::new(|_| {}), before_create: Arc::new(|_| {}), has_locks: true }
    }

    /// As a file system that has no locks.
    pub(crate) fn without_locks(self) -> Self {
        Self { has_locks: false, ..self }
    }

    /// Before bytes are appended to a file.
    pub(crate) fn before_append(self, hook: impl Fn(&MemoryDisk) + Send + Sync + 'static) -> Self {
        Self { before_append: Arc::new(hook), ..self }
    }

    /// Before a file is made.
    pub(crate) fn before_create(self, hook: impl Fn(&MemoryDisk) + Send + Sync + 'static) -> Self {
        Self { before_create: Arc::new(hook), ..self }
    }
}

impl fmt::Debug for MeddlingDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeddlingDisk").finish_non_exhaustive()
    }
}

struct Appender {
    file: Arc<dyn AppendFile>,
    disk: MeddlingDisk,
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl AppendFile for Appender {
    fn append(&self, source: &[u8]) -> io::Result<u64> {
        (self.disk.before_append)(&self.disk.disk);
        self.file.append(source)
    }
}

/// The lock of a file system that has none.
#[derive(Debug)]
struct NoLock;

impl LockFile for NoLock {
    fn try_lock(&self) -> io::Result<bool> {
        Err(ErrorKind::Unsupported.into())
    }
    fn lock(&self) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
    fn unlock(&self) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }
}

impl Disk for MeddlingDisk {
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
        (self.before_create)(&self.disk);
        self.disk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path)
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_read(path)
    }
    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        Ok(Arc::new(Appender { file: self.disk.open_append(path)?, disk: self.clone() }))
    }
    fn open_lock(&self, path: &Path) -> io::Result<Arc<dyn LockFile>> {
        if self.has_locks { self.disk.open_lock(path) } else { Ok(Arc::new(NoLock)) }
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
