//! What scalar functions give, bounded.
//!
//! `DataFusion` makes the values of a batch without asking for the memory: `repeat('x', 2000000000)` is one call, and forty times
//! `x || x` are more than any machine has. So each call that gives texts, lists or structs is asked first how much it may give ([`bounds`]),
//! which its arguments say. Where that is too much for a batch its rows are taken in parts, and where it is too much for one row, or the
//! parts together are, the call is an error. As arguments are what other calls gave, none grows by more than one call at a time.
//!
//! What all calls of a statement gave may be there at once, so from the ninth on they share what is granted to eight.
//!
//! A constant stands in every row that it is put to, so less is granted to it, unless the statement has one row. So does what a subquery
//! gives in the place of a value; that is measured when it is put to the rows of a batch. What computes at length without
//! giving much is bounded by its steps, because nothing interrupts a call. Not all is bounded: patterns are slow on texts that fit them
//! almost, functions of a program's own are taken to give what they are put to, a join puts what it found into many rows, `unnest` into as
//! many as a list has, and a cast makes as much of each element of a list as its kind says.

mod bounds;

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Cast, ColumnarValue, Documentation, Expr, ExprSchemable as _, ExpressionPlacement, Like,
    LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    StructFieldMapping, TryCast, Unnest, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::PhysicalExpr as _;
use datafusion::physical_expr::expressions::{self as physical, Column};

use self::bounds::{Bounds, bounds};

/// The part of a session's memory that the values of a batch may take, which one call gives.
const PART_OF_MEMORY: usize = 8;
/// What they may take in a session that has little.
const BATCH_BYTES_MIN: usize = 1 << 20;
/// What a constant may take in any session.
const CONSTANT_BYTES_MIN: usize = 64 << 10;
/// Values that every row has of what is of one size.
const WIDE_MAX: u64 = 4096;
/// Calls of a statement that have a part each; more of them share as many parts, because what all of them gave may be there at once.
const CALLS_ALONE: u64 = 8;
/// Steps of a call for each byte that it might give instead.
const STEPS_A_BYTE: u64 = 16;

/// What one call may give, and how long it may compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Limits {
    batch_bytes: u64,
    constant_bytes: u64,
    steps: u64,
    places: u64,
}

impl Limits {
    /// Those of a session with so much memory, that works on so many rows at a time.
    pub(crate) fn new(memory_bytes: usize, batch_rows: usize) -> Self {
        let batch_bytes = (memory_bytes / PART_OF_MEMORY).max(BATCH_BYTES_MIN);
        let constant_bytes = (batch_bytes / batch_rows.max(1)).max(CONSTANT_BYTES_MIN) as u64;
        let batch_bytes = batch_bytes as u64;
        Self {
            batch_bytes,
            constant_bytes,
            steps: batch_bytes.saturating_mul(STEPS_A_BYTE),
            places: WIDE_MAX,
        }
    }

    /// Those of each of so many calls.
    fn shared_by(self, calls: u64) -> Self {
        let shared = |all: u64| all.saturating_mul(CALLS_ALONE) / calls.max(CALLS_ALONE);
        Self {
            batch_bytes: shared(self.batch_bytes),
            constant_bytes: shared(self.constant_bytes),
            steps: shared(self.steps),
            places: shared(self.places),
        }
    }

    fn of_one_row(self) -> Self {
        Self { constant_bytes: self.batch_bytes, ..self }
    }
}

/// Puts a [`Bounded`] in the place of each function that may give much.
#[derive(Debug)]
pub(crate) struct ValuesCount(pub(crate) Limits);

impl AnalyzerRule for ValuesCount {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let is_of_one_row = is_of_one_row(&plan)?;
        let bounded = self.0.of_all(plan.clone(), is_of_one_row)?;
        match calls(&bounded)? {
            ..=CALLS_ALONE => Ok(bounded),
            calls => self.0.shared_by(calls).of_all(plan, is_of_one_row),
        }
    }

    fn name(&self) -> &'static str {
        "values_count"
    }
}

/// Whether nothing in a plan puts what a row has into other rows: `SELECT unnest(range(1, 100000))` does not, but whatever stood beside
/// that would be in each of its rows. A subquery's value may be put to any number of rows.
fn is_of_one_row(plan: &LogicalPlan) -> Result<bool> {
    use LogicalPlan::{
        Aggregate, Analyze, EmptyRelation, Explain, Filter, Limit, Projection, Sort, SubqueryAlias, Unnest,
        Values,
    };
    let mut is_of_one = true;
    plan.apply_with_subqueries(|plan| {
        is_of_one &= match plan {
            Projection(_) | EmptyRelation(_) | Values(_) | SubqueryAlias(_) | Filter(_) | Sort(_)
            | Limit(_) | Explain(_) | Analyze(_) => true,
            Aggregate(aggregate) => aggregate.group_expr.is_empty(),
            Unnest(unnest) => is_alone(unnest),
            _ => false,
        };
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_of_one)
}

/// Whether all that the rows have which are taken apart is one list.
fn is_alone(unnest: &Unnest) -> bool {
    unnest.input.schema().fields().len() == 1 && unnest.schema.fields().len() == 1
}

/// The calls of a plan that are bounded, and the casts that give as much whatever they are put to.
fn calls(plan: &LogicalPlan) -> Result<u64> {
    let mut calls = 0;
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expression| {
            expression.apply(|expression| {
                calls += u64::from(match expression {
                    Expr::ScalarFunction(call) => call.func.inner().is::<Bounded>(),
                    Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) => {
                        places(field.data_type()) > 1
                    }
                    _ => false,
                });
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(calls)
}

impl Limits {
    /// A plan whose calls are bounded so, each by itself.
    fn of_all(self, plan: LogicalPlan, is_of_one_row: bool) -> Result<LogicalPlan> {
        let bounded = plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            // Above the row there may be more: of an `unnest`, or of `VALUES`.
            let is_put_to_one = is_of_one_row
                && plan.inputs().iter().all(|input| matches!(input, LogicalPlan::EmptyRelation(_)));
            let limits = if is_put_to_one { self.of_one_row() } else { self };
            let plan = self.apart(plan)?.data;
            plan.map_expressions(|expression| {
                expression.transform_up(|expression| match &expression {
                    // One that knows of the row becomes a join, and its value a column.
                    Expr::ScalarSubquery(subquery)
                        if subquery.outer_ref_columns.is_empty()
                            && is_any_size(&expression.get_type(&schema)?) =>
                    {
                        Ok(Transformed::yes(self.as_it_is(bounds::SUBQUERY, expression)))
                    }
                    _ => limits.bounded(expression, &schema),
                })
            })
        });
        Ok(bounded?.data)
    }

    /// A plan that takes a list apart which nothing else has: however many rows stand above, none has the list, and it may be as large as
    /// in one row.
    fn apart(self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Unnest(unnest) if is_alone(unnest) => {}
            _ => return Ok(Transformed::no(plan)),
        }
        plan.map_children(|input| match &input {
            LogicalPlan::Projection(list) if matches!(*list.input, LogicalPlan::EmptyRelation(_)) => input
                .map_expressions(|expression| {
                    expression.transform_up(|expression| Ok(self.as_of_one_row(expression)))
                }),
            _ => Ok(Transformed::no(input)),
        })
    }

    /// A call that was bounded for every row, bounded for one.
    fn as_of_one_row(self, expression: Expr) -> Transformed<Expr> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = expression else {
            return Transformed::no(expression);
        };
        match func.inner().downcast_ref::<Bounded>() {
            Some(Bounded { inner, .. }) => {
                let of_one_row = Bounded { inner: Arc::clone(inner), limits: self.of_one_row() };
                let func = Arc::new(ScalarUDF::from(of_one_row));
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
            }
            None => Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })),
        }
    }

    /// A call or an operator with its arguments as they are, bounded. It is called as it was.
    fn bounded(self, expression: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        if let Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) = &expression {
            self.granted_places("CAST", field.data_type())?;
        }
        Ok(match expression {
            Expr::ScalarFunction(call) if self.may_give_much(&call, schema)? => {
                let ScalarFunction { func, args } = call;
                let func = Arc::new(ScalarUDF::from(Bounded { inner: func, limits: self }));
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
            }
            // An operator has no call to bound. Many in a row are one call: each would be a level more.
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
                let mut args = match *left {
                    Expr::ScalarFunction(call) if is_joined(&call) => call.args,
                    other => vec![other],
                };
                args.push(*right);
                let signature = Signature::variadic_any(Volatility::Immutable);
                let inner = Arc::new(ScalarUDF::from(Joined { signature }));
                Transformed::yes(ScalarUDF::from(Bounded { inner, limits: self }).call(args))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_for_patterns(op) => {
                let right = Box::new(self.pattern(*right));
                Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            // It becomes such an operator when there are no rules any more.
            Expr::SimilarTo(like) => {
                let pattern = Box::new(self.pattern(*like.pattern));
                Transformed::yes(Expr::SimilarTo(Like { pattern, ..like }))
            }
            other => Transformed::no(other),
        })
    }

    /// # Errors
    /// A plan's, for what is of so many places in each row that no batch has room for it: what is cast to it may be nothing.
    fn may_give_much(self, call: &ScalarFunction, schema: &DFSchema) -> Result<bool> {
        let func = &call.func;
        // Those that go to the leaves of a plan give a part of what is there.
        let is_part =
            func.placement(&[ExpressionPlacement::Column]) == ExpressionPlacement::MoveTowardsLeafNodes;
        if is_part || func.inner().is::<Bounded>() || func.as_async().is_some() {
            return Ok(false);
        }
        let Ok(gives) = Expr::ScalarFunction(call.clone()).get_type(schema) else { return Ok(true) };
        self.granted_places(func.name(), &gives)?;
        Ok(bounds::is_long(func.name()) || is_any_size(&gives))
    }

    /// A constant that is computed before there is a plan, and so before the rule: an argument of a table function, an instant.
    pub(crate) fn of_constant(self, constant: Expr) -> Result<Expr> {
        let nothing = DFSchema::empty();
        constant.transform_up(|part| self.bounded(part, &nothing)).data()
    }

    fn granted_places(self, name: &str, kind: &DataType) -> Result<()> {
        let (found, granted) = (places(kind), self.places);
        // What is one value by itself is of no size, however many calls there are.
        if found > granted.max(1) {
            return plan_err!(
                "{name} gives {found} values in each row, whatever it is put to, and {granted} are granted: ask for shorter values, or \
                 with fewer calls"
            );
        }
        Ok(())
    }

    fn pattern(self, side: Expr) -> Expr {
        match side {
            Expr::Literal(..) => side,
            Expr::ScalarFunction(ref call) if call.func.name() == bounds::PATTERN => side,
            side => self.as_it_is(bounds::PATTERN, side),
        }
    }

    /// A value that is bounded as if a function gave it.
    fn as_it_is(self, name: &'static str, value: Expr) -> Expr {
        let signature = Signature::any(1, Volatility::Immutable);
        let inner = Arc::new(ScalarUDF::from(AsItIs { name, signature }));
        ScalarUDF::from(Bounded { inner, limits: self }).call(vec![value])
    }
}

fn is_joined(call: &ScalarFunction) -> bool {
    call.func.inner().downcast_ref::<Bounded>().is_some_and(|bounded| bounded.inner.inner().is::<Joined>())
}

fn is_for_patterns(op: Operator) -> bool {
    use Operator::{RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    matches!(op, RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch)
}

/// How many values each row has of what is of one size, or of a list each element.
fn places(kind: &DataType) -> u64 {
    use DataType::{FixedSizeBinary, FixedSizeList, LargeList, LargeListView, List, ListView, Map, Struct};
    match kind {
        FixedSizeBinary(places) => u64::try_from(*places).unwrap_or(0),
        FixedSizeList(field, times) => {
            places(field.data_type()).saturating_mul(u64::try_from(*times).unwrap_or(0))
        }
        Struct(fields) => {
            fields.iter().fold(0, |all: u64, field| all.saturating_add(places(field.data_type())))
        }
        List(field) | LargeList(field) | ListView(field) | LargeListView(field) | Map(field, _) => {
            places(field.data_type())
        }
        _ => 1,
    }
}

fn is_any_size(kind: &DataType) -> bool {
    kind.primitive_width().is_none() && !matches!(kind, DataType::Boolean | DataType::Null)
}

/// A function that is not called where it gives too much. In all else it is that function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    limits: Limits,
}

impl Bounded {
    fn refused<T>(&self, what: &str, found: u64, granted: u64) -> Result<T> {
        exec_err!(
            "{} {what} {found}, and {granted} are granted: ask for shorter values, for parts of them, or with fewer calls",
            self.inner.name()
        )
    }

    fn too_much<T>(&self, bytes: u64) -> Result<T> {
        self.refused("would give more bytes at a time than it may,", bytes, self.limits.batch_bytes)
    }

    /// The values of a batch by parts of its rows, none of which is of too many bytes.
    fn by_parts(&self, args: &ScalarFunctionArgs, of_row: impl Fn(usize) -> u64) -> Result<ColumnarValue> {
        let granted = self.limits.batch_bytes;
        let (mut parts, mut given): (Vec<ArrayRef>, u64) = (Vec::new(), 0);
        let mut row = 0;
        while row < args.number_rows {
            let (first, mut bytes) = (row, 0_u64);
            while row < args.number_rows && bytes.saturating_add(of_row(row)) <= granted {
                bytes += of_row(row);
                row += 1;
            }
            if row == first {
                return self.too_much(of_row(row));
            }
            let part = sliced(args, first, row - first);
            let part = self.inner.invoke_with_args(part)?.into_array(row - first)?;
            given = given.saturating_add(bounds::bytes(&part)?);
            if given > granted {
                return self.too_much(given);
            }
            parts.push(part);
        }
        let parts: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }
}

/// The same call for some of its rows.
fn sliced(args: &ScalarFunctionArgs, first: usize, rows: usize) -> ScalarFunctionArgs {
    let sliced = |arg: &ColumnarValue| match arg {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(first, rows)),
        ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
    };
    ScalarFunctionArgs {
        args: args.args.iter().map(sliced).collect(),
        arg_fields: args.arg_fields.clone(),
        number_rows: rows,
        return_field: Arc::clone(&args.return_field),
        config_options: Arc::clone(&args.config_options),
    }
}

impl ScalarUDFImpl for Bounded {
    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let limits = self.limits;
        // What has no arguments may be another value in each row: `uuid()`.
        let is_constant = !args.args.is_empty()
            && self.inner.signature().volatility != Volatility::Volatile
            && args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let in_rows = args.number_rows;
        if is_constant {
            args.number_rows = 1;
        }
        let rows = args.number_rows;
        let Bounds { of_row, steps } = bounds(self.inner.name(), &args.args, rows, limits.batch_bytes)?;
        if steps > limits.steps {
            return self.refused("would take more steps at a time than it may,", steps, limits.steps);
        }
        let all = (0..rows).fold(0_u64, |all, row| all.saturating_add(of_row(row)));
        let values = if all <= limits.batch_bytes {
            self.inner.invoke_with_args(args)?
        } else if is_constant {
            return self.too_much(all);
        } else {
            self.by_parts(&args, of_row)?
        };
        let value = match values {
            ColumnarValue::Scalar(value) => value,
            ColumnarValue::Array(array) if is_constant => ScalarValue::try_from_array(&array, 0)?,
            ColumnarValue::Array(array) => {
                // What is said beforehand may be too little.
                let given = bounds::bytes(&array)?;
                return if given > limits.batch_bytes { self.too_much(given) } else { Ok(array.into()) };
            }
        };
        let granted = if self.inner.name() == bounds::SUBQUERY {
            (limits.batch_bytes / in_rows.max(1) as u64).max(limits.constant_bytes)
        } else {
            // It may be computed while the statement is planned, before the rows that it is put to.
            limits.constant_bytes
        };
        let given = value.size() as u64;
        if given > granted {
            return self.refused("gives a constant of more bytes than stand in every row,", given, granted);
        }
        Ok(value.into())
    }

    /// As far as the function is simplified to others, these are bounded too.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.inner.simplify(args, info)? {
            ExprSimplifyResult::Simplified(simpler) => {
                let simpler =
                    simpler.transform_up(|simpler| self.limits.bounded(simpler, info.schema().as_ref()))?;
                ExprSimplifyResult::Simplified(simpler.data)
            }
            original @ ExprSimplifyResult::Original(_) => original,
        })
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.inner.return_type(args)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = Arc::new(self.inner.inner().with_updated_config(config)?);
        Some(ScalarUDF::from(Self { inner, limits: self.limits }))
    }

    fn preimage(
        &self,
        args: &[Expr],
        literal: &Expr,
        info: &SimplifyContext,
    ) -> Result<datafusion::logical_expr::preimage::PreimageResult> {
        self.inner.preimage(args, literal, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(inputs)
    }

    fn propagate_constraints(&self, given: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(given, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, args: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(args)
    }

    fn struct_field_mapping(&self, literals: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.inner.struct_field_mapping(literals)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.placement(args)
    }
}

/// What stands in an operator's place is null where an argument is, as the operator is: the schema of a `UNION` was made of that.
fn field_of(function: &impl ScalarUDFImpl, args: &[FieldRef]) -> Result<FieldRef> {
    let kinds: Vec<_> = args.iter().map(|arg| arg.data_type().clone()).collect();
    let is_nullable = args.iter().any(|arg| arg.is_nullable());
    Ok(Arc::new(Field::new(function.name(), function.return_type(&kinds)?, is_nullable)))
}

/// The right side of an operator that looks for a pattern, or what a subquery gives; it gives what it is put to, by the same name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AsItIs {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for AsItIs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        let [kind] = args else { return internal_err!("a value is the argument") };
        Ok(kind.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        field_of(self, args.arg_fields)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.into_iter().next() else {
            return internal_err!("a value is the argument");
        };
        Ok(value)
    }
}

/// `a || b || c`, by the operator's own work and name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Joined {
    signature: Signature,
}

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &'static str {
        "||"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(names.join(" || "))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        let mut args = args.iter();
        let Some(first) = args.next() else { return internal_err!("texts are the arguments") };
        args.try_fold(first.clone(), |one, other| {
            BinaryTypeCoercer::new(&one, &Operator::StringConcat, other).get_result_type()
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        field_of(self, args.arg_fields)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut texts = args.args.into_iter();
        let Some(first) = texts.next() else { return internal_err!("texts are the arguments") };
        texts.try_fold(first, |one, other| {
            let sides = [one.into_array(rows)?, other.into_array(rows)?];
            let named = ["one", "other"].into_iter().zip(sides).map(|(name, side)| (name, side, true));
            let batch = RecordBatch::try_from_iter_with_nullable(named)?;
            let side = |place| Arc::new(Column::new(["one", "other"][place], place));
            physical::BinaryExpr::new(side(0), Operator::StringConcat, side(1)).evaluate(&batch)
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray as _, RecordBatch};
    use arrow::compute::{cast, concat_batches};
    use arrow::datatypes::{DataType, Int64Type};

    use crate::{Session, SqlError};

    fn small() -> Session {
        // A batch's values may take 1 MiB, a constant 64 KiB.
        Session::builder().memory_limit_bytes(8 << 20).batch_rows(1024).partitions(1).build().unwrap()
    }

    async fn asked(session: &Session, statement: &str) -> Result<Vec<RecordBatch>, SqlError> {
        session.sql(statement).await?.collect().await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_call_gives_more_than_it_may() {
        let session = small();
        let grown = |call: &str| {
            let more = (1..60).map(|n| format!("a{n} AS (SELECT {call} AS x FROM a{})", n - 1));
            let more = more.collect::<Vec<_>>().join(", ");
            format!(
                "WITH a0 AS (SELECT value::text AS x FROM generate_series(1, 10) AS s(value)), {more} SELECT x FROM a59"
            )
        };
        let of_rows = |call: &str| format!("SELECT {call} AS x FROM generate_series(1, 10) AS s(value)");
        let refused = [
            of_rows("repeat('x', 2147483647)"),
            of_rows("repeat('x', 300000 + value)"),
            "SELECT repeat('x', 2147483647)".to_owned(),
            "SELECT repeat('x', 100000) FROM generate_series(1, 1000000)".to_owned(),
            of_rows("lpad('x', 1000000000 + value)"),
            of_rows("rpad('x', 1000000000 + value, 'yz')"),
            of_rows("array_repeat(value, 1000000000)"),
            of_rows("array_resize(make_array(value), 1000000000, 7)"),
            of_rows("range(value, 1000000000)"),
            of_rows("generate_series(1000000000, value, -1)"),
            of_rows("range(TIMESTAMP '2024-01-01', TIMESTAMP '2025-01-01', INTERVAL '1' SECOND)"),
            of_rows("range(DATE '0001-01-01', DATE '9999-12-31', INTERVAL '1' DAY)"),
            of_rows("array_to_string(range(1, 2 + value), repeat('x', 65000), repeat('y', 65000))")
                .replace("10)", "1000)"),
            of_rows("replace(repeat('x', 1000 + value), 'x', repeat('y', 1000))"),
            of_rows("regexp_replace(repeat('x', 50000 + value), '(.*)', repeat('\\1', 50))"),
            of_rows("regexp_replace(repeat('x', 1000 + value), '', repeat('y', 1000), 'g')"),
            of_rows("concat_ws(repeat('x', 60000), value, value, value, value, value, value)"),
            of_rows("levenshtein(repeat('x', 10000 + value), repeat(repeat('y', 100), 100))"),
            of_rows("array_has_any(range(1, 20000 + value), range(-20000, -1))"),
            of_rows("array_replace_all(array_repeat('a', 1000 + value), 'a', repeat('x', 60000))"),
            of_rows("arrays_zip(range(0, 20000 + value), [1], [1], [1], [1], [1], [1])"),
            of_rows("regexp_match(repeat('x', 40000 + value), '(((((((((((.*)))))))))))')"),
            of_rows("array_to_string(make_array(range(0, 1000 + value)), repeat('x', 60000))"),
            of_rows(
                "array_repeat(CASE WHEN value = 1 THEN range(0, 10000) ELSE range(0, 0) END, CASE WHEN value = 1 THEN 2000 ELSE 0 END)",
            )
            .replace("10)", "1000)"),
            of_rows("regexp_count('a', '\\w{50}' || value)").replace("10)", "1000)"),
            of_rows("'a' ~ ('\\w{50}' || value)").replace("10)", "1000)"),
            of_rows("'a' SIMILAR TO ('a' || value)").replace("10)", "1000)"),
            of_rows("'a' NOT SIMILAR TO ('a' || value)").replace("10)", "1000)"),
            // With each of its flags a pattern is another one.
            of_rows("regexp_like('a', 'a', repeat('i', value))").replace("10)", "1000)"),
            of_rows("regexp_count('a', 'a', 1, repeat('i', value))").replace("10)", "1000)"),
            of_rows("regexp_instr('a', 'a', 1, 1, repeat('i', value))").replace("10)", "1000)"),
            of_rows("regexp_match('a', 'a', repeat('i', value))").replace("10)", "1000)"),
            of_rows("regexp_replace('a', 'a', 'b', repeat('i', value))").replace("10)", "1000)"),
            of_rows("to_char(TIMESTAMP '2024-01-31 12:00:00', repeat('%c', 6000 + value))"),
            of_rows("array_to_string(array_repeat(5e-324, 400 + value), '')"),
            of_rows("ltrim(repeat('x', 60000 + value), repeat('y', 60000) || 'x')"),
            grown("x || x"),
            grown("concat(x, x)"),
            grown("make_array(x, x)"),
            grown("CASE WHEN length(x) > 2 THEN x || upper(x) ELSE x || 'y' END"),
        ];
        for statement in refused {
            let failed = asked(&session, &statement).await.map(|batches| batches.len()).unwrap_err();
            let why = failed.to_string();
            assert!(why.contains("are granted: ask for shorter values"), "{why}: {statement}");
        }
        assert_eq!(session.context().runtime_env().memory_pool.reserved(), 0);
    }

    /// In parts, where all rows together might be too much.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_may_be_much_and_is_little_is_given() {
        let session = small();
        let length =
            |call: &str| format!("SELECT sum(length({call})) AS n FROM generate_series(1, 5000) AS s(value)");
        for (call, wanted) in [
            ("replace(repeat('ab', 500), 'x', 'y' || value)", 5_000_000),
            ("regexp_replace(repeat('ab', 100), '^a', '\\0\\0\\0\\0\\0\\0\\0\\0\\0')", 1_040_000),
            ("concat(value % 2, NULL, 'x')", 10_000),
            ("lpad('x', 7)", 35_000),
            ("upper(coalesce(nullif('x', 'x'), 'abc' || (value % 2)))", 20_000),
        ] {
            let batches =
                asked(&session, &length(call)).await.unwrap_or_else(|error| panic!("{call}: {error}"));
            assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), wanted, "{call}");
        }
        // For one row, a constant may be as large as a batch.
        let batches = asked(&session, "SELECT unnest(range(1, 20000)) AS v").await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 19_999);
        // Nothing but levels.
        let many = format!(
            "SELECT {} AS x FROM generate_series(1, 3) AS s(value)",
            vec!["value::text"; 450].join(" || ")
        );
        assert_eq!(asked(&session, &many).await.unwrap()[0].num_rows(), 3);
        for endless in [
            "SELECT range(TIMESTAMP '2024-01-01', TIMESTAMP '2025-01-01', INTERVAL '1 month -31 days')",
            "SELECT range(DATE '2024-01-01', DATE '2023-01-01', INTERVAL '-1 day 25 hours')",
        ] {
            let why = asked(&session, endless).await.unwrap_err().to_string();
            assert!(why.contains("forth and back"), "{why}");
        }
        for wide in [
            "arrow_cast(NULL, 'FixedSizeBinary(2147483647)')",
            "NULL::BIGINT[5000]",
            "TRY_CAST(NULL AS BIGINT[5000])",
            "CAST(NULL AS BIGINT[70][70])",
            "arrow_cast(NULL, 'FixedSizeList(70, FixedSizeList(70, Int64))')",
        ] {
            let wide = format!("SELECT {wide} FROM generate_series(1, 10)");
            let why = asked(&session, &wide).await.unwrap_err().to_string();
            assert!(why.contains("4096 are granted"), "{why}: {wide}");
        }
        let narrow = "SELECT NULL::BIGINT[60] AS x FROM generate_series(1, 10)";
        assert_eq!(asked(&session, narrow).await.unwrap()[0].num_rows(), 10);
        let failed = asked(&session, "SELECT lpad('x', -value) FROM generate_series(1, 2) AS s(value)").await;
        assert!(failed.unwrap_err().to_string().contains("a length below zero"));
        // What is never null stays so.
        for (call, rows) in [("'x' || value", 6), ("value::text ~ ('[0-' || value || ']')", 1)] {
            let one =
                |from: u8| format!("SELECT {call} AS x FROM generate_series({from}, {from} + 2) AS s(value)");
            let batches = asked(&session, &format!("{} UNION {}", one(1), one(4))).await.unwrap();
            assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), rows, "{call}");
        }
        // Names stay what they were.
        let names = "SELECT upper('a'), 'a' || 'b', concat('a', 'b') FROM generate_series(1, 1)";
        let batches = asked(&session, names).await.unwrap();
        let schema = batches[0].schema();
        let found: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let plain = datafusion::prelude::SessionContext::new();
        let plain = plain.sql(names).await.unwrap();
        let wanted: Vec<&str> = plain.schema().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(found, wanted);
    }

    /// By itself each of them gives less than it may.
    #[tokio::test(flavor = "multi_thread")]
    async fn many_calls_share_what_eight_may_give() {
        let session = small();
        let each = |calls: usize, call: &str| {
            let calls: Vec<_> =
                (0..calls).map(|n| format!("{call} AS a{n}").replace('N', &n.to_string())).collect();
            calls.join(", ")
        };
        let rows = " FROM generate_series(1, 10) AS s(value)";
        let repeated = "repeat('x', 90000 + N + value)";
        let few = format!("SELECT {}{rows}", each(8, &format!("length({repeated})")));
        assert_eq!(asked(&session, &few).await.unwrap()[0].num_rows(), 10);
        let wide: Vec<_> = (900..940).map(|n| format!("NULL::BIGINT[{n}] AS a{n}")).collect();
        let constants: Vec<_> = (0..40).map(|n| format!("(repeat('{n}', 400000))")).collect();
        for statement in [
            format!("SELECT {}{rows}", each(40, repeated)),
            format!("SELECT {}", each(40, "repeat('N', 400000)")),
            format!("VALUES {}", constants.join(", ")),
            format!("SELECT {}{rows}", wide.join(", ")),
        ] {
            let failed = asked(&session, &statement).await.map(|batches| batches.len()).unwrap_err();
            let why = failed.to_string();
            assert!(why.contains("with fewer calls"), "{why}: {statement}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_stands_in_many_rows_is_no_more_than_a_batch_has_room_for() {
        let session = small();
        let large = "repeat('x', 500000)";
        let found =
            "(SELECT string_agg(repeat('x', 30000 + value), '') FROM generate_series(1, 10) AS s(value))";
        for statement in [
            format!("SELECT arrow_cast({large}, 'LargeUtf8') AS x, unnest(range(1, 40))"),
            format!("SELECT x, unnest(range(1, 40)) FROM (SELECT {large} AS x)"),
            format!("SELECT x FROM (SELECT {large} AS x), generate_series(1, 40)"),
            format!("SELECT (SELECT {large}) FROM generate_series(1, 40)"),
            format!("SELECT {found} FROM generate_series(1, 40)"),
            format!("SELECT {found} || {found} FROM generate_series(1, 40)"),
            format!("SELECT concat({found}, value) FROM generate_series(1, 40)"),
            format!("SELECT 1 FROM generate_series(1, 40) WHERE value::text < {found}"),
        ] {
            let failed = asked(&session, &statement).await.map(|batches| batches.len()).unwrap_err();
            let why = failed.to_string();
            assert!(why.contains("are granted: ask for shorter values"), "{why}: {statement}");
        }
        for (statement, wanted) in [
            (format!("SELECT length({large})"), 500_000),
            (format!("SELECT length({found}) AS n"), 300_055),
            ("SELECT sum(x) FROM (SELECT unnest(range(1, 20000)) AS x)".to_owned(), 199_990_000),
            // However many rows there are above, none has the list.
            (
                "SELECT sum(b.x) FROM (SELECT unnest(range(0, 20000)) AS x) a JOIN (SELECT unnest(range(0, 20000)) AS x) b ON a.x = b.x"
                    .to_owned(),
                199_990_000,
            ),
            ("SELECT count(*) FROM generate_series(1, 5000) WHERE value > (SELECT 10)".to_owned(), 4990),
            ("SELECT count(*) FROM generate_series(1, 5000) WHERE value::text = (SELECT '7')".to_owned(), 1),
            // Not one for all.
            ("SELECT count(DISTINCT uuid()) FROM generate_series(1, 5000)".to_owned(), 5000),
        ] {
            let batches =
                asked(&session, &statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
            let found = cast(batches[0].column(0), &DataType::Int64).unwrap();
            assert_eq!(found.as_primitive::<Int64Type>().value(0), wanted, "{statement}");
        }
    }

    /// A call over texts, and numbers around what counts; some of its arguments are constants.
    fn call(random: &mut fastrand::Rng) -> String {
        let mut text =
            || random.choice(["x", "'ab'", "''", "NULL::text", "x || x", "'ü' || x"]).unwrap_or("x");
        let (a, b, c) = (text(), text(), text());
        let mut count = || random.choice(["n", "0", "7", "3", "n * 20", "NULL::bigint"]).unwrap_or("n");
        let (count, other) = (count(), count());
        let lists = ["range(0, n)", "make_array(x, NULL, 'y')", "make_array(n, 1)"];
        let list = random.choice(lists).unwrap_or(lists[0]);
        match random.u8(0..11) {
            0 => format!("repeat({a}, {count} - 5)"),
            1 => format!("lpad({a}, {count}, {b})"),
            2 => format!("rpad({a}, {count})"),
            3 => format!("replace({a}, {b}, {c})"),
            4 => format!("regexp_replace({a}, '(a|.)', {b} || '\\1$1', 'g')"),
            5 => format!("concat_ws({a}, {b}, {c})"),
            6 => format!("concat({a}, {b}, upper({a}))"),
            7 => format!("array_to_string({list}, {b}, 'none')"),
            8 => format!("array_resize({list}, abs({count}))"),
            9 => format!("array_repeat({a}, abs({count}))"),
            _ => format!("generate_series({count}, {other}, 2)"),
        }
    }

    /// The slow twin is the function itself, in a session without a limit of ours. In the small one batches go by parts.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_bounded_function_gives_what_the_function_gives() {
        let whole = |batches: &[RecordBatch]| {
            batches.first().map(|batch| concat_batches(&batch.schema(), batches).unwrap().columns().to_vec())
        };
        let config = datafusion::prelude::SessionConfig::new().with_target_partitions(1);
        let plain = datafusion::prelude::SessionContext::new_with_config(config);
        let small = small();
        let mut given = 0;
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (call, rows) = (call(&mut random), random.u32(1..600));
            let statement = format!(
                "SELECT {call} AS v FROM (SELECT value AS n, 'ab' || (value % 7) AS x FROM generate_series(1, {rows}) AS s(value))"
            );
            let wanted = match plain.sql(&statement).await {
                Ok(frame) => frame.collect().await,
                Err(error) => Err(error),
            };
            match (asked(&small, &statement).await, wanted) {
                (Ok(found), Ok(wanted)) => {
                    given += 1;
                    assert!(whole(&found) == whole(&wanted), "{seed}: {statement}");
                }
                (Err(error), Ok(_)) => {
                    let why = error.to_string();
                    assert!(why.contains("are granted"), "{seed}: {statement}: {why}");
                }
                (found, Err(error)) => assert!(found.is_err(), "{seed}: {statement}: {error}"),
            }
        }
        assert!(given > 100, "{given} of 200 calls gave something");
    }
}
