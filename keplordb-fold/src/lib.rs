//! Your application's state is a fold over an event log: `state = events.fold(reducer)`.
//!
//! Events are lines of JSON in a directory that a person can read. Reducers give them meaning, views keep the state that they
//! come to, snapshots spare the replay and are only caches (until history is pruned), and an archive of zstd frames keeps all of it.
//!
//! ```
//! use keplordb_fold::{Event, EventLog};
//! use serde_json::json;
//!
//! fn balance(cents: i64, event: &Event) -> i64 {
//!     let amount = event.data["cents"].as_i64().unwrap_or(0);
//!     match event.event_type.as_str() {
//!         "deposited" => cents + amount,
//!         "withdrawn" => cents - amount,
//!         _ => cents,
//!     }
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! let mut log = EventLog::builder(dir.path()).view("balance", balance).open()?;
//! log.append(&Event::new("deposited", json!({"cents": 500})))?; // on disk when it returns
//! log.append(&Event::new("withdrawn", json!({"cents": 120})))?;
//! log.refresh_all()?; // folds what is new
//! assert_eq!(*log.view::<i64>("balance")?, 380);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! | | |
//! | --- | --- |
//! | [`EventLog`] | a log with its views in one hand; [`SharedLog`] is one for many threads |
//! | [`EventWriter`] | appends and rotates, without views |
//! | [`EventReader`] | reads, waits and follows beside writers, in any process |
//! | [`View`], [`TypedView`] | a reducer and its state; a typed one takes events of the program's own type |
//!
//! [`Position`]s and sequences name events for ever; offsets, of the active log alone, until the next rotation.
#![deny(missing_docs, unsafe_code)]
#![warn(clippy::unwrap_used, clippy::indexing_slicing)]

mod active;
mod ahead;
mod anchors;
mod append;
mod aside;
mod audit;
mod base;
mod blocks;
mod catalog;
mod checked;
mod checkpoints;
mod directory;
#[cfg(feature = "engine")]
mod engine;
mod envelope;
mod error;
mod event;
mod events;
mod frames;
mod group;
mod hash;
mod history;
mod index;
mod journal;
mod kept;
mod line_key;
mod lines;
mod log;
#[cfg(test)]
mod one_reading;
mod options;
mod parsed_value;
mod parts;
mod paths;
mod plain_value;
mod position;
mod prune;
mod reader;
mod recovery;
mod reducer;
mod refill;
mod registry;
mod repair;
mod rotation;
mod rows;
mod session;
mod shared;
mod skimmed;
pub mod snapshot;
mod states;
mod subscribe;
mod tail;
#[cfg(test)]
mod test_disk;
mod time_travel;
mod turn;
mod typed;
mod typed_line;
mod unique;
mod verify;
mod view;
mod view_options;
mod views;
mod writer;

pub use append::{AppendConflict, AppendResult, ConditionalAppendError, SequencedAppendError, UniqueAppend};
#[cfg(feature = "engine")]
pub use engine::StoreView;
pub use error::FoldError;
pub use event::Event;
pub use hash::line_hash;
pub use keplordb_disk as disk;
pub use log::{EventLog, EventLogBuilder};
pub use options::{LockMode, SyncPolicy};
pub use position::Position;
pub use prune::{ExportFormat, Portion};
pub use reader::{EventReader, WaitResult};
pub use reducer::ReduceFn;
pub use repair::{Repaired, repair};
pub use shared::SharedLog;
pub use snapshot::{PassedOver, Snapshot};
pub use states::{KeptState, StateFile, StateFound, StateKind};
pub use subscribe::{Subscription, Update};
pub use typed::{Meta, TypedView};
pub use verify::{Problem, ProblemKind, Verification};
pub use view::{View, ViewOps};
pub use view_options::{Checkpoints, SnapshotPolicy, ViewOptions};
pub use writer::EventWriter;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
