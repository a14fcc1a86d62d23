//! Columns of the rows that a query asks for, many rows at once, from segments and from blocks in memory.
//!
//! Whoever selects rows hands them over as ascending or descending row numbers of one source. Each column of them is then
//! read in one loop: neighbours as they lie, others by their places. Sources meet in one batch; a dim's codes are those of
//! one segment's dictionary, so where several meet, texts take their place.

use std::sync::Arc;

use super::ReadContext;
use super::batch::{BATCH_TEXT_BYTES, ColumnBatch, ColumnValues, KeyValues, TextValues};
use super::plan::{self, Outlook};
use super::query::clamp_u32;
use super::recent::{Stretch, Taker, give_in_order};
use super::select::{BlockSelection, Order, Walk, number_in_block};
use crate::error::{DbError, Result};
use crate::expr::{KeyColumn, NumberColumn, TextColumn};
use crate::filter::Predicate;
use crate::format::block::Block;
use crate::format::bytes::{ByteWriter, Malformed};
use crate::format::keys::{Dictionary, Keys, code_of_value, status_of_bytes};
use crate::format::numbers::Numbers;
use crate::format::texts::TextReader;
use crate::state::version::{SegmentEntry, View};
use crate::storage::segment_reader::OpenSegment;

/// Neighbours that are looked for at a time: so many are worth a loop of their own.
const NEIGHBOURS: usize = 64;
/// Bytes of a dictionary's texts beyond which most are not in the processor's cache.
const CACHED_BYTES: usize = 256 << 10;

/// A column that is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GatheredColumn {
    Number(NumberColumn),
    /// Statuses become numbers.
    Key(KeyColumn),
    Text(TextColumn),
}

/// Which columns are gathered, and into how large batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gather<'g> {
    columns: &'g [GatheredColumn],
    batch_rows: usize,
}

impl<'g> Gather<'g> {
    /// Batches have `batch_rows` rows; fewer where texts are long, and the last one has what is left. Refuses 0.
    pub(crate) fn new(columns: &'g [GatheredColumn], batch_rows: usize) -> Result<Self> {
        if batch_rows == 0 {
            return Err(DbError::invalid("batch_rows", "batches of 0 rows never come to an end"));
        }
        Ok(Self { columns, batch_rows })
    }
}

/// Gives the columns of matching rows of a view to `each`, in the order asked for; an error of `each` ends it.
///
/// **Memory** as of [`recent`](super::recent::recent), and a batch.
pub(crate) fn gather(
    view: &View,
    predicate: &Predicate<'_>,
    stretch: Stretch,
    what: Gather<'_>,
    context: &ReadContext,
    each: &mut dyn FnMut(ColumnBatch) -> Result<()>,
) -> Result<()> {
    let mut gatherer = Gatherer::new(what, each);
    give_in_order(view, predicate, stretch, context, &mut Taker::Columns(&mut gatherer))?;
    gatherer.finish()
}

/// How many parts a view has: its segments, then its blocks in memory.
pub(crate) fn parts(view: &View) -> usize {
    let blocks = view.memtables().iter().map(|memtable| memtable.blocks.iter().count());
    view.segments().len() + blocks.sum::<usize>()
}

/// As [`gather`], of one part, in the order in which its rows lie there: of a segment by (time, sequence); at most
/// `limit` rows. All parts of a view have each matching row once.
pub(crate) fn gather_part(
    view: &View,
    part: usize,
    predicate: &Predicate<'_>,
    limit: usize,
    what: Gather<'_>,
    context: &ReadContext,
    each: &mut dyn FnMut(ColumnBatch) -> Result<()>,
) -> Result<()> {
    let mut gatherer = Gatherer::new(what, each);
    if let Some(entry) = view.segments().get(part) {
        gather_segment(entry, predicate, limit, &mut gatherer, context)?;
    } else {
        let mut blocks = view.memtables().iter().flat_map(|memtable| {
            memtable.blocks.iter().map(move |block| (block, memtable.deleted.as_deref()))
        });
        let block = blocks.nth(part - view.segments().len());
        let (block, deleted) = block.ok_or_else(|| {
            DbError::invalid("part", format!("{part}, the table has {} parts at that moment", parts(view)))
        })?;
        if let Some(selection) = BlockSelection::new(block, deleted, predicate) {
            // A block has fewer than 2³² rows.
            let rows: Vec<u32> =
                selection.rows().take(limit).filter_map(|row| u32::try_from(row).ok()).collect();
            gatherer.append_block(block, &rows)?;
        }
    }
    gatherer.finish()
}

fn gather_segment(
    entry: &SegmentEntry,
    predicate: &Predicate<'_>,
    mut limit: usize,
    gatherer: &mut Gatherer<'_>,
    context: &ReadContext,
) -> Result<()> {
    let header = entry.segment.header();
    if limit == 0 || plan::by_facts(header, predicate) == Outlook::Skip {
        return Ok(());
    }
    let open = entry.segment.read()?;
    let Some(selection) = plan::select(entry, &open, predicate)? else { return Ok(()) };
    let mut columns = gatherer.open(&open)?;
    let mut walk = Walk::new(selection, Order::OldestFirst);
    let mut rows = Vec::new();
    while limit > 0 {
        rows.clear();
        walk.take(context.kernels, &(0..u32::MAX), limit.min(gatherer.room()), &mut rows);
        if rows.is_empty() {
            break;
        }
        limit -= rows.len();
        gatherer.append_segment(&mut columns, &rows)?;
    }
    Ok(())
}

/// Collects columns until a batch is full, and gives it away.
pub(super) struct Gatherer<'g> {
    what: Gather<'g>,
    each: &'g mut dyn FnMut(ColumnBatch) -> Result<()>,
    /// Of the batch under way.
    rows: usize,
    columns: Vec<ColumnValues>,
    memory: Memory,
}

/// Memory that all columns work with.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    codes: Vec<u32>,
}

impl<'g> Gatherer<'g> {
    fn new(what: Gather<'g>, each: &'g mut dyn FnMut(ColumnBatch) -> Result<()>) -> Self {
        Self { what, each, rows: 0, columns: empty(what.columns), memory: Memory::default() }
    }

    /// The columns that are gathered, opened.
    pub(super) fn open<'s>(&self, open: &'s OpenSegment<'s>) -> Result<SegmentColumns<'s>> {
        let columns = self.what.columns.iter().map(|column| SegmentColumn::open(open, *column));
        Ok(SegmentColumns { open, columns: columns.collect::<Result<_>>()? })
    }

    /// How many rows the batch under way still takes: at least 1.
    pub(super) fn room(&self) -> usize {
        self.what.batch_rows - self.rows
    }

    /// Adds rows of a segment, which ascend or descend.
    pub(super) fn append_segment(&mut self, from: &mut SegmentColumns<'_>, rows: &[u32]) -> Result<()> {
        self.append(rows, |column, rows, values, memory| {
            let Some(from_column) = from.columns.get_mut(column) else { return Ok(rows.len()) };
            from_column.append(rows, values, memory).map_err(|malformed| from.open.corrupt(malformed))
        })
    }

    /// Adds rows of a block, in whatever order.
    pub(super) fn append_block(&mut self, block: &Block, rows: &[u32]) -> Result<()> {
        let wanted = self.what.columns;
        self.append(rows, |column, rows, values, memory| {
            let Some(column) = wanted.get(column) else { return Ok(rows.len()) };
            append_of_block(*column, block, rows, values, memory)
                .map_err(|malformed| DbError::invalid("rows in memory", malformed.what))
        })
    }

    /// Adds rows, of which `append` appends the values of a column: of the first ones, and returns of how many.
    fn append(
        &mut self,
        mut rows: &[u32],
        mut append: impl FnMut(usize, &[u32], &mut ColumnValues, &mut Memory) -> Result<usize>,
    ) -> Result<()> {
        while !rows.is_empty() {
            let mut count = rows.len().min(self.room());
            for (column, values) in self.columns.iter_mut().enumerate() {
                let rows = rows.get(..count).unwrap_or_default();
                count = append(column, rows, values, &mut self.memory)?;
            }
            self.rows += count;
            let mut is_full = self.rows >= self.what.batch_rows || count == 0;
            for values in &mut self.columns {
                is_full |= values.is_full();
                // Of the columns before one that took fewer.
                values.truncate(self.rows);
            }
            rows = rows.get(count..).unwrap_or_default();
            if is_full {
                self.give()?;
            }
        }
        Ok(())
    }

    /// Gives away what is there.
    fn give(&mut self) -> Result<()> {
        let columns = std::mem::replace(&mut self.columns, empty(self.what.columns));
        let rows = std::mem::take(&mut self.rows);
        (self.each)(ColumnBatch { rows, columns })
    }

    fn finish(mut self) -> Result<()> {
        if self.rows > 0 { self.give() } else { Ok(()) }
    }
}

/// Columns without values.
fn empty(columns: &[GatheredColumn]) -> Vec<ColumnValues> {
    let values = |column: &GatheredColumn| match column {
        GatheredColumn::Number(_) | GatheredColumn::Key(KeyColumn::Status) => ColumnValues::Ints(Vec::new()),
        GatheredColumn::Key(KeyColumn::Dim(_)) | GatheredColumn::Text(_) => {
            ColumnValues::Texts(TextValues::default())
        }
    };
    columns.iter().map(values).collect()
}

/// The columns of a segment that are gathered: opened, and so checked.
pub(super) struct SegmentColumns<'s> {
    open: &'s OpenSegment<'s>,
    columns: Vec<SegmentColumn<'s>>,
}

enum SegmentColumn<'s> {
    /// The segment is older than the column.
    Zeros,
    /// The same, of texts.
    Empty,
    Numbers(NumberColumn, Numbers<'s>),
    Status(StatusCodes<'s>),
    Dim(DimCodes<'s>),
    Texts(TextReader<'s>),
}

/// Statuses, which a segment stores as keys.
struct StatusCodes<'s> {
    codes: Numbers<'s>,
    dictionary: Dictionary<'s>,
    /// By code; empty before many rows were asked for.
    known: Vec<i64>,
}

struct DimCodes<'s> {
    codes: Numbers<'s>,
    dictionary: Dictionary<'s>,
    /// Made when enough rows were asked for.
    values: Option<Arc<KeyValues>>,
}

impl<'s> SegmentColumn<'s> {
    fn open(open: &'s OpenSegment<'s>, column: GatheredColumn) -> Result<Self> {
        let numbers = |column, numbers| Self::Numbers(column, numbers);
        Ok(match column {
            GatheredColumn::Number(column) => match column {
                NumberColumn::Time => numbers(column, open.time()?),
                NumberColumn::Sequence => numbers(column, open.sequence()?),
                NumberColumn::Metric => numbers(column, open.metric()?),
                NumberColumn::Latency => numbers(column, open.latency()?),
                NumberColumn::LatencyDetail => numbers(column, open.latency_detail()?),
                NumberColumn::Flags => numbers(column, open.flags()?),
                NumberColumn::Counter(counter) => {
                    open.counter(counter)?.map_or(Self::Zeros, |values| numbers(column, values))
                }
            },
            GatheredColumn::Key(KeyColumn::Status) => Self::Status(StatusCodes::new(open.status()?)),
            GatheredColumn::Key(KeyColumn::Dim(dim)) => {
                open.dim(dim)?.map_or(Self::Empty, |keys| Self::Dim(DimCodes::new(keys)))
            }
            GatheredColumn::Text(TextColumn::Id) => Self::Texts(open.id()?.reader()),
            GatheredColumn::Text(TextColumn::Label(label)) => {
                open.label(label)?.map_or(Self::Empty, |texts| Self::Texts(texts.reader()))
            }
        })
    }

    /// Appends the values of the first rows; of how many. None where what is there must be given away before.
    fn append(
        &mut self,
        rows: &[u32],
        values: &mut ColumnValues,
        memory: &mut Memory,
    ) -> Result<usize, Malformed> {
        match self {
            Self::Zeros => {
                let values = values.ints();
                values.resize(values.len() + rows.len(), 0);
            }
            Self::Numbers(column, numbers) => append_numbers(*column, numbers, rows, values.ints())?,
            Self::Status(status) => status.append(rows, values.ints())?,
            Self::Dim(dim) => return dim.append(rows, values, memory),
            Self::Empty => {
                let Some(texts) = values.texts() else { return Ok(0) };
                texts.append_empty(rows.len());
            }
            Self::Texts(reader) => {
                let Some(texts) = values.texts() else { return Ok(0) };
                let put = |row: u32, bytes: &mut Vec<u8>| reader.append_to(row as usize, bytes);
                return texts.append(rows, &mut memory.bytes, put);
            }
        }
        Ok(rows.len())
    }
}

impl<'s> StatusCodes<'s> {
    fn new(keys: Keys<'s>) -> Self {
        Self { codes: keys.codes(), dictionary: keys.dictionary(), known: Vec::new() }
    }

    fn append(&mut self, rows: &[u32], values: &mut Vec<i64>) -> Result<(), Malformed> {
        let dictionary = self.dictionary;
        let status = |code: u32| status_of_bytes(dictionary.value_bytes(code).unwrap_or_default()).into();
        if self.known.is_empty() && dictionary.values() as usize <= rows.len() {
            self.known = (0..dictionary.values()).map(status).collect();
        }
        if self.known.is_empty() {
            return gather_values(&self.codes, rows, |code| status(code_of_value(code)), values);
        }
        let known = |code: i64| usize::try_from(code).ok().and_then(|code| self.known.get(code));
        gather_values(&self.codes, rows, |code| known(code).copied().unwrap_or(0), values)
    }
}

impl<'s> DimCodes<'s> {
    fn new(keys: Keys<'s>) -> Self {
        Self { codes: keys.codes(), dictionary: keys.dictionary(), values: None }
    }

    fn append(
        &mut self,
        rows: &[u32],
        target: &mut ColumnValues,
        memory: &mut Memory,
    ) -> Result<usize, Malformed> {
        if target.is_empty() && self.fits(rows.len()) {
            let dictionary = self.dictionary;
            let values = self.values.get_or_insert_with(|| {
                Arc::new(KeyValues::new((0..dictionary.values()).map(|code| dictionary.value(code))))
            });
            *target = ColumnValues::Keys { codes: Vec::new(), values: Arc::clone(values) };
        }
        if let ColumnValues::Keys { codes, values } = target
            && self.values.as_ref().is_some_and(|own| Arc::ptr_eq(own, values))
        {
            self.append_codes(rows, codes)?;
            return Ok(rows.len());
        }
        let Some(texts) = target.texts() else { return Ok(0) };
        let Memory { bytes, codes } = memory;
        codes.clear();
        self.append_codes(rows, codes)?;
        let is_large = self.dictionary.text_bytes() > CACHED_BYTES;
        let mut untouched = codes.chunks(NEIGHBOURS);
        let mut touched = 0;
        // Each text is asked for by its code.
        texts.append(codes, bytes, |code, bytes| {
            if is_large && touched == 0 {
                let next = untouched.next().unwrap_or_default();
                self.dictionary.touch(next.iter().copied());
                touched = next.len();
            }
            touched = touched.saturating_sub(1);
            bytes.put(self.dictionary.value_bytes(code).unwrap_or_default());
            Ok(())
        })
    }

    /// Whether a batch of so many rows has the values and codes rather than texts.
    fn fits(&self, rows: usize) -> bool {
        self.dictionary.values() as usize <= rows && self.dictionary.text_bytes() < BATCH_TEXT_BYTES
    }

    /// Codes of which each has a value.
    fn append_codes(&self, rows: &[u32], codes: &mut Vec<u32>) -> Result<(), Malformed> {
        let first = codes.len();
        gather_values(&self.codes, rows, code_of_value, codes)?;
        let highest = codes.get(first..).unwrap_or_default().iter().max();
        if highest.is_some_and(|highest| *highest >= self.dictionary.values()) {
            return Err(Malformed::new(0, "a row has a code of no value"));
        }
        Ok(())
    }
}

/// Appends the numbers of some rows as [`RowView`](super::row::RowView) reads them: within the bounds of their columns.
fn append_numbers(
    column: NumberColumn,
    numbers: &Numbers<'_>,
    rows: &[u32],
    values: &mut Vec<i64>,
) -> Result<(), Malformed> {
    match column {
        NumberColumn::Time | NumberColumn::Sequence | NumberColumn::Metric => {
            gather_values(numbers, rows, |value| value, values)
        }
        NumberColumn::Flags => {
            gather_values(numbers, rows, |value| u16::try_from(value).unwrap_or(0).into(), values)
        }
        NumberColumn::Latency | NumberColumn::LatencyDetail | NumberColumn::Counter(_) => {
            gather_values(numbers, rows, |value| clamp_u32(value).into(), values)
        }
    }
}

/// Appends what `map` makes of the values of some rows, which ascend or descend.
fn gather_values<T: Clone>(
    numbers: &Numbers<'_>,
    rows: &[u32],
    map: impl Fn(i64) -> T,
    values: &mut Vec<T>,
) -> Result<(), Malformed> {
    let expected = values.len() + rows.len();
    values.reserve(rows.len());
    let mut left = rows;
    while let Some(first) = left.first() {
        let count = neighbours(left);
        if count == 0 {
            let (now, later) = left.split_at(left.len().min(NEIGHBOURS));
            numbers.map_rows(now, &map, values);
            left = later;
            continue;
        }
        let (now, later) = left.split_at(count);
        let last = now.last().unwrap_or(first);
        let start = values.len();
        numbers.map_range(*first.min(last) as usize..*first.max(last) as usize + 1, &map, values);
        if last < first {
            values.get_mut(start..).unwrap_or_default().reverse();
        }
        left = later;
    }
    if values.len() == expected { Ok(()) } else { Err(Malformed::new(0, "a column has too few values")) }
}

/// How many of the first rows lie next to each other, as far as that is worth a loop of its own. Rows that ascend or descend
/// are neighbours if the first and the last of them are as far from each other as they are many.
fn neighbours(rows: &[u32]) -> usize {
    let Some(first) = rows.first() else { return 0 };
    let reaches = |place: usize| rows.get(place).is_some_and(|row| row.abs_diff(*first) as usize == place);
    if reaches(rows.len() - 1) {
        return rows.len();
    }
    let mut count = 0;
    while reaches(count + NEIGHBOURS - 1) {
        count += NEIGHBOURS;
    }
    count
}

/// As [`SegmentColumn::append`], of a block.
fn append_of_block(
    column: GatheredColumn,
    block: &Block,
    rows: &[u32],
    values: &mut ColumnValues,
    memory: &mut Memory,
) -> Result<usize, Malformed> {
    let text = |row: u32| match column {
        GatheredColumn::Key(KeyColumn::Dim(dim)) => block.dim(dim, row as usize),
        GatheredColumn::Text(TextColumn::Label(label)) => block.label(label, row as usize),
        _ => block.id(row as usize),
    };
    match column {
        GatheredColumn::Number(column) => {
            values.ints().extend(rows.iter().map(|row| number_in_block(column, block, *row as usize)));
        }
        GatheredColumn::Key(KeyColumn::Status) => {
            let status = |row: &u32| i64::from(block.status().get(*row as usize).copied().unwrap_or(0));
            values.ints().extend(rows.iter().map(status));
        }
        GatheredColumn::Key(KeyColumn::Dim(_)) | GatheredColumn::Text(_) => {
            let Some(texts) = values.texts() else { return Ok(0) };
            return texts.append(rows, &mut memory.bytes, |row, bytes| {
                bytes.put(text(row).as_bytes());
                Ok(())
            });
        }
    }
    Ok(rows.len())
}
