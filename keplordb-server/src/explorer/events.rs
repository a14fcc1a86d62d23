//! The log: events of all entities, the newest above, and those that come while one looks.

use axum::response::Response;
use maud::{Markup, html};

use super::page::{Page, Place};
use super::view::View;
use super::{Source, frame, time, types, value};
use crate::entity::{EntityEvent, Instant};
use crate::http::Failure;
use crate::log::Selection;

/// Events of a page.
const ROWS_MAX: usize = 50;
/// Fields of an event that are named.
const FIELDS_MAX: usize = 6;

/// Which events are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) selection: &'a Selection,
    /// Those before this one.
    pub(crate) before: Option<u64>,
    /// Those after this one, the oldest of them.
    pub(crate) after: Option<u64>,
}

pub(crate) fn page(
    view: &View,
    source: &Source,
    asked: Asked<'_>,
    instant: Instant,
) -> Result<Response, Failure> {
    let Asked { selection, before, after } = asked;
    let mut seen = selection.clone();
    let is_limited = source.caller.check_selection(selection).is_err();
    if is_limited {
        let types = source.log.types()?.into_iter().map(|of_type| of_type.entity_type);
        seen.entity_types = types.filter(|name| source.caller.may_touch(name)).collect();
    }
    // A selection without types means all of them, of which none is the reader's.
    let mut events = match (is_limited && seen.entity_types.is_empty(), after, before) {
        (true, _, _) => Vec::new(),
        (false, Some(after), None) => source.log.events(&seen, Some(after), ROWS_MAX)?,
        _ => source.log.last_before(&seen, before, instant, ROWS_MAX)?,
    };
    events.retain(|event| instant.sees(event));
    let is_full = events.len() == ROWS_MAX;
    let (entity_type, id) = (selection.entity_types.first(), selection.entity_ids.first());
    let here = || {
        let url = view.to(&["events"]).with_some("type", entity_type.map(String::as_str));
        url.with_some("id", id.map(String::as_str))
    };
    let is_newest = before.is_none() && after.is_none();
    let body = html! {
        form.filter method="get" action=(view.to(&["events"]).path()) {
            (frame::carried(view.to(&["events"]).query()))
            label { "Type " input name="type" value=[entity_type] autocomplete="off" spellcheck="false" maxlength="63"; }
            label { "Id " input name="id" value=[id] autocomplete="off" spellcheck="false" maxlength="1024"; }
            button { "Show" }
            @if entity_type.is_some() || id.is_some() { a href=(view.to(&["events"])) { "All events" } }
        }
        @if events.is_empty() { (nothing(view, source, is_newest && entity_type.is_none() && id.is_none())?) }
        @else {
            // Where the newest are, the script offers to follow the log: it has a place for that, and a table to write into.
            p.live {}
            div.wide tabindex="0" role="region" aria-label="Events"
                data-live=[(is_newest && view.is_now() && !is_limited).then(|| stream(view, entity_type, id))]
                data-root=(view.to_timeless(&[])) {
                (table(view, &events, "Events, newest first"))
            }
        }
        nav.pages aria-label="Pages" {
            @if !is_newest { a href=(here()) { "Newest" } }
            @if let (Some(last), true) = (events.last(), before.is_some() || after.is_some()) {
                a rel="prev" href=(here().with("after", &last.sequence.to_string())) { "Newer" }
            }
            @if let (Some(first), true) = (events.first(), is_full || after.is_some()) {
                a rel="next" href=(here().with("before", &first.sequence.to_string())) { "Older" }
            }
        }
    };
    let mut page = Page::new(Place::Log, "Log", body);
    page.titles.extend(entity_type.cloned());
    Ok(page.of_time().respond(view))
}

/// Where the events come from that the script shows.
fn stream(view: &View, entity_type: Option<&String>, id: Option<&String>) -> String {
    let url = view.to_timeless(&["events", "stream"]).with_some("type", entity_type.map(String::as_str));
    url.with_some("id", id.map(String::as_str)).to_string()
}

fn nothing(view: &View, source: &Source, is_all: bool) -> Result<Markup, Failure> {
    Ok(match source.log.types()?.iter().map(|of_type| of_type.first_received_ms).min() {
        None => types::no_events(view),
        Some(first_ms) if is_all && !view.is_now() => html! {
            p.answer role="status" {
                "No event had happened and was known then. The oldest came in at " (time::time(first_ms)) "."
            }
        },
        Some(_) => html! { p.answer role="status" { "There is no such event here." } },
    })
}

/// Events, the last above.
pub(super) fn table(view: &View, events: &[EntityEvent], caption: &str) -> Markup {
    html! {
        table.rows.events {
            caption { (caption) }
            thead {
                tr {
                    th.number scope="col" { "Event" }
                    th scope="col" { "What" }
                    th scope="col" { "Entity" }
                    th scope="col" { "Sets" }
                    th scope="col" { "Happened" }
                    th scope="col" { "Came in" }
                    th scope="col" { "By" }
                }
            }
            tbody {
                @for event in events.iter().rev() {
                    tr data-row {
                        th.number scope="row" {
                            a href=(view.to(&["events", &event.sequence.to_string()])) { "#" (event.sequence) }
                        }
                        td data-label="What" { (value::badge(event.operation)) }
                        td data-label="Entity" {
                            a href=(view.to(&["e", &event.entity_type, &event.entity_id])) {
                                (event.entity_type) " " (value::id(&event.entity_id))
                            }
                        }
                        td data-label="Sets" { (sets(event)) }
                        td data-label="Happened" { (time::time(event.event_time_ms)) }
                        td data-label="Came in" {
                            (time::time(event.received_at_ms))
                            @if let Some(gap) = time::gap(event.event_time_ms, event.received_at_ms) { " " span.late { (gap) } }
                        }
                        td data-label="By" { bdi { (event.client) } }
                    }
                }
            }
        }
    }
}

/// The names of what an event sets.
fn sets(event: &EntityEvent) -> Markup {
    html! {
        @match &event.payload {
            None => { span.none { "bytes of no known kind" } },
            Some(payload) => {
                @for (index, key) in payload.keys().take(FIELDS_MAX).enumerate() {
                    @if index > 0 { ", " } bdi.path { (value::title(key)) }
                }
                @if payload.len() > FIELDS_MAX { " and " (payload.len() - FIELDS_MAX) " more" }
            }
        }
    }
}
