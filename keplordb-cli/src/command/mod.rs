//! The commands, one file each.

pub(crate) mod log;

use anyhow::Result;

use crate::args::Command;

/// Does what was asked.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Log(command) => log::run(command),
    }
}
