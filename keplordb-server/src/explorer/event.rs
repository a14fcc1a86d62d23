//! One event: what came with it, what it says, and what stands beside it.

use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::history::changed;
use super::page::{Page, Place};
use super::view::View;
use super::{Source, time, value};
use crate::blame::diff;
use crate::entity::{self, EntityEvent, Instant};
use crate::http::Failure;

/// Fields of an event that are shown one by one.
const CHANGES_MAX: usize = 60;

pub(crate) fn page(
    view: &View,
    source: &Source,
    event: &EntityEvent,
    around: &[EntityEvent],
) -> Result<Response, Failure> {
    let (entity_type, id) = (event.entity_type.as_str(), event.entity_id.as_str());
    let events = source.log.history(entity_type, id, Instant::default())?;
    let place = events.iter().position(|other| other.sequence == event.sequence);
    let (before, after) = place.map_or((None, None), |place| {
        (place.checked_sub(1).and_then(|index| events.get(index)), events.get(place + 1))
    });
    let end = place.unwrap_or(0);
    let was = entity::fold(&events[..end]);
    let is = entity::fold(&events[..events.len().min(end + 1)]);
    let changes = diff(was.state(), is.state());
    let beside = |sequence: Option<u64>| {
        around
            .iter()
            .find(|other| Some(other.sequence) == sequence)
            .filter(|other| source.caller.may_touch(&other.entity_type))
    };
    let body = html! {
        nav.tabs aria-label="Events beside it" {
            ul {
                @if let Some(other) = beside(event.sequence.checked_sub(1)) {
                    li { a rel="prev" data-key="[" href=(address(view, other)) { "Event before, #" (other.sequence) } }
                }
                @if let Some(other) = beside(event.sequence.checked_add(1)) {
                    li { a rel="next" data-key="]" href=(address(view, other)) { "Event after, #" (other.sequence) } }
                }
                @if let Some(other) = before { li { a href=(address(view, other)) { "The entity's older one, #" (other.sequence) } } }
                @if let Some(other) = after { li { a href=(address(view, other)) { "The entity's newer one, #" (other.sequence) } } }
            }
        }
        (envelope(view, event, end + 1))
        h2 { "What it changed" }
        @if changes.is_empty() { p.answer { "Nothing: the entity was so before." } }
        (changed(changes.iter().take(CHANGES_MAX)))
        @if changes.len() > CHANGES_MAX {
            p.hint { (value::of((changes.len() - CHANGES_MAX) as u64, "more field", "more fields")) " are not shown." }
        }
        h2 { "Payload" }
        @match &event.payload {
            None => { p.answer { "Its bytes are of no known kind: they are kept, and change no state." } },
            Some(payload) => {
                @let (text, is_whole) = value::block(&Value::Object(payload.clone()));
                (text)
                @if !is_whole { p.hint { a href=(view.here().with("format", "json")) { "The whole of it as JSON" } } }
            }
        }
    };
    let title = format!("Event {}", event.sequence);
    let page = Page::new(Place::Log, &title, body).of(id).of(entity_type);
    Ok(page.headed(html! { (title) }).within(html! { "Log" }, view.to(&["events"])).respond(view))
}

fn address(view: &View, event: &EntityEvent) -> super::link::Url {
    view.to(&["events", &event.sequence.to_string()])
}

fn envelope(view: &View, event: &EntityEvent, version: usize) -> Markup {
    let (entity_type, id) = (event.entity_type.as_str(), event.entity_id.as_str());
    let then = view.to_timeless(&["e", entity_type, id]).with("as_of", &time::iso(event.event_time_ms));
    let text = |name: &str, value: &str| {
        html! { @if !value.is_empty() { div { dt { (name) } dd { (value::id(value)) } } } }
    };
    html! {
        dl.envelope {
            div {
                dt { "Entity" }
                dd {
                    a href=(view.to(&["e", entity_type, id])) { (entity_type) " " (value::id(id)) }
                    ", version " a href=(then) { (version) }
                }
            }
            div { dt { "What" } dd { (value::badge(event.operation)) } }
            div { dt { "Happened" } dd { (time::time(event.event_time_ms)) } }
            div {
                dt { "Came in" }
                dd {
                    (time::time(event.received_at_ms))
                    @if let Some(gap) = time::gap(event.event_time_ms, event.received_at_ms) { " " span.late { (gap) } }
                }
            }
            (text("By", &event.client))
            (text("Event id", &event.event_id))
            (text("Belongs to", &event.correlation_id))
            (text("Caused by", &event.causation_id))
            @if let Some(version) = event.source_version { div { dt { "Source's counter" } dd { (version) } } }
            div {
                dt { "Schema" }
                dd {
                    @if event.schema_version == 0 { span.none { "none" } }
                    @else {
                        a href=(view.to(&["schema"]).with("version", &event.schema_version.to_string())) {
                            "version " (event.schema_version)
                        }
                    }
                }
            }
        }
    }
}
