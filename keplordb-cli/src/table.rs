//! The table of a directory, to read beside a writer or to write; and its columns as they are printed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use keplordb::any::{AnyReader, AnyRowView, AnyStore, Column, Kind, Value};
use keplordb::{DbError, EngineConfig, OpenReport, Options};

use crate::output::{counted, note};
use crate::sheet::{Cell, Heading};

/// The column of the time: shown as `ts`, in RFC 3339.
pub(crate) const TIME: &str = "ts_ns";
/// Columns whose numbers are names.
const CODES: [&str; 3] = ["status", "flags", "sequence"];

/// Reads a table, also while another process writes it.
pub(crate) fn reader(dir: &Path) -> Result<AnyReader> {
    check(dir)?;
    AnyReader::open(dir).map_err(|error| explained(dir, error))
}

/// Opens a table to write it; one process at a time may.
pub(crate) fn store(dir: &Path) -> Result<AnyStore> {
    check(dir)?;
    opened(dir, AnyStore::open(dir))
}

/// Opens a table to replace files of it. They go when the command ends, which is sooner than the time that the engine leaves them
/// for plain copies of the directory: no later command may come that would take them away.
pub(crate) fn store_to_replace(dir: &Path) -> Result<AnyStore> {
    check(dir)?;
    let options = Options::default().unlink_grace(Duration::ZERO);
    opened(dir, AnyStore::open_with(EngineConfig::in_dir(dir), options))
}

/// Says what opening a table had to mend.
fn opened(dir: &Path, store: keplordb::Result<AnyStore>) -> Result<AnyStore> {
    let store = store.map_err(|error| explained(dir, error))?;
    let report = store.open_report();
    for mended in mended(report) {
        note(&mended);
    }
    for aside in &report.quarantined {
        note(&format!("{} was set aside: {}", aside.file.display(), aside.what));
    }
    Ok(store)
}

/// What an open had to mend, beside files that it set aside.
pub(crate) fn mended(report: &OpenReport) -> Vec<String> {
    let rebuilt = report.manifest_rebuilt.iter();
    let rebuilt = rebuilt.map(|_| "the manifest was lost, and is made anew from the other files".to_owned());
    let torn = report.torn_tails.iter().map(|torn| {
        let bytes = counted(torn.bytes, "byte", "bytes");
        format!("{} was cut at byte {}: {bytes} of an unfinished write", torn.file.display(), torn.offset)
    });
    let missing = report.missing_logs.iter();
    let missing =
        missing.map(|log| format!("{} is not in this copy; what it held is missing", log.display()));
    rebuilt.chain(torn).chain(missing).collect()
}

/// A directory that is missing is a slip: nothing is made in its place.
pub(crate) fn check(dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        ensure!(dir.exists(), "there is no directory {}; `keplor init` makes a table", dir.display());
        bail!("{} is no directory; give the one that holds the table", dir.display());
    }
    Ok(())
}

/// An error with what a person at a terminal can do where no program has a schema at hand.
pub(crate) fn explained(dir: &Path, error: DbError) -> anyhow::Error {
    match error {
        DbError::Missing { file } if file == dir.join("MANIFEST") => anyhow::anyhow!(
            "{} holds no table: {} is missing; `keplor init` makes a table, `keplor repair` mends one that lost this file",
            dir.display(),
            file.display()
        ),
        error => error.into(),
    }
}

/// A column's place and name as people type it: `ts` is the time.
pub(crate) fn column<'c>(columns: &'c [Column], name: &str) -> Result<(usize, &'c Column)> {
    let wanted = if name == "ts" { TIME } else { name };
    let found = columns.iter().enumerate().find(|(_, column)| column.name == wanted);
    found.ok_or_else(|| {
        let names: Vec<&str> = columns.iter().map(shown_name).collect();
        anyhow::anyhow!("there is no column {name:?}; there are {}", names.join(", "))
    })
}

/// What a column is called in what is printed.
pub(crate) fn shown_name(column: &Column) -> &str {
    if column.name == TIME { "ts" } else { &column.name }
}

/// What a column holds, in a word.
pub(crate) fn kind(column: &Column) -> &'static str {
    match column.kind {
        Kind::I64 => "i64",
        Kind::U64 => "u64",
        Kind::U32 => "u32",
        Kind::U16 => "u16",
        _ => "text",
    }
}

pub(crate) fn heading(column: &Column) -> Heading {
    let name = shown_name(column).to_owned();
    if column.kind == Kind::Text || column.name == TIME { Heading::left(name) } else { Heading::right(name) }
}

/// The value of a column.
pub(crate) fn cell(column: &Column, value: Value<'_>) -> Cell {
    match value {
        Value::Text(text) => Cell::Text(text.into_owned()),
        Value::Int(number) if column.name == TIME => Cell::Time(number),
        Value::Int(number) if CODES.contains(&column.name.as_str()) => Cell::Code(number),
        Value::Int(number) => Cell::Number(number.into()),
    }
}

/// The cells of some of a row's columns, by their places.
pub(crate) fn cells(
    columns: &[Column],
    places: &[usize],
    row: &AnyRowView<'_>,
) -> keplordb::Result<Vec<Cell>> {
    places.iter().map(|place| Ok(cell(&columns[*place], row.at(*place)?))).collect()
}

/// The places of columns by the names that were typed; of none, of all.
pub(crate) fn places(columns: &[Column], names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..columns.len()).collect());
    }
    names.iter().map(|name| Ok(column(columns, name)?.0)).collect()
}
