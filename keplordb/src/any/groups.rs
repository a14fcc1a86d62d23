//! Grouped queries by column names.

use super::columns::Columns;
use super::query::AnyQuery;
use crate::error::Result;
use crate::expr::KeyColumn;
use crate::groups::{self, Bucket};
use crate::read::explain::Explain;
use crate::read::group::{Aggregate, Grant, GroupOrder, GroupQuery, Groups};

pub use crate::read::group::GroupValue as AnyGroupValue;

/// What is wanted of a group of events, of columns by their names. What each costs, and how exact it is, is said at its twin in
/// [`aggregates`](crate::aggregates).
///
/// Numbers are the time, the sequence, the metric, the latencies, the flags and the counters. Events that are older than a
/// column have a 0 or the empty text in it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AnyAggregate {
    /// How many events: [`AnyGroupValue::Count`].
    Count,
    /// The sum of a column of numbers: [`AnyGroupValue::Sum`].
    Sum(String),
    /// The smallest number: [`AnyGroupValue::Number`].
    Min(String),
    /// The largest number: [`AnyGroupValue::Number`].
    Max(String),
    /// The mean of the numbers: [`AnyGroupValue::Mean`].
    Mean(String),
    /// The smallest number that at least this share, from 0 to 1, of all are at most: [`AnyGroupValue::Quantile`].
    Quantile(String, f64),
    /// How many different values a dim or the status has: [`AnyGroupValue::Count`].
    Distinct(String),
}

impl AnyAggregate {
    fn of(&self, columns: &Columns) -> Result<Aggregate> {
        Ok(match self {
            Self::Count => Aggregate::Count,
            Self::Sum(column) => Aggregate::Sum(columns.number(column)?),
            Self::Min(column) => Aggregate::Min(columns.number(column)?),
            Self::Max(column) => Aggregate::Max(columns.number(column)?),
            Self::Mean(column) => Aggregate::Mean(columns.number(column)?),
            Self::Quantile(column, q) => Aggregate::Quantile(columns.number(column)?, *q),
            Self::Distinct(column) => Aggregate::Distinct(columns.key(column)?),
        })
    }
}

/// A grouped query; made by [`AnyQuery::group_by`]. Groups come by key, then by bucket, ascending: texts by their bytes, statuses
/// by number.
///
/// ```
/// use keplordb::any::{AnyAggregate, AnyGroupValue, AnyStore};
/// use keplordb::{Bucket, TableSchema};
///
/// # let dir = tempfile::tempdir()?;
/// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1).dim("user").counter("tokens"))?;
/// const MINUTE_NS: i64 = 60_000_000_000;
/// for (minute, user, tokens) in [(0, "bob", 30), (61, "alice", 7), (62, "alice", 5)] {
///     store.append(store.event(minute * MINUTE_NS).set("user", user)?.set("tokens", tokens)?.set("status", 200)?)?;
/// }
/// let by_hour = store
///     .query()
///     .group_by(&["user", "status"])?
///     .bucket(Bucket::hours(1))
///     .select(&[AnyAggregate::Count, AnyAggregate::Sum("tokens".into())])?
///     .fetch()?;
/// assert_eq!(by_hour.len(), 2);
/// assert_eq!((by_hour.key(0, 0), by_hour.status(0, 1), by_hour.bucket(0)), ("alice", 200, 60 * MINUTE_NS));
/// assert_eq!(by_hour.values(0), [AnyGroupValue::Count(2), AnyGroupValue::Sum(12)]);
///
/// let slowest = AnyAggregate::Max("latency_ms".into());
/// let of_nobody = store.query().equals("user", "carol")?.group_by(&[])?.select(&[slowest])?.fetch()?;
/// assert_eq!(of_nobody.values(0), [AnyGroupValue::Number(None)]); // without keys and buckets there is always one group
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a query does nothing before it is fetched"]
pub struct AnyGrouped<'a> {
    query: AnyQuery<'a>,
    keys: Vec<KeyColumn>,
    bucket: Option<Bucket>,
    aggregates: Vec<Aggregate>,
    grant: Option<Grant>,
}

impl<'a> AnyGrouped<'a> {
    pub(super) fn new(query: AnyQuery<'a>, keys: &[&str]) -> Result<Self> {
        let keys = keys.iter().map(|key| query.columns.key(key)).collect::<Result<_>>()?;
        Ok(Self { query, keys, bucket: None, aggregates: Vec::new(), grant: None })
    }

    /// Groups by spans of time too; among groups of one key they come in the order of time.
    pub fn bucket(mut self, bucket: Bucket) -> Self {
        self.bucket = Some(bucket);
        self
    }

    /// Asks for these of each group, besides what was selected before.
    ///
    /// # Errors
    /// [`UnknownColumn`](crate::DbError::UnknownColumn); [`Invalid`](crate::DbError::Invalid) for a column that cannot be asked so:
    /// sums, extremes, means and quantiles are of numbers, distinct values of dims and the status.
    pub fn select(mut self, aggregates: &[AnyAggregate]) -> Result<Self> {
        for aggregate in aggregates {
            self.aggregates.push(aggregate.of(self.query.columns)?);
        }
        Ok(self)
    }

    /// Asks for leave on the way: `grants` is called by each thread of the query, before it looks at another segment or at a few
    /// thousand more rows, with how many bytes its groups have come to take since it was last called, 0 most of the time. Where it says
    /// no, the query ends with [`GivenUp`](crate::DbError::GivenUp). So memory is limited, and a query that nobody waits for any more
    /// is given up. Each [`fetch`](Self::fetch) asks anew.
    ///
    /// Bytes are what groups have room for, and before they are put in order what that takes; what [`AnyGroups::bytes`] says is left in
    /// the end. Exact values of quantiles are not among them, but bounded by themselves.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// use keplordb::any::AnyStore;
    /// use keplordb::{Bucket, DbError, TableSchema};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1))?;
    /// store.append_batch((0..10_000).map(|ts_ns| store.event(ts_ns)))?;
    /// let by_time = |width_ns, limit_bytes| {
    ///     let bytes = AtomicUsize::new(0);
    ///     let query = store.query().group_by(&[])?.bucket(Bucket::ns(width_ns));
    ///     query.while_granted(move |more| bytes.fetch_add(more, Ordering::Relaxed) + more <= limit_bytes).fetch()
    /// };
    /// assert_eq!(by_time(1000, 64 << 10)?.len(), 10);
    /// assert!(matches!(by_time(1, 64 << 10), Err(DbError::GivenUp)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn while_granted(mut self, grants: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        self.grant = Some(Grant::new(grants));
        self
    }

    /// Asks the query. Groups without events are not listed, but where buckets are [`filled`](Bucket::filled); without keys and
    /// buckets there is exactly one.
    ///
    /// Cost: per segment the cheapest of its totals, running sums, value sums, lists of rows, and a scan; see
    /// [`explain`](Self::explain). The first query that groups by a column reads its dictionaries. Memory: the groups.
    ///
    /// # Errors
    /// [`Invalid`](crate::DbError::Invalid) for a quantile not in 0 to 1, a bucket below one nanosecond and too many filled
    /// buckets; [`GivenUp`](crate::DbError::GivenUp) after [`while_granted`](Self::while_granted); and as [`AnyQuery::rows`].
    pub fn fetch(&self) -> Result<AnyGroups> {
        let (found, explain) = self.ask()?;
        Ok(AnyGroups { found, explain })
    }

    /// What decides the answer: asks the query, and says how each segment was answered.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn explain(&self) -> Result<Explain> {
        Ok(self.ask()?.1)
    }

    fn ask(&self) -> Result<(Groups, Explain)> {
        let ask = GroupQuery {
            keys: self.keys.clone(),
            buckets: self.bucket.map(Bucket::spans),
            aggregates: self.aggregates.clone(),
            order: GroupOrder::ByKey,
            limit: usize::MAX,
            offset: 0,
            grant: self.grant.clone(),
        };
        groups::check(&ask, self.bucket)?;
        self.query.group(&ask)
    }
}

/// The groups of a query, in their order. Owns what it holds; reading a group allocates nothing.
#[derive(Debug)]
pub struct AnyGroups {
    found: Groups,
    explain: Explain,
}

impl AnyGroups {
    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What they take in memory, in bytes; the texts of their keys are the table's.
    pub fn bytes(&self) -> usize {
        self.found.bytes()
    }

    /// How each segment was answered.
    pub fn explain(&self) -> &Explain {
        &self.explain
    }

    /// A key of a group, by its place among the keys that were asked for: the text of a dim, the five digits of a status.
    ///
    /// # Panics
    /// Where `group` or `slot` is beyond the last.
    pub fn key(&self, group: usize, slot: usize) -> &str {
        self.found.key(group, slot)
    }

    /// As [`key`](Self::key), the number of a status. Of a dim it means nothing.
    ///
    /// # Panics
    /// Where `group` or `slot` is beyond the last.
    pub fn status(&self, group: usize, slot: usize) -> u16 {
        self.found.status(group, slot)
    }

    /// When the bucket of a group begins, in nanoseconds since the Unix epoch; the earliest time of all, if it begins before; 0
    /// where there are no buckets.
    pub fn bucket(&self, group: usize) -> i64 {
        self.found.bucket(group)
    }

    /// What was asked of a group, in the order in which it was selected.
    ///
    /// # Panics
    /// Where `group` is beyond the last.
    pub fn values(&self, group: usize) -> &[AnyGroupValue] {
        self.found.values(group)
    }
}
