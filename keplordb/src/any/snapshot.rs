//! `AnySnapshot`: a table as it was at one moment, owned.

use std::sync::Arc;

use super::answer::AnyRollup;
use super::columns::{Column, Columns};
use super::filter::{AnyFilter, Test};
use super::query::{self, AnyQuery};
use super::row::AnyRow;
use crate::error::Result;
use crate::read::moment::{Asked, Moment};
use crate::schema::TableSchema;

/// A segment of a table; see [`AnySnapshot::segments`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnySegment {
    /// Its number, which its file's name has in hexadecimal digits.
    pub number: u64,
    /// Its rows, deleted ones too.
    pub rows: u64,
    /// How many of them are deleted.
    pub deleted_rows: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// The smallest time of its rows, in nanoseconds since the Unix epoch.
    pub first_ts_ns: i64,
    /// The largest.
    pub last_ts_ns: i64,
}

/// A table as it was when [`snapshot`](crate::any::AnyStore::snapshot) was called: every query of it, by every method, sees the
/// same rows, whatever is appended, deleted, moved or dropped meanwhile.
///
/// `Send`, `Sync` and without a lifetime; a clone costs one reference count.
///
/// **Memory and disk**, until the last clone is dropped: the rows that were in memory, with those that are appended to the same
/// logs, and the segments' files. The engine unlinks a file that it has replaced only when no snapshot of it has the file any
/// more. It knows only of its own: for one of an [`AnyReader`](crate::any::AnyReader), and when the store was closed and is
/// opened anew, files stay for [`Options::unlink_grace`](crate::Options::unlink_grace) after they were replaced; later a query
/// may meet one that is gone, which is [`Missing`](crate::DbError::Missing). A snapshot does not keep a store open.
///
/// A page's cursor goes on in this snapshot. Put to the store, or to another snapshot, it may also show events whose append was
/// under way at this moment.
///
/// ```
/// use keplordb::TableSchema;
/// use keplordb::any::AnyStore;
///
/// # let dir = tempfile::tempdir()?;
/// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1).dim("user"))?;
/// store.append(store.event(10).set("user", "alice")?.set("id", "a-1")?)?;
/// let before = store.snapshot();
///
/// store.append(store.event(20).set("user", "bob")?)?;
/// store.delete(&["a-1"])?;
/// store.flush()?;
/// assert_eq!((before.live_rows(), before.times()), (1, Some((10, 10))));
/// let report = std::thread::spawn(move || before.query().rows()).join().unwrap()?;
/// assert_eq!(report[0].text("user")?, "alice");
/// assert_eq!(store.snapshot().query().rows()?[0].text("user")?, "bob");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct AnySnapshot {
    moment: Arc<Moment>,
    columns: Arc<Columns>,
}

impl AnySnapshot {
    pub(super) fn new(moment: Moment, columns: &Arc<Columns>) -> Self {
        Self { moment: Arc::new(moment), columns: Arc::clone(columns) }
    }

    /// The columns that the table adds to the built-in ones.
    pub fn schema(&self) -> &TableSchema {
        self.moment.schema()
    }

    /// All columns, in the order of rows; as [`AnyStore::columns`](crate::any::AnyStore::columns).
    pub fn columns(&self) -> &[Column] {
        self.columns.all()
    }

    /// The position of a column in [`columns`](Self::columns).
    ///
    /// # Errors
    /// [`UnknownColumn`](crate::DbError::UnknownColumn) names the columns that there are.
    pub fn position(&self, column: &str) -> Result<usize> {
        self.columns.position(column)
    }

    /// A question about the events of that moment; as [`AnyStore::query`](crate::any::AnyStore::query).
    pub fn query(&self) -> AnyQuery<'_> {
        AnyQuery::new(self.asked(), &self.columns)
    }

    /// The events whose column passes a test; as [`AnyStore::filter`](crate::any::AnyStore::filter).
    ///
    /// # Errors
    /// As [`AnyStore::filter`](crate::any::AnyStore::filter).
    pub fn filter(&self, column: &str, test: Test) -> Result<AnyFilter> {
        AnyFilter::new(&self.columns, column, test)
    }

    /// The newest event with this id that was live; `None` when there was none, and for the empty id.
    ///
    /// # Errors
    /// [`Missing`](crate::DbError::Missing), [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment
    /// cannot be read.
    pub fn get(&self, id: &str) -> Result<Option<AnyRow>> {
        query::get(self.asked(), &self.columns, id)
    }

    /// Count and sums per UTC day and combination of any dims; as [`AnyStore::rollups`](crate::any::AnyStore::rollups).
    ///
    /// # Errors
    /// As [`AnyStore::rollups`](crate::any::AnyStore::rollups).
    pub fn rollups(&self, from_day: i64, to_day: i64, by: &[(&str, Option<&str>)]) -> Result<Vec<AnyRollup>> {
        query::rollups(self.asked(), &self.columns, from_day, to_day, by)
    }

    /// The dim that the newest segment has a bloom filter on; `None` where it has none, or there is no segment.
    pub fn bloom_dim(&self) -> Option<&str> {
        let segments = self.moment.view().segments().iter();
        let newest = segments.max_by_key(|entry| entry.segment.number())?;
        self.schema().dims().nth(newest.segment.header().bloom_dim?)
    }

    /// How many rows there were that were not deleted; exact. Cost: a look at each block in memory.
    pub fn live_rows(&self) -> u64 {
        self.moment.view().live_rows()
    }

    /// The sequence below which those of all rows are.
    pub fn below(&self) -> u64 {
        self.moment.below()
    }

    /// Two times, in nanoseconds since the Unix epoch, between which those of all rows lie, both inclusive; `None` without rows.
    /// They are the earliest and the latest one where [`has_deletes`](Self::has_deletes) is false.
    pub fn times(&self) -> Option<(i64, i64)> {
        self.moment.view().times()
    }

    /// Whether some of the rows in the files and blocks count as deleted.
    pub fn has_deletes(&self) -> bool {
        self.moment.view().has_deletes()
    }

    /// How many parts it has that can be read side by side: the segments, then the blocks in memory.
    pub fn parts(&self) -> usize {
        self.moment.parts()
    }

    /// The segments, in the order of their numbers; rows that are in no segment yet are in none of them. No I/O.
    ///
    /// ```
    /// use keplordb::TableSchema;
    /// use keplordb::any::AnyStore;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1))?;
    /// store.append_batch([5, 7, 9].map(|ts_ns| store.event(ts_ns)))?;
    /// store.flush()?;
    /// store.append(store.event(11))?;
    /// let segments = store.snapshot().segments();
    /// assert_eq!((segments.len(), segments[0].rows, segments[0].deleted_rows), (1, 3, 0));
    /// assert_eq!((segments[0].first_ts_ns, segments[0].last_ts_ns), (5, 9));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn segments(&self) -> Vec<AnySegment> {
        let segments = self.moment.view().segments().iter().map(|entry| {
            let header = entry.segment.header();
            AnySegment {
                number: entry.segment.number(),
                rows: header.rows.into(),
                deleted_rows: u64::from(header.rows) - entry.live_rows(),
                file_bytes: header.file_bytes,
                first_ts_ns: header.facts.ts_min,
                last_ts_ns: header.facts.ts_max,
            }
        });
        segments.collect()
    }

    fn asked(&self) -> Asked<'_> {
        Asked::Moment(&self.moment)
    }
}
