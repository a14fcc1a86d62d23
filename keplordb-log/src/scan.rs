//! Walking over the frames of a file that need not fit into memory, payloads and all, and judging its end.
//!
//! It is [`frame::walk_from`] over a window that moves.

use std::path::Path;

use keplordb_disk::DiskFile;

use crate::error::{IoContext, LogError, Result};
use crate::frame::{self, End, Frame, HEADER_BYTES};

/// Read at a time, unless a frame is longer.
const WINDOW_BYTES: u64 = 4 << 20;

/// Calls `each` with every valid frame of a file from `from` on, where a frame begins, and says how the file ends. The first
/// `covered` bytes are known to have been synced.
///
/// Cost: one checksum over each payload. Memory: [`WINDOW_BYTES`] or the longest frame; where the file ends in something else
/// than a frame, all that follows.
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
        window = if at > begun { WINDOW_BYTES } else { wanted(bytes, salt, at) };
    }
}

/// How much must be read to make sense of the place `at`, from which `bytes` have no whole frame.
fn wanted(bytes: &[u8], salt: u64, at: u64) -> u64 {
    let header = bytes.first_chunk::<HEADER_BYTES>().and_then(|bytes| frame::read_header(bytes, salt, at));
    // What follows a closing frame or damage decides what it means.
    let longer = header.map(|header| header.frame_bytes()).filter(|frame| *frame > bytes.len() as u64);
    longer.unwrap_or(u64::MAX)
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
            let header = Header { payload_bytes, rows: 1, first: number as u64, durable_upto: 0 };
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
            zeros in 0..5_000_000_usize,
            is_closed: bool,
            damage: Option<prop::sample::Index>,
            cut: Option<prop::sample::Index>,
            covered in prop_oneof![Just(0), 0..20_000_000_u64],
        ) {
            let mut bytes = frames(&payloads);
            if is_closed {
                bytes.extend_from_slice(&closing(SALT, 9, 0));
            }
            bytes.resize(bytes.len() + zeros, 0);
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
