//! `keplor export`: events as Parquet files.

use std::path::PathBuf;

use anyhow::Result;
use keplordb_sql::export::{Export as Exporting, ExportError, Exported};
use serde_json::json;

use super::Done;
use crate::conditions::Conditions;
use crate::interrupt;
use crate::output::{Output, count, counted, note};
use crate::progress::Progress;
use crate::table;

/// Write events as Parquet: one file, files of so many, or one a day
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor export flights.db flights.parquet
  keplor export flights.db flights-by-day --daily
  keplor export flights.db late.parquet -w 'metric>=120' --from 2013-06-01 --to 2013-07-01

Rows are sorted by time; DuckDB, Polars, pandas and Spark read the files, and `keplor import` brings them back. What is there already
is never overwritten, and a file or directory has its name only when it is whole. Another process may write to the table.")]
pub(crate) struct Export {
    /// The table's directory
    dir: PathBuf,
    /// The file; with --daily or --file-rows the directory
    target: PathBuf,
    /// A file for each UTC day: TARGET/date=2013-06-01/part-00000.parquet
    #[arg(long)]
    daily: bool,
    /// Files of so many rows: TARGET/part-00000.parquet
    #[arg(long, value_name = "N", conflicts_with = "daily", value_parser = clap::value_parser!(u64).range(1..))]
    file_rows: Option<u64>,
    #[command(flatten)]
    conditions: Conditions,
    /// At most so many rows in a row group: fewer take less memory, more compress better
    #[arg(long, value_name = "N", default_value_t = Exporting::ROW_GROUP_ROWS)]
    row_group_rows: usize,
    /// Bloom filters on these columns of texts, besides id; by default on the dim that the table has one on
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    bloom: Option<Vec<String>>,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Export {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let snapshot = table::reader(&self.dir)?.snapshot();
        let filter = self.conditions.filter(&snapshot)?;
        let total = snapshot.query().filter(&filter).totals()?.event_count;
        let mut progress = Progress::begin();
        interrupt::listen()?;
        let export = match (self.daily, self.file_rows) {
            (true, _) => Exporting::by_day(&snapshot, &self.target),
            (false, Some(rows)) => Exporting::files(&snapshot, &self.target, rows),
            (false, None) => Exporting::file(&snapshot, &self.target),
        };
        let export = export.filter(&filter).row_group_rows(self.row_group_rows);
        let export = match self.bloom {
            Some(columns) => export.blooms(columns),
            None => export,
        };
        let exported = export
            .on_progress(|rows| progress.tell(rows, total, || counted(rows, "row", "rows")))
            .stop_if(interrupt::is_asked)
            .run();
        drop(progress);
        let Exported { rows, files, bytes, .. } = match exported {
            Ok(exported) => exported,
            Err(interrupted @ ExportError::Interrupted) => {
                note(&interrupted.to_string());
                return Ok(Done::Interrupted);
            }
            Err(error) => return Err(error.into()),
        };
        if self.json {
            let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            out.json(&json!({ "rows": rows, "bytes": bytes, "files": files }))?;
        } else {
            let files = match files.len() as u64 {
                1 if !self.daily && self.file_rows.is_none() => String::new(),
                files => format!("{} of ", counted(files, "file", "files")),
            };
            let rows = counted(rows, "row", "rows");
            out.line(&format!("{rows} in {}: {files}{} bytes", self.target.display(), count(bytes)))?;
        }
        Ok(Done::Well)
    }
}
