//! What a query does with states of entities: which of them match, in which order they come, what of them is given.
//!
//! This is the meaning of the language; whatever compiles it to something quicker must agree with this.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::{Condition, Literal, Operator, Query, Test, time};

impl Query {
    /// Whether a state meets the query's condition; every state does where there is none.
    pub fn matches(&self, state: &Map<String, Value>) -> bool {
        self.condition.as_ref().is_none_or(|condition| condition.matches(state))
    }

    /// Which of two states comes first: by the first term of the order in which they differ.
    ///
    /// What is missing or null comes last, whichever the direction. Among the others kinds come in this order: `false` before
    /// `true`, numbers, times, other texts, lists, objects. Texts that are integers as protobuf's JSON writes them are numbers, and
    /// texts that are RFC 3339 times or dates are times. Two lists, or two objects, are equal.
    pub fn compare(&self, left: &Map<String, Value>, right: &Map<String, Value>) -> Ordering {
        let compared =
            self.order.iter().map(|term| match (lookup(left, &term.field), lookup(right, &term.field)) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(left), Some(right)) => {
                    let ordering = Rank::of(left).cmp(&Rank::of(right));
                    if term.descending { ordering.reverse() } else { ordering }
                }
            });
        compared.into_iter().find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// The query's fields of a state, or all of it where the query names none.
    ///
    /// A dotted field comes within its object; what the state does not have, or has as null, is left out.
    ///
    /// ```
    /// use keplordb_server::rql::Query;
    /// use serde_json::json;
    ///
    /// let query = Query::parse("entity:users fields:name,address.city")?;
    /// let state = json!({"name": "Ada", "age": 36, "address": {"city": "London", "street": "St James's Square"}});
    /// let picked = query.pick(state.as_object().expect("an object"));
    /// assert_eq!(serde_json::Value::Object(picked), json!({"name": "Ada", "address": {"city": "London"}}));
    /// # Ok::<(), keplordb_server::rql::RqlError>(())
    /// ```
    pub fn pick(&self, state: &Map<String, Value>) -> Map<String, Value> {
        if self.fields.is_empty() {
            return state.clone();
        }
        let mut picked = Map::new();
        for field in &self.fields {
            let mut path = Vec::new();
            let Some(value) = walk(state, field, |head| path.push(head)) else { continue };
            let Some((last, heads)) = path.split_last() else { continue };
            let mut target = Some(&mut picked);
            for head in heads {
                target = target.and_then(|object| {
                    object.entry(*head).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
                });
            }
            if let Some(object) = target {
                object.insert((*last).to_owned(), value.clone());
            }
        }
        picked
    }
}

impl Literal {
    /// Without the quotes that a text would have.
    #[cfg(feature = "sql")]
    pub(crate) fn as_written(&self) -> String {
        as_written(self)
    }
}

/// The value of a field of a state; `None` where it is missing or null.
#[cfg(feature = "sql")]
pub(crate) fn field_of<'a>(state: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    lookup(state, field)
}

impl Condition {
    /// Whether a state meets this condition.
    ///
    /// - A field is a key of the state; where there is none, `a.b` is `b` in the object `a`. What is missing is null, and no test of
    ///   null is met but `is null`: not `!=` either, nor `!in`.
    /// - Numbers compare by their exact values, integers with doubles too. A text that is an integer of at most 64 bits, written
    ///   without leading zeros, as protobuf's JSON writes 64-bit integers, compares with a number as that integer.
    /// - Two texts that are both RFC 3339 times or dates compare as times, where a date is its midnight in UTC; other texts
    ///   compare by their characters' code points. `false` is less than `true`.
    /// - What compares with nothing, such as `18` with `"old"`, or a list with anything, is not equal: it meets `!=` and `!in`.
    /// - `~` is met by a text that contains the value as it is written, and by a list that has an element equal to it; `^=` by a
    ///   text that begins with it. Both count upper and lower case.
    ///
    /// ```
    /// use keplordb_server::rql::Query;
    /// use serde_json::json;
    ///
    /// let query = Query::parse(r#"where:(visits>9 seen>="2024-01-31" plan in (team,pro) tags~new)"#)?;
    /// let state = json!({"visits": "10", "seen": "2024-01-31T01:00:00+01:00", "plan": "pro", "tags": ["new"]});
    /// assert!(query.matches(state.as_object().expect("an object")));
    /// # Ok::<(), keplordb_server::rql::RqlError>(())
    /// ```
    pub fn matches(&self, state: &Map<String, Value>) -> bool {
        match self {
            Self::And(conditions) => conditions.iter().all(|condition| condition.matches(state)),
            Self::Or(conditions) => conditions.iter().any(|condition| condition.matches(state)),
            Self::Field { field, test } => test.matches(lookup(state, field)),
        }
    }
}

impl Test {
    /// `None` is null.
    fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Null { negated }, value) => value.is_some() == *negated,
            (_, None) => false,
            (Self::OneOf { values, negated }, Some(value)) => {
                values.iter().any(|literal| is_equal(value, literal)) != *negated
            }
            (Self::Is(operator, literal), Some(value)) => match operator {
                Operator::Equal => is_equal(value, literal),
                Operator::NotEqual => !is_equal(value, literal),
                Operator::Less => compare(value, literal).is_some_and(Ordering::is_lt),
                Operator::LessOrEqual => compare(value, literal).is_some_and(Ordering::is_le),
                Operator::Greater => compare(value, literal).is_some_and(Ordering::is_gt),
                Operator::GreaterOrEqual => compare(value, literal).is_some_and(Ordering::is_ge),
                Operator::Contains => match value {
                    Value::String(text) => text.contains(&as_written(literal)),
                    Value::Array(elements) => elements.iter().any(|element| is_equal(element, literal)),
                    _ => false,
                },
                Operator::Prefix => value.as_str().is_some_and(|text| text.starts_with(&as_written(literal))),
            },
        }
    }
}

/// The value of a field; `None` where it is missing or null.
fn lookup<'a>(state: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    walk(state, field, |_| ())
}

/// The value of a field, and on the way there the keys that lead to it.
fn walk<'a, 'f>(
    state: &'a Map<String, Value>,
    field: &'f str,
    mut through: impl FnMut(&'f str),
) -> Option<&'a Value> {
    let mut object = state;
    let mut rest = field;
    loop {
        if let Some(value) = object.get(rest) {
            through(rest);
            return Some(value).filter(|value| !value.is_null());
        }
        let (head, tail) = rest.split_once('.')?;
        object = object.get(head)?.as_object()?;
        through(head);
        rest = tail;
    }
}

fn is_equal(value: &Value, literal: &Literal) -> bool {
    compare(value, literal).is_some_and(Ordering::is_eq)
}

/// `None` where the two cannot be compared.
fn compare(value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Bool(value), Literal::Bool(literal)) => Some(value.cmp(literal)),
        (Value::Number(value), Literal::Number(literal)) => Some(Exact::of(value).cmp(&Exact::of(literal))),
        (Value::String(value), Literal::Number(literal)) => Some(integer(value)?.cmp(&Exact::of(literal))),
        (Value::String(value), Literal::Text(literal)) => {
            match (time::nanoseconds(value), time::nanoseconds(literal)) {
                (Some(value), Some(literal)) => Some(value.cmp(&literal)),
                _ => Some(value.cmp(literal)),
            }
        }
        _ => None,
    }
}

/// Without the quotes that a text would have.
fn as_written(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A text that is an integer of at most 64 bits as protobuf's JSON writes it; `01` and `-0` are none.
fn integer(text: &str) -> Option<Exact> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_written_so = (1..=20).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (!digits.starts_with('0') || text == "0");
    let value: i128 = text.parse().ok().filter(|_| is_written_so)?;
    (i64::MIN.into()..=u64::MAX.into()).contains(&value).then_some(Exact::Integer(value))
}

/// A number of JSON: never NaN, never infinite.
#[derive(Debug, Clone, Copy)]
enum Exact {
    Integer(i128),
    Double(f64),
}

impl Exact {
    fn of(number: &Number) -> Self {
        let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        integer.map_or_else(|| Self::Double(number.as_f64().unwrap_or_default()), Self::Integer)
    }

    /// By the exact values: neither is rounded to the other's kind.
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Self::Integer(left), Self::Integer(right)) => left.cmp(&right),
            (Self::Double(left), Self::Double(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
            (Self::Integer(left), Self::Double(right)) => integer_to_double(left, right),
            (Self::Double(left), Self::Integer(right)) => integer_to_double(right, left).reverse(),
        }
    }
}

/// `integer` has at most 65 bits.
fn integer_to_double(integer: i128, double: f64) -> Ordering {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a double beyond 128 bits becomes the nearest integer, which is beyond every 65 bits too"
    )]
    let whole = double.trunc() as i128;
    // Where the whole numbers are equal, what is behind the point decides.
    integer.cmp(&whole).then_with(|| 0.0.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal))
}

/// A value where it is ordered among values of all kinds.
enum Rank<'a> {
    Bool(bool),
    Number(Exact),
    Time(i128),
    Text(&'a str),
    List,
    Object,
}

impl<'a> Rank<'a> {
    /// Null is not ordered among the others; it does not come here.
    fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Bool(false),
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(Exact::of(number)),
            Value::String(text) => match (integer(text), time::nanoseconds(text)) {
                (Some(integer), _) => Self::Number(integer),
                (None, Some(time)) => Self::Time(time),
                (None, None) => Self::Text(text),
            },
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Object,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Number(_) => 1,
            Self::Time(_) => 2,
            Self::Text(_) => 3,
            Self::List => 4,
            Self::Object => 5,
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (Self::Number(left), Self::Number(right)) => left.cmp(right),
            (Self::Time(left), Self::Time(right)) => left.cmp(right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            _ => self.kind().cmp(&other.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn conditions_mean_what_the_documentation_says() {
        let state = object(json!({
            "plan": "team", "age": 36, "ratio": 0.5, "big": "9007199254740993", "zip": "01234", "live": true, "note": null,
            "seen": "2024-01-31T01:00:00+01:00", "tags": ["new", 7], "address": {"city": "London", "geo": {"lat": 51.5}},
            "a.b": 1, "a": {"b": 2}, "huge": u64::MAX, "top": 18_446_744_073_709_551_616.0_f64,
        }));
        let cases = [
            ("plan=team", true),
            ("plan=Team", false),
            ("plan team", true),
            ("plan!=free", true),
            ("age>=36", true),
            ("age>36", false),
            ("age=36.0", true),
            ("age<36.5", true),
            ("age=\"36\"", false),
            ("age!=old", true),
            ("age<old", false),
            ("ratio>0", true),
            ("ratio<=0.5", true),
            ("big=9007199254740993", true),
            ("big=9007199254740992", false),
            ("big>9007199254740992.0", true),
            ("big=\"9007199254740993\"", true),
            ("zip=1234", false),
            ("zip=\"01234\"", true),
            ("huge<18446744073709551616", true),
            ("top>18446744073709551615", true),
            ("live=true", true),
            ("live>false", true),
            ("live=\"true\"", false),
            ("note=x", false),
            ("note!=x", false),
            ("missing!=x", false),
            ("missing !in (x)", false),
            ("missing is null", true),
            ("note is null", true),
            ("note is not null", false),
            ("plan is not null", true),
            ("seen=\"2024-01-31\"", true),
            ("seen>=\"2024-01-31T00:00:00Z\"", true),
            ("seen<\"2024-01-31T00:00:00.000000001Z\"", true),
            ("plan in (free,team)", true),
            ("plan !in (free, team)", false),
            ("age in (35,36)", true),
            ("plan~ea", true),
            ("plan^=te", true),
            ("plan^=ea", false),
            ("big~7199", true),
            ("tags~new", true),
            ("tags~7", true),
            ("tags~ne", false),
            ("tags=new", false),
            ("tags!=new", true),
            ("address.city=London", true),
            ("address.geo.lat>51", true),
            ("address.geo.lat.x is null", true),
            ("address.street is null", true),
            ("a.b=1", true),
            ("(plan=free OR age>30) live=true", true),
            ("plan=free OR age>30 live=false", false),
        ];
        for (condition, wanted) in cases {
            let query = Query::parse(&format!("where:({condition})")).unwrap();
            assert_eq!(query.matches(&state), wanted, "{condition}");
        }
        assert!(Query::default().matches(&state));
    }

    #[test]
    fn states_come_in_the_order_of_their_kinds_with_null_last() {
        let values = [
            json!(false),
            json!(true),
            json!(-1),
            json!("9"),
            json!(9.5),
            json!("10"),
            json!("2024-01-31T00:30:00+01:00"),
            json!("2024-01-31"),
            json!("01"),
            json!("team"),
            json!([]),
            json!({}),
        ];
        let state = |value: &Value| object(json!({"a": {"b": value}}));
        for (text, sign) in [("order:a.b", false), ("order:a.b desc", true)] {
            let query = Query::parse(text).unwrap();
            for (index, left) in values.iter().enumerate() {
                for (other, right) in values.iter().enumerate() {
                    let wanted = if sign { other.cmp(&index) } else { index.cmp(&other) };
                    assert_eq!(
                        query.compare(&state(left), &state(right)),
                        wanted,
                        "{text}: {left} and {right}"
                    );
                }
                assert_eq!(query.compare(&state(left), &state(&Value::Null)), Ordering::Less);
                assert_eq!(query.compare(&Map::new(), &state(left)), Ordering::Greater);
            }
            assert_eq!(query.compare(&Map::new(), &state(&Value::Null)), Ordering::Equal);
        }
        let query = Query::parse("order:a,b desc").unwrap();
        let (left, right) = (object(json!({"a": 1, "b": 1})), object(json!({"a": 1.0, "b": 2})));
        assert_eq!(query.compare(&left, &right), Ordering::Greater);
    }

    #[test]
    fn fields_come_within_their_objects() {
        let state = object(json!({"n": 1, "a": {"b": {"c": 1, "d": 2}, "e": null}, "x.y": 3, "x": {"z": 4}}));
        let cases = [
            ("", Value::Object(state.clone())),
            ("fields:n", json!({"n": 1})),
            ("fields:a.b.c,n", json!({"n": 1, "a": {"b": {"c": 1}}})),
            ("fields:a.b.c,a.b.d", json!({"a": {"b": {"c": 1, "d": 2}}})),
            ("fields:a,a.b.c", json!({"a": {"b": {"c": 1, "d": 2}, "e": null}})),
            ("fields:a.b.c,a", json!({"a": {"b": {"c": 1, "d": 2}, "e": null}})),
            ("fields:x.y,x.z", json!({"x.y": 3, "x": {"z": 4}})),
            ("fields:a.e,missing,n.o", json!({})),
        ];
        for (text, wanted) in cases {
            assert_eq!(Value::Object(Query::parse(text).unwrap().pick(&state)), wanted, "{text}");
        }
    }
}
