//! `MemoryDisk`: files in memory, for engines that need no persistence.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use crate::directories::{Directories, create_durably};
use crate::lock::{self, holder_text, parse_pid};
use crate::names::{Change, Names, Node};
use crate::watch::Changes;
use crate::{AppendFile, Disk, DiskFile, Entry, Lock, LockError, LockFile, Mapping, Watch, contents};

/// A disk in memory. A clone is the same disk; when the last clone and the last handle are gone, so are the files.
///
/// Writing costs a copy of the bytes (and, as the file grows, an amortised second one), syncing nothing. A mapping shares
/// the file's bytes and holds no lock; if the file is written all the same, the write goes to a copy. Files are locked one
/// by one, names all together. Absolute and relative paths begin at one root; `..` and names that are not UTF-8 are
/// `InvalidInput`.
///
/// ```
/// use keplordb_disk::{Disk, MemoryDisk};
/// # fn main() -> std::io::Result<()> {
/// let disk = MemoryDisk::default();
/// let file = disk.create("events".as_ref())?;
/// file.write_at(b"hello", 0)?;
/// assert_eq!(&*disk.map("events".as_ref(), 5)?, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryDisk {
    tree: Arc<Mutex<Tree>>,
    /// Told when a lock is given back.
    unlocked: Arc<Condvar>,
    changes: Arc<Changes>,
}

#[derive(Default)]
struct Tree {
    names: Names<MemoryFile>,
    /// The number of the newest directory.
    directories: u64,
    /// Which files are locked, by their identity.
    locked: BTreeSet<u64>,
}

/// A file, shared by its names and handles.
#[derive(Clone)]
struct MemoryFile {
    /// No other file of this process has it, on whichever disk.
    identity: u64,
    /// The inner `Arc` is what mappings share.
    contents: Arc<RwLock<Arc<Vec<u8>>>>,
}

/// Identity, not equality of the bytes.
impl PartialEq for MemoryFile {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Default for MemoryFile {
    fn default() -> Self {
        static NEWEST: AtomicU64 = AtomicU64::new(0);
        Self { identity: NEWEST.fetch_add(1, Ordering::Relaxed) + 1, contents: Arc::default() }
    }
}

impl MemoryFile {
    fn shared(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.contents.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the contents in place, or a copy if a mapping shares them.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        change(Arc::make_mut(&mut self.contents.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn read<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        read(&self.contents.read().unwrap_or_else(PoisonError::into_inner))
    }
}

struct MemoryHandle {
    disk: MemoryDisk,
    file: MemoryFile,
    writable: bool,
}

/// Frees the lock of a file when dropped.
struct Held {
    disk: MemoryDisk,
    file: MemoryFile,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.disk.unlock(&self.file);
    }
}

impl MemoryDisk {
    /// No operation leaves the tree half changed, so a panic of another thread is no reason to refuse.
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, file: MemoryFile, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(MemoryHandle { disk: self.clone(), file, writable })
    }

    fn unlock(&self, file: &MemoryFile) {
        self.tree().locked.remove(&file.identity);
        self.unlocked.notify_all();
    }

    /// Tells those who watch that the bytes of a file have changed. To be called after that.
    fn note(&self, file: &MemoryFile) {
        if self.changes.are_watched() {
            self.changes.note(self.tree().names.homes(file));
        }
    }

    /// Checks a change against the names and makes it.
    fn apply(
        &self,
        change: impl FnOnce(&mut Tree) -> io::Result<Option<Change<MemoryFile>>>,
    ) -> io::Result<()> {
        let mut tree = self.tree();
        if let Some(change) = change(&mut tree)? {
            tree.names.apply(&change);
            self.changes.note(change.directories());
        }
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        create_durably(self, dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let tree = self.tree();
        let entries = tree.names.list(dir)?.map(|(name, node)| match node {
            Node::File(file) => {
                Entry { name: name.to_owned(), bytes: file.read(<[u8]>::len) as u64, is_dir: false }
            }
            Node::Directory(_) => Entry { name: name.to_owned(), bytes: 0, is_dir: true },
        });
        Ok(entries.collect())
    }

    fn bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let found = self.tree().names.find_file(path);
        match found {
            Ok(file) => Ok(Some(file.read(<[u8]>::len) as u64)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = MemoryFile::default();
        self.apply(|tree| tree.names.insert(path, Node::File(file.clone())).map(Some))?;
        Ok(self.handle(file, true))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.handle(self.tree().names.find_file(path)?, true))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.handle(self.tree().names.find_file(path)?, false))
    }

    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        let file = self.tree().names.find_file(path)?;
        Ok(Arc::new(MemoryHandle { disk: self.clone(), file, writable: true }))
    }

    fn open_lock(&self, path: &Path) -> io::Result<Arc<dyn LockFile>> {
        let file = self.tree().names.find_file(path)?;
        Ok(Arc::new(MemoryLockFile { disk: self.clone(), file, holds: AtomicBool::new(false) }))
    }

    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.apply(|tree| tree.names.rename(source, target))
    }

    fn link(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.apply(|tree| match tree.names.find(source)? {
            Node::File(file) => tree.names.insert(target, Node::File(file)).map(Some),
            Node::Directory(_) => Err(ErrorKind::PermissionDenied.into()),
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.apply(|tree| tree.names.remove(path).map(Some))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.tree().names.find_directory(dir).map(drop)
    }

    fn lock(&self, path: &Path) -> Result<Lock, LockError> {
        let mut tree = self.tree();
        let file = match tree.names.find_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = MemoryFile::default();
                let change = tree.names.insert(path, Node::File(file.clone()))?;
                tree.names.apply(&change);
                self.changes.note(change.directories());
                file
            }
            found => found?,
        };
        if !tree.locked.insert(file.identity) {
            return Err(LockError::Held { pid: file.read(parse_pid) });
        }
        let found = file.shared();
        let (pid, at) = holder_text(&found);
        file.change(|contents| {
            contents::write(contents, &pid, at)?;
            contents::resize(contents, at + pid.len() as u64)
        })?;
        self.changes.note(tree.names.homes(&file));
        let identity = Some(file.identity);
        let held = Held { disk: self.clone(), file: file.clone() };
        Ok(Lock::new(self.handle(file, true), &found, identity, held))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let tree = self.tree();
        match tree.names.find_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            found => Ok(tree.locked.contains(&found?.identity)),
        }
    }

    fn is_copy(&self, path: &Path) -> io::Result<bool> {
        match self.tree().names.find_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            found => found.map(|file| lock::is_copy(&file.shared(), Some(file.identity))),
        }
    }

    fn map(&self, path: &Path, bytes: u64) -> io::Result<Mapping> {
        let file = self.tree().names.find_file(path)?;
        Mapping::owned(file.shared()).prefix(bytes)
    }

    fn watch(&self, dir: &Path) -> io::Result<Box<dyn Watch>> {
        let directory = self.tree().names.find_directory(dir)?;
        Ok(Box::new(self.changes.watch(directory)))
    }
}

impl Directories for MemoryDisk {
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match self.tree().names.find(path) {
            Ok(node) => Ok(matches!(node, Node::Directory(_))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn make(&self, path: &Path) -> io::Result<()> {
        self.apply(|tree| {
            tree.directories += 1;
            tree.names.insert(path, Node::Directory(tree.directories)).map(Some)
        })
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.sync_dir(path)
    }
}

impl MemoryHandle {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for MemoryHandle {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.read(<[u8]>::len) as u64)
    }

    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.file.read(|contents| contents::read(contents, target, offset)))
    }

    fn write_at(&self, source: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.file.change(|contents| contents::write(contents, source, offset))?;
        self.disk.note(&self.file);
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        self.file.change(|contents| contents::resize(contents, bytes))?;
        self.disk.note(&self.file);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl AppendFile for MemoryHandle {
    fn append(&self, source: &[u8]) -> io::Result<u64> {
        let start = self.file.change(|contents| {
            let end = contents.len() as u64;
            contents::write(contents, source, end).map(|()| end)
        })?;
        self.disk.note(&self.file);
        Ok(start)
    }
}

/// A file whose lock one holder takes and gives back.
struct MemoryLockFile {
    disk: MemoryDisk,
    file: MemoryFile,
    /// Whether this handle has the lock.
    holds: AtomicBool,
}

impl LockFile for MemoryLockFile {
    fn try_lock(&self) -> io::Result<bool> {
        let taken = self.disk.tree().locked.insert(self.file.identity);
        self.holds.fetch_or(taken, Ordering::SeqCst);
        Ok(taken)
    }

    fn lock(&self) -> io::Result<()> {
        let mut tree = self.disk.tree();
        while !tree.locked.insert(self.file.identity) {
            tree = self.disk.unlocked.wait(tree).unwrap_or_else(PoisonError::into_inner);
        }
        self.holds.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn unlock(&self) -> io::Result<()> {
        if self.holds.swap(false, Ordering::SeqCst) {
            self.disk.unlock(&self.file);
        }
        Ok(())
    }
}

impl Drop for MemoryLockFile {
    fn drop(&mut self) {
        let _ = self.unlock();
    }
}

impl fmt::Debug for MemoryLockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLockFile").field("holds", &self.holds).finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk")
            .field("names", &self.tree().names.files().count())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.file.read(<[u8]>::len);
        f.debug_struct("MemoryFile")
            .field("bytes", &bytes)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}
