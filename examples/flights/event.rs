//! A flight as an event: which column holds what, and the way back to a row.

use anyhow::{Result, bail, ensure};
use jiff::Timestamp;
use keplordb::{EventFlags, Schema};

use super::row::Row;

/// The columns beside those that every event has; of those:
/// - `id` is carrier, number and scheduled departure (`UA1545-2013-01-01T10:15:00Z`),
/// - `ts_ns` the scheduled departure,
/// - `metric` the arrival delay in minutes, negative when early, 0 where it is missing,
/// - `latency_ms` the time in the air,
/// - `status` whether it arrived, was diverted or was cancelled,
/// - `flags` which numbers are missing.
#[derive(Schema)]
#[keplordb(id = 1)]
pub(crate) struct Flight {
    #[dim]
    carrier: String,
    #[dim]
    origin: String,
    #[dim]
    dest: String,
    #[dim(bloom)]
    tail: String,
    /// Counters are unsigned, so a departure delay is one of two: late …
    #[counter]
    dep_late_min: u32,
    /// … or early.
    #[counter]
    dep_early_min: u32,
    #[counter]
    distance_mi: u32,
    /// 1 when it arrived: one query then knows how many were scheduled, how many arrived and how late these were.
    #[counter]
    arrived: u32,
    #[label]
    number: String,
}

/// `status` of a flight that reached its destination.
pub(crate) const ARRIVED: u16 = 0;
/// `status` of a flight that took off and landed elsewhere.
pub(crate) const DIVERTED: u16 = 1;
/// `status` of a flight that did not take off.
pub(crate) const CANCELLED: u16 = 2;

/// No departure delay, because it did not take off.
const NO_DEPARTURE: EventFlags = EventFlags(0b0001);
const NO_ARR_DELAY: EventFlags = EventFlags(0b0010);
const NO_AIR_TIME: EventFlags = EventFlags(0b0100);
/// The aircraft is not known.
const NO_TAIL: EventFlags = EventFlags(0b1000);

pub(crate) const MS_PER_MINUTE: u32 = 60_000;

/// The event of a row.
pub(crate) fn of_row(row: &Row) -> Result<FlightBuilder> {
    let dep_delay_min = row.dep_delay_min.unwrap_or(0);
    let columns = Flight {
        carrier: row.carrier.clone(),
        origin: row.origin.clone(),
        dest: row.dest.clone(),
        tail: row.tail.clone(),
        dep_late_min: dep_delay_min.max(0).unsigned_abs(),
        dep_early_min: dep_delay_min.min(0).unsigned_abs(),
        distance_mi: row.distance_mi,
        arrived: u32::from(row.arr_delay_min.is_some()),
        number: row.flight.clone(),
    };
    let event = columns
        .at(ts_ns(row.scheduled_utc)?)
        .id(row.id())
        .metric(row.arr_delay_min.unwrap_or(0).into())
        .latency_ms(row.air_time_min.unwrap_or(0) * MS_PER_MINUTE)
        .status(status_of(row))
        .flags(flags_of(row));
    Ok(event)
}

fn status_of(row: &Row) -> u16 {
    match (row.dep_delay_min, row.arr_delay_min) {
        (None, _) => CANCELLED,
        (Some(_), None) => DIVERTED,
        (Some(_), Some(_)) => ARRIVED,
    }
}

fn flags_of(row: &Row) -> EventFlags {
    let missing = [
        (row.dep_delay_min.is_none(), NO_DEPARTURE),
        (row.arr_delay_min.is_none(), NO_ARR_DELAY),
        (row.air_time_min.is_none(), NO_AIR_TIME),
        (row.tail.is_empty(), NO_TAIL),
    ];
    missing
        .into_iter()
        .filter(|(is_missing, _)| *is_missing)
        .fold(EventFlags(0), |flags, (_, flag)| flags.with(flag))
}

/// The row of an event. Checks what the row has no field for: id, status and flags must follow from the rest.
pub(crate) fn to_row(event: &FlightRow) -> Result<Row> {
    let has = |missing: EventFlags| !event.flags().has(missing);
    let dep_delay_min = i32::try_from(event.dep_late_min())? - i32::try_from(event.dep_early_min())?;
    let row = Row {
        scheduled_utc: timestamp(event.ts_ns())?,
        carrier: event.carrier().to_owned(),
        flight: event.number().to_owned(),
        tail: event.tail().to_owned(),
        origin: event.origin().to_owned(),
        dest: event.dest().to_owned(),
        dep_delay_min: has(NO_DEPARTURE).then_some(dep_delay_min),
        arr_delay_min: has(NO_ARR_DELAY).then_some(i32::try_from(event.metric())?),
        air_time_min: has(NO_AIR_TIME).then_some(event.latency_ms() / MS_PER_MINUTE),
        distance_mi: event.distance_mi(),
    };
    let id = event.id();
    ensure!(id == row.id(), "the event of {} has the id {id}", row.id());
    ensure!(event.arrived() == u32::from(row.arr_delay_min.is_some()), "{id} has a wrong counter `arrived`");
    if (event.status(), event.flags()) != (status_of(&row), flags_of(&row)) {
        bail!("{id} has the status {} and flags {:?}", event.status(), event.flags());
    }
    Ok(row)
}

/// Nanoseconds since the Unix epoch, as the engine counts time.
pub(crate) fn ts_ns(time: Timestamp) -> Result<i64> {
    Ok(i64::try_from(time.as_nanosecond())?)
}

/// An hour as a person reads it; of a time that no flight has, its number.
pub(crate) fn hour(ts_ns: i64) -> String {
    timestamp(ts_ns).map_or_else(|_| ts_ns.to_string(), |time| time.strftime("%F %R").to_string())
}

/// The UTC day of a time.
pub(crate) fn day(ts_ns: i64) -> Result<String> {
    Ok(timestamp(ts_ns)?.strftime("%F").to_string())
}

/// The time of an event.
fn timestamp(ts_ns: i64) -> Result<Timestamp> {
    Ok(Timestamp::from_nanosecond(ts_ns.into())?)
}
