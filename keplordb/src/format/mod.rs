//! Bytes and values: every file of a directory, without I/O.
//!
//! `docs/format.md` describes each byte; the constants that more than one file needs are here.

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

pub(crate) mod arrays;
pub(crate) mod block;
pub(crate) mod bloom;
pub(crate) mod bytes;
pub(crate) mod describe;
pub(crate) mod ids;
pub(crate) mod keys;
pub(crate) mod manifest;
pub(crate) mod numbers;
pub(crate) mod preface;
pub(crate) mod rollups;
pub(crate) mod schema;
pub(crate) mod segment;
pub(crate) mod texts;
pub(crate) mod tombstones;
pub(crate) mod verify;
pub(crate) mod wal;

/// Version of every file format here, and the newest that is read. It is frozen: what a release wrote, all later ones read.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// The oldest version that is read; what came before was never settled.
pub(crate) const OLDEST_FORMAT_VERSION: u32 = 1;

/// Largest sequence, generation and segment number that a file may name: sums of it and a count do not run over. No table
/// comes near: a billion numbers a second reach it after 146 years.
pub(crate) const MAX_NUMBER: u64 = 1 << 62;

/// Longest id and longest dim, in bytes.
pub const MAX_KEY_BYTES: usize = 64 << 10;
/// Longest label, in bytes.
pub const MAX_LABEL_BYTES: usize = 16 << 20;
/// Largest event: the bytes of its strings and numbers.
pub const MAX_EVENT_BYTES: usize = 32 << 20;
/// Largest batch: the bytes of its events.
pub const MAX_BATCH_BYTES: usize = 256 << 20;
