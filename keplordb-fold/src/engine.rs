//! Views over a `keplordb` store: the state that its events come to by a reducer, in the order of their sequences.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use keplordb::{DbError, Schema, Start, Store, Trace};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::error::FoldError;
use crate::hash::line_hash;
use crate::kept::{Kept, Kind, Run};
use crate::snapshot::Progress;
use crate::view_options::ViewOptions;

/// The state that the events of a store come to by a reducer: derived state for typed columnar events.
///
/// A refresh catches up by the store's tail: from behind the last event that was folded, in the order of sequences, each one once, also
/// after a restart. The state is kept like that of a [`View`](crate::View), as `<name>.store.json` with the sequence that it has come
/// to; [`ViewOptions`] say when, and which version its reducer has. So the two may have one name and one directory.
/// ```
/// use keplordb::{Schema, Store};
/// use keplordb_fold::StoreView;
///
/// #[derive(Schema)]
/// #[keplordb(id = 1)]
/// pub struct Order {
///     #[dim]
///     pub customer: String,
///     #[counter]
///     pub cents: u32,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::<Order>::open(dir.path().join("orders"))?;
/// store.append(Order::new(1).customer("alice").cents(500))?;
/// store.append(Order::new(2).customer("bob").cents(70))?;
///
/// let largest = |largest: (String, u32), order: &<Order as Schema>::Row| {
///     if order.cents() > largest.1 { (order.customer().to_owned(), order.cents()) } else { largest }
/// };
/// let mut view: StoreView<Order, (String, u32)> = StoreView::new("largest", largest, &dir.path().join("views"));
/// assert_eq!(view.refresh(&store)?, &("alice".to_owned(), 500));
/// store.append(Order::new(3).customer("carol").cents(900))?;
/// assert_eq!(view.refresh(&store)?.0, "carol");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// - **Deletes.** An event that is deleted before it was folded is not folded. One that is deleted later stays in the state, until
///   [`rebuild`](Self::rebuild).
/// - **Retention.** Events that the store dropped before they were folded are an error, [`FoldError::Pruned`], unless
///   [`ViewOptions::begin_after_pruned`] says to go on behind them. Once folded, events may go: the state remains. Then its file is all
///   that is left of them, and no cache any longer: back it up with the store. A refresh never removes it, and one that would begin
///   anew, such as with another version of the reducer, and cannot, leaves it as it is.
/// - **Power cuts.** Events that were folded are synced before their state is kept, also with [`Sync::Os`](keplordb::Sync::Os), so a
///   power cut takes none of them out of the store.
/// - **Another store.** The snapshot says which event was folded last, by its sequence, id and time. If the store never had it, neither the
///   snapshot nor a state in memory is gone on from, and the state is computed anew: so with another store, and with this one put back from
///   an older backup. Has that store dropped events, it is [`FoldError::Pruned`], and the file stays. What cannot be told is another
///   store in which that very sequence was deleted or dropped, or an older backup that was opened and written to at least once before the
///   view is refreshed with it, and has no event of the run that the folded one was of: [`rebuild`](Self::rebuild) after putting back a backup.
/// - Checkpoints of the past are not kept, and no event is damaged: those two options have no effect.
pub struct StoreView<E: Schema, S> {
    kept: Kept<S>,
    reducer: Arc<RowReducer<E, S>>,
}

type RowReducer<E, S> = dyn Fn(S, &<E as Schema>::Row) -> S + Send + Sync;

impl<E, S> StoreView<E, S>
where
    E: Schema,
    S: Serialize + DeserializeOwned + Default + Clone,
{
    /// A view of this name, with its file in this directory, which the first save makes. Nothing is read or created yet. What is
    /// said at [`View::new`](crate::View::new) of names and reducers holds here.
    pub fn new(
        name: &str,
        reducer: impl Fn(S, &E::Row) -> S + Send + Sync + 'static,
        views_dir: &Path,
    ) -> Self {
        Self { kept: Kept::of_store(name, views_dir), reducer: Arc::new(reducer) }
    }

    /// Folds the events that are new since the last refresh, and returns the state.
    ///
    /// The first one reads the snapshot. If anything was folded, the new one is written before this returns, unless
    /// [`ViewOptions::snapshots`] says otherwise. Which events are there is said at [`keplordb::Tail`]: those on disk, of which
    /// none with a lower sequence can come later.
    ///
    /// Cost: looks up the event that was folded last, and reads those behind it; [syncs](Store::sync) the store if there are any, which
    /// costs nothing where all was synced.
    ///
    /// # Errors
    /// [`FoldError::Pruned`] in the error if events were dropped before they were folded; the view stays before them. A
    /// [`DbError`] in it where the store cannot be read: what was folded until then is kept, unless it began with the first event, as
    /// without a snapshot that fits: then view and file are as before. Or where it cannot be synced: then they are so too. `InvalidInput`
    /// for a name that cannot be a file. Else what writing the snapshot says.
    ///
    /// # Panics
    /// If the reducer does; the view is then as before.
    pub fn refresh(&mut self, store: &Store<E>) -> io::Result<&S> {
        let stored = self.kept.stored()?;
        let last = stored.as_ref().map_or(&self.kept.progress, |stored| &stored.progress).position.offset;
        let (state, progress, kind) = match stored {
            Some(stored) if continues(store, &stored.progress)? => {
                (stored.state, stored.progress, Kind::Loaded)
            }
            None if self.kept.is_loaded() && continues(store, &self.kept.progress)? => {
                (self.kept.state.clone(), self.kept.progress.clone(), Kind::On)
            }
            None if !self.kept.is_loaded() => (S::default(), Progress::default(), Kind::First),
            _ => {
                warn!(
                    "the view {:?} has folded event {}, which this store never had, and is computed anew",
                    self.kept.name, last
                );
                (S::default(), Progress::default(), Kind::Instead)
            }
        };
        let (run, failed) = self.fold(store, state, progress, kind)?;
        if matches!(kind, Kind::First | Kind::Instead) && failed.is_err() {
            // Of events that are gone the file may know alone, though this reducer cannot read it.
            return failed.map(|()| &self.kept.state);
        }
        self.kept.settle(run)?;
        if self.kept.is_time_to_save() {
            self.kept.save()?;
        }
        failed.map(|()| &self.kept.state)
    }

    /// Computes the state from the first event on that the store has, whatever is kept, and writes the snapshot anew.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh); the view and its snapshot are then as before.
    ///
    /// # Panics
    /// If the reducer does; likewise.
    pub fn rebuild(&mut self, store: &Store<E>) -> io::Result<&S> {
        self.kept.stored()?;
        let (run, failed) = self.fold(store, S::default(), Progress::default(), Kind::Instead)?;
        failed?;
        self.kept.settle(run)?;
        // Also where nothing was folded: what was kept before must not be gone on from.
        self.kept.save()?;
        Ok(&self.kept.state)
    }

    /// Folds what comes behind this progress. Returns what it came to, of which no power cut takes anything, and why it stopped.
    ///
    /// # Errors
    /// If that is not so.
    fn fold(
        &self,
        store: &Store<E>,
        mut state: S,
        mut progress: Progress,
        kind: Kind,
    ) -> io::Result<(Run<S>, io::Result<()>)> {
        let start = match last_of(&progress) {
            Some(last) => Start::After(last),
            None if self.kept.options.after_pruned => Start::Beginning,
            // The first event has number 1; a beginning like this one is told what is missing.
            None => Start::After(0),
        };
        let mut tail = store.tail(start);
        let mut folded = 0;
        let mut ended = loop {
            match tail.try_next() {
                Ok(Some(row)) => {
                    state = (self.reducer)(state, &row);
                    folded += 1;
                    progress.sequence = tail.position() + 1;
                    progress.position.offset = tail.given().unwrap_or_default();
                }
                Ok(None) => break Ok(()),
                Err(DbError::Gap { .. }) if self.kept.options.after_pruned => {}
                Err(DbError::Gap { last, .. }) => break Err(FoldError::Pruned { first: last + 1 }.into()),
                Err(error) => break Err(io::Error::other(error)),
            }
        };
        if folded > 0 {
            // What is kept must not be ahead of the store: where all events of a run were lost, nothing tells that they ever were.
            store.sync().map_err(io::Error::other)?;
            match hash_of(store, progress.position.offset) {
                Ok(hash) => progress.hash = hash.unwrap_or_default(),
                // Without it nothing could be told later, but that the number was given.
                Err(error) => (progress.hash, ended) = (String::new(), ended.and(Err(error))),
            }
        }
        Ok((Run::ended(state, progress, folded, kind), ended))
    }

    /// The state in memory. Reads nothing: before the first refresh it is the default.
    pub fn state(&self) -> &S {
        &self.kept.state
    }

    /// The name, as it was given.
    pub fn name(&self) -> &str {
        &self.kept.name
    }

    /// The same with these options. To be called before the first refresh.
    /// ```
    /// use keplordb_fold::{StoreView, ViewOptions};
    ///
    /// #[derive(keplordb::Schema)]
    /// #[keplordb(id = 1)]
    /// pub struct Visit {
    ///     #[dim]
    ///     pub page: String,
    /// }
    ///
    /// let view: StoreView<Visit, u64> = StoreView::new("visits", |n, _| n + 1, "views".as_ref());
    /// let view = view.with_options(ViewOptions::default().version(2));
    /// assert_eq!((view.name(), *view.state()), ("visits", 0));
    /// ```
    #[must_use]
    pub fn with_options(mut self, options: ViewOptions) -> Self {
        self.kept.options = options;
        self
    }

    /// The sequence of the last event that was folded; none before the first.
    pub fn last_sequence(&self) -> Option<u64> {
        Some(self.kept.progress.position.offset).filter(|sequence| *sequence > 0)
    }

    /// Writes the state to disk if it changed since that was last done, whatever the policy; durable when it returns.
    ///
    /// # Errors
    /// `InvalidData` if the state cannot be JSON, else what a file operation says.
    pub fn save_snapshot(&mut self) -> io::Result<()> {
        if self.kept.is_unsaved() { self.kept.save() } else { Ok(()) }
    }
}

/// What such a progress goes on behind; none at the beginning. No event up to there is to be folded any more, while the last that was
/// may be an earlier one: its sequence is the `offset`, and the `hash` is that of its time and id.
fn last_of(progress: &Progress) -> Option<u64> {
    progress.sequence.checked_sub(1)
}

/// Whether the events of such a progress are those of this store: the last one is there, or was.
fn continues<E: Schema>(store: &Store<E>, progress: &Progress) -> io::Result<bool> {
    let Some(passed) = last_of(progress) else { return Ok(true) };
    let sequence = progress.position.offset;
    if passed > store.tail(Start::Now).position() {
        return Ok(false);
    }
    let trace = store.trace(sequence).map_err(io::Error::other)?;
    Ok(match hash_of_trace(&trace) {
        Some(hash) => progress.hash.is_empty() || progress.hash == hash,
        None => trace == Trace::Gone,
    })
}

/// The hash of the event with this sequence, if it is there.
fn hash_of<E: Schema>(store: &Store<E>, sequence: u64) -> io::Result<Option<String>> {
    Ok(hash_of_trace(&store.trace(sequence).map_err(io::Error::other)?))
}

fn hash_of_trace(trace: &Trace) -> Option<String> {
    match trace {
        Trace::Live { id, ts_ns } => Some(line_hash(format!("{ts_ns} {id}").as_bytes())),
        _ => None,
    }
}

impl<E: Schema, S: fmt::Debug> fmt::Debug for StoreView<E, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kept.describe("StoreView", formatter)
    }
}
