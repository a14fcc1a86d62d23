//! The end of writing: once a sync has failed, nothing more is written.
//!
//! The operating system may have dropped the pages that it could not write, and a second sync would then succeed without
//! them (known as fsyncgate); so the first failure is final until the files are opened again from what is on disk.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::file::FileError;
use crate::planted::{self, Bug};

/// Is called with the first cause, in words.
type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// Shared by all files that stop being written together; clones are the same.
#[derive(Clone, Default)]
pub struct Poison {
    first: Arc<OnceLock<Arc<str>>>,
    tell: Option<Tell>,
}

impl Poison {
    /// One that calls `tell` with the first cause, once, on the thread that met it and under whatever locks that holds.
    pub fn telling(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { first: Arc::default(), tell: Some(Arc::new(tell)) }
    }

    /// Whether writing may go on.
    ///
    /// # Errors
    /// [`FileError::Poisoned`] if it has stopped.
    pub fn check(&self) -> Result<(), FileError> {
        match self.first.get() {
            None => Ok(()),
            Some(first) => Err(FileError::Poisoned { first: Arc::clone(first) }),
        }
    }

    /// Stops writing for good and returns what every later write gets; the first cause stays.
    #[must_use = "it is the error to return"]
    pub fn set(&self, cause: FileError) -> FileError {
        if planted::is(Bug::FailedSyncRetried) {
            return cause;
        }
        FileError::Poisoned { first: self.stop(&cause) }
    }

    /// [`set`](Self::set) for a cause of the caller's own kind: returns the first cause in words.
    pub fn stop(&self, cause: &dyn fmt::Display) -> Arc<str> {
        let mut is_first = false;
        let first = self.first.get_or_init(|| {
            is_first = true;
            cause.to_string().into()
        });
        if let Some(tell) = self.tell.as_ref().filter(|_| is_first) {
            tell(first);
        }
        Arc::clone(first)
    }

    /// Whether writing has stopped.
    pub fn is_set(&self) -> bool {
        self.first.get().is_some()
    }
}

impl fmt::Debug for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poison").field("first", &self.first.get()).finish_non_exhaustive()
    }
}
