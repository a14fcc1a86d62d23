//! What is refused, as a page: what happened, and what to do.

use axum::body::to_bytes;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::login;
use super::page::{Page, Place};
use super::view::{View, Wants};

/// Bytes of a refusal that are read; a message is much shorter.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Makes a refusal a page where one is wanted. What is no refusal, or a page already, stays as it is.
pub(crate) async fn as_page(wants: Wants, response: Response) -> Response {
    let Wants::Page(view) = wants else { return response };
    let status = response.status();
    let is_page =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if !(status.is_client_error() || status.is_server_error()) || is_page {
        return response;
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let mut page = page(&view, status, &message(&body)).respond(&view);
    for name in [RETRY_AFTER, WWW_AUTHENTICATE] {
        if let Some(value) = parts.headers.get(&name) {
            page.headers_mut().insert(name, value.clone());
        }
    }
    // How long the connection may stay open.
    *page.extensions_mut() = parts.extensions;
    page
}

/// What a refusal says.
fn message(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let said = json.as_ref().and_then(|json| json.pointer("/error/message")?.as_str());
    said.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}

fn page(view: &View, status: StatusCode, message: &str) -> Page {
    if status == StatusCode::UNAUTHORIZED {
        return login::asking(view, &view.asked(), None).with_status(status);
    }
    let (title, advice) = match status {
        StatusCode::BAD_REQUEST => {
            ("This cannot be asked so", "Change the address or what you typed, and ask again.")
        }
        StatusCode::FORBIDDEN => {
            ("This is not for you to see", "Sign in with another key, or ask whoever keeps the keys for one.")
        }
        StatusCode::NOT_FOUND => {
            ("There is nothing here", "Look for it by its id, or begin at the types of entities.")
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            ("This is no page", "It is for programs; docs/server.md says how they ask for it.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("That is too much", "Send it in parts."),
        StatusCode::TOO_MANY_REQUESTS => {
            ("Too much is asked for at once", "Wait a second, and load the page again.")
        }
        StatusCode::GATEWAY_TIMEOUT => (
            "That takes too long",
            "Ask for less: with limit: in the query, a condition on an id, or a shorter span of time.",
        ),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE => {
            ("This is not possible just now", "Load the page again a little later.")
        }
        _ => (
            "Something is wrong on the server",
            "Its log says more. What was acknowledged is kept all the same.",
        ),
    };
    let body = html! {
        p.refused role="alert" { (sentence(message)) }
        p { (advice) }
        (ways_on(view))
    };
    Page::new(Place::Elsewhere, title, body).with_status(status)
}

/// Where one may go from here.
pub(super) fn ways_on(view: &View) -> Markup {
    html! {
        ul.ways {
            li { a href=(view.to(&["e"])) { "All types of entities" } }
            li { a href=(view.to(&["events"])) { "The newest events" } }
            li { a href=(view.to(&["find"])) { "Find an id" } }
        }
    }
}

/// A message of ours begins small and ends without a full stop.
fn sentence(message: &str) -> String {
    let mut chars = message.trim().chars();
    let Some(first) = chars.next() else { return "The server gave no reason.".to_owned() };
    let first: String =
        if first.is_ascii_lowercase() { first.to_uppercase().collect() } else { first.into() };
    let rest = chars.as_str();
    let end = if rest.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{rest}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_and_made_a_sentence() {
        assert_eq!(
            sentence(&message(br#"{"error": {"code": "X", "message": "it is wrong"}}"#)),
            "It is wrong."
        );
        assert_eq!(sentence(&message(b"plain text")), "Plain text.");
        assert_eq!(sentence(&message(b"")), "The server gave no reason.");
    }
}
