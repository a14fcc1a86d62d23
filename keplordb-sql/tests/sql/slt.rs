//! The statements of `tests/slt/*.slt`, each with its answer, about two small tables that come from CSV files there and an empty one.
//!
//! The files are [sqllogictest](https://www.sqlite.org/sqllogictest/)'s, of which this reads `statement ok`, `statement error TEXT` and
//! `query TYPES [rowsort]`, as `DataFusion`'s own tests write them: a line a row, a space between values. The crate of that name would
//! bring 28 others. Types are T(ext), I(nteger), R(eal), B(oolean), D(ate), P(oint in time) and ? for all else; NULL and (empty) are
//! what they say. What stands behind `error` is a part of the message.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use arrow::array::Array;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use keplordb::TableSchema;
use keplordb::any::AnyStore;
use keplordb_sql::import::{Import, Mapping, TimeFormat};
use keplordb_sql::{Session, SqlError};

/// A statement of a file, and what must come of it.
#[derive(Debug)]
struct Record<'f> {
    /// Where it begins in its file.
    line: usize,
    sql: String,
    expected: Expected<'f>,
}

#[derive(Debug)]
enum Expected<'f> {
    Ok,
    Error(&'f str),
    Rows { types: &'f str, is_sorted: bool, rows: Vec<&'f str> },
}

/// The statements of a file: paragraphs, of which those that only comment are none.
fn records(file: &str) -> Vec<Record<'_>> {
    let mut lines = file.lines().enumerate().peekable();
    let mut records = Vec::new();
    while let Some((line, head)) = lines.next() {
        if head.trim().is_empty() || head.starts_with('#') {
            continue;
        }
        let mut paragraph = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
            paragraph.push(line);
        }
        let mut parts = paragraph.splitn(2, |line| *line == "----");
        let sql = parts.next().unwrap_or_default().join("\n");
        let rows = parts.next().map(<[_]>::to_vec);
        let expected = match (head.splitn(3, ' ').collect::<Vec<_>>().as_slice(), rows) {
            (["statement", "ok"], None) => Expected::Ok,
            (["statement", "error", text], None) => Expected::Error(text),
            (["query", types], Some(rows)) => Expected::Rows { types, is_sorted: false, rows },
            (["query", types, "rowsort"], Some(rows)) => Expected::Rows { types, is_sorted: true, rows },
            _ => panic!("line {}: this is not read: {head}", line + 1),
        };
        records.push(Record { line: line + 1, sql, expected });
    }
    records
}

fn letter(data_type: &DataType) -> char {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => 'T',
        number if number.is_integer() => 'I',
        number if number.is_floating() => 'R',
        DataType::Boolean => 'B',
        DataType::Date32 | DataType::Date64 => 'D',
        DataType::Timestamp(..) => 'P',
        _ => '?',
    }
}

/// The types of an answer, and its rows.
async fn answer(session: &Session, sql: &str) -> Result<(String, Vec<String>), SqlError> {
    let rows = session.sql(sql).await?;
    let types = rows.schema().fields().iter().map(|field| letter(field.data_type())).collect();
    let mut lines = Vec::new();
    for batch in rows.collect().await? {
        for row in 0..batch.num_rows() {
            let value = |column: &dyn Array| match array_value_to_string(column, row) {
                _ if column.is_null(row) => "NULL".to_owned(),
                Ok(text) if text.is_empty() => "(empty)".to_owned(),
                text => text.expect("a value has a text"),
            };
            lines.push(batch.columns().iter().map(|column| value(column)).collect::<Vec<_>>().join(" "));
        }
    }
    Ok((types, lines))
}

/// What is wrong with what came of a statement.
async fn problem(session: &Session, record: &Record<'_>) -> Option<String> {
    let found = answer(session, &record.sql).await;
    match (&record.expected, found) {
        (Expected::Ok, Ok(_)) => None,
        (Expected::Error(text), Err(error)) if error.to_string().contains(text) => None,
        (Expected::Rows { types, is_sorted, rows }, Ok((found_types, mut found))) => {
            let mut rows = rows.clone();
            if *is_sorted {
                rows.sort_unstable();
                found.sort_unstable();
            }
            (found_types != *types || found != rows).then(|| format!("{found_types}\n{}", found.join("\n")))
        }
        (_, Ok((_, found))) => Some(format!("no error, but\n{}", found.join("\n"))),
        (_, Err(error)) => Some(error.to_string()),
    }
}

/// A table of a CSV file whose columns are named as the table's; eight rows are in a segment, the others in memory.
fn table(dir: &Path, name: &str, schema: TableSchema) -> AnyStore {
    let store = AnyStore::open_or_create(dir.join(name), schema).unwrap();
    let file = slt().join(name).with_extension("csv");
    let header = std::fs::read_to_string(&file).unwrap();
    let (_, columns) = header.lines().next().unwrap().split_once(',').unwrap();
    let mapping =
        columns.split(',').fold(Mapping::new().time("ts", TimeFormat::Rfc3339), |mapping, column| {
            mapping.column(column, column)
        });
    let seal = |progress: &keplordb_sql::import::Progress| {
        if progress.rows == 8 {
            store.flush().unwrap();
        }
    };
    let imported = Import::csv(&store, file, mapping).batch_rows(8).on_progress(seal).run().unwrap();
    assert_eq!(imported.rejected, 0);
    store
}

fn slt() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt")
}

#[tokio::test]
async fn every_statement_has_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let calls = TableSchema::new(1).dim("user").dim("model").counter("tokens").label("trace");
    let calls = table(dir.path(), "calls", calls);
    // An event that is gone: no statement shows it.
    calls.delete(&["c15"]).unwrap();
    let payments = TableSchema::new(2).dim("payer").dim("method").counter("items").label("invoice");
    let nothing = TableSchema::new(3).dim("user").counter("tokens").label("note");
    let session = Session::builder().partitions(2).build().unwrap();
    session.register("calls", calls);
    session.register("payments", table(dir.path(), "payments", payments));
    session.register("nothing", AnyStore::open_or_create(dir.path().join("nothing"), nothing).unwrap());

    let (mut count, mut problems) = (0, String::new());
    for file in std::fs::read_dir(slt()).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "slt") {
            let text = std::fs::read_to_string(&file).unwrap();
            let name = file.file_name().unwrap_or_default().display();
            for record in records(&text) {
                count += 1;
                if let Some(problem) = problem(&session, &record).await {
                    writeln!(
                        problems,
                        "{name}:{}: {}\nexpected {:?}\nfound {problem}\n",
                        record.line, record.sql, record.expected
                    )
                    .unwrap();
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems}");
    assert!(count >= 100, "only {count} statements were found");
}
