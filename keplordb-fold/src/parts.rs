//! What an archive consists of, whatever became of it: frames, and what lies between them that is none.
//!
//! Where a frame is damaged the next one is looked for: where the cache file says that it begins, else where the bytes say so that
//! all frames begin with. So the frames behind keep the generations that they have.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use keplordb_disk::Disk;

use crate::error::FoldError;
use crate::frames::{Archive, Found, Frame, Walk};
use crate::index;
use crate::paths::Paths;

/// The shortest frame: magic, header of two bytes, and one block's header. What is shorter never was one.
const FRAME_BYTES_MIN: u64 = 9;

/// A part of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// A frame, as far as can be told without decoding it. If that fails, [`Parts::damaged`] is to be told.
    Frame(Frame),
    /// What is left of a frame, and what is wrong at which place.
    Damaged(Damage),
}

/// Bytes that are no frame but stand where one was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) range: Range<u64>,
    /// Where it was noticed.
    pub(crate) offset: u64,
    pub(crate) what: String,
    /// Whether nobody ever finished it, so that its text is still in the active log.
    pub(crate) is_unfinished: bool,
}

/// Goes over the parts of an archive, from the beginning of its first frame.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    archive: &'a Archive,
    at: u64,
    end: u64,
    /// Where frames end, by where they begin, as the cache file has it.
    written: BTreeMap<u64, u64>,
}

impl<'a> Parts<'a> {
    /// Of the first `end` bytes of an archive, whose frames begin at `from`.
    pub(crate) fn new(disk: &dyn Disk, paths: &Paths, archive: &'a Archive, (from, end): (u64, u64)) -> Self {
        let mut written = BTreeMap::new();
        for path in [&index::former(paths), &paths.index] {
            index::each(disk, path, 0, |_, entry| written.extend(entry.map(|entry| (entry.at, entry.end()))));
        }
        Self { archive, at: from, end, written }
    }

    /// The next part; nothing behind the last.
    ///
    /// # Errors
    /// What a read says: damage is none.
    pub(crate) fn next(&mut self) -> io::Result<Option<Part>> {
        let at = self.at;
        let damage = match Walk::new(self.archive, at, self.end).next() {
            Ok(None) => return Ok(None),
            Ok(Some(Found::Frame(frame))) => {
                let Some(what) = self.misfit(frame)? else {
                    self.at = frame.end();
                    return Ok(Some(Part::Frame(frame)));
                };
                (frame.end(), what.to_owned())
            }
            Ok(Some(Found::Torn(torn))) => {
                let mut damage = self.damage(at, (torn, "the file ends within the frame".to_owned()))?;
                damage.is_unfinished = !self.written.contains_key(&torn);
                return Ok(Some(Part::Damaged(damage)));
            }
            Err(error) => damage_in(error)?,
        };
        self.damage(at, damage).map(|damage| Some(Part::Damaged(damage)))
    }

    /// Says that the frame that came last cannot be decoded. Returns what of it is no other frame; those that are come next.
    ///
    /// # Errors
    /// As [`next`](Self::next); and `error` itself if it is not damage.
    pub(crate) fn damaged(&mut self, frame: Frame, error: io::Error) -> io::Result<Damage> {
        self.damage(frame.at, damage_in(error)?)
    }

    fn damage(&mut self, at: u64, (offset, what): (u64, String)) -> io::Result<Damage> {
        self.at = self.next_begin(at)?;
        Ok(Damage { range: at..self.at, offset, what, is_unfinished: false })
    }

    /// What is wrong with the length of a frame, if it is not what it was: a header that was changed may have another.
    fn misfit(&self, frame: Frame) -> io::Result<Option<&'static str>> {
        let end = frame.end();
        if self.written_end(frame.at)?.is_some_and(|written| written != end) {
            return Ok(Some("the frame is not as long as it was"));
        }
        if end == self.end || self.archive.begins_frame(end)? {
            return Ok(None);
        }
        let is_rest = Walk::new(self.archive, end, self.end).next().is_err()
            && self.next_begin(end)? - end < FRAME_BYTES_MIN;
        Ok(is_rest.then_some("behind the frame are bytes that are none"))
    }

    /// Where the frame that begins there ends, as the cache file has it, if the bytes there do not contradict.
    fn written_end(&self, at: u64) -> io::Result<Option<u64>> {
        let Some(&end) = self.written.get(&at).filter(|end| at < **end) else { return Ok(None) };
        let fits = end == self.end || end < self.end && self.archive.begins_frame(end)?;
        Ok(fits.then_some(end))
    }

    /// Where the frame behind that one begins.
    fn next_begin(&self, at: u64) -> io::Result<u64> {
        if let Some(end) = self.written_end(at)? {
            return Ok(end);
        }
        let mut from = at + 1;
        while let Some(begin) = self.archive.find_magic(from..self.end)? {
            if self.archive.begins_frame(begin)? {
                return Ok(begin);
            }
            from = begin + 1;
        }
        Ok(self.end)
    }
}

/// Where it was noticed and what it is, if the error is damage.
pub(crate) fn damage_in(error: io::Error) -> io::Result<(u64, String)> {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(FoldError::Damaged { offset, what, .. }) => Ok((*offset, what.clone())),
        _ => Err(error),
    }
}
