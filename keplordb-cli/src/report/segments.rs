//! The segments: from when to when the events of each are, how many rows and bytes it has.

use super::chart::{Frame, Span};
use super::facts::{Facts, Segment, Storage};
use super::markup::Markup;
use super::quantity::{bytes, counted, whole};
use super::scale::Axis;
use super::style::Colour;
use super::time::{Range, moment};
use super::{as_table, section as part};

/// Segments that the table lists; of more, the largest.
const LISTED: usize = 200;

pub(super) fn section(html: &mut Markup, facts: &Facts) {
    let storage = &facts.storage;
    let mut note = sizes(storage);
    if !facts.conditions.is_empty() {
        note.push_str(" They are those of the whole table, whatever matches.");
    }
    part(html, "segments", "Segments", &note, |html| {
        if storage.segments.len() > 1 {
            html.element("figure", &[("class", "card")], |html| charts(html, &storage.segments));
        }
    });
}

fn sizes(storage: &Storage) -> String {
    let logs = match (storage.log_rows, storage.log_bytes) {
        (0, 0) => String::new(),
        (0, log_bytes) => format!(" The logs take {}.", bytes(log_bytes)),
        (rows, log_bytes) => {
            format!(
                " {} in the logs, which take {}.",
                counted(rows, "event is", "events are"),
                bytes(log_bytes)
            )
        }
    };
    let rows = storage.segments.iter().map(|segment| segment.rows).sum();
    match storage.segments.as_slice() {
        [] => format!("There is no segment yet.{logs}"),
        [one] => format!(
            "One segment of {} and {}, with events from {} to {}.{logs}",
            counted(rows, "row", "rows"),
            bytes(storage.segment_bytes),
            moment(one.first_ns),
            moment(one.last_ns),
        ),
        all => format!(
            "{} of {} and {} together. Each line goes from the first event of a segment to its last.{logs}",
            counted(all.len() as u64, "segment", "segments"),
            counted(rows, "row", "rows"),
            bytes(storage.segment_bytes),
        ),
    }
}

fn charts(html: &mut Markup, segments: &[Segment]) {
    let first_ns = segments.iter().map(|segment| segment.first_ns).min().unwrap_or(0);
    let last_ns = segments.iter().map(|segment| segment.last_ns).max().unwrap_or(0);
    let times = Range { from_ns: first_ns, to_ns: last_ns };
    let span = |segment: &Segment, size: u64| Span {
        from_ns: segment.first_ns,
        to_ns: segment.last_ns,
        size: size as f64,
    };
    let extremes =
        |sizes: &[u64]| (sizes.iter().copied().min().unwrap_or(0), sizes.iter().copied().max().unwrap_or(0));

    let rows: Vec<u64> = segments.iter().map(|segment| segment.rows).collect();
    let (least, most) = extremes(&rows);
    let described =
        format!("Rows of {} segments along time, from {} to {}", rows.len(), whole(least), whole(most));
    let axis = Axis::of_counts(most as f64);
    let spans: Vec<Span> = segments.iter().map(|segment| span(segment, segment.rows)).collect();
    Frame { described: &described, name: Some("Rows"), is_low: true, values: &axis, times }.spans(
        html,
        Colour::Blue,
        &spans,
    );

    let sizes: Vec<u64> = segments.iter().map(|segment| segment.bytes).collect();
    let (least, most) = extremes(&sizes);
    let described =
        format!("Bytes of {} segments along time, from {} to {}", sizes.len(), bytes(least), bytes(most));
    let axis = Axis::of_bytes(most as f64);
    let spans: Vec<Span> = segments.iter().map(|segment| span(segment, segment.bytes)).collect();
    Frame { described: &described, name: Some("Bytes"), is_low: true, values: &axis, times }.spans(
        html,
        Colour::Teal,
        &spans,
    );

    let mut shown: Vec<&Segment> = segments.iter().collect();
    shown.sort_by_key(|segment| std::cmp::Reverse((segment.rows, segment.bytes)));
    let left_out = shown.len().saturating_sub(LISTED);
    shown.truncate(LISTED);
    shown.sort_by_key(|segment| (segment.first_ns, segment.last_ns));
    let rows = shown.into_iter().map(|segment| {
        vec![moment(segment.first_ns), moment(segment.last_ns), whole(segment.rows), bytes(segment.bytes)]
    });
    let rest = (left_out > 0).then(|| vec![format!("… and {} smaller ones", whole(left_out as u64))]);
    as_table(html, "Segments", &["First event", "Last event", "Rows", "Size"], rows.chain(rest));
}
