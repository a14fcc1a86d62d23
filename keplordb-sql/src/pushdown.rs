//! Conditions of SQL as filters of the engine, where both decide every row alike.
//!
//! No column is nullable, so a condition whose constants are not NULL is either true or false of a row, and `NOT` of the one is the
//! other. What is not surely the same stays with `DataFusion`.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use keplordb::any::{AnyFilter, Test};

use crate::schema::{Form, SqlColumn, SqlColumns};

/// Conditions within conditions beyond which a filter is left to `DataFusion`; the engine refuses more than 256. A chain of one
/// operator is one level.
const LEVELS_MAX: usize = 64;

/// Ranges of numbers in one list beyond which it is left to `DataFusion`, which looks numbers up.
const RANGES_MAX: usize = 32;

/// Makes the filter that a column of the engine passes a test.
type Make<'m> = &'m dyn Fn(&str, Test) -> keplordb::Result<AnyFilter>;

/// The rows for which a condition is true; `None` where the engine may decide otherwise than `DataFusion`, or cannot.
pub(crate) fn filter_of(condition: &Expr, columns: &SqlColumns, make: Make<'_>) -> Option<AnyFilter> {
    Pushdown { columns, make }.condition(condition, LEVELS_MAX)
}

struct Pushdown<'p> {
    columns: &'p SqlColumns,
    make: Make<'p>,
}

/// A column in a condition, perhaps as another type that keeps its values in order.
struct Operand<'p> {
    column: &'p SqlColumn,
    /// The type in which it is compared.
    data_type: DataType,
    /// How its numbers became numbers of that type.
    step: Step,
}

/// How numbers became others.
#[derive(Clone, Copy)]
enum Step {
    Same,
    /// A quotient, rounded down: days.
    Floor(i64),
    /// A quotient, rounded towards 0: coarser units of time.
    Truncate(i64),
}

impl Step {
    /// The first and the last number that became this one.
    fn origins(self, number: i64) -> (i128, i128) {
        let number = i128::from(number);
        match self {
            Self::Same => (number, number),
            Self::Floor(by) => (number * i128::from(by), (number + 1) * i128::from(by) - 1),
            Self::Truncate(by) => {
                let (by, rest) = (i128::from(by), i128::from(by) - 1);
                match number {
                    0 => (-rest, rest),
                    1.. => (number * by, number * by + rest),
                    _ => (number * by - rest, number * by),
                }
            }
        }
    }
}

impl Pushdown<'_> {
    fn condition(&self, condition: &Expr, levels: usize) -> Option<AnyFilter> {
        let levels = levels.checked_sub(1)?;
        match condition {
            Expr::Alias(alias) => self.condition(&alias.expr, levels),
            Expr::Literal(ScalarValue::Boolean(Some(holds)), _) => Some(always(*holds)),
            Expr::BinaryExpr(chain) if matches!(chain.op, Operator::And | Operator::Or) => {
                self.chain(chain, levels)
            }
            Expr::BinaryExpr(comparison) => self.comparison(comparison),
            // What can be pushed down is never NULL.
            Expr::Not(inner) | Expr::IsFalse(inner) | Expr::IsNotTrue(inner) => {
                Some(!self.condition(inner, levels)?)
            }
            Expr::IsTrue(inner) | Expr::IsNotFalse(inner) => self.condition(inner, levels),
            Expr::IsUnknown(inner) => self.condition(inner, levels).map(|_| AnyFilter::none()),
            Expr::IsNotUnknown(inner) => self.condition(inner, levels).map(|_| AnyFilter::all()),
            Expr::IsNull(operand) => self.operand(operand).map(|_| AnyFilter::none()),
            Expr::IsNotNull(operand) => self.operand(operand).map(|_| AnyFilter::all()),
            Expr::Between(between) => self.between(between),
            Expr::InList(list) => self.in_list(list),
            Expr::Like(like) => self.like(like),
            Expr::ScalarFunction(call) => self.call(call),
            _ => None,
        }
    }

    /// `a AND b AND c …`, or with `OR`: one level, however long.
    fn chain(&self, chain: &BinaryExpr, levels: usize) -> Option<AnyFilter> {
        let mut found: Option<AnyFilter> = None;
        let mut left: Vec<&Expr> = vec![&chain.right, &chain.left];
        while let Some(next) = left.pop() {
            match next {
                Expr::BinaryExpr(inner) if inner.op == chain.op => left.extend([&*inner.right, &*inner.left]),
                condition => {
                    let next = self.condition(condition, levels)?;
                    found = Some(match found {
                        None => next,
                        Some(known) if chain.op == Operator::And => known & next,
                        Some(known) => known | next,
                    });
                }
            }
        }
        found
    }

    fn comparison(&self, comparison: &BinaryExpr) -> Option<AnyFilter> {
        let BinaryExpr { left, op, right } = comparison;
        let (operand, op, value) = match (&**left, &**right) {
            (operand, Expr::Literal(value, _)) => (operand, *op, value),
            (Expr::Literal(value, _), operand) => (operand, op.swap()?, value),
            _ => return None,
        };
        if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::BitwiseAnd, right }) = operand {
            return self.flags(left, right, op, value);
        }
        self.compare(&self.operand(operand)?, op, value)
    }

    fn compare(&self, operand: &Operand<'_>, op: Operator, value: &ScalarValue) -> Option<AnyFilter> {
        match operand.constant(value)? {
            Constant::Number(number) => {
                let (first, last) = operand.step.origins(number);
                let (lo, hi) = match op {
                    Operator::Eq
                    | Operator::NotEq
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom => (first, last),
                    Operator::Lt => (i128::MIN, first - 1),
                    Operator::LtEq => (i128::MIN, last),
                    Operator::Gt => (last + 1, i128::MAX),
                    Operator::GtEq => (first, i128::MAX),
                    _ => return None,
                };
                let within = self.within(operand, lo, hi)?;
                Some(if matches!(op, Operator::NotEq | Operator::IsDistinctFrom) { !within } else { within })
            }
            Constant::Text(text) => {
                let equal = self.make(operand, Test::Equals(text.to_owned()))?;
                match op {
                    Operator::Eq | Operator::IsNotDistinctFrom => Some(equal),
                    Operator::NotEq | Operator::IsDistinctFrom => Some(!equal),
                    _ => None,
                }
            }
        }
    }

    /// Numbers from `lo` to `hi`.
    fn within(&self, operand: &Operand<'_>, lo: i128, hi: i128) -> Option<AnyFilter> {
        let (least, most) = (i128::from(i64::MIN), i128::from(i64::MAX));
        if lo > hi || lo > most || hi < least {
            return Some(AnyFilter::none());
        }
        let (lo, hi) = (i64::try_from(lo.max(least)).ok()?, i64::try_from(hi.min(most)).ok()?);
        self.make(operand, Test::Between { lo, hi })
    }

    /// `flags & 4 = 4`, `flags & 4 <> 0`, and their opposites.
    fn flags(&self, left: &Expr, right: &Expr, op: Operator, value: &ScalarValue) -> Option<AnyFilter> {
        let ((operand, Expr::Literal(bits, _)) | (Expr::Literal(bits, _), operand)) = (left, right) else {
            return None;
        };
        let operand = self.operand(operand).filter(|operand| matches!(operand.step, Step::Same))?;
        let (Constant::Number(bits), Constant::Number(value)) =
            (operand.constant(bits)?, operand.constant(value)?)
        else {
            return None;
        };
        let bits = u16::try_from(bits).ok()?;
        let has = match op {
            Operator::Eq => true,
            Operator::NotEq => false,
            _ => return None,
        };
        // With one flag, not being 0 is having it.
        let has = match value {
            value if value == i64::from(bits) => has,
            0 if bits.is_power_of_two() => !has,
            _ => return None,
        };
        // Of another column than the flags the engine refuses the test.
        let all = self.make(&operand, Test::HasFlags(bits))?;
        Some(if has { all } else { !all })
    }

    fn between(&self, between: &Between) -> Option<AnyFilter> {
        let Between { expr, negated, low, high } = between;
        let (Expr::Literal(low, _), Expr::Literal(high, _)) = (&**low, &**high) else { return None };
        let operand = self.operand(expr)?;
        let (Constant::Number(lo), Constant::Number(hi)) = (operand.constant(low)?, operand.constant(high)?)
        else {
            return None;
        };
        let (lo, hi) = (operand.step.origins(lo).0, operand.step.origins(hi).1);
        let within = self.within(&operand, lo, hi)?;
        Some(if *negated { !within } else { within })
    }

    fn in_list(&self, in_list: &InList) -> Option<AnyFilter> {
        let InList { expr, list, negated } = in_list;
        let operand = self.operand(expr)?;
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        for value in list {
            let Expr::Literal(value, _) = value else { return None };
            match operand.constant(value)? {
                Constant::Text(text) => texts.push(text.to_owned()),
                Constant::Number(number) => numbers.push(number),
            }
        }
        let any = match operand.column.form {
            Form::Text => self.make(&operand, Test::AnyOf(texts))?,
            _ => self.one_of(&operand, numbers)?,
        };
        Some(if *negated { !any } else { any })
    }

    /// One of these numbers; neighbours become one range. `None` for many ranges: each would be tested of each row.
    fn one_of(&self, operand: &Operand<'_>, mut numbers: Vec<i64>) -> Option<AnyFilter> {
        numbers.sort_unstable();
        let ranges = numbers.chunk_by(|low, high| *high <= low.saturating_add(1));
        let mut any = AnyFilter::none();
        for (place, range) in ranges.enumerate() {
            if place == RANGES_MAX {
                return None;
            }
            if let (Some(lo), Some(hi)) = (range.first(), range.last()) {
                let (lo, hi) = (operand.step.origins(*lo).0, operand.step.origins(*hi).1);
                any = any | self.within(operand, lo, hi)?;
            }
        }
        Some(any)
    }

    fn like(&self, like: &Like) -> Option<AnyFilter> {
        let Like { negated, expr, pattern, escape_char: None, case_insensitive: false } = like else {
            return None;
        };
        let Expr::Literal(pattern, _) = &**pattern else { return None };
        let operand = self.operand(expr)?;
        let Constant::Text(pattern) = operand.constant(pattern)? else { return None };
        let matching = match like_test(pattern)? {
            Some(test) => self.make(&operand, test)?,
            None => AnyFilter::all(),
        };
        Some(if *negated { !matching } else { matching })
    }

    /// `starts_with(a, 'x')`, `ends_with(a, 'x')`, `contains(a, 'x')`.
    fn call(&self, call: &ScalarFunction) -> Option<AnyFilter> {
        let [operand, Expr::Literal(text, _)] = call.args.as_slice() else { return None };
        let make_test = match call.func.name() {
            "starts_with" => Test::StartsWith,
            "ends_with" => Test::EndsWith,
            "contains" => Test::Contains,
            _ => return None,
        };
        let operand = self.operand(operand)?;
        let Constant::Text(text) = operand.constant(text)? else { return None };
        self.make(&operand, make_test(text.to_owned()))
    }

    /// A column, or one as a type in which its values are in the same order.
    fn operand(&self, operand: &Expr) -> Option<Operand<'_>> {
        let (column, data_type) = match operand {
            Expr::Column(column) => {
                let column = self.columns.named(&column.name)?;
                (column, column.form.data_type())
            }
            Expr::Cast(cast) => (self.column(&cast.expr)?, cast.field.data_type().clone()),
            Expr::TryCast(cast) => (self.column(&cast.expr)?, cast.field.data_type().clone()),
            _ => return None,
        };
        let step = match (column.form, &data_type) {
            (Form::Int32, DataType::Int32 | DataType::Int64)
            | (Form::Int64, DataType::Int64)
            | (Form::Text, DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8) => Step::Same,
            // An instant in another zone is the same instant; without one, the clock in UTC shows the same number.
            (Form::Timestamp, DataType::Timestamp(unit, _)) => match unit {
                TimeUnit::Nanosecond => Step::Same,
                TimeUnit::Microsecond => Step::Truncate(1_000),
                TimeUnit::Millisecond => Step::Truncate(1_000_000),
                TimeUnit::Second => Step::Truncate(1_000_000_000),
            },
            // Left to DataFusion, such a condition would make it take the time for the same in all rows, and not sort by it.
            (Form::Timestamp, DataType::Date32) => Step::Floor(86_400_000_000_000),
            _ => return None,
        };
        Some(Operand { column, data_type, step })
    }

    fn column(&self, column: &Expr) -> Option<&SqlColumn> {
        match column {
            Expr::Column(column) => self.columns.named(&column.name),
            _ => None,
        }
    }

    fn make(&self, operand: &Operand<'_>, test: Test) -> Option<AnyFilter> {
        (self.make)(&operand.column.source, test).ok()
    }
}

/// What a column is compared with.
enum Constant<'c> {
    Number(i64),
    Text(&'c str),
}

impl Operand<'_> {
    /// A constant of the type in which the column is compared; `None` for others, and for NULL.
    fn constant<'c>(&self, value: &'c ScalarValue) -> Option<Constant<'c>> {
        if value.data_type() != self.data_type {
            return None;
        }
        match value {
            ScalarValue::Int32(value) | ScalarValue::Date32(value) => {
                value.map(|value| Constant::Number(value.into()))
            }
            ScalarValue::Int64(value)
            | ScalarValue::TimestampSecond(value, _)
            | ScalarValue::TimestampMillisecond(value, _)
            | ScalarValue::TimestampMicrosecond(value, _)
            | ScalarValue::TimestampNanosecond(value, _) => value.map(Constant::Number),
            ScalarValue::Utf8View(text) | ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) => {
                text.as_deref().map(Constant::Text)
            }
            _ => None,
        }
    }
}

fn always(holds: bool) -> AnyFilter {
    if holds { AnyFilter::all() } else { AnyFilter::none() }
}

/// The test of a pattern of `LIKE`; `Some(None)` for one that every text has, `None` for one that the engine has no test for.
#[expect(clippy::option_option, reason = "a pattern that every text has needs no test")]
fn like_test(pattern: &str) -> Option<Option<Test>> {
    // The texts between the wildcards `%`.
    let mut parts = vec![String::new()];
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let part = parts.last_mut()?;
        match letter {
            '%' => parts.push(String::new()),
            '_' => return None,
            // One at the end is understood in several ways.
            '\\' => part.push(letters.next()?),
            letter => part.push(letter),
        }
    }
    let (first, last) = (parts.first()?.clone(), parts.last()?.clone());
    let Some(middle) = parts.get(1..parts.len() - 1).filter(|_| parts.len() > 1) else {
        return Some(Some(Test::Equals(first)));
    };
    let mut middle = middle.iter().filter(|part| !part.is_empty()).cloned();
    match (first.is_empty(), middle.next(), last.is_empty()) {
        (true, None, true) => Some(None),
        (false, None, true) => Some(Some(Test::StartsWith(first))),
        (true, None, false) => Some(Some(Test::EndsWith(last))),
        (true, Some(part), true) if middle.next().is_none() => Some(Some(Test::Contains(part))),
        _ => None,
    }
}
