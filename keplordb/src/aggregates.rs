//! What can be asked of a group of events: how many, sums, extremes, means, quantiles, distinct values; each with the type of
//! its answer, so that a row of a result is a plain tuple.
//!
//! ```
//! use keplordb::aggregates::{count, distinct, max, mean, quantile, sum};
//! use keplordb::{Filter, Schema, Store};
//!
//! #[derive(Schema)]
//! #[keplordb(id = 1)]
//! pub struct AiCall {
//!     #[dim]
//!     pub user: String,
//!     #[counter]
//!     pub tokens: u32,
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let store = Store::<AiCall>::open(dir.path().join("calls"))?;
//! for tokens in 1..=100 {
//!     store.append(AiCall::new(0).user(if tokens < 50 { "alice" } else { "bob" }).tokens(tokens).metric(-1))?;
//! }
//! let c = AiCall::cols();
//! let (n, users, cost, most) =
//!     store.query(Filter::all()).select((count(), distinct(c.user), sum(c.metric), max(c.tokens))).one()?;
//! assert_eq!((n, users, cost, most), (100, 2, -100, Some(100)));
//!
//! let p99 = store.query(Filter::all()).select(quantile(c.tokens, 0.99)).one()?.unwrap();
//! assert_eq!((p99.value, p99.is_exact), (99, true));
//! let of_nobody = store.query(c.user.eq("carol")).select((sum(c.tokens), mean(c.tokens))).one()?;
//! assert_eq!(of_nobody, (0, None));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::marker::PhantomData;

use crate::columns::Number;
use crate::groups::GroupKey;
use crate::read::group::{Aggregate as Spec, GroupValue};
use crate::read::query::clamp_u32;
use crate::sums::{clamp_i64, clamp_u64};

/// Something to add up over the events of a group; its answer is a `V`. Made by the functions of this module.
///
/// A value that can be copied: the one that is selected can be ranked by too ([`top_by`](crate::groups::Selected::top_by)). Cost: a query reads
/// the column of each aggregate where no sum answers it, and no others; the same aggregate twice costs as much as once.
pub struct Aggregate<S, V> {
    spec: Spec,
    events: PhantomData<fn() -> (S, V)>,
}

impl<S, V> Aggregate<S, V> {
    fn of(spec: Spec) -> Self {
        Self { spec, events: PhantomData }
    }

    pub(crate) fn spec(&self) -> Spec {
        self.spec
    }
}

impl<S, V> Clone for Aggregate<S, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, V> Copy for Aggregate<S, V> {}

impl<S, V> fmt::Debug for Aggregate<S, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(out)
    }
}

/// How many events. Exact.
pub fn count<S>() -> Aggregate<S, u64> {
    Aggregate::of(Spec::Count)
}

/// The sum: `i64` of the metric, `u64` of counters and latencies. Added up exactly, and brought into that type once, at the end: it
/// saturates and never wraps.
pub fn sum<S, T: Numeric>(column: Number<S, T>) -> Aggregate<S, T::Sum> {
    Aggregate::of(Spec::Sum(column.column()))
}

/// The smallest value; `None` of no events. Events that are older than the column count with a 0.
pub fn min<S, T: Numeric>(column: Number<S, T>) -> Aggregate<S, Option<T>> {
    Aggregate::of(Spec::Min(column.column()))
}

/// The largest value; `None` of no events. Events that are older than the column count with a 0.
pub fn max<S, T: Numeric>(column: Number<S, T>) -> Aggregate<S, Option<T>> {
    Aggregate::of(Spec::Max(column.column()))
}

/// The mean; `None` of no events. Divided once, from an exact sum; events that are older than the column count with a 0.
pub fn mean<S, T: Numeric>(column: Number<S, T>) -> Aggregate<S, Option<f64>> {
    Aggregate::of(Spec::Mean(column.column()))
}

/// The `q`-quantile by nearest rank: the smallest value that at least `q` of all are at most; `None` of no events.
///
/// `q` is from 0 (the smallest) to 1 (the largest); a query refuses others. Exact, as long as the column's values of all groups fit into
/// 64 MiB (as they are, or counted, where smallest and largest are less than 65,536 apart); for groups beyond, within 1 %, and the answer
/// says so. Several quantiles of one column share that memory.
///
/// Cost: no sum answers it, so every matching row is read.
pub fn quantile<S, T: Numeric>(column: Number<S, T>, q: f64) -> Aggregate<S, Option<Quantile<T>>> {
    Aggregate::of(Spec::Quantile(column.column(), q))
}

/// How many different values a dim or the status has. Exact.
///
/// Cost: without keys, and with no condition but a range of time, by the first and last time of each value in a segment; else every matching
/// row's code is read. Memory: a bit for each value of the column, or less, and group.
pub fn distinct<S>(column: impl GroupKey<S>) -> Aggregate<S, u64> {
    Aggregate::of(Spec::Distinct(column.column()))
}

/// A quantile, and whether it is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantile<T> {
    /// The value; if it is not exact, within 1 % of the true one.
    pub value: T,
    /// Whether it is the true one.
    pub is_exact: bool,
}

/// The type of a column's numbers: `i64` or `u32`.
pub trait Numeric: Copy + sealed::Sealed {
    /// The type of their sum.
    type Sum: Value;

    /// A stored number; only a damaged file holds one out of range.
    #[doc(hidden)]
    fn of(value: i64) -> Self;
}

impl Numeric for i64 {
    type Sum = Self;

    fn of(value: i64) -> Self {
        value
    }
}

impl Numeric for u32 {
    type Sum = u64;

    fn of(value: i64) -> Self {
        clamp_u32(value)
    }
}

/// The type of an answer: `u64` of counts, distinct values and sums of `u32`; `i64` of sums of `i64`; `Option` of the column's type, of `f64`
/// and of [`Quantile`].
pub trait Value: sealed::Sealed {
    #[doc(hidden)]
    fn of(value: &GroupValue) -> Self;
}

impl Value for u64 {
    fn of(value: &GroupValue) -> Self {
        match value {
            GroupValue::Count(count) => *count,
            GroupValue::Sum(sum) => clamp_u64(*sum),
            _ => 0,
        }
    }
}

impl Value for i64 {
    fn of(value: &GroupValue) -> Self {
        if let GroupValue::Sum(sum) = value { clamp_i64(*sum) } else { 0 }
    }
}

impl<T: Numeric> Value for Option<T> {
    fn of(value: &GroupValue) -> Self {
        if let GroupValue::Number(number) = value { number.map(T::of) } else { None }
    }
}

impl Value for Option<f64> {
    fn of(value: &GroupValue) -> Self {
        if let GroupValue::Mean(mean) = value { *mean } else { None }
    }
}

impl<T: Numeric> Value for Option<Quantile<T>> {
    fn of(value: &GroupValue) -> Self {
        match value {
            GroupValue::Quantile { value: Some(value), is_exact } => {
                Some(Quantile { value: T::of(*value), is_exact: *is_exact })
            }
            _ => None,
        }
    }
}

/// What a query selects of each group: an [`Aggregate`], or a tuple of up to twelve.
pub trait Aggregates<S>: Sized + sealed::Sealed {
    /// The answers: of one aggregate the value, of a tuple a tuple.
    type Values;

    #[doc(hidden)]
    fn specs(self) -> Vec<Spec>;

    /// `answers` has one for each of the specs, in their order.
    #[doc(hidden)]
    fn values(answers: &[GroupValue]) -> Self::Values;
}

impl<S, V: Value> Aggregates<S> for Aggregate<S, V> {
    type Values = V;

    fn specs(self) -> Vec<Spec> {
        vec![self.spec]
    }

    fn values(answers: &[GroupValue]) -> V {
        V::of(&answers[0])
    }
}

macro_rules! aggregates {
    ($($value:ident $place:tt),+) => {
        impl<S, $($value: Value),+> Aggregates<S> for ($(Aggregate<S, $value>,)+) {
            type Values = ($($value,)+);

            fn specs(self) -> Vec<Spec> {
                vec![$(self.$place.spec),+]
            }

            fn values(answers: &[GroupValue]) -> Self::Values {
                ($($value::of(&answers[$place]),)+)
            }
        }

        impl<S, $($value),+> sealed::Sealed for ($(Aggregate<S, $value>,)+) {}
    };
}

aggregates!(A 0);
aggregates!(A 0, B 1);
aggregates!(A 0, B 1, C 2);
aggregates!(A 0, B 1, C 2, D 3);
aggregates!(A 0, B 1, C 2, D 3, E 4);
aggregates!(A 0, B 1, C 2, D 3, E 4, F 5);
aggregates!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
aggregates!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
aggregates!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
aggregates!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
aggregates!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
aggregates!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);

/// Nobody else implements the traits of this module: what there is to ask is what the engine can answer.
mod sealed {
    use super::{Aggregate, Quantile};

    pub trait Sealed {}

    impl Sealed for i64 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
    impl<T: Sealed> Sealed for Option<T> {}
    impl Sealed for f64 {}
    impl<T> Sealed for Quantile<T> {}
    impl<S, V> Sealed for Aggregate<S, V> {}
}
