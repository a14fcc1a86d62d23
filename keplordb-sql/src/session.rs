//! `Session`: questions in SQL about tables, within limits.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList as _, MemoryCatalogProvider, MemoryCatalogProviderList,
    SchemaProvider,
};
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::common::{DataFusionError, ParamValues};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    FairSpillPool, GreedyMemoryPool, MemoryConsumer, MemoryPool, TrackConsumersPool,
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Sleep;

use crate::aggregate;
use crate::as_of::{self, AsOfPlanner};
use crate::calls::CallsApart;
use crate::catalog::KeplorSchema;
use crate::error::{Result, SqlError};
use crate::joins::JoinsGiveWay;
use crate::levels::{Written, levels};
use crate::table::KeplorTable;
use crate::values::{Limits as ValueLimits, ValuesCount};
use crate::windows::WindowsCount;

/// The names of the catalog and of the schema that a session's tables are in: `keplor.main.NAME`, or `NAME` for short.
const CATALOG: &str = "keplor";
const SCHEMA: &str = "main";

/// Bytes of rows in order that are read ahead of a merge, where `DataFusion` would read ahead all it can.
const BUFFER_BYTES: usize = 1 << 20;

/// Levels of conditions, of operators, and of subqueries and unions, in a plan. `DataFusion` recurs by them wherever it runs, and the
/// threads of tokio have stacks of 2 MiB.
const LEVELS_MAX: usize = 512;

/// Tables and subqueries that a statement may stand for, those of a name of `WITH` again wherever it is used.
const TABLES_MAX: u64 = 4096;

/// The stack of a thread that plans: a statement of 1 MiB that is nothing but levels fits. Only what is used takes memory.
const PLANNING_STACK_BYTES: usize = 256 << 20;

/// Statements of a session that are planned at a time; others wait for their turn.
const PLANNERS_MAX: usize = 32;

/// Consumers of memory that the message of a query that needs too much names.
const CONSUMERS_NAMED: std::num::NonZeroUsize = std::num::NonZeroUsize::new(3).expect("3 is not 0");

/// Builds a [`Session`]; made by [`Session::builder`].
///
/// | limit | default | |
/// |---|---|---|
/// | `statement_limit_bytes` | 64 KiB | a statement's text |
/// | `memory_limit_bytes` | 1 GiB | of all queries of the session together: sorts, groups, joins, windows, and answers being collected |
/// | `row_limit` | none | rows of an answer |
/// | `timeout` | none | from the question to the last row |
/// | `spill_dir` | none | with it, sorts, groups and joins that need more memory go on on disk |
/// | `spill_limit_bytes` | 16 GiB | of all queries together, on disk |
/// | `partitions` | the machine's cores | how much of a query runs side by side |
/// | `batch_rows` | 8192 | rows that are worked on at a time |
#[derive(Debug, Clone)]
#[must_use = "a builder makes a session when it is built"]
pub struct SessionBuilder {
    statement_limit_bytes: usize,
    memory_limit_bytes: usize,
    row_limit: Option<u64>,
    timeout: Option<Duration>,
    spill_dir: Option<PathBuf>,
    spill_limit_bytes: u64,
    partitions: Option<usize>,
    batch_rows: usize,
}

impl Default for SessionBuilder {
    fn default() -> Self {
        Self {
            statement_limit_bytes: 64 << 10,
            memory_limit_bytes: 1 << 30,
            row_limit: None,
            timeout: None,
            spill_dir: None,
            spill_limit_bytes: 16 << 30,
            partitions: None,
            batch_rows: 8192,
        }
    }
}

impl SessionBuilder {
    /// How long a statement may be; at most 1 MiB. Whatever its length, a statement of more than 512 levels of operators, subqueries or
    /// unions within each other is refused, and one that stands for more than 4,096 tables; a list in `IN (…)` is one level.
    pub fn statement_limit_bytes(mut self, bytes: usize) -> Self {
        self.statement_limit_bytes = bytes.min(1 << 20);
        self
    }

    /// How much memory all queries of the session may hold together for what grows with the rows: sorts, groups, joins, and
    /// what [`Rows::collect`] is collecting. The few batches that are under way in each partition come on top.
    ///
    /// What one call of a function gives for a batch of rows may take an eighth of it, and a constant an even part of that for each row of a
    /// batch, but no less than 64 KiB; a call that would give more fails before it does. More than eight calls of a statement share what
    /// eight may give. Not everything is counted: a few such values in each partition are beside this limit, and so is what a window holds
    /// of the few rows that it looks back. Who lets strangers ask should bound the process as well.
    pub fn memory_limit_bytes(mut self, bytes: usize) -> Self {
        self.memory_limit_bytes = bytes;
        self
    }

    /// How many rows an answer may have; more are an error, not an answer that was cut.
    pub fn row_limit(mut self, rows: u64) -> Self {
        self.row_limit = Some(rows);
        self
    }

    /// How long a query may take, from the call to its last row, planning and whoever reads slowly included. Work that cannot be
    /// interrupted goes on in its thread after the error, without an effect: planning, and what [`Rows`] says of scans. A join by anything
    /// but equality is not interrupted while it finds nothing: where it has a thread to itself the error is as late as that.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Where queries put what does not fit their memory; they remove it again. The directory must be there.
    pub fn spill_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spill_dir = Some(dir.into());
        self
    }

    /// How much disk all queries of the session may fill together.
    pub fn spill_limit_bytes(mut self, bytes: u64) -> Self {
        self.spill_limit_bytes = bytes;
        self
    }

    /// In how many partitions a query runs side by side.
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = Some(partitions.max(1));
        self
    }

    /// How many rows are worked on at a time: less is less memory for wide rows, and more work per row.
    pub fn batch_rows(mut self, rows: usize) -> Self {
        self.batch_rows = rows.max(1);
        self
    }

    /// The session, without tables.
    ///
    /// # Errors
    /// [`Execution`](SqlError::Execution) where the spill directory cannot be used.
    pub fn build(self) -> Result<Session> {
        let Self {
            statement_limit_bytes,
            memory_limit_bytes,
            row_limit,
            timeout,
            spill_dir,
            spill_limit_bytes,
            partitions,
            batch_rows,
        } = self;
        let pool: Arc<dyn MemoryPool> = match spill_dir {
            None => {
                let pool = GreedyMemoryPool::new(memory_limit_bytes);
                Arc::new(TrackConsumersPool::new(pool, CONSUMERS_NAMED))
            }
            // What can go on on disk leaves memory to the others.
            Some(_) => {
                Arc::new(TrackConsumersPool::new(FairSpillPool::new(memory_limit_bytes), CONSUMERS_NAMED))
            }
        };
        let disk = DiskManagerBuilder::default().with_max_temp_directory_size(spill_limit_bytes);
        let disk = disk.with_mode(match spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir]),
            None => DiskManagerMode::Disabled,
        });
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(disk);
        let runtime = runtime.build_arc().map_err(|error| SqlError::of(error, memory_limit_bytes))?;

        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            .with_batch_size(batch_rows);
        let execution = &mut config.options_mut().execution;
        // Our scans are a few batches ahead as it is.
        execution.sort_pushdown_buffer_capacity = BUFFER_BYTES.min(memory_limit_bytes).max(1);
        // What a sort keeps back for merging what it spilled; the default is more than a small session has.
        let reserved = execution.sort_spill_reservation_bytes;
        execution.sort_spill_reservation_bytes = reserved.min(memory_limit_bytes / 8);
        if let Some(partitions) = partitions {
            config = config.with_target_partitions(partitions);
        }
        let values = ValueLimits::new(memory_limit_bytes, batch_rows);
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_analyzer_rule(Arc::new(ValuesCount(values)))
            .with_physical_optimizer_rules(aggregate::optimizer_rules())
            .with_physical_optimizer_rule(Arc::new(JoinsGiveWay))
            .with_physical_optimizer_rule(Arc::new(WindowsCount));
        let context = SessionContext::new_with_state(state.build());
        let tables = Arc::new(KeplorSchema::default());
        let catalog = MemoryCatalogProvider::new();
        let registered = catalog.register_schema(SCHEMA, Arc::clone(&tables) as Arc<dyn SchemaProvider>);
        registered.map_err(|error| SqlError::of(error, memory_limit_bytes))?;
        context.register_catalog(CATALOG, Arc::new(catalog));
        Ok(Session {
            context,
            tables,
            planners: Arc::new(Semaphore::new(PLANNERS_MAX)),
            limits: Limits {
                statement_bytes: statement_limit_bytes,
                memory_bytes: memory_limit_bytes,
                rows: row_limit,
                timeout,
                values,
            },
        })
    }
}

/// Questions in SQL about tables, within limits; each statement sees each table as it is at one moment.
///
/// It answers `SELECT` (with everything that `DataFusion` knows: joins, windows, `WITH`, `UNION`), `VALUES`, `EXPLAIN`,
/// `DESCRIBE` and `SHOW`. Whatever would change something is refused: it reads tables and writes nothing, and its limits
/// are set by its [builder](Self::builder), not by statements.
///
/// A handle: clones share tables and limits. `Send` and `Sync`; it runs on the tokio runtime that it is called on.
///
/// ```
/// use keplordb::TableSchema;
/// use keplordb::any::AnyStore;
/// use keplordb_sql::{Session, SqlError};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// let schema = TableSchema::new(1).dim("model").counter("tokens");
/// let store = AnyStore::open_or_create(dir.path().join("calls"), schema)?;
/// for (model, tokens) in [("gpt-4o", 1200), ("o3", 50), ("gpt-4o", 300)] {
///     let call = store.event(1_700_000_000_000_000_000);
///     store.append(call.set("model", model)?.set("tokens", tokens)?)?;
/// }
/// let session = Session::builder().row_limit(10_000).build()?;
/// session.register("calls", store);
///
/// let rows = session.sql("SELECT model, sum(tokens) AS tokens FROM calls GROUP BY model ORDER BY model").await?;
/// let answer = rows.collect().await?;
/// let shown = datafusion::arrow::util::pretty::pretty_format_batches(&answer)?.to_string();
/// assert!(shown.contains("| gpt-4o | 1500   |"));
///
/// let refused = session.sql("DROP TABLE calls").await.unwrap_err();
/// assert!(matches!(refused, SqlError::NotAQuery { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
    tables: Arc<KeplorSchema>,
    /// As many more statements may be planned.
    planners: Arc<Semaphore>,
    limits: Limits,
}

#[derive(Debug, Clone)]
struct Limits {
    statement_bytes: usize,
    memory_bytes: usize,
    rows: Option<u64>,
    timeout: Option<Duration>,
    values: ValueLimits,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Session")
            .field("tables", &self.tables)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Sets the limits of a session to be.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }

    /// Gives a table a name, in the place of a table that had it. Names are found without quotes where they are in lower
    /// case.
    pub fn register(&self, name: impl Into<String>, table: impl Into<KeplorTable>) {
        self.tables.register(name.into(), Arc::new(table.into()));
    }

    /// The tables by name, to add others than ours, or to look at them. One that asks its own session while it is planned may wait for
    /// ever: of a session 32 statements are planned at a time, and others wait for their turn, within their time.
    pub fn tables(&self) -> &Arc<KeplorSchema> {
        &self.tables
    }

    /// A session that asks other tables, which are in a schema of this name, within the limits that it shares with this one: their
    /// memory together is what this one grants. What `tables` gives is not pinned; who wants a statement to see all tables at one
    /// moment makes a session for the statement, which costs far less than to plan one.
    ///
    /// # Errors
    /// [`Plan`](SqlError::Plan) where the schema's name cannot be used.
    pub fn over(&self, schema: &str, tables: Arc<dyn SchemaProvider>) -> Result<Self> {
        let state = self.context.state();
        let catalog = MemoryCatalogProvider::new();
        let registered = catalog.register_schema(schema, tables);
        registered.map_err(|error| self.limits.error(error))?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let config = state.config().clone().with_default_catalog_and_schema(CATALOG, schema);
        let state = SessionStateBuilder::new_from_existing(state)
            .with_config(config)
            .with_catalog_list(Arc::new(catalogs))
            .build();
        Ok(Self { context: SessionContext::new_with_state(state), ..self.clone() })
    }

    /// What `DataFusion` reports of a plan over this session's [context](Self::context), as an error of ours; one of ours that it carries
    /// comes out as it went in.
    pub fn error(&self, error: DataFusionError) -> SqlError {
        self.limits.error(error)
    }

    /// The `DataFusion` context under the session, for functions and settings of your own. Statements that are put to it
    /// directly are not refused, and only its memory is limited.
    ///
    /// What it keeps of a table is the table as it was then: a view (`CREATE VIEW`, `into_view`) or a data frame shows the rows of the
    /// moment it was made, and as long as it is there, so are the files that it reads. Ask a [`Session`] anew for new rows.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Answers a question. Planning is done on return; rows are read as they are asked for.
    ///
    /// Cost of planning: milliseconds in a thread of its own, of which a session has 32 at most, and a snapshot of each table that the statement names.
    ///
    /// # Errors
    /// [`Syntax`](SqlError::Syntax) for what is no SQL, or several statements; [`TooLarge`](SqlError::TooLarge);
    /// [`NotAQuery`](SqlError::NotAQuery) for
    /// statements that would change something; [`Plan`](SqlError::Plan) for tables, columns and functions that there are
    /// not; [`AsOf`](SqlError::AsOf) for [time travel](crate::as_of) that cannot be answered; [`Engine`](SqlError::Engine) when
    /// a table cannot be read; [`TooSlow`](SqlError::TooSlow).
    ///
    /// # Panics
    /// Outside of a tokio runtime; with a `timeout`, on one without its timer.
    pub async fn sql(&self, statement: &str) -> Result<Rows> {
        self.ask(statement, None).await
    }

    /// Answers a question with parameters: `$1`, `$2` have the values of a list, `$name` those of a map.
    ///
    /// # Errors
    /// As [`sql`](Self::sql); [`Plan`](SqlError::Plan) and [`AsOf`](SqlError::AsOf) where a parameter has no value.
    ///
    /// # Panics
    /// As [`sql`](Self::sql).
    ///
    /// ```
    /// use datafusion::common::ScalarValue;
    /// use keplordb::TableSchema;
    /// use keplordb::any::AnyStore;
    /// use keplordb_sql::Session;
    ///
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let dir = tempfile::tempdir()?;
    /// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1).counter("tokens"))?;
    /// for second in 0..10 {
    ///     let call = store.event(1_700_000_000_000_000_000 + second * 1_000_000_000);
    ///     store.append(call.set("tokens", second)?)?;
    /// }
    /// let session = Session::builder().build()?;
    /// session.register("calls", store);
    /// let params = vec![ScalarValue::from("2023-11-14 22:13:25"), ScalarValue::from(3_i64)];
    /// let rows = session.sql_with("SELECT ts FROM calls AS OF $1 WHERE tokens > $2", params).await?;
    /// assert_eq!(rows.collect().await?.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn sql_with(&self, statement: &str, params: impl Into<ParamValues>) -> Result<Rows> {
        self.ask(statement, Some(params.into())).await
    }

    async fn ask(&self, statement: &str, params: Option<ParamValues>) -> Result<Rows> {
        let (session, text) = (self.clone(), statement.to_owned());
        let begun = self.apart(move || async move {
            let (state, plan) = session.planned(&text, params).await?;
            let frame = DataFrame::new(state, plan);
            frame.execute_stream().await.map_err(|error| session.limits.error(error))
        });
        let (stream, deadline) = begun.await?;
        let limits = self.limits.clone();
        let pool = Arc::clone(&self.context.runtime_env().memory_pool);
        let granted = limits.rows.unwrap_or(u64::MAX);
        Ok(Rows { schema: stream.schema(), stream: Some(stream), granted, deadline, limits, pool })
    }

    /// The logical plan of a question, not optimized.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub async fn plan(&self, statement: &str) -> Result<LogicalPlan> {
        let (session, text) = (self.clone(), statement.to_owned());
        let planned = self.apart(move || async move { Ok(session.planned(&text, None).await?.1) });
        Ok(planned.await?.0)
    }

    /// The plan, and the state of the statement that it belongs to.
    async fn planned(
        &self,
        statement: &str,
        params: Option<ParamValues>,
    ) -> Result<(SessionState, LogicalPlan)> {
        let failed = |error| self.limits.error(error);
        let limit_bytes = self.limits.statement_bytes;
        if statement.len() > limit_bytes {
            let why = format!(
                "it has {} bytes of {limit_bytes} that the session grants, raise `statement_limit_bytes`",
                statement.len()
            );
            return Err(SqlError::TooLarge { why });
        }
        let statement = parse(statement).map_err(failed)?;
        refuse_all_but_queries(&statement)?;
        let written = Written::of(&statement);
        granted_levels(written.levels)?;
        if written.tables > TABLES_MAX {
            let why = format!(
                "it stands for {} tables, and {TABLES_MAX} are granted: a name of WITH counts wherever it is used; ask several questions",
                written.tables
            );
            return Err(SqlError::TooLarge { why });
        }
        let shown = words(&statement);
        let mut state = self.context.state();
        state.register_relation_planner(Arc::new(CallsApart::new(self.limits.values))).map_err(failed)?;
        let time_travel = Arc::new(AsOfPlanner::of(&state, params.clone()).within(self.limits.values));
        state.register_relation_planner(time_travel).map_err(failed)?;
        let mut plan = state.statement_to_plan(statement).await.map_err(failed)?;
        granted_levels(levels(&plan).map_err(failed)?)?;
        if let Some(params) = params {
            plan = plan.with_param_values(params).map_err(failed)?;
        }
        // What hides in a query: SELECT INTO, INSERT within WITH.
        let only_queries =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        match only_queries.verify_plan(&plan) {
            Ok(()) => Ok((state, plan)),
            Err(_) => Err(SqlError::NotAQuery { statement: shown, instead: ANYTHING_ELSE }),
        }
    }

    /// Does work on a thread with a large stack, so that neither its depth nor its length harms those of the runtime; within the time,
    /// of which what is left comes back.
    async fn apart<T: Send + 'static, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(T, Option<Pin<Box<Sleep>>>)> {
        let deadline = self.limits.timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
        let done = async {
            let failed = |why: &str| SqlError::Execution(DataFusionError::Internal(why.to_owned()));
            let turn = Arc::clone(&self.planners).acquire_owned().await;
            let turn = turn.map_err(|_| failed("nobody closes the session's planners"))?;
            let runtime = Handle::current();
            let (sender, done) = oneshot::channel();
            let thread = std::thread::Builder::new().name("keplordb-sql".to_owned());
            let begun = thread.stack_size(PLANNING_STACK_BYTES).spawn(move || {
                let mut sender = sender;
                let done = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        done = work() => Some(done),
                        // Nobody waits for it where the time is over, or whoever asked has gone.
                        () = sender.closed() => None,
                    }
                });
                drop(turn);
                if let Some(done) = done {
                    drop(sender.send(done));
                }
            });
            begun.map_err(|error| SqlError::Execution(error.into()))?;
            done.await
                .unwrap_or_else(|_| Err(failed("planning panicked, the thread `keplordb-sql` said why")))
        };
        match deadline {
            None => Ok((done.await?, None)),
            Some(mut deadline) => tokio::select! {
                biased;
                done = done => Ok((done?, Some(deadline))),
                () = &mut deadline => Err(self.limits.too_slow()),
            },
        }
    }
}

impl Limits {
    fn error(&self, error: DataFusionError) -> SqlError {
        SqlError::of(error, self.memory_bytes)
    }

    fn too_slow(&self) -> SqlError {
        SqlError::TooSlow { limit_ms: self.timeout.unwrap_or_default().as_millis() }
    }
}

/// # Errors
/// [`TooLarge`](SqlError::TooLarge): too many levels.
fn granted_levels(levels: usize) -> Result<()> {
    if levels <= LEVELS_MAX {
        return Ok(());
    }
    let why = format!(
        "it nests {levels} levels deep, and {LEVELS_MAX} are granted: write `x IN (…)` for `x = … OR x = …`, ask several questions \
         for many unions"
    );
    Err(SqlError::TooLarge { why })
}

/// The one statement of a text.
fn parse(text: &str) -> datafusion::common::Result<Statement> {
    let statements = as_of::parse(text)?;
    let count = statements.len();
    let mut statements = statements.into_iter();
    match (statements.next(), count) {
        (Some(statement), 1) => Ok(statement),
        (_, count) => {
            let why = format!("it has {count} statements; put one at a time");
            Err(SqlError::Syntax { why }.into())
        }
    }
}

const ANYTHING_ELSE: &str =
    "append, delete and keep tables by the engine (keplordb::any::AnyStore, or your Store)";

fn refuse_all_but_queries(statement: &Statement) -> Result<()> {
    let instead = match statement {
        Statement::Explain(explain) => return refuse_all_but_queries(&explain.statement),
        Statement::Statement(inner) => match &**inner {
            SqlStatement::Query(_)
            | SqlStatement::Explain { .. }
            | SqlStatement::ExplainTable { .. }
            | SqlStatement::ShowTables { .. }
            | SqlStatement::ShowColumns { .. }
            | SqlStatement::ShowFunctions { .. }
            | SqlStatement::ShowVariable { .. } => return Ok(()),
            SqlStatement::Set(_) => "set limits by Session::builder(), and the rest by Session::context()",
            SqlStatement::CreateTable(_) | SqlStatement::CreateView { .. } => {
                "give tables names by Session::register()"
            }
            _ => ANYTHING_ELSE,
        },
        Statement::CreateExternalTable(_) => "give tables names by Session::register(), or import the file",
        Statement::CopyTo(_) => "export by keplordb_sql::export",
        Statement::Reset(_) => "set limits by Session::builder(), and the rest by Session::context()",
    };
    Err(SqlError::NotAQuery { statement: words(statement), instead })
}

/// The first words of a statement, for messages.
fn words(statement: &Statement) -> String {
    statement.to_string().split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The rows of an answer, a batch at a time.
///
/// A [`Stream`]; dropping it ends the query. It ends after an error. While it is there, so are the rows and files that the tables had
/// when the question was put. A search without an order looks whether it is still wanted once per segment and with each batch that it
/// finds, one in the order of time only with each batch; counts, sums and groups that the engine answers, every few thousand rows. So long they
/// keep their thread, one of tokio's for blocking work, and so does a scan whose rows nobody takes: read an answer, or drop it.
#[must_use = "rows are read as they are asked for"]
pub struct Rows {
    /// `None` after the end.
    stream: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    /// Rows that may still come.
    granted: u64,
    deadline: Option<Pin<Box<Sleep>>>,
    limits: Limits,
    pool: Arc<dyn MemoryPool>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Rows {
    /// The columns of the answer.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// All rows that are left.
    ///
    /// # Errors
    /// [`Engine`](SqlError::Engine) where a file of a table cannot be read, or is damaged; [`Memory`](SqlError::Memory),
    /// [`TooManyRows`](SqlError::TooManyRows), [`TooSlow`](SqlError::TooSlow) at the session's limits;
    /// [`Execution`](SqlError::Execution) for what only shows with the values: a division by zero, a sum that the
    /// engine answers and that does not fit `BIGINT`. Where `DataFusion` computes, numbers that do not fit wrap around without an error:
    /// `CAST(metric AS DECIMAL(38, 0))` keeps them.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        // Until it is whole, it counts with all else that the session holds.
        let held = MemoryConsumer::new("rows of the answer").register(&self.pool);
        let mut memory = RecordBatchMemoryCounter::new();
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            let batch = batch?;
            held.try_grow(memory.count_batch(&batch)).map_err(|error| self.limits.error(error))?;
            batches.push(batch);
        }
        Ok(batches)
    }

    /// What is next of the stream, and of the limits.
    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(self.limits.too_slow())));
        }
        let Poll::Ready(next) = stream.poll_next_unpin(context) else { return Poll::Pending };
        let Some(next) = next else { return Poll::Ready(None) };
        let batch = match next {
            Ok(batch) => batch,
            Err(error) => return Poll::Ready(Some(Err(self.limits.error(error)))),
        };
        let Some(granted) = self.granted.checked_sub(batch.num_rows() as u64) else {
            let limit_rows = self.limits.rows.unwrap_or(u64::MAX);
            return Poll::Ready(Some(Err(SqlError::TooManyRows { limit_rows })));
        };
        self.granted = granted;
        Poll::Ready(Some(Ok(batch)))
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.poll_batch(context);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.stream = None;
        }
        next
    }
}
