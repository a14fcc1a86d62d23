//! `repair`: makes a damaged log one that can be read again, and throws nothing away.
//!
//! All under the writer's lock and in one turn:
//! 1. What every writer does when it opens the log: a rotation that a crash ended is finished or undone, and the end of the log mended.
//!    Where the journal is damaged, the archive's last frame goes if its text is what the log begins with.
//! 2. The archive and the log are read, and it is decided what is to be done about which part. Nothing is changed where nothing is wrong.
//! 3. What will be taken out is copied to `damaged/`, durably; the views' files that are about events behind the first change too,
//!    and these are removed, because a view must not go on from a state that its log does not lead to. Where history was pruned the
//!    states are all that is left of it, so there the files stay, and say where in the changed log their views [go on](crate::anchors).
//! 4. A new archive is written beside the old one and synced; the index is renamed out of the readers' sight, durably; the new archive
//!    is put in place, durably.
//! 5. Lines of the log that are no events are overwritten with newlines, and the log is synced.
//! 6. The former index and what crashes left are removed, and the index is made anew.
//!
//! A crash leaves a log that can be repaired to the same: each step finds what is left of its work, and the former index stays until the
//! archive that it knows is gone. No step shortens a text or takes a generation away, so positions stay.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk, DiskFile, RealDisk, put_in_place};
use serde::de::IgnoredAny;

use crate::anchors::{Anchored, Anchors};
use crate::aside::{copy_aside, set_aside};
use crate::base;
use crate::error::{FoldError, at};
use crate::frames::{Archive, Frame, FrameText, Pruned, compress};
use crate::history::History;
use crate::index;
use crate::journal::Journal;
use crate::lines::{LINE_BYTES_MAX, Lines, TOO_LONG, whole_lines_bytes, whole_lines_bytes_behind};
use crate::options::LockMode;
use crate::parts::{Part, Parts, damage_in};
use crate::paths::Paths;
use crate::position::Position;
use crate::reader::EventReader;
use crate::recovery;
use crate::session::Session;
use crate::snapshot::{self, Found};
use crate::tail::{Cause, Tail, is_event};
use crate::turn::{Turns, lock_log, make};
use crate::verify::{ProblemKind, files_of_views};

/// How much is read, decoded or copied at once.
const READ_BYTES: u64 = 1 << 20;

/// How many files are told one by one that something was set aside in; of a log that is nothing but damage the others are only counted.
const SET_ASIDE_MAX: usize = 1000;

/// What the active log and the archive are called in `damaged/`.
const LOG: &str = "app.jsonl";
const ARCHIVE: &str = "archive.jsonl.zst";

/// What [`repair`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Repaired {
    /// How many lines were taken out because they are no events, archived ones included. The lines behind them have a lower
    /// sequence now, by as much.
    pub lines_set_aside: u64,
    /// Generations whose frame could not be decoded as it was written. What could be is in a new frame: the events from its
    /// beginning up to the first block (128 KiB of text at most) that cannot be decoded, or all lines that are events where only the
    /// checksum tells that something was changed.
    pub damaged_generations: Vec<u64>,
    /// Files of views that were set aside, because the events that they are about have changed.
    pub snapshots_set_aside: Vec<PathBuf>,
    /// Files of views that are about events that have changed, and were kept because the beginning of history was pruned, so that no
    /// view could be computed anew. Their states are those from before the repair: what was taken out is still in them.
    pub snapshots_kept: Vec<PathBuf>,
    /// What was taken out: files in `damaged/`, in the order in which they were written; the first 1,000.
    pub set_aside: Vec<PathBuf>,
    /// How many they are.
    pub set_aside_count: u64,
    /// What was removed because it was a crash's leftover, or a cache that said what was not so.
    pub removed: Vec<PathBuf>,
}

impl Repaired {
    /// Whether nothing had to be done.
    pub fn was_sound(&self) -> bool {
        *self == Self::default()
    }
}

/// Makes a damaged log one that can be read again. Everything that is taken out of it is in its directory `damaged/` afterwards.
///
/// - A line that is no event is replaced by newlines, so that all others stay where they are: a [`Position`] leads where it did. (Sequences
///   behind it become lower, as the line is counted no longer.)
/// - A frame of the archive that cannot be decoded, or not to what its checksum says, makes way for one of what can be read of it. The
///   frames behind it keep their generations.
/// - Snapshots and checkpoints that are about events behind the first change are moved to `damaged/`: their views are computed anew,
///   and who wants to know the state from before the damage finds it there. Not so where the beginning of history was
///   [pruned](crate::EventLog::prune): there the states are the only copy of what it came to, so snapshots and bases stay, and their
///   views go on behind what they have folded; the files as they were are copied to `damaged/`.
/// - Caches and journals that are damaged are made anew.
///
/// Without `archive.index`, a last frame whose length is damaged cannot be told from one that another program never finished: it is set
/// aside whole, and the log takes its generation.
///
/// The log is opened first, as by any writer: what that mends behind a crash, or where another program wrote beside a writer, goes
/// to `damaged/` too, and is not counted in what this returns.
///
/// On a log in which nothing is wrong this changes nothing. A crash, or an error, leaves a log that can be repaired again. A look at the
/// damage beforehand is [`EventReader::verify`](crate::EventReader::verify).
///
/// No writer comes between: it has the writers' lock and their turn from the first look to the last step, so that a writer with
/// [`LockMode::Flock`] is refused, and one with [`LockMode::None`] waits, its opening and its appends alike.
///
/// Cost: reads and parses all of history; where the archive is damaged, also writes it anew, which needs as much room beside it. Memory:
/// the longest archived generation, twice if it is damaged.
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::io::Write;
///
/// use keplordb_fold::{Event, EventReader, EventWriter, repair};
/// use serde_json::json;
///
/// let mut writer = EventWriter::open(dir.path())?;
/// writer.append(&Event::new("click", json!({"x": 3})))?;
/// let log = writer.log_path().to_owned();
/// drop(writer);
/// writeln!(std::fs::OpenOptions::new().append(true).open(log)?, "no event")?;
///
/// let reader = EventReader::new(dir.path());
/// assert!(!reader.verify()?.is_sound());
/// let repaired = repair(dir.path())?;
/// assert_eq!(repaired.lines_set_aside, 1);
/// assert_eq!(std::fs::read(&repaired.set_aside[0])?, b"no event\n");
/// assert!(reader.verify()?.is_sound());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `AlreadyExists` with [`FoldError::Locked`](crate::FoldError::Locked) if a writer has the log: close it. `NotFound` if there is no log.
/// `InvalidData` with [`FoldError::PrunedUnknown`](crate::FoldError::PrunedUnknown) if an archive no longer says how much history was pruned
/// from it. Else what a file operation says, a full disk for instance.
pub fn repair(dir: impl AsRef<Path>) -> io::Result<Repaired> {
    repair_on(&(Arc::new(RealDisk) as Arc<dyn Disk>), dir.as_ref())
}

/// As [`repair`], on any disk.
pub(crate) fn repair_on(disk: &Arc<dyn Disk>, dir: &Path) -> io::Result<Repaired> {
    let paths = Arc::new(Paths::new(dir));
    let exists = |path: &Path| Ok::<_, io::Error>(disk.bytes(path).map_err(at("look for", path))?.is_some());
    if !exists(&paths.log)? {
        if !exists(&paths.archive)? {
            return Err(at("find", &paths.log)(io::ErrorKind::NotFound.into()));
        }
        make(disk.as_ref(), &paths.log)?;
        disk.sync_dir(dir).map_err(at("sync", dir))?;
    }
    let _lock = lock_log(disk.as_ref(), &paths)?;
    let turns = Turns::open(disk.as_ref(), &paths, LockMode::Flock)?;
    let _turn = turns.take()?;
    let log = disk.open(&paths.log).map_err(at("open", &paths.log))?;
    let reader = EventReader::with_disk(Arc::clone(disk), dir);
    let mut repair =
        Repair { disk: disk.as_ref(), paths: &paths, log: log.as_ref(), done: Repaired::default() };
    repair.run(reader.history(), &reader)?;
    Ok(repair.done)
}

struct Repair<'a> {
    disk: &'a dyn Disk,
    paths: &'a Paths,
    log: &'a dyn DiskFile,
    done: Repaired,
}

/// What becomes of a part of the archive.
enum Fate {
    /// It is copied.
    Keep(Range<u64>),
    /// It can be decoded, and has lines that are no events.
    Clean(Frame),
    /// What can be decoded of it becomes a frame.
    Salvage(Range<u64>),
    /// It is cut off: its text is in the log.
    Drop(Range<u64>),
}

/// What is to be done about the archive.
struct Plan {
    archive: Archive,
    file: Arc<dyn DiskFile>,
    pruned: Option<Pruned>,
    fates: Vec<Fate>,
    /// The generation that begins behind it.
    behind: u64,
    /// Where views go on, if history was pruned.
    anchors: Option<Anchors>,
}

/// A text in which all that is no event was made newlines.
struct Cleaned {
    text: Vec<u8>,
    lines: u64,
    /// Where the first of them was.
    first: Option<u64>,
}

impl Repair<'_> {
    fn run(&mut self, history: &History, reader: &EventReader) -> io::Result<()> {
        self.end_rotation()?;
        let from = match Session::look(self.disk, self.paths)? {
            Some(unfinished) if unfinished.from <= self.log_bytes()? => (unfinished.from, Cause::Crash),
            Some(_) => (0, Cause::Crash),
            None => (u64::MAX, Cause::Others),
        };
        Tail { disk: self.disk, paths: self.paths, file: self.log }.mend(from.0, from.1)?;

        let mut changed = None;
        let mut plan = self.plan(&mut changed)?;
        let behind = plan.as_ref().map_or(0, |plan| plan.behind);
        let mut anchors = plan.as_mut().and_then(|plan| plan.anchors.take());
        let bad_lines = self.bad_lines(anchors.as_mut())?;
        if let Some(first) = bad_lines.first() {
            changed.get_or_insert(Position { generation: behind, offset: first.start });
        }
        if let Some(changed) = changed {
            self.set_snapshots_aside(changed, anchors.is_some())?;
        }
        self.anchor_snapshots(changed, anchors)?;
        if let Some(plan) = plan.filter(|plan| !plan.fates.iter().all(|fate| matches!(fate, Fate::Keep(_)))) {
            self.replace_archive(&plan)?;
        }
        if !bad_lines.is_empty() {
            for range in bad_lines {
                self.empty(range)?;
            }
            self.log.sync().map_err(at("sync", &self.paths.log))?;
        }
        self.renew_caches(history, reader)
    }

    fn log_bytes(&self) -> io::Result<u64> {
        self.log.bytes().map_err(at("read", &self.paths.log))
    }

    fn set_aside(&mut self, (file, name): (&dyn DiskFile, &str), range: Range<u64>) -> io::Result<()> {
        let kept = set_aside(self.disk, self.paths, (file, name), range)?;
        self.note_aside(kept);
        Ok(())
    }

    fn note_aside(&mut self, kept: PathBuf) {
        self.done.set_aside_count += 1;
        if self.done.set_aside.len() < SET_ASIDE_MAX {
            self.done.set_aside.push(kept);
        }
    }

    /// Step 1 for the journal.
    fn end_rotation(&mut self) -> io::Result<()> {
        let Err(error) = Journal::read(self.disk, self.paths) else {
            return recovery::end_rotation(self.disk, self.paths, self.log).map(drop);
        };
        damage_in(error)?;
        // It was written, so the archive has the frame of a rotation, or a beginning of it, and the log was cut or not. Without the
        // journal only the texts can tell: that of a log that was not cut begins as the frame's.
        if let Some((archive, frames)) = self.walk()?
            && let Some(last) = frames.last()
            && self.is_text_of_log(&archive, *last)?
        {
            recovery::cut_back(self.disk, self.paths, last.at)?;
        }
        let file = self.disk.open_read(&self.paths.journal).map_err(at("open", &self.paths.journal))?;
        let bytes = file.bytes().map_err(at("read", &self.paths.journal))?;
        self.set_aside((file.as_ref(), "rotation.journal"), 0..bytes)?;
        Journal::remove(self.disk, self.paths)
    }

    /// The archive and those of its parts that look like frames.
    fn walk(&self) -> io::Result<Option<(Archive, Vec<Frame>)>> {
        let path = &self.paths.archive;
        let file = match self.disk.open_read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(at("open", path))?,
        };
        let archive = Archive::new(file, path);
        let end = archive.bytes()?;
        let (_, from) = pruned_of(&archive, end)?;
        let mut parts = Parts::new(self.disk, self.paths, &archive, (from, end));
        let mut frames = Vec::new();
        while let Some(part) = parts.next()? {
            match part {
                Part::Frame(frame) => frames.push(frame),
                Part::Damaged(_) => frames.clear(),
            }
        }
        Ok(Some((archive, frames)))
    }

    /// Whether the log begins with the text of this frame.
    fn is_text_of_log(&self, archive: &Archive, frame: Frame) -> io::Result<bool> {
        let (mut decoded, mut text, mut at_byte) = (FrameText::new(archive, frame)?, Vec::new(), 0);
        loop {
            match decoded.read(&mut text, usize::try_from(READ_BYTES).unwrap_or(usize::MAX)) {
                Ok(0) => return Ok(at_byte > 0),
                Ok(_) => {}
                Err(error) => return damage_in(error).map(|_| false),
            }
            let mut present = vec![0; text.len()];
            let read = self.log.read_at(&mut present, at_byte).map_err(at("read", &self.paths.log))?;
            if present.get(..read) != Some(&*text) {
                return Ok(false);
            }
            at_byte += read as u64;
            text.clear();
        }
    }

    /// Step 2 for the archive, and step 3: what will be taken out of it is set aside. `changed` is told where the first change is.
    fn plan(&mut self, changed: &mut Option<Position>) -> io::Result<Option<Plan>> {
        let path = &self.paths.archive;
        let file = match self.disk.open_read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(at("open", path))?,
        };
        let archive = Archive::new(Arc::clone(&file), path);
        let end = archive.bytes()?;
        let (pruned, from) = pruned_of(&archive, end)?;
        let mut parts = Parts::new(self.disk, self.paths, &archive, (from, end));
        let (mut fates, mut generation) = (Vec::new(), pruned.generations);
        let mut anchors = (pruned != Pruned::default())
            .then(|| Anchors::new(self.disk, self.paths, pruned.generations, pruned.events))
            .transpose()?;
        let mut passes = |text: &[u8], is_salvaged| match &mut anchors {
            None => Ok(()),
            Some(anchors) => anchors.text(text, is_salvaged).and_then(|()| anchors.next_generation()),
        };
        while let Some(part) = parts.next()? {
            let damage = match part {
                Part::Frame(frame) => match clean(&archive, frame) {
                    Ok(Cleaned { lines: 0, first: None, text }) => {
                        passes(&text, false)?;
                        fates.push(Fate::Keep(frame.at..frame.end()));
                        generation += 1;
                        continue;
                    }
                    Ok(cleaned) => {
                        passes(&cleaned.text, false)?;
                        self.done.lines_set_aside += cleaned.lines;
                        let offset = cleaned.first.unwrap_or(0);
                        changed.get_or_insert(Position { generation, offset });
                        self.set_aside((file.as_ref(), ARCHIVE), frame.at..frame.end())?;
                        fates.push(Fate::Clean(frame));
                        generation += 1;
                        continue;
                    }
                    Err(error) => parts.damaged(frame, error)?,
                },
                Part::Damaged(damage) => damage,
            };
            self.set_aside((file.as_ref(), ARCHIVE), damage.range.clone())?;
            if damage.is_unfinished {
                fates.push(Fate::Drop(damage.range));
                continue;
            }
            changed.get_or_insert(Position { generation, offset: 0 });
            if pruned != Pruned::default() {
                passes(&clean_text(archive.salvage(damage.range.clone())?, true).text, true)?;
            }
            self.done.damaged_generations.push(generation);
            fates.push(Fate::Salvage(damage.range));
            generation += 1;
        }
        let pruned = (pruned != Pruned::default()).then_some(pruned);
        Ok(Some(Plan { archive, file, pruned, fates, behind: generation, anchors }))
    }

    /// Step 4.
    fn replace_archive(&mut self, plan: &Plan) -> io::Result<()> {
        let Plan { archive, file, pruned, fates, .. } = plan;
        let (disk, dir, path) = (self.disk, &self.paths.dir, &self.paths.archive);
        if let Some((Fate::Drop(range), kept)) = fates.split_last()
            && kept.iter().all(|fate| matches!(fate, Fate::Keep(_)))
        {
            return recovery::cut_back(disk, self.paths, range.start);
        }
        let write = |target: &dyn DiskFile| {
            let mut end = 0;
            let mut put = |bytes: &[u8]| {
                target.write_at(bytes, end)?;
                end += bytes.len() as u64;
                Ok::<_, io::Error>(())
            };
            if let Some(pruned) = pruned {
                put(&pruned.to_frame()?)?;
            }
            for fate in fates {
                match fate {
                    Fate::Keep(range) => copy(file.as_ref(), range.clone(), &mut put)?,
                    Fate::Clean(frame) => put(&compress(&clean(archive, *frame)?.text)?)?,
                    Fate::Salvage(range) => {
                        put(&compress(&clean_text(archive.salvage(range.clone())?, true).text)?)?;
                    }
                    Fate::Drop(_) => {}
                }
            }
            target.sync()?;
            index::hide(disk, self.paths)
        };
        put_in_place(disk, path, write).map_err(at("write", path))?;
        disk.sync_dir(dir).map_err(at("sync", dir))
    }

    /// Step 2 and 3 for the log: its lines that are no events, neighbours joined.
    fn bad_lines(&mut self, mut anchors: Option<&mut Anchors>) -> io::Result<Vec<Range<u64>>> {
        let mut bad: Vec<Range<u64>> = Vec::new();
        let (mut text, mut begin, mut lines) = (Vec::new(), 0, 0);
        let end = self.log_bytes()?;
        let path = &self.paths.log;
        copy(self.log, 0..end, &mut |piece| {
            let before = text.len();
            text.extend_from_slice(piece);
            let rest = text.split_off(whole_lines_bytes_behind(&text, before));
            for line in Lines::new(&text, Position { generation: 0, offset: begin }) {
                if !is_event(line.bytes) {
                    lines += 1;
                    match bad.last_mut() {
                        Some(last) if last.end == line.at.offset => last.end = line.end.offset,
                        _ => bad.push(line.at.offset..line.end.offset),
                    }
                }
            }
            if let Some(anchors) = anchors.as_deref_mut().filter(|anchors| !anchors.is_empty()) {
                let here = bad.iter().filter(|range| range.end > begin);
                let here = here.map(|range| range.start.saturating_sub(begin)..range.end - begin);
                fill(&mut text, here);
                anchors.text(&text, false)?;
            }
            begin += text.len() as u64;
            text = rest;
            Ok(())
        })
        .map_err(at("read", path))?;
        for range in &bad {
            self.set_aside((self.log, LOG), range.clone())?;
        }
        self.done.lines_set_aside += lines;
        Ok(bad)
    }

    /// Step 5, for one range.
    fn empty(&self, range: Range<u64>) -> io::Result<()> {
        let mut from = range.start;
        while from < range.end {
            let bytes = usize::try_from(READ_BYTES.min(range.end - from)).unwrap_or(1);
            self.log.write_at(&vec![b'\n'; bytes], from).map_err(at("write", &self.paths.log))?;
            from += bytes as u64;
        }
        Ok(())
    }

    /// Step 3 for the views' files that are about more than what is before `changed`; if history `is_pruned`, for checkpoints only.
    fn set_snapshots_aside(&mut self, changed: Position, is_pruned: bool) -> io::Result<()> {
        for (path, is_checkpoint) in files_of_views(self.disk, self.paths)? {
            if is_pruned && !is_checkpoint {
                continue;
            }
            let Some(contents) = snapshot::read(self.disk, &path)? else { continue };
            let is_before = match snapshot::decode::<IgnoredAny>(&contents) {
                Found::Whole(stored) => stored.progress.position <= changed,
                Found::Plain(plain) => changed.generation == 0 && plain.offset <= changed.offset,
                Found::Nothing(_) => true,
            };
            if is_before {
                continue;
            }
            self.set_snapshot_aside(&path)?;
        }
        Ok(())
    }

    /// Step 3 for those that stay.
    fn anchor_snapshots(&mut self, changed: Option<Position>, anchors: Option<Anchors>) -> io::Result<()> {
        for Anchored { path, from, contents } in anchors.map(Anchors::end).unwrap_or_default() {
            let is_behind = changed.is_some_and(|changed| from > changed);
            match contents {
                // What a base is about was synced before it was written: if it does not fit, it is the log that has changed.
                Some(contents) if is_behind || base::is_base(&path) => {
                    self.copy_aside(&path)?;
                    snapshot::write(self.disk, &path, &contents)?;
                }
                None if is_behind => {}
                _ => continue,
            }
            self.done.snapshots_kept.push(path);
        }
        Ok(())
    }

    fn copy_aside(&mut self, path: &Path) -> io::Result<()> {
        let kept = copy_aside(self.disk, self.paths, path)?;
        self.note_aside(kept);
        Ok(())
    }

    fn set_snapshot_aside(&mut self, path: &Path) -> io::Result<()> {
        self.copy_aside(path)?;
        self.disk.remove(path).map_err(at("remove", path))?;
        self.disk.sync_dir(&self.paths.views).map_err(at("sync", &self.paths.views))?;
        self.done.snapshots_set_aside.push(path.to_owned());
        Ok(())
    }

    /// Step 6.
    fn renew_caches(&mut self, history: &History, reader: &EventReader) -> io::Result<()> {
        let index = &self.paths.index;
        // What it says is believed where it fits; where readers cannot get along with it, it is in the way.
        if history.present().is_err() && self.disk.bytes(index).map_err(at("look for", index))?.is_some() {
            self.remove(std::slice::from_ref(index))?;
        }
        let verified = reader.verify()?;
        let of_kind = |kind| {
            let concerned = verified.problems.iter().filter(move |problem| problem.kind == kind);
            concerned.map(|problem| problem.file.clone()).collect::<BTreeSet<_>>()
        };
        let snapshots = of_kind(ProblemKind::Snapshot);
        let is_whole = history.present().is_ok_and(|present| present.first_generation == 0);
        for path in &snapshots {
            if is_whole || base::is_spare(self.disk, path, &snapshots)? || base::is_alone(self.disk, path)? {
                self.set_snapshot_aside(path)?;
            }
        }
        self.remove(&of_kind(ProblemKind::Index).into_iter().collect::<Vec<_>>())?;
        if !self.done.was_sound() {
            history.forget_counts();
        }
        history.renew_index();
        self.remove(&verified.leftovers)
    }

    fn remove(&mut self, files: &[PathBuf]) -> io::Result<()> {
        for path in files {
            match self.disk.remove(path) {
                // What the repair itself wrote has taken its place meanwhile.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at("remove", path)(error));
                }
                _ => {}
            }
            let dir = path.parent().unwrap_or(&self.paths.dir);
            self.disk.sync_dir(dir).map_err(at("sync", dir))?;
        }
        self.done.removed.extend_from_slice(files);
        Ok(())
    }
}

/// What was pruned, and where the frames begin.
fn pruned_of(archive: &Archive, end: u64) -> io::Result<(Pruned, u64)> {
    archive.pruned(end).map_err(|error| match damage_in(error) {
        Ok(_) => {
            FoldError::PrunedUnknown { file: archive.path().to_owned(), bytes: archive.head_bytes() }.into()
        }
        Err(error) => error,
    })
}

/// The text of a frame, cleaned.
fn clean(archive: &Archive, frame: Frame) -> io::Result<Cleaned> {
    let (mut decoded, mut text) = (FrameText::new(archive, frame)?, Vec::new());
    let mut line_begin = 0;
    while let read @ 1.. = decoded.read(&mut text, usize::try_from(READ_BYTES).unwrap_or(usize::MAX))? {
        line_begin = whole_lines_bytes_behind(&text, text.len() - read).max(line_begin);
        if text.len() - line_begin > LINE_BYTES_MAX {
            return Err(archive.damaged(frame.at, TOO_LONG));
        }
    }
    Ok(clean_text(text, false))
}

/// Makes newlines of all that is no event. A last line that is an event but for its newline gets it. Of a text whose end `is_missing` what
/// is no whole line at its end goes, as it is no line that ever was.
fn clean_text(mut text: Vec<u8>, is_missing: bool) -> Cleaned {
    let whole = whole_lines_bytes(&text);
    let mut bad: Vec<Range<u64>> = Vec::new();
    let mut first = None;
    if whole < text.len() {
        first = Some(whole as u64);
        if text.get(whole..).is_some_and(is_event) {
            text.push(b'\n');
        } else if is_missing {
            text.truncate(whole);
        } else {
            bad.push(whole as u64..text.len() as u64);
        }
    }
    bad.extend(
        Lines::new(text.get(..whole).unwrap_or_default(), Position::default())
            .filter(|line| !is_event(line.bytes))
            .map(|line| line.at.offset..line.end.offset),
    );
    fill(&mut text, bad.iter().cloned());
    let first = bad.iter().map(|range| range.start).chain(first).min();
    Cleaned { text, lines: bad.len() as u64, first }
}

/// Makes newlines of these ranges.
fn fill(text: &mut [u8], ranges: impl Iterator<Item = Range<u64>>) {
    for Range { start, end } in ranges {
        let range = usize::try_from(start).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        text.get_mut(range).unwrap_or_default().fill(b'\n');
    }
}

/// Hands on a range of a file piece by piece.
pub(crate) fn copy(
    file: &dyn DiskFile,
    range: Range<u64>,
    put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = vec![0; usize::try_from(READ_BYTES.min(range.end - range.start)).unwrap_or(1)];
    let mut from = range.start;
    while from < range.end {
        let wanted = usize::try_from(range.end - from).unwrap_or(usize::MAX).min(piece.len());
        let read = file.read_at(piece.get_mut(..wanted).unwrap_or_default(), from)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        put(piece.get(..read).unwrap_or_default())?;
        from += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
