//! The kernels in plain Rust: what every other version must compute, and what runs where there is no other.

use super::{Kernels, Mask, MinMax};

pub(super) static TABLE: Kernels = Kernels {
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
