//! What an open found.

use std::path::PathBuf;

use super::quarantine::Quarantined;

/// What [`Engine::open_report`](crate::Engine::open_report) says about how the directory was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// Whether the directory was new.
    pub created: bool,
    /// Whether the directory is a copy of another one, perhaps taken while an engine wrote that; a lost or restored `LOCK` says
    /// so too. What was synced when the copy began is there; `torn_tails` and `missing_logs` say what else it may lack. This
    /// open has made an original of it.
    pub is_copy: bool,
    /// Rows that were read back from WALs into memory.
    pub replayed_rows: u64,
    /// Logs that had lost their end. In an original a crash had torn it: none of these bytes was ever synced. In a copy they
    /// may have been synced after the copy began.
    pub torn_tails: Vec<TornTail>,
    /// Only of a copy: logs that its manifest knows of and that were not copied, because they were made after the copy had
    /// listed their directory: what they hold was written after the copy began. Or they were removed before the copy, which
    /// took longer than [`unlink_grace`](crate::Options::unlink_grace), came by: then rows are missing.
    pub missing_logs: Vec<PathBuf>,
    /// Files that a crash had left behind, or that were replaced and not yet unlinked; they were removed.
    pub leftovers_removed: u64,
    /// Damaged and missing files that were set aside, if [`Options::on_corruption`](crate::Options::on_corruption) says so; and, whatever it
    /// says, segments with rows that are nowhere else and tombstone logs, of which the manifest does not know because somebody has put
    /// an older one in its place; or, of a plain copy, because they were written after it began. [`Quarantined::what`] says which it is, and
    /// how rows come back. When the process dies within the open, this list is lost, and the files are in `quarantine/`.
    pub quarantined: Vec<Quarantined>,
    /// Why the manifest was rebuilt from the other files, if it was.
    pub manifest_rebuilt: Option<String>,
}

/// A log's end that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// The file.
    pub file: PathBuf,
    /// Where it was cut, in bytes.
    pub offset: u64,
    /// How many bytes were cut off; 0 where a copy has none of the end that its manifest knows of.
    pub bytes: u64,
}
