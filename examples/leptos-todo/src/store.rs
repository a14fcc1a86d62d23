//! The log behind the list: who changes something waits for the disk, who looks does not.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use keplordb_fold::{Event, EventLog, SharedLog, SnapshotPolicy, ViewOptions};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;

use crate::state::{TODOS_MAX, Tally, TodoError, TodoEvent, Todos, clean_text, fold_stats, fold_todos};

/// At this size the active log is moved into the archive.
const LOG_BYTES_MAX: u64 = 10 << 20;

/// The to-dos of a directory. A clone is another handle of the same log.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: SharedLog,
    /// Who changes something has it from the look at the list until the change is in it, so that what was looked for is still so.
    turn: Arc<Mutex<()>>,
    /// The version of the list that all views have; `None` once the server is about to end.
    version: watch::Sender<Option<u64>>,
}

impl Store {
    /// Opens the log of a directory, which is created if it is not there, and folds what it has. Blocks until that is done.
    ///
    /// # Errors
    /// `AlreadyExists` if another process has it open; others as of
    /// [`EventLog::open`](keplordb_fold::EventLog::open) and [`refresh_all`](keplordb_fold::SharedLog::refresh_all).
    pub fn open(dir: &Path) -> io::Result<Self> {
        // A change costs one sync, of the log. States are written when the server ends or the log is rotated; after a crash they are
        // folded from the log again, which has 10 MB at most.
        let options = ViewOptions::default().snapshots(SnapshotPolicy::OnClose);
        let log = EventLog::builder(dir)
            .max_log_size(LOG_BYTES_MAX)
            .typed_view("todos", options, fold_todos)
            .typed_view("stats", options, fold_stats)
            .open()?
            .share();
        log.refresh_all()?;
        // The first look at a view copies it and may wait; from then on each is a reference count.
        log.view::<Tally>("stats")?;
        let todos = log.view::<Todos>("todos")?;
        let version = watch::Sender::new(Some(todos.version));
        Ok(Self { inner: Arc::new(Inner { log, turn: Arc::default(), version }) })
    }

    /// The list as of the last change. Reads memory, never the disk.
    ///
    /// # Errors
    /// [`TodoError::Storage`], which would be a mistake of this program.
    pub fn todos(&self) -> Result<Arc<Todos>, TodoError> {
        self.inner.log.view("todos").map_err(|error| storage(&error))
    }

    /// What was counted as of the last change. Reads memory, never the disk.
    ///
    /// # Errors
    /// As [`todos`](Self::todos).
    pub fn tally(&self) -> Result<Arc<Tally>, TodoError> {
        self.inner.log.view("stats").map_err(|error| storage(&error))
    }

    /// Adds a to-do, on disk when it returns. Returns the version of the list.
    ///
    /// # Errors
    /// As [`add_todo`](crate::api::add_todo).
    pub async fn add(&self, text: &str) -> Result<u64, TodoError> {
        let text = clean_text(text)?;
        let created_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.change(move |todos| {
            if todos.todos.len() >= TODOS_MAX {
                return Err(TodoError::ListFull);
            }
            // There are more numbers than to-dos, unless somebody wrote the last one into the log.
            let id = todos.last_id.checked_add(1).ok_or(TodoError::ListFull)?;
            Ok(Some(TodoEvent::TodoAdded { id, text, created_at }))
        })
        .await
    }

    /// Ticks a to-do, or takes the tick away; on disk when it returns. Returns the version of the list.
    ///
    /// # Errors
    /// As [`toggle_todo`](crate::api::toggle_todo).
    pub async fn toggle(&self, id: u64) -> Result<u64, TodoError> {
        self.change(move |todos| {
            let is_there = todos.todos.contains_key(&id);
            is_there.then_some(Some(TodoEvent::TodoToggled { id })).ok_or(TodoError::NotThere)
        })
        .await
    }

    /// Deletes a to-do, on disk when it returns; does nothing if it is not there. Returns the version of the list.
    ///
    /// # Errors
    /// As [`delete_todo`](crate::api::delete_todo).
    pub async fn delete(&self, id: u64) -> Result<u64, TodoError> {
        self.change(move |todos| Ok(todos.todos.contains_key(&id).then_some(TodoEvent::TodoDeleted { id })))
            .await
    }

    /// Appends the event that is wanted, if one is, and folds it: by the time it returns the change is on disk and in the views. Who was
    /// told of it by [`versions`](Self::versions) sees it, too.
    async fn change(
        &self,
        wanted: impl FnOnce(&Todos) -> Result<Option<TodoEvent>, TodoError> + Send + 'static,
    ) -> Result<u64, TodoError> {
        let inner = Arc::clone(&self.inner);
        let turn = Arc::clone(&inner.turn).lock_owned().await;
        // It waits for the disk, which threads that serve others must not.
        let done = spawn_blocking(move || {
            let _turn = turn;
            inner.change(wanted)
        });
        // The first error would be a panic there.
        done.await.map_err(|error| storage(&error))?
    }

    /// The version of the list that every look from now on has at least; 0 when the server is about to end.
    pub fn version(&self) -> u64 {
        self.inner.version.borrow().unwrap_or_default()
    }

    /// The version of the list, and each one that follows; `None` when the server is about to end.
    pub fn versions(&self) -> watch::Receiver<Option<u64>> {
        self.inner.version.subscribe()
    }

    /// Tells those who listen that the server is about to end. The log is closed when the last handle is dropped.
    pub fn end(&self) {
        self.inner.version.send_replace(None);
    }
}

impl Inner {
    fn change(
        &self,
        wanted: impl FnOnce(&Todos) -> Result<Option<TodoEvent>, TodoError>,
    ) -> Result<u64, TodoError> {
        // Nothing is accepted that nobody would see, and who sent it would send again.
        let version = self.show().map_err(|error| storage(&error))?;
        let todos = self.log.view::<Todos>("todos").map_err(|error| storage(&error))?;
        let Some(event) = wanted(&todos)? else { return Ok(version) };
        self.append(&event).map_err(|error| storage(&error))?;
        self.show().map_err(|error| {
            storage(&error);
            TodoError::NotShown
        })
    }

    fn append(&self, event: &TodoEvent) -> io::Result<()> {
        self.log.append(&to_line(event)?)?;
        Ok(())
    }

    /// Folds what is new, and tells the version once all views have it.
    fn show(&self) -> io::Result<u64> {
        self.log.refresh_all()?;
        let version = self.log.view::<Todos>("todos")?.version;
        self.version.send_if_modified(|told| {
            let is_news = told.is_some_and(|told| told < version);
            if is_news {
                *told = Some(version);
            }
            is_news
        });
        Ok(version)
    }
}

/// An event of ours as one of the log's.
fn to_line(event: &TodoEvent) -> serde_json::Result<Event> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "type")]
        event_type: String,
        data: Value,
    }
    let line: Line = serde_json::from_value(serde_json::to_value(event)?)?;
    Ok(Event::new(&line.event_type, line.data))
}

/// Tells the details to who runs the server, not to everybody who has a browser.
fn storage(error: &dyn std::error::Error) -> TodoError {
    eprintln!("the log failed: {error}");
    TodoError::Storage
}
