//! The lines of a file on their way to the lanes, or to whoever else takes them.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use keplordb_server::MAX_PAYLOAD_BYTES;
use keplordb_server::grpc::v1;
use tokio::sync::mpsc::Sender;

use super::event::{OfLine, of_line};
use super::lanes::Outcome;
use crate::interrupt;
use crate::lines::next_line;

/// The file is read in pieces of so many bytes.
const INPUT_BYTES: usize = 1 << 20;
/// Bytes of a line: a payload, what escapes make of it, and what stands around it.
const LINE_BYTES: u64 = 2 * MAX_PAYLOAD_BYTES as u64 + (1 << 20);

/// A line that is to be sent.
pub(super) struct Job {
    pub(super) line: u64,
    pub(super) text: Vec<u8>,
    pub(super) record: v1::IngestRecord,
}

/// A file of events, or standard input.
pub(in crate::command::server) struct Lines {
    input: BufReader<Box<dyn Read + Send>>,
    is_stdin: bool,
    path: PathBuf,
    /// Lines that were read.
    read: u64,
}

/// What comes next of a file.
pub(in crate::command::server) enum Next {
    /// A line with its number, from 1.
    Line { line: u64, text: Vec<u8> },
    /// There is none any more.
    End,
    /// Somebody wants an end.
    Interrupted,
}

impl Lines {
    pub(in crate::command::server) fn open(path: &Path) -> Result<Self> {
        let is_stdin = path.as_os_str() == "-";
        let input: Box<dyn Read + Send> = if is_stdin {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).with_context(|| format!("{} cannot be read", path.display()))?)
        };
        let input = BufReader::with_capacity(INPUT_BYTES, input);
        Ok(Self { input, is_stdin, path: path.to_owned(), read: 0 })
    }

    /// Its bytes, where that is known.
    pub(super) fn total(&self) -> Option<u64> {
        if self.is_stdin {
            return None;
        }
        let metadata = self.path.metadata().ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// The next line, waited for where it comes from standard input.
    pub(in crate::command::server) fn read(&mut self) -> Result<Next> {
        let waits = self.is_stdin && !self.input.buffer().contains(&b'\n');
        if interrupt::is_asked() || (waits && !interrupt::wait_for_input()) {
            return Ok(Next::Interrupted);
        }
        let read = next_line(&mut self.input, LINE_BYTES);
        let failed = || format!("{} cannot be read behind line {}", self.path.display(), self.read);
        let Some(text) = read.with_context(failed)? else { return Ok(Next::End) };
        self.read += 1;
        Ok(Next::Line { line: self.read, text })
    }

    /// Gives each line to the lane of its entity, or to `outcomes` where it is none, until the end, Ctrl-C, or the end of a lane.
    pub(super) fn run(
        mut self,
        types: &[String],
        lanes: &[Sender<Job>],
        outcomes: &Sender<Outcome>,
        bytes_read: &AtomicU64,
    ) {
        // What fails to be sent was wanted by nobody: the sending is over.
        loop {
            let (line, text) = match self.read() {
                Ok(Next::Line { line, text }) => (line, text),
                Ok(Next::End) => return,
                Ok(Next::Interrupted) => {
                    let _ = outcomes.blocking_send(Outcome::Interrupted);
                    return;
                }
                Err(error) => {
                    let _ = outcomes.blocking_send(Outcome::Failed { what: format!("{error:#}") });
                    return;
                }
            };
            bytes_read.fetch_add(text.len() as u64 + 1, Ordering::Relaxed);
            let is_sent = if text.trim_ascii().is_empty() {
                outcomes.blocking_send(Outcome::Blank { line }).is_ok()
            } else {
                match job(line, text, types) {
                    Ok(job) => lanes[lane_of(&job.record, lanes.len())].blocking_send(job).is_ok(),
                    Err(rejected) => outcomes.blocking_send(rejected).is_ok(),
                }
            };
            if !is_sent {
                return;
            }
        }
    }
}

/// The job of a line; what is none is rejected.
fn job(line: u64, text: Vec<u8>, types: &[String]) -> std::result::Result<Job, Outcome> {
    match read_line(&text, types) {
        Ok(OfLine { record, .. }) => Ok(Job { line, text, record }),
        Err(reason) => Err(Outcome::Rejected { line, reason, text }),
    }
}

/// What a line as it was read is; why it is no event, otherwise. `types` are those of the server's schema.
pub(in crate::command::server) fn read_line(
    text: &[u8],
    types: &[String],
) -> std::result::Result<OfLine, String> {
    if text.len() as u64 > LINE_BYTES {
        return Err(format!("the line is longer than {LINE_BYTES} bytes"));
    }
    of_line(text, types).map_err(|error| format!("{error:#}"))
}

/// An entity's events all take one lane, so they stay in their order.
fn lane_of(record: &v1::IngestRecord, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    (&record.entity_type, &record.entity_id).hash(&mut hasher);
    usize::try_from(hasher.finish() % lanes as u64).unwrap_or(0)
}
