//! What lies between a published lake and the last event: rows that the lake does not have yet, and the entities whose rows in it
//! no longer count.
//!
//! At an instant a published row of an entity is what it would be if the entity were folded anew, unless an event behind the lake's
//! checkpoint counts at the instant: one that happened later does not change what was true then, and one that came in later does not
//! change what was known then, as rows that are known no more stay in the lake with the time at which that ended. So only entities with
//! such an event are *touched*. These are folded from their whole history, by the function that makes the lake's own rows.
//!
//! A sequence is not a time. Where the instant is a sequence within a millisecond, later events of that millisecond are known by the
//! lake at the same time as those that count, and what was between them is in no row; their entities are touched too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use keplordb::Filter;
use keplordb::aggregates::{count, max};
use thiserror::Error;

use super::entities::rows_of;
use super::manifest::Table;
use super::parquet::Rows as FileRows;
use super::pinned::{PinnedLake, Wanted};
use super::rows::{CurrentRow, EventRow, Row, VersionRow};
use crate::entity::{Instant, LogInstant};
use crate::error::{Refused, ServerError};
use crate::log::EntityLog;
use crate::record::Event;

/// Rows that are made a batch at a time.
const BATCH_ROWS: usize = 1024;
/// Events that are read at a time.
const CHUNK_EVENTS: usize = 4096;
/// Entities whose events are looked for at a time: a search per entity would look at every segment's filters each time.
const CHUNK_ENTITIES: usize = 256;
/// Bytes of such events; where they have more, fewer entities are taken at a time.
const CHUNK_BYTES: usize = 16 << 20;
/// What a name of a touched entity takes besides its text.
const NAME_BYTES: usize = 64;
/// Nanoseconds of a millisecond.
const MS_NS: i64 = 1_000_000;

/// Why what was not published yet cannot be folded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// Too many events.
    #[error(
        "more than {limit} events came in since the last publication, which is as many as a question folds by itself \
         (`overlay_events`): publish (a server does so by itself every few seconds), or ask for one `id`"
    )]
    Events {
        /// How many may.
        limit: usize,
    },
    /// Their rows take too much memory.
    #[error(
        "the rows of what came in since the last publication take more than {limit} bytes, which is as much as a question may \
         hold of them (`overlay_bytes`): publish (a server does so by itself every few seconds), or ask for one `id`"
    )]
    Bytes {
        /// How many bytes.
        limit: usize,
    },
    /// One entity has too long a history.
    #[error(
        "the events of {entity_type} {entity_id:?} take more than {limit} bytes, which is as much as a question may hold of them \
         (`overlay_bytes`), and one of them is not published yet: publish (a server does so by itself every few seconds)"
    )]
    History {
        /// Its type.
        entity_type: String,
        /// Its id.
        entity_id: String,
        /// How many bytes.
        limit: usize,
    },
    /// The log no longer has all of an entity that must be folded.
    #[error(
        "the log has {found} of the {published} published events of {entity_type} {entity_id:?}, and one came in since: publish \
         (a server does so by itself every few seconds), and ask again"
    )]
    Dropped {
        /// Its type.
        entity_type: String,
        /// Its id.
        entity_id: String,
        /// How many it has.
        found: u64,
        /// How many are published.
        published: u64,
    },
    /// The log has later events than the files, and not the last one of theirs.
    #[error(
        "the files go up to event {checkpoint_seq}, which the log does not have, and it has later ones, so nothing says whether they are \
         its own: publish (a server does so by itself every few seconds), and ask again"
    )]
    Unknown {
        /// The sequence of their last event.
        checkpoint_seq: u64,
    },
    /// Nobody waits for the answer any more.
    #[error("the question was given up")]
    Ended,
    /// All questions together take too much memory.
    #[error(
        "what came in since the last publication does not fit into the memory of all questions together (`memory_bytes`): ask again \
         when fewer ask, or publish (a server does so by itself every few seconds), or ask for one `id`; {0}"
    )]
    Memory(
        /// Which asked for how much; no source, for what is said here is more than that a limit was met.
        String,
    ),
    /// An event of the log cannot be made a row, or an array cannot be made of rows.
    #[error(transparent)]
    Row(#[from] ServerError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] Refused),
    /// Rows that are no batch: a mistake of this program.
    #[error("rows cannot be made columns: {0}; report it")]
    Columns(#[from] arrow::error::ArrowError),
}

type Result<T> = std::result::Result<T, OverlayError>;

/// How much may wait to be published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverlayLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// What an overlay may take, and whether it is wanted.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) limits: OverlayLimits,
    /// Of all questions together; it grows by what the overlay holds.
    pub(crate) memory: &'a MemoryReservation,
    /// Set when nobody waits for it any more.
    pub(crate) is_ended: &'a AtomicBool,
}

impl Work<'_> {
    fn go_on(&self) -> Result<()> {
        if self.is_ended.load(Ordering::Relaxed) { Err(OverlayError::Ended) } else { Ok(()) }
    }

    /// Holds more bytes, of rows or of names.
    fn take(&self, bytes: usize) -> Result<()> {
        if self.memory.size().saturating_add(bytes) > self.limits.bytes {
            return Err(OverlayError::Bytes { limit: self.limits.bytes });
        }
        self.memory.try_grow(bytes).map_err(memory)
    }
}

/// Entities by their types.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touched(BTreeMap<String, BTreeSet<String>>);

impl Touched {
    fn insert(&mut self, entity_type: &str, entity_id: &str, work: &Work<'_>) -> Result<()> {
        if !self.has(entity_type, entity_id) {
            work.take(entity_id.len() + NAME_BYTES)?;
            self.0.entry(entity_type.to_owned()).or_default().insert(entity_id.to_owned());
        }
        Ok(())
    }

    pub(crate) fn has(&self, entity_type: &str, entity_id: &str) -> bool {
        self.0.get(entity_type).is_some_and(|ids| ids.contains(entity_id))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is to be put over a lake's table.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// Rows of the same table; of the entity tables at an instant only those that hold then, deletes too.
    pub(crate) batches: Vec<RecordBatch>,
    /// Whose rows in the lake do not count.
    pub(crate) touched: Touched,
    /// Up to when what came in counts, in milliseconds since the Unix epoch: the instant's own limit, and that of its sequence.
    pub(crate) known_at_ms: Option<i64>,
}

/// What is asked of a table of the lake.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    pub(crate) table: Table,
    /// The last event that there is for the question.
    pub(crate) head: u64,
    pub(crate) at: LogInstant,
    /// Whether rows say more of themselves than what held at the instant, such as until when: then a touched entity is one with any
    /// event behind the checkpoint.
    pub(crate) is_whole_row: bool,
    pub(crate) wanted: &'a Wanted,
}

/// What is to be put over a lake's table for a question. It reads, and blocks.
pub(crate) fn overlay(
    log: &EntityLog,
    lake: &PinnedLake,
    question: &Question<'_>,
    work: &Work<'_>,
) -> Result<Overlay> {
    let mut at = question.at;
    // One that is at the end or behind it is none.
    at.sequence = at.sequence.filter(|last| *last < question.head);
    let known_at_ms = match at.sequence {
        None => at.instant.known_at_ms,
        Some(last) => {
            let came_ms = came_in_ms(log, last)?.unwrap_or(i64::MIN);
            Some(at.instant.known_at_ms.map_or(came_ms, |known_at_ms| known_at_ms.min(came_ms)))
        }
    };
    let mut overlay = Overlay { batches: Vec::new(), touched: Touched::default(), known_at_ms };
    if question.wanted.is_nothing() {
        return Ok(overlay);
    }
    let last = at.sequence.unwrap_or(question.head);
    if question.table == Table::Events {
        overlay.batches = waiting_events(log, lake, question, last, work)?;
        return Ok(overlay);
    }
    touch_waiting(log, lake, question, last, work, &mut overlay.touched)?;
    if let (Some(last), Some(known_at_ms)) = (at.sequence, known_at_ms) {
        touch_within_ms(log, question, last, known_at_ms, work, &mut overlay.touched)?;
    }
    if overlay.touched.is_empty() {
        return Ok(overlay);
    }
    check_whole(log, lake, &overlay.touched, work)?;
    overlay.batches = match question.table {
        Table::Current => {
            let mut rows = Rows::<CurrentRow>::new(work);
            each_entity(log, &overlay.touched, last, work, &mut |events| {
                let entity = rows_of(&events, &mut |_| Ok(()))?;
                entity.and_then(|entity| entity.current).map_or(Ok(()), |row| rows.push(row))
            })?;
            rows.end()?
        }
        Table::Versions | Table::Events => {
            let is_wanted =
                |row: &VersionRow| question.at.is_now() || holds(row, at.instant.as_of_ms, known_at_ms);
            let mut rows = Rows::<VersionRow>::new(work);
            each_entity(log, &overlay.touched, last, work, &mut |events| {
                let mut failed = Ok(());
                let entity = rows_of(&events, &mut |row| {
                    if is_wanted(&row) {
                        failed = rows.push(row);
                    }
                    // It ends; why is said below.
                    if failed.is_err() { Err(ServerError::Stopping) } else { Ok(()) }
                });
                failed?;
                let frontier = entity?.map(|entity| entity.frontier).filter(is_wanted);
                frontier.map_or(Ok(()), |row| rows.push(row))
            })?;
            rows.end()?
        }
    };
    Ok(overlay)
}

/// Rows on their way into batches.
struct Rows<'a, R> {
    rows: Vec<R>,
    batches: Vec<RecordBatch>,
    work: &'a Work<'a>,
}

impl<'a, R: Row> Rows<'a, R> {
    fn new(work: &'a Work<'a>) -> Self {
        Self { rows: Vec::new(), batches: Vec::new(), work }
    }

    fn push(&mut self, row: R) -> Result<()> {
        self.work.take(row.bytes())?;
        self.rows.push(row);
        if self.rows.len() < BATCH_ROWS { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if !rows.is_empty() {
            self.batches.push(RecordBatch::try_new(R::schema(), R::encode(&rows))?);
        }
        Ok(())
    }

    fn end(mut self) -> Result<Vec<RecordBatch>> {
        self.write()?;
        Ok(self.batches)
    }
}

/// Refuses to fold entities of which the log has only a part: their versions in the files say how many events they had.
fn check_whole(log: &EntityLog, lake: &PinnedLake, touched: &Touched, work: &Work<'_>) -> Result<()> {
    let Some(checkpoint) = lake.checkpoint() else { return Ok(()) };
    let c = Event::cols();
    let published = || c.sequence.le(signed(checkpoint));
    let (found,) = log.query(published()).select((count(),)).one().map_err(|error| Refused::from(&error))?;
    if found >= lake.events() {
        return Ok(());
    }
    for (entity_type, ids) in &touched.0 {
        let mut missing: BTreeMap<&str, u64> = BTreeMap::new();
        for path in lake.frontiers(entity_type, ids) {
            for row in FileRows::<VersionRow>::open(&path)? {
                work.go_on()?;
                let row = row?;
                if let Some(id) = ids.get(&row.entity_id) {
                    missing.insert(id, row.version);
                }
            }
        }
        let known: Vec<&str> = missing.keys().copied().collect();
        for known in known.chunks(CHUNK_ENTITIES) {
            work.go_on()?;
            let of_these = c.entity_type.eq(entity_type) & c.entity_id.in_(known.iter().copied());
            let by_id = log.query(of_these & published()).group_by(c.entity_id).select((count(),));
            for group in &by_id.fetch().map_err(|error| Refused::from(&error))? {
                if let Some(id) = ids.get(group.key()) {
                    let (found,) = group.values();
                    let published = missing.remove(id.as_str()).unwrap_or(0);
                    if found < published {
                        missing.insert(id, published - found);
                    }
                }
            }
        }
        if let Some((id, missing)) = missing.into_iter().next() {
            let (entity_type, entity_id) = (entity_type.clone(), id.to_owned());
            let filter = c.entity_type.eq(&entity_type) & c.entity_id.eq(id) & published();
            let (found,) =
                log.query(filter).select((count(),)).one().map_err(|error| Refused::from(&error))?;
            return Err(OverlayError::Dropped { entity_type, entity_id, found, published: found + missing });
        }
    }
    Ok(())
}

fn memory(error: DataFusionError) -> OverlayError {
    OverlayError::Memory(error.message().into_owned())
}

/// Gives all events of each touched entity up to a sequence, in the order of their sequences.
fn each_entity(
    log: &EntityLog,
    touched: &Touched,
    last: u64,
    work: &Work<'_>,
    each: &mut dyn FnMut(Vec<EventRow>) -> Result<()>,
) -> Result<()> {
    for (entity_type, ids) in &touched.0 {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut waiting: Vec<&[&str]> = ids.chunks(CHUNK_ENTITIES).collect();
        // Events are held for a short time only, and do not count with the rows that are made of them.
        let held = work.memory.new_empty();
        while let Some(ids) = waiting.pop() {
            work.go_on()?;
            let limit = if ids.len() > 1 { CHUNK_BYTES.min(work.limits.bytes) } else { work.limits.bytes };
            match (events_of(log, entity_type, ids, last, limit, work)?, ids) {
                (Some((mut events, bytes)), _) => {
                    held.try_resize(bytes).map_err(memory)?;
                    events
                        .sort_unstable_by(|a, b| (&a.entity_id, a.sequence).cmp(&(&b.entity_id, b.sequence)));
                    let mut events = events.into_iter().peekable();
                    while let Some(first) = events.next() {
                        work.go_on()?;
                        let mut history = vec![first];
                        while let Some(next) = events.next_if(|next| next.entity_id == history[0].entity_id) {
                            history.push(next);
                        }
                        each(history)?;
                    }
                }
                (None, [entity_id]) => {
                    let (entity_type, entity_id) = (entity_type.clone(), (*entity_id).to_owned());
                    return Err(OverlayError::History { entity_type, entity_id, limit });
                }
                (None, ids) => {
                    let (these, those) = ids.split_at(ids.len() / 2);
                    waiting.extend([these, those]);
                }
            }
        }
    }
    Ok(())
}

/// The events of some entities up to a sequence, in no order, with their bytes; `None` where these are more than may be.
fn events_of(
    log: &EntityLog,
    entity_type: &str,
    ids: &[&str],
    last: u64,
    bytes_max: usize,
    work: &Work<'_>,
) -> Result<Option<(Vec<EventRow>, usize)>> {
    let c = Event::cols();
    let filter =
        c.entity_type.eq(entity_type) & c.entity_id.in_(ids.iter().copied()) & c.sequence.le(signed(last));
    let (mut events, mut bytes) = (Vec::new(), 0_usize);
    let mut failed = Ok(());
    let each = |row: <Event as keplordb::Schema>::View<'_>| {
        let event = row.into_row().map_err(|error| Refused::from(&error).into());
        let event = event.and_then(|row| EventRow::of_log(&row).map_err(OverlayError::from));
        match event {
            Ok(event) => {
                bytes = bytes.saturating_add(event.bytes());
                events.push(event);
            }
            Err(error) => failed = Err(error),
        }
        failed = std::mem::replace(&mut failed, Ok(())).and_then(|()| work.go_on());
        if failed.is_err() || bytes > bytes_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    log.query(filter).each(each).map_err(|error| Refused::from(&error))?;
    failed?;
    Ok((bytes <= bytes_max).then_some((events, bytes)))
}

/// Whether a version is what was so, by what was known; `None` is for ever.
fn holds(row: &VersionRow, as_of_ms: Option<i64>, known_at_ms: Option<i64>) -> bool {
    let within = |at: Option<i64>, from: i64, to: Option<i64>| match at {
        None => to.is_none(),
        Some(at) => from <= at && to.is_none_or(|to| at < to),
    };
    within(as_of_ms, row.valid_from_ms, row.valid_to_ms)
        && within(known_at_ms, row.known_from_ms, row.known_to_ms)
}

fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

/// The events behind the checkpoint that are wanted, up to a sequence.
fn waiting(lake: &PinnedLake, wanted: &Wanted, last: u64) -> Filter<Event> {
    let c = Event::cols();
    let after = lake.checkpoint().map_or(-1, signed);
    wanted.selection().filter() & c.sequence.gt(after) & c.sequence.le(signed(last))
}

/// When the last event up to a sequence came in.
fn came_in_ms(log: &EntityLog, last: u64) -> Result<Option<i64>> {
    let c = Event::cols();
    let (came_ns,) = log
        .query(c.sequence.le(signed(last)))
        .select((max(c.metric),))
        .one()
        .map_err(|error| Refused::from(&error))?;
    Ok(came_ns.map(|came_ns: i64| came_ns.div_euclid(MS_NS)))
}

/// Touches the entities of events that wait to be published and count.
fn touch_waiting(
    log: &EntityLog,
    lake: &PinnedLake,
    question: &Question<'_>,
    last: u64,
    work: &Work<'_>,
    touched: &mut Touched,
) -> Result<()> {
    let Instant { as_of_ms, known_at_ms } = question.at.instant;
    let within =
        |time_ns: i64, limit_ms: Option<i64>| limit_ms.is_none_or(|limit| time_ns.div_euclid(MS_NS) <= limit);
    let until = if question.is_whole_row { question.head } else { last };
    let mut events = 0;
    each_named(log, waiting(lake, question.wanted, until), work, &mut |row| {
        events += 1;
        if events > work.limits.events {
            return Err(OverlayError::Events { limit: work.limits.events });
        }
        let is_seen = within(row.ts_ns(), as_of_ms) && within(row.metric(), known_at_ms);
        if question.is_whole_row || is_seen {
            touched.insert(row.entity_type(), row.entity_id(), work)?;
        }
        Ok(())
    })
}

/// Touches the entities of events that came in behind a sequence and within its millisecond.
fn touch_within_ms(
    log: &EntityLog,
    question: &Question<'_>,
    last: u64,
    came_ms: i64,
    work: &Work<'_>,
    touched: &mut Touched,
) -> Result<()> {
    let c = Event::cols();
    let (from_ns, to_ns) = (came_ms.saturating_mul(MS_NS), came_ms.saturating_add(1).saturating_mul(MS_NS));
    let filter = question.wanted.selection().filter()
        & c.metric.ge(from_ns)
        & c.metric.lt(to_ns)
        & c.sequence.gt(signed(last))
        & c.sequence.le(signed(question.head));
    each_named(log, filter, work, &mut |row| touched.insert(row.entity_type(), row.entity_id(), work))
}

/// Gives each event to a function until that fails or nobody waits any more.
fn each_named(
    log: &EntityLog,
    filter: Filter<Event>,
    work: &Work<'_>,
    each: &mut dyn FnMut(<Event as keplordb::Schema>::View<'_>) -> Result<()>,
) -> Result<()> {
    let mut done = Ok(());
    log.query(filter)
        .each(|row| {
            done = work.go_on().and_then(|()| each(row));
            if done.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .map_err(|error| Refused::from(&error))?;
    done
}

/// Rows of `_events` that wait to be published.
fn waiting_events(
    log: &EntityLog,
    lake: &PinnedLake,
    question: &Question<'_>,
    last: u64,
    work: &Work<'_>,
) -> Result<Vec<RecordBatch>> {
    let mut sequences = Vec::new();
    each_named(log, waiting(lake, question.wanted, last), work, &mut |row| {
        sequences.push(row.sequence());
        let limit = work.limits.events;
        if sequences.len() > limit { Err(OverlayError::Events { limit }) } else { Ok(()) }
    })?;
    sequences.sort_unstable();
    let Instant { as_of_ms, known_at_ms } = question.at.instant;
    let within = |time_ms: i64, limit_ms: Option<i64>| limit_ms.is_none_or(|limit_ms| time_ms <= limit_ms);
    let mut made = Rows::<EventRow>::new(work);
    for chunk in sequences.chunks(CHUNK_EVENTS) {
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { continue };
        let c = Event::cols();
        let filter = question.wanted.selection().filter()
            & c.sequence.ge(signed(*first))
            & c.sequence.le(signed(*last));
        let mut events = Vec::new();
        each_named(log, filter, work, &mut |row| {
            let row = row.into_row().map_err(|error| Refused::from(&error))?;
            let event = EventRow::of_log(&row)?;
            if within(event.event_time_ms, as_of_ms) && within(event.received_at_ms, known_at_ms) {
                work.take(event.bytes())?;
                events.push(event);
            }
            Ok(())
        })?;
        events.sort_unstable_by_key(|event| event.sequence);
        for event in events {
            // It was counted above, before all of a chunk were in memory.
            work.memory.shrink(event.bytes());
            made.push(event)?;
        }
    }
    made.end()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
    use keplordb::Store;
    use proptest::collection::{btree_set, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::super::columns::Columns;
    use super::super::tests::{append, drawn, naive};
    use super::super::{Lake, LakeOptions};
    use super::*;
    use crate::entity::{EntityEvent, fold};
    use crate::log::Selection;
    use crate::schema::Schemas;

    const LIMITS: OverlayLimits = OverlayLimits { events: 1000, bytes: 1 << 20 };

    fn reservation() -> MemoryReservation {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        MemoryConsumer::new("a test").register(&pool)
    }

    /// What the files and the overlay have together, as a plan takes it of them.
    fn asked<R: Row + 'static>(log: &EntityLog, lake: &PinnedLake, question: &Question<'_>) -> Vec<R> {
        let memory = reservation();
        let work = Work { limits: LIMITS, memory: &memory, is_ended: &AtomicBool::new(false) };
        let overlay = overlay(log, lake, question, &work).unwrap();
        let untouched = |row: &VersionRow| !overlay.touched.has(&row.entity_type, &row.entity_id);
        let at = question.at;
        let counts = |row: &R| -> bool {
            let row: &dyn std::any::Any = row;
            if let Some(row) = row.downcast_ref::<VersionRow>() {
                untouched(row) && (at.is_now() || holds(row, at.instant.as_of_ms, overlay.known_at_ms))
            } else if let Some(row) = row.downcast_ref::<CurrentRow>() {
                !overlay.touched.has(&row.entity_type, &row.entity_id)
            } else {
                let row = row.downcast_ref::<EventRow>().unwrap();
                at.sequence.is_none_or(|last| row.sequence <= last)
                    && at.instant.as_of_ms.is_none_or(|as_of_ms| row.event_time_ms <= as_of_ms)
                    && overlay.known_at_ms.is_none_or(|known_at_ms| row.received_at_ms <= known_at_ms)
            }
        };
        let mut rows: Vec<R> = Vec::new();
        for (path, _) in lake.files(question.table, &at, question.wanted) {
            rows.extend(FileRows::<R>::open(&path).unwrap().map(std::result::Result::unwrap).filter(&counts));
        }
        for batch in &overlay.batches {
            rows.extend(R::decode(Columns { batch, file: Path::new("overlay") }).unwrap());
        }
        rows.retain(|row| {
            let row: &dyn std::any::Any = row;
            let of = row
                .downcast_ref::<VersionRow>()
                .map(|row| (&row.entity_type, &row.entity_id))
                .or_else(|| row.downcast_ref::<CurrentRow>().map(|row| (&row.entity_type, &row.entity_id)))
                .or_else(|| row.downcast_ref::<EventRow>().map(|row| (&row.entity_type, &row.entity_id)));
            is_wanted(question.wanted, of.unwrap())
        });
        rows.sort_by(Row::compare);
        rows
    }

    fn is_wanted(wanted: &Wanted, (entity_type, entity_id): (&String, &String)) -> bool {
        wanted.types.as_ref().is_none_or(|types| types.contains(entity_type))
            && wanted.ids.as_ref().is_none_or(|ids| ids.contains(entity_id))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Of every table at any instant, whatever was published in between: what the log's events say that the instant sees.
        #[test]
        fn files_and_overlay_have_what_the_events_say(
            batches in vec((vec(drawn(), 0..10), 0..3_u8), 1..7),
            bucket_bytes_max in prop_oneof![Just(1_u64), Just(1 << 20)],
            questions in vec(
                (
                    option::of(-1..14_i64),
                    option::of(-1..50_i64),
                    option::of(0..60_u64),
                    option::of(btree_set(prop::sample::select(vec!["User", "Order", "None"]), 0..3)),
                    option::of(btree_set(prop::sample::select(vec!["id 0", "id 1", "id 2", "id 3", "id 9"]), 0..4)),
                ),
                1..12,
            ),
        ) {
            let options = LakeOptions::default().with_bucket_bytes_max(bucket_bytes_max).with_grace(Duration::ZERO);
            let dir = tempfile::tempdir().unwrap();
            let store = Arc::new(Store::<Event>::open(dir.path().join("segments")).unwrap());
            let mut lake = Lake::open(dir.path(), options).unwrap();
            let mut received_ms = 0;
            for (events, then) in batches {
                append(&store, &events, &mut received_ms);
                if then > 0 {
                    lake.publish(&store, &Schemas::default()).unwrap();
                }
                if then > 1 {
                    lake.compact().unwrap();
                }
            }
            let pinned = PinnedLake::open(dir.path()).unwrap();
            let log = EntityLog::own(Arc::clone(&store));
            let all = log.events(&Selection::default(), None, usize::MAX).unwrap();
            let head = log.head(&log.types().unwrap()).unwrap();
            prop_assert_eq!(head, all.last().map(|event| event.sequence));
            prop_assert!(pinned.is_of(&log, head).unwrap());
            let now = (None, None, None, None, None);
            for (as_of_ms, known_at_ms, sequence, types, ids) in questions.into_iter().chain([now]) {
                let texts = |all: Option<BTreeSet<&str>>| all.map(|all| all.into_iter().map(str::to_owned).collect());
                let wanted = Wanted { types: texts(types), ids: texts(ids) };
                let at = LogInstant { instant: Instant { as_of_ms, known_at_ms }, sequence };
                let sees = |event: &EntityEvent| {
                    at.instant.sees(event)
                        && sequence.is_none_or(|last| event.sequence <= last)
                        && is_wanted(&wanted, (&event.entity_type, &event.entity_id))
                };
                let ask = |table, at, is_whole_row| Question { table, head: head.unwrap_or(0), at, is_whole_row, wanted: &wanted };

                let events: Vec<u64> = asked::<EventRow>(&log, &pinned, &ask(Table::Events, at, false)).iter().map(|row| row.sequence).collect();
                let mut seen: Vec<EntityEvent> = all.iter().filter(|event| sees(event)).cloned().collect();
                let found: BTreeSet<u64> = events.iter().copied().collect();
                prop_assert_eq!(found.len(), events.len());
                prop_assert_eq!(found, seen.iter().map(|event| event.sequence).collect::<BTreeSet<_>>());

                seen.sort_by(|a, b| {
                    (&a.entity_type, &a.entity_id, a.order()).cmp(&(&b.entity_type, &b.entity_id, b.order()))
                });
                let state = |event: &EntityEvent, history: &[EntityEvent]| {
                    let fold = fold(history);
                    let state = fold.state().map(|state| serde_json::Value::Object(state.clone()).to_string());
                    (event.entity_type.clone(), event.entity_id.clone(), fold.version(), event.sequence, state)
                };
                let held: Vec<_> = seen
                    .chunk_by(|a, b| (&a.entity_type, &a.entity_id) == (&b.entity_type, &b.entity_id))
                    .filter_map(|history| Some(state(history.last()?, history)))
                    .collect();
                let (_, current, versions) = naive(&store);
                if at.is_now() {
                    let live: Vec<_> = current.into_iter().filter(|row| is_wanted(&wanted, (&row.entity_type, &row.entity_id))).collect();
                    prop_assert_eq!(asked::<CurrentRow>(&log, &pinned, &ask(Table::Current, at, false)), live);
                    let whole: Vec<_> = versions.into_iter().filter(|row| is_wanted(&wanted, (&row.entity_type, &row.entity_id))).collect();
                    prop_assert_eq!(asked::<VersionRow>(&log, &pinned, &ask(Table::Versions, at, true)), whole);
                } else {
                    for is_whole_row in [false, true] {
                        let mut found: Vec<_> = asked::<VersionRow>(&log, &pinned, &ask(Table::Versions, at, is_whole_row))
                            .into_iter()
                            .map(|row| (row.entity_type, row.entity_id, row.version, row.sequence, row.state))
                            .collect();
                        found.sort();
                        prop_assert_eq!(found, held.clone(), "{:?}", at);
                    }
                }
            }
        }
    }

    /// Where a part of the log was dropped, entities of which all events are there are folded as ever, and no others.
    #[test]
    fn of_a_log_with_a_part_dropped_what_is_whole_is_folded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::<Event>::open(dir.path().join("segments")).unwrap());
        let mut lake = Lake::open(dir.path(), LakeOptions::default()).unwrap();
        let mut received_ms = 0;
        append(
            &store,
            &[(0, 0, 0, 1, 1, 0, None), (0, 1, 0, 1, 1, 0, None), (0, 0, 1, 2, 1, 1, None)],
            &mut received_ms,
        );
        lake.publish(&store, &Schemas::default()).unwrap();
        let c = Event::cols();
        assert_eq!(store.delete_where(&(c.entity_id.eq("id 0") & c.status.eq(1))).unwrap(), 1);
        append(&store, &[(0, 1, 1, 2, 1, 1, None)], &mut received_ms);
        let (log, lake) = (EntityLog::own(Arc::clone(&store)), PinnedLake::open(dir.path()).unwrap());
        let wanted = Wanted::default();
        let question = || {
            let head = log.head(&log.types().unwrap()).unwrap().unwrap();
            Question {
                table: Table::Current,
                head,
                at: LogInstant::default(),
                is_whole_row: false,
                wanted: &wanted,
            }
        };
        let found = asked::<CurrentRow>(&log, &lake, &question());
        let found: Vec<_> = found.iter().map(|row| (row.entity_id.as_str(), row.version)).collect();
        assert_eq!(found, [("id 0", 2), ("id 1", 2)]);
        append(&store, &[(0, 0, 1, 3, 1, 2, None)], &mut received_ms);
        let memory = reservation();
        let work = Work { limits: LIMITS, memory: &memory, is_ended: &AtomicBool::new(false) };
        let error = overlay(&log, &lake, &question(), &work).unwrap_err();
        assert!(matches!(error, OverlayError::Dropped { found: 1, published: 2, .. }), "{error}");
    }

    #[test]
    fn nothing_is_done_for_nobody_and_no_more_than_is_granted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::<Event>::open(dir.path().join("segments")).unwrap());
        let events: Vec<_> = (0..5).map(|id| (0, id, 0, 1, 1, 0, None)).collect();
        append(&store, &events, &mut 0);
        let (log, lake) = (EntityLog::own(store), PinnedLake::nothing());
        let wanted = Wanted::default();
        let failed = |table, limits, ended: bool| {
            let question =
                Question { table, head: 5, at: LogInstant::default(), is_whole_row: false, wanted: &wanted };
            let memory = reservation();
            let work = Work { limits, memory: &memory, is_ended: &AtomicBool::new(ended) };
            overlay(&log, &lake, &question, &work).unwrap_err()
        };
        for table in Table::ALL {
            assert!(matches!(failed(table, LIMITS, true), OverlayError::Ended), "{table:?}");
            let four = OverlayLimits { events: 4, ..LIMITS };
            assert!(matches!(failed(table, four, false), OverlayError::Events { limit: 4 }), "{table:?}");
            let error = failed(table, OverlayLimits { bytes: 2000, ..LIMITS }, false).to_string();
            assert!(error.contains("2000 bytes") && error.contains("publish"), "{table:?}: {error}");
        }
    }
}
