//! Rows of files into a table: CSV, JSON Lines and Parquet, by a mapping of columns; resumable, without losing or doubling a row.
//!
//! ```
//! use keplordb::TableSchema;
//! use keplordb::any::AnyStore;
//! use keplordb_sql::import::{Field, Import, Mapping, TimeFormat};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let path = dir.join("calls.csv");
//! std::fs::write(&path, "at,user,price\n2026-02-21T10:00:00Z,alice,1.25\n2026-02-21T10:00:01Z,bob,cheap\n")?;
//!
//! let schema = TableSchema::new(1).dim("user");
//! let store = AnyStore::open_or_create(dir.join("calls"), schema)?;
//! let mapping = Mapping::new()
//!     .time("at", TimeFormat::Rfc3339)
//!     .column("user", "user")
//!     .field(Field::new("price", "metric").digits(2));
//!
//! let imported = Import::csv(&store, &path, mapping).run()?;
//! assert_eq!((imported.rows, imported.rejected), (1, 1));
//! assert_eq!(store.query().equals("user", "alice")?.totals()?.of("metric")?.sum, 125);
//! let rejects = std::fs::read_to_string(imported.rejects)?;
//! assert!(rejects.contains("3,\"price\",\"\"\"cheap\"\" is not a number\",\"2026-02-21T10:00:01Z,bob,cheap\""));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What may be imported
//! Plain text files, and those compressed by zstd; Parquet. A file must not change while it is imported, and must be able to be
//! read again: no pipes.
//!
//! # Rejected rows
//! A row that cannot be taken, because it has too many fields, a text where a number is needed, a number or a text that its column
//! cannot hold, bytes that are not UTF-8 or no time, is written to a side file of CSV, with its line, the source's column, the reason and
//! its text, and is counted; all others are imported. More of them than [`Import::rejects_max`] end the import with an error. After
//! a quote that is not closed only the line in which it stands is lost.
//!
//! # Stopped imports
//! Rows are appended in batches, each all or nothing, and each on disk before the next one. A **journal** beside the table says how
//! far the import is. When it was stopped, by an error, a kill or a power failure, the same import run again goes on where it was:
//! no row is lost and none comes twice. It stays when the import is through, so that running it once more adds nothing; remove it to
//! import the file's rows again. It remembers the place of the last batch, and is refused where the table does not have its rows there: a
//! table that was made anew or put back to an older state, or from which they were all deleted ([`Import::even_if_gone`] goes on with
//! such a one).
//!
//! | stopped | what the next run finds | and does |
//! |---|---|---|
//! | before the journal has its first line | none, or a torn one | begins |
//! | after rejected rows of a batch were written | a side file longer than the journal says | cuts it, reads the batch again |
//! | after the batch's line was written | the batch's rows are not in the table | appends them |
//! | after the batch was appended | they are | goes on behind them |
//! | after the last batch | likewise | writes that the import is through |
//!
//! Whether a batch is in the table is seen by its rows' values, in their order, among the rows that are younger than the journal's
//! line; others may append meanwhile. A row without an id of its own gets one, of the source's hash and the line. Only where more than
//! half of the rows of that one batch were deleted between the stop and the next run, they come in again.

mod columnar;
mod csv;
mod error;
mod journal;
mod json;
mod mapping;
mod number;
mod object;
mod reader;
mod reading;
mod rejects;
mod rows;
mod run;
mod source;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;
use std::path::{Path, PathBuf};

use keplordb::any::AnyStore;

pub use columnar::append_record_batch;
pub use csv::Csv;
pub use error::ImportError;
pub use mapping::{Field, Mapping};
pub use time::TimeFormat;

/// A file that is to become rows of a table. Nothing happens before it is [run](Self::run).
#[must_use = "an import does nothing before it is run"]
pub struct Import<'a> {
    store: &'a AnyStore,
    source: PathBuf,
    format: Format,
    mapping: Mapping,
    journal: Option<PathBuf>,
    rejects_max: u64,
    batch_rows: usize,
    even_if_gone: bool,
    each: Box<dyn FnMut(&Progress) + 'a>,
    stop: Box<dyn FnMut() -> bool + 'a>,
    /// Ends the import at a step, as a kill would.
    #[cfg(test)]
    steps_left: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Format {
    Csv(Csv),
    JsonLines,
    Parquet,
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Rows of the source that are in the table, those of earlier runs too.
    pub rows: u64,
    /// Rows that were rejected, likewise.
    pub rejected: u64,
    /// Bytes of the source's file that were read.
    pub bytes: u64,
    /// Bytes that it has.
    pub bytes_total: u64,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Rows of the source that are in the table.
    pub rows: u64,
    /// Those of them that earlier runs had brought there; all, where the import was through already.
    pub rows_before: u64,
    /// Rows that were rejected.
    pub rejected: u64,
    /// The file of rejected rows; it is there if there are any.
    pub rejects: PathBuf,
    /// The journal; while it is there, running the import again adds nothing.
    pub journal: PathBuf,
}

impl<'a> Import<'a> {
    /// The most rejected rows, unless said otherwise.
    pub const REJECTS_MAX: u64 = 1000;
    /// The rows of a batch, unless said otherwise: two syncs of the disk are a small part of the time it takes.
    pub const BATCH_ROWS: usize = 16_384;

    /// A CSV file with commas, and the columns' names in its first line.
    pub fn csv(store: &'a AnyStore, source: impl AsRef<Path>, mapping: Mapping) -> Self {
        Self::new(store, source.as_ref(), Format::Csv(Csv::default()), mapping)
    }

    /// A CSV file that is written in another way.
    pub fn csv_as(store: &'a AnyStore, source: impl AsRef<Path>, csv: Csv, mapping: Mapping) -> Self {
        Self::new(store, source.as_ref(), Format::Csv(csv), mapping)
    }

    /// A file with a JSON object on each line. A mapping's column is a key, or a path that begins with `/`. Numbers are taken as they
    /// are written, exactly; other values than texts become texts as they are written; a `null` counts as nothing. A row without a
    /// key that the mapping names is rejected, unless it is [optional](Field::optional).
    pub fn json_lines(store: &'a AnyStore, source: impl AsRef<Path>, mapping: Mapping) -> Self {
        Self::new(store, source.as_ref(), Format::JsonLines, mapping)
    }

    /// A Parquet file. Numbers are taken exactly, floats as they are written in decimals; columns of timestamps and dates are times,
    /// which need no format, and become nanoseconds elsewhere; those of 96 bits (`INT96`) are taken in microseconds. One without a
    /// zone is in that of the mapping's [`Strftime`](TimeFormat::Strftime), and else in UTC. A null counts as nothing.
    ///
    /// What an export of this crate wrote comes back unchanged by [`Mapping::by_name`], also empty ids; only sequences are given anew,
    /// in the order of the file.
    pub fn parquet(store: &'a AnyStore, source: impl AsRef<Path>, mapping: Mapping) -> Self {
        Self::new(store, source.as_ref(), Format::Parquet, mapping)
    }

    fn new(store: &'a AnyStore, source: &Path, format: Format, mapping: Mapping) -> Self {
        Self {
            store,
            source: source.to_owned(),
            format,
            mapping,
            journal: None,
            rejects_max: Self::REJECTS_MAX,
            batch_rows: Self::BATCH_ROWS,
            even_if_gone: false,
            each: Box::new(|_| ()),
            stop: Box::new(|| false),
            #[cfg(test)]
            steps_left: None,
        }
    }

    /// The file that says how far the import is. By default it lies beside the table's directory: of the source `flights.csv` and the
    /// table `data/calls` it is `data/calls.flights.csv.1b2c3d4e.import`, with a hash of the source's path; the same however the paths
    /// of both are written. The side file of rejected rows lies beside it, under its name and `.rejects.csv`.
    pub fn journal(mut self, path: impl AsRef<Path>) -> Self {
        self.journal = Some(path.as_ref().to_owned());
        self
    }

    /// The most rejected rows; one more ends the import with [`TooManyRejects`](ImportError::TooManyRejects). By default
    /// [`REJECTS_MAX`](Self::REJECTS_MAX).
    pub fn rejects_max(mut self, rows: u64) -> Self {
        self.rejects_max = rows;
        self
    }

    /// The most rows of a batch, at least 1. By default [`BATCH_ROWS`](Self::BATCH_ROWS); a batch also ends after 16 MiB. Fewer take
    /// less memory and show their rows sooner, more need fewer syncs.
    pub fn batch_rows(mut self, rows: usize) -> Self {
        self.batch_rows = rows.max(1);
        self
    }

    /// Goes on although what earlier runs left is not there any more: the rows of the last batch, which were deleted or dropped by age,
    /// or the file of rejected rows, which then begins anew. Otherwise both are errors, since a table without its rows is
    /// commonly not the one that they were imported into.
    pub fn even_if_gone(mut self) -> Self {
        self.even_if_gone = true;
        self
    }

    /// Calls a function after every batch.
    pub fn on_progress(mut self, each: impl FnMut(&Progress) + 'a) -> Self {
        self.each = Box::new(each);
        self
    }

    /// Asks a function before every batch whether the import is to stop; it then ends with
    /// [`Interrupted`](ImportError::Interrupted), within [`Stopped`](ImportError::Stopped) where rows are in the table. They stay there, and
    /// the same import run again goes on behind them.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// use keplordb::TableSchema;
    /// use keplordb::any::AnyStore;
    /// use keplordb_sql::import::{Import, ImportError, Mapping, TimeFormat};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let path = dir.join("calls.csv");
    /// std::fs::write(&path, "at\n1\n2\n3\n")?;
    /// let store = AnyStore::open_or_create(dir.join("calls"), TableSchema::new(1))?;
    /// let import = || Import::csv(&store, &path, Mapping::new().time("at", TimeFormat::Seconds)).batch_rows(2);
    ///
    /// let is_asked = AtomicBool::new(false); // as by a handler of Ctrl-C
    /// let stopped = import()
    ///     .on_progress(|_| is_asked.store(true, Ordering::Relaxed))
    ///     .stop_if(|| is_asked.load(Ordering::Relaxed))
    ///     .run();
    /// assert!(matches!(stopped, Err(ImportError::Stopped { rows: 2, .. })));
    /// let imported = import().run()?;
    /// assert_eq!((imported.rows, imported.rows_before), (3, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_if(mut self, asked: impl FnMut() -> bool + 'a) -> Self {
        self.stop = Box::new(asked);
        self
    }

    /// The names of the source's columns: those of CSV's first line, or that were given; those of Parquet, in its order; the keys of the
    /// first line of JSON Lines that is an object. Nothing is imported, and the mapping is not looked at.
    ///
    /// # Errors
    /// As [`run`](Self::run), where the source cannot be read.
    pub fn columns(&self) -> Result<Vec<String>, ImportError> {
        match &self.format {
            Format::Csv(csv) => csv::names(&self.source, csv),
            Format::JsonLines => json::keys(&self.source),
            Format::Parquet => columnar::names(&self.source),
        }
    }

    /// Imports the rows that are not in the table yet, in the order of the source; all are on disk on return.
    ///
    /// Cost: this thread and one more, which reads the next batch while one is appended; two syncs a batch, three with rejected rows;
    /// the memory of two batches, and of Parquet that of the pages from which they are decoded.
    ///
    /// # Errors
    /// Any [`ImportError`]. [`Stopped`](ImportError::Stopped), when rows of the source are in the table, says how many.
    pub fn run(self) -> Result<Imported, ImportError> {
        run::run(self)
    }

    /// The journal, and the side file of rejected rows: only who has the lock of the one writes to the other.
    fn paths(&self) -> (PathBuf, PathBuf) {
        let journal = self.journal.clone().unwrap_or_else(|| {
            let source = resolved(&self.source);
            let mut name = resolved(self.store.dir()).into_os_string();
            name.push(".");
            name.push(source.file_name().unwrap_or_default());
            // Files of the same name in other directories have journals of their own.
            let hash = xxhash_rust::xxh3::xxh3_64(source.as_os_str().as_encoded_bytes());
            name.push(format!(".{:08x}.import", hash >> 32));
            name.into()
        });
        let mut rejects = journal.clone().into_os_string();
        rejects.push(".rejects.csv");
        (journal, rejects.into())
    }
}

/// The one path by which a file is known, however it is written. A table that is only in memory has no such one.
fn resolved(path: &Path) -> PathBuf {
    let resolved = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    resolved.unwrap_or_else(|_| path.to_owned())
}

impl fmt::Debug for Import<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Import")
            .field("source", &self.source)
            .field("format", &self.format)
            .field("mapping", &self.mapping)
            .finish_non_exhaustive()
    }
}
