//! What becomes of an entity by its events: its rows in `_versions` and `_current`.
//!
//! Of each entity one row of `_versions` is its *frontier*: valid and known for ever, as far as is known, also where it is deleted. An
//! event that comes in its order ends what was known of the frontier and makes two rows: the frontier as it is known now to end, and the
//! next one. So these events need nothing but the frontier. A late event changes what lies behind: then all rows of the entity are made
//! anew from its history.

use serde_json::{Map, Value};

use super::columns::damaged;
use super::rows::{CurrentRow, EventRow, VersionRow};
#[cfg(feature = "sql")]
use crate::entity::Instant;
use crate::error::ServerError;
use crate::fold::Fold;
use crate::versions::{Version, changed};

type Result<T> = std::result::Result<T, ServerError>;

/// What is to be known of an entity to go on with it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entity {
    pub(super) frontier: VersionRow,
    /// `None` where it is deleted.
    pub(super) current: Option<CurrentRow>,
}

impl Entity {
    /// Whether an event comes in its order behind all that the entity has.
    pub(super) fn is_followed_by(&self, event: &EventRow) -> bool {
        self.frontier.order() < event.order()
    }
}

/// Takes rows that are known no more, and such as will stay as they are; what it fails with ends the work.
pub(super) type Sink<'a> = &'a mut dyn FnMut(VersionRow) -> Result<()>;

/// Takes events which follow the entity and each other in their order.
pub(super) fn follow(
    mut entity: Option<Entity>,
    events: &[&EventRow],
    history: Sink<'_>,
) -> Result<Option<Entity>> {
    let mut fold = match &entity {
        None => Fold::default(),
        Some(Entity { frontier, .. }) => Fold::resume(state_of(frontier)?, frontier.version),
    };
    for event in events {
        let before = fold.state().cloned();
        fold.apply(event.operation, event.object());
        let current = match entity.take() {
            None => None,
            Some(Entity { mut frontier, current }) => {
                let ended = VersionRow {
                    valid_to_ms: Some(event.event_time_ms),
                    known_from_ms: event.received_at_ms,
                    ..frontier.clone()
                };
                history(ended)?;
                // What was known for no time was never known.
                if frontier.known_from_ms < event.received_at_ms {
                    frontier.known_to_ms = Some(event.received_at_ms);
                    history(frontier)?;
                }
                current
            }
        };
        let frontier = VersionRow::of(event, version_of(event, before.as_ref(), &fold, event.received_at_ms));
        let current = current_after(current.as_ref(), event, frontier.state.as_ref(), frontier.version);
        entity = Some(Entity { frontier, current });
    }
    Ok(entity)
}

/// What becomes of the rows of an entity to which events came late.
pub(super) struct Rebuilt {
    pub(super) entity: Option<Entity>,
    /// `None` where none of its rows changes.
    pub(super) changed: Option<Changed>,
}

/// Which rows are no longer so: of those that were known to no end, the frontier aside, the ones from a version on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changed {
    pub(super) version: u64,
    /// None of them begins earlier.
    pub(super) valid_from_ms: i64,
    /// How many they are.
    pub(super) rows: u64,
}

/// The rows of an entity that are new, from all its events in the order of their sequences, of the first `known` of which the rows are
/// there. All rows, where that is 0.
pub(super) fn rebuild(events: &[&EventRow], known: usize, history: Sink<'_>) -> Result<Rebuilt> {
    let (before, behind) = events.split_at(known.min(events.len()));
    let mut timeline = Timeline::new();
    timeline.recall(before)?;
    let before = timeline.events.clone();
    for group in groups(behind) {
        timeline.arrive(group, history)?;
    }
    let first = timeline.changed_from;
    let entity = timeline.finish(history)?;
    // The last one is the frontier, which is elsewhere.
    let rows = before.len().saturating_sub(first + 1) as u64;
    let changed = before.get(first).filter(|_| rows > 0).map(|event| Changed {
        version: first as u64 + 1,
        valid_from_ms: event.event_time_ms,
        rows,
    });
    Ok(Rebuilt { entity, changed })
}

/// What an entity is by all its events, in the order of their sequences, with all its rows.
pub(super) fn rows_of(events: &[EventRow], history: Sink<'_>) -> Result<Option<Entity>> {
    let events: Vec<&EventRow> = events.iter().collect();
    Ok(rebuild(&events, 0, history)?.entity)
}

/// The row in `_current` of an entity that is live after all its events, which may be in any order: what [`rows_of`] gives, without the
/// history. It takes each event once, however late they came.
#[cfg(feature = "sql")]
pub(super) fn current_of<E>(
    mut events: Vec<EventRow>,
    mut go_on: impl FnMut() -> std::result::Result<(), E>,
) -> std::result::Result<Option<CurrentRow>, E> {
    events.sort_unstable_by_key(EventRow::order);
    let mut fold = Fold::default();
    let mut began = None;
    for event in &events {
        go_on()?;
        fold.apply(event.operation, event.object());
        began = fold.state().and(began.or(Some(event)));
    }
    let (Some(state), Some(first), Some(last)) = (fold.state(), began, events.last()) else {
        return Ok(None);
    };
    Ok(Some(CurrentRow {
        entity_type: last.entity_type.clone(),
        entity_id: last.entity_id.clone(),
        state: Value::Object(state.clone()).to_string(),
        version: fold.version(),
        created_at_ms: first.event_time_ms,
        updated_at_ms: last.event_time_ms,
        received_at_ms: last.received_at_ms,
        first_sequence: first.sequence,
        last_sequence: last.sequence,
        schema_version: last.schema_version,
    }))
}

/// The row of an entity in `_versions` that holds at an instant, by all its events, which may be in any order: what [`rows_of`] gives
/// then, without the other rows. It takes each event a few times, however late they came.
///
/// A row changes when an event comes in that is folded before its own, or when one comes in behind it that ends it earlier.
#[cfg(feature = "sql")]
pub(super) fn held_at<E>(
    mut events: Vec<EventRow>,
    Instant { as_of_ms, known_at_ms }: Instant,
    mut go_on: impl FnMut() -> std::result::Result<(), E>,
) -> std::result::Result<Option<VersionRow>, E> {
    events.sort_unstable_by_key(EventRow::order);
    let (known, unknown): (Vec<_>, Vec<_>) =
        events.iter().partition(|event| known_at_ms.is_none_or(|limit_ms| event.received_at_ms <= limit_ms));
    let count =
        known.partition_point(|event| as_of_ms.is_none_or(|limit_ms| event.event_time_ms <= limit_ms));
    let (happened, later): (&[&EventRow], _) = known.split_at(count);
    let Some((last, before)) = happened.split_last() else { return Ok(None) };
    let mut fold = Fold::default();
    for event in before {
        go_on()?;
        fold.apply(event.operation, event.object());
    }
    let state_before = fold.state().cloned();
    fold.apply(last.operation, last.object());

    let valid_to_ms = later.first().map(|next| next.event_time_ms);
    let ended = later.iter().filter(|event| Some(event.event_time_ms) == valid_to_ms);
    let ended_ms = ended.map(|event| event.received_at_ms).min();
    let known_from_ms = happened.iter().map(|event| event.received_at_ms).chain(ended_ms).max();
    let changes = unknown.iter().filter(|event| {
        event.order() < last.order()
            || valid_to_ms.is_none_or(|valid_to_ms| event.event_time_ms < valid_to_ms)
    });
    let known_to_ms = changes.map(|event| event.received_at_ms).min();
    let known_from_ms = known_from_ms.unwrap_or(last.received_at_ms);
    let mut version = version_of(last, state_before.as_ref(), &fold, known_from_ms);
    (version.valid_to_ms, version.known_to_ms) = (valid_to_ms, known_to_ms);
    Ok(Some(VersionRow::of(last, version)))
}

/// Events that came in within one millisecond.
fn groups<'a, 'e>(events: &'a [&'e EventRow]) -> impl Iterator<Item = &'a [&'e EventRow]> {
    events.chunk_by(|a, b| a.received_at_ms == b.received_at_ms)
}

/// Events after each of which what the entity is then is kept: to go on from it costs less than to begin anew.
const SNAPSHOT_EVENTS: usize = if cfg!(test) { 3 } else { 256 };

/// What is known of an entity while its events arrive. Of all versions but the last one the states are not in memory: the events make
/// them again when they are needed.
struct Timeline<'e> {
    /// What has arrived, in the order in which it is folded: each begins a version.
    events: Vec<&'e EventRow>,
    /// Since when each version is known as it is.
    known_from_ms: Vec<i64>,
    last: Option<VersionRow>,
    /// The first version that is not as it was recalled.
    changed_from: usize,
    /// Before the first event, and after each so many.
    snapshots: Vec<Fold>,
    /// After the first so many events.
    fold: Fold,
    folded: usize,
}

impl<'e> Timeline<'e> {
    fn new() -> Self {
        Self {
            events: Vec::new(),
            known_from_ms: Vec::new(),
            last: None,
            changed_from: 0,
            snapshots: vec![Fold::default()],
            fold: Fold::default(),
            folded: 0,
        }
    }

    /// Takes the events of which the rows are there.
    fn recall(&mut self, events: &[&'e EventRow]) -> Result<()> {
        for group in groups(events) {
            self.insert(group);
        }
        self.changed_from = self.events.len();
        self.see_last()
    }

    /// Takes events that came in within one millisecond. What was between them was known for no time; and what one of them changes
    /// no other changes back, since each adds to the number of all that follow.
    fn arrive(&mut self, group: &[&'e EventRow], history: Sink<'_>) -> Result<()> {
        let Some((from, first, known_ms)) = self.place(group) else { return Ok(()) };
        let mut end = |mut row: VersionRow| {
            row.known_to_ms = Some(known_ms);
            if row.known_from_ms < known_ms { history(row) } else { Ok(()) }
        };
        if from < self.events.len() {
            self.walk(first, &mut |_, row| end(row))?;
        } else if let Some(last) = self.last.take() {
            end(last)?;
        }
        self.insert(group);
        self.changed_from = self.changed_from.min(first);
        self.see_last()
    }

    /// Where the first of some events goes, the first version that changes by it, and when they came in.
    fn place(&self, group: &[&'e EventRow]) -> Option<(usize, usize, i64)> {
        let earliest = group.iter().min_by_key(|event| event.order())?;
        let from = self.events.partition_point(|other| other.order() < earliest.order());
        // The version before ends where this event begins, which may be where it ended.
        let next_ms = self.events.get(from).map(|next| next.event_time_ms);
        let first = if next_ms == Some(earliest.event_time_ms) { from } else { from.saturating_sub(1) };
        Some((from, first, earliest.received_at_ms))
    }

    fn insert(&mut self, group: &[&'e EventRow]) {
        let Some((from, first, known_ms)) = self.place(group) else { return };
        for event in group {
            let place = self.events.partition_point(|other| other.order() < event.order());
            self.events.insert(place, event);
        }
        self.known_from_ms.truncate(first);
        self.known_from_ms.resize(self.events.len(), known_ms);
        self.snapshots.truncate(from / SNAPSHOT_EVENTS + 1);
        if self.folded > from {
            self.folded = usize::MAX;
        }
    }

    fn see_last(&mut self) -> Result<()> {
        let mut last = None;
        self.walk(self.events.len().saturating_sub(1), &mut |_, row| {
            last = Some(row);
            Ok(())
        })?;
        self.last = last;
        Ok(())
    }

    /// Gives the versions from a place on, with their events.
    fn walk(
        &mut self,
        from: usize,
        each: &mut dyn FnMut(&'e EventRow, VersionRow) -> Result<()>,
    ) -> Result<()> {
        let snapshot = (from / SNAPSHOT_EVENTS).min(self.snapshots.len().saturating_sub(1));
        if self.folded > from || self.folded < snapshot * SNAPSHOT_EVENTS {
            self.fold = self.snapshots.get(snapshot).cloned().unwrap_or_default();
            self.folded = snapshot * SNAPSHOT_EVENTS;
        }
        while let Some(event) = self.events.get(self.folded).copied() {
            if self.folded == self.snapshots.len() * SNAPSHOT_EVENTS {
                self.snapshots.push(self.fold.clone());
            }
            if self.folded < from {
                self.fold.apply(event.operation, event.object());
            } else {
                let before = self.fold.state().cloned();
                self.fold.apply(event.operation, event.object());
                let known_from_ms = self.known_from_ms.get(self.folded).copied();
                let known_from_ms = known_from_ms.unwrap_or(event.received_at_ms);
                let mut version = version_of(event, before.as_ref(), &self.fold, known_from_ms);
                version.valid_to_ms = self.events.get(self.folded + 1).map(|next| next.event_time_ms);
                each(event, VersionRow::of(event, version))?;
            }
            self.folded += 1;
        }
        Ok(())
    }

    /// What is known in the end, from the first version on that is not as it was recalled.
    fn finish(mut self, history: Sink<'_>) -> Result<Option<Entity>> {
        // Only the last one's state is needed, and put there below.
        let is_live = |is_live: bool| is_live.then(String::new);
        let mut current: Option<CurrentRow> = None;
        let mut fold = Fold::default();
        let first = self.changed_from.min(self.events.len().saturating_sub(1));
        for event in self.events.iter().take(first) {
            fold.apply(event.operation, event.object());
            let state = is_live(fold.state().is_some());
            current = current_after(current.as_ref(), event, state.as_ref(), fold.version());
        }
        let mut frontier: Option<VersionRow> = None;
        self.walk(first, &mut |event, row| {
            let state = is_live(row.state.is_some());
            current = current_after(current.as_ref(), event, state.as_ref(), row.version);
            frontier.replace(row).map_or(Ok(()), &mut *history)
        })?;
        let Some(frontier) = frontier else { return Ok(None) };
        if let (Some(current), Some(state)) = (&mut current, &frontier.state) {
            current.state.clone_from(state);
        }
        Ok(Some(Entity { frontier, current }))
    }
}

fn version_of(
    event: &EventRow,
    before: Option<&Map<String, Value>>,
    after: &Fold,
    known_from_ms: i64,
) -> Version {
    Version {
        sequence: event.sequence,
        version: after.version(),
        operation: event.operation,
        state: after.state().cloned(),
        changed: changed(before, after.state()),
        valid_from_ms: event.event_time_ms,
        valid_to_ms: None,
        known_from_ms,
        known_to_ms: None,
    }
}

fn current_after(
    before: Option<&CurrentRow>,
    event: &EventRow,
    state: Option<&String>,
    version: u64,
) -> Option<CurrentRow> {
    let began = before.map(|before| (before.created_at_ms, before.first_sequence));
    let (created_at_ms, first_sequence) = began.unwrap_or((event.event_time_ms, event.sequence));
    state.map(|state| CurrentRow {
        entity_type: event.entity_type.clone(),
        entity_id: event.entity_id.clone(),
        state: state.clone(),
        version,
        created_at_ms,
        updated_at_ms: event.event_time_ms,
        received_at_ms: event.received_at_ms,
        first_sequence,
        last_sequence: event.sequence,
        schema_version: event.schema_version,
    })
}

/// The state that a row of a file has as text.
fn state_of(row: &VersionRow) -> Result<Option<Map<String, Value>>> {
    let Some(state) = &row.state else { return Ok(None) };
    serde_json::from_str(state).map(Some).map_err(|error| {
        let what = format!("the state of {} {:?} is no JSON object: {error}", row.entity_type, row.entity_id);
        damaged(std::path::Path::new("_versions"), &what)
    })
}

#[cfg(all(test, feature = "sql"))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::fold::Operation;

    #[test]
    fn what_is_known_now_takes_each_event_once_however_late_it_came() {
        let event = |n: u32| EventRow {
            sequence: n.into(),
            event_id: n.to_string(),
            entity_type: "User".to_owned(),
            entity_id: "u1".to_owned(),
            operation: Operation::Update,
            event_time_ms: 20_000 - i64::from(n),
            received_at_ms: n.into(),
            created_at_ms: None,
            updated_at_ms: None,
            deleted_at_ms: None,
            client_id: None,
            schema_version: 0,
            payload: format!("{{\"n\":{n}}}"),
            payload_raw: None,
            source_version: None,
            correlation_id: None,
            causation_id: None,
            metadata: None,
        };
        let events: Vec<EventRow> = (1..=20_000).map(event).collect();
        let steps = Cell::new(0);
        let go_on = |steps_max: u32| {
            let steps = &steps;
            move || {
                steps.set(steps.get() + 1);
                if steps.get() > steps_max { Err(()) } else { Ok(()) }
            }
        };
        let current = current_of(events.clone(), go_on(u32::MAX)).unwrap().unwrap();
        assert_eq!((current.version, current.state.as_str(), steps.get()), (20_000, "{\"n\":1}", 20_000));
        steps.set(0);
        let held = held_at(events.clone(), Instant::default(), go_on(u32::MAX)).unwrap().unwrap();
        assert_eq!((held.version, held.state.as_deref()), (20_000, Some("{\"n\":1}")));
        assert!(steps.get() <= 20_000, "{}", steps.get());
        steps.set(0);
        current_of(events, go_on(7)).unwrap_err();
        assert_eq!(steps.get(), 8);
    }
}
