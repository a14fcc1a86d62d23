//! A typed question about a table's events: which ones, in which order, how many, and what is wanted of them.

use std::ops::RangeBounds;

use crate::columns::Filter;
use crate::error::Result;
use crate::filter::{Predicate, inclusive};
use crate::raw::RESERVED_ROWS;
use crate::read::select::Order;
use crate::read::source::Source;
use crate::store::{ExactSums, Schema};
use crate::sums::Sums;

/// A question about a table's events; made by [`Store::query`] and [`Reader::query`](crate::Reader::query).
#[derive(Debug, Clone)]
#[must_use = "a query does nothing before it is asked for rows or totals"]
pub struct Query<'a, S: Schema> {
    source: &'a Source,
    filter: Filter<S>,
    order: Order,
    limit: usize,
    from_ts_ns: i64,
    to_ts_ns: i64,
}

impl<'a, S: Schema> Query<'a, S> {
    pub(crate) fn new(source: &'a Source, filter: Filter<S>) -> Self {
        let (order, limit) = (Order::NewestFirst, usize::MAX);
        Self { source, filter, order, limit, from_ts_ns: i64::MIN, to_ts_ns: i64::MAX }
    }

    /// Only events in this range of times, in nanoseconds since the Unix epoch, besides what the filter says.
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

    /// The rows, owned.
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

    /// Count, sums and extremes of all events that match; order and limit play no part.
    ///
    /// # Errors
    /// [`Corrupt`](crate::DbError::Corrupt) or [`Io`](crate::DbError::Io) when a segment cannot be read;
    /// [`Invalid`](crate::DbError::Invalid) for a filter of more than 256 levels.
    pub fn totals(&self) -> Result<S::Totals> {
        let sums = match self.predicate()? {
            Some(predicate) => self.source.aggregate(&predicate)?,
            None => Sums::empty(self.source.schema().shape()),
        };
        Ok(ExactSums(sums).into())
    }

    /// `None` when no row can match.
    fn predicate(&self) -> Result<Option<Predicate<'_>>> {
        let Some(mut predicate) = Predicate::of(self.filter.root())? else { return Ok(None) };
        predicate.between(self.from_ts_ns, self.to_ts_ns);
        Ok(predicate.is_possible().then_some(predicate))
    }
}
