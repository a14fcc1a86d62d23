//! `keplor fold rotate`: the active log becomes a frame of the archive.

use std::path::PathBuf;

use anyhow::{Context, Result};
use keplordb_fold::{EventLog, Position};
use serde_json::json;

use super::source::Source;
use super::stats::bytes;
use crate::output::{Output, counted};
use crate::progress::Waiting;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor fold rotate data

Nothing is lost by it: events keep their numbers, and views go on. The program that writes to the log must be closed.")]
pub(crate) struct Rotate {
    /// The directory of the events
    dir: PathBuf,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Rotate {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        let source = Source::open(&self.dir)?;
        let explained = |error| source.explained(error);
        let mut log =
            EventLog::open(&self.dir).with_context(|| format!("{} cannot be rotated", self.dir.display()))?;
        let (archive, before) =
            (source.reader.archive_path(), source.reader.end_position().map_err(explained)?);
        let begin =
            source.reader.seq_of(Position { generation: before.generation, offset: 0 }).map_err(explained)?;
        let (events, archive_bytes) = (source.reader.len().map_err(explained)? - begin, bytes(archive)?);
        let waiting = Waiting::begin("archiving");
        log.rotate().map_err(explained)?;
        drop(waiting);
        drop(log);
        let frame_bytes = bytes(archive)?.saturating_sub(archive_bytes);
        if self.json {
            return out
                .json(&json!({ "events": events, "log_bytes": before.offset, "frame_bytes": frame_bytes }));
        }
        if events == 0 {
            return out.line("there was nothing to archive");
        }
        out.line(&format!(
            "archived {}: {} as {} in {}",
            counted(events, "event", "events"),
            counted(before.offset, "byte", "bytes"),
            counted(frame_bytes, "byte", "bytes"),
            archive.display()
        ))
    }
}
