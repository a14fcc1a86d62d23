//! `keplor history`: the events of an entity.

use anyhow::Result;

use super::event::Printer;
use super::{Named, When};
use crate::command::Done;
use crate::output::Output;
use crate::sheet::Form;

/// Print the events of an entity, in the order in which they count
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor history data User user_123
  keplor history data user_123 --known-at 2026-02-01 --json

Events count by when they happened; one that came in late stands where it belongs, and its two times show it.")]
pub(crate) struct History {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    when: When,
    /// At most so many, the newest
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    form: Form,
}

impl History {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let entity = self.named.open()?;
        let instant = self.when.instant();
        let events = entity.log.history(&entity.entity_type, &entity.entity_id, instant)?;
        if events.is_empty() {
            return Err(entity.unseen(instant)?);
        }
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut printer = Printer::new(out, self.form, false);
        for event in events.iter().skip(events.len().saturating_sub(limit)) {
            printer.print(event)?;
        }
        printer.finish()?;
        Ok(Done::Well)
    }
}
