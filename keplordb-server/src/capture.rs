//! An open root: its directory, the way in, and what is known of its entities.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use keplordb::Store;

use crate::error::{Refused, Result, ServerError};
use crate::ingest::{Ingest, Receipt};
use crate::layout;
use crate::log::EntityLog;
use crate::record::{Event, Record};
use crate::schema::Schemas;

/// An open root: what captures events and knows what there is.
#[derive(Debug)]
pub struct Capture {
    root: PathBuf,
    store: Arc<Store<Event>>,
    ingest: Option<Ingest>,
    writer: Option<JoinHandle<()>>,
    schemas: RwLock<Schemas>,
}

impl Capture {
    /// Opens a root, or makes it. A second server on it is refused.
    ///
    /// # Errors
    /// [`Db`](ServerError::Db) when it is open already or damaged; [`Schema`](ServerError::Schema) and [`Io`](ServerError::Io) for what is in
    /// `_meta`.
    pub fn open(root: impl AsRef<Path>) -> std::result::Result<Self, ServerError> {
        let root = root.as_ref().to_owned();
        let schemas_dir = layout::schemas(&root);
        std::fs::create_dir_all(&schemas_dir).map_err(|source| ServerError::Io {
            file: schemas_dir.clone(),
            op: "creating",
            source,
        })?;
        // The engine's lock is the server's: whoever has it may write to `_meta`.
        let store = Arc::new(Store::open(layout::segments(&root))?);
        let schemas = RwLock::new(Schemas::load(&schemas_dir)?);
        let (ingest, writer) = Ingest::start(Arc::clone(&store))?;
        Ok(Self { root, store, ingest: Some(ingest), writer: Some(writer), schemas })
    }

    /// Takes a file as the newest version of the schema, unless it is that already; gives its number.
    ///
    /// # Errors
    /// [`Schema`](ServerError::Schema) says what is wrong with it, or what it would break.
    pub fn push_schema(&self, file: &Path) -> std::result::Result<u32, ServerError> {
        let text = std::fs::read_to_string(file).map_err(|source| ServerError::Io {
            file: file.to_owned(),
            op: "reading",
            source,
        })?;
        let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        Ok(schemas.push(&layout::schemas(&self.root), file, &text)?.version())
    }

    /// The versions of the schema as they are now.
    pub fn schemas(&self) -> Schemas {
        self.schemas.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Captures a record; on return its event is on disk.
    ///
    /// # Errors
    /// [`Refused`] says why nothing was captured.
    pub async fn capture(&self, record: Record) -> Result<Receipt> {
        let schema = self.schemas().newest().cloned();
        let checked = record.check(schema.as_deref())?;
        self.ingest.as_ref().ok_or(Refused::Stopping)?.capture(checked).await
    }

    /// Whether events are taken.
    ///
    /// # Errors
    /// Why not.
    pub fn health(&self) -> Result<()> {
        self.store.sync().map_err(|error| Refused::from(&error))
    }

    /// What there is of its entities.
    pub fn log(&self) -> EntityLog {
        EntityLog::own(Arc::clone(&self.store))
    }

    /// Writes what waits, and closes the root.
    ///
    /// # Errors
    /// [`Db`](ServerError::Db) when the last sync fails.
    pub fn close(mut self) -> std::result::Result<(), ServerError> {
        self.ingest = None;
        if let Some(writer) = self.writer.take() {
            writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        match Arc::into_inner(self.store) {
            Some(store) => Ok(store.close()?),
            None => Ok(()),
        }
    }
}
