//! A table's columns by name: what each holds and where it stands.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::value::Value;
use crate::error::{DbError, Result};
use crate::expr::{KeyColumn, NumberColumn};
use crate::format::{MAX_KEY_BYTES, MAX_LABEL_BYTES};
use crate::schema::{BUILT_IN_NAMES, Shape, TableSchema};

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Every table has it.
    BuiltIn,
    /// A text to filter and group by.
    Dim,
    /// A number to sum.
    Counter,
    /// A text that is only stored.
    Label,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Numbers of 64 bits with a sign.
    I64,
    /// Numbers of 64 bits without a sign: sequences, which stay far below 2⁶³.
    U64,
    /// Numbers of 32 bits without a sign.
    U32,
    /// Numbers of 16 bits without a sign.
    U16,
    /// Texts.
    Text,
}

impl Kind {
    /// The smallest and the largest number; `None` for texts.
    pub fn range(self) -> Option<(i64, i64)> {
        match self {
            Self::I64 => Some((i64::MIN, i64::MAX)),
            Self::U64 => Some((0, i64::MAX)),
            Self::U32 => Some((0, i64::from(u32::MAX))),
            Self::U16 => Some((0, i64::from(u16::MAX))),
            Self::Text => None,
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Column {
    /// Its name; no other column of the table has it.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// What it holds.
    pub kind: Kind,
    pub(super) slot: Slot,
}

/// Where a column's values are in an event and in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    TsNs,
    Id,
    Metric,
    LatencyMs,
    LatencyDetailMs,
    Status,
    Flags,
    Sequence,
    Dim(usize),
    Counter(usize),
    Label(usize),
}

impl Slot {
    /// What it is among the columns of integers. The status is none: it is a key.
    pub(super) fn number(self) -> Option<NumberColumn> {
        match self {
            Self::TsNs => Some(NumberColumn::Time),
            Self::Metric => Some(NumberColumn::Metric),
            Self::LatencyMs => Some(NumberColumn::Latency),
            Self::LatencyDetailMs => Some(NumberColumn::LatencyDetail),
            Self::Flags => Some(NumberColumn::Flags),
            Self::Sequence => Some(NumberColumn::Sequence),
            Self::Counter(counter) => Some(NumberColumn::Counter(counter)),
            Self::Id | Self::Status | Self::Dim(_) | Self::Label(_) => None,
        }
    }

    /// What it is among the columns of keys.
    fn key(self) -> Option<KeyColumn> {
        match self {
            Self::Status => Some(KeyColumn::Status),
            Self::Dim(dim) => Some(KeyColumn::Dim(dim)),
            _ => None,
        }
    }
}

/// The slots and kinds of [`BUILT_IN_NAMES`], in their order.
const BUILT_INS: [(Slot, Kind); BUILT_IN_NAMES.len()] = [
    (Slot::TsNs, Kind::I64),
    (Slot::Id, Kind::Text),
    (Slot::Metric, Kind::I64),
    (Slot::LatencyMs, Kind::U32),
    (Slot::LatencyDetailMs, Kind::U32),
    (Slot::Status, Kind::U16),
    (Slot::Flags, Kind::U16),
    (Slot::Sequence, Kind::U64),
];

/// All columns of a table in their order: the built-in ones, dims, counters, labels. A column's position is its place in
/// it, as long as the table is open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    all: Vec<Column>,
    by_name: HashMap<String, usize, foldhash::fast::RandomState>,
    shape: Shape,
}

/// Whether two tables have the same columns.
pub(super) fn is_same(one: &Arc<Columns>, other: &Arc<Columns>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

impl Columns {
    pub(super) fn new(schema: &TableSchema) -> Self {
        let column = |name: &str, role, kind, slot| Column { name: name.to_owned(), role, kind, slot };
        let built_in = BUILT_IN_NAMES.into_iter().zip(BUILT_INS);
        let mut all: Vec<_> =
            built_in.map(|(name, (slot, kind))| column(name, Role::BuiltIn, kind, slot)).collect();
        let dims = schema.dims().enumerate();
        all.extend(dims.map(|(dim, name)| column(name, Role::Dim, Kind::Text, Slot::Dim(dim))));
        let counters = schema.counters().enumerate();
        all.extend(
            counters.map(|(place, name)| column(name, Role::Counter, Kind::U32, Slot::Counter(place))),
        );
        let labels = schema.labels().enumerate();
        all.extend(labels.map(|(label, name)| column(name, Role::Label, Kind::Text, Slot::Label(label))));

        let positions = all.iter().enumerate();
        let by_name = positions.map(|(position, column)| (column.name.clone(), position)).collect();
        Self { all, by_name, shape: schema.shape() }
    }

    pub(super) fn all(&self) -> &[Column] {
        &self.all
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn position(&self, name: &str) -> Result<usize> {
        self.by_name
            .get(name)
            .copied()
            .ok_or_else(|| DbError::UnknownColumn { name: name.to_owned(), columns: self.names_of(|_| true) })
    }

    pub(super) fn named(&self, name: &str) -> Result<&Column> {
        self.at(self.position(name)?)
    }

    pub(super) fn at(&self, position: usize) -> Result<&Column> {
        self.all.get(position).ok_or_else(|| {
            let why = format!("{position}, the table has {} columns", self.all.len());
            DbError::invalid("column position", why)
        })
    }

    /// The place among the dims of the dim with this name.
    pub(super) fn dim(&self, name: &str) -> Result<usize> {
        if let Slot::Dim(dim) = self.named(name)?.slot {
            return Ok(dim);
        }
        Err(DbError::invalid(name, format!("is no dim; {}", self.dims_in_words())))
    }

    /// The key column with this name: a dim or the status.
    pub(super) fn key(&self, name: &str) -> Result<KeyColumn> {
        self.named(name)?.slot.key().ok_or_else(|| {
            let why = format!("events are grouped by dims and the status; {}", self.dims_in_words());
            DbError::invalid(name, why)
        })
    }

    /// The column of integers with this name.
    pub(super) fn number(&self, name: &str) -> Result<NumberColumn> {
        let not_summed =
            || DbError::invalid(name, "it holds texts or the status, which are counted and not added up");
        self.named(name)?.slot.number().ok_or_else(not_summed)
    }

    fn dims_in_words(&self) -> String {
        match self.names_of(|role| role == Role::Dim) {
            none if none.is_empty() => "the table has none".to_owned(),
            dims => format!("the dims are {dims}"),
        }
    }

    fn names_of(&self, wanted: fn(Role) -> bool) -> String {
        let named = self.all.iter().filter(|column| wanted(column.role));
        named.map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Column {
    /// The number, if the column can hold it.
    pub(super) fn int<T: TryFrom<i64>>(&self, value: &Value<'_>) -> Result<T> {
        value.as_int().and_then(|number| T::try_from(number).ok()).ok_or_else(|| self.refusal(value))
    }

    /// Puts a text into `into`, if the column can hold it.
    pub(super) fn text(&self, value: Value<'_>, into: &mut String) -> Result<()> {
        let Value::Text(text) = value else { return Err(self.refusal(&value)) };
        let bytes_max = if self.role == Role::Label { MAX_LABEL_BYTES } else { MAX_KEY_BYTES };
        if text.len() > bytes_max {
            let why = format!("the text has {} bytes, at most {bytes_max} are possible", text.len());
            return Err(DbError::invalid(&self.name, why));
        }
        match text {
            Cow::Owned(text) => *into = text,
            Cow::Borrowed(text) => {
                into.clear();
                into.push_str(text);
            }
        }
        Ok(())
    }

    fn refusal(&self, value: &Value<'_>) -> DbError {
        let holds = match self.kind.range() {
            Some((min, max)) => format!("holds numbers from {min} to {max}"),
            None => "holds texts".to_owned(),
        };
        let given = match value {
            Value::Int(number) => format!("the number {number}"),
            Value::Text(text) => format!("the text {text:?}"),
        };
        DbError::invalid(&self.name, format!("the column {holds}, not {given}"))
    }
}
