//! What is asked, and what the rows say to it.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use keplordb_server::{EntityEvent, EntityLog, Instant, Operation, Selection};
use serde_json::{Map, Value};

use super::TYPE;
use super::load::{in_time, operation};
use super::row::{Row, Step};

/// Flights of which everything is asked, evenly over the year.
const ASKED: usize = 100;
/// Events that are read at a time.
const PAGE_EVENTS: usize = 250_000;
const MINUTE_MS: i64 = 60_000;

/// Counts the answers that were right.
#[derive(Debug, Default)]
pub(crate) struct Checks(u64);

impl Checks {
    pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(
        &mut self,
        question: &str,
        answer: &T,
        right: &T,
    ) -> Result<()> {
        ensure!(answer == right, "{question}: the answer is {answer:?}, right is {right:?}");
        self.0 += 1;
        Ok(())
    }

    pub(crate) fn passed(&self) -> u64 {
        self.0
    }
}

/// Asks everything of some flights, and the counts of all.
pub(crate) fn ask(log: &EntityLog, rows: &[Row], checks: &mut Checks) -> Result<()> {
    for row in rows.iter().step_by(rows.len().div_ceil(ASKED).max(1)) {
        states(log, row, checks)?;
        history(log, row, checks)?;
        blame(log, row, checks)?;
    }
    never(log, checks)?;
    counts(log, rows, checks)?;
    if let Some(row) = late(rows) {
        show(log, row)?;
    }
    Ok(())
}

fn as_of(time_ms: i64) -> Instant {
    Instant { as_of_ms: Some(time_ms), known_at_ms: None }
}

/// What is it now, and what was it just before each step and at it, and an hour before it should leave?
fn states(log: &EntityLog, row: &Row, checks: &mut Checks) -> Result<()> {
    let id = row.id();
    let now = log.get(TYPE, &id, Instant::default())?;
    checks.equal(&format!("{id} now"), &now.state().cloned(), &row.state(i64::MAX))?;
    let mut times: Vec<_> = row.steps().iter().flat_map(|(_, time_ms)| [time_ms - 1, *time_ms]).collect();
    times.push(row.scheduled_utc.as_millisecond() - 60 * MINUTE_MS);
    for time_ms in times {
        let then = log.get(TYPE, &id, as_of(time_ms))?;
        checks.equal(&format!("{id} at {time_ms}"), &then.state().cloned(), &row.state(time_ms))?;
    }
    Ok(())
}

/// What happened to it, and when?
fn history(log: &EntityLog, row: &Row, checks: &mut Checks) -> Result<()> {
    type Line = (Operation, i64, Option<Map<String, Value>>);
    let line = |event: EntityEvent| (event.operation, event.event_time_ms, event.payload);
    let found: Vec<Line> = log.history(TYPE, &row.id(), Instant::default())?.into_iter().map(line).collect();
    let steps = row.steps().into_iter();
    let right = steps.map(|(step, time_ms)| (operation(step), time_ms, Some(row.sets(step)))).collect();
    checks.equal(&format!("history of {}", row.id()), &found, &right)
}

/// Which event set which field?
fn blame(log: &EntityLog, row: &Row, checks: &mut Checks) -> Result<()> {
    let found: Vec<(String, Value, i64)> = log
        .blame(TYPE, &row.id(), Instant::default())?
        .into_iter()
        .map(|field| (field.path.join("."), field.value, field.event_time_ms))
        .collect();
    let mut right = Vec::new();
    if row.state(i64::MAX).is_some() {
        for (step, time_ms) in row.steps() {
            right.extend(row.sets(step).into_iter().map(|(field, value)| (field, value, time_ms)));
        }
    }
    right.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    checks.equal(&format!("blame of {}", row.id()), &found, &right)
}

/// Of a flight that never was there is nothing.
fn never(log: &EntityLog, checks: &mut Checks) -> Result<()> {
    let none = log.get(TYPE, "2013-02-30-XX1-EWR", Instant::default())?;
    checks.equal("a flight that never was", &(none.state(), none.version()), &(None, 0))
}

/// How many events and flights are there, and how many of the flights were cancelled?
fn counts(log: &EntityLog, rows: &[Row], checks: &mut Checks) -> Result<()> {
    let types: Vec<_> = log.types()?.into_iter().map(|kind| (kind.entity_type, kind.events)).collect();
    checks.equal("events by type", &types, &vec![(TYPE.to_owned(), in_time(rows).len() as u64)])?;
    let mut right: Vec<_> = rows.iter().map(Row::id).collect();
    right.sort_unstable();
    checks.equal("all ids", &log.ids(TYPE, "", None, usize::MAX)?, &right)?;

    // What was last done to each flight, from all events; they come in pages, in the order in which they came in.
    let (mut last, mut after) = (HashMap::new(), None);
    loop {
        let events = log.events(&Selection::default(), after, PAGE_EVENTS)?;
        let Some(end) = events.last() else { break };
        after = Some(end.sequence);
        last.extend(events.into_iter().map(|event| (event.entity_id, event.operation)));
    }
    let deleted = last.values().filter(|operation| **operation == Operation::Delete).count();
    let cancelled = rows.iter().filter(|row| row.dep_delay_min.is_none()).count();
    checks.equal("flights, deleted ones", &(last.len(), deleted), &(rows.len(), cancelled))?;
    println!("{} flights, of which {deleted} are deleted: they were cancelled", last.len());
    Ok(())
}

/// The flight that arrived latest.
pub(crate) fn late(rows: &[Row]) -> Option<&Row> {
    rows.iter().filter(|row| row.arr_delay_min.is_some()).max_by_key(|row| row.arr_delay_min)
}

/// Prints the answers to a flight's questions.
fn show(log: &EntityLog, row: &Row) -> Result<()> {
    let id = row.id();
    println!("\nthe flight that arrived latest: {id}");
    for event in log.history(TYPE, &id, Instant::default())? {
        let payload = event.payload.map(Value::Object).unwrap_or_default();
        println!("  {}  {:<6}  {payload}", time(event.event_time_ms)?, event.operation.as_str());
    }
    let (_, departed_ms) =
        row.steps().into_iter().find(|(step, _)| *step == Step::Departed).context("it left")?;
    let fold = log.get(TYPE, &id, as_of(departed_ms - MINUTE_MS))?;
    let state = fold.state().cloned().map(Value::Object).unwrap_or_default();
    println!("a minute before it left\n  {state}");
    println!("which event set which field");
    for field in log.blame(TYPE, &id, Instant::default())? {
        let (path, set) = (field.path.join("."), time(field.event_time_ms)?);
        println!("  {path:<14}{:<24}{set}  {}", field.value.to_string(), field.operation.as_str());
    }
    Ok(())
}

/// A time as a person reads it.
pub(crate) fn time(time_ms: i64) -> Result<jiff::Timestamp> {
    Ok(jiff::Timestamp::from_millisecond(time_ms)?)
}
