//! `keplor query`: events, the newest or the oldest first.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;

use super::Done;
use crate::conditions::Conditions;
use crate::output::Output;
use crate::sheet::{Form, Sheet};
use crate::table;

/// Print events, the newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor query flights.db -w carrier=UA -w 'metric>=60' --columns ts,dest,metric
  keplor query flights.db --from 2013-06-01 --to 2013-07-01 --all --csv > june.csv")]
pub(crate) struct Query {
    /// The table's directory
    dir: PathBuf,
    #[command(flatten)]
    conditions: Conditions,
    /// Only these columns, in this order: ts,carrier
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// The oldest first
    #[arg(long)]
    oldest: bool,
    #[command(flatten)]
    form: Form,
}

impl Query {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let snapshot = table::reader(&self.dir)?.snapshot();
        let columns = snapshot.columns();
        let places = table::places(columns, &self.columns)?;
        let filter = self.conditions.filter(&snapshot)?;
        let query = snapshot.query().filter(&filter).limit(if self.all { usize::MAX } else { self.limit });
        let query = if self.oldest { query.oldest_first() } else { query.newest_first() };

        let headings = places.iter().map(|place| table::heading(&columns[*place])).collect();
        let mut sheet = Sheet::new(out, self.form, headings);
        let mut printed = Ok(());
        let scanned = query.scan(|row| {
            printed = table::cells(columns, &places, row)
                .map_err(anyhow::Error::from)
                .and_then(|cells| sheet.row(&cells));
            if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        printed?;
        // What was found before a failure is shown.
        sheet.finish()?;
        scanned?;
        Ok(Done::Well)
    }
}
