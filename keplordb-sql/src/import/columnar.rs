//! Rows of Parquet files and of Arrow record batches, column by column.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use keplordb::Appended;
use keplordb::any::AnyStore;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::csv::columns_of;
use super::error::ImportError;
use super::mapping::{Binding, Cell, Mapping};
use super::reading::{Context, Outcome, Place, Reading};
use super::rejects::Rejection;
use super::source::open;

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 8192;

/// A Parquet file that is being read. Its places are rows.
pub(super) struct ParquetReading {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    /// For each field of the binding its place among the columns that are read.
    columns: Vec<Option<usize>>,
    cells: Cells,
    /// Of the batch's rows, the next one.
    at: usize,
    /// Rows of the file before that one, and in all.
    row: u64,
    rows: u64,
    bytes: u64,
}

impl ParquetReading {
    /// Reads on from a place; without one, from the first row.
    pub(super) fn open(path: &Path, binding: &Binding, place: Option<Place>) -> Result<Self, ImportError> {
        let row = place.map_or(0, |place| place.offset);
        let failed = |source| ImportError::Parquet { file: path.to_owned(), row, source };
        let file = open(path)?;
        let bytes = file.metadata().map_err(|error| ImportError::io("reading", path, error))?.len();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
        let rows = builder.metadata().file_metadata().num_rows().try_into().unwrap_or(0);
        let file_columns = columns_in(path, builder.schema(), binding)?;
        // Only what is asked for is decoded; the reader gives it in the file's order.
        let mut roots: Vec<usize> = file_columns.iter().flatten().copied().collect();
        roots.sort_unstable();
        roots.dedup();
        let place_of = |root: &usize| roots.iter().position(|other| other == root);
        let columns = file_columns.iter().map(|column| column.as_ref().and_then(place_of)).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
        let reader = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .with_offset(usize::try_from(row).unwrap_or(usize::MAX))
            .build()
            .map_err(failed)?;
        Ok(Self { path: path.to_owned(), reader, columns, cells: Cells::default(), at: 0, row, rows, bytes })
    }

    /// Decodes the next batch; whether there is one.
    fn fill(&mut self) -> Result<bool, ImportError> {
        let failed = |row, source| ImportError::Parquet { file: self.path.clone(), row, source };
        let batch = match self.reader.next() {
            None => return Ok(false),
            Some(Ok(batch)) => batch,
            Some(Err(error)) => return Err(failed(self.row, error.into())),
        };
        self.cells = Cells::new(&batch, &self.columns).map_err(|error| failed(self.row, error.into()))?;
        self.at = 0;
        Ok(true)
    }
}

impl Reading for ParquetReading {
    fn place(&self) -> Place {
        Place { offset: self.row, line: self.row + 1 }
    }

    fn file_bytes(&self) -> u64 {
        let share = u128::from(self.bytes) * u128::from(self.row) / u128::from(self.rows.max(1));
        u64::try_from(share).unwrap_or(self.bytes)
    }

    fn next(&mut self, store: &AnyStore, context: &Context<'_>) -> Result<Option<Outcome>, ImportError> {
        while self.at == self.cells.rows {
            if !self.fill()? {
                if self.row < self.rows {
                    let source = ParquetError::EOF("the file has fewer rows than it says".to_owned());
                    return Err(ImportError::Parquet { file: self.path.clone(), row: self.row, source });
                }
                return Ok(None);
            }
        }
        let (at, line) = (self.at, self.row + 1);
        self.at += 1;
        self.row += 1;
        Ok(Some(match context.row(store, line, |field| self.cells.cell(field, at)) {
            Ok(row) => Outcome::Row(row),
            Err((column, reason)) => {
                Outcome::Rejected(Rejection::new(line, column, reason, self.cells.text(at).as_bytes()))
            }
        }))
    }
}

/// Appends the rows of an Arrow record batch by a mapping of its columns, all or nothing; visible to every query, and on disk as the
/// table's sync policy says, on return. Columns are read as those of [Parquet](super::Import::parquet); rows without an id get one.
/// `None` for a batch without rows.
///
/// ```
/// use std::sync::Arc;
///
/// use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
/// use keplordb::TableSchema;
/// use keplordb::any::AnyStore;
/// use keplordb_sql::import::{Mapping, TimeFormat, append_record_batch};
///
/// # let dir = tempfile::tempdir()?;
/// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1).dim("user"))?;
/// let batch = RecordBatch::try_from_iter([
///     ("at", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
///     ("user", Arc::new(StringArray::from(vec!["alice", "bob"]))),
/// ])?;
/// let mapping = Mapping::new().time("at", TimeFormat::Seconds).column("user", "user");
/// append_record_batch(&store, &batch, &mapping)?;
/// assert_eq!(store.query().oldest_first().rows()?[1].text("user")?, "bob");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Mapping`](ImportError::Mapping) and [`Columns`](ImportError::Columns) for what does not fit, [`Row`](ImportError::Row) for the
/// first row that cannot be taken, [`Db`](ImportError::Db) when the table refuses or fails.
pub fn append_record_batch(
    store: &AnyStore,
    batch: &RecordBatch,
    mapping: &Mapping,
) -> Result<Option<Appended>, ImportError> {
    let name = Path::new("the record batch");
    let binding = Binding::new(mapping, store)?;
    let columns = columns_in(name, &batch.schema(), &binding)?;
    let cells = Cells::new(batch, &columns)
        .map_err(|error| ImportError::Columns { file: name.to_owned(), what: error.to_string() })?;
    if cells.rows == 0 {
        return Ok(None);
    }
    let event = |row| match binding.row(store, || None, |field| cells.cell(field, row)) {
        Ok(taken) => Ok(taken.event),
        Err(refusal) => {
            let column = binding.source_of(refusal.field).to_owned();
            Err(ImportError::Row { row, column, reason: refusal.reason })
        }
    };
    let events = (0..cells.rows).map(event).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(store.append_batch(events)?))
}

/// Where the binding's columns are in a schema; all must be of a kind that a table can hold.
fn columns_in(path: &Path, schema: &SchemaRef, binding: &Binding) -> Result<Vec<Option<usize>>, ImportError> {
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let columns = columns_of(path, &names, binding)?;
    for column in columns.iter().flatten() {
        let field = schema.field(*column);
        if Kind::of(field.data_type()).is_none() {
            return Err(ImportError::Columns {
                file: path.to_owned(),
                what: format!(
                    "{:?} is a column of {}, which no column of a table holds",
                    field.name(),
                    field.data_type()
                ),
            });
        }
    }
    Ok(columns)
}

/// What becomes of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    /// Texts; also decimals and floats, as they are written.
    Text,
    /// Times, so many nanoseconds in one of them.
    Time(i64),
}

impl Kind {
    fn of(data_type: &DataType) -> Option<Self> {
        const NS_PER_DAY: i64 = 86_400_000_000_000;
        Some(match data_type {
            DataType::Dictionary(_, values) => return Self::of(values),
            DataType::Timestamp(TimeUnit::Second, _) => Self::Time(1_000_000_000),
            DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 => Self::Time(1_000_000),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Time(1000),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Self::Time(1),
            DataType::Date32 => Self::Time(NS_PER_DAY),
            DataType::Boolean => Self::Int,
            whole if whole.is_integer() => Self::Int,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Self::Text,
            number if number.is_numeric() => Self::Text,
            _ => return None,
        })
    }
}

/// A batch of rows, by the fields of a binding.
#[derive(Debug, Default)]
struct Cells {
    rows: usize,
    fields: Vec<Option<Column>>,
}

/// A column as it is read row by row.
#[derive(Debug)]
enum Column {
    /// With the values as they were, where not all fit.
    Ints(Int64Array, ArrayRef),
    Times(Int64Array, i64),
    Texts(StringArray),
}

impl Cells {
    fn new(batch: &RecordBatch, columns: &[Option<usize>]) -> Result<Self, ArrowError> {
        let column = |place: &Option<usize>| place.map(|place| Column::new(batch.column(place))).transpose();
        Ok(Self { rows: batch.num_rows(), fields: columns.iter().map(column).collect::<Result<_, _>>()? })
    }

    /// What a row has for a field.
    fn cell(&self, field: usize, row: usize) -> Cell<'_> {
        match &self.fields[field] {
            None => Cell::Missing,
            Some(Column::Ints(ints, as_they_were)) => match (ints.is_null(row), as_they_were.is_null(row)) {
                (false, _) => Cell::Int(ints.value(row)),
                (true, true) => Cell::Missing,
                (true, false) => Cell::Refused("the number does not fit one of 64 bits".to_owned()),
            },
            Some(Column::Times(times, _)) if times.is_null(row) => Cell::Missing,
            Some(Column::Times(times, ns)) => match times.value(row).checked_mul(*ns) {
                Some(ts_ns) => Cell::TsNs(ts_ns),
                None => Cell::Refused("the time is not between the years 1677 and 2262".to_owned()),
            },
            Some(Column::Texts(texts)) if texts.is_null(row) => Cell::Missing,
            Some(Column::Texts(texts)) => Cell::Text(Cow::Borrowed(texts.value(row))),
        }
    }

    /// A row as a person reads it, with the columns that are mapped.
    fn text(&self, row: usize) -> String {
        let fields = (0..self.fields.len()).map(|field| match self.cell(field, row) {
            Cell::Missing => String::new(),
            Cell::Text(text) => text.into_owned(),
            Cell::Int(number) | Cell::TsNs(number) => number.to_string(),
            Cell::Refused(why) => why,
        });
        fields.collect::<Vec<_>>().join(",")
    }
}

impl Column {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        let ints = |array: &ArrayRef| -> Result<Int64Array, ArrowError> {
            Ok(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
        };
        let plain = match array.data_type() {
            DataType::Dictionary(_, values) => cast(array, values)?,
            _ => Arc::clone(array),
        };
        Ok(match Kind::of(array.data_type()) {
            Some(Kind::Int) => Self::Ints(ints(&plain)?, plain),
            // Dates are numbers of 32 bits, which only turn into ones of 64 by way of themselves.
            Some(Kind::Time(ns)) if *plain.data_type() == DataType::Date32 => {
                Self::Times(ints(&cast(&plain, &DataType::Int32)?)?, ns)
            }
            Some(Kind::Time(ns)) => Self::Times(ints(&plain)?, ns),
            Some(Kind::Text) => Self::Texts(cast(&plain, &DataType::Utf8)?.as_string::<i32>().clone()),
            None => {
                let what = format!("a column of {} cannot be imported", array.data_type());
                return Err(ArrowError::CastError(what));
            }
        })
    }
}
