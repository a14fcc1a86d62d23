//! Where an event stands in the history of a log, whatever was rotated since.

use serde::{Deserialize, Serialize};

/// A place in the history of a log that no rotation takes away.
///
/// History is a row of *generations*: texts of lines. The last one is the active log; a rotation archives it as a frame and begins
/// the next. What was at byte 120 of `app.jsonl` in generation 3 is at byte 120 of the text of that frame ever after.
///
/// Positions are ordered as the events are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// Which text: rotations before it, those of pruned history included.
    pub generation: u64,
    /// Where in the text, in bytes: the beginning of a line, or the end of the text.
    pub offset: u64,
}
