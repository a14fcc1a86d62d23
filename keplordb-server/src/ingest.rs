//! The one way in: records are checked where they arrive, and written by one thread, many in one sync.
//!
//! One thread gives each event its place and the time at which it came in, so that both go up together; it knows which ids and
//! versions there are without a lock. Whatever waits when it comes round is one batch of the log with one sync: one record alone waits
//! for its own, sixty-four that come at once share one. A second thread makes segments of what was written, or everybody would wait for
//! that now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keplordb::aggregates::max;
use keplordb::{Filter, Store};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tonic::Status;
use ulid::Ulid;

use crate::error::{Refused, Result, ServerError};
use crate::fold::Operation;
use crate::metrics::Metrics;
use crate::name::shown;
use crate::record::{Checked, Event};

/// Bytes of records that may wait; more are refused, to be sent again.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Batches that may wait.
const WAITING_MAX: usize = 16_384;
/// Records after which no more are taken into a batch of the log.
const GROUP_MAX: usize = 16_384;
/// Bytes after which likewise.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// Bytes of records after which they are made a segment: a quarter of what the log takes until it does so by itself.
const FLUSH_BYTES: usize = 16 << 20;
/// How far ahead of the server's clock an event's time may be.
pub(crate) const SKEW_MAX: Duration = Duration::from_mins(5);

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Receipt {
    /// The event's place in the log; increasing, with gaps.
    pub sequence: u64,
    /// The id by which it is captured once.
    pub event_id: String,
    /// Whether it was there already.
    pub is_duplicate: bool,
    /// When it was on disk, in milliseconds since the Unix epoch; of one that was there already, when it had come in.
    pub durable_at_ms: i64,
    /// How many segments the log has.
    pub segments: u64,
}

/// What each record of some comes to, or why none is captured.
type Outcomes = Result<Vec<Result<Receipt>>>;

/// Records that are written together.
struct Job {
    records: Vec<Checked>,
    /// Whether one that is refused for what it is keeps the others from being captured. A log that fails always does.
    is_all_or_none: bool,
    bytes: usize,
    reply: oneshot::Sender<Outcomes>,
    /// The room that they take while they wait.
    room: OwnedSemaphorePermit,
}

/// The way in; it is closed when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Ingest {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
}

impl Ingest {
    /// Starts the thread that writes; it ends, when all that waited is written, after the last clone of the way in is gone.
    pub(crate) fn start(
        store: Arc<Store<Event>>,
        metrics: Arc<Metrics>,
    ) -> std::result::Result<(Self, thread::JoinHandle<()>), ServerError> {
        let newest = store.query(Filter::all()).select((max(Event::cols().metric),)).one()?;
        let received_at_ms = newest.0.unwrap_or(0).div_euclid(1_000_000);
        let ahead_ms = received_at_ms.saturating_sub(now_ms());
        if ahead_ms > 1000 {
            tracing::warn!(
                ahead_ms,
                "the newest event came in later than now; until then events come in at that time"
            );
        }
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let flusher = Flusher::start(Arc::clone(&store))?;
        let writer = Writer { store, metrics, flusher, now_ms: now_ms(), received_at_ms };
        let thread =
            thread::Builder::new().name("keplor-ingest".to_owned()).spawn(move || writer.run(waiting));
        let thread = thread.map_err(|source| ServerError::Thread { source })?;
        Ok((Self { jobs, room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)) }, thread))
    }

    /// Sends records on their way, all or none; refuses them where there is no room.
    pub(crate) fn submit(&self, records: Vec<Checked>) -> Result<UnderWay> {
        self.submit_now(records, true)
    }

    /// Likewise, each whatever becomes of the others.
    pub(crate) fn submit_each(&self, records: Vec<Checked>) -> Result<UnderWay> {
        self.submit_now(records, false)
    }

    fn submit_now(&self, records: Vec<Checked>, is_all_or_none: bool) -> Result<UnderWay> {
        let bytes = bytes_of(&records)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| busy())?;
        let (job, under_way) = Job::new(records, is_all_or_none, room);
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => busy(),
            mpsc::error::TrySendError::Closed(_) => Refused::Stopping,
        })?;
        Ok(under_way)
    }

    /// Bytes of records that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        WAITING_BYTES_MAX - self.room.available_permits()
    }

    /// As [`submit`](Self::submit), but waits for room.
    pub(crate) async fn submit_in_turn(&self, records: Vec<Checked>) -> Result<UnderWay> {
        let bytes = bytes_of(&records)?;
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Refused::Stopping)?;
        let (job, under_way) = Job::new(records, true, room);
        self.jobs.send(job).await.map_err(|_| Refused::Stopping)?;
        Ok(under_way)
    }
}

fn busy() -> Refused {
    Refused::Busy { waiting: WAITING_BYTES_MAX }
}

/// What records take of the room; more than there is would wait for ever.
fn bytes_of(records: &[Checked]) -> Result<u32> {
    let bytes: usize = records.iter().map(Checked::bytes).sum();
    if bytes > WAITING_BYTES_MAX {
        let what = format!("they have about {bytes} bytes, at most {WAITING_BYTES_MAX} are possible");
        return Err(Refused::invalid("records", what));
    }
    u32::try_from(bytes).map_err(|_| busy())
}

impl Job {
    fn new(records: Vec<Checked>, is_all_or_none: bool, room: OwnedSemaphorePermit) -> (Self, UnderWay) {
        let (reply, outcomes) = oneshot::channel();
        let bytes = room.num_permits();
        (Self { records, is_all_or_none, bytes, reply, room }, UnderWay(outcomes))
    }
}

/// Records that are being written.
#[derive(Debug)]
pub(crate) struct UnderWay(oneshot::Receiver<Outcomes>);

impl UnderWay {
    /// What became of them; on return their events are on disk.
    pub(crate) async fn receipts(self) -> Result<Vec<Receipt>> {
        self.outcomes().await?.into_iter().collect()
    }

    /// Likewise, of each by itself.
    pub(crate) async fn outcomes(self) -> Outcomes {
        self.0.await.unwrap_or(Err(Refused::Stopping))
    }
}

/// Another thread, which makes segments of what was written.
struct Flusher {
    /// Bytes that were written since it was last asked to.
    bytes: usize,
    asked: Option<std::sync::mpsc::SyncSender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Flusher {
    fn start(store: Arc<Store<Event>>) -> std::result::Result<Self, ServerError> {
        let (asked, asks) = std::sync::mpsc::sync_channel(1);
        let flush = move || {
            for () in asks {
                if let Err(error) = store.flush() {
                    // Nothing is lost: the log has it, and tries again when it must.
                    tracing::error!(%error, "what was written could not be made a segment");
                }
            }
        };
        let thread = thread::Builder::new().name("keplor-flush".to_owned()).spawn(flush);
        let thread = thread.map_err(|source| ServerError::Thread { source })?;
        Ok(Self { bytes: 0, asked: Some(asked), thread: Some(thread) })
    }

    /// Asks for it when enough was written.
    fn wrote(&mut self, bytes: usize) {
        self.bytes += bytes;
        // One that is at work is asked again with the next batch.
        if self.bytes >= FLUSH_BYTES && self.asked.as_ref().is_some_and(|asked| asked.try_send(()).is_ok()) {
            self.bytes = 0;
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.asked = None;
        if let Some(Err(_)) = self.thread.take().map(thread::JoinHandle::join) {
            tracing::error!("what makes segments ended by a mistake of the server");
        }
    }
}

/// The thread that writes.
struct Writer {
    store: Arc<Store<Event>>,
    metrics: Arc<Metrics>,
    flusher: Flusher,
    /// The clock, as it was when the batch was begun.
    now_ms: i64,
    /// Of the last event; no later one has an earlier one.
    received_at_ms: i64,
}

/// A batch of the log while it is put together.
#[derive(Default)]
struct Group {
    records: Vec<Placed>,
    waiting: Vec<Waiting>,
    /// Of the ids that clients gave, the record that has it.
    ids: HashMap<String, usize>,
    /// Records of each entity in the batch; counted from when a record first says how many events there must be.
    versions: Option<HashMap<Entity, u64>>,
}

/// A record that becomes an event, and the id that it has.
struct Placed {
    record: Checked,
    id: String,
}

/// A type and an id.
type Entity = (String, String);

impl Group {
    fn push(&mut self, record: Checked, id: String) {
        if let Some(versions) = &mut self.versions {
            *versions.entry(record.entity()).or_default() += 1;
        }
        self.records.push(Placed { record, id });
    }

    /// Takes out the records from one on, as if they had not come.
    fn truncate(&mut self, begin: usize) {
        for Placed { record, id } in self.records.drain(begin..) {
            if self.ids.get(&id).is_some_and(|place| *place >= begin) {
                self.ids.remove(&id);
            }
            if let Some(count) =
                self.versions.as_mut().and_then(|versions| versions.get_mut(&record.entity()))
            {
                *count -= 1;
            }
        }
    }

    /// How many records of an entity the batch has.
    fn version(&mut self, entity: &Entity) -> u64 {
        let versions = self.versions.get_or_insert_with(|| {
            let mut versions = HashMap::new();
            for Placed { record, .. } in &self.records {
                *versions.entry(record.entity()).or_default() += 1;
            }
            versions
        });
        versions.get(entity).copied().unwrap_or_default()
    }
}

/// Who waits for events to be written.
struct Waiting {
    answers: Vec<Answer>,
    reply: oneshot::Sender<Outcomes>,
    room: OwnedSemaphorePermit,
}

/// What a record comes to when the batch is written.
enum Answer {
    /// An event of the batch; it may be another record's with the same id.
    Event {
        place: usize,
        id: String,
        is_duplicate: bool,
    },
    /// It was there.
    Stored(Receipt),
    Refused(Refused),
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            self.now_ms = now_ms();
            self.received_at_ms = self.received_at_ms.max(self.now_ms);
            let (mut group, mut bytes) = (Group::default(), 0);
            let mut next = Some(first);
            while let Some(job) = next {
                bytes += job.bytes;
                self.add(job, &mut group);
                let is_full = group.records.len() >= GROUP_MAX || bytes >= GROUP_BYTES_MAX;
                next = if is_full { None } else { jobs.try_recv().ok() };
            }
            self.write(group);
            self.flusher.wrote(bytes);
        }
    }

    /// Adds records to the batch: all or none, where that is asked for.
    fn add(&self, Job { records, is_all_or_none, reply, room, .. }: Job, group: &mut Group) {
        let is_alone = records.len() == 1;
        let (begin, mut answers) = (group.records.len(), Vec::with_capacity(records.len()));
        for (index, record) in records.into_iter().enumerate() {
            match self.place(&record, group) {
                Ok(Place::New) => {
                    let place = group.records.len();
                    let id = if record.event_id.is_empty() {
                        Ulid::generate().to_string()
                    } else {
                        group.ids.insert(record.event_id.clone(), place);
                        record.event_id.clone()
                    };
                    answers.push(Answer::Event { place, id: id.clone(), is_duplicate: false });
                    group.push(record, id);
                }
                Ok(Place::InBatch(place)) => {
                    answers.push(Answer::Event { place, id: record.event_id, is_duplicate: true });
                }
                Ok(Place::Stored(receipt)) => answers.push(Answer::Stored(receipt)),
                Err(refused) if !is_all_or_none && refused.is_of_record() => {
                    self.metrics.refused(Status::from(refused.clone()).code());
                    answers.push(Answer::Refused(refused));
                }
                Err(refused) => {
                    group.truncate(begin);
                    let refused = if is_alone { refused } else { refused.in_batch(index) };
                    self.metrics.refused(Status::from(refused.clone()).code());
                    // Who asked may be gone; the answer is for nobody then.
                    drop(reply.send(Err(refused)));
                    return;
                }
            }
        }
        group.waiting.push(Waiting { answers, reply, room });
    }

    fn place(&self, record: &Checked, group: &mut Group) -> Result<Place> {
        let stored = |error: &keplordb::DbError| Refused::from(error);
        if !record.event_id.is_empty() {
            let id = &record.event_id;
            if let Some(place) = group.ids.get(id).copied() {
                let is_of_entity = |placed: &Placed| placed.record.is_of_entity_of(record);
                if !group.records.get(place).is_some_and(is_of_entity) {
                    return Err(Refused::IdTaken { id: id.clone() });
                }
                return Ok(Place::InBatch(place));
            }
            if let Some(row) = self.store.get(id).map_err(|error| stored(&error))? {
                if (row.entity_type(), row.entity_id())
                    != (record.entity_type.as_str(), record.entity_id.as_str())
                {
                    return Err(Refused::IdTaken { id: id.clone() });
                }
                return Ok(Place::Stored(Receipt {
                    sequence: row.sequence(),
                    event_id: id.clone(),
                    is_duplicate: true,
                    durable_at_ms: row.metric().div_euclid(1_000_000),
                    segments: self.segments(),
                }));
            }
        }
        let skew_ms = i64::try_from(SKEW_MAX.as_millis()).unwrap_or(i64::MAX);
        if let Some(time_ms) = record.event_time_ms
            && time_ms > self.now_ms.saturating_add(skew_ms)
        {
            let ahead_s = time_ms.saturating_sub(self.now_ms) / 1000;
            let what = format!(
                "the event of {} is {ahead_s} s ahead of the server's clock, at most {} are possible; it counts milliseconds",
                shown(&record.entity_id),
                SKEW_MAX.as_secs()
            );
            return Err(Refused::invalid("event time", what));
        }
        if let Some(expected) = record.expected_version {
            let c = Event::cols();
            let of_entity = c.entity_type.eq(&record.entity_type) & c.entity_id.eq(&record.entity_id);
            let there = self.store.query(of_entity).totals().map_err(|error| stored(&error))?.event_count;
            let found = there + group.version(&record.entity());
            if found != expected {
                return Err(Refused::Version { expected, found });
            }
        }
        Ok(Place::New)
    }

    /// Writes the batch, all or nothing, and answers everybody who waits for it.
    fn write(&self, Group { records, waiting, .. }: Group) {
        let (count, begun) = (records.len(), Instant::now());
        let operations: Vec<Operation> = records.iter().map(|placed| placed.record.operation).collect();
        let event = |Placed { record, id }: Placed| record.into_event(id, self.now_ms, self.received_at_ms);
        let events: Vec<_> = records.into_iter().map(event).collect();
        let appended = if events.is_empty() {
            // What was there already may be there in memory alone, when its sync failed: nobody is told so before it is on disk.
            self.store.sync().map(|()| None)
        } else {
            self.store.append_batch_durable(events).map(Some)
        };
        let written = match appended {
            Ok(written) => written,
            Err(error) => {
                tracing::error!(%error, events = count, "events could not be written; whoever sent them was told");
                for Waiting { reply, .. } in waiting {
                    self.metrics.refused(Status::from(Refused::from(&error)).code());
                    drop(reply.send(Err(Refused::from(&error))));
                }
                return;
            }
        };
        if !operations.is_empty() {
            self.metrics.written(&operations, begun.elapsed());
        }
        let (first, durable_at_ms, segments) =
            (written.map_or(0, |written| written.first), now_ms(), self.segments());
        for Waiting { answers, reply, room } in waiting {
            let outcomes = answers.into_iter().map(|answer| match answer {
                Answer::Event { place, id, is_duplicate } => Ok(Receipt {
                    sequence: first + place as u64,
                    event_id: id,
                    is_duplicate,
                    durable_at_ms,
                    segments,
                }),
                Answer::Stored(receipt) => Ok(receipt),
                Answer::Refused(refused) => Err(refused),
            });
            let outcomes: Vec<_> = outcomes.collect();
            let duplicates = outcomes.iter().flatten().filter(|receipt| receipt.is_duplicate).count();
            self.metrics.duplicate.increment(duplicates as u64);
            drop(reply.send(Ok(outcomes)));
            drop(room);
        }
    }

    fn segments(&self) -> u64 {
        self.store.stats().segments as u64
    }
}

/// Where a record goes.
enum Place {
    New,
    /// It is the same as one of the batch.
    InBatch(usize),
    /// It is there.
    Stored(Receipt),
}

/// The server's clock, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
