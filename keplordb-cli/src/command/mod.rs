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
#[cfg(feature = "server")]
pub(crate) mod server;
#[cfg(feature = "sql")]
mod sql;
mod stats;
mod tail;
mod top;
mod upkeep;
mod verify;

use anyhow::Result;
use keplordb::DbError;

use crate::args::Command;
use crate::output::{self, Output};

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
#[cfg(all(feature = "server", feature = "sql"))]
pub(crate) use server::Rql;
#[cfg(feature = "server")]
pub(crate) use server::{
    Backfill, Backup, Blame, Diff, Doctor, Fork, History, Ingest, KeysCommand, Ls, Replay, Restore,
    SchemaCommand, Serve,
};
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

/// How often a command that only asks is begun, if a writer takes away what it is about to read.
const TRIES: u32 = 5;

/// Does what was asked, which `parse` gives anew each time.
pub(crate) fn run(parse: impl Fn() -> Command) -> Result<Done> {
    let mut out = Output::new();
    let mut tries = 0;
    let done = loop {
        tries += 1;
        let command = parse();
        let can_begin_anew = command.only_asks() && tries < TRIES;
        match dispatch(command, &mut out) {
            Err(error) if can_begin_anew && is_overtaken(&error) && out.take_back() => {}
            done => break done,
        }
    };
    // What was found before a failure is shown.
    let flushed = out.flush();
    let done = done?;
    match flushed {
        // Nobody reads that it is done; the exit status still says how.
        Err(closed) if output::is_closed(&closed) => Ok(done),
        flushed => flushed.map(|()| done),
    }
}

/// Whether a segment or log is gone that was there when the command began: another one has its events.
pub(crate) fn is_overtaken(error: &anyhow::Error) -> bool {
    error.chain().filter_map(db_error).any(|error| match error {
        DbError::Missing { file } => {
            file.extension().is_some_and(|ending| ending == "kseg" || ending == "kwal")
        }
        _ => false,
    })
}

/// What the engine says, where a cause is that.
fn db_error<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e DbError> {
    #[cfg(feature = "server")]
    if let Some(keplordb_server::ServerError::Db(error)) = cause.downcast_ref() {
        return Some(error);
    }
    cause.downcast_ref()
}

impl Command {
    /// Whether it changes nothing in tables, and asks nothing of standard input.
    fn only_asks(&self) -> bool {
        match self {
            Self::Query(_)
            | Self::Top(_)
            | Self::Values(_)
            | Self::Count(_)
            | Self::Tail(_)
            | Self::Get(_)
            | Self::Inspect(_)
            | Self::Stats(_)
            | Self::Report(_) => true,
            #[cfg(feature = "server")]
            Self::History(_) | Self::Blame(_) | Self::Diff(_) | Self::Ls(_) | Self::Doctor(_) => true,
            #[cfg(all(feature = "server", feature = "sql"))]
            Self::Rql(_) => true,
            #[cfg(feature = "sql")]
            Self::Export(_) => true,
            _ => false,
        }
    }
}

fn dispatch(command: Command, out: &mut Output) -> Result<Done> {
    match command {
        Command::Init(init) => init.run(out),
        #[cfg(feature = "sql")]
        Command::Import(import) => import.run(out),
        Command::Append(append) => append.run(out),
        Command::Query(query) => query.run(out),
        #[cfg(feature = "sql")]
        Command::Sql(sql) => sql.run(out),
        Command::Top(top) => top.run(out),
        Command::Values(values) => values.run(out),
        Command::Count(count) => count.run(out),
        Command::Tail(tail) => tail.run(out),
        Command::Get(get) => get.run(out),
        #[cfg(feature = "sql")]
        Command::Export(export) => export.run(out),
        Command::Inspect(inspect) => inspect.run(out),
        Command::Stats(stats) => stats.run(out),
        Command::Gc(gc) => gc.run(out),
        Command::Compact(compact) => compact.run(out),
        Command::Checkpoint(checkpoint) => checkpoint.run(out),
        Command::Verify(verify) => verify.run(out),
        Command::Repair(repair) => repair.run(out),
        Command::Report(report) => report.run(out),
        #[cfg(feature = "server")]
        Command::Serve(serve) => serve.run(out),
        #[cfg(feature = "server")]
        Command::Ingest(ingest) => ingest.run(out),
        #[cfg(feature = "server")]
        Command::Backfill(backfill) => backfill.run(out),
        #[cfg(feature = "server")]
        Command::History(history) => history.run(out),
        #[cfg(feature = "server")]
        Command::Blame(blame) => blame.run(out),
        #[cfg(feature = "server")]
        Command::Diff(diff) => diff.run(out),
        #[cfg(feature = "server")]
        Command::Replay(replay) => replay.run(out),
        #[cfg(feature = "server")]
        Command::Backup(backup) => backup.run(out),
        #[cfg(feature = "server")]
        Command::Restore(restore) => restore.run(out),
        #[cfg(feature = "server")]
        Command::Fork(fork) => fork.run(out),
        #[cfg(feature = "server")]
        Command::Doctor(doctor) => doctor.run(out),
        #[cfg(feature = "server")]
        Command::Ls(ls) => ls.run(out),
        #[cfg(all(feature = "server", feature = "sql"))]
        Command::Rql(rql) => rql.run(out),
        #[cfg(feature = "server")]
        Command::Keys(command) => command.run(out),
        #[cfg(feature = "server")]
        Command::Schema(command) => command.run(out),
        Command::Log(command) => log::run(command, out).map(|()| Done::Well),
        Command::Fold(command) => fold::run(command, out).map(|()| Done::Well),
        Command::Bench(bench) => bench.run(out),
        Command::Completions(completions) => completions.run(out),
        Command::Man(man) => man.run(out),
    }
}
