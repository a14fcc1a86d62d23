//! The lock of a directory: what holding it and not getting it look like, and what its file says.
//!
//! The file has two lines. The first is the *identity* of the file itself, 16 hexadecimal digits, which no copy of it can
//! have: a copied directory shows by it. The second is the holder's process id. The first line has a fixed length, so that
//! writing the second never touches its bytes; they are written by [`Lock::adopt`] alone, and synced.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::{error, fmt, io};

use crate::{Disk, DiskFile};

/// The first line of a file that nobody has adopted. No file's identity is 0.
const NOBODY: &[u8; LINE_BYTES] = b"0000000000000000\n";
/// Where the second line begins.
const LINE_BYTES: usize = 17;
/// How much of the file says something: two lines.
pub(crate) const TEXT_BYTES: usize = LINE_BYTES + 11;

/// A lock that is held; dropping it gives it back. See [`Disk::lock`](crate::Disk::lock).
#[must_use = "the lock is given back as soon as this is dropped"]
pub struct Lock {
    file: Arc<dyn DiskFile>,
    /// Of the file; `None` where the disk tells none.
    identity: Option<u64>,
    is_copy: bool,
    /// Whatever frees the lock when it is dropped.
    _guard: Box<dyn Any + Send + Sync>,
}

impl Lock {
    /// A lock that was just taken, for those who write a [`Disk`](crate::Disk): `file` is the lock's file, `found` what its
    /// first bytes were, `identity` a number that no other file has and that the file keeps while it exists (`None` where
    /// there is no such number), and `guard` the value whose drop frees the lock.
    pub fn new(
        file: Arc<dyn DiskFile>,
        found: &[u8],
        identity: Option<u64>,
        guard: impl Any + Send + Sync,
    ) -> Self {
        // 0 stands for nobody.
        let identity = identity.map(|identity| identity.max(1));
        Self { file, identity, is_copy: is_copy(found, identity), _guard: Box::new(guard) }
    }

    /// Whether the file does not carry its own identity: it is new, or a copy of another one, or nobody has
    /// [adopted](Self::adopt) it. Always `false` where the disk knows no identities.
    ///
    /// A moved file, and one in a snapshot of the whole file system, is none: only who writes the bytes into another file
    /// makes a copy.
    pub fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Writes the file's identity into it and syncs it: from now on it is no copy. The file's name must be made durable by
    /// [`sync_dir`](crate::Disk::sync_dir) as always. Where the disk knows no identities it does nothing.
    ///
    /// A crash during the call leaves a file that is a copy, or not.
    ///
    /// # Errors
    /// What writing or syncing says; the file is then a copy as before.
    pub fn adopt(&mut self) -> io::Result<()> {
        let Some(identity) = self.identity else { return Ok(()) };
        let written = self.file.write_at(&first_line(identity), 0).and_then(|()| self.file.sync());
        if written.is_err() {
            // What a failed sync left may read as written and yet not be on disk, for the next one to believe.
            let _ = self.file.write_at(NOBODY, 0);
        }
        self.is_copy = written.is_err();
        written
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("is_copy", &self.is_copy).finish_non_exhaustive()
    }
}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Somebody has it: another process, or another part of this one.
    Held {
        /// What the lock's file says is the holder's process id; `None` if that cannot be read.
        pid: Option<u32>,
    },
    /// The lock's file could not be opened, made or locked.
    Io(io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { pid: Some(pid) } => write!(f, "the lock is held by process {pid}"),
            Self::Held { pid: None } => write!(f, "the lock is held by another process"),
            Self::Io(error) => write!(f, "the lock cannot be taken: {error}"),
        }
    }
}

impl error::Error for LockError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Held { .. } => None,
            Self::Io(error) => Some(error),
        }
    }
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The process id that the file of a lock says: of who holds it, or held it last. `None` where it says none, or there is no such file.
/// Whether the lock is held at all is what [`Disk::is_locked`](crate::Disk::is_locked) tells.
///
/// # Errors
/// As [`Disk::open_read`](crate::Disk::open_read), but for `NotFound`; and as [`DiskFile::read_at`], on Windows also while the lock is held.
pub fn lock_holder(disk: &dyn Disk, path: &Path) -> io::Result<Option<u32>> {
    let file = match disk.open_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = [0; TEXT_BYTES];
    let read = file.read_at(&mut text, 0)?;
    Ok(parse_pid(text.get(..read).unwrap_or_default()))
}

/// What a holder writes into the lock's file, and where, when `found` are its first bytes; the file ends behind it.
pub(crate) fn holder_text(found: &[u8]) -> (Vec<u8>, u64) {
    let pid = format!("{}\n", std::process::id()).into_bytes();
    if is_line(found) { (pid, LINE_BYTES as u64) } else { ([NOBODY.as_slice(), &pid].concat(), 0) }
}

/// The process id in the first bytes of a lock's file, if there is one.
pub(crate) fn parse_pid(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text.get(LINE_BYTES..)?).ok()?.trim_end().parse().ok()
}

/// Whether a file with these first bytes is a copy of another one, when this is its own identity.
pub(crate) fn is_copy(found: &[u8], identity: Option<u64>) -> bool {
    identity.is_some_and(|identity| !found.starts_with(&first_line(identity.max(1))))
}

fn first_line(identity: u64) -> Vec<u8> {
    format!("{identity:016x}\n").into_bytes()
}

/// Whether these bytes begin with a first line, of whatever file.
fn is_line(text: &[u8]) -> bool {
    let line = text.get(..LINE_BYTES).and_then(|line| line.split_last());
    line.is_some_and(|(end, digits)| *end == b'\n' && digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_number_on_the_second_line_is_a_process_id() {
        let (text, at) = holder_text(b"");
        assert_eq!((at, parse_pid(&text)), (0, Some(std::process::id())));
        assert!(text.len() <= TEXT_BYTES);
        for text in [&b""[..], b"12\n", b"\n", b"-1\n", b"12 34\n", b"99999999999\n", b"\xff\n"] {
            assert_eq!(parse_pid(text), None, "{text:?}");
            assert_eq!(parse_pid(&[NOBODY, text].concat()), text.starts_with(b"12\n").then_some(12));
        }
    }

    #[test]
    fn the_holder_of_a_lock_is_read_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let disk = crate::RealDisk;
        assert_eq!(lock_holder(&disk, &path).unwrap(), None);
        let held = disk.lock(&path).unwrap();
        if cfg!(unix) {
            assert_eq!(lock_holder(&disk, &path).unwrap(), Some(std::process::id()));
        }
        drop(held);
    }

    #[test]
    fn the_first_line_is_written_anew_only_where_there_is_none() {
        let pid = format!("{}\n", std::process::id()).into_bytes();
        let whole = (format!("0000000000000000\n{}\n", std::process::id()).into_bytes(), 0);
        for found in
            [&b""[..], b"4711\n", b"00000000000000ff", b"00000000000000fg\n", &[0; 17], b"0000000000000000 7"]
        {
            assert_eq!(holder_text(found), whole, "{found:?}");
        }
        assert_eq!(holder_text(b"00000000000000ff\n123456\n"), (pid, 17));
    }

    #[test]
    fn messages_say_who_has_it() {
        assert_eq!(LockError::Held { pid: Some(7) }.to_string(), "the lock is held by process 7");
        assert_eq!(LockError::Held { pid: None }.to_string(), "the lock is held by another process");
        let error = LockError::from(io::Error::new(io::ErrorKind::StorageFull, "no space"));
        assert_eq!(error.to_string(), "the lock cannot be taken: no space");
    }
}
