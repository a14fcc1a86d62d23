//! Totals over many tiny segments, before and after they are merged: what an engine that flushed ten events at a time costs
//! whoever asks, and what compaction gives back.

use std::time::Duration;

use criterion::Criterion;
use keplordb::{Budget, QueryFilter};
use keplordb_benches::mode::scale;
use keplordb_benches::table::{Size, Table};
use keplordb_benches::workload::{self, SEED, USER};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let segments = scale(1000, 100);
    let size = Size { rows: segments * 10, segments };
    let table = Table::on_disk(size).expect("the table can be made");
    let user = [Some("user_0007".to_owned()), None];
    let filters =
        [("all", QueryFilter::default()), ("user", QueryFilter { dims: user, ..QueryFilter::default() })];

    let mut group = criterion.benchmark_group("merge");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for state in ["before", "after"] {
        if state == "after" {
            let done = table.engine.compact(Budget::UNLIMITED).expect("the segments can be merged");
            assert_eq!((done.segments_replaced, table.engine.segment_count()), (segments, 1), "{done:?}");
        }
        for (name, filter) in &filters {
            group.bench_function(format!("{name} {state}"), |bencher| {
                let totals = table.engine.aggregate(filter).expect("the segments can be read");
                let found = (totals.event_count, totals.metric, totals.counters[0], totals.latency_ms);
                let is_of_user = |event: &workload::Event| {
                    filter.dims[USER].as_ref().is_none_or(|user| *user == event.dims[USER])
                };
                assert_eq!(found, workload::totals(SEED, size.rows, is_of_user), "{name} {state}");
                bencher.iter(|| table.engine.aggregate(filter));
            });
        }
    }
    group.finish();
    criterion.final_summary();
}
