//! Sums, counts, extremes and groups that the engine answers instead of `DataFusion`: the rule of the physical optimizer that finds
//! them.
//!
//! `COUNT`, `SUM`, `MIN`, `MAX`, `AVG` and `COUNT(DISTINCT dim)`, with or without `GROUP BY` over dims, the status and one kind of spans of
//! time, of rows that the scan itself chooses: the engine has them summed up by segment, value and time, and reads rows only
//! where these sums do not tell. What is not surely the same stays with `DataFusion`: [`asked`] says what is.

mod asked;
mod plan;
mod spans;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::projection::ProjectionExec;

pub use self::plan::KeplorAggregate;

use self::asked::Asked;
use crate::scan::KeplorScan;

/// The rules of `DataFusion`, and ours among them.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    // What statistics answer costs nothing, joins are ordered by the statistics of aggregates, and a limit of distinct values ends
    // a scan early. Later rules put other plans between the two halves of an aggregate.
    let limits = rules.iter().position(|rule| rule.name() == "LimitedDistinctAggregation");
    rules.insert(limits.map_or(0, |place| place + 1), Arc::new(AnswerByEngine));
    rules
}

/// Puts a [`KeplorAggregate`] in the place of each aggregate that the engine answers.
#[derive(Debug)]
struct AnswerByEngine;

impl PhysicalOptimizerRule for AnswerByEngine {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_up(|plan| {
            Ok(match answered(&plan)? {
                Some(answered) => Transformed::yes(answered),
                None => Transformed::no(plan),
            })
        });
        Ok(replaced?.data)
    }

    fn name(&self) -> &'static str {
        "answer_by_engine"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan by which the engine answers an aggregate; `None` where it does not.
fn answered(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(aggregate) = whole(plan) else { return Ok(None) };
    let input = Input::of(aggregate.input());
    let found = if let Some(scan) = input.leaf.downcast_ref::<KeplorScan>() {
        scan.whole().and_then(|question| {
            Asked::of_rows(aggregate, question, &input).map(|asked| (Arc::clone(question), asked))
        })
    } else if let Some(inner) = input.leaf.downcast_ref::<KeplorAggregate>() {
        let (question, inner) = inner.parts();
        Asked::of_groups(aggregate, inner, &input).map(|asked| (Arc::clone(question), asked))
    } else {
        None
    };
    let Some((question, asked)) = found else { return Ok(None) };
    // The same by DataFusion.
    let rows = Arc::new(CoalescePartitionsExec::new(Arc::clone(aggregate.input())));
    let otherwise = AggregateExec::try_new(
        AggregateMode::Single,
        aggregate.group_expr().clone(),
        aggregate.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        rows,
        aggregate.input_schema(),
    )?;
    if otherwise.schema() != plan.schema() {
        return Ok(None);
    }
    Ok(Some(Arc::new(KeplorAggregate::new(question, asked, Arc::new(otherwise)))))
}

/// The half that reads rows of an aggregate that stands here, with both its halves.
fn whole(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    let top = plan.downcast_ref::<AggregateExec>()?;
    let half = match top.mode() {
        AggregateMode::Single | AggregateMode::SinglePartitioned => top,
        AggregateMode::Final | AggregateMode::FinalPartitioned => {
            let half = top.input().downcast_ref::<AggregateExec>()?;
            Some(half).filter(|half| *half.mode() == AggregateMode::Partial)?
        }
        _ => return None,
    };
    let is_plain = |half: &AggregateExec| {
        half.limit_options().is_none()
            && half.group_expr().is_single()
            && half.filter_expr().iter().all(Option::is_none)
    };
    (is_plain(top) && is_plain(half)).then_some(half)
}

/// What an aggregate reads, through projections.
struct Input<'p> {
    /// From the aggregate down.
    projections: Vec<&'p ProjectionExec>,
    leaf: &'p Arc<dyn ExecutionPlan>,
}

impl<'p> Input<'p> {
    fn of(mut leaf: &'p Arc<dyn ExecutionPlan>) -> Self {
        let mut projections = Vec::new();
        while let Some(projection) = leaf.downcast_ref::<ProjectionExec>() {
            projections.push(projection);
            leaf = projection.input();
        }
        Self { projections, leaf }
    }

    /// An expression of the aggregate's as one of the leaf's columns.
    fn resolve(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
        self.projections.iter().try_fold(Arc::clone(expr), |expr, projection| {
            let resolved = expr.transform_up(|expr| {
                let below =
                    expr.downcast_ref::<Column>().and_then(|column| projection.expr().get(column.index()));
                Ok(match below {
                    Some(below) => Transformed::yes(Arc::clone(&below.expr)),
                    None => Transformed::no(expr),
                })
            });
            resolved.ok().map(|resolved| resolved.data)
        })
    }
}
