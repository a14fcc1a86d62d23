//! What can still be read of a damaged log, as the bytes of a log that takes its place.

use std::ops::RangeInclusive;

use keplordb_log::frame::{self, HEADER_BYTES, Header};
use keplordb_log::salvage::{Damage, Piece, pieces};

use crate::format::block::Block;
use crate::format::wal::WalHeader;
use crate::format::{MAX_NUMBER, tombstones};
use keplordb_log::file::random_salt;

/// A log made of the frames that were left of another.
#[derive(Debug)]
pub(crate) struct Salvaged {
    /// All of it. The file that has them must be synced as a whole: the watermarks say that it was.
    pub(crate) bytes: Vec<u8>,
    /// Rows of its frames.
    pub(crate) rows_kept: u64,
    /// Rows of the frames that could not be read, where their number is known.
    pub(crate) rows_lost: Option<u64>,
    /// Between which sequences the lost rows had theirs, where that is known.
    pub(crate) sequences: Option<RangeInclusive<u64>>,
}

/// What is left of the WAL of this generation, ended by a closing frame. `None` when its header cannot be read, without which no
/// frame can. `synced_bytes` is how long it is known to have been.
pub(crate) fn salvage_wal(bytes: &[u8], generation: u64, synced_bytes: u64) -> Option<Salvaged> {
    let (header, header_bytes) = WalHeader::decode(bytes).ok()?;
    if header.generation != generation {
        return None;
    }
    let shape = header.schema.shape();
    let mut log = Log::new(random_salt(generation), |salt| WalHeader { salt, ..header.clone() }.encode());
    let mut end = header_bytes as u64;
    for piece in pieces(bytes, header_bytes, header.salt) {
        end = match &piece {
            Piece::Frame(frame) => frame.offset + (HEADER_BYTES + frame.payload.len()) as u64,
            Piece::Closing { offset, .. } => offset + HEADER_BYTES as u64,
            Piece::Damage(damage) => damage.offset + damage.bytes,
        }
        .next_multiple_of(frame::ALIGN_BYTES as u64);
        match piece {
            // Sequences ascend within a log: a frame that is there twice is taken once.
            Piece::Frame(frame)
                if frame.first >= log.next
                    && Block::decode(frame.payload, shape, frame.rows, frame.first).is_ok() =>
            {
                log.lost.found(frame.first);
                log.put(frame.payload, frame.rows, frame.first);
                log.next = frame.first + u64::from(frame.rows);
            }
            Piece::Frame(frame) => log.lost.add(log.next, Some(frame.rows)),
            Piece::Closing { first, .. } if (log.next..=MAX_NUMBER).contains(&first) => {
                log.lost.found(first);
                log.next = first;
            }
            Piece::Closing { .. } => log.lost.add(log.next, Some(0)),
            Piece::Damage(Damage { rows, .. }) => log.lost.add(log.next, rows),
        }
    }
    // Cut off or zeroed, or of an end that only other files know of.
    if end < synced_bytes || log.lost.stretches == 0 {
        log.lost.add(log.next, None);
    }
    let closing = frame::closing(log.salt, log.next, log.bytes.len() as u64);
    log.bytes.extend_from_slice(&closing);
    Some(log.salvaged())
}

/// What is left of a tombstone log; `None` when its header cannot be read.
pub(crate) fn salvage_tombstones(bytes: &[u8], number: u64) -> Option<Salvaged> {
    let (salt, header_bytes) = tombstones::decode_header(bytes).ok()?;
    let mut log = Log::new(random_salt(number), tombstones::encode_header);
    for piece in pieces(bytes, header_bytes, salt) {
        match piece {
            Piece::Frame(frame) if tombstones::decode(frame.payload, frame.rows, &mut Vec::new()).is_ok() => {
                log.put(frame.payload, frame.rows, frame.first);
            }
            Piece::Frame(frame) => log.lost.add(0, Some(frame.rows)),
            Piece::Closing { .. } => log.lost.add(0, Some(0)),
            Piece::Damage(Damage { rows, .. }) => log.lost.add(0, rows),
        }
    }
    Some(log.salvaged())
}

/// A log while it is put together.
struct Log {
    salt: u64,
    bytes: Vec<u8>,
    rows: u64,
    /// The lowest sequence that the next row can have.
    next: u64,
    lost: Lost,
}

impl Log {
    fn new(salt: u64, header: impl FnOnce(u64) -> Vec<u8>) -> Self {
        let lost = Lost { rows: Some(0), stretches: 0, from: None, upto: None };
        Self { salt, bytes: header(salt), rows: 0, next: 1, lost }
    }

    fn put(&mut self, payload: &[u8], rows: u32, first: u64) {
        let start = self.bytes.len();
        self.bytes.resize(start + HEADER_BYTES, 0);
        self.bytes.extend_from_slice(payload);
        frame::pad(&mut self.bytes);
        let payload_bytes =
            u32::try_from(payload.len()).expect("a frame's payload was written with its length");
        let header = Header { payload_bytes, rows, first, durable_upto: start as u64 };
        let place = self.bytes.get_mut(start..).and_then(<[u8]>::first_chunk_mut);
        let place = place.expect("room for the header was just made");
        frame::write_header(place, self.salt, frame::payload_crc(payload), &header);
        self.rows += u64::from(rows);
    }

    fn salvaged(self) -> Salvaged {
        let Lost { rows, from, upto, .. } = self.lost;
        let sequences = match (from, upto) {
            (Some(from), Some(upto)) if from < upto => Some(from..=upto - 1),
            _ => None,
        };
        Salvaged { bytes: self.bytes, rows_kept: self.rows, rows_lost: rows, sequences }
    }
}

/// What could not be read.
struct Lost {
    /// `None` as soon as their number is unknown.
    rows: Option<u64>,
    stretches: usize,
    /// The lowest sequence that a lost row can have.
    from: Option<u64>,
    /// The sequence of what follows the last stretch; `None` while nothing does.
    upto: Option<u64>,
}

impl Lost {
    fn add(&mut self, next: u64, rows: Option<u32>) {
        self.stretches += 1;
        self.rows = self.rows.zip(rows).map(|(before, rows)| before + u64::from(rows));
        self.from.get_or_insert(next);
        self.upto = None;
    }

    /// Something that can be read has this sequence.
    fn found(&mut self, sequence: u64) {
        if self.from.is_some() && self.upto.is_none() {
            self.upto = Some(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::LogEvent;
    use crate::schema::TableSchema;

    /// A log of generation 3 with three frames of two rows each, and where these begin; perhaps closed.
    fn log(closed: bool) -> (Vec<u8>, Vec<usize>) {
        let schema = TableSchema::positional(1, 1, 0, 0);
        let header = WalHeader { generation: 3, salt: 77, shard: 0, schema: schema.clone() };
        let mut log = Log::new(77, |_| header.encode());
        let mut offsets = Vec::new();
        for first in [11, 13, 40] {
            let mut block = Block::new(schema.shape());
            for row in 0..2 {
                let event: LogEvent<1, 0, 0> = LogEvent { ts_ns: row, ..LogEvent::default() };
                block.push(event.as_row());
            }
            let mut payload = Vec::new();
            block.encode(&mut payload);
            offsets.push(log.bytes.len());
            log.put(&payload, 2, first);
        }
        offsets.push(log.bytes.len());
        if closed {
            let end = log.bytes.len() as u64;
            log.bytes.extend_from_slice(&frame::closing(77, 42, end));
        }
        (log.bytes, offsets)
    }

    /// The first sequences of the frames of a log, and the closing one's.
    fn firsts(bytes: &[u8]) -> Vec<u64> {
        let (header, header_bytes) = WalHeader::decode(bytes).unwrap();
        let mut walk = frame::walk(bytes, header_bytes, header.salt, bytes.len() as u64);
        let mut firsts: Vec<u64> = walk.by_ref().map(|frame| frame.first).collect();
        match walk.end() {
            frame::End::Closed { first, .. } => firsts.push(first),
            end => panic!("{end:?}"),
        }
        firsts
    }

    #[test]
    fn frames_on_both_sides_of_the_damage_are_kept() {
        let (bytes, offsets) = log(true);
        let mut damaged = bytes.clone();
        damaged[offsets[1] + 40] ^= 1;
        let left = salvage_wal(&damaged, 3, bytes.len() as u64).unwrap();
        assert_eq!(firsts(&left.bytes), [11, 40, 42]);
        assert_eq!((left.rows_kept, left.rows_lost, left.sequences), (4, Some(2), Some(13..=39)));

        damaged[offsets[1] + 8] ^= 1;
        let left = salvage_wal(&damaged, 3, bytes.len() as u64).unwrap();
        assert_eq!((left.rows_kept, left.rows_lost, left.sequences), (4, None, Some(13..=39)));
        damaged[offsets[0] + 40] ^= 1;
        damaged[offsets[2] + 40] ^= 1;
        let left = salvage_wal(&damaged, 3, bytes.len() as u64).unwrap();
        assert_eq!((left.rows_kept, left.rows_lost, left.sequences), (0, None, Some(1..=41)));
        assert_eq!(firsts(&left.bytes), [42]);
    }

    #[test]
    fn a_lost_end_is_lost_rows_without_a_number() {
        let (bytes, offsets) = log(false);
        let left = salvage_wal(&bytes[..offsets[2]], 3, bytes.len() as u64).unwrap();
        assert_eq!(firsts(&left.bytes), [11, 13, 15]);
        assert_eq!((left.rows_kept, left.rows_lost, left.sequences), (4, None, None));
        // Nothing in the file says that anything is missing.
        let left = salvage_wal(&bytes, 3, 0).unwrap();
        assert_eq!((left.rows_kept, left.rows_lost), (6, None));
    }

    #[test]
    fn a_lost_closing_frame_is_written_again() {
        let (bytes, offsets) = log(true);
        let mut damaged = bytes.clone();
        damaged[offsets[3] + 20] ^= 1;
        let left = salvage_wal(&damaged, 3, bytes.len() as u64).unwrap();
        assert_eq!(firsts(&left.bytes), [11, 13, 40, 42]);
    }

    #[test]
    fn a_frame_that_is_there_twice_is_taken_once() {
        let (bytes, offsets) = log(false);
        let doubled = [&bytes[..], &bytes[offsets[1]..offsets[2]]].concat();
        assert_eq!(firsts(&salvage_wal(&doubled, 3, 0).unwrap().bytes), [11, 13, 40, 42]);
    }

    #[test]
    fn without_its_header_nothing_of_a_log_can_be_read() {
        let (bytes, _) = log(true);
        assert!(salvage_wal(&bytes, 4, 0).is_none());
        assert!(salvage_wal(&bytes[1..], 3, 0).is_none());
        assert!(salvage_tombstones(&bytes, 1).is_none());
    }
}
