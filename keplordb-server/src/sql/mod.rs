//! Questions about a root's tables, in SQL and in RQL, fresh to the last event that was acknowledged. It changes nothing, takes no lock,
//! and does not know who asks.
//!
//! # What a statement sees
//! One pinned root ([`pin`]): the published lake of one manifest, the log up to one sequence, read after it, and the schema that is in
//! force. A table ([`table`]) at an instant is a plan of nothing but scans, filters and projections:
//!
//! ```text
//! files of the manifest WHERE they hold at the instant AND the entity is not touched
//! UNION ALL rows of the touched entities, folded from the log
//! ```
//!
//! where an entity is touched if an event counts that the files do not know of (`lake/overlay.rs`). So an answer has every event that
//! was acknowledged before the question, also where nothing was ever published; what must be folded for that is limited, and more of
//! it is an error that says so.
//!
//! Without an instant `_current` is read, one row of each live entity. At an instant `_versions` is, of which at most one row of an
//! entity holds; so time travel folds no more than the present does.
//!
//! # Tables
//! | table | rows | at an instant |
//! |---|---|---|
//! | `_events` | the events | those that had happened, had come in, and are up to the sequence |
//! | `_current` | the live entities of all types | those that were live, in the columns that a version has: `entity_type`, `entity_id`, `state`, `version`, `updated_at`, `last_seq` |
//! | `_versions` | what every entity was, on both axes | of each entity the one that holds then, deletes too |
//! | `users`, `user` | the live entities of a type: `id`, the schema's fields, `_version`, `_updated_at`, `_seq` | those that were live |
//!
//! They are in the schema `reflog`, which need not be written. Of a type that no schema has, `state` stands in the place of fields. `id` is
//! the entity's id, also where the message has a field of that name. A field of the schema that is within a message is a field of its
//! column; a value that does not fit its column, which only an event from before the schema can have, is null there and stands in
//! `_current.state`.
//!
//! `reflog_history(type, id)`, `reflog_blame(type, id)` and `reflog_diff(type, id, a, b)` are tables too ([`functions`]).
//!
//! # Why so
//! - Instants are one filter and no operator, so that statistics and bloom filters choose pages, and any engine could run the part
//!   that reads files.
//! - The state stays text until the columns are known that a statement reads; it is parsed once per row for all of them ([`shape`]),
//!   those of its conditions too.
//! - The plan of a table is made of operators, not optimized as a statement by itself: what there is to know of it is known here, and
//!   a field may be called as any column is.
//! - RQL's conditions become expressions ([`rql::compile`]): what is about ids goes down to the files, the rest is one function over
//!   the state, because a state is text in the files and nothing that compares parts of it could skip any.

mod catalog;
mod error;
mod files;
mod functions;
mod held;
mod pin;
mod rql;
mod shape;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use keplordb_sql::{Rows, Session};

use self::catalog::Catalog;
pub use self::error::QueryError;
use self::pin::{Ended, Pinned};
pub(crate) use self::rql::Held;
pub use self::rql::{RqlAnswer, RqlEntity};
use crate::capture::Capture;
use crate::entity::LogInstant;
use crate::error::ServerError;
use crate::lake::OverlayLimits;
use crate::layout;
use crate::log::EntityLog;
use crate::schema::{Schema, Schemas};

type Result<T> = std::result::Result<T, QueryError>;

/// The name of the tables' schema in SQL.
const SCHEMA: &str = "reflog";

/// Rows that go through a plan at a time. Each has a whole state as text, and what is made of it: fewer than usual take less memory at a
/// time, and less time before somebody else has a turn.
const BATCH_ROWS: usize = 1024;

/// The limits of questions.
///
/// | limit | default | |
/// |---|---|---|
/// | `memory_bytes` | 1 GiB | of all questions together: sorts, groups, joins, rows folded from the log, entities of answers in RQL until they are given, over HTTP until they have gone out |
/// | `timeout` | 30 s | from planning to the last row; the same again to see what there is |
/// | `rows` | 1,000,000 | of an answer; more are an error |
/// | `overlay_events` | 500,000 | events behind the last publication that one question folds |
/// | `overlay_bytes` | 256 MiB | what rows folded from them may take, of each table of a question; and the events of one entity |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqlOptions {
    /// Of all questions together, for what grows with their rows.
    pub memory_bytes: usize,
    /// How long a question may take; for ever by `None`.
    pub timeout: Option<Duration>,
    /// How many rows an answer may have; any number by `None`.
    pub rows: Option<u64>,
    /// How many events behind the last publication a question folds.
    pub overlay_events: usize,
    /// How many bytes the rows of a table may take that are folded from them.
    pub overlay_bytes: usize,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            timeout: Some(Duration::from_secs(30)),
            rows: Some(1_000_000),
            overlay_events: 500_000,
            overlay_bytes: 256 << 20,
        }
    }
}

impl SqlOptions {
    /// See [`memory_bytes`](Self::memory_bytes).
    #[must_use]
    pub fn with_memory_bytes(self, memory_bytes: usize) -> Self {
        Self { memory_bytes, ..self }
    }

    /// See [`timeout`](Self::timeout).
    #[must_use]
    pub fn with_timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// See [`rows`](Self::rows).
    #[must_use]
    pub fn with_rows(self, rows: Option<u64>) -> Self {
        Self { rows, ..self }
    }

    /// See [`overlay_events`](Self::overlay_events).
    #[must_use]
    pub fn with_overlay_events(self, overlay_events: usize) -> Self {
        Self { overlay_events, ..self }
    }

    /// See [`overlay_bytes`](Self::overlay_bytes).
    #[must_use]
    pub fn with_overlay_bytes(self, overlay_bytes: usize) -> Self {
        Self { overlay_bytes, ..self }
    }

    fn overlay(&self) -> OverlayLimits {
        OverlayLimits { events: self.overlay_events, bytes: self.overlay_bytes }
    }
}

/// Questions about a root, within limits that all of them share. A handle: clones ask the same root.
///
/// ```
/// use std::sync::Arc;
///
/// use keplordb_server::rql::Query;
/// use keplordb_server::{Capture, LogInstant, Operation, Record, Sql, SqlOptions};
/// use serde_json::json;
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// let capture = Arc::new(Capture::open(dir.path())?);
/// capture.capture(Record::new("User", "user_123", Operation::Create).json(&json!({"plan": "free"}))).await?;
///
/// let sql = Sql::of(Arc::clone(&capture), SqlOptions::default())?;
/// let rows = sql.ask("SELECT id, state FROM users WHERE id = 'user_123'", LogInstant::default()).await?;
/// assert_eq!(rows.collect().await?.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
///
/// let answer = sql.rql(&Query::parse("entity:users where:(plan=free)")?, None).await?;
/// assert_eq!(answer.entities[0].state["plan"], json!("free"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sql {
    source: Source,
    session: Session,
    options: SqlOptions,
}

#[derive(Debug, Clone)]
enum Source {
    /// In the server, which writes the root.
    Own(Arc<Capture>),
    /// Beside whoever writes it.
    Beside { root: PathBuf, log: EntityLog },
}

impl Sql {
    /// Questions to a root that is open; it stays open as long as a clone of this is there.
    ///
    /// # Errors
    /// [`Sql`](QueryError::Sql) where the limits make no session.
    pub fn of(capture: Arc<Capture>, options: SqlOptions) -> Result<Self> {
        Self::new(Source::Own(capture), options)
    }

    /// Questions to a root beside its server, also while that writes. It takes no lock; each question sees what came before it.
    ///
    /// # Errors
    /// [`Server`](QueryError::Server): as [`EntityLog::beside`].
    pub fn beside(root: impl AsRef<Path>, options: SqlOptions) -> Result<Self> {
        let (root, log) = (root.as_ref().to_owned(), EntityLog::beside(root)?);
        Self::new(Source::Beside { root, log }, options)
    }

    fn new(source: Source, options: SqlOptions) -> Result<Self> {
        let mut builder = Session::builder().memory_limit_bytes(options.memory_bytes).batch_rows(BATCH_ROWS);
        if let Some(timeout) = options.timeout {
            builder = builder.timeout(timeout);
        }
        if let Some(rows) = options.rows {
            builder = builder.row_limit(rows);
        }
        Ok(Self { source, session: builder.build()?, options })
    }

    /// Answers a statement; `default` is the instant of each table that has no clause of its own. Rows are read as they are asked for,
    /// and dropping them ends the statement.
    ///
    /// # Errors
    /// [`Sql`](QueryError::Sql): as [`Session::sql`]; [`Overlay`](QueryError::Overlay) where too much was not published yet;
    /// [`Server`](QueryError::Server) and [`Refused`](QueryError::Refused) where the root cannot be read.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its timer.
    pub async fn ask(&self, statement: &str, default: LogInstant) -> Result<Rows> {
        let (session, pinned) = self.pinned_session(default).await?;
        // Where the question is given up while it is planned, so is what reads the log for it on the other thread.
        let _ended = Ended(Arc::clone(&pinned.is_ended));
        Ok(session.sql(statement).await?)
    }

    /// Waits for something no longer than a question may take.
    async fn within_time<T>(&self, answered: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(timeout) = self.options.timeout else { return answered.await };
        let too_slow = |_| QueryError::TooSlow { limit_ms: timeout.as_millis() };
        tokio::time::timeout(timeout, answered).await.map_err(too_slow)?
    }

    /// The tables at this moment: a session for one statement, or for several that see the same. Errors of its statements become
    /// [`QueryError`]s, which say what they are about.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    ///
    /// # Panics
    /// As [`ask`](Self::ask).
    pub async fn session(&self, default: LogInstant) -> Result<Session> {
        Ok(self.pinned_session(default).await?.0)
    }

    async fn pinned_session(&self, default: LogInstant) -> Result<(Session, Arc<Pinned>)> {
        let pinned = self.within_time(self.pin()).await?;
        let session = self.session.over(SCHEMA, Arc::new(Catalog::new(Arc::clone(&pinned), default)))?;
        functions::register(session.context(), &pinned, default);
        Ok((session, pinned))
    }

    /// The root at this moment.
    async fn pin(&self) -> Result<Arc<Pinned>> {
        let sql = self.clone();
        let ended = Ended::default();
        let is_ended = Arc::clone(&ended.0);
        let pinned = tokio::task::spawn_blocking(move || sql.pin_now(&is_ended)).await;
        pinned.map_err(|error| QueryError::Ended { why: error.to_string() })?.map(Arc::new)
    }

    fn pin_now(&self, is_ended: &AtomicBool) -> Result<Pinned> {
        let limits = (self.options.overlay(), self.options.timeout);
        match &self.source {
            Source::Own(capture) => {
                let newest = capture.schemas().newest().cloned();
                Pinned::new(capture.root(), capture.log(), newest, limits, is_ended)
            }
            Source::Beside { root, log } => {
                Pinned::new(root, log.clone(), newest_beside(root)?, limits, is_ended)
            }
        }
    }
}

fn newest_beside(root: &Path) -> std::result::Result<Option<Arc<Schema>>, ServerError> {
    if !layout::schemas(root).is_dir() {
        return Ok(None);
    }
    Ok(Schemas::beside(root)?.newest().cloned())
}
