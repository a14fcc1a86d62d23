//! Who has a root open, as it is seen from beside.

use std::path::Path;

use keplordb_disk::{Disk as _, RealDisk, lock_holder};

use crate::error::ServerError;
use crate::layout;

/// Who has a root open: a server, or a command that writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The process; `None` where its lock does not say it.
    pub pid: Option<u32>,
}

/// Who has a root open at the moment, if anybody has. It takes no lock and changes nothing, and the answer may be old when it arrives.
///
/// # Errors
/// [`NoRoot`](ServerError::NoRoot) for a directory that no server has made; [`Io`](ServerError::Io) when its lock cannot be looked at.
pub fn holder(root: impl AsRef<Path>) -> Result<Option<Holder>, ServerError> {
    let root = root.as_ref();
    if !layout::is_root(root) {
        return Err(ServerError::NoRoot { dir: root.to_owned() });
    }
    let lock = layout::log_lock(root);
    let is_locked = RealDisk.is_locked(&lock);
    let is_locked =
        is_locked.map_err(|source| ServerError::Io { file: lock.clone(), op: "looking at", source })?;
    // Where the lock says nothing of its holder there is one all the same.
    Ok(is_locked.then(|| Holder { pid: lock_holder(&RealDisk, &lock).ok().flatten() }))
}
