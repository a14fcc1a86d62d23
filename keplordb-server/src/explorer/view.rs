//! Whether a request wants a page or JSON, and what a page must know of the request that it answers.

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT, HOST, HeaderValue, VARY};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::link::{Url, root_from};
use super::time;
use crate::auth::Caller;
use crate::entity::Instant;
use crate::http::{Failure, time_ms};

/// Parameters that say at which instant something is looked at.
const INSTANT: [&str; 2] = ["as_of", "known_at"];

/// Stands in a request that came encrypted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encrypted;

/// The parameter `format`, by which a request says itself what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Json,
    Html,
}

/// What a request wants.
#[derive(Debug, Clone)]
pub(crate) enum Wants {
    Json,
    Page(Box<View>),
}

/// A request as its page sees it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// As it came, with what is encoded in it.
    path: String,
    query: Vec<(String, String)>,
    /// At which everything is looked at, and to which every link leads.
    pub(super) instant: Instant,
    /// The name of the key by which the reader is let in.
    pub(super) key_name: Option<String>,
    /// The server as the reader asks for it: `http://127.0.0.1:50051`.
    pub(super) server: String,
}

impl Wants {
    pub(crate) fn of(parts: &Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let format = query.iter().find(|(name, _)| name == "format").map(|(_, value)| value.as_str());
        let is_page = match format {
            Some("html") => true,
            Some(_) => false,
            None => prefers_pages(&parts.headers),
        };
        let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
        // What changes something is answered to programs; but for the forms of the pages.
        let is_form = ["/login", "/logout"].contains(&parts.uri.path());
        if !(is_page && (is_read || is_form)) {
            return Self::Json;
        }
        let time = |name| {
            let text = query.iter().find(|(other, _)| other == name).map(|(_, text)| text.as_str());
            // One that is none is refused by who looks for what is asked for.
            text.filter(|text| !text.is_empty()).and_then(|text| time_ms(name, text).ok())
        };
        let is_encrypted = parts.extensions.get::<Encrypted>().is_some();
        let host = parts.uri.authority().map(Authority::as_str);
        let host = host.or_else(|| parts.headers.get(HOST)?.to_str().ok()).unwrap_or_default();
        Self::Page(Box::new(View {
            path: parts.uri.path().to_owned(),
            instant: Instant { as_of_ms: time("as_of"), known_at_ms: time("known_at") },
            query,
            key_name: parts.extensions.get::<Caller>().and_then(Caller::key_name).map(str::to_owned),
            server: format!("{}://{host}", if is_encrypted { "https" } else { "http" }),
        }))
    }

    /// The answer in the form that is wanted; what either of them needs is looked for only then.
    pub(crate) fn both<T: Serialize>(
        self,
        json: impl FnOnce() -> Result<T, Failure>,
        page: impl FnOnce(&View) -> Result<Response, Failure>,
    ) -> Result<Response, Failure> {
        let mut response = match &self {
            Self::Json => Json(json()?).into_response(),
            Self::Page(view) => page(view)?,
        };
        response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        Ok(response)
    }
}

impl<S: Sync> FromRequestParts<S> for Wants {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

impl View {
    /// What leads from here to the root.
    fn root(&self) -> String {
        root_from(&self.path)
    }

    /// Another page, at the same instant.
    pub(super) fn to(&self, segments: &[&str]) -> Url {
        let [as_of, known_at] = self.instant_texts();
        let url = Url::new(&self.root(), segments);
        url.with_some(INSTANT[0], as_of.as_deref()).with_some(INSTANT[1], known_at.as_deref())
    }

    /// Another page or file, which is the same at all times.
    pub(super) fn to_timeless(&self, segments: &[&str]) -> Url {
        Url::new(&self.root(), segments)
    }

    /// This page with all that it was asked with.
    pub(super) fn here(&self) -> Url {
        let url = Url::of_path(&self.root(), &self.path);
        self.query.iter().fold(url, |url, (name, value)| url.with(name, value))
    }

    /// This page as things are now.
    pub(super) fn here_now(&self) -> Url {
        INSTANT.iter().fold(self.here(), |url, name| url.without(name)).without("step")
    }

    /// This page as things were at a time, by what was known at the instant that it has.
    pub(super) fn here_at(&self, as_of_ms: i64) -> Url {
        self.here().without("step").with(INSTANT[0], &time::iso(as_of_ms))
    }

    /// What the request says of this name.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The same address for a program.
    pub(super) fn for_programs(&self) -> String {
        let url = self.here_now().without("format").without("before");
        let [as_of, known_at] = self.instant_texts();
        let url = url.with_some(INSTANT[0], as_of.as_deref()).with_some(INSTANT[1], known_at.as_deref());
        let text = url.to_string();
        format!("{}/{}", self.server, text.trim_start_matches("../").trim_start_matches("./"))
    }

    /// The path and the query as they came, for whom to come back to.
    pub(super) fn asked(&self) -> String {
        let text = self.here().to_string();
        format!("/{}", text.trim_start_matches("../").trim_start_matches("./"))
    }

    /// The instant as parameters have it.
    pub(super) fn instant_texts(&self) -> [Option<String>; 2] {
        [self.instant.as_of_ms.map(time::iso), self.instant.known_at_ms.map(time::iso)]
    }

    /// Whether things are looked at as they are.
    pub(super) fn is_now(&self) -> bool {
        self.instant == Instant::default()
    }
}

/// Whether a page is wanted rather than JSON: by the greater weight, and of equal ones by what is said first. Who takes anything is a
/// program.
fn prefers_pages(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut pages = 0.0;
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight =
            parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |weight| weight.parse().ok());
        let weight: f32 = weight.unwrap_or(0.0);
        if kind.eq_ignore_ascii_case("text/html") && weight > pages {
            pages = weight;
        } else if kind.eq_ignore_ascii_case("application/json") && weight > pages {
            return false;
        }
    }
    pages > 0.0
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn view(uri: &str, accept: &str) -> Option<View> {
        let request =
            Request::builder().uri(uri).header(ACCEPT, accept).header(HOST, "localhost:7450").body(());
        match Wants::of(&request.unwrap().into_parts().0) {
            Wants::Json => None,
            Wants::Page(view) => Some(*view),
        }
    }

    #[test]
    fn browsers_get_pages_and_programs_json() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let cases = [
            (browser, true),
            ("*/*", false),
            ("", false),
            ("application/json", false),
            ("application/json, text/html", false),
            ("text/html;q=0.5, application/json", false),
            ("text/html, application/json;q=0.9", true),
            ("TEXT/HTML", true),
            ("text/html;q=0", false),
        ];
        for (accept, is_page) in cases {
            assert_eq!(view("/e", accept).is_some(), is_page, "{accept}");
        }
        assert!(view("/e?format=json", browser).is_none() && view("/e?format=html", "*/*").is_some());
    }

    #[test]
    fn an_instant_stays_in_links_until_it_is_left() {
        let view = view("/e/User/a%2Fb?as_of=2024-01-01T00:00:00Z&known_at=&x=1", "text/html").unwrap();
        assert_eq!(view.to(&["e"]).to_string(), "../../e?as_of=2024-01-01T00%3A00%3A00.000Z");
        assert_eq!(view.here_now().to_string(), "../../e/User/a%2Fb?x=1");
        assert_eq!(
            view.here_at(0).without("x").without("known_at").to_string(),
            "../../e/User/a%2Fb?as_of=1970-01-01T00%3A00%3A00.000Z"
        );
        assert_eq!(
            view.for_programs(),
            "http://localhost:7450/e/User/a%2Fb?x=1&as_of=2024-01-01T00%3A00%3A00.000Z"
        );
        assert!(view.asked().starts_with("/e/User/a%2Fb?as_of="));
    }
}
