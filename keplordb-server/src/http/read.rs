//! Entities and schemas, as they are and were.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::answer::{Failure, blocking, time_ms};
use crate::auth::Caller;
use crate::blame::{Blame, Change};
use crate::capture::Capture;
use crate::entity::{self, EntityEvent, Instant};
use crate::error::ServerError;
use crate::log::{EntityLog, TypeSummary};
use crate::name::shown;
use crate::versions::Version;

/// Entities of a page where the request does not say how many, and the most.
const PAGE: (usize, usize) = (100, 1000);
/// Ids that are offered where one is unknown.
const NEAR: usize = 5;

/// The instant that a request is about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    as_of: Option<String>,
    known_at: Option<String>,
}

impl At {
    fn instant(&self) -> Result<Instant, Failure> {
        let time =
            |field, text: &Option<String>| text.as_deref().map(|text| time_ms(field, text)).transpose();
        Ok(Instant { as_of_ms: time("as_of", &self.as_of)?, known_at_ms: time("known_at", &self.known_at)? })
    }
}

/// An entity at an instant.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "an answer's fields are called as everywhere")]
pub(super) struct Entity {
    entity_type: String,
    entity_id: String,
    /// `null` where it is deleted.
    state: Option<Map<String, Value>>,
    version: u64,
    /// Of the last event in their order.
    sequence: u64,
    event_time_ms: i64,
    received_at_ms: i64,
}

pub(super) async fn types(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<TypeSummary>>, Failure> {
    let log = capture.log();
    blocking(move || {
        let mut types = log.types()?;
        types.retain(|of_type| caller.may_touch(&of_type.entity_type));
        Ok(Json(types))
    })
    .await
}

/// Which entities are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// In RQL, instead of all else.
    q: Option<String>,
    begin: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    as_of: Option<String>,
    known_at: Option<String>,
}

/// A page of entities, also of deleted ones.
#[derive(Serialize)]
pub(super) struct Page {
    entities: Vec<Entity>,
    /// What to ask for next, as `after`; nothing behind the last page.
    next: Option<String>,
}

pub(super) async fn entities(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    #[cfg(feature = "sql")] Extension(questions): Extension<super::sql::Questions>,
    Path(entity_type): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    if let Some(query) = &asked.q {
        let others = [&asked.begin, &asked.after, &asked.as_of, &asked.known_at];
        if asked.limit.is_some() || others.iter().any(|other| other.is_some()) {
            return Err(Failure::invalid("q stands alone; RQL has limit, cursor, as_of and known_at itself"));
        }
        #[cfg(feature = "sql")]
        return super::sql::entities(&capture, &caller, &questions, &entity_type, query).await;
        #[cfg(not(feature = "sql"))]
        return Err(Failure::invalid(format!("{query:?}: this server was built without queries")));
    }
    Ok(page(&capture, entity_type, asked).await?.into_response())
}

async fn page(capture: &Capture, entity_type: String, asked: Asked) -> Result<Json<Page>, Failure> {
    let log = capture.log();
    blocking(move || {
        let instant = At { as_of: asked.as_of, known_at: asked.known_at }.instant()?;
        let (usual, most) = PAGE;
        let limit = asked.limit.unwrap_or(usual).min(most);
        let begin = asked.begin.unwrap_or_default();
        let ids = log.ids(&entity_type, &begin, asked.after.as_deref(), limit)?;
        let mut entities = Vec::with_capacity(ids.len());
        for id in &ids {
            entities.extend(entity_at(&log, &entity_type, id, instant)?);
        }
        let next = ids.last().filter(|_| ids.len() == limit).cloned();
        Ok(Json(Page { entities, next }))
    })
    .await
}

/// `None` where the instant sees none of its events.
fn entity_at(
    log: &EntityLog,
    entity_type: &str,
    id: &str,
    instant: Instant,
) -> Result<Option<Entity>, Failure> {
    let events = log.history(entity_type, id, instant)?;
    let Some(last) = events.last() else { return Ok(None) };
    let fold = entity::fold(&events);
    Ok(Some(Entity {
        entity_type: entity_type.to_owned(),
        entity_id: id.to_owned(),
        state: fold.state().cloned(),
        version: fold.version(),
        sequence: last.sequence,
        event_time_ms: last.event_time_ms,
        received_at_ms: last.received_at_ms,
    }))
}

pub(super) async fn entity(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    Path((entity_type, id)): Path<(String, String)>,
    Query(at): Query<At>,
) -> Result<Json<Entity>, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let log = capture.log();
    blocking(move || {
        let found = entity_at(&log, &entity_type, &id, at.instant()?)?;
        found.map(Json).ok_or_else(|| unknown(&log, &entity_type, &id))
    })
    .await
}

pub(super) async fn history(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    Path((entity_type, id)): Path<(String, String)>,
    Query(at): Query<At>,
) -> Result<Json<Vec<EntityEvent>>, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let log = capture.log();
    blocking(move || {
        let events = log.history(&entity_type, &id, at.instant()?)?;
        if events.is_empty() { Err(unknown(&log, &entity_type, &id)) } else { Ok(Json(events)) }
    })
    .await
}

pub(super) async fn blame(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    Path((entity_type, id)): Path<(String, String)>,
    Query(at): Query<At>,
) -> Result<Json<Vec<Blame>>, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let log = capture.log();
    blocking(move || {
        let instant = at.instant()?;
        if log.history(&entity_type, &id, instant)?.is_empty() {
            return Err(unknown(&log, &entity_type, &id));
        }
        Ok(Json(log.blame(&entity_type, &id, instant)?))
    })
    .await
}

/// Between which times something differs; the later one is now where it is not said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Between {
    a: String,
    b: Option<String>,
    known_at: Option<String>,
}

pub(super) async fn diff(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    Path((entity_type, id)): Path<(String, String)>,
    Query(between): Query<Between>,
) -> Result<Json<Vec<Change>>, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let log = capture.log();
    blocking(move || {
        let known_at_ms = between.known_at.as_deref().map(|text| time_ms("known_at", text)).transpose()?;
        let a = Instant { as_of_ms: Some(time_ms("a", &between.a)?), known_at_ms };
        let as_of_ms = between.b.as_deref().map(|text| time_ms("b", text)).transpose()?;
        if log.history(&entity_type, &id, Instant::default())?.is_empty() {
            return Err(unknown(&log, &entity_type, &id));
        }
        Ok(Json(log.diff(&entity_type, &id, a, Instant { as_of_ms, known_at_ms })?))
    })
    .await
}

pub(super) async fn versions(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    Path((entity_type, id)): Path<(String, String)>,
) -> Result<Json<Vec<Version>>, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let log = capture.log();
    blocking(move || {
        let versions = log.versions(&entity_type, &id)?;
        if versions.is_empty() { Err(unknown(&log, &entity_type, &id)) } else { Ok(Json(versions)) }
    })
    .await
}

/// That an entity has no event then: when its first one was, or which ones are near.
fn unknown(log: &EntityLog, entity_type: &str, id: &str) -> Failure {
    let found = || -> Result<String, Failure> {
        if let Some(first) = log.history(entity_type, id, Instant::default())?.first() {
            let time = jiff::Timestamp::from_millisecond(first.event_time_ms);
            let time = time.map_or_else(|_| first.event_time_ms.to_string(), |time| time.to_string());
            return Ok(format!("{} was not there yet; its first event is of {time}", shown(id)));
        }
        let begin: String = id.chars().take(id.chars().count().div_ceil(2)).collect();
        let near = log.ids(entity_type, &begin, None, NEAR)?;
        if near.is_empty() {
            return Ok(format!("there is no {entity_type} {}", shown(id)));
        }
        let near: Vec<_> = near.iter().map(|near| shown(near)).collect();
        Ok(format!("there is no {entity_type} {}; there are {}", shown(id), near.join(", ")))
    };
    match found() {
        Ok(why) => Failure::not_found(why),
        Err(failure) => failure,
    }
}

/// Which version of the schema is asked for; the newest where none is said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichSchema {
    version: Option<u32>,
}

pub(super) async fn schema(
    State(capture): State<Arc<Capture>>,
    Query(asked): Query<WhichSchema>,
) -> Result<Json<Value>, Failure> {
    let schemas = capture.schemas();
    let found = match asked.version {
        Some(version) => schemas.version(version),
        None => schemas.newest(),
    };
    let Some(schema) = found else {
        let why = format!("there is no such version; there are {}", schemas.all().len());
        return Err(Failure::not_found(why));
    };
    let types: Vec<_> = schema.types().collect();
    Ok(Json(json!({"version": schema.version(), "types": types, "text": schema.text()})))
}

pub(super) async fn push_schema(
    State(capture): State<Arc<Capture>>,
    text: String,
) -> Result<Json<Value>, Failure> {
    blocking(move || {
        let pushed = capture.push_schema_text("pushed.proto".as_ref(), &text);
        let version = pushed.map_err(|error| match error {
            ServerError::Schema { .. } => Failure::invalid(error.to_string()),
            other => Failure::internal(other.to_string()),
        })?;
        Ok(Json(json!({"version": version})))
    })
    .await
}

pub(super) async fn ready(State(capture): State<Arc<Capture>>) -> Result<&'static str, Failure> {
    blocking(move || {
        capture.health().map_err(crate::error::Refused::for_anybody)?;
        Ok("takes events\n")
    })
    .await
}

pub(super) async fn metrics(
    State(capture): State<Arc<Capture>>,
) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], capture.metrics_text())
}
