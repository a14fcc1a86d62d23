//! One page of the rows of a view, and the cursor of the next one.

use super::ReadContext;
use super::point::RowKey;
use super::recent::{Stretch, recent};
use super::row::RowView;
use super::select::Order;
use crate::error::{DbError, Result};
use crate::filter::Predicate;
use crate::page::PageCursor;
use crate::state::version::View;

/// Which page is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageQuery {
    pub(super) limit: usize,
    pub(super) order: Order,
    /// `None` for the first one.
    pub(super) cursor: Option<PageCursor>,
    /// The schema's id.
    pub(super) table: u8,
}

impl PageQuery {
    /// Refuses a page without rows, and a cursor of another table or order, or of rows with numbers of `next` and above.
    pub(super) fn check(&self, next: u64) -> Result<()> {
        if self.limit == 0 {
            return Err(DbError::invalid("the page's limit", "pages of 0 rows never come to an end"));
        }
        self.cursor.map_or(Ok(()), |cursor| cursor.check(self.newest_first(), self.table, next))
    }

    fn newest_first(&self) -> bool {
        self.order == Order::NewestFirst
    }

    /// Gives the rows of the page, and the cursor of the next one if there are more. `first_below` is the number below which
    /// rows belong to the pages; a cursor knows it.
    pub(super) fn of(
        &self,
        view: &View,
        first_below: u64,
        predicate: &Predicate<'_>,
        context: &ReadContext,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<Option<PageCursor>> {
        let Self { limit, order, cursor, table } = *self;
        let below = cursor.map_or(first_below, |cursor| cursor.below);
        let after = cursor.map(|cursor| RowKey { ts: cursor.ts, sequence: cursor.sequence });
        let (mut left, mut last, mut has_more) = (limit, None, false);
        // One row more than the page has says whether there is a next one.
        let stretch = Stretch { order, limit: limit.saturating_add(1), after, below };
        recent(view, predicate, stretch, context, &mut |row| {
            has_more = left == 0;
            if has_more {
                return Ok(());
            }
            left -= 1;
            last = Some((row.ts_ns(), row.sequence()));
            each(row)
        })?;
        let newest_first = self.newest_first();
        let cursor = |(ts, sequence)| PageCursor { newest_first, table, ts, sequence, below };
        Ok(last.filter(|_| has_more).map(cursor))
    }
}
