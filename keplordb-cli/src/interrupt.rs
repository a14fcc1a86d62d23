//! Ctrl-C, for what ends in good order or goes on after it.

use std::fmt;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::output::note;

/// The exit status of what Ctrl-C ended, as shells know it.
pub(crate) const STATUS: u8 = 130;

const FAILED: &str = "Ctrl-C cannot be listened to";

static IS_ASKED: AtomicBool = AtomicBool::new(false);

/// What [`check`] says when somebody wants an end.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// From here on Ctrl-C [asks](is_asked) for an end; pressed once more, it ends the process at once. Called once.
pub(crate) fn listen() -> Result<()> {
    let handler = || {
        if is_asked() {
            exit(STATUS.into());
        }
        // Before it can be seen: whoever ends because of it speaks behind this line.
        note("stopping after what is under way; Ctrl-C again ends at once");
        IS_ASKED.store(true, Ordering::Relaxed);
    };
    ctrlc::set_handler(handler).context(FAILED)
}

/// Whether Ctrl-C was pressed since. It takes about a nanosecond.
pub(crate) fn is_asked() -> bool {
    IS_ASKED.load(Ordering::Relaxed)
}

/// An error once somebody wants an end.
pub(crate) fn check() -> Result<()> {
    anyhow::ensure!(!is_asked(), Interrupted);
    Ok(())
}

/// Every Ctrl-C from now on, for who waits for it. None ends the process any more.
#[cfg(feature = "sql")]
pub(crate) struct Interrupts(std::sync::Arc<tokio::sync::Notify>);

#[cfg(feature = "sql")]
impl Interrupts {
    /// Called once, and not beside [`listen`].
    pub(crate) fn listen() -> Result<Self> {
        let seen = std::sync::Arc::new(tokio::sync::Notify::new());
        let handler = std::sync::Arc::clone(&seen);
        ctrlc::set_handler(move || handler.notify_one()).context(FAILED)?;
        Ok(Self(seen))
    }

    /// Waits for the next one; several that were not waited for are one.
    pub(crate) async fn next(&self) {
        self.0.notified().await;
    }
}
