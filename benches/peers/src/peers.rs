//! The peers: how each opens a log and takes a batch.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Result, anyhow};
use keplordb_benches::appends::{Kind, Load, SyncMode, Target};

/// Entries that a batch of walrus holds at most.
const WALRUS_BATCH: usize = 2000;

/// One entry per batch, one chunk per event; commits are grouped across threads, and all are synced.
pub(crate) const OKAYWAL: Kind = Kind {
    name: "okaywal",
    can: |sync, _| sync == SyncMode::Each,
    open: |dir, load| {
        // Larger files than its defaults, made ahead: what suits it best here.
        let configuration = okaywal::Configuration::default_for(dir)
            .preallocate_bytes(64 << 20)
            .checkpoint_after_bytes(48 << 20)
            .buffer_bytes(1 << 20);
        Ok(Box::new(OkayWal { log: configuration.open(okaywal::LogVoid)?, load }))
    },
};

/// One topic per thread; batches go through `io_uring`, with a sync each.
pub(crate) const WALRUS: Kind = Kind {
    name: "walrus",
    can: |sync, batch| sync == SyncMode::Each || (sync == SyncMode::None && batch == 1),
    open: |dir, load| {
        let schedule = match load.sync {
            SyncMode::Each => walrus_rust::FsyncSchedule::SyncEach,
            SyncMode::Group | SyncMode::None => walrus_rust::FsyncSchedule::NoFsync,
        };
        let reads = walrus_rust::ReadConsistency::AtLeastOnce { persist_every: 1000 };
        // Its directory is a process's; a log in it has a key.
        let key = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let log = walrus_rust::Walrus::with_consistency_and_schedule_for_key(&key, reads, schedule)?;
        let topics = (0..load.threads).map(|thread| format!("events-{thread}")).collect();
        Ok(Box::new(Walrus { log, topics, load }))
    },
};

/// One message per event behind a mutex; its `flush` reaches the page cache only.
pub(crate) const COMMITLOG: Kind = Kind {
    name: "commitlog",
    can: |sync, _| sync == SyncMode::None,
    open: |dir, load| {
        let log = commitlog::CommitLog::new(commitlog::LogOptions::new(dir))?;
        Ok(Box::new(CommitLog { log: Mutex::new(log), load }))
    },
};

/// For the beginning of the program: tells walrus where its files go.
pub(crate) fn prepare(parent: &Path) {
    // SAFETY: the program has only this thread yet.
    unsafe {
        std::env::set_var("WALRUS_DATA_DIR", parent.join("walrus"));
        std::env::set_var("WALRUS_QUIET", "1");
    }
}

struct OkayWal<'a> {
    log: okaywal::WriteAheadLog,
    load: Load<'a>,
}

impl Target for OkayWal<'_> {
    fn append(&self, _: usize, turn: usize) -> Result<()> {
        let mut entry = self.log.begin_entry()?;
        for event in self.load.entries(turn) {
            entry.write_chunk(event)?;
        }
        entry.commit()?;
        Ok(())
    }

    /// Unknown: it does not say.
    fn syncs(&self) -> u64 {
        0
    }
}

struct Walrus<'a> {
    log: walrus_rust::Walrus,
    topics: Vec<String>,
    load: Load<'a>,
}

impl Target for Walrus<'_> {
    fn append(&self, thread: usize, turn: usize) -> Result<()> {
        let topic = &self.topics[thread];
        let entries: Vec<&[u8]> = self.load.entries(turn).collect();
        for part in entries.chunks(WALRUS_BATCH) {
            match part {
                [event] => self.log.append_for_topic(topic, event)?,
                events => self.log.batch_append_for_topic(topic, events)?,
            }
        }
        Ok(())
    }

    /// Unknown: it does not say.
    fn syncs(&self) -> u64 {
        0
    }
}

struct CommitLog<'a> {
    log: Mutex<commitlog::CommitLog>,
    load: Load<'a>,
}

impl Target for CommitLog<'_> {
    fn append(&self, _: usize, turn: usize) -> Result<()> {
        let mut messages = commitlog::message::MessageBuf::default();
        for event in self.load.entries(turn) {
            messages.push(event).map_err(|error| anyhow!("{error:?}"))?;
        }
        let mut log = self.log.lock().expect("a writer panicked");
        log.append(&mut messages).map_err(|error| anyhow!("{error:?}"))?;
        Ok(())
    }

    fn syncs(&self) -> u64 {
        0
    }
}
