//! A segment's header and names: which log the file belongs to, where in it, and under which salt its frames are.
//!
//! Pure, but for [`list`], which reads a directory.
//!
//! # Layout
//!
//! Integers are little-endian. Frames ([`frame`](crate::frame)) follow at byte 64.
//!
//! ```text
//! offset   0            8           12        16       24      32         40          48           56         64
//!          ┌────────────┬───────────┬─────────┬────────┬───────┬──────────┬───────────┬────────────┬──────────┐
//!          │ "KEPLOGS"0 │ version   │ crc     │ salt   │ log   │ number   │ start     │ before     │ zero     │
//!          │            │ u32 = 1   │ u32     │ u64    │ u64   │ u64      │ i64       │ i64        │ 8 × 0    │
//!          └────────────┴───────────┴─────────┴────────┴───────┴──────────┴───────────┴────────────┴──────────┘
//! crc      CRC-32 of the 64 bytes, with this field zero
//! salt     random, one per file: seeds the checksums of its frame headers and index slots
//! log      random, one per log: all its segments have it
//! number   0 for the first segment of the log, then one more each: a hole is a segment that is missing
//! start    time of the segment's first entry, in nanoseconds since 1970; the file's name says it too
//! before   time of the last entry before the segment; i64::MIN in segment 0, which has none before it
//! ```
//!
//! # A header is valid if and only if
//!
//! 1. the magic is there;
//! 2. the version is one that this release reads;
//! 3. the checksum holds;
//! 4. the last 8 bytes are zero;
//! 5. `number` is 0 and `before` is `i64::MIN`, or `number` is not 0 and `before` is less than `start`.
//!
//! Another version is that of a newer release, which may lay the rest out differently, if it is at most 65,536 and the checksum is
//! not that of this header with version 1. Else it is damage.
//!
//! A header is synced under another name before the file gets its own, so no crash tears it: a bad one is damage.
//!
//! # Names
//!
//! `2026-01-31T23_59_59.123456789Z.segment` is the start in UTC, always with nine digits, with `_` for `:`, which not all file
//! systems take; beside it, `….index` ([`index`](crate::index)). Names are in the order of times.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::io::ErrorKind;
use std::path::Path;

use keplordb_disk::{Disk, DiskFile, Entry};

use crate::error::{IoContext, LogError, Result};
use crate::timestamp::Timestamp;

/// Length of a segment's header; its first frame begins here.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;

/// The newest version of segments, which is written.
pub(crate) const SEGMENT_VERSION: u32 = 1;

/// The newest version that may be a later release's: what is beyond is damage, whatever a checksum of later releases may be.
const VERSION_MAX: u32 = 1 << 16;

/// The file by which a writer, or the replica of a copy, keeps others out.
pub(crate) const LOCK: &str = "LOCK";

const MAGIC: [u8; 8] = *b"KEPLOGS\0";
const CRC_AT: usize = 12;
const SEGMENT_SUFFIX: &str = ".segment";
const INDEX_SUFFIX: &str = ".index";

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Random, one per file.
    pub(crate) salt: u64,
    /// Random, one per log.
    pub(crate) log: u64,
    /// 0 for the first segment of the log, then one more each.
    pub(crate) number: u64,
    /// Time of the segment's first entry.
    pub(crate) start: Timestamp,
    /// Time of the last entry before the segment; `None` exactly in segment 0.
    pub(crate) before: Option<Timestamp>,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Written by a newer release.
    TooNew { found: u32 },
    /// Damaged, or another kind of file.
    Bad { offset: u64, what: &'static str },
}

impl BadHeader {
    pub(crate) fn in_file(self, file: &Path) -> LogError {
        match self {
            Self::TooNew { found } => LogError::TooNew { file: file.to_owned(), found, max: SEGMENT_VERSION },
            Self::Bad { offset, what } => LogError::corrupt(file, offset, what),
        }
    }
}

impl SegmentHeader {
    /// Its bytes.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let before = self.before.unwrap_or(Timestamp::MIN);
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.log.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.start.as_ns().to_le_bytes());
        bytes[48..56].copy_from_slice(&before.as_ns().to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header that `bytes`, which may go on behind it, begin with.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let bad = |offset, what| BadHeader::Bad { offset, what };
        if !bytes.starts_with(&MAGIC) {
            return Err(bad(0, "no segment of a log begins so"));
        }
        let short = bad(bytes.len() as u64, "the file ends inside its header");
        let mut header: [u8; SEGMENT_HEADER_BYTES] = *bytes.first_chunk().ok_or(short)?;
        let version = u32::from_le_bytes(array(&header, 8));
        let stored_crc = u32::from_le_bytes(array(&header, CRC_AT));
        header[CRC_AT..CRC_AT + 4].fill(0);
        header[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        let is_ours = crc32fast::hash(&header) == stored_crc;
        if version != SEGMENT_VERSION {
            return Err(match version {
                0 => bad(8, "version 0 never was"),
                found if found > VERSION_MAX => bad(8, "no release writes so high a version"),
                // Else one flipped bit would look like a newer release, whose segments nobody here may judge.
                _ if is_ours => bad(8, "the version is not the one that the header's checksum is about"),
                found => BadHeader::TooNew { found },
            });
        }
        if !is_ours {
            return Err(bad(CRC_AT as u64, "the header's checksum does not hold"));
        }
        if array::<8>(&header, 56) != [0; 8] {
            return Err(bad(56, "reserved bytes of the header are not zero"));
        }
        let start = Timestamp::from_ns(i64::from_le_bytes(array(&header, 40)));
        let before = Timestamp::from_ns(i64::from_le_bytes(array(&header, 48)));
        let number = u64::from_le_bytes(array(&header, 32));
        let is_sound = if number == 0 { before == Timestamp::MIN } else { before < start };
        if !is_sound {
            return Err(bad(48, "the header's times contradict each other"));
        }
        Ok(Self {
            salt: u64::from_le_bytes(array(&header, 16)),
            log: u64::from_le_bytes(array(&header, 24)),
            number,
            start,
            before: (number > 0).then_some(before),
        })
    }
}

/// The header of the segment whose file is named after `start`.
pub(crate) fn read_header(file: &dyn DiskFile, path: &Path, start: Timestamp) -> Result<SegmentHeader> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0).at("read", path)?;
    let header = SegmentHeader::decode(bytes.get(..read).unwrap_or_default());
    let header = header.map_err(|bad| bad.in_file(path))?;
    if header.start != start {
        let what = format!("its name says that it starts at {start}, its header says {}", header.start);
        return Err(LogError::corrupt(path, 40, what));
    }
    Ok(header)
}

/// `N` of the header's bytes, which are there: the places are those of the layout above.
fn array<const N: usize>(header: &[u8; SEGMENT_HEADER_BYTES], at: usize) -> [u8; N] {
    header.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

/// The name of the segment that starts at `start`.
pub(crate) fn segment_name(start: Timestamp) -> String {
    start.to_string().replace(':', "_") + SEGMENT_SUFFIX
}

/// The name of the time index of the segment that starts at `start`.
pub(crate) fn index_name(start: Timestamp) -> String {
    start.to_string().replace(':', "_") + INDEX_SUFFIX
}

/// The start of the segment that has this name; `None` for anything but a segment's name.
pub(crate) fn segment_start(name: &str) -> Option<Timestamp> {
    start_in(name, SEGMENT_SUFFIX)
}

/// The start of the segment whose time index has this name.
pub(crate) fn index_start(name: &str) -> Option<Timestamp> {
    start_in(name, INDEX_SUFFIX)
}

fn start_in(name: &str, suffix: &str) -> Option<Timestamp> {
    let stem = name.strip_suffix(suffix)?;
    let start: Timestamp = stem.replace('_', ":").parse().ok()?;
    // Only the one spelling that is written: two files must not have the same start.
    (start.to_string().replace(':', "_") == stem).then_some(start)
}

/// A segment as its directory lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Time of its first entry.
    pub(crate) start: Timestamp,
    /// Length of its file; one that is being written is zero-filled ahead.
    pub(crate) bytes: u64,
}

/// The segments of a log's directory, oldest first; none if there is no directory.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<Listed>> {
    let entries = match disk.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.at("list", dir)?,
    };
    Ok(segments_of(&entries))
}

/// The segments among what a directory holds, oldest first.
pub(crate) fn segments_of(entries: &[Entry]) -> Vec<Listed> {
    let files = entries.iter().filter(|entry| !entry.is_dir);
    let mut segments: Vec<Listed> = files
        .filter_map(|entry| Some(Listed { start: segment_start(&entry.name)?, bytes: entry.bytes }))
        .collect();
    segments.sort_unstable_by_key(|segment| segment.start);
    segments
}

#[cfg(test)]
mod tests {
    use keplordb_disk::MemoryDisk;
    use proptest::prelude::*;

    use super::*;

    fn any_header() -> impl Strategy<Value = SegmentHeader> {
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<[i64; 2]>()).prop_map(
            |(salt, log, number, [start, gap])| {
                let start = Timestamp::from_ns(start.max(i64::MIN + 1));
                let before = start.as_ns().saturating_sub(gap.unsigned_abs().clamp(1, 1 << 62) as i64);
                let before = (number > 0).then_some(Timestamp::from_ns(before));
                SegmentHeader { salt, log, number, start, before }
            },
        )
    }

    fn small() -> SegmentHeader {
        let (start, before) = (Timestamp::from_ns(9), Some(Timestamp::from_ns(-3)));
        SegmentHeader { salt: 7, log: 8, number: 1, start, before }
    }

    /// The header with some bytes replaced and a checksum that holds.
    fn forged(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut header = small().encode();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        header[CRC_AT..CRC_AT + 4].fill(0);
        let crc = crc32fast::hash(&header);
        header[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        header.to_vec()
    }

    proptest! {
        #[test]
        fn a_header_decodes_to_itself(header in any_header(), behind in any::<[u8; 3]>()) {
            let bytes = [&header.encode()[..], &behind].concat();
            prop_assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        }

        #[test]
        fn names_are_starts_and_keep_their_order(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (Timestamp::from_ns(a), Timestamp::from_ns(b));
            prop_assert_eq!(segment_start(&segment_name(a)), Some(a));
            prop_assert_eq!(index_start(&index_name(a)), Some(a));
            prop_assert_eq!(segment_name(a).cmp(&segment_name(b)), a.cmp(&b));
        }
    }

    #[test]
    fn the_first_segment_has_nothing_before_it() {
        let header = SegmentHeader { number: 0, start: Timestamp::MIN, before: None, ..small() };
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn no_byte_may_change_and_none_may_be_missing() {
        let bytes = small().encode();
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = bytes;
                damaged[at] ^= flip;
                assert!(SegmentHeader::decode(&damaged).is_err(), "byte {at}");
            }
            assert!(SegmentHeader::decode(&bytes[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_behind_a_good_checksum() {
        let at = |bytes: &[u8]| match SegmentHeader::decode(bytes) {
            Err(BadHeader::Bad { offset, .. }) => offset,
            other => panic!("{other:?}"),
        };
        assert_eq!(at(b"KEPLOGS"), 0);
        assert_eq!(at(&[0; 64]), 0);
        assert_eq!(at(&forged(8, &[0])), 8);
        assert_eq!(at(&forged(56, &[1])), 56);
        assert_eq!(at(&forged(48, &9_i64.to_le_bytes())), 48);
        assert_eq!(at(&forged(32, &[0])), 48);
        // Where the whole header is lost, too.
        assert_eq!(at(&[&MAGIC[..], &[0xff; 56]].concat()), 8);
        assert_eq!(at(&forged(8, &(VERSION_MAX + 1).to_le_bytes())), 8);
        let newest = SegmentHeader::decode(&forged(8, &VERSION_MAX.to_le_bytes()));
        assert_eq!(newest, Err(BadHeader::TooNew { found: VERSION_MAX }));
        let mut flipped = small().encode();
        flipped[9] ^= 0x10;
        assert_eq!(at(&flipped), 8);
        let newer = SegmentHeader::decode(&forged(8, &[2]));
        assert_eq!(newer, Err(BadHeader::TooNew { found: 2 }));
        let error = newer.unwrap_err().in_file(Path::new("log/x.segment"));
        assert!(matches!(error, LogError::TooNew { found: 2, max: 1, .. }), "{error}");
    }

    #[test]
    fn only_what_is_written_is_a_name() {
        let name = "2026-01-31T23_59_59.123456789Z.segment";
        assert_eq!(segment_name(segment_start(name).unwrap()), name);
        for other in [
            "2026-01-31T23_59_59.123456789Z.index",
            "2026-01-31T23_59_59.123456789Z.segment.tmp",
            "2026-01-31T23_59_59.12345678Z.segment",
            "2026-01-31T23:59:59.123456789Z.segment",
            "2026-01-31t23_59_59.123456789Z.segment",
            "2026-01-31T23_59_59.123456789+00_00.segment",
            "2026-13-31T23_59_59.123456789Z.segment",
            "LOCK",
            ".segment",
            "",
        ] {
            assert_eq!(segment_start(other), None, "{other}");
        }
    }

    #[test]
    fn a_directory_lists_its_segments_oldest_first() {
        let (disk, dir) = (MemoryDisk::default(), Path::new("log"));
        assert_eq!(list(&disk, dir).unwrap(), []);
        disk.create_dir(dir).unwrap();
        for ns in [5, -7, i64::MAX, 0] {
            let name = segment_name(Timestamp::from_ns(ns));
            disk.create(&dir.join(&name)).unwrap().write_at(&[1; 3], 0).unwrap();
            disk.create(&dir.join(name + ".tmp")).unwrap();
        }
        disk.create(&dir.join("LOCK")).unwrap();
        disk.create_dir(&dir.join(segment_name(Timestamp::from_ns(77)))).unwrap();
        let starts: Vec<_> = list(&disk, dir).unwrap().iter().map(|found| found.start.as_ns()).collect();
        assert_eq!(starts, [-7, 0, 5, i64::MAX]);
        assert!(list(&disk, dir).unwrap().iter().all(|found| found.bytes == 3));
    }
}
