//! Windows, made to count what they hold with the memory of all queries: `DataFusion`'s reserve nothing.
//!
//! What goes into a window counts. Where the window lets go of rows that have come out of it, they count no longer; one that needs all
//! rows before it gives the first, or that looks far back, holds them until its end.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{WindowFrameBound, WindowFrameUnits};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt as _;
use parking_lot::Mutex;

/// How often a window has its rows: as they came in, and put together by partitions.
const COPIES: usize = 2;
/// Rows that a window may look back and still be one that lets go of what came out.
const NEAR_ROWS: u64 = 8192;

/// Puts a [`Counted`] below each window, and one above those that let go.
#[derive(Debug)]
pub(crate) struct WindowsCount;

impl PhysicalOptimizerRule for WindowsCount {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let counted = plan.transform_up(|plan| {
            let Some(lets_go) = lets_go(&plan) else { return Ok(Transformed::no(plan)) };
            let handed = Handed::default();
            let input = plan.children().first().map(|input| Arc::clone(*input));
            let input = input.ok_or_else(|| internal_datafusion_err!("a window has an input"))?;
            let into = Way::In { is_awaited: lets_go };
            let input = Counted { plan: input, handed: Arc::clone(&handed), way: into };
            let window = with_child(plan, Arc::new(input))?;
            Ok(Transformed::yes(if lets_go {
                Arc::new(Counted { plan: window, handed, way: Way::Out })
            } else {
                window
            }))
        });
        Ok(counted?.data)
    }

    fn name(&self) -> &'static str {
        "windows_count"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn with_child(
    plan: Arc<dyn ExecutionPlan>,
    child: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.replace_children(vec![child], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))
}

/// Whether a window lets go of rows that have come out of it; `None` is another plan.
fn lets_go(plan: &Arc<dyn ExecutionPlan>) -> Option<bool> {
    if plan.downcast_ref::<WindowAggExec>().is_some() {
        return Some(false);
    }
    let window = plan.downcast_ref::<BoundedWindowAggExec>()?;
    Some(window.window_expr().iter().all(looks_near))
}

fn looks_near(window: &Arc<dyn WindowExpr>) -> bool {
    let frame = window.get_window_frame();
    let starts_near = match &frame.start_bound {
        // What has come out is in the sum already.
        WindowFrameBound::Preceding(rows) if rows.is_null() => true,
        WindowFrameBound::Preceding(rows) => frame.units == WindowFrameUnits::Rows && is_near(rows),
        WindowFrameBound::CurrentRow | WindowFrameBound::Following(_) => true,
    };
    // How far back `lag` looks is one of its arguments.
    let literal = |part: &Arc<dyn PhysicalExpr>| part.downcast_ref::<Literal>().map(|part| part.value().clone());
    starts_near && window.expressions().iter().filter_map(literal).all(|value| is_near(&value))
}

/// Whether a number is of so many rows; what is no number is.
fn is_near(rows: &ScalarValue) -> bool {
    match rows.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(rows))) => rows.unsigned_abs() <= NEAR_ROWS,
        _ => true,
    }
}

/// What the partitions of a window hold, on its way from below the window to above it.
type Handed = Arc<Mutex<HashMap<usize, Arc<Held>>>>;

/// The input or the output of a window.
#[derive(Debug, Clone)]
struct Counted {
    plan: Arc<dyn ExecutionPlan>,
    handed: Handed,
    way: Way,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    In {
        /// Whether what comes out is counted too.
        is_awaited: bool,
    },
    Out,
}

/// The rows that are in a window.
#[derive(Debug)]
struct Held {
    memory: MemoryReservation,
    rows_and_bytes: Mutex<(usize, usize)>,
}

impl Held {
    fn take(&self, batch: &RecordBatch) -> Result<()> {
        let bytes = bytes(batch)?.saturating_mul(COPIES);
        self.memory.try_grow(bytes)?;
        let (held_rows, held_bytes) = &mut *self.rows_and_bytes.lock();
        *held_rows += batch.num_rows();
        *held_bytes += bytes;
        Ok(())
    }

    /// Which rows came out is not known; they are taken for such as the others.
    fn give(&self, rows: usize) {
        let (held_rows, held_bytes) = &mut *self.rows_and_bytes.lock();
        let rows = rows.min(*held_rows);
        let bytes = if rows == *held_rows { *held_bytes } else { *held_bytes / *held_rows * rows };
        *held_rows -= rows;
        *held_bytes -= bytes;
        self.memory.shrink(bytes);
    }
}

/// What the rows of a batch take once they are copied out of it.
fn bytes(batch: &RecordBatch) -> Result<usize> {
    let mut bytes = 0;
    for column in batch.columns() {
        bytes += column.to_data().get_slice_memory_size()?;
        // Texts of views are not counted above.
        bytes += match column.data_type() {
            DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
            DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
            _ => 0,
        };
    }
    Ok(bytes)
}

impl DisplayAs for Counted {
    fn fmt_as(&self, _: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.way {
            Way::In { .. } => "CountedExec: into a window",
            Way::Out => "CountedExec: out of a window",
        })
    }
}

impl ExecutionPlan for Counted {
    fn name(&self) -> &'static str {
        "CountedExec"
    }

    fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.plan]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let child = children.into_iter().next();
        let plan = child.ok_or_else(|| internal_datafusion_err!("what is counted has a plan below it"))?;
        Ok(Arc::new(Self { plan, handed: Arc::clone(&self.handed), way: self.way }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        Ok(match self.way {
            Way::In { is_awaited } => {
                let memory = MemoryConsumer::new("a window").register(context.memory_pool());
                let held = Arc::new(Held { memory, rows_and_bytes: Mutex::default() });
                if is_awaited {
                    self.handed.lock().insert(partition, Arc::clone(&held));
                }
                let rows = self.plan.execute(partition, context)?;
                let counted = rows.map(move |batch| batch.and_then(|batch| held.take(&batch).map(|()| batch)));
                Box::pin(RecordBatchStreamAdapter::new(schema, counted))
            }
            Way::Out => {
                // A window begins its input at once.
                let rows = self.plan.execute(partition, context)?;
                let Some(held) = self.handed.lock().remove(&partition) else { return Ok(rows) };
                let counted = rows.inspect(move |batch| {
                    if let Ok(batch) = batch {
                        held.give(batch.num_rows());
                    }
                });
                Box::pin(RecordBatchStreamAdapter::new(schema, counted))
            }
        })
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

#[cfg(test)]
mod tests {
    use crate::{Session, SqlError};

    /// 2 MiB are no more than 100,000 of the million rows.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_window_holds_counts_and_what_it_lets_go_of_does_not() {
        let session = Session::builder().memory_limit_bytes(2 << 20).batch_rows(1024).build().unwrap();
        let over = |window: &str| {
            format!("SELECT max(x) FROM (SELECT {window} AS x FROM generate_series(1, 1000000) AS s)")
        };
        let held = [
            "sum(value) OVER ()",
            "sum(value) OVER (ORDER BY value ROWS BETWEEN 1 PRECEDING AND UNBOUNDED FOLLOWING)",
            "sum(value) OVER (ORDER BY value ROWS BETWEEN 900000 PRECEDING AND CURRENT ROW)",
            "lag(value, 900000) OVER (ORDER BY value)",
            "lead(value, 900000) OVER (ORDER BY value)",
            "count(*) OVER (PARTITION BY value / 10000000)",
        ];
        for window in held {
            let failed = match session.sql(&over(window)).await {
                Ok(rows) => rows.collect().await.err(),
                Err(error) => Some(error),
            };
            assert!(matches!(failed, Some(SqlError::Memory { .. })), "{window}: {failed:?}");
        }
        let let_go = [
            "row_number() OVER (ORDER BY value)",
            "sum(value) OVER (ORDER BY value ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)",
            "sum(value) OVER (ORDER BY value ROWS BETWEEN 10 PRECEDING AND 10 FOLLOWING)",
            "lag(value) OVER (ORDER BY value)",
            "lead(value, 5) OVER (ORDER BY value)",
        ];
        for window in let_go {
            let rows = session.sql(&over(window)).await.unwrap().collect().await;
            assert!(rows.is_ok(), "{window}: {rows:?}");
        }
        let pool = &session.context().runtime_env().memory_pool;
        assert_eq!(pool.reserved(), 0);
    }
}
