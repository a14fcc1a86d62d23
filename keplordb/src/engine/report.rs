//! What an open found.

use std::path::PathBuf;

/// What [`Engine::open_report`](crate::Engine::open_report) says about how the directory was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// Whether the directory was new.
    pub created: bool,
    /// Rows that were read back from WALs into memory.
    pub replayed_rows: u64,
    /// WALs whose last frame a crash had cut: none of these bytes was ever synced.
    pub torn_tails: Vec<TornTail>,
    /// Files that a crash had left behind, or that were replaced and not yet unlinked; they were removed.
    pub leftovers_removed: u64,
    /// Why the manifest was rebuilt from the other files, if it was.
    pub manifest_rebuilt: Option<String>,
}

/// A file's end that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// The file.
    pub file: PathBuf,
    /// Where it was cut, in bytes.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
}
