//! Following a log: what is there, then what comes, across rotations.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use keplordb_disk::Watch;

use crate::error::{FoldError, at};
use crate::event::Event;
use crate::events::{LineReader, event_of};
use crate::history::History;
use crate::lines::Line;
use crate::position::Position;
use crate::skimmed::Skimmed;

/// What a [`Subscription`] tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// An event.
    Event {
        /// The event.
        event: Event,
        /// Its number in the whole history, from 0 on.
        sequence: u64,
        /// The position behind it: to subscribe again from here goes on with the next event.
        next: Position,
    },
    /// All that was there has been told; what follows is news. Comes once.
    CaughtUp,
}

/// Follows a log, made by [`EventReader::subscribe`](crate::EventReader::subscribe).
///
/// Each event comes once and in order, whatever is rotated meanwhile. Nothing is kept on disk: who wants to go on after a restart
/// remembers the [position](Self::position).
///
/// ```
/// use keplordb_fold::{EventReader, Position, Update};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n{\"type\":\"b\",\"data\":2,\"ts\":8,\"actor\":\"ann\"}\n")?;
/// let mut updates = EventReader::new(dir).subscribe(Position::default())?.of_types(["b"]).by_actors(["ann"]);
/// while let Some(update) = updates.next(Duration::from_millis(10))? {
///     match update {
///         Update::Event { event, sequence, .. } => println!("{sequence}: {}", event.event_type),
///         Update::CaughtUp => println!("that was all so far"),
///     }
/// }
/// # assert_eq!(updates.position().offset, 72);
/// # Ok(())
/// # }
/// ```
pub struct Subscription {
    history: History,
    watch: Box<dyn Watch>,
    lines: Option<Reading>,
    position: Position,
    /// Of the line that ends there; empty at the beginning of a text.
    hash: String,
    sequence: u64,
    has_caught_up: bool,
    types: Vec<String>,
    actors: Vec<String>,
}

/// One pass up to the end of the log.
struct Reading {
    lines: LineReader,
    /// The generation of the active log when it began.
    active: u64,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("dir", &self.history.paths().dir)
            .field("position", &self.position)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    pub(crate) fn new(history: &History, from: Position) -> io::Result<Self> {
        let sequence = history.sequence_of(from)?;
        let hash = match history.hash_before(from)? {
            Some(hash) => hash,
            None if from.offset == 0 => String::new(),
            None => return Err(was_cut(from)),
        };
        let dir = &history.paths().dir;
        Ok(Self {
            watch: history.disk().watch(dir).map_err(at("watch", dir))?,
            history: history.clone(),
            lines: None,
            position: from,
            hash,
            sequence,
            has_caught_up: false,
            types: Vec::new(),
            actors: Vec::new(),
        })
    }

    /// Tells only events of these types; of all types, if there are none in the list.
    ///
    /// ```
    /// # use keplordb_fold::{EventReader, Position, Update};
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n{\"type\":\"b\",\"data\":2,\"ts\":8}\n")?;
    /// let mut updates = EventReader::new(dir).subscribe(Position::default())?.of_types(["b", "c"]);
    /// assert!(matches!(updates.next(std::time::Duration::ZERO)?, Some(Update::Event { sequence: 1, .. })));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn of_types<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    /// Tells only events by these actors; by all, and by none, if the list is empty.
    ///
    /// ```
    /// # use keplordb_fold::{EventReader, Position, Update};
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7,\"actor\":\"ann\"}\n")?;
    /// let mut updates = EventReader::new(dir).subscribe(Position::default())?.by_actors(["bob"]);
    /// assert_eq!(updates.next(std::time::Duration::ZERO)?, Some(Update::CaughtUp));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn by_actors<T: Into<String>>(mut self, actors: impl IntoIterator<Item = T>) -> Self {
        self.actors = actors.into_iter().map(Into::into).collect();
        self
    }

    /// The next update; waits for one at most for `timeout`, then returns `None`. May be called again after that.
    ///
    /// # Errors
    /// `InvalidData` with [`FoldError::BadLine`](crate::FoldError::BadLine) for a line that is no event: the next call goes on behind
    /// it. `InvalidInput` with [`FoldError::Invalid`](crate::FoldError::Invalid) if the event that was told last is not in the log any
    /// more: a power cut may take one that a reader has seen before it was synced, and other events come in its place. `NotFound` with
    /// [`FoldError::Pruned`](crate::FoldError::Pruned) if events were pruned before they were told. Any other error leaves the subscription
    /// where it is, and the next call tries again.
    ///
    /// ```
    /// # use keplordb_fold::{EventReader, Position, Update};
    /// # use std::time::Duration;
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "")?;
    /// let mut updates = EventReader::new(dir).subscribe(Position::default())?;
    /// assert_eq!(updates.next(Duration::ZERO)?, Some(Update::CaughtUp));
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n")?;
    /// assert!(matches!(updates.next(Duration::from_secs(5))?, Some(Update::Event { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn next(&mut self, timeout: Duration) -> io::Result<Option<Update>> {
        let until = Instant::now().checked_add(timeout);
        loop {
            if let Some(update) = self.read()? {
                return Ok(Some(update));
            }
            if !self.has_caught_up {
                self.has_caught_up = true;
                return Ok(Some(Update::CaughtUp));
            }
            let rest = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if !self.watch.wait(rest).map_err(at("watch", &self.history.paths().dir))? {
                // Where changes are noticed by looking, the last one may have come since.
                return self.read();
            }
        }
    }

    /// The next event that is wanted and there.
    fn read(&mut self) -> io::Result<Option<Update>> {
        if self.lines.is_none() {
            self.lines = self.begin()?;
        }
        let Some(reading) = &mut self.lines else { return Ok(None) };
        let active = reading.active;
        loop {
            let wanted = |line: &Line<'_>| {
                let is_wanted = wants(&self.types, &self.actors, line);
                let event = is_wanted.then(|| event_of(line, self.history.paths(), active));
                (event, line.end)
            };
            let (event, next) = match reading.lines.next_as(wanted) {
                Ok(Some(line)) => line,
                ended => {
                    if let Some(hash) = reading.lines.hash_of_last() {
                        self.hash = hash;
                    }
                    self.lines = None;
                    if ended.is_ok() && self.position.generation < active {
                        // All before was told; so pruning it does no harm.
                        self.go_to(Position { generation: active, offset: 0 });
                    }
                    return ended.map(|_| None);
                }
            };
            let sequence = self.sequence;
            self.sequence += 1;
            self.position = next;
            if let Some(event) = event {
                return Ok(Some(Update::Event { event: event?, sequence, next }));
            }
        }
    }

    /// Begins to read what came since; nothing if nothing did.
    fn begin(&mut self) -> io::Result<Option<Reading>> {
        let present = self.history.present()?;
        if self.position.generation < present.first_generation && self.sequence == present.first_sequence {
            // What was pruned, and no more, was told.
            self.go_to(Position { generation: present.first_generation, offset: 0 });
        }
        let Position { generation, offset } = self.position;
        if (generation, offset) == (present.generation, present.log_bytes) {
            return Ok(None);
        }
        if (present.first_generation..present.generation).contains(&generation)
            && offset > 0
            && offset == self.history.facts(generation)?.text_bytes
        {
            // A frame that would be decoded to find nothing.
            self.go_to(Position { generation: generation + 1, offset: 0 });
        }
        let offset = self.position.offset;
        let blocks = self.history.read(self.position)?;
        if offset > 0 && self.history.hash_before(self.position)?.as_ref() != Some(&self.hash) {
            return Err(was_cut(self.position));
        }
        Ok(Some(Reading { lines: LineReader::new(blocks), active: present.generation }))
    }

    fn go_to(&mut self, position: Position) {
        self.position = position;
        self.hash.clear();
    }

    /// Behind the last event that was told or passed over, or the beginning of the active log, if it was rotated since.
    ///
    /// ```
    /// # use keplordb_fold::{EventReader, Position};
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "")?;
    /// let updates = EventReader::new(dir).subscribe(Position::default())?;
    /// assert_eq!(updates.position(), Position::default());
    /// # Ok(())
    /// # }
    /// ```
    pub fn position(&self) -> Position {
        self.position
    }
}

/// For a place where no line ends any more, or another one: to go on there would tell half a line and miss the ones before it.
fn was_cut(position: Position) -> io::Error {
    let value = format!("generation {} byte {}", position.generation, position.offset);
    let why = "the event that ended there is gone, as after a power cut that took what was not yet synced: subscribe again, from a \
               position that is read from the log now";
    FoldError::Invalid { what: "a position of the log", value, why }.into()
}

/// Whether a line is one of these types and by one of these actors. What is no event is wanted too, to be told as such, as far as that is
/// seen without making its data.
fn wants(types: &[String], actors: &[String], line: &Line<'_>) -> bool {
    if types.is_empty() && actors.is_empty() {
        return true;
    }
    Skimmed::of_line(line.bytes).is_none_or(|Skimmed { event_type, actor, .. }| {
        let is_type = types.is_empty() || types.iter().any(|wanted| *wanted == event_type);
        let is_actor =
            actors.is_empty() || actor.is_some_and(|actor| actors.iter().any(|wanted| *wanted == actor));
        is_type && is_actor
    })
}
