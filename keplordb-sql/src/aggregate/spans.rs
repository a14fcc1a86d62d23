//! Spans of time that rows are grouped by, where the engine's are those of an expression of SQL.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalDayTimeType, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::functions::datetime::date_bin::DateBinFunc;
use datafusion::functions::datetime::date_trunc::DateTruncFunc;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::scan::Question;
use crate::schema::{Form, UTC};

const SECOND_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400 * SECOND_NS;
/// The first Monday after the Unix epoch.
const MONDAY_NS: i64 = 4 * DAY_NS;

/// Spans of equal width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spans {
    /// At least 1.
    pub(super) width_ns: i64,
    /// Where one of them begins.
    pub(super) offset_ns: i64,
}

/// What SQL shows of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// When it begins.
    Start,
    /// Its number; the one that begins at the Unix epoch has 0.
    Number,
}

impl Spans {
    /// The spans that an expression of a scan's columns puts times into, for all times that there are.
    pub(super) fn of(expr: &Arc<dyn PhysicalExpr>, question: &Question) -> Option<(Self, Shown)> {
        let (spans, shown) = if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
            (Self::of_call(call, question)?, Shown::Start)
        } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            let is_day = *cast.cast_type() == DataType::Date32 && is_clock(cast.expr(), question);
            (is_day.then_some(Self { width_ns: DAY_NS, offset_ns: 0 })?, Shown::Number)
        } else {
            let (width_ns, shown) = quotient(expr, question)?;
            // It is rounded towards 0.
            question.snapshot.times().is_none_or(|(first, _)| first >= 0).then_some(())?;
            (Self { width_ns, offset_ns: 0 }, shown)
        };
        // Beyond what a time can be, DataFusion has NULLs and errors.
        let has_start = |ts_ns| spans.start(ts_ns).is_some();
        let times = question.snapshot.times();
        times.is_none_or(|(first, last)| has_start(first) && has_start(last)).then_some((spans, shown))
    }

    /// `date_bin(interval, ts)`, `date_bin(interval, ts, origin)` and `date_trunc('hour', ts)`.
    fn of_call(call: &ScalarFunctionExpr, question: &Question) -> Option<Self> {
        let (width, clock, origin) = match call.args() {
            [width, clock] => (width, clock, None),
            [width, clock, origin] => (width, clock, Some(origin)),
            _ => return None,
        };
        let width = literal(width).filter(|_| is_clock(clock, question))?;
        let function = call.fun().inner();
        if function.downcast_ref::<DateBinFunc>().is_some() {
            let offset_ns = match origin.map(literal) {
                None => 0,
                Some(Some(ScalarValue::TimestampNanosecond(Some(origin), _))) => *origin,
                Some(_) => return None,
            };
            let width_ns = interval_ns(width).filter(|width_ns| *width_ns > 0)?;
            return Some(Self { width_ns, offset_ns });
        }
        function.downcast_ref::<DateTruncFunc>()?;
        let (width_ns, offset_ns) = match width.try_as_str()??.to_lowercase().as_str() {
            "second" => (SECOND_NS, 0),
            "minute" => (60 * SECOND_NS, 0),
            "hour" => (3600 * SECOND_NS, 0),
            "day" => (DAY_NS, 0),
            "week" => (7 * DAY_NS, MONDAY_NS),
            _ => return None,
        };
        Some(Self { width_ns, offset_ns })
    }

    /// When the span of a time begins; `None` where that, or a difference on the way, is no time.
    fn start(self, ts_ns: i64) -> Option<i64> {
        let since = ts_ns.checked_sub(self.offset_ns)?;
        let start = since.checked_sub(since.rem_euclid(self.width_ns))?;
        start.checked_add(self.offset_ns)
    }
}

/// `ts_ns / 60`; `ts_ns / 60 * 60` and `ts_ns - ts_ns % 60`.
fn quotient(expr: &Arc<dyn PhysicalExpr>, question: &Question) -> Option<(i64, Shown)> {
    let time_by = |expr: &Arc<dyn PhysicalExpr>, wanted| {
        let binary = expr.downcast_ref::<BinaryExpr>()?;
        let is_by = *binary.op() == wanted && is_time(binary.left(), question);
        positive(binary.right()).filter(|_| is_by)
    };
    if let Some(width_ns) = time_by(expr, Operator::Divide) {
        return Some((width_ns, Shown::Number));
    }
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let (left, right) = (binary.left(), binary.right());
    let width_ns = match binary.op() {
        Operator::Multiply => {
            let (quotient, by) =
                if let Some(by) = positive(right) { (left, by) } else { (right, positive(left)?) };
            time_by(quotient, Operator::Divide).filter(|width_ns| *width_ns == by)
        }
        Operator::Minus => time_by(right, Operator::Modulo).filter(|_| is_time(left, question)),
        _ => None,
    };
    Some((width_ns?, Shown::Start))
}

fn positive(expr: &Arc<dyn PhysicalExpr>) -> Option<i64> {
    match literal(expr)? {
        ScalarValue::Int64(Some(number)) if *number > 0 => Some(*number),
        _ => None,
    }
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    Some(expr.downcast_ref::<Literal>()?.value())
}

/// The length of an interval without months.
fn interval_ns(interval: &ScalarValue) -> Option<i64> {
    match interval {
        ScalarValue::IntervalDayTime(Some(interval)) => {
            let (days, milliseconds) = IntervalDayTimeType::to_parts(*interval);
            let rest_ns = i64::from(milliseconds).checked_mul(SECOND_NS / 1000)?;
            i64::from(days).checked_mul(DAY_NS)?.checked_add(rest_ns)
        }
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            let (months, days, rest_ns) = IntervalMonthDayNanoType::to_parts(*interval);
            let days_ns = i64::from(days).checked_mul(DAY_NS).filter(|_| months == 0)?;
            days_ns.checked_add(rest_ns)
        }
        _ => None,
    }
}

/// Whether an expression is the time as a number.
fn is_time(expr: &Arc<dyn PhysicalExpr>, question: &Question) -> bool {
    shows_time(expr, question, Form::Int64)
}

/// Whether an expression is the time as a timestamp of UTC.
fn is_clock(expr: &Arc<dyn PhysicalExpr>, question: &Question) -> bool {
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        let keeps_it = match cast.cast_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => zone.as_deref().is_none_or(|zone| zone == UTC),
            _ => false,
        };
        return keeps_it && shows_time(cast.expr(), question, Form::Timestamp);
    }
    shows_time(expr, question, Form::Timestamp)
}

fn shows_time(expr: &Arc<dyn PhysicalExpr>, question: &Question, form: Form) -> bool {
    let column = expr.downcast_ref::<Column>().and_then(|column| question.columns.get(column.index()));
    column.is_some_and(|column| column.is_time() && column.form == form)
}
