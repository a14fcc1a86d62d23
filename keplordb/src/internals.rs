//! What only the benches of this repository need, behind the feature `internals`: the kernels of each instruction set, and
//! a column of numbers, without an engine around them.
//!
//! Not part of the interface: anything here may change or go in any release.

use std::ops::Range;

use crate::format::numbers::{self, Numbers};
use crate::kernels::{CHUNK_ROWS, Kernels, Mask};

/// Rows of a chunk, which is what a kernel works on.
pub const ROWS: usize = CHUNK_ROWS;

/// The kernels of one instruction set.
#[derive(Clone, Copy)]
pub struct KernelSet(&'static Kernels);

impl std::fmt::Debug for KernelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KernelSet").field(&self.name()).finish()
    }
}

/// The chunk of a width at the start of some bytes.
fn chunk<const BYTES: usize>(bytes: &[u8]) -> &[u8; BYTES] {
    bytes.first_chunk().expect("a chunk has 256 values of its width")
}

#[expect(clippy::cast_possible_truncation, reason = "bounds are those of the width asked for")]
impl KernelSet {
    /// All that this processor can run: scalar first, the fastest last.
    pub fn all() -> Vec<Self> {
        Kernels::all_available().into_iter().map(Self).collect()
    }

    /// As `KEPLORDB_KERNELS` names it.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The rows of a chunk of values of 1, 2, 4 or 8 bytes that lie in `lo..=hi`. Panics if the bytes are too few; so in
    /// the others.
    pub fn range_mask(&self, width_bytes: usize, bytes: &[u8], lo: u64, hi: u64) -> Mask {
        match width_bytes {
            1 => (self.0.range_mask_u8)(chunk(bytes), lo as u8, hi as u8),
            2 => (self.0.range_mask_u16)(chunk(bytes), lo as u16, hi as u16),
            4 => (self.0.range_mask_u32)(chunk(bytes), lo as u32, hi as u32),
            _ => (self.0.range_mask_u64)(chunk(bytes), lo, hi),
        }
    }

    /// The rows whose values have all of `bits` set.
    pub fn bits_mask(&self, width_bytes: usize, bytes: &[u8], bits: u64) -> Mask {
        match width_bytes {
            1 => (self.0.bits_mask_u8)(chunk(bytes), bits as u8),
            2 => (self.0.bits_mask_u16)(chunk(bytes), bits as u16),
            4 => (self.0.bits_mask_u32)(chunk(bytes), bits as u32),
            _ => (self.0.bits_mask_u64)(chunk(bytes), bits),
        }
    }

    /// The sum of the rows in `mask`.
    pub fn masked_sum(&self, width_bytes: usize, bytes: &[u8], mask: &Mask) -> u128 {
        match width_bytes {
            1 => (self.0.masked_sum_u8)(chunk(bytes), mask).into(),
            2 => (self.0.masked_sum_u16)(chunk(bytes), mask).into(),
            4 => (self.0.masked_sum_u32)(chunk(bytes), mask).into(),
            _ => (self.0.masked_sum_u64)(chunk(bytes), mask),
        }
    }

    /// The smallest and the largest value of the rows in `mask`.
    pub fn masked_min_max(&self, width_bytes: usize, bytes: &[u8], mask: &Mask) -> Option<(u64, u64)> {
        match width_bytes {
            1 => (self.0.masked_min_max_u8)(chunk(bytes), mask),
            2 => (self.0.masked_min_max_u16)(chunk(bytes), mask),
            4 => (self.0.masked_min_max_u32)(chunk(bytes), mask),
            _ => (self.0.masked_min_max_u64)(chunk(bytes), mask),
        }
    }
}

/// A column of integers as a segment holds it.
#[derive(Debug)]
pub struct Column {
    section: Vec<u8>,
    rows: usize,
}

impl Column {
    /// Encodes values, with running sums.
    pub fn new(values: &[i64]) -> Self {
        let mut section = Vec::new();
        numbers::encode(values, true, &mut section);
        Self { section, rows: values.len() }
    }

    /// Bytes of the section.
    pub fn bytes(&self) -> usize {
        self.section.len()
    }

    fn numbers(&self) -> Numbers<'_> {
        Numbers::new(&self.section, self.rows, true)
    }

    /// How many rows lie in `lo..=hi`, and their sum: chunk by chunk, as a scan does it.
    pub fn scan(&self, kernels: KernelSet, lo: i64, hi: i64) -> (u64, i128) {
        let numbers = self.numbers();
        (0..numbers.chunks()).fold((0, 0), |(count, sum), chunk| {
            let mask = numbers.range_mask(kernels.0, chunk, lo, hi);
            let rows: u32 = mask.iter().map(|word| word.count_ones()).sum();
            (count + u64::from(rows), sum + numbers.masked_sum(kernels.0, chunk, &mask))
        })
    }

    /// The sum of a range of rows, by running sums.
    pub fn sum(&self, rows: Range<usize>) -> i128 {
        self.numbers().sum(rows)
    }

    /// The sum of listed rows.
    pub fn sum_rows(&self, rows: &[u32]) -> i128 {
        self.numbers().sum_rows(rows)
    }

    /// The value of a row.
    pub fn get(&self, row: usize) -> i64 {
        self.numbers().get(row)
    }
}
