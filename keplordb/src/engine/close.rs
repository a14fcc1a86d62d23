//! Closing: every log is synced, and the manifest says how long it is.

use std::sync::atomic::Ordering;

use super::Core;
use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::storage::manifest::Room;

impl Core {
    /// Syncs the logs, gives back what was filled ahead and writes their lengths into the manifest, so that the next open
    /// can tell any later change of a file from a crash. Without a write since the last close it does nothing.
    pub(crate) fn close(&self) -> Result<()> {
        let _told = self.wal.directory.notices().tell_at_end();
        self.wal.directory.poison().check()?;
        if !self.must_close.load(Ordering::Acquire) {
            return Ok(());
        }
        let _rotation = self.rotation.lock();
        // All of them until the manifest is written: what it says of their lengths is exact.
        let mut shards: Vec<_> = self.shards.iter().map(|shard| shard.state.lock()).collect();
        for state in &mut shards {
            if let Some(active) = &mut state.active {
                active.wal.trim()?;
            }
        }
        let mut publish = self.publish.lock();
        for active in &mut publish.unclosed {
            active.wal.trim()?;
        }
        self.unlink_due(&mut publish);
        self.wal.directory.poison().check()?;
        let version = self.source.version();
        let manifest = Manifest { closed: true, ..self.manifest_of(&publish, &version, |_| true) };
        let room = publish.manifest.replace(&manifest)?;
        self.is_writing.store(false, Ordering::Release);
        self.must_close.store(false, Ordering::Release);
        if room == Room::Full {
            self.free_replaced(&mut publish);
        }
        Ok(())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, dir = %self.wal.directory.root().display(), "the engine was not closed cleanly");
        }
    }
}
