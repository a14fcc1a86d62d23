//! A simulated disk that calls back when files are opened and read: to change what is read, or to do something in between.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk, DiskFile, Entry, Lock, LockError, Mapping, SimDisk, Watch};

type OnOpen = Arc<dyn Fn(&Path) + Send + Sync>;
type OnRead = Arc<dyn Fn(&Path, &mut [u8], u64) + Send + Sync>;

/// The disk.
#[derive(Clone)]
pub(crate) struct HookedDisk {
    disk: SimDisk,
    on_open: OnOpen,
    on_read: OnRead,
}

#[allow(dead_code, reason = "each test file uses a part of it")]
impl HookedDisk {
    pub(crate) fn new(disk: SimDisk) -> Self {
        Self { disk, on_open: Arc::new(|_| {}), on_read: Arc::new(|_, _, _| {}) }
    }

    /// Before a file is opened to be read.
    pub(crate) fn on_open(self, hook: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        Self { on_open: Arc::new(hook), ..self }
    }

    /// With what was read, and from where, before the reader sees it.
    pub(crate) fn on_read(self, hook: impl Fn(&Path, &mut [u8], u64) + Send + Sync + 'static) -> Self {
        Self { on_read: Arc::new(hook), ..self }
    }
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedDisk").finish_non_exhaustive()
    }
}

struct HookedFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    on_read: OnRead,
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DiskFile for HookedFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(target, offset)?;
        (self.on_read)(&self.path, &mut target[..read], offset);
        Ok(read)
    }
    fn write_at(&self, source: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(source, offset)
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Disk for HookedDisk {
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
        self.disk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path)
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        (self.on_open)(path);
        let (file, on_read) = (self.disk.open_read(path)?, Arc::clone(&self.on_read));
        Ok(Arc::new(HookedFile { file, path: path.to_owned(), on_read }))
    }
    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn keplordb_disk::AppendFile>> {
        self.disk.open_append(path)
    }
    fn open_lock(&self, path: &Path) -> io::Result<Arc<dyn keplordb_disk::LockFile>> {
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
