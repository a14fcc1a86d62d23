//! What is left of a damaged file: every frame that still has its checksums, and the stretches between them.
//!
//! Pure, like [`frame`](crate::frame), whose walk stops at the first bad frame, because nothing behind it may be used without
//! being told. Here a caller wants all that can be had, and is told of what cannot.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::iter::FusedIterator;

use crate::frame::{ALIGN_BYTES, BadFrame, Frame, HEADER_BYTES, Walk, walk};

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame with both its checksums.
    Frame(Frame<'a>),
    /// A closing frame.
    Closing {
        /// Where it begins.
        offset: u64,
        /// The sequence that a next row would have had.
        first: u64,
    },
    /// Bytes that are no frame.
    Damage(Damage),
}

/// A stretch of a file that is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes it has; for a frame that is cut, those that are there.
    pub bytes: u64,
    /// How many rows it had, where a frame's header is whole and only its payload is not.
    pub rows: Option<u32>,
    /// What is wrong at its beginning, as a clause without a full stop.
    pub what: &'static str,
}

/// All pieces of a file whose owner's header is `start` bytes long, in their order, up to the zeros that may end it.
///
/// A place from which no frame could be read is followed by a search for the next header with its checksum; no payload that
/// lies there can pass for one without the file's salt. What the frames say of each other (that sequences ascend) is the
/// caller's to check.
///
/// # Cost
///
/// A checksum over each payload, and over 28 bytes at every eighth byte of a damaged stretch that could be a header: at
/// most 4 ns a byte.
///
/// # Panics
///
/// If `start` is no multiple of [`ALIGN_BYTES`].
pub fn pieces(bytes: &[u8], start: usize, salt: u64) -> Pieces<'_> {
    let used_bytes = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    Pieces { walk: walk(bytes, start, salt, 0), at: start, used_bytes, file_bytes: bytes.len() }
}

/// The pieces of a file; see [`pieces`].
#[derive(Debug, Clone)]
pub struct Pieces<'a> {
    walk: Walk<'a>,
    at: usize,
    /// Behind them are only zeros.
    used_bytes: usize,
    file_bytes: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.at >= self.used_bytes {
            return None;
        }
        let at = self.at;
        let offset = at as u64;
        let (end, rows, what) = match self.walk.frame_at(at) {
            Ok((frame, end)) => {
                self.at = end;
                let Frame { offset, rows, first, .. } = frame;
                return Some(if rows == 0 { Piece::Closing { offset, first } } else { Piece::Frame(frame) });
            }
            Err(BadFrame { what, header: Some(header) }) => {
                let end = offset.saturating_add(header.frame_bytes());
                (usize::try_from(end).unwrap_or(usize::MAX).min(self.file_bytes), Some(header.rows), what)
            }
            Err(BadFrame { what, header: None }) => (self.next_header(at), None, what),
        };
        self.at = end;
        Some(Piece::Damage(Damage { offset, bytes: (end - at) as u64, rows, what }))
    }
}

impl FusedIterator for Pieces<'_> {}

impl Pieces<'_> {
    /// The next place behind `at` where a header has its checksum, or where only zeros follow.
    fn next_header(&self, at: usize) -> usize {
        let places = (at + ALIGN_BYTES..self.used_bytes).step_by(ALIGN_BYTES);
        let mut places = places.take_while(|place| place + HEADER_BYTES <= self.file_bytes);
        places.find(|place| self.walk.header_at(*place).is_some()).unwrap_or(self.used_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Header, closing, pad, payload_crc, write_header};

    const SALT: u64 = 0x5A17;
    const START: usize = 16;

    fn push(file: &mut Vec<u8>, first: u64, payload: &[u8; 21]) {
        let mut buffer = vec![0; HEADER_BYTES];
        buffer.extend_from_slice(payload);
        pad(&mut buffer);
        let header = Header { payload_bytes: 21, rows: 2, first, durable_upto: file.len() as u64 };
        write_header(buffer.first_chunk_mut().unwrap(), SALT, payload_crc(payload), &header);
        file.extend_from_slice(&buffer);
    }

    /// Four frames, at the offsets that are returned, and a closing frame.
    fn file() -> (Vec<u8>, Vec<usize>) {
        let (mut file, mut offsets) = (vec![7; START], Vec::new());
        for number in 0..4_u8 {
            offsets.push(file.len());
            push(&mut file, u64::from(number) * 2, &[number + 1; 21]);
        }
        offsets.push(file.len());
        file.extend_from_slice(&closing(SALT, 8, 0));
        (file, offsets)
    }

    /// Offset, bytes and rows of a stretch that is no frame.
    type Stretch = (u64, u64, Option<u32>);

    /// First sequences of the frames that are found, and the stretches between them.
    fn left(file: &[u8]) -> (Vec<u64>, Vec<Stretch>) {
        let (mut frames, mut damage) = (Vec::new(), Vec::new());
        for piece in pieces(file, START, SALT) {
            match piece {
                Piece::Frame(frame) => frames.push(frame.first),
                Piece::Closing { first, .. } => frames.push(first),
                Piece::Damage(found) => damage.push((found.offset, found.bytes, found.rows)),
            }
        }
        (frames, damage)
    }

    #[test]
    fn a_whole_file_is_its_frames() {
        let (mut file, _) = file();
        assert_eq!(left(&file), (vec![0, 2, 4, 6, 8], vec![]));
        file.resize(file.len() + 1000, 0);
        assert_eq!(left(&file), (vec![0, 2, 4, 6, 8], vec![]));
        assert_eq!(left(&[7; START]), (vec![], vec![]));
        assert_eq!(left(&[7; 3]), (vec![], vec![]));
    }

    #[test]
    fn one_damaged_byte_costs_one_frame() {
        let (file, offsets) = file();
        for at in START..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x21;
            let (frames, damage) = left(&damaged);
            let hit = offsets.iter().rposition(|offset| *offset <= at).unwrap();
            let expected: Vec<u64> =
                [0, 2, 4, 6, 8].into_iter().filter(|first| *first != hit as u64 * 2).collect();
            assert_eq!(frames, expected, "byte {at}");
            // The zeros at the end of a file are no part of it.
            let used = damaged.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            let end = offsets.get(hit + 1).copied().unwrap_or(used);
            let is_payload = at >= offsets[hit] + HEADER_BYTES;
            let bytes = (end - offsets[hit]) as u64;
            assert_eq!(damage, [(offsets[hit] as u64, bytes, is_payload.then_some(2))], "byte {at}");
        }
    }

    #[test]
    fn a_cut_file_keeps_the_frames_before_the_cut() {
        let (file, offsets) = file();
        for length in START..file.len() {
            let (frames, _) = left(&file[..length]);
            assert_eq!(frames.len(), offsets.iter().filter(|offset| **offset <= length).count().max(1) - 1);
        }
    }

    #[test]
    fn a_zeroed_stretch_is_passed_over() {
        let (mut file, offsets) = file();
        file[offsets[1]..offsets[3]].fill(0);
        assert_eq!(left(&file), (vec![0, 6, 8], vec![(offsets[1] as u64, 112, None)]));
    }

    #[test]
    fn frames_of_another_file_are_not_taken() {
        let (mut file, offsets) = file();
        let mut header = [0; HEADER_BYTES];
        let foreign = Header { payload_bytes: 21, rows: 2, first: 99, durable_upto: 0 };
        write_header(&mut header, SALT + 1, payload_crc(&[2; 21]), &foreign);
        file[offsets[1]..offsets[1] + HEADER_BYTES].copy_from_slice(&header);
        assert_eq!(left(&file).0, [0, 4, 6, 8]);
    }
}
