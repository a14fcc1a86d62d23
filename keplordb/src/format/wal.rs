//! The preface of a WAL file: which generation of which shard, under which salt, with which columns.
//!
//! ```text
//! preface with magic WAL:
//!   generation  u64   also in the file's name
//!   salt        u64   random; seeds the checksums of this file's frames
//!   shard       u32   who wrote it
//!   schema            see schema.rs
//! then frames (keplordb_log::frame), whose payloads are blocks (block.rs), then zeros written ahead
//! ```

use super::bytes::{ByteReader, ByteWriter, Malformed, Watch};
use super::preface::{self, PrefaceError, WAL_MAGIC};
use super::schema::{put_schema, read_schema};
use crate::schema::TableSchema;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WalHeader {
    pub(crate) generation: u64,
    pub(crate) salt: u64,
    pub(crate) shard: u32,
    pub(crate) schema: TableSchema,
}

impl WalHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        content.put_u64(self.generation);
        content.put_u64(self.salt);
        content.put_u32(self.shard);
        put_schema(&self.schema, &mut content);
        preface::encode(WAL_MAGIC, &content)
    }

    /// The header, and where the frames begin.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, usize), PrefaceError> {
        let (content, header_bytes) = preface::decode(bytes, WAL_MAGIC)?;
        let header = Self::read(ByteReader::new(content)).map_err(preface::in_content)?;
        Ok((header, header_bytes))
    }

    /// Reads the content of the preface.
    pub(super) fn read<W: Watch>(mut reader: ByteReader<'_, W>) -> Result<Self, Malformed> {
        let header = Self {
            generation: reader.u64("generation")?,
            salt: reader.u64("salt")?,
            shard: reader.u32("shard")?,
            schema: read_schema(&mut reader)?,
        };
        preface::finish(reader, "the WAL's header")?;
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_decodes_to_itself() {
        let schema = TableSchema::new(3).dim("user").counter("tokens").indexed_label("trace");
        let header = WalHeader { generation: 7, salt: u64::MAX, shard: 2, schema };
        let bytes = header.encode();
        assert_eq!(WalHeader::decode(&bytes).unwrap(), (header, bytes.len()));
    }
}
