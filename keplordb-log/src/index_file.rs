//! The file of a time index: slots that are appended beside a segment, and searched in place.
//!
//! What the slots are is said in [`index`](crate::index). A file that is missing or no index of its segment is no error here.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk, DiskFile};

use crate::frame::{ALIGN_BYTES, HEADER_BYTES, Header, read_header};
use crate::header::{SEGMENT_HEADER_BYTES, SegmentHeader, index_name};
use crate::hop::Hops;
use crate::index::{
    INDEX_HEADER_BYTES, IndexHeader, SLOT_BYTES, SLOT_EVERY_BYTES, Slot, Slots, last_slot, slot_offset,
    slots_in,
};
use crate::timestamp::Timestamp;

/// An index that is read.
#[derive(Debug)]
pub(crate) struct IndexFile {
    file: Arc<dyn DiskFile>,
    header: IndexHeader,
}

impl IndexFile {
    /// The index of the segment with this header; `None` if there is none, or another's.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, segment: &SegmentHeader) -> io::Result<Option<Self>> {
        let file = match disk.open_read(&dir.join(index_name(segment.start))) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = [0; INDEX_HEADER_BYTES];
        let read = file.read_at(&mut bytes, 0)?;
        let header = if read == INDEX_HEADER_BYTES { IndexHeader::decode(&bytes) } else { None };
        let header = header.filter(|header| header.salt == segment.salt);
        Ok(header.map(|header| Self { file, header }))
    }

    /// Whether the file at `path` is an index that says nothing of syncs, as a replica makes them.
    pub(crate) fn is_of_replica(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
        let mut bytes = [0; INDEX_HEADER_BYTES];
        let read = disk.open_read(path)?.read_at(&mut bytes, 0)?;
        let header = if read == INDEX_HEADER_BYTES { IndexHeader::decode(&bytes) } else { None };
        Ok(header.is_some_and(|header| header.synced_bytes == 0))
    }

    /// Bytes of the segment that were synced when that was last noted.
    pub(crate) fn synced_bytes(&self) -> u64 {
        self.header.synced_bytes
    }

    /// How many slots there are now.
    pub(crate) fn slots(&self) -> io::Result<u64> {
        Ok(slots_in(self.file.bytes()?))
    }

    /// A slot; `None` if it is damaged or not there.
    pub(crate) fn slot(&self, number: u64) -> io::Result<Option<Slot>> {
        let mut bytes = [0; SLOT_BYTES];
        let read = self.file.read_at(&mut bytes, slot_offset(number))?;
        Ok(if read == SLOT_BYTES { Slot::decode(&bytes, self.header.salt, number) } else { None })
    }

    /// The last slot that `is_before` is true of and its number, as [`last_slot`]; `None` if none is, or if a slot on the way is
    /// damaged.
    pub(crate) fn last_before(&self, is_before: impl Fn(&Slot) -> bool) -> io::Result<Option<(u64, Slot)>> {
        let read = |number| self.slot(number).map_err(Some)?.ok_or(None);
        match last_slot(self.slots()?, read, is_before) {
            Ok(found) => Ok(found),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    /// The slots from the first one on that are whole, increase, and are of frames before `limit`.
    fn sound_slots(&self, limit: u64) -> io::Result<Vec<Slot>> {
        let count = usize::try_from(self.slots()?.min(slots_of(limit))).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(count.saturating_mul(SLOT_BYTES))?;
        bytes.resize(count.saturating_mul(SLOT_BYTES), 0);
        let read = self.file.read_at(&mut bytes, slot_offset(0))?;
        let (found, _) = bytes.get(..read).unwrap_or_default().as_chunks::<SLOT_BYTES>();
        let mut slots: Vec<Slot> = Vec::new();
        for (number, bytes) in found.iter().enumerate() {
            let Some(slot) = Slot::decode(bytes, self.header.salt, number as u64) else { break };
            let follows = slots.last().map_or(slot.offset == SEGMENT_HEADER_BYTES as u64, |last| {
                last.time < slot.time && last.offset < slot.offset && last.entries < slot.entries
            });
            if !follows || slot.offset >= limit {
                break;
            }
            slots.push(slot);
        }
        Ok(slots)
    }
}

/// How far the frames of a segment were gone over to make its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Where the next frame begins.
    pub(crate) at: u64,
    /// Entries before it.
    pub(crate) entries: u64,
}

impl Default for Passed {
    fn default() -> Self {
        Self { at: SEGMENT_HEADER_BYTES as u64, entries: 0 }
    }
}

/// An index that is written: by the writer of its segment, or by the replica that copies that.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    salt: u64,
    slots: Slots,
    /// Whether something was written since the last sync.
    is_changed: bool,
}

impl IndexWriter {
    /// The index of a new segment, without slots.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, segment: &SegmentHeader) -> io::Result<Self> {
        let path = dir.join(index_name(segment.start));
        match disk.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(&path)?;
        let salt = segment.salt;
        file.write_at(&IndexHeader { salt, synced_bytes: 0 }.encode(), 0)?;
        Ok(Self { path, file, salt, slots: Slots::default(), is_changed: true })
    }

    /// The index of a segment that is written on from `end`: what is sound of it is kept, the rest is made again from `frames`,
    /// the segment's file.
    pub(crate) fn resume(
        disk: &dyn Disk,
        dir: &Path,
        segment: &SegmentHeader,
        frames: &dyn DiskFile,
        end: u64,
    ) -> io::Result<Self> {
        let (mut index, mut passed) = Self::open(disk, dir, segment, frames, end)?;
        index.complete(frames, &mut passed, end, u64::MAX)?;
        Ok(index)
    }

    /// What is sound of the index of a segment, made anew if nothing is, without the slots that would follow: they are to be
    /// [completed](Self::complete). Slots from `end` on are cut off.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        segment: &SegmentHeader,
        frames: &dyn DiskFile,
        end: u64,
    ) -> io::Result<(Self, Passed)> {
        let found = IndexFile::open(disk, dir, segment)?;
        let sound = found.as_ref().map(|found| found.sound_slots(end)).transpose()?.unwrap_or_default();
        let leads_to_its_frame = |slot: &&Slot| -> io::Result<bool> {
            let frame = Hops::new(frames, segment.salt, slot.offset, end).next()?;
            Ok(frame.is_some_and(|(_, header)| header.rows > 0 && header.first as i64 == slot.time.as_ns()))
        };
        let last = match sound.last() {
            Some(last) if leads_to_its_frame(&last)? => last,
            _ => return Ok((Self::create(disk, dir, segment)?, Passed::default())),
        };
        let path = dir.join(index_name(segment.start));
        let file = disk.open(&path)?;
        let count = sound.len() as u64;
        let slots = Slots::after(count, last.offset);
        let index = Self { path, file, salt: segment.salt, slots, is_changed: false };
        if index.file.bytes()? > slot_offset(count) {
            index.file.truncate(slot_offset(count))?;
            // What is cut must not come back behind slots of other frames.
            index.file.sync()?;
        }
        Ok((index, Passed { at: last.offset, entries: last.entries }))
    }

    /// Adds the slots of the frames behind those that were passed, to `end`, or until `limit_bytes` of them are passed. Returns
    /// whether there are no more.
    pub(crate) fn complete(
        &mut self,
        frames: &dyn DiskFile,
        passed: &mut Passed,
        end: u64,
        limit_bytes: u64,
    ) -> io::Result<bool> {
        let stop = passed.at.saturating_add(limit_bytes);
        let mut hops = Hops::new(frames, self.salt, passed.at, end);
        while passed.at < stop {
            let Some((offset, header)) = hops.next()? else { return Ok(true) };
            // A closing frame is no place to read from.
            if header.rows > 0 {
                self.note(offset, Timestamp::from_ns(header.first as i64), passed.entries)?;
            }
            passed.at = offset.saturating_add(header.frame_bytes());
            passed.entries += u64::from(header.rows);
        }
        Ok(passed.at >= end)
    }

    /// Says that a frame was written, the next one in its order; most get no slot, and then nothing is done.
    pub(crate) fn note(&mut self, offset: u64, time: Timestamp, entries: u64) -> io::Result<()> {
        let Some(number) = self.slots.take(offset) else { return Ok(()) };
        let slot = Slot { time, offset, entries };
        self.is_changed = true;
        self.file.write_at(&slot.encode(self.salt, number), slot_offset(number))
    }

    /// Notes that this much of the segment is synced.
    pub(crate) fn note_synced(&mut self, synced_bytes: u64) -> io::Result<()> {
        self.is_changed = true;
        self.file.write_at(&IndexHeader { salt: self.salt, synced_bytes }.encode(), 0)
    }

    /// Syncs it, so that a sealed segment keeps its index over a power cut.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_changed) { self.file.sync() } else { Ok(()) }
    }

    /// Gives it up: nobody shall believe what is in it.
    pub(crate) fn remove(self, disk: &dyn Disk) {
        // If even this fails, its slots are too few, or checked against their frames.
        let _ = disk.remove(&self.path);
    }
}

/// The most slots that a segment of so many bytes has, whatever the length of its index.
fn slots_of(segment_bytes: u64) -> u64 {
    segment_bytes / SLOT_EVERY_BYTES + 1
}

/// How many bytes of a segment its last frames prove to be synced: by the closing frame that ends it, or by the frame of the
/// last slot that has one. 0 if nothing is said.
pub(crate) fn watermark(
    frames: &dyn DiskFile,
    index: Option<&IndexFile>,
    segment: &SegmentHeader,
) -> io::Result<u64> {
    let bytes = frames.bytes()?;
    let header_at = |offset: u64| -> io::Result<Option<Header>> {
        let mut header = [0; HEADER_BYTES];
        let is_whole = frames.read_at(&mut header, offset)? == HEADER_BYTES;
        Ok(if is_whole { read_header(&header, segment.salt, offset) } else { None })
    };
    let closing_at = bytes.saturating_sub(HEADER_BYTES as u64);
    let closing = if closing_at.is_multiple_of(ALIGN_BYTES as u64) { header_at(closing_at)? } else { None };
    if let Some(closing) = closing.filter(|header| header.rows == 0) {
        return Ok(closing.durable_upto);
    }
    let Some(index) = index else { return Ok(0) };
    // From the last slot backwards: a power cut may have left slots of frames that are not there.
    for number in (0..index.slots().unwrap_or_default().min(slots_of(bytes))).rev() {
        let Some(slot) = index.slot(number).unwrap_or_default() else { continue };
        let header = header_at(slot.offset)?;
        if let Some(header) = header.filter(|header| header.first as i64 == slot.time.as_ns()) {
            return Ok(header.durable_upto);
        }
    }
    Ok(0)
}
