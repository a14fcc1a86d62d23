//! Every answer of an example is compared with what it must be; a wrong one ends the program.

use std::fmt::Debug;

use anyhow::{Result, ensure};

/// Counts the answers that were right.
///
/// ```
/// use keplordb_examples::Checks;
///
/// let mut checks = Checks::default();
/// checks.equal("rows", &3, &3)?;
/// let wrong = checks.equal("rows", &3, &4).unwrap_err();
/// assert_eq!(wrong.to_string(), "rows: the engine answers 3, right is 4");
/// assert_eq!(checks.passed(), 1);
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Checks {
    passed: u64,
}

impl Checks {
    /// Compares the engine's answer with the one that is known to be right.
    ///
    /// # Errors
    /// When they differ: names the question and shows both.
    pub fn equal<T: PartialEq + Debug>(&mut self, question: &str, answer: &T, right: &T) -> Result<()> {
        ensure!(answer == right, "{question}: the engine answers {answer:?}, right is {right:?}");
        self.passed += 1;
        Ok(())
    }

    /// How many answers were right so far.
    pub fn passed(&self) -> u64 {
        self.passed
    }
}
