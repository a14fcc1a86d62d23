//! From rows into the engine, with a progress bar.

use std::time::Instant;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use keplordb_examples::human;

use super::Flights;
use super::event;
use super::row::Row;

/// Flights of one append: one frame in the log, one sync.
const BATCH_ROWS: usize = 4096;

/// Appends what the engine does not hold yet and seals it into segments.
///
/// Batches are appended in the file's order and a batch is there in whole or not at all, so the number of events says
/// where an interrupted load has to go on.
pub(crate) fn load(engine: &Flights, rows: &[Row]) -> Result<()> {
    let held = usize::try_from(engine.total_events())?;
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
    append(engine, missing)?;
    seal(engine)
}

/// Prints the rate of everything between a parsed row and an event on disk.
fn append(engine: &Flights, rows: &[Row]) -> Result<()> {
    let style = "loading flights {wide_bar} {human_pos} of {human_len}";
    let bar = ProgressBar::new(rows.len() as u64).with_style(ProgressStyle::with_template(style)?);
    let started = Instant::now();
    for batch in rows.chunks(BATCH_ROWS) {
        let events: Vec<_> = batch.iter().map(event::of_row).collect::<Result<_>>()?;
        engine.append_batch(&events)?;
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
fn seal(engine: &Flights) -> Result<()> {
    let started = Instant::now();
    engine.flush()?;
    println!("sealed into segments in {}", human::duration(started.elapsed()));
    Ok(())
}

/// Prints how much disk the events take.
pub(crate) fn show_size(engine: &Flights) {
    let (bytes, events) = (engine.total_bytes(), engine.total_events());
    println!(
        "{} on disk: {:.1} bytes a flight; segments: {}",
        human::bytes(bytes),
        bytes as f64 / events as f64,
        engine.segment_count(),
    );
}
