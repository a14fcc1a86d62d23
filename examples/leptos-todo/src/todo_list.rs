//! The list: the form that adds to it, what went wrong, and its to-dos.

use leptos::form::ActionForm;
use leptos::html;
use leptos::prelude::*;

use crate::api::{AddTodo, DeleteTodo, ToggleTodo, get_todos};
use crate::app::{Version, retry};
use crate::state::{TEXT_CHARS_MAX, Todo, TodoError};
use crate::todo_item::TodoItem;

/// The form and the list below it.
#[component]
pub fn TodoList() -> impl IntoView {
    let version = Version::of_page();
    let add = ServerAction::<AddTodo>::new();
    let toggle = ServerAction::<ToggleTodo>::new();
    let delete = ServerAction::<DeleteTodo>::new();

    // A form that was sent without a script comes back with its error in the address, from where the actions have it.
    let answers = [add.value(), toggle.value(), delete.value()];
    let failed = |answer: &Option<Result<u64, TodoError>>| answer.as_ref()?.as_ref().err().cloned();
    let message = RwSignal::new(answers.iter().find_map(|answer| answer.with_untracked(failed)));
    let input = NodeRef::<html::Input>::new();
    for answer in answers {
        Effect::watch(
            move || answer.get(),
            move |answer, _, _| {
                let Some(answer) = answer else { return };
                message.set(answer.as_ref().err().cloned());
                if let Ok(changed) = answer {
                    version.note(*changed);
                }
            },
            false,
        );
    }
    Effect::watch(
        move || matches!(add.value().get(), Some(Ok(_))),
        move |is_added, _, _| {
            if let (true, Some(input)) = (is_added, input.get_untracked()) {
                input.set_value("");
            }
        },
        false,
    );

    view! {
        <section aria-label="List">
            <div class="add">
                <ActionForm action=add>
                    <label for="text">"What is to be done?"</label>
                    <div class="row">
                        <input
                            id="text"
                            name="text"
                            type="text"
                            autocomplete="off"
                            maxlength=TEXT_CHARS_MAX.to_string()
                            aria-describedby="message"
                            dir="auto"
                            autofocus
                            node_ref=input
                        />
                        <button type="submit" class="primary">
                            "Add"
                        </button>
                    </div>
                </ActionForm>
            </div>
            <p id="message" class="message" role="alert">
                {move || message.get().map(|error| error.to_string())}
            </p>
            <div id="todos">
                <Todos toggle=toggle delete=delete />
            </div>
        </section>
    }
}

/// The to-dos themselves, fetched again for each new version.
#[component]
fn Todos(toggle: ServerAction<ToggleTodo>, delete: ServerAction<DeleteTodo>) -> impl IntoView {
    let version = Version::of_page();
    let fetched = Resource::new(move || version.get(), |_| get_todos());
    retry(fetched);
    view! {
        <Transition fallback=|| view! { <p class="hint">"Loading…"</p> }>
            {Suspend::new(async move {
                let first = fetched.await;
                let is_missing = first.is_err();
                // What was shown stays if the next answer does not come.
                let todos = Memo::new(move |shown: Option<&Vec<Todo>>| match fetched.get() {
                    Some(Ok(todos)) => todos,
                    _ => shown.cloned().unwrap_or_default(),
                });
                let error = move || fetched.get().and_then(Result::err).map(|error| error.to_string());
                view! {
                    <ul class="todos" aria-label="To-dos">
                        <For each=move || todos.get() key=|todo| todo.id let:todo>
                            <TodoItem todo todos toggle delete />
                        </For>
                    </ul>
                    <Show when=move || !is_missing && todos.with(Vec::is_empty)>
                        <p class="hint">"Nothing to do. Write down the first thing above."</p>
                    </Show>
                    <p class="message">{error}</p>
                }
            })}
        </Transition>
    }
}
