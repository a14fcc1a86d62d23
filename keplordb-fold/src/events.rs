//! Lines one by one, and what is an event among them.

use std::io;

use crate::blocks::Blocks;
use crate::error::FoldError;
use crate::event::Event;
use crate::lines::{Block, Line, Lines};
use crate::paths::Paths;
use crate::position::Position;

/// Takes one line after the other from blocks.
pub(crate) struct LineReader {
    blocks: Blocks,
    block: Block,
    /// How much of the block was taken.
    taken: usize,
}

impl LineReader {
    pub(crate) fn new(blocks: Blocks) -> Self {
        let block = Block { at: Position::default(), text: Vec::new() };
        Self { blocks, block, taken: 0 }
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
                Some(block) => (self.block, self.taken) = (block, 0),
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
    serde_json::from_slice(line.bytes).map_err(|error| {
        let Position { generation, offset } = line.at;
        let file = if generation < active { &paths.archive } else { &paths.log };
        FoldError::BadLine { file: file.clone(), generation, offset, why: error.to_string() }.into()
    })
}
