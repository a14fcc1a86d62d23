//! What of ours is written to: an engine, and an entry log.

use std::path::Path;

use anyhow::Result;
use keplordb::{Engine, EngineConfig, Options, Sync};
use keplordb_benches::appends::{GROUP_BYTES, GROUP_EVENTS, Kind, Load, SyncMode, Target};

/// The engine.
pub(crate) const ENGINE: Kind =
    Kind { name: "keplordb", can: |_, _| true, open: |dir, load| Ok(Box::new(Table::open(dir, load)?)) };

fn policy(sync: SyncMode) -> Sync {
    match sync {
        SyncMode::Each => Sync::Always,
        SyncMode::Group => Sync::Every { events: GROUP_EVENTS, bytes: GROUP_BYTES },
        SyncMode::None => Sync::Os,
    }
}

struct Table<'a> {
    engine: Engine<2, 1, 1>,
    load: Load<'a>,
}

impl<'a> Table<'a> {
    fn open(dir: &Path, load: Load<'a>) -> Result<Self> {
        let mut config = EngineConfig::in_dir(dir);
        let mut options = Options::default().sync(policy(load.sync));
        if !load.rotates {
            config.wal_max_events = u32::MAX;
            options = options.memtable_bytes(usize::MAX);
        }
        Ok(Self { engine: Engine::open_with(config, options)?, load })
    }
}

impl Target for Table<'_> {
    fn append(&self, _: usize, turn: usize) -> Result<()> {
        match self.load.batch(turn) {
            [event] => self.engine.append(event).map(drop)?,
            events => self.engine.append_batch(events).map(drop)?,
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
