//! `EventReader`: reading a log beside its writers, by offset, by position and by number.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keplordb_disk::{Disk, RealDisk};

use crate::blocks::Blocks;
use crate::directory::Present;
use crate::error::at;
use crate::event::Event;
use crate::events::{LineReader, event_of};
use crate::hash::line_hash;
use crate::history::History;
use crate::lines::Line;
use crate::paths::Paths;
use crate::position::Position;
use crate::subscribe::Subscription;

/// What waiting for events came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitResult {
    /// There are events behind the offset. This is where the active log's last whole line ends: its size, unless an append is
    /// under way. If it is not greater than the offset, the log was rotated.
    NewData(u64),
    /// There are none.
    Timeout,
}

/// Reads a log: cheap to make and to clone, for any number of threads, with or without a live writer, whose lock it ignores.
/// It writes nothing.
///
/// Files are opened by each call. Calls by *offset* know the active log only, whose offsets begin anew with each rotation. Calls by
/// [`Position`] and by *sequence*, the number of an event from 0 on, know all of history, and rotations change neither. What is
/// being read is never disturbed by a rotation: each event comes once.
///
/// ```
/// use keplordb_fold::EventReader;
///
/// # fn main() -> std::io::Result<()> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n{\"type\":\"b\",\"data\":2,\"ts\":8}\n")?;
/// let reader = EventReader::new(dir);
/// for item in reader.read_from(0)? {
///     let (event, next_offset, _hash) = item?;
///     println!("{} ends at {next_offset}", event.event_type);
/// }
/// # assert_eq!(reader.read_from(0)?.count(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct EventReader {
    history: History,
}

impl EventReader {
    /// A reader of the log in this directory, which is not touched; it need not be there yet.
    ///
    /// ```
    /// let reader = keplordb_fold::EventReader::new("app");
    /// assert_eq!(reader.log_path(), std::path::Path::new("app/app.jsonl"));
    /// ```
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self::with_disk(Arc::new(RealDisk), dir.as_ref())
    }

    pub(crate) fn with_disk(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { history: History::new(disk, Arc::new(Paths::new(dir))) }
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The active log's events from this offset on: each with the offset behind its line, and the line's
    /// [hash](crate::line_hash). Archived ones are not read.
    ///
    /// `offset` is 0, or what was returned before; at or beyond the end there is nothing to read. The end is that of this call.
    /// A last line without newline is not yet there; a batch that is not committed neither. Empty lines are passed over.
    ///
    /// A line that is no event is one `Err` item, an [`InvalidData`](io::ErrorKind::InvalidData); the next item is the line behind
    /// it. After any other error nothing more comes.
    ///
    /// Memory: a block of about 64 KiB, or the longest line. If the log is rotated while the iterator is in use, it goes on with the
    /// same events.
    ///
    /// # Errors
    /// `NotFound` if there is no log, `InvalidData` if the archive and the log contradict each other.
    ///
    /// ```
    /// # use keplordb_fold::EventReader;
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n{\"type\":\"b\",\"data\":2,\"ts\":8}\n")?;
    /// let reader = EventReader::new(dir);
    /// let mut events = reader.read_from(0)?;
    /// let (first, offset, _) = events.next().expect("there are two")?;
    /// assert_eq!((first.event_type.as_str(), offset), ("a", 29));
    /// let rest: Vec<_> = reader.read_from(offset)?.collect::<Result<_, _>>()?;
    /// assert_eq!(rest[0].0.event_type, "b");
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_from(
        &self,
        offset: u64,
    ) -> io::Result<impl Iterator<Item = io::Result<(Event, u64, String)>> + Send + use<>> {
        let generation = self.history.present()?.generation;
        let lines = self.history.read_within(Position { generation, offset })?;
        Ok(self.events(lines, generation, |event, line| (event, line.end.offset, line_hash(line.bytes))))
    }

    /// All events that there are, archived ones first, each with its line's hash; otherwise as [`read_from`](Self::read_from).
    /// Where the beginning of history was pruned, it begins behind that.
    ///
    /// Several threads decode the archive ahead, in blocks: memory does not depend on its size.
    ///
    /// # Errors
    /// As [`read_from`](Self::read_from).
    ///
    /// ```
    /// # use keplordb_fold::EventReader;
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n")?;
    /// let count = EventReader::new(dir).read_full()?.count();
    /// assert_eq!(count, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[expect(clippy::type_complexity, reason = "programs name this type")]
    pub fn read_full(&self) -> io::Result<Box<dyn Iterator<Item = io::Result<(Event, String)>> + Send>> {
        let Present { first_generation, generation, .. } = self.history.present()?;
        let lines = self.history.read(Position { generation: first_generation, offset: 0 })?;
        let hashed = |event, line: &Line<'_>| (event, line_hash(line.bytes));
        Ok(Box::new(self.events(lines, generation, hashed)))
    }

    /// All events from this position on, archived or not, each with the position behind it; otherwise as
    /// [`read_from`](Self::read_from). This is how to go on where one was, whatever was rotated since.
    ///
    /// # Errors
    /// `NotFound` if there is no log or the position was pruned, `InvalidInput` if history has not come that far.
    ///
    /// ```
    /// # use keplordb_fold::{EventReader, Position};
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n{\"type\":\"b\",\"data\":2,\"ts\":8}\n")?;
    /// let reader = EventReader::new(dir);
    /// let mut seen = Position::default();
    /// for item in reader.read_events_from(seen)? {
    ///     let (_event, next) = item?;
    ///     seen = next;
    /// }
    /// assert_eq!(seen, reader.end_position()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_events_from(
        &self,
        from: Position,
    ) -> io::Result<impl Iterator<Item = io::Result<(Event, Position)>> + Send + use<>> {
        let generation = self.history.present()?.generation;
        let lines = self.history.read(from)?;
        Ok(self.events(lines, generation, |event, line| (event, line.end)))
    }

    /// All events from number `sequence` on, each with its number; otherwise as [`read_from`](Self::read_from). Numbers begin at
    /// 0, count archived and pruned events, and lines that are no events.
    ///
    /// Cost before the first event: as [`position_of`](Self::position_of).
    ///
    /// # Errors
    /// As [`position_of`](Self::position_of); behind the end there is nothing to read.
    ///
    /// ```
    /// # use keplordb_fold::EventReader;
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n{\"type\":\"b\",\"data\":2,\"ts\":8}\n")?;
    /// let reader = EventReader::new(dir);
    /// let (event, sequence) = reader.read_seq(1)?.next().expect("there are two")?;
    /// assert_eq!((event.event_type.as_str(), sequence), ("b", 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_seq(
        &self,
        sequence: u64,
    ) -> io::Result<impl Iterator<Item = io::Result<(Event, u64)>> + Send + use<>> {
        let generation = self.history.present()?.generation;
        let from = self.history.position_of(sequence)?;
        let lines = from.map(|from| self.history.read(from)).transpose()?;
        let items = lines.map(|lines| self.events(lines, generation, |event, _| event));
        Ok(items.into_iter().flatten().zip(sequence..).map(|(event, sequence)| Ok((event?, sequence))))
    }

    /// How many events were ever appended: archived ones count, and pruned ones.
    ///
    /// Cost: the first time counting all of the active log, and decoding each archived frame that `archive.index` does not know;
    /// then what was appended since.
    ///
    /// # Errors
    /// `NotFound` if there is no log, `InvalidData` if a file is damaged.
    ///
    /// ```
    /// # use keplordb_fold::EventReader;
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n")?;
    /// assert_eq!(EventReader::new(dir).len()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.history.end()?.1)
    }

    /// Whether no event was ever appended.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    ///
    /// ```
    /// # use keplordb_fold::EventReader;
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "")?;
    /// assert!(EventReader::new(dir).is_empty()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The number of the first event that was not pruned, and its position; both 0 if nothing was pruned.
    ///
    /// # Errors
    /// `NotFound` if there is no log, `InvalidData` if the archive is damaged.
    ///
    /// ```
    /// # use keplordb_fold::{EventReader, Position};
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "")?;
    /// assert_eq!(EventReader::new(dir).first()?, (0, Position::default()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn first(&self) -> io::Result<(u64, Position)> {
        let Present { first_generation, first_sequence, .. } = self.history.present()?;
        Ok((first_sequence, Position { generation: first_generation, offset: 0 }))
    }

    /// The position behind the last event: where the next one will begin.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    ///
    /// ```
    /// # use keplordb_fold::{EventReader, Position};
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n")?;
    /// assert_eq!(EventReader::new(dir).end_position()?, Position { generation: 0, offset: 29 });
    /// # Ok(())
    /// # }
    /// ```
    pub fn end_position(&self) -> io::Result<Position> {
        Ok(self.history.end()?.0)
    }

    /// Where the event with this number begins, or the next one will begin; `None` for later ones.
    ///
    /// Cost: counting at most 1 MiB of the active log from a place that was counted before, or decoding one frame of the archive;
    /// the first time as [`len`](Self::len).
    ///
    /// # Errors
    /// `NotFound` if there is no log or that event was pruned, `InvalidData` if a file is damaged.
    ///
    /// ```
    /// # use keplordb_fold::{EventReader, Position};
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n{\"type\":\"b\",\"data\":2,\"ts\":8}\n")?;
    /// let reader = EventReader::new(dir);
    /// assert_eq!(reader.position_of(1)?, Some(Position { generation: 0, offset: 29 }));
    /// assert_eq!(reader.position_of(3)?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn position_of(&self, sequence: u64) -> io::Result<Option<Position>> {
        self.history.position_of(sequence)
    }

    /// The number of the event that begins there: how many came before.
    ///
    /// # Errors
    /// As [`position_of`](Self::position_of); `InvalidInput` if history has not come that far.
    ///
    /// ```
    /// # use keplordb_fold::{EventReader, Position};
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n{\"type\":\"b\",\"data\":2,\"ts\":8}\n")?;
    /// assert_eq!(EventReader::new(dir).seq_of(Position { generation: 0, offset: 29 })?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn seq_of(&self, position: Position) -> io::Result<u64> {
        self.history.sequence_of(position)
    }

    /// The hash of the active log's line that ends at this offset, newline included. `None` at 0, beyond the end, and where no line
    /// ends.
    ///
    /// # Errors
    /// `NotFound` if there is no log, but for offset 0.
    ///
    /// ```
    /// # use keplordb_fold::{EventReader, line_hash};
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n")?;
    /// let hash = EventReader::new(dir).read_line_hash_before(29)?;
    /// assert_eq!(hash, Some(line_hash(br#"{"type":"a","data":1,"ts":7}"#)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_line_hash_before(&self, offset: u64) -> io::Result<Option<String>> {
        if offset == 0 {
            return Ok(None);
        }
        let generation = self.history.present()?.generation;
        self.history.hash_before(Position { generation, offset })
    }

    /// The size of the active log in bytes: 0 right after a rotation.
    ///
    /// # Errors
    /// `NotFound` if there is no log.
    ///
    /// ```
    /// # use keplordb_fold::EventReader;
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n")?;
    /// assert_eq!(EventReader::new(dir).active_log_size()?, 29);
    /// # Ok(())
    /// # }
    /// ```
    pub fn active_log_size(&self) -> io::Result<u64> {
        let path = &self.history.paths().log;
        let bytes = self.history.disk().bytes(path).map_err(at("look for", path))?;
        bytes.ok_or_else(|| at("find", path)(io::ErrorKind::NotFound.into()))
    }

    /// Whether the active log has events behind this offset. What is not a whole line yet is none.
    ///
    /// Cost: one look for the size, if that is not beyond the offset; else reading up to the first event.
    ///
    /// # Errors
    /// `NotFound` if there is no log.
    ///
    /// ```
    /// # use keplordb_fold::EventReader;
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n{\"type\":\"torn")?;
    /// let reader = EventReader::new(dir);
    /// assert!(reader.has_new_events(0)?);
    /// assert!(!reader.has_new_events(29)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn has_new_events(&self, offset: u64) -> io::Result<bool> {
        if self.active_log_size()? <= offset {
            return Ok(false);
        }
        let generation = self.history.present()?.generation;
        let mut blocks = self.history.read_within(Position { generation, offset })?;
        while let Some(block) = blocks.next()? {
            if block.lines().next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until the active log has events behind this offset, whoever appends them, or the log is rotated; at most for
    /// `timeout`. At once if there are some already.
    ///
    /// If the log is shorter than `offset` already, because it was rotated before, every event that comes from now on ends the
    /// wait. Who follows a log that is rotated should rather [subscribe](Self::subscribe): a subscription misses nothing.
    ///
    /// Cost: no thread; while waiting nothing, where the operating system notices changes of files (see
    /// [`keplordb_disk::Disk::watch`]).
    ///
    /// # Errors
    /// `NotFound` if there is no log, `InvalidData` if the archive and the log contradict each other, or what the operating system
    /// says.
    ///
    /// ```
    /// use keplordb_fold::{EventReader, WaitResult};
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n")?;
    /// let reader = EventReader::new(dir);
    /// assert_eq!(reader.wait_for_events(0, Duration::from_secs(5))?, WaitResult::NewData(29));
    /// assert_eq!(reader.wait_for_events(29, Duration::from_millis(1))?, WaitResult::Timeout);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for_events(&self, offset: u64, timeout: Duration) -> io::Result<WaitResult> {
        let until = Instant::now().checked_add(timeout);
        let begun = self.history.present()?;
        // Of a log that is shorter than the offset nothing is new but what comes.
        let mut seen = if begun.log_bytes < offset { self.end_behind(begun.generation, 0)? } else { offset };
        let mut watch = None;
        loop {
            let generation = self.history.present()?.generation;
            if generation != begun.generation {
                return Ok(WaitResult::NewData(self.end_behind(generation, 0)?));
            }
            let mut blocks = self.history.read_within(Position { generation, offset: seen })?;
            let mut is_new = false;
            while let Some(block) = blocks.next()? {
                is_new |= block.lines().next().is_some();
                seen = block.end().offset;
            }
            if is_new {
                return Ok(WaitResult::NewData(seen));
            }
            let Some(watch) = &mut watch else {
                // What came before the watch was made is looked for once more.
                let dir = &self.history.paths().dir;
                watch = Some(self.history.disk().watch(dir).map_err(at("watch", dir))?);
                continue;
            };
            let rest = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if rest.is_zero() {
                return Ok(WaitResult::Timeout);
            }
            // Whatever changed, and when the time is over, it is looked again.
            watch.wait(rest).map_err(at("watch", &self.history.paths().dir))?;
        }
    }

    /// Where the last whole line of a generation ends, at or behind `offset`.
    fn end_behind(&self, generation: u64, offset: u64) -> io::Result<u64> {
        let mut end = offset;
        let mut blocks = self.history.read_within(Position { generation, offset })?;
        while let Some(block) = blocks.next()? {
            end = block.end().offset;
        }
        Ok(end)
    }

    /// Follows the log from this position on: what is there, then what comes, across rotations.
    ///
    /// `Position::default()` is the beginning of history, [`end_position`](Self::end_position) is now.
    ///
    /// # Errors
    /// As [`seq_of`](Self::seq_of): `first` of [`Pruned`](crate::FoldError::Pruned) tells whether events were missed. If it is the sequence
    /// of the last one that was told plus one, only the generation of that one is gone, and [`first`](Self::first) is where to go on.
    /// `InvalidInput` also if no event ends there, as where a power cut took what was told before it was synced. And what the operating system says when the directory is to be watched.
    ///
    /// ```
    /// use keplordb_fold::{EventReader, Position, Update};
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// std::fs::write(dir.join("app.jsonl"), "{\"type\":\"a\",\"data\":1,\"ts\":7}\n")?;
    /// let mut updates = EventReader::new(dir).subscribe(Position::default())?;
    /// let first = updates.next(Duration::ZERO)?;
    /// assert!(matches!(first, Some(Update::Event { sequence: 0, .. })));
    /// assert_eq!(updates.next(Duration::ZERO)?, Some(Update::CaughtUp));
    /// assert_eq!(updates.next(Duration::from_millis(1))?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self, from: Position) -> io::Result<Subscription> {
        Subscription::new(&self.history, from)
    }

    /// The active log, below the directory as it was given.
    ///
    /// ```
    /// let reader = keplordb_fold::EventReader::new("data");
    /// assert_eq!(reader.log_path(), std::path::Path::new("data/app.jsonl"));
    /// ```
    pub fn log_path(&self) -> &Path {
        &self.history.paths().log
    }

    /// The archive, below the directory as it was given; it may not be there.
    ///
    /// ```
    /// let reader = keplordb_fold::EventReader::new("data");
    /// assert_eq!(reader.archive_path(), std::path::Path::new("data/archive.jsonl.zst"));
    /// ```
    pub fn archive_path(&self) -> &Path {
        &self.history.paths().archive
    }

    /// What `item` makes of each event in these blocks and of its line.
    fn events<T, F: Fn(Event, &Line<'_>) -> T>(
        &self,
        blocks: Blocks,
        active: u64,
        item: F,
    ) -> impl Iterator<Item = io::Result<T>> + use<T, F> {
        let (mut lines, paths) = (LineReader::new(blocks), Arc::clone(self.history.paths()));
        std::iter::from_fn(move || {
            let next = lines.next_as(|line| Ok(item(event_of(line, &paths, active)?, line)));
            next.unwrap_or_else(|error| Some(Err(error)))
        })
    }
}
