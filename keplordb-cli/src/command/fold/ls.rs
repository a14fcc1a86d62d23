//! `keplor fold ls`: the archive, the log, and what views keep.

use std::path::PathBuf;

use anyhow::Result;
use keplordb_fold::Position;
use serde::de::IgnoredAny;

use super::kept::{self, Kind};
use super::source::Source;
use super::stats::bytes;
use crate::output::Output;
use crate::sheet::{Cell, Form, Heading, Sheet};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor fold ls data

Of the archive and the log, events are those in it; of a view, those that its state is of, and behind is how many came since. Position
is generation:byte. A view with a problem is computed anew when its program refreshes it; `keplor fold verify` looks closer.")]
pub(super) struct Ls {
    /// The directory of the events
    dir: PathBuf,
    /// Also the states of the past that views keep
    #[arg(long)]
    checkpoints: bool,
    #[command(flatten)]
    form: Form,
}

impl Ls {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let source = Source::open(&self.dir)?;
        let reader = &source.reader;
        let explained = |error| source.explained(error);
        let headings = vec![
            Heading::left("name"),
            Heading::left("kind"),
            Heading::right("events"),
            Heading::right("behind"),
            Heading::right("version"),
            Heading::left("position"),
            Heading::right("bytes"),
            Heading::left("problem"),
        ];
        let mut sheet = Sheet::new(out, self.form, headings);
        let (first, _) = reader.first().map_err(explained)?;
        let end = reader.end_position().map_err(explained)?;
        let begin = reader.seq_of(Position { generation: end.generation, offset: 0 }).map_err(explained)?;
        let number = |number: u64| Cell::Number(number.into());
        let name = |path: &std::path::Path| {
            Cell::Text(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        };
        let mut file = |path: &std::path::Path, kind: &str, events, position| {
            let text = |text: &str| Cell::Text(text.to_owned());
            sheet.row(&[
                name(path),
                text(kind),
                number(events),
                Cell::Nothing,
                Cell::Nothing,
                position,
                number(bytes(path)?),
                Cell::Nothing,
            ])
        };
        if reader.archive_path().is_file() {
            file(reader.archive_path(), "archive", begin.saturating_sub(first), Cell::Nothing)?;
        }
        let in_log = reader.len().map_err(explained)?.saturating_sub(begin);
        file(reader.log_path(), "log", in_log, position(end))?;

        for file in kept::list(&self.dir)? {
            if file.kind == Kind::Checkpoint && !self.checkpoints {
                continue;
            }
            // A writer may have taken it away meanwhile.
            let Some(found) = kept::read::<IgnoredAny>(&file.path)? else { continue };
            let (events, problem) = match &found {
                Ok(kept) => match kept.events(reader) {
                    Ok(events) => (Some(events), None),
                    Err(problem) => (None, Some(problem)),
                },
                Err(problem) => (None, Some((*problem).to_owned())),
            };
            // Later than the state was read: so there are no fewer events than it is of.
            let all = reader.len().map_err(explained)?;
            let optional = |value: Option<u64>| value.map_or(Cell::Nothing, number);
            let found = found.ok();
            sheet.row(&[
                Cell::Text(file.view),
                Cell::Text(file.kind.name().to_owned()),
                optional(events),
                optional(events.map(|events| all.saturating_sub(events))),
                optional(found.as_ref().and_then(|kept| kept.version)),
                found.map_or(Cell::Nothing, |kept| position(kept.position)),
                number(file.bytes),
                problem.map_or(Cell::Nothing, Cell::Text),
            ])?;
        }
        sheet.finish()
    }
}

fn position(position: Position) -> Cell {
    Cell::Text(format!("{}:{}", position.generation, position.offset))
}
