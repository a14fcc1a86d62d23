//! What an entity refers to, and what may refer to it, by the references of the schema.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::view::View;
use super::{Source, value};
use crate::entity;
use crate::http::Failure;
use crate::schema::{EntityType, Reference};

/// Entities that are looked up for a page, however many there are in a list.
const LOOKED_UP_MAX: usize = 12;

/// A field's value; where it refers to another entity, as a link to that.
pub(super) fn linked(view: &View, schema: Option<&EntityType>, name: &str, value: &Value) -> Markup {
    let reference = schema.and_then(|of_type| of_type.references().find(|(field, _)| field == name));
    match (reference, id_of(value)) {
        (Some((_, reference)), Some(id)) => {
            html! { a href=(target(view, reference, &id)) { (value::cell(value)) } }
        }
        _ => value::cell(value),
    }
}

/// Where a reference leads.
fn target(view: &View, reference: &Reference, id: &str) -> super::link::Url {
    if reference.field == "id" {
        return view.to(&["e", &reference.entity_type, id]);
    }
    let query = condition(&reference.field, id);
    view.to(&["e", &reference.entity_type]).with("q", &query)
}

/// A query for the entities with a value in a field.
fn condition(field: &str, text: &str) -> String {
    format!("where:({field}={})", Value::from(text))
}

/// A value as the id of an entity.
fn id_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What the page of an entity says of others.
pub(super) fn section(
    view: &View,
    source: &Source,
    entity_type: &str,
    id: &str,
    schema: Option<&EntityType>,
    state: Option<&Map<String, Value>>,
) -> Result<Markup, Failure> {
    let mut parents = Vec::new();
    let (Some(schema), Some(newest)) = (schema, source.schemas.newest()) else { return Ok(html! {}) };
    let mut left = LOOKED_UP_MAX;
    for (field, reference) in schema.references() {
        let Some(given) = state.and_then(|state| state.get(&field)) else { continue };
        let ids: Vec<String> = match given {
            Value::Array(all) => all.iter().filter_map(id_of).take(left).collect(),
            one => id_of(one).into_iter().collect(),
        };
        for other in ids {
            let is_looked_up = left > 0 && reference.field == "id";
            left = left.saturating_sub(1);
            let found = if is_looked_up && source.caller.may_touch(&reference.entity_type) {
                Some(source.log.history(&reference.entity_type, &other, view.instant)?)
            } else {
                None
            };
            let is = match found.as_deref() {
                None => "",
                Some([]) => "not there",
                Some(events) if entity::fold(events).state().is_none() => "deleted",
                Some(_) => "live",
            };
            parents.push((field.clone(), reference.clone(), other, is));
        }
    }
    let mut children = Vec::new();
    for name in newest.types() {
        for (field, reference) in newest.get(name).into_iter().flat_map(EntityType::references) {
            if reference.entity_type == entity_type && reference.field == "id" {
                children.push((name, field));
            }
        }
    }
    if parents.is_empty() && children.is_empty() {
        return Ok(html! {});
    }
    Ok(html! {
        section.relations aria-labelledby="relations" {
            h2 #relations { "Relations" }
            @if !parents.is_empty() {
                table.rows {
                    caption { "It refers to" }
                    thead { tr { th scope="col" { "Field" } th scope="col" { "Entity" } th scope="col" { "Is" } } }
                    tbody {
                        @for (field, reference, other, is) in &parents {
                            tr data-row {
                                th scope="row" { (field) }
                                td data-label="Entity" {
                                    a href=(target(view, reference, other)) { (reference.entity_type) " " (value::id(other)) }
                                }
                                td data-label="Is" { @if is.is_empty() { span.none { "not looked up" } } @else { (is) } }
                            }
                        }
                    }
                }
            }
            @if !children.is_empty() {
                h3 { "What may refer to it" }
                ul {
                    @for (name, field) in &children {
                        li {
                            @if cfg!(feature = "sql") {
                                a href=(view.to(&["e", name]).with("q", &condition(field, id))) {
                                    (name) " by " code { (field) }
                                }
                            } @else {
                                a href=(view.to(&["e", name])) { (name) } " by " code { (field) }
                            }
                        }
                    }
                }
            }
        }
    })
}
