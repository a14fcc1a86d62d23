//! Random queries and states: both forms are read as they were written, and the evaluator agrees with a slow twin that scales all
//! numbers to integers, looks times up in a table, and never stops early.

use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use super::{
    Condition, EntityShape, FieldShape, Literal, Operator, OrderTerm, Query, SchemaShape, Test, complete,
};

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c](\\.[a-c]){0,2}",
        1 => prop::sample::select(vec!["and", "OR", "true", "in", "is", "null", "asc", "desc", "12", "-1.5", "a b", "entity:", "ü"])
            .prop_map(str::to_owned),
        1 => any::<String>().prop_filter("a name is not empty", |name| !name.is_empty()),
    ]
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        any::<bool>().prop_map(Literal::Bool),
        any::<i64>().prop_map(|number| Literal::Number(number.into())),
        any::<u64>().prop_map(|number| Literal::Number(number.into())),
        any::<f64>()
            .prop_filter_map("JSON has no NaN", |number| Number::from_f64(number).map(Literal::Number)),
        name().prop_map(Literal::Text),
        any::<String>().prop_map(Literal::Text),
    ]
}

fn operator() -> impl Strategy<Value = Operator> {
    prop::sample::select(Operator::ALL.to_vec())
}

fn test(literal: impl Strategy<Value = Literal> + Clone) -> impl Strategy<Value = Test> {
    prop_oneof![
        4 => (operator(), literal.clone()).prop_map(|(operator, value)| Test::Is(operator, value)),
        1 => (prop::collection::vec(literal, 1..4), any::<bool>())
            .prop_map(|(values, negated)| Test::OneOf { values, negated }),
        1 => any::<bool>().prop_map(|negated| Test::Null { negated }),
    ]
}

fn condition(leaf: impl Strategy<Value = Condition> + 'static) -> impl Strategy<Value = Condition> {
    leaf.prop_recursive(4, 24, 4, |inner| {
        let list = prop::collection::vec(inner, 1..5);
        (list, any::<bool>()).prop_map(|(list, is_all)| {
            let joined = if is_all { Condition::all(list) } else { Condition::any(list) };
            joined.expect("a list has at least one")
        })
    })
}

fn query() -> impl Strategy<Value = Query> {
    let leaf = (name(), test(literal().boxed())).prop_map(|(field, test)| Condition::Field { field, test });
    let term = (name(), any::<bool>()).prop_map(|(field, descending)| OrderTerm { field, descending });
    // The years that RFC 3339 can write.
    let time_ms = || prop::option::of(-62_167_219_200_000_i64..253_402_207_200_000);
    let fields = prop::collection::btree_set(name(), 0..4).prop_map(|fields| fields.into_iter().collect());
    let first = (
        prop::option::of(name()),
        prop::option::of(any::<u64>()),
        prop::collection::vec(term, 0..4),
        prop::collection::btree_set(name(), 0..4),
        prop::option::of(condition(leaf)),
    );
    let second = (time_ms(), time_ms(), prop::option::of(any::<u64>()), prop::option::of(name()), fields);
    (first, second).prop_map(
        |((entity, limit, order, include, condition), (as_of_ms, known_at_ms, sequence, cursor, fields))| {
            Query {
                entity,
                limit,
                order,
                include,
                condition,
                as_of_ms,
                known_at_ms,
                sequence,
                cursor,
                fields,
            }
        },
    )
}

fn without_doubles(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => json!(0.5),
        Value::Array(values) => values.into_iter().map(without_doubles).collect(),
        Value::Object(object) => {
            object.into_iter().map(|(key, value)| (key, without_doubles(value))).collect()
        }
        other => other,
    }
}

/// Texts of few signs, of which many are nearly queries.
fn nearly() -> impl Strategy<Value = String> {
    let pieces = vec![
        "entity:",
        "limit:",
        "order:",
        "include:",
        "where:(",
        "as_of:",
        "fields:",
        "seq:",
        "cursor:",
        "where:",
        "(",
        ")",
        "\"",
        "\\",
        " ",
        "  ",
        ",",
        ":",
        "a",
        "b.c",
        "12",
        "-1.5",
        "true",
        "and",
        " OR ",
        "=",
        "!=",
        "!",
        "^",
        "^=",
        "~",
        "<=",
        ">",
        " in (",
        " !in (",
        " is null",
        " is not null",
        " is",
        " not",
        "desc",
        "2024-01-31",
        "ü",
        "\n",
        "\0",
        "{",
        "}",
        "[",
        "]",
        "\"where\":",
        "\"and\":",
        "\"field\":",
        "null",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

fn shape() -> SchemaShape {
    let field = |name: &str, values: &[&str]| FieldShape {
        name: name.to_owned(),
        kind: "string".to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let fields = vec![field("a", &["x", "two words"]), field("b.c", &[]), field("ü", &["ü"])];
    SchemaShape {
        entities: vec![EntityShape { name: "A".to_owned(), relations: vec!["b".to_owned()], fields }],
    }
}

/// What must hold of any text at all.
fn survives(text: &str) {
    if let Ok(query) = Query::parse(text) {
        assert_eq!(Query::parse(&query.to_string()).as_ref(), Ok(&query), "{text:?} as {query}");
        assert_eq!(Query::of_json(&query.to_json()).as_ref(), Ok(&query), "{text:?}");
    }
    match Query::parse(text) {
        Err(super::RqlError { place: super::Place::Byte(offset), .. }) => {
            assert!(text.is_char_boundary(offset), "{text:?} at {offset}");
        }
        Err(error) => panic!("{error} has no offset"),
        Ok(_) => {}
    }
    let _ = Query::parse_json(text);
    for cursor in 0..=text.len() + 1 {
        let completion = complete(text, cursor, &shape());
        for suggestion in completion.suggestions {
            let end = super::text::floor(text, cursor);
            assert!(text.is_char_boundary(end - suggestion.replace_bytes), "{text:?} at {cursor}");
        }
    }
}

/// Times that states have, and the nanoseconds at which they are.
const TIMES: [(&str, i64); 5] = [
    ("1970-01-01", 0),
    ("1970-01-01T00:00:00Z", 0),
    ("1970-01-01T01:00:00+01:00", 0),
    ("1970-01-01T00:00:00.000000001Z", 1),
    ("1969-12-31T23:00:00Z", -3_600_000_000_000),
];
const TEXTS: [&str; 8] = ["", "a", "ab", "b", "01", "-0", "true", "9007199254740993x"];

/// Numbers whose quarters are integers: the twin counts in these.
fn twin_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        (-8_i64..8).prop_map(Number::from),
        prop::sample::select(vec![i64::MIN, i64::MAX, 9_007_199_254_740_993, 9_007_199_254_740_992])
            .prop_map(Number::from),
        prop::sample::select(vec![u64::MAX, 1 << 63]).prop_map(Number::from),
        (-32_i32..32).prop_map(|quarters| Number::from_f64(f64::from(quarters) / 4.0).expect("it is finite")),
        prop::sample::select(vec![
            9_007_199_254_740_992.0,
            18_446_744_073_709_551_616.0,
            -9_223_372_036_854_775_808.0
        ])
        .prop_map(|number| Number::from_f64(number).expect("it is finite")),
    ]
}

fn quarters(number: &Number) -> i128 {
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    integer.map_or_else(
        || {
            let scaled = format!("{:.0}", number.as_f64().expect("it is a double") * 4.0);
            scaled.parse().expect("digits")
        },
        |integer| integer * 4,
    )
}

fn twin_text() -> impl Strategy<Value = String> {
    let texts = TIMES.iter().map(|(text, _)| *text).chain(TEXTS);
    prop_oneof![
        prop::sample::select(texts.collect::<Vec<_>>()).prop_map(str::to_owned),
        (-8_i64..8).prop_map(|number| number.to_string()),
        prop::sample::select(vec!["9007199254740993", "18446744073709551615", "-9223372036854775808"])
            .prop_map(str::to_owned),
    ]
}

fn twin_literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        any::<bool>().prop_map(Literal::Bool),
        twin_number().prop_map(Literal::Number),
        twin_text().prop_map(Literal::Text),
    ]
}

fn twin_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        4 => twin_number().prop_map(Value::Number),
        4 => twin_text().prop_map(Value::String),
    ];
    scalar.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

pub(crate) fn state() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[ab](\\.[ab])?", twin_value(), 0..4)
        .prop_map(|object| object.into_iter().collect())
}

/// All ways in which a field's dots can be read, those with the longer first key first where a key is there at all.
/// Conditions on some fields, whose values states may have.
#[cfg(feature = "sql")]
pub(crate) fn condition_of(
    field: impl Strategy<Value = &'static str> + 'static,
) -> impl Strategy<Value = Condition> {
    condition(
        (field, test(twin_literal().boxed()))
            .prop_map(|(field, test)| Condition::Field { field: field.to_owned(), test }),
    )
}

fn twin_lookup(state: &Map<String, Value>, field: &str) -> Option<Value> {
    if state.contains_key(field) {
        return Some(state[field].clone()).filter(|value| !value.is_null());
    }
    let (head, tail) = field.split_once('.')?;
    match state.get(head) {
        Some(Value::Object(nested)) => twin_lookup(nested, tail),
        _ => None,
    }
}

fn twin_compare(value: &Value, literal: &Literal) -> Option<Ordering> {
    let time = |text: &str| TIMES.iter().find(|(time, _)| *time == text).map(|(_, ns)| *ns);
    match literal {
        Literal::Bool(literal) => value.as_bool().map(|value| u8::from(value).cmp(&u8::from(*literal))),
        Literal::Number(literal) => {
            let value = match value {
                Value::Number(value) => quarters(value),
                Value::String(text) => {
                    let value = text.parse::<i128>().ok()?;
                    if value.to_string() != *text {
                        return None;
                    }
                    value * 4
                }
                _ => return None,
            };
            Some(value.cmp(&quarters(literal)))
        }
        Literal::Text(literal) => {
            let value = value.as_str()?;
            if let (Some(value), Some(literal)) = (time(value), time(literal)) {
                return Some(value.cmp(&literal));
            }
            Some(value.chars().collect::<Vec<_>>().cmp(&literal.chars().collect::<Vec<_>>()))
        }
    }
}

fn twin_matches(condition: &Condition, state: &Map<String, Value>) -> bool {
    let (field, test) = match condition {
        Condition::And(list) => {
            return list.iter().filter(|condition| twin_matches(condition, state)).count() == list.len();
        }
        Condition::Or(list) => {
            return list.iter().filter(|condition| twin_matches(condition, state)).count() > 0;
        }
        Condition::Field { field, test } => (field, test),
    };
    let value = twin_lookup(state, field);
    let Some(value) = value else { return matches!(test, Test::Null { negated: false }) };
    let equal = |value: &Value, literal: &Literal| twin_compare(value, literal) == Some(Ordering::Equal);
    match test {
        Test::Null { negated } => *negated,
        Test::OneOf { values, negated } => {
            let count = values.iter().filter(|literal| equal(&value, literal)).count();
            if *negated { count == 0 } else { count > 0 }
        }
        Test::Is(operator, literal) => {
            let ordering = twin_compare(&value, literal);
            let written = match literal {
                Literal::Text(unquoted) => unquoted.clone(),
                other => other.to_string(),
            };
            match operator {
                Operator::Equal => ordering == Some(Ordering::Equal),
                Operator::NotEqual => ordering != Some(Ordering::Equal),
                Operator::Less => ordering == Some(Ordering::Less),
                Operator::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
                Operator::Greater => ordering == Some(Ordering::Greater),
                Operator::GreaterOrEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
                Operator::Contains => match &value {
                    Value::String(whole) => whole.match_indices(written.as_str()).count() > 0,
                    Value::Array(list) => list.iter().filter(|element| equal(element, literal)).count() > 0,
                    _ => false,
                },
                Operator::Prefix => {
                    value.as_str().is_some_and(|text| text.get(..written.len()) == Some(written.as_str()))
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_printed_query_is_read_as_the_same(query in query()) {
        let text = query.to_string();
        prop_assert_eq!(Query::parse(&text), Ok(query.clone()), "{}", text);
        let json = query.to_json();
        prop_assert_eq!(Query::of_json(&json), Ok(query), "{}", json);
        prop_assert_eq!(Query::of_json(&json).map(|query| query.to_string()), Ok(text));
    }

    #[test]
    fn json_that_is_printed_is_read_as_the_same(query in query()) {
        // serde_json reads a double to the last bit only where it is built to, so these are left to the test above.
        let json = without_doubles(query.to_json());
        prop_assert_eq!(Query::parse_json(&json.to_string()), Query::of_json(&json), "{}", json);
    }

    #[test]
    fn any_text_is_a_query_or_an_error(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn what_is_nearly_a_query_is_one_or_an_error(text in nearly()) {
        survives(&text);
        survives(&format!("entity:a where:({text}"));
        survives(&format!("where:({text}) limit:1"));
        survives(&format!("order:{text}"));
    }

    #[test]
    fn any_json_is_a_query_or_an_error(value in twin_value(), query in query(), key in "[a-z]{1,6}") {
        let _ = Query::of_json(&value);
        let mut json = query.to_json();
        json[key] = value.clone();
        let _ = Query::of_json(&json);
        let _ = Query::of_json(&json!({"where": {"and": [{"field": "a", "op": "in", "value": value}]}}));
    }

    #[test]
    fn the_order_of_states_is_total(states in prop::collection::vec(state(), 3), descending: bool) {
        let query = Query { order: vec![OrderTerm { field: "a".to_owned(), descending }], ..Query::default() };
        let [a, b, c] = states.as_slice() else { panic!("there are three") };
        prop_assert_eq!(query.compare(a, b), query.compare(b, a).reverse());
        prop_assert_eq!(query.compare(a, a), Ordering::Equal);
        if query.compare(a, b).is_le() && query.compare(b, c).is_le() {
            prop_assert!(query.compare(a, c).is_le());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_evaluator_agrees_with_its_twin(
        condition in condition(
            ("[ab](\\.[ab]){0,2}", test(twin_literal().boxed())).prop_map(|(field, test)| Condition::Field { field, test })
        ),
        state in state(),
    ) {
        prop_assert_eq!(condition.matches(&state), twin_matches(&condition, &state), "{}", condition);
    }
}
