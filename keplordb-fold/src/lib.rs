//! Your application's state is a fold over an event log: `state = events.fold(reducer)`.
//!
//! Events are lines of JSON in a directory that a person can read. Reducers give them meaning, views keep the state that they
//! come to, snapshots spare the replay and are only caches, and an archive of zstd frames keeps all history.
#![deny(missing_docs, unsafe_code)]
#![warn(clippy::unwrap_used, clippy::indexing_slicing)]

mod ahead;
mod blocks;
mod catalog;
mod checked;
mod directory;
mod error;
mod event;
mod events;
mod frames;
mod hash;
mod history;
mod index;
mod journal;
mod lines;
mod paths;
mod position;
mod reader;
pub mod snapshot;
mod subscribe;
#[cfg(test)]
mod test_disk;

pub use error::FoldError;
pub use event::Event;
pub use hash::line_hash;
pub use position::Position;
pub use reader::{EventReader, WaitResult};
pub use snapshot::Snapshot;
pub use subscribe::{Subscription, Update};
