//! Where things are in a server's root.
//!
//! ```text
//! root/
//!   _meta/schemas/000001.proto   the versions of the custom schema
//!   _meta/keys.json              the keys, as hashes
//!   segments/                    the log: a table of the engine, and the only truth
//!   _meta/manifest-7.json        what is published, and up to which event
//!   lake/                        Parquet files, made from the log
//!   .gen/7/, .live               second names of those that are published, and the link to the directory of the newest
//!   _events, _current, _versions what other programs read: links to those of them that are published
//!   tables/users/current         likewise the live users, with a column for each field of the schema; a link too
//! ```

use std::path::{Path, PathBuf};

/// Whether a directory is a server's root.
pub fn is_root(dir: &Path) -> bool {
    meta(dir).is_dir()
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

/// The engine's lock on the log, which is the server's on the root; docs/format.md has it.
pub(crate) fn log_lock(root: &Path) -> PathBuf {
    segments(root).join("LOCK")
}
