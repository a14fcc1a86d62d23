//! What an append answers: where the event stands, or why it was not appended.

use std::io;

use crate::position::Position;

/// Where an event was appended.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use keplordb_fold::{Event, EventWriter};
/// use serde_json::json;
///
/// let mut writer = EventWriter::open(dir.path())?;
/// let first = writer.append(&Event::new("click", json!({})))?;
/// let second = writer.append(&Event::new("click", json!({})))?;
/// assert_eq!(first.start_offset, 0);
/// assert_eq!(second.start_offset, first.end_offset);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendResult {
    /// Where its line begins in `app.jsonl`, in bytes.
    pub start_offset: u64,
    /// Behind its newline: where the next one begins.
    pub end_offset: u64,
    /// [`line_hash`](crate::line_hash) of its line.
    pub line_hash: String,
}

/// The log is not as a conditional append expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendConflict {
    /// What was expected as the log's length.
    pub expected_offset: u64,
    /// What it is. If the log was just rotated: what it was before; that is the version to expect then.
    pub actual_offset: u64,
    /// What was expected as the hash of the last line.
    pub expected_hash: String,
    /// What it is, where the length is as expected or the log was just rotated.
    pub actual_hash: Option<String>,
}

/// Why a conditional append appended nothing.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use keplordb_fold::{ConditionalAppendError, Event, EventWriter};
/// use serde_json::json;
///
/// let mut writer = EventWriter::open(dir.path())?;
/// let first = writer.append_if(&Event::new("opened", json!({})), 0, "")?;
/// match writer.append_if(&Event::new("opened", json!({})), 0, "") {
///     Err(ConditionalAppendError::Conflict(conflict)) => assert_eq!(conflict.actual_offset, first.end_offset),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ConditionalAppendError {
    /// Something else was appended meanwhile.
    #[error(
        "conditional append conflict: expected offset {} (hash {:?}), actual offset {} (hash {:?})",
        .0.expected_offset, .0.expected_hash, .0.actual_offset, .0.actual_hash
    )]
    Conflict(AppendConflict),
    /// A file operation failed.
    #[error("I/O error: {0}")]
    Io(#[from] io::Error),
}

/// Why [`append_if_seq`](crate::EventWriter::append_if_seq) appended nothing.
#[derive(Debug, thiserror::Error)]
pub enum SequencedAppendError {
    /// There are more or fewer events in the log.
    #[error("{expected} events were expected in the log, and there are {actual}")]
    Conflict {
        /// How many were expected.
        expected: u64,
        /// How many there are.
        actual: u64,
    },
    /// A file operation failed.
    #[error("I/O error: {0}")]
    Io(#[from] io::Error),
}

/// What became of [`append_unique`](crate::EventWriter::append_unique).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UniqueAppend {
    /// It was appended.
    Appended(AppendResult),
    /// An event with this id is there already, and nothing was appended.
    Duplicate {
        /// Where that one begins.
        at: Position,
    },
}

/// A state of the log as a conditional append names it: where it ends, and its last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) end: Position,
    pub(crate) hash: String,
}
