//! Everything that is due, in one call: what an engine without threads of its own cannot do by itself.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Core;
use super::claim::RETENTION_SPANS;
use super::compact::{Budget, Compacted};
use super::gc::GcStats;
use crate::error::{DbError, Result};

/// What [`maintain`](crate::Engine::maintain) did, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Maintained {
    /// Replaced files whose grace was over, and that are gone now.
    pub files_unlinked: u64,
    /// Rows of logs that were moved into segments: of rotations that had failed, and of logs with an event that is older than
    /// an eighth of [`Retention::max_age`](crate::Retention), so that retention can drop them in time.
    pub rows_flushed: u64,
    /// What [`Options::retention`](crate::Options::retention) dropped.
    pub retention: GcStats,
    /// What compaction did; its `rows_left` is what a further call would do.
    pub compacted: Compacted,
}

impl Core {
    pub(crate) fn maintain(&self, budget: Budget) -> Result<Maintained> {
        self.maintain_while(budget, &|| true)
    }

    /// Each part is tried, whatever became of the others, for one may be what helps the next: on a full disk retention makes
    /// the room that a rotation lacks. The first error is returned.
    pub(crate) fn maintain_while(&self, budget: Budget, goes_on: &dyn Fn() -> bool) -> Result<Maintained> {
        let _told = self.wal.directory.notices().tell_at_end();
        self.wal.directory.poison().check()?;
        let mut done = Maintained::default();
        let mut first_error = None;
        let mut keep = |error: DbError| {
            first_error.get_or_insert(error);
        };
        done.files_unlinked += self.unlink_due(&mut self.publish.lock());
        self.sync().unwrap_or_else(&mut keep);
        match self.rotate_due(self.before_now(RETENTION_SPANS)) {
            Ok(flushed) => done.rows_flushed = flushed.rows,
            Err(error) => keep(error),
        }
        match self.retain(self.before_now(1)) {
            Ok(dropped) => done.retention = dropped,
            Err(error) => keep(error),
        }
        match self.compact_while(budget, goes_on) {
            Ok(compacted) => done.compacted = compacted,
            Err(error) => keep(error),
        }
        done.files_unlinked += self.unlink_due(&mut self.publish.lock());
        match first_error {
            None => Ok(done),
            Some(error) => Err(error),
        }
    }

    /// Records that maintenance failed which nobody waits for.
    pub(crate) fn note_failed_maintenance(&self, error: DbError) {
        let _told = self.wal.directory.notices().tell_at_end();
        self.note("maintenance failed", error);
    }

    /// What every call that writes gets once writing has stopped for good.
    pub(crate) fn writing_stopped(&self) -> Option<DbError> {
        self.wal.directory.poison().check().err()
    }

    /// The time that is one `part`-th of the retention's age ago; with 1, the time before which events are dropped.
    fn before_now(&self, part: u32) -> Option<i64> {
        let age = self.options.retention.max_age? / part;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let age_ns = i64::try_from(age.as_nanos()).ok()?;
        Some(i64::try_from(now.as_nanos()).ok()?.saturating_sub(age_ns))
    }
}
