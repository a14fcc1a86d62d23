//! Flights with a history: "what is this flight, what was it an hour before it left, who changed what, and are the answers right?"
//!
//! The 336,776 flights that left New York City in 2013 (`examples/data/flights-2013.csv.zst`) become entities of type `Flight`: each is
//! created when it is planned, updated when it departs and when it arrives, and deleted when it is cancelled. They are captured in the
//! order in which these things happened, as a running system would have done. Then each of some flights is asked what it is, what it was
//! around each step, what happened to it and which event set which field; and of all of them how many there are and how many were
//! deleted. Then all is published as Parquet and asked in SQL and in RQL. Every answer is compared with plain code over the rows of
//! the CSV file; a wrong one ends the program with what differs. In the end it serves what it has, for whoever wants to ask more.
//!
//! ```text
//! cargo run --release -p keplordb-server --example flight_history [-- [ROOT] [--rows N] [--no-serve]]
//! ```
//!
//! ROOT keeps the data (a second run finds it and only asks; a run that was interrupted is continued); without it a temporary directory
//! is used. `--rows N` loads only the first N flights. With `--no-serve` it ends after the questions.

#![forbid(unsafe_code)]

mod load;
mod questions;
mod row;
#[cfg(feature = "sql")]
mod tables;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use keplordb_server::{Capture, DEFAULT_ADDRESS, serve};

use questions::Checks;
use row::Row;

/// What the flights are in the schema.
const TYPE: &str = "Flight";
const SCHEMA: &str = include_str!("flight.proto");

/// What the user chose.
struct Arguments {
    root: Option<PathBuf>,
    rows: usize,
    serves: bool,
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut arguments = Arguments { root: None, rows: usize::MAX, serves: true };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--no-serve" => arguments.serves = false,
            "--rows" => {
                let rows = words.next().and_then(|word| word.parse().ok()).filter(|rows| *rows > 0);
                arguments.rows = rows.context("--rows needs a number from 1")?;
            }
            option if option.starts_with('-') => {
                bail!("unknown argument {option}; there are [ROOT] [--rows N] [--no-serve]")
            }
            root if arguments.root.is_none() => arguments.root = Some(root.into()),
            other => bail!("one ROOT is enough, {other} is another"),
        }
    }
    Ok(arguments)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = arguments(std::env::args().skip(1))?;
    let rows = row::read_all(arguments.rows)?;
    // Removed when the program ends.
    let temporary = tempfile::tempdir().context("no temporary directory")?;
    let root = arguments.root.unwrap_or_else(|| temporary.path().join("flights"));

    let capture = Capture::open(&root)?;
    capture.push_schema_text(Path::new("flight.proto"), SCHEMA)?;
    load::load(&capture, &rows).await?;
    let mut checks = Checks::default();
    questions::ask(&capture.log(), &rows, &mut checks)?;
    publish(&capture)?;
    #[cfg(feature = "sql")]
    tables::ask(&root, &rows, &mut checks).await?;
    println!("\nall {} checks passed", checks.passed());
    if !arguments.serves {
        return Ok(capture.close()?);
    }
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    serve(capture, DEFAULT_ADDRESS, |address| propose(&root, &rows, &address.to_string()), stop).await?;
    Ok(())
}

/// Makes the Parquet files, in which SQL looks too.
fn publish(capture: &Capture) -> Result<()> {
    let begun = Instant::now();
    if let Some(published) = tokio::task::block_in_place(|| capture.publish())? {
        let took_s = begun.elapsed().as_secs_f64();
        println!("\npublished {} events as Parquet in {took_s:.1} s", published.events);
    }
    Ok(())
}

/// Prints what to ask from another terminal.
fn propose(root: &Path, rows: &[Row], address: &str) {
    let Some(row) = questions::late(rows) else { return };
    let (root, id) = (root.display(), row.id());
    println!(
        "\nserving {root} on {address} until Ctrl-C; open it in a browser, or ask it from another terminal:\n\
         \n  http://{address}/e/{TYPE}/{id}\
         \n\
         \n  keplor history {root} {TYPE} {id}\
         \n  keplor get {root} {TYPE}/{id} --as-of {}\
         \n  keplor blame {root} {TYPE} {id}\
         \n  grpcurl -plaintext -d '{{\"entity_type\": \"{TYPE}\", \"entity_id\": \"{id}\"}}' {address} \
         reflog.v2.EntityService/GetHistory",
        row.scheduled_utc
    );
    #[cfg(feature = "sql")]
    tables::propose(address);
}
