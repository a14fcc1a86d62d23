//! `keplor fold`: the commands on a directory of events as lines of JSON, and what they share.
//!
//! The reducers of a program are not known here. What a program's views came to is read from the files in which they keep their states;
//! what can be computed are the states of a few reducers that need no program.

mod cat;
mod event;
mod ls;
mod moment;
mod reducer;
mod repair;
mod rotate;
mod source;
mod state;
mod stats;
mod tail;
mod verify;

use anyhow::Result;
use clap::Subcommand;

use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum FoldCommand {
    /// List the archive, the log and the views: events, how many are behind, bytes
    Ls(ls::Ls),
    /// Print the state of a view, or what a built-in reducer comes to, now or at a moment of the past
    State(state::State),
    /// Print events
    Cat(cat::Cat),
    /// Print the last events, and go on with those that come
    Tail(tail::Tail),
    /// Print what the history has in all
    Stats(stats::Stats),
    /// Read everything and check it
    Verify(verify::Verify),
    /// Set aside what is damaged, so that the rest can be read
    Repair(repair::Repair),
    /// Move the active log into the archive
    #[command(visible_alias = "archive")]
    Rotate(rotate::Rotate),
}

/// Does what was asked.
pub(crate) fn run(command: FoldCommand, out: &mut Output) -> Result<()> {
    match command {
        FoldCommand::Ls(ls) => ls.run(out),
        FoldCommand::State(state) => state.run(out),
        FoldCommand::Cat(cat) => cat.run(out),
        FoldCommand::Tail(tail) => tail.run(out),
        FoldCommand::Stats(stats) => stats.run(out),
        FoldCommand::Verify(verify) => verify.run(out),
        FoldCommand::Repair(repair) => repair.run(out),
        FoldCommand::Rotate(rotate) => rotate.run(out),
    }
}
