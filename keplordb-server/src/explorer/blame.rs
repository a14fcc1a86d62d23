//! Of each field of an entity the event that set it.

use axum::response::Response;
use maud::html;

use super::entity::{Tab, part, tabs};
use super::view::View;
use super::{time, value};
use crate::blame::Blame;

/// Fields of a page.
const FIELDS_MAX: usize = 100;

pub(crate) fn page(view: &View, entity_type: &str, id: &str, fields: &[Blame]) -> Response {
    let more = fields.len().saturating_sub(FIELDS_MAX);
    let body = html! {
        (tabs(view, entity_type, id, Tab::Blame))
        @if fields.is_empty() {
            p.answer role="status" {
                "It has no field then, because it is deleted or nothing was ever set. Its "
                a href=(view.to(&["e", entity_type, id, "history"])) { "history" } " says which."
            }
        } @else {
            div.wide tabindex="0" role="region" aria-label="Blame" {
                table.rows {
                    caption { "Who set each field last" }
                    thead {
                        tr {
                            th scope="col" { "Field" }
                            th scope="col" { "Value" }
                            th scope="col" { "Before" }
                            th scope="col" { "By" }
                            th scope="col" { "Happened" }
                            th scope="col" { "Came in" }
                            th scope="col" { "Event" }
                        }
                    }
                    tbody {
                        @for field in fields.iter().take(FIELDS_MAX) {
                            tr data-row {
                                th scope="row" {
                                    a href=(view.to(&["e", entity_type, id, "history"]).with("field", &field.path.join(".")))
                                        title="Its history" { (value::path(&field.path)) }
                                }
                                td data-label="Value" { (value::cell(&field.value)) }
                                td data-label="Before" { (value::optional(field.previous.as_ref())) }
                                td data-label="By" {
                                    @if field.client.is_empty() { span.none { "nobody said" } } @else { bdi { (field.client) } }
                                }
                                td data-label="Happened" { (time::time(field.event_time_ms)) }
                                td data-label="Came in" {
                                    (time::time(field.received_at_ms))
                                    @if let Some(gap) = time::gap(field.event_time_ms, field.received_at_ms) { " " span.late { (gap) } }
                                }
                                td data-label="Event" {
                                    (value::badge(field.operation))
                                    " " a href=(view.to(&["events", &field.sequence.to_string()])) { "#" (field.sequence) }
                                }
                            }
                        }
                    }
                }
            }
            @if more > 0 {
                p.hint {
                    (value::of(more as u64, "more field", "more fields")) ": "
                    a href=(view.here().with("format", "json")) { "all of them as JSON" }
                }
            }
        }
    };
    part(view, entity_type, id, "Blame", body).of_time().respond(view)
}
