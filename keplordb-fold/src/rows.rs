//! Rows: the lines of a block, parsed. Once for all views that take the same.

use crate::event::NO_TEXT;
use crate::lines::Block;

/// A short line: for as many rows as a block may have room is made at once.
const LINE_BYTES: usize = 96;

/// A parsed line.
#[derive(Debug, Clone)]
pub(crate) struct Row<T> {
    pub(crate) place: Place,
    pub(crate) reading: Reading<T>,
}

/// Where a line stands in its block, and when it happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Where it begins in the text of the block.
    pub(crate) start: usize,
    /// Its length without the newline.
    pub(crate) bytes: usize,
    /// Where the next one begins in its generation.
    pub(crate) end: u64,
    /// Seconds; 0 if it is no event.
    pub(crate) ts: u64,
}

/// What a line turned out to be.
#[derive(Debug, Clone)]
pub(crate) enum Reading<T> {
    Event(T),
    /// An event of a type that this reducer does not know.
    Unknown,
    /// No event, or not one with such data; why.
    Bad(Box<str>),
}

impl<T> Row<T> {
    /// The same without taking the event.
    pub(crate) fn as_ref(&self) -> Row<&T> {
        let reading = match &self.reading {
            Reading::Event(event) => Reading::Event(event),
            Reading::Unknown => Reading::Unknown,
            Reading::Bad(why) => Reading::Bad(why.clone()),
        };
        Row { place: self.place, reading }
    }
}

/// Parses all lines of a block, and adds them to `rows`: `read` gives the time and what the line is.
pub(crate) fn parse<T>(
    block: &Block,
    rows: &mut Vec<Row<T>>,
    mut read: impl FnMut(&str) -> (u64, Reading<T>),
) {
    rows.reserve(block.text.len() / LINE_BYTES);
    // Mostly all of it is UTF-8, and to see that at once is quicker than line by line.
    let whole = str::from_utf8(&block.text).ok();
    for line in block.lines() {
        let start = usize::try_from(line.at.offset - block.at.offset).unwrap_or(usize::MAX);
        let text = match whole {
            Some(whole) => whole.get(start..start + line.bytes.len()),
            None => str::from_utf8(line.bytes).ok(),
        };
        let (ts, reading) = match text {
            Some(text) => read(text),
            None => (0, Reading::Bad(NO_TEXT.into())),
        };
        rows.push(Row { place: Place { start, bytes: line.bytes.len(), end: line.end.offset, ts }, reading });
    }
}
