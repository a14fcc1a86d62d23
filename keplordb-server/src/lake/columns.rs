//! Columns of the lake's tables: values into arrays, arrays into values, and the hash of a row.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Decimal128Array, Int32Array, Int64Array, ListArray, ListBuilder,
    RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::error::ServerError;

type Result<T> = std::result::Result<T, ServerError>;

const UTC: &str = "UTC";

pub(super) fn field(name: &str, kind: DataType) -> Field {
    Field::new(name, kind, false)
}

pub(super) fn optional(name: &str, kind: DataType) -> Field {
    Field::new(name, kind, true)
}

/// Microseconds, in UTC: no finer ones are read everywhere.
pub(super) fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// An unsigned number of 64 bits: nothing else that has none is known to all readers.
pub(super) fn unsigned() -> DataType {
    DataType::Decimal128(20, 0)
}

pub(super) fn names() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

pub(super) fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub(super) fn optional_texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

pub(super) fn optional_bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
    Arc::new(values.collect::<BinaryArray>())
}

pub(super) fn sequences(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|value| value as i64)))
}

pub(super) fn numbers(values: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values.map(u32::cast_signed)))
}

pub(super) fn times(values_ms: impl Iterator<Item = i64>) -> ArrayRef {
    optional_times(values_ms.map(Some))
}

pub(super) fn optional_times(values_ms: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    let values: TimestampMicrosecondArray =
        values_ms.map(|ms| ms.map(|ms| ms.saturating_mul(1000))).collect();
    Arc::new(values.with_timezone(UTC))
}

pub(super) fn optional_unsigned(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    let values: Decimal128Array = values.map(|value| value.map(i128::from)).collect();
    Arc::new(values.with_data_type(unsigned()))
}

pub(super) fn lists<'a>(values: impl Iterator<Item = &'a [String]>) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for value in values {
        for text in value {
            lists.values().append_value(text);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

/// A batch of a file, whose columns are looked up by their names.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) batch: &'a RecordBatch,
    pub(super) file: &'a Path,
}

impl<'a> Columns<'a> {
    fn get<A: 'static>(&self, name: &str) -> Result<&'a A> {
        let column = self.batch.column_by_name(name);
        column.and_then(|column| column.as_any().downcast_ref()).ok_or_else(|| {
            let what = match column {
                None => format!("it has no column {name}"),
                Some(column) => format!("its column {name} is of type {}", column.data_type()),
            };
            damaged(self.file, &what)
        })
    }

    pub(super) fn texts(&self, name: &str) -> Result<&'a StringArray> {
        self.get(name)
    }

    pub(super) fn text(&self, name: &str) -> Result<impl Fn(usize) -> Result<String> + use<'a>> {
        let texts = self.optional_text(name)?;
        let (file, name) = (self.file, name.to_owned());
        Ok(move |row| texts(row).ok_or_else(|| missing(file, &name)))
    }

    pub(super) fn optional_text(&self, name: &str) -> Result<impl Fn(usize) -> Option<String> + use<'a>> {
        let array: &StringArray = self.get(name)?;
        Ok(move |row| array.is_valid(row).then(|| array.value(row).to_owned()))
    }

    pub(super) fn optional_bytes(&self, name: &str) -> Result<impl Fn(usize) -> Option<Vec<u8>> + use<'a>> {
        let array: &BinaryArray = self.get(name)?;
        Ok(move |row| array.is_valid(row).then(|| array.value(row).to_owned()))
    }

    pub(super) fn sequence(&self, name: &str) -> Result<impl Fn(usize) -> u64 + use<'a>> {
        let array: &Int64Array = self.get(name)?;
        Ok(move |row| array.value(row) as u64)
    }

    pub(super) fn number(&self, name: &str) -> Result<impl Fn(usize) -> u32 + use<'a>> {
        let array: &Int32Array = self.get(name)?;
        Ok(move |row| array.value(row).cast_unsigned())
    }

    pub(super) fn time(&self, name: &str) -> Result<impl Fn(usize) -> i64 + use<'a>> {
        let array: &TimestampMicrosecondArray = self.get(name)?;
        Ok(move |row| array.value(row).div_euclid(1000))
    }

    pub(super) fn optional_time(&self, name: &str) -> Result<impl Fn(usize) -> Option<i64> + use<'a>> {
        let array: &TimestampMicrosecondArray = self.get(name)?;
        Ok(move |row| array.is_valid(row).then(|| array.value(row).div_euclid(1000)))
    }

    pub(super) fn optional_unsigned(&self, name: &str) -> Result<impl Fn(usize) -> Option<u64> + use<'a>> {
        let array: &Decimal128Array = self.get(name)?;
        Ok(move |row| u64::try_from(array.value(row)).ok().filter(|_| array.is_valid(row)))
    }

    pub(super) fn list(&self, name: &str) -> Result<impl Fn(usize) -> Result<Vec<String>> + use<'a>> {
        let array: &ListArray = self.get(name)?;
        let (file, name) = (self.file, name.to_owned());
        Ok(move |row| {
            let values = array.value(row);
            let values: Option<&StringArray> = values.as_any().downcast_ref();
            let values = values.ok_or_else(|| missing(file, &name))?;
            Ok(values.iter().flatten().map(str::to_owned).collect())
        })
    }
}

fn missing(file: &Path, name: &str) -> ServerError {
    damaged(file, &format!("its column {name} lacks a value"))
}

/// A file of the lake that is not as it was written.
pub(super) fn damaged(file: &Path, what: &str) -> ServerError {
    ServerError::Lake {
        file: file.to_owned(),
        what: format!("{what}; a replay makes the files anew from the log"),
    }
}

/// The bytes of a row by which it is hashed: no two rows of a table have the same.
#[derive(Default)]
pub(super) struct RowBytes(Vec<u8>);

impl RowBytes {
    pub(super) fn number(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn time(&mut self, value_ms: i64) -> &mut Self {
        self.0.extend(value_ms.to_le_bytes());
        self
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        // With its length, so that "ab", "c" is not "a", "bc".
        self.number(value.len() as u64);
        self.0.extend(value);
        self
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn optional<T>(
        &mut self,
        value: Option<T>,
        put: impl FnOnce(&mut Self, T) -> &mut Self,
    ) -> &mut Self {
        self.0.push(u8::from(value.is_some()));
        match value {
            Some(value) => put(self, value),
            None => self,
        }
    }

    pub(super) fn hash(&self) -> u128 {
        xxhash_rust::xxh3::xxh3_128(&self.0)
    }
}
