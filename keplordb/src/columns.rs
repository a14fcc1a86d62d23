//! Column tokens and what can be asked of them: `AiCall::cols()` has one per column, and each has only the operations
//! that make sense for it, so that a condition that cannot be meant does not compile.
//!
//! ```
//! use keplordb::{Schema, Store};
//!
//! #[derive(Schema)]
//! #[keplordb(id = 1)]
//! pub struct AiCall {
//!     #[dim]
//!     pub user: String,
//!     #[dim]
//!     pub model: String,
//!     #[counter]
//!     pub tokens: u32,
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let store = Store::<AiCall>::open(dir.path().join("calls"))?;
//! let c = AiCall::cols();
//! for (user, tokens) in [("alice", 1_200), ("team-red", 3_000), ("bob", 9_000)] {
//!     store.append(AiCall::new(0).user(user).model("o3").tokens(tokens).latency_ms(700).status(429))?;
//! }
//! let f = (c.user.eq("alice") | c.user.starts_with("team-"))
//!     & c.model.in_(["gpt-4o", "o3"]) & !c.status.in_([200, 204])
//!     & c.tokens.gt(1_000) & c.latency_ms.between(200..=2_000);
//! assert_eq!(store.query(&f).totals()?.counters, [4_200]);
//! // Filters of either kind go together.
//! assert_eq!(store.query(c.tokens.lt(2_000) & AiCall::filter().user("alice")).rows()?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```compile_fail
//! # use keplordb::Schema;
//! # #[derive(Schema)]
//! # #[keplordb(id = 1)]
//! # pub struct AiCall { #[dim] pub user: String, #[counter] pub tokens: u32 }
//! AiCall::cols().tokens.starts_with("1"); // a number has no beginning
//! ```
//!
//! ```compile_fail
//! # use keplordb::Schema;
//! # #[derive(Schema)]
//! # #[keplordb(id = 1)]
//! # pub struct AiCall { #[dim] pub user: String }
//! # #[derive(Schema)]
//! # #[keplordb(id = 2)]
//! # pub struct Payment { #[dim] pub payer: String }
//! let mixed = AiCall::cols().user.eq("alice") & Payment::cols().payer.eq("bob"); // of two tables
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::ops::{BitAnd, BitOr, Not, RangeBounds};

use crate::expr::{Expr, Expression, NumberColumn, TextColumn, TextTest};
use crate::filter::{FilterRef, Predicate, inclusive};
use crate::store::Schema;

/// Which events of type `S` a query looks at: conditions on columns, joined by `&`, `|` and `!`.
///
/// Made from the tokens of `S::cols()`, from the filter of `S::filter()`, or [`all`](Self::all). A chain of one operator is
/// one level; more than 256 levels within each other are refused by the query.
///
/// A value of its own: it can be kept, cloned, and put to several queries by reference. Conditions that are known only at run
/// time are joined as they come:
///
/// ```
/// # use keplordb::{Schema, Store};
/// # #[derive(Schema)]
/// # #[keplordb(id = 1)]
/// # pub struct AiCall { #[dim] pub user: String, #[dim] pub model: String, #[counter] pub tokens: u32 }
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::<AiCall>::open(dir.path().join("calls"))?;
/// use keplordb::Filter;
///
/// # store.append(AiCall::new(0).user("alice").tokens(7))?;
/// fn wanted(user: Option<&str>, least_tokens: Option<u32>) -> Filter<AiCall> {
///     let c = AiCall::cols();
///     let mut filter = Filter::all();
///     if let Some(user) = user {
///         filter = filter & c.user.eq(user);
///     }
///     if let Some(tokens) = least_tokens {
///         filter = filter & c.tokens.ge(tokens);
///     }
///     filter
/// }
/// assert_eq!(store.query(wanted(Some("alice"), None)).totals()?.event_count, 1);
/// assert_eq!(store.query(wanted(None, Some(8))).totals()?.event_count, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Cost: an allocation or two for each condition. How each is decided in a segment:
///
/// | condition on | decided |
/// | --- | --- |
/// | a dim, the status | once per distinct value; then by lists or bitmaps of rows, or by masks of codes |
/// | the time, alone or joined by `&` | by two binary searches |
/// | any other number | by smallest and largest value of 256 rows, else by a mask of them |
/// | the id, an indexed label: `eq`, `in_` | by a hash index |
/// | any other text | by reading it, in the rows that the rest of the filter leaves |
pub struct Filter<S> {
    expression: Expression,
    events: PhantomData<fn() -> S>,
}

impl<S> Filter<S> {
    /// Every event.
    pub fn all() -> Self {
        Self::leaf(Expr::Always(true))
    }

    fn leaf(condition: Expr) -> Self {
        Self { expression: Expression::leaf(condition), events: PhantomData }
    }

    fn map(self, change: impl FnOnce(Expression) -> Expression) -> Self {
        Self { expression: change(self.expression), events: PhantomData }
    }

    pub(crate) fn root(&self) -> &Expr {
        self.expression.root()
    }

    /// The conditions of a plain filter; what `From` of a derived filter calls.
    #[doc(hidden)]
    pub fn of_plain(filter: FilterRef<'_>) -> Self {
        let Some(plain) = Predicate::new(filter) else { return Self::leaf(Expr::Always(false)) };
        let mut parts = Vec::new();
        if (plain.from_ts_ns, plain.to_ts_ns) != (i64::MIN, i64::MAX) {
            parts.push(Expr::Number { column: NumberColumn::Time, lo: plain.from_ts_ns, hi: plain.to_ts_ns });
        }
        if (plain.status_min, plain.status_max) != (0, u16::MAX) {
            parts.push(Expr::Status(vec![plain.status_min..=plain.status_max]));
        }
        let dims = plain.dims.iter();
        parts.extend(
            dims.map(|(dim, value)| Expr::Dim { dim: *dim, test: TextTest::Equal((*value).to_owned()) }),
        );
        let parts = parts.into_iter().map(Self::leaf);
        parts.reduce(|all, part| all & part).unwrap_or_else(Self::all)
    }
}

impl<S> Clone for Filter<S> {
    fn clone(&self) -> Self {
        Self { expression: self.expression.clone(), events: PhantomData }
    }
}

impl<S> fmt::Debug for Filter<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Filter").field(self.root()).finish()
    }
}

impl<S> From<&Self> for Filter<S> {
    fn from(filter: &Self) -> Self {
        filter.clone()
    }
}

impl<S, F: Into<Self>> BitAnd<F> for Filter<S> {
    type Output = Self;

    /// Events that both match.
    fn bitand(self, other: F) -> Self {
        let other = other.into();
        self.map(|mine| mine.and(other.expression))
    }
}

impl<S, F: Into<Self>> BitOr<F> for Filter<S> {
    type Output = Self;

    /// Events that one of them matches, or both.
    fn bitor(self, other: F) -> Self {
        let other = other.into();
        self.map(|mine| mine.or(other.expression))
    }
}

impl<S> Not for Filter<S> {
    type Output = Self;

    /// Events that it does not match.
    fn not(self) -> Self {
        self.map(Expression::negated)
    }
}

/// Makes a token: a copyable name of a column of type `S`.
macro_rules! token {
    ($(#[$doc:meta])* $name:ident<S $(, $value:ident)?> of $column:ty) => {
        $(#[$doc])*
        pub struct $name<S $(, $value)?> {
            pub(crate) column: $column,
            events: PhantomData<fn() -> (S, $($value)?)>,
        }

        impl<S $(, $value)?> $name<S $(, $value)?> {
            const fn of(column: $column) -> Self {
                Self { column, events: PhantomData }
            }
        }

        impl<S $(, $value)?> Clone for $name<S $(, $value)?> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<S $(, $value)?> Copy for $name<S $(, $value)?> {}

        impl<S $(, $value)?> fmt::Debug for $name<S $(, $value)?> {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.column, out)
            }
        }
    };
}

token! {
    /// A dim: a text to filter and group by. Conditions on it are tested once per distinct value of a segment.
    Dim<S> of usize
}
token! {
    /// The status. Conditions on it are tested once per distinct status of a segment.
    Status<S> of ()
}
token! {
    /// A number whose values are of type `T`: the metric, a latency, a counter.
    Number<S, T> of NumberColumn
}
token! {
    /// The time, in nanoseconds since the Unix epoch; segments are sorted by it.
    Time<S> of ()
}
token! {
    /// The sequence, the unique number that the engine gave an event.
    Sequence<S> of ()
}
token! {
    /// The flags, sixteen booleans.
    Flags<S> of ()
}
token! {
    /// The id or a label: a text that is only stored. Equality is looked up by a hash index where there is one (the id, and
    /// labels declared `#[label(index)]`); any other condition reads the text of every row that the rest of the filter leaves.
    Text<S> of TextColumn
}

/// The conditions on texts, for dims, labels and the id.
macro_rules! text_conditions {
    ($name:ident, |$column:ident, $test:ident| $leaf:expr) => {
        impl<S> $name<S> {
            fn condition(self, $test: TextTest) -> Filter<S> {
                let $column = self.column;
                Filter::leaf($leaf)
            }

            /// It is exactly this text; the empty one is an ordinary value.
            pub fn eq(self, text: impl Into<String>) -> Filter<S> {
                self.condition(TextTest::Equal(text.into()))
            }

            /// It is another text.
            pub fn ne(self, text: impl Into<String>) -> Filter<S> {
                !self.eq(text)
            }

            /// It is one of these texts; of none, no event.
            pub fn in_(self, texts: impl IntoIterator<Item = impl Into<String>>) -> Filter<S> {
                self.condition(TextTest::any_of(texts))
            }

            /// It begins with this text.
            pub fn starts_with(self, start: impl Into<String>) -> Filter<S> {
                self.condition(TextTest::StartsWith(start.into()))
            }

            /// It ends with this text.
            pub fn ends_with(self, end: impl Into<String>) -> Filter<S> {
                self.condition(TextTest::EndsWith(end.into()))
            }

            /// This text is a part of it.
            pub fn contains(self, part: impl Into<String>) -> Filter<S> {
                self.condition(TextTest::Contains(part.into()))
            }
        }
    };
}

text_conditions!(Dim, |dim, test| Expr::Dim { dim, test });
text_conditions!(Text, |column, test| Expr::Text { column, test });

/// The conditions on numbers; those on values beyond the column's type hold for none or for all.
macro_rules! number_conditions {
    ($name:ident<S $(, $value:ident)?>, |$token:ident| $column:expr) => {
        impl<S $(, $value)?> $name<S $(, $value)?> {
            fn within(self, lo: i64, hi: i64) -> Filter<S> {
                let $token = self;
                Filter::leaf(Expr::Number { column: $column, lo, hi })
            }

            /// It is this number.
            pub fn eq(self, value: impl Into<i64>) -> Filter<S> {
                let value = value.into();
                self.within(value, value)
            }

            /// It is another number.
            pub fn ne(self, value: impl Into<i64>) -> Filter<S> {
                !self.eq(value)
            }

            /// It is larger.
            pub fn gt(self, value: impl Into<i64>) -> Filter<S> {
                match value.into().checked_add(1) {
                    Some(least) => self.within(least, i64::MAX),
                    None => Filter::leaf(Expr::Always(false)),
                }
            }

            /// It is larger or equal.
            pub fn ge(self, value: impl Into<i64>) -> Filter<S> {
                self.within(value.into(), i64::MAX)
            }

            /// It is smaller.
            pub fn lt(self, value: impl Into<i64>) -> Filter<S> {
                match value.into().checked_sub(1) {
                    Some(most) => self.within(i64::MIN, most),
                    None => Filter::leaf(Expr::Always(false)),
                }
            }

            /// It is smaller or equal.
            pub fn le(self, value: impl Into<i64>) -> Filter<S> {
                self.within(i64::MIN, value.into())
            }

            /// It lies in this range: half-open or inclusive, as written.
            pub fn between<V: Into<i64> + Copy>(self, range: impl RangeBounds<V>) -> Filter<S> {
                let range = (range.start_bound().map(|from| (*from).into()), range.end_bound().map(|to| (*to).into()));
                match inclusive(&range) {
                    Some((lo, hi)) => self.within(lo, hi),
                    None => Filter::leaf(Expr::Always(false)),
                }
            }

            /// It is one of these numbers; of none, no event. A range for each: for many, a [`between`](Self::between) costs less.
            pub fn in_(self, values: impl IntoIterator<Item = impl Into<i64>>) -> Filter<S> {
                let parts = values.into_iter().map(|value| self.eq(value));
                parts.reduce(|any, part| any | part).unwrap_or_else(|| Filter::leaf(Expr::Always(false)))
            }
        }
    };
}

number_conditions!(Number<S, T>, |token| token.column);
number_conditions!(Time<S>, |_token| NumberColumn::Time);
number_conditions!(Sequence<S>, |_token| NumberColumn::Sequence);

impl<S> Status<S> {
    /// It is this status.
    pub fn eq(self, status: u16) -> Filter<S> {
        self.between(status..=status)
    }

    /// It is another status.
    pub fn ne(self, status: u16) -> Filter<S> {
        !self.eq(status)
    }

    /// It is larger.
    pub fn gt(self, status: u16) -> Filter<S> {
        !self.le(status)
    }

    /// It is larger or equal.
    pub fn ge(self, status: u16) -> Filter<S> {
        self.between(status..)
    }

    /// It is smaller.
    pub fn lt(self, status: u16) -> Filter<S> {
        self.between(..status)
    }

    /// It is smaller or equal.
    pub fn le(self, status: u16) -> Filter<S> {
        self.between(..=status)
    }

    /// It is one of these; of none, no event.
    pub fn in_(self, statuses: impl IntoIterator<Item = u16>) -> Filter<S> {
        Filter::leaf(Expr::Status(statuses.into_iter().map(|status| status..=status).collect()))
    }

    /// It lies in this range: half-open or inclusive, as written.
    pub fn between(self, range: impl RangeBounds<u16>) -> Filter<S> {
        let wide =
            (range.start_bound().map(|from| i64::from(*from)), range.end_bound().map(|to| i64::from(*to)));
        let within = inclusive(&wide).and_then(|(from, to)| {
            let from = u16::try_from(from.max(0)).ok()?;
            Some(from..=u16::try_from(to.min(i64::from(u16::MAX))).ok()?)
        });
        Filter::leaf(Expr::Status(within.into_iter().collect()))
    }
}

impl<S> Flags<S> {
    /// All of these bits are set; others may be too.
    pub fn has(self, bits: u16) -> Filter<S> {
        Filter::leaf(Expr::Flags { bits })
    }

    /// Exactly these bits are set.
    pub fn are(self, bits: u16) -> Filter<S> {
        let bits = i64::from(bits);
        Filter::leaf(Expr::Number { column: NumberColumn::Flags, lo: bits, hi: bits })
    }

    /// At least one of these bits is set.
    pub fn has_any(self, bits: u16) -> Filter<S> {
        let each = (0..u16::BITS).map(|bit| bits & 1 << bit).filter(|bit| *bit != 0);
        let parts = each.map(|bit| self.has(bit));
        parts.reduce(|any, part| any | part).unwrap_or_else(|| Filter::leaf(Expr::Always(false)))
    }
}

impl<S> Dim<S> {
    /// Its place among the dims.
    pub(crate) fn place(self) -> usize {
        self.column
    }
}

impl<S, T> Number<S, T> {
    pub(crate) fn column(self) -> NumberColumn {
        self.column
    }
}

/// What the derive makes tokens with.
impl<S: Schema> Dim<S> {
    #[doc(hidden)]
    pub const fn at(place: usize) -> Self {
        Self::of(place)
    }
}

impl<S: Schema> Number<S, u32> {
    #[doc(hidden)]
    pub const fn counter(place: usize) -> Self {
        Self::of(NumberColumn::Counter(place))
    }

    #[doc(hidden)]
    pub const fn latency() -> Self {
        Self::of(NumberColumn::Latency)
    }

    #[doc(hidden)]
    pub const fn latency_detail() -> Self {
        Self::of(NumberColumn::LatencyDetail)
    }
}

impl<S: Schema> Number<S, i64> {
    #[doc(hidden)]
    pub const fn metric() -> Self {
        Self::of(NumberColumn::Metric)
    }
}

impl<S: Schema> Text<S> {
    #[doc(hidden)]
    pub const fn id() -> Self {
        Self::of(TextColumn::Id)
    }

    #[doc(hidden)]
    pub const fn label(place: usize) -> Self {
        Self::of(TextColumn::Label(place))
    }
}

/// Tokens of columns of which a table has one.
macro_rules! built_in {
    ($($name:ident),*) => {
        $(impl<S: Schema> $name<S> {
            #[doc(hidden)]
            pub const fn built_in() -> Self {
                Self::of(())
            }
        })*
    };
}

built_in!(Status, Time, Sequence, Flags);
