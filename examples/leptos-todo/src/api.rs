//! The five functions that the page calls: declared for the browser, done on the server.
//!
//! A form may post to each of the three that change something, at `/api/add_todo` and so on; no script is needed for that.

#![cfg_attr(
    feature = "ssr",
    expect(
        clippy::unused_async,
        reason = "functions of the server are called as asynchronous ones, whether they wait or not"
    )
)]

use leptos::prelude::{FromServerFnError, ServerFnErrorErr, server};
use leptos::server_fn::codec::JsonEncoding;

use crate::state::{Stats, Todo, TodoError};

impl FromServerFnError for TodoError {
    type Encoder = JsonEncoding;

    fn from_server_fn_error(error: ServerFnErrorErr) -> Self {
        Self::Request(error.to_string())
    }
}

/// The to-dos in the order in which they were added.
///
/// # Errors
/// [`TodoError::Storage`]; [`TodoError::Request`] in the browser if no answer comes.
#[server(endpoint = "get_todos")]
pub async fn get_todos() -> Result<Vec<Todo>, TodoError> {
    Ok(store().todos()?.todos.values().cloned().collect())
}

/// What was created, completed and deleted since the log began.
///
/// # Errors
/// As [`get_todos`].
#[server(endpoint = "get_stats")]
pub async fn get_stats() -> Result<Stats, TodoError> {
    Ok(store().tally()?.stats)
}

/// Adds a to-do. On disk when it returns, with the version of the list.
///
/// # Errors
/// Those of [`clean_text`](crate::state::clean_text); [`TodoError::ListFull`]; [`TodoError::NotShown`]; as [`get_todos`].
#[server(endpoint = "add_todo")]
pub async fn add_todo(
    /// What is to be done.
    text: String,
) -> Result<u64, TodoError> {
    store().add(&text).await
}

/// Ticks a to-do, or takes the tick away. On disk when it returns, with the version of the list.
///
/// # Errors
/// [`TodoError::NotThere`]; [`TodoError::NotShown`]; as [`get_todos`].
#[server(endpoint = "toggle_todo")]
pub async fn toggle_todo(
    /// Which.
    id: u64,
) -> Result<u64, TodoError> {
    store().toggle(id).await
}

/// Deletes a to-do; one that is not there is as good as deleted. On disk when it returns, with the version of the list.
///
/// # Errors
/// [`TodoError::NotShown`]; as [`get_todos`].
#[server(endpoint = "delete_todo")]
pub async fn delete_todo(
    /// Which.
    id: u64,
) -> Result<u64, TodoError> {
    store().delete(id).await
}

/// Given to every request by `server::router`.
#[cfg(feature = "ssr")]
fn store() -> crate::store::Store {
    leptos::prelude::expect_context()
}
