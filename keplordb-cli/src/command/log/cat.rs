//! `keplor log cat`: entries from a time to a time, or the last of them.

use std::path::PathBuf;

use anyhow::Result;
use keplordb_log::{Log, Reader, Timestamp};

use super::entry::{Form, Printer};
use super::existing;
use crate::output::Output;
use crate::parse;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor log cat bank --from 2026-02-21T10:00:00Z --to 2026-02-21T11:00:00Z
  keplor log cat bank --last 20 --json

A program may be writing to the log meanwhile.")]
pub(crate) struct Cat {
    /// The log's directory
    dir: PathBuf,
    /// Only entries of this time or later: RFC 3339, a date (midnight in UTC), or how long ago (90s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    from: Option<Timestamp>,
    /// Only entries before this time
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    to: Option<Timestamp>,
    /// At most so many, the first
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// At most so many, the last; they are found from the end, however long the log is
    #[arg(long, value_name = "N", conflicts_with = "limit")]
    last: Option<u64>,
    #[command(flatten)]
    form: Form,
}

impl Cat {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let log = existing(&self.dir)?;
        let mut reader = match (self.last, self.from) {
            (Some(last), from) => last_of(&log, last, from, self.to)?,
            (None, Some(from)) => log.from(from)?,
            (None, None) => log.reader()?,
        };
        let mut printer = Printer::new(self.form);
        // Beside a writer there may be more by now.
        let mut left = self.limit.or(self.last).unwrap_or(u64::MAX);
        while left > 0
            && let Some(entry) = reader.next()?
            && self.to.is_none_or(|to| entry.time < to)
        {
            printer.print(out, &entry)?;
            left -= 1;
        }
        Ok(())
    }
}

/// A reader that stands before the last entries: at most `last`, none before `from`, counted from `to` or the end.
pub(super) fn last_of(
    log: &Log,
    last: u64,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Reader> {
    let mut reader = match to {
        Some(to) => log.from(to)?,
        None => log.newest()?,
    };
    for _ in 0..last {
        let Some(entry) = reader.back()? else { break };
        if from.is_some_and(|from| entry.time < from) {
            reader.next()?;
            break;
        }
    }
    Ok(reader)
}
