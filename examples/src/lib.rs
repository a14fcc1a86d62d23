//! What the example programs share: answers that are checked, and numbers as people read them.

#![forbid(unsafe_code)]

mod checks;
pub mod human;

pub use checks::Checks;
