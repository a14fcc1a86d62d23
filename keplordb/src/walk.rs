//! All rows of a query, however many: page by page, or in one scan.

use crate::error::Result;
use crate::page::{Page, PageCursor};
use crate::query::Query;
use crate::step::{self, Step};
use crate::store::Schema;

impl<S: Schema> Query<'_, S> {
    /// The next `limit` rows in the order of the query: the first ones without a cursor, then those behind the cursor that
    /// came with the page before. The query's own limit plays no part.
    ///
    /// All pages together have each row exactly once that was there when the first was asked for and is not deleted before
    /// its page is, also of equal times; rows that are appended later belong to none of them. See [`PageCursor`]. Use
    /// the same filter for all pages: with another one, they are those of its rows that lie behind the cursor.
    ///
    /// What had been appended when the first page was asked for is in the pages. For that it waits for appends that are under
    /// way, 100 ms at most: where a write takes longer, rows that were appended after that one began, the caller's own too,
    /// are left out, and are in the next walk.
    ///
    /// ```
    /// use keplordb::{Schema, Store};
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
    /// store.append_batch((0..25).map(|_| Visit::new(1_700_000_000_000_000_000).page("/")))?;
    ///
    /// let (mut cursor, mut rows) = (None, 0);
    /// loop {
    ///     let page = store.query(Visit::filter()).page(10, cursor)?;
    ///     store.append(Visit::new(0).page("/later"))?; // belongs to no page of this query
    ///     rows += page.rows.len();
    ///     cursor = page.next;
    ///     if cursor.is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(rows, 25);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Cost: as a query for as many rows; no more for a late page than for an early one.
    ///
    /// # Errors
    /// [`Invalid`](crate::DbError::Invalid) for a limit of 0, and for a cursor of another order or table;
    /// [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment cannot be read.
    pub fn page(&self, limit: usize, cursor: Option<PageCursor>) -> Result<Page<S::Row>> {
        let mut rows = Vec::new();
        let predicate = self.predicate()?;
        let next = self.source.page(predicate.as_ref(), limit, self.order, cursor, &mut |row| {
            rows.push(S::read_row(row)?);
            Ok(())
        })?;
        Ok(Page { rows, next })
    }

    /// Gives every row to a function, in the order of the query, up to its limit: as [`each`](Self::each), but what it gives is
    /// one moment of the whole table.
    ///
    /// The rows are those of one moment: what is appended, deleted, moved or dropped meanwhile changes nothing. What was
    /// acknowledged before the call is among them, what is appended after it is not, and of two appends of which one began when
    /// the other had returned the later is never there without the earlier. The function may use the store as it likes, and
    /// returns what that of `each` may.
    ///
    /// Memory, besides maps of files: the rows in memory as they were at the beginning, until the scan ends; the columns
    /// of segments whose times meet, at most 64 more, and 4 bytes for each matching row in memory; one row at a time.
    ///
    /// ```
    /// # use keplordb::{Schema, Store};
    /// # #[derive(Schema)]
    /// # #[keplordb(id = 1)]
    /// # pub struct Call {
    /// #     #[counter]
    /// #     pub tokens: u32,
    /// # }
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::<Call>::open(dir.path().join("calls"))?;
    /// # store.append_batch((0..4).map(|tokens| Call::new(0).tokens(tokens)))?;
    /// let mut tokens = 0;
    /// store.query(Call::filter()).oldest_first().scan(|row| tokens += row.tokens())?;
    /// assert_eq!(tokens, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment cannot be read; an error of the function ends the
    /// scan and is returned.
    pub fn scan<T: Step>(&self, mut each: impl FnMut(S::View<'_>) -> T) -> Result<()> {
        let Some(predicate) = self.predicate()? else { return Ok(()) };
        step::until_break(|stop| {
            self.source
                .scan(&predicate, self.limit, self.order, &mut |row| stop.unless(each(S::view_of(row))))
        })
    }
}
