//! Rows of Parquet files and of Arrow record batches, column by column.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use keplordb::Appended;
use keplordb::any::AnyStore;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::csv::columns_of;
use super::error::ImportError;
use super::mapping::{Binding, Cell, Mapping, Row};
use super::reading::{Context, Outcome, Place, Reading};
use super::rejects::Rejection;
use super::source::open;
use super::time::OUT_OF_RANGE;

/// Rows that are decoded at once, unless they have more bytes than these: texts may have 16 MiB each.
const BATCH_ROWS: u64 = 8192;
const BATCH_BYTES: u64 = 16 << 20;

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
        let metadata = guarded(|| {
            let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
            let options = ArrowReaderOptions::new().with_schema(schema_to_read(&metadata));
            ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)
        });
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.map_err(failed)?);
        let rows = builder.metadata().file_metadata().num_rows().try_into().unwrap_or(0);
        let file_columns = columns_in(path, builder.schema(), binding)?;
        // Only what is asked for is decoded; the reader gives it in the file's order.
        let mut roots: Vec<usize> = file_columns.iter().flatten().copied().collect();
        roots.sort_unstable();
        roots.dedup();
        let place_of = |root: &usize| roots.iter().position(|other| other == root);
        let columns = file_columns.iter().map(|column| column.as_ref().and_then(place_of)).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
        let batch_rows = rows_at_once(builder.metadata(), &mask);
        let builder = builder
            .with_projection(mask)
            .with_batch_size(batch_rows)
            .with_offset(usize::try_from(row).unwrap_or(usize::MAX));
        let reader = guarded(|| builder.build()).map_err(failed)?;
        Ok(Self { path: path.to_owned(), reader, columns, cells: Cells::default(), at: 0, row, rows, bytes })
    }

    /// Decodes the next batch; whether there is one.
    fn fill(&mut self) -> Result<bool, ImportError> {
        let cells = guarded(|| match self.reader.next() {
            None => Ok(None),
            Some(batch) => Ok(Some(Cells::new(&batch?, &self.columns)?)),
        });
        let failed = |source| ImportError::Parquet { file: self.path.clone(), row: self.row, source };
        let Some(cells) = cells.map_err(failed)? else { return Ok(false) };
        self.cells = cells;
        self.at = 0;
        Ok(true)
    }

    /// What is decoded.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let bytes = |column: &Column| match column {
            Column::Ints(ints, _) => ints.get_array_memory_size(),
            Column::Times { times, .. } => times.get_array_memory_size(),
            Column::Texts(texts) => texts.get_array_memory_size(),
        };
        self.cells.fields.iter().flatten().map(bytes).sum()
    }
}

/// The names of a file's columns.
pub(super) fn names(path: &Path) -> Result<Vec<String>, ImportError> {
    let file = open(path)?;
    let metadata = guarded(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()));
    let metadata =
        metadata.map_err(|source| ImportError::Parquet { file: path.to_owned(), row: 0, source })?;
    Ok(metadata.schema().fields().iter().map(|field| field.name().clone()).collect())
}

/// Runs the decoder, which may also panic where a file is damaged; it is not asked again then.
fn guarded<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let why = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason is known");
        Err(ParquetError::General(format!("the decoder panicked: {why}")))
    })
}

/// How the columns of a file are to be read: texts as views, of which a batch may have more than 2 GiB, and which share the values
/// of a dictionary; times of 96 bits as microseconds, because the decoder lets those wrap that 64 bits of nanoseconds do not hold.
fn schema_to_read(metadata: &ArrowReaderMetadata) -> SchemaRef {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8);
    let roots = metadata.parquet_schema().root_schema().get_fields();
    let fields = metadata.schema().fields().iter().zip(roots).map(|(field, root)| {
        let data_type = match field.data_type() {
            DataType::Dictionary(_, values) if is_text(values) => DataType::Utf8View,
            text if is_text(text) => DataType::Utf8View,
            DataType::Timestamp(_, zone) if root.get_physical_type() == Type::INT96 => {
                DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
            }
            other => other.clone(),
        };
        Field::clone(field).with_data_type(data_type)
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata.schema().metadata().clone()))
}

/// So many that those of the heaviest row group have about [`BATCH_BYTES`].
fn rows_at_once(metadata: &ParquetMetaData, mask: &ProjectionMask) -> usize {
    let row_bytes = metadata.row_groups().iter().map(|group| {
        let columns = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
        let bytes =
            columns.fold(0_i64, |bytes, (_, column)| bytes.saturating_add(column.uncompressed_size()));
        bytes / group.num_rows().max(1)
    });
    let row_bytes = row_bytes.max().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
    usize::try_from((BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS)).unwrap_or(1)
}

impl Reading for ParquetReading {
    fn place(&self) -> Place {
        Place { offset: self.row, line: self.row + 1 }
    }

    fn file_bytes(&self) -> u64 {
        let share = u128::from(self.bytes) * u128::from(self.row) / u128::from(self.rows.max(1));
        u64::try_from(share).unwrap_or(self.bytes)
    }

    fn next(&mut self, context: &Context<'_>, row: &mut Row) -> Result<Option<Outcome>, ImportError> {
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
        Ok(Some(match context.fill(row, line, |field| self.cells.cell(field, at)) {
            Ok(()) => Outcome::Taken,
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
    let (mut taken, mut made) = (store.batch(), Row::new(store));
    for row in 0..cells.rows {
        binding.fill(&mut made, None, |field| cells.cell(field, row)).map_err(|refusal| {
            let column = binding.source_of(refusal.field).to_owned();
            ImportError::Row { row, column, reason: refusal.reason }
        })?;
        taken.push(&made.event)?;
    }
    Ok(Some(taken.append()?))
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
    Time {
        ns: i64,
        has_zone: bool,
    },
}

impl Kind {
    fn of(data_type: &DataType) -> Option<Self> {
        const NS_PER_DAY: i64 = 86_400_000_000_000;
        Some(match data_type {
            DataType::Dictionary(_, values) => return Self::of(values),
            DataType::Timestamp(unit, zone) => {
                let ns = match unit {
                    TimeUnit::Second => 1_000_000_000,
                    TimeUnit::Millisecond => 1_000_000,
                    TimeUnit::Microsecond => 1000,
                    TimeUnit::Nanosecond => 1,
                };
                Self::Time { ns, has_zone: zone.is_some() }
            }
            DataType::Date64 => Self::Time { ns: 1_000_000, has_zone: false },
            DataType::Date32 => Self::Time { ns: NS_PER_DAY, has_zone: false },
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
    Times {
        times: Int64Array,
        ns: i64,
        has_zone: bool,
    },
    Texts(StringViewArray),
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
            Some(Column::Times { times, .. }) if times.is_null(row) => Cell::Missing,
            Some(Column::Times { times, ns, has_zone }) => match times.value(row).checked_mul(*ns) {
                Some(ts_ns) if *has_zone => Cell::TsNs(ts_ns),
                Some(clock_ns) => Cell::ClockNs(clock_ns),
                None => Cell::Refused(OUT_OF_RANGE.to_owned()),
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
            Cell::Int(number) | Cell::TsNs(number) | Cell::ClockNs(number) => number.to_string(),
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
            Some(Kind::Time { ns, has_zone }) => {
                let times = match plain.data_type() {
                    // Numbers of 32 bits, which only turn into ones of 64 by way of themselves.
                    DataType::Date32 => ints(&cast(&plain, &DataType::Int32)?)?,
                    _ => ints(&plain)?,
                };
                Self::Times { times, ns, has_zone }
            }
            Some(Kind::Text) => Self::Texts(cast(&plain, &DataType::Utf8View)?.as_string_view().clone()),
            None => {
                let what = format!("a column of {} cannot be imported", array.data_type());
                return Err(ArrowError::CastError(what));
            }
        })
    }
}
