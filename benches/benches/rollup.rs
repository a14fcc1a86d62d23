//! Sums by user and day of 1 M events in 10 segments: one user's day, and a day of all users.

use std::cell::LazyCell;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use keplordb_benches::mode::scale;
use keplordb_benches::table::{Size, Table};
use keplordb_benches::workload::{self, SEED, START_NS, USER};

/// Seconds and nanoseconds of a day.
const DAY_S: i64 = 86_400;
const DAY_NS: i64 = DAY_S * 1_000_000_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let size = Size { rows: scale(1_000_000, 10_000), segments: 10 };
    let table = LazyCell::new(|| Table::on_disk(size).expect("the table can be made"));
    // All rows fall on this day: they span 17 minutes, and it has 106 left.
    let day = START_NS.div_euclid(DAY_NS) * DAY_S;

    let mut group = criterion.benchmark_group("query_rollups");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(size.rows));
    for (name, user) in [("user-day", Some("user_0007")), ("all-day", None)] {
        group.bench_function(name, |bencher| {
            let days = table.engine.query_rollups(day, day, &[user]).expect("the segments can be read");
            let found = days.iter().fold((0, 0, 0), |(count, metric, tokens), (_, value)| {
                (count + value.event_count, metric + value.metric, tokens + value.counters[0])
            });
            let is_wanted = |event: &workload::Event| user.is_none_or(|user| event.dims[USER] == user);
            let (count, metric, tokens, _) = workload::totals(SEED, size.rows, is_wanted);
            assert_eq!(found, (count, metric, tokens), "{name}");
            assert!(days.is_sorted_by(|(before, _), (after, _)| before < after), "{name}");
            bencher.iter(|| table.engine.query_rollups(day, day, &[user]));
        });
    }
    group.finish();
    criterion.final_summary();
}
