//! Events out of 1 M in 10 segments: the newest 100 and 1,000, a user's newest 100, one by its id, and an id that is not
//! there. Each answer is events with all their strings, owned by the caller.

use std::cell::LazyCell;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use keplordb::{EventRef, QueryFilter};
use keplordb_benches::mode::scale;
use keplordb_benches::table::{Size, Table};
use keplordb_benches::workload::{Event, SEED, USER, event, id};

/// Whether an answer is this event of the workload.
fn is_event(found: &EventRef<2, 1, 1>, event: &Event) -> bool {
    found.id == event.id
        && found.ts_ns == event.ts_ns
        && found.metric == event.metric
        && found.counters == event.counters
        && found.latency_ms == event.latency_ms
        && found.latency_detail_ms == event.latency_detail_ms
        && found.status == event.status
        && found.flags == event.flags
        && found.dims == event.dims
        && found.labels == event.labels
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let size = Size { rows: scale(1_000_000, 10_000), segments: 10 };
    let table = LazyCell::new(|| Table::on_disk(size).expect("the table can be made"));
    let everything = QueryFilter::<2>::default();
    let of_user = QueryFilter { dims: [Some("user_0007".to_owned()), None], ..everything.clone() };

    let mut group = criterion.benchmark_group("query_recent");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for (name, filter, limit) in
        [("all", &everything, 100), ("all", &everything, 1000), ("user", &of_user, 100)]
    {
        group.throughput(Throughput::Elements(limit as u64));
        group.bench_function(BenchmarkId::new(name, limit), |bencher| {
            let wanted_user = filter.dims[USER].as_ref();
            let newest = (0..size.rows).rev().map(|row| event(SEED, row));
            let wanted =
                newest.filter(|event| wanted_user.is_none_or(|user| *user == event.dims[USER])).take(limit);
            let found = table.engine.query_recent(filter, limit).expect("the segments can be read");
            let wanted: Vec<_> = wanted.collect();
            assert_eq!(found.len(), wanted.len());
            assert!(found.iter().zip(&wanted).all(|(found, event)| is_event(found, event)), "{name} {limit}");
            bencher.iter(|| table.engine.query_recent(filter, limit));
        });
    }
    group.finish();

    let row = size.rows * 618 / 1000;
    let hit = id(SEED, row);
    let other_digit = if hit.ends_with('0') { '1' } else { '0' };
    let miss = format!("{}{other_digit}", &hit[..hit.len() - 1]);
    let mut group = criterion.benchmark_group("get_event");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(1));
    for (name, id, wanted) in [("hit", &hit, Some(event(SEED, row))), ("miss", &miss, None)] {
        group.bench_function(name, |bencher| {
            let found = table.engine.get_event(id).expect("the segments can be read");
            assert_eq!(found.is_some(), wanted.is_some(), "{name}");
            assert!(found.iter().zip(&wanted).all(|(found, event)| is_event(found, event)), "{name}");
            bencher.iter(|| table.engine.get_event(id));
        });
    }
    group.finish();
    criterion.final_summary();
}
