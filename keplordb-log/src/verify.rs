//! `Log::verify`: reads all of a log and tells all that is wrong with it, not only the first.

use std::path::PathBuf;

use crate::entries;
use crate::error::{IoContext, LogError, Result};
use crate::frame::{BadFrame, HEADER_BYTES};
use crate::header::{LOCK, SegmentHeader, segment_name};
use crate::log::Log;
use crate::segment_file::{FIRST_FRAME, Found, FramePlace, SegmentFile};
use crate::timestamp::Timestamp;
use crate::view::View;
use crate::window::Window;

/// Bytes that are searched for the next header at a time.
const SEARCH_BYTES: usize = 256 << 10;

/// What [`Log::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments that were read.
    pub segments: u64,
    /// Entries that can be read.
    pub entries: u64,
    /// Bytes of the segments' files that hold them: headers and whole frames.
    pub bytes: u64,
    /// The time of the first of them.
    pub first: Option<Timestamp>,
    /// The time of the last of them.
    pub last: Option<Timestamp>,
    /// All that is damaged, in the order of files and offsets; nothing in a sound log.
    pub damage: Vec<Damage>,
    /// What a crash left behind the last batch. It is no damage: the next writer cuts it away.
    pub torn: Option<Torn>,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// A stretch of a file that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How many bytes of it cannot be read; 0 where something is missing.
    pub bytes: u64,
    /// How many entries were in them, where that can still be told.
    pub entries: Option<u64>,
    /// What is wrong, as a clause without a full stop.
    pub what: String,
}

/// Bytes behind the last batch that are no batch, and that nothing proves to have been one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The last segment's file.
    pub file: PathBuf,
    /// Where they begin, in bytes.
    pub offset: u64,
    /// How many there are, space that was filled with zeros ahead included.
    pub bytes: u64,
}

impl Log {
    /// Reads every segment: all checksums, every entry, the order of times, and that no segment is missing. Works beside a
    /// writer, and then tells of what was there when it came by.
    ///
    /// Time indexes are not looked at: nothing depends on them.
    ///
    /// Cost: reads all files once, at the speed of reading; memory as for the longest batch.
    ///
    /// # Errors
    /// [`LogError::Io`] if the directory or a file cannot be opened. What cannot be read of an open file is damage.
    ///
    /// ```
    /// use keplordb_log::Log;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let report = Log::open(dir.path())?.verify()?;
    /// assert!(report.is_sound());
    /// for damage in &report.damage {
    ///     println!("{} at byte {}: {}", damage.file.display(), damage.offset, damage.what);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(&self) -> Result<VerifyReport> {
        let disk = &self.options().disk;
        let view = View::of(&**disk, self.path())?;
        let mut verifier = Verifier::default();
        let mut window = Window::default();
        for (place, listed) in view.segments.iter().enumerate() {
            let is_last = place + 1 == view.segments.len();
            let mut segment =
                match SegmentFile::open(disk, self.path(), listed.start, std::mem::take(&mut window)) {
                    Ok(Some(segment)) => segment,
                    // Removed meanwhile, so the next one follows nothing that is known.
                    Ok(None) => {
                        (verifier.before, verifier.last) = (None, None);
                        continue;
                    }
                    Err(LogError::Corrupt { file, offset, what }) => {
                        verifier.damaged_header(Damage {
                            file,
                            offset,
                            bytes: listed.bytes,
                            entries: None,
                            what,
                        });
                        continue;
                    }
                    Err(LogError::TooNew { file, found, .. }) => {
                        let what = format!("its format version is {found}, which only a newer release reads");
                        verifier.damaged_header(Damage {
                            file,
                            offset: 8,
                            bytes: listed.bytes,
                            entries: None,
                            what,
                        });
                        continue;
                    }
                    Err(error) => return Err(error),
                };
            view.place(&mut segment);
            verifier.segment(&mut segment, is_last, view.mark.is_some());
            window = segment.into_window();
        }
        // In a replica: what its mark counts must be there.
        if let Some(mark) = view.mark.filter(|mark| mark.bytes > 0 && !view.has(mark.start)) {
            let (file, what) = (self.path().join(segment_name(mark.start)), "the file is missing".to_owned());
            verifier.report.damage.push(Damage { file, offset: 0, bytes: 0, entries: None, what });
        }
        Ok(verifier.report)
    }
}

#[derive(Debug, Default)]
struct Verifier {
    report: VerifyReport,
    /// The segment before, if it could be opened.
    before: Option<SegmentHeader>,
    /// The time of the entry before; `None` behind damage, where that is not known.
    last: Option<Timestamp>,
    /// Where the zeros begin that end the segment, once it was looked for: damaged places are many at times.
    used_bytes: Option<u64>,
}

impl Verifier {
    fn damaged_header(&mut self, damage: Damage) {
        self.report.segments += 1;
        self.report.damage.push(damage);
        (self.before, self.last) = (None, None);
    }

    fn damage(
        &mut self,
        segment: &SegmentFile,
        offset: u64,
        bytes: u64,
        entries: Option<u64>,
        what: impl Into<String>,
    ) {
        let (file, what) = (segment.path.clone(), what.into());
        self.report.damage.push(Damage { file, offset, bytes, entries, what });
        self.last = None;
    }

    fn segment(&mut self, segment: &mut SegmentFile, is_last: bool, is_copy: bool) {
        self.report.segments += 1;
        self.used_bytes = None;
        self.order(segment);
        let mut at = FIRST_FRAME;
        if let Err(error) = self.frames(segment, &mut at, is_last, is_copy) {
            let rest = segment.file_bytes().unwrap_or(at).saturating_sub(at);
            self.damage(segment, at, rest, None, format!("the rest cannot be read: {error}"));
        }
        self.before = Some(segment.header);
    }

    /// Whether it is the segment that should follow the one before.
    fn order(&mut self, segment: &SegmentFile) {
        let header = segment.header;
        let Some(before) = self.before else { return };
        if header.log != before.log {
            self.damage(segment, 24, 0, None, "the segment is one of another log");
        } else if before.number.checked_add(1) != Some(header.number) {
            self.damage(segment, 32, 0, None, "a segment before this one is missing");
        } else if self.last.is_some() && header.before != self.last {
            self.damage(
                segment,
                48,
                0,
                None,
                "the entry before this segment is not the last of the one before",
            );
        }
    }

    /// Reads frame by frame. `at` says how far it came.
    fn frames(
        &mut self,
        segment: &mut SegmentFile,
        at: &mut u64,
        is_last: bool,
        is_copy: bool,
    ) -> Result<()> {
        self.report.bytes += FIRST_FRAME;
        loop {
            match segment.frame(*at)? {
                Found::Frame(frame) => {
                    self.frame(segment, &frame);
                    *at = frame.end;
                }
                Found::Closed { last } => {
                    if self.last.is_some_and(|found| found != last) {
                        self.damage(
                            segment,
                            *at,
                            HEADER_BYTES as u64,
                            None,
                            "the closing frame has not the last entry's time",
                        );
                    }
                    self.last = Some(last);
                    self.report.bytes += HEADER_BYTES as u64;
                    *at += HEADER_BYTES as u64;
                    if let Found::Frame(frame) = segment.frame(*at)? {
                        let entries = Some(u64::from(frame.entries));
                        self.damage(
                            segment,
                            *at,
                            frame.end - *at,
                            entries,
                            "a frame follows the closing frame",
                        );
                    }
                    return Ok(());
                }
                Found::Limit => return Ok(()),
                Found::Bad(bad) => {
                    let Some(next) = self.bad(segment, *at, &bad, is_last, is_copy)? else { return Ok(()) };
                    *at = next;
                }
            }
        }
    }

    fn frame(&mut self, segment: &SegmentFile, frame: &FramePlace) {
        let bytes = frame.end - frame.offset;
        let is_first = frame.offset == FIRST_FRAME;
        if is_first && frame.first != segment.header.start {
            self.damage(segment, frame.offset, 0, None, "the first entry is not of the segment's start");
        } else if self.last.is_some_and(|last| frame.first <= last) {
            self.damage(segment, frame.offset, 0, None, "a frame is not later than the one before it");
        }
        let (mut count, mut last) = (0, frame.first);
        for entry in entries::entries(segment.payload(frame), frame.first, frame.entries) {
            match entry {
                Ok((time, _)) => (count, last) = (count + 1, time),
                Err(malformed) => {
                    let offset = frame.offset + (HEADER_BYTES + malformed.at) as u64;
                    let unread = u64::from(frame.entries).saturating_sub(count);
                    self.damage(segment, offset, frame.end - offset, Some(unread), malformed.what);
                    self.report.entries += count;
                    return;
                }
            }
        }
        self.report.entries += count;
        self.report.bytes += bytes;
        self.report.first.get_or_insert(frame.first);
        (self.report.last, self.last) = (Some(last), Some(last));
    }

    /// Where the zeros begin that end the segment, or `at` if nothing else follows it.
    fn used_bytes(&mut self, segment: &mut SegmentFile, at: u64) -> Result<u64> {
        let used_bytes = match self.used_bytes {
            Some(used_bytes) => used_bytes,
            None => segment.used_bytes(at)?,
        };
        self.used_bytes = Some(used_bytes);
        Ok(used_bytes.max(at))
    }

    /// Where to go on behind a bad frame; `None` at the end.
    fn bad(
        &mut self,
        segment: &mut SegmentFile,
        at: u64,
        bad: &BadFrame,
        is_last: bool,
        is_copy: bool,
    ) -> Result<Option<u64>> {
        if is_last && !is_copy {
            let is_torn = !segment.is_covered(at, bad)?;
            let is_used = self.used_bytes(segment, at)? > at;
            // A writer may have written, since it was read, what was bad.
            segment.renew()?;
            if !matches!(segment.frame(at)?, Found::Bad(_)) {
                self.used_bytes = None;
                return Ok(Some(at));
            }
            if is_torn {
                // Beside a writer it is what he is just writing: he has cut off before what a crash had left.
                let lock = segment.path.with_file_name(LOCK);
                if is_used && !segment.disk.is_locked(&lock).at("look at", &lock)? {
                    let bytes = segment.file_bytes()?.saturating_sub(at);
                    self.report.torn = Some(Torn { file: segment.path.clone(), offset: at, bytes });
                }
                return Ok(None);
            }
        }
        let next = match bad.header {
            Some(header) => Some(at.saturating_add(header.frame_bytes())),
            None => segment.next_header(at, u64::MAX)?,
        };
        let used_bytes = self.used_bytes(segment, at)?;
        let entries = bad.header.map(|header| u64::from(header.rows));
        match next.filter(|next| *next < used_bytes) {
            Some(next) => {
                self.damage(segment, at, next - at, entries, bad.what);
                Ok(Some(next))
            }
            None if used_bytes > at => {
                self.damage(segment, at, used_bytes - at, entries, bad.what);
                Ok(None)
            }
            None => {
                let is_cut_copy = segment.limit_bytes < u64::MAX;
                let what = if is_cut_copy {
                    "the copy ends before its mark says"
                } else if is_last {
                    "the segment ends before what was synced of it"
                } else {
                    "the segment ends without a closing frame, though another follows"
                };
                self.damage(segment, at, 0, None, what);
                Ok(None)
            }
        }
    }
}

impl SegmentFile {
    /// Where the zeros begin that end the file, or `at` if nothing else follows it.
    fn used_bytes(&mut self, at: u64) -> Result<u64> {
        let (mut at, mut used_bytes) = (at, at);
        loop {
            self.read(at, SEARCH_BYTES)?;
            let bytes = self.window.from(at);
            if bytes.is_empty() {
                return Ok(used_bytes);
            }
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                used_bytes = at + last as u64 + 1;
            }
            at += bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use keplordb_disk::Disk;

    use super::*;
    use crate::made::Made;

    /// Three segments of three frames with three entries each; the last is not closed.
    fn made() -> Made {
        let mut made = Made::new();
        for number in 0..9_u8 {
            made.batch(10, &[&[number + 1; 20], b"-", &[number + 1; 20]]);
            if number % 3 == 2 && number < 8 {
                made.close();
            }
        }
        made
    }

    fn places(report: &VerifyReport) -> Vec<(usize, u64, u64, Option<u64>)> {
        let files: std::collections::BTreeSet<_> =
            report.damage.iter().map(|damage| damage.file.clone()).collect();
        let number = |file| files.iter().position(|other| other == file).unwrap();
        report
            .damage
            .iter()
            .map(|found| (number(&found.file), found.offset, found.bytes, found.entries))
            .collect()
    }

    #[test]
    fn a_sound_log_is_counted() {
        let made = made();
        made.fill(300_000);
        let report = made.log().verify().unwrap();
        assert!(report.is_sound() && report.torn.is_none(), "{report:?}");
        assert_eq!((report.segments, report.entries), (3, 27));
        let (first, last) = (made.entries[0].0, made.entries[26].0);
        assert_eq!(report.first, Some(Timestamp::from_ns(first)));
        assert_eq!(report.last, Some(Timestamp::from_ns(last)));
        let frame = 32 + 48;
        assert_eq!(report.bytes, 3 * 64 + 9 * frame + 2 * 32);
        assert_eq!(Made::new().log().verify().unwrap(), VerifyReport::default());
    }

    #[test]
    fn all_damage_is_told_with_its_place() {
        let made = made();
        let frame = 32 + 48;
        let paths: Vec<PathBuf> = made.segments().into_iter().map(|(_, path)| path).collect();
        for (path, at) in [
            // A payload, a header, and a closing frame of the first.
            (&paths[0], 64 + 40),
            (&paths[0], 64 + 2 * frame + 3),
            (&paths[0], 64 + 3 * frame + 9),
            // Two frames together of the last, which the third proves to have been there.
            (&paths[2], 64),
            (&paths[2], 64 + frame),
        ] {
            let mut bytes = made.bytes_of(path);
            bytes[usize::try_from(at).unwrap()] ^= 0x55;
            made.overwrite(path, &bytes);
        }
        let report = made.log().verify().unwrap();
        let expected =
            [(0, 64, frame, Some(3)), (0, 64 + 2 * frame, frame + 32, None), (1, 64, 2 * frame, None)];
        let mut found = places(&report);
        // The last bytes of a closing frame may be zeros.
        found[1].2 = frame + 32;
        assert_eq!(found, expected, "{report:?}");
        assert_eq!((report.entries, report.segments), (3 + 9 + 3, 3));
        assert!(report.torn.is_none());
    }

    #[test]
    fn a_torn_tail_is_no_damage() {
        let made = made();
        let path = made.segments()[2].1.clone();
        let bytes = made.bytes_of(&path);
        made.overwrite(&path, &bytes[..bytes.len() - 11]);
        let report = made.log().verify().unwrap();
        assert!(report.is_sound());
        let torn = Torn { file: path, offset: 64 + 2 * 80, bytes: 80 - 11 };
        assert_eq!((report.entries, report.torn), (24, Some(torn)));
    }

    #[test]
    fn beside_a_writer_an_unfinished_end_is_no_crash() {
        let made = made();
        let path = made.segments()[2].1.clone();
        let bytes = made.bytes_of(&path);
        made.overwrite(&path, &bytes[..bytes.len() - 11]);
        let lock = made.disk.lock(&made.dir.join(LOCK)).unwrap();
        let report = made.log().verify().unwrap();
        assert!(report.is_sound() && report.torn.is_none(), "{report:?}");
        drop(lock);
        assert!(made.log().verify().unwrap().torn.is_some());
    }

    #[test]
    fn each_of_many_damaged_places_is_told() {
        let mut made = Made::new();
        for number in 0..60_u8 {
            made.batch(10, &[&[number + 1; 40]]);
        }
        let path = made.segments()[0].1.clone();
        let mut bytes = made.bytes_of(&path);
        let frame = (bytes.len() - 64) / 60;
        for number in (0..60).step_by(3) {
            bytes[64 + number * frame + 40] ^= 0x55;
        }
        // And the end is garbage.
        bytes.extend_from_slice(&[7; 100]);
        made.overwrite(&path, &bytes);
        let report = made.log().verify().unwrap();
        assert_eq!((report.damage.len(), report.entries), (20, 40), "{report:?}");
        assert!(report.damage.iter().all(|damage| damage.bytes == frame as u64));
        assert_eq!(report.torn.unwrap().bytes, 100);
    }

    #[test]
    fn missing_and_foreign_segments_are_told() {
        let made = made();
        let paths: Vec<PathBuf> = made.segments().into_iter().map(|(_, path)| path).collect();
        let second = made.bytes_of(&paths[1]);
        made.disk.remove(&paths[1]).unwrap();
        let report = made.log().verify().unwrap();
        assert_eq!(report.damage.len(), 1);
        assert_eq!(report.damage[0].file, paths[2]);
        assert!(report.damage[0].what.contains("missing"));

        let mut header = SegmentHeader::decode(&second).unwrap();
        header.log += 1;
        made.disk.create(&paths[1]).unwrap();
        made.overwrite(&paths[1], &[&header.encode()[..], &second[64..]].concat());
        let report = made.log().verify().unwrap();
        assert!(report.damage.iter().all(|damage| damage.what.contains("another log")), "{report:?}");
        assert_eq!(report.damage.len(), 2);

        made.overwrite(&paths[1], b"nothing");
        let report = made.log().verify().unwrap();
        assert_eq!(report.damage.len(), 1);
        assert_eq!((report.segments, report.entries), (3, 18));

        // The end of a segment that another follows.
        made.overwrite(&paths[1], &second[..second.len() - 32]);
        let report = made.log().verify().unwrap();
        assert_eq!(places(&report), [(0, 64 + 240, 0, None)]);
    }
}
