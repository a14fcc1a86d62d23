//! `keplor log append`: lines of standard input, or whole files, as entries.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use keplordb_log::{Log, MAX_ENTRY_BYTES, Options, SyncPolicy, Timestamp, Writer};
use serde::Serialize;

use crate::output::{Output, counted, note};
use crate::parse;

/// Lines that are written together are at most about so many bytes, beside the last of them.
const BATCH_BYTES: usize = 8 << 20;
/// Standard input is read in pieces of so many bytes, which bounds what comes together.
const INPUT_BYTES: usize = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  printf 'deposit 5\\nwithdraw 2\\n' | keplor log append bank
  my-service 2>&1 | keplor log append service --sync every
  keplor log append photos --file a.jpg --file b.jpg

Each line is an entry, and gets the time at which it came.")]
pub(crate) struct Append {
    /// The log's directory; it is made if it is missing
    dir: PathBuf,
    /// Append the whole of a file as one entry, instead of lines; `-` is standard input; may be given again
    #[arg(long, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// How many lines at most are written at once, whole or not at all, under one checksum; lines that have come are never held back
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// When what was written survives a power cut
    #[arg(long, value_enum, default_value_t = Sync::Each)]
    sync: Sync,
    /// A segment that has so many bytes is followed by another
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse::bytes)]
    segment_bytes: u64,
    /// A segment that began so long ago is followed by another
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = parse::duration)]
    segment_duration: Duration,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sync {
    /// At once, after each write
    Each,
    /// After 1024 entries or 1 MiB, and at the end
    Every,
    /// At the end
    End,
    /// When the operating system likes
    Never,
}

impl From<Sync> for SyncPolicy {
    fn from(sync: Sync) -> Self {
        match sync {
            Sync::Each => Self::Each,
            Sync::Every => Self::Every { entries: 1024, bytes: 1 << 20 },
            Sync::End => Self::OnDemand,
            Sync::Never => Self::Never,
        }
    }
}

/// What was appended.
#[derive(Debug, Default, Serialize)]
struct Appended {
    entries: u64,
    bytes: u64,
    #[serde(serialize_with = "as_text")]
    last: Option<Timestamp>,
}

impl Append {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let options = Options {
            sync: self.sync.into(),
            max_segment_bytes: self.segment_bytes,
            max_segment_duration: self.segment_duration,
            ..Options::default()
        };
        let writer = Log::open_with(&self.dir, options)?.writer()?;
        let torn_bytes = writer.recovered().torn_bytes;
        if torn_bytes > 0 {
            note(&format!(
                "the last writer was cut off; {} of an unfinished write were removed",
                counted(torn_bytes, "byte", "bytes")
            ));
        }
        let mut appended = Appended::default();
        let done = self.append(&writer, &mut appended);
        let closed = writer.close().map_err(Into::into);
        // What is in the log is told in any case: who repeats a failed call must know where to begin.
        let told = if self.json { out.json(&appended) } else { out.line(&appended.text()) };
        done.and(closed).and(told)
    }

    fn append(&self, writer: &Writer, appended: &mut Appended) -> Result<()> {
        if self.file.is_empty() {
            return self.append_lines(writer, appended);
        }
        for path in &self.file {
            appended.write(writer, &[read(path)?])?;
        }
        Ok(())
    }

    fn append_lines(&self, writer: &Writer, appended: &mut Appended) -> Result<()> {
        let mut input = BufReader::with_capacity(INPUT_BYTES, io::stdin().lock());
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while let Some(line) = next_line(&mut input)? {
            bytes += line.len();
            lines.push(line);
            let is_full = lines.len() >= self.batch as usize || bytes >= BATCH_BYTES;
            // The next line may be long in coming.
            if is_full || !input.buffer().contains(&b'\n') {
                appended.write(writer, &lines)?;
                lines.clear();
                bytes = 0;
            }
        }
        appended.write(writer, &lines)
    }
}

impl Appended {
    fn write(&mut self, writer: &Writer, entries: &[Vec<u8>]) -> Result<()> {
        if let Some((_, last)) = writer.write_batch(entries)? {
            self.last = Some(last);
        }
        self.entries += entries.len() as u64;
        self.bytes += entries.iter().map(|entry| entry.len() as u64).sum::<u64>();
        Ok(())
    }

    fn text(&self) -> String {
        let entries = counted(self.entries, "entry", "entries");
        match self.last {
            Some(last) => format!("{entries}, {}, the last at {last}", counted(self.bytes, "byte", "bytes")),
            None => entries,
        }
    }
}

/// A line of the input without its newline; `None` at the end. One byte more than an entry may have is read at most: the
/// writer refuses it then.
fn next_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = input.take(MAX_ENTRY_BYTES as u64 + 1).read_until(b'\n', &mut line);
    if read.context("standard input cannot be read")? == 0 {
        return Ok(None);
    }
    line.pop_if(|last| *last == b'\n');
    Ok(Some(line))
}

/// The bytes of a file, or of standard input; one more than an entry may have at most.
fn read(path: &Path) -> Result<Vec<u8>> {
    let input: Box<dyn Read> =
        if path.as_os_str() == "-" { Box::new(io::stdin().lock()) } else { Box::new(open(path)?) };
    let mut bytes = Vec::new();
    let read = input.take(MAX_ENTRY_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(bytes)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("{} cannot be opened", path.display()))
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn as_text<S: serde::Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_string()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_newlines_and_at_the_end() {
        let lines = |text: &str| {
            let mut input = text.as_bytes();
            std::iter::from_fn(|| next_line(&mut input).unwrap())
                .map(|line| String::from_utf8(line).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(lines("a\n\nb\r\nc"), ["a", "", "b\r", "c"]);
        assert_eq!(lines("a\n"), ["a"]);
        assert_eq!(lines("\n"), [""]);
        assert!(lines("").is_empty());
    }
}
