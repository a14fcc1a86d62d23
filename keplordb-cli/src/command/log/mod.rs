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

use std::path::Path;

use anyhow::{Result, bail, ensure};
use clap::Subcommand;
use keplordb_log::{Log, Timestamp};

use crate::output::Output;

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
    Ok(Log::open(dir)?)
}

/// The times of the first and the last entry, to go on after a comma-separated list; nothing of an empty log.
fn span(first: Option<Timestamp>, last: Option<Timestamp>) -> String {
    match (first, last) {
        (Some(first), Some(last)) => format!(", from {first} to {last}"),
        _ => String::new(),
    }
}
