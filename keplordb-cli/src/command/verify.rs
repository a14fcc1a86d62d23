//! `keplor verify` and `keplor repair`: what is wrong with a table's files, and how to go on without it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use keplordb::any::AnyStore;
use keplordb::{Depth, EngineConfig, OnCorruption, Options, verify_dir};
use serde_json::json;

use super::Done;
#[cfg(feature = "server")]
use super::server;
use crate::output::{Output, counted, time};
use crate::progress::Waiting;
use crate::table;

/// Read everything and check it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor verify calls.db
  keplor verify calls.db --full --json

Changes nothing; another process may have the table open.")]
pub(crate) struct Verify {
    /// The table's directory, or a server's root: its schemas and its log (`replay --check` compares what is made from it)
    dir: PathBuf,
    /// Check every value against all that is derived from it, not only checksums
    #[arg(long)]
    full: bool,
    /// Print the report as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Set damaged files aside, and say what is missing without them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  keplor repair calls.db

Nothing is deleted: damaged files go to the folder quarantine/ in the table's directory, and what can still be read of a log
stays in service. No process may have the table open.")]
pub(crate) struct Repair {
    /// The table's directory
    dir: PathBuf,
    /// Print the report as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Verify {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        #[cfg(feature = "server")]
        if keplordb_server::is_root(&self.dir) {
            server::check_schemas(&self.dir)?;
            let log = Self { dir: self.dir.join("segments"), ..self };
            return log.verify(out);
        }
        self.verify(out)
    }

    fn verify(self, out: &mut Output) -> Result<Done> {
        table::check(&self.dir)?;
        let depth = if self.full { Depth::Full } else { Depth::Quick };
        let waiting = Waiting::begin("checking");
        let report = verify_dir(&self.dir, &Options::default(), depth)?;
        drop(waiting);
        ensure!(
            report.files > 0 || !report.problems.is_empty(),
            "{} holds no table; `keplor init` makes one",
            self.dir.display()
        );
        let torn = report.torn_tails.iter().filter(|_| !report.engine_at_work);
        if self.json {
            let problems = report.problems.iter().map(|problem| {
                json!({ "file": problem.file.display().to_string(), "offset": problem.offset, "what": problem.what })
            });
            let torn = torn.map(|torn| {
                json!({ "file": torn.file.display().to_string(), "offset": torn.offset, "bytes": torn.bytes })
            });
            out.json(&json!({
                "files": report.files,
                "bytes": report.bytes,
                "problems": problems.collect::<Vec<_>>(),
                "torn_tails": torn.collect::<Vec<_>>(),
                "writer_at_work": report.engine_at_work,
            }))?;
        } else {
            out.line(&format!(
                "{} in {}{}",
                counted(report.bytes, "byte", "bytes"),
                counted(report.files, "file", "files"),
                if report.engine_at_work { ", beside a writer" } else { "" },
            ))?;
            for problem in &report.problems {
                // What is said of a whole file need not be damage.
                let place = if problem.offset == 0 {
                    String::new()
                } else {
                    format!(" is damaged at byte {}", problem.offset)
                };
                out.line(&format!("{}{place}: {}", problem.file.display(), problem.what))?;
            }
            for torn in torn {
                let bytes = counted(torn.bytes, "byte", "bytes");
                out.line(&format!(
                    "{} ends in {bytes} of an unfinished write, at byte {}; the next open cuts them off",
                    torn.file.display(),
                    torn.offset
                ))?;
            }
        }
        // A file that the manifest is too old for, or a newer format, is not to be given up: each says so itself.
        let unless = "unless it is said above what to do";
        ensure!(
            report.problems.is_empty(),
            "{}; {unless}, restore the files from a copy, or go on without them by `keplor repair {}`",
            counted(report.problems.len() as u64, "problem was found", "problems were found"),
            self.dir.display()
        );
        if !self.json && report.is_clean() {
            out.line("nothing is wrong")?;
        }
        Ok(Done::Well)
    }
}

impl Repair {
    pub(super) fn run(self, out: &mut Output) -> Result<Done> {
        table::check(&self.dir)?;
        let waiting = Waiting::begin("opening");
        let options = Options::default().on_corruption(OnCorruption::Quarantine);
        let store = AnyStore::open_with(EngineConfig::in_dir(&self.dir), options)
            .map_err(|error| table::explained(&self.dir, error))?;
        let report = store.open_report().clone();
        let events = store.stats().events;
        store.close()?;
        drop(waiting);
        if self.json {
            let quarantined = report.quarantined.iter().map(|set_aside| {
                json!({
                    "file": set_aside.file.display().to_string(),
                    "moved_to": set_aside.moved_to.as_ref().map(|path| path.display().to_string()),
                    "what": set_aside.what,
                    "rows_lost": set_aside.rows_lost,
                    "from": set_aside.ts_ns.as_ref().map(|times| time(*times.start())),
                    "to": set_aside.ts_ns.as_ref().map(|times| time(*times.end())),
                    "first_sequence": set_aside.sequences.as_ref().map(|sequences| *sequences.start()),
                    "last_sequence": set_aside.sequences.as_ref().map(|sequences| *sequences.end()),
                })
            });
            out.json(&json!({
                "events": events,
                "quarantined": quarantined.collect::<Vec<_>>(),
                "torn_tails": report.torn_tails.iter().map(|torn| {
                    json!({ "file": torn.file.display().to_string(), "offset": torn.offset, "bytes": torn.bytes })
                }).collect::<Vec<_>>(),
                "missing_logs": report.missing_logs.iter().map(|log| log.display().to_string()).collect::<Vec<_>>(),
                "manifest_rebuilt": report.manifest_rebuilt,
                "leftovers_removed": report.leftovers_removed,
            }))?;
            return Ok(Done::Well);
        }
        for set_aside in &report.quarantined {
            out.line(&format!("{}: {}", set_aside.file.display(), set_aside.what))?;
            if let Some(path) = &set_aside.moved_to {
                out.line(&format!("  is now {}", path.display()))?;
            }
            let lost = match set_aside.rows_lost {
                // Of files that hold none.
                Some(0) => None,
                Some(rows) => Some(format!("at most {} lost", counted(rows, "row is", "rows are"))),
                None => Some("how many rows are lost is not known".to_owned()),
            };
            let between = set_aside
                .ts_ns
                .as_ref()
                .map(|times| format!("between {} and {}", time(*times.start()), time(*times.end())));
            let lost: Vec<String> = lost.into_iter().chain(between).collect();
            if !lost.is_empty() {
                out.line(&format!("  {}", lost.join(", ")))?;
            }
        }
        for mended in table::mended(&report) {
            out.line(&mended)?;
        }
        // The others are missing.
        let set_aside = report.quarantined.iter().filter(|set_aside| set_aside.moved_to.is_some());
        let set_aside = match set_aside.count() as u64 {
            0 => "nothing had to be set aside".to_owned(),
            files => format!("{} set aside", counted(files, "file was", "files were")),
        };
        out.line(&format!("{set_aside}; the table opens and has {}", counted(events, "event", "events")))?;
        Ok(Done::Well)
    }
}
