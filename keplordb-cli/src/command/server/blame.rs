//! `keplor blame`: which event set which field of an entity.

use anyhow::Result;
use serde_json::Value as Json;

use super::{Named, When, field, text, time, value};
use crate::command::Done;
use crate::output::{Output, note};
use crate::sheet::{Cell, Form, Heading, Sheet};

/// Print of each field of an entity the event that set it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor blame data User user_123
  keplor blame data user_123 --as-of 2026-02-01 --json")]
pub(crate) struct Blame {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    form: Form,
}

impl Blame {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let entity = self.named.open()?;
        let instant = self.when.instant();
        let fields = entity.log.blame(&entity.entity_type, &entity.entity_id, instant)?;
        if fields.is_empty() {
            let fold = entity.log.get(&entity.entity_type, &entity.entity_id, instant)?;
            if fold.version() == 0 {
                return Err(entity.unseen(instant)?);
            }
            let why = if fold.state().is_some() { "it has no fields" } else { "it is deleted then" };
            note(&format!("{why}; `keplor history` shows its events"));
        }
        if self.form.json {
            fields.iter().try_for_each(|field| out.json(field))?;
            return Ok(Done::Well);
        }
        let headings = vec![
            Heading::left("field"),
            Heading::left("value"),
            Heading::left("before"),
            Heading::right("sequence"),
            Heading::left("op"),
            Heading::left("happened"),
            Heading::left("came_in"),
            Heading::left("client"),
        ];
        let mut sheet = Sheet::new(out, self.form, headings);
        for set in &fields {
            let previous: Option<&Json> = set.previous.as_ref();
            sheet.row(&[
                field(&set.path),
                value(&set.value),
                previous.map_or(Cell::Nothing, value),
                Cell::Exact(set.sequence.into()),
                Cell::Text(set.operation.as_str().to_owned()),
                time(set.event_time_ms),
                time(set.received_at_ms),
                text(&set.client),
            ])?;
        }
        sheet.finish()?;
        Ok(Done::Well)
    }
}
