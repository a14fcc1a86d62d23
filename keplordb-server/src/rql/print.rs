//! Writes a query as text, so that it is read as the same query.

use std::fmt;

use super::{Condition, Literal, Query, Test, time};

impl fmt::Display for Query {
    /// The text, which [`parse`](Query::parse) reads as the same query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut clauses = Vec::new();
        if let Some(entity) = &self.entity {
            clauses.push(format!("entity:{}", Name(entity)));
        }
        if let Some(limit) = self.limit {
            clauses.push(format!("limit:{limit}"));
        }
        if !self.order.is_empty() {
            let terms = self.order.iter().map(|term| {
                let direction = if term.descending { " desc" } else { "" };
                format!("{}{direction}", Name(&term.field))
            });
            clauses.push(format!("order:{}", terms.collect::<Vec<_>>().join(",")));
        }
        if !self.include.is_empty() {
            clauses.push(format!("include:{}", names(self.include.iter())));
        }
        if let Some(condition) = &self.condition {
            clauses.push(format!("where:({condition})"));
        }
        if let Some(as_of_ms) = self.as_of_ms {
            clauses.push(format!("as_of:\"{}\"", time::print(as_of_ms)));
        }
        if let Some(known_at_ms) = self.known_at_ms {
            clauses.push(format!("known_at:\"{}\"", time::print(known_at_ms)));
        }
        if let Some(sequence) = self.sequence {
            clauses.push(format!("seq:{sequence}"));
        }
        if let Some(cursor) = &self.cursor {
            clauses.push(format!("cursor:{}", Name(cursor)));
        }
        if !self.fields.is_empty() {
            clauses.push(format!("fields:{}", names(self.fields.iter())));
        }
        f.write_str(&clauses.join(" "))
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| Name(name).to_string()).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Condition {
    /// As it stands between the parentheses of `where`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (conditions, between) = match self {
            Self::Field { field, test } => return write!(f, "{}{test}", Name(field)),
            Self::And(conditions) => (conditions, " "),
            Self::Or(conditions) => (conditions, " OR "),
        };
        for (index, condition) in conditions.iter().enumerate() {
            let before = if index == 0 { "" } else { between };
            match condition {
                Self::Field { .. } => write!(f, "{before}{condition}")?,
                _ => write!(f, "{before}({condition})")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Test {
    /// As it follows the field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(operator, value) => write!(f, "{}{value}", operator.as_str()),
            Self::OneOf { values, negated } => {
                let values: Vec<String> = values.iter().map(Literal::to_string).collect();
                write!(f, " {}in ({})", if *negated { "!" } else { "" }, values.join(","))
            }
            Self::Null { negated } => write!(f, " is {}null", if *negated { "not " } else { "" }),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            // Without an exponent, which would make it text, and with a point, by which it stays a double.
            Self::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(double) => {
                    let digits = format!("{double}");
                    let point = if digits.contains('.') { "" } else { ".0" };
                    write!(f, "{digits}{point}")
                }
                None => write!(f, "{number}"),
            },
            Self::Text(text) => Name(text).fmt(f),
        }
    }
}

/// A name or a text: bare where it is read as that wherever it stands, in quotes else.
pub(super) struct Name<'a>(pub(super) &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KEYWORDS: [&str; 10] = ["and", "or", "true", "false", "in", "is", "not", "null", "asc", "desc"];
        let begins = self.0.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let continues = self.0.bytes().all(|next| next.is_ascii_alphanumeric() || b"_.-".contains(&next));
        if begins && continues && !KEYWORDS.iter().any(|keyword| self.0.eq_ignore_ascii_case(keyword)) {
            return f.write_str(self.0);
        }
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
