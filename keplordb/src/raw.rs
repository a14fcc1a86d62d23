//! `Engine<D, C, L>`: the engine for programs that lay out their events by hand; a typed shell without logic.

use std::array;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{EngineConfig, Options, Sync};
use crate::engine::{
    Appended, Budget, Compacted, Core, Depth, Flushed, GcStats, Maintained, OpenReport, Space, Stats,
    VerifyReport,
};
use crate::error::{DbError, Result};
use crate::event::{EventRef, LogEvent};
use crate::filter::{Predicate, QueryFilter};
use crate::page::{Page, PageCursor};
use crate::read::explain::Tally;
use crate::read::query::{RollupKey, RollupValue, Totals};
use crate::read::rollup::RollupRow;
use crate::read::row::RowView;
use crate::read::select::Order;
use crate::read::source::Source;
use crate::schema::{MAX_COUNTERS, MAX_DIMS, MAX_LABELS, Shape, TableSchema};
use crate::sums::Sums;

/// Rows that a query makes room for at once; a limit may be `usize::MAX`.
pub(crate) const RESERVED_ROWS: usize = 1024;

/// An open table of events with `D` dims, `C` counters and `L` labels.
///
/// All methods take `&self`: one engine serves all threads of a program, and is the only one on its directory. It has no
/// threads of its own. Dropping it syncs its logs; no explicit close is needed.
///
/// ```
/// use keplordb::{Engine, EngineConfig, LogEvent, QueryFilter};
///
/// # let dir = tempfile::tempdir()?;
/// let config = EngineConfig { data_dir: dir.path().join("calls"), schema_id: 1, ..EngineConfig::default() };
/// let engine = Engine::<2, 1, 0>::open(config)?;
/// let call = LogEvent {
///     id: "call-1".into(),
///     ts_ns: 1_700_000_000_000_000_000,
///     dims: ["alice".into(), "gpt-4o".into()],
///     counters: [1200],
///     metric: 5_000_000,
///     status: 200,
///     ..LogEvent::default()
/// };
/// engine.append(&call)?;
///
/// let of_alice = QueryFilter { dims: [Some("alice".into()), None], ..QueryFilter::default() };
/// let totals = engine.aggregate(&of_alice)?;
/// assert_eq!((totals.event_count, totals.metric, totals.counters), (1, 5_000_000, [1200]));
/// assert_eq!(engine.get_event("call-1")?.unwrap().dims[1], "gpt-4o");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Engine<const D: usize, const C: usize, const L: usize> {
    core: Arc<Core>,
}

impl<const D: usize, const C: usize, const L: usize> Engine<D, C, L> {
    /// Opens the table in `config.data_dir`, or makes it. Syncs as `wal_sync_interval` and `wal_sync_bytes` say.
    ///
    /// Cost: reads every log and every segment's header; a few milliseconds, and about 10 ms per 100,000 rows that are
    /// not yet in a segment.
    ///
    /// # Errors
    /// [`AlreadyOpen`](DbError::AlreadyOpen), [`SchemaMismatch`](DbError::SchemaMismatch),
    /// [`Invalid`](DbError::Invalid) for a config out of range, [`Corrupt`](DbError::Corrupt),
    /// [`Truncated`](DbError::Truncated), [`Missing`](DbError::Missing), [`TooNew`](DbError::TooNew) or [`TooOld`](DbError::TooOld) for files that
    /// cannot be used, [`Io`](DbError::Io), [`Full`](DbError::Full). Where a file cannot be used, nothing has been changed.
    pub fn open(config: EngineConfig) -> Result<Self> {
        let sync = Sync::Every { events: config.wal_sync_interval, bytes: config.wal_sync_bytes };
        Self::open_with(config, Options::default().sync(sync))
    }

    /// Opens with everything that `config` has no field for; the sync policy is that of `options`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(config: EngineConfig, options: Options) -> Result<Self> {
        let schema = schema_of::<D, C, L>(&config, &options)?;
        Ok(Self { core: Core::open(config, options, schema)? })
    }

    /// The engine under the shell.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What the open found: rows replayed, torn tails cut, leftovers removed.
    pub fn open_report(&self) -> &OpenReport {
        self.core.report()
    }

    /// Appends an event. On return it is in the log and seen by every query, and on disk as the sync policy says; a killed
    /// process loses it in no mode.
    ///
    /// # Errors
    /// [`Invalid`](DbError::Invalid) for strings over their limit; [`Full`](DbError::Full) or [`Io`](DbError::Io) when it
    /// could not be written, and nothing of it stays; [`Poisoned`](DbError::Poisoned) when a sync failed, now or earlier:
    /// the event may then be seen, but whether it is on disk is unknown.
    pub fn append(&self, event: &LogEvent<D, C, L>) -> Result<Appended> {
        self.core.append(std::iter::once(event.as_row()), false)
    }

    /// Appends an event; on return it is on disk, whatever the sync policy. Callers at the same time share a sync.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_durable(&self, event: &LogEvent<D, C, L>) -> Result<Appended> {
        self.core.append(std::iter::once(event.as_row()), true)
    }

    /// Appends events, all or nothing: after a crash either each of them is there or none, and no query sees a part.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`Invalid`](DbError::Invalid) for more than 256 MiB.
    pub fn append_batch(&self, events: &[LogEvent<D, C, L>]) -> Result<Appended> {
        self.core.append(events.iter().map(LogEvent::as_row), false)
    }

    /// Appends events, all or nothing; on return they are on disk.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn append_batch_durable(&self, events: &[LogEvent<D, C, L>]) -> Result<Appended> {
        self.core.append(events.iter().map(LogEvent::as_row), true)
    }

    /// Brings everything that was appended before the call to disk.
    ///
    /// # Errors
    /// [`Poisoned`](DbError::Poisoned) when a sync failed, now or earlier.
    pub fn sync(&self) -> Result<()> {
        self.core.sync()
    }

    /// The newest live event with this id; `None` when there is none, and for the empty id.
    ///
    /// # Errors
    /// [`Corrupt`](DbError::Corrupt) or [`Io`](DbError::Io) when a segment cannot be read.
    pub fn get_event(&self, id: &str) -> Result<Option<EventRef<D, C, L>>> {
        get_event(self.core.source(), id)
    }

    /// The newest events that match, newest first by (time, sequence); at most `limit`, counted after deletes and filters.
    ///
    /// # Errors
    /// As [`get_event`](Self::get_event).
    pub fn query_recent(&self, filter: &QueryFilter<D>, limit: usize) -> Result<Vec<EventRef<D, C, L>>> {
        query_recent(self.core.source(), filter, limit)
    }

    /// The next `limit` events that match, newest first by (time, sequence), behind the cursor that came with the page before;
    /// the first ones without a cursor. As [`Query::page`](crate::Query::page).
    ///
    /// # Errors
    /// As [`Query::page`](crate::Query::page).
    pub fn query_page(
        &self,
        filter: &QueryFilter<D>,
        limit: usize,
        cursor: Option<PageCursor>,
    ) -> Result<Page<EventRef<D, C, L>>> {
        query_page(self.core.source(), filter, limit, cursor)
    }

    /// Count, sums and extremes of the events that match.
    ///
    /// # Errors
    /// As [`get_event`](Self::get_event).
    pub fn aggregate(&self, filter: &QueryFilter<D>) -> Result<Totals<C>> {
        aggregate(self.core.source(), filter)
    }

    /// Count and sums per UTC day and combination of the `rollup_dims`, for the days from `from_day` to `to_day`, both
    /// inclusive and in epoch **seconds** of UTC midnight. `dims` follows `rollup_dims`; `None` is any value. Sorted by
    /// day and dims.
    ///
    /// # Errors
    /// As [`get_event`](Self::get_event); [`Invalid`](DbError::Invalid) for more values than there are rollup dims.
    pub fn query_rollups(
        &self,
        from_day: i64,
        to_day: i64,
        dims: &[Option<&str>],
    ) -> Result<Vec<(RollupKey, RollupValue<C>)>> {
        query_rollups(self.core.source(), from_day, to_day, dims)
    }

    /// Removes every segment whose newest event is before `cutoff_ts_ns`. What it removed never returns.
    ///
    /// # Errors
    /// [`Full`](DbError::Full) or [`Io`](DbError::Io) when the manifest could not be replaced; nothing is then removed.
    pub fn gc(&self, cutoff_ts_ns: i64) -> Result<GcStats> {
        self.core.gc(cutoff_ts_ns)
    }

    /// Deletes every event with this id and says whether there was one. On return it is on disk and seen by every query.
    ///
    /// # Errors
    /// As [`delete_events`](Self::delete_events).
    pub fn delete_event(&self, id: &str) -> Result<bool> {
        Ok(self.core.delete_events(&[id])? > 0)
    }

    /// Deletes every event with one of these ids, with one sync, and returns how many of the ids were there.
    ///
    /// # Errors
    /// [`Full`](DbError::Full) or [`Io`](DbError::Io) when it could not be written: nothing is then deleted;
    /// [`Poisoned`](DbError::Poisoned) when a sync failed, now or earlier.
    pub fn delete_events(&self, ids: &[&str]) -> Result<usize> {
        self.core.delete_events(ids)
    }

    /// A barrier: every event appended before the call is in a segment when it returns. Without such events it is free.
    ///
    /// # Errors
    /// [`Full`](DbError::Full) or [`Io`](DbError::Io) when the segment could not be written: its rows stay in the log and
    /// are tried again; [`Poisoned`](DbError::Poisoned) when a sync failed, now or earlier.
    pub fn flush(&self) -> Result<Flushed> {
        self.core.flush()
    }

    /// Makes fewer and larger segments: merges small neighbours, rewrites segments of which a quarter or more is deleted,
    /// drops those of which everything is, and forgets tombstones of rows that are gone. Appends, queries and deletes go on
    /// meanwhile; one compaction runs at a time. Nothing does this by itself, but see [`maintain`](Self::maintain) and
    /// [`Maintenance`](crate::Maintenance).
    ///
    /// Cost: about a microsecond and some hundred bytes of memory per row of a step, of which each writes one segment of up to
    /// two million rows; each step is on disk when the next begins.
    ///
    /// # Errors
    /// [`Corrupt`](crate::DbError::Corrupt) for a segment that cannot be read: it is left alone from then on;
    /// [`Full`](crate::DbError::Full) or [`Io`](crate::DbError::Io) when a segment could not be written;
    /// [`Poisoned`](crate::DbError::Poisoned) when a sync failed, now or earlier. Steps that were done stay done.
    pub fn compact(&self, budget: Budget) -> Result<Compacted> {
        self.core.compact(budget)
    }

    /// Does whatever is due: unlinks replaced files, syncs what is not yet on disk, repeats rotations that failed, drops what
    /// [`Options::retention`](crate::Options::retention) does not allow, and [compacts](Self::compact).
    ///
    /// ```
    /// use keplordb::{Budget, Engine, EngineConfig, LogEvent};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let engine = Engine::<0, 0, 0>::open(EngineConfig::in_dir(dir.path().join("ticks")))?;
    /// for ts_ns in 0..100 {
    ///     engine.append(&LogEvent { ts_ns, ..LogEvent::default() })?;
    /// }
    /// engine.flush()?;
    /// // Now and then, where there is time:
    /// let done = engine.maintain(Budget::rows(100_000))?;
    /// assert_eq!(done.compacted.rows_left, 0); // nothing is left to do
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The first of its parts', as [`sync`](Self::sync), [`flush`](Self::flush), [`gc`](Self::gc) and
    /// [`compact`](Self::compact); the other parts are done all the same.
    pub fn maintain(&self, budget: Budget) -> Result<Maintained> {
        self.core.maintain(budget)
    }

    /// Copies the table as it is now into `target_dir`, an empty or missing directory on the same disk: segments by hard
    /// links where the file system can, the rest written. The copy opens as a table of its own.
    ///
    /// # Errors
    /// [`Invalid`](DbError::Invalid) when the directory is not empty; [`AlreadyOpen`](DbError::AlreadyOpen),
    /// [`Full`](DbError::Full), [`Io`](DbError::Io).
    pub fn checkpoint(&self, target_dir: impl AsRef<Path>) -> Result<()> {
        self.core.checkpoint(target_dir.as_ref())
    }

    /// Reads every checksum of the table's files, or every value, and lists all that is wrong; changes nothing. Appends, queries,
    /// rotations and gc go on meanwhile. For a directory that does not open there is [`verify_dir`](crate::verify_dir).
    ///
    /// Cost: reads every byte once; see [`Depth`].
    pub fn verify(&self, depth: Depth) -> VerifyReport {
        self.core.verify(depth)
    }

    /// Syncs and closes the engine, and says when that failed; dropping it does the same, but can only log a failure. While a
    /// [`Maintenance`](crate::Maintenance) looks after it, it stays open until that is dropped.
    ///
    /// # Errors
    /// [`Poisoned`](DbError::Poisoned), [`Full`](DbError::Full) or [`Io`](DbError::Io); the directory is released anyway.
    pub fn close(self) -> Result<()> {
        match Arc::into_inner(self.core) {
            Some(core) => core.close(),
            None => Ok(()),
        }
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.core.stats().segments
    }

    /// How many rows are not yet in a segment.
    pub fn wal_count(&self) -> u32 {
        u32::try_from(self.core.stats().unsealed_rows).unwrap_or(u32::MAX)
    }

    /// How many live events there are.
    pub fn total_events(&self) -> u64 {
        self.core.stats().events
    }

    /// Bytes of the segments and of the logs.
    pub fn total_bytes(&self) -> u64 {
        let stats = self.core.stats();
        stats.segment_bytes + stats.wal_bytes
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

/// The columns of an engine or reader of `D`, `C` and `L`: those of the options, or as many without names.
pub(crate) fn schema_of<const D: usize, const C: usize, const L: usize>(
    config: &EngineConfig,
    options: &Options,
) -> Result<TableSchema> {
    const {
        assert!(
            D <= MAX_DIMS && C <= MAX_COUNTERS && L <= MAX_LABELS,
            "more than 256 dims, 64 counters or 64 labels"
        );
    }
    let shape = Shape { dims: D, counters: C, labels: L };
    match &options.schema {
        None => Ok(TableSchema::positional(config.schema_id, D, C, L)),
        Some(schema) if schema.shape() == shape && schema.id() == config.schema_id => Ok(schema.clone()),
        Some(schema) => {
            let given = schema.shape();
            let why = format!(
                "id {} with {} dims, {} counters and {} labels for an engine of id {} with {D}, {C} and {L}",
                schema.id(),
                given.dims,
                given.counters,
                given.labels,
                config.schema_id,
            );
            Err(DbError::invalid("schema", why))
        }
    }
}

/// As [`Engine::get_event`], of any table; so the next three.
pub(crate) fn get_event<const D: usize, const C: usize, const L: usize>(
    source: &Source,
    id: &str,
) -> Result<Option<EventRef<D, C, L>>> {
    let mut event = None;
    source.newest_of_id(id, &mut |row| {
        event = Some(EventRef::read(row)?);
        Ok(())
    })?;
    Ok(event)
}

pub(crate) fn query_recent<const D: usize, const C: usize, const L: usize>(
    source: &Source,
    filter: &QueryFilter<D>,
    limit: usize,
) -> Result<Vec<EventRef<D, C, L>>> {
    let mut events = Vec::with_capacity(limit.min(RESERVED_ROWS));
    if let Some(predicate) = Predicate::new(filter.as_ref_filter()) {
        source.recent(&predicate, limit, Order::NewestFirst, &mut |row| {
            events.push(EventRef::read(row)?);
            Ok(())
        })?;
    }
    Ok(events)
}

pub(crate) fn query_page<const D: usize, const C: usize, const L: usize>(
    source: &Source,
    filter: &QueryFilter<D>,
    limit: usize,
    cursor: Option<PageCursor>,
) -> Result<Page<EventRef<D, C, L>>> {
    let mut rows = Vec::new();
    let predicate = Predicate::new(filter.as_ref_filter());
    let next = source.page(predicate.as_ref(), limit, Order::NewestFirst, cursor, &mut |row| {
        rows.push(EventRef::read(row)?);
        Ok(())
    })?;
    Ok(Page { rows, next })
}

pub(crate) fn aggregate<const D: usize, const C: usize>(
    source: &Source,
    filter: &QueryFilter<D>,
) -> Result<Totals<C>> {
    let sums = match Predicate::new(filter.as_ref_filter()) {
        Some(predicate) => source.aggregate(&predicate, &mut Tally::default())?,
        None => Sums::empty(source.schema().shape()),
    };
    Ok(Totals::new(&sums))
}

pub(crate) fn query_rollups<const C: usize>(
    source: &Source,
    from_day: i64,
    to_day: i64,
    dims: &[Option<&str>],
) -> Result<Vec<(RollupKey, RollupValue<C>)>> {
    Ok(source.rollups(from_day, to_day, dims)?.into_iter().map(RollupRow::into_pair).collect())
}

impl<const D: usize, const C: usize, const L: usize> EventRef<D, C, L> {
    /// Copies a row out of the engine; columns younger than the row are empty or 0.
    ///
    /// # Errors
    /// [`Corrupt`](DbError::Corrupt) when an id or a label cannot be decoded.
    pub fn read(row: &RowView<'_>) -> Result<Self> {
        let mut labels = array::from_fn(|_| String::new());
        for (column, label) in labels.iter_mut().enumerate() {
            *label = row.label(column)?.into_owned();
        }
        Ok(Self {
            id: row.id()?.into_owned(),
            ts_ns: row.ts_ns(),
            metric: row.metric(),
            counters: array::from_fn(|column| row.counter(column)),
            latency_ms: row.latency_ms(),
            latency_detail_ms: row.latency_detail_ms(),
            status: row.status(),
            flags: row.flags(),
            dims: array::from_fn(|column| row.dim(column).to_owned()),
            labels,
        })
    }
}

impl EngineConfig {
    /// The default configuration in this directory.
    pub fn in_dir(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), ..Self::default() }
    }
}
