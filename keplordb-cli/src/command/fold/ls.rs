//! `keplor fold ls`: the archive, the log, and what views keep.

use std::path::PathBuf;

use anyhow::Result;
use keplordb_fold::{KeptState, Position, StateFound, StateKind};
use serde::de::IgnoredAny;

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
pub(crate) struct Ls {
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

        for file in source.states()? {
            if file.kind == StateKind::Checkpoint && !self.checkpoints {
                continue;
            }
            let (kept, problem) = match reader.read_state::<IgnoredAny>(&file).map_err(explained)? {
                StateFound::Kept(kept) => (Some(kept), None),
                StateFound::Unusable(why) => (None, Some(why)),
                // A writer has taken it away meanwhile.
                _ => continue,
            };
            // Later than the state was read: so there are no fewer events than it is of.
            let all = reader.len().map_err(explained)?;
            let of = |value: fn(&KeptState<IgnoredAny>) -> u64| {
                kept.as_ref().map_or(Cell::Nothing, |kept| number(value(kept)))
            };
            sheet.row(&[
                Cell::Text(file.view),
                Cell::Text(name_of(file.kind).to_owned()),
                of(|kept| kept.sequence),
                kept.as_ref().map_or(Cell::Nothing, |kept| number(all.saturating_sub(kept.sequence))),
                of(|kept| kept.version),
                kept.as_ref().map_or(Cell::Nothing, |kept| position(kept.position)),
                number(bytes(&file.path)?),
                problem.map_or(Cell::Nothing, |why| Cell::Text(why.to_owned())),
            ])?;
        }
        sheet.finish()
    }
}

fn name_of(kind: StateKind) -> &'static str {
    match kind {
        StateKind::Snapshot => "view",
        StateKind::Base => "base",
        StateKind::Checkpoint => "checkpoint",
        _ => "other",
    }
}

fn position(position: Position) -> Cell {
    Cell::Text(format!("{}:{}", position.generation, position.offset))
}
