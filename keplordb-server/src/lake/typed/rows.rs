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
use parquet::errors::ParquetError;
use serde_json::{Map, Value};

use super::super::columns::{RowBytes, field, optional, optional_times, sequences, texts, time, times};
use super::super::manifest::{Sum, TYPED};
use super::super::parquet::{Encoded, Encoding};
use super::super::rows::{CurrentRow, Row, VersionRow};
use crate::shape::{PLACES_MAX, Shape};

/// Bytes that a value takes in a column at least, and at most where it is no text: those of a decimal number.
const PLACE_BYTES: usize = 16;

/// What an entity is, with those fields for which there is place.
type State = Map<String, Value>;

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

    /// The state of a row as far as there is place for it, and how many places it takes. What is no object fits no column.
    fn parsed(&self, row: &R) -> (Option<State>, usize) {
        let mut state: Option<State> = row.state().and_then(|state| serde_json::from_str(state).ok());
        let places = state.as_mut().map_or(0, |state| self.shape.fit(state));
        (state, places)
    }

    /// The columns of some rows with their states.
    fn batch(&self, rows: &[R], states: &[Option<State>]) -> Result<RecordBatch, ArrowError> {
        let states: Vec<Option<&State>> = states.iter().map(Option::as_ref).collect();
        let mut columns = vec![texts(rows.iter().map(R::id))];
        columns.extend(self.shape.columns(&states)?);
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

    /// Rows of few bytes may have many places, so not all of them are one batch.
    fn encode(
        &self,
        mut rows: &[R],
        mut each: impl FnMut(&RecordBatch) -> Result<(), ParquetError>,
    ) -> Result<Encoded, ParquetError> {
        let mut encoded = Encoded::default();
        while !rows.is_empty() {
            let (mut states, mut places) = (Vec::new(), 0);
            for row in rows {
                let (state, of_row) = self.parsed(row);
                if places + of_row > PLACES_MAX {
                    break;
                }
                places += of_row;
                encoded.row_bytes_max = encoded.row_bytes_max.max(of_row * PLACE_BYTES);
                states.push(state);
            }
            let (now, behind) = rows.split_at(states.len());
            let batch = self.batch(now, &states)?;
            encoded.sum.add(hashes(&batch).map(Sum).sum::<Sum>().0);
            each(&batch)?;
            rows = behind;
        }
        Ok(encoded)
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;
    use crate::schema;

    fn row(id: usize, elements: usize) -> CurrentRow {
        let state = serde_json::json!({ "many": vec![serde_json::json!({}); elements], "one": "x" });
        CurrentRow::of_first("All", format!("id {id}"), state.to_string())
    }

    #[test]
    fn few_bytes_with_many_places_are_made_columns_a_part_at_a_time() {
        let mut fields = String::new();
        for number in 1..=100 {
            write!(fields, "int32 f{number} = {number};").unwrap();
        }
        let text = format!(
            "syntax = \"proto3\"; package reflog.v1; message All {{ repeated Inner many = 1; string one = 2;
            message Inner {{ {fields} }} }}"
        );
        let schema = schema::Schema::compile(Path::new("custom.proto"), 1, &text).unwrap();
        let shape = Shape::of(schema.get("All").unwrap().message());
        let columns = TypedColumns::<CurrentRow>::new(&shape);
        // Of 700 elements each, and one of too many.
        let mut rows: Vec<CurrentRow> = (0..60).map(|id| row(id, 700)).collect();
        rows.push(row(60, PLACES_MAX / 100 + 1));
        let mut batches = Vec::new();
        let encoded = columns.encode(&rows, |batch| {
            batches.push(batch.clone());
            Ok(())
        });
        let encoded = encoded.unwrap();
        assert_eq!(encoded.row_bytes_max, 700 * 100 * PLACE_BYTES);
        let counts: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(counts, [28, 28, 5]);
        let by_one =
            rows.iter().map(|row| columns.encode(std::slice::from_ref(row), |_| Ok(())).unwrap().sum);
        assert_eq!(encoded.sum, by_one.sum::<Sum>());
        let last = batches.last().unwrap();
        let (many, one) = (last.column_by_name("many").unwrap(), last.column_by_name("one").unwrap());
        assert_eq!((many.null_count(), many.is_null(4), one.null_count()), (1, true, 0));
        assert_eq!(many.as_list::<i32>().value(0).len(), 700);
    }
}
