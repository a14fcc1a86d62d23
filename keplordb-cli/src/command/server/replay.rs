//! `keplor replay`: the Parquet files of a root, made anew from its log or compared with it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::json;

use crate::command::Done;
use crate::output::{Output, counted, note};

/// Make the Parquet files of a server's root anew from its log, or compare them with it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor replay data
  keplor replay data --check

No server may run on the root. What is published stays until everything new is written, and is then replaced at once. A check reads every
row and changes none; it fails where one differs.")]
pub(crate) struct Replay {
    /// The server's root
    root: PathBuf,
    /// Only compare: every row of the files with what the log says
    #[arg(long)]
    check: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let capture = super::copy::open(&self.root)?;
        if !self.check {
            let replayed = capture.replay()?;
            if self.json {
                out.json(&json!({"events": replayed.events, "checkpoint_seq": replayed.checkpoint_seq}))?;
            } else {
                note(&format!(
                    "the files are made anew from {}",
                    counted(replayed.events, "event", "events")
                ));
            }
            capture.close()?;
            return Ok(Done::Well);
        }
        let check = capture.check_published()?;
        capture.close()?;
        let is_sound = check.is_sound();
        let tables = check.tables.iter().map(|table| {
            let (log, files) = (&table.log, &table.manifest);
            json!({
                "table": table.table,
                "log": {"rows": log.0, "hash": log.1},
                "files": {"rows": files.0, "hash": files.1},
                "damaged": table.damaged,
            })
        });
        if self.json {
            out.json(&json!({"is_sound": is_sound, "tables": tables.collect::<Vec<_>>()}))?;
        } else {
            for table in &check.tables {
                let rows = counted(table.manifest.0, "row", "rows");
                out.line(&format!("{}: {rows}, hash {}", table.table, table.manifest.1))?;
            }
        }
        if !is_sound {
            let differs =
                check.tables.iter().filter(|table| table.log != table.manifest || !table.damaged.is_empty());
            let names: Vec<_> = differs.map(|table| table.table.as_str()).collect();
            bail!("{} differ from the log; `keplor replay` makes them anew", names.join(", "));
        }
        Ok(Done::Well)
    }
}
