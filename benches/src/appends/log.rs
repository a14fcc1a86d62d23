//! An entry log as one who takes appends.

use std::path::Path;

use anyhow::Result;
use keplordb_log::{Log, Options, SyncPolicy, Writer};

use super::{GROUP_BYTES, GROUP_EVENTS, Kind, Load, SyncMode, Target};

/// One log that all threads share; it takes entries of as many bytes as an event has in the engine's log.
pub const LOG: Kind = Kind {
    name: "keplordb-log",
    can: |_, _| true,
    open: |dir, load| Ok(Box::new(EntryLog::open(dir, load)?)),
};

struct EntryLog<'a> {
    writer: Writer,
    load: Load<'a>,
}

impl<'a> EntryLog<'a> {
    fn open(dir: &Path, load: Load<'a>) -> Result<Self> {
        let sync = match load.sync {
            SyncMode::Each => SyncPolicy::Each,
            SyncMode::Group => SyncPolicy::Every { entries: GROUP_EVENTS.into(), bytes: GROUP_BYTES },
            SyncMode::None => SyncPolicy::Never,
        };
        let writer = Log::open_with(dir, Options { sync, ..Options::default() })?.writer()?;
        Ok(Self { writer, load })
    }
}

impl Target for EntryLog<'_> {
    fn append(&self, _: usize, turn: usize) -> Result<()> {
        self.writer.write_batch(self.load.entries(turn))?;
        Ok(())
    }

    fn syncs(&self) -> u64 {
        self.writer.stats().syncs
    }
}
