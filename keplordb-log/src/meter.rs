//! Counters for an operator, through the facade `metrics`; without the feature of that name they are nothing.
//!
//! docs/log.md says what they are called and what they count.

#[cfg(feature = "metrics")]
pub(crate) use with::{LagMeter, Meter};
#[cfg(not(feature = "metrics"))]
pub(crate) use without::{LagMeter, Meter};

#[cfg(feature = "metrics")]
mod with {
    use std::path::Path;
    use std::time::Instant;

    use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

    /// The counters of a writer. Counting allocates nothing.
    pub(crate) struct Meter {
        entries: Counter,
        bytes: Counter,
        syncs: Counter,
        waits: Histogram,
        rollovers: Counter,
    }

    impl Meter {
        pub(crate) fn new(dir: &Path) -> Self {
            let dir = dir.display().to_string();
            Self {
                entries: counter!("keplordb_log_entries_total", "dir" => dir.clone()),
                bytes: counter!("keplordb_log_bytes_total", "dir" => dir.clone()),
                syncs: counter!("keplordb_log_syncs_total", "dir" => dir.clone()),
                waits: histogram!("keplordb_log_sync_seconds", "dir" => dir.clone()),
                rollovers: counter!("keplordb_log_rollovers_total", "dir" => dir),
            }
        }

        /// A batch was written.
        pub(crate) fn wrote(&self, entries: u32, bytes: usize) {
            self.entries.increment(entries.into());
            self.bytes.increment(bytes as u64);
        }

        /// A segment was closed.
        pub(crate) fn rolled(&self) {
            self.rollovers.increment(1);
        }

        /// Does `wait` and measures it; `syncs` are then all syncs of the writer.
        pub(crate) fn waiting<T>(&self, wait: impl FnOnce() -> T, syncs: impl FnOnce() -> u64) -> T {
            let begun = Instant::now();
            let waited = wait();
            self.waits.record(begun.elapsed().as_secs_f64());
            self.syncs.absolute(syncs());
            waited
        }
    }

    /// How far a replica is behind.
    #[derive(Debug)]
    pub(crate) struct LagMeter {
        entries: Gauge,
        bytes: Gauge,
    }

    impl LagMeter {
        pub(crate) fn new(dir: &Path) -> Self {
            let dir = dir.display().to_string();
            Self {
                entries: gauge!("keplordb_log_lag_entries", "dir" => dir.clone()),
                bytes: gauge!("keplordb_log_lag_bytes", "dir" => dir),
            }
        }

        pub(crate) fn set(&self, entries: u64, bytes: u64) {
            self.entries.set(entries as f64);
            self.bytes.set(bytes as f64);
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod without {
    use std::path::Path;

    /// Counts nothing.
    pub(crate) struct Meter;

    impl Meter {
        pub(crate) fn new(_dir: &Path) -> Self {
            Self
        }

        #[expect(clippy::unused_self, reason = "with the feature it counts")]
        pub(crate) fn wrote(&self, _entries: u32, _bytes: usize) {}

        #[expect(clippy::unused_self, reason = "with the feature it counts")]
        pub(crate) fn rolled(&self) {}

        #[expect(clippy::unused_self, reason = "with the feature it measures")]
        pub(crate) fn waiting<T>(&self, wait: impl FnOnce() -> T, _syncs: impl FnOnce() -> u64) -> T {
            wait()
        }
    }

    /// Says nothing.
    #[derive(Debug)]
    pub(crate) struct LagMeter;

    impl LagMeter {
        pub(crate) fn new(_dir: &Path) -> Self {
            Self
        }

        #[expect(clippy::unused_self, reason = "with the feature it is told")]
        pub(crate) fn set(&self, _entries: u64, _bytes: u64) {}
    }
}
