//! A view whose reducer takes events of its own type, made from the line without a tree of JSON between.

use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use keplordb_disk::Disk;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::audit::{self, Audit};
use crate::directory::Present;
use crate::history::History;
use crate::kept::{Kept, Moment, Run, Source};
use crate::position::Position;
use crate::reader::EventReader;
use crate::rows::{Row, parse};
use crate::snapshot::PassedOver;
use crate::time_travel::{Rules, fold_rows, state_at};
use crate::typed_line::{Beside, read_typed};
use crate::view::{Sealed, ViewOps, kept_methods};
use crate::view_options::ViewOptions;
use crate::views::{self, Folding, OwnParser, Parsed, Parser};

/// A [`View`](crate::View) whose reducer takes events of a type of its own rather than [`Event`](crate::Event)s: a match on variants in place
/// of a search in JSON, at several times the speed.
///
/// The type is an enum with a variant for each type of event that matters, tagged as the lines are:
/// ```
/// use keplordb_fold::{Event, EventWriter, TypedView};
/// use serde::Deserialize;
/// use serde_json::json;
///
/// #[derive(Deserialize)]
/// #[serde(tag = "type", content = "data", rename_all = "snake_case")]
/// enum Account {
///     Deposited { cents: i64 },
///     Withdrawn { cents: i64 },
///     Closed,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let mut writer = EventWriter::open(dir.path())?;
/// writer.append(&Event::new("deposited", json!({"cents": 500})))?;
/// writer.append(&Event::new("looked_at", json!({"page": 3})))?; // of no interest here
/// writer.append(&Event::new("withdrawn", json!({"cents": 120})))?;
///
/// let balance = |cents: i64, event: Account| match event {
///     Account::Deposited { cents: more } => cents + more,
///     Account::Withdrawn { cents: less } => cents - less,
///     Account::Closed => 0,
/// };
/// let mut view: TypedView<Account, i64> = TypedView::new("balance", balance, writer.views_dir());
/// assert_eq!(*view.refresh(&writer.reader())?, 380);
/// assert_eq!(view.unknown_events(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
/// - A `type` that the enum does not have is passed over, and counted: [`unknown_events`](Self::unknown_events). A variant with
///   `#[serde(other)]` takes them instead.
/// - `data` that does not fit its variant is an error that says where and why, as a damaged line is, and skipped where
///   [`ViewOptions::skip_damaged`] says so. A variant without fields takes `null`, `{}`, or no field of what there is.
/// - What stands beside the data (time, id, actor, meta) is for the reducer of [`with_meta`](Self::with_meta). The type is shown `type` and
///   `data` alone; so it may be any other that is made from these two keys, a struct for instance.
///
/// Everything else is as with a [`View`](crate::View): snapshots, rotation, errors, and one pass for all views of a log.
pub struct TypedView<E, S> {
    kept: Kept<S>,
    reducer: Arc<TypedReducer<E, S>>,
    parser: OwnParser,
    events: PhantomData<fn(E)>,
}

/// What both kinds of reducer come to.
type TypedReducer<E, S> = dyn Fn(S, E, u64, Beside) -> S + Send + Sync;

/// What stands in the line beside `type` and `data`, and which event it is.
///
/// ```
/// use keplordb_fold::{Event, EventWriter, Meta, TypedView};
/// use serde::Deserialize;
/// use serde_json::json;
///
/// #[derive(Deserialize)]
/// #[serde(tag = "type", content = "data", rename_all = "snake_case")]
/// enum Edit {
///     Saved { page: String },
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let mut writer = EventWriter::open(dir.path())?;
/// writer.append(&Event::new("saved", json!({"page": "home"})).with_actor("u-17"))?;
/// let last = |_: String, Edit::Saved { page }, meta: &Meta| {
///     format!("{page} by {}, event {}", meta.actor.as_deref().unwrap_or("nobody"), meta.sequence)
/// };
/// let mut view: TypedView<Edit, String> = TypedView::with_meta("last", last, writer.views_dir());
/// assert_eq!(view.refresh(&writer.reader())?, "home by u-17, event 0");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Meta {
    /// The number of the event, from 0; damaged lines count.
    pub sequence: u64,
    /// When, in whole seconds since the Unix epoch.
    pub ts: u64,
    /// Which event this is, where its maker says so.
    pub id: Option<String>,
    /// Who made it happen.
    pub actor: Option<String>,
    /// Anything else that belongs to it.
    pub meta: Option<Value>,
}

impl<E, S> TypedView<E, S>
where
    E: DeserializeOwned + Send + 'static,
    S: Serialize + DeserializeOwned + Default + Clone,
{
    /// A view of this name. Nothing is read or created yet. What is said at [`View::new`](crate::View::new) of names and reducers holds here.
    ///
    /// Events are made on other threads where there are many, and so must be `Send`; the reducer is called on the thread that
    /// refreshes.
    pub fn new(name: &str, reducer: impl Fn(S, E) -> S + Send + Sync + 'static, views_dir: &Path) -> Self {
        let reducer = move |state, event, _, _: Beside| reducer(state, event);
        Self::of(name, Arc::new(reducer), views_dir, false)
    }

    /// The same for a reducer that also wants to know when, by whom, and the like. It costs the making of those texts.
    pub fn with_meta(
        name: &str,
        reducer: impl Fn(S, E, &Meta) -> S + Send + Sync + 'static,
        views_dir: &Path,
    ) -> Self {
        let reducer = move |state, event, sequence, beside: Beside| {
            let Beside { ts, more } = beside;
            let (id, actor, meta) = more.map_or((None, None, None), |more| (more.id, more.actor, more.meta));
            reducer(state, event, &Meta { sequence, ts, id, actor, meta })
        };
        Self::of(name, Arc::new(reducer), views_dir, true)
    }

    fn of(name: &str, reducer: Arc<TypedReducer<E, S>>, views_dir: &Path, with_more: bool) -> Self {
        let parser: OwnParser = Arc::new(move |block| {
            let mut rows = Vec::new();
            parse(block, &mut rows, |line| read_typed::<E>(line, with_more));
            Box::new(rows)
        });
        Self { kept: Kept::new(name, views_dir), reducer, parser, events: PhantomData }
    }

    /// Folds the events that are new since the last refresh, and returns the state: [`View::refresh`](crate::View::refresh).
    ///
    /// # Errors
    /// As there; `InvalidData` with [`FoldError::UnfitEvent`](crate::FoldError::UnfitEvent) where the data of an event does not fit
    /// its type.
    ///
    /// # Panics
    /// If the reducer does, or the making of an event; the view is then as before.
    pub fn refresh(&mut self, reader: &EventReader) -> io::Result<&S> {
        views::refresh(reader.history(), vec![self])?;
        Ok(&self.kept.state)
    }

    /// Computes the state from the first event on: [`View::rebuild`](crate::View::rebuild).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As [`refresh`](Self::refresh).
    pub fn rebuild(&mut self, reader: &EventReader) -> io::Result<&S> {
        self.rebuild_boxed(reader.history())?;
        Ok(&self.kept.state)
    }

    /// The state after the first `sequence` events: [`View::state_at`](crate::View::state_at).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As [`refresh`](Self::refresh).
    pub fn state_at(&self, reader: &EventReader, sequence: u64) -> io::Result<S> {
        self.state_of(reader, Moment::Sequence(sequence))
    }

    /// The state at a time: [`View::state_at_time`](crate::View::state_at_time).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As [`refresh`](Self::refresh).
    pub fn state_at_time(&self, reader: &EventReader, ts: u64) -> io::Result<S> {
        self.state_of(reader, Moment::Time(ts))
    }

    fn state_of(&self, reader: &EventReader, moment: Moment) -> io::Result<S> {
        let fold =
            |run: &mut _, parsed: Parsed<'_>, rules: Rules<'_, S>| self.fold_beside(run, parsed, rules);
        state_at(&self.kept, reader.history(), moment, self.parser(), fold)
    }

    /// Folds a block into a run that is not the view's own.
    fn fold_beside(&self, run: &mut Run<S>, parsed: Parsed<'_>, rules: Rules<'_, S>) -> bool {
        let Some(rows) = own_rows::<E>(parsed) else { return false };
        fold_rows(run, rows.into_iter(), rules, |state, (event, beside), sequence| {
            (self.reducer)(state, event, sequence, beside)
        })
    }

    kept_methods! {"
```
use keplordb_fold::{TypedView, ViewOptions};

#[derive(serde::Deserialize)]
#[serde(tag = \"type\", content = \"data\")]
enum Tick {
    Tick,
}

let view: TypedView<Tick, u64> = TypedView::new(\"ticks\", |n, Tick::Tick| n + 1, \"views\".as_ref());
let view = view.with_options(ViewOptions::default().version(2));
assert_eq!(view.sequence(), 0);
```"}

    /// How many events of types that the reducer does not know were passed over since this value was made.
    pub fn unknown_events(&self) -> u64 {
        self.kept.unknown_events
    }
}

/// The rows that this view's parser made.
fn own_rows<E: 'static>(parsed: Parsed<'_>) -> Option<Vec<Row<(E, Beside)>>> {
    let Parsed::Own(rows) = parsed else { return None };
    rows.downcast().ok().map(|rows| *rows)
}

impl<E, S: fmt::Debug> fmt::Debug for TypedView<E, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kept.describe("TypedView", formatter)
    }
}

impl<E, S> Folding for TypedView<E, S>
where
    E: DeserializeOwned + Send + 'static,
    S: Serialize + DeserializeOwned + Default + Clone,
{
    fn next_position(&self) -> Position {
        self.kept.position()
    }

    fn parser(&self) -> Parser {
        Parser::Own(Arc::clone(&self.parser))
    }

    fn fold(&mut self, source: Source<'_>, parsed: Parsed<'_>) -> bool {
        let Some(rows) = own_rows::<E>(parsed) else { return false };
        let reducer = &self.reducer;
        self.kept.fold(source, rows.into_iter(), |state, (event, beside), sequence| {
            reducer(state, event, sequence, beside)
        })
    }
}

impl<E, S> Sealed for TypedView<E, S>
where
    E: DeserializeOwned + Send + 'static,
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
            |run: &mut _, parsed: Parsed<'_>, rules: Rules<'_, S>| self.fold_beside(run, parsed, rules);
        audit::of(&self.kept, (history, present), self.parser(), fold)
    }

    fn can_read(&self, contents: &[u8]) -> bool {
        self.kept.can_read(contents)
    }
}

impl<E, S> ViewOps for TypedView<E, S>
where
    E: DeserializeOwned + Send + 'static,
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
