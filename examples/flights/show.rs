//! The answers as a person reads them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use keplordb_examples::human::{count, hours_minutes, percent};

use super::answers::{Answers, Percentiles, Punctuality, VERY_LATE_MIN, Year};
use super::event;
use super::questions::{PROPOSED, Subjects};
use super::row::Row;

/// Lines of a ranking.
const TOP: usize = 5;

impl Answers {
    /// Prints every answer.
    pub(crate) fn show(&self, subjects: &Subjects) {
        self.year.show();
        heading("the worst days (UTC), by average arrival delay");
        by_delay(&self.days).into_iter().take(TOP).for_each(show_line);
        heading("carriers, by average arrival delay");
        by_delay(&self.carriers).into_iter().for_each(show_line);
        heading("carriers, by what one arrival in twenty exceeds");
        println!("  {:<10}{:>10}{:>12}{:>16}", "", "half", "1 in 20", "1 in 100");
        by_percentile(&self.lateness).into_iter().take(TOP).for_each(show_percentiles);
        heading("the busiest routes");
        by_traffic(&self.routes).into_iter().take(TOP).for_each(show_line);
        heading(&format!(
            "hours in which {} was worst: flights that did not leave or arrived more than {} late",
            subjects.origin,
            hours_minutes(VERY_LATE_MIN.into())
        ));
        for (hour_ns, flights) in &self.worst_hours {
            println!("  {} {flights:>8}", event::hour(*hour_ns));
        }
        heading("cancelled, by month (UTC)");
        for (month, line) in &self.months {
            let share = percent(line.cancelled, line.scheduled);
            println!("  {month:<10}{:>8} of {:>7} {share:>9}", count(line.cancelled), count(line.scheduled));
        }
        heading("the aircraft that flew furthest");
        for (tail, distance_mi, flights) in &self.furthest {
            println!("  {tail:<10}{:>8} flights {:>10} miles", count(*flights), count(*distance_mi));
        }
        heading(&format!("the aircraft that flew most, {}", subjects.tail));
        show_line((&subjects.tail, &self.aircraft));
        heading(&format!("destinations that begin with {PROPOSED}"));
        for (dest, flights) in &self.proposals {
            println!("  {dest:<10}{:>8} flights", count(*flights));
        }
        heading(&format!("the newest flights to {}", subjects.dest));
        self.newest.iter().for_each(show_flight);
        heading("one flight by its id");
        self.flight.iter().for_each(show_flight);
        if self.no_flight.is_none() {
            println!("  {} is not there", subjects.no_id);
        }
    }
}

impl Year {
    fn show(&self) {
        let scheduled = self.arrived + self.diverted + self.cancelled;
        let total = |what: &str, value: String, more: String| println!("  {what:<20}{value:>12}  {more}");
        heading("the year");
        total("scheduled", count(scheduled), String::new());
        total("arrived", count(self.arrived), percent(self.arrived, scheduled));
        total("diverted", count(self.diverted), percent(self.diverted, scheduled));
        total("cancelled", count(self.cancelled), percent(self.cancelled, scheduled));
        total(
            "arrival delay",
            hours_minutes(self.arr_delay_min),
            "hours in sum, early ones subtracted".into(),
        );
        total("earliest, latest", self.extremes(), "hours".into());
        total("late at departure", hours_minutes(self.dep_late_min.cast_signed()), "hours in sum".into());
        total("early at departure", hours_minutes(self.dep_early_min.cast_signed()), "hours in sum".into());
        total("in the air", hours_minutes(self.air_min.cast_signed()), "hours".into());
        total("flown", count(self.distance_mi), "miles".into());
        total("aircraft", count(self.aircraft), "that are known".into());
        total("destinations", count(self.destinations), String::new());
    }

    fn extremes(&self) -> String {
        let show = |minutes: Option<i64>| minutes.map_or_else(|| "-".to_owned(), hours_minutes);
        format!("{}, {}", show(self.earliest_min), show(self.latest_min))
    }
}

type Line<'a> = (&'a String, &'a Punctuality);

fn by_delay(lines: &BTreeMap<String, Punctuality>) -> Vec<Line<'_>> {
    let mut ranked: Vec<Line<'_>> = lines.iter().collect();
    let average = |line: &Punctuality| line.average_min().unwrap_or(f64::NEG_INFINITY);
    ranked.sort_by(|(_, left), (_, right)| average(right).total_cmp(&average(left)));
    ranked
}

fn by_percentile(lines: &BTreeMap<String, Percentiles>) -> Vec<(&String, &Percentiles)> {
    let mut ranked: Vec<_> = lines.iter().collect();
    ranked.sort_by_key(|(_, [_, one_in_20, _])| Reverse(*one_in_20));
    ranked
}

fn by_traffic(lines: &BTreeMap<String, Punctuality>) -> Vec<Line<'_>> {
    let mut ranked: Vec<Line<'_>> = lines.iter().collect();
    ranked.sort_by_key(|(_, line)| Reverse(line.scheduled));
    ranked
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn show_line((name, line): Line<'_>) {
    let average =
        line.average_min().map_or_else(|| "none arrived".to_owned(), |min| format!("{min:+.1} min"));
    println!("  {name:<10}{:>8} flights {average:>14}", count(line.scheduled));
}

fn show_percentiles((name, delays_min): (&String, &Percentiles)) {
    let [half, one_in_20, one_in_100] =
        delays_min.map(|min| min.map_or_else(|| "-".to_owned(), |min| format!("{min:+} min")));
    println!("  {name:<10}{half:>10}{one_in_20:>12}{one_in_100:>16}");
}

fn show_flight(row: &Row) {
    let Row { scheduled_utc, carrier, flight, origin, dest, .. } = row;
    let time = scheduled_utc.strftime("%F %R");
    println!("  {time}  {carrier} {flight:>4}  {origin}-{dest}  {}", fate(row));
}

fn fate(row: &Row) -> String {
    match (row.dep_delay_min, row.arr_delay_min) {
        (None, _) => "cancelled".to_owned(),
        (Some(_), None) => "diverted".to_owned(),
        (Some(_), Some(0)) => "on time".to_owned(),
        (Some(_), Some(late_min @ 1..)) => format!("{} late", hours_minutes(late_min.into())),
        (Some(_), Some(early_min)) => format!("{} early", hours_minutes(-i64::from(early_min))),
    }
}
