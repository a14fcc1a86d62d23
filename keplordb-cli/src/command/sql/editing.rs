//! What the prompt does while a statement is typed: it completes words, colours SQL, and knows when it is whole.

use std::borrow::Cow;

use datafusion::sql::sqlparser::tokenizer::{Token, Whitespace};
use rustyline::completion::Completer;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::statements::{Fault, Tokens, is_whole};
use super::tables::{Known, written};

/// What the prompt does besides answering.
pub(super) const COMMANDS: [&str; 4] = ["\\d", "\\h", "\\q", "\\timing"];

/// Words of questions, in order. What else the parser takes for a keyword is too often a name.
const KEYWORDS: [&str; 75] = [
    "ALL",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CROSS",
    "CURRENT",
    "DATE",
    "DAY",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTRACT",
    "FALSE",
    "FILTER",
    "FIRST",
    "FOLLOWING",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "HOUR",
    "ILIKE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LAST",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MONTH",
    "NATURAL",
    "NOT",
    "NULL",
    "NULLS",
    "OF",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PRECEDING",
    "RECURSIVE",
    "RIGHT",
    "ROW",
    "ROWS",
    "SELECT",
    "SEQUENCE",
    "SHOW",
    "THEN",
    "TIMESTAMP",
    "TRUE",
    "UNBOUNDED",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];
/// Behind these stands a table.
const BEFORE_TABLES: [&str; 3] = ["FROM", "JOIN", "DESCRIBE"];

const BLUE: &str = "\u{1b}[1;34m";
const GREEN: &str = "\u{1b}[32m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// What can be typed.
pub(super) struct Editing {
    /// Names as they are written, and those of their columns.
    tables: Vec<(String, Vec<String>)>,
    has_colours: bool,
}

impl Editing {
    pub(super) fn new(tables: &[Known], has_colours: bool) -> Self {
        let columns =
            |table: &Known| table.columns.fields().iter().map(|field| written(field.name())).collect();
        Self {
            tables: tables.iter().map(|table| (written(&table.place.name), columns(table))).collect(),
            has_colours,
        }
    }

    /// Where the word before the cursor begins, and what it may become.
    fn candidates(&self, before: &str) -> (usize, Vec<String>) {
        let is_of_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '"' | '\\');
        let start = before.trim_end_matches(is_of_word).len();
        let (rest, word) = before.split_at(start);
        let names = || self.tables.iter().map(|(name, _)| name.as_str());
        let command = before.trim_start();
        if command.starts_with('\\') {
            let found = match command.split_once(char::is_whitespace) {
                None => begin_with(COMMANDS.into_iter(), word),
                Some(("\\d", _)) => begin_with(names(), word),
                Some(_) => Vec::new(),
            };
            return (start, found);
        }
        if !word.starts_with('"') && Tokens::of(before).fault == Some(Fault::Open) {
            // Within a text or a comment.
            return (start, Vec::new());
        }
        if let Some(rest) = rest.strip_suffix('.') {
            let table = &rest[rest.trim_end_matches(is_of_word).len()..];
            let columns = self.tables.iter().find(|(name, _)| name.eq_ignore_ascii_case(table));
            let columns = columns.into_iter().flat_map(|(_, columns)| columns).map(String::as_str);
            return (start, begin_with(columns, word));
        }
        let last = rest.split(|letter: char| !is_of_word(letter)).rfind(|word| !word.is_empty());
        if rest.ends_with(char::is_whitespace)
            && last.is_some_and(|last| BEFORE_TABLES.iter().any(|before| last.eq_ignore_ascii_case(before)))
        {
            return (start, begin_with(names(), word));
        }
        let columns = self.tables.iter().flat_map(|(_, columns)| columns).map(String::as_str);
        let mut found = begin_with(names().chain(columns), word);
        if !word.is_empty() {
            let is_lower = !word.contains(char::is_uppercase);
            let keywords = begin_with(KEYWORDS.into_iter(), word).into_iter();
            found.extend(keywords.map(|keyword| if is_lower { keyword.to_lowercase() } else { keyword }));
        }
        (start, found)
    }

    /// Keywords, texts and comments in colours; the rest is as it was.
    fn coloured<'l>(&self, line: &'l str) -> Cow<'l, str> {
        if !self.has_colours || line.trim_start().starts_with('\\') {
            return Cow::Borrowed(line);
        }
        let mut coloured = String::with_capacity(line.len() + 64);
        let mut done = 0;
        let tokens = Tokens::of(line);
        for placed in &tokens.placed {
            let colour = match &placed.token {
                Token::Word(word) if word.quote_style.is_none() => {
                    let upper = word.value.to_ascii_uppercase();
                    KEYWORDS.binary_search(&upper.as_str()).ok().map(|_| BLUE)
                }
                Token::SingleQuotedString(_)
                | Token::EscapedStringLiteral(_)
                | Token::DollarQuotedString(_) => Some(GREEN),
                Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => {
                    Some(DIM)
                }
                _ => None,
            };
            if let Some(colour) = colour {
                coloured.extend([&line[done..placed.start], colour, &line[placed.start..placed.end], PLAIN]);
                done = placed.end;
            }
        }
        coloured.push_str(&line[done..]);
        Cow::Owned(coloured)
    }
}

/// Those that begin as a word does, or would but for a quote; each once, in order.
fn begin_with<'n>(names: impl Iterator<Item = &'n str>, word: &str) -> Vec<String> {
    let begins = |name: &str| name.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
    let mut found: Vec<String> = names
        .filter(|name| begins(name) || name.strip_prefix('"').is_some_and(begins))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

impl Completer for Editing {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(&line[..at]))
    }
}

impl Highlighter for Editing {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        self.coloured(line)
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.has_colours && kind != CmdKind::MoveCursor
    }
}

impl Validator for Editing {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_whole(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Hinter for Editing {
    type Hint = String;
}

impl Helper for Editing {}

#[cfg(test)]
mod tests {
    use super::*;

    fn editing() -> Editing {
        let table = |name: &str, columns: &[&str]| {
            (name.to_owned(), columns.iter().map(|name| written(name)).collect())
        };
        Editing {
            tables: vec![
                table("calls", &["ts", "user", "tokens"]),
                table("flights", &["ts", "carrier", "tail"]),
            ],
            has_colours: true,
        }
    }

    #[test]
    fn keywords_are_in_order() {
        assert!(KEYWORDS.is_sorted());
    }

    #[test]
    fn a_word_becomes_what_can_stand_there() {
        let editing = editing();
        let cases: [(&str, &str, &[&str]); 17] = [
            ("SEL", "", &["SELECT"]),
            ("select ca", "select ", &["calls", "carrier", "case", "cast"]),
            ("SELECT TO", "SELECT ", &["tokens"]),
            ("SELECT us", "SELECT ", &["\"user\"", "using"]),
            ("SELECT \"u", "SELECT ", &["\"user\""]),
            ("SELECT ts FROM ", "SELECT ts FROM ", &["calls", "flights"]),
            ("SELECT ts from f", "SELECT ts from ", &["flights"]),
            (
                "SELECT 1;\nSELECT * FROM calls c JOIN\nf",
                "SELECT 1;\nSELECT * FROM calls c JOIN\n",
                &["flights"],
            ),
            ("SELECT flights.t", "SELECT flights.", &["tail", "ts"]),
            ("SELECT nothing.t", "SELECT nothing.", &[]),
            ("SELECT 'ca", "SELECT '", &[]),
            ("SELECT 'é' || ca", "SELECT 'é' || ", &["calls", "carrier", "case", "cast"]),
            ("\\", "", &["\\d", "\\h", "\\q", "\\timing"]),
            ("\\ti", "", &["\\timing"]),
            ("\\d c", "\\d ", &["calls"]),
            ("\\q c", "\\q ", &[]),
            ("SELECT é", "SELECT ", &[]),
        ];
        for (before, rest, right) in cases {
            let (start, found) = editing.candidates(before);
            assert_eq!(&before[..start], rest, "{before}");
            assert_eq!(found, right, "{before}");
        }
        assert_eq!(
            editing.candidates("").1,
            ["\"user\"", "calls", "carrier", "flights", "tail", "tokens", "ts"]
        );
    }

    #[test]
    fn colours_add_nothing_that_is_seen() {
        let editing = editing();
        let shown = editing.coloured("select 'é', \"from\" -- Où\n FROM t");
        assert_eq!(
            shown,
            "\u{1b}[1;34mselect\u{1b}[0m \u{1b}[32m'é'\u{1b}[0m, \"from\" \u{1b}[2m-- Où\n\u{1b}[0m \u{1b}[1;34mFROM\u{1b}[0m t"
        );
        for line in ["SELECT 'open", "\\d calls", "", "$$ @ # 😀", "SELECT \u{1}"] {
            let mut shown = editing.coloured(line).into_owned();
            for colour in [BLUE, GREEN, DIM, PLAIN] {
                shown = shown.replace(colour, "");
            }
            assert_eq!(shown, line);
        }
        assert_eq!(Editing { has_colours: false, ..editing }.coloured("SELECT 1"), "SELECT 1");
    }
}
