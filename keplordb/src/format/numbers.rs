//! A column of integers: chunks of 256 rows as residuals over a base, with zone maps and running sums beside them.
//!
//! Residuals are read in place, never decoded into memory first; pruning and sums over ranges read only the arrays in
//! front of them. Knows bytes, not files.
//!
//! ```text
//! section, all integers little-endian, offsets in bytes from its start; c = chunks = rows / 256 rounded up
//! ┌───────────────┬──────────────────────────────────────────────────────────────────────────────────────────────┐
//! │ 0             │ rows u32                                                                                     │
//! │ 4             │ running sums u8: 1 = absent, 2 = present                                                     │
//! │ 5             │ form u8: 1 = each chunk has its base and width, 2 = all chunks have the same                 │
//! │ 6             │ width u8 of all chunks (1 = 0, 2 = 8, 3 = 16, 4 = 32, 5 = 64 bit), 0 in form 1; 1 zero byte  │
//! │ 8             │ data units u32 (256 bytes each); 4 zero bytes                                                │
//! │ 16            │ base i64 of all chunks, 0 in form 1                                                          │
//! │ 24            │ chunk minima i64 × c: zone map, and in form 1 also the base of each chunk                    │
//! │ + 8c          │ chunk maxima i64 × c                                                                         │
//! │ + 8c          │ in form 1, chunk places u32 × c: first data unit << 3 | width                                │
//! │ + 4c, to 16   │ if present, running sums i128 × (c + 1): sum of the rows before chunk 0, 1, … c              │
//! │ to 64         │ data: per chunk 256 residuals (value - base), those past the last row zero                   │
//! └───────────────┴──────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Valid if and only if
//! 1. rows are those of the segment, the mark of the sums is the expected one, and zero bytes and gaps are zero;
//! 2. the chunks' data follow each other without gaps and fill the section to its end;
//! 3. each minimum is at most its maximum, and both less the base fit the chunk's width;
//! 4. each chunk's sum (the difference of two running sums) lies between rows × minimum and rows × maximum;
//! 5. the residuals past the last row are zero.
//!
//! That minima, maxima and sums are those of the rows is not checked at the door: it is what `verify` is for.
//!
//! Form 2 is the faster one: a row's residual is found without its chunk, and whoever knows the base may read the residuals
//! of all rows as one array. It is written unless bases of their own make the chunks clearly smaller, as those of
//! times and sequences do.

use std::ops::Range;

use super::arrays::{Residuals, Width};
use super::bytes::{ByteReader, ByteWriter, Malformed, Watch};
use super::describe::Spans;
use crate::kernels::{CHUNK_ROWS, Kernels, Mask, MinMax, Places};

/// Bytes before the chunk minima.
const HEADER_BYTES: usize = 24;
/// Bytes of a data unit: one residual byte for each row of a chunk, so that every chunk is 0, 1, 2, 4 or 8 units.
const UNIT_BYTES: usize = CHUNK_ROWS;
/// Bits of a chunk place that hold the width; the 29 others address 128 GiB, more than 2³² rows of 64 bits need.
const WIDTH_BITS: u32 = 3;
/// Running sums are aligned to their own size, data to a cache line, as seen from the section's start.
const SUMS_ALIGN_BYTES: usize = 16;
const DATA_ALIGN_BYTES: usize = 64;
/// Marks in the header.
const SUMS_ABSENT: u8 = 1;
const SUMS_PRESENT: u8 = 2;

/// Forms in the header.
const FORM_CHUNKS: u8 = 1;
const FORM_COMMON: u8 = 2;
/// How much smaller, in parts of all, the data must be if each chunk is to have a base of its own.
const SMALLER_BY_PART: usize = 8;

/// Where the arrays of a section begin, in bytes from its start.
struct Layout {
    maxima: usize,
    places: usize,
    /// Chunk places in the section: none, or one for each chunk.
    places_count: usize,
    sums: usize,
    /// Running sums in the section: none, or one more than there are chunks.
    sums_count: usize,
    data: usize,
}

impl Layout {
    fn new(chunks: usize, has_places: bool, with_sums: bool) -> Self {
        let maxima = HEADER_BYTES + 8 * chunks;
        let places = maxima + 8 * chunks;
        let places_count = if has_places { chunks } else { 0 };
        let sums = (places + 4 * places_count).next_multiple_of(SUMS_ALIGN_BYTES);
        let sums_count = if with_sums { chunks + 1 } else { 0 };
        let data = (sums + 16 * sums_count).next_multiple_of(DATA_ALIGN_BYTES);
        Self { maxima, places, places_count, sums, sums_count, data }
    }
}

/// One base and one width for all chunks.
#[derive(Debug, Clone, Copy)]
struct Common {
    base: i64,
    width: Width,
}

impl Common {
    /// `None` where chunks with bases of their own take clearly less; a chunk's base is its minimum then. The base is 0
    /// where that costs nothing, so that residuals are the values themselves.
    fn of(zones: &[ChunkZone], own_units: usize) -> Option<Self> {
        let min = zones.iter().map(|zone| zone.min).min().unwrap_or(0);
        let max = zones.iter().map(|zone| zone.max).max().unwrap_or(0);
        let width_from = |base: i64| Width::for_residual((max as u64).wrapping_sub(base as u64));
        let zero_is_free = min >= 0 && width_from(0) == width_from(min);
        let base = if zero_is_free { 0 } else { min };
        let width = width_from(base);
        let units = zones.len() * width.bytes();
        (units <= own_units + own_units / SMALLER_BY_PART).then_some(Self { base, width })
    }
}

/// Appends the section of `values`; its gaps are laid out from where `out` ends now.
///
/// Two passes over the values, about 1 ms for a million of them. Panics at 2³² values or more: a segment has fewer.
pub(crate) fn encode(values: &[i64], with_sums: bool, out: &mut Vec<u8>) {
    let rows = u32::try_from(values.len()).expect("a segment has fewer than 2^32 rows");
    let start = out.len();
    let zones: Vec<ChunkZone> = values.chunks(CHUNK_ROWS).map(ChunkZone::of).collect();
    let own_units: usize = zones.iter().map(|zone| zone.width.bytes()).sum();
    let common = Common::of(&zones, own_units);
    let layout = Layout::new(zones.len(), common.is_none(), with_sums);
    let units = common.map_or(own_units, |common| zones.len() * common.width.bytes());
    out.reserve(layout.data + units * UNIT_BYTES);

    out.put_u32(rows);
    out.put_u8(if with_sums { SUMS_PRESENT } else { SUMS_ABSENT });
    out.put_u8(if common.is_some() { FORM_COMMON } else { FORM_CHUNKS });
    out.put_u8(common.map_or(0, |common| common.width as u8));
    out.put(&[0; 1]);
    out.put_count(units);
    out.put(&[0; 4]);
    out.put_i64(common.map_or(0, |common| common.base));
    for zone in &zones {
        out.put_i64(zone.min);
    }
    for zone in &zones {
        out.put_i64(zone.max);
    }
    if common.is_none() {
        let mut unit = 0;
        for zone in &zones {
            out.put_count(unit << WIDTH_BITS | zone.width as usize);
            unit += zone.width.bytes();
        }
    }
    out.resize(start + layout.sums, 0);
    if with_sums {
        let mut sum = 0;
        out.put_i128(sum);
        for zone in &zones {
            sum += zone.sum;
            out.put_i128(sum);
        }
    }
    out.resize(start + layout.data, 0);
    for (zone, chunk) in zones.iter().zip(values.chunks(CHUNK_ROWS)) {
        let Common { base, width } = common.unwrap_or(Common { base: zone.min, width: zone.width });
        let data_start = out.len();
        out.resize(data_start + width.bytes() * UNIT_BYTES, 0);
        let (_, data) = out.split_at_mut(data_start);
        width.put(chunk.iter().map(|&v| (v as u64).wrapping_sub(base as u64)), data);
    }
}

/// What the arrays say about one chunk.
struct ChunkZone {
    min: i64,
    max: i64,
    sum: i128,
    width: Width,
}

impl ChunkZone {
    fn of(chunk: &[i64]) -> Self {
        let (min, max) = chunk.iter().fold((i64::MAX, i64::MIN), |(min, max), &v| (min.min(v), max.max(v)));
        let residual_max = (max as u64).wrapping_sub(min as u64);
        let width = Width::for_residual(residual_max);
        // 256 residuals below 2³² fit a u64, which adds up four times as fast as an i128.
        let sum = if width == Width::Bits64 {
            chunk.iter().map(|&v| i128::from(v)).sum()
        } else {
            let residuals: u64 = chunk.iter().map(|&v| (v as u64).wrapping_sub(min as u64)).sum();
            i128::from(min) * chunk.len() as i128 + i128::from(residuals)
        };
        Self { min, max, sum, width }
    }
}

/// What a zone map says about a range of values in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// No row of the chunk lies in the range.
    None,
    /// Every row of the chunk does.
    All,
    /// Only the rows themselves can tell.
    Some,
}

/// The residuals of a chunk, as they lie in the section.
enum ChunkData<'a> {
    Zero,
    Bits8(&'a [u8; CHUNK_ROWS]),
    Bits16(&'a [u8; 2 * CHUNK_ROWS]),
    Bits32(&'a [u8; 4 * CHUNK_ROWS]),
    Bits64(&'a [u8; 8 * CHUNK_ROWS]),
}

/// A column of integers, read in place.
///
/// Made from bytes that passed [`check`](Self::check), by a dozen loads. Rows and chunks out of range read as 0 and are
/// a mistake of the caller's that debug builds catch. Methods never panic in release builds, whatever the bytes are;
/// over bytes that did not pass the check they return nonsense.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers<'a> {
    rows: usize,
    common: Option<Common>,
    minima: &'a [[u8; 8]],
    maxima: &'a [[u8; 8]],
    /// Empty where all chunks have one base and width.
    places: &'a [[u8; 4]],
    /// Empty without running sums.
    sums: &'a [[u8; 16]],
    data: &'a [u8],
}

impl<'a> Numbers<'a> {
    /// Checks everything that the methods rely on, without reading the residuals: O(chunks).
    pub(crate) fn check(bytes: &[u8], rows: usize, with_sums: bool) -> Result<(), Malformed> {
        let mut reader = ByteReader::new(bytes);
        let stored_rows = reader.u32("rows")?;
        if stored_rows as usize != rows {
            return Err(Malformed::new(0, format!("a column of {stored_rows} rows instead of {rows}")));
        }
        let expected_mark = if with_sums { SUMS_PRESENT } else { SUMS_ABSENT };
        let mark = reader.u8("mark of the running sums")?;
        if mark != expected_mark {
            return Err(Malformed::new(
                4,
                format!("mark of the running sums is {mark} instead of {expected_mark}"),
            ));
        }
        let (form, width) = (reader.u8("form")?, reader.u8("width of all chunks")?);
        check_zero(&mut reader, 1, "the header")?;
        let units = reader.u32("data units")? as usize;
        check_zero(&mut reader, 4, "the header")?;
        let base = reader.i64("base of all chunks")?;
        let is_possible = match form {
            FORM_CHUNKS => width == 0 && base == 0,
            FORM_COMMON => Width::from_tag(u32::from(width)).is_some(),
            _ => false,
        };
        if !is_possible {
            let what = format!("a column of form {form}, width {width} and base {base} cannot be");
            return Err(Malformed::new(5, what));
        }

        let chunks = rows.div_ceil(CHUNK_ROWS);
        let layout = Layout::new(chunks, form == FORM_CHUNKS, with_sums);
        let expected_bytes = units.checked_mul(UNIT_BYTES).and_then(|data| data.checked_add(layout.data));
        if expected_bytes != Some(bytes.len()) {
            let what = format!("a column of {rows} rows and {units} data units in {} bytes", bytes.len());
            return Err(Malformed::new(8, what));
        }
        check_gap(bytes, layout.places + 4 * layout.places_count..layout.sums)?;
        check_gap(bytes, layout.sums + 16 * layout.sums_count..layout.data)?;

        let numbers = Numbers::new(bytes, rows, with_sums);
        let mut next_unit = 0;
        for chunk in 0..chunks {
            let at = layout.places + 4 * chunk;
            let (unit, width) = if let Some(Common { width, .. }) = numbers.common {
                (next_unit, width)
            } else {
                let place = numbers.place(chunk);
                let unknown = || format!("chunk {chunk} has an unknown width in {place:#x}");
                let width = width_of(place).ok_or_else(|| Malformed::new(at, unknown()))?;
                ((place >> WIDTH_BITS) as usize, width)
            };
            if unit != next_unit {
                return Err(Malformed::new(
                    at,
                    format!("the data of chunk {chunk} is not at unit {next_unit}"),
                ));
            }
            next_unit += width.bytes();
            numbers
                .check_zone(chunk, width)
                .map_err(|what| Malformed::new(HEADER_BYTES + 8 * chunk, what))?;
        }
        if next_unit != units {
            return Err(Malformed::new(8, format!("{units} data units, the chunks have {next_unit}")));
        }
        if with_sums && numbers.running_sum(0) != 0 {
            return Err(Malformed::new(layout.sums, "the first running sum is not 0"));
        }
        numbers.check_padding().map_err(|what| Malformed::new(layout.data, what))
    }

    /// Checks that minimum, maximum, width and sum of a chunk can be true together.
    fn check_zone(&self, chunk: usize, width: Width) -> Result<(), String> {
        let (min, max) = (self.chunk_min(chunk), self.chunk_max(chunk));
        if min > max {
            return Err(format!("chunk {chunk} has minimum {min} above maximum {max}"));
        }
        let base = self.base(chunk);
        if min < base || self.residual_of(chunk, max) > width.residual_max() {
            return Err(format!("values {min} to {max} do not fit the width of chunk {chunk}"));
        }
        if !self.sums.is_empty() {
            let rows = self.chunk_rows(chunk).len() as i128;
            let sum = self.running_sum(chunk + 1).checked_sub(self.running_sum(chunk));
            let possible = rows * i128::from(min)..=rows * i128::from(max);
            if !sum.is_some_and(|sum| possible.contains(&sum)) {
                return Err(format!("the running sums of chunk {chunk} do not fit its minimum and maximum"));
            }
        }
        Ok(())
    }

    /// Checks that the residuals past the last row are zero.
    fn check_padding(&self) -> Result<(), String> {
        let last = self.rows.div_ceil(CHUNK_ROWS).saturating_sub(1);
        let padding = self.rows - last * CHUNK_ROWS..CHUNK_ROWS;
        let all_zero = self.rows == 0 || self.residuals(last).fold(padding, true, |zero, r| zero && r == 0);
        if all_zero { Ok(()) } else { Err("residuals past the last row are not zero".to_owned()) }
    }

    /// Checks that every row lies between the minimum and the maximum of its chunk: O(bytes). For columns whose values
    /// are places in arrays.
    pub(crate) fn check_values(&self) -> Result<(), Malformed> {
        for chunk in 0..self.chunks() {
            let places = 0..self.chunk_rows(chunk).len();
            let extremes = |(low, high): (u64, u64), r: u64| (low.min(r), high.max(r));
            let (low, high) = self.residuals(chunk).fold(places, (u64::MAX, 0), extremes);
            let [least, most] = [self.chunk_min(chunk), self.chunk_max(chunk)];
            let refuse = |what: &str| {
                let at = Layout::new(self.chunks(), self.common.is_none(), !self.sums.is_empty()).data;
                Err(Malformed::new(at, format!("a value of chunk {chunk} is {what}")))
            };
            if low < self.residual_of(chunk, least) {
                return refuse("below its minimum");
            }
            if high > self.residual_of(chunk, most) {
                return refuse("above its maximum");
            }
        }
        Ok(())
    }

    /// The view of bytes that passed [`check`](Self::check) with the same arguments. O(1).
    pub(crate) fn new(bytes: &'a [u8], rows: usize, with_sums: bool) -> Self {
        let chunks = rows.div_ceil(CHUNK_ROWS);
        let common = Self::common_of(bytes);
        let layout = Layout::new(chunks, common.is_none(), with_sums);
        let array = |start: usize, bytes_each: usize, count: usize| {
            bytes.get(start..start + bytes_each * count).unwrap_or_default()
        };
        Self {
            rows,
            common,
            minima: array(HEADER_BYTES, 8, chunks).as_chunks().0,
            maxima: array(layout.maxima, 8, chunks).as_chunks().0,
            places: array(layout.places, 4, layout.places_count).as_chunks().0,
            sums: array(layout.sums, 16, layout.sums_count).as_chunks().0,
            data: bytes.get(layout.data..).unwrap_or_default(),
        }
    }

    fn common_of(bytes: &[u8]) -> Option<Common> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let [_, _, _, _, _, form, width, .., b0, b1, b2, b3, b4, b5, b6, b7] = *header;
        let width = Width::from_tag(u32::from(width)).filter(|_| form == FORM_COMMON)?;
        Some(Common { base: i64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]), width })
    }

    /// Describes such a section, or what should be one.
    pub(super) fn describe(spans: &mut Spans<'a, '_>, rows: usize, with_sums: bool) -> Option<()> {
        let (common, chunks) = (Self::common_of(spans.rest()), rows.div_ceil(CHUNK_ROWS));
        let layout = Layout::new(chunks, common.is_none(), with_sums);
        spans.u32("rows")?;
        spans.tag("running sums", |mark| match mark {
            SUMS_ABSENT => Some("absent"),
            SUMS_PRESENT => Some("present"),
            _ => None,
        })?;
        spans.tag("form", |form| match form {
            FORM_CHUNKS => Some("each chunk has its own base and width"),
            FORM_COMMON => Some("all chunks have the same base and width"),
            _ => None,
        })?;
        spans.tag("width of all chunks", |tag| match tag {
            0 => Some("chunks have their own"),
            tag => Width::from_tag(tag.into()).map(Width::element),
        })?;
        spans.zeros(1)?;
        let units = spans.u32("data units")? as usize;
        spans.zeros(4)?;
        spans.i64("base of all chunks")?;
        spans.array("smallest value of each chunk", chunks, "i64", 8)?;
        spans.array("largest value of each chunk", chunks, "i64", 8)?;
        spans.array("place of each chunk", layout.places_count, "u32", 4)?;
        spans.padding(layout.sums - (layout.places + 4 * layout.places_count))?;
        spans.array("running sums", layout.sums_count, "i128", 16)?;
        spans.padding(layout.data - (layout.sums + 16 * layout.sums_count))?;
        match common {
            Some(Common { width, .. }) => {
                spans.array("residuals", chunks * CHUNK_ROWS, width.element(), width.bytes())
            }
            None => spans.array("residuals", units, "data unit", UNIT_BYTES),
        }
    }

    /// How the values are encoded.
    pub(super) fn encoding(&self) -> String {
        let sums = if self.sums.is_empty() { "" } else { ", running sums" };
        if let Some(Common { width, .. }) = self.common {
            return format!("numbers: one base, residuals of {} bits{sums}", 8 * width.bytes());
        }
        let widths = (0..self.chunks()).filter_map(|chunk| width_of(self.place(chunk)));
        let bits = widths.map(|width| 8 * width.bytes());
        let (least, most) = bits.fold((64, 0), |(least, most), bits| (least.min(bits), most.max(bits)));
        format!("numbers: a base for each chunk, residuals of {} to {most} bits{sums}", least.min(most))
    }

    /// Bytes that only make answers quick: zone maps and running sums. Minima that are the chunks' bases are none of them.
    pub(crate) fn index_bytes(&self) -> usize {
        let minima = if self.common.is_some() { size_of_val(self.minima) } else { 0 };
        minima + size_of_val(self.maxima) + size_of_val(self.sums)
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn chunks(&self) -> usize {
        self.minima.len()
    }

    /// The smallest value of a chunk.
    pub(crate) fn chunk_min(&self, chunk: usize) -> i64 {
        debug_assert!(chunk < self.minima.len(), "chunk {chunk} of {}", self.minima.len());
        self.minima.get(chunk).map_or(0, |bytes| i64::from_le_bytes(*bytes))
    }

    /// The largest value of a chunk.
    pub(crate) fn chunk_max(&self, chunk: usize) -> i64 {
        debug_assert!(chunk < self.maxima.len(), "chunk {chunk} of {}", self.maxima.len());
        self.maxima.get(chunk).map_or(0, |bytes| i64::from_le_bytes(*bytes))
    }

    /// The rows of a chunk: 256, but for the last one.
    pub(crate) fn chunk_rows(&self, chunk: usize) -> Range<usize> {
        let start = (chunk * CHUNK_ROWS).min(self.rows);
        start..(start + CHUNK_ROWS).min(self.rows)
    }

    /// The value of a row: one load, and two more where chunks have bases of their own.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> i64 {
        debug_assert!(row < self.rows, "row {row} of {}", self.rows);
        if let Some(Common { base, width }) = self.common {
            return base.wrapping_add(Residuals::new(width, self.rows, self.data).get(row) as i64);
        }
        let (chunk, place) = (row / CHUNK_ROWS, row % CHUNK_ROWS);
        self.base(chunk).wrapping_add(self.residuals(chunk).get(place) as i64)
    }

    /// Calls `each` with the values of some rows, in their order. Rows that are neighbours share the look for their chunk:
    /// they should ascend.
    #[inline]
    pub(crate) fn for_each_row(&self, rows: &[u32], mut each: impl FnMut(i64)) {
        if let Some((base, residuals)) = self.plain() {
            residuals.for_each_at(at(rows), |r| each(base.wrapping_add(r as i64)));
            return;
        }
        let mut known = usize::MAX;
        let (mut base, mut residuals) = (0, Residuals::Zero(0));
        for row in rows {
            let (chunk, place) = (*row as usize / CHUNK_ROWS, *row as usize % CHUNK_ROWS);
            if chunk != known {
                (known, base, residuals) = (chunk, self.base(chunk), self.residuals(chunk));
            }
            each(base.wrapping_add(residuals.get(place) as i64));
        }
    }

    /// The exact sum of some rows.
    pub(crate) fn sum_rows(&self, rows: &[u32]) -> i128 {
        let mut sum = 0_i128;
        match self.plain() {
            Some((base, residuals)) if !matches!(residuals, Residuals::Bits64(_)) => {
                // 2³² residuals below 2³² fit.
                let mut residuals_sum = 0_u64;
                residuals.for_each_at(at(rows), |r| residuals_sum = residuals_sum.wrapping_add(r));
                sum += i128::from(residuals_sum) + i128::from(base) * rows.len() as i128;
            }
            _ => self.for_each_row(rows, |value| sum += i128::from(value)),
        }
        sum
    }

    /// The exact sum of some rows, their minimum and their maximum; `None` without rows.
    pub(crate) fn measure_rows(&self, kernels: &Kernels, rows: &[u32]) -> Option<(i128, i64, i64)> {
        if rows.is_empty() {
            return None;
        }
        let Some((base, residuals)) = self.plain() else {
            let (mut sum, mut min, mut max) = (0, i64::MAX, i64::MIN);
            self.for_each_row(rows, |v| (sum, min, max) = (sum + i128::from(v), min.min(v), max.max(v)));
            return Some((sum, min, max));
        };
        let (sum, low, high) = match residuals {
            Residuals::Zero(_) => (0, 0, 0),
            Residuals::Bits8(data) => measure_at(kernels, data.as_chunks::<1>().0, rows, |chunk, mask| {
                ((kernels.masked_sum_u8)(chunk, mask).into(), (kernels.masked_min_max_u8)(chunk, mask))
            }),
            Residuals::Bits16(data) => measure_at(kernels, data, rows, |chunk, mask| {
                ((kernels.masked_sum_u16)(chunk, mask).into(), (kernels.masked_min_max_u16)(chunk, mask))
            }),
            Residuals::Bits32(data) => measure_at(kernels, data, rows, |chunk, mask| {
                ((kernels.masked_sum_u32)(chunk, mask).into(), (kernels.masked_min_max_u32)(chunk, mask))
            }),
            Residuals::Bits64(data) => measure_at(kernels, data, rows, |chunk, mask| {
                ((kernels.masked_sum_u64)(chunk, mask) as i128, (kernels.masked_min_max_u64)(chunk, mask))
            }),
        };
        let value = |residual: u64| base.wrapping_add(residual as i64);
        Some((sum + i128::from(base) * rows.len() as i128, value(low), value(high)))
    }

    /// Appends what `map` makes of the values of neighbouring rows: a loop over what lies in the file, quick enough to be
    /// run for each chunk.
    #[inline]
    pub(crate) fn map_range<T: Clone>(
        &self,
        rows: Range<usize>,
        map: impl Fn(i64) -> T,
        target: &mut Vec<T>,
    ) {
        if let Some((base, residuals)) = self.plain() {
            return residuals.map_range(rows, |r| map(base.wrapping_add(r as i64)), target);
        }
        for chunk in rows.start / CHUNK_ROWS..rows.end.div_ceil(CHUNK_ROWS) {
            let first = chunk * CHUNK_ROWS;
            let places = rows.start.max(first) - first..rows.end.min(first + CHUNK_ROWS) - first;
            let base = self.base(chunk);
            self.residuals(chunk).map_range(places, |r| map(base.wrapping_add(r as i64)), target);
        }
    }

    /// Appends what `map` makes of the values of some rows, in their order.
    #[inline]
    pub(crate) fn map_rows<T: Clone>(&self, rows: &[u32], map: impl Fn(i64) -> T, target: &mut Vec<T>) {
        match self.plain() {
            Some((base, residuals)) => residuals.map_at(rows, |r| map(base.wrapping_add(r as i64)), target),
            None => self.for_each_row(rows, |value| target.push(map(value))),
        }
    }

    /// The base and the residuals of all rows, as one array: a row's value is their sum, in 64 bits, wrapping. `None` where
    /// chunks have bases of their own.
    #[inline]
    pub(crate) fn plain(&self) -> Option<(i64, Residuals<'a>)> {
        let Common { base, width } = self.common?;
        Some((base, Residuals::new(width, self.rows, self.data)))
    }

    /// The base and the residuals of a chunk.
    pub(crate) fn chunk(&self, chunk: usize) -> (i64, Residuals<'a>) {
        (self.base(chunk), self.residuals(chunk))
    }

    /// Counts the values of the rows of a chunk that are set in `mask`: `counts[v - lowest]` goes up by 1 for a value `v`.
    /// Values outside the counts are left out. Bits past the last row must not be set.
    pub(crate) fn count_values(
        &self,
        kernels: &Kernels,
        chunk: usize,
        mask: &Mask,
        lowest: i64,
        counts: &mut [u32],
    ) {
        let mut places: Places = [0; CHUNK_ROWS];
        let count = (kernels.places)(mask, &mut places);
        let places = places.iter().take(count).map(|place| usize::from(*place));
        let start = (self.base(chunk) as u64).wrapping_sub(lowest as u64);
        self.residuals(chunk).for_each_at(places, |residual| {
            let slot = usize::try_from(start.wrapping_add(residual)).unwrap_or(usize::MAX);
            if let Some(count) = counts.get_mut(slot) {
                *count += 1;
            }
        });
    }

    /// Decodes a chunk: `values[i]` becomes the value of its row `i`; those past the last row are meaningless.
    pub(crate) fn read_chunk(&self, chunk: usize, values: &mut [i64; CHUNK_ROWS]) {
        let base = self.base(chunk);
        let mut slots = values.iter_mut();
        self.residuals(chunk).fold(0..CHUNK_ROWS, (), |(), r| {
            if let Some(slot) = slots.next() {
                *slot = base.wrapping_add(r as i64);
            }
        });
    }

    /// The rows of a chunk whose value has all of `bits` set; bits of the mask past the last row mean nothing. One kernel
    /// where residuals are the values themselves, as those of flags and codes are.
    pub(crate) fn bits_mask(&self, kernels: &Kernels, chunk: usize, bits: i64) -> Mask {
        if self.base(chunk) != 0 || bits < 0 {
            return self.mask_where(chunk, |value| value & bits == bits);
        }
        // No value has a bit that its width does not hold.
        let (data, none) = (self.chunk_data(chunk), Mask::default());
        match data {
            ChunkData::Zero if bits == 0 => [u64::MAX; 4],
            ChunkData::Zero => none,
            ChunkData::Bits8(data) => {
                u8::try_from(bits).map_or(none, |bits| (kernels.bits_mask_u8)(data, bits))
            }
            ChunkData::Bits16(data) => {
                u16::try_from(bits).map_or(none, |bits| (kernels.bits_mask_u16)(data, bits))
            }
            ChunkData::Bits32(data) => {
                u32::try_from(bits).map_or(none, |bits| (kernels.bits_mask_u32)(data, bits))
            }
            ChunkData::Bits64(data) => (kernels.bits_mask_u64)(data, bits as u64),
        }
    }

    /// The rows of a chunk whose value passes a test; bits past the last row mean nothing. For tests that no kernel has:
    /// each value is looked at.
    pub(crate) fn mask_where(&self, chunk: usize, test: impl Fn(i64) -> bool) -> Mask {
        let mut values = [0; CHUNK_ROWS];
        self.read_chunk(chunk, &mut values);
        let mut mask = Mask::default();
        for (word, values) in mask.iter_mut().zip(values.as_chunks::<64>().0) {
            for (bit, value) in values.iter().enumerate() {
                *word |= u64::from(test(*value)) << bit;
            }
        }
        mask
    }

    /// The exact sum of all rows of some chunks, each of which is read.
    pub(crate) fn sum_chunks(&self, kernels: &Kernels, chunks: Range<usize>) -> i128 {
        // The residuals past the last row are zero.
        let sum = |chunks: Range<usize>| {
            let rows = (chunks.end * CHUNK_ROWS).min(self.rows).saturating_sub(chunks.start * CHUNK_ROWS);
            let (width, data) = self.data_of(chunks.start);
            i128::from(self.base(chunks.start)) * rows as i128 + sum_of(kernels, width, data, chunks.len())
        };
        match self.common {
            Some(_) if !chunks.is_empty() => sum(chunks),
            _ => chunks.map(|chunk| sum(chunk..chunk + 1)).sum(),
        }
    }

    /// The exact sum of a range of rows: two running sums and what the range has of its first and last chunk, whatever
    /// its length. Without running sums, O(rows).
    pub(crate) fn sum(&self, rows: Range<usize>) -> i128 {
        self.debug_assert_range(&rows);
        if rows.is_empty() {
            return 0;
        }
        let (first, last) = (rows.start / CHUNK_ROWS, (rows.end - 1) / CHUNK_ROWS);
        if first == last {
            return self.sum_within(first, rows);
        }
        let head = self.sum_within(first, rows.start..(first + 1) * CHUNK_ROWS);
        let tail = self.sum_within(last, last * CHUNK_ROWS..rows.end);
        let inner = if self.sums.is_empty() {
            (first + 1..last).map(|chunk| self.sum_within(chunk, self.chunk_rows(chunk))).sum()
        } else {
            self.running_sum(last).wrapping_sub(self.running_sum(first + 1))
        };
        head + inner + tail
    }

    /// The exact sum of rows of one chunk.
    fn sum_within(&self, chunk: usize, rows: Range<usize>) -> i128 {
        let count = rows.len() as i128;
        if !self.sums.is_empty() && rows == self.chunk_rows(chunk) {
            return self.running_sum(chunk + 1).wrapping_sub(self.running_sum(chunk));
        }
        let places = rows.start - chunk * CHUNK_ROWS..rows.end - chunk * CHUNK_ROWS;
        i128::from(self.base(chunk)) * count + self.residuals(chunk).sum(places)
    }

    /// The smallest and the largest value of a range of rows: zone maps for the chunks inside it, residuals for those
    /// it cuts. `None` for an empty range.
    pub(crate) fn min_max(&self, rows: Range<usize>) -> Option<(i64, i64)> {
        self.debug_assert_range(&rows);
        if rows.is_empty() {
            return None;
        }
        let chunks = rows.start / CHUNK_ROWS..rows.end.div_ceil(CHUNK_ROWS);
        chunks.map(|chunk| self.min_max_within(chunk, &rows)).reduce(merge_min_max)
    }

    /// The smallest and the largest of the rows that `rows` has in `chunk`: at least one.
    fn min_max_within(&self, chunk: usize, rows: &Range<usize>) -> (i64, i64) {
        let own = self.chunk_rows(chunk);
        if rows.start <= own.start && own.end <= rows.end {
            return (self.chunk_min(chunk), self.chunk_max(chunk));
        }
        let places = rows.start.max(own.start) - own.start..rows.end.min(own.end) - own.start;
        let low_high = |(low, high): (u64, u64), r: u64| (low.min(r), high.max(r));
        let (low, high) = self.residuals(chunk).fold(places, (u64::MAX, 0), low_high);
        let base = self.base(chunk);
        (base.wrapping_add(low as i64), base.wrapping_add(high as i64))
    }

    /// What the zone map says about the values `lo..=hi` in a chunk.
    pub(crate) fn zone(&self, chunk: usize, lo: i64, hi: i64) -> Zone {
        let (min, max) = (self.chunk_min(chunk), self.chunk_max(chunk));
        if lo > hi || max < lo || hi < min {
            Zone::None
        } else if lo <= min && max <= hi {
            Zone::All
        } else {
            Zone::Some
        }
    }

    /// The rows of a chunk whose value is in `lo..=hi`: from the zone map if it decides, else by one kernel over the
    /// residuals.
    pub(crate) fn range_mask(&self, kernels: &Kernels, chunk: usize, lo: i64, hi: i64) -> Mask {
        let rows = self.rows_mask(chunk);
        match self.zone(chunk, lo, hi) {
            Zone::None => Mask::default(),
            Zone::All => rows,
            Zone::Some => and(rows, self.scan_mask(kernels, chunk, lo, hi)),
        }
    }

    /// `lo..=hi` overlaps the chunk's zone; the mask may have bits past the last row.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "in a checked chunk no residual is above its width, and both ends lie in the chunk's zone"
    )]
    fn scan_mask(&self, kernels: &Kernels, chunk: usize, lo: i64, hi: i64) -> Mask {
        let (min, max) = (self.chunk_min(chunk), self.chunk_max(chunk));
        let low = self.residual_of(chunk, lo.max(min));
        let high = self.residual_of(chunk, hi.min(max));
        match self.chunk_data(chunk) {
            // The zone map of equal values always decides.
            ChunkData::Zero => [u64::MAX; 4],
            ChunkData::Bits8(data) => (kernels.range_mask_u8)(data, low as u8, high as u8),
            ChunkData::Bits16(data) => (kernels.range_mask_u16)(data, low as u16, high as u16),
            ChunkData::Bits32(data) => (kernels.range_mask_u32)(data, low as u32, high as u32),
            ChunkData::Bits64(data) => (kernels.range_mask_u64)(data, low, high),
        }
    }

    /// The exact sum of the rows of a chunk that are set in `mask`; bits past the last row do not count.
    pub(crate) fn masked_sum(&self, kernels: &Kernels, chunk: usize, mask: &Mask) -> i128 {
        let mask = and(*mask, self.rows_mask(chunk));
        let count = (kernels.count)(&mask);
        let residuals = match self.chunk_data(chunk) {
            ChunkData::Zero => 0,
            ChunkData::Bits8(data) => i128::from((kernels.masked_sum_u8)(data, &mask)),
            ChunkData::Bits16(data) => i128::from((kernels.masked_sum_u16)(data, &mask)),
            ChunkData::Bits32(data) => i128::from((kernels.masked_sum_u32)(data, &mask)),
            ChunkData::Bits64(data) => (kernels.masked_sum_u64)(data, &mask) as i128,
        };
        i128::from(self.base(chunk)) * i128::from(count) + residuals
    }

    /// The smallest and the largest of the rows of a chunk that are set in `mask`; bits past the last row do not count.
    /// `None` if none is set.
    pub(crate) fn masked_min_max(&self, kernels: &Kernels, chunk: usize, mask: &Mask) -> Option<(i64, i64)> {
        let mask = and(*mask, self.rows_mask(chunk));
        let base = self.base(chunk);
        let (low, high) = match self.chunk_data(chunk) {
            ChunkData::Zero => (mask != Mask::default()).then_some((0, 0)),
            ChunkData::Bits8(data) => (kernels.masked_min_max_u8)(data, &mask),
            ChunkData::Bits16(data) => (kernels.masked_min_max_u16)(data, &mask),
            ChunkData::Bits32(data) => (kernels.masked_min_max_u32)(data, &mask),
            ChunkData::Bits64(data) => (kernels.masked_min_max_u64)(data, &mask),
        }?;
        let value = |residual: u64| base.wrapping_add(residual as i64);
        Some((value(low), value(high)))
    }

    /// The first row of `rows` whose value is at least `value`, in a column that ascends; the range's end if there is
    /// none. A binary search over the chunk maxima, then one within a chunk.
    pub(crate) fn partition_point(&self, value: i64, rows: Range<usize>) -> usize {
        self.debug_assert_range(&rows);
        if rows.is_empty() {
            return rows.end;
        }
        let first = rows.start / CHUNK_ROWS;
        let maxima = self.maxima.get(first..rows.end.div_ceil(CHUNK_ROWS)).unwrap_or_default();
        let chunk = first + maxima.partition_point(|max| i64::from_le_bytes(*max) < value);
        let own = self.chunk_rows(chunk);
        if own.is_empty() {
            return rows.end;
        }
        let (base, residuals) = (self.base(chunk), self.residuals(chunk));
        let (mut low, mut high) =
            (own.start.clamp(rows.start, rows.end), own.end.clamp(rows.start, rows.end));
        while low < high {
            let middle = low.midpoint(high);
            if base.wrapping_add(residuals.get(middle - own.start) as i64) < value {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The rows that a chunk has, as a mask.
    pub(crate) fn rows_mask(&self, chunk: usize) -> Mask {
        first_rows(self.chunk_rows(chunk).len())
    }

    fn place(&self, chunk: usize) -> u32 {
        self.places.get(chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// The sum of all rows before `chunk`.
    fn running_sum(&self, chunk: usize) -> i128 {
        self.sums.get(chunk).map_or(0, |bytes| i128::from_le_bytes(*bytes))
    }

    /// What the residuals of a chunk are added to.
    #[inline]
    fn base(&self, chunk: usize) -> i64 {
        match self.common {
            Some(Common { base, .. }) => base,
            None => self.chunk_min(chunk),
        }
    }

    /// The residual of a value in a chunk.
    fn residual_of(&self, chunk: usize, value: i64) -> u64 {
        (value as u64).wrapping_sub(self.base(chunk) as u64)
    }

    /// The width of a chunk and its bytes, and those of the chunks behind it.
    #[inline]
    fn data_of(&self, chunk: usize) -> (Width, &'a [u8]) {
        let (unit, width) = if let Some(Common { width, .. }) = self.common {
            (chunk * width.bytes(), width)
        } else {
            let place = self.place(chunk);
            ((place >> WIDTH_BITS) as usize, width_of(place).unwrap_or(Width::Zero))
        };
        (width, self.data.get(unit * UNIT_BYTES..).unwrap_or_default())
    }

    /// The residuals of a chunk, those past the last row too.
    #[inline]
    fn residuals(&self, chunk: usize) -> Residuals<'a> {
        let (width, data) = self.data_of(chunk);
        Residuals::new(width, CHUNK_ROWS, data)
    }

    /// The same for the kernels.
    #[inline]
    fn chunk_data(&self, chunk: usize) -> ChunkData<'a> {
        let (width, data) = self.data_of(chunk);
        let chunk_data = match width {
            Width::Zero => None,
            Width::Bits8 => data.first_chunk().map(ChunkData::Bits8),
            Width::Bits16 => data.first_chunk().map(ChunkData::Bits16),
            Width::Bits32 => data.first_chunk().map(ChunkData::Bits32),
            Width::Bits64 => data.first_chunk().map(ChunkData::Bits64),
        };
        chunk_data.unwrap_or(ChunkData::Zero)
    }

    fn debug_assert_range(&self, rows: &Range<usize>) {
        debug_assert!(rows.is_empty() || rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
    }
}

/// The width in the place of a chunk.
#[inline]
fn width_of(place: u32) -> Option<Width> {
    Width::from_tag(place & ((1 << WIDTH_BITS) - 1))
}

/// Reserved bytes must be zero, so that a later release may give them a meaning.
pub(super) fn check_zero<W: Watch>(
    reader: &mut ByteReader<'_, W>,
    count: usize,
    what: &str,
) -> Result<(), Malformed> {
    let at = reader.position();
    let zero = reader.reserved(count, what)?.iter().all(|byte| *byte == 0);
    if zero { Ok(()) } else { Err(Malformed::new(at, format!("reserved bytes of {what} are not zero"))) }
}

/// What aligns an array must be zero: a section has one form only.
pub(super) fn check_gap(bytes: &[u8], gap: Range<usize>) -> Result<(), Malformed> {
    let zero = bytes.get(gap.clone()).is_some_and(|gap| gap.iter().all(|byte| *byte == 0));
    if zero { Ok(()) } else { Err(Malformed::new(gap.start, "a gap between two arrays is not zero")) }
}

/// Rows as places in an array.
fn at(rows: &[u32]) -> impl Iterator<Item = usize> {
    rows.iter().map(|row| *row as usize)
}

/// The exact sum of the residuals of the first `count` chunks in `data`.
fn sum_of(kernels: &Kernels, width: Width, data: &[u8], count: usize) -> i128 {
    fn first<const N: usize>(data: &[u8], count: usize) -> &[[u8; N]] {
        data.as_chunks().0.get(..count).unwrap_or_default()
    }
    match width {
        Width::Zero => 0,
        Width::Bits8 => (kernels.sum_u8)(first(data, count)).into(),
        Width::Bits16 => (kernels.sum_u16)(first(data, count)).into(),
        Width::Bits32 => (kernels.sum_u32)(first(data, count)).into(),
        Width::Bits64 => (kernels.sum_u64)(first(data, count)) as i128,
    }
}

/// Sum, minimum and maximum of the residuals at some places. As many as fill a chunk are gathered at a time, for kernels; few
/// are read one by one, for a kernel takes as long as for all of a chunk.
#[inline]
fn measure_at<const WIDTH: usize, const BYTES: usize>(
    kernels: &Kernels,
    residuals: &[[u8; WIDTH]],
    places: &[u32],
    measure: impl Fn(&[u8; BYTES], &Mask) -> (i128, MinMax),
) -> (i128, u64, u64) {
    debug_assert_eq!(BYTES, WIDTH * CHUNK_ROWS);
    let mut gathered = [[0; WIDTH]; CHUNK_ROWS];
    let (mut sum, mut low, mut high) = (0, u64::MAX, 0);
    for places in places.chunks(CHUNK_ROWS) {
        if places.len() < kernels.gathered_rows {
            for place in at(places) {
                let mut bytes = [0; 8];
                let own = residuals.get(place).copied().unwrap_or([0; WIDTH]);
                bytes.iter_mut().zip(own).for_each(|(byte, own)| *byte = own);
                let residual = u64::from_le_bytes(bytes);
                (sum, low, high) = (sum + i128::from(residual), low.min(residual), high.max(residual));
            }
            continue;
        }
        for (slot, place) in gathered.iter_mut().zip(at(places)) {
            *slot = residuals.get(place).copied().unwrap_or([0; WIDTH]);
        }
        let Some(chunk) = gathered.as_flattened().first_chunk() else { continue };
        let (own, extremes) = measure(chunk, &first_rows(places.len()));
        let (least, most) = extremes.unwrap_or((u64::MAX, 0));
        (sum, low, high) = (sum + own, low.min(least), high.max(most));
    }
    (sum, low, high)
}

fn merge_min_max(a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    (a.0.min(b.0), a.1.max(b.1))
}

fn and(a: Mask, b: Mask) -> Mask {
    let mut both = a;
    both.iter_mut().zip(b).for_each(|(word, other)| *word &= other);
    both
}

/// The mask of the first `count` rows of a chunk.
fn first_rows(count: usize) -> Mask {
    let mut mask = Mask::default();
    for (place, word) in mask.iter_mut().enumerate() {
        let bits = count.saturating_sub(64 * place).min(64);
        *word = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    }
    mask
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn section(values: &[i64], with_sums: bool) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, with_sums, &mut out);
        Numbers::check(&out, values.len(), with_sums).unwrap();
        out
    }

    fn bit(mask: &Mask, place: usize) -> bool {
        mask[place / 64] >> (place % 64) & 1 == 1
    }

    /// Every method against a plain loop over the values.
    fn assert_equals_plain_loops(values: &[i64], seed: u64) {
        for with_sums in [false, true] {
            let bytes = section(values, with_sums);
            let numbers = Numbers::new(&bytes, values.len(), with_sums);
            assert_eq!((numbers.rows(), numbers.chunks()), (values.len(), values.len().div_ceil(CHUNK_ROWS)));
            assert_eq!(numbers.check_values(), Ok(()));
            let got: Vec<i64> = (0..values.len()).map(|row| numbers.get(row)).collect();
            assert_eq!(got, values);
            assert_listed_rows_equal(&numbers, values, seed);
            assert_chunks_equal(&numbers, values, seed);
            assert_ranges_equal(&numbers, values, seed);
            for kernels in Kernels::all_available() {
                let sum = values.iter().map(|v| i128::from(*v)).sum();
                assert_eq!(numbers.sum_chunks(kernels, 0..numbers.chunks()), sum, "{}", kernels.name);
            }
        }
    }

    fn all_rows(rows: usize) -> Range<u32> {
        0..u32::try_from(rows).unwrap()
    }

    fn assert_listed_rows_equal(numbers: &Numbers<'_>, values: &[i64], seed: u64) {
        let every = usize::from(seed.to_le_bytes()[0]) % 5 + 1;
        let rows: Vec<u32> = all_rows(values.len()).step_by(every).collect();
        let plain: Vec<i64> = values.iter().copied().step_by(every).collect();
        let mut got = Vec::new();
        numbers.for_each_row(&rows, |value| got.push(value));
        assert_eq!(got, plain);
        let sum = plain.iter().map(|v| i128::from(*v)).sum();
        assert_eq!(numbers.sum_rows(&rows), sum);
        let ends = plain.iter().min().zip(plain.iter().max());
        for kernels in Kernels::all_available() {
            let measured = numbers.measure_rows(kernels, &rows);
            assert_eq!(measured, ends.map(|(min, max)| (sum, *min, *max)), "{}", kernels.name);
        }
        if let Some((base, residuals)) = numbers.plain() {
            let add = |mut all: Vec<i64>, r: u64| {
                all.push(base.wrapping_add(r as i64));
                all
            };
            assert_eq!(residuals.fold(0..values.len(), Vec::new(), add), values);
        }
    }

    fn assert_chunks_equal(numbers: &Numbers<'_>, values: &[i64], seed: u64) {
        let mut bounds = vec![i64::MIN, -1, 0, 1, i64::MAX];
        bounds.extend(values.iter().step_by(values.len() / 4 + 1));
        bounds.extend(values.iter().max().map(|max| max.saturating_sub(1)));
        let bits = [0, 1, 6, 0x80, 0x100, 0x1_0001, 1 << 40, i64::MIN, -1];
        let masks =
            [[0; 4], [u64::MAX; 4], [1, 0, 0, 0], [0, 0, 0, 1 << 63], [seed, !seed, seed << 7, seed >> 3]];
        for (chunk, plain) in values.chunks(CHUNK_ROWS).enumerate() {
            assert_eq!(numbers.chunk_rows(chunk), chunk * CHUNK_ROWS..chunk * CHUNK_ROWS + plain.len());
            assert_eq!(Some(&numbers.chunk_min(chunk)), plain.iter().min());
            assert_eq!(Some(&numbers.chunk_max(chunk)), plain.iter().max());
            let mut decoded = [0; CHUNK_ROWS];
            numbers.read_chunk(chunk, &mut decoded);
            assert_eq!(&decoded[..plain.len()], plain);
            for kernels in Kernels::all_available() {
                for (&lo, &hi) in bounds.iter().flat_map(|lo| bounds.iter().map(move |hi| (lo, hi))) {
                    let mask = numbers.range_mask(kernels, chunk, lo, hi);
                    let expected: Vec<bool> = plain.iter().map(|v| lo <= *v && *v <= hi).collect();
                    let got: Vec<bool> = (0..CHUNK_ROWS).map(|place| bit(&mask, place)).collect();
                    assert_eq!(&got[..plain.len()], expected, "{lo}..={hi}");
                    assert!(got[plain.len()..].iter().all(|set| !set), "rows past the end");
                    match numbers.zone(chunk, lo, hi) {
                        Zone::None => assert!(expected.iter().all(|within| !within)),
                        Zone::All => assert!(expected.iter().all(|within| *within)),
                        Zone::Some => {}
                    }
                }
                for bits in bits {
                    let mask = numbers.bits_mask(kernels, chunk, bits);
                    for (place, value) in plain.iter().enumerate() {
                        assert_eq!(bit(&mask, place), value & bits == bits, "{value:x} & {bits:x}");
                    }
                }
                for mask in &masks {
                    let picked = || plain.iter().enumerate().filter(|(i, _)| bit(mask, *i)).map(|(_, v)| *v);
                    let sum: i128 = picked().map(i128::from).sum();
                    assert_eq!(numbers.masked_sum(kernels, chunk, mask), sum);
                    let expected = picked().min().zip(picked().max());
                    assert_eq!(numbers.masked_min_max(kernels, chunk, mask), expected);
                    assert_counts_equal(numbers, kernels, chunk, mask, &picked().collect::<Vec<_>>());
                }
            }
        }
    }

    fn assert_counts_equal(
        numbers: &Numbers<'_>,
        kernels: &Kernels,
        chunk: usize,
        mask: &Mask,
        picked: &[i64],
    ) {
        let mask = and(*mask, numbers.rows_mask(chunk));
        let lowest = numbers.chunk_min(chunk);
        let mut counts = [0; 300];
        numbers.count_values(kernels, chunk, &mask, lowest, &mut counts);
        for (slot, count) in counts.iter().enumerate() {
            let value = i128::from(lowest) + slot as i128;
            let expected = picked.iter().filter(|v| i128::from(**v) == value).count();
            assert_eq!(*count as usize, expected, "{value}");
        }
    }

    fn assert_ranges_equal(numbers: &Numbers<'_>, values: &[i64], seed: u64) {
        let rows = values.len();
        let mut ends = vec![0, 1, 3, 255, 256, 257, 511, 512, 513, rows / 2, rows.saturating_sub(1), rows];
        ends.push((seed >> 40) as usize % (rows + 1));
        ends.retain(|end| *end <= rows);
        for (&start, &end) in ends.iter().flat_map(|start| ends.iter().map(move |end| (start, end))) {
            let plain = values.get(start..end).unwrap_or_default();
            assert_eq!(numbers.sum(start..end), plain.iter().map(|v| i128::from(*v)).sum(), "{start}..{end}");
            let expected = plain.iter().min().copied().zip(plain.iter().max().copied());
            assert_eq!(numbers.min_max(start..end), expected, "{start}..{end}");
            let chunks = start / CHUNK_ROWS..end / CHUNK_ROWS;
            for kernels in Kernels::all_available() {
                let whole =
                    values.get(chunks.start * CHUNK_ROWS..chunks.end * CHUNK_ROWS).unwrap_or_default();
                let sum = whole.iter().map(|v| i128::from(*v)).sum();
                assert_eq!(numbers.sum_chunks(kernels, chunks.clone()), sum, "{chunks:?} {}", kernels.name);
            }
        }
    }

    fn assert_partition_points_equal(values: &[i64]) {
        let bytes = section(values, false);
        let numbers = Numbers::new(&bytes, values.len(), false);
        let rows = values.len();
        let ends = [0, 1, 255, 256, 257, rows / 3, rows / 2, rows];
        let wanted =
            values.iter().step_by(rows / 20 + 1).flat_map(|v| [v.saturating_sub(1), *v, v.saturating_add(1)]);
        for value in wanted.chain([i64::MIN, 0, i64::MAX]) {
            for (&start, &end) in ends.iter().flat_map(|start| ends.iter().map(move |end| (start, end))) {
                if start <= end && end <= rows {
                    let expected = start + values[start..end].partition_point(|v| *v < value);
                    assert_eq!(
                        numbers.partition_point(value, start..end),
                        expected,
                        "{value} in {start}..{end}"
                    );
                }
            }
        }
    }

    /// Each width, each edge of a chunk.
    fn spread() -> impl Strategy<Value = (i64, i64)> {
        prop_oneof![
            Just((7, 7)),
            Just((0, 1)),
            Just((-100, 155)),
            Just((-100, 156)),
            Just((1_000_000, 1_065_535)),
            Just((-5, 4_294_967_290)),
            Just((0, 4_294_967_296)),
            Just((i64::MIN, i64::MAX)),
            Just((i64::MAX - 1, i64::MAX)),
            Just((i64::MIN, i64::MIN + 70_000)),
        ]
    }

    fn column() -> impl Strategy<Value = Vec<i64>> {
        let rows = prop_oneof![Just(1_usize), Just(255), Just(256), Just(257), Just(1000), 0_usize..1500];
        (rows, spread(), spread(), any::<u64>()).prop_map(|(rows, first, second, seed)| {
            let mut state = seed;
            let value = |row: usize| {
                let (lo, hi) = if (row / CHUNK_ROWS).is_multiple_of(2) { first } else { second };
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let values = i128::from(hi) - i128::from(lo) + 1;
                match state >> 60 {
                    0 => lo,
                    1 => hi,
                    _ => i64::try_from(i128::from(lo) + i128::from(state.rotate_left(32)) % values).unwrap(),
                }
            };
            (0..rows).map(value).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_method_equals_a_plain_loop(values in column(), seed in any::<u64>()) {
            assert_equals_plain_loops(&values, seed);
        }

        #[test]
        fn partition_points_of_ascending_columns_are_those_of_the_slice(mut values in column()) {
            values.sort_unstable();
            assert_partition_points_equal(&values);
        }

        #[test]
        fn hostile_bytes_never_panic(
            values in column(),
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
            with_sums in any::<bool>(),
        ) {
            let mut bytes = section(&values, with_sums);
            let head_bytes = Layout::new(values.len().div_ceil(CHUNK_ROWS), true, with_sums).data.min(bytes.len());
            for (at, byte) in flips {
                bytes[at.index(head_bytes)] = byte;
            }
            use_if_accepted(&bytes, values.len(), with_sums);
        }
    }

    fn use_if_accepted(bytes: &[u8], rows: usize, with_sums: bool) -> bool {
        let accepted = Numbers::check(bytes, rows, with_sums).is_ok();
        let numbers = Numbers::new(bytes, rows, with_sums);
        if accepted {
            let _ = numbers.check_values();
            for chunk in 0..numbers.chunks() {
                let mut decoded = [0; CHUNK_ROWS];
                numbers.read_chunk(chunk, &mut decoded);
                for kernels in Kernels::all_available() {
                    let mask = numbers.range_mask(kernels, chunk, -5, decoded[0]);
                    numbers.masked_sum(kernels, chunk, &mask);
                    numbers.masked_min_max(kernels, chunk, &mask);
                }
            }
            for end in [0, 1, rows / 2, rows].into_iter().filter(|end| *end <= rows) {
                numbers.sum(end / 2..end);
                numbers.min_max(end / 2..end);
                assert!(numbers.partition_point(5, end / 2..end) <= end);
            }
            (0..rows).for_each(|row| {
                numbers.get(row);
            });
            let listed: Vec<u32> = all_rows(rows).collect();
            for kernels in Kernels::all_available() {
                numbers.measure_rows(kernels, &listed);
                numbers.sum_chunks(kernels, 0..numbers.chunks());
            }
        }
        accepted
    }

    #[test]
    fn edge_lengths_and_extremes_equal_plain_loops() {
        for rows in [0, 1, 2, 255, 256, 257, 1000] {
            assert_equals_plain_loops(&vec![-3; rows], 9);
            let both_ends: Vec<i64> =
                (0..rows).map(|row| if row % 2 == 0 { i64::MIN } else { i64::MAX }).collect();
            assert_equals_plain_loops(&both_ends, 0xDEAD_BEEF_F00D_CAFE);
            assert_partition_points_equal(&(0..rows as i64).map(|row| row / 3).collect::<Vec<_>>());
        }
    }

    #[test]
    fn residuals_take_the_narrowest_width() {
        let bytes_of = |hi: i64| section(&[0, hi], false).len() - Layout::new(1, false, false).data;
        assert_eq!(bytes_of(0), 0);
        assert_eq!((bytes_of(255), bytes_of(256)), (256, 512));
        assert_eq!((bytes_of(65_535), bytes_of(65_536)), (512, 1024));
        assert_eq!((bytes_of(u32::MAX.into()), bytes_of(1 << 32)), (1024, 2048));
    }

    #[test]
    fn chunks_have_bases_of_their_own_only_where_that_is_clearly_smaller() {
        let form = |values: &[i64]| {
            let bytes = section(values, false);
            (Numbers::new(&bytes, values.len(), false).plain().is_none(), bytes.len())
        };
        let ascending: Vec<i64> = (0..2048).collect();
        let layout = Layout::new(8, true, false);
        assert_eq!(form(&ascending), (true, layout.data + 8 * 256));
        let alike: Vec<i64> = (0..2048).map(|row| row * 37 % 200 - 9).collect();
        assert_eq!(form(&alike), (false, Layout::new(8, false, false).data + 8 * 256));
        // One wide chunk in nine makes all of them wide, one in eight does so too; of five it does not pay.
        let one_wide = |chunks: i64| -> Vec<i64> {
            (0..chunks * 256)
                .map(|row| {
                    if row == 0 {
                        70_000
                    } else if row < 512 {
                        row
                    } else {
                        row * 7919 % 60_000
                    }
                })
                .collect()
        };
        assert!(form(&one_wide(9)).0);
        assert!(!form(&alike[..256]).0);
        assert!(!form(&[]).0);
    }

    #[test]
    fn a_section_may_begin_anywhere_in_the_buffer() {
        let mut out = vec![0xAA; 24];
        encode(&[1, 2, 3], true, &mut out);
        Numbers::check(&out[24..], 3, true).unwrap();
        assert_eq!(Numbers::new(&out[24..], 3, true).sum(0..3), 6);
    }

    #[test]
    fn truncated_and_flipped_sections_are_refused_or_harmless() {
        let values: Vec<i64> = (0..300).map(|row| row * 7 % 300).collect();
        for with_sums in [false, true] {
            let bytes = section(&values, with_sums);
            for end in 0..bytes.len() {
                assert!(Numbers::check(&bytes[..end], 300, with_sums).is_err());
                Numbers::new(&bytes[..end], 300, with_sums);
            }
            for at in 0..bytes.len() {
                for flip in [1, 0x80, 0xFF] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= flip;
                    use_if_accepted(&damaged, 300, with_sums);
                }
            }
            assert!(!use_if_accepted(&bytes, 301, with_sums));
            assert!(!use_if_accepted(&bytes, 300, !with_sums));
        }
    }

    #[test]
    fn what_cannot_be_true_is_named() {
        // Two chunks, in which bases of their own pay.
        let mut values = vec![1; 300];
        values[2] = 3;
        values[256..].fill(1000);
        values[257] = 1003;
        let bytes = section(&values, true);
        let layout = Layout::new(2, true, true);
        let refusal_of = |bytes: &[u8], at: usize, byte: u8, rows: usize| {
            let mut damaged = bytes.to_vec();
            damaged[at] = byte;
            Numbers::check(&damaged, rows, true).unwrap_err().what
        };
        let refusal = |at: usize, byte: u8| refusal_of(&bytes, at, byte, 300);
        assert_eq!(refusal(0, 4), "a column of 260 rows instead of 300");
        assert_eq!(refusal(4, 1), "mark of the running sums is 1 instead of 2");
        assert_eq!(refusal(5, 3), "a column of form 3, width 0 and base 0 cannot be");
        assert_eq!(refusal(6, 2), "a column of form 1, width 2 and base 0 cannot be");
        assert_eq!(refusal(7, 1), "reserved bytes of the header are not zero");
        assert_eq!(refusal(16, 7), "a column of form 1, width 0 and base 7 cannot be");
        let length = bytes.len();
        assert_eq!(refusal(8, 3), format!("a column of 300 rows and 3 data units in {length} bytes"));
        assert_eq!(refusal(HEADER_BYTES, 9), "chunk 0 has minimum 9 above maximum 3");
        assert_eq!(refusal(layout.maxima + 1, 9), "values 1 to 2307 do not fit the width of chunk 0");
        assert_eq!(refusal(layout.places, 7), "chunk 0 has an unknown width in 0x7");
        assert_eq!(refusal(layout.places, 8 | 2), "the data of chunk 0 is not at unit 0");
        assert_eq!(
            refusal(layout.sums + 17, 10),
            "the running sums of chunk 0 do not fit its minimum and maximum"
        );
        assert_eq!(refusal(layout.sums, 1), "the first running sum is not 0");
        assert_eq!(refusal(layout.data - 1, 1), "a gap between two arrays is not zero");
        assert_eq!(refusal(bytes.len() - 1, 1), "residuals past the last row are not zero");

        // One chunk needs no base of its own.
        let common = section(&[1, 2, 3], true);
        let common_layout = Layout::new(1, false, true);
        let refusal = |at: usize, byte: u8| refusal_of(&common, at, byte, 3);
        assert_eq!(refusal(6, 9), "a column of form 2, width 9 and base 0 cannot be");
        assert_eq!(refusal(16, 2), "values 1 to 3 do not fit the width of chunk 0");
        assert_eq!(refusal(common_layout.data + 3, 1), "residuals past the last row are not zero");

        let value_refusal = |residual: u8| {
            let mut damaged = common.clone();
            damaged[common_layout.data + 1] = residual;
            Numbers::check(&damaged, 3, true).unwrap();
            Numbers::new(&damaged, 3, true).check_values().unwrap_err().what
        };
        assert_eq!(value_refusal(200), "a value of chunk 0 is above its maximum");
        assert_eq!(value_refusal(0), "a value of chunk 0 is below its minimum");
    }
}
