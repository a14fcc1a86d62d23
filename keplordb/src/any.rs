//! Tables whose columns are known only at run time: rows by column name, from any directory.
//!
//! For tools (a command line, SQL, exports) and programs without a compile-time type; [`Store`](crate::Store) and
//! [`Engine`](crate::Engine) are other faces of the same engine, and open the same directories.
//!
//! ```
//! use keplordb::TableSchema;
//! use keplordb::any::AnyStore;
//!
//! # let dir = tempfile::tempdir()?;
//! # let (dir, ts_ns) = (dir.path().join("calls"), 1_700_000_000_000_000_000);
//! let schema = TableSchema::new(1).dim("user").dim("model").counter("tokens");
//! let store = AnyStore::open_or_create(&dir, schema)?;
//! store.append(store.event(ts_ns).set("user", "alice")?.set("tokens", 1200)?.set("status", 200)?)?;
//! store.close()?;
//!
//! let store = AnyStore::open(&dir)?; // whatever its columns are
//! let of_alice = store.query().equals("user", "alice")?.status(200..300);
//! assert_eq!(of_alice.totals()?.of("tokens")?.sum, 1200);
//! for row in of_alice.newest_first().limit(10).rows()? {
//!     assert_eq!((row.text("user")?, row.int("tokens")?), ("alice", 1200));
//!     for (column, value) in row.iter() {
//!         println!("{}: {value}", column.name);
//!     }
//! }
//! let refused = store.query().equals("usr", "alice").unwrap_err();
//! assert!(refused.to_string().starts_with("there is no column \"usr\"; the columns are ts_ns, id,"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod batch;
mod batches;
mod columns;
mod event;
mod filter;
mod groups;
mod query;
mod reader;
mod row;
mod snapshot;
mod value;

pub use answer::{AnyRollup, AnyTotals, ColumnTotals};
pub use batch::AnyBatch;
pub use batches::{ColumnBatch, ColumnValues, KeyValues, TextValues};
pub use columns::{Column, Kind, Role};
pub use event::AnyEvent;
pub use filter::{AnyFilter, Test};
pub use groups::{AnyAggregate, AnyGroupValue, AnyGrouped, AnyGroups};
pub use query::AnyQuery;
pub use reader::AnyReader;
pub use row::{AnyRow, AnyRowView};
pub use snapshot::{AnySegment, AnySnapshot};
pub use value::Value;

use std::path::Path;
use std::sync::Arc;

use crate::config::{EngineConfig, Options};
use crate::engine::{
    Appended, Budget, Compacted, Core, Depth, Flushed, GcStats, Maintained, OpenReport, Space, Stats,
    VerifyReport,
};
use crate::error::Result;
use crate::read::moment::Asked;
use crate::schema::TableSchema;
use crate::store::Ids;
use columns::Columns;

/// An open table of any columns; see [`any`](crate::any) for an example.
///
/// A handle: clones share one engine, which closes when the last of them is dropped. `Send` and `Sync`, all `&self`.
/// By default an append returns when its event is on disk; appends at the same time share a sync.
#[derive(Debug, Clone)]
pub struct AnyStore {
    core: Arc<Core>,
    columns: Arc<Columns>,
    ids: Arc<Ids>,
}

impl AnyStore {
    /// Opens the table in this directory with the columns that it has.
    ///
    /// # Errors
    /// [`Missing`](crate::DbError::Missing) names the manifest where there is no table; else as
    /// [`Engine::open`](crate::Engine::open).
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(EngineConfig::in_dir(dir.as_ref()), Options::default())
    }

    /// Opens the table in this directory, or makes it, with these columns. A table that has fewer gets the new ones, which
    /// must stand at the end of their roles.
    ///
    /// # Errors
    /// As [`Engine::open`](crate::Engine::open); [`SchemaMismatch`](crate::DbError::SchemaMismatch) says what differs.
    pub fn open_or_create(dir: impl AsRef<Path>, schema: TableSchema) -> Result<Self> {
        Self::open_with(EngineConfig::in_dir(dir.as_ref()), Options::default().schema(schema))
    }

    /// Opens with a configuration and options of your own. With [`Options::schema`] as
    /// [`open_or_create`](Self::open_or_create); without it as [`open`](Self::open): then new segments carry the bloom filter
    /// and the rollups that the newest one has, and those of `config` only where there is none yet. The schema's id counts,
    /// not that of `config`.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`open_or_create`](Self::open_or_create).
    pub fn open_with(config: EngineConfig, options: Options) -> Result<Self> {
        let core = match options.schema.clone() {
            Some(schema) => Core::open(EngineConfig { schema_id: schema.id(), ..config }, options, schema)?,
            None => Core::open_stored(config, options)?,
        };
        let columns = Arc::new(Columns::new(core.source().schema()));
        Ok(Self { core, columns, ids: Arc::new(Ids::new()) })
    }

    /// The engine under the shell.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What the open found: rows replayed, torn tails cut, leftovers removed.
    pub fn open_report(&self) -> &OpenReport {
        self.core.report()
    }

    /// The table's directory.
    pub fn dir(&self) -> &Path {
        self.core.root()
    }

    /// The columns that the table adds to the built-in ones.
    pub fn schema(&self) -> &TableSchema {
        self.core.source().schema()
    }

    /// All columns, in the order of rows: `ts_ns`, `id`, `metric`, `latency_ms`, `latency_detail_ms`, `status`, `flags` and
    /// `sequence`, then the dims, the counters and the labels.
    pub fn columns(&self) -> &[Column] {
        self.columns.all()
    }

    /// The position of a column in [`columns`](Self::columns). It holds as long as the table is open.
    ///
    /// # Errors
    /// [`UnknownColumn`](crate::DbError::UnknownColumn) names the columns that there are.
    pub fn position(&self, column: &str) -> Result<usize> {
        self.columns.position(column)
    }

    /// An event of this time, in nanoseconds since the Unix epoch, to be filled in and appended.
    pub fn event(&self, ts_ns: i64) -> AnyEvent {
        AnyEvent::new(&self.columns, ts_ns)
    }

    /// Appends an event; one whose id was not set gets one. Visible to every query and on disk as the sync policy says on
    /// return.
    ///
    /// # Errors
    /// As [`Engine::append`](crate::Engine::append); [`Invalid`](crate::DbError::Invalid) for an event of another table's columns.
    pub fn append(&self, event: AnyEvent) -> Result<Appended> {
        self.append_all([event], false)
    }

    /// Appends an event; on return it is on disk, whatever the sync policy.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_durable(&self, event: AnyEvent) -> Result<Appended> {
        self.append_all([event], true)
    }

    /// Appends events, all or nothing. Those whose id was not set get one.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`Invalid`](crate::DbError::Invalid) for more than 256 MiB.
    pub fn append_batch(&self, events: impl IntoIterator<Item = AnyEvent>) -> Result<Appended> {
        self.append_all(events, false)
    }

    /// Appends events, all or nothing; on return they are on disk.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn append_batch_durable(&self, events: impl IntoIterator<Item = AnyEvent>) -> Result<Appended> {
        self.append_all(events, true)
    }

    /// A batch without events, to be filled in and appended: see [`AnyBatch`].
    pub fn batch(&self) -> AnyBatch<'_> {
        AnyBatch::new(self)
    }

    fn append_all(&self, events: impl IntoIterator<Item = AnyEvent>, durable: bool) -> Result<Appended> {
        let mut events: Vec<AnyEvent> = events.into_iter().collect();
        for event in &mut events {
            event.check_is_of(&self.columns)?;
            event.fill_id(|ts_ns| self.ids.id(ts_ns));
        }
        self.core.append(events.iter().map(AnyEvent::row), durable)
    }

    /// Brings everything that was appended before the call to disk.
    ///
    /// # Errors
    /// [`Poisoned`](crate::DbError::Poisoned) when a sync failed, now or earlier.
    pub fn sync(&self) -> Result<()> {
        self.core.sync()
    }

    /// A question about the table's events; nothing happens before it is asked for rows or totals.
    pub fn query(&self) -> AnyQuery<'_> {
        AnyQuery::new(self.present(), &self.columns)
    }

    /// Which events a query looks at: those whose column passes the test. See [`AnyFilter`].
    ///
    /// # Errors
    /// [`UnknownColumn`](crate::DbError::UnknownColumn) names the columns that there are; [`Invalid`](crate::DbError::Invalid) for
    /// a test that the column has not: of a text for numbers, of a number for texts, of flags for anything else.
    pub fn filter(&self, column: &str, test: Test) -> Result<AnyFilter> {
        AnyFilter::new(&self.columns, column, test)
    }

    /// The table as it is now, to be asked whenever and from wherever: what changes later changes nothing of it. See
    /// [`AnySnapshot`].
    ///
    /// What was acknowledged before the call is in it, what is appended after it is not, and of two appends of which one began
    /// when the other had returned the later is never there without the earlier.
    ///
    /// Cost: a look at what is in memory of each segment and block; nothing is read and no row copied.
    pub fn snapshot(&self) -> AnySnapshot {
        AnySnapshot::new(self.core.source().moment(), &self.columns)
    }

    /// What its queries are put to.
    fn present(&self) -> Asked<'_> {
        Asked::Present(self.core.source())
    }

    /// The newest live event with this id; `None` when there is none, and for the empty id.
    ///
    /// # Errors
    /// [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment cannot be read.
    pub fn get(&self, id: &str) -> Result<Option<AnyRow>> {
        query::get(self.present(), &self.columns, id)
    }

    /// Count and sums per UTC day and combination of any dims, for the days from `from_day` to `to_day`, both inclusive and in
    /// epoch **seconds** of UTC midnight. Each dim stands with the value that it must have; `None` is any. Sorted by day and
    /// dims.
    ///
    /// Segments carry the rollups of [`EngineConfig::rollup_dims`]; by other dims they are computed, once per segment and
    /// open.
    ///
    /// # Errors
    /// [`UnknownColumn`](crate::DbError::UnknownColumn); [`Invalid`](crate::DbError::Invalid) for a column that is no dim, or that stands
    /// there twice; [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment cannot be read.
    pub fn rollups(&self, from_day: i64, to_day: i64, by: &[(&str, Option<&str>)]) -> Result<Vec<AnyRollup>> {
        query::rollups(self.present(), &self.columns, from_day, to_day, by)
    }

    /// Deletes every event with one of these ids and returns how many of the ids were there.
    ///
    /// # Errors
    /// As [`Engine::delete_events`](crate::Engine::delete_events).
    pub fn delete(&self, ids: &[&str]) -> Result<usize> {
        self.core.delete_events(ids)
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

    /// Reads every checksum of the table's files, or every value, and lists all that is wrong, as
    /// [`Engine::verify`](crate::Engine::verify) does.
    pub fn verify(&self, depth: Depth) -> VerifyReport {
        self.core.verify(depth)
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

    /// Syncs and closes the table, if this is its last handle, and says when that failed; dropping it does the same, but can
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{MAX_KEY_BYTES, MAX_LABEL_BYTES};

    /// So that a batch of many is not refused for one of them.
    #[test]
    fn texts_that_a_column_cannot_hold_are_refused_when_they_are_set() {
        let dir = tempfile::tempdir().unwrap();
        let schema = TableSchema::new(1).dim("user").label("note");
        let store = AnyStore::open_or_create(dir.path(), schema).unwrap();
        for (column, most) in [("id", MAX_KEY_BYTES), ("user", MAX_KEY_BYTES), ("note", MAX_LABEL_BYTES)] {
            let event = store.event(1).set(column, "x".repeat(most)).unwrap();
            assert_eq!(event.bytes(), store.event(1).bytes() + most);
            store.append(event).unwrap();
            let refused = store.event(1).set(column, "x".repeat(most + 1)).unwrap_err().to_string();
            let wanted =
                format!("{column} is not legal: the text has {} bytes, at most {most} are", most + 1);
            assert!(refused.starts_with(&wanted), "{refused}");
        }
    }

    /// What a tool writes into a program's table is laid out as the program lays it out.
    #[test]
    fn new_segments_carry_the_bloom_filter_and_the_rollups_of_the_newest_one() {
        let dir = tempfile::tempdir().unwrap();
        let schema = TableSchema::new(1).dim("user").dim("model");
        let config =
            EngineConfig { bloom_dim: 1, rollup_dims: vec![1, 0], ..EngineConfig::in_dir(dir.path()) };
        let append_and_flush = |store: &AnyStore| {
            store.append(store.event(1)).unwrap();
            store.flush().unwrap();
        };
        let layout = |store: &AnyStore| {
            let version = store.core.source().version();
            let layout = |header: &crate::format::segment::SegmentHeader| {
                (header.bloom_dim, header.rollup_dims.clone())
            };
            version.segments.iter().map(|entry| layout(entry.segment.header())).collect::<Vec<_>>()
        };
        let store = AnyStore::open_with(config, Options::default().schema(schema.clone())).unwrap();
        append_and_flush(&store);
        drop(store);
        let store = AnyStore::open(dir.path()).unwrap();
        append_and_flush(&store);
        assert_eq!(layout(&store), [(Some(1), vec![1, 0]), (Some(1), vec![1, 0])]);
        drop(store);

        let plain = EngineConfig { bloom_dim: EngineConfig::NO_BLOOM, ..EngineConfig::in_dir(dir.path()) };
        let store = AnyStore::open_with(plain, Options::default().schema(schema)).unwrap();
        append_and_flush(&store);
        drop(store);
        let store = AnyStore::open(dir.path()).unwrap();
        append_and_flush(&store);
        assert_eq!(layout(&store)[2..], [(None, vec![]), (None, vec![])]);
    }
}
