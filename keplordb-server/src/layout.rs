//! Where things are in a server's root.
//!
//! ```text
//! root/
//!   _meta/schemas/000001.proto   the versions of the custom schema
//!   segments/                    the log: a table of the engine, and the only truth
//! ```

use std::path::{Path, PathBuf};

/// Whether a directory is a server's root.
pub fn is_root(dir: &Path) -> bool {
    dir.join("_meta").is_dir()
}

pub(crate) fn schemas(root: &Path) -> PathBuf {
    root.join("_meta").join("schemas")
}

pub(crate) fn segments(root: &Path) -> PathBuf {
    root.join("segments")
}
