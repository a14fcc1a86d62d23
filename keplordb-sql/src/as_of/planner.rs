//! The calls `t(seq => n)` and `t(as_of => time)` in FROM: the table's rows up to an instant, which is a constant.

use std::sync::Arc;

use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{
    Column, DFSchema, DataFusionError, ParamValues, Result, ScalarValue, TableReference,
};
use datafusion::execution::context::{ExecutionProps, SessionState};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Spanned, TableAlias, TableFactor,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::error::{AsOfError, AsOfProblem};
use super::historic::{HistoricTable, Instants};
use super::instant;
use super::rewrite::Axis;
use crate::table::{AsOf, KeplorTable};
use crate::values::Limits;

/// Plans the calls that [`parse`](super::parse) makes of time travel: the rows of a [`KeplorTable`] up to an
/// instant.
///
/// [`Session`](crate::Session) has it. In a `SessionContext` of your own either register it once, with
/// [`register_relation_planner`](datafusion::prelude::SessionContext::register_relation_planner): then `now()` in an instant is
/// the clock at planning, and instants have no parameters. Or, as here, make one [`of`](Self::of) each statement.
///
/// ```
/// use std::sync::Arc;
///
/// use datafusion::common::{ParamValues, ScalarValue};
/// use datafusion::dataframe::DataFrame;
/// use datafusion::prelude::SessionContext;
/// use keplordb::TableSchema;
/// use keplordb::any::AnyStore;
/// use keplordb_sql::KeplorTable;
/// use keplordb_sql::as_of::{self, AsOfPlanner};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1))?;
/// for second in 0..10 {
///     store.append(store.event(1_700_000_000_000_000_000 + second * 1_000_000_000))?;
/// }
/// let context = SessionContext::new();
/// context.register_table("calls", Arc::new(KeplorTable::from(store)))?;
///
/// let mut state = context.state();
/// let params = ParamValues::from(vec![ScalarValue::from("2023-11-14 22:13:22")]);
/// state.register_relation_planner(Arc::new(AsOfPlanner::of(&state, Some(params))))?;
/// let mut statements = as_of::parse("SELECT sequence FROM calls AS OF $1")?;
/// let plan = state.statement_to_plan(statements.remove(0).expect("one statement")).await?;
/// assert_eq!(DataFrame::new(state, plan).count().await?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct AsOfPlanner {
    /// When the statement began; `None` is each instant's own clock.
    started: Option<ExecutionProps>,
    params: Option<ParamValues>,
    /// What an instant may take to be computed; anything by `None`.
    values: Option<Limits>,
}

impl AsOfPlanner {
    /// A planner for any number of statements.
    pub fn new() -> Self {
        Self::default()
    }

    /// A planner for one statement: `now()` in an instant is what it is in the rest of the statement, and parameters, `$1` or
    /// `$name`, have these values. They are needed at planning:
    /// [`with_param_values`](datafusion::dataframe::DataFrame::with_param_values) comes too late for an instant.
    pub fn of(state: &SessionState, params: Option<ParamValues>) -> Self {
        Self { started: Some(state.execution_props().clone()), params, values: None }
    }

    pub(crate) fn within(self, values: Limits) -> Self {
        Self { values: Some(values), ..self }
    }

    /// The value that an expression has before the statement runs.
    fn constant(
        &self,
        expression: SqlExpr,
        context: &mut dyn RelationPlannerContext,
    ) -> std::result::Result<ScalarValue, AsOfProblem> {
        let no_constant = |why: String| AsOfProblem::NotConstant { why };
        let failed = |error: DataFusionError| no_constant(error.strip_backtrace());
        let nothing = DFSchema::empty();
        let planned = context.sql_to_expr(expression, &nothing).map_err(failed)?;
        let given = planned.transform(|part| self.given(part)).data().map_err(failed)?;
        let options = Arc::new(context.context_provider().options().clone());
        let started = self.started.clone().unwrap_or_else(|| {
            let mut now = ExecutionProps::new();
            now.mark_start_execution(Arc::clone(&options));
            now
        });
        let info = SimplifyContext::builder()
            .with_query_execution_start_time(started.query_execution_start_time)
            .with_config_options(options)
            .build();
        let simplifier = ExprSimplifier::new(info);
        let coerced = simplifier.coerce(given, &nothing).map_err(failed)?;
        let bounded = match self.values {
            Some(values) => values.of_constant(coerced).map_err(failed)?,
            None => coerced,
        };
        match simplifier.simplify(bounded).map_err(failed)? {
            Expr::Literal(value, _) => Ok(value),
            other => Err(no_constant(format!("`{other}` is not known before the statement runs"))),
        }
    }

    /// A parameter's value in its place.
    fn given(&self, part: Expr) -> Result<Transformed<Expr>> {
        let Expr::Placeholder(placeholder) = &part else { return Ok(Transformed::no(part)) };
        let Some(params) = &self.params else {
            let id = &placeholder.id;
            return datafusion::common::plan_err!("the value of parameter {id} is not given");
        };
        let value = params.get_placeholders_with_values(&placeholder.id)?;
        Ok(Transformed::yes(Expr::Literal(value.value, value.metadata)))
    }

    /// The rows of a table up to the instants of a call.
    fn travel(
        &self,
        scan: TableScan,
        call: &Call<'_>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let table = scan.table_name.clone();
        let column = |name| Expr::Column(Column::new(Some(table.clone()), name));
        // Not by `KeplorTable::at`: the optimizer takes scans of equal names for equal, and equal subqueries for one.
        let mut plan = LogicalPlanBuilder::new(LogicalPlan::TableScan(scan));
        for instant in &call.instants {
            let problem = |problem| AsOfError::at(instant.location, problem);
            if instant.axis == Axis::Known {
                return Err(problem(AsOfProblem::NoReceivedTime { table: call.name.to_string() }).into());
            }
            let value = self.constant(instant.expression.clone(), context).map_err(problem)?;
            plan = plan.filter(match instant::of(instant.axis, &value).map_err(problem)? {
                AsOf::Sequence(last) => {
                    column("sequence").lt_eq(lit(i64::try_from(last).unwrap_or(i64::MAX)))
                }
                AsOf::Time { ts_ns } => column("ts_ns").lt_eq(lit(ts_ns)),
            })?;
        }
        plan.build()
    }

    /// A table of a program's own as it was at the instants of a call.
    fn travel_back(
        &self,
        table: &HistoricTable,
        name: TableReference,
        call: &Call<'_>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let mut instants = Instants::default();
        for instant in &call.instants {
            let problem = |problem| AsOfError::at(instant.location, problem);
            let value = self.constant(instant.expression.clone(), context).map_err(problem)?;
            match (instant::of(instant.axis, &value).map_err(problem)?, instant.axis) {
                (AsOf::Sequence(last), _) => instants.sequence = Some(last),
                (AsOf::Time { ts_ns }, Axis::Known) => instants.known_at_ns = Some(ts_ns),
                (AsOf::Time { ts_ns }, _) => instants.as_of_ns = Some(ts_ns),
            }
        }
        // The optimizer takes scans of equal names for equal, so each instant has a name of its own below the table's.
        let scanned = TableReference::bare(format!("{} at {instants}", name.table()));
        let source = provider_as_source(table.at(instants));
        LogicalPlanBuilder::scan(scanned, source, None)?.alias(name)?.build()
    }
}

impl RelationPlanner for AsOfPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let Some(call) = Call::of(&relation)? else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let not_a_table = || {
            let table = call.name.to_string();
            AsOfError::at(call.location, AsOfProblem::NotATable { table })
        };
        // Planned as the plain name, so that what hides the table is seen: a common table expression, a view.
        let LogicalPlan::TableScan(scan) = context.plan(plain(call.name.clone()))? else {
            return Err(not_a_table().into());
        };
        let provider = source_as_provider(&scan.source)?;
        let plan = if let Some(historic) = provider.downcast_ref::<HistoricTable>() {
            self.travel_back(historic, scan.table_name, &call, context)?
        } else if provider.downcast_ref::<KeplorTable>().is_some() {
            self.travel(scan, &call, context)?
        } else {
            return Err(not_a_table().into());
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias.cloned()))))
    }
}

/// A table by its name and nothing else.
fn plain(name: ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// What a call asks for.
struct Call<'a> {
    name: &'a ObjectName,
    /// Where the name is.
    location: Location,
    alias: Option<&'a TableAlias>,
    /// Each axis at most once.
    instants: Vec<Instant<'a>>,
}

struct Instant<'a> {
    axis: Axis,
    expression: &'a SqlExpr,
    location: Location,
}

impl<'a> Call<'a> {
    /// `None` is a relation that does not travel.
    fn of(relation: &'a TableFactor) -> std::result::Result<Option<Self>, AsOfError> {
        let (name, alias, args) = match relation {
            // DataFusion leaves it out of account.
            TableFactor::Table { version: Some(version), name, .. } => {
                let spelling = version.to_string();
                let instead =
                    "parse the statement with `as_of::parse`, which knows the spellings of time travel";
                let problem = AsOfProblem::Unsupported { spelling, instead };
                return Err(AsOfError::at(name.span().start, problem));
            }
            TableFactor::Table { args: Some(args), name, alias, .. } => (name, alias, &args.args),
            TableFactor::Function { args, name, alias, .. } => (name, alias, args),
            _ => return Ok(None),
        };
        if !args.iter().any(|arg| axis_of(arg).is_some()) {
            return Ok(None);
        }
        let location = name.span().start;
        let refused = |argument: String| AsOfError::at(location, AsOfProblem::Argument { argument });
        if !is_bare(relation) {
            return Err(refused(relation.to_string()));
        }
        let mut instants: Vec<Instant<'a>> = Vec::with_capacity(args.len());
        for arg in args {
            let (Some(axis), Some(expression)) = (axis_of(arg), expression_of(arg)) else {
                return Err(refused(arg.to_string()));
            };
            if instants.iter().any(|instant| instant.axis == axis) {
                return Err(refused(arg.to_string()));
            }
            let at = expression.span().start;
            // Not every node of a syntax tree knows its place.
            instants.push(Instant { axis, expression, location: if at.line == 0 { location } else { at } });
        }
        Ok(Some(Self { name, location, alias: alias.as_ref(), instants }))
    }
}

/// Whether a call has nothing around it that would be left out of account.
fn is_bare(relation: &TableFactor) -> bool {
    match relation {
        TableFactor::Table {
            args: Some(args),
            with_hints,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
            ..
        } => {
            args.settings.is_none()
                && with_hints.is_empty()
                && partitions.is_empty()
                && index_hints.is_empty()
        }
        _ => false,
    }
}

/// The axis that an argument names.
fn axis_of(arg: &FunctionArg) -> Option<Axis> {
    match arg {
        FunctionArg::Named { name: Ident { value, .. }, .. }
        | FunctionArg::ExprNamed { name: SqlExpr::Identifier(Ident { value, .. }), .. } => {
            Axis::named(&value.to_ascii_lowercase())
        }
        _ => None,
    }
}

fn expression_of(arg: &FunctionArg) -> Option<&SqlExpr> {
    match arg {
        FunctionArg::Named { arg: FunctionArgExpr::Expr(expression), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expression), .. } => Some(expression),
        _ => None,
    }
}
