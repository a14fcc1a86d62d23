//! The lock of a directory: what holding it and not getting it look like, and the process id in its file.

use std::any::Any;
use std::{error, fmt, io};

/// A lock that is held; dropping it gives it back. See [`Disk::lock`](crate::Disk::lock).
#[must_use = "the lock is given back as soon as this is dropped"]
pub struct Lock {
    /// Whatever frees the lock when it is dropped.
    _guard: Box<dyn Any + Send + Sync>,
}

impl Lock {
    /// Wraps the value whose drop frees the lock: an open and locked file, for instance. For those who write a
    /// [`Disk`](crate::Disk).
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Box::new(guard) }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
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

/// What stands in the lock's file while this process holds it.
pub(crate) fn pid_text() -> String {
    format!("{}\n", std::process::id())
}

/// The process id in the first bytes of a lock's file, if that is what they are.
pub(crate) fn parse_pid(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_number_is_a_process_id() {
        assert_eq!(parse_pid(pid_text().as_bytes()), Some(std::process::id()));
        for text in [&b""[..], b"\n", b"-1\n", b"12 34\n", b"99999999999\n", b"\xff\n"] {
            assert_eq!(parse_pid(text), None, "{text:?}");
        }
    }

    #[test]
    fn messages_say_who_has_it() {
        assert_eq!(LockError::Held { pid: Some(7) }.to_string(), "the lock is held by process 7");
        assert_eq!(LockError::Held { pid: None }.to_string(), "the lock is held by another process");
        let error = LockError::from(io::Error::new(io::ErrorKind::StorageFull, "no space"));
        assert_eq!(error.to_string(), "the lock cannot be taken: no space");
    }
}
