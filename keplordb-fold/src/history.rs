//! The whole history of a log as one row of events: by position, and by number.
//!
//! A position says which generation and which byte of its text, a sequence how many events came before. Neither changes when a
//! rotation moves a text into the archive.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use keplordb_disk::Disk;
use parking_lot::Mutex;

use crate::ahead::LINE_BYTES_MAX;
use crate::blocks::Blocks;
use crate::directory::{Directory, Present};
use crate::error::{FoldError, at};
use crate::frames::{Archive, Frame};
use crate::hash::line_hash;
use crate::index::{self, Entry, Facts};
use crate::lines::{Block, without_newline};
use crate::paths::Paths;
use crate::position::Position;

/// Where counting events has come to, so that it goes on there. None of this ever changes, but for the log being mended.
#[derive(Debug, Default)]
struct Counted {
    /// What had been taken out of the log before: the names in `damaged/`.
    taken_out: Vec<String>,
    /// A generation, and the sequence of its first event.
    first: Option<(u64, u64)>,
    /// The generation that was the active log's.
    generation: u64,
    /// Offsets in its text and the events before them, at least [`MARK_BYTES`] apart but for the last.
    marks: Vec<(u64, u64)>,
}

/// Counting starts at most this far from where it is wanted.
const MARK_BYTES: u64 = 1 << 20;

/// Frames of this length together are decoded for the cache file after a rotation: a fraction of a second.
const UNKNOWN_BYTES_MAX: u64 = 16 << 20;

/// How much is read at first to find the beginning of a line from its end.
const LOOK_BACK_BYTES: u64 = 4 << 10;

/// A log's history. Cheap to clone; a clone shares what is known of the archive.
#[derive(Debug, Clone)]
pub(crate) struct History {
    directory: Directory,
    counted: Arc<Mutex<Counted>>,
}

impl Counted {
    /// Remembers that so many events end at that offset, if that is news.
    fn mark(&mut self, generation: u64, offset: u64, events: u64) {
        if self.generation != generation || self.marks.last().is_some_and(|(last, _)| *last >= offset) {
            return;
        }
        // The last mark moves along until it is far enough from the one before it.
        let before =
            self.marks.len().checked_sub(2).and_then(|n| self.marks.get(n)).map_or(0, |(before, _)| *before);
        if self.marks.last().is_some_and(|(last, _)| last - before < MARK_BYTES) {
            self.marks.pop();
        }
        self.marks.push((offset, events));
    }
}

impl History {
    /// Touches nothing.
    pub(crate) fn new(disk: Arc<dyn Disk>, paths: Arc<Paths>) -> Self {
        Self { directory: Directory::new(disk, paths), counted: Arc::default() }
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        self.directory.disk()
    }

    pub(crate) fn paths(&self) -> &Arc<Paths> {
        self.directory.paths()
    }

    /// What there is of it now.
    ///
    /// # Errors
    /// `NotFound` without an active log, `Damaged` if the files contradict each other.
    pub(crate) fn present(&self) -> io::Result<Present> {
        Ok(self.directory.look()?.present)
    }

    /// Reads from there to the end as of this call. Rotations meanwhile are not noticed by who reads.
    ///
    /// `from` must be the beginning of a line or the end of a text; behind the end of its text, reading goes on with the next
    /// generation.
    ///
    /// # Errors
    /// `NotFound` without an active log, `Pruned`, `Invalid` if history has not come that far.
    pub(crate) fn read(&self, from: Position) -> io::Result<Blocks> {
        Blocks::new(&self.directory, from, None)
    }

    /// Reads from there to the end of its generation.
    pub(crate) fn read_within(&self, from: Position) -> io::Result<Blocks> {
        Blocks::new(&self.directory, from, Some(from.generation))
    }

    /// The hash of the line whose newline is the byte before that place. `None` at the beginning of a text, behind its end, and
    /// where no line ends.
    ///
    /// Cost: of the line, in the active log; of decoding up to there, in the archive.
    ///
    /// # Errors
    /// `NotFound` without an active log, `Damaged`, or what a read says.
    pub(crate) fn hash_before(&self, before: Position) -> io::Result<Option<String>> {
        if before.offset == 0 {
            return Ok(None);
        }
        loop {
            let look = self.directory.look()?;
            let Present { first_generation, generation, log_bytes, .. } = look.present;
            if before.generation < first_generation || before.generation > generation {
                return Ok(None);
            }
            if before.generation < generation {
                return self.hash_in_archive(before);
            }
            if before.offset > log_bytes {
                return Ok(None);
            }
            let hash = self.hash_in_log(before.offset)?;
            if self.directory.holds(&look)? || self.present()?.generation == generation {
                return Ok(hash);
            }
        }
    }

    fn hash_in_log(&self, end: u64) -> io::Result<Option<String>> {
        let path = &self.paths().log;
        let log = self.disk().open_read(path).map_err(at("open", path))?;
        let mut wanted = LOOK_BACK_BYTES;
        loop {
            let from = end.saturating_sub(wanted);
            let mut text = vec![0; usize::try_from(end - from).map_err(io::Error::other)?];
            if log.read_at(&mut text, from).map_err(at("read", path))? < text.len() {
                return Ok(None);
            }
            let Some((b'\n', line)) = text.split_last() else { return Ok(None) };
            let begin = memchr::memrchr(b'\n', line).map(|newline| newline + 1);
            if let Some(begin) = begin.or((from == 0).then_some(0)) {
                return Ok(Some(line_hash(without_newline(text.get(begin..).unwrap_or_default()))));
            }
            if wanted > LINE_BYTES_MAX as u64 {
                // Nobody can read it.
                return Ok(None);
            }
            wanted = wanted.saturating_mul(4).min(LINE_BYTES_MAX as u64 + 1);
        }
    }

    fn hash_in_archive(&self, before: Position) -> io::Result<Option<String>> {
        let mut blocks = self.read_within(Position { offset: 0, ..before })?;
        while let Some(Block { at, text }) = blocks.next()? {
            let end = usize::try_from(before.offset - at.offset).unwrap_or(usize::MAX);
            let Some(text) = text.get(..end) else { continue };
            let Some((b'\n', line)) = text.split_last() else { return Ok(None) };
            let begin = memchr::memrchr(b'\n', line).map_or(0, |newline| newline + 1);
            return Ok(Some(line_hash(without_newline(text.get(begin..).unwrap_or_default()))));
        }
        Ok(None)
    }

    /// How many events came before that place: the sequence of the one that begins there.
    ///
    /// Cost: counting from the last place that was asked for, at most 1 MiB back; the first time all of the active log, and
    /// decoding each frame that is not in the cache file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn sequence_of(&self, place: Position) -> io::Result<u64> {
        self.present()?.check_reached(place)?;
        let first = self.first_sequence_of(place.generation)?;
        Ok(first + self.count(place.generation, |at, _| at < place.offset)?.1)
    }

    /// Where the event with this sequence begins, or will begin if it is the next one. `None` behind that.
    ///
    /// Cost: as [`sequence_of`](Self::sequence_of); in the archive decoding one frame.
    ///
    /// # Errors
    /// `NotFound` without an active log, `Pruned`, `Damaged`, or what a read says.
    pub(crate) fn position_of(&self, sequence: u64) -> io::Result<Option<Position>> {
        let present = self.present()?;
        let mut first = present.first_sequence;
        if sequence < first {
            return Err(FoldError::Pruned { first }.into());
        }
        let mut generation = present.first_generation;
        while generation < present.generation {
            let events = self.facts(generation)?.events;
            if sequence < first + events {
                break;
            }
            first += events;
            generation += 1;
        }
        let (offset, events) = self.count(generation, |_, events| first + events < sequence)?;
        Ok((first + events == sequence).then_some(Position { generation, offset }))
    }

    /// The position behind the last event, and its sequence: that of the next event.
    ///
    /// # Errors
    /// As [`sequence_of`](Self::sequence_of).
    pub(crate) fn end(&self) -> io::Result<(Position, u64)> {
        let generation = self.present()?.generation;
        let first = self.first_sequence_of(generation)?;
        let (offset, events) = self.count(generation, |_, _| true)?;
        Ok((Position { generation, offset }, first + events))
    }

    /// Forgets what was counted if another process has taken something out of the log since: bytes that a repair or a mend takes out are
    /// set aside first. One that is counted in the moment between the two stays so until the next time.
    fn forget_what_was_mended(&self) -> io::Result<()> {
        let dir = &self.paths().damaged;
        let taken_out: Vec<String> = match self.disk().list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(at("list", dir))?.into_iter().map(|entry| entry.name).collect(),
        };
        let mut counted = self.counted.lock();
        if counted.taken_out != taken_out {
            *counted = Counted { taken_out, ..Counted::default() };
        }
        Ok(())
    }

    /// Whether a line ends there in the active log. Not so, a mark there is of a log that was cut and has grown again.
    fn ends_a_line(&self, offset: u64) -> io::Result<bool> {
        let path = &self.paths().log;
        let log = self.disk().open_read(path).map_err(at("open", path))?;
        let mut byte = [0];
        Ok(log.read_at(&mut byte, offset - 1).map_err(at("read", path))? == 1 && byte == *b"\n")
    }

    /// The sequence of the first event of a generation, or of what follows if it has none.
    ///
    /// # Errors
    /// `Pruned`, or as [`facts`](Self::facts).
    pub(crate) fn first_sequence_of(&self, generation: u64) -> io::Result<u64> {
        self.forget_what_was_mended()?;
        let present = self.present()?;
        if generation < present.first_generation {
            return Err(FoldError::Pruned { first: present.first_sequence }.into());
        }
        let known = self
            .counted
            .lock()
            .first
            .filter(|(known, _)| (present.first_generation..=generation).contains(known));
        let (from, mut sequence) = known.unwrap_or((present.first_generation, present.first_sequence));
        for before in from..generation {
            sequence += self.facts(before)?.events;
        }
        self.counted.lock().first = Some((generation, sequence));
        Ok(sequence)
    }

    /// Counts the events of a generation as long as `wants` says so of where one begins and of how many came before it. Returns
    /// where the last one that was counted ends, and how many there are up to there.
    fn count(&self, generation: u64, wants: impl Fn(u64, u64) -> bool) -> io::Result<(u64, u64)> {
        self.forget_what_was_mended()?;
        let present = self.present()?;
        let is_active = present.generation == generation;
        let (mut offset, mut events) = (0, 0);
        if is_active {
            let last = self.counted.lock().marks.last().copied();
            let is_cut = match last {
                Some((offset, _)) => offset > present.log_bytes || !self.ends_a_line(offset)?,
                None => false,
            };
            let mut counted = self.counted.lock();
            if counted.generation != generation || is_cut {
                (counted.generation, counted.marks) = (generation, Vec::new());
            }
            let usable = counted.marks.partition_point(|(offset, events)| wants(offset - 1, events - 1));
            if let Some(mark) = usable.checked_sub(1).and_then(|last| counted.marks.get(last)) {
                (offset, events) = *mark;
            }
        }
        let mut blocks = self.read_within(Position { generation, offset })?;
        'blocks: while let Some(block) = blocks.next()? {
            for line in block.lines() {
                if !wants(line.at.offset, events) {
                    break 'blocks;
                }
                (offset, events) = (line.end.offset, events + 1);
            }
            if is_active && events > 0 {
                self.counted.lock().mark(generation, offset, events);
            }
        }
        if is_active && events > 0 {
            self.counted.lock().mark(generation, offset, events);
        }
        Ok((offset, events))
    }

    /// The archive and its frames of these generations, of which none was pruned and all are archived.
    ///
    /// # Errors
    /// `Pruned`, if that is no longer so.
    pub(crate) fn frames(&self, generations: Range<u64>) -> io::Result<(Archive, Vec<Frame>)> {
        let (archive, known) = self.directory.archived(generations.start, generations.end)?;
        Ok((archive, known.iter().map(|known| known.frame).collect()))
    }

    /// What the text of an archived generation is.
    ///
    /// # Errors
    /// `Pruned` if it is not in the archive, `Damaged`, or what a read says.
    pub(crate) fn facts(&self, generation: u64) -> io::Result<Facts> {
        let known = || -> io::Result<_> {
            let (archive, frames) = self.directory.archived(generation, generation + 1)?;
            Ok((archive, frames.first().copied()))
        };
        if let (_, Some(known)) = known()?
            && let Some(facts) = known.facts
        {
            return Ok(facts);
        }
        self.directory.catalog().learn_from_index(&**self.disk(), self.paths());
        let (archive, known) = known()?;
        let Some(known) = known else { return Err(FoldError::Pruned { first: 0 }.into()) };
        if let Some(facts) = known.facts {
            return Ok(facts);
        }
        let facts =
            Facts::of_frame(&archive, known.frame).inspect_err(|_| self.directory.catalog().doubt())?;
        self.directory.catalog().learn(generation, known.frame, facts);
        Ok(facts)
    }

    /// Writes down what a rotation made, for those who read later: that generation `generation` is the frame of `bytes` bytes at
    /// `at` and has this text. To be called under the turn lock when the rotation can no longer be undone: when the log was cut.
    ///
    /// What goes wrong is told by a warning only, because all of it is found out again from the archive.
    pub(crate) fn note_archived(&self, generation: u64, at: u64, bytes: u64, text: &[u8]) {
        let entry = Entry::new(generation, (at, bytes), &Facts::of_text(text));
        let noted = index::append(&**self.disk(), self.paths(), &entry)
            .and_then(|()| self.complete_index(UNKNOWN_BYTES_MAX));
        if let Err(error) = noted {
            tracing::warn!(%error, "the cache of the archive's frames was not written");
        }
    }

    /// Makes the cache file anew behind an archive that was put in the place of another, however long that takes; what goes wrong is told
    /// by a warning only. To be called under the turn lock.
    pub(crate) fn renew_index(&self) {
        let renewed = self.complete_index(u64::MAX);
        if let Err(error) = renewed.and_then(|()| index::remove_former(&**self.disk(), self.paths())) {
            tracing::warn!(%error, "the cache of the archive's frames was not written");
        }
    }

    /// Adds what the cache file lacks of frames, such as those of another program, unless more than `unknown_bytes` of them must be
    /// decoded for that: then they are looked at whenever somebody wants to know their number of events. To be called under the turn lock.
    fn complete_index(&self, unknown_bytes: u64) -> io::Result<()> {
        let present = self.present()?;
        let (written, _) = index::load(&**self.disk(), self.paths(), 0);
        let range = present.first_generation..present.generation;
        let written: BTreeSet<u64> = written.iter().map(|entry| entry.generation).collect();
        let is_complete = range.clone().all(|generation| written.contains(&generation));
        if range.is_empty() || is_complete {
            return Ok(());
        }
        self.directory.catalog().learn_from_former(&**self.disk(), self.paths());
        let (_, frames) = self.directory.archived(range.start, range.end)?;
        let unknown: u64 =
            frames.iter().filter(|known| known.facts.is_none()).map(|known| known.frame.bytes).sum();
        if unknown > unknown_bytes {
            return Ok(());
        }
        let mut entries = Vec::with_capacity(frames.len());
        for (generation, known) in range.zip(&frames) {
            match self.facts(generation) {
                Ok(facts) => {
                    entries.push(Entry::new(generation, (known.frame.at, known.frame.bytes), &facts));
                }
                // Damage is for who reads that frame; the others need not be decoded for it again and again.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => return Err(error),
            }
        }
        index::rewrite(&**self.disk(), self.paths(), &entries)?;
        index::remove_former(&**self.disk(), self.paths())
    }

    /// Where the last frame of the archive begins if the file ends within it: see [`Directory::torn_frame`].
    pub(crate) fn torn_frame(&self) -> io::Result<Option<u64>> {
        self.directory.torn_frame()
    }

    /// Forgets what was counted, because lines were taken out of the active log.
    pub(crate) fn forget_counts(&self) {
        *self.counted.lock() = Counted::default();
    }
}

#[cfg(test)]
mod tests;
