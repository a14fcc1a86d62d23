//! Closing: every log is synced, and the manifest says how long it is.

use std::sync::atomic::Ordering;

use super::Core;
use crate::error::{IoContext, Result};

impl Core {
    /// Syncs the logs, gives back what was filled ahead and writes their lengths into the manifest, so that the next open
    /// can tell any later change of a file from a crash. Without changes since the manifest was written it does nothing.
    pub(crate) fn close(&self) -> Result<()> {
        let _told = self.wal.directory.notices().tell_at_end();
        self.wal.directory.poison().check()?;
        if !self.changed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _rotation = self.rotation.lock();
        for shard in &self.shards {
            if let Some(active) = &mut shard.state.lock().active {
                active.wal.trim()?;
            }
        }
        let mut publish = self.publish.lock();
        let version = self.source.version();
        let manifest = self.manifest_of(&publish, &version, |_| true);
        publish.manifest.replace(&manifest)?;
        self.changed.store(false, Ordering::Relaxed);
        self.unlink_replaced(&mut publish);
        let wal_dir = self.wal.directory.wal_dir();
        self.wal.directory.disk().sync_dir(&wal_dir).at("sync", &wal_dir)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, dir = %self.wal.directory.root().display(), "the engine was not closed cleanly");
        }
    }
}
