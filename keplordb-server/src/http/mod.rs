//! HTTP beside gRPC, on the same address: events in as JSON, entities and events out.
//!
//! | route | what |
//! | --- | --- |
//! | `POST /events` | captures one record, or an array of them, all or none; a line each with `application/x-ndjson` |
//! | `GET /events?after=&type=&id=&limit=` | events in the order of the log |
//! | `GET /events/stream?after=&since=&type=&id=` | the same as server-sent events, those that are there and then those that come |
//! | `GET /events/{sequence}` | one of them |
//! | `GET /` | how many events there are, the last of them, and how far they are published |
//! | `GET /find?q=` | the entities with an id, of whatever type, and those whose ids begin so |
//! | `GET /e` | the types of which there are events |
//! | `GET /e/{type}?begin=&after=&limit=` | entities by their ids |
//! | `GET /e/{type}?q=` | entities by a query in RQL |
//! | `GET /e/{type}/{id}` | what it is |
//! | `GET /e/{type}/{id}/history` | its events |
//! | `GET /e/{type}/{id}/blame` | of each field the event that set it |
//! | `GET /e/{type}/{id}/diff?a=&b=` | what differs between two times |
//! | `GET /e/{type}/{id}/versions` | what it was in which span of time, on both axes |
//! | `GET /sql?q=&format=json\|csv\|arrow&as_of=&known_at=&seq=`, `POST /sql` | a statement in SQL, whose tables without a clause of their own are as of the instant |
//! | `GET /rql?q=`, `POST /rql` | a query in RQL, as text or as JSON |
//! | `GET /schema?version=`, `PUT /schema` | the custom schema |
//! | `GET /schema/{type}?version=` | what a type of it has, and what it refers to |
//! | `GET /login`, `POST /login`, `POST /logout` | the cookie by which a browser is let in |
//! | `GET /static/{file}` | what pages load |
//! | `GET /healthz`, `GET /readyz` | whether it runs; whether it takes events |
//! | `GET /metrics` | the [metrics](crate::metrics), for Prometheus |
//!
//! A browser gets pages at the same addresses: see [`explorer`](crate::explorer). `format=json` and `format=html` say which of the two is
//! wanted, whatever the header `accept` says.
//!
//! All that look at entities but `versions` take `as_of=` and `known_at=`: times of RFC 3339, or milliseconds since the Unix epoch.

mod answer;
mod events;
pub(crate) mod guard;
#[cfg(feature = "sql")]
mod outgoing;
mod read;
#[cfg(feature = "sql")]
mod sql;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};

use crate::capture::Capture;
use crate::explorer::{assets, login};
use crate::limits::{self, Room};

pub(crate) use answer::{Failure, time_ms};
pub(crate) use read::{Entity, Page};
#[cfg(feature = "sql")]
pub(crate) use sql::Questions;

/// Those who answer questions about a root.
///
/// # Errors
/// [`Questions`](crate::ServerError::Questions).
#[cfg(feature = "sql")]
pub(crate) fn questions(capture: &Arc<Capture>) -> Result<Questions, crate::error::ServerError> {
    Questions::new(Arc::clone(capture))
}

/// All routes over one root.
pub(crate) fn router(
    capture: Arc<Capture>,
    room: Room,
    #[cfg(feature = "sql")] questions: Questions,
) -> Router {
    let routes = Router::new();
    #[cfg(feature = "sql")]
    let routes =
        routes.route("/sql", get(sql::ask).post(sql::ask)).route("/rql", get(sql::rql).post(sql::rql));
    let routes = routes
        .route("/events", get(events::list).post(events::ingest))
        .route("/events/{sequence}", get(events::one))
        .route("/", get(read::home))
        .route("/find", get(read::find))
        .route("/e", get(read::types))
        .route("/e/{type}", get(read::entities))
        .route("/e/{type}/{id}", get(read::entity))
        .route("/e/{type}/{id}/history", get(read::history))
        .route("/e/{type}/{id}/blame", get(read::blame))
        .route("/e/{type}/{id}/diff", get(read::diff))
        .route("/e/{type}/{id}/versions", get(read::versions))
        .route("/schema", get(read::schema).put(read::push_schema))
        .route("/schema/{type}", get(read::schema_of_type))
        .route("/healthz", get(async || "runs\n"))
        .route("/readyz", get(read::ready))
        .route("/metrics", get(read::metrics))
        .layer(middleware::from_fn_with_state(room, limits::with_room))
        // Who has no key takes no room: his form is short.
        .merge(without_key())
        .layer(middleware::from_fn(limits::within_time))
        .route("/events/stream", get(events::stream))
        .layer(DefaultBodyLimit::max(limits::BODY_BYTES_MAX));
    #[cfg(feature = "sql")]
    let routes = routes.layer(axum::Extension(questions));
    routes.with_state(capture)
}

/// What is answered to those too who have no key yet.
fn without_key() -> Router<Arc<Capture>> {
    Router::new()
        .route("/login", get(login::page).post(login::enter))
        .route("/logout", post(login::leave))
        .route("/static/{file}", get(assets::file))
        .layer(DefaultBodyLimit::max(login::FORM_BYTES_MAX))
}
