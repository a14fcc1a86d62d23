//! What is known of the answers without us: those published for a million rows, and what the peers' own program says of
//! another number.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::operation::Operation;

/// Rows that [`ANSWERS`] are of; their seed is 42.
pub(crate) const ROWS: u64 = 1_000_000;

/// The published answers.
pub(crate) const ANSWERS: [(Operation, &str); 21] = [
    (Operation::R1, "1000000 5000563762499 2048048187 2501035545"),
    (Operation::R2, "5888 29387362654 11891913 14924888"),
    (Operation::R3, "100000 500588727097 204820542 249559244"),
    (Operation::R4, "589 2862636111 1232374 1478711"),
    (Operation::R5, "34675 174319587158 71182340 86991833"),
    (Operation::R6, "6350 31999096868 12939024 15787345"),
    (Operation::R7, "8 rows crc32=03181872"),
    (Operation::R8, "10 rows crc32=40d90c20"),
    (Operation::R9m, "17 rows crc32=4e619542"),
    (Operation::R9h, "472222 1000000 5000563762499"),
    (Operation::R10, "100 rows crc32=367207ff"),
    (Operation::R11, "1000 rows crc32=7dee3dc1"),
    (Operation::R12, "100 rows crc32=954c6535"),
    (Operation::R13, "100 rows crc32=e54dd0c1"),
    (Operation::R14, "1 rows crc32=2950a46b"),
    (Operation::R15, "0 rows crc32=00000000"),
    (Operation::R16, "2507 4748 4948"),
    (Operation::R17, "1000"),
    (Operation::R18, "2362 11896412084"),
    (Operation::R19, "1 rows crc32=2950a46b"),
    (Operation::R20, "0 rows crc32=00000000"),
];

/// The answers that are known for so many rows: of the file, or published, or none.
///
/// # Errors
/// When the file cannot be read or lacks an operation.
pub(crate) fn known(rows: u64, expected: Option<&Path>) -> Result<BTreeMap<Operation, String>> {
    let Some(path) = expected else {
        let published = ANSWERS.iter().map(|(operation, answer)| (*operation, (*answer).to_owned()));
        return Ok(if rows == ROWS { published.collect() } else { BTreeMap::new() });
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let known: BTreeMap<_, _> = text.lines().filter_map(answer_in).collect();
    for (operation, _) in ANSWERS {
        ensure!(known.contains_key(&operation), "{} does not say what {operation} is", path.display());
    }
    Ok(known)
}

/// A line is the operation's name, what it asks, and, after two spaces or more, the answer.
fn answer_in(line: &str) -> Option<(Operation, String)> {
    let (name, rest) = line.split_once(' ')?;
    let operation: Operation = name.parse().ok()?;
    let (_, answer) = rest.trim().rsplit_once("  ")?;
    Some((operation, answer.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_from_what_the_peers_print() {
        let line = "R6   aggregate, one model and status = 429     605 2912424881 1223801 1505825";
        assert_eq!(answer_in(line), Some((Operation::R6, "605 2912424881 1223801 1505825".to_owned())));
        let line = "R19  point lookup by label, hit                1 rows crc32=4b4f4810";
        assert_eq!(answer_in(line), Some((Operation::R19, "1 rows crc32=4b4f4810".to_owned())));
        assert_eq!(answer_in("R0   constant, no table: the cost of a call    1"), None);
        assert_eq!(answer_in("{\"user\": \"user_0007\"}"), None);
    }
}
