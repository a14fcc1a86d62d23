//! `keplor append`: lines of JSON from standard input become events.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keplordb::MAX_EVENT_BYTES;
use keplordb::any::{AnyEvent, AnyStore, Value};
use keplordb_log::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::Done;
use crate::output::{Output, counted, note};
use crate::table;

/// Standard input is read in pieces of so many bytes.
const INPUT_BYTES: usize = 1 << 20;
/// Lines that are appended together have at most about so many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// Bytes of a line: an event, and what escapes make of its texts.
const LINE_BYTES: u64 = 6 * MAX_EVENT_BYTES as u64;

/// Append events from standard input, a JSON object a line
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  echo '{\"ts\":\"2026-02-21T10:00:00Z\",\"user\":\"alice\",\"tokens\":1200}' | keplor append calls.db

A line has the table's columns; those that it lacks are empty or 0. Without `ts` (RFC 3339) and `ts_ns` an event has the time
at which it is read. Events of lines that have come are on disk before more are read. A line that is no such object is not
appended: it is counted and written to the side file of rejected lines, and the exit status is 2.")]
pub(crate) struct Append {
    /// The table's directory
    dir: PathBuf,
    /// How many lines at most are appended at once, all or none; lines that have come are never held back
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Where rejected lines go, as CSV; by default beside the table: DIR.rejects.csv
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// What was appended.
#[derive(Debug, Default, Serialize)]
struct Appended {
    events: u64,
    /// The sequence of the last one.
    last: Option<u64>,
    rejected: u64,
    /// Where those are.
    rejects: Option<String>,
}

impl Append {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let store = table::store(&self.dir)?;
        let mut appended = Appended::default();
        let mut rejects = Rejects::new(self.rejects.clone().unwrap_or_else(|| beside(&self.dir)));
        let done = self.append(&store, &mut appended, &mut rejects);
        let closed = store.close().map_err(Into::into);
        appended.rejected = rejects.lines;
        appended.rejects = (rejects.lines > 0).then(|| rejects.path.display().to_string());
        // What is in the table is told in any case: who repeats a failed call must know where to begin.
        let told = if self.json { out.json(&appended) } else { out.line(&appended.text()) };
        if let Some(rejects) = &appended.rejects {
            note(&format!(
                "{} rejected: see {rejects}",
                counted(appended.rejected, "line was", "lines were")
            ));
        }
        done.and(closed).and(told)?;
        Ok(if appended.rejected > 0 { Done::Rejected } else { Done::Well })
    }

    fn append(&self, store: &AnyStore, appended: &mut Appended, rejects: &mut Rejects) -> Result<()> {
        let mut input = BufReader::with_capacity(INPUT_BYTES, io::stdin().lock());
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut number = 0;
        while let Some(line) = next_line(&mut input)? {
            number += 1;
            bytes += line.len();
            match event(store, &line) {
                Ok(event) => events.extend(event),
                Err(reason) => rejects.push(number, &format!("{reason:#}"), &line)?,
            }
            let is_full = events.len() >= self.batch as usize || bytes >= BATCH_BYTES;
            // The next line may be long in coming.
            if is_full || !input.buffer().contains(&b'\n') {
                appended.append(store, std::mem::take(&mut events))?;
                bytes = 0;
            }
        }
        appended.append(store, events)
    }
}

impl Appended {
    fn append(&mut self, store: &AnyStore, events: Vec<AnyEvent>) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let count = events.len() as u64;
        self.last = Some(store.append_batch_durable(events)?.last);
        self.events += count;
        Ok(())
    }

    fn text(&self) -> String {
        let events = counted(self.events, "event", "events");
        match self.last {
            Some(last) => format!("{events}, the last with sequence {last}"),
            None => events,
        }
    }
}

/// `calls.db.rejects.csv` for `calls.db`.
fn beside(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    // Without a slash at its end.
    let mut name = dir.components().collect::<PathBuf>().into_os_string();
    name.push(".rejects.csv");
    name.into()
}

/// A line without its newline; `None` at the end.
fn next_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = input.by_ref().take(LINE_BYTES + 1).read_until(b'\n', &mut line);
    if read.context("standard input cannot be read")? == 0 {
        return Ok(None);
    }
    if line.len() as u64 > LINE_BYTES && line.last() != Some(&b'\n') {
        // It is rejected, and so is no part of it taken for a line.
        let rest = input.skip_until(b'\n');
        rest.context("standard input cannot be read")?;
    }
    line.pop_if(|last| *last == b'\n');
    Ok(Some(line))
}

/// The event of a line; none of a blank one.
fn event(store: &AnyStore, line: &[u8]) -> Result<Option<AnyEvent>> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    anyhow::ensure!(line.len() as u64 <= LINE_BYTES, "the line is longer than {LINE_BYTES} bytes");
    let object: Map<String, Json> = serde_json::from_slice(line).context("it is no JSON object")?;
    let time = match (object.get("ts"), object.get(table::TIME)) {
        (Some(_), Some(_)) => anyhow::bail!("it has both ts and ts_ns"),
        (Some(Json::String(text)), None) => text
            .parse::<Timestamp>()
            .map_err(|_| anyhow::anyhow!("ts is no time as 2026-02-21T10:00:00Z: {text:?}"))?,
        (Some(other), None) => anyhow::bail!("ts is a text as \"2026-02-21T10:00:00Z\", not {other}"),
        (None, Some(number)) => {
            let ts_ns = number.as_i64().with_context(|| format!("ts_ns is a whole number, not {number}"))?;
            Timestamp::from_ns(ts_ns)
        }
        (None, None) => Timestamp::now(),
    };
    let mut event = store.event(time.as_ns());
    for (name, value) in &object {
        if name == "ts" || name == table::TIME {
            continue;
        }
        event = match value {
            Json::String(text) => event.set(name, text.as_str())?,
            Json::Number(number) => {
                let number = number
                    .as_i64()
                    .with_context(|| format!("{name} is no whole number of 64 bits: {number}"))?;
                event.set(name, Value::Int(number))?
            }
            // As if it were not there.
            Json::Null => {
                store.position(name)?;
                event
            }
            other => anyhow::bail!("{name} is a text or a whole number, not {other}"),
        };
    }
    anyhow::ensure!(
        event.bytes() <= MAX_EVENT_BYTES,
        "the event has {} bytes, and at most {MAX_EVENT_BYTES} are possible",
        event.bytes()
    );
    Ok(Some(event))
}

/// The side file of rejected lines; it is made with the first one.
struct Rejects {
    path: PathBuf,
    file: Option<File>,
    lines: u64,
}

impl Rejects {
    fn new(path: PathBuf) -> Self {
        Self { path, file: None, lines: 0 }
    }

    fn push(&mut self, line: u64, reason: &str, text: &[u8]) -> Result<()> {
        self.lines += 1;
        let failed = || format!("{} cannot be written", self.path.display());
        if self.file.is_none() {
            let mut file =
                OpenOptions::new().create(true).append(true).open(&self.path).with_context(failed)?;
            if file.metadata().with_context(failed)?.len() == 0 {
                file.write_all(b"line,reason,text\n").with_context(failed)?;
            }
            self.file = Some(file);
        }
        let quoted = |text: &str| text.replace('"', "\"\"");
        let record =
            format!("{line},\"{}\",\"{}\"\n", quoted(reason), quoted(&String::from_utf8_lossy(text)));
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(record.as_bytes())).with_context(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_file_lies_beside_the_table_however_its_path_ends() {
        assert_eq!(beside(Path::new("/data/calls.db/")), Path::new("/data/calls.db.rejects.csv"));
        assert_eq!(beside(Path::new("/data/calls.db")), Path::new("/data/calls.db.rejects.csv"));
    }
}
