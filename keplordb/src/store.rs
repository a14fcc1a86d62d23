//! `Store<S>`: the typed face of an engine, for events declared by `#[derive(Schema)]`.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::columns::{Dim, Filter};
use crate::config::{EngineConfig, Options};
use crate::engine::{
    Appended, Budget, Compacted, Core, Depth, Flushed, GcStats, Maintained, OpenReport, Space, Stats,
    VerifyReport,
};
use crate::error::Result;
use crate::event::RowRef;
use crate::filter::Predicate;
use crate::query::Query;
use crate::read::query::{RollupKey, RollupValue, Totals};
use crate::read::rollup::RollupRow;
use crate::read::row::RowView;
use crate::read::source::Source;
use crate::read::trace::Trace;
use crate::schema::TableSchema;
use crate::sums::Sums;
use crate::values::Values;
use keplordb_log::file::random_salt;

/// An event type: what `#[derive(Schema)]` implements. Programs name it in bounds and need not call it.
pub trait Schema: Sized + Send + Sync + 'static {
    /// An event on its way in.
    type Builder: Send;
    /// Which events a query asks for.
    type Filter: Clone + Send + Sync + Into<Filter<Self>>;
    /// An event on its way out, owned.
    type Row: Send;
    /// An event on its way out, read where it lies.
    type View<'a>: Copy;
    /// Count, sums and extremes: [`Totals`] of the type's number of counters.
    type Totals: From<ExactSums>;
    /// Count and sums of a day: [`RollupValue`] of the type's number of counters.
    type RollupValue: From<ExactRollup>;

    /// The columns.
    fn table_schema() -> TableSchema;
    /// The configuration with this type's id, bloom filter and rollups.
    fn default_config(data_dir: PathBuf) -> EngineConfig;
    /// The event in a builder.
    fn row_of(builder: &Self::Builder) -> RowRef<'_>;
    /// The id in a builder, to be made where it is empty.
    fn id_of(builder: &mut Self::Builder) -> &mut String;
    /// Copies a row out of the engine.
    ///
    /// # Errors
    /// [`DbError::Corrupt`](crate::DbError::Corrupt) when an id or a label cannot be decoded.
    fn read_row(row: &RowView<'_>) -> Result<Self::Row>;
    /// The row with the columns of this type; copies nothing.
    fn view_of<'a>(row: &RowView<'a>) -> Self::View<'a>;
}

/// What an aggregation added up, before it is clamped into [`Totals`].
#[derive(Debug)]
pub struct ExactSums(pub(crate) Sums);

impl<const C: usize> From<ExactSums> for Totals<C> {
    fn from(sums: ExactSums) -> Self {
        Self::new(&sums.0)
    }
}

/// What a day adds up to, before it is clamped into [`RollupValue`].
#[derive(Debug)]
pub struct ExactRollup(RollupRow);

impl<const C: usize> From<ExactRollup> for RollupValue<C> {
    fn from(rollup: ExactRollup) -> Self {
        rollup.0.into_pair().1
    }
}

/// An open table of events of type `S`.
///
/// A handle: clones share one engine, which closes when the last of them is dropped. `Send` and `Sync`, all `&self`.
/// By default an append returns when its event is on disk; appends at the same time share a sync.
///
/// ```
/// use keplordb::{Engine, Schema, Store};
///
/// #[derive(Schema)]
/// #[keplordb(id = 1)]
/// pub struct AiCall {
///     #[dim(bloom, rollup)]
///     pub user: String,
///     #[dim]
///     pub model: String,
///     #[counter]
///     pub tokens: u32,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let (dir, ts_ns) = (dir.path().join("calls"), 1_700_000_000_000_000_000);
/// # let dir = dir.to_str().unwrap();
/// {
///     // One engine per directory: this one is closed at the end of the block.
///     let engine: Engine<2, 1, 0> = Engine::open(AiCall::default_config(dir.into()))?;
///     let call = AiCall::new(ts_ns).user("alice").model("gpt-4o").tokens(1200).metric(5_000_000).status(200);
///     engine.append(&call.into_log_event())?;
///     let totals = engine.aggregate(&AiCall::filter().user("alice").into_filter())?;
///     assert_eq!((totals.event_count, totals.metric), (1, 5_000_000));
/// }
/// let store = Store::<AiCall>::open(dir)?; // the typed face: no const generics in sight
/// store.append(AiCall::new(ts_ns).user("alice").model("gpt-4o").tokens(1200))?;
/// let rows = store.query(AiCall::filter().user("alice")).newest_first().limit(10).rows()?;
/// assert_eq!((rows.len(), rows[0].user(), rows[0].tokens()), (2, "alice", 1200));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Store<S> {
    core: Arc<Core>,
    ids: Arc<Ids>,
    events: PhantomData<fn() -> S>,
}

impl<S> Clone for Store<S> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), ids: Arc::clone(&self.ids), events: PhantomData }
    }
}

impl<S> fmt::Debug for Store<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("core", &self.core).finish_non_exhaustive()
    }
}

impl<S> Store<S> {
    /// The engine under the shell.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl<S: Schema> Store<S> {
    /// Opens the table in this directory, or makes it, with the type's own configuration; every append is on disk when it
    /// returns.
    ///
    /// # Errors
    /// As [`Engine::open`](crate::Engine::open).
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(S::default_config(dir.as_ref().to_owned()), Options::default())
    }

    /// Opens with a configuration and options of your own; names, id and columns are the type's.
    ///
    /// # Errors
    /// As [`Engine::open`](crate::Engine::open).
    pub fn open_with(config: EngineConfig, options: Options) -> Result<Self> {
        let schema = S::table_schema();
        let config = EngineConfig { schema_id: schema.id(), ..config };
        let core = Core::open(config, options, schema)?;
        Ok(Self { core, ids: Arc::new(Ids::new()), events: PhantomData })
    }

    /// What the open found: rows replayed, torn tails cut, leftovers removed.
    pub fn open_report(&self) -> &OpenReport {
        self.core.report()
    }

    /// Appends an event; one without an id gets one. Visible to every query and on disk as the sync policy says on return.
    ///
    /// # Errors
    /// As [`Engine::append`](crate::Engine::append).
    pub fn append(&self, event: impl Into<S::Builder>) -> Result<Appended> {
        let mut event = event.into();
        self.ids.fill::<S>(&mut event);
        self.core.append(std::iter::once(S::row_of(&event)), false)
    }

    /// Appends an event; on return it is on disk, whatever the sync policy.
    ///
    /// # Errors
    /// As [`Engine::append`](crate::Engine::append).
    pub fn append_durable(&self, event: impl Into<S::Builder>) -> Result<Appended> {
        let mut event = event.into();
        self.ids.fill::<S>(&mut event);
        self.core.append(std::iter::once(S::row_of(&event)), true)
    }

    /// Appends events, all or nothing. Those without an id get one.
    ///
    /// # Errors
    /// As [`Engine::append_batch`](crate::Engine::append_batch).
    pub fn append_batch(&self, events: impl IntoIterator<Item = impl Into<S::Builder>>) -> Result<Appended> {
        self.append_all(events, false)
    }

    /// Appends events, all or nothing; on return they are on disk.
    ///
    /// # Errors
    /// As [`Engine::append_batch`](crate::Engine::append_batch).
    pub fn append_batch_durable(
        &self,
        events: impl IntoIterator<Item = impl Into<S::Builder>>,
    ) -> Result<Appended> {
        self.append_all(events, true)
    }

    fn append_all(
        &self,
        events: impl IntoIterator<Item = impl Into<S::Builder>>,
        durable: bool,
    ) -> Result<Appended> {
        let mut events: Vec<S::Builder> = events.into_iter().map(Into::into).collect();
        for event in &mut events {
            self.ids.fill::<S>(event);
        }
        self.core.append(events.iter().map(S::row_of), durable)
    }

    /// Brings everything that was appended before the call to disk.
    ///
    /// # Errors
    /// [`Poisoned`](crate::DbError::Poisoned) when a sync failed, now or earlier.
    pub fn sync(&self) -> Result<()> {
        self.core.sync()
    }

    /// A question about the events that a filter matches; nothing happens before it is asked for rows or totals.
    ///
    /// Takes conditions on the tokens of `S::cols()` and the filter of `S::filter()`, each by value or by reference.
    pub fn query(&self, filter: impl Into<Filter<S>>) -> Query<'_, S> {
        Query::new(self.core.source(), filter.into())
    }

    /// The newest live event with this id.
    ///
    /// # Errors
    /// [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment cannot be read.
    pub fn get(&self, id: &str) -> Result<Option<S::Row>> {
        get::<S>(self.core.source(), id)
    }

    /// What became of the event with this sequence: by it, who keeps how far he has followed the store, and what came there, can tell
    /// later whether this is still the same store, rather than another one or an older copy of it.
    ///
    /// Where an event is gone, what is left tells: numbers of rows and of what was dropped, deleted rows that are not yet purged.
    /// Where all rows near a restart are purged, [`Trace::Gone`] may be said of a number that was passed over, never the reverse.
    /// ```
    /// use keplordb::{Schema, Start, Store, Trace};
    ///
    /// #[derive(Schema)]
    /// #[keplordb(id = 1)]
    /// pub struct Visit {
    ///     #[dim]
    ///     pub page: String,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::<Visit>::open(dir.path().join("visits"))?;
    /// store.append(Visit::new(7).id("a").page("/"))?;
    /// let mut tail = store.tail(Start::Beginning);
    /// tail.try_next()?;
    /// let last = tail.given().unwrap();
    /// assert_eq!(store.trace(last)?, Trace::Live { id: "a".to_owned(), ts_ns: 7 });
    /// store.delete(&["a"])?;
    /// assert_eq!(store.trace(last)?, Trace::Gone);
    /// assert_eq!(store.trace(last + 1)?, Trace::Never);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    /// Cost: as one event of a [`Tail`](crate::Tail); of an event that is gone also the numbers of the rows of a segment around it.
    ///
    /// # Errors
    /// [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment cannot be read.
    pub fn trace(&self, sequence: u64) -> Result<Trace> {
        self.core.source().trace(sequence)
    }

    /// Count and sums per UTC day and combination of the `rollup` dims, for the days from `from_day` to `to_day`, both
    /// inclusive and in epoch **seconds** of UTC midnight. `dims` follows the rollup dims in the order of their fields;
    /// `None` is any value. Sorted by day and dims.
    ///
    /// # Errors
    /// As [`Engine::query_rollups`](crate::Engine::query_rollups).
    pub fn rollups(
        &self,
        from_day: i64,
        to_day: i64,
        dims: &[Option<&str>],
    ) -> Result<Vec<(RollupKey, S::RollupValue)>> {
        rollups::<S>(self.core.source(), from_day, to_day, dims)
    }

    /// Deletes every event with one of these ids and returns how many of the ids were there.
    ///
    /// # Errors
    /// As [`Engine::delete_events`](crate::Engine::delete_events).
    pub fn delete(&self, ids: &[&str]) -> Result<usize> {
        self.core.delete_events(ids)
    }

    /// Deletes every event that a filter matches and returns how many there were. All of them go at once, or none; on return
    /// that is on disk. An event appended meanwhile stays.
    ///
    /// Cost: finding the events, 16 bytes of memory and of the tombstone log for each, and one sync. Appends go on while
    /// they are looked for; what changes the table (rotations, other deletes) waits while they are marked: a
    /// binary search for each.
    ///
    /// # Errors
    /// As [`delete`](Self::delete); [`Invalid`](crate::DbError::Invalid) for a filter of more than 256 levels, and for more events than one
    /// frame of the tombstone log takes (20,971,520): delete in steps.
    pub fn delete_where(&self, filter: impl Into<Filter<S>>) -> Result<u64> {
        let filter = filter.into();
        match Predicate::of(filter.root())? {
            Some(predicate) => self.core.delete_where(&predicate),
            None => Ok(0),
        }
    }

    /// The values of a dim and how many events have each, from the dictionaries.
    pub fn values(&self, dim: Dim<S>) -> Values<'_, S> {
        self.query(Filter::all()).values(dim)
    }

    /// Removes every segment whose newest event is before `cutoff_ts_ns`.
    ///
    /// # Errors
    /// As [`Engine::gc`](crate::Engine::gc).
    pub fn gc(&self, cutoff_ts_ns: i64) -> Result<GcStats> {
        self.core.gc(cutoff_ts_ns)
    }

    /// A barrier: every event appended before the call is in a segment when it returns.
    ///
    /// # Errors
    /// As [`Engine::flush`](crate::Engine::flush).
    pub fn flush(&self) -> Result<Flushed> {
        self.core.flush()
    }

    /// Makes fewer and larger segments, without the rows that were deleted.
    ///
    /// # Errors
    /// As [`Engine::compact`](crate::Engine::compact).
    pub fn compact(&self, budget: Budget) -> Result<Compacted> {
        self.core.compact(budget)
    }

    /// Does whatever is due: unlinks replaced files, syncs, repeats rotations that failed, applies the retention, compacts.
    ///
    /// # Errors
    /// As [`Engine::maintain`](crate::Engine::maintain).
    pub fn maintain(&self, budget: Budget) -> Result<Maintained> {
        self.core.maintain(budget)
    }

    /// Copies the table as it is now into an empty or missing directory.
    ///
    /// # Errors
    /// As [`Engine::checkpoint`](crate::Engine::checkpoint).
    pub fn checkpoint(&self, target_dir: impl AsRef<Path>) -> Result<()> {
        self.core.checkpoint(target_dir.as_ref())
    }

    /// Reads every checksum of the table's files, or every value, and lists all that is wrong; changes nothing, and waits for nobody.
    ///
    /// Cost: reads every byte once; see [`Depth`].
    pub fn verify(&self, depth: Depth) -> VerifyReport {
        self.core.verify(depth)
    }

    /// Syncs and closes the store, if this is its last handle, and says when that failed; dropping it does the same, but can
    /// only log a failure.
    ///
    /// # Errors
    /// As [`Engine::close`](crate::Engine::close).
    pub fn close(self) -> Result<()> {
        match Arc::into_inner(self.core) {
            Some(core) => core.close(),
            None => Ok(()),
        }
    }

    /// What the bytes of the segments' files are for.
    ///
    /// Cost: every section that was not asked since the open is read once.
    ///
    /// # Errors
    /// [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment cannot be read.
    pub fn space(&self) -> Result<Space> {
        self.core.space()
    }

    /// All numbers of the engine at once.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}

/// As [`Store::get`], of any table.
pub(crate) fn get<S: Schema>(source: &Source, id: &str) -> Result<Option<S::Row>> {
    let mut found = None;
    source.newest_of_id(id, &mut |row| {
        found = Some(S::read_row(row)?);
        Ok(())
    })?;
    Ok(found)
}

/// As [`Store::rollups`], of any table.
pub(crate) fn rollups<S: Schema>(
    source: &Source,
    from_day: i64,
    to_day: i64,
    dims: &[Option<&str>],
) -> Result<Vec<(RollupKey, S::RollupValue)>> {
    let rows = source.rollups(from_day, to_day, dims)?;
    let keyed =
        |row: RollupRow| (RollupKey { day: row.day, dims: row.dims.clone() }, ExactRollup(row).into());
    Ok(rows.into_iter().map(keyed).collect())
}

/// Makes ids for events that have none: 26 characters of Crockford's base 32 that sort by the event's time and then by
/// when they were made, and that no other run of a program makes, in all likelihood.
#[derive(Debug)]
pub(crate) struct Ids {
    /// 24 random bits of this run above a counter of 40 bits.
    next: AtomicU64,
}

/// Crockford's alphabet, in ascending order of its characters.
const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters for 64 bits.
const WORD_CHARS: u32 = 13;

impl Ids {
    pub(crate) fn new() -> Self {
        Self { next: AtomicU64::new(random_salt(0) << 40) }
    }

    fn fill<S: Schema>(&self, event: &mut S::Builder) {
        if S::id_of(event).is_empty() {
            let ts_ns = S::row_of(event).ts_ns;
            *S::id_of(event) = self.id(ts_ns);
        }
    }

    pub(crate) fn id(&self, ts_ns: i64) -> String {
        // With the sign flipped, times before 1970 sort first.
        let time = (ts_ns as u64) ^ (1 << 63);
        let unique = self.next.fetch_add(1, Ordering::Relaxed);
        let digits = [time, unique].into_iter().flat_map(|word| {
            (0..WORD_CHARS).rev().map(move |place| char::from(BASE32[((word >> (5 * place)) & 31) as usize]))
        });
        digits.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_never_repeat() {
        let ids = Ids::new();
        let made: Vec<String> =
            [i64::MIN, -1, 0, 0, 1, i64::MAX].iter().map(|ts_ns| ids.id(*ts_ns)).collect();
        assert!(made.is_sorted() && made.iter().all(|id| id.len() == 26), "{made:?}");
        assert_eq!(made.iter().collect::<std::collections::HashSet<_>>().len(), made.len());
    }
}
