//! What every kind of source gives: rows one after the other, from a place where reading can go on.

use std::path::Path;

use super::error::ImportError;
use super::mapping::{Binding, Cell, Row};
use super::rejects::Rejection;

/// Between two rows of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// In bytes of the unpacked text; in rows, where the source is Parquet.
    pub(super) offset: u64,
    /// From 1.
    pub(super) line: u64,
}

/// What became of a row of the source.
pub(super) enum Outcome {
    /// It is made.
    Taken,
    Rejected(Rejection),
}

/// A source that is being read.
pub(super) trait Reading: Send {
    /// Behind the last row that was given.
    fn place(&self) -> Place;

    /// Bytes of the file that were read.
    fn file_bytes(&self) -> u64;

    /// Makes `row` the next one; `None` at the end.
    fn next(&mut self, context: &Context<'_>, row: &mut Row) -> Result<Option<Outcome>, ImportError>;
}

/// What rows are read by.
pub(super) struct Context<'a> {
    pub(super) path: &'a Path,
    pub(super) binding: &'a Binding,
    /// Of the source.
    pub(super) hash: u64,
}

impl<'a> Context<'a> {
    /// Makes `row` that of a line, or gives the source's column that is at fault and why. A row without an id gets one by the source's
    /// hash and the line: the same whenever it is read.
    pub(super) fn fill<'c>(
        &self,
        row: &mut Row,
        line: u64,
        cell: impl FnMut(usize) -> Cell<'c>,
    ) -> Result<(), (&'a str, String)> {
        self.binding
            .fill(row, Some(format_args!("{:016x}-{line}", self.hash)), cell)
            .map_err(|refusal| (self.binding.source_of(refusal.field), refusal.reason))
    }
}
