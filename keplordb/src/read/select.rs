//! The rows of one segment or block that a predicate asks for: as 256-bit masks, as ascending rows, or walked from an
//! end. Deleted rows are never among them.

use std::ops::Range;
use std::sync::Arc;

use roaring::{RoaringBitmap, RoaringTreemap};

use super::condition::{ALL_ROWS, Condition, RowList, and};
use crate::expr::{Expr, NumberColumn, TextColumn};
use crate::filter::Predicate;
use crate::format::block::Block;
use crate::format::numbers::Numbers;
use crate::kernels::{CHUNK_ROWS, Kernels, Mask};
use crate::state::version::MemtableView;

/// A mask without rows.
const NO_ROWS: Mask = [0; CHUNK_ROWS / 64];

/// The share of rows up to which comparing bitmaps and reading each row costs less than masks and masked sums.
const MOST_COMMON_SHARE: f64 = 1.0 / 32.0;

/// The order in which rows are returned: by (time, sequence).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    NewestFirst,
    /// The exact reverse.
    OldestFirst,
}

/// The rows of a segment that a predicate asks for, resolved to rows and codes.
#[derive(Debug, Clone)]
pub(crate) struct Selection<'s> {
    /// Rows within the time range; the segment is sorted by time. Not empty.
    pub(crate) rows: Range<usize>,
    /// All must hold; none that holds for every row.
    pub(crate) conditions: Vec<Condition<'s>>,
    pub(crate) deleted: Option<&'s RoaringBitmap>,
    /// Whether lists of rows are left aside, and every row is looked at.
    pub(crate) by_scan: bool,
}

impl<'s> Selection<'s> {
    /// The chunks that have rows of the time range.
    pub(crate) fn chunks(&self) -> Range<usize> {
        self.rows.start / CHUNK_ROWS..self.rows.end.div_ceil(CHUNK_ROWS)
    }

    /// Those of some chunks of which every row is selected, where that can be told without a look at them.
    pub(crate) fn whole_chunks(&self, chunks: &Range<usize>) -> Range<usize> {
        let first = self.rows.start.div_ceil(CHUNK_ROWS).max(chunks.start);
        let end = (self.rows.end / CHUNK_ROWS).min(chunks.end);
        if self.conditions.is_empty() && self.deleted.is_none() && first < end {
            first..end
        } else {
            chunks.start..chunks.start
        }
    }

    /// The rows of a chunk that are selected.
    pub(crate) fn mask(&self, kernels: &Kernels, chunk: usize) -> Mask {
        let first = chunk * CHUNK_ROWS;
        let place = |row: usize| row.saturating_sub(first).min(CHUNK_ROWS);
        let is_inner = self.rows.start <= first && first + CHUNK_ROWS <= self.rows.end;
        let mut mask = if is_inner { ALL_ROWS } else { bits(place(self.rows.start)..place(self.rows.end)) };
        for condition in &self.conditions {
            mask = and(mask, condition.mask(kernels, chunk));
            if mask == NO_ROWS {
                return mask;
            }
        }
        if let Some(deleted) = self.deleted {
            for row in deleted.range(row_range(&(first..first + CHUNK_ROWS))) {
                clear_bit(&mut mask, row as usize - first);
            }
        }
        mask
    }

    /// Whether the conditions hold for a row of the time range, deleted or not.
    pub(crate) fn holds(&self, row: usize) -> bool {
        self.conditions.iter().all(|condition| condition.holds(row))
    }

    fn is_live(&self, row: u32) -> bool {
        self.deleted.is_none_or(|deleted| !deleted.contains(row))
    }

    /// The deleted rows of a range, whether or not they are selected, ascending.
    pub(crate) fn deleted_in(&self, rows: Range<usize>) -> impl Iterator<Item = u32> + 's {
        self.deleted.into_iter().flat_map(move |deleted| deleted.range(row_range(&rows)))
    }

    /// The selected rows, ascending, where a value's rows are stored as a list: the rarest value gives the candidates.
    ///
    /// Such values have at most eight rows per chunk on average, and looking at eight rows costs less than one mask and
    /// its masked sums: so the list is used whenever there is one.
    pub(crate) fn listed_rows(&self) -> Option<impl Iterator<Item = u32>> {
        let (candidates, place) = self.rarest_list()?;
        Some(candidates.filter(move |row| self.is_wanted(*row, place)))
    }

    /// Whether the segment tells the selected rows by those of its values; then they are in `rows`, ascending.
    pub(crate) fn list_rows(&self, rows: &mut Vec<u32>) -> bool {
        rows.clear();
        let Some(listed) = self.listed_rows() else { return self.list_common_rows(rows) };
        rows.extend(listed);
        true
    }

    /// Adds the selected rows, ascending, where several values must meet whose rows are stored as bitmaps, and few rows have
    /// them all as far as their counts tell: the bitmaps are compared, 64 rows at a time.
    fn list_common_rows(&self, rows: &mut Vec<u32>) -> bool {
        let bitmaps = self.conditions.iter().map(|condition| condition.codes()?.bitmap());
        let Some(bitmaps) = bitmaps.collect::<Option<Vec<_>>>() else { return false };
        let share: f64 = bitmaps.iter().map(|(_, share)| share).product();
        let [(one, _), (other, _), more @ ..] = &*bitmaps else { return false };
        if share > MOST_COMMON_SHARE {
            return false;
        }
        for (number, (one, other)) in one.iter().zip(*other).enumerate() {
            let mut both = u64::from_le_bytes(*one) & u64::from_le_bytes(*other);
            if both == 0 {
                continue;
            }
            for (bitmap, _) in more {
                both &= bitmap.get(number).map_or(0, |word| u64::from_le_bytes(*word));
            }
            while both != 0 {
                rows.extend(row_number(0, 64 * number + both.trailing_zeros() as usize));
                both &= both - 1;
            }
        }
        let wanted = row_range(&self.rows);
        let last = rows.last().copied().unwrap_or(0);
        if self.deleted.is_some() || wanted.start > 0 || wanted.end <= last {
            rows.retain(|row| wanted.contains(row) && self.is_live(*row));
        }
        true
    }

    /// Whether a value's rows are stored as a list, so that few rows need to be looked at.
    pub(crate) fn has_list(&self) -> bool {
        self.rarest_list().is_some()
    }

    /// The selected rows, ascending, tested one by one: for looks at each that cost far more than the test.
    pub(crate) fn tested_rows(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self.listed_rows() {
            Some(rows) => Box::new(rows),
            None => {
                Box::new(row_range(&self.rows).filter(|row| self.holds(*row as usize) && self.is_live(*row)))
            }
        }
    }

    /// Candidates within the time range, and the place of the condition that they fulfil by themselves; past the last one
    /// where they must be tested for that too.
    fn rarest_list(&self) -> Option<(RowList<'s>, usize)> {
        if self.by_scan {
            return None;
        }
        let lists = self.conditions.iter().enumerate();
        let lists = lists.filter_map(|(place, condition)| Some((condition.listed()?, place, condition)));
        let (_, place, condition) = lists.min_by_key(|(rows, ..)| *rows)?;
        let fulfilled = if condition.list_is_exact() { place } else { self.conditions.len() };
        Some((condition.list(row_range(&self.rows))?, fulfilled))
    }

    /// Whether a candidate of the condition at `place` fulfils the others, and lives.
    fn is_wanted(&self, row: u32, place: usize) -> bool {
        let others = self.conditions.iter().enumerate().filter(|(other, _)| *other != place);
        others.map(|(_, condition)| condition).all(|condition| condition.holds(row as usize))
            && self.is_live(row)
    }

    /// The smallest and the largest selected value; `None` when no row is selected. `known` are bounds that no selected
    /// value lies beyond; the search ends when it has met them, and looks only into chunks that could widen what it has.
    pub(crate) fn min_max(
        &self,
        kernels: &Kernels,
        values: &Numbers<'_>,
        known: (i64, i64),
    ) -> Option<(i64, i64)> {
        let mut found: Option<(i64, i64)> = None;
        for chunk in self.chunks() {
            let (chunk_min, chunk_max) = (values.chunk_min(chunk), values.chunk_max(chunk));
            if found.is_some_and(|(min, max)| min <= chunk_min && chunk_max <= max) {
                continue;
            }
            if let Some((min, max)) = values.masked_min_max(kernels, chunk, &self.mask(kernels, chunk)) {
                found = found.map_or(Some((min, max)), |so_far| Some((so_far.0.min(min), so_far.1.max(max))));
            }
            if found == Some(known) {
                break;
            }
        }
        found
    }
}

/// Row numbers fit: a segment has fewer than 2³² rows.
fn row_range(rows: &Range<usize>) -> Range<u32> {
    let row = |row: usize| u32::try_from(row).unwrap_or(u32::MAX);
    row(rows.start)..row(rows.end)
}

/// Selected rows one after the other, from one end of a segment.
#[derive(Debug)]
pub(crate) struct Walk<'s> {
    selection: Selection<'s>,
    order: Order,
    candidates: Candidates<'s>,
}

#[derive(Debug)]
enum Candidates<'s> {
    /// The rows of the rarest value, and the place of its condition.
    List(RowList<'s>, usize),
    /// All rows that are left, where there is nothing to test.
    All(Range<u32>),
    /// Chunks not yet looked at, and what is left of the one that was.
    Chunks { left: Range<usize>, chunk: usize, mask: Mask },
}

impl<'s> Walk<'s> {
    pub(crate) fn new(selection: Selection<'s>, order: Order) -> Self {
        let candidates = match selection.rarest_list() {
            Some((rows, place)) => Candidates::List(rows, place),
            None if selection.conditions.is_empty() && selection.deleted.is_none() => {
                Candidates::All(row_range(&selection.rows))
            }
            None => Candidates::Chunks { left: selection.chunks(), chunk: 0, mask: NO_ROWS },
        };
        Self { selection, order, candidates }
    }

    /// The next row, in the order given.
    pub(crate) fn next(&mut self, kernels: &Kernels) -> Option<u32> {
        let (selection, order) = (&self.selection, self.order);
        match &mut self.candidates {
            Candidates::List(rows, place) => {
                let wanted = |row: &u32| selection.is_wanted(*row, *place);
                match order {
                    Order::NewestFirst => rows.rfind(wanted),
                    Order::OldestFirst => rows.find(wanted),
                }
            }
            Candidates::All(rows) => match order {
                Order::NewestFirst => rows.next_back(),
                Order::OldestFirst => rows.next(),
            },
            Candidates::Chunks { left, chunk, mask } => loop {
                if let Some(place) = take_bit(mask, order) {
                    return row_number(*chunk, place);
                }
                *chunk = match order {
                    Order::NewestFirst => left.next_back()?,
                    Order::OldestFirst => left.next()?,
                };
                *mask = selection.mask(kernels, *chunk);
            },
        }
    }
}

impl Walk<'_> {
    /// Takes rows, in the order given, until `rows` has `most` of them or the next one does not lie in `within`: that one is
    /// taken, too, and returned. Looks at nothing beyond what it takes.
    pub(crate) fn take(
        &mut self,
        kernels: &Kernels,
        within: &Range<u32>,
        most: usize,
        rows: &mut Vec<u32>,
    ) -> Option<u32> {
        let room = most.saturating_sub(rows.len());
        match &mut self.candidates {
            Candidates::List(..) => {}
            Candidates::All(left) => {
                let room = u32::try_from(room).unwrap_or(u32::MAX);
                match self.order {
                    Order::NewestFirst => {
                        let start = left.start.max(within.start).max(left.end.saturating_sub(room));
                        let taken = start.min(left.end)..left.end;
                        left.end = taken.start;
                        rows.extend(taken.rev());
                    }
                    Order::OldestFirst => {
                        let end = left.end.min(within.end).min(left.start.saturating_add(room));
                        let taken = left.start..end.max(left.start);
                        left.start = taken.end;
                        rows.extend(taken);
                    }
                }
            }
            // As many chunks as are taken to their end.
            Candidates::Chunks { left, chunk, mask } => loop {
                let place = |row: u32| (row as usize).saturating_sub(*chunk * CHUNK_ROWS).min(CHUNK_ROWS);
                let wanted = and(*mask, bits(place(within.start)..place(within.end)));
                let first = rows.len();
                if (kernels.count)(&wanted) as usize > most.saturating_sub(first) {
                    break;
                }
                push_rows(&wanted, *chunk, rows);
                for (word, taken) in mask.iter_mut().zip(wanted) {
                    *word &= !taken;
                }
                if self.order == Order::NewestFirst {
                    rows[first..].reverse();
                }
                if *mask != NO_ROWS || rows.len() >= most {
                    break;
                }
                let next = match self.order {
                    Order::NewestFirst => left.next_back(),
                    Order::OldestFirst => left.next(),
                };
                let Some(next) = next else { break };
                (*chunk, *mask) = (next, self.selection.mask(kernels, next));
            },
        }
        while rows.len() < most {
            let row = self.next(kernels)?;
            if !within.contains(&row) {
                return Some(row);
            }
            rows.push(row);
        }
        None
    }
}

/// The rows of a block that a predicate asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockSelection<'v> {
    pub(crate) block: &'v Arc<Block>,
    /// `None` when no condition is left.
    predicate: Option<&'v Predicate<'v>>,
    /// Whether every row has a time and a status that are asked for.
    is_in_ranges: bool,
    /// `None` when no row of the block is deleted.
    deleted: Option<&'v RoaringTreemap>,
}

impl<'v> BlockSelection<'v> {
    /// `None` when the block's summary proves that no row matches.
    pub(crate) fn new(
        block: &'v Arc<Block>,
        deleted: Option<&'v RoaringTreemap>,
        predicate: &'v Predicate<'v>,
    ) -> Option<Self> {
        let summary = block.summary();
        if block.rows() == 0
            || summary.ts_max < predicate.from_ts_ns
            || predicate.to_ts_ns < summary.ts_min
            || summary.status_max < predicate.status_min
            || predicate.status_max < summary.status_min
        {
            return None;
        }
        let is_in_ranges = predicate.from_ts_ns <= summary.ts_min
            && summary.ts_max <= predicate.to_ts_ns
            && predicate.status_min <= summary.status_min
            && summary.status_max <= predicate.status_max;
        let every_row = is_in_ranges && predicate.dims.is_empty() && predicate.rest.is_empty();
        let deleted = deleted.filter(|deleted| has_any(deleted, block.sequence()));
        Some(Self { block, predicate: (!every_row).then_some(predicate), is_in_ranges, deleted })
    }

    /// Whether every row is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.predicate.is_none() && self.deleted.is_none()
    }

    pub(crate) fn rows(self) -> impl Iterator<Item = usize> + 'v {
        let listed = self.listed();
        let known_dims = usize::from(listed.is_some());
        let all = if listed.is_none() { 0..self.block.rows() } else { 0..0 };
        let listed = listed.into_iter().flatten().map(|row| row as usize);
        listed.chain(all).filter(move |row| self.is_selected(*row, known_dims))
    }

    /// The rows that have the value of the first dim that must have one.
    fn listed(&self) -> Option<Vec<u32>> {
        let predicate = self.predicate.filter(|predicate| !predicate.by_scan)?;
        let (dim, value) = predicate.dims.first()?;
        self.block.rows_with(*dim, value, Kernels::best())
    }

    /// Whether a row is asked for of which it is known that its first `known_dims` are.
    fn is_selected(&self, row: usize, known_dims: usize) -> bool {
        let block = self.block;
        let is_in_ranges = |predicate: &Predicate<'_>| {
            (predicate.from_ts_ns..=predicate.to_ts_ns).contains(&block.ts()[row])
                && (predicate.status_min..=predicate.status_max).contains(&block.status()[row])
        };
        let matches = self.predicate.is_none_or(|predicate| {
            // A row is a line of the cache in each column: none is touched without need.
            (self.is_in_ranges || is_in_ranges(predicate))
                && predicate.dims.iter().skip(known_dims).all(|(dim, value)| block.has_dim(*dim, row, value))
                && predicate.rest.iter().all(|expr| holds_in_block(expr, block, row))
        });
        matches && self.deleted.is_none_or(|deleted| !deleted.contains(block.sequence()[row]))
    }
}

/// The blocks in memory that may have rows of a predicate.
pub(crate) fn blocks<'v>(
    memtables: &'v [MemtableView],
    predicate: &'v Predicate<'v>,
) -> impl Iterator<Item = BlockSelection<'v>> {
    memtables.iter().flat_map(move |memtable| {
        let deleted = memtable.deleted.as_deref();
        memtable.blocks.iter().filter_map(move |block| BlockSelection::new(block, deleted, predicate))
    })
}

/// Whether one of the sequences may be deleted. They ascend, as all sequences of a shard do.
fn has_any(deleted: &RoaringTreemap, sequences: &[u64]) -> bool {
    let (Some(&first), Some(&last)) = (sequences.first(), sequences.last()) else { return false };
    let before = first.checked_sub(1).map_or(0, |before| deleted.rank(before));
    deleted.rank(last) > before
}

/// Whether a condition holds for a row in memory.
fn holds_in_block(expr: &Expr, block: &Block, row: usize) -> bool {
    match expr {
        Expr::Always(holds) => *holds,
        Expr::Number { column, lo, hi } => (*lo..=*hi).contains(&number_in_block(*column, block, row)),
        Expr::Flags { bits } => block.flags(row).0 & bits == *bits,
        Expr::Status(ranges) => ranges.iter().any(|range| range.contains(&block.status()[row])),
        Expr::Dim { dim, test } => test.holds(block.dim(*dim, row)),
        Expr::Text { column: TextColumn::Id, test } => test.holds(block.id(row)),
        Expr::Text { column: TextColumn::Label(label), test } => test.holds(block.label(*label, row)),
        Expr::And(parts) => parts.iter().all(|part| holds_in_block(part, block, row)),
        Expr::Or(parts) => parts.iter().any(|part| holds_in_block(part, block, row)),
        Expr::Not(inner) => !holds_in_block(inner, block, row),
        // Refused before a query begins.
        Expr::TooDeep => false,
    }
}

/// A number of a row in memory.
pub(crate) fn number_in_block(column: NumberColumn, block: &Block, row: usize) -> i64 {
    match column {
        NumberColumn::Time => block.ts()[row],
        NumberColumn::Sequence => block.sequence()[row] as i64,
        NumberColumn::Metric => block.metric()[row],
        NumberColumn::Latency => block.latency()[row].into(),
        NumberColumn::LatencyDetail => block.latency_detail()[row].into(),
        NumberColumn::Flags => block.flags(row).0.into(),
        NumberColumn::Counter(counter) => block.counter(counter).map_or(0, |values| values[row].into()),
    }
}

/// The mask whose bits are set at `places`, all within a chunk.
fn bits(places: Range<usize>) -> Mask {
    // Bits below `end` of each word, less those below `start`.
    let below = |end: usize, word: usize| match end.saturating_sub(64 * word) {
        count @ 0..64 => (1_u64 << count) - 1,
        _ => u64::MAX,
    };
    std::array::from_fn(|word| below(places.end, word) & !below(places.start, word))
}

fn clear_bit(mask: &mut Mask, place: usize) {
    mask[place / 64] &= !(1 << (place % 64));
}

/// The rows that a mask of `chunk` has, ascending.
pub(crate) fn rows_of(mut mask: Mask, chunk: usize) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || row_number(chunk, take_bit(&mut mask, Order::OldestFirst)?))
}

/// Appends the rows that a mask of `chunk` has, ascending.
pub(crate) fn push_rows(mask: &Mask, chunk: usize, rows: &mut Vec<u32>) {
    for (word, first) in mask.iter().zip((first_row(chunk)..).step_by(64)) {
        let mut left = *word;
        while left != 0 {
            rows.push(first + left.trailing_zeros());
            left &= left - 1;
        }
    }
}

/// The first row of a chunk: a segment has fewer than 2³².
pub(crate) fn first_row(chunk: usize) -> u32 {
    u32::try_from(chunk * CHUNK_ROWS).unwrap_or(u32::MAX)
}

/// `None` is impossible: a segment has fewer than 2³² rows.
fn row_number(chunk: usize, place: usize) -> Option<u32> {
    u32::try_from(chunk * CHUNK_ROWS + place).ok()
}

/// Takes the first or the last set bit out of a mask.
fn take_bit(mask: &mut Mask, order: Order) -> Option<usize> {
    let word = match order {
        Order::NewestFirst => mask.iter().rposition(|word| *word != 0)?,
        Order::OldestFirst => mask.iter().position(|word| *word != 0)?,
    };
    let bit = match order {
        Order::NewestFirst => 63 - mask[word].leading_zeros() as usize,
        Order::OldestFirst => mask[word].trailing_zeros() as usize,
    };
    let place = 64 * word + bit;
    clear_bit(mask, place);
    Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_exactly_the_places_asked_for() {
        for (start, end) in [(0, 0), (0, 1), (0, 256), (63, 65), (64, 128), (1, 255), (255, 256), (128, 128)]
        {
            let mask = bits(start..end);
            for place in 0..CHUNK_ROWS {
                let set = mask[place / 64] >> (place % 64) & 1 == 1;
                assert_eq!(set, (start..end).contains(&place), "{place} of {start}..{end}");
            }
        }
    }

    #[test]
    fn bits_are_taken_from_either_end() {
        let places = [0, 1, 63, 64, 130, 255];
        let mut mask = NO_ROWS;
        for place in places {
            mask[place / 64] |= 1 << (place % 64);
        }
        let mut ascending = mask;
        let taken: Vec<_> = std::iter::from_fn(|| take_bit(&mut ascending, Order::OldestFirst)).collect();
        assert_eq!(taken, places);
        let taken: Vec<_> = std::iter::from_fn(|| take_bit(&mut mask, Order::NewestFirst)).collect();
        assert_eq!(taken, places.iter().rev().copied().collect::<Vec<_>>());
    }

    #[test]
    fn deleted_sequences_are_looked_for_in_the_span_of_a_block() {
        let deleted: RoaringTreemap = [5, 9].into_iter().collect();
        assert!(has_any(&deleted, &[5]) && has_any(&deleted, &[0, 5]) && has_any(&deleted, &[9, 12]));
        assert!(!has_any(&deleted, &[6, 8]) && !has_any(&deleted, &[0, 4]) && !has_any(&deleted, &[10]));
        assert!(!has_any(&deleted, &[]));
        assert!(has_any(&[0].into_iter().collect(), &[0, 1]));
    }
}
