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

/// From here on Ctrl-C [asks](is_asked) for an end; pressed once more, it ends the process at once.
pub(crate) fn listen() -> Result<()> {
    let handler = || {
        if is_asked() {
            exit(STATUS.into());
        }
        // Before it can be seen: whoever ends because of it speaks behind this line.
        note("stopping after what is under way; Ctrl-C again ends at once");
        IS_ASKED.store(true, Ordering::Relaxed);
    };
    match ctrlc::set_handler(handler) {
        // By the same command, which is begun anew.
        Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        set => set.context(FAILED),
    }
}

/// Whether Ctrl-C was pressed since. It takes about a nanosecond.
pub(crate) fn is_asked() -> bool {
    IS_ASKED.load(Ordering::Relaxed)
}

/// Waits until standard input has something to read, or its end; `false` once somebody wants an end. Where the system cannot wait for
/// both it says at once that there is something.
pub(crate) fn wait_for_input() -> bool {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        const TENTH: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let input = std::io::stdin();
        loop {
            match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&TENTH)) {
                // A signal ends a wait before another thread has heard of it.
                Ok(0) | Err(rustix::io::Errno::INTR) if is_asked() => return false,
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // What cannot be waited for tells so when it is read.
                _ => break,
            }
        }
    }
    !is_asked()
}

/// An error once somebody wants an end.
pub(crate) fn check() -> Result<()> {
    anyhow::ensure!(!is_asked(), Interrupted);
    Ok(())
}

/// Every Ctrl-C from now on, for who waits for it.
#[cfg(feature = "sql")]
pub(crate) struct Interrupts(std::sync::Arc<tokio::sync::Notify>);

#[cfg(feature = "sql")]
impl Interrupts {
    /// Called once, and not beside [`listen`]. A second one ends the process if `can_end`: the first may be waited for by who waits
    /// himself for a reader of standard output.
    pub(crate) fn listen(can_end: bool) -> Result<Self> {
        let seen = std::sync::Arc::new(tokio::sync::Notify::new());
        let handler = std::sync::Arc::clone(&seen);
        let handler = move || {
            if IS_ASKED.swap(true, Ordering::Relaxed) && can_end {
                exit(STATUS.into());
            }
            handler.notify_one();
        };
        ctrlc::set_handler(handler).context(FAILED)?;
        Ok(Self(seen))
    }

    /// Waits for the next one; several that were not waited for are one.
    pub(crate) async fn next(&self) {
        self.0.notified().await;
    }
}
