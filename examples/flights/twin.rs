//! The same questions, answered by plain loops over the rows: slow, and obviously right. Knows nothing of the engine.

use std::collections::BTreeMap;

use super::answers::{Answers, Cancellations, Punctuality, Year};
use super::questions::{NEWEST, Subjects};
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
        routes: punctuality_by(rows, |row| format!("{}-{}", row.origin, row.dest)),
        months: months(rows),
        aircraft: punctuality(of_aircraft),
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
    year
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
