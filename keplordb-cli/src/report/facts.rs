//! What a page says: all of it was asked of the table before.

use std::ops::RangeInclusive;

use super::style::Colour;
use super::time::Buckets;

/// What a page says of a table.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) title: String,
    /// The table's directory, as it was typed.
    pub(crate) dir: String,
    pub(crate) made_ns: i64,
    /// Which events are meant, as it was typed; of none, all.
    pub(crate) conditions: Vec<String>,
    /// All events of the table.
    pub(crate) table_events: u64,
    /// Those that are meant; all that follows is about them.
    pub(crate) events: u64,
    /// The earliest and the latest time.
    pub(crate) times: Option<(i64, i64)>,
    /// Only where there is more than one moment.
    pub(crate) timeline: Option<Timeline>,
    /// Of each dim, and of the status where it is used.
    pub(crate) tops: Vec<Top>,
    /// Only where it is used.
    pub(crate) latency: Option<Latency>,
    pub(crate) sums: Vec<Sum>,
    /// Columns that are summed, and in which there is nothing.
    pub(crate) unused: Vec<String>,
    /// About the table, whichever events are meant.
    pub(crate) storage: Storage,
}

/// How many events there were when.
#[derive(Debug)]
pub(crate) struct Timeline {
    pub(crate) buckets: Buckets,
    /// Of each bucket.
    pub(crate) events: Vec<u64>,
    /// The events by their statuses; none where statuses are not used.
    pub(crate) by_status: Vec<(Split, Vec<u64>)>,
}

/// Events that are told from others by their statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) name: String,
    pub(crate) colour: Colour,
    pub(crate) statuses: RangeInclusive<u16>,
}

/// The most frequent values of a column.
#[derive(Debug)]
pub(crate) struct Top {
    pub(crate) column: String,
    /// The most frequent one first.
    pub(crate) values: Vec<(String, u64)>,
    /// How many different ones there are; `None` if they are too many to be counted.
    pub(crate) distinct: Option<u64>,
}

/// How long things took, in milliseconds.
#[derive(Debug)]
pub(crate) struct Latency {
    pub(crate) overall: Quantiles,
    /// Of each bucket of the timeline that has events.
    pub(crate) by_time: Vec<Option<Quantiles>>,
    /// Whether every quantile is the true one, and not only within 1 % of it.
    pub(crate) is_exact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantiles {
    pub(crate) p50: i64,
    pub(crate) p90: i64,
    pub(crate) p99: i64,
    pub(crate) max: i64,
}

/// What the numbers of a column come to.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) column: String,
    pub(crate) total: i128,
    pub(crate) min: i64,
    pub(crate) max: i64,
    /// Of each bucket of the timeline.
    pub(crate) by_time: Vec<i128>,
}

/// Where the table's events lie.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    pub(crate) segments: Vec<Segment>,
    /// Of all files of segments.
    pub(crate) segment_bytes: u64,
    pub(crate) log_bytes: u64,
    /// Rows that are in the logs only.
    pub(crate) log_rows: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) first_ns: i64,
    pub(crate) last_ns: i64,
}
