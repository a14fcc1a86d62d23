//! The columns of a table in SQL and Arrow, from the columns that the engine stores.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use keplordb::any::Column;

/// The name of the column that shows `ts_ns` as a timestamp.
pub const TIMESTAMP: &str = "ts";
/// The engine's column of times.
const TIME: &str = "ts_ns";
/// The time zone of timestamps.
pub(crate) const UTC: &str = "UTC";

/// What Arrow makes of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nanoseconds since the Unix epoch, as a timestamp.
    Timestamp,
    /// Numbers of 64 bits.
    Int64,
    /// Numbers that fit 32 bits: statuses and flags.
    Int32,
    /// Texts.
    Text,
}

impl Form {
    fn of(column: &Column) -> Self {
        match column.kind.range() {
            None => Self::Text,
            Some((min, max)) if i32::try_from(min).is_ok() && i32::try_from(max).is_ok() => Self::Int32,
            Some(_) => Self::Int64,
        }
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
            Self::Int64 => DataType::Int64,
            Self::Int32 => DataType::Int32,
            Self::Text => DataType::Utf8View,
        }
    }
}

/// A column of a table in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqlColumn {
    /// The position of the engine's column that it shows.
    pub(crate) position: usize,
    /// That column's name.
    pub(crate) source: String,
    pub(crate) form: Form,
}

impl SqlColumn {
    /// Whether it shows the time, as a number or as a timestamp.
    pub(crate) fn is_time(&self) -> bool {
        self.source == TIME
    }
}

/// All columns of a table in SQL, in the order in which `SELECT *` shows them.
#[derive(Debug, Clone)]
pub(crate) struct SqlColumns {
    all: Vec<SqlColumn>,
    schema: SchemaRef,
}

impl SqlColumns {
    pub(crate) fn new(columns: &[Column]) -> Self {
        let mut all = Vec::with_capacity(columns.len() + 1);
        let mut fields = Vec::with_capacity(columns.len() + 1);
        let is_free = !columns.iter().any(|column| column.name.eq_ignore_ascii_case(TIMESTAMP));
        let time = columns.iter().position(|column| column.name == TIME).filter(|_| is_free);
        if let Some(position) = time {
            all.push(SqlColumn { position, source: TIME.to_owned(), form: Form::Timestamp });
            fields.push(Field::new(TIMESTAMP, Form::Timestamp.data_type(), false));
        }
        for (position, column) in columns.iter().enumerate() {
            let form = Form::of(column);
            all.push(SqlColumn { position, source: column.name.clone(), form });
            fields.push(Field::new(&column.name, form.data_type(), false));
        }
        Self { all, schema: Arc::new(Schema::new(fields)) }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn all(&self) -> &[SqlColumn] {
        &self.all
    }

    /// The column with this name.
    pub(crate) fn named(&self, name: &str) -> Option<&SqlColumn> {
        self.all.get(self.schema.index_of(name).ok()?)
    }
}

/// The Arrow schema of a table with these columns ([`AnyStore::columns`](keplordb::any::AnyStore::columns)): what
/// `SELECT *` shows. No column is nullable.
///
/// First `ts`, the event's time as a timestamp in nanoseconds and UTC, unless a column of the table has that name, in capitals
/// too, which not all readers of names tell apart; then the
/// engine's columns by their names: numbers as `Int64`, `status` and `flags` as `Int32`, texts as `Utf8View`. All
/// numbers have a sign: sequences and counters fit, and some readers (Spark) know no others.
///
/// ```
/// use arrow::datatypes::DataType;
/// use keplordb::TableSchema;
/// use keplordb::any::AnyStore;
/// use keplordb_sql::schema::arrow_schema;
///
/// # let dir = tempfile::tempdir()?;
/// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1).dim("user").counter("tokens"))?;
/// let schema = arrow_schema(store.columns());
/// let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
/// assert_eq!(names[..3], ["ts", "ts_ns", "id"]);
/// assert_eq!(names[9..], ["user", "tokens"]);
/// assert_eq!(schema.field_with_name("user")?.data_type(), &DataType::Utf8View);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn arrow_schema(columns: &[Column]) -> SchemaRef {
    Arc::clone(SqlColumns::new(columns).schema())
}
