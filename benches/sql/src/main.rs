//! `versus-sql`: SQL, imports and exports beside DataFusion on Parquet and beside DuckDB, in one run.
//!
//! The workload's events are written as CSV, imported, exported as Parquet by us and by DuckDB, and asked the peers' operations in SQL:
//! our table through a `Session`, our Parquet file through DataFusion in this process, DuckDB's own table in a process of its own.
//! All must give the same answers before anything is timed. Contenders take turns, sample by sample, and a figure is the median of its
//! samples. Every contender has as many threads. A time is what a user waits: from the statement's text to the last row, planning
//! included; DuckDB's is taken inside its process.
//!
//! ```text
//! cargo run --release -p keplordb-sql-benches -- --python VENV/bin/python
//! ```
#![forbid(unsafe_code)]

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext, col};
use keplordb::TableSchema;
use keplordb::any::AnyStore;
use keplordb::disk::RealDisk;
use keplordb_benches::machine::{bench_dir, settle};
use keplordb_benches::table::Size;
use keplordb_benches::workload::{self, SEED};
use keplordb_sql::export::Export;
use keplordb_sql::import::{Import, Mapping};
use keplordb_sql::{KeplorTable, Session};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use answer::{Answer, ensure_same};
use duckdb::DuckDb;
use figures::{First, Operation, Pair, Report, Samples, timed};

mod answer;
mod duckdb;
mod figures;
mod statements;

/// SQL, imports and exports beside DataFusion on Parquet and beside DuckDB.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Events
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Segments of the table that is asked, of equal size
    #[arg(long, default_value_t = 10)]
    segments: u64,
    /// Samples of each question
    #[arg(long, default_value_t = 15)]
    samples: usize,
    /// Samples of each import and export
    #[arg(long, default_value_t = 5)]
    long_samples: usize,
    /// Threads of each contender
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// An interpreter that has DuckDB
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Write all samples to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Step>,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Counts a table's events, and says what took how long.
    #[command(hide = true)]
    Count { dir: PathBuf, threads: usize },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Step::Count { dir, threads }) => count(dir, *threads),
        None => versus(&arguments),
    }
}

fn versus(arguments: &Arguments) -> Result<()> {
    let &Arguments { rows, segments, threads, .. } = arguments;
    // A tenth of the time must have rows, and a segment too.
    ensure!(segments > 0 && rows >= segments.max(1000), "at least 1000 rows, and one a segment");
    ensure!(arguments.samples > 0 && arguments.long_samples > 0, "at least one sample");
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let runtime = runtime(threads)?;
    let dir = bench_dir()?;
    let dir = dir.path();
    let mut duckdb = DuckDb::start(&arguments.python)?;

    let csv = dir.join("events.csv");
    let csv_bytes = write_csv(&csv, rows)?;
    let import = import(arguments, dir, &csv, &mut duckdb)?;

    let table = dir.join("table");
    Size { rows, segments }.build_calls(&table, Arc::new(RealDisk))?.close()?;
    let store = AnyStore::open(&table)?;
    let parquet = dir.join("events.parquet");
    // In row groups that DataFusion can read side by side, and pass over.
    Export::file(&store.snapshot(), &parquet).row_group_rows(131_072).run()?;
    duckdb.open(&dir.join("events.duckdb"), threads)?;
    duckdb.ask(&format!("CREATE TABLE events AS SELECT * FROM read_parquet('{}')", parquet.display()))?;
    duckdb.ask("CHECKPOINT")?;

    let export = export(arguments, dir, &store, &mut duckdb)?;
    let operations = runtime.block_on(ask(arguments, &store, &parquet, &mut duckdb))?;
    store.close()?;
    let first = first(arguments, &table)?;
    let report = Report {
        workload: "keplor-llm",
        rows,
        threads,
        duckdb_version: duckdb.version.clone(),
        csv_bytes,
        import,
        export,
        operations,
        first,
    };
    report.print();
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn runtime(threads: usize) -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
}

/// The workload's events, with the columns' names in the first line.
fn write_csv(path: &Path, rows: u64) -> Result<u64> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "ts_ns,id,user,model,tokens,metric,latency_ms,latency_detail_ms,status,flags,label")?;
    for row in 0..rows {
        let event = workload::event(SEED, row);
        let ([user, model], [tokens], [label]) = (&event.dims, event.counters, &event.labels);
        let (latency, detail, flags) = (event.latency_ms, event.latency_detail_ms, event.flags.0);
        writeln!(
            file,
            "{},{},{user},{model},{tokens},{},{latency},{detail},{},{flags},{label}",
            event.ts_ns, event.id, event.metric, event.status
        )?;
    }
    let file = file.into_inner()?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// The CSV file into a new table, ours and DuckDB's; on disk at the end, both.
fn import(arguments: &Arguments, dir: &Path, csv: &Path, duckdb: &mut DuckDb) -> Result<Pair> {
    let &Arguments { rows, threads, .. } = arguments;
    let mut figures = Pair::default();
    for _ in 0..arguments.long_samples {
        settle();
        let (table, journal) = (dir.join("imported"), dir.join("journal"));
        let schema = TableSchema::new(1).dim("user").dim("model").counter("tokens").indexed_label("label");
        let store = AnyStore::open_or_create(&table, schema)?;
        let mapping = Mapping::by_name(store.columns());
        let (imported, seconds) = timed(|| Import::csv(&store, csv, mapping).journal(&journal).run())?;
        ensure!(imported.rows == rows && imported.rejected == 0, "{imported:?}");
        figures.ours.push(seconds);
        let found = store.query().totals()?;
        ensure!(found.event_count == rows, "{} events were imported", found.event_count);
        store.close()?;
        std::fs::remove_dir_all(&table)?;
        std::fs::remove_file(&journal)?;

        settle();
        let database = dir.join("imported.duckdb");
        duckdb.open(&database, threads)?;
        duckdb.ask(
            "CREATE TABLE events (ts_ns BIGINT, id VARCHAR, \"user\" VARCHAR, model VARCHAR, tokens BIGINT, metric BIGINT, \
             latency_ms BIGINT, latency_detail_ms BIGINT, status INTEGER, flags INTEGER, label VARCHAR)",
        )?;
        let insert = format!("INSERT INTO events SELECT * FROM read_csv('{}')", csv.display());
        figures.duckdb.push(duckdb.ask(&insert)?.1);
        let (found, _) = duckdb.ask("SELECT count(*) FROM events")?;
        ensure_same("DuckDB's import", &found, &vec![vec![rows.to_string()]])?;
        duckdb.open(Path::new(":memory:"), threads)?;
        std::fs::remove_file(&database)?;
    }
    Ok(figures)
}

/// The same rows and columns as Parquet: ours from our table, DuckDB's from its own, which is open.
fn export(arguments: &Arguments, dir: &Path, store: &AnyStore, duckdb: &mut DuckDb) -> Result<Pair> {
    let mut figures = Pair::default();
    let path = dir.join("exported.parquet");
    let copy = format!(
        "COPY events TO '{}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)",
        path.display()
    );
    for _ in 0..arguments.long_samples {
        settle();
        let (exported, seconds) = timed(|| Export::file(&store.snapshot(), &path).run())?;
        ensure!(exported.rows == arguments.rows, "{exported:?}");
        figures.ours.push(seconds);
        figures.ours_bytes = exported.bytes;
        std::fs::remove_file(&path)?;

        settle();
        figures.duckdb.push(duckdb.ask(&copy)?.1);
        figures.duckdb_bytes = path.metadata()?.len();
        std::fs::remove_file(&path)?;
    }
    Ok(figures)
}

/// DataFusion on a Parquet file, with everything that can help it.
async fn on_parquet(path: &Path, threads: usize, pushes_filters_down: bool) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_target_partitions(threads).with_parquet_pruning(true);
    let parquet = &mut config.options_mut().execution.parquet;
    parquet.enable_page_index = true;
    parquet.bloom_filter_on_read = true;
    parquet.pushdown_filters = pushes_filters_down;
    parquet.reorder_filters = pushes_filters_down;
    let context = SessionContext::new_with_config(config);
    let options = ParquetReadOptions::default().file_sort_order(vec![vec![col("ts_ns").sort(true, false)]]);
    context.register_parquet("events", path.to_str().context("the path is no text")?, options).await?;
    Ok(context)
}

async fn ask(
    arguments: &Arguments,
    store: &AnyStore,
    parquet: &Path,
    duckdb: &mut DuckDb,
) -> Result<Vec<Operation>> {
    let session = Session::builder().partitions(arguments.threads).build()?;
    session.register("events", KeplorTable::from(store.clone()));
    let pushdown = on_parquet(parquet, arguments.threads, true).await?;
    let plain = on_parquet(parquet, arguments.threads, false).await?;

    let ours = async |sql: &str| -> Result<_> {
        let begun = std::time::Instant::now();
        let batches = session.sql(sql).await?.collect().await?;
        Ok((batches, begun.elapsed().as_secs_f64()))
    };
    let theirs = async |context: &SessionContext, sql: &str| -> Result<_> {
        let begun = std::time::Instant::now();
        let batches = context.sql(sql).await?.collect().await?;
        Ok((batches, begun.elapsed().as_secs_f64()))
    };
    let mut operations = Vec::new();
    for statement in statements::all(arguments.rows) {
        let (name, sql, for_duckdb) = (statement.name, &statement.sql, statement.for_duckdb());
        let found: Answer = answer::of_batches(&ours(sql).await?.0)?;
        for context in [&pushdown, &plain] {
            ensure_same(name, &found, &answer::of_batches(&theirs(context, sql).await?.0)?)?;
        }
        ensure_same(name, &found, &duckdb.ask(&for_duckdb)?.0)?;

        let mut operation = Operation {
            name,
            is_indexed: statement.is_indexed,
            ours: Samples::default(),
            parquet_pushdown: Samples::default(),
            parquet_plain: Samples::default(),
            duckdb: Samples::default(),
        };
        for _ in 0..arguments.samples {
            operation.ours.push(ours(sql).await?.1);
            operation.parquet_pushdown.push(theirs(&pushdown, sql).await?.1);
            operation.parquet_plain.push(theirs(&plain, sql).await?.1);
            operation.duckdb.push(duckdb.ask(&for_duckdb)?.1);
        }
        operations.push(operation);
    }
    Ok(operations)
}

/// Counts in processes of their own; the table's files are in memory after the first, which is not counted.
fn first(arguments: &Arguments, table: &Path) -> Result<First> {
    let program = std::env::current_exe()?;
    let mut figures = First::default();
    for sample in 0..=arguments.samples {
        let mut child = Command::new(&program);
        child.arg("count").arg(table).arg(arguments.threads.to_string());
        let (output, seconds) = timed(|| child.output())?;
        ensure!(output.status.success(), "count: {}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).context("a count prints JSON")?;
        ensure!(said["rows"] == json!([[arguments.rows.to_string()]]), "{said}");
        if sample > 0 {
            figures.process.push(seconds);
            for (samples, key) in [
                (&mut figures.build_session, "build_session"),
                (&mut figures.open_table, "open_table"),
                (&mut figures.ask, "ask"),
            ] {
                samples.push(said[key].as_f64().context("a count says its seconds")?);
            }
        }
    }
    Ok(figures)
}

fn count(dir: &Path, threads: usize) -> Result<()> {
    let runtime = runtime(threads)?;
    let (session, build_session) = timed(|| Session::builder().partitions(threads).build())?;
    let (table, open_table) = timed(|| KeplorTable::open(dir))?;
    session.register("events", table);
    let question = async { session.sql("SELECT count(*) FROM events").await?.collect().await };
    let (batches, ask) = timed(|| runtime.block_on(question))?;
    let rows = answer::of_batches(&batches)?;
    println!(
        "{}",
        json!({ "rows": rows, "build_session": build_session, "open_table": open_table, "ask": ask })
    );
    Ok(())
}
