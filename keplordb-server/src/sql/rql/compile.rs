//! Conditions of RQL as expressions of `DataFusion`, with exactly the meaning of [`Condition::matches`].
//!
//! What is said of the entity's id alone, by texts that are no times, becomes comparisons of the column: statistics, bloom filters and
//! buckets leave out files by it. The rest becomes one function over the state, which is parsed once per row however many conditions
//! there are. No comparison of a part of the state could do better: it is text in the files, of which nothing but ids can be left out
//! unread, and typed columns are made of the same parse.
//!
//! `null` needs no care: the columns of ids and states have none, and the function gives `true` or `false`.

use std::sync::Arc;

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::cast::as_string_array;
use datafusion::functions::string::expr_fn::{contains, starts_with};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf, ident, lit};
use serde_json::{Map, Value};

use crate::rql::{Condition, Literal, Operator, Test, time};
use crate::sql::shape::parse;

/// The field that is the entity's id, whatever its state says.
pub(super) const ID: &str = "id";
/// The column of states.
pub(super) const STATE: &str = "state";

/// Comparisons of ids that become expressions, which `DataFusion` recurs by: more of them are left to the function.
const COMPARISONS_MAX: usize = 64;

/// The state of an entity as conditions see it.
pub(super) fn with_id(mut state: Map<String, Value>, id: &str) -> Map<String, Value> {
    state.insert(ID.to_owned(), id.into());
    state
}

/// A condition as an expression over the columns `id` and `state`.
pub(super) fn compile(condition: &Condition) -> Expr {
    let of_id = |condition: &Condition| {
        Some(condition).filter(|condition| leaves(condition) <= COMPARISONS_MAX).and_then(comparison)
    };
    if let Some(expression) = of_id(condition) {
        return expression;
    }
    let Condition::And(all) = condition else { return function(condition.clone()) };
    let mut of_ids = Vec::new();
    let mut others = Vec::new();
    for part in all {
        match of_id(part) {
            Some(expression) if of_ids.len() < COMPARISONS_MAX => of_ids.push(expression),
            _ => others.push(part.clone()),
        }
    }
    let others = Condition::all(others).map(function);
    conjunction(of_ids.into_iter().chain(others)).unwrap_or_else(|| lit(true))
}

fn leaves(condition: &Condition) -> usize {
    match condition {
        Condition::Field { .. } => 1,
        Condition::And(all) | Condition::Or(all) => all.iter().map(leaves).sum(),
    }
}

/// A condition that is about the id alone, as comparisons of its column; `None` is another one.
fn comparison(condition: &Condition) -> Option<Expr> {
    match condition {
        Condition::Field { field, test } if field == ID => of_test(test),
        Condition::Field { .. } => None,
        Condition::And(all) => conjunction(all.iter().map(comparison).collect::<Option<Vec<_>>>()?),
        Condition::Or(any) => disjunction(any.iter().map(comparison).collect::<Option<Vec<_>>>()?),
    }
}

fn of_test(test: &Test) -> Option<Expr> {
    let id = ident(ID);
    Some(match test {
        // An id is always there.
        Test::Null { negated } => lit(*negated),
        Test::OneOf { values, negated } => {
            id.in_list(values.iter().map(plain).collect::<Option<Vec<_>>>()?, *negated)
        }
        Test::Is(Operator::Contains, value) => contains(id, lit(value.as_written())),
        Test::Is(Operator::Prefix, value) => starts_with(id, lit(value.as_written())),
        Test::Is(operator, value) => {
            let value = plain(value)?;
            match operator {
                Operator::Equal => id.eq(value),
                Operator::NotEqual => id.not_eq(value),
                Operator::Less => id.lt(value),
                Operator::LessOrEqual => id.lt_eq(value),
                Operator::Greater => id.gt(value),
                Operator::GreaterOrEqual => id.gt_eq(value),
                Operator::Contains | Operator::Prefix => return None,
            }
        }
    })
}

/// A text with which every other compares by its characters, as columns of texts do.
fn plain(literal: &Literal) -> Option<Expr> {
    match literal {
        Literal::Text(text) if time::nanoseconds(text).is_none() => Some(lit(text.as_str())),
        _ => None,
    }
}

fn function(condition: Condition) -> Expr {
    matcher(condition).call(vec![ident(ID), ident(STATE)])
}

/// Whether an id and a state meet a condition.
fn matcher(condition: Condition) -> ScalarUDF {
    let matches = move |args: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let [ids, states] = arrays.as_slice() else {
            return datafusion::common::internal_err!("an id and a state are the arguments");
        };
        let pairs = as_string_array(ids)?.iter().zip(as_string_array(states)?.iter());
        let met = pairs.map(|pair| match pair {
            (Some(id), Some(state)) => Ok(Some(condition.matches(&with_id(parse(state)?, id)))),
            _ => Ok(None),
        });
        Ok(ColumnarValue::Array(Arc::new(met.collect::<Result<BooleanArray>>()?)))
    };
    let texts = vec![DataType::Utf8, DataType::Utf8];
    create_udf("reflog_rql", texts, DataType::Boolean, Volatility::Immutable, Arc::new(matches))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use datafusion::arrow::array::{AsArray as _, RecordBatch, StringArray};
    use datafusion::common::{DFSchema, ToDFSchema as _};
    use datafusion::prelude::SessionContext;
    use proptest::prelude::*;

    use super::*;
    use crate::rql::random::{condition_of, state};

    /// Takes milliseconds to make.
    static CONTEXT: LazyLock<SessionContext> = LazyLock::new(SessionContext::new);

    /// What the expression gives for these entities.
    fn compiled(condition: &Condition, entities: &[(String, Map<String, Value>)]) -> Vec<bool> {
        let ids: StringArray = entities.iter().map(|(id, _)| Some(id.as_str())).collect();
        let states: StringArray =
            entities.iter().map(|(_, state)| Some(Value::Object(state.clone()).to_string())).collect();
        let columns: [(&str, datafusion::arrow::array::ArrayRef); 2] =
            [(ID, Arc::new(ids)), (STATE, Arc::new(states))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let schema: DFSchema = batch.schema().to_dfschema().unwrap();
        let expression = CONTEXT.create_physical_expr(compile(condition), &schema).unwrap();
        let met = expression.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
        met.as_boolean().iter().map(|met| met == Some(true)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// The evaluator is the slow twin. Ids are among the values that conditions have, times and numbers too.
        #[test]
        fn an_expression_is_true_exactly_where_the_evaluator_says_so(
            condition in condition_of(prop::sample::select(vec!["id", "a", "a.b", "b"])),
            entities in prop::collection::vec(
                (prop::sample::select(vec!["a", "b", "7", "-0", "2024-01-31", "2024-01-31T00:00:00Z", "ü", "a b"]), state()),
                1..6,
            ),
        ) {
            let entities: Vec<_> = entities.into_iter().map(|(id, state)| (id.to_owned(), state)).collect();
            let wanted: Vec<bool> =
                entities.iter().map(|(id, state)| condition.matches(&with_id(state.clone(), id))).collect();
            prop_assert_eq!(compiled(&condition, &entities), wanted);
        }
    }

    #[test]
    fn what_is_said_of_ids_alone_is_no_function() {
        let expression = |text: &str| {
            let query = crate::rql::Query::parse(text).unwrap();
            compile(&query.condition.unwrap()).to_string()
        };
        assert_eq!(expression("where:(id=user_1)"), "id = Utf8(\"user_1\")");
        assert!(!expression("where:(id in (a,b) id!=c (id^=x OR id>y))").contains("reflog_rql"));
        let mixed = expression("where:(id=user_1 plan=team age>3)");
        assert!(mixed.starts_with("id = Utf8(\"user_1\") AND reflog_rql"), "{mixed}");
        assert_eq!(mixed.matches("reflog_rql").count(), 1);
        // As a number, and as a time.
        assert!(expression("where:(id=7)").contains("reflog_rql"));
        assert!(expression("where:(id=\"2024-01-31\")").contains("reflog_rql"));
        let long = Condition::all(
            (0..200)
                .map(|n| Condition::Field {
                    field: ID.to_owned(),
                    test: Test::Is(Operator::NotEqual, Literal::Text(format!("u{n}"))),
                })
                .collect(),
        );
        let entities = [("u199".to_owned(), Map::new()), ("v".to_owned(), with_id(Map::new(), "u3"))];
        assert_eq!(compiled(&long.unwrap(), &entities), [false, true]);
    }
}
