//! Lines one by one, and what is an event among them.

use std::io;

use memchr::memrchr;

use crate::blocks::Blocks;
use crate::error::FoldError;
use crate::event::Event;
use crate::hash::line_hash;
use crate::lines::{Block, Line, Lines, without_newline};
use crate::paths::Paths;
use crate::position::Position;

/// Takes one line after the other from blocks.
pub(crate) struct LineReader {
    blocks: Blocks,
    block: Block,
    /// How much of the block was taken.
    taken: usize,
    /// Of the last line that was taken of the blocks before.
    hash: Option<String>,
}

impl LineReader {
    pub(crate) fn new(blocks: Blocks) -> Self {
        let block = Block { at: Position::default(), text: Vec::new() };
        Self { blocks, block, taken: 0, hash: None }
    }

    /// The hash of the line that was taken last; none before the first.
    pub(crate) fn hash_of_last(&self) -> Option<String> {
        let taken = self.block.text.get(..self.taken).and_then(<[u8]>::split_last);
        let Some((_, line)) = taken else { return self.hash.clone() };
        let begin = memrchr(b'\n', line).map_or(0, |newline| newline + 1);
        Some(line_hash(without_newline(line.get(begin..)?)))
    }

    /// What `take` makes of the next line; nothing at the end.
    ///
    /// # Errors
    /// What reading says; behind an error is the end.
    pub(crate) fn next_as<T>(&mut self, take: impl FnOnce(&Line<'_>) -> T) -> io::Result<Option<T>> {
        loop {
            let rest = self.block.text.get(self.taken..).unwrap_or_default();
            let at = Position { offset: self.block.at.offset + self.taken as u64, ..self.block.at };
            if let Some(line) = Lines::new(rest, at).next() {
                self.taken += usize::try_from(line.end.offset - at.offset).unwrap_or(rest.len());
                return Ok(Some(take(&line)));
            }
            match self.blocks.next()? {
                Some(block) => {
                    // The next one may have empty lines only.
                    self.hash = self.hash_of_last();
                    (self.block, self.taken) = (block, 0);
                }
                None => return Ok(None),
            }
        }
    }
}

/// The event of a line, where the active log is of generation `active`.
///
/// # Errors
/// `BadLine` if it is none.
pub(crate) fn event_of(line: &Line<'_>, paths: &Paths, active: u64) -> io::Result<Event> {
    Event::of_line(line.bytes).map_err(|error| {
        let Position { generation, offset } = line.at;
        let file = if generation < active { &paths.archive } else { &paths.log };
        FoldError::BadLine { file: file.clone(), generation, offset, why: error.to_string() }.into()
    })
}
