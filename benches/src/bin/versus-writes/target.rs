//! What is written to: an engine, or bare files. Both take the same batches of the same size, at the same sync mode.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use clap::ValueEnum;
use keplordb::{Engine, EngineConfig, Options, Sync};
use keplordb_benches::workload::Event;

/// Events and bytes after which `group` syncs: `EngineConfig`'s defaults.
const GROUP_EVENTS: u32 = 64;
const GROUP_BYTES: u64 = 256 << 10;

/// When an append is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SyncMode {
    /// Before it returns.
    Each,
    /// Once per 64 events or 256 KiB of a log, whichever comes first.
    Group,
    /// When the operating system pleases.
    None,
}

impl SyncMode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::Group => "group",
            Self::None => "none",
        }
    }

    fn policy(self) -> Sync {
        match self {
            Self::Each => Sync::Always,
            Self::Group => Sync::Every { events: GROUP_EVENTS, bytes: GROUP_BYTES },
            Self::None => Sync::Os,
        }
    }
}

/// What a cell writes, whoever writes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) sync: SyncMode,
    pub(crate) threads: usize,
    pub(crate) batch_events: usize,
    /// The events that are cycled through.
    pub(crate) events: &'a [Event],
    /// Bytes that bare files take theirs from.
    pub(crate) bytes: &'a [u8],
    /// Bytes of the frame that the engine writes for a batch; bare files write as many.
    pub(crate) frame_bytes: usize,
    /// Whether the engine keeps `EngineConfig`'s defaults and so rotates; it never does otherwise.
    pub(crate) rotates: bool,
}

/// One who takes appends, from several threads at once.
pub(crate) trait Target: Send + std::marker::Sync {
    /// Appends the batch of this turn.
    fn append(&self, thread: usize, turn: usize) -> Result<()>;
    /// Syncs so far.
    fn syncs(&self) -> u64;
    /// Rotations so far.
    fn rotations(&self) -> usize;
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The engine.
    KeplorDb,
    /// One file behind a mutex.
    Raw,
    /// One file per thread.
    RawSharded,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::KeplorDb, Self::Raw, Self::RawSharded];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KeplorDb => "keplordb",
            Self::Raw => "raw",
            Self::RawSharded => "raw-sharded",
        }
    }

    /// Opens the target in an empty directory.
    pub(crate) fn open<'a>(self, dir: &Path, load: Load<'a>) -> Result<Box<dyn Target + 'a>> {
        Ok(match self {
            Self::KeplorDb => Box::new(Table::open(dir, load)?),
            Self::Raw => Box::new(BareFiles::open(dir, load, 1)?),
            Self::RawSharded => Box::new(BareFiles::open(dir, load, load.threads)?),
        })
    }
}

struct Table<'a> {
    engine: Engine<2, 1, 1>,
    load: Load<'a>,
}

impl<'a> Table<'a> {
    fn open(dir: &Path, load: Load<'a>) -> Result<Self> {
        let mut config = EngineConfig::in_dir(dir);
        let mut options = Options::default().sync(load.sync.policy());
        if !load.rotates {
            config.wal_max_events = u32::MAX;
            options = options.memtable_bytes(usize::MAX);
        }
        Ok(Self { engine: Engine::open_with(config, options)?, load })
    }
}

impl Target for Table<'_> {
    fn append(&self, _: usize, turn: usize) -> Result<()> {
        let batch_events = self.load.batch_events;
        if batch_events == 1 {
            self.engine.append(&self.load.events[turn % self.load.events.len()])?;
        } else {
            let start = turn % (self.load.events.len() / batch_events) * batch_events;
            self.engine.append_batch(&self.load.events[start..start + batch_events])?;
        }
        Ok(())
    }

    fn syncs(&self) -> u64 {
        self.engine.stats().syncs
    }

    fn rotations(&self) -> usize {
        self.engine.segment_count()
    }
}

/// One `write(2)` per batch, from memory that is ready, and `fdatasync(2)`: no checksum, no copy, no recovery.
struct BareFiles<'a> {
    files: Vec<Mutex<BareFile>>,
    syncs: AtomicU64,
    load: Load<'a>,
}

struct BareFile {
    file: File,
    unsynced_events: u64,
    unsynced_bytes: u64,
}

impl<'a> BareFiles<'a> {
    fn open(dir: &Path, load: Load<'a>, count: usize) -> Result<Self> {
        let open = |number| -> Result<_> {
            let path = dir.join(format!("{number}.log"));
            let file =
                OpenOptions::new().create_new(true).append(true).open(path).context("make a bare file")?;
            Ok(Mutex::new(BareFile { file, unsynced_events: 0, unsynced_bytes: 0 }))
        };
        let files = (0..count).map(open).collect::<Result<_>>()?;
        Ok(Self { files, syncs: AtomicU64::new(0), load })
    }
}

impl Target for BareFiles<'_> {
    fn append(&self, thread: usize, turn: usize) -> Result<()> {
        let Load { sync, batch_events, bytes, frame_bytes, .. } = self.load;
        let start = turn % (bytes.len() / frame_bytes) * frame_bytes;
        let mut guard = self.files[thread % self.files.len()].lock().expect("a writer panicked");
        let BareFile { file, unsynced_events, unsynced_bytes } = &mut *guard;
        file.write_all(&bytes[start..start + frame_bytes])?;
        *unsynced_events += batch_events as u64;
        *unsynced_bytes += frame_bytes as u64;
        let is_due = match sync {
            SyncMode::Each => true,
            SyncMode::Group => *unsynced_events >= u64::from(GROUP_EVENTS) || *unsynced_bytes >= GROUP_BYTES,
            SyncMode::None => false,
        };
        if is_due {
            (*unsynced_events, *unsynced_bytes) = (0, 0);
            file.sync_data()?;
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn rotations(&self) -> usize {
        0
    }
}
