//! The head of the page, what it is about in a few figures, and its foot.

use super::facts::Facts;
use super::markup::Markup;
use super::quantity::{bytes, counted, decimal, whole};
use super::time::{day, moment, short_day, time_of_day};

/// What made the page.
pub(super) const PROGRAM: &str = concat!("keplor ", env!("CARGO_PKG_VERSION"));

pub(super) fn head(html: &mut Markup, facts: &Facts) {
    html.element("header", &[], |html| {
        html.leaf("p", &[("class", "kind")], "Table of events");
        html.element("h1", &[], |html| html.foreign(&facts.title));
        html.leaf("p", &[("class", "lead")], &lead(facts));
        if !facts.conditions.is_empty() {
            html.element("ul", &[("class", "conditions"), ("aria-label", "Conditions")], |html| {
                for condition in &facts.conditions {
                    html.element("li", &[], |html| html.element("code", &[], |html| html.foreign(condition)));
                }
            });
        }
        html.element("dl", &[("class", "figures")], |html| figures(html, facts));
    });
}

pub(super) fn foot(html: &mut Markup, facts: &Facts) {
    html.element("footer", &[], |html| {
        html.element("p", &[], |html| {
            html.text("Made on ");
            html.leaf("time", &[("datetime", &machine_time(facts.made_ns))], &day(facts.made_ns));
            html.text(&format!(" at {} UTC by {PROGRAM} from ", time_of_day(facts.made_ns)));
            html.element("code", &[], |html| html.foreign(&facts.dir));
            html.text(". Times are in UTC.");
        });
    });
}

fn lead(facts: &Facts) -> String {
    let events = counted(facts.events, "event", "events");
    let of = if facts.conditions.is_empty() {
        String::new()
    } else {
        let matches = if facts.events == 1 { "matches" } else { "match" };
        format!(" of {} {matches}", whole(facts.table_events))
    };
    match facts.times {
        None if facts.conditions.is_empty() => "The table has no events.".to_owned(),
        None => format!("No event of {} matches.", whole(facts.table_events)),
        Some((first_ns, last_ns)) if first_ns == last_ns => {
            format!("{events}{of}, on {} at {} UTC.", day(first_ns), time_of_day(first_ns))
        }
        Some((first_ns, last_ns)) if day(first_ns) == day(last_ns) => {
            let (from, to) = (time_of_day(first_ns), time_of_day(last_ns));
            format!("{events}{of}, on {} between {from} and {to} UTC.", day(first_ns))
        }
        Some((first_ns, last_ns)) => format!("{events}{of}, from {} to {}.", day(first_ns), day(last_ns)),
    }
}

fn figures(html: &mut Markup, facts: &Facts) {
    let of =
        if facts.conditions.is_empty() { String::new() } else { format!("of {}", whole(facts.table_events)) };
    figure(html, "Events", &of, |html| html.text(&whole(facts.events)));
    if let Some((first_ns, last_ns)) = facts.times {
        for (name, ts_ns) in [("First event", first_ns), ("Last event", last_ns)] {
            figure(html, name, &format!("{} UTC", time_of_day(ts_ns)), |html| {
                html.leaf("time", &[("datetime", &machine_time(ts_ns))], &short_day(ts_ns));
            });
        }
    }
    let storage = &facts.storage;
    let in_logs = match storage.log_rows {
        0 => String::new(),
        rows => format!("and {} in logs", counted(rows, "event", "events")),
    };
    figure(html, "Segments", &in_logs, |html| html.text(&whole(storage.segments.len() as u64)));
    let all_bytes = storage.segment_bytes + storage.log_bytes;
    let each = match facts.table_events {
        0 => String::new(),
        events => format!("{} bytes an event", decimal(all_bytes as f64 / events as f64)),
    };
    figure(html, "On disk", &each, |html| html.text(&bytes(all_bytes)));
}

fn figure(html: &mut Markup, name: &str, more: &str, value: impl FnOnce(&mut Markup)) {
    html.element("div", &[], |html| {
        html.leaf("dt", &[], name);
        html.element("dd", &[], |html| {
            value(html);
            if !more.is_empty() {
                html.text(" ");
                html.leaf("small", &[], more);
            }
        });
    });
}

/// For programs that read the page.
fn machine_time(ts_ns: i64) -> String {
    format!("{}Z", moment(ts_ns).replace(' ', "T"))
}
