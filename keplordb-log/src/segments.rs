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
    /// Time of its last entry; of the last one that is known, if it is damaged.
    pub end: Timestamp,
    /// Its entries; those before the damage, if it is damaged.
    pub entries: u64,
    /// Bytes of its header and frames; of its file, if it is damaged. The file of the last segment may be longer, by zeros
    /// written ahead.
    pub bytes: u64,
    /// 0 for the first segment that the log ever had, then one more each.
    pub number: u64,
    /// Whether it takes no more entries: the last one may be closed, the others are.
    pub is_closed: bool,
    /// Whether frames at its end are damaged that were whole once. Elsewhere nobody has looked:
    /// [`verify`](Log::verify) does.
    pub is_damaged: bool,
}

impl Log {
    /// The segments, oldest first; those that a writer or a replica is making meanwhile may be missing. One with damaged
    /// frames is listed with what is known of it, so that [`retain`](Self::retain) can remove it.
    ///
    /// Cost: each file is opened, searched in its index, and read from there on: 64 KiB and a frame at most. A segment
    /// without an index costs a look at each frame's header, and one that ends in neither a frame nor zeros a look at the rest.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] for a damaged header of a segment, and what reading says. Frames are looked at only at a segment's end:
    /// [`verify`](Self::verify) looks at all.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>> {
        let (disk, dir) = (self.disk(), self.path());
        let view = View::of(disk.as_ref(), dir)?;
        let mut window = Window::default();
        let mut segments: Vec<SegmentInfo> = Vec::with_capacity(view.segments.len());
        for listed in &view.segments {
            // One that was removed since it was listed is none.
            let Some(mut file) = SegmentFile::open(disk, dir, listed.start, std::mem::take(&mut window))?
            else {
                continue;
            };
            file.limit_bytes = view.limit_bytes(listed.start);
            // What a damaged segment does not tell any more is in the header of the next.
            if let Some(before) = segments.last_mut().filter(|before| before.is_damaged)
                && before.number.checked_add(1) == Some(file.header.number)
                && let Some(end) = file.header.before
            {
                before.end = end;
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

impl SegmentFile {
    /// What the segment has; `None` if a copy has no frame of it yet, or if it is gone.
    fn info(&mut self, view: &View) -> Result<Option<SegmentInfo>> {
        let slot = self.last_slot()?;
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
            (None, Some(place)) => self.last_time(&place)?,
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
        self.read(at, HEADER_BYTES)?;
        let is_blank = self.window.from(at).iter().take(HEADER_BYTES).all(|byte| *byte == 0);
        Ok(is_blank && !self.is_noted(at))
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
        // A header and a payload at the last slot, a payload near the end, the closing frame, and the first frame of all without an index.
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
