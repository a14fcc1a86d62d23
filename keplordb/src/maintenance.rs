//! `Maintenance`: an opt-in guard that keeps a table up from a thread of its own.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::any::AnyStore;
use crate::engine::{Budget, Core};
use crate::error::{DbError, Result};
use crate::raw::Engine;
use crate::store::Store;

/// Calls [`maintain`](crate::Engine::maintain) every so often, on a thread that ends when this guard is dropped.
///
/// So an idle log's tail is synced, replaced files are unlinked, failed rotations are repeated, the retention is applied and
/// small segments are compacted, without a program having to think of it. The first call comes at once; then each begins
/// `every` after the one before has ended.
///
/// The guard is a handle of the table: the table closes when its last handle *and* the guard are gone. Dropping the guard
/// waits for the step of a compaction that is at work, some seconds at most; nothing is lost by it. What fails is in
/// [`Stats::last_error`](crate::Stats::last_error), goes to `tracing`, and is tried again; after a failed sync
/// ([`DbError::Poisoned`]) the thread ends.
///
/// ```
/// use keplordb::{Maintenance, Schema, Store};
/// use std::time::Duration;
///
/// #[derive(Schema)]
/// #[keplordb(id = 1)]
/// pub struct Tick {
///     #[dim]
///     pub source: String,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("ticks");
/// let store = Store::<Tick>::open(dir)?;
/// let _upkeep = Maintenance::start(&store, Duration::from_secs(10))?;
/// store.append(Tick::new(1_700_000_000_000_000_000).source("clock"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "maintenance ends when the guard is dropped"]
pub struct Maintenance {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

/// What [`Maintenance`] can look after: [`Engine`], [`Store`] and [`AnyStore`].
pub trait Maintainable: table::Table {}

impl<T: table::Table> Maintainable for T {}

mod table {
    use super::{Arc, Core};

    /// Only this crate's tables are.
    pub trait Table {
        #[expect(private_interfaces, reason = "the trait cannot be named outside")]
        fn core(&self) -> &Arc<Core>;
    }
}

impl<const D: usize, const C: usize, const L: usize> table::Table for Engine<D, C, L> {
    #[expect(private_interfaces, reason = "the trait cannot be named outside")]
    fn core(&self) -> &Arc<Core> {
        self.core()
    }
}

impl<S> table::Table for Store<S> {
    #[expect(private_interfaces, reason = "the trait cannot be named outside")]
    fn core(&self) -> &Arc<Core> {
        self.core()
    }
}

impl table::Table for AnyStore {
    #[expect(private_interfaces, reason = "the trait cannot be named outside")]
    fn core(&self) -> &Arc<Core> {
        self.core()
    }
}

/// Tells the thread to stop; what it waits at.
#[derive(Debug, Default)]
struct Signal {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.lock()
    }

    /// Waits; `false` when the thread is to stop, however long the wait would have been.
    fn wait(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        let until = Instant::now().checked_add(time);
        while !*stopped {
            match until {
                Some(until) if self.changed.wait_until(&mut stopped, until).timed_out() => break,
                Some(_) => {}
                // For ever, as far as a clock can tell.
                None => self.changed.wait(&mut stopped),
            }
        }
        !*stopped
    }
}

impl Maintenance {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`Invalid`](DbError::Invalid) for no time at all, [`Io`](DbError::Io) when the operating system starts no thread.
    pub fn start(table: &impl Maintainable, every: Duration) -> Result<Self> {
        if every.is_zero() {
            return Err(DbError::invalid("every", "must be more than no time"));
        }
        let core = Arc::clone(table.core());
        let signal = Arc::new(Signal::default());
        let of_thread = Arc::clone(&signal);
        let root = core.root().to_owned();
        let thread = thread::Builder::new()
            .name("keplordb-maintenance".to_owned())
            .spawn(move || run(&core, &of_thread, every))
            .map_err(|source| DbError::io("start a thread for", &root, source))?;
        Ok(Self { signal, thread: Some(thread) })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.signal.stop();
        if let Some(thread) = self.thread.take()
            // A subscriber of `tracing` may hold the guard, and drop it when the thread itself tells it something.
            && thread.thread().id() != thread::current().id()
        {
            // It catches its panics.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_at_work = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        f.debug_struct("Maintenance").field("is_at_work", &is_at_work).finish_non_exhaustive()
    }
}

fn run(core: &Core, signal: &Signal, every: Duration) {
    loop {
        let goes_on = || !signal.is_stopped();
        let call = || match core.maintain_while(Budget::UNLIMITED, &goes_on) {
            Ok(_) => {}
            Err(error) => core.note_failed_maintenance(error),
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            let what = io::Error::other(format!("it panicked: {}", text_of(panic.as_ref())));
            let error = DbError::io("maintain", core.root(), what);
            // A subscriber of `tracing` hears of it, and may be what panicked.
            let _ = catch_unwind(AssertUnwindSafe(|| core.note_failed_maintenance(error)));
        }
        if let Some(error) = core.writing_stopped() {
            return core.note_failed_maintenance(error);
        }
        if !signal.wait(every) {
            return;
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_ends_a_wait_and_is_not_lost_before_one() {
        let signal = Arc::new(Signal::default());
        assert!(signal.wait(Duration::from_millis(1)), "no stop: go on");
        let waiting = Arc::clone(&signal);
        let waiter = thread::spawn(move || waiting.wait(Duration::MAX));
        thread::sleep(Duration::from_millis(20));
        signal.stop();
        assert!(!waiter.join().unwrap());
        let begun = Instant::now();
        assert!(!signal.wait(Duration::from_secs(60)) && begun.elapsed() < Duration::from_secs(30));
    }
}
