//! One batch under one checksum: its bytes, and the walk over a file of them that tells *torn* from *corrupt*.
//!
//! Pure: it knows no files, only the bytes of one and its salt.
//!
//! ```
//! use keplordb_log::frame::{self, End, Header};
//!
//! let salt = 0x9e37_79b9_7f4a_7c15; // random, one per file, kept in the file's own header
//!
//! // Write: room for the header, the payload, then the padding; the header is filled in last.
//! let payload = b"two rows";
//! let mut bytes = vec![0; frame::HEADER_BYTES];
//! bytes.extend_from_slice(payload);
//! frame::pad(&mut bytes);
//! let header = Header { payload_bytes: 8, rows: 2, first: 41, durable_upto: 0 };
//! frame::write_header(bytes.first_chunk_mut().unwrap(), salt, frame::payload_crc(payload), &header);
//!
//! // Read: the frames, then how the file ends.
//! let mut walk = frame::walk(&bytes, 0, salt, 0);
//! let read = walk.next().unwrap();
//! assert_eq!((read.first, read.rows, read.payload), (41, 2, &payload[..]));
//! assert!(walk.next().is_none());
//! assert_eq!(walk.end(), End::Clean { at: bytes.len() as u64 });
//!
//! // A crash that left half of a frame: nothing says that it was ever synced, so it is torn, not corrupt.
//! let cut = &bytes[..36];
//! assert_eq!(frame::walk(cut, 0, salt, 0).end(), End::Torn { at: 0, bytes: 36 });
//! ```
//!
//! # Layout
//!
//! A file begins with a header of its owner, whose length is a multiple of 8 and which holds the file's random 64-bit
//! *salt*. Frames follow without gaps, each at a multiple of 8 bytes from the file's start. Integers are little-endian.
//!
//! ```text
//! offset   0            4             8               12      16       24              32
//!          ┌────────────┬─────────────┬───────────────┬───────┬────────┬───────────────┬─────────┬─────────┐
//!          │ header_crc │ payload_crc │ payload_bytes │ rows  │ first  │ durable_upto  │ payload │ padding │
//!          │ u32        │ u32         │ u32           │ u32   │ u64    │ u64           │         │ 0–7 × 0 │
//!          └────────────┴─────────────┴───────────────┴───────┴────────┴───────────────┴─────────┴─────────┘
//! header_crc    CRC-32 of the salt (8 bytes) followed by header bytes 4..32
//! payload_crc   CRC-32 of the payload
//! first         the first row's sequence; the owner gives it its meaning
//! durable_upto  bytes of this file that were known to be synced when the frame was written: the watermark
//! ```
//!
//! A *closing frame* has no rows and no payload. A sealed file ends with one, and nothing is ever written after it.
//!
//! # A frame is valid if and only if
//!
//! 1. its 32 header bytes lie within the file and are not all zero (zeros are space that was never written; the rule is
//!    needed because for one salt in 2³² the checksum of zeros is itself zero);
//! 2. `header_crc` holds;
//! 3. `rows` is 0 exactly if `payload_bytes` is 0, `payload_bytes` is at most [`MAX_PAYLOAD_BYTES`], and `durable_upto`
//!    is a multiple of 8 and not beyond the frame's own offset;
//! 4. payload and padding lie within the file;
//! 5. `payload_crc` holds;
//! 6. the padding is zero.
//!
//! The rules are checked in this order, so a length is used only after the checksum over it.
//!
//! # Why only the header is salted
//!
//! The salt keeps out bytes that are a frame, but not of this file: a copy of another file's frame, stale blocks that a
//! file system hands out again, a payload that contains a frame. All of these bring a header made with another salt,
//! which fails rule 2. A payload reaches the reader only through a header that names its checksum, so a foreign payload
//! passes only if its CRC-32 equals the one this file's writer signed: the same one chance in 2³² that a salted payload
//! checksum would leave. In return the payload's checksum, the expensive one, is computed before the writer holds the
//! lock that decides which file, hence which salt, the frame goes to.
//!
//! The salt is a guard against accidents and against authors of payloads, who do not know it. It is not a secret key:
//! whoever can read the file can forge its frames.
//!
//! # What a crash may tear, and what it may not
//!
//! Up to the file's last completed sync everything stays as it was written (a disk may lose a sector it is writing, but
//! not the neighbouring bytes that are already durable). After it, each sector of each unsynced frame may be new, absent, zero
//! or garbage, independently of all others: a later frame can survive an earlier one.
//!
//! So a bad frame at offset *o* is **corrupt** if something says that *o* was synced: a valid header further on whose
//! `durable_upto` is greater than *o*, or the caller, who passes what it knows from elsewhere (the clean length in a
//! manifest). Otherwise it is **torn**. A damaged *last* frame of a file that was not closed cleanly cannot be told from a
//! torn one by anybody; it is reported as torn.
//!
//! The owner of the file keeps three rules for this to be sound:
//! - `durable_upto` counts only bytes that a *completed* sync covers;
//! - what was synced is never cut back; a cut-back (after a failed write, or of a torn tail) is itself synced before the
//!   next frame is written, or a frame behind the cut could reappear after it;
//! - a sync failure ends writing to the file.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use crc32fast::Hasher;

use crate::planted::{self, Bug};

/// Length of a frame's header.
pub const HEADER_BYTES: usize = 32;

/// Frames start at multiples of this many bytes from the start of their file.
pub const ALIGN_BYTES: usize = 8;

/// The longest payload of a frame: 256 MiB for the values of the largest legal batch, and 64 MiB for what their encoding
/// adds (lengths, column headers, numbers of fixed width). Writers refuse more, so readers may.
pub const MAX_PAYLOAD_BYTES: u32 = (256 + 64) << 20;

/// What a writer says about a frame, besides its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the payload, without padding; at most [`MAX_PAYLOAD_BYTES`].
    pub payload_bytes: u32,
    /// Rows in the payload; 0 exactly if there is no payload, which makes a closing frame.
    pub rows: u32,
    /// Sequence of the first row.
    pub first: u64,
    /// Bytes of this file that a completed sync covers; a multiple of [`ALIGN_BYTES`], not beyond the frame's own offset.
    pub durable_upto: u64,
}

impl Header {
    /// Length of the whole frame: header, payload and padding.
    pub fn frame_bytes(&self) -> u64 {
        (HEADER_BYTES as u64 + u64::from(self.payload_bytes)).next_multiple_of(ALIGN_BYTES as u64)
    }

    /// Why no frame at `offset` may say this, or `None` if one may (rule 3).
    fn contradiction(&self, offset: u64) -> Option<&'static str> {
        if (self.rows == 0) != (self.payload_bytes == 0) {
            Some("a header has rows without payload, or payload without rows")
        } else if self.payload_bytes > MAX_PAYLOAD_BYTES {
            Some("a payload is longer than any writer's limit")
        } else if !self.durable_upto.is_multiple_of(ALIGN_BYTES as u64) {
            Some("a watermark lies inside a frame")
        } else if self.durable_upto > offset {
            Some("a watermark lies beyond its own frame")
        } else {
            None
        }
    }
}

/// Checksum of a payload, as [`write_header`] wants it. It depends on no file, so it can be computed before one is chosen.
///
/// About 0.1 ns a byte where the processor has carry-less multiplication.
pub fn payload_crc(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

/// Appends the zeros that bring `buffer` (header and payload of a frame) to a multiple of [`ALIGN_BYTES`].
pub fn pad(buffer: &mut Vec<u8>) {
    buffer.resize(buffer.len().next_multiple_of(ALIGN_BYTES), 0);
}

/// Fills in the header of a frame whose payload has the checksum `payload_crc`, for the file with this `salt`.
///
/// # Panics
///
/// If `header` is one that every reader would refuse: rows without payload or the reverse, a payload above
/// [`MAX_PAYLOAD_BYTES`], a watermark that is no multiple of [`ALIGN_BYTES`]. These are the caller's mistakes; what comes
/// from users is to be checked before.
pub fn write_header(buffer: &mut [u8; HEADER_BYTES], salt: u64, payload_crc: u32, header: &Header) {
    // The frame's offset is not known here, so the one rule that needs it is left to the caller.
    if let Some(contradiction) = header.contradiction(u64::MAX) {
        panic!("{contradiction}: {header:?}");
    }
    buffer[4..8].copy_from_slice(&payload_crc.to_le_bytes());
    buffer[8..12].copy_from_slice(&header.payload_bytes.to_le_bytes());
    buffer[12..16].copy_from_slice(&header.rows.to_le_bytes());
    buffer[16..24].copy_from_slice(&header.first.to_le_bytes());
    buffer[24..32].copy_from_slice(&header.durable_upto.to_le_bytes());
    let header_crc = header_crc(&Salted::new(salt), buffer);
    buffer[0..4].copy_from_slice(&header_crc.to_le_bytes());
}

/// The header of the frame that begins at `offset` in the file with this `salt`, if `bytes` are one: by its checksum and
/// rules 1 to 3 of the [module](self). Its payload may still be cut short or damaged.
pub fn read_header(bytes: &[u8; HEADER_BYTES], salt: u64, offset: u64) -> Option<Header> {
    Salted::new(salt).header(bytes, offset)
}

/// The closing frame of a file: the last 32 bytes of a sealed one. `first` is the sequence that a next row would have had.
///
/// # Panics
///
/// If `durable_upto` is no multiple of [`ALIGN_BYTES`].
pub fn closing(salt: u64, first: u64, durable_upto: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    write_header(
        &mut bytes,
        salt,
        payload_crc(&[]),
        &Header { payload_bytes: 0, rows: 0, first, durable_upto },
    );
    bytes
}

/// A valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Bytes from the start of the file to the frame's header.
    pub offset: u64,
    /// Rows in the payload, at least 1.
    pub rows: u32,
    /// Sequence of the first row.
    pub first: u64,
    /// Bytes of the file that were known to be synced when the frame was written; at most `offset`.
    pub durable_upto: u64,
    /// The payload, without padding; never empty.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Where in the file it ends, padding included.
    pub fn end(&self) -> u64 {
        self.offset + ((HEADER_BYTES + self.payload.len()) as u64).next_multiple_of(ALIGN_BYTES as u64)
    }
}

/// How a file ends after its last valid frame. `at` is always the byte length of what is valid: the next frame's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing, or nothing but zeros, follows the last frame.
    Clean {
        /// Where the last frame ends.
        at: u64,
    },
    /// A closing frame is the last one. What follows it was never known to be synced (space written ahead, say, that a crash
    /// garbled before it was cut off) and means nothing.
    Closed {
        /// Where the closing frame ends.
        at: u64,
        /// The sequence in the closing frame: what a next row would have had.
        first: u64,
    },
    /// A bad frame that was never known to be synced: what a crash leaves. It is to be cut away, and the cut synced.
    Torn {
        /// Where the bad frame begins.
        at: u64,
        /// How many bytes the cut removes, not counting the zeros that end the file.
        bytes: u64,
    },
    /// A bad frame in bytes that were synced: something damaged them later. Nothing may be cut.
    Corrupt {
        /// Where the bad frame begins.
        at: u64,
        /// Bytes that are known to have been synced; more than `at`. Behind a closing frame: the file's length.
        covered_upto: u64,
        /// What is wrong, as a clause without a full stop.
        what: &'static str,
    },
    /// The file is shorter than what was synced, and no damage explains it: somebody cut it. Nothing more may be cut.
    Truncated {
        /// Where the last valid frame ends.
        at: u64,
        /// Bytes that the caller knows to have been synced; more than the file has.
        covered_upto: u64,
    },
}

impl End {
    /// Byte length of what is valid.
    pub fn at(&self) -> u64 {
        match *self {
            Self::Clean { at }
            | Self::Closed { at, .. }
            | Self::Torn { at, .. }
            | Self::Corrupt { at, .. }
            | Self::Truncated { at, .. } => at,
        }
    }

    /// Whether bytes that were synced are damaged or missing.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Truncated { .. })
    }
}

/// Walks over the frames of a whole file, `bytes`, whose owner's header is `start` bytes long. `covered` is the byte
/// length that the caller knows to have been synced from elsewhere; 0 if it knows nothing.
///
/// The walk yields valid frames in order and stops at a closing frame, at the first bad one, or at the end;
/// [`Walk::end`] then tells which. A `start` beyond the end of `bytes` is a file without frames.
///
/// # Cost
///
/// A checksum over each payload (about 0.1 ns a byte), no allocation. After a bad frame, `end` looks at every eighth
/// byte of the rest once: about 0.1 ns a byte of garbage, and at most 2 ns a byte of bytes made to deceive it (64 MiB took
/// 3 ms and 90 ms). It computes checksums over headers only, so no length that it meets makes it read further.
///
/// # Panics
///
/// If `start` is no multiple of [`ALIGN_BYTES`].
pub fn walk(bytes: &[u8], start: usize, salt: u64, covered: u64) -> Walk<'_> {
    assert!(
        start.is_multiple_of(ALIGN_BYTES),
        "frames start at multiples of {ALIGN_BYTES} bytes, not at {start}"
    );
    Walk { bytes, base: 0, salted: Salted::new(salt), covered, at: start, stopped: None }
}

/// Goes on where an earlier walk over the same file had come to: `bytes` are those of the file from `base` on, where a
/// frame ends (what its [`End::at`] said). Offsets, also those of frames and of the end, count from the file's start.
///
/// What it says of the end is true of the whole file if `bytes` reach to the file's end. Where they are only a part of the
/// rest, its frames are good and its end says no more than where they end.
///
/// ```
/// use keplordb_log::frame::{self, End, HEADER_BYTES, Header};
///
/// // Two frames of 8 bytes each; the first was read before.
/// let mut file = Vec::new();
/// for first in [1, 2] {
///     let header = Header { payload_bytes: 8, rows: 1, first, durable_upto: 0 };
///     let mut bytes = [0; HEADER_BYTES];
///     frame::write_header(&mut bytes, 7, frame::payload_crc(&[1; 8]), &header);
///     file.extend_from_slice(&bytes);
///     file.extend_from_slice(&[1; 8]);
/// }
/// let mut walk = frame::walk_from(&file[40..], 40, 7, 0);
/// let frame = walk.next().unwrap();
/// assert_eq!((frame.offset, frame.first), (40, 2));
/// assert_eq!(walk.end(), End::Clean { at: 80 });
/// ```
///
/// # Panics
///
/// If `base` is no multiple of [`ALIGN_BYTES`].
pub fn walk_from(bytes: &[u8], base: u64, salt: u64, covered: u64) -> Walk<'_> {
    assert!(
        base.is_multiple_of(ALIGN_BYTES as u64),
        "frames end at multiples of {ALIGN_BYTES} bytes, not at {base}"
    );
    Walk { bytes, base, salted: Salted::new(salt), covered, at: 0, stopped: None }
}

/// The frames of a file; see [`walk`] and [`walk_from`].
#[derive(Debug, Clone)]
#[must_use = "a walk does nothing until it is iterated or asked for its end"]
pub struct Walk<'a> {
    bytes: &'a [u8],
    /// Where in the file `bytes` begin. All other places in this struct and in `Stop` are within `bytes`.
    base: u64,
    salted: Salted,
    covered: u64,
    /// Where the next frame begins: the end of what is valid.
    at: usize,
    stopped: Option<Stop>,
}

/// Why a walk stopped.
#[derive(Debug, Clone, Copy)]
enum Stop {
    /// A closing frame with this sequence ends where the walk stands.
    Closed { first: u64 },
    /// No valid frame begins where the walk stands. Headers that the writer wrote later begin at `later` or behind it.
    Bad { what: &'static str, later: usize },
}

/// A place where no valid frame begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BadFrame {
    pub(crate) what: &'static str,
    /// The header, where that is whole: it says how long the frame should be.
    pub(crate) header: Option<Header>,
}

impl BadFrame {
    /// How far behind the bad frame's beginning a header may begin that its writer wrote later.
    ///
    /// Until the header's checksum holds, nothing says how long the frame is: the next may begin behind its header. Once the
    /// writer has signed the length, his next header is behind the frame, and nothing in this payload, not even a frame
    /// forged with the right salt, can pass for it.
    pub(crate) fn later_bytes(&self) -> u64 {
        self.header.map_or(HEADER_BYTES as u64, |header| header.frame_bytes())
    }
}

/// The salt of a file, ready to check its frames one by one.
#[derive(Debug, Clone)]
pub(crate) struct Salted(Hasher);

impl Salted {
    pub(crate) fn new(salt: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&salt.to_le_bytes());
        Self(hasher)
    }

    /// The frame that `bytes` begin with, at `offset` in its file: the rules of the module's documentation in their order.
    /// A closing frame is one without rows.
    pub(crate) fn frame<'a>(&self, bytes: &'a [u8], offset: u64) -> Result<Frame<'a>, BadFrame> {
        let anywhere = |what| BadFrame { what, header: None };
        let Some((header_bytes, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(anywhere("the file ends inside a header"));
        };
        if header_bytes == &[0; HEADER_BYTES] {
            return Err(anywhere("zeros stand where frames were synced"));
        }
        let Some((header, stored_payload_crc)) = open_header(header_bytes, self) else {
            return Err(anywhere("a header's checksum does not hold"));
        };
        if let Some(contradiction) = header.contradiction(offset) {
            return Err(anywhere(contradiction));
        }

        let bad = |what| BadFrame { what, header: Some(header) };
        let payload_bytes = header.payload_bytes as usize;
        let body_bytes = payload_bytes.next_multiple_of(ALIGN_BYTES);
        let Some((payload, padding)) =
            body.get(..body_bytes).and_then(|body| body.split_at_checked(payload_bytes))
        else {
            return Err(bad("a frame reaches beyond the end of the file"));
        };
        if payload_crc(payload) != stored_payload_crc && !planted::is(Bug::PayloadUnchecked) {
            return Err(bad("a payload's checksum does not hold"));
        }
        if padding.iter().any(|&byte| byte != 0) {
            return Err(bad("the padding behind a payload is not zero"));
        }
        let Header { rows, first, durable_upto, .. } = header;
        Ok(Frame { offset, rows, first, durable_upto, payload })
    }

    /// The header that `bytes` begin with, at `offset` in its file, if a frame may begin with it: rules 1 to 3.
    pub(crate) fn header(&self, bytes: &[u8], offset: u64) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        // Rejects nearly all garbage without a checksum.
        let watermark = u64::from_le_bytes(*bytes.last_chunk()?);
        if watermark > offset || bytes == &[0; HEADER_BYTES] {
            return None;
        }
        let (header, _) = open_header(bytes, self)?;
        header.contradiction(offset).is_none().then_some(header)
    }

    /// The watermark of some valid header in `bytes`, which begin at `base` in the file, that covers the place `at` before it.
    ///
    /// A header needs no valid payload to be believed: its watermark was true when it was written, and stays so.
    pub(crate) fn watermark_over(&self, at: u64, bytes: &[u8], base: u64) -> Option<u64> {
        const WATERMARK_AT: usize = 24;
        let candidates = bytes.get(WATERMARK_AT..)?.as_chunks::<ALIGN_BYTES>().0;
        candidates.iter().enumerate().find_map(|(index, candidate)| {
            // This comparison alone rejects all zeros and nearly all garbage; few candidates cost a checksum.
            let place = index * ALIGN_BYTES;
            let watermark = u64::from_le_bytes(*candidate);
            if watermark <= at || watermark > base.saturating_add(place as u64) {
                return None;
            }
            self.header(bytes.get(place..)?, base.saturating_add(place as u64)).map(|_| watermark)
        })
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        if self.stopped.is_some() {
            return None;
        }
        match self.read() {
            Ok((frame, end)) => {
                self.at = end;
                if frame.rows > 0 {
                    return Some(frame);
                }
                self.stopped = Some(Stop::Closed { first: frame.first });
            }
            Err(stop) => self.stopped = Some(stop),
        }
        None
    }
}

impl std::iter::FusedIterator for Walk<'_> {}

impl<'a> Walk<'a> {
    /// How the file ends. Frames that were not taken yet are walked over first.
    pub fn end(mut self) -> End {
        self.by_ref().for_each(drop);
        let at = self.offset(self.at);
        let file_bytes = self.offset(self.bytes.len());
        let tail = without_trailing_zeros(self.bytes.get(self.at..).unwrap_or_default());
        let (closed, what, later) = match self.stopped {
            Some(Stop::Closed { first }) => (Some(first), "zeros stand where frames were synced", self.at),
            Some(Stop::Bad { what, later }) => (None, what, later),
            None => unreachable!("a walk ends by stopping"),
        };

        if closed.is_some() && self.read().is_ok() {
            return End::Corrupt { at, covered_upto: file_bytes, what: "a frame follows the closing frame" };
        }
        if let Some(watermark) = self.later_watermark(later) {
            return End::Corrupt { at, covered_upto: watermark.max(self.covered), what };
        }
        if file_bytes < self.covered {
            return End::Truncated { at, covered_upto: self.covered };
        }
        if at < self.covered {
            return End::Corrupt { at, covered_upto: self.covered, what };
        }
        match closed {
            Some(first) => End::Closed { at, first },
            None if !tail.is_empty() => End::Torn { at, bytes: tail.len() as u64 },
            None => End::Clean { at },
        }
    }

    /// Bytes from the start of the file to a place in `bytes`.
    fn offset(&self, place: usize) -> u64 {
        self.base.saturating_add(place as u64)
    }

    /// The frame where the walk stands, and where it ends.
    fn read(&self) -> Result<(Frame<'a>, usize), Stop> {
        self.frame_at(self.at).map_err(|bad| {
            let later_bytes = usize::try_from(bad.later_bytes()).unwrap_or(usize::MAX);
            Stop::Bad { what: bad.what, later: self.at.saturating_add(later_bytes) }
        })
    }

    /// The frame at a place, wherever the walk stands, and where it ends.
    pub(crate) fn frame_at(&self, place: usize) -> Result<(Frame<'a>, usize), BadFrame> {
        let frame = self.salted.frame(self.bytes.get(place..).unwrap_or_default(), self.offset(place))?;
        let end = place.saturating_add(HEADER_BYTES).saturating_add(frame.payload.len());
        Ok((frame, end.next_multiple_of(ALIGN_BYTES)))
    }

    /// The header at a place, if a frame may begin with it.
    pub(crate) fn header_at(&self, place: usize) -> Option<Header> {
        self.salted.header(self.bytes.get(place..)?, self.offset(place))
    }

    /// The watermark of some valid header at `from` or later which covers the place where the walk stands.
    fn later_watermark(&self, from: usize) -> Option<u64> {
        self.salted.watermark_over(self.offset(self.at), self.bytes.get(from..)?, self.offset(from))
    }
}

/// The header in `bytes` and the payload's checksum, if the header's own checksum holds.
fn open_header(bytes: &[u8; HEADER_BYTES], salted: &Salted) -> Option<(Header, u32)> {
    let (stored_header_crc, rest) = bytes.split_first_chunk()?;
    if u32::from_le_bytes(*stored_header_crc) != header_crc(salted, bytes) {
        return None;
    }
    let (payload_crc, rest) = rest.split_first_chunk()?;
    let (payload_bytes, rest) = rest.split_first_chunk()?;
    let (rows, rest) = rest.split_first_chunk()?;
    let (first, rest) = rest.split_first_chunk()?;
    let (durable_upto, _) = rest.split_first_chunk()?;
    let header = Header {
        payload_bytes: u32::from_le_bytes(*payload_bytes),
        rows: u32::from_le_bytes(*rows),
        first: u64::from_le_bytes(*first),
        durable_upto: u64::from_le_bytes(*durable_upto),
    };
    Some((header, u32::from_le_bytes(*payload_crc)))
}

fn header_crc(salted: &Salted, header: &[u8; HEADER_BYTES]) -> u32 {
    let mut hasher = salted.0.clone();
    if planted::is(Bug::LengthUnchecked) {
        hasher.update(&header[12..]);
    } else {
        hasher.update(&header[4..]);
    }
    hasher.finalize()
}

/// `bytes` up to its last byte that is not zero. Space that was zero-filled ahead is passed over a block at a time.
fn without_trailing_zeros(bytes: &[u8]) -> &[u8] {
    const BLOCK_BYTES: usize = 512;
    let zero_bytes: usize = bytes
        .rchunks(BLOCK_BYTES)
        .take_while(|block| block.iter().fold(0, |any, byte| any | byte) == 0)
        .map(<[u8]>::len)
        .sum();
    let rest = bytes.get(..bytes.len() - zero_bytes).unwrap_or_default();
    let used_bytes = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    rest.get(..used_bytes).unwrap_or_default()
}
