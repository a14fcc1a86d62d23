//! The one way in: records are checked where they arrive, and written by one thread, many in one sync.
//!
//! One thread gives each event its place and the time at which it came in, so that both go up together; it knows which ids and
//! versions there are without a lock. Whatever waits when it comes round is one batch of the log with one sync: one record alone waits
//! for its own, sixty-four that come at once share one.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keplordb::aggregates::max;
use keplordb::{Filter, Store};
use tokio::sync::{mpsc, oneshot};
use ulid::Ulid;

use crate::error::{Refused, Result};
use crate::name::shown;
use crate::record::{Checked, Event};

/// Records that may wait; more are refused, to be sent again.
const WAITING_MAX: usize = 16_384;
/// Records of one batch of the log.
const BATCH_MAX: usize = 4096;
/// How far ahead of the server's clock an event's time may be.
pub(crate) const SKEW_MAX: Duration = Duration::from_mins(5);

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
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

struct Job {
    record: Checked,
    reply: oneshot::Sender<Result<Receipt>>,
}

/// The way in; it is closed when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Ingest {
    jobs: mpsc::Sender<Job>,
}

impl Ingest {
    /// Starts the thread that writes; it ends, when all that waited is written, after the last clone of the way in is gone.
    pub(crate) fn start(store: Arc<Store<Event>>) -> keplordb::Result<(Self, thread::JoinHandle<()>)> {
        let newest = store.query(Filter::all()).select((max(Event::cols().metric),)).fetch()?;
        let received_at_ms = newest.get(0).and_then(|all| all.values().0).unwrap_or(0) / 1_000_000;
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let writer = Writer { store, received_at_ms };
        let thread =
            thread::Builder::new().name("keplor-ingest".to_owned()).spawn(move || writer.run(waiting));
        Ok((Self { jobs }, thread.expect("a program that cannot start a thread cannot serve")))
    }

    /// Captures a record; on return its event is on disk.
    pub(crate) async fn capture(&self, record: Checked) -> Result<Receipt> {
        let (reply, receipt) = oneshot::channel();
        self.jobs.try_send(Job { record, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Busy { waiting: WAITING_MAX },
            mpsc::error::TrySendError::Closed(_) => Refused::Stopping,
        })?;
        receipt.await.unwrap_or(Err(Refused::Stopping))
    }
}

/// The thread that writes.
struct Writer {
    store: Arc<Store<Event>>,
    /// Of the last event; no later one has an earlier one.
    received_at_ms: i64,
}

/// A batch while it is put together.
#[derive(Default)]
struct Group {
    events: Vec<<Event as keplordb::Schema>::Builder>,
    waiting: Vec<Waiting>,
    /// Of the ids that clients gave, the event that has it, and its entity.
    ids: HashMap<String, (usize, Entity)>,
    /// Events of each entity in the batch.
    versions: HashMap<Entity, u64>,
}

/// A type and an id.
type Entity = (String, String);

/// Who waits for an event to be written.
struct Waiting {
    /// Of the event in the batch.
    place: usize,
    id: String,
    /// Whether it is the second to send it.
    is_duplicate: bool,
    reply: oneshot::Sender<Result<Receipt>>,
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut next = Vec::new();
        while jobs.blocking_recv_many(&mut next, BATCH_MAX) > 0 {
            let now_ms = now_ms();
            self.received_at_ms = self.received_at_ms.max(now_ms);
            let mut group = Group::default();
            for job in next.drain(..) {
                self.add(job, &mut group);
            }
            self.write(group);
        }
    }

    /// Adds a record to the batch, or answers it at once.
    fn add(&self, Job { record, reply }: Job, group: &mut Group) {
        match self.place(&record, group) {
            Ok(Place::New) => {
                let place = group.events.len();
                let entity = (record.entity_type.clone(), record.entity_id.clone());
                let id = match record.event_id.as_str() {
                    "" => Ulid::generate().to_string(),
                    given => {
                        group.ids.insert(given.to_owned(), (place, entity.clone()));
                        given.to_owned()
                    }
                };
                *group.versions.entry(entity).or_default() += 1;
                group.events.push(record.into_event(id.clone(), self.received_at_ms));
                group.waiting.push(Waiting { place, id, is_duplicate: false, reply });
            }
            Ok(Place::InBatch(place)) => {
                group.waiting.push(Waiting { place, id: record.event_id, is_duplicate: true, reply });
            }
            // Who asked may be gone; the answer is for nobody then.
            Ok(Place::Stored(receipt)) => drop(reply.send(Ok(receipt))),
            Err(refused) => drop(reply.send(Err(refused))),
        }
    }

    fn place(&self, record: &Checked, group: &Group) -> Result<Place> {
        let stored = |error: &keplordb::DbError| Refused::from(error);
        if !record.event_id.is_empty() {
            let id = &record.event_id;
            if let Some((place, (entity_type, entity_id))) = group.ids.get(id) {
                if (entity_type, entity_id) != (&record.entity_type, &record.entity_id) {
                    return Err(Refused::IdTaken { id: id.clone(), sequence: 0 });
                }
                return Ok(Place::InBatch(*place));
            }
            if let Some(row) = self.store.get(id).map_err(|error| stored(&error))? {
                if (row.entity_type(), row.entity_id())
                    != (record.entity_type.as_str(), record.entity_id.as_str())
                {
                    return Err(Refused::IdTaken { id: id.clone(), sequence: row.sequence() });
                }
                return Ok(Place::Stored(self.receipt(
                    row.sequence(),
                    id.clone(),
                    true,
                    row.metric() / 1_000_000,
                )));
            }
        }
        let skew_ms = i64::try_from(SKEW_MAX.as_millis()).unwrap_or(i64::MAX);
        if let Some(time_ms) = record.event_time_ms
            && time_ms > self.received_at_ms.saturating_add(skew_ms)
        {
            let ahead_s = time_ms.saturating_sub(self.received_at_ms) / 1000;
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
            let entity = (record.entity_type.clone(), record.entity_id.clone());
            let found = there + group.versions.get(&entity).copied().unwrap_or(0);
            if found != expected {
                return Err(Refused::Version { expected, found });
            }
        }
        Ok(Place::New)
    }

    /// Writes the batch, all or nothing, and answers everybody who waits for it.
    fn write(&self, group: Group) {
        let Group { events, waiting, .. } = group;
        if events.is_empty() {
            return;
        }
        let count = events.len();
        match self.store.append_batch_durable(events) {
            Ok(appended) => {
                let durable_at_ms = now_ms();
                for Waiting { place, id, is_duplicate, reply } in waiting {
                    let receipt =
                        self.receipt(appended.first + place as u64, id, is_duplicate, durable_at_ms);
                    drop(reply.send(Ok(receipt)));
                }
            }
            Err(error) => {
                tracing::error!(%error, events = count, "events could not be written; whoever sent them was told");
                for Waiting { reply, .. } in waiting {
                    drop(reply.send(Err(Refused::from(&error))));
                }
            }
        }
    }

    fn receipt(&self, sequence: u64, event_id: String, is_duplicate: bool, durable_at_ms: i64) -> Receipt {
        let segments = self.store.stats().segments as u64;
        Receipt { sequence, event_id, is_duplicate, durable_at_ms, segments }
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
