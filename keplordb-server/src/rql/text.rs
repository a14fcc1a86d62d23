//! Reads a query's text by a descent over its characters; `print.rs` writes it.

use std::collections::BTreeSet;

use serde_json::Number;

use super::error::{Result, RqlError};
use super::{
    Clause, Condition, Literal, MAX_QUERY_BYTES, MAX_QUERY_DEPTH, Operator, OrderTerm, Query, Test, time,
};
use crate::name::shown;

/// What may stand where a clause does.
const CLAUSE: &str =
    "a clause: entity:, limit:, order:, include:, where:(, as_of:, known_at:, seq:, cursor: or fields:";
const WHOLE: &str = "a whole number from 0";
const VALUE: &str = "a value; one that is a keyword, or has spaces or signs in it, stands in quotes";
const FIELD: &str = "a field; one that is a keyword or a number, or has signs in it, stands in quotes";

impl Query {
    /// Reads a query's text; an empty one is a query without an entity type.
    ///
    /// # Errors
    /// Where the text is no query: the offset, what stands there and what may stand there.
    ///
    /// ```
    /// use keplordb_server::rql::{Condition, Query};
    ///
    /// let query = Query::parse("entity:users where:(role=admin OR age>=18 verified=true)")?;
    /// let Some(Condition::Or(sides)) = query.condition else { panic!("OR binds weaker than a space") };
    /// assert!(matches!(sides[1], Condition::And(_)));
    /// # Ok::<(), keplordb_server::rql::RqlError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_QUERY_BYTES {
            let found = format!("a text of {} bytes", text.len());
            return Err(RqlError::byte(
                floor(text, MAX_QUERY_BYTES),
                found,
                format!("at most {MAX_QUERY_BYTES} bytes"),
            ));
        }
        let mut reader = Reader { text, at: 0 };
        let mut query = Self::default();
        let mut seen = Vec::new();
        loop {
            reader.skip_spaces();
            if reader.at_end() {
                return Ok(query);
            }
            let begin = reader.at;
            let name = reader.take_while(|next| !next.is_whitespace() && !":\"()".contains(next));
            if !reader.take(":") {
                reader.at = begin;
                return Err(reader.expected(CLAUSE));
            }
            let Some(clause) = Clause::of(name) else {
                return Err(RqlError::byte(begin, format!("the clause {}", shown(name)), Clause::NAMES));
            };
            if seen.contains(&clause) {
                let found = format!("a second {}", clause.as_str());
                return Err(RqlError::byte(begin, found, "each clause once"));
            }
            seen.push(clause);
            reader.clause(clause, &mut query)?;
        }
    }
}

/// The start of the character that has this byte, or the text's end.
pub(super) fn floor(text: &str, mut offset: usize) -> usize {
    offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Whether it ends an unquoted value in a condition.
pub(super) fn ends_value(next: char) -> bool {
    next.is_whitespace() || "()\"=<>!".contains(next)
}

/// Whether it ends an unquoted field in a condition: more does than ends a value, since `~` and `^=` are operators there.
pub(super) fn ends_field(next: char) -> bool {
    ends_value(next) || next == '~' || next == '^'
}

/// The text, and how far it is read: always to the start of a character.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_next = self.rest().starts_with(sign);
        if is_next {
            self.at += sign.len();
        }
        is_next
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|next| !belongs(next)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// The next word, unless it is none of these; keywords count in upper and lower case alike.
    fn take_keyword(&mut self, keyword: &str) -> bool {
        let begin = self.at;
        let is_next = self.take_while(|next| !ends_field(next)).eq_ignore_ascii_case(keyword);
        if !is_next {
            self.at = begin;
        }
        is_next
    }

    /// An error at what stands next.
    fn expected(&self, expected: impl Into<String>) -> RqlError {
        let rest = self.rest();
        let word = &rest[..rest.find(|next| next == ',' || ends_value(next)).unwrap_or(rest.len())];
        let found = match rest.chars().next() {
            None => "the end".to_owned(),
            Some(next) if next.is_whitespace() => "a space".to_owned(),
            Some(next) if word.is_empty() => shown(&next.to_string()),
            Some(_) => shown(word),
        };
        RqlError::byte(self.at, found, expected)
    }

    fn clause(&mut self, clause: Clause, query: &mut Query) -> Result<()> {
        match clause {
            Clause::Entity => query.entity = Some(self.plain("the name of an entity type")?),
            Clause::Limit => query.limit = Some(self.whole()?),
            Clause::Order => query.order = self.order()?,
            Clause::Include => query.include = self.names("the name of a relation")?.into_iter().collect(),
            Clause::Where => {
                let begin = self.at;
                let condition = self.condition_clause()?;
                // A space and an OR in the same parentheses are two levels, which JSON and the printed text spell out.
                if condition.depth() > MAX_QUERY_DEPTH {
                    let found = format!("{} conditions within each other", condition.depth());
                    return Err(RqlError::byte(begin, found, format!("at most {MAX_QUERY_DEPTH}")));
                }
                query.condition = Some(condition);
            }
            Clause::AsOf => query.as_of_ms = Some(self.instant()?),
            Clause::KnownAt => query.known_at_ms = Some(self.instant()?),
            Clause::Sequence => query.sequence = Some(self.whole()?),
            Clause::Cursor => query.cursor = Some(self.plain("the cursor of an answer")?),
            Clause::Fields => query.fields = self.distinct_names()?,
        }
        Ok(())
    }

    /// A value up to the next space, or in quotes.
    fn plain(&mut self, expected: &str) -> Result<String> {
        let begin = self.at;
        if self.peek() == Some('"') {
            let value = self.quoted()?;
            if value.is_empty() {
                return Err(RqlError::byte(begin, "an empty text", expected));
            }
            self.separated()?;
            return Ok(value);
        }
        let value = self.take_while(|next| !next.is_whitespace());
        if value.is_empty() { Err(self.expected(expected)) } else { Ok(value.to_owned()) }
    }

    /// After quotes a space must stand, or the end.
    fn separated(&self) -> Result<()> {
        match self.peek() {
            Some(next) if !next.is_whitespace() => Err(self.expected("a space")),
            _ => Ok(()),
        }
    }

    fn whole(&mut self) -> Result<u64> {
        let begin = self.at;
        let value = self.take_while(|next| !next.is_whitespace());
        let is_whole = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        if !is_whole {
            self.at = begin;
            let found = if value.is_empty() { self.expected(WHOLE).found } else { shown(value) };
            return Err(RqlError::byte(begin, found, WHOLE));
        }
        value.parse().map_err(|_| RqlError::byte(begin, shown(value), format!("at most {}", u64::MAX)))
    }

    fn instant(&mut self) -> Result<i64> {
        let begin = self.at;
        let value = self.plain(time::TIME)?;
        time::milliseconds(&value).ok_or_else(|| RqlError::byte(begin, shown(&value), time::TIME))
    }

    /// A name of a list: in quotes, or up to a space, a comma or a colon.
    fn name(&mut self, expected: &str) -> Result<String> {
        let begin = self.at;
        if self.peek() == Some('"') {
            let name = self.quoted()?;
            return if name.is_empty() {
                Err(RqlError::byte(begin, "an empty text", expected))
            } else {
                Ok(name)
            };
        }
        let name = self.take_while(|next| !next.is_whitespace() && !",:\"()".contains(next));
        match self.peek() {
            Some(next) if !next.is_whitespace() && next != ',' => Err(self.expected("a comma or a space")),
            _ if name.is_empty() => Err(self.expected(expected)),
            _ => Ok(name.to_owned()),
        }
    }

    fn names(&mut self, expected: &str) -> Result<Vec<String>> {
        let mut names = vec![self.name(expected)?];
        while self.take(",") {
            names.push(self.name(expected)?);
        }
        self.separated()?;
        Ok(names)
    }

    fn distinct_names(&mut self) -> Result<Vec<String>> {
        let begin = self.at;
        let names = self.names("a field")?;
        let mut seen = BTreeSet::new();
        match names.iter().find(|name| !seen.insert(*name)) {
            Some(name) => Err(RqlError::byte(begin, format!("{} twice", shown(name)), "each field once")),
            None => Ok(names),
        }
    }

    /// The only clause with spaces in it: it ends where a word and a colon follow.
    fn order(&mut self) -> Result<Vec<OrderTerm>> {
        let mut terms = Vec::new();
        loop {
            self.skip_spaces();
            let begin = self.at;
            let is_quoted = self.peek() == Some('"');
            let field = self.name("a field to order by")?;
            if !is_quoted && direction(&field).is_some() {
                let expected = "a field before its direction; a field of this name stands in quotes";
                return Err(RqlError::byte(begin, shown(&field), expected));
            }
            let mut end = self.at;
            self.skip_spaces();
            let mut descending = false;
            if self.peek() != Some(',') && !self.at_end() {
                let begin = self.at;
                let word = self.take_while(|next| !next.is_whitespace() && !",:\"()".contains(next));
                if let Some(found) = direction(word).filter(|_| self.peek() != Some(':')) {
                    descending = found;
                    end = self.at;
                    self.skip_spaces();
                } else if self.peek() == Some(':') {
                    self.at = end;
                } else {
                    self.at = begin;
                    return Err(self.expected("asc, desc, a comma or the next clause"));
                }
            }
            terms.push(OrderTerm { field, descending });
            if !self.take(",") {
                self.at = end;
                self.separated()?;
                return Ok(terms);
            }
        }
    }

    fn condition_clause(&mut self) -> Result<Condition> {
        if self.take("(") {
            let condition = self.either(0)?;
            if self.take(")") { Ok(condition) } else { Err(self.expected("AND, OR, a condition or )")) }
        } else {
            // Without parentheses it is one comparison without spaces outside quotes, so that it ends where the clause does.
            let end = self.at + end_of_token(self.rest());
            let mut token = Reader { text: &self.text[..end], at: self.at };
            let condition = token.comparison()?;
            if !token.at_end() {
                return Err(token.expected("a space; more than one condition stands in parentheses"));
            }
            self.at = end;
            Ok(condition)
        }
    }

    fn either(&mut self, depth: usize) -> Result<Condition> {
        let mut sides = vec![self.both(depth)?];
        while self.take_keyword("or") {
            sides.push(self.both(depth)?);
        }
        Condition::any(sides).ok_or_else(|| self.expected("a condition"))
    }

    /// Conditions with `AND` or nothing between them; ends before what can only follow them.
    fn both(&mut self, depth: usize) -> Result<Condition> {
        let mut conditions = vec![self.single(depth)?];
        loop {
            self.skip_spaces();
            let begin = self.at;
            if self.take_keyword("and") {
                conditions.push(self.single(depth)?);
                continue;
            }
            let ends = matches!(self.peek(), None | Some(')')) || self.take_keyword("or");
            self.at = begin;
            if ends {
                return Condition::all(conditions).ok_or_else(|| self.expected("a condition"));
            }
            conditions.push(self.single(depth)?);
        }
    }

    fn single(&mut self, depth: usize) -> Result<Condition> {
        self.skip_spaces();
        let begin = self.at;
        if !self.take("(") {
            return self.comparison();
        }
        if depth == MAX_QUERY_DEPTH {
            let expected = format!("at most {MAX_QUERY_DEPTH} nested ones");
            return Err(RqlError::byte(begin, "one more parenthesis", expected));
        }
        let condition = self.either(depth + 1)?;
        if self.take(")") { Ok(condition) } else { Err(self.expected("AND, OR, a condition or )")) }
    }

    fn comparison(&mut self) -> Result<Condition> {
        let begin = self.at;
        let field = if self.peek() == Some('"') {
            self.quoted()?
        } else {
            let word = self.take_while(|next| !ends_field(next));
            if matches!(bare(word), Bare::Text) {
                word.to_owned()
            } else {
                self.at = begin;
                return Err(self.expected(FIELD));
            }
        };
        if field.is_empty() {
            return Err(RqlError::byte(begin, "an empty text", FIELD));
        }
        self.skip_spaces();
        Ok(Condition::Field { field, test: self.test()? })
    }

    fn test(&mut self) -> Result<Test> {
        if let Some(operator) = Operator::ALL.into_iter().find(|operator| self.take(operator.as_str())) {
            self.skip_spaces();
            return Ok(Test::Is(operator, self.value(ends_value)?));
        }
        let begin = self.at;
        let negated = self.take("!");
        if self.take_keyword("in") {
            self.skip_spaces();
            if self.take("(") {
                return Ok(Test::OneOf { values: self.values()?, negated });
            }
        }
        self.at = begin;
        if self.take_keyword("is") {
            self.skip_spaces();
            let negated = self.take_keyword("not");
            self.skip_spaces();
            if self.take_keyword("null") {
                return Ok(Test::Null { negated });
            }
        }
        self.at = begin;
        match self.peek() {
            None | Some('(' | ')' | '!' | '^') => {
                Err(self.expected("=, !=, <, <=, >, >=, ~, ^=, in (, !in (, is null, is not null or a value"))
            }
            // An operator that is left out is equality.
            Some(_) => Ok(Test::Is(Operator::Equal, self.value(ends_value)?)),
        }
    }

    /// After `in (`, and up to its `)`.
    fn values(&mut self) -> Result<Vec<Literal>> {
        let mut values = Vec::new();
        loop {
            self.skip_spaces();
            values.push(self.value(|next| next == ',' || ends_value(next))?);
            self.skip_spaces();
            if self.take(")") {
                return Ok(values);
            }
            if !self.take(",") {
                return Err(self.expected("a comma or )"));
            }
        }
    }

    fn value(&mut self, ends: impl Fn(char) -> bool) -> Result<Literal> {
        if self.peek() == Some('"') {
            return self.quoted().map(Literal::Text);
        }
        let begin = self.at;
        let word = self.take_while(|next| !ends(next));
        match bare(word) {
            Bare::Nothing | Bare::Keyword => {
                self.at = begin;
                Err(self.expected(VALUE))
            }
            Bare::Bool(value) => Ok(Literal::Bool(value)),
            Bare::Number(Some(number)) => Ok(Literal::Number(number)),
            Bare::Number(None) => {
                Err(RqlError::byte(begin, shown(word), "a number that a double can hold, or quotes"))
            }
            Bare::Text => Ok(Literal::Text(word.to_owned())),
        }
    }

    /// From the opening quote to behind the closing one; a backslash stands before what is to be taken as it is.
    fn quoted(&mut self) -> Result<String> {
        let begin = self.at;
        let mut value = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((offset, next)) = chars.next() {
            match next {
                '"' => {
                    self.at = begin + offset + 1;
                    return Ok(value);
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => value.push(next),
            }
        }
        Err(RqlError::byte(begin, "a quote that is not closed", "a closing \""))
    }
}

/// Where the first space outside quotes stands.
fn end_of_token(text: &str) -> usize {
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (offset, next) in text.char_indices() {
        match next {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if next.is_whitespace() && !is_quoted => return offset,
            _ => {}
        }
    }
    text.len()
}

/// Whether it is `desc`, where it is a direction.
fn direction(word: &str) -> Option<bool> {
    if word.eq_ignore_ascii_case("desc") {
        Some(true)
    } else {
        word.eq_ignore_ascii_case("asc").then_some(false)
    }
}

/// What a word without quotes is.
enum Bare {
    Nothing,
    Keyword,
    Bool(bool),
    /// `None` where it is beyond a double.
    Number(Option<Number>),
    Text,
}

fn bare(word: &str) -> Bare {
    let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
    if word.is_empty() {
        Bare::Nothing
    } else if is("and") || is("or") {
        Bare::Keyword
    } else if is("true") || is("false") {
        Bare::Bool(is("true"))
    } else if looks_like_number(word) {
        Bare::Number(number(word))
    } else {
        Bare::Text
    }
}

/// `-?[0-9]+(\.[0-9]+)?`
fn looks_like_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    match unsigned.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(unsigned),
    }
}

fn number(word: &str) -> Option<Number> {
    let whole = || word.parse::<i64>().map(Number::from).or_else(|_| word.parse::<u64>().map(Number::from));
    whole().ok().or_else(|| Number::from_f64(word.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn comparison(field: &str, op: &str, value: &Value) -> Value {
        json!({"field": field, "op": op, "value": value})
    }

    fn eq(field: &str, value: &Value) -> Value {
        comparison(field, "=", value)
    }

    fn of(condition: &Value) -> Value {
        json!({"entity": "users", "where": condition})
    }

    /// Each text means its JSON, which means the same query; what is printed of it does too.
    fn check(cases: impl IntoIterator<Item = (&'static str, Value)>) {
        for (text, json) in cases {
            let query = Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(query.to_json(), json, "{text}");
            assert_eq!(Query::of_json(&json).as_ref(), Ok(&query), "{text}");
            assert_eq!(Query::parse(&query.to_string()).as_ref(), Ok(&query), "{text} as {query}");
        }
    }

    /// The specification's examples of clauses, in any order.
    #[test]
    fn clauses_mean_their_json() {
        let products = json!({
            "entity": "products", "limit": 20, "include": {"reviews": true, "category": true},
            "where": {"and": [
                comparison("price", "<", &json!(100)), comparison("stock", ">", &json!(0)), comparison("category", "!=", &json!("archived")),
            ]},
        });
        let admins = json!({
            "entity": "users", "limit": 10,
            "where": {"or": [
                eq("role", &json!("admin")), {"and": [comparison("age", ">=", &json!(18)), eq("verified", &json!(true))]},
            ]},
        });
        let x = json!({"entity": "users", "limit": 5, "order": [{"field": "name", "dir": "asc"}], "where": eq("x", &json!(1))});
        check([
            ("", json!({})),
            ("   ", json!({})),
            ("entity:users", json!({"entity": "users"})),
            ("ENTITY:users", json!({"entity": "users"})),
            ("entity:\"Order Item\"", json!({"entity": "Order Item"})),
            ("entity:users limit:10", json!({"entity": "users", "limit": 10})),
            ("entity:users limit:0", json!({"entity": "users", "limit": 0})),
            ("limit:007", json!({"limit": 7})),
            (
                "entity:users limit:10 order:created_at desc",
                json!({"entity": "users", "limit": 10, "order": [{"field": "created_at", "dir": "desc"}]}),
            ),
            (
                "entity:products limit:20 include:reviews,category order:price asc,name",
                json!({
                    "entity": "products", "limit": 20, "include": {"reviews": true, "category": true},
                    "order": [{"field": "price", "dir": "asc"}, {"field": "name", "dir": "asc"}],
                }),
            ),
            ("order:name ASC", json!({"order": [{"field": "name", "dir": "asc"}]})),
            (
                "order: a  DESC , b",
                json!({"order": [{"field": "a", "dir": "desc"}, {"field": "b", "dir": "asc"}]}),
            ),
            (
                "order:\"desc\" desc entity:users",
                json!({"entity": "users", "order": [{"field": "desc", "dir": "desc"}]}),
            ),
            (
                "entity:products limit:5 order:price asc,name where:(stock>0)",
                json!({
                    "entity": "products", "limit": 5, "where": comparison("stock", ">", &json!(0)),
                    "order": [{"field": "price", "dir": "asc"}, {"field": "name", "dir": "asc"}],
                }),
            ),
            ("entity:users limit:5 order:name where:(x=1)", x.clone()),
            ("order:name entity:users limit:5 where:(x=1)", x.clone()),
            ("where:(x=1) order:name limit:5 entity:users", x),
            (
                "entity:products limit:20 include:reviews,category where:(price<100 stock>0 category!=archived)",
                products,
            ),
            ("entity:users limit:10 where:((role=admin) OR (age>=18 AND verified=true))", admins),
        ]);
    }

    /// The specification's examples of one comparison, and what a value may look like.
    #[test]
    #[expect(clippy::approx_constant, reason = "an example of the specification, not of pi")]
    fn comparisons_mean_their_json() {
        check([
            ("entity:users where:(status=active)", of(&eq("status", &json!("active")))),
            ("entity:users where:status=active", of(&eq("status", &json!("active")))),
            ("where:name=\"a b\" entity:users", of(&eq("name", &json!("a b")))),
            ("entity:users where:(status active)", of(&eq("status", &json!("active")))),
            ("entity:users where:(score<=3.14)", of(&comparison("score", "<=", &json!(3.14)))),
            ("entity:users where:(score=-2)", of(&eq("score", &json!(-2)))),
            (
                "entity:users where:(a=1e5 b=.5 c=5. d=-)",
                of(
                    &json!({"and": [eq("a", &json!("1e5")), eq("b", &json!(".5")), eq("c", &json!("5.")), eq("d", &json!("-"))]}),
                ),
            ),
            ("entity:users where:(a=18446744073709551615)", of(&eq("a", &json!(u64::MAX)))),
            ("entity:users where:(a=1.0)", of(&eq("a", &json!(1.0)))),
            (
                "entity:users where:(verified=TRUE a=False)",
                of(&json!({"and": [eq("verified", &json!(true)), eq("a", &json!(false))]})),
            ),
            ("entity:users where:(id=\"18\")", of(&eq("id", &json!("18")))),
            ("entity:users where:(flag=\"true\")", of(&eq("flag", &json!("true")))),
            ("entity:users where:(name=\"Alice Smith\")", of(&eq("name", &json!("Alice Smith")))),
            (
                r#"entity:users where:(title="Hello \"World\" \\ (x")"#,
                of(&eq("title", &json!(r#"Hello "World" \ (x"#))),
            ),
            (
                "entity:users where:(created_at>=\"2024-01-01\")",
                of(&comparison("created_at", ">=", &json!("2024-01-01"))),
            ),
            ("entity:users where:(\"first name\"=Ada)", of(&eq("first name", &json!("Ada")))),
        ]);
    }

    /// The specification's examples of `AND`, `OR` and parentheses.
    #[test]
    fn joined_conditions_mean_their_json() {
        check([
            ("entity:users where:(a=1 or b=2)", of(&json!({"or": [eq("a", &json!(1)), eq("b", &json!(2))]}))),
            (
                "entity:users where:(a=1 OR b=2 AND c=3)",
                of(&json!({"or": [eq("a", &json!(1)), {"and": [eq("b", &json!(2)), eq("c", &json!(3))]}]})),
            ),
            (
                "entity:users where:((a=1 OR b=2) c=3)",
                of(&json!({"and": [{"or": [eq("a", &json!(1)), eq("b", &json!(2))]}, eq("c", &json!(3))]})),
            ),
            (
                "entity:users where:(a=1 (b=2 (c=3)))",
                of(&json!({"and": [eq("a", &json!(1)), eq("b", &json!(2)), eq("c", &json!(3))]})),
            ),
            (
                "entity:users where:(a=1 OR (b=2 OR (c=3)))",
                of(&json!({"or": [eq("a", &json!(1)), eq("b", &json!(2)), eq("c", &json!(3))]})),
            ),
            (
                "entity:users where:(a=1 (b>2 OR c!=x))",
                of(
                    &json!({"and": [eq("a", &json!(1)), {"or": [comparison("b", ">", &json!(2)), comparison("c", "!=", &json!("x"))]}]}),
                ),
            ),
            (
                "entity:users where:( a = 1 )limit:2",
                json!({"entity": "users", "limit": 2, "where": eq("a", &json!(1))}),
            ),
        ]);
    }

    /// What the specification does not have.
    #[test]
    fn what_is_added_means_its_json() {
        check([
            (
                "entity:users where:(a in (x, 1,\"y z\") b !IN(true))",
                of(&json!({"and": [
                    comparison("a", "in", &json!(["x", 1, "y z"])), comparison("b", "!in", &json!([true])),
                ]})),
            ),
            (
                "entity:users where:(a in b is c=in d=is)",
                of(&json!({"and": [
                    eq("a", &json!("in")), eq("b", &json!("is")), eq("c", &json!("in")), eq("d", &json!("is")),
                ]})),
            ),
            (
                "entity:users where:(a=x,y b=~/z)",
                of(&json!({"and": [eq("a", &json!("x,y")), eq("b", &json!("~/z"))]})),
            ),
            (
                "entity:users where:(name~da name ^= A)",
                of(
                    &json!({"and": [comparison("name", "~", &json!("da")), comparison("name", "^=", &json!("A"))]}),
                ),
            ),
            (
                "entity:users where:(a.b is null c IS NOT NULL)",
                of(&json!({"and": [{"field": "a.b", "op": "is null"}, {"field": "c", "op": "is not null"}]})),
            ),
            (
                "entity:users as_of:2024-01-31 known_at:\"2024-01-31T11:00:00+01:00\" seq:7 cursor:abc= fields:a,b.c",
                json!({
                    "entity": "users", "as_of": "2024-01-31T00:00:00Z", "known_at": "2024-01-31T10:00:00Z", "seq": 7, "cursor": "abc=",
                    "fields": ["a", "b.c"],
                }),
            ),
        ]);
    }

    #[test]
    fn errors_say_where_what_and_what_else() {
        let cases = [
            ("foo", "at byte 0: found \"foo\", expected a clause: entity:, "),
            ("entity:users entity:posts", "at byte 13: found a second entity, expected each clause once"),
            ("order:a Order:b", "at byte 8: found a second order, expected each clause once"),
            (
                "entity:users sort:name",
                "at byte 13: found the clause \"sort\", expected one of entity, limit, ",
            ),
            ("entity:", "at byte 7: found the end, expected the name of an entity type"),
            ("entity: users", "at byte 7: found a space, expected the name of an entity type"),
            ("entity:\"\"", "at byte 7: found an empty text, expected the name of an entity type"),
            ("entity:\"a\"b", "at byte 10: found \"b\", expected a space"),
            ("entity:\"a", "at byte 7: found a quote that is not closed, expected a closing \""),
            ("limit:-1", "at byte 6: found \"-1\", expected a whole number from 0"),
            ("limit:1.5", "at byte 6: found \"1.5\", expected a whole number from 0"),
            ("limit:10x", "at byte 6: found \"10x\", expected a whole number from 0"),
            ("limit:", "at byte 6: found the end, expected a whole number from 0"),
            (
                "limit:18446744073709551616",
                "at byte 6: found \"18446744073709551616\", expected at most 18446744073709551615",
            ),
            ("order:", "at byte 6: found the end, expected a field to order by"),
            (
                "order:asc",
                "at byte 6: found \"asc\", expected a field before its direction; a field of this name",
            ),
            ("order:a,", "at byte 8: found the end, expected a field to order by"),
            ("order:a down", "at byte 8: found \"down\", expected asc, desc, a comma or the next clause"),
            ("order:a:b", "at byte 7: found \":b\", expected a comma or a space"),
            ("include:a,,b", "at byte 10: found \",\", expected the name of a relation"),
            ("include:a, b", "at byte 10: found a space, expected the name of a relation"),
            ("fields:a,b,a", "at byte 7: found \"a\" twice, expected each field once"),
            (
                "as_of:today",
                "at byte 6: found \"today\", expected a time like \"2024-01-31T10:00:00Z\" or a date",
            ),
            (
                "known_at:\"2024-01-31T10:00:00\"",
                "at byte 9: found \"2024-01-31T10:00:00\", expected a time like",
            ),
            ("seq:a", "at byte 4: found \"a\", expected a whole number from 0"),
            ("where:", "at byte 6: found the end, expected a field"),
            ("where:()", "at byte 7: found \")\", expected a field; one that is a keyword"),
            ("where:(x=)", "at byte 9: found \")\", expected a value; one that is a keyword"),
            (
                "where:(x)",
                "at byte 8: found \")\", expected =, !=, <, <=, >, >=, ~, ^=, in (, !in (, is null, is not null or a value",
            ),
            ("where:(x==1)", "at byte 9: found \"=\", expected a value"),
            ("where:(x=or)", "at byte 9: found \"or\", expected a value"),
            ("where:(x=1", "at byte 10: found the end, expected AND, OR, a condition or )"),
            ("where:((x=1)", "at byte 12: found the end, expected AND, OR, a condition or )"),
            ("where:(OR a=1)", "at byte 7: found \"OR\", expected a field"),
            ("where:(a=1 OR)", "at byte 13: found \")\", expected a field"),
            ("where:(a=1 AND)", "at byte 14: found \")\", expected a field"),
            ("where:(a=1) )", "at byte 12: found \")\", expected a clause"),
            ("where:(12=1)", "at byte 7: found \"12\", expected a field"),
            ("where:(\"\"=1)", "at byte 7: found an empty text, expected a field"),
            ("where:(ü=\"1)", "at byte 10: found a quote that is not closed, expected a closing \""),
            ("where:(a in ())", "at byte 13: found \")\", expected a value"),
            ("where:(a in (1 2))", "at byte 15: found \"2\", expected a comma or )"),
            ("where:(a !in 1)", "at byte 9: found \"!\", expected ="),
            (
                "where:a=1(b",
                "at byte 9: found \"(\", expected a space; more than one condition stands in parentheses",
            ),
        ];
        for (text, message) in cases {
            let error = Query::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(message), "{text}\n  is    {error}\n  wanted {message}");
        }
    }

    #[test]
    fn length_depth_and_numbers_are_bounded() {
        let nested = |depth: usize| format!("where:({}a=1{})", "(".repeat(depth), ")".repeat(depth));
        assert!(Query::parse(&nested(MAX_QUERY_DEPTH)).is_ok());
        let error = Query::parse(&nested(MAX_QUERY_DEPTH + 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "at byte 39: found one more parenthesis, expected at most 32 nested ones"
        );
        assert!(Query::parse(&nested(20_000)).is_err());

        // Each parenthesis has an OR and a space, which are two levels.
        let both = |depth: usize| format!("where:({}a=1{})", "a=1 OR b=2 (".repeat(depth), ")".repeat(depth));
        let query = Query::parse(&both(MAX_QUERY_DEPTH / 2)).unwrap();
        assert_eq!(Query::parse(&query.to_string()).as_ref(), Ok(&query));
        assert_eq!(Query::parse_json(&query.to_json().to_string()).as_ref(), Ok(&query));
        let error = Query::parse(&both(MAX_QUERY_DEPTH / 2 + 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "at byte 6: found 34 conditions within each other, expected at most 32"
        );

        let error = Query::parse(&"ü".repeat(MAX_QUERY_BYTES)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "at byte 65536: found a text of 131072 bytes, expected at most 65536 bytes"
        );
        let error = Query::parse(&format!("where:(a={})", "9".repeat(400))).unwrap_err();
        assert!(
            error.to_string().ends_with("expected a number that a double can hold, or quotes"),
            "{error}"
        );
    }

    #[test]
    fn texts_are_written_bare_only_where_they_are_read_so() {
        let query =
            Query::parse(r#"where:(a="x y" b="true" c="12" d=e-f_1.g "or"="in" h=1.50 i="")"#).unwrap();
        let written = r#"where:(a="x y" b="true" c="12" d=e-f_1.g "or"="in" h=1.5 i="")"#;
        assert_eq!(query.to_string(), written);
    }
}
