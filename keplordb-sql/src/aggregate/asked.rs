//! What the engine is asked for an aggregate of SQL, and what of its answer each column shows.
//!
//! No column is nullable, so a `COUNT` of a column counts rows. Sums are exact, of 128 bits: what does not fit `BIGINT` is an error, where
//! `DataFusion` would wrap around. `AVG` is the sum as a `DOUBLE` divided by the count, as it is in `DataFusion` where that adds up
//! doubles without rounding: the plan asks `DataFusion` where it may not ([`Mean::is_exact`]).

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::functions_aggregate::average::Avg;
use datafusion::functions_aggregate::count::Count;
use datafusion::functions_aggregate::min_max::{Max, Min};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_plan::aggregates::AggregateExec;
use keplordb::any::{AnyAggregate, AnyGroupValue, Role};

use super::Input;
use super::spans::{Shown, Spans};
use crate::scan::Question;
use crate::schema::{Form, SqlColumn};

/// A grouped query of the engine.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// The engine's columns that are grouped by.
    pub(super) keys: Vec<String>,
    pub(super) spans: Option<Spans>,
    pub(super) aggregates: Vec<AnyAggregate>,
    /// Where the columns of the answer are found.
    pub(super) outputs: Vec<Output>,
}

/// Where a column of the answer is found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    /// A key, by its place.
    Text(usize),
    /// The same of a status.
    Status(usize),
    Span(Shown),
    /// One of the aggregates, by its place: a count or an extreme.
    Number(usize),
    Sum(usize),
    Mean(Mean),
}

/// What a mean is made of, by place among the aggregates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mean {
    count: usize,
    sum: usize,
    /// Minimum and maximum, of a column whose numbers have signs.
    extremes: Option<(usize, usize)>,
}

/// Whole numbers up to here are doubles.
const DOUBLE_MAX: i128 = 1 << 53;

/// The function that an aggregate calls.
#[derive(Clone, Copy, PartialEq)]
enum Function {
    Count,
    CountDistinct,
    Sum,
    Min,
    Max,
    Mean,
}

impl Function {
    fn of(aggregate: &AggregateFunctionExpr) -> Option<Self> {
        if aggregate.ignore_nulls() || !aggregate.order_bys().is_empty() {
            return None;
        }
        let function = aggregate.fun().inner();
        // Others may have the names.
        if function.downcast_ref::<Count>().is_some() {
            return Some(if aggregate.is_distinct() { Self::CountDistinct } else { Self::Count });
        }
        let is = if function.downcast_ref::<Sum>().is_some() {
            Self::Sum
        } else if function.downcast_ref::<Min>().is_some() {
            Self::Min
        } else if function.downcast_ref::<Max>().is_some() {
            Self::Max
        } else if function.downcast_ref::<Avg>().is_some() {
            Self::Mean
        } else {
            return None;
        };
        (!aggregate.is_distinct()).then_some(is)
    }
}

impl Asked {
    /// An aggregate of a table's rows; `None` where the engine may answer otherwise than `DataFusion`, or not at all.
    pub(super) fn of_rows(aggregate: &AggregateExec, question: &Question, input: &Input<'_>) -> Option<Self> {
        let mut asked = Self::default();
        for (expr, _) in aggregate.group_expr().expr() {
            let output = asked.key(&input.resolve(expr)?, question)?;
            asked.outputs.push(output);
        }
        for aggregate in aggregate.aggr_expr() {
            let function = Function::of(aggregate)?;
            let [argument] = aggregate.expressions().try_into().ok()?;
            let output = asked.call(function, &input.resolve(&argument)?, question)?;
            asked.outputs.push(output);
        }
        Some(asked.with_count())
    }

    /// An aggregate of another's groups: what `DataFusion` makes of `COUNT(DISTINCT dim)`, whose groups nobody else needs then.
    pub(super) fn of_groups(aggregate: &AggregateExec, groups: &Self, input: &Input<'_>) -> Option<Self> {
        let output = |expr: &Arc<dyn PhysicalExpr>| {
            let expr = input.resolve(expr)?;
            groups.outputs.get(expr.downcast_ref::<Column>()?.index()).copied()
        };
        let mut asked = Self::default();
        let key = |asked: &mut Self, slot: usize| Some(asked.place_of_key(groups.keys.get(slot)?));
        for (expr, _) in aggregate.group_expr().expr() {
            let output = match output(expr)? {
                Output::Text(slot) => Output::Text(key(&mut asked, slot)?),
                Output::Status(slot) => Output::Status(key(&mut asked, slot)?),
                Output::Span(shown) => {
                    asked.spans = groups.spans;
                    Output::Span(shown)
                }
                Output::Number(_) | Output::Sum(_) | Output::Mean(_) => return None,
            };
            asked.outputs.push(output);
        }
        // The one key that does not come out is counted.
        let mut counted = groups.keys.iter().filter(|key| !asked.keys.contains(key));
        let counted = counted.next().filter(|_| asked.spans == groups.spans)?.clone();
        if groups.keys.len() != asked.keys.len() + 1 {
            return None;
        }
        for aggregate in aggregate.aggr_expr() {
            let function = Function::of(aggregate)?;
            let [argument] = aggregate.expressions().try_into().ok()?;
            let known = |place: usize| groups.aggregates.get(place).cloned();
            let next = match (function, output(&argument)?) {
                (Function::Count, Output::Text(slot) | Output::Status(slot))
                    if groups.keys.get(slot) == Some(&counted) =>
                {
                    Output::Number(asked.place_of(AnyAggregate::Distinct(counted.clone())))
                }
                (Function::Sum, Output::Sum(place)) => Output::Sum(asked.place_of(known(place)?)),
                (Function::Min, Output::Number(place)) => {
                    let min = known(place).filter(|known| matches!(known, AnyAggregate::Min(_)))?;
                    Output::Number(asked.place_of(min))
                }
                (Function::Max, Output::Number(place)) => {
                    let max = known(place).filter(|known| matches!(known, AnyAggregate::Max(_)))?;
                    Output::Number(asked.place_of(max))
                }
                _ => return None,
            };
            asked.outputs.push(next);
        }
        Some(asked.with_count())
    }

    /// With the count where there is one group: without rows its sums are NULL.
    fn with_count(mut self) -> Self {
        if self.has_one_group() {
            self.place_of(AnyAggregate::Count);
        }
        self
    }

    pub(super) fn has_one_group(&self) -> bool {
        self.keys.is_empty() && self.spans.is_none()
    }

    fn key(&mut self, expr: &Arc<dyn PhysicalExpr>, question: &Question) -> Option<Output> {
        if let Some(column) = column(expr, question) {
            let slot = self.place_of_key(key_of(column, question)?);
            return Some(if column.form == Form::Text { Output::Text(slot) } else { Output::Status(slot) });
        }
        let (spans, shown) = Spans::of(expr, question)?;
        // There is one kind of spans.
        (*self.spans.get_or_insert(spans) == spans).then_some(Output::Span(shown))
    }

    fn call(
        &mut self,
        function: Function,
        argument: &Arc<dyn PhysicalExpr>,
        question: &Question,
    ) -> Option<Output> {
        let number = |argument: &Arc<dyn PhysicalExpr>| number_of(column(argument, question)?);
        Some(match function {
            Function::Count => {
                let is_something = match argument.downcast_ref::<Literal>() {
                    Some(literal) => !literal.value().is_null(),
                    None => column(argument, question).is_some(),
                };
                Output::Number(is_something.then(|| self.place_of(AnyAggregate::Count))?)
            }
            Function::CountDistinct => {
                let key = key_of(column(argument, question)?, question)?;
                Output::Number(self.place_of(AnyAggregate::Distinct(key.to_owned())))
            }
            Function::Sum => {
                let of_32_bits = cast_to(argument, &DataType::Int64);
                let column = number(of_32_bits.unwrap_or(argument))?;
                // The smaller ones are cast, and nothing else adds up to a BIGINT.
                let is_sum = match column.form {
                    Form::Int64 => of_32_bits.is_none(),
                    Form::Int32 => of_32_bits.is_some(),
                    Form::Timestamp | Form::Text => false,
                };
                is_sum.then_some(())?;
                Output::Sum(self.place_of(AnyAggregate::Sum(column.source.clone())))
            }
            Function::Min => {
                Output::Number(self.place_of(AnyAggregate::Min(number(argument)?.source.clone())))
            }
            Function::Max => {
                Output::Number(self.place_of(AnyAggregate::Max(number(argument)?.source.clone())))
            }
            Function::Mean => {
                let column = number(cast_to(argument, &DataType::Float64)?)?;
                // Times are larger than what adds up without rounding.
                if column.is_time() {
                    return None;
                }
                let (min, _) = question.snapshot.columns().get(column.position)?.kind.range()?;
                let source = || column.source.clone();
                let count = self.place_of(AnyAggregate::Count);
                let sum = self.place_of(AnyAggregate::Sum(source()));
                let extremes = (min < 0).then(|| {
                    (self.place_of(AnyAggregate::Min(source())), self.place_of(AnyAggregate::Max(source())))
                });
                Output::Mean(Mean { count, sum, extremes })
            }
        })
    }

    fn place_of_key(&mut self, key: &str) -> usize {
        place_of(&mut self.keys, key.to_owned())
    }

    fn place_of(&mut self, aggregate: AnyAggregate) -> usize {
        place_of(&mut self.aggregates, aggregate)
    }
}

fn place_of<T: PartialEq>(all: &mut Vec<T>, wanted: T) -> usize {
    all.iter().position(|known| *known == wanted).unwrap_or_else(|| {
        all.push(wanted);
        all.len() - 1
    })
}

fn column<'q>(expr: &Arc<dyn PhysicalExpr>, question: &'q Question) -> Option<&'q SqlColumn> {
    question.columns.get(expr.downcast_ref::<Column>()?.index())
}

/// The operand of a cast to this type.
fn cast_to<'e>(expr: &'e Arc<dyn PhysicalExpr>, data_type: &DataType) -> Option<&'e Arc<dyn PhysicalExpr>> {
    let cast = expr.downcast_ref::<CastExpr>()?;
    (cast.cast_type() == data_type).then_some(cast.expr())
}

/// The engine's name of a column that it groups by.
fn key_of<'q>(column: &'q SqlColumn, question: &Question) -> Option<&'q str> {
    let is_dim = question.snapshot.columns().get(column.position)?.role == Role::Dim;
    (is_dim || column.source == STATUS).then_some(column.source.as_str())
}

/// A column that the engine adds up.
fn number_of(column: &SqlColumn) -> Option<&SqlColumn> {
    (column.form != Form::Text && column.source != STATUS).then_some(column)
}

/// The engine's column that is a number in SQL and a key to the engine.
const STATUS: &str = "status";

impl Mean {
    /// The mean, of a group that has rows; `None` where adding up the rows as doubles may round: what comes of that depends on their
    /// order.
    ///
    /// It cannot where no partial sum, of whatever rows, is beyond what doubles hold exactly: those of numbers without signs are
    /// at most the sum, others at most as many times the largest as there are rows.
    pub(super) fn of(self, values: &[AnyGroupValue]) -> Option<f64> {
        let (AnyGroupValue::Count(count), AnyGroupValue::Sum(sum)) = (&values[self.count], &values[self.sum])
        else {
            return None;
        };
        let largest_sum = match self.extremes {
            None => *sum,
            Some((min, max)) => match (&values[min], &values[max]) {
                (AnyGroupValue::Number(Some(min)), AnyGroupValue::Number(Some(max))) if *min < 0 => {
                    i128::from(min.unsigned_abs().max(max.unsigned_abs())) * i128::from(*count)
                }
                _ => *sum,
            },
        };
        #[expect(clippy::cast_precision_loss, reason = "both are at most 2⁵³")]
        (largest_sum <= DOUBLE_MAX).then_some(*sum as f64 / *count as f64)
    }
}
