//! The kernels with AVX2 (and POPCNT, which came before it): 32 bytes of values at a time.
//!
//! ```text
//! range_mask:   for each vector v of the chunk:
//!                   inside = (v - lo) <= (hi - lo), unsigned          (1)
//!                   append one bit per lane of inside to the mask     (2)
//! bits_mask:    for each vector v of the chunk: append one bit per lane of v & bits == bits to the mask   (2)
//! masked_sum:   for each vector v, with its bits of the mask:
//!                   selected = all ones in lanes whose bit is set     (3)
//!                   total += v & selected, in wider lanes             (4)
//! masked_min_max: least = min(least, selected ? v : largest)
//!                 most  = max(most,  selected ? v : 0)                (5)
//! sum, count:   the loops of `scalar.rs`, compiled for these instructions
//! places:       that of `scalar.rs`
//! ```
//!
//! 1. One unsigned comparison instead of two: subtracting `lo` turns values below it into large ones. It needs
//!    `lo <= hi`, which is checked first. AVX2 compares only signed numbers; `x <= y` unsigned is `min(x, y) == x`, and
//!    for 64 bits, which have no minimum, both sides are moved by 2⁶³ and compared as signed numbers.
//! 2. `movemask` collects the top bits of 32 bytes, so lanes wider than a byte are first packed down to bytes with
//!    saturation (all ones stays all ones). Packing works within 128-bit halves; a permutation puts the rows back in order.
//!    Lanes of 64 bits have a `movemask` of their own.
//! 3. The bits are copied into every lane, each lane keeps its own bit and compares it with that bit alone.
//! 4. `u8`: `sad` adds eight bytes into 64 bits. `u16`, `u32`: even and odd lanes are added apart, each in twice the
//!    width: 256 × (2¹⁶ - 1) fits 32 bits, 256 × (2³² - 1) fits 64. `u64`: lower and upper halves of the values are added apart
//!    in 64 bits and joined in 128 at the end.
//! 5. In 64 bits by comparison and blend, moved by 2⁶³ as in 1.
//!
//! All loads are unaligned. The intrinsics are safe inside functions that enable their instruction set; what stays unsafe
//! is a load, a store, and the step from the table, whose functions anyone may call, into such a function.

#![expect(
    unsafe_code,
    reason = "loads, stores, and calls that need AVX2: one operation each, argued where it stands"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "intrinsics take bit patterns as signed numbers, and the low bits of a mask are what is wanted"
)]

#[allow(clippy::wildcard_imports, reason = "some fifty intrinsics, all of one prefix")]
use std::arch::x86_64::*;

use super::{Kernels, Mask, MinMax, scalar};

/// The AVX2 versions, if this processor can run them.
pub(super) fn table() -> Option<&'static Kernels> {
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt")).then_some(&TABLE)
}

/// Calls a function that needs AVX2. For the table only.
macro_rules! detected {
    ($function:ident($($argument:ident),*)) => {
        // SAFETY: the processor has AVX2 and POPCNT: the call stands in `TABLE`, which is private and handed out by `table`
        // alone, after detection of both.
        unsafe { $function($($argument),*) }
    };
}

/// Private: the only way to it is [`table`].
static TABLE: Kernels = Kernels {
    gathered_rows: 128,
    name: "avx2",
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

// Range masks.

#[target_feature(enable = "avx2")]
fn range_mask_u8(chunk: &[u8; 256], lo: u8, hi: u8) -> Mask {
    let Some(span) = hi.checked_sub(lo) else { return Mask::default() };
    let (base, span) = (_mm256_set1_epi8(lo as i8), _mm256_set1_epi8(span as i8));
    let mut bits = [0; 8];
    for (bits, vector) in bits.iter_mut().zip(vectors(chunk)) {
        let distance = _mm256_sub_epi8(load(vector), base);
        let inside = _mm256_cmpeq_epi8(_mm256_min_epu8(distance, span), distance);
        *bits = _mm256_movemask_epi8(inside) as u32;
    }
    join(bits)
}

#[target_feature(enable = "avx2")]
fn range_mask_u16(chunk: &[u8; 512], lo: u16, hi: u16) -> Mask {
    #[target_feature(enable = "avx2")]
    fn inside(vector: &Vector, base: __m256i, span: __m256i) -> __m256i {
        let distance = _mm256_sub_epi16(load(vector), base);
        _mm256_cmpeq_epi16(_mm256_min_epu16(distance, span), distance)
    }
    let Some(span) = hi.checked_sub(lo) else { return Mask::default() };
    let (base, span) = (_mm256_set1_epi16(lo as i16), _mm256_set1_epi16(span as i16));
    let mut bits = [0; 8];
    for (bits, [a, b]) in bits.iter_mut().zip(vectors(chunk).as_chunks().0) {
        // Quarters of 8 rows: a0 b0 | a1 b1, to be a0 a1 b0 b1.
        let packed = _mm256_packs_epi16(inside(a, base, span), inside(b, base, span));
        let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
        *bits = _mm256_movemask_epi8(ordered) as u32;
    }
    join(bits)
}

#[target_feature(enable = "avx2")]
fn range_mask_u32(chunk: &[u8; 1024], lo: u32, hi: u32) -> Mask {
    #[target_feature(enable = "avx2")]
    fn inside(vector: &Vector, base: __m256i, span: __m256i) -> __m256i {
        let distance = _mm256_sub_epi32(load(vector), base);
        _mm256_cmpeq_epi32(_mm256_min_epu32(distance, span), distance)
    }
    let Some(span) = hi.checked_sub(lo) else { return Mask::default() };
    let (base, span) = (_mm256_set1_epi32(lo as i32), _mm256_set1_epi32(span as i32));
    // Eighths of 4 rows: a0 b0 c0 d0 | a1 b1 c1 d1, to be a0 a1 b0 b1 c0 c1 d0 d1.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let mut bits = [0; 8];
    for (bits, [a, b, c, d]) in bits.iter_mut().zip(vectors(chunk).as_chunks().0) {
        let ab = _mm256_packs_epi32(inside(a, base, span), inside(b, base, span));
        let cd = _mm256_packs_epi32(inside(c, base, span), inside(d, base, span));
        let ordered = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), order);
        *bits = _mm256_movemask_epi8(ordered) as u32;
    }
    join(bits)
}

#[target_feature(enable = "avx2")]
fn range_mask_u64(chunk: &[u8; 2048], lo: u64, hi: u64) -> Mask {
    let Some(span) = hi.checked_sub(lo) else { return Mask::default() };
    // Subtracting a base moved by 2⁶³ moves the distance by 2⁶³.
    let base = _mm256_set1_epi64x((lo ^ SIGN) as i64);
    let span = _mm256_set1_epi64x((span ^ SIGN) as i64);
    let mut mask = Mask::default();
    for (word, vectors) in mask.iter_mut().zip(vectors(chunk).as_chunks::<16>().0) {
        let mut outside = 0;
        for (index, vector) in vectors.iter().enumerate() {
            let beyond = _mm256_cmpgt_epi64(_mm256_sub_epi64(load(vector), base), span);
            outside |= (_mm256_movemask_pd(_mm256_castsi256_pd(beyond)) as u64) << (4 * index);
        }
        *word = !outside;
    }
    mask
}

// Masks of bits.

#[target_feature(enable = "avx2")]
fn bits_mask_u8(chunk: &[u8; 256], wanted: u8) -> Mask {
    let wanted = _mm256_set1_epi8(wanted as i8);
    let mut bits = [0; 8];
    for (bits, vector) in bits.iter_mut().zip(vectors(chunk)) {
        let all_set = _mm256_cmpeq_epi8(_mm256_and_si256(load(vector), wanted), wanted);
        *bits = _mm256_movemask_epi8(all_set) as u32;
    }
    join(bits)
}

#[target_feature(enable = "avx2")]
fn bits_mask_u16(chunk: &[u8; 512], wanted: u16) -> Mask {
    #[target_feature(enable = "avx2")]
    fn all_set(vector: &Vector, wanted: __m256i) -> __m256i {
        _mm256_cmpeq_epi16(_mm256_and_si256(load(vector), wanted), wanted)
    }
    let wanted = _mm256_set1_epi16(wanted as i16);
    let mut bits = [0; 8];
    for (bits, [a, b]) in bits.iter_mut().zip(vectors(chunk).as_chunks().0) {
        let packed = _mm256_packs_epi16(all_set(a, wanted), all_set(b, wanted));
        *bits = _mm256_movemask_epi8(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed)) as u32;
    }
    join(bits)
}

#[target_feature(enable = "avx2")]
fn bits_mask_u32(chunk: &[u8; 1024], wanted: u32) -> Mask {
    let wanted = _mm256_set1_epi32(wanted as i32);
    let mut mask = Mask::default();
    for (word, vectors) in mask.iter_mut().zip(vectors(chunk).as_chunks::<8>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let all_set = _mm256_cmpeq_epi32(_mm256_and_si256(load(vector), wanted), wanted);
            *word |= (_mm256_movemask_ps(_mm256_castsi256_ps(all_set)) as u64) << (8 * index);
        }
    }
    mask
}

#[target_feature(enable = "avx2")]
fn bits_mask_u64(chunk: &[u8; 2048], wanted: u64) -> Mask {
    let wanted = _mm256_set1_epi64x(wanted as i64);
    let mut mask = Mask::default();
    for (word, vectors) in mask.iter_mut().zip(vectors(chunk).as_chunks::<16>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let all_set = _mm256_cmpeq_epi64(_mm256_and_si256(load(vector), wanted), wanted);
            *word |= (_mm256_movemask_pd(_mm256_castsi256_pd(all_set)) as u64) << (4 * index);
        }
    }
    mask
}

// Sums. Each word of the mask belongs to 64 rows: 2, 4, 8 or 16 vectors.

#[target_feature(enable = "avx2")]
fn masked_sum_u8(chunk: &[u8; 256], mask: &Mask) -> u64 {
    let mut total = _mm256_setzero_si256();
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<2>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let value = _mm256_and_si256(load(vector), selected_u8((word >> (32 * index)) as u32));
            total = _mm256_add_epi64(total, _mm256_sad_epu8(value, _mm256_setzero_si256()));
        }
    }
    lanes::<8, 4>(total).map(u64::from_le_bytes).iter().sum()
}

#[target_feature(enable = "avx2")]
fn masked_sum_u16(chunk: &[u8; 512], mask: &Mask) -> u64 {
    let mut total = _mm256_setzero_si256();
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<4>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let value = _mm256_and_si256(load(vector), selected_u16((word >> (16 * index)) as u16));
            let even = _mm256_blend_epi16::<0b1010_1010>(value, _mm256_setzero_si256());
            let odd = _mm256_srli_epi32::<16>(value);
            total = _mm256_add_epi32(total, _mm256_add_epi32(even, odd));
        }
    }
    lanes::<4, 8>(total).map(|lane| u64::from(u32::from_le_bytes(lane))).iter().sum()
}

#[target_feature(enable = "avx2")]
fn masked_sum_u32(chunk: &[u8; 1024], mask: &Mask) -> u64 {
    let mut total = _mm256_setzero_si256();
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<8>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let value = _mm256_and_si256(load(vector), selected_u32((word >> (8 * index)) as u8));
            let even = _mm256_blend_epi32::<0b1010_1010>(value, _mm256_setzero_si256());
            let odd = _mm256_srli_epi64::<32>(value);
            total = _mm256_add_epi64(total, _mm256_add_epi64(even, odd));
        }
    }
    lanes::<8, 4>(total).map(u64::from_le_bytes).iter().sum()
}

#[target_feature(enable = "avx2")]
fn masked_sum_u64(chunk: &[u8; 2048], mask: &Mask) -> u128 {
    let (mut lower, mut upper) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<16>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let value = _mm256_and_si256(load(vector), selected_u64(word >> (4 * index)));
            let low = _mm256_blend_epi32::<0b1010_1010>(value, _mm256_setzero_si256());
            lower = _mm256_add_epi64(lower, low);
            upper = _mm256_add_epi64(upper, _mm256_srli_epi64::<32>(value));
        }
    }
    let sum = |halves| lanes::<8, 4>(halves).map(u64::from_le_bytes).iter().sum::<u64>();
    u128::from(sum(lower)) + (u128::from(sum(upper)) << 32)
}

// Sums of all values, and counts: the loops of `scalar.rs`, of which the compiler makes vectors.

#[target_feature(enable = "avx2")]
fn sum_u8(chunks: &[[u8; 256]]) -> u64 {
    scalar::sum_u8(chunks)
}

#[target_feature(enable = "avx2")]
fn sum_u16(chunks: &[[u8; 512]]) -> u64 {
    scalar::sum_u16(chunks)
}

#[target_feature(enable = "avx2")]
fn sum_u32(chunks: &[[u8; 1024]]) -> u64 {
    scalar::sum_u32(chunks)
}

#[target_feature(enable = "avx2")]
fn sum_u64(chunks: &[[u8; 2048]]) -> u128 {
    scalar::sum_u64(chunks)
}

#[target_feature(enable = "popcnt")]
fn count(mask: &Mask) -> u32 {
    scalar::count(mask)
}

// Minima and maxima.

#[target_feature(enable = "avx2")]
fn masked_min_max_u8(chunk: &[u8; 256], mask: &Mask) -> MinMax {
    let (largest, mut most) = (_mm256_set1_epi8(-1), _mm256_setzero_si256());
    let mut least = largest;
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<2>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let (value, selected) = (load(vector), selected_u8((word >> (32 * index)) as u32));
            least = _mm256_min_epu8(least, _mm256_blendv_epi8(largest, value, selected));
            most = _mm256_max_epu8(most, _mm256_and_si256(value, selected));
        }
    }
    extremes(mask, lanes::<1, 32>(least).map(u8::from_le_bytes), lanes::<1, 32>(most).map(u8::from_le_bytes))
}

#[target_feature(enable = "avx2")]
fn masked_min_max_u16(chunk: &[u8; 512], mask: &Mask) -> MinMax {
    let (largest, mut most) = (_mm256_set1_epi8(-1), _mm256_setzero_si256());
    let mut least = largest;
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<4>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let (value, selected) = (load(vector), selected_u16((word >> (16 * index)) as u16));
            least = _mm256_min_epu16(least, _mm256_blendv_epi8(largest, value, selected));
            most = _mm256_max_epu16(most, _mm256_and_si256(value, selected));
        }
    }
    extremes(
        mask,
        lanes::<2, 16>(least).map(u16::from_le_bytes),
        lanes::<2, 16>(most).map(u16::from_le_bytes),
    )
}

#[target_feature(enable = "avx2")]
fn masked_min_max_u32(chunk: &[u8; 1024], mask: &Mask) -> MinMax {
    let (largest, mut most) = (_mm256_set1_epi8(-1), _mm256_setzero_si256());
    let mut least = largest;
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<8>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let (value, selected) = (load(vector), selected_u32((word >> (8 * index)) as u8));
            least = _mm256_min_epu32(least, _mm256_blendv_epi8(largest, value, selected));
            most = _mm256_max_epu32(most, _mm256_and_si256(value, selected));
        }
    }
    extremes(mask, lanes::<4, 8>(least).map(u32::from_le_bytes), lanes::<4, 8>(most).map(u32::from_le_bytes))
}

#[target_feature(enable = "avx2")]
fn masked_min_max_u64(chunk: &[u8; 2048], mask: &Mask) -> MinMax {
    let sign = _mm256_set1_epi64x(SIGN as i64);
    let (largest, smallest) = (_mm256_set1_epi64x(i64::MAX), _mm256_set1_epi64x(i64::MIN));
    let (mut least, mut most) = (largest, smallest);
    for (word, vectors) in mask.iter().zip(vectors(chunk).as_chunks::<16>().0) {
        for (index, vector) in vectors.iter().enumerate() {
            let moved = _mm256_xor_si256(load(vector), sign);
            let selected = selected_u64(word >> (4 * index));
            let low = _mm256_blendv_epi8(largest, moved, selected);
            let high = _mm256_blendv_epi8(smallest, moved, selected);
            least = _mm256_blendv_epi8(least, low, _mm256_cmpgt_epi64(least, low));
            most = _mm256_blendv_epi8(most, high, _mm256_cmpgt_epi64(high, most));
        }
    }
    let moved_back = |lane| u64::from_le_bytes(lane) ^ SIGN;
    extremes(mask, lanes::<8, 4>(least).map(moved_back), lanes::<8, 4>(most).map(moved_back))
}

// Lanes whose bit is set, as all ones.

#[inline]
#[target_feature(enable = "avx2")]
fn selected_u8(bits: u32) -> __m256i {
    let own_byte = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let own_bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), own_byte);
    _mm256_cmpeq_epi8(_mm256_and_si256(spread, own_bit), own_bit)
}

#[inline]
#[target_feature(enable = "avx2")]
fn selected_u16(bits: u16) -> __m256i {
    let own_bit =
        _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, i16::MIN);
    _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16(bits as i16), own_bit), own_bit)
}

#[inline]
#[target_feature(enable = "avx2")]
fn selected_u32(bits: u8) -> __m256i {
    let own_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(i32::from(bits)), own_bit), own_bit)
}

/// Of `bits`, the lowest four count.
#[inline]
#[target_feature(enable = "avx2")]
fn selected_u64(bits: u64) -> __m256i {
    let own_bit = _mm256_setr_epi64x(1, 2, 4, 8);
    _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(bits as i64), own_bit), own_bit)
}

// In and out of vectors.

/// The bytes of one vector.
type Vector = [u8; 32];

/// What moves unsigned 64-bit numbers onto signed ones in the same order.
const SIGN: u64 = 1 << 63;

fn vectors(chunk: &[u8]) -> &[Vector] {
    chunk.as_chunks().0
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(vector: &Vector) -> __m256i {
    // SAFETY: the reference is valid for reads of its 32 bytes, and `loadu` asks for no alignment.
    unsafe { _mm256_loadu_si256(vector.as_ptr().cast()) }
}

/// The lanes of a vector, each as its little-endian bytes. `COUNT` lanes of `BYTES` bytes must make up 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes<const BYTES: usize, const COUNT: usize>(vector: __m256i) -> [[u8; BYTES]; COUNT] {
    const { assert!(BYTES * COUNT == size_of::<__m256i>()) };
    let mut lanes = [[0; BYTES]; COUNT];
    // SAFETY: the array is valid for writes of its 32 bytes (asserted above), and `storeu` asks for no alignment.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
    lanes
}

/// Eight times 32 bits as four times 64.
fn join(bits: [u32; 8]) -> Mask {
    std::array::from_fn(|word| u64::from(bits[2 * word]) | u64::from(bits[2 * word + 1]) << 32)
}

/// The smallest of the `least` and the largest of the `most`, unless no row was in `mask`.
fn extremes<T: Ord + Into<u64> + Copy, const COUNT: usize>(
    mask: &Mask,
    least: [T; COUNT],
    most: [T; COUNT],
) -> MinMax {
    if *mask == Mask::default() {
        return None;
    }
    Some((least.into_iter().min()?.into(), most.into_iter().max()?.into()))
}

// Measures.

#[target_feature(enable = "avx2")]
fn measure_u32(values: &[u32]) -> (i128, u32, u32) {
    scalar::measure_u32(values)
}

#[target_feature(enable = "avx2")]
fn measure_i64(values: &[i64]) -> (i128, i64, i64) {
    scalar::measure_i64(values)
}
