//! A row's values, by name and by position.

use std::fmt;
use std::sync::Arc;

use super::columns::{Column, Columns, Slot};
use super::value::Value;
use crate::error::{DbError, Result};
use crate::read::row::RowView;

/// A row that a query found, borrowed from where it lies: only what is asked for is read.
pub struct AnyRowView<'a> {
    columns: &'a Columns,
    row: &'a RowView<'a>,
}

impl<'a> AnyRowView<'a> {
    pub(super) fn new(columns: &'a Columns, row: &'a RowView<'a>) -> Self {
        Self { columns, row }
    }

    /// The value of a column by its name.
    ///
    /// # Errors
    /// [`UnknownColumn`](DbError::UnknownColumn) names the columns that there are; [`Corrupt`](DbError::Corrupt) or
    /// [`Io`](DbError::Io) when an id or a label cannot be read.
    pub fn get(&self, column: &str) -> Result<Value<'a>> {
        self.at(self.columns.position(column)?)
    }

    /// The value of a column by its position in [`columns`](crate::any::AnyStore::columns): a few nanoseconds for numbers and
    /// dims.
    ///
    /// # Errors
    /// [`Invalid`](DbError::Invalid) for a position beyond the last; [`Corrupt`](DbError::Corrupt) or [`Io`](DbError::Io) when
    /// an id or a label cannot be read.
    pub fn at(&self, position: usize) -> Result<Value<'a>> {
        self.read(self.columns.at(position)?.slot)
    }

    /// The row by its built-in columns and by the places of the others in their roles.
    pub fn view(&self) -> &'a RowView<'a> {
        self.row
    }

    /// Copies the row out of the engine.
    pub(super) fn to_row(&self, columns: &Arc<Columns>) -> Result<AnyRow> {
        let values = columns.all().iter().map(|column| Ok(self.read(column.slot)?.into_owned()));
        Ok(AnyRow { values: values.collect::<Result<_>>()?, columns: Arc::clone(columns) })
    }

    fn read(&self, slot: Slot) -> Result<Value<'a>> {
        let row = self.row;
        Ok(match slot {
            Slot::TsNs => row.ts_ns().into(),
            Slot::Id => row.id()?.into(),
            Slot::Metric => row.metric().into(),
            Slot::LatencyMs => row.latency_ms().into(),
            Slot::LatencyDetailMs => row.latency_detail_ms().into(),
            Slot::Status => row.status().into(),
            Slot::Flags => row.flags().into(),
            // Sequences stay below 2⁶².
            Slot::Sequence => row.sequence().cast_signed().into(),
            Slot::Dim(dim) => row.dim(dim).into(),
            Slot::Counter(counter) => row.counter(counter).into(),
            Slot::Label(label) => row.label(label)?.into(),
        })
    }
}

impl fmt::Debug for AnyRowView<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row.fmt(out)
    }
}

/// A row that a query found, owned.
#[derive(Clone, PartialEq, Eq)]
pub struct AnyRow {
    columns: Arc<Columns>,
    /// By position.
    values: Box<[Value<'static>]>,
}

impl AnyRow {
    /// The value of a column by its name.
    ///
    /// # Errors
    /// [`UnknownColumn`](DbError::UnknownColumn) names the columns that there are.
    pub fn get(&self, column: &str) -> Result<&Value<'static>> {
        Ok(&self.values[self.columns.position(column)?])
    }

    /// The number in a column.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Invalid`](DbError::Invalid) for a column of texts.
    pub fn int(&self, column: &str) -> Result<i64> {
        self.get(column)?
            .as_int()
            .ok_or_else(|| DbError::invalid(column, "the column holds texts, not numbers"))
    }

    /// The text in a column.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Invalid`](DbError::Invalid) for a column of numbers.
    pub fn text(&self, column: &str) -> Result<&str> {
        self.get(column)?
            .as_text()
            .ok_or_else(|| DbError::invalid(column, "the column holds numbers, not texts"))
    }

    /// The values by position.
    pub fn values(&self) -> &[Value<'static>] {
        &self.values
    }

    /// Each column with its value, in the order of the columns.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Column, &Value<'static>)> {
        self.columns.all().iter().zip(&self.values)
    }
}

impl fmt::Debug for AnyRow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter().map(|(column, value)| (&column.name, value))).finish()
    }
}
