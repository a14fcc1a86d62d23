//! A column of keys (a dim, or the status): sorted dictionary, codes, and the value index with its sums and postings.
//!
//! A code is a value's place in the dictionary, so that codes order as their values do; the codes of the rows are a
//! [numbers](super::numbers) column. The value index answers "what do the rows of this value add up to" and "which
//! are they" without touching the rows. Knows bytes, not files.
//!
//! ```text
//! section, all integers little-endian, offsets in bytes from its start; v = values
//! ┌──────────┬───────────────────────────────────────────────────────────────────────────────────────────────────┐
//! │ 0        │ values u32                                                                                        │
//! │ 4        │ value index u8: 1 = none, 2 = postings, 3 = postings and sums; 3 zero bytes                       │
//! │ 8        │ measures u32: 0 without sums                                                                      │
//! │ 12       │ dictionary text bytes u32                                                                         │
//! │ 16       │ codes bytes u64                                                                                   │
//! │ 24       │ bytes of the arrays' elements u64                                                                 │
//! │ 32       │ entries of the arrays (see arrays.rs), 16 bytes each:                                             │
//! │          │   where each value's text begins, and where the last one ends (v + 1 elements)                    │
//! │          │   with postings: rows of each value; first posting unit of each value                             │
//! │          │   with sums: first times, last times (ns); then per measure: sums, minima, maxima                 │
//! │ + 16n    │ elements of the arrays, one array after the other                                                 │
//! │          │ the values' texts, UTF-8, strictly ascending by their bytes                                       │
//! │ to 64    │ codes: a numbers section without running sums                                                     │
//! │          │ posting units u16, to the section's end; per value one of                                         │
//! │          │   bitmap, where it has at least 8 × chunks rows: 16 units per chunk; bit r % 16 of unit r / 16    │
//! │          │   short list, where that is shorter than the long one: for each block of 65,536 rows but the last │
//! │          │     how many of its rows are before that block's end u32, then rows % 65,536, ascending           │
//! │          │   long list: rows u32, ascending                                                                  │
//! └──────────┴───────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Valid if and only if
//! 1. each array has the length that the header gives it, gaps are zero, and nothing follows the last;
//! 2. the texts are UTF-8, each for itself, and strictly ascending;
//! 3. the codes are a valid numbers section, and every code is below the number of values;
//! 4. each value has at least one row, postings follow each other without gaps, rows ascend below the segment's and
//!    those of a short list in the blocks that it says, a bitmap has as many bits as the value rows, and all values
//!    together have the segment's rows;
//! 5. each first time is at most its last, each sum lies between rows × minimum and rows × maximum.
//!
//! Cost decides what is stored: a column with at most rows / 32 values has the whole value index, one with at most
//! rows / 2 postings, and any other only its codes. (A column of nearly distinct keys would be smaller and faster to
//! look up as texts with a hash index; that encoding is not made yet.)

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::slice;

use super::arrays::{Array, ArrayWriter, Arrays, ENTRY_BYTES, Residuals};
use super::bytes::{ByteWriter, Malformed};
use super::describe::{Spans, shown};
use super::numbers::{self, Numbers, check_gap};
use crate::kernels::{CHUNK_ROWS, Mask};
use crate::sums::{Measure, MeasureName, Sums};

/// Bytes before the first array.
const HEADER_BYTES: usize = 32;
/// Codes begin at a cache line, as seen from the section's start.
const CODES_ALIGN_BYTES: usize = 64;
/// Rows per value from which sums cost less than 1 to 2 bytes a row.
const ROWS_PER_VALUE_WITH_SUMS: usize = 32;
/// Rows per value from which postings are worth their directory.
const ROWS_PER_VALUE_WITH_POSTINGS: usize = 2;
/// Posting units (2 bytes) of a chunk's 256 bits.
const BITMAP_UNITS_PER_CHUNK: usize = CHUNK_ROWS / 16;
/// Rows per chunk from which a bitmap is written: it is no longer than a long list then, and a mask of it is one load.
const BITMAP_ROWS_PER_CHUNK: usize = 8;
/// Rows that 16 bits tell apart.
const BLOCK_ROWS: usize = 1 << 16;
/// Places of the arrays: of every section, of one with postings, of one with sums; then three for each measure.
const STARTS: usize = 0;
const COUNTS: usize = 1;
const UNITS: usize = 2;
const FIRST_TIMES: usize = 3;
const LAST_TIMES: usize = 4;
const MEASURES: usize = 5;
const MEASURE_ARRAYS: usize = 3;
/// Digits of the largest status.
const STATUS_DIGITS: usize = 5;

/// What a column's value index holds; the numbers are the tags on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ValueIndex {
    None = 1,
    Postings = 2,
    PostingsAndSums = 3,
}

impl ValueIndex {
    /// The rule of cost.
    fn for_column(values: usize, rows: usize) -> Self {
        if values <= rows / ROWS_PER_VALUE_WITH_SUMS {
            Self::PostingsAndSums
        } else if values <= rows / ROWS_PER_VALUE_WITH_POSTINGS {
            Self::Postings
        } else {
            Self::None
        }
    }

    /// How many arrays a section has.
    fn arrays(self, measures: usize) -> Option<usize> {
        match self {
            Self::None => Some(COUNTS),
            Self::Postings => Some(FIRST_TIMES),
            Self::PostingsAndSums => measures.checked_mul(MEASURE_ARRAYS)?.checked_add(MEASURES),
        }
    }

    fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::None),
            2 => Some(Self::Postings),
            3 => Some(Self::PostingsAndSums),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Postings => "postings",
            Self::PostingsAndSums => "postings and sums",
        }
    }
}

/// What an array has of each value, by its place in the list.
struct ArrayName(usize);

impl fmt::Display for ArrayName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_measure = self.0.saturating_sub(MEASURES);
        let measure = MeasureName(of_measure / MEASURE_ARRAYS);
        match self.0 {
            STARTS => out.write_str("where each text begins"),
            COUNTS => out.write_str("rows of each value"),
            UNITS => out.write_str("first posting unit of each value"),
            FIRST_TIMES => out.write_str("first time of each value"),
            LAST_TIMES => out.write_str("last time of each value"),
            _ => match of_measure % MEASURE_ARRAYS {
                0 => write!(out, "sum of {measure} of each value"),
                1 => write!(out, "smallest {measure} of each value"),
                _ => write!(out, "largest {measure} of each value"),
            },
        }
    }
}

/// The columns that a value index sums up, in the order of the rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyMeasures<'a> {
    /// Times in nanoseconds.
    pub(crate) ts: &'a [i64],
    /// In the order of [`Sums::measures`].
    pub(crate) measures: &'a [&'a [i64]],
}

/// The key of a status: five digits, so that keys order as numbers do.
pub(crate) fn status_text(status: u16) -> String {
    status_key(status).iter().copied().map(char::from).collect()
}

/// The same as bytes; quicker, for queries.
pub(crate) fn status_key(status: u16) -> [u8; STATUS_DIGITS] {
    let mut left = status;
    let mut digits = [0; STATUS_DIGITS].map(|_: u8| {
        let [digit, _] = (left % 10).to_le_bytes();
        left /= 10;
        b'0' + digit
    });
    digits.reverse();
    digits
}

/// As [`status_of`], of a key's bytes; quicker, for rows.
pub(crate) fn status_of_bytes(key: &[u8]) -> u16 {
    let Ok(digits) = <&[u8; STATUS_DIGITS]>::try_from(key) else { return 0 };
    if !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let status = digits.iter().fold(0, |status: u32, digit| 10 * status + u32::from(digit - b'0'));
    u16::try_from(status).unwrap_or(0)
}

/// The status of such a key; 0 for any other text.
pub(crate) fn status_of(key: &str) -> u16 {
    key.parse().unwrap_or(0)
}

/// What the header says, and where everything begins, in bytes from the section's start. The codes end where the postings
/// begin.
#[derive(Debug, Clone, Copy)]
struct Layout {
    values: u32,
    measures: u32,
    text_bytes: u32,
    index: ValueIndex,
    elements: usize,
    text: usize,
    codes: usize,
    postings: usize,
}

impl Layout {
    /// `None` if the section would have 2⁶⁴ bytes.
    fn new(
        index: ValueIndex,
        [values, measures, text_bytes]: [u32; 3],
        elements_bytes: usize,
        codes_bytes: usize,
    ) -> Option<Self> {
        let elements =
            index.arrays(measures as usize)?.checked_mul(ENTRY_BYTES)?.checked_add(HEADER_BYTES)?;
        let text = elements.checked_add(elements_bytes)?;
        let codes = text.checked_add(text_bytes as usize)?.checked_next_multiple_of(CODES_ALIGN_BYTES)?;
        let postings = codes.checked_add(codes_bytes)?;
        Some(Self { values, measures, text_bytes, index, elements, text, codes, postings })
    }

    /// Whole words at once: a query reads the layout of every segment that it asks.
    #[inline]
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = bytes.first_chunk::<HEADER_BYTES>().map(|header| header.as_chunks::<8>().0);
        let Some([first, second, codes_bytes, elements_bytes]) = header else {
            return Err(Malformed::new(0, format!("the header of keys in {} bytes", bytes.len())));
        };
        let [v0, v1, v2, v3, tag, zeros @ ..] = *first;
        let [m0, m1, m2, m3, t0, t1, t2, t3] = *second;
        let index = ValueIndex::from_tag(tag)
            .ok_or_else(|| Malformed::new(4, format!("{tag} is no kind of value index")))?;
        if zeros != [0; 3] {
            return Err(Malformed::new(5, "reserved bytes of the header are not zero"));
        }
        let counts = [[v0, v1, v2, v3], [m0, m1, m2, m3], [t0, t1, t2, t3]].map(u32::from_le_bytes);
        let [codes_bytes, elements_bytes] =
            [codes_bytes, elements_bytes].map(|count| usize::try_from(u64::from_le_bytes(*count)).ok());
        codes_bytes
            .zip(elements_bytes)
            .and_then(|(codes_bytes, elements_bytes)| Self::new(index, counts, elements_bytes, codes_bytes))
            .filter(|layout| layout.postings <= bytes.len())
            .ok_or_else(|| {
                let what =
                    format!("the arrays of {} values do not fit into {} bytes", counts[0], bytes.len());
                Malformed::new(0, what)
            })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.values);
        out.put_u8(self.index as u8);
        out.put(&[0; 3]);
        out.put_u32(self.measures);
        out.put_u32(self.text_bytes);
        out.put_u64((self.postings - self.codes) as u64);
        out.put_u64((self.text - self.elements) as u64);
    }

    /// Elements of the array at a place.
    fn len_of(&self, place: usize) -> usize {
        let values = self.values as usize;
        if place == STARTS { values.saturating_add(1) } else { values }
    }
}

/// Appends the section of `values`.
///
/// Hashes each row once, unless it repeats the one before it; then one pass over the codes for the postings and one
/// for each measure. Panics if the distinct values have 4 GiB or more, or the columns different lengths: our own
/// mistakes, for a segment is far smaller.
pub(crate) fn encode(values: &[&str], columns: KeyMeasures<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let (dictionary, codes) = build_dictionary(values);
    let index = ValueIndex::for_column(dictionary.len(), values.len());
    let text_bytes: usize = dictionary.iter().map(|text| text.len()).sum();
    let measures = if index == ValueIndex::PostingsAndSums { columns.measures.len() } else { 0 };
    let mut codes_section = Vec::new();
    let wide_codes: Vec<i64> = codes.iter().map(|code| i64::from(*code)).collect();
    numbers::encode(&wide_codes, false, &mut codes_section);
    let mut arrays = ArrayWriter::default();
    let starts = dictionary.iter().scan(0, |end, text| {
        let start = *end;
        *end += text.len() as i128;
        Some(start)
    });
    arrays.push(starts.chain([text_bytes as i128]));
    let mut postings = Vec::new();
    if index >= ValueIndex::Postings {
        push_postings(&codes, dictionary.len(), &mut arrays, &mut postings);
    }
    if index == ValueIndex::PostingsAndSums {
        push_sums(&codes, dictionary.len(), columns, &mut arrays);
    }
    let counts = [dictionary.len(), measures, text_bytes]
        .map(|count| u32::try_from(count).expect("the distinct values have less than 4 GiB"));
    let layout = Layout::new(index, counts, arrays.elements_bytes(), codes_section.len());
    let layout = layout.expect("a section in memory has fewer than 2^64 bytes");

    layout.put(out);
    arrays.put(layout.elements, out);
    for text in &dictionary {
        out.put(text.as_bytes());
    }
    out.resize(start + layout.codes, 0);
    out.put(&codes_section);
    out.put(postings.as_flattened());
}

/// The distinct values, ascending, and the code of each row.
fn build_dictionary<'a>(values: &[&'a str]) -> (Vec<&'a str>, Vec<u32>) {
    let mut code_by_text: HashMap<&str, u32, foldhash::fast::RandomState> = HashMap::default();
    let mut previous: Option<(&str, u32)> = None;
    let mut codes: Vec<u32> = values
        .iter()
        .map(|&text| {
            let code = match previous {
                Some((before, code)) if before == text => code,
                _ => {
                    let next = u32::try_from(code_by_text.len()).expect("a segment has fewer than 2^32 rows");
                    *code_by_text.entry(text).or_insert(next)
                }
            };
            previous = Some((text, code));
            code
        })
        .collect();

    // Codes so far are in order of appearance; those on disk are in order of the texts.
    let mut appeared: Vec<(&str, u32)> = code_by_text.into_iter().collect();
    appeared.sort_unstable();
    let mut sorted_code = vec![0; appeared.len()];
    for (sorted, (_, code)) in (0_u32..).zip(&appeared) {
        *slot(&mut sorted_code, *code) = sorted;
    }
    for code in &mut codes {
        *code = *slot(&mut sorted_code, *code);
    }
    (appeared.into_iter().map(|(text, _)| text).collect(), codes)
}

/// The slot of a code that this module gave out.
fn slot<T>(slots: &mut [T], code: u32) -> &mut T {
    slots.get_mut(code as usize).expect("every code is below the number of values")
}

/// Adds first and last times, then sums, minima and maxima of each measure.
fn push_sums(codes: &[u32], values: usize, columns: KeyMeasures<'_>, arrays: &mut ArrayWriter) {
    let by_value = |column: &[i64]| {
        assert_eq!(column.len(), codes.len(), "all columns of a segment have the same rows");
        let mut sums = vec![Measure::default(); values];
        for (code, value) in codes.iter().zip(column) {
            slot(&mut sums, *code).add(*value);
        }
        sums
    };
    let mut push_extremes = |sums: Vec<Measure>, with_sums: bool| {
        if with_sums {
            arrays.push(sums.iter().map(|measure| measure.sum));
        }
        arrays.push(sums.iter().map(|measure| i128::from(measure.min)));
        arrays.push(sums.iter().map(|measure| i128::from(measure.max)));
    };
    push_extremes(by_value(columns.ts), false);
    columns.measures.iter().for_each(|column| push_extremes(by_value(column), true));
}

/// The postings of a value while they are written.
struct PostingsSlot {
    form: Form,
    /// Where the bitmap or the blocks' ends begin.
    first: usize,
    /// Where the next row of a list goes.
    next: usize,
}

/// Adds rows and first unit of each value, and writes the units.
fn push_postings(codes: &[u32], values: usize, arrays: &mut ArrayWriter, units: &mut Vec<[u8; 2]>) {
    let rows = codes.len();
    let mut counts = vec![0_u32; values];
    for code in codes {
        *slot(&mut counts, *code) += 1;
    }
    let mut unit = 0;
    let mut slots = Vec::with_capacity(values);
    for count in &counts {
        let form = Form::of(*count, rows);
        slots.push(PostingsSlot { form, first: unit, next: unit + form.head_units(rows) });
        unit += form.units(*count, rows).expect("a segment in memory has fewer than 2^64 bytes");
    }
    arrays.push(counts.iter().map(|count| i128::from(*count)));
    arrays.push(slots.iter().map(|slot| slot.first as i128));
    units.resize(unit, [0; 2]);
    let mut put = |at: usize, bytes: &[u8]| {
        let target = units.get_mut(at..).unwrap_or_default().iter_mut();
        target.zip(bytes.as_chunks().0).for_each(|(unit, bytes)| *unit = *bytes);
    };
    for (row, code) in (0_u32..).zip(codes) {
        let postings = slot(&mut slots, *code);
        let [b0, b1, ..] = row.to_le_bytes();
        match postings.form {
            // Bits are set below, where units can be read.
            Form::Bitmap => {}
            Form::Short => {
                put(postings.next, &[b0, b1]);
                postings.next += 1;
            }
            Form::Long => {
                put(postings.next, &row.to_le_bytes());
                postings.next += 2;
            }
        }
        // At the end of a block, which is rare, every short list says how many of its rows are before that.
        let block = row as usize / BLOCK_ROWS;
        let is_last_of_block = row as usize % BLOCK_ROWS == BLOCK_ROWS - 1 && block < blocks(rows) - 1;
        if is_last_of_block {
            for short in slots.iter().filter(|slot| slot.form == Form::Short) {
                let before = short.next - short.first - Form::Short.head_units(rows);
                let before = u32::try_from(before).expect("a segment has fewer than 2^32 rows");
                put(short.first + 2 * block, &before.to_le_bytes());
            }
        }
    }
    for (row, code) in codes.iter().enumerate() {
        let postings = slot(&mut slots, *code);
        if postings.form == Form::Bitmap
            && let Some(unit) = units.get_mut(postings.first + row / 16)
        {
            *unit = (u16::from_le_bytes(*unit) | 1 << (row % 16)).to_le_bytes();
        }
    }
}

/// Blocks of 65,536 rows that a segment has.
fn blocks(rows: usize) -> usize {
    rows.div_ceil(BLOCK_ROWS)
}

/// How the rows of a value are stored; follows from their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bitmap,
    /// The lower 16 bits of each row, and where each block of 65,536 rows ends.
    Short,
    Long,
}

impl Form {
    /// A bitmap where it is not longer than a long list; else the shorter one of the lists, the long one if both are equal.
    fn of(count: u32, rows: usize) -> Self {
        let count = count as usize;
        if count >= BITMAP_ROWS_PER_CHUNK * rows.div_ceil(CHUNK_ROWS) {
            Self::Bitmap
        } else if count > Self::Short.head_units(rows) {
            Self::Short
        } else {
            Self::Long
        }
    }

    /// Units before the first row.
    fn head_units(self, rows: usize) -> usize {
        match self {
            Self::Short => 2 * blocks(rows).saturating_sub(1),
            Self::Bitmap | Self::Long => 0,
        }
    }

    /// `None` if they would not fit into memory.
    fn units(self, count: u32, rows: usize) -> Option<usize> {
        match self {
            Self::Bitmap => rows.div_ceil(CHUNK_ROWS).checked_mul(BITMAP_UNITS_PER_CHUNK),
            Self::Short => self.head_units(rows).checked_add(count as usize),
            Self::Long => (count as usize).checked_mul(2),
        }
    }
}

/// A column of keys, read in place.
///
/// Made from bytes that passed [`check`](Self::check), by a few loads: a query makes one for each segment, and opens of it
/// what it needs. Codes out of range have no sums and no postings, and the text "". Methods never panic in release builds,
/// whatever the bytes are; over bytes that did not pass the check they return nonsense.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys<'a> {
    bytes: &'a [u8],
    layout: Layout,
    rows: usize,
}

/// The values of a column of keys, ascending: their places are the codes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dictionary<'a> {
    values: u32,
    /// Where each value's text begins, and where the last one ends: of base and residual the sum.
    base: i64,
    starts: Residuals<'a>,
    text: &'a [u8],
}

impl<'a> Keys<'a> {
    /// Checks everything that the methods and whoever uses codes as places rely on: O(bytes). `measures` is what the
    /// segment's schema says.
    pub(crate) fn check(bytes: &[u8], rows: usize, measures: usize) -> Result<(), Malformed> {
        let layout = Layout::read(bytes)?;
        let expected_measures = if layout.index == ValueIndex::PostingsAndSums { measures } else { 0 };
        if layout.measures as usize != expected_measures {
            let what = format!("sums of {} measures instead of {expected_measures}", layout.measures);
            return Err(Malformed::new(8, what));
        }
        if layout.values as usize > rows {
            return Err(Malformed::new(0, format!("{} values in {rows} rows", layout.values)));
        }
        let postings_bytes = bytes.len() - layout.postings;
        if !postings_bytes.is_multiple_of(2) || (layout.index == ValueIndex::None && postings_bytes != 0) {
            return Err(Malformed::new(layout.postings, format!("{postings_bytes} bytes follow the codes")));
        }
        check_gap(bytes, layout.text + layout.text_bytes as usize..layout.codes)?;
        let codes = bytes.get(layout.codes..layout.postings).unwrap_or_default();
        let in_codes = |malformed: Malformed| Malformed {
            offset: malformed.offset + layout.codes as u64,
            what: format!("codes: {}", malformed.what),
        };
        Numbers::check(codes, rows, false).map_err(in_codes)?;

        let entries = HEADER_BYTES..layout.elements;
        let may_be_wide =
            |place: usize| place >= MEASURES && (place - MEASURES).is_multiple_of(MEASURE_ARRAYS);
        let elements = layout.elements..layout.text;
        Arrays::new(bytes, entries).check(elements, |place| layout.len_of(place), may_be_wide)?;

        let keys = Keys::new(bytes, rows);
        keys.check_dictionary().map_err(|what| Malformed::new(layout.text, what))?;
        keys.codes().check_values().map_err(in_codes)?;
        let (lowest, highest) = keys.codes().min_max(0..rows).unwrap_or_default();
        if lowest < 0 || highest >= i64::from(layout.values) && rows > 0 {
            return Err(Malformed::new(
                layout.codes,
                format!("a code is not below the {} values", layout.values),
            ));
        }
        if layout.index >= ValueIndex::Postings {
            keys.check_postings(rows).map_err(|what| Malformed::new(layout.postings, what))?;
        }
        if layout.index == ValueIndex::PostingsAndSums {
            keys.check_sums(measures).map_err(|what| Malformed::new(layout.elements, what))?;
        }
        Ok(())
    }

    /// Checks that the values are texts, strictly ascending.
    fn check_dictionary(&self) -> Result<(), String> {
        let dictionary = self.dictionary();
        let ends = (dictionary.start_of(0), dictionary.start_of(self.values()));
        if ends != (Some(0), Some(self.layout.text_bytes as usize)) {
            return Err("the values do not fill their text".to_owned());
        }
        let mut previous: Option<&[u8]> = None;
        for code in 0..self.values() {
            let Some(text) = dictionary.value_bytes(code) else {
                return Err(format!("value {code} ends before it begins or past the end of the text"));
            };
            if str::from_utf8(text).is_err() {
                return Err(format!("value {code} is not UTF-8"));
            }
            if previous.is_some_and(|previous| previous >= text) {
                return Err(format!("value {code} is not above the one before it"));
            }
            previous = Some(text);
        }
        Ok(())
    }

    /// Checks that postings lie one after the other and that each has the rows it says.
    fn check_postings(&self, rows: usize) -> Result<(), String> {
        let (mut next_unit, mut rows_seen) = (0, 0);
        for code in 0..self.values() {
            let (unit, count) = self.place(code).unwrap_or_default();
            if unit != next_unit || count == 0 {
                return Err(format!(
                    "value {code} has {count} rows at posting unit {unit}, not at {next_unit}"
                ));
            }
            next_unit += Form::of(count, rows).units(count, rows).unwrap_or(usize::MAX / 2);
            rows_seen += count as usize;
            if !self.postings(code).is_some_and(|postings| postings.are_valid(count, rows)) {
                return Err(format!(
                    "the postings of value {code} are not {count} ascending rows below {rows}"
                ));
            }
        }
        if next_unit != self.units().len() {
            return Err(format!("{} posting units, the values have {next_unit}", self.units().len()));
        }
        if rows_seen != rows {
            return Err(format!("the values have {rows_seen} rows, the segment {rows}"));
        }
        Ok(())
    }

    /// Checks that times and sums can be true.
    fn check_sums(&self, measures: usize) -> Result<(), String> {
        for code in 0..self.values() {
            if self.first_ts(code) > self.last_ts(code) {
                return Err(format!("value {code} has its first time after its last"));
            }
            let count = self.count(code).unwrap_or(0);
            for place in 0..measures {
                let fits = self.measure(code, place).is_some_and(|measure| is_possible(&measure, count));
                if !fits {
                    return Err(format!(
                        "the sum of measure {place} of value {code} does not fit its extremes"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The view of bytes that passed [`check`](Self::check) with the same rows. O(1).
    pub(crate) fn new(bytes: &'a [u8], rows: usize) -> Self {
        let Ok(layout) = Layout::read(bytes) else {
            debug_assert!(false, "bytes that did not pass the check");
            return Self::empty();
        };
        Self { bytes, layout, rows }
    }

    fn empty() -> Self {
        let index = ValueIndex::None;
        let (values, measures, text_bytes) = (0, 0, 0);
        let layout =
            Layout { values, measures, text_bytes, index, elements: 0, text: 0, codes: 0, postings: 0 };
        Self { bytes: &[], layout, rows: 0 }
    }

    fn arrays(&self) -> Arrays<'a> {
        Arrays::new(self.bytes, HEADER_BYTES..self.layout.elements)
    }

    /// The posting units of all values; none without postings.
    fn units(&self) -> &'a [[u8; 2]] {
        self.bytes.get(self.layout.postings..).unwrap_or_default().as_chunks().0
    }

    /// The values, for a search or for many of them.
    #[inline]
    pub(crate) fn dictionary(&self) -> Dictionary<'a> {
        let Layout { values, text, text_bytes, .. } = self.layout;
        let starts = self.arrays().get(STARTS, self.layout.len_of(STARTS)).and_then(|starts| starts.narrow());
        let (base, starts) = starts.unwrap_or((0, Residuals::Zero(0)));
        let text = self.bytes.get(text..text + text_bytes as usize).unwrap_or_default();
        Dictionary { values, base, starts, text }
    }

    /// Describes such a section, or what should be one.
    pub(super) fn describe(spans: &mut Spans<'a, '_>, rows: usize) -> Option<()> {
        let (start, bytes) = (spans.position(), spans.rest());
        let layout = match Layout::read(bytes) {
            Ok(layout) => layout,
            Err(malformed) => {
                spans.give_up(malformed.what);
                return None;
            }
        };
        let keys = Self { bytes, layout, rows };
        spans.u32("values")?;
        spans.tag("value index", |tag| ValueIndex::from_tag(tag).map(ValueIndex::name))?;
        spans.zeros(3)?;
        spans.u32("measures")?;
        spans.u32("bytes of the dictionary's text")?;
        spans.u64("bytes of the codes")?;
        spans.u64("bytes of the elements of all arrays")?;
        let arrays = layout.index.arrays(layout.measures as usize)?;
        for place in 0..arrays {
            spans.within(format_args!("entry of {}", ArrayName(place)), Arrays::describe_entry)?;
        }
        spans.part("elements", layout.text - layout.elements, |spans| {
            for place in 0..arrays {
                let (len, at) = (layout.len_of(place), spans.position() - start);
                keys.arrays().describe_elements(place, len, at, ArrayName(place), spans)?;
            }
            Some(())
        })?;
        let text_bytes = layout.text_bytes as usize;
        spans.bytes("texts", text_bytes)?;
        if let Some(last) = layout.values.checked_sub(1).filter(|_| spans.is_sound() && text_bytes > 0) {
            let [first, last] = [keys.value(0), keys.value(last)].map(|text| shown(text.as_bytes()));
            spans.note(format_args!("{} texts, the first {first}, the last {last}", layout.values));
        }
        spans.padding(layout.codes - (layout.text + text_bytes))?;
        spans.part("codes", layout.postings - layout.codes, |spans| Numbers::describe(spans, rows, false))?;
        let posting_bytes = spans.rest().len();
        spans.array("postings", posting_bytes / 2, "u16", 2)?;
        if spans.is_sound() && posting_bytes > 0 {
            let count_of = |form: Form| {
                let counts = (0..layout.values).filter_map(|code| keys.count(code));
                counts.filter(|count| Form::of(*count, rows) == form).count()
            };
            let [bitmaps, short, long] = [Form::Bitmap, Form::Short, Form::Long].map(count_of);
            spans.note(format_args!("{bitmaps} bitmaps, {short} short and {long} long lists of rows"));
        }
        Some(())
    }

    /// How the values are encoded.
    pub(super) fn encoding(&self) -> String {
        let codes = self.codes().encoding();
        format!(
            "keys: {} values, {}; codes as {codes}",
            self.layout.values,
            match self.layout.index {
                ValueIndex::None => "no value index",
                index => index.name(),
            }
        )
    }

    /// Bytes of the texts of all rows.
    pub(super) fn text_bytes(&self) -> u64 {
        let dictionary = self.dictionary();
        let bytes_of = |code: u32| dictionary.value(code).len() as u64;
        if let Some(counts) = self.counts() {
            let count = |code: u32| counts.get_i64(code as usize).and_then(|count| u64::try_from(count).ok());
            return (0..self.values()).map(|code| bytes_of(code) * count(code).unwrap_or(0)).sum();
        }
        let codes = self.codes();
        (0..codes.rows()).map(|row| bytes_of(code_of_value(codes.get(row)))).sum()
    }

    /// Bytes of such a section that only make answers quick: all but the dictionary and the codes' own values.
    pub(crate) fn index_bytes(bytes: &'a [u8], rows: usize) -> usize {
        let Ok(layout) = Layout::read(bytes) else { return 0 };
        let keys = Self::new(bytes, rows);
        let arrays = keys.arrays().bytes_from(STARTS + 1, layout.text);
        arrays + keys.codes().index_bytes() + size_of_val(keys.units())
    }

    /// How many values there are; their codes are `0..values()`.
    pub(crate) fn values(&self) -> u32 {
        self.layout.values
    }

    /// The code of a value that some row has: a binary search.
    pub(crate) fn code_of(&self, value: &str) -> Option<u32> {
        self.dictionary().code_of(value)
    }

    /// The value of a code; "" if there is no such code.
    pub(crate) fn value(&self, code: u32) -> &'a str {
        self.dictionary().value(code)
    }

    /// Whether both read the same column of the same segment.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.bytes, other.bytes)
    }

    /// The codes of the rows: a dozen loads, so for many rows at once.
    pub(crate) fn codes(&self) -> Numbers<'a> {
        let Layout { codes, postings, .. } = self.layout;
        Numbers::new(self.bytes.get(codes..postings).unwrap_or_default(), self.rows, false)
    }

    /// The code of a row: opens the codes, so not for many rows.
    pub(crate) fn code(&self, row: usize) -> u32 {
        code_of_value(self.codes().get(row))
    }

    /// The value of a row.
    #[cfg(test)]
    pub(crate) fn text(&self, row: usize) -> &'a str {
        self.value(self.code(row))
    }

    /// Whether the section holds, per value, count, times and sums.
    pub(crate) fn has_value_sums(&self) -> bool {
        self.layout.index == ValueIndex::PostingsAndSums
    }

    /// An array of one element for each value, in the order of the codes.
    fn array(&self, place: usize) -> Option<Array<'a>> {
        self.arrays().get(place, self.layout.values as usize)
    }

    /// The rows of every value, by code; `None` without postings.
    pub(crate) fn counts(&self) -> Option<Array<'a>> {
        self.array(COUNTS)
    }

    /// The time of the first row of every value, by code, in nanoseconds; `None` without value sums. Arrays are opened at each
    /// call: of many values, by who asks.
    pub(crate) fn first_times(&self) -> Option<Array<'a>> {
        self.array(FIRST_TIMES)
    }

    /// The time of the last row of every value, by code, in nanoseconds; `None` without value sums.
    pub(crate) fn last_times(&self) -> Option<Array<'a>> {
        self.array(LAST_TIMES)
    }

    /// One measure of all rows of every value, by code: its sums, exact. The measure is given by its place in
    /// [`Sums::measures`]; `None` without value sums, and for a counter that is younger than the segment. So in the two
    /// below.
    pub(crate) fn sums(&self, measure: usize) -> Option<Array<'a>> {
        self.array(measure_arrays(measure)?)
    }

    /// The smallest values of a measure, by code.
    pub(crate) fn minima(&self, measure: usize) -> Option<Array<'a>> {
        self.array(measure_arrays(measure)?.checked_add(1)?)
    }

    /// The largest values of a measure, by code.
    pub(crate) fn maxima(&self, measure: usize) -> Option<Array<'a>> {
        self.array(measure_arrays(measure)?.checked_add(2)?)
    }

    /// The rows of a value; `None` without postings.
    pub(crate) fn count(&self, code: u32) -> Option<u32> {
        self.counts()?.get_i64(code as usize).and_then(|count| u32::try_from(count).ok())
    }

    /// The time of a value's first row, in nanoseconds; `None` without value sums.
    pub(crate) fn first_ts(&self, code: u32) -> Option<i64> {
        self.first_times()?.get_i64(code as usize)
    }

    /// The time of a value's last row, in nanoseconds; `None` without value sums.
    pub(crate) fn last_ts(&self, code: u32) -> Option<i64> {
        self.last_times()?.get_i64(code as usize)
    }

    /// One measure of all rows of a value, by its place in [`Sums::measures`]; `None` without value sums, and for a
    /// counter that is younger than the segment.
    pub(crate) fn measure(&self, code: u32, place: usize) -> Option<Measure> {
        let code = code as usize;
        Some(Measure {
            sum: self.sums(place)?.get(code)?,
            min: self.minima(place)?.get_i64(code)?,
            max: self.maxima(place)?.get_i64(code)?,
        })
    }

    /// Adds all rows of the values of some ranges of codes to `sums`, without touching a row; counters younger than the
    /// segment count as 0. `false`, and nothing is added, without value sums.
    ///
    /// `sums` has at least the segment's measures, as those of a table have.
    pub(crate) fn add_value_sums(&self, codes: &[Range<u32>], sums: &mut Sums) -> bool {
        let (arrays, values) = (self.arrays(), self.layout.values as usize);
        let array = |place| arrays.get(place, values);
        let (Some(counts), true) = (array(COUNTS), self.has_value_sums()) else {
            return false;
        };
        let ranges = || codes.iter().map(|range| range.start as usize..range.end as usize);
        let rows: i128 = ranges().map(|range| counts.sum(range)).sum();
        for (measure, first) in sums.measures.iter_mut().zip((MEASURES..).step_by(MEASURE_ARRAYS)) {
            // Each array is opened once, not once for each value.
            let of_values = (array(first), array(first + 1), array(first + 2));
            if let (Some(all), Some(minima), Some(maxima)) = of_values {
                for range in ranges() {
                    let (sum, min) = (all.sum(range.clone()), minima.min(range.clone()));
                    measure.merge(&Measure { sum, min, max: maxima.max(range) });
                }
            } else if rows > 0 {
                measure.merge(&Measure { sum: 0, min: 0, max: 0 });
            }
        }
        sums.count += u64::try_from(rows).unwrap_or(0);
        true
    }

    /// The rows of a value; `None` without postings.
    pub(crate) fn postings(&self, code: u32) -> Option<Postings<'a>> {
        let (unit, count) = self.place(code)?;
        let rows = self.rows;
        let form = Form::of(count, rows);
        let units = self.units().get(unit..)?.get(..form.units(count, rows)?)?;
        Some(match form {
            Form::Bitmap => Postings::Bitmap { units, count },
            Form::Short => {
                let (ends, lows) = units.split_at_checked(form.head_units(rows))?;
                Postings::Short(ShortList { ends: ends.as_flattened().as_chunks().0, lows })
            }
            Form::Long => Postings::Long(units.as_flattened().as_chunks().0),
        })
    }

    /// First posting unit and rows of a value.
    fn place(&self, code: u32) -> Option<(usize, u32)> {
        let unit = self.array(UNITS)?.get_i64(code as usize)?;
        Some((usize::try_from(unit).ok()?, self.count(code)?))
    }
}

/// A text that values are compared with, and the first eight bytes of it as a number that orders as they do.
struct Wanted<'t> {
    text: &'t [u8],
    head: u64,
}

impl<'t> Wanted<'t> {
    fn new(text: &'t [u8]) -> Self {
        let mut first = [0; 8];
        first.iter_mut().zip(text).for_each(|(slot, byte)| *slot = *byte);
        Self { text, head: head_of(first, text.len()) }
    }
}

/// The number of a text's first bytes, of which what follows a shorter text is cut off. Where two are equal the texts decide.
#[inline]
fn head_of(first: [u8; 8], len: usize) -> u64 {
    let all = u64::from_le_bytes(first).swap_bytes();
    if len < first.len() { all & !(u64::MAX >> (8 * len)) } else { all }
}

/// The first code that has reached what all later ones have too; past the last one without any.
#[inline]
fn first_where(codes: Range<u32>, reached: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (codes.start, codes.end);
    while low < high {
        let middle = low.midpoint(high);
        if reached(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

impl<'a> Dictionary<'a> {
    /// How many values there are.
    pub(crate) fn values(&self) -> u32 {
        self.values
    }

    /// Bytes of all values.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// The code of a value that some row has: a binary search.
    pub(crate) fn code_of(&self, value: &str) -> Option<u32> {
        let wanted = Wanted::new(value.as_bytes());
        let code = first_where(0..self.values, |code| self.order(code, &wanted).is_ge());
        (self.value_bytes(code) == Some(wanted.text)).then_some(code)
    }

    /// The codes of the values in `lo..=hi`, in the order of their bytes.
    pub(crate) fn codes_in(&self, lo: &[u8], hi: &[u8]) -> Range<u32> {
        let (lo, hi) = (Wanted::new(lo), Wanted::new(hi));
        let start = first_where(0..self.values, |code| self.order(code, &lo).is_ge());
        // Mostly there is no upper bound.
        let ends_inside = start < self.values && self.order(self.values - 1, &hi).is_gt();
        let end = if ends_inside {
            first_where(start..self.values, |code| self.order(code, &hi).is_gt())
        } else {
            self.values
        };
        start..end
    }

    /// The codes of the values that begin with `start`: they stand together.
    pub(crate) fn codes_from(&self, start: &str) -> Range<u32> {
        let wanted = Wanted::new(start.as_bytes());
        let first = first_where(0..self.values, |code| self.order(code, &wanted).is_ge());
        let begins = |code| self.value_bytes(code).is_some_and(|value| value.starts_with(wanted.text));
        first..first_where(first..self.values, |code| !begins(code))
    }

    /// How a value compares with a text: mostly their first bytes tell.
    #[inline]
    fn order(&self, code: u32, wanted: &Wanted<'_>) -> Ordering {
        let Some((start, end)) = self.start_of(code).zip(self.start_of(code + 1)) else {
            return Ordering::Less;
        };
        let first = self.text.get(start..).and_then(|text| text.first_chunk());
        let by_head = first.map(|first| head_of(*first, end.saturating_sub(start)).cmp(&wanted.head));
        match by_head {
            Some(order @ (Ordering::Less | Ordering::Greater)) => order,
            // Equal so far, or so near to the end of all texts that there are not as many bytes.
            _ => self.text.get(start..end).unwrap_or_default().cmp(wanted.text),
        }
    }

    /// Brings values into the processor's cache, all at a time: who asks for one after the other waits for each.
    pub(crate) fn touch(&self, codes: impl Iterator<Item = u32>) {
        let starts = codes.filter_map(|code| self.start_of(code));
        let seen = starts.fold(0, |seen, start| seen ^ self.text.get(start).copied().unwrap_or(0));
        std::hint::black_box(seen);
    }

    /// The value of a code; "" if there is no such code.
    #[inline]
    pub(crate) fn value(&self, code: u32) -> &'a str {
        self.value_bytes(code).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// The value of a code as it is stored: UTF-8, as the check found it.
    #[inline]
    pub(crate) fn value_bytes(&self, code: u32) -> Option<&'a [u8]> {
        if code >= self.values {
            return None;
        }
        self.text.get(self.start_of(code)?..self.start_of(code + 1)?)
    }

    /// No text of a segment begins beyond 64 bits.
    #[inline]
    fn start_of(&self, code: u32) -> Option<usize> {
        usize::try_from(self.base.wrapping_add(self.starts.get(code as usize) as i64)).ok()
    }
}

/// What a column of codes has for a row; without value or sums if it cannot be a code.
pub(crate) fn code_of_value(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The first array of a measure.
fn measure_arrays(measure: usize) -> Option<usize> {
    measure.checked_mul(MEASURE_ARRAYS)?.checked_add(MEASURES)
}

/// Whether `rows` rows can have these extremes and this sum.
pub(super) fn is_possible(measure: &Measure, rows: u32) -> bool {
    let Measure { sum, min, max } = *measure;
    let count = i128::from(rows);
    if rows == 0 {
        return *measure == Measure::default();
    }
    min <= max && (count * i128::from(min)..=count * i128::from(max)).contains(&sum)
}

/// The rows of one value, read in place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Postings<'a> {
    /// Ascending rows.
    Long(&'a [[u8; 4]]),
    Short(ShortList<'a>),
    /// A bit per row, in 16-bit units that are also parts of the words of the chunks' masks; and how many are set.
    Bitmap {
        units: &'a [[u8; 2]],
        count: u32,
    },
}

impl<'a> Postings<'a> {
    /// How many rows there are.
    pub(crate) fn len(&self) -> u32 {
        match self {
            Self::Long(rows) => u32::try_from(rows.len()).unwrap_or(u32::MAX),
            Self::Short(list) => u32::try_from(list.lows.len()).unwrap_or(u32::MAX),
            Self::Bitmap { count, .. } => *count,
        }
    }

    /// Whether [`mask`](Self::mask) is a load rather than a search.
    pub(crate) fn is_bitmap(&self) -> bool {
        matches!(self, Self::Bitmap { .. })
    }

    /// The words of the masks of all chunks, one after the other, if this is a bitmap.
    pub(crate) fn words(&self) -> Option<&'a [[u8; 8]]> {
        let Self::Bitmap { units, .. } = *self else { return None };
        Some(units.as_flattened().as_chunks().0)
    }

    /// The rows within a range, from either end. To begin costs a binary search in a list and nothing in a bitmap.
    pub(crate) fn rows_in(&self, rows: Range<u32>) -> PostingRows<'a> {
        match *self {
            Self::Long(list) => PostingRows::Long(within(list, rows).iter()),
            Self::Short(list) => PostingRows::Short(ShortRows::new(list, &rows)),
            Self::Bitmap { units, .. } => PostingRows::Bitmap { units, start: rows.start, end: rows.end },
        }
    }

    /// The rows within a chunk: a load from a bitmap, a binary search in a list.
    pub(crate) fn mask(&self, chunk: usize) -> Mask {
        let mut mask = Mask::default();
        let mut set = |place: usize| {
            if let Some(word) = mask.get_mut(place / 64) {
                *word |= 1 << (place % 64);
            }
        };
        let row_at = |chunk: usize| u32::try_from(chunk * CHUNK_ROWS).unwrap_or(u32::MAX);
        let rows = row_at(chunk)..row_at(chunk + 1);
        match *self {
            Self::Bitmap { units, .. } => {
                let units = units.as_chunks::<BITMAP_UNITS_PER_CHUNK>().0.get(chunk);
                // As one value: who reads it as vectors would wait for words written one by one.
                let words = units.and_then(|units| units.as_flattened().as_chunks().0.first_chunk());
                mask = words.map_or(mask, |words| words.map(u64::from_le_bytes));
            }
            Self::Long(list) => {
                let list = within(list, rows.clone()).iter();
                list.for_each(|row| set((u32::from_le_bytes(*row) - rows.start) as usize));
            }
            // A chunk lies within one block, so that the lower halves tell its rows apart.
            Self::Short(list) => {
                let lows = list.lows.get(list.places(&rows)).unwrap_or_default().iter();
                lows.for_each(|low| set(u16::from_le_bytes(*low) as usize % CHUNK_ROWS));
            }
        }
        mask
    }

    /// Whether these are `count` ascending rows of a segment of `rows`.
    fn are_valid(&self, count: u32, rows: usize) -> bool {
        match *self {
            Self::Long(list) => {
                let below_rows = list.last().is_none_or(|last| (u32::from_le_bytes(*last) as usize) < rows);
                below_rows && list.is_sorted_by(|a, b| u32::from_le_bytes(*a) < u32::from_le_bytes(*b))
            }
            Self::Short(list) => list.is_valid(rows),
            Self::Bitmap { units, .. } => {
                let set: u32 = units.iter().map(|unit| u16::from_le_bytes(*unit).count_ones()).sum();
                let past_the_end =
                    u32::try_from(rows).is_ok_and(|rows| self.rows_in(rows..u32::MAX).next().is_some());
                set == count && !past_the_end
            }
        }
    }
}

/// The part of an ascending list that lies in `rows`.
fn within(list: &[[u8; 4]], rows: Range<u32>) -> &[[u8; 4]] {
    let first_at_least = |row: u32| list.partition_point(|at| u32::from_le_bytes(*at) < row);
    list.get(first_at_least(rows.start)..first_at_least(rows.end)).unwrap_or_default()
}

/// Ascending rows by their lower halves; the upper half is the block that they lie in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShortList<'a> {
    /// How many rows are before the end of each block but the last.
    ends: &'a [[u8; 4]],
    lows: &'a [[u8; 2]],
}

impl ShortList<'_> {
    /// The places of a block's rows.
    fn block(&self, block: usize) -> Range<usize> {
        let end_of = |block: usize| {
            let end = self.ends.get(block).map_or(usize::MAX, |end| u32::from_le_bytes(*end) as usize);
            end.min(self.lows.len())
        };
        block.checked_sub(1).map_or(0, end_of)..end_of(block)
    }

    /// The first place whose row is at least `row`.
    fn place(&self, row: u32) -> usize {
        let (block, low) = (row as usize / BLOCK_ROWS, row as usize % BLOCK_ROWS);
        let places = self.block(block);
        let lows = self.lows.get(places.clone()).unwrap_or_default();
        places.start + lows.partition_point(|at| usize::from(u16::from_le_bytes(*at)) < low)
    }

    fn places(&self, rows: &Range<u32>) -> Range<usize> {
        let start = self.place(rows.start);
        start..self.place(rows.end).max(start)
    }

    fn row(&self, block: usize, place: usize) -> Option<u32> {
        let low = u32::from(u16::from_le_bytes(*self.lows.get(place)?));
        Some(first_of_block(block) | low)
    }

    fn is_valid(&self, rows: usize) -> bool {
        let ascends = |block: usize| {
            let lows = self.lows.get(self.block(block));
            lows.is_some_and(|lows| lows.is_sorted_by(|a, b| u16::from_le_bytes(*a) < u16::from_le_bytes(*b)))
        };
        let ends = self.ends.iter().map(|end| u32::from_le_bytes(*end) as usize);
        let last = self.lows.len().checked_sub(1).and_then(|place| self.row(self.ends.len(), place));
        ends.clone().is_sorted()
            && ends.max().is_none_or(|end| end <= self.lows.len())
            && (0..=self.ends.len()).all(ascends)
            // Rows of the other blocks are below the segment's; without any in the last block this says nothing.
            && (self.block(self.ends.len()).is_empty() || last.is_some_and(|last| (last as usize) < rows))
    }
}

/// Blocks of a segment have row numbers of 32 bits.
fn first_of_block(block: usize) -> u32 {
    u32::try_from(block * BLOCK_ROWS).unwrap_or(u32::MAX)
}

/// Rows of a short list that are still to come, from either end.
#[derive(Debug, Clone)]
pub(crate) struct ShortRows<'a> {
    list: ShortList<'a>,
    places: Range<usize>,
    /// The block of the first place, or one before it; and of the last one, or one behind it.
    front: usize,
    back: usize,
}

impl<'a> ShortRows<'a> {
    fn new(list: ShortList<'a>, rows: &Range<u32>) -> Self {
        let back = (rows.end as usize / BLOCK_ROWS).min(list.ends.len());
        Self { list, places: list.places(rows), front: rows.start as usize / BLOCK_ROWS, back }
    }

    fn next(&mut self) -> Option<u32> {
        let place = self.places.next()?;
        while self.front < self.list.ends.len() && self.list.block(self.front).end <= place {
            self.front += 1;
        }
        self.list.row(self.front, place)
    }

    fn next_back(&mut self) -> Option<u32> {
        let place = self.places.next_back()?;
        while self.back > 0 && place < self.list.block(self.back).start {
            self.back -= 1;
        }
        self.list.row(self.back, place)
    }
}

/// Rows of one value, ascending from the front and descending from the back.
#[derive(Debug, Clone)]
pub(crate) enum PostingRows<'a> {
    Long(slice::Iter<'a, [u8; 4]>),
    Short(ShortRows<'a>),
    /// The rows in `start..end` are still to come.
    Bitmap {
        units: &'a [[u8; 2]],
        start: u32,
        end: u32,
    },
}

impl Iterator for PostingRows<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (units, start, end) = match self {
            Self::Long(rows) => return rows.next().map(|row| u32::from_le_bytes(*row)),
            Self::Short(rows) => return rows.next(),
            Self::Bitmap { units, start, end } => (units, start, end),
        };
        while *start < *end {
            let unit = u16::from_le_bytes(*units.get(*start as usize / 16)?) >> (*start % 16);
            if unit == 0 {
                *start = (*start | 15).saturating_add(1);
                continue;
            }
            let row = *start + unit.trailing_zeros();
            *start = row.saturating_add(1);
            return (row < *end).then_some(row);
        }
        None
    }
}

impl DoubleEndedIterator for PostingRows<'_> {
    fn next_back(&mut self) -> Option<u32> {
        let (units, start, end) = match self {
            Self::Long(rows) => return rows.next_back().map(|row| u32::from_le_bytes(*row)),
            Self::Short(rows) => return rows.next_back(),
            Self::Bitmap { units, start, end } => (units, start, end),
        };
        // What lies past the last unit has no rows.
        *end = (*end).min(u32::try_from(units.len() * 16).unwrap_or(u32::MAX));
        while *start < *end {
            let last = *end - 1;
            let unit = u16::from_le_bytes(*units.get(last as usize / 16)?) << (15 - last % 16);
            if unit == 0 {
                *end = last & !15;
                continue;
            }
            let row = last - unit.leading_zeros();
            *end = row;
            return (*start <= row).then_some(row);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The columns that the value index sums up, made from a seed; the second measure has extremes.
    fn columns(rows: usize, seed: i64) -> (Vec<i64>, Vec<Vec<i64>>) {
        let ts = (0..rows as i64).map(|row| row * 10 + seed % 100).collect();
        let small = (0..rows as i64).map(|row| (row * seed) % 1000 - 500).collect();
        let wide =
            (0..rows as i64).map(|row| if row % 3 == 0 { i64::MIN + seed } else { i64::MAX - row }).collect();
        (ts, vec![small, wide])
    }

    fn section(values: &[&str], seed: i64) -> Vec<u8> {
        let (ts, measures) = columns(values.len(), seed);
        let measures: Vec<&[i64]> = measures.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        encode(values, KeyMeasures { ts: &ts, measures: &measures }, &mut out);
        out
    }

    /// Every method against plain loops over the values.
    fn assert_equals_plain_loops(values: &[&str], seed: i64) {
        let bytes = section(values, seed);
        Keys::check(&bytes, values.len(), 2).unwrap();
        let keys = Keys::new(&bytes, values.len());
        let mut rows_by_value: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (row, value) in (0_u32..).zip(values) {
            rows_by_value.entry(value).or_default().push(row);
        }
        assert_eq!(keys.values() as usize, rows_by_value.len());
        assert_eq!(keys.codes().rows(), values.len());
        assert_eq!((0..values.len()).map(|row| keys.text(row)).collect::<Vec<_>>(), values);
        assert_eq!(keys.code_of("no such value"), None);
        assert_eq!(keys.code_of("\u{10FFFF}"), None);
        assert_eq!((keys.value(keys.values()), keys.value(u32::MAX)), ("", ""));
        let all: Vec<&str> = rows_by_value.keys().copied().collect();
        let every = all.len() / 40 + 1;
        let columns = columns(values.len(), seed);
        for (code, (value, rows)) in (0_u32..).zip(&rows_by_value) {
            assert_eq!((keys.value(code), keys.code_of(value)), (*value, Some(code)));
            if (code as usize).is_multiple_of(every) {
                assert_range_of_codes(&keys, &all, value);
            }
            assert_postings(&keys, code, rows, values.len());
            assert_sums(&keys, code, rows, &columns);
        }
        assert_sums_of_ranges(&keys);
    }

    /// Ranges of values add up as their values do one by one.
    fn assert_sums_of_ranges(keys: &Keys<'_>) {
        let (values, third) = (keys.values(), keys.values() / 3);
        let none = Sums { count: 0, measures: vec![Measure::default(); 3] };
        let (mut together, mut one_by_one) = (none.clone(), none);
        let with_sums = keys.add_value_sums(&[0..third, third + 1..values.max(third + 1)], &mut together);
        for code in (0..values).filter(|code| *code != third) {
            keys.add_value_sums(slice::from_ref(&(code..code + 1)), &mut one_by_one);
        }
        assert_eq!((with_sums, together), (keys.has_value_sums(), one_by_one));
    }

    fn assert_range_of_codes(keys: &Keys<'_>, all: &[&str], lo: &str) {
        for hi in [lo, "", "m", "\u{10FFFF}"] {
            let expected: Vec<&str> =
                all.iter().filter(|value| lo <= **value && **value <= hi).copied().collect();
            let got: Vec<&str> = keys
                .dictionary()
                .codes_in(lo.as_bytes(), hi.as_bytes())
                .map(|code| keys.value(code))
                .collect();
            assert_eq!(got, expected, "{lo:?}..={hi:?}");
        }
    }

    fn assert_postings(keys: &Keys<'_>, code: u32, expected: &[u32], rows: usize) {
        let with_postings = keys.values() as usize <= rows / ROWS_PER_VALUE_WITH_POSTINGS;
        assert_eq!(keys.postings(code).is_some(), with_postings);
        let Some(postings) = keys.postings(code) else {
            return;
        };
        assert_eq!((postings.len() as usize, keys.count(code)), (expected.len(), Some(postings.len())));
        assert_eq!(postings.is_bitmap(), expected.len() >= rows.div_ceil(256) * 8);
        let is_short = !postings.is_bitmap() && expected.len() > 2 * (rows.div_ceil(65_536) - 1);
        assert_eq!(matches!(postings, Postings::Short(_)), is_short);
        let end = u32::try_from(rows).unwrap();
        let third = end / 3;
        for range in
            [0..end, 0..u32::MAX, third..2 * third, third..third, end..end, 31..32, 0..1, third + 1..end + 9]
        {
            let within: Vec<u32> = expected.iter().copied().filter(|row| range.contains(row)).collect();
            assert_eq!(postings.rows_in(range.clone()).collect::<Vec<_>>(), within, "{range:?}");
            let mut backward: Vec<u32> = postings.rows_in(range.clone()).rev().collect();
            backward.reverse();
            assert_eq!(backward, within, "{range:?} backward");
            let mut both = postings.rows_in(range);
            assert_eq!(both.next(), within.first().copied());
            assert_eq!(both.next_back(), within.get(1..).and_then(|rest| rest.last()).copied());
        }
        for chunk in 0..=rows.div_ceil(CHUNK_ROWS) {
            let mask = postings.mask(chunk);
            let set = (0..CHUNK_ROWS).filter(|place| mask[place / 64] >> (place % 64) & 1 == 1);
            let got: Vec<usize> = set.map(|place| chunk * CHUNK_ROWS + place).collect();
            let all = expected.iter().map(|row| *row as usize);
            assert_eq!(got, all.filter(|row| row / CHUNK_ROWS == chunk).collect::<Vec<_>>(), "chunk {chunk}");
        }
    }

    fn assert_sums(keys: &Keys<'_>, code: u32, rows: &[u32], (ts, measures): &(Vec<i64>, Vec<Vec<i64>>)) {
        let with_sums = keys.values() as usize <= ts.len() / ROWS_PER_VALUE_WITH_SUMS;
        assert_eq!(keys.has_value_sums(), with_sums);
        let before = Sums { count: 1, measures: vec![Measure { sum: 5, min: 5, max: 5 }; 3] };
        let mut expected = before.clone();
        for row in rows.iter().map(|row| *row as usize) {
            expected.count += 1;
            expected.measures[0].add(measures[0][row]);
            expected.measures[1].add(measures[1][row]);
            // A counter that the table got after this segment was written.
            expected.measures[2].add(0);
        }
        let mut sums = before.clone();
        assert_eq!(keys.add_value_sums(slice::from_ref(&(code..code + 1)), &mut sums), with_sums);
        let of_first = expected.measures[0].sum - 5;
        assert_eq!(sums, if with_sums { expected } else { before });
        let array = |array: Option<Array<'_>>| array.map(|array| array.get(code as usize).unwrap());
        assert_eq!(array(keys.sums(0)), with_sums.then_some(of_first));
        let mut all_sums = Vec::new();
        if let Some(sums) = keys.sums(0) {
            sums.for_each(|_, sum| all_sums.push(sum));
        }
        assert_eq!(all_sums.get(code as usize).copied(), with_sums.then_some(of_first));
        let extremes = (array(keys.minima(1)), array(keys.maxima(1)));
        let column = || rows.iter().map(|row| i128::from(measures[1][*row as usize]));
        assert_eq!(extremes, if with_sums { (column().min(), column().max()) } else { (None, None) });
        assert!(keys.sums(2).is_none() && keys.maxima(usize::MAX).is_none());
        let time = |row: Option<&u32>| row.map(|row| ts[*row as usize]).filter(|_| with_sums);
        assert_eq!((keys.first_ts(code), keys.last_ts(code)), (time(rows.first()), time(rows.last())));
    }

    #[test]
    fn a_status_is_read_from_its_key_either_way() {
        for status in 0..=u16::MAX {
            assert_eq!(status_of_bytes(status_text(status).as_bytes()), status);
            assert_eq!(status_of(&status_text(status)), status);
        }
        for other in ["", "200", "65536", "0020x", "-0001", "000200"] {
            assert_eq!(status_of_bytes(other.as_bytes()), 0, "{other}");
        }
    }

    #[test]
    fn postings_of_every_form_are_read_over_several_blocks() {
        // Of 140,000 rows: one value in most of them, some in a few of each block, some in one block only, and many in
        // four rows or fewer.
        let value = |row: usize| match row {
            _ if row % 1000 == 999 => "b in each".to_owned(),
            70_000..70_100 => "c in one".to_owned(),
            65_530..65_540 => "d at the edge".to_owned(),
            131_072..131_080 | 5..10 => "e not in the second".to_owned(),
            _ if row % 40 == 3 => format!("f{}", row / 140),
            _ => "a".to_owned(),
        };
        let values: Vec<String> = (0..140_000).map(value).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let bytes = section(&values, 3);
        Keys::check(&bytes, values.len(), 2).unwrap();
        let keys = Keys::new(&bytes, values.len());
        let mut rows_by_value: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (row, value) in (0_u32..).zip(&values) {
            rows_by_value.entry(value).or_default().push(row);
        }
        let forms = |wanted: fn(&Postings<'_>) -> bool| {
            (0..keys.values()).filter(|code| keys.postings(*code).is_some_and(|rows| wanted(&rows))).count()
        };
        assert_eq!(forms(|rows| matches!(rows, Postings::Bitmap { .. })), 1);
        assert_eq!(forms(|rows| matches!(rows, Postings::Short(_))), 4);
        assert!(forms(|rows| matches!(rows, Postings::Long(_))) > 900);
        for (code, rows) in (0_u32..).zip(rows_by_value.values()).take(8) {
            assert_postings(&keys, code, rows, values.len());
            let postings = keys.postings(code).unwrap();
            for range in [
                0..65_536,
                65_535..65_537,
                65_536..131_072,
                131_071..131_073,
                131_072..u32::MAX,
                69_000..70_050,
            ] {
                let within: Vec<u32> = rows.iter().copied().filter(|row| range.contains(row)).collect();
                assert_eq!(postings.rows_in(range.clone()).collect::<Vec<_>>(), within);
                let mut backward: Vec<u32> = postings.rows_in(range).rev().collect();
                backward.reverse();
                assert_eq!(backward, within);
            }
        }
        // A list that says that a row is in another block is refused, or at least read without panic.
        let postings = Layout::read(&bytes).unwrap().postings;
        let mut refused = 0;
        for at in (postings..bytes.len()).step_by(997) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x81;
            if Keys::check(&damaged, values.len(), 2).is_err() {
                refused += 1;
                continue;
            }
            let keys = Keys::new(&damaged, values.len());
            let mut all = (0..keys.values()).filter_map(|code| keys.postings(code));
            assert!(all.all(|rows| rows.rows_in(0..u32::MAX).all(|row| (row as usize) < values.len())));
        }
        assert!(refused > 0);
    }

    /// `rows` rows of `distinct` values, among them the empty string; the first third of the rows has runs.
    fn some_values(rows: usize, distinct: usize, seed: usize) -> Vec<String> {
        let text = |n: usize| if n == 0 { String::new() } else { format!("{}ä{n}", n * 7919 % 97) };
        (0..rows)
            .map(|row| {
                let n = if row < rows / 3 {
                    row / 20 + seed % 7
                } else {
                    row.wrapping_mul(seed | 1) ^ (row >> 3)
                };
                text(n % distinct.max(1))
            })
            .collect()
    }

    fn assert_some_values(rows: usize, distinct: usize, seed: usize) {
        let values = some_values(rows, distinct, seed);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        assert_equals_plain_loops(&values, seed as i64);
    }

    #[test]
    fn each_cardinality_equals_plain_loops() {
        for rows in [0, 1, 2, 63, 64, 255, 256, 257, 1000, 3000] {
            for distinct in [1, 2, 20, rows / 32, rows / 32 + 1, rows / 2, rows / 2 + 1, rows] {
                assert_some_values(rows, distinct, 12_345);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn random_columns_equal_plain_loops(
            rows in 0_usize..2000,
            distinct in 1_usize..200,
            seed in 0_usize..1_000_000,
        ) {
            assert_some_values(rows, distinct, seed);
        }
    }

    proptest! {
        /// Texts that differ by zeros at their end, after eight equal bytes, or not at all.
        #[test]
        fn dictionaries_are_searched_as_sorted_texts_are(
            texts in prop::collection::vec("(aaaaaaaa)?[a\0]{0,9}|[a-c]{0,12}", 1..60),
            asked in prop::collection::vec("(aaaaaaaa)?[a\0]{0,9}|[a-c]{0,12}", 2..20),
        ) {
            let values: Vec<&str> = texts.iter().map(String::as_str).collect();
            let sorted: Vec<&str> = values.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
            let bytes = section(&values, 3);
            let dictionary = Keys::new(&bytes, values.len()).dictionary();
            let codes = |wanted: &dyn Fn(&str) -> bool| -> Vec<u32> {
                (0..).zip(&sorted).filter(|(_, value)| wanted(value)).map(|(code, _)| code).collect()
            };
            for two in asked.windows(2).chain(texts.windows(2)) {
                let (one, other) = (two[0].as_str(), two[1].as_str());
                let place = sorted.binary_search(&one).ok().and_then(|place| u32::try_from(place).ok());
                prop_assert_eq!(dictionary.code_of(one), place);
                let within: Vec<u32> = dictionary.codes_in(one.as_bytes(), other.as_bytes()).collect();
                prop_assert_eq!(within, codes(&|value| one <= value && value <= other));
                let from: Vec<u32> = dictionary.codes_from(one).collect();
                prop_assert_eq!(from, codes(&|value| value.starts_with(one)));
            }
        }
    }

    #[test]
    fn more_values_than_sixteen_bits_count() {
        let values: Vec<String> = (0..140_000).map(|row| (row % 70_000).to_string()).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let bytes = section(&values, 1);
        Keys::check(&bytes, values.len(), 2).unwrap();
        let keys = Keys::new(&bytes, values.len());
        assert_eq!(keys.values(), 70_000);
        for row in [0, 1, 65_535, 65_536, 69_999, 70_000, 139_999] {
            let code = keys.code_of(values[row]).unwrap();
            assert_eq!((keys.code(row), keys.text(row)), (code, values[row]));
            let rows = [row % 70_000, row % 70_000 + 70_000];
            let got: Vec<usize> =
                keys.postings(code).unwrap().rows_in(0..u32::MAX).map(|row| row as usize).collect();
            assert_eq!(got, rows);
        }
    }

    #[test]
    fn statuses_order_as_numbers() {
        let mut texts: Vec<String> = [u16::MAX, 0, 99, 200, 1000].map(status_text).into();
        texts.sort();
        assert_eq!(texts, ["00000", "00099", "00200", "01000", "65535"]);
        assert_eq!(
            texts.iter().map(|text| status_of(text)).collect::<Vec<_>>(),
            [0, 99, 200, 1000, u16::MAX]
        );
        assert_eq!(status_of("65536"), 0);
        assert!((0..=u16::MAX).all(|status| status_text(status) == format!("{status:05}")));
    }

    /// Uses every method of a section that passes the check.
    fn use_if_accepted(bytes: &[u8], rows: usize) -> bool {
        if Keys::check(bytes, rows, 2).is_err() {
            return false;
        }
        let keys = Keys::new(bytes, rows);
        for code in 0..=keys.values() {
            let _ =
                (keys.value(code), keys.code_of(keys.value(code)), keys.first_ts(code), keys.last_ts(code));
            keys.add_value_sums(
                slice::from_ref(&(code..code + 1)),
                &mut Sums { count: 0, measures: vec![Measure::default(); 3] },
            );
            if let Some(postings) = keys.postings(code) {
                assert!(postings.rows_in(0..u32::MAX).all(|row| (row as usize) < rows));
                assert_eq!(postings.rows_in(0..u32::MAX).rev().count(), postings.len() as usize);
                for chunk in 0..rows.div_ceil(CHUNK_ROWS) {
                    postings.mask(chunk);
                }
            }
        }
        assert!((0..rows).all(|row| keys.code(row) < keys.values()));
        true
    }

    #[test]
    fn truncated_and_flipped_sections_are_refused_or_harmless() {
        for distinct in [3, 60, 250] {
            let values = some_values(300, distinct, 77);
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let bytes = section(&values, 5);
            assert!(use_if_accepted(&bytes, 300));
            assert!(!use_if_accepted(&bytes, 299));
            for end in 0..bytes.len() {
                assert!(!use_if_accepted(&bytes[..end], 300), "the first {end} bytes");
            }
            let mut longer = bytes.clone();
            longer.extend([0; 4]);
            assert!(!use_if_accepted(&longer, 300));
            for at in 0..bytes.len() {
                for flip in [1, 4, 0x80, 0xFF] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= flip;
                    use_if_accepted(&damaged, 300);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_true_is_named() {
        let values: Vec<&str> = (0..300).map(|row| if row % 100 == 0 { "b" } else { "a" }).collect();
        let bytes = section(&values, 5);
        let layout = Layout::read(&bytes).unwrap();
        let refusal = |at: usize, byte: u8| {
            let mut damaged = bytes.clone();
            damaged[at] = byte;
            Keys::check(&damaged, 300, 2).unwrap_err().what
        };
        assert_eq!(refusal(4, 9), "9 is no kind of value index");
        assert_eq!(refusal(8, 3), "sums of 3 measures instead of 2");
        let what = format!("the arrays of 255 values do not fit into {} bytes", bytes.len());
        assert_eq!(refusal(15, 1), what.replace("255", "2"));
        assert_eq!(refusal(0, 255), "array 0 does not lie between its neighbours");
        assert_eq!(refusal(layout.text, b'c'), "value 1 is not above the one before it");
        assert_eq!(refusal(layout.text, 0x80), "value 0 is not UTF-8");
        let entry = |place: usize| HEADER_BYTES + ENTRY_BYTES * place;
        let element = |place: usize| {
            let units = bytes[entry(place) + 8..].first_chunk().unwrap();
            u32::from_le_bytes(*units) as usize * 8
        };
        assert_eq!(refusal(entry(UNITS) + 12, 9), "array 2 has an unknown width");
        assert_eq!(refusal(element(STARTS) + 2, 1), "the values do not fill their text");
        assert_eq!(refusal(entry(FIRST_TIMES) + 6, 0x70), "value 0 has its first time after its last");
        let misfit = "the sum of measure 0 of value 0 does not fit its extremes";
        assert_eq!(refusal(entry(MEASURES) + 2, 0x70), misfit);
        assert_eq!(refusal(entry(UNITS), 1), "value 0 has 297 rows at posting unit 1, not at 0");
        assert_eq!(
            refusal(layout.postings, 0),
            "the postings of value 0 are not 297 ascending rows below 300"
        );
        assert!(refusal(layout.codes, 0).starts_with("codes: a column of"));
    }
}
