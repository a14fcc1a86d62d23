//! What queries answer with: plain results, each built once from exact sums.

use std::array;

pub use crate::filter::Cursor;
use crate::read::rollup::RollupRow;
use crate::sums::{FIXED_MEASURES, LATENCY, LATENCY_DETAIL, METRIC, Measure, Sums, clamp_i64, clamp_u64};

/// Count, sums and extremes of the rows of an aggregation, for a table with `C` counters.
///
/// Sums are added up exactly and clamped once, here: they saturate and never wrap. Extremes are `None` when no row
/// matched. Rows that are older than a counter count with a 0 in it.
///
/// ```no_run
/// # fn main() -> Result<(), keplordb::DbError> {
/// # let engine: keplordb::Engine<2, 1, 0> = keplordb::Engine::open(keplordb::EngineConfig::default())?;
/// let totals = engine.aggregate(&keplordb::QueryFilter::default())?;
/// println!("{} events, {} tokens, slowest {:?} ms", totals.event_count, totals.counters[0], totals.latency_ms_max);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Totals<const C: usize> {
    /// How many rows matched.
    pub event_count: u64,
    /// Sum of the metric.
    pub metric: i64,
    /// Sum of each counter.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::array"))]
    pub counters: [u64; C],
    /// Sum of the latencies, in milliseconds.
    pub latency_ms: u64,
    /// Sum of the latency details, in milliseconds.
    pub latency_detail_ms: u64,
    /// Smallest metric.
    pub metric_min: Option<i64>,
    /// Largest metric.
    pub metric_max: Option<i64>,
    /// Smallest latency, in milliseconds.
    pub latency_ms_min: Option<u32>,
    /// Largest latency, in milliseconds.
    pub latency_ms_max: Option<u32>,
    /// Smallest latency detail, in milliseconds.
    pub latency_detail_ms_min: Option<u32>,
    /// Largest latency detail, in milliseconds.
    pub latency_detail_ms_max: Option<u32>,
    /// Smallest value of each counter.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::array"))]
    pub counters_min: [Option<u32>; C],
    /// Largest value of each counter.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::array"))]
    pub counters_max: [Option<u32>; C],
}

impl<const C: usize> Totals<C> {
    pub(crate) fn new(sums: &Sums) -> Self {
        let any = sums.count > 0;
        // A measure that no row had yet is a column of zeros.
        let zeros = Measure { sum: 0, min: 0, max: 0 };
        let measure = |place: usize| sums.measures.get(place).unwrap_or(&zeros);
        let min = |place: usize| any.then(|| clamp_u32(measure(place).min));
        let max = |place: usize| any.then(|| clamp_u32(measure(place).max));
        Self {
            event_count: sums.count,
            metric: clamp_i64(measure(METRIC).sum),
            counters: array::from_fn(|counter| clamp_u64(measure(FIXED_MEASURES + counter).sum)),
            latency_ms: clamp_u64(measure(LATENCY).sum),
            latency_detail_ms: clamp_u64(measure(LATENCY_DETAIL).sum),
            metric_min: any.then(|| measure(METRIC).min),
            metric_max: any.then(|| measure(METRIC).max),
            latency_ms_min: min(LATENCY),
            latency_ms_max: max(LATENCY),
            latency_detail_ms_min: min(LATENCY_DETAIL),
            latency_detail_ms_max: max(LATENCY_DETAIL),
            counters_min: array::from_fn(|counter| min(FIXED_MEASURES + counter)),
            counters_max: array::from_fn(|counter| max(FIXED_MEASURES + counter)),
        }
    }
}

/// Which rows a rollup adds up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RollupKey {
    /// The UTC midnight at which the day begins, in epoch **seconds**.
    pub day: i64,
    /// The values of the rollup dims, in the order of [`EngineConfig::rollup_dims`](crate::EngineConfig::rollup_dims).
    pub dims: Vec<String>,
}

/// What a rollup adds up to; sums saturate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RollupValue<const C: usize> {
    /// How many rows.
    pub event_count: u64,
    /// Sum of the metric.
    pub metric: i64,
    /// Sum of each counter.
    #[cfg_attr(feature = "serde", serde(with = "crate::serial::array"))]
    pub counters: [u64; C],
}

impl RollupRow {
    /// The row as callers get it.
    pub(crate) fn into_pair<const C: usize>(self) -> (RollupKey, RollupValue<C>) {
        let value = RollupValue {
            event_count: self.count,
            metric: clamp_i64(self.metric),
            counters: array::from_fn(|counter| self.counters.get(counter).copied().unwrap_or(0)),
        };
        (RollupKey { day: self.day, dims: self.dims }, value)
    }
}

/// A stored number of a `u32` column as callers get it; only a damaged file holds one out of range.
pub(crate) fn clamp_u32(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(if value < 0 { 0 } else { u32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Shape;

    #[test]
    fn totals_saturate_and_have_no_extremes_without_rows() {
        let shape = Shape { counters: 1, ..Shape::default() };
        let none = Totals::<1>::new(&Sums::empty(shape));
        assert_eq!((none.event_count, none.metric_min, none.counters_max), (0, None, [None]));

        let mut sums = Sums::empty(shape);
        sums.count = 2;
        for measure in &mut sums.measures {
            measure.add(7);
            measure.add(9);
        }
        sums.measures[METRIC] = Measure { sum: i128::MAX, min: i64::MIN, max: i64::MAX };
        let totals = Totals::<2>::new(&sums);
        assert_eq!((totals.metric, totals.metric_min), (i64::MAX, Some(i64::MIN)));
        assert_eq!((totals.latency_ms, totals.latency_ms_max), (16, Some(9)));
        assert_eq!((totals.counters, totals.counters_min), ([16, 0], [Some(7), Some(0)]));
    }
}
