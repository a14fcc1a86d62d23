//! Hopping over the frames of a segment by their headers, without their payloads.
//!
//! Far less is read than there is, where frames are large. In return nothing is said of payloads: a frame whose header holds
//! may be damaged.

use std::io;

use keplordb_disk::DiskFile;

use crate::frame::{HEADER_BYTES, Header, read_header};

/// Read at a time: the headers of many small frames, or one of a large one.
const BUFFER_BYTES: usize = 16 << 10;

/// The frames of a file, from a place on where one begins.
#[derive(Debug)]
pub(crate) struct Hops<'a> {
    file: &'a dyn DiskFile,
    salt: u64,
    /// Where the next frame begins.
    at: u64,
    /// Where the last frame may end.
    limit: u64,
    buffer: Vec<u8>,
    /// Where in the file `buffer` begins.
    base: u64,
}

impl<'a> Hops<'a> {
    /// From the frame that begins at `at` to the last one that ends at `limit` or before.
    pub(crate) fn new(file: &'a dyn DiskFile, salt: u64, at: u64, limit: u64) -> Self {
        Self { file, salt, at, limit, buffer: Vec::new(), base: 0 }
    }

    /// The header of the next frame, a closing one too, and where it begins; `None` where no whole frame begins.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Header)>> {
        let Some(bytes) = self.header_bytes()? else { return Ok(None) };
        let Some(header) = read_header(&bytes, self.salt, self.at) else { return Ok(None) };
        let (offset, end) = (self.at, self.at.saturating_add(header.frame_bytes()));
        if end > self.limit {
            return Ok(None);
        }
        self.at = end;
        Ok(Some((offset, header)))
    }

    /// The 32 bytes at `at`; `None` if there are fewer.
    fn header_bytes(&mut self) -> io::Result<Option<[u8; HEADER_BYTES]>> {
        if let Some(bytes) = self.buffered() {
            return Ok(Some(bytes));
        }
        self.buffer.resize(BUFFER_BYTES, 0);
        let read = self.file.read_at(&mut self.buffer, self.at)?;
        self.buffer.truncate(read);
        self.base = self.at;
        Ok(self.buffered())
    }

    fn buffered(&self) -> Option<[u8; HEADER_BYTES]> {
        let place = usize::try_from(self.at.checked_sub(self.base)?).ok()?;
        self.buffer.get(place..)?.first_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use keplordb_disk::{Disk, MemoryDisk};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{closing, pad, payload_crc, write_header};

    const SALT: u64 = 77;

    /// A file with a header of 64 bytes and frames with payloads of these lengths, which is closed.
    fn file(payloads: &[usize]) -> (Arc<dyn DiskFile>, Vec<u64>) {
        let (mut bytes, mut offsets) = (vec![1; 64], Vec::new());
        for (number, payload_bytes) in payloads.iter().enumerate() {
            offsets.push(bytes.len() as u64);
            let mut frame = vec![0; HEADER_BYTES];
            frame.resize(HEADER_BYTES + payload_bytes, 7);
            let crc = payload_crc(&frame[HEADER_BYTES..]);
            pad(&mut frame);
            let payload_bytes = u32::try_from(*payload_bytes).unwrap();
            let header = Header { payload_bytes, rows: 1, first: number as u64, durable_upto: 0 };
            write_header(frame.first_chunk_mut().unwrap(), SALT, crc, &header);
            bytes.extend_from_slice(&frame);
        }
        offsets.push(bytes.len() as u64);
        bytes.extend_from_slice(&closing(SALT, 9, 0));
        let file = MemoryDisk::default().create(Path::new("x")).unwrap();
        file.write_at(&bytes, 0).unwrap();
        (file, offsets)
    }

    fn offsets(mut hops: Hops<'_>) -> Vec<u64> {
        std::iter::from_fn(|| hops.next().unwrap()).map(|(offset, _)| offset).collect()
    }

    proptest! {
        #[test]
        fn every_frame_is_hopped_over(payloads in vec(prop_oneof![1..60_usize, 1..40_000_usize], 1..40), cut: prop::sample::Index) {
            let (file, expected) = file(&payloads);
            let end = file.bytes().unwrap();
            prop_assert_eq!(&offsets(Hops::new(file.as_ref(), SALT, 64, end)), &expected);
            let from = cut.index(expected.len());
            prop_assert_eq!(&offsets(Hops::new(file.as_ref(), SALT, expected[from], end)), &expected[from..]);
            // A frame that reaches beyond the limit is none.
            let limit = expected[from];
            prop_assert_eq!(&offsets(Hops::new(file.as_ref(), SALT, 64, limit + 31)), &expected[..from]);
        }
    }

    #[test]
    fn zeros_the_end_and_another_salt_stop_it() {
        let (file, expected) = file(&[5, 6]);
        let end = file.bytes().unwrap();
        assert_eq!(offsets(Hops::new(file.as_ref(), SALT + 1, 64, end)), [0_u64; 0]);
        file.write_at(&[0; 100], end).unwrap();
        assert_eq!(offsets(Hops::new(file.as_ref(), SALT, 64, end + 100)), expected);
        assert_eq!(offsets(Hops::new(file.as_ref(), SALT, end + 100, u64::MAX)), [0_u64; 0]);
    }
}
