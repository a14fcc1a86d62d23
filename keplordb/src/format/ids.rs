//! A hash index of an id or label column: from a text to the few rows that may hold it.
//!
//! ```text
//! offset            bytes
//!      0                4  entries: u32, one per row whose text is not empty
//!      4                4  buckets: u32, about one per 8 entries
//!      8    4×buckets+4    starts: u32, the first entry of each bucket, then the entries
//!      …      4×entries    rows: u32, descending within a bucket
//!      …        entries    fingerprints: u8
//! ```
//!
//! Valid if and only if there is a bucket if there is an entry, starts begin at 0, never descend and end with the
//! entries, rows descend within each bucket and are all below the section's, and nothing follows.
//!
//! A text's bucket is given by the upper bits of its hash, its fingerprint by the lowest 8. A lookup touches two
//! places in memory, the bucket's starts and its fingerprints, and a third one if one of these fits: one in thirty
//! lookups of an absent text. Whoever asks verifies the rows, for different texts may share a bucket and a
//! fingerprint.

use std::iter;

use xxhash_rust::xxh3::xxh3_64;

use crate::format::bytes::{ByteReader, ByteWriter, Malformed};

/// Mean entries of a bucket. More of them save half a byte per entry at most and make false candidates more frequent.
const BUCKET_ENTRIES: usize = 8;

/// Appends the index of `values`, by row. Empty texts are not indexed. Panics above `u32::MAX` rows: our own mistake,
/// for rows of a segment are numbered by `u32`.
pub(crate) fn encode(values: &[&str], out: &mut Vec<u8>) {
    let hash = |value: &&str| (!value.is_empty()).then(|| xxh3_64(value.as_bytes()));
    let hashes: Vec<Option<u64>> = values.iter().map(hash).collect();
    let entries = hashes.iter().flatten().count();
    let buckets = entries.div_ceil(BUCKET_ENTRIES);
    out.put_count(entries);
    out.put_count(buckets);

    // A counting sort: count per bucket, add up to where each begins, then put each entry where its bucket goes on.
    let mut next = vec![0u32; buckets];
    for hash in hashes.iter().flatten() {
        if let Some(count) = next.get_mut(bucket_of(*hash, buckets)) {
            *count += 1;
        }
    }
    let mut start = 0;
    for next in &mut next {
        out.put_u32(start);
        start += std::mem::replace(next, start);
    }
    out.put_u32(start);

    let rows_at = out.len();
    out.resize(rows_at + 5 * entries, 0);
    let (_, section) = out.split_at_mut(rows_at);
    let (rows, fingerprints) = section.split_at_mut(4 * entries);
    let rows = rows.as_chunks_mut().0;
    // From the last row to the first, so that they descend within each bucket.
    for (row, hash) in hashes.iter().enumerate().rev().filter_map(|(row, hash)| Some((row, (*hash)?))) {
        let Some(next) = next.get_mut(bucket_of(hash, buckets)) else { continue };
        let entry = *next as usize;
        *next += 1;
        if let (Some(slot), Some(fingerprint)) = (rows.get_mut(entry), fingerprints.get_mut(entry)) {
            *slot = u32::try_from(row).expect("rows of a segment are numbered by u32").to_le_bytes();
            *fingerprint = fingerprint_of(hash);
        }
    }
}

/// Scales the hash to the buckets: uniform, whatever their number.
#[expect(clippy::cast_possible_truncation, reason = "less than the number of buckets")]
fn bucket_of(hash: u64, buckets: usize) -> usize {
    ((u128::from(hash) * buckets as u128) >> 64) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "the lowest 8 bits are meant")]
fn fingerprint_of(hash: u64) -> u8 {
    hash as u8
}

/// The hash index of a section that passed [`HashIndex::check`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashIndex<'a> {
    /// One more than buckets.
    starts: &'a [[u8; 4]],
    rows: &'a [[u8; 4]],
    fingerprints: &'a [u8],
}

impl<'a> HashIndex<'a> {
    /// Tests the index of a segment of `rows` rows, once, before its first use; O(bytes).
    pub(crate) fn check(bytes: &[u8], rows: usize) -> Result<(), Malformed> {
        let index = HashIndex::split(bytes)?;
        let entries = index.rows.len();
        let start = |place: &[u8; 4]| u32::from_le_bytes(*place) as usize;
        let begins_and_ends =
            index.starts.first().map(start) == Some(0) && index.starts.last().map(start) == Some(entries);
        if !begins_and_ends || !index.starts.is_sorted_by_key(start) {
            return Err(Malformed::new(8, "buckets of a hash index contradict its entries"));
        }
        for bucket in 0..index.buckets() {
            let (found, _) = index.bucket(bucket);
            let below = found.first().is_none_or(|row| (u32::from_le_bytes(*row) as usize) < rows);
            if !below || !found.is_sorted_by(|a, b| u32::from_le_bytes(*a) > u32::from_le_bytes(*b)) {
                return Err(Malformed::new(
                    8 + 4 * index.starts.len(),
                    "rows of a hash index do not descend",
                ));
            }
        }
        Ok(())
    }

    /// The index of bytes that passed [`check`](Self::check); O(1).
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self::split(bytes).unwrap_or(Self { starts: &[], rows: &[], fingerprints: &[] })
    }

    fn split(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = ByteReader::new(bytes);
        let entries = reader.u32("entries of a hash index")? as usize;
        let buckets = reader.count(4, "buckets of a hash index")?;
        let starts = reader.take(4 * (buckets + 1), "buckets of a hash index")?.as_chunks().0;
        let rows = reader.take(entries.saturating_mul(4), "rows of a hash index")?.as_chunks().0;
        let fingerprints = reader.take(entries, "fingerprints of a hash index")?;
        reader.finish("a hash index")?;
        Ok(Self { starts, rows, fingerprints })
    }

    /// The rows that may hold `text`, newest (largest) first: all that do, rarely others. None for the empty text,
    /// which is not indexed.
    pub(crate) fn candidates(&self, text: &str) -> impl Iterator<Item = u32> + use<'a> {
        let hash = xxh3_64(text.as_bytes());
        let (rows, fingerprints) =
            if text.is_empty() { (&[][..], &[][..]) } else { self.bucket(bucket_of(hash, self.buckets())) };
        let fitting = move |(row, fingerprint): (&[u8; 4], &u8)| {
            (*fingerprint == fingerprint_of(hash)).then(|| u32::from_le_bytes(*row))
        };
        iter::zip(rows, fingerprints).filter_map(fitting)
    }

    /// Whether the entry of this row is where a look-up of its text finds it.
    pub(crate) fn holds(&self, text: &str, row: u32) -> bool {
        let hash = xxh3_64(text.as_bytes());
        let (rows, fingerprints) = self.bucket(bucket_of(hash, self.buckets()));
        let place = rows.binary_search_by(|at| row.cmp(&u32::from_le_bytes(*at)));
        place.is_ok_and(|place| fingerprints.get(place) == Some(&fingerprint_of(hash)))
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> usize {
        self.rows.len()
    }

    fn buckets(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Rows and fingerprints of a bucket; none where starts are out of range.
    fn bucket(&self, bucket: usize) -> (&'a [[u8; 4]], &'a [u8]) {
        let start = |bucket: usize| self.starts.get(bucket).map(|start| u32::from_le_bytes(*start) as usize);
        let (Some(from), Some(to)) = (start(bucket), start(bucket + 1)) else { return (&[], &[]) };
        (self.rows.get(from..to).unwrap_or_default(), self.fingerprints.get(from..to).unwrap_or_default())
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "rows are few")]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn encoded(values: &[impl AsRef<str>]) -> Vec<u8> {
        let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        let mut out = Vec::new();
        encode(&values, &mut out);
        out
    }

    fn checked(bytes: &[u8], rows: usize) -> HashIndex<'_> {
        HashIndex::check(bytes, rows).unwrap();
        HashIndex::new(bytes)
    }

    /// What a caller finds, who verifies the candidates.
    fn found(index: HashIndex<'_>, values: &[impl AsRef<str>], text: &str) -> Vec<u32> {
        index.candidates(text).filter(|row| values[*row as usize].as_ref() == text).collect()
    }

    /// Every text is found in all its rows, newest first.
    fn assert_finds(values: &[impl AsRef<str>]) {
        let bytes = encoded(values);
        let index = checked(&bytes, values.len());
        let mut rows_of: HashMap<&str, Vec<u32>> = HashMap::new();
        for (row, value) in values.iter().enumerate().rev() {
            rows_of.entry(value.as_ref()).or_default().push(row as u32);
        }
        rows_of.insert("", Vec::new());
        for (text, rows) in rows_of {
            assert_eq!(found(index, values, text), rows, "{text:?}");
        }
    }

    fn ids(rows: u32) -> Vec<String> {
        (0..rows).map(|row| format!("id-{row}")).collect()
    }

    #[test]
    fn every_id_is_found_and_empty_ones_are_not_indexed() {
        for rows in [0, 1, 7, 8, 9, 1000] {
            assert_finds(&ids(rows));
        }
        assert_finds(&["", "a", "", "b", "a", ""]);
        let bytes = encoded(&["", ""]);
        assert_eq!(bytes, [0; 12]);
        assert_eq!(checked(&bytes, 2).rows.len(), 0);
    }

    #[test]
    fn all_duplicates_are_listed_newest_first() {
        let mut values = ids(500);
        values.extend(ids(300));
        values.extend(vec!["same".to_owned(); 1000]);
        assert_finds(&values);
    }

    #[test]
    fn absent_ids_have_few_candidates() {
        let values = ids(100_000);
        let bytes = encoded(&values);
        let index = checked(&bytes, values.len());
        let false_candidates: usize =
            (0..100_000).map(|n| index.candidates(&format!("absent-{n}")).count()).sum();
        // 8 entries of a bucket, each with a chance of 1 in 256: 3 %.
        assert!((2500..3800).contains(&false_candidates), "{false_candidates}");
        assert!(values.iter().map(|id| index.candidates(id).count()).max() < Some(10));
    }

    #[test]
    fn the_bytes_are_those_of_the_documented_hash() {
        // A hash written down: an index must find what another release put in. Fails if the hash ever changes.
        assert_eq!(xxh3_64(b"a"), 0xE6C6_32B6_1E96_4E1F);
        let expected =
            [&[2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0][..], &[1, 0, 0, 0, 0, 0, 0, 0], &[0x1F, 0x1F]];
        assert_eq!(encoded(&["a", "a"]), expected.concat());
    }

    #[test]
    fn damage_is_named() {
        let bytes = encoded(&ids(100));
        assert!(HashIndex::check(&bytes, 99).unwrap_err().what.contains("rows of a hash index"));
        let damaged = |place: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[place] = byte;
            HashIndex::check(&bytes, 100).unwrap_err().what
        };
        assert_eq!(damaged(8, 1), "buckets of a hash index contradict its entries");
        assert!(damaged(0, 101).contains("fingerprints of a hash index needs 101 bytes"));
        assert!(damaged(0, 99).contains("5 bytes follow the end of a hash index"));
        assert!(damaged(7, 0xFF).contains("more than the bytes that follow hold"));
    }

    /// Looks up on bytes that may be anything; what passes the check only gives rows of the segment.
    fn look_up(bytes: &[u8], rows: usize) -> bool {
        let sound = HashIndex::check(bytes, rows).is_ok();
        let index = HashIndex::new(bytes);
        for text in ["", "a", "id-1", "id-2", "id-77"] {
            let candidates: Vec<u32> = index.candidates(text).collect();
            assert!(!sound || candidates.iter().all(|row| (*row as usize) < rows));
        }
        sound
    }

    #[test]
    fn no_cut_passes_the_check_and_no_flip_panics() {
        let mut bytes = encoded(&ids(100));
        for length in 0..bytes.len() {
            assert!(!look_up(&bytes[..length], 100));
        }
        for place in 0..bytes.len() {
            let intact = bytes[place];
            for damage in (0..8).map(|bit| intact ^ (1 << bit)).chain([0, 0xFF]) {
                bytes[place] = damage;
                look_up(&bytes, 100);
            }
            bytes[place] = intact;
        }
        assert!(look_up(&bytes, 100));
    }

    proptest! {
        #[test]
        fn random_texts_are_found(values in vec("[ab]{0,4}|.{0,20}", 0..300)) {
            assert_finds(&values);
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..100), entries in 0u8..8, buckets in 0u8..4) {
            look_up(&bytes, 100);
            let head = [entries, 0, 0, 0, buckets, 0, 0, 0];
            look_up(&[&head[..], &bytes].concat(), 100);
        }
    }
}
