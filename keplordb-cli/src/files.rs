//! How much the files of a table take.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

/// Files of one ending in a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Files {
    /// The logs of a table.
    pub(crate) fn logs(dir: &Path) -> Result<Self> {
        Self::of(&dir.join("wal"), "kwal")
    }

    /// Of a folder; one that is missing has none.
    fn of(folder: &Path, ending: &str) -> Result<Self> {
        let mut files = Self::default();
        let failed = || format!("{} cannot be listed", folder.display());
        let entries = match folder.read_dir() {
            Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(files),
            entries => entries.with_context(failed)?,
        };
        for entry in entries {
            let entry = entry.with_context(failed)?;
            if entry.path().extension().is_some_and(|found| found == ending) {
                match entry.metadata() {
                    Ok(metadata) => {
                        files.files += 1;
                        files.bytes += metadata.len();
                    }
                    // A writer has replaced it meanwhile.
                    Err(gone) if gone.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error).with_context(failed),
                }
            }
        }
        Ok(files)
    }
}
