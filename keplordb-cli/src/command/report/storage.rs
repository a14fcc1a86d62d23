//! Where a table's events lie: its segments, and what is in the logs only.

use std::path::Path;

use anyhow::Result;
use keplordb::any::AnySnapshot;

use crate::files::Files;
use crate::report::{Segment, Storage};

/// The segments of a snapshot that have rows which are not deleted, and the logs as they are now.
pub(super) fn storage(dir: &Path, snapshot: &AnySnapshot) -> Result<Storage> {
    let all = snapshot.segments();
    let segments = all.iter().filter(|segment| segment.rows > segment.deleted_rows).map(|segment| Segment {
        rows: segment.rows - segment.deleted_rows,
        bytes: segment.file_bytes,
        first_ns: segment.first_ts_ns,
        last_ns: segment.last_ts_ns,
    });
    let segments: Vec<Segment> = segments.collect();
    let sealed: u64 = segments.iter().map(|segment| segment.rows).sum();
    Ok(Storage {
        segment_bytes: all.iter().map(|segment| segment.file_bytes).sum(),
        log_bytes: Files::logs(dir)?.bytes,
        log_rows: snapshot.live_rows().saturating_sub(sealed),
        segments,
    })
}
