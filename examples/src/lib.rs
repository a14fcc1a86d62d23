//! What the example programs share: answers that are checked, numbers as people read them, and percentiles to check against.

#![forbid(unsafe_code)]

mod checks;
pub mod human;
mod rank;

pub use checks::Checks;
pub use rank::nearest_rank;

/// Compiles and runs the example of the repository's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Compiles and runs the tour of queries.
#[cfg(doctest)]
#[doc = include_str!("../../docs/queries.md")]
struct Queries;

/// Compiles and runs the guide to the log.
#[cfg(doctest)]
#[doc = include_str!("../../docs/log.md")]
struct Log;

/// Compiles and runs the guide to the fold.
#[cfg(doctest)]
#[doc = include_str!("../../docs/fold-guide.md")]
struct Fold;
