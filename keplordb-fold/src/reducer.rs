//! Reducers: what gives events their meaning.

use std::sync::Arc;

use crate::event::Event;

/// A reducer that captures nothing: takes the state by value, and gives back what it becomes by one event.
///
/// It should be pure, and pass over types that it does not know, so that an older program can read a newer log. A
/// [`View`](crate::View) takes closures too, capturing ones among them.
/// ```
/// use keplordb_fold::{Event, ReduceFn};
/// use serde_json::json;
///
/// fn completed(count: u64, event: &Event) -> u64 {
///     match event.event_type.as_str() {
///         "todo_completed" => count + 1,
///         _ => count,
///     }
/// }
///
/// let reducer: ReduceFn<u64> = completed;
/// assert_eq!(reducer(1, &Event::new("todo_completed", json!({"id": 7}))), 2);
/// ```
pub type ReduceFn<S> = fn(S, &Event) -> S;

/// What a view holds: any reducer.
pub(crate) type Reducer<S> = Arc<dyn Fn(S, &Event) -> S + Send + Sync>;
