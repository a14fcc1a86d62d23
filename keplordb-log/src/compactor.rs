//! A thread that forgets old entries from time to time, for as long as its guard lives.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{LogError, Result};
use crate::log::Log;
use crate::retention::{Removed, Retention};

/// [Retains](Log::retain) on a thread of its own: once when it starts, and then at every interval. Dropping it stops the
/// thread and waits for it.
///
/// A round that fails is not the last one: the next tries again, and [`outcome`](Self::outcome) tells.
///
/// ```
/// use std::time::Duration;
/// use keplordb_log::{Compactor, Log, Retention};
///
/// # let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let compactor = Compactor::start(&log, Compactor::EVERY, Retention::default())?;
/// // … the program runs …
/// let removed = compactor.stop();
/// assert_eq!(removed.segments, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Compactor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    stop: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_stopping: bool,
    /// Of all rounds together.
    removed: Removed,
    /// Of the last round.
    outcome: Option<Result<Removed>>,
}

impl Compactor {
    /// How often most programs should ask: every hour.
    pub const EVERY: Duration = Duration::from_secs(3600);

    /// Starts the thread.
    ///
    /// # Errors
    /// [`LogError::Invalid`] if `every` is zero, [`LogError::Io`] if the operating system gives no thread.
    pub fn start(log: &Log, every: Duration, retention: Retention) -> Result<Self> {
        if every.is_zero() {
            let why = "a compactor rests between two rounds, not for zero".to_owned();
            return Err(LogError::Invalid { field: "every", why });
        }
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("log-compactor".to_owned()).spawn({
            let (shared, log) = (Arc::clone(&shared), log.clone());
            move || shared.run(&log, every, &retention)
        });
        let thread = thread.map_err(|source| LogError::io("start a thread for", log.path(), source))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What the last round removed, or why it failed; `None` before the first has ended.
    pub fn outcome(&self) -> Option<Result<Removed>> {
        self.shared.state.lock().outcome.clone()
    }

    /// What all rounds have removed together.
    pub fn removed(&self) -> Removed {
        self.shared.state.lock().removed
    }

    /// Ends the thread, waits for it, and says what all rounds have removed.
    pub fn stop(mut self) -> Removed {
        self.join();
        self.removed()
    }

    fn join(&mut self) {
        self.shared.state.lock().is_stopping = true;
        self.shared.stop.notify_all();
        // A round that panicked was told by the panic hook; there is nothing else to do about it here.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn run(&self, log: &Log, every: Duration, retention: &Retention) {
        while !self.state.lock().is_stopping {
            // `None` is later than any instant there is.
            let next = Instant::now().checked_add(every);
            // Not under the lock: a round may take long, and others ask meanwhile.
            let outcome = log.retain(retention);
            let mut state = self.state.lock();
            if let Ok(removed) = outcome {
                state.removed.segments += removed.segments;
                state.removed.entries += removed.entries;
                state.removed.bytes += removed.bytes;
            }
            state.outcome = Some(outcome);
            while !state.is_stopping && next.is_none_or(|next| Instant::now() < next) {
                match next {
                    Some(next) => drop(self.stop.wait_until(&mut state, next)),
                    None => self.stop.wait(&mut state),
                }
            }
        }
    }
}
