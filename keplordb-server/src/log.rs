//! The log of entities, as it is read: by the server that writes it, and by others beside it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::path::Path;
use std::sync::Arc;

use keplordb::aggregates::{count, max, min};
use keplordb::{Filter, Query, Reader, Store};
use serde::Serialize;

use crate::blame::{self, Blame, Change};
use crate::entity::{self, EntityEvent, Instant};
use crate::error::{Refused, Result, ServerError};
use crate::fold::Fold;
use crate::layout;
use crate::record::Event;
use crate::versions::{Version, versions};

/// The events of a root's entities. Clones see the same log.
#[derive(Debug, Clone)]
pub struct EntityLog(Source);

#[derive(Debug, Clone)]
enum Source {
    /// Of the server, which writes it.
    Own(Arc<Store<Event>>),
    /// Beside whoever writes it.
    Beside(Arc<Reader<Event>>),
}

/// What is known of a type of entities without folding any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TypeSummary {
    /// Its name.
    pub entity_type: String,
    /// How many events there are of its entities.
    pub events: u64,
    /// When the first of them came in, in milliseconds since the Unix epoch.
    pub first_received_ms: i64,
    /// When the last of them came in, likewise.
    pub last_received_ms: i64,
}

/// What came in after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Behind {
    /// How many events.
    pub events: u64,
    /// When the first of them came in, in milliseconds since the Unix epoch; `None` where there is none.
    pub first_received_ms: Option<i64>,
}

/// Which events are given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selection {
    /// Of these types; of all where there is none.
    pub entity_types: Vec<String>,
    /// Of the entities with these ids; of all where there is none.
    pub entity_ids: Vec<String>,
}

impl Selection {
    pub(crate) fn filter(&self) -> Filter<Event> {
        let c = Event::cols();
        let mut filter = Filter::all();
        if !self.entity_types.is_empty() {
            filter = filter & c.entity_type.in_(&self.entity_types);
        }
        if !self.entity_ids.is_empty() {
            filter = filter & c.entity_id.in_(&self.entity_ids);
        }
        filter
    }
}

impl EntityLog {
    pub(crate) fn own(store: Arc<Store<Event>>) -> Self {
        Self(Source::Own(store))
    }

    /// Opens a root's log to read it beside the server, also while that writes. It takes no lock and changes nothing;
    /// [`refresh`](Self::refresh) shows what came meanwhile.
    ///
    /// # Errors
    /// [`NoRoot`](ServerError::NoRoot) for a directory that no server has made; [`Db`](ServerError::Db) when the log is damaged.
    pub fn beside(root: impl AsRef<Path>) -> std::result::Result<Self, ServerError> {
        let root = root.as_ref();
        if !layout::is_root(root) {
            return Err(ServerError::NoRoot { dir: root.to_owned() });
        }
        Ok(Self(Source::Beside(Arc::new(Reader::open(layout::segments(root))?))))
    }

    /// Shows what came since it was opened, and says whether anything did; the server's own always shows all.
    ///
    /// # Errors
    /// [`Failed`](Refused::Failed) when the log cannot be read.
    pub fn refresh(&self) -> Result<bool> {
        match &self.0 {
            Source::Own(_) => Ok(true),
            Source::Beside(reader) => {
                reader.refresh().map(|refreshed| refreshed.changed).map_err(|error| Refused::from(&error))
            }
        }
    }

    pub(crate) fn query(&self, filter: impl Into<Filter<Event>>) -> Query<'_, Event> {
        match &self.0 {
            Source::Own(store) => store.query(filter),
            Source::Beside(reader) => reader.query(filter),
        }
    }

    /// The events of an entity that an instant sees, in the order in which they are folded: by their time, then by the source's
    /// counter, then as they came in. One that never was has none.
    ///
    /// Cost: a look at each segment whose bloom filter says that it may have the entity, and a read for each event.
    ///
    /// # Errors
    /// [`Failed`](Refused::Failed) when the log cannot be read.
    pub fn history(&self, entity_type: &str, entity_id: &str, instant: Instant) -> Result<Vec<EntityEvent>> {
        let c = Event::cols();
        let rows = self.query(c.entity_type.eq(entity_type) & c.entity_id.eq(entity_id)).rows();
        let mut events = Vec::new();
        for row in rows.map_err(|error| Refused::from(&error))? {
            let event = EntityEvent::of_row(&row)?;
            if instant.sees(&event) {
                events.push(event);
            }
        }
        events.sort_by_key(EntityEvent::order);
        Ok(events)
    }

    /// What an entity is, or was at an instant.
    ///
    /// # Errors
    /// As [`history`](Self::history).
    pub fn get(&self, entity_type: &str, entity_id: &str, instant: Instant) -> Result<Fold> {
        Ok(entity::fold(&self.history(entity_type, entity_id, instant)?))
    }

    /// All versions of an entity, on both axes of time.
    ///
    /// # Errors
    /// As [`history`](Self::history).
    pub fn versions(&self, entity_type: &str, entity_id: &str) -> Result<Vec<Version>> {
        Ok(versions(self.history(entity_type, entity_id, Instant::default())?))
    }

    /// Of each field that an entity has at an instant, the event that set it. Of a deleted one there is none.
    ///
    /// # Errors
    /// As [`history`](Self::history).
    pub fn blame(&self, entity_type: &str, entity_id: &str, instant: Instant) -> Result<Vec<Blame>> {
        Ok(blame::blame(&self.history(entity_type, entity_id, instant)?))
    }

    /// What differs between two instants.
    ///
    /// # Errors
    /// As [`history`](Self::history).
    pub fn diff(&self, entity_type: &str, entity_id: &str, a: Instant, b: Instant) -> Result<Vec<Change>> {
        let events = self.history(entity_type, entity_id, Instant::default())?;
        let at = |instant: Instant| entity::fold(events.iter().filter(|event| instant.sees(event)));
        Ok(blame::diff(at(a).state(), at(b).state()))
    }

    /// The types of which there are events, sorted by name.
    ///
    /// # Errors
    /// [`Failed`](Refused::Failed) when the log cannot be read.
    pub fn types(&self) -> Result<Vec<TypeSummary>> {
        let c = Event::cols();
        let by_type =
            self.query(Filter::all()).group_by(c.entity_type).select((count(), min(c.metric), max(c.metric)));
        let by_type = by_type.fetch().map_err(|error| Refused::from(&error))?;
        let ms = |ts_ns: Option<i64>| ts_ns.unwrap_or(0).div_euclid(1_000_000);
        let mut types: Vec<_> = (&by_type)
            .into_iter()
            .map(|group| {
                let (events, first, last) = group.values();
                TypeSummary {
                    entity_type: group.key().to_owned(),
                    events,
                    first_received_ms: ms(first),
                    last_received_ms: ms(last),
                }
            })
            .collect();
        types.sort_unstable_by(|a, b| a.entity_type.cmp(&b.entity_type));
        Ok(types)
    }

    /// The sequence of the last event, given the [types](Self::types) that there are; `None` where there is no event. It may be one
    /// that came in since the types were asked for: of what has a sequence up to it nothing is missing.
    ///
    /// Cost: a look at the events of the last millisecond.
    #[cfg(feature = "sql")]
    pub(crate) fn head(&self, types: &[TypeSummary]) -> Result<Option<u64>> {
        let Some(last_ms) = types.iter().map(|summary| summary.last_received_ms).max() else {
            return Ok(None);
        };
        let mut head = None;
        // What comes in never gets an earlier time than what came before it.
        self.query(Event::cols().metric.ge(last_ms.saturating_mul(1_000_000)))
            .each(|row| head = head.max(Some(row.sequence())))
            .map_err(|error| Refused::from(&error))?;
        Ok(head)
    }

    /// What the log has dropped by age or size, ascending; beside a writer, before the last [refresh](Self::refresh).
    pub fn gaps(&self) -> Vec<keplordb::Gap> {
        match &self.0 {
            Source::Own(store) => store.gaps(),
            Source::Beside(reader) => reader.gaps(),
        }
    }

    /// What came in after the event with a sequence; with 0, all.
    ///
    /// Cost: a look at the sequence of every event after it.
    ///
    /// # Errors
    /// [`Failed`](Refused::Failed) when the log cannot be read.
    pub fn behind(&self, sequence: u64) -> Result<Behind> {
        let c = Event::cols();
        let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
        let after = self.query(c.sequence.gt(sequence)).select((count(), min(c.metric))).one();
        let (events, first_ns) = after.map_err(|error| Refused::from(&error))?;
        Ok(Behind { events, first_received_ms: first_ns.map(|ns| ns.div_euclid(1_000_000)) })
    }

    /// Ids of a type's entities, also of deleted ones, sorted: at most so many of those that begin with a text and come after an id.
    ///
    /// Cost: that of all ids of the type.
    ///
    /// # Errors
    /// [`Failed`](Refused::Failed) when the log cannot be read.
    pub fn ids(
        &self,
        entity_type: &str,
        begin: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let c = Event::cols();
        let mut filter = c.entity_type.eq(entity_type);
        if !begin.is_empty() {
            filter = filter & c.entity_id.starts_with(begin);
        }
        let by_id = self.query(filter).group_by(c.entity_id).select((count(),));
        let by_id = by_id.fetch().map_err(|error| Refused::from(&error))?;
        let mut first = BTreeSet::new();
        for group in &by_id {
            let id = group.key();
            if after.is_none_or(|after| id > after) {
                first.insert(id);
                if first.len() > limit {
                    first.pop_last();
                }
            }
        }
        Ok(first.into_iter().map(str::to_owned).collect())
    }

    /// Events in the order of the log, at most so many: those after a sequence.
    ///
    /// Cost: a look at the sequence of every event after it.
    ///
    /// # Errors
    /// [`Failed`](Refused::Failed) when the log cannot be read.
    pub fn events(
        &self,
        selection: &Selection,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<EntityEvent>> {
        let failed = |error: keplordb::DbError| Refused::from(&error);
        let c = Event::cols();
        // What is behind the greatest number that the engine gives is nothing.
        let after = after.map_or(Ok(-1), i64::try_from).unwrap_or(i64::MAX);
        let mut first = BinaryHeap::with_capacity(limit.min(1024) + 1);
        let behind = self.query(selection.filter() & c.sequence.gt(after));
        behind
            .each(|row| {
                first.push(row.sequence());
                if first.len() > limit {
                    first.pop();
                }
            })
            .map_err(failed)?;
        let Some(last) = first.peek() else { return Ok(Vec::new()) };
        let last = i64::try_from(*last).unwrap_or(i64::MAX);
        let rows = self.query(selection.filter() & c.sequence.gt(after) & c.sequence.le(last)).rows();
        let mut events: Vec<_> =
            rows.map_err(failed)?.iter().map(EntityEvent::of_row).collect::<Result<_>>()?;
        events.sort_unstable_by_key(|event| event.sequence);
        events.truncate(limit);
        Ok(events)
    }

    /// The last events of the log, at most so many, in its order.
    ///
    /// Cost: a look at the sequence of every event.
    ///
    /// # Errors
    /// [`Failed`](Refused::Failed) when the log cannot be read.
    pub fn last(&self, selection: &Selection, limit: usize) -> Result<Vec<EntityEvent>> {
        self.last_of(&selection.filter(), limit)
    }

    /// Likewise of those before a sequence that an instant sees.
    pub(crate) fn last_before(
        &self,
        selection: &Selection,
        before: Option<u64>,
        instant: Instant,
        limit: usize,
    ) -> Result<Vec<EntityEvent>> {
        let c = Event::cols();
        let end_ns = |time_ms: i64| time_ms.saturating_add(1).saturating_mul(1_000_000);
        let mut filter = selection.filter();
        if let Some(before) = before {
            filter = filter & c.sequence.lt(i64::try_from(before).unwrap_or(i64::MAX));
        }
        if let Some(as_of_ms) = instant.as_of_ms {
            filter = filter & c.ts_ns.lt(end_ns(as_of_ms));
        }
        if let Some(known_at_ms) = instant.known_at_ms {
            filter = filter & c.metric.lt(end_ns(known_at_ms));
        }
        self.last_of(&filter, limit)
    }

    fn last_of(&self, filter: &Filter<Event>, limit: usize) -> Result<Vec<EntityEvent>> {
        let failed = |error: keplordb::DbError| Refused::from(&error);
        let mut last = BinaryHeap::with_capacity(limit.min(1024) + 1);
        let all = self.query(filter.clone());
        all.each(|row| {
            last.push(Reverse(row.sequence()));
            if last.len() > limit {
                last.pop();
            }
        })
        .map_err(failed)?;
        let Some(Reverse(first)) = last.peek() else { return Ok(Vec::new()) };
        let first = i64::try_from(*first).unwrap_or(i64::MAX);
        let rows = self.query(filter.clone() & Event::cols().sequence.ge(first)).rows();
        let mut events: Vec<_> =
            rows.map_err(failed)?.iter().map(EntityEvent::of_row).collect::<Result<_>>()?;
        events.sort_unstable_by_key(|event| event.sequence);
        Ok(events.split_off(events.len().saturating_sub(limit)))
    }

    /// The event with a sequence, if there is one, and those right before and behind it.
    ///
    /// # Errors
    /// [`Failed`](Refused::Failed) when the log cannot be read.
    pub(crate) fn around(&self, sequence: u64) -> Result<Vec<EntityEvent>> {
        let c = Event::cols();
        // No event has a sequence that the engine cannot compare.
        let Ok(sequence) = i64::try_from(sequence) else { return Ok(Vec::new()) };
        let near = c.sequence.ge(sequence.saturating_sub(1)) & c.sequence.le(sequence.saturating_add(1));
        let rows = self.query(near).rows().map_err(|error| Refused::from(&error))?;
        let mut events: Vec<_> = rows.iter().map(EntityEvent::of_row).collect::<Result<_>>()?;
        events.sort_unstable_by_key(|event| event.sequence);
        Ok(events)
    }

    /// The sequence of the last event that had come in at a time, in milliseconds since the Unix epoch; `None` where there was none.
    /// Whoever begins behind it gets all that came later.
    ///
    /// # Errors
    /// [`Failed`](Refused::Failed) when the log cannot be read.
    pub fn sequence_at(&self, received_at_ms: i64) -> Result<Option<u64>> {
        let c = Event::cols();
        let end_ns = received_at_ms.saturating_add(1).saturating_mul(1_000_000);
        let mut last = None;
        let before = self.query(c.metric.lt(end_ns));
        before.each(|row| last = last.max(Some(row.sequence()))).map_err(|error| Refused::from(&error))?;
        Ok(last)
    }
}
