//! A table at one moment, and what a question can be put to: such a moment, or the table as it is when it is asked.

use std::fmt;

use super::ReadContext;
use super::aggregate::aggregate;
use super::batch::ColumnBatch;
use super::explain::Tally;
use super::gather::{Gather, gather, gather_part, parts};
use super::group::{GroupQuery, Groups, group};
use super::pages::PageQuery;
use super::point::newest_of_id;
use super::recent::{Stretch, recent};
use super::rollup::{RollupRow, rollups};
use super::row::RowView;
use super::select::Order;
use super::source::Source;
use crate::error::Result;
use crate::filter::Predicate;
use crate::page::PageCursor;
use crate::schema::TableSchema;
use crate::state::version::View;
use crate::sums::Sums;

/// A table as it was at one moment. However the table changes, a question to it has the same answer.
///
/// Of two appends of which one began when the other had returned, the later one is never in it without the earlier.
pub(crate) struct Moment {
    pub(super) schema: TableSchema,
    pub(super) context: ReadContext,
    /// Without rows of later numbers than [`below`](Self::below).
    pub(super) view: View,
    pub(super) below: u64,
}

/// Never an event's contents.
impl fmt::Debug for Moment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = out.debug_struct("Moment");
        fields.field("below", &self.below).field("segments", &self.view.segments().len());
        fields.field("memtables", &self.view.memtables().len()).finish_non_exhaustive()
    }
}

impl Moment {
    pub(crate) fn schema(&self) -> &TableSchema {
        &self.schema
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The number below which those of all rows are.
    pub(crate) fn below(&self) -> u64 {
        self.below
    }

    /// How many parts it has: what [`gather_part`](Self::gather_part) reads side by side.
    pub(crate) fn parts(&self) -> usize {
        parts(&self.view)
    }

    /// Columns of the rows of one part, in the order in which they lie there; at most `limit` rows.
    pub(crate) fn gather_part(
        &self,
        part: usize,
        predicate: &Predicate<'_>,
        limit: usize,
        what: Gather<'_>,
        each: &mut dyn FnMut(ColumnBatch) -> Result<()>,
    ) -> Result<()> {
        gather_part(&self.view, part, predicate, limit, what, &self.context, each)
    }
}

/// What a question is put to.
#[derive(Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// The table as it is when it is asked, anew for each question.
    Present(&'a Source),
    Moment(&'a Moment),
}

// By hand: a query that is shown shows no table.
impl fmt::Debug for Asked<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present(_) => out.write_str("Present"),
            Self::Moment(moment) => {
                out.debug_struct("Moment").field("below", &moment.below).finish_non_exhaustive()
            }
        }
    }
}

impl Asked<'_> {
    /// Looks at what is there.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&View, &ReadContext) -> T) -> T {
        match self {
            Self::Present(source) => look(&source.view(), source.context()),
            Self::Moment(moment) => look(&moment.view, &moment.context),
        }
    }

    pub(crate) fn aggregate(&self, predicate: &Predicate<'_>, tally: &mut Tally) -> Result<Sums> {
        self.look(|view, context| aggregate(view, predicate, context, tally))
    }

    pub(crate) fn group(
        &self,
        predicate: &Predicate<'_>,
        query: &GroupQuery,
        tally: &mut Tally,
    ) -> Result<Groups> {
        self.look(|view, context| group(view, predicate, query, context, tally))
    }

    pub(crate) fn recent(
        &self,
        predicate: &Predicate<'_>,
        limit: usize,
        order: Order,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<()> {
        self.look(|view, context| recent(view, predicate, Stretch::first(limit, order), context, each))
    }

    /// As [`recent`](Self::recent), of one moment.
    pub(crate) fn scan(
        &self,
        predicate: &Predicate<'_>,
        limit: usize,
        order: Order,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Present(source) => source.scan(predicate, limit, order, each),
            Self::Moment(_) => self.recent(predicate, limit, order, each),
        }
    }

    /// As [`scan`](Self::scan), by columns.
    pub(crate) fn gather(
        &self,
        predicate: &Predicate<'_>,
        limit: usize,
        order: Order,
        what: Gather<'_>,
        each: &mut dyn FnMut(ColumnBatch) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Present(source) => source.gather(predicate, limit, order, what, each),
            Self::Moment(Moment { view, context, .. }) => {
                gather(view, predicate, Stretch::first(limit, order), what, context, each)
            }
        }
    }

    /// As [`Source::page`].
    pub(crate) fn page(
        &self,
        predicate: Option<&Predicate<'_>>,
        limit: usize,
        order: Order,
        cursor: Option<PageCursor>,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<Option<PageCursor>> {
        let moment = match self {
            Self::Present(source) => return source.page(predicate, limit, order, cursor, each),
            Self::Moment(moment) => moment,
        };
        let page = PageQuery { limit, order, cursor, table: moment.schema.id() };
        page.check(moment.below)?;
        let Some(predicate) = predicate else { return Ok(None) };
        page.of(&moment.view, moment.below, predicate, &moment.context, each)
    }

    /// As [`Source::newest_of_id`].
    pub(crate) fn newest_of_id(
        &self,
        id: &str,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<bool> {
        self.look(|view, context| newest_of_id(view, id, context, each))
    }

    /// Rollups by any dims of the table; quickest by those that segments carry.
    pub(crate) fn rollups_by(
        &self,
        from_day: i64,
        to_day: i64,
        dims: &[usize],
        wanted: &[Option<&str>],
    ) -> Result<Vec<RollupRow>> {
        self.look(|view, context| rollups(view, from_day, to_day, dims, wanted, context))
    }
}
