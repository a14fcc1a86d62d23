//! A reducer that learns something new, and a view that is computed again from the events.
//!
//! The first version of a to-do list knows texts only. The second one knows priorities too, `normal` where an event names none. No event
//! is changed for that: the view is rebuilt, and sees in old events what was always in them.
//!
//! Lines that begin with `//>` are what the program prints.
//!
//! ```text
//! cargo run -p keplordb-fold --example rebuild
//! ```

use std::error::Error;

use keplordb_fold::{Event, EventWriter, View, ViewOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The first version.
mod v1 {
    use super::{Deserialize, Event, Serialize};

    #[derive(Default, Clone, Serialize, Deserialize)]
    pub(crate) struct Todo {
        text: String,
    }

    pub(crate) fn reduce(mut todos: Vec<Todo>, event: &Event) -> Vec<Todo> {
        if event.event_type == "todo_added" {
            todos.push(Todo { text: event.data["text"].as_str().unwrap_or_default().to_owned() });
        }
        todos
    }
}

/// The second version.
mod v2 {
    use super::{Deserialize, Event, Serialize};

    #[derive(Clone, Serialize, Deserialize)]
    pub(crate) struct Todo {
        text: String,
        #[serde(default = "normal")]
        priority: String,
    }

    fn normal() -> String {
        "normal".to_owned()
    }

    pub(crate) fn reduce(mut todos: Vec<Todo>, event: &Event) -> Vec<Todo> {
        if event.event_type == "todo_added" {
            let text = event.data["text"].as_str().unwrap_or_default().to_owned();
            let priority = event.data["priority"].as_str().map_or_else(normal, str::to_owned);
            todos.push(Todo { text, priority });
        }
        todos
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut writer = EventWriter::open(dir.path())?;
    let reader = writer.reader();
    writer.append(&Event::new("todo_added", json!({"text": "buy milk"})))?;
    // Some other program already says how urgent a thing is.
    writer.append(&Event::new("todo_added", json!({"text": "fix the roof", "priority": "high"})))?;

    let mut todos: View<Vec<v1::Todo>> = View::new("todos", v1::reduce, writer.views_dir());
    println!("{}", serde_json::to_string(todos.refresh(&reader)?)?);
    //> [{"text":"buy milk"},{"text":"fix the roof"}]

    // The next release of the program. It could read the first one's snapshot, but then would miss what that one did not look at.
    let mut todos: View<Vec<v2::Todo>> = View::new("todos", v2::reduce, writer.views_dir());
    println!("{}", serde_json::to_string(todos.refresh(&reader)?)?);
    //> [{"text":"buy milk","priority":"normal"},{"text":"fix the roof","priority":"normal"}]

    // So it starts from the first event.
    println!("{}", serde_json::to_string(todos.rebuild(&reader)?)?);
    //> [{"text":"buy milk","priority":"normal"},{"text":"fix the roof","priority":"high"}]

    // Nobody need remember to call that: a reducer with a version never goes on from the state of another version.
    let todos: View<Vec<v1::Todo>> = View::new("versioned", v1::reduce, writer.views_dir());
    let mut todos = todos.with_options(ViewOptions::default().version(1));
    todos.refresh(&reader)?;
    let todos: View<Vec<v2::Todo>> = View::new("versioned", v2::reduce, writer.views_dir());
    let mut todos = todos.with_options(ViewOptions::default().version(2));
    println!("{}", serde_json::to_string(todos.refresh(&reader)?)?);
    //> [{"text":"buy milk","priority":"normal"},{"text":"fix the roof","priority":"high"}]
    Ok(())
}
