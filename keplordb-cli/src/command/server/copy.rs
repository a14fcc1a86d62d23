//! `keplor backup`, `restore` and `fork`: a server's root as another one, as it is or as it was.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use keplordb::{Depth, Options, verify_dir};
use keplordb_log::Timestamp;
use keplordb_server::{Capture, Keys, Schemas, ServerError, is_root};
use serde_json::json;

use super::ms;
use crate::command::Done;
use crate::output::{Output, counted, note};
use crate::parse;
use crate::progress::Waiting;

/// Copy a server's root as it is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor backup data copies/2026-02-21

The copy is a root of its own. On the same disk it shares its segments with the original by hard links: bring it to another disk to be
safe from a broken one. No server may run on the root.")]
pub(crate) struct Backup {
    /// The server's root
    root: PathBuf,
    /// The copy's directory; it must not be there, or be empty
    target: PathBuf,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Make a server's root of a backup, after a look at every byte of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor restore copies/2026-02-21 data

The backup is opened for that, so it must be writable; its events stay as they are. Keys come back as they were. The Parquet files are made anew.")]
pub(crate) struct Restore {
    /// The backup
    backup: PathBuf,
    /// The root's directory; it must not be there, or be empty
    root: PathBuf,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Copy a server's root as it was at a time or a sequence
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor fork data what-if --at 2026-02-21T12:00:00Z
  keplor fork data what-if --sequence 4711

The copy is a root of its own, to be served and written to. What came in later is deleted in it; its bytes go when segments are merged. No server may run on the original.")]
pub(crate) struct Fork {
    /// The server's root
    root: PathBuf,
    /// The copy's directory; it must not be there, or be empty
    target: PathBuf,
    #[command(flatten)]
    until: Until,
    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Where a copy ends.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(required = true, multiple = false)]
struct Until {
    /// With all that had come in at this time: RFC 3339, a date (midnight in UTC), or how long ago (90s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    at: Option<Timestamp>,
    /// Up to the event with this sequence
    #[arg(long, value_name = "SEQUENCE")]
    sequence: Option<u64>,
}

impl Backup {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let waiting = Waiting::begin("copying");
        let capture = open(&self.root)?;
        let events = capture.backup(&self.target)?;
        capture.close()?;
        drop(waiting);
        say(out, events, &self.target, self.json)
    }
}

impl Restore {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let waiting = Waiting::begin("checking");
        let log = self.backup.join("segments");
        ensure!(
            is_root(&self.backup) && log.is_dir(),
            "{} is no backup: it has not both _meta and segments",
            self.backup.display()
        );
        let report = verify_dir(&log, &Options::default(), Depth::Full)?;
        ensure!(report.files > 0, "{} has no log, so nothing was restored", self.backup.display());
        ensure!(
            report.problems.is_empty(),
            "{} has {}; `keplor verify {0}` shows them, and nothing was restored",
            log.display(),
            counted(report.problems.len() as u64, "problem", "problems")
        );
        drop(waiting);
        let waiting = Waiting::begin("copying");
        let capture = open(&self.backup)?;
        let events = capture.backup(&self.root)?;
        capture.close()?;
        let restored = open(&self.root)?;
        restored.replay()?;
        restored.close()?;
        let keys = Keys::load(&self.root)?;
        let now = jiff::Timestamp::now();
        let good: Vec<&str> =
            keys.all().iter().filter(|key| key.is_good_at(now)).map(|key| key.name.as_str()).collect();
        drop(waiting);
        if !good.is_empty() {
            note(&format!(
                "its keys are good as they were then: {}; take back again what was taken back since (`keplor keys revoke`)",
                good.join(", ")
            ));
        }
        say(out, events, &self.root, self.json)
    }
}

impl Fork {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let waiting = Waiting::begin("copying");
        let capture = open(&self.root)?;
        let until = match (self.until.at, self.until.sequence) {
            (Some(at), _) => capture.log().sequence_at(ms(at))?.unwrap_or(0),
            (None, sequence) => sequence.unwrap_or(0),
        };
        let events = capture.fork(&self.target, until)?;
        capture.close()?;
        drop(waiting);
        say(out, events, &self.target, self.json)
    }
}

/// One that is there; none is made.
pub(super) fn open(root: &Path) -> Result<Capture> {
    if !is_root(root) {
        return Err(ServerError::NoRoot { dir: root.to_owned() }.into());
    }
    Ok(Capture::open(root)?)
}

/// Merges what has become many small files.
pub(crate) fn compact(root: &Path, json: bool, out: &mut Output) -> Result<Done> {
    let waiting = Waiting::begin("compacting");
    let capture = open(root)?;
    capture.compact()?;
    let segments = capture.segments();
    capture.close()?;
    drop(waiting);
    if json {
        out.json(&json!({ "segments": segments }))?;
    } else {
        out.line(&format!("the log has {}", counted(segments, "segment", "segments")))?;
    }
    Ok(Done::Well)
}

/// Whether the schemas of a root can be read.
pub(crate) fn check_schemas(root: &Path) -> Result<()> {
    Schemas::beside(root)?;
    Ok(())
}

fn say(out: &mut Output, events: u64, dir: &Path, json: bool) -> Result<Done> {
    if json {
        out.json(&json!({ "events": events, "directory": dir.display().to_string() }))?;
    } else {
        out.line(&format!("{} in {}", counted(events, "event", "events"), dir.display()))?;
    }
    Ok(Done::Well)
}
