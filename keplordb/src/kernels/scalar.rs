//! The kernels in plain Rust: what every other version must compute, and what runs where there is no other.

use super::{CHUNK_ROWS, Kernels, Mask, MinMax, Places};

pub(super) static TABLE: Kernels = Kernels {
    gathered_rows: usize::MAX,
    name: "scalar",
    range_mask_u8,
    range_mask_u16,
    range_mask_u32,
    range_mask_u64,
    bits_mask_u8,
    bits_mask_u16,
    bits_mask_u32,
    bits_mask_u64,
    masked_sum_u8,
    masked_sum_u16,
    masked_sum_u32,
    masked_sum_u64,
    masked_min_max_u8,
    masked_min_max_u16,
    masked_min_max_u32,
    masked_min_max_u64,
    sum_u8,
    sum_u16,
    sum_u32,
    sum_u64,
    count,
    places,
    measure_u32,
    measure_i64,
    unpack: None,
};

/// The four kernels for values of one type. `$sum` is wide enough for 256 of them. Each word of a mask belongs to 64
/// rows, so the loops go over words, then over their rows, without branches.
macro_rules! kernels {
    ($value:ty, $sum:ty, $chunk_bytes:literal, $range_mask:ident, $bits_mask:ident, $masked_sum:ident, $masked_min_max:ident) => {
        fn $range_mask(chunk: &[u8; $chunk_bytes], lo: $value, hi: $value) -> Mask {
            let mut mask = Mask::default();
            for (word, rows) in mask.iter_mut().zip(chunk.as_chunks().0.as_chunks::<64>().0) {
                for (bit, bytes) in rows.iter().enumerate() {
                    let value = <$value>::from_le_bytes(*bytes);
                    *word |= u64::from(lo <= value && value <= hi) << bit;
                }
            }
            mask
        }

        fn $bits_mask(chunk: &[u8; $chunk_bytes], bits: $value) -> Mask {
            let mut mask = Mask::default();
            for (word, rows) in mask.iter_mut().zip(chunk.as_chunks().0.as_chunks::<64>().0) {
                for (bit, bytes) in rows.iter().enumerate() {
                    *word |= u64::from(<$value>::from_le_bytes(*bytes) & bits == bits) << bit;
                }
            }
            mask
        }

        fn $masked_sum(chunk: &[u8; $chunk_bytes], mask: &Mask) -> $sum {
            let mut sum = 0;
            for (word, rows) in mask.iter().zip(chunk.as_chunks().0.as_chunks::<64>().0) {
                for (bit, bytes) in rows.iter().enumerate() {
                    let selected = word >> bit & 1 == 1;
                    sum += if selected { <$sum>::from(<$value>::from_le_bytes(*bytes)) } else { 0 };
                }
            }
            sum
        }

        fn $masked_min_max(chunk: &[u8; $chunk_bytes], mask: &Mask) -> MinMax {
            let (mut least, mut most) = (<$value>::MAX, <$value>::MIN);
            for (word, rows) in mask.iter().zip(chunk.as_chunks().0.as_chunks::<64>().0) {
                for (bit, bytes) in rows.iter().enumerate() {
                    let (value, selected) = (<$value>::from_le_bytes(*bytes), word >> bit & 1 == 1);
                    least = least.min(if selected { value } else { <$value>::MAX });
                    most = most.max(if selected { value } else { <$value>::MIN });
                }
            }
            (*mask != Mask::default()).then_some((u64::from(least), u64::from(most)))
        }
    };
}

kernels!(u8, u64, 256, range_mask_u8, bits_mask_u8, masked_sum_u8, masked_min_max_u8);
kernels!(u16, u64, 512, range_mask_u16, bits_mask_u16, masked_sum_u16, masked_min_max_u16);
kernels!(u32, u64, 1024, range_mask_u32, bits_mask_u32, masked_sum_u32, masked_min_max_u32);
kernels!(u64, u128, 2048, range_mask_u64, bits_mask_u64, masked_sum_u64, masked_min_max_u64);

// Sums of all values, and counts: loops that the compiler makes vectors of. The other versions are the same loops, compiled for their
// instruction sets.

/// 65,536 values below 2¹⁶ fit 32 bits: lanes half as wide as those of the sum.
const NARROW_CHUNKS: usize = 65_536 / CHUNK_ROWS;

#[inline]
pub(super) fn sum_u8(chunks: &[[u8; 256]]) -> u64 {
    let parts = chunks.chunks(NARROW_CHUNKS).map(<[_]>::as_flattened);
    parts.map(|values| u64::from(values.iter().map(|v| u32::from(*v)).sum::<u32>())).sum()
}

#[inline]
pub(super) fn sum_u16(chunks: &[[u8; 512]]) -> u64 {
    let parts = chunks.chunks(NARROW_CHUNKS).map(|chunks| chunks.as_flattened().as_chunks().0);
    parts.map(|values| u64::from(values.iter().map(|v| u32::from(u16::from_le_bytes(*v))).sum::<u32>())).sum()
}

#[inline]
pub(super) fn sum_u32(chunks: &[[u8; 1024]]) -> u64 {
    let values = chunks.as_flattened().as_chunks().0.iter();
    values.map(|v| u64::from(u32::from_le_bytes(*v))).sum()
}

#[inline]
pub(super) fn sum_u64(chunks: &[[u8; 2048]]) -> u128 {
    let values = chunks.as_flattened().as_chunks().0.iter().map(|v| u64::from_le_bytes(*v));
    // Halves apart: fewer than 2³² of them fit 64 bits.
    let add = |(lower, upper): (u64, u64), v: u64| (lower + (v & 0xFFFF_FFFF), upper + (v >> 32));
    let (lower, upper) = values.fold((0, 0), add);
    u128::from(lower) + (u128::from(upper) << 32)
}

#[inline]
pub(super) fn count(mask: &Mask) -> u32 {
    mask.iter().map(|word| word.count_ones()).sum()
}

#[expect(clippy::cast_possible_truncation, reason = "a place in a chunk is below 256")]
pub(super) fn places(mask: &Mask, places: &mut Places) -> usize {
    let mut count = 0;
    for (word, first) in mask.iter().zip((0..CHUNK_ROWS).step_by(64)) {
        let mut left = *word;
        while left != 0 {
            // Never out of bounds, which the compiler cannot know.
            if let Some(place) = places.get_mut(count) {
                *place = (first + left.trailing_zeros() as usize) as u8;
            }
            count += 1;
            left &= left - 1;
        }
    }
    count
}

// Measures.

/// Values that are added up before the sums of their halves could wrap.
const ADDED_VALUES: usize = 1 << 16;

/// In the other tables this very loop, for wider vectors: the compiler makes them out of it.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "whoever calls it has the instruction set that it is to be compiled for"
)]
pub(super) fn measure_u32(values: &[u32]) -> (i128, u32, u32) {
    values.chunks(ADDED_VALUES).fold((0, u32::MAX, 0), |(sum, min, max), some| {
        let start = (0_u64, min, max);
        let (added, min, max) =
            some.iter().fold(start, |(sum, min, max), v| (sum + u64::from(*v), min.min(*v), max.max(*v)));
        (sum + i128::from(added), min, max)
    })
}

/// As [`measure_u32`]; halves of the values are added up each by itself, so that a loop takes several at once.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "whoever calls it has the instruction set that it is to be compiled for"
)]
pub(super) fn measure_i64(values: &[i64]) -> (i128, i64, i64) {
    values.chunks(ADDED_VALUES).fold((0, i64::MAX, i64::MIN), |(sum, min, max), some| {
        let start = (0_u64, 0_i64, min, max);
        let (low, high, min, max) = some.iter().fold(start, |(low, high, min, max), v| {
            (low + (v.cast_unsigned() & 0xFFFF_FFFF), high + (v >> 32), min.min(*v), max.max(*v))
        });
        (sum + (i128::from(high) << 32) + i128::from(low), min, max)
    })
}
