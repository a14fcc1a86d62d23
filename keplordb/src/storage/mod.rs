//! Files: one object owns one file, and every operation on it goes through `keplordb-disk`.

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

pub(crate) mod directory;
pub(crate) mod follow;
pub(crate) mod manifest;
pub(crate) mod map_cache;
pub(crate) mod notices;
pub(crate) mod poison;
pub(crate) mod salvage;
pub(crate) mod segment_reader;
pub(crate) mod tombstones;
pub(crate) mod wal;
