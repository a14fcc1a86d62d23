//! `keplor inspect`: what the files of a table hold: segments, columns, logs, and each byte of a file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use keplordb::{Description, Inspection, Options, SectionContents, Span, describe_file, inspect_dir};

use super::Done;
use crate::output::{Output, count, counted, note};
use crate::parse;
use crate::progress::Waiting;
use crate::sheet::{Cell, Form, Heading, Sheet, printable};
use crate::table;

/// Bytes in a line of a dump.
const DUMPED_BYTES: usize = 16;

/// Print what the files of a table hold
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor inspect calls.db
  keplor inspect calls.db --columns
  keplor inspect calls.db --hex segments/0000000000000001.kseg --bytes 256

Reads all files once and changes nothing; another process may have the table open. A damaged file is listed with what is wrong,
and the exit status is 1.")]
pub(crate) struct Inspect {
    /// The table's directory
    dir: PathBuf,
    /// A line for each column, over all segments: encodings, bytes, and what the values would take without encoding
    #[arg(long, conflicts_with = "hex")]
    columns: bool,
    /// Say of each byte of one of the files what it is
    #[arg(long, value_name = "FILE")]
    hex: Option<PathBuf>,
    /// Where in the file to begin, in bytes
    #[arg(long, value_name = "SIZE", value_parser = parse::bytes, requires = "hex", default_value = "0")]
    offset: u64,
    /// At most so many bytes
    #[arg(long, value_name = "SIZE", value_parser = parse::bytes, requires = "hex")]
    bytes: Option<u64>,
    #[command(flatten)]
    form: Form,
}

impl Inspect {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        table::check(&self.dir)?;
        if let Some(file) = &self.hex {
            let within = self.dir.join(file);
            let file = if within.is_file() { &within } else { file };
            let name = file.file_name().unwrap_or_default();
            ensure!(
                !["LOCK", "MANIFEST.spare"].iter().any(|other| name == *other),
                "{} holds nothing of a table: it is {}",
                file.display(),
                if name == "LOCK" { "a lock, and says who had it" } else { "room for the next MANIFEST" },
            );
            let to = self.offset.saturating_add(self.bytes.unwrap_or(u64::MAX));
            return dump(out, self.form, file, self.offset, to);
        }
        let waiting = Waiting::begin("reading");
        let inspection = inspect_dir(&self.dir, &Options::default())
            .map_err(|error| table::explained(&self.dir, error))?;
        drop(waiting);
        if self.columns {
            columns(out, self.form, &inspection)?;
        } else {
            files(out, self.form, &inspection)?;
        }
        let problems: Vec<String> = inspection.problems().map(ToString::to_string).collect();
        for problem in &problems {
            note(problem);
        }
        ensure!(
            problems.is_empty(),
            "{}; `keplor verify` says more, and what to do",
            counted(problems.len() as u64, "problem was found", "problems were found")
        );
        Ok(Done::Well)
    }
}

/// How many times as large values are without encoding.
fn ratio(unencoded: u64, encoded: u64) -> Cell {
    if encoded == 0 { Cell::Nothing } else { Cell::Share(unencoded as f64 / encoded as f64) }
}

/// Segments, logs and tombstones, a line each.
fn files(out: &mut Output, form: Form, inspection: &Inspection) -> Result<()> {
    let headings = vec![
        Heading::left("file"),
        Heading::right("rows"),
        Heading::right("deleted"),
        Heading::left("first"),
        Heading::left("last"),
        Heading::right("bytes"),
        Heading::right("ratio"),
    ];
    let name = |path: &Path| Cell::Text(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let number = |number: Option<u64>| number.map_or(Cell::Nothing, |number| Cell::Number(number.into()));
    let mut sheet = Sheet::new(out, form, headings);
    for segment in &inspection.segments {
        let contents = segment.contents.as_ref().ok();
        let sections = contents.into_iter().flat_map(|contents| &contents.sections);
        let unencoded = sections.filter_map(|section| section.contents.as_ref().ok()?.unencoded_bytes).sum();
        sheet.row(&[
            name(&segment.path),
            number(contents.map(|contents| contents.rows)),
            number(contents.and_then(|contents| contents.deleted_rows)),
            contents.map_or(Cell::Nothing, |contents| Cell::Time(contents.first_ts_ns)),
            contents.map_or(Cell::Nothing, |contents| Cell::Time(contents.last_ts_ns)),
            number(Some(segment.file_bytes)),
            contents.map_or(Cell::Nothing, |_| ratio(unencoded, segment.file_bytes)),
        ])?;
    }
    for log in &inspection.logs {
        let contents = log.contents.as_ref().ok();
        sheet.row(&[
            name(&log.path),
            number(contents.map(|contents| contents.rows)),
            number(contents.and_then(|contents| contents.deleted_rows)),
            Cell::Nothing,
            Cell::Nothing,
            number(Some(log.file_bytes)),
            Cell::Nothing,
        ])?;
    }
    if let Some(log) = &inspection.tombstones {
        // What it deletes is told with the rows.
        sheet.row(&[
            name(&log.path),
            Cell::Nothing,
            Cell::Nothing,
            Cell::Nothing,
            Cell::Nothing,
            number(Some(log.file_bytes)),
            Cell::Nothing,
        ])?;
    }
    sheet.finish()
}

/// What a column takes, over all segments.
#[derive(Debug, Default)]
struct Taken {
    /// By encoding, how many sections have it.
    encodings: BTreeMap<String, u64>,
    columns_bytes: u64,
    index_bytes: u64,
    unencoded_bytes: u64,
}

impl Taken {
    fn add(&mut self, contents: &SectionContents) {
        *self.encodings.entry(contents.encoding.clone()).or_default() += 1;
        self.columns_bytes += contents.columns_bytes;
        self.index_bytes += contents.index_bytes;
        self.unencoded_bytes += contents.unencoded_bytes.unwrap_or(0);
    }

    fn encodings(&self) -> String {
        let encodings = self.encodings.iter().map(|(encoding, sections)| match sections {
            1 => encoding.clone(),
            sections => format!("{encoding} (in {})", count(*sections)),
        });
        encodings.collect::<Vec<_>>().join("; ")
    }
}

/// Columns, and what else the segments have sections for, in the order of a file.
fn columns(out: &mut Output, form: Form, inspection: &Inspection) -> Result<()> {
    let mut order: Vec<(String, String)> = Vec::new();
    let mut taken: BTreeMap<(String, String), Taken> = BTreeMap::new();
    let segments = inspection.segments.iter().filter_map(|segment| segment.contents.as_ref().ok());
    for section in segments.flat_map(|contents| &contents.sections) {
        let Ok(contents) = &section.contents else { continue };
        let key = (section.column.clone(), section.kind.unwrap_or("unknown").to_owned());
        if !taken.contains_key(&key) {
            order.push(key.clone());
        }
        taken.entry(key).or_default().add(contents);
    }
    let headings = vec![
        Heading::left("column"),
        Heading::left("section"),
        Heading::right("bytes"),
        Heading::right("index_bytes"),
        Heading::right("unencoded"),
        Heading::right("ratio"),
        Heading::left("encoding"),
    ];
    let mut sheet = Sheet::new(out, form, headings);
    for key in order {
        let Some(taken) = taken.get(&key) else { continue };
        let (column, kind) = key;
        sheet.row(&[
            Cell::Text(column),
            Cell::Text(kind),
            Cell::Number(taken.columns_bytes.into()),
            Cell::Number(taken.index_bytes.into()),
            Cell::Number(taken.unencoded_bytes.into()),
            ratio(taken.unencoded_bytes, taken.columns_bytes),
            Cell::Text(taken.encodings()),
        ])?;
    }
    sheet.finish()
}

/// Each span of a file that has bytes from `from` to before `to`.
fn dump(out: &mut Output, form: Form, file: &Path, from: u64, to: u64) -> Result<Done> {
    let description = describe_file(file, &Options::default())?;
    let problems = if form.is_text() {
        spans(&description, from, to, |span| show(out, &description, span, from, to))?
    } else {
        let headings = ["offset", "bytes"].map(Heading::right).into_iter();
        let headings = headings.chain(["name", "value", "problem"].map(Heading::left)).collect();
        let mut sheet = Sheet::new(out, form, headings);
        let problems = spans(&description, from, to, |span| {
            sheet.row(&[
                Cell::Code(i64::try_from(span.offset).unwrap_or(i64::MAX)),
                Cell::Number(span.bytes.into()),
                Cell::Text(span.name.clone()),
                Cell::Text(span.value.clone()),
                span.problem.clone().map_or(Cell::Nothing, Cell::Text),
            ])
        })?;
        sheet.finish()?;
        problems
    };
    ensure!(
        problems == 0,
        "{} in {}; `keplor verify` says more",
        counted(problems, "problem was found", "problems were found"),
        file.display()
    );
    Ok(Done::Well)
}

/// Gives the spans to a function until it fails; says in how many of them something is wrong.
fn spans(
    description: &Description,
    from: u64,
    to: u64,
    mut each: impl FnMut(&Span) -> Result<()>,
) -> Result<u64> {
    let (mut problems, mut done) = (0, Ok(()));
    description.each(|span| {
        if span.offset >= to {
            return ControlFlow::Break(());
        }
        if span.offset + span.bytes > from {
            problems += u64::from(span.problem.is_some());
            done = each(&span);
        }
        if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    done.map(|()| problems)
}

/// A span, and its bytes from `from` to before `to`.
fn show(out: &mut Output, description: &Description, span: &Span, from: u64, to: u64) -> Result<()> {
    let value = if span.value.is_empty() { String::new() } else { format!(" = {}", printable(&span.value)) };
    let wrong =
        span.problem.as_deref().map(|wrong| format!("  WRONG: {}", printable(wrong))).unwrap_or_default();
    out.heading(&format!("{}{value}{wrong}", printable(&span.name)))?;
    let (mut at, end) = (span.offset.max(from), (span.offset + span.bytes).min(to));
    while at < end {
        let bytes = usize::try_from(end - at).unwrap_or(usize::MAX).min(DUMPED_BYTES);
        let bytes = description.read(at, bytes)?;
        if bytes.is_empty() {
            break;
        }
        out.line(&line_of(at, &bytes))?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// A line of a dump: where, the bytes, and the letters among them.
fn line_of(at: u64, bytes: &[u8]) -> String {
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        // What fails to be written to a string is nothing.
        let _ = write!(hex, " {byte:02x}");
        hex
    });
    let letter = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
    let letters: String = bytes.iter().map(letter).collect();
    format!("  {at:08x} {hex:<width$}  {letters}", width = 3 * DUMPED_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_dump_has_place_bytes_and_letters() {
        assert_eq!(
            line_of(0x1c, b"KEPL\0\x01 z"),
            "  0000001c  4b 45 50 4c 00 01 20 7a                          KEPL.. z"
        );
    }
}
