//! What each group has so far, column by column: only what the aggregates need.

use super::buckets::Buckets;
use super::table::GroupTable;
use super::{Aggregate, GroupQuery, Ready};
use crate::error::Result;
use crate::expr::{KeyColumn, NumberColumn};
use crate::format::block::{Block, Summary};
use crate::format::keys::Keys;
use crate::format::numbers::Numbers;
use crate::format::segment::Facts;
use crate::kernels::{CHUNK_ROWS, Mask};
use crate::read::distinct::IdSets;
use crate::read::remap::IdTable;
use crate::read::select::{first_row, push_rows};
use crate::read::sketch::Quantiles;
use crate::state::version::View;
use crate::sums::{FIXED_MEASURES, LATENCY, LATENCY_DETAIL, METRIC, Measure, Sums};

/// What the aggregates of a query need, each thing once.
#[derive(Debug)]
pub(super) struct Needs {
    /// The keys, then the columns of `distinct`.
    pub(super) keys: Vec<KeyColumn>,
    pub(super) count: bool,
    /// The columns of `extents` and of `quantiles`.
    pub(super) numbers: Vec<NumberColumn>,
    pub(super) extents: Vec<Extent>,
    pub(super) quantiles: Vec<NumberColumn>,
    /// Place in `numbers` of each of `quantiles`.
    pub(super) quantile_numbers: Vec<usize>,
    /// How many of `keys` are counted, not grouped by.
    pub(super) distinct: usize,
    pub(super) outputs: Vec<Output>,
}

/// What is needed of one column: some of its sum, minimum and maximum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Its place in the needed numbers.
    pub(super) number: usize,
    pub(super) column: NumberColumn,
    pub(super) sum: bool,
    pub(super) min: bool,
    pub(super) max: bool,
}

/// Where an aggregate is found, by place among what is needed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    Count,
    Sum(usize),
    Min(usize),
    Max(usize),
    Mean(usize),
    Quantile(usize, f64),
    Distinct(usize),
}

impl Needs {
    pub(super) fn new(query: &GroupQuery, view: &View) -> Self {
        let any_deleted = view.segments().iter().any(|entry| entry.deleted.is_some());
        let one_group = query.keys.is_empty() && query.buckets.is_none();
        let mut needs = Self {
            keys: query.keys.clone(),
            // Where rows are subtracted the count tells whether any is left; so it does for the group that is always there.
            count: any_deleted || one_group,
            numbers: Vec::new(),
            extents: Vec::new(),
            quantiles: Vec::new(),
            quantile_numbers: Vec::new(),
            distinct: 0,
            outputs: Vec::new(),
        };
        for aggregate in &query.aggregates {
            let output = match *aggregate {
                Aggregate::Count => {
                    needs.count = true;
                    Output::Count
                }
                Aggregate::Sum(column) => Output::Sum(needs.extent(column, |extent| &mut extent.sum)),
                Aggregate::Min(column) => Output::Min(needs.extent(column, |extent| &mut extent.min)),
                Aggregate::Max(column) => Output::Max(needs.extent(column, |extent| &mut extent.max)),
                Aggregate::Mean(column) => {
                    needs.count = true;
                    Output::Mean(needs.extent(column, |extent| &mut extent.sum))
                }
                Aggregate::Quantile(column, q) => {
                    let place = place_of(&mut needs.quantiles, column);
                    if place == needs.quantile_numbers.len() {
                        let number = place_of(&mut needs.numbers, column);
                        needs.quantile_numbers.push(number);
                    }
                    Output::Quantile(place, q)
                }
                Aggregate::Distinct(column) => {
                    let counted = &needs.keys[query.keys.len()..];
                    let place = counted.iter().position(|known| *known == column);
                    Output::Distinct(place.unwrap_or_else(|| {
                        needs.keys.push(column);
                        needs.distinct += 1;
                        needs.distinct - 1
                    }))
                }
            };
            needs.outputs.push(output);
        }
        needs
    }

    fn extent(&mut self, column: NumberColumn, part: impl Fn(&mut Extent) -> &mut bool) -> usize {
        let known = self.extents.iter().position(|extent| extent.column == column);
        let place = known.unwrap_or_else(|| {
            let number = place_of(&mut self.numbers, column);
            self.extents.push(Extent { number, column, sum: false, min: false, max: false });
            self.extents.len() - 1
        });
        *part(&mut self.extents[place]) = true;
        place
    }

    /// Whether all that is needed is what headers and dictionaries sum up: of measures, and of times the extremes.
    pub(super) fn is_summed(&self) -> bool {
        let is_summed = |extent: &Extent| {
            measure_of(extent.column).is_some() || extent.column == NumberColumn::Time && !extent.sum
        };
        self.has_only_extents() && self.extents.iter().all(is_summed)
    }

    /// Whether neither quantiles nor distinct values are needed.
    pub(super) fn has_only_extents(&self) -> bool {
        self.quantiles.is_empty() && self.distinct == 0
    }

    /// Whether all that is needed can be corrected for deleted rows by subtracting them.
    pub(super) fn is_subtractable(&self) -> bool {
        self.has_only_extents() && self.extents.iter().all(|extent| !extent.min && !extent.max)
    }
}

fn place_of<T: PartialEq>(all: &mut Vec<T>, wanted: T) -> usize {
    all.iter().position(|known| *known == wanted).unwrap_or_else(|| {
        all.push(wanted);
        all.len() - 1
    })
}

/// The place of a column among the measures.
pub(super) fn measure_of(column: NumberColumn) -> Option<usize> {
    match column {
        NumberColumn::Metric => Some(METRIC),
        NumberColumn::Latency => Some(LATENCY),
        NumberColumn::LatencyDetail => Some(LATENCY_DETAIL),
        NumberColumn::Counter(counter) => Some(FIXED_MEASURES + counter),
        NumberColumn::Time | NumberColumn::Sequence | NumberColumn::Flags => None,
    }
}

/// A measure of rows that lack the column.
const ZERO: Measure = Measure { sum: 0, min: 0, max: 0 };

/// What totals say of a measure, or of times.
fn extent_of(column: NumberColumn, times: (i64, i64), totals: &Sums) -> Measure {
    match measure_of(column) {
        Some(place) => totals.measures.get(place).copied().unwrap_or(ZERO),
        None => Measure { sum: 0, min: times.0, max: times.1 },
    }
}

/// The smallest and the largest value of a column in a segment that has rows; or what all values lie between.
pub(super) fn bounds_of(facts: &Facts, column: NumberColumn) -> (i64, i64) {
    match column {
        NumberColumn::Sequence => (facts.sequence_min as i64, facts.sequence_max as i64),
        NumberColumn::Flags => (0, i64::from(u16::MAX)),
        column => {
            let extent = extent_of(column, (facts.ts_min, facts.ts_max), &facts.totals);
            (extent.min, extent.max)
        }
    }
}

/// The same of a block that has rows.
pub(super) fn bounds_of_block(block: &Block, column: NumberColumn) -> Option<(i64, i64)> {
    let summary = block.summary();
    match column {
        NumberColumn::Sequence => Some((*block.sequence().first()? as i64, *block.sequence().last()? as i64)),
        NumberColumn::Flags => Some((0, i64::from(u16::MAX))),
        column => {
            let extent = extent_of(column, (summary.ts_min, summary.ts_max), &summary.totals);
            Some((extent.min, extent.max))
        }
    }
}

/// Where rows are read from: a segment or a block.
pub(super) trait Source {
    /// Two times between which those of rows, of one chunk if it is given, lie; if that is known without reading them.
    fn times_within(&self, chunk: Option<usize>) -> Option<(i64, i64)>;
    /// Appends the times of rows.
    fn times(&self, rows: Rows<'_>, target: &mut Vec<i64>);
    /// The needed number at `place`, where it is a column of chunks.
    fn numbers(&self, place: usize) -> Option<&Numbers<'_>>;
    /// Appends the values of the needed number at `place`.
    fn values(&self, place: usize, rows: Rows<'_>, target: &mut Vec<i64>);
    /// Appends the ids of the needed key at `place`.
    fn ids(&self, place: usize, rows: Rows<'_>, target: &mut Vec<u32>);
}

/// Some rows, ascending: not more than a few thousand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows<'r> {
    /// All rows of a range, which do not lie in more than one chunk.
    Run { first: u32, len: u32 },
    /// Any rows: of one chunk, if it is given.
    List { rows: &'r [u32], chunk: Option<usize> },
}

impl Rows<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Run { len, .. } => *len as usize,
            Self::List { rows, .. } => rows.len(),
        }
    }

    fn chunk(&self) -> Option<usize> {
        match self {
            Self::Run { first, .. } => Some(*first as usize / CHUNK_ROWS),
            Self::List { chunk, .. } => *chunk,
        }
    }

    /// Appends what `map` makes of the values that the rows have in a slice.
    fn map<V: Copy, T>(&self, values: &[V], map: impl Fn(V) -> T, target: &mut Vec<T>) {
        match *self {
            Self::Run { first, len } => {
                target.extend(values[first as usize..][..len as usize].iter().map(|value| map(*value)));
            }
            Self::List { rows, .. } => target.extend(rows.iter().map(|row| map(values[*row as usize]))),
        }
    }
}

/// What adding rows needs, kept so that it is allocated once.
#[derive(Default)]
pub(super) struct Scratch {
    groups: Vec<u32>,
    values: Vec<i64>,
    /// Per key, ids of the rows.
    ids: Vec<Vec<u32>>,
    rows: Vec<u32>,
}

/// A segment opened for a query: its columns, in the order in which they are needed.
pub(super) struct SegmentSource<'s> {
    pub(super) time: Option<Numbers<'s>>,
    /// `None` where the segment is older than the column.
    pub(super) numbers: Vec<Option<Numbers<'s>>>,
    /// Codes, if the segment has the column, and their ids.
    pub(super) keys: Vec<(Option<Numbers<'s>>, &'s IdTable)>,
}

/// Appends what `map` makes of the values of rows.
fn read<T: Clone>(numbers: &Numbers<'_>, rows: Rows<'_>, map: impl Fn(i64) -> T, target: &mut Vec<T>) {
    match rows {
        Rows::Run { first, len } => numbers.map_range(first as usize..(first + len) as usize, map, target),
        Rows::List { rows, .. } => numbers.map_rows(rows, map, target),
    }
}

/// Codes fit: a segment has fewer than 2³² rows.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a checked code is below the number of its dictionary's values"
)]
fn place_of_code(code: i64) -> usize {
    code as usize
}

impl Source for SegmentSource<'_> {
    fn times_within(&self, chunk: Option<usize>) -> Option<(i64, i64)> {
        let (time, chunk) = (self.time.as_ref()?, chunk?);
        Some((time.chunk_min(chunk), time.chunk_max(chunk)))
    }

    fn times(&self, rows: Rows<'_>, target: &mut Vec<i64>) {
        if let Some(time) = &self.time {
            read(time, rows, |ts| ts, target);
        }
    }

    fn numbers(&self, place: usize) -> Option<&Numbers<'_>> {
        self.numbers[place].as_ref()
    }

    fn values(&self, place: usize, rows: Rows<'_>, target: &mut Vec<i64>) {
        match &self.numbers[place] {
            Some(numbers) => read(numbers, rows, |value| value, target),
            None => target.resize(target.len() + rows.len(), 0),
        }
    }

    fn ids(&self, place: usize, rows: Rows<'_>, target: &mut Vec<u32>) {
        let (codes, table) = &self.keys[place];
        let table: &[u32] = table;
        match codes {
            // Codes were checked to have a place in their dictionary, which the table is of.
            Some(codes) => read(codes, rows, |code| table[place_of_code(code)], target),
            None => target.resize(target.len() + rows.len(), table[0]),
        }
    }
}

/// A block opened for a query.
pub(super) struct BlockSource<'s> {
    pub(super) block: &'s Block,
    pub(super) numbers: &'s [NumberColumn],
    /// Per needed key, the ids of all rows.
    pub(super) ids: &'s [IdTable],
}

impl Source for BlockSource<'_> {
    fn times_within(&self, _: Option<usize>) -> Option<(i64, i64)> {
        Some((self.block.summary().ts_min, self.block.summary().ts_max))
    }

    fn times(&self, rows: Rows<'_>, target: &mut Vec<i64>) {
        rows.map(self.block.ts(), |ts| ts, target);
    }

    fn numbers(&self, _: usize) -> Option<&Numbers<'_>> {
        None
    }

    fn values(&self, place: usize, rows: Rows<'_>, target: &mut Vec<i64>) {
        let block = self.block;
        match self.numbers[place] {
            NumberColumn::Time => rows.map(block.ts(), |ts| ts, target),
            NumberColumn::Sequence => rows.map(block.sequence(), |sequence| sequence as i64, target),
            NumberColumn::Metric => rows.map(block.metric(), |metric| metric, target),
            NumberColumn::Latency => rows.map(block.latency(), i64::from, target),
            NumberColumn::LatencyDetail => rows.map(block.latency_detail(), i64::from, target),
            NumberColumn::Flags => rows.map(block.all_flags(), i64::from, target),
            NumberColumn::Counter(counter) => match block.counter(counter) {
                Some(values) => rows.map(values, i64::from, target),
                None => target.resize(target.len() + rows.len(), 0),
            },
        }
    }

    fn ids(&self, place: usize, rows: Rows<'_>, target: &mut Vec<u32>) {
        rows.map(&self.ids[place], |id| id, target);
    }
}

/// Which groups rows belong to.
#[derive(Clone, Copy)]
enum Placed {
    /// All to this one.
    One(usize),
    /// Each to its own, in the scratch's `groups`.
    Each,
}

/// Groups under way.
pub(super) struct Accumulator<'q> {
    pub(super) ready: &'q Ready<'q>,
    pub(super) table: GroupTable<'q>,
    /// Empty unless needed.
    counts: Vec<u64>,
    extents: Vec<Extents>,
    quantiles: Vec<Quantiles>,
    distinct: Vec<IdSets>,
    /// Bytes that it may hold, as far as it has asked.
    granted_bytes: usize,
}

/// Of one column, per group; what is not needed stays empty.
#[derive(Debug, Default)]
struct Extents {
    sums: Vec<i128>,
    minima: Vec<i64>,
    maxima: Vec<i64>,
}

fn capacity_bytes<T>(values: &Vec<T>) -> usize {
    values.capacity() * size_of::<T>()
}

impl<'q> Accumulator<'q> {
    pub(super) fn new(ready: &'q Ready<'q>) -> Self {
        let one_group = ready.has_one_group();
        let mut groups = Self {
            ready,
            table: GroupTable::new(&ready.packing),
            counts: Vec::new(),
            extents: ready.needs.extents.iter().map(|_| Extents::default()).collect(),
            quantiles: ready
                .bounds
                .iter()
                .zip(&ready.budgets)
                .map(|(bounds, budget)| Quantiles::new(*bounds, one_group, budget.clone()))
                .collect(),
            distinct: ready.counted_ids.iter().map(|ids| IdSets::new(*ids, one_group)).collect(),
            granted_bytes: 0,
        };
        // Where ids are groups they are all there from the beginning.
        groups.grow();
        groups
    }

    /// The group of a bucket, by where it begins, and of keys; there is room for it afterwards.
    pub(super) fn group(&mut self, start: i64, ids: &[u32]) -> usize {
        let slot = self.table.slot(start);
        let group = self.table.group(slot, ids);
        self.table.meet(&[group]);
        self.grow();
        group as usize
    }

    /// Asks whether to go on, with what it has come to hold.
    pub(super) fn ask_to_go_on(&mut self) -> Result<()> {
        if self.ready.grant.is_none() {
            return Ok(());
        }
        self.ask_for(self.bytes().saturating_sub(self.granted_bytes))
    }

    /// Asks for more bytes.
    pub(super) fn ask_for(&mut self, bytes: usize) -> Result<()> {
        if let Some(grant) = self.ready.grant {
            grant.ask(bytes)?;
            self.granted_bytes += bytes;
        }
        Ok(())
    }

    /// What it holds, but for quantiles, which have a budget of their own.
    fn bytes(&self) -> usize {
        let extents = self.extents.iter().map(|Extents { sums, minima, maxima }| {
            capacity_bytes(sums) + capacity_bytes(minima) + capacity_bytes(maxima)
        });
        self.table.bytes()
            + capacity_bytes(&self.counts)
            + extents.sum::<usize>()
            + self.distinct.iter().map(IdSets::bytes).sum::<usize>()
    }

    /// Says that groups which are ids have rows.
    pub(super) fn meet(&mut self, groups: &[u32]) {
        if !self.ready.needs.count {
            self.table.meet(groups);
        }
        self.grow();
    }

    /// Makes room for all groups of the table.
    fn grow(&mut self) {
        let groups = self.table.len();
        let needs = self.ready.needs;
        if needs.count && self.counts.len() < groups {
            self.counts.resize(groups, 0);
        }
        for (extents, need) in self.extents.iter_mut().zip(&needs.extents) {
            if need.sum && extents.sums.len() < groups {
                extents.sums.resize(groups, 0);
            }
            if need.min && extents.minima.len() < groups {
                extents.minima.resize(groups, i64::MAX);
            }
            if need.max && extents.maxima.len() < groups {
                extents.maxima.resize(groups, i64::MIN);
            }
        }
        self.quantiles.iter_mut().for_each(|quantiles| quantiles.grow(groups));
        self.distinct.iter_mut().for_each(|sets| sets.grow(groups));
    }

    /// The slot of all rows, of one chunk if it is given; if one look tells that they have the same.
    fn one_slot<S: Source>(&mut self, source: &S, chunk: Option<usize>) -> Option<u32> {
        let Some(buckets) = self.ready.buckets else { return Some(self.table.slot(0)) };
        let (min, max) = source.times_within(chunk)?;
        let (start, last) = buckets.span(min);
        (max <= last).then(|| self.table.slot(start))
    }

    /// The same; else leaves each row's own slot in the scratch's `groups`.
    fn slots<S: Source>(&mut self, source: &S, rows: Rows<'_>, scratch: &mut Scratch) -> Option<u32> {
        let one_slot = self.one_slot(source, rows.chunk());
        if let (None, Some(buckets)) = (one_slot, self.ready.buckets) {
            scratch.values.clear();
            source.times(rows, &mut scratch.values);
            scratch.groups.clear();
            self.slots_of_times(buckets, scratch);
        }
        one_slot
    }

    /// Times mostly ascend: a bucket is looked up when it changes.
    fn slots_of_times(&mut self, buckets: Buckets, scratch: &mut Scratch) {
        let (mut span, mut slot) = ((1, 0), 0);
        for ts in &scratch.values {
            if *ts < span.0 || span.1 < *ts {
                span = buckets.span(*ts);
                slot = self.table.slot(span.0);
            }
            scratch.groups.push(slot);
        }
    }

    fn place<S: Source>(&mut self, source: &S, rows: Rows<'_>, scratch: &mut Scratch) -> Placed {
        let keys = self.ready.packing.keys();
        let one_slot = self.slots(source, rows, scratch);
        if keys == 0 {
            self.grow();
            return one_slot.map_or(Placed::Each, |slot| Placed::One(slot as usize));
        }
        if let Some(slot) = one_slot {
            scratch.groups.clear();
            scratch.groups.resize(rows.len(), slot);
        }
        scratch.ids.resize_with(keys.max(scratch.ids.len()), Vec::new);
        for (key, ids) in scratch.ids.iter_mut().enumerate().take(keys) {
            ids.clear();
            source.ids(key, rows, ids);
        }
        self.table.groups(&mut scratch.groups, &scratch.ids[..keys]);
        if !self.ready.needs.count {
            self.table.meet(&scratch.groups);
        }
        self.grow();
        Placed::Each
    }

    /// Adds rows of a source.
    pub(super) fn add_rows<S: Source>(&mut self, source: &S, rows: Rows<'_>, scratch: &mut Scratch) {
        if rows.len() == 0 {
            return;
        }
        let placed = self.place(source, rows, scratch);
        if self.ready.needs.count {
            match placed {
                Placed::One(group) => self.counts[group] += rows.len() as u64,
                Placed::Each => scratch.groups.iter().for_each(|group| self.counts[*group as usize] += 1),
            }
        }
        for (extents, need) in self.extents.iter_mut().zip(&self.ready.needs.extents) {
            if let (Placed::One(group), Rows::List { rows, .. }, Some(numbers)) =
                (placed, rows, source.numbers(need.number))
            {
                if need.min || need.max {
                    let measured = numbers.measure_rows(self.ready.context.kernels, rows);
                    let (sum, min, max) = measured.unwrap_or((0, i64::MAX, i64::MIN));
                    extents.add(*need, group, &Measure { sum, min, max });
                } else {
                    extents.sums[group] += numbers.sum_rows(rows);
                }
                continue;
            }
            scratch.values.clear();
            source.values(need.number, rows, &mut scratch.values);
            match placed {
                Placed::One(group) => extents.add_all(*need, group, &scratch.values),
                Placed::Each => extents.add_each(*need, &scratch.groups, &scratch.values),
            }
        }
        self.add_others(source, rows, placed, scratch);
    }

    /// Adds the rows of a chunk that are set in a mask, `count` of them.
    pub(super) fn add_chunk(
        &mut self,
        source: &SegmentSource<'_>,
        chunk: usize,
        mask: &Mask,
        count: u32,
        scratch: &mut Scratch,
    ) {
        let one_slot = match self.ready.packing.keys() {
            0 if count > 0 => self.one_slot(source, Some(chunk)),
            _ => None,
        };
        match one_slot {
            Some(slot) => self.add_masked(source, chunk, mask, count, slot as usize, scratch),
            None => self.with_rows(chunk, mask, count, scratch, |groups, rows, scratch| {
                groups.add_rows(source, rows, scratch);
            }),
        }
    }

    /// Adds the rows of a chunk to one group, by kernels.
    fn add_masked(
        &mut self,
        source: &SegmentSource<'_>,
        chunk: usize,
        mask: &Mask,
        count: u32,
        group: usize,
        scratch: &mut Scratch,
    ) {
        self.grow();
        let kernels = self.ready.context.kernels;
        self.add_count(group, count.into());
        for (extents, need) in self.extents.iter_mut().zip(&self.ready.needs.extents) {
            let Some(numbers) = &source.numbers[need.number] else {
                extents.add(*need, group, &ZERO);
                continue;
            };
            if need.sum {
                extents.sums[group] += numbers.masked_sum(kernels, chunk, mask);
            }
            let widens = need.min && numbers.chunk_min(chunk) < extents.minima[group]
                || need.max && numbers.chunk_max(chunk) > extents.maxima[group];
            if widens && let Some((min, max)) = numbers.masked_min_max(kernels, chunk, mask) {
                extents.add(Extent { sum: false, ..*need }, group, &Measure { sum: 0, min, max });
            }
        }
        if self.needs_rows(source, chunk, group) {
            self.with_rows(chunk, mask, count, scratch, |groups, rows, scratch| {
                groups.add_others(source, rows, Placed::One(group), scratch);
            });
            return;
        }
        for (quantiles, number) in self.quantiles.iter_mut().zip(&self.ready.needs.quantile_numbers) {
            if let Some(numbers) = &source.numbers[*number] {
                quantiles.count_chunk(group, kernels, numbers, chunk, mask, count);
            }
        }
    }

    /// Whether a mask is not enough to add rows of a chunk to quantiles and distinct values.
    fn needs_rows(&self, source: &SegmentSource<'_>, chunk: usize, group: usize) -> bool {
        let mut quantiles = self.quantiles.iter().zip(&self.ready.needs.quantile_numbers);
        let all_count = quantiles.all(|(quantiles, number)| {
            let numbers = source.numbers[*number].as_ref();
            numbers.is_some_and(|numbers| quantiles.counts_chunk(group, numbers, chunk))
        });
        !(all_count && self.distinct.is_empty())
    }

    /// Calls `add` with the rows of a chunk that are set in a mask, `count` of them.
    fn with_rows(
        &mut self,
        chunk: usize,
        mask: &Mask,
        count: u32,
        scratch: &mut Scratch,
        add: impl FnOnce(&mut Self, Rows<'_>, &mut Scratch),
    ) {
        if count as usize == CHUNK_ROWS {
            add(self, Rows::Run { first: first_row(chunk), len: count }, scratch);
            return;
        }
        let mut rows = std::mem::take(&mut scratch.rows);
        rows.clear();
        push_rows(mask, chunk, &mut rows);
        add(self, Rows::List { rows: &rows, chunk: Some(chunk) }, scratch);
        scratch.rows = rows;
    }

    /// Adds rows to quantiles and distinct values.
    fn add_others<S: Source>(&mut self, source: &S, rows: Rows<'_>, placed: Placed, scratch: &mut Scratch) {
        for (quantiles, number) in self.quantiles.iter_mut().zip(&self.ready.needs.quantile_numbers) {
            scratch.values.clear();
            source.values(*number, rows, &mut scratch.values);
            match placed {
                Placed::One(group) => quantiles.add_all(group, &scratch.values),
                Placed::Each => {
                    let values = scratch.groups.iter().zip(&scratch.values);
                    values.for_each(|(group, value)| quantiles.add(*group as usize, *value));
                }
            }
        }
        let keys = self.ready.packing.keys();
        scratch.ids.resize_with((keys + 1).max(scratch.ids.len()), Vec::new);
        for (place, sets) in self.distinct.iter_mut().enumerate() {
            let ids = &mut scratch.ids[keys];
            ids.clear();
            source.ids(keys + place, rows, ids);
            match placed {
                Placed::One(group) => ids.iter().for_each(|id| sets.add(group, *id)),
                Placed::Each => {
                    scratch.groups.iter().zip(&*ids).for_each(|(group, id)| sets.add(*group as usize, *id));
                }
            }
        }
    }

    /// Takes rows out again that were added by sums; only what [`Needs::is_subtractable`] allows.
    pub(super) fn subtract_rows<S: Source>(&mut self, source: &S, rows: Rows<'_>, scratch: &mut Scratch) {
        let placed = self.place(source, rows, scratch);
        if let Placed::One(group) = placed {
            let group = u32::try_from(group).expect("groups have 32-bit numbers");
            scratch.groups.clear();
            scratch.groups.resize(rows.len(), group);
        }
        for group in &scratch.groups {
            // They were all counted, unless the file's sums are false: then the count must not wrap either.
            let count = &mut self.counts[*group as usize];
            *count = count.saturating_sub(1);
        }
        for (extents, need) in self.extents.iter_mut().zip(&self.ready.needs.extents) {
            scratch.values.clear();
            source.values(need.number, rows, &mut scratch.values);
            for (group, value) in scratch.groups.iter().zip(&scratch.values) {
                extents.sums[*group as usize] -= i128::from(*value);
            }
        }
    }

    /// Adds a whole block, of which everything needed is summed up, to the only group.
    pub(super) fn add_summary(&mut self, summary: &Summary) {
        let group = self.group(0, &[]);
        let times = (summary.ts_min, summary.ts_max);
        self.add_extents(group, summary.totals.count, |extent| {
            extent_of(extent.column, times, &summary.totals)
        });
    }

    /// Adds a whole segment, of which everything needed is summed up, to one group.
    pub(super) fn add_totals(&mut self, group: usize, facts: &Facts) {
        let times = (facts.ts_min, facts.ts_max);
        self.add_extents(group, facts.totals.count, |extent| extent_of(extent.column, times, &facts.totals));
    }

    /// Adds `count` rows to one group, by what is known of them in each needed column.
    pub(super) fn add_extents(&mut self, group: usize, count: u64, extent: impl Fn(&Extent) -> Measure) {
        self.add_count(group, count);
        for place in 0..self.extents.len() {
            self.add_extent(place, group, &extent(&self.ready.needs.extents[place]));
        }
    }

    /// Adds what is known of the values of one key: `groups` by code.
    pub(super) fn add_values(&mut self, keys: &Keys<'_>, groups: &[u32]) {
        let Self { counts, extents, ready, .. } = self;
        if ready.needs.count
            && let Some(array) = keys.counts()
        {
            array.for_each_i64(|code, count| counts[groups[code] as usize] += count as u64);
        }
        for (extents, need) in extents.iter_mut().zip(&ready.needs.extents) {
            let Extents { sums, minima, maxima } = extents;
            let measure = measure_of(need.column);
            if need.sum {
                // A counter that is younger than the segment adds nothing.
                if let Some(array) = measure.and_then(|measure| keys.sums(measure)) {
                    let is_narrow =
                        array.for_each_i64(|code, sum| sums[groups[code] as usize] += i128::from(sum));
                    if !is_narrow {
                        array.for_each(|code, sum| sums[groups[code] as usize] += sum);
                    }
                }
            }
            if need.min {
                let mut lower = |code: usize, value: i64| {
                    let min = &mut minima[groups[code] as usize];
                    *min = value.min(*min);
                };
                match measure.map_or_else(|| keys.first_times(), |measure| keys.minima(measure)) {
                    Some(array) => _ = array.for_each_i64(lower),
                    None => (0..groups.len()).for_each(|code| lower(code, 0)),
                }
            }
            if need.max {
                let mut raise = |code: usize, value: i64| {
                    let max = &mut maxima[groups[code] as usize];
                    *max = value.max(*max);
                };
                match measure.map_or_else(|| keys.last_times(), |measure| keys.maxima(measure)) {
                    Some(array) => _ = array.for_each_i64(raise),
                    None => (0..groups.len()).for_each(|code| raise(code, 0)),
                }
            }
        }
    }

    /// Adds all rows of one value of a key to a group, by what its dictionary sums up.
    pub(super) fn add_value(&mut self, keys: &Keys<'_>, code: u32, group: usize) {
        self.add_count(group, keys.count(code).unwrap_or(0).into());
        let place = code as usize;
        for (extents, need) in self.extents.iter_mut().zip(&self.ready.needs.extents) {
            let measure = measure_of(need.column);
            // A counter that is younger than the segment is 0.
            let sum = || keys.sums(measure?)?.get(place);
            let min =
                || measure.map_or_else(|| keys.first_times(), |measure| keys.minima(measure))?.get_i64(place);
            let max =
                || measure.map_or_else(|| keys.last_times(), |measure| keys.maxima(measure))?.get_i64(place);
            let measure = Measure {
                sum: if need.sum { sum().unwrap_or(0) } else { 0 },
                min: if need.min { min().unwrap_or(0) } else { 0 },
                max: if need.max { max().unwrap_or(0) } else { 0 },
            };
            extents.add(*need, group, &measure);
        }
    }

    /// The groups of a bucket and of keys of which one has these ids, in their order; `ids` has those of the others.
    pub(super) fn groups_of(
        &mut self,
        start: i64,
        ids: &[u32],
        key: usize,
        own: &[u32],
        groups: &mut Vec<u32>,
    ) {
        let slot = self.table.slot(start);
        groups.clear();
        groups.resize(own.len(), slot);
        let columns: Vec<Vec<u32>> = ids
            .iter()
            .enumerate()
            .map(|(other, id)| if other == key { own.to_vec() } else { vec![*id; own.len()] })
            .collect();
        self.table.groups(groups, &columns);
        if !self.ready.needs.count {
            self.table.meet(groups);
        }
        self.grow();
    }

    /// Adds `count` rows to a group, but no values.
    pub(super) fn add_count(&mut self, group: usize, count: u64) {
        if self.ready.needs.count {
            self.counts[group] += count;
        }
    }

    /// Adds to a group what is known of some rows in the needed column at `place`.
    pub(super) fn add_extent(&mut self, place: usize, group: usize, measure: &Measure) {
        self.extents[place].add(self.ready.needs.extents[place], group, measure);
    }

    /// Adds an id to those of the counted key at `place`, in a group.
    pub(super) fn add_distinct(&mut self, place: usize, group: usize, id: u32) {
        self.distinct[place].add(group, id);
    }

    /// Adds the groups of another accumulator of the same query.
    pub(super) fn merge(&mut self, other: &Self) {
        for theirs in (0..other.table.len()).filter(|group| other.has_rows(*group)) {
            let mine = self.group(other.table.start(theirs), other.table.ids(theirs));
            if self.ready.needs.count {
                self.counts[mine] += other.counts[theirs];
            }
            for (extents, others) in self.extents.iter_mut().zip(&other.extents) {
                extents.merge(mine, others, theirs);
            }
            for (quantiles, others) in self.quantiles.iter_mut().zip(&other.quantiles) {
                quantiles.merge(mine, others, theirs);
            }
            for (sets, others) in self.distinct.iter_mut().zip(&other.distinct) {
                sets.merge(mine, others, theirs);
            }
        }
        // The other one goes.
        self.granted_bytes += other.granted_bytes;
    }

    /// Whether any row is left in a group.
    pub(super) fn has_rows(&self, group: usize) -> bool {
        if self.ready.needs.count { self.counts[group] > 0 } else { self.table.is_met(group) }
    }

    pub(super) fn count(&self, group: usize) -> u64 {
        self.counts[group]
    }

    pub(super) fn sum(&self, place: usize, group: usize) -> i128 {
        self.extents[place].sums[group]
    }

    pub(super) fn min(&self, place: usize, group: usize) -> i64 {
        self.extents[place].minima[group]
    }

    pub(super) fn max(&self, place: usize, group: usize) -> i64 {
        self.extents[place].maxima[group]
    }

    pub(super) fn quantiles(&mut self, place: usize) -> &mut Quantiles {
        &mut self.quantiles[place]
    }

    pub(super) fn distinct(&self, place: usize, group: usize) -> u64 {
        self.distinct[place].len(group)
    }
}

impl Extents {
    fn add(&mut self, need: Extent, group: usize, measure: &Measure) {
        if need.sum {
            self.sums[group] += measure.sum;
        }
        if need.min {
            self.minima[group] = self.minima[group].min(measure.min);
        }
        if need.max {
            self.maxima[group] = self.maxima[group].max(measure.max);
        }
    }

    fn add_all(&mut self, need: Extent, group: usize, values: &[i64]) {
        if need.sum {
            self.sums[group] += values.iter().map(|value| i128::from(*value)).sum::<i128>();
        }
        if need.min {
            self.minima[group] = values.iter().fold(self.minima[group], |min, value| min.min(*value));
        }
        if need.max {
            self.maxima[group] = values.iter().fold(self.maxima[group], |max, value| max.max(*value));
        }
    }

    fn add_each(&mut self, need: Extent, groups: &[u32], values: &[i64]) {
        let each = || groups.iter().map(|group| *group as usize).zip(values);
        if need.sum {
            each().for_each(|(group, value)| self.sums[group] += i128::from(*value));
        }
        if need.min {
            each().for_each(|(group, value)| self.minima[group] = self.minima[group].min(*value));
        }
        if need.max {
            each().for_each(|(group, value)| self.maxima[group] = self.maxima[group].max(*value));
        }
    }

    /// What is not needed is empty on both sides.
    fn merge(&mut self, group: usize, other: &Self, others: usize) {
        if let Some(sum) = other.sums.get(others) {
            self.sums[group] += sum;
        }
        if let Some(min) = other.minima.get(others) {
            self.minima[group] = self.minima[group].min(*min);
        }
        if let Some(max) = other.maxima.get(others) {
            self.maxima[group] = self.maxima[group].max(*max);
        }
    }
}
