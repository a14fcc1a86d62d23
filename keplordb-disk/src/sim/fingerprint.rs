//! A quick hash of a whole disk: crash images are compared by the hundred thousand, each of many kilobytes.

/// Hashes one string of bytes after the other, eight bytes at a time. Good against chance, not against malice.
#[derive(Debug)]
pub(super) struct Fingerprint {
    state: u64,
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self { state: 0x243F_6A88_85A3_08D3 }
    }
}

impl Fingerprint {
    /// Adds a string and its length: `ab`, `c` is not `a`, `bc`.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(last, byte)| *last = *byte);
        self.mix(u64::from_le_bytes(last));
        self.mix(bytes.len() as u64);
    }

    pub(super) fn get(&self) -> u64 {
        let folded = (self.state ^ (self.state >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        folded ^ (folded >> 29)
    }

    fn mix(&mut self, word: u64) {
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(0xF135_7AEA_2E62_A9C5);
    }
}
