//! A bloom filter of one dim's values: says for certain that a segment has no row of a value.
//!
//! ```text
//! offset     bytes
//!      0 64×blocks  blocks of 512 bits; bit n of a block is bit n mod 8 of its byte n div 8
//! ```
//!
//! Valid if and only if there is at least one block and nothing follows the last; any bits will do.
//!
//! ```text
//! hash = xxh3 of the text, 128 bits
//! block = (its lower 64 bits × blocks) >> 64
//! bits = the 7 lowest groups of 9 bits of its upper 64: all are set if the value was put in
//! ```
//!
//! All bits of a value lie in one block, so that a question touches one or two cache lines instead of seven. At 10
//! bits per value the price is 1.1 % of false positives instead of 0.8 %. Each bit has hash bits of its own: two
//! numbers and their sums (double hashing) have too few patterns within 512 bits.

use xxhash_rust::xxh3::xxh3_128;

use crate::format::bytes::Malformed;
use crate::format::describe::Spans;

/// Bits of the filter per distinct value: about 1 % of absent values are not recognised; with 8 it would be 2.5 %, and
/// 12 would save half a percent of lookups that cost microseconds.
const BITS_PER_VALUE: usize = 10;
/// Bits set per value: about ln 2 × bits per value, the best possible.
const PROBES: u32 = 7;
/// Bytes of a block: a cache line.
const BLOCK_BYTES: usize = 64;
/// Bits that number a bit of a block.
const PLACE_BITS: u32 = 9;

/// Appends the filter of `count` distinct values. More values than that make it less certain, nothing worse.
pub(crate) fn encode<'v>(distinct: impl IntoIterator<Item = &'v str>, count: usize, out: &mut Vec<u8>) {
    let blocks = (count * BITS_PER_VALUE).div_ceil(8 * BLOCK_BYTES).max(1);
    let start = out.len();
    out.resize(start + blocks * BLOCK_BYTES, 0);
    let filter = out.split_at_mut(start).1.as_chunks_mut::<BLOCK_BYTES>().0;
    for value in distinct {
        let hash = xxh3_128(value.as_bytes());
        if let Some(block) = filter.get_mut(block_of(hash, blocks)) {
            for (byte, mask) in probes(hash) {
                if let Some(byte) = block.get_mut(byte) {
                    *byte |= mask;
                }
            }
        }
    }
}

/// Scales the lower half of the hash to the blocks: uniform, whatever their number.
#[expect(clippy::cast_possible_truncation, reason = "less than the number of blocks")]
fn block_of(hash: u128, blocks: usize) -> usize {
    let lower = hash & u128::from(u64::MAX);
    ((lower * blocks as u128) >> 64) as usize
}

/// Byte and bit, within the block, of each probe.
fn probes(hash: u128) -> impl Iterator<Item = (usize, u8)> {
    let upper = (hash >> 64) as u64;
    (0..PROBES).map(move |probe| {
        let place = upper >> (PLACE_BITS * probe);
        ((place >> 3) as usize % BLOCK_BYTES, 1 << (place & 7))
    })
}

/// The filter of a section that passed [`Bloom::check`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bloom<'a> {
    blocks: &'a [[u8; BLOCK_BYTES]],
}

impl<'a> Bloom<'a> {
    /// Tests a filter, once, before its first use; O(1), for any bits are possible.
    pub(crate) fn check(bytes: &[u8]) -> Result<(), Malformed> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK_BYTES) {
            let what = format!("bloom filter has {} bytes, not a multiple of {BLOCK_BYTES}", bytes.len());
            return Err(Malformed::new(0, what));
        }
        Ok(())
    }

    /// Describes a filter, or what should be one.
    pub(super) fn describe(spans: &mut Spans<'_, '_>) -> Option<()> {
        let blocks = spans.rest().len() / BLOCK_BYTES;
        spans.array("blocks", blocks, "block of 512 bits", BLOCK_BYTES)
    }

    /// How the filter is encoded.
    pub(super) fn encoding(&self) -> String {
        format!("bloom filter: {} blocks", self.blocks.len())
    }

    /// The filter of bytes that passed [`check`](Self::check); O(1).
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { blocks: bytes.as_chunks().0 }
    }

    /// `false`: no row has `text`. `true`: one may. Without blocks, which [`check`](Self::check) refuses, always
    /// `true`.
    pub(crate) fn may_contain(&self, text: &str) -> bool {
        let hash = xxh3_128(text.as_bytes());
        let is_set =
            |block: &[u8; BLOCK_BYTES], byte, mask| block.get(byte).is_some_and(|bits| bits & mask != 0);
        let block = self.blocks.get(block_of(hash, self.blocks.len()));
        block.is_none_or(|block| probes(hash).all(|(byte, mask)| is_set(block, byte, mask)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn encoded(values: &[String]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values.iter().map(String::as_str), values.len(), &mut out);
        Bloom::check(&out).unwrap();
        out
    }

    fn names(prefix: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{prefix}{n:04}")).collect()
    }

    #[test]
    fn no_value_is_missed_and_few_absent_ones_pass() {
        for count in [100, 1000, 100_000] {
            let values = names("user_", count);
            let bytes = encoded(&values);
            assert!(bytes.len() <= count * BITS_PER_VALUE / 8 + BLOCK_BYTES);
            let bloom = Bloom::new(&bytes);
            assert!(values.iter().all(|value| bloom.may_contain(value)));
            let asked = 200_000;
            let passed = names("visitor_", asked).iter().filter(|value| bloom.may_contain(value)).count();
            let rate = passed as f64 / asked as f64;
            assert!(rate < 0.02, "{count} values: {rate}");
            // And the test can fail: a filter that is never full is no filter.
            assert!(rate > 0.000_1, "{count} values: {rate}");
        }
    }

    #[test]
    fn an_empty_filter_contains_nothing() {
        let bytes = encoded(&[]);
        assert_eq!(bytes, [0; BLOCK_BYTES]);
        assert!(!Bloom::new(&bytes).may_contain("") && !Bloom::new(&bytes).may_contain("a"));
        let with_empty = encoded(&[String::new()]);
        assert!(Bloom::new(&with_empty).may_contain("") && !Bloom::new(&with_empty).may_contain("a"));
    }

    #[test]
    fn more_values_than_said_are_still_found() {
        let values = names("v", 1000);
        let mut bytes = vec![7; 3];
        encode(values.iter().map(String::as_str), 1, &mut bytes);
        assert_eq!((bytes.len(), &bytes[..3]), (3 + BLOCK_BYTES, &[7; 3][..]));
        assert!(values.iter().all(|value| Bloom::new(&bytes[3..]).may_contain(value)));
    }

    #[test]
    fn the_bits_are_those_of_the_documented_hash() {
        // A hash written down: a filter must know what another release put in. Fails if the hash ever changes.
        let hash = 0xA96F_AF70_5AF1_6834_E6C6_32B6_1E96_4E1F_u128;
        assert_eq!(xxh3_128(b"a"), hash);
        let mut expected = [0; BLOCK_BYTES];
        for probe in 0..7 {
            let place = (hash >> (64 + 9 * probe)) as usize % 512;
            expected[place / 8] |= 1 << (place % 8);
        }
        assert_eq!(encoded(&["a".to_owned()]), expected);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert!(Bloom::check(&[]).is_err());
        assert_eq!(
            Bloom::check(&[0; 65]).unwrap_err().what,
            "bloom filter has 65 bytes, not a multiple of 64"
        );
        for length in 0..200 {
            assert_eq!(Bloom::check(&vec![0; length]).is_ok(), length > 0 && length % 64 == 0);
        }
        // Unchecked bytes are harmless and exclude nothing.
        assert!(Bloom::new(&[0; 63]).may_contain("a"));
    }

    proptest! {
        #[test]
        fn random_values_are_never_missed(values in vec(any::<String>(), 0..300)) {
            let bytes = encoded(&values);
            prop_assert!(values.iter().all(|value| Bloom::new(&bytes).may_contain(value)));
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), text in any::<String>()) {
            Bloom::new(&bytes).may_contain(&text);
        }
    }
}
