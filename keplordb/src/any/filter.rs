//! Trees of conditions on columns by name.

use std::fmt;
use std::ops::{BitAnd, BitOr, Not, RangeInclusive};
use std::sync::Arc;

use super::columns::{Column, Columns, Kind, Slot, is_same};
use crate::error::{DbError, Result};
use crate::expr::{Expr, Expression, TextColumn, TextTest};

/// What the value of a column must be; texts compare by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Test {
    /// A number from `lo` to `hi`, both inclusive; with `lo` above `hi` none is. `hi` may lie beyond what the column can hold.
    Between {
        /// The smallest number that passes.
        lo: i64,
        /// The largest one.
        hi: i64,
    },
    /// All of these flags are set; others may be too. Only of the column `flags`.
    HasFlags(u16),
    /// Exactly this text; the empty one is an ordinary value, and what rows have in a column that is younger than they are.
    Equals(String),
    /// One of these texts; of none, no row passes.
    AnyOf(Vec<String>),
    /// It begins with this text.
    StartsWith(String),
    /// It ends with this text.
    EndsWith(String),
    /// This text is a part of it.
    Contains(String),
}

/// Which events a query looks at: conditions on columns by name, joined by `&`, `|` and `!`.
///
/// Made by `filter` of a table ([`AnyStore::filter`](crate::any::AnyStore::filter)), [`all`](Self::all) and [`none`](Self::none).
/// It belongs to the columns that it was made for; queries of a table with others refuse it. A chain of one operator is one
/// level; more than 256 levels within each other are refused by the query too. What each condition costs is said at
/// [`Filter`](crate::Filter).
///
/// ```
/// use keplordb::TableSchema;
/// use keplordb::any::{AnyFilter, AnyStore, Test};
///
/// # let dir = tempfile::tempdir()?;
/// let schema = TableSchema::new(1).dim("user").dim("model").counter("tokens");
/// let store = AnyStore::open_or_create(dir.path().join("calls"), schema)?;
/// for (user, model, tokens) in [("alice", "gpt-4o", 7), ("bob", "gpt-4o", 30), ("carol", "o3", 900)] {
///     let call = store.event(1_700_000_000_000_000_000).set("user", user)?;
///     store.append(call.set("model", model)?.set("tokens", tokens)?)?;
/// }
/// let is_gpt = store.filter("model", Test::StartsWith("gpt".into()))?;
/// let is_large = store.filter("tokens", Test::Between { lo: 20, hi: i64::MAX })?;
/// let is_alice = store.filter("user", Test::Equals("alice".into()))?;
/// let count = |filter: &AnyFilter| -> keplordb::Result<u64> {
///     Ok(store.query().filter(filter).totals()?.event_count)
/// };
/// assert_eq!(count(&(is_gpt.clone() & &is_large))?, 1);
/// assert_eq!(count(&(!&is_gpt | is_alice))?, 2);
///
/// let refused = store.filter("tokens", Test::Contains("7".into())).unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "tokens is not legal: the column holds numbers, which are tested with Between, not with Contains",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct AnyFilter {
    expression: Expression,
    of: Of,
}

/// Whose columns a filter is about.
#[derive(Clone, PartialEq)]
enum Of {
    /// It names no column.
    AnyTable,
    Table(Arc<Columns>),
    /// Parts of it are about different tables.
    Several,
}

impl AnyFilter {
    /// Every event, of any table.
    pub fn all() -> Self {
        Self::always(true)
    }

    /// No event.
    pub fn none() -> Self {
        Self::always(false)
    }

    fn always(holds: bool) -> Self {
        Self { expression: Expression::leaf(Expr::Always(holds)), of: Of::AnyTable }
    }

    /// The events whose column passes the test.
    pub(super) fn new(columns: &Arc<Columns>, column: &str, test: Test) -> Result<Self> {
        let condition = columns.named(column)?.condition(test)?;
        Ok(Self { expression: Expression::leaf(condition), of: Of::Table(Arc::clone(columns)) })
    }

    /// The tree, for a query of a table with these columns; refuses filters that were made for others.
    pub(super) fn root_for(&self, columns: &Arc<Columns>) -> Result<&Expr> {
        let is_for_it = match &self.of {
            Of::AnyTable => true,
            Of::Table(mine) => is_same(mine, columns),
            Of::Several => false,
        };
        if is_for_it {
            return Ok(self.expression.root());
        }
        let why = "it was made for a table of other columns; make it by filter() of the table that is asked";
        Err(DbError::invalid("filter", why))
    }

    fn joined(self, other: Self, join: impl FnOnce(Expression, Expression) -> Expression) -> Self {
        let of = match (self.of, other.of) {
            (Of::AnyTable, of) | (of, Of::AnyTable) => of,
            (Of::Table(one), Of::Table(two)) if is_same(&one, &two) => Of::Table(one),
            _ => Of::Several,
        };
        Self { expression: join(self.expression, other.expression), of }
    }
}

impl Default for AnyFilter {
    /// Every event.
    fn default() -> Self {
        Self::all()
    }
}

impl From<&Self> for AnyFilter {
    fn from(filter: &Self) -> Self {
        filter.clone()
    }
}

impl<F: Into<Self>> BitAnd<F> for AnyFilter {
    type Output = Self;

    /// Events that both match.
    fn bitand(self, other: F) -> Self {
        self.joined(other.into(), Expression::and)
    }
}

impl<F: Into<Self>> BitOr<F> for AnyFilter {
    type Output = Self;

    /// Events that one of them matches, or both.
    fn bitor(self, other: F) -> Self {
        self.joined(other.into(), Expression::or)
    }
}

impl Not for AnyFilter {
    type Output = Self;

    /// Events that it does not match.
    fn not(self) -> Self {
        Self { expression: self.expression.negated(), of: self.of }
    }
}

impl Not for &AnyFilter {
    type Output = AnyFilter;

    /// Events that it does not match.
    fn not(self) -> AnyFilter {
        !self.clone()
    }
}

impl fmt::Debug for AnyFilter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("AnyFilter").field(self.expression.root()).finish()
    }
}

impl Column {
    /// The condition that the value passes a test.
    fn condition(&self, test: Test) -> Result<Expr> {
        match test {
            Test::Between { lo, hi } => match (self.slot, self.slot.number()) {
                (Slot::Status, _) => Ok(Expr::Status(statuses(lo, hi))),
                (_, Some(column)) => Ok(Expr::Number { column, lo, hi }),
                _ => Err(self.untested("Between")),
            },
            Test::HasFlags(bits) if self.slot == Slot::Flags => Ok(Expr::Flags { bits }),
            Test::HasFlags(_) => Err(self.untested("HasFlags")),
            Test::Equals(whole) => self.text_condition(TextTest::Equal(whole), "Equals"),
            Test::AnyOf(several) => self.text_condition(TextTest::any_of(several), "AnyOf"),
            Test::StartsWith(start) => self.text_condition(TextTest::StartsWith(start), "StartsWith"),
            Test::EndsWith(end) => self.text_condition(TextTest::EndsWith(end), "EndsWith"),
            Test::Contains(part) => self.text_condition(TextTest::Contains(part), "Contains"),
        }
    }

    fn text_condition(&self, test: TextTest, name: &str) -> Result<Expr> {
        match self.slot {
            Slot::Dim(dim) => Ok(Expr::Dim { dim, test }),
            Slot::Id => Ok(Expr::Text { column: TextColumn::Id, test }),
            Slot::Label(label) => Ok(Expr::Text { column: TextColumn::Label(label), test }),
            _ => Err(self.untested(name)),
        }
    }

    fn untested(&self, test: &str) -> DbError {
        let is_tested = match (self.slot, self.kind) {
            (Slot::Flags, _) => "flags, which are tested with HasFlags or Between",
            (_, Kind::Text) => "texts, which are tested with Equals, AnyOf, StartsWith, EndsWith or Contains",
            _ => "numbers, which are tested with Between",
        };
        DbError::invalid(&self.name, format!("the column holds {is_tested}, not with {test}"))
    }
}

/// The statuses in a range of numbers, as one range or none.
fn statuses(lo: i64, hi: i64) -> Vec<RangeInclusive<u16>> {
    let within = |status: i64| u16::try_from(status.clamp(0, u16::MAX.into())).unwrap_or(u16::MAX);
    // Above the largest status, and below 0, there is none.
    let has_some = lo <= hi && lo <= i64::from(u16::MAX) && hi >= 0;
    has_some.then(|| within(lo)..=within(hi)).into_iter().collect()
}
