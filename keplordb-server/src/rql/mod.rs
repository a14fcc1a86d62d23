//! RQL, the one-line language by which records of an entity type are selected.
//!
//! A [`Query`] has two forms of the same meaning: a line of text, and JSON. What either of them says, the other can say.
//!
//! | clause | text | JSON |
//! |---|---|---|
//! | the entity type | `entity:users` | `"entity": "users"` |
//! | how many at most | `limit:10` | `"limit": 10` |
//! | their order | `order:created_at desc,name` | `"order": [{"field": "created_at", "dir": "desc"}, {"field": "name"}]` |
//! | related entities | `include:reviews,category` | `"include": {"reviews": true, "category": true}` |
//! | which of them | `where:(a=1 (b>2 OR c!=x))` | `"where": {"and": [{"field": "a", "value": 1}, …]}` |
//! | what was true at | `as_of:"2024-01-31T10:00:00Z"` | `"as_of": "2024-01-31T10:00:00Z"` |
//! | what was known at | `known_at:"2024-01-31"` | `"known_at": "2024-01-31"` |
//! | up to which event | `seq:1200` | `"seq": 1200` |
//! | where to go on | `cursor:"…"` | `"cursor": "…"` |
//! | which fields | `fields:name,address.city` | `"fields": ["name", "address.city"]` |
//!
//! Clauses come in any order, each once. In conditions a space means `AND`, which binds tighter than `OR`; parentheses nest. Keywords
//! and the names of clauses count in upper and lower case alike. A name or a value in double quotes is text as it stands, where
//! `\"` and `\\` stand for `"` and `\`; without quotes `true`, `false` and numbers like `-1.5` are what they say. The operators are
//! `=`, `!=`, `<`, `<=`, `>`, `>=`, `~` (contains), `^=` (begins with), `in (a, b)`, `!in (a, b)`, `is null` and `is not null`;
//! one that is left out is `=`. What they mean is said at [`Condition::matches`].

mod complete;
mod error;
pub(crate) mod eval;
mod json;
mod names;
mod print;
#[cfg(test)]
pub(crate) mod random;
mod text;
pub(crate) mod time;

use std::collections::BTreeSet;

use serde_json::Number;

pub use complete::{
    Completion, Context, ContextKind, EntityShape, FieldShape, SchemaShape, Suggestion, complete,
};
pub use error::{Place, RqlError};
pub use names::{NameError, plural, resolve, singular};

/// Longest text and longest JSON of a query, in bytes: bounds what one request makes the server hold.
pub const MAX_QUERY_BYTES: usize = 64 * 1024;
/// How deep parentheses may nest, and `and` and `or` within each other: bounds the stack that a query takes. As JSON is read to a
/// depth of 128, and a condition within another takes two of these, it cannot be much more.
pub const MAX_QUERY_DEPTH: usize = 32;

/// A query: which records of an entity type, in which order, as of when.
///
/// Its text is written by [`Display`](std::fmt::Display) and read by [`parse`](Query::parse), its JSON by
/// [`to_json`](Query::to_json) and [`of_json`](Query::of_json).
///
/// ```
/// use keplordb_server::rql::Query;
///
/// let text = "entity:users limit:10 order:name desc where:(age>=18 plan in (team,free))";
/// let query = Query::parse(text)?;
/// assert_eq!(query.limit, Some(10));
/// assert_eq!(query.to_string(), text);
/// assert_eq!(Query::of_json(&query.to_json())?, query);
/// # Ok::<(), keplordb_server::rql::RqlError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// The name of the entity type, as it is written; [`resolve`] says which type that is. Not empty.
    pub entity: Option<String>,
    /// How many records at most.
    pub limit: Option<u64>,
    /// By what they are ordered, the first term first.
    pub order: Vec<OrderTerm>,
    /// The relations whose entities come along.
    pub include: BTreeSet<String>,
    /// What a record must meet: the clause `where`.
    pub condition: Option<Condition>,
    /// Events that happened later do not count; in milliseconds since the Unix epoch.
    pub as_of_ms: Option<i64>,
    /// Events that came in later do not count, likewise.
    pub known_at_ms: Option<i64>,
    /// Events with a higher sequence do not count: the clause `seq`.
    pub sequence: Option<u64>,
    /// Where an earlier answer ended, as that answer said it.
    pub cursor: Option<String>,
    /// Which fields of a record are given; all where it is empty.
    pub fields: Vec<String>,
}

/// A field by which records are ordered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OrderTerm {
    /// The field; `address.city` is the field of a nested message.
    pub field: String,
    /// Whether the largest comes first.
    pub descending: bool,
}

/// What a record must meet.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// One field's value meets a test.
    Field {
        /// The field; `address.city` is the field of a nested message.
        field: String,
        /// What its value must be.
        test: Test,
    },
    /// All of these, which are two or more and none of them an `And`; [`Condition::all`] makes it so.
    And(Vec<Condition>),
    /// One of these or more, which are two or more and none of them an `Or`; [`Condition::any`] makes it so.
    Or(Vec<Condition>),
}

/// What a field's value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// In this relation to a value.
    Is(Operator, Literal),
    /// `in` and `!in`: one of these values, or none of them; at least one is there.
    OneOf {
        /// The values.
        values: Vec<Literal>,
        /// Whether it must be none of them.
        negated: bool,
    },
    /// `is null` and `is not null`; what is missing is null.
    Null {
        /// Whether it must be there.
        negated: bool,
    },
}

/// A relation of a field's value to the one in the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `~`
    Contains,
    /// `^=`
    Prefix,
}

/// A value in a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `true` or `false`.
    Bool(bool),
    /// A number; a whole one of more than 64 bits is the nearest double.
    Number(Number),
    /// Text; times are text too.
    Text(String),
}

impl Operator {
    /// All of them; one whose sign begins with another's comes before that.
    pub const ALL: [Self; 8] = [
        Self::NotEqual,
        Self::LessOrEqual,
        Self::GreaterOrEqual,
        Self::Prefix,
        Self::Equal,
        Self::Less,
        Self::Greater,
        Self::Contains,
    ];

    /// Its sign, the same in text and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Contains => "~",
            Self::Prefix => "^=",
        }
    }
}

impl Condition {
    /// How many `And`s and `Or`s stand within each other.
    fn depth(&self) -> usize {
        match self {
            Self::Field { .. } => 0,
            Self::And(nested) | Self::Or(nested) => 1 + nested.iter().map(Self::depth).max().unwrap_or(0),
        }
    }

    /// All of these conditions: nested `And`s become one, and a single condition stays what it is; `None` where there is none.
    pub fn all(conditions: Vec<Self>) -> Option<Self> {
        let mut flat = Vec::with_capacity(conditions.len());
        for condition in conditions {
            match condition {
                Self::And(nested) => flat.extend(nested),
                other => flat.push(other),
            }
        }
        if flat.len() > 1 { Some(Self::And(flat)) } else { flat.pop() }
    }

    /// One of these conditions or more: nested `Or`s become one, and a single condition stays what it is; `None` where there is none.
    pub fn any(conditions: Vec<Self>) -> Option<Self> {
        let mut flat = Vec::with_capacity(conditions.len());
        for condition in conditions {
            match condition {
                Self::Or(nested) => flat.extend(nested),
                other => flat.push(other),
            }
        }
        if flat.len() > 1 { Some(Self::Or(flat)) } else { flat.pop() }
    }
}

/// The clauses, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clause {
    Entity,
    Limit,
    Order,
    Include,
    Where,
    AsOf,
    KnownAt,
    Sequence,
    Cursor,
    Fields,
}

impl Clause {
    const ALL: [Self; 10] = [
        Self::Entity,
        Self::Limit,
        Self::Order,
        Self::Include,
        Self::Where,
        Self::AsOf,
        Self::KnownAt,
        Self::Sequence,
        Self::Cursor,
        Self::Fields,
    ];
    /// Their names, for messages.
    const NAMES: &'static str =
        "one of entity, limit, order, include, where, as_of, known_at, seq, cursor and fields";

    fn as_str(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Limit => "limit",
            Self::Order => "order",
            Self::Include => "include",
            Self::Where => "where",
            Self::AsOf => "as_of",
            Self::KnownAt => "known_at",
            Self::Sequence => "seq",
            Self::Cursor => "cursor",
            Self::Fields => "fields",
        }
    }

    /// By its name, in upper and lower case alike.
    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|clause| clause.as_str().eq_ignore_ascii_case(name))
    }
}
