//! Reading history from a position on: archived generations first, then the active log, as if no rotation ever happened.
//!
//! The end is where the log ended when reading began. A rotation meanwhile is noticed after each read: what was read of the active
//! log then may be of a later generation, so it is dropped, and reading goes on at the same place in the frame that the text has
//! become.

use std::io;
use std::sync::Arc;

use keplordb_disk::DiskFile;

use crate::ahead::{Ahead, BLOCK_BYTES, LINE_BYTES_MAX};
use crate::directory::{Directory, Look};
use crate::error::{FoldError, at};
use crate::lines::{Block, committed_bytes, whole_lines_bytes};
use crate::position::Position;

/// Blocks of whole lines, oldest first.
pub(crate) struct Blocks {
    directory: Directory,
    look: Look,
    /// Where the next block begins.
    at: Position,
    /// The last generation that is read, and how much of it if it is the active log.
    end: Position,
    /// What is decoded of the archive, and the generation behind that.
    archived: Option<(Ahead, u64)>,
    log: Option<Arc<dyn DiskFile>>,
    /// Memory for the next block.
    spare: Vec<u8>,
    is_done: bool,
}

impl Blocks {
    /// Reads from there to the end of generation `last`, or of the log as it is now.
    ///
    /// # Errors
    /// `NotFound` without an active log, `Pruned`; `Invalid` if history has not come to `from` yet, by its generation alone if `last` is
    /// given.
    pub(crate) fn new(directory: &Directory, from: Position, last: Option<u64>) -> io::Result<Self> {
        let look = directory.look()?;
        let present = look.present;
        if from.generation < present.first_generation {
            return Err(FoldError::Pruned { first: present.first_sequence }.into());
        }
        // An offset of the active log may be behind its end: there is nothing to read.
        let place = if last.is_some() { Position { offset: 0, ..from } } else { from };
        present.check_reached(place)?;
        let end = match last.filter(|last| *last < present.generation) {
            Some(generation) => Position { generation, offset: u64::MAX },
            None => Position { generation: present.generation, offset: present.log_bytes },
        };
        let mut blocks = Self {
            directory: directory.clone(),
            look,
            at: from,
            end,
            archived: None,
            log: None,
            spare: Vec::new(),
            is_done: from.generation > end.generation,
        };
        if !blocks.is_done {
            blocks.decode_up_to(present.generation.min(end.generation + 1))?;
        }
        Ok(blocks)
    }

    /// The next block, or nothing at the end and after an error.
    ///
    /// # Errors
    /// `Damaged`, `Pruned` if that happened meanwhile, or what a read says.
    pub(crate) fn next(&mut self) -> io::Result<Option<Block>> {
        if self.is_done {
            return Ok(None);
        }
        let next = self.step();
        self.is_done = !matches!(next, Ok(Some(_)));
        if next.is_err() {
            self.directory.catalog().doubt();
        }
        next
    }

    /// Takes back the text of a block that was made use of, so that the next one is read into the same memory, which is still in the
    /// processor's cache.
    pub(crate) fn take_back(&mut self, text: Vec<u8>) {
        if text.capacity() <= 2 * BLOCK_BYTES {
            self.spare = text;
        }
    }

    fn step(&mut self) -> io::Result<Option<Block>> {
        loop {
            if let Some((ahead, behind)) = &mut self.archived {
                if let Some(block) = ahead.next()? {
                    self.at = block.end();
                    return Ok(Some(block));
                }
                self.at = Position { generation: *behind, offset: 0 };
                self.archived = None;
            }
            if self.at.generation > self.end.generation {
                return Ok(None);
            }
            let block = self.read_log()?;
            if self.directory.holds(&self.look)? {
                if let Some(block) = &block {
                    self.at = block.end();
                }
                return Ok(block);
            }
            let look = self.directory.look()?;
            let is_active = look.present.generation == self.at.generation;
            self.look = look;
            if is_active {
                // Something else changed, or a rotation is under way; the log was not cut until now.
                if let Some(block) = &block {
                    self.at = block.end();
                }
                return Ok(block);
            }
            self.decode_up_to(self.at.generation + 1)?;
        }
    }

    /// Begins to decode the archived generations up to that one.
    fn decode_up_to(&mut self, generation: u64) -> io::Result<()> {
        if self.at.generation < generation {
            let (archive, frames) = self.directory.archived(self.at.generation, generation)?;
            self.archived = Some((Ahead::new(&archive, frames, self.at), generation));
        }
        Ok(())
    }

    /// The next whole lines of the active log, up to the end or a batch that is not committed; nothing if there are none.
    fn read_log(&mut self) -> io::Result<Option<Block>> {
        let path = &self.directory.paths().log;
        let mut wanted = BLOCK_BYTES;
        loop {
            let left = self.end.offset.saturating_sub(self.at.offset);
            if left == 0 {
                return Ok(None);
            }
            let log = match &mut self.log {
                Some(log) => log,
                log => log.insert(self.directory.disk().open_read(path).map_err(at("open", path))?),
            };
            let mut text = std::mem::take(&mut self.spare);
            text.resize(usize::try_from(left).unwrap_or(usize::MAX).min(wanted), 0);
            let read = log.read_at(&mut text, self.at.offset).map_err(at("read", path))?;
            text.truncate(read);
            let whole = whole_lines_bytes(&text);
            text.truncate(whole);
            text.truncate(committed_bytes(&text));
            if !text.is_empty() {
                return Ok(Some(Block { at: self.at, text }));
            }
            // Nothing but the beginning of a line: of one that is longer than this, of a torn one, or of a batch.
            if whole > 0 || (read as u64) == left || read < wanted {
                return Ok(None);
            }
            if wanted > LINE_BYTES_MAX {
                let what = "there is a line of over 1 GiB".to_owned();
                return Err(FoldError::Damaged { file: path.clone(), offset: self.at.offset, what }.into());
            }
            wanted *= 2;
        }
    }
}
