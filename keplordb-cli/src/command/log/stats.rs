//! `keplor log stats`: what a log holds in all.

use std::path::PathBuf;

use anyhow::Result;
use keplordb_log::{LogStats, Timestamp};
use serde::Serialize;

use super::existing;
use crate::output::{Output, count};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor log stats bank --json

A program may be writing to the log meanwhile.")]
pub(crate) struct Stats {
    /// The log's directory
    dir: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// The sums over all segments.
#[derive(Serialize)]
struct Sums {
    segments: u64,
    entries: u64,
    bytes: u64,
    first: Option<String>,
    last: Option<String>,
}

impl Stats {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let LogStats { segments, entries, bytes, first, last } = existing(&self.dir)?.stats()?;
        let text = |time: Timestamp| time.to_string();
        let sums = Sums { segments, entries, bytes, first: first.map(text), last: last.map(text) };
        if self.json {
            return out.json(&sums);
        }
        for (name, sum) in [("segments", sums.segments), ("entries", sums.entries), ("bytes", sums.bytes)] {
            out.line(&format!("{name:<9} {}", count(sum)))?;
        }
        for (name, time) in [("first", &sums.first), ("last", &sums.last)] {
            out.line(&format!("{name:<9} {}", time.as_deref().unwrap_or("-")))?;
        }
        Ok(())
    }
}
