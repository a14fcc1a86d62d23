//! One to-do: a box to tick, its text, and a button that deletes it.

use leptos::form::ActionForm;
use leptos::prelude::*;

use crate::api::{DeleteTodo, ToggleTodo};
use crate::state::Todo;

/// A line of the list. Its text never changes; whether it is done is looked up in the list, so that the line stays the same one, and keeps
/// the keyboard's focus, when it is ticked.
#[component]
pub fn TodoItem(
    /// As it was when it came into the list.
    todo: Todo,
    /// The list as it is, sorted by number.
    todos: Memo<Vec<Todo>>,
    /// Ticks it, or takes the tick away.
    toggle: ServerAction<ToggleTodo>,
    /// Deletes it.
    delete: ServerAction<DeleteTodo>,
) -> impl IntoView {
    let Todo { id, text, done, .. } = todo;
    let is_done = Memo::new(move |shown: Option<&bool>| {
        let found = todos.with(|todos| {
            let place = todos.binary_search_by_key(&id, |todo| todo.id).ok()?;
            todos.get(place).map(|todo| todo.done)
        });
        found.unwrap_or_else(|| shown.copied().unwrap_or(done))
    });
    let text_id = format!("text-{id}");
    let named_by = text_id.clone();
    view! {
        <li class="todo" class:done=move || is_done.get()>
            <ActionForm action=toggle>
                <input type="hidden" name="id" value=id.to_string() />
                <button
                    type="submit"
                    class="box"
                    id=format!("toggle-{id}")
                    role="checkbox"
                    aria-checked=move || if is_done.get() { "true" } else { "false" }
                    aria-labelledby=named_by
                ></button>
            </ActionForm>
            <span class="text" id=text_id dir="auto">
                {text.clone()}
            </span>
            <ActionForm action=delete>
                <input type="hidden" name="id" value=id.to_string() />
                <button type="submit" class="delete" id=format!("delete-{id}") aria-label=format!("Delete: {text}") title="Delete">
                    "×"
                </button>
            </ActionForm>
        </li>
    }
}
