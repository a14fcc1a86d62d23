//! One WAL file: make it, and read it again after a crash. Its frames are written by the log crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use keplordb_disk::Disk;
use keplordb_log::file::{self, FrameFile, random_salt};
use keplordb_log::frame::{self, End, HEADER_BYTES};
use keplordb_log::syncer::Reach;

use super::directory::Directory;
use crate::error::{DbError, IoContext, Result};
use crate::format::MAX_NUMBER;
use crate::format::block::Block;
use crate::format::wal::WalHeader;
use crate::schema::TableSchema;

/// Rows and bytes up to which the frames of a file that is read again are gathered into one block.
const GATHERED_ROWS: usize = 4096;
const GATHERED_BYTES: usize = 1 << 20;
/// What all WAL files of an engine share.
#[derive(Debug, Clone)]
pub(crate) struct WalContext {
    pub(crate) directory: Directory,
    /// Counts the syncs of the engine.
    pub(crate) syncs: Arc<AtomicU64>,
}

/// Makes the file of a new generation. On return its name and header are on disk, so a frame may follow.
pub(crate) fn create(
    context: &WalContext,
    generation: u64,
    shard: u32,
    schema: &TableSchema,
) -> Result<FrameFile> {
    let path = context.directory.wal(generation);
    let salt = random_salt(generation);
    let header = WalHeader { generation, salt, shard, schema: schema.clone() }.encode();
    context.directory.write_whole(&path, &header)?;
    resume(context, generation, salt, Reach { bytes: header.len() as u64, below: 0 })
}

/// Goes on writing a file that is valid and synced as far as `reach`, and behind which nothing but zeros stands.
pub(crate) fn resume(context: &WalContext, generation: u64, salt: u64, reach: Reach) -> Result<FrameFile> {
    let (directory, path) = (&context.directory, context.directory.wal(generation));
    let poison = directory.poison().of_files();
    Ok(FrameFile::resume(directory.disk().as_ref(), path, salt, reach, poison, &context.syncs)?)
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

/// Cuts a log to `end` and brings all of it to disk, of which nothing beyond `durable_upto` is proved to be there.
pub(crate) fn make_durable(directory: &Directory, path: &Path, durable_upto: u64, end: u64) -> Result<()> {
    let poison = directory.poison().of_files();
    Ok(file::make_durable(directory.disk().as_ref(), path, durable_upto, end, poison)?)
}
