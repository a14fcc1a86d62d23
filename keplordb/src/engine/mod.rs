//! Everything that changes state: the core of an engine, its fields and their locks.
//!
//! **Locks, in the order in which they are taken**: `compaction` → `rotation` → a shard's `state` → `publish` → leaves (a memtable's
//! blocks, a syncer, the map cache). Who holds a later one never takes an earlier one. Syncs of appends happen outside all
//! of them. Every call that changes something begins with `tell_at_end`: what it noted for operators is told when it
//! holds no lock.

mod append;
mod checkpoint;
mod claim;
mod close;
mod compact;
mod delete;
mod describe;
mod follow;
mod gc;
mod inspect;
mod look;
mod maintain;
mod merge;
mod orphan;
mod publish;
mod put;
mod quarantine;
mod rebuild;
mod recover;
mod report;
mod rotate;
mod shard;
mod space;
mod stats;
mod unlink;
mod verify;

pub use append::Appended;
pub(crate) use append::{check_batch, check_row, encoded_bytes};
pub use compact::{Budget, Compacted};
pub use describe::{Description, describe_file};
pub(crate) use follow::Follower;
pub use follow::Refreshed;
pub use gc::GcStats;
pub use inspect::{
    InspectedLog, InspectedSection, InspectedSegment, InspectedTombstones, Inspection, LogContents,
    SectionContents, SegmentContents, TombstoneContents, inspect_dir,
};
pub use maintain::Maintained;
pub use quarantine::Quarantined;
pub use report::{OpenReport, TornTail};
pub use rotate::Flushed;
pub use space::{SectionSpace, Space};
pub use stats::Stats;
pub use verify::{Depth, Problem, VerifyReport, verify_dir};

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use keplordb_disk::Lock;
use parking_lot::Mutex;

use crate::config::{EngineConfig, Options};
use crate::error::DbError;
use crate::read::source::Source;
use crate::storage::map_cache::MapCache;
use crate::storage::wal::WalContext;
use publish::Publish;
use shard::Shard;

/// An open engine, whatever its columns: `Engine` and `Store` are typed shells over it.
pub(crate) struct Core {
    config: EngineConfig,
    options: Options,
    /// The columns, and what readers see: a version, replaced under `publish` only.
    source: Source,
    /// The directory and the count of syncs.
    wal: WalContext,
    segments: Arc<MapCache>,
    report: OpenReport,

    shards: Vec<Shard>,
    /// Held from sealing to publishing: one rotation at a time, so that at most one sealed generation of a shard waits.
    rotation: Mutex<()>,
    /// One compaction at a time. It takes `publish` only to begin and to end a step, so all else goes on.
    compaction: Mutex<()>,
    /// The manifest's side of the state: next numbers, live WALs, tombstones, files to unlink.
    publish: Mutex<Publish>,
    /// Tombstones in the log of deletes; written under `publish`.
    tombstones: AtomicU64,
    /// The last failure of something that no caller was told of.
    last_error: Mutex<Option<DbError>>,
    /// Whether the manifest is one of this run that says that the table is being written, and where its sequences begin.
    is_writing: AtomicBool,
    /// Whether a clean close has a manifest to write.
    must_close: AtomicBool,
    /// Released last.
    lock: Mutex<Lock>,
}

impl fmt::Debug for Core {
    /// Where and how much; never an event's contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Core");
        text.field("dir", &self.config.data_dir).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Core {
    /// What queries are put to.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The directory of the table.
    pub(crate) fn root(&self) -> &Path {
        self.wal.directory.root()
    }

    pub(crate) fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Records a failure that the caller at hand is not told of, because what he asked for succeeded.
    fn note(&self, what: &'static str, error: DbError) {
        self.wal.directory.notices().warn(what, None, &error);
        *self.last_error.lock() = Some(error);
    }
}
