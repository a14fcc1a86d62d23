//! A view: a reducer, and the state that the events of a log come to by it.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use keplordb_disk::Disk;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::audit::{self, Audit};
use crate::directory::Present;
use crate::event::Event;
use crate::history::History;
use crate::kept::{Kept, Moment, Run, Source};
use crate::position::Position;
use crate::reader::EventReader;
use crate::reducer::Reducer;
use crate::rows::Row;
use crate::snapshot::PassedOver;
use crate::time_travel::{Rules, fold_rows, state_at};
use crate::view_options::ViewOptions;
use crate::views::{self, Folding, Parsed, Parser};

/// The state that the events of a log come to by a reducer, kept on disk so that a refresh folds only what is new.
///
/// The file is `<name>.snapshot.json` in the directory of views, see [`snapshot`](crate::snapshot). It is a cache: where it is missing,
/// was changed, belongs to another version of the reducer, or does not fit the log, the state is computed from the first event
/// on; where history was [pruned](crate::EventLog::prune), from what the same reducer had come to then. Where it is of an earlier generation
/// of the log, the view goes on in the archive and misses nothing.
///
/// The state is harmed by nothing: a refresh that meets a damaged line leaves it at the last good event before that; one whose
/// reducer panics, as it was.
/// ```
/// use keplordb_fold::{Event, EventWriter, View};
/// use serde_json::json;
///
/// # let dir = tempfile::tempdir()?;
/// let mut writer = EventWriter::open(dir.path())?;
/// writer.append(&Event::new("coffee", json!({"cups": 2})))?;
/// writer.append(&Event::new("coffee", json!({"cups": 1})))?;
///
/// let cups = |cups: u64, event: &Event| cups + event.data["cups"].as_u64().unwrap_or(0);
/// let mut view: View<u64> = View::new("cups", cups, writer.views_dir());
/// assert_eq!(*view.state(), 0); // nothing was read yet
/// assert_eq!(*view.refresh(&writer.reader())?, 3);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct View<S> {
    kept: Kept<S>,
    reducer: Reducer<S>,
}

/// What can be done with a view whose state is of any type. Nobody else can implement it.
///
/// ```
/// use keplordb_fold::{Event, EventWriter, View, ViewOps};
/// use serde_json::json;
///
/// # let dir = tempfile::tempdir()?;
/// let mut writer = EventWriter::open(dir.path())?;
/// writer.append(&Event::new("tick", json!(null)))?;
/// let count: View<u64> = View::new("count", |n, _| n + 1, writer.views_dir());
/// let mut view: Box<dyn ViewOps> = Box::new(count);
/// view.refresh_boxed(&writer.reader())?;
/// assert_eq!(view.view_name(), "count");
/// assert_eq!(view.as_any().downcast_ref::<View<u64>>().map(|view| *view.state()), Some(1));
/// # Ok::<(), std::io::Error>(())
/// ```
#[expect(private_bounds, reason = "whose supertrait is private cannot be implemented elsewhere")]
pub trait ViewOps: Sealed + Send {
    /// [`View::refresh`].
    ///
    /// # Errors
    /// As [`View::refresh`].
    fn refresh_boxed(&mut self, reader: &EventReader) -> io::Result<()>;

    /// Goes on at the beginning of the next generation, and writes the snapshot: for a rotation that archived all that this view has
    /// folded. A view that was never refreshed stays as it is. If no such rotation comes, the next refresh computes the state anew.
    ///
    /// # Errors
    /// What writing the snapshot says.
    fn reset_offset(&mut self) -> io::Result<()>;

    /// The name.
    fn view_name(&self) -> &str;

    /// The view itself, to get its type back.
    fn as_any(&self) -> &dyn Any;

    /// The view itself, to get its type back.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// What one pass over the log, and a rotation, need of a view. It is private, so that nobody else can be a view.
pub(crate) trait Sealed: Folding {
    /// Begins a refresh.
    fn enter(&mut self, history: &History, present: &Present) -> io::Result<()>;
    /// Ends it; `complete`: the history was read to its end.
    fn leave(&mut self, present: &Present, complete: bool) -> io::Result<()>;
    /// Goes on in the next generation if all up to `end` was folded, which a rotation has archived; writes the snapshot.
    fn rotated(&mut self, end: Position) -> io::Result<()>;
    /// Says which disk the snapshot is on, before the first refresh.
    fn on_disk(&mut self, disk: Arc<dyn Disk>);
    /// Computes the state anew.
    fn rebuild_boxed(&mut self, history: &History) -> io::Result<()>;
    /// A number that changes whenever the state may have.
    fn changes(&self) -> u64;
    /// What the state lacks.
    fn lacks(&self) -> Option<PassedOver>;
    /// What compares the states that it keeps with those that a fresh fold comes to; `None` if it keeps none.
    fn audit(&self, history: &History, present: &Present) -> io::Result<Option<Box<dyn Audit + '_>>>;
    /// Whether a view like this one could go on from a file with these contents.
    fn can_read(&self, contents: &[u8]) -> bool;
}

/// Gives a view type the methods that do not depend on its reducer.
macro_rules! kept_methods {
    ($example:literal) => {
        /// The state in memory. Reads nothing: before the first refresh it is the default.
        pub fn state(&self) -> &S {
            &self.kept.state
        }

        /// The name, as it was given.
        pub fn name(&self) -> &str {
            &self.kept.name
        }

        /// The same with these options. To be called before the first refresh.
        #[doc = $example]
        #[must_use]
        pub fn with_options(mut self, options: ViewOptions) -> Self {
            self.kept.options = options;
            self
        }

        /// Where the next refresh goes on.
        pub fn position(&self) -> Position {
            self.kept.progress.position
        }

        /// How many events the state was folded from: the sequence of the next one. Damaged lines that were passed over count.
        pub fn sequence(&self) -> u64 {
            self.kept.progress.sequence
        }

        /// How many damaged lines were passed over on the way to this state, in earlier processes too; only with
        /// [`skip_damaged`](ViewOptions::skip_damaged) any are.
        pub fn damaged_lines(&self) -> u64 {
            self.passed_over().map_or(0, |passed_over| passed_over.lines)
        }

        /// The same, and where the first one is; `None` if the state lacks nothing. [`repair`](crate::repair) sets lines aside that
        /// are no events; then the view is computed anew, and nothing is passed over.
        pub fn passed_over(&self) -> Option<PassedOver> {
            self.kept.progress.passed_over
        }

        /// Writes the state to disk if it changed since that was last done, whatever the policy; durable when it returns.
        ///
        /// # Errors
        /// `InvalidData` if the state cannot be JSON, else what a file operation says.
        pub fn save_snapshot(&mut self) -> io::Result<()> {
            if self.kept.is_unsaved() { self.kept.save() } else { Ok(()) }
        }
    };
}
pub(crate) use kept_methods;

impl<S> View<S>
where
    S: Serialize + DeserializeOwned + Default + Clone,
{
    /// A view of this name. Nothing is read or created yet.
    ///
    /// The reducer may capture, but should be pure: the same events must always come to the same state. It is called on the
    /// thread that refreshes.
    ///
    /// A name has letters, digits, spaces, `-`, `_` and `.`, at most 128 bytes; the first refresh refuses others.
    /// ```
    /// use keplordb_fold::{Event, View};
    ///
    /// let watched = "payment".to_owned();
    /// let reducer = move |count: u64, event: &Event| count + u64::from(event.event_type == watched);
    /// let view: View<u64> = View::new("payments", reducer, "views".as_ref());
    /// assert_eq!(view.name(), "payments");
    /// ```
    pub fn new(
        name: &str,
        reducer: impl Fn(S, &Event) -> S + Send + Sync + 'static,
        views_dir: &Path,
    ) -> Self {
        Self { kept: Kept::new(name, views_dir), reducer: Arc::new(reducer) }
    }

    /// Folds the events that are new since the last refresh, and returns the state.
    ///
    /// The first one reads the snapshot. If anything was folded, the new one is written before this returns, unless
    /// [`ViewOptions::snapshots`] says otherwise; if not, nothing is written. Many events are parsed on several threads, ahead of the fold.
    ///
    /// # Errors
    /// `NotFound` if there is no log. `InvalidData` with [`FoldError::BadLine`](crate::FoldError::BadLine) at a damaged line: what comes
    /// before it is folded, and the next refresh begins with it. `InvalidInput` for a name that cannot be a file. `NotFound`
    /// with [`FoldError::Pruned`](crate::FoldError::Pruned) if the view would have to begin with events that are gone. Else what a file operation says.
    ///
    /// # Panics
    /// If the reducer does; the view is then as before.
    pub fn refresh(&mut self, reader: &EventReader) -> io::Result<&S> {
        views::refresh(reader.history(), vec![self])?;
        Ok(&self.kept.state)
    }

    /// Computes the state from the first event on, whatever is kept, and writes the snapshot anew. Checkpoints of the past go too, and
    /// are made again.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh); the view and its snapshot are then as before.
    ///
    /// # Panics
    /// If the reducer does; likewise.
    pub fn rebuild(&mut self, reader: &EventReader) -> io::Result<&S> {
        self.rebuild_boxed(reader.history())?;
        Ok(&self.kept.state)
    }

    /// The state after the first `sequence` events of the log: after all of them if there are fewer. The view itself stays where it is.
    ///
    /// It is folded from the latest [checkpoint](crate::Checkpoints), snapshot, or state in memory that lies before, else from the first event on.
    /// ```
    /// use keplordb_fold::{Event, EventWriter, View};
    /// use serde_json::json;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let mut writer = EventWriter::open(dir.path())?;
    /// for n in 1..=4 {
    ///     writer.append(&Event::new("deposit", json!(n)))?;
    /// }
    /// let balance = |balance: u64, event: &Event| balance + event.data.as_u64().unwrap_or(0);
    /// let view: View<u64> = View::new("balance", balance, writer.views_dir());
    /// assert_eq!(view.state_at(&writer.reader(), 2)?, 3);
    /// assert_eq!(view.state_at(&writer.reader(), 100)?, 10);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh), where the damaged line lies before that event.
    ///
    /// # Panics
    /// If the reducer does.
    pub fn state_at(&self, reader: &EventReader, sequence: u64) -> io::Result<S> {
        self.state_of(reader, Moment::Sequence(sequence))
    }

    /// The state at a time, in seconds since the Unix epoch: as it was before the first event in the log that is later than that.
    ///
    /// So it is a state that the view was really in, also where clocks differed and times in the log go back now and then.
    /// ```
    /// use keplordb_fold::{Event, EventWriter, View};
    /// use serde_json::json;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let mut writer = EventWriter::open(dir.path())?;
    /// for ts in [100, 200, 200, 300] {
    ///     let event = Event { ts, ..Event::new("visit", json!(null)) };
    ///     writer.append(&event)?;
    /// }
    /// let view: View<u64> = View::new("visits", |n, _| n + 1, writer.views_dir());
    /// assert_eq!(view.state_at_time(&writer.reader(), 99)?, 0);
    /// assert_eq!(view.state_at_time(&writer.reader(), 250)?, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`state_at`](Self::state_at).
    ///
    /// # Panics
    /// If the reducer does.
    pub fn state_at_time(&self, reader: &EventReader, ts: u64) -> io::Result<S> {
        self.state_of(reader, Moment::Time(ts))
    }

    fn state_of(&self, reader: &EventReader, moment: Moment) -> io::Result<S> {
        let fold =
            |run: &mut _, parsed: Parsed<'_>, rules: Rules<'_, S>| self.fold_beside(run, &parsed, rules);
        state_at(&self.kept, reader.history(), moment, Parser::Events, fold)
    }

    /// Folds a block into a run that is not the view's own.
    fn fold_beside(&self, run: &mut Run<S>, parsed: &Parsed<'_>, rules: Rules<'_, S>) -> bool {
        let Parsed::Events(rows) = parsed else { return false };
        fold_rows(run, rows.iter().map(Row::as_ref), rules, |state, event, _| (self.reducer)(state, event))
    }

    kept_methods! {"
```
use keplordb_fold::{SnapshotPolicy, View, ViewOptions};

let options = ViewOptions::default().version(2).snapshots(SnapshotPolicy::OnClose);
let view: View<u64> = View::new(\"count\", |n, _| n + 1, \"views\".as_ref()).with_options(options);
assert_eq!(view.sequence(), 0);
```"}
}

impl<S: fmt::Debug> fmt::Debug for View<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kept.describe("View", formatter)
    }
}

impl<S> Folding for View<S>
where
    S: Serialize + DeserializeOwned + Default + Clone,
{
    fn next_position(&self) -> Position {
        self.kept.position()
    }

    fn parser(&self) -> Parser {
        Parser::Events
    }

    fn fold(&mut self, source: Source<'_>, parsed: Parsed<'_>) -> bool {
        let Parsed::Events(rows) = parsed else { return false };
        let reducer = &self.reducer;
        self.kept.fold(source, rows.iter().map(Row::as_ref), |state, event, _| reducer(state, event))
    }
}

impl<S> Sealed for View<S>
where
    S: Serialize + DeserializeOwned + Default + Clone,
{
    fn enter(&mut self, history: &History, present: &Present) -> io::Result<()> {
        self.kept.enter(history, present)
    }

    fn leave(&mut self, present: &Present, complete: bool) -> io::Result<()> {
        self.kept.leave(present, complete)
    }

    fn rotated(&mut self, end: Position) -> io::Result<()> {
        self.kept.rotated(end)
    }

    fn on_disk(&mut self, disk: Arc<dyn Disk>) {
        self.kept.on_disk(disk);
    }

    fn rebuild_boxed(&mut self, history: &History) -> io::Result<()> {
        let present = history.present()?;
        self.kept.enter_anew(history, &present)?;
        views::run_one(history, &present, self)
    }

    fn changes(&self) -> u64 {
        self.kept.changes
    }

    fn lacks(&self) -> Option<PassedOver> {
        self.passed_over()
    }

    fn audit(&self, history: &History, present: &Present) -> io::Result<Option<Box<dyn Audit + '_>>> {
        let fold =
            |run: &mut _, parsed: Parsed<'_>, rules: Rules<'_, S>| self.fold_beside(run, &parsed, rules);
        audit::of(&self.kept, (history, present), Parser::Events, fold)
    }

    fn can_read(&self, contents: &[u8]) -> bool {
        self.kept.can_read(contents)
    }
}

impl<S> ViewOps for View<S>
where
    S: Serialize + DeserializeOwned + Default + Clone + Send + 'static,
{
    fn refresh_boxed(&mut self, reader: &EventReader) -> io::Result<()> {
        self.refresh(reader).map(drop)
    }

    fn reset_offset(&mut self) -> io::Result<()> {
        self.kept.reset_offset()
    }

    fn view_name(&self) -> &str {
        self.name()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
