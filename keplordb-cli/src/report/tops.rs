//! The most frequent values of each dim, and of the status.

use super::facts::{Facts, Top};
use super::markup::Markup;
use super::quantity::{counted, share, whole};
use super::section as part;

pub(super) fn section(html: &mut Markup, facts: &Facts) {
    if facts.tops.is_empty() {
        return;
    }
    part(html, "values", "Top values", "By how many events have them.", |html| {
        html.element("div", &[("class", "cards")], |html| {
            for top in &facts.tops {
                html.element("article", &[("class", "card")], |html| card(html, top, facts.events));
            }
        });
    });
}

fn card(html: &mut Markup, top: &Top, events: u64) {
    html.element("div", &[("class", "top")], |html| {
        html.element("h3", &[], |html| html.foreign(&top.column));
        let distinct =
            top.distinct.map_or("very many values".to_owned(), |count| counted(count, "value", "values"));
        html.leaf("p", &[("class", "note")], &distinct);
    });
    let shown: u64 = top.values.iter().map(|(_, count)| count).sum();
    let most = top.values.first().map_or(1, |(_, count)| *count).max(1);
    html.element(
        "table",
        &[("class", "values"), ("aria-label", &format!("Top values of {}", top.column))],
        |html| {
            for (value, count) in &top.values {
                html.element("tr", &[], |html| {
                    html.element("th", &[("scope", "row")], |html| html.foreign(value));
                    html.element("td", &[("class", "bars")], |html| {
                        let width = format!("width:{:.1}%", 100.0 * *count as f64 / most as f64);
                        html.leaf("span", &[("style", &width)], "");
                    });
                    html.leaf("td", &[("class", "count")], &whole(*count));
                    html.leaf("td", &[("class", "share")], &share(*count, events));
                });
            }
            let Some(others) = others(top) else { return };
            html.element("tr", &[("class", "rest")], |html| {
                html.leaf("th", &[("scope", "row"), ("colspan", "2")], &others);
                html.leaf("td", &[("class", "count")], &whole(events.saturating_sub(shown)));
                html.leaf("td", &[("class", "share")], &share(events.saturating_sub(shown), events));
            });
        },
    );
}

/// What is not shown.
fn others(top: &Top) -> Option<String> {
    match top.distinct.map(|distinct| distinct.saturating_sub(top.values.len() as u64)) {
        Some(0) => None,
        Some(1) => Some("… and 1 other".to_owned()),
        Some(others) => Some(format!("… and {} others", whole(others))),
        None => Some("… and very many others".to_owned()),
    }
}
