//! A root at one moment: what all parts of a statement see.
//!
//! The lake is pinned first and the log after it, so that the log has every event that the lake has, but for those that it has dropped;
//! up to its last sequence it is a prefix, because one thread writes it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use datafusion::execution::memory_pool::MemoryReservation;

use super::shape::shape_of;
use super::{QueryError, Result};
use crate::entity::{EntityEvent, LogInstant};
use crate::error::Refused;
use crate::lake::{
    LakeTable, Overlay, OverlayError, OverlayLimits, PinnedLake, Question, Wanted, Work, check_missing,
    each_dropped, overlay,
};
use crate::log::EntityLog;
use crate::payload::held_bytes;
use crate::record::Event;
use crate::rql::{NameError, resolve};
use crate::schema::Schema;
use crate::shape::Shape;

/// What an event takes besides its payload.
const EVENT_BYTES: usize = 512;

/// Says that nobody waits any more, when it goes: what works on another thread ends soon after.
#[derive(Debug, Default)]
pub(super) struct Ended(pub(super) Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A root at one moment.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) lake: PinnedLake,
    pub(super) log: EntityLog,
    /// The last event; `None` where there is none.
    pub(super) head: Option<u64>,
    pub(super) schema: Option<Arc<Schema>>,
    /// The schema's types and those of which there are events, sorted.
    pub(super) types: Vec<String>,
    limits: OverlayLimits,
    /// How long a [history](Self::history) may take.
    timeout: Option<Duration>,
    /// Set when nobody waits for a statement that is being planned.
    pub(super) is_ended: Arc<AtomicBool>,
}

impl Pinned {
    /// It ends with [`Ended`](OverlayError::Ended), soon, when a flag is set.
    pub(super) fn new(
        root: &Path,
        log: EntityLog,
        schema: Option<Arc<Schema>>,
        (limits, timeout): (OverlayLimits, Option<Duration>),
        is_ended: &AtomicBool,
    ) -> Result<Self> {
        go_on(is_ended)?;
        let mut lake = PinnedLake::open(root)?;
        log.refresh()?;
        go_on(is_ended)?;
        let summaries = log.types()?;
        go_on(is_ended)?;
        let mut head = log.head(&summaries)?;
        go_on(is_ended)?;
        // The log is the truth. Files of another one, such as where an older copy of it was put back, are no answer; they stay until
        // somebody brings back the log of which they were made, or has them made anew.
        if !lake.is_of(&log, head)? {
            lake = PinnedLake::nothing();
        }
        // What the log has dropped the files have.
        head = head.max(lake.checkpoint());
        let mut types: Vec<String> = summaries.into_iter().map(|summary| summary.entity_type).collect();
        types.extend(lake.types().map(str::to_owned));
        types.extend(schema.iter().flat_map(|schema| schema.types().map(str::to_owned).collect::<Vec<_>>()));
        types.sort_unstable();
        types.dedup();
        Ok(Self { lake, log, head, schema, types, limits, timeout, is_ended: Arc::default() })
    }

    /// The type that a name means.
    pub(super) fn entity_type(&self, name: &str) -> std::result::Result<&str, NameError> {
        resolve(name, self.types.iter().map(String::as_str))
    }

    /// The columns of a type's fields; `None` where no schema has it.
    pub(super) fn shape(&self, entity_type: &str) -> Option<Shape> {
        self.schema.as_ref()?.get(entity_type).map(shape_of)
    }

    /// An instant, without a sequence that is no limit.
    pub(super) fn within(&self, at: LogInstant) -> LogInstant {
        let is_limit = |last: &u64| self.head.is_none_or(|head| *last < head);
        LogInstant { sequence: at.sequence.filter(is_limit), ..at }
    }

    /// The events of an entity that an instant sees, in the order in which they are folded. It reads the log, on the thread that calls,
    /// until nobody waits for the statement or the time of one is over. They count as long as the memory is held.
    pub(super) fn history(
        &self,
        entity_type: &str,
        entity_id: &str,
        at: LogInstant,
        memory: &MemoryReservation,
    ) -> Result<Vec<EntityEvent>> {
        let Some(head) = self.head else { return Ok(Vec::new()) };
        let last = at.sequence.map_or(head, |last| last.min(head));
        let begun = Instant::now();
        let go_on = || match self.timeout {
            Some(timeout) if begun.elapsed() > timeout => {
                Err(QueryError::TooSlow { limit_ms: timeout.as_millis() })
            }
            _ => go_on(&self.is_ended),
        };
        let limit = self.limits.bytes;
        let mut events = BTreeMap::new();
        let mut take = |event: EntityEvent| {
            // What the log has and the files.
            if events.contains_key(&event.sequence) {
                return Ok(());
            }
            let bytes = EVENT_BYTES + event.payload.as_ref().map_or(0, held_bytes);
            if memory.size().saturating_add(bytes) > limit {
                let instead = "ask _events for those of a span of time";
                let what = "the bytes of this entity's events";
                return Err(QueryError::TooMany { what, limit: limit as u64, instead });
            }
            if at.instant.sees(&event) {
                memory.try_grow(bytes).map_err(|error| OverlayError::Memory(error.message().into_owned()))?;
                events.insert(event.sequence, event);
            }
            Ok(())
        };
        let mut done = go_on();
        let each = |row: <Event as keplordb::Schema>::View<'_>| {
            if done.is_ok() {
                done = go_on();
            }
            if done.is_ok() && row.sequence() <= last {
                let row = row.into_row().map_err(|error| Refused::from(&error));
                let event = row.and_then(|row| EntityEvent::of_row(&row));
                done = event.map_err(QueryError::from).and_then(&mut take);
            }
            if done.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let c = Event::cols();
        let found = self.log.query(c.entity_type.eq(entity_type) & c.entity_id.eq(entity_id)).each(each);
        found.map_err(|error| Refused::from(&error))?;
        done?;
        // Behind what was read of the log: what it drops meanwhile is in the files, or is missed here.
        each_dropped(&self.log, &self.lake, (entity_type, entity_id), go_on, |event| {
            if event.sequence <= last { take(event) } else { Ok(()) }
        })?;
        check_missing(&self.log, &self.lake, last)?;
        let mut events: Vec<EntityEvent> = events.into_values().collect();
        events.sort_by_key(EntityEvent::order);
        Ok(events)
    }

    /// What is to be put over a table of the lake. It reads the log, on the thread that calls.
    pub(super) fn overlay(
        &self,
        (table, at): (LakeTable, LogInstant),
        is_whole_row: bool,
        wanted: &Wanted,
        memory: &MemoryReservation,
        is_ended: &AtomicBool,
    ) -> Result<Overlay> {
        let question = Question { table, head: self.head.unwrap_or(0), at, is_whole_row, wanted };
        let work = Work { limits: self.limits, memory, is_ended };
        Ok(overlay(&self.log, &self.lake, &question, &work)?)
    }
}

fn go_on(is_ended: &AtomicBool) -> Result<()> {
    if is_ended.load(Ordering::Relaxed) { Err(OverlayError::Ended.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};
    use serde_json::json;

    use super::*;
    use crate::capture::Capture;
    use crate::fold::Operation;
    use crate::record::Record;

    #[tokio::test(flavor = "multi_thread")]
    async fn neither_a_pin_nor_a_history_goes_on_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let capture = Capture::open(dir.path()).unwrap();
        for n in 0..3 {
            let record = Record::new("User", "u1", Operation::Update).json(&json!({"n": n}));
            capture.capture(record).await.unwrap();
        }
        let limits = OverlayLimits { events: 1000, bytes: 1 << 20 };
        let pinned = |timeout, is_ended| {
            Pinned::new(dir.path(), capture.log(), None, (limits, timeout), &AtomicBool::new(is_ended))
        };
        let is_given_up = |error: QueryError| matches!(error, QueryError::Overlay(error) if matches!(*error, OverlayError::Ended));
        assert!(is_given_up(pinned(None, true).unwrap_err()));
        let one = pinned(None, false).unwrap();
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 20));
        let history = |pinned: &Pinned| {
            let memory = MemoryConsumer::new("a history").register(&pool);
            pinned.history("User", "u1", LogInstant::default(), &memory)
        };
        assert_eq!(history(&one).unwrap().len(), 3);
        drop(Ended(Arc::clone(&one.is_ended)));
        assert!(is_given_up(history(&one).unwrap_err()));
        let error = history(&pinned(Some(Duration::ZERO), false).unwrap()).unwrap_err();
        assert!(matches!(error, QueryError::TooSlow { limit_ms: 0 }), "{error}");
    }
}
