//! What an entity was in which span of time, and in which span of time that was what was known.

use axum::response::Response;
use maud::{Markup, html};

use super::entity::{Tab, part, tabs};
use super::view::View;
use super::{time, value};
use crate::versions::Version;

/// Versions of a page, the newest ones.
const ROWS_MAX: usize = 100;
/// Fields of a row that are named.
const FIELDS_MAX: usize = 8;

pub(crate) fn page(view: &View, entity_type: &str, id: &str, versions: &[Version]) -> Response {
    let more = versions.len().saturating_sub(ROWS_MAX);
    let body = html! {
        (tabs(view, entity_type, id, Tab::Versions))
        p.hint {
            "Valid: when it was so. Known: when this was what was known of it. A late event ends what was known, and changes nothing that was said."
        }
        div.wide tabindex="0" role="region" aria-label="Versions" {
            table.rows {
                caption { (value::of(versions.len() as u64, "version", "versions")) " on both axes of time, the newest first" }
                thead {
                    tr {
                        th.number scope="col" { "Version" }
                        th scope="col" { "What" }
                        th scope="col" { "Valid from" }
                        th scope="col" { "Valid to" }
                        th scope="col" { "Known from" }
                        th scope="col" { "Known to" }
                        th scope="col" { "Changed" }
                    }
                }
                tbody {
                    @for version in versions.iter().rev().take(ROWS_MAX) { (row(view, entity_type, id, version)) }
                }
            }
        }
        @if more > 0 {
            p.hint {
                (value::of(more as u64, "older version", "older versions")) ": "
                a href=(view.here().with("format", "json")) { "all of them as JSON" }
            }
        }
    };
    part(view, entity_type, id, "Versions", body).respond(view)
}

fn row(view: &View, entity_type: &str, id: &str, version: &Version) -> Markup {
    let end = |time_ms: Option<i64>| time_ms.map_or_else(|| html! { span.none { "still" } }, time::time);
    let there = view.to_timeless(&["e", entity_type, id]).with("as_of", &time::iso(version.valid_from_ms));
    // The last millisecond in which it was known; what is known still needs none.
    let there = match version.known_to_ms {
        Some(known_to_ms) => there.with("known_at", &time::iso(known_to_ms.saturating_sub(1))),
        None => there,
    };
    html! {
        tr.past[version.known_to_ms.is_some()] data-row {
            th.number scope="row" { a href=(there) { (version.version) } }
            td data-label="What" {
                (value::badge(version.operation)) " "
                a href=(view.to(&["events", &version.sequence.to_string()])) { "#" (version.sequence) }
            }
            td data-label="Valid from" { (time::time(version.valid_from_ms)) }
            td data-label="Valid to" { (end(version.valid_to_ms)) }
            td data-label="Known from" { (time::time(version.known_from_ms)) }
            td data-label="Known to" { (end(version.known_to_ms)) }
            td data-label="Changed" {
                @for (index, field) in version.changed.iter().take(FIELDS_MAX).enumerate() {
                    @if index > 0 { ", " } bdi.path { (field) }
                }
                @if version.changed.len() > FIELDS_MAX { " and " (version.changed.len() - FIELDS_MAX) " more" }
                @if version.changed.is_empty() { span.none { "nothing" } }
            }
        }
    }
}
