//! The peers' read operations on 1 M events in 10 segments, by the typed interface; `cargo bench --bench query -- R7/` asks one.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use keplordb_benches::calls::Calls;
use keplordb_benches::mode::scale;
use keplordb_benches::questions;
use keplordb_benches::table::Size;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let size = Size { rows: scale(1_000_000, 10_000), segments: 10 };
    let calls = Calls::on_disk(size).expect("the table can be made");
    let mut group = criterion.benchmark_group("query");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(size.rows));
    for question in questions::all(&calls.store, size.rows) {
        let found = question.ask().expect("the segments can be read");
        assert_eq!(found, question.finds, "{}", question.name);
        group.bench_function(question.name, |bencher| bencher.iter(|| question.ask()));
    }
    group.finish();
    criterion.final_summary();
}
