//! `versus`: the peers' workload and the peers' operations, answered by the engine, in the peers' words.
//!
//! The table is built once in its directory and measured in rounds, each in a process of its own that finds none of its files in
//! memory. In a round each operation is run once, then again and again with the peers' constants, then with others in every
//! run. A figure is the median of the quietest round, since other load only adds time; first runs are of the first round.
//! Every answer is held against a plain loop over the workload, and against what is published, or printed by
//! `peers.py expected`. One that differs gets a `!`, and the exit status is 1.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ask::{Asker, Cell, Sampling};
use clap::{Args, Parser, Subcommand};
use compare::Compare;
use keplordb::disk::RealDisk;
use keplordb_benches::calls;
use keplordb_benches::machine::{bench_dir, bytes_of_files, evict};
use keplordb_benches::table::Size;
use operation::Operation;
use parameters::Parameters;
use plain::Answers;
use serde_json::{Value, json};
use tempfile::TempDir;

mod answer;
mod ask;
mod compare;
mod operation;
mod parameters;
mod plain;
mod published;

/// The peers' operations, answered by the engine.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    table: Table,
    #[command(flatten)]
    plan: Plan,
    /// Rounds, each in a process of its own
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Where tables are kept, to be found again by later runs [default: one that goes with the run, in `KEPLORDB_BENCH_DIR`
    /// or the temporary directory]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// What `peers.py expected` printed for as many rows
    #[arg(long)]
    expected: Option<PathBuf>,
    /// Write all figures to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Step>,
}

#[derive(Debug, Clone, Copy, Args)]
struct Table {
    /// Events
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Segments, of equal size
    #[arg(long, default_value_t = 10)]
    segments: u64,
}

#[derive(Debug, Clone, Args)]
struct Plan {
    /// Answer R1 to R9 by scanning alone, and leave out the others
    #[arg(long)]
    scan: bool,
    /// Only these [default: all]
    #[arg(long, value_delimiter = ',')]
    operations: Vec<Operation>,
    /// Least number of warm runs
    #[arg(long, default_value_t = 15)]
    runs: usize,
    /// Repeat quick operations this long
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// How many other constants are drawn in a round
    #[arg(long, default_value_t = 8)]
    draws: u64,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// One round; prints its cells.
    #[command(hide = true)]
    Measure {
        #[command(flatten)]
        table: Table,
        #[command(flatten)]
        plan: Plan,
        /// The number of the round, from 0
        #[arg(long)]
        round: u64,
        dir: PathBuf,
    },
    /// Put figures of one sitting side by side: ratios to the best peer, growth, bytes per event, and the targets
    Compare(Compare),
}

impl Plan {
    fn operations(&self) -> Vec<Operation> {
        let chosen = if self.operations.is_empty() { &Operation::ALL[..] } else { &self.operations };
        chosen.iter().copied().filter(|operation| !self.scan || operation.can_scan()).collect()
    }

    /// The constants that a round draws.
    fn drawn(&self, rows: u64, round: u64) -> impl Iterator<Item = Parameters> {
        let first = round * self.draws;
        (first..first + self.draws).map(move |number| Parameters::drawn(rows, number))
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Step::Measure { table, plan, round, dir }) => {
            measure(*table, plan, *round, dir).map(|()| ExitCode::SUCCESS)
        }
        Some(Step::Compare(compare)) => compare.run().map(|()| ExitCode::SUCCESS),
        None => versus(&arguments),
    }
}

/// Builds the table, measures it in rounds, checks and shows what they say.
fn versus(arguments: &Arguments) -> Result<ExitCode> {
    let Table { rows, segments } = arguments.table;
    // A tenth of the time must have rows, and a segment too.
    ensure!(segments > 0 && rows >= segments.max(1000), "at least 1000 rows, and one a segment");
    ensure!(arguments.rounds > 0 && arguments.plan.runs > 0, "at least one round and one run");
    let known = published::known(rows, arguments.expected.as_deref())?;
    let (dir, _guard) = directory(arguments)?;
    calls::build_once(Size { rows, segments }, &dir)?;

    let rounds = (0..arguments.rounds).map(|round| measure_in_child(arguments, round, &dir));
    let rounds = rounds.collect::<Result<Vec<_>>>()?;
    let verdicts = Verdicts::new(arguments, &known);
    let mut report = Vec::new();
    let mut all_agree = true;
    println!(
        "{rows} rows in {segments} segments, {} rounds{}; microseconds",
        arguments.rounds,
        if arguments.plan.scan { ", by scanning alone" } else { "" }
    );
    println!("{:<46}{:>12}{:>12}{:>12}  result", "operation", "median", "first", "drawn");
    for (place, operation) in arguments.plan.operations().into_iter().enumerate() {
        let cells: Vec<&Cell> = rounds.iter().map(|cells| &cells[place]).collect();
        let agrees = verdicts.agree(operation, &cells);
        all_agree &= agrees;
        report.push(summary(operation, &cells, agrees));
    }
    let bytes = bytes_per_event(arguments.table, &dir)?;
    println!("{:<46}{}", "bytes per event", bytes["result"].as_str().unwrap_or_default());
    report.push(bytes);
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if all_agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the table is, and what removes it if it goes with the run.
fn directory(arguments: &Arguments) -> Result<(PathBuf, Option<TempDir>)> {
    let Table { rows, segments } = arguments.table;
    let name = Size { rows, segments }.directory_name();
    if let Some(parent) = &arguments.directory {
        return Ok((parent.join(name), None));
    }
    let guard = bench_dir()?;
    Ok((guard.path().join(name), Some(guard)))
}

/// A process of its own shares no memory with the one that built the table, nor with another round.
fn measure_in_child(arguments: &Arguments, round: u64, dir: &Path) -> Result<Vec<Cell>> {
    let Arguments { table, plan, .. } = arguments;
    let operations: Vec<_> = plan.operations().iter().map(ToString::to_string).collect();
    let mut child = Command::new(std::env::current_exe()?);
    child.arg("measure").arg("--round").arg(round.to_string());
    child.args(["--rows", &table.rows.to_string(), "--segments", &table.segments.to_string()]);
    child.args(["--runs", &plan.runs.to_string(), "--seconds", &plan.seconds.to_string()]);
    child.args(["--draws", &plan.draws.to_string(), "--operations", &operations.join(",")]);
    child.args(plan.scan.then_some("--scan")).arg(dir);
    let output = child.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "round {round}: {}", output.status);
    serde_json::from_slice(&output.stdout).context("a round prints its cells")
}

/// One round.
fn measure(table: Table, plan: &Plan, round: u64, dir: &Path) -> Result<()> {
    evict(dir)?;
    let store = calls::open(dir, Arc::new(RealDisk))?;
    let stats = store.stats();
    ensure!(
        stats.events == table.rows && stats.segments as u64 == table.segments && stats.unsealed_rows == 0,
        "{} holds another table: remove it",
        dir.display()
    );
    let asker = Asker {
        store: &store,
        published: Parameters::published(table.rows),
        drawn: plan.drawn(table.rows, round).collect(),
        sampling: Sampling { runs: plan.runs, limit: Duration::try_from_secs_f64(plan.seconds)? },
        by_scan: plan.scan,
    };
    let cells = plan.operations().into_iter().map(|operation| asker.cell(operation));
    let cells = cells.collect::<Result<Vec<_>>>()?;
    println!("{}", serde_json::to_string(&cells)?);
    Ok(())
}

/// What every answer must be.
struct Verdicts<'a> {
    known: &'a BTreeMap<Operation, String>,
    /// The published constants, then those that the rounds drew, one round after the other.
    by_loop: BTreeMap<Operation, Vec<String>>,
}

impl<'a> Verdicts<'a> {
    fn new(arguments: &Arguments, known: &'a BTreeMap<Operation, String>) -> Self {
        let rows = arguments.table.rows;
        let drawn = (0..arguments.rounds).flat_map(|round| arguments.plan.drawn(rows, round));
        let parameters: Vec<_> = std::iter::once(Parameters::published(rows)).chain(drawn).collect();
        let answers = Answers::new(rows, &parameters);
        let texts = |operation: Operation| {
            let asked = if operation.has_constants() { parameters.len() } else { 1 };
            (0..asked).map(|place| answers.of(operation, place).to_string()).collect()
        };
        let by_loop = arguments.plan.operations().into_iter().map(|operation| (operation, texts(operation)));
        Self { known, by_loop: by_loop.collect() }
    }

    /// Whether all rounds answered an operation as they must; says on standard error where one did not.
    fn agree(&self, operation: Operation, rounds: &[&Cell]) -> bool {
        let by_loop = &self.by_loop[&operation];
        let mut found = rounds.iter().map(|cell| &cell.result).zip(std::iter::repeat(&by_loop[0]));
        let drawn = rounds.iter().flat_map(|cell| &cell.drawn_results).zip(&by_loop[1..]);
        let known = self.known.get(&operation.of_peers());
        let known = known.into_iter().map(|known| (&rounds[0].result, known));
        let wrong: Vec<_> =
            found.by_ref().chain(drawn).chain(known).filter(|(found, wanted)| found != wanted).collect();
        for (found, wanted) in &wrong {
            eprintln!("{operation}: {found}, which must be {wanted}");
        }
        wrong.is_empty()
    }
}

/// Prints an operation's line, and returns its figures.
fn summary(operation: Operation, rounds: &[&Cell], agrees: bool) -> Value {
    let quietest = rounds.iter().min_by(|one, other| one.median_us.total_cmp(&other.median_us));
    let medians: Vec<_> = rounds.iter().map(|cell| cell.median_us).collect();
    let drawn_us = rounds.iter().filter_map(|cell| cell.drawn_median_us).min_by(f64::total_cmp);
    let min_us = rounds.iter().map(|cell| cell.min_us).min_by(f64::total_cmp);
    let (first, quietest) = (rounds[0], quietest.unwrap_or(&rounds[0]));
    println!(
        "{operation:<5}{:<41}{:>12.2}{:>12.1}{:>12}  {}{}",
        operation.what(),
        quietest.median_us,
        first.first_us,
        drawn_us.map_or(String::new(), |us| format!("{us:.2}")),
        if agrees { "" } else { "! " },
        first.result
    );
    json!({
        "op": operation.to_string(),
        "result": first.result,
        "median_us": rounded(quietest.median_us),
        "first_us": rounded(first.first_us),
        "min_us": min_us.map(rounded),
        "drawn_median_us": drawn_us.map(rounded),
        "round_medians_us": medians.into_iter().map(rounded).collect::<Vec<_>>(),
        "rounds": rounds.len(),
        "runs": quietest.runs,
        "agrees": agrees,
    })
}

/// To a nanosecond, which is finer than any clock.
fn rounded(us: f64) -> f64 {
    (us * 1e3).round() / 1e3
}

/// The bytes of the very directory that answered, by what they are for.
fn bytes_per_event(table: Table, dir: &Path) -> Result<Value> {
    let space = calls::open(dir, Arc::new(RealDisk))?.space()?;
    let per_event = |bytes: u64| (bytes as f64 / table.rows as f64 * 100.0).round() / 100.0;
    let (columns, rest) = (per_event(space.columns_bytes), per_event(space.index_bytes));
    let segments = per_event(space.columns_bytes + space.index_bytes);
    let files = per_event(bytes_of_files(dir)?);
    Ok(json!({
        "op": "bytes_per_event",
        "result": format!("{segments} = {columns} of columns + {rest} of indexes and sums; {files} with all other files"),
        "columns": columns,
        "indexes_and_sums": rest,
        "segments": segments,
        "directory": files,
        "rows": table.rows,
        "segment_count": table.segments,
    }))
}
