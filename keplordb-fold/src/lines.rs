//! Cutting a text into lines, and where each lies; and blocks of whole lines, which is how texts are read.
//!
//! It knows bytes and positions only: whether a line is an event is not asked here.

use memchr::{memchr, memmem, memrchr};

use crate::position::Position;

/// What the first byte of a batch is until the batch is committed.
pub(crate) const UNCOMMITTED: u8 = b'#';

/// How a batch begins until then: a line that begins so is the end of the active log. Other lines with a '#' are bad ones, which hide
/// nothing.
pub(crate) const UNCOMMITTED_LINE: &[u8] = b"#\"type\":";

/// Limits what bytes that are no lines can make us allocate; in tests of this crate less, so that they need not.
pub(crate) const LINE_BYTES_MAX: usize = if cfg!(test) { 8 << 20 } else { 1 << 30 };

/// What is said of a longer one.
pub(crate) const TOO_LONG: &str = "there is a line of over 1 GiB, which nobody can read";

/// A line, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Without its newline (`\n` or `\r\n`); never empty.
    pub(crate) bytes: &'a [u8],
    /// Where it begins.
    pub(crate) at: Position,
    /// Behind its newline: where the next one begins.
    pub(crate) end: Position,
}

/// The lines of a text, oldest first. Empty lines are passed over, and counted in the positions of the others; a last line
/// without a newline is none.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    at: Position,
}

impl<'a> Lines<'a> {
    /// The lines of a text that begins there.
    pub(crate) fn new(text: &'a [u8], at: Position) -> Self {
        Self { rest: text, at }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        loop {
            let (line, rest) = self.rest.split_at_checked(memchr(b'\n', self.rest)? + 1)?;
            let at = self.at;
            self.at.offset += line.len() as u64;
            self.rest = rest;
            let bytes = without_newline(line);
            if !bytes.is_empty() {
                return Some(Line { bytes, at, end: self.at });
            }
        }
    }
}

/// Whole lines of one generation, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where they begin.
    pub(crate) at: Position,
    pub(crate) text: Vec<u8>,
}

impl Block {
    /// Where they end.
    pub(crate) fn end(&self) -> Position {
        Position { offset: self.at.offset + self.text.len() as u64, ..self.at }
    }

    pub(crate) fn lines(&self) -> Lines<'_> {
        Lines::new(&self.text, self.at)
    }
}

/// A line without the newline that it ends with.
pub(crate) fn without_newline(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How many bytes of this text are whole lines: up to its last newline.
pub(crate) fn whole_lines_bytes(text: &[u8]) -> usize {
    memrchr(b'\n', text).map_or(0, |newline| newline + 1)
}

/// The same of a text whose first `searched` bytes have no newline, so that who reads a long line bit by bit does not search it each time.
pub(crate) fn whole_lines_bytes_behind(text: &[u8], searched: usize) -> usize {
    match whole_lines_bytes(text.get(searched..).unwrap_or_default()) {
        0 => 0,
        whole => searched + whole,
    }
}

/// How many bytes of this text, which begins with a line, come before a batch that is not committed: all of them, as a rule.
pub(crate) fn committed_bytes(text: &[u8]) -> usize {
    if text.starts_with(UNCOMMITTED_LINE) {
        0
    } else {
        memmem::find(text, b"\n#\"type\":").map_or(text.len(), |newline| newline + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &[u8]) -> Vec<(&[u8], u64, u64)> {
        let at = Position { generation: 3, offset: 100 };
        Lines::new(text, at).map(|line| (line.bytes, line.at.offset, line.end.offset)).collect()
    }

    #[test]
    fn offsets_count_every_byte() {
        assert_eq!(cut(b"a\nbc\n"), [(&b"a"[..], 100, 102), (b"bc", 102, 105)]);
        assert_eq!(cut(b"a\r\nbc\r\n"), [(&b"a"[..], 100, 103), (b"bc", 103, 107)], "CRLF");
        assert_eq!(cut(b"\n\r\na\n\n\nb\n\r\n"), [(&b"a"[..], 103, 105), (b"b", 107, 109)], "empty lines");
        assert_eq!(cut(b"a\nb"), [(&b"a"[..], 100, 102)], "torn");
        assert_eq!(cut(b"a\rb\n"), [(&b"a\rb"[..], 100, 104)], "a return inside");
        assert_eq!(cut(b""), []);
        assert_eq!(cut(b"torn"), []);
    }

    #[test]
    fn a_batch_that_is_not_committed_ends_the_log() {
        for (text, bytes) in [
            (&b"a\nb\n"[..], 4),
            (b"a\n#\"type\":b\nc\n", 2),
            (b"#\"type\":b\nc\n", 0),
            (b"a#\"type\":\nb\n", 12),
            (b"a\n# type\nb\n", 11),
            (b"#\"type\"\nb\n", 10),
            (b"a\n#\"type\":", 2),
            (b"", 0),
        ] {
            assert_eq!(committed_bytes(text), bytes, "{}", text.escape_ascii());
        }
        assert_eq!(whole_lines_bytes(b"a\nbc"), 2);
        assert_eq!(whole_lines_bytes(b"abc"), 0);
    }
}
