//! What one reader sees: memtables and segments behind one pointer; how the rows of the former become the latter, and those of
//! segments come back to be merged.

pub(crate) mod decode;
mod ids;
pub(crate) mod memtable;
pub(crate) mod segment_rows;
pub(crate) mod sequences;
pub(crate) mod version;
