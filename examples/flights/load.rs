//! From rows into the store, with a progress bar.

use std::time::Instant;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use keplordb_examples::human;

use super::Flights;
use super::event;
use super::row::Row;

/// Flights of one append: one frame in the log, one sync.
const BATCH_ROWS: usize = 4096;

/// Appends what the store does not hold yet and seals it into segments.
///
/// Batches are appended in the file's order and a batch is there in whole or not at all, so the number of events says
/// where an interrupted load has to go on.
pub(crate) fn load(flights: &Flights, rows: &[Row]) -> Result<()> {
    let held = usize::try_from(flights.stats().events)?;
    ensure!(
        held <= rows.len(),
        "the directory already holds {held} events, more than the {} to load; give an empty one",
        rows.len()
    );
    let missing = &rows[held..];
    if missing.is_empty() {
        println!("all {} flights are there already", human::count(held as u64));
        return Ok(());
    }
    append(flights, missing)?;
    seal(flights)
}

/// Prints the rate of everything between a parsed row and an event on disk.
fn append(flights: &Flights, rows: &[Row]) -> Result<()> {
    let style = "loading flights {wide_bar} {human_pos} of {human_len}";
    let bar = ProgressBar::new(rows.len() as u64).with_style(ProgressStyle::with_template(style)?);
    let started = Instant::now();
    for batch in rows.chunks(BATCH_ROWS) {
        let events: Vec<_> = batch.iter().map(event::of_row).collect::<Result<_>>()?;
        flights.append_batch(events)?;
        bar.inc(batch.len() as u64);
    }
    let took = started.elapsed();
    bar.finish_and_clear();

    let per_s = rows.len() as f64 / took.as_secs_f64();
    println!(
        "appended {} flights in {} ({:.2} million events/s), in batches of {}, each on disk when its append returned",
        human::count(rows.len() as u64),
        human::duration(took),
        per_s / 1e6,
        human::count(BATCH_ROWS as u64),
    );
    Ok(())
}

/// Rotation would do this by itself once a shard's log is full.
fn seal(flights: &Flights) -> Result<()> {
    let started = Instant::now();
    flights.flush()?;
    println!("sealed into segments in {}", human::duration(started.elapsed()));
    Ok(())
}

/// Prints how much disk the events take.
pub(crate) fn show_size(flights: &Flights) {
    let stats = flights.stats();
    let bytes = stats.segment_bytes + stats.wal_bytes;
    println!(
        "{} on disk: {:.1} bytes a flight; segments: {}",
        human::bytes(bytes),
        bytes as f64 / stats.events as f64,
        stats.segments,
    );
}
