//! The time indexes of a copy: made as its segments grow, and one after the other for those that have none.
//!
//! Sources' indexes are not copied: they speak of syncs, which are those of another disk, and may be ahead of what is durable.
//! An index is made from the frames of the copy itself, behind its [mark](crate::mark), so it never leads to a frame that does not
//! count. It is a cache here as everywhere: nothing waits for it, failing to write it is no error, and a crash may leave it
//! torn or behind. Whoever opens the copy as a replica again cuts it to what is sound and completes it, a limited stretch with each
//! step: a copy whose indexes are all missing, as those of releases that made none, gets them while it goes on.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::io::{self, Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use keplordb_disk::{Disk, DiskFile};

use crate::header::{index_name, read_header, segment_name};
use crate::index_file::{IndexFile, IndexWriter, Passed};
use crate::mark::Mark;
use crate::timestamp::Timestamp;

/// Bytes of a segment whose frames are gone over in one step, where an index is behind: hundredths of a second. More than
/// is copied at a time, so an index that is behind catches up.
pub(crate) const STEP_BYTES: u64 = 64 << 20;

/// What looking at one more segment counts for.
const OPEN_BYTES: u64 = 1 << 20;

/// The indexes of a copy's segments.
#[derive(Debug, Default)]
pub(crate) struct CopyIndexes {
    /// That of the segment which is being copied.
    growing: Option<Growing>,
    /// Whole segments whose index may be behind; the last of them is next.
    older: Vec<Timestamp>,
    /// The one that is being completed.
    mended: Option<Made>,
}

/// The index of the growing segment.
#[derive(Debug)]
struct Growing {
    start: Timestamp,
    /// `None` after a failure: readers do without, until the copy is opened again.
    made: Option<Made>,
}

/// An index that is being made.
#[derive(Debug)]
struct Made {
    start: Timestamp,
    frames: Arc<dyn DiskFile>,
    index: IndexWriter,
    passed: Passed,
}

impl CopyIndexes {
    /// Of a copy with these whole segments, oldest first.
    pub(crate) fn new(whole: Vec<Timestamp>) -> Self {
        Self { older: whole, ..Self::default() }
    }

    /// Completes the index of the marked segment as far as the mark says, or [`STEP_BYTES`] further than it was. Cost: where it
    /// is not behind, that of looking at the headers of the new frames.
    pub(crate) fn grow(&mut self, disk: &dyn Disk, dir: &Path, mark: &Mark) {
        if self.growing.as_ref().is_none_or(|growing| growing.start != mark.start) {
            self.close(disk);
            if mark.bytes == 0 {
                return;
            }
            let made = Made::open(disk, dir, mark.start).ok();
            self.growing = Some(Growing { start: mark.start, made });
        }
        let made = self.growing.as_mut().and_then(|growing| growing.made.as_mut());
        if let Some(made) = made.filter(|made| made.passed.at < mark.bytes)
            && made.complete(mark.bytes, STEP_BYTES).is_err()
            && let Some(made) = self.growing.as_mut().and_then(|growing| growing.made.take())
        {
            made.index.remove(disk);
        }
    }

    /// The growing segment does not grow any more.
    pub(crate) fn close(&mut self, disk: &dyn Disk) {
        let Some(Made { start, frames, mut index, passed }) =
            self.growing.take().and_then(|growing| growing.made)
        else {
            return;
        };
        if index.sync().is_err() {
            index.remove(disk);
        } else if frames.bytes().is_ok_and(|bytes| passed.at < bytes) {
            self.older.push(start);
        }
    }

    /// Goes on completing the indexes of whole segments, newest first, for as much as `limit_bytes` of them.
    pub(crate) fn mend(&mut self, disk: &dyn Disk, dir: &Path, limit_bytes: u64) {
        let mut left_bytes = limit_bytes;
        while left_bytes > 0 {
            let Some(mut made) = self.mended.take() else {
                let Some(start) = self.older.pop() else { return };
                left_bytes = left_bytes.saturating_sub(OPEN_BYTES);
                // One that was removed, or cannot be read, is left alone.
                self.mended = Made::open(disk, dir, start).ok();
                continue;
            };
            let before = made.passed.at;
            let is_complete = made.frames.bytes().and_then(|end| made.complete(end, left_bytes));
            left_bytes = left_bytes.saturating_sub(made.passed.at - before);
            match is_complete {
                Ok(false) => self.mended = Some(made),
                Ok(true) if made.index.sync().is_ok() => {}
                Ok(true) | Err(_) => made.index.remove(disk),
            }
        }
    }
}

impl Made {
    /// The index of a segment, as far as it is sound.
    fn open(disk: &dyn Disk, dir: &Path, start: Timestamp) -> io::Result<Self> {
        let path = dir.join(segment_name(start));
        let frames = disk.open_read(&path)?;
        let end = frames.bytes()?;
        let header = read_header(frames.as_ref(), &path, start);
        let header = header.map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        let opened = IndexWriter::open(disk, dir, &header, frames.as_ref(), end);
        let opened = opened.and_then(|(mut index, passed)| {
            // A writer that was killed before it had taken the copy over may have noted what it had synced.
            let noted = IndexFile::open(disk, dir, &header)?.map_or(0, |noted| noted.synced_bytes());
            if noted > 0 {
                index.note_synced(0)?;
            }
            Ok((index, passed))
        });
        let (index, passed) = opened.inspect_err(|_| {
            // What is there is of no use, or half made.
            let _ = disk.remove(&dir.join(index_name(start)));
        })?;
        Ok(Self { start, frames, index, passed })
    }

    /// Goes on to `end`, at most for `limit_bytes`. Returns whether there is no more.
    fn complete(&mut self, end: u64, limit_bytes: u64) -> io::Result<bool> {
        self.index.complete(self.frames.as_ref(), &mut self.passed, end, limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::index_start;
    use crate::index::{INDEX_HEADER_BYTES, IndexHeader, SLOT_BYTES, SLOT_EVERY_BYTES, Slot, slots_in};
    use crate::made;

    /// Four closed segments of 40 frames of 20 KB each.
    fn made() -> made::Made {
        let mut made = made::Made::new();
        for number in 0..160_u8 {
            made.batch(10, &[&vec![number; 20_000], b"second"]);
            if number % 40 == 39 {
                made.close();
            }
        }
        made
    }

    fn at(ns: i64) -> Timestamp {
        Timestamp::from_ns(ns)
    }

    fn indexes(made: &made::Made) -> Vec<Vec<u8>> {
        made.segments().iter().map(|(start, _)| made.bytes_of(&made.index_path(*start))).collect()
    }

    fn starts(made: &made::Made) -> Vec<Timestamp> {
        made.segments().iter().map(|(start, _)| *start).collect()
    }

    fn slots(made: &made::Made) -> u64 {
        let listed = made.disk.list(&made.dir).unwrap();
        let indexes = listed.iter().filter(|entry| index_start(&entry.name).is_some());
        indexes.map(|entry| slots_in(entry.bytes)).sum()
    }

    #[test]
    fn missing_indexes_are_made_a_limited_stretch_at_a_time() {
        let made = made();
        let expected = indexes(&made);
        for start in starts(&made) {
            made.disk.remove(&made.index_path(start)).unwrap();
        }
        let mut indexes = CopyIndexes::new(starts(&made));
        let (limit_bytes, mut seen, mut calls) = (OPEN_BYTES + 200_000, 0, 0);
        while slots(&made) < expected.iter().map(|bytes| slots_in(bytes.len() as u64)).sum() {
            indexes.mend(&made.disk, &made.dir, limit_bytes);
            let grown = slots(&made) - seen;
            assert!(grown <= limit_bytes / SLOT_EVERY_BYTES + 2, "{grown} slots at once");
            (seen, calls) = (seen + grown, calls + 1);
            assert!(calls < 100);
        }
        assert!(calls >= 4, "{calls} calls");
        indexes.mend(&made.disk, &made.dir, u64::MAX);
        assert_eq!(self::indexes(&made), expected);
        assert!(indexes.older.is_empty() && indexes.mended.is_none());
    }

    #[test]
    fn what_is_sound_of_an_index_is_kept_and_the_rest_made_again() {
        let made = made();
        let expected = indexes(&made);
        let second = made.index_path(starts(&made)[1]);
        let whole = &expected[1];
        let stale = [&whole[..], &whole[INDEX_HEADER_BYTES..]].concat();
        // Slots that have their checksums, and lead to no frame: as of a file that was longer, or other frames.
        let salt = IndexHeader::decode(whole.first_chunk().unwrap()).unwrap().salt;
        let number = slots_in(whole.len() as u64);
        let last = Slot::decode(whole.last_chunk().unwrap(), salt, number - 1).unwrap();
        let beside = Slot { offset: last.offset + 8, time: at(1), entries: last.entries + 1 };
        let later = Slot { time: at(last.time.as_ns() + 1), ..last };
        let gone = [&whole[..], &Slot { time: at(i64::MAX), ..beside }.encode(salt, number)].concat();
        let other = [&whole[..whole.len() - SLOT_BYTES], &later.encode(salt, number - 1)].concat();
        let mut cases = vec![stale, gone, other, expected[0].clone(), vec![0; 500], Vec::new()];
        cases.extend((0..whole.len()).step_by(7).map(|bytes| whole[..bytes].to_vec()));
        cases.extend((0..whole.len()).step_by(5).map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            flipped
        }));
        for bytes in cases {
            made.overwrite(&second, &bytes);
            CopyIndexes::new(starts(&made)).mend(&made.disk, &made.dir, u64::MAX);
            assert_eq!(indexes(&made), expected);
        }
    }

    #[test]
    fn what_a_killed_writer_has_noted_of_syncs_is_taken_back() {
        let made = made();
        let expected = indexes(&made);
        let last = *starts(&made).last().unwrap();
        let noted = |start| {
            let index = made.disk.open(&made.index_path(start)).unwrap();
            let salt = IndexHeader::decode(made.bytes_of(&made.index_path(start)).first_chunk().unwrap());
            let header = IndexHeader { salt: salt.unwrap().salt, synced_bytes: 96 };
            index.write_at(&header.encode(), 0).unwrap();
        };
        noted(starts(&made)[1]);
        noted(last);
        CopyIndexes::new(starts(&made)[..3].to_vec()).mend(&made.disk, &made.dir, u64::MAX);
        let mark = Mark { log: 7, number: 3, start: last, bytes: 96, is_ended: false };
        CopyIndexes::default().grow(&made.disk, &made.dir, &mark);
        assert_eq!(self::indexes(&made), expected);
    }

    #[test]
    fn segments_that_are_gone_or_damaged_are_passed_over() {
        let made = made();
        let expected = indexes(&made);
        let segments = made.segments();
        for (start, _) in &segments {
            made.disk.remove(&made.index_path(*start)).unwrap();
        }
        made.disk.remove(&segments[0].1).unwrap();
        made.overwrite(&segments[2].1, &[7; 300]);
        let all = segments.iter().map(|(start, _)| *start).collect();
        CopyIndexes::new(all).mend(&made.disk, &made.dir, u64::MAX);
        for (number, has_index) in [false, true, false, true].into_iter().enumerate() {
            let path = made.index_path(segments[number].0);
            assert_eq!(made.disk.bytes(&path).unwrap().is_some(), has_index, "{number}");
            assert!(!has_index || made.bytes_of(&path) == expected[number]);
        }
    }
}
