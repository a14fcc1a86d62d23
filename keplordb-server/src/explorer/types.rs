//! The types of entities of which there are events, and those of the schema that have none yet.

use axum::response::Response;
use maud::{Markup, html};

use super::page::{Page, Place};
use super::view::View;
use super::{Source, time, value};
use crate::log::TypeSummary;

pub(crate) fn page(view: &View, source: &Source, types: &[TypeSummary]) -> Response {
    let schema = source.schemas.newest();
    let is_known = |name: &str| schema.is_some_and(|schema| schema.get(name).is_some());
    let has_events = |name: &str| types.iter().any(|of_type| of_type.entity_type == name);
    let empty: Vec<&str> =
        schema.map(|schema| schema.types().filter(|name| !has_events(name)).collect()).unwrap_or_default();
    let body = html! {
        @if types.is_empty() { (no_events(view)) }
        @else {
            div.wide tabindex="0" role="region" aria-label="Types" {
                table.rows {
                    caption { (value::of(types.len() as u64, "type", "types")) " of entities" }
                    thead {
                        tr {
                            th scope="col" { "Type" }
                            th.number scope="col" { "Events" }
                            th scope="col" { "Oldest came in" }
                            th scope="col" { "Newest came in" }
                            th scope="col" { "Schema" }
                        }
                    }
                    tbody {
                        @for of_type in types {
                            @let name = of_type.entity_type.as_str();
                            tr data-row {
                                th scope="row" { a href=(view.to(&["e", name])) { (name) } }
                                td.number data-label="Events" {
                                    a href=(view.to(&["events"]).with("type", name)) { (value::count(of_type.events)) }
                                }
                                td data-label="Oldest came in" { (time::time(of_type.first_received_ms)) }
                                td data-label="Newest came in" { (time::time(of_type.last_received_ms)) }
                                td data-label="Schema" {
                                    @if is_known(name) { a href=(view.to(&["schema", name])) { "fields" } }
                                    @else if schema.is_some() { span.badge.warn { "not in the schema" } }
                                    @else { span.none { "none" } }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if !empty.is_empty() {
            h2 { "In the schema, without events" }
            ul.inline { @for name in empty { li { a href=(view.to(&["schema", name])) { (name) } } } }
        }
        @if schema.is_none() && !types.is_empty() {
            p.hint {
                "There is no schema: any type is taken, and tables with a column for each field need one. "
                a href=(view.to(&["schema"])) { "How to give one" }
            }
        }
    };
    Page::new(Place::Entities, "Entities", body).respond(view)
}

/// What there is to do where nothing was ever captured.
pub(super) fn no_events(view: &View) -> Markup {
    html! {
        section.empty data-empty {
            h2 { "No events yet" }
            p { "Send the first one; this page shows it when it is loaded again, and by itself where the script runs." }
            pre tabindex="0" {
                code {
                    "keplor ingest --server " (view.server) " --type User --entity user_123 \\\n"
                    "  --op CREATE --payload '{\"name\": \"Ada\", \"plan\": \"free\"}'"
                }
            }
            p { "Or over HTTP:" }
            pre tabindex="0" {
                code {
                    "curl " (view.server) "/events -H 'content-type: application/json' \\\n"
                    "  -d '{\"entity_type\": \"User\", \"entity_id\": \"user_123\", \"operation\": \"CREATE\", \"payload\": {\"name\": \"Ada\"}}'"
                }
            }
        }
    }
}
