//! An index of an id or label column: from a text to the few rows that have it.
//!
//! ```text
//! offset            bytes
//!      0                4  entries: u32, one per row whose text is not empty
//!      4                4  buckets: u32, about one per 16 entries; 0 in form 2
//!      8                1  form: 1 = hash, 2 = the texts of all rows ascend, and are the index themselves
//!      9                1  row bits: those of the largest row; 0 in form 2
//!     10                6  zero
//!     16               32  the smallest text, and
//!     48               32  the largest one: their first 32 bytes, zeros behind a shorter one; zeros without entries
//!     80    4×buckets+4    starts: u32, the first entry of each bucket, then the entries
//!      …      4×entries    entries: u32, fingerprint << row bits | row; rows descend within a bucket
//! ```
//!
//! Form 2 ends at 80. Valid if and only if form and row bits are those of the entries and rows, reserved bytes are zero,
//! there is a bucket if there is an entry, starts begin at 0, never descend and end with the entries, rows descend within
//! each bucket and are all below the section's, and nothing follows.
//!
//! A text's bucket is given by the upper bits of its hash, its fingerprint by the lowest ones, as many as rows leave. The
//! smallest and largest text rule most segments out where ids ascend with time; else a look-up touches two places in memory,
//! the bucket's starts and its entries. Ids that begin with the time often ascend as rows do: then a binary search among them
//! takes the place of 4 bytes per row.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::bytes::{ByteReader, ByteWriter, Malformed};
use super::describe::{Spans, shown};
use super::texts::Texts;
use crate::kernels::CHUNK_ROWS;

/// Bytes before the starts.
const HEADER_BYTES: usize = 80;
/// Bytes of the smallest and the largest text that are kept.
const BOUND_BYTES: usize = 32;
/// Mean entries of a bucket: one cache line of them. More would save an eighth of a byte per entry at most.
const BUCKET_ENTRIES: usize = 16;
/// Forms in the header.
const FORM_HASH: u8 = 1;
const FORM_ASCENDING: u8 = 2;

/// Appends the index of `values`, by row. Empty texts are not indexed. Panics above `u32::MAX` rows: our own mistake,
/// for rows of a segment are numbered by `u32`.
pub(crate) fn encode(values: &[&str], out: &mut Vec<u8>) {
    let texts = || values.iter().filter(|text| !text.is_empty());
    let entries = texts().count();
    let ascends = entries == values.len() && entries > 0 && values.is_sorted_by(|a, b| a < b);
    let buckets = if ascends { 0 } else { entries.div_ceil(BUCKET_ENTRIES) };
    let row_bits = if ascends { 0 } else { row_bits(values.len()) };
    out.put_count(entries);
    out.put_count(buckets);
    out.put_u8(if ascends { FORM_ASCENDING } else { FORM_HASH });
    out.put_u8(u8::try_from(row_bits).expect("rows of a segment are numbered by u32"));
    out.put(&[0; 6]);
    out.put(&bound(texts().min().copied().unwrap_or_default()));
    out.put(&bound(texts().max().copied().unwrap_or_default()));
    if !ascends {
        put_buckets(values, entries, buckets, row_bits, out);
    }
}

fn put_buckets(values: &[&str], entries: usize, buckets: usize, row_bits: u32, out: &mut Vec<u8>) {
    let hash = |value: &&str| (!value.is_empty()).then(|| xxh3_64(value.as_bytes()));
    let hashes: Vec<Option<u64>> = values.iter().map(hash).collect();
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

    let entries_at = out.len();
    out.resize(entries_at + 4 * entries, 0);
    let (_, section) = out.split_at_mut(entries_at);
    let slots = section.as_chunks_mut().0;
    // From the last row to the first, so that they descend within each bucket.
    for (row, hash) in hashes.iter().enumerate().rev().filter_map(|(row, hash)| Some((row, (*hash)?))) {
        let Some(next) = next.get_mut(bucket_of(hash, buckets)) else { continue };
        if let Some(slot) = slots.get_mut(*next as usize) {
            let row = u32::try_from(row).expect("rows of a segment are numbered by u32");
            *slot = entry_of(hash, row, row_bits).to_le_bytes();
        }
        *next += 1;
    }
}

/// Bits that tell so many rows apart.
fn row_bits(rows: usize) -> u32 {
    usize::BITS - rows.saturating_sub(1).leading_zeros()
}

/// The first bytes of a text, by which smaller texts are not larger.
fn bound(text: &str) -> [u8; BOUND_BYTES] {
    let mut bound = [0; BOUND_BYTES];
    bound.iter_mut().zip(text.as_bytes()).for_each(|(slot, byte)| *slot = *byte);
    bound
}

/// Scales the hash to the buckets: uniform, whatever their number.
#[expect(clippy::cast_possible_truncation, reason = "less than the number of buckets")]
fn bucket_of(hash: u64, buckets: usize) -> usize {
    ((u128::from(hash) * buckets as u128) >> 64) as usize
}

/// The entry of a row: whatever of the hash does not fit above the row is cut off.
#[expect(clippy::cast_possible_truncation, reason = "the upper bits of the hash are meant to go")]
fn entry_of(hash: u64, row: u32, row_bits: u32) -> u32 {
    (hash << row_bits) as u32 | row
}

/// A text that is looked for, with all that the index of any segment is asked by.
#[derive(Debug)]
pub(crate) struct Wanted<'t> {
    text: &'t str,
    bound: [u8; BOUND_BYTES],
    hash: u64,
}

impl<'t> Wanted<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, bound: bound(text), hash: xxh3_64(text.as_bytes()) }
    }
}

/// The smallest and the largest text of an index, cut to the bytes that are kept of them.
pub(crate) type Bounds = [[u8; BOUND_BYTES]; 2];

impl Wanted<'_> {
    /// Whether it can be among texts with these bounds.
    #[inline]
    pub(crate) fn is_within(&self, [smallest, largest]: &Bounds) -> bool {
        *smallest <= self.bound && self.bound <= *largest
    }
}

/// A text index, read in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextIndex<'a> {
    entries: usize,
    row_bits: u32,
    bounds: &'a Bounds,
    /// `None` where the texts are the index.
    buckets: Option<Buckets<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Buckets<'a> {
    /// One more than buckets.
    starts: &'a [[u8; 4]],
    entries: &'a [[u8; 4]],
}

impl<'a> TextIndex<'a> {
    /// Tests the index of a segment of `rows` rows, once, before its first use; O(bytes).
    pub(crate) fn check(bytes: &[u8], rows: usize) -> Result<(), Malformed> {
        let index = TextIndex::split(bytes)?;
        let Some(buckets) = index.buckets else {
            let is_whole = index.entries == rows && rows > 0 && index.row_bits == 0;
            let what = format!("{} ascending texts in {rows} rows", index.entries);
            return if is_whole { Ok(()) } else { Err(Malformed::new(0, what)) };
        };
        if index.row_bits != row_bits(rows) {
            return Err(Malformed::new(9, format!("{} row bits for {rows} rows", index.row_bits)));
        }
        let start = |place: &[u8; 4]| u32::from_le_bytes(*place) as usize;
        let begins_and_ends = buckets.starts.first().map(start) == Some(0)
            && buckets.starts.last().map(start) == Some(index.entries);
        if !begins_and_ends || !buckets.starts.is_sorted_by_key(start) {
            return Err(Malformed::new(HEADER_BYTES, "buckets of a hash index contradict its entries"));
        }
        for bucket in 0..buckets.count() {
            let found = buckets.get(bucket);
            let row = |entry: &[u8; 4]| index.row(*entry);
            let below = found.first().is_none_or(|entry| (row(entry) as usize) < rows);
            if !below || !found.is_sorted_by(|a, b| row(a) > row(b)) {
                let at = HEADER_BYTES + 4 * buckets.starts.len();
                return Err(Malformed::new(at, "rows of a hash index do not descend"));
            }
        }
        Ok(())
    }

    /// The index of bytes that passed [`check`](Self::check); O(1).
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        const NONE: [u8; BOUND_BYTES] = [0; BOUND_BYTES];
        let buckets = Some(Buckets { starts: &[], entries: &[] });
        let empty = Self { entries: 0, row_bits: 0, bounds: &[NONE; 2], buckets };
        Self::split(bytes).unwrap_or(empty)
    }

    fn split(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = ByteReader::new(bytes);
        // At once: a look-up splits the index of every segment.
        let header = reader.take(HEADER_BYTES, "the header of a text index")?;
        let parts = header.split_first_chunk::<{ HEADER_BYTES - size_of::<Bounds>() }>();
        let parts = parts.and_then(|(head, bounds)| Some((head, bounds.as_chunks().0.first_chunk()?)));
        let Some((head, bounds)) = parts else {
            return Err(Malformed::new(0, "the header of a text index is too short"));
        };
        let [e0, e1, e2, e3, b0, b1, b2, b3, form, row_bits, zeros @ ..] = *head;
        let [entries, buckets] =
            [[e0, e1, e2, e3], [b0, b1, b2, b3]].map(|count| u32::from_le_bytes(count) as usize);
        if zeros != [0; 6] {
            return Err(Malformed::new(10, "reserved bytes of a text index are not zero"));
        }
        if row_bits > 32 || (form == FORM_ASCENDING && buckets > 0) {
            let what = format!("a text index has {row_bits} row bits and {buckets} buckets");
            return Err(Malformed::new(4, what));
        }
        let buckets = match form {
            FORM_HASH => {
                let starts = buckets.saturating_add(1).saturating_mul(4);
                let starts = reader.take(starts, "buckets of a hash index")?.as_chunks().0;
                let entries = reader.take(entries.saturating_mul(4), "entries of a hash index")?;
                Some(Buckets { starts, entries: entries.as_chunks().0 })
            }
            FORM_ASCENDING => None,
            other => {
                return Err(Malformed::new(8, format!("form of a text index is {other}, neither 1 nor 2")));
            }
        };
        reader.finish("a text index")?;
        Ok(Self { entries, row_bits: u32::from(row_bits), bounds, buckets })
    }

    /// Describes such a section, or what should be one.
    pub(super) fn describe(spans: &mut Spans<'_, '_>) -> Option<()> {
        let index = match TextIndex::split(spans.rest()) {
            Ok(index) => index,
            Err(malformed) => {
                spans.give_up(malformed.what);
                return None;
            }
        };
        spans.u32("entries")?;
        spans.u32("buckets")?;
        spans.tag("form", |form| match form {
            FORM_HASH => Some("hash"),
            FORM_ASCENDING => Some("ascending: the texts are the index"),
            _ => None,
        })?;
        spans.u8("row bits")?;
        spans.zeros(6)?;
        for (name, bound) in ["smallest text", "largest text"].into_iter().zip(index.bounds) {
            spans.bytes(name, BOUND_BYTES)?;
            let bytes = bound.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            spans.note(shown(bound.get(..bytes).unwrap_or_default()));
        }
        if let Some(Buckets { starts, entries }) = index.buckets {
            spans.array("first entry of each bucket", starts.len(), "u32", 4)?;
            spans.array("entries", entries.len(), "u32", 4)?;
        }
        Some(())
    }

    /// How the index is encoded.
    pub(super) fn encoding(&self) -> String {
        match self.buckets {
            Some(buckets) => {
                format!("text index: hash, {} entries in {} buckets", self.entries, buckets.count())
            }
            None => "text index: ascending, the texts are the index".to_owned(),
        }
    }

    /// Looks for a text without looking at one: what is left to do. Nothing for the empty text, which is not indexed.
    pub(crate) fn search(&self, wanted: &Wanted<'_>) -> Search<'a> {
        if wanted.text.is_empty() || !wanted.is_within(self.bounds) {
            return Search::NONE;
        }
        let Some(buckets) = self.buckets else { return Search(Left::Ascending { rows: self.entries }) };
        let hash = wanted.hash;
        let entries = buckets.get(bucket_of(hash, buckets.count()));
        let mut search = Search(Left::Entries { entries, hash, row_bits: self.row_bits });
        search.drop_others();
        search
    }

    /// The rows that have `text`, newest (largest) first, as `texts` confirms.
    pub(crate) fn rows_of<'t>(
        &self,
        text: &'t str,
        texts: Texts<'t>,
    ) -> impl Iterator<Item = Result<u32, Malformed>> + use<'t, 'a> {
        let mut search = self.search(&Wanted::new(text));
        std::iter::from_fn(move || search.next(text, &texts).transpose())
    }

    /// Whether a look-up of a row's text finds the row, if in form 2 the texts ascend.
    pub(crate) fn holds(&self, text: &str, row: u32) -> bool {
        let wanted = Wanted::new(text);
        let is_there = self.buckets.is_none_or(|buckets| {
            let entry = entry_of(wanted.hash, row, self.row_bits).to_le_bytes();
            buckets.get(bucket_of(wanted.hash, buckets.count())).contains(&entry)
        });
        wanted.is_within(self.bounds) && is_there
    }

    /// The smallest and the largest text.
    pub(crate) fn bounds(&self) -> &'a Bounds {
        self.bounds
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// Whether it rests on texts that ascend with their rows.
    pub(crate) fn is_ascending(&self) -> bool {
        self.buckets.is_none()
    }

    fn row(&self, entry: [u8; 4]) -> u32 {
        row_of(u32::from_le_bytes(entry), self.row_bits)
    }
}

/// The row of an entry.
#[expect(clippy::cast_possible_truncation, reason = "at most 32 bits are left")]
fn row_of(entry: u32, row_bits: u32) -> u32 {
    (u64::from(entry) & ((1 << row_bits) - 1)) as u32
}

impl<'a> Buckets<'a> {
    fn count(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// The entries of a bucket; none where starts are out of range.
    fn get(&self, bucket: usize) -> &'a [[u8; 4]] {
        let start = |bucket: usize| self.starts.get(bucket).map(|start| u32::from_le_bytes(*start) as usize);
        let (Some(from), Some(to)) = (start(bucket), start(bucket + 1)) else { return &[] };
        self.entries.get(from..to).unwrap_or_default()
    }
}

/// A look-up under way: which rows may still have the text.
#[derive(Debug, Clone)]
pub(crate) struct Search<'a>(Left<'a>);

#[derive(Debug, Clone)]
enum Left<'a> {
    /// Entries of the bucket that have not been looked at.
    Entries { entries: &'a [[u8; 4]], hash: u64, row_bits: u32 },
    /// One of these rows, in which texts ascend.
    Ascending { rows: usize },
}

impl Search<'_> {
    const NONE: Self = Self(Left::Ascending { rows: 0 });

    /// Whether no row is left: known without a look at a text.
    pub(crate) fn is_over(&self) -> bool {
        match self.0 {
            Left::Entries { entries, .. } => entries.is_empty(),
            Left::Ascending { rows } => rows == 0,
        }
    }

    /// Drops entries before the first one whose fingerprint fits.
    fn drop_others(&mut self) {
        if let Left::Entries { entries, hash, row_bits } = &mut self.0 {
            let fits = |entry: &[u8; 4]| {
                let entry = u32::from_le_bytes(*entry);
                entry == entry_of(*hash, row_of(entry, *row_bits), *row_bits)
            };
            let first = entries.iter().position(fits).unwrap_or(entries.len());
            *entries = entries.get(first..).unwrap_or_default();
        }
    }

    /// The next row that has `text`, newest first; `None` when there is none left.
    pub(crate) fn next(&mut self, text: &str, texts: &Texts<'_>) -> Result<Option<u32>, Malformed> {
        if let Left::Ascending { rows } = &mut self.0 {
            return find_ascending(std::mem::take(rows), text, texts);
        }
        while let Left::Entries { entries, row_bits, .. } = &mut self.0
            && let Some((entry, rest)) = entries.split_first()
        {
            let row = row_of(u32::from_le_bytes(*entry), *row_bits);
            *entries = rest;
            self.drop_others();
            if texts.equals(row as usize, text)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

/// The row of `text` among texts that ascend: a binary search among the first rows of chunks, then within one chunk, where the
/// texts need to be found only once.
fn find_ascending(rows: usize, text: &str, texts: &Texts<'_>) -> Result<Option<u32>, Malformed> {
    let first_row = |chunk: usize| chunk * CHUNK_ROWS;
    let chunks = 0..rows.div_ceil(CHUNK_ROWS);
    let after = partition_point(chunks, |chunk| Ok(texts.compare(first_row(chunk), text)?.is_le()))?;
    let Some(chunk) = after.checked_sub(1) else { return Ok(None) };
    let neighbours = texts.neighbours(chunk);
    let within = first_row(chunk)..rows.min(first_row(chunk + 1));
    let row = partition_point(within, |row| Ok(neighbours.compare(row, text)?.is_lt()))?;
    let is_found = row < rows && texts.equals(row, text)?;
    Ok(if is_found { u32::try_from(row).ok() } else { None })
}

/// The first place of a range for which `before` no longer holds, or its end.
fn partition_point(
    places: Range<usize>,
    before: impl Fn(usize) -> Result<bool, Malformed>,
) -> Result<usize, Malformed> {
    let (mut low, mut high) = (places.start, places.end);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
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

    fn checked(bytes: &[u8], rows: usize) -> TextIndex<'_> {
        TextIndex::check(bytes, rows).unwrap();
        TextIndex::new(bytes)
    }

    /// A section of the texts that are indexed.
    fn texts_section(values: &[impl AsRef<str>]) -> Vec<u8> {
        let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        let mut out = Vec::new();
        crate::format::texts::encode(&values, false, &mut out);
        out
    }

    /// Rows that a look-up compares before any text is read, by the fingerprints alone.
    fn candidates(index: &TextIndex<'_>, text: &str) -> usize {
        let mut search = index.search(&Wanted::new(text));
        let mut found = 0;
        while let Left::Entries { entries, .. } = &mut search.0
            && let [_, rest @ ..] = *entries
        {
            *entries = rest;
            found += 1;
            search.drop_others();
        }
        found
    }

    /// Every text is found in all its rows, newest first.
    fn assert_finds(values: &[impl AsRef<str>]) {
        let (bytes, section) = (encoded(values), texts_section(values));
        let (index, texts) = (checked(&bytes, values.len()), Texts::new(&section, values.len()));
        let mut rows_of: HashMap<&str, Vec<u32>> = HashMap::new();
        for (row, value) in values.iter().enumerate().rev() {
            rows_of.entry(value.as_ref()).or_default().push(row as u32);
            assert!(value.as_ref().is_empty() || index.holds(value.as_ref(), row as u32));
        }
        rows_of.insert("", Vec::new());
        for absent in ["a text that no test has", "\u{1}", "\u{10FFFF}"] {
            rows_of.entry(absent).or_default();
        }
        for (text, rows) in rows_of {
            let found: Result<Vec<u32>, _> = index.rows_of(text, texts).collect();
            assert_eq!(found.unwrap(), rows, "{text:?}");
            assert!(!index.search(&Wanted::new(text)).is_over() || rows.is_empty());
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
        assert_eq!(bytes.len(), HEADER_BYTES + 4);
        assert_eq!(checked(&bytes, 2).entries(), 0);
    }

    #[test]
    fn texts_that_ascend_with_their_rows_are_their_own_index() {
        for rows in [1, 2, 3, 255, 256, 257, 1000] {
            let values: Vec<String> = (0..rows).map(|row| format!("01HF{row:07}X{}", row % 7)).collect();
            assert_finds(&values);
            assert_eq!(encoded(&values).len(), HEADER_BYTES);
        }
        // In compressed blocks too, which are not cut where chunks are.
        let long: Vec<String> = (0..600).map(|row| format!("{row:04}{}", "text ".repeat(row % 60))).collect();
        let (bytes, mut section) = (encoded(&long), Vec::new());
        let texts: Vec<&str> = long.iter().map(String::as_str).collect();
        crate::format::texts::encode(&texts, true, &mut section);
        let (index, texts) = (checked(&bytes, 600), Texts::new(&section, 600));
        for (row, text) in (0..).zip(&long) {
            assert_eq!(index.rows_of(text, texts).collect::<Result<Vec<_>, _>>().unwrap(), [row]);
            assert!(index.rows_of(&format!("{text}!"), texts).next().is_none());
        }
        // Neither with one twice, nor with an empty one, nor out of order.
        for values in [["a", "b", "b"], ["", "a", "b"], ["a", "c", "b"]] {
            assert_finds(&values);
            assert!(encoded(&values).len() > HEADER_BYTES);
        }
        let bytes = encoded(&["a", "b"]);
        assert_eq!(TextIndex::check(&bytes, 3).unwrap_err().what, "2 ascending texts in 3 rows");
    }

    #[test]
    fn a_text_outside_the_smallest_and_largest_needs_no_look_at_the_entries() {
        // Longer than what is kept of them, and equal so far.
        let long = |end: &str| format!("{}{end}", "x".repeat(BOUND_BYTES));
        let values = [long("m"), long("c"), "b".to_owned(), long("m")];
        assert_finds(&values);
        let bytes = encoded(&values);
        let index = checked(&bytes, 4);
        assert!(["a", "xy", "azz"].iter().all(|text| index.search(&Wanted::new(text)).is_over()));
        assert_eq!((candidates(&index, "b"), candidates(&index, &long("m"))), (1, 2));
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
            (0..100_000).map(|n| candidates(&index, &format!("id-5absent-{n}"))).sum();
        // 16 entries of a bucket, each with a chance of 1 in 2^15: 49 of 100,000.
        assert!((15..120).contains(&false_candidates), "{false_candidates}");
        assert!(values.iter().map(|id| candidates(&index, id)).max() < Some(4));
    }

    #[test]
    fn the_bytes_are_those_of_the_documented_hash() {
        // A hash written down: an index must find what another release put in. Fails if the hash ever changes.
        assert_eq!(xxh3_64(b"a"), 0xE6C6_32B6_1E96_4E1F);
        let bytes = encoded(&["a", "a"]);
        let head = [2, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, b'a', 0];
        assert_eq!(bytes[..head.len()], head);
        let entry = |row: u32| (0x1E96_4E1F_u32 << 1 | row).to_le_bytes();
        let expected = [[0; 4], [2, 0, 0, 0], entry(1), entry(0)].concat();
        assert_eq!(bytes[HEADER_BYTES..], expected);
    }

    #[test]
    fn damage_is_named() {
        let bytes = encoded(&ids(100));
        let more_bits = encoded(&ids(100).iter().cycle().take(130).collect::<Vec<_>>());
        assert_eq!(TextIndex::check(&more_bits, 100).unwrap_err().what, "8 row bits for 100 rows");
        let damaged = |place: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[place] = byte;
            TextIndex::check(&bytes, 100).unwrap_err().what
        };
        assert_eq!(TextIndex::check(&bytes, 98).unwrap_err().what, "rows of a hash index do not descend");
        assert_eq!(damaged(HEADER_BYTES, 1), "buckets of a hash index contradict its entries");
        assert!(damaged(0, 101).contains("entries of a hash index needs 404 bytes"));
        assert!(damaged(0, 99).contains("4 bytes follow the end of a text index"));
        assert!(damaged(7, 0xFF).contains("buckets of a hash index needs"));
        assert_eq!(damaged(8, 3), "form of a text index is 3, neither 1 nor 2");
        assert_eq!(damaged(8, 2), "a text index has 7 row bits and 7 buckets");
        assert_eq!(damaged(9, 33), "a text index has 33 row bits and 7 buckets");
        assert_eq!(damaged(10, 1), "reserved bytes of a text index are not zero");
    }

    /// Looks up on bytes that may be anything; what passes the check only gives rows of the segment.
    fn look_up(bytes: &[u8], rows: usize) -> bool {
        let sound = TextIndex::check(bytes, rows).is_ok();
        let index = TextIndex::new(bytes);
        let section = texts_section(&ids(rows as u32));
        for text in ["", "a", "id-1", "id-2", "id-77"] {
            // A row that the texts do not have is an error, not a panic; in a sound index there is none.
            let found: Result<Vec<u32>, _> = index.rows_of(text, Texts::new(&section, rows)).collect();
            assert!(!sound || found.is_ok());
            index.holds(text, 3);
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
            let mut head = [0; HEADER_BYTES];
            (head[0], head[4], head[8], head[9]) = (entries, buckets, 1, 7);
            look_up(&[&head[..], &bytes].concat(), 100);
        }
    }
}
