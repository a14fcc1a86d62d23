//! Bugs that a test can plant into this crate and the engine, to see that other tests catch them.
//!
//! Only with the feature `planted`, which the crate of crash simulations switches on and nobody else should; without it
//! [`is`] is `false` at compile time. A bug is planted for the current thread, while a closure runs.

/// A bug. Each is one line somewhere, that of a mistake which has lost somebody's events before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The directory is not synced after a file was put in its place.
    NameNotSynced,
    /// An append returns before its sync.
    AckedBeforeSync,
    /// A log that a segment absorbed is replayed as long as its file is there.
    ReplayedTwice,
    /// Of several logs only the newest is replayed.
    OldGenerationIgnored,
    /// What an open found behind the watermark is shown without a sync.
    TailNotSynced,
    /// gc unlinks its segments, and then has the manifest forget them.
    UnlinkedBeforeForgotten,
    /// A rotation unlinks its logs, and then publishes the segment.
    UnlinkedBeforePublished,
    /// A delete returns before its sync.
    TombstoneNotSynced,
    /// A frame's payload is not compared with its checksum.
    PayloadUnchecked,
    /// A frame header's checksum does not cover the payload's length.
    LengthUnchecked,
    /// Frames do not say how far their file was synced.
    WatermarkZero,
    /// After a failed sync the next one is believed.
    FailedSyncRetried,
    /// A write that failed half-way counts as written.
    ShortWriteCounted,
    /// Stored sums are not corrected for deleted rows.
    SumsNotCorrected,
    /// A merged segment does not say whose rows it has.
    SourcesNotSuperseded,
    /// The sources of a merge stay in the table.
    SourcesKept,
    /// A purge forgets tombstones of rows that are still there.
    PurgedTooMuch,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::NameNotSynced,
        Self::AckedBeforeSync,
        Self::ReplayedTwice,
        Self::OldGenerationIgnored,
        Self::TailNotSynced,
        Self::UnlinkedBeforeForgotten,
        Self::UnlinkedBeforePublished,
        Self::TombstoneNotSynced,
        Self::PayloadUnchecked,
        Self::LengthUnchecked,
        Self::WatermarkZero,
        Self::FailedSyncRetried,
        Self::ShortWriteCounted,
        Self::SumsNotCorrected,
        Self::SourcesNotSuperseded,
        Self::SourcesKept,
        Self::PurgedTooMuch,
    ];
}

#[cfg(feature = "planted")]
mod plot {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether this bug is planted for the current thread.
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Runs `body` with the bug planted for the current thread; threads that it starts are sound.
    pub fn with<T>(bug: Bug, body: impl FnOnce() -> T) -> T {
        /// Takes the bug out again, also when `body` panics.
        struct Weed;
        impl Drop for Weed {
            fn drop(&mut self) {
                PLANTED.set(None);
            }
        }
        PLANTED.set(Some(bug));
        let _weed = Weed;
        body()
    }
}

#[cfg(feature = "planted")]
pub use plot::{is, with};

/// No bug is ever planted without the feature.
#[cfg(not(feature = "planted"))]
#[inline]
#[must_use]
pub const fn is(_bug: Bug) -> bool {
    false
}
