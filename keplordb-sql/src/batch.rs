//! Columns of the engine as Arrow arrays, without copying texts row by row.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StringViewArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use keplordb::any::{ColumnBatch, ColumnValues, KeyValues, TextValues};

use crate::schema::{Form, SqlColumn, UTC};

/// Makes record batches of some columns of a table.
#[derive(Debug)]
pub(crate) struct Batches {
    schema: SchemaRef,
    /// The positions of the engine's columns that are read, each once.
    positions: Vec<usize>,
    /// For each field its place in `positions`, and what is made of it.
    fields: Vec<(usize, Form)>,
    /// For each of `positions` the dictionary that came last, as an array.
    dictionaries: Vec<Option<(Arc<KeyValues>, StringViewArray)>>,
}

/// A column of the engine on its way into one or two fields.
enum Read {
    Ints(ScalarBuffer<i64>),
    Texts(ArrayRef),
}

impl Batches {
    /// Of these columns, whose fields `schema` has in the same order.
    pub(crate) fn new<'c>(schema: SchemaRef, columns: impl IntoIterator<Item = &'c SqlColumn>) -> Self {
        let mut positions = Vec::new();
        let mut fields = Vec::new();
        for column in columns {
            let place = positions.iter().position(|known| *known == column.position);
            let place = place.unwrap_or_else(|| {
                positions.push(column.position);
                positions.len() - 1
            });
            fields.push((place, column.form));
        }
        let dictionaries = positions.iter().map(|_| None).collect();
        Self { schema, positions, fields, dictionaries }
    }

    /// The columns to ask the engine for.
    pub(crate) fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// The batch that the engine gave for [`positions`](Self::positions).
    pub(crate) fn record_batch(&mut self, batch: ColumnBatch) -> Result<RecordBatch, ArrowError> {
        let rows = batch.rows;
        let read = batch.columns.into_iter().zip(&mut self.dictionaries);
        let read = read.map(|(values, dictionary)| Read::new(values, dictionary));
        let read = read.collect::<Result<Vec<_>, _>>()?;
        let arrays = self.fields.iter().map(|(place, form)| {
            let column = read.get(*place).ok_or_else(|| mismatch("fewer columns than asked for"))?;
            column.array(*form)
        });
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
    }
}

impl Read {
    fn new(
        values: ColumnValues,
        dictionary: &mut Option<(Arc<KeyValues>, StringViewArray)>,
    ) -> Result<Self, ArrowError> {
        Ok(match values {
            ColumnValues::Ints(values) => Self::Ints(values.into()),
            ColumnValues::Texts(texts) => Self::Texts(Arc::new(views(texts)?)),
            ColumnValues::Keys { codes, values } => {
                let known = dictionary.take().filter(|(known, _)| Arc::ptr_eq(known, &values));
                let (_, array) = if let Some(known) = known {
                    dictionary.insert(known)
                } else {
                    let array = views(values.texts().clone())?;
                    dictionary.insert((values, array))
                };
                // Only the views are gathered; the bytes stay where the dictionary has them.
                Self::Texts(take(array, &UInt32Array::from(codes), None)?)
            }
            _ => return Err(mismatch("values of a kind that this release does not know")),
        })
    }

    fn array(&self, form: Form) -> Result<ArrayRef, ArrowError> {
        Ok(match (self, form) {
            (Self::Texts(array), Form::Text) => Arc::clone(array),
            (Self::Ints(values), Form::Int64) => Arc::new(Int64Array::new(values.clone(), None)),
            (Self::Ints(values), Form::Timestamp) => {
                Arc::new(TimestampNanosecondArray::new(values.clone(), None).with_timezone(UTC))
            }
            (Self::Ints(values), Form::Int32) => {
                #[expect(clippy::cast_possible_truncation, reason = "columns of this form hold 16 bits")]
                let values = values.iter().map(|value| *value as i32);
                Arc::new(Int32Array::from_iter_values(values))
            }
            (Self::Texts(_), _) | (Self::Ints(_), Form::Text) => {
                return Err(mismatch("texts in the place of numbers, or the reverse"));
            }
        })
    }
}

/// Texts as an array of views of their bytes, which are not copied.
fn views(texts: TextValues) -> Result<StringViewArray, ArrowError> {
    let (text, ends) = texts.into_parts();
    let too_long = |_| mismatch("more than 2 GiB of texts");
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    i32::try_from(text.len()).map_err(too_long)?;
    offsets.push(0);
    for end in ends {
        offsets.push(i32::try_from(end).map_err(too_long)?);
    }
    let offsets = OffsetBuffer::new(offsets.into());
    let array = StringArray::try_new(offsets, Buffer::from_vec(text.into_bytes()), None)?;
    Ok(StringViewArray::from(&array))
}

fn mismatch(what: &str) -> ArrowError {
    ArrowError::SchemaError(format!("the engine gave {what}"))
}
