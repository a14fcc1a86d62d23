//! What a query in RQL finds among the entities of a type.

use axum::response::Response;
use maud::{Markup, html};

use super::entities::{Row, around, bars, table};
use super::value;
use super::view::View;
use crate::http::Failure;
use crate::rql::{Condition, Query};
use crate::schema::EntityType;
use crate::sql::RqlAnswer;

/// Entities of a page where the query does not say how many.
const LIMIT: u64 = 50;

/// The query that a text is, at the instant of the page where it names none itself.
pub(crate) fn read(view: &View, text: &str) -> Result<Query, Failure> {
    let mut query = Query::parse(text).map_err(|error| Failure::invalid(error.to_string()))?;
    query.as_of_ms = query.as_of_ms.or(view.instant.as_of_ms);
    query.known_at_ms = query.known_at_ms.or(view.instant.known_at_ms);
    query.limit = query.limit.or(Some(LIMIT));
    Ok(query)
}

pub(crate) fn page(
    view: &View,
    entity_type: &str,
    schema: Option<&EntityType>,
    text: &str,
    asked: &Query,
    answer: &RqlAnswer,
) -> Response {
    let rows: Vec<Row<'_>> = answer
        .entities
        .iter()
        .map(|entity| Row {
            id: &entity.entity_id,
            state: Some(&entity.state),
            version: entity.version,
            changed_ms: entity.updated_at_ms,
        })
        .collect();
    let here = |query: &Query| view.to(&["e", entity_type]).with("q", &query.to_string());
    let body = html! {
        (bars(view, entity_type, "", text))
        @if rows.is_empty() {
            p.answer role="status" { "Nothing matches " code { (asked) } }
            (without(asked, &here))
        } @else {
            (table(view, entity_type, schema, &rows, &html! { (value::of(rows.len() as u64, "entity", "entities")) " that match " code { (asked) } }))
        }
        nav.pages aria-label="Pages" {
            a href=(view.to(&["e", entity_type])) { "All by id" }
            @if let Some(cursor) = &answer.cursor {
                a rel="next" href=(here(&Query { cursor: Some(cursor.clone()), ..asked.clone() })) { "Next page" }
            }
        }
    };
    around(view, entity_type, body).respond(view)
}

/// The query without one of its conditions each, of which one may be too many.
fn without(asked: &Query, here: &impl Fn(&Query) -> super::link::Url) -> Markup {
    let conditions = match &asked.condition {
        None => Vec::new(),
        Some(Condition::And(all)) => all.clone(),
        Some(one) => vec![one.clone()],
    };
    html! {
        @if !conditions.is_empty() {
            p { "Ask without:" }
            ul {
                @for (index, condition) in conditions.iter().enumerate() {
                    @let others = conditions.iter().enumerate().filter(|(other, _)| *other != index);
                    @let rest = Condition::all(others.map(|(_, condition)| condition.clone()).collect());
                    li { a href=(here(&Query { condition: rest, ..asked.clone() })) { code { (condition) } } }
                }
            }
        }
    }
}
