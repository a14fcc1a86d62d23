//! Rows by id, one row by its key, and the keys of rows that match.

use super::ReadContext;
use super::plan::{self, Outlook};
use super::row::{RowView, SegmentRows};
use super::select::{self, Order, Walk};
use crate::error::{DbError, Result};
use crate::filter::Predicate;
use crate::format::block::Block;
use crate::format::ids::{Search, Wanted};
use crate::format::numbers::Numbers;
use crate::state::version::{MemtableView, SegmentEntry, View};
use crate::storage::segment_reader::OpenSegment;

/// What names a row across blocks and segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowKey {
    pub(crate) ts: i64,
    pub(crate) sequence: u64,
}

/// Gives the newest live row of an id to `each`; whether there is one. The empty id names no row.
///
/// A hash per segment, and a look at the rows whose fingerprint fits: the cost grows with the segments, not with their
/// rows.
pub(crate) fn newest_of_id(
    view: &View,
    id: &str,
    context: &ReadContext,
    each: &mut dyn FnMut(&RowView<'_>) -> Result<()>,
) -> Result<bool> {
    if id.is_empty() {
        return Ok(false);
    }
    let in_memory = memory_rows(view.memtables(), id).max_by_key(|(key, ..)| *key);
    let mut newest = in_memory.map(|(key, ..)| key);
    let mut in_segment = None;
    let wanted = Wanted::new(id);
    // The last segments are likely the newest ones, and rule out the others.
    let may_have = view.segments().iter().rev().filter(|entry| !entry.segment.lacks_id(&wanted));
    for entry in may_have {
        if newest.is_some_and(|newest| entry.segment.header().facts.ts_max < newest.ts) {
            continue;
        }
        let open = entry.segment.read()?;
        let search = open.id_index()?.search(&wanted);
        if search.is_over() {
            continue;
        }
        // Rows of a segment are in the order of their keys, and candidates come from their end.
        let Some(row) = live_rows(entry, &open, search, id)?.next().transpose()? else { continue };
        let key = key_of(&open, row)?;
        if newest < Some(key) {
            newest = Some(key);
            in_segment = Some((open, row, key));
        }
    }
    match (in_segment, in_memory) {
        (Some((open, row, key)), _) => {
            each(&RowView::of_segment(&SegmentRows::open(&open, context)?, row as usize, key))?;
        }
        (None, Some((_, block, row))) => each(&RowView::of_block(block, row))?,
        (None, None) => return Ok(false),
    }
    Ok(true)
}

/// The keys of all live rows of an id, in no order. The empty id names no row.
pub(crate) fn rows_of_id(view: &View, id: &str, _context: &ReadContext) -> Result<Vec<RowKey>> {
    if id.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys: Vec<RowKey> = memory_rows(view.memtables(), id).map(|(key, ..)| key).collect();
    let wanted = Wanted::new(id);
    for entry in view.segments().iter().filter(|entry| !entry.segment.lacks_id(&wanted)) {
        let open = entry.segment.read()?;
        let search = open.id_index()?.search(&wanted);
        for row in live_rows(entry, &open, search, id)? {
            keys.push(key_of(&open, row?)?);
        }
    }
    Ok(keys)
}

/// The keys of all live rows that match, in no order: 16 bytes for each.
///
/// # Errors
/// `Invalid` for more than `most`, and what reading a segment fails with.
pub(crate) fn rows_that_match(
    view: &View,
    predicate: &Predicate<'_>,
    most: usize,
    context: &ReadContext,
) -> Result<Vec<RowKey>> {
    let mut keys = Vec::new();
    let mut add = |ts: i64, sequence: u64| {
        if keys.len() == most {
            let why = format!("more than {most} rows at once: delete in steps, by ranges of time");
            return Err(DbError::invalid("delete_where", why));
        }
        keys.push(RowKey { ts, sequence });
        Ok(())
    };
    for selection in select::blocks(view.memtables(), predicate) {
        let block = selection.block;
        selection.rows().try_for_each(|row| add(block.ts()[row], block.sequence()[row]))?;
    }
    for entry in view.segments() {
        if plan::by_facts(entry.segment.header(), predicate) == Outlook::Skip {
            continue;
        }
        let open = entry.segment.read()?;
        let Some(selection) = plan::select(entry, &open, predicate)? else { continue };
        let (time, sequence) = (open.time()?, open.sequence()?);
        let mut rows = Walk::new(selection, Order::OldestFirst);
        while let Some(row) = rows.next(context.kernels) {
            add(time.get(row as usize), sequence.get(row as usize) as u64)?;
        }
    }
    Ok(keys)
}

/// The row of a segment that has this key: a binary search for its time, then one for its sequence.
pub(crate) fn find_row(open: &OpenSegment<'_>, ts: i64, sequence: u64) -> Result<Option<u32>> {
    let (time, sequences) = (open.time()?, open.sequence()?);
    let place = place_of(&time, &sequences, ts, sequence);
    let found = place < time.rows() && time.get(place) == ts && sequences.get(place) as u64 == sequence;
    Ok(if found { u32::try_from(place).ok() } else { None })
}

/// How many rows of a segment come before (time, sequence): where such a row is, or would be.
pub(crate) fn place_of(time: &Numbers<'_>, sequences: &Numbers<'_>, ts: i64, sequence: u64) -> usize {
    let start = time.partition_point(ts, 0..time.rows());
    let end = ts.checked_add(1).map_or(time.rows(), |after| time.partition_point(after, start..time.rows()));
    // Sequences ascend among rows of one time only, so chunk extremes cannot guide this search.
    let (mut low, mut high) = (start, end);
    while low < high {
        let middle = low.midpoint(high);
        if (sequences.get(middle) as u64) < sequence {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn key_of(open: &OpenSegment<'_>, row: u32) -> Result<RowKey> {
    let row = row as usize;
    Ok(RowKey { ts: open.time()?.get(row), sequence: open.sequence()?.get(row) as u64 })
}

/// The live rows of an id in a segment, newest first, of those that a search of its index leaves.
fn live_rows<'s>(
    entry: &'s SegmentEntry,
    open: &'s OpenSegment<'_>,
    mut search: Search<'s>,
    id: &'s str,
) -> Result<impl Iterator<Item = Result<u32>>> {
    // A miss leaves the ids untouched.
    let ids = if search.is_over() { None } else { Some(open.id()?) };
    let rows = std::iter::from_fn(move || search.next(id, ids.as_ref()?).transpose());
    Ok(rows.filter_map(move |row| match row {
        Ok(row) => (!entry.is_deleted(row)).then_some(Ok(row)),
        Err(malformed) => Some(Err(open.corrupt(malformed))),
    }))
}

/// The live rows of an id in memory.
fn memory_rows<'v>(
    memtables: &'v [MemtableView],
    id: &'v str,
) -> impl Iterator<Item = (RowKey, &'v Block, usize)> {
    let rows = memtables.iter().flat_map(move |memtable| {
        memtable.blocks.rows_of_id(id).into_iter().map(move |(block, row)| (memtable, block, row))
    });
    rows.filter_map(|(memtable, block, row)| {
        let key = RowKey { ts: block.ts()[row], sequence: block.sequence()[row] };
        let deleted = memtable.deleted.as_ref().is_some_and(|deleted| deleted.contains(key.sequence));
        (!deleted).then_some((key, block, row))
    })
}
