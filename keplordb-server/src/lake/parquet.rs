//! One Parquet file of the lake: rows into a file that is never changed again, and back.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufWriter;
use std::path::Path;

use arrow::array::{RecordBatch, RecordBatchReader as _};
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use ulid::Ulid;

use super::columns::{Columns, damaged};
use super::files::{Files, temporary};
use super::manifest::{Bucket, FileEntry, Sum};
use super::rows::Row;
use super::source::{Source, Unread};
use crate::error::ServerError;

type Result<T> = std::result::Result<T, ServerError>;

const ZSTD_LEVEL: i32 = 3;
const FALSE_POSITIVES: f64 = 0.01;
/// Rows that are made columns at a time, and the bytes after which it is fewer: the texts of a column must stay below 2 GiB.
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 32 << 20;
/// Rows that are read at a time, and their bytes: likewise.
const READ_ROWS: usize = 1024;
const READ_BYTES: usize = 64 << 20;
/// What a file says of itself: how many bytes its longest row has.
const ROW_BYTES_MAX: &str = "keplordb.row_bytes_max";
/// What is thought of a file that does not say so.
const ROW_BYTES_UNSAID: usize = 8 << 20;
/// Likewise of ids alone.
const ID_ROWS: usize = 8192;
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Bytes after which a row group ends, however few rows it has: it is held in memory until then.
const ROW_GROUP_BYTES: usize = 128 << 20;

fn refused(path: &Path) -> impl Fn(ParquetError) -> ServerError {
    move |source| ServerError::Parquet { file: path.to_owned(), source }
}

/// Likewise of one that is being written: what the disk refuses is no matter of the format.
fn unwritten(path: &Path) -> impl Fn(ParquetError) -> ServerError {
    move |error| match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(source) => ServerError::Io { file: path.to_owned(), op: "writing", source: *source },
            Err(cause) => refused(path)(ParquetError::External(cause)),
        },
        error => refused(path)(error),
    }
}

/// A name for a file of a directory of the lake: none is ever used twice, also where the same rows are written again after a crash.
pub(super) fn new_name(dir: &str) -> String {
    format!("{dir}-{}.parquet", Ulid::generate())
}

/// Whether a name is such a one, or that of a file of the directory until it is whole.
pub(super) fn is_name(dir: &str, name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    let id = name.strip_prefix(dir).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".parquet"));
    id.is_some_and(|id| Ulid::from_string(id).is_ok_and(|ulid| ulid.to_string() == id))
}

/// How rows become the columns of a file.
pub(super) trait Encoding<R> {
    /// Columns of which many files can be told not to have a value.
    const BLOOMS: &'static [&'static str];
    /// The column in which no value comes twice.
    const SEQUENCE: &'static str;
    /// Bytes of rows after which they are made columns.
    const BATCH_BYTES: usize = BATCH_BYTES;

    /// The directory of the files, in `lake`.
    fn dir(&self) -> &'static str;
    fn schema(&self) -> SchemaRef;
    /// Gives the columns of some rows, in as many batches as it takes.
    fn encode(
        &self,
        rows: &[R],
        each: impl FnMut(&RecordBatch) -> std::result::Result<(), ParquetError>,
    ) -> std::result::Result<Encoded, ParquetError>;
}

/// What is known of rows that were made columns.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Encoded {
    /// The sum of their hashes.
    pub(super) sum: Sum,
    /// Bytes that the longest takes as columns, where they can be many more than its own.
    pub(super) row_bytes_max: usize,
}

/// Rows with the columns of their table.
pub(super) struct OfTable;

impl<R: Row> Encoding<R> for OfTable {
    const BLOOMS: &'static [&'static str] = R::BLOOMS;
    const SEQUENCE: &'static str = "seq";

    fn dir(&self) -> &'static str {
        R::TABLE.dir()
    }

    fn schema(&self) -> SchemaRef {
        R::schema()
    }

    fn encode(
        &self,
        rows: &[R],
        mut each: impl FnMut(&RecordBatch) -> std::result::Result<(), ParquetError>,
    ) -> std::result::Result<Encoded, ParquetError> {
        each(&RecordBatch::try_new(R::schema(), R::encode(rows))?)?;
        Ok(Encoded { sum: rows.iter().map(|row| Sum(row.hash())).sum(), row_bytes_max: 0 })
    }
}

/// What is known of a file before it is written.
pub(super) struct NewFile<'a> {
    /// The directory that it is to be in.
    pub(super) dir: &'a Path,
    pub(super) name: String,
    pub(super) bucket: Option<&'a Bucket>,
    pub(super) level: u8,
    /// Whether it is to be there also without rows.
    pub(super) wants_empty: bool,
}

/// Writes rows, which are in their order, into a file that is not there yet. `None`, and no file, where there are none, unless an empty
/// one is wanted.
pub(super) fn write<R: Row, E: Encoding<R>>(
    files: &Files,
    NewFile { dir, name, bucket, level, wants_empty }: NewFile<'_>,
    encoding: &E,
    rows: impl Iterator<Item = Result<R>>,
) -> Result<Option<FileEntry>> {
    // A filter is made for as many values as there may be, and takes as much time.
    let values_max = rows.size_hint().1.unwrap_or(ROW_GROUP_ROWS).clamp(1, ROW_GROUP_ROWS);
    let mut rows = rows.peekable();
    if rows.peek().is_none() && !wants_empty {
        return Ok(None);
    }
    let path = dir.join(&name);
    let draft = temporary(&path);
    let mut entry = FileEntry {
        path: name,
        bytes: 0,
        rows: 0,
        memory_bytes: 0,
        seq_min: u64::MAX,
        seq_max: 0,
        time_min: i64::MAX,
        time_max: i64::MIN,
        row_hash: Sum::default(),
        level,
        bucket: bucket.cloned(),
        types: None,
        of: None,
    };
    let file = BufWriter::new(files.create(&draft)?);
    let properties = properties(&draft, values_max, E::BLOOMS, E::SEQUENCE)?;
    let mut writer =
        ArrowWriter::try_new(file, encoding.schema(), Some(properties)).map_err(unwritten(&draft))?;
    let mut batch: Vec<R> = Vec::new();
    let (mut batch_bytes, mut row_bytes_max) = (0, 0);
    for row in rows {
        let row = row?;
        entry.rows += 1;
        entry.seq_min = entry.seq_min.min(row.sequence());
        entry.seq_max = entry.seq_max.max(row.sequence());
        entry.time_min = entry.time_min.min(row.time_ms());
        entry.time_max = entry.time_max.max(row.time_ms());
        let row_bytes = row.bytes();
        entry.memory_bytes += row_bytes as u64;
        row_bytes_max = row_bytes_max.max(row_bytes);
        batch_bytes += row_bytes;
        batch.push(row);
        if batch.len() >= BATCH_ROWS || batch_bytes >= E::BATCH_BYTES {
            let encoded = put(&mut writer, encoding, &batch).map_err(unwritten(&draft))?;
            entry.row_hash.add(encoded.sum.0);
            row_bytes_max = row_bytes_max.max(encoded.row_bytes_max);
            batch.clear();
            batch_bytes = 0;
        }
    }
    let encoded = put(&mut writer, encoding, &batch).map_err(unwritten(&draft))?;
    entry.row_hash.add(encoded.sum.0);
    row_bytes_max = row_bytes_max.max(encoded.row_bytes_max);
    if entry.rows == 0 {
        (entry.seq_min, entry.time_min, entry.time_max) = (0, 0, 0);
    }
    let said = KeyValue::new(ROW_BYTES_MAX.to_owned(), row_bytes_max.to_string());
    writer.append_key_value_metadata(said);
    let file = writer.into_inner().map_err(unwritten(&draft))?;
    let io = |source| ServerError::Io { file: draft.clone(), op: "writing", source };
    let file = file.into_inner().map_err(|error| io(error.into_error()))?;
    entry.bytes = file.metadata().map_err(io)?.len();
    files.finish(&file, &draft, &path)?;
    Ok(Some(entry))
}

/// Writes rows.
fn put<R, W: std::io::Write + Send>(
    writer: &mut ArrowWriter<W>,
    encoding: &impl Encoding<R>,
    rows: &[R],
) -> std::result::Result<Encoded, ParquetError> {
    encoding.encode(rows, |batch| {
        writer.write(batch)?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush()?;
        }
        Ok(())
    })
}

fn properties(file: &Path, values_max: usize, blooms: &[&str], sequence: &str) -> Result<WriterProperties> {
    let path = |name: &str| ColumnPath::new(vec![name.to_owned()]);
    let zstd = ZstdLevel::try_new(ZSTD_LEVEL).map_err(refused(file))?;
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("keplordb version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(zstd))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        // No value comes twice: a dictionary would be built in vain.
        .set_column_dictionary_enabled(path(sequence), false);
    for name in blooms {
        properties = properties
            .set_column_bloom_filter_enabled(path(name), true)
            .set_column_bloom_filter_fpp(path(name), FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(path(name), values_max as u64);
    }
    Ok(properties.build())
}

/// The rows of a file, in their order.
pub(super) struct Rows<R> {
    unread: Unread,
    batches: ParquetRecordBatchReader,
    batch: std::vec::IntoIter<R>,
    /// Rows of the file.
    count: usize,
}

/// The rows of a file as columns, not too many at a time, and how many they are.
fn batches_of(path: &Path) -> Result<(ParquetRecordBatchReader, usize, Unread)> {
    let (source, unread) = Source::open(path)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(source).map_err(|error| unread.because(error))?;
    let count = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(usize::MAX);
    let mut said = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let said = said.find(|said| said.key == ROW_BYTES_MAX).and_then(|said| said.value.as_ref()?.parse().ok());
    let row_bytes_max = said.unwrap_or(ROW_BYTES_UNSAID).max(1);
    let rows = (READ_BYTES / row_bytes_max).clamp(1, READ_ROWS);
    let batches = builder.with_batch_size(rows).build().map_err(|error| unread.because(error))?;
    Ok((batches, count, unread))
}

/// The rows of a file as columns, of which it has exactly some.
pub(super) fn batches(
    path: &Path,
    schema: &SchemaRef,
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let (batches, _, unread) = batches_of(path)?;
    let found = batches.schema();
    let has_columns = found.fields().len() == schema.fields().len()
        && found.fields().iter().zip(schema.fields()).all(|(found, wanted)| {
            found.name() == wanted.name() && found.data_type().equals_datatype(wanted.data_type())
        });
    if !has_columns {
        return Err(damaged(path, "its columns are not those that were written"));
    }
    Ok(batches.map(move |batch| batch.map_err(|error| unread.because(error.into()))))
}

impl<R: Row> Rows<R> {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (batches, count, unread) = batches_of(path)?;
        Ok(Self { unread, batches, batch: Vec::new().into_iter(), count })
    }
}

impl<R: Row> Iterator for Rows<R> {
    type Item = Result<R>;

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.count))
    }

    fn next(&mut self) -> Option<Result<R>> {
        loop {
            if let Some(row) = self.batch.next() {
                return Some(Ok(row));
            }
            let decoded = match self.batches.next()? {
                Ok(batch) => R::decode(Columns { batch: &batch, file: self.unread.path() }),
                Err(error) => Err(self.unread.because(error.into())),
            };
            match decoded {
                Ok(rows) => self.batch = rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Ids of entities, by their types.
pub(super) type Ids = BTreeMap<String, BTreeSet<String>>;

/// Whether a file has a row of one of these entities; of none it has none. Mostly the filters say that it has none, and nothing more is read.
pub(super) fn has_entity(path: &Path, entities: &Ids) -> Result<bool> {
    const ID: &str = "entity_id";
    if entities.values().all(BTreeSet::is_empty) {
        return Ok(false);
    }
    let (source, unread) = Source::open(path)?;
    let refused = |error: ParquetError| unread.because(error);
    let builder = ParquetRecordBatchReaderBuilder::try_new(source).map_err(refused)?;
    let id = builder.parquet_schema().columns().iter().position(|column| column.name() == ID);
    let Some(id) = id else { return Err(damaged(path, "it has no column entity_id")) };
    let mut groups = Vec::new();
    for group in 0..builder.metadata().num_row_groups() {
        let filter = builder.get_row_group_column_bloom_filter(group, id).map_err(refused)?;
        // What has no filter may have any.
        let may_have =
            filter.is_none_or(|filter| entities.values().flatten().any(|id| filter.check(id.as_str())));
        if may_have {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        return Ok(false);
    }
    let columns = ProjectionMask::columns(builder.parquet_schema(), ["entity_type", ID]);
    let builder = builder.with_row_groups(groups).with_projection(columns).with_batch_size(ID_ROWS);
    for batch in builder.build().map_err(refused)? {
        let batch = batch.map_err(|error| refused(error.into()))?;
        let columns = Columns { batch: &batch, file: path };
        let (entity_type, entity_id) = (columns.texts("entity_type")?, columns.texts(ID)?);
        let mut pairs = entity_type.iter().zip(entity_id).filter_map(|(kind, id)| Some((kind?, id?)));
        if pairs.any(|(kind, id)| entities.get(kind).is_some_and(|ids| ids.contains(id))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rows of some files, all in one order.
pub(super) struct Merged<R> {
    inputs: Vec<Rows<R>>,
    /// Of each input the next one.
    heads: Vec<Option<R>>,
    failed: Option<ServerError>,
}

impl<R: Row> Merged<R> {
    pub(super) fn new(mut inputs: Vec<Rows<R>>) -> Result<Self> {
        let heads = inputs.iter_mut().map(|input| input.next().transpose()).collect::<Result<_>>()?;
        Ok(Self { inputs, heads, failed: None })
    }
}

impl<R: Row> Iterator for Merged<R> {
    type Item = Result<R>;

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.inputs.iter().fold(0, |sum, input| sum.saturating_add(input.count))))
    }

    fn next(&mut self) -> Option<Result<R>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        // The inputs are few: looking through all heads costs less than keeping them in an order.
        let compare = |a: &Option<R>, b: &Option<R>| match (a, b) {
            (Some(a), Some(b)) => a.compare(b),
            (None, None) => Ordering::Equal,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        let (least, _) = self.heads.iter().enumerate().min_by(|(_, a), (_, b)| compare(a, b))?;
        let row = self.heads.get_mut(least)?.take()?;
        match self.inputs.get_mut(least)?.next() {
            Some(Ok(next)) => *self.heads.get_mut(least)? = Some(next),
            Some(Err(error)) => self.failed = Some(error),
            None => {}
        }
        Some(Ok(row))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test damages files")]
mod tests {
    use std::path::PathBuf;

    use super::super::rows::VersionRow;
    use super::*;
    use crate::fold::Operation;

    fn row(id: &str, state: &str) -> VersionRow {
        VersionRow {
            entity_type: "User".to_owned(),
            entity_id: id.to_owned(),
            version: 1,
            operation: Operation::Create,
            state: Some(state.to_owned()),
            changed: Vec::new(),
            valid_from_ms: 0,
            valid_to_ms: None,
            known_from_ms: 0,
            known_to_ms: None,
            sequence: 1,
            source_version: None,
        }
    }

    fn written(dir: &Path, rows: Vec<VersionRow>) -> PathBuf {
        let rows = rows.into_iter().map(Ok);
        let name = new_name("versions");
        assert!(is_name("versions", &name) && !is_name("events", &name));
        let file = NewFile { dir, name, bucket: None, level: 0, wants_empty: false };
        let entry = write(&Files::default(), file, &OfTable, rows).unwrap().unwrap();
        dir.join(entry.path)
    }

    #[test]
    fn a_file_whose_filter_has_none_of_the_ids_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), (0..9).map(|id| row(&format!("id {id}"), "{}")).collect());
        let ids = |id: &str| Ids::from([("User".to_owned(), BTreeSet::from([id.to_owned()]))]);
        assert!(has_entity(&path, &ids("id 4")).unwrap());
        let of_another_type = Ids::from([("Order".to_owned(), BTreeSet::from(["id 4".to_owned()]))]);
        assert!(!has_entity(&path, &of_another_type).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4..60].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        assert!(!has_entity(&path, &ids("another")).unwrap());
        // A page that cannot be decompressed, and so is none of a disk that refuses.
        let error = has_entity(&path, &ids("id 4")).unwrap_err();
        assert!(matches!(error, ServerError::Parquet { .. }), "{error}");
    }

    #[test]
    fn fewer_rows_are_read_at_a_time_where_they_are_long() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(4 << 20);
        let path = written(dir.path(), (0..20).map(|id| row(&format!("id {id:02}"), &long)).collect());
        let mut rows = Rows::<VersionRow>::open(&path).unwrap();
        rows.next().unwrap().unwrap();
        assert!(rows.batch.len() < READ_BYTES / long.len(), "{}", rows.batch.len());
        assert_eq!(rows.map(Result::unwrap).count(), 19);
    }
}
