//! Day rollups: count, metric and counters per UTC day and values of the rollup dims.
//!
//! Segments carry theirs, sorted by day and codes, or get them computed once; deleted rows are subtracted, rows in
//! memory are added up as they are.

use std::collections::HashMap;
use std::ops::Range;

use super::ReadContext;
use super::plan::{self, Outlook};
use super::row::RowView;
use super::select;
use crate::error::Result;
use crate::filter::Predicate;
use crate::format::keys::{Dictionary, Keys, code_of_value};
use crate::format::numbers::Numbers;
use crate::format::rollups::{self, RollupColumns, Rollups};
use crate::kernels::CHUNK_ROWS;
use crate::state::version::{SegmentEntry, View};
use crate::storage::segment_reader::OpenSegment;
use crate::sums::{FIXED_MEASURES, METRIC, clamp_u64};
use crate::time::{DAY_NS, DAY_S, day_of};

/// What the rows of one day and one value of each rollup dim add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RollupRow {
    /// Epoch seconds of the UTC midnight.
    pub(crate) day: i64,
    /// In the order of the rollup dims.
    pub(crate) dims: Vec<String>,
    pub(crate) count: u64,
    pub(crate) metric: i128,
    pub(crate) counters: Vec<u64>,
}

/// The rollups of the days `from_day..=to_day` (epoch seconds of UTC midnights), sorted by day and dims.
///
/// `wanted` fixes values of the rollup dims, in their order; `None`, and what it is too short for, is any value.
pub(crate) fn rollups(
    view: &View,
    from_day: i64,
    to_day: i64,
    rollup_dims: &[usize],
    wanted: &[Option<&str>],
    context: &ReadContext,
) -> Result<Vec<RollupRow>> {
    let Some(predicate) = predicate(from_day, to_day, rollup_dims, wanted) else { return Ok(Vec::new()) };
    let mut opened: Vec<(&SegmentEntry, OpenSegment<'_>)> = Vec::new();
    for entry in view.segments() {
        if plan::by_facts(entry.segment.header(), &predicate) != Outlook::Skip {
            opened.push((entry, entry.segment.read()?));
        }
    }
    let mut groups = Groups::default();
    for (entry, open) in &opened {
        let Some(codes) = SlotCodes::resolve(open, rollup_dims, wanted)? else { continue };
        let rollups = segment_rollups(entry, open, rollup_dims)?;
        let facts = &entry.segment.header().facts;
        let all_days = predicate.from_ts_ns <= facts.ts_min && facts.ts_max <= predicate.to_ts_ns;
        let range = if all_days { 0..rollups.len() } else { rollups.day_range(from_day, to_day) };
        add_entries(&rollups, range, &codes, context, &mut groups);
        if entry.deleted.is_some() {
            subtract_deleted(entry, open, &predicate, &codes, context, &mut groups)?;
        }
    }
    for selection in select::blocks(view.memtables(), &predicate) {
        for row in selection.rows() {
            let row = RowView::of_block(selection.block, row);
            let group = groups.at(day_of(row.ts_ns()), rollup_dims.iter().map(|dim| row.dim(*dim)), context);
            group.count += 1;
            group.metric += i128::from(row.metric());
            let counters = group.counters.iter_mut().enumerate();
            counters.for_each(|(counter, sum)| *sum += i128::from(row.counter(counter)));
        }
    }
    Ok(groups.into_rows())
}

/// The rows that the rollups are made of; `None` when there can be none.
fn predicate<'a>(
    from_day: i64,
    to_day: i64,
    rollup_dims: &[usize],
    wanted: &[Option<&'a str>],
) -> Option<Predicate<'a>> {
    // The first and the last midnight in the range.
    let first =
        i128::from(from_day).div_euclid(i128::from(DAY_S)) + i128::from(from_day.rem_euclid(DAY_S) != 0);
    let last = i128::from(to_day).div_euclid(i128::from(DAY_S));
    let midnight_ns = |day: i128| day * i128::from(DAY_NS);
    // The first day of all begins before the first nanosecond that an `i64` holds, the last one ends after the last.
    let from_ts_ns = i64::try_from(midnight_ns(first).max(i128::from(i64::MIN))).ok()?;
    let to_ts_ns = i64::try_from((midnight_ns(last + 1) - 1).min(i128::from(i64::MAX))).ok()?;
    let fixed = rollup_dims.iter().zip(wanted);
    let dims = fixed.filter_map(|(dim, value)| Some((*dim, (*value)?))).collect();
    (from_ts_ns <= to_ts_ns).then(|| Predicate { from_ts_ns, to_ts_ns, dims, ..Predicate::all() })
}

/// The rollup dims of one segment, and the codes that are wanted of them.
struct SlotCodes<'s> {
    /// With the values, which entries ask for one by one. `None` where the dim is younger than the segment: its only code is
    /// 0, for the empty value.
    keys: Vec<Option<(Keys<'s>, Dictionary<'s>)>>,
    wanted: Vec<Option<Wanted<'s>>>,
}

/// A fixed value and its code.
#[derive(Clone, Copy)]
struct Wanted<'s> {
    code: u32,
    value: &'s str,
}

impl<'s> SlotCodes<'s> {
    /// `None` when the segment lacks a wanted value.
    fn resolve(
        open: &'s OpenSegment<'_>,
        rollup_dims: &[usize],
        wanted: &[Option<&str>],
    ) -> Result<Option<Self>> {
        let slots = rollup_dims.len();
        let mut codes = Self { keys: Vec::with_capacity(slots), wanted: Vec::with_capacity(slots) };
        for (slot, dim) in rollup_dims.iter().enumerate() {
            let keys = open.dim(*dim)?.map(|keys| (keys, keys.dictionary()));
            let wanted = wanted.get(slot).copied().flatten().map(|value| match &keys {
                Some((_, values)) => {
                    values.code_of(value).map(|code| Wanted { code, value: values.value(code) })
                }
                None => value.is_empty().then_some(Wanted { code: 0, value: "" }),
            });
            // Fixed to a value that is not here?
            if let Some(None) = wanted {
                return Ok(None);
            }
            codes.keys.push(keys);
            codes.wanted.push(wanted.flatten());
        }
        Ok(Some(codes))
    }

    /// The values of an entry or row, which has the wanted codes and, of the other slots, the given ones.
    fn values(&self, code: impl Fn(usize, &Keys<'s>) -> u32) -> impl Iterator<Item = &'s str> {
        let slots = self.keys.iter().zip(&self.wanted).enumerate();
        slots.map(move |(slot, (keys, wanted))| match (wanted, keys) {
            (Some(wanted), _) => wanted.value,
            (None, Some((keys, values))) => values.value(code(slot, keys)),
            (None, None) => "",
        })
    }
}

/// The rollups of a whole segment: those that it stores, if it stores these, or else computed once and kept.
fn segment_rollups<'s>(
    entry: &'s SegmentEntry,
    open: &'s OpenSegment<'_>,
    rollup_dims: &[usize],
) -> Result<Rollups<'s>> {
    if entry.segment.header().rollup_dims == rollup_dims
        && let Some(stored) = open.rollups()?
    {
        return Ok(stored);
    }
    let computed = entry.segment.computed_rollups(rollup_dims, || compute(entry, open, rollup_dims))?;
    Ok(Rollups::new(computed))
}

fn compute(entry: &SegmentEntry, open: &OpenSegment<'_>, rollup_dims: &[usize]) -> Result<Vec<u8>> {
    let header = entry.segment.header();
    let rows = header.rows as usize;
    let mut codes = Vec::with_capacity(rollup_dims.len());
    for dim in rollup_dims {
        codes.push(match open.dim(*dim)? {
            Some(keys) => all_values(&keys.codes()).into_iter().map(code_of_value).collect(),
            None => vec![0; rows],
        });
    }
    let (ts, metric) = (all_values(&open.time()?), all_values(&open.metric()?));
    let mut counters = Vec::new();
    for counter in 0..header.schema.shape().counters {
        if let Some(values) = open.counter(counter)? {
            counters.push(all_values(&values));
        }
    }
    let counters: Vec<&[i64]> = counters.iter().map(Vec::as_slice).collect();
    let columns = RollupColumns { ts: &ts, codes: &codes, metric: &metric, counters: &counters };
    let entries =
        rollups::build(columns, usize::MAX).expect("no count of entries is above the largest number");
    let mut bytes = Vec::new();
    rollups::encode(&entries, &mut bytes);
    Ok(bytes)
}

fn all_values(numbers: &Numbers<'_>) -> Vec<i64> {
    let mut values = Vec::with_capacity(numbers.chunks() * CHUNK_ROWS);
    let mut chunk_values = [0; CHUNK_ROWS];
    for chunk in 0..numbers.chunks() {
        numbers.read_chunk(chunk, &mut chunk_values);
        values.extend_from_slice(&chunk_values);
    }
    values.truncate(numbers.rows());
    values
}

/// Adds the wanted ones of a range of entries. Entries are sorted by day, then by codes: within a day those of a wanted
/// first code are found by binary search.
fn add_entries<'s>(
    rollups: &Rollups<'_>,
    range: Range<usize>,
    codes: &SlotCodes<'s>,
    context: &ReadContext,
    groups: &mut Groups<'s>,
) {
    let first_code = codes.wanted.first().copied().flatten().map(|wanted| wanted.code);
    let mut next = range.start;
    while next < range.end {
        let day = rollups.day(next);
        let one_day_is_left = rollups.day(range.end - 1) == day;
        let day_end = if one_day_is_left {
            range.end
        } else {
            partition_point(next..range.end, |entry| rollups.day(entry) <= day)
        };
        let start = match first_code {
            Some(code) => partition_point(next..day_end, |entry| rollups.code(entry, 0) < code),
            None => next,
        };
        next = day_end;
        for entry in start..day_end {
            if first_code.is_some_and(|code| code != rollups.code(entry, 0)) {
                break;
            }
            let mut slots = codes.wanted.iter().enumerate();
            if slots
                .any(|(slot, wanted)| wanted.is_some_and(|wanted| wanted.code != rollups.code(entry, slot)))
            {
                continue;
            }
            let group = groups.at(day, codes.values(|slot, _| rollups.code(entry, slot)), context);
            group.count += i128::from(rollups.count(entry));
            group.metric += rollups.metric(entry);
            let counters = group.counters.iter_mut().enumerate();
            counters.for_each(|(counter, sum)| *sum += i128::from(rollups.counter(entry, counter)));
        }
    }
}

/// The first of `range` for which `before` no longer holds, or its end.
fn partition_point(range: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn subtract_deleted<'s>(
    entry: &'s SegmentEntry,
    open: &'s OpenSegment<'_>,
    predicate: &Predicate<'_>,
    codes: &SlotCodes<'s>,
    context: &ReadContext,
    groups: &mut Groups<'s>,
) -> Result<()> {
    let Some(selection) = plan::select(entry, open, predicate)? else { return Ok(()) };
    let deleted = selection.deleted_in(selection.rows.clone()).map(|row| row as usize);
    let (time, metric) = (open.time()?, open.measure(METRIC)?);
    for row in deleted.filter(|row| selection.holds(*row)) {
        let group = groups.at(day_of(time.get(row)), codes.values(|_, keys| keys.code(row)), context);
        group.count -= 1;
        group.metric -= metric.map_or(0, |values| i128::from(values.get(row)));
        for (counter, sum) in group.counters.iter_mut().enumerate() {
            *sum -= open.measure(FIXED_MEASURES + counter)?.map_or(0, |values| i128::from(values.get(row)));
        }
    }
    Ok(())
}

/// Rollups under way: by day and values, whatever codes the segments have for them.
#[derive(Default)]
struct Groups<'v> {
    /// Places in `sums`.
    by_key: HashMap<Key<'v>, usize, foldhash::fast::RandomState>,
    sums: Vec<Group>,
    /// The key that is looked up; kept, so that only a new group allocates.
    key: Key<'v>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key<'v> {
    day: i64,
    dims: Vec<&'v str>,
}

/// Signed, because deleted rows are subtracted.
struct Group {
    count: i128,
    metric: i128,
    counters: Vec<i128>,
}

impl<'v> Groups<'v> {
    /// The group of a key; new ones are empty.
    fn at(&mut self, day: i64, dims: impl Iterator<Item = &'v str>, context: &ReadContext) -> &mut Group {
        self.key.day = day;
        self.key.dims.clear();
        self.key.dims.extend(dims);
        let known = self.by_key.get(&self.key).copied();
        let place = known.unwrap_or_else(|| {
            let place = self.sums.len();
            self.sums.push(Group { count: 0, metric: 0, counters: vec![0; context.shape.counters] });
            self.by_key.insert(self.key.clone(), place);
            place
        });
        &mut self.sums[place]
    }

    /// The groups that have rows, sorted.
    fn into_rows(self) -> Vec<RollupRow> {
        let mut keys: Vec<(Key<'v>, usize)> = self.by_key.into_iter().collect();
        keys.retain(|(_, place)| self.sums[*place].count > 0);
        keys.sort_unstable();
        let row = |(key, place): (Key<'_>, usize)| {
            let group = &self.sums[place];
            RollupRow {
                day: key.day,
                dims: key.dims.into_iter().map(str::to_owned).collect(),
                count: clamp_u64(group.count),
                metric: group.metric,
                counters: group.counters.iter().copied().map(clamp_u64).collect(),
            }
        };
        keys.into_iter().map(row).collect()
    }
}
