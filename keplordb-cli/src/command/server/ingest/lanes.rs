//! A file of events on its way to a server: many at once, those of one entity one after the other.
//!
//! A thread reads lines and gives each to the lane of its entity; a lane sends one event after the other, and waits for each to be
//! acknowledged. So as many events as there are lanes are under way, and the server writes them with one sync.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use keplordb_server::grpc::v1;
use serde_json::json;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;

use super::Ingest;
use super::client::{Answer, Server};
use super::lines::{Job, Lines};
use crate::command::Done;
use crate::interrupt;
use crate::lines::{Rejects, rejects_beside};
use crate::output::{Output, count, counted, note};
use crate::progress::Progress;

/// Lines that wait in each lane.
const WAITING: usize = 16;
/// What became of lines and waits to be counted.
const OUTCOMES: usize = 1024;
/// A server that is busy is asked again so often, each time after twice as long a pause as before, from the first to the longest.
const TRIES: u32 = 40;
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);
/// So many rejected lines are told one by one.
const TOLD_REJECTS: u64 = 10;

/// What became of a line, or of all.
pub(super) enum Outcome {
    Acknowledged {
        line: u64,
        response: v1::IngestResponse,
    },
    Rejected {
        line: u64,
        reason: String,
        text: Vec<u8>,
    },
    Blank {
        line: u64,
    },
    /// Nothing more can be sent or read.
    Failed {
        what: String,
    },
    Interrupted,
    /// A lane has nothing more to send.
    LaneEnded,
}

/// What was sent so far.
struct Sent {
    events: u64,
    duplicates: u64,
    rejects: Rejects,
    /// All lines up to here are acknowledged or rejected.
    settled: u64,
    /// And these above.
    above: BTreeSet<u64>,
    is_interrupted: bool,
    failed: Option<String>,
}

/// Sends a file's events.
pub(super) async fn send(ingest: &Ingest, file: &Path, server: &Server, out: &mut Output) -> Result<Done> {
    let input = Lines::open(file)?;
    let types = server.types().await?;
    interrupt::listen()?;
    let is_stdin = file.as_os_str() == "-";
    let beside = || if is_stdin { PathBuf::from("stdin.rejects.csv") } else { rejects_beside(file) };
    let rejects = ingest.rejects.clone().unwrap_or_else(beside);
    let mut sent = Sent {
        events: 0,
        duplicates: 0,
        rejects: Rejects::new(rejects),
        settled: 0,
        above: BTreeSet::new(),
        is_interrupted: false,
        failed: None,
    };

    let total = input.total();
    let bytes_read = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(watch::Sender::new(false));
    let (outcomes, mut coming) = channel(OUTCOMES);
    let mut lanes = Vec::new();
    for _ in 0..ingest.lanes {
        let (jobs, waiting) = channel(WAITING);
        lanes.push(jobs);
        tokio::spawn(lane(server.clone(), waiting, outcomes.clone(), Arc::clone(&is_over)));
    }
    let read = Arc::clone(&bytes_read);
    // No task: nobody waits for a thread that waits for standard input.
    std::thread::spawn(move || input.run(&types, &lanes, &outcomes, &read));

    let mut progress = Progress::begin();
    let mut lanes_left = ingest.lanes;
    while lanes_left > 0 {
        let Some(outcome) = coming.recv().await else { break };
        if matches!(outcome, Outcome::LaneEnded) {
            lanes_left -= 1;
        }
        let receipts = ingest.receipts.then_some(&mut *out);
        if let Err(error) = sent.add(outcome, receipts) {
            sent.failed.get_or_insert(format!("{error:#}"));
        }
        if sent.failed.is_some() {
            is_over.send_replace(true);
        }
        if ingest.receipts && coming.is_empty() {
            out.flush()?;
        }
        if let Some(total) = total {
            progress.tell(bytes_read.load(Ordering::Relaxed), total, || sent.progress());
        }
    }
    drop(progress);
    sent.tell(ingest, out)
}

/// Sends what comes, one after the other.
async fn lane(
    server: Server,
    mut jobs: Receiver<Job>,
    outcomes: Sender<Outcome>,
    is_over: Arc<watch::Sender<bool>>,
) {
    // What fails to be sent to who counts was wanted by nobody.
    let mut over = is_over.subscribe();
    loop {
        let job = tokio::select! {
            biased;
            _ = over.wait_for(|is_over| *is_over) => break,
            job = jobs.recv() => job,
        };
        let Some(Job { line, text, record }) = job else { break };
        let outcome = match patiently(&server, record, &is_over).await {
            Answer::Taken(response) => Outcome::Acknowledged { line, response },
            Answer::Rejected(reason) => Outcome::Rejected { line, reason, text },
            Answer::Busy(what) | Answer::Lost(what) => {
                is_over.send_replace(true);
                let _ = outcomes.send(Outcome::Failed { what }).await;
                break;
            }
        };
        let _ = outcomes.send(outcome).await;
    }
    // Whoever reads lines must not wait for room here.
    drop(jobs);
    let _ = outcomes.send(Outcome::LaneEnded).await;
}

/// Sends an event, again and again while the server is busy.
async fn patiently(server: &Server, record: v1::IngestRecord, is_over: &watch::Sender<bool>) -> Answer {
    let mut pause = PAUSE_FIRST;
    let mut tries = 1;
    loop {
        let answer = server.send(record.clone()).await;
        if !matches!(answer, Answer::Busy(_)) || tries == TRIES || *is_over.borrow() {
            return answer;
        }
        tokio::time::sleep(pause).await;
        tries += 1;
        pause = (pause * 2).min(PAUSE_LONGEST);
    }
}

impl Sent {
    fn add(&mut self, outcome: Outcome, receipts: Option<&mut Output>) -> Result<()> {
        match outcome {
            Outcome::Acknowledged { line, response } => {
                self.events += u64::from(!response.duplicate);
                self.duplicates += u64::from(response.duplicate);
                self.settle(line);
                if let Some(out) = receipts {
                    out.json(&json!({
                        "line": line,
                        "sequence": response.sequence,
                        "event_id": response.event_id,
                        "duplicate": response.duplicate,
                    }))?;
                }
            }
            Outcome::Rejected { line, reason, text } => {
                if self.rejects.lines < TOLD_REJECTS {
                    note(&format!("line {line}: {reason}"));
                }
                self.rejects.push(line, &reason, &text)?;
                self.settle(line);
            }
            Outcome::Blank { line } => self.settle(line),
            // The first one is the reason of the others.
            Outcome::Failed { what } => drop(self.failed.get_or_insert(what)),
            Outcome::Interrupted => self.is_interrupted = true,
            Outcome::LaneEnded => {}
        }
        Ok(())
    }

    fn settle(&mut self, line: u64) {
        self.above.insert(line);
        while self.above.remove(&(self.settled + 1)) {
            self.settled += 1;
        }
    }

    fn progress(&self) -> String {
        let rejected = match self.rejects.lines {
            0 => String::new(),
            rejected => format!(", {} rejected", count(rejected)),
        };
        format!("{}{rejected}", counted(self.events + self.duplicates, "event", "events"))
    }

    /// What is on disk is told in any case: who repeats a failed call must know where to begin.
    fn tell(self, ingest: &Ingest, out: &mut Output) -> Result<Done> {
        let rejected = self.rejects.lines;
        let rejects = (rejected > 0).then(|| self.rejects.path.display().to_string());
        let before = match self.duplicates {
            0 => String::new(),
            duplicates => format!("; {} there already", counted(duplicates, "was", "were")),
        };
        let text = format!("{} committed{before}", counted(self.events, "event", "events"));
        let told = if ingest.json {
            out.json(&json!({
                "events": self.events,
                "duplicates": self.duplicates,
                "rejected": rejected,
                "rejects": rejects,
                "settled": self.settled,
            }))
        } else if ingest.receipts {
            note(&text);
            Ok(())
        } else {
            out.line(&text)
        };
        if let Some(rejects) = &rejects {
            note(&format!("{} rejected: see {rejects}", counted(rejected, "line was", "lines were")));
        }
        if let Some(what) = &self.failed {
            bail!("{what}; {}", self.way_on());
        }
        told?;
        if self.is_interrupted {
            note(&format!("interrupted; {}", self.way_on()));
            return Ok(Done::Interrupted);
        }
        Ok(if rejected > 0 { Done::Rejected } else { Done::Well })
    }

    /// Where to begin again.
    fn way_on(&self) -> String {
        let behind = match self.above.len() as u64 {
            0 => String::new(),
            lines => format!(
                ", and of those behind it {}, so send it again only if its lines have event_ids",
                count(lines)
            ),
        };
        format!("all lines up to {} are acknowledged or rejected{behind}", self.settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_settled_up_to_the_first_that_is_not() {
        let mut sent = Sent {
            events: 0,
            duplicates: 0,
            rejects: Rejects::new(PathBuf::new()),
            settled: 0,
            above: BTreeSet::new(),
            is_interrupted: false,
            failed: None,
        };
        for (line, settled) in [(2, 0), (1, 2), (5, 2), (3, 3), (4, 5)] {
            sent.settle(line);
            assert_eq!(sent.settled, settled);
        }
        assert!(sent.above.is_empty());
    }
}
