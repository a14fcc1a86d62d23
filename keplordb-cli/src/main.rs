//! The command `keplor`: what a person or a script does with a log, without a program of their own.
//!
//! Results go to standard output, as text for people or as JSON for programs; what went wrong goes to standard error and says
//! what to do. Exit status 0: done. 1: not done, or damage was found. 2: the arguments make no sense.

#![forbid(unsafe_code)]

mod args;
mod command;
mod output;
mod parse;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    match command::run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has seen enough: `keplor log cat … | head`.
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "keplor: {}", output::with_causes(&error));
            ExitCode::FAILURE
        }
    }
}
