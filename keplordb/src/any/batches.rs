//! Columns of many rows at once, for whoever works column by column: SQL, exports.

use super::columns::Slot;
use super::query::AnyQuery;
use crate::error::{DbError, Result};
use crate::expr::{KeyColumn, NumberColumn, TextColumn};
pub use crate::read::batch::{ColumnBatch, ColumnValues, KeyValues, TextValues};
use crate::read::gather::{Gather, GatheredColumn};
use crate::read::moment::Asked;
use crate::step::{self, Step};

impl AnyQuery<'_> {
    /// Gives the events' columns to a function, batch after batch, in the order of the query and up to its limit; of one moment,
    /// as [`scan`](Self::scan). Columns are asked for by their positions, in any order; of none, batches only count.
    ///
    /// Dims come as [`Keys`](ColumnValues::Keys) where all rows of a batch are of one segment with few values, else as
    /// [`Texts`](ColumnValues::Texts); other texts as `Texts`, and all numbers, the status too, as
    /// [`Ints`](ColumnValues::Ints). In a column that is younger than the event there is 0 or the empty text.
    ///
    /// A batch has `batch_rows` rows, the last one what is left. It ends earlier when the texts of a column have 16 MiB, or
    /// would have, if the keys before became texts.
    ///
    /// ```
    /// use keplordb::TableSchema;
    /// use keplordb::any::{AnyStore, ColumnValues};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let schema = TableSchema::new(1).dim("model").counter("tokens");
    /// let store = AnyStore::open_or_create(dir.path().join("calls"), schema)?;
    /// for second in 0..100 {
    ///     let call = store.event(second * 1_000_000_000).set("model", "small")?.set("tokens", second)?;
    ///     store.append(call)?;
    /// }
    /// store.flush()?;
    ///
    /// let columns = [store.position("tokens")?, store.position("model")?];
    /// let mut batches = Vec::new();
    /// store.query().oldest_first().batches(&columns, 64, |batch| batches.push(batch))?;
    /// assert_eq!((batches[0].rows, batches[1].rows), (64, 36));
    /// let ColumnValues::Ints(tokens) = &batches[1].columns[0] else { panic!("tokens are numbers") };
    /// assert_eq!(tokens[..3], [64, 65, 66]);
    /// let ColumnValues::Keys { codes, values } = &batches[1].columns[1] else { panic!("one segment, one value") };
    /// assert_eq!((values.len(), values.get(codes[0])), (1, "small"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// **Cost**: where no other rows lie in between, those of a segment are read column by column: about a nanosecond a number
    /// and ten a text. Where the times of several segments meet, rows are read in as long runs as they have. Segments that lie
    /// beyond the limit are not opened.
    ///
    /// **Memory**: one batch, and as [`scan`](Self::scan).
    ///
    /// # Errors
    /// [`Invalid`](DbError::Invalid) for a position beyond the last and for batches of 0 rows;
    /// [`Corrupt`](DbError::Corrupt) or [`Io`](DbError::Io) when a segment cannot be read: batches that were given before are
    /// right. An error of the function ends the query and is returned; its `Break` ends it without one.
    pub fn batches<T: Step>(
        &self,
        columns: &[usize],
        batch_rows: usize,
        mut each: impl FnMut(ColumnBatch) -> T,
    ) -> Result<()> {
        let columns = self.gathered(columns)?;
        let what = Gather::new(&columns, batch_rows)?;
        let Some(predicate) = self.predicate()? else { return Ok(()) };
        step::until_break(|stop| {
            let mut each = |batch| stop.unless(each(batch));
            self.asked.gather(&predicate, self.limit, self.order, what, &mut each)
        })
    }

    /// As [`batches`](Self::batches), of one [part](crate::any::AnySnapshot::parts) of a snapshot, so that several threads read a
    /// table side by side: all parts together give each event once. The rows of a segment come by (time, sequence), those of a
    /// block as they were appended; the order of the query plays no part, and its limit is that of each part.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// use keplordb::TableSchema;
    /// use keplordb::any::AnyStore;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1).dim("model"))?;
    /// for second in 0..100 {
    ///     store.append(store.event(second * 1_000_000_000))?;
    ///     if second % 30 == 0 {
    ///         store.flush()?;
    ///     }
    /// }
    /// let (snapshot, rows) = (store.snapshot(), AtomicUsize::new(0));
    /// std::thread::scope(|scope| {
    ///     for part in 0..snapshot.parts() {
    ///         let (query, rows) = (snapshot.query(), &rows);
    ///         scope.spawn(move || query.batches_of(part, &[], 64, |batch| {
    ///             rows.fetch_add(batch.rows, Ordering::Relaxed);
    ///         }));
    ///     }
    /// });
    /// assert_eq!(rows.into_inner(), 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`batches`](Self::batches); [`Invalid`](DbError::Invalid) for a query of something else than a snapshot, whose parts
    /// change from call to call, and for a part that there is not.
    pub fn batches_of<T: Step>(
        &self,
        part: usize,
        columns: &[usize],
        batch_rows: usize,
        mut each: impl FnMut(ColumnBatch) -> T,
    ) -> Result<()> {
        let columns = self.gathered(columns)?;
        let what = Gather::new(&columns, batch_rows)?;
        let Asked::Moment(moment) = self.asked else {
            let why = "parts change with the table: take a snapshot, and ask it for a query";
            return Err(DbError::invalid("batches_of", why));
        };
        if part >= moment.parts() {
            let why = format!("there is no part {part}, the snapshot has {}", moment.parts());
            return Err(DbError::invalid("batches_of", why));
        }
        let Some(predicate) = self.predicate()? else { return Ok(()) };
        step::until_break(|stop| {
            let mut each = |batch| stop.unless(each(batch));
            moment.gather_part(part, &predicate, self.limit, what, &mut each)
        })
    }

    /// Columns by their positions.
    fn gathered(&self, positions: &[usize]) -> Result<Vec<GatheredColumn>> {
        let gathered = |position: &usize| Ok(self.columns.at(*position)?.slot.gathered());
        positions.iter().map(gathered).collect()
    }
}

impl Slot {
    fn gathered(self) -> GatheredColumn {
        let number = GatheredColumn::Number;
        match self {
            Self::TsNs => number(NumberColumn::Time),
            Self::Sequence => number(NumberColumn::Sequence),
            Self::Metric => number(NumberColumn::Metric),
            Self::LatencyMs => number(NumberColumn::Latency),
            Self::LatencyDetailMs => number(NumberColumn::LatencyDetail),
            Self::Flags => number(NumberColumn::Flags),
            Self::Counter(counter) => number(NumberColumn::Counter(counter)),
            Self::Status => GatheredColumn::Key(KeyColumn::Status),
            Self::Dim(dim) => GatheredColumn::Key(KeyColumn::Dim(dim)),
            Self::Id => GatheredColumn::Text(TextColumn::Id),
            Self::Label(label) => GatheredColumn::Text(TextColumn::Label(label)),
        }
    }
}
