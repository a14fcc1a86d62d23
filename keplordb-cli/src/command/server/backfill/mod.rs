//! `keplor backfill`: past events from files into a root whose server is stopped, in the order in which they happened.
//!
//! All lines are read and sorted before the first event is captured. Published files of a type are then written for entities that are
//! behind each other in time, once, instead of again and again for events that come late.

mod sort;

use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use keplordb_server::{Capture, MAX_BATCH_RECORDS, Receipt, Record};
use serde_json::json;
use tokio::runtime::Runtime;
use xxhash_rust::xxh3::xxh3_128;

use self::sort::{Entry, Sorted, Sorter};
use super::ingest::{Lines, Next, OfLine, read_line};
use super::serve::check_directory;
use crate::command::Done;
use crate::interrupt;
use crate::lines::{Rejects, rejects_beside};
use crate::output::{Output, count, counted, note};
use crate::parse;
use crate::progress::{Progress, Waiting};

/// Bytes of lines after which no more are taken into a batch.
const BATCH_BYTES: usize = 8 << 20;
/// So many rejected lines are told one by one.
const TOLD_REJECTS: u64 = 10;
/// What who was stopped is to do.
const WAY_ON: &str = "the same command again captures what is missing";

/// Bring past events into a server's root, in the order in which they happened
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor backfill data 2024.jsonl 2025.jsonl
  zstd -dc old.jsonl.zst | keplor backfill data - --client crm

A line is as for `keplor ingest --file`, must have a time, `at`, and no expected_version, which is no condition for what has happened.
No server may run on the root. All lines are read and sorted by their times first, to the nanosecond: within --sort-memory, or on the
root's disk, which then needs room for somewhat more bytes than the files have, and for twice as many where they have more than 128 times
--sort-memory. It needs room for the log, too, and for the Parquet files: several times what these have in the end. They are written for
two million events at a time, or about 1 GiB, nearly all files of entities anew each time, and those that were replaced stay for ten
minutes. Events are captured in batches, and in the end published and merged, all together.
What was so at a time is known from now on: --known-at of before does not see it.

An event is captured once by its event_id. A line without one gets one that is made of its text, so the same command again captures what
is missing: after Ctrl-C, a full disk, or an error. Without ids, the same line twice in one file is two events, and in two files one. A
line that is rejected is counted and written to a side file, and the exit status is 2.")]
pub(crate) struct Backfill {
    /// The server's root; no server may run on it. It is made where it is not there
    root: PathBuf,
    /// Files of events, an object of JSON a line; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Who sends them
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    client: String,
    /// Memory for lines that are sorted; more are sorted on the root's disk
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse::bytes)]
    sort_memory: u64,
    /// Where rejected lines of the one file go, as CSV; by default beside each file: FILE.rejects.csv
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Backfill {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        ensure!(
            self.rejects.is_none() || self.files.len() == 1,
            "--rejects is for the lines of one file, and there are {}; without it each has its own: FILE.rejects.csv",
            self.files.len()
        );
        // Before a root is made for files that are not there.
        for file in self.files.iter().filter(|file| !is_stdin(file)) {
            file.metadata().with_context(|| format!("{} cannot be read", file.display()))?;
        }
        check_directory(&self.root)?;
        interrupt::listen()?;
        // It is held until the end, so no server begins meanwhile.
        let capture = Capture::open(&self.root)?;
        let mut brought = Brought::new(&self.files, self.rejects.as_deref());
        let ended = self.bring(&capture, &mut brought);
        // What is on disk is told in any case.
        brought.tell(self.json, out)?;
        let is_whole = ended?;
        if is_whole {
            let waiting = Waiting::begin("publishing");
            let ended = publish(|| capture.publish(), || capture.compact());
            drop(waiting);
            ended?;
        }
        capture.close()?;
        if !is_whole {
            note(&format!("interrupted; {WAY_ON}"));
            return Ok(Done::Interrupted);
        }
        Ok(if brought.rejected() > 0 { Done::Rejected } else { Done::Well })
    }

    /// Whether it came to the end, and was not interrupted.
    fn bring(&self, capture: &Capture, brought: &mut Brought) -> Result<bool> {
        let schemas = capture.schemas();
        let types: Vec<String> =
            schemas.newest().into_iter().flat_map(|schema| schema.types()).map(str::to_owned).collect();
        match self.sort(&types, brought)? {
            Some((lines, sorted)) => self.capture(capture, &types, lines, sorted, brought),
            None => Ok(false),
        }
    }

    /// Reads all files; how many lines are events, and these. `None` where it was interrupted.
    fn sort(&self, types: &[String], brought: &mut Brought) -> Result<Option<(u64, Sorted)>> {
        let mut sorter = Sorter::new(&self.root, self.sort_memory);
        // What comes through a pipe has no length.
        let bytes_of =
            |file: &PathBuf| file.metadata().ok().filter(Metadata::is_file).map(|of_file| of_file.len());
        let total: Option<u64> = self.files.iter().map(bytes_of).sum();
        let (mut bytes, mut events) = (0, 0);
        let mut progress = Progress::begin();
        for (file, path) in (0..).zip(&self.files) {
            let mut lines = Lines::open(path)?;
            loop {
                let (line, text) = match lines.read()? {
                    Next::Line { line, text } => (line, text),
                    Next::End => break,
                    Next::Interrupted => return Ok(None),
                };
                bytes += text.len() as u64 + 1;
                if let Some(total) = total {
                    progress.tell(bytes, total, || format!("{} read", counted(events, "event", "events")));
                }
                if text.trim_ascii().is_empty() {
                    continue;
                }
                match read_line(&text, types).and_then(|line| of_past(&line)) {
                    Ok(time_ns) => {
                        events += 1;
                        sorter.push(Entry { time_ns, file, line, text })?;
                    }
                    Err(reason) => brought.reject(file, line, &reason, &text)?,
                }
            }
        }
        Ok(Some((events, sorter.sorted()?)))
    }

    /// Captures so many lines in their order; whether it came to the end.
    fn capture(
        &self,
        capture: &Capture,
        types: &[String],
        lines: u64,
        sorted: Sorted,
        brought: &mut Brought,
    ) -> Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.context("what waits for the disk cannot be started")?;
        let mut progress = Progress::begin();
        let mut ids = Ids::default();
        let mut batch = Batch::default();
        let mut done = 0;
        for entry in sorted {
            let entry = entry?;
            match read_line(&entry.text, types) {
                Ok(OfLine { mut record, .. }) => {
                    if record.event_id.is_empty() {
                        record.event_id = ids.next(&entry);
                    }
                    let mut record = Record::from(record);
                    record.client.clone_from(&self.client);
                    batch.push(entry, record);
                }
                // It was a record when it was read.
                Err(reason) => brought.reject(entry.file, entry.line, &reason, &entry.text)?,
            }
            done += 1;
            if batch.is_full() {
                batch.write(capture, &runtime, brought)?;
                progress.tell(done, lines, || brought.progress());
                if interrupt::is_asked() {
                    return Ok(false);
                }
            }
        }
        batch.write(capture, &runtime, brought)?;
        Ok(true)
    }
}

/// Publishes what is captured, and then merges files. Where one of these fails, what was done before it is said too.
fn publish<T, E: std::error::Error + Send + Sync + 'static>(
    publish: impl FnOnce() -> Result<T, E>,
    merge: impl FnOnce() -> Result<(), E>,
) -> Result<()> {
    publish().context("the events are captured, and not published; a server does that when it runs")?;
    merge()
        .context("the events are captured and published; files are not merged, which a server does by itself")
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// When the event of a line happened, in nanoseconds since the Unix epoch: the log counts milliseconds, and within one the order in which
/// events come in. Or why it is none of the past: whether a version was the expected one depends on what has come in before, and so on
/// how often a command was stopped, or lines were mended, and not on the lines alone.
fn of_past(line: &OfLine) -> Result<i128, String> {
    if line.record.expected_version.is_some() {
        return Err("it has an expected_version, which is no condition for what has happened; leave it out"
            .to_owned());
    }
    line.time_ns.ok_or_else(|| "it has no time; say by `at` when it happened".to_owned())
}

/// Ids of lines that have none, made of their texts, so that they are known again. The same line in two files is one event, whether both
/// are read by one command or each by its own; twice in one file it is two.
#[derive(Debug, Default)]
struct Ids {
    time_ns: Option<i128>,
    /// Of each text of this time, how often a file had it. At other times it is not: it says when it happened.
    seen: HashMap<(u32, u128), u32>,
}

impl Ids {
    fn next(&mut self, entry: &Entry) -> String {
        if self.time_ns.replace(entry.time_ns) != Some(entry.time_ns) {
            self.seen.clear();
        }
        let hash = xxh3_128(entry.text.trim_ascii());
        let times = self.seen.entry((entry.file, hash)).or_default();
        *times += 1;
        format!("backfill-{hash:032x}-{times}")
    }
}

/// Events that are captured with one sync.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Entry>,
    records: Vec<Record>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, entry: Entry, record: Record) {
        self.bytes += entry.bytes();
        self.entries.push(entry);
        self.records.push(record);
    }

    fn is_full(&self) -> bool {
        self.records.len() >= MAX_BATCH_RECORDS || self.bytes >= BATCH_BYTES
    }

    /// Captures what is in it, but for what is rejected, and is empty then.
    fn write(&mut self, capture: &Capture, runtime: &Runtime, brought: &mut Brought) -> Result<()> {
        let Self { entries, records, .. } = std::mem::take(self);
        if records.is_empty() {
            return Ok(());
        }
        let captured = runtime.block_on(capture.capture_each(records));
        let captured = captured.map_err(|refused| anyhow!("{refused}; {WAY_ON}"))?;
        let mut failed = Ok(());
        for (Entry { file, line, text, .. }, outcome) in entries.into_iter().zip(captured) {
            let rejected = match outcome {
                Ok(receipt) => {
                    brought.add(&receipt);
                    continue;
                }
                Err(reason) if reason.is_of_record() => {
                    brought.reject(file, line, &reason.to_string(), &text)
                }
                Err(reason) => Err(anyhow!("{reason}; {WAY_ON}")),
            };
            // The others are counted all the same: they are on disk.
            failed = failed.and(rejected);
        }
        failed
    }
}

/// What was brought in so far.
struct Brought {
    events: u64,
    duplicates: u64,
    /// Of each file.
    rejects: Vec<Rejects>,
    names: Vec<String>,
}

impl Brought {
    fn new(files: &[PathBuf], rejects: Option<&Path>) -> Self {
        let beside = |file: &PathBuf| {
            if is_stdin(file) { PathBuf::from("stdin.rejects.csv") } else { rejects_beside(file) }
        };
        let rejects = |file: &PathBuf| Rejects::new(rejects.map_or_else(|| beside(file), Path::to_owned));
        Self {
            events: 0,
            duplicates: 0,
            rejects: files.iter().map(rejects).collect(),
            names: files.iter().map(|file| file.display().to_string()).collect(),
        }
    }

    fn add(&mut self, receipt: &Receipt) {
        let count = if receipt.is_duplicate { &mut self.duplicates } else { &mut self.events };
        *count += 1;
    }

    fn reject(&mut self, file: u32, line: u64, reason: &str, text: &[u8]) -> Result<()> {
        if self.rejected() < TOLD_REJECTS {
            note(&format!("{}, line {line}: {reason}", self.names[file as usize]));
        }
        self.rejects[file as usize].push(line, reason, text)
    }

    fn rejected(&self) -> u64 {
        self.rejects.iter().map(|rejects| rejects.lines).sum()
    }

    fn progress(&self) -> String {
        let rejected = match self.rejected() {
            0 => String::new(),
            rejected => format!(", {} rejected", count(rejected)),
        };
        format!("{} captured{rejected}", counted(self.events + self.duplicates, "event", "events"))
    }

    fn tell(&self, is_json: bool, out: &mut Output) -> Result<()> {
        let with_rejects = || self.rejects.iter().filter(|rejects| rejects.lines > 0);
        if is_json {
            out.json(&json!({
                "events": self.events,
                "duplicates": self.duplicates,
                "rejected": self.rejected(),
                "rejects": with_rejects().map(|rejects| rejects.path.display().to_string()).collect::<Vec<_>>(),
            }))?;
        } else {
            let before = match self.duplicates {
                0 => String::new(),
                duplicates => format!("; {} there already", counted(duplicates, "was", "were")),
            };
            out.line(&format!("{} captured{before}", counted(self.events, "event", "events")))?;
        }
        for rejects in with_rejects() {
            let rejected = counted(rejects.lines, "line was", "lines were");
            note(&format!("{rejected} rejected: see {}", rejects.path.display()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_behind_the_events_says_what_is_done() {
        let failed = || Err(std::io::Error::other("no room"));
        let unpublished = publish(failed, || panic!("there is nothing to merge")).unwrap_err();
        assert!(unpublished.to_string().starts_with("the events are captured, and not published"));
        let unmerged = publish(|| Ok(1), failed).unwrap_err();
        assert!(unmerged.to_string().starts_with("the events are captured and published; files are not"));
        assert_eq!(format!("{:#}", unmerged.root_cause()), "no room");
        publish(|| Ok(1), || Ok::<_, std::io::Error>(())).unwrap();
    }

    #[test]
    fn a_line_without_an_id_has_the_same_one_again() {
        let entry = |time_ns: i128, file: u32, line: u64, text: &str| Entry {
            time_ns,
            file,
            line,
            text: text.as_bytes().to_vec(),
        };
        let mut ids = Ids::default();
        let first = ids.next(&entry(1, 0, 1, "a"));
        let other = ids.next(&entry(1, 0, 2, "b"));
        let again = ids.next(&entry(1, 0, 3, "a\r"));
        assert!(first != other && first != again, "each event has its own");
        assert_eq!(ids.next(&entry(1, 1, 1, "a")), first, "another file may have the same events");
        assert_eq!(ids.next(&entry(1, 1, 2, "a")), again);
        ids.next(&entry(2, 0, 4, "c"));
        let mut others = Ids::default();
        assert_eq!(others.next(&entry(1, 7, 9, "b")), other, "wherever it stands");
        assert_eq!(others.next(&entry(1, 7, 8, "a")), first);
        assert_eq!(others.next(&entry(1, 7, 10, "a")), again);
    }
}
