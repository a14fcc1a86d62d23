//! What can go wrong between SQL and the engine: one typed error for the whole crate.

use datafusion::common::DataFusionError;
use keplordb::DbError;
use thiserror::Error;

use crate::as_of::AsOfError;
use crate::export::ExportError;
use crate::import::ImportError;

/// The crate's result.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

/// Everything a session, an export or an import can refuse or fail with. A message says what happened, where, and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The engine refused or failed: a damaged file, a missing one, an argument. The message names the file.
    #[error(transparent)]
    Engine(#[from] DbError),
    /// The text is no SQL. The message says where.
    #[error("the statement cannot be read: {why}")]
    Syntax {
        /// What the parser met, and where.
        why: String,
    },
    /// A statement that is not a question.
    #[error("{statement} is refused, a session only answers questions and changes nothing: {instead}")]
    NotAQuery {
        /// The first words of the statement.
        statement: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// The statement is longer than the session grants, or nests too deep to be planned.
    #[error("the statement is too large: {why}")]
    TooLarge {
        /// How large it is, and what to do instead.
        why: String,
    },
    /// The statement asks for what there is not: tables, columns, functions, operators of those types.
    #[error("{why}")]
    Plan {
        /// What is wrong with it.
        why: String,
    },
    /// The query needs more memory than the session grants.
    #[error(
        "the query needs more than the {limit_bytes} bytes of memory that the session grants: ask for fewer rows or groups, \
         raise `memory_limit_bytes` or give a `spill_dir`; {why}"
    )]
    Memory {
        /// The limit of the session, in bytes.
        limit_bytes: usize,
        /// Which part of the query asked for how much.
        why: String,
    },
    /// The answer has more rows than the session grants.
    #[error("the answer has more than {limit_rows} rows: add a LIMIT, ask for groups, or raise `row_limit`")]
    TooManyRows {
        /// The limit of the session.
        limit_rows: u64,
    },
    /// The query took longer than the session grants.
    #[error("the query took longer than {limit_ms} ms: narrow its range of times, or raise `timeout`")]
    TooSlow {
        /// The limit of the session, in milliseconds.
        limit_ms: u128,
    },
    /// Time travel that cannot be answered. The message says where in the statement, and what to write instead.
    #[error(transparent)]
    AsOf(#[from] AsOfError),
    /// A query failed on its way: a cast of a value that does not fit, a division by zero.
    #[error("the query failed: {}", told(.0))]
    Execution(#[source] DataFusionError),
    /// An import was refused, failed or stopped.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// An export was refused or failed.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// What a table of a program's own fails with speaks for itself.
fn told(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::External(inner) => inner.to_string(),
        _ => error.to_string(),
    }
}

impl SqlError {
    /// What `DataFusion` reports, in our words; an error of ours that it carries comes out as it went in.
    pub(crate) fn of(error: DataFusionError, limit_bytes: usize) -> Self {
        let root = error.find_root();
        if let DataFusionError::External(inner) = root {
            if let Some(ours) = inner.downcast_ref::<DbError>() {
                return Self::Engine(ours.clone());
            }
            if let Some(ours) = inner.downcast_ref::<AsOfError>() {
                return Self::AsOf(ours.clone());
            }
        }
        let text = |error: &DataFusionError| error.message().into_owned();
        match root {
            DataFusionError::SQL(why, _) => Self::Syntax { why: why.to_string() },
            DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Collection(_)
            | DataFusionError::Configuration(_) => Self::Plan { why: text(root) },
            DataFusionError::ResourcesExhausted(why) => Self::Memory { limit_bytes, why: why.clone() },
            _ => match error {
                DataFusionError::External(inner) => match inner.downcast::<Self>() {
                    Ok(ours) => *ours,
                    Err(inner) => Self::Execution(DataFusionError::External(inner)),
                },
                error => Self::Execution(error),
            },
        }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Engine(error) => external(error),
            SqlError::AsOf(error) => error.into(),
            SqlError::Execution(error) => error,
            error => Self::External(Box::new(error)),
        }
    }
}

/// An error of the engine on its way through `DataFusion`; whoever gets it can downcast it.
pub(crate) fn external(error: DbError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
