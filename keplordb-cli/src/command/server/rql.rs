//! `keplor rql`: entities of a root by a query in RQL.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use keplordb_server::rql::Query;
use keplordb_server::{Sql, SqlOptions};

use super::time;
use crate::command::Done;
use crate::interrupt::Interrupts;
use crate::output::{Output, note};
use crate::sheet::{Cell, Form, Heading, Sheet};

/// Ask a server's root for entities in RQL
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor rql data 'entity:users where:(plan=team seats>3) order:seats desc limit:10'
  keplor rql data 'entity:users as_of:\"2026-02-01\" include:orders' --json
  keplor rql data '{\"entity\": \"users\", \"where\": {\"field\": \"plan\", \"value\": \"team\"}}'

A query that begins with { is JSON. The server may be running; the answer has every event that it has acknowledged.")]
pub(crate) struct Rql {
    /// The server's root; the server may be running
    root: PathBuf,
    /// The query, as text or as JSON
    query: String,
    #[command(flatten)]
    form: Form,
}

impl Rql {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let is_json = self.query.trim_start().starts_with('{');
        let query = if is_json { Query::parse_json(&self.query) } else { Query::parse(&self.query) };
        let query = query?;
        let has_included = !query.include.is_empty();
        ensure!(!has_included || self.form.json, "what is included is shown by --json only");
        let interrupts = Interrupts::listen(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.context("threads for queries cannot be started")?;
        let sql = Sql::beside(&self.root, SqlOptions::default().with_timeout(None))?;
        let answer = runtime.block_on(async {
            tokio::select! {
                biased;
                () = interrupts.next() => None,
                answer = sql.rql(&query, None) => Some(answer),
            }
        });
        // What is still at work has nobody to tell.
        runtime.shutdown_background();
        let Some(answer) = answer else {
            note("interrupted");
            return Ok(Done::Interrupted);
        };
        let answer = answer?;
        let more = || {
            if let Some(cursor) = &answer.cursor {
                note(&format!("there are more: ask again with cursor:\"{cursor}\""));
            }
        };
        if has_included {
            answer.entities.iter().try_for_each(|entity| out.json(entity))?;
            more();
            return Ok(Done::Well);
        }
        let headings = vec![
            Heading::left("entity_id"),
            Heading::right("version"),
            Heading::left("updated_at"),
            Heading::left("state"),
        ];
        let mut sheet = Sheet::new(out, self.form, headings);
        for entity in &answer.entities {
            sheet.row(&[
                Cell::Text(entity.entity_id.clone()),
                Cell::Number(entity.version.into()),
                time(entity.updated_at_ms),
                Cell::Text(serde_json::to_string(&entity.state)?),
            ])?;
        }
        sheet.finish()?;
        more();
        Ok(Done::Well)
    }
}
