//! Questions by column names.

use std::ops::RangeBounds;
use std::sync::Arc;

use super::answer::{AnyRollup, AnyTotals};
use super::columns::Columns;
use super::filter::AnyFilter;
use super::groups::AnyGrouped;
use super::row::{AnyRow, AnyRowView};
use crate::error::{DbError, Result};
use crate::filter::{Cursor, Predicate, inclusive};
use crate::page::{Page, PageCursor};
use crate::raw::RESERVED_ROWS;
use crate::read::explain::Explain;
use crate::read::group::{GroupQuery, Groups};
use crate::read::moment::Asked;
use crate::read::row::RowView;
use crate::read::select::Order;
use crate::step::{self, Step};
use crate::sums::Sums;

/// A question about a table's events; made by [`AnyStore::query`](crate::any::AnyStore::query). Conditions add up: an
/// event matches when all of them hold.
#[derive(Debug, Clone)]
#[must_use = "a query does nothing before it is asked for rows or totals"]
pub struct AnyQuery<'a> {
    pub(super) asked: Asked<'a>,
    pub(super) columns: &'a Arc<Columns>,
    filter: Option<AnyFilter>,
    from_ts_ns: i64,
    to_ts_ns: i64,
    status_min: u16,
    status_max: u16,
    /// (dim, value) pairs that must hold; a dim once.
    dims: Vec<(usize, String)>,
    /// Whether conditions contradict each other.
    is_empty: bool,
    pub(super) order: Order,
    pub(super) limit: usize,
    by_scan: bool,
}

impl<'a> AnyQuery<'a> {
    pub(super) fn new(asked: Asked<'a>, columns: &'a Arc<Columns>) -> Self {
        Self {
            asked,
            columns,
            filter: None,
            from_ts_ns: i64::MIN,
            to_ts_ns: i64::MAX,
            status_min: 0,
            status_max: u16::MAX,
            dims: Vec::new(),
            is_empty: false,
            order: Order::NewestFirst,
            limit: usize::MAX,
            by_scan: false,
        }
    }

    /// Only events that this filter matches too. One that was made for a table of other columns makes every answer of the
    /// query [`Invalid`](DbError::Invalid).
    pub fn filter(mut self, filter: &AnyFilter) -> Self {
        self.filter = Some(match self.filter {
            Some(known) => known & filter,
            None => filter.clone(),
        });
        self
    }

    /// Only events with exactly this value in a dim. Events that are older than the dim have the empty text in it.
    ///
    /// # Errors
    /// [`UnknownColumn`](DbError::UnknownColumn) names the columns that there are;
    /// [`Invalid`](DbError::Invalid) for a column that is no dim names the dims.
    pub fn equals(mut self, dim: &str, value: impl Into<String>) -> Result<Self> {
        let (dim, value) = (self.columns.dim(dim)?, value.into());
        match self.dims.iter().find(|(known, _)| *known == dim) {
            Some((_, known)) => self.is_empty |= *known != value,
            None => self.dims.push((dim, value)),
        }
        Ok(self)
    }

    /// Only events in this range of times, in nanoseconds since the Unix epoch.
    pub fn between(mut self, range: impl RangeBounds<i64>) -> Self {
        match inclusive(&range) {
            Some((from, to)) => {
                (self.from_ts_ns, self.to_ts_ns) = (from.max(self.from_ts_ns), to.min(self.to_ts_ns));
            }
            None => self.is_empty = true,
        }
        self
    }

    /// Only events strictly before this time: the next page after the one whose last row has it.
    pub fn cursor(self, cursor: Cursor) -> Self {
        self.between(..cursor.0)
    }

    /// Only events whose status is in this range.
    pub fn status(mut self, range: impl RangeBounds<u16>) -> Self {
        let wide =
            (range.start_bound().map(|from| i64::from(*from)), range.end_bound().map(|to| i64::from(*to)));
        match inclusive(&wide) {
            Some((from, to)) => {
                let narrow =
                    |status: i64| u16::try_from(status.clamp(0, u16::MAX.into())).unwrap_or(u16::MAX);
                // Above the largest status, or below 0, there is none.
                self.is_empty |= from > i64::from(u16::MAX) || to < 0;
                (self.status_min, self.status_max) =
                    (narrow(from).max(self.status_min), narrow(to).min(self.status_max));
            }
            None => self.is_empty = true,
        }
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

    /// Answers totals and groups by looking at every row in the range of times; as
    /// [`Query::by_scan`](crate::Query::by_scan).
    pub fn by_scan(mut self) -> Self {
        self.by_scan = true;
        self
    }

    /// The rows, owned: all values of each are copied. [`each`](Self::each) reads only what is asked for.
    ///
    /// # Errors
    /// [`Corrupt`](DbError::Corrupt) or [`Io`](DbError::Io) when a segment cannot be read; [`Invalid`](DbError::Invalid) for a
    /// filter of another table's columns, or of more than 256 levels.
    pub fn rows(&self) -> Result<Vec<AnyRow>> {
        let mut rows = Vec::with_capacity(self.limit.min(RESERVED_ROWS));
        self.each(|row| {
            rows.push(row.to_row(self.columns)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// Gives each row to a function, in order, without collecting them; rows in memory are ranked first, rows of segments
    /// are read as they come.
    ///
    /// # Errors
    /// As [`rows`](Self::rows); an error of the function ends the query and is returned.
    pub fn each(&self, mut each: impl FnMut(&AnyRowView<'_>) -> Result<()>) -> Result<()> {
        let Some(predicate) = self.predicate()? else { return Ok(()) };
        self.asked
            .recent(&predicate, self.limit, self.order, &mut |row| each(&AnyRowView::new(self.columns, row)))
    }

    /// The next `limit` rows in the order of the query, behind the cursor that came with the page before; the first ones without
    /// a cursor. The query's own limit plays no part. As [`Query::page`](crate::Query::page).
    ///
    /// # Errors
    /// As [`Query::page`](crate::Query::page), and [`rows`](Self::rows).
    pub fn page(&self, limit: usize, cursor: Option<PageCursor>) -> Result<Page<AnyRow>> {
        let mut rows = Vec::new();
        let predicate = self.predicate()?;
        let next = self.asked.page(predicate.as_ref(), limit, self.order, cursor, &mut |row| {
            rows.push(AnyRowView::new(self.columns, row).to_row(self.columns)?);
            Ok(())
        })?;
        Ok(Page { rows, next })
    }

    /// Gives every row to a function, in order, of one moment and with bounded memory. As
    /// [`Query::scan`](crate::Query::scan), but the row is not copied.
    ///
    /// # Errors
    /// As [`Query::scan`](crate::Query::scan), and [`rows`](Self::rows).
    pub fn scan<T: Step>(&self, mut each: impl FnMut(&AnyRowView<'_>) -> T) -> Result<()> {
        let Some(predicate) = self.predicate()? else { return Ok(()) };
        step::until_break(|stop| {
            let mut each = |row: &RowView<'_>| stop.unless(each(&AnyRowView::new(self.columns, row)));
            self.asked.scan(&predicate, self.limit, self.order, &mut each)
        })
    }

    /// Count, sums and extremes of all events that match; order and limit play no part.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn totals(&self) -> Result<AnyTotals> {
        Ok(AnyTotals::new(self.columns, self.sums(&mut Explain::default())?))
    }

    /// What decides [`totals`](Self::totals): asks for them, and says how each segment was answered. Costs as much.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn explain(&self) -> Result<Explain> {
        let mut tally = Explain::default();
        self.sums(&mut tally)?;
        Ok(tally)
    }

    /// Groups by the values of these dims, or of the status; of none, all events are one group. Order and limit of rows play no
    /// part. See [`AnyGrouped`].
    ///
    /// # Errors
    /// [`UnknownColumn`](DbError::UnknownColumn); [`Invalid`](DbError::Invalid) for a column that is neither a dim nor the status.
    pub fn group_by(self, keys: &[&str]) -> Result<AnyGrouped<'a>> {
        AnyGrouped::new(self, keys)
    }

    pub(super) fn group(&self, ask: &GroupQuery) -> Result<(Groups, Explain)> {
        let mut tally = Explain::default();
        // One that no row can match is asked all the same: the engine knows what the answer of no rows is.
        let predicate = self.predicate()?.unwrap_or_else(Predicate::none);
        let groups = self.asked.group(&predicate, ask, &mut tally)?;
        Ok((groups, tally))
    }

    fn sums(&self, tally: &mut Explain) -> Result<Sums> {
        match self.predicate()? {
            Some(predicate) => self.asked.aggregate(&predicate, tally),
            None => Ok(Sums::empty(self.columns.shape())),
        }
    }

    /// `None` when no row can match.
    pub(super) fn predicate(&self) -> Result<Option<Predicate<'_>>> {
        let predicate = match &self.filter {
            Some(filter) => Predicate::of(filter.root_for(self.columns)?)?,
            None => Some(Predicate::all()),
        };
        let Some(mut predicate) = predicate else { return Ok(None) };
        predicate.between(self.from_ts_ns, self.to_ts_ns);
        predicate.status_min = predicate.status_min.max(self.status_min);
        predicate.status_max = predicate.status_max.min(self.status_max);
        predicate.dims.extend(self.dims.iter().map(|(dim, value)| (*dim, value.as_str())));
        predicate.by_scan = self.by_scan;
        Ok((!self.is_empty && predicate.is_possible()).then_some(predicate))
    }
}

/// The newest live row of an id.
pub(super) fn get(asked: Asked<'_>, columns: &Arc<Columns>, id: &str) -> Result<Option<AnyRow>> {
    let mut found = None;
    asked.newest_of_id(id, &mut |row| {
        found = Some(AnyRowView::new(columns, row).to_row(columns)?);
        Ok(())
    })?;
    Ok(found)
}

/// Rollups by dims and the values that they must have.
pub(super) fn rollups(
    asked: Asked<'_>,
    columns: &Arc<Columns>,
    from_day: i64,
    to_day: i64,
    by: &[(&str, Option<&str>)],
) -> Result<Vec<AnyRollup>> {
    let mut dims = Vec::with_capacity(by.len());
    for (name, _) in by {
        let dim = columns.dim(name)?;
        if dims.contains(&dim) {
            return Err(DbError::invalid(*name, "the dim stands twice among those to roll up by"));
        }
        dims.push(dim);
    }
    let wanted: Vec<Option<&str>> = by.iter().map(|(_, value)| *value).collect();
    let rows = asked.rollups_by(from_day, to_day, &dims, &wanted)?;
    Ok(rows.into_iter().map(|row| AnyRollup::new(columns, row)).collect())
}
