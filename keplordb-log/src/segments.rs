//! What segments a log has, and removing the oldest.

use std::io::ErrorKind;

use crate::entries::Cursor;
use crate::error::{IoContext, LogError, Result};
use crate::file::FileError;
use crate::frame::HEADER_BYTES;
use crate::header::{Listed, index_name, segment_name};
use crate::log::Log;
use crate::segment_file::{FIRST_FRAME, Found, FramePlace, SegmentFile};
use crate::timestamp::Timestamp;
use crate::view::View;
use crate::window::Window;

/// A segment of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Time of its first entry; the file's name says it too.
    pub start: Timestamp,
    /// Time of its last entry. If it is damaged, the latest that this can have been: the next segment's header says it, or else
    /// it was before that segment's start. If it is the last segment as well, the last one that is known.
    pub end: Timestamp,
    /// Its entries; those before the damage, if it is damaged: none, if its header is.
    pub entries: u64,
    /// Bytes of its header and frames; of its file, if it is damaged. The file of the last segment may be longer, by zeros
    /// written ahead.
    pub bytes: u64,
    /// 0 for the first segment that the log ever had, then one more each. If its header is damaged, what it is by the nearest
    /// header that is not, as if no segment were missing between them.
    pub number: u64,
    /// Whether it takes no more entries: the last one may be closed, the others are.
    pub is_closed: bool,
    /// Whether its header is damaged, or frames at its end that were whole once. Elsewhere nobody has looked:
    /// [`verify`](Log::verify) does.
    pub is_damaged: bool,
}

impl Log {
    /// The segments, oldest first; those that a writer or a replica is making meanwhile may be missing. One that is damaged is
    /// listed with what is known of it, so that [`retain`](Self::retain) can remove it: if its header is, nothing in it can be
    /// read, and its start is the one in its name.
    ///
    /// Cost: each file is opened, searched in its index, and read from there on: 64 KiB and a frame at most. A segment
    /// without an index costs a look at each frame's header, and one that ends in neither a frame nor zeros a look at the rest.
    ///
    /// # Errors
    /// [`LogError::TooNew`] for a segment of a newer release, and what reading says. Frames are looked at only at a segment's
    /// end: [`verify`](Self::verify) looks at all.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>> {
        let (disk, dir) = (self.disk(), self.path());
        let view = View::of(disk.as_ref(), dir)?;
        let mut window = Window::default();
        let mut segments: Vec<SegmentInfo> = Vec::with_capacity(view.segments.len());
        let mut is_numbered = false;
        for listed in &view.segments {
            let mut file = match SegmentFile::open(disk, dir, listed.start, std::mem::take(&mut window)) {
                Ok(Some(file)) => file,
                // One that was removed since it was listed is none.
                Ok(None) => continue,
                Err(LogError::Corrupt { .. }) => {
                    bound_damaged(&mut segments, listed.start, None);
                    let number = segments.last().map_or(0, |before| before.number.saturating_add(1));
                    segments.push(unreadable(listed, number, &view));
                    continue;
                }
                Err(error) => return Err(error),
            };
            view.place(&mut file);
            bound_damaged(&mut segments, listed.start, file.header.before);
            if !is_numbered {
                for (distance, unread) in (1..).zip(segments.iter_mut().rev()) {
                    unread.number = file.header.number.saturating_sub(distance);
                }
                is_numbered = true;
            }
            segments.extend(file.info(&view)?);
            window = file.into_window();
        }
        Ok(segments)
    }

    /// Removes the oldest segment, which must be the one that starts at `start`. A reader that has it open reads it to its end.
    /// On return it stays removed after a power cut.
    ///
    /// # Errors
    /// [`LogError::NoSegment`] if there is none that starts then, [`LogError::LastSegment`] if it is the last one,
    /// [`LogError::Invalid`] if there are older ones: without it nobody could tell that none is lost. What removing says. After a
    /// failed sync of the directory [`LogError::Poisoned`], until the log is opened again by [`open_with`](Self::open_with).
    pub fn remove_segment(&self, start: Timestamp) -> Result<()> {
        let (disk, dir) = (self.disk().as_ref(), self.path());
        let listed = View::of(disk, dir)?.segments;
        match listed.binary_search_by_key(&start, |segment: &Listed| segment.start) {
            Err(_) => return Err(LogError::NoSegment { dir: dir.to_owned(), start }),
            Ok(place) if place + 1 == listed.len() => return Err(LogError::LastSegment { start }),
            Ok(0) => {}
            Ok(place) => {
                let why =
                    format!("{place} segments are older than {start}, and only the oldest can be removed");
                return Err(LogError::Invalid { field: "start", why });
            }
        }
        // The name of the next segment may be in memory only: a power cut must not take that and this one.
        let sync =
            || disk.sync_dir(dir).map_err(|source| self.removals().set(FileError::io("sync", dir, source)));
        self.removals().check()?;
        sync()?;
        let path = dir.join(segment_name(start));
        match disk.remove(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(LogError::NoSegment { dir: dir.to_owned(), start });
            }
            removed => removed.at("remove", &path)?,
        }
        // An index without its segment is removed by the next writer.
        let _ = disk.remove(&dir.join(index_name(start)));
        // Before another is removed: a power cut must not bring this one back and take a later one.
        Ok(sync()?)
    }
}

/// What is known of a segment whose header is damaged.
fn unreadable(listed: &Listed, number: u64, view: &View) -> SegmentInfo {
    let start = listed.start;
    let (bytes, is_closed) = (listed.bytes.min(view.limit_bytes(start)), view.after(start).is_some());
    SegmentInfo { start, end: start, entries: 0, bytes, number, is_closed, is_damaged: true }
}

/// Gives the last of `segments`, if it is damaged, the latest end that the segment behind it leaves: that one starts at `start`,
/// and its header says, where it can be read, of what time the entry `before` it was.
fn bound_damaged(segments: &mut [SegmentInfo], start: Timestamp, before: Option<Timestamp>) {
    if let Some(damaged) = segments.last_mut().filter(|last| last.is_damaged) {
        let end = before.unwrap_or(Timestamp::from_ns(start.as_ns().saturating_sub(1)));
        damaged.end = end.max(damaged.start);
    }
}

impl SegmentFile {
    /// What the segment has; `None` if a copy has no frame of it yet, or if it is gone.
    fn info(&mut self, view: &View) -> Result<Option<SegmentInfo>> {
        let slot = self.last_counting_slot()?;
        let mut entries = slot.map_or(0, |slot| slot.entries);
        let mut at = slot.map_or(FIRST_FRAME, |slot| slot.offset);
        let mut last: Option<FramePlace> = None;
        let (mut closed, mut is_damaged) = (None, false);
        // Not in a copy: all that counts there is whole.
        let is_last = view.after(self.header.start).is_none() && view.mark.is_none();
        loop {
            match self.frame(at)? {
                Found::Frame(place) => {
                    entries += u64::from(place.entries);
                    (last, at) = (Some(place), place.end);
                    continue;
                }
                Found::Closed { last } => closed = Some(last),
                Found::Limit if at == FIRST_FRAME => return Ok(None),
                Found::Bad(bad) if !(is_last && self.is_end(at)?) && view.was_whole(self, at, &bad)? => {
                    // Read again: a writer, or its recovery, may just have written it.
                    if !self.renew()? {
                        return Ok(None);
                    }
                    is_damaged = matches!(self.frame(at)?, Found::Bad(_));
                    if !is_damaged {
                        continue;
                    }
                }
                Found::Limit | Found::Bad(_) => {}
            }
            break;
        }
        let (start, number) = (self.header.start, self.header.number);
        let end = match (closed, last) {
            (Some(end), _) => end,
            (None, Some(place)) => match self.last_time(&place) {
                // A checksum over what was malformed before: what is known of the frame is its first entry's time.
                Err(LogError::Corrupt { .. }) => {
                    is_damaged = true;
                    place.first
                }
                last => last?,
            },
            (None, None) => slot.map_or(start, |slot| slot.time),
        };
        let bytes = match closed {
            _ if is_damaged => self.file_bytes()?.min(self.limit_bytes),
            Some(_) => at + HEADER_BYTES as u64,
            None => at,
        };
        let is_closed = closed.is_some() || view.after(start).is_some();
        Ok(Some(SegmentInfo { start, end, entries, bytes, number, is_closed, is_damaged }))
    }

    /// Whether the segment may end at `at`: zeros are there, or nothing, and nobody has noted that something was.
    fn is_end(&mut self, at: u64) -> Result<bool> {
        Ok(self.is_blank(at)? && !self.is_noted(at))
    }

    /// Time of the last entry of a frame.
    fn last_time(&mut self, place: &FramePlace) -> Result<Timestamp> {
        // It may not be in memory any more.
        self.frame(place.offset)?;
        let mut cursor = Cursor::new(place.first, place.entries);
        let mut last = place.first;
        loop {
            match cursor.next(self.payload(place)) {
                Ok(Some((time, _))) => last = time,
                Ok(None) => return Ok(last),
                Err(malformed) => return Err(malformed.in_frame(&self.path, place.offset)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use keplordb_disk::Disk;

    use super::*;
    use crate::Retention;
    use crate::made::Made;

    /// Three segments of 100 frames of two entries each.
    fn made() -> Made {
        let mut made = Made::new();
        for number in 0..300_u32 {
            made.batch(10, &[&number.to_le_bytes().repeat(250), b"second"]);
            if number % 100 == 99 && number < 299 {
                made.close();
            }
        }
        made
    }

    #[test]
    fn a_damaged_segment_is_listed_and_can_be_forgotten() {
        let made = made();
        let sound = made.log().segments().unwrap();
        assert_eq!(sound.iter().map(|segment| segment.entries).collect::<Vec<_>>(), [200; 3]);
        assert!(sound.iter().all(|segment| !segment.is_damaged));
        let index = |number: usize| made.index_path(sound[number].start);
        // A header and a payload at the last slot, a payload near the end, the closing frame, and the first and tenth frames without an index.
        let (path, index) = (made.segments()[0].1.clone(), index(0));
        let (whole, slots) = (made.bytes_of(&path), made.bytes_of(&index));
        let frame_bytes = (whole.len() - 64 - 32) / 100;
        assert_eq!(crate::index::slots_in(slots.len() as u64), 2);
        let last_slot = 64 + 65_536_usize.next_multiple_of(frame_bytes);
        for (at, has_index, entries) in [
            (last_slot + 5, true, (last_slot - 64) / frame_bytes * 2),
            (last_slot + 100, true, (last_slot - 64) / frame_bytes * 2),
            (64 + 98 * frame_bytes + 100, true, 196),
            (whole.len() - 3, true, 200),
            (64 + 5, false, 0),
            (64 + 10 * frame_bytes + 5, false, 20),
        ] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            made.overwrite(&path, &damaged);
            made.overwrite(&index, if has_index { &slots } else { &[] });
            let segments = made.log().segments().unwrap();
            let expected = SegmentInfo {
                entries: entries as u64,
                bytes: whole.len() as u64,
                is_damaged: true,
                ..sound[0]
            };
            assert_eq!(segments, [expected, sound[1], sound[2]], "byte {at}");
        }
        let removed = made.log().retain(&Retention { max_age: None, max_bytes: Some(1) }).unwrap();
        assert_eq!(removed.segments, 2);
        assert_eq!(made.log().segments().unwrap(), sound[2..]);
    }

    #[test]
    fn segments_without_a_header_are_listed_between_their_neighbours() {
        let made = made();
        let sound = made.log().segments().unwrap();
        let files: Vec<_> =
            made.segments().into_iter().map(|(_, path)| (made.bytes_of(&path), path)).collect();
        let end_before = |number: usize| Timestamp::from_ns(sound[number].start.as_ns() - 1);
        for damaged in 1..8_u8 {
            let is_damaged = |number: usize| damaged >> number & 1 == 1;
            for (number, (whole, path)) in files.iter().enumerate() {
                let mut bytes = whole.clone();
                if is_damaged(number) {
                    // Salt, version, and one cut inside the header.
                    match number {
                        0 => bytes[20] ^= 1,
                        1 => bytes[8] ^= 2,
                        _ => bytes.truncate(40),
                    }
                }
                made.overwrite(path, &bytes);
            }
            let expected = |number: usize| {
                if !is_damaged(number) {
                    return sound[number];
                }
                let end = match number {
                    2 => sound[2].start,
                    // What the next header says, or else its file's name.
                    _ if is_damaged(number + 1) => end_before(number + 1),
                    _ => sound[number].end,
                };
                let bytes = made.bytes_of(&files[number].1).len() as u64;
                SegmentInfo { end, bytes, entries: 0, is_damaged: true, ..sound[number] }
            };
            let expected: Vec<_> = (0..3).map(expected).collect();
            assert_eq!(made.log().segments().unwrap(), expected, "{damaged:b}");
            let stats = made.log().stats().unwrap();
            assert_eq!(stats.entries, (0..3).filter(|number| !is_damaged(*number)).count() as u64 * 200);
            let report = made.log().verify().unwrap();
            let told: Vec<_> = report.damage.iter().map(|damage| damage.file.clone()).collect();
            let files = (0..3).filter(|number| is_damaged(*number)).map(|number| files[number].1.clone());
            assert_eq!(told, files.collect::<Vec<_>>(), "{report:?}");
        }
        // A frame that is damaged before a header that is: only the name behind says until when it went.
        let (mut bytes, path) = files[0].clone();
        let end = bytes.len();
        bytes[end - 3] ^= 1;
        made.overwrite(&path, &bytes);
        made.overwrite(&files[1].1, &[]);
        let listed = made.log().segments().unwrap();
        assert_eq!((listed[0].end, listed[0].entries), (end_before(1), 200));
        assert!(listed[0].is_damaged && listed[1].is_damaged && listed[1].bytes == 0);
    }

    /// The first ones have no neighbour before them that could be counted from.
    #[test]
    fn a_damaged_first_segment_is_numbered_by_a_later_one() {
        let mut made = made();
        for _ in 0..2 {
            made.close();
            made.batch(10, &[b"later"]);
        }
        let segments = made.segments();
        made.disk.remove(&segments[0].1).unwrap();
        for (_, path) in &segments[1..3] {
            made.overwrite(path, &[7; 100]);
        }
        let listed = made.log().segments().unwrap();
        let known: Vec<_> = listed.iter().map(|segment| (segment.number, segment.is_damaged)).collect();
        assert_eq!(known, [(1, true), (2, true), (3, false), (4, false)]);
        assert!(listed[..3].iter().all(|segment| segment.is_closed));
    }

    /// What never was written so, behind a checksum that holds: nobody can read the frame, and the segment is listed all the same.
    #[test]
    fn a_last_frame_that_makes_no_sense_is_damage() {
        let made = made();
        let sound = made.log().segments().unwrap();
        let path = made.segments()[2].1.clone();
        let mut bytes = made.bytes_of(&path);
        let frame_bytes = (bytes.len() - 64) / 100;
        let last = bytes.len() - frame_bytes;
        let salt = crate::header::SegmentHeader::decode(&bytes).unwrap().salt;
        let mut header =
            crate::frame::read_header(bytes[last..].first_chunk().unwrap(), salt, last as u64).unwrap();
        // One entry more than there are.
        header.rows += 1;
        let payload_bytes = header.payload_bytes as usize;
        let crc = crate::frame::payload_crc(&bytes[last + HEADER_BYTES..][..payload_bytes]);
        crate::frame::write_header(bytes[last..].first_chunk_mut().unwrap(), salt, crc, &header);
        made.overwrite(&path, &bytes);
        let listed = made.log().segments().unwrap();
        assert_eq!(listed[..2], sound[..2]);
        let first_of_frame = Timestamp::from_ns(header.first as i64);
        assert!(listed[2].is_damaged && listed[2].end == first_of_frame, "{listed:?}");
        assert_eq!(listed[2].bytes, bytes.len() as u64);
    }

    /// A newer release's segments are its own to judge.
    #[test]
    fn a_newer_segment_is_no_damaged_one() {
        let made = made();
        let path = made.segments()[1].1.clone();
        let mut bytes = made.bytes_of(&path);
        bytes[8] = 9;
        bytes[12..16].fill(0);
        let crc = crc32fast::hash(&bytes[..64]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        made.overwrite(&path, &bytes);
        let error = made.log().segments().unwrap_err();
        assert!(matches!(error, LogError::TooNew { found: 9, .. }), "{error}");
        assert!(made.log().retain(&Retention { max_age: None, max_bytes: Some(1) }).is_err());
        assert_eq!(made.segments().len(), 3);
    }

    #[test]
    fn a_torn_end_is_no_damage_and_a_proved_one_is() {
        let made = made();
        let path = made.segments()[2].1.clone();
        let whole = made.bytes_of(&path);
        let frame_bytes = (whole.len() - 64) / 100;
        for (frame, byte, is_damaged) in
            [(99, 5, false), (99, 100, false), (98, 5, true), (98, 100, true), (0, 5, true)]
        {
            let mut damaged = whole.clone();
            damaged[64 + frame * frame_bytes + byte] ^= 1;
            made.overwrite(&path, &damaged);
            if frame == 0 {
                made.disk.remove(&made.index_path(made.segments()[2].0)).unwrap();
            }
            let last = made.log().segments().unwrap()[2];
            assert_eq!((last.entries, last.is_damaged), (2 * frame as u64, is_damaged), "{frame}, {byte}");
            let ends = made.entries[(400 + 2 * frame).saturating_sub(1).max(400)].0;
            assert_eq!(last.end.as_ns(), ends);
        }
        made.overwrite(&path, &whole);
        made.fill(300_000);
        assert!(!made.log().segments().unwrap()[2].is_damaged);
    }
}
