//! The manifest: which segments and WAL generations make up the table, and which numbers come next.
//!
//! ```text
//! preface with magic MANIFEST:
//!   schema                   see schema.rs
//!   next sequence      u64   every row has a lower one
//!   next generation    u64   a WAL with this or a higher number is younger than the manifest, and counts
//!   next segment       u64
//!   tombstone bytes    u64   of the tombstone log that were synced
//!   segments           u32 × { number u64 | file bytes u64 }       ascending
//!   WALs               u32 × { generation u64 | synced bytes u64 } ascending
//! ```
//! A WAL with a lower generation than `next generation` that is not listed has been absorbed by a segment and is a
//! leftover. Lengths are lower bounds: a file may have grown since.

use super::MAX_NUMBER;
use super::bytes::{ByteReader, ByteWriter, Malformed};
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) schema: TableSchema,
    pub(crate) next_sequence: u64,
    pub(crate) next_generation: u64,
    pub(crate) next_segment: u64,
    pub(crate) tombstone_bytes: u64,
    pub(crate) segments: Vec<ListedSegment>,
    pub(crate) wals: Vec<ListedWal>,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        put_schema(&self.schema, &mut content);
        content.put_u64(self.next_sequence);
        content.put_u64(self.next_generation);
        content.put_u64(self.next_segment);
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
        preface::encode(MANIFEST_MAGIC, &content)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, PrefaceError> {
        let (content, preface_bytes) = preface::decode(bytes, MANIFEST_MAGIC)?;
        if preface_bytes != bytes.len() {
            return Err(Malformed::new(preface_bytes, "bytes follow the manifest").into());
        }
        Ok(Self::read(ByteReader::new(content))?)
    }

    fn read(mut reader: ByteReader<'_>) -> Result<Self, Malformed> {
        let schema = read_schema(&mut reader)?;
        let next_sequence = reader.u64("the next sequence")?;
        let next_generation = reader.u64("the next generation")?;
        let next_segment = reader.u64("the next segment")?;
        let tombstone_bytes = reader.u64("the tombstone bytes")?;
        let mut segments = Vec::new();
        for _ in 0..reader.count(16, "the number of segments")? {
            segments.push(ListedSegment {
                number: reader.u64("a segment")?,
                file_bytes: reader.u64("its bytes")?,
            });
        }
        let mut wals = Vec::new();
        for _ in 0..reader.count(16, "the number of WALs")? {
            wals.push(ListedWal { generation: reader.u64("a WAL")?, synced_bytes: reader.u64("its bytes")? });
        }
        let at = reader.position();
        preface::finish(reader, "the manifest")?;
        let ascending = segments.is_sorted_by(|a, b| a.number < b.number)
            && wals.is_sorted_by(|a, b| a.generation < b.generation)
            && segments.last().is_none_or(|last| last.number < next_segment)
            && wals.last().is_none_or(|last| last.generation < next_generation);
        let possible = [next_sequence, next_generation, next_segment].iter().all(|next| *next <= MAX_NUMBER);
        if !ascending || !possible {
            let what =
                "the lists are not ascending, reach beyond the next numbers, or these are impossibly large";
            return Err(Malformed::new(at, what));
        }
        Ok(Self { schema, next_sequence, next_generation, next_segment, tombstone_bytes, segments, wals })
    }
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
            tombstone_bytes: 64,
            segments: vec![
                ListedSegment { number: 1, file_bytes: 4096 },
                ListedSegment { number: 3, file_bytes: 512 },
            ],
            wals: vec![ListedWal { generation: 8, synced_bytes: 128 }],
        }
    }

    #[test]
    fn a_manifest_decodes_to_itself() {
        assert_eq!(Manifest::decode(&manifest().encode()), Ok(manifest()));
    }

    #[test]
    fn truncated_doubled_and_unordered_manifests_are_refused() {
        let bytes = manifest().encode();
        assert!((0..bytes.len()).all(|end| Manifest::decode(&bytes[..end]).is_err()));
        assert!(Manifest::decode(&[bytes.clone(), bytes].concat()).is_err());
        let mut doubled = manifest();
        doubled.segments[1].number = 1;
        assert!(Manifest::decode(&doubled.encode()).is_err());
        let mut beyond = manifest();
        beyond.next_generation = 8;
        assert!(Manifest::decode(&beyond.encode()).is_err());
    }
}
