//! Totals of 500,000 events that are in no segment yet: of all and of a user, for the first time since they were appended,
//! and later.

use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
use keplordb::aggregates::{count, sum};
use keplordb::{Filter, Store};
use keplordb_benches::calls::{Calls, LlmCall};
use keplordb_benches::mode::scale;
use keplordb_benches::workload::{self, Event, SEED, USER};

/// Count, and the sums of metric, tokens and latency.
type Sums = (u64, i64, u64, u64);

fn ask(store: &Store<LlmCall>, filter: Filter<LlmCall>) -> Sums {
    let c = LlmCall::cols();
    let sums = (count(), sum(c.metric), sum(c.tokens), sum(c.latency_ms));
    store.query(filter).select(sums).one().expect("memory can be read")
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let rows = scale(500_000, 5000);
    let unsealed = || Calls::unsealed(rows).expect("the table can be made");
    let of_user = |event: &Event| event.dims[USER] == "user_0007";
    let all = (Filter::all(), workload::totals(SEED, rows, |_| true));
    let user = (LlmCall::cols().user.eq("user_0007"), workload::totals(SEED, rows, of_user));

    let mut group = criterion.benchmark_group("unsealed");
    group.throughput(Throughput::Elements(rows));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(1));
    for (name, (filter, wanted)) in [("all", all), ("user", user)] {
        let calls = unsealed();
        assert_eq!(ask(&calls.store, filter.clone()), wanted, "{name}");
        group.bench_function(format!("{name} again"), |bencher| {
            bencher.iter(|| ask(&calls.store, filter.clone()));
        });
        drop(calls);
        group.bench_function(format!("{name} first"), |bencher| {
            bencher.iter_batched_ref(
                unsealed,
                |calls| ask(&calls.store, filter.clone()),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    criterion.final_summary();
}
