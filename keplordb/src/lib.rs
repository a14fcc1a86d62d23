//! # KeplorDB: an event store that you embed
//!
//! A program declares an event type, appends events that are in the log when the call returns, and asks millions of
//! them in microseconds: no server, no SQL, no background threads.
//!
//! The modules stand in floors; each names only lower ones, and `tests/layers.rs` holds it.

#![deny(unsafe_code)]

// Ground: plain data.
mod config;
mod error;
mod event;
mod filter;
mod schema;
mod sums;
mod time;
// Kernels: 256 values at a time.
mod kernels;
// Format: bytes and values, no I/O.
mod format;
// Storage: one object owns one file.
mod storage;
// State: what one reader sees.
mod state;
// Read: questions to a version.
pub mod read;
// Engine: everything that changes state.
mod engine;
// Facade: thin typed shells.
mod raw;
mod store;

pub use config::{EngineConfig, MAX_SHARDS, MapMode, Options, Sync};
pub use engine::{Appended, Flushed, GcStats, OpenReport, Stats, TornTail};
pub use error::{DbError, Result};
pub use event::{EventFlags, EventRef, LogEvent, RowRef};
pub use filter::{FilterRef, QueryFilter};
pub use format::{MAX_BATCH_BYTES, MAX_EVENT_BYTES, MAX_KEY_BYTES, MAX_LABEL_BYTES};
pub use keplordb_disk as disk;
pub use keplordb_macros::Schema;
pub use raw::Engine;
pub use read::query::{Cursor, RollupKey, RollupValue, Totals};
pub use read::row::RowView;
pub use schema::{MAX_COUNTERS, MAX_DIMS, MAX_LABELS, MAX_NAME_BYTES, TableSchema};
pub use store::{ExactRollup, ExactSums, Query, Schema, Store};
