//! What every request passes before it is answered, from without: the log, the names of the server, the key, the limits of gRPC.
//!
//! All of it is one layer: each would be one more copy of everything behind it, for every request.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::auth::{Admitted, Gate};
use crate::explorer::{Encrypted, Wants, failure};
use crate::http::guard::{self, Hosts};
use crate::limits::{self, Room};

/// What keeps requests out.
pub(crate) struct Guards {
    pub(crate) hosts: Hosts,
    pub(crate) gate: Gate,
    pub(crate) room: Room,
    /// Whether requests come over TLS.
    pub(crate) is_encrypted: bool,
}

/// Answers a request that may be answered, and refuses another. When the answer begins, a line is logged at the level `debug`; a stream
/// goes on behind it. The line says what was asked for, by whom, and what became of it; never what a request or an event holds, and no id
/// of an entity.
pub(crate) async fn guarded(State(guards): State<Arc<Guards>>, mut request: Request, next: Next) -> Response {
    let (method, begun) = (request.method().clone(), Instant::now());
    if guards.is_encrypted {
        request.extensions_mut().insert(Encrypted);
    }
    // What is refused is refused in the form that is wanted, wherever that happens.
    let (parts, body) = request.into_parts();
    let wants = Wants::of(&parts);
    request = Request::from_parts(parts, body);
    let admitted = match guard::foreign(&guards.hosts, &request) {
        Some(refused) => Err(Box::new(refused)),
        None => guards.gate.enter(&mut request),
    };
    let (response, admitted) = match admitted {
        Ok(admitted) => {
            let mut response = limits::of_methods(&guards.room, request, next).await;
            admitted.leave(&mut response);
            (response, Some(admitted))
        }
        Err(refused) => (*refused, None),
    };
    let response = failure::as_page(wants, response).await;
    let grpc_status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    tracing::debug!(
        method = method.as_str(),
        // Of what was refused not even the path is known to be harmless.
        path = admitted.as_ref().map(Admitted::path),
        key = admitted.as_ref().and_then(Admitted::key),
        status = response.status().as_u16(),
        grpc_status,
        took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        "request"
    );
    response
}
