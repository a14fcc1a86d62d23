//! Standard output: text for people, JSON for programs, and a reader who goes away.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use anyhow::{Context, Result};
use keplordb_log::Timestamp;
use serde::Serialize;

const FAILED: &str = "standard output cannot be written";

/// Standard output, buffered; what is left in the buffer is lost unless it is [flushed](Output::flush).
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { out: BufWriter::with_capacity(64 << 10, io::stdout().lock()) }
    }

    /// A value as a line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        // A failed write comes back as an error of JSON; the reader who went away must be told from it.
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from).context(FAILED)?;
        self.bytes(b"\n")
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// A line that stands above others: bold on a terminal.
    pub(crate) fn heading(&mut self, text: &str) -> Result<()> {
        if has_colours() { self.line(&format!("\u{1b}[1m{text}\u{1b}[0m")) } else { self.line(text) }
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).context(FAILED)
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.out.flush().context(FAILED)
    }
}

/// Whether standard output is a terminal that may be coloured: one that `NO_COLOR` and `TERM=dumb` say nothing against.
pub(crate) fn has_colours() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal()
        && !is_set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether an error says that nobody reads standard output any more. No file of a log fails so.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Tells a person what is no result, on standard error.
pub(crate) fn note(text: &str) {
    // Nobody is left to tell if this fails.
    let _ = writeln!(io::stderr(), "keplor: {text}");
}

/// A count with thousands separators: `336,776`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 entry`, `2,000 entries`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A time in RFC 3339, with as many groups of three digits behind the second as it needs.
pub(crate) fn time(ts_ns: i64) -> String {
    let text = Timestamp::from_ns(ts_ns).to_string();
    let mut shown = text.trim_end_matches('Z');
    while let Some(shorter) = shown.strip_suffix("000").filter(|_| shown.contains('.')) {
        shown = shorter;
    }
    format!("{}Z", shown.trim_end_matches('.'))
}

/// An error and its causes; those that are in it already are not said again.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_split_every_three_digits() {
        let texts = [0, 999, 1_000, 336_776, 1_000_000].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "336,776", "1,000,000"]);
        assert_eq!(counted(1, "entry", "entries"), "1 entry");
        assert_eq!(counted(0, "entry", "entries"), "0 entries");
    }

    #[test]
    fn times_have_the_digits_that_they_need() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (1_000_000_000, "1970-01-01T00:00:01Z"),
            (1_500_000_000, "1970-01-01T00:00:01.500Z"),
            (1_000_000, "1970-01-01T00:00:00.001Z"),
            (1_000, "1970-01-01T00:00:00.000001Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
            (100, "1970-01-01T00:00:00.000000100Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ];
        for (ts_ns, right) in cases {
            assert_eq!(time(ts_ns), right);
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = || io::Error::other("disk on fire");
        let said = with_causes(&anyhow::Error::from(cause()).context("reading a.txt failed"));
        assert_eq!(said, "reading a.txt failed: disk on fire");
        let said =
            with_causes(&anyhow::Error::from(cause()).context("reading failed (disk on fire); see to it"));
        assert_eq!(said, "reading failed (disk on fire); see to it");
    }

    #[test]
    fn only_a_reader_who_went_away_is_no_failure() {
        let error = |kind| anyhow::Error::from(io::Error::from(kind)).context(FAILED);
        assert!(is_closed(&error(io::ErrorKind::BrokenPipe)));
        assert!(!is_closed(&error(io::ErrorKind::StorageFull)));
        assert!(!is_closed(&anyhow::anyhow!("broken pipe")));
    }
}
