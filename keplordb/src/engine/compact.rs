//! Compaction: fewer and larger segments, without the rows that were deleted, and without tombstones of rows that are gone.
//!
//! It goes in steps, each of which reads some segments, writes one in their place and publishes it; nothing is held up
//! meanwhile but another compaction. A crash in a step leaves a file that no manifest lists.

use std::sync::atomic::Ordering;

use super::Core;
use super::claim::{Claim, candidates};
use super::merge::{Candidate, runs_due};
use super::publish::Publish;
use super::put::Put;
use super::unlink::Replaced;
use crate::config::MAX_MEMTABLE_BYTES;
use crate::error::Result;
use crate::format::tombstones::Tombstone;
use crate::state::segment_rows::SegmentRows;
use crate::state::version::{SegmentEntry, Version};
use crate::storage::tombstones::TombstoneLog;
use keplordb_log::planted::{self, Bug};

/// Rows of a merged segment, at most: what a step has in memory, some hundred bytes for each, and what one more segment costs a
/// query, a microsecond or two, are both small then.
const COMPACTED_ROWS: u64 = 2 << 20;
/// Bytes of the files that a step merges, at most.
const COMPACTED_FILE_BYTES: u64 = 256 << 20;
/// A segment is rewritten when one in so many of its rows is deleted.
const ROWS_PER_DELETED: u64 = 4;
/// The tombstone log is written anew when one in so many of its tombstones says nothing any more.
const TOMBSTONES_PER_GONE: u64 = 4;

/// How much one call of [`compact`](crate::Engine::compact) or [`maintain`](crate::Engine::maintain) may do.
///
/// ```
/// use keplordb::Budget;
///
/// let small = Budget::rows(1_000_000); // about a second of work
/// let all = Budget::UNLIMITED;
/// assert!(small < all);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget {
    rows: u64,
}

impl Budget {
    /// As much as there is to do.
    pub const UNLIMITED: Self = Self::rows(u64::MAX);

    /// At most so many rows are written; a step that would pass it is made smaller, or not begun. A budget below the rows of
    /// the table's usual segments does little, however often it is given.
    pub const fn rows(rows: u64) -> Self {
        Self { rows }
    }
}

/// What [`compact`](crate::Engine::compact) did, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Compacted {
    /// Segments that were merged, rewritten, or dropped because all their rows are deleted. Their files go when
    /// [`unlink_grace`](crate::Options::unlink_grace) is over.
    pub segments_replaced: u64,
    /// Segments that were written in their place.
    pub segments_written: u64,
    /// Live rows in these.
    pub rows_written: u64,
    /// Deleted rows that are in no segment any more.
    pub rows_purged: u64,
    /// Tombstones of rows that are in no file any more, now forgotten themselves.
    pub tombstones_purged: u64,
    /// Rows that further calls would write as things are, if their budget allows the steps; 0: there is nothing left to do.
    pub rows_left: u64,
}

impl Core {
    pub(crate) fn compact(&self, budget: Budget) -> Result<Compacted> {
        self.compact_while(budget, &|| true)
    }

    /// Takes steps until there is none, the budget does not allow the next, or `goes_on` says no.
    pub(crate) fn compact_while(&self, budget: Budget, goes_on: &dyn Fn() -> bool) -> Result<Compacted> {
        let _told = self.wal.directory.notices().tell_at_end();
        let _compaction = self.compaction.lock();
        let mut done = Compacted::default();
        self.freeing(self.drop_deleted(&mut done))?;
        while goes_on()
            && let Some(mut claim) = self.claim_due(budget.rows.saturating_sub(done.rows_written))
        {
            self.freeing(self.replace(&mut claim, &mut done))?;
        }
        done.tombstones_purged = self.freeing(self.purge_tombstones())?;
        done.rows_left = self.rows_due();
        Ok(done)
    }

    /// Drops segments of which all rows are deleted.
    fn drop_deleted(&self, done: &mut Compacted) -> Result<()> {
        let mut publish = self.publish.lock();
        let mut version = Version::clone(&self.source.version());
        let claimed = publish.claimed.clone();
        let goes =
            |entry: &SegmentEntry| entry.live_rows() == 0 && !claimed.contains(&entry.segment.number());
        if !version.segments.iter().any(goes) {
            return Ok(());
        }
        self.begin_writing_under(&mut publish)?;
        let (gone, kept): (Vec<_>, Vec<_>) = version.segments.into_iter().partition(goes);
        version.segments = kept;
        let segments = gone.len() as u64;
        let rows: u64 = gone.iter().map(|entry| u64::from(entry.segment.header().rows)).sum();
        let replaced = gone.into_iter().map(|entry| Replaced::segment(entry.segment, None)).collect();
        self.commit_version(&mut publish, version, replaced)?;
        done.segments_replaced += segments;
        done.rows_purged += rows;
        Ok(())
    }

    /// Claims the segments of the next step that writes at most `rows`.
    fn claim_due(&self, rows: u64) -> Option<Claim<'_>> {
        let mut publish = self.publish.lock();
        let version = self.source.version();
        let numbers = self.steps_due(&publish, &version, rows).into_iter().next()?;
        let numbers = numbers.iter().map(|candidate| candidate.number).collect();
        Some(self.claim(&mut publish, &version, numbers))
    }

    /// Rows that all steps that are due would write.
    fn rows_due(&self) -> u64 {
        let publish = self.publish.lock();
        let steps = self.steps_due(&publish, &self.source.version(), u64::MAX);
        steps.iter().flatten().map(|candidate| candidate.live_rows).sum()
    }

    /// The segments of each step that is due: merges of neighbours, then single segments with many deleted rows.
    fn steps_due(&self, publish: &Publish, version: &Version, rows: u64) -> Vec<Vec<Candidate>> {
        let sorted = candidates(publish, version);
        let limits = self.merge_limits(rows.min(COMPACTED_ROWS), COMPACTED_FILE_BYTES);
        let runs = runs_due(&sorted, limits);
        let merges = runs.iter().filter_map(|run| sorted.get(run.clone())).map(<[Candidate]>::to_vec);
        let is_worn = |candidate: &&Candidate| {
            let entry =
                version.segments.binary_search_by_key(&candidate.number, |entry| entry.segment.number());
            let rows = entry.ok().and_then(|place| version.segments.get(place));
            let rows = rows.map_or(0, |entry| u64::from(entry.segment.header().rows));
            (rows - candidate.live_rows.min(rows)) * ROWS_PER_DELETED >= rows
        };
        let is_alone = |place: &usize| !runs.iter().any(|run| run.contains(place));
        let worn = sorted.iter().enumerate().filter(|(place, _)| is_alone(place)).map(|(_, one)| one);
        let worn = worn.filter(|one| one.live_rows <= rows).filter(is_worn).map(|one| vec![*one]);
        merges.chain(worn).collect()
    }

    /// One step.
    fn replace(&self, claim: &mut Claim<'_>, done: &mut Compacted) -> Result<()> {
        self.begin_writing()?;
        let limit_bytes = if claim.is_single() { usize::MAX } else { MAX_MEMTABLE_BYTES };
        let stored = claim.stored_rows();
        let sources = claim.decode(limit_bytes)?;
        if sources.segments.is_empty() {
            return Ok(());
        }
        let mut rows = SegmentRows::default();
        rows.merge(&sources.segments);
        if self.put_segment(&[], &sources, &rows)? == Put::Done {
            let replaced = sources.segments.len();
            let live = rows.len() as u64;
            done.segments_replaced += replaced as u64;
            done.segments_written += u64::from(live > 0);
            done.rows_written += live;
            done.rows_purged += stored.iter().take(replaced).sum::<u64>() - live;
        }
        Ok(())
    }

    /// Writes the tombstone log anew without what says nothing any more, if that is worth it; returns how many went.
    ///
    /// Only while no replaced segment or log is left: these have rows that are deleted, and if one of them had to serve again
    /// (in a copy, or after the manifest was lost), a tombstone that is gone would bring such a row back.
    fn purge_tombstones(&self) -> Result<u64> {
        let mut publish = self.publish.lock();
        self.unlink_due(&mut publish);
        let Some(log) = &publish.tombstones else { return Ok(0) };
        if publish.unlink.has_rows() {
            return Ok(0);
        }
        let version = Version::clone(&self.source.version());
        let known = log.rows();
        if (known - version.deleted_rows().min(known)) * TOMBSTONES_PER_GONE < known.max(1) {
            return Ok(0);
        }
        let (number, next) = (log.number(), publish.next_tombstones);
        let mut kept = tombstones_of(&version)?;
        if planted::is(Bug::PurgedTooMuch) {
            kept.clear();
        }
        self.begin_writing_under(&mut publish)?;
        let new = TombstoneLog::create(&self.wal, next, &kept)?;
        let old = publish.tombstones.replace(new);
        let replaced = vec![Replaced::tombstones(number, next)];
        if let Err(error) = self.commit_version(&mut publish, version, replaced) {
            publish.tombstones = old;
            if !self.wal.directory.poison().is_set() {
                self.wal.directory.remove_leftover(&self.wal.directory.tombstones(next));
            }
            return Err(error);
        }
        publish.next_tombstones += 1;
        self.tombstones.store(kept.len() as u64, Ordering::Relaxed);
        Ok(known.saturating_sub(kept.len() as u64))
    }
}

/// The tombstones of all deleted rows that are still in a segment or log.
fn tombstones_of(version: &Version) -> Result<Vec<Tombstone>> {
    let mut tombstones = Vec::new();
    for entry in &version.segments {
        let Some(deleted) = &entry.deleted else { continue };
        let open = entry.segment.read()?;
        let (time, sequence) = (open.time()?, open.sequence()?);
        tombstones.extend(
            deleted
                .iter()
                .map(|row| row as usize)
                .map(|row| Tombstone { ts_ns: time.get(row), sequence: sequence.get(row) as u64 }),
        );
    }
    for entry in &version.memtables {
        let Some(deleted) = &entry.deleted else { continue };
        for block in entry.memtable.blocks().iter() {
            let rows = block.ts().iter().zip(block.sequence());
            let gone = rows.filter(|(_, sequence)| deleted.contains(**sequence));
            tombstones.extend(gone.map(|(ts, sequence)| Tombstone { ts_ns: *ts, sequence: *sequence }));
        }
    }
    tombstones.sort_unstable();
    Ok(tombstones)
}
