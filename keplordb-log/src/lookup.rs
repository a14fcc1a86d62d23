//! Finding a place in a segment without reading all of it: by its time index and the headers of frames.
//!
//! The index is believed where it leads to a frame of the time that it says. Where it does not, or is not there, one is made
//! in memory from the headers of the frames.
//!
//! What is found is the place of a header. The payloads on the way are not looked at: that is what makes it quick.

use std::path::Path;

use crate::error::Result;
use crate::frame::Header;
use crate::index::{SLOT_EVERY_BYTES, Slot, Slots};
use crate::index_file::IndexFile;
use crate::segment_file::{FIRST_FRAME, SegmentFile, usize_of};
use crate::timestamp::Timestamp;

/// Bytes behind a slot that are brought into memory to read them backwards, at most. Where frames begin further behind it,
/// slots are missing; not all of those whose distance is a little too long, which a writer may just be making.
const BACK_BYTES_MAX: u64 = 4 * SLOT_EVERY_BYTES;

impl SegmentFile {
    /// The last frame that begins at or before `time`, or the first one: where to look for the first entry at or after it.
    pub(crate) fn frame_of(&mut self, time: Timestamp) -> Result<u64> {
        if time <= self.header.start {
            return Ok(FIRST_FRAME);
        }
        let slot = self.slot_where(|slot| slot.time <= time)?;
        let mut found = slot.map_or(FIRST_FRAME, |slot| slot.offset);
        self.hop(found, u64::MAX, |offset, header| {
            let is_before = header.rows > 0 && Timestamp::from_ns(header.first as i64) <= time;
            if is_before {
                found = offset;
            }
            is_before
        })?;
        Ok(found)
    }

    /// Puts the places of frames before `end`, where a frame or the header ends, into `places`, in their order: as many as lie
    /// between a slot of the index and `end`, and none only if there is none in the segment. They are in memory then, but
    /// for the end of a long one. Returns where their headers lead: to `end`, unless one on the way is damaged.
    pub(crate) fn frames_before(&mut self, end: u64, places: &mut Vec<u64>) -> Result<u64> {
        places.clear();
        if end <= FIRST_FRAME {
            return Ok(end);
        }
        let slot = self.slot_where(|slot| slot.offset < end)?;
        let begin = slot.map_or(FIRST_FRAME, |slot| slot.offset);
        self.read(begin, usize_of(end.saturating_sub(begin).min(BACK_BYTES_MAX)))?;
        let (mut is_short, has_file) = (false, self.slots.is_none());
        let stop = self.hop(begin, end, |offset, header| {
            is_short = has_file && offset - begin > BACK_BYTES_MAX;
            if header.rows > 0 && !is_short {
                places.push(offset);
            }
            header.rows > 0 && !is_short
        })?;
        if is_short {
            // Slots are missing in the index file: without it, they are made.
            self.slots_in_memory()?;
            return self.frames_before(end, places);
        }
        Ok(stop)
    }

    /// The places of the last frame, if there is one, and of what follows it: the closing frame, or no frame.
    pub(crate) fn last_frame(&mut self) -> Result<(Option<u64>, u64)> {
        let slot = self.last_slot()?;
        let mut last = None;
        let begin = slot.map_or(FIRST_FRAME, |slot| slot.offset);
        let end = self.hop(begin, u64::MAX, |offset, header| {
            if header.rows > 0 {
                last = Some(offset);
            }
            header.rows > 0
        })?;
        Ok((last, end))
    }

    /// The last slot, from which the end of the segment is not far; `None` if there is none.
    pub(crate) fn last_slot(&mut self) -> Result<Option<Slot>> {
        self.slot_where(|_| true)
    }

    /// Goes from header to header, from the frame at `offset` on, as long as there are any before `end` and `goes_on` says so.
    /// Returns where it stopped.
    fn hop(
        &mut self,
        mut offset: u64,
        end: u64,
        mut goes_on: impl FnMut(u64, &Header) -> bool,
    ) -> Result<u64> {
        while offset < end
            && let Some(header) = self.header_at(offset)?
            && goes_on(offset, &header)
        {
            offset = offset.saturating_add(header.frame_bytes());
        }
        Ok(offset)
    }

    /// The last slot that `is_before` is true of, which must be true of some first slots only, and of the first frame.
    /// `None` if the segment has no frame.
    fn slot_where(&mut self, is_before: impl Fn(&Slot) -> bool) -> Result<Option<Slot>> {
        let limit_bytes = self.limit_bytes;
        let is_before = |slot: &Slot| slot.offset < limit_bytes && is_before(slot);
        if self.slots.is_none() {
            // One that cannot be read is as good as none.
            let slot = self.index_file().and_then(|index| index.last_before(is_before).unwrap_or_default());
            if let Some(slot) = slot
                && self.leads_to_its_frame(&slot)?
            {
                return Ok(Some(slot));
            }
        }
        for _ in 0..2 {
            let slots = self.slots_in_memory()?;
            let before = slots.partition_point(is_before);
            let Some(slot) = before.checked_sub(1).and_then(|last| slots.get(last)).copied() else {
                return Ok(None);
            };
            if self.leads_to_its_frame(&slot)? {
                return Ok(Some(slot));
            }
            // A writer's recovery has cut the file since.
            self.slots = None;
        }
        Ok(None)
    }

    /// The segment's index, if it has one.
    pub(crate) fn index_file(&self) -> Option<IndexFile> {
        let dir = self.path.parent().unwrap_or(Path::new(""));
        IndexFile::open(&*self.disk, dir, &self.header).unwrap_or_default()
    }

    /// Whether a frame of the slot's time begins where the slot says.
    fn leads_to_its_frame(&mut self, slot: &Slot) -> Result<bool> {
        let header = self.header_at(slot.offset)?;
        Ok(header.is_some_and(|header| header.rows > 0 && header.first == slot.time.as_ns() as u64))
    }

    /// The index in memory, up to the present end of the file. Cost: a look at every header the first time, later at those
    /// behind the last slot.
    fn slots_in_memory(&mut self) -> Result<&[Slot]> {
        let mut slots = self.slots.take().unwrap_or_default();
        let last = slots.pop();
        let (begin, mut entries) = last.map_or((FIRST_FRAME, 0), |last| (last.offset, last.entries));
        let mut due = slots
            .last()
            .map_or_else(Slots::default, |before: &Slot| Slots::after(slots.len() as u64, before.offset));
        self.hop(begin, u64::MAX, |offset, header| {
            if header.rows > 0 && due.take(offset).is_some() {
                slots.push(Slot { time: Timestamp::from_ns(header.first as i64), offset, entries });
            }
            entries += u64::from(header.rows);
            header.rows > 0
        })?;
        Ok(self.slots.insert(slots))
    }
}
