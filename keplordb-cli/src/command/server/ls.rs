//! `keplor ls`: the types of a root, and the entities of a type.

use std::path::PathBuf;

use anyhow::{Result, bail};
use keplordb_server::{EntityLog, Schemas};
use serde_json::{Value as Json, json};

use super::{When, fold, name, time, types};
use crate::command::Done;
use crate::output::{Output, note};
use crate::sheet::{Cell, Form, Heading, Sheet};

/// Ids are looked for by a scan over all of a type: not one by one.
const LOOKED_FOR_MIN: usize = 256;

/// List the types of a server's root, or the entities of a type
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor ls data
  keplor ls data User --begin user_1 -n 20
  keplor ls data User --as-of 2026-02-01 --json")]
pub(crate) struct Ls {
    /// The server's root; the server may be running
    root: PathBuf,
    /// The entities of this type, and what they are
    #[arg(value_name = "TYPE")]
    entity_type: Option<String>,
    /// Only entities whose ids begin so
    #[arg(long, value_name = "TEXT", requires = "entity_type")]
    begin: Option<String>,
    /// Only entities behind this id
    #[arg(long, value_name = "ID", requires = "entity_type")]
    after: Option<String>,
    /// At most so many entities
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, requires = "entity_type")]
    limit: usize,
    /// Deleted entities too
    #[arg(long, requires = "entity_type")]
    deleted: bool,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    form: Form,
}

impl Ls {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let log = EntityLog::beside(&self.root)?;
        match &self.entity_type {
            Some(entity_type) => self.entities(&log, entity_type, out)?,
            None => self.types(&log, out)?,
        }
        Ok(Done::Well)
    }

    /// Those of the schema come, too, without events.
    fn types(&self, log: &EntityLog, out: &mut Output) -> Result<()> {
        if self.when.is_given() {
            bail!("--as-of and --known-at go with a type: `keplor ls ROOT TYPE`");
        }
        let schemas = Schemas::beside(&self.root)?;
        let found = log.types()?;
        let headings = vec![
            Heading::left("type"),
            Heading::right("events"),
            Heading::left("first_came_in"),
            Heading::left("last_came_in"),
        ];
        let mut sheet = Sheet::new(out, self.form, headings);
        for entity_type in types(&self.root, log)? {
            let of_type = found.iter().find(|of_type| of_type.entity_type == entity_type);
            sheet.row(&[
                Cell::Text(entity_type),
                Cell::Number(of_type.map_or(0, |of_type| of_type.events).into()),
                of_type.map_or(Cell::Nothing, |of_type| time(of_type.first_received_ms)),
                of_type.map_or(Cell::Nothing, |of_type| time(of_type.last_received_ms)),
            ])?;
        }
        sheet.finish()?;
        if found.is_empty() && schemas.newest().is_none() && self.form.is_text() {
            note("nothing was captured yet; `keplor ingest` sends an event to the server");
        }
        Ok(())
    }

    fn entities(&self, log: &EntityLog, asked: &str, out: &mut Output) -> Result<()> {
        let types = types(&self.root, log)?;
        let Some(entity_type) = name::registered(asked, &types) else {
            match &types[..] {
                [] => bail!("there is no type {asked:?}; nothing was captured yet"),
                types => bail!("there is no type {asked:?}; there are {}", types.join(", ")),
            }
        };
        let instant = self.when.instant();
        let headings = vec![
            Heading::left("id"),
            Heading::right("version"),
            Heading::left("changed"),
            Heading::left("state"),
        ];
        let form = self.form;
        let (mut rows, mut jsons) =
            if form.json { (None, Some(out)) } else { (Some(Sheet::new(out, form, headings)), None) };
        let begin = self.begin.as_deref().unwrap_or_default();
        let mut after = self.after.clone();
        let mut left = self.limit;
        let mut printed = None;
        // Some are not shown, and one more is looked for, so that it is known whether more follow.
        loop {
            let looked_for = left.saturating_add(1).max(LOOKED_FOR_MIN);
            let ids = log.ids(entity_type, begin, after.as_deref(), looked_for)?;
            let is_end = ids.len() < looked_for;
            for id in &ids {
                let events = log.history(entity_type, id, instant)?;
                let fold = fold(&events);
                let Some(last) = events.last() else { continue };
                if fold.state().is_none() && !self.deleted {
                    continue;
                }
                if left == 0 {
                    let last: &String = printed.as_ref().unwrap_or(id);
                    note(&format!("more follow: --after {last}"));
                    return rows.map_or(Ok(()), Sheet::finish);
                }
                left -= 1;
                if let Some(out) = &mut jsons {
                    out.json(&json!({
                        "entity_id": id,
                        "version": fold.version(),
                        "event_time_ms": last.event_time_ms,
                        "state": fold.state(),
                    }))?;
                }
                if let Some(sheet) = &mut rows {
                    let state = fold
                        .state()
                        .cloned()
                        .map_or(Cell::Nothing, |state| Cell::Text(Json::Object(state).to_string()));
                    sheet.row(&[
                        Cell::Text(id.clone()),
                        Cell::Number(fold.version().into()),
                        time(last.event_time_ms),
                        state,
                    ])?;
                }
                printed = Some(id.clone());
            }
            after = ids.last().cloned();
            if is_end {
                return rows.map_or(Ok(()), Sheet::finish);
            }
        }
    }
}
