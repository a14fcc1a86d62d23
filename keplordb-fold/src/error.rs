//! What can go wrong with a log and its views, and what to do about it.
//!
//! Calls return [`io::Result`], so that programs may ask an error's kind; inside is a [`FoldError`] that says more.

use std::io;
use std::path::PathBuf;

/// Why an operation on an event log or a view failed. It lies inside the [`io::Error`] that was returned:
///
/// ```
/// use keplordb_fold::FoldError;
///
/// fn reason(error: &std::io::Error) -> Option<&FoldError> {
///     error.get_ref()?.downcast_ref()
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// Another writer, in this or another process, has the log.
    #[error("another writer holds the lock of {}: close it, or share it between threads", file.display())]
    Locked {
        /// The active log.
        file: PathBuf,
    },
    /// A line that is no event.
    #[error("{} has no event in the line at byte {offset}: {why}; repair() sets such lines aside", file.display())]
    BadLine {
        /// The active log, or the archive: then `offset` counts in the text of the frame of that generation.
        file: PathBuf,
        /// Which text of the log's history: 0 was the first, each rotation begins another.
        generation: u64,
        /// Where the line begins, in bytes.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// An event whose data the type of a view's events cannot take.
    #[error("{} has an event in the line at byte {offset} that the view's type cannot take: {why}; let the type take it, or the view pass over it (skip_damaged)", file.display())]
    UnfitEvent {
        /// The active log, or the archive: then `offset` counts in the text of the frame of that generation.
        file: PathBuf,
        /// Which text of the log's history.
        generation: u64,
        /// Where the line begins, in bytes.
        offset: u64,
        /// What does not fit.
        why: String,
    },
    /// A file that contradicts itself or another one.
    #[error("{} is damaged at byte {offset}: {what}; repair() keeps what can be read and sets the rest aside", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// Events were asked for that were pruned from the archive.
    #[error("the events below number {first} were pruned; begin there, or restore what was exported")]
    Pruned {
        /// The sequence of the first event that is there.
        first: u64,
    },
    /// An archive from which history was pruned says no longer how much, and nothing else does.
    #[error("{} begins with what was pruned from it, and that is damaged: without it no event behind has a number, so repair() leaves all as it is; put back its first {bytes} bytes from a copy", file.display())]
    PrunedUnknown {
        /// The archive.
        file: PathBuf,
        /// How much of its beginning says what was pruned.
        bytes: u64,
    },
    /// A reducer called the log that it is a reducer of.
    #[error("a reducer of the log in {} calls that log, which waits for the reducer: append what follows from an event when the refresh is over", dir.display())]
    InReducer {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A view has not folded what would be pruned.
    #[error("{} is of a view that may still need what would be pruned: refresh the view, or remove that file if nobody uses it", file.display())]
    NotFolded {
        /// The view's snapshot.
        file: PathBuf,
    },
    /// A view's state cannot be read back from its file.
    #[error("{} cannot be read back as the state that was written to it, and would be all that is left of what would be pruned: write it so that it can (numbers that are not finite are not kept by JSON), refresh the view and prune again", file.display())]
    NotReadable {
        /// The view's snapshot.
        file: PathBuf,
    },
    /// A sync failed, so nobody knows what is on disk.
    #[error("a sync of {} failed: events that were not yet synced may be in it or not; open the log anew, which finds out", file.display())]
    Poisoned {
        /// The file.
        file: PathBuf,
    },
    /// A value that cannot be used.
    #[error("{what} cannot be {value:?}: {why}")]
    Invalid {
        /// What it was given for.
        what: &'static str,
        /// The value.
        value: String,
        /// Why not.
        why: &'static str,
    },
    /// A file operation failed.
    #[error("cannot {step} {}: {source}", file.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// The file.
        file: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl FoldError {
    /// The kind of the [`io::Error`] that carries it.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Locked { .. } => io::ErrorKind::AlreadyExists,
            Self::BadLine { .. }
            | Self::UnfitEvent { .. }
            | Self::Damaged { .. }
            | Self::NotReadable { .. }
            | Self::PrunedUnknown { .. } => io::ErrorKind::InvalidData,
            Self::InReducer { .. } => io::ErrorKind::Deadlock,
            Self::Pruned { .. } => io::ErrorKind::NotFound,
            Self::Poisoned { .. } => io::ErrorKind::Other,
            Self::Invalid { .. } | Self::NotFolded { .. } => io::ErrorKind::InvalidInput,
            Self::Io { source, .. } => source.kind(),
        }
    }
}

impl From<FoldError> for io::Error {
    fn from(error: FoldError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Names the step and the file of a failed operation.
pub(crate) fn at(step: &'static str, file: &std::path::Path) -> impl FnOnce(io::Error) -> io::Error {
    let file = file.to_owned();
    move |source| FoldError::Io { step, file, source }.into()
}
