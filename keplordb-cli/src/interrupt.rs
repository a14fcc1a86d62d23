//! Ctrl-C, for what ends in good order or goes on after it.

use std::io;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::output::note;

/// The exit status of what Ctrl-C ended, as shells know it.
pub(crate) const STATUS: u8 = 130;

/// Every Ctrl-C from now on, on a tokio runtime. None ends the process any more, also after this is gone.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    signals: tokio::signal::unix::Signal,
    #[cfg(windows)]
    signals: tokio::signal::windows::CtrlC,
}

impl Interrupts {
    /// Listens; within a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        let signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        #[cfg(windows)]
        let signals = tokio::signal::windows::ctrl_c()?;
        Ok(Self { signals })
    }

    /// Waits for the next one; several that were not waited for are one.
    pub(crate) async fn next(&mut self) {
        if self.signals.recv().await.is_none() {
            // The runtime is about to end.
            std::future::pending::<()>().await;
        }
    }
}

/// Whether Ctrl-C was pressed since. Pressed once more, it ends the process at once.
#[derive(Debug, Clone)]
pub(crate) struct Asked(Arc<AtomicBool>);

impl Asked {
    /// Listens in a thread.
    pub(crate) fn listen() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.context("Ctrl-C cannot be listened to")?;
        let mut interrupts = {
            let _within = runtime.enter();
            Interrupts::listen().context("Ctrl-C cannot be listened to")?
        };
        let asked = Self(Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&asked.0);
        std::thread::spawn(move || {
            runtime.block_on(async {
                interrupts.next().await;
                flag.store(true, Ordering::Relaxed);
                note("stopping after what is under way; Ctrl-C again ends at once");
                interrupts.next().await;
                exit(STATUS.into());
            });
        });
        Ok(asked)
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
