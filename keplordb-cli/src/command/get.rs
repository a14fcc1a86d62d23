//! `keplor get`: the event of an id.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::Done;
#[cfg(feature = "server")]
use super::server;
use crate::output::Output;
use crate::sheet::{Cell, Form, Heading, Sheet};
use crate::table;

/// Print the event that has an id, or an entity of a server's root
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor get calls.db req-4711 --json
  keplor get data User/user_123 --as-of 2026-02-01          of the root of a server")]
pub(crate) struct Get {
    /// The table's directory, or a server's root
    dir: PathBuf,
    /// The event's id; of several with one id the newest is shown. Of a root the entity's type and id: `User/user_1`, or
    /// `user_1` of the type User
    id: String,
    #[cfg(feature = "server")]
    #[command(flatten)]
    when: server::When,
    #[command(flatten)]
    form: Form,
}

impl Get {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        #[cfg(feature = "server")]
        if keplordb_server::is_root(&self.dir) {
            return server::get(&self.dir, &self.id, self.when, self.form, out);
        }
        #[cfg(feature = "server")]
        anyhow::ensure!(!self.when.is_given(), "--as-of and --known-at are for entities of servers' roots");
        let reader = table::reader(&self.dir)?;
        let Some(row) = reader.get(&self.id)? else {
            bail!("no event of {} has the id {:?}", self.dir.display(), self.id)
        };
        let cells = row.iter().map(|(column, value)| (column, table::cell(column, value.clone())));
        if self.form.is_text() {
            let mut sheet = Sheet::new(out, self.form, vec![Heading::left("column"), Heading::left("value")]);
            for (column, cell) in cells {
                sheet.row(&[Cell::Text(table::shown_name(column).to_owned()), cell])?;
            }
            sheet.finish()?;
        } else {
            let (headings, cells): (Vec<_>, Vec<_>) =
                cells.map(|(column, cell)| (table::heading(column), cell)).unzip();
            let mut sheet = Sheet::new(out, self.form, headings);
            sheet.row(&cells)?;
            sheet.finish()?;
        }
        Ok(Done::Well)
    }
}
