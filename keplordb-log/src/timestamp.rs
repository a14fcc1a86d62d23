//! The time of an entry, and where times come from.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::LogError;

/// Nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted: from the year 1677 to 2262.
///
/// It is shown, and parsed, as RFC 3339 in UTC with nine digits: `2026-01-31T23:59:59.123456789Z`. Parsing takes any offset
/// and any number of digits up to nine.
///
/// ```
/// use keplordb_log::Timestamp;
///
/// let time: Timestamp = "2026-01-31T23:59:59.5+00:00".parse()?;
/// assert_eq!(time.to_string(), "2026-01-31T23:59:59.500000000Z");
/// assert_eq!(Timestamp::from_ns(time.as_ns()), time);
/// assert!("yesterday".parse::<Timestamp>().is_err());
/// # Ok::<(), keplordb_log::LogError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest time.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time; no entry can follow one that has it.
    pub const MAX: Self = Self(i64::MAX);

    /// The time that is `ns` nanoseconds after 1970 began, or before it if negative.
    pub const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since 1970 began.
    pub const fn as_ns(self) -> i64 {
        self.0
    }

    /// The system's clock, now. A clock that stands before 1677 or behind 2262 gives the nearest time there is.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time `duration` before this one, or the earliest there is.
    #[must_use]
    pub fn before_by(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// How much later this is than `earlier`; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(if self > earlier { self.0.abs_diff(earlier.0) } else { 0 })
    }

    /// The nanosecond after this one; `None` after the last.
    pub(crate) fn next(self) -> Option<Self> {
        self.after_by_ns(1)
    }

    /// The time `ns` nanoseconds after this one; `None` behind the last.
    #[inline]
    pub(crate) fn after_by_ns(self, ns: u64) -> Option<Self> {
        self.0.checked_add_unsigned(ns).map(Self)
    }

    /// As the calendar has it; every `i64` of nanoseconds lies in jiff's range.
    fn civil(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(self.0.into()).unwrap_or_default()
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)),
            Err(before) => Self(i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns)),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9}", self.civil())
    }
}

impl FromStr for Timestamp {
    type Err = LogError;

    /// # Errors
    /// [`LogError::Invalid`] if it is not RFC 3339 or lies outside the range.
    fn from_str(text: &str) -> Result<Self, LogError> {
        let refuse = |why| LogError::Invalid { field: "time", why };
        let time: jiff::Timestamp = text.parse().map_err(|error| {
            refuse(format!("{text:?} is no RFC 3339 time, like 2026-01-31T23:59:59Z: {error}"))
        })?;
        let ns = i64::try_from(time.as_nanosecond());
        ns.map(Self).map_err(|_| refuse(format!("{text:?} is not between the years 1677 and 2262")))
    }
}

/// Where a writer takes the times of entries from.
///
/// It may stand still or go back: the writer makes its times increase.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands where it was set: for tests, and for entries whose times come from elsewhere.
///
/// ```
/// use keplordb_log::{Clock, ManualClock, Timestamp};
///
/// let clock = ManualClock::new(Timestamp::from_ns(7));
/// clock.set(Timestamp::from_ns(5));
/// assert_eq!(clock.now().as_ns(), 5);
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `time`.
    pub fn new(time: Timestamp) -> Self {
        Self(AtomicI64::new(time.as_ns()))
    }

    /// Sets it, forwards or backwards.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.as_ns(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_shown_is_parsed_again(ns in any::<i64>()) {
            let time = Timestamp::from_ns(ns);
            prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
            prop_assert_eq!(time.to_string().len(), "2026-01-31T23:59:59.123456789Z".len());
        }

        #[test]
        fn texts_are_in_the_order_of_times(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (Timestamp::from_ns(a), Timestamp::from_ns(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }

    #[test]
    fn the_range_ends_are_legal() {
        for time in [Timestamp::MIN, Timestamp::MAX, Timestamp::from_ns(0), Timestamp::from_ns(-1)] {
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
        assert_eq!(Timestamp::MIN.before_by(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::MAX.since(Timestamp::MIN), Duration::from_nanos(u64::MAX));
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
        assert!(Timestamp::MAX.next().is_none());
        assert!("9999-01-01T00:00:00Z".parse::<Timestamp>().is_err());
    }
}
