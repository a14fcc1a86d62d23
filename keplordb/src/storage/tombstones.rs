//! The tombstone log: append the rows that a call deletes, durably; load all of them again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keplordb_disk::DiskFile;
use keplordb_log::frame::{self, End, HEADER_BYTES, Header};

use super::directory::Directory;
use super::wal::{self, Payload, random_salt};
use crate::error::{DbError, IoContext, Result};
use crate::format::tombstones::{self, Tombstone};

/// The tombstone log of an engine; the file is made with the first tombstone.
#[derive(Debug)]
pub(crate) struct TombstoneLog {
    directory: Directory,
    syncs: Arc<AtomicU64>,
    open: Option<OpenLog>,
}

#[derive(Debug)]
struct OpenLog {
    file: Arc<dyn DiskFile>,
    salt: u64,
    /// Where the next frame goes; everything before is synced.
    end: u64,
}

/// What the log held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct FoundTombstones {
    pub(crate) tombstones: Vec<Tombstone>,
    salt: u64,
    end: u64,
    /// How far the log is proved to have been synced.
    durable_upto: u64,
    /// Bytes of a torn frame at its end.
    pub(crate) torn_bytes: u64,
}

impl FoundTombstones {
    /// Where the valid part ends, in bytes.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

/// Reads the log; changes nothing.
pub(crate) fn find(directory: &Directory, synced_bytes: u64) -> Result<FoundTombstones> {
    let path = directory.tombstones();
    let bytes = keplordb_disk::read_all(directory.disk().as_ref(), &path, u64::MAX).at("read", &path)?;
    let (salt, header_bytes) = tombstones::decode_header(&bytes).map_err(|error| error.in_file(&path))?;
    let mut found = FoundTombstones { salt, ..FoundTombstones::default() };
    let mut walk = frame::walk(&bytes, header_bytes, salt, synced_bytes);
    found.durable_upto = synced_bytes.max(header_bytes as u64);
    for frame in walk.by_ref() {
        found.durable_upto = found.durable_upto.max(frame.durable_upto);
        tombstones::decode(frame.payload, frame.rows, &mut found.tombstones)
            .map_err(|malformed| malformed.in_file(&path, frame.offset + HEADER_BYTES as u64))?;
    }
    match walk.end() {
        End::Clean { at } => found.end = at,
        End::Torn { at, bytes } => (found.end, found.torn_bytes) = (at, bytes),
        End::Closed { at, .. } => {
            return Err(DbError::corrupt(&path, at, "a tombstone log has no closing frame"));
        }
        End::Corrupt { at, what, .. } => return Err(DbError::corrupt(&path, at, what)),
        End::Truncated { covered_upto, .. } => {
            let found_bytes = bytes.len() as u64;
            return Err(DbError::Truncated { file: path, found_bytes, expected_bytes: covered_upto });
        }
    }
    Ok(found)
}

/// Copies the synced part of the log into another directory.
pub(crate) fn copy(source: &Directory, target: &Directory, synced_bytes: u64) -> Result<()> {
    let path = source.tombstones();
    let mut bytes = keplordb_disk::read_all(source.disk().as_ref(), &path, u64::MAX).at("read", &path)?;
    bytes.truncate(usize::try_from(synced_bytes).unwrap_or(usize::MAX));
    target.write_whole(&target.tombstones(), &bytes)
}

impl TombstoneLog {
    /// For a directory without a log.
    pub(crate) fn new(directory: Directory, syncs: Arc<AtomicU64>) -> Self {
        Self { directory, syncs, open: None }
    }

    /// Goes on with a log that was found: cuts a torn frame off and syncs what is about to be shown.
    pub(crate) fn resume(&mut self, found: &FoundTombstones) -> Result<()> {
        let path = self.directory.tombstones();
        wal::make_durable(&self.directory, &path, found.durable_upto, found.end)?;
        let file = self.directory.disk().open(&path).at("open", &path)?;
        self.open = Some(OpenLog { file, salt: found.salt, end: found.end });
        Ok(())
    }

    /// Bytes of the log, all synced; 0 before the first tombstone.
    pub(crate) fn synced_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |log| log.end)
    }

    /// Adds tombstones; on return they are on disk. On an error none is.
    pub(crate) fn append(&mut self, rows: &[Tombstone]) -> Result<()> {
        self.directory.poison().check()?;
        let path = self.directory.tombstones();
        if self.open.is_none() {
            let salt = random_salt(0);
            let header = tombstones::encode_header(salt);
            self.directory.write_whole(&path, &header)?;
            let file = self.directory.disk().open(&path).at("open", &path)?;
            self.open = Some(OpenLog { file, salt, end: header.len() as u64 });
        }
        let Some(log) = &mut self.open else { unreachable!("opened above") };
        let count = u32::try_from(rows.len())
            .map_err(|_| DbError::invalid("ids", "more rows than one delete can take; delete in steps"))?;
        let mut buffer = vec![0; HEADER_BYTES];
        tombstones::encode(rows, &mut buffer);
        let payload = Payload::seal(&mut buffer, count)?;
        let header = Header { payload_bytes: payload.bytes, rows: count, first: 0, durable_upto: log.end };
        let place = buffer.first_chunk_mut().expect("the buffer begins with room for a header");
        frame::write_header(place, log.salt, payload.crc, &header);
        if let Err(source) = log.file.write_at(&buffer, log.end) {
            let cause = DbError::io("write", &path, source);
            // What was written of it must not come back behind the next frame.
            let cut = log.file.truncate(log.end).and_then(|()| log.file.sync());
            return Err(if cut.is_ok() { cause } else { self.directory.poison().set(&cause) });
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if let Err(source) = log.file.sync() {
            return Err(self.directory.poison().set(&DbError::io("sync", &path, source)));
        }
        log.end += buffer.len() as u64;
        Ok(())
    }
}
