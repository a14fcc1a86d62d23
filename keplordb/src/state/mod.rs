//! What one reader sees: memtables and segments behind one pointer; and how the rows of the former become the latter.

pub(crate) mod memtable;
pub(crate) mod segment_rows;
pub(crate) mod version;
