//! The events of a to-do list, from a number each, and the reducers that both crates are given.

use std::collections::BTreeMap;

use keplordb_fold::Event;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The event of a number: seven of ten add an item, two complete one, one is of no interest.
pub(crate) fn event(number: u64) -> Event {
    let (kind, data) = match number % 10 {
        7 | 8 => ("todo_completed", json!({ "id": number / 2 })),
        9 => ("page_viewed", json!({ "page": format!("/lists/{}", number % 100), "ms": number % 1000 })),
        _ => ("todo_added", json!({ "id": number, "text": format!("item number {number}"), "priority": number % 5 })),
    };
    let event = Event::new(kind, data).with_actor(format!("user_{}", number % 1000));
    Event { ts: 1_700_000_000 + number / 100, ..event }
}

/// The same for the other crate, whose type has the same fields.
pub(crate) fn theirs(event: &Event) -> eventfold::Event {
    let Event { event_type, data, ts, id, actor, meta } = event.clone();
    eventfold::Event { event_type, data, ts, id, actor, meta }
}

/// What a line takes on average, newline included.
pub(crate) fn mean_line_bytes() -> usize {
    let lines = (0..1000).map(|number| serde_json::to_vec(&event(number * 997)).expect("an event is JSON").len() + 1);
    lines.sum::<usize>() / 1000
}

/// What the replays come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) added: u64,
    pub(crate) completed: u64,
    pub(crate) priorities: BTreeMap<u64, u64>,
}

impl Totals {
    fn add(&mut self, priority: u64) {
        self.added += 1;
        *self.priorities.entry(priority).or_default() += 1;
    }
}

/// Both crates' events, as far as reducers look at them.
pub(crate) trait Fields {
    fn kind(&self) -> &str;
    fn data(&self) -> &serde_json::Value;
}

impl Fields for Event {
    fn kind(&self) -> &str {
        &self.event_type
    }
    fn data(&self) -> &serde_json::Value {
        &self.data
    }
}

impl Fields for eventfold::Event {
    fn kind(&self) -> &str {
        &self.event_type
    }
    fn data(&self) -> &serde_json::Value {
        &self.data
    }
}

/// The reducer of untyped events.
pub(crate) fn total<E: Fields>(mut totals: Totals, event: &E) -> Totals {
    match event.kind() {
        "todo_added" => totals.add(event.data()["priority"].as_u64().unwrap_or(0)),
        "todo_completed" => totals.completed += 1,
        _ => {}
    }
    totals
}

/// The events that matter, typed.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub(crate) enum Todo {
    TodoAdded {
        priority: u64,
    },
    TodoCompleted {},
}

/// The reducer of typed events.
pub(crate) fn total_typed(mut totals: Totals, event: Todo) -> Totals {
    match event {
        Todo::TodoAdded { priority } => totals.add(priority),
        Todo::TodoCompleted {} => totals.completed += 1,
    }
    totals
}

/// A state of about a megabyte: the texts of the last items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Large {
    pub(crate) texts: Vec<String>,
    pub(crate) events: usize,
}

impl Default for Large {
    fn default() -> Self {
        let text = |number: usize| format!("{number:05} {}", "what is to be done about it, ".repeat(3));
        Self { texts: (0..10_000).map(text).collect(), events: 0 }
    }
}

/// A reducer that changes little of a large state.
pub(crate) fn keep<E: Fields>(mut state: Large, event: &E) -> Large {
    let place = state.events % state.texts.len();
    state.texts[place].truncate(90);
    state.texts[place].push_str(event.kind());
    state.events += 1;
    state
}
