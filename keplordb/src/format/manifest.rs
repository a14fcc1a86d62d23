//! The manifest: which segments and WAL generations make up the table, and which numbers come next.
//!
//! ```text
//! preface with magic MANIFEST:
//!   schema                   see schema.rs
//!   next sequence      u64   every row has a lower one
//!   next generation    u64   a WAL with this or a higher number is younger than the manifest, and counts
//!   next segment       u64
//!   closed             u8    1: written by a clean close: every length below is exact, and nothing was being written; else 0
//!   tombstone log      u64   number of the one that counts, 0 for none | u64 bytes of it that were synced
//!   segments           u32 × { number u64 | file bytes u64 }       ascending
//!   WALs               u32 × { generation u64 | synced bytes u64 } ascending
//!   replaced           u32 × { kind u8 | number u64 | by u64 }     ascending by kind and number
//!   dropped            u32 × { first u64 | last u64 | rows u64 }   ascending
//! ```
//! A WAL with a lower generation than `next generation` that is not listed has been absorbed by a segment and is a
//! leftover; a segment that is not listed may be one. Lengths are lower bounds unless `closed`: a file may have grown since.
//!
//! *Replaced* files were still there, in their unlink grace, when the manifest was written; the table does not need them. They let
//! a copy of a live directory find each row, wherever it was when the copy came by. Kinds: 1 a WAL, 2 a segment, 3 a
//! tombstone log. `by` is the segment (kinds 1 and 2) or tombstone log (kind 3) that has its rows now; 0: none has, they
//! are deleted or were dropped by gc.
//!
//! *Dropped* are the sequences of segments that gc has dropped, first and last, and how many rows these had: who follows
//! the table by sequence and comes later is told what he has missed. Where there are many, neighbours are counted as one.

use super::MAX_NUMBER;
use super::bytes::{ByteReader, ByteWriter, Malformed, Watch};
use super::preface::{self, MANIFEST_MAGIC, PrefaceError};
use super::schema::{put_schema, read_schema};
use crate::schema::TableSchema;

/// A segment as the manifest lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListedSegment {
    pub(crate) number: u64,
    pub(crate) file_bytes: u64,
}

/// A WAL as the manifest lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListedWal {
    pub(crate) generation: u64,
    /// Bytes known to have been synced.
    pub(crate) synced_bytes: u64,
}

/// A file that the table no longer needs, by its kind and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum OldFile {
    Wal(u64),
    Segment(u64),
    Tombstones(u64),
}

impl OldFile {
    fn to_tag(self) -> (u8, u64) {
        match self {
            Self::Wal(generation) => (KIND_WAL, generation),
            Self::Segment(number) => (KIND_SEGMENT, number),
            Self::Tombstones(number) => (KIND_TOMBSTONES, number),
        }
    }

    fn from_tag(kind: u8, number: u64) -> Option<Self> {
        match kind {
            KIND_WAL => Some(Self::Wal(number)),
            KIND_SEGMENT => Some(Self::Segment(number)),
            KIND_TOMBSTONES => Some(Self::Tombstones(number)),
            _ => None,
        }
    }
}

/// A replaced file as the manifest lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListedReplaced {
    pub(crate) file: OldFile,
    /// The segment or tombstone log that has its rows now; `None` when none has.
    pub(crate) by: Option<u64>,
}

/// Rows that were dropped before their time in the table was over for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dropped {
    /// Their smallest and largest sequence; rows between them may be there still.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) rows: u64,
}

impl Dropped {
    /// The one that covers both.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            rows: self.rows.saturating_add(other.rows),
        }
    }
}

/// What kind of file was replaced.
const KIND_WAL: u8 = 1;
const KIND_SEGMENT: u8 = 2;
const KIND_TOMBSTONES: u8 = 3;
/// Bytes of a replaced file's entry.
const REPLACED_BYTES: usize = 1 + 8 + 8;
/// Bytes of the entry of dropped rows.
const DROPPED_BYTES: usize = 8 + 8 + 8;
/// What `by` is when no file took the rows over; numbers of files begin at 1.
const BY_NONE: u64 = 0;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) schema: TableSchema,
    pub(crate) next_sequence: u64,
    pub(crate) next_generation: u64,
    pub(crate) next_segment: u64,
    /// Written by a clean close: the lengths are exact.
    pub(crate) closed: bool,
    /// The number of the tombstone log; 0 when there is none.
    pub(crate) tombstone_log: u64,
    pub(crate) tombstone_bytes: u64,
    pub(crate) segments: Vec<ListedSegment>,
    pub(crate) wals: Vec<ListedWal>,
    /// Ascending.
    pub(crate) replaced: Vec<ListedReplaced>,
    /// Ascending.
    pub(crate) dropped: Vec<Dropped>,
}

impl Manifest {
    /// Whether the WAL of this generation may count: it is listed, or younger than the manifest.
    pub(crate) fn may_have_wal(&self, generation: u64) -> bool {
        generation >= self.next_generation || self.wals.iter().any(|listed| listed.generation == generation)
    }

    /// Whether `other` cannot have come before, because numbers that only grow have gone back.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        self.next_sequence < other.next_sequence
            || self.next_generation < other.next_generation
            || self.next_segment < other.next_segment
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        put_schema(&self.schema, &mut content);
        content.put_u64(self.next_sequence);
        content.put_u64(self.next_generation);
        content.put_u64(self.next_segment);
        content.put(&[u8::from(self.closed)]);
        content.put_u64(self.tombstone_log);
        content.put_u64(self.tombstone_bytes);
        content.put_count(self.segments.len());
        for segment in &self.segments {
            content.put_u64(segment.number);
            content.put_u64(segment.file_bytes);
        }
        content.put_count(self.wals.len());
        for wal in &self.wals {
            content.put_u64(wal.generation);
            content.put_u64(wal.synced_bytes);
        }
        content.put_count(self.replaced.len());
        for replaced in &self.replaced {
            let (kind, number) = replaced.file.to_tag();
            content.put(&[kind]);
            content.put_u64(number);
            content.put_u64(replaced.by.unwrap_or(BY_NONE));
        }
        content.put_count(self.dropped.len());
        for dropped in &self.dropped {
            content.put_u64(dropped.first);
            content.put_u64(dropped.last);
            content.put_u64(dropped.rows);
        }
        preface::encode(MANIFEST_MAGIC, &content)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, PrefaceError> {
        let (content, preface_bytes) = preface::decode(bytes, MANIFEST_MAGIC)?;
        if preface_bytes != bytes.len() {
            return Err(Malformed::new(preface_bytes, "bytes follow the manifest").into());
        }
        Ok(Self::read(ByteReader::new(content)).map_err(preface::in_content)?)
    }

    /// Reads the content of the preface.
    pub(super) fn read<W: Watch>(mut reader: ByteReader<'_, W>) -> Result<Self, Malformed> {
        let schema = read_schema(&mut reader)?;
        let next_sequence = reader.u64("next sequence")?;
        let next_generation = reader.u64("next generation")?;
        let next_segment = reader.u64("next segment")?;
        let at = reader.position();
        let closed = match reader.u8("closed")? {
            mark @ 0..=1 => mark == 1,
            _ => return Err(Malformed::new(at, "the mark of a close is neither 0 nor 1")),
        };
        let tombstone_log = reader.u64("tombstone log")?;
        let tombstone_bytes = reader.u64("tombstone bytes")?;
        let segments = read_list(&mut reader, ["number of segments", "segments"], 16, |reader| {
            Ok(ListedSegment { number: reader.u64("number")?, file_bytes: reader.u64("file bytes")? })
        })?;
        let wals = read_list(&mut reader, ["number of WALs", "WALs"], 16, |reader| {
            Ok(ListedWal { generation: reader.u64("generation")?, synced_bytes: reader.u64("synced bytes")? })
        })?;
        let replaced =
            read_list(&mut reader, ["number of replaced files", "replaced"], REPLACED_BYTES, |reader| {
                let at = reader.position();
                let (kind, number) = (reader.u8("kind of file")?, reader.u64("number")?);
                let file = OldFile::from_tag(kind, number)
                    .ok_or_else(|| Malformed::new(at, format!("a replaced file is of kind {kind}")))?;
                let by = reader.u64("by")?;
                Ok(ListedReplaced { file, by: (by != BY_NONE).then_some(by) })
            })?;
        let dropped =
            read_list(&mut reader, ["number of dropped ranges", "dropped"], DROPPED_BYTES, |reader| {
                let (first, last) = (reader.u64("first")?, reader.u64("last")?);
                Ok(Dropped { first, last, rows: reader.u64("rows")? })
            })?;
        let at = reader.position();
        preface::finish(reader, "the manifest")?;
        let ascending = segments.is_sorted_by(|a, b| a.number < b.number)
            && wals.is_sorted_by(|a, b| a.generation < b.generation)
            && replaced.is_sorted_by(|a, b| a.file < b.file)
            && dropped.is_sorted()
            && dropped.iter().all(|dropped| dropped.first <= dropped.last && dropped.last < next_sequence)
            && segments.last().is_none_or(|last| last.number < next_segment)
            && wals.last().is_none_or(|last| last.generation < next_generation);
        let numbers = [next_sequence, next_generation, next_segment, tombstone_log];
        let possible = numbers.iter().all(|number| *number <= MAX_NUMBER);
        if !ascending || !possible {
            let what =
                "the lists are not ascending, reach beyond the next numbers, or these are impossibly large";
            return Err(Malformed::new(at, what));
        }
        Ok(Self {
            schema,
            next_sequence,
            next_generation,
            next_segment,
            closed,
            tombstone_log,
            tombstone_bytes,
            segments,
            wals,
            replaced,
            dropped,
        })
    }
}

/// What a kind of replaced file is called.
pub(super) fn kind_name(kind: u8) -> Option<&'static str> {
    match OldFile::from_tag(kind, 0)? {
        OldFile::Wal(_) => Some("WAL"),
        OldFile::Segment(_) => Some("segment"),
        OldFile::Tombstones(_) => Some("tombstone log"),
    }
}

/// A list of entries that take so many bytes each, after their number.
fn read_list<T, W: Watch>(
    reader: &mut ByteReader<'_, W>,
    [count, name]: [&str; 2],
    entry_bytes: usize,
    read: impl Fn(&mut ByteReader<'_, W>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = reader.count(entry_bytes, count)?;
    (0..count).map(|place| reader.within(format_args!("{name}[{place}]"), &read)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            schema: TableSchema::new(1).dim("user"),
            next_sequence: 1 << 33,
            next_generation: 9,
            next_segment: 4,
            closed: false,
            tombstone_log: 2,
            tombstone_bytes: 64,
            segments: vec![
                ListedSegment { number: 1, file_bytes: 4096 },
                ListedSegment { number: 3, file_bytes: 512 },
            ],
            wals: vec![ListedWal { generation: 8, synced_bytes: 128 }],
            replaced: vec![
                ListedReplaced { file: OldFile::Wal(7), by: Some(3) },
                ListedReplaced { file: OldFile::Segment(2), by: None },
                ListedReplaced { file: OldFile::Tombstones(1), by: Some(2) },
            ],
            dropped: vec![
                Dropped { first: 1, last: 900, rows: 800 },
                Dropped { first: 5, last: 1 << 32, rows: 0 },
            ],
        }
    }

    #[test]
    fn a_manifest_decodes_to_itself() {
        for closed in [false, true] {
            let manifest = Manifest { closed, ..manifest() };
            assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
    }

    #[test]
    fn truncated_doubled_and_unordered_manifests_are_refused() {
        let bytes = manifest().encode();
        assert!((0..bytes.len()).all(|end| Manifest::decode(&bytes[..end]).is_err()));
        assert!(Manifest::decode(&[bytes.clone(), bytes].concat()).is_err());
        let mut doubled = manifest();
        doubled.segments[1].number = 1;
        assert!(Manifest::decode(&doubled.encode()).is_err());
        let mut unordered = manifest();
        unordered.replaced.swap(0, 1);
        assert!(Manifest::decode(&unordered.encode()).is_err());
        let mut reversed = manifest();
        reversed.dropped[0].first = 901;
        assert!(Manifest::decode(&reversed.encode()).is_err());
        let mut not_given = manifest();
        not_given.dropped[1].last = 1 << 33;
        assert!(Manifest::decode(&not_given.encode()).is_err());
        let mut beyond = manifest();
        beyond.next_generation = 8;
        assert!(Manifest::decode(&beyond.encode()).is_err());
    }
}
