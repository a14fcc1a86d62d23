//! `keplor log ls`: the segments of a log.

use std::path::PathBuf;

use anyhow::Result;
use keplordb_log::SegmentInfo;
use serde::Serialize;

use super::existing;
use crate::output::{Output, count};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor log ls bank --json

A program may be writing to the log meanwhile.")]
pub(crate) struct Ls {
    /// The log's directory
    dir: PathBuf,
    /// Print each segment as a line of JSON
    #[arg(long)]
    json: bool,
}

/// A segment as JSON.
#[derive(Serialize)]
struct Listed {
    start: String,
    end: String,
    entries: u64,
    bytes: u64,
    /// Whether nothing more is appended to it.
    closed: bool,
    /// Whether some of it cannot be read; `verify` says where.
    damaged: bool,
}

impl From<&SegmentInfo> for Listed {
    fn from(segment: &SegmentInfo) -> Self {
        Self {
            start: segment.start.to_string(),
            end: segment.end.to_string(),
            entries: segment.entries,
            bytes: segment.bytes,
            closed: segment.is_closed,
            damaged: segment.is_damaged,
        }
    }
}

impl Ls {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        print(out, self.json, &existing(&self.dir)?.segments()?)
    }
}

/// Prints segments, oldest first.
pub(super) fn print(out: &mut Output, json: bool, segments: &[SegmentInfo]) -> Result<()> {
    let listed: Vec<_> = segments.iter().map(Listed::from).collect();
    if json {
        return listed.iter().try_for_each(|segment| out.json(segment));
    }
    let mut row = |start: &str, end: &str, entries: &str, bytes: &str, damage: &str| {
        out.line(&format!("{start:<30}  {end:<30}  {entries:>13}  {bytes:>17}{damage}"))
    };
    row("START", "END", "ENTRIES", "BYTES", "")?;
    listed.iter().try_for_each(|Listed { start, end, entries, bytes, damaged, .. }| {
        row(start, end, &count(*entries), &count(*bytes), if *damaged { "  damaged" } else { "" })
    })
}
