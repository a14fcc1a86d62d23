//! The files that pages load. They are in the program, so that there is nothing to install and nothing to fetch from elsewhere.

use std::sync::LazyLock;

use axum::extract::{Path, Query};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use xxhash_rust::xxh64::xxh64;

use crate::http::Failure;

/// A file by its name: its kind and its text.
const FILES: [(&str, &str, &str); 3] = [
    ("explorer.css", "text/css; charset=utf-8", include_str!("assets/explorer.css")),
    ("explorer.js", "text/javascript; charset=utf-8", include_str!("assets/explorer.js")),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

/// Of all files together: it changes with each of them.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hash = FILES.iter().fold(0, |seed, (_, _, text)| xxh64(text.as_bytes(), seed));
    format!("{hash:016x}")
});

/// What stands in the addresses of files, so that a browser never has those of another version of the server.
pub(super) fn version() -> &'static str {
    &VERSION
}

/// Which version is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    v: Option<String>,
}

pub(crate) async fn file(
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let found = FILES.iter().find(|(other, _, _)| *other == name);
    let Some((_, kind, text)) = found else {
        let names: Vec<_> = FILES.iter().map(|(name, _, _)| *name).collect();
        return Err(Failure::not_found(format!("there is no such file; there are {}", names.join(", "))));
    };
    let tag = format!("\"{}\"", version());
    let is_current = asked.v.as_deref() == Some(version());
    let keep = if is_current { "public, max-age=31536000, immutable" } else { "public, no-cache" };
    let has_it = headers.get_all(IF_NONE_MATCH).iter().any(|held| held.as_bytes() == tag.as_bytes());
    let common = [(ETAG, tag.as_str()), (CACHE_CONTROL, keep)];
    if has_it {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let kind = [
        (CONTENT_TYPE, *kind),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // An image that is opened by itself is a page too.
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ];
    Ok((common, kind, *text).into_response())
}
