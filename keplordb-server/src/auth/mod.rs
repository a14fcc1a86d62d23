//! The gate before everything that is asked over HTTP and gRPC: it finds the row of [`TABLE`] that a request is about, and lets in who
//! has a key with the scope that stands there.
//!
//! Without keys everybody on this machine is let in, and others cannot reach the server. It knows nothing of events and entities; which
//! of them a key is for is asked where they are, through the `Caller` that it gives along.

mod caller;
mod table;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tonic::{Code, Status};

pub use table::{Need, Row, TABLE};

pub(crate) use caller::Caller;

use crate::explorer::login::key_in;
use crate::http::Failure;
use crate::keys::{Found, Key, Ring, names};
use crate::metrics::Metrics;
use table::{Meant, meant};

/// The cookie in which a browser keeps a key.
pub(crate) const COOKIE: &str = "keplor_key";

/// What the gate knows.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) ring: Arc<Ring>,
    /// Whether a key is needed even where the root has none: others than this machine can reach the server.
    pub(crate) is_always_asking: bool,
    pub(crate) metrics: Arc<Metrics>,
}

/// Stands in an answer to somebody who had the key that he needed, or needed none for what needs one elsewhere: his connection may stay
/// open for longer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LetIn;

/// A request that may be answered.
pub(crate) struct Admitted {
    row: &'static Row,
    key: Option<String>,
}

impl Admitted {
    /// The route, or the method of gRPC, as the table has it.
    pub(crate) fn path(&self) -> &'static str {
        self.row.path
    }

    /// The name of the key.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Tells those behind the answer how long its connection may stay open.
    pub(crate) fn leave(&self, response: &mut Response) {
        if self.row.need != Need::Nothing {
            response.extensions_mut().insert(LetIn);
        }
    }
}

impl Gate {
    /// Lets a request through that may be answered, with its [`Caller`] and its [`Need`]; gives the answer to another.
    pub(crate) fn enter(&self, request: &mut Request) -> Result<Admitted, Box<Response>> {
        match self.admit(request) {
            Ok((row, caller)) => {
                let key = caller.key_name().map(str::to_owned);
                request.extensions_mut().insert(caller);
                request.extensions_mut().insert(row.need);
                Ok(Admitted { row, key })
            }
            Err(refused) => {
                self.metrics.refused(refused.code());
                Err(Box::new(refusal(is_grpc(request.headers()), refused)))
            }
        }
    }

    fn admit(&self, request: &Request) -> Result<(&'static Row, Caller), Status> {
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let row = match meant(request.method(), matched, request.uri().path()) {
            Meant::Row(row) => row,
            Meant::OtherMethod => {
                return Err(Status::out_of_range(
                    "it cannot be asked for by this method; see docs/server.md",
                ));
            }
            Meant::Unknown => return Err(Status::unimplemented("there is nothing here; see docs/server.md")),
        };
        if row.need == Need::Nothing || !(self.is_always_asking || self.ring.is_asking()) {
            return Ok((row, Caller::Anybody { ring: Arc::clone(&self.ring) }));
        }
        let brought = brought(request.method(), request.headers())?;
        let key = good(&self.ring, brought).map_err(Status::unauthenticated)?;
        if let Need::Scope(scope) = row.need
            && !key.scopes.contains(&scope)
        {
            let has = names(&key.scopes);
            return Err(Status::permission_denied(format!(
                "this needs a key with the scope {scope}; that of {} has {has}",
                key.name
            )));
        }
        let caller = Caller::Holder { key, ring: Arc::clone(&self.ring) };
        caller.check_turn()?;
        Ok((row, caller))
    }
}

/// The key with a text, or what is wrong with it.
fn good(ring: &Ring, text: &str) -> Result<Arc<Key>, String> {
    match ring.find(text) {
        Found::Good(key) => Ok(key),
        Found::Expired(key) => Err(format!("the key of {} has expired; ask for a new one", key.name)),
        Found::Revoked(key) => Err(format!("the key of {} was revoked; ask for a new one", key.name)),
        Found::Unknown => Err("the key is none of this server's; `keplor keys ls` lists them".to_owned()),
    }
}

/// The key that a request brings. A browser that signed in brings a cookie, which counts for what changes nothing: it sends that along
/// whoever made it ask.
fn brought<'r>(method: &Method, headers: &'r HeaderMap) -> Result<&'r str, Status> {
    let is_safe = *method == Method::GET || *method == Method::HEAD;
    match key_in(headers) {
        Some(key) if is_safe && !headers.contains_key(AUTHORIZATION) => Ok(key),
        _ => bearer(headers),
    }
}

/// The key in a request's header: `authorization: Bearer KEY`, once.
fn bearer(headers: &HeaderMap) -> Result<&str, Status> {
    const HOW: &str = "send the header `authorization: Bearer KEY`; `keplor keys add` makes one";
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (given.next(), given.next());
    let Some(first) = first else { return Err(Status::unauthenticated(format!("this needs a key: {HOW}"))) };
    if second.is_some() {
        return Err(Status::unauthenticated(format!("there are two keys: {HOW}")));
    }
    let said = first.to_str().ok().and_then(|said| said.split_once(' '));
    let said = said.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    said.map(|(_, key)| key.trim()).ok_or_else(|| Status::unauthenticated(format!("that is no key: {HOW}")))
}

/// Whether a request is of gRPC, by what it says it holds.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// What is answered instead: of gRPC a response of nothing but trailers, of HTTP JSON like every other refusal's.
pub(crate) fn refusal(is_grpc: bool, refused: Status) -> Response {
    if is_grpc {
        return refused.into_http::<Body>();
    }
    let (status, code) = match refused.code() {
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
        Code::OutOfRange => (StatusCode::METHOD_NOT_ALLOWED, "INVALID_ARGUMENT"),
        _ => (StatusCode::NOT_FOUND, "NOT_FOUND"),
    };
    let mut response = Failure::new(status, code, refused.message()).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_from_one_header_of_the_right_kind() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer(&headers).map(str::to_owned).map_err(|status| status.message().to_owned())
        };
        assert_eq!(with(&["Bearer abc"]).as_deref(), Ok("abc"));
        assert_eq!(with(&["bearer  abc "]).as_deref(), Ok("abc"));
        let cases: [(&[&'static str], &str); 4] = [
            (&[], "this needs a key"),
            (&["abc"], "that is no key"),
            (&["Basic abc"], "that is no key"),
            (&["Bearer abc", "Bearer def"], "there are two keys"),
        ];
        for (values, why) in cases {
            let error = with(values).unwrap_err();
            assert!(error.starts_with(why) && !error.contains("abc"), "{error}");
        }
    }

    #[test]
    fn a_cookie_opens_what_changes_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert(axum::http::header::COOKIE, HeaderValue::from_static("keplor_key=abc"));
        let of = |method: Method, headers: &HeaderMap| brought(&method, headers).map(str::to_owned).ok();
        assert_eq!(of(Method::GET, &headers).as_deref(), Some("abc"));
        assert_eq!(of(Method::HEAD, &headers).as_deref(), Some("abc"));
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(of(method, &headers), None);
        }
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer def"));
        assert_eq!(of(Method::GET, &headers).as_deref(), Some("def"));
        assert_eq!(of(Method::POST, &headers).as_deref(), Some("def"));
    }

    #[test]
    fn who_speaks_grpc_is_answered_in_trailers_and_others_in_json() {
        let response = refusal(true, Status::unauthenticated("why"));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "16");
        let response = refusal(false, Status::unauthenticated("why"));
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(refusal(false, Status::permission_denied("why")).status(), StatusCode::FORBIDDEN);
    }
}
