//! The end of writing, for the whole engine: what its files say, in the engine's own errors, and to the operator.

use super::notices::Notices;
use crate::error::{DbError, Result};
use keplordb_log::planted::{self, Bug};
use keplordb_log::poison;

/// Shared by everything that writes for one engine.
#[derive(Debug, Clone)]
pub(crate) struct Poison {
    files: poison::Poison,
    notices: Notices,
}

impl Default for Poison {
    fn default() -> Self {
        let notices = Notices::default();
        let files = poison::Poison::telling({
            let notices = notices.clone();
            move |cause| notices.error("writing stops until the engine is opened again", None, &cause)
        });
        Self { files, notices }
    }
}

impl Poison {
    /// Fails when writing has stopped.
    pub(crate) fn check(&self) -> Result<()> {
        Ok(self.files.check()?)
    }

    /// Stops writing for good and returns what every later write gets; the first cause stays.
    pub(crate) fn set(&self, cause: &DbError) -> DbError {
        if planted::is(Bug::FailedSyncRetried) {
            return cause.clone();
        }
        DbError::Poisoned { first: self.files.stop(cause) }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.files.is_set()
    }

    /// As the files of the engine share it.
    pub(crate) fn of_files(&self) -> &poison::Poison {
        &self.files
    }

    /// What an operator should hear of, of the same engine.
    pub(crate) fn notices(&self) -> &Notices {
        &self.notices
    }
}
