//! `EventLog`: a writer, a reader and the views of one directory in one hand, with automatic rotation.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keplordb_disk::{Disk, RealDisk};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::append::{AppendResult, ConditionalAppendError, SequencedAppendError, UniqueAppend};
use crate::event::Event;
use crate::options::{LockMode, SyncPolicy};
use crate::reader::{EventReader, WaitResult};
use crate::registry::{Moment, Registered, Registry};
use crate::snapshot::PassedOver;
use crate::verify::Verification;
use crate::view::ViewOps;
use crate::view_options::ViewOptions;
use crate::writer::EventWriter;

/// A log with its views: appends, refreshes, rotates.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use keplordb_fold::{Event, EventLog};
/// use serde_json::json;
///
/// let mut log = EventLog::builder(dir.path()).view::<u64>("clicks", |count, _| count + 1).open()?;
/// log.append(&Event::new("click", json!({"x": 3})))?;
/// log.refresh_all()?;
/// assert_eq!(*log.view::<u64>("clicks")?, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
/// Views are refreshed when asked to, not by appends. To append from several threads, and to read views while others do,
/// [`share`](Self::share) it.
pub struct EventLog {
    writer: EventWriter,
    reader: EventReader,
    registry: Registry,
    last_rotation_error: Option<io::Error>,
}

impl EventLog {
    /// Opens a log without views that is never rotated unless asked to.
    ///
    /// # Errors
    /// As [`EventWriter::open_with_lock`].
    pub fn open(dir: impl AsRef<Path>) -> io::Result<Self> {
        Self::builder(dir).open()
    }

    /// Begins to describe a log; [`EventLogBuilder::open`] opens it.
    pub fn builder(dir: impl AsRef<Path>) -> EventLogBuilder {
        EventLogBuilder {
            dir: dir.as_ref().to_owned(),
            max_log_size: 0,
            lock_mode: LockMode::default(),
            sync: SyncPolicy::default(),
            unique_window: None,
            disk: Arc::new(RealDisk),
            views: Vec::new(),
        }
    }

    /// Appends an event, as [`EventWriter::append`]; then rotates if the log has reached its largest size. The answer is where the
    /// event stood before that.
    ///
    /// If the rotation fails, the event is appended all the same, and this says so:
    /// [`last_rotation_error`](Self::last_rotation_error) has what went wrong, and it is tried again when the log has grown by an eighth
    /// of its largest size: a rotation reads all of the log.
    ///
    /// # Errors
    /// Those [of every append](EventWriter#errors-of-every-append).
    ///
    /// # Panics
    /// If a view's reducer does, in a rotation; the event is appended then.
    pub fn append(&mut self, event: &Event) -> io::Result<AppendResult> {
        let result = self.writer.append(event)?;
        self.rotate_if_large();
        Ok(result)
    }

    /// Appends events so that all of them are in the log or none, as [`EventWriter::append_batch`]; then as [`append`](Self::append).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog};
    /// use serde_json::json;
    ///
    /// let mut log = EventLog::open(dir.path())?;
    /// let results = log.append_batch(&[Event::new("a", json!(1)), Event::new("b", json!(2))])?;
    /// assert_eq!(results.len(), 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those [of every append](EventWriter#errors-of-every-append), which hold for the whole batch.
    pub fn append_batch(&mut self, events: &[Event]) -> io::Result<Vec<AppendResult>> {
        let results = self.writer.append_batch(events)?;
        self.rotate_if_large();
        Ok(results)
    }

    /// Appends an event if the log is as the caller knows it, as [`EventWriter::append_if`]; then as [`append`](Self::append).
    ///
    /// # Errors
    /// As [`EventWriter::append_if`].
    pub fn append_if(
        &mut self,
        event: &Event,
        expected_offset: u64,
        expected_hash: &str,
    ) -> Result<AppendResult, ConditionalAppendError> {
        let result = self.writer.append_if(event, expected_offset, expected_hash)?;
        self.rotate_if_large();
        Ok(result)
    }

    /// Appends an event if there are exactly so many, as [`EventWriter::append_if_seq`]; then as [`append`](Self::append).
    ///
    /// # Errors
    /// As [`EventWriter::append_if_seq`].
    pub fn append_if_seq(
        &mut self,
        event: &Event,
        expected: u64,
    ) -> Result<AppendResult, SequencedAppendError> {
        let result = self.writer.append_if_seq(event, expected)?;
        self.rotate_if_large();
        Ok(result)
    }

    /// Appends an event unless one with its id is among the latest, as [`EventWriter::append_unique`]; then as
    /// [`append`](Self::append).
    ///
    /// # Errors
    /// As [`EventWriter::append_unique`].
    pub fn append_unique(&mut self, event: &Event) -> io::Result<UniqueAppend> {
        let result = self.writer.append_unique(event)?;
        self.rotate_if_large();
        Ok(result)
    }

    /// Makes durable all that was appended, as [`EventWriter::sync`].
    ///
    /// # Errors
    /// As [`EventWriter::sync`].
    pub fn sync(&mut self) -> io::Result<()> {
        self.writer.sync()
    }

    /// The events of the active log from there on, as [`EventReader::read_from`].
    ///
    /// # Errors
    /// As [`EventReader::read_from`].
    pub fn read_from(
        &self,
        offset: u64,
    ) -> io::Result<impl Iterator<Item = io::Result<(Event, u64, String)>> + use<>> {
        self.reader.read_from(offset)
    }

    /// All events, archived ones first, as [`EventReader::read_full`].
    ///
    /// # Errors
    /// As [`EventReader::read_full`].
    #[expect(clippy::type_complexity, reason = "the type is that of the reader, and part of the contract")]
    pub fn read_full(&self) -> io::Result<Box<dyn Iterator<Item = io::Result<(Event, String)>> + Send>> {
        self.reader.read_full()
    }

    /// Moves the active log into the archive, with the views of this log: see [`EventWriter::rotate`].
    ///
    /// # Errors
    /// As [`EventWriter::rotate`].
    ///
    /// # Panics
    /// If a view's reducer does; the log is as before.
    pub fn rotate(&mut self) -> io::Result<()> {
        let rotated = self.writer.rotate(&self.reader, &mut self.registry.views);
        if rotated.is_ok() {
            self.last_rotation_error = None;
        }
        rotated
    }

    /// Rotates if the log has reached its largest size.
    pub(crate) fn rotate_if_large(&mut self) {
        if !self.writer.is_to_be_rotated() {
            return;
        }
        self.writer.try_rotation();
        if let Err(error) = self.rotate() {
            self.writer.tell_failed_rotation(&error);
            self.last_rotation_error = Some(error);
        }
    }

    /// The writer, a reader, and the views by their names: what pruning needs.
    pub(crate) fn parts_mut(
        &mut self,
    ) -> (&mut EventWriter, &EventReader, &mut HashMap<String, Box<dyn ViewOps>>) {
        (&mut self.writer, &self.reader, &mut self.registry.views)
    }

    /// Why the last automatic rotation failed, if none succeeded since.
    pub fn last_rotation_error(&self) -> Option<&io::Error> {
        self.last_rotation_error.as_ref()
    }

    /// Folds what is new into every view, in one pass over the log.
    ///
    /// # Errors
    /// That of the first view that fails, when the others are done: see [`View::refresh`](crate::View::refresh).
    ///
    /// # Panics
    /// If a reducer does; its view is as before.
    pub fn refresh_all(&mut self) -> io::Result<()> {
        self.registry.refresh_all(self.reader.history())
    }

    /// Folds what is new into one view.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog};
    /// use serde_json::json;
    ///
    /// let mut log = EventLog::builder(dir.path()).view::<u64>("count", |count, _| count + 1).open()?;
    /// log.append(&Event::new("tick", json!(null)))?;
    /// log.refresh("count")?;
    /// assert_eq!(*log.view::<u64>("count")?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` if there is no view of that name; else as [`View::refresh`](crate::View::refresh).
    pub fn refresh(&mut self, name: &str) -> io::Result<()> {
        self.registry.refresh(name, &self.reader)
    }

    /// Computes one view from the first event on, whatever is kept of it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog};
    /// use serde_json::json;
    ///
    /// let mut log = EventLog::builder(dir.path()).view::<u64>("count", |count, _| count + 1).open()?;
    /// log.append(&Event::new("tick", json!(null)))?;
    /// log.rebuild("count")?;
    /// assert_eq!(*log.view::<u64>("count")?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` if there is no view of that name; else as [`View::rebuild`](crate::View::rebuild).
    pub fn rebuild(&mut self, name: &str) -> io::Result<()> {
        self.registry.rebuild(name, self.reader.history())
    }

    /// Reads everything that the log has, as [`EventReader::verify`], and folds all events afresh, in one pass for all views: whether
    /// the state of each view is what its reducer makes of them. What is compared is the state in memory, the snapshot and the checkpoints,
    /// each after the events that it is of.
    ///
    /// A state that differs is a [`ProblemKind::State`](crate::ProblemKind::State): somebody changed the file, or the reducer was changed
    /// and kept its [version](ViewOptions::version). [`rebuild`](Self::rebuild) the view. Where history was pruned the oldest
    /// state that is kept is believed, and the others must follow from it: if one does not, a
    /// [`ProblemKind::PrunedState`](crate::ProblemKind::PrunedState), either is wrong, and no rebuild can help.
    ///
    /// States are compared as JSON. One that is not always the same JSON, such as a `HashSet`, differs from itself: take a
    /// `BTreeSet`.
    ///
    /// Changes nothing. Cost: reads and parses all of history twice, and folds it. Memory: as [`EventReader::verify`], and three states for each
    /// view.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog, ProblemKind};
    /// use serde_json::json;
    ///
    /// let mut log = EventLog::builder(dir.path()).view::<u64>("count", |count, _| count + 1).open()?;
    /// log.append(&Event::new("tick", json!(null)))?;
    /// log.refresh_all()?;
    /// assert!(log.verify()?.is_sound());
    /// drop(log);
    ///
    /// // The reducer is another one now, and nobody was told.
    /// let mut log = EventLog::builder(dir.path()).view::<u64>("count", |count, _| count + 10).open()?;
    /// let verified = log.verify()?;
    /// assert_eq!(verified.problems[0].kind, ProblemKind::State);
    /// assert!(verified.problems[0].to_string().contains("it has 1, and they come to 10; rebuild() the view"));
    /// log.rebuild("count")?;
    /// assert!(log.verify()?.is_sound());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`EventReader::verify`]; [`FoldError::Pruned`](crate::FoldError::Pruned) if another writer pruned history while it was folded: verify again.
    ///
    /// # Panics
    /// If a reducer does.
    pub fn verify(&self) -> io::Result<Verification> {
        self.registry.verify(&self.reader)
    }

    /// The names of the views, sorted.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::EventLog;
    ///
    /// let log = EventLog::builder(dir.path())
    ///     .view::<u64>("visits", |count, _| count + 1)
    ///     .view::<String>("latest", |_, event| event.event_type.clone())
    ///     .open()?;
    /// assert_eq!(log.views(), ["latest", "visits"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn views(&self) -> Vec<&str> {
        self.registry.names()
    }

    /// The state of a view as of its last refresh. Reads nothing: before the first refresh it is the default.
    ///
    /// # Errors
    /// `NotFound` if there is no view of that name, `InvalidInput` if its state has another type.
    pub fn view<S>(&self, name: &str) -> io::Result<&S>
    where
        S: Serialize + DeserializeOwned + Default + Clone + 'static,
    {
        self.registry.state(name)
    }

    /// The damaged lines that a view passed over on the way to its state, and where the first is; `None` if it lacks nothing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{EventLog, ViewOptions, repair};
    ///
    /// let open = || {
    ///     let options = ViewOptions::default().skip_damaged();
    ///     EventLog::builder(dir.path()).view_with::<u64>("count", options, |count, _| count + 1).open()
    /// };
    /// std::fs::write(dir.path().join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\nno event\n")?;
    /// let mut log = open()?;
    /// log.refresh_all()?;
    /// assert_eq!(log.passed_over("count")?.map(|passed_over| passed_over.sequence), Some(1));
    /// drop(log);
    ///
    /// repair(dir.path())?; // the line is in damaged/ now
    /// let mut log = open()?;
    /// log.refresh_all()?;
    /// assert_eq!(log.passed_over("count")?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` if there is no view of that name.
    pub fn passed_over(&self, name: &str) -> io::Result<Option<PassedOver>> {
        self.registry.passed_over(name)
    }

    /// The state that a view had after the first `sequence` events, as [`View::state_at`](crate::View::state_at).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog};
    /// use serde_json::json;
    ///
    /// let mut log = EventLog::builder(dir.path()).view::<u64>("count", |count, _| count + 1).open()?;
    /// for n in 0..20 {
    ///     log.append(&Event::new("tick", json!(n)))?;
    /// }
    /// assert_eq!(log.state_at::<u64>("count", 5)?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` if there is no view of that name, `InvalidInput` if its state has another type; else as [`View::state_at`](crate::View::state_at).
    pub fn state_at<S: 'static>(&self, name: &str, sequence: u64) -> io::Result<S> {
        self.registry.state_at(name, &self.reader, Moment::Sequence(sequence))
    }

    /// The state that a view had at a time, in seconds since the Unix epoch, as [`View::state_at_time`](crate::View::state_at_time).
    ///
    /// # Errors
    /// As [`state_at`](Self::state_at).
    pub fn state_at_time<S: 'static>(&self, name: &str, ts: u64) -> io::Result<S> {
        self.registry.state_at(name, &self.reader, Moment::Time(ts))
    }

    /// What it is made of.
    pub(crate) fn into_parts(self) -> (EventWriter, Registry) {
        (self.writer, self.registry)
    }

    /// A reader of this log, which is cheap and may be moved to another thread.
    pub fn reader(&self) -> EventReader {
        self.reader.clone()
    }

    /// The appending side. What is appended there does not rotate the log.
    pub fn writer(&self) -> &EventWriter {
        &self.writer
    }

    /// The appending side. What is appended there does not rotate the log.
    pub fn writer_mut(&mut self) -> &mut EventWriter {
        &mut self.writer
    }

    /// The directory, as it was given.
    pub fn dir(&self) -> &Path {
        self.writer.dir()
    }

    /// The active log: `app.jsonl` in the directory.
    pub fn log_path(&self) -> &Path {
        self.writer.log_path()
    }

    /// The archive: `archive.jsonl.zst` in the directory. There is none before the first rotation.
    pub fn archive_path(&self) -> &Path {
        self.writer.archive_path()
    }

    /// Where views keep their snapshots: `views` in the directory.
    pub fn views_dir(&self) -> &Path {
        self.writer.views_dir()
    }

    /// The active log's length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn active_log_size(&self) -> io::Result<u64> {
        self.writer.active_log_size()
    }

    /// Whether there is anything behind that offset in the active log, as [`EventReader::has_new_events`].
    ///
    /// # Errors
    /// As [`EventReader::has_new_events`].
    pub fn has_new_events(&self, offset: u64) -> io::Result<bool> {
        self.reader.has_new_events(offset)
    }

    /// Waits until there is something behind that offset in the active log, as [`EventReader::wait_for_events`].
    ///
    /// # Errors
    /// As [`EventReader::wait_for_events`].
    pub fn wait_for_events(&self, offset: u64, timeout: Duration) -> io::Result<WaitResult> {
        self.reader.wait_for_events(offset, timeout)
    }

    /// The hash of the line that ends there, as [`EventReader::read_line_hash_before`].
    ///
    /// # Errors
    /// As [`EventReader::read_line_hash_before`].
    pub fn read_line_hash_before(&self, offset: u64) -> io::Result<Option<String>> {
        self.reader.read_line_hash_before(offset)
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EventLog")
            .field("writer", &self.writer)
            .field("reader", &self.reader)
            .field("view_count", &self.registry.views.len())
            .finish_non_exhaustive()
    }
}

/// What a log is to be; made by [`EventLog::builder`]. The order of the calls does not matter.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use keplordb_fold::{EventLog, LockMode};
///
/// let log = EventLog::builder(dir.path())
///     .max_log_size(10_000_000)
///     .lock_mode(LockMode::Flock)
///     .view::<u64>("count", |count, _| count + 1)
///     .open()?;
/// assert_eq!(*log.view::<u64>("count")?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct EventLogBuilder {
    dir: PathBuf,
    max_log_size: u64,
    lock_mode: LockMode,
    sync: SyncPolicy,
    unique_window: Option<usize>,
    disk: Arc<dyn Disk>,
    views: Vec<Registered>,
}

impl EventLogBuilder {
    /// Rotates the log as soon as it has so many bytes: after the append that makes it so, and when it is opened. 0, the
    /// default, never does.
    ///
    /// A smaller log is read faster by a new view's neighbours and costs more rotations; some megabytes are a good choice.
    #[must_use]
    pub fn max_log_size(self, bytes: u64) -> Self {
        Self { max_log_size: bytes, ..self }
    }

    /// Whether other writers are kept away; by default they are.
    #[must_use]
    pub fn lock_mode(self, mode: LockMode) -> Self {
        Self { lock_mode: mode, ..self }
    }

    /// When appended events are synced; by default each is before its append returns.
    #[must_use]
    pub fn sync_policy(self, policy: SyncPolicy) -> Self {
        Self { sync: policy, ..self }
    }

    /// How many of the latest events [`append_unique`](EventLog::append_unique) looks through; 10,000 by default.
    #[must_use]
    pub fn unique_window(self, events: usize) -> Self {
        Self { unique_window: Some(events), ..self }
    }

    /// Keeps the log on another disk than the operating system's: one in memory, or a simulated one for tests.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use keplordb_fold::{Event, EventLog};
    /// use keplordb_fold::disk::MemoryDisk;
    /// use serde_json::json;
    ///
    /// let mut log = EventLog::builder("app").disk(Arc::new(MemoryDisk::default())).open()?;
    /// log.append(&Event::new("tick", json!(null)))?;
    /// assert!(!std::path::Path::new("app").exists());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn disk(self, disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..self }
    }

    /// Adds a view. Of several of one name the last counts.
    ///
    /// The name becomes a file's: [`open`](Self::open) refuses those that cannot be one. The reducer may capture, see [`View::new`](crate::View::new).
    #[must_use]
    pub fn view<S>(self, name: &str, reducer: impl Fn(S, &Event) -> S + Send + Sync + 'static) -> Self
    where
        S: Serialize + DeserializeOwned + Default + Clone + Send + 'static,
    {
        self.view_with(name, ViewOptions::default(), reducer)
    }

    /// Adds a view with options: the version of its reducer, when it is written to disk, what a damaged line means to it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog, ViewOptions};
    /// use serde_json::json;
    ///
    /// let options = ViewOptions::default().version(2);
    /// let mut log = EventLog::builder(dir.path())
    ///     .view_with::<u64>("count", options, |count, _| count + 1)
    ///     .open()?;
    /// log.append(&Event::new("tick", json!(null)))?;
    /// log.refresh_all()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn view_with<S>(
        self,
        name: &str,
        options: ViewOptions,
        reducer: impl Fn(S, &Event) -> S + Send + Sync + 'static,
    ) -> Self
    where
        S: Serialize + DeserializeOwned + Default + Clone + Send + 'static,
    {
        self.register(Registered::untyped(name, options, reducer))
    }

    /// Adds a view whose reducer takes events of a type of its own, see [`TypedView`](crate::TypedView).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog, ViewOptions};
    /// use serde::Deserialize;
    /// use serde_json::json;
    ///
    /// #[derive(Deserialize)]
    /// #[serde(tag = "type", content = "data", rename_all = "snake_case")]
    /// enum Account {
    ///     Deposited { cents: i64 },
    /// }
    ///
    /// let balance = |cents: i64, Account::Deposited { cents: more }: Account| cents + more;
    /// let mut log = EventLog::builder(dir.path())
    ///     .typed_view("balance", ViewOptions::default(), balance)
    ///     .open()?;
    /// log.append(&Event::new("deposited", json!({"cents": 500})))?;
    /// log.refresh_all()?;
    /// assert_eq!(*log.view::<i64>("balance")?, 500);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn typed_view<E, S>(
        self,
        name: &str,
        options: ViewOptions,
        reducer: impl Fn(S, E) -> S + Send + Sync + 'static,
    ) -> Self
    where
        E: DeserializeOwned + Send + 'static,
        S: Serialize + DeserializeOwned + Default + Clone + Send + 'static,
    {
        self.register(Registered::typed(name, options, reducer))
    }

    fn register(mut self, view: Registered) -> Self {
        self.views.push(view);
        self
    }

    /// Opens the log. No view reads anything yet; if the log has reached its largest size it is rotated, which refreshes them.
    ///
    /// A rotation that fails is no error here either: see [`EventLog::last_rotation_error`].
    ///
    /// # Errors
    /// As [`EventWriter::open_with_lock`]; `InvalidInput` if the name of a view cannot be a file's, before anything is touched.
    ///
    /// # Panics
    /// If a reducer does, in a rotation.
    pub fn open(self) -> io::Result<EventLog> {
        for view in &self.views {
            view.check()?;
        }
        let mut writer = EventWriter::with_disk(Arc::clone(&self.disk), &self.dir, self.lock_mode)?;
        writer.max_log_size = self.max_log_size;
        writer.set_sync_policy(self.sync);
        if let Some(events) = self.unique_window {
            writer.set_unique_window(events);
        }
        let registry = Registry::new(self.views, &self.disk, writer.views_dir());
        let reader = writer.reader();
        let mut log = EventLog { writer, reader, registry, last_rotation_error: None };
        log.rotate_if_large();
        Ok(log)
    }
}

impl fmt::Debug for EventLogBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EventLogBuilder")
            .field("dir", &self.dir)
            .field("max_log_size", &self.max_log_size)
            .field("lock_mode", &self.lock_mode)
            .field("view_count", &self.views.len())
            .finish_non_exhaustive()
    }
}
