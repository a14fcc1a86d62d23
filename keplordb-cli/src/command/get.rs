//! `keplor get`: the event of an id.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::Done;
use crate::output::Output;
use crate::sheet::{Cell, Form, Heading, Sheet};
use crate::table;

/// Print the event that has an id
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  keplor get calls.db req-4711 --json")]
pub(crate) struct Get {
    /// The table's directory
    dir: PathBuf,
    /// The event's id; of several with one id the newest is shown
    id: String,
    #[command(flatten)]
    form: Form,
}

impl Get {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
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
