//! The same questions, answered by plain loops over the rows: slow, and obviously right. Knows nothing of the engine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use keplordb_examples::nearest_rank;

use super::answers::{Answers, Cancellations, Percentiles, Punctuality, VERY_LATE_MIN, Year};
use super::questions::{NEWEST, PROPOSED, Subjects, TOP};
use super::row::Row;

/// What the engine must answer.
pub(crate) fn answers(rows: &[Row], subjects: &Subjects) -> Answers {
    let of_id = |id: &str| rows.iter().find(|row| row.id() == id).cloned();
    let of_aircraft = rows.iter().filter(|row| row.tail == subjects.tail);
    let to_dest = newest_first(rows).into_iter().filter(|row| row.dest == subjects.dest);
    Answers {
        year: year(rows),
        days: punctuality_by(rows, Row::day),
        carriers: punctuality_by(rows, |row| row.carrier.clone()),
        lateness: lateness(rows),
        routes: punctuality_by(rows, |row| format!("{}-{}", row.origin, row.dest)),
        worst_hours: worst_hours(rows, subjects.origin),
        months: months(rows),
        furthest: furthest(rows),
        aircraft: punctuality(of_aircraft),
        proposals: proposals(rows),
        newest: to_dest.take(NEWEST).cloned().collect(),
        flight: of_id(&subjects.id),
        no_flight: of_id(subjects.no_id),
    }
}

/// Flights scheduled for the same minute count by when they were appended.
pub(crate) fn newest_first(rows: &[Row]) -> Vec<&Row> {
    let mut newest_first: Vec<&Row> = rows.iter().rev().collect();
    // The sort is stable.
    newest_first.sort_by_key(|row| std::cmp::Reverse(row.scheduled_utc));
    newest_first
}

fn year(rows: &[Row]) -> Year {
    let mut year = Year::default();
    for row in rows {
        match (row.dep_delay_min, row.arr_delay_min) {
            (None, _) => year.cancelled += 1,
            (Some(_), None) => year.diverted += 1,
            (Some(_), Some(delay_min)) => {
                let delay_min = i64::from(delay_min);
                year.arrived += 1;
                year.arr_delay_min += delay_min;
                year.earliest_min = Some(year.earliest_min.map_or(delay_min, |min| min.min(delay_min)));
                year.latest_min = Some(year.latest_min.map_or(delay_min, |max| max.max(delay_min)));
                year.air_min += u64::from(row.air_time_min.unwrap_or(0));
                year.distance_mi += u64::from(row.distance_mi);
            }
        }
        match row.dep_delay_min {
            Some(late_min @ 0..) => year.dep_late_min += u64::from(late_min.unsigned_abs()),
            Some(early_min) => year.dep_early_min += u64::from(early_min.unsigned_abs()),
            None => {}
        }
    }
    let known = rows.iter().map(|row| row.tail.as_str()).filter(|tail| !tail.is_empty());
    year.aircraft = known.collect::<BTreeSet<_>>().len() as u64;
    year.destinations = rows.iter().map(|row| row.dest.as_str()).collect::<BTreeSet<_>>().len() as u64;
    year
}

fn lateness(rows: &[Row]) -> BTreeMap<String, Percentiles> {
    let mut delays: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for row in rows {
        if let Some(delay_min) = row.arr_delay_min {
            delays.entry(row.carrier.clone()).or_default().push(delay_min.into());
        }
    }
    let percentiles = |delays: &mut Vec<i64>| {
        delays.sort_unstable();
        [50, 95, 99].map(|percent| nearest_rank(delays, percent))
    };
    delays.into_iter().map(|(carrier, mut delays)| (carrier, percentiles(&mut delays))).collect()
}

/// Equally bad ones in the order of time.
fn worst_hours(rows: &[Row], origin: &str) -> Vec<(i64, u64)> {
    let mut hours: BTreeMap<i64, u64> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.origin == origin) {
        if row.cancelled() || row.arr_delay_min.is_some_and(|min| min > VERY_LATE_MIN) {
            let hour = row.scheduled_utc.as_second().div_euclid(3_600);
            *hours.entry(hour * 3_600_000_000_000).or_default() += 1;
        }
    }
    let mut hours: Vec<_> = hours.into_iter().collect();
    // The sort is stable.
    hours.sort_by_key(|(_, flights)| Reverse(*flights));
    hours.truncate(TOP);
    hours
}

/// Of those that arrived.
fn furthest(rows: &[Row]) -> Vec<(String, u64, u64)> {
    let mut aircraft: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.arr_delay_min.is_some() && !row.tail.is_empty()) {
        let (distance_mi, flights) = aircraft.entry(&row.tail).or_default();
        *distance_mi += u64::from(row.distance_mi);
        *flights += 1;
    }
    let mut aircraft: Vec<_> =
        aircraft.into_iter().map(|(tail, (mi, flights))| (tail.to_owned(), mi, flights)).collect();
    aircraft.sort_by_key(|(_, distance_mi, _)| Reverse(*distance_mi));
    aircraft.truncate(TOP);
    aircraft
}

fn proposals(rows: &[Row]) -> Vec<(String, u64)> {
    let mut dests: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.dest.starts_with(PROPOSED)) {
        *dests.entry(&row.dest).or_default() += 1;
    }
    let mut dests: Vec<_> = dests.into_iter().map(|(dest, flights)| (dest.to_owned(), flights)).collect();
    dests.sort_by_key(|(_, flights)| Reverse(*flights));
    dests.truncate(TOP);
    dests
}

fn punctuality_by(rows: &[Row], group: impl Fn(&Row) -> String) -> BTreeMap<String, Punctuality> {
    let mut groups: BTreeMap<String, Punctuality> = BTreeMap::new();
    for row in rows {
        groups.entry(group(row)).or_default().add(row);
    }
    groups
}

fn punctuality<'a>(rows: impl Iterator<Item = &'a Row>) -> Punctuality {
    let mut sum = Punctuality::default();
    rows.for_each(|row| sum.add(row));
    sum
}

fn months(rows: &[Row]) -> BTreeMap<String, Cancellations> {
    let mut months: BTreeMap<String, Cancellations> = BTreeMap::new();
    for row in rows {
        let month = months.entry(row.scheduled_utc.strftime("%Y-%m").to_string()).or_default();
        month.scheduled += 1;
        month.cancelled += u64::from(row.cancelled());
    }
    months
}

impl Punctuality {
    fn add(&mut self, row: &Row) {
        self.scheduled += 1;
        if let Some(delay_min) = row.arr_delay_min {
            self.arrived += 1;
            self.arr_delay_min += i64::from(delay_min);
        }
    }
}
