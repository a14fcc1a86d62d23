//! Rows of a table as Parquet files, which everything that reads data reads.
//!
//! ```
//! use keplordb::TableSchema;
//! use keplordb::any::AnyStore;
//! use keplordb_sql::export::Export;
//! use keplordb_sql::import::{Import, Mapping};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let schema = TableSchema::new(1).dim("user").counter("tokens");
//! let store = AnyStore::open_or_create(dir.join("calls"), schema.clone())?;
//! store.append(store.event(1_700_000_000_000_000_000).set("user", "alice")?.set("tokens", 1200)?)?;
//!
//! let path = dir.join("calls.parquet");
//! let exported = Export::file(&store.snapshot(), &path).run()?;
//! assert_eq!((exported.rows, exported.files), (1, vec![path.clone()]));
//!
//! let copy = AnyStore::open_or_create(dir.join("copy"), schema)?;
//! Import::parquet(&copy, &path, Mapping::by_name(copy.columns())).run()?;
//! assert_eq!(copy.query().rows()?[0].int("tokens")?, 1200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the files are like
//! The columns are those of the table in SQL: first `ts`, the time in UTC, in **microseconds**, because Spark reads no finer ones (not
//! there if a column of the table has this name, in capitals too); then all columns of the engine by their names, with the exact time in `ts_ns`. None
//! is nullable, no number is unsigned, and texts are plain strings. Rows are sorted by (time, sequence). Columns whose names differ by
//! capitals only are two columns for Polars; `DuckDB` gives one of them another name, and Spark refuses the file.
//!
//! zstd at level 3; dictionaries; pages of version 1; statistics and an index of pages; bloom filters on `id` and the dim that the
//! table's segments have one on; row groups of up to 1,048,576 rows or 256 MiB. The file's metadata have the table's schema as JSON
//! under `keplordb.schema`.
//!
//! # Files are there in whole or not at all
//! What is written has the ending `.exporting`, and takes its name when it is whole and on disk; a directory likewise. What is there
//! already is never overwritten.

mod draft;
mod error;
mod file;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use keplordb::any::{AnyFilter, AnySnapshot, Column};

pub use error::ExportError;

use crate::batch::Batches;
use crate::schema::SqlColumns;
use draft::Draft;
use file::{File, Shape};

/// Rows that are taken out of the table at once.
const BATCH_ROWS: usize = 32_768;
/// Batches that are read while others are written.
const BATCHES_AHEAD: usize = 1;
const NS_PER_DAY: i64 = 86_400_000_000_000;
/// What readers call the column that they make of the directories of days.
const DATE: &str = "date";

/// Rows of a table that are to become Parquet files. Nothing happens before it is [run](Self::run).
#[must_use = "an export does nothing before it is run"]
pub struct Export<'a> {
    snapshot: &'a AnySnapshot,
    target: PathBuf,
    layout: Layout,
    filter: Option<AnyFilter>,
    row_group_rows: usize,
    blooms: Vec<String>,
    each: Box<dyn FnMut(u64) + 'a>,
    stop: Box<dyn FnMut() -> bool + 'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    OneFile,
    FilesOf { rows: u64 },
    ByDay,
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// How many rows.
    pub rows: u64,
    /// The files, in the order of the rows.
    pub files: Vec<PathBuf>,
    /// How many bytes they have.
    pub bytes: u64,
}

impl<'a> Export<'a> {
    /// The most rows of a row group, unless said otherwise.
    pub const ROW_GROUP_ROWS: usize = 1 << 20;

    /// One file.
    pub fn file(snapshot: &'a AnySnapshot, path: impl AsRef<Path>) -> Self {
        Self::new(snapshot, path.as_ref(), Layout::OneFile)
    }

    /// A directory with files of so many rows, at least 1: `part-00000.parquet`, `part-00001.parquet` …
    pub fn files(snapshot: &'a AnySnapshot, dir: impl AsRef<Path>, rows: u64) -> Self {
        Self::new(snapshot, dir.as_ref(), Layout::FilesOf { rows: rows.max(1) })
    }

    /// A directory with a directory for each UTC day: `date=2026-02-21/part-00000.parquet`. `DuckDB`, Polars and Spark read it as one
    /// table with the column `date`; a table that has such a column already is refused. Of a table without rows there is one file
    /// without rows, of 1970-01-01.
    pub fn by_day(snapshot: &'a AnySnapshot, dir: impl AsRef<Path>) -> Self {
        Self::new(snapshot, dir.as_ref(), Layout::ByDay)
    }

    fn new(snapshot: &'a AnySnapshot, target: &Path, layout: Layout) -> Self {
        Self {
            snapshot,
            target: target.to_owned(),
            layout,
            filter: None,
            row_group_rows: Self::ROW_GROUP_ROWS,
            blooms: snapshot.bloom_dim().map(str::to_owned).into_iter().collect(),
            each: Box::new(|_| ()),
            stop: Box::new(|| false),
        }
    }

    /// Only the rows that pass.
    pub fn filter(mut self, filter: &AnyFilter) -> Self {
        self.filter = Some(filter.clone());
        self
    }

    /// The most rows of a row group, at least 1. By default [`ROW_GROUP_ROWS`](Self::ROW_GROUP_ROWS). Fewer take less memory, here and
    /// where they are read; more compress better.
    pub fn row_group_rows(mut self, rows: usize) -> Self {
        self.row_group_rows = rows.max(1);
        self
    }

    /// Bloom filters on these columns of texts, besides `id`, in the place of the dim's that the segments have.
    pub fn blooms(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.blooms = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Calls a function every some ten thousand rows with how many are written.
    pub fn on_progress(mut self, each: impl FnMut(u64) + 'a) -> Self {
        self.each = Box::new(each);
        self
    }

    /// Asks a function every some ten thousand rows whether the export is to stop; it then ends with
    /// [`Interrupted`](ExportError::Interrupted).
    pub fn stop_if(mut self, asked: impl FnMut() -> bool + 'a) -> Self {
        self.stop = Box::new(asked);
        self
    }

    /// Writes the rows; they are on disk on return.
    ///
    /// Cost: the table is read once, in order, by a thread that ends with the call; meanwhile this one writes, and columns are encoded
    /// side by side by rayon's threads, those of the pool that it is called in. Memory: a row group as it is encoded, and a few
    /// batches of rows.
    ///
    /// # Errors
    /// Any [`ExportError`]; then nothing is left behind.
    pub fn run(mut self) -> Result<Exported, ExportError> {
        if self.layout == Layout::ByDay {
            let is_date = |column: &&Column| column.name.eq_ignore_ascii_case(DATE);
            if let Some(column) = self.snapshot.columns().iter().find(is_date) {
                return Err(ExportError::DateColumn { column: column.name.clone() });
            }
        }
        let columns = SqlColumns::new(self.snapshot.columns());
        let mut batches = Batches::new(columns.schema().clone(), columns.all());
        let shape = Shape::new(&columns, self.snapshot.schema(), self.row_group_rows, &self.blooms)?;
        let draft = match self.layout {
            Layout::OneFile => Draft::file(&self.target)?,
            Layout::FilesOf { .. } | Layout::ByDay => Draft::dir(&self.target)?,
        };
        let mut query = self.snapshot.query().oldest_first();
        if let Some(filter) = &self.filter {
            query = query.filter(filter);
        }
        let mut writing = Writing {
            layout: self.layout,
            root: draft.path().to_owned(),
            shape,
            file: None,
            part: 0,
            exported: Exported { rows: 0, files: Vec::new(), bytes: 0 },
        };
        let positions = batches.positions().to_vec();
        let (sender, receiver) = sync_channel(BATCHES_AHEAD);
        let target = self.target.clone();
        std::thread::scope(|scope| {
            let read = move || {
                query.batches(&positions, BATCH_ROWS, |batch| {
                    let batch = batches.record_batch(batch);
                    let batch = batch.map_err(|error| ExportError::parquet(&target, error.into()));
                    let is_last = batch.is_err();
                    // Nobody takes it where writing has failed.
                    let is_taken = sender.send(batch).is_ok();
                    if is_taken && !is_last { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })
            };
            let thread = std::thread::Builder::new().name("keplordb-export".to_owned());
            let reader = thread
                .spawn_scoped(scope, read)
                .map_err(|error| ExportError::io("starting a thread for", &self.target, error))?;
            // On this thread, which may be one of a pool: there it waits for no other one that encodes.
            let written: Result<(), ExportError> = receiver.iter().try_for_each(|batch| {
                if (self.stop)() {
                    return Err(ExportError::Interrupted);
                }
                writing.write(&batch?)?;
                (self.each)(writing.exported.rows);
                Ok(())
            });
            drop(receiver);
            let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            written.and_then(|()| Ok(read?))
        })?;
        let mut exported = writing.finish()?;
        for file in &mut exported.files {
            *file = draft.published(file);
        }
        draft.publish()?;
        Ok(exported)
    }
}

impl fmt::Debug for Export<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Export")
            .field("target", &self.target)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

/// Files that are being written.
struct Writing {
    layout: Layout,
    root: PathBuf,
    shape: Shape,
    /// The file of the rows to come, and up to where they are its own.
    file: Option<(File, End)>,
    /// The number of the next file.
    part: u64,
    exported: Exported,
}

/// Where a file ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Never,
    AfterRows(u64),
    /// Before this time; `None` is never.
    Before(Option<i64>),
}

impl Writing {
    /// Writes rows that come after all that were written.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ExportError> {
        let mut rest = batch.clone();
        while rest.num_rows() > 0 {
            let times = rest.column(self.shape.time()).as_primitive::<Int64Type>().values().clone();
            if self.file.is_none() {
                self.file = Some(self.open(times[0])?);
            }
            let Some((file, end)) = &mut self.file else { unreachable!("it was opened above") };
            let rows = match *end {
                End::Never | End::Before(None) => rest.num_rows(),
                End::AfterRows(rows) => {
                    rest.num_rows().min(usize::try_from(rows - file.rows()).unwrap_or(usize::MAX))
                }
                End::Before(Some(end)) => times.partition_point(|time| *time < end),
            };
            file.write(&rest.slice(0, rows))?;
            self.exported.rows += rows as u64;
            let is_full =
                matches!(*end, End::AfterRows(rows) if rows == file.rows()) || rows < rest.num_rows();
            if is_full {
                self.close()?;
            }
            rest = rest.slice(rows, rest.num_rows() - rows);
        }
        Ok(())
    }

    /// Begins the file whose first row has this time.
    fn open(&mut self, ts_ns: i64) -> Result<(File, End), ExportError> {
        let (path, end) = match self.layout {
            Layout::OneFile => (self.root.clone(), End::Never),
            Layout::FilesOf { rows } => {
                (self.root.join(format!("part-{:05}.parquet", self.part)), End::AfterRows(rows))
            }
            Layout::ByDay => {
                let day = ts_ns.div_euclid(NS_PER_DAY);
                let dir = self.root.join(format!("{DATE}={}", date(day)));
                std::fs::create_dir(&dir).map_err(|error| ExportError::io("creating", &dir, error))?;
                // The last day ends beyond the last time.
                (dir.join("part-00000.parquet"), End::Before((day + 1).checked_mul(NS_PER_DAY)))
            }
        };
        self.part += 1;
        Ok((File::create(&path, &self.shape)?, end))
    }

    fn close(&mut self) -> Result<(), ExportError> {
        if let Some((file, _)) = self.file.take() {
            let (path, bytes) = file.finish()?;
            self.exported.files.push(path);
            self.exported.bytes += bytes;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Exported, ExportError> {
        // Of a table without rows, too, there is a file with its columns.
        if self.exported.rows == 0 {
            let opened = self.open(0)?;
            self.file = Some(opened);
        }
        self.close()?;
        Ok(self.exported)
    }
}

/// A UTC day, counted from the Unix epoch, as `2026-02-21`.
fn date(day: i64) -> String {
    let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(day));
    // All times of an `i64` of nanoseconds lie between the years 1677 and 2262.
    date.map_or_else(|_| day.to_string(), |date| date.to_string())
}
