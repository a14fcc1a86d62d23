//! Time travel: a table as it was, in SQL. [`parse`] makes every spelling of it one call, [`AsOfPlanner`] plans the call.
//!
//! | written | planned | rows |
//! |---|---|---|
//! | `t AS OF SEQUENCE n`, `t VERSION AS OF n`, `t FOR VERSION AS OF n`, `t AT (VERSION => n)`, `t AT (SEQUENCE => n)` | `t(seq => n)` | with a sequence up to and including `n` |
//! | `t AS OF TIMESTAMP '…'`, `t AS OF DATE '…'`, `t AS OF '…'`, `t AS OF now() - INTERVAL '1' HOUR`, `t AS OF $1`, `t TIMESTAMP AS OF …`, `t FOR TIMESTAMP AS OF …`, `t AT (TIMESTAMP => …)` | `t(as_of => …)` | with a time (`ts`) up to and including that instant |
//! | `t FOR SYSTEM_TIME AS OF …`, `t AS OF SYSTEM TIME …` | `t(known_at => …)` | refused: an engine table stores when an event happened, not when it arrived |
//!
//! The calls are syntax too; `t(seq => n, as_of => '…')` has the rows for which both hold. The clause stands right after the
//! table's name and before its alias, once per table; two instants of one table join like two tables. All else of a
//! statement stays as it is, token by token.
//!
//! # What an instant is
//! A constant: literals, `now()`, `CAST`, arithmetic with `INTERVAL`s, and parameters whose value is given at planning
//! ([`Session::sql_with`](crate::Session::sql_with)); no columns, no subqueries. A timestamp or text without a time zone is
//! UTC, and a date is its first nanosecond. A sequence is a whole number.
//!
//! # What it shows, and what it does not
//! The events as the log knows them **now**, up to that time or sequence. An event that came late, with a time in the past, is
//! there `AS OF TIMESTAMP`. `AS OF SEQUENCE` shows the same rows however many are appended later, once all events with a
//! lower sequence have been appended. A sequence or a time that is still to come shows all rows.
//!
//! Rows that were deleted since, or dropped by retention, are not there: time travel chooses among what is stored, it
//! restores nothing.
//!
//! # Tables of other kinds
//! A program's own table travels where it is registered as a [`HistoricTable`]; one that knows when its rows came in answers
//! `known_at` too.
//!
//! A spelling that looks like time travel and is none of these is an [`AsOfError`]. Without the planner `DataFusion` refuses
//! the call, so forgetting it cannot answer with today's rows.
//!
//! ```
//! use keplordb::TableSchema;
//! use keplordb::any::AnyStore;
//! use keplordb_sql::{Session, SqlError};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let dir = tempfile::tempdir()?;
//! let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1).counter("tokens"))?;
//! let mut before = 0;
//! for (second, tokens) in [(0, 50), (1, 1200), (2, 300)] {
//!     let call = store.event(1_700_000_000_000_000_000 + second * 1_000_000_000);
//!     let appended = store.append(call.set("tokens", tokens)?)?;
//!     if second < 2 {
//!         before = appended.last;
//!     }
//! }
//! let session = Session::builder().build()?;
//! session.register("calls", store);
//!
//! let grown = format!(
//!     "SELECT new.tokens - old.tokens AS grown
//!      FROM (SELECT sum(tokens) AS tokens FROM calls) AS new,
//!           (SELECT sum(tokens) AS tokens FROM calls AS OF SEQUENCE {before}) AS old"
//! );
//! let answer = session.sql(&grown).await?.collect().await?;
//! let shown = arrow::util::pretty::pretty_format_batches(&answer)?.to_string();
//! assert!(shown.contains("| 300   |"));
//!
//! let refused = session.sql("SELECT * FROM calls FOR SYSTEM_TIME AS OF now()").await.unwrap_err();
//! assert!(matches!(refused, SqlError::AsOf(_)));
//! assert!(refused.to_string().starts_with("line 1, column 43: `calls` has no time of arrival"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod historic;
mod instant;
mod planner;
mod rewrite;

pub use error::{AsOfError, AsOfProblem};
pub use historic::{HistoricTable, History, Instants};
pub use planner::AsOfPlanner;
pub use rewrite::rewrite;

use std::collections::VecDeque;

use datafusion::common::Result;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Tokenizer;

/// The statements of a text, with every spelling of time travel as a call.
///
/// The dialect is `DataFusion`'s own, [`GenericDialect`]. Linear in the text; nothing is looked up.
///
/// # Errors
/// `DataFusionError::SQL` where the text is no SQL, with the line and the column; an [`AsOfError`] inside
/// `DataFusionError::External` where its time travel is not supported.
///
/// ```
/// use keplordb_sql::as_of;
///
/// let statements = as_of::parse("SELECT count(*) FROM calls AS OF SEQUENCE 42 AS c")?;
/// assert_eq!(statements[0].to_string(), "SELECT count(*) FROM calls(seq => 42) AS c");
/// # Ok::<(), datafusion::common::DataFusionError>(())
/// ```
pub fn parse(sql: &str) -> Result<VecDeque<Statement>> {
    let tokens =
        Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().map_err(ParserError::from)?;
    DFParserBuilder::new(rewrite(tokens)?).build()?.parse_statements()
}
