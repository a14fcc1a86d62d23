//! Deletes: a tombstone on disk, then a version without the row.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use keplordb_log::frame::MAX_PAYLOAD_BYTES;
use roaring::{RoaringBitmap, RoaringTreemap};

use super::Core;
use super::publish::Publish;
use crate::error::Result;
use crate::filter::Predicate;
use crate::format::tombstones::{TOMBSTONE_BYTES, Tombstone};
use crate::read::point::{RowKey, find_row, rows_of_id, rows_that_match};
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
        let mut rows = Vec::new();
        let mut found = 0;
        let mut seen = HashSet::new();
        for id in ids.iter().filter(|id| seen.insert(**id)) {
            let before = rows.len();
            rows.extend(rows_of_id(&view, id, self.source.context())?);
            found += usize::from(rows.len() > before);
        }
        self.bury_all(&mut publish, rows)?;
        Ok(found)
    }

    /// Deletes every live row that matches and returns how many there were. One sync; all of them go at once, or none.
    pub(crate) fn delete_where(&self, predicate: &Predicate<'_>) -> Result<u64> {
        let _told = self.wal.directory.notices().tell_at_end();
        let delete = || {
            // Found without any lock: a row keeps its key wherever it moves meanwhile, and one that is deleted or dropped
            // meanwhile is not counted.
            let rows = rows_that_match(&self.source.view(), predicate, MAX_ROWS, self.source.context())?;
            self.bury_all(&mut self.publish.lock(), rows)
        };
        self.freeing(delete())
    }

    /// Writes tombstones for rows and shows the table without them; how many of them were there. Nothing is written for
    /// none.
    fn bury_all(&self, publish: &mut Publish, rows: Vec<RowKey>) -> Result<u64> {
        if rows.is_empty() {
            return Ok(0);
        }
        let tombstone = |row: RowKey| Tombstone { ts_ns: row.ts, sequence: row.sequence };
        let mut tombstones: Vec<Tombstone> = rows.into_iter().map(tombstone).collect();
        tombstones.sort_unstable();
        // What can fail comes before the commit point, which is the tombstones' sync.
        let mut version = Version::clone(&self.source.version());
        let before = version.counted_deletes();
        bury(&mut version, &tombstones)?;
        let buried = version.counted_deletes() - before;
        version.deletes += 1;
        let log = self.tombstone_log(publish)?;
        log.append(&tombstones)?;
        self.tombstones.store(log.rows(), Ordering::Relaxed);
        self.source.show(version);
        Ok(buried)
    }

    /// The log that takes tombstones. The first one of a table counts from its manifest on, so it is made before.
    fn tombstone_log<'p>(&self, publish: &'p mut Publish) -> Result<&'p mut TombstoneLog> {
        self.wal.directory.poison().check()?;
        self.begin_writing_under(publish)?;
        if publish.tombstones.is_none() {
            publish.tombstones = Some(TombstoneLog::create(&self.wal, publish.next_tombstones, &[])?);
            let version = Version::clone(&self.source.version());
            if let Err(error) = self.commit_version(publish, version, Vec::new()) {
                // The next attempt makes the file anew.
                publish.tombstones = None;
                return Err(error);
            }
            publish.next_tombstones += 1;
        }
        match &mut publish.tombstones {
            Some(log) => Ok(log),
            None => unreachable!("made above"),
        }
    }
}

/// Most rows that one call deletes.
const MAX_ROWS: usize = MAX_PAYLOAD_BYTES as usize / TOMBSTONE_BYTES;

/// The number of a table's first tombstone log, unless a set aside one has it.
pub(crate) const FIRST_TOMBSTONE_LOG: u64 = 1;

/// Marks the rows of these tombstones, which ascend by time, as deleted. One whose row is nowhere says nothing.
fn bury(version: &mut Version, tombstones: &[Tombstone]) -> Result<()> {
    // Each looks at those of its own span alone.
    let within = |(from_ns, to_ns): (i64, i64)| {
        let start = tombstones.partition_point(|tombstone| tombstone.ts_ns < from_ns);
        let end = tombstones.partition_point(|tombstone| tombstone.ts_ns <= to_ns);
        tombstones.get(start..end).unwrap_or_default()
    };
    for entry in &mut version.segments {
        let facts = &entry.segment.header().facts;
        bury_in_segment(entry, within((facts.ts_min, facts.ts_max)))?;
    }
    for entry in &mut version.memtables {
        if let Some(times) = entry.memtable.times() {
            bury_in_memtable(entry, within(times));
        }
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
    if tombstones.is_empty() {
        return;
    }
    let mut by_sequence: Vec<&Tombstone> = tombstones.iter().collect();
    by_sequence.sort_unstable_by_key(|tombstone| tombstone.sequence);
    let mut sequences = RoaringTreemap::new();
    for block in entry.memtable.blocks().iter() {
        // The sequences of a block ascend, so each looks at those alone that can be its own.
        let (Some(first), Some(last)) = (block.sequence().first(), block.sequence().last()) else { continue };
        let start = by_sequence.partition_point(|tombstone| tombstone.sequence < *first);
        for tombstone in by_sequence.iter().skip(start).take_while(|tombstone| tombstone.sequence <= *last) {
            let row = block.sequence().binary_search(&tombstone.sequence).ok();
            if row.and_then(|row| block.ts().get(row)) == Some(&tombstone.ts_ns) {
                sequences.insert(tombstone.sequence);
            }
        }
    }
    if !sequences.is_empty() {
        if let Some(before) = &entry.deleted {
            sequences |= before.as_ref();
        }
        entry.deleted = Some(Arc::new(sequences));
    }
}
