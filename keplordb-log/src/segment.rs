//! One segment that is written: its frames, and its index as a companion that may fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use keplordb_disk::Disk;

use crate::error::{LogError, Result};
use crate::file::{FileError, FrameFile, Payload, put};
use crate::frame::{HEADER_BYTES, Header, write_header};
use crate::header::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use crate::index_file::IndexWriter;
use crate::poison::Poison;
use crate::syncer::{Reach, Syncer};
use crate::timestamp::Timestamp;

/// What all files share that one writer writes.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: Arc<Path>,
    pub(crate) poison: Poison,
    /// Counts the syncs.
    pub(crate) syncs: Arc<AtomicU64>,
}

impl Files {
    pub(crate) fn segment(&self, start: Timestamp) -> PathBuf {
        self.dir.join(segment_name(start))
    }
}

/// The segment that takes frames.
#[derive(Debug)]
pub(crate) struct Segment {
    files: Files,
    header: SegmentHeader,
    frames: FrameFile,
    /// Entries in its frames.
    entries: u64,
    /// Gone after the first failure to write it: readers do without.
    index: Option<IndexWriter>,
}

impl Segment {
    /// Makes the file of a new segment with its first frame, which must begin at the header's start. All of it is on disk on
    /// return, or, after an error, none of it is there: so no segment is ever without an entry.
    ///
    /// `buffer` has room for the frame's header and then the padded payload.
    pub(crate) fn create(
        files: &Files,
        header: SegmentHeader,
        buffer: &mut [u8],
        payload: &Payload,
    ) -> Result<Self> {
        let path = files.segment(header.start);
        let frame = Header {
            payload_bytes: payload.bytes,
            rows: payload.rows,
            first: header.start.as_ns() as u64,
            durable_upto: 0,
        };
        let place = buffer.first_chunk_mut::<HEADER_BYTES>().expect("frame buffers have room for a header");
        write_header(place, header.salt, payload.crc, &frame);
        put(files.disk.as_ref(), &path, &files.poison, |file| {
            file.write_at(&header.encode(), 0)?;
            file.write_at(buffer, SEGMENT_HEADER_BYTES as u64)
        })?;
        let entries = u64::from(payload.rows);
        let bytes = (SEGMENT_HEADER_BYTES + buffer.len()) as u64;
        let index = IndexWriter::create(files.disk.as_ref(), &files.dir, &header);
        // The segment is there: an entry that is in the log must not be reported as failed, and then be written twice.
        let mut segment = Self::resume(files, header, Reach { bytes, below: entries }, None)
            .map_err(|error| LogError::Poisoned { first: files.poison.stop(&error) })?;
        segment.index = index.ok();
        segment.note(SEGMENT_HEADER_BYTES as u64, header.start, 0);
        Ok(segment)
    }

    /// Goes on writing a segment that is synced as far as `durable`, whose `below` is its number of entries.
    pub(crate) fn resume(
        files: &Files,
        header: SegmentHeader,
        durable: Reach,
        index: Option<IndexWriter>,
    ) -> Result<Self> {
        let Files { disk, poison, syncs, .. } = files;
        let path = files.segment(header.start);
        let frames = FrameFile::resume(disk.as_ref(), path, header.salt, durable, poison, syncs)?;
        Ok(Self { files: files.clone(), header, frames, entries: durable.below, index })
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Bytes of its header and frames.
    pub(crate) fn bytes(&self) -> u64 {
        self.frames.end()
    }

    /// How far it is written.
    pub(crate) fn reach(&self) -> Reach {
        self.frames.reach()
    }

    pub(crate) fn syncer(&self) -> &Arc<Syncer> {
        self.frames.syncer()
    }

    /// Writes a frame whose first entry has the time `first`; written, not durable. After an error nothing of it is left.
    pub(crate) fn append(&mut self, buffer: &mut [u8], payload: &Payload, first: Timestamp) -> Result<Reach> {
        let (offset, entries) = (self.frames.end(), self.entries);
        let below = entries + u64::from(payload.rows);
        let reach = self.frames.append(buffer, payload, first.as_ns() as u64, below)?;
        self.entries = below;
        self.note(offset, first, entries);
        Ok(reach)
    }

    /// Ends it with a closing frame, behind its last entry of the time `last`, and syncs it: it takes no more frames.
    pub(crate) fn seal(&mut self, last: Timestamp) -> Result<()> {
        self.frames.seal(last.as_ns() as u64)?;
        let synced_bytes = self.frames.end();
        // Nobody will make its index again, so that is worth a sync of its own.
        self.with_index(|index| {
            index.note_synced(synced_bytes)?;
            index.sync()
        });
        Ok(())
    }

    /// Gives back what was filled ahead and syncs it; frames may follow. Its index says then that all of it is synced.
    pub(crate) fn trim(&mut self) -> Result<()> {
        self.frames.trim()?;
        let synced_bytes = self.frames.end();
        self.with_index(|index| index.note_synced(synced_bytes));
        Ok(())
    }

    /// Gives back what was filled ahead, without a sync.
    pub(crate) fn cut_fill(&mut self) -> Result<(), FileError> {
        self.frames.cut_fill()
    }

    fn note(&mut self, offset: u64, time: Timestamp, entries: u64) {
        self.with_index(|index| index.note(offset, time, entries));
    }

    /// Does something with the index, and gives the index up if that fails.
    fn with_index(&mut self, work: impl FnOnce(&mut IndexWriter) -> std::io::Result<()>) {
        if let Some(index) = &mut self.index
            && work(index).is_err()
            && let Some(index) = self.index.take()
        {
            index.remove(self.files.disk.as_ref());
        }
    }
}
