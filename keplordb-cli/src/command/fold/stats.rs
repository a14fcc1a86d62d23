//! `keplor fold stats`: what a history has in all.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keplordb_log::Timestamp;
use serde::Serialize;

use super::source::{Source, names_of_views};
use crate::output::{Output, count};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor fold stats data

How many events there are of each type: `keplor fold state data --reduce count-by=type`.")]
pub(crate) struct Stats {
    /// The directory of the events
    dir: PathBuf,
    /// Print as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Serialize)]
struct Sums {
    /// Those that were ever appended.
    events: u64,
    /// Of them those that are no longer there.
    pruned: u64,
    archived: u64,
    /// Texts of lines that are there: frames of the archive, and the log.
    generations: u64,
    log_bytes: u64,
    archive_bytes: u64,
    views: u64,
    view_bytes: u64,
    first: Option<String>,
    last: Option<String>,
}

impl Stats {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let source = Source::open(&self.dir)?;
        let reader = &source.reader;
        let explained = |error| source.explained(error);
        let (first, begin) = reader.first().map_err(explained)?;
        let end = reader.end_position().map_err(explained)?;
        let active = keplordb_fold::Position { generation: end.generation, offset: 0 };
        let archived_end = reader.seq_of(active).map_err(explained)?;
        let events = reader.len().map_err(explained)?;
        let files = source.states()?;
        let sums = Sums {
            events,
            pruned: first,
            archived: archived_end.saturating_sub(first),
            generations: end.generation - begin.generation + 1,
            log_bytes: bytes(reader.log_path())?,
            archive_bytes: bytes(reader.archive_path())?,
            views: names_of_views(&files).len() as u64,
            view_bytes: files.iter().map(|file| bytes(&file.path)).sum::<Result<u64>>()?,
            first: time(&source, first),
            last: events.checked_sub(1).and_then(|last| time(&source, last)),
        };
        if self.json {
            return out.json(&sums);
        }
        let mut row = |name: &str, text: &str| out.line(&format!("{name:<14} {text}"));
        for (name, sum) in [
            ("events", sums.events),
            ("pruned", sums.pruned),
            ("archived", sums.archived),
            ("generations", sums.generations),
            ("log bytes", sums.log_bytes),
            ("archive bytes", sums.archive_bytes),
            ("views", sums.views),
            ("view bytes", sums.view_bytes),
        ] {
            row(name, &count(sum))?;
        }
        row("first", sums.first.as_deref().unwrap_or("-"))?;
        row("last", sums.last.as_deref().unwrap_or("-"))
    }
}

/// The time of an event; none of a line that is no event, or where there is none.
fn time(source: &Source, sequence: u64) -> Option<String> {
    let (event, _) = source.reader.read_seq(sequence).ok()?.next()?.ok()?;
    let ts_ns = i64::try_from(event.ts).ok()?.checked_mul(1_000_000_000)?;
    Some(Timestamp::from_ns(ts_ns).to_string())
}

/// The length of a file; nothing where there is none.
pub(super) fn bytes(path: &Path) -> Result<u64> {
    match path.metadata() {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("{} cannot be looked at", path.display())),
    }
}
