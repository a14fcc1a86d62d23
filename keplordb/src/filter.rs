//! Which rows a query asks for: plain data, no evaluation.

use std::array;
use std::ops::{Bound, RangeBounds};

use crate::error::{DbError, Result};
use crate::expr::{Expr, MAX_DEPTH, NumberColumn, TextTest};

/// A place in the newest-first order: rows at or after it are left out.
///
/// Holds nanoseconds since the Unix epoch; a query returns rows whose time is strictly below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Cursor(pub i64);

/// Which rows to look at; every condition given must hold. The default matches all rows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct QueryFilter<const D: usize> {
    /// Per dim the value it must have, exactly; the empty string is an ordinary value.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::serial::array", default = "crate::serial::array::defaults")
    )]
    pub dims: [Option<String>; D],
    /// Earliest time, inclusive, in nanoseconds since the Unix epoch.
    #[cfg_attr(feature = "serde", serde(default))]
    pub from_ts_ns: Option<i64>,
    /// Latest time, inclusive, in nanoseconds since the Unix epoch.
    #[cfg_attr(feature = "serde", serde(default))]
    pub to_ts_ns: Option<i64>,
    /// Smallest status, inclusive.
    #[cfg_attr(feature = "serde", serde(default))]
    pub status_min: Option<u16>,
    /// Status limit, **exclusive**.
    #[cfg_attr(feature = "serde", serde(default))]
    pub status_max: Option<u16>,
    /// Only rows strictly before this time.
    #[cfg_attr(feature = "serde", serde(default))]
    pub cursor: Option<Cursor>,
}

impl<const D: usize> Default for QueryFilter<D> {
    fn default() -> Self {
        Self {
            dims: array::from_fn(|_| None),
            from_ts_ns: None,
            to_ts_ns: None,
            status_min: None,
            status_max: None,
            cursor: None,
        }
    }
}

impl<const D: usize> QueryFilter<D> {
    /// The filter without its shape in the type, borrowed.
    pub fn as_ref_filter(&self) -> FilterRef<'_> {
        FilterRef {
            dims: &self.dims,
            from_ts_ns: self.from_ts_ns,
            to_ts_ns: self.to_ts_ns,
            status_min: self.status_min,
            status_max: self.status_max,
            cursor: self.cursor,
        }
    }
}

/// A [`QueryFilter`] of any number of dims, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct FilterRef<'a> {
    /// See [`QueryFilter::dims`].
    pub dims: &'a [Option<String>],
    /// See [`QueryFilter::from_ts_ns`].
    pub from_ts_ns: Option<i64>,
    /// See [`QueryFilter::to_ts_ns`].
    pub to_ts_ns: Option<i64>,
    /// See [`QueryFilter::status_min`].
    pub status_min: Option<u16>,
    /// See [`QueryFilter::status_max`].
    pub status_max: Option<u16>,
    /// See [`QueryFilter::cursor`].
    pub cursor: Option<Cursor>,
}

/// A filter made ready to evaluate: one inclusive range of times, one of statuses, and the dims that are fixed.
#[derive(Debug, Clone)]
pub(crate) struct Predicate<'a> {
    pub(crate) from_ts_ns: i64,
    pub(crate) to_ts_ns: i64,
    pub(crate) status_min: u16,
    pub(crate) status_max: u16,
    /// (dim, value) pairs that must hold.
    pub(crate) dims: Vec<(usize, &'a str)>,
    /// Whatever else must hold.
    pub(crate) rest: Vec<&'a Expr>,
    /// Whether every row is to be looked at, as the slow twin of all sums and indexes does.
    pub(crate) by_scan: bool,
}

impl<'a> Predicate<'a> {
    /// Every row.
    pub(crate) fn all() -> Self {
        Self {
            from_ts_ns: i64::MIN,
            to_ts_ns: i64::MAX,
            status_min: 0,
            status_max: u16::MAX,
            dims: Vec::new(),
            rest: Vec::new(),
            by_scan: false,
        }
    }

    /// The conditions of a tree, those on top that are a range of times, a range of statuses or one value of a dim taken
    /// apart; `None` when no row can match.
    ///
    /// # Errors
    /// [`DbError::Invalid`] for a tree that is too deep.
    pub(crate) fn of(expr: &'a Expr) -> Result<Option<Self>> {
        if expr.is_too_deep() {
            let why = format!("more than {MAX_DEPTH} levels of conditions within each other");
            return Err(DbError::invalid("filter", why));
        }
        let mut predicate = Self::all();
        predicate.narrow(expr);
        Ok(predicate.is_possible().then_some(predicate))
    }

    /// Only rows for which this holds too.
    fn narrow(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Always(true) => {}
            Expr::Always(false) => (self.from_ts_ns, self.to_ts_ns) = (i64::MAX, i64::MIN),
            Expr::And(parts) => parts.iter().for_each(|part| self.narrow(part)),
            Expr::Number { column: NumberColumn::Time, lo, hi } => self.between(*lo, *hi),
            Expr::Status(ranges) if ranges.len() == 1 => {
                for range in ranges {
                    self.status_min = self.status_min.max(*range.start());
                    self.status_max = self.status_max.min(*range.end());
                }
            }
            Expr::Dim { dim, test: TextTest::Equal(value) } => self.dims.push((*dim, value)),
            other => self.rest.push(other),
        }
    }

    /// Only rows in this range of times, inclusive.
    pub(crate) fn between(&mut self, from_ts_ns: i64, to_ts_ns: i64) {
        (self.from_ts_ns, self.to_ts_ns) = (self.from_ts_ns.max(from_ts_ns), self.to_ts_ns.min(to_ts_ns));
    }

    /// Whether the ranges have any value.
    pub(crate) fn is_possible(&self) -> bool {
        self.from_ts_ns <= self.to_ts_ns && self.status_min <= self.status_max
    }

    /// No row.
    pub(crate) fn none() -> Self {
        Self { from_ts_ns: i64::MAX, to_ts_ns: i64::MIN, ..Self::all() }
    }

    /// `None` when no row can match: an empty range, or a cursor before all time.
    pub(crate) fn new(filter: FilterRef<'a>) -> Option<Self> {
        let mut to_ts_ns = filter.to_ts_ns.unwrap_or(i64::MAX);
        if let Some(Cursor(before_ns)) = filter.cursor {
            to_ts_ns = to_ts_ns.min(before_ns.checked_sub(1)?);
        }
        let from_ts_ns = filter.from_ts_ns.unwrap_or(i64::MIN);
        let status_min = filter.status_min.unwrap_or(0);
        let status_max = match filter.status_max {
            Some(limit) => limit.checked_sub(1)?,
            None => u16::MAX,
        };
        if from_ts_ns > to_ts_ns || status_min > status_max {
            return None;
        }
        let dims = filter.dims.iter().enumerate();
        let dims = dims.filter_map(|(dim, value)| Some((dim, value.as_deref()?))).collect();
        Some(Self { from_ts_ns, to_ts_ns, status_min, status_max, dims, ..Self::all() })
    }
}

/// The first and the last number of a range; `None` where it holds no number.
pub(crate) fn inclusive(range: &impl RangeBounds<i64>) -> Option<(i64, i64)> {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.checked_add(1)?,
        Bound::Unbounded => i64::MIN,
    };
    let to = match range.end_bound() {
        Bound::Included(to) => *to,
        Bound::Excluded(limit) => limit.checked_sub(1)?,
        Bound::Unbounded => i64::MAX,
    };
    (from <= to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inclusive_but_for_status_max_and_cursor() {
        let filter = QueryFilter::<1> {
            dims: [Some("alice".into())],
            from_ts_ns: Some(10),
            to_ts_ns: Some(20),
            status_min: Some(400),
            status_max: Some(500),
            cursor: Some(Cursor(15)),
        };
        let predicate = Predicate::new(filter.as_ref_filter()).unwrap();
        assert_eq!((predicate.from_ts_ns, predicate.to_ts_ns), (10, 14));
        assert_eq!((predicate.status_min, predicate.status_max), (400, 499));
        assert_eq!(predicate.dims, [(0, "alice")]);
    }

    #[test]
    fn ranges_of_every_form_become_inclusive() {
        assert_eq!(inclusive(&(3..5)), Some((3, 4)));
        assert_eq!(inclusive(&(3..=5)), Some((3, 5)));
        assert_eq!(inclusive(&..), Some((i64::MIN, i64::MAX)));
        assert_eq!(inclusive(&(Bound::Excluded(3), Bound::Unbounded)), Some((4, i64::MAX)));
        assert_eq!(inclusive(&(3..3)), None);
        assert_eq!(inclusive(&(..i64::MIN)), None);
        assert_eq!(inclusive(&(Bound::Excluded(i64::MAX), Bound::Unbounded)), None);
    }

    #[test]
    fn impossible_ranges_match_nothing() {
        let none = |change: fn(&mut QueryFilter<0>)| {
            let mut filter = QueryFilter::default();
            change(&mut filter);
            Predicate::new(filter.as_ref_filter()).is_none()
        };
        assert!(none(|filter| filter.cursor = Some(Cursor(i64::MIN))));
        assert!(none(|filter| filter.status_max = Some(0)));
        assert!(none(|filter| (filter.from_ts_ns, filter.to_ts_ns) = (Some(2), Some(1))));
        assert!(none(|filter| (filter.status_min, filter.status_max) = (Some(500), Some(500))));
        assert!(!none(|_| ()));
    }
}
