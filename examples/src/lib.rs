//! What the example programs share: answers that are checked, numbers as people read them, and percentiles to check against.

#![forbid(unsafe_code)]

mod checks;
pub mod human;
mod rank;

pub use checks::Checks;
pub use rank::nearest_rank;
