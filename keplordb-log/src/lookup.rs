//! Finding a place in a segment without reading all of it: by its time index and the headers of frames.
//!
//! The index is believed where it leads to a frame of the time that it says. Where it does not, or is not there, one is made
//! in memory from the headers of the frames.
//!
//! What is found is the place of a header. The payloads on the way are not looked at: that is what makes it quick.

use std::path::Path;

use crate::error::Result;
use crate::frame::{ALIGN_BYTES, HEADER_BYTES, Header};
use crate::index::{SLOT_EVERY_BYTES, Slot, Slots};
use crate::index_file::IndexFile;
use crate::segment_file::{FIRST_FRAME, MadeSlots, SegmentFile, usize_of};
use crate::timestamp::Timestamp;

/// Bytes behind a slot that are brought into memory to read them backwards, at most. Where frames begin further behind it,
/// slots are missing; not all of those whose distance is a little too long, which a writer may just be making.
const BACK_BYTES_MAX: u64 = 4 * SLOT_EVERY_BYTES;

/// Slots before the right one that are tried where that leads to a damaged header.
const SLOTS_BACK: u64 = 2;

impl SegmentFile {
    /// Where to look for the first entry at or after `time`: the last frame that begins at or before it, or the first one.
    ///
    /// A damaged header on the way is passed over where a later one proves that nothing at or after `time` is missed: a frame
    /// that begins at or before it, or the closing frame of a segment that ends before it.
    pub(crate) fn frame_of(&mut self, time: Timestamp) -> Result<u64> {
        if time <= self.header.start {
            return Ok(FIRST_FRAME);
        }
        let slot = self.slot_where(|slot| slot.time <= time)?;
        let mut found = slot.map_or(FIRST_FRAME, |slot| slot.offset);
        let mut at = found;
        loop {
            let stop = self.hop(at, u64::MAX, |offset, header| {
                let is_before = header.rows > 0 && Timestamp::from_ns(header.first as i64) <= time;
                if is_before {
                    found = offset;
                }
                is_before
            })?;
            let Some(next) = self.behind_damage(stop)? else { return Ok(found) };
            let closing = self.header_at(next)?.filter(|header| header.rows == 0);
            if closing.is_some_and(|closing| Timestamp::from_ns(closing.first as i64) < time) {
                return Ok(next);
            }
            at = next;
        }
    }

    /// Where headers go on behind a damaged one at `offset`; `None` if the one there is whole, or if nothing follows.
    ///
    /// Cost: reads what lies between. At the end of a segment that grows, where zeros were written ahead, its index says where no
    /// frame can be: 64 KiB are read at most.
    fn behind_damage(&mut self, offset: u64) -> Result<Option<u64>> {
        if offset >= self.limit_bytes || self.header_at(offset)?.is_some() {
            return Ok(None);
        }
        let end = self.blank_from(offset)?.unwrap_or(u64::MAX);
        self.next_header(offset, end)
    }

    /// From where on no frame begins, by the index, if there are zeros at `offset` and at the end: each frame that begins far enough behind the
    /// last slot has one itself. `None` if the index does not say so.
    ///
    /// A power cut, or damage to the index, may have taken slots whose frames are there: what is said is then too little, until a
    /// writer opens the log. So only a segment that may grow is judged by it, and only where zeros stand.
    fn blank_from(&mut self, offset: u64) -> Result<Option<u64>> {
        if !self.may_grow {
            return Ok(None);
        }
        // Only a segment that grows ends in zeros. That is no place where a closing frame, which has no slot, is.
        let end = self.file_bytes()?.saturating_sub(HEADER_BYTES as u64);
        if !self.is_blank(end)? || !self.is_blank(offset)? {
            return Ok(None);
        }
        let last_slot = |index: IndexFile| {
            let last = index.slots().ok()?.checked_sub(1)?;
            index.slot(last).ok()?
        };
        let last = self.index_file().and_then(last_slot).filter(|slot| slot.offset <= offset);
        Ok(last.map(|slot| slot.offset.saturating_add(SLOT_EVERY_BYTES)))
    }

    /// Puts the places of frames before `end`, where a frame or the header ends, into `places`, in their order: as many as lie
    /// between `end` and a slot of the index or a damaged header, and none only if there is none in the segment or if that header
    /// is right before `end`. They are in memory then, but for the end of a long one. Returns where their headers lead: to
    /// `end`, unless the last one is damaged.
    pub(crate) fn frames_before(&mut self, end: u64, places: &mut Vec<u64>) -> Result<u64> {
        places.clear();
        if end <= FIRST_FRAME {
            return Ok(end);
        }
        let slot = self.slot_where(|slot| slot.offset < end)?;
        let begin = slot.map_or(FIRST_FRAME, |slot| slot.offset);
        self.read(begin, usize_of(end.saturating_sub(begin).min(BACK_BYTES_MAX)))?;
        let (mut is_short, has_file) = (false, self.slots.is_none());
        let mut at = begin;
        loop {
            let stop = self.hop(at, end, |offset, header| {
                is_short = has_file && offset - begin > BACK_BYTES_MAX;
                if header.rows > 0 && !is_short {
                    places.push(offset);
                }
                header.rows > 0 && !is_short
            })?;
            if is_short {
                // Slots are missing in the index file: without it, they are made.
                self.slots_in_memory(|_| true)?;
                return self.frames_before(end, places);
            }
            let next = if stop < end { self.behind_damage(stop)?.filter(|next| *next < end) } else { None };
            let Some(next) = next else { return Ok(stop) };
            // What lies behind the damage comes first; who has read that asks again, and is led to the damage.
            places.clear();
            at = next;
        }
    }

    /// Where the closing frame begins, and what it says of the time of the last entry; `None` if the file does not end with one.
    pub(crate) fn closing(&mut self) -> Result<Option<(u64, Timestamp)>> {
        let at = self.file_bytes()?.saturating_sub(HEADER_BYTES as u64);
        if at <= FIRST_FRAME || !at.is_multiple_of(ALIGN_BYTES as u64) {
            return Ok(None);
        }
        let closing = self.header_at(at)?.filter(|header| header.rows == 0);
        Ok(closing.map(|closing| (at, Timestamp::from_ns(closing.first as i64))))
    }

    /// The places of the last frame, if there is one, and of what follows it: the closing frame, or no frame.
    pub(crate) fn last_frame(&mut self) -> Result<(Option<u64>, u64)> {
        let slot = self.slot_where(|_| true)?;
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

    /// The last slot that says how many entries are before it: of an index that was made in memory, one before the first damage.
    pub(crate) fn last_counting_slot(&mut self) -> Result<Option<Slot>> {
        let last = self.slot_where(|_| true)?;
        match &self.slots {
            Some(MadeSlots { damaged_at, .. }) => {
                let damaged_at = *damaged_at;
                self.slot_where(|slot| slot.offset < damaged_at)
            }
            None => Ok(last),
        }
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
        let is_before = &|slot: &Slot| slot.offset < limit_bytes && is_before(slot);
        if self.slots.is_none() {
            // One that cannot be read is as good as none.
            let index = self.index_file();
            let last = index.as_ref().and_then(|index| index.last_before(is_before).unwrap_or_default());
            if let (Some(index), Some((last, _))) = (index, last) {
                for number in (last.saturating_sub(SLOTS_BACK)..=last).rev() {
                    if let Some(slot) = index.slot(number).unwrap_or_default()
                        && self.leads_to_its_frame(&slot)?
                    {
                        return Ok(Some(slot));
                    }
                }
            }
        }
        for _ in 0..2 {
            let slots = self.slots_in_memory(is_before)?;
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

    /// The index in memory: up to the present end of the file, or further than the last slot that `is_before` is true of. Behind
    /// damaged headers it goes on.
    ///
    /// Cost: a look at every header the first time, later none, or at those behind the last slot.
    fn slots_in_memory(&mut self, is_before: impl Fn(&Slot) -> bool) -> Result<&[Slot]> {
        let MadeSlots { mut slots, mut damaged_at } = self.slots.take().unwrap_or_default();
        if slots.last().is_none_or(is_before) {
            let last = slots.pop();
            let (mut at, mut entries) = last.map_or((FIRST_FRAME, 0), |last| (last.offset, last.entries));
            let mut due = slots
                .last()
                .map_or_else(Slots::default, |before: &Slot| Slots::after(slots.len() as u64, before.offset));
            loop {
                let stop = self.hop(at, u64::MAX, |offset, header| {
                    if header.rows > 0 && due.take(offset).is_some() {
                        slots.push(Slot { time: Timestamp::from_ns(header.first as i64), offset, entries });
                    }
                    entries += u64::from(header.rows);
                    header.rows > 0
                })?;
                let Some(next) = self.behind_damage(stop)? else { break };
                damaged_at = damaged_at.min(stop);
                at = next;
            }
        }
        Ok(&self.slots.insert(MadeSlots { slots, damaged_at }).slots)
    }
}

#[cfg(test)]
mod tests {
    use keplordb_disk::Disk;

    use super::*;
    use crate::made::Made;
    use crate::window::Window;

    /// Reading back does not go over all frames behind the damage again and again.
    #[test]
    fn an_index_in_memory_goes_on_behind_damage() {
        let mut made = Made::new();
        for number in 0..60_u8 {
            made.batch(10, &[&[number; 9_968], b"-"]);
        }
        made.close();
        let (start, path) = made.segments()[0].clone();
        made.disk.remove(&made.index_path(start)).unwrap();
        let mut bytes = made.bytes_of(&path);
        let frame_bytes = (bytes.len() - 64 - HEADER_BYTES) / 60;
        let place = |frame: usize| (64 + frame * frame_bytes) as u64;
        for frame in [1, 2, 30] {
            bytes[64 + frame * frame_bytes] ^= 1;
        }
        made.overwrite(&path, &bytes);
        let disk = made.log().options().disk.clone();
        let mut segment = SegmentFile::open(&disk, &made.dir, start, Window::default()).unwrap().unwrap();
        assert_eq!(segment.last_counting_slot().unwrap().map(|slot| slot.offset), Some(place(0)));
        let slots = &segment.slots.as_ref().unwrap().slots;
        assert!(slots.windows(2).all(|two| two[1].offset - two[0].offset <= 3 * SLOT_EVERY_BYTES));
        for frame in 0..60 {
            let time = Timestamp::from_ns(made.entries[2 * frame].0);
            let found = segment.frame_of(time).unwrap();
            let is_damaged = |frame: usize| [1, 2, 30].contains(&frame);
            if !is_damaged(frame) {
                assert_eq!(found, place(frame));
            }
            let mut places = Vec::new();
            let led_to = segment.frames_before(place(frame), &mut places).unwrap();
            if frame == 0 || is_damaged(frame - 1) {
                continue;
            }
            // Those of two slots at most, and none from before damage.
            let expected = (0..frame).rev().take_while(|before| !is_damaged(*before)).map(place);
            assert!(places.iter().copied().rev().eq(expected.take(places.len())), "{frame}: {places:?}");
            assert!((1..=14).contains(&places.len()) && led_to == place(frame), "{frame}: {places:?}");
        }
    }

    /// The one before it serves as well: the index need not be made again in memory.
    #[test]
    fn a_slot_of_a_damaged_header_does_not_spoil_the_index() {
        let mut made = Made::new();
        for number in 0..60_u8 {
            made.batch(10, &[&[number; 9_968], b"-"]);
        }
        let (start, path) = made.segments()[0].clone();
        let mut bytes = made.bytes_of(&path);
        let frame_bytes = (bytes.len() - 64) / 60;
        // Every seventh frame has a slot.
        bytes[64 + 14 * frame_bytes] ^= 1;
        made.overwrite(&path, &bytes);
        let disk = made.log().options().disk.clone();
        for frame in [13, 15, 20, 21] {
            let mut segment = SegmentFile::open(&disk, &made.dir, start, Window::default()).unwrap().unwrap();
            let time = Timestamp::from_ns(made.entries[2 * frame].0);
            assert_eq!(segment.frame_of(time).unwrap(), (64 + frame * frame_bytes) as u64);
            assert!(segment.slots.is_none(), "frame {frame}");
        }
    }

    /// Zeros at the end of a segment that another follows are no space filled ahead, whatever an index says that lost its end.
    #[test]
    fn zeros_at_the_end_of_a_whole_segment_hide_nothing() {
        let mut made = Made::new();
        for number in 0..60_u8 {
            made.batch(10, &[&vec![number; 59_968], b"-"]);
        }
        made.close();
        made.batch(10, &[b"next"]);
        let (start, path) = made.segments()[0].clone();
        let mut bytes = made.bytes_of(&path);
        let closing = bytes.len() - HEADER_BYTES;
        let header = 64 + 30 * ((closing - 64) / 60);
        for at in [header, closing] {
            bytes[at..at + HEADER_BYTES].fill(0);
        }
        made.overwrite(&path, &bytes);
        let index = made.index_path(start);
        made.overwrite(&index, &made.bytes_of(&index)[..usize_of(crate::index::slot_offset(3))]);
        for (time, bytes) in &made.entries[62..] {
            let mut reader = made.log().from(Timestamp::from_ns(*time)).unwrap();
            assert_eq!(reader.next().unwrap().map(|entry| entry.bytes.to_vec()).as_ref(), Some(bytes));
        }
    }
}
