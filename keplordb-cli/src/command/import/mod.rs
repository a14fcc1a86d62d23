//! `keplor import`: files of CSV, JSON Lines or Parquet become events.

mod mapping;

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail, ensure};
use keplordb::any::AnyStore;
use keplordb_sql::import::{Csv, Import as Importing, ImportError, Imported, Mapping};
use serde_json::json;

use self::mapping::{Mapped, Plan, plan};
use super::Done;
use crate::interrupt;
use crate::output::{self, Output, count, counted, note};
use crate::progress::Progress;
use crate::table;

/// Bring a file's rows into a table: CSV, JSON Lines or Parquet
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  keplor import calls.db calls.csv
  keplor import flights.db flights-2013.csv.zst -m scheduled_utc=ts -m flight=number -m arr_delay_min=metric:or=0 \\
      -m air_time_min=latency_ms:times=60000,or=0
  keplor import calls.db calls.jsonl -m 'when=ts:%d.%m.%Y %H:%M:%S in Europe/Berlin' -m /usage/tokens=tokens

Columns that the file and the table both have come in by name: the time from `ts_ns` or `ts`; what is empty is 0 there. Those that
the file calls otherwise are mapped, each by -m FROM=TO, with how it is written behind a colon:
  ts         rfc3339 (the default), s, ms, us, ns since the Unix epoch, or a pattern of strftime with ` in ZONE`
  a number   digits=2 (12.50 is 1250), rounded, times=60000, or=0 (where it is empty, which is an error otherwise)
  any        optional (the file may lack the column)
Of JSON, /usage/tokens is the key tokens in the object usage.

Rows that cannot be taken are counted and written to a side file, and the exit status is 2. An import that was stopped, by Ctrl-C or a
kill, goes on where it was when it is run again, and one that was through adds nothing: a journal beside the table says how far it is.")]
pub(crate) struct Import {
    /// The table's directory
    dir: PathBuf,
    /// The file: .csv, .tsv, .jsonl, .ndjson or .json, each also with .zst; .parquet
    file: PathBuf,
    /// A column of the file that becomes one of the table; may be given again
    #[arg(short, long = "map", value_name = "FROM=TO[:HOW]", help_heading = "Columns")]
    map: Vec<Mapped>,
    /// Columns of the file that do not come in by name: status,flags
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Columns")]
    skip: Vec<String>,
    /// What the file is, where its name does not say
    #[arg(long, value_enum, help_heading = "The file")]
    format: Option<Format>,
    /// What separates fields of CSV: ';' or tab; by default a comma
    #[arg(long, value_name = "LETTER", value_parser = letter, help_heading = "The file")]
    delimiter: Option<u8>,
    /// What encloses fields of CSV; by default "
    #[arg(long, value_name = "LETTER", value_parser = letter, help_heading = "The file")]
    quote: Option<u8>,
    /// The names of CSV's columns, where its first line is a row already
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "The file")]
    columns: Vec<String>,
    /// The most rows that may be rejected; one more ends the import
    #[arg(long, value_name = "N", default_value_t = Importing::REJECTS_MAX)]
    rejects_max: u64,
    /// At most so many rows are appended at once, all or none, and are on disk before the next ones
    #[arg(long, value_name = "N", default_value_t = Importing::BATCH_ROWS)]
    batch_rows: usize,
    /// Where it is noted how far the import is; by default beside the table. Rejected rows go to the file of this name and .rejects.csv
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Go on although rows that this import brought in last, or the file of rejected rows, are gone
    #[arg(long)]
    even_if_gone: bool,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Csv,
    /// With tabs between fields
    Tsv,
    /// A JSON object a line
    Jsonl,
    Parquet,
}

impl Format {
    /// By a file's name.
    fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let plain = name.strip_suffix(".zst").unwrap_or(&name);
        match plain.rsplit_once('.').map(|(_, ending)| ending) {
            Some("csv") => Ok(Self::Csv),
            Some("tsv") => Ok(Self::Tsv),
            Some("jsonl" | "ndjson" | "json") => Ok(Self::Jsonl),
            Some("parquet") if plain == name => Ok(Self::Parquet),
            Some("parquet") => bail!("{} is compressed twice; unpack it by `zstd -d` first", path.display()),
            _ => bail!("the name of {} does not say what it is; say it by --format", path.display()),
        }
    }
}

/// A letter of ASCII, or `tab`.
fn letter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [letter] => Ok(*letter),
        b"tab" | b"\\t" => Ok(b'\t'),
        _ => Err("one letter of ASCII, or tab".to_owned()),
    }
}

impl Import {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        ensure!(
            self.dir.exists(),
            "there is no directory {}; `keplor init` makes a table, with the columns that the file is to go to",
            self.dir.display()
        );
        let format = self.format.map_or_else(|| Format::of(&self.file), Ok)?;
        let is_csv = matches!(format, Format::Csv | Format::Tsv);
        ensure!(
            is_csv || (self.delimiter.is_none() && self.quote.is_none() && self.columns.is_empty()),
            "--delimiter, --quote and --columns are for CSV, and {} is none",
            self.file.display()
        );
        let store = table::store_to_replace(&self.dir)?;
        let imported = match self.import(&store, format) {
            Ok(imported) => imported,
            Err(error) => {
                let closed = store.close();
                let Some(interrupted) = interruption(&error) else { return Err(told(error)) };
                note(&interrupted);
                closed?;
                return Ok(Done::Interrupted);
            }
        };
        // What stays in the log is read by everyone who opens the table, and takes several times the bytes.
        let flushed = if imported.rows > imported.rows_before { store.flush().map(drop) } else { Ok(()) };
        let closed = store.close();
        self.tell(&imported, out)?;
        flushed.and(closed)?;
        Ok(if imported.rejected > 0 { Done::Rejected } else { Done::Well })
    }

    fn import(&self, store: &AnyStore, format: Format) -> Result<Imported> {
        let sources = self.importing(store, format, Mapping::new()).columns()?;
        let Plan { mapping, unused } = plan(store.columns(), &sources, &self.map, &self.skip, &self.file)?;
        if !unused.is_empty() {
            note(&format!("these columns of {} do not come in: {}", self.file.display(), unused.join(", ")));
        }
        interrupt::listen()?;
        let mut progress = Progress::begin();
        let import = self
            .importing(store, format, mapping)
            .rejects_max(self.rejects_max)
            .batch_rows(self.batch_rows)
            .on_progress(|done| {
                progress.tell(done.bytes, done.bytes_total, || {
                    let rejected = match done.rejected {
                        0 => String::new(),
                        rejected => format!(", {} rejected", count(rejected)),
                    };
                    format!("{}{rejected}", counted(done.rows, "row", "rows"))
                });
            })
            .stop_if(interrupt::is_asked);
        let import = if self.even_if_gone { import.even_if_gone() } else { import };
        let import = match &self.journal {
            Some(path) => import.journal(path),
            None => import,
        };
        Ok(import.run()?)
    }

    fn importing<'s>(&self, store: &'s AnyStore, format: Format, mapping: Mapping) -> Importing<'s> {
        let delimiter = match format {
            Format::Parquet => return Importing::parquet(store, &self.file, mapping),
            Format::Jsonl => return Importing::json_lines(store, &self.file, mapping),
            Format::Csv => b',',
            Format::Tsv => b'\t',
        };
        let csv = Csv::default().delimiter(self.delimiter.unwrap_or(delimiter));
        let csv = match self.quote {
            Some(quote) => csv.quote(quote),
            None => csv,
        };
        let csv = if self.columns.is_empty() { csv } else { csv.columns(&self.columns) };
        Importing::csv_as(store, &self.file, csv, mapping)
    }

    fn tell(&self, imported: &Imported, out: &mut Output) -> Result<()> {
        let Imported { rows, rows_before, rejected, rejects, journal, .. } = imported;
        if self.json {
            out.json(&json!({
                "rows": rows,
                "rows_before": rows_before,
                "rejected": rejected,
                "rejects": (*rejected > 0).then(|| rejects.display().to_string()),
                "journal": journal.display().to_string(),
            }))?;
        } else if *rows == *rows_before && *rows > 0 {
            out.line(&format!(
                "nothing to do: {} of {} are in the table, as {} says; remove that file to import them once more",
                counted(*rows, "row", "rows"),
                self.file.display(),
                journal.display()
            ))?;
        } else {
            let before = match rows_before {
                0 => String::new(),
                before => format!("; {} were there already", count(*before)),
            };
            out.line(&format!("{} imported{before}", counted(rows - rows_before, "row", "rows")))?;
        }
        if *rejected > 0 {
            note(&format!(
                "{} rejected: see {}",
                counted(*rejected, "row was", "rows were"),
                rejects.display()
            ));
        }
        Ok(())
    }
}

/// An error in this command's words: options of the library are flags here.
fn told(error: anyhow::Error) -> anyhow::Error {
    let text = output::with_causes(&error);
    let shown = text.replace("`Import::even_if_gone`", "--even-if-gone");
    let shown = shown.replace("with a higher limit", "with a higher --rejects-max");
    if shown == text { error } else { anyhow!(shown) }
}

/// What a person is told where Ctrl-C ended an import.
fn interruption(error: &anyhow::Error) -> Option<String> {
    match error.downcast_ref()? {
        ImportError::Interrupted => {
            Some("the import was interrupted; nothing of it is in the table yet".to_owned())
        }
        ImportError::Stopped { cause, .. } if matches!(**cause, ImportError::Interrupted) => {
            Some(error.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_name_says() {
        let cases = [
            ("a.csv", Format::Csv),
            ("a.b.CSV.zst", Format::Csv),
            ("a.tsv", Format::Tsv),
            ("a.ndjson", Format::Jsonl),
            ("dir.parquet/a.jsonl.zst", Format::Jsonl),
            ("a.json", Format::Jsonl),
            ("a.parquet", Format::Parquet),
        ];
        for (name, format) in cases {
            assert_eq!(Format::of(Path::new(name)).unwrap(), format, "{name}");
        }
        for name in ["csv", "a", "a.zst", "a.parquet.zst", "a.xlsx"] {
            assert!(Format::of(Path::new(name)).is_err(), "{name}");
        }
        assert_eq!((letter(";"), letter("tab")), (Ok(b';'), Ok(b'\t')));
        assert!(letter("ab").is_err() && letter("é").is_err() && letter("").is_err());
    }
}
