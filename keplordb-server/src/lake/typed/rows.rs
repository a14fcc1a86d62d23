//! The columns of typed tables: rows of `_current` and `_versions` with a column for each field of their type, and the hash of such a
//! row.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Float32Type, Float64Type, Int32Type, Int64Type, Schema, SchemaRef,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use serde_json::{Map, Value};

use super::super::columns::{RowBytes, field, optional, optional_times, sequences, texts, time, times};
use super::super::manifest::{Sum, TYPED};
use super::super::parquet::Encoding;
use super::super::rows::{CurrentRow, Row, VersionRow};
use crate::shape::Shape;

/// Columns that typed tables have besides the fields of their type. Of a field that is called so there is none.
pub(super) const OWN: [&str; 9] =
    ["id", "_version", "_updated_at", "_op", "_valid_from", "_valid_to", "_known_from", "_known_to", "_seq"];

/// A row of a table of which a typed one is made.
pub(in super::super) trait TypedRow: Row {
    fn id(&self) -> &str;
    /// JSON; `None` where it is deleted.
    fn state(&self) -> Option<&str>;
    /// Columns besides the id, behind those of the fields.
    fn fields() -> Vec<Field>;
    fn columns(rows: &[Self]) -> Vec<ArrayRef>;
}

impl TypedRow for CurrentRow {
    fn id(&self) -> &str {
        &self.entity_id
    }

    fn state(&self) -> Option<&str> {
        Some(&self.state)
    }

    fn fields() -> Vec<Field> {
        vec![field("_version", DataType::Int64), field("_updated_at", time()), field("_seq", DataType::Int64)]
    }

    fn columns(rows: &[Self]) -> Vec<ArrayRef> {
        let rows = || rows.iter();
        vec![
            sequences(rows().map(|row| row.version)),
            times(rows().map(|row| row.updated_at_ms)),
            sequences(rows().map(|row| row.last_sequence)),
        ]
    }
}

impl TypedRow for VersionRow {
    fn id(&self) -> &str {
        &self.entity_id
    }

    fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    fn fields() -> Vec<Field> {
        vec![
            field("_version", DataType::Int64),
            field("_op", DataType::Utf8),
            field("_valid_from", time()),
            optional("_valid_to", time()),
            field("_known_from", time()),
            optional("_known_to", time()),
            field("_seq", DataType::Int64),
        ]
    }

    fn columns(rows: &[Self]) -> Vec<ArrayRef> {
        let rows = || rows.iter();
        vec![
            sequences(rows().map(|row| row.version)),
            texts(rows().map(|row| row.operation.as_str())),
            times(rows().map(|row| row.valid_from_ms)),
            optional_times(rows().map(|row| row.valid_to_ms)),
            times(rows().map(|row| row.known_from_ms)),
            optional_times(rows().map(|row| row.known_to_ms)),
            sequences(rows().map(|row| row.sequence)),
        ]
    }
}

/// Rows with a column for each field of their type.
#[derive(Debug)]
pub(in super::super) struct TypedColumns<'a, R> {
    shape: &'a Shape,
    schema: SchemaRef,
    rows: PhantomData<fn(&R)>,
}

impl<'a, R: TypedRow> TypedColumns<'a, R> {
    pub(in super::super) fn new(shape: &'a Shape) -> Self {
        let mut fields = vec![field("id", DataType::Utf8)];
        fields.extend(shape.fields());
        fields.extend(R::fields());
        Self { shape, schema: Arc::new(Schema::new(fields)), rows: PhantomData }
    }

    /// The columns of some rows.
    pub(in super::super) fn batch(&self, rows: &[R]) -> Result<RecordBatch, ArrowError> {
        // What is no object fits no column.
        let parsed: Vec<Option<Map<String, Value>>> =
            rows.iter().map(|row| serde_json::from_str(row.state()?).ok()).collect();
        let parsed: Vec<Option<&Map<String, Value>>> = parsed.iter().map(Option::as_ref).collect();
        let mut columns = vec![texts(rows.iter().map(R::id))];
        columns.extend(self.shape.columns(&parsed)?);
        columns.extend(R::columns(rows));
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

impl<R: TypedRow> Encoding<R> for TypedColumns<'_, R> {
    const BLOOMS: &'static [&'static str] = &["id"];
    const SEQUENCE: &'static str = "_seq";
    /// Of states that are parsed, which takes many times as much.
    const BATCH_BYTES: usize = 4 << 20;

    fn dir(&self) -> &'static str {
        TYPED
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn encode(&self, rows: &[R]) -> Result<(RecordBatch, Sum), ArrowError> {
        let batch = self.batch(rows)?;
        let sum = hashes(&batch).map(Sum).sum();
        Ok((batch, sum))
    }
}

/// The hash of each row, of all its values.
pub(in super::super) fn hashes(batch: &RecordBatch) -> impl Iterator<Item = u128> {
    (0..batch.num_rows()).map(move |row| {
        let mut bytes = RowBytes::default();
        for column in batch.columns() {
            put(&mut bytes, column, row);
        }
        bytes.hash()
    })
}

/// Adds a value: whether it is there, and what it is, with how many values it has itself.
fn put(bytes: &mut RowBytes, column: &dyn Array, row: usize) {
    bytes.number(u64::from(column.is_valid(row)));
    if column.is_null(row) {
        return;
    }
    let put_all = |bytes: &mut RowBytes, values: &dyn Array| {
        bytes.number(values.len() as u64);
        (0..values.len()).for_each(|row| put(bytes, values, row));
    };
    match column.data_type() {
        DataType::Boolean => bytes.number(u64::from(column.as_boolean().value(row))),
        DataType::Int32 => bytes.time(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => bytes.time(column.as_primitive::<Int64Type>().value(row)),
        DataType::Decimal128(..) => {
            bytes.bytes(&column.as_primitive::<Decimal128Type>().value(row).to_le_bytes())
        }
        DataType::Float32 => bytes.number(column.as_primitive::<Float32Type>().value(row).to_bits().into()),
        DataType::Float64 => bytes.number(column.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Timestamp(..) => bytes.time(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Utf8 => bytes.text(column.as_string::<i32>().value(row)),
        DataType::Binary => bytes.bytes(column.as_binary::<i32>().value(row)),
        DataType::List(_) => {
            put_all(bytes, &column.as_list::<i32>().value(row));
            bytes
        }
        DataType::Map(..) => {
            put_all(bytes, &column.as_map().value(row));
            bytes
        }
        DataType::Struct(_) => {
            column.as_struct().columns().iter().for_each(|column| put(bytes, column, row));
            bytes
        }
        // No column has any other: one of a file that does is not as it was written, and neither is its hash.
        other => bytes.text(&other.to_string()),
    };
}
