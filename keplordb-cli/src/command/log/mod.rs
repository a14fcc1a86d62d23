//! `keplor log`: the commands on a log, and what they share.

mod append;
mod cat;
mod compact;
mod entry;
mod ls;
mod replicate;
mod stats;
mod tail;
mod verify;

use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use keplordb_log::{Log, Timestamp};

use crate::output::Output;
use crate::sheet::Cell;

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// List the segments: start, end, entries, bytes
    Ls(ls::Ls),
    /// Print entries
    Cat(cat::Cat),
    /// Print the last entries, and go on with what is written
    Tail(tail::Tail),
    /// Append lines of standard input, or whole files, as entries
    Append(append::Append),
    /// Remove whole old segments
    Compact(compact::Compact),
    /// Read everything and check it
    Verify(verify::Verify),
    /// Copy a log to another directory, and go on copying
    Replicate(replicate::Replicate),
    /// Print what a log holds in all
    Stats(stats::Stats),
}

/// Does what was asked.
pub(crate) fn run(command: LogCommand, out: &mut Output) -> Result<()> {
    match command {
        LogCommand::Ls(ls) => ls.run(out),
        LogCommand::Cat(cat) => cat.run(out),
        LogCommand::Tail(tail) => tail.run(out),
        LogCommand::Append(append) => append.run(out),
        LogCommand::Compact(compact) => compact.run(out),
        LogCommand::Verify(verify) => verify.run(out),
        LogCommand::Replicate(replicate) => replicate.run(out),
        LogCommand::Stats(stats) => stats.run(out),
    }
}

/// The log in a directory that must be there: one that is missing is an empty log to the library, and a slip to a person.
fn existing(dir: &Path) -> Result<Log> {
    if !dir.is_dir() {
        ensure!(dir.exists(), "there is no directory {}; `keplor log append` makes one", dir.display());
        bail!("{} is no directory; give the one that holds the log's segments", dir.display());
    }
    check_files(dir)?;
    Ok(Log::open(dir)?)
}

/// Refuses a directory that has files, and none of a log: that is a slip too, and nothing is to be read from it or put into it.
fn check_files(dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    let failed = || format!("{} cannot be listed", dir.display());
    let entries = dir.read_dir().with_context(failed)?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<io::Result<_>>().with_context(failed)?;
    // Before its first entry a log has the lock alone; tables have one, too.
    if names.iter().any(|name| is_of_log(name)) || names.iter().all(|name| name == "LOCK") {
        return Ok(());
    }
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let dir = dir.display();
    ensure!(
        !has("MANIFEST"),
        "{dir} is a table and no log: use the commands without `log`, `keplor verify` for instance"
    );
    ensure!(!has("app.jsonl"), "{dir} holds the events of a program and no log: use `keplor fold`");
    bail!(
        "{dir} holds files and none of a log; give the directory of a log's segments; to begin a log, one that is empty or not there yet"
    )
}

/// Whether only a log has a file of this name, be it finished or not.
fn is_of_log(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    let start = name.strip_suffix(".segment").or_else(|| name.strip_suffix(".index"));
    name == "REPLICA" || start.is_some_and(|start| start.replace('_', ":").parse::<Timestamp>().is_ok())
}

/// A time in a table: with all its digits, as entries are printed.
fn time(time: Timestamp) -> Cell {
    Cell::Text(time.to_string())
}

/// The times of the first and the last entry, to go on after a comma-separated list; nothing of an empty log.
fn span(first: Option<Timestamp>, last: Option<Timestamp>) -> String {
    match (first, last) {
        (Some(first), Some(last)) => format!(", from {first} to {last}"),
        _ => String::new(),
    }
}
