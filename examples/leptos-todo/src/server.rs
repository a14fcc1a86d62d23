//! What the server answers, and to whom.

use std::convert::Infallible;
use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, REFERER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::Stream;
use futures::stream::unfold;
use leptos::config::LeptosOptions;
use leptos::prelude::provide_context;
use leptos_axum::{LeptosRoutes, generate_route_list};

use crate::app::App;
use crate::shell::shell;
use crate::store::Store;

/// The largest request: a text of the greatest length, each byte of it as `%xx`, and room for the rest.
const REQUEST_BYTES_MAX: usize = 16 << 10;

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
pub fn router(store: Store, program: Option<Program>) -> Router {
    let options = LeptosOptions::builder().output_name(PROGRAM).site_pkg_dir("pkg").build();
    let changes = store.clone();
    let shown = program.is_some().then(|| options.clone());
    let mut router = Router::new()
        .leptos_routes_with_context(
            &options,
            generate_route_list(App),
            move || provide_context(store.clone()),
            move || shell(shown.clone()),
        )
        .route(
            "/changes",
            get(move || async move { Sse::new(versions(&changes)).keep_alive(KeepAlive::default()) }),
        )
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
        .layer(from_fn(keep_to_own_pages))
}

/// Each version of the list from the present one on, until the server ends.
fn versions(store: &Store) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let mut versions = store.versions();
    // So that the present one counts as new.
    versions.mark_changed();
    unfold(versions, async |mut versions| {
        versions.changed().await.ok()?;
        let version = (*versions.borrow_and_update())?;
        Some((Ok(Event::default().data(version.to_string())), versions))
    })
}

fn file(kind: &'static str, content: impl IntoResponse) -> Response {
    // Another build of this program may bring others under the same names.
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], content).into_response()
}

/// Refuses changes that pages of other servers ask for, and answers forms with the way back to the list.
async fn keep_to_own_pages(mut request: Request, next: Next) -> Response {
    let is_change = request.method() != Method::GET && request.method() != Method::HEAD;
    if is_change && !is_from_own_page(request.headers()) {
        return (StatusCode::FORBIDDEN, "Changes are accepted from this server's own page only.\n")
            .into_response();
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
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Browsers say from where a request comes; what says nothing is no browser.
fn is_from_own_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(origin) = text("origin") {
        return origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == text("host"));
    }
    text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"))
}
