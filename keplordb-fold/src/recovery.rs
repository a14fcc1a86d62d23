//! What a writer does about what others left half done: a rotation that a crash ended, and an archive whose last frame is torn.
//!
//! It never compares the log with the archive's frames: what a rotation had come to is told by its journal, and where there is none
//! each file is what it is.

use std::collections::BTreeSet;
use std::io;

use keplordb_disk::{Disk, DiskFile};
use serde::de::IgnoredAny;
use xxhash_rust::xxh64::Xxh64;

use crate::aside::{copy_aside, set_aside};
use crate::base;
use crate::error::at;
use crate::history::History;
use crate::journal::Journal;
use crate::paths::Paths;
use crate::snapshot::{self, Found};
use crate::verify::files_of_views;

/// How much of the log is read at once.
const READ_BYTES: u64 = 256 << 10;

/// Ends a rotation that another writer did not: forward if the log was already cut, else back. Returns whether it was forward.
pub(crate) fn end_rotation(disk: &dyn Disk, paths: &Paths, log: &dyn DiskFile) -> io::Result<bool> {
    let Some(journal) = Journal::read(disk, paths)? else { return Ok(false) };
    let is_cut = is_cut(&journal, log, paths)?;
    if is_cut {
        // The cut may be known to this process only.
        log.sync().map_err(at("sync", &paths.log))?;
    } else {
        cut_back(disk, paths, journal.archive_bytes)?;
    }
    Journal::remove(disk, paths)?;
    tracing::warn!(dir = %paths.dir.display(), generation = journal.generation, "ended a rotation that was interrupted");
    Ok(is_cut)
}

/// Cuts the archive back to its first bytes, durably; of none, it is removed.
///
/// One that has no more is synced all the same: who cut it may not have come so far, and without the journal, which is removed next,
/// a frame that a power cut brings back would count.
pub(crate) fn cut_back(disk: &dyn Disk, paths: &Paths, archive_bytes: u64) -> io::Result<()> {
    let path = &paths.archive;
    let bytes = disk.bytes(path).map_err(at("look for", path))?;
    match bytes {
        Some(_) if archive_bytes == 0 => disk.remove(path).map_err(at("remove", path))?,
        Some(bytes) => {
            let file = disk.open(path).map_err(at("open", path))?;
            if bytes > archive_bytes {
                file.truncate(archive_bytes).map_err(at("cut", path))?;
            }
            return file.sync().map_err(at("sync", path));
        }
        None => {}
    }
    disk.sync_dir(&paths.dir).map_err(at("sync", &paths.dir))
}

/// Sets the archive's last frame aside if it is torn: another program was stopped while it wrote it, without a journal, and has its
/// text in the log.
pub(crate) fn mend_archive(history: &History) -> io::Result<()> {
    let (disk, paths) = (history.disk().as_ref(), history.paths());
    // Damage that is no torn end is for readers to tell: whoever only appends can go on.
    let Ok(Some(from)) = history.torn_frame() else { return Ok(()) };
    let path = &paths.archive;
    let file = disk.open(path).map_err(at("open", path))?;
    let end = file.bytes().map_err(at("read", path))?;
    set_aside(disk, paths, (file.as_ref(), "archive.jsonl.zst"), from..end)?;
    cut_back(disk, paths, from)
}

/// Removes what views kept of events behind this place in the active log, which a crash damaged: what was not synced may have been
/// folded, and not be there any more though later events are.
///
/// Where a part of history was pruned, only those go whose views can go on from their [bases](crate::base), or have none: these
/// began behind what was pruned, unless somebody took the base away, so they are copied to `damaged/` before.
pub(crate) fn forget_views(history: &History, damaged: u64) -> io::Result<()> {
    let (disk, paths) = (history.disk().as_ref(), history.paths());
    // An archive that cannot be read is for readers to tell, and views cannot be computed from it either.
    let Ok(present) = history.present() else { return Ok(()) };
    let mut behind = BTreeSet::new();
    for (path, _) in files_of_views(disk, paths)? {
        let Some(contents) = snapshot::read(disk, &path)? else { continue };
        let is_behind = match snapshot::decode::<IgnoredAny>(&contents) {
            Found::Whole(stored) => {
                let position = stored.progress.position;
                position.generation == present.generation && position.offset > damaged
            }
            Found::Plain(plain) => present.generation == 0 && plain.offset > damaged,
            Found::Nothing(_) => false,
        };
        if is_behind {
            behind.insert(path);
        }
    }
    for path in &behind {
        if present.first_generation > 0 && !base::is_spare(disk, path, &behind)? {
            if !base::is_alone(disk, path)? {
                continue;
            }
            copy_aside(disk, paths, path)?;
        }
        tracing::warn!(file = %path.display(), "removed, since a crash took events that it is about");
        disk.remove(path).map_err(at("remove", path))?;
        disk.sync_dir(&paths.views).map_err(at("sync", &paths.views))?;
    }
    Ok(())
}

/// Whether the log was cut. If it is as long as it was, or longer, its beginning tells: the removal of a journal can be lost when
/// its directory could not be synced, and the journal be found again beside a log that has grown.
fn is_cut(journal: &Journal, log: &dyn DiskFile, paths: &Paths) -> io::Result<bool> {
    if journal.is_cut(log.bytes().map_err(at("read", &paths.log))?) {
        return Ok(true);
    }
    let mut hash = Xxh64::new(0);
    let mut from = 0;
    while from < journal.log_bytes {
        let wanted = READ_BYTES.min(journal.log_bytes - from);
        let mut piece = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
        let read = log.read_at(&mut piece, from).map_err(at("read", &paths.log))?;
        if read == 0 {
            return Ok(true);
        }
        hash.update(piece.get(..read).unwrap_or_default());
        from += read as u64;
    }
    Ok(format!("{:016x}", hash.digest()) != journal.log_hash)
}
