//! What the counters and the metric come to, each with its course over time.

use std::fmt::Write as _;

use super::chart::spark;
use super::facts::{Facts, Sum};
use super::markup::{Markup, SHOWN_LETTERS, cut, listed};
use super::quantity::{decimal, short, whole};
use super::style::Colour;
use super::{as_table, section as part};

pub(super) fn section(html: &mut Markup, facts: &Facts) {
    if facts.sums.is_empty() {
        return;
    }
    let mut note = match &facts.timeline {
        Some(timeline) => format!("Each line shows the sum of every {}.", timeline.buckets.every()),
        None => String::new(),
    };
    if !facts.unused.is_empty() {
        let unused: Vec<String> = facts
            .unused
            .iter()
            .map(|name| cut(name, SHOWN_LETTERS).unwrap_or_else(|| name.clone()))
            .collect();
        // What fails to be written to a string is nothing.
        let _ = write!(note, " In {} there is nothing.", listed(&unused));
    }
    part(html, "sums", "Sums", note.trim(), |html| {
        html.element("div", &[("class", "cards small")], |html| {
            for sum in &facts.sums {
                html.element("article", &[("class", "card")], |html| card(html, sum, facts));
            }
        });
        if let Some(timeline) = &facts.timeline {
            let mut headings = vec!["From"];
            headings.extend(facts.sums.iter().map(|sum| sum.column.as_str()));
            let rows = (0..timeline.events.len()).map(|place| {
                let sums = facts.sums.iter().map(|sum| whole(sum.by_time.get(place).copied().unwrap_or(0)));
                std::iter::once(timeline.buckets.label(place)).chain(sums).collect()
            });
            as_table(html, "Sums over time", &headings, rows);
        }
    });
}

fn card(html: &mut Markup, sum: &Sum, facts: &Facts) {
    html.element("h3", &[], |html| html.foreign(&sum.column));
    html.leaf("p", &[("class", "sum")], &whole(sum.total));
    if let Some(timeline) = &facts.timeline {
        let values: Vec<f64> = sum.by_time.iter().map(|value| *value as f64).collect();
        let (low, high) =
            values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        let described = format!(
            "Sum of {} over time, for every {}: from {} to {}",
            sum.column,
            timeline.buckets.every(),
            short(low),
            short(high)
        );
        spark(html, Colour::Blue, &described, &values);
    }
    html.element("dl", &[], |html| {
        let mean = sum.total as f64 / facts.events.max(1) as f64;
        for (name, value) in
            [("Mean", decimal(mean)), ("Smallest", whole(sum.min)), ("Largest", whole(sum.max))]
        {
            html.element("div", &[], |html| {
                html.leaf("dt", &[], name);
                html.leaf("dd", &[], &value);
            });
        }
    });
}
