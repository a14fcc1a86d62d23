//! Ctrl-C and requests to end: what is being measured stops at its next step, and its files are removed by who made them.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};

/// The exit status of a process that was interrupted.
pub(super) const STATUS: i32 = 130;

static IS_SEEN: AtomicBool = AtomicBool::new(false);

/// What [`check`] says when somebody wants an end.
#[derive(Debug)]
pub(super) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// From here on interrupts are seen by [`check`]; a second one ends the process at once, should a step hang.
pub(super) fn watch() -> Result<()> {
    let handler = || {
        if IS_SEEN.swap(true, Ordering::Relaxed) {
            std::process::exit(STATUS);
        }
    };
    ctrlc::set_handler(handler).context("it cannot be seen to that an interrupt removes the files")
}

/// An error once somebody wants an end. It takes about a nanosecond.
pub(super) fn check() -> Result<()> {
    ensure!(!IS_SEEN.load(Ordering::Relaxed), Interrupted);
    Ok(())
}
