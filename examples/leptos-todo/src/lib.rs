//! A to-do list in the browser whose only storage is an event log: `todos = events.fold(fold_todos)`.
//!
//! [`state`] says what the events are and what they add up to. With the feature `ssr` this is a server: `store` keeps the log and
//! its views, `server` answers requests, and pages are rendered from the components. With `hydrate` the same components run in the
//! browser, and the server's parts are not there. [`api`] is between the two.
#![forbid(unsafe_code)]

pub mod api;
pub mod app;
#[cfg(feature = "hydrate")]
pub mod browser;
#[cfg(feature = "ssr")]
pub mod guard;
#[cfg(feature = "ssr")]
pub mod server;
#[cfg(feature = "ssr")]
mod shell;
pub mod state;
pub mod stats;
#[cfg(feature = "ssr")]
pub mod store;
pub mod todo_item;
pub mod todo_list;
