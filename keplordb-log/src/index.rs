//! The time index of a segment: where some of its frames begin, so that a time is found without walking over all of them.
//!
//! Pure: slots are made, checked and searched here; others read and write them.
//!
//! # Layout
//!
//! Integers are little-endian. Slots follow one another to the end of the file; a rest that is no whole slot means nothing.
//!
//! ```text
//! file     0            8        16       24     28      32
//!          ┌────────────┬────────┬────────┬──────┬───────┬────────┬────────┬──
//!          │ "KEPLOGX"0 │ salt   │ synced │ crc  │ zero  │ slot 0 │ slot 1 │ …
//!          │            │ u64    │ u64    │ u32  │ 4 × 0 │        │        │
//!          └────────────┴────────┴────────┴──────┴───────┴────────┴────────┴──
//! salt     of the segment
//! synced   bytes of the segment that were known to be synced when this was written: all of them after a writer was closed;
//!          0 in a copy, whose mark says it (a writer that dies while it takes the copy over may leave what it noted; a replica
//!          that goes on takes that back)
//! crc      CRC-32 of the 24 bytes before it
//!
//! slot     0        8        16        24     28      32
//!          ┌────────┬────────┬─────────┬──────┬───────┐
//!          │ time   │ offset │ entries │ crc  │ zero  │
//!          │ i64    │ u64    │ u64     │ u32  │ 4 × 0 │
//!          └────────┴────────┴─────────┴──────┴───────┘
//! time     of the frame's first entry
//! offset   where in the segment the frame begins
//! entries  in the segment before the frame
//! crc      CRC-32 of the salt, the slot's number (u64) and the 24 bytes before it
//! ```
//!
//! The segment's first frame has a slot, and then each that begins at least [`SLOT_EVERY_BYTES`] behind the last one that has.
//! Time, offset and entries therefore increase.
//!
//! # What it is worth
//!
//! An index is a cache: it can be made again from its segment, and whoever finds it missing, cut or damaged does so. It is
//! not synced with the entries, so a power cut may leave slots of frames that are not there, and holes. Hence a reader
//! believes a slot only if its checksum holds *and* a frame of that time has its header at that offset.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use crate::timestamp::Timestamp;

/// Length of an index's header; slot 0 begins here.
pub(crate) const INDEX_HEADER_BYTES: usize = 32;

/// Length of a slot.
pub(crate) const SLOT_BYTES: usize = 32;

/// The distance of frames that have a slot: what a search has to walk over at most (and one frame), for 1/2048 of the space.
pub(crate) const SLOT_EVERY_BYTES: u64 = 64 << 10;

const MAGIC: [u8; 8] = *b"KEPLOGX\0";

/// What an index says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexHeader {
    /// Of the segment.
    pub(crate) salt: u64,
    /// Bytes of the segment that a completed sync covered when the header was written.
    pub(crate) synced_bytes: u64,
}

impl IndexHeader {
    /// Its bytes.
    pub(crate) fn encode(&self) -> [u8; INDEX_HEADER_BYTES] {
        let mut bytes = [0; INDEX_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced_bytes.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header in `bytes`; `None` if they are none.
    pub(crate) fn decode(bytes: &[u8; INDEX_HEADER_BYTES]) -> Option<Self> {
        let (body, check) = bytes.split_first_chunk::<24>()?;
        let (crc, zero) = check.split_first_chunk()?;
        if zero != [0; 4] || u32::from_le_bytes(*crc) != crc32fast::hash(body) {
            return None;
        }
        let (salt, rest) = body.strip_prefix(&MAGIC)?.split_first_chunk()?;
        let (synced, _) = rest.split_first_chunk()?;
        Some(Self { salt: u64::from_le_bytes(*salt), synced_bytes: u64::from_le_bytes(*synced) })
    }
}

/// Where in its file a slot begins.
pub(crate) fn slot_offset(slot: u64) -> u64 {
    slot.saturating_mul(SLOT_BYTES as u64).saturating_add(INDEX_HEADER_BYTES as u64)
}

/// How many slots a file of this length has.
pub(crate) fn slots_in(file_bytes: u64) -> u64 {
    file_bytes.saturating_sub(INDEX_HEADER_BYTES as u64) / SLOT_BYTES as u64
}

/// The place of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Time of its first entry.
    pub(crate) time: Timestamp,
    /// Where in the segment it begins.
    pub(crate) offset: u64,
    /// Entries in the segment before it.
    pub(crate) entries: u64,
}

impl Slot {
    /// Its bytes as slot `number` of the index of the segment with this salt.
    pub(crate) fn encode(&self, salt: u64, number: u64) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..8].copy_from_slice(&self.time.as_ns().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.entries.to_le_bytes());
        let crc = slot_crc(salt, number, &bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// What slot `number` says; `None` if these are not its bytes.
    pub(crate) fn decode(bytes: &[u8; SLOT_BYTES], salt: u64, number: u64) -> Option<Self> {
        let (body, check) = bytes.split_first_chunk::<24>()?;
        let (crc, zero) = check.split_first_chunk()?;
        if zero != [0; 4] || u32::from_le_bytes(*crc) != slot_crc(salt, number, body) {
            return None;
        }
        let (time, rest) = body.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (entries, _) = rest.split_first_chunk()?;
        Some(Self {
            time: Timestamp::from_ns(i64::from_le_bytes(*time)),
            offset: u64::from_le_bytes(*offset),
            entries: u64::from_le_bytes(*entries),
        })
    }
}

fn slot_crc(salt: u64, number: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// The last of `slots` slots that `is_before` is true of, and its number; `None` if it is true of none.
///
/// `is_before` must be true of some first slots and false of the others (times and offsets increase); `read` gives the
/// slot of a number. It is called once for each halving: 14 times for a segment of 1 GiB.
pub(crate) fn last_slot<E>(
    slots: u64,
    mut read: impl FnMut(u64) -> Result<Slot, E>,
    is_before: impl Fn(&Slot) -> bool,
) -> Result<Option<(u64, Slot)>, E> {
    // `is_before` is true below `low`, whose last slot is `found`, and false from `high` on.
    let (mut low, mut high, mut found) = (0, slots, None);
    while low < high {
        let middle = low + (high - low) / 2;
        let slot = read(middle)?;
        if is_before(&slot) {
            found = Some((middle, slot));
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

/// Says which frames get a slot, as they are written or walked over in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Slots {
    /// How many there are.
    count: u64,
    /// Where the frame of the last one begins.
    last_offset: u64,
}

impl Slots {
    /// After `count` slots, the last of which is of the frame at `last_offset`.
    pub(crate) fn after(count: u64, last_offset: u64) -> Self {
        Self { count, last_offset }
    }

    /// The number of the slot that the frame which begins at `offset` gets; `None` for most frames.
    pub(crate) fn take(&mut self, offset: u64) -> Option<u64> {
        if self.count > 0 && offset < self.last_offset.saturating_add(SLOT_EVERY_BYTES) {
            return None;
        }
        let number = self.count;
        *self = Self { count: number + 1, last_offset: offset };
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const SLOT: Slot = Slot { time: Timestamp::from_ns(-5), offset: 64, entries: 3 };

    proptest! {
        #[test]
        fn a_slot_decodes_to_itself(ns in any::<i64>(), offset: u64, entries: u64, salt: u64, number: u64) {
            let slot = Slot { time: Timestamp::from_ns(ns), offset, entries };
            prop_assert_eq!(Slot::decode(&slot.encode(salt, number), salt, number), Some(slot));
        }

        #[test]
        fn a_search_finds_what_a_scan_finds(mut times in proptest::collection::btree_set(0..500_i64, 0..60), wanted in -5..505_i64) {
            let times: Vec<i64> = std::mem::take(&mut times).into_iter().collect();
            let mut reads = 0;
            let read = |number: u64| {
                reads += 1;
                let time = Timestamp::from_ns(times[usize::try_from(number).unwrap()]);
                Ok::<_, Infallible>(Slot { time, offset: number, entries: 0 })
            };
            let wanted = Timestamp::from_ns(wanted);
            let found = last_slot(times.len() as u64, read, |slot| slot.time <= wanted).unwrap();
            let expected = times.iter().rposition(|ns| *ns <= wanted.as_ns());
            prop_assert_eq!(found.map(|(number, slot)| (number, slot.offset)), expected.map(|at| (at as u64, at as u64)));
            prop_assert!(reads <= 6);
        }

        #[test]
        fn frames_with_slots_are_far_enough_apart(steps in proptest::collection::vec(32..200_000_u64, 1..40)) {
            let (mut slots, mut offset, mut last) = (Slots::default(), 64, None::<u64>);
            for (frame, step) in steps.iter().enumerate() {
                let is_due = last.is_none_or(|last| offset - last >= SLOT_EVERY_BYTES);
                let count = slots.count;
                prop_assert_eq!(slots.take(offset), is_due.then_some(count), "frame {}", frame);
                if is_due {
                    last = Some(offset);
                    prop_assert_eq!(slots, Slots::after(count + 1, offset));
                }
                offset += step;
            }
        }
    }

    #[test]
    fn no_byte_of_a_slot_may_change() {
        let bytes = SLOT.encode(7, 2);
        for at in 0..SLOT_BYTES {
            for flip in 1..=255 {
                let mut damaged = bytes;
                damaged[at] ^= flip;
                assert_eq!(Slot::decode(&damaged, 7, 2), None, "byte {at}");
            }
        }
        assert_eq!(Slot::decode(&bytes, 8, 2), None, "of another segment");
        assert_eq!(Slot::decode(&bytes, 7, 3), None, "of another place");
        assert_eq!(Slot::decode(&[0; SLOT_BYTES], 7, 2), None);
    }

    #[test]
    fn a_bad_slot_ends_the_search() {
        assert_eq!(last_slot(9, |number| if number == 4 { Err(4) } else { Ok(SLOT) }, |_| true), Err(4));
    }

    #[test]
    fn a_cut_file_has_the_slots_that_are_whole() {
        for (bytes, slots) in [(0, 0), (31, 0), (32, 0), (63, 0), (64, 1), (95, 1), (96, 2)] {
            assert_eq!(slots_in(bytes), slots, "{bytes} bytes");
        }
        assert!((0..9).all(|slot| slots_in(slot_offset(slot)) == slot));
    }

    #[test]
    fn no_byte_of_the_header_may_change() {
        let header = IndexHeader { salt: 0x0102, synced_bytes: 96 };
        let bytes = header.encode();
        assert_eq!(IndexHeader::decode(&bytes), Some(header));
        for at in 0..INDEX_HEADER_BYTES {
            for flip in 1..=255 {
                let mut damaged = bytes;
                damaged[at] ^= flip;
                assert_eq!(IndexHeader::decode(&damaged), None, "byte {at}");
            }
        }
    }
}
