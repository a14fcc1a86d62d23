//! `keplor fold cat`: events from a moment to a moment.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;

use super::event::Printer;
use super::moment::{Moment, moment};
use super::source::{Source, Wanted};
use crate::output::Output;
use crate::sheet::Form;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor fold cat data --from 2026-02-01 --to 2026-03-01 --type todo_added
  keplor fold cat data --from 5000 --to 5120 --json

A number counts events from the first one ever: event 0 is the first. Of --json each line is an event as it is in the log, and its
number; the columns for people leave out id and meta. A program may be writing to the log meanwhile.")]
pub(crate) struct Cat {
    /// The directory of the events
    dir: PathBuf,
    /// Only events from here on: a number, a position (generation:byte), or a time (RFC 3339, a date, or how long ago: 2h, 7d)
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    from: Option<Moment>,
    /// Only events before this
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    to: Option<Moment>,
    /// At most so many, the first
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    form: Form,
}

impl Cat {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let Self { dir, from, to, limit, wanted, form } = self;
        let source = Source::open(&dir)?;
        let numbered = |moment: Option<Moment>| moment.map_or(Ok(None), |moment| moment.sequence(&source));
        let begin = match numbered(from)? {
            Some(begin) => begin,
            None => source.reader.first().map_err(|error| source.explained(error))?.0,
        };
        let end = numbered(to)?.unwrap_or(u64::MAX);
        let mut printer = Printer::new(out, form);
        let mut left = limit.unwrap_or(u64::MAX);
        if left > 0 && begin < end {
            let done = source.each(begin, &wanted, |event, sequence| {
                if sequence >= end {
                    return Ok(ControlFlow::Break(()));
                }
                // Clocks are set back: an event behind a later one may still be meant.
                let is_early = from.is_some_and(|from| from.is_behind(event.ts));
                let is_late = to.is_some_and(|to| matches!(to, Moment::Time(_)) && !to.is_behind(event.ts));
                if !is_early && !is_late && wanted.has(&event) {
                    printer.print(&event, sequence)?;
                    left -= 1;
                }
                let ends = left == 0 || sequence + 1 == end;
                Ok(if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            });
            if done.is_err() {
                // What was found before a failure is shown.
                printer.finish()?;
                return done;
            }
        }
        printer.finish()
    }
}
