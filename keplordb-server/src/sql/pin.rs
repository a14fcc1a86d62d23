//! A root at one moment: what all parts of a statement see.
//!
//! The lake is pinned first and the log after it, so that the log has every event that the lake has; up to its last sequence it is a
//! prefix, because one thread writes it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::execution::memory_pool::MemoryReservation;

use super::shape::shape_of;
use super::{QueryError, Result};
use crate::entity::{EntityEvent, LogInstant};
use crate::error::Refused;
use crate::lake::{LakeTable, Overlay, OverlayLimits, PinnedLake, Question, Wanted, Work, overlay};
use crate::log::EntityLog;
use crate::record::Event;
use crate::rql::{NameError, resolve};
use crate::schema::Schema;
use crate::shape::Shape;

/// How many times as much memory as its text a JSON object takes, about.
const PARSED: usize = 4;
/// What an event takes besides its payload.
const EVENT_BYTES: usize = 512;

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
}

impl Pinned {
    pub(super) fn new(
        root: &Path,
        log: EntityLog,
        schema: Option<Arc<Schema>>,
        limits: OverlayLimits,
    ) -> Result<Self> {
        let mut lake = PinnedLake::open(root)?;
        log.refresh()?;
        let summaries = log.types()?;
        let head = log.head(&summaries)?;
        // The log is the truth. Files of another one, such as those of a root that was restored from a copy, are made anew by the next
        // publication.
        if !lake.is_of(&log, head)? {
            lake = PinnedLake::nothing();
        }
        let mut types: Vec<String> = summaries.into_iter().map(|summary| summary.entity_type).collect();
        types.extend(schema.iter().flat_map(|schema| schema.types().map(str::to_owned).collect::<Vec<_>>()));
        types.sort_unstable();
        types.dedup();
        Ok(Self { lake, log, head, schema, types, limits })
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

    /// The events of an entity that an instant sees, in the order in which they are folded. It reads the log, on the thread that calls.
    pub(super) fn history(
        &self,
        entity_type: &str,
        entity_id: &str,
        at: LogInstant,
    ) -> Result<Vec<EntityEvent>> {
        let Some(head) = self.head else { return Ok(Vec::new()) };
        let last = at.sequence.map_or(head, |last| last.min(head));
        let limit = self.limits.bytes / PARSED;
        let c = Event::cols();
        let (mut events, mut bytes) = (Vec::new(), 0_usize);
        let mut done = Ok(());
        let each = |row: <Event as keplordb::Schema>::View<'_>| {
            if row.sequence() > last {
                return ControlFlow::Continue(());
            }
            let row = row.into_row().map_err(|error| Refused::from(&error));
            let event = row.and_then(|row| {
                bytes = bytes.saturating_add(EVENT_BYTES + row.payload().len());
                EntityEvent::of_row(&row)
            });
            done = event.map_err(QueryError::from).and_then(|event| {
                if bytes > limit {
                    let instead = "ask _events for those of a span of time";
                    return Err(QueryError::TooMany {
                        what: "the bytes of this entity's events",
                        limit: limit as u64,
                        instead,
                    });
                }
                if at.instant.sees(&event) {
                    events.push(event);
                }
                Ok(())
            });
            if done.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let found = self.log.query(c.entity_type.eq(entity_type) & c.entity_id.eq(entity_id)).each(each);
        found.map_err(|error| Refused::from(&error))?;
        done?;
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
