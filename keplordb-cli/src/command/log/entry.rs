//! An entry on standard output: a line of text, of JSON or of CSV, or its bytes.

use std::fmt::Write;

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keplordb_log::{Entry, Timestamp};
use serde::Serialize;

use crate::output::Output;
use crate::sheet::{self, Cell, Heading, Sheet};

/// How entries are printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Form {
    /// Print each entry as a line of JSON: `time`, and its bytes as `text` if they are UTF-8, else as `base64`
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Print CSV with a line of names: `time`, and as `text` what is printed without any of these, with its escapes
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    csv: bool,
    /// Print only the bytes of each entry, as they are, and a newline
    #[arg(long, conflicts_with_all = ["json", "csv"], help_heading = "Output")]
    raw: bool,
}

/// An entry as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    time: String,
    #[serde(flatten)]
    bytes: Bytes<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Bytes<'a> {
    Text(&'a str),
    Base64(String),
}

/// Prints entries in one form.
pub(super) enum Printer<'o> {
    Json(&'o mut Output),
    Csv(Sheet<'o>),
    Raw(&'o mut Output),
    /// With the line that is filled again and again.
    Lines(&'o mut Output, String),
}

impl<'o> Printer<'o> {
    pub(super) fn new(out: &'o mut Output, form: Form) -> Self {
        match form {
            Form { json: true, .. } => Self::Json(out),
            Form { raw: true, .. } => Self::Raw(out),
            Form { csv: true, .. } => {
                let headings = vec![Heading::left("time"), Heading::left("text")];
                Self::Csv(Sheet::new(out, sheet::Form { json: false, csv: true }, headings))
            }
            _ => Self::Lines(out, String::new()),
        }
    }

    pub(super) fn print(&mut self, entry: &Entry<'_>) -> Result<()> {
        match self {
            Self::Json(out) => out.json(&shown(entry.time, entry.bytes)),
            Self::Csv(sheet) => {
                let mut text = String::new();
                escape(entry.bytes, &mut text);
                sheet.row(&[Cell::Text(entry.time.to_string()), Cell::Text(text)])
            }
            Self::Raw(out) => {
                out.bytes(entry.bytes)?;
                out.bytes(b"\n")
            }
            Self::Lines(out, line) => {
                line.clear();
                write!(line, "{}\t", entry.time)?;
                escape(entry.bytes, line);
                out.line(line)
            }
        }
    }

    /// Shows what was printed.
    pub(super) fn flush(&mut self) -> Result<()> {
        match self {
            Self::Csv(sheet) => sheet.flush(),
            Self::Json(out) | Self::Raw(out) | Self::Lines(out, _) => out.flush(),
        }
    }

    /// As [`Output::check_reader`].
    pub(super) fn check_reader(&self) -> Result<()> {
        match self {
            Self::Csv(sheet) => sheet.check_reader(),
            Self::Json(out) | Self::Raw(out) | Self::Lines(out, _) => out.check_reader(),
        }
    }

    pub(super) fn finish(self) -> Result<()> {
        if let Self::Csv(sheet) = self { sheet.finish() } else { Ok(()) }
    }
}

fn shown(time: Timestamp, bytes: &[u8]) -> Shown<'_> {
    let bytes = match str::from_utf8(bytes) {
        Ok(text) => Bytes::Text(text),
        Err(_) => Bytes::Base64(BASE64_STANDARD.encode(bytes)),
    };
    Shown { time: time.to_string(), bytes }
}

/// Bytes as one line that a terminal can show and that can be read back: `\n`, `\r`, `\t`, `\\`, and `\x` with two hexadecimal
/// digits for other control characters and for what is not UTF-8.
fn escape(bytes: &[u8], line: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                '\\' => line.push_str("\\\\"),
                control if control.is_control() => {
                    hexadecimal(control.encode_utf8(&mut [0; 4]).as_bytes(), line);
                }
                shown => line.push(shown),
            }
        }
        hexadecimal(chunk.invalid(), line);
    }
}

fn hexadecimal(bytes: &[u8], line: &mut String) {
    for byte in bytes {
        // A `String` takes whatever is written to it.
        let _ = write!(line, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_text_shows_every_byte_and_no_control() {
        for (bytes, right) in [
            (&b""[..], ""),
            (b"deposit 100", "deposit 100"),
            ("na\u{ef}ve \u{2603}".as_bytes(), "na\u{ef}ve \u{2603}"),
            (b"a\tb\nc\rd\\n", "a\\tb\\nc\\rd\\\\n"),
            (b"\x1b[31m\0\x7f", "\\x1b[31m\\x00\\x7f"),
            ("\u{85}".as_bytes(), "\\xc2\\x85"),
            (b"\xff\xfeok\xc3", "\\xff\\xfeok\\xc3"),
        ] {
            let mut line = String::new();
            escape(bytes, &mut line);
            assert_eq!(line, right);
        }
    }

    #[test]
    fn json_says_whether_the_bytes_are_text() {
        let json = |bytes| serde_json::to_string(&shown(Timestamp::from_ns(5), bytes)).unwrap();
        assert_eq!(json(b"a \"b\"\n"), r#"{"time":"1970-01-01T00:00:00.000000005Z","text":"a \"b\"\n"}"#);
        assert_eq!(
            json(b"\xff\x00\x01\x02"),
            r#"{"time":"1970-01-01T00:00:00.000000005Z","base64":"/wABAg=="}"#
        );
    }
}
