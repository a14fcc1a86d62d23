//! Totals of 1 M events in 10 segments: of all, of a user, of a tenth of the time, of both.

use std::cell::LazyCell;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use keplordb::QueryFilter;
use keplordb_benches::mode::scale;
use keplordb_benches::table::{Size, Table};
use keplordb_benches::workload::{self, Event, SEED, USER};

/// Whether an event matches a filter with a user and times.
fn matches(filter: &QueryFilter<2>, event: &Event) -> bool {
    filter.dims[USER].as_ref().is_none_or(|user| *user == event.dims[USER])
        && filter.from_ts_ns.is_none_or(|from| from <= event.ts_ns)
        && filter.to_ts_ns.is_none_or(|to| event.ts_ns <= to)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let size = Size { rows: scale(1_000_000, 10_000), segments: 10 };
    let table = LazyCell::new(|| Table::on_disk(size).expect("the table can be made"));
    let user = [Some("user_0007".to_owned()), None];
    let (from, to) = workload::tenth_of_time(size.rows);
    let everything = QueryFilter::<2>::default();
    let in_time = QueryFilter { from_ts_ns: Some(from), to_ts_ns: Some(to), ..everything.clone() };
    let filters = [
        ("none", everything.clone()),
        ("user", QueryFilter { dims: user.clone(), ..everything }),
        ("time", in_time.clone()),
        ("user+time", QueryFilter { dims: user, ..in_time }),
    ];

    let mut group = criterion.benchmark_group("aggregate");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(size.rows));
    for (name, filter) in &filters {
        group.bench_function(*name, |bencher| {
            let totals = table.engine.aggregate(filter).expect("the segments can be read");
            let found = (totals.event_count, totals.metric, totals.counters[0], totals.latency_ms);
            assert_eq!(found, workload::totals(SEED, size.rows, |event| matches(filter, event)), "{name}");
            bencher.iter(|| table.engine.aggregate(filter));
        });
    }
    group.finish();
    criterion.final_summary();
}
