//! Why a question has no answer.

use std::sync::Arc;

use datafusion::common::DataFusionError;
use keplordb_sql::{Session, SqlError};
use thiserror::Error;

use crate::error::{Refused, ServerError};
use crate::lake::OverlayError;
use crate::rql::{NameError, RqlError};

/// Why a question in SQL or RQL is not answered. A message says what happened and what to do.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The statement is refused, or failed: see there.
    #[error(transparent)]
    Sql(Arc<SqlError>),
    /// The text or the JSON is no query.
    #[error(transparent)]
    Rql(#[from] RqlError),
    /// The query says no entity type, or one that there is not.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The query has no `entity`, and none is said otherwise.
    #[error("the query says of which entities: write `entity:users`, or ask under /e/User")]
    NoEntity,
    /// The query asks for a type in one place and for another in the other.
    #[error("the query is about {written}, and was put to {asked}; leave `entity` out of it")]
    OtherEntity {
        /// What it says.
        written: String,
        /// To which type it was put.
        asked: String,
    },
    /// An `include` that is none of the type's relations.
    #[error("{entity_type} has no relation {name}; {}", if known.is_empty() { "its schema says none".to_owned() } else { format!("there are {}", known.join(", ")) })]
    Relation {
        /// The type.
        entity_type: String,
        /// What was asked for.
        name: String,
        /// What may be.
        known: Vec<String>,
    },
    /// More than one answer may have.
    #[error("{what} are more than the {limit} that an answer may have; {instead}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many may be.
        limit: u64,
        /// What to do.
        instead: &'static str,
    },
    /// A cursor that no answer has given, or of another query.
    #[error(
        "the cursor is none of this query's: {why}; give it as the last answer gave it, with the same query, or leave it out"
    )]
    Cursor {
        /// What is wrong with it.
        why: String,
    },
    /// Too much was not published yet.
    #[error(transparent)]
    Overlay(Arc<OverlayError>),
    /// The root cannot be read.
    #[error(transparent)]
    Server(Arc<ServerError>),
    /// The log cannot be read.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A state in a file or in the log is no JSON object.
    #[error("the state of {entity_id:?} cannot be read: {why}; a replay makes the files anew from the log")]
    State {
        /// The entity.
        entity_id: String,
        /// What is wrong with it.
        why: String,
    },
    /// It took too long.
    #[error("the question took longer than {limit_ms} ms; ask for less")]
    TooSlow {
        /// The limit.
        limit_ms: u128,
    },
    /// What was at work ended.
    #[error("the question ended: {why}; ask again")]
    Ended {
        /// Why.
        why: String,
    },
}

impl From<SqlError> for QueryError {
    fn from(error: SqlError) -> Self {
        match &error {
            SqlError::Execution(inner) => {
                Self::carried_by(inner).unwrap_or_else(|| Self::Sql(Arc::new(error)))
            }
            _ => Self::Sql(Arc::new(error)),
        }
    }
}

impl From<ServerError> for QueryError {
    fn from(error: ServerError) -> Self {
        Self::Server(Arc::new(error))
    }
}

impl From<OverlayError> for QueryError {
    fn from(error: OverlayError) -> Self {
        match error {
            OverlayError::Row(error) => error.into(),
            OverlayError::Log(refused) => refused.into(),
            error => Self::Overlay(Arc::new(error)),
        }
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        Self::External(Box::new(error))
    }
}

impl QueryError {
    /// What a plan of ours failed with: one of ours, or what the session says of it.
    pub(super) fn of(error: DataFusionError, session: &Session) -> Self {
        Self::carried_by(&error).unwrap_or_else(|| session.error(error).into())
    }

    /// One of ours, on its way through `DataFusion`.
    fn carried_by(error: &DataFusionError) -> Option<Self> {
        match error.find_root() {
            DataFusionError::External(inner) => inner.downcast_ref::<Self>().cloned(),
            _ => None,
        }
    }
}
