//! What an operator should hear of and no caller is told, kept until its thread holds no lock.
//!
//! A subscriber of `tracing` may come back into the engine, to store what it hears for instance; were it called under a lock,
//! its own thread would wait for itself. So what happens under locks is noted here, and told at the end of the call.

use std::cell::Cell;
use std::fmt;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The notices of one engine; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notices(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Whether there are any: all that a call pays for when there are none.
    some: AtomicBool,
    notices: Mutex<Vec<Notice>>,
}

#[derive(Debug)]
struct Notice {
    is_error: bool,
    what: &'static str,
    path: Option<PathBuf>,
    error: String,
}

thread_local! {
    /// Whether this thread is in a subscriber: what happens then waits for the next call, or a notice of a failing append
    /// that a subscriber answers by an append would never end.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

impl Notices {
    /// Something failed, and the engine goes on.
    pub(crate) fn warn(&self, what: &'static str, path: Option<&Path>, error: &impl fmt::Display) {
        self.note(Notice { is_error: false, what, path: path.map(Path::to_owned), error: error.to_string() });
    }

    /// Something failed for good.
    pub(crate) fn error(&self, what: &'static str, path: Option<&Path>, error: &impl fmt::Display) {
        self.note(Notice { is_error: true, what, path: path.map(Path::to_owned), error: error.to_string() });
    }

    fn note(&self, notice: Notice) {
        self.0.notices.lock().push(notice);
        self.0.some.store(true, Ordering::Release);
    }

    /// For the first line of a call, before it takes any lock: what is noted until the call ends is told then.
    pub(crate) fn tell_at_end(&self) -> TellAtEnd<'_> {
        TellAtEnd(self)
    }

    fn tell(&self) {
        if !self.0.some.load(Ordering::Acquire) || TELLING.get() || std::thread::panicking() {
            return;
        }
        let notices = {
            let mut waiting = self.0.notices.lock();
            self.0.some.store(false, Ordering::Release);
            mem::take(&mut *waiting)
        };
        let _telling = Telling::begin();
        notices.into_iter().for_each(Notice::tell);
    }
}

impl Notice {
    fn tell(self) {
        let Self { is_error, what, path, error } = self;
        let file = path.map(|path| tracing::field::display(path.display().to_string()));
        if is_error {
            tracing::error!(file, error, "{what}");
        } else {
            tracing::warn!(file, error, "{what}");
        }
    }
}

impl Drop for Waiting {
    /// What was noted after the last call, or by one that failed to open.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            mem::take(self.notices.get_mut()).into_iter().for_each(Notice::tell);
        }
    }
}

/// Tells the notices when it is dropped.
#[must_use = "it is the end of its scope that matters"]
pub(crate) struct TellAtEnd<'a>(&'a Notices);

impl Drop for TellAtEnd<'_> {
    fn drop(&mut self) {
        self.0.tell();
    }
}

/// Sets [`TELLING`] until it is dropped, also by a subscriber's panic.
struct Telling;

impl Telling {
    fn begin() -> Self {
        TELLING.set(true);
        Self
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        TELLING.set(false);
    }
}
