//! Append: check, build the block and its frame without any lock, reserve sequences, write, show, sync.

use std::cell::RefCell;
use std::sync::Arc;

use keplordb_log::frame::HEADER_BYTES;

use super::Core;
use super::shard::{self, Active, ShardState};
use crate::config::Sync;
use crate::error::{DbError, Result};
use crate::event::RowRef;
use crate::format::block::Block;
use crate::format::{MAX_BATCH_BYTES, MAX_EVENT_BYTES, MAX_KEY_BYTES, MAX_LABEL_BYTES};
use crate::schema::Shape;
use crate::state::memtable::LARGE_ROWS;
use keplordb_log::file::Payload;
use keplordb_log::planted::{self, Bug};

/// A thread's buffers are given back when they grew beyond this: one large batch must not hold memory for ever.
const KEPT_BYTES: usize = 1 << 20;

/// Bytes of an event's numbers without counters: time, metric, two latencies, status, flags.
const EVENT_NUMBER_BYTES: usize = 8 + 8 + 4 + 4 + 2 + 2;

/// The sequences of what was appended.
///
/// Sequences are unique, never given twice, and increase within what one thread appends; they are not dense over the
/// engine. Those of one batch are: `first..=last`. An empty batch has `last == first - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Sequence of the first event.
    pub first: u64,
    /// Sequence of the last event.
    pub last: u64,
}

/// What a thread builds a batch in.
#[derive(Default)]
struct Scratch {
    block: Block,
    frame: Vec<u8>,
}

impl Scratch {
    /// Keeps the buffers for the thread's next batch.
    fn put_back(mut self) {
        if self.frame.capacity() > KEPT_BYTES {
            self.frame = Vec::new();
        }
        if self.block.memory_bytes() > KEPT_BYTES {
            self.block = Block::default();
        }
        SCRATCH.set(self);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Core {
    /// Appends a batch: all of it or nothing. On return it is in the log, seen by every query, and on disk as the sync
    /// policy says, or at once where `durable`.
    pub(crate) fn append<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = RowRef<'a>> + Clone,
        durable: bool,
    ) -> Result<Appended> {
        let _told = self.wal.directory.notices().tell_at_end();
        let shape = self.source.schema().shape();
        check(rows.clone(), shape)?;
        if rows.len() == 0 {
            return Ok(self.nothing());
        }
        // Taken and put back, not borrowed: what hears of events of ours (a subscriber of `tracing`) may append too.
        let mut scratch = SCRATCH.take();
        let batch = if rows.len() >= LARGE_ROWS {
            Batch::Large(Box::new(Block::for_rows(shape, rows)))
        } else {
            if scratch.block.shape() != shape {
                scratch.block = Block::new(shape);
            }
            scratch.block.clear();
            rows.for_each(|row| scratch.block.push(row));
            Batch::Small(&mut scratch.block)
        };
        let appended = self.commit(batch, &mut scratch.frame, durable);
        scratch.put_back();
        self.ended(appended)
    }

    /// Appends a batch that is a block already, of rows that [`check_row`] took, as [`append`](Self::append) does.
    pub(crate) fn append_block(&self, mut block: Block, durable: bool) -> Result<Appended> {
        let _told = self.wal.directory.notices().tell_at_end();
        if block.rows() == 0 {
            return Ok(self.nothing());
        }
        let mut scratch = SCRATCH.take();
        let batch = if block.rows() >= LARGE_ROWS {
            block.shrink_to_fit();
            Batch::Large(Box::new(block))
        } else {
            Batch::Small(&mut block)
        };
        let appended = self.commit(batch, &mut scratch.frame, durable);
        scratch.put_back();
        self.ended(appended)
    }

    /// Of a batch without rows.
    fn nothing(&self) -> Appended {
        let next = self.source.sequences().next();
        Appended { first: next, last: next - 1 }
    }

    fn ended(&self, appended: Result<Appended>) -> Result<Appended> {
        if appended.is_err() {
            // Whoever waits for it to end has waited enough.
            self.source.sequences().tell();
        }
        self.freeing(appended)
    }

    fn commit(&self, mut batch: Batch<'_>, frame: &mut Vec<u8>, durable: bool) -> Result<Appended> {
        frame.clear();
        frame.resize(HEADER_BYTES, 0);
        let rows = batch.block().rows();
        batch.block().encode(frame);
        let row_count =
            u32::try_from(rows).map_err(|_| DbError::invalid("batch", "more than 2^32 events"))?;
        let payload = Payload::seal(frame, row_count)?;
        if let Batch::Large(block) = &batch {
            // Now that its columns are in the cache: the first query would have to fetch them all.
            block.summary();
        }

        let (index, mut state) = shard::lock_one(&self.shards);
        self.wal.directory.poison().check()?;
        self.begin_writing()?;
        let active = self.active(index, &mut state)?;
        let append = self.source.sequences().take(index, rows as u64);
        let first = append.first();
        let written = active.wal.append(frame, &payload, first, first + rows as u64).inspect_err(|_| {
            if self.wal.directory.poison().is_set() {
                append.doubt();
            }
        })?;
        batch.block_mut().number(first);
        match batch {
            Batch::Large(block) => active.memtable.add(*block),
            Batch::Small(block) => active.memtable.copy(block),
        }
        active.memtable.set_wal_bytes(written.bytes);
        drop(append);

        let must_sync = durable || self.sync_is_due(active);
        let syncer = Arc::clone(active.wal.syncer());
        let is_full = active.is_full(self.config.wal_max_events, self.options.memtable_bytes);
        drop(state);
        self.source.sequences().tell();
        if must_sync && !planted::is(Bug::AckedBeforeSync) {
            syncer.sync_to(written)?;
            self.source.sequences().tell();
        }
        if is_full && let Err(error) = self.rotate_full(index) {
            // The rows are in the log and seen; only their move into a segment is put off.
            self.note("a rotation failed; its rows stay in the log and are tried again", error);
        }
        Ok(Appended { first, last: first + rows as u64 - 1 })
    }

    /// The generation of a shard that takes rows; made if there is none.
    fn active<'a>(&self, index: usize, state: &'a mut ShardState) -> Result<&'a mut Active> {
        if state.active.is_none() {
            state.active = Some(self.create_generation(index)?);
        }
        match &mut state.active {
            Some(active) => Ok(active),
            None => unreachable!("made above"),
        }
    }

    /// Whether the caller must wait for a sync. What a running one does not cover yet counts, so however many threads write,
    /// no more than the policy allows is ever acknowledged and not on disk.
    fn sync_is_due(&self, active: &Active) -> bool {
        match self.options.sync {
            Sync::Always => true,
            Sync::Os => false,
            Sync::Every { events: max_events, bytes: max_bytes } => {
                let unsynced = active.wal.syncer().unsynced();
                let by_count = max_events != u32::MAX && unsynced.rows >= u64::from(max_events);
                by_count || unsynced.bytes >= max_bytes
            }
        }
    }

    /// Syncs everything that was appended before the call.
    pub(crate) fn sync(&self) -> Result<()> {
        let _told = self.wal.directory.notices().tell_at_end();
        for shard in &self.shards {
            let waiting = {
                let state = shard.state.lock();
                state.active.as_ref().map(|active| (Arc::clone(active.wal.syncer()), active.wal.reach()))
            };
            if let Some((syncer, reach)) = waiting {
                syncer.sync_to(reach)?;
            }
        }
        self.source.sequences().tell();
        self.wal.directory.poison().check()
    }
}

/// A batch on its way: large ones become a block of the memtable, small ones are copied into it.
enum Batch<'a> {
    Large(Box<Block>),
    Small(&'a mut Block),
}

impl Batch<'_> {
    fn block(&self) -> &Block {
        match self {
            Self::Large(block) => block,
            Self::Small(block) => block,
        }
    }

    fn block_mut(&mut self) -> &mut Block {
        match self {
            Self::Large(block) => block,
            Self::Small(block) => block,
        }
    }
}

/// Refuses what the format cannot hold, before anything is written.
fn check<'a>(rows: impl Iterator<Item = RowRef<'a>>, shape: Shape) -> Result<()> {
    let mut batch_bytes = 0;
    for (place, row) in rows.enumerate() {
        batch_bytes += check_row(place, &row, shape)?;
    }
    check_batch(batch_bytes)
}

/// Refuses a batch of so many bytes that no frame holds it.
pub(crate) fn check_batch(batch_bytes: usize) -> Result<()> {
    if batch_bytes > MAX_BATCH_BYTES {
        let why = format!("{batch_bytes} bytes, at most {MAX_BATCH_BYTES} are possible; append it in parts");
        return Err(DbError::invalid("batch", why));
    }
    Ok(())
}

/// Refuses an event that the format cannot hold; gives its [bytes](encoded_bytes). `place` is that in the batch.
#[inline]
pub(crate) fn check_row(place: usize, row: &RowRef<'_>, shape: Shape) -> Result<usize> {
    let longest = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or(0);
    let event_bytes = encoded_bytes(row);
    let fits = row.dims.len() == shape.dims
        && row.counters.len() == shape.counters
        && row.labels.len() == shape.labels
        && row.id.len().max(longest(row.dims)) <= MAX_KEY_BYTES
        && longest(row.labels) <= MAX_LABEL_BYTES
        && event_bytes <= MAX_EVENT_BYTES;
    if fits { Ok(event_bytes) } else { Err(refusal(place, row, shape)) }
}

/// Why an event that does not fit is refused: the first thing that is wrong with it.
#[cold]
fn refusal(place: usize, row: &RowRef<'_>, shape: Shape) -> DbError {
    let counts = [
        ("dims", row.dims.len(), shape.dims),
        ("counters", row.counters.len(), shape.counters),
        ("labels", row.labels.len(), shape.labels),
    ];
    for (role, found, wanted) in counts {
        if found != wanted {
            return DbError::invalid(role, format!("event {place} has {found} {role}, the table {wanted}"));
        }
    }
    let id = std::iter::once(("id", 0, row.id.len(), MAX_KEY_BYTES));
    let dims = row.dims.iter().enumerate().map(|(dim, text)| ("dim", dim, text.len(), MAX_KEY_BYTES));
    let labels =
        row.labels.iter().enumerate().map(|(label, text)| ("label", label, text.len(), MAX_LABEL_BYTES));
    for (role, column, bytes, max) in id.chain(dims).chain(labels) {
        if bytes > max {
            let why =
                format!("event {place} has {bytes} bytes in column {column}, at most {max} are possible");
            return DbError::invalid(role, why);
        }
    }
    let event_bytes = encoded_bytes(row);
    let why = format!("event {place} has {event_bytes} bytes, at most {MAX_EVENT_BYTES} are possible");
    DbError::invalid("event", why)
}

/// What an event takes in a frame: its numbers, and a length with each string. An event of empty strings counts too, or a
/// batch of very many of them would pass and its frame not fit.
#[inline]
pub(crate) fn encoded_bytes(row: &RowRef<'_>) -> usize {
    let lengths = 4 * (row.counters.len() + 1 + row.dims.len() + row.labels.len());
    let bytes = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    EVENT_NUMBER_BYTES + lengths + row.id.len() + bytes(row.dims) + bytes(row.labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::LogEvent;

    #[test]
    fn the_batch_limit_counts_encoded_bytes_also_of_empty_strings() {
        let shape = Shape { dims: 3, counters: 2, labels: 1 };
        let mut largest = LogEvent::<3, 2, 1> { counters: [u32::MAX; 2], ..LogEvent::default() };
        for text in ["", "x", "a longer one than the others"] {
            largest.dims = [text.to_owned(), String::new(), text.repeat(2)];
            largest.labels = [text.repeat(3)];
            let row = largest.as_row();
            let rows = std::iter::repeat_n(row, 1000);
            let mut frame = Vec::new();
            Block::for_rows(shape, rows).encode(&mut frame);
            let counted = 1000 * encoded_bytes(&row);
            assert!(counted >= frame.len(), "{counted} counted, {} encoded", frame.len());
            assert!(counted < frame.len() + frame.len() / 10, "{counted} counted, {} encoded", frame.len());
        }
        let empty = LogEvent::<3, 2, 1>::default();
        let fits = MAX_BATCH_BYTES / encoded_bytes(&empty.as_row());
        assert!(check(std::iter::repeat_n(empty.as_row(), fits), shape).is_ok());
        let error = check(std::iter::repeat_n(empty.as_row(), fits + 1), shape).unwrap_err();
        assert!(error.to_string().starts_with("batch is not legal"), "{error}");
    }
}
