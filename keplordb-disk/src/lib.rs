//! The one seam between `KeplorDB` and a disk: what the engine may ask of files, and what "durable" means.
//!
//! Every file operation of the workspace goes through two traits, [`Disk`] and [`DiskFile`]. Three disks implement them:
//!
//! | disk | for | a crash |
//! |---|---|---|
//! | [`RealDisk`] | production: the operating system | keeps what was synced |
//! | [`MemoryDisk`] | engines that need no persistence | loses everything |
//! | `SimDisk` (feature `sim`) | tests: counts and fails operations, cuts the power | keeps what was synced, and any part of the rest |
//!
//! # Words
//! - **Written**: the operating system has the bytes. They survive a killed process, not a power cut.
//! - **Durable**: they survive a power cut. Bytes of a file become durable by [`DiskFile::sync`], names (of new, renamed,
//!   linked, removed files) by [`Disk::sync_dir`] of the directory that holds them. Neither implies the other: a synced
//!   file whose name is not durable cannot be found after a power cut.
//! - **Sealed**: a file that nobody will write or cut again. Only sealed files may be [mapped](Disk::map).
//!
//! # What every caller must know
//! - **A failed sync is final.** After it the operating system may count the pages as clean though the disk does not hold
//!   them; a second sync then succeeds and proves nothing. The only right answer is to stop writing and reopen.
//! - **A failed write may have written a prefix.** The caller cuts the file back to where it knows it was good.
//! - **Sectors are not atomic.** A power cut may leave any part of an unsynced write: old bytes, new bytes, zeros, garbage.
//!   What is assumed of the hardware is that bytes *outside* the range of a write stay as they were (powersafe overwrite).
//! - **An interrupted call is repeated** by the disk where that is safe: reading, writing, cutting, syncing, locking. One that
//!   comes through all the same (`Interrupted`), as it may for a change of names, is an error like any other.
//! - **Errors carry no path**: the caller, who knows the step it was at, adds it.
//!
//! # Example
//! The atomic replace of a small file, and reading it back:
//! ```
//! use keplordb_disk::{Disk, MemoryDisk, read_all, replace};
//! use std::path::Path;
//!
//! # fn main() -> std::io::Result<()> {
//! let disk = MemoryDisk::default();
//! disk.create_dir(Path::new("store"))?;
//! replace(&disk, Path::new("store/MANIFEST"), b"version 1")?;
//! replace(&disk, Path::new("store/MANIFEST"), b"version 2")?;
//! assert_eq!(read_all(&disk, Path::new("store/MANIFEST"), 1024)?, b"version 2");
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::indexing_slicing)]

mod contents;
mod directories;
mod lock;
mod mapping;
mod memory;
mod names;
mod notices;
mod real;
#[cfg(feature = "sim")]
pub mod sim;
mod watch;
mod whole;

pub use lock::{Lock, LockError, lock_holder};
pub use mapping::Mapping;
pub use memory::MemoryDisk;
pub use real::RealDisk;
#[cfg(feature = "sim")]
pub use sim::SimDisk;
pub use watch::Watch;
pub use whole::{put_in_place, read_all, replace};

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// All that may be asked of a disk. One value serves a whole engine: any number of threads call it at once, and no call
/// waits for another on a different file.
///
/// Paths are taken as they come; nothing here resolves `..` or refuses symbolic links, so names that come from users must
/// be checked before they become paths.
///
/// "Durable after [`sync_dir`](Disk::sync_dir)" below means: after `sync_dir` of the directory that holds the name (for a
/// rename, the target's directory). Until then a power cut leaves either the state before or the state after, and of
/// several such changes possibly a later one without an earlier one on another name.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes the directory and its missing parents (mode 0700 on unix), and syncs each directory that gained a name.
    ///
    /// On return the directory is there and durable, also if an earlier process made it and died before its sync: the
    /// parent of the first ancestor that existed is synced too, where the process may. A crash leaves some prefix of the
    /// path. Cost: two system calls and one directory sync a missing level, one directory sync if all exist.
    ///
    /// # Errors
    /// `AlreadyExists` if a file is in the way, else what the operating system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// What is in a directory, sorted by name (byte order), without `.` and `..`.
    ///
    /// A name that is not UTF-8 is skipped: nothing of ours is named so, and a lossy name could not be opened. So is an
    /// entry that vanishes during the call. Symbolic links are followed. Cost: one `stat` an entry.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or what the operating system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// The length of the file, or `None` if nothing has that name.
    ///
    /// # Errors
    /// `IsADirectory` for a directory, else what the operating system says.
    fn bytes(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Makes a new, empty file (mode 0600 on unix) and opens it for reading and writing. The name is durable after
    /// [`sync_dir`](Disk::sync_dir).
    ///
    /// # Errors
    /// `AlreadyExists` if anything has that name; the file is then untouched. `NotFound` if the directory is missing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `PermissionDenied`, or what the operating system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading; writing through the handle is an error.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `PermissionDenied`, or what the operating system says.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for appending: each [`append`](AppendFile::append) puts its bytes behind all that is there,
    /// whoever wrote that.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `PermissionDenied`, or what the operating system says.
    fn open_append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>>;

    /// Opens an existing file to take its lock, which touches none of its bytes: for files that have other readers, and for
    /// locks that are waited for. It is the same lock as that of [`lock`](Disk::lock), as long as it is the same file.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `PermissionDenied`, or what the operating system says.
    fn open_lock(&self, path: &Path) -> io::Result<Arc<dyn LockFile>>;

    /// Gives a file the name `target`, replacing what had it. Atomic: at any moment, and after a crash, `target` is the
    /// old file or the new one. Durable after [`sync_dir`](Disk::sync_dir). The bytes of the file must have been synced
    /// *before*, or a power cut may leave the new name with old, partial or no contents. If both names already are the
    /// same file, nothing happens and both stay.
    ///
    /// A directory may be renamed too; then `target` must not exist, and in no case may it be a directory above `source`.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, or what the operating system says; both names are then as they were.
    fn rename(&self, source: &Path, target: &Path) -> io::Result<()>;

    /// Gives a file a second name (hard link). Durable after [`sync_dir`](Disk::sync_dir).
    ///
    /// # Errors
    /// `AlreadyExists` if anything has the target's name, `NotFound`; `PermissionDenied` for directories;
    /// `Unsupported` or `CrossesDevices` where the file system cannot: the caller then copies.
    fn link(&self, source: &Path, target: &Path) -> io::Result<()>;

    /// Removes a file's name, or an empty directory. Open handles and mappings of the file keep working. Durable after
    /// [`sync_dir`](Disk::sync_dir): until then a power cut may bring the file back.
    ///
    /// # Errors
    /// `NotFound`, `DirectoryNotEmpty`, or what the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes durable every name that was made, renamed, linked or removed in this directory before the call. It says
    /// nothing about the bytes of those files. Where the operating system has no such call (Windows), it does nothing.
    ///
    /// # Errors
    /// As [`DiskFile::sync`]: after an error the state of these names on the disk is unknown, and trying again proves nothing.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the lock that this file stands for, making the file if it is missing, and writes the process id into it for
    /// people and for [`LockError::Held`]. Exclusive among processes *and* within this one; never waits.
    ///
    /// The file also tells whether it is a copy of another one: [`Lock::is_copy`]. Bytes in which it says so are not
    /// touched here, only by [`Lock::adopt`].
    ///
    /// The lock ends when the [`Lock`] is dropped or the process dies; the file stays. Failing to write the process id
    /// (a full disk) is no error: the lock is held all the same. Not to be relied upon over NFS.
    ///
    /// # Errors
    /// [`LockError::Held`] if somebody has it, [`LockError::Io`] otherwise.
    fn lock(&self, path: &Path) -> Result<Lock, LockError>;

    /// Whether somebody holds the lock that this file stands for; `false` too where there is no such file. Makes and writes
    /// nothing, so it serves those who only look; the answer may be old when it arrives.
    ///
    /// # Errors
    /// As [`open_read`](Disk::open_read), but for `NotFound`.
    fn is_locked(&self, path: &Path) -> io::Result<bool>;

    /// Whether a lock that were taken now would be a [copy](Lock::is_copy); where there is no such file, whether its lock would
    /// then tell a copy at all. Makes and writes nothing, so it serves those who only look.
    ///
    /// A disk that knows no identities need not say anything else than this does; one that passes calls on to another passes on this, or
    /// `verify_dir` calls honest copies broken.
    ///
    /// # Errors
    /// As [`open_read`](Disk::open_read), but for `NotFound`.
    fn is_copy(&self, path: &Path) -> io::Result<bool> {
        let _ = path;
        Ok(false)
    }

    /// The first `bytes` bytes of a **sealed** file, as a slice that needs no further call to read.
    ///
    /// The file may be removed or replaced by [`rename`](Disk::rename) meanwhile; the mapping keeps the old file alive.
    /// It must not be written or cut, by this process or another: on [`RealDisk`] the slice would change, or reading it
    /// would end the process with `SIGBUS`; so would a sector that the device cannot read. Hence two rules:
    /// checksums are verified with [`DiskFile::read_at`] before a mapping is used, because there a bad sector is an
    /// error; and nothing read through a mapping is trusted for memory safety, not even after it was verified.
    /// Who cannot keep other processes away reads into memory instead ([`read_all`] and [`Mapping::owned`]).
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter than `bytes`; `OutOfMemory` if the addresses do not suffice; else as
    /// [`open_read`](Disk::open_read).
    fn map(&self, path: &Path, bytes: u64) -> io::Result<Mapping>;

    /// Begins to notice changes in a directory, not in those below it: names, and bytes of the files. What is noticed, and
    /// how to use it without missing anything, is said at [`Watch`].
    ///
    /// Cost on [`RealDisk`]; no thread anywhere:
    ///
    /// | system | how | cost |
    /// |---|---|---|
    /// | Linux, Android | inotify | one queue, of which a user may have a limited number (often 128); while waiting nothing |
    /// | macOS, iOS, BSDs | kqueue | 2 open files, and one more for each of the 16 files that were changed last. If there are more files, a listing each second of a wait, so a change of an old file is noticed a second late at most. After names have changed, two listings. A removed file's space is free when the watch is next waited on, or dropped |
    /// | others, Windows among them, and where the above has run out | looking | a listing 50 times a second of a wait, less often where that would take more than a twentieth of a processor's time |
    ///
    /// On Windows a file's time is certain only when all who write to it have closed it, so a wait on a directory with a file in
    /// it tells of a change after 20 ms at most, whether there was one or not; the system's own notices of a directory have the same
    /// weakness. What other machines change on a network file system is noticed only by looking, so not on Linux.
    ///
    /// Tested on Linux, looking too. What holds files open for kqueue is tested there by a stand-in made of inotify; the calls
    /// of kqueue itself are compiled for macOS, iOS, FreeBSD and NetBSD, and were not run. So is the code for Windows.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or what the operating system says.
    fn watch(&self, dir: &Path) -> io::Result<Box<dyn Watch>>;
}

/// An open file. Any number of threads may call it at once.
///
/// Reads and writes say where, so there is no cursor to share. Two writes to overlapping ranges, or a read during a write
/// of the same range, may see either bytes: the caller orders them. Dropping the last handle closes the file and syncs
/// nothing.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// The present length.
    ///
    /// # Errors
    /// What the operating system says.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads into `target` from `offset` and returns how many bytes it read: fewer than `target` holds only at the end of
    /// the file, 0 at or behind it.
    ///
    /// # Errors
    /// What the operating system says, a bad sector for instance; `target` then holds anything.
    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `source` at `offset`; a gap behind the old end reads as zeros. Written, not durable.
    ///
    /// # Errors
    /// `StorageFull` or what the operating system says; any prefix of `source` may then have been written.
    fn write_at(&self, source: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file to `bytes`, or lengthens it with zeros. Durable after [`sync`](DiskFile::sync); until then a power
    /// cut may leave the old length, or lose it and keep later writes.
    ///
    /// # Errors
    /// What the operating system says; the length is then unknown.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Makes durable all bytes of this file that were written before the call began, through any handle, and the length
    /// needed to read them (`fdatasync`). A write that runs at the same time may or may not be included, so who waits for
    /// durability must begin its sync after its write returned.
    ///
    /// # Errors
    /// What the operating system says. The bytes may be lost and **another sync would not notice**: see the crate's page.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is open for appending, made by [`Disk::open_append`]. Any number of threads may call it at once.
pub trait AppendFile: fmt::Debug + Send + Sync {
    /// Writes all of `source` at the end of the file and returns the offset at which it begins there. Written, not durable:
    /// a [`sync`](DiskFile::sync) through any handle of the file makes it so.
    ///
    /// No other appender's bytes are overwritten, and none come between these, be they of this handle, another one or another
    /// process (not over NFS). Who writes at offsets or cuts the file meanwhile must be kept away by other means.
    /// Cost on [`RealDisk`]: two system calls.
    ///
    /// # Errors
    /// `StorageFull` or what the operating system says; any prefix of `source` may then be at the end of the file.
    fn append(&self, source: &[u8]) -> io::Result<u64>;
}

/// A file whose lock may be taken again and again, made by [`Disk::open_lock`]. The lock is exclusive among these handles, in
/// this and in all processes. It ends when the handle is dropped or the process dies.
///
/// A handle is for one holder at a time: what it answers to one that has the lock already is not said. On Windows nobody else
/// can read or write the file meanwhile; elsewhere the lock hinders only those who ask for it. Not to be relied upon over NFS.
pub trait LockFile: fmt::Debug + Send + Sync {
    /// Takes the lock, or returns `false` at once if somebody else has it.
    ///
    /// # Errors
    /// `Unsupported` where the file system has no locks, or what the operating system says.
    fn try_lock(&self) -> io::Result<bool>;

    /// Waits for the lock and takes it. Who waits longest need not be the next.
    ///
    /// # Errors
    /// As [`try_lock`](Self::try_lock).
    fn lock(&self) -> io::Result<()>;

    /// Gives the lock back.
    ///
    /// # Errors
    /// What the operating system says; dropping the handle gives it back all the same.
    fn unlock(&self) -> io::Result<()>;
}

/// One name in a directory, as [`Disk::list`] returns it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The name within its directory.
    pub name: String,
    /// Length of the file; 0 for a directory.
    pub bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
