//! What keeps the server from starting, and why a record is not captured.

use std::io;
use std::path::PathBuf;

use keplordb::DbError;
use thiserror::Error;

/// Why a server cannot start or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The operating system refused an operation.
    #[error("{op} {file} failed: {source}; see to the file, its directory's permissions and the disk")]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What was tried.
        op: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error(
        "{address} cannot be listened on: {source}; another server may run there, choose another address"
    )]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Others than this machine can reach the address, and something that keeps them out is missing.
    #[error(
        "{address} can be reached from other machines, and {missing}; or listen on 127.0.0.1 or ::1, which only this machine can reach"
    )]
    NotLoopback {
        /// The address.
        address: std::net::SocketAddr,
        /// What is missing, and how it is made.
        missing: &'static str,
    },
    /// A file of keys cannot be used, or a key not be made.
    #[error("the keys in {file}: {what}")]
    Keys {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A certificate or its private key cannot be used.
    #[error("{file} cannot be used for TLS: {what}")]
    Tls {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// A name by which the server is to be asked for is none.
    #[error("{host:?} is no name of a host; write it without a scheme and a path: events.example.org")]
    Host {
        /// What was given.
        host: String,
    },
    /// The custom schema is not one.
    #[error("{file} is no schema: {what}")]
    Schema {
        /// The file; of one that was pushed, its name.
        file: PathBuf,
        /// What is wrong with it, where, and what to do.
        what: String,
    },
    /// A directory is no server's.
    #[error("{dir} is no root of a server: it has no _meta; `keplor serve` makes one")]
    NoRoot {
        /// The directory.
        dir: PathBuf,
    },
    /// A copy is to be made where something is.
    #[error(
        "{dir} is not empty, and a copy wants a directory of its own: give one that is empty or not there; nothing was written"
    )]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// A file of the lake is not as it should be.
    #[error("{file}: {what}")]
    Lake {
        /// The file or directory.
        file: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// Where the lake is to be, something else is.
    #[error(
        "{path} is not what a server makes: {what}; move it elsewhere, it is neither changed nor removed"
    )]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// What it is, and what it should be.
        what: String,
    },
    /// Events are no longer in the log, from which rows would have to be made anew.
    #[error(
        "{what}: events were dropped from the log or lost, and rows that are made anew without them would be wrong; what is published \
         stays as it is. Bring back from a copy what is missing, of the log or of the published files; or `keplor backup` and `restore` \
         make a root of the events that are there"
    )]
    Dropped {
        /// What would have to be made anew, and which events are missing.
        what: String,
    },
    /// Publishing was stopped, because the server stops.
    #[error("publishing was stopped before it was done; the next time goes on from what is published")]
    Stopping,
    /// A file of the lake cannot be written or read as Parquet.
    #[error("{file} is no sound Parquet: {source}; a replay makes the files anew from the log")]
    Parquet {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: parquet::errors::ParquetError,
    },
    /// An event of the log cannot be made a row.
    #[error("event {sequence} of the log cannot be read: {what}; verify the log, or restore it")]
    Event {
        /// The event.
        sequence: u64,
        /// What is wrong with it.
        what: String,
    },
    /// What answers questions cannot be made.
    #[error("questions cannot be answered: {what}")]
    Questions {
        /// Why.
        what: String,
    },
    /// The thread that writes cannot be started.
    #[error("the thread that writes cannot be started: {source}; see to the limits of processes and memory")]
    Thread {
        /// The operating system's reason.
        source: io::Error,
    },
    /// The log of events refused or failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Why a record is not captured; nothing of it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// A field has what it may not have.
    #[error("{field}: {what}")]
    Invalid {
        /// The field of the record.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The entity has another version than was expected.
    #[error("the entity has {found} events, {expected} were expected; read it again and decide anew")]
    Version {
        /// What the record said.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// An event with this id is there, and is another one.
    #[error("an event with the id {id} is there for another entity; give each event an id of its own")]
    IdTaken {
        /// The id.
        id: String,
    },
    /// More records wait than may wait.
    #[error("as much waits to be written as may wait, {waiting} bytes; try again a little later")]
    Busy {
        /// How many bytes may wait.
        waiting: usize,
    },
    /// More follow the log than may follow it.
    #[error(
        "{most} subscribers follow the log already, which is as many as may; end one, or try again later"
    )]
    Subscribers {
        /// How many may.
        most: usize,
    },
    /// The key is for fewer requests a second.
    #[error(
        "the key of {name} may ask {rate} times a second; ask again in {wait_ms} ms, or send more in one batch"
    )]
    TooOften {
        /// Whose key it is.
        name: String,
        /// How many requests a second.
        rate: u32,
        /// When it may ask again.
        wait_ms: u64,
    },
    /// The key is not for this, or is none any more.
    #[error("{what}")]
    Denied {
        /// What it is for, and what to do.
        what: String,
    },
    /// There is no room on the disk.
    #[error("the disk is full: {what}")]
    Full {
        /// The file, and what to do.
        what: String,
    },
    /// Of records that are captured all or none, one is refused.
    #[error("record {index}: {refused}; none of the batch was captured")]
    InBatch {
        /// Its place among them, from 0.
        index: usize,
        /// Why.
        refused: Box<Refused>,
    },
    /// The server is stopping.
    #[error("the server is stopping; send it again to the one that takes its place")]
    Stopping,
    /// The log cannot be written any more.
    #[error("the log cannot be written: {what}")]
    Failed {
        /// The file, the reason and what to do.
        what: String,
    },
}

/// What a record's capture comes to.
pub(crate) type Result<T> = std::result::Result<T, Refused>;

impl Refused {
    pub(crate) fn invalid(field: &'static str, what: impl Into<String>) -> Self {
        Self::Invalid { field, what: what.into() }
    }

    pub(crate) fn in_batch(self, index: usize) -> Self {
        Self::InBatch { index, refused: Box::new(self) }
    }

    /// Whether it is the record that is wrong, so that another one may well be captured, and not the log, its disk or the server.
    pub fn is_of_record(&self) -> bool {
        matches!(self.reason(), Self::Invalid { .. } | Self::Version { .. } | Self::IdTaken { .. })
    }

    /// As one is told who has no key: without the names of files.
    pub(crate) fn for_anybody(self) -> Self {
        const WHAT: &str = "the server's log says why";
        match self {
            Self::Full { .. } => Self::Full { what: WHAT.to_owned() },
            Self::Failed { .. } => Self::Failed { what: WHAT.to_owned() },
            other => other,
        }
    }

    /// Why, of the record that is meant.
    pub fn reason(&self) -> &Self {
        match self {
            Self::InBatch { refused, .. } => refused.reason(),
            reason => reason,
        }
    }
}

impl From<&DbError> for Refused {
    fn from(error: &DbError) -> Self {
        let what = error.to_string();
        match error {
            DbError::Full { .. } => Self::Full { what },
            DbError::Invalid { .. } => Self::Invalid { field: "record", what },
            _ => Self::Failed { what },
        }
    }
}
