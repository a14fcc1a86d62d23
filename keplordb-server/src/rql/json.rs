//! A query as JSON, which says what its text says; errors carry a path into it.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

use super::error::{Result, RqlError};
use super::{
    Clause, Condition, Literal, MAX_QUERY_BYTES, MAX_QUERY_DEPTH, Operator, OrderTerm, Query, Test, text,
    time,
};
use crate::name::shown;

const OPERATORS: &str = "one of \"=\", \"!=\", \"<\", \"<=\", \">\", \">=\", \"~\", \"^=\", \"in\", \"!in\", \"is null\" and \"is not null\"";
const CONDITION: &str = "{\"field\", \"op\", \"value\"}, {\"and\": […]} or {\"or\": […]}";
const LITERAL: &str = "text, a number, true or false; whether something is null says the op \"is null\"";

impl Query {
    /// Reads a query's JSON; a key that stands twice is an error.
    ///
    /// # Errors
    /// Where the text is no JSON, with the offset; where the JSON is no query, with the path to what is wrong.
    pub fn parse_json(text: &str) -> Result<Self> {
        if text.len() > MAX_QUERY_BYTES {
            let found = format!("a text of {} bytes", text.len());
            return Err(RqlError::byte(
                text::floor(text, MAX_QUERY_BYTES),
                found,
                format!("at most {MAX_QUERY_BYTES} bytes"),
            ));
        }
        let value: KeysOnce = serde_json::from_str(text).map_err(|error| {
            // The line and the column, both from 1, are where the last byte that was read stands.
            let lines: usize =
                text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            let offset = text::floor(text, lines + error.column().saturating_sub(1));
            let whole = error.to_string();
            let what = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(what, _)| what);
            RqlError::byte(offset, format!("broken JSON ({what})"), "an object with each key once")
        })?;
        Self::of_json(&value.0)
    }

    /// The query that JSON says.
    ///
    /// # Errors
    /// The path to what is wrong, what stands there and what may stand there.
    ///
    /// ```
    /// use keplordb_server::rql::Query;
    /// use serde_json::json;
    ///
    /// let query = Query::of_json(&json!({"entity": "users", "where": {"field": "age", "op": ">=", "value": 18}}))?;
    /// assert_eq!(query.to_string(), "entity:users where:(age>=18)");
    ///
    /// let error = Query::of_json(&json!({"entity": "users", "limit": -1})).unwrap_err();
    /// assert_eq!(error.to_string(), "at $.limit: found -1, expected a whole number from 0");
    /// # Ok::<(), keplordb_server::rql::RqlError>(())
    /// ```
    pub fn of_json(value: &Value) -> Result<Self> {
        let mut query = Self::default();
        for (key, value) in object(value, "$", "an object")? {
            let path = child("$", key);
            let path = path.as_str();
            let Some(clause) = Clause::ALL.into_iter().find(|clause| clause.as_str() == key) else {
                return Err(RqlError::path(path, format!("the key {}", shown(key)), Clause::NAMES));
            };
            match clause {
                Clause::Entity => {
                    query.entity = Some(filled(value, path, "the name of an entity type")?);
                }
                Clause::Limit => query.limit = Some(whole(value, path)?),
                Clause::Order => {
                    query.order = each(value, path, "a list of {\"field\", \"dir\"}", order_term)?;
                }
                Clause::Include => query.include = include(value, path)?,
                Clause::Where => query.condition = Some(condition(value, path, 0)?),
                Clause::AsOf => query.as_of_ms = Some(instant(value, path)?),
                Clause::KnownAt => query.known_at_ms = Some(instant(value, path)?),
                Clause::Sequence => query.sequence = Some(whole(value, path)?),
                Clause::Cursor => query.cursor = Some(filled(value, path, "the cursor of an answer")?),
                Clause::Fields => query.fields = fields(value, path)?,
            }
        }
        Ok(query)
    }

    /// The JSON, which [`of_json`](Query::of_json) reads as the same query.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut set = |clause: Clause, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(clause.as_str().to_owned(), value);
            }
        };
        set(Clause::Entity, self.entity.clone().map(Value::from));
        set(Clause::Limit, self.limit.map(Value::from));
        set(Clause::Order, (!self.order.is_empty()).then(|| self.order.iter().map(order_json).collect()));
        let relations = self.include.iter().map(|relation| (relation.clone(), Value::Bool(true)));
        set(Clause::Include, (!self.include.is_empty()).then(|| Value::Object(relations.collect())));
        set(Clause::Where, self.condition.as_ref().map(Condition::to_json));
        set(Clause::AsOf, self.as_of_ms.map(|time_ms| time::print(time_ms).into()));
        set(Clause::KnownAt, self.known_at_ms.map(|time_ms| time::print(time_ms).into()));
        set(Clause::Sequence, self.sequence.map(Value::from));
        set(Clause::Cursor, self.cursor.clone().map(Value::from));
        set(Clause::Fields, (!self.fields.is_empty()).then(|| self.fields.clone().into()));
        Value::Object(object)
    }
}

impl Condition {
    /// As it stands under `where`.
    pub fn to_json(&self) -> Value {
        let list = |conditions: &[Self]| conditions.iter().map(Self::to_json).collect::<Vec<_>>();
        match self {
            Self::And(conditions) => json!({"and": list(conditions)}),
            Self::Or(conditions) => json!({"or": list(conditions)}),
            Self::Field { field, test: Test::Is(operator, value) } => {
                json!({"field": field, "op": operator.as_str(), "value": value.to_json()})
            }
            Self::Field { field, test: Test::OneOf { values, negated } } => {
                let values: Vec<Value> = values.iter().map(Literal::to_json).collect();
                json!({"field": field, "op": if *negated { "!in" } else { "in" }, "value": values})
            }
            Self::Field { field, test: Test::Null { negated } } => {
                json!({"field": field, "op": if *negated { "is not null" } else { "is null" }})
            }
        }
    }
}

impl Literal {
    fn to_json(&self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone()),
        }
    }
}

fn order_json(term: &OrderTerm) -> Value {
    json!({"field": term.field, "dir": if term.descending { "desc" } else { "asc" }})
}

fn child(path: &str, key: &str) -> String {
    let is_name = |next: char| next.is_ascii_alphanumeric() || next == '_';
    if !key.is_empty() && key.chars().all(is_name) {
        format!("{path}.{key}")
    } else {
        format!("{path}[{}]", shown(key))
    }
}

/// A value as messages show it.
fn show(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => shown(text),
        other => other.to_string(),
    }
}

fn object<'a>(value: &'a Value, path: &str, expected: &str) -> Result<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| RqlError::path(path, show(value), expected))
}

fn each<T>(
    value: &Value,
    path: &str,
    expected: &str,
    read: impl Fn(&Value, &str) -> Result<T>,
) -> Result<Vec<T>> {
    let values = value.as_array().ok_or_else(|| RqlError::path(path, show(value), expected))?;
    values.iter().enumerate().map(|(index, value)| read(value, &format!("{path}[{index}]"))).collect()
}

fn filled(value: &Value, path: &str, expected: &str) -> Result<String> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        other => Err(RqlError::path(path, show(other), expected)),
    }
}

fn whole(value: &Value, path: &str) -> Result<u64> {
    value.as_u64().ok_or_else(|| RqlError::path(path, show(value), "a whole number from 0"))
}

fn instant(value: &Value, path: &str) -> Result<i64> {
    let time = value.as_str().and_then(time::milliseconds);
    time.ok_or_else(|| RqlError::path(path, show(value), time::TIME))
}

fn order_term(value: &Value, path: &str) -> Result<OrderTerm> {
    const EXPECTED: &str = "{\"field\", \"dir\"}";
    let object = object(value, path, EXPECTED)?;
    only(object, &["field", "dir"], path, EXPECTED)?;
    let field = object.get("field").ok_or_else(|| RqlError::path(path, "no field", EXPECTED))?;
    let descending = match object.get("dir") {
        None => false,
        Some(Value::String(dir)) if dir.eq_ignore_ascii_case("asc") => false,
        Some(Value::String(dir)) if dir.eq_ignore_ascii_case("desc") => true,
        Some(other) => {
            return Err(RqlError::path(&child(path, "dir"), show(other), "\"asc\" or \"desc\""));
        }
    };
    Ok(OrderTerm { field: filled(field, &child(path, "field"), "a field to order by")?, descending })
}

/// Relations that are `false` are those that are not named.
fn include(value: &Value, path: &str) -> Result<BTreeSet<String>> {
    let mut relations = BTreeSet::new();
    for (relation, is_included) in object(value, path, "an object of relations")? {
        let path = child(path, relation);
        if relation.is_empty() {
            return Err(RqlError::path(&path, "an empty key", "the name of a relation"));
        }
        match is_included {
            Value::Bool(true) => drop(relations.insert(relation.clone())),
            Value::Bool(false) => {}
            other => return Err(RqlError::path(&path, show(other), "true or false")),
        }
    }
    Ok(relations)
}

fn fields(value: &Value, path: &str) -> Result<Vec<String>> {
    const EXPECTED: &str = "a list of fields, at least one";
    let fields = each(value, path, EXPECTED, |field, path| filled(field, path, "a field"))?;
    if fields.is_empty() {
        return Err(RqlError::path(path, "an empty list", EXPECTED));
    }
    let mut seen = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        if !seen.insert(field) {
            let found = format!("{} twice", shown(field));
            return Err(RqlError::path(&format!("{path}[{index}]"), found, "each field once"));
        }
    }
    Ok(fields)
}

fn only(object: &Map<String, Value>, keys: &[&str], path: &str, expected: &str) -> Result<()> {
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(RqlError::path(&child(path, key), format!("the key {}", shown(key)), expected)),
        None => Ok(()),
    }
}

fn condition(value: &Value, path: &str, depth: usize) -> Result<Condition> {
    let object = object(value, path, CONDITION)?;
    for key in ["and", "or"] {
        let Some(value) = object.get(key) else { continue };
        if depth == MAX_QUERY_DEPTH {
            let found = format!("one more {key}");
            return Err(RqlError::path(path, found, format!("at most {MAX_QUERY_DEPTH} within each other")));
        }
        only(object, &[key], path, CONDITION)?;
        let path = child(path, key);
        let conditions = each(value, &path, "a list of conditions, at least one", |value, path| {
            condition(value, path, depth + 1)
        })?;
        let joined = if key == "and" { Condition::all(conditions) } else { Condition::any(conditions) };
        return joined
            .ok_or_else(|| RqlError::path(&path, "an empty list", "a list of conditions, at least one"));
    }
    only(object, &["field", "op", "value"], path, CONDITION)?;
    let Some(field) = object.get("field") else {
        return Err(RqlError::path(path, "an object without a field", CONDITION));
    };
    let field = filled(field, &child(path, "field"), "a field")?;
    Ok(Condition::Field { field, test: test(object, path)? })
}

fn test(object: &Map<String, Value>, path: &str) -> Result<Test> {
    let op_path = child(path, "op");
    let op = match object.get("op") {
        None => "=",
        Some(Value::String(op)) => op,
        Some(other) => return Err(RqlError::path(&op_path, show(other), OPERATORS)),
    };
    let value = object.get("value");
    let value_path = child(path, "value");
    let missing = |expected: &str| RqlError::path(path, "no value", expected);
    let is = |word: &str| op.eq_ignore_ascii_case(word);
    if let Some(operator) = Operator::ALL.into_iter().find(|operator| operator.as_str() == op) {
        return Ok(Test::Is(operator, literal(value.ok_or_else(|| missing(LITERAL))?, &value_path)?));
    }
    if is("in") || is("!in") {
        const EXPECTED: &str = "a list of values, at least one";
        let values = each(value.ok_or_else(|| missing(EXPECTED))?, &value_path, EXPECTED, literal)?;
        if values.is_empty() {
            return Err(RqlError::path(&value_path, "an empty list", EXPECTED));
        }
        return Ok(Test::OneOf { values, negated: is("!in") });
    }
    if is("is null") || is("is not null") {
        return match value {
            None | Some(Value::Null) => Ok(Test::Null { negated: is("is not null") }),
            Some(other) => Err(RqlError::path(&value_path, show(other), "no value")),
        };
    }
    Err(RqlError::path(&op_path, shown(op), OPERATORS))
}

fn literal(value: &Value, path: &str) -> Result<Literal> {
    match value {
        Value::Bool(value) => Ok(Literal::Bool(*value)),
        Value::Number(number) => Ok(Literal::Number(number.clone())),
        Value::String(text) => Ok(Literal::Text(text.clone())),
        other => Err(RqlError::path(path, show(other), LITERAL)),
    }
}

/// JSON whose objects have no key twice, of which [`Value`] would keep the last.
struct KeysOnce(Value);

impl<'de> Deserialize<'de> for KeysOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(KeysOnceVisitor).map(Self)
    }
}

struct KeysOnceVisitor;

impl<'de> Visitor<'de> for KeysOnceVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(KeysOnce(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {} stands twice", shown(&key))));
            }
            let KeysOnce(value) = map.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorthands_of_json_mean_their_long_forms() {
        let cases = [
            (json!({"where": {"field": "name", "value": "Alice"}}), "where:(name=Alice)"),
            (json!({"where": {"and": [{"field": "a", "value": 1}]}}), "where:(a=1)"),
            (
                json!({"where": {"or": [{"and": [{"or": [{"field": "a", "value": true}]}]}]}}),
                "where:(a=true)",
            ),
            (json!({"order": [{"field": "name"}, {"field": "age", "dir": "DESC"}]}), "order:name,age desc"),
            (json!({"order": []}), ""),
            (json!({"include": {"a": true, "b": false}}), "include:a"),
            (json!({"include": {"b": false}}), ""),
            (json!({"where": {"field": "a", "op": "IS NULL", "value": null}}), "where:(a is null)"),
            (json!({"where": {"field": "a", "op": "!IN", "value": ["x", 1.0]}}), "where:(a !in (x,1.0))"),
            (json!({"as_of": "2024-01-31", "seq": 3}), "as_of:\"2024-01-31T00:00:00Z\" seq:3"),
        ];
        for (json, text) in cases {
            assert_eq!(Query::of_json(&json).map(|query| query.to_string()).as_deref(), Ok(text), "{json}");
            assert_eq!(Query::parse_json(&json.to_string()), Query::of_json(&json), "{json}");
        }
    }

    #[test]
    fn errors_say_the_path_or_the_offset() {
        let cases = [
            (
                "",
                "at byte 0: found broken JSON (EOF while parsing a value), expected an object with each key once",
            ),
            ("{\n\"entity\": }", "at byte 12: found broken JSON (expected value), expected an object"),
            (
                "{\"limit\":1,\"limit\":2}",
                "at byte 17: found broken JSON (the key \"limit\" stands twice), expected",
            ),
            ("[]", "at $: found a list, expected an object"),
            ("{\"sort\":1}", "at $.sort: found the key \"sort\", expected one of entity, "),
            ("{\"Entity\":\"a\"}", "at $.Entity: found the key \"Entity\", expected one of entity, "),
            ("{\"a b\":1}", "at $[\"a b\"]: found the key \"a b\", expected one of entity, "),
            ("{\"entity\":\"\"}", "at $.entity: found \"\", expected the name of an entity type"),
            ("{\"entity\":null}", "at $.entity: found null, expected the name of an entity type"),
            ("{\"limit\":-1}", "at $.limit: found -1, expected a whole number from 0"),
            ("{\"limit\":1.5}", "at $.limit: found 1.5, expected a whole number from 0"),
            ("{\"order\":{}}", "at $.order: found an object, expected a list of {\"field\", \"dir\"}"),
            (
                "{\"order\":[{\"field\":\"a\"},{\"dir\":\"asc\"}]}",
                "at $.order[1]: found no field, expected {\"field\", \"dir\"}",
            ),
            (
                "{\"order\":[{\"field\":\"a\",\"dir\":\"up\"}]}",
                "at $.order[0].dir: found \"up\", expected \"asc\" or \"desc\"",
            ),
            (
                "{\"order\":[{\"field\":\"a\",\"by\":1}]}",
                "at $.order[0].by: found the key \"by\", expected {\"field\", \"dir\"}",
            ),
            ("{\"include\":[\"a\"]}", "at $.include: found a list, expected an object of relations"),
            ("{\"include\":{\"a\":1}}", "at $.include.a: found 1, expected true or false"),
            (
                "{\"include\":{\"\":true}}",
                "at $.include[\"\"]: found an empty key, expected the name of a relation",
            ),
            ("{\"as_of\":17}", "at $.as_of: found 17, expected a time like"),
            ("{\"fields\":[]}", "at $.fields: found an empty list, expected a list of fields, at least one"),
            ("{\"fields\":[\"a\",\"a\"]}", "at $.fields[1]: found \"a\" twice, expected each field once"),
            (
                "{\"where\":{}}",
                "at $.where: found an object without a field, expected {\"field\", \"op\", \"value\"}, ",
            ),
            (
                "{\"where\":{\"and\":[]}}",
                "at $.where.and: found an empty list, expected a list of conditions, at least one",
            ),
            (
                "{\"where\":{\"and\":[],\"or\":[]}}",
                "at $.where.or: found the key \"or\", expected {\"field\", ",
            ),
            (
                "{\"where\":{\"and\":[{\"field\":\"a\",\"value\":1},{\"field\":\"b\",\"op\":\"like\",\"value\":1}]}}",
                "at $.where.and[1].op: found \"like\", expected one of \"=\", ",
            ),
            (
                "{\"where\":{\"field\":\"a\"}}",
                "at $.where: found no value, expected text, a number, true or false",
            ),
            (
                "{\"where\":{\"field\":\"a\",\"value\":null}}",
                "at $.where.value: found null, expected text, a number, ",
            ),
            (
                "{\"where\":{\"field\":\"a\",\"value\":[1]}}",
                "at $.where.value: found a list, expected text, a number, ",
            ),
            (
                "{\"where\":{\"field\":\"a\",\"op\":\"in\",\"value\":1}}",
                "at $.where.value: found 1, expected a list of values",
            ),
            (
                "{\"where\":{\"field\":\"a\",\"op\":\"in\",\"value\":[]}}",
                "at $.where.value: found an empty list, expected a list",
            ),
            (
                "{\"where\":{\"field\":\"a\",\"op\":\"in\",\"value\":[1,{}]}}",
                "at $.where.value[1]: found an object, expected text",
            ),
            (
                "{\"where\":{\"field\":\"a\",\"op\":\"is null\",\"value\":1}}",
                "at $.where.value: found 1, expected no value",
            ),
            (
                "{\"where\":{\"field\":\"a\",\"op\":1,\"value\":1}}",
                "at $.where.op: found 1, expected one of \"=\", ",
            ),
            (
                "{\"where\":{\"field\":\"a\",\"value\":1,\"x\":2}}",
                "at $.where.x: found the key \"x\", expected {\"field\", ",
            ),
        ];
        for (text, message) in cases {
            let error = Query::parse_json(text).expect_err(text).to_string();
            assert!(error.starts_with(message), "{text}\n  is    {error}\n  wanted {message}");
        }
    }

    #[test]
    fn length_and_depth_are_bounded() {
        let nested = |depth: usize| {
            (0..depth).fold(json!({"field": "a", "value": 1}), |inner, level| {
                let key = if level % 2 == 0 { "and" } else { "or" };
                json!({key: [inner, {"field": "b", "value": 2}]})
            })
        };
        let query = Query::of_json(&json!({"where": nested(MAX_QUERY_DEPTH)})).unwrap();
        assert_eq!(Query::parse(&query.to_string()).as_ref(), Ok(&query));
        assert_eq!(Query::parse_json(&query.to_json().to_string()).as_ref(), Ok(&query));
        let error = Query::of_json(&json!({"where": nested(MAX_QUERY_DEPTH + 1)})).unwrap_err();
        assert!(
            error.to_string().ends_with("found one more and, expected at most 32 within each other"),
            "{error}"
        );
        assert!(Query::parse_json(&"[".repeat(10_000)).is_err());
        let error = Query::parse_json(&" ".repeat(MAX_QUERY_BYTES + 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "at byte 65536: found a text of 65537 bytes, expected at most 65536 bytes"
        );
    }
}
