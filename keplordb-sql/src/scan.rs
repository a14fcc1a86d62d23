//! `KeplorScan`: the rows that a question of SQL needs, as a leaf of a physical plan.
//!
//! What the plan asks of it (an order by time, a limit) becomes a part of the engine's query; the rows come out of a thread
//! for blocking work, a few batches ahead of whoever reads them.

use std::fmt;
use std::iter::StepBy;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, DataFusionError, Result, ScalarValue, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
    SortOrderPushdownResult,
};
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use keplordb::any::{AnyFilter, AnyQuery, AnySnapshot, ColumnBatch};

use crate::batch::Batches;
use crate::error::external;
use crate::schema::{Form, SqlColumn, UTC};
use crate::table::Until;

/// Batches that a partition may be ahead of whoever reads them.
const BATCHES_AHEAD: usize = 2;

/// What is asked of which rows.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) snapshot: AnySnapshot,
    /// `None` is all rows.
    pub(crate) filter: Option<AnyFilter>,
    /// The conditions in the filter, as `EXPLAIN` shows them.
    pub(crate) shown: Vec<String>,
    /// The instant in the filter.
    pub(crate) until: Until,
    /// The columns of the answer, and its schema, which has as many fields.
    pub(crate) columns: Vec<SqlColumn>,
    pub(crate) schema: SchemaRef,
}

/// The order in which rows come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Whichever partition is ready first.
    Any,
    OldestFirst,
    NewestFirst,
}

/// Rows of a table of the engine.
///
/// Without an order it has several partitions, which take turns at the table's parts: segments, then blocks in memory. In
/// the order of time it has one. Without columns it counts.
#[derive(Debug, Clone)]
pub struct KeplorScan {
    question: Arc<Question>,
    order: Order,
    /// Rows after which each partition ends.
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl KeplorScan {
    /// As many partitions as the session wants, if there is something for each of them to do.
    pub(crate) fn new(question: Question, config: &SessionConfig, fetch: Option<usize>) -> Self {
        let snapshot = &question.snapshot;
        let is_small = usize::try_from(snapshot.live_rows()).is_ok_and(|rows| rows <= config.batch_size());
        let partitions = match config.target_partitions().min(snapshot.parts()) {
            _ if is_small || question.columns.is_empty() => 1,
            partitions => partitions.max(1),
        };
        Self::ordered(Arc::new(question), Order::Any, Vec::new(), partitions, fetch)
    }

    /// In an order, and in further ones that it amounts to.
    fn ordered(
        question: Arc<Question>,
        order: Order,
        mut orderings: Vec<Vec<PhysicalSortExpr>>,
        partitions: usize,
        fetch: Option<usize>,
    ) -> Self {
        orderings.extend(question.orderings(order));
        let equivalences = EquivalenceProperties::new_with_orderings(Arc::clone(&question.schema), orderings);
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            question,
            order,
            fetch,
            // Its stream reads from a channel of tokio, which gives way.
            properties: Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative)),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The question, if all of its rows come.
    pub(crate) fn whole(&self) -> Option<&Arc<Question>> {
        self.fetch.is_none().then_some(&self.question)
    }

    fn partitions(&self) -> usize {
        self.properties.partitioning.partition_count()
    }

    fn work(&self, partition: usize, context: &TaskContext) -> Work {
        Work {
            question: Arc::clone(&self.question),
            order: self.order,
            limit: self.fetch.unwrap_or(usize::MAX),
            batch_rows: context.session_config().batch_size().min(self.fetch.unwrap_or(usize::MAX)).max(1),
            parts: (partition..self.question.snapshot.parts()).step_by(self.partitions()),
            output_rows: MetricBuilder::new(&self.metrics).output_rows(partition),
        }
    }

    /// The order of time that sorts as these expressions ask for.
    fn order_for(&self, wanted: &[PhysicalSortExpr]) -> Option<Order> {
        let mut order = None;
        for sort in wanted {
            let column = sort.expr.downcast_ref::<Column>()?;
            let column = self.question.columns.get(column.index())?;
            let this = if sort.options.descending { Order::NewestFirst } else { Order::OldestFirst };
            match order {
                None if column.is_time() => order = Some(this),
                // Within a time, the time again says nothing.
                Some(_) if column.is_time() => {}
                // Sequences are unique: what follows says nothing either.
                Some(known) if column.source == "sequence" && known == this => break,
                _ => return None,
            }
        }
        order
    }
}

impl Question {
    /// By which columns the rows are sorted.
    fn orderings(&self, order: Order) -> Vec<Vec<PhysicalSortExpr>> {
        let descending = match order {
            Order::Any => return Vec::new(),
            Order::OldestFirst => false,
            Order::NewestFirst => true,
        };
        let options = SortOptions { descending, nulls_first: descending };
        let sort = |place: usize| {
            let column = Column::new(self.schema.field(place).name(), place);
            PhysicalSortExpr::new(Arc::new(column), options)
        };
        let sequence = self.columns.iter().position(|column| column.source == "sequence");
        let times = self.columns.iter().enumerate().filter(|(_, column)| column.is_time());
        times.map(|(place, _)| std::iter::once(place).chain(sequence).map(sort).collect()).collect()
    }

    pub(crate) fn query(&self) -> AnyQuery<'_> {
        let query = self.snapshot.query();
        match &self.filter {
            Some(filter) => query.filter(filter),
            None => query,
        }
    }

    /// Which rows are asked for, as `EXPLAIN` shows it: names and values.
    pub(crate) fn conditions(&self) -> Vec<(&'static str, String)> {
        let Self { shown, until, .. } = self;
        let mut lines = Vec::new();
        if !shown.is_empty() {
            lines.push(("filter", format!("[{}]", shown.join(" AND "))));
        }
        lines.extend(until.sequence.map(|sequence| ("up_to_sequence", sequence.to_string())));
        lines.extend(until.ts_ns.map(|ts_ns| ("up_to_ts_ns", ts_ns.to_string())));
        lines
    }

    /// Exact where no row is left out, by a filter or as deleted; without the bounds of times else.
    fn statistics(&self) -> Statistics {
        let rows = usize::try_from(self.snapshot.live_rows()).map_or(Precision::Absent, Precision::Exact);
        let is_all = self.filter.is_none();
        let times = self.snapshot.times();
        let column_statistics = self.columns.iter().map(|column| {
            let bound = |pick: fn((i64, i64)) -> i64| {
                let time = times.map(pick).filter(|_| column.is_time());
                let value = time.map_or(Precision::Absent, |time| Precision::Exact(column.form.time(time)));
                if is_all && !self.snapshot.has_deletes() { value } else { value.to_inexact() }
            };
            ColumnStatistics {
                null_count: Precision::Exact(0),
                min_value: bound(|(min, _)| min),
                max_value: bound(|(_, max)| max),
                ..ColumnStatistics::new_unknown()
            }
        });
        Statistics {
            num_rows: if is_all { rows } else { rows.to_inexact() },
            total_byte_size: Precision::Absent,
            column_statistics: column_statistics.collect(),
        }
    }
}

impl Form {
    /// A time in a column of this form.
    fn time(self, ts_ns: i64) -> ScalarValue {
        match self {
            Self::Timestamp => ScalarValue::TimestampNanosecond(Some(ts_ns), Some(UTC.into())),
            _ => ScalarValue::Int64(Some(ts_ns)),
        }
    }
}

impl DisplayAs for KeplorScan {
    fn fmt_as(&self, format: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.question.schema.fields();
        let columns: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        let mut lines = vec![("columns", format!("[{}]", columns.join(", ")))];
        lines.extend(self.question.conditions());
        match self.order {
            Order::NewestFirst => lines.push(("order", "newest first".to_owned())),
            Order::OldestFirst => lines.push(("order", "oldest first".to_owned())),
            Order::Any => {}
        }
        lines.extend(self.fetch.map(|fetch| ("fetch", fetch.to_string())));
        lines.push(("partitions", self.partitions().to_string()));
        write_lines(format, out, "KeplorScan", &lines)
    }
}

/// What `EXPLAIN` shows of a plan.
pub(crate) fn write_lines(
    format: DisplayFormatType,
    out: &mut fmt::Formatter<'_>,
    plan: &str,
    lines: &[(&str, String)],
) -> fmt::Result {
    match format {
        DisplayFormatType::Default | DisplayFormatType::Verbose => {
            let lines: Vec<_> = lines.iter().map(|(name, value)| format!("{name}={value}")).collect();
            write!(out, "{plan}: {}", lines.join(", "))
        }
        DisplayFormatType::TreeRender => {
            lines.iter().try_for_each(|(name, value)| writeln!(out, "{name}={value}"))
        }
    }
}

impl ExecutionPlan for KeplorScan {
    fn name(&self) -> &'static str {
        "KeplorScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no children") }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no children") }
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let work = self.work(partition, &context);
        let schema = Arc::clone(&self.question.schema);
        // The thread begins when somebody reads: one that waited with full hands for its turn in a plan would keep a thread
        // from those whose turn it is.
        let begin = async move {
            let mut builder =
                RecordBatchReceiverStreamBuilder::new(Arc::clone(&work.question.schema), BATCHES_AHEAD);
            let sender = builder.tx();
            builder.spawn_blocking(move || {
                work.run(&|| !sender.is_closed(), &mut |batch| match sender.blocking_send(Ok(batch)) {
                    Ok(()) => ControlFlow::Continue(()),
                    // Nobody reads any more.
                    Err(_) => ControlFlow::Break(()),
                })
            });
            Ok::<_, DataFusionError>(builder.build())
        };
        let stream = futures::stream::once(begin).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let partitions = self.partitions();
        // How many rows each part has is not known.
        if args.partition().is_some() && partitions > 1 {
            return Ok(Arc::new(Statistics::new_unknown(&self.question.schema)));
        }
        let statistics = self.question.statistics();
        Ok(Arc::new(match self.fetch {
            // Each of them ends after so many, and how many each has is not known.
            Some(_) if partitions > 1 => statistics.to_inexact(),
            fetch => statistics.with_fetch(fetch, 0, 1)?,
        }))
    }

    fn with_fetch(&self, fetch: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self { fetch, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn try_pushdown_sort(
        &self,
        wanted: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        // Which rows a limit leaves depends on the order that they are limited in.
        let Some(order) = self.order_for(wanted).filter(|_| self.fetch.is_none()) else {
            return Ok(SortOrderPushdownResult::Unsupported);
        };
        let wanted = vec![wanted.to_vec()];
        let inner = Self::ordered(Arc::clone(&self.question), order, wanted, 1, None);
        Ok(SortOrderPushdownResult::Exact { inner: Arc::new(inner) })
    }
}

/// What the thread of a partition does.
struct Work {
    question: Arc<Question>,
    order: Order,
    /// Rows after which it ends.
    limit: usize,
    batch_rows: usize,
    /// Which parts the partition has, where rows come in no order. They are known before it runs: whoever executes
    /// partitions, and wherever, all of them together have each part once.
    parts: StepBy<Range<usize>>,
    output_rows: Count,
}

impl Work {
    /// Gives batches to `each` until it breaks. Whether they are wanted it also asks before each part: there may be nothing to
    /// give in many.
    fn run(
        &self,
        is_wanted: &dyn Fn() -> bool,
        each: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>,
    ) -> Result<()> {
        let Question { columns, schema, .. } = &*self.question;
        if columns.is_empty() {
            return self.count(each);
        }
        let batches = Batches::new(Arc::clone(schema), columns);
        let positions = batches.positions().to_vec();
        let mut out = Output {
            batches,
            each,
            left: self.limit,
            is_ended: false,
            failed: None,
            rows: &self.output_rows,
        };
        let query = self.question.query();
        let ordered = match self.order {
            Order::NewestFirst => Some(query.clone().newest_first()),
            Order::OldestFirst => Some(query.clone().oldest_first()),
            Order::Any => None,
        };
        if let Some(query) = ordered {
            let query = query.limit(self.limit);
            query.batches(&positions, self.batch_rows, |batch| out.give(batch)).map_err(external)?;
            return out.finish();
        }
        for part in self.parts.clone() {
            if out.left == 0 || out.is_ended || !is_wanted() {
                break;
            }
            let query = query.clone().limit(out.left);
            query.batches_of(part, &positions, self.batch_rows, |batch| out.give(batch)).map_err(external)?;
        }
        out.finish()
    }

    /// Batches of no columns, as long together as there are rows.
    fn count(&self, each: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>) -> Result<()> {
        let rows = self.question.query().totals().map_err(external)?.event_count;
        let mut left = usize::try_from(rows).unwrap_or(usize::MAX).min(self.limit);
        self.output_rows.add(left);
        while left > 0 {
            let rows = left.min(self.batch_rows);
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let batch =
                RecordBatch::try_new_with_options(Arc::clone(&self.question.schema), vec![], &options)?;
            if each(batch).is_break() {
                break;
            }
            left -= rows;
        }
        Ok(())
    }
}

/// Where batches of the engine go.
struct Output<'o> {
    batches: Batches,
    each: &'o mut dyn FnMut(RecordBatch) -> ControlFlow<()>,
    /// Rows that may still come.
    left: usize,
    /// Whether nobody wants more.
    is_ended: bool,
    failed: Option<ArrowError>,
    rows: &'o Count,
}

impl Output<'_> {
    fn give(&mut self, batch: ColumnBatch) -> ControlFlow<()> {
        self.left = self.left.saturating_sub(batch.rows);
        self.rows.add(batch.rows);
        let step = match self.batches.record_batch(batch) {
            Ok(batch) => (self.each)(batch),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        };
        self.is_ended = step.is_break();
        step
    }

    fn finish(self) -> Result<()> {
        self.failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    use futures::StreamExt;
    use keplordb::TableSchema;
    use keplordb::any::AnyStore;

    use super::*;
    use crate::schema::SqlColumns;

    const ROWS: usize = 1000;

    /// A scan of all columns of a table of 1000 rows in several parts, and contexts with batches of 10.
    fn scan(dir: &tempfile::TempDir) -> (KeplorScan, impl Fn() -> Arc<TaskContext>) {
        let store = AnyStore::open_or_create(dir.path().join("t"), TableSchema::new(1).dim("user")).unwrap();
        for part in 0..4_usize {
            let ts_ns = |place: usize| i64::try_from(part * ROWS / 4 + place).unwrap();
            store.append_batch((0..ROWS / 4).map(|place| store.event(ts_ns(place)))).unwrap();
            store.flush().unwrap();
        }
        let columns = SqlColumns::new(store.columns());
        let question = Question {
            snapshot: store.snapshot(),
            filter: None,
            shown: Vec::new(),
            until: Until::default(),
            columns: columns.all().to_vec(),
            schema: Arc::clone(columns.schema()),
        };
        let config = || SessionConfig::new().with_target_partitions(2).with_batch_size(10);
        let context = move || Arc::new(TaskContext::default().with_session_config(config()));
        (KeplorScan::new(question, &config(), None), context)
    }

    fn is_soon(mut holds: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        while !holds() {
            if begun.elapsed() > Duration::from_secs(20) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    #[tokio::test]
    async fn a_partition_is_a_few_batches_ahead_and_ends_when_nobody_reads() {
        let dir = tempfile::tempdir().unwrap();
        let (scan, context) = scan(&dir);
        let question = Arc::downgrade(&scan.question);
        let mut stream = scan.execute(0, context()).unwrap();
        let rows = |scan: &KeplorScan| scan.metrics().unwrap().output_rows().unwrap_or(0);
        assert_eq!(rows(&scan), 0, "nothing is read before somebody asks");
        assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 10);
        // One was taken, some wait, one is in the thread's hands.
        assert!(is_soon(|| rows(&scan) == 10 * (BATCHES_AHEAD + 2)));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(rows(&scan), 10 * (BATCHES_AHEAD + 2));
        drop(stream);
        drop(scan);
        assert!(is_soon(|| question.strong_count() == 0), "the thread goes on");
    }

    #[test]
    fn a_search_that_finds_nothing_ends_when_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (scan, context) = scan(&dir);
        let (asked, mut rows) = (Cell::new(0), 0);
        let parts = (0..scan.question.snapshot.parts()).step_by(1);
        assert!(parts.len() > 1);
        let work = Work { parts, ..scan.work(0, &context()) };
        let is_wanted = || asked.replace(asked.get() + 1) < 1;
        work.run(&is_wanted, &mut |batch| {
            rows += batch.num_rows();
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(asked.get(), 2);
        assert!((1..ROWS).contains(&rows), "the second part is not read");
    }

    #[tokio::test]
    async fn partitions_give_each_row_once_whoever_executes_them() {
        let dir = tempfile::tempdir().unwrap();
        let (scan, context) = scan(&dir);
        assert_eq!(scan.partitions(), 2);
        let first = context();
        // Of one execution; of two that take turns; and each in a context of its own.
        for contexts in [[&first, &first], [&first, &first], [&context(), &context()]] {
            let streams =
                [0, 1].map(|partition| scan.execute(partition, Arc::clone(contexts[partition])).unwrap());
            let mut rows = 0;
            for mut stream in streams {
                while let Some(batch) = stream.next().await {
                    rows += batch.unwrap().num_rows();
                }
            }
            assert_eq!(rows, ROWS);
        }
    }
}
