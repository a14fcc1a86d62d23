//! One row, borrowed from where it lies: a segment or a block in memory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use super::ReadContext;
use super::column::{Column, KeyColumn, StatusColumn};
use super::column_set::ColumnSet;
use super::point::RowKey;
use super::query::clamp_u32;
use crate::error::{DbError, Result};
use crate::event::EventFlags;
use crate::expr::{KeyColumn as Key, NumberColumn};
use crate::format::block::Block;
use crate::format::bytes::Malformed;
use crate::format::numbers::Numbers;
use crate::format::texts::TextReader;
use crate::schema::Shape;
use crate::storage::segment_reader::OpenSegment;

/// One row that a query found, not copied: each getter reads its column where it lies.
///
/// Numbers and dims cost a few nanoseconds and never fail, because their sections were checked before the row was
/// handed out. The id and the labels are decoded when asked for; rows read in order share what that costs. A column that
/// is younger than the row reads as 0 or empty. A row stays on its thread, and is gone when the callback it was given to
/// returns.
#[derive(Clone, Copy)]
pub struct RowView<'a> {
    place: Place<'a>,
    row: usize,
    key: RowKey,
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Segment(&'a SegmentColumns<'a>, &'a dyn ReadTexts),
    Block(&'a Block),
}

/// Reads texts of a segment's rows. A trait, so that a row does not carry the lifetime of what is cached behind it.
trait ReadTexts {
    fn id(&self, row: usize) -> Result<Cow<'_, str>>;
    fn label(&self, label: usize, row: usize) -> Result<Cow<'_, str>>;
    /// All texts of a row, one after the other.
    fn copy_all(&self, row: usize, columns: &SegmentColumns<'_>, slots: Slots<'_>) -> Result<()>;
}

/// What a row of every table has, but its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct BuiltIn {
    pub(super) sequence: u64,
    pub(super) ts_ns: i64,
    pub(super) metric: i64,
    pub(super) latency_ms: u32,
    pub(super) latency_detail_ms: u32,
    pub(super) status: u16,
    pub(super) flags: EventFlags,
}

/// Where a copy puts its values.
pub(super) struct Slots<'e> {
    pub(super) built_in: &'e mut BuiltIn,
    /// Id, dims, labels, one after the other; the ends say where each ends.
    pub(super) texts: &'e mut Box<str>,
    pub(super) counters: &'e mut [u32],
    pub(super) id_end: &'e mut u32,
    pub(super) dim_ends: &'e mut [u32],
    pub(super) label_ends: &'e mut [u32],
}

impl<'a> RowView<'a> {
    /// A row of a segment; `row` is one of its rows, `key` its time and sequence: whoever finds a row knows them.
    pub(crate) fn of_segment(rows: &'a SegmentRows<'_>, row: usize, key: RowKey) -> Self {
        Self { place: Place::Segment(&rows.columns, &rows.texts), row, key }
    }

    /// A row of a block; `row` is one of its rows.
    pub(crate) fn of_block(block: &'a Block, row: usize) -> Self {
        let key = RowKey { ts: at(block.ts(), row), sequence: at(block.sequence(), row) };
        Self { place: Place::Block(block), row, key }
    }

    /// The number that the engine gave the row; unique, and ascending among rows of equal time as they were appended
    /// to one shard.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.key.sequence
    }

    /// When it happened, in nanoseconds since the Unix epoch.
    #[inline]
    pub fn ts_ns(&self) -> i64 {
        self.key.ts
    }

    /// The metric.
    #[inline]
    pub fn metric(&self) -> i64 {
        match self.place {
            Place::Segment(columns, _) => get(columns.metric.as_ref(), self.row),
            Place::Block(block) => at(block.metric(), self.row),
        }
    }

    /// The latency, in milliseconds.
    #[inline]
    pub fn latency_ms(&self) -> u32 {
        match self.place {
            Place::Segment(columns, _) => clamp_u32(get(columns.latency.as_ref(), self.row)),
            Place::Block(block) => at(block.latency(), self.row),
        }
    }

    /// The latency detail, in milliseconds.
    #[inline]
    pub fn latency_detail_ms(&self) -> u32 {
        match self.place {
            Place::Segment(columns, _) => clamp_u32(get(columns.latency_detail.as_ref(), self.row)),
            Place::Block(block) => at(block.latency_detail(), self.row),
        }
    }

    /// The status code.
    #[inline]
    pub fn status(&self) -> u16 {
        match self.place {
            Place::Segment(columns, _) => columns.status.as_ref().map_or(0, |status| status.get(self.row)),
            Place::Block(block) => at(block.status(), self.row),
        }
    }

    /// The flags.
    #[inline]
    pub fn flags(&self) -> EventFlags {
        match self.place {
            Place::Segment(columns, _) => {
                EventFlags(u16::try_from(get(columns.flags.as_ref(), self.row)).unwrap_or(0))
            }
            Place::Block(block) => block.flags(self.row),
        }
    }

    /// A counter by its place in the schema.
    #[inline]
    pub fn counter(&self, counter: usize) -> u32 {
        match self.place {
            Place::Segment(columns, _) => clamp_u32(get(columns.counter(counter), self.row)),
            Place::Block(block) => block.counter(counter).map_or(0, |values| at(values, self.row)),
        }
    }

    /// A number of whatever column.
    pub(crate) fn number(&self, column: NumberColumn) -> i64 {
        match column {
            NumberColumn::Time => self.ts_ns(),
            NumberColumn::Sequence => self.sequence().cast_signed(),
            NumberColumn::Metric => self.metric(),
            NumberColumn::Latency => self.latency_ms().into(),
            NumberColumn::LatencyDetail => self.latency_detail_ms().into(),
            NumberColumn::Flags => self.flags().0.into(),
            NumberColumn::Counter(counter) => self.counter(counter).into(),
        }
    }

    /// A dim by its place in the schema.
    #[inline]
    pub fn dim(&self, dim: usize) -> &'a str {
        match self.place {
            Place::Segment(columns, _) => columns.dim(dim).map_or("", |dim| dim.get(self.row)),
            Place::Block(block) => block.dim(dim, self.row),
        }
    }

    /// The id.
    ///
    /// # Errors
    /// [`DbError::Corrupt`] when the segment's ids are damaged; [`DbError::Io`] when they could not be read to be checked.
    pub fn id(&self) -> Result<Cow<'a, str>, DbError> {
        match self.place {
            Place::Segment(_, texts) => texts.id(self.row),
            Place::Block(block) => Ok(Cow::Borrowed(block.id(self.row))),
        }
    }

    /// A label by its place in the schema.
    ///
    /// # Errors
    /// As [`id`](Self::id), of the label's section.
    pub fn label(&self, label: usize) -> Result<Cow<'a, str>, DbError> {
        match self.place {
            Place::Segment(_, texts) => texts.label(label, self.row),
            Place::Block(block) => Ok(Cow::Borrowed(block.label(label, self.row))),
        }
    }

    /// The whole row, its texts in one allocation; as many counters, dims and labels as there are slots.
    pub(super) fn copy(&self, slots: Slots<'_>) -> Result<()> {
        for (counter, value) in slots.counters.iter_mut().enumerate() {
            *value = self.counter(counter);
        }
        *slots.built_in = BuiltIn {
            sequence: self.sequence(),
            ts_ns: self.ts_ns(),
            metric: self.metric(),
            latency_ms: self.latency_ms(),
            latency_detail_ms: self.latency_detail_ms(),
            status: self.status(),
            flags: self.flags(),
        };
        match self.place {
            Place::Segment(columns, texts) => texts.copy_all(self.row, columns, slots)?,
            Place::Block(block) => copy_texts_of_block(block, self.row, slots),
        }
        Ok(())
    }
}

fn copy_texts_of_block(block: &Block, row: usize, slots: Slots<'_>) {
    let dims = 0..slots.dim_ends.len();
    let labels = 0..slots.label_ends.len();
    let all = std::iter::once(block.id(row))
        .chain(dims.map(|dim| block.dim(dim, row)))
        .chain(labels.map(|label| block.label(label, row)));
    let mut texts = String::with_capacity(all.clone().map(str::len).sum());
    let ends = std::iter::once(slots.id_end).chain(slots.dim_ends).chain(slots.label_ends);
    for (text, end) in all.zip(ends) {
        texts.push_str(text);
        *end = end_of(texts.as_bytes());
    }
    *slots.texts = texts.into_boxed_str();
}

/// The limits on texts keep those of a row far below 4 GiB.
fn end_of(texts: &[u8]) -> u32 {
    u32::try_from(texts.len()).unwrap_or(u32::MAX)
}

impl fmt::Debug for RowView<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ts_ns, sequence) = (self.ts_ns(), self.sequence());
        out.debug_struct("RowView")
            .field("ts_ns", &ts_ns)
            .field("sequence", &sequence)
            .finish_non_exhaustive()
    }
}

/// 0 in a column that the segment lacks.
#[inline]
fn get(values: Option<&Column<'_>>, row: usize) -> i64 {
    values.map_or(0, |values| values.get(row))
}

#[inline]
fn at<T: Copy + Default>(values: &[T], row: usize) -> T {
    values.get(row).copied().unwrap_or_default()
}

/// The opened columns of a segment: made, and so checked, once per query that returns rows of the segment.
pub(crate) struct SegmentRows<'s> {
    columns: SegmentColumns<'s>,
    texts: SegmentTexts<'s>,
}

impl<'s> SegmentRows<'s> {
    pub(crate) fn open(open: &'s OpenSegment<'_>, context: &ReadContext) -> Result<Self> {
        Ok(Self {
            columns: SegmentColumns::open(open, context.shape, &context.columns)?,
            texts: SegmentTexts { open, readers: RefCell::default() },
        })
    }

    /// Does what pays where more than a few rows are read.
    pub(crate) fn expect_many_rows(&mut self) {
        self.columns.dims.iter_mut().flatten().for_each(KeyColumn::expect_many_rows);
    }
}

/// The columns that rows read without fail, besides time and sequence; `None` where they are not wanted, or younger than the segment.
struct SegmentColumns<'s> {
    metric: Option<Column<'s>>,
    latency: Option<Column<'s>>,
    latency_detail: Option<Column<'s>>,
    flags: Option<Column<'s>>,
    status: Option<StatusColumn<'s>>,
    counters: Vec<Option<Column<'s>>>,
    dims: Vec<Option<KeyColumn<'s>>>,
}

impl<'s> SegmentColumns<'s> {
    fn open(open: &'s OpenSegment<'_>, shape: Shape, wanted: &ColumnSet) -> Result<Self> {
        let number = |column: NumberColumn, read: &dyn Fn() -> Result<Numbers<'s>>| {
            if wanted.has_number(column) {
                read().map(|numbers| Some(Column::new(numbers)))
            } else {
                Ok(None)
            }
        };
        let is_status_wanted = wanted.has_key(Key::Status);
        let mut columns = Self {
            metric: number(NumberColumn::Metric, &|| open.metric())?,
            latency: number(NumberColumn::Latency, &|| open.latency())?,
            latency_detail: number(NumberColumn::LatencyDetail, &|| open.latency_detail())?,
            flags: number(NumberColumn::Flags, &|| open.flags())?,
            status: if is_status_wanted { Some(StatusColumn::new(open.status()?)) } else { None },
            counters: Vec::with_capacity(shape.counters),
            dims: Vec::with_capacity(shape.dims),
        };
        for counter in 0..shape.counters {
            let is_wanted = wanted.has_number(NumberColumn::Counter(counter));
            let values = if is_wanted { open.counter(counter)? } else { None };
            columns.counters.push(values.map(Column::new));
        }
        for dim in 0..shape.dims {
            let is_wanted = wanted.has_key(Key::Dim(dim));
            let keys = if is_wanted { open.dim(dim)? } else { None };
            columns.dims.push(keys.map(KeyColumn::new));
        }
        Ok(columns)
    }

    #[inline]
    fn counter(&self, counter: usize) -> Option<&Column<'s>> {
        self.counters.get(counter)?.as_ref()
    }

    #[inline]
    fn dim(&self, dim: usize) -> Option<&KeyColumn<'s>> {
        self.dims.get(dim)?.as_ref()
    }
}

/// Ids and labels, each opened when the first row asks for it.
struct SegmentTexts<'s> {
    open: &'s OpenSegment<'s>,
    readers: RefCell<Readers<'s>>,
}

/// What is kept from row to row.
#[derive(Default)]
struct Readers<'s> {
    /// The id, then the labels; `None` where none was asked for yet.
    columns: Vec<Option<TextReader<'s>>>,
    /// The texts of the last row that was copied whole.
    texts: Vec<u8>,
}

/// What most rows have of texts.
const ROW_TEXT_BYTES: usize = 256;
/// Places in [`Readers::columns`].
const ID: usize = 0;
const FIRST_LABEL: usize = 1;

impl<'s> Readers<'s> {
    /// The reader of a column; `None` where the segment is older than it.
    fn column<'r>(
        columns: &'r mut Vec<Option<TextReader<'s>>>,
        open: &'s OpenSegment<'s>,
        column: usize,
    ) -> Result<Option<&'r mut TextReader<'s>>> {
        if !matches!(columns.get(column), Some(Some(_))) {
            let texts = match column.checked_sub(FIRST_LABEL) {
                None => Some(open.id()?),
                Some(label) => open.label(label)?,
            };
            let Some(texts) = texts else { return Ok(None) };
            columns.resize_with(columns.len().max(column + 1), || None);
            columns[column] = Some(texts.reader());
        }
        Ok(columns[column].as_mut())
    }

    /// Appends the text of a column to those of the row.
    #[inline]
    fn append(&mut self, open: &'s OpenSegment<'s>, column: usize, row: usize) -> Result<()> {
        let Some(reader) = Self::column(&mut self.columns, open, column)? else { return Ok(()) };
        reader.append_to(row, &mut self.texts).map_err(|malformed| open.corrupt(malformed))
    }
}

impl SegmentTexts<'_> {
    /// The text of a column, borrowed where it stands in the segment as it is.
    fn text(&self, column: usize, row: usize) -> Result<Cow<'_, str>> {
        let mut readers = self.readers.borrow_mut();
        let Some(reader) = Readers::column(&mut readers.columns, self.open, column)? else {
            return Ok(Cow::Borrowed(""));
        };
        if let Some(plain) = reader.plain(row) {
            return Ok(Cow::Borrowed(plain));
        }
        let text = reader.get(row).map_err(|malformed| self.open.corrupt(malformed))?;
        Ok(Cow::Owned(text.to_owned()))
    }
}

impl ReadTexts for SegmentTexts<'_> {
    fn id(&self, row: usize) -> Result<Cow<'_, str>> {
        self.text(ID, row)
    }

    fn label(&self, label: usize, row: usize) -> Result<Cow<'_, str>> {
        self.text(FIRST_LABEL + label, row)
    }

    fn copy_all(&self, row: usize, columns: &SegmentColumns<'_>, slots: Slots<'_>) -> Result<()> {
        let mut readers = self.readers.borrow_mut();
        let readers = &mut *readers;
        readers.texts.clear();
        // Few rows have more, and a buffer that grows step by step costs more than the first row.
        readers.texts.reserve(ROW_TEXT_BYTES);
        readers.append(self.open, ID, row)?;
        *slots.id_end = end_of(&readers.texts);
        for (dim, end) in slots.dim_ends.iter_mut().enumerate() {
            if let Some(dim) = columns.dim(dim) {
                readers.texts.extend_from_slice(dim.bytes(row));
            }
            *end = end_of(&readers.texts);
        }
        for (label, end) in slots.label_ends.iter_mut().enumerate() {
            readers.append(self.open, FIRST_LABEL + label, row)?;
            *end = end_of(&readers.texts);
        }
        // One test for all of them: where the whole is UTF-8 and each ends with a character, each is UTF-8.
        let ends_whole = |texts: &&str| {
            let is_whole = |end: &u32| texts.is_char_boundary(*end as usize);
            is_whole(slots.id_end)
                && slots.dim_ends.iter().all(is_whole)
                && slots.label_ends.iter().all(is_whole)
        };
        let not_utf8 = || Malformed::new(0, format!("a text of row {row} is not UTF-8"));
        let texts = std::str::from_utf8(&readers.texts).ok().filter(ends_whole);
        *slots.texts = Box::from(texts.ok_or_else(|| self.open.corrupt(not_utf8()))?);
        Ok(())
    }
}
