//! Flights: "we have a year of real events; what can we ask, how fast, and are the answers right?"
//!
//! Loads the 336,776 flights that left New York City in 2013 (`data/flights-2013.csv.zst`) with a progress bar and
//! prints the ingest rate and the bytes on disk. Then it asks what a person would ask: the year's totals, the worst
//! days, the delay of each carrier (mean, median, and what one in twenty and one in a hundred exceeds), the busiest routes,
//! the worst hours of Kennedy airport, the share of cancelled flights by month, the aircraft that flew furthest, one
//! aircraft's year, destinations as a search field would propose them, the newest five flights to San Francisco, and one
//! flight by its id. It asks all of it again, closes the store,
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
use keplordb::{Filter, Store};
use keplordb_examples::{Checks, human};

use answers::Answers;
use arguments::Arguments;
use event::Flight;
use questions::Subjects;
use round::Round;
use row::Row;

/// All flights.
type Flights = Store<Flight>;

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
    let flights = open(dir)?;
    load::load(&flights, rows)?;
    load::show_size(&flights);

    let subjects = Subjects::of(rows);
    let right = twin::answers(rows, &subjects);
    let mut checks = Checks::default();
    checks.equal("flights in the store", &flights.stats().events, &(rows.len() as u64))?;

    let first = ask(&flights, &subjects, &right, &mut checks)?;
    first.answers.show(&subjects);
    println!("\nhow the carriers' delays were found\n  {}", questions::explain_carriers(&flights)?);
    let again = ask(&flights, &subjects, &right, &mut checks)?;
    flights.close()?;

    let started = Instant::now();
    let flights = open(dir)?;
    println!("\nclosed, and opened again in {}", human::duration(started.elapsed()));
    let reopened = ask(&flights, &subjects, &right, &mut checks)?;
    round::show_times(&[("first", &first), ("again", &again), ("reopened", &reopened)]);

    read_back(&flights, rows, &mut checks)?;
    flights.close()?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

/// Every append is on disk when it returns.
fn open(dir: &Path) -> Result<Flights> {
    Ok(Store::open(dir)?)
}

/// Asks everything once and compares every answer.
fn ask(flights: &Flights, subjects: &Subjects, right: &Answers, checks: &mut Checks) -> Result<Round> {
    let round = questions::ask(flights, subjects)?;
    round.answers.check(right, checks)?;
    Ok(round)
}

/// Reads every flight, newest first, and compares every column with the CSV file's.
fn read_back(flights: &Flights, rows: &[Row], checks: &mut Checks) -> Result<()> {
    let started = Instant::now();
    let events = flights.query(Filter::all()).newest_first().rows()?;
    let took = started.elapsed();
    println!(
        "\n{} flights read back, newest first, in {}",
        human::count(events.len() as u64),
        human::duration(took)
    );

    checks.equal("flights read back", &events.len(), &rows.len())?;
    for (event, row) in events.iter().zip(twin::newest_first(rows)) {
        checks.equal("flight read back", &event::to_row(event)?, row)?;
    }
    Ok(())
}
