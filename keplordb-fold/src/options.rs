//! How a writer locks its log and when it syncs.

/// Whether a writer keeps other writers away.
///
/// ```
/// use keplordb_fold::LockMode;
///
/// assert_eq!(LockMode::default(), LockMode::Flock);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockMode {
    /// The writer takes an exclusive lock of `app.jsonl` when it is opened, and has it until it is dropped. Whoever else asks for it
    /// gets an error at once.
    #[default]
    Flock,
    /// Any number of writers, in one or many processes. They still take turns, append by append, so that no event is torn apart
    /// and none is lost in a rotation; where the file system has no locks they do not, and one writer at a time is yours to see to.
    None,
}

/// When appended events are synced, which is what a power cut cannot take.
///
/// Whatever the policy, an append that returned has been handed to the operating system, so a killed process loses none of it;
/// [`EventWriter::sync`](crate::EventWriter::sync) makes durable what was appended before it, and a rotation what it moves. What a
/// power cut takes is never an event that was synced; of the others it may take any, also ones before others that stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// Each append is durable when it returns.
    #[default]
    Each,
    /// The append that brings what is not synced to one of these limits syncs before it returns. 0 and 1 are the same as `Each`.
    Every {
        /// Events.
        events: u64,
        /// Bytes of lines.
        bytes: u64,
    },
    /// Only `sync` syncs, a rotation, and dropping the writer.
    OnDemand,
    /// As `OnDemand`, but dropping the writer does not sync either: the operating system writes when it likes, usually within half
    /// a minute.
    Never,
}

impl SyncPolicy {
    /// Whether so much must not stay unsynced.
    pub(crate) fn is_due(self, unsynced_events: u64, unsynced_bytes: u64) -> bool {
        match self {
            Self::Each => unsynced_events > 0 || unsynced_bytes > 0,
            Self::Every { events, bytes } => {
                unsynced_bytes > 0 && (unsynced_events >= events || unsynced_bytes >= bytes)
            }
            Self::OnDemand | Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_when_a_sync_is_due() {
        let every = SyncPolicy::Every { events: 3, bytes: 100 };
        for (policy, events, bytes, due) in [
            (SyncPolicy::Each, 0, 0, false),
            (SyncPolicy::Each, 1, 50, true),
            (every, 2, 99, false),
            (every, 3, 90, true),
            (every, 1, 100, true),
            (every, 0, 0, false),
            (SyncPolicy::Every { events: 0, bytes: 0 }, 1, 1, true),
            (SyncPolicy::OnDemand, 1 << 40, 1 << 40, false),
            (SyncPolicy::Never, 1 << 40, 1 << 40, false),
        ] {
            assert_eq!(policy.is_due(events, bytes), due, "{policy:?} {events} {bytes}");
        }
    }
}
