//! `keplor log tail`: the last entries, and those that come.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use keplordb_log::LogError;

use super::cat::last_of;
use super::entry::{Form, Printer};
use super::existing;
use crate::output::{Output, note};

/// How long one wait may take. Whatever it is, an entry ends it at once.
const WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
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
        let mut reader = last_of(&existing(&self.dir)?, self.entries, None, None)?;
        let mut printer = Printer::new(self.form);
        loop {
            match reader.next() {
                Ok(Some(entry)) => printer.print(out, &entry)?,
                Ok(None) if self.follow => {
                    out.flush()?;
                    reader.wait(WAIT)?;
                }
                Ok(None) => return Ok(()),
                // Compaction overtook us; the reader goes on behind it.
                Err(gap @ LogError::Gap { .. }) if self.follow => note(&gap.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
