//! Calls of table functions, each made a table of its own name.
//!
//! `DataFusion` names all calls of a function alike, and takes scans of equal names and columns for equal, whatever they read: one of two
//! scalar subqueries over `generate_series(1, 2)` and `generate_series(1, 3)` would be answered by the other. And it computes their arguments
//! before there is a plan, where no rule bounds what they give.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::{DFSchema, Result, TableReference, plan_err};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr, TableFactor};

use crate::values::Limits;

/// Plans the calls of one statement.
#[derive(Debug)]
pub(crate) struct CallsApart {
    /// How many there were, which is part of the next one's name.
    calls: AtomicU64,
    values: Limits,
}

impl CallsApart {
    pub(crate) fn new(values: Limits) -> Self {
        Self { calls: AtomicU64::new(0), values }
    }
}

impl RelationPlanner for CallsApart {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let (name, alias, args) = match &relation {
            TableFactor::Table { name, alias, args: Some(args), .. } => (name, alias, &args.args),
            TableFactor::Function { name, alias, args, .. } => (name, alias, args),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let expression = |arg: &FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression.clone()),
            _ => None,
        };
        let args: Option<Vec<_>> = args.iter().map(expression).collect();
        let ([name], Some(args)) = (name.0.as_slice(), args) else {
            return plan_err!(
                "`{relation}`: write a function by its name alone, and its arguments without names"
            );
        };
        let Some(name) = name.as_ident() else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let function = context.normalize_ident(name.clone());
        let nothing = DFSchema::empty();
        let args = args.into_iter().map(|arg| context.sql_expr_to_logical_expr(arg, &nothing));
        // What is wrong with them, or that they are not constant, is for `DataFusion` to see.
        let Ok(args) = args.collect::<Result<Vec<_>>>() else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let options = Arc::new(context.context_provider().options().clone());
        let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_config_options(options).build());
        let args = args.into_iter().map(|arg| self.values.of_constant(simplifier.coerce(arg, &nothing)?));
        let args = args.collect::<Result<Vec<_>>>()?;
        let source = context.context_provider().get_table_function_source(&function, args)?;
        let scanned = format!("{function}() {}", self.calls.fetch_add(1, Ordering::Relaxed));
        let plan = LogicalPlanBuilder::scan(TableReference::bare(scanned), source, None)?;
        let plan = plan.alias(TableReference::bare(function))?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray as _;
    use arrow::datatypes::Int64Type;

    use crate::Session;

    #[tokio::test]
    async fn calls_with_other_arguments_are_other_tables() {
        let session = Session::builder().memory_limit_bytes(8 << 20).build().unwrap();
        let both = "SELECT (SELECT max(value) FROM generate_series(1, 2)) AS a, (SELECT max(value) FROM generate_series(1, 3)) AS b, \
                    (SELECT max(GENERATE_SERIES.value) FROM GENERATE_SERIES(1, 2 + 2)) AS c";
        let batches = session.sql(both).await.unwrap().collect().await.unwrap();
        let column = |place: usize| batches[0].column(place).as_primitive::<Int64Type>().value(0);
        assert_eq!([column(0), column(1), column(2)], [2, 3, 4]);
        let large = "SELECT * FROM generate_series(1, length(repeat('x', 2000000)))";
        for call in [large, &large.replace("generate_series", "LATERAL generate_series")] {
            let refused = session.sql(call).await.map(drop).unwrap_err().to_string();
            // It is not computed, and so no number.
            assert!(refused.contains("must be an INTEGER"), "{refused}");
        }
        let named = "SELECT * FROM LATERAL generate_series(a => 1)";
        assert!(session.sql(named).await.unwrap_err().to_string().contains("without names"));
        let unknown = session.sql("SELECT * FROM nothing(1)").await.unwrap_err().to_string();
        assert!(unknown.contains("nothing"), "{unknown}");
    }
}
