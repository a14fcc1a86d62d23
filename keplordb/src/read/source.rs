//! What questions are put to: a table's columns and its present version. An engine has one and writes it, a reader of
//! another process has one and follows; queries know only this.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::ReadContext;
use super::aggregate::aggregate;
use super::column_set::ColumnSet;
use super::explain::Tally;
use super::group::{GroupQuery, Groups, group};
use super::point::newest_of_id;
use super::recent::recent;
use super::rollup::{RollupRow, rollups};
use super::row::RowView;
use super::select::Order;
use crate::error::{DbError, Result};
use crate::filter::Predicate;
use crate::kernels::Kernels;
use crate::schema::TableSchema;
use crate::state::version::{Version, View};
use crate::sums::Sums;

/// A table that can be asked, whatever its columns.
#[derive(Debug)]
pub(crate) struct Source {
    schema: TableSchema,
    rollup_dims: Vec<usize>,
    context: ReadContext,
    version: ArcSwap<Version>,
}

impl Source {
    /// An empty table. `rollup_dims` are among the schema's; large scans run on `pool`, or on rayon's global one.
    pub(crate) fn new(
        schema: TableSchema,
        rollup_dims: Vec<usize>,
        pool: Option<Arc<rayon::ThreadPool>>,
    ) -> Self {
        let context = ReadContext {
            kernels: Kernels::best(),
            pool,
            shape: schema.shape(),
            remaps: Arc::default(),
            columns: ColumnSet::ALL,
        };
        Self { schema, rollup_dims, context, version: ArcSwap::default() }
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

    /// What a query reads from now on, however the table changes.
    pub(crate) fn view(&self) -> View {
        View::new(self.version.load_full())
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
        recent(&self.view(), predicate, limit, order, &self.context, each)
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
        recent(&self.view(), predicate, limit, order, &context, each)
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
        self.rollups_by(from_day, to_day, &self.rollup_dims, wanted)
    }

    /// Rollups by any dims of the table; quickest by those that segments carry.
    pub(crate) fn rollups_by(
        &self,
        from_day: i64,
        to_day: i64,
        dims: &[usize],
        wanted: &[Option<&str>],
    ) -> Result<Vec<RollupRow>> {
        rollups(&self.view(), from_day, to_day, dims, wanted, &self.context)
    }
}
