//! The entry log: reading it from end to end, and finding a time in a segment that is still being written.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keplordb_benches::machine::bench_dir;
use keplordb_benches::mode::scale;
use keplordb_benches::workload::FRAMED_EVENT_BYTES;
use keplordb_log::{Log, Options, SyncPolicy, Timestamp};

/// Entries of a batch.
const BATCH: usize = 64;
/// Nanoseconds between two batches.
const STEP_NS: i64 = 1_000_000;

/// A log with one growing segment of about `bytes`, and how many batches it has.
fn filled(dir: &std::path::Path, bytes: usize) -> (Log, i64) {
    let options = Options { max_segment_bytes: u64::MAX, sync: SyncPolicy::OnDemand, ..Options::default() };
    let log = Log::open_with(dir, options).expect("the options are legal");
    let writer = log.writer().expect("nobody else writes");
    let batches = bytes.div_ceil(BATCH * FRAMED_EVENT_BYTES) as i64;
    for number in 0..batches {
        let entry = [number.to_le_bytes()[0]; FRAMED_EVENT_BYTES];
        let first = number * STEP_NS;
        let batch: Vec<_> =
            (0..BATCH as i64).map(|place| (Timestamp::from_ns(first + place), &entry[..])).collect();
        writer.write_batch_at(&batch).expect("the disk has room");
    }
    writer.close().expect("the disk has room");
    (log, batches)
}

fn read(criterion: &mut Criterion) {
    let dir = bench_dir().expect("a directory");
    let (log, batches) = filled(dir.path(), scale(256 << 20, 1 << 20));
    let (entries, bytes) =
        (batches as u64 * BATCH as u64, batches as u64 * (BATCH * FRAMED_EVENT_BYTES) as u64);
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Bytes(bytes));
    group.sample_size(10);
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let mut reader = log.reader().expect("the log is there");
            let (mut count, mut sum) = (0_u64, 0_u64);
            while let Some(entry) = reader.next().expect("the log is whole") {
                count += 1;
                sum += entry.bytes.len() as u64;
            }
            assert_eq!((count, sum), (entries, bytes));
        });
    });
    group.finish();
}

fn from(criterion: &mut Criterion) {
    let dir = bench_dir().expect("a directory");
    let (log, batches) = filled(dir.path(), scale(1 << 30, 1 << 20));
    let mut group = criterion.benchmark_group("log");
    let mut number = 0;
    group.bench_function("from", |bencher| {
        bencher.iter(|| {
            // Other places each time.
            number = (number + 7919) % batches;
            let wanted = Timestamp::from_ns(number * STEP_NS + 10);
            let mut reader = log.from(wanted).expect("the log is there");
            let entry = reader.next().expect("the log is whole").expect("it has this time");
            assert_eq!(entry.time, wanted);
        });
    });
    group.finish();
}

criterion_group!(benches, read, from);
criterion_main!(benches);
