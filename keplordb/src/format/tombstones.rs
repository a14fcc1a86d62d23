//! The tombstone log: which rows are deleted, by time and sequence.
//!
//! ```text
//! preface with magic TOMBSTONES:
//!   salt   u64   random; seeds the checksums of the frames
//! then frames, one per call that deletes, whose payload is rows × { time i64 | sequence u64 }
//! ```
//! A tombstone whose row is in no file any more says nothing and harms nothing: sequences are never given twice.

use super::MAX_NUMBER;
use super::bytes::{ByteReader, ByteWriter, Malformed, Watch};
use super::preface::{self, PrefaceError, TOMBSTONES_MAGIC};

/// A row, by what never changes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tombstone {
    pub(crate) ts_ns: i64,
    pub(crate) sequence: u64,
}

/// Bytes of a tombstone in a payload.
pub(crate) const TOMBSTONE_BYTES: usize = 16;

pub(crate) fn encode_header(salt: u64) -> Vec<u8> {
    preface::encode(TOMBSTONES_MAGIC, &salt.to_le_bytes())
}

/// The salt, and where the frames begin.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<(u64, usize), PrefaceError> {
    let (content, header_bytes) = preface::decode(bytes, TOMBSTONES_MAGIC)?;
    let salt = read_header(ByteReader::new(content)).map_err(preface::in_content)?;
    Ok((salt, header_bytes))
}

/// Reads the content of the preface: the salt.
pub(super) fn read_header<W: Watch>(mut reader: ByteReader<'_, W>) -> Result<u64, Malformed> {
    let salt = reader.u64("salt")?;
    preface::finish(reader, "the tombstone log's header")?;
    Ok(salt)
}

pub(crate) fn encode(tombstones: &[Tombstone], out: &mut Vec<u8>) {
    for tombstone in tombstones {
        out.put_i64(tombstone.ts_ns);
        out.put_u64(tombstone.sequence);
    }
}

pub(crate) fn decode(payload: &[u8], rows: u32, tombstones: &mut Vec<Tombstone>) -> Result<(), Malformed> {
    let mut reader = ByteReader::new(payload);
    if payload.len() != rows as usize * TOMBSTONE_BYTES {
        return Err(Malformed::new(0, format!("{rows} tombstones do not take {} bytes", payload.len())));
    }
    tombstones.reserve(rows as usize);
    for _ in 0..rows {
        let at = reader.position();
        let tombstone = Tombstone { ts_ns: reader.i64("a time")?, sequence: reader.u64("a sequence")? };
        if tombstone.sequence > MAX_NUMBER {
            return Err(Malformed::new(at, format!("the sequence {} is impossible", tombstone.sequence)));
        }
        tombstones.push(tombstone);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_decode_to_themselves() {
        let rows = [Tombstone { ts_ns: i64::MIN, sequence: 0 }, Tombstone { ts_ns: 5, sequence: MAX_NUMBER }];
        let (mut payload, mut decoded) = (Vec::new(), Vec::new());
        encode(&rows, &mut payload);
        decode(&payload, 2, &mut decoded).unwrap();
        assert_eq!(decoded, rows);
        assert!(decode(&payload, 3, &mut decoded).is_err());
        let header = encode_header(77);
        assert_eq!(decode_header(&header).unwrap(), (77, header.len()));
    }
}
