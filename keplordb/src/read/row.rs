//! One row, borrowed from where it lies: a segment or a block in memory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use super::query::clamp_u32;
use crate::error::{DbError, Result};
use crate::event::EventFlags;
use crate::format::block::Block;
use crate::format::keys::{Keys, status_of};
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
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Segment(&'a SegmentColumns<'a>, &'a dyn ReadTexts),
    Block(&'a Block),
}

/// Reads ids and labels of a segment's rows. A trait, so that a row does not carry the lifetime of what is cached
/// behind it.
trait ReadTexts {
    fn id(&self, row: usize) -> Result<String>;
    fn label(&self, label: usize, row: usize) -> Result<String>;
}

impl<'a> RowView<'a> {
    /// A row of a segment; `row` is one of its rows.
    pub(crate) fn of_segment(rows: &'a SegmentRows<'_>, row: usize) -> Self {
        Self { place: Place::Segment(&rows.columns, &rows.texts), row }
    }

    /// A row of a block; `row` is one of its rows.
    pub(crate) fn of_block(block: &'a Block, row: usize) -> Self {
        Self { place: Place::Block(block), row }
    }

    /// The number that the engine gave the row; unique, and ascending among rows of equal time as they were appended
    /// to one shard.
    pub fn sequence(&self) -> u64 {
        match self.place {
            Place::Segment(columns, _) => columns.sequence.get(self.row) as u64,
            Place::Block(block) => at(block.sequence(), self.row),
        }
    }

    /// When it happened, in nanoseconds since the Unix epoch.
    pub fn ts_ns(&self) -> i64 {
        match self.place {
            Place::Segment(columns, _) => columns.time.get(self.row),
            Place::Block(block) => at(block.ts(), self.row),
        }
    }

    /// The metric.
    pub fn metric(&self) -> i64 {
        match self.place {
            Place::Segment(columns, _) => columns.metric.get(self.row),
            Place::Block(block) => at(block.metric(), self.row),
        }
    }

    /// The latency, in milliseconds.
    pub fn latency_ms(&self) -> u32 {
        match self.place {
            Place::Segment(columns, _) => clamp_u32(columns.latency.get(self.row)),
            Place::Block(block) => at(block.latency(), self.row),
        }
    }

    /// The latency detail, in milliseconds.
    pub fn latency_detail_ms(&self) -> u32 {
        match self.place {
            Place::Segment(columns, _) => clamp_u32(columns.latency_detail.get(self.row)),
            Place::Block(block) => at(block.latency_detail(), self.row),
        }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        match self.place {
            Place::Segment(columns, _) => columns.status(self.row),
            Place::Block(block) => at(block.status(), self.row),
        }
    }

    /// The flags.
    pub fn flags(&self) -> EventFlags {
        match self.place {
            Place::Segment(columns, _) => EventFlags(u16::try_from(columns.flags.get(self.row)).unwrap_or(0)),
            Place::Block(block) => block.flags(self.row),
        }
    }

    /// A counter by its place in the schema.
    pub fn counter(&self, counter: usize) -> u32 {
        match self.place {
            Place::Segment(columns, _) => {
                columns.counters.get(counter).map_or(0, |values| clamp_u32(values.get(self.row)))
            }
            Place::Block(block) => block.counter(counter).map_or(0, |values| at(values, self.row)),
        }
    }

    /// A dim by its place in the schema.
    pub fn dim(&self, dim: usize) -> &'a str {
        match self.place {
            Place::Segment(columns, _) => columns.dims.get(dim).map_or("", |keys| keys.text(self.row)),
            Place::Block(block) => block.dim(dim, self.row),
        }
    }

    /// The id.
    ///
    /// # Errors
    /// [`DbError::Corrupt`] when the segment's ids are damaged; [`DbError::Io`] when they could not be read to be checked.
    pub fn id(&self) -> Result<Cow<'a, str>, DbError> {
        match self.place {
            Place::Segment(_, texts) => texts.id(self.row).map(Cow::Owned),
            Place::Block(block) => Ok(Cow::Borrowed(block.id(self.row))),
        }
    }

    /// A label by its place in the schema.
    ///
    /// # Errors
    /// As [`id`](Self::id), of the label's section.
    pub fn label(&self, label: usize) -> Result<Cow<'a, str>, DbError> {
        match self.place {
            Place::Segment(_, texts) => texts.label(label, self.row).map(Cow::Owned),
            Place::Block(block) => Ok(Cow::Borrowed(block.label(label, self.row))),
        }
    }
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

fn at<T: Copy + Default>(values: &[T], row: usize) -> T {
    values.get(row).copied().unwrap_or_default()
}

/// The opened columns of a segment: made, and so checked, once per query that returns rows of the segment.
pub(crate) struct SegmentRows<'s> {
    columns: SegmentColumns<'s>,
    texts: SegmentTexts<'s>,
}

impl<'s> SegmentRows<'s> {
    pub(crate) fn open(open: &'s OpenSegment<'_>, shape: Shape) -> Result<Self> {
        Ok(Self {
            columns: SegmentColumns::open(open, shape)?,
            texts: SegmentTexts { open, readers: RefCell::default() },
        })
    }
}

/// Statuses of a segment that are parsed when it is opened for rows; most tables have a dozen.
const PARSED_STATUSES: u32 = 64;

/// The columns that rows read without fail.
struct SegmentColumns<'s> {
    time: Numbers<'s>,
    sequence: Numbers<'s>,
    metric: Numbers<'s>,
    latency: Numbers<'s>,
    latency_detail: Numbers<'s>,
    flags: Numbers<'s>,
    status: Keys<'s>,
    /// The status of each code, parsed once for all rows; empty where there are too many to parse ahead.
    statuses: Vec<u16>,
    /// Shorter than the table's where columns are younger than the segment; so are the dims.
    counters: Vec<Numbers<'s>>,
    dims: Vec<Keys<'s>>,
}

impl<'s> SegmentColumns<'s> {
    fn open(open: &'s OpenSegment<'_>, shape: Shape) -> Result<Self> {
        let status = open.status()?;
        let parsed = if status.values() <= PARSED_STATUSES { 0..status.values() } else { 0..0 };
        let mut columns = Self {
            time: open.time()?,
            sequence: open.sequence()?,
            metric: open.metric()?,
            latency: open.latency()?,
            latency_detail: open.latency_detail()?,
            flags: open.flags()?,
            status,
            statuses: parsed.map(|code| status_of(status.value(code))).collect(),
            counters: Vec::with_capacity(shape.counters),
            dims: Vec::with_capacity(shape.dims),
        };
        for counter in 0..shape.counters {
            let Some(values) = open.counter(counter)? else { break };
            columns.counters.push(values);
        }
        for dim in 0..shape.dims {
            let Some(keys) = open.dim(dim)? else { break };
            columns.dims.push(keys);
        }
        Ok(columns)
    }
}

impl SegmentColumns<'_> {
    fn status(&self, row: usize) -> u16 {
        let parsed = self.statuses.get(self.status.code(row) as usize);
        parsed.copied().unwrap_or_else(|| status_of(self.status.text(row)))
    }
}

/// Ids and labels, opened when the first row asks; a reader keeps its last compressed block, which neighbours share.
struct SegmentTexts<'s> {
    open: &'s OpenSegment<'s>,
    /// By label; `None` is the id.
    readers: RefCell<Vec<(Option<usize>, TextReader<'s>)>>,
}

impl SegmentTexts<'_> {
    /// The text of a label, or of the id.
    fn text(&self, label: Option<usize>, row: usize) -> Result<String> {
        let mut readers = self.readers.borrow_mut();
        let known = readers.iter().position(|(known, _)| *known == label);
        let place = if let Some(known) = known {
            known
        } else {
            let texts = match label {
                None => Some(self.open.id()?),
                Some(label) => self.open.label(label)?,
            };
            let Some(texts) = texts else { return Ok(String::new()) };
            readers.push((label, texts.reader()));
            readers.len() - 1
        };
        let text = readers[place].1.get(row).map_err(|malformed| self.open.corrupt(malformed))?;
        Ok(text.to_owned())
    }
}

impl ReadTexts for SegmentTexts<'_> {
    fn id(&self, row: usize) -> Result<String> {
        self.text(None, row)
    }

    fn label(&self, label: usize, row: usize) -> Result<String> {
        self.text(Some(label), row)
    }
}
