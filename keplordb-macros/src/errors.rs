//! The mistakes found in one struct, gathered so that each is shown once and none hides another.

use std::fmt::Display;

use quote::ToTokens;
use syn::Error;

/// Mistakes in the order in which they were found.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    /// Adds a mistake at `tokens`.
    pub(crate) fn push(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.add(Error::new_spanned(tokens, message));
    }

    /// Adds a mistake that a parser found.
    pub(crate) fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// All mistakes as one, or `None` if there were none.
    pub(crate) fn into_error(self) -> Option<Error> {
        self.0
    }
}
