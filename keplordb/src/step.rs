//! What functions that are given one row after the other return: whether to go on.

use std::ops::ControlFlow;

use crate::error::{DbError, Result};

/// What a function that is given rows returns: nothing, a `Result` whose error ends the query and is returned by it, or a
/// [`ControlFlow`] whose `Break` ends it without an error.
pub trait Step: sealed::Sealed {
    /// Whether to go on; an error ends the query.
    #[doc(hidden)]
    fn goes_on(self) -> Result<bool>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl Sealed for Result<(), crate::error::DbError> {}
    impl Sealed for std::ops::ControlFlow<()> {}
}

impl Step for () {
    fn goes_on(self) -> Result<bool> {
        Ok(true)
    }
}

impl Step for Result<(), DbError> {
    fn goes_on(self) -> Result<bool> {
        self.map(|()| true)
    }
}

impl Step for ControlFlow<()> {
    fn goes_on(self) -> Result<bool> {
        Ok(self.is_continue())
    }
}

/// Whether a query was ended by a step without an error.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_ended: bool,
}

impl Stop {
    /// Lets the query go on, or ends it.
    pub(crate) fn unless(&mut self, step: impl Step) -> Result<()> {
        if step.goes_on()? {
            return Ok(());
        }
        self.is_ended = true;
        // Ends the walk over the rows; `until_break` takes it back.
        Err(DbError::invalid("query", "it was ended by its function"))
    }
}

/// Runs a query whose function may end it; that is no error.
pub(crate) fn until_break(query: impl FnOnce(&mut Stop) -> Result<()>) -> Result<()> {
    let mut stop = Stop::default();
    let ended = query(&mut stop);
    if stop.is_ended { Ok(()) } else { ended }
}
