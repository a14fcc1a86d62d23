//! Walking over the frames of a file that need not fit into memory, payloads and all, and judging its end.
//!
//! It is [`frame::walk_from`] over a window that moves.

use std::path::Path;

use keplordb_disk::DiskFile;

use crate::error::{IoContext, LogError, Result};
use crate::frame::{self, End, Frame, HEADER_BYTES, Salted};

/// Read at a time, unless a frame is longer.
const WINDOW_BYTES: u64 = 4 << 20;

/// Calls `each` with every valid frame of a file from `from` on, where a frame begins, and says how the file ends. The first
/// `covered` bytes are known to have been synced.
///
/// Cost: one checksum over each payload; where the file ends in something else than a frame, all that follows is searched.
/// Memory: [`WINDOW_BYTES`], or the longest frame.
pub(crate) fn scan(
    file: &dyn DiskFile,
    path: &Path,
    salt: u64,
    from: u64,
    covered: u64,
    mut each: impl FnMut(&Frame<'_>) -> Result<()>,
) -> Result<End> {
    let file_bytes = file.bytes().at("measure", path)?;
    let (mut buffer, mut at, mut window) = (Vec::new(), from, WINDOW_BYTES);
    loop {
        let rest = file_bytes.saturating_sub(at);
        let taken = usize::try_from(window.min(rest)).unwrap_or(usize::MAX);
        if buffer.len() < taken {
            let more = taken - buffer.len();
            buffer.try_reserve_exact(more).map_err(|error| LogError::io("read", path, error.into()))?;
            buffer.resize(taken, 0);
        }
        let target = buffer.get_mut(..taken).unwrap_or_default();
        let read = file.read_at(target, at).at("read", path)?;
        let bytes = target.get(..read).unwrap_or_default();
        let mut walk = frame::walk_from(bytes, at, salt, covered);
        let begun = at;
        for frame in walk.by_ref() {
            each(&frame)?;
            at = frame.end();
        }
        if read as u64 == rest || read < taken {
            return Ok(walk.end());
        }
        window = if at > begun {
            WINDOW_BYTES
        } else if let Some(frame_bytes) = frame_bytes(bytes, salt, at).filter(|frame| *frame <= rest) {
            frame_bytes
        } else {
            return Judge { file, path, salted: Salted::new(salt), file_bytes, covered }.end(bytes, at);
        };
    }
}

/// The length of the frame that begins at `at`, of which `bytes` are only the beginning.
fn frame_bytes(bytes: &[u8], salt: u64, at: u64) -> Option<u64> {
    let header = frame::read_header(bytes.first_chunk::<HEADER_BYTES>()?, salt, at)?;
    Some(header.frame_bytes()).filter(|frame| *frame > bytes.len() as u64)
}

/// Says what the end of a file means without having all of it in memory; the rules are those of [`frame::Walk::end`].
struct Judge<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    salted: Salted,
    file_bytes: u64,
    covered: u64,
}

impl Judge<'_> {
    /// The end of a file with a closing frame or no frame at `at`, where `bytes` stand.
    fn end(&self, bytes: &[u8], at: u64) -> Result<End> {
        let (at, later, what, closed) = match self.salted.frame(bytes, at) {
            Ok(closing) => {
                let end = closing.end();
                let behind = bytes.get(HEADER_BYTES..).unwrap_or_default();
                if self.salted.frame(behind, end).is_ok() {
                    let what = "a frame follows the closing frame";
                    return Ok(End::Corrupt { at: end, covered_upto: self.file_bytes, what });
                }
                (end, end, "zeros stand where frames were synced", Some(closing.first))
            }
            Err(bad) => (at, at.saturating_add(bad.later_bytes()), bad.what, None),
        };
        let (watermark, used_bytes) = self.search(at, later)?;
        let covered_upto = self.covered;
        Ok(if let Some(watermark) = watermark {
            End::Corrupt { at, covered_upto: watermark.max(covered_upto), what }
        } else if self.file_bytes < covered_upto {
            End::Truncated { at, covered_upto }
        } else if at < covered_upto {
            End::Corrupt { at, covered_upto, what }
        } else if let Some(first) = closed {
            End::Closed { at, first }
        } else if used_bytes > at {
            End::Torn { at, bytes: used_bytes - at }
        } else {
            End::Clean { at }
        })
    }

    /// The watermark over `at` of the first header from `later` on that has one, and where the bytes end that are not zero.
    fn search(&self, at: u64, later: u64) -> Result<(Option<u64>, u64)> {
        let mut buffer = vec![0; usize::try_from(WINDOW_BYTES).unwrap_or(usize::MAX)];
        let (mut base, mut used_bytes) = (at, at);
        loop {
            let read = self.file.read_at(&mut buffer, base).at("read", self.path)?;
            let bytes = buffer.get(..read).unwrap_or_default();
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                used_bytes = base + last as u64 + 1;
                // All of `later`, `at` and `base` are places where a frame may begin.
                let skipped = usize::try_from(later.saturating_sub(base)).unwrap_or(usize::MAX);
                let found = bytes.get(skipped..).unwrap_or_default();
                let watermark = self.salted.watermark_over(at, found, base.saturating_add(skipped as u64));
                if watermark.is_some() {
                    return Ok((watermark, used_bytes));
                }
            }
            if read < buffer.len() {
                return Ok((None, used_bytes));
            }
            // A header that the window cuts is looked at in the next one.
            base += WINDOW_BYTES - HEADER_BYTES as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keplordb_disk::{Disk, MemoryDisk};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{Header, closing, pad, payload_crc, walk, write_header};

    const SALT: u64 = 78;

    fn frames(payloads: &[usize]) -> Vec<u8> {
        let mut bytes = vec![1; 64];
        for (number, payload_bytes) in payloads.iter().enumerate() {
            let mut frame = vec![0; HEADER_BYTES];
            frame.resize(HEADER_BYTES + payload_bytes, 7);
            let crc = payload_crc(&frame[HEADER_BYTES..]);
            pad(&mut frame);
            let payload_bytes = u32::try_from(*payload_bytes).unwrap();
            // Every other frame says that all before it is synced.
            let durable_upto = if number % 2 == 1 { bytes.len() as u64 } else { 0 };
            let header = Header { payload_bytes, rows: 1, first: number as u64, durable_upto };
            write_header(frame.first_chunk_mut().unwrap(), SALT, crc, &header);
            bytes.extend_from_slice(&frame);
        }
        bytes
    }

    fn stored(bytes: &[u8]) -> Arc<dyn DiskFile> {
        let file = MemoryDisk::default().create(Path::new("x")).unwrap();
        file.write_at(bytes, 0).unwrap();
        file
    }

    /// A scan must say what a walk over the whole file says.
    fn check(bytes: &[u8], covered: u64) {
        let mut expected = walk(bytes, 64, SALT, covered);
        let file = stored(bytes);
        let end = scan(file.as_ref(), Path::new("x"), SALT, 64, covered, |frame| {
            assert_eq!(Some(*frame), expected.next());
            assert_eq!(frame.end(), frame.offset + 32 + (frame.payload.len() as u64).next_multiple_of(8));
            Ok(())
        });
        assert_eq!(expected.next(), None);
        assert_eq!(end.unwrap(), expected.end());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn it_says_what_a_walk_over_the_whole_says(
            payloads in vec(prop_oneof![1..6_000_000_usize, 1..300_usize], 0..8),
            zeros in prop_oneof![Just(0), 0..9_000_000_usize],
            is_closed: bool,
            garbage in prop_oneof![Just(0), 1..9_000_000_usize],
            behind: bool,
            damage: Option<prop::sample::Index>,
            cut: Option<prop::sample::Index>,
            covered in prop_oneof![Just(0), 0..20_000_000_u64],
        ) {
            let mut bytes = frames(&payloads);
            if is_closed {
                bytes.extend_from_slice(&closing(SALT, 9, 0));
            }
            bytes.resize(bytes.len() + zeros, 0);
            if behind {
                bytes.extend_from_slice(&closing(SALT, 10, 64));
            }
            bytes.resize(bytes.len() + garbage / 8 * 8, 0xa5);
            if let Some(damage) = damage {
                let at = damage.index(bytes.len());
                bytes[at] ^= 0x55;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()).max(64));
            }
            check(&bytes, covered / 8 * 8);
        }
    }

    #[test]
    fn windows_that_end_anywhere_in_a_frame_are_no_end() {
        let window = usize::try_from(WINDOW_BYTES).unwrap();
        for short in [0, 1, 8, 31, 32, 33, 40, 64, 100] {
            // The second frame begins, and the third ends, around where windows do.
            check(&frames(&[window - HEADER_BYTES - short, window, 5, window + short, 9]), 0);
        }
    }

    #[test]
    fn an_error_of_the_caller_ends_it() {
        let file = stored(&frames(&[5, 6]));
        let error = LogError::TimeExhausted;
        let ended = scan(file.as_ref(), Path::new("x"), SALT, 64, 0, |_| Err(error.clone()));
        assert!(matches!(ended, Err(LogError::TimeExhausted)));
    }
}
