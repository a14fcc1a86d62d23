//! `keplor gc`, `compact` and `checkpoint`: what keeps a table small, and copies it.

use std::path::PathBuf;

use anyhow::Result;
use keplordb::Budget;
use keplordb_log::Timestamp;
use serde_json::json;

use super::Done;
#[cfg(feature = "server")]
use super::server;
use crate::output::{Output, counted};
use crate::parse;
use crate::progress::Waiting;
use crate::table;

/// Drop old segments
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor gc calls.db --before 90d

Whole segments go, whose newest event is older; younger events of the same time stay until theirs does. No process may have the
table open.")]
pub(crate) struct Gc {
    /// The table's directory
    dir: PathBuf,
    /// Segments whose events are all older than this: RFC 3339, a date (midnight in UTC), or how long ago (90s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    before: Timestamp,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Merge small segments and take deleted events off the disk
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  keplor compact calls.db\n\nNo process may have the table open.")]
pub(crate) struct Compact {
    /// The table's directory, or a server's root
    dir: PathBuf,
    /// Write at most so many rows
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Copy a table as it is, by hard links where the disk has them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  keplor checkpoint calls.db backup/calls-2026-02-21\n\nNo process may have the table open."
)]
pub(crate) struct Checkpoint {
    /// The table's directory
    dir: PathBuf,
    /// The copy's directory; it must not be there, or be empty
    target: PathBuf,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Gc {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let store = table::store_to_replace(&self.dir)?;
        let waiting = Waiting::begin("dropping");
        let dropped = store.gc(self.before.as_ns())?;
        store.close()?;
        drop(waiting);
        if self.json {
            out.json(&json!({
                "segments": dropped.segments_deleted,
                "events": dropped.events_deleted,
                "bytes": dropped.bytes_freed,
            }))?;
        } else {
            out.line(&format!(
                "dropped {} with {}, {}",
                counted(dropped.segments_deleted.into(), "segment", "segments"),
                counted(dropped.events_deleted, "event", "events"),
                counted(dropped.bytes_freed, "byte", "bytes"),
            ))?;
        }
        Ok(Done::Well)
    }
}

impl Compact {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        #[cfg(feature = "server")]
        if keplordb_server::is_root(&self.dir) {
            anyhow::ensure!(
                self.rows.is_none(),
                "--rows is for tables; a server's root is compacted as a whole"
            );
            return server::compact(&self.dir, self.json, out);
        }
        let store = table::store_to_replace(&self.dir)?;
        let waiting = Waiting::begin("compacting");
        let done = store.compact(self.rows.map_or(Budget::UNLIMITED, Budget::rows))?;
        store.close()?;
        drop(waiting);
        if self.json {
            out.json(&json!({
                "segments_replaced": done.segments_replaced,
                "segments_written": done.segments_written,
                "rows_written": done.rows_written,
                "rows_purged": done.rows_purged,
                "tombstones_purged": done.tombstones_purged,
                "rows_left": done.rows_left,
            }))?;
        } else {
            out.line(&format!(
                "{} replaced by {}: {} written, {} purged",
                counted(done.segments_replaced, "segment", "segments"),
                counted(done.segments_written, "segment", "segments"),
                counted(done.rows_written, "row", "rows"),
                counted(done.rows_purged, "deleted row", "deleted rows"),
            ))?;
            if done.rows_left > 0 {
                out.line(&format!(
                    "{} left to write: run it again",
                    counted(done.rows_left, "row is", "rows are")
                ))?;
            }
        }
        Ok(Done::Well)
    }
}

impl Checkpoint {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        let store = table::store(&self.dir)?;
        let waiting = Waiting::begin("copying");
        store.checkpoint(&self.target)?;
        let events = store.stats().events;
        store.close()?;
        drop(waiting);
        if self.json {
            out.json(&json!({ "events": events, "directory": self.target.display().to_string() }))?;
            return Ok(Done::Well);
        }
        out.line(&format!("{} in {}", counted(events, "event", "events"), self.target.display()))?;
        Ok(Done::Well)
    }
}
