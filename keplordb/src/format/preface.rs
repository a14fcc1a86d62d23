//! The first bytes of a WAL, of the tombstone log, and all bytes of a manifest: who wrote this, in which version, whole?
//!
//! ```text
//!  0  magic       8 bytes, per kind of file
//!  8  version     u32   FORMAT_VERSION
//! 12  bytes       u32   of the whole preface, padding included; a multiple of 8
//! 16  crc         u32   CRC-32 of all other bytes of the preface, in their order
//! 20  reserved    u32   zero
//! 24  content, then zeros up to `bytes`
//! ```
//! Checked in this order, each with its own message: length, magic, version, checksum, reserved bytes. An unknown version
//! is not damage.

use std::path::Path;

use super::bytes::{ByteReader, ByteWriter, Malformed, Watch, align};
use super::{FORMAT_VERSION, OLDEST_FORMAT_VERSION};
use crate::error::DbError;

/// Bytes before the content.
pub(crate) const FIXED_BYTES: usize = 24;
/// Prefaces and frames begin at multiples of this.
const ALIGN_BYTES: usize = 8;

/// The kind of a file, by its first eight bytes: not ASCII, and changed by a copy in text mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Magic(pub(crate) [u8; 8]);

pub(crate) const WAL_MAGIC: Magic = Magic(*b"\x89KWAL\r\n\x1a");
pub(crate) const MANIFEST_MAGIC: Magic = Magic(*b"\x89KMAN\r\n\x1a");
pub(crate) const TOMBSTONES_MAGIC: Magic = Magic(*b"\x89KTMB\r\n\x1a");

/// Why a preface cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PrefaceError {
    /// A newer release wrote it.
    TooNew { found: u32 },
    /// It is of a version that was never settled.
    TooOld { found: u32 },
    /// It is damaged, or another kind of file.
    Malformed(Malformed),
}

impl From<Malformed> for PrefaceError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl PrefaceError {
    pub(crate) fn in_file(self, file: &Path) -> DbError {
        match self {
            Self::TooNew { found } => DbError::TooNew { file: file.to_owned(), found, max: FORMAT_VERSION },
            Self::TooOld { found } => {
                DbError::TooOld { file: file.to_owned(), found, min: OLDEST_FORMAT_VERSION }
            }
            Self::Malformed(malformed) => malformed.in_file(file, 0),
        }
    }
}

/// Checks the version that a file says it has.
pub(crate) fn check_version(found: u32) -> Result<(), PrefaceError> {
    match found {
        OLDEST_FORMAT_VERSION..=FORMAT_VERSION => Ok(()),
        0..OLDEST_FORMAT_VERSION => Err(PrefaceError::TooOld { found }),
        _ => Err(PrefaceError::TooNew { found }),
    }
}

/// A preface with this content.
pub(crate) fn encode(magic: Magic, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FIXED_BYTES + content.len() + ALIGN_BYTES);
    out.put(&magic.0);
    out.put_u32(FORMAT_VERSION);
    out.put_count((FIXED_BYTES + content.len()).next_multiple_of(ALIGN_BYTES));
    let crc_at = out.len();
    out.put_u32(0);
    out.put_u32(0);
    out.put(content);
    align(&mut out, ALIGN_BYTES);
    let crc = crc(&out);
    out.splice(crc_at..crc_at + 4, crc.to_le_bytes());
    out
}

/// The content at the front of `bytes`, and the length of the whole preface.
pub(crate) fn decode(bytes: &[u8], magic: Magic) -> Result<(&[u8], usize), PrefaceError> {
    let mut reader = ByteReader::new(bytes);
    if reader.take(8, "the magic number")? != magic.0 {
        return Err(Malformed::new(0, "the file does not begin with its kind's magic number").into());
    }
    let found = reader.u32("the format version")?;
    check_version(found)?;
    let preface_bytes = reader.u32("the length of the preface")? as usize;
    let stored_crc = reader.u32("the checksum of the preface")?;
    let reserved = reader.u32("the reserved bytes")?;
    let whole = bytes.get(..preface_bytes).filter(|_| preface_bytes >= FIXED_BYTES);
    let whole = whole.ok_or_else(|| {
        Malformed::new(12, format!("the preface says {preface_bytes} bytes, the file has {}", bytes.len()))
    })?;
    if crc(whole) != stored_crc {
        return Err(Malformed::new(16, "the preface does not have its checksum").into());
    }
    if reserved != 0 || !preface_bytes.is_multiple_of(ALIGN_BYTES) {
        return Err(
            Malformed::new(20, "reserved bytes are not zero, or the length is no multiple of 8").into()
        );
    }
    Ok((whole.get(FIXED_BYTES..).unwrap_or_default(), preface_bytes))
}

/// How many bytes the preface says it has, of which these are the first: for who reads no more of the file. Whether it
/// lies only [`decode`] can tell.
pub(crate) fn stored_bytes(start: &[u8]) -> usize {
    let stored = start.get(12..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes));
    (stored as usize).max(start.len())
}

/// The content as far as its length can be believed, whatever its checksum says, and the length of the whole preface: to
/// describe damaged ones.
pub(super) fn stored_content(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let preface_bytes = u32::from_le_bytes(*bytes.get(12..)?.first_chunk()?) as usize;
    let content = bytes.get(FIXED_BYTES..preface_bytes)?;
    preface_bytes.is_multiple_of(ALIGN_BYTES).then_some((content, preface_bytes))
}

/// The content may be followed by the preface's padding and nothing else.
pub(crate) fn finish<W: Watch>(mut reader: ByteReader<'_, W>, what: &str) -> Result<(), Malformed> {
    let at = reader.position();
    let padding = reader.padding();
    if padding.len() >= ALIGN_BYTES || padding.iter().any(|byte| *byte != 0) {
        return Err(Malformed::new(at, format!("{} bytes follow the end of {what}", padding.len())));
    }
    Ok(())
}

/// What is wrong with a content, told by the place in the file.
pub(super) fn in_content(malformed: Malformed) -> Malformed {
    Malformed { offset: malformed.offset + FIXED_BYTES as u64, ..malformed }
}

fn crc(whole: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(whole.get(..16).unwrap_or_default());
    hasher.update(whole.get(20..).unwrap_or_default());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_truncation_is_refused() {
        let whole = encode(WAL_MAGIC, b"content");
        assert_eq!(decode(&whole, WAL_MAGIC).unwrap(), (&b"content\0"[..], 32));
        assert!(decode(&whole, MANIFEST_MAGIC).is_err());
        assert_eq!((stored_bytes(&whole[..FIXED_BYTES]), stored_bytes(b"short")), (whole.len(), 5));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped, WAL_MAGIC).is_err(), "bit {bit}");
        }
        for bytes in 0..whole.len() {
            assert!(decode(&whole[..bytes], WAL_MAGIC).is_err(), "{bytes} bytes");
        }
    }

    #[test]
    fn a_newer_version_is_not_damage() {
        let mut newer = encode(WAL_MAGIC, b"");
        newer[8] = 9;
        assert_eq!(decode(&newer, WAL_MAGIC), Err(PrefaceError::TooNew { found: 9 }));
    }
}
