//! `keplor log replicate`: a copy of a log in another directory, brought up to its source and kept there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use keplordb_log::{Copied, Lag, Replica, Timestamp};
use serde::Serialize;

use super::existing;
use crate::output::{Output, counted};

/// How long one wait may take. Whatever it is, an entry ends it at once.
const WAIT: Duration = Duration::from_mins(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor log replicate bank /mnt/backup/bank
  keplor log replicate bank /mnt/backup/bank --follow --json")]
pub(crate) struct Replicate {
    /// The log's directory
    source: PathBuf,
    /// The copy's directory: one that is missing or empty, or a copy that was begun; it opens as a log
    target: PathBuf,
    /// Go on with what is written from now on, until interrupted; interrupting it does no harm
    #[arg(long)]
    follow: bool,
    /// Remove from the copy the segments that the source has removed, instead of keeping them
    #[arg(long)]
    follow_removals: bool,
    /// Print each step as a line of JSON
    #[arg(long)]
    json: bool,
}

/// A step as JSON.
#[derive(Serialize)]
struct Step {
    time: String,
    entries: u64,
    bytes: u64,
    lag_entries: u64,
    lag_bytes: u64,
}

impl Replicate {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let source = existing(&self.source)?;
        let mut replica = Replica::new(&source, &self.target)?.follow_removals(self.follow_removals);
        let mut is_first = true;
        loop {
            let copied = replica.step()?;
            if is_first || copied != Copied::default() {
                self.print(out, copied, replica.lag()?)?;
                out.flush()?;
            }
            if !self.follow {
                return Ok(());
            }
            is_first = false;
            replica.wait(WAIT)?;
        }
    }

    fn print(&self, out: &mut Output, copied: Copied, lag: Lag) -> Result<()> {
        if self.json {
            return out.json(&Step {
                time: Timestamp::now().to_string(),
                entries: copied.entries,
                bytes: copied.bytes,
                lag_entries: lag.entries,
                lag_bytes: lag.bytes,
            });
        }
        let behind = if lag == Lag::default() {
            "the copy has all".to_owned()
        } else {
            format!("the copy is {} behind", amount(lag.entries, lag.bytes))
        };
        out.line(&format!("copied {}; {behind}", amount(copied.entries, copied.bytes)))
    }
}

fn amount(entries: u64, bytes: u64) -> String {
    format!("{} in {}", counted(entries, "entry", "entries"), counted(bytes, "byte", "bytes"))
}
