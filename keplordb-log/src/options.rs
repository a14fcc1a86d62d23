//! How a log is kept: the size of its segments, when it is synced, its clock and its disk.

use std::sync::Arc;
use std::time::Duration;

use keplordb_disk::{Disk, RealDisk};

use crate::error::{LogError, Result};
use crate::timestamp::{Clock, SystemClock};

/// How a log is kept. None of it is stored: each opening may choose anew.
///
/// | field | default | legal |
/// |---|---|---|
/// | `max_segment_bytes` | 1 GiB | at least 1 |
/// | `max_segment_duration` | 30 days | more than zero |
/// | `sync` | `Each` | any |
///
/// ```
/// use keplordb_log::{Log, Options, SyncPolicy};
///
/// # let dir = tempfile::tempdir()?;
/// let options = Options { sync: SyncPolicy::OnDemand, max_segment_bytes: 64 << 20, ..Options::default() };
/// let log = Log::open_with(dir.path(), options)?;
/// assert_eq!(log.path(), dir.path());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    /// Length of a segment's file from which the next batch begins a new one. A batch that is longer by itself gets a segment
    /// of its own. Smaller segments: retention works in smaller steps, and each costs four syncs. Larger ones: fewer files, and
    /// more to copy when a writer that was killed is followed by another.
    pub max_segment_bytes: u64,
    /// The span between the first entry of a segment and one that begins a new segment instead. It is looked at when
    /// something is written: an idle log keeps its last segment open.
    pub max_segment_duration: Duration,
    /// When what was written becomes durable.
    pub sync: SyncPolicy,
    /// Where times come from.
    pub clock: Arc<dyn Clock>,
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_segment_bytes: 1 << 30,
            max_segment_duration: Duration::from_secs(30 * 24 * 3600),
            sync: SyncPolicy::Each,
            clock: Arc::new(SystemClock),
            disk: Arc::new(RealDisk),
        }
    }
}

impl Options {
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |field, why: &str| Err(LogError::Invalid { field, why: why.to_owned() });
        if self.max_segment_bytes == 0 {
            return refuse("max_segment_bytes", "a segment has at least one byte, not 0");
        }
        if self.max_segment_duration.is_zero() {
            return refuse("max_segment_duration", "a segment lasts longer than zero");
        }
        Ok(())
    }
}

/// When what was written becomes durable, that is, survives a power cut. A killed process loses nothing under any policy.
///
/// Under every policy a segment is synced when the next one begins, the first batch of a segment is durable when its write
/// returns, and [`Writer::sync`](crate::Writer::sync) makes durable what was written before it. What a power cut takes is always
/// the end: no entry is lost while a later one stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// Each write is durable when it returns. Writes of several threads share syncs, so more threads cost few more of them.
    #[default]
    Each,
    /// The write that brings the entries or the bytes (of frames) that are not synced to one of these limits syncs before it
    /// returns. So a power cut takes fewer entries than `entries`, and fewer bytes than `bytes`, of those whose writes
    /// returned. 0 and 1 are the same as `Each`.
    Every {
        /// Entries.
        entries: u64,
        /// Bytes of frames.
        bytes: u64,
    },
    /// Only [`Writer::sync`](crate::Writer::sync) and [`Writer::close`](crate::Writer::close) sync.
    OnDemand,
    /// As `OnDemand`, but closing does not sync either: the operating system writes when it likes, usually within half a minute.
    Never,
}
