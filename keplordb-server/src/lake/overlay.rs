//! What lies between a published lake and the last event: rows that the lake does not have yet, and the entities whose rows in it
//! no longer count.
//!
//! The log may have dropped events by age or size. What was published of them the files have, and there they are read; what was not
//! published is lost, and then there is no answer rather than one without it.
//!
//! At an instant a published row of an entity is what it would be if the entity were folded anew, unless an event behind the lake's
//! checkpoint counts at the instant: one that happened later does not change what was true then, and one that came in later does not
//! change what was known then, as rows that are known no more stay in the lake with the time at which that ended. So only entities with
//! such an event are *touched*. These are folded from their whole history, and become the rows that the lake would have of them.
//!
//! A sequence is not a time. Where the instant is a sequence within a millisecond, later events of that millisecond are known by the
//! lake at the same time as those that count, and what was between them is in no row; their entities are touched too. And a row says until when it was known by all events that are
//! published, of which those behind the sequence do not count ([`Overlay::came_in_ms`]).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use keplordb::aggregates::{count, max};
use keplordb::{Filter, Gap};
use thiserror::Error;

use super::entities::{current_of, held_at, rows_of};
use super::manifest::Table;
use super::parquet::Rows as FileRows;
use super::pinned::{PinnedLake, Wanted};
use super::rows::{CurrentRow, EventRow, Row, VersionRow};
use crate::entity::{EntityEvent, Instant, LogInstant};
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
    /// Events were dropped before they were published.
    #[error(
        "the log has dropped events with sequences from {first} to {last} before they were published, so neither it nor the files have \
         them: bring back the log from a copy; or publish later ones (a server does so by itself every few seconds after they came in), \
         which goes on without them"
    )]
    Missing {
        /// The sequence of the first one that may be missing.
        first: u64,
        /// That of the last one, which is.
        last: u64,
    },
    /// Neither the log nor the files have all of an entity that must be folded.
    #[error(
        "the log has not all of the {published} published events of {entity_type} {entity_id:?}, and the files have {found} of them: \
         bring back the log from a copy, and let `keplor replay` make the files anew"
    )]
    Dropped {
        /// Its type.
        entity_type: String,
        /// Its id.
        entity_id: String,
        /// How many the files have.
        found: u64,
        /// How many are published.
        published: u64,
    },
    /// The log has later events than the files, and not the last one of theirs.
    #[error(
        "the files go up to event {checkpoint_seq}, which the log does not have, and it has later ones, so nothing says whether they are \
         its own: bring back the log of which they were made; or `keplor replay` makes all files anew from the one that is there, where that \
         has as many events; else `keplor backup` and `restore` give that a root of its own, without published files"
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
        "what a question reads of the log (events that are not published yet, those of one entity) does not fit into the memory of all \
         questions together (`memory_bytes`): ask again when fewer ask, or for one `id`, or publish (a server does so by itself every \
         few seconds); {0}"
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
        self.memory.try_grow(bytes).map_err(|error| memory(&error))
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
    /// When the last event came in that the instant's sequence lets count; `None` where that is no limit. Until when a row of the lake
    /// was known counts only up to then: what came later does not change what is said of a sequence.
    pub(crate) came_in_ms: Option<i64>,
}

/// What is asked of a table of the lake.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    pub(crate) table: Table,
    /// The last event that there is for the question.
    pub(crate) head: u64,
    pub(crate) at: LogInstant,
    /// Whether rows say more of themselves than what held at the instant, such as until when: then a touched entity is one with any
    /// event behind the checkpoint, up to the sequence.
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
    loop {
        let gaps = log.gaps();
        let overlay = overlay_once(log, lake, question, work)?;
        // What was dropped meanwhile was perhaps looked for in the log after that, and in the files before.
        if log.gaps() == gaps {
            return Ok(overlay);
        }
        work.memory.free();
    }
}

fn overlay_once(
    log: &EntityLog,
    lake: &PinnedLake,
    question: &Question<'_>,
    work: &Work<'_>,
) -> Result<Overlay> {
    work.go_on()?;
    let mut at = question.at;
    // One that is at the end or behind it is none.
    at.sequence = at.sequence.filter(|last| *last < question.head);
    let last = at.sequence.unwrap_or(question.head);
    check_missing(log, lake, last)?;
    let came_in_ms = match at.sequence {
        None => None,
        Some(last) => Some(came_in_ms(log, lake, last, work)?.unwrap_or(i64::MIN)),
    };
    let known_at_ms = at.instant.known_at_ms.into_iter().chain(came_in_ms).min();
    let mut overlay = Overlay { batches: Vec::new(), touched: Touched::default(), known_at_ms, came_in_ms };
    if question.wanted.is_nothing() {
        return Ok(overlay);
    }
    if question.table == Table::Events {
        overlay.batches = waiting_events(log, lake, question, last, work)?;
        return Ok(overlay);
    }
    touch_waiting(log, lake, question, last, work, &mut overlay.touched)?;
    if let Some(came_ms) = came_in_ms {
        touch_within_ms(log, lake, question, (last, came_ms), work, &mut overlay.touched)?;
    }
    if overlay.touched.is_empty() {
        return Ok(overlay);
    }
    let go_on = || work.go_on();
    overlay.batches = match question.table {
        Table::Current => {
            let mut rows = Rows::<CurrentRow>::new(work);
            each_entity(log, lake, &overlay.touched, last, work, &mut |events| {
                current_of(events, go_on)?.map_or(Ok(()), |row| rows.push(row))
            })?;
            rows.end()?
        }
        Table::Versions | Table::Events if question.at.is_now() => {
            let mut rows = Rows::<VersionRow>::new(work);
            each_entity(log, lake, &overlay.touched, last, work, &mut |events| {
                let mut failed = Ok(());
                let entity = rows_of(&events, &mut |row| {
                    failed = work.go_on().and_then(|()| rows.push(row));
                    // It ends; why is said below.
                    if failed.is_err() { Err(ServerError::Stopping) } else { Ok(()) }
                });
                failed?;
                entity?.map_or(Ok(()), |entity| rows.push(entity.frontier))
            })?;
            rows.end()?
        }
        Table::Versions | Table::Events => {
            let instant = Instant { known_at_ms, ..at.instant };
            let mut rows = Rows::<VersionRow>::new(work);
            each_entity(log, lake, &overlay.touched, last, work, &mut |events| {
                held_at(events, instant, go_on)?.map_or(Ok(()), |row| rows.push(row))
            })?;
            rows.end()?
        }
    };
    Ok(overlay)
}

/// Refuses an answer without events up to a sequence that were dropped before they were published.
pub(crate) fn check_missing(log: &EntityLog, lake: &PinnedLake, last: u64) -> Result<()> {
    let published = lake.checkpoint().unwrap_or(0);
    // The last one of a gap was an event that is there no more; others may be within other gaps, or be there.
    let is_missed = |gap: &Gap| gap.events > 0 && gap.last > published && gap.first <= last;
    match log.gaps().into_iter().find(is_missed) {
        None => Ok(()),
        Some(gap) => Err(OverlayError::Missing { first: gap.first.max(published + 1), last: gap.last }),
    }
}

/// Whether the log no longer has all events that the files have.
fn is_cut(log: &EntityLog, lake: &PinnedLake) -> Result<bool> {
    let Some(checkpoint) = lake.checkpoint() else { return Ok(false) };
    let published = log.query(Event::cols().sequence.le(signed(checkpoint)));
    let (found,) = published.select((count(),)).one().map_err(|error| Refused::from(&error))?;
    Ok(found < lake.events())
}

/// Gives events of an entity that the files have, where the log has dropped any of theirs; some of them the log may have too.
pub(crate) fn each_dropped<E: From<OverlayError> + From<ServerError>>(
    log: &EntityLog,
    lake: &PinnedLake,
    (entity_type, entity_id): (&str, &str),
    go_on: impl Fn() -> std::result::Result<(), E>,
    mut each: impl FnMut(EntityEvent) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    if !is_cut(log, lake)? {
        return Ok(());
    }
    let ids = BTreeSet::from([entity_id.to_owned()]);
    lake.each_event_of(entity_type, &ids, go_on, |event| each(event.into()))
}

/// Rows on their way into batches.
struct Rows<'a, R> {
    waiting: Vec<R>,
    batches: Vec<RecordBatch>,
    work: &'a Work<'a>,
}

impl<'a, R: Row> Rows<'a, R> {
    fn new(work: &'a Work<'a>) -> Self {
        Self { waiting: Vec::new(), batches: Vec::new(), work }
    }

    fn push(&mut self, row: R) -> Result<()> {
        self.work.take(row.bytes())?;
        self.waiting.push(row);
        if self.waiting.len() < BATCH_ROWS { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.waiting);
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

/// Entities of which the log has only a part, by their types, with how many of their events are published.
type Cut = BTreeMap<String, BTreeMap<String, u64>>;

/// Those of the touched entities that are cut: their last versions in the files say how many events they had.
fn cut_of(log: &EntityLog, lake: &PinnedLake, touched: &Touched, work: &Work<'_>) -> Result<Cut> {
    let mut all = Cut::new();
    let Some(checkpoint) = lake.checkpoint() else { return Ok(all) };
    if !is_cut(log, lake)? {
        return Ok(all);
    }
    let c = Event::cols();
    for (entity_type, ids) in &touched.0 {
        let mut cut: BTreeMap<String, u64> = BTreeMap::new();
        for path in lake.frontiers(entity_type, ids) {
            for row in FileRows::<VersionRow>::open(&path)? {
                work.go_on()?;
                let row = row?;
                if ids.contains(&row.entity_id) {
                    cut.insert(row.entity_id, row.version);
                }
            }
        }
        let known: Vec<String> = cut.keys().cloned().collect();
        for known in known.chunks(CHUNK_ENTITIES) {
            work.go_on()?;
            let of_these = c.entity_type.eq(entity_type) & c.entity_id.in_(known);
            let published = log.query(of_these & c.sequence.le(signed(checkpoint)));
            let by_id = published.group_by(c.entity_id).select((count(),));
            for group in &by_id.fetch().map_err(|error| Refused::from(&error))? {
                let (found,) = group.values();
                if cut.get(group.key()).is_some_and(|published| found >= *published) {
                    cut.remove(group.key());
                }
            }
        }
        all.insert(entity_type.clone(), cut);
    }
    Ok(all)
}

fn memory(error: &DataFusionError) -> OverlayError {
    OverlayError::Memory(error.message().into_owned())
}

/// Gives all events of each touched entity up to a sequence, in the order of their sequences.
fn each_entity(
    log: &EntityLog,
    lake: &PinnedLake,
    touched: &Touched,
    last: u64,
    work: &Work<'_>,
    each: &mut dyn FnMut(Vec<EventRow>) -> Result<()>,
) -> Result<()> {
    let cut = cut_of(log, lake, touched, work)?;
    for (entity_type, ids) in &touched.0 {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut waiting: Vec<&[&str]> = ids.chunks(CHUNK_ENTITIES).collect();
        // Events are held for a short time only, and do not count with the rows that are made of them.
        let held = work.memory.new_empty();
        while let Some(ids) = waiting.pop() {
            work.go_on()?;
            let limit = if ids.len() > 1 { CHUNK_BYTES.min(work.limits.bytes) } else { work.limits.bytes };
            let mut events = events_of(log, entity_type, ids, last, limit, work)?;
            if let (Some(events), Some(cut)) = (&mut events, cut.get(entity_type)) {
                add_dropped(lake, (entity_type, ids, cut), last, events, work)?;
            }
            let events = events.filter(|(_, bytes)| *bytes <= limit);
            match (events, ids) {
                (Some((mut events, bytes)), _) => {
                    held.try_resize(bytes).map_err(|error| memory(&error))?;
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
                    let (first, rest) = ids.split_at(ids.len() / 2);
                    waiting.extend([first, rest]);
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

/// Adds the events of some entities that only the files have, to those of the log.
fn add_dropped(
    lake: &PinnedLake,
    (entity_type, ids, cut): (&str, &[&str], &BTreeMap<String, u64>),
    last: u64,
    (events, bytes): &mut (Vec<EventRow>, usize),
    work: &Work<'_>,
) -> Result<()> {
    let mut missing: BTreeMap<&str, u64> = BTreeMap::new();
    missing.extend(ids.iter().filter_map(|id| Some((*id, *cut.get(*id)?))));
    if missing.is_empty() {
        return Ok(());
    }
    let cut_ids: BTreeSet<String> = missing.keys().map(|id| (*id).to_owned()).collect();
    let there: HashSet<u64> = events.iter().map(|event| event.sequence).collect();
    let limit = work.limits.bytes;
    lake.each_event_of(
        entity_type,
        &cut_ids,
        || work.go_on(),
        |event| {
            if let Some(missing) = missing.get_mut(event.entity_id.as_str()) {
                *missing = missing.saturating_sub(1);
            }
            // Of more than may be, the number is enough: fewer entities are taken at a time.
            if event.sequence <= last && !there.contains(&event.sequence) && *bytes <= limit {
                *bytes = bytes.saturating_add(event.bytes());
                events.push(event);
            }
            Ok::<_, OverlayError>(())
        },
    )?;
    match missing.into_iter().find(|(_, missing)| *missing > 0) {
        None => Ok(()),
        Some((id, missing)) => {
            let published = cut.get(id).copied().unwrap_or(0);
            let (entity_type, entity_id) = (entity_type.to_owned(), id.to_owned());
            Err(OverlayError::Dropped { entity_type, entity_id, found: published - missing, published })
        }
    }
}

/// Whether a version is what was so, by what was known; `None` is for ever.
#[cfg(test)]
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

/// The events behind the checkpoint that are wanted and that an instant sees, up to a sequence.
fn waiting(lake: &PinnedLake, wanted: &Wanted, last: u64, seen: Instant) -> Filter<Event> {
    let c = Event::cols();
    let after = lake.checkpoint().map_or(-1, signed);
    let mut filter = wanted.selection().filter() & c.sequence.gt(after) & c.sequence.le(signed(last));
    // All of its millisecond counts.
    let end_ns = |ms: i64| ms.saturating_add(1).saturating_mul(MS_NS);
    if let Some(as_of_ms) = seen.as_of_ms {
        filter = filter & c.ts_ns.lt(end_ns(as_of_ms));
    }
    if let Some(known_at_ms) = seen.known_at_ms {
        filter = filter & c.metric.lt(end_ns(known_at_ms));
    }
    filter
}

/// When the last event up to a sequence came in.
fn came_in_ms(log: &EntityLog, lake: &PinnedLake, last: u64, work: &Work<'_>) -> Result<Option<i64>> {
    let c = Event::cols();
    let (came_ns,) = log
        .query(c.sequence.le(signed(last)))
        .select((max(c.metric),))
        .one()
        .map_err(|error| Refused::from(&error))?;
    let mut found_ms = came_ns.map(|came_ns: i64| came_ns.div_euclid(MS_NS));
    if is_cut(log, lake)?
        && let Some(path) = lake.event_files(|file| file.seq_min <= last).last()
    {
        for event in FileRows::<EventRow>::open(path)? {
            work.go_on()?;
            let event = event?;
            if event.sequence <= last {
                found_ms = found_ms.max(Some(event.received_at_ms));
            }
        }
    }
    Ok(found_ms)
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
    let seen = if question.is_whole_row { Instant::default() } else { question.at.instant };
    let mut events = 0;
    each_named(log, waiting(lake, question.wanted, last, seen), work, &mut |row| {
        events += 1;
        if events > work.limits.events {
            return Err(OverlayError::Events { limit: work.limits.events });
        }
        touched.insert(row.entity_type(), row.entity_id(), work)
    })
}

/// Touches the entities of events that came in behind a sequence and within its millisecond.
fn touch_within_ms(
    log: &EntityLog,
    lake: &PinnedLake,
    question: &Question<'_>,
    (last, came_ms): (u64, i64),
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
    each_named(log, filter, work, &mut |row| touched.insert(row.entity_type(), row.entity_id(), work))?;
    if !is_cut(log, lake)? {
        return Ok(());
    }
    for path in lake.event_files(|file| file.seq_max > last) {
        let mut is_behind = false;
        for event in FileRows::<EventRow>::open(&path)? {
            work.go_on()?;
            let event = event?;
            is_behind |= event.received_at_ms > came_ms;
            if event.sequence > last
                && event.received_at_ms == came_ms
                && question.wanted.has(&event.entity_type, &event.entity_id)
            {
                touched.insert(&event.entity_type, &event.entity_id, work)?;
            }
        }
        if is_behind {
            break;
        }
    }
    Ok(())
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
    let seen = question.at.instant;
    each_named(log, waiting(lake, question.wanted, last, seen), work, &mut |row| {
        sequences.push(row.sequence());
        let limit = work.limits.events;
        if sequences.len() > limit { Err(OverlayError::Events { limit }) } else { Ok(()) }
    })?;
    sequences.sort_unstable();
    let Instant { as_of_ms, known_at_ms } = seen;
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
    use keplordb::{Filter, Store};
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
        for row in &mut rows {
            let row: &mut dyn std::any::Any = row;
            if let (Some(row), Some(came_in_ms)) = (row.downcast_mut::<VersionRow>(), overlay.came_in_ms) {
                row.known_to_ms = row.known_to_ms.filter(|known_to_ms| *known_to_ms <= came_in_ms);
            }
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

        /// Of every table at any instant, whatever was published in between, and whatever the log has dropped after that: what a log
        /// that has dropped nothing says that the instant sees.
        #[test]
        fn files_and_overlay_have_what_the_events_say(
            batches in vec((vec(drawn(), 0..10), 0..5_u8), 1..7),
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
            let whole = Arc::new(Store::<Event>::open(dir.path().join("whole")).unwrap());
            let mut lake = Lake::open(dir.path(), options).unwrap();
            let mut received_ms = 0;
            for (events, then) in batches {
                append(&whole, &events, &mut received_ms.clone());
                append(&store, &events, &mut received_ms);
                if then > 0 {
                    lake.publish(&store, &Schemas::default()).unwrap();
                }
                if then == 2 {
                    lake.compact().unwrap();
                }
                if then > 2 {
                    store.flush().unwrap();
                    store.gc(if then > 3 { i64::MAX } else { 6 * MS_NS }).unwrap();
                }
            }
            let pinned = PinnedLake::open(dir.path()).unwrap();
            let log = EntityLog::own(Arc::clone(&store));
            let all = EntityLog::own(Arc::clone(&whole)).events(&Selection::default(), None, usize::MAX).unwrap();
            let there = log.head(&log.types().unwrap()).unwrap();
            prop_assert!(pinned.is_of(&log, there).unwrap());
            let head = there.max(pinned.checkpoint());
            prop_assert_eq!(head, all.last().map(|event| event.sequence));
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
                let (_, current, versions) = naive(&whole);
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
                    // All that a version says of itself is what a log says that ends with the sequence.
                    let mut held: Vec<VersionRow> = Vec::new();
                    let mut up_to: Vec<EventRow> = whole.query(Filter::all()).rows().unwrap().iter()
                        .map(|row| EventRow::of_log(row).unwrap())
                        .filter(|row| sequence.is_none_or(|last| row.sequence <= last))
                        .filter(|row| wanted.has(&row.entity_type, &row.entity_id))
                        .collect();
                    up_to.sort_by(|a, b| (&a.entity_type, &a.entity_id, a.sequence).cmp(&(&b.entity_type, &b.entity_id, b.sequence)));
                    for history in up_to.chunk_by(|a, b| (&a.entity_type, &a.entity_id) == (&b.entity_type, &b.entity_id)) {
                        let of = |sequence| history.iter().find(|row| row.sequence == sequence).unwrap();
                        let rows = crate::versions(history.iter().cloned().map(EntityEvent::from).collect());
                        held.extend(rows.into_iter().map(|version| VersionRow::of(of(version.sequence), version)));
                    }
                    held.retain(|row| holds(row, as_of_ms, known_at_ms));
                    held.sort_by(Row::compare);
                    prop_assert_eq!(asked::<VersionRow>(&log, &pinned, &ask(Table::Versions, at, true)), held, "{:?}", at);
                }
            }
        }
    }

    /// A log of which a part was deleted: the files have it, also for entities that go on.
    #[test]
    fn what_the_log_lacks_is_taken_from_the_files() {
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
        append(&store, &[(0, 1, 1, 2, 1, 1, None), (0, 0, 1, 3, 1, 2, None)], &mut received_ms);
        let (log, lake) = (EntityLog::own(Arc::clone(&store)), PinnedLake::open(dir.path()).unwrap());
        let wanted = Wanted::default();
        let head = log.head(&log.types().unwrap()).unwrap().unwrap();
        let at = LogInstant::default();
        let question = Question { table: Table::Current, head, at, is_whole_row: false, wanted: &wanted };
        let found = asked::<CurrentRow>(&log, &lake, &question);
        let found: Vec<_> = found.iter().map(|row| (row.entity_id.as_str(), row.version)).collect();
        assert_eq!(found, [("id 0", 3), ("id 1", 2)]);

        // Files that do not have all of it are found out.
        let memory = reservation();
        let work = Work { limits: LIMITS, memory: &memory, is_ended: &AtomicBool::new(false) };
        let cut = BTreeMap::from([("id 0".to_owned(), 3)]);
        let error = add_dropped(&lake, ("User", &["id 0"], &cut), head, &mut (Vec::new(), 0), &work);
        let error = error.unwrap_err();
        assert!(matches!(error, OverlayError::Dropped { found: 2, published: 3, .. }), "{error}");
        assert!(error.to_string().contains("keplor replay"), "{error}");
    }

    #[test]
    fn what_was_dropped_before_it_was_published_is_told_and_not_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::<Event>::open(dir.path().join("segments")).unwrap());
        let mut lake = Lake::open(dir.path(), LakeOptions::default()).unwrap();
        let mut received_ms = 0;
        append(&store, &[(0, 0, 0, 1, 1, 0, None), (0, 1, 0, 1, 1, 0, None)], &mut received_ms);
        lake.publish(&store, &Schemas::default()).unwrap();
        append(&store, &[(0, 0, 1, 2, 1, 0, None), (0, 1, 1, 2, 1, 0, None)], &mut received_ms);
        store.flush().unwrap();
        assert_eq!(store.gc(i64::MAX).unwrap().events_deleted, 4);
        append(&store, &[(0, 1, 1, 3, 1, 1, None)], &mut received_ms);
        let log = EntityLog::own(Arc::clone(&store));
        let head = log.head(&log.types().unwrap()).unwrap();
        let published = PinnedLake::open(dir.path()).unwrap();
        assert!(published.is_of(&log, head).unwrap());
        let wanted = Wanted::default();
        let memory = reservation();
        let work = Work { limits: LIMITS, memory: &memory, is_ended: &AtomicBool::new(false) };
        for table in Table::ALL {
            let question = |sequence| {
                let at = LogInstant { sequence, ..LogInstant::default() };
                Question { table, head: head.unwrap(), at, is_whole_row: false, wanted: &wanted }
            };
            let error = overlay(&log, &published, &question(None), &work).unwrap_err();
            assert!(matches!(error, OverlayError::Missing { first: 3, last: 4 }), "{table:?}: {error}");
            let error = error.to_string();
            assert!(error.contains("from 3 to 4") && error.contains("publish"), "{error}");
            let error = overlay(&log, &PinnedLake::nothing(), &question(None), &work).unwrap_err();
            assert!(matches!(error, OverlayError::Missing { first: 1, last: 4 }), "{table:?}: {error}");
        }
        // The next publication takes note of the loss.
        lake.publish(&store, &Schemas::default()).unwrap();
        let published = PinnedLake::open(dir.path()).unwrap();
        let at = LogInstant::default();
        let question =
            Question { table: Table::Current, head: head.unwrap(), at, is_whole_row: false, wanted: &wanted };
        assert_eq!(asked::<CurrentRow>(&log, &published, &question).len(), 2);
    }

    /// Of late events each makes all versions behind it anew: who does not wait for them any more does not keep a processor busy.
    #[test]
    fn the_fold_of_many_late_events_ends_with_the_question() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::<Event>::open(dir.path().join("segments")).unwrap());
        let events: Vec<_> = (0..2000).map(|n| (0, 0, 1, 5000 - n, 1, 0, None)).collect();
        append(&store, &events, &mut 0);
        let (log, lake) = (EntityLog::own(store), PinnedLake::nothing());
        let wanted = Wanted::default();
        let is_ended = AtomicBool::new(false);
        let limits = OverlayLimits { events: 10_000, bytes: 1 << 30 };
        let (memory, at) = (reservation(), LogInstant::default());
        let work = Work { limits, memory: &memory, is_ended: &is_ended };
        let question = |table| Question { table, head: 2000, at, is_whole_row: true, wanted: &wanted };
        // What they are in the end takes each of them once.
        assert_eq!(overlay(&log, &lake, &question(Table::Current), &work).unwrap().batches.len(), 1);
        std::thread::scope(|scope| {
            let fold = scope.spawn(|| overlay(&log, &lake, &question(Table::Versions), &work).unwrap_err());
            std::thread::sleep(Duration::from_millis(50));
            is_ended.store(true, Ordering::Relaxed);
            assert!(matches!(fold.join().unwrap(), OverlayError::Ended));
        });
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
