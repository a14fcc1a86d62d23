//! The kernels one by one, for each width and instruction set, on a chunk of 256 values in the first cache; and what they are
//! for: scans, range sums and listed rows of a column.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use keplordb::internals::{Column, KernelSet, ROWS};
use keplordb_benches::mode::scale;

/// Any bytes, always the same.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 42_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    (0..bytes).map(next).collect()
}

fn kernels(criterion: &mut Criterion) {
    let bytes = noise(8 * ROWS);
    let mask = [0x1234_5678_9ABC_DEF0, u64::MAX, 1 << 63, 0x5555_5555_5555_5555];
    for width_bytes in [1, 2, 4, 8] {
        let largest = u64::MAX >> (64 - 8 * width_bytes);
        let mut group = criterion.benchmark_group(format!("kernels/u{}", 8 * width_bytes));
        group.throughput(Throughput::Bytes((width_bytes * ROWS) as u64));
        for set in KernelSet::all() {
            let id = |kernel: &str| BenchmarkId::new(kernel, set.name());
            let (lo, hi) = (largest / 4, largest / 4 * 3);
            group.bench_function(id("range_mask"), |bencher| {
                bencher.iter(|| set.range_mask(width_bytes, black_box(&bytes), lo, hi));
            });
            group.bench_function(id("bits_mask"), |bencher| {
                bencher.iter(|| set.bits_mask(width_bytes, black_box(&bytes), 5));
            });
            group.bench_function(id("masked_sum"), |bencher| {
                bencher.iter(|| set.masked_sum(width_bytes, black_box(&bytes), &mask));
            });
            group.bench_function(id("masked_min_max"), |bencher| {
                bencher.iter(|| set.masked_min_max(width_bytes, black_box(&bytes), &mask));
            });
        }
        group.finish();
    }
}

fn columns(criterion: &mut Criterion) {
    // Those of a segment, or few where a bench only has to run.
    let rows: u32 = scale(100_000, 3_000);
    let noise = noise(8 * rows as usize);
    let listed: Vec<u32> = (0..rows).step_by(166).collect();
    for (name, below) in [("u8", 200), ("u16", 5_000), ("u32", 10_000_000)] {
        let value = |bytes: &[u8; 8]| i64::from_le_bytes(*bytes).rem_euclid(below);
        let values: Vec<i64> = noise.as_chunks().0.iter().map(value).collect();
        let column = Column::new(&values);
        let mut group = criterion.benchmark_group(format!("column/{name}"));
        group.throughput(Throughput::Elements(u64::from(rows)));
        for set in KernelSet::all() {
            group.bench_function(BenchmarkId::new("scan", set.name()), |bencher| {
                bencher.iter(|| black_box(&column).scan(set, below / 3, below / 2));
            });
        }
        let cut = rows as usize / 7..rows as usize / 5;
        group.throughput(Throughput::Elements(1));
        group.bench_function("sum", |bencher| bencher.iter(|| black_box(&column).sum(cut.clone())));
        group.bench_function("get", |bencher| bencher.iter(|| black_box(&column).get(black_box(cut.start))));
        group.throughput(Throughput::Elements(listed.len() as u64));
        group.bench_function("sum_rows", |bencher| bencher.iter(|| black_box(&column).sum_rows(&listed)));
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    kernels(&mut criterion);
    columns(&mut criterion);
    criterion.final_summary();
}
