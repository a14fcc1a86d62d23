//! The questions, put to the store.
//!
//! Each is one query, also where its answer has a line for every carrier or day: the engine groups by itself, and answers most
//! of it from sums, without looking at rows.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use keplordb::aggregates::{Aggregate, Quantile, count, distinct, max, min, quantile, sum};
use keplordb::{Bucket, Explain, Filter};

use super::Flights;
use super::answers::{Answers, Cancellations, Percentiles, Punctuality, VERY_LATE_MIN, Year};
use super::event::{self, ARRIVED, CANCELLED, DIVERTED, Flight, MS_PER_MINUTE};
use super::round::{Clock, Round};
use super::row::Row;

/// The first UTC month of the data; the last evening in New York is already in January.
const FIRST_MONTH: Date = date(2013, 1, 1);
const MONTHS: i32 = 13;
/// How many of the newest flights to ask for.
pub(crate) const NEWEST: usize = 5;
/// How many lines a ranking that the engine makes has.
pub(crate) const TOP: usize = 5;
/// What somebody has typed into a field for destinations.
pub(crate) const PROPOSED: &str = "S";

/// What the questions are about, known to the program since it loaded the flights.
pub(crate) struct Subjects {
    /// The airport whose worst hours are asked for.
    pub(crate) origin: &'static str,
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
            origin: "JFK",
            dest: "SFO",
            tail: busiest.map(|(tail, _)| tail.to_owned()).unwrap_or_default(),
            id: rows[rows.len() / 2].id(),
            no_id: "PA1-1963-08-01T12:00:00Z",
        }
    }
}

/// Asks everything once.
pub(crate) fn ask(flights: &Flights, subjects: &Subjects) -> Result<Round> {
    let mut clock = Clock::default();
    let answers = Answers {
        year: clock.time("the year's totals", "3 queries", || year(flights))?,
        days: clock.time("each day's delay", "1 query", || days(flights))?,
        carriers: clock.time("each carrier's delay", "1 query", || by_carrier(flights))?,
        lateness: clock.time("and its percentiles", "1 query", || lateness(flights))?,
        routes: clock.time("each route's traffic", "1 query", || by_route(flights))?,
        worst_hours: clock.time("worst hours", "1 query", || worst_hours(flights, subjects.origin))?,
        months: clock.time("cancelled by month", &format!("{MONTHS} queries"), || months(flights))?,
        furthest: clock.time("furthest aircraft", "1 query", || furthest(flights))?,
        aircraft: clock.time("one aircraft's year", "1 query", || aircraft(flights, &subjects.tail))?,
        proposals: clock.time("destinations by prefix", "1 facet", || proposals(flights))?,
        newest: clock.time("newest to a destination", "1 query", || newest(flights, subjects.dest))?,
        flight: clock.time("one flight by id", "1 lookup", || flight(flights, &subjects.id))?,
        no_flight: clock.time("an id that is not there", "1 lookup", || flight(flights, subjects.no_id))?,
    };
    Ok(Round { answers, times: clock.times })
}

/// Of the year: a line for each status, and two counts of different values.
fn year(flights: &Flights) -> Result<Year> {
    let c = Flight::cols();
    let known_aircraft = flights.query(c.tail.ne("")).select(distinct(c.tail)).one()?;
    let destinations = flights.query(Filter::all()).select(distinct(c.dest)).one()?;
    let mut year = Year { aircraft: known_aircraft, destinations, ..Year::default() };
    let delays = (sum(c.metric), min(c.metric), max(c.metric));
    let by_status = flights
        .query(Filter::all())
        .group_by(c.status)
        .select((
            count(),
            delays.0,
            delays.1,
            delays.2,
            sum(c.dep_late_min),
            sum(c.dep_early_min),
            sum(c.latency_ms),
            sum(c.distance_mi),
        ))
        .fetch()?;
    for of_status in &by_status {
        let (flights, delay_min, earliest_min, latest_min, late_min, early_min, air_ms, distance_mi) =
            of_status.values();
        year.dep_late_min += late_min;
        year.dep_early_min += early_min;
        match of_status.key() {
            DIVERTED => year.diverted = flights,
            CANCELLED => year.cancelled = flights,
            _ => {
                year.arrived = flights;
                year.arr_delay_min = delay_min;
                (year.earliest_min, year.latest_min) = (earliest_min, latest_min);
                year.air_min = air_ms / u64::from(MS_PER_MINUTE);
                year.distance_mi = distance_mi;
            }
        }
    }
    Ok(year)
}

/// What [`Punctuality`] is made of.
fn punctuality() -> (Aggregate<Flight, u64>, Aggregate<Flight, u64>, Aggregate<Flight, i64>) {
    let c = Flight::cols();
    (count(), sum(c.arrived), sum(c.metric))
}

fn days(flights: &Flights) -> Result<BTreeMap<String, Punctuality>> {
    let days = flights.query(Filter::all()).bucket(Bucket::days(1)).select(punctuality()).fetch()?;
    days.iter().map(|day| Ok((event::day(day.bucket())?, day.values().into()))).collect()
}

fn by_carrier(flights: &Flights) -> Result<BTreeMap<String, Punctuality>> {
    let carriers = flights.query(Filter::all()).group_by(Flight::cols().carrier).select(punctuality());
    Ok(carriers.fetch()?.iter().map(|line| (line.key().to_owned(), line.values().into())).collect())
}

/// How the engine comes by the answer of [`by_carrier`].
pub(crate) fn explain_carriers(flights: &Flights) -> Result<Explain> {
    let carriers = flights.query(Filter::all()).group_by(Flight::cols().carrier).select(punctuality());
    Ok(carriers.explain()?)
}

fn lateness(flights: &Flights) -> Result<BTreeMap<String, Percentiles>> {
    let c = Flight::cols();
    let percentiles = (quantile(c.metric, 0.50), quantile(c.metric, 0.95), quantile(c.metric, 0.99));
    let carriers = flights.query(c.status.eq(ARRIVED)).group_by(c.carrier).select(percentiles).fetch()?;
    let line = |(half, one_in_20, one_in_100)| -> Result<Percentiles> {
        Ok([exact(half)?, exact(one_in_20)?, exact(one_in_100)?])
    };
    carriers.iter().map(|carrier| Ok((carrier.key().to_owned(), line(carrier.values())?))).collect()
}

/// There are far fewer flights than would make the engine estimate.
fn exact(quantile: Option<Quantile<i64>>) -> Result<Option<i64>> {
    ensure!(quantile.is_none_or(|quantile| quantile.is_exact), "{quantile:?} should be exact");
    Ok(quantile.map(|quantile| quantile.value))
}

fn by_route(flights: &Flights) -> Result<BTreeMap<String, Punctuality>> {
    let c = Flight::cols();
    let routes = flights.query(Filter::all()).group_by((c.origin, c.dest)).select(punctuality()).fetch()?;
    let line = |(origin, dest): (&str, &str)| format!("{origin}-{dest}");
    Ok(routes.iter().map(|route| (line(route.key()), route.values().into())).collect())
}

fn worst_hours(flights: &Flights, origin: &str) -> Result<Vec<(i64, u64)>> {
    let c = Flight::cols();
    let went_wrong = c.status.eq(CANCELLED) | c.metric.gt(VERY_LATE_MIN);
    let of_origin = flights.query(c.origin.eq(origin) & went_wrong);
    let hours = of_origin.bucket(Bucket::hours(1)).select(count()).top_by(TOP, count()).fetch()?;
    Ok(hours.iter().map(|hour| (hour.bucket(), hour.values())).collect())
}

/// Months are not equally long, so each is a query. Those without flights are left out.
fn months(flights: &Flights) -> Result<BTreeMap<String, Cancellations>> {
    let mut months = BTreeMap::new();
    for ordinal in 0..MONTHS {
        let first_day = FIRST_MONTH.checked_add(jiff::Span::new().months(ordinal))?;
        let next = first_day.checked_add(jiff::Span::new().months(1))?;
        let midnight = |day: Date| event::ts_ns(day.to_zoned(TimeZone::UTC)?.timestamp());
        let of_month = flights.query(Filter::all()).between(midnight(first_day)?..midnight(next)?);
        let by_status = of_month.group_by(Flight::cols().status).select(count()).fetch()?;
        let mut line = Cancellations::default();
        for of_status in &by_status {
            line.scheduled += of_status.values();
            if of_status.key() == CANCELLED {
                line.cancelled = of_status.values();
            }
        }
        if line.scheduled > 0 {
            months.insert(first_day.strftime("%Y-%m").to_string(), line);
        }
    }
    Ok(months)
}

fn furthest(flights: &Flights) -> Result<Vec<(String, u64, u64)>> {
    let c = Flight::cols();
    let flown = sum(c.distance_mi);
    let arrived = flights.query(c.status.eq(ARRIVED) & c.tail.ne(""));
    let aircraft = arrived.group_by(c.tail).select((flown, count())).top_by(TOP, flown).fetch()?;
    let line = |(distance_mi, flights), tail: &str| (tail.to_owned(), distance_mi, flights);
    Ok(aircraft.iter().map(|aircraft| line(aircraft.values(), aircraft.key())).collect())
}

fn aircraft(flights: &Flights, tail: &str) -> Result<Punctuality> {
    Ok(flights.query(Flight::cols().tail.eq(tail)).select(punctuality()).one()?.into())
}

fn proposals(flights: &Flights) -> Result<Vec<(String, u64)>> {
    Ok(flights.values(Flight::cols().dest).starting_with(PROPOSED).limit(TOP)?)
}

fn newest(flights: &Flights, dest: &str) -> Result<Vec<Row>> {
    let rows = flights.query(Flight::cols().dest.eq(dest)).newest_first().limit(NEWEST).rows()?;
    rows.iter().map(event::to_row).collect()
}

fn flight(flights: &Flights, id: &str) -> Result<Option<Row>> {
    flights.get(id)?.as_ref().map(event::to_row).transpose()
}

impl From<(u64, u64, i64)> for Punctuality {
    /// Of [`punctuality`]'s answers.
    fn from((scheduled, arrived, arr_delay_min): (u64, u64, i64)) -> Self {
        Self { scheduled, arrived, arr_delay_min }
    }
}
