//! A file of frames that is written: append one, cut back a failed write, seal; and make a found one durable.
//!
//! Both the engine's logs and the segments of an entry log are such files.
//!
//! A file in use is zero-filled ahead in growing steps. Overwriting blocks that are already allocated and written spares
//! every later `fdatasync` the journal entry that a longer file costs (okaywal shows the gain), and a little of
//! every small write too: it finds its page there. Zeros are never a frame.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use keplordb_disk::{Disk, DiskFile};

use crate::frame::{self, HEADER_BYTES, Header};
use crate::planted::{self, Bug};
use crate::poison::Poison;
use crate::syncer::{Reach, Syncer};

/// First and largest step of filling ahead. The first keeps a shard that gets a few events small; the largest bounds what
/// one append may write besides its own bytes.
const FILL_BYTES_MIN: u64 = 64 << 10;
const FILL_BYTES_MAX: u64 = 4 << 20;
/// Frames from this size on are written without filling ahead: their own bytes, not the journal, are then the cost of a
/// sync, and every zero written ahead would be written twice.
const FILL_FRAME_BYTES: usize = 32 << 10;
/// Bytes that are copied at a time.
const COPY_BYTES: usize = 4 << 20;
/// Zeros to write from.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused an operation; what was written of it has been taken back.
    #[error("{op} {} failed: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What was tried: `open`, `write`, `sync` …
        op: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Writing has stopped for good; see [`Poison`].
    #[error("writing stopped after a failure: {first}")]
    Poisoned {
        /// The first failure.
        first: Arc<str>,
    },
    /// A payload is longer than a frame may have.
    #[error("{bytes} bytes do not fit a frame of {}", frame::MAX_PAYLOAD_BYTES)]
    TooLong {
        /// Its length, in bytes.
        bytes: u64,
    },
}

impl FileError {
    /// An operation `op` on `file` that failed.
    pub fn io(op: &'static str, file: &Path, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), op, source }
    }
}

/// A file that takes frames. Its owner lets one thread write at a time; anybody may sync.
#[derive(Debug)]
pub struct FrameFile {
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

impl FrameFile {
    /// Goes on writing a file that is valid and synced as far as `durable`, and behind which nothing but zeros stands. Its
    /// syncs count in `syncs`; a failure that leaves its bytes in doubt sets `poison`.
    ///
    /// # Errors
    /// [`FileError::Io`] if it cannot be opened.
    pub fn resume(
        disk: &dyn Disk,
        path: PathBuf,
        salt: u64,
        durable: Reach,
        poison: &Poison,
        syncs: &Arc<AtomicU64>,
    ) -> Result<Self, FileError> {
        let Reach { bytes: end, below } = durable;
        let file = disk.open(&path).map_err(|source| FileError::io("open", &path, source))?;
        let filled = file.bytes().map_err(|source| FileError::io("measure", &path, source))?.max(end);
        let (poison, syncs) = (poison.clone(), Arc::clone(syncs));
        let syncer = Arc::new(Syncer::new(path.clone(), Arc::clone(&file), durable, poison.clone(), syncs));
        Ok(Self { path, salt, file, syncer, poison, end, below, filled, fill_step: FILL_BYTES_MIN })
    }

    /// Bytes of frames and header.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes of frames and header, and the rows within them.
    pub fn reach(&self) -> Reach {
        Reach { bytes: self.end, below: self.below }
    }

    /// Where its syncs are waited for.
    pub fn syncer(&self) -> &Arc<Syncer> {
        &self.syncer
    }

    /// Writes a frame in one call and returns how far the file reaches then: written, not durable. `buffer` has room for
    /// the header and then the padded payload; `first` goes into the header, and all rows of the file are `below` a number then.
    ///
    /// # Errors
    /// [`FileError::Io`]: nothing of it is left in the file. [`FileError::Poisoned`] where that could not be had.
    ///
    /// # Panics
    /// If `buffer` is shorter than a header.
    pub fn append(
        &mut self,
        buffer: &mut [u8],
        payload: &Payload,
        first: u64,
        below: u64,
    ) -> Result<Reach, FileError> {
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
            return Err(self.cut_back(FileError::io("write", &self.path, source)));
        }
        self.end = end;
        self.filled = self.filled.max(end);
        self.below = below;
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
    fn cut_back(&mut self, cause: FileError) -> FileError {
        let cut = self.file.truncate(self.end).and_then(|()| self.file.sync());
        match cut {
            Ok(()) => {
                self.filled = self.end;
                cause
            }
            Err(source) => {
                let first =
                    self.poison.stop(&format_args!("{cause}, and it could not be taken back: {source}"));
                FileError::Poisoned { first }
            }
        }
    }

    /// Syncs the file and gives back what was filled ahead; frames may follow.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn trim(&mut self) -> Result<(), FileError> {
        self.cut_fill()?;
        self.syncer.sync_to(self.reach())
    }

    /// Gives back what was filled ahead, without a sync; frames may follow.
    ///
    /// # Errors
    /// [`FileError::Io`]: the zeros may still be there.
    pub fn cut_fill(&mut self) -> Result<(), FileError> {
        if self.filled > self.end {
            self.file.truncate(self.end).map_err(|source| FileError::io("truncate", &self.path, source))?;
            self.filled = self.end;
            self.fill_step = FILL_BYTES_MIN;
        }
        Ok(())
    }

    /// Ends the file with a closing frame, in which `first` stands, cuts the zeros off and syncs it: it takes no more frames.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn seal(&mut self, first: u64) -> Result<(), FileError> {
        let closing = frame::closing(self.salt, first, self.syncer.durable_upto());
        if let Err(source) = self.file.write_at(&closing, self.end) {
            return Err(self.cut_back(FileError::io("write", &self.path, source)));
        }
        let end = self.end + closing.len() as u64;
        if let Err(source) = self.file.truncate(end) {
            return Err(self.cut_back(FileError::io("truncate", &self.path, source)));
        }
        self.end = end;
        self.filled = end;
        self.syncer.wrote(self.reach(), 0);
        self.syncer.sync_to(self.reach())
    }
}

/// A frame's payload, checksummed before it is known which file it goes to.
#[derive(Debug, Clone, Copy)]
pub struct Payload {
    /// Its length without padding.
    pub bytes: u32,
    /// Its rows.
    pub rows: u32,
    /// Its checksum.
    pub crc: u32,
}

impl Payload {
    /// Of a buffer that holds room for a header and then the payload, which is padded here.
    ///
    /// # Errors
    /// [`FileError::TooLong`] above [`frame::MAX_PAYLOAD_BYTES`].
    pub fn seal(buffer: &mut Vec<u8>, rows: u32) -> Result<Self, FileError> {
        let payload = buffer.get(HEADER_BYTES..).unwrap_or_default();
        let bytes = u32::try_from(payload.len()).ok().filter(|bytes| *bytes <= frame::MAX_PAYLOAD_BYTES);
        let bytes = bytes.ok_or(FileError::TooLong { bytes: payload.len() as u64 })?;
        let crc = frame::payload_crc(payload);
        frame::pad(buffer);
        Ok(Self { bytes, rows, crc })
    }
}

/// Writes a file that is there whole or not at all: under a temporary name, synced, renamed, its directory synced.
///
/// # Errors
/// [`FileError::Io`]: the file is what it was. [`FileError::Poisoned`] when only the sync of its name failed: whether a power
/// cut would keep the name is unknown then, and a second sync would prove nothing.
pub fn write_whole(disk: &dyn Disk, path: &Path, bytes: &[u8], poison: &Poison) -> Result<(), FileError> {
    put(disk, path, poison, |file| file.write_at(bytes, 0))
}

/// Cuts a file to `end` and brings all of it to disk, of which nothing beyond `durable_upto` is proved to be there.
///
/// What is in doubt may be in the page cache only, on pages that count as clean because a sync of an earlier run failed:
/// syncing the file would then do nothing, and writing the same bytes in place would endanger those that are on disk. So
/// the file is copied, and the copy put in its place in one step.
///
/// # Errors
/// As [`write_whole`]; a full disk, too, leaves the file as it was.
pub fn prove_durable(
    disk: &dyn Disk,
    path: &Path,
    durable_upto: u64,
    end: u64,
    poison: &Poison,
) -> Result<(), FileError> {
    if durable_upto >= end || planted::is(Bug::TailNotSynced) {
        return cut_in_place(disk, path, end);
    }
    let found = disk.open_read(path).map_err(|source| FileError::io("open", path, source))?;
    put(disk, path, poison, |copy| copy_bytes(found.as_ref(), copy, end))
}

/// As [`prove_durable`], but for a full disk, which must not keep anybody from what is there: the file itself is then cut and
/// synced, though that is no proof.
///
/// # Errors
/// As [`write_whole`].
pub fn make_durable(
    disk: &dyn Disk,
    path: &Path,
    durable_upto: u64,
    end: u64,
    poison: &Poison,
) -> Result<(), FileError> {
    match prove_durable(disk, path, durable_upto, end, poison) {
        Err(FileError::Io { source, .. }) if is_full(&source) => cut_in_place(disk, path, end),
        proved => proved,
    }
}

/// Cuts a file to `end`, if it is longer, and syncs it.
fn cut_in_place(disk: &dyn Disk, path: &Path, end: u64) -> Result<(), FileError> {
    let step = |op, outcome: io::Result<()>| outcome.map_err(|source| FileError::io(op, path, source));
    let file = disk.open(path).map_err(|source| FileError::io("open", path, source))?;
    if file.bytes().map_err(|source| FileError::io("measure", path, source))? > end {
        step("truncate", file.truncate(end))?;
    }
    if planted::is(Bug::TailNotSynced) {
        return Ok(());
    }
    step("sync", file.sync())
}

/// Puts what `write` writes in the place of a file, durably; errors as those of [`write_whole`].
pub(crate) fn put(
    disk: &dyn Disk,
    path: &Path,
    poison: &Poison,
    write: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> Result<(), FileError> {
    poison.check()?;
    keplordb_disk::put_in_place(disk, path, write).map_err(|source| FileError::io("write", path, source))?;
    if planted::is(Bug::NameNotSynced) {
        return Ok(());
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    disk.sync_dir(dir).map_err(|source| poison.set(FileError::io("sync", dir, source)))
}

/// Copies the first `end` bytes, or all if there are fewer.
fn copy_bytes(source: &dyn DiskFile, target: &dyn DiskFile, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(end).unwrap_or(COPY_BYTES))];
    let mut at = 0;
    while at < end {
        let step = usize::try_from(end - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let room = buffer.get_mut(..step).unwrap_or_default();
        let read = source.read_at(room, at)?;
        if read == 0 {
            break;
        }
        target.write_at(room.get(..read).unwrap_or_default(), at)?;
        at += read as u64;
    }
    Ok(())
}

/// Whether an error says that there is no space left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A salt that no other file has, in all likelihood: frames of one file mean nothing in another.
pub fn random_salt(number: u64) -> u64 {
    // Each `RandomState` has keys of its own, seeded by the operating system.
    RandomState::new().hash_one((number, std::process::id()))
}
