//! An answer on its way out, and what it holds until it has gone: its place among those that are answered, its memory, its rows.
//!
//! Of an answer over HTTP/2 the next piece is asked for when the client lets it come, which he may never do while other things come and go
//! on the connection. Nobody asks then, so whoever made the answer looks by himself whether it is taken, and takes away what it holds.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use futures::Stream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Bytes that go out at a time of an answer.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// The pieces of an answer, whose end is an error where nobody took any for too long.
pub(super) struct Outgoing {
    rest: Arc<Mutex<Rest>>,
    watching: JoinHandle<()>,
}

enum Rest {
    Going(Going),
    Gone,
    GivenUp,
}

struct Going {
    pieces: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    /// What is left of a piece.
    piece: Bytes,
    /// Since when the reader has not asked for more; nothing while he waits for it.
    since: Option<Instant>,
    _held: Box<dyn Any + Send>,
}

fn lock(rest: &Mutex<Rest>) -> MutexGuard<'_, Rest> {
    rest.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outgoing {
    /// Holds something until all pieces were taken, or none for so long.
    pub(super) fn new(
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        held: impl Send + 'static,
        taking: Duration,
    ) -> Self {
        let going = Going {
            pieces: Box::pin(pieces),
            piece: Bytes::new(),
            since: Some(Instant::now()),
            _held: Box::new(held),
        };
        let rest = Arc::new(Mutex::new(Rest::Going(going)));
        let watched = Arc::downgrade(&rest);
        let watching = tokio::spawn(async move {
            let mut left = Some(taking);
            while let Some(pause) = left {
                sleep(pause).await;
                left = time_left(&watched, taking);
            }
        });
        Self { rest, watching }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// For how long the next piece need not be asked for; gives the answer up where that is over.
fn time_left(rest: &Weak<Mutex<Rest>>, taking: Duration) -> Option<Duration> {
    let rest = rest.upgrade()?;
    let mut rest = lock(&rest);
    let Rest::Going(going) = &*rest else { return None };
    let left = going.since.map_or(taking, |since| taking.saturating_sub(since.elapsed()));
    if left.is_zero() {
        tracing::debug!("an answer that nobody takes is given up");
        *rest = Rest::GivenUp;
        return None;
    }
    Some(left)
}

impl Stream for Outgoing {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut rest = lock(&self.rest);
        let going = match &mut *rest {
            Rest::Going(going) => going,
            Rest::Gone => return Poll::Ready(None),
            Rest::GivenUp => {
                return Poll::Ready(Some(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "nobody took the answer",
                ))));
            }
        };
        while going.piece.is_empty() {
            going.since = None;
            match ready!(going.pieces.as_mut().poll_next(context)) {
                Some(Ok(piece)) => going.piece = piece,
                end => {
                    *rest = Rest::Gone;
                    return Poll::Ready(end);
                }
            }
        }
        going.since = Some(Instant::now());
        let length = going.piece.len().min(PIECE_BYTES);
        // Who sends it may keep it for as long as the reader likes, and of a part all that it is a part of.
        let piece = Bytes::copy_from_slice(&going.piece.split_to(length));
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    const TAKING: Duration = Duration::from_secs(30);

    fn going(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> (Outgoing, Weak<()>) {
        let held = Arc::new(());
        let is_held = Arc::downgrade(&held);
        (Outgoing::new(pieces, held, TAKING), is_held)
    }

    fn two() -> impl Stream<Item = io::Result<Bytes>> {
        stream::iter([Ok(Bytes::from_static(b"12")), Ok(Bytes::from(vec![b'3'; PIECE_BYTES + 1]))])
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_is_held_until_its_end() {
        let (mut answer, held) = going(two());
        for length in [2, PIECE_BYTES, 1] {
            sleep(9 * TAKING / 10).await;
            assert_eq!(answer.next().await.unwrap().unwrap().len(), length);
            assert!(held.upgrade().is_some());
        }
        assert!(answer.next().await.is_none());
        assert!(held.upgrade().is_none());
        assert!(answer.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_takes_is_given_up_unpolled() {
        for taken in [0, 1] {
            let (mut answer, held) = going(two());
            for _ in 0..taken {
                answer.next().await.unwrap().unwrap();
            }
            sleep(TAKING / 2).await;
            assert!(held.upgrade().is_some());
            sleep(TAKING).await;
            assert!(held.upgrade().is_none());
            assert!(answer.next().await.unwrap().is_err(), "a part is never the whole");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_was_taken_keeps_nothing_else() {
        struct Whole(Vec<u8>, #[expect(dead_code, reason = "it tells whether this is there")] Arc<()>);
        impl AsRef<[u8]> for Whole {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let there = Arc::new(());
        let is_there = Arc::downgrade(&there);
        let whole = Bytes::from_owner(Whole(vec![b'1'; 3 * PIECE_BYTES], there));
        let (mut answer, _) = going(stream::iter([Ok(whole)]));
        let taken = answer.next().await.unwrap().unwrap();
        assert!(is_there.upgrade().is_some());
        sleep(2 * TAKING).await;
        assert!(is_there.upgrade().is_none() && taken.len() == PIECE_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_piece_may_wait_long() {
        let (sender, pieces) = mpsc::channel(1);
        let (mut answer, held) = going(ReceiverStream::new(pieces).map(Ok));
        let waits = tokio::time::timeout(5 * TAKING, answer.next()).await;
        assert!(waits.is_err() && held.upgrade().is_some());
        sender.send(Bytes::from_static(b"1")).await.unwrap();
        assert_eq!(answer.next().await.unwrap().unwrap(), "1");
        // Whoever goes gives everything back, without a look.
        drop(answer);
        assert!(held.upgrade().is_none());
    }
}
