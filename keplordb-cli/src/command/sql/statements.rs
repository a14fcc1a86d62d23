//! Texts of SQL cut into statements, and whether one is whole: by the tokens of the parser that is going to read them.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// A statement of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement<'t> {
    /// Without its semicolon.
    pub(super) text: &'t str,
    /// The line on which it begins, from 1.
    pub(super) line: u64,
}

/// A token and where it stands, in bytes.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) start: usize,
    pub(super) end: usize,
    line: u64,
}

/// What a text is to the tokenizer.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Those before a fault.
    pub(super) placed: Vec<Placed>,
    /// Where it cannot go on.
    pub(super) fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A quote or a comment is not closed; more text may close it.
    Open,
    Other,
}

impl Tokens {
    pub(super) fn of(text: &str) -> Self {
        let mut tokens: Vec<TokenWithSpan> = Vec::new();
        let done = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location_into_buf(&mut tokens);
        let fault = done.err().map(|fault| {
            // It has no kinds, only these texts.
            let is_open = ["Unterminated", "Unexpected EOF", "before EOF"]
                .iter()
                .any(|part| fault.message.contains(part));
            if is_open { Fault::Open } else { Fault::Other }
        });
        let mut cursor = Places { text, at: 0, line: 1, column: 1 };
        let placed = tokens.into_iter().map(|TokenWithSpan { token, span }| {
            let start = cursor.advance_to(span.start);
            Placed { token, start, end: cursor.advance_to(span.end), line: span.start.line }
        });
        Self { placed: placed.collect(), fault }
    }
}

/// From lines and columns, both counted in letters from 1, to bytes; only forwards.
struct Places<'t> {
    text: &'t str,
    at: usize,
    line: u64,
    column: u64,
}

impl Places<'_> {
    fn advance_to(&mut self, to: Location) -> usize {
        for letter in self.text[self.at..].chars() {
            if (self.line, self.column) >= (to.line, to.column) {
                break;
            }
            self.at += letter.len_utf8();
            if letter == '\n' {
                (self.line, self.column) = (self.line + 1, 1);
            } else {
                self.column += 1;
            }
        }
        self.at
    }
}

/// The statements of a text; those without a word are left out. Behind a fault all is one statement, whose fault the parser
/// tells.
pub(super) fn split(text: &str) -> Vec<Statement<'_>> {
    let tokens = Tokens::of(text);
    let mut statements = Vec::new();
    let mut begun: Option<(usize, u64)> = None;
    for Placed { token, start, line, .. } in &tokens.placed {
        match token {
            Token::SemiColon => {
                let ended = begun
                    .take()
                    .map(|(begin, line)| Statement { text: text[begin..*start].trim_end(), line });
                statements.extend(ended);
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => {
                begun.get_or_insert((*start, *line));
            }
        }
    }
    let rest = begun.or_else(|| {
        let _fault = tokens.fault?;
        let start = tokens.placed.last().map_or(0, |last| last.end);
        Some((start, 1 + text[..start].matches('\n').count() as u64))
    });
    statements.extend(rest.map(|(begin, line)| Statement { text: text[begin..].trim(), line }));
    statements
}

/// Whether what was typed so far is to be answered: a command of the prompt, nothing, or whole statements.
pub(super) fn is_whole(text: &str) -> bool {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.starts_with('\\') {
        return true;
    }
    let tokens = Tokens::of(text);
    match tokens.fault {
        Some(Fault::Open) => false,
        Some(Fault::Other) => trimmed.ends_with(';'),
        None => {
            let says = |placed: &&Placed| !matches!(placed.token, Token::Whitespace(_) | Token::EOF);
            tokens.placed.iter().rfind(says).is_none_or(|last| last.token == Token::SemiColon)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(&str, u64)> {
        split(text).into_iter().map(|statement| (statement.text, statement.line)).collect()
    }

    #[test]
    fn only_semicolons_of_sql_end_a_statement() {
        assert_eq!(texts("SELECT 1"), [("SELECT 1", 1)]);
        assert_eq!(texts(" SELECT 1 ;\n\n;SELECT\n2;"), [("SELECT 1", 1), ("SELECT\n2", 3)]);
        assert_eq!(
            texts("SELECT ';', \";\" -- ;\n, 'it''s;' /* ; */; SELECT 2"),
            [("SELECT ';', \";\" -- ;\n, 'it''s;' /* ; */", 1), ("SELECT 2", 2)]
        );
        assert_eq!(
            texts("-- é\n/* ü\n*/ SELECT 'é;😀'; SELECT 'ß';"),
            [("SELECT 'é;😀'", 3), ("SELECT 'ß'", 3)]
        );
        assert_eq!(texts("SELECT 1;\r\nSELECT 2;\r\n"), [("SELECT 1", 1), ("SELECT 2", 2)]);
        for nothing in ["", " \n", ";;", "-- nothing", "/* ; */;"] {
            assert!(texts(nothing).is_empty(), "{nothing:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_parser() {
        assert_eq!(texts("SELECT 1; SELECT 'open"), [("SELECT 1", 1), ("SELECT 'open", 1)]);
        assert_eq!(texts("SELECT 1;\n'open"), [("SELECT 1", 1), ("'open", 2)]);
        assert_eq!(texts("'open"), [("'open", 1)]);
    }

    #[test]
    fn a_text_is_whole_with_its_last_semicolon() {
        for whole in
            ["", "  ", "\\d", " \\timing", "SELECT 1;", "SELECT 1 ; -- done\n", "SELECT ';';", ";", "-- note"]
        {
            assert!(is_whole(whole), "{whole:?}");
        }
        for part in
            ["SELECT 1", "SELECT 1;\nSELECT", "SELECT 'a;", "SELECT \"a;", "SELECT 1 /* ;", "SELECT 1 -- ;"]
        {
            assert!(!is_whole(part), "{part:?}");
        }
    }

    #[test]
    fn tokens_stand_where_they_were_written() {
        let text = "SELECT 'é' AS \"ü\",\n  12 -- 😀\n  FROM t;";
        let tokens = Tokens::of(text);
        assert!(tokens.fault.is_none());
        let words: Vec<&str> = tokens.placed.iter().map(|placed| &text[placed.start..placed.end]).collect();
        assert_eq!(words.concat(), text);
        for word in ["'é'", "\"ü\"", "12", "FROM", ";"] {
            assert!(words.contains(&word), "{word}: {words:?}");
        }
    }
}
