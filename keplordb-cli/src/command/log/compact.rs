//! `keplor log compact`: whole old segments go.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use keplordb_log::{Removed, Retention};
use serde::Serialize;

use super::{existing, ls};
use crate::output::{Output, counted};
use crate::parse;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor log compact bank --max-age 90d --dry-run
  keplor log compact bank --max-age 90d --max-bytes 10GiB")]
#[command(group = clap::ArgGroup::new("limit").required(true).multiple(true))]
pub(crate) struct Compact {
    /// The log's directory; a writer may be at work in it
    dir: PathBuf,
    /// Remove the segments whose last entry is older: 12h, 7d, 4w
    #[arg(long, value_name = "DURATION", group = "limit", value_parser = parse::duration)]
    max_age: Option<Duration>,
    /// Remove the oldest segments until the rest has no more bytes: 500MB, 10GiB; the last segment stays
    #[arg(long, value_name = "SIZE", group = "limit", value_parser = parse::bytes)]
    max_bytes: Option<u64>,
    /// Print the segments that would be removed, as `ls` does, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What was removed, as JSON.
#[derive(Serialize)]
struct Gone {
    segments: u64,
    entries: u64,
    bytes: u64,
}

impl Compact {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let log = existing(&self.dir)?;
        let retention = Retention { max_age: self.max_age, max_bytes: self.max_bytes };
        if self.dry_run {
            return ls::print(out, self.json, &log.expired(&retention)?);
        }
        let Removed { segments, entries, bytes } = log.retain(&retention)?;
        if self.json {
            return out.json(&Gone { segments, entries, bytes });
        }
        out.line(&format!(
            "removed {} with {} in {}",
            counted(segments, "segment", "segments"),
            counted(entries, "entry", "entries"),
            counted(bytes, "byte", "bytes")
        ))
    }
}
