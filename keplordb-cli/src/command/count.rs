//! `keplor count`: how many events, by columns and spans of time, with what is asked of each group; bars for people.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use keplordb::Bucket;
use keplordb::any::{AnyAggregate, AnyGroupValue, AnyGroups, Column, Kind};

use super::Done;
use crate::conditions::Conditions;
use crate::output::Output;
use crate::parse;
use crate::progress::Waiting;
use crate::sheet::{Cell, Form, Heading, Sheet, bar};
use crate::table;

/// Letters of the longest bar.
const BAR_LETTERS: usize = 30;

/// Count events, by columns and spans of time
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor count flights.db
  keplor count flights.db --by carrier --mean metric -w origin=JFK
  keplor count flights.db --bucket 7d --sum distance_mi")]
pub(crate) struct Count {
    /// The table's directory
    dir: PathBuf,
    #[command(flatten)]
    conditions: Conditions,
    /// A group for each value of these dims, or of the status: carrier,origin
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    by: Vec<String>,
    /// A group for each span of time: 90s, 15m, 1h, 1d, 7d; they begin at the Unix epoch
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    bucket: Option<Duration>,
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    form: Form,
}

/// What is asked of each group besides its count.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Asked {
    /// The sum of a column of numbers; may be given again
    #[arg(long, value_name = "NAME", help_heading = "Of each group")]
    sum: Vec<String>,
    /// Its mean
    #[arg(long, value_name = "NAME", help_heading = "Of each group")]
    mean: Vec<String>,
    /// The smallest value
    #[arg(long, value_name = "NAME", help_heading = "Of each group")]
    min: Vec<String>,
    /// The largest value
    #[arg(long, value_name = "NAME", help_heading = "Of each group")]
    max: Vec<String>,
    /// The quantile of a column of numbers, exact or within 1 %: `latency_ms:0.99`
    #[arg(long, value_name = "NAME:SHARE", value_parser = quantile, help_heading = "Of each group")]
    quantile: Vec<(String, f64)>,
    /// How many different values a dim or the status has
    #[arg(long, value_name = "NAME", help_heading = "Of each group")]
    distinct: Vec<String>,
}

fn quantile(text: &str) -> Result<(String, f64), String> {
    let parsed = text.rsplit_once(':').and_then(|(name, share)| Some((name.to_owned(), share.parse().ok()?)));
    parsed
        .filter(|(name, share)| !name.is_empty() && (0.0..=1.0).contains(share))
        .ok_or_else(|| "a quantile is a column and a share from 0 to 1: latency_ms:0.99".to_owned())
}

impl Asked {
    /// The aggregates, and the columns in which they are shown.
    fn resolved(&self, columns: &[Column]) -> Result<Vec<(AnyAggregate, Heading)>> {
        type Named = fn(String) -> AnyAggregate;
        let lists: [(&str, &[String], Named); 5] = [
            ("sum", &self.sum, AnyAggregate::Sum),
            ("mean", &self.mean, AnyAggregate::Mean),
            ("min", &self.min, AnyAggregate::Min),
            ("max", &self.max, AnyAggregate::Max),
            ("distinct", &self.distinct, AnyAggregate::Distinct),
        ];
        let mut asked = Vec::new();
        for (function, names, aggregate) in lists {
            for name in names {
                let (_, column) = table::column(columns, name)?;
                let heading = Heading::right(format!("{function}({})", table::shown_name(column)));
                asked.push((aggregate(column.name.clone()), heading));
            }
        }
        for (name, share) in &self.quantile {
            let (_, column) = table::column(columns, name)?;
            let heading =
                Heading::right(format!("p{}({})", (share * 1e8).round() / 1e6, table::shown_name(column)));
            asked.push((AnyAggregate::Quantile(column.name.clone(), *share), heading));
        }
        Ok(asked)
    }
}

impl Count {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let snapshot = table::reader(&self.dir)?.snapshot();
        let columns = snapshot.columns();
        let filter = self.conditions.filter(&snapshot)?;
        let keys =
            self.by.iter().map(|name| Ok(table::column(columns, name)?.1)).collect::<Result<Vec<_>>>()?;
        let names: Vec<&str> = keys.iter().map(|column| column.name.as_str()).collect();
        let asked = self.asked.resolved(columns)?;

        let mut aggregates = vec![AnyAggregate::Count];
        aggregates.extend(asked.iter().map(|(aggregate, _)| aggregate.clone()));
        let mut query = snapshot.query().filter(&filter).group_by(&names)?.select(&aggregates)?;
        if let Some(bucket) = self.bucket {
            let Some(width_ns) = i64::try_from(bucket.as_nanos()).ok().filter(|width| *width > 0) else {
                bail!("a bucket is longer than nothing, and at most 292 years")
            };
            query = query.bucket(Bucket::ns(width_ns));
        }
        let waiting = Waiting::begin("counting");
        let groups = query.fetch()?;
        drop(waiting);

        let is_grouped = !names.is_empty() || self.bucket.is_some();
        let mut headings: Vec<Heading> = keys.iter().map(|column| table::heading(column)).collect();
        headings.extend(self.bucket.map(|_| Heading::left("ts")));
        headings.push(Heading::right("events"));
        headings.extend(asked.iter().map(|(_, heading)| heading.clone()));
        headings.extend(is_grouped.then(Heading::drawing));
        let most = (0..groups.len()).map(|group| count_of(&groups, group)).max().unwrap_or(0).max(1);

        let mut sheet = Sheet::new(out, self.form, headings);
        for group in 0..groups.len() {
            let mut cells: Vec<Cell> =
                keys.iter().enumerate().map(|(slot, column)| key(&groups, group, slot, column)).collect();
            cells.extend(self.bucket.map(|_| Cell::Time(groups.bucket(group))));
            let of_time = asked.iter().map(|(aggregate, _)| is_time(aggregate));
            let values = groups.values(group).iter().zip(std::iter::once(false).chain(of_time));
            cells.extend(values.map(|(value, is_time)| cell(value, is_time)));
            cells.extend(
                is_grouped
                    .then(|| Cell::Text(bar(count_of(&groups, group) as f64 / most as f64, BAR_LETTERS))),
            );
            sheet.row(&cells)?;
        }
        sheet.finish()?;
        Ok(Done::Well)
    }
}

/// A key of a group.
pub(super) fn key(groups: &AnyGroups, group: usize, slot: usize, column: &Column) -> Cell {
    match column.kind {
        Kind::Text => Cell::Text(groups.key(group, slot).to_owned()),
        _ => Cell::Code(groups.status(group, slot).into()),
    }
}

/// Of a query whose first aggregate is the count.
pub(super) fn count_of(groups: &AnyGroups, group: usize) -> u64 {
    match groups.values(group).first() {
        Some(AnyGroupValue::Count(count)) => *count,
        _ => 0,
    }
}

/// Whether the values of an aggregate are times.
fn is_time(aggregate: &AnyAggregate) -> bool {
    match aggregate {
        AnyAggregate::Min(name) | AnyAggregate::Max(name) | AnyAggregate::Quantile(name, _) => {
            name == table::TIME
        }
        _ => false,
    }
}

fn cell(value: &AnyGroupValue, is_time: bool) -> Cell {
    let number = |number: i64| if is_time { Cell::Time(number) } else { Cell::Number(number.into()) };
    match *value {
        AnyGroupValue::Count(count) => Cell::Number(count.into()),
        AnyGroupValue::Sum(sum) => Cell::Number(sum),
        AnyGroupValue::Number(value) | AnyGroupValue::Quantile { value, .. } => {
            value.map_or(Cell::Nothing, number)
        }
        AnyGroupValue::Mean(mean) => mean.map_or(Cell::Nothing, Cell::Share),
        _ => Cell::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_a_column_and_a_share() {
        assert_eq!(quantile("latency_ms:0.99"), Ok(("latency_ms".to_owned(), 0.99)));
        assert_eq!(quantile("a:b:1"), Ok(("a:b".to_owned(), 1.0)));
        for text in ["latency_ms", "latency_ms:", ":0.5", "latency_ms:1.5", "latency_ms:NaN", "latency_ms:-1"]
        {
            assert!(quantile(text).is_err(), "{text}");
        }
    }
}
