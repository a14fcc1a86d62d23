//! The tree of commands as it is typed; the arguments of each stand beside what it does.

use clap::{Parser, Subcommand};

use crate::command::log::LogCommand;

/// KeplorDB's logs from the command line
#[derive(Debug, Parser)]
#[command(name = "keplor", version, after_help = EXIT_STATUS)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0 done; 1 not done, or damage was found: standard error says what to do; 2 the arguments make no sense.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Logs of timestamped entries: list, read, follow, append, trim, check, copy
    #[command(subcommand)]
    Log(LogCommand),
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
