//! How one segment answers a question for groups, cheapest means first:
//! 1. its header, where all rows belong to one group;
//! 2. running sums between the rows where a bucket begins and ends, and for distinct values the first and last times of
//!    the dictionary's values, where keys do not tell rows apart;
//! 3. the sums of a dictionary's values, where one key does;
//! 4. the rows of the rarest value of a condition, one by one;
//! 5. all rows, chunk by chunk.
//!
//! Deleted rows are subtracted where only counts and sums are asked for, and send the segment to 4 or 5 otherwise.

use std::ops::Range;

use super::accumulate::{Accumulator, Rows, Scratch, SegmentSource};
use super::{Ready, Ways};
use crate::error::Result;
use crate::expr::KeyColumn;
use crate::filter::Predicate;
use crate::format::keys::Keys;
use crate::format::numbers::Numbers;
use crate::kernels::CHUNK_ROWS;
use crate::read::aggregate::few_deleted;
use crate::read::condition::Condition;
use crate::read::explain::Tally;
use crate::read::plan::{self, Outlook};
use crate::read::remap::IdTable;
use crate::read::select::{Selection, push_rows};
use crate::storage::segment_reader::OpenSegment;
use crate::sums::Measure;

/// Rows for each bucket that there may be, from which running sums cost less than looking at the rows.
const ROWS_PER_BUCKET: u128 = 32;
/// Rows that are looked at in the time that one posting is searched.
const ROWS_PER_SEARCH: usize = 24;
/// Rows of a chunk up to which they are read one by one, together with those of other chunks.
const SPARSE_ROWS: u32 = 16;
/// Rows that are gathered before they are read.
const GATHERED_ROWS: usize = 2048;
/// Chunks that one task scans.
const TASK_CHUNKS: usize = 512;

/// A measure of rows that lack the column.
const ZERO: Measure = Measure { sum: 0, min: 0, max: 0 };

/// A segment, by its place in the view, and the chunks of it that are to be scanned.
#[derive(Debug)]
pub(super) struct ScanTask {
    pub(super) place: usize,
    pub(super) chunks: Range<usize>,
}

impl ScanTask {
    pub(super) fn rows(&self) -> usize {
        self.chunks.len() * CHUNK_ROWS
    }

    /// Parts for several threads. Each resolves the predicate again: a segment stays whole where that tests texts.
    pub(super) fn split(self, predicate: &Predicate<'_>) -> impl Iterator<Item = Self> {
        let Self { place, chunks } = self;
        let tests_texts = predicate.rest.iter().any(|expr| expr.has_texts());
        let most = if tests_texts { chunks.len().max(1) } else { TASK_CHUNKS };
        chunks
            .clone()
            .step_by(most)
            .map(move |first| Self { place, chunks: first..chunks.end.min(first + most) })
    }
}

/// A key column of a segment; `None` when the segment is older than the column.
pub(super) fn keys_of<'s>(open: &'s OpenSegment<'_>, column: KeyColumn) -> Result<Option<Keys<'s>>> {
    match column {
        KeyColumn::Status => open.status().map(Some),
        KeyColumn::Dim(dim) => open.dim(dim),
    }
}

/// Adds what a segment has, or returns the chunks that have to be scanned for it.
pub(super) fn add<'q>(
    place: usize,
    ways: Ways,
    ready: &'q Ready<'q>,
    groups: &mut Accumulator<'q>,
    scratch: &mut Scratch,
    tally: &mut Tally,
) -> Result<Option<Range<usize>>> {
    let entry = &ready.view.segments()[place];
    let facts = &entry.segment.header().facts;
    let outlook = plan::by_facts(entry.segment.header(), ready.predicate);
    if outlook == Outlook::Skip {
        tally.pruned += 1;
        return Ok(None);
    }
    // Where the bucket begins that all rows are in.
    let one_bucket = match ready.buckets {
        None => Some(0),
        Some(buckets) => {
            let (start, last) = buckets.span(facts.ts_min);
            (facts.ts_max <= last).then_some(start)
        }
    };
    let tables = ready.columns.iter().map(|column| column.known(place));
    let Some(tables) = tables.collect::<Option<Vec<_>>>() else {
        debug_assert!(false, "every segment that is not skipped was given ids before");
        return Ok(None);
    };
    let keys = SegmentKeys::new(&tables, one_bucket, ready);

    if let (Outlook::All, None, Some(start), (None, _), true, false) =
        (outlook, &entry.deleted, one_bucket, keys.varying, ready.needs.is_summed(), ways.only_scans)
    {
        let group = groups.group(start, &keys.first_ids());
        groups.add_totals(group, facts);
        tally.by_totals += 1;
        return Ok(None);
    }

    let open = entry.segment.read()?;
    let Some(selection) = plan::select(entry, &open, ready.predicate)? else {
        tally.pruned += 1;
        return Ok(None);
    };
    if !ways.only_scans && add_by_sums(&open, &selection, &keys, groups, tally)? {
        let deleted = selection.deleted_in(selection.rows.clone());
        let deleted: Vec<u32> = deleted.filter(|row| selection.holds(*row as usize)).collect();
        if !deleted.is_empty() {
            let source = source(&open, &tables, ready)?;
            for rows in deleted.chunks(GATHERED_ROWS) {
                groups.subtract_rows(&source, Rows::List { rows, chunk: None }, scratch);
            }
            tally.rows_decoded += deleted.len() as u64;
        }
        return Ok(None);
    }
    let mut listed = Vec::new();
    if !ways.only_scans && selection.list_rows(&mut listed) {
        let source = source(&open, &tables, ready)?;
        for rows in listed.chunks(GATHERED_ROWS) {
            groups.add_rows(&source, Rows::List { rows, chunk: None }, scratch);
            groups.ask_to_go_on()?;
        }
        tally.rows_decoded += listed.len() as u64;
        tally.by_value_rows += 1;
        return Ok(None);
    }
    tally.scanned += 1;
    if ways.fans_out {
        return Ok(Some(selection.chunks()));
    }
    scan_chunks(&source(&open, &tables, ready)?, &selection, selection.chunks(), groups, scratch, tally)?;
    Ok(None)
}

/// What tells the groups of a segment apart.
struct SegmentKeys<'t> {
    /// Per key, the ids of its codes.
    keys: &'t [&'t IdTable],
    /// The same of the columns whose distinct values are counted.
    counted: &'t [&'t IdTable],
    /// Where the bucket begins that all rows are in.
    one_bucket: Option<i64>,
    /// The first two keys that have more than one value.
    varying: (Option<usize>, Option<usize>),
}

impl<'t> SegmentKeys<'t> {
    fn new(tables: &'t [&'t IdTable], one_bucket: Option<i64>, ready: &Ready<'_>) -> Self {
        let (keys, counted) = tables.split_at(ready.packing.keys());
        let mut varying = keys.iter().enumerate().filter(|(_, table)| table.len() > 1).map(|(key, _)| key);
        Self { keys, counted, one_bucket, varying: (varying.next(), varying.next()) }
    }

    /// The ids of the keys' first values: of those that do not vary, the only ones.
    fn first_ids(&self) -> Vec<u32> {
        self.keys.iter().map(|table| table[0]).collect()
    }
}

/// Adds a segment by running sums or the sums of a dictionary's values, deleted rows included. `false`, and nothing is
/// added, where these do not give what is asked for.
fn add_by_sums(
    open: &OpenSegment<'_>,
    selection: &Selection<'_>,
    keys: &SegmentKeys<'_>,
    groups: &mut Accumulator<'_>,
    tally: &mut Tally,
) -> Result<bool> {
    let needs = groups.ready.needs;
    let any_deleted = selection.deleted_in(selection.rows.clone()).next().is_some();
    if any_deleted && !(needs.is_subtractable() && few_deleted(selection)) {
        return Ok(false);
    }
    let all_rows = selection.rows.len() == open.rows();
    match (&*selection.conditions, keys.varying) {
        ([], (None, _)) if needs.quantiles.is_empty() => {
            let summed = add_ranges(open, selection, keys, groups)?;
            match summed {
                None => {}
                Some(0) if needs.distinct == 0 => tally.by_running_sums += 1,
                Some(0) => tally.by_value_sums += 1,
                Some(rows) => {
                    tally.scanned += 1;
                    tally.rows_decoded += rows;
                }
            }
            Ok(summed.is_some())
        }
        ([], (Some(key), None)) if all_rows && needs.is_summed() => {
            let summed = match (keys.one_bucket, keys_of(open, needs.keys[key])?) {
                (Some(start), Some(column)) => {
                    add_values(&column, start, key, &keys.first_ids(), keys.keys[key], groups)
                }
                _ => false,
            };
            tally.by_value_sums += u64::from(summed);
            Ok(summed)
        }
        ([Condition::Codes(codes)], (key, None)) if all_rows && needs.is_summed() => {
            // The rows of a code are one group where no other column tells them apart.
            let is_told_by_codes = match key {
                None => true,
                Some(key) => {
                    keys_of(open, needs.keys[key])?.is_some_and(|column| column.is_same(&codes.keys))
                }
            };
            let Some(start) = keys.one_bucket else { return Ok(false) };
            if !is_told_by_codes || !sums_up(&codes.keys, groups) {
                return Ok(false);
            }
            let mut ids = keys.first_ids();
            for code in codes.set.iter() {
                if let Some(key) = key {
                    ids[key] = keys.keys[key][code as usize];
                }
                let group = groups.group(start, &ids);
                groups.add_value(&codes.keys, code, group);
            }
            tally.by_value_sums += 1;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Opens the columns that a query needs.
fn source<'s>(
    open: &'s OpenSegment<'_>,
    tables: &[&'s IdTable],
    ready: &Ready<'_>,
) -> Result<SegmentSource<'s>> {
    let needs = ready.needs;
    let time = if ready.buckets.is_some() { Some(open.time()?) } else { None };
    let numbers = needs.numbers.iter().map(|column| open.numbers(*column)).collect::<Result<_>>()?;
    let mut keys = Vec::with_capacity(tables.len());
    for (column, table) in needs.keys.iter().zip(tables) {
        keys.push((keys_of(open, *column)?.map(|keys| keys.codes()), *table));
    }
    Ok(SegmentSource { time, numbers, keys })
}

/// Adds the rows between two buckets' beginnings at once; of how many rows codes were read for it. `None`, and nothing is
/// added, where buckets are too many.
fn add_ranges(
    open: &OpenSegment<'_>,
    selection: &Selection<'_>,
    keys: &SegmentKeys<'_>,
    groups: &mut Accumulator<'_>,
) -> Result<Option<u64>> {
    let (ready, needs) = (groups.ready, groups.ready.needs);
    let (ids, one_bucket) = (keys.first_ids(), keys.one_bucket);
    let numbers: Vec<Option<Numbers<'_>>> =
        needs.extents.iter().map(|extent| open.numbers(extent.column)).collect::<Result<_>>()?;
    let mut columns = Vec::with_capacity(keys.counted.len());
    for (column, table) in needs.keys[ready.packing.keys()..].iter().zip(keys.counted) {
        columns.push((keys_of(open, *column)?, *table));
    }
    let time = open.time()?;
    let rows = &selection.rows;
    let buckets = match (one_bucket, ready.buckets) {
        (None, Some(buckets)) => {
            let (first, last) = (time.get(rows.start), time.get(rows.end - 1));
            if buckets.count(first, last).saturating_mul(ROWS_PER_BUCKET) > rows.len() as u128 {
                return Ok(None);
            }
            Some(buckets)
        }
        _ => None,
    };
    let (mut next, mut read_rows) = (rows.start, 0);
    while next < rows.end {
        let (start, end) = match buckets {
            None => (one_bucket.unwrap_or(0), rows.end),
            Some(buckets) => {
                let (start, last) = buckets.span(time.get(next));
                let after = last.checked_add(1);
                (start, after.map_or(rows.end, |after| time.partition_point(after, next..rows.end)))
            }
        };
        // At least one row, even if the file's times do not ascend as they should.
        let range = next..end.max(next + 1);
        next = range.end;
        let group = groups.group(start, &ids);
        groups.add_count(group, range.len() as u64);
        for (place, (extent, numbers)) in needs.extents.iter().zip(&numbers).enumerate() {
            let measure = match numbers {
                None => ZERO,
                Some(numbers) => {
                    let sum = if extent.sum { numbers.sum(range.clone()) } else { 0 };
                    let (min, max) = if extent.min || extent.max {
                        numbers.min_max(range.clone()).unwrap_or((i64::MAX, i64::MIN))
                    } else {
                        (0, 0)
                    };
                    Measure { sum, min, max }
                }
            };
            groups.add_extent(place, group, &measure);
        }
        for (place, (column, table)) in columns.iter().enumerate() {
            match column {
                None => groups.add_distinct(place, group, table[0]),
                Some(column) => {
                    read_rows += codes_in(column, &time, range.clone(), |code| {
                        if let Some(id) = table.get(code as usize) {
                            groups.add_distinct(place, group, *id);
                        }
                    });
                }
            }
        }
    }
    Ok(Some(read_rows))
}

/// Gives the codes that a range of rows has to `each`, some of them more than once; how many rows it read for that. All
/// rows of a time are in the range, or none.
fn codes_in(keys: &Keys<'_>, time: &Numbers<'_>, rows: Range<usize>, mut each: impl FnMut(u32)) -> u64 {
    if rows.len() == time.rows() {
        (0..keys.values()).for_each(each);
        return 0;
    }
    let (Ok(start), Ok(end)) = (u32::try_from(rows.start), u32::try_from(rows.end)) else { return 0 };
    let (from, to) = (time.get(rows.start), time.get(rows.end - 1));
    let mut undecided = Vec::new();
    let times = keys.first_times().zip(keys.last_times()).filter(|_| (keys.values() as usize) < rows.len());
    if let Some((firsts, lasts)) = times {
        for code in 0..keys.values() {
            let place = code as usize;
            let (Some(first), Some(last)) = (firsts.get_i64(place), lasts.get_i64(place)) else { continue };
            if last < from || to < first {
                continue;
            }
            if from <= first || last <= to {
                each(code);
            } else {
                undecided.push(code);
            }
        }
    }
    if times.is_some() && undecided.len() * ROWS_PER_SEARCH < rows.len() {
        for code in undecided {
            if keys.postings(code).is_some_and(|postings| postings.rows_in(start..end).next().is_some()) {
                each(code);
            }
        }
        return 0;
    }
    let codes = keys.codes();
    let mut values = [0; CHUNK_ROWS];
    for chunk in rows.start / CHUNK_ROWS..rows.end.div_ceil(CHUNK_ROWS) {
        codes.read_chunk(chunk, &mut values);
        let first = chunk * CHUNK_ROWS;
        let own = rows.start.max(first) - first..rows.end.min(first + CHUNK_ROWS) - first;
        // Codes were checked to be below the number of values.
        values[own].iter().for_each(|code| each(u32::try_from(*code).unwrap_or(u32::MAX)));
    }
    rows.len() as u64
}

/// Whether a dictionary sums up all that is needed. Only counts are there without value sums; not even they are of a column
/// with hardly a value twice.
fn sums_up(keys: &Keys<'_>, groups: &Accumulator<'_>) -> bool {
    keys.has_value_sums() || keys.counts().is_some() && groups.ready.needs.extents.is_empty()
}

/// Adds a whole segment by the sums of the values of one key. `false`, and nothing is added, if it does not have them.
fn add_values(
    keys: &Keys<'_>,
    start: i64,
    key: usize,
    ids: &[u32],
    table: &IdTable,
    groups: &mut Accumulator<'_>,
) -> bool {
    if !sums_up(keys, groups) {
        return false;
    }
    if groups.table.is_direct() {
        // A group has the number of its id.
        groups.meet(table);
        groups.add_values(keys, table);
    } else {
        let mut places = Vec::new();
        groups.groups_of(start, ids, key, table, &mut places);
        groups.add_values(keys, &places);
    }
    true
}

/// Opens and scans some chunks of a segment.
pub(super) fn scan<'q>(
    task: &ScanTask,
    ready: &'q Ready<'q>,
    groups: &mut Accumulator<'q>,
    scratch: &mut Scratch,
    tally: &mut Tally,
) -> Result<()> {
    let entry = &ready.view.segments()[task.place];
    let open = entry.segment.read()?;
    let Some(selection) = plan::select(entry, &open, ready.predicate)? else { return Ok(()) };
    let tables: Vec<&IdTable> = ready.columns.iter().filter_map(|column| column.known(task.place)).collect();
    let source = source(&open, &tables, ready)?;
    scan_chunks(&source, &selection, task.chunks.clone(), groups, scratch, tally)
}

/// Looks at all selected rows of some chunks.
fn scan_chunks(
    source: &SegmentSource<'_>,
    selection: &Selection<'_>,
    chunks: Range<usize>,
    groups: &mut Accumulator<'_>,
    scratch: &mut Scratch,
    tally: &mut Tally,
) -> Result<()> {
    let kernels = groups.ready.context.kernels;
    // Rows of chunks that have few: read together, column by column.
    let mut gathered = Vec::new();
    for chunk in chunks {
        groups.ask_to_go_on()?;
        let mask = selection.mask(kernels, chunk);
        let count = (kernels.count)(&mask);
        tally.chunks_masked += 1;
        tally.rows_decoded += u64::from(count);
        if count > SPARSE_ROWS {
            groups.add_chunk(source, chunk, &mask, count, scratch);
            continue;
        }
        push_rows(&mask, chunk, &mut gathered);
        if gathered.len() >= GATHERED_ROWS {
            groups.add_rows(source, Rows::List { rows: &gathered, chunk: None }, scratch);
            gathered.clear();
        }
    }
    groups.add_rows(source, Rows::List { rows: &gathered, chunk: None }, scratch);
    groups.ask_to_go_on()
}
