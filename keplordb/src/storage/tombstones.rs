//! A tombstone log: append the rows that a call deletes, durably; write one anew without those that are gone; load all of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keplordb_disk::{Disk, DiskFile};
use keplordb_log::file::{Payload, random_salt};
use keplordb_log::frame::{self, End, HEADER_BYTES, Header};

use super::directory::Directory;
use super::poison::Poison;
use super::wal::{self, Known, WalContext};
use crate::error::{DbError, IoContext, Result};
use crate::format::tombstones::{self, Tombstone};
use keplordb_log::planted::{self, Bug};

/// Tombstones of one frame of a log that is written as a whole.
const FRAME_TOMBSTONES: usize = 1 << 20;

/// A tombstone log that takes frames.
#[derive(Debug)]
pub(crate) struct TombstoneLog {
    number: u64,
    path: PathBuf,
    poison: Poison,
    syncs: Arc<AtomicU64>,
    file: Arc<dyn DiskFile>,
    salt: u64,
    /// Where the next frame goes; everything before is synced.
    end: u64,
    /// How many tombstones it has.
    rows: u64,
}

/// What a log held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct FoundTombstones {
    pub(crate) number: u64,
    pub(crate) tombstones: Vec<Tombstone>,
    salt: u64,
    end: u64,
    /// How far the log is proved to have been synced.
    durable_upto: u64,
    /// Bytes that are cut off its end, if it has lost it.
    pub(crate) lost_bytes: Option<u64>,
}

impl FoundTombstones {
    /// Where the valid part ends, in bytes.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

/// Reads the log; changes nothing.
pub(crate) fn find(disk: &dyn Disk, path: &Path, number: u64, known: Known) -> Result<FoundTombstones> {
    let bytes = match keplordb_disk::read_all(disk, path, u64::MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DbError::Missing { file: path.to_owned() });
        }
        read => read.at("read", path)?,
    };
    let (salt, header_bytes) = tombstones::decode_header(&bytes).map_err(|error| error.in_file(path))?;
    let mut found = FoundTombstones { number, salt, ..FoundTombstones::default() };
    let mut walk = frame::walk(&bytes, header_bytes, salt, known.covered_bytes());
    let mut watermark = header_bytes as u64;
    for frame in walk.by_ref() {
        watermark = watermark.max(frame.durable_upto);
        tombstones::decode(frame.payload, frame.rows, &mut found.tombstones)
            .map_err(|malformed| malformed.in_file(path, frame.offset + HEADER_BYTES as u64))?;
    }
    let (end, lost_bytes) = known.judge(walk.end(), &bytes, path)?;
    if let End::Closed { at, .. } = end {
        return Err(DbError::corrupt(path, at, "a tombstone log has no closing frame"));
    }
    (found.end, found.lost_bytes) = (end.at(), lost_bytes);
    found.durable_upto = known.durable_upto(watermark);
    Ok(found)
}

/// Copies the synced part of a log into another directory.
pub(crate) fn copy(source: &Directory, target: &Directory, number: u64, synced_bytes: u64) -> Result<()> {
    let path = source.tombstones(number);
    let mut bytes = keplordb_disk::read_all(source.disk().as_ref(), &path, u64::MAX).at("read", &path)?;
    bytes.truncate(usize::try_from(synced_bytes).unwrap_or(usize::MAX));
    target.write_whole(&target.tombstones(number), &bytes)
}

impl TombstoneLog {
    /// Makes a log with these tombstones, which is there whole or not at all. It counts when the manifest names it.
    pub(crate) fn create(context: &WalContext, number: u64, rows: &[Tombstone]) -> Result<Self> {
        let salt = random_salt(number);
        let mut bytes = tombstones::encode_header(salt);
        for rows in rows.chunks(FRAME_TOMBSTONES) {
            let upto = bytes.len() as u64;
            bytes.extend(frame_of(rows, salt, upto)?);
        }
        let path = context.directory.tombstones(number);
        context.directory.write_whole(&path, &bytes)?;
        context.syncs.fetch_add(2, Ordering::Relaxed);
        Self::open(context, number, salt, bytes.len() as u64, rows.len() as u64)
    }

    /// Goes on with a log that was found: cuts a torn frame off and syncs what is about to be shown.
    pub(crate) fn resume(context: &WalContext, found: &FoundTombstones) -> Result<Self> {
        let path = context.directory.tombstones(found.number);
        wal::make_durable(&context.directory, &path, found.durable_upto, found.end)?;
        Self::open(context, found.number, found.salt, found.end, found.tombstones.len() as u64)
    }

    fn open(context: &WalContext, number: u64, salt: u64, end: u64, rows: u64) -> Result<Self> {
        let path = context.directory.tombstones(number);
        let file = context.directory.disk().open(&path).at("open", &path)?;
        let (poison, syncs) = (context.directory.poison().clone(), Arc::clone(&context.syncs));
        Ok(Self { number, path, poison, syncs, file, salt, end, rows })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the log, all synced.
    pub(crate) fn synced_bytes(&self) -> u64 {
        self.end
    }

    /// How many tombstones it has.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds tombstones; on return they are on disk. On an error none is.
    pub(crate) fn append(&mut self, rows: &[Tombstone]) -> Result<()> {
        self.poison.check()?;
        let frame = frame_of(rows, self.salt, self.end)?;
        if let Err(source) = self.file.write_at(&frame, self.end) {
            let cause = DbError::io("write", &self.path, source);
            // What was written of it must not come back behind the next frame.
            let cut = self.file.truncate(self.end).and_then(|()| self.file.sync());
            return Err(if cut.is_ok() { cause } else { self.poison.set(&cause) });
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if !planted::is(Bug::TombstoneNotSynced)
            && let Err(source) = self.file.sync()
        {
            return Err(self.poison.set(&DbError::io("sync", &self.path, source)));
        }
        self.end += frame.len() as u64;
        self.rows += rows.len() as u64;
        Ok(())
    }
}

/// A frame of tombstones for the place where the first `durable_upto` bytes of a log end.
fn frame_of(rows: &[Tombstone], salt: u64, durable_upto: u64) -> Result<Vec<u8>> {
    let count = u32::try_from(rows.len())
        .map_err(|_| DbError::invalid("ids", "more rows than one delete can take; delete in steps"))?;
    let mut frame = vec![0; HEADER_BYTES];
    tombstones::encode(rows, &mut frame);
    let payload = Payload::seal(&mut frame, count)?;
    let header = Header { payload_bytes: payload.bytes, rows: count, first: 0, durable_upto };
    let place = frame.first_chunk_mut().expect("the buffer begins with room for a header");
    frame::write_header(place, salt, payload.crc, &header);
    Ok(frame)
}
