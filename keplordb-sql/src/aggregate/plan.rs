//! `KeplorAggregate`: groups of a table's rows with what is asked of each, as a leaf of a physical plan.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringViewArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::TryStreamExt;
use keplordb::any::{AnyAggregate, AnyGroupValue, AnyGroups};
use keplordb::{Bucket, DbError};

use super::asked::{Asked, Output};
use super::spans::{Shown, Spans};
use crate::error::external;
use crate::scan::{Question, write_lines};

/// Groups of a table's rows, and counts, sums, extremes and means of each, as the engine has them summed up.
///
/// A session's optimizer puts it in the place of an aggregate of `DataFusion`'s over a [`KeplorScan`](crate::KeplorScan). It keeps
/// that aggregate, and asks it where only the engine's answer tells that it must: an `AVG` may have been rounded otherwise, or groups
/// take more memory than the session grants, which `DataFusion` may move to disk. `EXPLAIN ANALYZE` counts that as `left_to_datafusion`, and
/// says how many segments were answered by sums and how many rows were read.
#[derive(Debug, Clone)]
pub struct KeplorAggregate {
    question: Arc<Question>,
    asked: Arc<Asked>,
    /// The same by `DataFusion`, in one partition.
    otherwise: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl KeplorAggregate {
    pub(super) fn new(question: Arc<Question>, asked: Asked, otherwise: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(otherwise.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            question,
            asked: Arc::new(asked),
            otherwise,
            properties: Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative)),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    pub(super) fn parts(&self) -> (&Arc<Question>, &Asked) {
        (&self.question, &self.asked)
    }

    fn count(&self, name: &'static str, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        MetricBuilder::new(&self.metrics).counter(name, 0).add(count);
    }

    /// The groups, if they are the answer and there is memory for them.
    async fn groups(&self, held: &Arc<MemoryReservation>) -> Result<Option<AnyGroups>> {
        let (question, asked) = (Arc::clone(&self.question), Arc::clone(&self.asked));
        let memory = Arc::clone(held);
        // Dropped with this future, when nobody waits for the answer any more.
        let waiting = Arc::new(());
        let waits = Arc::downgrade(&waiting);
        let grants = move |bytes| waits.strong_count() > 0 && (bytes == 0 || memory.try_grow(bytes).is_ok());
        let found = SpawnedTask::spawn_blocking(move || {
            let found = asked.groups(&question, grants);
            found.map(|found| asked.is_answered(&found).map(|is_answered| is_answered.then_some(found)))
        });
        let found =
            match found.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))? {
                Err(DbError::GivenUp) => None,
                found => found.map_err(external)??,
            };
        if let Some(found) = &found {
            // It is less than what the way there took, all of which was granted.
            held.try_resize(found.bytes())?;
            let explain = found.explain();
            let summed = explain.by_totals + explain.by_running_sums + explain.by_value_sums;
            self.count("segments_summed", summed);
            self.count("segments_read", explain.by_value_rows + explain.scanned);
            self.count("rows_read", explain.rows_decoded + explain.block_rows);
        } else {
            held.free();
            self.count("left_to_datafusion", 1);
        }
        Ok(found)
    }
}

impl Asked {
    fn groups(
        &self,
        question: &Question,
        grants: impl Fn(usize) -> bool + Send + Sync + 'static,
    ) -> keplordb::Result<AnyGroups> {
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        let mut query = question.query().group_by(&keys)?.while_granted(grants).select(&self.aggregates)?;
        if let Some(Spans { width_ns, offset_ns }) = self.spans {
            query = query.bucket(Bucket::ns(width_ns).from(offset_ns));
        }
        query.fetch()
    }

    /// Whether the groups have what `DataFusion` would answer; it may not where means are rounded.
    ///
    /// # Errors
    /// For a sum that does not fit.
    fn is_answered(&self, groups: &AnyGroups) -> Result<bool> {
        let mut is_answered = true;
        for group in 0..groups.len() {
            let values = groups.values(group);
            for output in &self.outputs {
                match *output {
                    Output::Sum(place) => self.check_sum(place, &values[place])?,
                    Output::Mean(mean) => is_answered &= self.is_empty(values) || mean.of(values).is_some(),
                    _ => {}
                }
            }
        }
        Ok(is_answered)
    }

    fn check_sum(&self, place: usize, value: &AnyGroupValue) -> Result<()> {
        match (value, &self.aggregates[place]) {
            (AnyGroupValue::Sum(sum), AnyAggregate::Sum(column)) if i64::try_from(*sum).is_err() => {
                exec_err!(
                    "sum({column}) is {sum}, which is no BIGINT; ask for sum(CAST({column} AS DECIMAL(38, 0))), or for fewer rows"
                )
            }
            _ => Ok(()),
        }
    }

    /// Whether these are the values of no rows: of the one group that is always there.
    fn is_empty(&self, values: &[AnyGroupValue]) -> bool {
        let count = |place: usize| values.get(place) == Some(&AnyGroupValue::Count(0));
        let place = self.aggregates.iter().position(|aggregate| *aggregate == AnyAggregate::Count);
        self.has_one_group() && place.is_some_and(count)
    }

    /// Some of the groups as a batch.
    fn record_batch(
        &self,
        groups: &AnyGroups,
        range: Range<usize>,
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let arrays = self.outputs.iter().zip(schema.fields());
        let arrays =
            arrays.map(|(output, field)| self.array(groups, range.clone(), *output, field.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(range.len()));
        let arrays = arrays.collect::<Result<_>>()?;
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
    }

    fn array(
        &self,
        groups: &AnyGroups,
        range: Range<usize>,
        output: Output,
        data_type: &DataType,
    ) -> Result<ArrayRef> {
        let start = |group| Some(groups.bucket(group));
        match output {
            Output::Text(slot) => {
                let texts = range.map(|group| groups.key(group, slot));
                Ok(Arc::new(StringViewArray::from_iter_values(texts)))
            }
            Output::Status(slot) => {
                numbers(range.map(|group| Some(groups.status(group, slot).into())), data_type)
            }
            Output::Span(Shown::Start) => numbers(range.map(start), data_type),
            Output::Span(Shown::Number) => {
                let width_ns = self.spans.map_or(1, |spans| spans.width_ns);
                numbers(range.map(|group| Some(groups.bucket(group) / width_ns)), data_type)
            }
            Output::Number(place) | Output::Sum(place) => {
                let number = |group| {
                    let values = groups.values(group);
                    match values[place] {
                        AnyGroupValue::Count(count) => i64::try_from(count).ok(),
                        AnyGroupValue::Sum(sum) if !self.is_empty(values) => i64::try_from(sum).ok(),
                        AnyGroupValue::Number(number) => number,
                        _ => None,
                    }
                };
                numbers(range.map(number), data_type)
            }
            Output::Mean(mean) => {
                let mean = |group| {
                    let values = groups.values(group);
                    mean.of(values).filter(|_| !self.is_empty(values))
                };
                Ok(Arc::new(range.map(mean).collect::<Float64Array>()))
            }
        }
    }
}

/// Numbers as an array of the type that a plan wants.
fn numbers(numbers: impl Iterator<Item = Option<i64>>, data_type: &DataType) -> Result<ArrayRef> {
    let small = |number: Option<i64>| number.and_then(|number| i32::try_from(number).ok());
    Ok(match data_type {
        DataType::Int64 => Arc::new(numbers.collect::<Int64Array>()),
        DataType::Int32 => Arc::new(numbers.map(small).collect::<Int32Array>()),
        DataType::Date32 => Arc::new(numbers.map(small).collect::<Date32Array>()),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Arc::new(numbers.collect::<TimestampNanosecondArray>().with_timezone_opt(zone.clone()))
        }
        other => return internal_err!("the engine has no numbers of type {other}"),
    })
}

impl DisplayAs for KeplorAggregate {
    fn fmt_as(&self, format: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let is_key =
            |output: &Output| matches!(output, Output::Text(_) | Output::Status(_) | Output::Span(_));
        // Keys come first.
        let (keys, values) =
            names.split_at(self.asked.outputs.iter().filter(|output| is_key(output)).count());
        let mut lines = vec![("groups", format!("[{}]", keys.join(", ")))];
        lines.push(("aggregates", format!("[{}]", values.join(", "))));
        lines.extend(self.question.conditions());
        write_lines(format, out, "KeplorAggregate", &lines)
    }
}

impl ExecutionPlan for KeplorAggregate {
    fn name(&self) -> &'static str {
        "KeplorAggregate"
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
        if children.is_empty() { Ok(self) } else { internal_err!("the engine's groups have no children") }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("the engine's groups have no children") }
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let this = self.clone();
        let begin = async move {
            let held = MemoryConsumer::new("KeplorAggregate").register(context.memory_pool());
            let held = Arc::new(held);
            let Some(groups) = this.groups(&held).await? else {
                return this.otherwise.execute(0, context);
            };
            let batch_rows = context.session_config().batch_size().max(1);
            let output_rows = MetricBuilder::new(&this.metrics).output_rows(partition);
            let schema = this.schema();
            let batches = (0..groups.len()).step_by(batch_rows).map(move |first| {
                // Until the last batch is made.
                let _held = &held;
                let range = first..groups.len().min(first + batch_rows);
                output_rows.add(range.len());
                this.asked.record_batch(&groups, range, &this.schema())
            });
            let batches = RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches));
            Ok::<SendableRecordBatchStream, DataFusionError>(Box::pin(cooperative(batches)))
        };
        let stream = futures::stream::once(begin).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
