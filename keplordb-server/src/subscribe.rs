//! Subscriptions: events in the order of the log, those that are there and then those that come.
//!
//! A subscriber has a thread while it follows, which sleeps while there is nothing. It is given what is on disk only, in increasing
//! sequences; so whoever keeps the last one goes on behind it and misses nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keplordb::{DbError, Start, Store};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::entity::EntityEvent;
use crate::error::{Refused, Result};
use crate::limits::TIMES;
use crate::log::{EntityLog, Selection};
use crate::record::Event;

/// Subscribers at a time.
const SUBSCRIBERS_MAX: usize = 256;
/// Events that are read ahead of a subscriber.
const AHEAD: usize = 256;
/// How soon a subscription ends when the server stops.
const NOTICE: Duration = Duration::from_millis(250);

/// How long a subscriber who has not taken what he was given is left alone.
const PAUSE: Duration = Duration::from_millis(5);

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the oldest event.
    Beginning,
    /// Behind a sequence.
    After(u64),
    /// With the first event that came in at this time or later, in milliseconds since the Unix epoch.
    Received(i64),
    /// With what comes from now on.
    Now,
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The next event.
    Event(Box<EntityEvent>),
    /// All events up to this sequence were given or are not meant.
    Position(u64),
}

/// Who follows a log.
#[derive(Debug)]
pub(crate) struct Subscribers {
    places: Arc<Semaphore>,
    is_stopping: watch::Sender<bool>,
}

impl Subscribers {
    pub(crate) fn new() -> Self {
        let is_stopping = watch::Sender::new(false);
        Self { places: Arc::new(Semaphore::new(SUBSCRIBERS_MAX)), is_stopping }
    }

    /// How many follow.
    pub(crate) fn count(&self) -> usize {
        SUBSCRIBERS_MAX - self.places.available_permits()
    }

    /// Ends all subscriptions, and takes no more.
    pub(crate) fn stop(&self) {
        self.is_stopping.send_replace(true);
    }

    /// Returns when subscriptions are to end.
    pub(crate) async fn stopped(&self) {
        // The sender is here, so there is always somebody to wait for.
        let mut is_stopping = self.is_stopping.subscribe();
        let _told = is_stopping.wait_for(|is_stopping| *is_stopping).await;
    }

    /// Begins a subscription; it ends when what it gives into is dropped, or with the error that it gives last.
    pub(crate) fn follow(
        &self,
        store: Arc<Store<Event>>,
        selection: &Selection,
        since: Since,
        heartbeat: Duration,
    ) -> Result<mpsc::Receiver<Result<News>>> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Refused::Subscribers { most: SUBSCRIBERS_MAX })?;
        let mut filter = selection.filter();
        let start = match since {
            Since::Beginning => Start::Beginning,
            Since::After(sequence) => Start::After(sequence),
            // Now, and not when the thread comes to run.
            Since::Now => Start::After(store.tail(Start::Now).position()),
            Since::Received(time_ms) => {
                filter = filter & Event::cols().metric.ge(time_ms.saturating_mul(1_000_000));
                let before = EntityLog::own(Arc::clone(&store)).sequence_at(time_ms.saturating_sub(1))?;
                before.map_or(Start::Beginning, Start::After)
            }
        };
        let (news, given) = mpsc::channel(AHEAD);
        let follower =
            Follower { store, news, heartbeat, is_stopping: self.is_stopping.subscribe(), _place: place };
        let run = move || follower.run(filter, start);
        let thread = std::thread::Builder::new().name("keplor-subscriber".to_owned()).spawn(run);
        thread.map_err(|error| Refused::Failed { what: format!("a subscriber's thread: {error}") })?;
        Ok(given)
    }
}

struct Follower {
    store: Arc<Store<Event>>,
    news: mpsc::Sender<Result<News>>,
    heartbeat: Duration,
    is_stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    fn run(self, filter: keplordb::Filter<Event>, start: Start) {
        let mut tail = self.store.tail_of(filter, start);
        let mut told = Instant::now();
        loop {
            let rows = match tail.next_batch(AHEAD, NOTICE.min(self.heartbeat)) {
                Ok(rows) => rows,
                // What was dropped cannot be given; the subscriber goes on behind it.
                Err(DbError::Gap { .. }) => continue,
                Err(error) => {
                    self.tell(Err(Refused::from(&error)));
                    return;
                }
            };
            for row in &rows {
                let event = EntityEvent::of_row(row).map(|event| News::Event(Box::new(event)));
                if !self.tell(event) {
                    return;
                }
                told = Instant::now();
            }
            if *self.is_stopping.borrow() {
                self.tell(Err(Refused::Stopping));
                return;
            }
            if rows.is_empty() && self.news.is_closed() {
                return;
            }
            if told.elapsed() >= self.heartbeat {
                if !self.tell(Ok(News::Position(tail.position()))) {
                    return;
                }
                told = Instant::now();
            }
        }
    }

    /// Waits for who reads slowly, but not when the server stops, nor for who takes nothing at all; gives whether it was told.
    fn tell(&self, mut news: Result<News>) -> bool {
        let begun = Instant::now();
        loop {
            news = match self.news.try_send(news) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(news)) => news,
            };
            if *self.is_stopping.borrow() || begun.elapsed() > TIMES.taking {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
    }
}
