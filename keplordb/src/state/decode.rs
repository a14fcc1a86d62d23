//! From a segment back to a block: its live rows, for a segment that takes them over.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::version::SegmentEntry;
use crate::error::{DbError, Result};
use crate::format::block::{Block, BlockColumns, Strings};
use crate::format::keys::{Keys, status_of};
use crate::format::numbers::Numbers;
use crate::format::texts::Texts;
use crate::kernels::CHUNK_ROWS;
use crate::storage::segment_reader::OpenSegment;

/// The live rows of a segment, and which of its rows they are. It does not hold the segment open.
#[derive(Debug)]
pub(crate) struct DecodedSegment {
    pub(crate) number: u64,
    pub(crate) block: Arc<Block>,
    /// All rows of the segment.
    rows: u32,
    /// Those that were deleted when it was decoded, and are not in the block.
    deleted: Option<Arc<RoaringBitmap>>,
}

impl DecodedSegment {
    /// Reads every section but the indexes; O(bytes), with one decompressed block at a time besides the rows themselves.
    pub(crate) fn new(entry: &SegmentEntry) -> Result<Self> {
        let header = entry.segment.header();
        let open = entry.segment.read()?;
        let shape = header.schema.shape();
        let is_live = |row: &u32| !entry.is_deleted(*row);
        let live: Vec<u32> = (0..header.rows).filter(is_live).collect();
        let narrow = |value: i64| u32::try_from(value.max(0)).unwrap_or(u32::MAX);
        let small = |value: i64| u16::try_from(value.max(0)).unwrap_or(u16::MAX);
        let mut counters = Vec::with_capacity(shape.counters);
        for counter in 0..shape.counters {
            let values = open.counter(counter)?;
            counters
                .push(values.map_or_else(|| vec![0; live.len()], |values| numbers(&values, &live, narrow)));
        }
        let mut texts = Vec::with_capacity(1 + shape.dims + shape.labels);
        texts.push(of_texts(&open, Some(open.id()?), &live)?);
        for dim in 0..shape.dims {
            texts.push(of_keys(&open, open.dim(dim)?, &live)?);
        }
        for label in 0..shape.labels {
            texts.push(of_texts(&open, open.label(label)?, &live)?);
        }
        let columns = BlockColumns {
            sequence: numbers(&open.sequence()?, &live, |value| value as u64),
            ts: numbers(&open.time()?, &live, |value| value),
            metric: numbers(&open.metric()?, &live, |value| value),
            latency: numbers(&open.latency()?, &live, narrow),
            latency_detail: numbers(&open.latency_detail()?, &live, narrow),
            status: statuses(&open.status()?, &live),
            flags: numbers(&open.flags()?, &live, small),
            counters,
            texts,
        };
        Ok(Self {
            number: entry.segment.number(),
            block: Arc::new(Block::from_columns(shape, columns)),
            rows: header.rows,
            deleted: entry.deleted.clone(),
        })
    }

    /// The sequences of rows that are in the block and that `now` says are deleted.
    pub(crate) fn deleted_since(&self, now: &SegmentEntry) -> Vec<u64> {
        let Some(now) = &now.deleted else { return Vec::new() };
        let before = |row: &u32| self.deleted.as_ref().is_some_and(|deleted| deleted.contains(*row));
        if self.deleted.as_ref().map_or(0, |deleted| deleted.len()) == now.len() {
            return Vec::new();
        }
        let live = (0..self.rows).filter(|row| !before(row));
        let rows = live.zip(self.block.sequence());
        rows.filter(|(row, _)| now.contains(*row)).map(|(_, sequence)| *sequence).collect()
    }
}

/// One value of each live row; `live` ascends.
fn numbers<T>(values: &Numbers<'_>, live: &[u32], as_value: impl Fn(i64) -> T) -> Vec<T> {
    let mut found = Vec::with_capacity(live.len());
    let mut held = [0; CHUNK_ROWS];
    let mut held_chunk = None;
    for row in live.iter().map(|row| *row as usize) {
        let chunk = row / CHUNK_ROWS;
        if held_chunk != Some(chunk) {
            values.read_chunk(chunk, &mut held);
            held_chunk = Some(chunk);
        }
        found.push(as_value(held[row % CHUNK_ROWS]));
    }
    found
}

fn statuses(keys: &Keys<'_>, live: &[u32]) -> Vec<u16> {
    let values = keys.dictionary();
    let of_code: Vec<u16> = (0..keys.values()).map(|code| status_of(values.value(code))).collect();
    let status = |code: i64| usize::try_from(code).ok().and_then(|code| of_code.get(code)).copied();
    numbers(&keys.codes(), live, |code| status(code).unwrap_or_default())
}

/// `None` is a column that is younger than the segment: empty in every row.
fn of_keys(open: &OpenSegment<'_>, keys: Option<Keys<'_>>, live: &[u32]) -> Result<Strings> {
    let mut strings = Strings::default();
    let codes = keys.map(|keys| numbers(&keys.codes(), live, |code| code));
    let values = keys.map(|keys| keys.dictionary());
    for place in 0..live.len() {
        let code = codes.as_ref().and_then(|codes| u32::try_from(*codes.get(place)?).ok());
        let value = values.zip(code).map_or("", |(values, code)| values.value(code));
        push(&mut strings, value, open)?;
    }
    Ok(strings)
}

fn of_texts(open: &OpenSegment<'_>, texts: Option<Texts<'_>>, live: &[u32]) -> Result<Strings> {
    let mut strings = Strings::default();
    let mut reader = texts.map(|texts| texts.reader());
    for row in live {
        let value = match &mut reader {
            Some(reader) => reader.get(*row as usize).map_err(|malformed| open.corrupt(malformed))?,
            None => "",
        };
        push(&mut strings, value, open)?;
    }
    Ok(strings)
}

/// Damage can claim any number of long texts: what no engine wrote must not make us panic.
fn push(strings: &mut Strings, value: &str, open: &OpenSegment<'_>) -> Result<()> {
    if strings.text_bytes() + value.len() > u32::MAX as usize {
        return Err(DbError::corrupt(open.path(), 0, "a column of texts has more than 4 GiB"));
    }
    strings.push(value);
    Ok(())
}
