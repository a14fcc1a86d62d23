//! KeplorDB's tables in SQL, Arrow and Parquet.
//!
//! Any directory of the engine is a table: for SQL in this process, by [DataFusion](datafusion), and for everything that reads
//! Arrow or Parquet. [`KeplorTable`] shows one to DataFusion; a [`Session`] asks several, within limits; `SELECT` sees rows from
//! when they were appended on, and every statement sees each table as it is at one moment.
//!
//! ```
//! use keplordb::TableSchema;
//! use keplordb::any::AnyStore;
//! use keplordb_sql::{KeplorTable, Session};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("calls");
//! let schema = TableSchema::new(1).dim("user").dim("model").counter("tokens");
//! let store = AnyStore::open_or_create(&dir, schema)?; // usually your program, by its own types
//! for (second, user, tokens) in [(0, "alice", 1200), (1, "bob", 50), (2, "alice", 300)] {
//!     let call = store.event(1_700_000_000_000_000_000 + second * 1_000_000_000);
//!     store.append(call.set("user", user)?.set("model", "gpt-4o")?.set("tokens", tokens)?)?;
//! }
//!
//! let session = Session::builder().build()?;
//! session.register("calls", KeplorTable::open(&dir)?); // also from another process, beside the writer
//! let answer = session.sql("SELECT ts, \"user\", tokens FROM calls WHERE tokens > 100 ORDER BY ts DESC LIMIT 10");
//! let answer = answer.await?.collect().await?;
//! let shown = arrow::util::pretty::pretty_format_batches(&answer)?.to_string();
//! assert_eq!(
//!     shown,
//!     "\
//! +----------------------+-------+--------+
//! | ts                   | user  | tokens |
//! +----------------------+-------+--------+
//! | 2023-11-14T22:13:22Z | alice | 300    |
//! | 2023-11-14T22:13:20Z | alice | 1200   |
//! +----------------------+-------+--------+"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the engine answers
//! Filters on times, dims, status, flags, numbers, labels and ids go down into the engine where it decides every row exactly as
//! DataFusion does; so do projections, limits, and `ORDER BY ts`, with which a `LIMIT` reads only what it shows. A count of
//! all rows and the first and last time need no scan. `EXPLAIN` shows it as `KeplorScan`; what stands above it, DataFusion
//! does.
//!
//! A [`Session`] also has the engine answer aggregates of what a scan chooses, by its totals, running sums and value sums: `COUNT`,
//! `SUM`, `MIN`, `MAX` and `AVG` of numbers and times, `COUNT(DISTINCT …)` of dims and the status, with `GROUP BY` over dims, the status
//! and spans of time: `date_trunc` to seconds, minutes, hours, days and weeks, `date_bin`, `CAST(ts AS DATE)`, `ts_ns / width`.
//! `EXPLAIN` shows it as [`KeplorAggregate`], and `EXPLAIN ANALYZE` how many segments needed no look at their rows. Answers are
//! DataFusion's to the last bit but for one: a `SUM` beyond what `BIGINT` holds is an error where the engine answers. DataFusion wraps
//! around; to be sure of a sum in every plan, ask for `sum(CAST(metric AS DECIMAL(38, 0)))`.
//!
//! # In and out
//! [`import`] brings CSV, JSON Lines, Parquet and Arrow batches into a table, and goes on where it was stopped; [`export`] writes
//! Parquet.
//!
//! # Time travel
//! `calls AS OF SEQUENCE 42` and `calls AS OF TIMESTAMP '2024-01-31'` are a table as it was; see [`as_of`].
//!
//! # Columns
//! [`schema::arrow_schema`] says how columns look in SQL. Names that are words of SQL (`user`) are quoted: `"user"`.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod as_of;
pub mod export;
pub mod import;
pub mod schema;

mod aggregate;
mod batch;
mod calls;
mod catalog;
mod error;
mod joins;
mod levels;
mod pushdown;
mod scan;
mod session;
mod table;
mod values;
mod windows;

pub use aggregate::KeplorAggregate;
pub use catalog::KeplorSchema;
pub use error::{Result, SqlError};
pub use scan::KeplorScan;
pub use session::{Rows, Session, SessionBuilder};
pub use table::{AsOf, KeplorTable};

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
