//! Calls of table functions, each made a table of its own name.
//!
//! `DataFusion` names all calls of a function alike, and takes scans of equal names and columns for equal, whatever they read: one of two
//! scalar subqueries over `generate_series(1, 2)` and `generate_series(1, 3)` would be answered by the other.

use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::{DFSchema, Result, TableReference};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr, TableFactor};

/// Plans the calls of one statement; how many there were is part of the next one's name.
#[derive(Debug, Default)]
pub(crate) struct CallsApart(AtomicU64);

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
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(name) = name.as_ident() else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let function = context.normalize_ident(name.clone());
        let nothing = DFSchema::empty();
        let args = args.into_iter().map(|arg| context.sql_expr_to_logical_expr(arg, &nothing));
        // What is wrong with them, or that they are not constant, is for `DataFusion` to see.
        let Ok(args) = args.collect::<Result<Vec<_>>>() else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let source = context.context_provider().get_table_function_source(&function, args)?;
        let scanned = format!("{function}() {}", self.0.fetch_add(1, Ordering::Relaxed));
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
        let session = Session::builder().build().unwrap();
        let both = "SELECT (SELECT max(value) FROM generate_series(1, 2)) AS a, (SELECT max(value) FROM generate_series(1, 3)) AS b, \
                    (SELECT max(GENERATE_SERIES.value) FROM GENERATE_SERIES(1, 2 + 2)) AS c";
        let batches = session.sql(both).await.unwrap().collect().await.unwrap();
        let column = |place: usize| batches[0].column(place).as_primitive::<Int64Type>().value(0);
        assert_eq!([column(0), column(1), column(2)], [2, 3, 4]);
        let unknown = session.sql("SELECT * FROM nothing(1)").await.unwrap_err().to_string();
        assert!(unknown.contains("nothing"), "{unknown}");
    }
}
