//! `KeplorTable`: an engine's table as a `TableProvider`.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as FusionResult, project_schema};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use keplordb::any::{AnyFilter, AnyReader, AnySnapshot, AnyStore, Test};

use crate::error::external;
use crate::pushdown;
use crate::scan::{KeplorScan, Question};
use crate::schema::SqlColumns;

/// An instant in a table's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AsOf {
    /// The events with this sequence and those before it.
    Sequence(u64),
    /// The events of this time and those before it.
    Time {
        /// Nanoseconds since the Unix epoch.
        ts_ns: i64,
    },
}

/// Up to where a table's rows are seen; `None` is to the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Until {
    pub(crate) sequence: Option<u64>,
    pub(crate) ts_ns: Option<i64>,
}

impl Until {
    /// The earlier of what it is and an instant, in each of the two orders.
    fn and(self, as_of: AsOf) -> Self {
        let Self { sequence, ts_ns } = self;
        match as_of {
            AsOf::Sequence(this) => {
                Self { sequence: Some(sequence.map_or(this, |known| known.min(this))), ..self }
            }
            AsOf::Time { ts_ns: this } => {
                Self { ts_ns: Some(ts_ns.map_or(this, |known| known.min(this))), ..self }
            }
        }
    }
}

/// A table of the engine in SQL: what [`arrow_schema`](crate::schema::arrow_schema) says of its columns.
///
/// A handle: clones are cheap and show the same table. Rows are seen from when they were appended on, sealed or not. A
/// projection, filters that the engine answers exactly, a limit, an order by time and the statistics of an unfiltered table
/// go down into the engine; `EXPLAIN` shows it as `KeplorScan`.
///
/// [`Session`](crate::Session) takes it as it is; any `SessionContext` does, with
/// [`register_table`](datafusion::prelude::SessionContext::register_table). Only a session has the engine answer aggregates.
///
/// ```
/// use std::sync::Arc;
///
/// use datafusion::prelude::SessionContext;
/// use keplordb::TableSchema;
/// use keplordb::any::AnyStore;
/// use keplordb_sql::KeplorTable;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1).dim("user"))?;
/// store.append(store.event(1_700_000_000_000_000_000).set("user", "alice")?)?;
///
/// let context = SessionContext::new();
/// context.register_table("calls", Arc::new(KeplorTable::from(store)))?;
/// let found = context.sql("SELECT count(*) FROM calls WHERE \"user\" = 'alice'").await?.collect().await?;
/// assert_eq!(found[0].num_rows(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct KeplorTable {
    source: Source,
    columns: Arc<SqlColumns>,
    until: Until,
}

/// Where the rows are.
#[derive(Debug, Clone)]
enum Source {
    Store(AnyStore),
    /// Refreshed before each question.
    Reader(AnyReader),
    /// Always the same rows.
    Snapshot(AnySnapshot),
}

impl KeplorTable {
    /// The table in a directory, for reading only, also while another process writes it. Each statement sees what was written
    /// before it.
    ///
    /// # Errors
    /// As [`AnyReader::open`]: [`Missing`](keplordb::DbError::Missing) names the manifest where there is no table.
    pub fn open(dir: impl AsRef<Path>) -> keplordb::Result<Self> {
        Ok(AnyReader::open(dir)?.into())
    }

    fn new(source: Source) -> Self {
        let columns = match &source {
            Source::Store(store) => store.columns(),
            Source::Reader(reader) => reader.columns(),
            Source::Snapshot(snapshot) => snapshot.columns(),
        };
        let columns = Arc::new(SqlColumns::new(columns));
        Self { source, columns, until: Until::default() }
    }

    /// The table as it is now: every question to what is returned sees the same rows. Of a table that is pinned already, itself.
    ///
    /// Cost: that of [`AnyStore::snapshot`]; of a reader, what was written since the last one is read.
    ///
    /// # Errors
    /// As [`AnyReader::refresh`]; a pinned table and one of a store have none.
    pub fn pinned(&self) -> keplordb::Result<Arc<Self>> {
        Ok(self.pinned_to(self.snapshot()?))
    }

    pub(crate) fn pinned_to(&self, snapshot: AnySnapshot) -> Arc<Self> {
        Arc::new(Self { source: Source::Snapshot(snapshot), ..self.clone() })
    }

    /// The table at an instant: of its rows those up to it, and no others. Rows that were deleted since are not there.
    ///
    /// Instants add up: at two sequences, or two times, it is at the earlier one; at a sequence and a time it has the rows that
    /// both have.
    pub fn at(&self, as_of: AsOf) -> Arc<Self> {
        Arc::new(Self { until: self.until.and(as_of), ..self.clone() })
    }

    /// The rows that a question that is put now sees, those behind the instant that the table is [`at`](Self::at) too.
    ///
    /// # Errors
    /// As [`pinned`](Self::pinned).
    pub fn snapshot(&self) -> keplordb::Result<AnySnapshot> {
        match &self.source {
            Source::Store(store) => Ok(store.snapshot()),
            Source::Reader(reader) => {
                reader.refresh()?;
                Ok(reader.snapshot())
            }
            Source::Snapshot(snapshot) => Ok(snapshot.clone()),
        }
    }

    /// As [`snapshot`](Self::snapshot), for asynchronous callers: what another process wrote is read in a thread for blocking work.
    pub(crate) async fn snapshot_apart(&self) -> FusionResult<AnySnapshot> {
        let table = self.clone();
        let snapshot = match &self.source {
            Source::Reader(_) => tokio::task::spawn_blocking(move || table.snapshot())
                .await
                .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?,
            Source::Store(_) | Source::Snapshot(_) => table.snapshot(),
        };
        snapshot.map_err(external)
    }

    /// The events for which a condition is true, if the engine decides that exactly as `DataFusion` does.
    pub(crate) fn filter_of(&self, condition: &Expr) -> Option<AnyFilter> {
        pushdown::filter_of(condition, &self.columns, &|column, test| self.filter(column, test))
    }

    /// The events up to the instant that the table is at; `None` is all.
    pub(crate) fn until_filter(&self) -> keplordb::Result<Option<AnyFilter>> {
        let up_to = |column, hi| self.filter(column, Test::Between { lo: i64::MIN, hi });
        let sequence = self.until.sequence.map(|sequence| i64::try_from(sequence).unwrap_or(i64::MAX));
        let sequence = sequence.map(|sequence| up_to("sequence", sequence)).transpose()?;
        let time = self.until.ts_ns.map(|ts_ns| up_to("ts_ns", ts_ns)).transpose()?;
        Ok(match (sequence, time) {
            (Some(sequence), Some(time)) => Some(sequence & time),
            (sequence, time) => sequence.or(time),
        })
    }

    fn filter(&self, column: &str, test: Test) -> keplordb::Result<AnyFilter> {
        match &self.source {
            Source::Store(store) => store.filter(column, test),
            Source::Reader(reader) => reader.filter(column, test),
            Source::Snapshot(snapshot) => snapshot.filter(column, test),
        }
    }
}

impl From<AnyStore> for KeplorTable {
    /// The table of an open store; each statement sees what was appended before it.
    fn from(store: AnyStore) -> Self {
        Self::new(Source::Store(store))
    }
}

impl From<AnyReader> for KeplorTable {
    /// The table of a reader, which is refreshed for each statement.
    fn from(reader: AnyReader) -> Self {
        Self::new(Source::Reader(reader))
    }
}

impl From<AnySnapshot> for KeplorTable {
    /// The table as it was at that moment.
    fn from(snapshot: AnySnapshot) -> Self {
        Self::new(Source::Snapshot(snapshot))
    }
}

#[async_trait]
impl TableProvider for KeplorTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> FusionResult<Vec<TableProviderFilterPushDown>> {
        let answers = filters.iter().map(|condition| match self.filter_of(condition) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        });
        Ok(answers.collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> FusionResult<Arc<dyn ExecutionPlan>> {
        let snapshot = self.snapshot_apart().await?;
        let mut filter = self.until_filter().map_err(external)?;
        let mut shown = Vec::new();
        for condition in filters {
            let Some(next) = self.filter_of(condition) else {
                // It stays with DataFusion, and so does the limit.
                return datafusion::common::internal_err!(
                    "the condition {condition} was not promised to hold"
                );
            };
            filter = Some(match filter {
                Some(known) => known & next,
                None => next,
            });
            shown.push(condition.to_string());
        }
        let all = self.columns.all();
        let columns = match projection {
            Some(places) => places.iter().filter_map(|place| all.get(*place)).cloned().collect(),
            None => all.to_vec(),
        };
        let schema = project_schema(self.columns.schema(), projection)?;
        let question = Question { snapshot, filter, shown, until: self.until, columns, schema };
        Ok(Arc::new(KeplorScan::new(question, state.config(), limit)))
    }
}
