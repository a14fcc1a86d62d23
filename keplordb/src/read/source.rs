//! What questions are put to: a table's columns and its present version. An engine has one and writes it, a reader of
//! another process has one and follows; queries know only this.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};

use super::ReadContext;
use super::aggregate::aggregate;
use super::batch::ColumnBatch;
use super::column_set::ColumnSet;
use super::explain::Tally;
use super::gather::{Gather, gather};
use super::group::{GroupQuery, Groups, group};
use super::moment::Moment;
use super::pages::PageQuery;
use super::point::newest_of_id;
use super::recent::{Stretch, recent};
use super::rollup::{RollupRow, rollups};
use super::row::RowView;
use super::select::Order;
use crate::error::{DbError, Result};
use crate::filter::Predicate;
use crate::kernels::Kernels;
use crate::page::PageCursor;
use crate::schema::TableSchema;
use crate::state::sequences::Sequences;
use crate::state::version::{Version, View};
use crate::sums::Sums;

/// How long a view that is to be settled waits for appends that are under way. They take microseconds; a disk that takes
/// longer than this keeps nobody from reading.
const UNSETTLED_WAIT: Duration = Duration::from_millis(100);

/// A table that can be asked, whatever its columns.
#[derive(Debug)]
pub(crate) struct Source {
    schema: TableSchema,
    rollup_dims: Vec<usize>,
    context: ReadContext,
    version: ArcSwap<Version>,
    sequences: Sequences,
}

impl Source {
    /// An empty table. `rollup_dims` are among the schema's; large scans run on `pool`, or on rayon's global one.
    pub(crate) fn new(
        schema: TableSchema,
        rollup_dims: Vec<usize>,
        pool: Option<Arc<rayon::ThreadPool>>,
        sequences: Sequences,
    ) -> Self {
        let context = ReadContext {
            kernels: Kernels::best(),
            pool,
            shape: schema.shape(),
            remaps: Arc::default(),
            columns: ColumnSet::ALL,
        };
        Self { schema, rollup_dims, context, version: ArcSwap::default(), sequences }
    }

    pub(crate) fn schema(&self) -> &TableSchema {
        &self.schema
    }

    pub(crate) fn context(&self) -> &ReadContext {
        &self.context
    }

    /// The present version, for a look.
    pub(crate) fn version(&self) -> Guard<Arc<Version>> {
        self.version.load()
    }

    /// Shows another version. Whoever changes the table does it under one lock, or changes are lost.
    pub(crate) fn show(&self, version: Version) {
        self.version.store(Arc::new(version.counted()));
    }

    /// The numbers of its rows.
    pub(crate) fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// What a query reads from now on, however the table changes. Rows of appends that are still under way may be in it.
    pub(crate) fn view(&self) -> View {
        View::new(self.version.load_full(), u64::MAX)
    }

    /// A view that knows which of its rows are settled. All that was acknowledged before the call is, unless a write takes
    /// very long: it waits for appends that were under way when it was called.
    pub(crate) fn settled_view(&self) -> View {
        let next = self.sequences.next();
        let deadline = Instant::now().checked_add(UNSETTLED_WAIT);
        self.sequences.wait_until(deadline, || self.sequences.settled() >= next);
        self.view_now()
    }

    /// As [`settled_view`](Self::settled_view), without waiting for anybody.
    pub(crate) fn view_now(&self) -> View {
        let settled = self.sequences.settled();
        View::new(self.version.load_full(), settled)
    }

    /// The table as it is now, to be asked later: what was acknowledged before the call is in it, what begins after it is not.
    ///
    /// Cost: what a view costs, and a look at each segment's facts; nothing is read.
    pub(crate) fn moment(&self) -> Moment {
        loop {
            // Before the view, as in `scan`.
            let below = self.sequences.next();
            if let Some(view) = self.view().only_below(below) {
                let (schema, context) = (self.schema.clone(), self.context.clone());
                return Moment { schema, context, view, below };
            }
            // A segment with rows that came after the look at the numbers was shown before the one at the version, or whoever
            // shows it has yet to say up to which number: both are over in no time.
            std::thread::yield_now();
        }
    }

    pub(crate) fn aggregate(&self, predicate: &Predicate<'_>, tally: &mut Tally) -> Result<Sums> {
        aggregate(&self.view(), predicate, &self.context, tally)
    }

    pub(crate) fn recent(
        &self,
        predicate: &Predicate<'_>,
        limit: usize,
        order: Order,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<()> {
        recent(&self.view(), predicate, Stretch::first(limit, order), &self.context, each)
    }

    /// As [`recent`](Self::recent), of one moment: of two appends of which one began when the other had returned, the later
    /// one is never there without the earlier.
    pub(crate) fn scan(
        &self,
        predicate: &Predicate<'_>,
        limit: usize,
        order: Order,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<()> {
        let (view, below) = self.view_of_one_moment();
        let stretch = Stretch { below, ..Stretch::first(limit, order) };
        recent(&view, predicate, stretch, &self.context, each)
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
        let (view, below) = self.view_of_one_moment();
        let stretch = Stretch { below, ..Stretch::first(limit, order) };
        gather(&view, predicate, stretch, what, &self.context, each)
    }

    /// A view, and the number below which those of its rows are that are of one moment.
    fn view_of_one_moment(&self) -> (View, u64) {
        // Before the view, which takes one memtable after the other: what begins meanwhile is left out, or a later append
        // could be in one that is taken late and an earlier one not in one that was taken early.
        let below = self.sequences.next();
        (self.view(), below)
    }

    /// One page of matching rows and the cursor of the next one, if there are more. Without a predicate no row matches.
    pub(crate) fn page(
        &self,
        predicate: Option<&Predicate<'_>>,
        limit: usize,
        order: Order,
        cursor: Option<PageCursor>,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<Option<PageCursor>> {
        let page = PageQuery { limit, order, cursor, table: self.schema.id() };
        page.check(self.sequences.next())?;
        let Some(predicate) = predicate else { return Ok(None) };
        // What was settled stays so: only the first page has to know what is.
        let view = if cursor.is_some() { self.view() } else { self.settled_view() };
        // No row lies between the two; a reader of the table knows of no higher number than those of rows.
        let first_below = if cursor.is_some() { 0 } else { view.settled().min(view.numbers_below()) };
        page.of(&view, first_below, predicate, &self.context, each)
    }

    pub(crate) fn group(
        &self,
        predicate: &Predicate<'_>,
        query: &GroupQuery,
        tally: &mut Tally,
    ) -> Result<Groups> {
        group(&self.view(), predicate, query, &self.context, tally)
    }

    /// As [`recent`](Self::recent), of rows of which only `columns` are read, besides ids and labels.
    pub(crate) fn recent_of(
        &self,
        columns: ColumnSet,
        predicate: &Predicate<'_>,
        limit: usize,
        order: Order,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<()> {
        let context = ReadContext { columns, ..self.context.clone() };
        recent(&self.view(), predicate, Stretch::first(limit, order), &context, each)
    }

    /// Calls `each` with the newest live row of an id; `false` when there is none.
    pub(crate) fn newest_of_id(
        &self,
        id: &str,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<bool> {
        newest_of_id(&self.view(), id, &self.context, each)
    }

    pub(crate) fn rollups(
        &self,
        from_day: i64,
        to_day: i64,
        wanted: &[Option<&str>],
    ) -> Result<Vec<RollupRow>> {
        let slots = self.rollup_dims.len();
        if wanted.len() > slots {
            let why = format!("{} values for {slots} rollup dims", wanted.len());
            return Err(DbError::invalid("dims", why));
        }
        rollups(&self.view(), from_day, to_day, &self.rollup_dims, wanted, &self.context)
    }
}
