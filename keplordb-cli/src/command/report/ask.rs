//! What a page says, asked of one moment of a table.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use keplordb::any::{AnyAggregate, AnyFilter, AnyGroupValue, AnyGroups, AnyQuery, AnySnapshot, Role};
use keplordb::{Bucket, DbError};
use keplordb_log::Timestamp;

use super::storage::storage;
use crate::command::count::count_of;
use crate::conditions::Conditions;
use crate::report::{self, Buckets, Facts, Latency, Quantiles, Sum, Timeline, Top};
use crate::table;

const STATUS: &str = "status";
const METRIC: &str = "metric";
const LATENCY: &str = "latency_ms";
const LATENCY_DETAIL: &str = "latency_detail_ms";
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// Different values of a column are told apart as long as they take no more memory.
const GROUPS_BYTES_MAX: usize = 1 << 30;

/// What is asked.
pub(super) struct Asked<'a> {
    pub(super) dir: &'a Path,
    pub(super) title: String,
    pub(super) conditions: &'a Conditions,
    /// Values of each column.
    pub(super) top: usize,
}

impl Asked<'_> {
    pub(super) fn facts(self) -> Result<Facts> {
        let snapshot = table::reader(self.dir)?.snapshot();
        let table = Table { snapshot: &snapshot, filter: self.conditions.filter(&snapshot)?, top: self.top };
        let totals = table.query().totals()?;
        let times = table.times()?;
        let buckets =
            times.filter(|(first, last)| first < last).map(|(first, last)| Buckets::between(first, last));

        let statuses = table.statuses()?;
        let splits = report::splits(&statuses);
        let mut tops = Vec::new();
        for column in snapshot.columns().iter().filter(|column| column.role == Role::Dim) {
            tops.push(table.top(&column.name)?);
        }
        if !splits.is_empty() {
            tops.push(top_status(&statuses, self.top));
        }

        let mut used = Vec::new();
        let mut unused = Vec::new();
        let summed = [METRIC, LATENCY_DETAIL].into_iter();
        let counters = snapshot.columns().iter().filter(|column| column.role == Role::Counter);
        for name in summed.chain(counters.map(|column| column.name.as_str())) {
            let of = totals.of(name)?;
            match (of.min, of.max) {
                (Some(min), Some(max)) if (min, max) != (0, 0) => {
                    used.push(Sum { column: name.to_owned(), total: of.sum, min, max, by_time: Vec::new() });
                }
                // What every table has and few use is not missed.
                _ if name == METRIC || name == LATENCY_DETAIL => {}
                _ => unused.push(name.to_owned()),
            }
        }
        let has_latency = totals.of(LATENCY)?.max.is_some_and(|max| max > 0);

        let mut timeline = None;
        if let Some(buckets) = buckets {
            let events = table.by_time(&buckets, &mut used)?;
            let mut by_status = Vec::new();
            for split in splits {
                let query = table.query().status(split.statuses.clone());
                by_status.push((split, counts(&query, &buckets)?));
            }
            timeline = Some(Timeline { buckets, events, by_status });
        }
        let latency = has_latency.then(|| table.latency(buckets.as_ref())).transpose()?;
        Ok(Facts {
            title: self.title,
            dir: self.dir.display().to_string(),
            made_ns: Timestamp::now().as_ns(),
            conditions: self.conditions.texts(),
            table_events: snapshot.live_rows(),
            events: totals.event_count,
            times,
            timeline,
            tops,
            latency,
            sums: used,
            unused,
            storage: storage(self.dir, &snapshot)?,
        })
    }
}

/// The events that are meant.
struct Table<'a> {
    snapshot: &'a AnySnapshot,
    filter: AnyFilter,
    top: usize,
}

impl Table<'_> {
    fn query(&self) -> AnyQuery<'_> {
        self.snapshot.query().filter(&self.filter)
    }

    /// The earliest and the latest time.
    fn times(&self) -> Result<Option<(i64, i64)>> {
        let time = || table::TIME.to_owned();
        let asked = [AnyAggregate::Min(time()), AnyAggregate::Max(time())];
        let groups = self.query().group_by(&[])?.select(&asked)?.fetch()?;
        Ok(numbers(groups.values(0)).map(|numbers: [i64; 2]| (numbers[0], numbers[1])))
    }

    /// How many events have each status.
    fn statuses(&self) -> Result<Vec<(u16, u64)>> {
        let groups = self.query().group_by(&[STATUS])?.select(&[AnyAggregate::Count])?.fetch()?;
        Ok((0..groups.len()).map(|group| (groups.status(group, 0), count_of(&groups, group))).collect())
    }

    /// The most frequent values of a dim; equally frequent ones in the order of their bytes.
    fn top(&self, column: &str) -> Result<Top> {
        let grouped = self.query().group_by(&[column])?.select(&[AnyAggregate::Count])?;
        let taken = AtomicUsize::new(0);
        let is_granted = move |more| taken.fetch_add(more, Ordering::Relaxed) + more <= GROUPS_BYTES_MAX;
        let groups = match grouped.while_granted(is_granted).fetch() {
            Ok(groups) => groups,
            Err(DbError::GivenUp) => {
                return Ok(Top { column: column.to_owned(), values: Vec::new(), distinct: None });
            }
            Err(error) => return Err(error.into()),
        };
        let counted: Vec<(usize, u64)> =
            (0..groups.len()).map(|group| (group, count_of(&groups, group))).collect();
        let values = most_frequent(counted, self.top).into_iter();
        Ok(Top {
            column: column.to_owned(),
            values: values.map(|(group, count)| (groups.key(group, 0).to_owned(), count)).collect(),
            distinct: Some(groups.len() as u64),
        })
    }

    /// The events of each bucket, and the sums of columns, which are filled in.
    fn by_time(&self, buckets: &Buckets, sums: &mut [Sum]) -> Result<Vec<u64>> {
        let mut asked = vec![AnyAggregate::Count];
        asked.extend(sums.iter().map(|sum| AnyAggregate::Sum(sum.column.clone())));
        let groups = in_buckets(&self.query(), buckets, &asked)?;
        let mut events = vec![0; buckets.count()];
        for sum in sums.iter_mut() {
            sum.by_time = vec![0; buckets.count()];
        }
        for group in 0..groups.len() {
            let place = buckets.place(groups.bucket(group));
            events[place] = count_of(&groups, group);
            for (sum, value) in sums.iter_mut().zip(groups.values(group).iter().skip(1)) {
                if let AnyGroupValue::Sum(value) = value {
                    sum.by_time[place] = *value;
                }
            }
        }
        Ok(events)
    }

    fn latency(&self, buckets: Option<&Buckets>) -> Result<Latency> {
        let mut asked: Vec<AnyAggregate> =
            QUANTILES.iter().map(|share| AnyAggregate::Quantile(LATENCY.to_owned(), *share)).collect();
        asked.push(AnyAggregate::Max(LATENCY.to_owned()));
        let mut is_exact = true;
        let mut quantiles = |groups: &AnyGroups, group: usize| {
            let values = groups.values(group);
            is_exact &=
                !values.iter().any(|value| matches!(value, AnyGroupValue::Quantile { is_exact: false, .. }));
            numbers(values).map(|[p50, p90, p99, max]| Quantiles { p50, p90, p99, max })
        };
        let overall = self.query().group_by(&[])?.select(&asked)?.fetch()?;
        let overall = quantiles(&overall, 0).unwrap_or(Quantiles { p50: 0, p90: 0, p99: 0, max: 0 });
        let mut by_time = Vec::new();
        if let Some(buckets) = buckets {
            by_time = vec![None; buckets.count()];
            let groups = in_buckets(&self.query(), buckets, &asked)?;
            for group in 0..groups.len() {
                by_time[buckets.place(groups.bucket(group))] = quantiles(&groups, group);
            }
        }
        Ok(Latency { overall, by_time, is_exact })
    }
}

fn in_buckets(query: &AnyQuery<'_>, buckets: &Buckets, asked: &[AnyAggregate]) -> Result<AnyGroups> {
    let bucket = Bucket::ns(buckets.width_ns).from(buckets.offset_ns);
    Ok(query.clone().group_by(&[])?.bucket(bucket).select(asked)?.fetch()?)
}

/// How many events each bucket has.
fn counts(query: &AnyQuery<'_>, buckets: &Buckets) -> Result<Vec<u64>> {
    let groups = in_buckets(query, buckets, &[AnyAggregate::Count])?;
    let mut counts = vec![0; buckets.count()];
    for group in 0..groups.len() {
        counts[buckets.place(groups.bucket(group))] = count_of(&groups, group);
    }
    Ok(counts)
}

fn top_status(statuses: &[(u16, u64)], top: usize) -> Top {
    let values = most_frequent(statuses.to_vec(), top).into_iter();
    Top {
        column: STATUS.to_owned(),
        values: values.map(|(status, count)| (status.to_string(), count)).collect(),
        distinct: Some(statuses.len() as u64),
    }
}

/// The first so many by their counts, and then by what is counted.
fn most_frequent<T: Ord + Copy>(mut counted: Vec<(T, u64)>, most: usize) -> Vec<(T, u64)> {
    let order = |(what, count): &(T, u64)| (Reverse(*count), *what);
    if most < counted.len() {
        // Of millions of values only those that are shown are put in order.
        counted.select_nth_unstable_by_key(most, order);
        counted.truncate(most);
    }
    counted.sort_unstable_by_key(order);
    counted
}

/// The numbers of a group; `None` if it has none of one of them, being empty.
fn numbers<const COUNT: usize>(values: &[AnyGroupValue]) -> Option<[i64; COUNT]> {
    let mut numbers = [0; COUNT];
    for (number, value) in numbers.iter_mut().zip(values) {
        let (AnyGroupValue::Number(found) | AnyGroupValue::Quantile { value: found, .. }) = value else {
            return None;
        };
        *number = (*found)?;
    }
    (values.len() == COUNT).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_come_first_and_equals_in_their_order() {
        let counted = vec![(4, 1), (1, 7), (3, 9), (2, 7), (0, 1)];
        assert_eq!(most_frequent(counted.clone(), 3), [(3, 9), (1, 7), (2, 7)]);
        assert_eq!(most_frequent(counted.clone(), 9), [(3, 9), (1, 7), (2, 7), (0, 1), (4, 1)]);
        assert!(most_frequent(counted, 0).is_empty());
    }
}
