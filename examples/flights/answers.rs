//! What the questions are answered with. Exact numbers only, so that two answers are equal or one is wrong; averages
//! and rankings are made when they are shown.

use std::collections::BTreeMap;
use std::fmt::Debug;

use anyhow::Result;
use keplordb_examples::Checks;

use super::row::Row;

/// One answer per question.
#[derive(Debug)]
pub(crate) struct Answers {
    /// What happened in the year?
    pub(crate) year: Year,
    /// How late was each UTC day?
    pub(crate) days: BTreeMap<String, Punctuality>,
    /// How late is each carrier?
    pub(crate) carriers: BTreeMap<String, Punctuality>,
    /// How late are the carriers' flights that arrive, the typical and the worst?
    pub(crate) lateness: BTreeMap<String, Percentiles>,
    /// How busy and how late is each route?
    pub(crate) routes: BTreeMap<String, Punctuality>,
    /// In which hours did most flights from one airport not leave, or arrive more than [`VERY_LATE_MIN`] late? Each as it
    /// begins in UTC, and how many.
    pub(crate) worst_hours: Vec<(i64, u64)>,
    /// How many flights of each UTC month were cancelled?
    pub(crate) months: BTreeMap<String, Cancellations>,
    /// Which aircraft flew furthest, how far, and how often?
    pub(crate) furthest: Vec<(String, u64, u64)>,
    /// What did one aircraft do all year?
    pub(crate) aircraft: Punctuality,
    /// Which destinations begin like this, the most flown first?
    pub(crate) proposals: Vec<(String, u64)>,
    /// Which were the last flights to one destination?
    pub(crate) newest: Vec<Row>,
    /// What became of the flight of this id?
    pub(crate) flight: Option<Row>,
    /// And of one that never was?
    pub(crate) no_flight: Option<Row>,
}

/// What is more than late, in minutes.
pub(crate) const VERY_LATE_MIN: i32 = 180;

/// Delays in minutes that 50, 95 and 99 of a hundred flights at most have; `None` when no flight arrived.
pub(crate) type Percentiles = [Option<i64>; 3];

/// The year's totals.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Year {
    pub(crate) arrived: u64,
    pub(crate) diverted: u64,
    pub(crate) cancelled: u64,
    /// Of those that arrived; early ones count below 0.
    pub(crate) arr_delay_min: i64,
    pub(crate) earliest_min: Option<i64>,
    pub(crate) latest_min: Option<i64>,
    pub(crate) dep_late_min: u64,
    pub(crate) dep_early_min: u64,
    pub(crate) air_min: u64,
    pub(crate) distance_mi: u64,
    /// Different ones, of those that are known.
    pub(crate) aircraft: u64,
    pub(crate) destinations: u64,
}

/// How late flights were.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Punctuality {
    /// All that were scheduled, also those that never arrived.
    pub(crate) scheduled: u64,
    pub(crate) arrived: u64,
    /// Of those that arrived.
    pub(crate) arr_delay_min: i64,
}

impl Punctuality {
    /// `None` when no flight arrived.
    pub(crate) fn average_min(&self) -> Option<f64> {
        (self.arrived > 0).then(|| self.arr_delay_min as f64 / self.arrived as f64)
    }
}

/// How many flights did not take off.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cancellations {
    pub(crate) scheduled: u64,
    pub(crate) cancelled: u64,
}

impl Answers {
    /// Compares every answer, and of those that are lists every line.
    pub(crate) fn check(&self, right: &Self, checks: &mut Checks) -> Result<()> {
        checks.equal("the year", &self.year, &right.year)?;
        check_lines("day", &self.days, &right.days, checks)?;
        check_lines("carrier", &self.carriers, &right.carriers, checks)?;
        check_lines("percentiles of carrier", &self.lateness, &right.lateness, checks)?;
        check_lines("route", &self.routes, &right.routes, checks)?;
        checks.equal("the worst hours", &self.worst_hours, &right.worst_hours)?;
        check_lines("month", &self.months, &right.months, checks)?;
        checks.equal("the aircraft that flew furthest", &self.furthest, &right.furthest)?;
        checks.equal("the aircraft's year", &self.aircraft, &right.aircraft)?;
        checks.equal("destinations that begin alike", &self.proposals, &right.proposals)?;
        checks.equal("the newest flights", &self.newest, &right.newest)?;
        checks.equal("the flight by its id", &self.flight, &right.flight)?;
        checks.equal("the flight that never was", &self.no_flight, &right.no_flight)
    }
}

fn check_lines<T: PartialEq + Debug>(
    kind: &str,
    lines: &BTreeMap<String, T>,
    right: &BTreeMap<String, T>,
    checks: &mut Checks,
) -> Result<()> {
    for (name, line) in right {
        checks.equal(&format!("{kind} {name}"), &lines.get(name), &Some(line))?;
    }
    checks.equal(&format!("number of {kind}s"), &lines.len(), &right.len())
}
