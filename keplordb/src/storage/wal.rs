//! One WAL file: append a frame, cut back a failed write, seal; and read one again after a crash.
//!
//! A file in use is zero-filled ahead in growing steps. Overwriting blocks that are already allocated and written spares
//! every later `fdatasync` the journal entry that a longer file costs (okaywal shows the gain), and a little of
//! every small write too: it finds its page there. Zeros are never a frame.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use keplordb_disk::{Disk, DiskFile};
use keplordb_log::frame::{self, End, HEADER_BYTES, Header};

use super::directory::Directory;
use super::poison::Poison;
use super::syncer::{Reach, Syncer};
use crate::error::{DbError, IoContext, Result};
use crate::format::MAX_NUMBER;
use crate::format::block::Block;
use crate::format::wal::WalHeader;
use crate::schema::TableSchema;
use keplordb_log::planted::{self, Bug};

/// First and largest step of filling ahead. The first keeps a shard that gets a few events small; the largest bounds what
/// one append may write besides its own bytes.
const FILL_BYTES_MIN: u64 = 64 << 10;
const FILL_BYTES_MAX: u64 = 4 << 20;
/// Frames from this size on are written without filling ahead: their own bytes, not the journal, are then the cost of a
/// sync, and every zero written ahead would be written twice.
const FILL_FRAME_BYTES: usize = 32 << 10;
/// Rows and bytes up to which the frames of a file that is read again are gathered into one block.
const GATHERED_ROWS: usize = 4096;
const GATHERED_BYTES: usize = 1 << 20;
/// Zeros to write from.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What all WAL files of an engine share.
#[derive(Debug, Clone)]
pub(crate) struct WalContext {
    pub(crate) directory: Directory,
    /// Counts the syncs of the engine.
    pub(crate) syncs: Arc<AtomicU64>,
}

/// A WAL file that takes frames. Its owner lets one thread write at a time; anybody may sync.
#[derive(Debug)]
pub(crate) struct Wal {
    path: PathBuf,
    salt: u64,
    file: Arc<dyn DiskFile>,
    syncer: Arc<Syncer>,
    poison: Poison,
    /// Where the next frame goes.
    end: u64,
    /// The number below which all rows of the file are.
    below: u64,
    /// Up to where the file is allocated and written, with frames or zeros.
    filled: u64,
    /// By how much to fill next; 0 for not at all, after the disk had no room for it.
    fill_step: u64,
}

impl Wal {
    /// Makes the file of a new generation. On return its name and header are on disk, so a frame may follow.
    pub(crate) fn create(
        context: &WalContext,
        generation: u64,
        shard: u32,
        schema: &TableSchema,
    ) -> Result<Self> {
        let path = context.directory.wal(generation);
        let salt = random_salt(generation);
        let header = WalHeader { generation, salt, shard, schema: schema.clone() }.encode();
        context.directory.write_whole(&path, &header)?;
        Self::resume(context, generation, salt, Reach { bytes: header.len() as u64, below: 0 })
    }

    /// Goes on writing a file that is valid and synced as far as `reach`, and behind which nothing but zeros stands.
    pub(crate) fn resume(context: &WalContext, generation: u64, salt: u64, reach: Reach) -> Result<Self> {
        let Reach { bytes: end, below } = reach;
        let path = context.directory.wal(generation);
        let file = context.directory.disk().open(&path).at("open", &path)?;
        let filled = file.bytes().at("measure", &path)?.max(end);
        let syncer = Syncer::new(
            path.clone(),
            Arc::clone(&file),
            reach,
            context.directory.poison().clone(),
            Arc::clone(&context.syncs),
        );
        let poison = context.directory.poison().clone();
        let (syncer, fill_step) = (Arc::new(syncer), FILL_BYTES_MIN);
        Ok(Self { path, salt, file, syncer, poison, end, below, filled, fill_step })
    }

    /// Bytes of frames and header.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes of frames and header, and the rows within them.
    pub(crate) fn reach(&self) -> Reach {
        Reach { bytes: self.end, below: self.below }
    }

    pub(crate) fn syncer(&self) -> &Arc<Syncer> {
        &self.syncer
    }

    /// Writes a frame in one call and returns how far the file reaches then. `buffer` has room for the header and then the padded payload.
    ///
    /// On an error nothing of it is left in the file, or, where that could not be had, writing has stopped for good.
    pub(crate) fn append(&mut self, buffer: &mut [u8], payload: &Payload, first: u64) -> Result<Reach> {
        let header = Header {
            payload_bytes: payload.bytes,
            rows: payload.rows,
            first,
            durable_upto: if planted::is(Bug::WatermarkZero) { 0 } else { self.syncer.durable_upto() },
        };
        let place = buffer.first_chunk_mut::<HEADER_BYTES>();
        frame::write_header(
            place.expect("frame buffers have room for a header"),
            self.salt,
            payload.crc,
            &header,
        );
        let end = self.end + buffer.len() as u64;
        if end > self.filled && self.fill_step > 0 && buffer.len() < FILL_FRAME_BYTES {
            self.fill_to(end + self.fill_step);
        }
        if let Err(source) = self.file.write_at(buffer, self.end)
            && !planted::is(Bug::ShortWriteCounted)
        {
            return Err(self.cut_back(DbError::io("write", &self.path, source)));
        }
        self.end = end;
        self.filled = self.filled.max(end);
        self.below = first + u64::from(payload.rows);
        self.syncer.wrote(self.reach(), u64::from(payload.rows));
        Ok(self.reach())
    }

    /// Writes zeros from what is filled up to `target`. That it fails is no error: the disk may be nearly full, and the
    /// frame itself may still fit.
    fn fill_to(&mut self, target: u64) {
        while self.filled < target {
            let step = usize::try_from(target - self.filled).unwrap_or(usize::MAX).min(ZEROS.len());
            let zeros = ZEROS.get(..step).unwrap_or(&ZEROS);
            if self.file.write_at(zeros, self.filled).is_err() {
                // Whatever was written of them gives its blocks back; if even that fails they are still zeros.
                let _ = self.file.truncate(self.filled);
                // Trying again with every append would take all free space from others each time.
                self.fill_step = 0;
                return;
            }
            self.filled += step as u64;
        }
        self.fill_step = (self.fill_step * 2).min(FILL_BYTES_MAX);
    }

    /// Takes a failed write back: cuts the file to its last good frame and syncs the cut, or stops writing.
    fn cut_back(&mut self, cause: DbError) -> DbError {
        let cut = self.file.truncate(self.end).and_then(|()| self.file.sync());
        match cut {
            Ok(()) => {
                self.filled = self.end;
                cause
            }
            Err(source) => {
                let notices = self.poison.notices();
                notices.error("a failed write could not be taken back", Some(&self.path), &source);
                self.poison.set(&cause)
            }
        }
    }

    /// Syncs the file and gives back what was filled ahead; frames may follow.
    pub(crate) fn trim(&mut self) -> Result<()> {
        if self.filled > self.end {
            self.file.truncate(self.end).at("truncate", &self.path)?;
            self.filled = self.end;
            self.fill_step = FILL_BYTES_MIN;
        }
        self.syncer.sync_to(self.reach())
    }

    /// Ends the file with a closing frame, cuts the zeros off and syncs it: it takes no more frames.
    pub(crate) fn seal(&mut self, next_sequence: u64) -> Result<()> {
        let closing = frame::closing(self.salt, next_sequence, self.syncer.durable_upto());
        if let Err(source) = self.file.write_at(&closing, self.end) {
            return Err(self.cut_back(DbError::io("write", &self.path, source)));
        }
        let end = self.end + closing.len() as u64;
        if let Err(source) = self.file.truncate(end) {
            return Err(self.cut_back(DbError::io("truncate", &self.path, source)));
        }
        self.end = end;
        self.filled = end;
        self.syncer.wrote(self.reach(), 0);
        self.syncer.sync_to(self.reach())
    }
}

/// A frame's payload, checksummed before it is known which file it goes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload {
    pub(crate) bytes: u32,
    pub(crate) rows: u32,
    pub(crate) crc: u32,
}

impl Payload {
    /// Of a buffer that holds room for a header and then the payload, which is padded here.
    pub(crate) fn seal(buffer: &mut Vec<u8>, rows: u32) -> Result<Self> {
        let payload = buffer.get(HEADER_BYTES..).unwrap_or_default();
        let bytes = u32::try_from(payload.len()).ok().filter(|bytes| *bytes <= frame::MAX_PAYLOAD_BYTES);
        let bytes = bytes.ok_or_else(|| {
            DbError::invalid("batch", format!("{} bytes do not fit a frame", payload.len()))
        })?;
        let crc = frame::payload_crc(payload);
        frame::pad(buffer);
        Ok(Self { bytes, rows, crc })
    }
}

/// What is known of a log before it is read, and so what a bad place in it means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Known {
    /// It is where it was written. Its first `synced_bytes` bytes were synced, and more where its frames say so: a bad place
    /// there is damage.
    Original { synced_bytes: u64 },
    /// It was copied, perhaps while it was written. Its first `whole_bytes` bytes were there when the copy began; behind
    /// them the copy may have come by before the bytes did, so it ends at the first bad place. `listed_bytes` is what the
    /// manifest, which was copied at another moment, says of its length.
    Copied { whole_bytes: u64, listed_bytes: u64 },
}

impl Known {
    /// Bytes that must be there.
    pub(crate) fn covered_bytes(self) -> u64 {
        match self {
            Self::Original { synced_bytes } => synced_bytes,
            Self::Copied { whole_bytes, .. } => whole_bytes,
        }
    }

    /// How far a log is proved to be on disk, by the highest watermark of its frames. A copy may be in the page cache only.
    pub(crate) fn durable_upto(self, watermark: u64) -> u64 {
        match self {
            Self::Original { synced_bytes } => synced_bytes.max(watermark),
            Self::Copied { .. } => 0,
        }
    }

    /// Where a log ends, and how many bytes it has lost there if it has lost its end: a crash had torn it, or a copy has no
    /// more of it. Damage of what must be there is an error.
    pub(crate) fn judge(self, end: End, bytes: &[u8], path: &Path) -> Result<(End, Option<u64>)> {
        match (self, end) {
            (Self::Copied { whole_bytes, .. }, End::Corrupt { at, .. }) if at >= whole_bytes => {
                let end_bytes = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
                let bytes = end_bytes.saturating_sub(at);
                Ok((End::Torn { at, bytes }, Some(bytes)))
            }
            (_, End::Corrupt { at, covered_upto, what }) => {
                let what = format!("{what} (bytes up to {covered_upto} were synced)");
                Err(DbError::corrupt(path, at, what))
            }
            (_, End::Truncated { covered_upto, .. }) => Err(DbError::Truncated {
                file: path.to_owned(),
                found_bytes: bytes.len() as u64,
                expected_bytes: covered_upto,
            }),
            (_, End::Torn { bytes, .. }) => Ok((end, Some(bytes))),
            (Self::Copied { listed_bytes, .. }, end) if end.at() < listed_bytes => Ok((end, Some(0))),
            (_, end) => Ok((end, None)),
        }
    }
}

/// A WAL file as it was found.
#[derive(Debug)]
pub(crate) struct FoundWal {
    pub(crate) path: PathBuf,
    pub(crate) header: WalHeader,
    pub(crate) blocks: Vec<Block>,
    /// The number after the highest that a frame gives or, in a closing frame, names.
    pub(crate) next_sequence: u64,
    pub(crate) end: End,
    /// Bytes that are cut off its end, if it has lost it; 0 where only a copy's manifest knows of them.
    pub(crate) lost_bytes: Option<u64>,
    /// How far the file is proved to have been synced.
    durable_upto: u64,
}

impl FoundWal {
    pub(crate) fn rows(&self) -> u64 {
        self.blocks.iter().map(|block| block.rows() as u64).sum()
    }

    /// Whether it ends with a closing frame.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.end, End::Closed { .. })
    }

    /// Cuts a torn tail off and brings what stays to disk, for it is about to be shown.
    pub(crate) fn repair(&self, directory: &Directory) -> Result<()> {
        make_durable(directory, &self.path, self.durable_upto, self.end.at())
    }
}

/// Cuts a log to `end` and brings all of it to disk, of which nothing beyond `durable_upto` is proved to be there.
///
/// What is in doubt may be in the page cache only, on pages that count as clean because a sync of an earlier run failed:
/// syncing the file would then do nothing, and writing the same bytes in place would endanger those that are on disk. So
/// the log is copied, and the copy put in its place in one step. A full disk must not keep anybody from his events:
/// there the file itself is cut and synced.
pub(crate) fn make_durable(directory: &Directory, path: &Path, durable_upto: u64, end: u64) -> Result<()> {
    let disk = directory.disk().as_ref();
    if durable_upto < end && !planted::is(Bug::TailNotSynced) {
        let mut bytes = keplordb_disk::read_all(disk, path, u64::MAX).at("read", path)?;
        bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
        match directory.write_whole(path, &bytes) {
            Err(DbError::Full { .. }) => {}
            written => return written,
        }
    }
    let file = disk.open(path).at("open", path)?;
    if file.bytes().at("measure", path)? > end {
        file.truncate(end).at("truncate", path)?;
    }
    if planted::is(Bug::TailNotSynced) {
        return Ok(());
    }
    file.sync().at("sync", path)
}

/// Reads a WAL file; changes nothing.
///
/// Damage below the watermark, a file that is shorter than what was synced, and another kind of file are errors; a torn
/// tail is not, it is said in `end`.
pub(crate) fn find(disk: &dyn Disk, path: &Path, generation: u64, known: Known) -> Result<FoundWal> {
    let bytes = match keplordb_disk::read_all(disk, path, u64::MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DbError::Missing { file: path.to_owned() });
        }
        read => read.at("read", path)?,
    };
    let (found_bytes, expected_bytes) = (bytes.len() as u64, known.covered_bytes());
    if found_bytes < expected_bytes {
        return Err(DbError::Truncated { file: path.to_owned(), found_bytes, expected_bytes });
    }
    let (header, header_bytes) = WalHeader::decode(&bytes).map_err(|error| error.in_file(path))?;
    if header.generation != generation {
        let what = format!("the file's name says generation {generation}, its header {}", header.generation);
        return Err(DbError::corrupt(path, 0, what));
    }
    let mut walk = frame::walk(&bytes, header_bytes, header.salt, expected_bytes);
    let (mut blocks, mut next_sequence): (Vec<Block>, u64) = (Vec::new(), 0);
    let mut watermark = header_bytes as u64;
    for frame in walk.by_ref() {
        let block = Block::decode(frame.payload, header.schema.shape(), frame.rows, frame.first)
            .map_err(|malformed| malformed.in_file(path, frame.offset + HEADER_BYTES as u64))?;
        next_sequence = next_sequence.max(frame.first + u64::from(frame.rows));
        watermark = watermark.max(frame.durable_upto);
        // One by one, small frames would take many times the memory that their rows did when they were written.
        match blocks.last_mut() {
            Some(last) if last.rows() < GATHERED_ROWS && last.memory_bytes() < GATHERED_BYTES => {
                last.extend(&block);
            }
            _ => blocks.push(block),
        }
    }
    let (end, lost_bytes) = known.judge(walk.end(), &bytes, path)?;
    match end {
        End::Closed { at, first } if first > MAX_NUMBER => {
            return Err(DbError::corrupt(
                path,
                at,
                format!("the closing frame's sequence {first} is impossible"),
            ));
        }
        End::Closed { first, .. } => next_sequence = next_sequence.max(first),
        _ => {}
    }
    let (path, durable_upto) = (path.to_owned(), known.durable_upto(watermark));
    Ok(FoundWal { path, header, blocks, next_sequence, end, lost_bytes, durable_upto })
}

/// A salt that no other file has, in all likelihood: frames of one file mean nothing in another.
pub(crate) fn random_salt(number: u64) -> u64 {
    // Each `RandomState` has keys of its own, seeded by the operating system.
    RandomState::new().hash_one((number, std::process::id()))
}
