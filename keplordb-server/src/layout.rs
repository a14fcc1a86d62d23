//! Where things are in a server's root.
//!
//! ```text
//! root/
//!   _meta/schemas/000001.proto   the versions of the custom schema
//!   _meta/keys.json              the keys, as hashes
//!   segments/                    the log: a table of the engine, and the only truth
//! ```

use std::path::{Path, PathBuf};

/// Whether a directory is a server's root.
pub fn is_root(dir: &Path) -> bool {
    dir.join("_meta").is_dir()
}

pub(crate) fn meta(root: &Path) -> PathBuf {
    root.join("_meta")
}

pub(crate) fn schemas(root: &Path) -> PathBuf {
    meta(root).join("schemas")
}

pub(crate) fn keys(root: &Path) -> PathBuf {
    meta(root).join("keys.json")
}

/// The lock of those who change the keys.
pub(crate) fn keys_lock(root: &Path) -> PathBuf {
    meta(root).join("keys.lock")
}

pub(crate) fn segments(root: &Path) -> PathBuf {
    root.join("segments")
}
