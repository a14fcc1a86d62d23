//! The oracle: a table as a plain `Vec` of (sequence, event), and every question to it as a loop over all rows.
//!
//! It must be too simple to be wrong: no index, no early end, sums in `i128`. It shares the result types with the engine,
//! and nothing else.

pub(crate) mod crowded;
pub(crate) mod files;
pub(crate) mod query;
pub(crate) mod random;

use std::array;
use std::collections::{BTreeMap, HashSet};

use keplordb::{Cursor, EventRef, LogEvent, QueryFilter, RollupKey, RollupValue, Totals};

const DAY_NS: i64 = 86_400_000_000_000;
const DAY_S: i64 = 86_400;

/// Count, metric and counters of a day.
type DaySums<const C: usize> = (u64, i128, [i128; C]);

/// The live rows of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Naive<const D: usize, const C: usize, const L: usize> {
    /// In the order in which queries give them, newest first by (time, sequence), so that a query is a filter.
    rows: Vec<(u64, LogEvent<D, C, L>)>,
}

impl<const D: usize, const C: usize, const L: usize> Naive<D, C, L> {
    /// Adds a batch whose first event got the sequence `first`.
    pub(crate) fn append(&mut self, first: u64, events: &[LogEvent<D, C, L>]) {
        self.rows.extend((first..).zip(events.iter().cloned()));
        self.rows.sort_by_key(|(sequence, event)| std::cmp::Reverse((event.ts_ns, *sequence)));
    }

    /// Deletes every row with one of these ids; how many different ids there were. Rows without an id have no name.
    pub(crate) fn delete(&mut self, ids: &[&str]) -> usize {
        let wanted: HashSet<&str> = ids.iter().copied().filter(|id| !id.is_empty()).collect();
        let found: HashSet<&str> =
            self.rows.iter().map(|(_, event)| event.id.as_str()).filter(|id| wanted.contains(id)).collect();
        let count = found.len();
        self.rows.retain(|(_, event)| !wanted.contains(event.id.as_str()));
        count
    }

    /// Takes over what a `gc` left, and says how many rows it took.
    ///
    /// `gc` drops whole segments, and which rows share one is the engine's affair; so the oracle learns it from the rows
    /// that are left. It insists that nothing appeared or changed, that order was kept, and that no row as new as the
    /// cutoff went; the exact cases (nothing is old enough, everything is) are the caller's to check by the count.
    pub(crate) fn keep_what_gc_left(&mut self, left: &[EventRef<D, C, L>], cutoff_ts_ns: i64) -> usize {
        let before = self.rows.len();
        let mut left = left.iter().peekable();
        self.rows.retain(|(_, event)| {
            let stays = left.next_if(|row| same(event, row)).is_some();
            assert!(
                stays || event.ts_ns < cutoff_ts_ns,
                "gc took {event:?}, which is not older than {cutoff_ts_ns}"
            );
            stays
        });
        assert!(
            left.peek().is_none(),
            "gc left a row that was not there, or in another order: {:?}",
            left.peek()
        );
        before - self.rows.len()
    }

    /// Live rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// All live rows, newest first.
    pub(crate) fn events(&self) -> impl DoubleEndedIterator<Item = &LogEvent<D, C, L>> {
        self.rows.iter().map(|(_, event)| event)
    }

    /// What `query_recent` answers.
    pub(crate) fn recent(&self, filter: &QueryFilter<D>, limit: usize) -> Vec<&LogEvent<D, C, L>> {
        self.events().filter(|event| matches(filter, event)).take(limit).collect()
    }

    /// What `get_event` answers.
    pub(crate) fn get(&self, id: &str) -> Option<&LogEvent<D, C, L>> {
        self.events().find(|event| event.id == id && !id.is_empty())
    }

    /// What `aggregate` answers.
    pub(crate) fn aggregate(&self, filter: &QueryFilter<D>) -> Totals<C> {
        let rows: Vec<_> = self.events().filter(|event| matches(filter, event)).collect();
        let sum =
            |value: &dyn Fn(&LogEvent<D, C, L>) -> i128| rows.iter().map(|event| value(event)).sum::<i128>();
        let min = |value: &dyn Fn(&LogEvent<D, C, L>) -> u32| rows.iter().map(|event| value(event)).min();
        let max = |value: &dyn Fn(&LogEvent<D, C, L>) -> u32| rows.iter().map(|event| value(event)).max();
        Totals {
            event_count: rows.len() as u64,
            metric: nearest_i64(sum(&|event| event.metric.into())),
            counters: array::from_fn(|c| nearest_u64(sum(&|event| event.counters[c].into()))),
            latency_ms: nearest_u64(sum(&|event| event.latency_ms.into())),
            latency_detail_ms: nearest_u64(sum(&|event| event.latency_detail_ms.into())),
            metric_min: rows.iter().map(|event| event.metric).min(),
            metric_max: rows.iter().map(|event| event.metric).max(),
            latency_ms_min: min(&|event| event.latency_ms),
            latency_ms_max: max(&|event| event.latency_ms),
            latency_detail_ms_min: min(&|event| event.latency_detail_ms),
            latency_detail_ms_max: max(&|event| event.latency_detail_ms),
            counters_min: array::from_fn(|c| min(&|event| event.counters[c])),
            counters_max: array::from_fn(|c| max(&|event| event.counters[c])),
        }
    }

    /// What `query_rollups` answers for these rollup dims.
    pub(crate) fn rollups(
        &self,
        rollup_dims: &[usize],
        from_day: i64,
        to_day: i64,
        wanted: &[Option<&str>],
    ) -> Vec<(RollupKey, RollupValue<C>)> {
        let mut days: BTreeMap<(i64, Vec<String>), DaySums<C>> = BTreeMap::new();
        for event in self.events() {
            let day = event.ts_ns.div_euclid(DAY_NS) * DAY_S;
            let dims: Vec<String> = rollup_dims.iter().map(|dim| event.dims[*dim].clone()).collect();
            let fits =
                wanted.iter().zip(&dims).all(|(wanted, dim)| wanted.is_none_or(|wanted| wanted == dim));
            if fits && (from_day..=to_day).contains(&day) {
                let (count, metric, counters) = days.entry((day, dims)).or_insert((0, 0, [0; C]));
                *count += 1;
                *metric += i128::from(event.metric);
                counters
                    .iter_mut()
                    .zip(event.counters)
                    .for_each(|(sum, counter)| *sum += i128::from(counter));
            }
        }
        let pair = |((day, dims), (event_count, metric, counters)): ((_, _), DaySums<C>)| {
            let (metric, counters) = (nearest_i64(metric), counters.map(nearest_u64));
            (RollupKey { day, dims }, RollupValue { event_count, metric, counters })
        };
        days.into_iter().map(pair).collect()
    }
}

fn matches<const D: usize, const C: usize, const L: usize>(
    filter: &QueryFilter<D>,
    event: &LogEvent<D, C, L>,
) -> bool {
    filter
        .dims
        .iter()
        .zip(&event.dims)
        .all(|(wanted, dim)| wanted.as_ref().is_none_or(|wanted| wanted == dim))
        && filter.from_ts_ns.is_none_or(|from| event.ts_ns >= from)
        && filter.to_ts_ns.is_none_or(|to| event.ts_ns <= to)
        && filter.status_min.is_none_or(|min| event.status >= min)
        && filter.status_max.is_none_or(|max| event.status < max)
        && filter.cursor.is_none_or(|Cursor(before)| event.ts_ns < before)
}

/// Whether a row that came out is the event that went in.
pub(crate) fn same<const D: usize, const C: usize, const L: usize>(
    event: &LogEvent<D, C, L>,
    row: &EventRef<D, C, L>,
) -> bool {
    event.id == row.id
        && (event.ts_ns, event.metric, event.counters) == (row.ts_ns, row.metric, row.counters)
        && (event.latency_ms, event.latency_detail_ms) == (row.latency_ms, row.latency_detail_ms)
        && (event.status, event.flags) == (row.status, row.flags)
        && (&event.dims, &event.labels) == (&row.dims, &row.labels)
}

/// Compares rows, and shows the first that differs instead of all.
#[track_caller]
pub(crate) fn assert_rows<const D: usize, const C: usize, const L: usize>(
    rows: &[EventRef<D, C, L>],
    expected: &[&LogEvent<D, C, L>],
    what: &str,
) {
    let differs = rows.iter().zip(expected).position(|(row, event)| !same(event, row));
    if let Some(place) = differs {
        panic!("{what}: row {place} is\n{:?}\ninstead of\n{:?}", rows[place], expected[place]);
    }
    assert_eq!(rows.len(), expected.len(), "{what}: number of rows");
}

fn nearest_i64(sum: i128) -> i64 {
    sum.clamp(i64::MIN.into(), i64::MAX.into()).try_into().unwrap()
}

fn nearest_u64(sum: i128) -> u64 {
    sum.clamp(0, u64::MAX.into()).try_into().unwrap()
}
