//! `keplor tail` of a root: the last events, and those that come.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keplordb_server::{EntityLog, Selection};

use super::event::Printer;
use super::types;
use crate::command::Done;
use crate::command::tail::Printed;
use crate::output::Output;
use crate::sheet::Form;

/// So many events are read at once.
const PART: usize = 10_000;

/// Which events of a root are printed, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Follow<'a> {
    pub(crate) types: &'a [String],
    pub(crate) limit: usize,
    /// How often to look for new ones; `None` ends with those that are there.
    pub(crate) every: Option<Duration>,
}

/// Prints the last events of a root, and goes on with those that come.
pub(crate) fn tail(root: &Path, follow: Follow<'_>, form: Form, out: &mut Output) -> Result<Done> {
    let log = EntityLog::beside(root)?;
    let mut selection = Selection::default();
    selection.entity_types = follow.types.to_vec();
    if follow.every.is_none() {
        let known = types(root, &log)?;
        for asked in follow.types {
            let there = if known.is_empty() { "no types yet".to_owned() } else { known.join(", ") };
            ensure!(known.contains(asked), "there is no type {asked:?}; there are {there}");
        }
    }
    let mut printer = Printer::new(out, form, true);
    let mut seen =
        Printed::up_to(log.last(&Selection::default(), 1)?.last().map_or(0, |last| last.sequence + 1));
    for event in log.last(&selection, follow.limit)? {
        printer.print(&event)?;
    }
    let Some(every) = follow.every else {
        printer.finish()?;
        return Ok(Done::Well);
    };
    printer.flush()?;
    loop {
        std::thread::sleep(every);
        printer.check_reader()?;
        if !log.refresh()? {
            continue;
        }
        let mut after = seen.floor();
        loop {
            let events = log.events(&selection, Some(after), PART)?;
            for event in &events {
                if seen.is_new(event.sequence) {
                    printer.print(event)?;
                }
                after = event.sequence;
            }
            if events.len() < PART {
                break;
            }
        }
        printer.flush()?;
        seen.step(after + 1, Instant::now());
    }
}
