//! What the bytes of a table's segments are for: the events themselves, or what only makes answers quick.

use super::Core;
use crate::error::Result;

/// Where the bytes of a table's segments go. Logs, manifest and tombstones are not among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Space {
    /// Headers, columns and dictionaries: what is needed to get every event back.
    pub columns_bytes: u64,
    /// Zone maps, running sums, value sums, postings, hash indexes, bloom filters and rollups.
    pub index_bytes: u64,
    /// The sections that these are in, each over all segments, in the order of a file; headers are in none.
    pub sections: Vec<SectionSpace>,
}

/// Where the bytes of one section go, over all segments.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SectionSpace {
    /// As messages call it: `time`, `dim 0`, `id index`.
    pub name: String,
    /// See [`Space::columns_bytes`].
    pub columns_bytes: u64,
    /// See [`Space::index_bytes`].
    pub index_bytes: u64,
}

impl Core {
    pub(crate) fn space(&self) -> Result<Space> {
        let view = self.source.view();
        let mut space = Space::default();
        for entry in view.segments() {
            let (header, open) = (entry.segment.header(), entry.segment.read()?);
            let mut sections_bytes = 0;
            for (place, section) in header.sections.iter().enumerate() {
                let index_bytes = open.index_bytes(place)?;
                let columns_bytes = section.bytes - index_bytes;
                sections_bytes += section.bytes;
                space.add(SectionSpace { name: section.name(), columns_bytes, index_bytes });
            }
            space.columns_bytes += header.file_bytes - sections_bytes;
        }
        Ok(space)
    }
}

impl Space {
    fn add(&mut self, more: SectionSpace) {
        self.columns_bytes += more.columns_bytes;
        self.index_bytes += more.index_bytes;
        match self.sections.iter_mut().find(|section| section.name == more.name) {
            Some(section) => {
                section.columns_bytes += more.columns_bytes;
                section.index_bytes += more.index_bytes;
            }
            None => self.sections.push(more),
        }
    }
}
