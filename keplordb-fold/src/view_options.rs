//! How a view keeps its state, and what it does about damage.

/// How a view keeps its state on disk, which version its reducer has, and what a damaged line means to it.
///
/// ```
/// use keplordb_fold::{Checkpoints, SnapshotPolicy, ViewOptions};
///
/// let options = ViewOptions::default()
///     .version(2)
///     .snapshots(SnapshotPolicy::EveryEvents(10_000))
///     .checkpoints(Checkpoints::every(5_000).keep(100));
/// assert_ne!(options, ViewOptions::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViewOptions {
    pub(crate) version: u64,
    pub(crate) snapshots: SnapshotPolicy,
    pub(crate) checkpoints: Option<Checkpoints>,
    pub(crate) skip_damaged: bool,
    pub(crate) after_pruned: bool,
}

impl ViewOptions {
    /// The version of the reducer; 0 by default. Give it another number whenever the reducer or the state changes what it means: a
    /// state that was kept by another version is not gone on from, and the view is computed anew.
    ///
    /// A snapshot by another program says no version; it counts as 0.
    #[must_use]
    pub fn version(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// When the state is written to disk; after each refresh that folded something by default.
    #[must_use]
    pub fn snapshots(self, snapshots: SnapshotPolicy) -> Self {
        Self { snapshots, ..self }
    }

    /// Keeps states of the past too, from which [`state_at`](crate::View::state_at) begins; none by default.
    #[must_use]
    pub fn checkpoints(self, checkpoints: Checkpoints) -> Self {
        Self { checkpoints: Some(checkpoints), ..self }
    }

    /// Goes on behind a line that is no event, or whose data a typed reducer cannot take, rather than stop there with an error, which
    /// is the default. Such lines stay where they are, and are told to the log of the program; how many the state lacks, and where the
    /// first is, says [`passed_over`](crate::View::passed_over), also after the program was started again.
    ///
    /// [`repair`](crate::repair) sets lines aside that are no events, so that nobody needs to pass over them any longer. Of an event that
    /// a typed reducer cannot take it knows nothing: its type should.
    #[must_use]
    pub fn skip_damaged(self) -> Self {
        Self { skip_damaged: true, ..self }
    }

    /// Lets a view that must begin anew do so with the first event that was not pruned from the archive. By default it is an
    /// error to have no state in such a log, since what the view comes to would lack the pruned events.
    #[must_use]
    pub fn begin_after_pruned(self) -> Self {
        Self { after_pruned: true, ..self }
    }
}

/// When a view writes its state to disk. Whatever it is, a rotation writes it too, and a state that is lost is computed again: the
/// price of writing less is only a longer first refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SnapshotPolicy {
    /// After each refresh that folded something. It costs two syncs, and the writing of the state.
    #[default]
    EachRefresh,
    /// After the first refresh by which so many events have been folded since the last time.
    EveryEvents(u64),
    /// When the view is dropped. A failure is then told only to the log of the program.
    OnClose,
    /// When [`save_snapshot`](crate::View::save_snapshot) is called.
    Manual,
}

/// How many states of the past a view keeps, for [`state_at`](crate::View::state_at) and
/// [`state_at_time`](crate::View::state_at_time) to begin from.
///
/// One is written each time the view passes a multiple of so many events, as `views/<name>.at-<sequence>.json`. As soon as there are
/// more than `keep`, every other one goes and the distance doubles: what is kept is spread evenly over all of history, and
/// the distance is always the given one times a power of two.
///
/// They are caches, like snapshots: written without a sync, checked before use, passed over where damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoints {
    every_events: u64,
    keep: u64,
}

impl Checkpoints {
    /// One for each so many events (at least 1), and 256 at most.
    #[must_use]
    pub fn every(events: u64) -> Self {
        Self { every_events: events.max(1), keep: 256 }
    }

    /// At most so many (at least 1).
    #[must_use]
    pub fn keep(self, keep: u64) -> Self {
        Self { keep: keep.max(1), ..self }
    }

    /// How far they are apart once a view has folded `sequence` events.
    pub(crate) fn distance(self, sequence: u64) -> u64 {
        let mut distance = self.every_events;
        while sequence / distance > self.keep {
            distance = distance.saturating_mul(2);
        }
        distance
    }
}

#[cfg(test)]
mod tests {
    use super::Checkpoints;

    #[test]
    fn checkpoints_are_never_more_than_asked_for() {
        for (every, keep) in [(1, 1), (10, 3), (7, 256), (u64::MAX, 1), (0, 0)] {
            let checkpoints = Checkpoints::every(every).keep(keep);
            for sequence in [0, 1, 2, 9, 10, 39, 40, 41, 10_000, u64::MAX] {
                let distance = checkpoints.distance(sequence);
                assert!(sequence / distance <= keep.max(1), "{every} {keep} {sequence}");
                assert!(distance == every.max(1) || sequence / (distance / 2) > keep.max(1));
            }
        }
    }
}
