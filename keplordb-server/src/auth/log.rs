//! A line of the log for each request, at the level `debug`: what was asked for, by whom, and what became of it; never what a request
//! or an event holds, and no id of an entity.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use super::{Caller, Row};

/// What the gate tells of a request that it let through.
#[derive(Debug, Clone)]
pub(super) struct Told {
    path: &'static str,
    key: Option<String>,
}

impl Told {
    pub(super) fn of(row: &'static Row, caller: &Caller) -> Self {
        let key = match caller {
            Caller::Anybody { .. } => None,
            Caller::Holder { key, .. } => Some(key.name.clone()),
        };
        Self { path: row.path, key }
    }
}

/// Writes the line when the answer begins; a stream goes on behind it.
pub(crate) async fn logged(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let begun = Instant::now();
    let response = next.run(request).await;
    let told = response.extensions().get::<Told>();
    let grpc_status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    tracing::debug!(
        method = method.as_str(),
        // Of what was refused not even the path is known to be harmless.
        path = told.map(|told| told.path),
        key = told.and_then(|told| told.key.as_deref()),
        status = response.status().as_u16(),
        grpc_status,
        took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        "request"
    );
    response
}
