//! The kernels with AVX-512 (F, BW and VL): 64 bytes of values at a time, and masks that are what the processor computes
//! with.
//!
//! ```text
//! range_mask:   for each vector v of the chunk: append the bits of (v - lo) <= (hi - lo), unsigned, to the mask   (1)
//! bits_mask:    for each vector v of the chunk: append the bits of v & bits == bits to the mask
//! masked_sum:   for each vector v, with its bits of the mask: total += v where the bit is set, in wider lanes     (2)
//! masked_min_max: least = min(least, v) and most = max(most, v), where the bit is set                             (3)
//! sum, count:   the loops of `scalar.rs`, compiled for these instructions
//! places:       for each word of the mask: append those of the places 0 to 63 whose bit is set                    (4)
//! unpack:       codes = bits of 8 codes into each lane of 64 bits, shifted apart into bytes; expand(alphabet[codes]) into the
//!               template's open places                                                                            (5)
//! ```
//!
//! 1. One unsigned comparison instead of two, as in `avx2.rs`; here it gives a bit per row at once.
//! 2. Rows without their bit are loaded as 0. Widening is that of `avx2.rs`: `u8` by `sad`, `u16` and `u32` as even and odd
//!    lanes apart, `u64` as lower and upper halves apart.
//! 3. Minimum and maximum exist for all widths, and leave lanes without their bit as they are.
//! 4. Bytes move to the front by VBMI2, which not every processor with AVX-512 has; without it, as `scalar.rs` does it.
//! 5. Eight codes of `bits` bits are `bits` bytes, so the lane `l` begins `l * bits` bytes after the first, at the same bit of its byte;
//!    eight bytes from there on hold all eight codes. Needs VBMI and VBMI2.
//!
//! All loads are unaligned. What is unsafe is a load, a store, and the step from the table into functions that need the
//! instruction set.

#![expect(
    unsafe_code,
    reason = "loads, stores, and calls that need AVX-512: one operation each, argued where it stands"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "intrinsics take bit patterns as signed numbers, and the low bits of a mask are what is wanted"
)]

#[allow(clippy::wildcard_imports, reason = "some thirty intrinsics, all of one prefix")]
use std::arch::x86_64::*;

use super::{Kernels, Mask, MinMax, Places, UNPACKED_BYTES, scalar};

/// The AVX-512 versions, if this processor can run them.
pub(super) fn table() -> Option<&'static Kernels> {
    let detected = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("popcnt");
    let moves_bytes = is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("avx512vbmi2");
    detected.then_some(if moves_bytes { &TABLE_OF_BYTES } else { &TABLE })
}

/// Calls a function that needs AVX-512. For the table only.
macro_rules! detected {
    ($function:ident($($argument:ident),*)) => {
        // SAFETY: the processor has AVX-512 F, BW and VL, and POPCNT: the call stands in `BASE`, which only `TABLE` and
        // `TABLE_OF_BYTES` take up; both are private and handed out by `table` alone, after detection of all four. What needs
        // VBMI or VBMI2 stands in `TABLE_OF_BYTES` itself, for which both are detected too.
        unsafe { $function($($argument),*) }
    };
}

/// Private: the only way to it is [`table`].
static TABLE: Kernels = BASE;

/// The same for processors that have VBMI and VBMI2 too: those with AVX-512 that are younger than 2019.
static TABLE_OF_BYTES: Kernels = Kernels {
    places: |mask, target| detected!(places(mask, target)),
    unpack: Some(|template, alphabet, codes, at, bits, out| {
        detected!(unpack(template, alphabet, codes, at, bits, out));
    }),
    ..BASE
};

/// What both tables have. Private, as they are.
const BASE: Kernels = Kernels {
    gathered_rows: 128,
    name: "avx512",
    range_mask_u8: |chunk, lo, hi| detected!(range_mask_u8(chunk, lo, hi)),
    range_mask_u16: |chunk, lo, hi| detected!(range_mask_u16(chunk, lo, hi)),
    range_mask_u32: |chunk, lo, hi| detected!(range_mask_u32(chunk, lo, hi)),
    range_mask_u64: |chunk, lo, hi| detected!(range_mask_u64(chunk, lo, hi)),
    bits_mask_u8: |chunk, bits| detected!(bits_mask_u8(chunk, bits)),
    bits_mask_u16: |chunk, bits| detected!(bits_mask_u16(chunk, bits)),
    bits_mask_u32: |chunk, bits| detected!(bits_mask_u32(chunk, bits)),
    bits_mask_u64: |chunk, bits| detected!(bits_mask_u64(chunk, bits)),
    masked_sum_u8: |chunk, mask| detected!(masked_sum_u8(chunk, mask)),
    masked_sum_u16: |chunk, mask| detected!(masked_sum_u16(chunk, mask)),
    masked_sum_u32: |chunk, mask| detected!(masked_sum_u32(chunk, mask)),
    masked_sum_u64: |chunk, mask| detected!(masked_sum_u64(chunk, mask)),
    masked_min_max_u8: |chunk, mask| detected!(masked_min_max_u8(chunk, mask)),
    masked_min_max_u16: |chunk, mask| detected!(masked_min_max_u16(chunk, mask)),
    masked_min_max_u32: |chunk, mask| detected!(masked_min_max_u32(chunk, mask)),
    masked_min_max_u64: |chunk, mask| detected!(masked_min_max_u64(chunk, mask)),
    sum_u8: |chunks| detected!(sum_u8(chunks)),
    sum_u16: |chunks| detected!(sum_u16(chunks)),
    sum_u32: |chunks| detected!(sum_u32(chunks)),
    sum_u64: |chunks| detected!(sum_u64(chunks)),
    count: |mask| detected!(count(mask)),
    places: scalar::places,
    measure_u32: |values| detected!(measure_u32(values)),
    measure_i64: |values| detected!(measure_i64(values)),
    unpack: None,
};

/// The masks for values of one width. Each word belongs to `$vectors` vectors, of which each gives `64 / $vectors` bits.
macro_rules! masks {
    ($value:ty, $signed:ty, $chunk_bytes:literal, $vectors:literal, $range_mask:ident, $bits_mask:ident,
     $set1:ident, $sub:ident, $le:ident, $eq:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        fn $range_mask(chunk: &[u8; $chunk_bytes], lo: $value, hi: $value) -> Mask {
            let Some(span) = hi.checked_sub(lo) else { return Mask::default() };
            let (base, span) = ($set1(lo as $signed), $set1(span as $signed));
            let mut mask = Mask::default();
            for (word, vectors) in mask.iter_mut().zip(vectors(chunk).as_chunks::<$vectors>().0) {
                for (index, vector) in vectors.iter().enumerate() {
                    let inside = $le($sub(load(vector), base), span);
                    *word |= u64::from(inside) << (64 / $vectors * index);
                }
            }
            mask
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        fn $bits_mask(chunk: &[u8; $chunk_bytes], bits: $value) -> Mask {
            let bits = $set1(bits as $signed);
            let mut mask = Mask::default();
            for (word, vectors) in mask.iter_mut().zip(vectors(chunk).as_chunks::<$vectors>().0) {
                for (index, vector) in vectors.iter().enumerate() {
                    let all_set = $eq(_mm512_and_si512(load(vector), bits), bits);
                    *word |= u64::from(all_set) << (64 / $vectors * index);
                }
            }
            mask
        }
    };
}

#[rustfmt::skip]
masks!(u8, i8, 256, 1, range_mask_u8, bits_mask_u8,
    _mm512_set1_epi8, _mm512_sub_epi8, _mm512_cmple_epu8_mask, _mm512_cmpeq_epi8_mask);
#[rustfmt::skip]
masks!(u16, i16, 512, 2, range_mask_u16, bits_mask_u16,
    _mm512_set1_epi16, _mm512_sub_epi16, _mm512_cmple_epu16_mask, _mm512_cmpeq_epi16_mask);
#[rustfmt::skip]
masks!(u32, i32, 1024, 4, range_mask_u32, bits_mask_u32,
    _mm512_set1_epi32, _mm512_sub_epi32, _mm512_cmple_epu32_mask, _mm512_cmpeq_epi32_mask);
#[rustfmt::skip]
masks!(u64, i64, 2048, 8, range_mask_u64, bits_mask_u64,
    _mm512_set1_epi64, _mm512_sub_epi64, _mm512_cmple_epu64_mask, _mm512_cmpeq_epi64_mask);

// Sums. Each word of the mask belongs to 64 rows: 1, 2, 4 or 8 vectors.

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn masked_sum_u8(chunk: &[u8; 256], mask: &Mask) -> u64 {
    let mut total = _mm512_setzero_si512();
    for (word, vector) in mask.iter().zip(vectors(chunk)) {
        let value = _mm512_maskz_mov_epi8(*word, load(vector));
        total = _mm512_add_epi64(total, _mm512_sad_epu8(value, _mm512_setzero_si512()));
    }
    _mm512_reduce_add_epi64(total) as u64
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn masked_sum_u16(chunk: &[u8; 512], mask: &Mask) -> u64 {
    // 256 × (2¹⁶ - 1) fits 32 bits, even in one lane.
    let mut total = _mm512_setzero_si512();
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<2>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let value = _mm512_maskz_mov_epi16((word >> (32 * index)) as u32, load(vector));
            let even = _mm512_and_si512(value, _mm512_set1_epi32(0xFFFF));
            let odd = _mm512_srli_epi32::<16>(value);
            total = _mm512_add_epi32(total, _mm512_add_epi32(even, odd));
        }
    }
    u64::from(_mm512_reduce_add_epi32(total) as u32)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn masked_sum_u32(chunk: &[u8; 1024], mask: &Mask) -> u64 {
    let mut total = _mm512_setzero_si512();
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<4>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let value = _mm512_maskz_mov_epi32((word >> (16 * index)) as u16, load(vector));
            let even = _mm512_and_si512(value, _mm512_set1_epi64(0xFFFF_FFFF));
            let odd = _mm512_srli_epi64::<32>(value);
            total = _mm512_add_epi64(total, _mm512_add_epi64(even, odd));
        }
    }
    _mm512_reduce_add_epi64(total) as u64
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn masked_sum_u64(chunk: &[u8; 2048], mask: &Mask) -> u128 {
    let (mut lower, mut upper) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<8>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let value = _mm512_maskz_mov_epi64((word >> (8 * index)) as u8, load(vector));
            lower = _mm512_add_epi64(lower, _mm512_and_si512(value, _mm512_set1_epi64(0xFFFF_FFFF)));
            upper = _mm512_add_epi64(upper, _mm512_srli_epi64::<32>(value));
        }
    }
    let sum = |halves| _mm512_reduce_add_epi64(halves) as u64;
    u128::from(sum(lower)) + (u128::from(sum(upper)) << 32)
}

// Sums of all values, and counts: the loops of `scalar.rs`, of which the compiler makes vectors.

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn sum_u8(chunks: &[[u8; 256]]) -> u64 {
    scalar::sum_u8(chunks)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn sum_u16(chunks: &[[u8; 512]]) -> u64 {
    scalar::sum_u16(chunks)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn sum_u32(chunks: &[[u8; 1024]]) -> u64 {
    scalar::sum_u32(chunks)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn sum_u64(chunks: &[[u8; 2048]]) -> u128 {
    scalar::sum_u64(chunks)
}

#[target_feature(enable = "popcnt")]
fn count(mask: &Mask) -> u32 {
    scalar::count(mask)
}

/// Minima and maxima for values of one width, of which each word of the mask belongs to `$vectors` vectors.
macro_rules! extremes {
    ($value:ty, $bits:ty, $chunk_bytes:literal, $vectors:literal, $masked_min_max:ident, $min:ident, $max:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        fn $masked_min_max(chunk: &[u8; $chunk_bytes], mask: &Mask) -> MinMax {
            const LANES: usize = 64 / size_of::<$value>();
            let (mut least, mut most) = (_mm512_set1_epi8(-1), _mm512_setzero_si512());
            for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<$vectors>().0) {
                for (index, vector) in vectors.iter().enumerate() {
                    let (value, bits) = (load(vector), (word >> (64 / $vectors * index)) as $bits);
                    least = $min(least, bits, least, value);
                    most = $max(most, bits, most, value);
                }
            }
            if *mask == Mask::default() {
                return None;
            }
            let least = lanes::<{ size_of::<$value>() }, LANES>(least).map(<$value>::from_le_bytes);
            let most = lanes::<{ size_of::<$value>() }, LANES>(most).map(<$value>::from_le_bytes);
            Some((u64::from(least.into_iter().min()?), u64::from(most.into_iter().max()?)))
        }
    };
}

extremes!(u8, u64, 256, 1, masked_min_max_u8, _mm512_mask_min_epu8, _mm512_mask_max_epu8);
extremes!(u16, u32, 512, 2, masked_min_max_u16, _mm512_mask_min_epu16, _mm512_mask_max_epu16);
extremes!(u32, u16, 1024, 4, masked_min_max_u32, _mm512_mask_min_epu32, _mm512_mask_max_epu32);
extremes!(u64, u8, 2048, 8, masked_min_max_u64, _mm512_mask_min_epu64, _mm512_mask_max_epu64);

// Places: all 64 places of a word, of which those whose bit is set move to the front.

/// 0 to 63.
const PLACES: Vector = {
    let mut places = [0; 64];
    let mut place = 0;
    while place < places.len() {
        places[place] = place as u8;
        place += 1;
    }
    places
};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn places(mask: &Mask, target: &mut Places) -> usize {
    let mut own = load(&PLACES);
    let mut count = 0;
    for word in mask {
        // Always there: before the words that are left, at most 64 places for each of the others were written.
        if let Some(target) = target.get_mut(count..).and_then(|target| target.first_chunk_mut()) {
            store(target, _mm512_maskz_compress_epi8(*word, own));
        }
        own = _mm512_add_epi8(own, _mm512_set1_epi8(64));
        count += word.count_ones() as usize;
    }
    count
}

// In and out of vectors.

/// The bytes of one vector.
type Vector = [u8; 64];

fn vectors(chunk: &[u8]) -> &[Vector] {
    chunk.as_chunks().0
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn load(vector: &Vector) -> __m512i {
    // SAFETY: the reference is valid for reads of its 64 bytes, and `loadu` asks for no alignment.
    unsafe { _mm512_loadu_si512(vector.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn store(target: &mut Vector, vector: __m512i) {
    // SAFETY: the reference is valid for writes of its 64 bytes, and `storeu` asks for no alignment.
    unsafe { _mm512_storeu_si512(target.as_mut_ptr().cast(), vector) };
}

/// The lanes of a vector, each as its little-endian bytes. `COUNT` lanes of `BYTES` bytes must make up 64 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn lanes<const BYTES: usize, const COUNT: usize>(vector: __m512i) -> [[u8; BYTES]; COUNT] {
    const { assert!(BYTES * COUNT == size_of::<__m512i>()) };
    let mut lanes = [[0; BYTES]; COUNT];
    // SAFETY: the array is valid for writes of its 64 bytes (asserted above), and `storeu` asks for no alignment.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), vector) };
    lanes
}

// Measures.

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn measure_u32(values: &[u32]) -> (i128, u32, u32) {
    scalar::measure_u32(values)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn measure_i64(values: &[i64]) -> (i128, i64, i64) {
    scalar::measure_i64(values)
}

// Packed texts.

/// Most bits of a code.
const MAX_CODE_BITS: usize = 6;

/// Per number of bits: of each byte of a vector, where it comes from (the byte of the code's lane), and where its code begins in the
/// lane.
static LANES: [([u8; 64], [u8; 64]); MAX_CODE_BITS + 1] = {
    let mut lanes = [([0; 64], [0; 64]); MAX_CODE_BITS + 1];
    let mut bits = 0;
    while bits <= MAX_CODE_BITS {
        let mut byte = 0;
        while byte < 64 {
            lanes[bits].0[byte] = (byte / 8 * bits + byte % 8) as u8;
            lanes[bits].1[byte] = (byte % 8 * bits) as u8;
            byte += 1;
        }
        bits += 1;
    }
    lanes
};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt")]
fn unpack(
    template: &[u8],
    alphabet: &[u8],
    codes: &[u8],
    at: usize,
    bits: usize,
    out: &mut [u8; UNPACKED_BYTES],
) {
    let template = load_some(template);
    let Some((bytes_of_lanes, starts)) = LANES.get(bits) else { return store(out, template) };
    let window = load_some(codes.get(at / 8..).unwrap_or_default());
    let lanes = _mm512_permutexvar_epi8(load(bytes_of_lanes), window);
    let starts = _mm512_add_epi8(load(starts), _mm512_set1_epi8((at % 8) as i8));
    let codes = _mm512_multishift_epi64_epi8(starts, lanes);
    let codes = _mm512_and_si512(codes, _mm512_set1_epi8((1 << bits) - 1));
    let characters = _mm512_permutexvar_epi8(codes, load_some(alphabet));
    store(out, _mm512_mask_expand_epi8(template, _mm512_movepi8_mask(template), characters));
}

/// The first bytes, up to 64; zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn load_some(bytes: &[u8]) -> __m512i {
    let mask = if bytes.len() < 64 { (1 << bytes.len()) - 1 } else { u64::MAX };
    // SAFETY: no byte is read whose bit is not set in the mask, and those are at most as many as there are.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
}
