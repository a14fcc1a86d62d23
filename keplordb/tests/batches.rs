//! Columns of many rows at once, from outside: `batches` and `batches_of` against `each`, row by row, on random tables with
//! random filters, orders, limits and batches. Then what is not opened beyond a limit, what damage gives, and each refusal.

#[allow(dead_code, reason = "each test file uses a part of the oracle")]
mod naive;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use keplordb::any::{
    AnyQuery, AnyReader, AnySnapshot, AnyStore, ColumnBatch, ColumnValues, Kind, Test, Value,
};
use keplordb::disk::{Disk, MemoryDisk};
use keplordb::{DbError, EngineConfig, Options, TableSchema};
use naive::files::{Files, copy_of, files_of};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const DIR: &str = "table";
const TEXTS: [&str; 6] = ["", "a", "b", "bb", "größer", "x\0'\"y"];

fn open(disk: &Arc<MemoryDisk>, schema: TableSchema) -> AnyStore {
    let config = EngineConfig { wal_max_events: 40, wal_shard_count: 2, ..EngineConfig::in_dir(DIR) };
    let options = Options::default().disk(Arc::clone(disk) as Arc<dyn Disk>).schema(schema);
    AnyStore::open_with(config, options).unwrap()
}

/// The table at first, and as it grew.
fn schema(age: usize) -> TableSchema {
    let schema = TableSchema::new(1).dim("user").counter("tokens");
    match age {
        0 => schema,
        1 => schema.dim("model").label("prompt"),
        _ => schema.dim("model").label("prompt").dim("region").counter("cost").indexed_label("key"),
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Times from some moment on, and what else is in the events.
    Append(i64, Vec<(i64, u64)>),
    Flush,
    Delete(u64),
    Grow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_i64, vec((0..1500_i64, any::<u64>()), 1..60))
            .prop_map(|(moment, events)| Step::Append(moment * 1000, events)),
        2 => Just(Step::Flush),
        2 => any::<u64>().prop_map(Step::Delete),
        1 => Just(Step::Grow),
    ]
}

fn value(kind: Kind, random: u64) -> Value<'static> {
    match kind.range() {
        None if random % 50 == 49 => Value::from("long ".repeat((random >> 8) as usize % 2000)),
        None => Value::from(TEXTS[(random >> 8) as usize % TEXTS.len()]),
        Some((min, max)) => match random % 9 {
            0 => Value::Int(min),
            1 => Value::Int(max),
            _ => Value::Int(i64::try_from((random >> 8) % 3000).unwrap().clamp(min, max)),
        },
    }
}

/// A table after some steps, still with rows in memory.
fn table(steps: &[Step]) -> AnyStore {
    let disk: Arc<MemoryDisk> = Arc::default();
    let (mut age, mut store) = (0, open(&disk, schema(0)));
    for step in steps {
        match step {
            Step::Append(moment, events) => {
                let events: Vec<_> = events
                    .iter()
                    .map(|(ns, random)| {
                        let mut event = store.event(moment + ns);
                        for (place, column) in store.columns().iter().enumerate() {
                            // Of some events, most columns are not set.
                            let random = random.rotate_left(u32::try_from(place).unwrap() * 7);
                            event = match column.name.as_str() {
                                "ts_ns" | "sequence" => event,
                                "id" => event.set("id", format!("id-{}", random % 90)).unwrap(),
                                _ if random % 4 == 3 => event,
                                name => event.set(name, value(column.kind, random / 4)).unwrap(),
                            };
                        }
                        event
                    })
                    .collect();
                store.append_batch(events).unwrap();
            }
            Step::Flush => drop(store.flush().unwrap()),
            Step::Delete(random) => {
                store.delete(&[&format!("id-{}", random % 90)]).unwrap();
            }
            Step::Grow => {
                age += 1;
                store.close().unwrap();
                store = open(&disk, schema(age));
            }
        }
    }
    store
}

#[derive(Debug, Clone)]
struct Question {
    newest_first: bool,
    limit: usize,
    by_scan: bool,
    filter: usize,
    columns: Vec<Index>,
    batch_rows: usize,
}

fn question() -> impl Strategy<Value = Question> {
    let limit = select(&[0, 1, 3, 70, usize::MAX, usize::MAX][..]);
    let batch_rows = select(&[1, 2, 10, 64, 100, 8192, usize::MAX][..]);
    (any::<bool>(), limit, any::<bool>(), 0..8_usize, vec(any::<Index>(), 0..8), batch_rows).prop_map(
        |(newest_first, limit, by_scan, filter, columns, batch_rows)| Question {
            newest_first,
            limit,
            by_scan,
            filter,
            columns,
            batch_rows,
        },
    )
}

impl Question {
    fn of<'a>(&self, query: AnyQuery<'a>, snapshot: &AnySnapshot) -> AnyQuery<'a> {
        let query = if self.newest_first { query.newest_first() } else { query.oldest_first() };
        let query = query.limit(self.limit);
        let query = if self.by_scan { query.by_scan() } else { query };
        let filter = |column: &str, test: Test| snapshot.filter(column, test).unwrap();
        let metric = |lo, hi| filter("metric", Test::Between { lo, hi });
        let user = |user: &str| filter("user", Test::Equals(user.to_owned()));
        match self.filter {
            0 => query.between(1200..4100),
            1 => query.filter(&user("a")),
            2 => query.filter(&(user("b") & metric(0, 1500))),
            3 => query.filter(&(metric(i64::MIN, 700) | filter("status", Test::Between { lo: 0, hi: 900 }))),
            4 => query.filter(&!filter("id", Test::EndsWith("7".to_owned()))).between(..3000),
            5 => query.filter(&filter("user", Test::StartsWith("b".to_owned()))).status(1..),
            _ => query,
        }
    }

    fn positions(&self, snapshot: &AnySnapshot) -> Vec<usize> {
        self.columns.iter().map(|index| index.index(snapshot.columns().len())).collect()
    }
}

type Values = Vec<Vec<Value<'static>>>;

/// Row by row: the slow twin.
fn by_rows(query: &AnyQuery<'_>, columns: &[usize]) -> Values {
    let mut rows = Vec::new();
    query
        .each(|row| {
            rows.push(
                columns
                    .iter()
                    .map(|column| Ok(row.at(*column)?.into_owned()))
                    .collect::<Result<_, DbError>>()?,
            );
            Ok(())
        })
        .unwrap();
    rows
}

/// The rows of a batch.
fn rows_of(batch: &ColumnBatch) -> Values {
    let value = |values: &ColumnValues, row: usize| {
        assert_eq!(values.len(), batch.rows);
        match values {
            ColumnValues::Ints(values) => Value::Int(values[row]),
            ColumnValues::Keys { codes, values } => Value::from(values.get(codes[row]).to_owned()),
            ColumnValues::Texts(texts) => Value::from(texts.get(row).to_owned()),
            other => panic!("{other:?} is new"),
        }
    };
    (0..batch.rows).map(|row| batch.columns.iter().map(|values| value(values, row)).collect()).collect()
}

fn by_batches(query: &AnyQuery<'_>, columns: &[usize], batch_rows: usize) -> Values {
    let (mut rows, mut sizes) = (Vec::new(), Vec::new());
    query
        .batches(columns, batch_rows, |batch| {
            sizes.push(batch.rows);
            rows.extend(rows_of(&batch));
        })
        .unwrap();
    let last = sizes.pop();
    assert!(
        sizes.iter().all(|rows| *rows == batch_rows)
            && last.is_none_or(|rows| 0 < rows && rows <= batch_rows)
    );
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn batches_have_the_rows_one_by_one(steps in vec(step(), 1..16), questions in vec(question(), 12)) {
        let store = table(&steps);
        let snapshot = store.snapshot();
        for question in questions {
            let columns = question.positions(&snapshot);
            let query = question.of(snapshot.query(), &snapshot);
            let right = by_rows(&query, &columns);
            prop_assert_eq!(&by_batches(&query, &columns, question.batch_rows), &right, "{:?}", question);
            let of_store = question.of(store.query(), &snapshot);
            prop_assert_eq!(&by_batches(&of_store, &columns, question.batch_rows), &right, "{:?}", question);

            // Parts have an order of their own, and a limit each.
            let sequence = snapshot.position("sequence").unwrap();
            let columns: Vec<usize> = [sequence].into_iter().chain(columns).collect();
            let mut of_parts = Vec::new();
            for part in 0..snapshot.parts() {
                let before = of_parts.len();
                query
                    .batches_of(part, &columns, question.batch_rows, |batch| of_parts.extend(rows_of(&batch)))
                    .unwrap();
                prop_assert!(of_parts.len() - before <= question.limit);
            }
            let mut right = by_rows(&query.clone().limit(usize::MAX), &columns);
            let by_sequence = |row: &Vec<Value<'static>>| row[0].as_int();
            right.sort_by_key(by_sequence);
            of_parts.sort_by_key(by_sequence);
            if question.limit == usize::MAX {
                prop_assert_eq!(&of_parts, &right, "{:?}", question);
            } else {
                let is_right = |row| right.binary_search_by_key(&by_sequence(row), by_sequence).is_ok_and(|at| &right[at] == row);
                prop_assert!(of_parts.iter().all(is_right) && of_parts.is_sorted_by(|a, b| by_sequence(a) < by_sequence(b)));
                prop_assert!(of_parts.len() >= right.len().min(question.limit));
            }
        }
    }
}

/// Three segments, one after the other in time, and a few rows in memory.
fn calls() -> (Arc<MemoryDisk>, AnyStore) {
    let disk: Arc<MemoryDisk> = Arc::default();
    let config = EngineConfig { wal_shard_count: 1, ..EngineConfig::in_dir(DIR) };
    let options = Options::default().disk(Arc::clone(&disk) as Arc<dyn Disk>).schema(schema(2));
    let store = AnyStore::open_with(config, options).unwrap();
    let append = |from: i64, rows: i64| {
        let event = |ns: i64| {
            let event = store.event(from + ns).set("id", format!("{:04x}", ns * 7)).unwrap();
            let event =
                event.set("user", format!("user {}", ns % 9)).unwrap().set("tokens", ns % 3000).unwrap();
            event
                .set("prompt", "say ".repeat(usize::try_from(ns % 70).unwrap()))
                .unwrap()
                .set("key", ns.to_string())
                .unwrap()
        };
        store.append_batch((0..rows).map(event)).unwrap();
    };
    for from in [0, 10_000, 20_000] {
        append(from, 700);
        store.flush().unwrap();
    }
    append(30_000, 5);
    (disk, store)
}

fn segments(files: &Files) -> Vec<&Path> {
    let is_segment = |path: &&Path| path.extension().is_some_and(|extension| extension == "kseg");
    files.keys().map(std::path::PathBuf::as_path).filter(is_segment).collect()
}

fn reader(files: &Files) -> Result<AnyReader, DbError> {
    AnyReader::open_with(EngineConfig::in_dir(DIR), Options::default().disk(copy_of(files)))
}

fn all_columns(reader: &AnyReader) -> Vec<usize> {
    (0..reader.columns().len()).collect()
}

/// Two segments that take turns, each with values of its own: codes of one are never taken for those of the other.
#[test]
fn keys_of_segments_that_meet_in_a_batch_become_texts() {
    let store = open(&Arc::default(), schema(0));
    for (segment, users) in [["ann", "bob"], ["bob", "cleo"]].into_iter().enumerate() {
        let turns = [segment, segment + 2].into_iter().flat_map(|turn| turn * 100..turn * 100 + 100);
        let event = |at: usize| {
            let event = store.event(i64::try_from(at).unwrap());
            event.set("user", users[at % 2]).unwrap()
        };
        store.append_batch(turns.map(event)).unwrap();
        store.flush().unwrap();
    }
    let columns = [store.position("user").unwrap()];
    for query in [store.query().oldest_first(), store.query().newest_first()] {
        let right = by_rows(&query, &columns);
        let mut kinds = Vec::new();
        query
            .batches(&columns, 80, |batch| {
                kinds.push(match &batch.columns[0] {
                    ColumnValues::Keys { values, .. } => values.texts().iter().collect::<Vec<_>>().join(" "),
                    _ => "texts".to_owned(),
                });
            })
            .unwrap();
        for batch_rows in [30, 80, 150, 400] {
            assert_eq!(by_batches(&query, &columns, batch_rows), right, "{batch_rows}");
        }
        kinds.sort_unstable();
        assert_eq!(kinds, ["ann bob", "bob cleo", "texts", "texts", "texts"]);
    }
}

#[test]
fn segments_beyond_the_limit_are_not_opened() {
    let (disk, store) = calls();
    let mut files = files_of(&*disk, Path::new(DIR));
    drop(store);
    let oldest = segments(&files)[0].to_owned();
    let bytes = files.get_mut(&oldest).unwrap();
    let last_half = bytes.len() / 2..;
    bytes[last_half].iter_mut().for_each(|byte| *byte ^= 0x55);

    let reader = reader(&files).unwrap();
    let columns = all_columns(&reader);
    let mut given = 0;
    reader.query().limit(1405).batches(&columns, 100, |batch| given += batch.rows).unwrap();
    assert_eq!(given, 1405);
    given = 0;
    let error = reader.query().limit(1406).batches(&columns, 100, |batch| given += batch.rows).unwrap_err();
    assert!(matches!(&error, DbError::Corrupt { file, .. } if *file == oldest), "{error}");
    assert_eq!(given, 1400);
    given = 0;
    reader.query().oldest_first().batches(&columns, 100, |batch| given += batch.rows).unwrap_err();
    assert_eq!(given, 0);
}

#[test]
fn damage_gives_an_error_that_names_the_file_or_the_right_rows() {
    let (disk, store) = calls();
    let files = files_of(&*disk, Path::new(DIR));
    drop(store);
    let whole = reader(&files).unwrap();
    let columns = all_columns(&whole);
    let right = by_rows(&whole.query(), &columns);
    assert_eq!(by_batches(&whole.query(), &columns, 300), right);
    let (mut refused, mut answered) = (0, 0);
    for path in segments(&files) {
        for at in (0..files[path].len()).step_by(11) {
            let mut damaged = files.clone();
            damaged.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
            let mut rows = Vec::new();
            let asked = reader(&damaged).and_then(|reader| {
                reader.query().batches(&columns, 300, |batch| rows.extend(rows_of(&batch)))?;
                let (snapshot, mut count) = (reader.snapshot(), 0);
                for part in 0..snapshot.parts() {
                    snapshot.query().batches_of(part, &columns, 300, |batch| count += batch.rows)?;
                }
                assert_eq!(count, right.len(), "byte {at}");
                Ok(())
            });
            match asked {
                Ok(()) => answered += 1,
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains(&*path.to_string_lossy()), "byte {at}: {error}");
                }
            }
            assert!(right.starts_with(&rows), "byte {at}");
        }
    }
    assert!(refused > 100 && answered > 0, "{refused} refused, {answered} answered");
}

#[test]
fn a_step_ends_the_batches_with_an_error_or_without() {
    let (_, store) = calls();
    let mut given = 0;
    let query = store.query();
    query
        .batches(&[0], 100, |batch| {
            given += batch.rows;
            if given < 300 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
    assert_eq!(given, 300);
    let error = query
        .batches(&[0], 100, |_| Err(DbError::UnknownColumn { name: "mine".into(), columns: String::new() }));
    assert!(matches!(error, Err(DbError::UnknownColumn { name, .. }) if name == "mine"));
    let snapshot = store.snapshot();
    given = 0;
    let step = |batch: ColumnBatch| {
        given += batch.rows;
        ControlFlow::Break(())
    };
    snapshot.query().batches_of(0, &[0], 100, step).unwrap();
    assert_eq!(given, 100);
}

#[test]
fn refusals_say_what_to_do() {
    let (_, store) = calls();
    let none = |_: ColumnBatch| {};
    let said = |refused: Result<(), DbError>| match refused.unwrap_err() {
        DbError::Invalid { field, why } => format!("{field}: {why}"),
        other => panic!("{other}"),
    };
    let count = store.columns().len();
    assert_eq!(
        said(store.query().batches(&[0, count], 10, none)),
        format!("column position: {count}, the table has {count} columns")
    );
    let no_rows = "batch_rows: batches of 0 rows never come to an end";
    assert_eq!(said(store.query().batches(&[0], 0, none)), no_rows);
    assert_eq!(
        said(store.query().batches_of(0, &[0], 10, none)),
        "batches_of: parts change with the table: take a snapshot, and ask it for a query"
    );
    let snapshot = store.snapshot();
    assert_eq!(said(snapshot.query().batches_of(0, &[0], 0, none)), no_rows);
    assert_eq!(
        said(snapshot.query().batches_of(4, &[0], 10, none)),
        "batches_of: there is no part 4, the snapshot has 4"
    );
}
