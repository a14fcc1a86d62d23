//! The end of writing: once a sync has failed, nothing more is written.
//!
//! The operating system may have dropped the pages that it could not write, and a second sync would then succeed without
//! them (known as fsyncgate); so the first failure is final until the engine is opened again from what is on disk.

use std::sync::{Arc, OnceLock};

use super::notices::Notices;
use crate::error::{DbError, Result};
use keplordb_log::planted::{self, Bug};

/// Shared by everything that writes for one engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Poison {
    first: Arc<OnceLock<Arc<str>>>,
    notices: Notices,
}

impl Poison {
    /// Fails when writing has stopped.
    pub(crate) fn check(&self) -> Result<()> {
        match self.first.get() {
            None => Ok(()),
            Some(first) => Err(DbError::Poisoned { first: Arc::clone(first) }),
        }
    }

    /// Stops writing for good and returns what every later write gets; the first cause stays.
    pub(crate) fn set(&self, cause: &DbError) -> DbError {
        if planted::is(Bug::FailedSyncRetried) {
            return cause.clone();
        }
        let mut is_first = false;
        let first = self.first.get_or_init(|| {
            is_first = true;
            cause.to_string().into()
        });
        if is_first {
            self.notices.error("writing stops until the engine is opened again", None, cause);
        }
        DbError::Poisoned { first: Arc::clone(first) }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.first.get().is_some()
    }

    /// What an operator should hear of, of the same engine.
    pub(crate) fn notices(&self) -> &Notices {
        &self.notices
    }
}
