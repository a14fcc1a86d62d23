//! Signing in: a key, as a cookie. It opens what only looks, and nothing that changes anything: a program sends its key as a header, which
//! no other page can make a browser do.
//!
//! The cookie goes to no page of another site (`SameSite=Strict`), and no script can read it. It ends with the browser.

use axum::Extension;
use axum::body::Bytes;
use axum::http::header::{HeaderValue, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use maud::html;

use super::page::{Page, Place};
use super::view::{Encrypted, View, Wants};
use crate::auth::{COOKIE, Caller};
use crate::http::Failure;

/// Bytes of the form at most.
pub(crate) const FORM_BYTES_MAX: usize = 8 << 10;

/// The page on which a key is typed; `to` is where it leads then.
pub(super) fn asking(view: &View, to: &str, wrong: Option<&str>) -> Page {
    let body = html! {
        @if let Some(wrong) = wrong { p.refused role="alert" { (wrong) } }
        @else { p { "This server has keys, and shows what it has to those who have one." } }
        form.login method="post" action=(view.to_timeless(&["login"]).path()) {
            input type="hidden" name="to" value=(to);
            label for="key" { "Key" }
            input #key type="password" name="key" autocomplete="current-password" required maxlength="256" spellcheck="false";
            button { "Sign in" }
        }
        p {
            "Whoever keeps the server makes one with " code { "keplor keys add ROOT NAME --scope read" }
            ". It stays in a cookie until the browser is closed or you sign out, and lets you look, not change."
        }
    };
    Page::new(Place::Elsewhere, "Sign in with a key", body)
}

pub(crate) async fn page(wants: Wants) -> Result<Response, Failure> {
    let Wants::Page(view) = wants else {
        return Err(Failure::not_found(
            "this is a page for browsers; programs send `authorization: Bearer KEY`",
        ));
    };
    let to = view.parameter("to").unwrap_or("/").to_owned();
    Ok(asking(&view, &to, None).respond(&view))
}

pub(crate) async fn enter(
    wants: Wants,
    Extension(caller): Extension<Caller>,
    encrypted: Option<Extension<Encrypted>>,
    body: Bytes,
) -> Result<Response, Failure> {
    let (mut key, mut to) = (String::new(), "/".to_owned());
    for (name, value) in form_urlencoded::parse(&body) {
        match &*name {
            "key" => value.trim().clone_into(&mut key),
            "to" => to = value.into_owned(),
            _ => {}
        }
    }
    // A key has letters, digits, `-` and `_`: nothing that would end a cookie's value.
    let is_one =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let (status, wrong) = match (is_one, caller.wrong_with(&key)) {
        (true, None) => {
            let mut response = back(&to);
            response.headers_mut().insert(SET_COOKIE, cookie(&key, encrypted.is_some(), false)?);
            return Ok(response);
        }
        (true, Some(wrong)) => (StatusCode::UNAUTHORIZED, wrong),
        (false, _) => (
            StatusCode::BAD_REQUEST,
            "That is no key: paste the whole text that begins with keplor_key_.".to_owned(),
        ),
    };
    match wants {
        Wants::Page(view) => Ok(asking(&view, &to, Some(&wrong)).with_status(status).respond(&view)),
        Wants::Json => Err(Failure::new(status, "UNAUTHENTICATED", wrong)),
    }
}

pub(crate) async fn leave(encrypted: Option<Extension<Encrypted>>) -> Result<Response, Failure> {
    let mut response = back("/");
    response.headers_mut().insert(SET_COOKIE, cookie("", encrypted.is_some(), true)?);
    Ok(response)
}

/// Sends a browser to a path of this server, and to no other one: `//host` and `/\host` would be others.
fn back(to: &str) -> Response {
    let is_own = to.starts_with('/')
        && !to.starts_with("//")
        && !to.contains('\\')
        && !to.bytes().any(|byte| byte < b' ');
    let to = if is_own { to } else { "/" };
    // From where this is asked for the root is near.
    let to = HeaderValue::from_str(&format!(".{to}")).unwrap_or(HeaderValue::from_static("./"));
    (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
}

fn cookie(key: &str, is_encrypted: bool, is_over: bool) -> Result<HeaderValue, Failure> {
    let secure = if is_encrypted { "; Secure" } else { "" };
    let over = if is_over { "; Max-Age=0" } else { "" };
    let text = format!("{COOKIE}={key}; Path=/; HttpOnly; SameSite=Strict{secure}{over}");
    let mut value = HeaderValue::from_str(&text).map_err(|error| Failure::internal(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// For the headers of a request: what a cookie of ours holds.
pub(crate) fn key_in(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(axum::http::header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_sent_back_to_this_server_only() {
        for (to, location) in [
            ("/e/User?q=1", "./e/User?q=1"),
            ("/", "./"),
            ("//evil.test/", "./"),
            ("/\\evil.test", "./"),
            ("https://evil.test", "./"),
            ("/a\nb", "./"),
            ("", "./"),
        ] {
            assert_eq!(back(to).headers()[LOCATION], location, "{to:?}");
        }
    }

    #[test]
    fn the_cookie_is_kept_from_others() {
        let text =
            |is_encrypted, is_over| cookie("k", is_encrypted, is_over).unwrap().to_str().unwrap().to_owned();
        assert_eq!(text(false, false), "keplor_key=k; Path=/; HttpOnly; SameSite=Strict");
        assert!(text(true, false).ends_with("; Secure"));
        assert!(text(false, true).ends_with("; Max-Age=0"));
        let mut headers = HeaderMap::new();
        headers.insert(axum::http::header::COOKIE, HeaderValue::from_static("a=b; keplor_key=k; c=d"));
        assert_eq!(key_in(&headers), Some("k"));
    }
}
