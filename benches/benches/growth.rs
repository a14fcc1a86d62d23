//! How queries grow with the rows, the segments being ten: 100 K and 1 M events, or the numbers that the variable
//! `KEPLORDB_BENCH_ROWS` lists, as in `KEPLORDB_BENCH_ROWS=100000,1000000,10000000`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use keplordb_benches::calls::Calls;
use keplordb_benches::mode::scale;
use keplordb_benches::questions;
use keplordb_benches::table::Size;

/// What must not grow by more than a half from 1 M to 10 M rows, and a scan, which does.
const ASKED: [&str; 7] = ["R1", "R2", "R3", "R5", "R7", "R9h", "R18"];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let listed = std::env::var("KEPLORDB_BENCH_ROWS").unwrap_or_else(|_| "100000,1000000".to_owned());
    let listed = listed.split(',').map(|rows| rows.trim().parse().expect("numbers of rows"));
    let sizes: Vec<u64> = scale(listed.collect(), vec![2000, 4000]);
    let mut group = criterion.benchmark_group("growth");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for rows in sizes {
        let calls = Calls::on_disk(Size { rows, segments: 10 }).expect("the table can be made");
        for question in questions::all(&calls.store, rows) {
            if !ASKED.contains(&question.name) {
                continue;
            }
            let found = question.ask().expect("the segments can be read");
            assert_eq!(found, question.finds, "{} of {rows}", question.name);
            group.bench_function(BenchmarkId::new(question.name, rows), |bencher| {
                bencher.iter(|| question.ask());
            });
        }
    }
    group.finish();
    criterion.final_summary();
}
