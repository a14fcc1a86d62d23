//! Figures of samples that were taken in turns, and the tables that show them.

use std::time::Instant;

use serde::Serialize;

/// What one contender took, in seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, seconds: f64) {
        self.0.push(seconds);
    }

    /// The middle one; of two the larger.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// What something gives, and the seconds that it took.
pub(crate) fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
    let begun = Instant::now();
    let done = work()?;
    Ok((done, begun.elapsed().as_secs_f64()))
}

/// An operation by all who were asked.
#[derive(Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) is_indexed: bool,
    pub(crate) ours: Samples,
    /// DataFusion on Parquet, with its filters pushed down into the reader, and with filters above it.
    pub(crate) parquet_pushdown: Samples,
    pub(crate) parquet_plain: Samples,
    pub(crate) duckdb: Samples,
}

impl Operation {
    /// The better way of DataFusion on Parquet.
    pub(crate) fn parquet(&self) -> f64 {
        self.parquet_pushdown.median().min(self.parquet_plain.median())
    }
}

/// The two of an import or an export.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Pair {
    pub(crate) ours: Samples,
    pub(crate) duckdb: Samples,
    pub(crate) ours_bytes: u64,
    pub(crate) duckdb_bytes: u64,
}

/// A first question in a new process.
#[derive(Debug, Default, Serialize)]
pub(crate) struct First {
    /// From before the process was there until after it had gone.
    pub(crate) process: Samples,
    pub(crate) build_session: Samples,
    pub(crate) open_table: Samples,
    pub(crate) ask: Samples,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) workload: &'static str,
    pub(crate) rows: u64,
    pub(crate) threads: usize,
    pub(crate) duckdb_version: String,
    pub(crate) csv_bytes: u64,
    pub(crate) import: Pair,
    pub(crate) export: Pair,
    pub(crate) operations: Vec<Operation>,
    pub(crate) first: First,
}

impl Report {
    /// The report as documents show it.
    pub(crate) fn print(&self) {
        let rows = self.rows as f64;
        println!("{} events, {} threads, DuckDB {}\n", self.rows, self.threads, self.duckdb_version);
        println!("| | KeplorDB | DuckDB | ratio | target |");
        println!("| --- | --- | --- | --- | --- |");
        let (ours, duckdb) = (rows / self.import.ours.median(), rows / self.import.duckdb.median());
        let ratio = ours / duckdb;
        println!("| CSV import, rows/s | {ours:.0} | {duckdb:.0} | {ratio:.2} | 300000 rows/s |");
        let (ours, duckdb) = (self.export.ours.median(), self.export.duckdb.median());
        let ratio = duckdb / ours;
        println!("| Parquet export, s | {ours:.3} | {duckdb:.3} | {ratio:.2} | 1 |");
        let (ours, duckdb) = (self.export.ours_bytes, self.export.duckdb_bytes);
        let ratio = ours as f64 / duckdb as f64;
        println!("| its file, bytes | {ours} | {duckdb} | {ratio:.3} | 1.1 at most |");
        let First { process, build_session, open_table, ask } = &self.first;
        let ms = |samples: &Samples| samples.median() * 1e3;
        println!("| first `count(*)` in a new process, ms | {:.1} | - | - | 50 at most |", ms(process));
        println!(
            "\nOf the first count {:.1} ms build the session, {:.1} ms open the table, {:.1} ms are plan and answer.\n",
            ms(build_session),
            ms(open_table),
            ms(ask)
        );
        println!(
            "| microseconds | KeplorDB | DataFusion on Parquet | DuckDB | times DataFusion | times DuckDB |"
        );
        println!("| --- | --- | --- | --- | --- | --- |");
        for operation in &self.operations {
            let [ours, parquet, duckdb] =
                [operation.ours.median(), operation.parquet(), operation.duckdb.median()];
            let [shown_ours, shown_parquet, shown_duckdb] =
                [ours, parquet, duckdb].map(|seconds| format!("{:.0}", seconds * 1e6));
            let is_missed = parquet <= ours || (operation.is_indexed && duckdb <= ours);
            println!(
                "| {}{} | {shown_ours} | {shown_parquet} | {shown_duckdb} | {:.1} | {:.1}{} |",
                operation.name,
                if operation.is_indexed { "" } else { " (scan)" },
                parquet / ours,
                duckdb / ours,
                if is_missed { ": missed" } else { "" }
            );
        }
    }
}
