//! `keplor append`: lines of JSON from standard input become events.

use std::io::{self, BufReader};
use std::path::PathBuf;

use anyhow::{Context, Result};
use keplordb::MAX_EVENT_BYTES;
use keplordb::any::{AnyEvent, AnyStore, Value};
use keplordb_log::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::Done;
use crate::interrupt;
use crate::lines::{Rejects, next_line, rejects_beside};
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
        let mut rejects = Rejects::new(self.rejects.clone().unwrap_or_else(|| rejects_beside(&self.dir)));
        interrupt::listen()?;
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
        let lines = done?;
        closed.and(told)?;
        if let Ended::Interrupted { lines } = lines {
            note(&format!("interrupted; go on behind line {lines} of the input"));
            return Ok(Done::Interrupted);
        }
        Ok(if appended.rejected > 0 { Done::Rejected } else { Done::Well })
    }

    fn append(&self, store: &AnyStore, appended: &mut Appended, rejects: &mut Rejects) -> Result<Ended> {
        let mut input = BufReader::with_capacity(INPUT_BYTES, io::stdin().lock());
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut lines = 0;
        loop {
            if interrupt::is_asked() || (!input.buffer().contains(&b'\n') && !interrupt::wait_for_input()) {
                appended.append(store, events)?;
                return Ok(Ended::Interrupted { lines });
            }
            let Some(line) = next_line(&mut input, LINE_BYTES).context("standard input cannot be read")?
            else {
                break;
            };
            lines += 1;
            bytes += line.len();
            match event(store, &line) {
                Ok(event) => events.extend(event),
                Err(reason) => {
                    if let Err(error) = rejects.push(lines, &format!("{reason:#}"), &line) {
                        // A pipe cannot be read again: what came before the line is kept.
                        appended.append(store, events)?;
                        return Err(error);
                    }
                }
            }
            let is_full = events.len() >= self.batch as usize || bytes >= BATCH_BYTES;
            // The next line may be long in coming.
            if is_full || !input.buffer().contains(&b'\n') {
                appended.append(store, std::mem::take(&mut events))?;
                bytes = 0;
            }
        }
        appended.append(store, events)?;
        Ok(Ended::Whole)
    }
}

/// How far the input was read.
enum Ended {
    Whole,
    /// So many lines are appended or rejected.
    Interrupted {
        lines: u64,
    },
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
