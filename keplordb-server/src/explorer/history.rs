//! The history of an entity: an event a row, newest above, with what it changed.

use std::collections::VecDeque;

use axum::response::Response;
use maud::{Markup, html};

use super::entity::{Tab, part, tabs};
use super::view::View;
use super::{time, value};
use crate::blame::{Change, diff};
use crate::entity::EntityEvent;
use crate::fold::Fold;

/// Events of a page.
const ROWS_MAX: usize = 50;
/// Fields of a row that are shown at once.
const CHANGES_MAX: usize = 8;

/// Which part of a history is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The versions before this one.
    pub(crate) before: Option<usize>,
    /// Those in which this field changed.
    pub(crate) field: Option<&'a str>,
}

/// An event and what it changed.
struct Step<'a> {
    /// How many events there are up to it.
    version: usize,
    event: &'a EntityEvent,
    changes: Vec<Change>,
    /// Whether it came in after events that happened later.
    is_late: bool,
}

pub(crate) fn page(
    view: &View,
    entity_type: &str,
    id: &str,
    events: &[EntityEvent],
    asked: Part<'_>,
) -> Response {
    let Part { before, field } = asked;
    let (rows, is_more) = steps(events, asked);
    let oldest = rows.front().map(|step| step.version);
    let here = || view.to(&["e", entity_type, id, "history"]).with_some("field", field);
    let body = html! {
        (tabs(view, entity_type, id, Tab::History))
        @if let Some(field) = field {
            p.answer {
                "Events that changed " bdi.path { (field) } ". "
                a href=(view.to(&["e", entity_type, id, "history"])) { "Show all events" }
            }
        }
        @if rows.is_empty() { p.answer role="status" { "No event of this part changed it." } }
        @else {
            table.rows.history {
                caption {
                    (value::of(events.len() as u64, "event", "events")) ", newest first"
                    @if before.is_some() { ", before version " (before.unwrap_or(0)) }
                }
                thead {
                    tr {
                        th.number scope="col" { "Version" }
                        th scope="col" { "What" }
                        th scope="col" { "Happened" }
                        th scope="col" { "Came in" }
                        th scope="col" { "By" }
                        th scope="col" { "Changed" }
                    }
                }
                tbody { @for step in rows.iter().rev() { (row(view, entity_type, id, step, events)) } }
            }
        }
        nav.pages aria-label="Pages" {
            @if before.is_some() { a href=(here()) { "Newest" } }
            @if is_more && let Some(oldest) = oldest {
                a rel="next" href=(here().with("before", &oldest.to_string())) { "Older" }
                a href=(here().with("before", &(ROWS_MAX + 1).to_string())) { "Oldest" }
            }
        }
    };
    part(view, entity_type, id, "History", body).of_time().respond(view)
}

/// The last steps of a part, in their order, and whether there are more before them.
fn steps<'a>(events: &'a [EntityEvent], Part { before, field }: Part<'_>) -> (VecDeque<Step<'a>>, bool) {
    let end = before.map_or(events.len(), |before| before.saturating_sub(1).min(events.len()));
    // What is filtered may be anywhere; of the rest only as many as are shown need be compared.
    let begin = if field.is_some() { 0 } else { end.saturating_sub(ROWS_MAX) };
    let mut least_behind = vec![u64::MAX; events.len() + 1];
    for (index, event) in events.iter().enumerate().rev() {
        least_behind[index] = least_behind[index + 1].min(event.sequence);
    }
    let mut fold = Fold::default();
    let (mut found, mut is_more) = (VecDeque::new(), begin > 0);
    for (index, event) in events.iter().enumerate().take(end) {
        if index < begin {
            fold.apply(event.operation, event.payload.clone());
            continue;
        }
        let was = fold.state().cloned();
        fold.apply(event.operation, event.payload.clone());
        let changes = diff(was.as_ref(), fold.state());
        if field.is_some_and(|field| !changes.iter().any(|change| is_of(change, field))) {
            continue;
        }
        if found.len() == ROWS_MAX {
            found.pop_front();
            is_more = true;
        }
        found.push_back(Step {
            version: index + 1,
            event,
            changes,
            is_late: least_behind[index + 1] < event.sequence,
        });
    }
    (found, is_more)
}

/// Whether a change is one of a field, or of one within it.
fn is_of(change: &Change, field: &str) -> bool {
    let path = change.path.join(".");
    path == field || path.strip_prefix(field).is_some_and(|rest| rest.starts_with('.'))
}

fn row(view: &View, entity_type: &str, id: &str, step: &Step<'_>, events: &[EntityEvent]) -> Markup {
    let Step { version, event, changes, is_late } = step;
    let previous = version.checked_sub(2).and_then(|index| events.get(index));
    let compare = previous.filter(|previous| previous.event_time_ms < event.event_time_ms);
    html! {
        tr data-row {
            th.number scope="row" {
                a href=(view.to(&["e", entity_type, id]).with("as_of", &time::iso(event.event_time_ms)))
                    title="The entity at this version" { (version) }
            }
            td data-label="What" {
                (value::badge(event.operation))
                " " a href=(view.to(&["events", &event.sequence.to_string()])) { "#" (event.sequence) }
            }
            td data-label="Happened" { (time::time(event.event_time_ms)) }
            td data-label="Came in" {
                (time::time(event.received_at_ms))
                @if let Some(gap) = time::gap(event.event_time_ms, event.received_at_ms) { " " span.late { (gap) } }
                @if *is_late { " " span.badge.warn title="It came in after events that happened later" { "out of order" } }
            }
            td data-label="By" { @if event.client.is_empty() { span.none { "nobody said" } } @else { bdi { (event.client) } } }
            td data-label="Changed" {
                (changed(changes.iter().take(CHANGES_MAX)))
                @if changes.len() > CHANGES_MAX {
                    details {
                        summary { (value::of((changes.len() - CHANGES_MAX) as u64, "more field", "more fields")) }
                        (changed(changes.iter().skip(CHANGES_MAX).take(4 * CHANGES_MAX)))
                    }
                }
                @if changes.is_empty() { span.none { "nothing" } }
                @if let Some(previous) = compare {
                    a.small href=(view.to(&["e", entity_type, id, "diff"])
                        .with("a", &time::iso(previous.event_time_ms)).with("b", &time::iso(event.event_time_ms))) { "compare" }
                }
            }
        }
    }
}

/// Fields with what they were and what they are.
pub(super) fn changed<'a>(changes: impl Iterator<Item = &'a Change>) -> Markup {
    html! {
        ul.changes {
            @for change in changes {
                li {
                    (value::path(&change.path)) " "
                    @match (&change.before, &change.after) {
                        (None, Some(after)) => { ins { span.sign { "+" } " " (value::cell(after)) } },
                        (Some(before), None) => { del { span.sign { "−" } " " (value::cell(before)) } },
                        (before, after) => {
                            (value::optional(before.as_ref())) " " span.sign { "→" } " " (value::optional(after.as_ref()))
                        },
                    }
                }
            }
        }
    }
}
