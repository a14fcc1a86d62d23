//! Queries in RQL: answered by the same tables as SQL, with the order, the fields and the pages that the language has.
//!
//! Which entities match, the plan says ([`compile`]); their order is the evaluator's own ([`Query::compare`]), of which only as many
//! rows are kept as a page has. Entities that are equal by it come in the order of their ids, so that a page ends at one place. A cursor
//! says where that was and up to which event the first page saw, so all pages are of one moment.

mod compile;
mod include;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use datafusion::arrow::array::{Array as _, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::Expr;
use futures::StreamExt as _;
use keplordb_sql::Session;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xxhash_rust::xxh64::xxh64;

use self::compile::{compile, with_id};
use super::pin::Pinned;
use super::shape::parse;
use super::table::{InstantTable, What};
use super::{QueryError, Result, Sql};
use crate::entity::{Instant, LogInstant};
use crate::payload::held_bytes;
use crate::rql::Query;
use crate::rql::eval::field_of;

/// Entities of an answer where the query does not say how many, and the most.
const LIMIT: (u64, u64) = (100, 10_000);
/// Bytes of states that are held while the first ones are looked for.
const HELD_BYTES_MAX: usize = 64 << 20;

/// What an entity takes besides its id and its state.
const FOUND_BYTES: usize = 256;

/// What a query in RQL gives.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RqlAnswer {
    /// The type of all of them.
    pub entity_type: String,
    /// In the query's order.
    pub entities: Vec<RqlEntity>,
    /// What to ask for next, as the query's `cursor`; nothing behind the last page.
    pub cursor: Option<String>,
    /// The last event that counted for it, or could have; nothing where there is none.
    pub sequence: Option<u64>,
}

/// An entity of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RqlEntity {
    /// Its id.
    pub entity_id: String,
    /// The query's fields of what it is.
    pub state: Map<String, Value>,
    /// How many events it has.
    pub version: u64,
    /// When the last of them happened, in milliseconds since the Unix epoch.
    pub updated_at_ms: i64,
    /// Its place in the log.
    pub sequence: u64,
    /// Related entities, by the names that the query has for the relations: an entity or nothing, or a list of them.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub included: Map<String, Value>,
}

/// An entity as it is found.
#[derive(Debug, Clone)]
struct Found {
    id: String,
    /// With the id.
    state: Map<String, Value>,
    bytes: usize,
    version: u64,
    updated_at_ms: i64,
    sequence: u64,
}

impl Sql {
    /// Answers a query in RQL about a type, by default the query's own, as of its instants.
    ///
    /// # Errors
    /// [`NoEntity`](QueryError::NoEntity), [`OtherEntity`](QueryError::OtherEntity), [`Name`](QueryError::Name),
    /// [`Relation`](QueryError::Relation) and [`Cursor`](QueryError::Cursor) for what the query says; [`TooMany`](QueryError::TooMany),
    /// [`TooSlow`](QueryError::TooSlow) and [`Overlay`](QueryError::Overlay) at limits; else as [`ask`](Self::ask).
    ///
    /// # Panics
    /// Outside of a tokio runtime with its timer.
    pub async fn rql(&self, query: &Query, entity_type: Option<&str>) -> Result<RqlAnswer> {
        Ok(self.rql_held(query, entity_type).await?.0)
    }

    /// [`rql`](Self::rql), and what the answer holds of the memory of all questions, which is free again when that is dropped.
    pub(crate) async fn rql_held(
        &self,
        query: &Query,
        entity_type: Option<&str>,
    ) -> Result<(RqlAnswer, Held)> {
        self.within_time(self.rql_within(query, entity_type)).await
    }

    async fn rql_within(&self, query: &Query, asked: Option<&str>) -> Result<(RqlAnswer, Held)> {
        let pinned = self.pin().await?;
        let entity_type = type_of(&pinned, query, asked)?;
        let (usual, most) = LIMIT;
        let limit = query.limit.unwrap_or(usual);
        if limit > most {
            let instead = "ask for fewer, and go on with the cursor";
            return Err(QueryError::TooMany { what: "entities", limit: most, instead });
        }
        let cursor = query.cursor.as_deref().map(|text| Cursor::of(text, query, &entity_type)).transpose()?;
        // Pages to come are of what there is now, also where more is asked for; so what the first one saw is the limit of all of them.
        let asked = query.sequence.into_iter().chain(cursor.as_ref().and_then(|cursor| cursor.sequence));
        let sequence = pinned.head.map(|head| asked.fold(head, u64::min));
        let instant = Instant { as_of_ms: query.as_of_ms, known_at_ms: query.known_at_ms };
        let at = pinned.within(LogInstant { instant, sequence });

        let condition = query.condition.as_ref().map(compile);
        let mut first = First {
            query,
            cursor,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            found: BinaryHeap::new(),
            held: Held::new(&self.session, "entities that a query found"),
        };
        self.each(&pinned, &entity_type, at, condition, |found| first.take(found)).await?;
        let (found, is_more, held) = first.end();
        let cursor = found
            .last()
            .filter(|_| is_more)
            .map(|last| Cursor::behind(last, query, &entity_type, sequence).print());
        let (included, along) = include::included(self, &pinned, &entity_type, at, query, &found).await?;
        let bytes = held.size() + along.size();
        drop(along);
        held.resize(bytes)?;
        let entities =
            found.into_iter().zip(included).map(|(found, included)| entity(query, found, included));
        Ok((RqlAnswer { entity_type, entities: entities.collect(), cursor, sequence }, held))
    }

    /// Gives each entity of a type that is there at an instant and meets a condition over `id` and `state`.
    async fn each(
        &self,
        pinned: &Arc<Pinned>,
        entity_type: &str,
        at: LogInstant,
        condition: Option<Expr>,
        mut each: impl FnMut(Found) -> Result<()>,
    ) -> Result<()> {
        let what = What::Entities { entity_type: entity_type.to_owned(), shape: None };
        let table = Arc::new(InstantTable::new(Arc::clone(pinned), what, at));
        let failed = |error| QueryError::of(error, &self.session);
        let mut frame = self.session.context().read_table(table).map_err(failed)?;
        if let Some(condition) = condition {
            frame = frame.filter(condition).map_err(failed)?;
        }
        let mut rows: SendableRecordBatchStream = frame.execute_stream().await.map_err(failed)?;
        while let Some(batch) = rows.next().await {
            for found in found_in(&batch.map_err(failed)?)? {
                each(found)?;
            }
        }
        Ok(())
    }
}

fn type_of(pinned: &Pinned, query: &Query, asked: Option<&str>) -> Result<String> {
    let written = query.entity.as_deref().map(|name| pinned.entity_type(name)).transpose()?;
    let asked = asked.map(|name| pinned.entity_type(name)).transpose()?;
    match (written, asked) {
        (None, None) => Err(QueryError::NoEntity),
        (Some(written), Some(asked)) if written != asked => {
            Err(QueryError::OtherEntity { written: written.to_owned(), asked: asked.to_owned() })
        }
        (Some(one), _) | (None, Some(one)) => Ok(one.to_owned()),
    }
}

fn entity(query: &Query, found: Found, included: Map<String, Value>) -> RqlEntity {
    let Found { id, mut state, version, updated_at_ms, sequence, .. } = found;
    if !query.fields.iter().any(|field| field == compile::ID) {
        // It stands beside the state.
        state.remove(compile::ID);
    }
    RqlEntity { entity_id: id, state: query.pick(&state), version, updated_at_ms, sequence, included }
}

/// The entities of a batch.
fn found_in(batch: &RecordBatch) -> Result<Vec<Found>> {
    fn column<'a, A: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A> {
        let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref());
        column.ok_or_else(|| QueryError::Ended {
            why: format!("the column {name} is not what it was planned to be"),
        })
    }
    let (ids, states) =
        (column::<StringArray>(batch, compile::ID)?, column::<StringArray>(batch, compile::STATE)?);
    let versions = column::<Int64Array>(batch, "_version")?;
    let times = column::<TimestampMicrosecondArray>(batch, "_updated_at")?;
    let sequences = column::<Int64Array>(batch, "_seq")?;
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let mut all = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let (id, text) = (ids.value(row), states.value(row));
        let unread = |error: datafusion::common::DataFusionError| QueryError::State {
            entity_id: id.to_owned(),
            why: error.strip_backtrace(),
        };
        let state = with_id(parse(text).map_err(unread)?, id);
        all.push(Found {
            id: id.to_owned(),
            bytes: FOUND_BYTES + id.len() + held_bytes(&state),
            state,
            version: unsigned(versions.value(row)),
            updated_at_ms: times.value(row).div_euclid(1000),
            sequence: unsigned(sequences.value(row)),
        });
    }
    Ok(all)
}

/// Entities that are in memory, and texts made of them, which count with all questions.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: MemoryReservation,
    session: Session,
}

impl Held {
    fn new(session: &Session, what: &'static str) -> Self {
        let pool = &session.context().runtime_env().memory_pool;
        Self { bytes: MemoryConsumer::new(what).register(pool), session: session.clone() }
    }

    /// So many bytes in all; gives whether one question may have them.
    pub(crate) fn resize(&self, bytes: usize) -> Result<bool> {
        self.bytes.try_resize(bytes).map_err(|error| QueryError::of(error, &self.session))?;
        Ok(bytes <= HELD_BYTES_MAX)
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.size()
    }
}

fn too_much(what: &'static str) -> QueryError {
    let instead = "ask for fewer entities at a time, and go on with the cursor";
    QueryError::TooMany { what, limit: HELD_BYTES_MAX as u64, instead }
}

/// The first ones by the query's order, behind a cursor.
struct First<'a> {
    query: &'a Query,
    cursor: Option<Cursor>,
    limit: usize,
    /// As many as are given, and one more, which says that there are more; the last one on top.
    found: BinaryHeap<Ranked<'a>>,
    held: Held,
}

impl First<'_> {
    fn take(&mut self, found: Found) -> Result<()> {
        if self.cursor.as_ref().is_some_and(|cursor| !cursor.is_before(&found, self.query)) {
            return Ok(());
        }
        let mut bytes = self.held.size() + found.bytes;
        self.found.push(Ranked { query: self.query, found });
        if self.found.len() > self.limit.saturating_add(1) {
            bytes -= self.found.pop().map_or(0, |last| last.found.bytes);
        }
        if self.held.resize(bytes)? { Ok(()) } else { Err(too_much("the bytes of these entities")) }
    }

    fn end(self) -> (Vec<Found>, bool, Held) {
        let is_more = self.found.len() > self.limit;
        let mut found: Vec<Found> =
            self.found.into_sorted_vec().into_iter().map(|ranked| ranked.found).collect();
        found.truncate(self.limit);
        (found, is_more, self.held)
    }
}

/// An entity with the order that a query has.
struct Ranked<'a> {
    query: &'a Query,
    found: Found,
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.found, &other.found);
        compare(self.query, (&a.state, &a.id), (&b.state, &b.id))
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked<'_> {}

fn compare(
    query: &Query,
    (a, a_id): (&Map<String, Value>, &str),
    (b, b_id): (&Map<String, Value>, &str),
) -> Ordering {
    query.compare(a, b).then_with(|| a_id.cmp(b_id))
}

/// Where a page ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    /// Of which query: a hash of all of it but the page.
    query: u64,
    id: String,
    /// Of the last entity, what it is ordered by: fields by their whole names.
    by: Map<String, Value>,
    sequence: Option<u64>,
}

impl Cursor {
    fn of(text: &str, query: &Query, entity_type: &str) -> Result<Self> {
        let refused = |why: String| QueryError::Cursor { why };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|error| refused(error.to_string()))?;
        let cursor: Self = serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
        if cursor.query == Self::hash(query, entity_type) {
            Ok(cursor)
        } else {
            Err(refused("it is of another query".to_owned()))
        }
    }

    /// How many are asked for at a time, and the page itself, may be others on each page.
    fn hash(query: &Query, entity_type: &str) -> u64 {
        let asked = Query { entity: None, limit: None, cursor: None, ..query.clone() };
        xxh64(format!("{entity_type}\n{asked}").as_bytes(), 0)
    }

    fn behind(last: &Found, query: &Query, entity_type: &str, sequence: Option<u64>) -> Self {
        let value = |field: &str| Some((field.to_owned(), field_of(&last.state, field)?.clone()));
        let by = query.order.iter().filter_map(|term| value(&term.field)).collect();
        Self { query: Self::hash(query, entity_type), id: last.id.clone(), by, sequence }
    }

    fn print(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn is_before(&self, found: &Found, query: &Query) -> bool {
        compare(query, (&self.by, &self.id), (&found.state, &found.id)).is_lt()
    }
}
