//! Flights in SQL: "a file of events; how do I ask it in SQL, and give it to others?"
//!
//! Imports the 336,776 flights that left New York City in 2013 (`examples/data/flights-2013.csv.zst`), exports them as Parquet, asks
//! three questions in SQL, of the table and by DataFusion's own reader of Parquet of the file, and one of the table as it was. Every
//! answer is compared with a plain loop over the rows of the CSV file. DuckDB and Polars answer the same questions from the exported
//! file: `docs/sql.md` shows how.
//!
//! ```text
//! cargo run -p keplordb-sql --example flights_sql [-- DIR]
//! ```
//!
//! With `DIR` the table and the Parquet file stay there; a second run finds the flights imported, and one that was stopped goes on.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "a test runs this file without its `main`")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use keplordb::TableSchema;
use keplordb::any::AnyStore;
use keplordb_sql::export::Export;
use keplordb_sql::import::{Field, Import, Mapping, TimeFormat};
use keplordb_sql::{KeplorTable, Session};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Rows of an answer, each value as text.
pub(crate) type Answer = Vec<Vec<String>>;

/// The questions. They name only what every reader of the exported file has, too.
pub(crate) const QUESTIONS: [(&str, &str); 3] = [
    (
        "each carrier's flights that arrived, and their delay in minutes",
        "SELECT carrier, count(*) AS arrived, sum(metric) AS delay_min FROM flights WHERE latency_ms > 0 \
         GROUP BY carrier ORDER BY arrived DESC, carrier",
    ),
    (
        "where flights from Kennedy airport were most often more than two hours late",
        "SELECT dest, count(*) AS late FROM flights WHERE origin = 'JFK' AND metric > 120 \
         GROUP BY dest ORDER BY late DESC, dest LIMIT 5",
    ),
    (
        "the newest flights to San Francisco",
        "SELECT ts_ns, carrier, number, origin FROM flights WHERE dest = 'SFO' \
         ORDER BY ts_ns DESC, carrier, number LIMIT 5",
    ),
];

/// Time travel, which files know nothing of.
pub(crate) const AS_OF: (&str, &str) = (
    "flights and aircraft as of the first of July",
    "SELECT count(*) AS flights, count(DISTINCT tail) AS aircraft FROM flights AS OF TIMESTAMP '2013-07-01'",
);

fn main() -> Result<()> {
    match std::env::args().nth(1) {
        Some(dir) => run(Path::new(&dir)).map(drop),
        None => run(tempfile::tempdir()?.path()).map(drop),
    }
}

/// Runs the program in a directory; gives the Parquet file and the answers, that of time travel last.
pub(crate) fn run(dir: &Path) -> Result<(PathBuf, Vec<Answer>)> {
    std::fs::create_dir_all(dir)?;
    let store = import(dir)?;
    let parquet = export(&store, dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut answers = Vec::new();
    for ((question, sql), right) in QUESTIONS.into_iter().chain([AS_OF]).zip(right_answers()?) {
        let started = Instant::now();
        let answer = runtime.block_on(ask(&store, sql))?;
        println!("\n{question} ({:.1} ms)", started.elapsed().as_secs_f64() * 1e3);
        for row in &answer {
            println!("  {}", row.join("  "));
        }
        equal("the table's answer", &answer, &right)?;
        if sql != AS_OF.1 {
            equal("the file's answer", &runtime.block_on(ask_file(&parquet, sql))?, &right)?;
        }
        answers.push(answer);
    }
    store.close()?;
    println!("\nall answers are those of a loop over the rows of the CSV file");
    Ok((parquet, answers))
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/flights-2013.csv.zst")
}

/// Brings the flights into a table, with what the table needs to know of the file's columns.
fn import(dir: &Path) -> Result<AnyStore> {
    let schema = TableSchema::new(1)
        .dim("carrier")
        .dim("origin")
        .dim("dest")
        .dim("tail")
        .counter("distance_mi")
        .label("number");
    let store = AnyStore::open_or_create(dir.join("flights"), schema)?;
    let mapping = Mapping::new()
        .time("scheduled_utc", TimeFormat::Rfc3339)
        .column("carrier", "carrier")
        .column("origin", "origin")
        .column("dest", "dest")
        .column("tail", "tail")
        .column("flight", "number")
        .column("distance_mi", "distance_mi")
        // Missing where the flight was cancelled or landed elsewhere.
        .field(Field::new("arr_delay_min", "metric").or(0))
        .field(Field::new("air_time_min", "latency_ms").times(60_000).or(0));
    let started = Instant::now();
    let imported = Import::csv(&store, source(), mapping).run()?;
    let (rows, took_s) = (imported.rows - imported.rows_before, started.elapsed().as_secs_f64());
    println!(
        "imported {rows} flights in {took_s:.2} s, each on disk; {} were there already",
        imported.rows_before
    );
    equal("rejected rows", &imported.rejected, &0)?;
    store.flush()?;
    Ok(store)
}

/// Writes the flights for everybody else.
fn export(store: &AnyStore, dir: &Path) -> Result<PathBuf> {
    let path = dir.join("flights.parquet");
    if path.exists() {
        return Ok(path);
    }
    let snapshot = store.snapshot();
    let started = Instant::now();
    let exported = Export::file(&snapshot, &path).run()?;
    let took_s = started.elapsed().as_secs_f64();
    println!("exported {} flights as Parquet in {took_s:.2} s, {} bytes", exported.rows, exported.bytes);
    equal("exported flights", &exported.rows, &snapshot.live_rows())?;
    Ok(path)
}

async fn ask(store: &AnyStore, sql: &str) -> Result<Answer> {
    let session = Session::builder().build()?;
    session.register("flights", KeplorTable::from(store.clone()));
    rows(&session.sql(sql).await?.collect().await?)
}

/// The same of the exported file, which nothing of ours reads.
async fn ask_file(path: &Path, sql: &str) -> Result<Answer> {
    let context = SessionContext::new();
    let path = path.to_str().ok_or("the path is no text")?;
    context.register_parquet("flights", path, ParquetReadOptions::default()).await?;
    rows(&context.sql(sql).await?.collect().await?)
}

fn rows(batches: &[RecordBatch]) -> Result<Answer> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| array_value_to_string(column, row));
            rows.push(values.collect::<std::result::Result<_, _>>()?);
        }
    }
    Ok(rows)
}

/// The answers by a loop over the file's rows, which knows nothing of tables.
fn right_answers() -> Result<Vec<Answer>> {
    let mut carriers: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut late: BTreeMap<String, i64> = BTreeMap::new();
    let mut newest = Vec::new();
    let (mut until_july, mut aircraft) = (0, BTreeSet::new());
    let mut csv = csv::Reader::from_reader(zstd::Decoder::new(std::fs::File::open(source())?)?);
    for row in csv.records() {
        let row = row?;
        let [scheduled, carrier, number, tail, origin, dest, delay_min, air_min] =
            [0, 1, 2, 3, 4, 5, 7, 8].map(|column| &row[column]);
        if let (Ok(delay_min), Ok(_)) = (delay_min.parse::<i64>(), air_min.parse::<u32>()) {
            let carrier = carriers.entry(carrier.to_owned()).or_default();
            *carrier = (carrier.0 + 1, carrier.1 + delay_min);
        }
        if origin == "JFK" && delay_min.parse().is_ok_and(|delay_min: i64| delay_min > 120) {
            *late.entry(dest.to_owned()).or_default() += 1;
        }
        if scheduled <= "2013-07-01T00:00:00Z" {
            until_july += 1;
            aircraft.insert(tail.to_owned());
        }
        if dest == "SFO" {
            let ts_ns = scheduled.parse::<jiff::Timestamp>()?.as_nanosecond();
            newest.push((-ts_ns, carrier.to_owned(), number.to_owned(), origin.to_owned()));
        }
    }
    let mut carriers: Vec<_> = carriers.into_iter().collect();
    carriers.sort_by_key(|(carrier, (arrived, _))| (-arrived, carrier.clone()));
    let carriers = carriers
        .into_iter()
        .map(|(carrier, (arrived, delay))| vec![carrier, arrived.to_string(), delay.to_string()]);
    let mut late: Vec<_> = late.into_iter().collect();
    late.sort_by_key(|(dest, flights)| (-flights, dest.clone()));
    let late = late.into_iter().take(5).map(|(dest, flights)| vec![dest, flights.to_string()]);
    newest.sort();
    let newest = newest
        .into_iter()
        .take(5)
        .map(|(ts_ns, carrier, number, origin)| vec![(-ts_ns).to_string(), carrier, number, origin]);
    let as_of = vec![vec![until_july.to_string(), aircraft.len().to_string()]];
    Ok(vec![carriers.collect(), late.collect(), newest.collect(), as_of])
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<()> {
    if found == wanted { Ok(()) } else { Err(format!("{what} is {found:?}, not {wanted:?}").into()) }
}
