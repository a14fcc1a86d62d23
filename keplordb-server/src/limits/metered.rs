//! The body of a request of gRPC that takes room for each message before it is read, and gives it back when it has been.
//!
//! ```text
//! message = flag: u8, length: u32 big-endian, `length` bytes
//! ```
//!
//! Who reads asks for more only when what he has holds no whole message. So when he asks, all whole ones were taken out, and their room is
//! free again.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use super::{BATCH_BYTES_MAX, Room, Taken};

/// Bytes before a message: a flag, and its length.
const PREFIX_BYTES: usize = 5;

/// A body, and the room that its messages take.
pub(super) struct Metered {
    body: Body,
    room: Room,
    place: Place,
    /// Of messages that are not wholly read yet, or were not taken out yet.
    taken: Vec<Taken>,
}

/// Where in a message the bytes that come next are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So many bytes of the prefix were there.
    Prefix { read: usize, bytes: [u8; PREFIX_BYTES] },
    /// So many bytes are missing.
    Within { missing: usize },
}

const BEGIN: Place = Place::Prefix { read: 0, bytes: [0; PREFIX_BYTES] };

impl Place {
    /// Goes over bytes, and gives the lengths of the messages that begin there.
    fn advance(&mut self, mut bytes: &[u8]) -> Vec<usize> {
        let mut begun = Vec::new();
        while !bytes.is_empty() {
            match self {
                Self::Prefix { read, bytes: prefix } => {
                    let count = bytes.len().min(PREFIX_BYTES - *read);
                    prefix[*read..*read + count].copy_from_slice(&bytes[..count]);
                    *read += count;
                    bytes = &bytes[count..];
                    if *read == PREFIX_BYTES {
                        let [_, length @ ..] = *prefix;
                        let length = length.into_iter().fold(0, |length, byte| (length << 8) | usize::from(byte));
                        begun.push(length);
                        *self = if length == 0 { BEGIN } else { Self::Within { missing: length } };
                    }
                }
                Self::Within { missing } => {
                    let count = bytes.len().min(*missing);
                    *missing -= count;
                    bytes = &bytes[count..];
                    if *missing == 0 {
                        *self = BEGIN;
                    }
                }
            }
        }
        begun
    }
}

impl Metered {
    pub(super) fn new(body: Body, room: Room) -> Self {
        Self { body, room, place: BEGIN, taken: Vec::new() }
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        // All but the message that goes on were taken out.
        let keep = usize::from(matches!(this.place, Place::Within { .. }));
        let gone = this.taken.len().saturating_sub(keep);
        this.taken.drain(..gone);
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        if let Some(bytes) = frame.data_ref() {
            for length in this.place.advance(bytes) {
                // A longer one is refused by who reads it, from its prefix.
                match this.room.take(length.min(BATCH_BYTES_MAX)) {
                    Ok(taken) => this.taken.push(taken),
                    Err(full) => return Poll::Ready(Some(Err(full.into()))),
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::big_endian_bytes, reason = "the protocol is so")]
    fn messages_are_found_however_they_are_cut() {
        let lengths = [3, 0, 1, 300, 0, 70_000];
        let mut bytes = Vec::new();
        for length in lengths {
            bytes.push(0);
            bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
            bytes.extend(std::iter::repeat_n(0xFF, length));
        }
        for piece in [1, 2, 3, 5, 7, 304, 16_384, bytes.len()] {
            let mut place = BEGIN;
            let found: Vec<_> = bytes.chunks(piece).flat_map(|piece| place.advance(piece)).collect();
            assert_eq!((found.as_slice(), place), (&lengths[..], BEGIN), "in pieces of {piece}");
        }
    }
}
