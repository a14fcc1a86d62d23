//! Count, sums and extremes of a set of rows: exact while they are added up, clamped once when they are returned.

use std::fmt;

use crate::schema::Shape;

/// Measures that every table has, before its counters: metric, latency, latency detail.
pub(crate) const FIXED_MEASURES: usize = 3;
/// Place of the metric among the measures.
pub(crate) const METRIC: usize = 0;
/// Place of the latency among the measures.
pub(crate) const LATENCY: usize = 1;
/// Place of the latency detail among the measures.
pub(crate) const LATENCY_DETAIL: usize = 2;

/// Sum, minimum and maximum of one measure.
///
/// 2⁶⁴ rows of `i64` fit the sum. Without rows the minimum is above the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) sum: i128,
    pub(crate) min: i64,
    pub(crate) max: i64,
}

impl Default for Measure {
    fn default() -> Self {
        Self { sum: 0, min: i64::MAX, max: i64::MIN }
    }
}

impl Measure {
    pub(crate) fn add(&mut self, value: i64) {
        self.sum += i128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// Count and measures of a set of rows: metric, latency, latency detail, then the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) count: u64,
    pub(crate) measures: Vec<Measure>,
}

impl Sums {
    /// No rows of a table of this shape.
    pub(crate) fn empty(shape: Shape) -> Self {
        Self { count: 0, measures: vec![Measure::default(); FIXED_MEASURES + shape.counters] }
    }

    /// Adds the rows of `other`; measures that only one side has (columns added later) count as they are, with a 0 for
    /// each row of the side that lacks them.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.measures.len() < other.measures.len() {
            self.measures.resize(other.measures.len(), zeros(self.count));
        }
        for (place, mine) in self.measures.iter_mut().enumerate() {
            mine.merge(other.measures.get(place).unwrap_or(&zeros(other.count)));
        }
        self.count += other.count;
    }
}

/// The measure of `count` rows that lack the column.
fn zeros(count: u64) -> Measure {
    if count == 0 { Measure::default() } else { Measure { sum: 0, min: 0, max: 0 } }
}

/// An exact sum as callers get it: the nearest `i64`.
pub(crate) fn clamp_i64(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

/// An exact sum of unsigned values as callers get it: the nearest `u64`.
pub(crate) fn clamp_u64(sum: i128) -> u64 {
    u64::try_from(sum).unwrap_or(if sum < 0 { 0 } else { u64::MAX })
}

/// What a measure is called, by its place among the sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeasureName(pub(crate) usize);

impl fmt::Display for MeasureName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            METRIC => out.write_str("metric"),
            LATENCY => out.write_str("latency"),
            LATENCY_DETAIL => out.write_str("latency detail"),
            place => write!(out, "counter {}", place - FIXED_MEASURES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_clamped_once() {
        let mut measure = Measure::default();
        measure.add(i64::MAX);
        measure.add(i64::MAX);
        assert_eq!(clamp_i64(measure.sum), i64::MAX);
        measure.add(i64::MIN);
        measure.add(i64::MIN);
        assert_eq!((clamp_i64(measure.sum), measure.min, measure.max), (-2, i64::MIN, i64::MAX));
        assert_eq!((clamp_u64(-1), clamp_u64(i128::MAX)), (0, u64::MAX));
    }

    #[test]
    fn rows_without_a_column_count_as_zero() {
        let mut old = Sums { count: 2, measures: vec![Measure { sum: 5, min: 1, max: 4 }] };
        let new = Sums { count: 1, measures: vec![Measure { sum: 9, min: 9, max: 9 }; 2] };
        old.merge(&new);
        assert_eq!(old.measures[1], Measure { sum: 9, min: 0, max: 9 });
        assert_eq!((old.count, old.measures[0].sum), (3, 14));
    }
}
