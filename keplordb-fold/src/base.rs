//! Bases: `views/<name>.base.json`, what a view's state was when history was last pruned.
//!
//! What the pruned events came to is in the states of the views and nowhere else. A view's snapshot may be ahead of what of the log is
//! durable, and a power cut, or damage, then makes it one that fits no longer. So pruning leaves a copy of it whose events are all
//! synced; a view goes on from there where its snapshot cannot be used, and nothing but the next pruning replaces it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use keplordb_disk::Disk;
use serde::de::IgnoredAny;

use crate::error::{FoldError, at};
use crate::snapshot::{self, Found};

const SNAPSHOT: &str = ".snapshot.json";
const BASE: &str = ".base.json";

/// Where the view of that name has its base.
pub(crate) fn path_of(views_dir: &Path, name: &str) -> PathBuf {
    views_dir.join(format!("{name}{BASE}"))
}

/// Where that view has its snapshot.
pub(crate) fn snapshot_of(views_dir: &Path, name: &str) -> PathBuf {
    views_dir.join(format!("{name}{SNAPSHOT}"))
}

/// The other one of the two files that a view's state may be in: the base of a snapshot, the snapshot of a base. `None` for what is
/// neither.
pub(crate) fn other(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let other = match (name.strip_suffix(SNAPSHOT), name.strip_suffix(BASE)) {
        (Some(view), _) => format!("{view}{BASE}"),
        (None, Some(view)) => format!("{view}{SNAPSHOT}"),
        (None, None) => return None,
    };
    Some(path.with_file_name(other))
}

/// Whether a file of this name is a base.
pub(crate) fn is_base(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(BASE))
}

/// Puts a base in place, durably, and reads it back.
pub(crate) fn keep(disk: &dyn Disk, path: &Path, contents: &[u8]) -> io::Result<()> {
    snapshot::write(disk, path, contents)?;
    if snapshot::read(disk, path)?.as_deref() == Some(contents) {
        return Ok(());
    }
    let what = "it is not what was just written to it".to_owned();
    Err(at("keep", path)(FoldError::Damaged { file: path.to_owned(), offset: 0, what }.into()))
}

/// Whether a view's file may go though history was pruned: its view can go on from the other one, which is none of the `doubtful`.
/// Checkpoints may always go, and what was changed since it was written is of no use.
pub(crate) fn is_spare(disk: &dyn Disk, path: &Path, doubtful: &BTreeSet<PathBuf>) -> io::Result<bool> {
    let reducer_of = |path: &Path| {
        let contents = snapshot::read(disk, path)?;
        Ok::<_, io::Error>(match contents.map(|contents| snapshot::decode::<IgnoredAny>(&contents)) {
            Some(Found::Whole(stored)) => Some(stored.reducer),
            _ => None,
        })
    };
    let (Some(other), Some(reducer)) = (other(path), reducer_of(path)?) else { return Ok(true) };
    Ok(!doubtful.contains(&other) && reducer_of(&other)? == Some(reducer))
}

/// Whether this is the snapshot of a view that has no base: it began behind what was pruned, and can do so again.
pub(crate) fn is_alone(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let Some(base) = other(path).filter(|other| is_base(other)) else { return Ok(false) };
    Ok(disk.bytes(&base).map_err(at("look for", &base))?.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_and_its_snapshot_lead_to_each_other() {
        let (snapshot, base) = (Path::new("views/a.base.snapshot.json"), Path::new("views/a.base.base.json"));
        assert_eq!(other(snapshot).as_deref(), Some(base));
        assert_eq!(other(base).as_deref(), Some(snapshot));
        assert_eq!(path_of(Path::new("views"), "a.base"), base);
        for stranger in ["views/a.at-7.json", "views/base.json", "views/a.snapshot.json.tmp"] {
            assert_eq!(other(Path::new(stranger)), None);
        }
        assert!(is_base(base) && !is_base(snapshot));
        assert_eq!(snapshot_of(Path::new("views"), "a.base"), snapshot);
    }
}
