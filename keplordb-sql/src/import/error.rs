//! What keeps an import from going on: one typed error, with the place and what to do.

use std::io;
use std::path::{Path, PathBuf};

use keplordb::DbError;
use thiserror::Error;

/// Everything an import can refuse or fail with. A row that cannot be taken is none of it: it is rejected, and the import goes
/// on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The operating system refused an operation.
    #[error("{op} {file} failed: {source}; see to the file, its directory's permissions and the disk")]
    Io {
        /// The file.
        file: PathBuf,
        /// What was tried.
        op: &'static str,
        /// The operating system's reason; of compressed input also the decoder's.
        source: io::Error,
    },
    /// The source is of another kind than was said.
    #[error("{file} is {found}; {remedy}")]
    Format {
        /// The source.
        file: PathBuf,
        /// What it is.
        found: String,
        /// How it can be imported.
        remedy: &'static str,
    },
    /// The source's columns do not fit the mapping.
    #[error("the columns of {file} do not fit: {what}")]
    Columns {
        /// The source.
        file: PathBuf,
        /// What is missing or doubled, and the columns that there are.
        what: String,
    },
    /// The mapping does not fit the table.
    #[error("the mapping is not legal: {what}")]
    Mapping {
        /// The rule that it breaks, with the names.
        what: String,
    },
    /// More rows were rejected than were allowed.
    #[error(
        "more than {limit} rows of {file} were rejected, the last one in line {line}: {reason}; {rejects} has all of them; mend \
         the mapping or the source and import anew, or run it again with a higher limit"
    )]
    TooManyRejects {
        /// The source.
        file: PathBuf,
        /// The file of rejected rows.
        rejects: PathBuf,
        /// How many were allowed.
        limit: u64,
        /// The line of the last one.
        line: u64,
        /// What was wrong with it.
        reason: String,
    },
    /// The source is not as it was when its import began.
    #[error(
        "{file} has changed since its import began: {what}; put it back as it was, or remove {journal} to import it as another \
         source: rows that are in the table already then come in again"
    )]
    SourceChanged {
        /// The source.
        file: PathBuf,
        /// The journal of its import.
        journal: PathBuf,
        /// What differs.
        what: String,
    },
    /// The journal cannot be gone on with.
    #[error("{journal}, line {line}: {what}")]
    Journal {
        /// The journal.
        journal: PathBuf,
        /// The line in it.
        line: u64,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A file that the import would make is there already.
    #[error(
        "{file} is there already, and belongs to no import that could go on; move it away, or name another file"
    )]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// The side file of rejected rows has lost some of them.
    #[error(
        "{file} has {found} of the {bytes} bytes in which rejected rows were reported; put it back as it was, and run the import \
         again; or move it away and begin a new one (`Import::even_if_gone`)"
    )]
    RejectsLost {
        /// The side file.
        file: PathBuf,
        /// Bytes that it has; 0 where it is not there.
        found: u64,
        /// Bytes that it had.
        bytes: u64,
    },
    /// The table refused or failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The source cannot be read as Parquet.
    #[error(
        "{file} cannot be read as Parquet at row {row}: {source}; make the file anew, or restore it from a copy"
    )]
    Parquet {
        /// The source.
        file: PathBuf,
        /// The row at which reading stopped, from 0.
        row: u64,
        /// The decoder's reason.
        source: parquet::errors::ParquetError,
    },
    /// A row of a record batch cannot be taken.
    #[error("row {row} of the record batch cannot be appended: {column}: {reason}; nothing of the batch was")]
    Row {
        /// The row, from 0.
        row: usize,
        /// The batch's column.
        column: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// The import was asked to stop, by [`stop_if`](super::Import::stop_if).
    #[error("the import was interrupted")]
    Interrupted,
    /// The import stopped after some of its rows were in the table.
    #[error(
        "{cause}; {rows} rows of {file} are in the table and stay there: run the import again to go on behind them, which \
         {journal} makes sure of"
    )]
    Stopped {
        /// The source.
        file: PathBuf,
        /// Where it says how far the import is.
        journal: PathBuf,
        /// Rows of the source that are in the table, those of earlier runs too.
        rows: u64,
        /// Why it stopped.
        cause: Box<Self>,
    },
}

impl ImportError {
    pub(super) fn io(op: &'static str, file: &Path, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), op, source }
    }
}

/// Attaches the file and the operation to an `io::Result`.
pub(super) trait At<T> {
    fn at(self, op: &'static str, file: &Path) -> Result<T, ImportError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, op: &'static str, file: &Path) -> Result<T, ImportError> {
        self.map_err(|source| ImportError::io(op, file, source))
    }
}
