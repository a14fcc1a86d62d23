//! `keplor diff`: what differs between two instants of an entity.

use anyhow::Result;
use keplordb_log::Timestamp;
use keplordb_server::Instant;

use super::{Named, field, ms, value};
use crate::command::Done;
use crate::output::Output;
use crate::parse;
use crate::sheet::{Cell, Form, Heading, Sheet};

/// Print the fields in which an entity differs between two times
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor diff data User user_123 --from 2026-02-01 --to 2026-03-01
  keplor diff data user_123 --from 7d --json

+ is a field that came, - one that went, ~ one that has another value.")]
pub(crate) struct Diff {
    #[command(flatten)]
    named: Named,
    /// As it was at this time: RFC 3339, a date (midnight in UTC), or how long ago (90s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "When")]
    from: Timestamp,
    /// And as it was at this one; by default, as it is
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "When")]
    to: Option<Timestamp>,
    /// Both by what was known at this time: events that came in later do not count
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "When")]
    known_at: Option<Timestamp>,
    #[command(flatten)]
    form: Form,
}

impl Diff {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let entity = self.named.open()?;
        let at = |as_of: Option<Timestamp>| Instant {
            as_of_ms: as_of.map(ms),
            known_at_ms: self.known_at.map(ms),
        };
        let (a, b) = (at(Some(self.from)), at(self.to));
        let changes = entity.log.diff(&entity.entity_type, &entity.entity_id, a, b)?;
        if changes.is_empty() {
            let known = Instant { as_of_ms: None, ..a };
            if entity.log.history(&entity.entity_type, &entity.entity_id, known)?.is_empty() {
                return Err(entity.unseen(known)?);
            }
        }
        if self.form.json {
            changes.iter().try_for_each(|change| out.json(change))?;
            return Ok(Done::Well);
        }
        let headings = ["change", "field", "before", "after"].map(Heading::left).to_vec();
        let mut sheet = Sheet::new(out, self.form, headings);
        for change in &changes {
            let sign = match (&change.before, &change.after) {
                (None, _) => "+",
                (_, None) => "-",
                _ => "~",
            };
            sheet.row(&[
                Cell::Text(sign.to_owned()),
                field(&change.path),
                change.before.as_ref().map_or(Cell::Nothing, value),
                change.after.as_ref().map_or(Cell::Nothing, value),
            ])?;
        }
        sheet.finish()?;
        Ok(Done::Well)
    }
}
