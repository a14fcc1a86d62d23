//! `keplor fold verify`: everything is read and checked, and all that is wrong is told.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use keplordb_fold::{Problem, ProblemKind, Verification};
use serde_json::json;

use super::source::Source;
use crate::output::{Output, counted};
use crate::progress::Waiting;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor fold verify data

Changes nothing; a program may be writing to the log. Whether a state is what its reducer makes of the events only that program can
tell, by `EventLog::verify`.")]
pub(crate) struct Verify {
    /// The directory of the events
    dir: PathBuf,
    /// Print the report as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Verify {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let source = Source::open(&self.dir)?;
        let waiting = Waiting::begin("checking");
        let report = source.reader.verify()?;
        drop(waiting);
        let printed = if self.json { out.json(&as_json(&report)) } else { print(out, &report) };
        ensure!(
            report.is_sound(),
            "{} found; restore the files from a copy, or close the program and set aside what is damaged: `keplor fold repair {}`",
            counted(report.problem_count, "problem was", "problems were"),
            self.dir.display()
        );
        // Damage is told by the exit status, whoever reads the output to its end.
        printed
    }
}

fn print(out: &mut Output, report: &Verification) -> Result<()> {
    out.line(&format!(
        "{} in {}, {} of lines; {} to the log",
        counted(report.events, "event", "events"),
        counted(report.generations, "generation", "generations"),
        counted(report.text_bytes, "byte", "bytes"),
        counted(report.snapshots, "state that is kept fits", "states that are kept fit"),
    ))?;
    for problem in &report.problems {
        out.line(&problem.to_string())?;
    }
    let untold = report.problem_count - report.problems.len() as u64;
    if untold > 0 {
        out.line(&format!("and {} like these", counted(untold, "problem", "problems")))?;
    }
    if report.unfinished_bytes > 0 {
        out.line(&format!(
            "the log ends in {} of an unfinished write: a writer is at it, or the next one mends it",
            counted(report.unfinished_bytes, "byte", "bytes")
        ))?;
    }
    if report.unfinished_rotation {
        out.line("a rotation is not finished: a writer is at it, or the next one ends it")?;
    }
    for path in &report.leftovers {
        out.line(&format!("{} was left by a crash, and nobody needs it", path.display()))?;
    }
    if report.is_sound() { out.line("nothing is wrong") } else { Ok(()) }
}

fn as_json(report: &Verification) -> serde_json::Value {
    let problem = |problem: &Problem| {
        json!({
            "kind": kind(problem.kind),
            "file": problem.file.display().to_string(),
            "generation": problem.generation,
            "offset": problem.offset,
            "what": problem.what,
        })
    };
    json!({
        "events": report.events,
        "generations": report.generations,
        "text_bytes": report.text_bytes,
        "states": report.snapshots,
        "unfinished_bytes": report.unfinished_bytes,
        "unfinished_rotation": report.unfinished_rotation,
        "leftovers": report.leftovers.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "problem_count": report.problem_count,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}

fn kind(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Line => "line",
        ProblemKind::Frame => "frame",
        ProblemKind::Files => "files",
        ProblemKind::Journal => "journal",
        ProblemKind::Index => "index",
        ProblemKind::Snapshot => "snapshot",
        ProblemKind::State => "state",
        ProblemKind::PrunedState => "pruned state",
        _ => "other",
    }
}
