//! From rows into a root, as a system that captures events of a source would bring them: in the order in which they happened.

use std::time::Instant;

use anyhow::{Result, ensure};
use keplordb_server::{Capture, ContentType, Operation, Record};
use serde_json::Value;

use super::TYPE;
use super::row::{Row, Step};

/// Records of one batch: they are captured all or none, with one sync.
const BATCH_RECORDS: usize = 5000;

/// Everything that happened, in the order of time.
pub(crate) fn in_time(rows: &[Row]) -> Vec<(i64, Step, &Row)> {
    let happened = |row| Row::steps(row).into_iter().map(move |(step, time_ms)| (time_ms, step, row));
    let mut events: Vec<_> = rows.iter().flat_map(happened).collect();
    // The sort is stable: the steps of one flight stay in their order.
    events.sort_by_key(|(time_ms, ..)| *time_ms);
    events
}

/// Captures what the root does not have yet. After an interrupted load, or one of fewer flights, everything is sent again: the events'
/// ids keep those that are there from being captured twice.
pub(crate) async fn load(capture: &Capture, rows: &[Row]) -> Result<()> {
    let events = in_time(rows);
    let types = capture.log().types()?;
    let held = types.iter().find(|kind| kind.entity_type == TYPE).map_or(0, |kind| kind.events);
    let all = events.len() as u64;
    ensure!(held <= all, "the root has {held} events, more than the {all} to load; name another");
    if held == all {
        println!("all {held} events of {} flights are there already", rows.len());
        return Ok(());
    }
    let (started, mut captured) = (Instant::now(), 0);
    for batch in events.chunks(BATCH_RECORDS) {
        let records = batch.iter().map(|(time_ms, step, row)| record(row, *step, *time_ms)).collect();
        let receipts = capture.capture_batch(records).await?;
        captured += receipts.iter().filter(|receipt| !receipt.is_duplicate).count();
    }
    let took_s = started.elapsed().as_secs_f64();
    println!(
        "captured {captured} events of {} flights in {took_s:.2} s ({:.0} a second), in batches of {BATCH_RECORDS}, each on disk when it \
         was acknowledged; {held} were there already",
        rows.len(),
        captured as f64 / took_s
    );
    Ok(())
}

/// The record of a step. Its event id says what it is, so that it is captured once, however often it is sent.
fn record(row: &Row, step: Step, time_ms: i64) -> Record {
    let mut record = Record::default();
    record.entity_type = TYPE.into();
    record.entity_id = row.id();
    record.event_id = format!("{}/{step:?}", row.id());
    record.content_type = ContentType::Json;
    record.payload = Value::Object(row.sets(step)).to_string().into_bytes();
    record.client = "timetable".into();
    record.operation = Some(operation(step));
    match step {
        Step::Planned => record.created_at_ms = Some(time_ms),
        Step::Departed | Step::Arrived => record.updated_at_ms = Some(time_ms),
        Step::Cancelled => record.deleted_at_ms = Some(time_ms),
    }
    record
}

/// What a step does to the flight.
pub(crate) fn operation(step: Step) -> Operation {
    match step {
        Step::Planned => Operation::Create,
        Step::Departed | Step::Arrived => Operation::Update,
        Step::Cancelled => Operation::Delete,
    }
}
