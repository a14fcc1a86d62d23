//! `AnyReader`: a table of any columns beside the engine that writes it, also in another process.

use std::path::Path;
use std::sync::Arc;

use super::answer::AnyRollup;
use super::columns::{Column, Columns};
use super::filter::{AnyFilter, Test};
use super::query::{self, AnyQuery};
use super::row::AnyRow;
use super::snapshot::AnySnapshot;
use crate::config::{EngineConfig, Options};
use crate::engine::{Follower, Refreshed};
use crate::error::Result;
use crate::read::moment::Asked;
use crate::schema::TableSchema;

/// A table of any columns that an engine writes meanwhile, in this process or another one: [`Reader`](crate::Reader) by
/// column name. What holds there holds here.
///
/// Its columns are those of the moment at which it was opened; those that the writer has added since are seen by one that is
/// opened anew.
///
/// ```
/// use keplordb::TableSchema;
/// use keplordb::any::{AnyReader, AnyStore};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("calls");
/// let store = AnyStore::open_or_create(&dir, TableSchema::new(1).dim("user").counter("tokens"))?; // usually another process
/// let reader = AnyReader::open(&dir)?;
///
/// store.append(store.event(1_700_000_000_000_000_000).set("user", "alice")?.set("tokens", 1200)?)?;
/// reader.refresh()?;
/// assert_eq!(reader.query().equals("user", "alice")?.totals()?.of("tokens")?.sum, 1200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct AnyReader {
    follower: Arc<Follower>,
    columns: Arc<Columns>,
}

impl AnyReader {
    /// Reads the table in this directory with the columns that it has.
    ///
    /// # Errors
    /// As [`Reader::open`](crate::Reader::open).
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(EngineConfig::in_dir(dir.as_ref()), Options::default())
    }

    /// Reads with a configuration and options of your own, of which those that concern writing play no part; with the columns
    /// of [`Options::schema`], where it is given.
    ///
    /// # Errors
    /// As [`Reader::open`](crate::Reader::open).
    pub fn open_with(config: EngineConfig, options: Options) -> Result<Self> {
        let follower = match options.schema.clone() {
            Some(schema) => Follower::open(config, options, schema)?,
            None => Follower::open_stored(config, options)?,
        };
        let columns = Arc::new(Columns::new(follower.source().schema()));
        Ok(Self { follower: Arc::new(follower), columns })
    }

    /// Shows queries everything that was written before the call.
    ///
    /// # Errors
    /// As [`Reader::refresh`](crate::Reader::refresh).
    pub fn refresh(&self) -> Result<Refreshed> {
        self.follower.refresh()
    }

    /// The columns that the table adds to the built-in ones.
    pub fn schema(&self) -> &TableSchema {
        self.follower.source().schema()
    }

    /// All columns, in the order of rows; as [`AnyStore::columns`](crate::any::AnyStore::columns).
    pub fn columns(&self) -> &[Column] {
        self.columns.all()
    }

    /// The position of a column in [`columns`](Self::columns). It holds as long as the reader is open.
    ///
    /// # Errors
    /// [`UnknownColumn`](crate::DbError::UnknownColumn) names the columns that there are.
    pub fn position(&self, column: &str) -> Result<usize> {
        self.columns.position(column)
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

    /// The table as the last [`refresh`](Self::refresh) found it, to be asked whenever and from wherever: what changes later
    /// changes nothing of it. See [`AnySnapshot`].
    ///
    /// Cost: a look at what is in memory of each segment and block; nothing is read and no row copied.
    pub fn snapshot(&self) -> AnySnapshot {
        AnySnapshot::new(self.follower.source().moment(), &self.columns)
    }

    /// What its queries are put to.
    fn present(&self) -> Asked<'_> {
        Asked::Present(self.follower.source())
    }

    /// The newest live event with this id; `None` when there is none, and for the empty id.
    ///
    /// # Errors
    /// As [`Reader::get`](crate::Reader::get).
    pub fn get(&self, id: &str) -> Result<Option<AnyRow>> {
        query::get(self.present(), &self.columns, id)
    }

    /// Count and sums per UTC day and combination of any dims; as [`AnyStore::rollups`](crate::any::AnyStore::rollups).
    ///
    /// # Errors
    /// As [`AnyStore::rollups`](crate::any::AnyStore::rollups).
    pub fn rollups(&self, from_day: i64, to_day: i64, by: &[(&str, Option<&str>)]) -> Result<Vec<AnyRollup>> {
        query::rollups(self.present(), &self.columns, from_day, to_day, by)
    }
}
