//! Spans of time of equal width.

/// Spans of time: bucket after bucket, `width_ns` long, one of which begins at `offset_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buckets {
    width_ns: i64,
    /// At least 0, and below the width.
    offset_ns: i64,
    /// Whether buckets without rows are listed, between the first and the last that have rows, for each key.
    fill: bool,
}

impl Buckets {
    /// A width below 1 counts as 1.
    pub(crate) fn new(width_ns: i64, offset_ns: i64, fill: bool) -> Self {
        let width_ns = width_ns.max(1);
        Self { width_ns, offset_ns: offset_ns.rem_euclid(width_ns), fill }
    }

    pub(super) fn fills(&self) -> bool {
        self.fill
    }

    /// The first and the last nanosecond of a time's bucket, as far as an `i64` holds them.
    pub(super) fn span(&self, ts_ns: i64) -> (i64, i64) {
        // How far the time is into its bucket. The difference wraps only near the earliest times of all.
        let into = match ts_ns.checked_sub(self.offset_ns) {
            Some(since) => since.rem_euclid(self.width_ns),
            None => self.exactly_into(ts_ns),
        };
        (ts_ns.saturating_sub(into), ts_ns.saturating_add(self.width_ns - 1 - into))
    }

    fn exactly_into(&self, ts_ns: i64) -> i64 {
        let since = i128::from(ts_ns) - i128::from(self.offset_ns);
        i64::try_from(since.rem_euclid(i128::from(self.width_ns))).unwrap_or(0)
    }

    /// How many buckets there are from that of one time to that of another, both included.
    pub(super) fn count(&self, from_ns: i64, to_ns: i64) -> u128 {
        let number =
            |ts: i64| (i128::from(ts) - i128::from(self.offset_ns)).div_euclid(i128::from(self.width_ns));
        u128::try_from(number(to_ns) - number(from_ns) + 1).unwrap_or(0)
    }

    /// Where each bucket begins from that of one time to that of another.
    pub(super) fn starts(self, from_ns: i64, to_ns: i64) -> impl Iterator<Item = i64> {
        let mut next = Some(from_ns).filter(|from| *from <= to_ns);
        std::iter::from_fn(move || {
            let (start, last) = self.span(next?);
            next = last.checked_add(1).filter(|after| *after <= to_ns);
            Some(start)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times() -> impl Strategy<Value = i64> {
        prop_oneof![
            any::<i64>(),
            -100_i64..100,
            prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX])
        ]
    }

    proptest! {
        #[test]
        fn spans_are_those_of_exact_arithmetic(ts in times(), offset in times(), width in times()) {
            prop_assume!(width > 0);
            let (start, last) = Buckets::new(width, offset, false).span(ts);
            let (width, offset) = (i128::from(width), i128::from(offset));
            let exact = (i128::from(ts) - offset).div_euclid(width) * width + offset;
            prop_assert_eq!(i128::from(start), exact.max(i128::from(i64::MIN)));
            prop_assert_eq!(i128::from(last), (exact + width - 1).min(i128::from(i64::MAX)));
        }

        #[test]
        fn buckets_follow_each_other(from in times(), count in 0_i64..300, offset in times(), width in 1_i64..5) {
            let buckets = Buckets::new(width, offset, true);
            let to = from.saturating_add(count);
            let starts: Vec<i64> = buckets.starts(from, to).collect();
            prop_assert_eq!(starts.len() as u128, buckets.count(from, to));
            prop_assert_eq!(starts[0], buckets.span(from).0);
            prop_assert_eq!(*starts.last().unwrap(), buckets.span(to).0);
            prop_assert!(starts.windows(2).all(|two| two[1] == buckets.span(two[0]).1 + 1));
        }
    }
}
