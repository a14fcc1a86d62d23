//! Arrays of integers that share one base and one width: read in place, element by element, or from end to end in a loop
//! that knows its width. Knows bytes, and not whose they are.
//!
//! ```text
//! an entry, 16 bytes, in a list of its owner's:
//!   0  base i64
//!   8  where the elements begin u32, in units of 8 bytes from the start of the owner's section
//!   12 width u8: 1 = 0, 2 = 8, 3 = 16, 4 = 32, 5 = 64, 6 = 128 bits; 3 zero bytes
//! the elements: element - base as an unsigned integer of the width, the last one followed by zeros to a multiple of 8;
//!   of 128 bits: the element itself as i128, the base is 0
//! ```

use std::fmt::Display;
use std::ops::Range;

use super::bytes::{ByteReader, ByteWriter, Malformed, align};
use super::describe::Spans;
use super::numbers::{check_gap, check_zero};

/// Bytes of an array's entry.
pub(crate) const ENTRY_BYTES: usize = 16;
/// Elements begin at multiples of this, so that 32 bits say where.
const ELEMENTS_ALIGN_BYTES: usize = 8;
/// The width of elements that 64 bits do not hold.
const WIDE: u8 = 6;

/// How wide residuals are: values less their base. The numbers are the tags on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Zero = 1,
    Bits8 = 2,
    Bits16 = 3,
    Bits32 = 4,
    Bits64 = 5,
}

impl Width {
    /// The narrowest that holds residuals up to `residual_max`.
    pub(super) fn for_residual(residual_max: u64) -> Self {
        match residual_max {
            0 => Self::Zero,
            1..=0xFF => Self::Bits8,
            0x100..=0xFFFF => Self::Bits16,
            0x1_0000..=0xFFFF_FFFF => Self::Bits32,
            _ => Self::Bits64,
        }
    }

    #[inline]
    pub(super) fn from_tag(tag: u32) -> Option<Self> {
        match tag {
            1 => Some(Self::Zero),
            2 => Some(Self::Bits8),
            3 => Some(Self::Bits16),
            4 => Some(Self::Bits32),
            5 => Some(Self::Bits64),
            _ => None,
        }
    }

    /// Bytes of a residual.
    #[inline]
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Zero => 0,
            Self::Bits8 => 1,
            Self::Bits16 => 2,
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }

    /// The type of a residual.
    pub(super) fn element(self) -> &'static str {
        match self {
            Self::Zero => "nothing",
            Self::Bits8 => "u8",
            Self::Bits16 => "u16",
            Self::Bits32 => "u32",
            Self::Bits64 => "u64",
        }
    }

    pub(super) fn residual_max(self) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Bits8 => u64::from(u8::MAX),
            Self::Bits16 => u64::from(u16::MAX),
            Self::Bits32 => u64::from(u32::MAX),
            Self::Bits64 => u64::MAX,
        }
    }

    /// Writes residuals that fit the width one after the other; slots without one stay as they are.
    #[expect(clippy::cast_possible_truncation, reason = "the width was chosen to hold every residual")]
    pub(super) fn put(self, residuals: impl Iterator<Item = u64>, slots: &mut [u8]) {
        match self {
            Self::Zero => {}
            Self::Bits8 => slots.iter_mut().zip(residuals).for_each(|(slot, r)| *slot = r as u8),
            Self::Bits16 => {
                let slots = slots.as_chunks_mut::<2>().0.iter_mut();
                slots.zip(residuals).for_each(|(slot, r)| *slot = (r as u16).to_le_bytes());
            }
            Self::Bits32 => {
                let slots = slots.as_chunks_mut::<4>().0.iter_mut();
                slots.zip(residuals).for_each(|(slot, r)| *slot = (r as u32).to_le_bytes());
            }
            Self::Bits64 => {
                let slots = slots.as_chunks_mut::<8>().0.iter_mut();
                slots.zip(residuals).for_each(|(slot, r)| *slot = r.to_le_bytes());
            }
        }
    }
}

/// Residuals of one width, as they lie in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Residuals<'a> {
    /// So many zeros.
    Zero(usize),
    Bits8(&'a [u8]),
    Bits16(&'a [[u8; 2]]),
    Bits32(&'a [[u8; 4]]),
    Bits64(&'a [[u8; 8]]),
}

/// Runs one expression for each width: `$elements` is an iterator over the `u64` residuals at `$places`.
macro_rules! with_elements {
    ($residuals:expr, $places:expr, |$elements:ident| $run:expr) => {
        match $residuals {
            Residuals::Zero(_) => {
                let $elements = std::iter::repeat_n(0_u64, $places.len());
                $run
            }
            Residuals::Bits8(data) => {
                let $elements = data.get($places).unwrap_or_default().iter().map(|r| u64::from(*r));
                $run
            }
            Residuals::Bits16(data) => {
                let data = data.get($places).unwrap_or_default().iter();
                let $elements = data.map(|r| u64::from(u16::from_le_bytes(*r)));
                $run
            }
            Residuals::Bits32(data) => {
                let data = data.get($places).unwrap_or_default().iter();
                let $elements = data.map(|r| u64::from(u32::from_le_bytes(*r)));
                $run
            }
            Residuals::Bits64(data) => {
                let $elements = data.get($places).unwrap_or_default().iter().map(|r| u64::from_le_bytes(*r));
                $run
            }
        }
    };
}

impl<'a> Residuals<'a> {
    /// The first `count` residuals in `bytes`; fewer where the bytes end.
    #[inline]
    pub(super) fn new(width: Width, count: usize, bytes: &'a [u8]) -> Self {
        fn first<const N: usize>(bytes: &[u8], count: usize) -> &[[u8; N]] {
            let all = bytes.as_chunks().0;
            all.get(..count).unwrap_or(all)
        }
        match width {
            Width::Zero => Self::Zero(count),
            Width::Bits8 => Self::Bits8(bytes.get(..count).unwrap_or(bytes)),
            Width::Bits16 => Self::Bits16(first(bytes, count)),
            Width::Bits32 => Self::Bits32(first(bytes, count)),
            Width::Bits64 => Self::Bits64(first(bytes, count)),
        }
    }

    /// The residual at a place; 0 past the end.
    #[inline]
    pub(crate) fn get(&self, place: usize) -> u64 {
        match self {
            Self::Zero(_) => 0,
            Self::Bits8(data) => data.get(place).map_or(0, |r| u64::from(*r)),
            Self::Bits16(data) => data.get(place).map_or(0, |r| u64::from(u16::from_le_bytes(*r))),
            Self::Bits32(data) => data.get(place).map_or(0, |r| u64::from(u32::from_le_bytes(*r))),
            Self::Bits64(data) => data.get(place).map_or(0, |r| u64::from_le_bytes(*r)),
        }
    }

    /// Folds the residuals at `places`, in a loop of their width; none if some place is past the end.
    #[inline]
    pub(crate) fn fold<B>(&self, places: Range<usize>, init: B, fold: impl FnMut(B, u64) -> B) -> B {
        with_elements!(*self, places, |elements| elements.fold(init, fold))
    }

    /// Appends what `map` makes of the residuals at `places`; of none if some place is past the end.
    #[inline]
    pub(super) fn map_range<T: Clone>(
        &self,
        places: Range<usize>,
        map: impl Fn(u64) -> T,
        target: &mut Vec<T>,
    ) {
        with_elements!(*self, places, |elements| target.extend(elements.map(map)));
    }

    /// Appends what `map` makes of the residual at each of some places, in their order; of 0 past the end.
    #[inline]
    pub(super) fn map_at<T: Clone>(&self, places: &[u32], map: impl Fn(u64) -> T, target: &mut Vec<T>) {
        let at = places.iter().map(|place| *place as usize);
        match self {
            Self::Zero(_) => target.extend(at.map(|_| map(0))),
            Self::Bits8(data) => target.extend(at.map(|at| map(data.get(at).map_or(0, |r| u64::from(*r))))),
            Self::Bits16(data) => {
                let get = |at| data.get(at).map_or(0, |r: &[u8; 2]| u64::from(u16::from_le_bytes(*r)));
                target.extend(at.map(|at: usize| map(get(at))));
            }
            Self::Bits32(data) => {
                let get = |at| data.get(at).map_or(0, |r: &[u8; 4]| u64::from(u32::from_le_bytes(*r)));
                target.extend(at.map(|at: usize| map(get(at))));
            }
            Self::Bits64(data) => {
                let get = |at| data.get(at).map_or(0, |r: &[u8; 8]| u64::from_le_bytes(*r));
                target.extend(at.map(|at: usize| map(get(at))));
            }
        }
    }

    /// The exact sum of the residuals at `places`.
    #[inline]
    pub(super) fn sum(&self, places: Range<usize>) -> i128 {
        match self {
            Self::Bits64(_) => self.fold(places, 0, |sum, r| sum + i128::from(r)),
            // 2³² residuals below 2³² fit 64 bits, and a segment has fewer.
            _ => i128::from(self.fold(places, 0, |sum: u64, r| sum.wrapping_add(r))),
        }
    }

    /// Calls `each` with the residual at each of some places, in their order; with 0 past the end.
    #[inline]
    pub(super) fn for_each_at(&self, places: impl Iterator<Item = usize>, mut each: impl FnMut(u64)) {
        match self {
            Self::Zero(_) => places.for_each(|_| each(0)),
            Self::Bits8(data) => places.for_each(|at| each(data.get(at).map_or(0, |r| u64::from(*r)))),
            Self::Bits16(data) => {
                places.for_each(|at| each(data.get(at).map_or(0, |r| u64::from(u16::from_le_bytes(*r)))));
            }
            Self::Bits32(data) => {
                places.for_each(|at| each(data.get(at).map_or(0, |r| u64::from(u32::from_le_bytes(*r)))));
            }
            Self::Bits64(data) => {
                places.for_each(|at| each(data.get(at).map_or(0, |r| u64::from_le_bytes(*r))));
            }
        }
    }
}

/// Entries and elements of the arrays of a section, while they are made.
#[derive(Debug, Default)]
pub(super) struct ArrayWriter {
    entries: Vec<Entry>,
    elements: Vec<u8>,
}

/// An array as its entry says it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    base: i64,
    /// In bytes, from wherever its owner counts.
    offset: usize,
    /// `None` for elements of 128 bits.
    width: Option<Width>,
}

impl Entry {
    fn elements_bytes(&self, len: usize) -> Option<usize> {
        len.checked_mul(self.width.map_or(size_of::<i128>(), Width::bytes))
    }

    fn read(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let (base, rest) = bytes.split_first_chunk()?;
        let (units, rest) = rest.split_first_chunk()?;
        let tag = *rest.first()?;
        let width = Width::from_tag(u32::from(tag));
        if width.is_none() && tag != WIDE {
            return None;
        }
        let offset = u32::from_le_bytes(*units) as usize * ELEMENTS_ALIGN_BYTES;
        Some(Self { base: i64::from_le_bytes(*base), offset, width })
    }
}

impl ArrayWriter {
    /// Adds the next array, as narrow as its values allow.
    pub(super) fn push(&mut self, values: impl Iterator<Item = i128> + Clone) {
        let ends = values.clone().fold(None, |ends: Option<(i128, i128)>, v| {
            Some(ends.map_or((v, v), |(min, max)| (min.min(v), max.max(v))))
        });
        let (min, max) = ends.unwrap_or_default();
        let offset = self.elements.len();
        let entry = if let (Ok(base), Ok(max)) = (i64::try_from(min), i64::try_from(max)) {
            let width = Width::for_residual((max as u64).wrapping_sub(base as u64));
            self.elements.resize(offset + values.clone().count() * width.bytes(), 0);
            let (_, slots) = self.elements.split_at_mut(offset);
            #[expect(clippy::cast_possible_truncation, reason = "all values fit 64 bits, as both ends do")]
            width.put(values.map(|v| (v as u64).wrapping_sub(base as u64)), slots);
            Entry { base, offset, width: Some(width) }
        } else {
            values.for_each(|value| self.elements.put_i128(value));
            Entry { base: 0, offset, width: None }
        };
        self.entries.push(entry);
        align(&mut self.elements, ELEMENTS_ALIGN_BYTES);
    }

    /// Bytes of all elements, padding included.
    pub(super) fn elements_bytes(&self) -> usize {
        self.elements.len()
    }

    /// Appends the entries, then the elements, which begin `elements_at` bytes into the section.
    pub(super) fn put(&self, elements_at: usize, out: &mut Vec<u8>) {
        for entry in &self.entries {
            out.put_i64(entry.base);
            out.put_count((elements_at + entry.offset) / ELEMENTS_ALIGN_BYTES);
            out.put_u8(entry.width.map_or(WIDE, |width| width as u8));
            out.put(&[0; 3]);
        }
        out.put(&self.elements);
    }
}

/// The list of arrays of a section.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Arrays<'a> {
    entries: &'a [[u8; ENTRY_BYTES]],
    section: &'a [u8],
}

impl<'a> Arrays<'a> {
    /// The arrays whose entries stand at `entries`, in bytes from the start of the section.
    pub(super) fn new(section: &'a [u8], entries: Range<usize>) -> Self {
        Self { entries: section.get(entries).unwrap_or_default().as_chunks().0, section }
    }

    /// Checks that every entry is possible and that the arrays, of `len` elements each as `len_of` says, follow each
    /// other from `start` to `end`. Arrays for which `may_be_wide` is false hold values of 64 bits.
    pub(super) fn check(
        &self,
        elements: Range<usize>,
        len_of: impl Fn(usize) -> usize,
        may_be_wide: impl Fn(usize) -> bool,
    ) -> Result<(), Malformed> {
        let mut at = elements.start;
        for (place, bytes) in self.entries.iter().enumerate() {
            let refuse = |what: &str| Malformed::new(elements.start, format!("array {place} {what}"));
            let entry = Entry::read(bytes).ok_or_else(|| refuse("has an unknown width"))?;
            let mut reader = ByteReader::new(bytes);
            reader.take(ENTRY_BYTES - 3, "an array's entry")?;
            check_zero(&mut reader, 3, "an array's entry")?;
            if entry.width.is_none() && (entry.base != 0 || !may_be_wide(place)) {
                return Err(refuse("has elements of 128 bits where it may not"));
            }
            let end = entry.elements_bytes(len_of(place)).and_then(|bytes| at.checked_add(bytes));
            let padded = end.and_then(|end| end.checked_next_multiple_of(ELEMENTS_ALIGN_BYTES));
            let (Some(end), Some(padded)) = (end, padded) else { return Err(refuse("is too long")) };
            if entry.offset != at || padded > elements.end {
                return Err(refuse("does not lie between its neighbours"));
            }
            check_gap(self.section, end..padded)?;
            at = padded;
        }
        if at == elements.end {
            Ok(())
        } else {
            Err(Malformed::new(at, "the arrays do not fill their place"))
        }
    }

    /// Describes the entry of an array.
    pub(super) fn describe_entry(spans: &mut Spans<'_, '_>) -> Option<()> {
        spans.i64("base")?;
        spans.u32("where the elements begin")?;
        spans.tag("width", |tag| match Width::from_tag(tag.into()) {
            Some(width) => Some(width.element()),
            None => (tag == WIDE).then_some("i128"),
        })?;
        spans.zeros(3)
    }

    /// Describes the elements of the array at a place, which is called `name`; `None` if they are not where its entry says,
    /// which is `at` bytes into the section.
    pub(super) fn describe_elements(
        &self,
        place: usize,
        len: usize,
        at: usize,
        name: impl Display,
        spans: &mut Spans<'_, '_>,
    ) -> Option<()> {
        let entry = self.entries.get(place).and_then(Entry::read).filter(|entry| entry.offset == at);
        let Some(entry) = entry else {
            spans.give_up(format!("array {place} does not begin here"));
            return None;
        };
        let (of, bytes_each) = entry.width.map_or(("i128", 16), |width| (width.element(), width.bytes()));
        spans.array(&name.to_string(), len, of, bytes_each)?;
        let end = at + len * bytes_each;
        spans.padding(end.next_multiple_of(ELEMENTS_ALIGN_BYTES) - end)
    }

    /// Bytes of the entries and elements of the arrays from a place of the list on; the last one's elements end at `end`.
    pub(super) fn bytes_from(&self, place: usize, end: usize) -> usize {
        let entries = self.entries.get(place..).unwrap_or_default();
        let start = entries.first().and_then(Entry::read).map_or(end, |entry| entry.offset);
        entries.as_flattened().len() + end.saturating_sub(start)
    }

    /// The array at a place of the list; `None` if there is none.
    #[inline]
    pub(super) fn get(&self, place: usize, len: usize) -> Option<Array<'a>> {
        let entry = Entry::read(self.entries.get(place)?)?;
        let bytes = self.section.get(entry.offset..).unwrap_or_default();
        let elements = if let Some(width) = entry.width {
            Elements::Narrow(Residuals::new(width, len, bytes))
        } else {
            let all = bytes.as_chunks().0;
            Elements::Wide(all.get(..len).unwrap_or(all))
        };
        Some(Array { base: entry.base, elements })
    }
}

/// An array of integers, read in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Array<'a> {
    base: i64,
    elements: Elements<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Elements<'a> {
    Narrow(Residuals<'a>),
    /// Of 128 bits.
    Wide(&'a [[u8; 16]]),
}

impl<'a> Array<'a> {
    /// How many elements there are.
    pub(crate) fn len(&self) -> usize {
        match self.elements {
            Elements::Narrow(Residuals::Zero(len)) => len,
            Elements::Narrow(Residuals::Bits8(data)) => data.len(),
            Elements::Narrow(Residuals::Bits16(data)) => data.len(),
            Elements::Narrow(Residuals::Bits32(data)) => data.len(),
            Elements::Narrow(Residuals::Bits64(data)) => data.len(),
            Elements::Wide(data) => data.len(),
        }
    }

    /// The exact sum of the elements at some places, none of which may be past the end.
    #[inline]
    pub(crate) fn sum(&self, places: Range<usize>) -> i128 {
        match self.elements {
            Elements::Narrow(residuals) => {
                i128::from(self.base) * places.len() as i128 + residuals.sum(places)
            }
            Elements::Wide(data) => {
                data.get(places).unwrap_or_default().iter().map(|bytes| i128::from_le_bytes(*bytes)).sum()
            }
        }
    }

    /// The smallest element at some places; the largest number of none, of places past the end, and of elements of 128 bits.
    #[inline]
    pub(crate) fn min(&self, places: Range<usize>) -> i64 {
        let Some((base, residuals)) = self.narrow() else { return i64::MAX };
        residuals.fold(places, i64::MAX, |min, r| min.min(base.wrapping_add(r as i64)))
    }

    /// The largest element at some places; the smallest number where the smallest is the largest number.
    #[inline]
    pub(crate) fn max(&self, places: Range<usize>) -> i64 {
        let Some((base, residuals)) = self.narrow() else { return i64::MIN };
        residuals.fold(places, i64::MIN, |max, r| max.max(base.wrapping_add(r as i64)))
    }

    /// The element at a place; `None` past the end.
    #[inline]
    pub(crate) fn get(&self, place: usize) -> Option<i128> {
        match self.elements {
            Elements::Narrow(_) => self.get_i64(place).map(i128::from),
            Elements::Wide(data) => data.get(place).map(|bytes| i128::from_le_bytes(*bytes)),
        }
    }

    /// The element at a place of an array whose elements fit 64 bits; `None` past the end, and of any other array.
    #[inline]
    pub(crate) fn get_i64(&self, place: usize) -> Option<i64> {
        match &self.elements {
            Elements::Narrow(residuals) if place < self.len() => {
                Some(self.base.wrapping_add(residuals.get(place) as i64))
            }
            Elements::Narrow(_) | Elements::Wide(_) => None,
        }
    }

    /// Base and residuals, of which each element is the sum in 64 bits, wrapping; `None` of elements of 128 bits.
    pub(crate) fn narrow(&self) -> Option<(i64, Residuals<'a>)> {
        match self.elements {
            Elements::Narrow(residuals) => Some((self.base, residuals)),
            Elements::Wide(_) => None,
        }
    }

    /// Calls `each` with every place and its element, in a loop of their width; `false`, and nothing is called, where
    /// the elements have 128 bits.
    #[inline]
    pub(crate) fn for_each_i64(&self, mut each: impl FnMut(usize, i64)) -> bool {
        let Elements::Narrow(residuals) = self.elements else { return false };
        let base = self.base;
        with_elements!(residuals, 0..self.len(), |elements| {
            elements.enumerate().for_each(|(place, r)| each(place, base.wrapping_add(r as i64)));
        });
        true
    }

    /// Calls `each` with every place and its element, whatever their width.
    #[inline]
    pub(crate) fn for_each(&self, mut each: impl FnMut(usize, i128)) {
        match self.elements {
            Elements::Narrow(_) => {
                self.for_each_i64(|place, value| each(place, i128::from(value)));
            }
            Elements::Wide(data) => {
                data.iter().enumerate().for_each(|(place, bytes)| each(place, i128::from_le_bytes(*bytes)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A section of arrays alone.
    fn section(columns: &[Vec<i128>]) -> Vec<u8> {
        let mut writer = ArrayWriter::default();
        for values in columns {
            writer.push(values.iter().copied());
        }
        let mut out = Vec::new();
        writer.put(columns.len() * ENTRY_BYTES, &mut out);
        out
    }

    fn assert_reads_back(columns: &[Vec<i128>]) {
        let bytes = section(columns);
        let entries = columns.len() * ENTRY_BYTES;
        let arrays = Arrays::new(&bytes, 0..entries);
        arrays.check(entries..bytes.len(), |place| columns[place].len(), |_| true).unwrap();
        assert!(arrays.get(columns.len(), 1).is_none());
        for (place, values) in columns.iter().enumerate() {
            let array = arrays.get(place, values.len()).unwrap();
            assert_eq!(array.len(), values.len());
            let got: Vec<_> = (0..values.len()).filter_map(|at| array.get(at)).collect();
            assert_eq!(&got, values);
            assert_eq!((array.get(values.len()), array.get_i64(values.len())), (None, None));
            let mut walked = Vec::new();
            array.for_each(|at, value| walked.push((at, value)));
            assert_eq!(walked, values.iter().copied().enumerate().collect::<Vec<_>>());
            for places in [0..values.len(), values.len() / 3..values.len() / 2] {
                let some = &values[places.clone()];
                let sum = some.iter().try_fold(0_i128, |sum, value| sum.checked_add(*value));
                assert!(sum.is_none_or(|sum| array.sum(places.clone()) == sum), "{values:?}");
                if array.narrow().is_some() {
                    let ends = (some.iter().min().copied(), some.iter().max().copied());
                    let ends = (ends.0.unwrap_or(i64::MAX.into()), ends.1.unwrap_or(i64::MIN.into()));
                    assert_eq!((array.min(places.clone()).into(), array.max(places).into()), ends);
                }
            }
            let narrow: Result<Vec<i64>, _> = values.iter().map(|v| i64::try_from(*v)).collect();
            let mut walked = Vec::new();
            assert_eq!(array.for_each_i64(|_, value| walked.push(value)), narrow.is_ok());
            assert_eq!(walked, narrow.unwrap_or_default());
        }
    }

    #[test]
    fn each_width_reads_back() {
        let ends = [0, 1, 255, 256, 65_535, 65_536, u32::MAX.into(), 1 << 32, i128::from(i64::MAX), 1 << 63];
        for end in ends {
            assert_reads_back(&[vec![0, end], vec![-end, 0, end], vec![end], vec![]]);
        }
        assert_reads_back(&[vec![i64::MIN.into(), i64::MAX.into()], vec![i128::MIN, i128::MAX], vec![7; 9]]);
        assert_eq!(section(&[vec![300, 301, 555]]).len(), ENTRY_BYTES + 8);
        assert_eq!(section(&[vec![300; 100]]).len(), ENTRY_BYTES);
    }

    proptest! {
        #[test]
        fn random_arrays_read_back(
            columns in proptest::collection::vec(
                (0_u32..127, proptest::collection::vec(any::<i128>(), 0..40)), 0..5),
        ) {
            let narrowed = columns.into_iter().map(|(shift, values)| values.iter().map(|v| v >> shift).collect());
            assert_reads_back(&narrowed.collect::<Vec<_>>());
        }
    }

    #[test]
    fn impossible_arrays_are_named() {
        let bytes = section(&[vec![1, 2, 3], vec![1 << 100]]);
        let refusal = |at: usize, byte: u8, may_be_wide: bool| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            let arrays = Arrays::new(&bytes, 0..32);
            arrays.check(32..bytes.len(), |place| [3, 1][place], |_| may_be_wide).unwrap_err().what
        };
        assert_eq!(refusal(12, 9, true), "array 0 has an unknown width");
        assert_eq!(refusal(13, 1, true), "reserved bytes of an array's entry are not zero");
        assert_eq!(refusal(8, 5, true), "array 0 does not lie between its neighbours");
        assert_eq!(refusal(12, 5, true), "array 1 does not lie between its neighbours");
        assert_eq!(refusal(16, 1, true), "array 1 has elements of 128 bits where it may not");
        assert_eq!(refusal(0, 1, false), "array 1 has elements of 128 bits where it may not");
        assert_eq!(refusal(35, 1, true), "a gap between two arrays is not zero");
        assert_eq!(refusal(28, 5, true), "the arrays do not fill their place");
    }
}
