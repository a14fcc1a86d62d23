//! An id, whatever its type: those entities that have it, and those whose ids begin so.

use axum::response::Response;
use maud::html;
use serde::Serialize;

use super::page::{Page, Place, see_other};
use super::view::View;
use super::{Source, value};
use crate::entity::Instant;
use crate::http::Failure;

/// Ids of a type that begin so.
const NEAR: usize = 8;
/// Types that are looked through.
const TYPES_MAX: usize = 200;

/// What an id finds.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    /// Types of entities that have it.
    exact: Vec<Entity>,
    /// Entities whose ids begin so.
    begin: Vec<Entity>,
    /// The event whose sequence it is.
    event: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Entity {
    entity_type: String,
    entity_id: String,
}

impl Found {
    /// Looks for `id`, or for `Type/id`.
    pub(crate) fn of(source: &Source, text: &str) -> Result<Self, Failure> {
        let mut found = Self { exact: Vec::new(), begin: Vec::new(), event: None };
        if text.is_empty() {
            return Ok(found);
        }
        let types: Vec<String> = source.log.types()?.into_iter().map(|of_type| of_type.entity_type).collect();
        let mine = types.iter().filter(|name| source.caller.may_touch(name));
        for entity_type in mine.take(TYPES_MAX) {
            let named = text.split_once('/').filter(|(name, id)| name == entity_type && !id.is_empty());
            for id in [Some(text), named.map(|(_, id)| id)].into_iter().flatten() {
                let entity = |id: &str| Entity { entity_type: entity_type.clone(), entity_id: id.to_owned() };
                if !source.log.history(entity_type, id, Instant::default())?.is_empty() {
                    found.exact.push(entity(id));
                }
                let near = source.log.ids(entity_type, id, None, NEAR + 1)?;
                found.begin.extend(near.iter().filter(|other| *other != id).take(NEAR).map(|id| entity(id)));
            }
        }
        if let Ok(sequence) = text.trim_start_matches('#').parse() {
            let around = source.log.around(sequence)?;
            let event = around.iter().find(|event| event.sequence == sequence);
            found.event = event.filter(|event| source.caller.may_touch(&event.entity_type)).map(|_| sequence);
        }
        Ok(found)
    }
}

pub(crate) fn page(view: &View, source: &Source, text: &str, found: &Found) -> Response {
    // Whoever names what is there once wants to see it. What a browser cannot name leads here, and not away again.
    if let ([only], true) = (found.exact.as_slice(), found.event.is_none())
        && ![".", ".."].contains(&only.entity_id.as_str())
    {
        return see_other(&view.to(&["e", &only.entity_type, &only.entity_id]));
    }
    let is_nothing = found.exact.is_empty() && found.begin.is_empty() && found.event.is_none();
    let list = |entities: &[Entity]| {
        html! {
            ul.rows {
                @for entity in entities {
                    @if [".", ".."].contains(&entity.entity_id.as_str()) {
                        li data-row {
                            (entity.entity_type) " " (value::id(&entity.entity_id)) ": a browser cannot ask for this id; "
                            code { "curl --path-as-is '" (view.server) "/e/" (entity.entity_type) "/" (entity.entity_id) "'" } " can"
                        }
                    } @else {
                        li data-row {
                            a href=(view.to(&["e", &entity.entity_type, &entity.entity_id])) {
                                (entity.entity_type) " " (value::id(&entity.entity_id))
                            }
                        }
                    }
                }
            }
        }
    };
    let body = html! {
        @if text.is_empty() {
            p { "Type an id above, the whole of it or its beginning. " code { "User/user_123" } " looks in one type only." }
        } @else if is_nothing {
            p.refused role="status" { "No entity has the id " (value::id(text)) ", and none has one that begins so." }
            p { "Ids count in upper and lower case. " a href=(view.to(&["e"])) { "Look through the types" } }
        }
        @if let Some(sequence) = found.event {
            p { a href=(view.to(&["events", &sequence.to_string()])) { "Event #" (sequence) } }
        }
        @if !found.exact.is_empty() { h2 { "With this id" } (list(&found.exact)) }
        @if !found.begin.is_empty() { h2 { "Beginning so" } (list(&found.begin)) }
        @if source.caller.key_name().is_some() && is_nothing && !text.is_empty() {
            p.hint { "Types that your key is not for are not looked through." }
        }
    };
    let page = Page::new(Place::Elsewhere, "Find", body);
    let page = if text.is_empty() { page } else { page.of(text) };
    page.respond(view)
}
