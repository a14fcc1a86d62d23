//! The entries of a batch as the payload of a frame: encode them, and take them out again one by one.
//!
//! Pure: bytes in, values out. The frame's header has the number of entries and the time of the first.
//!
//! # Layout
//!
//! ```text
//! first entry            length: varint   bytes
//! every other   delta: varint   length: varint   bytes
//! delta         nanoseconds since the entry before, at least 1
//! length        of the entry's bytes, at most 256 MiB; 0 is legal
//! varint        unsigned LEB128 in its shortest form: seven bits a byte, least significant first
//! ```
//!
//! The first time is not in here, so the payload, and its checksum, can be made before it is known which time the writer's
//! turn will bring.
//!
//! A payload of `n` entries is valid if and only if it is `n` of these one after another without a rest, and no time is
//! later than [`Timestamp::MAX`]. Behind a frame's checksum a malformed one is a mistake of its writer or a forgery; it is
//! an error like damage, and costs no more time and memory than a good one.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::ops::Range;
use std::path::Path;

use crate::error::LogError;
use crate::frame::HEADER_BYTES;
use crate::timestamp::Timestamp;

/// The longest entry, in bytes: 256 MiB.
pub const MAX_ENTRY_BYTES: usize = 256 << 20;

/// The first entry's time is the frame's; this stands for its delta in [`put`].
pub(crate) const FIRST: Option<u64> = None;

/// Appends an entry to a payload. `delta` is how many nanoseconds later than the entry before it is, at least 1, or [`FIRST`].
///
/// The caller has checked the limits: an entry has at most [`MAX_ENTRY_BYTES`].
pub(crate) fn put(payload: &mut Vec<u8>, delta: Option<u64>, bytes: &[u8]) {
    debug_assert!(delta != Some(0) && bytes.len() <= MAX_ENTRY_BYTES);
    if let Some(delta) = delta {
        put_varint(payload, delta);
    }
    put_varint(payload, bytes.len() as u64);
    payload.extend_from_slice(bytes);
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits are left")]
fn put_varint(target: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        target.push(value as u8 | 0x80);
        value >>= 7;
    }
    target.push(value as u8);
}

/// A payload that is not what its frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Where in the payload the bad entry begins, in bytes.
    pub(crate) at: usize,
    /// What is wrong, as a clause without a full stop.
    pub(crate) what: &'static str,
}

impl Malformed {
    /// In the file whose frame at `frame_offset` has the payload.
    pub(crate) fn in_frame(self, file: &Path, frame_offset: u64) -> LogError {
        LogError::corrupt(file, frame_offset + (HEADER_BYTES + self.at) as u64, self.what)
    }
}

/// A place among the entries of a payload. It holds no bytes, so a reader can keep it beside its buffer; each call must
/// pass the same payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Where the next entry begins.
    at: usize,
    /// Entries that follow.
    left: u32,
    /// Time of the entry before; of the first one while that is next.
    time: Timestamp,
    is_first: bool,
}

impl Cursor {
    /// Before the first of the `entries` of a payload whose frame begins at the time `first`.
    pub(crate) fn new(first: Timestamp, entries: u32) -> Self {
        Self { at: 0, left: entries, time: first, is_first: true }
    }

    /// How many entries follow.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// The next entry's time and the place of its bytes in `payload`; `None` behind the last. After an error it stays where
    /// it is. No allocation; a few nanoseconds, whatever the entry's length.
    #[inline]
    pub(crate) fn next(&mut self, payload: &[u8]) -> Result<Option<(Timestamp, Range<usize>)>, Malformed> {
        let bad = |what| Malformed { at: self.at, what };
        if self.left == 0 {
            let is_whole = self.at == payload.len();
            return if is_whole { Ok(None) } else { Err(bad("bytes follow the last entry of a frame")) };
        }
        let mut at = self.at;
        let mut time = self.time;
        if !self.is_first {
            let delta = varint(payload, &mut at).ok_or(bad("the time of an entry is malformed"))?;
            if delta == 0 {
                return Err(bad("an entry is not later than the one before it"));
            }
            time =
                time.after_by_ns(delta).ok_or(bad("the time of an entry is beyond the last one there is"))?;
        }
        let length = varint(payload, &mut at).ok_or(bad("the length of an entry is malformed"))?;
        let end = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_ENTRY_BYTES)
            .ok_or(bad("an entry is longer than any writer's limit"))?
            .saturating_add(at);
        if end > payload.len() {
            return Err(bad("an entry reaches beyond the end of its frame"));
        }
        *self = Self { at: end, left: self.left - 1, time, is_first: false };
        Ok(Some((time, at..end)))
    }
}

/// Reads a number in its shortest form and moves `at` behind it.
#[inline]
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    long_varint(u64::from(first & 0x7f), bytes, at)
}

/// The rest of a number whose first seven bits are `value`.
fn long_varint(mut value: u64, bytes: &[u8], at: &mut usize) -> Option<u64> {
    for shift in (7..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            // A zero that adds nothing is another spelling of a shorter number.
            return (byte != 0).then_some(value);
        }
    }
    None
}

/// The entries of a payload, in their order; it ends after the first error.
#[derive(Debug, Clone)]
pub(crate) struct Entries<'a> {
    payload: &'a [u8],
    cursor: Cursor,
    is_over: bool,
}

/// The entries of a frame with this payload, number of entries, and time of the first.
pub(crate) fn entries(payload: &[u8], first: Timestamp, count: u32) -> Entries<'_> {
    Entries { payload, cursor: Cursor::new(first, count), is_over: false }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(Timestamp, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        match self.cursor.next(self.payload) {
            Ok(Some((time, range))) => Some(Ok((time, self.payload.get(range).unwrap_or_default()))),
            Ok(None) => {
                self.is_over = true;
                None
            }
            Err(malformed) => {
                self.is_over = true;
                Some(Err(malformed))
            }
        }
    }
}

impl std::iter::FusedIterator for Entries<'_> {}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Batch = Vec<(Timestamp, Vec<u8>)>;

    fn encode(batch: &Batch) -> Vec<u8> {
        let (mut payload, mut before) = (Vec::new(), None);
        for (time, bytes) in batch {
            put(&mut payload, before.map(|before| delta(before, *time)), bytes);
            before = Some(*time);
        }
        payload
    }

    fn delta(before: Timestamp, time: Timestamp) -> u64 {
        time.as_ns().abs_diff(before.as_ns())
    }

    fn decode(payload: &[u8], first: Timestamp, count: usize) -> Result<Batch, Malformed> {
        let entries = entries(payload, first, count.try_into().unwrap());
        entries.map(|entry| entry.map(|(time, bytes)| (time, bytes.to_vec()))).collect()
    }

    fn any_batch() -> impl Strategy<Value = Batch> {
        let delta = prop_oneof![1..3_u64, 1..1_u64 << 40, Just(u64::MAX)];
        let bytes =
            prop_oneof![vec(any::<u8>(), 0..4), vec(any::<u8>(), 120..140), vec(any::<u8>(), 0..20_000)];
        (any::<i64>(), vec((delta, bytes), 1..20)).prop_map(|(first, entries)| {
            let mut time = Timestamp::from_ns(first);
            let mut batch = Batch::new();
            for (delta, bytes) in entries {
                batch.push((time, bytes));
                let Some(next) = time.after_by_ns(delta) else { break };
                time = next;
            }
            batch
        })
    }

    proptest! {
        #[test]
        fn a_batch_decodes_to_itself(batch in any_batch()) {
            prop_assert_eq!(decode(&encode(&batch), batch[0].0, batch.len()), Ok(batch));
        }

        #[test]
        fn a_cut_or_a_wrong_count_is_malformed(batch in any_batch(), cut in any::<prop::sample::Index>()) {
            let payload = encode(&batch);
            let first = batch[0].0;
            prop_assert!(decode(&payload[..cut.index(payload.len())], first, batch.len()).is_err());
            prop_assert!(decode(&payload, first, batch.len() - 1).is_err());
            prop_assert!(decode(&payload, first, batch.len() + 1).is_err());
        }

        /// A flip may give other entries; it may not give what is no payload, or run away.
        #[test]
        fn what_is_decoded_encodes_to_the_same_bytes(batch in any_batch(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut payload = encode(&batch);
            let at = at.index(payload.len());
            payload[at] ^= 1_u8 << bit;
            if let Ok(decoded) = decode(&payload, batch[0].0, batch.len()) {
                prop_assert_eq!(encode(&decoded), payload);
            }
        }

        #[test]
        fn any_bytes_are_entries_or_malformed(payload in vec(any::<u8>(), 0..60), count in 1_u32..9) {
            let first = Timestamp::from_ns(i64::MAX - 500);
            match decode(&payload, first, count as usize) {
                Ok(decoded) => prop_assert_eq!(encode(&decoded), payload),
                Err(malformed) => prop_assert!(malformed.at <= payload.len()),
            }
        }

        #[test]
        fn numbers_have_one_spelling(value in any::<u64>(), shift in 0..64_u32) {
            let (value, mut bytes, mut at) = (value >> shift, Vec::new(), 0);
            put_varint(&mut bytes, value);
            prop_assert_eq!(varint(&bytes, &mut at), Some(value));
            prop_assert_eq!(at, bytes.len());
            // The same with a superfluous zero behind it.
            *bytes.last_mut().unwrap() |= 0x80;
            bytes.push(0);
            prop_assert_eq!(varint(&bytes, &mut 0), None);
        }
    }

    #[test]
    fn every_flip_of_a_small_payload_is_malformed_or_another_batch() {
        let first = Timestamp::from_ns(100);
        let batch: Batch = [(100, "one"), (101, ""), (5000, "three")]
            .map(|(ns, text)| (Timestamp::from_ns(ns), text.into()))
            .into();
        let payload = encode(&batch);
        for at in 0..payload.len() {
            for flip in 1..=255 {
                let mut damaged = payload.clone();
                damaged[at] ^= flip;
                match decode(&damaged, first, 3) {
                    Ok(other) => assert!(other != batch && encode(&other) == damaged, "byte {at}"),
                    Err(malformed) => assert!(malformed.at <= payload.len()),
                }
            }
        }
    }

    #[test]
    fn each_rule_has_its_message() {
        let what = |payload: &[u8], count| {
            let first = Timestamp::from_ns(i64::MAX - 1);
            let malformed = decode(payload, first, count).unwrap_err();
            let LogError::Corrupt { offset, what, .. } = malformed.in_frame(Path::new("x"), 64) else {
                panic!()
            };
            (offset, what)
        };
        let cases: [(&[u8], usize, u64, &str); 7] = [
            (&[0x80, 0], 1, 96, "length of an entry is malformed"),
            (&[3, 1, 2], 1, 96, "beyond the end of its frame"),
            (&[0x81, 0x80, 0x80, 0x80, 1], 1, 96, "longer than any writer's limit"),
            (&[1, 7, 0, 0], 2, 98, "not later than the one before it"),
            (&[0, 2, 0], 2, 97, "beyond the last one there is"),
            (&[0, 0x80], 2, 97, "time of an entry is malformed"),
            (&[0, 9], 1, 97, "follow the last entry"),
        ];
        for (payload, count, offset, part) in cases {
            let found = what(payload, count);
            assert!(found.0 == offset && found.1.contains(part), "{payload:?}: {found:?}");
        }
    }

    #[test]
    fn a_cursor_says_where_it_is_and_stays_at_an_error() {
        let first = Timestamp::from_ns(1);
        let payload = [1, b'a', 1, 9, b'b'];
        let mut cursor = Cursor::new(first, 2);
        assert_eq!((cursor.at, cursor.left()), (0, 2));
        assert_eq!(cursor.next(&payload), Ok(Some((first, 1..2))));
        assert_eq!((cursor.at, cursor.left()), (2, 1));
        let stands = cursor;
        assert!(cursor.next(&payload).is_err());
        assert_eq!(cursor, stands);
    }
}
