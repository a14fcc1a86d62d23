//! `Tail`: every event of a store in the order of their sequences, once, as they come.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::columns::Filter;
use crate::error::{DbError, Result};
use crate::filter::Predicate;
use crate::format::manifest::Dropped;
use crate::read::source::Source;
use crate::read::tail::Follow;
use crate::store::{Schema, Store};

/// Rows that are read at a time.
const READ_AHEAD_ROWS: usize = 1024;

/// Events that [`gc`](Store::gc) or the retention has dropped together. A table whose manifest was lost and rebuilt no longer knows of
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Their smallest sequence; events between it and the largest may be there still.
    pub first: u64,
    /// Their largest sequence.
    pub last: u64,
    /// How many they are, without those that were deleted before.
    pub events: u64,
}

/// What was dropped so far, ascending.
pub(crate) fn gaps(source: &Source) -> Vec<Gap> {
    let gap = |dropped: &Dropped| Gap { first: dropped.first, last: dropped.last, events: dropped.rows };
    source.version().dropped.iter().map(gap).collect()
}

/// Where a [`Tail`] begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event that is there.
    Beginning,
    /// Behind this sequence: where an earlier tail had come to ([`Tail::position`]), also of another run.
    After(u64),
    /// With the events whose append begins from now on.
    Now,
}

/// Follows a store: each live event once, in the order of sequences, however it is moved and merged meanwhile; made by
/// [`Store::tail`] and [`Store::tail_of`].
///
/// **Which events.** Those that are on disk, and below which no append is under way: an event is given when a power cut can no
/// longer take it, and none that is given later has a lower sequence. So a program that keeps the [`position`](Self::position)
/// of what it has done goes on from there after a restart and misses nothing, does nothing twice. How soon that is, is a matter
/// of [`Options::sync`](crate::Options::sync): with `Always` when the append returns; with `Every` when the next sync covers it,
/// at the latest the next [`sync`](Store::sync), flush, [`maintain`](Store::maintain) or close; with `Os`, where nothing is
/// synced, when the append returns, and a power cut may take what was given.
///
/// **Deletes.** An event that is deleted before it is given is not given.
///
/// **Gaps.** Events that [`gc`](Store::gc) or the retention has dropped before they were given are said once as
/// [`DbError::Gap`], also those that were dropped while nobody followed; the next call goes on behind it. A table whose
/// manifest was lost and rebuilt no longer knows of them.
///
/// **Cost.** Waiting takes no processor time and no thread of the engine; appends pay nothing as long as nobody waits, and a
/// wake-up when somebody does. Rows are read 1,024 at a time. Where events come with ascending times a look touches little more than
/// them; of a segment whose times are mixed it goes through all sequences, 8 bytes a row.
///
/// ```
/// use std::time::Duration;
///
/// use keplordb::{Schema, Start, Store};
///
/// #[derive(Schema)]
/// #[keplordb(id = 1)]
/// pub struct Order {
///     #[dim]
///     pub customer: String,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::<Order>::open(dir.path().join("orders"))?;
/// let mut tail = store.tail(Start::Beginning);
/// std::thread::scope(|scope| {
///     scope.spawn(|| store.append(Order::new(0).customer("alice")).unwrap());
///     let order = tail.next_timeout(Duration::from_secs(60)).unwrap().expect("it comes");
///     assert_eq!(order.customer(), "alice");
/// });
/// let done = tail.position(); // to be kept with what was done
/// store.append(Order::new(0).customer("bob"))?;
/// let mut tail = store.tail(Start::After(done));
/// assert_eq!(tail.try_next()?.unwrap().customer(), "bob");
/// assert!(tail.try_next()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tail<'a, S: Schema> {
    source: &'a Source,
    filter: Filter<S>,
    follow: Follow,
    /// Rows that were read and not yet given, with their sequences.
    ahead: VecDeque<(u64, S::Row)>,
    /// How many deletes there had been when they were read.
    deletes: u64,
    /// All rows with a sequence up to here were given, or do not match.
    position: u64,
    given: Option<u64>,
}

impl<S: Schema> fmt::Debug for Tail<'_, S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead = self.ahead.len();
        out.debug_struct("Tail")
            .field("position", &self.position)
            .field("ahead", &ahead)
            .finish_non_exhaustive()
    }
}

impl<S: Schema> Store<S> {
    /// Follows the store; see [`Tail`].
    pub fn tail(&self, start: Start) -> Tail<'_, S> {
        self.tail_of(Filter::all(), start)
    }

    /// Follows the events that a filter matches; see [`Tail`].
    pub fn tail_of(&self, filter: impl Into<Filter<S>>, start: Start) -> Tail<'_, S> {
        Tail::new(self.core().source(), filter.into(), start)
    }

    /// What was dropped so far, ascending; of very many gaps, neighbours are told together.
    pub fn gaps(&self) -> Vec<Gap> {
        gaps(self.core().source())
    }
}

impl<'a, S: Schema> Tail<'a, S> {
    fn new(source: &'a Source, filter: Filter<S>, start: Start) -> Self {
        let follow = match start {
            Start::Beginning => Follow::beginning(source, 0),
            Start::After(sequence) => Follow::after(sequence),
            Start::Now => Follow::beginning(source, source.sequences().next()),
        };
        let position = follow.position.saturating_sub(1);
        Self { source, filter, follow, ahead: VecDeque::new(), deletes: 0, position, given: None }
    }

    /// What to go on behind, by [`Start::After`]: the sequence of the last event that was given, or a later one up to which
    /// no event matches.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The sequence of the last event that this tail has given; none before the first. See [`Store::trace`].
    pub fn given(&self) -> Option<u64> {
        self.given
    }

    /// The next event, if there is one now.
    ///
    /// # Errors
    /// [`Gap`](DbError::Gap) when events were dropped before they were given; the next call goes on behind them.
    /// [`Corrupt`](DbError::Corrupt) or [`Io`](DbError::Io) when a segment cannot be read: the next call tries again.
    /// [`Invalid`](DbError::Invalid) for a filter of more than 256 levels.
    pub fn try_next(&mut self) -> Result<Option<S::Row>> {
        let deletes = self.source.version().deletes;
        if self.deletes != deletes {
            // Some of the rows that were read may be gone.
            self.read_again();
            self.deletes = deletes;
        }
        if self.ahead.is_empty() {
            self.read_ahead()?;
        }
        if let Some(gap) = self.follow.gaps.pop_front() {
            return Err(DbError::Gap { first: gap.first, last: gap.last, events: gap.rows });
        }
        let Some((sequence, row)) = self.ahead.pop_front() else { return Ok(None) };
        self.position = sequence;
        self.given = Some(sequence);
        self.pass_what_does_not_match();
        Ok(Some(row))
    }

    /// The next event, waited for if there is none now; `None` when the time is over.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<S::Row>> {
        // Without a deadline where it would be beyond all time.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(row) = self.try_next()? {
                return Ok(Some(row));
            }
            let (source, position) = (self.source, self.follow.position);
            let has_more = || source.sequences().settled() > position && source.followed_below() > position;
            if !source.sequences().wait_until(deadline, has_more) {
                return Ok(None);
            }
        }
    }

    /// The next events, at most `limit`: those that are there when the first one is, which is waited for. Empty when the time
    /// is over.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next); what comes before a gap or a failure is returned first.
    pub fn next_batch(&mut self, limit: usize, timeout: Duration) -> Result<Vec<S::Row>> {
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        rows.extend(self.next_timeout(timeout)?);
        while (1..limit).contains(&rows.len()) {
            match self.try_next() {
                Ok(Some(row)) => rows.push(row),
                // What was taken so far must not be lost by an error: the next call says it.
                Err(DbError::Gap { first, last, events }) => {
                    self.follow.gaps.push_front(Dropped { first, last, rows: events });
                    break;
                }
                // Nothing is there, or a failure that the next call meets again.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(rows)
    }

    /// The events that are there now, one after the other; ends when there are none.
    pub fn try_iter(&mut self) -> impl Iterator<Item = Result<S::Row>> + use<'_, 'a, S> {
        std::iter::from_fn(|| self.try_next().transpose())
    }

    fn read_ahead(&mut self) -> Result<()> {
        let Self { source, filter, follow, ahead, .. } = self;
        let predicate = Predicate::of(filter.root())?;
        let from = follow.position;
        let looked = source.look(follow, predicate.as_ref(), READ_AHEAD_ROWS, &mut |row| {
            ahead.push_back((row.sequence(), S::read_row(row)?));
            Ok(())
        });
        if looked.is_err() {
            ahead.clear();
            follow.position = from;
        }
        self.pass_what_does_not_match();
        looked
    }

    fn read_again(&mut self) {
        self.ahead.clear();
        self.follow.position = self.position + 1;
    }

    fn pass_what_does_not_match(&mut self) {
        if self.ahead.is_empty() {
            self.position = self.position.max(self.follow.position.saturating_sub(1));
        }
    }
}
