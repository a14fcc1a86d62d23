//! Pruning: taking the oldest generations out of the archive, and exporting them before.
//!
//! What is pruned is gone, so it is never done unasked. In one turn:
//! 1. Every snapshot in `views/` must fit the log and be about a later generation than the last one that goes: its view never needs
//!    what is pruned. Those of the log's own views must be readable as their states.
//! 2. Of each the log is synced, which it may be ahead of, and a copy is put in place as the view's [base](crate::base), durably, and read
//!    back. From the commit on it is what the view can always go on from.
//! 3. The index is renamed out of the readers' sight, durably.
//! 4. A new archive is written beside the old one, and synced: a skippable frame that says how much is gone, and the frames that stay.
//! 5. It is put in place, durably. **This is the commit.**
//! 6. The index is made anew of what the former one knew, and checkpoints of pruned history are removed.
//!
//! A crash leaves the archive as before or as after. Generations and sequences go on counting what is gone, so no position and no
//! number of what stays changes.

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use keplordb_disk::{DiskFile, put_in_place};
use serde::de::IgnoredAny;

use crate::base;
use crate::error::{FoldError, at};
use crate::frames::{Archive, Frame, FrameText, Pruned};
use crate::history::History;
use crate::index;
use crate::kept::continues;
use crate::log::EventLog;
use crate::position::Position;
use crate::reader::EventReader;
use crate::snapshot::{self, Found, Progress};
use crate::verify::files_of_views;
use crate::view::ViewOps;
use crate::writer::EventWriter;

/// How much is read or decoded at once.
const READ_BYTES: usize = 1 << 20;

/// What [`EventLog::prune`] took out of the archive, or [`EventReader::export`] copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Portion {
    /// Which generations.
    pub generations: Range<u64>,
    /// The sequences of their events.
    pub events: Range<u64>,
    /// How many bytes: of the archive that went, or that were written to the target.
    pub bytes: u64,
}

/// In what form [`EventReader::export`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExportFormat {
    /// Frames as the archive has them. `zstd -d` reads such a file, and as `archive.jsonl.zst` beside an empty `app.jsonl` it is a log.
    #[default]
    Zstd,
    /// Lines of JSON.
    Lines,
}

impl EventLog {
    /// Removes from the archive the generations all of whose events have a sequence below `before`: for good, so
    /// [export](EventReader::export) them first if they may be wanted. What stays keeps its sequences and positions; the active log is
    /// never pruned, so [`rotate`](Self::rotate) before if its events are to go too.
    ///
    /// The views of this log are refreshed and saved before, and of every view in `views/` its state is kept as `<name>.base.json`. After
    /// pruning, these are no caches any longer: **what the pruned events came to is nowhere else**. A view whose snapshot is lost, or
    /// ahead of what a power cut left of the log, goes on from its base; one that has neither, or whose reducer has got another
    /// version, cannot be computed from the first event on, and says so by [`FoldError::Pruned`]. So back `views/` up with the log.
    ///
    /// Durable when this returns. Cost: writes what stays of the archive anew, which needs as much room beside it, and each view's state;
    /// frames that the index does not know are decoded.
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog, ExportFormat};
    /// use serde_json::json;
    ///
    /// let mut log = EventLog::builder(dir.path()).view::<u64>("count", |count, _| count + 1).open()?;
    /// for n in 0..3 {
    ///     log.append(&Event::new("tick", json!(n)))?;
    ///     log.rotate()?;
    /// }
    /// let mut lines = Vec::new();
    /// let exported = log.reader().export(2, ExportFormat::Lines, &mut lines)?;
    /// assert_eq!(lines.split(|byte| *byte == b'\n').count(), 3); // two lines, and what is behind the last newline
    ///
    /// let pruned = log.prune(exported.events.end)?; // what went out, whatever was archived meanwhile
    /// assert_eq!(pruned.events, 0..2);
    /// assert!(log.views_dir().join("count.base.json").exists());
    /// assert_eq!(log.read_full()?.count(), 1);
    /// assert_eq!(*log.view::<u64>("count")?, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`FoldError::NotFolded`] if a snapshot in `views/`, also of a view that this log does not have, does not fit the log or is not
    /// past what would go, [`FoldError::NotReadable`] if one of this log's views could not be read again: nothing is pruned then. `InvalidData` if
    /// the archive or a line is damaged; else what a file operation says: the archive is then as before, unless it was the last sync
    /// of the directory that failed. Then it is pruned, and a power cut may bring the old one back.
    ///
    /// # Panics
    /// If a view's reducer does.
    pub fn prune(&mut self, before: u64) -> io::Result<Portion> {
        let (writer, reader, views) = self.parts_mut();
        prune(writer, reader.history(), views, before)
    }
}

impl EventReader {
    /// Writes the archived generations to `target` all of whose events have a sequence below `before`: those that
    /// [`EventLog::prune`] would remove. Each is decoded and held against its checksum before its end is written.
    ///
    /// The target is not flushed or synced; a file that is to outlive the pruning must be.
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use keplordb_fold::{Event, EventLog, ExportFormat};
    /// use serde_json::json;
    ///
    /// let mut log = EventLog::open(dir.path())?;
    /// log.append(&Event::new("tick", json!(1)))?;
    /// log.rotate()?;
    /// let mut file = std::fs::File::create(dir.path().join("2024.jsonl.zst"))?;
    /// let exported = log.reader().export(log.reader().len()?, ExportFormat::Zstd, &mut file)?;
    /// file.sync_all()?;
    /// assert_eq!(exported.events, 0..1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` without an active log, `InvalidData` if the archive is damaged, else what reading or the target says. What was written
    /// until then is then there.
    pub fn export(&self, before: u64, format: ExportFormat, target: &mut impl Write) -> io::Result<Portion> {
        let history = self.history();
        let mut portion = portion(history, before)?;
        if portion.generations.is_empty() {
            return Ok(portion);
        }
        let (archive, frames) = history.frames(portion.generations.clone())?;
        let mut written = 0;
        let mut put = |bytes: &[u8]| {
            written += bytes.len() as u64;
            target.write_all(bytes)
        };
        for frame in frames {
            let mut decoded = FrameText::new(&archive, frame)?;
            let (mut text, mut last) = (Vec::new(), b'\n');
            while decoded.read(&mut text, READ_BYTES)? > 0 {
                last = text.last().copied().unwrap_or(last);
                if format == ExportFormat::Lines {
                    put(&text)?;
                }
                text.clear();
            }
            match format {
                ExportFormat::Lines if last != b'\n' => put(b"\n")?,
                ExportFormat::Lines => {}
                ExportFormat::Zstd => copy(&archive, frame.at..frame.end(), &mut put)?,
            }
        }
        portion.bytes = written;
        Ok(portion)
    }
}

/// The archived generations whose events are all below this sequence.
fn portion(history: &History, before: u64) -> io::Result<Portion> {
    let present = history.present()?;
    let (mut generation, mut sequence) = (present.first_generation, present.first_sequence);
    while generation < present.generation {
        let behind = sequence + history.facts(generation)?.events;
        if behind > before {
            break;
        }
        (generation, sequence) = (generation + 1, behind);
    }
    Ok(Portion {
        generations: present.first_generation..generation,
        events: present.first_sequence..sequence,
        bytes: 0,
    })
}

/// Prunes a log of these views.
pub(crate) fn prune(
    writer: &mut EventWriter,
    history: &History,
    views: &mut HashMap<String, Box<dyn ViewOps>>,
    before: u64,
) -> io::Result<Portion> {
    crate::views::refresh_all(history, views.values_mut())?;
    writer.in_turn(|active| {
        let present = history.present()?;
        let end = match present.generation.checked_sub(1) {
            Some(generation) if generation >= present.first_generation => {
                Position { generation, offset: history.facts(generation)?.text_bytes }
            }
            _ => return portion(history, before),
        };
        // So that a snapshot that stands at the end of an archived generation is of the next one.
        for view in views.values_mut() {
            view.rotated(end)?;
        }
        let mut portion = portion(history, before)?;
        if !portion.generations.is_empty() {
            let outdated = keep_bases(history, views, portion.generations.end, &mut || active.sync())?;
            portion.bytes = replace_archive(history, &portion)?;
            remove_checkpoints(history, outdated);
        }
        Ok(portion)
    })
}

/// Steps 1 and 2. Returns the checkpoints of generations below `keep`.
fn keep_bases(
    history: &History,
    views: &HashMap<String, Box<dyn ViewOps>>,
    keep: u64,
    sync_log: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<Vec<PathBuf>> {
    let (disk, paths) = (history.disk().as_ref(), history.paths());
    let present = history.present()?;
    // What a file says, if a view that goes on from it needs no generation below `keep`.
    let past = |path: &Path| -> io::Result<Option<Vec<u8>>> {
        let Some(contents) = snapshot::read(disk, path)? else { return Ok(None) };
        Ok(progress_of(&contents).filter(|progress| progress.position.generation >= keep).map(|_| contents))
    };
    // The same, if it also goes on in this log.
    let fitting = |path: &Path| -> io::Result<Vec<u8>> {
        if let Some(contents) = past(path)?
            && let Some(progress) = progress_of(&contents)
            && continues(history, &present, &progress)?
        {
            return Ok(contents);
        }
        Err(FoldError::NotFolded { file: path.to_owned() }.into())
    };
    let (mut snapshots, mut outdated) = (Vec::new(), Vec::new());
    for (path, is_checkpoint) in files_of_views(disk, paths)? {
        let Some(other) = base::other(&path).filter(|_| !is_checkpoint) else {
            if past(&path)?.is_none() {
                outdated.push(path);
            }
            continue;
        };
        if !base::is_base(&path) {
            fitting(&path)?;
            snapshots.push((path, other));
        } else if snapshot::read(disk, &other)?.is_none() {
            // Without a snapshot it is all that there is of its view.
            fitting(&path)?;
        }
    }
    for view in views.values() {
        let path = base::snapshot_of(&paths.views, view.view_name());
        if !snapshot::read(disk, &path)?.is_some_and(|contents| view.can_read(&contents)) {
            return Err(FoldError::NotReadable { file: path }.into());
        }
    }
    for (path, base) in snapshots {
        // Its view may be of another process, and save at any time. So first it is read, and then synced whatever it can be about.
        let contents = fitting(&path)?;
        sync_log()?;
        base::keep(disk, &base, &contents)?;
    }
    Ok(outdated)
}

fn progress_of(contents: &[u8]) -> Option<Progress> {
    match snapshot::decode::<IgnoredAny>(contents) {
        Found::Whole(stored) => Some(stored.progress),
        Found::Plain(_) | Found::Nothing(_) => None,
    }
}

/// Steps 3 to 6. Returns how many bytes of the archive went.
fn replace_archive(history: &History, portion: &Portion) -> io::Result<u64> {
    let (disk, paths) = (history.disk().as_ref(), history.paths());
    let (archive, frames) = history.frames(portion.generations.clone())?;
    let kept = frames.last().map_or(0, Frame::end)..history.present()?.archive_bytes;
    let head = Pruned { generations: portion.generations.end, events: portion.events.end }.to_frame()?;
    let write = |target: &dyn DiskFile| {
        target.write_at(&head, 0)?;
        let mut end = head.len() as u64;
        copy(&archive, kept.clone(), &mut |piece| {
            target.write_at(piece, end)?;
            end += piece.len() as u64;
            Ok(())
        })
    };
    index::hide(disk, paths)?;
    let replaced = put_in_place(disk, &paths.archive, write)
        .and_then(|()| disk.sync_dir(&paths.dir))
        .map_err(at("write", &paths.archive));
    history.renew_index();
    replaced?;
    Ok(frames.iter().map(|Frame { bytes, .. }| bytes).sum())
}

fn remove_checkpoints(history: &History, outdated: Vec<PathBuf>) {
    for path in outdated {
        if let Err(error) = history.disk().remove(&path) {
            tracing::warn!(%error, file = %path.display(), "a checkpoint of pruned history was not removed");
        }
    }
}

fn copy(
    archive: &Archive,
    range: Range<u64>,
    put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut from = range.start;
    while from < range.end {
        let piece = archive.read(from, (READ_BYTES as u64).min(range.end - from))?;
        if piece.is_empty() {
            return Err(archive.damaged(from, "it became shorter while it was copied"));
        }
        put(&piece)?;
        from += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
