//! The names of a log's files.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::FoldError;

/// Longest name of a view, in bytes: what is added to it must fit into the 255 of a file's name.
const MAX_VIEW_NAME_BYTES: usize = 128;

/// The directory of a log, and what is in it. Paths are as the directory was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    pub(crate) dir: PathBuf,
    /// The active log.
    pub(crate) log: PathBuf,
    pub(crate) archive: PathBuf,
    /// A cache of what the archive's frames are.
    pub(crate) index: PathBuf,
    /// There only while a rotation runs, or after one that a crash ended.
    pub(crate) journal: PathBuf,
    pub(crate) views: PathBuf,
    /// What writers take turns by.
    pub(crate) turn: PathBuf,
    /// What the one writer locks where a lock would keep readers from the log.
    pub(crate) lock: PathBuf,
    /// Whether a writer closed, or where it began.
    pub(crate) session: PathBuf,
    /// What recovery and repair set aside.
    pub(crate) damaged: PathBuf,
}

impl Paths {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            log: dir.join("app.jsonl"),
            archive: dir.join("archive.jsonl.zst"),
            index: dir.join("archive.index"),
            journal: dir.join("rotation.journal"),
            views: dir.join("views"),
            turn: dir.join("app.lock"),
            lock: dir.join("app.writer"),
            session: dir.join("app.session"),
            damaged: dir.join("damaged"),
        }
    }
}

/// Refuses names of views that would lead out of their directory, or could not be files everywhere.
pub(crate) fn check_view_name(name: &str) -> io::Result<()> {
    let refuse =
        |why| Err(FoldError::Invalid { what: "the name of a view", value: name.to_owned(), why }.into());
    let allowed = |character: char| character.is_alphanumeric() || "-_. ".contains(character);
    if name.is_empty() || name.len() > MAX_VIEW_NAME_BYTES {
        refuse("it must have 1 to 128 bytes")
    } else if !name.chars().all(allowed) {
        refuse("it may have letters, digits, spaces, '-', '_' and '.'")
    } else if name.starts_with(['.', ' ']) || name.ends_with(['.', ' ']) {
        refuse("it must not begin or end with a dot or a space")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["todos", "todo_stats", "v2.todos", "my view", "größe"] {
            assert!(check_view_name(name).is_ok(), "{name}");
        }
        let long = "x".repeat(MAX_VIEW_NAME_BYTES + 1);
        for name in [
            "",
            "..",
            ".",
            "../escaped",
            "a/b",
            "a\\b",
            "/etc/passwd",
            "a\0b",
            ".hidden",
            "nul:",
            "end.",
            &long,
        ] {
            let error = check_view_name(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }
}
