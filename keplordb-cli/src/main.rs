//! The command `keplor`: what a person or a script does with tables, logs and states, without a program of their own.
//!
//! Results go to standard output, as text for people or as JSON for programs; what went wrong goes to standard error and says
//! what to do. Exit status 0: done. 1: not done, or damage was found. 2: the arguments make no sense, or some lines of the input
//! were rejected. 130: interrupted by Ctrl-C, in good order.

#![forbid(unsafe_code)]

mod args;
mod command;
mod conditions;
mod files;
mod interrupt;
mod lines;
mod output;
mod parse;
mod progress;
mod report;
mod sheet;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::command::Done;

/// The system's keeps much of what many threads have given back, and takes longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match command::run(|| args::Arguments::parse().command) {
        Ok(Done::Well) => ExitCode::SUCCESS,
        Ok(Done::Rejected) => ExitCode::from(2),
        Ok(Done::Interrupted) => ExitCode::from(interrupt::STATUS),
        // Who reads has seen enough: `keplor log cat … | head`.
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "keplor: {}", output::with_causes(&error));
            ExitCode::FAILURE
        }
    }
}
