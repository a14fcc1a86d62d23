//! `keplor fold tail`: the last events, and those that come, across rotations.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use keplordb_fold::{Event, Update};

use super::event::Printer;
use super::source::{Source, Wanted, is_bad_line};
use crate::output::{Output, note};
use crate::sheet::Form;

/// How long one wait may take. Whatever it is, an event ends it at once.
const WAIT: Duration = Duration::from_mins(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor fold tail data -f --type order_placed --json | jq .data

An event is shown as soon as it is written, which may be before its sync.")]
pub(crate) struct Tail {
    /// The directory of the events
    dir: PathBuf,
    /// How many of those that are there already
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    events: u64,
    /// Go on with events that come, until interrupted
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    form: Form,
}

impl Tail {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let Self { dir, events, follow, wanted, form } = self;
        let source = Source::open(&dir)?;
        let reader = &source.reader;
        let explained = |error| source.explained(error);
        let (first, begin) = reader.first().map_err(explained)?;
        let begin = if wanted.is_any() {
            let number = reader.len().map_err(explained)?.saturating_sub(events).max(first);
            reader.position_of(number).map_err(explained)?.unwrap_or(begin)
        } else {
            // Which are the last of their kind is known when all were seen.
            begin
        };
        let mut updates =
            reader.subscribe(begin).map_err(explained)?.of_types(wanted.types).by_actors(wanted.actors);
        let most = usize::try_from(events).unwrap_or(usize::MAX);
        let mut last: VecDeque<(Event, u64)> = VecDeque::new();
        let mut printer = Printer::new(out, form);
        let (mut is_live, mut patience) = (false, Duration::ZERO);
        loop {
            match updates.next(patience) {
                Ok(Some(Update::Event { event, sequence, .. })) if is_live => {
                    printer.print(&event, sequence)?;
                    patience = Duration::ZERO;
                }
                Ok(Some(Update::Event { event, sequence, .. })) => {
                    last.push_back((event, sequence));
                    if last.len() > most {
                        last.pop_front();
                    }
                }
                Ok(Some(Update::CaughtUp)) => {
                    for (event, sequence) in last.drain(..) {
                        printer.print(&event, sequence)?;
                    }
                    if !follow {
                        return printer.finish();
                    }
                    is_live = true;
                }
                Ok(None) => {
                    printer.flush()?;
                    patience = WAIT;
                }
                Err(error) if wanted.skip_damaged && is_bad_line(&error) => note(&error.to_string()),
                Err(error) => {
                    printer.finish()?;
                    return Err(source.explained(error));
                }
            }
        }
    }
}
