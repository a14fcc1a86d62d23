//! The locks of a log: the writer's, which keeps other writers away, and the turn, which all writers take for each append.

use std::io;
use std::path::Path;
use std::sync::Arc;

use keplordb_disk::{Disk, LockFile};

use crate::error::{FoldError, at};
use crate::options::LockMode;
use crate::paths::Paths;

/// Takes the lock that makes somebody the log's one writer, or says at once that another has it.
///
/// Where locks hinder readers it is that of another file than the log.
pub(crate) fn lock_log(disk: &dyn Disk, paths: &Paths) -> io::Result<Arc<dyn LockFile>> {
    let file = if cfg!(windows) { &paths.lock } else { &paths.log };
    if cfg!(windows) {
        make(disk, file)?;
    }
    let lock = disk.open_lock(file).map_err(at("open", file))?;
    if lock.try_lock().map_err(at("lock", file))? {
        Ok(lock)
    } else {
        Err(FoldError::Locked { file: paths.log.clone() }.into())
    }
}

/// Makes an empty file where there is none.
pub(crate) fn make(disk: &dyn Disk, file: &Path) -> io::Result<()> {
    match disk.create(file) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at("create", file)(error)),
        _ => Ok(()),
    }
}

/// By what writers take turns: one of them at a time appends, mends or rotates.
#[derive(Debug)]
pub(crate) struct Turns {
    lock: Arc<dyn LockFile>,
    paths: Arc<Paths>,
    mode: LockMode,
}

/// A turn; it is over when this is dropped.
#[derive(Debug)]
#[must_use = "the turn is over when this is dropped"]
pub(crate) struct Turn(Option<Arc<dyn LockFile>>);

impl Turns {
    pub(crate) fn open(disk: &dyn Disk, paths: &Arc<Paths>, mode: LockMode) -> io::Result<Self> {
        make(disk, &paths.turn)?;
        let lock = disk.open_lock(&paths.turn).map_err(at("open", &paths.turn))?;
        Ok(Self { lock, paths: Arc::clone(paths), mode })
    }

    /// Waits for the turn. Nobody has it for longer than an append or a rotation takes.
    pub(crate) fn take(&self) -> io::Result<Turn> {
        match self.lock.lock() {
            Ok(()) => Ok(Turn(Some(Arc::clone(&self.lock)))),
            // Who locks nothing may have chosen that because nothing can be locked there.
            Err(_) if self.mode == LockMode::None => Ok(Turn(None)),
            Err(error) => Err(at("lock", &self.paths.turn)(error)),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(lock) = &self.0 {
            // What cannot be given back now is given back when the file is closed.
            let _ = lock.unlock();
        }
    }
}
