//! The columns of one batch: in memory, and as the payload of a WAL frame.
//!
//! ```text
//! payload of n rows, shape D, C, L, little-endian, without padding:
//! time i64 × n | metric i64 × n | latency u32 × n | latency detail u32 × n | status u16 × n | flags u16 × n
//! C × ( counter u32 × n )
//! (1 + D + L) × ( length u32 × n | bytes )          id, dims, labels
//! ```
//! Sequences are not in it: the frame's header has the first, and they are dense within a batch.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::OnceLock;

use super::bytes::{ByteReader, ByteWriter, Malformed, Watch};
use super::{MAX_KEY_BYTES, MAX_LABEL_BYTES, MAX_NUMBER};
use crate::event::{EventFlags, RowRef};
use crate::kernels::{CHUNK_ROWS, Kernels};
use crate::schema::Shape;
use crate::sums::{FIXED_MEASURES, LATENCY, LATENCY_DETAIL, METRIC, Measure, Sums};

/// Rows from which a block gets an index of its ids; below, a look at each row is quicker.
const INDEXED_ROWS: usize = 64;
/// Bytes of a row's numbers in memory, without counters: time, sequence, metric, two latencies, status, flags.
const FIXED_ROW_BYTES: usize = 8 + 8 + 8 + 4 + 4 + 2 + 2;

/// A column of strings, end to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strings {
    /// Where each string ends in `text`; a batch is limited far below 4 GiB.
    ends: Vec<u32>,
    text: String,
}

impl Strings {
    /// Adds a string. Panics beyond 4 GiB in all, which whoever reads them from a file rules out before.
    pub(crate) fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(u32::try_from(self.text.len()).expect("a block is limited to far below 4 GiB"));
    }

    /// Bytes of all strings.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text.len()
    }

    fn get(&self, row: usize) -> &str {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(row).copied().unwrap_or(start);
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// Whether the string at `row` is `value`: a length that differs is known without a look at the text.
    fn is(&self, row: usize, value: &str) -> bool {
        let Some(end) = self.ends.get(row).map(|end| *end as usize) else { return value.is_empty() };
        let start =
            row.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        end - start == value.len() && self.text.as_bytes().get(start..end) == Some(value.as_bytes())
    }

    /// Every string, as bytes, in order.
    fn all(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let text = self.text.as_bytes().get(start..*end as usize).unwrap_or_default();
            start = *end as usize;
            text
        })
    }

    fn extend(&mut self, other: &Self) {
        let base = u32::try_from(self.text.len()).expect("a block is limited to far below 4 GiB");
        self.ends.extend(other.ends.iter().map(|end| base + end));
        self.text.push_str(&other.text);
    }

    fn clear(&mut self) {
        self.ends.clear();
        self.text.clear();
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let first = out.len();
        put_column(&self.ends, u32::to_le_bytes, out);
        // Ends become lengths in place: each less the one before.
        let (lengths, _) = out.get_mut(first..).unwrap_or_default().as_chunks_mut::<4>();
        for (length, start) in lengths.iter_mut().skip(1).zip(&self.ends) {
            *length = (u32::from_le_bytes(*length) - start).to_le_bytes();
        }
        out.put(self.text.as_bytes());
    }

    fn decode<W: Watch>(
        reader: &mut ByteReader<'_, W>,
        rows: usize,
        limit_bytes: usize,
        what: &str,
    ) -> Result<Self, Malformed> {
        let at = reader.position();
        let lengths = reader.lengths(rows, what)?;
        let mut ends = Vec::with_capacity(rows);
        let mut end = 0_u32;
        for length in lengths.iter().map(|length| u32::from_le_bytes(*length)) {
            let next = end.checked_add(length).filter(|_| length as usize <= limit_bytes);
            end = next
                .ok_or_else(|| Malformed::new(at, format!("{what} of {length} bytes is over the limit")))?;
            ends.push(end);
        }
        let at = reader.position();
        let text = std::str::from_utf8(reader.texts(end as usize, what)?)
            .map_err(|_| Malformed::new(at, format!("{what} is not UTF-8")))?;
        if ends.iter().any(|end| !text.is_char_boundary(*end as usize)) {
            return Err(Malformed::new(at, format!("{what} ends inside a character")));
        }
        Ok(Self { ends, text: text.to_owned() })
    }
}

/// What a block's rows have in common; computed when they are appended, for a tail that readers froze by its first reader.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) ts_min: i64,
    pub(crate) ts_max: i64,
    pub(crate) status_min: u16,
    pub(crate) status_max: u16,
    pub(crate) totals: Sums,
}

/// The columns of a block that is put together column by column, all of the same length.
#[derive(Debug, Default)]
pub(crate) struct BlockColumns {
    pub(crate) sequence: Vec<u64>,
    pub(crate) ts: Vec<i64>,
    pub(crate) metric: Vec<i64>,
    pub(crate) latency: Vec<u32>,
    pub(crate) latency_detail: Vec<u32>,
    pub(crate) status: Vec<u16>,
    pub(crate) flags: Vec<u16>,
    pub(crate) counters: Vec<Vec<u32>>,
    /// id, dims, labels
    pub(crate) texts: Vec<Strings>,
}

/// Rows in memory, column by column, in the order in which they were appended.
///
/// Columns that are younger than the block read as empty or 0.
pub(crate) struct Block {
    shape: Shape,
    sequence: Vec<u64>,
    ts: Vec<i64>,
    metric: Vec<i64>,
    latency: Vec<u32>,
    latency_detail: Vec<u32>,
    status: Vec<u16>,
    flags: Vec<u16>,
    counters: Vec<Vec<u32>>,
    /// id, dims, labels
    strings: Vec<Strings>,
    summary: OnceLock<Summary>,
    /// (hash, row) of every id that is not empty, sorted.
    ids: OnceLock<Vec<(u32, u32)>>,
    /// Per dim, a hash of each row's value: what a filter looks for.
    hashes: Vec<Vec<[u8; 2]>>,
}

impl Default for Block {
    /// Of a table without columns of its own, whose rows have ids all the same.
    fn default() -> Self {
        Self::new(Shape::default())
    }
}

/// Never an event's contents.
impl fmt::Debug for Block {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Block").field("rows", &self.rows()).finish_non_exhaustive()
    }
}

impl Block {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            counters: vec![Vec::new(); shape.counters],
            strings: vec![Strings::default(); 1 + shape.dims + shape.labels],
            sequence: Vec::new(),
            ts: Vec::new(),
            metric: Vec::new(),
            latency: Vec::new(),
            latency_detail: Vec::new(),
            status: Vec::new(),
            flags: Vec::new(),
            summary: OnceLock::new(),
            ids: OnceLock::new(),
            hashes: vec![Vec::new(); shape.dims],
        }
    }

    /// The block of these columns. Panics unless they are those of the shape and of the same length: our own mistake.
    pub(crate) fn from_columns(shape: Shape, columns: BlockColumns) -> Self {
        let rows = columns.ts.len();
        let numbers = [columns.metric.len(), columns.sequence.len(), columns.latency.len()];
        let small = [columns.latency_detail.len(), columns.status.len(), columns.flags.len()];
        let counters = columns.counters.iter().map(Vec::len);
        let texts = columns.texts.iter().map(|texts| texts.ends.len());
        let lengths = numbers.into_iter().chain(small).chain(counters).chain(texts);
        assert!(lengths.into_iter().all(|len| len == rows), "all columns of a block have the same rows");
        assert!(
            columns.counters.len() == shape.counters && columns.texts.len() == 1 + shape.dims + shape.labels,
            "a block has the columns of its shape"
        );
        let mut block = Self {
            shape,
            sequence: columns.sequence,
            ts: columns.ts,
            metric: columns.metric,
            latency: columns.latency,
            latency_detail: columns.latency_detail,
            status: columns.status,
            flags: columns.flags,
            counters: columns.counters,
            strings: columns.texts,
            summary: OnceLock::new(),
            ids: OnceLock::new(),
            hashes: Vec::new(),
        };
        block.hash_dims();
        block
    }

    /// A block with room for exactly these rows: a large batch touches no page of memory twice.
    pub(crate) fn for_rows<'a>(
        shape: Shape,
        rows: impl ExactSizeIterator<Item = RowRef<'a>> + Clone,
    ) -> Self {
        let mut block = Self::with_capacity(shape, rows.len());
        let mut text_bytes = vec![0; block.strings.len()];
        for row in rows.clone() {
            for (bytes, value) in text_bytes.iter_mut().zip(texts(row)) {
                *bytes += value.len();
            }
        }
        for (strings, bytes) in block.strings.iter_mut().zip(text_bytes) {
            strings.text.reserve_exact(bytes);
        }
        rows.for_each(|row| block.push(row));
        block
    }

    fn with_capacity(shape: Shape, rows: usize) -> Self {
        let mut block = Self::new(shape);
        block.sequence.reserve_exact(rows);
        block.ts.reserve_exact(rows);
        block.metric.reserve_exact(rows);
        block.latency.reserve_exact(rows);
        block.latency_detail.reserve_exact(rows);
        block.status.reserve_exact(rows);
        block.flags.reserve_exact(rows);
        block.counters.iter_mut().for_each(|counter| counter.reserve_exact(rows));
        block.strings.iter_mut().for_each(|strings| strings.ends.reserve_exact(rows));
        block.hashes.iter_mut().for_each(|hashes| hashes.reserve_exact(rows));
        block
    }

    /// Adds a row; it has no sequence before [`number`](Self::number).
    pub(crate) fn push(&mut self, row: RowRef<'_>) {
        self.ts.push(row.ts_ns);
        self.metric.push(row.metric);
        self.latency.push(row.latency_ms);
        self.latency_detail.push(row.latency_detail_ms);
        self.status.push(row.status);
        self.flags.push(row.flags.0);
        for (column, value) in self.counters.iter_mut().zip(row.counters) {
            column.push(*value);
        }
        for (column, value) in self.strings.iter_mut().zip(texts(row)) {
            column.push(value);
        }
        for (column, value) in self.hashes.iter_mut().zip(row.dims) {
            column.push(short_hash(value.as_bytes()));
        }
    }

    /// Hashes what stands in the dims' columns, as [`push`](Self::push) does row by row.
    fn hash_dims(&mut self) {
        let dims = self.strings.iter().skip(1).take(self.shape.dims);
        self.hashes = dims.map(|dim| dim.all().map(short_hash).collect()).collect();
    }

    /// Gives all rows their sequences, from `first` on.
    pub(crate) fn number(&mut self, first: u64) {
        self.sequence.clear();
        self.sequence.extend(first..first + self.ts.len() as u64);
    }

    /// Adds the rows of a block of the same shape, in their order.
    pub(crate) fn extend(&mut self, other: &Self) {
        debug_assert_eq!(self.shape, other.shape, "blocks of one memtable have one shape");
        self.sequence.extend_from_slice(&other.sequence);
        self.ts.extend_from_slice(&other.ts);
        self.metric.extend_from_slice(&other.metric);
        self.latency.extend_from_slice(&other.latency);
        self.latency_detail.extend_from_slice(&other.latency_detail);
        self.status.extend_from_slice(&other.status);
        self.flags.extend_from_slice(&other.flags);
        for (mine, theirs) in self.counters.iter_mut().zip(&other.counters) {
            mine.extend_from_slice(theirs);
        }
        for (mine, theirs) in self.strings.iter_mut().zip(&other.strings) {
            mine.extend(theirs);
        }
        for (mine, theirs) in self.hashes.iter_mut().zip(&other.hashes) {
            mine.extend_from_slice(theirs);
        }
        self.summary = OnceLock::new();
        self.ids = OnceLock::new();
    }

    /// Gives back the memory that the rows do not take.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.sequence.shrink_to_fit();
        self.ts.shrink_to_fit();
        self.metric.shrink_to_fit();
        self.latency.shrink_to_fit();
        self.latency_detail.shrink_to_fit();
        self.status.shrink_to_fit();
        self.flags.shrink_to_fit();
        self.counters.iter_mut().for_each(Vec::shrink_to_fit);
        for strings in &mut self.strings {
            strings.ends.shrink_to_fit();
            strings.text.shrink_to_fit();
        }
        self.hashes.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// Drops the rows and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.sequence.clear();
        self.ts.clear();
        self.metric.clear();
        self.latency.clear();
        self.latency_detail.clear();
        self.status.clear();
        self.flags.clear();
        self.counters.iter_mut().for_each(Vec::clear);
        self.strings.iter_mut().for_each(Strings::clear);
        self.hashes.iter_mut().for_each(Vec::clear);
        self.summary = OnceLock::new();
        self.ids = OnceLock::new();
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn rows(&self) -> usize {
        self.ts.len()
    }

    /// Bytes that the rows take in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let strings: usize =
            self.strings.iter().map(|strings| strings.text.len() + strings.ends.len() * 4).sum();
        let hash_bytes = size_of::<[u8; 2]>() * self.shape.dims;
        self.rows() * (FIXED_ROW_BYTES + 4 * self.shape.counters + hash_bytes) + strings
    }

    pub(crate) fn sequence(&self) -> &[u64] {
        &self.sequence
    }

    pub(crate) fn ts(&self) -> &[i64] {
        &self.ts
    }

    pub(crate) fn metric(&self) -> &[i64] {
        &self.metric
    }

    pub(crate) fn latency(&self) -> &[u32] {
        &self.latency
    }

    pub(crate) fn latency_detail(&self) -> &[u32] {
        &self.latency_detail
    }

    pub(crate) fn status(&self) -> &[u16] {
        &self.status
    }

    pub(crate) fn all_flags(&self) -> &[u16] {
        &self.flags
    }

    pub(crate) fn flags(&self, row: usize) -> EventFlags {
        EventFlags(self.flags.get(row).copied().unwrap_or(0))
    }

    /// The values of a counter; `None` when the block is older than the column.
    pub(crate) fn counter(&self, column: usize) -> Option<&[u32]> {
        self.counters.get(column).map(Vec::as_slice)
    }

    pub(crate) fn id(&self, row: usize) -> &str {
        self.strings.first().map_or("", |ids| ids.get(row))
    }

    pub(crate) fn dim(&self, column: usize, row: usize) -> &str {
        self.dim_strings(column).map_or("", |dims| dims.get(row))
    }

    /// Whether the dim of a row has a value.
    pub(crate) fn has_dim(&self, column: usize, row: usize, value: &str) -> bool {
        self.dim_strings(column).map_or(value.is_empty(), |dims| dims.is(row, value))
    }

    /// `None` when the block is older than the dim.
    fn dim_strings(&self, column: usize) -> Option<&Strings> {
        self.strings.get(1 + column).filter(|_| column < self.shape.dims)
    }

    pub(crate) fn label(&self, column: usize, row: usize) -> &str {
        self.strings.get(1 + self.shape.dims + column).map_or("", |labels| labels.get(row))
    }

    /// What the rows have in common; the first call reads every number.
    pub(crate) fn summary(&self) -> &Summary {
        self.summary.get_or_init(|| {
            let measure = |place| match place {
                METRIC => measure_i64(&self.metric),
                LATENCY => measure_u32(&self.latency),
                LATENCY_DETAIL => measure_u32(&self.latency_detail),
                place => measure_u32(self.counter(place - FIXED_MEASURES).unwrap_or_default()),
            };
            let measures = (0..FIXED_MEASURES + self.shape.counters).map(measure).collect();
            let times = measure_i64(&self.ts);
            Summary {
                ts_min: times.min,
                ts_max: times.max,
                status_min: self.status.iter().copied().min().unwrap_or(u16::MAX),
                status_max: self.status.iter().copied().max().unwrap_or(0),
                totals: Sums { count: self.rows() as u64, measures },
            }
        })
    }

    /// The rows that have a value in a dim, ascending; `None` where the block is older than the dim. Looks for the value's hash,
    /// and at the texts of only those rows that have it.
    pub(crate) fn rows_with(&self, column: usize, value: &str, kernels: &Kernels) -> Option<Vec<u32>> {
        let (hashes, values) = (self.hashes.get(column)?, self.dim_strings(column)?);
        let [low, high] = short_hash(value.as_bytes());
        let wanted = u16::from_le_bytes([low, high]);
        let (chunks, rest) = hashes.as_flattened().as_chunks();
        // Beyond the last row there is what no text has that is looked for.
        let mut last = [[!low, !high]; CHUNK_ROWS];
        let last = last.as_flattened_mut();
        last.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
        let last = last.as_chunks().0;

        let mut rows = Vec::new();
        for (chunk, first) in chunks.iter().chain(last).zip((0_u32..).step_by(CHUNK_ROWS)) {
            let mask = (kernels.range_mask_u16)(chunk, wanted, wanted);
            for (word, first) in mask.iter().zip((first..).step_by(64)) {
                let mut left = *word;
                while left != 0 {
                    rows.push(first + left.trailing_zeros());
                    left &= left - 1;
                }
            }
        }
        rows.retain(|row| values.is(*row as usize, value));
        Some(rows)
    }

    /// The rows of an id that is not empty, oldest first; the first call on a large block indexes its ids.
    pub(crate) fn rows_of_id(&self, id: &str) -> Vec<usize> {
        if self.rows() < INDEXED_ROWS {
            return (0..self.rows()).filter(|row| self.id(*row) == id).collect();
        }
        let index = self.ids.get_or_init(|| {
            let entry = |row: usize| Some((hash(self.id(row)), u32::try_from(row).ok()?));
            let mut index: Vec<_> =
                (0..self.rows()).filter(|row| !self.id(*row).is_empty()).filter_map(entry).collect();
            index.sort_unstable();
            index
        });
        let wanted = hash(id);
        let start = index.partition_point(|(hash, _)| *hash < wanted);
        let same_hash = index.iter().skip(start).take_while(|(hash, _)| *hash == wanted);
        same_hash.map(|(_, row)| *row as usize).filter(|row| self.id(*row) == id).collect()
    }

    /// Appends the payload of a frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_column(&self.ts, i64::to_le_bytes, out);
        put_column(&self.metric, i64::to_le_bytes, out);
        put_column(&self.latency, u32::to_le_bytes, out);
        put_column(&self.latency_detail, u32::to_le_bytes, out);
        put_column(&self.status, u16::to_le_bytes, out);
        put_column(&self.flags, u16::to_le_bytes, out);
        self.counters.iter().for_each(|counter| put_column(counter, u32::to_le_bytes, out));
        self.strings.iter().for_each(|strings| strings.encode(out));
    }

    /// The block of a frame's payload.
    pub(crate) fn decode(payload: &[u8], shape: Shape, rows: u32, first: u64) -> Result<Self, Malformed> {
        Self::read(ByteReader::new(payload), shape, rows, first)
    }

    /// As [`decode`](Self::decode), from a reader of the payload.
    pub(super) fn read<W: Watch>(
        mut reader: ByteReader<'_, W>,
        shape: Shape,
        rows: u32,
        first: u64,
    ) -> Result<Self, Malformed> {
        let rows = rows as usize;
        let mut block = Self::new(shape);
        block.ts = column(&mut reader, rows, "times", i64::from_le_bytes)?;
        block.metric = column(&mut reader, rows, "metrics", i64::from_le_bytes)?;
        block.latency = column(&mut reader, rows, "latencies", u32::from_le_bytes)?;
        block.latency_detail = column(&mut reader, rows, "latency details", u32::from_le_bytes)?;
        block.status = column(&mut reader, rows, "statuses", u16::from_le_bytes)?;
        block.flags = column(&mut reader, rows, "flags", u16::from_le_bytes)?;
        for (place, counter) in block.counters.iter_mut().enumerate() {
            let read = |reader: &mut _| column(reader, rows, "counters", u32::from_le_bytes);
            *counter = reader.within(format_args!("counter {place}"), read)?;
        }
        for (place, strings) in block.strings.iter_mut().enumerate() {
            let (limit_bytes, what) = match place {
                0 => (MAX_KEY_BYTES, "id"),
                place if place <= shape.dims => (MAX_KEY_BYTES, "dim"),
                _ => (MAX_LABEL_BYTES, "label"),
            };
            let read = |reader: &mut _| Strings::decode(reader, rows, limit_bytes, what);
            *strings = reader.within(StringsName { place, shape }, read)?;
        }
        block.hash_dims();
        reader.finish("the block")?;
        if first > MAX_NUMBER {
            return Err(Malformed::new(0, format!("the sequence {first} is impossible")));
        }
        block.number(first);
        Ok(block)
    }
}

/// A row's strings in the order of a block's columns: id, dims, labels.
fn texts(row: RowRef<'_>) -> impl Iterator<Item = &str> {
    std::iter::once(row.id).chain(row.dims.iter().chain(row.labels).map(String::as_str))
}

fn measure_u32(values: &[u32]) -> Measure {
    let (sum, min, max) = (Kernels::best().measure_u32)(values);
    if values.is_empty() { Measure::default() } else { Measure { sum, min: min.into(), max: max.into() } }
}

fn measure_i64(values: &[i64]) -> Measure {
    let (sum, min, max) = (Kernels::best().measure_i64)(values);
    Measure { sum, min, max }
}

/// Appends all values at once: on little-endian machines the loop is a copy.
fn put_column<T: Copy, const N: usize>(values: &[T], bytes_of: impl Fn(T) -> [u8; N], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + values.len() * N, 0);
    let (places, _) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<N>();
    for (place, value) in places.iter_mut().zip(values) {
        *place = bytes_of(*value);
    }
}

/// A hash of the length and both ends of a text, a few instructions: whoever finds it looks at the text.
fn short_hash(bytes: &[u8]) -> [u8; 2] {
    let (head, tail) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => (bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)), 0),
    };
    let mixed = (head ^ tail.rotate_left(29) ^ bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // The upper bits depend on all others.
    let [.., low, high] = mixed.to_le_bytes();
    [low, high]
}

fn hash(id: &str) -> u32 {
    // Only for this process: the index lives in memory.
    (foldhash::fast::FixedState::default().hash_one(id) >> 32) as u32
}

/// The place of a column among the strings of a block, as a group's name: made into a text only where somebody watches.
struct StringsName {
    place: usize,
    shape: Shape,
}

impl fmt::Display for StringsName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.place.checked_sub(1), self.place.checked_sub(1 + self.shape.dims)) {
            (None, _) => out.write_str("id"),
            (_, Some(label)) => write!(out, "label {label}"),
            (Some(dim), None) => write!(out, "dim {dim}"),
        }
    }
}

fn column<T, const N: usize, W: Watch>(
    reader: &mut ByteReader<'_, W>,
    rows: usize,
    what: &str,
    value_of: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, Malformed> {
    Ok(reader.array(rows, what)?.iter().map(|bytes| value_of(*bytes)).collect())
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the rows of a test are few")]
mod tests {
    use super::*;
    use crate::event::LogEvent;

    fn event(row: usize) -> LogEvent<2, 1, 1> {
        LogEvent {
            id: format!("call-{row}"),
            ts_ns: row as i64 * 7 - 20,
            metric: i64::MAX - row as i64,
            counters: [row as u32],
            latency_ms: 3,
            latency_detail_ms: 2,
            status: 200 + row as u16,
            flags: EventFlags(5),
            dims: ["alice".into(), String::new()],
            labels: ["größe".repeat(row % 3)],
        }
    }

    fn block(rows: usize) -> Block {
        let mut block = Block::new(Shape { dims: 2, counters: 1, labels: 1 });
        (0..rows).for_each(|row| block.push(event(row).as_row()));
        block.number(100);
        block
    }

    #[test]
    fn summaries_are_exact_at_the_ends_of_the_range() {
        let values = [i64::MIN, i64::MAX, -1, 0, 1, i64::MIN, 1 << 32, -(1 << 32)];
        for count in 0..=values.len() {
            let mut plain = Measure::default();
            values[..count].iter().for_each(|value| plain.add(*value));
            assert_eq!(measure_i64(&values[..count]), plain);
        }
        assert_eq!(measure_i64(&vec![i64::MIN; 200_000]).sum, i128::from(i64::MIN) * 200_000);
        assert_eq!(measure_u32(&vec![u32::MAX; 200_000]).sum, i128::from(u32::MAX) * 200_000);
        assert_eq!(measure_u32(&[]), Measure::default());
    }

    #[test]
    fn rows_with_a_value_are_those_that_a_look_at_each_finds() {
        let texts = |row: usize| match row % 5 {
            0 => String::new(),
            1 => format!("u{}", row % 7),
            2 => format!("user number {}", row % 300),
            3 => "x".repeat(row % 20),
            _ => format!("{} a value of which only the middle {} tells it apart", row % 3, row % 4),
        };
        let shape = Shape { dims: 1, counters: 0, labels: 0 };
        for rows in [0, 1, 255, 256, 257, 1000, 4096] {
            let mut block = Block::new(shape);
            for row in 0..rows {
                block.push(LogEvent::<1, 0, 0> { dims: [texts(row)], ..LogEvent::default() }.as_row());
            }
            block.number(0);
            let mut payload = Vec::new();
            block.encode(&mut payload);
            let decoded = Block::decode(&payload, shape, u32::try_from(rows).unwrap(), 0).unwrap();
            let mut extended = Block::new(shape);
            extended.extend(&block);
            for (kernels, block) in Kernels::all_available()
                .into_iter()
                .flat_map(|kernels| [&block, &decoded, &extended].map(|block| (kernels, block)))
            {
                for value in (0..50).map(texts).chain(["nobody".to_owned()]) {
                    let right: Vec<u32> = (0..)
                        .zip(0..rows)
                        .filter(|(_, row)| texts(*row) == value)
                        .map(|(row, _)| row)
                        .collect();
                    assert_eq!(block.rows_with(0, &value, kernels), Some(right), "{value:?} of {rows}");
                    let has = |row: &usize| block.has_dim(0, *row, &value);
                    assert!((0..rows).all(|row| has(&row) == (texts(row) == value)));
                }
                assert_eq!(block.rows_with(1, "x", kernels), None);
                assert!(block.has_dim(1, 0, "") && !block.has_dim(1, 0, "x"));
            }
        }
    }

    #[test]
    fn a_payload_decodes_to_the_same_rows() {
        for rows in [0, 1, 5, 300] {
            let mut payload = Vec::new();
            block(rows).encode(&mut payload);
            let decoded =
                Block::decode(&payload, Shape { dims: 2, counters: 1, labels: 1 }, rows as u32, 100).unwrap();
            assert_eq!(decoded.rows(), rows);
            for row in 0..rows {
                let event = event(row);
                assert_eq!(decoded.id(row), event.id);
                assert_eq!(decoded.sequence()[row], 100 + row as u64);
                assert_eq!((decoded.ts()[row], decoded.metric()[row]), (event.ts_ns, event.metric));
                assert_eq!(
                    (decoded.dim(0, row), decoded.dim(1, row), decoded.dim(2, row)),
                    ("alice", "", "")
                );
                assert_eq!((decoded.label(0, row), decoded.label(1, row)), (event.labels[0].as_str(), ""));
                assert_eq!(decoded.counter(0).unwrap()[row], event.counters[0]);
                assert_eq!((decoded.status()[row], decoded.flags(row)), (event.status, event.flags));
            }
        }
    }

    #[test]
    fn every_truncation_and_flip_is_refused_or_read_without_panic() {
        let shape = Shape { dims: 2, counters: 1, labels: 1 };
        let mut payload = Vec::new();
        block(3).encode(&mut payload);
        for bytes in 0..payload.len() {
            assert!(Block::decode(&payload[..bytes], shape, 3, 0).is_err());
        }
        for bit in 0..payload.len() * 8 {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(block) = Block::decode(&flipped, shape, 3, 0) {
                for row in 0..3 {
                    let _ = (block.id(row), block.dim(0, row), block.label(0, row));
                }
            }
        }
        assert!(Block::decode(&payload, shape, u32::MAX, 0).is_err());
        assert!(Block::decode(&payload, shape, 3, u64::MAX).is_err());
    }

    #[test]
    fn ids_are_found_with_and_without_an_index() {
        for rows in [10, 200] {
            let mut block = block(rows);
            let again = self::block(1);
            block.extend(&again);
            assert_eq!(block.rows_of_id("call-0"), [0, rows]);
            assert_eq!(block.rows_of_id("call-7"), [7]);
            assert!(block.rows_of_id("call-999").is_empty());
        }
    }

    #[test]
    fn summaries_are_exact() {
        let block = block(5);
        let summary = block.summary();
        assert_eq!(
            (summary.ts_min, summary.ts_max, summary.status_min, summary.status_max),
            (-20, 8, 200, 204)
        );
        assert_eq!(summary.totals.measures[METRIC].sum, i128::from(i64::MAX) * 5 - 10);
        assert_eq!(summary.totals.measures[LATENCY_DETAIL].sum, 10);
        assert_eq!(summary.totals.measures[FIXED_MEASURES].max, 4);
    }
}
