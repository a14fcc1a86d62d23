//! Totals and rollups by column name, exact.

use std::sync::Arc;

use super::columns::{Columns, Slot};
use crate::error::{DbError, Result};
use crate::read::rollup::RollupRow;
use crate::sums::{FIXED_MEASURES, LATENCY, LATENCY_DETAIL, METRIC, Sums};

/// Sum and extremes of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnTotals {
    /// The sum, exact.
    pub sum: i128,
    /// The smallest value; `None` without rows.
    pub min: Option<i64>,
    /// The largest value; `None` without rows.
    pub max: Option<i64>,
}

/// Count, sums and extremes of the rows of an aggregation. Rows that are older than a counter count with a 0 in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnyTotals {
    /// How many rows matched.
    pub event_count: u64,
    columns: Arc<Columns>,
    sums: Sums,
}

impl AnyTotals {
    pub(super) fn new(columns: &Arc<Columns>, sums: Sums) -> Self {
        Self { event_count: sums.count, columns: Arc::clone(columns), sums }
    }

    /// Sum and extremes of the metric, a latency or a counter.
    ///
    /// # Errors
    /// [`UnknownColumn`](DbError::UnknownColumn); [`Invalid`](DbError::Invalid) for a column that is not summed.
    pub fn of(&self, column: &str) -> Result<ColumnTotals> {
        let measure = self.columns.measure(column)?;
        // A measure that no row had yet is a column of zeros.
        let (sum, min, max) = self.sums.measures.get(measure).map_or((0, 0, 0), |m| (m.sum, m.min, m.max));
        let any = self.event_count > 0;
        Ok(ColumnTotals { sum, min: any.then_some(min), max: any.then_some(max) })
    }

    /// Each column that is summed, by its name, in the order of the columns.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ColumnTotals)> {
        let names = self.columns.all().iter().map(|column| column.name.as_str());
        names.filter_map(|name| Some((name, self.of(name).ok()?)))
    }
}

/// Count and sums of a UTC day and a value of each dim that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnyRollup {
    /// The UTC midnight at which the day begins, in epoch **seconds**.
    pub day: i64,
    /// The values of the dims, in the order in which they were asked for.
    pub dims: Vec<String>,
    /// How many rows.
    pub event_count: u64,
    columns: Arc<Columns>,
    metric: i128,
    counters: Vec<u64>,
}

impl AnyRollup {
    pub(super) fn new(columns: &Arc<Columns>, row: RollupRow) -> Self {
        let RollupRow { day, dims, count, metric, counters } = row;
        Self { day, dims, event_count: count, columns: Arc::clone(columns), metric, counters }
    }

    /// The sum of the metric or of a counter. Sums of counters saturate at 2⁶⁴ − 1.
    ///
    /// # Errors
    /// [`UnknownColumn`](DbError::UnknownColumn); [`Invalid`](DbError::Invalid) for any other column.
    pub fn sum(&self, column: &str) -> Result<i128> {
        match self.columns.measure(column)? {
            METRIC => Ok(self.metric),
            LATENCY | LATENCY_DETAIL => {
                Err(DbError::invalid(column, "rollups sum the metric and the counters"))
            }
            measure => Ok(self.counters.get(measure - FIXED_MEASURES).copied().unwrap_or(0).into()),
        }
    }
}

impl Columns {
    /// The place among the measures of the column with this name.
    fn measure(&self, name: &str) -> Result<usize> {
        match self.named(name)?.slot {
            Slot::Metric => Ok(METRIC),
            Slot::LatencyMs => Ok(LATENCY),
            Slot::LatencyDetailMs => Ok(LATENCY_DETAIL),
            Slot::Counter(counter) => Ok(FIXED_MEASURES + counter),
            _ => Err(DbError::invalid(name, "only the metric, the latencies and the counters are summed")),
        }
    }
}
