//! What keeps a page of somebody else's from talking to a server on its reader's machine.
//!
//! Without keys a server listens on this machine alone, and whoever is on it may ask. A browser is on it too: a page that resolves its
//! own name to 127.0.0.1 (DNS rebinding) sends that name as `Host`, and a page that sends a form sends its own `Origin`. So a server is
//! asked for by the names that it was given, and by addresses, which nobody can resolve to something else.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::answer::Failure;
use crate::error::ServerError;

/// The names by which a server may be asked for.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    /// Beside those of this machine.
    names: Arc<[String]>,
    /// Whether any address is one, because others than this machine can reach the server by its own.
    is_any_address: bool,
}

impl Hosts {
    /// Those of this machine, and others.
    pub(crate) fn new(names: &[String], is_any_address: bool) -> Result<Self, ServerError> {
        for name in names {
            // As an authority without a port and a user.
            let authority = name.parse::<Authority>().ok();
            if name.is_empty() || authority.is_none_or(|authority| authority.host() != name) {
                return Err(ServerError::Host { host: name.clone() });
            }
        }
        Ok(Self { names: names.into(), is_any_address })
    }

    fn have(&self, authority: &Authority) -> bool {
        let host = authority.host();
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return address.is_loopback() || self.is_any_address;
        }
        host.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|name| host.eq_ignore_ascii_case(name))
    }
}

/// The refusal of a request that names another host than the server's, comes from another one's page, or says that it is gRPC by its path
/// alone: one that a browser sends for another page without asking first.
pub(crate) fn foreign(hosts: &Hosts, request: &Request) -> Option<Response> {
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        // Of two, whoever stands before the server may have looked at the other one.
        None if request.headers().get_all(HOST).iter().count() > 1 => None,
        None => text(request.headers(), HOST).and_then(|host| host.parse().ok()),
    };
    if !host.as_ref().is_some_and(|host| hosts.have(host)) {
        let why = "the request names another host; ask for localhost or 127.0.0.1, or give the server its name: --host";
        return Some(Failure::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", why).into_response());
    }
    if request.headers().contains_key(ORIGIN) {
        let origin = text(request.headers(), ORIGIN).and_then(|origin| origin.split_once("://"));
        let origin = origin.and_then(|(_, authority)| authority.parse::<Authority>().ok());
        if origin.is_none() || origin != host {
            let why = "the request comes from the page of another host";
            return Some(Failure::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", why).into_response());
        }
    }
    if request.uri().path().starts_with("/reflog.") || request.uri().path().starts_with("/grpc.") {
        let kind = text(request.headers(), CONTENT_TYPE).unwrap_or_default();
        if request.method() != Method::POST || !kind.starts_with("application/grpc") {
            let why = "this is a method of gRPC; its content-type is application/grpc";
            return Some(
                Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "INVALID_ARGUMENT", why).into_response(),
            );
        }
    }
    None
}

fn text(headers: &HeaderMap, name: axum::http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(hosts: &Hosts, name: &str) -> bool {
        hosts.have(&name.parse().unwrap())
    }

    #[test]
    fn this_machine_is_known_by_its_names_alone() {
        let hosts = Hosts::new(&[], false).unwrap();
        for name in ["localhost", "LOCALHOST:50051", "127.0.0.1:1", "127.8.8.8", "[::1]:50051"] {
            assert!(has(&hosts, name), "{name}");
        }
        for name in
            ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1", "[::2]", "0.0.0.0"]
        {
            assert!(!has(&hosts, name), "{name}");
        }
    }

    #[test]
    fn a_server_for_others_has_the_names_that_it_was_given_and_addresses() {
        let hosts = Hosts::new(&["events.example.org".to_owned()], true).unwrap();
        for name in
            ["events.example.org", "Events.Example.org:443", "10.0.0.1:50051", "[2001:db8::1]", "localhost"]
        {
            assert!(has(&hosts, name), "{name}");
        }
        for name in ["evil.test", "example.org", "events.example.org.evil.test", "10.0.0.1.evil.test"] {
            assert!(!has(&hosts, name), "{name}");
        }
        for wrong in
            ["", "https://example.org", "example.org:443", "me@example.org", "example.org/path", "a b"]
        {
            assert!(Hosts::new(&[wrong.to_owned()], true).is_err(), "{wrong}");
        }
    }
}
