//! Count, sums and extremes of the rows of a predicate.
//!
//! Each segment answers by the cheapest means that is exact: header totals, running sums, value sums, the rows of the
//! rarest value, and only then chunk by chunk. [`scan`] is the slow twin of all of them.

use std::ops::Range;

use rayon::prelude::*;

use super::ReadContext;
use super::condition::{ALL_ROWS, Condition};
use super::explain::Tally;
use super::plan::{self, Outlook};
use super::select::{self, BlockSelection, Selection};
use crate::error::Result;
use crate::filter::Predicate;
use crate::format::block::Block;
use crate::format::numbers::Numbers;
use crate::kernels::{CHUNK_ROWS, Kernels, Mask};
use crate::state::version::{SegmentEntry, View};
use crate::storage::segment_reader::OpenSegment;
use crate::sums::{FIXED_MEASURES, LATENCY, LATENCY_DETAIL, METRIC, Measure, Sums};
use keplordb_log::planted::{self, Bug};

/// Rows to scan from which a query fans out. One core scans 1 to 2 rows per nanosecond where the zone maps decide
/// nothing, so this is 1 to 2 ms. Less gains little: scans of 0.5 ms came back no sooner from two cores that had other
/// work too, and callers who ask in parallel lose by it.
const FAN_OUT_ROWS: usize = 2 << 20;
/// Chunks that one task scans, 130 to 260 µs: large segments are shared out too.
const TASK_CHUNKS: usize = 1024;
/// Rows of a chunk up to which reading each costs less than a kernel over the chunk: a value takes about 3 ns, the two
/// kernels of a measure about 50 ns.
const SPARSE_ROWS: u32 = 16;
/// Rows that a scan gathers before it reads them, column by column.
const GATHERED_ROWS: usize = 4096;
/// Deleted rows per chunk from which a scan costs less than subtracting each of them.
const SUBTRACTED_ROWS_PER_CHUNK: usize = 8;

/// Adds up the rows of a view that match.
pub(crate) fn aggregate(
    view: &View,
    predicate: &Predicate<'_>,
    context: &ReadContext,
    tally: &mut Tally,
) -> Result<Sums> {
    aggregate_above(FAN_OUT_ROWS, view, predicate, context, tally)
}

/// Fans out from `fan_out_rows` rows to scan.
pub(crate) fn aggregate_above(
    fan_out_rows: usize,
    view: &View,
    predicate: &Predicate<'_>,
    context: &ReadContext,
    tally: &mut Tally,
) -> Result<Sums> {
    let mut total = Sums::empty(context.shape);
    let mut scratch = Scratch { sums: Sums::empty(context.shape), rows: Vec::new() };
    for block in select::blocks(view.memtables(), predicate) {
        tally.blocks += 1;
        tally.block_rows += block.block.rows() as u64;
        add_block(block, &mut scratch.rows, &mut total);
    }

    let rows: usize = view.segments().iter().map(|entry| entry.segment.header().rows as usize).sum();
    let mut scans = Scans { postpone: rows >= fan_out_rows, waiting: Vec::new(), rows: 0 };
    for entry in view.segments() {
        tally.segments += 1;
        add_segment(entry, predicate, context, &mut scratch, &mut scans, &mut total, tally)?;
    }
    let before = total.count;
    scans.run(fan_out_rows, predicate, context, &mut total)?;
    tally.rows_decoded += total.count - before;
    Ok(total)
}

/// What segments need one after the other, kept so that it is allocated once.
struct Scratch {
    sums: Sums,
    rows: Vec<u32>,
}

impl Scratch {
    /// Empty sums, of all measures of the table.
    fn fresh_sums(&mut self) -> &mut Sums {
        self.sums.count = 0;
        self.sums.measures.fill(Measure::default());
        &mut self.sums
    }
}

/// Scans that wait until it is known how many there are.
struct Scans<'v> {
    /// Whether the table is large enough to fan out at all; else every scan is done at once.
    postpone: bool,
    waiting: Vec<(&'v SegmentEntry, Range<usize>)>,
    rows: usize,
}

impl Scans<'_> {
    /// The segments are opened and resolved once more by whoever scans them: about a microsecond for each.
    fn run(
        &self,
        fan_out_rows: usize,
        predicate: &Predicate<'_>,
        context: &ReadContext,
        total: &mut Sums,
    ) -> Result<()> {
        if self.rows < fan_out_rows {
            for (entry, chunks) in &self.waiting {
                total.merge(&scan_chunks(entry, chunks.clone(), predicate, context)?);
            }
            return Ok(());
        }
        let fan_out = || {
            let sums = self.waiting.par_iter();
            let sums = sums.map(|(entry, chunks)| scan_chunks(entry, chunks.clone(), predicate, context));
            sums.try_reduce(
                || Sums::empty(context.shape),
                |mut sums, more| {
                    sums.merge(&more);
                    Ok(sums)
                },
            )
        };
        let sums = match &context.pool {
            Some(pool) => pool.install(fan_out),
            None => fan_out(),
        };
        total.merge(&sums?);
        Ok(())
    }
}

fn add_segment<'v>(
    entry: &'v SegmentEntry,
    predicate: &Predicate<'_>,
    context: &ReadContext,
    scratch: &mut Scratch,
    scans: &mut Scans<'v>,
    total: &mut Sums,
    tally: &mut Tally,
) -> Result<()> {
    let header = entry.segment.header();
    match plan::by_facts(header, predicate) {
        Outlook::Skip => {
            tally.pruned += 1;
            return Ok(());
        }
        Outlook::All if entry.deleted.is_none() && !predicate.by_scan => {
            tally.by_totals += 1;
            total.merge(&header.facts.totals);
            return Ok(());
        }
        Outlook::All | Outlook::Open => {}
    }
    let open = entry.segment.read()?;
    let Some(selection) = plan::select(entry, &open, predicate)? else {
        tally.pruned += 1;
        return Ok(());
    };

    let all_rows = selection.rows.len() == header.rows as usize;
    let sums = scratch.fresh_sums();
    let summed = !predicate.by_scan
        && few_deleted(&selection)
        && match &*selection.conditions {
            [] if all_rows => {
                tally.by_totals += 1;
                sums.merge(&header.facts.totals);
                true
            }
            [] => {
                tally.by_running_sums += 1;
                add_range(&open, selection.rows.clone(), sums)?;
                true
            }
            [Condition::Codes(codes)] if all_rows && codes.keys.has_value_sums() => {
                tally.by_value_sums += 1;
                codes.keys.add_value_sums(codes.set.ranges(), sums)
            }
            _ => false,
        };
    if summed {
        subtract_deleted(&open, &selection, context.kernels, &mut scratch.rows, &mut scratch.sums)?;
    } else if selection.list_rows(&mut scratch.rows) {
        tally.by_value_rows += 1;
        tally.rows_decoded += scratch.rows.len() as u64;
        add_rows(&open, context.kernels, &scratch.rows, &mut scratch.sums)?;
    } else if scans.postpone {
        let chunks = selection.chunks();
        tally.scanned += 1;
        tally.chunks_masked += chunks.len() as u64;
        scans.rows += chunks.len() * CHUNK_ROWS;
        // Texts are tested when a segment is resolved, which every task does for itself: then a segment is one task.
        let has_texts = predicate.rest.iter().any(|expr| expr.has_texts());
        let task_chunks = if has_texts { chunks.len().max(1) } else { TASK_CHUNKS };
        let tasks =
            chunks.clone().step_by(task_chunks).map(|first| first..chunks.end.min(first + task_chunks));
        scans.waiting.extend(tasks.map(|chunks| (entry, chunks)));
        return Ok(());
    } else {
        tally.scanned += 1;
        tally.chunks_masked += selection.chunks().len() as u64;
        tally.rows_decoded +=
            scan(&open, &selection, selection.chunks(), context.kernels, &mut scratch.sums)?;
    }
    total.merge(&scratch.sums);
    Ok(())
}

pub(super) fn few_deleted(selection: &Selection<'_>) -> bool {
    let most = selection.chunks().len() * SUBTRACTED_ROWS_PER_CHUNK;
    selection.deleted.is_none() || selection.deleted_in(selection.rows.clone()).nth(most).is_none()
}

/// Adds a range of rows by running sums and zone maps.
fn add_range(open: &OpenSegment<'_>, rows: Range<usize>, sums: &mut Sums) -> Result<()> {
    sums.count = rows.len() as u64;
    for (place, measure) in sums.measures.iter_mut().enumerate() {
        *measure = match open.measure(place)? {
            Some(values) => {
                let (min, max) = values.min_max(rows.clone()).unwrap_or((i64::MAX, i64::MIN));
                Measure { sum: values.sum(rows.clone()), min, max }
            }
            None => ZERO,
        };
    }
    Ok(())
}

/// Adds rows one by one.
fn add_rows(open: &OpenSegment<'_>, kernels: &Kernels, rows: &[u32], sums: &mut Sums) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sums.count += rows.len() as u64;
    for (place, measure) in sums.measures.iter_mut().enumerate() {
        match open.measure(place)? {
            Some(values) => {
                if let Some((sum, min, max)) = values.measure_rows(kernels, rows) {
                    measure.merge(&Measure { sum, min, max });
                }
            }
            None => measure.merge(&ZERO),
        }
    }
    Ok(())
}

/// A measure of rows that lack the column.
const ZERO: Measure = Measure { sum: 0, min: 0, max: 0 };

/// Takes the deleted rows out of sums that the segment had ready, and looks for new extremes where theirs are gone.
fn subtract_deleted(
    open: &OpenSegment<'_>,
    selection: &Selection<'_>,
    kernels: &Kernels,
    deleted: &mut Vec<u32>,
    sums: &mut Sums,
) -> Result<()> {
    if selection.deleted.is_none() {
        return Ok(());
    }
    deleted.clear();
    deleted.extend(selection.deleted_in(selection.rows.clone()).filter(|row| selection.holds(*row as usize)));
    if deleted.is_empty() || planted::is(Bug::SumsNotCorrected) {
        return Ok(());
    }
    // They were all counted, unless the file's sums are false: then the count must not wrap either.
    sums.count = sums.count.saturating_sub(deleted.len() as u64);
    if sums.count == 0 {
        sums.measures.fill(Measure::default());
        return Ok(());
    }
    for (place, measure) in sums.measures.iter_mut().enumerate() {
        let Some(values) = open.measure(place)? else { continue };
        let mut extreme_gone = false;
        for row in &*deleted {
            let value = values.get(*row as usize);
            measure.sum -= i128::from(value);
            extreme_gone |= value <= measure.min || measure.max <= value;
        }
        if extreme_gone {
            let known = (measure.min, measure.max);
            (measure.min, measure.max) = selection.min_max(kernels, &values, known).unwrap_or(known);
        }
    }
    Ok(())
}

/// Adds the selected rows of `chunks`, without the help of any sum but those of chunks that are selected whole; how many.
fn scan(
    open: &OpenSegment<'_>,
    selection: &Selection<'_>,
    chunks: Range<usize>,
    kernels: &Kernels,
    sums: &mut Sums,
) -> Result<u64> {
    let before = sums.count;
    let columns: Vec<Option<Numbers<'_>>> =
        (0..sums.measures.len()).map(|place| open.measure(place)).collect::<Result<_>>()?;
    let mut gathered = Vec::new();
    let whole = selection.whole_chunks(&chunks);
    add_whole(&columns, whole.clone(), selection.by_scan, kernels, sums);
    for chunk in (chunks.start..whole.start).chain(whole.end..chunks.end) {
        let mask = selection.mask(kernels, chunk);
        let count = (kernels.count)(&mask);
        if count as usize == CHUNK_ROWS {
            add_whole(&columns, chunk..chunk + 1, selection.by_scan, kernels, sums);
        } else if count > SPARSE_ROWS {
            add_masked(&columns, chunk, &mask, count, kernels, sums);
        } else {
            select::push_rows(&mask, chunk, &mut gathered);
            if gathered.len() >= GATHERED_ROWS {
                add_rows(open, kernels, &gathered, sums)?;
                gathered.clear();
            }
        }
    }
    add_rows(open, kernels, &gathered, sums)?;
    Ok(sums.count - before)
}

/// Adds all rows of some chunks, column by column: by their sums, unless every row is to be looked at.
fn add_whole(
    columns: &[Option<Numbers<'_>>],
    chunks: Range<usize>,
    by_scan: bool,
    kernels: &Kernels,
    sums: &mut Sums,
) {
    if chunks.is_empty() {
        return;
    }
    let rows = chunks.start * CHUNK_ROWS..chunks.end * CHUNK_ROWS;
    sums.count += rows.len() as u64;
    for (measure, values) in sums.measures.iter_mut().zip(columns) {
        let Some(values) = values else {
            measure.merge(&ZERO);
            continue;
        };
        if by_scan {
            measure.sum += values.sum_chunks(kernels, chunks.clone());
            chunks.clone().for_each(|chunk| widen(measure, values, chunk, &ALL_ROWS, kernels));
        } else if let Some((min, max)) = values.min_max(rows.clone()) {
            measure.merge(&Measure { sum: values.sum(rows.clone()), min, max });
        }
    }
}

/// Adds the rows of a chunk that are set in a mask, `count` of them.
fn add_masked(
    columns: &[Option<Numbers<'_>>],
    chunk: usize,
    mask: &Mask,
    count: u32,
    kernels: &Kernels,
    sums: &mut Sums,
) {
    sums.count += u64::from(count);
    for (measure, values) in sums.measures.iter_mut().zip(columns) {
        let Some(values) = values else {
            measure.merge(&ZERO);
            continue;
        };
        measure.sum += values.masked_sum(kernels, chunk, mask);
        widen(measure, values, chunk, mask, kernels);
    }
}

/// Looks for extremes beyond those of a measure among the rows of a chunk that are set in a mask.
#[inline]
fn widen(measure: &mut Measure, values: &Numbers<'_>, chunk: usize, mask: &Mask, kernels: &Kernels) {
    if (values.chunk_min(chunk) < measure.min || measure.max < values.chunk_max(chunk))
        && let Some((min, max)) = values.masked_min_max(kernels, chunk, mask)
    {
        measure.min = measure.min.min(min);
        measure.max = measure.max.max(max);
    }
}

/// Opens and scans some chunks of a segment.
fn scan_chunks(
    entry: &SegmentEntry,
    chunks: Range<usize>,
    predicate: &Predicate<'_>,
    context: &ReadContext,
) -> Result<Sums> {
    let mut sums = Sums::empty(context.shape);
    let open = entry.segment.read()?;
    if let Some(selection) = plan::select(entry, &open, predicate)? {
        scan(&open, &selection, chunks, context.kernels, &mut sums)?;
    }
    Ok(sums)
}

/// Scans all of a segment: what every fast path is held to.
#[cfg(test)]
pub(crate) fn scan_whole(
    entry: &SegmentEntry,
    predicate: &Predicate<'_>,
    context: &ReadContext,
) -> Result<Sums> {
    let header = entry.segment.header();
    if plan::by_facts(header, predicate) == Outlook::Skip {
        return Ok(Sums::empty(context.shape));
    }
    scan_chunks(entry, 0..(header.rows as usize).div_ceil(CHUNK_ROWS), predicate, context)
}

fn add_block(selection: BlockSelection<'_>, rows: &mut Vec<u32>, total: &mut Sums) {
    let block = selection.block;
    if selection.is_everything() {
        total.merge(&block.summary().totals);
        return;
    }
    rows.clear();
    rows.extend(selection.rows().filter_map(|row| u32::try_from(row).ok()));
    if rows.is_empty() {
        return;
    }
    total.count += rows.len() as u64;
    for (place, measure) in total.measures.iter_mut().enumerate() {
        add_block_column(block, place, rows, measure);
    }
}

fn add_block_column(block: &Block, place: usize, rows: &[u32], measure: &mut Measure) {
    let mut add_u32 =
        |values: &[u32]| rows.iter().for_each(|row| measure.add(i64::from(values[*row as usize])));
    match place {
        LATENCY => add_u32(block.latency()),
        LATENCY_DETAIL => add_u32(block.latency_detail()),
        METRIC => rows.iter().for_each(|row| measure.add(block.metric()[*row as usize])),
        counter => match block.counter(counter - FIXED_MEASURES) {
            Some(values) => add_u32(values),
            None => measure.merge(&ZERO),
        },
    }
}
