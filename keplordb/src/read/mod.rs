//! Questions to a view: totals, rows in order, rows of an id, day rollups. Never changes anything; knows nothing of the
//! engine above it.
//!
//! What is decided in which order, and where:
//! 1. `plan`: the segment's own facts (header): no row can match, or every row does; then its dictionaries, bloom
//!    filter and sorted times resolve the predicate to a `select::Selection`: a range of rows and the codes they must
//!    have. Every skip is a proof; doubt never skips.
//! 2. `aggregate`: sums that the segment already has, in the order of their cost: totals, running sums, value sums;
//!    then the rows of the rarest value; then chunks, by masks.
//! 3. `recent` merges the ends of the segments, opened only when their time has come, and gives rows or, through `gather`,
//!    columns of many; `point` asks the hash indexes; `rollup` adds up what segments carry per day.
//!
//! Deleted rows are taken out everywhere: masked where rows are looked at, subtracted where sums answer.

use std::fmt;
use std::sync::Arc;

use self::column_set::ColumnSet;
use self::remap::Remaps;
use crate::kernels::Kernels;
use crate::schema::Shape;

pub(crate) mod aggregate;
pub(crate) mod batch;
pub(crate) mod codes;
mod column;
pub(crate) mod column_set;
pub(crate) mod condition;
pub(crate) mod distinct;
pub(crate) mod event_row;
pub(crate) mod explain;
pub(crate) mod gather;
pub(crate) mod group;
pub(crate) mod moment;
mod pages;
pub(crate) mod plan;
pub(crate) mod point;
pub mod query;
pub(crate) mod recent;
pub(crate) mod remap;
pub(crate) mod rollup;
pub(crate) mod row;
pub(crate) mod select;
pub(crate) mod sketch;
pub(crate) mod source;
pub(crate) mod tail;
#[cfg(test)]
mod tests;
mod text_rows;
pub(crate) mod trace;

/// What every query is given beside its view.
#[derive(Clone)]
pub(crate) struct ReadContext {
    /// Chosen once per engine.
    pub(crate) kernels: &'static Kernels,
    /// Where large scans run; rayon's global pool without one.
    pub(crate) pool: Option<Arc<rayon::ThreadPool>>,
    /// The columns of the table as it is now; segments and blocks may have fewer.
    pub(crate) shape: Shape,
    /// Shared by all queries of the table.
    pub(crate) remaps: Arc<Remaps>,
    /// What is read of the rows that are handed out.
    pub(crate) columns: ColumnSet,
}

impl fmt::Debug for ReadContext {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernels, pool, shape, remaps: _, columns: _ } = self;
        let mut fields = out.debug_struct("ReadContext");
        fields
            .field("kernels", &kernels.name)
            .field("pool", &pool.is_some())
            .field("shape", shape)
            .finish_non_exhaustive()
    }
}
