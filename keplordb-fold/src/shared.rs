//! `SharedLog`: a log in the hands of many threads. Appends share writes and syncs, views are read while others append.
//!
//! Three things have locks of their own, taken in this order: the views, for who refreshes them; the writer; what views were
//! published. Reading a view takes the last one only, for a moment. Appends queue before the writer:
//! the first who comes leads, writes the lines of all who wait with one write, syncs once, and hands the lead on.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::append::{AppendResult, ConditionalAppendError, SequencedAppendError, UniqueAppend};
use crate::error::FoldError;
use crate::event::Event;
use crate::group::Group;
use crate::log::EventLog;
use crate::prune::{Portion, prune};
use crate::reader::EventReader;
use crate::registry::{Moment, Registry, mismatch};
use crate::snapshot::PassedOver;
use crate::verify::Verification;
use crate::writer::{EventWriter, result_of, to_line};

/// A log that any number of threads append to and read views of. A clone is another handle of the same log, which is closed
/// when the last one is dropped. Made by [`EventLog::share`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use keplordb_fold::{Event, EventLog};
/// use serde_json::json;
///
/// let log = EventLog::builder(dir.path()).view::<u64>("clicks", |count, _| count + 1).open()?.share();
/// let server = log.clone();
/// std::thread::spawn(move || server.append(&Event::new("click", json!({"x": 3})))).join().unwrap()?;
/// log.refresh_all()?;
/// assert_eq!(*log.view::<u64>("clicks")?, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
/// Each append is durable when it returns, as with an [`EventLog`], and eight threads need about as many syncs as one. A thread that
/// waits for a sync blocks: in asynchronous programs call it where blocking is allowed.
///
/// A reducer must not call the log that it is a reducer of, which would wait for itself: its calls are refused with
/// [`FoldError::InReducer`]. What follows from an event is appended when the refresh is over.
#[derive(Clone)]
pub struct SharedLog {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<Registry>,
    /// The thread that has the registry, see [`this_thread`]; 0 if none has.
    folds: AtomicUsize,
    writer: Mutex<EventWriter>,
    group: Group,
    published: RwLock<HashMap<String, Published>>,
    last_rotation_error: Mutex<Option<Arc<io::Error>>>,
    reader: EventReader,
    names: Vec<String>,
}

impl EventLog {
    /// Makes a handle of it that any number of threads may have: appends share syncs, and views are read while others append.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog};
    /// use serde_json::json;
    ///
    /// let log = EventLog::open(dir.path())?.share();
    /// std::thread::scope(|scope| {
    ///     for n in 0..4 {
    ///         let log = log.clone();
    ///         scope.spawn(move || log.append(&Event::new("tick", json!(n))));
    ///     }
    /// });
    /// assert_eq!(log.reader().read_from(0)?.count(), 4);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn share(self) -> SharedLog {
        let (writer, registry) = self.into_parts();
        SharedLog::new(writer, registry)
    }
}

/// A view's state, for those who read it while the view goes on.
struct Published {
    state: Arc<dyn Any + Send + Sync>,
    /// [`Registry::changes`] of when it was copied.
    changes: u64,
    /// Copies a state of the type that was asked for.
    copy: fn(&dyn Any) -> Option<Arc<dyn Any + Send + Sync>>,
}

/// The views, for one thread. While it has them it may be in a reducer, which must not wait for itself.
struct Views<'a> {
    registry: MutexGuard<'a, Registry>,
    folds: &'a AtomicUsize,
}

impl Deref for Views<'_> {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        &self.registry
    }
}

impl DerefMut for Views<'_> {
    fn deref_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }
}

impl Drop for Views<'_> {
    fn drop(&mut self) {
        self.folds.store(0, Relaxed);
    }
}

/// A number that no other living thread has; not 0.
fn this_thread() -> usize {
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

impl SharedLog {
    /// Opens a log without views that is never rotated unless asked to.
    ///
    /// # Errors
    /// As [`EventWriter::open_with_lock`].
    pub fn open(dir: impl AsRef<Path>) -> io::Result<Self> {
        Ok(EventLog::open(dir)?.share())
    }

    fn new(writer: EventWriter, registry: Registry) -> Self {
        let names = registry.names().into_iter().map(str::to_owned).collect();
        let inner = Inner {
            registry: Mutex::new(registry),
            folds: AtomicUsize::new(0),
            group: Group::default(),
            published: RwLock::default(),
            last_rotation_error: Mutex::default(),
            reader: writer.reader(),
            names,
            writer: Mutex::new(writer),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Refuses what a reducer of this log asks on the thread that waits for it.
    fn check_caller(&self) -> io::Result<()> {
        // Only this thread writes its own number there, so it needs no order.
        if self.inner.folds.load(Relaxed) == this_thread() {
            let dir = self.inner.reader.history().paths().dir.clone();
            return Err(FoldError::InReducer { dir }.into());
        }
        Ok(())
    }

    /// Takes the views.
    fn registry(&self) -> io::Result<Views<'_>> {
        self.check_caller()?;
        let registry = self.inner.registry.lock();
        self.inner.folds.store(this_thread(), Relaxed);
        Ok(Views { registry, folds: &self.inner.folds })
    }

    /// Appends an event, with those that other threads append at the same time: as [`EventLog::append`].
    ///
    /// # Errors
    /// Those [of every append](EventWriter#errors-of-every-append). If a write fails, it fails for all who shared it, and none of
    /// their events is in the log.
    ///
    /// # Panics
    /// If a view's reducer does, in a rotation; the event is appended then.
    pub fn append(&self, event: &Event) -> io::Result<AppendResult> {
        self.check_caller()?;
        let line = to_line(event)?;
        let write = |lines: &[u8], events| {
            let mut writer = self.inner.writer.lock();
            let start = writer.append_lines(lines, events)?;
            Ok((start, writer.is_to_be_rotated()))
        };
        let (start, is_large) = self.inner.group.append(&line, write)?;
        if is_large {
            self.rotate_if_large();
        }
        Ok(result_of(&line, start))
    }

    /// Appends events so that all of them are in the log or none: as [`EventLog::append_batch`].
    ///
    /// # Errors
    /// Those [of every append](EventWriter#errors-of-every-append), which hold for the whole batch.
    pub fn append_batch(&self, events: &[Event]) -> io::Result<Vec<AppendResult>> {
        self.write(|writer| writer.append_batch(events))
    }

    /// Appends an event if the log is as the caller knows it: as [`EventLog::append_if`].
    ///
    /// # Errors
    /// As [`EventWriter::append_if`].
    pub fn append_if(
        &self,
        event: &Event,
        expected_offset: u64,
        expected_hash: &str,
    ) -> Result<AppendResult, ConditionalAppendError> {
        self.write(|writer| writer.append_if(event, expected_offset, expected_hash))
    }

    /// Appends an event if there are exactly so many: as [`EventLog::append_if_seq`].
    ///
    /// # Errors
    /// As [`EventWriter::append_if_seq`].
    pub fn append_if_seq(&self, event: &Event, expected: u64) -> Result<AppendResult, SequencedAppendError> {
        self.write(|writer| writer.append_if_seq(event, expected))
    }

    /// Appends an event unless one with its id is among the latest: as [`EventLog::append_unique`].
    ///
    /// # Errors
    /// As [`EventWriter::append_unique`].
    pub fn append_unique(&self, event: &Event) -> io::Result<UniqueAppend> {
        self.write(|writer| writer.append_unique(event))
    }

    /// Makes durable all that was appended: as [`EventWriter::sync`].
    ///
    /// # Errors
    /// As [`EventWriter::sync`].
    pub fn sync(&self) -> io::Result<()> {
        self.check_caller()?;
        self.inner.writer.lock().sync()
    }

    /// Does what only one thread at a time can, and rotates if that made the log large.
    fn write<T, E: From<io::Error>>(
        &self,
        write: impl FnOnce(&mut EventWriter) -> Result<T, E>,
    ) -> Result<T, E> {
        self.check_caller()?;
        let mut writer = self.inner.writer.lock();
        let result = write(&mut writer)?;
        let is_large = writer.is_to_be_rotated();
        drop(writer);
        if is_large {
            self.rotate_if_large();
        }
        Ok(result)
    }

    /// Moves the active log into the archive: as [`EventLog::rotate`]. Appends of other threads wait meanwhile.
    ///
    /// # Errors
    /// As [`EventWriter::rotate`].
    ///
    /// # Panics
    /// If a view's reducer does; the log is as before.
    pub fn rotate(&self) -> io::Result<()> {
        self.rotate_when(|_| true)
    }

    fn rotate_if_large(&self) {
        {
            // Whoever was quicker is at it, or has done it.
            let mut writer = self.inner.writer.lock();
            if !writer.is_to_be_rotated() {
                return;
            }
            writer.try_rotation();
        }
        if let Err(error) = self.rotate_when(EventWriter::is_large) {
            self.inner.writer.lock().tell_failed_rotation(&error);
            *self.inner.last_rotation_error.lock() = Some(Arc::new(error));
        }
    }

    fn rotate_when(&self, is_wanted: impl FnOnce(&EventWriter) -> bool) -> io::Result<()> {
        let mut registry = self.registry()?;
        // Most of it is folded while others append.
        let refreshed = registry.refresh_all(self.inner.reader.history());
        let mut writer = self.inner.writer.lock();
        if !is_wanted(&writer) {
            drop(writer);
            self.publish(&registry);
            return Ok(());
        }
        let rotated = refreshed.and_then(|()| writer.rotate(&self.inner.reader, &mut registry.views));
        drop(writer);
        self.publish(&registry);
        if rotated.is_ok() {
            *self.inner.last_rotation_error.lock() = None;
        }
        rotated
    }

    /// Removes the oldest generations from the archive: as [`EventLog::prune`]. Appends of other threads wait while the archive is written
    /// anew; views are read meanwhile.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog};
    /// use serde_json::json;
    ///
    /// let log = EventLog::builder(dir.path()).view::<u64>("count", |count, _| count + 1).open()?.share();
    /// log.append(&Event::new("tick", json!(1)))?;
    /// log.rotate()?;
    /// assert_eq!(log.prune(1)?.events, 0..1);
    /// assert_eq!(*log.view::<u64>("count")?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`EventLog::prune`], and [`FoldError::InReducer`].
    ///
    /// # Panics
    /// If a view's reducer does; nothing is pruned.
    pub fn prune(&self, before: u64) -> io::Result<Portion> {
        let mut registry = self.registry()?;
        let history = self.inner.reader.history();
        // Most of it is folded while others append.
        let refreshed = registry.refresh_all(history);
        let mut writer = self.inner.writer.lock();
        let pruned = refreshed.and_then(|()| prune(&mut writer, history, &mut registry.views, before));
        drop(writer);
        self.publish(&registry);
        pruned
    }

    /// Why the last automatic rotation failed, if none succeeded since.
    pub fn last_rotation_error(&self) -> Option<Arc<io::Error>> {
        self.inner.last_rotation_error.lock().clone()
    }

    /// Folds what is new into every view, in one pass over the log, and shows it to those who read views. Appends go on meanwhile.
    ///
    /// # Errors
    /// As [`EventLog::refresh_all`].
    ///
    /// # Panics
    /// If a reducer does; its view is as before.
    pub fn refresh_all(&self) -> io::Result<()> {
        let mut registry = self.registry()?;
        let refreshed = registry.refresh_all(self.inner.reader.history());
        self.publish(&registry);
        refreshed
    }

    /// Folds what is new into one view: as [`refresh_all`](Self::refresh_all).
    ///
    /// # Errors
    /// As [`EventLog::refresh`].
    pub fn refresh(&self, name: &str) -> io::Result<()> {
        let mut registry = self.registry()?;
        let refreshed = registry.refresh(name, &self.inner.reader);
        self.publish(&registry);
        refreshed
    }

    /// Computes one view from the first event on: as [`EventLog::rebuild`]. Until it is done others read the state from before.
    ///
    /// # Errors
    /// As [`EventLog::rebuild`].
    pub fn rebuild(&self, name: &str) -> io::Result<()> {
        let mut registry = self.registry()?;
        let rebuilt = registry.rebuild(name, self.inner.reader.history());
        self.publish(&registry);
        rebuilt
    }

    /// Compares everything that the log has with what it should be, the states of views included: as [`EventLog::verify`]. Nobody
    /// refreshes meanwhile; appends and readers go on.
    ///
    /// # Errors
    /// As [`EventLog::verify`].
    ///
    /// # Panics
    /// If a reducer does.
    pub fn verify(&self) -> io::Result<Verification> {
        self.registry()?.verify(&self.inner.reader)
    }

    /// The names of the views, sorted.
    pub fn views(&self) -> Vec<String> {
        self.inner.names.clone()
    }

    /// The state of a view as of its last refresh, or the default. It stays as it is while the caller has it.
    ///
    /// Cost: a reference count; nobody who appends or refreshes is waited for. Only the first call for a view waits for a refresh that
    /// is under way, and copies the state; from then on each refresh that folds something copies it once.
    ///
    /// # Errors
    /// `NotFound` if there is no view of that name, `InvalidInput` if its state has another type.
    pub fn view<S: Clone + Send + Sync + 'static>(&self, name: &str) -> io::Result<Arc<S>> {
        let known = self.inner.published.read().get(name).map(|published| Arc::clone(&published.state));
        let state = match known {
            Some(state) => state,
            None => self.publish_first::<S>(name)?,
        };
        state.downcast().map_err(|_| mismatch(name))
    }

    fn publish_first<S: Clone + Send + Sync + 'static>(
        &self,
        name: &str,
    ) -> io::Result<Arc<dyn Any + Send + Sync>> {
        let copy = |state: &dyn Any| -> Option<Arc<dyn Any + Send + Sync>> {
            Some(Arc::new(state.downcast_ref::<S>()?.clone()))
        };
        let registry = self.registry()?;
        let state = copy(registry.any_state(name)?).ok_or_else(|| mismatch(name))?;
        let published = Published { state: Arc::clone(&state), changes: registry.changes(name), copy };
        self.inner.published.write().insert(name.to_owned(), published);
        Ok(state)
    }

    /// Shows what the views have come to.
    fn publish(&self, registry: &Registry) {
        let outdated: Vec<_> = {
            let published = self.inner.published.read();
            let is_outdated = |shown: &(&String, &Published)| shown.1.changes != registry.changes(shown.0);
            let outdated = published.iter().filter(is_outdated);
            outdated.map(|(name, published)| (name.clone(), published.copy)).collect()
        };
        for (name, copy) in outdated {
            // Copied before the lock is taken that readers wait for.
            let Some(state) = registry.any_state(&name).ok().and_then(copy) else { continue };
            if let Some(published) = self.inner.published.write().get_mut(&name) {
                (published.state, published.changes) = (state, registry.changes(&name));
            }
        }
    }

    /// The state that a view had after the first `sequence` events: as [`EventLog::state_at`].
    ///
    /// # Errors
    /// As [`EventLog::state_at`].
    pub fn state_at<S: 'static>(&self, name: &str, sequence: u64) -> io::Result<S> {
        self.registry()?.state_at(name, &self.inner.reader, Moment::Sequence(sequence))
    }

    /// The state that a view had at a time, in seconds since the Unix epoch: as [`EventLog::state_at_time`].
    ///
    /// # Errors
    /// As [`EventLog::state_at`].
    pub fn state_at_time<S: 'static>(&self, name: &str, ts: u64) -> io::Result<S> {
        self.registry()?.state_at(name, &self.inner.reader, Moment::Time(ts))
    }

    /// The damaged lines that a view passed over: as [`EventLog::passed_over`]. Waits for a refresh that is under way.
    ///
    /// # Errors
    /// As [`EventLog::passed_over`].
    pub fn passed_over(&self, name: &str) -> io::Result<Option<PassedOver>> {
        self.registry()?.passed_over(name)
    }

    /// A reader of this log, which needs no lock.
    pub fn reader(&self) -> EventReader {
        self.inner.reader.clone()
    }
}

impl fmt::Debug for SharedLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedLog").field("reader", &self.inner.reader).finish_non_exhaustive()
    }
}
