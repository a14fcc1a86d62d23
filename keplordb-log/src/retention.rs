//! Forgetting old entries: whole segments, oldest first, and never the last.

use std::time::Duration;

use crate::error::{LogError, Result};
use crate::log::Log;
use crate::segments::SegmentInfo;

/// What of a log is kept. A segment goes when its last entry is older than `max_age`, or when the log has more than
/// `max_bytes`; what is `None` limits nothing.
///
/// # Damaged segments
/// They go as others do, so that one of them does not keep all later ones for ever. Of what time its last entry was is then
/// not guessed: it is taken to be as late as the next segment leaves room for ([`SegmentInfo::end`]), so nothing goes before it is
/// certainly too old. Its bytes are those of its file. What of it can still be read is lost with it: look at
/// [`verify`](Log::verify) first.
///
/// Two things do stop it: a segment that the disk cannot read where it must (its header, its end), because the next attempt may, and
/// one that seems to be of a newer release, which its version says. Remove such a file by hand, if it is the oldest.
///
/// By default entries of the last seven days are kept, however many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long an entry is kept at least, by the log's clock.
    pub max_age: Option<Duration>,
    /// Bytes that the segments may have together. The last segment stays, whatever it has.
    pub max_bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age: Some(Duration::from_secs(7 * 24 * 3600)), max_bytes: None }
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Segments.
    pub segments: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of their headers and frames.
    pub bytes: u64,
}

impl Log {
    /// Removes the segments that `retention` does not keep, oldest first, and says what they had.
    ///
    /// It needs no writer and may run beside one, in this or another process, and beside readers: one that has a removed
    /// segment open reads it to its end. What was removed stays so after a power cut.
    ///
    /// Cost: that of [`segments`](Self::segments), and a removed name and a sync of the directory for each segment.
    ///
    /// # Errors
    /// What listing and removing say; segments that were removed before are gone, and the next call goes on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use keplordb_log::{Log, Options, Retention};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// // Segments of a few entries each.
    /// let log = Log::open_with(dir.path(), Options { max_segment_bytes: 200, ..Options::default() })?;
    /// let writer = log.writer()?;
    /// for number in 0..10 {
    ///     writer.write(format!("command {number}: some words that take space").as_bytes())?;
    /// }
    /// let removed = log.retain(&Retention { max_age: None, max_bytes: Some(500) })?;
    /// assert!(removed.segments > 0);
    /// let left: u64 = log.segments()?.iter().map(|segment| segment.entries).sum();
    /// assert_eq!(removed.entries + left, 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retain(&self, retention: &Retention) -> Result<Removed> {
        let mut removed = Removed::default();
        for segment in self.expired(retention)? {
            match self.remove_segment(segment.start) {
                Ok(()) => {
                    removed.segments += 1;
                    removed.entries += segment.entries;
                    removed.bytes += segment.bytes;
                }
                // Somebody else was quicker.
                Err(LogError::NoSegment { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// The segments that [`retain`](Self::retain) would remove, oldest first.
    ///
    /// # Errors
    /// What listing says.
    pub fn expired(&self, retention: &Retention) -> Result<Vec<SegmentInfo>> {
        let mut segments = self.segments()?;
        let now = self.options().clock.now();
        let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let all_but_last = segments.len().saturating_sub(1);
        let expired = segments.iter().take(all_but_last).take_while(|segment| {
            let is_old = retention.max_age.is_some_and(|max_age| now.since(segment.end) > max_age);
            let is_too_much = retention.max_bytes.is_some_and(|max_bytes| bytes > max_bytes);
            bytes -= segment.bytes;
            is_old || is_too_much
        });
        let expired = expired.count();
        segments.truncate(expired);
        Ok(segments)
    }
}
