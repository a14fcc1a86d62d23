//! The entities of a type, by their ids.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::page::{Page, Place};
use super::view::View;
use super::{Source, frame, relations, time, types, value};
use crate::http::{Entity, Failure, Page as Listed};
use crate::schema::EntityType;

/// Columns of fields; a table with more is read by nobody.
const COLUMNS_MAX: usize = 7;
/// Characters of a column's name.
const NAME_CHARS: usize = 24;
/// A field that fewer entities have than one in so many is no column.
const RARE: usize = 10;

/// Fields among which they are chosen: a state with more is a map, whose keys are no columns.
const KEYS_MAX: usize = 200;

/// What a table shows of an entity.
pub(super) struct Row<'a> {
    pub(super) id: &'a str,
    /// Nothing where it is deleted.
    pub(super) state: Option<&'a Map<String, Value>>,
    pub(super) version: u64,
    pub(super) changed_ms: i64,
}

impl<'a> From<&'a Entity> for Row<'a> {
    fn from(entity: &'a Entity) -> Self {
        Self {
            id: &entity.entity_id,
            state: entity.state.as_ref(),
            version: entity.version,
            changed_ms: entity.event_time_ms,
        }
    }
}

pub(crate) fn page(
    view: &View,
    source: &Source,
    entity_type: &str,
    begin: &str,
    listed: &Listed,
) -> Result<Response, Failure> {
    let rows: Vec<Row<'_>> = listed.entities.iter().map(Row::from).collect();
    let schema = source.schemas.newest().and_then(|schema| schema.get(entity_type));
    let is_begun = view.parameter("after").is_some();
    let deleted = rows.iter().filter(|row| row.state.is_none()).count();
    let unseen = listed.looked_at - rows.len();
    let is_unknown = listed.looked_at == 0
        && begin.is_empty()
        && !is_begun
        && !source.log.types()?.iter().any(|of_type| of_type.entity_type == entity_type);
    let body = html! {
        (bars(view, entity_type, begin, view.parameter("q").unwrap_or_default()))
        @if is_unknown {
            @if schema.is_some() { p.answer role="status" { "The schema has this type, and no event of it has come in yet." } }
            @else { p.refused role="alert" { "There is no event of this type." } }
            @if source.log.types()?.is_empty() { (types::no_events(view)) }
        } @else {
            @if listed.looked_at == 0 {
                p.answer role="status" {
                    @if is_begun { "There are no more." }
                    @else { "No id begins with " (value::id(begin)) "." }
                }
            }
            @if unseen > 0 {
                p.answer role="status" {
                    (value::of(unseen as u64, "id", "ids")) " of this page "
                    @if unseen == 1 { "was" } @else { "were" } " not there yet at this instant."
                }
            }
            @if deleted > 0 && deleted == rows.len() {
                p.answer role="status" {
                    (value::of(deleted as u64, "entity", "entities")) ", "
                    @if is_begun || listed.next.is_some() { "all of this page deleted." } @else { "all deleted." }
                    " Each shows what it was before."
                }
            }
            @if !rows.is_empty() {
                @let caption = html! { (entity_type) ", by id" @if !begin.is_empty() { ", beginning with " (value::id(begin)) } };
                (table(view, entity_type, schema, &rows, &caption))
            }
            nav.pages aria-label="Pages" {
                @if is_begun { a href=(view.here().without("after")) { "From the beginning" } }
                @if let Some(next) = &listed.next {
                    a rel="next" href=(view.here().with("after", next)) { "Next page" }
                }
            }
        }
    };
    let status = if is_unknown && schema.is_none() { StatusCode::NOT_FOUND } else { StatusCode::OK };
    Ok(around(view, entity_type, body).with_status(status).respond(view))
}

pub(super) fn around(view: &View, entity_type: &str, body: Markup) -> Page {
    Page::new(Place::Entities, entity_type, body).within(html! { "Entities" }, view.to(&["e"])).of_time()
}

/// Ids by how they begin, and RQL.
pub(super) fn bars(view: &View, entity_type: &str, begin: &str, query: &str) -> Markup {
    let here = view.to(&["e", entity_type]);
    html! {
        div.bars {
            form method="get" action=(here.path()) {
                (frame::carried(here.query()))
                label for="begin" { "Ids that begin with" }
                input #begin name="begin" value=(begin) autocomplete="off" spellcheck="false" maxlength="1024";
                button { "List" }
            }
            @if cfg!(feature = "sql") {
                form method="get" action=(here.path()) {
                    (frame::carried(here.query()))
                    label for="q" { "Query in RQL" }
                    input #q name="q" value=(query) autocomplete="off" spellcheck="false"
                        placeholder="where:(plan=free) order:name limit:20";
                    button { "Ask" }
                }
            }
        }
    }
}

/// Entities with those of their fields that most of them have.
pub(super) fn table(
    view: &View,
    entity_type: &str,
    schema: Option<&EntityType>,
    rows: &[Row<'_>],
    caption: &Markup,
) -> Markup {
    let columns = columns(schema, rows);
    html! {
        div.wide tabindex="0" role="region" aria-label="Entities" {
            table.rows {
                caption { (caption) }
                thead {
                    tr {
                        th scope="col" { "Id" }
                        @for column in &columns { th scope="col" { bdi { (value::short(column, NAME_CHARS)) } } }
                        th.number scope="col" { "Version" }
                        th scope="col" { "Changed at" }
                    }
                }
                tbody {
                    @for row in rows {
                        tr.deleted[row.state.is_none()] data-row {
                            th scope="row" {
                                a href=(view.to(&["e", entity_type, row.id])) { (value::id(row.id)) }
                                @if row.state.is_none() { " " span.badge.delete { "deleted" } }
                            }
                            @for column in &columns {
                                td data-label=(column) {
                                    @if let Some(value) = row.state.and_then(|state| state.get(*column)) {
                                        (relations::linked(view, schema, column, value))
                                    }
                                }
                            }
                            td.number data-label="Version" { (value::count(row.version)) }
                            td data-label="Changed at" { (time::time(row.changed_ms)) }
                        }
                    }
                }
            }
        }
    }
}

/// The fields that most of these entities have; in the order of the schema, and else in theirs.
fn columns<'a>(schema: Option<&EntityType>, rows: &[Row<'a>]) -> Vec<&'a str> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for key in rows.iter().filter_map(|row| row.state).flat_map(Map::keys) {
        if let Some((_, count)) = counts.iter_mut().find(|(other, _)| other == key) {
            *count += 1;
        } else if counts.len() < KEYS_MAX {
            counts.push((key, 1));
        }
    }
    let order: Vec<String> = schema
        .map(|of_type| of_type.fields().into_iter().map(|field| field.path).collect())
        .unwrap_or_default();
    let place = |key: &str| order.iter().position(|other| other == key).unwrap_or(usize::MAX);
    // Stable, so that what is equal stays in the order in which it was met.
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.retain(|(_, count)| count * RARE >= rows.len());
    counts.truncate(COLUMNS_MAX);
    counts.sort_by_key(|(key, _)| place(key));
    counts.into_iter().map(|(key, _)| key).collect()
}

/// The answer to a query where nothing answers queries.
#[cfg(not(feature = "sql"))]
pub(crate) fn without_queries(view: &View, entity_type: &str) -> Response {
    let body = html! {
        p.refused role="alert" { "This server was built without queries." }
        p {
            "Build it with the feature " code { "sql" } ", which is on by default, to ask in RQL and SQL. "
            "Ids can be listed by how they begin all the same."
        }
        (bars(view, entity_type, "", ""))
    };
    around(view, entity_type, body).with_status(StatusCode::BAD_REQUEST).respond(view)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_the_fields_that_most_have() {
        let states: Vec<_> = (0..12).map(|n| json!({"name": n, "plan": n, format!("only_{n}"): n})).collect();
        let rows: Vec<_> = states
            .iter()
            .map(|state| Row { id: "x", state: state.as_object(), version: 1, changed_ms: 0 })
            .collect();
        let columns = columns(None, &rows);
        assert_eq!(columns, ["name", "plan"], "what one in twelve has is no column");
    }
}
