//! Rows in the order of (time, sequence), from either end, merged over segments and blocks.
//!
//! A segment waits in a heap under the best key that any of its rows could have, and is opened when that is on top: one
//! that lies beyond the last row returned is never touched. So does a block in memory, and is sorted then. Only rows that
//! are returned are looked at in full.
//!
//! Rows are given one by one, or by their columns: then those of a source that follow each other, with none of another
//! source in between, are given at once.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::ReadContext;
use super::column::OrderedColumn;
use super::gather::{Gatherer, SegmentColumns};
use super::plan::{self, Outlook};
use super::point::{RowKey, place_of};
use super::row::{RowView, SegmentRows};
use super::select::{self, BlockSelection, Order, Walk};
use crate::error::Result;
use crate::filter::Predicate;
use crate::format::block::Block;
use crate::state::version::{SegmentEntry, View};
use crate::storage::segment_reader::OpenSegment;

/// Segments that are read to their end before all that are open are let go and opened again as far as they are needed: few
/// enough to bound what a scan of everything holds, many enough that opening costs nothing beside reading.
const PASSED_SEGMENTS: usize = if cfg!(test) { 2 } else { 64 };

/// Rows of a segment from which it pays to make ready what the others need, too.
const MANY_ROWS: usize = 8;

/// Which of the matching rows are given, and in which order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) order: Order,
    pub(crate) limit: usize,
    /// Only rows behind this place in the order.
    pub(crate) after: Option<RowKey>,
    /// Only rows with a sequence below.
    pub(crate) below: u64,
}

impl Stretch {
    /// The first `limit` rows in an order.
    pub(crate) fn first(limit: usize, order: Order) -> Self {
        Self { order, limit, after: None, below: u64::MAX }
    }

    /// The predicate with what `after` says of the time; `None` when nothing is left.
    fn narrow<'p>(&self, predicate: &Predicate<'p>) -> Option<Predicate<'p>> {
        let mut narrow = predicate.clone();
        match (self.after, self.order) {
            (None, _) => {}
            (Some(after), Order::NewestFirst) => narrow.to_ts_ns = narrow.to_ts_ns.min(after.ts),
            (Some(after), Order::OldestFirst) => narrow.from_ts_ns = narrow.from_ts_ns.max(after.ts),
        }
        (narrow.from_ts_ns <= narrow.to_ts_ns).then_some(narrow)
    }
}

/// To whom rows are given.
pub(super) enum Taker<'t, 'g> {
    /// One by one.
    Rows(&'t mut dyn FnMut(&RowView<'_>) -> Result<()>),
    /// By their columns.
    Columns(&'t mut Gatherer<'g>),
}

/// Gives matching rows of a view to `each`, in the order asked for; an error of `each` ends it.
///
/// **Memory**, besides the view's own: the columns of the segments whose times meet the place where it is, and of at most
/// [`PASSED_SEGMENTS`] others; 4 bytes for each matching row of the blocks whose times do.
pub(crate) fn recent(
    view: &View,
    predicate: &Predicate<'_>,
    stretch: Stretch,
    context: &ReadContext,
    each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
) -> Result<()> {
    give_in_order(view, predicate, stretch, context, &mut Taker::Rows(each))
}

/// As [`recent`], for whoever takes the rows.
pub(super) fn give_in_order(
    view: &View,
    predicate: &Predicate<'_>,
    mut stretch: Stretch,
    context: &ReadContext,
    taker: &mut Taker<'_, '_>,
) -> Result<()> {
    let mut passed = vec![false; view.segments().len()];
    while stretch.limit > 0 {
        let Some(narrow) = stretch.narrow(predicate) else { break };
        let Some(rest) = merge(view, &narrow, stretch, &mut passed, context, taker)? else { break };
        stretch = rest;
    }
    Ok(())
}

/// As [`give_in_order`], until enough segments are passed: then what is left to give. What is `passed` has nothing to give any more.
fn merge(
    view: &View,
    predicate: &Predicate<'_>,
    stretch: Stretch,
    passed: &mut [bool],
    context: &ReadContext,
    taker: &mut Taker<'_, '_>,
) -> Result<Option<Stretch>> {
    let Stretch { order, mut limit, mut after, below } = stretch;
    // No row between these two times comes before this.
    let first_of = |ts_min: i64, ts_max: i64| match order {
        Order::NewestFirst => Rank::of(order, ts_max.min(predicate.to_ts_ns), u64::MAX),
        Order::OldestFirst => Rank::of(order, ts_min.max(predicate.from_ts_ns), 0),
    };
    let mut heads = BinaryHeap::with_capacity(view.segments().len() + 1);
    for (number, entry) in view.segments().iter().enumerate() {
        let header = entry.segment.header();
        let facts = &header.facts;
        let may_have_rows = !passed[number] && facts.sequence_min < below;
        if may_have_rows && plan::by_facts(header, predicate) != Outlook::Skip {
            let rank = first_of(facts.ts_min, facts.ts_max);
            heads.push(Head { rank, next: Next::Segment(number) });
        }
    }
    let blocks: Vec<BlockSelection<'_>> = select::blocks(view.memtables(), predicate).collect();
    heads.extend(blocks.iter().enumerate().map(|(number, selection)| {
        let summary = selection.block.summary();
        Head { rank: first_of(summary.ts_min, summary.ts_max), next: Next::Block(number) }
    }));

    let opened: Vec<OnceCell<OpenSegment<'_>>> = view.segments().iter().map(|_| OnceCell::new()).collect();
    let mut walks: Vec<Option<Box<SegmentWalk<'_>>>> = view.segments().iter().map(|_| None).collect();
    let mut block_walks: Vec<Option<BlockWalk<'_>>> = blocks.iter().map(|_| None).collect();
    let mut passed_now = 0;
    let mut first = heads.pop();
    while let Some(head) = first {
        let next = match head.next {
            Next::Segment(number) => {
                let entry = &view.segments()[number];
                let read = entry.segment.read()?;
                let open = opened[number].get_or_init(|| read);
                walks[number] = SegmentWalk::begin(entry, open, predicate, &stretch)?.map(Box::new);
                walks[number].as_mut().and_then(|walk| walk.next(number, context))
            }
            Next::Row(number, _) => {
                let walk = walks[number].as_mut().expect("a row comes from a walk that has begun");
                let mut run = Run { head, limit, until: heads.peek().map(|other| other.rank) };
                let next = walk.give(&mut run, number, context, taker)?;
                (limit, after) = (run.limit, Some(run.head.rank.key(order)));
                next
            }
            Next::Block(number) => {
                let walk = BlockWalk::begin(blocks[number], &Stretch { limit, ..stretch });
                block_walks[number].insert(walk).next(number)
            }
            Next::BlockRow(number, _) => {
                let walk = block_walks[number].as_mut().expect("a row comes from a walk that has begun");
                let mut run = Run { head, limit, until: heads.peek().map(|other| other.rank) };
                let next = walk.give(&mut run, number, taker)?;
                (limit, after) = (run.limit, Some(run.head.rank.key(order)));
                next
            }
        };
        if limit == 0 {
            break;
        }
        if let Some(next) = next {
            first = Some(first_of_all(next, &mut heads));
            continue;
        }
        match head.next {
            Next::Segment(number) | Next::Row(number, _) => {
                (walks[number], passed[number]) = (None, true);
                passed_now += 1;
            }
            Next::Block(number) | Next::BlockRow(number, _) => block_walks[number] = None,
        }
        first = heads.pop();
        if passed_now >= PASSED_SEGMENTS {
            return Ok(Some(Stretch { limit, after, ..stretch }));
        }
    }
    Ok(None)
}

/// Takes out of the heap what comes before `head`, and leaves that in its stead. Mostly nothing does: rows of one source
/// follow each other, and the heap is only looked at.
fn first_of_all(head: Head, others: &mut BinaryHeap<Head>) -> Head {
    match others.peek_mut() {
        Some(mut other) if other.rank > head.rank => std::mem::replace(&mut *other, head),
        _ => head,
    }
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

    /// The row that has this place.
    fn key(self, order: Order) -> RowKey {
        match order {
            Order::NewestFirst => RowKey { ts: self.0, sequence: self.1 },
            Order::OldestFirst => RowKey { ts: !self.0, sequence: !self.1 },
        }
    }
}

/// What a source offers next.
#[derive(Debug, Clone, Copy)]
struct Head {
    rank: Rank,
    next: Next,
}

/// Sources by their place in the view.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// A segment that is not opened yet; no row of it comes before the rank.
    Segment(usize),
    /// A row of an opened segment.
    Row(usize, u32),
    /// A block whose rows are not yet sorted; as for segments.
    Block(usize),
    BlockRow(usize, u32),
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Head {}

/// The selected rows of an opened segment, from the end that comes first.
struct SegmentWalk<'s> {
    open: &'s OpenSegment<'s>,
    walk: Walk<'s>,
    order: Order,
    time: OrderedColumn<'s>,
    sequence: OrderedColumn<'s>,
    /// Rows from this sequence on are passed over.
    below: u64,
    /// Whether all rows have sequences below that.
    is_below: bool,
    /// Opened when the first row is returned.
    rows: Option<SegmentRows<'s>>,
    /// How many rows were returned.
    given: usize,
    /// Opened when the first rows are given by their columns.
    columns: Option<SegmentColumns<'s>>,
    /// Rows that are given at once; memory to work with.
    taken: Vec<u32>,
}

/// Rows of one source that follow each other.
struct Run {
    /// The first one, then the last one given.
    head: Head,
    /// How many more are wanted.
    limit: usize,
    /// What another source offers.
    until: Option<Rank>,
}

impl<'s> SegmentWalk<'s> {
    /// `None` when no row matches after all.
    fn begin(
        entry: &'s SegmentEntry,
        open: &'s OpenSegment<'s>,
        predicate: &Predicate<'_>,
        stretch: &Stretch,
    ) -> Result<Option<Self>> {
        let Some(mut selection) = plan::select(entry, open, predicate)? else { return Ok(None) };
        let (time, sequence) = (open.time()?, open.sequence()?);
        let order = stretch.order;
        if let Some(RowKey { ts, sequence: after }) = stretch.after {
            let rows = &mut selection.rows;
            match order {
                Order::NewestFirst => rows.end = rows.end.min(place_of(&time, &sequence, ts, after)),
                Order::OldestFirst => {
                    rows.start = rows.start.max(place_of(&time, &sequence, ts, after.saturating_add(1)));
                }
            }
            if selection.rows.is_empty() {
                return Ok(None);
            }
        }
        let walk = Walk::new(selection, order);
        let (time, sequence) = (OrderedColumn::new(time), OrderedColumn::new(sequence));
        Ok(Some(Self {
            open,
            walk,
            order,
            time,
            sequence,
            below: stretch.below,
            is_below: entry.segment.header().facts.sequence_max < stretch.below,
            rows: None,
            given: 0,
            columns: None,
            taken: Vec::new(),
        }))
    }

    fn next(&mut self, segment: usize, context: &ReadContext) -> Option<Head> {
        loop {
            let row = self.walk.next(context.kernels)?;
            if self.is_below || (self.sequence.get(row as usize) as u64) < self.below {
                return Some(self.head(segment, row));
            }
        }
    }

    #[inline]
    fn head(&mut self, segment: usize, row: u32) -> Head {
        Head { rank: self.rank(row), next: Next::Row(segment, row) }
    }

    #[inline]
    fn rank(&mut self, row: u32) -> Rank {
        let (ts, sequence) = (self.time.get(row as usize), self.sequence.get(row as usize) as u64);
        Rank::of(self.order, ts, sequence)
    }

    /// Gives the run's first row, and those that follow as long as no other source has one that comes before; what it offers next.
    fn give(
        &mut self,
        run: &mut Run,
        segment: usize,
        context: &ReadContext,
        taker: &mut Taker<'_, '_>,
    ) -> Result<Option<Head>> {
        match taker {
            Taker::Rows(each) => self.give_rows(run, segment, context, *each),
            Taker::Columns(gatherer) => self.give_columns(run, segment, context, gatherer),
        }
    }

    fn give_rows(
        &mut self,
        run: &mut Run,
        segment: usize,
        context: &ReadContext,
        each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
    ) -> Result<Option<Head>> {
        if self.rows.is_none() {
            self.rows = Some(SegmentRows::open(self.open, context)?);
        }
        // Taken out and put back: the walk goes on while rows of it are lent.
        let mut rows = self.rows.take().expect("it was opened now at the latest");
        let next = loop {
            self.given += 1;
            if self.given == MANY_ROWS {
                rows.expect_many_rows();
            }
            let Next::Row(_, row) = run.head.next else { break Some(run.head) };
            each(&RowView::of_segment(&rows, row as usize, run.head.rank.key(self.order)))?;
            run.limit -= 1;
            match self.next(segment, context) {
                Some(next) if run.limit > 0 && run.until.is_none_or(|until| until <= next.rank) => {
                    run.head = next;
                }
                next => break next,
            }
        };
        self.rows = Some(rows);
        Ok(next)
    }

    fn give_columns(
        &mut self,
        run: &mut Run,
        segment: usize,
        context: &ReadContext,
        gatherer: &mut Gatherer<'_>,
    ) -> Result<Option<Head>> {
        let Next::Row(_, first) = run.head.next else { return Ok(Some(run.head)) };
        if self.columns.is_none() {
            self.columns = Some(gatherer.open(self.open)?);
        }
        self.taken.clear();
        self.taken.push(first);
        // Where some rows are passed over, each is looked at.
        let most = if self.is_below { run.limit.min(gatherer.room()) } else { 1 };
        let within = if most > 1 { self.rows_until(first, run.until) } else { 0..0 };
        let beyond = self.walk.take(context.kernels, &within, most, &mut self.taken);
        run.limit -= self.taken.len();
        run.head.rank = self.rank(self.taken.last().copied().unwrap_or(first));
        let columns = self.columns.as_mut().expect("they were opened now at the latest");
        gatherer.append_segment(columns, &self.taken)?;
        if self.taken.len() < most {
            Ok(beyond.map(|row| self.head(segment, row)))
        } else if run.limit > 0 {
            Ok(self.next(segment, context))
        } else {
            Ok(None)
        }
    }

    /// The segment's rows from `first` on, in the order asked for, that come before a place; `first` does.
    fn rows_until(&mut self, first: u32, until: Option<Rank>) -> std::ops::Range<u32> {
        let rows = u32::try_from(self.open.rows()).unwrap_or(u32::MAX);
        let Some(until) = until else { return 0..rows };
        match self.order {
            Order::NewestFirst => {
                let count = leading(first + 1, |place| until <= self.rank(first - place));
                first + 1 - count..first + 1
            }
            Order::OldestFirst => {
                first..first + leading(rows - first, |place| until <= self.rank(first + place))
            }
        }
    }
}

/// How many of the places below `count` hold, those from some place on not; the first one does. Quick where they are few.
fn leading(count: u32, mut holds: impl FnMut(u32) -> bool) -> u32 {
    let (mut low, mut high, mut step) = (1, count, 1_u32);
    while low < high {
        let place = (low - 1).saturating_add(step).min(high - 1);
        if !holds(place) {
            high = place;
            break;
        }
        (low, step) = (place + 1, step.saturating_mul(2));
    }
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// The selected rows of a block, from the end that comes first.
struct BlockWalk<'v> {
    block: &'v Block,
    order: Order,
    /// What comes first is last.
    rows: Vec<u32>,
}

impl<'v> BlockWalk<'v> {
    /// Blocks are not sorted by time; those of them that come first are, up to the limit.
    fn begin(selection: BlockSelection<'v>, stretch: &Stretch) -> Self {
        let Stretch { order, limit, after, below } = *stretch;
        let block = selection.block;
        let rank = |row: usize| Rank::of(order, block.ts()[row], block.sequence()[row]);
        let after = after.map(|after| Rank::of(order, after.ts, after.sequence));
        let is_wanted =
            |row: &usize| block.sequence()[*row] < below && after.is_none_or(|after| rank(*row) < after);
        let number = |row: usize| u32::try_from(row).expect("a block has less than 2^32 rows");
        let mut rows: Vec<u32> = selection.rows().filter(is_wanted).map(number).collect();
        let by_rank = |row: &u32| rank(*row as usize);
        if let Some(more) = rows.len().checked_sub(limit).filter(|more| *more > 0) {
            rows.select_nth_unstable_by_key(more, by_rank);
            rows.drain(..more);
        }
        // Mostly they are in order already, one way or the other, which this sort finds out.
        rows.sort_by_key(by_rank);
        rows.shrink_to_fit();
        Self { block, order, rows }
    }

    fn next(&mut self, number: usize) -> Option<Head> {
        let row = self.rows.pop()?;
        Some(Head { rank: self.rank(row), next: Next::BlockRow(number, row) })
    }

    fn rank(&self, row: u32) -> Rank {
        Rank::of(self.order, self.block.ts()[row as usize], self.block.sequence()[row as usize])
    }

    /// As [`SegmentWalk::give`]; of rows that are given one by one, only the first.
    fn give(&mut self, run: &mut Run, number: usize, taker: &mut Taker<'_, '_>) -> Result<Option<Head>> {
        let Next::BlockRow(_, first) = run.head.next else { return Ok(Some(run.head)) };
        match taker {
            Taker::Rows(each) => {
                each(&RowView::of_block(self.block, first as usize))?;
                run.limit -= 1;
            }
            Taker::Columns(gatherer) => {
                let most = run.limit.min(gatherer.room());
                let is_next = |row: &u32| run.until.is_none_or(|until| until <= self.rank(*row));
                let more = self.rows.iter().rev().take(most - 1).take_while(|row| is_next(row));
                let rows: Vec<u32> = std::iter::once(first).chain(more.copied()).collect();
                self.rows.truncate(self.rows.len() + 1 - rows.len());
                run.limit -= rows.len();
                run.head.rank = self.rank(rows.last().copied().unwrap_or(first));
                gatherer.append_block(self.block, &rows)?;
            }
        }
        Ok(self.next(number))
    }
}
