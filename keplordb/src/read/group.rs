//! Count, sums, extremes, quantiles and distinct values of the rows of a predicate, by keys and spans of time.
//!
//! A query is made ready once: the ids of its keys ([`remap`](super::remap)), what each group has to be given
//! ([`accumulate`]). Then each segment answers by the cheapest means that is exact ([`segments`]), or waits to be scanned,
//! by several threads when there is much to scan. What comes of it is put in order at the end ([`finish`]).

mod accumulate;
mod buckets;
mod finish;
mod segments;
mod table;

use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;

use self::accumulate::{Accumulator, BlockSource, Needs, Rows, Scratch};
use self::segments::{ScanTask, scan};
use self::table::Packing;
use super::ReadContext;
use super::explain::Tally;
use super::plan::{self, Outlook};
use super::remap::{ColumnIds, IdTable, Ids};
use super::select::{self, BlockSelection};
use super::sketch::Budget;
use crate::error::{DbError, Result};
use crate::expr::{KeyColumn, NumberColumn};
use crate::filter::Predicate;
use crate::format::keys::status_of;
use crate::state::version::View;

pub(crate) use self::buckets::Buckets;

/// Rows to scan from which a query fans out: far above the 80 µs that waking a thread can take. An estimate, not measured.
const FAN_OUT_ROWS: usize = 256 << 10;
/// Rows of memory that are looked at together.
const BATCH_ROWS: usize = 256;

/// What is asked of each group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregate {
    Count,
    Sum(NumberColumn),
    Min(NumberColumn),
    Max(NumberColumn),
    Mean(NumberColumn),
    /// The smallest value whose rank is at least ⌈q · n⌉ among n rows.
    Quantile(NumberColumn, f64),
    Distinct(KeyColumn),
}

/// In which order groups come; ties, and what has no value, by key and bucket, ascending, the latter after all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupOrder {
    /// By the bytes of the keys' texts, then by bucket.
    ByKey,
    /// The largest of this aggregate first.
    Top(usize),
    /// The smallest of this aggregate first.
    Bottom(usize),
}

/// A question for groups. Without keys and buckets there is one group, also when no row matches.
#[derive(Debug, Clone)]
pub(crate) struct GroupQuery {
    pub(crate) keys: Vec<KeyColumn>,
    pub(crate) buckets: Option<Buckets>,
    pub(crate) aggregates: Vec<Aggregate>,
    pub(crate) order: GroupOrder,
    pub(crate) limit: usize,
    /// Groups that are left out before the first one returned.
    pub(crate) offset: usize,
    /// `None` grants everything.
    pub(crate) grant: Option<Grant>,
}

/// Whoever grants a query to go on: asked by each of its threads, before it looks at more rows, with the bytes that it has come to
/// hold since it asked last, 0 most of the time.
#[derive(Clone)]
pub(crate) struct Grant(Arc<dyn Fn(usize) -> bool + Send + Sync>);

impl Grant {
    pub(crate) fn new(grants: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(grants))
    }

    fn ask(&self, bytes: usize) -> Result<()> {
        if (self.0)(bytes) { Ok(()) } else { Err(DbError::GivenUp) }
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Grant").finish_non_exhaustive()
    }
}

/// One aggregate of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum GroupValue {
    /// How many rows, or distinct values.
    Count(u64),
    /// The sum, exact.
    Sum(i128),
    /// The smallest or the largest number; `None` of no rows.
    Number(Option<i64>),
    /// The mean, divided once from an exact sum; `None` of no rows.
    Mean(Option<f64>),
    /// The quantile.
    Quantile {
        /// `None` of no rows; if it is not exact, within 1 % of the true one.
        value: Option<i64>,
        /// Whether it is the true one.
        is_exact: bool,
    },
}

/// The answer: groups in the order asked for.
#[derive(Debug)]
pub struct Groups {
    keys: Vec<Arc<Ids>>,
    /// Per group its keys' ids.
    ids: Vec<u32>,
    /// Per group where its bucket begins; empty without buckets.
    buckets: Vec<i64>,
    aggregates: usize,
    /// Per group its aggregates.
    values: Vec<GroupValue>,
    len: usize,
}

impl Groups {
    /// What they take; the texts of their keys are the table's.
    pub(crate) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<GroupValue>()
            + self.ids.capacity() * size_of::<u32>()
            + self.buckets.capacity() * size_of::<i64>()
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The text of a group's key; of a status, its five digits.
    pub(crate) fn key(&self, group: usize, slot: usize) -> &str {
        let id = self.ids[group * self.keys.len() + slot];
        self.keys[slot].name(id)
    }

    /// A group's key that is a status.
    pub(crate) fn status(&self, group: usize, slot: usize) -> u16 {
        status_of(self.key(group, slot))
    }

    /// Where a group's bucket begins, in nanoseconds, or the earliest time of all if it begins before; 0 without buckets.
    pub(crate) fn bucket(&self, group: usize) -> i64 {
        self.buckets.get(group).copied().unwrap_or(0)
    }

    /// The aggregates of a group, in the order of the query.
    pub(crate) fn values(&self, group: usize) -> &[GroupValue] {
        let first = group * self.aggregates;
        &self.values[first..first + self.aggregates]
    }

    /// An aggregate of a group, by its place in the query.
    pub(crate) fn value(&self, group: usize, aggregate: usize) -> &GroupValue {
        &self.values[group * self.aggregates + aggregate]
    }
}

/// Answers a question about the rows of a view that match.
///
/// # Errors
/// What reading a segment fails with; `Invalid` for empty buckets that are too many to be listed; `GivenUp`.
pub(crate) fn group(
    view: &View,
    predicate: &Predicate<'_>,
    query: &GroupQuery,
    context: &ReadContext,
    tally: &mut Tally,
) -> Result<Groups> {
    group_by(
        Ways { fan_out_rows: FAN_OUT_ROWS, fans_out: false, only_scans: predicate.by_scan },
        view,
        predicate,
        query,
        context,
        tally,
    )
}

/// Which means a query may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ways {
    /// Rows to scan from which it fans out.
    pub(crate) fan_out_rows: usize,
    /// Whether the view has so many: else what is to be scanned is scanned at once.
    pub(crate) fans_out: bool,
    /// Every row that may match is looked at: the slow twin of all other means.
    pub(crate) only_scans: bool,
}

pub(crate) fn group_by(
    ways: Ways,
    view: &View,
    predicate: &Predicate<'_>,
    query: &GroupQuery,
    context: &ReadContext,
    tally: &mut Tally,
) -> Result<Groups> {
    let needs = Needs::new(query, view);
    let ready = Ready::new(view, predicate, query, &needs, context)?;
    let mut groups = Accumulator::new(&ready);
    let mut scratch = Scratch::default();
    for block in &ready.blocks {
        add_block(block, &ready, &mut groups, &mut scratch, tally)?;
    }
    let rows: usize = view.segments().iter().map(|entry| entry.segment.header().rows as usize).sum();
    let ways = Ways { fans_out: rows >= ways.fan_out_rows, ..ways };
    let mut scans = Vec::new();
    for place in 0..view.segments().len() {
        tally.segments += 1;
        let waiting = segments::add(place, ways, &ready, &mut groups, &mut scratch, tally)?;
        scans.extend(waiting.map(|chunks| ScanTask { place, chunks }));
        groups.ask_to_go_on()?;
    }
    run(scans, ways, &ready, &mut groups, &mut scratch, tally)?;
    finish::finish(groups, query)
}

/// A query made ready.
struct Ready<'q> {
    view: &'q View,
    predicate: &'q Predicate<'q>,
    context: &'q ReadContext,
    needs: &'q Needs,
    buckets: Option<Buckets>,
    grant: Option<&'q Grant>,
    /// The key columns, then those whose distinct values are counted.
    columns: Vec<ColumnIds>,
    packing: Packing,
    /// Of the columns whose distinct values are counted, above all ids: read once, since other queries give out more.
    counted_ids: Vec<u32>,
    /// Per needed quantile, the bounds of its column.
    bounds: Vec<Option<(i64, i64)>>,
    /// Per needed quantile, what its exact values may take.
    budgets: Vec<Budget>,
    blocks: Vec<ReadyBlock<'q>>,
}

/// A block, and per column the ids of its rows.
struct ReadyBlock<'q> {
    selection: BlockSelection<'q>,
    ids: Vec<IdTable>,
}

impl<'q> Ready<'q> {
    /// After this, no text of the view's segments and blocks is without an id.
    fn new(
        view: &'q View,
        predicate: &'q Predicate<'q>,
        query: &'q GroupQuery,
        needs: &'q Needs,
        context: &'q ReadContext,
    ) -> Result<Self> {
        let columns = needs.keys.iter().map(|key| context.remaps.column(*key, view));
        let columns: Vec<ColumnIds> = columns.collect();
        let mut bounds = vec![None; needs.quantiles.len()];
        for (place, entry) in view.segments().iter().enumerate() {
            if plan::by_facts(entry.segment.header(), predicate) == Outlook::Skip {
                continue;
            }
            for (bounds, column) in bounds.iter_mut().zip(&needs.quantiles) {
                *bounds =
                    widest(*bounds, Some(accumulate::bounds_of(&entry.segment.header().facts, *column)));
            }
            if columns.iter().all(|column| column.known(place).is_some()) {
                continue;
            }
            if let Some(grant) = &query.grant {
                grant.ask(0)?;
            }
            let open = entry.segment.read()?;
            for (key, column) in needs.keys.iter().zip(&columns) {
                let keys = segments::keys_of(&open, *key)?;
                column.make(place, entry, keys.as_ref());
            }
        }
        let mut blocks = Vec::new();
        for selection in select::blocks(view.memtables(), predicate) {
            for (bounds, column) in bounds.iter_mut().zip(&needs.quantiles) {
                *bounds = widest(*bounds, accumulate::bounds_of_block(selection.block, *column));
            }
            let ids = columns.iter().map(|column| column.ids.of_block(selection.block)).collect();
            blocks.push(ReadyBlock { selection, ids });
        }
        let keys = columns.iter().take(query.keys.len());
        let packing = Packing::new(keys.map(|column| column.ids.len()), query.buckets.is_some());
        let budgets = bounds.iter().map(|_| Budget::default()).collect();
        let counted_ids = columns.iter().skip(query.keys.len()).map(|column| column.ids.len()).collect();
        Ok(Self {
            view,
            predicate,
            context,
            counted_ids,
            needs,
            buckets: query.buckets,
            grant: query.grant.as_ref(),
            columns,
            packing,
            bounds,
            budgets,
            blocks,
        })
    }

    /// The key columns, without those that are only counted.
    fn keys(&self) -> &[ColumnIds] {
        &self.columns[..self.packing.keys()]
    }

    /// Whether there is one group only.
    fn has_one_group(&self) -> bool {
        self.packing.keys() == 0 && self.buckets.is_none()
    }
}

fn widest(one: Option<(i64, i64)>, other: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}

fn add_block<'q>(
    block: &ReadyBlock<'q>,
    ready: &'q Ready<'q>,
    groups: &mut Accumulator<'q>,
    scratch: &mut Scratch,
    tally: &mut Tally,
) -> Result<()> {
    let ReadyBlock { selection, ids } = block;
    tally.blocks += 1;
    tally.block_rows += selection.block.rows() as u64;
    if selection.is_everything() && ready.has_one_group() && ready.needs.is_summed() {
        groups.add_summary(selection.block.summary());
        return groups.ask_to_go_on();
    }
    let source = BlockSource { block: selection.block, numbers: &ready.needs.numbers, ids };
    let mut rows = Vec::with_capacity(BATCH_ROWS);
    for row in selection.rows().filter_map(|row| u32::try_from(row).ok()) {
        rows.push(row);
        if rows.len() == BATCH_ROWS {
            groups.add_rows(&source, Rows::List { rows: &rows, chunk: None }, scratch);
            rows.clear();
            groups.ask_to_go_on()?;
        }
    }
    groups.add_rows(&source, Rows::List { rows: &rows, chunk: None }, scratch);
    groups.ask_to_go_on()
}

/// Scans what no other means has answered.
fn run<'q>(
    scans: Vec<ScanTask>,
    ways: Ways,
    ready: &'q Ready<'q>,
    groups: &mut Accumulator<'q>,
    scratch: &mut Scratch,
    tally: &mut Tally,
) -> Result<()> {
    let rows: usize = scans.iter().map(ScanTask::rows).sum();
    if rows < ways.fan_out_rows {
        return scans.iter().try_for_each(|task| scan(task, ready, groups, scratch, tally));
    }
    let tasks: Vec<ScanTask> = scans.into_iter().flat_map(|task| task.split(ready.predicate)).collect();
    let part = || (Accumulator::new(ready), Scratch::default(), Tally::default());
    let fan_out = || {
        let parts = tasks.par_iter().try_fold(part, |(mut groups, mut scratch, mut tally), task| {
            scan(task, ready, &mut groups, &mut scratch, &mut tally).map(|()| (groups, scratch, tally))
        });
        parts.try_reduce(part, |(mut groups, scratch, mut tally), (others, _, theirs)| {
            groups.merge(&others);
            tally.merge(&theirs);
            groups.ask_to_go_on().map(|()| (groups, scratch, tally))
        })
    };
    let (others, _, theirs) = match &ready.context.pool {
        Some(pool) => pool.install(fan_out),
        None => fan_out(),
    }?;
    groups.merge(&others);
    tally.merge(&theirs);
    groups.ask_to_go_on()
}
