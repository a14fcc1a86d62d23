//! Writes log files in memory, as an owner of such a file would.

use keplordb_log::frame::{self, ALIGN_BYTES, HEADER_BYTES, Header};

/// A log file whose owner's header is `start` zero bytes long.
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) salt: u64,
    pub(crate) start: usize,
    /// Byte length that a completed sync covers.
    pub(crate) durable: usize,
    /// Start and end of each frame, and its payload.
    pub(crate) frames: Vec<(usize, usize, Vec<u8>)>,
}

impl File {
    pub(crate) fn new(salt: u64, start: usize) -> Self {
        assert_eq!(start % ALIGN_BYTES, 0);
        Self { bytes: vec![0; start], salt, start, durable: 0, frames: Vec::new() }
    }

    pub(crate) fn append(&mut self, rows: u32, payload: &[u8]) {
        let offset = self.bytes.len();
        let header = Header {
            payload_bytes: payload.len().try_into().unwrap(),
            rows,
            first: self.frames.len() as u64,
            durable_upto: self.durable as u64,
        };
        let mut buffer = vec![0; HEADER_BYTES];
        buffer.extend_from_slice(payload);
        frame::pad(&mut buffer);
        frame::write_header(
            buffer.first_chunk_mut().unwrap(),
            self.salt,
            frame::payload_crc(payload),
            &header,
        );
        self.bytes.extend_from_slice(&buffer);
        self.frames.push((offset, self.bytes.len(), payload.to_vec()));
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.bytes.len();
    }

    pub(crate) fn close(&mut self) {
        let closing = frame::closing(self.salt, self.frames.len() as u64, self.durable as u64);
        self.bytes.extend_from_slice(&closing);
    }
}

/// A small generator with a fixed seed (xorshift64), so that a failure comes back.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
    pub(crate) fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 24) as u8).collect()
    }
}
