//! A report: one page about a table, made of [`Facts`]. Knows no table and no files.
//!
//! The page is one file that needs nothing else: no script, no font, no picture from elsewhere, and a policy in its head that
//! forbids them, whatever an event's text may say. It follows the reader's choice of light or dark.

mod chart;
mod events;
mod facts;
mod head;
mod latency;
mod markup;
mod quantity;
mod scale;
mod segments;
mod style;
mod sums;
mod time;
mod tops;

use markup::Markup;

pub(crate) use events::splits;
pub(crate) use facts::{Facts, Latency, Quantiles, Segment, Storage, Sum, Timeline, Top};
pub(crate) use time::Buckets;

/// Nothing may be fetched and no script run; only the page's own style holds.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The page.
pub(crate) fn page(facts: &Facts) -> String {
    let mut html = Markup::default();
    html.fixed("<!DOCTYPE html>\n");
    html.element("html", &[("lang", "en")], |html| {
        html.element("head", &[], |html| {
            html.void("meta", &[("charset", "utf-8")]);
            html.void("meta", &[("http-equiv", "Content-Security-Policy"), ("content", POLICY)]);
            html.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
            html.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
            html.void("meta", &[("name", "generator"), ("content", head::PROGRAM)]);
            html.leaf("title", &[], &facts.title);
            html.element("style", &[], |html| html.fixed(style::STYLE));
        });
        html.element("body", &[], |html| {
            html.element("main", &[], |html| {
                head::head(html, facts);
                if facts.events > 0 {
                    events::section(html, facts);
                    tops::section(html, facts);
                    latency::section(html, facts);
                    sums::section(html, facts);
                }
                segments::section(html, facts);
                head::foot(html, facts);
            });
        });
    });
    html.fixed("\n");
    html.into_string()
}

/// A part of the page with its heading, and what needs to be said of it.
fn section(html: &mut Markup, id: &'static str, heading: &str, note: &str, inside: impl FnOnce(&mut Markup)) {
    html.element("section", &[("aria-labelledby", id)], |html| {
        html.leaf("h2", &[("id", id)], heading);
        if !note.is_empty() {
            html.leaf("p", &[("class", "note")], note);
        }
        inside(html);
    });
}

/// What stands beside a colour, or a line, in a legend.
fn key(html: &mut Markup, class: &str, name: &str, value: &str) {
    html.element("li", &[], |html| {
        html.leaf("span", &[("class", &format!("key {class}")), ("aria-hidden", "true")], "");
        html.foreign(name);
        html.leaf("b", &[], value);
    });
}

/// A chart's numbers as a table, closed until somebody opens it.
fn as_table(
    html: &mut Markup,
    described: &str,
    headings: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) {
    html.element("details", &[], |html| {
        html.leaf("summary", &[], "As a table");
        // Who has no mouse scrolls it, too.
        let attributes =
            [("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", described)];
        html.element("div", &attributes, |html| {
            html.element("table", &[], |html| {
                html.element("thead", &[], |html| {
                    html.element("tr", &[], |html| {
                        for heading in headings {
                            html.element("th", &[("scope", "col")], |html| html.foreign(heading));
                        }
                    });
                });
                html.element("tbody", &[], |html| {
                    for row in rows {
                        html.element("tr", &[], |html| {
                            for (place, text) in row.iter().enumerate() {
                                match place {
                                    0 => html.leaf("th", &[("scope", "row")], text),
                                    _ => html.leaf("td", &[], text),
                                }
                            }
                        });
                    }
                });
            });
        });
    });
}
