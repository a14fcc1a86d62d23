//! A to-do list in some fifty lines: its events are the data, its reducer is the schema.
//!
//! Lines that begin with `//>` are what the program prints.
//!
//! ```text
//! cargo run -p keplordb-fold --example todo_cli
//! ```

use std::error::Error;

use keplordb_fold::{Event, EventLog};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What the events come to. It is kept as JSON in `views/todos.snapshot.json`, which is only a cache.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Todos {
    items: Vec<Todo>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Todo {
    text: String,
    is_done: bool,
}

/// What an event does to the list. Types that it does not know are passed over: a newer program may write them.
fn reduce(mut todos: Todos, event: &Event) -> Todos {
    let text = event.data["text"].as_str().unwrap_or_default();
    match event.event_type.as_str() {
        "todo_added" => todos.items.push(Todo { text: text.to_owned(), is_done: false }),
        "todo_completed" => {
            todos.items.iter_mut().filter(|todo| todo.text == text).for_each(|todo| todo.is_done = true);
        }
        _ => {}
    }
    todos
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?; // any directory will do
    let mut log = EventLog::builder(dir.path()).view("todos", reduce).open()?;

    // Each event is on disk when its append returns.
    log.append(&Event::new("todo_added", json!({"text": "buy milk"})))?;
    log.append(&Event::new("todo_added", json!({"text": "write docs"})))?;
    log.append(&Event::new("todo_completed", json!({"text": "buy milk"})))?;

    log.refresh_all()?; // folds what is new into the view
    let todos: &Todos = log.view("todos")?;
    for todo in &todos.items {
        println!("[{}] {}", if todo.is_done { 'x' } else { ' ' }, todo.text);
    }
    //> [x] buy milk
    //> [ ] write docs
    Ok(())
}
