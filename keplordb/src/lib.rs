//! # KeplorDB: an event store that you embed
//!
//! A program declares an event type, appends events that are in the log when the call returns, and asks millions of
//! them in microseconds: no server, no SQL, no background threads.
//!
//! ```
//! use keplordb::aggregates::{count, quantile, sum};
//! use keplordb::{Bucket, Schema, Store, Totals};
//!
//! #[derive(Schema)]
//! #[keplordb(id = 1)]
//! pub struct AiCall {
//!     #[dim(bloom, rollup)]
//!     pub user: String,
//!     #[dim]
//!     pub model: String,
//!     #[counter]
//!     pub tokens: u32,
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let (dir, ts_ns) = (dir.path().join("calls"), 1_700_000_000_000_000_000);
//! let store = Store::<AiCall>::open(dir)?;
//! let call = AiCall::new(ts_ns).user("alice").model("gpt-4o").tokens(1200).metric(5_000_000).status(200);
//! store.append(call)?; // seen by every query now, and on disk
//!
//! let c = AiCall::cols();
//! let of_alice = store.query(c.user.eq("alice") & c.status.between(200..300));
//! let totals: Totals<1> = of_alice.totals()?;
//! assert_eq!((totals.event_count, totals.metric, totals.counters), (1, 5_000_000, [1200]));
//! let rows = of_alice.newest_first().limit(10).rows()?;
//! assert_eq!(rows[0].model(), "gpt-4o");
//!
//! let by_hour = store
//!     .query(c.model.starts_with("gpt") | c.tokens.gt(10_000))
//!     .group_by((c.user, c.model))
//!     .bucket(Bucket::hours(1))
//!     .select((count(), sum(c.metric), quantile(c.latency_ms, 0.99)))
//!     .top_by(10, sum(c.metric))
//!     .fetch()?;
//! let first = by_hour.get(0).unwrap();
//! assert_eq!((first.key(), first.values().1), (("alice", "gpt-4o"), 5_000_000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # An event
//! Every event has a time (`ts_ns`, any `i64` of nanoseconds, in any order), an id, a metric, two latencies, a status and
//! sixteen flags. A schema adds **dims** (strings to filter and group by), **counters** (`u32` to sum) and **labels** (strings that
//! are only stored).
//!
//! # Questions
//! A [`Query`] begins with a condition, made of the tokens of `AiCall::cols()` ([`columns`]) or of the plain `AiCall::filter()`, and ends with
//! what is wanted: [`totals`](Query::totals), groups with [`aggregates`] ([`group_by`](Query::group_by), [`bucket`](Query::bucket),
//! [`select`](Query::select)), [`rows`](Query::rows), rows that are not copied ([`each`](Query::each)) or some columns of them
//! ([`project`](Query::project)), or the [`values`](Query::values) of a dim. [`explain`](Query::explain) says how it was answered.
//! The page `docs/queries.md` of the repository has what each costs and promises.
//!
//! # Three faces
//! | | events | an append is on disk |
//! | --- | --- | --- |
//! | [`Store<S>`](Store) | a struct with [`#[derive(Schema)]`](derive@Schema) | when it returns, unless [`Options::sync`] says otherwise |
//! | [`Engine<D, C, L>`](Engine) | [`LogEvent`], by position | as [`EngineConfig`] says: by default every 64 events or 256 KiB of a shard |
//!
//! | [`AnyStore`] | columns by name, known at run time | as for `Store` |
//!
//! All are shells over the same engine and can open each other's directories. [`Engine::open_with`] takes its sync mode from
//! [`Options`], whose default is [`Sync::Always`], and leaves `wal_sync_interval` and `wal_sync_bytes` aside.
//!
//! # What holds
//! - When an append returns, every query sees its events, and a killed process loses none of them, in every mode. What a power cut can
//!   take is a matter of [`Sync`]; the `*_durable` calls are on disk when they return.
//! - A batch is all or nothing: no query sees a part of it, and no crash leaves one.
//! - Sums saturate and never wrap. Times may be any `i64`.
//! - Damage is an error that names the file and the place ([`DbError`]), never an empty answer; a tail that a crash tore is cut
//!   and said in [`OpenReport`].
//! - After a failed sync nothing more is written ([`DbError::Poisoned`]); queries go on.
//!
//! # Threads, processes, memory
//! Every method takes `&self`; one engine serves all threads of a program. It keeps none of its own: the caller who fills a shard
//! writes its segment, with threads that end with the call where it is large. Large scans are spread over rayon's pool, or the
//! one given by [`Options::pool`]. One process at a time may write a directory ([`DbError::AlreadyOpen`]); any number may
//! read it meanwhile with a [`Reader`].
//!
//! Rows that are not yet in a segment are in memory, up to [`Options::memtable_bytes`] for each shard; writing a segment takes
//! a few times the bytes of its rows while it lasts. Segments are mapped, not loaded.
//!
//! # Features
//! `sim`: the simulated disk of [`disk`], which counts and fails operations and cuts the power, for tests of programs that embed
//! the engine.
//!
//! `serde`: `Serialize` and `Deserialize` for events, rows, filters, cursors, totals, rollups and schemas; the rows of a derived
//! type are maps of its columns by name, so that they become JSON or CSV as they are.
//!
//! # Inside
//! The modules stand in floors; each names only lower ones, and `tests/layers.rs` holds it.

#![deny(unsafe_code)]

// Ground: plain data.
mod config;
mod error;
mod event;
mod expr;
mod filter;
mod page;
mod schema;
mod sums;
mod threads;
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
pub mod aggregates;
pub mod any;
pub mod columns;
pub mod groups;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod maintenance;
mod project;
mod query;
mod raw;
mod reader;
#[doc(hidden)]
pub mod serial;
mod step;
mod store;
mod tail;
mod values;
mod walk;

pub use any::{AnyReader, AnyStore};
pub use columns::Filter;
pub use config::{EngineConfig, MAX_SHARDS, MapMode, OnCorruption, Options, Retention, Sync};
pub use engine::{
    Appended, Budget, Compacted, Depth, Description, Flushed, GcStats, InspectedLog, InspectedSection,
    InspectedSegment, InspectedTombstones, Inspection, LogContents, Maintained, OpenReport, Problem,
    Quarantined, Refreshed, SectionContents, SectionSpace, SegmentContents, Space, Stats, TombstoneContents,
    TornTail, VerifyReport, describe_file, inspect_dir, verify_dir,
};
pub use error::{DbError, Result};
pub use event::{EventFlags, EventRef, LogEvent, RowRef};
pub use filter::{FilterRef, QueryFilter};
pub use format::describe::{FileKind, Span};
pub use format::{MAX_BATCH_BYTES, MAX_EVENT_BYTES, MAX_KEY_BYTES, MAX_LABEL_BYTES};
pub use groups::Bucket;
pub use keplordb_disk as disk;
pub use keplordb_macros::Schema;
pub use kernels::kernels_in_use;
pub use maintenance::{Maintainable, Maintenance};
pub use page::{Page, PageCursor};
pub use project::{Columns, Projected};
pub use query::Query;
pub use raw::Engine;
pub use read::event_row::EventRow;
pub use read::explain::Explain;
pub use read::query::{Cursor, RollupKey, RollupValue, Totals};
pub use read::row::RowView;
pub use read::trace::Trace;
pub use reader::{RawReader, Reader};
pub use schema::{MAX_COUNTERS, MAX_DIMS, MAX_LABELS, MAX_NAME_BYTES, TableSchema};
pub use step::Step;
pub use store::{ExactRollup, ExactSums, Schema, Store};
pub use tail::{Gap, Start, Tail};
pub use values::Values;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
