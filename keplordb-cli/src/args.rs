//! The tree of commands as it is typed; the arguments of each stand beside what it does.

use clap::{Parser, Subcommand};

#[cfg(all(feature = "server", feature = "sql"))]
use crate::command::Rql;
use crate::command::fold::FoldCommand;
use crate::command::log::LogCommand;
use crate::command::{
    Append, Bench, Checkpoint, Compact, Completions, Count, Gc, Get, Init, Inspect, Man, Query, Repair,
    Report, Stats, Tail, Top, Values, Verify,
};
#[cfg(feature = "server")]
use crate::command::{
    Backfill, Backup, Blame, Diff, Doctor, Fork, History, Ingest, KeysCommand, Ls, Replay, Restore,
    SchemaCommand, Serve,
};
#[cfg(feature = "sql")]
use crate::command::{Export, Import, Sql};

/// KeplorDB's tables and logs from the command line
#[derive(Debug, Parser)]
#[command(name = "keplor", version, after_help = EXIT_STATUS)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_STATUS: &str = "\
`keplor COMMAND --help` shows examples. Exit status: 0 done; 1 not done, or damage was found; 2 the arguments make no
sense, or some lines of the input were rejected; 130 interrupted by Ctrl-C. Standard error says what to do.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(Init),
    #[cfg(feature = "sql")]
    Import(Import),
    Append(Append),
    Query(Query),
    #[cfg(feature = "sql")]
    Sql(Sql),
    Top(Top),
    Values(Values),
    Count(Count),
    Tail(Tail),
    Get(Get),
    #[cfg(feature = "sql")]
    Export(Export),
    Inspect(Inspect),
    Stats(Stats),
    Gc(Gc),
    Compact(Compact),
    Checkpoint(Checkpoint),
    Verify(Verify),
    Repair(Repair),
    Report(Report),
    #[cfg(feature = "server")]
    Serve(Serve),
    #[cfg(feature = "server")]
    Ingest(Ingest),
    #[cfg(feature = "server")]
    Backfill(Backfill),
    #[cfg(feature = "server")]
    Ls(Ls),
    #[cfg(all(feature = "server", feature = "sql"))]
    Rql(Rql),
    #[cfg(feature = "server")]
    History(History),
    #[cfg(feature = "server")]
    Blame(Blame),
    #[cfg(feature = "server")]
    Diff(Diff),
    #[cfg(feature = "server")]
    Replay(Replay),
    #[cfg(feature = "server")]
    Backup(Backup),
    #[cfg(feature = "server")]
    Restore(Restore),
    #[cfg(feature = "server")]
    Fork(Fork),
    #[cfg(feature = "server")]
    Doctor(Doctor),
    /// The keys of a server's root: make, list, take back
    #[cfg(feature = "server")]
    #[command(subcommand)]
    Keys(KeysCommand),
    /// The schema of a server's root: show, check, push, compare
    #[cfg(feature = "server")]
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Logs of timestamped entries: list, read, follow, append, trim, check, copy
    #[command(subcommand)]
    Log(LogCommand),
    /// Events as lines of JSON, and the states that a program folds them to: list, read, follow, check
    #[command(subcommand)]
    Fold(FoldCommand),
    Bench(Bench),
    Completions(Completions),
    Man(Man),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_of_commands_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }
}
