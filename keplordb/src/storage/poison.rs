//! The end of writing: once a sync has failed, nothing more is written.
//!
//! The operating system may have dropped the pages that it could not write, and a second sync would then succeed without
//! them (known as fsyncgate); so the first failure is final until the engine is opened again from what is on disk.

use std::sync::{Arc, OnceLock};

use crate::error::{DbError, Result};

/// Shared by everything that writes for one engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Poison(Arc<OnceLock<Arc<str>>>);

impl Poison {
    /// Fails when writing has stopped.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(first) => Err(DbError::Poisoned { first: Arc::clone(first) }),
        }
    }

    /// Stops writing for good and returns what every later write gets; the first cause stays.
    pub(crate) fn set(&self, cause: &DbError) -> DbError {
        let mut is_first = false;
        let first = self.0.get_or_init(|| {
            is_first = true;
            cause.to_string().into()
        });
        // Not while the cell is being set: a subscriber may come back here.
        if is_first {
            tracing::error!(%cause, "writing stops until the engine is opened again");
        }
        DbError::Poisoned { first: Arc::clone(first) }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }
}
