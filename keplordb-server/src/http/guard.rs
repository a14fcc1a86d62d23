//! What keeps a page of somebody else's from talking to a server on its reader's machine, and a request from lasting.
//!
//! Without keys a server listens on this machine alone, and whoever is on it may ask. A browser is on it too: a page that resolves its
//! own name to 127.0.0.1 (DNS rebinding) sends that name as `Host`, and a page that sends a form sends its own `Origin`.

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::REQUEST_MAX;
use super::answer::Failure;

/// Refuses requests that name another host than this machine, come from another one's page, or say that they are gRPC by their path
/// alone: those a browser sends for another page without asking first.
pub(crate) async fn same_origin(request: Request, next: Next) -> Response {
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => text(request.headers(), HOST).and_then(|host| host.parse().ok()),
    };
    if !host.as_ref().is_some_and(is_this_machine) {
        let why = "the request names another host; ask for localhost or 127.0.0.1";
        return Failure::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", why).into_response();
    }
    if request.headers().contains_key(ORIGIN) {
        let origin = text(request.headers(), ORIGIN).and_then(|origin| origin.split_once("://"));
        let origin = origin.and_then(|(_, authority)| authority.parse::<Authority>().ok());
        if origin.is_none() || origin != host {
            let why = "the request comes from the page of another host";
            return Failure::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", why).into_response();
        }
    }
    if request.uri().path().starts_with("/reflog.") || request.uri().path().starts_with("/grpc.") {
        let kind = text(request.headers(), CONTENT_TYPE).unwrap_or_default();
        if request.method() != Method::POST || !kind.starts_with("application/grpc") {
            let why = "this is a method of gRPC; its content-type is application/grpc";
            return Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "INVALID_ARGUMENT", why).into_response();
        }
    }
    next.run(request).await
}

fn text(headers: &HeaderMap, name: axum::http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_this_machine(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || host.eq_ignore_ascii_case("localhost")
}

/// Ends requests that take too long.
pub(super) async fn within_time(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(REQUEST_MAX, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let why = format!("the request took longer than {} s; ask for less", REQUEST_MAX.as_secs());
        Failure::new(StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", why).into_response()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names_alone() {
        for name in ["localhost", "LOCALHOST:50051", "127.0.0.1:1", "127.8.8.8", "[::1]:50051"] {
            assert!(is_this_machine(&name.parse().unwrap()), "{name}");
        }
        for name in
            ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1", "[::2]", "0.0.0.0"]
        {
            assert!(!is_this_machine(&name.parse().unwrap()), "{name}");
        }
    }
}
