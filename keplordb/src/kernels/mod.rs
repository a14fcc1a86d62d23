//! Kernels: loops over chunks of 256 values, over arrays of them, and over the bytes of packed texts, in as many versions as
//! there are instruction sets.
//!
//! They know numbers, masks and bytes, and nothing of files, columns or queries. A query takes the table of functions once, by
//! [`Kernels::best`], and hands it down; nothing is detected inside a loop.
//!
//! Values are unsigned and little-endian, as they lie in a file, at any alignment. A [`Mask`] has one bit per row.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

/// Rows of a chunk.
pub(crate) const CHUNK_ROWS: usize = 256;

/// Some rows of a chunk: bit `r % 64` of word `r / 64` stands for row `r`.
pub(crate) type Mask = [u64; CHUNK_ROWS / 64];

/// Room for the places of some rows of a chunk, ascending; what lies behind them means nothing.
pub(crate) type Places = [u8; CHUNK_ROWS];

/// The smallest and the largest of some values; `None` of no values.
pub(crate) type MinMax = Option<(u64, u64)>;

/// One version of every kernel. All versions give the same answers; `scalar.rs` says which.
///
/// - `range_mask`: the rows whose value `v` is in `lo <= v && v <= hi`; none if `lo > hi`.
/// - `bits_mask`: the rows whose value has all of `bits` set.
/// - `masked_sum`: the exact sum of the rows in the mask. The result type holds the sum of any 256 values.
/// - `masked_min_max`: the smallest and the largest value of the rows in the mask.
/// - `sum`: the exact sum of all values of fewer than 2³² rows, chunk after chunk.
/// - `count`: how many rows the mask has.
/// - `places`: writes the places of the rows in the mask, and returns how many they are.
/// - `measure`: exact sum, smallest and largest of any number of values in memory; of none 0 and the type's bounds, the smallest
///   above the largest.
pub(crate) struct Kernels {
    /// From so many listed rows on it is quicker to gather them into a chunk for `masked_*` than to read them one by one.
    pub(crate) gathered_rows: usize,
    /// The instruction set, as `KEPLORDB_KERNELS` names it.
    pub(crate) name: &'static str,
    pub(crate) range_mask_u8: fn(&[u8; 256], lo: u8, hi: u8) -> Mask,
    pub(crate) range_mask_u16: fn(&[u8; 512], lo: u16, hi: u16) -> Mask,
    pub(crate) range_mask_u32: fn(&[u8; 1024], lo: u32, hi: u32) -> Mask,
    pub(crate) range_mask_u64: fn(&[u8; 2048], lo: u64, hi: u64) -> Mask,
    pub(crate) bits_mask_u8: fn(&[u8; 256], bits: u8) -> Mask,
    pub(crate) bits_mask_u16: fn(&[u8; 512], bits: u16) -> Mask,
    pub(crate) bits_mask_u32: fn(&[u8; 1024], bits: u32) -> Mask,
    pub(crate) bits_mask_u64: fn(&[u8; 2048], bits: u64) -> Mask,
    pub(crate) masked_sum_u8: fn(&[u8; 256], &Mask) -> u64,
    pub(crate) masked_sum_u16: fn(&[u8; 512], &Mask) -> u64,
    pub(crate) masked_sum_u32: fn(&[u8; 1024], &Mask) -> u64,
    pub(crate) masked_sum_u64: fn(&[u8; 2048], &Mask) -> u128,
    pub(crate) masked_min_max_u8: fn(&[u8; 256], &Mask) -> MinMax,
    pub(crate) masked_min_max_u16: fn(&[u8; 512], &Mask) -> MinMax,
    pub(crate) masked_min_max_u32: fn(&[u8; 1024], &Mask) -> MinMax,
    pub(crate) masked_min_max_u64: fn(&[u8; 2048], &Mask) -> MinMax,
    pub(crate) sum_u8: fn(&[[u8; 256]]) -> u64,
    pub(crate) sum_u16: fn(&[[u8; 512]]) -> u64,
    pub(crate) sum_u32: fn(&[[u8; 1024]]) -> u64,
    pub(crate) sum_u64: fn(&[[u8; 2048]]) -> u128,
    pub(crate) count: fn(&Mask) -> u32,
    pub(crate) places: fn(&Mask, &mut Places) -> usize,
    pub(crate) measure_u32: fn(&[u32]) -> (i128, u32, u32),
    pub(crate) measure_i64: fn(&[i64]) -> (i128, i64, i64),
    /// `None` where a loop over the characters is as quick.
    pub(crate) unpack: Option<Unpack>,
}

/// The most places of a packed text that are filled in at a time, and the most characters of an alphabet.
pub(crate) const UNPACKED_BYTES: usize = 64;

/// Copies a template and fills in its places whose highest bit is set, in order: with the character of the alphabet that each code says, from the
/// bit `at` of `codes` on, `bits` bits a code, low bits first. Codes past the end read as 0, bits above 6 are none, and what is
/// longer than [`UNPACKED_BYTES`] is cut there; places past the template are 0.
pub(crate) type Unpack = fn(
    template: &[u8],
    alphabet: &[u8],
    codes: &[u8],
    at: usize,
    bits: usize,
    out: &mut [u8; UNPACKED_BYTES],
);

/// Which kernels this process computes with: `scalar`, `avx2` or `avx512`. They are chosen by what the processor has, or by the
/// environment variable `KEPLORDB_KERNELS`, once per process; answers do not depend on it.
///
/// ```
/// assert!(["scalar", "avx2", "avx512"].contains(&keplordb::kernels_in_use()));
/// ```
pub fn kernels_in_use() -> &'static str {
    Kernels::best().name
}

impl Kernels {
    /// The fastest version that this processor can run, or the one that the environment variable `KEPLORDB_KERNELS`
    /// names (`scalar`, `avx2`, `avx512`), if it can run that. Looked up once per process.
    pub(crate) fn best() -> &'static Self {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| Self::choose(std::env::var("KEPLORDB_KERNELS").ok().as_deref()))
    }

    /// All versions that this processor can run: scalar first, the fastest last.
    pub(crate) fn all_available() -> Vec<&'static Self> {
        #[cfg(target_arch = "x86_64")]
        let fast = [avx2::table(), avx512::table()];
        #[cfg(not(target_arch = "x86_64"))]
        let fast: [Option<&'static Self>; 0] = [];
        std::iter::once(&scalar::TABLE).chain(fast.into_iter().flatten()).collect()
    }

    /// The version called `wanted`, or the fastest if there is none of that name here.
    fn choose(wanted: Option<&str>) -> &'static Self {
        let available = Self::all_available();
        let named = available.iter().find(|kernels| Some(kernels.name) == wanted);
        named.or(available.last()).copied().unwrap_or(&scalar::TABLE)
    }
}
