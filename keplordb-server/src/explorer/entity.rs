//! An entity at an instant: its fields, when each of them was set and by whom, and what it refers to.

use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::page::{Page, Place, see_other};
use super::view::View;
use super::{Source, absent, frame, relations, time, value};
use crate::blame::{Blame, blame};
use crate::entity::{self, EntityEvent, Instant};
use crate::fold::Operation;
use crate::http::Failure;

/// Fields of a page; one that is opened shows a few at a time, and a page is no larger than a picture.
const FIELDS_MAX: usize = 60;

/// The page of an entity; `step` is what the slider was set to.
pub(crate) fn page(
    view: &View,
    source: &Source,
    entity_type: &str,
    id: &str,
    step: Option<usize>,
) -> Result<Response, Failure> {
    let Instant { as_of_ms, known_at_ms } = view.instant;
    let known = source.log.history(entity_type, id, Instant { as_of_ms: None, known_at_ms })?;
    let steps = steps(&known);
    if let Some(step) = step {
        return Ok(see_other(&at_step(view, &steps, step)));
    }
    let seen = known.partition_point(|event| as_of_ms.is_none_or(|as_of_ms| event.event_time_ms <= as_of_ms));
    let events = &known[..seen];
    let Some(last) = events.last() else { return absent::page(view, source, entity_type, id) };
    // What a delete ended is shown as it was before.
    let live = events.iter().rposition(|event| event.operation != Operation::Delete).map_or(0, |at| at + 1);
    let deleted = events.get(live);
    let before = &events[..live];
    let fields = blame(before);
    let fold = entity::fold(before);
    let state = fold.state().cloned().map(Value::Object);
    let schema = source.schemas.newest().and_then(|schema| schema.get(entity_type));
    let related = state.as_ref().and_then(Value::as_object);
    let body = html! {
        p.facts {
            @if deleted.is_some() { span.badge.delete { "deleted" } } @else { span.badge.live { "live" } }
            " version " strong { (events.len()) } @if known.len() > events.len() { " of " (known.len()) }
            ", changed at " (time::time(last.event_time_ms))
            @if let Some(gap) = time::gap(last.event_time_ms, last.received_at_ms) { ", came in " span.late { (gap) } }
            @if !last.client.is_empty() { ", by " bdi { (last.client) } }
            ", event " a href=(view.to(&["events", &last.sequence.to_string()])) { "#" (last.sequence) }
        }
        (tabs(view, entity_type, id, Tab::Now))
        (slider(view, &steps, last))
        @if let Some(delete) = deleted { (tombstone(view, entity_type, id, delete, before.last())) }
        @match &state {
            Some(state) => {
                (table(view, entity_type, id, schema, &fields, deleted.is_some()))
                (relations::section(view, source, entity_type, id, schema, related)?)
                (raw(view, state))
            },
            None => { p.answer { "It never had a state: nothing but deletes is known of it." } },
        }
        (commands(view, entity_type, id))
    };
    let page = Page::new(Place::Entities, id, body).headed(value::id(id)).of(entity_type);
    let page = page.within(html! { "Entities" }, view.to(&["e"]));
    Ok(page.within(html! { (entity_type) }, view.to(&["e", entity_type])).of_time().respond(view))
}

/// The times at which the entity became another one. Events of the same millisecond are one step: no instant is between them.
fn steps(events: &[EntityEvent]) -> Vec<i64> {
    let mut times: Vec<i64> = events.iter().map(|event| event.event_time_ms).collect();
    times.dedup();
    times
}

/// Where the slider leads. The newest version is that of now, which goes on.
fn at_step(view: &View, steps: &[i64], step: usize) -> super::link::Url {
    match steps.get(step.saturating_sub(1)) {
        Some(time_ms) if step < steps.len() => view.here_at(*time_ms),
        _ => view.here().without("step").without("as_of"),
    }
}

/// A slider over versions, which a form sends where no script moves it.
fn slider(view: &View, steps: &[i64], last: &EntityEvent) -> Markup {
    if steps.len() < 2 {
        return html! {};
    }
    let at = steps.partition_point(|time_ms| *time_ms <= last.event_time_ms);
    let link = |step: usize| at_step(view, steps, step);
    let form = view.here().without("step").without("as_of");
    html! {
        form.slider method="get" action=(form.path()) data-slider {
            (frame::carried(form.query()))
            label for="step" { "Version in time " output for="step" { (at) } " of " (steps.len()) }
            span.move {
                @if at > 1 { a.button rel="prev" href=(link(at - 1)) data-key="[" { "Older" } }
                @else { span.button.off { "Older" } }
                input #step type="range" name="step" min="1" max=(steps.len()) value=(at)
                    aria-valuetext=(time::iso(last.event_time_ms));
                @if at < steps.len() { a.button rel="next" href=(link(at + 1)) data-key="]" { "Newer" } }
                @else { span.button.off { "Newer" } }
                button { "Go" }
            }
            span.ends { span { "oldest " (time::time(steps[0])) } span { "newest " (time::time(steps[steps.len() - 1])) } }
        }
    }
}

/// Who ended it, and when.
fn tombstone(
    view: &View,
    entity_type: &str,
    id: &str,
    delete: &EntityEvent,
    before: Option<&EntityEvent>,
) -> Markup {
    let before_ms = before.map(|event| event.event_time_ms).filter(|time_ms| *time_ms < delete.event_time_ms);
    html! {
        p.tombstone role="status" {
            strong { "Deleted" } " at " (time::time(delete.event_time_ms))
            @if !delete.client.is_empty() { " by " bdi { (delete.client) } }
            ", event " a href=(view.to(&["events", &delete.sequence.to_string()])) { "#" (delete.sequence) } ". "
            "Below is what it was before. "
            @if let Some(before_ms) = before_ms {
                a href=(view.to(&["e", entity_type, id]).with("as_of", &time::iso(before_ms))) { "The state before the deletion" }
            }
        }
    }
}

fn table(
    view: &View,
    entity_type: &str,
    id: &str,
    schema: Option<&crate::schema::EntityType>,
    fields: &[Blame],
    is_deleted: bool,
) -> Markup {
    let more = fields.len().saturating_sub(FIELDS_MAX);
    html! {
        @if fields.is_empty() { p.answer { "It has no fields." } }
        @else {
            table.fields.deleted[is_deleted] {
                caption { (value::of(fields.len() as u64, "field", "fields")) @if is_deleted { ", before the deletion" } }
                thead {
                    tr {
                        th scope="col" { "Field" }
                        th scope="col" { "Value" }
                        th scope="col" { "Set at" }
                        th scope="col" { "By" }
                    }
                }
                tbody {
                    @for field in fields.iter().take(FIELDS_MAX) {
                        tr data-row {
                            th scope="row" { (value::path(&field.path)) }
                            td data-label="Value" { (of_field(view, schema, field)) }
                            td data-label="Set at" { (time::time(field.event_time_ms)) }
                            td data-label="By" {
                                a href=(view.to(&["events", &field.sequence.to_string()]))
                                    title="The event that set it" {
                                    @if field.client.is_empty() { "#" (field.sequence) } @else { bdi { (field.client) } }
                                }
                            }
                        }
                    }
                }
            }
            @if more > 0 {
                p.hint {
                    (value::of(more as u64, "more field", "more fields")) ": "
                    a href=(view.to(&["e", entity_type, id]).with("format", "json")) { "all of them as JSON" }
                }
            }
        }
    }
}

/// The value of a field, with where it leads.
fn of_field(view: &View, schema: Option<&crate::schema::EntityType>, field: &Blame) -> Markup {
    match field.path.as_slice() {
        [name] => relations::linked(view, schema, name, &field.value),
        _ => value::cell(&field.value),
    }
}

fn raw(view: &View, state: &Value) -> Markup {
    let (text, is_whole) = value::block(state);
    html! {
        details {
            summary { "Raw JSON" }
            (text)
            @if !is_whole { p.hint { a href=(view.here().with("format", "json")) { "The whole of it" } } }
        }
    }
}

/// How a program asks for the same.
fn commands(view: &View, entity_type: &str, id: &str) -> Markup {
    let [as_of, known_at] = view.instant_texts();
    let option = |name: &str, time: &Option<String>| {
        time.as_ref().map(|time| format!(" {name} {time}")).unwrap_or_default()
    };
    let name = quoted(&format!("{entity_type}/{id}"));
    let (as_of, known_at) = (option("--as-of", &as_of), option("--known-at", &known_at));
    let cli = format!("keplor get ROOT {name}{as_of}{known_at}");
    let curl = format!("curl {}", quoted(&view.for_programs()));
    html! {
        details {
            summary { "Ask for it from a terminal" }
            dl.commands {
                dt { "curl" }
                dd { code data-copy { (curl) } }
                dt { "keplor" }
                dd { code data-copy { (cli) } }
            }
        }
    }
}

/// A text as a shell takes it for one word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The pages of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Now,
    History,
    Blame,
    Diff,
    Versions,
}

/// What leads from one page of an entity to the others.
pub(super) fn tabs(view: &View, entity_type: &str, id: &str, current: Tab) -> Markup {
    let tabs = [
        (Tab::Now, "Fields", None),
        (Tab::History, "History", Some("history")),
        (Tab::Blame, "Blame", Some("blame")),
        (Tab::Diff, "Compare", Some("diff")),
        (Tab::Versions, "Both times", Some("versions")),
    ];
    html! {
        nav.tabs aria-label="Of this entity" {
            ul {
                @for (tab, name, last) in tabs {
                    @let whole: Vec<&str> = ["e", entity_type, id].into_iter().chain(last).collect();
                    li { a href=(view.to(&whole)) aria-current=[(tab == current).then_some("page")] { (name) } }
                }
            }
        }
    }
}

/// A page of an entity that is not its first one.
pub(super) fn part(view: &View, entity_type: &str, id: &str, name: &str, body: Markup) -> Page {
    let page = Page::new(Place::Entities, name, body).of(id).of(entity_type);
    page.headed(html! { (name) " of " (value::id(id)) })
        .within(html! { "Entities" }, view.to(&["e"]))
        .within(html! { (entity_type) }, view.to(&["e", entity_type]))
        .within(value::id(&value::title(id)), view.to(&["e", entity_type, id]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_any_id_for_one_word() {
        assert_eq!(quoted("User/a b"), "'User/a b'");
        assert_eq!(quoted("it's $HOME `x`"), r"'it'\''s $HOME `x`'");
    }
}
