//! Rows in the order of (time, sequence), from either end, merged over segments and blocks.
//!
//! A segment waits in a heap under the best key that any of its rows could have, and is opened when that is on top: one
//! that lies beyond the last row returned is never touched. Only rows that are returned are looked at in full.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::ReadContext;
use super::plan::{self, Outlook};
use super::row::{RowView, SegmentRows};
use super::select::{self, Order, Walk};
use crate::error::Result;
use crate::filter::Predicate;
use crate::format::block::Block;
use crate::format::numbers::Numbers;
use crate::state::version::{SegmentEntry, View};
use crate::storage::segment_reader::OpenSegment;

/// Gives up to `limit` matching rows of a view to `each`, in the order asked for; an error of `each` ends it.
pub(crate) fn recent(
    view: &View,
    predicate: &Predicate<'_>,
    limit: usize,
    order: Order,
    context: &ReadContext,
    each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
) -> Result<()> {
    if limit == 0 {
        return Ok(());
    }
    let mut in_memory = rows_in_memory(view, predicate, limit, order).into_iter();
    let mut heads = BinaryHeap::with_capacity(view.segments().len() + 1);
    for (number, entry) in view.segments().iter().enumerate() {
        let facts = &entry.segment.header().facts;
        if plan::by_facts(entry.segment.header(), predicate) != Outlook::Skip {
            let rank = match order {
                Order::NewestFirst => Rank::of(order, facts.ts_max.min(predicate.to_ts_ns), u64::MAX),
                Order::OldestFirst => Rank::of(order, facts.ts_min.max(predicate.from_ts_ns), 0),
            };
            heads.push(Head { rank, next: Next::Segment(number) });
        }
    }
    if let Some((rank, row)) = in_memory.next() {
        heads.push(Head { rank, next: Next::Memory(row) });
    }

    let opened: Vec<OnceCell<OpenSegment<'_>>> = view.segments().iter().map(|_| OnceCell::new()).collect();
    let mut walks: Vec<Option<Box<SegmentWalk<'_>>>> = view.segments().iter().map(|_| None).collect();
    let mut left = limit;
    while let Some(mut head) = heads.peek_mut() {
        let next = match head.next {
            Next::Segment(number) => {
                let entry = &view.segments()[number];
                let read = entry.segment.read()?;
                let open = opened[number].get_or_init(|| read);
                walks[number] = SegmentWalk::begin(entry, open, predicate, order)?.map(Box::new);
                walks[number].as_mut().and_then(|walk| walk.next(number, context))
            }
            Next::Row(number, row) => {
                let walk = walks[number].as_mut().expect("a row comes from a walk that has begun");
                each(&RowView::of_segment(walk.rows(context)?, row as usize))?;
                left -= 1;
                walk.next(number, context)
            }
            Next::Memory((block, row)) => {
                each(&RowView::of_block(block, row))?;
                left -= 1;
                in_memory.next().map(|(rank, row)| Head { rank, next: Next::Memory(row) })
            }
        };
        if left == 0 {
            break;
        }
        match next {
            Some(next) => *head = next,
            None => {
                PeekMut::pop(head);
            }
        }
    }
    Ok(())
}

/// A place in the order asked for: what comes first is largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(i64, u64);

impl Rank {
    fn of(order: Order, ts: i64, sequence: u64) -> Self {
        match order {
            Order::NewestFirst => Self(ts, sequence),
            // The complement reverses the order of either type.
            Order::OldestFirst => Self(!ts, !sequence),
        }
    }
}

/// A row in memory.
type BlockRow<'v> = (&'v Block, usize);

/// What a source offers next.
#[derive(Debug, Clone, Copy)]
struct Head<'v> {
    rank: Rank,
    next: Next<'v>,
}

#[derive(Debug, Clone, Copy)]
enum Next<'v> {
    /// A segment that is not opened yet; no row of it comes before the rank.
    Segment(usize),
    /// A row of an opened segment.
    Row(usize, u32),
    Memory(BlockRow<'v>),
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Head<'_> {}

/// The selected rows of an opened segment, from the end that comes first.
struct SegmentWalk<'s> {
    open: &'s OpenSegment<'s>,
    walk: Walk<'s>,
    order: Order,
    time: Numbers<'s>,
    sequence: Numbers<'s>,
    /// Opened when the first row is returned.
    rows: OnceCell<SegmentRows<'s>>,
}

impl<'s> SegmentWalk<'s> {
    /// `None` when no row matches after all.
    fn begin(
        entry: &'s SegmentEntry,
        open: &'s OpenSegment<'s>,
        predicate: &Predicate<'_>,
        order: Order,
    ) -> Result<Option<Self>> {
        let Some(selection) = plan::select(entry, open, predicate)? else { return Ok(None) };
        let (time, sequence) = (open.time()?, open.sequence()?);
        let walk = Walk::new(selection, order);
        Ok(Some(Self { open, walk, order, time, sequence, rows: OnceCell::new() }))
    }

    fn next(&mut self, segment: usize, context: &ReadContext) -> Option<Head<'static>> {
        let row = self.walk.next(context.kernels)?;
        let (ts, sequence) = (self.time.get(row as usize), self.sequence.get(row as usize) as u64);
        Some(Head { rank: Rank::of(self.order, ts, sequence), next: Next::Row(segment, row) })
    }

    fn rows(&self, context: &ReadContext) -> Result<&SegmentRows<'s>> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows);
        }
        let rows = SegmentRows::open(self.open, context)?;
        Ok(self.rows.get_or_init(|| rows))
    }
}

/// The first `limit` matching rows of the blocks, in order. Blocks are not sorted: all their matching rows are ranked,
/// but no more than twice the limit are held, and blocks that come too late are passed over.
fn rows_in_memory<'v>(
    view: &'v View,
    predicate: &'v Predicate<'_>,
    limit: usize,
    order: Order,
) -> Vec<(Rank, BlockRow<'v>)> {
    let mut best: Vec<(Rank, BlockRow<'v>)> = Vec::new();
    // No row below this rank is among the first; known once there are `limit` others.
    let mut least = None;
    for selection in select::blocks(view.memtables(), predicate) {
        let block = selection.block;
        let first = match order {
            Order::NewestFirst => Rank::of(order, block.summary().ts_max, u64::MAX),
            Order::OldestFirst => Rank::of(order, block.summary().ts_min, 0),
        };
        if least.is_some_and(|least| first < least) {
            continue;
        }
        for row in selection.rows() {
            let rank = Rank::of(order, block.ts()[row], block.sequence()[row]);
            if least.is_some_and(|least| rank < least) {
                continue;
            }
            best.push((rank, (block, row)));
            if best.len() >= limit.saturating_mul(2) {
                least = keep_first(&mut best, limit);
            }
        }
    }
    best.sort_unstable_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    best.truncate(limit);
    best
}

/// Keeps the `limit` first of more rows; the rank of the last of them.
fn keep_first(best: &mut Vec<(Rank, BlockRow<'_>)>, limit: usize) -> Option<Rank> {
    let place = limit.checked_sub(1)?;
    let (_, &mut (least, _), _) =
        best.select_nth_unstable_by_key(place, |(rank, _)| std::cmp::Reverse(*rank));
    best.truncate(limit);
    Some(least)
}
