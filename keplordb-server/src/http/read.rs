//! Entities and schemas, as they are and were.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::Response;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::answer::{Failure, blocking, time_ms};
use crate::auth::Caller;
use crate::capture::Capture;
use crate::entity::{self, Instant};
use crate::error::ServerError;
use crate::explorer::{self, Format, Source, View, Wants};
use crate::log::EntityLog;
use crate::name::shown;

/// Entities of a page where the request does not say how many, and the most.
const PAGE: (usize, usize) = (100, 1000);
/// Entities of a page that a person reads.
const PAGE_SHOWN: usize = 50;
/// Ids that are offered where one is unknown.
const NEAR: usize = 5;

/// The instant that a request is about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_field_names, reason = "they are called as the parameters are")]
pub(super) struct At {
    as_of: Option<String>,
    known_at: Option<String>,
    /// See [`Wants`], as in all that follow.
    #[serde(rename = "format")]
    _format: Option<Format>,
}

impl At {
    fn instant(&self) -> Result<Instant, Failure> {
        instant(self.as_of.as_deref(), self.known_at.as_deref())
    }
}

/// The instant that two times make. A form has a field that nobody filled in as an empty text.
pub(super) fn instant(as_of: Option<&str>, known_at: Option<&str>) -> Result<Instant, Failure> {
    let time = |field, text: Option<&str>| {
        text.filter(|text| !text.is_empty()).map(|text| time_ms(field, text)).transpose()
    };
    Ok(Instant { as_of_ms: time("as_of", as_of)?, known_at_ms: time("known_at", known_at)? })
}

/// What pages are made of.
pub(super) fn source(capture: &Capture, caller: Caller) -> Source {
    Source { log: capture.log(), schemas: capture.schemas(), caller }
}

/// An entity at an instant.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "an answer's fields are called as everywhere")]
pub(crate) struct Entity {
    pub(crate) entity_type: String,
    pub(crate) entity_id: String,
    /// `null` where it is deleted.
    pub(crate) state: Option<Map<String, Value>>,
    pub(crate) version: u64,
    /// Of the last event in their order.
    pub(crate) sequence: u64,
    pub(crate) event_time_ms: i64,
    pub(crate) received_at_ms: i64,
}

pub(super) async fn types(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    wants: Wants,
    Query(_): Query<At>,
) -> Result<Response, Failure> {
    let source = source(&capture, caller);
    blocking(move || {
        let mut types = source.log.types()?;
        types.retain(|of_type| source.caller.may_touch(&of_type.entity_type));
        wants.both(|| Ok(&types), |view| Ok(explorer::types::page(view, &source, &types)))
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
    #[serde(rename = "format")]
    _format: Option<Format>,
}

/// A page of entities, also of deleted ones.
#[derive(Serialize)]
pub(crate) struct Page {
    pub(crate) entities: Vec<Entity>,
    /// What to ask for next, as `after`; nothing behind the last page.
    pub(crate) next: Option<String>,
    /// How many were looked at: those among them that the instant does not see are left out.
    #[serde(skip)]
    pub(crate) looked_at: usize,
}

pub(super) async fn entities(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    #[cfg(feature = "sql")] Extension(questions): Extension<super::sql::Questions>,
    wants: Wants,
    Path(entity_type): Path<String>,
    Query(mut asked): Query<Asked>,
) -> Result<Response, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let query = match (asked.q.take(), &wants) {
        (None, _) => None,
        // A form that nobody filled in.
        (Some(query), Wants::Page(_)) if query.trim().is_empty() => None,
        (Some(query), Wants::Page(view)) => {
            return found(
                &capture,
                &caller,
                #[cfg(feature = "sql")]
                &questions,
                view,
                &entity_type,
                &query,
            )
            .await;
        }
        (query, Wants::Json) => query,
    };
    if let Some(query) = query {
        let others = [&asked.begin, &asked.after, &asked.as_of, &asked.known_at];
        if asked.limit.is_some() || others.iter().any(|other| other.is_some()) {
            return Err(Failure::invalid("q stands alone; RQL has limit, cursor, as_of and known_at itself"));
        }
        #[cfg(feature = "sql")]
        return super::sql::entities(&capture, &caller, &questions, &entity_type, &query).await;
        #[cfg(not(feature = "sql"))]
        return Err(Failure::invalid(format!("{query:?}: this server was built without queries")));
    }
    let source = source(&capture, caller);
    blocking(move || {
        let usual = if matches!(wants, Wants::Page(_)) { PAGE_SHOWN } else { PAGE.0 };
        let page = page(&source.log, &entity_type, &asked, usual)?;
        let begin = asked.begin.as_deref().unwrap_or_default();
        wants.both(|| Ok(&page), |view| explorer::entities::page(view, &source, &entity_type, begin, &page))
    })
    .await
}

/// What a query in RQL finds, as a page.
#[cfg(feature = "sql")]
async fn found(
    capture: &Capture,
    caller: &Caller,
    questions: &super::sql::Questions,
    view: &View,
    entity_type: &str,
    query: &str,
) -> Result<Response, Failure> {
    let known = capture.schemas();
    let schema = known.newest().and_then(|schema| schema.get(entity_type));
    let asked = explorer::found::read(view, query)?;
    let answer = super::sql::found(capture, caller, questions, entity_type, asked.clone()).await?;
    Ok(explorer::found::page(view, entity_type, schema, query, &asked, &answer))
}

#[cfg(not(feature = "sql"))]
#[allow(clippy::unused_async, reason = "with queries it waits for the answer")]
async fn found(
    _: &Capture,
    _: &Caller,
    view: &View,
    entity_type: &str,
    _: &str,
) -> Result<Response, Failure> {
    Ok(explorer::entities::without_queries(view, entity_type))
}

fn page(log: &EntityLog, entity_type: &str, asked: &Asked, usual: usize) -> Result<Page, Failure> {
    let instant = instant(asked.as_of.as_deref(), asked.known_at.as_deref())?;
    let limit = asked.limit.unwrap_or(usual).min(PAGE.1);
    let begin = asked.begin.as_deref().unwrap_or_default();
    let ids = log.ids(entity_type, begin, asked.after.as_deref(), limit)?;
    let mut entities = Vec::with_capacity(ids.len());
    for id in &ids {
        entities.extend(entity_at(log, entity_type, id, instant)?);
    }
    let next = ids.last().filter(|_| ids.len() == limit).cloned();
    Ok(Page { entities, next, looked_at: ids.len() })
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

/// An entity, and of a page also which step of its slider.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AtStep {
    as_of: Option<String>,
    known_at: Option<String>,
    step: Option<usize>,
    #[serde(rename = "format")]
    _format: Option<Format>,
}

pub(super) async fn entity(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    wants: Wants,
    Path((entity_type, id)): Path<(String, String)>,
    Query(at): Query<AtStep>,
) -> Result<Response, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let source = source(&capture, caller);
    blocking(move || {
        let instant = instant(at.as_of.as_deref(), at.known_at.as_deref())?;
        let json = || {
            if at.step.is_some() {
                return Err(Failure::invalid("step is of pages; say as_of"));
            }
            let found = entity_at(&source.log, &entity_type, &id, instant)?;
            found.ok_or_else(|| unknown(&source.log, &entity_type, &id))
        };
        wants.both(json, |view| explorer::entity::page(view, &source, &entity_type, &id, at.step))
    })
    .await
}

/// The history of an entity, and of a page also which part of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedHistory {
    as_of: Option<String>,
    known_at: Option<String>,
    /// Of a page: the versions before this one.
    before: Option<usize>,
    /// Of a page: the versions in which this field changed.
    field: Option<String>,
    #[serde(rename = "format")]
    _format: Option<Format>,
}

pub(super) async fn history(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    wants: Wants,
    Path((entity_type, id)): Path<(String, String)>,
    Query(asked): Query<AskedHistory>,
) -> Result<Response, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let source = source(&capture, caller);
    blocking(move || {
        let instant = instant(asked.as_of.as_deref(), asked.known_at.as_deref())?;
        let events = source.log.history(&entity_type, &id, instant)?;
        if events.is_empty() {
            return wants.both(
                || Err::<(), _>(unknown(&source.log, &entity_type, &id)),
                |view| explorer::absent::page(view, &source, &entity_type, &id),
            );
        }
        let field = asked.field.as_deref().filter(|field| !field.is_empty());
        let part = explorer::history::Part { before: asked.before, field };
        wants.both(|| Ok(&events), |view| Ok(explorer::history::page(view, &entity_type, &id, &events, part)))
    })
    .await
}

pub(super) async fn blame(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    wants: Wants,
    Path((entity_type, id)): Path<(String, String)>,
    Query(at): Query<At>,
) -> Result<Response, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let source = source(&capture, caller);
    blocking(move || {
        let events = source.log.history(&entity_type, &id, at.instant()?)?;
        if events.is_empty() {
            return wants.both(
                || Err::<(), _>(unknown(&source.log, &entity_type, &id)),
                |view| explorer::absent::page(view, &source, &entity_type, &id),
            );
        }
        let fields = crate::blame::blame(&events);
        wants.both(|| Ok(&fields), |view| Ok(explorer::blame::page(view, &entity_type, &id, &fields)))
    })
    .await
}

/// Between which times something differs. The later one is now where it is not said, and the earlier one that of the version before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Between {
    a: Option<String>,
    b: Option<String>,
    /// The later time, where `b` does not say it.
    as_of: Option<String>,
    known_at: Option<String>,
    /// Of a page: fields that are equal too.
    all: Option<String>,
    #[serde(rename = "format")]
    _format: Option<Format>,
}

pub(super) async fn diff(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    wants: Wants,
    Path((entity_type, id)): Path<(String, String)>,
    Query(between): Query<Between>,
) -> Result<Response, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let source = source(&capture, caller);
    blocking(move || {
        let time = |field, text: Option<&str>| {
            text.filter(|text| !text.is_empty()).map(|text| time_ms(field, text)).transpose()
        };
        let instant = instant(between.as_of.as_deref(), between.known_at.as_deref())?;
        let asked = explorer::diff::Asked {
            a_ms: time("a", between.a.as_deref())?,
            b_ms: time("b", between.b.as_deref())?,
            is_all: between.all.is_some(),
        };
        let json = || {
            let known = Instant { as_of_ms: None, ..instant };
            let events = source.log.history(&entity_type, &id, known)?;
            // Of what was not known then, the times that were said differ in nothing.
            if events.is_empty() && source.log.history(&entity_type, &id, Instant::default())?.is_empty() {
                return Err(unknown(&source.log, &entity_type, &id));
            }
            let (a_ms, b_ms) = explorer::diff::sides(&events, asked, instant.as_of_ms);
            let at = |as_of_ms| {
                let at = Instant { as_of_ms, ..Instant::default() };
                entity::fold(events.iter().filter(|event| at.sees(event)))
            };
            Ok(crate::blame::diff(at(a_ms).state(), at(b_ms).state()))
        };
        wants.both(json, |view| explorer::diff::page(view, &source, &entity_type, &id, asked))
    })
    .await
}

pub(super) async fn versions(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    wants: Wants,
    Path((entity_type, id)): Path<(String, String)>,
    Query(at): Query<At>,
) -> Result<Response, Failure> {
    capture.counted(caller.check_type(&entity_type))?;
    let source = source(&capture, caller);
    blocking(move || {
        let versions = source.log.versions(&entity_type, &id)?;
        if versions.is_empty() {
            return wants.both(
                || Err::<(), _>(unknown(&source.log, &entity_type, &id)),
                |view| explorer::absent::page(view, &source, &entity_type, &id),
            );
        }
        // On both axes there is no instant.
        at.instant()?;
        wants.both(|| Ok(&versions), |view| Ok(explorer::versions::page(view, &entity_type, &id, &versions)))
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
    /// Of pages, which keep the instant in their links; a schema has its versions instead.
    #[serde(rename = "as_of")]
    _as_of: Option<String>,
    #[serde(rename = "known_at")]
    _known_at: Option<String>,
    #[serde(rename = "format")]
    _format: Option<Format>,
}

pub(super) async fn schema(
    State(capture): State<Arc<Capture>>,
    wants: Wants,
    Query(asked): Query<WhichSchema>,
) -> Result<Response, Failure> {
    let schemas = capture.schemas();
    let found = match asked.version {
        Some(version) => schemas.version(version),
        None => schemas.newest(),
    };
    let Some(schema) = found else {
        let why = format!("there is no such version; there are {}", schemas.all().len());
        if schemas.all().is_empty() {
            return wants
                .both(|| Err::<(), _>(Failure::not_found(why)), |view| Ok(explorer::schema::none(view)));
        }
        return Err(Failure::not_found(why));
    };
    let types: Vec<_> = schema.types().collect();
    wants.both(
        || Ok(json!({"version": schema.version(), "types": types, "text": schema.text()})),
        |view| Ok(explorer::schema::page(view, &schemas, schema)),
    )
}

pub(super) async fn schema_of_type(
    State(capture): State<Arc<Capture>>,
    wants: Wants,
    Path(entity_type): Path<String>,
    Query(asked): Query<WhichSchema>,
) -> Result<Response, Failure> {
    let schemas = capture.schemas();
    let found = asked.version.map_or_else(|| schemas.newest(), |version| schemas.version(version));
    let of_type = found.and_then(|schema| Some((schema, schema.get(&entity_type)?)));
    let Some((schema, of_type)) = of_type else {
        return Err(Failure::not_found(format!("the schema has no {}", shown(&entity_type))));
    };
    let fields = of_type.fields();
    let fields =
        fields.iter().map(|field| json!({"path": field.path, "kind": field.kind, "numbers": field.numbers}));
    let references = of_type.references().map(|(field, reference)| {
        json!({"field": field, "entity_type": reference.entity_type, "of_field": reference.field, "relationship": reference.relationship})
    });
    wants.both(
        || {
            let (fields, references): (Vec<_>, Vec<_>) = (fields.collect(), references.collect());
            Ok(json!({"entity_type": entity_type, "version": schema.version(), "fields": fields, "references": references}))
        },
        |view| Ok(explorer::schema::of_type(view, &schemas, schema, &entity_type, of_type)),
    )
}

/// What is asked of the first page.
pub(super) async fn home(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    wants: Wants,
    Query(_): Query<At>,
) -> Result<Response, Failure> {
    let source = source(&capture, caller);
    blocking(move || {
        let summary = explorer::home::Summary::of(&capture, &source)?;
        wants.both(|| Ok(&summary), |view| Ok(explorer::home::page(view, &source, &summary)))
    })
    .await
}

/// Which id is looked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedFind {
    q: Option<String>,
    #[serde(rename = "as_of")]
    _as_of: Option<String>,
    #[serde(rename = "known_at")]
    _known_at: Option<String>,
    #[serde(rename = "format")]
    _format: Option<Format>,
}

pub(super) async fn find(
    State(capture): State<Arc<Capture>>,
    Extension(caller): Extension<Caller>,
    wants: Wants,
    Query(asked): Query<AskedFind>,
) -> Result<Response, Failure> {
    let source = source(&capture, caller);
    blocking(move || {
        let text = asked.q.as_deref().unwrap_or_default().trim();
        let found = explorer::find::Found::of(&source, text)?;
        wants.both(|| Ok(&found), |view| Ok(explorer::find::page(view, &source, text, &found)))
    })
    .await
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
