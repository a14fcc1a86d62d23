//! Flights: "we have a year of real events; what can we ask, how fast, and are the answers right?"
//!
//! Loads the 336,776 flights that left New York City in 2013 (`data/flights-2013.csv.zst`) with a progress bar and
//! prints the ingest rate and the bytes on disk. Then it asks what a person would ask: the year's totals, the worst
//! days, the delay of each carrier, the busiest routes, the share of cancelled flights by month, one aircraft's year,
//! the newest five flights to San Francisco, and one flight by its id. It asks all of it again, closes the engine,
//! opens it, asks a third time, reads every flight back, and prints how long each answer took. Every answer of every
//! round is compared with a plain loop over the rows of the CSV file; the last line says how many comparisons there
//! were, and a wrong answer ends the program with what differs.
//!
//! ```text
//! cargo run --release --example flights [-- --dir DIR] [--rows N]
//! ```
//!
//! `--dir DIR` keeps the data in DIR (a second run finds it and only asks; a run that was interrupted is continued);
//! without it a temporary directory is used. `--rows N` loads only the first N flights.

#![forbid(unsafe_code)]

mod answers;
mod arguments;
mod event;
mod load;
mod questions;
mod round;
mod row;
mod show;
mod twin;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use keplordb::{Engine, Options, Schema};
use keplordb_examples::{Checks, human};

use answers::Answers;
use arguments::Arguments;
use event::Flight;
use questions::Subjects;
use round::Round;
use row::Row;

/// The engine of [`Flight`]: 4 dims, 4 counters, 1 label.
type Flights = Engine<4, 4, 1>;

fn main() -> Result<()> {
    let Some(arguments) = Arguments::parse(std::env::args().skip(1))? else {
        println!("{}", arguments::USAGE);
        return Ok(());
    };
    let rows = row::read_all(arguments.rows)?;
    if let Some(dir) = arguments.dir {
        return run(&dir, &rows);
    }
    let temporary = tempfile::tempdir().context("no temporary directory; name one with --dir")?;
    run(&temporary.path().join("flights"), &rows)
}

fn run(dir: &Path, rows: &[Row]) -> Result<()> {
    let engine = open(dir)?;
    load::load(&engine, rows)?;
    load::show_size(&engine);

    let subjects = Subjects::of(rows);
    let right = twin::answers(rows, &subjects);
    let mut checks = Checks::default();
    checks.equal("flights in the engine", &engine.total_events(), &(rows.len() as u64))?;

    let first = ask(&engine, &subjects, &right, &mut checks)?;
    first.answers.show(&subjects);
    let again = ask(&engine, &subjects, &right, &mut checks)?;
    engine.close()?;

    let started = Instant::now();
    let engine = open(dir)?;
    println!("\nclosed, and opened again in {}", human::duration(started.elapsed()));
    let reopened = ask(&engine, &subjects, &right, &mut checks)?;
    round::show_times(&[("first", &first), ("again", &again), ("reopened", &reopened)]);

    read_back(&engine, rows, &mut checks)?;
    engine.close()?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

/// With the column names of [`Flight`], and every append on disk when it returns.
fn open(dir: &Path) -> Result<Flights> {
    let options = Options::default().schema(Flight::table_schema());
    Ok(Engine::open_with(Flight::default_config(dir.to_owned()), options)?)
}

/// Asks everything once and compares every answer.
fn ask(engine: &Flights, subjects: &Subjects, right: &Answers, checks: &mut Checks) -> Result<Round> {
    let round = questions::ask(engine, subjects)?;
    round.answers.check(right, checks)?;
    Ok(round)
}

/// Reads every flight, newest first, and compares every column with the CSV file's.
fn read_back(engine: &Flights, rows: &[Row], checks: &mut Checks) -> Result<()> {
    let started = Instant::now();
    let events = engine.query_recent(&Flight::filter().into_filter(), usize::MAX)?;
    let took = started.elapsed();
    println!(
        "\n{} flights read back, newest first, in {}",
        human::count(events.len() as u64),
        human::duration(took)
    );

    checks.equal("flights read back", &events.len(), &rows.len())?;
    for (event, row) in events.into_iter().zip(twin::newest_first(rows)) {
        checks.equal("flight read back", &event::to_row(event)?, row)?;
    }
    Ok(())
}
