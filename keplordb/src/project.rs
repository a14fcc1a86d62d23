//! Rows of some columns: `query.project((c.user, c.tokens))` gives tuples and opens nothing else.

use std::borrow::Cow;

use crate::columns::{Dim, Flags, Number, Sequence, Status, Text, Time};
use crate::error::Result;
use crate::event::EventFlags;
use crate::expr::{KeyColumn, NumberColumn, TextColumn};
use crate::query::Query;
use crate::raw::RESERVED_ROWS;
use crate::read::column_set::ColumnSet;
use crate::read::query::clamp_u32;
use crate::read::row::RowView;
use crate::step::{self, Step};
use crate::store::Schema;

/// Tuples of one to eight column tokens of `S`: what [`Query::project`] takes. Implemented by tuples alone.
///
/// | token | in [`rows`](Projected::rows) | in [`each`](Projected::each) |
/// | --- | --- | --- |
/// | a dim | `String` | `&str` |
/// | the id, a label | `String` | `Cow<str>` |
/// | a counter, a latency | `u32` | `u32` |
/// | `metric`, `ts_ns` | `i64` | `i64` |
/// | `status` | `u16` | `u16` |
/// | `flags` | [`EventFlags`] | [`EventFlags`] |
/// | `sequence` | `u64` | `u64` |
pub trait Columns<S>: sealed::ReadRow {}

mod sealed {
    use crate::error::Result;
    use crate::read::column_set::ColumnSet;
    use crate::read::row::RowView;

    /// Reads one value, or a tuple of them, from a row.
    pub trait ReadRow: Copy {
        /// What it reads, owned.
        type Value;
        /// What it reads, from where it lies.
        type Borrowed<'a>;

        /// Adds the columns that must be open.
        fn add_to(self, columns: &mut ColumnSet);
        fn read<'a>(self, row: &RowView<'a>) -> Result<Self::Borrowed<'a>>;
        fn own(borrowed: Self::Borrowed<'_>) -> Self::Value;
    }
}

use sealed::ReadRow;

/// A token of a column whose values are numbers: owned and borrowed are one.
macro_rules! number {
    ($token:ident<S $(, $type:ty)?>, $value:ty, |$self:ident, $row:ident| $add:ident($column:expr), $read:expr) => {
        impl<S> ReadRow for $token<S $(, $type)?> {
            type Value = $value;
            type Borrowed<'a> = $value;

            fn add_to($self, columns: &mut ColumnSet) {
                columns.$add($column);
            }

            fn read($self, $row: &RowView<'_>) -> Result<$value> {
                Ok($read)
            }

            fn own(value: $value) -> $value {
                value
            }
        }
    };
}

number!(Number<S, u32>, u32, |self, row| insert_number(self.column), clamp_u32(row.number(self.column)));
number!(Number<S, i64>, i64, |self, row| insert_number(self.column), row.number(self.column));
number!(Time<S>, i64, |self, row| insert_number(NumberColumn::Time), row.ts_ns());
number!(Sequence<S>, u64, |self, row| insert_number(NumberColumn::Sequence), row.sequence());
number!(Flags<S>, EventFlags, |self, row| insert_number(NumberColumn::Flags), row.flags());
number!(Status<S>, u16, |self, row| insert_key(KeyColumn::Status), row.status());

impl<S> ReadRow for Dim<S> {
    type Value = String;
    type Borrowed<'a> = &'a str;

    fn add_to(self, columns: &mut ColumnSet) {
        columns.insert_key(KeyColumn::Dim(self.column));
    }

    fn read<'a>(self, row: &RowView<'a>) -> Result<&'a str> {
        Ok(row.dim(self.column))
    }

    fn own(text: &str) -> String {
        text.to_owned()
    }
}

impl<S> ReadRow for Text<S> {
    type Value = String;
    type Borrowed<'a> = Cow<'a, str>;

    /// Texts are opened when a row is first asked for them.
    fn add_to(self, _: &mut ColumnSet) {}

    fn read<'a>(self, row: &RowView<'a>) -> Result<Cow<'a, str>> {
        match self.column {
            TextColumn::Id => row.id(),
            TextColumn::Label(label) => row.label(label),
        }
    }

    fn own(text: Cow<'_, str>) -> String {
        text.into_owned()
    }
}

/// Which table a token is of.
trait Of<S>: ReadRow {}
impl<S> Of<S> for Dim<S> {}
impl<S> Of<S> for Text<S> {}
impl<S> Of<S> for Number<S, u32> {}
impl<S> Of<S> for Number<S, i64> {}
impl<S> Of<S> for Time<S> {}
impl<S> Of<S> for Sequence<S> {}
impl<S> Of<S> for Flags<S> {}
impl<S> Of<S> for Status<S> {}

macro_rules! tuple {
    ($($token:ident $place:tt),+) => {
        impl<$($token: ReadRow),+> ReadRow for ($($token,)+) {
            type Value = ($($token::Value,)+);
            type Borrowed<'a> = ($($token::Borrowed<'a>,)+);

            fn add_to(self, columns: &mut ColumnSet) {
                $(self.$place.add_to(columns);)+
            }

            fn read<'a>(self, row: &RowView<'a>) -> Result<Self::Borrowed<'a>> {
                Ok(($(self.$place.read(row)?,)+))
            }

            fn own(borrowed: Self::Borrowed<'_>) -> Self::Value {
                ($($token::own(borrowed.$place),)+)
            }
        }
        impl<S, $($token: Of<S>),+> Columns<S> for ($($token,)+) {}
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

/// A question about some columns of a table's events; made by [`Query::project`].
#[derive(Debug, Clone)]
#[must_use = "a query does nothing before it is asked for rows"]
pub struct Projected<'a, S: Schema, P> {
    query: Query<'a, S>,
    columns: P,
}

impl<'a, S: Schema> Query<'a, S> {
    /// Only these columns of each row, as tuples; the others are not read.
    ///
    /// ```
    /// use keplordb::{Schema, Store};
    ///
    /// #[derive(Schema)]
    /// #[keplordb(id = 1)]
    /// pub struct AiCall {
    ///     #[dim]
    ///     pub user: String,
    ///     #[counter]
    ///     pub tokens: u32,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::<AiCall>::open(dir.path().join("calls"))?;
    /// # store.append(AiCall::new(1).user("alice").tokens(3))?;
    /// let c = AiCall::cols();
    /// let query = store.query(c.tokens.gt(2)).newest_first().limit(100).project((c.user, c.tokens));
    /// assert_eq!(query.rows()?, [("alice".to_owned(), 3)]);
    /// query.each(|(user, tokens)| assert_eq!((user, tokens), ("alice", 3)))?; // borrowed
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Columns of another table do not compile:
    ///
    /// ```compile_fail
    /// # use keplordb::{Schema, Store};
    /// # #[derive(Schema)]
    /// # #[keplordb(id = 1)]
    /// # pub struct AiCall { #[dim] pub user: String }
    /// # #[derive(Schema)]
    /// # #[keplordb(id = 2)]
    /// # pub struct Payment { #[dim] pub payer: String }
    /// # let store = Store::<AiCall>::open("calls").unwrap();
    /// store.query(AiCall::filter()).project((Payment::cols().payer,)).rows().unwrap();
    /// ```
    pub fn project<P: Columns<S>>(self, columns: P) -> Projected<'a, S, P> {
        Projected { query: self, columns }
    }
}

impl<S: Schema, P: Columns<S>> Projected<'_, S, P> {
    /// The rows as tuples of owned values.
    ///
    /// Cost: as [`each`](Self::each), and an allocation for each text.
    ///
    /// # Errors
    /// As [`Query::rows`].
    pub fn rows(&self) -> Result<Vec<P::Value>> {
        let mut rows = Vec::with_capacity(self.query.limit.min(RESERVED_ROWS));
        self.each(|row| rows.push(P::own(row)))?;
        Ok(rows)
    }

    /// Gives each row to a function, in order, as a tuple of values read where they lie; [`Query::each`] says what the
    /// function may return.
    ///
    /// Cost: as [`Query::each`], of these columns alone; ids and labels are decoded.
    ///
    /// # Errors
    /// As [`Query::rows`], and those of the function.
    pub fn each<T: Step>(&self, mut each: impl FnMut(P::Borrowed<'_>) -> T) -> Result<()> {
        let Query { source, limit, order, .. } = self.query;
        let Some(predicate) = self.query.predicate()? else { return Ok(()) };
        let mut columns = ColumnSet::NONE;
        self.columns.add_to(&mut columns);
        step::until_break(|stop| {
            source.recent_of(columns, &predicate, limit, order, &mut |row| {
                stop.unless(each(self.columns.read(row)?))
            })
        })
    }
}
