//! Rotation: the text of the active log becomes a frame of the archive, and the log begins anew.
//!
//! All in one turn:
//! 1. The views are refreshed, the end of the log is mended, and the log is read and synced: a power cut must not shorten what the
//!    journal vouches for.
//! 2. `rotation.journal` is put in place, durably. From here on the archive's length from before is what counts of it.
//! 3. The frame is appended to the archive and synced, with the archive's name if it is new.
//! 4. The log must be as long as it was read; if others appended, all is undone and begun again.
//! 5. The log is cut to nothing and synced. **This is the commit**: from here on all of the archive counts.
//! 6. The journal is removed, durably. The index gets its line, the views go on with the next generation.
//!
//! A crash before step 5 is undone by the next writer, one behind it is finished: [`recovery`]. Which of both
//! it is, is told by the log's length, for readers too.

use std::collections::HashMap;
use std::io;

use keplordb_disk::{Disk, DiskFile};

use crate::active::Active;
use crate::append::Version;
use crate::error::at;
use crate::frames::compress;
use crate::hash::line_hash;
use crate::history::History;
use crate::journal::Journal;
use crate::lines::without_newline;
use crate::paths::Paths;
use crate::position::Position;
use crate::recovery;
use crate::view::ViewOps;
use crate::views::refresh_all;

/// How often it is begun again because other programs appended meanwhile.
const TRIES: usize = 3;

/// Rotates. Returns the version that the log had if it was emptied, and how all of it ended.
pub(crate) fn rotate(
    active: &mut Active,
    history: &History,
    views: &mut HashMap<String, Box<dyn ViewOps>>,
) -> (Option<Version>, io::Result<()>) {
    let turn = match active.turn() {
        Ok(turn) => turn,
        Err(error) => return (None, Err(error)),
    };
    let moved = move_log(active, history, views);
    drop(turn);
    let version = match moved {
        Ok(Some(version)) => version,
        Ok(None) => return (None, Ok(())),
        Err(error) => return (None, Err(error)),
    };
    // All of them, also behind one that fails: a view that stays behind would have to look for its place in the archive.
    let outcomes: Vec<_> = views.values_mut().map(|view| view.rotated(version.end)).collect();
    (Some(version), outcomes.into_iter().collect())
}

/// Steps 1 to 6, but for the views' last. `None` if there was nothing to move.
fn move_log(
    active: &mut Active,
    history: &History,
    views: &mut HashMap<String, Box<dyn ViewOps>>,
) -> io::Result<Option<Version>> {
    let paths = std::sync::Arc::clone(active.paths());
    let disk = std::sync::Arc::clone(active.history().disk());
    active.look()?;
    active.end_rotation()?;
    for _ in 0..TRIES {
        refresh_all(history, views.values_mut())?;
        active.look()?;
        let text = read_log(active.file(), &paths, active.end())?;
        if text.is_empty() {
            return Ok(None);
        }
        // Also what others appended, or mending did, is durable from here on.
        active.sync()?;
        let generation = active.history().present()?.generation;
        let archive_bytes = disk.bytes(&paths.archive).map_err(at("look for", &paths.archive))?.unwrap_or(0);
        let journal =
            Journal { archive_bytes, log_bytes: text.len() as u64, log_hash: line_hash(&text), generation };
        let frame = compress(&text).map_err(at("compress", &paths.log))?;
        let archived = journal
            .write(disk.as_ref(), &paths)
            .and_then(|()| append_frame(disk.as_ref(), &paths, &frame, archive_bytes))
            .and_then(|()| Ok(active.bytes()? == journal.log_bytes));
        match archived {
            Ok(true) => {}
            Ok(false) => {
                undo(disk.as_ref(), &paths, archive_bytes)?;
                continue;
            }
            Err(error) => {
                // What cannot be undone now is undone before the next rotation or by the next writer; until then the journal says
                // that it does not count.
                if let Err(error) = undo(disk.as_ref(), &paths, archive_bytes) {
                    tracing::warn!(%error, "a rotation that failed is not undone yet");
                }
                return Err(error);
            }
        }
        active.empty()?;
        if let Err(error) = Journal::remove(disk.as_ref(), &paths) {
            // If the journal came back beside a log that has grown, all of the new log would be taken for the old one.
            tracing::warn!(%error, "a rotation is done, and its journal was not removed");
            return Err(active.poison());
        }
        active.history().note_archived(generation, archive_bytes, frame.len() as u64, &text);
        let end = Position { generation, offset: text.len() as u64 };
        return Ok(Some(Version { end, hash: last_hash(&text) }));
    }
    let busy = io::Error::new(io::ErrorKind::ResourceBusy, "other programs append to it without pause");
    Err(at("rotate", &paths.log)(busy))
}

/// Step 3.
fn append_frame(disk: &dyn Disk, paths: &Paths, frame: &[u8], archive_bytes: u64) -> io::Result<()> {
    let path = &paths.archive;
    let (file, is_new) = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (disk.create(path), true),
        opened => (opened, false),
    };
    let file = file.map_err(at("open", path))?;
    file.write_at(frame, archive_bytes).map_err(at("write", path))?;
    file.sync().map_err(at("sync", path))?;
    if is_new { disk.sync_dir(&paths.dir).map_err(at("sync", &paths.dir)) } else { Ok(()) }
}

fn undo(disk: &dyn Disk, paths: &Paths, archive_bytes: u64) -> io::Result<()> {
    recovery::cut_back(disk, paths, archive_bytes)?;
    match disk.bytes(&paths.journal).map_err(at("look for", &paths.journal))? {
        Some(_) => Journal::remove(disk, paths),
        None => Ok(()),
    }
}

fn read_log(file: &dyn DiskFile, paths: &Paths, bytes: u64) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut text = Vec::new();
    text.try_reserve_exact(bytes)?;
    text.resize(bytes, 0);
    let read = file.read_at(&mut text, 0).map_err(at("read", &paths.log))?;
    text.truncate(read);
    Ok(text)
}

/// The hash of the last line, of a text that ends with its newline.
fn last_hash(text: &[u8]) -> String {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let begin = memchr::memrchr(b'\n', line).map_or(0, |newline| newline + 1);
    line_hash(without_newline(line.get(begin..).unwrap_or_default()))
}
