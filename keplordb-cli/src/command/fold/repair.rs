//! `keplor fold repair`: what is damaged is set aside, so that the rest can be read.

use std::path::{Path, PathBuf};

use anyhow::Result;
use keplordb_fold::{Repaired, repair};
use serde_json::json;

use super::source::Source;
use crate::output::{Output, counted};
use crate::progress::Waiting;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor fold repair data

Nothing is deleted: what is taken out goes to the folder damaged/ in the directory. The program that writes to the log must be closed.")]
pub(crate) struct Repair {
    /// The directory of the events
    dir: PathBuf,
    /// Print the report as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Repair {
    pub(super) fn run(self, out: &mut Output) -> Result<()> {
        // A directory that is none is told before anything is made in it.
        let source = Source::open(&self.dir)?;
        let waiting = Waiting::begin("repairing");
        let repaired = repair(&source.dir)?;
        drop(waiting);
        if self.json { out.json(&as_json(&repaired)) } else { print(out, &repaired) }
    }
}

fn print(out: &mut Output, repaired: &Repaired) -> Result<()> {
    if repaired.was_sound() {
        return out.line("nothing was damaged, and nothing was changed");
    }
    if repaired.lines_set_aside > 0 {
        let lines =
            counted(repaired.lines_set_aside, "line that is no event was", "lines that are no events were");
        out.line(&format!("{lines} taken out"))?;
    }
    for generation in &repaired.damaged_generations {
        out.line(&format!("generation {generation} of the archive could not be decoded as it was written; what could be read of it stays"))?;
    }
    let mut list = |paths: &[PathBuf], what: &str| {
        paths.iter().try_for_each(|path| out.line(&format!("{} {what}", path.display())))
    };
    list(&repaired.snapshots_set_aside, "was set aside: its view is computed anew")?;
    list(
        &repaired.snapshots_kept,
        "was kept, as its events were pruned: what was taken out is still in its state",
    )?;
    list(&repaired.removed, "was removed: a cache, or what a crash left")?;
    list(&repaired.set_aside, "has what was taken out")?;
    let untold = repaired.set_aside_count - repaired.set_aside.len() as u64;
    if untold > 0 {
        out.line(&format!("and {} more", counted(untold, "file", "files")))?;
    }
    Ok(())
}

fn as_json(repaired: &Repaired) -> serde_json::Value {
    let texts = |paths: &[PathBuf]| paths.iter().map(|path| text(path)).collect::<Vec<_>>();
    json!({
        "was_sound": repaired.was_sound(),
        "lines_set_aside": repaired.lines_set_aside,
        "damaged_generations": repaired.damaged_generations,
        "states_set_aside": texts(&repaired.snapshots_set_aside),
        "states_kept": texts(&repaired.snapshots_kept),
        "removed": texts(&repaired.removed),
        "set_aside": texts(&repaired.set_aside),
        "set_aside_count": repaired.set_aside_count,
    })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
