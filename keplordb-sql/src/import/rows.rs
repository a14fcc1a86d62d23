//! A stream of bytes cut into rows, by line ends outside of quotes. Knows nothing of what stands in a row.
//!
//! Rows are slices of one buffer, so a row costs no allocation; the raw text of a row is at hand when it has to be reported; and
//! what a damaged file can make us hold is limited, which readers of CSV that gather a row until its last quote do not do.

use std::io::{self, Read};
use std::ops::Range;

use memchr::{memchr, memchr2};

/// Longest row, in bytes. It limits what a quote that is never closed can make us hold.
const ROW_BYTES_MAX: usize = 16 << 20;
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes of a row that is too long that are kept, to be shown.
const HEAD_BYTES: usize = 1 << 10;

/// What separates fields and what encloses them; line ends within quotes end no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quoting {
    pub(super) delimiter: u8,
    pub(super) quote: u8,
}

/// A row, as a range of [`Rows::text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    /// Without its line end.
    pub(super) text: Range<usize>,
    /// The line in which it begins, from 1.
    pub(super) line: u64,
    /// Whether there are quotes in it.
    pub(super) has_quotes: bool,
    /// What is wrong with it as a row.
    pub(super) fault: Option<&'static str>,
}

/// A stream of rows. Empty lines are none.
#[derive(Debug)]
pub(super) struct Rows<R> {
    input: R,
    quoting: Option<Quoting>,
    row_bytes_max: usize,
    buffer: Vec<u8>,
    /// Of the first byte in the buffer that no row has given yet.
    start: usize,
    /// The place of that byte in the stream, and the line in which it is.
    offset: u64,
    line: u64,
    is_at_end: bool,
}

/// How far a row goes.
enum End {
    /// Up to a line end, and whether there are quotes.
    At { newline: usize, has_quotes: bool },
    /// Beyond what was read.
    Beyond { has_quotes: bool },
    /// It is malformed.
    Fault(&'static str),
}

impl<R: Read> Rows<R> {
    /// `offset` and `line` are the place at which the stream begins.
    pub(super) fn new(input: R, quoting: Option<Quoting>, offset: u64, line: u64) -> Self {
        Self {
            input,
            quoting,
            row_bytes_max: ROW_BYTES_MAX,
            buffer: Vec::new(),
            start: 0,
            offset,
            line,
            is_at_end: false,
        }
    }

    pub(super) fn input(&self) -> &R {
        &self.input
    }

    /// The place behind the last row: its offset in the stream, in bytes, and its line.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.offset, self.line)
    }

    /// The bytes of a row, until the next one is asked for.
    pub(super) fn text(&self, raw: &Raw) -> &[u8] {
        &self.buffer[raw.text.clone()]
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Raw>> {
        loop {
            let raw = match self.end_of_row() {
                End::At { newline, has_quotes } => self.take(newline, has_quotes, None),
                // Its first line is what is lost of it, and must be there.
                End::Fault(_) if !self.has_line() => {
                    self.fill()?;
                    continue;
                }
                End::Fault(fault) => self.take_line(fault)?,
                End::Beyond { has_quotes } if self.is_at_end => {
                    if self.start == self.buffer.len() {
                        return Ok(None);
                    }
                    self.take(self.buffer.len(), has_quotes, None)
                }
                End::Beyond { .. } if self.buffer.len() - self.start > self.row_bytes_max => {
                    self.take_line("the row is too long, or a quote in it is not closed")?
                }
                End::Beyond { .. } => {
                    self.fill()?;
                    continue;
                }
            };
            if !raw.text.is_empty() {
                return Ok(Some(raw));
            }
        }
    }

    /// Gives the row that ends before `newline`, which may be the end of the stream.
    fn take(&mut self, newline: usize, has_quotes: bool, fault: Option<&'static str>) -> Raw {
        let row = &self.buffer[self.start..newline];
        let text_bytes = row.strip_suffix(b"\r").unwrap_or(row).len();
        let raw = Raw { text: self.start..self.start + text_bytes, line: self.line, has_quotes, fault };
        if has_quotes {
            self.line += memchr::memchr_iter(b'\n', row).count() as u64;
        }
        let next = (newline + 1).min(self.buffer.len());
        self.line += u64::from(newline < self.buffer.len());
        self.offset += (next - self.start) as u64;
        self.start = next;
        raw
    }

    /// Whether the first line is there, as far as it ever will be.
    fn has_line(&self) -> bool {
        let unread = &self.buffer[self.start..];
        self.is_at_end || unread.len() > self.row_bytes_max || memchr(b'\n', unread).is_some()
    }

    /// Gives the first line of a malformed row: what it really was nobody knows, and the lines behind it may be sound.
    fn take_line(&mut self, fault: &'static str) -> io::Result<Raw> {
        if let Some(length) = memchr(b'\n', &self.buffer[self.start..]) {
            return Ok(self.take(self.start + length, false, Some(fault)));
        }
        if self.is_at_end && self.buffer.len() - self.start <= self.row_bytes_max {
            return Ok(self.take(self.buffer.len(), false, Some(fault)));
        }
        // A line that does not end: its head is kept, the rest is passed over.
        let head_end = self.buffer.len().min(self.start + HEAD_BYTES);
        let head = self.buffer[self.start..head_end].to_vec();
        let line = self.line;
        loop {
            if let Some(length) = memchr(b'\n', &self.buffer[self.start..]) {
                self.take(self.start + length, false, None);
                break;
            }
            self.offset += (self.buffer.len() - self.start) as u64;
            self.start = self.buffer.len();
            if self.is_at_end {
                break;
            }
            self.fill()?;
        }
        // The head takes the place of what was passed over, in front of what comes next.
        self.buffer.splice(..self.start, head.iter().copied());
        self.start = head.len();
        Ok(Raw { text: 0..head.len(), line, has_quotes: false, fault: Some(fault) })
    }

    fn end_of_row(&self) -> End {
        let unread = &self.buffer[self.start..];
        let newline = memchr(b'\n', unread);
        let line = &unread[..newline.unwrap_or(unread.len())];
        let quoting = self.quoting.filter(|quoting| memchr(quoting.quote, line).is_some());
        match (quoting, newline) {
            (Some(quoting), _) => quoting.end_of_row(unread, self.start, self.is_at_end),
            (None, Some(newline)) => End::At { newline: self.start + newline, has_quotes: false },
            (None, None) => End::Beyond { has_quotes: false },
        }
    }

    /// Reads on. What is read at once grows with what waits, so that a long row is looked through a few times only.
    fn fill(&mut self) -> io::Result<()> {
        let unread = &self.buffer[self.start..];
        let filled = unread.len();
        // Zeros of the system, which cost nothing where nothing is read into them.
        let mut buffer = vec![0; filled + filled.max(READ_BYTES)];
        buffer[..filled].copy_from_slice(unread);
        (self.buffer, self.start) = (buffer, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[filled..]) {
                Err(again) if again.kind() == io::ErrorKind::Interrupted => {}
                done => break done,
            }
        };
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        self.is_at_end = read? == 0;
        Ok(())
    }
}

impl Quoting {
    /// Where the row with which `bytes` begin ends. `start` is their place in the buffer.
    ///
    /// A quote opens a field only as its first byte, and in a quoted field two quotes are one; after the closing quote the field
    /// must end.
    fn end_of_row(self, bytes: &[u8], start: usize, is_at_end: bool) -> End {
        let beyond = End::Beyond { has_quotes: true };
        let ends_at = |newline| End::At { newline: start + newline, has_quotes: true };
        let mut at = 0;
        loop {
            if bytes.get(at) == Some(&self.quote) {
                let Some(closing) = self.closing_quote(bytes, at + 1) else {
                    return if is_at_end { End::Fault("a quote is not closed") } else { beyond };
                };
                at = closing + 1;
                match (bytes.get(at), bytes.get(at + 1)) {
                    (Some(byte), _) if *byte == self.delimiter => at += 1,
                    (Some(b'\n'), _) => return ends_at(at),
                    (Some(b'\r'), Some(b'\n')) => return ends_at(at + 1),
                    // More may follow that decides.
                    (None, _) | (Some(b'\r'), None) => return beyond,
                    _ => return End::Fault("there is text between a closing quote and the end of its field"),
                }
            } else {
                match memchr2(self.delimiter, b'\n', &bytes[at..]) {
                    Some(length) if bytes[at + length] == b'\n' => return ends_at(at + length),
                    Some(length) => at += length + 1,
                    None => return beyond,
                }
            }
        }
    }

    /// The quote that closes the field whose text begins at `at`.
    fn closing_quote(self, bytes: &[u8], mut at: usize) -> Option<usize> {
        loop {
            at += memchr(self.quote, &bytes[at..])?;
            if bytes.get(at + 1) != Some(&self.quote) {
                return Some(at);
            }
            at += 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: Option<Quoting> = Some(Quoting { delimiter: b',', quote: b'"' });

    /// Gives few bytes at once.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let bytes = self.0.len().min(self.1).min(into.len());
            into[..bytes].copy_from_slice(&self.0[..bytes]);
            self.0 = &self.0[bytes..];
            Ok(bytes)
        }
    }

    /// (line, text, fault) of each row, whatever the steps in which the input comes.
    fn rows(text: &str, quoting: Option<Quoting>) -> Vec<(u64, String, Option<&'static str>)> {
        let read = |step| {
            let mut rows = Rows::new(Drip(text.as_bytes(), step), quoting, 0, 1);
            let mut found = Vec::new();
            let mut places = vec![rows.place()];
            while let Some(raw) = rows.next().unwrap() {
                found.push((raw.line, String::from_utf8_lossy(rows.text(&raw)).into_owned(), raw.fault));
                places.push(rows.place());
            }
            assert_eq!(rows.place().0, text.len() as u64);
            (found, places)
        };
        let (found, places) = read(usize::MAX);
        for step in 1..9 {
            assert_eq!(read(step), (found.clone(), places.clone()), "in steps of {step}");
        }
        // From the place behind any row the rest comes.
        for (place, (offset, line)) in places.into_iter().enumerate() {
            let rest = &text.as_bytes()[usize::try_from(offset).unwrap()..];
            let mut rows = Rows::new(rest, quoting, offset, line);
            let lines = std::iter::from_fn(|| rows.next().unwrap().map(|raw| raw.line));
            assert_eq!(lines.collect::<Vec<_>>(), found[place..].iter().map(|row| row.0).collect::<Vec<_>>());
        }
        found
    }

    fn sound<'a>(rows: &'a [(u64, String, Option<&'static str>)]) -> Vec<(u64, &'a str)> {
        assert!(rows.iter().all(|row| row.2.is_none()), "{rows:?}");
        rows.iter().map(|(line, text, _)| (*line, text.as_str())).collect()
    }

    #[test]
    fn rows_end_at_line_ends_outside_of_quotes() {
        let found = rows("a,b\r\n\n\"x\ny\",\"say \"\"no\"\"\"\r\n5\" disk,2\n\r\n,\"\"", CSV);
        let wanted = [(1, "a,b"), (3, "\"x\ny\",\"say \"\"no\"\"\""), (5, "5\" disk,2"), (7, ",\"\"")];
        assert_eq!(sound(&found), wanted);
        assert_eq!(sound(&rows("{\"a\": 1}\n{\"a\"", None)), [(1, "{\"a\": 1}"), (2, "{\"a\"")]);
        assert_eq!(rows("", CSV), []);
        assert_eq!(rows("\n\r\n", CSV), []);
    }

    #[test]
    fn of_a_malformed_row_only_the_first_line_is_lost() {
        let unclosed = "a,\"b\nc,d\ne,f\n";
        let fault = Some("a quote is not closed");
        assert_eq!(
            rows(unclosed, CSV),
            [(1, "a,\"b".into(), fault), (2, "c,d".into(), None), (3, "e,f".into(), None)]
        );
        let fault = Some("there is text between a closing quote and the end of its field");
        assert_eq!(
            rows("\"a\"b,c\n\"d\ne\"f\ng", CSV),
            [
                (1, "\"a\"b,c".into(), fault),
                (2, "\"d".into(), fault),
                (3, "e\"f".into(), None),
                (4, "g".into(), None)
            ]
        );
    }

    #[test]
    fn rows_beyond_the_limit_are_passed_over_in_bounded_memory() {
        let fault = Some("the row is too long, or a quote in it is not closed");
        for quoting in [CSV, None] {
            for end in ["\nc,d\n", ""] {
                let text = format!("a,b\n{}{end}", "x".repeat(5_000_000));
                let mut rows = Rows::new(Drip(text.as_bytes(), 100_000), quoting, 0, 1);
                rows.row_bytes_max = 1000;
                assert_eq!(rows.next().unwrap().unwrap().line, 1);
                let long = rows.next().unwrap().unwrap();
                assert_eq!((long.line, long.fault), (2, fault));
                assert_eq!(rows.text(&long), &text.as_bytes()[4..4 + HEAD_BYTES]);
                if !end.is_empty() {
                    let next = rows.next().unwrap().unwrap();
                    assert_eq!((next.line, rows.text(&next)), (3, &b"c,d"[..]));
                }
                assert_eq!(rows.next().unwrap(), None);
                assert_eq!(rows.place().0, text.len() as u64);
                assert!(rows.buffer.capacity() < 2_000_000, "{}", rows.buffer.capacity());
            }
        }
        let text = format!("a,\"{}", "b\n".repeat(1_000_000));
        let mut rows = Rows::new(text.as_bytes(), CSV, 0, 1);
        rows.row_bytes_max = 1000;
        assert_eq!(rows.next().unwrap().unwrap().fault, fault);
        assert_eq!(rows.next().unwrap().unwrap().line, 2);
    }
}
