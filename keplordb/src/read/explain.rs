//! What decided an answer: how many segments each way of answering took.

use std::fmt;

/// Counts of what a query touched, while it runs.
pub(crate) type Tally = Explain;

/// How a query was answered: per way of answering, the segments that took it; and the work that was left.
///
/// Ways are listed from the cheapest on. A segment counts once, under the most expensive way that it needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Explain {
    /// Segments of the table.
    pub segments: u64,
    /// Segments that cannot have a matching row, by their header, dictionaries, bloom filter or times.
    pub pruned: u64,
    /// Segments answered by the sums in their header.
    pub by_totals: u64,
    /// Segments answered by running sums along time.
    pub by_running_sums: u64,
    /// Segments answered by the sums of their dictionaries' values, or by the values' first and last times.
    pub by_value_sums: u64,
    /// Segments of which the rows of one value were read, one by one.
    pub by_value_rows: u64,
    /// Segments that were scanned, chunk by chunk.
    pub scanned: u64,
    /// Chunks (256 rows) for which conditions were evaluated.
    pub chunks_masked: u64,
    /// Rows of segments whose values were read.
    pub rows_decoded: u64,
    /// Blocks in memory that may have a matching row.
    pub blocks: u64,
    /// Rows of those blocks.
    pub block_rows: u64,
}

impl Explain {
    /// Adds what others did of the same query.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Self { segments, pruned, by_totals, by_running_sums, by_value_sums, by_value_rows, .. } = other;
        self.segments += segments;
        self.pruned += pruned;
        self.by_totals += by_totals;
        self.by_running_sums += by_running_sums;
        self.by_value_sums += by_value_sums;
        self.by_value_rows += by_value_rows;
        self.scanned += other.scanned;
        self.chunks_masked += other.chunks_masked;
        self.rows_decoded += other.rows_decoded;
        self.blocks += other.blocks;
        self.block_rows += other.block_rows;
    }
}

impl fmt::Display for Explain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} segments: {} pruned, {} by totals, {} by running sums, {} by value sums, {} by value rows, {} scanned; \
             {} chunks masked, {} rows decoded; {} blocks in memory with {} rows",
            self.segments,
            self.pruned,
            self.by_totals,
            self.by_running_sums,
            self.by_value_sums,
            self.by_value_rows,
            self.scanned,
            self.chunks_masked,
            self.rows_decoded,
            self.blocks,
            self.block_rows
        )
    }
}
