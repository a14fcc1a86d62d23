//! An open root: its directory, the way in, and what is known of its entities.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use keplordb::{Budget, Start, Store};
use keplordb_disk::{Disk as _, RealDisk};
use tokio::sync::mpsc;
use tonic::Status;

use crate::error::{Refused, Result, ServerError};
use crate::ingest::{Ingest, Receipt, UnderWay};
use crate::lake::{Lake, LakeCheck, LakeOptions, Published};
use crate::layout;
use crate::log::{EntityLog, Selection};
use crate::metrics::Metrics;
use crate::record::{Checked, Event, Record};
use crate::schema::{self, Schemas};
use crate::subscribe::{News, Since, Subscribers};

/// How often, and after which pause, a close looks whether nobody reads any more.
const CLOSE_TRIES: u32 = 100;
/// See [`CLOSE_TRIES`].
const CLOSE_PAUSE: Duration = Duration::from_millis(10);

/// What is done in the log at a time: some hundred bytes of memory for each row.
const MAINTAINED: Budget = Budget::rows(300_000);

/// Most records of one batch.
pub const MAX_BATCH_RECORDS: usize = 10_000;

/// An open root: what captures events and knows what there is.
#[derive(Debug)]
pub struct Capture {
    root: PathBuf,
    store: Arc<Store<Event>>,
    ingest: Option<Ingest>,
    writer: Option<JoinHandle<()>>,
    schemas: RwLock<Schemas>,
    /// Held by who makes a new version.
    pushing: Mutex<()>,
    subscribers: Subscribers,
    /// Opened when it is first needed.
    lake: Mutex<Option<Lake>>,
    /// Whether nothing more is published.
    is_stopping: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
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
        RealDisk.create_dir(&schemas_dir).map_err(|source| ServerError::Io {
            file: schemas_dir.clone(),
            op: "creating",
            source,
        })?;
        // The engine's lock is the server's: whoever has it may write to `_meta`.
        let store = Arc::new(Store::open(layout::segments(&root))?);
        let schemas = RwLock::new(Schemas::load(&schemas_dir)?);
        let metrics = Arc::new(Metrics::new());
        let (ingest, writer) = Ingest::start(Arc::clone(&store), Arc::clone(&metrics))?;
        Ok(Self {
            root,
            store,
            ingest: Some(ingest),
            writer: Some(writer),
            schemas,
            pushing: Mutex::default(),
            subscribers: Subscribers::new(),
            lake: Mutex::new(None),
            is_stopping: Arc::default(),
            metrics,
        })
    }

    /// Takes a file as the newest version of the schema, unless it is that already; gives its number.
    ///
    /// # Errors
    /// [`Schema`](ServerError::Schema) says what is wrong with it, or what it would break.
    pub fn push_schema(&self, file: &Path) -> std::result::Result<u32, ServerError> {
        let text = schema::read_whole(file)?.ok_or_else(|| ServerError::Io {
            file: file.to_owned(),
            op: "reading",
            source: io::ErrorKind::NotFound.into(),
        })?;
        self.push_schema_text(file, &text)
    }

    /// As [`push_schema`](Self::push_schema), of a text; `file` is what messages call it.
    ///
    /// # Errors
    /// [`Schema`](ServerError::Schema) says what is wrong with it, or what it would break.
    pub fn push_schema_text(&self, file: &Path, text: &str) -> std::result::Result<u32, ServerError> {
        let _one_at_a_time = self.pushing.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever captures events looks at the versions, and does not wait for a compiler and a disk.
        let mut schemas = self.schemas();
        let version = schemas.push(&layout::schemas(&self.root), file, text)?.version();
        *self.schemas.write().unwrap_or_else(PoisonError::into_inner) = schemas;
        Ok(version)
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
        let receipts = self.capture_batch(vec![record]).await.map_err(|refused| refused.reason().clone())?;
        receipts.into_iter().next().ok_or(Refused::Stopping)
    }

    /// Captures records in their order, all or none, with one sync; on return their events are on disk. What of them was there
    /// already is a duplicate, and does not keep the others from being captured.
    ///
    /// # Errors
    /// [`InBatch`](Refused::InBatch) says which one is refused and why; others concern all of them. Nothing was captured.
    pub async fn capture_batch(&self, records: Vec<Record>) -> Result<Vec<Receipt>> {
        let submitted = self.checked(records).and_then(|checked| self.ingest()?.submit(checked));
        // What is refused from here on is counted where it is written.
        self.counted(submitted)?.receipts().await
    }

    /// Captures records in their order with one sync, each of them whatever becomes of the others; on return their events are on disk. One
    /// that is refused is as if it had not come.
    ///
    /// # Errors
    /// Of each record, what is [wrong with it](Refused::is_of_record). Those around concern all of them, as a log that cannot be read;
    /// nothing was captured then.
    pub async fn capture_each(&self, records: Vec<Record>) -> Result<Vec<Result<Receipt>>> {
        let schema = self.counted(check_count(&records).map(|()| self.schemas().newest().cloned()))?;
        let mut checked = Vec::with_capacity(records.len());
        let mut refused: Vec<Option<Refused>> = Vec::with_capacity(records.len());
        for record in records {
            match self.counted(record.check(schema.as_deref())) {
                Ok(record) => {
                    checked.push(record);
                    refused.push(None);
                }
                Err(reason) => refused.push(Some(reason)),
            }
        }
        let submitted = self.ingest().and_then(|ingest| ingest.submit_each(checked));
        let mut captured = self.counted(submitted)?.outcomes().await?.into_iter();
        let outcome = |refused: Option<Refused>| {
            refused.map_or_else(|| captured.next().unwrap_or(Err(Refused::Stopping)), Err)
        };
        Ok(refused.into_iter().map(outcome).collect())
    }

    /// Sends a batch on its way, as soon as there is room; batches are written in the order in which they were sent.
    pub(crate) async fn submit_batch(&self, records: Vec<Record>) -> Result<UnderWay> {
        let checked = self.counted(self.checked(records))?;
        let submitted = self.counted(self.ingest())?.submit_in_turn(checked).await;
        self.counted(submitted)
    }

    fn checked(&self, records: Vec<Record>) -> Result<Vec<Checked>> {
        check_count(&records)?;
        let schema = self.schemas().newest().cloned();
        let records = records.into_iter().enumerate();
        let checked = records.map(|(index, record)| {
            record.check(schema.as_deref()).map_err(|refused| refused.in_batch(index))
        });
        checked.collect()
    }

    fn ingest(&self) -> Result<&Ingest> {
        self.ingest.as_ref().ok_or(Refused::Stopping)
    }

    /// Begins a subscription: the events that a selection means, in the order of the log, and a
    /// [position](News::Position) whenever there was no other news for `heartbeat`. It ends when the receiver is dropped, or with an error.
    ///
    /// # Errors
    /// [`Subscribers`](Refused::Subscribers) when there are too many; [`Failed`](Refused::Failed) when the log cannot be read.
    pub fn subscribe(
        &self,
        selection: &Selection,
        since: Since,
        heartbeat: Duration,
    ) -> Result<mpsc::Receiver<Result<News>>> {
        self.counted(self.subscribers.follow(Arc::clone(&self.store), selection, since, heartbeat))
    }

    /// Ends subscriptions, streams of batches and publishing, so that nobody waits for their end.
    pub(crate) fn end_streams(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.subscribers.stop();
    }

    /// Returns when streams are to end.
    pub(crate) async fn streams_end(&self) {
        self.subscribers.stopped().await;
    }

    /// Counts what is refused, and gives it on.
    pub(crate) fn counted<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|refused| self.metrics.refused(Status::from(refused.clone()).code()))
    }

    /// The directory that was opened.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What is measured.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The measures in the text of Prometheus.
    pub(crate) fn metrics_text(&self) -> String {
        let stats = self.store.stats();
        self.metrics.log_segments.set(stats.segments as f64);
        self.metrics.log_bytes.set((stats.segment_bytes + stats.wal_bytes) as f64);
        self.metrics.head_sequence.set(self.position() as f64);
        self.metrics.subscribers.set(self.subscribers.count() as f64);
        let waiting = self.ingest.as_ref().map_or(0, Ingest::waiting_bytes);
        self.metrics.waiting_bytes.set(waiting as f64);
        self.metrics.text()
    }

    /// Whether events are taken.
    ///
    /// # Errors
    /// Why not.
    pub fn health(&self) -> Result<()> {
        self.store.sync().map_err(|error| Refused::from(&error))
    }

    /// Publishes what came since the last time as Parquet, for other programs to read, and merges files where they are many; `None` when
    /// there was nothing new. Files that are lost or damaged are made anew, of the log of which they were made only. See [`Lake`].
    ///
    /// # Errors
    /// As [`Lake::publish`].
    pub fn publish(&self) -> std::result::Result<Option<Published>, ServerError> {
        self.with_lake(|lake, schemas| {
            if let Some(damage) = lake.damage() {
                tracing::warn!(%damage, "the Parquet files are made anew from the log");
                return lake.remake(&self.store, schemas).map(Some);
            }
            let published = lake.publish(&self.store, schemas)?;
            while lake.compact()? {}
            Ok(published)
        })
    }

    /// The sequence of the last event that is published; 0 before the first.
    ///
    /// # Errors
    /// As [`Lake::open`].
    pub(crate) fn published(&self) -> std::result::Result<u64, ServerError> {
        self.with_lake(|lake, _| Ok(lake.checkpoint_seq()))
    }

    /// Makes all Parquet files anew from the log; until then what was published stays.
    ///
    /// # Errors
    /// As [`Lake::replay`].
    pub fn replay(&self) -> std::result::Result<Published, ServerError> {
        self.with_lake(|lake, schemas| lake.replay(&self.store, schemas))
    }

    /// Compares every row of the Parquet files with what the log says.
    ///
    /// # Errors
    /// As [`Lake::check`].
    pub fn check_published(&self) -> std::result::Result<LakeCheck, ServerError> {
        self.with_lake(|lake, _| lake.check(&self.store))
    }

    /// Merges what has become many small files: segments of the log, and the Parquet files. A server does a part of it whenever it
    /// publishes.
    ///
    /// # Errors
    /// As [`Lake::compact`]; [`Db`](ServerError::Db) of the log.
    pub fn compact(&self) -> std::result::Result<(), ServerError> {
        self.store.compact(Budget::UNLIMITED)?;
        self.with_lake(|lake, _| {
            while lake.compact()? {}
            Ok(())
        })
    }

    /// How many segments the log has.
    pub fn segments(&self) -> u64 {
        self.store.stats().segments as u64
    }

    /// Does what is due in the log: merges segments, a part of them at a time, and removes files that were replaced.
    ///
    /// # Errors
    /// [`Db`](ServerError::Db).
    pub(crate) fn maintain(&self) -> std::result::Result<(), ServerError> {
        self.store.maintain(MAINTAINED)?;
        Ok(())
    }

    fn with_lake<T>(
        &self,
        with: impl FnOnce(&mut Lake, &Schemas) -> std::result::Result<T, ServerError>,
    ) -> std::result::Result<T, ServerError> {
        let mut lake = self.lake.lock().unwrap_or_else(PoisonError::into_inner);
        let lake = match &mut *lake {
            Some(lake) => lake,
            none => none.insert(
                Lake::open(&self.root, LakeOptions::default())?.stopped_by(Arc::clone(&self.is_stopping)),
            ),
        };
        with(lake, &self.schemas())
    }

    /// The sequence of the log's last event that is settled.
    pub(crate) fn position(&self) -> u64 {
        self.store.tail(Start::Now).position()
    }

    pub(crate) fn store(&self) -> &Store<Event> {
        &self.store
    }

    /// What there is of its entities.
    pub fn log(&self) -> EntityLog {
        EntityLog::own(Arc::clone(&self.store))
    }

    /// Writes what waits, ends subscriptions, and closes the root. Where an [`EntityLog`] of it is kept longer than a second, the root is closed
    /// when that is dropped.
    ///
    /// # Errors
    /// [`Db`](ServerError::Db) when the last sync fails.
    pub fn close(mut self) -> std::result::Result<(), ServerError> {
        self.subscribers.stop();
        self.ingest = None;
        if let Some(writer) = self.writer.take() {
            writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        // Subscriptions end soon; an `EntityLog` that somebody keeps closes the log when it is dropped.
        let mut store = self.store;
        for _ in 0..CLOSE_TRIES {
            match Arc::try_unwrap(store) {
                Ok(store) => return Ok(store.close()?),
                Err(shared) => store = shared,
            }
            std::thread::sleep(CLOSE_PAUSE);
        }
        Ok(store.sync()?)
    }
}

fn check_count(records: &[Record]) -> Result<()> {
    if records.len() > MAX_BATCH_RECORDS {
        let what = format!("there are {}, at most {MAX_BATCH_RECORDS} are possible", records.len());
        return Err(Refused::invalid("records", what));
    }
    Ok(())
}
