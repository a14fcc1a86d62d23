//! Two views of one log: a to-do list, and how diligent its owner is. Each answers its own question from the same events.
//!
//! `EventLog::refresh_all` reads the log once for all views. Each view keeps a snapshot of its own, with the place that it has
//! come to, so one may be ahead of another, be deleted, or be added years later.
//!
//! Lines that begin with `//>` are what the program prints.
//!
//! ```text
//! cargo run -p keplordb-fold --example multi_view
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::Path;

use keplordb_fold::{Event, EventLog, snapshot};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What there is to do, by id.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Todos(BTreeMap<u64, Todo>);

#[derive(Clone, Serialize, Deserialize)]
struct Todo {
    text: String,
    is_done: bool,
}

fn todos(mut todos: Todos, event: &Event) -> Todos {
    let Some(id) = event.data["id"].as_u64() else { return todos };
    match event.event_type.as_str() {
        "todo_added" => {
            let text = event.data["text"].as_str().unwrap_or_default().to_owned();
            todos.0.insert(id, Todo { text, is_done: false });
        }
        "todo_completed" => {
            if let Some(todo) = todos.0.get_mut(&id) {
                todo.is_done = true;
            }
        }
        "todo_deleted" => {
            todos.0.remove(&id);
        }
        _ => {}
    }
    todos
}

/// How often something happened. What was deleted still counts as created, so the list could not tell this.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Statistics {
    created: u64,
    completed: u64,
    deleted: u64,
}

fn statistics(mut statistics: Statistics, event: &Event) -> Statistics {
    match event.event_type.as_str() {
        "todo_added" => statistics.created += 1,
        "todo_completed" => statistics.completed += 1,
        "todo_deleted" => statistics.deleted += 1,
        _ => {}
    }
    statistics
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut log = open(dir.path())?;
    log.append(&Event::new("todo_added", json!({"id": 1, "text": "buy milk"})))?;
    log.append(&Event::new("todo_added", json!({"id": 2, "text": "write docs"})))?;
    log.append(&Event::new("todo_added", json!({"id": 3, "text": "call the plumber"})))?;
    log.append(&Event::new("todo_completed", json!({"id": 1})))?;
    log.refresh_all()?;
    show(&log)?;
    //> 3 items (1 completed)
    //> 3 created, 1 completed, 0 deleted (33% completion)

    // One more event, of which only one view is told.
    log.append(&Event::new("todo_deleted", json!({"id": 3})))?;
    log.refresh("todos")?;
    show(&log)?;
    //> 2 items (1 completed)
    //> 3 created, 1 completed, 0 deleted (33% completion)
    for name in log.views() {
        println!("{name}.snapshot.json is of {} events", events_in(&log, name)?);
    }
    //> statistics.snapshot.json is of 4 events
    //> todos.snapshot.json is of 5 events

    // One snapshot is lost while the program is not running: its view is folded from the first event on, the other goes on.
    snapshot::delete(&log.views_dir().join("todos.snapshot.json"))?;
    drop(log);
    let mut log = open(dir.path())?;
    log.refresh_all()?;
    show(&log)?;
    //> 2 items (1 completed)
    //> 3 created, 1 completed, 1 deleted (33% completion)
    Ok(())
}

fn open(dir: &Path) -> io::Result<EventLog> {
    EventLog::builder(dir).view("todos", todos).view("statistics", statistics).open()
}

fn show(log: &EventLog) -> io::Result<()> {
    let todos: &Todos = log.view("todos")?;
    let done = todos.0.values().filter(|todo| todo.is_done).count();
    println!("{} items ({done} completed)", todos.0.len());
    let Statistics { created, completed, deleted } = log.view("statistics")?;
    let percent = 100 * completed / created.max(&1);
    println!("{created} created, {completed} completed, {deleted} deleted ({percent}% completion)");
    Ok(())
}

/// How many events a view's state on disk was folded from.
fn events_in(log: &EventLog, view: &str) -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string(log.views_dir().join(format!("{view}.snapshot.json")))?;
    let snapshot: Value = serde_json::from_str(&text)?;
    snapshot["sequence"].as_u64().ok_or_else(|| format!("{view} has no sequence").into())
}
