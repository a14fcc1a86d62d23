//! What keeps an export from being written: one typed error, with the file and what to do.

use std::io;
use std::path::{Path, PathBuf};

use keplordb::DbError;
use parquet::errors::ParquetError;
use thiserror::Error;

/// Everything an export can refuse or fail with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The target is there already.
    #[error(
        "{target} is there already, and an export overwrites nothing; move it away, or name another target"
    )]
    Exists {
        /// The file or directory.
        target: PathBuf,
    },
    /// An export to this target is under way, or was stopped by a kill.
    #[error(
        "{draft} is there: another export to the same target is under way, or one was stopped; in that case remove it"
    )]
    Draft {
        /// What it has written so far.
        draft: PathBuf,
    },
    /// A column that cannot have a bloom filter.
    #[error("{column:?} cannot have a bloom filter; the columns of texts are {texts}")]
    Column {
        /// Its name.
        column: String,
        /// The names of those that can.
        texts: String,
    },
    /// An export by day of a table that has a column `date` of its own.
    #[error(
        "the table's column {column:?} would be hidden by the day of each directory, which readers show as `date`; export one file, or \
         files of so many rows"
    )]
    DateColumn {
        /// Its name.
        column: String,
    },
    /// The export was asked to stop, by [`stop_if`](super::Export::stop_if).
    #[error("the export was interrupted; nothing of it is left")]
    Interrupted,
    /// The operating system refused an operation.
    #[error("{op} {file} failed: {source}; see to the file, its directory's permissions and the disk")]
    Io {
        /// The file.
        file: PathBuf,
        /// What was tried.
        op: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The table cannot be read.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A file could not be encoded or written.
    #[error("{file} could not be written as Parquet: {source}; see to the disk")]
    Parquet {
        /// The file.
        file: PathBuf,
        /// The encoder's reason.
        source: ParquetError,
    },
}

impl ExportError {
    pub(super) fn io(op: &'static str, file: &Path, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), op, source }
    }

    pub(super) fn parquet(file: &Path, source: ParquetError) -> Self {
        Self::Parquet { file: file.to_owned(), source }
    }
}
