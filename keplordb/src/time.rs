//! Nanoseconds since the Unix epoch, and the UTC days they fall on.

/// Nanoseconds of a day.
pub(crate) const DAY_NS: i64 = 86_400_000_000_000;
/// Seconds of a day.
pub(crate) const DAY_S: i64 = 86_400;

/// The UTC midnight at or before `ts_ns`, in epoch **seconds**: the `day` of a rollup.
///
/// Works for every `i64`, also before 1970.
pub(crate) fn day_of(ts_ns: i64) -> i64 {
    ts_ns.div_euclid(DAY_NS) * DAY_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_utc_midnight_on_both_sides_of_1970() {
        assert_eq!(day_of(0), 0);
        assert_eq!(day_of(DAY_NS - 1), 0);
        assert_eq!(day_of(DAY_NS), DAY_S);
        assert_eq!(day_of(-1), -DAY_S);
        assert_eq!(day_of(-DAY_NS), -DAY_S);
        assert_eq!(day_of(i64::MIN), i64::MIN.div_euclid(DAY_NS) * DAY_S);
        assert_eq!(day_of(i64::MAX), i64::MAX / DAY_NS * DAY_S);
    }
}
