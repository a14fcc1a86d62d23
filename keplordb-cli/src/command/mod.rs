//! The commands, one file each.

mod append;
mod bench;
mod count;
#[cfg(feature = "sql")]
mod export;
pub(crate) mod fold;
mod get;
#[cfg(feature = "sql")]
mod import;
mod init;
mod inspect;
pub(crate) mod log;
mod manual;
mod query;
mod report;
#[cfg(feature = "sql")]
mod sql;
mod stats;
mod tail;
mod top;
mod upkeep;
mod verify;

use anyhow::Result;

use crate::args::Command;
use crate::output::Output;

pub(crate) use append::Append;
pub(crate) use bench::Bench;
pub(crate) use count::Count;
#[cfg(feature = "sql")]
pub(crate) use export::Export;
pub(crate) use get::Get;
#[cfg(feature = "sql")]
pub(crate) use import::Import;
pub(crate) use init::Init;
pub(crate) use inspect::Inspect;
pub(crate) use manual::{Completions, Man};
pub(crate) use query::Query;
pub(crate) use report::Report;
#[cfg(feature = "sql")]
pub(crate) use sql::Sql;
pub(crate) use stats::Stats;
pub(crate) use tail::Tail;
pub(crate) use top::{Top, Values};
pub(crate) use upkeep::{Checkpoint, Compact, Gc};
pub(crate) use verify::{Repair, Verify};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Well,
    /// All but some lines of its input, which are in a side file.
    Rejected,
    /// By Ctrl-C, in good order.
    Interrupted,
}

/// Does what was asked.
pub(crate) fn run(command: Command) -> Result<Done> {
    let mut out = Output::new();
    let done = match command {
        Command::Init(init) => init.run(&mut out),
        #[cfg(feature = "sql")]
        Command::Import(import) => import.run(&mut out),
        Command::Append(append) => append.run(&mut out),
        Command::Query(query) => query.run(&mut out),
        #[cfg(feature = "sql")]
        Command::Sql(sql) => sql.run(&mut out),
        Command::Top(top) => top.run(&mut out),
        Command::Values(values) => values.run(&mut out),
        Command::Count(count) => count.run(&mut out),
        Command::Tail(tail) => tail.run(&mut out),
        Command::Get(get) => get.run(&mut out),
        #[cfg(feature = "sql")]
        Command::Export(export) => export.run(&mut out),
        Command::Inspect(inspect) => inspect.run(&mut out),
        Command::Stats(stats) => stats.run(&mut out),
        Command::Gc(gc) => gc.run(&mut out),
        Command::Compact(compact) => compact.run(&mut out),
        Command::Checkpoint(checkpoint) => checkpoint.run(&mut out),
        Command::Verify(verify) => verify.run(&mut out),
        Command::Repair(repair) => repair.run(&mut out),
        Command::Report(report) => report.run(&mut out),
        Command::Log(command) => log::run(command, &mut out).map(|()| Done::Well),
        Command::Fold(command) => fold::run(command, &mut out).map(|()| Done::Well),
        Command::Bench(bench) => bench.run(&mut out),
        Command::Completions(completions) => completions.run(&mut out),
        Command::Man(man) => man.run(&mut out),
    };
    // What was found before a failure is shown.
    let flushed = out.flush();
    let done = done?;
    flushed.map(|()| done)
}
