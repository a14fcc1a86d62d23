//! Facets: which values a dim has, and how many events have each.

use crate::columns::Dim;
use crate::error::Result;
use crate::expr::KeyColumn;
use crate::query::Query;
use crate::read::group::{Aggregate, GroupOrder, GroupQuery, GroupValue};
use crate::store::Schema;

/// A question for the values of a dim; made by [`Store::values`](crate::Store::values) and [`Query::values`].
///
/// Without conditions on other columns it is answered by the dictionaries of the segments and their counts: the cost grows
/// with the distinct values, not with the events; rows that are not yet in a segment are looked at. With other conditions, the
/// rows that match are counted. Memory: a count for each distinct value, before any limit.
///
/// ```
/// use keplordb::{Schema, Store};
///
/// #[derive(Schema)]
/// #[keplordb(id = 1)]
/// pub struct AiCall {
///     #[dim]
///     pub model: String,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::<AiCall>::open(dir.path().join("calls"))?;
/// for model in ["gpt-4o", "o3", "gpt-5", "gpt-5"] {
///     store.append(AiCall::new(0).model(model))?;
/// }
/// let models = store.values(AiCall::cols().model).starting_with("gpt").limit(50)?;
/// assert_eq!(models, [("gpt-5".to_owned(), 2), ("gpt-4o".to_owned(), 1)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before `limit` or `all`"]
pub struct Values<'a, S: Schema> {
    query: Query<'a, S>,
    dim: Dim<S>,
}

impl<'a, S: Schema> Values<'a, S> {
    pub(crate) fn new(query: Query<'a, S>, dim: Dim<S>) -> Self {
        Self { query, dim }
    }

    /// Only values that begin with this text.
    pub fn starting_with(self, start: impl Into<String>) -> Self {
        let beginning = self.dim.starts_with(start);
        Self { query: self.query.and(beginning), dim: self.dim }
    }

    /// The most frequent values, the most frequent first and equally frequent ones in the order of their bytes; and how many
    /// events have each.
    ///
    /// # Errors
    /// As [`Query::totals`].
    pub fn limit(self, values: usize) -> Result<Vec<(String, u64)>> {
        let ask = GroupQuery {
            keys: vec![KeyColumn::Dim(self.dim.place())],
            buckets: None,
            aggregates: vec![Aggregate::Count],
            order: GroupOrder::Top(0),
            limit: values,
            offset: 0,
            grant: None,
        };
        let (groups, _) = self.query.group(&ask)?;
        let facet = |place: usize| {
            let count = if let GroupValue::Count(count) = groups.value(place, 0) { *count } else { 0 };
            (groups.key(place, 0).to_owned(), count)
        };
        Ok((0..groups.len()).map(facet).collect())
    }

    /// As [`limit`](Self::limit), all of them.
    ///
    /// # Errors
    /// As [`Query::totals`].
    pub fn all(self) -> Result<Vec<(String, u64)>> {
        self.limit(usize::MAX)
    }
}
