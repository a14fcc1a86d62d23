//! How long the questions of the README take, on a table of the workload's events in segments. Every answer is compared with what a
//! plain loop over the events has found.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Result, ensure};
use keplordb::{Engine, EngineConfig, Options, QueryFilter, Sync, Totals};

use super::measure::median_us;
use super::workload::{USER, event, first_day, id, is_first_day, tenth_of_time};
use super::{Figure, Progress, Unit};
use crate::interrupt;
use crate::output::count;

/// Segments of equal size, but for the last ones when it does not divide.
pub(super) const SEGMENTS: u64 = 10;
/// Events per append while the table is filled.
const BATCH_EVENTS: u64 = 4096;
/// The newest events that are remembered to compare answers with.
const NEWEST: usize = 1000;

type Table = Engine<2, 1, 1>;
type Event = super::workload::Event;

/// What a plain loop finds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sums {
    events: u64,
    metric: i64,
    tokens: u64,
    latency_ms: u64,
}

impl Sums {
    fn add(&mut self, event: &Event) {
        let [tokens] = event.counters;
        self.events += 1;
        self.metric += event.metric;
        self.tokens += u64::from(tokens);
        self.latency_ms += u64::from(event.latency_ms);
    }

    fn of(totals: &Totals<1>) -> Self {
        let [tokens] = totals.counters;
        Self { events: totals.event_count, metric: totals.metric, tokens, latency_ms: totals.latency_ms }
    }
}

/// What the answers must be.
#[derive(Debug, Default)]
struct Right {
    all: Sums,
    user: Sums,
    time: Sums,
    both: Sums,
    user_day: Sums,
    day: Sums,
    /// Ids of the newest events, the last one last; and of the user's.
    newest: VecDeque<String>,
    newest_of_user: VecDeque<String>,
}

impl Right {
    fn add(&mut self, event: &Event, (from, to): (i64, i64)) {
        let (is_user, is_time) = (event.dims[0] == USER, (from..=to).contains(&event.ts_ns));
        let is_day = is_first_day(event.ts_ns);
        for (sums, is_meant) in [
            (&mut self.all, true),
            (&mut self.user, is_user),
            (&mut self.time, is_time),
            (&mut self.both, is_user && is_time),
            (&mut self.user_day, is_user && is_day),
            (&mut self.day, is_day),
        ] {
            if is_meant {
                sums.add(event);
            }
        }
        for (newest, is_meant) in [(&mut self.newest, true), (&mut self.newest_of_user, is_user)] {
            if is_meant {
                newest.push_back(event.id.clone());
                if newest.len() > NEWEST {
                    newest.pop_front();
                }
            }
        }
    }
}

pub(super) fn measure(parent: &Path, events: u64, progress: &mut Progress) -> Result<Vec<Figure>> {
    let times = tenth_of_time(events);
    let (engine, right) = build(&parent.join("table"), events, times, progress)?;
    let all = QueryFilter::<2>::default();
    let user = QueryFilter { dims: [Some(USER.to_owned()), None], ..all.clone() };
    let time = QueryFilter { from_ts_ns: Some(times.0), to_ts_ns: Some(times.1), ..all.clone() };
    let both = QueryFilter { dims: user.dims.clone(), ..time.clone() };
    let mut figures = Vec::new();
    let mut add = |name: &'static str, readme: f64, call: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        progress.tell(name);
        let figure = Figure {
            group: "query",
            name,
            unit: Unit::Microseconds,
            median: median_us(call)?,
            readme: Some(readme),
        };
        figures.push(figure);
        Ok(())
    };

    for (name, readme, filter, right) in [
        ("aggregate, no filter", 0.17, &all, &right.all),
        ("aggregate, one user", 2.7, &user, &right.user),
        ("aggregate, a tenth of the time", 5.7, &time, &right.time),
        ("aggregate, user and time", 11.5, &both, &right.both),
    ] {
        check(name, Sums::of(&engine.aggregate(filter)?) == *right)?;
        add(name, readme, &mut || {
            std::hint::black_box(engine.aggregate(filter)?);
            Ok(())
        })?;
    }
    for (name, readme, filter, limit, newest) in [
        ("query_recent, 100 rows", 35.6, &all, 100, &right.newest),
        ("query_recent, 1,000 rows", 360.0, &all, 1000, &right.newest),
        ("query_recent, 100 rows of a user", 37.2, &user, 100, &right.newest_of_user),
    ] {
        let found = engine.query_recent(filter, limit)?;
        check(name, found.iter().map(|event| &event.id).eq(newest.iter().rev().take(limit)))?;
        add(name, readme, &mut || {
            std::hint::black_box(engine.query_recent(filter, limit)?);
            Ok(())
        })?;
    }
    let hit = id(events * 618 / 1000);
    let other_digit = if hit.ends_with('0') { '1' } else { '0' };
    let miss = format!("{}{other_digit}", &hit[..hit.len() - 1]);
    for (name, readme, id, is_there) in
        [("get_event, found", 1.7, &hit, true), ("get_event, not there", 0.9, &miss, false)]
    {
        check(name, engine.get_event(id)?.is_some_and(|event| event.id == *id) == is_there)?;
        add(name, readme, &mut || {
            std::hint::black_box(engine.get_event(id)?);
            Ok(())
        })?;
    }
    let day = first_day();
    for (name, readme, user, right) in [
        ("query_rollups, one user's day", 3.4, Some(USER), &right.user_day),
        ("query_rollups, a day of all users", 621.0, None, &right.day),
    ] {
        let sums = engine.query_rollups(day, day, &[user])?.iter().fold(
            (0, 0, 0),
            |(events, metric, tokens), (_, value)| {
                (events + value.event_count, metric + value.metric, tokens + value.counters[0])
            },
        );
        check(name, sums == (right.events, right.metric, right.tokens))?;
        add(name, readme, &mut || {
            std::hint::black_box(engine.query_rollups(day, day, &[user])?);
            Ok(())
        })?;
    }
    engine.close()?;
    Ok(figures)
}

/// A figure of a wrong answer is worth nothing.
fn check(name: &str, is_right: bool) -> Result<()> {
    ensure!(
        is_right,
        "{name}: the engine's answer is not that of a plain loop over the events; report this, with the machine's processor"
    );
    Ok(())
}

/// Fills a table, with one shard, so that a segment is a span of time, and rollups by user.
fn build(dir: &Path, events: u64, times: (i64, i64), progress: &mut Progress) -> Result<(Table, Right)> {
    let config = EngineConfig {
        wal_max_events: u32::MAX,
        wal_shard_count: 1,
        rollup_dims: vec![0],
        ..EngineConfig::in_dir(dir)
    };
    let options = Options::default().sync(Sync::Os).memtable_bytes(usize::MAX).merge_rows(0);
    let engine = Table::open_with(config, options)?;
    let (mut right, mut begin) = (Right::default(), 0);
    for segment in 1..=SEGMENTS {
        progress.tell(&format!("filling a table: {} of {} events", count(begin), count(events)));
        let end = events * segment / SEGMENTS;
        while begin < end {
            interrupt::check()?;
            let stop = end.min(begin + BATCH_EVENTS);
            let batch: Vec<_> = (begin..stop).map(event).collect();
            for event in &batch {
                right.add(event, times);
            }
            engine.append_batch(&batch)?;
            begin = stop;
        }
        engine.flush()?;
    }
    Ok((engine, right))
}
