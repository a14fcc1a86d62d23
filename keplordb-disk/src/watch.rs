//! `Watch`: waiting until something in a directory changes; and the counters by which the disks in memory tell.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Tells that something in a directory has changed; made by [`Disk::watch`](crate::Disk::watch). It holds no lock, hinders
/// nobody, and ends when it is dropped.
///
/// Who waits for something does it in this order, so that no change falls between the steps: make the watch, look, and as
/// long as what was looked for is not there: wait, look again.
pub trait Watch: fmt::Debug + Send {
    /// Waits until something in the directory has changed, at most for `timeout`.
    ///
    /// `true` if a name was made, renamed, replaced or removed in the directory, or bytes or the length of a file in it were
    /// written, by whichever process, since the watch was made or since the last wait that returned `true`; at once if that
    /// was before the call. `false` after `timeout` without one; zero only asks. Any number of changes are one, what has
    /// changed is not said, and it may be nothing: a spurious `true` is legal. After the directory itself was removed or
    /// renamed, which is a change, nothing more may be told.
    ///
    /// # Errors
    /// What the operating system says.
    fn wait(&mut self, timeout: Duration) -> io::Result<bool>;
}

/// The changes in the directories of a disk in memory, by the directory's number. Nothing is counted where nobody watches.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    watched: Mutex<BTreeMap<u64, Watched>>,
    /// How many watches there are. Who changed a file reads it after the change, and who made a watch reads the file after
    /// counting it here, so at least one of the two sees the other.
    watches: AtomicUsize,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Watched {
    watches: usize,
    changes: u64,
}

impl Changes {
    /// A watch of this directory.
    pub(crate) fn watch(self: &Arc<Self>, directory: u64) -> CountedWatch {
        self.watches.fetch_add(1, Ordering::SeqCst);
        let mut watched = self.watched();
        let entry = watched.entry(directory).or_default();
        entry.watches += 1;
        CountedWatch { changes: Arc::clone(self), directory, seen: entry.changes }
    }

    /// Whether anybody would hear of a change.
    pub(crate) fn are_watched(&self) -> bool {
        self.watches.load(Ordering::SeqCst) > 0
    }

    /// Something has changed in these directories. To be called after the change.
    pub(crate) fn note(&self, directories: impl IntoIterator<Item = u64>) {
        let mut watched = self.watched();
        let mut any = false;
        for directory in directories {
            if let Some(watched) = watched.get_mut(&directory) {
                watched.changes += 1;
                any = true;
            }
        }
        if any {
            self.changed.notify_all();
        }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<u64, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watch of one directory in memory.
#[derive(Debug)]
pub(crate) struct CountedWatch {
    changes: Arc<Changes>,
    directory: u64,
    seen: u64,
}

impl Watch for CountedWatch {
    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let (directory, seen) = (self.directory, self.seen);
        let changes = |watched: &BTreeMap<u64, Watched>| {
            watched.get(&directory).map_or(seen, |watched| watched.changes)
        };
        let (watched, _) = self
            .changes
            .changed
            .wait_timeout_while(self.changes.watched(), timeout, |watched| changes(watched) == seen)
            .unwrap_or_else(PoisonError::into_inner);
        self.seen = changes(&watched);
        Ok(self.seen != seen)
    }
}

impl Drop for CountedWatch {
    fn drop(&mut self) {
        let mut watched = self.changes.watched();
        if let Some(entry) = watched.get_mut(&self.directory) {
            entry.watches -= 1;
            if entry.watches == 0 {
                watched.remove(&self.directory);
            }
        }
        self.changes.watches.fetch_sub(1, Ordering::SeqCst);
    }
}
