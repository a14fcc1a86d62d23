//! What can go wrong with a log, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Timestamp;
use crate::file::{FileError, is_full};
use crate::frame::MAX_PAYLOAD_BYTES;

/// What every operation that may fail returns.
pub type Result<T, E = LogError> = std::result::Result<T, E>;

/// Why an operation on a log failed. Each message says what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Another writer, in this or another process, has the log.
    #[error(
        "{dir} is already being written by {}; a log has one writer at a time: close that one, or share it between threads",
        holder(*pid)
    )]
    Locked {
        /// The log's directory.
        dir: PathBuf,
        /// The process that holds it, where its lock file says so.
        pid: Option<u32>,
    },
    /// A time that is not later than that of the last entry.
    #[error(
        "an entry must be later than the last one, of {last}; give it a later time, or let the clock choose"
    )]
    NotAfter {
        /// The time of the last entry.
        last: Timestamp,
    },
    /// The last entry has the greatest time that there is, so none can follow it.
    #[error("the last entry has the greatest possible time; begin a new log")]
    TimeExhausted,
    /// An entry or a batch that no frame can hold.
    #[error("{bytes} bytes are more than the {limit_bytes} that an entry or a batch may have; split it")]
    TooLong {
        /// Its length, in bytes.
        bytes: u64,
        /// The greatest length, in bytes.
        limit_bytes: u64,
    },
    /// Bytes that were once synced no longer have their checksum, or contradict each other.
    #[error("{file} is damaged at byte {offset}: {what}; restore the file from a copy")]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file is shorter than what is known to have been synced.
    #[error("{file} has {found_bytes} of at least {expected_bytes} bytes; restore the file from a copy")]
    Truncated {
        /// The file.
        file: PathBuf,
        /// Its length, in bytes.
        found_bytes: u64,
        /// The length that was once synced, in bytes.
        expected_bytes: u64,
    },
    /// A segment between two others is not there.
    #[error("a segment of {dir} is missing before {before}; restore its file from a copy")]
    Missing {
        /// The log's directory.
        dir: PathBuf,
        /// The segment that should follow it.
        before: Timestamp,
    },
    /// Segments were removed before a reader had come to them.
    #[error(
        "the entries {}before {before} were removed before they were read; reading goes on behind them; read sooner, or \
         keep entries longer",
        after.map_or_else(String::new, |after| format!("after {after} and "))
    )]
    Gap {
        /// The last entry that was read; `None` if none was.
        after: Option<Timestamp>,
        /// The first entry that is left.
        before: Timestamp,
    },
    /// A sync failed earlier: what the operating system holds can no longer be trusted, so nothing more is written.
    #[error(
        "writing stopped after a failure: {first}; reading goes on; find the cause, then drop the writer and open another"
    )]
    Poisoned {
        /// The first failure.
        first: Arc<str>,
    },
    /// The file was written by a newer release.
    #[error(
        "{file} has format version {found}, this release reads up to {max}; open it with a newer release"
    )]
    TooNew {
        /// The file.
        file: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version that this release reads.
        max: u32,
    },
    /// No space was left; what was written of the operation has been taken back.
    #[error("no space left for {file}; free some (removing old segments helps) and try again")]
    Full {
        /// The file that could not grow.
        file: PathBuf,
    },
    /// The last segment, which a log keeps so that its times go on increasing.
    #[error(
        "the segment of {start} is the last one, which a log keeps; to be rid of all, remove the directory"
    )]
    LastSegment {
        /// The segment.
        start: Timestamp,
    },
    /// There is no such segment.
    #[error("no segment of {dir} starts at {start}; `segments()` lists those that are there")]
    NoSegment {
        /// The log's directory.
        dir: PathBuf,
        /// The time that was asked for.
        start: Timestamp,
    },
    /// An entry whose bytes are not what its type says. The reader stands behind it.
    #[error("the entry of {time} in {file} at byte {offset} cannot be decoded: {what}; read on to skip it")]
    Decode {
        /// The segment's file.
        file: PathBuf,
        /// Where the entry's frame begins in the file, in bytes.
        offset: u64,
        /// The entry's time.
        time: Timestamp,
        /// What the codec said.
        what: String,
    },
    /// A value that its codec cannot encode.
    #[error("the value cannot be encoded: {what}; nothing was written")]
    Encode {
        /// What the codec said.
        what: String,
    },
    /// A copy holds what its source does not.
    #[error(
        "{file} is no copy of its source from byte {offset} on: {what}; if the source is right, remove the copy and begin anew"
    )]
    Diverged {
        /// The file of the copy.
        file: PathBuf,
        /// Where it differs, in bytes.
        offset: u64,
        /// How it differs.
        what: String,
    },
    /// A directory that is to take a copy holds a log of its own.
    #[error("{dir} holds a log that is not kept by a replica; choose an empty directory")]
    NotAReplica {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system refused an operation.
    #[error("{op} {file} failed: {source}; see to the file and its directory's permissions and disk")]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What was tried: `open`, `write`, `sync` …
        op: &'static str,
        /// The operating system's reason.
        source: Arc<io::Error>,
    },
    /// An argument is out of its legal range.
    #[error("{field} is not legal: {why}")]
    Invalid {
        /// The argument or field.
        field: &'static str,
        /// The rule it breaks, with the values.
        why: String,
    },
}

impl LogError {
    /// An error of the operating system; a full disk is one of its own.
    pub(crate) fn io(op: &'static str, file: &Path, source: io::Error) -> Self {
        let file = file.to_owned();
        if is_full(&source) { Self::Full { file } } else { Self::Io { file, op, source: Arc::new(source) } }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, what: what.into() }
    }
}

impl From<FileError> for LogError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { file, op, source } => Self::io(op, &file, source),
            FileError::Poisoned { first } => Self::Poisoned { first },
            FileError::TooLong { bytes } => Self::TooLong { bytes, limit_bytes: MAX_PAYLOAD_BYTES.into() },
        }
    }
}

/// Says which file an error of the operating system is about.
pub(crate) trait IoContext<T> {
    /// `op` is what was tried: `open`, `write`, `sync` …
    fn at(self, op: &'static str, file: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, op: &'static str, file: &Path) -> Result<T> {
        self.map_err(|source| LogError::io(op, file, source))
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
