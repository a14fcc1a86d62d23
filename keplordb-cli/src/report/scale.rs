//! Axes of numbers: how far they reach, where they have marks, and where a value stands.

use super::quantity;

/// Durations that marks may be apart, in milliseconds: what people count in.
const DURATIONS_MS: [f64; 32] = [
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
    200.0,
    500.0,
    1e3,
    2e3,
    5e3,
    10e3,
    15e3,
    30e3,
    60e3,
    120e3,
    300e3,
    600e3,
    900e3,
    1_800e3,
    3_600e3,
    7_200e3,
    10_800e3,
    21_600e3,
    43_200e3,
    86_400e3,
    172_800e3,
    432_000e3,
    864_000e3,
    1_728_000e3,
    4_320_000e3,
];
/// Durations that a logarithmic axis may have marks at.
const DECADES_MS: [f64; 11] =
    [1.0, 10.0, 100.0, 1e3, 10e3, 60e3, 600e3, 3_600e3, 36_000e3, 86_400e3 * 3.0, 86_400e3 * 30.0];
/// The most of them that are shown.
const DECADES_MAX: usize = 6;
/// Where the largest value is so many times the smallest, a linear axis would show the smaller ones as nothing.
const LINEAR_UP_TO: f64 = 30.0;
/// Marks beyond 0.
const MARKS: f64 = 4.0;

/// An axis from the bottom of a chart to its top.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    bottom: f64,
    top: f64,
    is_logarithmic: bool,
    /// Where marks stand, from 0 to 1, and what is written there.
    pub(super) marks: Vec<(f64, String)>,
}

impl Axis {
    /// Of whole numbers from 0.
    pub(super) fn of_counts(most: f64) -> Self {
        Self::linear(most, round_step(most / MARKS).max(1.0), quantity::short)
    }

    /// Of sizes in bytes from 0.
    #[expect(clippy::cast_possible_truncation, reason = "a size in bytes, and as such it came")]
    pub(super) fn of_bytes(most: f64) -> Self {
        Self::linear(most, round_step(most / MARKS).max(1.0), |size| quantity::bytes(size as u64))
    }

    /// Of durations in milliseconds: from 0, or logarithmic where the smaller ones would vanish.
    pub(super) fn of_durations(least_ms: f64, most_ms: f64) -> Self {
        let least_ms = least_ms.max(1.0);
        if most_ms > least_ms * LINEAR_UP_TO {
            return Self::logarithmic(least_ms, most_ms);
        }
        let wanted = most_ms / MARKS;
        let step = DURATIONS_MS.into_iter().find(|step| *step >= wanted).unwrap_or(wanted);
        let top_ms = (most_ms / step).ceil() * step;
        Self::linear(most_ms, step, |mark_ms| quantity::duration_as(mark_ms, top_ms))
    }

    fn linear(most: f64, step: f64, label: impl Fn(f64) -> String) -> Self {
        let steps = (most / step).ceil().max(1.0);
        #[expect(clippy::cast_possible_truncation, reason = "a handful of marks")]
        let places = 0..=(steps as usize);
        let label = |place: usize| if place == 0 { "0".to_owned() } else { label(place as f64 * step) };
        let marks = places.map(|place| (place as f64 / steps, label(place)));
        Self { bottom: 0.0, top: steps * step, is_logarithmic: false, marks: marks.collect() }
    }

    fn logarithmic(least_ms: f64, most_ms: f64) -> Self {
        let below = DECADES_MS.into_iter().rev().find(|mark| *mark <= least_ms).unwrap_or(1.0);
        let above = DECADES_MS.into_iter().find(|mark| *mark >= most_ms).unwrap_or(most_ms);
        let mut axis = Self { bottom: below, top: above, is_logarithmic: true, marks: Vec::new() };
        let marks: Vec<f64> = DECADES_MS.into_iter().filter(|mark| (below..=above).contains(mark)).collect();
        let thinned = marks.iter().step_by(marks.len().div_ceil(DECADES_MAX).max(1));
        axis.marks = thinned.map(|mark| (axis.share(*mark), quantity::duration_ms(*mark))).collect();
        axis
    }

    pub(super) fn is_logarithmic(&self) -> bool {
        self.is_logarithmic
    }

    /// Where a value stands, from 0 at the bottom to 1 at the top.
    pub(super) fn share(&self, value: f64) -> f64 {
        let share = if self.is_logarithmic {
            (value.max(self.bottom) / self.bottom).ln() / (self.top / self.bottom).ln()
        } else {
            (value - self.bottom) / (self.top - self.bottom)
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// The smallest of 1, 2, 5, 10, 20 … that is not below this.
fn round_step(wanted: f64) -> f64 {
    if wanted.is_nan() || wanted <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(wanted.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0];
    digits
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= wanted * (1.0 - 1e-9))
        .unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.marks.iter().map(|(_, label)| label.replace('\u{a0}', " ")).collect()
    }

    #[test]
    fn counts_have_round_marks_and_reach_over_the_most() {
        for (most, right) in [
            (0.0, vec!["0", "1"]),
            (1.0, vec!["0", "1"]),
            (3.0, vec!["0", "1", "2", "3"]),
            (6_700.0, vec!["0", "2k", "4k", "6k", "8k"]),
            (1e6, vec!["0", "500k", "1M"]),
            (81.0, vec!["0", "50", "100"]),
        ] {
            let axis = Axis::of_counts(most);
            assert_eq!(labels(&axis), right, "{most}");
            assert!(axis.share(most) <= 1.0 && (most == 0.0 || axis.share(most) > 0.4), "{most}");
            assert_eq!((axis.share(0.0), most), (0.0, most));
        }
    }

    #[test]
    fn steps_are_one_two_or_five() {
        for (wanted, right) in
            [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (1.1, 2.0), (21.0, 50.0), (5e17, 5e17), (7.0, 10.0)]
        {
            assert!((round_step(wanted) / right - 1.0).abs() < 1e-9, "{wanted}: {}", round_step(wanted));
        }
    }

    #[test]
    fn sizes_and_durations_are_counted_in_their_units() {
        assert_eq!(labels(&Axis::of_bytes(5.4e6)), ["0", "2 MB", "4 MB", "6 MB"]);
        let hours = Axis::of_durations(7_740e3, 41_700e3);
        assert_eq!(labels(&hours), ["0", "3 h", "6 h", "9 h", "12 h"]);
        assert!(!hours.is_logarithmic());
    }

    #[test]
    fn durations_that_differ_much_stand_on_a_logarithmic_axis() {
        let axis = Axis::of_durations(12.0, 31_000.0);
        assert!(axis.is_logarithmic());
        assert_eq!(labels(&axis), ["10 ms", "100 ms", "1 s", "10 s", "60 s"]);
        assert_eq!((axis.share(10.0), axis.share(60_000.0), axis.share(0.0)), (0.0, 1.0, 0.0));
        assert!((axis.share(100.0) - 10_f64.ln() / 6_000_f64.ln()).abs() < 1e-12);
        assert_eq!(labels(&Axis::of_durations(0.0, 4e9)).first().map(String::as_str), Some("1 ms"));
    }

    #[test]
    fn a_value_beyond_an_axis_stands_at_its_end() {
        let axis = Axis::of_counts(10.0);
        assert_eq!((axis.share(-3.0), axis.share(1e300), axis.share(f64::NAN)), (0.0, 1.0, 0.0));
    }
}
