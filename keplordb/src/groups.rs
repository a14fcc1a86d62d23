//! Grouped queries: by which keys and spans of time, what of each group, in which order; and the result.
//!
//! ```
//! use keplordb::aggregates::{count, mean, quantile, sum};
//! use keplordb::{Bucket, Schema, Store};
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
//! const MINUTE_NS: i64 = 60_000_000_000;
//! for (minute, user, cost) in [(0, "alice", 300), (61, "bob", 100), (62, "alice", 50)] {
//!     store.append(AiCall::new(minute * MINUTE_NS).user(user).model("o3").metric(cost).latency_ms(40))?;
//! }
//! let c = AiCall::cols();
//! let spent = store
//!     .query(c.model.eq("o3"))
//!     .group_by((c.user, c.model))
//!     .bucket(Bucket::hours(1))
//!     .select((count(), sum(c.metric), mean(c.latency_ms), quantile(c.latency_ms, 0.99)))
//!     .top_by(2, sum(c.metric))
//!     .fetch()?;
//! for group in &spent {
//!     let (user, model) = group.key();
//!     let (calls, cost, ..) = group.values();
//!     println!("{user} paid {cost} for {calls} calls of {model} in the hour from {}", group.bucket());
//! }
//! let first = spent.get(0).unwrap();
//! assert_eq!((spent.len(), first.key(), first.bucket(), first.values().1), (2, ("alice", "o3"), 0, 300));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What cannot be meant does not compile:
//!
//! ```compile_fail
//! # use keplordb::{Schema, Store};
//! # #[derive(Schema)]
//! # #[keplordb(id = 1)]
//! # pub struct AiCall { #[dim] pub user: String, #[counter] pub tokens: u32 }
//! # fn ask(store: Store<AiCall>) {
//! let c = AiCall::cols();
//! store.query(AiCall::filter()).group_by(c.tokens); // numbers are no keys: bucket or filter them
//! # }
//! ```
//!
//! ```compile_fail
//! # use keplordb::aggregates::count;
//! # use keplordb::{Schema, Store};
//! # #[derive(Schema)]
//! # #[keplordb(id = 1)]
//! # pub struct AiCall { #[dim] pub user: String, #[counter] pub tokens: u32 }
//! # fn ask(store: Store<AiCall>) {
//! let c = AiCall::cols();
//! let groups = store.query(AiCall::filter()).group_by(c.user).select(count()).fetch().unwrap();
//! groups.get(0).unwrap().bucket(); // there are no buckets
//! # }
//! ```

use std::fmt;
use std::marker::PhantomData;

use crate::aggregates::{Aggregate, Aggregates};
use crate::columns::{Dim, Status};
use crate::error::{DbError, Result};
use crate::expr::KeyColumn;
use crate::query::Query;
use crate::read::explain::Explain;
use crate::read::group::{self, Buckets, GroupOrder, GroupQuery};
use crate::store::Schema;

/// Spans of time of equal width to group by; the first begins at the Unix epoch, and with it those of UTC hours and days.
///
/// ```
/// # use keplordb::{Schema, Store};
/// # #[derive(Schema)]
/// # #[keplordb(id = 1)]
/// # pub struct AiCall { #[dim] pub user: String, #[dim] pub model: String, #[counter] pub tokens: u32 }
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::<AiCall>::open(dir.path().join("calls"))?;
/// use keplordb::aggregates::count;
/// use keplordb::Bucket;
///
/// const DAY_NS: i64 = 86_400_000_000_000;
/// const HOUR_NS: i64 = DAY_NS / 24;
/// for ts_ns in [0, 23 * HOUR_NS, 3 * DAY_NS] {
///     store.append(AiCall::new(ts_ns))?;
/// }
/// let by = |bucket| -> keplordb::Result<Vec<(i64, u64)>> {
///     let found = store.query(AiCall::filter()).bucket(bucket).select(count()).fetch()?;
///     Ok(found.iter().map(|span| (span.bucket() / HOUR_NS, span.values())).collect())
/// };
/// assert_eq!(by(Bucket::days(1))?, [(0, 2), (72, 1)]);
/// assert_eq!(by(Bucket::days(1).filled())?, [(0, 2), (24, 0), (48, 0), (72, 1)]);
/// assert_eq!(by(Bucket::days(1).from(-2 * HOUR_NS))?, [(-2, 1), (22, 1), (70, 1)]); // days two hours east of UTC
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Months and years are not equally wide: ask a query for each, [`between`](Query::between) its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    width_ns: i64,
    offset_ns: i64,
    fill: bool,
}

impl Bucket {
    /// So many nanoseconds; a query refuses less than one.
    pub const fn ns(width_ns: i64) -> Self {
        Self { width_ns, offset_ns: 0, fill: false }
    }

    /// So many seconds.
    pub const fn seconds(count: u32) -> Self {
        Self::ns((count as i64).saturating_mul(1_000_000_000))
    }

    /// So many minutes.
    pub const fn minutes(count: u32) -> Self {
        Self::ns((count as i64).saturating_mul(60_000_000_000))
    }

    /// So many hours.
    pub const fn hours(count: u32) -> Self {
        Self::ns((count as i64).saturating_mul(3_600_000_000_000))
    }

    /// So many days of 24 hours, from UTC midnight.
    pub const fn days(count: u32) -> Self {
        Self::ns((count as i64).saturating_mul(86_400_000_000_000))
    }

    /// Begins one of them at this time instead of at the epoch: weeks from a Monday, days of another time zone.
    #[must_use]
    pub const fn from(self, offset_ns: i64) -> Self {
        Self { offset_ns, ..self }
    }

    /// Lists buckets without events too, between the first and the last that have some, for each key that occurs; counts and
    /// sums are 0 there, all else `None`. A query refuses to list more than 1,048,576 groups in all.
    #[must_use]
    pub const fn filled(self) -> Self {
        Self { fill: true, ..self }
    }

    /// The spans of one that [`check`] has let pass.
    pub(crate) fn spans(self) -> Buckets {
        Buckets::new(self.width_ns, self.offset_ns, self.fill)
    }
}

/// A column to group by: a dim or the status.
pub trait GroupKey<S>: Copy + sealed::Sealed {
    /// A key as it is read: `&str` of a dim, `u16` of the status.
    type Key<'g>;

    #[doc(hidden)]
    fn column(&self) -> KeyColumn;

    #[doc(hidden)]
    fn read(groups: &group::Groups, place: usize, slot: usize) -> Self::Key<'_>;
}

impl<S> GroupKey<S> for Dim<S> {
    type Key<'g> = &'g str;

    fn column(&self) -> KeyColumn {
        KeyColumn::Dim(self.place())
    }

    fn read(groups: &group::Groups, place: usize, slot: usize) -> &str {
        groups.key(place, slot)
    }
}

impl<S> GroupKey<S> for Status<S> {
    type Key<'g> = u16;

    fn column(&self) -> KeyColumn {
        KeyColumn::Status
    }

    fn read(groups: &group::Groups, place: usize, slot: usize) -> u16 {
        groups.status(place, slot)
    }
}

/// What to group by: a [`GroupKey`], a tuple of up to eight, or `()` for none.
pub trait GroupKeys<S>: sealed::Sealed {
    /// The keys of a group: of one column its key, of a tuple a tuple.
    type Key<'g>;

    #[doc(hidden)]
    fn columns(&self) -> Vec<KeyColumn>;

    #[doc(hidden)]
    fn read(groups: &group::Groups, place: usize) -> Self::Key<'_>;
}

macro_rules! one_key {
    ($($token:ident),*) => {
        $(impl<S> GroupKeys<S> for $token<S> {
            type Key<'g> = <Self as GroupKey<S>>::Key<'g>;

            fn columns(&self) -> Vec<KeyColumn> {
                vec![self.column()]
            }

            fn read(groups: &group::Groups, place: usize) -> Self::Key<'_> {
                <Self as GroupKey<S>>::read(groups, place, 0)
            }
        })*
    };
}

one_key!(Dim, Status);

impl<S> GroupKeys<S> for () {
    type Key<'g> = ();

    fn columns(&self) -> Vec<KeyColumn> {
        Vec::new()
    }

    fn read(_: &group::Groups, _: usize) {}
}

macro_rules! several_keys {
    ($($key:ident $slot:tt),+) => {
        impl<S, $($key: GroupKey<S>),+> GroupKeys<S> for ($($key,)+) {
            type Key<'g> = ($($key::Key<'g>,)+);

            fn columns(&self) -> Vec<KeyColumn> {
                vec![$(self.$slot.column()),+]
            }

            fn read(groups: &group::Groups, place: usize) -> Self::Key<'_> {
                ($($key::read(groups, place, $slot),)+)
            }
        }

        impl<$($key: sealed::Sealed),+> sealed::Sealed for ($($key,)+) {}
    };
}

several_keys!(A 0);
several_keys!(A 0, B 1);
several_keys!(A 0, B 1, C 2);
several_keys!(A 0, B 1, C 2, D 3);
several_keys!(A 0, B 1, C 2, D 3, E 4);
several_keys!(A 0, B 1, C 2, D 3, E 4, F 5);
several_keys!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
several_keys!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

/// A query with keys `K` and, where `B` is [`Bucket`], spans of time to group by; [`select`](Self::select) says what of each group.
#[derive(Debug)]
#[must_use = "a query does nothing before it is fetched"]
pub struct Grouped<'a, S: Schema, K, B> {
    query: Query<'a, S>,
    keys: K,
    bucket: Option<Bucket>,
    buckets: PhantomData<fn() -> B>,
}

impl<'a, S: Schema, K: GroupKeys<S>> Grouped<'a, S, K, ()> {
    pub(crate) fn new(query: Query<'a, S>, keys: K) -> Self {
        Self { query, keys, bucket: None, buckets: PhantomData }
    }

    /// Groups by spans of time too; among groups of one key they come in the order of time.
    pub fn bucket(self, bucket: Bucket) -> Grouped<'a, S, K, Bucket> {
        Grouped { query: self.query, keys: self.keys, bucket: Some(bucket), buckets: PhantomData }
    }
}

impl<'a, S: Schema, K: GroupKeys<S>, B> Grouped<'a, S, K, B> {
    /// What is wanted of each group: one [`Aggregate`] or a tuple of them.
    pub fn select<A: Aggregates<S>>(self, aggregates: A) -> Selected<'a, S, K, B, A> {
        let bucket = self.bucket;
        let ask = GroupQuery {
            keys: self.keys.columns(),
            buckets: bucket.map(Bucket::spans),
            aggregates: aggregates.specs(),
            order: GroupOrder::ByKey,
            limit: usize::MAX,
            offset: 0,
            grant: None,
        };
        Selected { query: self.query, ask, bucket, answer: PhantomData }
    }
}

/// What a result is made of: keys, buckets, aggregates.
type Answer<K, B, A> = PhantomData<fn() -> (K, B, A)>;

/// A grouped query that knows what is wanted of each group; [`fetch`](Self::fetch) asks it.
///
/// ```
/// # use keplordb::{Schema, Store};
/// # #[derive(Schema)]
/// # #[keplordb(id = 1)]
/// # pub struct AiCall { #[dim] pub user: String, #[dim] pub model: String, #[counter] pub tokens: u32 }
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::<AiCall>::open(dir.path().join("calls"))?;
/// use keplordb::aggregates::{count, sum};
/// use keplordb::Filter;
///
/// for (user, tokens) in [("alice", 10), ("bob", 30), ("carol", 20), ("bob", 1)] {
///     store.append(AiCall::new(0).user(user).tokens(tokens).status(200))?;
/// }
/// let c = AiCall::cols();
/// let spent = store.query(Filter::all()).group_by((c.user, c.status)).select((count(), sum(c.tokens)));
/// let top = spent.top_by(2, sum(c.tokens)).fetch()?;
/// let lines: Vec<_> = top.iter().map(|group| (group.key(), group.values())).collect();
/// assert_eq!(lines, [(("bob", 200), (2, 31)), (("carol", 200), (1, 20))]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a query does nothing before it is fetched"]
pub struct Selected<'a, S: Schema, K, B, A> {
    query: Query<'a, S>,
    ask: GroupQuery,
    bucket: Option<Bucket>,
    answer: Answer<K, B, A>,
}

impl<S: Schema, K: GroupKeys<S>, B, A: Aggregates<S>> Selected<'_, S, K, B, A> {
    /// Only the first `count` groups by this aggregate, the largest first; over all groups of the result, whatever their buckets.
    /// Groups without a value come last, equal ones by key and bucket.
    pub fn top_by<V>(self, count: usize, aggregate: Aggregate<S, V>) -> Self {
        self.ordered_by(GroupOrder::Top, aggregate).limit(count)
    }

    /// Only the last `count` groups by this aggregate, the smallest first. Groups without a value come last here too, equal ones by key and
    /// bucket.
    pub fn bottom_by<V>(self, count: usize, aggregate: Aggregate<S, V>) -> Self {
        self.ordered_by(GroupOrder::Bottom, aggregate).limit(count)
    }

    fn ordered_by<V>(mut self, order: impl Fn(usize) -> GroupOrder, aggregate: Aggregate<S, V>) -> Self {
        let wanted = aggregate.spec();
        let known = self.ask.aggregates.iter().position(|spec| *spec == wanted);
        // One that is not selected is asked besides; nobody reads it from the result.
        let place = known.unwrap_or_else(|| {
            self.ask.aggregates.push(wanted);
            self.ask.aggregates.len() - 1
        });
        self.ask.order = order(place);
        self
    }

    /// By key, then by bucket, ascending: texts by their bytes, statuses by number. The default.
    pub fn order_by_key(mut self) -> Self {
        self.ask.order = GroupOrder::ByKey;
        self
    }

    /// At most so many groups.
    pub fn limit(mut self, groups: usize) -> Self {
        self.ask.limit = groups;
        self
    }

    /// Leaves out the first ones, in the order of the result; then [`limit`](Self::limit) counts. All groups are made for it, so a late page
    /// costs as much as all.
    pub fn offset(mut self, groups: usize) -> Self {
        self.ask.offset = groups;
        self
    }

    /// Asks the query. Those groups without events are not listed, but where buckets are [`filled`](Bucket::filled); without keys and buckets
    /// there is exactly one.
    ///
    /// Cost: per segment the cheapest of its totals, running sums, value sums, lists of rows, and a scan; see
    /// [`explain`](Self::explain). The first query that groups by a column reads its dictionaries. Memory: the groups, before any limit.
    ///
    /// # Errors
    /// [`Invalid`](DbError::Invalid) for a quantile not in 0 to 1, a bucket below one nanosecond, too many filled buckets, and a filter of more
    /// than 256 levels; [`Corrupt`](DbError::Corrupt) or [`Io`](DbError::Io) when a segment cannot be read.
    pub fn fetch(&self) -> Result<Groups<S, K, B, A>> {
        Ok(Groups { found: self.ask()?.0, answer: PhantomData, events: PhantomData })
    }

    /// What decides the answer: asks the query, and says how each segment was answered.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn explain(&self) -> Result<Explain> {
        Ok(self.ask()?.1)
    }

    fn ask(&self) -> Result<(group::Groups, Explain)> {
        check(&self.ask, self.bucket)?;
        self.query.group(&self.ask)
    }
}

/// Refuses what the types let pass.
pub(crate) fn check(ask: &GroupQuery, bucket: Option<Bucket>) -> Result<()> {
    if bucket.is_some_and(|bucket| bucket.width_ns < 1) {
        return Err(DbError::invalid("bucket", "it must be at least one nanosecond wide"));
    }
    for spec in &ask.aggregates {
        if let group::Aggregate::Quantile(_, q) = spec
            && !(0.0..=1.0).contains(q)
        {
            return Err(DbError::invalid("quantile", format!("{q} is not from 0 to 1")));
        }
    }
    Ok(())
}

impl<S: Schema, A: Aggregates<S>> Selected<'_, S, (), (), A> {
    /// The values of the one group that there is without keys and buckets.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn one(&self) -> Result<A::Values> {
        check(&self.ask, self.bucket)?;
        let ask = GroupQuery { limit: usize::MAX, offset: 0, ..self.ask.clone() };
        Ok(A::values(self.query.group(&ask)?.0.values(0)))
    }
}

/// The result of a grouped query: its groups, in the order asked for. Owns what it holds; reading a group allocates nothing.
pub struct Groups<S, K, B, A> {
    found: group::Groups,
    answer: Answer<K, B, A>,
    events: PhantomData<fn() -> S>,
}

impl<S, K: GroupKeys<S>, B, A: Aggregates<S>> Groups<S, K, B, A> {
    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A group by its place.
    pub fn get(&self, place: usize) -> Option<Group<'_, S, K, B, A>> {
        (place < self.len()).then_some(Group { groups: self, place })
    }

    /// The groups in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Group<'_, S, K, B, A>> + DoubleEndedIterator {
        (0..self.len()).map(|place| Group { groups: self, place })
    }
}

impl<'g, S, K: GroupKeys<S>, B, A: Aggregates<S>> IntoIterator for &'g Groups<S, K, B, A> {
    type Item = Group<'g, S, K, B, A>;
    type IntoIter = GroupIter<'g, S, K, B, A>;

    fn into_iter(self) -> Self::IntoIter {
        GroupIter { groups: self, places: 0..self.len() }
    }
}

impl<S, K, B, A> fmt::Debug for Groups<S, K, B, A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.found.fmt(out)
    }
}

/// The groups of a result, one after the other.
pub struct GroupIter<'g, S, K, B, A> {
    groups: &'g Groups<S, K, B, A>,
    places: std::ops::Range<usize>,
}

impl<'g, S, K, B, A> Iterator for GroupIter<'g, S, K, B, A> {
    type Item = Group<'g, S, K, B, A>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.places.next()?;
        Some(Group { groups: self.groups, place })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.places.size_hint()
    }
}

impl<S, K, B, A> ExactSizeIterator for GroupIter<'_, S, K, B, A> {}

/// One group of a result: its keys, its bucket where there are buckets, and its values. A copy costs nothing.
pub struct Group<'g, S, K, B, A> {
    groups: &'g Groups<S, K, B, A>,
    place: usize,
}

impl<'g, S, K: GroupKeys<S>, B, A: Aggregates<S>> Group<'g, S, K, B, A> {
    /// Its keys, in the order in which they were asked for: `&str` for a dim, `u16` for the status.
    pub fn key(&self) -> K::Key<'g> {
        K::read(&self.groups.found, self.place)
    }

    /// Its values, in the order in which they were selected.
    pub fn values(&self) -> A::Values {
        A::values(self.groups.found.values(self.place))
    }
}

impl<S, K, A> Group<'_, S, K, Bucket, A> {
    /// When its bucket begins, in nanoseconds since the Unix epoch.
    pub fn bucket(&self) -> i64 {
        self.groups.found.bucket(self.place)
    }
}

impl<S, K, B, A> Clone for Group<'_, S, K, B, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, K, B, A> Copy for Group<'_, S, K, B, A> {}

/// Nobody else implements the traits of this module: the engine groups by dims and the status.
mod sealed {
    use crate::columns::{Dim, Status};

    pub trait Sealed {}

    impl Sealed for () {}
    impl<S> Sealed for Dim<S> {}
    impl<S> Sealed for Status<S> {}
}
