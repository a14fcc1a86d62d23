//! What several test files need: events, and what a log has.

#![allow(dead_code, reason = "each test file uses a part of it")]

use keplordb_fold::{Event, EventReader};
use serde_json::json;

/// An event of a type, always the same.
pub(crate) fn event(kind: &str) -> Event {
    let mut event = Event::new(kind, json!({"key": "value"}));
    event.ts = 1000;
    event
}

/// The types of all events of a log, archived ones first. Fails at a line that is none.
pub(crate) fn all(reader: &EventReader) -> Vec<String> {
    reader.read_full().unwrap().map(|item| item.unwrap().0.event_type).collect()
}

/// The types of the events of the active log.
pub(crate) fn active(reader: &EventReader) -> Vec<String> {
    reader.read_from(0).unwrap().map(|item| item.unwrap().0.event_type).collect()
}

/// A reducer that keeps the types of all events.
pub(crate) fn types(mut types: Vec<String>, event: &Event) -> Vec<String> {
    types.push(event.event_type.clone());
    types
}
