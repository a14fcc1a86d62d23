//! `Reader<S>` and `RawReader<D, C, L>`: a table beside the engine that writes it, also in another process; typed shells
//! without logic.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use crate::columns::{Dim, Filter};
use crate::config::{EngineConfig, Options};
use crate::engine::{Follower, Refreshed};
use crate::error::Result;
use crate::event::EventRef;
use crate::filter::QueryFilter;
use crate::query::Query;
use crate::raw;
use crate::read::query::{RollupKey, RollupValue, Totals};
use crate::store::{self, Schema};
use crate::tail::{self, Gap};
use crate::values::Values;

/// A table of events of type `S` that an engine writes meanwhile, in this process or another one.
///
/// It takes no lock and writes nothing, so any number of them may be open, in a directory that may only be read. Queries
/// see the table as it was at the last [`refresh`](Self::refresh), and never wait for one. A handle: clones share what
/// they see. `Send` and `Sync`, all `&self`.
///
/// A refresh sees every event whose append had returned and no event whose delete had returned before the refresh began,
/// whatever the writer's sync policy; a batch whole or not at all; and of the events of one writing thread, those up to
/// some moment. It may see what no sync has made durable yet, and what a power cut would take.
///
/// **How often to refresh.** A segment that the writer has merged or dropped stays for its
/// [`unlink_grace`](Options::unlink_grace), 60 seconds unless set otherwise. A reader that is not refreshed for longer may
/// meet one that is gone: [`Missing`](crate::DbError::Missing); it refreshes and asks again.
///
/// **Columns** may differ at the end of each role: those that the writer lacks, or lacked when it wrote a row, read as 0
/// or empty, and those that the reader lacks are not read. Any other difference is a
/// [`SchemaMismatch`](crate::DbError::SchemaMismatch).
///
/// **Memory**: as an engine, the rows that are not yet in a segment, and 16 bytes or a little more for each tombstone.
///
/// ```
/// use keplordb::{Reader, Schema, Store};
///
/// #[derive(Schema)]
/// #[keplordb(id = 1)]
/// pub struct AiCall {
///     #[dim]
///     pub user: String,
///     #[counter]
///     pub tokens: u32,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("calls");
/// let store = Store::<AiCall>::open(&dir)?; // usually another process
/// let reader = Reader::<AiCall>::open(&dir)?;
///
/// store.append(AiCall::new(1_700_000_000_000_000_000).user("alice").tokens(1200))?;
/// assert!(reader.query(AiCall::filter()).rows()?.is_empty(), "not yet refreshed");
/// let refreshed = reader.refresh()?;
/// assert_eq!((refreshed.events, refreshed.changed), (1, true));
/// assert_eq!(reader.query(AiCall::filter().user("alice")).rows()?[0].tokens(), 1200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader<S> {
    follower: Arc<Follower>,
    events: PhantomData<fn() -> S>,
}

impl<S> Clone for Reader<S> {
    fn clone(&self) -> Self {
        Self { follower: Arc::clone(&self.follower), events: PhantomData }
    }
}

impl<S> fmt::Debug for Reader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("follower", &self.follower).finish_non_exhaustive()
    }
}

impl<S: Schema> Reader<S> {
    /// Reads the table in this directory, with the type's own configuration.
    ///
    /// Cost: as opening an engine, without its syncs: every log and every segment's header.
    ///
    /// # Errors
    /// [`Missing`](crate::DbError::Missing) naming the manifest where no engine has made a table;
    /// [`SchemaMismatch`](crate::DbError::SchemaMismatch), [`Invalid`](crate::DbError::Invalid); and those of
    /// [`refresh`](Self::refresh).
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(S::default_config(dir.as_ref().to_owned()), Options::default())
    }

    /// Reads with a configuration and options of your own, of which those that concern writing play no part; names, id and
    /// columns are the type's.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(config: EngineConfig, options: Options) -> Result<Self> {
        let schema = S::table_schema();
        let config = EngineConfig { schema_id: schema.id(), ..config };
        let follower = Follower::open(config, options, schema)?;
        Ok(Self { follower: Arc::new(follower), events: PhantomData })
    }

    /// Shows queries everything that was written before the call. One refresh at a time; a second caller waits.
    ///
    /// Cost: where nothing came, the manifest (16 bytes a segment) twice and a page of each log in use, about 10 µs; else
    /// what is new, once.
    ///
    /// # Errors
    /// [`Corrupt`](crate::DbError::Corrupt), [`Truncated`](crate::DbError::Truncated),
    /// [`Missing`](crate::DbError::Missing), [`TooNew`](crate::DbError::TooNew) or [`TooOld`](crate::DbError::TooOld) for files that cannot be used,
    /// [`SchemaMismatch`](crate::DbError::SchemaMismatch) when the table was made anew with other columns,
    /// [`Io`](crate::DbError::Io). Queries then go on seeing what they saw, and a later refresh goes on from there.
    pub fn refresh(&self) -> Result<Refreshed> {
        self.follower.refresh()
    }

    /// A question about the events that a filter matches; nothing happens before it is asked for rows or totals.
    pub fn query(&self, filter: impl Into<Filter<S>>) -> Query<'_, S> {
        Query::new(self.follower.source(), filter.into())
    }

    /// What was dropped before the last refresh, ascending; as [`Store::gaps`](crate::Store::gaps).
    pub fn gaps(&self) -> Vec<Gap> {
        tail::gaps(self.follower.source())
    }

    /// Count, sums and extremes of all events that match: [`query(filter).totals()`](Query::totals).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn totals(&self, filter: impl Into<Filter<S>>) -> Result<S::Totals> {
        self.query(filter).totals()
    }

    /// The values of a dim and how many events have each, from the dictionaries.
    pub fn values(&self, dim: Dim<S>) -> Values<'_, S> {
        self.query(Filter::all()).values(dim)
    }

    /// The newest live event with this id.
    ///
    /// # Errors
    /// [`Missing`](crate::DbError::Missing) when a segment is gone because the reader was not refreshed for long;
    /// [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when one cannot be read.
    pub fn get(&self, id: &str) -> Result<Option<S::Row>> {
        store::get::<S>(self.follower.source(), id)
    }

    /// Count and sums per UTC day and combination of the `rollup` dims; as [`Store::rollups`](crate::Store::rollups).
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Invalid`](crate::DbError::Invalid) for more values than there are rollup dims.
    pub fn rollups(
        &self,
        from_day: i64,
        to_day: i64,
        dims: &[Option<&str>],
    ) -> Result<Vec<(RollupKey, S::RollupValue)>> {
        store::rollups::<S>(self.follower.source(), from_day, to_day, dims)
    }
}

/// A table with `D` dims, `C` counters and `L` labels that an engine writes meanwhile: [`Reader`] for programs that lay
/// out their events by hand. What holds there holds here.
#[derive(Debug, Clone)]
pub struct RawReader<const D: usize, const C: usize, const L: usize> {
    follower: Arc<Follower>,
}

impl<const D: usize, const C: usize, const L: usize> RawReader<D, C, L> {
    /// Reads the table in `config.data_dir`.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open(config: EngineConfig) -> Result<Self> {
        Self::open_with(config, Options::default())
    }

    /// Reads with options of your own, of which those that concern writing play no part.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_with(config: EngineConfig, options: Options) -> Result<Self> {
        let schema = raw::schema_of::<D, C, L>(&config, &options)?;
        Ok(Self { follower: Arc::new(Follower::open(config, options, schema)?) })
    }

    /// Shows queries everything that was written before the call; as [`Reader::refresh`].
    ///
    /// # Errors
    /// As [`Reader::refresh`].
    pub fn refresh(&self) -> Result<Refreshed> {
        self.follower.refresh()
    }

    /// The newest live event with this id; `None` when there is none, and for the empty id.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn get_event(&self, id: &str) -> Result<Option<EventRef<D, C, L>>> {
        raw::get_event(self.follower.source(), id)
    }

    /// The newest events that match; as [`Engine::query_recent`](crate::Engine::query_recent).
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn query_recent(&self, filter: &QueryFilter<D>, limit: usize) -> Result<Vec<EventRef<D, C, L>>> {
        raw::query_recent(self.follower.source(), filter, limit)
    }

    /// Count, sums and extremes of the events that match.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn aggregate(&self, filter: &QueryFilter<D>) -> Result<Totals<C>> {
        raw::aggregate(self.follower.source(), filter)
    }

    /// Day rollups; as [`Engine::query_rollups`](crate::Engine::query_rollups).
    ///
    /// # Errors
    /// As [`Reader::rollups`].
    pub fn query_rollups(
        &self,
        from_day: i64,
        to_day: i64,
        dims: &[Option<&str>],
    ) -> Result<Vec<(RollupKey, RollupValue<C>)>> {
        raw::query_rollups(self.follower.source(), from_day, to_day, dims)
    }
}
