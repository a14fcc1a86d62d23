//! `keplor log verify`: everything is read and checked, and all that is wrong is told.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use keplordb_log::{Damage, VerifyReport};
use serde::Serialize;

use super::{existing, span};
use crate::output::{Output, counted};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor log verify bank --json

Nothing is changed. A log that is damaged is exit status 1.")]
pub(crate) struct Verify {
    /// The log's directory; a writer may be at work in it
    dir: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// The report as JSON.
#[derive(Serialize)]
struct Report {
    segments: u64,
    entries: u64,
    bytes: u64,
    first: Option<String>,
    last: Option<String>,
    damage: Vec<Damaged>,
    torn: Option<Place>,
}

#[derive(Serialize)]
struct Damaged {
    #[serde(flatten)]
    place: Place,
    /// Entries in it, where that can be told.
    entries: Option<u64>,
    what: String,
}

#[derive(Serialize)]
struct Place {
    file: String,
    offset: u64,
    bytes: u64,
}

impl Verify {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let report = existing(&self.dir)?.verify()?;
        let printed = if self.json { out.json(&as_json(&report)) } else { print(out, &report) };
        let files = report.damage.len() as u64;
        ensure!(
            report.is_sound(),
            "{} damaged; restore the files from a copy, a replica for example; `keplor log cat --from` a later time reads what is behind",
            counted(files, "place is", "places are")
        );
        // Damage is told by the exit status, whoever reads the output to its end.
        printed
    }
}

fn print(out: &mut Output, report: &VerifyReport) -> Result<()> {
    let VerifyReport { segments, entries, bytes, first, last, damage, torn } = report;
    out.line(&format!(
        "{} in {}, {}{}",
        counted(*entries, "entry", "entries"),
        counted(*segments, "segment", "segments"),
        counted(*bytes, "byte", "bytes"),
        span(*first, *last)
    ))?;
    for Damage { file, offset, bytes, entries, what } in damage {
        let bytes = counted(*bytes, "byte", "bytes");
        let lost = match entries {
            Some(entries) => format!("{bytes} with {} are lost", counted(*entries, "entry", "entries")),
            None => format!("{bytes} are lost"),
        };
        out.line(&format!("{} is damaged at byte {offset}: {what}; {lost}", file.display()))?;
    }
    if let Some(torn) = torn {
        let bytes = counted(torn.bytes, "byte", "bytes");
        let file = torn.file.display();
        out.line(&format!(
            "{file} ends in {bytes} from byte {} on that a crash left unfinished; the next writer removes them",
            torn.offset
        ))?;
    }
    if report.is_sound() { out.line("no damage") } else { Ok(()) }
}

fn as_json(report: &VerifyReport) -> Report {
    let place = |file: &PathBuf, offset, bytes| Place { file: file.display().to_string(), offset, bytes };
    let damage = report.damage.iter().map(|damage| Damaged {
        place: place(&damage.file, damage.offset, damage.bytes),
        entries: damage.entries,
        what: damage.what.clone(),
    });
    Report {
        segments: report.segments,
        entries: report.entries,
        bytes: report.bytes,
        first: report.first.map(|time| time.to_string()),
        last: report.last.map(|time| time.to_string()),
        damage: damage.collect(),
        torn: report.torn.as_ref().map(|torn| place(&torn.file, torn.offset, torn.bytes)),
    }
}
