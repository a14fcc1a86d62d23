//! Opening a log to write, after anything: what is there is found, judged, repaired where only a crash did it, and proved to
//! be on disk.
//!
//! # Steps
//!
//! 1. The directory is made, its lock taken, and it is synced: names that a killed writer gave are durable from here on.
//! 2. A replica is cut to what its [mark](crate::mark) says, and the indexes of its whole segments are completed.
//! 3. Leftovers go: temporary files, and indexes without a segment.
//! 4. If the lock's file says that the directory is a copy by some other program, every segment is synced.
//! 5. The last segment's header is read, and held against the one before: its number, its log, the time in its closing frame.
//! 6. Its frames are walked over, from the last place before which a watermark proves all to be synced. A torn end is noted;
//!    damage ends the opening.
//! 7. What is not proved to be on disk is put there ([`prove_durable`]): entries may follow only what no power cut can take.
//! 8. Its index is made good.
//! 9. Only now, when nothing can refuse it any more, is the directory an original: the lock's file is adopted, the mark ended.
//!
//! A crash in any step leaves a log that opens the same way; step 7 cuts and syncs before anything is written behind the cut.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use keplordb_disk::{Disk, DiskFile, Entry, Lock, LockError};

use crate::copy_index::CopyIndexes;
use crate::entries::entries;
use crate::error::{IoContext, LogError, Result};
use crate::file::{prove_durable, random_salt};
use crate::frame::{self, ALIGN_BYTES, End, Frame, HEADER_BYTES};
use crate::header::{
    LOCK, Listed, SEGMENT_HEADER_BYTES, SegmentHeader, index_name, index_start, read_header, segment_name,
    segment_start, segments_of,
};
use crate::hop::Hops;
use crate::index_file::{IndexFile, IndexWriter, watermark};
use crate::mark::{self, Mark, cut_to};
use crate::scan::scan;
use crate::segment::{Files, Segment};
use crate::syncer::Reach;
use crate::timestamp::Timestamp;

/// The shortest segment: its header and a frame.
const SEGMENT_BYTES_MIN: u64 = (SEGMENT_HEADER_BYTES + HEADER_BYTES) as u64;

/// What a writer found and repaired when it opened its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The segment that was looked at: the last one; `None` in an empty log.
    pub segment: Option<Timestamp>,
    /// Bytes behind its last whole batch that a crash had left and that were cut off: no entry whose write had returned as
    /// durable was among them.
    pub torn_bytes: u64,
    /// Bytes of it that nothing proved to be on disk, and that were therefore copied: all of them, or none.
    pub copied_bytes: u64,
}

/// A log that was opened to write.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Its id.
    pub(crate) log: u64,
    /// The number of the segment after the last one.
    pub(crate) next_number: u64,
    /// Time of the last entry.
    pub(crate) last: Option<Timestamp>,
    /// The last segment, if it takes more frames.
    pub(crate) current: Option<Segment>,
    pub(crate) recovered: Recovered,
}

/// Opens the log in the directory of `files`, whose lock is held.
pub(crate) fn open(files: &Files, lock: &mut Lock) -> Result<Opened> {
    let (disk, dir) = (files.disk.as_ref(), files.dir.as_ref());
    disk.sync_dir(dir).at("sync", dir)?;
    let mark = Mark::read(disk, dir)?;
    if let Some(mark) = mark.filter(|mark| !mark.is_ended) {
        end_copying(files, &mark)?;
    }
    let entries = disk.list(dir).at("list", dir)?;
    let segments = segments_of(&entries);
    remove_leftovers(disk, dir, &entries, &segments);
    if lock.is_copy() {
        sync_all(files, &segments)?;
    }
    let opened = if let Some((last, earlier)) = segments.split_last() {
        // All of a replica that its mark counts was synced.
        let marked = mark.filter(|mark| !mark.is_ended && mark.start == last.start);
        let covered = marked.map_or(0, |mark| mark.bytes);
        open_last(files, last.start, earlier.last(), covered, lock.is_copy())?
    } else {
        let (log, recovered) = (random_salt(0), Recovered::default());
        Opened { log, next_number: 0, last: None, current: None, recovered }
    };
    if lock.is_copy() {
        lock.adopt().at("write", &dir.join(LOCK))?;
        disk.sync_dir(dir).at("sync", dir)?;
    }
    if let Some(mark) = mark {
        mark.end(disk, dir, &files.poison)?;
    }
    Ok(opened)
}

/// Step 2: cuts a replica to what its mark says, and completes the indexes of its whole segments that are behind, as an end between
/// two steps leaves one: nobody would do it later. Those that are missing stay so, as making them takes long.
fn end_copying(files: &Files, mark: &Mark) -> Result<()> {
    let (disk, dir) = (files.disk.as_ref(), files.dir.as_ref());
    cut_to(disk, dir, mark)?;
    // Those that the replica has made say nothing of syncs. One that does was put here by another program, and is about another
    // disk, or is of a writer that was killed when it had noted its syncs here. All of them can be made again.
    let mut kept = Vec::new();
    for entry in disk.list(dir).at("list", dir)? {
        let Some(start) = index_start(&entry.name) else { continue };
        let path = dir.join(&entry.name);
        if IndexFile::is_of_replica(disk, &path).unwrap_or_default() {
            kept.push(start);
        } else {
            disk.remove(&path).at("remove", &path)?;
        }
    }
    kept.retain(|start| *start < mark.start);
    CopyIndexes::new(kept).mend(disk, dir, u64::MAX);
    disk.sync_dir(dir).at("sync", dir)
}

/// Step 4: brings to disk what a program like `cp` has left in the page cache. The last segment, whose proofs of being synced
/// are about another file, is copied later.
fn sync_all(files: &Files, segments: &[Listed]) -> Result<()> {
    for segment in segments {
        let path = files.segment(segment.start);
        let file = files.disk.open(&path).at("open", &path)?;
        file.sync().at("sync", &path)?;
    }
    Ok(())
}

/// Step 3. That one stays is no error: it takes up space, and the next opening tries again.
pub(crate) fn remove_leftovers(disk: &dyn Disk, dir: &Path, entries: &[Entry], segments: &[Listed]) {
    let is_segment = |start| segments.binary_search_by_key(&start, |segment| segment.start).is_ok();
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        let name = entry.name.as_str();
        let is_ours = |name| segment_start(name).is_some() || name == mark::NAME;
        let is_temporary = name.strip_suffix(".tmp").is_some_and(is_ours);
        if is_temporary || index_start(name).is_some_and(|start| !is_segment(start)) {
            let _ = disk.remove(&dir.join(name));
        }
    }
}

/// Steps 5 to 8. The first `covered` bytes of the segment were synced; of a copy by another program nothing proves that they
/// still are.
fn open_last(
    files: &Files,
    start: Timestamp,
    before: Option<&Listed>,
    covered: u64,
    is_copy: bool,
) -> Result<Opened> {
    let (disk, dir) = (files.disk.as_ref(), files.dir.as_ref());
    let path = dir.join(segment_name(start));
    let file = disk.open_read(&path).at("open", &path)?;
    let header = read_header(file.as_ref(), &path, start)?;
    if let Some(before) = before {
        check_before(disk, dir, before.start, &header)?;
    }
    let mut found = walk(disk, dir, file.as_ref(), &path, &header, covered)?;
    if is_copy {
        found.durable_upto = 0;
    }
    let end_bytes = found.end.at();

    let mut recovered = Recovered { segment: Some(start), ..Recovered::default() };
    let file_bytes = file.bytes().at("measure", &path)?;
    let is_closed = matches!(found.end, End::Closed { .. });
    if let End::Torn { bytes, .. } = found.end {
        recovered.torn_bytes = bytes;
    }
    let is_proved = found.durable_upto >= end_bytes;
    let has_rest = file_bytes > end_bytes && !matches!(found.end, End::Clean { .. });
    if !is_proved || has_rest {
        prove_durable(disk, &path, found.durable_upto, end_bytes, &files.poison)?;
    }
    if !is_proved {
        recovered.copied_bytes = end_bytes;
    }

    let frames = disk.open_read(&path).at("open", &path)?;
    let index = resume_index(disk, dir, &header, frames.as_ref(), end_bytes);
    let (log, next_number, last) = (header.log, header.number.saturating_add(1), Some(found.last));
    if is_closed {
        return Ok(Opened { log, next_number, last, current: None, recovered });
    }
    let reach = Reach { bytes: end_bytes, below: found.entries };
    let current = Some(Segment::resume(files, header, reach, index)?);
    Ok(Opened { log, next_number, last, current, recovered })
}

/// Step 5: the segment that starts at `start` must be the one before the last, and closed, or entries would follow that no
/// reader comes to.
fn check_before(disk: &dyn Disk, dir: &Path, start: Timestamp, last: &SegmentHeader) -> Result<()> {
    let path = dir.join(segment_name(start));
    let file = match disk.open_read(&path) {
        // Retention came first.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.at("open", &path)?,
    };
    let header = read_header(file.as_ref(), &path, start)?;
    if header.log != last.log {
        let (file, what) = (dir.join(segment_name(last.start)), "the segment belongs to another log");
        return Err(LogError::corrupt(&file, 24, what));
    }
    if header.number.checked_add(1) != Some(last.number) {
        return Err(LogError::Missing { dir: dir.to_owned(), before: last.start });
    }
    let closing_at = file.bytes().at("measure", &path)?.saturating_sub(HEADER_BYTES as u64);
    let mut closing = [0; HEADER_BYTES];
    file.read_at(&mut closing, closing_at).at("read", &path)?;
    let closing = frame::read_header(&closing, header.salt, closing_at);
    let is_closed = closing.is_some_and(|closing| {
        closing.rows == 0 && Some(Timestamp::from_ns(closing.first as i64)) == last.before
    });
    if is_closed {
        Ok(())
    } else {
        Err(LogError::corrupt(&path, closing_at, "it does not end as its next segment says"))
    }
}

/// Step 8; it also notes what step 7 has proved. A failure is no error: readers do without an index.
fn resume_index(
    disk: &dyn Disk,
    dir: &Path,
    header: &SegmentHeader,
    frames: &dyn DiskFile,
    end_bytes: u64,
) -> Option<IndexWriter> {
    let index = IndexWriter::resume(disk, dir, header, frames, end_bytes)
        .and_then(|mut index| index.note_synced(end_bytes).map(|()| index));
    if index.is_err() {
        let _ = disk.remove(&dir.join(index_name(header.start)));
    }
    index.ok()
}

/// The last segment's frames as they were found.
#[derive(Debug)]
struct Walked {
    end: End,
    /// Entries before the end.
    entries: u64,
    /// Time of the last one.
    last: Timestamp,
    /// Bytes that are proved to be synced.
    durable_upto: u64,
}

/// Step 6.
fn walk(
    disk: &dyn Disk,
    dir: &Path,
    file: &dyn DiskFile,
    path: &Path,
    header: &SegmentHeader,
    covered: u64,
) -> Result<Walked> {
    // An index that cannot be read is made again later; here it only says where to begin.
    let index = IndexFile::open(disk, dir, header).unwrap_or_default();
    let synced_bytes = index.as_ref().map_or(0, IndexFile::synced_bytes);
    let watermark = watermark(file, index.as_ref(), header).at("read", path)?;
    // The first frame was synced before the file got its name.
    let covered = covered.max(synced_bytes).max(watermark).max(SEGMENT_BYTES_MIN + ALIGN_BYTES as u64);
    let file_bytes = file.bytes().at("measure", path)?;
    if file_bytes < covered {
        let (file, found_bytes) = (path.to_owned(), file_bytes);
        return Err(LogError::Truncated { file, found_bytes, expected_bytes: covered });
    }

    let from = place_before(file, index.as_ref(), header, covered).at("read", path)?;
    // That the first frame is there does not prove that the sync of its file's name was waited for; a later watermark does.
    let durable_upto = synced_bytes.max(watermark);
    let mut walked = Seen { entries: from.1, last: header.before, durable_upto };
    let end = scan(file, path, header.salt, from.0, covered, |frame| walked.take(frame, path))?;
    let Seen { entries, last, durable_upto } = walked;
    match end {
        End::Corrupt { at, covered_upto, what } => {
            let what = format!("{what} (bytes up to {covered_upto} were synced)");
            return Err(LogError::corrupt(path, at, what));
        }
        End::Truncated { covered_upto: expected_bytes, .. } => {
            let (file, found_bytes) = (path.to_owned(), file_bytes);
            return Err(LogError::Truncated { file, found_bytes, expected_bytes });
        }
        End::Closed { at, first } if last.is_none_or(|last| last.as_ns() != first as i64) => {
            let at = at.saturating_sub(HEADER_BYTES as u64);
            return Err(LogError::corrupt(
                path,
                at,
                "the closing frame's time is not that of the last entry",
            ));
        }
        End::Closed { .. } | End::Clean { .. } | End::Torn { .. } => {}
    }
    let last =
        last.ok_or_else(|| LogError::corrupt(path, SEGMENT_HEADER_BYTES as u64, "a segment has no entry"))?;
    Ok(Walked { end, entries, last, durable_upto })
}

/// Where a walk may begin: at the frame of a slot before which all is known to be synced, and the entries before it; else
/// at the first frame.
///
/// A frame that is proved to be synced is not looked at again here: if it is damaged, readers will say so.
fn place_before(
    file: &dyn DiskFile,
    index: Option<&IndexFile>,
    header: &SegmentHeader,
    covered: u64,
) -> std::io::Result<(u64, u64)> {
    let start = (SEGMENT_HEADER_BYTES as u64, 0);
    // A frame must begin there that lies before `covered`, or there would be no last entry to find.
    let slot = index.and_then(|index| index.last_before(|slot| slot.offset < covered).unwrap_or_default());
    let Some((_, slot)) = slot else { return Ok(start) };
    let mut hops = Hops::new(file, header.salt, slot.offset, covered);
    Ok(match hops.next()? {
        Some((offset, frame)) if frame.rows > 0 && frame.first as i64 == slot.time.as_ns() => {
            (offset, slot.entries)
        }
        _ => start,
    })
}

/// What the frames of a walk say together.
#[derive(Debug)]
struct Seen {
    entries: u64,
    last: Option<Timestamp>,
    durable_upto: u64,
}

impl Seen {
    fn take(&mut self, frame: &Frame<'_>, path: &Path) -> Result<()> {
        let first = Timestamp::from_ns(frame.first as i64);
        if self.last.is_some_and(|last| last >= first) {
            return Err(LogError::corrupt(path, frame.offset, "a frame is not later than what is before it"));
        }
        for entry in entries(frame.payload, first, frame.rows) {
            let (time, _) = entry.map_err(|malformed| malformed.in_frame(path, frame.offset))?;
            self.last = Some(time);
        }
        self.entries += u64::from(frame.rows);
        self.durable_upto = self.durable_upto.max(frame.durable_upto);
        Ok(())
    }
}

/// Takes the lock of a log's directory, which is made if it is missing.
pub(crate) fn lock(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Lock> {
    disk.create_dir(dir).at("create", dir)?;
    let file = dir.join(LOCK);
    disk.lock(&file).map_err(|error| match error {
        LockError::Held { pid } => LogError::Locked { dir: dir.to_owned(), pid },
        LockError::Io(source) => LogError::io("lock", &file, source),
    })
}
