//! What a caller can set: [`EngineConfig`], the shape that programs in the field fill in, and [`Options`] for the rest.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keplordb_disk::{Disk, RealDisk};

use crate::error::{DbError, Result};
use crate::schema::{MAX_DIMS, TableSchema};

/// Most shards an engine may have.
pub const MAX_SHARDS: usize = 64;

/// Largest memtable that a shard may have, not counting the last batch: the strings of one segment must stay below 4 GiB.
pub(crate) const MAX_MEMTABLE_BYTES: usize = 2 << 30;

/// How an engine keeps its files.
///
/// | field | default |
/// | --- | --- |
/// | `wal_max_events` | 500000 |
/// | `wal_sync_interval` | 64 |
/// | `wal_sync_bytes` | 262144 |
/// | `mmap_cache_capacity` | 256 |
/// | `wal_shard_count` | 4 |
/// | `rollup_replay_days` | 7 |
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where the files are; created with its parents.
    pub data_dir: PathBuf,
    /// Rows of a shard's log that make it rotate into a segment; at least 1. Larger: fewer, larger segments, more
    /// memory (a row costs its bytes until then); smaller: more segments, each a little work for every query.
    pub wal_max_events: u32,
    /// A sync after this many events of a shard: 1 = with every append, `u32::MAX` = never by count. Up to this many
    /// events **of each shard** may be lost by a power cut, none by a killed process.
    pub wal_sync_interval: u32,
    /// … or after this many bytes of a shard, whichever comes first.
    pub wal_sync_bytes: u64,
    /// Which schema the program means; a directory of another id is refused.
    pub schema_id: u8,
    /// The dim whose segments carry a bloom filter; [`NO_BLOOM`](Self::NO_BLOOM), or any number that is no dim, for
    /// none.
    pub bloom_dim: usize,
    /// The dims of the day rollups; their order is the order of `RollupKey::dims`.
    pub rollup_dims: Vec<usize>,
    /// How many segments stay mapped into memory; at least 1. Those of up to 8 KiB are read instead and do not count; at most
    /// 1,024 of them are held.
    pub mmap_cache_capacity: usize,
    /// How many logs are written side by side, 1 to 64. More: more writers without waiting; fewer: more shared syncs.
    /// May differ from open to open.
    pub wal_shard_count: usize,
    /// Kept for programs that set it; rollups are stored in segments, so it bounds nothing.
    pub rollup_replay_days: u32,
}

impl EngineConfig {
    /// The `bloom_dim` that is none.
    pub const NO_BLOOM: usize = usize::MAX;

    /// Checks every field.
    ///
    /// # Errors
    /// [`DbError::Invalid`] names the field and its rule.
    pub fn validate(&self) -> Result<()> {
        if self.wal_max_events == 0 {
            return Err(DbError::invalid("wal_max_events", "must be at least 1"));
        }
        if self.wal_sync_interval == 0 {
            return Err(DbError::invalid("wal_sync_interval", "must be at least 1 (1 = sync every append)"));
        }
        if self.wal_sync_bytes == 0 {
            return Err(DbError::invalid("wal_sync_bytes", "must be at least 1"));
        }
        if self.mmap_cache_capacity == 0 {
            return Err(DbError::invalid("mmap_cache_capacity", "must be at least 1"));
        }
        if self.wal_shard_count == 0 || self.wal_shard_count > MAX_SHARDS {
            let why = format!("{} shards, 1 to {MAX_SHARDS} are possible", self.wal_shard_count);
            return Err(DbError::invalid("wal_shard_count", why));
        }
        if self.rollup_dims.len() > MAX_DIMS {
            return Err(DbError::invalid("rollup_dims", format!("more than {MAX_DIMS} dims")));
        }
        if let Some(doubled) =
            self.rollup_dims.iter().enumerate().find(|(i, d)| self.rollup_dims[..*i].contains(d))
        {
            return Err(DbError::invalid("rollup_dims", format!("dim {} is named twice", doubled.1)));
        }
        Ok(())
    }

    /// Checks every field, also against the columns of a table.
    pub(crate) fn validate_for(&self, schema: &TableSchema) -> Result<()> {
        self.validate()?;
        schema.validate()?;
        let dims = schema.shape().dims;
        match self.rollup_dims.iter().find(|dim| **dim >= dims) {
            Some(dim) => Err(DbError::invalid("rollup_dims", format!("dim {dim} of a table with {dims}"))),
            None => Ok(()),
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::new(),
            wal_max_events: 500_000,
            wal_sync_interval: 64,
            wal_sync_bytes: 256 << 10,
            schema_id: 0,
            bloom_dim: 0,
            rollup_dims: Vec::new(),
            mmap_cache_capacity: 256,
            wal_shard_count: 4,
            rollup_replay_days: 7,
        }
    }
}

/// When an append is on disk.
///
/// In every mode an append is in the operating system's hands when it returns, so a killed process loses nothing;
/// the modes differ in what a power cut can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before the append returns. Callers that append at the same time share a sync.
    Always,
    /// Once per so many events or bytes of a shard, whichever comes first; what came since the last one may be lost,
    /// for as long as no further append or [`sync`](crate::Engine::sync) comes.
    Every {
        /// Events of a shard.
        events: u32,
        /// Bytes of a shard's log.
        bytes: u64,
    },
    /// When the operating system pleases, and at a clean close.
    Os,
}

/// How segments are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MapMode {
    /// Mapped into memory: no copy, and the page cache is shared. Another program that shortens a segment while it is
    /// mapped kills this process with SIGBUS.
    #[default]
    Map,
    /// Read into memory of our own.
    Read,
}

/// How long and how much a table keeps; without limits unless they are set. Applied by [`maintain`](crate::Engine::maintain)
/// and nothing else, to whole segments, the oldest first: a segment goes when its *newest* event is over the limit.
///
/// ```
/// use keplordb::{Options, Retention};
/// use std::time::Duration;
///
/// let month = Duration::from_secs(30 * 24 * 3600);
/// let options = Options::default().retention(Retention::default().max_age(month).max_bytes(10 << 30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Retention {
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_bytes: Option<u64>,
}

impl Retention {
    /// Events older than this go, by the system's clock; at the latest when their segment's newest event is that old. Segments
    /// are then merged only as long as they span at most an eighth of it, and `maintain` makes a segment of a log whose oldest
    /// event is older than that.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// The oldest segments go while segments and logs have more bytes than this. Merged segments have at most an eighth of it;
    /// logs count and do not go, so allow for [`memtable_bytes`](Options::memtable_bytes) of each shard.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }
}

/// What an open does about damaged and missing files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCorruption {
    /// It fails, says what is wrong with the first of them, and changes nothing. Files that an older manifest does not know are no damage,
    /// and set aside all the same: [`OpenReport::quarantined`](crate::OpenReport::quarantined).
    #[default]
    Fail,
    /// It sets them aside in the folder `quarantine/`, goes on with what is left, and says in
    /// [`OpenReport::quarantined`](crate::OpenReport::quarantined) what is missing. Nothing is deleted.
    ///
    /// Every checksum of every file is read first. A damaged segment is moved away whole. Of a damaged log, which is kept there whole too,
    /// every frame that still has its checksums stays in service. Where deletes are lost, deleted rows may be back; the report
    /// says so. For an open after damage, not for every day: rows go missing without an error.
    Quarantine,
}

/// Everything that [`EngineConfig`] has no field for; each setter can be chained.
///
/// ```
/// use keplordb::{Options, Sync};
///
/// let options = Options::default().sync(Sync::Os).memtable_bytes(16 << 20);
/// ```
///
/// | option | default |
/// | --- | --- |
/// | `sync` | `Always` |
/// | `memtable_bytes` | 67108864 |
/// | `unlink_grace_s` | 60 |
/// | `map_mode` | `Map` |
/// | `merge_rows` | 32768 |
/// | `merge_span` | none |
/// | `retention` | none |
/// | `on_corruption` | `Fail` |
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    pub(crate) schema: Option<TableSchema>,
    pub(crate) sync: Sync,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) pool: Option<Arc<rayon::ThreadPool>>,
    pub(crate) memtable_bytes: usize,
    pub(crate) unlink_grace: Duration,
    pub(crate) map_mode: MapMode,
    pub(crate) merge_rows: u64,
    pub(crate) merge_span: Option<Duration>,
    pub(crate) retention: Retention,
    pub(crate) on_corruption: OnCorruption,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schema: None,
            sync: Sync::Always,
            disk: Arc::new(RealDisk),
            pool: None,
            memtable_bytes: 64 << 20,
            unlink_grace: Duration::from_secs(60),
            map_mode: MapMode::Map,
            merge_rows: 32_768,
            merge_span: None,
            retention: Retention::default(),
            on_corruption: OnCorruption::Fail,
        }
    }
}

impl Options {
    /// The columns' names; without them an engine counts its columns, or takes the stored names.
    pub fn schema(mut self, schema: TableSchema) -> Self {
        self.schema = Some(schema);
        self
    }

    /// When an append is on disk.
    pub fn sync(mut self, sync: Sync) -> Self {
        self.sync = sync;
        self
    }

    /// The disk: the operating system's unless given; [`keplordb_disk::MemoryDisk`] keeps all in memory.
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Threads for large scans; rayon's global pool unless given. Rotations have threads of their own while they last.
    pub fn pool(mut self, pool: Arc<rayon::ThreadPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// A shard rotates when its memtable has this many bytes, if `wal_max_events` has not made it do so before. At most
    /// 2 GiB count. Larger: fewer segments; smaller: less memory.
    pub fn memtable_bytes(mut self, bytes: usize) -> Self {
        self.memtable_bytes = bytes.min(MAX_MEMTABLE_BYTES);
        self
    }

    /// How long replaced files stay, so that a plain copy of a live directory that takes less finds every row in one
    /// of two places.
    pub fn unlink_grace(mut self, grace: Duration) -> Self {
        self.unlink_grace = grace;
        self
    }

    /// What an open does about damaged and missing files.
    pub fn on_corruption(mut self, on_corruption: OnCorruption) -> Self {
        self.on_corruption = on_corruption;
        self
    }

    /// How segments are read.
    pub fn map_mode(mut self, mode: MapMode) -> Self {
        self.map_mode = mode;
        self
    }

    /// Whoever writes a segment (a flush, or the append that fills a shard) merges small neighbours into it, as long as the
    /// result has at most so many rows; 0: never. Larger: fewer segments, longer pauses of the call that merges (about a
    /// millisecond per thousand rows), and each row is copied once more for each factor of eight. Larger merges are left to
    /// [`compact`](crate::Engine::compact).
    pub fn merge_rows(mut self, rows: u64) -> Self {
        self.merge_rows = rows;
        self
    }

    /// From the first to the last event of a segment that a merge makes, [`compact`](crate::Engine::compact)'s included, there
    /// is at most this time; without it any. [`gc`](crate::Engine::gc) drops whole segments: set it to the granularity in
    /// which you want to forget, a day for instance. Larger: fewer segments; smaller: nearer to the cutoff. A [`Retention`] by
    /// age bounds it too.
    pub fn merge_span(mut self, span: Duration) -> Self {
        self.merge_span = Some(span);
        self
    }

    /// What [`maintain`](crate::Engine::maintain) forgets by itself.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.memtable_bytes == 0 {
            return Err(DbError::invalid("memtable_bytes", "must be at least 1"));
        }
        if let Sync::Every { events, bytes } = self.sync
            && (events == 0 || bytes == 0)
        {
            return Err(DbError::invalid("sync", "Every needs at least 1 event and 1 byte"));
        }
        match &self.schema {
            Some(schema) => schema.validate(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables above are what users read; they must be what they get.
    #[test]
    fn documented_defaults_are_the_defaults() {
        let source = include_str!("config.rs");
        let documented = |name: &str| {
            let row = source.lines().find(|line| line.starts_with(&format!("/// | `{name}` |"))).unwrap();
            row.split('|').nth(2).unwrap().trim().trim_matches('`').to_owned()
        };
        let config = EngineConfig::default();
        assert_eq!(documented("wal_max_events"), config.wal_max_events.to_string());
        assert_eq!(documented("wal_sync_interval"), config.wal_sync_interval.to_string());
        assert_eq!(documented("wal_sync_bytes"), config.wal_sync_bytes.to_string());
        assert_eq!(documented("mmap_cache_capacity"), config.mmap_cache_capacity.to_string());
        assert_eq!(documented("wal_shard_count"), config.wal_shard_count.to_string());
        assert_eq!(documented("rollup_replay_days"), config.rollup_replay_days.to_string());
        let options = Options::default();
        assert_eq!(documented("sync"), format!("{:?}", options.sync));
        assert_eq!(documented("memtable_bytes"), options.memtable_bytes.to_string());
        assert_eq!(documented("unlink_grace_s"), options.unlink_grace.as_secs().to_string());
        assert_eq!(documented("map_mode"), format!("{:?}", options.map_mode));
        assert_eq!(documented("merge_rows"), options.merge_rows.to_string());
        assert_eq!((documented("merge_span"), options.merge_span), ("none".to_owned(), None));
        assert_eq!((documented("retention"), options.retention), ("none".to_owned(), Retention::default()));
        assert_eq!(documented("on_corruption"), format!("{:?}", options.on_corruption));
    }

    #[test]
    fn each_field_has_its_rule() {
        assert!(EngineConfig::default().validate().is_ok());
        let refused = |config: EngineConfig| config.validate().unwrap_err().to_string();
        let base = EngineConfig::default;
        assert!(
            refused(EngineConfig { wal_max_events: 0, ..base() }).starts_with("wal_max_events is not legal")
        );
        assert!(refused(EngineConfig { wal_sync_interval: 0, ..base() }).starts_with("wal_sync_interval"));
        assert!(refused(EngineConfig { wal_sync_bytes: 0, ..base() }).starts_with("wal_sync_bytes"));
        assert!(
            refused(EngineConfig { mmap_cache_capacity: 0, ..base() }).starts_with("mmap_cache_capacity")
        );
        assert!(refused(EngineConfig { wal_shard_count: 65, ..base() }).starts_with("wal_shard_count"));
        assert!(refused(EngineConfig { rollup_dims: vec![1, 1], ..base() }).starts_with("rollup_dims"));
    }
}
