//! What is wrong with a statement's time travel, where, and what to write instead.

use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::Location;
use thiserror::Error;

/// Time travel that cannot be answered. The statement is refused: it is never answered with today's rows.
///
/// From a statement that `DataFusion` plans it comes as [`DataFusionError::External`] and can be downcast.
///
/// ```
/// use keplordb_sql::as_of;
///
/// let refused = as_of::parse("SELECT * FROM t FOR SYSTEM_TIME BETWEEN 1 AND 2").unwrap_err();
/// assert!(refused.to_string().contains(
///     "line 1, column 17: `FOR SYSTEM_TIME BETWEEN` is not supported: write `t AS OF TIMESTAMP '…'` for one instant, and \
///      WHERE on `ts` for a range of times"
/// ));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct AsOfError {
    /// The line of the statement's text, from 1.
    pub line: u64,
    /// The column in that line, in characters, from 1.
    pub column: u64,
    /// What is wrong, and what to write instead.
    pub problem: AsOfProblem,
}

/// The ways in which time travel can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AsOfProblem {
    /// A spelling of time travel, here or in another database, that has no meaning here.
    #[error("`{spelling}` is not supported: {instead}")]
    Unsupported {
        /// How it begins.
        spelling: String,
        /// What to write.
        instead: &'static str,
    },
    /// Time travel of something else than a table, twice, or behind the alias.
    #[error(
        "time travel stands once, right after the name of a table in FROM or JOIN and before its alias: \
         `FROM t AS OF SEQUENCE 42 AS x`"
    )]
    Misplaced,
    /// The expression that says when cannot be parsed.
    #[error("the instant cannot be read: {why}")]
    Unreadable {
        /// What the parser expected and found.
        why: String,
    },
    /// The expression that says when has no value before the statement runs.
    #[error(
        "the instant is not a constant, {why}: write a literal, now() and INTERVALs, or a parameter whose value is given"
    )]
    NotConstant {
        /// What is in its way.
        why: String,
    },
    /// What an instant cannot be made of.
    #[error("{found} is no instant: {instead}")]
    NotAnInstant {
        /// The value, with its type.
        found: String,
        /// What to write.
        instead: &'static str,
    },
    /// The call names something that cannot travel: a view, a common table expression, a table of another kind.
    #[error("`{table}` is not a table of this engine: only those know what they were")]
    NotATable {
        /// Its name.
        table: String,
    },
    /// `known_at`: engine tables do not store when an event arrived.
    #[error(
        "`{table}` has no time of arrival: write `{table} AS OF SEQUENCE n` for the events up to a sequence, or \
         `{table} AS OF TIMESTAMP '…'` for the events up to a time"
    )]
    NoReceivedTime {
        /// Its name.
        table: String,
    },
    /// An argument of the call that is none, is there twice, or does not go with the others.
    #[error(
        "`{argument}` cannot be used in this call: write `t(seq => n)`, `t(as_of => time)` or both, each once"
    )]
    Argument {
        /// The argument.
        argument: String,
    },
}

impl AsOfError {
    pub(crate) fn at(location: Location, problem: AsOfProblem) -> Self {
        Self { line: location.line, column: location.column, problem }
    }
}

impl From<AsOfError> for DataFusionError {
    fn from(error: AsOfError) -> Self {
        Self::External(Box::new(error))
    }
}
