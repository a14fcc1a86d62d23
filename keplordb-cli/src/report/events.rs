//! Events over time, told apart by their statuses where these are used.

use std::fmt::Write as _;

use super::chart::{Frame, Stack};
use super::facts::{Facts, Split, Timeline};
use super::markup::Markup;
use super::quantity::{share, whole};
use super::scale::Axis;
use super::style::Colour;
use super::{as_table, key, section as part};

/// Classes of statuses as HTTP has them, from the bottom of a bar to its top.
const CLASSES: [(u16, &str, Colour); 5] = [
    (2, "2xx", Colour::Blue),
    (3, "3xx", Colour::Teal),
    (1, "1xx", Colour::Violet),
    (4, "4xx", Colour::Amber),
    (5, "5xx", Colour::Red),
];
/// Colours of statuses that are no classes, the most frequent first; all others share one.
const COLOURS: [Colour; 5] = [Colour::Blue, Colour::Amber, Colour::Teal, Colour::Violet, Colour::Red];

/// How events are told apart by their statuses, of which it is said how many have each: by classes where all are HTTP's, else by the
/// most frequent ones. What none of the splits has is the rest. Statuses that are all 0 are not used.
pub(crate) fn splits(statuses: &[(u16, u64)]) -> Vec<Split> {
    let is_used = |status: u16| statuses.iter().any(|(other, events)| *other == status && *events > 0);
    let mut used = statuses.iter().filter(|(_, events)| *events > 0).peekable();
    if used.peek().is_none() || used.clone().all(|(status, _)| *status == 0) {
        return Vec::new();
    }
    if used.clone().all(|(status, _)| *status == 0 || (100..600).contains(status)) {
        let classes =
            CLASSES.into_iter().filter(|(class, ..)| used.clone().any(|(status, _)| status / 100 == *class));
        let mut splits: Vec<Split> = classes
            .map(|(class, name, colour)| Split {
                name: name.to_owned(),
                colour,
                statuses: class * 100..=class * 100 + 99,
            })
            .collect();
        if is_used(0) {
            splits.push(Split { name: "no status".to_owned(), colour: Colour::Grey, statuses: 0..=0 });
        }
        return splits;
    }
    let mut frequent: Vec<(u16, u64)> = used.copied().collect();
    frequent.sort_by_key(|(status, events)| (std::cmp::Reverse(*events), *status));
    let coloured = frequent.into_iter().zip(COLOURS);
    coloured
        .map(|((status, _), colour)| Split {
            name: format!("status {status}"),
            colour,
            statuses: status..=status,
        })
        .collect()
}

pub(super) fn section(html: &mut Markup, facts: &Facts) {
    let Some(timeline) = &facts.timeline else { return };
    let Timeline { buckets, events, by_status } = timeline;
    let note = format!("Each bar is {}.", buckets.width());
    part(html, "events", "Events over time", &note, |html| {
        html.element("figure", &[("class", "card")], |html| {
            // What no split has: the bar must be whole.
            let told: Vec<u64> = (0..events.len())
                .map(|place| by_status.iter().filter_map(|(_, counts)| counts.get(place)).sum())
                .collect();
            let rest: Vec<u64> =
                events.iter().zip(&told).map(|(all, told)| all.saturating_sub(*told)).collect();
            let mut parts: Vec<(&str, Colour, &[u64])> = by_status
                .iter()
                .map(|(split, counts)| (split.name.as_str(), split.colour, counts.as_slice()))
                .collect();
            if parts.is_empty() {
                parts.push(("events", Colour::Blue, events.as_slice()));
            } else if rest.iter().any(|count| *count > 0) {
                parts.push(("others", Colour::Grey, rest.as_slice()));
            }

            if parts.len() > 1 {
                html.element("ul", &[("class", "legend")], |html| {
                    for (name, colour, counts) in &parts {
                        let sum = counts.iter().sum();
                        let value = format!("{} ({})", whole(sum), share(sum, facts.events));
                        key(html, colour.class(), name, &value);
                    }
                });
            }
            let most = events.iter().copied().max().unwrap_or(0);
            let most_at = events.iter().position(|count| *count == most).unwrap_or(0);
            let described = format!(
                "Events over time, {} bars of {} from {} on; the highest, of {} events, begins {}",
                events.len(),
                buckets.width(),
                buckets.label(0),
                whole(most),
                buckets.label(most_at),
            );
            let said: Vec<String> = (0..events.len())
                .map(|place| {
                    let mut said = format!("{}: {}", buckets.label(place), whole(events[place]));
                    if parts.len() > 1 {
                        let told = parts.iter().filter(|(.., counts)| counts[place] > 0);
                        let told: Vec<String> = told
                            .map(|(name, _, counts)| format!("{name} {}", whole(counts[place])))
                            .collect();
                        // What fails to be written to a string is nothing.
                        let _ = write!(said, " ({})", told.join(", "));
                    }
                    said
                })
                .collect();
            let stacks: Vec<Stack<'_>> =
                parts.iter().map(|(_, colour, counts)| Stack { colour: *colour, counts }).collect();
            let axis = Axis::of_counts(most as f64);
            let frame = Frame {
                described: &described,
                name: None,
                is_low: false,
                values: &axis,
                times: buckets.range(),
            };
            frame.bars(html, &stacks, &said);

            let mut headings = vec!["From", "Events"];
            headings.extend(parts.iter().filter(|_| parts.len() > 1).map(|(name, ..)| *name));
            let rows = (0..events.len()).map(|place| {
                let mut row = vec![buckets.label(place), whole(events[place])];
                row.extend(parts.iter().filter(|_| parts.len() > 1).map(|(.., counts)| whole(counts[place])));
                row
            });
            as_table(html, "Events over time", &headings, rows);
        });
    });
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    fn names(statuses: &[(u16, u64)]) -> Vec<(String, RangeInclusive<u16>)> {
        splits(statuses).into_iter().map(|split| (split.name, split.statuses)).collect()
    }

    #[test]
    fn statuses_of_http_are_told_by_their_classes() {
        let statuses = [(0, 3), (200, 90), (204, 1), (301, 1), (404, 0), (500, 2), (503, 1)];
        let names = names(&statuses);
        let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["2xx", "3xx", "5xx", "no status"]);
    }

    #[test]
    fn other_statuses_are_told_by_the_most_frequent() {
        let of = |status: u16| (format!("status {status}"), status..=status);
        assert_eq!(names(&[(0, 100), (1, 3), (2, 7)]), [of(0), of(2), of(1)]);
        let many: Vec<(u16, u64)> = (0..9).map(|status| (status * 1_000, u64::from(status) + 1)).collect();
        assert_eq!(names(&many), [of(8_000), of(7_000), of(6_000), of(5_000), of(4_000)]);
    }

    #[test]
    fn statuses_that_nobody_uses_are_not_told_apart() {
        assert!(
            splits(&[]).is_empty()
                && splits(&[(0, 17)]).is_empty()
                && splits(&[(0, 17), (500, 0)]).is_empty()
        );
    }
}
