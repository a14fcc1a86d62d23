//! An entity that is not there: because it was not there yet, which is an answer, or because nothing has its id.

use axum::http::StatusCode;
use axum::response::Response;
use maud::html;

use super::page::{Page, Place};
use super::view::View;
use super::{Source, failure, time, value};
use crate::entity::Instant;
use crate::http::Failure;
use crate::name::shown;

/// Ids that are offered where one is unknown.
const NEAR: usize = 8;
/// Types that are looked through for an id that is none of the type that was asked for.
const TYPES_MAX: usize = 50;

/// The page of an entity of which the view's instant sees no event.
pub(crate) fn page(view: &View, source: &Source, entity_type: &str, id: &str) -> Result<Response, Failure> {
    let events = source.log.history(entity_type, id, Instant::default())?;
    let page = match (events.first(), events.iter().map(|event| event.received_at_ms).min()) {
        (Some(first), Some(known_ms)) => {
            let address = ["e", entity_type, id];
            let body = html! {
                p.answer role="status" {
                    strong { "It was not there yet." } " Its oldest event happened at " (time::time(first.event_time_ms))
                    ", and the first that was known of it came in at " (time::time(known_ms)) "."
                }
                ul.ways {
                    @if view.instant.as_of_ms.is_some() {
                        li {
                            a href=(view.to(&address).with("as_of", &time::iso(first.event_time_ms))) {
                                "See it at its oldest event"
                            }
                        }
                    }
                    @if view.instant.known_at_ms.is_some() {
                        li { a href=(view.to(&address).without("known_at")) { "See it by what is known now" } }
                    }
                    li { a href=(view.to_timeless(&address)) { "See it as it is now" } }
                    li { a href=(view.to_timeless(&["e", entity_type, id, "history"])) { "See its history" } }
                }
            };
            Page::new(Place::Entities, id, body)
        }
        _ => unknown(view, source, entity_type, id)?,
    };
    let page = page.headed(value::id(id)).of(entity_type);
    let page = page.within(html! { "Entities" }, view.to(&["e"]));
    Ok(page.within(html! { (entity_type) }, view.to(&["e", entity_type])).of_time().respond(view))
}

fn unknown(view: &View, source: &Source, entity_type: &str, id: &str) -> Result<Page, Failure> {
    // An id that begins alike is likelier the more of it does.
    let count = id.chars().count();
    let mut near = Vec::new();
    for chars in [count, count.saturating_sub(2), count.div_ceil(2), 1] {
        let begin: String = id.chars().take(chars).collect();
        near = source.log.ids(entity_type, &begin, None, NEAR)?;
        if !near.is_empty() {
            break;
        }
    }
    let mut others = Vec::new();
    for of_type in source.log.types()?.into_iter().take(TYPES_MAX) {
        let name = of_type.entity_type;
        if name != entity_type
            && source.caller.may_touch(&name)
            && !source.log.history(&name, id, Instant::default())?.is_empty()
        {
            others.push(name);
        }
    }
    let body = html! {
        p.refused role="alert" { "There is no " (entity_type) " with this id, and there never was." }
        @if !source.log.gaps().is_empty() {
            p { "Events were dropped from this log, by their age or for want of room; those of this id may have been among them." }
        }
        @if !others.is_empty() {
            h2 { "Other types have it" }
            ul { @for name in &others { li { a href=(view.to(&["e", name, id])) { (name) " " (value::id(id)) } } } }
        }
        @if !near.is_empty() {
            h2 { "Ids near it" }
            ul { @for near in &near { li { a href=(view.to(&["e", entity_type, near])) { (value::id(near)) } } } }
        }
        (failure::ways_on(view))
    };
    Ok(Page::new(Place::Entities, &format!("no {entity_type} {}", shown(id)), body)
        .with_status(StatusCode::NOT_FOUND))
}
