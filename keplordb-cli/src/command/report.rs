//! `keplor report`: a page about a table, to be read in a browser, sent or printed.

mod ask;
mod storage;
mod target;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Done;
use crate::conditions::Conditions;
use crate::output::{self, Output, counted};
use crate::progress::Waiting;
use crate::{report, table};

/// Write a page about a table: events over time, top values, latencies, sums, segments
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor report flights.db -o flights.html
  keplor report calls.db -w 'status>=500' --from 7d --title 'Failed calls' --force
  keplor report calls.db -o - | mail …

The page is one file that needs nothing else: no network, no scripts. Another process may write the table meanwhile.")]
pub(crate) struct Report {
    /// The table's directory
    dir: PathBuf,
    /// Where the page goes, `-` for standard output; else it is called like the table, with .html behind it, here
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    conditions: Conditions,
    /// How many values of each dim are shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// What stands above the page; else the directory's name
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

impl Report {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        table::check(&self.dir)?;
        let name = name_of(&self.dir)?;
        let file = self.output.unwrap_or_else(|| PathBuf::from(format!("{name}.html")));
        let is_piped = file == Path::new("-");
        // What cannot be written in the end is better known before.
        let target = (!is_piped).then(|| target::check(&file, self.force)).transpose()?;

        let asked = ask::Asked {
            dir: &self.dir,
            title: self.title.unwrap_or(name),
            conditions: &self.conditions,
            top: self.top,
        };
        let waiting = Waiting::begin("asking");
        let facts = asked.facts()?;
        let page = report::page(&facts);
        drop(waiting);
        match target {
            None => out.bytes(page.as_bytes())?,
            Some(target) => {
                target::write(&target, page.as_bytes(), self.force)?;
                let bytes = counted(page.len() as u64, "byte", "bytes");
                let events = counted(facts.events, "event", "events");
                output::note(&format!("{} has {events}, in {bytes}", file.display()));
            }
        }
        Ok(Done::Well)
    }
}

/// What a directory is called, also where it was typed as `.`.
fn name_of(dir: &Path) -> Result<String> {
    let known = if let Some(name) = dir.file_name() {
        Some(name.to_owned())
    } else {
        let whole = dir.canonicalize().with_context(|| format!("{} cannot be found", dir.display()))?;
        whole.file_name().map(ToOwned::to_owned)
    };
    Ok(known.map_or_else(|| "report".to_owned(), |name| name.to_string_lossy().into_owned()))
}
