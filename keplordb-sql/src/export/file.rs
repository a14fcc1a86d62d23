//! One Parquet file: how its columns are written, and rows into row groups.

use std::fs::{self, OpenOptions};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use keplordb::TableSchema;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, SchemaDescriptor};
use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefMutIterator, ParallelIterator,
};

use super::error::ExportError;
use crate::schema::SqlColumns;

/// Bytes after which a row group ends, however few rows it has: it is held in memory until then.
const ROW_GROUP_BYTES: usize = 256 << 20;
const ZSTD_LEVEL: i32 = 3;
const FALSE_POSITIVES: f64 = 0.01;
/// The key of the table's schema in a file's metadata.
const SCHEMA_KEY: &str = "keplordb.schema";

/// What all files of an export have in common.
#[derive(Debug)]
pub(super) struct Shape {
    schema: SchemaRef,
    parquet: SchemaDescriptor,
    properties: Arc<WriterProperties>,
    row_group_rows: usize,
    /// The column of `ts_ns`.
    time: usize,
}

impl Shape {
    pub(super) fn new(
        columns: &SqlColumns,
        table: &TableSchema,
        row_group_rows: usize,
        blooms: &[String],
    ) -> std::result::Result<Self, ExportError> {
        let sql = columns.schema();
        let texts = || sql.fields().iter().filter(|field| *field.data_type() == DataType::Utf8View);
        for column in blooms {
            if !texts().any(|field| field.name() == column) {
                let texts: Vec<&str> = texts().map(|field| field.name().as_str()).collect();
                return Err(ExportError::Column { column: column.clone(), texts: texts.join(", ") });
            }
        }
        let schema = Arc::new(Schema::new(sql.fields().iter().map(portable).collect::<Vec<_>>()));
        let time =
            sql.index_of("ts_ns").map_err(|error| ExportError::parquet(Path::new("ts_ns"), error.into()))?;
        Self::build(schema, time, table, row_group_rows, blooms)
            .map_err(|error| ExportError::parquet(Path::new("the schema"), error))
    }

    fn build(
        schema: SchemaRef,
        time: usize,
        table: &TableSchema,
        row_group_rows: usize,
        blooms: &[String],
    ) -> Result<Self> {
        let parquet = ArrowSchemaConverter::new().schema_root("keplordb").convert(&schema)?;
        let table = serde_json::json!({
            "id": table.id(),
            "dims": table.dims().collect::<Vec<_>>(),
            "counters": table.counters().collect::<Vec<_>>(),
            "labels": table.labels().collect::<Vec<_>>(),
        });
        let sorted_by =
            SortingColumn { column_idx: i32::try_from(time)?, descending: false, nulls_first: false };
        let path = |name: &str| ColumnPath::new(vec![name.to_owned()]);
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("keplordb version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_key_value_metadata(Some(vec![KeyValue::new(SCHEMA_KEY.to_owned(), table.to_string())]))
            .set_sorting_columns(Some(vec![sorted_by]))
            // No value comes twice: a dictionary would be built in vain.
            .set_column_dictionary_enabled(path("sequence"), false);
        for name in blooms.iter().map(String::as_str).chain(["id"]) {
            properties = properties
                .set_column_bloom_filter_enabled(path(name), true)
                .set_column_bloom_filter_fpp(path(name), FALSE_POSITIVES)
                .set_column_bloom_filter_max_ndv(path(name), row_group_rows as u64);
        }
        Ok(Self { schema, parquet, properties: Arc::new(properties.build()), row_group_rows, time })
    }

    /// The place of `ts_ns` among the columns.
    pub(super) fn time(&self) -> usize {
        self.time
    }
}

/// Timestamps are in microseconds: Spark reads no finer ones.
fn portable(field: &Arc<Field>) -> Arc<Field> {
    match field.data_type() {
        DataType::Timestamp(_, zone) => Arc::new(Field::new(
            field.name(),
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            false,
        )),
        _ => Arc::clone(field),
    }
}

fn portable_values(array: &ArrayRef) -> ArrayRef {
    match array.as_primitive_opt::<TimestampNanosecondType>() {
        Some(times) => {
            let micros: TimestampMicrosecondArray = times.unary(|ns| ns.div_euclid(1000));
            Arc::new(micros.with_timezone_opt(times.timezone()))
        }
        None => Arc::clone(array),
    }
}

/// A file that is being written.
pub(super) struct File {
    path: PathBuf,
    schema: SchemaRef,
    row_group_rows: usize,
    writer: SerializedFileWriter<BufWriter<fs::File>>,
    factory: ArrowRowGroupWriterFactory,
    /// The columns of the row group that is being written, and its rows.
    group: Vec<ArrowColumnWriter>,
    group_rows: usize,
    groups: usize,
    rows: u64,
}

impl File {
    pub(super) fn create(path: &Path, shape: &Shape) -> std::result::Result<Self, ExportError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let file = BufWriter::new(file.map_err(|error| ExportError::io("creating", path, error))?);
        let file =
            SerializedFileWriter::new(file, shape.parquet.root_schema_ptr(), Arc::clone(&shape.properties));
        let file = file.map_err(|error| ExportError::parquet(path, error))?;
        let factory = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&shape.schema));
        Ok(Self {
            path: path.to_owned(),
            schema: Arc::clone(&shape.schema),
            row_group_rows: shape.row_group_rows,
            writer: file,
            factory,
            group: Vec::new(),
            group_rows: 0,
            groups: 0,
            rows: 0,
        })
    }

    /// Rows that were written.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), ExportError> {
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = (self.row_group_rows - self.group_rows).min(batch.num_rows() - from);
            let written = self.write_to_group(&batch.slice(from, rows));
            written.map_err(|error| ExportError::parquet(&self.path, error))?;
            from += rows;
        }
        Ok(())
    }

    fn write_to_group(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.group.is_empty() {
            self.group = self.factory.create_column_writers(self.groups)?;
        }
        let columns = self.schema.fields().iter().zip(batch.columns()).collect::<Vec<_>>();
        self.group.par_iter_mut().zip(columns).try_for_each(|(writer, (field, array))| {
            for leaf in compute_leaves(field, &portable_values(array))? {
                writer.write(&leaf)?;
            }
            Ok::<_, ParquetError>(())
        })?;
        self.group_rows += batch.num_rows();
        self.rows += batch.num_rows() as u64;
        let bytes: usize = self.group.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        if self.group_rows >= self.row_group_rows || bytes >= ROW_GROUP_BYTES {
            self.end_group()?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        let chunks: Vec<_> = std::mem::take(&mut self.group)
            .into_par_iter()
            .map(ArrowColumnWriter::close)
            .collect::<Result<_>>()?;
        let mut group = self.writer.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.group_rows = 0;
        self.groups += 1;
        Ok(())
    }

    /// Writes what is left, and brings all to disk; gives the path and the file's bytes.
    pub(super) fn finish(mut self) -> std::result::Result<(PathBuf, u64), ExportError> {
        let ended = self.end_group();
        let parquet = |error| ExportError::parquet(&self.path, error);
        let io = |error| ExportError::io("writing", &self.path, error);
        ended.map_err(parquet)?;
        let file = self.writer.into_inner().map_err(parquet)?;
        let file = file.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_all().map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        Ok((self.path, bytes))
    }
}
