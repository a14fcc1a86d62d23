//! `keplor top` and `keplor values`: which values a dim has, by how often or by their bytes.

use std::path::PathBuf;

use anyhow::Result;
use keplordb::any::{AnyAggregate, AnyGroupValue};

use super::Done;
use super::count::{count_of, key};
use crate::conditions::Conditions;
use crate::output::Output;
use crate::progress::Waiting;
use crate::sheet::{Cell, Form, Heading, Sheet, bar};
use crate::table;

/// Letters of the longest bar.
const BAR_LETTERS: usize = 30;

/// Print the most frequent values of a dim, or of the status
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  keplor top flights.db dest -n 5 -w 'metric>=60'")]
pub(crate) struct Top {
    /// The table's directory
    dir: PathBuf,
    /// A dim, or `status`
    column: String,
    #[command(flatten)]
    conditions: Conditions,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    form: Form,
}

/// List the values of a dim, or of the status, with their first and last time
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  keplor values flights.db carrier --csv")]
pub(crate) struct Values {
    /// The table's directory
    dir: PathBuf,
    /// A dim, or `status`
    column: String,
    #[command(flatten)]
    conditions: Conditions,
    #[command(flatten)]
    form: Form,
}

impl Top {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let snapshot = table::reader(&self.dir)?.snapshot();
        let (_, column) = table::column(snapshot.columns(), &self.column)?;
        let filter = self.conditions.filter(&snapshot)?;
        let query = snapshot.query().filter(&filter);
        let waiting = Waiting::begin("counting");
        let groups = query.group_by(&[&column.name])?.select(&[AnyAggregate::Count])?.fetch()?;
        drop(waiting);

        let total: u64 = (0..groups.len()).map(|group| count_of(&groups, group)).sum();
        let mut order: Vec<usize> = (0..groups.len()).collect();
        // Equally frequent ones stay in the order of their bytes.
        order.sort_by_key(|group| std::cmp::Reverse(count_of(&groups, *group)));
        order.truncate(self.limit);
        let most = order.first().map_or(1, |group| count_of(&groups, *group)).max(1);

        let headings = vec![
            table::heading(column),
            Heading::right("events"),
            Heading::right("percent"),
            Heading::drawing(),
        ];
        let mut sheet = Sheet::new(out, self.form, headings);
        for group in order {
            let count = count_of(&groups, group);
            sheet.row(&[
                key(&groups, group, 0, column),
                Cell::Number(count.into()),
                Cell::Share(100.0 * count as f64 / total.max(1) as f64),
                Cell::Text(bar(count as f64 / most as f64, BAR_LETTERS)),
            ])?;
        }
        sheet.finish()?;
        Ok(Done::Well)
    }
}

impl Values {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let snapshot = table::reader(&self.dir)?.snapshot();
        let (_, column) = table::column(snapshot.columns(), &self.column)?;
        let filter = self.conditions.filter(&snapshot)?;
        let time = || table::TIME.to_owned();
        let aggregates = [AnyAggregate::Count, AnyAggregate::Min(time()), AnyAggregate::Max(time())];
        let query = snapshot.query().filter(&filter);
        let waiting = Waiting::begin("counting");
        let groups = query.group_by(&[&column.name])?.select(&aggregates)?.fetch()?;
        drop(waiting);

        let headings = vec![
            table::heading(column),
            Heading::right("events"),
            Heading::left("first"),
            Heading::left("last"),
        ];
        let mut sheet = Sheet::new(out, self.form, headings);
        for group in 0..groups.len() {
            let mut cells = vec![key(&groups, group, 0, column)];
            cells.push(Cell::Number(count_of(&groups, group).into()));
            for value in groups.values(group).iter().skip(1) {
                cells.push(match value {
                    AnyGroupValue::Number(Some(ts_ns)) => Cell::Time(*ts_ns),
                    _ => Cell::Nothing,
                });
            }
            sheet.row(&cells)?;
        }
        sheet.finish()?;
        Ok(Done::Well)
    }
}
