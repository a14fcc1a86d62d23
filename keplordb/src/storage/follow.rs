//! A log that somebody else writes, read on from where it was read before; writes nothing.
//!
//! The file is opened anew each time, for an engine that recovers puts a copy in its place. What was taken stays taken as
//! long as the last frame of it stands where it stood: a writer that takes a failed write back cuts that frame off, or
//! puts another one there, and no two frames of a file are equal, because no sequence is given twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk, DiskFile};
use keplordb_log::frame::{self, End, Frame, HEADER_BYTES};

use crate::error::{DbError, IoContext, Result};
use crate::format::bytes::Malformed;
use crate::format::preface::{self, PrefaceError};

/// Bytes that a look at a log reads at first, and at most in one step: frames that are longer are read whole.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 4 << 20;

/// How much of a log was read.
#[derive(Debug)]
pub(crate) struct FollowedLog {
    path: PathBuf,
    salt: u64,
    /// Where the next frame begins.
    at: u64,
    /// The header of the last frame that was taken, or the beginning of the file, and where it is.
    mark: [u8; HEADER_BYTES],
    mark_at: u64,
    /// Length of the file when it was last read to its end.
    checked_bytes: u64,
    is_closed: bool,
}

/// What became of a log since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// What was taken from it still stands there.
    Kept,
    /// It does not: the log is to be opened anew, and what was taken from it forgotten.
    Broken,
}

impl FollowedLog {
    /// Reads the preface of a log, of which `decode` says what it holds, the file's salt and where the frames begin.
    pub(crate) fn open<H>(
        disk: &dyn Disk,
        path: PathBuf,
        decode: impl FnOnce(&[u8]) -> Result<(H, u64, usize), PrefaceError>,
    ) -> Result<(Self, H)> {
        let file = open(disk, &path)?;
        let start = read(&file, &path, 0, preface::FIXED_BYTES)?;
        let start = read(&file, &path, 0, preface::stored_bytes(&start))?;
        let (header, salt, header_bytes) = decode(&start).map_err(|error| error.in_file(&path))?;
        let mut log = Self {
            path,
            salt,
            at: header_bytes as u64,
            mark: [0; HEADER_BYTES],
            mark_at: 0,
            checked_bytes: 0,
            is_closed: false,
        };
        log.mark(&start, 0);
        Ok((log, header))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the last frame that was taken ends, in bytes.
    pub(crate) fn end(&self) -> u64 {
        self.at
    }

    /// Whether a closing frame was read: nothing will follow.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Calls `each` with every whole frame that came since the last time, in order, up to the first one whose `first` is
    /// above `last`. That one, and a frame that is only partly there, are left for the next time.
    ///
    /// A log that has not grown costs a read of a page; one that has, the bytes that are new.
    ///
    /// # Errors
    /// [`Missing`](DbError::Missing); [`Corrupt`](DbError::Corrupt) or [`Truncated`](DbError::Truncated) for a bad frame
    /// that was synced, of which `synced_bytes` is what is known from elsewhere. Where the log is being written, a bad
    /// frame may be one that was read before it was written. The frames before it were taken.
    pub(crate) fn advance(
        &mut self,
        disk: &dyn Disk,
        synced_bytes: u64,
        last: u64,
        each: &mut dyn FnMut(&Frame<'_>) -> Result<(), Malformed>,
    ) -> Result<Continuity> {
        if self.is_closed {
            return Ok(Continuity::Kept);
        }
        let file = open(disk, &self.path)?;
        if !self.is_marked(&file)? {
            return Ok(Continuity::Broken);
        }
        let file_bytes = file.bytes().at("measure", &self.path)?;
        let mut wanted = READ_BYTES_MIN;
        loop {
            let base = self.at;
            let bytes = read(&file, &self.path, base, wanted)?;
            let mut walk = frame::walk_from(&bytes, base, self.salt, synced_bytes);
            for frame in walk.by_ref() {
                if frame.first > last {
                    return Ok(Continuity::Kept);
                }
                each(&frame)
                    .map_err(|malformed| malformed.in_file(&self.path, frame.offset + HEADER_BYTES as u64))?;
                self.take(&frame, &bytes, base);
            }
            if bytes.len() < wanted {
                self.checked_bytes = base + bytes.len() as u64;
                return self.see_end(walk.end()).map(|()| Continuity::Kept);
            }
            // The file goes on. Behind the last frame of a log in use are zeros, which were looked at before unless the
            // file has changed its length; anything else is a longer frame, or a bad one of which only the rest of the
            // file can tell what it is.
            let rest = within(&bytes, self.at - base);
            wanted = if rest.first_chunk() == Some(&[0; HEADER_BYTES]) {
                if file_bytes == self.checked_bytes && self.at >= synced_bytes {
                    return Ok(Continuity::Kept);
                }
                usize::MAX
            } else if self.at > base {
                wanted.saturating_mul(2).min(READ_BYTES_MAX)
            } else {
                wanted.saturating_mul(2)
            };
        }
    }

    /// Whether a frame, whole or not, begins where the last one that was taken ends.
    pub(crate) fn has_more(&self, disk: &dyn Disk) -> Result<bool> {
        let next = read(&open(disk, &self.path)?, &self.path, self.at, HEADER_BYTES)?;
        Ok(next.iter().any(|byte| *byte != 0))
    }

    fn take(&mut self, frame: &Frame<'_>, bytes: &[u8], base: u64) {
        self.mark(within(bytes, frame.offset - base), frame.offset);
        let payload_bytes = frame.payload.len().next_multiple_of(frame::ALIGN_BYTES);
        self.at = frame.offset + (HEADER_BYTES + payload_bytes) as u64;
    }

    /// Remembers what stands at a place of the file.
    fn mark(&mut self, bytes: &[u8], at: u64) {
        self.mark = bytes.first_chunk().copied().unwrap_or_default();
        self.mark_at = at;
    }

    fn is_marked(&self, file: &Arc<dyn DiskFile>) -> Result<bool> {
        let mut found = [0; HEADER_BYTES];
        file.read_at(&mut found, self.mark_at).at("read", &self.path)?;
        Ok(found == self.mark)
    }

    fn see_end(&mut self, end: End) -> Result<()> {
        match end {
            // A torn frame is what a writer is at, or what a dead one left for the next to cut off.
            End::Clean { .. } | End::Torn { .. } => Ok(()),
            End::Closed { at, .. } => {
                (self.at, self.is_closed) = (at, true);
                Ok(())
            }
            End::Corrupt { at, covered_upto, what } => {
                let what = format!("{what} (bytes up to {covered_upto} were synced)");
                Err(DbError::corrupt(&self.path, at, what))
            }
            End::Truncated { covered_upto, .. } => Err(DbError::Truncated {
                file: self.path.clone(),
                found_bytes: self.checked_bytes,
                expected_bytes: covered_upto,
            }),
        }
    }
}

fn open(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>> {
    match disk.open_read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(DbError::Missing { file: path.to_owned() })
        }
        file => file.at("open", path),
    }
}

/// Up to `bytes` bytes of a file from `offset` on; fewer only where it ends.
fn read(file: &Arc<dyn DiskFile>, path: &Path, offset: u64, bytes: usize) -> Result<Vec<u8>> {
    // A frame that says it is long must not make us allocate what the file does not have.
    let present = file.bytes().at("measure", path)?.saturating_sub(offset);
    let room = usize::try_from(present).unwrap_or(usize::MAX).min(bytes);
    let mut target = vec![0; room];
    let read = file.read_at(&mut target, offset).at("read", path)?;
    target.truncate(read);
    Ok(target)
}

fn within(bytes: &[u8], offset: u64) -> &[u8] {
    usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use keplordb_disk::MemoryDisk;
    use keplordb_log::frame::{Header, payload_crc, write_header};

    use super::*;
    use crate::format::tombstones;

    const SALT: u64 = 77;

    /// A log in the making: a tombstone log's preface, and frames with any payload.
    struct Writer {
        disk: MemoryDisk,
        file: Arc<dyn DiskFile>,
        at: u64,
        next: u64,
    }

    impl Writer {
        fn new() -> Self {
            let disk = MemoryDisk::default();
            let file = disk.create("log".as_ref()).unwrap();
            let header = tombstones::encode_header(SALT);
            file.write_at(&header, 0).unwrap();
            Self { disk, file, at: header.len() as u64, next: 1 }
        }

        fn frame(&self, payload: &[u8], durable_upto: u64) -> Vec<u8> {
            let mut bytes = vec![0; HEADER_BYTES];
            bytes.extend_from_slice(payload);
            frame::pad(&mut bytes);
            let payload_bytes = u32::try_from(payload.len()).unwrap();
            let header = Header { payload_bytes, rows: 1, first: self.next, durable_upto };
            write_header(bytes.first_chunk_mut().unwrap(), SALT, payload_crc(payload), &header);
            bytes
        }

        fn append(&mut self, payload: &[u8]) {
            let bytes = self.frame(payload, 0);
            self.file.write_at(&bytes, self.at).unwrap();
            self.at += bytes.len() as u64;
            self.next += 1;
        }

        /// Zeros behind the last frame.
        fn fill(&self, bytes: u64) {
            self.file.truncate(self.at + bytes).unwrap();
        }

        fn follow(&self) -> FollowedLog {
            let decode = |bytes: &[u8]| tombstones::decode_header(bytes).map(|(salt, end)| ((), salt, end));
            FollowedLog::open(&self.disk, "log".into(), decode).unwrap().0
        }

        /// The sequences that are new, or `None` when the log is not the one that was read.
        fn advance(&self, log: &mut FollowedLog, last: u64) -> Option<Vec<u64>> {
            let mut found = Vec::new();
            let each = &mut |frame: &Frame<'_>| {
                found.push(frame.first);
                Ok(())
            };
            match log.advance(&self.disk, 0, last, each).unwrap() {
                Continuity::Kept => Some(found),
                Continuity::Broken => None,
            }
        }
    }

    #[test]
    fn each_frame_comes_once_whatever_its_length_and_what_was_filled_ahead() {
        let mut writer = Writer::new();
        let mut log = writer.follow();
        assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), [0_u64; 0]);
        let lengths = [1, 40, READ_BYTES_MIN - HEADER_BYTES, READ_BYTES_MIN, READ_BYTES_MAX * 2 + 3, 7, 100];
        for (place, payload_bytes) in lengths.into_iter().enumerate() {
            writer.append(&vec![5; payload_bytes]);
            writer.fill([0, 8, 100_000][place % 3]);
            assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), [place as u64 + 1]);
            assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), [0_u64; 0]);
            assert_eq!(log.end(), writer.at);
            assert!(!log.has_more(&writer.disk).unwrap());
        }
        let all: Vec<u64> = (1..writer.next).collect();
        assert_eq!(writer.advance(&mut writer.follow(), u64::MAX).unwrap(), all);

        writer.append(b"more");
        assert!(log.has_more(&writer.disk).unwrap());
        let closing = frame::closing(SALT, writer.next, 0);
        writer.file.write_at(&closing, writer.at).unwrap();
        writer.file.truncate(writer.at + closing.len() as u64).unwrap();
        assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), [8]);
        assert!(log.is_closed());
        writer.disk.remove("log".as_ref()).unwrap();
        assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), [0_u64; 0], "a closed log is read no more");
    }

    #[test]
    fn frames_above_the_last_sequence_wait() {
        let mut writer = Writer::new();
        let mut log = writer.follow();
        (0..5).for_each(|_| writer.append(b"payload"));
        assert_eq!(writer.advance(&mut log, 2).unwrap(), [1, 2]);
        assert_eq!(writer.advance(&mut log, 2).unwrap(), [0_u64; 0]);
        assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), [3, 4, 5]);
    }

    #[test]
    fn half_a_frame_is_left_until_it_is_whole() {
        let mut writer = Writer::new();
        let mut log = writer.follow();
        writer.append(b"first");
        writer.fill(4096);
        let bytes = writer.frame(&[9; 200], 0);
        for written in 1..bytes.len() {
            writer.file.write_at(&bytes[..written], writer.at).unwrap();
            let expected = if written == 1 { vec![1] } else { vec![] };
            assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), expected, "{written} bytes");
        }
        writer.file.write_at(&bytes, writer.at).unwrap();
        assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), [2]);
    }

    /// A failed write that had written a whole frame is cut back; the next frame may be just as long.
    #[test]
    fn a_frame_that_was_taken_back_breaks_the_log() {
        let mut writer = Writer::new();
        let mut log = writer.follow();
        writer.append(b"stays");
        let kept = writer.at;
        writer.append(b"failed");
        assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), [1, 2]);
        writer.file.truncate(kept).unwrap();
        let mut cut = writer.follow();
        assert_eq!(writer.advance(&mut log, u64::MAX), None, "cut off");
        assert_eq!(writer.advance(&mut cut, u64::MAX).unwrap(), [1]);

        writer.at = kept;
        writer.append(b"instea");
        writer.append(b"more");
        assert_eq!(writer.advance(&mut log, u64::MAX), None, "another of the same length");
        assert_eq!(writer.advance(&mut cut, u64::MAX).unwrap(), [3, 4]);
    }

    #[test]
    fn a_log_that_stalls_on_lost_bytes_is_damage_as_soon_as_it_grows() {
        let mut writer = Writer::new();
        let mut log = writer.follow();
        writer.append(b"first");
        writer.fill(4096);
        assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), [1]);
        let lost = writer.at;
        writer.append(b"second");
        let synced = writer.at;
        let third = writer.frame(b"third", synced);
        writer.file.write_at(&third, synced).unwrap();
        writer.file.write_at(&[0; 40], lost).unwrap();
        // The zeros stand where nothing need have been written.
        assert_eq!(writer.advance(&mut log, u64::MAX).unwrap(), [0_u64; 0]);
        writer.fill(8192);
        for log in [&mut log, &mut writer.follow()] {
            let error = log.advance(&writer.disk, 0, u64::MAX, &mut |_| Ok(())).unwrap_err();
            assert!(matches!(&error, DbError::Corrupt { offset, .. } if *offset == lost), "{error}");
        }
        // What the manifest says was synced needs no growth to be missed.
        let mut told = writer.follow();
        let error = told.advance(&writer.disk, writer.at + 9000, u64::MAX, &mut |_| Ok(())).unwrap_err();
        assert!(matches!(error, DbError::Corrupt { .. }), "{error}");
        writer.file.truncate(lost).unwrap();
        let error = writer.follow().advance(&writer.disk, lost + 8, u64::MAX, &mut |_| Ok(())).unwrap_err();
        let expected = format!("log has {lost} of at least {} bytes; restore the file from a copy", lost + 8);
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_log_that_is_gone_is_missing() {
        let writer = Writer::new();
        let mut log = writer.follow();
        writer.disk.remove("log".as_ref()).unwrap();
        let error = log.advance(&writer.disk, 0, u64::MAX, &mut |_| Ok(())).unwrap_err();
        assert!(matches!(error, DbError::Missing { .. }), "{error}");
    }
}
