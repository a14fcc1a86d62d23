//! What there is: how many events, how far they are published, and the last of them.

use axum::response::Response;
use maud::{Markup, html};
use serde::Serialize;

use super::page::{Page, Place};
use super::view::View;
use super::{Source, events, time, types, value};
use crate::capture::Capture;
use crate::entity::{EntityEvent, Instant};
use crate::error::Refused;
use crate::http::Failure;
use crate::lake::LakeState;
use crate::log::Selection;

/// Events that are shown.
const EVENTS: usize = 10;

/// What the first page says.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// The sequence of the last event.
    head: Option<u64>,
    events: u64,
    types: usize,
    /// Files of the log.
    segments: u64,
    /// Why no events are taken, where none are.
    warning: Option<String>,
    published: Option<Publication>,
    /// Oldest first.
    last: Vec<EntityEvent>,
}

/// What other programs read.
#[derive(Debug, Serialize)]
struct Publication {
    /// The last event whose rows are there.
    checkpoint: u64,
    files: u64,
    bytes: u64,
    /// Events that came in since.
    behind: u64,
    /// When the first of them did, in milliseconds since the Unix epoch.
    behind_since_ms: Option<i64>,
    damage: Option<String>,
}

impl Summary {
    pub(crate) fn of(capture: &Capture, source: &Source) -> Result<Self, Failure> {
        let mut types = source.log.types()?;
        types.retain(|of_type| source.caller.may_touch(&of_type.entity_type));
        // A selection without types means all of them.
        let mut selection = Selection::default();
        if source.caller.check_selection(&selection).is_err() {
            selection.entity_types = types.iter().map(|of_type| of_type.entity_type.clone()).collect();
        }
        let last = if types.is_empty() {
            Vec::new()
        } else {
            source.log.last_before(&selection, None, Instant::default(), EVENTS)?
        };
        // What is wrong with the files is for whoever keeps the server, and its log says it; here it is said that something is.
        let published = match LakeState::beside(capture.root()) {
            Ok(None) | Err(_) => None,
            Ok(Some(state)) => {
                let behind = source.log.behind(state.checkpoint_seq)?;
                Some(Publication {
                    checkpoint: state.checkpoint_seq,
                    files: state.files,
                    bytes: state.bytes,
                    behind: behind.events,
                    behind_since_ms: behind.first_received_ms,
                    damage: state
                        .damage
                        .map(|_| "the published files are damaged; the server makes them anew".to_owned()),
                })
            }
        };
        let warning = capture.health().map_err(Refused::for_anybody).err().map(|refused| refused.to_string());
        Ok(Self {
            head: last.last().map(|event| event.sequence),
            events: types.iter().map(|of_type| of_type.events).sum(),
            types: types.len(),
            segments: capture.segments(),
            warning,
            published,
            last,
        })
    }
}

pub(crate) fn page(view: &View, source: &Source, summary: &Summary) -> Response {
    let body = html! {
        @if let Some(warning) = &summary.warning {
            p.refused role="alert" { strong { "No events are taken: " } (warning) }
        }
        @if let Some(damage) = summary.published.as_ref().and_then(|published| published.damage.as_ref()) {
            p.refused role="alert" { (damage) }
        }
        @if summary.events == 0 { (types::no_events(view)) }
        @else {
            (figures(view, source, summary))
            h2 { "Newest events" }
            div.wide tabindex="0" role="region" aria-label="Events" { (events::table(view, &summary.last, "Newest first")) }
            p { a href=(view.to(&["events"])) { "All events" } }
        }
    };
    let page = Page::new(Place::Home, "KeplorDB", body);
    page.headed(html! { "What there is" }).respond(view)
}

fn figures(view: &View, source: &Source, summary: &Summary) -> Markup {
    let schema = source.schemas.newest();
    html! {
        dl.figures {
            div { dt { "Events" } dd { a href=(view.to(&["events"])) { (value::count(summary.events)) } } }
            div { dt { "Types" } dd { a href=(view.to(&["e"])) { (value::count(summary.types as u64)) } } }
            div {
                dt { "Schema" }
                dd {
                    a href=(view.to(&["schema"])) {
                        @match schema { Some(schema) => { "version " (schema.version()) }, None => "none" }
                    }
                }
            }
            @if let Some(head) = summary.head {
                div { dt { "Newest event" } dd { a href=(view.to(&["events", &head.to_string()])) { "#" (head) } } }
            }
            div { dt { "Files of the log" } dd { (value::count(summary.segments)) } }
            @match &summary.published {
                None => { div { dt { "Published as Parquet" } dd { span.none { "nothing yet" } } } },
                Some(published) => {
                    div {
                        dt { "Published as Parquet" }
                        dd { (value::of(published.files, "file", "files")) ", " (bytes(published.bytes)) }
                    }
                    div {
                        dt { "Behind" }
                        dd {
                            @if published.behind == 0 { "nothing" }
                            @else {
                                (value::of(published.behind, "event", "events"))
                                @if let Some(since_ms) = published.behind_since_ms { ", since " (time::time(since_ms)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A number of bytes for a person.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for larger in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit() {
        for (number, text) in [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB")]
        {
            assert_eq!(bytes(number), text);
        }
    }
}
