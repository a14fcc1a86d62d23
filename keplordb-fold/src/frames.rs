//! The archive: zstd frames one after the other, one for each generation, oldest first.
//!
//! A frame is `magic | header | blocks | checksum?` (RFC 8878). Of its own accord it says how long a block is, but not how long
//! the frame is: [`Walk`] goes from block to block by small reads, without decoding anything. [`FrameText`] decodes one. Where
//! the beginning of history was pruned, the archive begins with a skippable frame that says how much; `zstd -d` passes over it.
//!
//! It knows bytes: which generation a frame is, and which frames count, is the business of `history`.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use keplordb_disk::DiskFile;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::Xxh64;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::checked::{NUMBER_MAX, seal, unseal};
use crate::error::{FoldError, at};

/// The level that the format is used with: JSON lines become a fifth to a tenth.
const LEVEL: i32 = 3;

/// What a frame begins with.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What the frame begins with that says what was pruned: one of the 16 for frames that decoders pass over.
const PRUNED_MAGIC: [u8; 4] = [0x5b, 0x2a, 0x4d, 0x18];

/// What those frames have in common: all of their magic but its first four bits.
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// Longest header of a frame, with its magic: descriptor 1, window 1, dictionary 4, content size 8.
const HEADER_BYTES_MAX: u64 = 18;

/// Longest block as it is stored.
const BLOCK_BYTES_MAX: u64 = 128 << 10;

/// Longest block as it is decoded.
const BLOCK_TEXT_BYTES_MAX: usize = 128 << 10;

/// Limits what a damaged header can make us allocate: 2^27 bytes, what `zstd` itself allows unless told otherwise. Our frames
/// need 2 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// How much is read at once while walking: the frames of small rotations lie many to a piece, and of large ones only the
/// headers of blocks are wanted.
const WALK_BYTES: u64 = 16 << 10;

/// How much of a frame is read at once while decoding.
const READ_BYTES: u64 = 256 << 10;

/// The header that a damaged frame is decoded with, because its blocks do not need their own: no length, no checksum, and the longest
/// window that [`WINDOW_LOG_MAX`] allows, so that nothing is refused but a block that cannot be decoded.
const SALVAGE_HEADER: [u8; 2] = [0x00, 17 << 3];
const _: () = assert!((SALVAGE_HEADER[1] >> 3) as u32 + 10 == WINDOW_LOG_MAX, "a window of 2^(10 + n) bytes");

/// Limits what a damaged frame can make us hold in memory. All of the frame is set aside as it is.
const SALVAGED_BYTES_MAX: usize = 1 << 30;

/// Limits what a damaged frame of what was pruned can make us read.
const PRUNED_BYTES_MAX: u64 = 1 << 10;

/// This text as a frame: with its length, and a checksum that finds damage when it is decoded.
pub(crate) fn compress(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.include_contentsize(true)?;
    compressor.compress(text)
}

/// What is no longer in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Pruned {
    /// How many generations.
    pub(crate) generations: u64,
    /// How many events they had.
    pub(crate) events: u64,
}

impl Pruned {
    /// The frame that an archive begins with from which this was pruned.
    pub(crate) fn to_frame(self) -> io::Result<Vec<u8>> {
        let content = seal(&serde_json::to_string(&self)?);
        let bytes = u32::try_from(content.len()).map_err(io::Error::other)?;
        Ok([&PRUNED_MAGIC[..], &bytes.to_le_bytes(), content.as_bytes()].concat())
    }
}

/// An archive that was opened.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    file: Arc<dyn DiskFile>,
    path: Arc<Path>,
}

/// Where a frame lies, and what it says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Where it begins in the archive.
    pub(crate) at: u64,
    /// How long it is.
    pub(crate) bytes: u64,
    /// How long its text is. Other programs may leave it out.
    pub(crate) text_bytes: Option<u64>,
    /// The lower half of xxh64 of its text. Other programs may leave it out.
    pub(crate) checksum: Option<u32>,
}

impl Frame {
    /// Where the next one may begin.
    pub(crate) fn end(&self) -> u64 {
        self.at + self.bytes
    }
}

impl Archive {
    pub(crate) fn new(file: Arc<dyn DiskFile>, path: &Path) -> Self {
        Self { file, path: path.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        self.file.bytes().map_err(at("read", &self.path))
    }

    pub(crate) fn damaged(&self, offset: u64, what: impl Into<String>) -> io::Error {
        FoldError::Damaged { file: self.path.to_path_buf(), offset, what: what.into() }.into()
    }

    /// Up to `bytes` bytes from there: fewer only at the end of the file.
    pub(crate) fn read(&self, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        let present = self.file.read_at(&mut piece, offset).map_err(at("read", &self.path))?;
        piece.truncate(present);
        Ok(piece)
    }

    /// The frame that lies there according to somebody who once walked to it, if its first and last bytes do not contradict.
    pub(crate) fn frame_at(&self, at: u64, bytes: u64) -> io::Result<Option<Frame>> {
        let head = self.read(at, HEADER_BYTES_MAX.min(bytes))?;
        let Some(Parsed::Whole(header)) = head.strip_prefix(&MAGIC).map(Header::parse) else {
            return Ok(None);
        };
        let checksum = if header.has_checksum {
            let end = self.read((at + bytes).saturating_sub(4), 4)?;
            let Some(checksum) = end.first_chunk() else { return Ok(None) };
            Some(u32::from_le_bytes(*checksum))
        } else {
            None
        };
        Ok(Some(Frame { at, bytes, text_bytes: header.text_bytes, checksum }))
    }

    /// Where in this range the bytes are first that frames begin with.
    pub(crate) fn find_magic(&self, range: Range<u64>) -> io::Result<Option<u64>> {
        let overlap = MAGIC.len() as u64 - 1;
        let mut at = range.start;
        while at < range.end {
            let piece = self.read(at, READ_BYTES.min(range.end - at))?;
            if let Some(found) = memmem::find(&piece, &MAGIC) {
                return Ok(Some(at + found as u64));
            }
            if piece.len() < MAGIC.len() {
                // The file ends, maybe before the range does.
                break;
            }
            at += piece.len() as u64 - overlap;
        }
        Ok(None)
    }

    /// Whether what begins there has the beginning of a frame.
    pub(crate) fn begins_frame(&self, at: u64) -> io::Result<bool> {
        let head = self.read(at, HEADER_BYTES_MAX)?;
        Ok(head.strip_prefix(&MAGIC).is_some_and(|rest| matches!(Header::parse(rest), Parsed::Whole(_))))
    }

    /// What can be decoded of a frame that is damaged: all blocks before the first one that cannot be, whatever its magic, length or
    /// checksum say.
    pub(crate) fn salvage(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let head = self.read(range.start, HEADER_BYTES_MAX.min(range.end - range.start))?;
        let Some(header) = salvaged_header(&head) else { return Ok(Vec::new()) };
        let mut decoder = decoder()?;
        let (mut text, mut block) = (Vec::new(), Vec::with_capacity(BLOCK_TEXT_BYTES_MAX));
        let mut compressed = [&MAGIC[..], &SALVAGE_HEADER].concat();
        let mut at = range.start + MAGIC.len() as u64 + header.bytes;
        loop {
            // Byte by byte: a call that fails gives nothing of what it decoded before, so none is to have more than one block.
            for byte in compressed.chunks(1) {
                block.clear();
                let wants = decoder.run(&mut InBuffer::around(byte), &mut OutBuffer::around(&mut block));
                text.extend_from_slice(&block);
                if text.len() >= SALVAGED_BYTES_MAX || !wants.is_ok_and(|wants| wants > 0) {
                    return Ok(text);
                }
            }
            compressed = self.read(at, READ_BYTES.min(range.end.saturating_sub(at)))?;
            if compressed.is_empty() {
                return Ok(text);
            }
            at += compressed.len() as u64;
        }
    }

    /// How long the frame is that says what was pruned, if that much can be told: it ends where the first other one begins.
    pub(crate) fn head_bytes(&self) -> u64 {
        let end = self.bytes().unwrap_or(0).min(8 + PRUNED_BYTES_MAX);
        let found = self.find_magic(4.min(end)..end).ok().flatten();
        found.unwrap_or(end)
    }

    /// What was pruned from its first `end` bytes, and where its frames begin.
    pub(crate) fn pruned(&self, end: u64) -> io::Result<(Pruned, u64)> {
        let head = self.read(0, end.min(8 + PRUNED_BYTES_MAX))?;
        let Some((magic, rest)) = head.split_first_chunk() else { return Ok((Pruned::default(), 0)) };
        if !is_skippable(*magic) {
            return Ok((Pruned::default(), 0));
        }
        let parsed = rest.split_first_chunk().and_then(|(bytes, rest)| {
            let bytes = u32::from_le_bytes(*bytes);
            let content = rest.get(..usize::try_from(bytes).ok()?)?;
            let pruned: Pruned = serde_json::from_str(&unseal(content)?).ok()?;
            let is_possible = pruned.generations.max(pruned.events) <= NUMBER_MAX;
            is_possible.then_some((pruned, 8 + u64::from(bytes)))
        });
        // A guess would give all events behind it wrong numbers.
        parsed
            .filter(|_| *magic == PRUNED_MAGIC)
            .ok_or_else(|| self.damaged(0, "it does not say how much history was pruned"))
    }
}

/// The header of a damaged frame, as far as its blocks need it. Of its descriptor the bits are left out that say nothing of its length:
/// whether there is a checksum, and what no frame has.
fn salvaged_header(head: &[u8]) -> Option<Header> {
    let mut header = head.get(MAGIC.len()..)?.to_vec();
    *header.first_mut()? &= 0xf0;
    match Header::parse(&header) {
        Parsed::Whole(header) => Some(header),
        Parsed::Short | Parsed::Wrong => None,
    }
}

fn decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
    Ok(decoder)
}

fn is_skippable([first, rest @ ..]: [u8; 4]) -> bool {
    [first & 0xf0, rest[0], rest[1], rest[2]] == SKIPPABLE
}

/// What a [`Walk`] comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A frame, whole as far as can be told without decoding it.
    Frame(Frame),
    /// The file ends within the frame that begins there, and no other frame begins behind it.
    Torn(u64),
}

/// Goes from frame to frame by their headers and those of their blocks. Memory: some 16 KiB; reads: one for each 16 KiB or
/// block, whichever is longer.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    archive: &'a Archive,
    at: u64,
    end: u64,
    piece: Vec<u8>,
    piece_at: u64,
}

impl<'a> Walk<'a> {
    /// Goes over the frames from one end of a frame to another.
    pub(crate) fn new(archive: &'a Archive, from: u64, end: u64) -> Self {
        Self { archive, at: from, end, piece: Vec::new(), piece_at: 0 }
    }

    /// The next frame.
    ///
    /// # Errors
    /// `Damaged` if there is something else than a frame, or one that cannot be.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found>> {
        while self.at < self.end {
            let at = self.at;
            match self.step()? {
                Step::Frame(frame) => {
                    self.at = frame.end();
                    return Ok(Some(Found::Frame(frame)));
                }
                Step::Skipped(end) => self.at = end,
                Step::BeyondEnd if self.is_followed(at)? => {
                    return Err(self.archive.damaged(at, "the frame is longer than what is there of it"));
                }
                Step::BeyondEnd => {
                    self.at = self.end;
                    return Ok(Some(Found::Torn(at)));
                }
            }
        }
        Ok(None)
    }

    /// The bytes of that range, unless it goes beyond the end.
    fn bytes(&mut self, at: u64, bytes: u64) -> io::Result<Option<&[u8]>> {
        let Some(end) = at.checked_add(bytes).filter(|end| *end <= self.end) else { return Ok(None) };
        if at < self.piece_at || end > self.piece_at + self.piece.len() as u64 {
            self.piece = self.archive.read(at, WALK_BYTES.max(bytes).min(self.end - at))?;
            self.piece_at = at;
        }
        let range = usize::try_from(at - self.piece_at).ok().zip(usize::try_from(bytes).ok());
        Ok(range.and_then(|(from, bytes)| self.piece.get(from..from + bytes)))
    }

    fn step(&mut self) -> io::Result<Step> {
        let start = self.at;
        let header_bytes = HEADER_BYTES_MAX.min(self.end - start);
        let Some(header) = self.bytes(start, header_bytes)? else { return Ok(Step::BeyondEnd) };
        let Some((magic, rest)) = header.split_first_chunk() else {
            // A beginning of a magic may be torn, anything else cannot have been one.
            return if MAGIC.starts_with(header) {
                Ok(Step::BeyondEnd)
            } else {
                Err(self.archive.damaged(start, "there is no frame"))
            };
        };
        if is_skippable(*magic) {
            let Some((bytes, _)) = rest.split_first_chunk() else { return Ok(Step::BeyondEnd) };
            let end = start + 8 + u64::from(u32::from_le_bytes(*bytes));
            return Ok(if end <= self.end { Step::Skipped(end) } else { Step::BeyondEnd });
        }
        if *magic != MAGIC {
            return Err(self.archive.damaged(start, "there is no frame"));
        }
        let header = match Header::parse(rest) {
            Parsed::Whole(header) => header,
            Parsed::Short => return Ok(Step::BeyondEnd),
            Parsed::Wrong => return Err(self.archive.damaged(start, "no frame has such a header")),
        };

        let mut at = start + 4 + header.bytes;
        loop {
            let Some(&[low, middle, high]) = self.bytes(at, 3)?.and_then(<[u8]>::first_chunk) else {
                return Ok(Step::BeyondEnd);
            };
            let block = u32::from_le_bytes([low, middle, high, 0]);
            let size = u64::from(block >> 3);
            let stored = match block >> 1 & 3 {
                // As they are, or compressed; else one byte that is repeated `size` times.
                0 | 2 if size <= BLOCK_BYTES_MAX => size,
                1 if size <= BLOCK_BYTES_MAX => 1,
                _ => return Err(self.archive.damaged(at, "no block of a frame is so")),
            };
            at += 3 + stored;
            if block & 1 == 1 {
                break;
            }
        }
        let checksum = if header.has_checksum {
            let Some(checksum) = self.bytes(at, 4)?.and_then(<[u8]>::first_chunk) else {
                return Ok(Step::BeyondEnd);
            };
            let checksum = u32::from_le_bytes(*checksum);
            at += 4;
            Some(checksum)
        } else {
            None
        };
        if at > self.end {
            return Ok(Step::BeyondEnd);
        }
        Ok(Step::Frame(Frame { at: start, bytes: at - start, text_bytes: header.text_bytes, checksum }))
    }

    /// Whether another frame begins behind the beginning of this one: then this was not the last, so no crash tore it.
    fn is_followed(&self, frame: u64) -> io::Result<bool> {
        Ok(self.archive.find_magic(frame + 1..self.end)?.is_some())
    }
}

enum Step {
    Frame(Frame),
    Skipped(u64),
    BeyondEnd,
}

/// The header of a frame, behind its magic.
struct Header {
    bytes: u64,
    text_bytes: Option<u64>,
    has_checksum: bool,
}

enum Parsed {
    Whole(Header),
    Short,
    Wrong,
}

impl Header {
    fn parse(bytes: &[u8]) -> Parsed {
        let Some(&descriptor) = bytes.first() else { return Parsed::Short };
        let is_single_segment = descriptor & 0x20 != 0;
        // A reserved bit, and the number of a dictionary: we use none, so nobody could decode it.
        if descriptor & 0x08 != 0 || descriptor & 0x03 != 0 {
            return Parsed::Wrong;
        }
        let window_bytes = usize::from(!is_single_segment);
        let size_bytes = match descriptor >> 6 {
            0 => usize::from(is_single_segment),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let header_bytes = 1 + window_bytes + size_bytes;
        let Some(size) = bytes.get(1 + window_bytes..header_bytes) else { return Parsed::Short };
        let value = size.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let text_bytes = match size_bytes {
            0 => None,
            2 => Some(value + 256),
            _ => Some(value),
        };
        let has_checksum = descriptor & 0x04 != 0;
        Parsed::Whole(Self { bytes: header_bytes as u64, text_bytes, has_checksum })
    }
}

/// The text of one frame, decoded piece by piece. Memory: the window of the frame (our own: 2 MiB) and what is read at once.
pub(crate) struct FrameText {
    archive: Archive,
    frame: Frame,
    decoder: Decoder<'static>,
    /// What was read of the frame, and how much of it the decoder took.
    compressed: Vec<u8>,
    taken: usize,
    /// Where in the archive the next read begins.
    next_at: u64,
    text_bytes: u64,
    hash: Xxh64,
    is_done: bool,
}

impl FrameText {
    pub(crate) fn new(archive: &Archive, frame: Frame) -> io::Result<Self> {
        Ok(Self {
            archive: archive.clone(),
            frame,
            decoder: decoder()?,
            compressed: Vec::new(),
            taken: 0,
            next_at: frame.at,
            text_bytes: 0,
            hash: Xxh64::new(0),
            is_done: false,
        })
    }

    /// Turns to another frame of the same archive; cheaper than a new one.
    pub(crate) fn turn_to(&mut self, frame: Frame) -> io::Result<()> {
        self.decoder.reinit()?;
        self.compressed.clear();
        (self.frame, self.taken, self.next_at) = (frame, 0, frame.at);
        (self.text_bytes, self.is_done) = (0, false);
        self.hash.reset(0);
        Ok(())
    }

    /// Appends about `wanted` bytes of the text, or what there is in one go; 0 at its end, when it was found to be whole.
    ///
    /// # Errors
    /// `Damaged` if the frame cannot be decoded, or not to what its length and checksum say.
    pub(crate) fn read(&mut self, into: &mut Vec<u8>, wanted: usize) -> io::Result<usize> {
        into.reserve(wanted);
        let before = into.len();
        while into.len() == before && !self.is_done {
            if self.taken == self.compressed.len() && self.next_at < self.frame.end() {
                let bytes = READ_BYTES.min(self.frame.end() - self.next_at);
                self.compressed = self.archive.read(self.next_at, bytes)?;
                self.taken = 0;
                self.next_at += self.compressed.len() as u64;
            }
            let mut input = InBuffer::around(&self.compressed);
            input.set_pos(self.taken);
            let mut output = OutBuffer::around_pos(into, before);
            let wants = self.decoder.run(&mut input, &mut output);
            let taken = input.pos() - self.taken;
            self.taken = input.pos();
            match wants {
                Ok(0) => {
                    self.is_done = true;
                    if self.taken < self.compressed.len() || self.next_at < self.frame.end() {
                        return Err(self.damaged("it ends before its length is over"));
                    }
                }
                Ok(_) if taken == 0 && into.len() == before => {
                    return Err(self.damaged("it is not over where its length is"));
                }
                Ok(_) => {}
                Err(error) => return Err(self.damaged(&error.to_string())),
            }
        }
        let read = into.get(before..).unwrap_or_default();
        self.hash.update(read);
        self.text_bytes += read.len() as u64;
        Ok(read.len())
    }

    /// The frame that is being decoded.
    pub(crate) fn frame(&self) -> Frame {
        self.frame
    }

    /// About how long the text is, if the frame does not lie: for sizes of buffers, within limits.
    pub(crate) fn bytes_hint(&self) -> usize {
        let bytes = self.frame.text_bytes.unwrap_or(self.frame.bytes.saturating_mul(16));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// How much was decoded so far, in bytes.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// xxh64 of what was decoded so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.digest()
    }

    fn damaged(&self, what: &str) -> io::Error {
        self.archive.damaged(self.frame.at, format!("the frame cannot be decoded: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use keplordb_disk::{Disk, MemoryDisk};

    use super::*;

    fn archive(bytes: &[u8]) -> Archive {
        let disk = MemoryDisk::default();
        let path = Path::new("archive");
        let file = disk.create(path).unwrap();
        file.write_at(bytes, 0).unwrap();
        Archive::new(file, path)
    }

    fn walk(archive: &Archive, from: u64) -> io::Result<(Vec<Frame>, Option<u64>)> {
        let mut walk = Walk::new(archive, from, archive.bytes()?);
        let (mut frames, mut torn) = (Vec::new(), None);
        while let Some(found) = walk.next()? {
            match found {
                Found::Frame(frame) => frames.push(frame),
                Found::Torn(at) => torn = Some(at),
            }
        }
        Ok((frames, torn))
    }

    fn decode(archive: &Archive, frame: Frame, wanted: usize) -> io::Result<Vec<u8>> {
        let (mut text, mut decoded) = (Vec::new(), FrameText::new(archive, frame)?);
        while decoded.read(&mut text, wanted)? > 0 {}
        assert_eq!(decoded.text_bytes(), text.len() as u64);
        assert_eq!(decoded.hash(), xxhash_rust::xxh64::xxh64(&text, 0));
        Ok(text)
    }

    /// Lines that compress as events do, but not to nothing.
    fn text(lines: usize) -> Vec<u8> {
        let line =
            |n: usize| format!("{{\"type\":\"{}\",\"data\":{}}}\n", n % 7, n.wrapping_mul(2_654_435_761));
        (0..lines).flat_map(|n| line(n).into_bytes()).collect()
    }

    /// As a program does that streams into its encoder and says neither length nor checksum.
    fn foreign(text: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(text, 3).unwrap()
    }

    #[test]
    fn frames_of_every_kind_are_walked_and_decoded() {
        let long = text(30_000);
        let texts = [&text(1)[..], &long, b"", &text(40), &b"x".repeat(400_000)];
        for pruned in [None, Some(Pruned { generations: 3, events: 99 })] {
            let head = pruned.map(|pruned| pruned.to_frame().unwrap()).unwrap_or_default();
            let mut bytes = head.clone();
            let mut expected = Vec::new();
            for text in texts {
                for frame in [compress(text).unwrap(), foreign(text)] {
                    expected.push((bytes.len() as u64, frame.len() as u64, text));
                    bytes.extend(frame);
                }
            }
            let archive = archive(&bytes);
            assert_eq!(
                archive.pruned(archive.bytes().unwrap()).unwrap(),
                (pruned.unwrap_or_default(), head.len() as u64)
            );
            let (frames, torn) = walk(&archive, 0).unwrap();
            assert_eq!((frames.len(), torn), (expected.len(), None));
            for (n, (frame, (at, bytes, text))) in frames.iter().zip(expected).enumerate() {
                assert_eq!((frame.at, frame.bytes), (at, bytes));
                if n % 2 == 0 {
                    assert_eq!(frame.text_bytes, Some(text.len() as u64));
                    let hash = xxhash_rust::xxh64::xxh64(text, 0);
                    assert_eq!(frame.checksum.map(u64::from), Some(hash & 0xffff_ffff));
                } else {
                    assert_eq!(frame.checksum, None);
                }
                for wanted in [1 << 20, 1000] {
                    assert!(decode(&archive, *frame, wanted).unwrap() == text, "frame {n}");
                }
            }
        }
    }

    #[test]
    fn one_decoder_goes_from_frame_to_frame_at_any_place() {
        let bytes = [compress(&text(30_000)).unwrap(), foreign(&text(3))].concat();
        let archive = archive(&bytes);
        let (frames, _) = walk(&archive, 0).unwrap();
        let mut decoded = FrameText::new(&archive, frames[0]).unwrap();
        decoded.read(&mut Vec::new(), 100).unwrap();
        decoded.turn_to(frames[1]).unwrap();
        let mut read = Vec::new();
        while decoded.read(&mut read, 1000).unwrap() > 0 {}
        assert_eq!(read, text(3));
    }

    #[test]
    fn numbers_that_cannot_be_and_a_range_beyond_the_end_are_told() {
        for pruned in
            [Pruned { generations: u64::MAX, events: 1 }, Pruned { generations: 1, events: u64::MAX }]
        {
            let archive = archive(&pruned.to_frame().unwrap());
            let error = archive.pruned(archive.bytes().unwrap()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        // As where a pruned archive was put in the place of a long one.
        let archive = archive(&text(3));
        assert_eq!(archive.find_magic(0..1 << 60).unwrap(), None);
    }

    #[test]
    fn a_torn_last_frame_is_told_from_damage() {
        let first = compress(&text(20)).unwrap();
        for last in [compress(&text(50)).unwrap(), foreign(&text(50))] {
            let bytes = [&first[..], &last].concat();
            for end in first.len() + 1..bytes.len() {
                let (frames, torn) = walk(&archive(&bytes[..end]), 0).unwrap();
                assert_eq!((frames.len(), torn), (1, Some(first.len() as u64)), "cut at {end}");
            }
        }
        // Bytes in the middle that are gone are no torn end.
        let bytes = [&first[..first.len() - 5], &first, &first].concat();
        assert_eq!(walk(&archive(&bytes), 0).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn every_flip_is_found_or_harmless() {
        let texts = [text(20), text(3), text(30)];
        let mut bytes = Pruned { generations: 3, events: 99 }.to_frame().unwrap();
        for text in &texts {
            bytes.extend(compress(text).unwrap());
        }
        let mut found = 0;
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let archive = archive(&flipped);
                let read = archive.pruned(archive.bytes().unwrap()).and_then(|(_, from)| {
                    let (frames, torn) = walk(&archive, from)?;
                    let texts = frames.iter().map(|frame| decode(&archive, *frame, 1 << 20));
                    Ok((texts.collect::<io::Result<Vec<_>>>()?, torn))
                });
                match read {
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
                        found += 1;
                    }
                    // Of the last frame it cannot be told by its bytes alone whether it was torn.
                    Ok((read, Some(_))) => assert_eq!(read, texts[..2], "byte {at}, bit {bit}"),
                    Ok((read, None)) => assert_eq!(read, texts, "byte {at}, bit {bit}"),
                }
            }
        }
        assert!(found > bytes.len() * 7, "{found} flips were found");
    }

    fn salvage(frame: &[u8]) -> Vec<u8> {
        archive(frame).salvage(0..frame.len() as u64).unwrap()
    }

    #[test]
    fn what_is_not_damaged_of_a_frame_is_salvaged() {
        for lines in [1, 4, 3_000, 35_000] {
            let text = text(lines);
            for frame in [compress(&text).unwrap(), foreign(&text)] {
                assert!(salvage(&frame) == text, "{lines} lines");
                // Its magic, its length and its checksum; which bits say how long the header is nobody can know without them.
                let has_checksum = frame[4] & 0x04 != 0;
                let checksum = if has_checksum { frame.len() - 4 } else { frame.len() }..frame.len();
                let Parsed::Whole(header) = Header::parse(&frame[4..]) else { panic!("{lines} lines") };
                let header = 5..4 + usize::try_from(header.bytes).unwrap();
                for at in (0..4).chain(header).chain(checksum) {
                    for bit in 0..8 {
                        let mut flipped = frame.clone();
                        flipped[at] ^= 1 << bit;
                        assert!(salvage(&flipped) == text, "{lines} lines, byte {at}, bit {bit}");
                    }
                }
                for bit in 0..4 {
                    let mut flipped = frame.clone();
                    flipped[4] ^= 1 << bit;
                    assert!(salvage(&flipped) == text, "{lines} lines, bit {bit} of the descriptor");
                }
            }
        }
    }

    #[test]
    fn a_damaged_block_takes_none_before_it() {
        let text = text(35_000);
        assert!(text.len() > 1 << 20);
        let frame = compress(&text).unwrap();
        let blocks = block_ends(&frame);
        let ends: Vec<usize> = blocks.iter().map(|end| salvage(&frame[..*end]).len()).collect();
        assert!(ends.windows(2).all(|ends| (1..=128 << 10).contains(&(ends[1] - ends[0]))), "{ends:?}");
        assert!(ends[0] <= 128 << 10 && ends.last() == Some(&text.len()), "{ends:?}");
        for (n, block) in blocks.windows(2).enumerate() {
            // Of the kind that no block is of; a literal or a sequence that is another; the file's end.
            let (mut reserved, mut other) = (frame.clone(), frame.clone());
            reserved[block[0]] |= 3 << 1;
            other[usize::midpoint(block[0], block[1])] ^= 0x10;
            for damaged in [&reserved, &other, &frame[..block[1] - 1]] {
                let salvaged = salvage(damaged);
                assert!(salvaged.get(..ends[n]) == Some(&text[..ends[n]]), "block {}", n + 1);
            }
        }
    }

    /// Where the blocks of a frame end.
    fn block_ends(frame: &[u8]) -> Vec<usize> {
        let Parsed::Whole(header) = Header::parse(&frame[4..]) else { panic!("no header") };
        let (mut at, mut ends) = (4 + usize::try_from(header.bytes).unwrap(), Vec::new());
        loop {
            let block = u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], 0]);
            at += 3 + if block >> 1 & 3 == 1 { 1 } else { usize::try_from(block >> 3).unwrap() };
            ends.push(at);
            if block & 1 == 1 {
                return ends;
            }
        }
    }

    #[test]
    fn a_header_that_lies_allocates_little() {
        // A content of 2^60 bytes in one segment, and a window of 2^41.
        for header in [&[0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10][..], &[0x00, 0xff]] {
            let bytes = [&MAGIC[..], header, &[0x09, 0, 0, b'x', 0x01, 0, 0]].concat();
            let archive = archive(&bytes);
            let damaged = walk(&archive, 0).and_then(|(frames, _)| decode(&archive, frames[0], 1000));
            assert_eq!(damaged.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
