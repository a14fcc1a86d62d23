//! Logs made by hand, for tests of reading: frame by frame, without a writer, so also as no writer leaves them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk, MemoryDisk, read_all};

use crate::entries::{FIRST, put};
use crate::file::Payload;
use crate::frame::{HEADER_BYTES, Header, closing, write_header};
use crate::header::{SegmentHeader, index_name, segment_name};
use crate::index::{IndexHeader, Slot, Slots};
use crate::{Entry, Log, Options, Timestamp};

pub(crate) type Owned = (i64, Vec<u8>);

/// What a test compares.
pub(crate) fn owned(entry: Entry<'_>) -> Owned {
    (entry.time.as_ns(), entry.bytes.to_vec())
}

/// A log that grows by one frame at a time, on a disk in memory.
pub(crate) struct Made {
    pub(crate) disk: MemoryDisk,
    pub(crate) dir: PathBuf,
    pub(crate) entries: Vec<Owned>,
    /// Whether frames say that all before them is synced.
    pub(crate) is_synced: bool,
    number: u64,
    /// Header, length and number of entries of the segment that grows.
    open: Option<(SegmentHeader, u64, u64)>,
    index: Slots,
}

impl Made {
    pub(crate) fn new() -> Self {
        let (disk, dir) = (MemoryDisk::default(), PathBuf::from("log"));
        disk.create_dir(&dir).unwrap();
        let (entries, index) = (Vec::new(), Slots::default());
        Self { disk, dir, entries, is_synced: true, number: 0, open: None, index }
    }

    pub(crate) fn log(&self) -> Log {
        let disk = Arc::new(self.disk.clone());
        Log::open_with(&self.dir, Options { disk, ..Options::default() }).unwrap()
    }

    /// Starts and paths of its segments.
    pub(crate) fn segments(&self) -> Vec<(Timestamp, PathBuf)> {
        let listed = crate::header::list(&self.disk, &self.dir).unwrap();
        listed.iter().map(|found| (found.start, self.dir.join(segment_name(found.start)))).collect()
    }

    pub(crate) fn index_path(&self, start: Timestamp) -> PathBuf {
        self.dir.join(index_name(start))
    }

    pub(crate) fn bytes_of(&self, path: &Path) -> Vec<u8> {
        read_all(&self.disk, path, u64::MAX).unwrap()
    }

    /// Replaces a file's bytes in place, as damage does.
    pub(crate) fn overwrite(&self, path: &Path, bytes: &[u8]) {
        let file = self.disk.open(path).unwrap();
        file.truncate(bytes.len() as u64).unwrap();
        file.write_at(bytes, 0).unwrap();
    }

    fn write(&self, path: &Path, bytes: &[u8], at: u64) {
        let file = self.disk.open(path).or_else(|_| self.disk.create(path)).unwrap();
        file.write_at(bytes, at).unwrap();
    }

    /// A batch of these texts whose times are `gap` apart, the first as much behind the last before it.
    pub(crate) fn batch(&mut self, gap: i64, texts: &[&[u8]]) {
        let before = self.entries.last().map(|(time, _)| *time);
        let mut time = before.unwrap_or(1_000_000);
        let mut payload = vec![0; HEADER_BYTES];
        let first = time + gap;
        for (place, text) in texts.iter().enumerate() {
            time += gap;
            put(&mut payload, if place == 0 { FIRST } else { Some(gap as u64) }, text);
            self.entries.push((time, text.to_vec()));
        }
        let start = Timestamp::from_ns(first);
        let (header, end, count) = self.open.take().unwrap_or_else(|| {
            let salt = 0x5A17 + self.number;
            let before = before.map(Timestamp::from_ns);
            let header = SegmentHeader { salt, log: 7, number: self.number, start, before };
            self.index = Slots::default();
            self.write(&self.dir.join(segment_name(start)), &header.encode(), 0);
            self.write(&self.index_path(start), &IndexHeader { salt, synced_bytes: 0 }.encode(), 0);
            (header, 64, 0)
        });
        let sealed = Payload::seal(&mut payload, u32::try_from(texts.len()).unwrap()).unwrap();
        let durable_upto = if self.is_synced { end } else { 0 };
        let frame =
            Header { payload_bytes: sealed.bytes, rows: sealed.rows, first: first as u64, durable_upto };
        write_header(payload.first_chunk_mut().unwrap(), header.salt, sealed.crc, &frame);
        self.write(&self.dir.join(segment_name(header.start)), &payload, end);
        if let Some(number) = self.index.take(end) {
            let slot = Slot { time: start, offset: end, entries: count }.encode(header.salt, number);
            self.write(&self.index_path(header.start), &slot, crate::index::slot_offset(number));
        }
        self.open = Some((header, end + payload.len() as u64, count + texts.len() as u64));
    }

    /// Closes the segment; the next batch begins another.
    pub(crate) fn close(&mut self) {
        if let Some((header, end, _)) = self.open.take() {
            let path = self.dir.join(segment_name(header.start));
            let last = self.entries.last().unwrap().0 as u64;
            self.disk.open(&path).unwrap().truncate(end).unwrap();
            self.write(&path, &closing(header.salt, last, end), end);
            self.number += 1;
        }
    }

    /// Fills zeros ahead of the segment that grows.
    pub(crate) fn fill(&self, bytes: u64) {
        if let Some((header, end, _)) = &self.open {
            let path = self.dir.join(segment_name(header.start));
            self.disk.open(&path).unwrap().truncate(end + bytes).unwrap();
        }
    }
}
