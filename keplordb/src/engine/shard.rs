//! A shard: one WAL, one memtable, one lock.

use std::cell::Cell;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::state::memtable::Memtable;
use keplordb_log::file::FrameFile;

/// One of the logs that an engine writes side by side.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) state: Mutex<ShardState>,
}

/// What the shard's lock guards.
#[derive(Debug, Default)]
pub(crate) struct ShardState {
    /// Made with the first append, and anew after each rotation: an idle shard costs nothing.
    pub(crate) active: Option<Active>,
}

/// The generation that takes rows.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) wal: FrameFile,
    pub(crate) memtable: Arc<Memtable>,
}

impl Active {
    /// Whether the generation is due to become a segment.
    pub(crate) fn is_full(&self, max_rows: u32, max_bytes: usize) -> bool {
        self.memtable.rows() >= u64::from(max_rows) || self.memtable.memory_bytes() >= max_bytes
    }
}

thread_local! {
    /// The shard that this thread wrote last.
    static KEPT: Cell<usize> = const { Cell::new(0) };
}

/// Locks a shard for this thread: the one it wrote last, or the next that is free.
///
/// All threads start at the first and move on only when they would have to wait. So few writers meet and share syncs,
/// many spread out, and one writer's rows stay in order in one log.
pub(crate) fn lock_one(shards: &[Shard]) -> (usize, MutexGuard<'_, ShardState>) {
    let kept = KEPT.get() % shards.len();
    for index in (kept..shards.len()).chain(0..kept) {
        if let Some(state) = shards[index].state.try_lock() {
            KEPT.set(index);
            return (index, state);
        }
    }
    (kept, shards[kept].state.lock())
}
