//! What the server answers, and to whom.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, REFERER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::Stream;
use futures::stream::unfold;
use leptos::config::LeptosOptions;
use leptos::prelude::provide_context;
use leptos::server_fn::error::SERVER_FN_ERROR_HEADER;
use leptos_axum::{LeptosRoutes, generate_route_list, render_app_async_with_context};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::App;
use crate::guard::Names;
use crate::shell::shell;
use crate::state::TodoError;
use crate::store::Store;

/// The largest request: a text of the greatest length, each byte of it as `%xx`, and room for the rest.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// How many windows may listen for changes at a time: each keeps a connection, and the log needs files, too.
const LISTENERS_MAX: usize = 256;

/// The name of the files that the program `bundle` writes.
pub const PROGRAM: &str = "leptos_todo";

/// Where the page that a form is on is said to be, so that the answer to it is on this server whatever the request says.
const HERE: &str = "http://here";

/// The program that takes the page over in the browser.
#[derive(Debug, Clone)]
pub struct Program {
    script: Bytes,
    wasm: Bytes,
}

impl Program {
    /// Reads it from the folder in which `bundle` put it; `None` if it is not there.
    pub fn read(folder: &Path) -> Option<Self> {
        let read = |name: String| std::fs::read(folder.join(name)).map(Bytes::from).ok();
        Some(Self { script: read(format!("{PROGRAM}.js"))?, wasm: read(format!("{PROGRAM}_bg.wasm"))? })
    }
}

/// Everything the server answers: the page, the five functions at `/api/…`, each change at `/changes`, and the files of the page.
pub fn router(store: Store, program: Option<Program>, names: Names) -> Router {
    let options = LeptosOptions::builder().output_name(PROGRAM).site_pkg_dir("pkg").build();
    let changes = store.clone();
    let places = Arc::new(Semaphore::new(LISTENERS_MAX));
    let shown = program.is_some().then(|| options.clone());
    let context = move || provide_context(store.clone());
    let page = move || shell(shown.clone());
    let mut router = Router::new()
        .leptos_routes_with_context(&options, generate_route_list(App), context.clone(), page.clone())
        // Of a page that is not there the application says so.
        .fallback(render_app_async_with_context(context, page))
        .route("/changes", get(move || async move { listen(&changes, places) }))
        .route("/style.css", get(async || file("text/css; charset=utf-8", include_str!("style.css"))))
        .route("/live.js", get(async || file("text/javascript; charset=utf-8", include_str!("live.js"))))
        .route("/icon.svg", get(async || file("image/svg+xml", include_str!("icon.svg"))));
    if let Some(Program { script, wasm }) = program {
        router = router
            .route(
                &format!("/pkg/{PROGRAM}.js"),
                get(async || file("text/javascript; charset=utf-8", script)),
            )
            .route(&format!("/pkg/{PROGRAM}_bg.wasm"), get(async || file("application/wasm", wasm)));
    }
    router
        .with_state(options)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(from_fn_with_state(names, keep_to_own_pages))
}

/// The stream of changes, if there is a place.
fn listen(store: &Store, places: Arc<Semaphore>) -> Response {
    match places.try_acquire_owned() {
        Ok(place) => Sse::new(versions(store, place)).keep_alive(KeepAlive::default()).into_response(),
        // Pages ask again.
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "Too many listen for changes.\n").into_response(),
    }
}

/// Each version of the list from the present one on, until the server ends. Keeps its place until then.
fn versions(
    store: &Store,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let mut versions = store.versions();
    // So that the present one counts as new.
    versions.mark_changed();
    unfold((versions, place), async |(mut versions, place)| {
        versions.changed().await.ok()?;
        let version = (*versions.borrow_and_update())?;
        Some((Ok(Event::default().data(version.to_string())), (versions, place)))
    })
}

fn file(kind: &'static str, content: impl IntoResponse) -> Response {
    // Another build of this program may bring others under the same names.
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], content).into_response()
}

/// Refuses what pages of other servers ask for, answers forms with the way back to the list, and programs with whose mistake it was.
async fn keep_to_own_pages(State(names): State<Names>, mut request: Request, next: Next) -> Response {
    if let Err(refusal) = names.check(&request) {
        return refusal.into_response();
    }
    // The way back is where the request says that the form was, with what went wrong behind it. There is one page only.
    request.headers_mut().insert(REFERER, HeaderValue::from_static(HERE));
    // A task of its own, so that it is done to its end when the browser goes away meanwhile: a page that is dropped while it is being
    // rendered has parts that still look for what was dropped with it.
    let Ok(mut response) = tokio::spawn(next.run(request)).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if response.status() == StatusCode::FOUND {
        *response.status_mut() = StatusCode::SEE_OTHER;
        let way = response.headers().get(LOCATION).and_then(|way| way.to_str().ok()?.strip_prefix(HERE));
        // Without an error a question mark is left over.
        let way = way.filter(|way| way.starts_with('/')).map(|way| way.trim_end_matches('?'));
        let way = way.and_then(|way| HeaderValue::from_str(way).ok());
        response.headers_mut().insert(LOCATION, way.unwrap_or(HeaderValue::from_static("/")));
    }
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR
        && response.headers().contains_key(SERVER_FN_ERROR_HEADER)
    {
        response = with_status_of_error(response).await;
    }
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What a function refused: the same answer, with a status that says whether to ask again.
async fn with_status_of_error(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    // It was made of an error here, and is as long as that is.
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if let Ok(error) = serde_json::from_slice(&body) {
        head.status = match error {
            TodoError::NoText | TodoError::TextTooLong => StatusCode::UNPROCESSABLE_ENTITY,
            TodoError::ListFull => StatusCode::CONFLICT,
            TodoError::NotThere => StatusCode::NOT_FOUND,
            TodoError::Request(_) => StatusCode::BAD_REQUEST,
            TodoError::Storage | TodoError::NotShown => StatusCode::INTERNAL_SERVER_ERROR,
        };
    }
    Response::from_parts(head, Body::from(body))
}
