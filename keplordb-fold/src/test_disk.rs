//! A disk for tests that does something before each question that a reader asks it, and may fail writes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{
    AppendFile, Disk, DiskFile, Entry, Lock, LockError, LockFile, Mapping, MemoryDisk, Watch,
};

type Hook = Arc<dyn Fn(&Path) + Send + Sync>;

/// Of a file and the bytes to be written: `None` if that succeeds, else whether they are written all the same.
type Failure = Arc<dyn Fn(&Path, &[u8]) -> Option<bool> + Send + Sync>;

/// Calls the hook with the file's path before each look for a length, each opening and each read.
#[derive(Clone)]
pub(crate) struct HookedDisk {
    disk: MemoryDisk,
    hook: Hook,
    failure: Failure,
}

impl HookedDisk {
    pub(crate) fn new(disk: MemoryDisk, hook: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        Self { disk, hook: Arc::new(hook), failure: Arc::new(|_, _| None) }
    }

    /// The same, where writes of opened files fail of which this says so.
    pub(crate) fn failing_writes(
        self,
        failure: impl Fn(&Path, &[u8]) -> Option<bool> + Send + Sync + 'static,
    ) -> Self {
        Self { failure: Arc::new(failure), ..self }
    }

    fn hooked(&self, file: Arc<dyn DiskFile>, path: &Path) -> Arc<dyn DiskFile> {
        let (hook, failure) = (Arc::clone(&self.hook), Arc::clone(&self.failure));
        Arc::new(HookedFile { file, path: path.to_owned(), hook, failure })
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
    hook: Hook,
    failure: Failure,
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DiskFile for HookedFile {
    fn bytes(&self) -> io::Result<u64> {
        (self.hook)(&self.path);
        self.file.bytes()
    }
    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.hook)(&self.path);
        self.file.read_at(target, offset)
    }
    fn write_at(&self, source: &[u8], offset: u64) -> io::Result<()> {
        let Some(is_written) = (self.failure)(&self.path, source) else {
            return self.file.write_at(source, offset);
        };
        if is_written {
            self.file.write_at(source, offset)?;
        }
        Err(io::Error::other("the test says so"))
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
        (self.hook)(path);
        self.disk.bytes(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.hooked(self.disk.open(path)?, path))
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        (self.hook)(path);
        Ok(self.hooked(self.disk.open_read(path)?, path))
    }
    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        self.disk.open_append(path)
    }
    fn open_lock(&self, path: &Path) -> io::Result<Arc<dyn LockFile>> {
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
