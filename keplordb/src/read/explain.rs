//! What decided an answer: how many segments each way of answering took.

use std::fmt;

/// Counts of what a query touched, while it runs.
pub(crate) type Tally = Explain;

/// How a query was answered: per way of answering, the segments that took it; and the work that was left.
///
/// Made by [`Query::explain`](crate::Query::explain) and [`Selected::explain`](crate::groups::Selected::explain), which ask the query for real. A
/// `Display` of it is one line that leaves out what is 0. Ways are listed from the cheapest on. A segment counts once, under the
/// most expensive way that it needed, so that all ways together are [`segments`](Self::segments).
///
/// ```
/// use keplordb::aggregates::{count, sum};
/// use keplordb::{Filter, Schema, Store};
///
/// #[derive(Schema)]
/// #[keplordb(id = 1)]
/// pub struct AiCall {
///     #[dim]
///     pub user: String,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::<AiCall>::open(dir.path().join("calls"))?;
/// for ts_ns in 0..100 {
///     store.append(AiCall::new(ts_ns).user(if ts_ns % 2 == 0 { "alice" } else { "bob" }).metric(ts_ns))?;
/// }
/// let c = AiCall::cols();
/// let all = store.query(Filter::all());
/// assert_eq!(all.explain()?.block_rows, 100); // they are still in memory
/// store.flush()?;
/// assert_eq!(all.explain()?.to_string(), "segments: 1 by totals");
/// let by_user = all.group_by(c.user).select((count(), sum(c.metric)));
/// assert_eq!(by_user.explain()?.to_string(), "segments: 1 by value sums");
/// let explain = store.query(c.metric.gt(50)).explain()?;
/// assert_eq!((explain.scanned, explain.chunks_masked), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Explain {
    /// Segments of the table, as the query saw it.
    pub segments: u64,
    /// Segments that cannot have a matching row, by their header, dictionaries, bloom filter or times.
    pub pruned: u64,
    /// Segments answered by the sums in their header.
    pub by_totals: u64,
    /// Segments answered by running sums along time.
    pub by_running_sums: u64,
    /// Segments answered by the sums of their dictionaries' values, or by the values' first and last times.
    pub by_value_sums: u64,
    /// Segments that told the matching rows by those of their values; these were read one by one.
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
        let ways = [
            (self.pruned, "pruned"),
            (self.by_totals, "by totals"),
            (self.by_running_sums, "by running sums"),
            (self.by_value_sums, "by value sums"),
            (self.by_value_rows, "by value rows"),
            (self.scanned, "scanned"),
        ];
        let taken = ways.iter().filter(|(segments, _)| *segments > 0);
        let taken: Vec<String> = taken.map(|(segments, way)| format!("{segments} {way}")).collect();
        write!(out, "segments: {}", if taken.is_empty() { "none".to_owned() } else { taken.join(", ") })?;
        for (work, what) in [(self.chunks_masked, "chunks masked"), (self.rows_decoded, "rows decoded")] {
            if work > 0 {
                write!(out, "; {what}: {work}")?;
            }
        }
        if self.blocks > 0 {
            write!(out, "; rows in memory: {}, in blocks: {}", self.block_rows, self.blocks)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_done_is_said() {
        assert_eq!(Explain::default().to_string(), "segments: none");
        let summed = Explain { segments: 3, pruned: 1, by_totals: 2, ..Explain::default() };
        assert_eq!(summed.to_string(), "segments: 1 pruned, 2 by totals");
        let work =
            Explain { segments: 1, scanned: 1, chunks_masked: 4, rows_decoded: 900, ..Explain::default() };
        let work = Explain { blocks: 2, block_rows: 70, ..work };
        let text =
            "segments: 1 scanned; chunks masked: 4; rows decoded: 900; rows in memory: 70, in blocks: 2";
        assert_eq!(work.to_string(), text);
    }
}
