//! Which frames the archive has: walked once, remembered, and followed as the archive grows.
//!
//! What the cache file says is taken where it fits to the archive's bytes. A file that was put in the archive's place, by
//! pruning, is noticed by its length and by what it says was pruned,
//! or when a frame of the one before could not be read.

use std::io;

use keplordb_disk::Disk;

use crate::error::{FoldError, at};
use crate::frames::{Archive, Found, Frame, Pruned, Walk};
use crate::index::{self, Entry, Facts};
use crate::paths::Paths;

/// A frame, and what its text is as soon as somebody wanted to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) frame: Frame,
    pub(crate) facts: Option<Facts>,
}

/// What is known of an archive.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    archive: Option<Archive>,
    pruned: Pruned,
    frames: Vec<Known>,
    /// Where the frames that are known end.
    end: u64,
    /// How much of the cache file was read.
    index_end: u64,
    /// The length of the file when it was last looked at.
    file_bytes: u64,
    is_doubtful: bool,
}

impl Catalog {
    /// Brings it up to date with an archive whose file has `file_bytes` bytes, of which the first `end` count; returns the
    /// generation that begins behind these.
    ///
    /// # Errors
    /// `Damaged` if they are not whole frames, or fewer than there once were.
    pub(crate) fn follow(
        &mut self,
        disk: &dyn Disk,
        paths: &Paths,
        file_bytes: u64,
        end: u64,
    ) -> io::Result<u64> {
        let is_known = self.file_bytes == file_bytes && self.end == end && self.is_same_file(disk, paths)?;
        if !is_known {
            if let Some(generation) = self.generation_behind(disk, paths, end)? {
                return Ok(generation);
            }
            let followed = self.walk_to(disk, paths, end).and_then(|torn| match torn {
                Some(at) => {
                    let what = "the last frame is torn; a writer that opens the log sets it aside".to_owned();
                    Err(FoldError::Damaged { file: paths.archive.clone(), offset: at, what }.into())
                }
                None => Ok(()),
            });
            if let Err(error) = followed {
                // Whatever was wrong, it is looked for again from the beginning.
                *self = Self::default();
                return Err(error);
            }
            self.file_bytes = file_bytes;
        }
        Ok(self.next_generation())
    }

    /// The generation that begins there, where less counts than is known: for those who looked a moment earlier.
    fn generation_behind(&self, disk: &dyn Disk, paths: &Paths, end: u64) -> io::Result<Option<u64>> {
        if end >= self.end || !self.is_same_file(disk, paths)? {
            return Ok(None);
        }
        let behind = self.frames.iter().rposition(|known| known.frame.end() == end);
        let first = self.frames.first().is_some_and(|known| known.frame.at == end).then_some(0);
        let count = behind.map(|last| last + 1).or(first);
        Ok(count.map(|count| self.pruned.generations + count as u64))
    }

    /// Is told that reading a frame failed: the next look opens the archive anew, as one that is sound may be put in its place, and may
    /// have the same length.
    pub(crate) fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// Whether the file that is open still is the archive, and has what is known of it.
    fn is_same_file(&self, disk: &dyn Disk, paths: &Paths) -> io::Result<bool> {
        let Some(archive) = self.archive.as_ref().filter(|_| !self.is_doubtful) else { return Ok(false) };
        let open = archive.bytes()?;
        let named = match disk.open_read(&paths.archive) {
            Ok(file) => Archive::new(file, &paths.archive),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(at("open", &paths.archive)(error)),
        };
        // The other has as many bytes, if what was pruned took as many as saying so.
        Ok(open >= self.end && named.bytes()? == open && named.pruned(open)?.0 == self.pruned)
    }

    /// Learns all frames up to `end`, or to the last one if that is torn: then returns where it begins.
    pub(crate) fn walk_to(&mut self, disk: &dyn Disk, paths: &Paths, end: u64) -> io::Result<Option<u64>> {
        if end < self.end || !self.is_same_file(disk, paths)? {
            *self = Self::default();
            if end > 0 {
                let file = disk.open_read(&paths.archive).map_err(at("open", &paths.archive))?;
                let archive = Archive::new(file, &paths.archive);
                (self.pruned, self.end) = archive.pruned(end)?;
                self.archive = Some(archive);
            }
        }
        self.take_from_index(disk, paths, end)?;
        let Some(archive) = &self.archive else { return Ok(None) };
        let mut walk = Walk::new(archive, self.end, end);
        while let Some(found) = walk.next()? {
            match found {
                Found::Frame(frame) => {
                    self.end = frame.end();
                    self.frames.push(Known { frame, facts: None });
                }
                Found::Torn(at) => {
                    let generation = self.next_generation();
                    let (mut entries, _) = index::load(disk, paths, 0);
                    // A repair that was stopped may have hidden the file.
                    entries.extend(index::load_former(disk, paths));
                    let known = entries.iter().rfind(|entry| entry.generation == generation);
                    return match known {
                        // Only damage makes one look torn that was whole and ends within the file.
                        Some(entry) if entry.at == at && entry.end() <= end => {
                            let what = format!(
                                "the frame was whole when {} was written: put back what it was, or remove that file too if it is \
                                 of another archive",
                                paths.index.display()
                            );
                            Err(FoldError::Damaged { file: paths.archive.clone(), offset: at, what }.into())
                        }
                        // Or loss of its end.
                        Some(entry) if entry.at == at => {
                            check_is_there(disk, paths, entry).map(|()| Some(at))
                        }
                        _ => Ok(Some(at)),
                    };
                }
            }
        }
        self.end = end;
        Ok(None)
    }

    /// Takes what the cache file knows of the first `end` bytes of the archive and what fits to them.
    fn take_from_index(&mut self, disk: &dyn Disk, paths: &Paths, end: u64) -> io::Result<()> {
        let (entries, index_end) = index::load(disk, paths, self.index_end);
        let mut fitting: Vec<Entry> = Vec::new();
        for entry in entries {
            // Only the last entry for a generation counts: an earlier one is of a frame that was cut back.
            while fitting.last().is_some_and(|last| last.generation >= entry.generation) {
                fitting.pop();
            }
            if entry.generation < self.next_generation() {
                self.learn_entry(&entry);
            } else if entry.generation == self.next_generation() + fitting.len() as u64 {
                fitting.push(entry);
            }
        }
        for entry in fitting {
            if entry.at != self.end {
                // Of another archive, or with something in between: the walk finds out.
                break;
            }
            if entry.end() > end {
                return check_is_there(disk, paths, &entry);
            }
            let Some(archive) = &self.archive else { break };
            let Some(frame) = archive.frame_at(entry.at, entry.bytes)? else { break };
            let Some(facts) = entry.facts().filter(|facts| fits(frame, &entry, facts)) else { break };
            self.end = frame.end();
            self.frames.push(Known { frame, facts: Some(facts) });
        }
        self.index_end = index_end;
        Ok(())
    }

    fn learn_entry(&mut self, entry: &Entry) {
        let known = self.known_mut(entry.generation).filter(|known| known.frame.at == entry.at);
        if let Some((known, facts)) = known.zip(entry.facts())
            && fits(known.frame, entry, &facts)
        {
            known.facts.get_or_insert(facts);
        }
    }

    /// Looks into the cache file for what was written to it since: it is written after the archive.
    pub(crate) fn learn_from_index(&mut self, disk: &dyn Disk, paths: &Paths) {
        let (entries, _) = index::load(disk, paths, self.index_end);
        for entry in entries {
            self.learn_entry(&entry);
        }
    }

    /// Takes what was known of the frames that an archive has which was put in the place of another.
    pub(crate) fn learn_from_former(&mut self, disk: &dyn Disk, paths: &Paths) {
        for entry in index::load_former(disk, paths) {
            if let Some((known, facts)) = self.known_mut(entry.generation).zip(entry.facts())
                && fits(known.frame, &entry, &facts)
            {
                known.facts.get_or_insert(facts);
            }
        }
    }

    /// The opened archive, if there is one.
    pub(crate) fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    pub(crate) fn pruned(&self) -> Pruned {
        self.pruned
    }

    /// The generation behind the archive's last.
    pub(crate) fn next_generation(&self) -> u64 {
        self.pruned.generations + self.frames.len() as u64
    }

    /// The frames from this generation on, oldest first.
    pub(crate) fn frames_from(&self, generation: u64) -> &[Known] {
        usize::try_from(generation.saturating_sub(self.pruned.generations))
            .ok()
            .and_then(|first| self.frames.get(first..))
            .unwrap_or_default()
    }

    /// Remembers what the text of a frame is; unless meanwhile another archive was put in its place.
    pub(crate) fn learn(&mut self, generation: u64, frame: Frame, facts: Facts) {
        if let Some(known) = self.known_mut(generation).filter(|known| known.frame == frame) {
            known.facts = Some(facts);
        }
    }

    fn known_mut(&mut self, generation: u64) -> Option<&mut Known> {
        let known = usize::try_from(generation.checked_sub(self.pruned.generations)?).ok()?;
        self.frames.get_mut(known)
    }
}

/// Whether an entry is of this frame.
fn fits(frame: Frame, entry: &Entry, facts: &Facts) -> bool {
    frame.bytes == entry.bytes
        && frame.text_bytes.is_none_or(|bytes| bytes == facts.text_bytes)
        && frame.checksum.is_none_or(|checksum| u64::from(checksum) == facts.hash & u64::from(u32::MAX))
}

/// Looks whether the frame of an entry is there by now: its rotation ended before the entry was written.
fn check_is_there(disk: &dyn Disk, paths: &Paths, entry: &Entry) -> io::Result<()> {
    let bytes = disk.bytes(&paths.archive).map_err(at("look for", &paths.archive))?.unwrap_or(0);
    if bytes >= entry.end() {
        return Ok(());
    }
    let what = format!(
        "it ends here, and had {} bytes when {} was written: put back what is missing, or remove that file",
        entry.end(),
        paths.index.display()
    );
    Err(FoldError::Damaged { file: paths.archive.clone(), offset: bytes, what }.into())
}
