//! Tables of random rows, and the same rows where the engine has no part in any answer: in a `MemTable`, copied row by row.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampNanosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use fastrand::Rng;
use keplordb::any::{AnyEvent, AnyStore, Value};
use keplordb::{EngineConfig, Options, Sync, TableSchema};
use keplordb_sql::schema::arrow_schema;

/// 2023-11-14 22:13:20 UTC.
pub(crate) const START_NS: i64 = 1_700_000_000_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;

/// Texts that are like others, or like patterns.
pub(crate) const TEXTS: [&str; 12] = [
    "alice",
    "Alice",
    "ali%ce",
    "al_ce",
    "al\\ce",
    "bob",
    "",
    "%",
    "ø-ünï-日本",
    "carol of the hills",
    "a",
    "alic",
];

pub(crate) fn schema() -> TableSchema {
    TableSchema::new(7).dim("user").dim("model").counter("tokens").label("note")
}

/// A store that does not wait for its disk.
pub(crate) fn store(dir: &Path) -> AnyStore {
    let options = Options::default().sync(Sync::Os).schema(schema());
    AnyStore::open_with(EngineConfig::in_dir(dir), options).unwrap()
}

fn pick<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.usize(..values.len())]
}

pub(crate) fn event(store: &AnyStore, rng: &mut Rng, place: usize) -> AnyEvent {
    // Times that meet, that are far apart, and some before 1970.
    let ts_ns = match rng.u32(..20) {
        0 => -rng.i64(0..HOUR_NS),
        1 => START_NS + 400 * 24 * HOUR_NS,
        _ => START_NS + rng.i64(0..50) * HOUR_NS / 10 + rng.i64(0..2),
    };
    let number = |rng: &mut Rng, values: &[i64]| Value::Int(pick(rng, values));
    let event = store.event(ts_ns).set("id", format!("id-{place}")).unwrap();
    let event =
        event.set("metric", number(rng, &[0, 1, -1, 200, i64::MAX, i64::MIN, 2_147_483_648])).unwrap();
    let event = event.set("latency_ms", number(rng, &[0, 1, 200, 65_536, 4_294_967_295])).unwrap();
    let event = event.set("status", number(rng, &[0, 200, 200, 201, 404, 500, 65_535])).unwrap();
    let event = event.set("flags", number(rng, &[0, 1, 2, 3, 4, 7, 65_535])).unwrap();
    let event = event.set("tokens", rng.u32(..300)).unwrap();
    let event = event.set("user", pick(rng, &TEXTS)).unwrap();
    let event = event.set("model", format!("m{}", rng.u32(..3))).unwrap();
    event.set("note", pick(rng, &TEXTS)).unwrap()
}

/// Appends rows: some end in segments, some stay in memory, some are deleted in both.
pub(crate) fn fill(store: &AnyStore, rng: &mut Rng, rows: usize, flushes: usize) {
    let chunk = rows / (flushes + 1);
    for place in 0..rows {
        store.append(event(store, rng, place)).unwrap();
        if place % 17 == 16 {
            let id = format!("id-{}", rng.usize(..=place));
            store.delete(&[&id]).unwrap();
        }
        if flushes > 0 && place % chunk.max(1) == chunk.max(1) - 1 && place / chunk.max(1) < flushes {
            store.flush().unwrap();
        }
    }
}

/// The rows of a store as a record batch, value by value.
pub(crate) fn copied(store: &AnyStore) -> RecordBatch {
    let schema = arrow_schema(store.columns());
    let rows = store.query().oldest_first().rows().unwrap();
    let arrays = schema.fields().iter().map(|field| -> ArrayRef {
        let name = if field.name() == "ts" { "ts_ns" } else { field.name() };
        let ints = || rows.iter().map(|row| row.int(name).unwrap());
        match field.data_type() {
            DataType::Int64 => Arc::new(Int64Array::from_iter_values(ints())),
            DataType::Int32 => {
                Arc::new(Int32Array::from_iter_values(ints().map(|int| i32::try_from(int).unwrap())))
            }
            DataType::Timestamp(..) => {
                Arc::new(TimestampNanosecondArray::from_iter_values(ints()).with_timezone("UTC"))
            }
            _ => Arc::new(StringViewArray::from_iter_values(rows.iter().map(|row| row.text(name).unwrap()))),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), arrays.collect()).unwrap()
}

/// A context of `DataFusion` with the same rows in memory.
pub(crate) fn twin(rows: RecordBatch, partitions: usize) -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    context
}

/// An answer as text; its lines in the order of the answer, or sorted.
pub(crate) fn shown(schema: &SchemaRef, batches: &[RecordBatch], in_order: bool) -> String {
    let batch = concat_batches(schema, batches).unwrap();
    let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
    let text = pretty_format_batches(&[batch]).unwrap().to_string();
    let mut lines: Vec<_> = text.lines().collect();
    if !in_order {
        lines.sort_unstable();
    }
    format!("{}\n{}", types.join(", "), lines.join("\n"))
}
