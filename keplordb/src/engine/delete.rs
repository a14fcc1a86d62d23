//! Deletes: a tombstone on disk, then a version without the row.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use roaring::{RoaringBitmap, RoaringTreemap};

use super::Core;
use super::publish::Publish;
use crate::error::Result;
use crate::format::block::Block;
use crate::format::tombstones::Tombstone;
use crate::read::point::{find_row, rows_of_id};
use crate::state::version::{MemtableEntry, SegmentEntry, Version};
use crate::storage::tombstones::TombstoneLog;

impl Core {
    /// Deletes every live row of each id and returns how many of the ids had one. One sync; on return it is on disk and
    /// seen by every query. Nothing is written when no id is there.
    pub(crate) fn delete_events(&self, ids: &[&str]) -> Result<usize> {
        let _told = self.wal.directory.notices().tell_at_end();
        self.freeing(self.delete(ids))
    }

    fn delete(&self, ids: &[&str]) -> Result<usize> {
        // Held from the look-up on: a rotation that would move the rows publishes before or after.
        let mut publish = self.publish.lock();
        let view = self.source.view();
        let mut tombstones = Vec::new();
        let mut found = 0;
        let mut seen = HashSet::new();
        for id in ids.iter().filter(|id| seen.insert(**id)) {
            let rows = rows_of_id(&view, id, self.source.context())?;
            found += usize::from(!rows.is_empty());
            tombstones.extend(rows.iter().map(|row| Tombstone { ts_ns: row.ts, sequence: row.sequence }));
        }
        if tombstones.is_empty() {
            return Ok(0);
        }
        // What can fail comes before the commit point, which is the tombstones' sync.
        let mut version = Version::clone(&self.source.version());
        bury(&mut version, &tombstones)?;
        let log = self.tombstone_log(&mut publish)?;
        log.append(&tombstones)?;
        self.tombstones.store(log.rows(), Ordering::Relaxed);
        self.source.show(version);
        Ok(found)
    }

    /// The log that takes tombstones. The first one of a table counts from its manifest on, so it is made before.
    fn tombstone_log<'p>(&self, publish: &'p mut Publish) -> Result<&'p mut TombstoneLog> {
        self.wal.directory.poison().check()?;
        self.begin_writing_under(publish)?;
        if publish.tombstones.is_none() {
            publish.tombstones = Some(TombstoneLog::create(&self.wal, FIRST_TOMBSTONE_LOG, &[])?);
            let version = Version::clone(&self.source.version());
            if let Err(error) = self.commit_version(publish, version, Vec::new()) {
                // The next attempt makes the file anew.
                publish.tombstones = None;
                return Err(error);
            }
        }
        match &mut publish.tombstones {
            Some(log) => Ok(log),
            None => unreachable!("made above"),
        }
    }
}

/// The number of a table's first tombstone log.
pub(crate) const FIRST_TOMBSTONE_LOG: u64 = 1;

/// Marks the rows of these tombstones as deleted. One whose row is nowhere says nothing.
fn bury(version: &mut Version, tombstones: &[Tombstone]) -> Result<()> {
    for entry in &mut version.segments {
        bury_in_segment(entry, tombstones)?;
    }
    for entry in &mut version.memtables {
        bury_in_memtable(entry, tombstones);
    }
    Ok(())
}

/// As [`bury`], in one segment.
pub(crate) fn bury_in_segment(entry: &mut SegmentEntry, tombstones: &[Tombstone]) -> Result<()> {
    let facts = &entry.segment.header().facts;
    let may_hold = |tombstone: &&Tombstone| {
        (facts.ts_min..=facts.ts_max).contains(&tombstone.ts_ns)
            && (facts.sequence_min..=facts.sequence_max).contains(&tombstone.sequence)
    };
    let mut rows = RoaringBitmap::new();
    let mut candidates = tombstones.iter().filter(may_hold).peekable();
    if candidates.peek().is_none() {
        return Ok(());
    }
    let open = entry.segment.read()?;
    for tombstone in candidates {
        if let Some(row) = find_row(&open, tombstone.ts_ns, tombstone.sequence)? {
            rows.insert(row);
        }
    }
    if !rows.is_empty() {
        if let Some(before) = &entry.deleted {
            rows |= before.as_ref();
        }
        entry.deleted = Some(Arc::new(rows));
    }
    Ok(())
}

/// As [`bury`], in one memtable.
pub(crate) fn bury_in_memtable(entry: &mut MemtableEntry, tombstones: &[Tombstone]) {
    let blocks = entry.memtable.blocks();
    let holds = |tombstone: &&Tombstone| {
        let place = |block: &Block| block.sequence().binary_search(&tombstone.sequence).ok();
        let is_row =
            |block: &Block| place(block).and_then(|row| block.ts().get(row)) == Some(&tombstone.ts_ns);
        blocks.iter().any(|block| is_row(block))
    };
    let mut sequences: RoaringTreemap = tombstones.iter().filter(holds).map(|row| row.sequence).collect();
    if !sequences.is_empty() {
        if let Some(before) = &entry.deleted {
            sequences |= before.as_ref();
        }
        entry.deleted = Some(Arc::new(sequences));
    }
}
