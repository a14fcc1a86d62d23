//! Checkpoints: the files of a view's past states, `<name>.at-<sequence>.json`, in the form of snapshots.
//!
//! They are caches, and written without a sync: what a crash leaves of one has no checksum that fits, and is passed over.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use keplordb_disk::Disk;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::error::at;
use crate::snapshot::{self, Found, Stored};

/// The latest time of events that were folded by a program that did not note it: later than any.
pub(crate) const UNKNOWN_TS: u64 = u64::MAX;

/// At the end of a file, what is sure to hold the keys behind the sequence: they have at most 130 bytes.
const PEEKED_BYTES: usize = 256;

/// Writes a checkpoint, and removes those that are not at a multiple of `distance`, if that has grown. A failure takes nothing but
/// time later, so it is only told to the program's log.
pub(crate) fn keep(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    sequence: u64,
    contents: impl FnOnce() -> io::Result<Vec<u8>>,
    distance: Option<u64>,
) {
    let thin_out = |distance| {
        for (sequence, path) in list(disk, dir, name)? {
            if !u64::is_multiple_of(sequence, distance) {
                remove(disk, &path)?;
            }
        }
        Ok(())
    };
    let done = distance.map_or(Ok(()), thin_out).and_then(|()| {
        let path = path_of(dir, name, sequence);
        if distance.is_some_and(|distance| !sequence.is_multiple_of(distance)) {
            return Ok(());
        }
        let contents = contents()?;
        remove(disk, &path)?;
        let file = disk.create(&path).map_err(at("create the checkpoint", &path))?;
        file.write_at(&contents, 0).map_err(at("write the checkpoint", &path))
    });
    if let Err(error) = done {
        warn!("the view {name:?} has no checkpoint at event {sequence}: {error}");
    }
}

/// The checkpoints of a view by their sequences, the oldest first.
pub(crate) fn list(disk: &dyn Disk, dir: &Path, name: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match disk.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at("list", dir))?,
    };
    let sequence_of = |file: &str| {
        let sequence = file.strip_prefix(name)?.strip_prefix(".at-")?.strip_suffix(".json")?;
        sequence.bytes().all(|byte| byte.is_ascii_digit()).then(|| sequence.parse().ok())?
    };
    let mut found: Vec<_> = entries
        .into_iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| Some((sequence_of(&entry.name)?, dir.join(&entry.name))))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// The state of a checkpoint, if it is what its name says, unchanged, and by this version of the reducer.
pub(crate) fn read<S: DeserializeOwned>(
    disk: &dyn Disk,
    path: &Path,
    sequence: u64,
    version: u64,
) -> Option<Stored<S>> {
    match snapshot::decode(&snapshot::read(disk, path).ok()??) {
        Found::Whole(stored) if stored.progress.sequence == sequence && stored.reducer == version => {
            Some(stored)
        }
        _ => None,
    }
}

/// What a checkpoint says of the latest time in it, by its last lines alone: only to find the one to read.
pub(crate) fn peek_max_ts(disk: &dyn Disk, path: &Path) -> Option<u64> {
    let file = disk.open_read(path).ok()?;
    let mut end = [0; PEEKED_BYTES];
    let read = file.read_at(&mut end, file.bytes().ok()?.saturating_sub(PEEKED_BYTES as u64)).ok()?;
    let end = end.get(..read)?;
    let key = b"\"max_ts\": ";
    let value = end.get(memchr::memmem::rfind(end, key)? + key.len()..)?;
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(value.get(..digits)?).ok()?.parse().ok()
}

/// Removes all checkpoints of a view.
pub(crate) fn delete_all(disk: &dyn Disk, dir: &Path, name: &str) -> io::Result<()> {
    list(disk, dir, name)?.into_iter().try_for_each(|(_, path)| remove(disk, &path))
}

fn path_of(dir: &Path, name: &str, sequence: u64) -> PathBuf {
    dir.join(format!("{name}.at-{sequence}.json"))
}

fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at("remove the checkpoint", path)(error)),
        _ => Ok(()),
    }
}
