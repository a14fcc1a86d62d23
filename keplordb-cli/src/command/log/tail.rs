//! `keplor log tail`: the last entries, and those that come.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use keplordb_log::{Log, LogError};

use super::cat::last_of;
use super::entry::{Form, Printer};
use super::existing;
use crate::output::{Output, note};

/// How long one wait may take. Whatever it is, an entry ends it at once.
const WAIT: Duration = Duration::from_mins(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor log tail bank -n 20
  keplor log tail bank -f --json

A program may be writing to the log meanwhile.")]
pub(crate) struct Tail {
    /// The log's directory
    dir: PathBuf,
    /// How many of the last entries
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    entries: u64,
    /// Go on with the entries that are written from now on, until interrupted
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    form: Form,
}

impl Tail {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        // Who follows may come before the first entry, which makes the directory.
        let log =
            if self.follow && !self.dir.exists() { Log::open(&self.dir)? } else { existing(&self.dir)? };
        let mut reader = last_of(&log, self.entries, None, None)?;
        let mut printer = Printer::new(self.form);
        loop {
            let went_on = match reader.next() {
                Ok(Some(entry)) => {
                    printer.print(out, &entry)?;
                    continue;
                }
                Ok(None) if !self.follow => return Ok(()),
                Ok(None) => {
                    out.flush()?;
                    reader.wait(WAIT).map(drop)
                }
                Err(error) => Err(error),
            };
            match went_on {
                // Compaction overtook us; the reader goes on behind it.
                Err(gap @ LogError::Gap { .. }) if self.follow => note(&gap.to_string()),
                went_on => went_on?,
            }
        }
    }
}
