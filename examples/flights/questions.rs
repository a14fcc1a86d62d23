//! The questions, put to the engine.
//!
//! A question per value ("how late is each carrier?") is one aggregate per value: the engine answers most of them from
//! its running sums and postings, without looking at rows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use keplordb::{QueryFilter, RollupValue, Totals};

use super::Flights;
use super::answers::{Answers, Cancellations, Punctuality, Year};
use super::event::{self, Flight, ONLY_ARRIVED, ONLY_CANCELLED, ONLY_DIVERTED};
use super::round::{Clock, Round};
use super::row::Row;

/// The first UTC month of the data; the last evening in New York is already in January.
const FIRST_MONTH: Date = date(2013, 1, 1);
const MONTHS: i32 = 13;
/// How many of the newest flights to ask for.
pub(crate) const NEWEST: usize = 5;

/// What the questions are about, known to the program since it loaded the flights.
pub(crate) struct Subjects {
    carriers: BTreeSet<String>,
    /// Pairs of origin and destination.
    routes: BTreeSet<(String, String)>,
    /// The destination whose newest flights are asked for.
    pub(crate) dest: &'static str,
    /// The aircraft that flew most.
    pub(crate) tail: String,
    /// The id of a flight in the middle of the data.
    pub(crate) id: String,
    /// An id that no flight has.
    pub(crate) no_id: &'static str,
}

impl Subjects {
    /// Of rows, of which there is at least one.
    pub(crate) fn of(rows: &[Row]) -> Self {
        let mut aircraft: BTreeMap<&str, u64> = BTreeMap::new();
        for row in rows.iter().filter(|row| !row.tail.is_empty()) {
            *aircraft.entry(&row.tail).or_default() += 1;
        }
        let busiest = aircraft.into_iter().max_by_key(|(_, flights)| *flights);
        Self {
            carriers: rows.iter().map(|row| row.carrier.clone()).collect(),
            routes: rows.iter().map(|row| (row.origin.clone(), row.dest.clone())).collect(),
            dest: "SFO",
            tail: busiest.map(|(tail, _)| tail.to_owned()).unwrap_or_default(),
            id: rows[rows.len() / 2].id(),
            no_id: "PA1-1963-08-01T12:00:00Z",
        }
    }
}

/// Asks everything once.
pub(crate) fn ask(engine: &Flights, subjects: &Subjects) -> Result<Round> {
    let mut clock = Clock::default();
    let routes = subjects.routes.len();
    let carriers = subjects.carriers.len();
    let answers = Answers {
        year: clock.time("the year's totals", "3 aggregates", || year(engine))?,
        days: clock.time("each day's delay", "1 rollup query", || days(engine))?,
        carriers: clock.time("each carrier's delay", &format!("{carriers} aggregates"), || {
            by_carrier(engine, &subjects.carriers)
        })?,
        routes: clock.time("each route's traffic", &format!("{routes} aggregates"), || {
            by_route(engine, &subjects.routes)
        })?,
        months: clock.time("cancelled by month", &format!("{} aggregates", 2 * MONTHS), || months(engine))?,
        aircraft: clock.time("one aircraft's year", "1 aggregate", || aircraft(engine, &subjects.tail))?,
        newest: clock.time("newest to a destination", "1 recent query", || newest(engine, subjects.dest))?,
        flight: clock.time("one flight by id", "1 lookup", || flight(engine, &subjects.id))?,
        no_flight: clock.time("an id that is not there", "1 lookup", || flight(engine, subjects.no_id))?,
    };
    Ok(Round { answers, times: clock.times })
}

fn year(engine: &Flights) -> Result<Year> {
    let arrived = engine.aggregate(&Flight::filter().status(ONLY_ARRIVED).into_filter())?;
    let diverted = engine.aggregate(&Flight::filter().status(ONLY_DIVERTED).into_filter())?;
    let cancelled = engine.aggregate(&Flight::filter().status(ONLY_CANCELLED).into_filter())?;
    let [late_min, early_min, distance_mi, _] = arrived.counters;
    let [diverted_late_min, diverted_early_min, ..] = diverted.counters;
    Ok(Year {
        arrived: arrived.event_count,
        diverted: diverted.event_count,
        cancelled: cancelled.event_count,
        arr_delay_min: arrived.metric,
        earliest_min: arrived.metric_min,
        latest_min: arrived.metric_max,
        dep_late_min: late_min + diverted_late_min,
        dep_early_min: early_min + diverted_early_min,
        air_min: arrived.latency_ms / 60_000,
        distance_mi,
    })
}

/// Rollups are per day, carrier and origin; here only the day matters.
fn days(engine: &Flights) -> Result<BTreeMap<String, Punctuality>> {
    let mut days: BTreeMap<String, Punctuality> = BTreeMap::new();
    for (key, value) in engine.query_rollups(i64::MIN, i64::MAX, &[None, None])? {
        let name = Timestamp::from_second(key.day)?.strftime("%F").to_string();
        let day = days.entry(name).or_default();
        let rolled_up = Punctuality::from(&value);
        day.scheduled += rolled_up.scheduled;
        day.arrived += rolled_up.arrived;
        day.arr_delay_min += rolled_up.arr_delay_min;
    }
    Ok(days)
}

fn by_carrier(engine: &Flights, carriers: &BTreeSet<String>) -> Result<BTreeMap<String, Punctuality>> {
    let line = |carrier: &String| {
        let flights = engine.aggregate(&Flight::filter().carrier(carrier).into_filter())?;
        Ok((carrier.clone(), Punctuality::from(&flights)))
    };
    carriers.iter().map(line).collect()
}

fn by_route(engine: &Flights, routes: &BTreeSet<(String, String)>) -> Result<BTreeMap<String, Punctuality>> {
    let line = |(origin, dest): &(String, String)| {
        let flights = engine.aggregate(&Flight::filter().origin(origin).dest(dest).into_filter())?;
        Ok((format!("{origin}-{dest}"), Punctuality::from(&flights)))
    };
    routes.iter().map(line).collect()
}

/// Months without flights are left out.
fn months(engine: &Flights) -> Result<BTreeMap<String, Cancellations>> {
    let mut months = BTreeMap::new();
    for ordinal in 0..MONTHS {
        let (name, of_month) = month(ordinal)?;
        let scheduled = engine.aggregate(&of_month)?.event_count;
        let cancelled = QueryFilter {
            status_min: Some(ONLY_CANCELLED.start),
            status_max: Some(ONLY_CANCELLED.end),
            ..of_month
        };
        let cancelled = engine.aggregate(&cancelled)?.event_count;
        if scheduled > 0 {
            months.insert(name, Cancellations { scheduled, cancelled });
        }
    }
    Ok(months)
}

/// The name of the n-th UTC month, and the filter for its flights; both ends of a filter are inclusive.
fn month(ordinal: i32) -> Result<(String, QueryFilter<4>)> {
    let first_day = FIRST_MONTH.checked_add(jiff::Span::new().months(ordinal))?;
    let next = first_day.checked_add(jiff::Span::new().months(1))?;
    let midnight = |day: Date| event::ts_ns(day.to_zoned(TimeZone::UTC)?.timestamp());
    let filter = Flight::filter().from(midnight(first_day)?).to(midnight(next)? - 1);
    Ok((first_day.strftime("%Y-%m").to_string(), filter.into_filter()))
}

fn aircraft(engine: &Flights, tail: &str) -> Result<Punctuality> {
    Ok(Punctuality::from(&engine.aggregate(&Flight::filter().tail(tail).into_filter())?))
}

fn newest(engine: &Flights, dest: &str) -> Result<Vec<Row>> {
    let events = engine.query_recent(&Flight::filter().dest(dest).into_filter(), NEWEST)?;
    events.into_iter().map(event::to_row).collect()
}

fn flight(engine: &Flights, id: &str) -> Result<Option<Row>> {
    engine.get_event(id)?.map(event::to_row).transpose()
}

impl From<&Totals<4>> for Punctuality {
    fn from(totals: &Totals<4>) -> Self {
        let [.., arrived] = totals.counters;
        Self { scheduled: totals.event_count, arrived, arr_delay_min: totals.metric }
    }
}

impl From<&RollupValue<4>> for Punctuality {
    fn from(value: &RollupValue<4>) -> Self {
        let [.., arrived] = value.counters;
        Self { scheduled: value.event_count, arrived, arr_delay_min: value.metric }
    }
}
