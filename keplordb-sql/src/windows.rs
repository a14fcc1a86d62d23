//! Windows that hold all their rows, made to count them with the memory of all queries: `DataFusion`'s reserve nothing.
//!
//! A window that needs all rows of a partition before it gives the first (`sum(x) OVER ()`), or that looks far back or ahead, holds what
//! went into it until its end. The others let go of rows as they come out, and hold few.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{WindowFrameBound, WindowFrameUnits};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt as _;

/// How often a window has its rows: as they came in, and put together by partitions.
const COPIES: usize = 2;
/// Rows that a window may look back or ahead and still be one that holds few.
const NEAR_ROWS: u64 = 8192;

/// Puts a [`CountedExec`] below each window that holds its rows.
#[derive(Debug)]
pub(crate) struct WindowsCount;

impl PhysicalOptimizerRule for WindowsCount {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let counted = plan.transform_up(|plan| {
            if !holds_its_rows(&plan) {
                return Ok(Transformed::no(plan));
            }
            let inputs = plan
                .children()
                .into_iter()
                .map(|input| Arc::new(CountedExec { input: Arc::clone(input) }) as Arc<dyn ExecutionPlan>);
            let inputs = inputs.collect();
            let kept = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
            Ok(Transformed::yes(plan.replace_children(inputs, kept)?))
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

fn holds_its_rows(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<WindowAggExec>().is_some()
        || plan
            .downcast_ref::<BoundedWindowAggExec>()
            .is_some_and(|window| !window.window_expr().iter().all(looks_near))
}

fn looks_near(window: &Arc<dyn WindowExpr>) -> bool {
    let frame = window.get_window_frame();
    let is_near_bound = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => true,
        WindowFrameBound::Preceding(rows) | WindowFrameBound::Following(rows) => {
            !rows.is_null() && frame.units == WindowFrameUnits::Rows && is_near(rows)
        }
    };
    let starts_near = match &frame.start_bound {
        // What has come out is in the sum already.
        WindowFrameBound::Preceding(rows) if rows.is_null() => true,
        bound => is_near_bound(bound),
    };
    // How far `lag` and `lead` look is one of their arguments.
    let standard = window.as_any().downcast_ref::<StandardWindowExpr>();
    let function =
        standard.and_then(|window| window.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>());
    let args = function.map_or(&[][..], WindowUDFExpr::args);
    let literals = args.iter().filter_map(|arg| arg.downcast_ref::<Literal>());
    starts_near && is_near_bound(&frame.end_bound) && literals.map(Literal::value).all(is_near)
}

/// Whether a number is of so many rows; what is no number is.
fn is_near(rows: &ScalarValue) -> bool {
    match rows.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(rows))) => rows.unsigned_abs() <= NEAR_ROWS,
        _ => true,
    }
}

/// The input of a window, all of which counts until the window's end.
#[derive(Debug)]
struct CountedExec {
    input: Arc<dyn ExecutionPlan>,
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

impl DisplayAs for CountedExec {
    fn fmt_as(&self, _: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("CountedExec")
    }
}

impl ExecutionPlan for CountedExec {
    fn name(&self) -> &'static str {
        "CountedExec"
    }

    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
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
        let input = children.into_iter().next();
        Ok(Arc::new(Self {
            input: input.ok_or_else(|| internal_datafusion_err!("rows that count are an input"))?,
        }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let memory = MemoryConsumer::new("a window").register(context.memory_pool());
        let rows = self.input.execute(partition, context)?;
        let counted = rows.map(move |batch| {
            let batch = batch?;
            memory.try_grow(bytes(&batch)?.saturating_mul(COPIES))?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
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
    async fn what_a_window_holds_counts() {
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
        assert_eq!(session.context().runtime_env().memory_pool.reserved(), 0);
    }
}
