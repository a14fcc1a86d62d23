//! What differs between two times of an entity.

use std::collections::BTreeMap;

use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::entity::{Tab, part, tabs};
use super::view::View;
use super::{Source, absent, frame, time, value};
use crate::blame::{Change, diff};
use crate::entity::{self, EntityEvent, Instant};
use crate::http::Failure;

/// Fields of a page.
const FIELDS_MAX: usize = 100;
/// Versions that are offered for either side, the newest ones.
const VERSIONS_MAX: usize = 40;

/// Which times are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The version before the last one where it is not said.
    pub(crate) a_ms: Option<i64>,
    /// Now, or the instant of the page, where it is not said.
    pub(crate) b_ms: Option<i64>,
    /// Fields that are equal too.
    pub(crate) is_all: bool,
}

/// The two times: of what is not said the later one is that of the instant, `None` for now, and the earlier one that of the version before
/// it.
pub(crate) fn sides(
    events: &[EntityEvent],
    asked: Asked,
    as_of_ms: Option<i64>,
) -> (Option<i64>, Option<i64>) {
    let b_ms = asked.b_ms.or(as_of_ms);
    let is_before = |time_ms: &i64| b_ms.is_none_or(|b_ms| *time_ms <= b_ms);
    let mut times = events.iter().rev().map(|event| event.event_time_ms).filter(is_before);
    let newest_ms = times.next();
    (asked.a_ms.or_else(|| times.find(|time_ms| Some(*time_ms) != newest_ms)).or(b_ms).or(newest_ms), b_ms)
}

pub(crate) fn page(
    view: &View,
    source: &Source,
    entity_type: &str,
    id: &str,
    asked: Asked,
) -> Result<Response, Failure> {
    let known = Instant { as_of_ms: None, known_at_ms: view.instant.known_at_ms };
    let events = source.log.history(entity_type, id, known)?;
    let (Some(last), (a_ms, b_ms)) = (events.last(), sides(&events, asked, view.instant.as_of_ms)) else {
        return absent::page(view, source, entity_type, id);
    };
    let b_ms = b_ms.unwrap_or(last.event_time_ms);
    let a_ms = a_ms.unwrap_or(b_ms);
    let at = |time_ms: i64| {
        let end = events.partition_point(|event| event.event_time_ms <= time_ms);
        (end, entity::fold(&events[..end]).state().cloned())
    };
    let ((a_version, a), (b_version, b)) = (at(a_ms), at(b_ms));
    let changes = diff(a.as_ref(), b.as_ref());
    let side = |name: &str, time_ms: i64, version: usize, state: Option<&Map<String, Value>>| {
        html! {
            (name) ": " (time::time(time_ms)) ", "
            @if version == 0 { "it was not there yet" }
            @else if state.is_none() { "version " (version) ", deleted" }
            @else { "version " (version) }
        }
    };
    let body = html! {
        (tabs(view, entity_type, id, Tab::Diff))
        (form(view, entity_type, id, &events, a_ms, b_ms, asked.is_all))
        ul.sides {
            li { (side("From", a_ms, a_version, a.as_ref())) }
            li { (side("To", b_ms, b_version, b.as_ref())) }
        }
        @if changes.is_empty() { p.answer role="status" { "Nothing differs between the two." } }
        @if !changes.is_empty() || asked.is_all {
            (table(&changes, &equal(b.as_ref(), &changes, asked.is_all)))
        }
    };
    Ok(part(view, entity_type, id, "Differences", body).of_time().respond(view))
}

fn form(
    view: &View,
    entity_type: &str,
    id: &str,
    events: &[EntityEvent],
    a_ms: i64,
    b_ms: i64,
    is_all: bool,
) -> Markup {
    let here = view.to(&["e", entity_type, id, "diff"]);
    let mut times: Vec<i64> = events.iter().map(|event| event.event_time_ms).collect();
    times.dedup();
    let times: Vec<i64> = times.into_iter().rev().take(VERSIONS_MAX).collect();
    let choice = |name: &str, label: &str, chosen_ms: i64| {
        html! {
            label {
                (label) " "
                select name=(name) {
                    @if !times.contains(&chosen_ms) {
                        option value=(time::iso(chosen_ms)) selected { (time::iso(chosen_ms)) }
                    }
                    @for time_ms in &times {
                        option value=(time::iso(*time_ms)) selected[*time_ms == chosen_ms] { (time::iso(*time_ms)) }
                    }
                }
            }
        }
    };
    html! {
        form.compare method="get" action=(here.path()) {
            (frame::carried(here.query()))
            (choice("a", "From", a_ms))
            (choice("b", "To", b_ms))
            label.check { input type="checkbox" name="all" value="1" checked[is_all]; " equal fields too" }
            button { "Compare" }
        }
    }
}

/// The fields that are as they were, by their paths.
fn equal(
    state: Option<&Map<String, Value>>,
    changes: &[Change],
    is_all: bool,
) -> BTreeMap<Vec<String>, Value> {
    if !is_all {
        return BTreeMap::new();
    }
    // Everything differs from nothing.
    let all = diff(None, state).into_iter().filter_map(|change| Some((change.path, change.after?)));
    let mut equal: BTreeMap<_, _> = all.collect();
    for change in changes {
        equal.remove(&change.path);
    }
    equal
}

fn table(changes: &[Change], equal: &BTreeMap<Vec<String>, Value>) -> Markup {
    let more = (changes.len() + equal.len()).saturating_sub(FIELDS_MAX);
    let equal_max = FIELDS_MAX.saturating_sub(changes.len());
    html! {
        table.rows.diff {
            caption {
                (value::of(changes.len() as u64, "field differs", "fields differ"))
                @if !equal.is_empty() { ", " (value::count(equal.len() as u64)) " equal" }
            }
            thead {
                tr {
                    th scope="col" { span.hidden { "What changed" } }
                    th scope="col" { "Field" }
                    th scope="col" { "From" }
                    th scope="col" { "To" }
                }
            }
            tbody {
                @for change in changes.iter().take(FIELDS_MAX) {
                    @let (class, sign, word) = match (&change.before, &change.after) {
                        (None, _) => ("added", "+", "added"),
                        (_, None) => ("removed", "−", "removed"),
                        _ => ("changed", "~", "changed"),
                    };
                    tr class=(class) data-row {
                        td.sign { span aria-hidden="true" { (sign) } span.hidden { (word) } }
                        th scope="row" { (value::path(&change.path)) }
                        td data-label="From" { (value::optional(change.before.as_ref())) }
                        td data-label="To" { (value::optional(change.after.as_ref())) }
                    }
                }
                @for (path, value) in equal.iter().take(equal_max) {
                    tr.equal data-row {
                        td.sign { span aria-hidden="true" { "=" } span.hidden { "equal" } }
                        th scope="row" { (value::path(path)) }
                        td data-label="From" { (value::cell(value)) }
                        td data-label="To" { (value::cell(value)) }
                    }
                }
            }
        }
        @if more > 0 { p.hint { (value::of(more as u64, "more field", "more fields")) " are not shown; ask for this page as JSON." } }
    }
}
