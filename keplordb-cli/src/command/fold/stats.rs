//! `keplor fold stats`: what a history has in all.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keplordb_log::Timestamp;

use super::source::{Source, names_of_views};
use crate::output::Output;
use crate::sheet::{Cell, Form, summary};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor fold stats data

How many events there are of each type: `keplor fold state data --reduce count-by=type`.")]
pub(crate) struct Stats {
    /// The directory of the events
    dir: PathBuf,
    #[command(flatten)]
    form: Form,
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
        let number = |number: u64| Cell::Number(number.into());
        let view_bytes = files.iter().map(|file| bytes(&file.path)).sum::<Result<u64>>()?;
        let values = [
            // Those that were ever appended, and of them those that are no longer there.
            ("events", number(events)),
            ("pruned", number(first)),
            ("archived", number(archived_end.saturating_sub(first))),
            // Texts of lines that are there: frames of the archive, and the log.
            ("generations", number(end.generation - begin.generation + 1)),
            ("log_bytes", number(bytes(reader.log_path())?)),
            ("archive_bytes", number(bytes(reader.archive_path())?)),
            ("views", number(names_of_views(&files).len() as u64)),
            ("view_bytes", number(view_bytes)),
            ("first", time(&source, first)),
            ("last", events.checked_sub(1).map_or(Cell::Nothing, |last| time(&source, last))),
        ];
        summary(out, self.form, values)
    }
}

/// The time of an event; nothing of a line that is no event, or where there is none.
fn time(source: &Source, sequence: u64) -> Cell {
    let event = source.reader.read_seq(sequence).ok().and_then(|mut events| events.next()?.ok());
    let ts_ns = event.and_then(|(event, _)| i64::try_from(event.ts).ok()?.checked_mul(1_000_000_000));
    ts_ns.map_or(Cell::Nothing, |ts_ns| Cell::Text(Timestamp::from_ns(ts_ns).to_string()))
}

/// The length of a file; nothing where there is none.
pub(super) fn bytes(path: &Path) -> Result<u64> {
    match path.metadata() {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("{} cannot be looked at", path.display())),
    }
}
