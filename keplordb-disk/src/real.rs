//! `RealDisk`: the operating system's files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::directories::{Directories, create_durably};
use crate::lock::{self, TEXT_BYTES, holder_text, parse_pid};
use crate::{AppendFile, Disk, DiskFile, Entry, Lock, LockError, LockFile, Mapping, Watch, notices};

/// The operating system. Has no state: all values are the same disk.
///
/// Each method is one or two system calls, as its contract in [`Disk`] says. `sync` is `fdatasync` (`F_FULLFSYNC` on Apple
/// systems). A signal that interrupts opening, locking, reading, writing, cutting or syncing makes no error: the call is
/// repeated. Calls that change names are not interrupted by local file systems; where another one says that it was, the
/// error is passed on, because whether the name was changed is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RealDisk;

impl RealDisk {
    /// The permissions of a file, as `chmod` writes them: `0o600` lets its owner read and write. `None` where the system has none of the kind.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` where there is none.
    pub fn mode(&self, path: &Path) -> io::Result<Option<u32>> {
        Ok(mode_of(&fs::metadata(path)?))
    }

    /// Gives a file the owner and the group that another one has, where they differ: what one user makes for a program of another one
    /// would be of no use to that. Does nothing where the system has no owners of the kind.
    ///
    /// # Errors
    /// As the operating system says; `PermissionDenied` for everybody but the superuser, as a rule.
    pub fn own_like(&self, path: &Path, other: &Path) -> io::Result<()> {
        own_like(path, other)
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        create_durably(self, dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Follows symbolic links, unlike `DirEntry::metadata`.
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => entries.push(Entry { name, bytes: 0, is_dir: true }),
                Ok(metadata) => entries.push(Entry { name, bytes: metadata.len(), is_dir: false }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(ErrorKind::IsADirectory.into()),
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        private_to_owner(&mut options);
        Ok(Arc::new(RealFile { file: options.open(path)? }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile { file }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile { file: open_to_read(path)? }))
    }

    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Arc::new(RealAppendFile { file: Mutex::new(file) }))
    }

    fn open_lock(&self, path: &Path) -> io::Result<Arc<dyn LockFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealLockFile { file }))
    }

    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        fs::rename(source, target)
    }

    fn link(&self, source: &Path, target: &Path) -> io::Result<()> {
        fs::hard_link(source, target)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
    }

    #[cfg(unix)]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = File::open(dir)?;
        // Syncing a file by mistake would succeed and leave the names as they are.
        if dir.metadata()?.is_dir() { dir.sync_all() } else { Err(ErrorKind::NotADirectory.into()) }
    }

    #[cfg(not(unix))]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::metadata(dir).map(drop)
    }

    fn lock(&self, path: &Path) -> Result<Lock, LockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        private_to_owner(&mut options);
        let file = options.open(path)?;
        let mut text = [0; TEXT_BYTES];
        match lock_now(&file) {
            Ok(()) => {
                let held = Held(Arc::new(RealFile { file }));
                let file = &held.0.file;
                let read = read_most(file, &mut text, 0)?;
                let found = text.get(..read).unwrap_or_default();
                // Only a courtesy to people and to `LockError::Held`: on a full disk the lock is held without it.
                let (pid, at) = holder_text(found);
                let _ = write_all(file, &pid, at).and_then(|()| file.set_len(at + pid.len() as u64));
                let identity = identity_of(file)?;
                Ok(Lock::new(Arc::<RealFile>::clone(&held.0), found, identity, held))
            }
            Err(TryLockError::WouldBlock) => {
                let pid = read_most(&file, &mut text, 0).ok().and_then(|read| parse_pid(text.get(..read)?));
                Err(LockError::Held { pid })
            }
            Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let file = match open_to_read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        // For a moment this is a lock too: `lock_now` waits for such moments to pass.
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map(|()| false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn is_copy(&self, path: &Path) -> io::Result<bool> {
        let file = match open_to_read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(cfg!(unix)),
            file => file?,
        };
        let mut text = [0; TEXT_BYTES];
        let read = read_most(&file, &mut text, 0)?;
        Ok(lock::is_copy(text.get(..read).unwrap_or_default(), identity_of(&file)?))
    }

    fn map(&self, path: &Path, bytes: u64) -> io::Result<Mapping> {
        Mapping::of_sealed(&open_to_read(path)?, bytes)
    }

    fn watch(&self, dir: &Path) -> io::Result<Box<dyn Watch>> {
        notices::watch(dir)
    }
}

impl Directories for RealDisk {
    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(metadata.is_dir()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn make(&self, path: &Path) -> io::Result<()> {
        let builder = fs::DirBuilder::new();
        #[cfg(unix)]
        let builder = {
            use std::os::unix::fs::DirBuilderExt;
            let mut builder = builder;
            builder.mode(0o700);
            builder
        };
        builder.create(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.sync_dir(path)
    }
}

/// Takes the lock of a file or says at once why not.
fn lock_now(file: &File) -> Result<(), TryLockError> {
    match try_lock(file) {
        // Perhaps somebody only asks whether it is held, which takes microseconds.
        Err(TryLockError::WouldBlock) => {
            std::thread::sleep(Duration::from_millis(1));
            try_lock(file)
        }
        tried => tried,
    }
}

fn try_lock(file: &File) -> Result<(), TryLockError> {
    repeated(|| match file.try_lock() {
        // Unlike its sync and its truncation, the standard library's lock does not try again by itself.
        Err(TryLockError::Error(error)) => Err(error),
        locked_or_not => Ok(locked_or_not),
    })
    .map_err(TryLockError::Error)?
}

/// A lock file whose lock is held.
#[derive(Debug)]
struct Held(Arc<RealFile>);

impl Drop for Held {
    fn drop(&mut self) {
        // Closing is not enough: a process that another thread is just spawning has a copy of the descriptor until it
        // executes its program, and the lock would live as long as that.
        let _ = self.0.file.unlock();
    }
}

impl DiskFile for RealFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        read_most(&self.file, target, offset)
    }

    fn write_at(&self, source: &[u8], offset: u64) -> io::Result<()> {
        write_all(&self.file, source, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// A file in append mode. The mutex keeps another thread from moving the cursor between a write and the question where it is.
#[derive(Debug)]
struct RealAppendFile {
    file: Mutex<File>,
}

impl AppendFile for RealAppendFile {
    fn append(&self, source: &[u8]) -> io::Result<u64> {
        // No write leaves the file half changed in a way that its mutex could know of.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = source;
        let mut start = None;
        loop {
            let written = repeated(|| file.write(rest))?;
            if written == 0 && !rest.is_empty() {
                return Err(ErrorKind::WriteZero.into());
            }
            rest = rest.get(written..).unwrap_or_default();
            // In append mode a write begins at the end of the file and leaves the cursor at its own end.
            let end = if source.is_empty() { file.metadata()?.len() } else { file.stream_position()? };
            let start = *start.get_or_insert(end.saturating_sub(written as u64));
            if rest.is_empty() {
                return if end == start + source.len() as u64 { Ok(start) } else { Err(torn_apart()) };
            }
        }
    }
}

/// One write takes at most 2 GiB, and less on a full disk; between two of them another appender may come.
fn torn_apart() -> io::Error {
    io::Error::other("another appender wrote between two parts of the bytes")
}

#[derive(Debug)]
struct RealLockFile {
    file: File,
}

impl LockFile for RealLockFile {
    fn try_lock(&self) -> io::Result<bool> {
        match lock_now(&self.file) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock(&self) -> io::Result<()> {
        repeated(|| self.file.lock())
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}

impl Drop for RealLockFile {
    fn drop(&mut self) {
        // As for `Held`.
        let _ = self.file.unlock();
    }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
fn mode_of(metadata: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(metadata.permissions().mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode_of(_metadata: &fs::Metadata) -> Option<u32> {
    None
}

#[cfg(unix)]
fn own_like(path: &Path, other: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let (own, wanted) = (fs::metadata(path)?, fs::metadata(other)?);
    if (own.uid(), own.gid()) == (wanted.uid(), wanted.gid()) {
        return Ok(());
    }
    chown(path, Some(wanted.uid()), Some(wanted.gid()))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
fn own_like(_path: &Path, _other: &Path) -> io::Result<()> {
    Ok(())
}

/// A number that no copy of the file has: of its inode, and of when that was made where the file system knows, since a
/// file that is restored from a backup may well get the inode back that was freed for it.
#[cfg(unix)]
fn identity_of(file: &File) -> io::Result<Option<u64>> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    let made = metadata.created().ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    let made_ns = made.and_then(|made| u64::try_from(made.as_nanos()).ok()).unwrap_or(0);
    // The time is in the low bits, where it varies; the inode, a small number as a rule, goes into the high ones.
    Ok(Some(metadata.ino().rotate_left(32) ^ made_ns))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on unix")]
fn identity_of(_file: &File) -> io::Result<Option<u64>> {
    Ok(None)
}

/// Opens a file, and nothing else, for reading.
fn open_to_read(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    // Opening a directory for reading succeeds on unix; only its use would fail, with an error of its own each time.
    if file.metadata()?.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { Ok(file) }
}

/// Reads until `target` is full or the file ends.
fn read_most(file: &File, target: &mut [u8], offset: u64) -> io::Result<usize> {
    let (mut rest, mut offset, mut total) = (target, offset, 0);
    while !rest.is_empty() {
        let read = repeated(|| read_once(file, rest, offset))?;
        if read == 0 {
            break;
        }
        rest = rest.get_mut(read..).unwrap_or_default();
        offset += read as u64;
        total += read;
    }
    Ok(total)
}

/// Writes all of `source`, however short the single writes are.
fn write_all(file: &File, source: &[u8], offset: u64) -> io::Result<()> {
    let (mut rest, mut offset) = (source, offset);
    while !rest.is_empty() {
        let written = repeated(|| write_once(file, rest, offset))?;
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        rest = rest.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    Ok(())
}

/// Does a system call again for as long as a signal interrupts it.
fn repeated<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(unix)]
use std::os::unix::fs::FileExt;

#[cfg(unix)]
fn read_once(file: &File, target: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(target, offset)
}

#[cfg(unix)]
fn write_once(file: &File, source: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(source, offset)
}

#[cfg(unix)]
fn private_to_owner(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

// These move the file's cursor too, which nothing here uses; reading at the end is 0 bytes, as on unix.
#[cfg(windows)]
fn read_once(file: &File, target: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, target, offset)
}

#[cfg(windows)]
fn write_once(file: &File, source: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, source, offset)
}

#[cfg(not(unix))]
fn private_to_owner(_options: &mut OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_repeated_and_no_other() {
        for (kinds, calls) in [
            (&[][..], 1),
            (&[ErrorKind::Interrupted, ErrorKind::Interrupted], 3),
            (&[ErrorKind::Interrupted, ErrorKind::StorageFull, ErrorKind::Interrupted], 2),
        ] {
            let mut called = 0;
            let outcome = repeated(|| {
                called += 1;
                kinds.get(called - 1).map_or(Ok(called), |kind| Err((*kind).into()))
            });
            assert_eq!(called, calls, "{kinds:?}");
            assert_eq!(
                outcome.map_err(|error| error.kind()).is_ok(),
                !kinds.contains(&ErrorKind::StorageFull)
            );
        }
    }

    /// A process that another thread is just spawning has a copy of the descriptor until it executes its program. A
    /// duplicate is the same to the operating system, and stays for as long as the test wants.
    #[test]
    fn a_lock_ends_with_its_holder_though_a_child_has_a_copy_of_the_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("LOCK")).unwrap();
        lock_now(&file).unwrap();
        let copy_of_a_child = file.try_clone().unwrap();
        let other = File::open(dir.path().join("LOCK")).unwrap();
        assert!(matches!(lock_now(&other), Err(TryLockError::WouldBlock)));
        drop(Held(Arc::new(RealFile { file })));
        lock_now(&other).expect("nobody holds it");
        drop(copy_of_a_child);
    }
}
