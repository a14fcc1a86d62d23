//! A typed question about a table's events: which ones, in which order, how many, and what is wanted of them.

use std::fmt;
use std::ops::RangeBounds;

use crate::aggregates::Aggregates;
use crate::columns::{Dim, Filter};
use crate::error::Result;
use crate::filter::{Predicate, inclusive};
use crate::groups::{Bucket, GroupKeys, Grouped, Selected};
use crate::raw::RESERVED_ROWS;
use crate::read::explain::Explain;
use crate::read::group::{self, GroupQuery};
use crate::read::select::Order;
use crate::read::source::Source;
use crate::step::{self, Step};
use crate::store::{ExactSums, Schema};
use crate::sums::Sums;
use crate::values::Values;

/// A question about a table's events; made by [`Store::query`](crate::Store::query) and
/// [`Reader::query`](crate::Reader::query).
///
/// It is asked by the methods that return a `Result`, and then sees one state of the table: every event whose append had returned,
/// batches and deletes as a whole. Asked again, it sees the state of then. It can be cloned.
///
/// ```
/// # use keplordb::{Schema, Store};
/// # #[derive(Schema)]
/// # #[keplordb(id = 1)]
/// # pub struct AiCall { #[dim] pub user: String, #[dim] pub model: String, #[counter] pub tokens: u32 }
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::<AiCall>::open(dir.path().join("calls"))?;
/// use keplordb::aggregates::count;
/// use keplordb::Filter;
///
/// for (ts_ns, user) in [(10, "alice"), (20, "bob"), (30, "alice")] {
///     store.append(AiCall::new(ts_ns).user(user).model("o3").tokens(5))?;
/// }
/// let c = AiCall::cols();
/// let late = store.query(c.model.eq("o3")).between(20..);
/// assert_eq!(late.totals()?.counters, [10]);
/// assert_eq!(late.rows()?[0].ts_ns(), 30); // newest first, unless told otherwise
/// assert_eq!(late.clone().oldest_first().limit(1).rows()?[0].user(), "bob");
/// assert_eq!(late.group_by(c.user).select(count()).fetch()?.len(), 2);
/// assert_eq!(store.query(Filter::all()).by_scan().totals()?.event_count, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a query does nothing before it is asked for rows or totals"]
pub struct Query<'a, S: Schema> {
    pub(crate) source: &'a Source,
    filter: Filter<S>,
    pub(crate) order: Order,
    pub(crate) limit: usize,
    from_ts_ns: i64,
    to_ts_ns: i64,
    by_scan: bool,
}

// By hand: a query can be cloned and shown whether its events can or not.
impl<S: Schema> Clone for Query<'_, S> {
    fn clone(&self) -> Self {
        Self { filter: self.filter.clone(), ..*self }
    }
}

impl<S: Schema> fmt::Debug for Query<'_, S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = out.debug_struct("Query");
        shown.field("filter", &self.filter).field("order", &self.order).field("limit", &self.limit);
        shown.field("from_ts_ns", &self.from_ts_ns).field("to_ts_ns", &self.to_ts_ns).finish_non_exhaustive()
    }
}

impl<'a, S: Schema> Query<'a, S> {
    pub(crate) fn new(source: &'a Source, filter: Filter<S>) -> Self {
        let (order, limit) = (Order::NewestFirst, usize::MAX);
        Self { source, filter, order, limit, from_ts_ns: i64::MIN, to_ts_ns: i64::MAX, by_scan: false }
    }

    /// Only events in this range of times, in nanoseconds since the Unix epoch, besides what the filter says: half-open or inclusive, as
    /// written. Of several ranges all hold; an empty one matches nothing.
    pub fn between(mut self, range: impl RangeBounds<i64>) -> Self {
        // An empty range stays one, whatever it is cut with.
        let (from, to) = inclusive(&range).unwrap_or((i64::MAX, i64::MIN));
        (self.from_ts_ns, self.to_ts_ns) = (from.max(self.from_ts_ns), to.min(self.to_ts_ns));
        self
    }

    /// Newest first, by (time, sequence); the default.
    pub fn newest_first(mut self) -> Self {
        self.order = Order::NewestFirst;
        self
    }

    /// Oldest first, by (time, sequence).
    pub fn oldest_first(mut self) -> Self {
        self.order = Order::OldestFirst;
        self
    }

    /// At most so many rows.
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = rows;
        self
    }

    /// Answers totals and groups by looking at every row in the range of times, without the help of any sum or list of rows of
    /// the values of a dim. For measurements, and to doubt an answer by: it must be the same. What it still trusts are the
    /// ranges in the segments' headers, zone maps, the order of times, and the hash indexes of ids and labels.
    pub fn by_scan(mut self) -> Self {
        self.by_scan = true;
        self
    }

    /// The rows, owned, in the order of the query.
    ///
    /// Cost: reads no further than the limit needs; one allocation for the texts of each row.
    ///
    /// # Errors
    /// [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment cannot be read;
    /// [`Invalid`](crate::DbError::Invalid) for a filter of more than 256 levels.
    pub fn rows(&self) -> Result<Vec<S::Row>> {
        let mut rows = Vec::with_capacity(self.limit.min(RESERVED_ROWS));
        if let Some(predicate) = self.predicate()? {
            self.source.recent(&predicate, self.limit, self.order, &mut |row| {
                rows.push(S::read_row(row)?);
                Ok(())
            })?;
        }
        Ok(rows)
    }

    /// Gives each row to a function, in order, without copying or collecting them.
    ///
    /// The function returns nothing, or a `Result`, whose error ends the query and is returned by it, or a
    /// [`ControlFlow`](std::ops::ControlFlow), whose `Break` ends it without one.
    ///
    /// ```
    /// # use keplordb::{Schema, Store};
    /// # #[derive(Schema)]
    /// # #[keplordb(id = 1)]
    /// # pub struct AiCall {
    /// #     #[dim]
    /// #     pub user: String,
    /// #     #[counter]
    /// #     pub tokens: u32,
    /// # }
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::<AiCall>::open(dir.path().join("calls"))?;
    /// # store.append(AiCall::new(1).user("alice").tokens(3))?;
    /// # store.append(AiCall::new(2).user("alice").tokens(4))?;
    /// let mut tokens = 0;
    /// store.query(AiCall::filter().user("alice")).limit(100).each(|call| tokens += call.tokens())?;
    /// assert_eq!(tokens, 7);
    /// let mut ids = Vec::new();
    /// store.query(AiCall::filter()).each(|call| {
    ///     ids.push(call.id()?.into_owned()); // ids and labels are decoded when they are asked for
    ///     Ok(())
    /// })?;
    /// assert_eq!(ids.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Cost: a read for each value that is asked for; a row of which seven numbers and two dims are read took 34 ns.
    ///
    /// # Errors
    /// As [`rows`](Self::rows), and those of the function.
    pub fn each<T: Step>(&self, mut each: impl FnMut(S::View<'_>) -> T) -> Result<()> {
        let Some(predicate) = self.predicate()? else { return Ok(()) };
        step::until_break(|stop| {
            self.source
                .recent(&predicate, self.limit, self.order, &mut |row| stop.unless(each(S::view_of(row))))
        })
    }

    /// Count, sums and extremes of all events that match; order and limit play no part.
    ///
    /// Cost: a few additions per segment where all of it, a range of times or the values of one dim match; else the rows that match are
    /// read, in all their measures: [`select`](Self::select) reads only those that are asked for. Sums are exact and clamped once, at the end.
    ///
    /// # Errors
    /// [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment cannot be read;
    /// [`Invalid`](crate::DbError::Invalid) for a filter of more than 256 levels.
    pub fn totals(&self) -> Result<S::Totals> {
        let sums = match self.predicate()? {
            Some(predicate) => self.source.aggregate(&predicate, &mut Explain::default())?,
            None => Sums::empty(self.source.schema().shape()),
        };
        Ok(ExactSums(sums).into())
    }

    /// Groups by these keys: a dim, the status, or a tuple of up to eight of them. Order and limit of rows play no part. See
    /// [`groups`](crate::groups).
    pub fn group_by<K: GroupKeys<S>>(self, keys: K) -> Grouped<'a, S, K, ()> {
        Grouped::new(self, keys)
    }

    /// Groups by spans of time.
    pub fn bucket(self, bucket: Bucket) -> Grouped<'a, S, (), Bucket> {
        self.group_by(()).bucket(bucket)
    }

    /// What is wanted of all events that match, as one group: [`one`](Selected::one) gives its values. See
    /// [`aggregates`](crate::aggregates).
    pub fn select<A: Aggregates<S>>(self, aggregates: A) -> Selected<'a, S, (), (), A> {
        self.group_by(()).select(aggregates)
    }

    /// The values of a dim among the events that match, and how many have each. Order and limit of rows play no part.
    pub fn values(self, dim: Dim<S>) -> Values<'a, S> {
        Values::new(self, dim)
    }

    /// What decides [`totals`](Self::totals): asks for them, and says how each segment was answered. Groups have an
    /// [`explain`](Selected::explain) of their own. Costs as much as the query.
    ///
    /// # Errors
    /// As [`totals`](Self::totals).
    pub fn explain(&self) -> Result<Explain> {
        let mut tally = Explain::default();
        if let Some(predicate) = self.predicate()? {
            self.source.aggregate(&predicate, &mut tally)?;
        }
        Ok(tally)
    }

    /// Only events that this filter matches too.
    pub(crate) fn and(mut self, filter: Filter<S>) -> Self {
        self.filter = self.filter & filter;
        self
    }

    pub(crate) fn group(&self, ask: &GroupQuery) -> Result<(group::Groups, Explain)> {
        let mut tally = Explain::default();
        // One that no row can match is asked all the same: the engine knows what the answer of no rows is.
        let predicate = self.predicate()?.unwrap_or_else(Predicate::none);
        let groups = self.source.group(&predicate, ask, &mut tally)?;
        Ok((groups, tally))
    }

    /// `None` when no row can match.
    pub(crate) fn predicate(&self) -> Result<Option<Predicate<'_>>> {
        let Some(mut predicate) = Predicate::of(self.filter.root())? else { return Ok(None) };
        predicate.between(self.from_ts_ns, self.to_ts_ns);
        predicate.by_scan = self.by_scan;
        Ok(predicate.is_possible().then_some(predicate))
    }
}
