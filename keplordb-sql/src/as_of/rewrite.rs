//! The spellings of time travel, found in tokens and written as calls. Knows nothing of tables, plans or values.
//!
//! Works on tokens, not on text or syntax trees: comments, strings and quoted names are what they are, and the parser of
//! this dialect has no place in its trees for most of these spellings. One walk keeps track of where the name of a table
//! can stand; behind such a name [`Text::clause`] looks for a spelling, and the parser itself finds where its expression
//! ends. Elsewhere [`Text::stray`] looks for what can only be meant as time travel.

use std::ops::Range;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Whitespace};

use super::error::{AsOfError, AsOfProblem};

type Result<T> = std::result::Result<T, AsOfError>;

const INSTANT: &str = "write `t AS OF TIMESTAMP '…'` for one instant, and WHERE on `ts` for a range of times";
const SEQUENCE: &str = "write `t AS OF SEQUENCE n`, or `t AS OF TIMESTAMP '…'` for a time";

/// What an instant is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// The order of arrival.
    Sequence,
    /// When the event happened.
    Event,
    /// When the event arrived.
    Known,
}

impl Axis {
    /// The name of the argument.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Sequence => "seq",
            Self::Event => "as_of",
            Self::Known => "known_at",
        }
    }

    pub(super) fn named(argument: &str) -> Option<Self> {
        [Self::Sequence, Self::Event, Self::Known].into_iter().find(|axis| axis.argument() == argument)
    }
}

/// The tokens with every spelling of time travel as a call, `t(seq => n)`, `t(as_of => time)` or `t(known_at => time)`; all
/// other tokens unchanged, with their places. For those who run the tokenizer and the parser themselves; see
/// [`parse`](super::parse).
///
/// The tokens are those of the [`GenericDialect`]. Linear in their number.
///
/// # Errors
/// [`AsOfError`] for what looks like time travel and is not supported, or does not stand behind the name of a table.
///
/// ```
/// use datafusion::sql::sqlparser::dialect::GenericDialect;
/// use datafusion::sql::sqlparser::tokenizer::Tokenizer;
/// use keplordb_sql::as_of;
///
/// let tokens = Tokenizer::new(&GenericDialect {}, "FROM t VERSION AS OF 3").tokenize_with_location()?;
/// let text: String = as_of::rewrite(tokens)?.iter().map(ToString::to_string).collect();
/// assert_eq!(text, "FROM t(seq => 3)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn rewrite(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let calls = find(&tokens)?;
    if calls.is_empty() {
        return Ok(tokens);
    }
    let mut rewritten = Vec::with_capacity(tokens.len() + 8 * calls.len());
    let mut copied = 0;
    for call in calls {
        rewritten.extend_from_slice(&tokens[copied..call.clause.start]);
        let span = tokens[call.argument.start].span;
        let mut put = |token| rewritten.push(TokenWithSpan::new(token, span));
        put(Token::LParen);
        put(Token::make_word(call.axis.argument(), None));
        put(space());
        put(Token::RArrow);
        put(space());
        rewritten.extend_from_slice(&tokens[call.argument.clone()]);
        rewritten.push(TokenWithSpan::new(Token::RParen, span));
        copied = call.clause.end;
    }
    rewritten.extend_from_slice(&tokens[copied..]);
    Ok(rewritten)
}

fn space() -> Token {
    Token::Whitespace(Whitespace::Space)
}

/// A clause of time travel; positions of tokens.
struct Call {
    axis: Axis,
    /// From behind the table's name to the end of the clause.
    clause: Range<usize>,
    argument: Range<usize>,
}

/// Where a clause's expression begins, as a position among the words.
struct Clause {
    axis: Axis,
    expression: usize,
    /// Whether a parenthesis closes the clause.
    is_closed: bool,
}

/// All clauses of time travel, in their order.
fn find(tokens: &[TokenWithSpan]) -> Result<Vec<Call>> {
    let text = Text::new(tokens);
    let mut ends = Ends { tokens, parser: None };
    let mut calls = Vec::new();
    // For every open parenthesis whether a comma in it is followed by a table.
    let mut lists_tables = vec![false];
    // Whether the next token may be a table's name.
    let mut expects_table = false;
    let mut at = 0;
    while at < text.len() {
        let depth = lists_tables.len() - 1;
        match text.token(at) {
            Token::LParen => lists_tables.push(false),
            Token::RParen => {
                if depth > 0 {
                    lists_tables.pop();
                }
                expects_table = false;
            }
            Token::SemiColon => {
                lists_tables = vec![false];
                expects_table = false;
            }
            Token::Comma => expects_table = lists_tables[depth],
            Token::Word(_) => match text.keyword(at) {
                Keyword::FROM | Keyword::JOIN => {
                    lists_tables[depth] = true;
                    expects_table = true;
                }
                // Of a subquery or a function, whose name follows.
                Keyword::LATERAL if expects_table => {}
                keyword if begins_a_query(keyword) || (!expects_table && ends_tables(keyword)) => {
                    lists_tables[depth] = false;
                    expects_table = false;
                }
                _ if expects_table => {
                    expects_table = false;
                    at = text.name_end(at);
                    let Some(clause) = text.clause(at)? else { continue };
                    let call = ends.call(&text, text.position(at - 1) + 1, &clause)?;
                    at = text.at_or_after(call.clause.end);
                    calls.push(call);
                    continue;
                }
                _ if text.stray(at, lists_tables[depth]) => {
                    return Err(AsOfError::at(text.location(at), AsOfProblem::Misplaced));
                }
                _ => {}
            },
            _ => expects_table = false,
        }
        at += 1;
    }
    Ok(calls)
}

/// Words that stand where a table's name could, and are none.
fn begins_a_query(keyword: Keyword) -> bool {
    matches!(keyword, Keyword::SELECT | Keyword::VALUES | Keyword::WITH)
}

/// Words behind which commas separate something else than tables.
fn ends_tables(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::ORDER
            | Keyword::SORT
            | Keyword::LIMIT
            | Keyword::OFFSET
            | Keyword::FETCH
            | Keyword::QUALIFY
            | Keyword::WINDOW
            | Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT
            | Keyword::MINUS
            | Keyword::SET
            | Keyword::RETURNING
    )
}

/// Finds where the expressions of clauses end. One parser goes through the tokens once, from clause to clause.
struct Ends<'a> {
    tokens: &'a [TokenWithSpan],
    parser: Option<Parser<'static>>,
}

impl Ends<'_> {
    /// The clause behind a name that ends before `from`.
    fn call(&mut self, text: &Text<'_>, from: usize, clause: &Clause) -> Result<Call> {
        let start = text.position(clause.expression);
        let location = text.location(clause.expression);
        let unreadable = |why: String| AsOfError::at(location, AsOfProblem::Unreadable { why });
        let parser = self.parser.get_or_insert_with(|| {
            Parser::new(&GenericDialect {}).with_tokens_with_locations(self.tokens.to_vec())
        });
        while parser.index() < start {
            parser.next_token_no_skip();
        }
        let expression = parser.parse_expr().map_err(|error| unreadable(error.to_string()))?;
        if matches!(expression, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            let why = format!("`{expression}` is a column");
            return Err(AsOfError::at(location, AsOfProblem::NotConstant { why }));
        }
        // The parser may have looked beyond blanks.
        let argument = start..text.end_before(parser.index());
        let mut end = argument.end;
        if clause.is_closed {
            let next = text.at_or_after(end);
            if *text.token(next) != Token::RParen {
                return Err(unreadable(format!("Expected: ), found: {}", text.token(next))));
            }
            end = text.position(next) + 1;
        }
        Ok(Call { axis: clause.axis, clause: from..end, argument })
    }
}

/// Tokens without blanks and comments.
struct Text<'a> {
    tokens: &'a [TokenWithSpan],
    /// Their positions.
    words: Vec<usize>,
}

impl<'a> Text<'a> {
    fn new(tokens: &'a [TokenWithSpan]) -> Self {
        let is_word = |&at: &usize| !matches!(tokens[at].token, Token::Whitespace(_) | Token::EOF);
        Self { tokens, words: (0..tokens.len()).filter(is_word).collect() }
    }

    fn len(&self) -> usize {
        self.words.len()
    }

    /// Behind the last one there is the end.
    fn token(&self, at: usize) -> &'a Token {
        self.words.get(at).map_or(&Token::EOF, |&position| &self.tokens[position].token)
    }

    /// Its place among all tokens.
    fn position(&self, at: usize) -> usize {
        self.words.get(at).copied().unwrap_or(self.tokens.len())
    }

    /// The first word that is not before this place among all tokens.
    fn at_or_after(&self, position: usize) -> usize {
        self.words.partition_point(|&word| word < position)
    }

    /// The place behind the last word that is before this place.
    fn end_before(&self, position: usize) -> usize {
        self.at_or_after(position).checked_sub(1).map_or(0, |last| self.position(last) + 1)
    }

    fn location(&self, at: usize) -> Location {
        match self.words.get(at) {
            Some(&position) => self.tokens[position].span.start,
            None => self.tokens.last().map_or(Span::empty().end, |last| last.span.end),
        }
    }

    /// Of a word without quotes; else none.
    fn keyword(&self, at: usize) -> Keyword {
        match self.token(at) {
            Token::Word(word) => word.keyword,
            _ => Keyword::NoKeyword,
        }
    }

    fn is(&self, at: usize, keywords: &[Keyword]) -> bool {
        keywords.iter().enumerate().all(|(offset, &keyword)| self.keyword(at + offset) == keyword)
    }

    fn is_word(&self, at: usize) -> bool {
        matches!(self.token(at), Token::Word(_))
    }

    /// Behind a name with its catalog and schema.
    fn name_end(&self, start: usize) -> usize {
        let mut end = start + 1;
        while *self.token(end) == Token::Period && self.is_word(end + 1) {
            end += 2;
        }
        end
    }

    fn unsupported(&self, words: Range<usize>, instead: &'static str) -> AsOfError {
        let location = self.location(words.start);
        let spelling = words.map(|at| self.token(at).to_string()).collect::<Vec<_>>().join(" ");
        AsOfError::at(location, AsOfProblem::Unsupported { spelling, instead })
    }

    /// The clause of time travel that begins here, right behind a table's name.
    fn clause(&self, at: usize) -> Result<Option<Clause>> {
        use Keyword::{AS, AT, BEFORE, BETWEEN, CHANGES, FOR, OF, SYSTEM_TIME, TIMESTAMP, VERSION, VERSIONS};
        let clause = |axis, expression| Ok(Some(Clause { axis, expression, is_closed: false }));
        match self.keyword(at) {
            AS if self.is(at + 1, &[OF]) => self.as_of(at),
            VERSION if self.is(at + 1, &[AS, OF]) => clause(Axis::Sequence, at + 3),
            TIMESTAMP if self.is(at + 1, &[AS, OF]) => clause(Axis::Event, at + 3),
            SYSTEM_TIME if self.is(at + 1, &[AS, OF]) => Err(self.unsupported(at..at + 3, INSTANT)),
            VERSIONS if self.is(at + 1, &[BETWEEN]) => Err(self.unsupported(at..at + 2, INSTANT)),
            FOR if self.is(at + 2, &[AS, OF]) => match self.keyword(at + 1) {
                SYSTEM_TIME => clause(Axis::Known, at + 4),
                VERSION => clause(Axis::Sequence, at + 4),
                TIMESTAMP => clause(Axis::Event, at + 4),
                _ => Err(self.unsupported(at..at + 4, INSTANT)),
            },
            FOR if self.is_range(at + 1) => Err(self.unsupported(at..at + 3, INSTANT)),
            AT if self.is_named_argument(at + 1) => self.at_argument(at),
            BEFORE | CHANGES if self.is_named_argument(at + 1) => Err(self.unsupported(at..at + 4, SEQUENCE)),
            _ => Ok(None),
        }
    }

    /// `AS OF …` behind a table's name: an instant, or the alias `of`.
    fn as_of(&self, at: usize) -> Result<Option<Clause>> {
        use Keyword::{
            DATE, DATETIME, SEQUENCE as SEQ, SYSTEM, SYSTEM_TIME, TIME, TIMESTAMP, TIMESTAMPTZ, VERSION,
        };
        let clause = |axis, expression| Ok(Some(Clause { axis, expression, is_closed: false }));
        let next = at + 2;
        match self.keyword(next) {
            SYSTEM if self.is(next + 1, &[TIME]) => clause(Axis::Known, next + 2),
            SYSTEM_TIME => Err(self.unsupported(at..next + 1, INSTANT)),
            SEQ | VERSION if self.begins_value(next + 1) || self.is_plain(next + 1) => {
                clause(Axis::Sequence, next + 1)
            }
            TIMESTAMP | TIMESTAMPTZ | DATE | DATETIME if self.is_typed_literal(next) => {
                clause(Axis::Event, next)
            }
            // Without a literal the word says only which axis.
            TIMESTAMP if self.begins_value(next + 1) || self.is_plain(next + 1) => {
                clause(Axis::Event, next + 1)
            }
            _ if self.begins_value(next) && !self.is_list_of_names(next) => clause(Axis::Event, next),
            // Behind the alias `of` only keywords may follow.
            _ if self.is_plain(next) => {
                let why = format!("`{}` is a column", self.token(next));
                Err(AsOfError::at(self.location(next), AsOfProblem::NotConstant { why }))
            }
            _ => Ok(None),
        }
    }

    /// `AT (TIMESTAMP => …)`.
    fn at_argument(&self, at: usize) -> Result<Option<Clause>> {
        let axis = match self.keyword(at + 2) {
            Keyword::TIMESTAMP => Axis::Event,
            Keyword::VERSION | Keyword::SEQUENCE => Axis::Sequence,
            _ => return Err(self.unsupported(at..at + 4, SEQUENCE)),
        };
        Ok(Some(Clause { axis, expression: at + 4, is_closed: true }))
    }

    /// Whether this is `(`, a word, `=>`.
    fn is_named_argument(&self, at: usize) -> bool {
        *self.token(at) == Token::LParen && self.is_word(at + 1) && *self.token(at + 2) == Token::RArrow
    }

    /// Whether this is an axis of time with a range: `SYSTEM_TIME BETWEEN`, `VALID_TIME ALL`.
    fn is_range(&self, at: usize) -> bool {
        let is_one_of = |at, words: &[&str]| match self.token(at) {
            Token::Word(word) if word.quote_style.is_none() => {
                words.iter().any(|expected| word.value.eq_ignore_ascii_case(expected))
            }
            _ => false,
        };
        is_one_of(
            at,
            &[
                "SYSTEM_TIME",
                "SYSTEM_VERSION",
                "VALID_TIME",
                "APPLICATION_TIME",
                "BUSINESS_TIME",
                "VERSION",
                "TIMESTAMP",
            ],
        ) && is_one_of(at + 1, &["BETWEEN", "FROM", "ALL", "CONTAINED"])
    }

    /// A word that is no keyword, or in quotes, without a parenthesis: the name of a column.
    fn is_plain(&self, at: usize) -> bool {
        self.is_word(at) && self.keyword(at) == Keyword::NoKeyword && *self.token(at + 1) != Token::LParen
    }

    /// `(a, b)` or `(a INT, b TEXT)`: the columns of an alias.
    fn is_list_of_names(&self, at: usize) -> bool {
        if *self.token(at) != Token::LParen {
            return false;
        }
        let mut at = at + 1;
        while self.is_word(at)
            && !self.surely_begins_value(at)
            && !begins_a_query(self.keyword(at))
            && self.keyword(at) != Keyword::NOT
        {
            match self.token(at + 1) {
                Token::Comma => at += 2,
                token => return matches!(token, Token::RParen | Token::Word(_)),
            }
        }
        false
    }

    /// `TIMESTAMP '…'`, `TIMESTAMP WITH TIME ZONE '…'`.
    fn is_typed_literal(&self, at: usize) -> bool {
        is_string(self.token(at + 1)) || matches!(self.keyword(at + 1), Keyword::WITH | Keyword::WITHOUT)
    }

    /// Whether the value of an expression may begin here, other than with a column; no clause of a query begins so.
    fn begins_value(&self, at: usize) -> bool {
        *self.token(at) == Token::LParen || self.surely_begins_value(at)
    }

    fn surely_begins_value(&self, at: usize) -> bool {
        match self.token(at) {
            Token::Number(..)
            | Token::Placeholder(_)
            | Token::Question
            | Token::Minus
            | Token::Plus
            | Token::Colon => true,
            Token::Word(word) => match word.keyword {
                Keyword::CURRENT_TIMESTAMP
                | Keyword::CURRENT_DATE
                | Keyword::CURRENT_TIME
                | Keyword::LOCALTIMESTAMP
                | Keyword::LOCALTIME
                | Keyword::NULL
                | Keyword::CASE => true,
                Keyword::TIMESTAMP
                | Keyword::TIMESTAMPTZ
                | Keyword::DATE
                | Keyword::DATETIME
                | Keyword::INTERVAL => is_string(self.token(at + 1)),
                keyword => {
                    *self.token(at + 1) == Token::LParen && !RESERVED_FOR_TABLE_ALIAS.contains(&keyword)
                }
            },
            token => is_string(token),
        }
    }

    /// Whether this word begins something that can only be meant as time travel: no other statement has such words. Asked
    /// where no table's name stands before it.
    fn stray(&self, at: usize, lists_tables: bool) -> bool {
        use Keyword::{AS, AT, FOR, OF, SEQUENCE as SEQ, SYSTEM, SYSTEM_TIME, TIME, TIMESTAMP, VERSION};
        match self.keyword(at) {
            AS if self.is(at + 1, &[OF]) => {
                let next = at + 2;
                match self.keyword(next) {
                    SYSTEM => self.is(next + 1, &[TIME]),
                    SEQ | VERSION => self.begins_value(next + 1),
                    TIMESTAMP if self.surely_begins_value(next + 1) => true,
                    // A keyword with a parenthesis may go on behind the alias `of`.
                    keyword => {
                        self.surely_begins_value(next)
                            && (keyword == Keyword::NoKeyword || *self.token(next + 1) != Token::LParen)
                    }
                }
            }
            FOR => self.is(at + 1, &[SYSTEM_TIME, AS, OF]) || self.is_range(at + 1),
            AT if lists_tables && self.is_named_argument(at + 1) => {
                matches!(self.keyword(at + 2), TIMESTAMP | VERSION | SEQ)
            }
            _ => false,
        }
    }
}

fn is_string(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::QuoteDelimitedStringLiteral(_)
            | Token::NationalQuoteDelimitedStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use datafusion::sql::sqlparser::tokenizer::Tokenizer;
    use fastrand::Rng;

    use super::*;

    fn tokens(sql: &str) -> Vec<TokenWithSpan> {
        Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().expect(sql)
    }

    /// Without blanks, comments and places.
    fn words(tokens: &[TokenWithSpan]) -> Vec<Token> {
        tokens
            .iter()
            .map(|token| token.token.clone())
            .filter(|token| !matches!(token, Token::Whitespace(_)))
            .collect()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "the spellings are one list")]
    fn every_spelling_becomes_a_call() {
        let cases = [
            // The axes.
            ("SELECT * FROM t AS OF SEQUENCE 5", "SELECT * FROM t(seq => 5)"),
            ("SELECT * FROM t VERSION AS OF 5", "SELECT * FROM t(seq => 5)"),
            ("SELECT * FROM t FOR VERSION AS OF 5", "SELECT * FROM t(seq => 5)"),
            ("SELECT * FROM t AS OF VERSION 5", "SELECT * FROM t(seq => 5)"),
            ("SELECT * FROM t AT (VERSION => 5)", "SELECT * FROM t(seq => 5)"),
            ("SELECT * FROM t AT (SEQUENCE => 5 + 1) u", "SELECT * FROM t(seq => 5 + 1) u"),
            (
                "SELECT * FROM t AS OF TIMESTAMP '2024-01-01'",
                "SELECT * FROM t(as_of => TIMESTAMP '2024-01-01')",
            ),
            ("SELECT * FROM t AS OF DATE '2024-01-01'", "SELECT * FROM t(as_of => DATE '2024-01-01')"),
            ("SELECT * FROM t AS OF '2024-01-01'", "SELECT * FROM t(as_of => '2024-01-01')"),
            ("SELECT * FROM t TIMESTAMP AS OF '2024-01-01'", "SELECT * FROM t(as_of => '2024-01-01')"),
            ("SELECT * FROM t FOR TIMESTAMP AS OF '2024-01-01'", "SELECT * FROM t(as_of => '2024-01-01')"),
            (
                "SELECT * FROM t AT (TIMESTAMP => '2024-01-01'::TIMESTAMP)",
                "SELECT * FROM t(as_of => '2024-01-01'::TIMESTAMP)",
            ),
            (
                "SELECT * FROM t FOR SYSTEM_TIME AS OF '2024-01-01'",
                "SELECT * FROM t(known_at => '2024-01-01')",
            ),
            ("SELECT * FROM t AS OF SYSTEM TIME '-10s'", "SELECT * FROM t(known_at => '-10s')"),
            (
                "SELECT * FROM t AS OF SYSTEM TIME TIMESTAMP '2024-01-01'",
                "SELECT * FROM t(known_at => TIMESTAMP '2024-01-01')",
            ),
            // Their expressions.
            ("FROM t AS OF now() - INTERVAL '1' HOUR", "FROM t(as_of => now() - INTERVAL '1' HOUR)"),
            ("FROM t AS OF CURRENT_TIMESTAMP", "FROM t(as_of => CURRENT_TIMESTAMP)"),
            ("FROM t AS OF (CURRENT_TIMESTAMP)", "FROM t(as_of => (CURRENT_TIMESTAMP))"),
            ("FROM t AS OF TIMESTAMP now()", "FROM t(as_of => now())"),
            ("FROM t AS OF TIMESTAMP ('2024-01-01')", "FROM t(as_of => ('2024-01-01'))"),
            ("FROM t AS OF TIMESTAMP $1", "FROM t(as_of => $1)"),
            ("FROM t AS OF $1", "FROM t(as_of => $1)"),
            ("FROM t AS OF $at AS u", "FROM t(as_of => $at) AS u"),
            ("FROM t AS OF SEQUENCE ?", "FROM t(seq => ?)"),
            (
                "FROM t AS OF CAST('2024-01-01' AS TIMESTAMP) u",
                "FROM t(as_of => CAST('2024-01-01' AS TIMESTAMP)) u",
            ),
            (
                "FROM t AS OF to_timestamp(1700000000) WHERE a = 1",
                "FROM t(as_of => to_timestamp(1700000000)) WHERE a = 1",
            ),
            (
                "FROM t AS OF TIMESTAMP WITH TIME ZONE '2024-01-01T00:00:00Z'",
                "FROM t(as_of => TIMESTAMP WITH TIME ZONE '2024-01-01T00:00:00Z')",
            ),
            (
                "FROM t AS OF CASE WHEN true THEN now() ELSE NULL END u",
                "FROM t(as_of => CASE WHEN true THEN now() ELSE NULL END) u",
            ),
            ("FROM t AS OF (SELECT max(ts) FROM u)", "FROM t(as_of => (SELECT max(ts) FROM u))"),
            ("FROM t AS OF SEQUENCE -1", "FROM t(seq => -1)"),
            ("FROM t VERSION AS OF 'abc'", "FROM t(seq => 'abc')"),
            ("FROM t AS OF 5", "FROM t(as_of => 5)"),
            // Names, aliases, blanks, comments.
            (
                r#"SELECT * FROM "My Table" AS OF SEQUENCE 5 AS "Old""#,
                r#"SELECT * FROM "My Table"(seq => 5) AS "Old""#,
            ),
            ("SELECT * FROM a.b.t AS OF SEQUENCE 5", "SELECT * FROM a.b.t(seq => 5)"),
            ("select * from t as of sequence 5 as u", "select * from t(seq => 5) as u"),
            ("SELECT * FROM version VERSION AS OF 5 version", "SELECT * FROM version(seq => 5) version"),
            ("SELECT * FROM of AS OF SEQUENCE 5 AS of", "SELECT * FROM of(seq => 5) AS of"),
            (
                "SELECT * FROM t -- AS OF SEQUENCE 4\nAS /* of */ OF SEQUENCE 5 -- end",
                "SELECT * FROM t(seq => 5)",
            ),
            ("SELECT 1;SELECT * FROM t AS OF SEQUENCE 5;", "SELECT 1;SELECT * FROM t(seq => 5);"),
            // More tables.
            (
                "SELECT * FROM t AS OF SEQUENCE 5 a JOIN t VERSION AS OF 9 AS b ON a.id = b.id",
                "SELECT * FROM t(seq => 5) a JOIN t(seq => 9) AS b ON a.id = b.id",
            ),
            (
                "SELECT * FROM t AS OF SEQUENCE 5, u AS OF '2024-01-01' WHERE a IN (1, 2)",
                "SELECT * FROM t(seq => 5), u(as_of => '2024-01-01') WHERE a IN (1, 2)",
            ),
            (
                "SELECT * FROM a JOIN b USING (x, y) LEFT JOIN c AS OF SEQUENCE 1 ON f(a, c), d AS OF SEQUENCE 2",
                "SELECT * FROM a JOIN b USING (x, y) LEFT JOIN c(seq => 1) ON f(a, c), d(seq => 2)",
            ),
            (
                "SELECT * FROM (a AS OF SEQUENCE 1 CROSS JOIN (SELECT * FROM b AS OF SEQUENCE 2) x), c AS OF SEQUENCE 3",
                "SELECT * FROM (a(seq => 1) CROSS JOIN (SELECT * FROM b(seq => 2)) x), c(seq => 3)",
            ),
            (
                "WITH c AS (SELECT * FROM t AS OF SEQUENCE 5) SELECT (SELECT count(*) FROM t AS OF SEQUENCE 6) FROM c",
                "WITH c AS (SELECT * FROM t(seq => 5)) SELECT (SELECT count(*) FROM t(seq => 6)) FROM c",
            ),
            ("EXPLAIN ANALYZE SELECT * FROM t AS OF SEQUENCE 5", "EXPLAIN ANALYZE SELECT * FROM t(seq => 5)"),
            (
                "SELECT EXTRACT(YEAR FROM ts) FROM t AS OF SEQUENCE 5 GROUP BY 1, 2 ORDER BY a IS DISTINCT FROM b LIMIT 3",
                "SELECT EXTRACT(YEAR FROM ts) FROM t(seq => 5) GROUP BY 1, 2 ORDER BY a IS DISTINCT FROM b LIMIT 3",
            ),
            (
                "SELECT * FROM t AS OF SEQUENCE 1 UNION ALL SELECT * FROM t AS OF SEQUENCE 2",
                "SELECT * FROM t(seq => 1) UNION ALL SELECT * FROM t(seq => 2)",
            ),
        ];
        for (sql, expected) in cases {
            let rewritten = rewrite(tokens(sql)).unwrap_or_else(|error| panic!("{sql}: {error}"));
            let text: String = rewritten.iter().map(ToString::to_string).collect();
            assert_eq!(words(&rewritten), words(&tokens(expected)), "{sql} became {text}");
            // The call is a fixed point.
            assert_eq!(rewrite(rewritten.clone()).as_ref(), Ok(&rewritten), "{sql}");
        }
    }

    #[test]
    fn all_else_stays() {
        let cases = [
            "SELECT 't AS OF SEQUENCE 5', \"AS OF\", $$FROM t AS OF '1'$$ FROM t -- AS OF SEQUENCE 5",
            "SELECT a AS of FROM t",
            "SELECT a AS of, b AS of FROM t AS of WHERE of.a = 1",
            "SELECT * FROM t AS of",
            "SELECT * FROM t of JOIN u AS of ON t.a = of.a",
            "SELECT * FROM t AS of (a, b)",
            "SELECT * FROM f(1) AS of (a INT, b TEXT)",
            "SELECT * FROM t AS of LEFT JOIN u ON true",
            "SELECT * FROM t AS of TABLESAMPLE (5 PERCENT)",
            "SELECT * FROM t AS of UNION (SELECT 1)",
            "SELECT version, timestamp AS of FROM t ORDER BY version FOR UPDATE",
            "SELECT version AS of FROM t AS version",
            "SELECT * FROM t AS \"OF\" WHERE at(1)",
            "SELECT ts AT TIME ZONE 'UTC' FROM t AS at (a, b)",
            "SELECT at(version => 3) FROM t WHERE at(version => 4)",
            "SELECT * FROM t ASOF JOIN u MATCH_CONDITION (t.ts >= u.ts)",
            "SELECT substring(a FROM b FOR 3), trim(BOTH 'x' FROM version), a IS NOT DISTINCT FROM b AS of FROM t",
            "SELECT * FROM (VALUES (1, 2), (3, 4)) AS of (a, b)",
            "WITH of AS (SELECT 1), version AS (SELECT 2) SELECT * FROM of, version",
            "SELECT * FROM t(seq => 5) AS u, u(as_of => now())",
            "SELECT CAST(a AS DATE) FROM t WHERE versions BETWEEN 1 AND 2",
            ")) AS OF )",
            "",
        ];
        for sql in cases {
            let before = tokens(sql);
            assert_eq!(rewrite(before.clone()), Ok(before), "{sql}");
        }
    }

    #[test]
    fn what_looks_like_it_and_is_not_supported_is_an_error_with_its_place() {
        const MISPLACED: &str = "time travel stands once, right after the name of a table in FROM or JOIN and before its \
                                 alias: `FROM t AS OF SEQUENCE 42 AS x`";
        let unsupported = |spelling, instead| format!("`{spelling}` is not supported: {instead}");
        let column = |name| {
            format!(
                "the instant is not a constant, `{name}` is a column: write a literal, now() and INTERVALs, or a parameter \
                 whose value is given"
            )
        };
        let cases = [
            (
                "FROM t FOR SYSTEM_TIME BETWEEN '1' AND '2'",
                1,
                8,
                unsupported("FOR SYSTEM_TIME BETWEEN", INSTANT),
            ),
            ("FROM t FOR SYSTEM_TIME FROM '1' TO '2'", 1, 8, unsupported("FOR SYSTEM_TIME FROM", INSTANT)),
            (
                "FROM t FOR SYSTEM_TIME CONTAINED IN (1, 2)",
                1,
                8,
                unsupported("FOR SYSTEM_TIME CONTAINED", INSTANT),
            ),
            ("FROM t\n  for system_time all", 2, 3, unsupported("for system_time all", INSTANT)),
            ("FROM t FOR SYSTEM_VERSION AS OF 3", 1, 8, unsupported("FOR SYSTEM_VERSION AS OF", INSTANT)),
            ("FROM t FOR VALID_TIME AS OF '1'", 1, 8, unsupported("FOR VALID_TIME AS OF", INSTANT)),
            ("FROM t FOR VALID_TIME ALL", 1, 8, unsupported("FOR VALID_TIME ALL", INSTANT)),
            ("FROM t SYSTEM_TIME AS OF '1'", 1, 8, unsupported("SYSTEM_TIME AS OF", INSTANT)),
            ("FROM t AS OF SYSTEM_TIME '1'", 1, 8, unsupported("AS OF SYSTEM_TIME", INSTANT)),
            ("FROM t VERSIONS BETWEEN SCN 1 AND 2", 1, 8, unsupported("VERSIONS BETWEEN", INSTANT)),
            ("FROM t AT (OFFSET => -60)", 1, 8, unsupported("AT ( OFFSET =>", SEQUENCE)),
            ("FROM t BEFORE (STATEMENT => 'x')", 1, 8, unsupported("BEFORE ( STATEMENT =>", SEQUENCE)),
            (
                "FROM t CHANGES (INFORMATION => DEFAULT)",
                1,
                8,
                unsupported("CHANGES ( INFORMATION =>", SEQUENCE),
            ),
            ("FROM t AS OF SCN 5", 1, 14, column("SCN")),
            ("FROM t AS OF yesterday", 1, 14, column("yesterday")),
            ("FROM t AS OF \"x\"", 1, 14, column("\"x\"")),
            ("FROM t AS OF SEQUENCE n", 1, 23, column("n")),
            ("FROM t AS OF TIMESTAMP u.ts", 1, 24, column("u.ts")),
            ("FROM t TIMESTAMP AS OF ts", 1, 24, column("ts")),
            ("FROM t u AS OF SEQUENCE 5", 1, 10, MISPLACED.to_owned()),
            ("FROM t AS u AS OF TIMESTAMP '2024-01-01'", 1, 13, MISPLACED.to_owned()),
            ("FROM t u FOR SYSTEM_TIME AS OF '1'", 1, 10, MISPLACED.to_owned()),
            ("FROM t u VERSION AS OF 5", 1, 18, MISPLACED.to_owned()),
            ("FROM t u AT (VERSION => 5)", 1, 10, MISPLACED.to_owned()),
            ("FROM t AS OF SEQUENCE 5 AS OF '2024-01-01'", 1, 25, MISPLACED.to_owned()),
            ("FROM t(seq => 5) AS OF SEQUENCE 5", 1, 18, MISPLACED.to_owned()),
            ("FROM (SELECT 1) AS OF SEQUENCE 5", 1, 17, MISPLACED.to_owned()),
            ("FROM 'file.csv' AS OF SEQUENCE 5", 1, 17, MISPLACED.to_owned()),
            ("SELECT a AS OF SYSTEM TIME '1' FROM t", 1, 10, MISPLACED.to_owned()),
            ("SELECT 1, b AS OF now() FROM t", 1, 13, MISPLACED.to_owned()),
            ("FROM t GROUP BY 1, b AS OF now()", 1, 22, MISPLACED.to_owned()),
            ("FROM a JOIN b ON a.x = b.x AS OF SYSTEM TIME '1'", 1, 28, MISPLACED.to_owned()),
            ("FROM t WHERE a = 1 AS OF TIMESTAMP '2024-01-01'", 1, 20, MISPLACED.to_owned()),
            (
                "FROM t AS OF TIMESTAMP now(",
                1,
                24,
                "the instant cannot be read: sql parser error: Expected: an expression, found: EOF"
                    .to_owned(),
            ),
            (
                "FROM t AT (VERSION => 5, 6)",
                1,
                23,
                "the instant cannot be read: Expected: ), found: ,".to_owned(),
            ),
            (
                "FROM t VERSION AS OF",
                1,
                21,
                "the instant cannot be read: sql parser error: Expected: an expression, found: EOF"
                    .to_owned(),
            ),
        ];
        for (sql, line, at_column, problem) in cases {
            let Err(error) = rewrite(tokens(sql)) else { panic!("{sql} is let through") };
            assert_eq!(error.to_string(), format!("line {line}, column {at_column}: {problem}"), "{sql}");
        }
    }

    #[test]
    fn a_deep_expression_is_refused_and_many_clauses_are_read_in_one_walk() {
        let deep = format!("FROM t AS OF {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        let error = rewrite(tokens(&deep)).unwrap_err();
        assert_eq!(
            error.problem,
            AsOfProblem::Unreadable { why: "sql parser error: recursion limit exceeded".into() }
        );
        let many = format!("FROM {}", vec!["t AS OF SEQUENCE 5"; 20_000].join(", "));
        let calls = rewrite(tokens(&many)).unwrap();
        assert_eq!(calls.iter().filter(|token| token.token == Token::RArrow).count(), 20_000);
    }

    /// What SQL is made of, and time travel; with bars between.
    const PIECES: &str = "\
        SELECT¦FROM¦JOIN¦LEFT¦ON¦USING¦WHERE¦GROUP BY¦ORDER BY¦LIMIT¦UNION¦WITH¦AS¦OF¦t¦u¦a¦\"of\"¦\
        'x'¦'2024-01-01'¦1¦2.5¦$1¦?¦(¦)¦,¦;¦.¦=>¦=¦-¦*¦::¦[¦]¦{¦:¦@x¦TIMESTAMP¦DATE¦INTERVAL¦\
        INTERVAL '1' DAY¦VERSION¦SEQUENCE¦SYSTEM¦TIME¦SYSTEM_TIME¦FOR¦AT¦BEFORE¦BETWEEN¦ALL¦now()¦\
        CAST(¦CASE¦WHEN¦THEN¦END¦NOT¦NULL¦CURRENT_TIMESTAMP¦LATERAL¦VALUES¦DISTINCT¦IS¦IN¦EXISTS¦\
        /* c */¦-- c\n¦\n¦FROM t¦AS OF¦FROM t AS OF SEQUENCE 5¦VERSION AS OF 3¦AT (TIMESTAMP =>¦é¦\
        $$d$$¦N'n'¦E'e'¦VERSIONS¦AND¦OVER¦|>¦->";

    /// The same soups in every run; the seed is in the message of a failure.
    fn soups(pieces: &[&str], check: impl Fn(u64, Vec<TokenWithSpan>)) {
        let mut read = 0;
        for seed in 0..4000 {
            let mut rng = Rng::with_seed(seed);
            let soup: Vec<_> = (0..rng.usize(..40)).map(|_| pieces[rng.usize(..pieces.len())]).collect();
            if let Ok(tokens) = Tokenizer::new(&GenericDialect {}, &soup.join(" ")).tokenize_with_location() {
                check(seed, tokens);
                read += 1;
            }
        }
        assert!(read > 1000, "of 4000 soups only {read} can be tokenized");
    }

    #[test]
    fn no_soup_of_tokens_panics() {
        let travels = Cell::new(0);
        soups(&PIECES.split('¦').collect::<Vec<_>>(), |seed, tokens| {
            let Ok(rewritten) = rewrite(tokens.clone()) else { return };
            travels.set(travels.get() + usize::from(rewritten != tokens));
            // What is added is calls, what is dropped are the words of clauses, and the rest keeps its order.
            let mut before = tokens.iter();
            for token in &rewritten {
                let is_added = match &token.token {
                    Token::LParen | Token::RParen | Token::RArrow | Token::Whitespace(_) => true,
                    Token::Word(word) => Axis::named(&word.value).is_some(),
                    _ => false,
                };
                assert!(is_added || before.any(|other| other == token), "seed {seed}: {token}");
            }
        });
        assert!(travels.get() > 50, "only {} soups travel", travels.get());
    }

    /// Without these words nothing is time travel.
    #[test]
    fn without_time_travel_no_token_changes() {
        let travels = |piece: &str| ["OF", "FOR", "=>", "VERSIONS"].iter().any(|word| piece.contains(word));
        let others: Vec<_> = PIECES.split('¦').filter(|piece| !travels(piece)).collect();
        soups(&others, |seed, tokens| assert_eq!(rewrite(tokens.clone()), Ok(tokens), "seed {seed}"));
    }

    /// What is no SQL either.
    #[test]
    fn no_text_panics() {
        for seed in 0..4000 {
            let mut rng = Rng::with_seed(seed);
            let pick = |rng: &mut Rng| *rng.choice(b" \n'\"()$?.,;-*/asofAT=>19\\_").unwrap_or(&b' ') as char;
            let text: String = (0..rng.usize(..80)).map(|_| pick(&mut rng)).collect();
            if let Ok(tokens) = Tokenizer::new(&GenericDialect {}, &text).tokenize_with_location() {
                let _ = rewrite(tokens);
            }
        }
    }
}
