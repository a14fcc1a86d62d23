//! The body of a request of gRPC that takes room for each message before it is read, and gives it back when it has been.
//!
//! ```text
//! message = flag: u8, length: u32 big-endian, `length` bytes
//! ```
//!
//! Who reads asks for more only when what he has holds no whole message. So when he asks, all whole ones were taken out, and their room is
//! free again. A message that takes too long ends the body, or a few that never come would keep all room. Only the time counts in which
//! somebody waits for it: while the disk is slow, nobody asks.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::{MESSAGE_MAX, Room, Taken};

/// Bytes before a message: a flag, and its length.
const PREFIX_BYTES: usize = 5;

/// A body, and the room that its messages take.
pub(super) struct Metered {
    body: Body,
    room: Room,
    /// Bytes of the largest message.
    most: usize,
    place: Place,
    /// For how long the message that goes on may still be waited for.
    left: Duration,
    /// Since when it is waited for.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
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
                        let length =
                            length.into_iter().fold(0, |length, byte| (length << 8) | usize::from(byte));
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
    pub(super) fn new(body: Body, room: Room, most: usize) -> Self {
        Self { body, room, most, place: BEGIN, left: MESSAGE_MAX, waiting: None, taken: Vec::new() }
    }

    /// Nothing has come: an error when the message that goes on has been waited for too long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if self.place == BEGIN {
            return Poll::Pending;
        }
        let (_, late) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(self.left))));
        late.as_mut().poll(context).map(|()| {
            let why = format!("the message took longer than {} s; send smaller ones", MESSAGE_MAX.as_secs());
            Status::deadline_exceeded(why)
        })
    }

    /// Takes room for the messages that begin in bytes that have come.
    fn begin(&mut self, bytes: &[u8]) -> Result<(), Status> {
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let begun = self.place.advance(bytes);
        if self.place == BEGIN || !begun.is_empty() {
            self.left = MESSAGE_MAX;
        }
        for length in begun {
            if length > self.most {
                let most = self.most;
                return Err(Status::out_of_range(format!(
                    "the message has {length} bytes, at most {most} are possible; send smaller ones"
                )));
            }
            self.taken.push(self.room.take(length)?);
        }
        Ok(())
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
            Poll::Pending => return this.wait(context).map(|late| Some(Err(late.into()))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        if let Some(bytes) = frame.data_ref()
            && let Err(refused) = this.begin(bytes)
        {
            return Poll::Ready(Some(Err(refused.into())));
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
    use std::sync::Arc;

    use tokio::sync::mpsc;
    use tokio::time::timeout;
    use tokio_stream::StreamExt as _;
    use tokio_stream::wrappers::ReceiverStream;
    use tonic::Code;

    use super::super::READING_BYTES_MAX;
    use super::*;
    use crate::metrics::Metrics;

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

    fn metered(room: &Room, most: usize) -> (mpsc::Sender<&'static [u8]>, Metered) {
        let (sent, come) = mpsc::channel::<&'static [u8]>(9);
        let body = Body::from_stream(ReceiverStream::new(come).map(Ok::<_, BoxError>));
        (sent, Metered::new(body, room.clone(), most))
    }

    async fn next(metered: &mut Metered) -> Option<Result<Bytes, Status>> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *metered).poll_frame(context)).await?;
        Some(match frame {
            Ok(frame) => Ok(frame.into_data().unwrap()),
            Err(error) => Err(*error.downcast::<Status>().unwrap()),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_never_ends_gives_its_room_back() {
        let room = Room::new(Arc::new(Metrics::new()));
        let (sent, mut metered) = metered(&room, 1 << 20);
        // Nothing has begun, so it may take as long as it likes.
        assert!(timeout(10 * MESSAGE_MAX, next(&mut metered)).await.is_err());
        sent.send(b"\0\0\0\x01\0").await.unwrap();
        next(&mut metered).await.unwrap().unwrap();
        assert!(room.take(READING_BYTES_MAX).is_err(), "room is taken");
        let begun = Instant::now();
        let dripping = tokio::spawn(async move {
            while sent.send(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let refused = loop {
            if let Err(refused) = next(&mut metered).await.unwrap() {
                break refused;
            }
        };
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        assert!(refused.message().contains("30 s"), "{}", refused.message());
        assert!((MESSAGE_MAX..2 * MESSAGE_MAX).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        drop(metered);
        assert!(room.take(READING_BYTES_MAX).is_ok(), "room is free again");
        dripping.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_waited_for_counts() {
        let room = Room::new(Arc::new(Metrics::new()));
        let (sent, mut metered) = metered(&room, 1 << 20);
        sent.send(b"\0\0\0\0\x04ab").await.unwrap();
        next(&mut metered).await.unwrap().unwrap();
        // Who reads it has something else to do.
        sleep(10 * MESSAGE_MAX).await;
        let later = tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            sent.send(b"cd").await.unwrap();
        });
        assert_eq!(next(&mut metered).await.unwrap().unwrap().as_ref(), b"cd");
        later.await.unwrap();
        assert!(next(&mut metered).await.is_none());
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_refused_by_its_length() {
        let room = Room::new(Arc::new(Metrics::new()));
        let (sent, mut metered) = metered(&room, 3);
        sent.send(b"\0\0\0\0\x03abc\0\0\0\0\x04").await.unwrap();
        let refused = next(&mut metered).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        assert!(refused.message().contains("has 4 bytes, at most 3"), "{}", refused.message());
    }
}
