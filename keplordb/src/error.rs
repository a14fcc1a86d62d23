//! What can go wrong: one typed error for the whole engine.
//!
//! Ground floor: every other module names it, it names none.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_log::file::FileError;
use thiserror::Error;

/// The engine's result.
pub type Result<T, E = DbError> = std::result::Result<T, E>;

/// Everything an engine can refuse or fail with.
///
/// Each message says what happened, where, and what to do. The four kinds that callers act on are: the caller's
/// argument ([`Invalid`](Self::Invalid), [`UnknownColumn`](Self::UnknownColumn), [`GivenUp`](Self::GivenUp),
/// [`SchemaMismatch`](Self::SchemaMismatch)), the environment
/// ([`AlreadyOpen`](Self::AlreadyOpen), [`Full`](Self::Full), [`Io`](Self::Io)), damaged files
/// ([`Corrupt`](Self::Corrupt), [`Missing`](Self::Missing), [`Truncated`](Self::Truncated),
/// [`TooNew`](Self::TooNew), [`TooOld`](Self::TooOld)) and an engine that stopped writing ([`Poisoned`](Self::Poisoned)).
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum DbError {
    /// Another engine, in this or another process, has the directory open.
    #[error(
        "{dir} is already open by {}; one engine at a time may write a directory: close that one, or share it",
        holder(*pid)
    )]
    AlreadyOpen {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, where its lock file says so.
        pid: Option<u32>,
    },
    /// The directory was written with columns that do not fit the ones given.
    #[error(
        "{dir} holds another schema: {differences}; open it with the schema that wrote it, or add new columns at \
         the end of their role"
    )]
    SchemaMismatch {
        /// The directory.
        dir: PathBuf,
        /// Each column or number that differs, in words.
        differences: String,
    },
    /// Bytes that were once synced no longer have their checksum, or contradict each other.
    #[error("{file} is damaged at byte {offset}: {what}; {}", restored(file))]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file that belongs to the table is not there.
    ///
    /// A [`Reader`](crate::Reader) meets it where there is no table yet, or when it was not refreshed for longer than
    /// the engine keeps files that it has replaced ([`Options::unlink_grace`](crate::Options::unlink_grace)).
    #[error("{file} is missing; {}", found_again(file))]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A file is shorter than what is known to have been synced.
    #[error("{file} has {found_bytes} of at least {expected_bytes} bytes; {}", restored(file))]
    Truncated {
        /// The file.
        file: PathBuf,
        /// Its length, in bytes.
        found_bytes: u64,
        /// The length that was once synced, in bytes.
        expected_bytes: u64,
    },
    /// A sync failed earlier: what the operating system holds can no longer be trusted, so nothing more is written.
    #[error(
        "writing stopped after a failure: {first}; reading goes on; find the cause, then close and open the engine again"
    )]
    Poisoned {
        /// The first failure.
        first: Arc<str>,
    },
    /// The file was written by a newer release.
    #[error(
        "{file} has format version {found}, this release reads up to {max}; open it with a newer release{}",
        if_needed(file)
    )]
    TooNew {
        /// The file.
        file: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version that this release reads.
        max: u32,
    },
    /// The file was written before the format was settled, by a release that was never said to be kept readable.
    #[error(
        "{file} has format version {found}, this release reads {min} and later; export it with the release that wrote it, \
         and import it anew{}",
        if_needed(file)
    )]
    TooOld {
        /// The file.
        file: PathBuf,
        /// Its format version.
        found: u32,
        /// The oldest version that this release reads.
        min: u32,
    },
    /// No space was left; what was written of the operation has been taken back.
    #[error("no space left for {file}; free some (gc works on a full disk) and try again")]
    Full {
        /// The file that could not grow.
        file: PathBuf,
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
    /// A table has no column of this name.
    #[error("there is no column {name:?}; the columns are {columns}")]
    UnknownColumn {
        /// The name that was asked for.
        name: String,
        /// The names that the table has, in order.
        columns: String,
    },
    /// Events were dropped before a [`Tail`](crate::Tail) had given them.
    #[error(
        "up to {events} events with sequences from {first} to {last} were dropped by age or size before they were read; \
         go on behind them, and read sooner or keep events longer"
    )]
    Gap {
        /// The smallest sequence that may be among them.
        first: u64,
        /// The largest.
        last: u64,
        /// How many were dropped; fewer were missed if some had been given before.
        events: u64,
    },
    /// A query was not granted to go on, by whoever put it.
    #[error(
        "the query was given up: it was not granted to go on, for the memory of its groups or since nobody waits for it; group by \
         fewer columns, wider buckets or a narrower range of time, or grant it more"
    )]
    GivenUp,
    /// An argument is out of its legal range.
    #[error("{field} is not legal: {why}")]
    Invalid {
        /// The argument or field.
        field: String,
        /// The rule it breaks, with the values.
        why: String,
    },
}

/// What to do about a missing file, by what it is.
pub(crate) fn found_again(file: &Path) -> &'static str {
    if file.file_name().is_some_and(|name| name == "MANIFEST") {
        "open the directory with an engine and its schema, which makes a table or mends one that lost this file"
    } else if file.extension().is_some_and(|kind| kind == "kseg") {
        "a reader beside an engine refreshes and asks again; otherwise put it back, or restore the directory from a copy"
    } else {
        "put it back, or restore the directory from a copy"
    }
}

/// What to do about a damaged file. An older copy of a manifest would not know of the newer segments.
pub(crate) fn restored(file: &Path) -> &'static str {
    if file.file_name().is_some_and(|name| name == "MANIFEST") {
        "open the directory with an engine, with Quarantine (`keplor repair`) to keep this file, which makes it anew from the segments \
         and logs; an older copy of it may not know them all"
    } else {
        "restore the file from a copy"
    }
}

/// Files of some kinds may also be there without being part of the table.
fn if_needed(file: &Path) -> &'static str {
    let is_tombstones = file.file_stem().is_some_and(|name| name == "tombstones");
    if is_tombstones || file.extension().is_some_and(|kind| kind == "kseg") {
        "; `verify` says whether the table opens without it"
    } else {
        ""
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another engine".to_owned(), |pid| format!("process {pid}"))
}

impl DbError {
    /// An I/O error of `op` on `file`; a full disk becomes [`DbError::Full`].
    pub(crate) fn io(op: &'static str, file: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { file: file.to_owned() },
            _ => Self::Io { file: file.to_owned(), op, source: Arc::new(source) },
        }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, what: what.into() }
    }

    pub(crate) fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), why: why.into() }
    }
}

/// Attaches the file and the operation to an `io::Result`.
pub(crate) trait IoContext<T> {
    fn at(self, op: &'static str, file: &Path) -> Result<T>;
}

impl From<FileError> for DbError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { file, op, source } => Self::io(op, &file, source),
            FileError::Poisoned { first } => Self::Poisoned { first },
            FileError::TooLong { bytes } => {
                Self::invalid("batch", format!("{bytes} bytes do not fit a frame"))
            }
        }
    }
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, op: &'static str, file: &Path) -> Result<T> {
        self.map_err(|source| DbError::io(op, file, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_where_and_what_to_do() {
        let file = Path::new("events/wal/0000000000000001.kwal");
        let full = DbError::io("write", file, io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(
            full.to_string(),
            "no space left for events/wal/0000000000000001.kwal; free some (gc works on a full disk) and try again"
        );
        let held = DbError::AlreadyOpen { dir: "events".into(), pid: Some(7) };
        assert_eq!(
            held.to_string(),
            "events is already open by process 7; one engine at a time may write a directory: close that one, or \
             share it"
        );
        let damaged = DbError::corrupt(file, 64, "the frame's checksum does not hold");
        assert_eq!(
            damaged.to_string(),
            "events/wal/0000000000000001.kwal is damaged at byte 64: the frame's checksum does not hold; restore the \
             file from a copy"
        );
        let manifest = DbError::corrupt(Path::new("events/MANIFEST"), 30, "the checksum does not hold");
        assert_eq!(
            manifest.to_string(),
            "events/MANIFEST is damaged at byte 30: the checksum does not hold; open the directory with an engine, with Quarantine \
             (`keplor repair`) to keep this file, which makes it anew from the segments and logs; an older copy of it may not know them all"
        );
        let newer = DbError::TooNew { file: "events/MANIFEST".into(), found: 3, max: 1 };
        assert_eq!(
            newer.to_string(),
            "events/MANIFEST has format version 3, this release reads up to 1; open it with a newer release"
        );
        let older = DbError::TooOld { file: "events/MANIFEST".into(), found: 0, min: 1 };
        assert_eq!(
            older.to_string(),
            "events/MANIFEST has format version 0, this release reads 1 and later; export it with the release that wrote \
             it, and import it anew"
        );
        for unlisted in ["events/segments/0000000000000001.kseg", "events/tombstones.0000000000000001"] {
            let newer = DbError::TooNew { file: unlisted.into(), found: 3, max: 1 };
            assert_eq!(
                newer.to_string(),
                format!(
                    "{unlisted} has format version 3, this release reads up to 1; open it with a newer release; `verify` says whether \
                     the table opens without it"
                )
            );
        }
        let missing = |file: &str| DbError::Missing { file: file.into() }.to_string();
        assert_eq!(
            missing("events/wal/0000000000000001.kwal"),
            "events/wal/0000000000000001.kwal is missing; put it back, or restore the directory from a copy"
        );
        assert_eq!(
            missing("events/segments/0000000000000001.kseg"),
            "events/segments/0000000000000001.kseg is missing; a reader beside an engine refreshes and asks again; \
             otherwise put it back, or restore the directory from a copy"
        );
        assert_eq!(
            missing("events/MANIFEST"),
            "events/MANIFEST is missing; open the directory with an engine and its schema, which makes a table or \
             mends one that lost this file"
        );
        let gap = DbError::Gap { first: 7, last: 9, events: 2 };
        assert_eq!(
            gap.to_string(),
            "up to 2 events with sequences from 7 to 9 were dropped by age or size before they were read; go on behind \
             them, and read sooner or keep events longer"
        );
        assert_eq!(
            DbError::GivenUp.to_string(),
            "the query was given up: it was not granted to go on, for the memory of its groups or since nobody waits for it; group \
             by fewer columns, wider buckets or a narrower range of time, or grant it more"
        );
        let truncated = DbError::Truncated { file: file.to_owned(), found_bytes: 10, expected_bytes: 64 };
        assert_eq!(
            truncated.to_string(),
            "events/wal/0000000000000001.kwal has 10 of at least 64 bytes; restore the file from a copy"
        );
    }
}
